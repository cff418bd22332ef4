#include "common/proto/field_text.h"

void field_text_begin(struct field_text *f, struct buf *out, const char *name)
{
	*f = (struct field_text){.out = out, .column = strlen(name) + 1};
	buf_printf(out, "%s:", name);
}

void field_text_fold(struct field_text *f)
{
	f->column = FIELD_TEXT_COLUMNS;
}

void field_text_word(struct field_text *f, struct slice word)
{
	if (f->column + 1 + word.len > FIELD_TEXT_COLUMNS) {
		buf_add_str(f->out, "\r\n\t");
		f->column = 8;
	} else {
		buf_add_char(f->out, ' ');
		f->column++;
	}
	buf_add_slice(f->out, word);
	f->column += word.len;
}

void field_text_end(struct field_text *f)
{
	buf_add_str(f->out, "\r\n");
}

/* ---- values ---- */

/* atext of RFC 5322, in ASCII. */
static bool is_atext(char c)
{
	char lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
	       (c && memchr("!#$%&'*+-/=?^_`{|}~", c, 19));
}

/* Tokens of MIME (RFC 2045) are the words that both kinds of field take bare: no "/", "=" or "?". */
static bool is_bare(char c)
{
	return is_atext(c) && c != '/' && c != '=' && c != '?';
}

static bool is_dot_atom(struct slice s)
{
	bool is_begin = true;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '.' ? is_begin : !is_bare(s.p[i]))
			return false;
		is_begin = s.p[i] == '.';
	}
	return s.len && !is_begin;
}

static bool is_address(struct slice s)
{
	ptrdiff_t at = slice_find(s, '@');

	return at >= 0 && (at == 0 || is_dot_atom(slice_sub(s, 0, (size_t)at))) &&
	       is_dot_atom(slice_from(s, (size_t)at + 1));
}

/* Length of the UTF-8 sequence at the front; 0: there is none. */
static size_t sequence(struct slice s)
{
	for (size_t n = 2; n <= 4; n++)
		if (n <= s.len && slice_is_utf8(slice_sub(s, 0, n)))
			return n;
	return 0;
}

/* With a backslash before the characters of `escaped`. */
static void add_text(struct buf *out, struct slice s, const char *escaped)
{
	size_t most = FIELD_TEXT_VALUE_MOST;

	for (size_t i = 0, n; i < s.len && i < most; i += n) {
		unsigned char c = (unsigned char)s.p[i];

		n = 1;
		if (c >= 128 && (n = sequence(slice_from(s, i))) && i + n <= most) {
			buf_add(out, s.p + i, n);
			continue;
		}
		n = 1;
		if (c < ' ' || c >= 127) {
			buf_add_char(out, '?');
			continue;
		}
		if (strchr(escaped, c))
			buf_add_char(out, '\\');
		buf_add_char(out, (char)c);
	}
}

void field_text_value(struct buf *out, struct slice value, bool has_addresses)
{
	value = slice_sub(value, 0, FIELD_TEXT_VALUE_MOST);
	if (is_dot_atom(value) || (has_addresses && is_address(value))) {
		buf_add_slice(out, value);
		return;
	}
	buf_add_char(out, '"');
	add_text(out, value, "\"\\");
	buf_add_char(out, '"');
}

void field_text_comment(struct buf *out, struct slice text)
{
	buf_add_char(out, '(');
	add_text(out, text, "()\\");
	buf_add_char(out, ')');
}
