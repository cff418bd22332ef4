/*
 * Records stand one behind the other in `block`:
 *
 *	line:4  flags:1  targets:1  key_len:2  key…  [len:2 account…]  [len:2 password…]
 *	and for each target   backend:2  [port:2  len:2 host…]     host: where backend is NO_BACKEND
 *
 * in the machine's order: the block never leaves the process. The table is open addressing over two arrays: a
 * tag (7 bits of the hash and a mark; 0: free), and the record's offset. A probe reads tags, which lie close together, and
 * goes to a record only when its tag fits; so a look-up costs about two cache misses however large the map is.
 * The table has at least twice as many places as entries and never grows.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "mapping/map_data.h"

#include <malloc.h>
#include <pcre2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/base/table.h"

#define HEAD 8 /* up to the key */
#define NO_BACKEND 0xffff
#define NESTING_MOST 32    /* parentheses of an expression */
#define MATCH_HEAP_KIB 256 /* memory of one match */

enum record_flag {
	RECORD_SEND_ONLY = 1,
	RECORD_ACCOUNT = 2,
	RECORD_PASSWORD = 4
};

struct expression {
	pcre2_code *code;
	uint32_t record;
};

struct map_data {
	_Atomic unsigned refs;
	uint64_t seed;
	char *block;
	size_t used, room;
	uint8_t *tags;
	uint32_t *offsets;
	size_t mask;
	size_t count, most;
	struct expression *expressions;
	size_t expression_count;
	uint32_t fallback; /* offset + 1 of "*"; 0: none */
	char **backends;
	size_t backend_count;
	struct table *backend_table; /* name -> its place in backends */
	pcre2_match_context *match;
};

static void put16(char *p, size_t n)
{
	uint16_t v = (uint16_t)n;

	memcpy(p, &v, sizeof(v));
}

static uint16_t get16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void copy_backends(struct map_data *d, const char *const *backends)
{
	size_t n = 0;

	while (backends && backends[n] && n < MAP_BACKENDS_MOST)
		n++;
	d->backends = xcalloc(n + 1, sizeof(*d->backends));
	d->backend_table = table_new();
	d->backend_count = n;
	for (size_t i = 0; i < n; i++) {
		d->backends[i] = xstrdup(backends[i]);
		table_put(d->backend_table, slice_str(d->backends[i]), &d->backends[i]);
	}
}

struct map_data *map_data_new(size_t entries, size_t bytes, const char *const *backends)
{
	struct map_data *d = xcalloc(1, sizeof(*d));
	size_t places = 16;

	while (places < entries * 2)
		places *= 2;
	atomic_init(&d->refs, 1);
	random_bytes(&d->seed, sizeof(d->seed));
	d->most = entries;
	d->mask = places - 1;
	d->tags = xcalloc(places, sizeof(*d->tags));
	d->offsets = xcalloc(places, sizeof(*d->offsets));
	d->room = bytes + entries * HEAD + 64;
	d->block = xmalloc(d->room);
	d->match = pcre2_match_context_create(NULL);
	require(d->match);
	pcre2_set_match_limit(d->match, MAP_MATCH_LIMIT);
	pcre2_set_depth_limit(d->match, MAP_MATCH_LIMIT);
	pcre2_set_heap_limit(d->match, MATCH_HEAP_KIB);
	copy_backends(d, backends);
	return d;
}

static void data_free(struct map_data *d)
{
	for (size_t i = 0; i < d->expression_count; i++)
		pcre2_code_free(d->expressions[i].code);
	for (size_t i = 0; i < d->backend_count; i++)
		free(d->backends[i]);
	table_free(&d->backend_table);
	pcre2_match_context_free(d->match);
	free(d->backends);
	free(d->expressions);
	if (d->block)
		secret_wipe(d->block, d->used);
	free(d->block);
	free(d->tags);
	free(d->offsets);
	free(d);
}

struct map_data *map_data_ref(struct map_data *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

void map_data_unref(struct map_data **d)
{
	if (*d && atomic_fetch_sub_explicit(&(*d)->refs, 1, memory_order_acq_rel) == 1)
		data_free(*d);
	*d = NULL;
}

/* ---- building ---- */

static bool backend_index(const struct map_data *d, struct slice name, size_t *i_out)
{
	char **place = table_get(d->backend_table, name);

	if (!place)
		return false;
	*i_out = (size_t)(place - d->backends);
	return true;
}

bool map_data_has_backend(const struct map_data *d, struct slice name)
{
	size_t i;

	return backend_index(d, name, &i);
}

static char *put_text(char *p, struct slice s)
{
	put16(p, s.len);
	memcpy(p + 2, s.p, s.len);
	return p + 2 + s.len;
}

static char *put_target(const struct map_data *d, char *p, const struct map_target *t)
{
	size_t backend = NO_BACKEND;

	if (t->kind == USERMAP_BACKEND)
		require(backend_index(d, t->name, &backend));
	put16(p, backend);
	if (t->kind == USERMAP_BACKEND)
		return p + 2;
	put16(p + 2, t->port);
	p += 4;
	put_text(p, t->name);
	for (size_t i = 2; i < t->name.len + 2; i++)
		p[i] = ascii_lower(p[i]);
	return p + 2 + t->name.len;
}

/* How much it takes; or ERR_*. */
static int targets_size(const struct map_data *d, const struct map_targets *targets, size_t *size_out)
{
	*size_out = 0;
	for (unsigned i = 0; i < targets->count; i++) {
		const struct map_target *t = &targets->at[i];

		if (t->name.len > USERMAP_HOST_MOST)
			return ERR_TOO_BIG;
		if (t->kind == USERMAP_BACKEND && !map_data_has_backend(d, t->name))
			return ERR_NOT_FOUND;
		*size_out += 2 + (t->kind == USERMAP_HOST ? 4 + t->name.len : 0);
	}
	return 0;
}

/* Appends a record; its offset in *offset_out. */
static int record_add(struct map_data *d, const struct map_entry *e, uint32_t *offset_out)
{
	size_t need;
	int error = targets_size(d, &e->targets, &need);
	char *p;

	if (error)
		return error;
	need += HEAD + e->key.len + e->account.len + e->password.len + 4;
	if (e->key.len > UINT16_MAX || e->account.len > USERMAP_ADDRESS_MOST ||
		e->password.len > UINT16_MAX || d->used + need >= UINT32_MAX)
		return ERR_TOO_BIG;
	if (d->used + need > d->room) {
		d->room = (d->used + need) * 2;
		d->block = xreallocarray(d->block, d->room, 1);
	}
	p = d->block + d->used;
	memcpy(p, &e->line, 4);
	p[4] = (char)((e->send_only ? RECORD_SEND_ONLY : 0) | (e->account.len ? RECORD_ACCOUNT : 0) |
		      (e->password.len ? RECORD_PASSWORD : 0));
	p[5] = (char)e->targets.count;
	p = put_text(p + 6, e->key);
	if (e->account.len)
		p = put_text(p, e->account);
	if (e->password.len)
		p = put_text(p, e->password);
	for (unsigned i = 0; i < e->targets.count; i++)
		p = put_target(d, p, &e->targets.at[i]);
	*offset_out = (uint32_t)d->used;
	d->used = (size_t)(p - d->block);
	return 0;
}

static struct slice record_key(const struct map_data *d, uint32_t offset)
{
	return slice_of(d->block + offset + HEAD, get16(d->block + offset + HEAD - 2));
}

static uint32_t record_line(const struct map_data *d, uint32_t offset)
{
	uint32_t line;

	memcpy(&line, d->block + offset, sizeof(line));
	return line;
}

static const char *get_text(const char *p, struct slice *s_out)
{
	*s_out = slice_of(p + 2, get16(p));
	return p + 2 + s_out->len;
}

static const char *get_target(const struct map_data *d, const char *p, struct map_target *t_out)
{
	uint16_t backend = get16(p);

	if (backend != NO_BACKEND) {
		*t_out =
			(struct map_target){.kind = USERMAP_BACKEND, .name = slice_str(d->backends[backend])};
		return p + 2;
	}
	*t_out = (struct map_target){.kind = USERMAP_HOST, .port = get16(p + 2)};
	return get_text(p + 4, &t_out->name);
}

static struct map_entry record_read(const struct map_data *d, uint32_t offset)
{
	const char *p = d->block + offset;
	struct map_entry e = {.line = record_line(d, offset), .targets.count = (unsigned char)p[5]};
	int flags = p[4];

	p = get_text(p + 6, &e.key);
	e.send_only = flags & RECORD_SEND_ONLY;
	if (flags & RECORD_ACCOUNT)
		p = get_text(p, &e.account);
	if (flags & RECORD_PASSWORD)
		p = get_text(p, &e.password);
	for (unsigned i = 0; i < e.targets.count; i++)
		p = get_target(d, p, &e.targets.at[i]);
	return e;
}

/* True and the record's offset if the key is there; else the free place where it would go. */
static bool place_find(const struct map_data *d, struct slice key, size_t *place_out, uint8_t *tag_out)
{
	uint64_t h = hash_bytes(key, d->seed);
	uint8_t tag = (uint8_t)(0x80 | h >> 57);
	size_t at = (size_t)h & d->mask;

	while (d->tags[at]) {
		if (d->tags[at] == tag && slice_is_equal(record_key(d, d->offsets[at]), key)) {
			*place_out = at;
			return true;
		}
		at = (at + 1) & d->mask;
	}
	*place_out = at;
	*tag_out = tag;
	return false;
}

int map_data_add(struct map_data *d, const struct map_entry *e, uint32_t *line_out)
{
	uint8_t tag = 0;
	size_t place;
	int error;

	if (place_find(d, e->key, &place, &tag)) {
		*line_out = record_line(d, d->offsets[place]);
		return ERR_EXISTS;
	}
	if (d->count >= d->most)
		return ERR_TOO_BIG;
	error = record_add(d, e, &d->offsets[place]);
	if (error)
		return error;
	d->tags[place] = tag;
	d->count++;
	return 0;
}

int map_data_add_default(struct map_data *d, const struct map_entry *e, uint32_t *line_out)
{
	uint32_t offset;
	int error;

	if (d->fallback) {
		*line_out = record_line(d, d->fallback - 1);
		return ERR_EXISTS;
	}
	error = record_add(d, e, &offset);
	if (error)
		return error;
	d->fallback = offset + 1;
	d->count++;
	return 0;
}

/* Same limits for all; the pattern is matched against names that are lower case already. */
static pcre2_code *expression_compile(struct slice pattern, struct buf *reason_out)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	PCRE2_UCHAR text[160];
	pcre2_code *code;
	PCRE2_SIZE at;
	int error;

	require(context);
	pcre2_set_parens_nest_limit(context, NESTING_MOST);
	pcre2_set_max_pattern_length(context, MAP_EXPRESSION_MOST);
	code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.len,
		PCRE2_UTF | PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &error, &at,
		context);
	pcre2_compile_context_free(context);
	if (!code) {
		if (pcre2_get_error_message(error, text, sizeof(text)) < 0)
			text[0] = 0;
		buf_printf(reason_out, "%s, at character %zu of it", (const char *)text, at + 1);
	}
	return code;
}

int map_data_add_expression(
	struct map_data *d, const struct map_entry *e, struct buf *reason_out, uint32_t *line_out)
{
	struct expression x;
	int error;

	for (size_t i = 0; i < d->expression_count; i++) {
		if (slice_is_equal(record_key(d, d->expressions[i].record), e->key)) {
			*line_out = record_line(d, d->expressions[i].record);
			return ERR_EXISTS;
		}
	}
	if (d->expression_count >= MAP_EXPRESSIONS_MOST)
		return ERR_TOO_BIG;
	x.code = expression_compile(e->key, reason_out);
	if (!x.code)
		return ERR_SYNTAX;
	error = record_add(d, e, &x.record);
	if (error) {
		pcre2_code_free(x.code);
		return error;
	}
	d->expressions = xreallocarray(d->expressions, d->expression_count + 1, sizeof(x));
	d->expressions[d->expression_count++] = x;
	d->count++;
	return 0;
}

void map_data_seal(struct map_data *d)
{
	d->room = d->used ? d->used : 1;
	d->block = xreallocarray(d->block, d->room, 1);
}

size_t map_data_count(const struct map_data *d)
{
	return d->count;
}

size_t map_data_bytes(const struct map_data *d)
{
	size_t n = sizeof(*d) + d->room + (d->mask + 1) * (sizeof(*d->tags) + sizeof(*d->offsets));

	for (size_t i = 0; i < d->expression_count; i++) {
		size_t size = 0;

		if (!pcre2_pattern_info(d->expressions[i].code, PCRE2_INFO_SIZE, &size))
			n += size + sizeof(d->expressions[i]);
	}
	return n;
}

/* ---- asking ---- */

struct find {
	const struct map_data *d;
	map_trace_fn *trace;
	void *arg;
	uint32_t record;
};

static void find_tell(const struct find *f, enum map_rule rule, struct slice key, uint32_t line, bool hit)
{
	if (f->trace)
		f->trace(f->arg, rule, key, line, hit);
}

static bool find_key(struct find *f, enum map_rule rule, struct slice key)
{
	uint8_t tag;
	size_t place;
	bool hit = place_find(f->d, key, &place, &tag);

	if (hit)
		f->record = f->d->offsets[place];
	find_tell(f, rule, key, hit ? record_line(f->d, f->record) : 0, hit);
	return hit;
}

/* 0, ERR_NOT_FOUND, or ERR_NOT_NOW when an expression cannot say it within its limits. */
static int find_expression(struct find *f, struct slice name)
{
	pcre2_match_data *m;
	int error = ERR_NOT_FOUND;

	if (!f->d->expression_count)
		return ERR_NOT_FOUND;
	m = pcre2_match_data_create(1, NULL);
	if (!m)
		return ERR_NOT_NOW;
	for (size_t i = 0; i < f->d->expression_count && error == ERR_NOT_FOUND; i++) {
		const struct expression *x = &f->d->expressions[i];
		int rc = pcre2_match(x->code, (PCRE2_SPTR)name.p, name.len, 0, 0, m, f->d->match);

		if (rc >= 0)
			error = 0;
		else if (rc != PCRE2_ERROR_NOMATCH)
			error = ERR_NOT_NOW;
		f->record = x->record;
		find_tell(f, MAP_EXPRESSION, record_key(f->d, x->record), record_line(f->d, x->record),
			rc >= 0);
	}
	pcre2_match_data_free(m);
	return error;
}

/* The name without its detail in `plain`, or an empty slice if it has none. */
static struct slice without_detail(struct slice name, char plain[USERMAP_ADDRESS_MOST + 1])
{
	ptrdiff_t at = slice_find_last(name, '@');
	size_t local = at < 0 ? name.len : (size_t)at;
	ptrdiff_t plus = slice_find(slice_sub(name, 0, local), '+');

	if (plus <= 0 || name.len > USERMAP_ADDRESS_MOST)
		return slice_of(NULL, 0);
	memcpy(plain, name.p, (size_t)plus);
	memcpy(plain + plus, name.p + local, name.len - local);
	return slice_of(plain, (size_t)plus + name.len - local);
}

static int find_record(struct find *f, struct slice name, struct slice plain, bool *exact_out)
{
	ptrdiff_t at = slice_find_last(name, '@');
	int error;

	*exact_out = find_key(f, MAP_EXACT, name);
	if (*exact_out)
		return 0;
	if (plain.len && find_key(f, MAP_WITHOUT_DETAIL, plain))
		return 0;
	if (at >= 0 && find_key(f, MAP_DOMAIN, slice_from(name, (size_t)at)))
		return 0;
	error = find_expression(f, name);
	if (error != ERR_NOT_FOUND)
		return error;
	if (!f->d->fallback)
		return ERR_NOT_FOUND;
	f->record = f->d->fallback - 1;
	find_tell(f, MAP_DEFAULT, SLICE_LIT("*"), record_line(f->d, f->record), true);
	return 0;
}

int map_data_find(const struct map_data *d, struct slice name, struct map_entry *entry_out,
	char account[USERMAP_ADDRESS_MOST + 1], map_trace_fn *trace, void *arg)
{
	struct find f = {.d = d, .trace = trace, .arg = arg};
	struct slice plain;
	bool exact;
	int error;

	/* Names come normalised; none that is not may become an account. */
	if (!name.len || name.len > USERMAP_ADDRESS_MOST || name.p[0] == '@' || slice_has_control(name))
		return ERR_NOT_FOUND;
	plain = without_detail(name, account);
	error = find_record(&f, name, plain, &exact);
	if (error == ERR_NOT_FOUND)
		return error;
	*entry_out = record_read(d, f.record);
	if (error || entry_out->account.len)
		return error;
	/* An entry says the account itself, or it is the name without its detail; a name listed with its
	 * detail is one. */
	if (exact || !plain.len) {
		memcpy(account, name.p, name.len);
		plain = slice_of(account, name.len);
	}
	entry_out->account = plain;
	return 0;
}
