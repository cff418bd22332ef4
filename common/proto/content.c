/*
 * Values are copied into the arena once, without folds; all results are views into that copy, quoted strings
 * undone in place. Parameters in sections ("name*0*", "name*1") are joined afterwards (RFC 2231 section 3).
 */
#include "common/proto/content.h"

#include "common/base/buf.h"
#include "common/base/num.h"
#include "common/proto/charset.h"
#include "common/proto/encoded_word.h"

struct cursor {
	char *p;
	char *end;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* RFC 2045 token, 8-bit bytes taken too. */
static bool is_token(char c)
{
	return (unsigned char)c > ' ' && c != 127 && !strchr("()<>@,;:\\\"/[]?=", c);
}

static int open_cursor(struct arena *a, struct slice value, struct cursor *c_out)
{
	char *copy = arena_alloc(a, value.len + 1);
	size_t len = 0;

	if (!copy)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < value.len; i++)
		if (value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != '\0')
			copy[len++] = value.p[i];
	*c_out = (struct cursor){copy, copy + len};
	return 0;
}

/* Blanks and comments. */
static void skip_space(struct cursor *c)
{
	size_t depth = 0;

	for (; c->p < c->end; c->p++) {
		if (depth && *c->p == '\\' && c->p + 1 < c->end)
			c->p++;
		else if (*c->p == '(')
			depth++;
		else if (depth && *c->p == ')')
			depth--;
		else if (!depth && !is_space(*c->p))
			return;
	}
}

static struct slice read_token(struct cursor *c)
{
	char *start = c->p;

	while (c->p < c->end && is_token(*c->p))
		c->p++;
	return slice_of(start, (size_t)(c->p - start));
}

/* Undoes quotes in place. */
static struct slice read_quoted(struct cursor *c)
{
	char *start = ++c->p, *w = start;

	while (c->p < c->end && *c->p != '"') {
		if (*c->p == '\\' && c->p + 1 < c->end)
			c->p++;
		*w++ = *c->p++;
	}
	if (c->p < c->end)
		c->p++;
	return slice_of(start, (size_t)(w - start));
}

/* A parameter's value without quotes: all up to ';', blanks inside taken (many programs write so), comments
 * not. */
static struct slice read_loose(struct cursor *c)
{
	char *start = c->p;

	while (c->p < c->end && *c->p != ';') {
		if (*c->p == '(' && c->p > start && is_space(c->p[-1]))
			break;
		c->p++;
	}
	return slice_trim(slice_of(start, (size_t)(c->p - start)));
}

static void skip_to_semicolon(struct cursor *c)
{
	while (c->p < c->end && *c->p != ';') {
		if (*c->p == '"')
			(void)read_quoted(c);
		else if (*c->p == '(')
			skip_space(c);
		else
			c->p++;
	}
}

/* One parameter from behind its ';'. False: unreadable, skipped. */
static bool read_param(struct cursor *c, struct content_param *param)
{
	skip_space(c);
	*param = (struct content_param){.name = read_token(c)};
	skip_space(c);
	if (param->name.len == 0 || c->p == c->end || *c->p != '=')
		return false;
	c->p++;
	skip_space(c);
	param->value = c->p < c->end && *c->p == '"' ? read_quoted(c) : read_loose(c);
	return true;
}

/* ---- RFC 2231 continuations ---- */

struct piece {
	struct slice base;
	uint32_t number;
	bool is_extended; /* percent-encoded */
	bool is_used;
};

/* "name*12*" to base, number, extended; false: no continuation. */
static bool read_piece(struct slice name, struct piece *piece)
{
	ptrdiff_t star = slice_find(name, '*');
	struct slice number;

	*piece = (struct piece){.base = name};
	if (star <= 0 || (size_t)star + 1 == name.len)
		return false;
	piece->base = slice_sub(name, 0, (size_t)star);
	number = slice_from(name, (size_t)star + 1);
	piece->is_extended = number.p[number.len - 1] == '*';
	if (piece->is_extended)
		number.len--;
	return num_parse_u32(number, &piece->number) == 0;
}

static size_t find_piece(const struct piece *pieces, size_t count, size_t first, uint32_t number)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = (first + i) % count;

		if (!pieces[at].is_used && pieces[at].number == number &&
			slice_is_equal_nocase(pieces[at].base, pieces[first].base))
			return at;
	}
	return count;
}

/* A section that is plain text within an extended value is percent-encoded, so that the whole is one form. */
static void add_escaped(struct buf *out, struct slice text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c > ' ' && c < 127 && !strchr("*'%()<>@,;:\\\"/[]?=", c)) {
			buf_add_char(out, (char)c);
		} else {
			buf_add_char(out, '%');
			buf_add_char(out, hex[c >> 4]);
			buf_add_char(out, hex[c & 15]);
		}
	}
}

/* Joins all sections of the parameter whose section 0 is at `first`. */
static int join_pieces(
	struct arena *a, struct content_param *params, struct piece *pieces, size_t count, size_t first)
{
	struct buf joined = {0};
	bool is_extended = pieces[first].is_extended;
	size_t at = first;
	struct slice name = pieces[first].base;

	for (uint32_t n = 0; at < count; n++) {
		if (is_extended && !pieces[at].is_extended)
			add_escaped(&joined, params[at].value);
		else
			buf_add_slice(&joined, params[at].value);
		pieces[at].is_used = true;
		at = find_piece(pieces, count, first, n + 1);
	}
	params[first].value = arena_copy(a, buf_view(&joined));
	buf_deinit(&joined);
	if (is_extended)
		name.len++; /* with its star */
	params[first].name = name;
	return params[first].value.p ? 0 : ERR_TOO_BIG;
}

/* Joins what comes in sections; drops sections without a first. Links the rest. */
static int link_params(
	struct arena *a, struct content_param *params, size_t count, struct content_param **list_out)
{
	struct piece pieces[CONTENT_PARAMS_MAX];
	bool is_piece[CONTENT_PARAMS_MAX];
	struct content_param **last = list_out;

	for (size_t i = 0; i < count; i++) {
		is_piece[i] = read_piece(params[i].name, &pieces[i]);
		pieces[i].is_used = !is_piece[i];
	}
	*list_out = NULL;
	for (size_t i = 0; i < count; i++) {
		if (is_piece[i] && (pieces[i].is_used || pieces[i].number != 0))
			continue;
		if (is_piece[i] && join_pieces(a, params, pieces, count, i))
			return ERR_TOO_BIG;
		*last = &params[i];
		last = &params[i].next;
	}
	*last = NULL;
	return 0;
}

static int read_params(struct arena *a, struct cursor *c, struct content_param **list_out)
{
	struct content_param found[CONTENT_PARAMS_MAX], *params;
	size_t count = 0;

	*list_out = NULL;
	while (c->p < c->end && count < CONTENT_PARAMS_MAX) {
		skip_to_semicolon(c);
		if (c->p < c->end)
			c->p++;
		if (read_param(c, &found[count]))
			count++;
	}
	if (count == 0)
		return 0;
	params = arena_alloc(a, count * sizeof(*params));
	if (!params)
		return ERR_TOO_BIG;
	memcpy(params, found, count * sizeof(*params));
	return link_params(a, params, count, list_out);
}

int content_parse_type(struct arena *a, struct slice value, struct content_value *out)
{
	struct content_value v = {0};
	struct cursor c;
	int err = open_cursor(a, value, &c);

	if (err)
		return err;
	skip_space(&c);
	v.type = read_token(&c);
	skip_space(&c);
	if (v.type.len && c.p < c.end && *c.p == '/') {
		c.p++;
		skip_space(&c);
		v.subtype = read_token(&c);
	}
	if (!v.subtype.len) {
		*out = (struct content_value){0};
		return 0;
	}
	if ((err = read_params(a, &c, &v.params)))
		return err;
	*out = v;
	return 0;
}

int content_parse_disposition(struct arena *a, struct slice value, struct content_value *out)
{
	struct content_value v = {0};
	struct cursor c;
	int err = open_cursor(a, value, &c);

	if (err)
		return err;
	skip_space(&c);
	v.type = read_token(&c);
	if (!v.type.len) {
		*out = (struct content_value){0};
		return 0;
	}
	if ((err = read_params(a, &c, &v.params)))
		return err;
	*out = v;
	return 0;
}

struct slice content_parse_token(struct arena *a, struct slice value)
{
	struct slice token;
	struct cursor c;

	if (open_cursor(a, value, &c))
		return (struct slice){NULL, 0};
	skip_space(&c);
	token = read_token(&c);
	return token.len ? token : (struct slice){NULL, 0};
}

int content_parse_tokens(struct arena *a, struct slice value, struct content_param **list_out)
{
	struct content_param *list = NULL, **last = &list;
	size_t count = 0;
	struct cursor c;

	if (open_cursor(a, value, &c))
		return ERR_TOO_BIG;
	while (c.p < c.end && count < CONTENT_PARAMS_MAX) {
		struct slice token;

		skip_space(&c);
		token = read_token(&c);
		if (token.len) {
			*last = arena_calloc(a, 1, sizeof(**last));
			if (!*last)
				return ERR_TOO_BIG;
			(*last)->name = token;
			last = &(*last)->next;
			count++;
		} else if (c.p < c.end) {
			c.p++;
		}
	}
	*list_out = list;
	return 0;
}

struct slice content_param(const struct content_param *params, const char *name)
{
	for (; params; params = params->next)
		if (slice_is_str_nocase(params->name, name))
			return params->value.p ? params->value : slice_of("", 0);
	return (struct slice){NULL, 0};
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void add_unescaped(struct buf *out, struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		int high = i + 2 < text.len && text.p[i] == '%' ? hex_digit(text.p[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(text.p[i + 2]) : -1;

		if (low >= 0) {
			buf_add_char(out, (char)(high * 16 + low));
			i += 2;
		} else {
			buf_add_char(out, text.p[i]);
		}
	}
}

/* charset'language'percent-text (RFC 2231 section 4). */
static void decode_extended(struct slice value, struct buf *out)
{
	ptrdiff_t first = slice_find(value, '\'');
	ptrdiff_t second = first < 0 ? -1 : slice_find(slice_from(value, (size_t)first + 1), '\'');
	struct slice charset = slice_sub(value, 0, second < 0 ? 0 : (size_t)first);
	struct buf raw = {0};

	if (second >= 0)
		value = slice_from(value, (size_t)(first + 1 + second + 1));
	add_unescaped(&raw, value);
	if (charset.len == 0 || charset_to_utf8(charset, buf_view(&raw), out))
		charset_guess_utf8(buf_view(&raw), out);
	buf_deinit(&raw);
}

struct slice content_param_text(struct arena *a, const struct content_param *params, const char *name)
{
	size_t len = strlen(name);
	struct buf out = {0};
	struct slice text = {NULL, 0};
	const struct content_param *found = NULL;

	for (; params; params = params->next) {
		bool is_extended = params->name.len == len + 1 && params->name.p[len] == '*';

		if (!slice_is_equal_nocase(slice_sub(params->name, 0, len), slice_of(name, len)))
			continue;
		if (is_extended || (params->name.len == len && !found))
			found = params;
		if (is_extended)
			break;
	}
	if (!found)
		return text;
	if (found->name.len > len)
		decode_extended(found->value, &out);
	else
		encoded_word_decode(found->value, &out);
	text = arena_copy(a, buf_view(&out));
	buf_deinit(&out);
	return text;
}
