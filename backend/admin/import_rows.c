/*
 * Reading: a field of a column, or a value of an attribute, goes through one table of setters. Checking: first each row by itself, then
 * names against each other and the store, then what they forward to.
 */
#include "backend/admin/import_rows.h"

#include <stdlib.h>
#include <string.h>

#include "backend/admin/accounts.h"
#include "backend/store/store_account.h"
#include "common/auth/password.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/proto/csv.h"
#include "common/proto/ldif.h"

struct reading {
	const struct import_check *check;
	struct import_rows *rows;
	struct arena scratch;       /* of one record */
	struct table *names;        /* address or alias -> its row */
	struct table *new_accounts; /* domain -> struct new_count */
};

static void report(const struct reading *r, struct import_row *row, const char *why)
{
	if (row->state != IMPORT_WRONG)
		r->rows->wrong_count++;
	row->state = IMPORT_WRONG;
	r->check->report(r->check->arg, row->line, row->address, why);
}

static struct import_row *new_row(struct import_rows *rows, unsigned line)
{
	if (rows->count == IMPORT_ROWS_MAX)
		return NULL;
	if (rows->count == rows->room) {
		rows->room = rows->room ? rows->room * 2 : 256;
		rows->rows = xreallocarray(rows->rows, rows->room, sizeof(*rows->rows));
	}
	rows->rows[rows->count] = (struct import_row){.line = line};
	return &rows->rows[rows->count++];
}

/* ---- values ---- */

/* NULL: fine; else what is wrong with it. */
typedef const char *set_fn(struct reading *r, struct import_row *row, struct slice value);

static const char *set_address(struct reading *r, struct import_row *row, struct slice value)
{
	if (accounts_normalise(&r->rows->arena, value, &row->address))
		return "the address is none: local-part@domain";
	if (store_account_is_public(row->address))
		return "the address is that of the domain's public folders";
	return NULL;
}

static const char *set_password(struct reading *r, struct import_row *row, struct slice value)
{
	const char *why = "the password's hash is malformed";

	row->password = arena_copy(&r->rows->arena, value);
	if (!row->password.p)
		return "there is no memory for it";
	row->is_clear = value.p[0] != '{' && value.p[0] != '$';
	if (row->is_clear)
		return password_is_acceptable(value) ? NULL
						     : "this cannot be a password: too long, or with a NUL";
	if (value.len > STORE_PASSWORD_MAX)
		return "the password's hash is too long";
	return password_stored_check(row->password, &why) ? why : NULL;
}

static const char *set_class(struct reading *r, struct import_row *row, struct slice value)
{
	struct store_class_status status;
	int err;

	arena_reset(&r->scratch);
	err = store_class_find(r->check->store, value, &r->scratch, &status);
	row->class = arena_copy(&r->rows->arena, value);
	return err || !status.has_record || !row->class.p ? "there is no such class" : NULL;
}

static const char *set_quota(struct reading *r, struct import_row *row, struct slice value)
{
	(void)r;
	row->policy.says |= STORE_SAYS_BYTES;
	if (!slice_is_str(value, "none") && num_parse_size(value, &row->policy.bytes_limit))
		return "the quota is no size (10M, 2G) and not none";
	return NULL;
}

static const char *set_count(struct reading *r, struct import_row *row, struct slice value)
{
	(void)r;
	row->policy.says |= STORE_SAYS_COUNT;
	if (!slice_is_str(value, "none") && num_parse_u64(value, &row->policy.count_limit))
		return "the count is no number and not none";
	return NULL;
}

static bool is_between(char c)
{
	return c == ' ' || c == ',' || c == ';' || c == '\n' || c == '\r' || c == '\t';
}

/* The next word of a list; false at its end. */
static bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t n = 0;

	while (rest->len && is_between(rest->p[0]))
		*rest = slice_from(*rest, 1);
	while (n < rest->len && !is_between(rest->p[n]))
		n++;
	*word_out = slice_sub(*rest, 0, n);
	*rest = slice_from(*rest, n);
	return n > 0;
}

static const char *add_alias(struct reading *r, struct import_row *row, struct slice word)
{
	struct slice address;

	if (accounts_normalise(&r->rows->arena, word, &address))
		return "an alias is no address";
	if (store_account_is_public(address))
		return "an alias is the address of the domain's public folders";
	if (slice_is_equal(address, row->address))
		return NULL;
	for (size_t i = 0; i < row->alias_count; i++)
		if (slice_is_equal(address, row->aliases[i]))
			return NULL;
	if (row->alias_count == IMPORT_NAMES_MAX)
		return "too many aliases";
	/* Grows by doubling; what it leaves behind is the arena's. */
	if ((row->alias_count & (row->alias_count - 1)) == 0) {
		size_t room = row->alias_count ? 2 * row->alias_count : 1;
		struct slice *list = arena_calloc(&r->rows->arena, room, sizeof(*list));

		if (!list)
			return "there is no memory for it";
		if (row->alias_count)
			memcpy(list, row->aliases, row->alias_count * sizeof(*list));
		row->aliases = list;
	}
	row->aliases[row->alias_count++] = address;
	return NULL;
}

static const char *set_aliases(struct reading *r, struct import_row *row, struct slice value)
{
	const char *why = NULL;
	struct slice word;

	while (!why && next_word(&value, &word))
		why = add_alias(r, row, word);
	return why;
}

/* Addresses; whose they are is looked at when all rows are read. */
static const char *set_forward(struct reading *r, struct import_row *row, struct slice value)
{
	struct buf list = {0};
	struct slice word, address;
	const char *why = NULL;
	size_t count = 0;

	buf_add_slice(&list, row->forwards);
	for (size_t i = 0; i < row->forwards.len; i++)
		count += row->forwards.p[i] == '\n';
	count += row->forwards.len > 0;
	row->sets_forwards = true;
	while (!why && next_word(&value, &word)) {
		if (accounts_normalise(&r->rows->arena, word, &address))
			why = "an address to forward to is none";
		else if (++count > STORE_FORWARDS_MAX)
			why = "too many addresses to forward to";
		else
			buf_printf(&list, "%s%.*s", buf_len(&list) ? "\n" : "", SLICE_ARG(address));
	}
	row->forwards = arena_copy(&r->rows->arena, buf_view(&list));
	buf_deinit(&list);
	return why ? why : row->forwards.p ? NULL : "there is no memory for it";
}

/* 1, 0, or -1: neither. */
static int truth_of(struct slice value)
{
	static const struct {
		const char *word;
		int is;
	} rows[] = {{"yes", 1}, {"true", 1}, {"1", 1}, {"no", 0}, {"false", 0}, {"0", 0}, {"active", 0},
		{"enabled", 0}, {"inactive", 1}, {"disabled", 1}, {"noaccess", 1}, {"deleted", 1}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (slice_is_str_nocase(value, rows[i].word))
			return rows[i].is;
	return -1;
}

static const char *set_disabled(struct reading *r, struct import_row *row, struct slice value)
{
	int is = truth_of(value);

	(void)r;
	if (is < 0)
		return "whether it is disabled is yes or no";
	*(is ? &row->flags_set : &row->flags_cleared) |= STORE_ACCOUNT_DISABLED;
	return NULL;
}

static const char *set_keep(struct reading *r, struct import_row *row, struct slice value)
{
	int is = truth_of(value);

	(void)r;
	if (is < 0)
		return "whether a copy is kept is yes or no";
	*(is ? &row->flags_cleared : &row->flags_set) |= STORE_ACCOUNT_FORWARDS_ONLY;
	return NULL;
}

static const char *set_name(struct reading *r, struct import_row *row, struct slice value)
{
	if (value.len > STORE_ACCOUNT_NAME_MAX || !slice_is_utf8(value) || slice_has_control(value))
		return "the name is too long, or no text";
	row->name = arena_copy(&r->rows->arena, value);
	return row->name.p ? NULL : "there is no memory for it";
}

/* ---- CSV ---- */

static const struct {
	const char *name;
	set_fn *set;
} columns[] = {
	{"address", set_address},
	{"password", set_password},
	{"class", set_class},
	{"quota", set_quota},
	{"count", set_count},
	{"aliases", set_aliases},
	{"forward", set_forward},
	{"keep", set_keep},
	{"disabled", set_disabled},
	{"name", set_name},
};

/* The columns by place; false: it is no header. */
static bool read_header(const struct csv_record *record, set_fn **setters)
{
	bool has_address = false;

	for (size_t i = 0; i < record->count; i++) {
		struct slice name = slice_trim(record->fields[i]);

		setters[i] = NULL;
		for (size_t k = 0; k < ARRAY_LEN(columns); k++)
			if (slice_is_str_nocase(name, columns[k].name))
				setters[i] = columns[k].set;
		for (size_t k = 0; k < i; k++)
			if (setters[k] == setters[i])
				return false;
		if (!setters[i])
			return false;
		has_address |= setters[i] == set_address;
	}
	return has_address;
}

/* Address first: others are held against it. */
static void read_fields(
	struct reading *r, struct import_row *row, const struct csv_record *record, set_fn *const *setters)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < record->count; i++) {
			/* A password may begin or end with a blank. */
			struct slice value = setters[i] == set_password ? record->fields[i]
									: slice_trim(record->fields[i]);
			const char *why;

			if ((setters[i] == set_address) != (pass == 0) || (value.len == 0 && pass == 1))
				continue;
			why = setters[i](r, row, value);
			if (why) {
				report(r, row, why);
				return;
			}
		}
	}
}

static int read_csv(struct reading *r, struct slice text, const char **why_out)
{
	set_fn *setters[CSV_FIELDS_MAX];
	struct csv_record record;
	struct arena arena;
	struct csv csv;
	size_t width;
	int err;

	arena_init(&arena, 0);
	csv_begin(&csv, text);
	err = csv_next(&csv, &arena, &record);
	if (err || !read_header(&record, setters)) {
		*why_out = "the first line must name the columns, each once: address, and of password, "
			   "class, quota, count, "
			   "aliases, forward, keep, disabled, name those that there are";
		arena_deinit(&arena);
		return ERR_SYNTAX;
	}
	width = record.count;
	for (;;) {
		struct import_row *row;

		arena_reset(&arena);
		err = csv_next(&csv, &arena, &record);
		if (err == ERR_NOT_FOUND)
			break;
		row = new_row(r->rows, record.line);
		if (!row)
			break;
		if (err)
			report(r, row, record.why);
		else if (record.count != width)
			report(r, row, "it has not as many fields as there are columns");
		else
			read_fields(r, row, &record, setters);
	}
	arena_wipe(&arena);
	arena_deinit(&arena);
	return err == ERR_NOT_FOUND ? 0 : ERR_TOO_BIG;
}

/* ---- LDIF ---- */

/* "SMTP:a@b" is the address that "mail" has as well, "smtp:" an alias; others are no mail. */
static const char *set_proxy_address(struct reading *r, struct import_row *row, struct slice value)
{
	return slice_has_prefix_nocase(value, "smtp:") ? set_aliases(r, row, slice_from(value, 5)) : NULL;
}

static const char *set_ldif_name(struct reading *r, struct import_row *row, struct slice value)
{
	return row->name.len ? NULL : set_name(r, row, value);
}

static const struct {
	const char *name;
	set_fn *set;
} attributes[] = {
	{"mail", set_aliases}, /* the first is the address already */
	{"mailAlternateAddress", set_aliases},
	{"mailLocalAddress", set_aliases},
	{"proxyAddresses", set_proxy_address},
	{"userPassword", set_password},
	{"mailQuotaSize", set_quota},
	{"mailQuotaCount", set_count},
	{"mailForwardingAddress", set_forward},
	{"accountStatus", set_disabled},
	{"loginDisabled", set_disabled},
	{"displayName", set_ldif_name},
	{"cn", set_ldif_name},
};

static struct slice first_value(const struct ldif_entry *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (slice_is_str_nocase(e->attributes[i].name, name))
			return e->attributes[i].value;
	return slice_of(NULL, 0);
}

static void read_entry(
	struct reading *r, struct import_row *row, const struct ldif_entry *e, struct slice address)
{
	const char *why = set_address(r, row, slice_trim(address));

	for (size_t i = 0; !why && i < e->count; i++) {
		const struct ldif_attribute *a = &e->attributes[i];

		for (size_t k = 0; !why && k < ARRAY_LEN(attributes) && a->value.len; k++) {
			if (!slice_is_str_nocase(a->name, attributes[k].name))
				continue;
			row->line = a->line;
			why = attributes[k].set(r, row, a->value);
		}
	}
	if (why)
		report(r, row, why);
	else
		row->line = e->line;
}

static int read_ldif(struct reading *r, struct slice text)
{
	struct ldif_entry entry;
	struct arena arena;
	struct ldif ldif;
	int err;

	arena_init(&arena, 0);
	ldif_begin(&ldif, text);
	for (;;) {
		struct slice address;
		struct import_row *row;

		arena_reset(&arena);
		err = ldif_next(&ldif, &arena, &entry);
		if (err == ERR_NOT_FOUND)
			break;
		address = first_value(&entry, "mail");
		if (!address.len && slice_find(first_value(&entry, "uid"), '@') > 0)
			address = first_value(&entry, "uid");
		if (!err && !address.len) {
			r->rows->passed_over++;
			continue;
		}
		row = new_row(r->rows, err ? entry.bad_line : entry.line);
		if (!row)
			break;
		if (err)
			report(r, row, entry.why);
		else
			read_entry(r, row, &entry, address);
	}
	arena_wipe(&arena);
	arena_deinit(&arena);
	return err == ERR_NOT_FOUND ? 0 : ERR_TOO_BIG;
}

/* ---- the whole ---- */

/* The account of a name in the store: 0 with its address, or ERR_NOT_FOUND. */
static int owner_of(const struct reading *r, struct slice name, struct store_account *account_out)
{
	return store_find_account(r->check->store, name, account_out);
}

/* Each name once in the file. */
static const char *claim_name(struct reading *r, struct import_row *row, struct slice name)
{
	const struct import_row *other = table_get(r->names, name);

	if (other && other != row)
		return "another line has this address, or the same alias";
	(void)table_put(r->names, name, row);
	return NULL;
}

static const char *check_limits(
	const struct reading *r, const struct import_row *row, const struct store_domain *d)
{
	const struct store_policy *p = &row->policy;

	(void)r;
	if (((p->says & STORE_SAYS_BYTES) && d->bytes_most &&
		    (!p->bytes_limit || p->bytes_limit > d->bytes_most)) ||
		((p->says & STORE_SAYS_COUNT) && d->count_most &&
			(!p->count_limit || p->count_limit > d->count_most)))
		return "its domain allows its accounts less";
	return NULL;
}

struct new_count {
	uint64_t count;
	size_t len;
	char name[];
};

static uint64_t count_new(struct reading *r, struct slice domain)
{
	struct new_count *n = table_get(r->new_accounts, domain);

	if (!n) {
		n = xcalloc(1, sizeof(*n) + domain.len);
		memcpy(n->name, domain.p, domain.len);
		n->len = domain.len;
		(void)table_put(r->new_accounts, slice_of(n->name, n->len), n);
	}
	return ++n->count;
}

static const char *check_domain(struct reading *r, struct import_row *row)
{
	struct slice domain = slice_from(row->address, (size_t)slice_find_last(row->address, '@') + 1);
	struct store_domain_status status = {0};
	int err = store_domain_may_name(r->check->store, row->address, r->check->domains_must_exist);
	const char *why = NULL;

	if (row->state == IMPORT_NEW && err)
		return accounts_domain_words(err);
	arena_reset(&r->scratch);
	if (store_domain_find(r->check->store, domain, &r->scratch, &status) == 0)
		why = check_limits(r, row, &status.domain);
	if (!why && row->state == IMPORT_NEW && status.domain.accounts_most &&
		status.accounts + count_new(r, domain) > status.domain.accounts_most)
		why = accounts_domain_words(ERR_TOO_BIG);
	return why;
}

/* Of an alias; the row shows the account. */
static const char *alias_words(int err)
{
	if (err == ERR_EXISTS)
		return "the domain of one of its aliases is an alias of another domain";
	if (err == ERR_NOT_FOUND)
		return "there is no domain of one of its aliases; `domain add` makes it";
	return error_text(err);
}

static const char *check_aliases(struct reading *r, struct import_row *row)
{
	struct store_account owner;

	for (size_t i = 0; i < row->alias_count; i++) {
		int err =
			store_domain_may_name(r->check->store, row->aliases[i], r->check->domains_must_exist);
		const char *why = err ? alias_words(err) : claim_name(r, row, row->aliases[i]);

		if (why)
			return why;
		if (owner_of(r, row->aliases[i], &owner) == 0 && !slice_is_str(row->address, owner.address))
			return "an alias belongs to another account";
	}
	return NULL;
}

static void check_row(struct reading *r, struct import_row *row)
{
	struct store_account owner;
	const char *why = claim_name(r, row, row->address);

	if (!why && owner_of(r, row->address, &owner) == 0) {
		row->state = IMPORT_PRESENT;
		if (!slice_is_str(row->address, owner.address))
			why = "the address is an alias of another account";
	}
	if (!why)
		why = check_domain(r, row);
	if (!why)
		why = check_aliases(r, row);
	if (why)
		report(r, row, why);
}

/* When all names are known. */
static void check_forwards(struct reading *r, struct import_row *row)
{
	struct slice rest = row->forwards;

	while (rest.len) {
		ptrdiff_t at = slice_find(rest, '\n');
		struct slice one = at < 0 ? rest : slice_sub(rest, 0, (size_t)at);
		const struct import_row *target = table_get(r->names, one);
		struct store_account owner;

		rest = slice_from(rest, one.len + 1);
		if (target == row) {
			report(r, row, "it would forward to itself");
			return;
		}
		/* Whom neither this back-end nor the file knows is another server's. */
		if (target && target->state == IMPORT_WRONG && owner_of(r, one, &owner)) {
			report(r, row, "it forwards to an account of the file that cannot be made");
			return;
		}
	}
}

static void check_all(struct reading *r)
{
	struct import_rows *rows = r->rows;

	for (size_t i = 0; i < rows->count; i++)
		if (rows->rows[i].state != IMPORT_WRONG)
			check_row(r, &rows->rows[i]);
	for (size_t i = 0; i < rows->count; i++)
		if (rows->rows[i].state != IMPORT_WRONG)
			check_forwards(r, &rows->rows[i]);
	for (size_t i = 0; i < rows->count; i++) {
		const struct import_row *row = &rows->rows[i];

		rows->new_count += row->state == IMPORT_NEW;
		rows->present_count += row->state == IMPORT_PRESENT;
		rows->clear_count += row->state != IMPORT_WRONG && row->is_clear;
	}
}

int import_rows_read(
	struct slice text, const struct import_check *check, struct import_rows *rows, const char **why_out)
{
	struct reading r = {.check = check, .rows = rows, .names = table_new(), .new_accounts = table_new()};
	struct slice key;
	void *value;
	int err;

	arena_init(&rows->arena, 0);
	arena_init(&r.scratch, 0);
	*why_out = "there are too many lines";
	err = check->format == IMPORT_CSV ? read_csv(&r, text, why_out) : read_ldif(&r, text);
	if (!err)
		check_all(&r);
	for (size_t at = 0; table_next(r.new_accounts, &at, &key, &value);)
		free(value);
	table_free(&r.new_accounts);
	table_free(&r.names);
	arena_deinit(&r.scratch);
	return err;
}

void import_rows_free(struct import_rows *rows)
{
	arena_wipe(&rows->arena);
	arena_deinit(&rows->arena);
	free(rows->rows);
	*rows = (struct import_rows){0};
}
