/*
 * Reading goes tag by tag in the order in which a report would want to know them: who, how, what. Domains and selectors
 * go into DNS questions, so nothing but names of hosts passes (letters, digits, hyphens, underscores; U-labels become
 * A-labels, RFC 8616).
 */
#include "common/proto/dkim_signature.h"

#include "common/base/base64.h"
#include "common/proto/address.h"
#include "common/proto/dkim_tags.h"

#define NAME_MOST 253
#define LABEL_MOST 63
#define INSTANCE_MOST 50 /* RFC 8617 section 4.2.1 */
#define LINE_MOST 76

static const char *const field_names[] = {
	[DKIM_FIELD_SIGNATURE] = "DKIM-Signature",
	[DKIM_FIELD_AMS] = "ARC-Message-Signature",
	[DKIM_FIELD_SEAL] = "ARC-Seal",
};
static const char *const algorithm_names[] = {
	[DKIM_RSA_SHA256] = "rsa-sha256",
	[DKIM_ED25519_SHA256] = "ed25519-sha256",
};
static const char *const chain_names[] = {
	[DKIM_CHAIN_NONE] = "none",
	[DKIM_CHAIN_FAIL] = "fail",
	[DKIM_CHAIN_PASS] = "pass",
};

const char *dkim_signature_algorithm_name(enum dkim_algorithm algorithm)
{
	return algorithm_names[algorithm];
}

static int find_word(const char *const *words, size_t count, struct slice s)
{
	for (size_t i = 0; i < count; i++)
		if (slice_is_str_nocase(s, words[i]))
			return (int)i;
	return -1;
}

/* Labels of 1 to 63 letters, digits, hyphens and underscores, lower-case. */
static bool is_host_name(struct slice s)
{
	size_t label = 0;

	if (s.len == 0 || s.len > NAME_MOST)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '.' ? label == 0
			     : !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MOST)
			return false;
	}
	return label > 0;
}

static int take_name(struct arena *a, struct slice text, struct slice *name_out)
{
	struct slice name;
	char *lower;

	if (text.len == 0 || text.len > NAME_MOST)
		return ERR_SYNTAX;
	if (slice_is_ascii(text)) {
		lower = arena_alloc(a, text.len);
		if (!lower)
			return ERR_TOO_BIG;
		for (size_t i = 0; i < text.len; i++)
			lower[i] = ascii_lower(text.p[i]);
		name = slice_of(lower, text.len);
	} else if (address_normalise_domain(a, text, &name) != 0) {
		return ERR_SYNTAX;
	}
	if (!is_host_name(name))
		return ERR_SYNTAX;
	*name_out = name;
	return 0;
}

bool dkim_signature_is_under(struct slice domain, struct slice parent)
{
	if (domain.len == parent.len)
		return slice_is_equal(domain, parent);
	return domain.len > parent.len && domain.p[domain.len - parent.len - 1] == '.' &&
	       slice_is_equal(slice_from(domain, domain.len - parent.len), parent);
}

/* ---- the tags; each returns NULL, or what is wrong ---- */

struct reading {
	struct arena *a;
	const struct dkim_tags *tags;
	struct dkim_signature *sig;
	int error;
};

static const char *wrong(struct reading *r, int error, const char *why)
{
	r->error = error;
	return why;
}

static void note_b_start(struct dkim_signature *sig, struct slice b)
{
	size_t len = 0;

	while (len < 8 && len < b.len && base64_digit(b.p[len]) >= 0)
		len++;
	sig->b_start = slice_sub(b, 0, len);
}

static const char *take_who(struct reading *r)
{
	struct slice domain = dkim_tags_get(r->tags, "d"), selector = dkim_tags_get(r->tags, "s");

	if (!domain.p || take_name(r->a, domain, &r->sig->domain) != 0)
		return wrong(r, ERR_SYNTAX, "d= is no domain");
	r->sig->identity_domain = r->sig->domain;
	if (!selector.p || take_name(r->a, selector, &r->sig->selector) != 0)
		return wrong(r, ERR_SYNTAX, "s= is no selector");
	return NULL;
}

static const char *take_version(struct reading *r)
{
	struct slice v = dkim_tags_get(r->tags, "v");

	if (r->sig->field != DKIM_FIELD_SIGNATURE || slice_is_str(v, "1"))
		return NULL;
	return v.p ? wrong(r, ERR_UNSUPPORTED, "version is not 1") : wrong(r, ERR_SYNTAX, "v= is missing");
}

static const char *take_algorithm(struct reading *r)
{
	struct slice a = dkim_tags_get(r->tags, "a");
	int at = find_word(algorithm_names, ARRAY_LEN(algorithm_names), a);

	if (slice_is_str_nocase(a, "rsa-sha1"))
		return wrong(r, ERR_UNSUPPORTED, "rsa-sha1 does not count"); /* RFC 8301 section 3.1 */
	if (at < 0)
		return a.p ? wrong(r, ERR_UNSUPPORTED, "unknown algorithm")
			   : wrong(r, ERR_SYNTAX, "a= is missing");
	r->sig->algorithm = (enum dkim_algorithm)at;
	return NULL;
}

static const char *take_canonical_forms(struct reading *r)
{
	static const char *const forms[] = {"simple", "relaxed"};
	struct slice c = dkim_tags_get(r->tags, "c"), header, body = SLICE_LIT("simple");
	int h, b;

	if (r->sig->field == DKIM_FIELD_SEAL) {
		r->sig->is_header_relaxed = true;
		return NULL;
	}
	if (!c.p)
		return NULL;
	if (dkim_tags_next(&c, '/', &header) && c.p)
		body = slice_trim(c);
	h = find_word(forms, 2, header);
	b = find_word(forms, 2, body);
	if (h < 0 || b < 0)
		return wrong(r, ERR_UNSUPPORTED, "unknown canonical form");
	r->sig->is_header_relaxed = h == 1;
	r->sig->is_body_relaxed = b == 1;
	return NULL;
}

static const char *take_identity(struct reading *r)
{
	struct slice i = dkim_tags_get(r->tags, "i");
	uint64_t n;
	ptrdiff_t at;

	if (r->sig->field != DKIM_FIELD_SIGNATURE) {
		if (!i.p || dkim_tags_number(i, &n) != 0 || n < 1 || n > INSTANCE_MOST)
			return wrong(r, ERR_SYNTAX, "i= is no instance");
		r->sig->instance = (unsigned)n;
		return NULL;
	}
	if (!i.p)
		return NULL;
	at = slice_find_last(i, '@');
	if (at < 0 || take_name(r->a, slice_from(i, (size_t)at + 1), &r->sig->identity_domain) != 0)
		return wrong(r, ERR_SYNTAX, "i= is no identity");
	if (!dkim_signature_is_under(r->sig->identity_domain, r->sig->domain))
		return wrong(r, ERR_SYNTAX, "i= is not within d=");
	return NULL;
}

static bool is_arc_field(struct slice name)
{
	return slice_is_str_nocase(name, "ARC-Seal") || slice_is_str_nocase(name, "ARC-Message-Signature") ||
	       slice_is_str_nocase(name, "ARC-Authentication-Results");
}

static const char *take_fields(struct reading *r)
{
	struct slice h = dkim_tags_get(r->tags, "h"), rest = h, name;
	unsigned count = 0;
	bool has_from = false;

	if (r->sig->field == DKIM_FIELD_SEAL) /* RFC 8617 section 4.1.3 */
		return h.p ? wrong(r, ERR_SYNTAX, "h= in a seal") : NULL;
	if (!h.len)
		return wrong(r, ERR_SYNTAX, "h= is missing");
	while (dkim_tags_next(&rest, ':', &name)) {
		if (name.len == 0)
			return wrong(r, ERR_SYNTAX, "an empty name in h=");
		if (++count > DKIM_SIGNED_FIELDS_MOST)
			return wrong(r, ERR_TOO_BIG, "too many names in h=");
		if (r->sig->field == DKIM_FIELD_AMS && is_arc_field(name))
			return wrong(r, ERR_SYNTAX, "an ARC field in h=");
		has_from |= slice_is_str_nocase(name, "From");
	}
	if (!has_from && r->sig->field == DKIM_FIELD_SIGNATURE)
		return wrong(r, ERR_SYNTAX, "From is not signed");
	r->sig->fields = h;
	return NULL;
}

static const char *take_hashes(struct reading *r)
{
	struct slice bh = dkim_tags_get(r->tags, "bh"), b = dkim_tags_get(r->tags, "b"), octets;

	if (r->sig->field != DKIM_FIELD_SEAL) {
		if (!bh.p || dkim_tags_base64(r->a, bh, DKIM_HASH_LEN, &octets) != 0 ||
			octets.len != DKIM_HASH_LEN)
			return wrong(r, ERR_SYNTAX, "bh= is no hash");
		memcpy(r->sig->body_hash, octets.p, DKIM_HASH_LEN);
	}
	if (!b.len || dkim_tags_base64(r->a, b, DKIM_B_MOST, &r->sig->b) != 0)
		return wrong(r, ERR_SYNTAX, "b= is no signature");
	return NULL;
}

static const char *take_times(struct reading *r)
{
	struct slice t = dkim_tags_get(r->tags, "t"), x = dkim_tags_get(r->tags, "x"),
		     l = dkim_tags_get(r->tags, "l");

	if (t.p && dkim_tags_number(t, &r->sig->made) != 0)
		return wrong(r, ERR_SYNTAX, "t= is no time");
	if (r->sig->field == DKIM_FIELD_SEAL)
		return NULL;
	if (x.p && dkim_tags_number(x, &r->sig->until) != 0)
		return wrong(r, ERR_SYNTAX, "x= is no time");
	if (t.p && x.p && r->sig->until <= r->sig->made)
		return wrong(r, ERR_SYNTAX, "x= is not behind t=");
	if (x.p && r->sig->until == 0)
		r->sig->until = 1;
	r->sig->has_length = l.p != NULL;
	return NULL;
}

static const char *take_query(struct reading *r)
{
	struct slice q = dkim_tags_get(r->tags, "q"), one;

	if (!q.p || r->sig->field == DKIM_FIELD_SEAL)
		return NULL;
	while (dkim_tags_next(&q, ':', &one))
		if (slice_is_str_nocase(one, "dns/txt"))
			return NULL;
	return wrong(r, ERR_UNSUPPORTED, "unknown query method");
}

static const char *take_chain(struct reading *r)
{
	int at;

	if (r->sig->field != DKIM_FIELD_SEAL)
		return NULL;
	at = find_word(chain_names, ARRAY_LEN(chain_names), dkim_tags_get(r->tags, "cv"));
	if (at < 0)
		return wrong(r, ERR_SYNTAX, "cv= is missing or unknown");
	r->sig->chain = (enum dkim_chain)at;
	return NULL;
}

int dkim_signature_parse(struct arena *a, struct slice value, enum dkim_field field,
	struct dkim_signature *sig_out, const char **why_out)
{
	static const char *(*const takers[])(struct reading *) = {take_who, take_version, take_algorithm,
		take_canonical_forms, take_identity, take_fields, take_hashes, take_times, take_query,
		take_chain};
	struct dkim_tags tags;
	struct reading r = {.a = a, .tags = &tags, .sig = sig_out};
	const char *why = NULL;

	*sig_out = (struct dkim_signature){.field = field};
	r.error = value.len > DKIM_SIGNATURE_MOST ? ERR_TOO_BIG : dkim_tags_parse(value, &tags);
	if (r.error)
		why = r.error == ERR_TOO_BIG ? "the field is too long" : "no tag list";
	else
		note_b_start(sig_out, dkim_tags_get(&tags, "b"));
	for (size_t i = 0; !why && i < ARRAY_LEN(takers); i++)
		why = takers[i](&r);
	if (why && why_out)
		*why_out = why;
	return why ? r.error : 0;
}

const char *dkim_signature_is_out_of_time(const struct dkim_signature *sig, int64_t now)
{
	if (sig->until && (now < 0 || (uint64_t)now > sig->until))
		return "signature expired";
	if (sig->made && now >= 0 && sig->made > (uint64_t)now + DKIM_CLOCK_SKEW)
		return "signature of the future";
	return NULL;
}

/* ---- writing ---- */

/* One tag more on the line, or on a new one if it would be too long. */
static void add_piece(struct buf *out, size_t *line, struct slice piece)
{
	if (*line + piece.len + 1 > LINE_MOST) {
		buf_add_str(out, "\r\n\t");
		*line = 8;
	} else {
		buf_add_char(out, ' ');
		*line += 1;
	}
	buf_add_slice(out, piece);
	*line += piece.len;
}

static void add_tag(struct buf *out, size_t *line, const char *format, ...) PRINTF_LIKE(3, 4);
static void add_tag(struct buf *out, size_t *line, const char *format, ...)
{
	struct buf tag = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&tag, format, args);
	va_end(args);
	add_piece(out, line, buf_view(&tag));
	buf_deinit(&tag);
}

static void add_base64(struct buf *out, size_t *line, const char *tag, struct slice raw, const char *end)
{
	struct buf text = {0};

	buf_add_str(&text, tag);
	base64_encode(&text, raw);
	buf_add_str(&text, end);
	add_piece(out, line, buf_view(&text));
	buf_deinit(&text);
}

static void add_fields(struct buf *out, size_t *line, struct slice fields)
{
	struct slice name;
	bool is_first = true;

	while (dkim_tags_next(&fields, ':', &name)) {
		size_t len = name.len + (is_first ? 2 : 0) + 1;

		if (is_first || *line + len > LINE_MOST) {
			buf_add_str(out, "\r\n\t");
			*line = 8;
		}
		buf_printf(out, "%s%.*s%s", is_first ? "h=" : "", SLICE_ARG(name), fields.p ? ":" : ";");
		*line += len;
		is_first = false;
	}
}

void dkim_signature_write(const struct dkim_draft *draft, struct buf *out)
{
	static const char *const forms[] = {"simple", "relaxed"};
	size_t line = strlen(field_names[draft->field]) + 1;

	buf_printf(out, "%s:", field_names[draft->field]);
	if (draft->field == DKIM_FIELD_SIGNATURE)
		add_tag(out, &line, "v=1;");
	else
		add_tag(out, &line, "i=%u;", draft->instance);
	add_tag(out, &line, "a=%s;", algorithm_names[draft->algorithm]);
	if (draft->field != DKIM_FIELD_SEAL)
		add_tag(out, &line, "c=%s/%s;", forms[draft->is_header_relaxed],
			forms[draft->is_body_relaxed]);
	else
		add_tag(out, &line, "cv=%s;", chain_names[draft->chain]);
	add_tag(out, &line, "d=%.*s;", SLICE_ARG(draft->domain));
	add_tag(out, &line, "s=%.*s;", SLICE_ARG(draft->selector));
	add_tag(out, &line, "t=%llu;", (unsigned long long)draft->made);
	if (draft->field != DKIM_FIELD_SEAL) {
		add_fields(out, &line, draft->fields);
		add_base64(out, &line, "bh=", slice_of(draft->body_hash, DKIM_HASH_LEN), ";");
	}
	buf_add_str(out, "\r\n\tb=");
}

void dkim_signature_write_b(struct slice b, struct buf *out)
{
	struct buf text = {0};
	struct slice rest;
	size_t room = LINE_MOST - 10;

	base64_encode(&text, b);
	for (rest = buf_view(&text); rest.len; rest = slice_from(rest, room)) {
		if (rest.p != buf_view(&text).p)
			buf_add_str(out, "\r\n\t");
		buf_add_slice(out, slice_sub(rest, 0, room));
	}
	buf_deinit(&text);
}
