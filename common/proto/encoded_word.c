/*
 * The value is walked from "=?" to "=?". The bytes of neighbouring words of one charset are gathered before
 * they are converted, because some programs cut characters between words.
 */
#include "common/proto/encoded_word.h"

#include "common/proto/charset.h"
#include "common/proto/transfer.h"

/* A word is at most 75 characters long (RFC 2047 section 2); many programs write longer ones. */
#define WORD_MAX 8192
#define CHARSET_MAX 64

struct word {
	struct slice charset;
	struct slice text;
	bool is_base64;
	size_t len; /* of all, with its marks */
};

/* Bytes of words not yet converted. */
struct pending {
	struct slice charset; /* view of the value */
	struct slice source;  /* the words as they stand, in case the charset is unknown */
	struct buf bytes;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Position of the two characters from `from` on, or the value's length. */
static size_t find_pair(struct slice value, size_t from, char first, char second)
{
	while (from + 1 < value.len) {
		const char *at = memchr(value.p + from, first, value.len - 1 - from);

		if (!at)
			break;
		from = (size_t)(at - value.p);
		if (at[1] == second)
			return from;
		from++;
	}
	return value.len;
}

/* Position of the first "?=" from `from` on; the value's length when there is none. Asked for rising
 * positions. */
static size_t find_end(struct slice value, size_t from, size_t *cached)
{
	if (*cached < from)
		*cached = find_pair(value, from, '?', '=');
	return *cached;
}

/* =?charset*language?Q?text?= at `at`. cached: where the next "?=" was seen, so that looking stays linear. */
static bool read_word(struct slice value, size_t at, size_t *cached, struct word *w)
{
	struct slice rest = slice_from(value, at + 2);
	ptrdiff_t mark = slice_find(slice_sub(rest, 0, CHARSET_MAX), '?'), star;
	size_t from, end;
	char encoding;

	if (mark <= 0 || rest.len < (size_t)mark + 4 || rest.p[mark + 2] != '?')
		return false;
	w->charset = slice_sub(rest, 0, (size_t)mark);
	star = slice_find(w->charset, '*');
	if (star >= 0)
		w->charset.len = (size_t)star;
	encoding = ascii_lower(rest.p[mark + 1]);
	if (encoding != 'q' && encoding != 'b')
		return false;
	w->is_base64 = encoding == 'b';
	from = at + 2 + (size_t)mark + 3;
	end = find_end(value, from, cached);
	if (end == value.len || end - from > WORD_MAX)
		return false;
	w->text = slice_sub(value, from, end - from);
	w->len = end + 2 - at;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode_q(struct slice s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		int high = s.p[i] == '=' && i + 2 < s.len ? hex_digit(s.p[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;

		if (low >= 0) {
			buf_add_char(out, (char)(high * 16 + low));
			i += 2;
		} else {
			buf_add_char(out, s.p[i] == '_' ? ' ' : s.p[i]);
		}
	}
}

static void decode_b(struct slice s, struct buf *out)
{
	struct transfer_decoder d;

	transfer_decoder_init(&d, MIME_BASE64);
	transfer_decoder_feed(&d, s, out);
	transfer_decoder_end(&d, out);
}

/* Controls become blanks; folds vanish. */
static void add_clean(struct buf *out, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		buf_add_char(out, c < 32 || c == 127 ? ' ' : (char)c);
	}
}

/* Most headers: nothing to convert. */
static void add_plain(struct buf *out, struct slice s)
{
	char *to = s.len ? buf_reserve(out, s.len) : NULL;
	size_t len = 0;

	for (size_t i = 0; to && i < s.len; i++) {
		char c = s.p[i];

		if (c == '\n' || (c == '\r' && i + 1 < s.len && s.p[i + 1] == '\n'))
			continue;
		to[len++] = (unsigned char)c < 32 || c == 127 ? ' ' : c;
	}
	if (to)
		buf_added(out, len);
}

static void add_raw(struct buf *out, struct slice s)
{
	struct buf text = {0}, unfolded = {0};

	if (slice_is_plain(s)) {
		add_plain(out, s);
		return;
	}

	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] != '\n' && !(s.p[i] == '\r' && i + 1 < s.len && s.p[i + 1] == '\n'))
			buf_add_char(&unfolded, s.p[i]);
	charset_guess_utf8(buf_view(&unfolded), &text);
	add_clean(out, buf_view(&text));
	buf_deinit(&text);
	buf_deinit(&unfolded);
}

static void flush(struct pending *p, struct buf *out)
{
	struct buf text = {0};

	if (!p->source.len)
		return;
	if (charset_to_utf8(p->charset, buf_view(&p->bytes), &text))
		add_raw(out, p->source);
	else
		add_clean(out, buf_view(&text));
	buf_deinit(&text);
	buf_clear(&p->bytes);
	p->source = (struct slice){NULL, 0};
}

static void take_word(struct pending *p, const struct word *w, const char *at, struct buf *out)
{
	if (p->source.len && !slice_is_equal_nocase(p->charset, w->charset))
		flush(p, out);
	if (!p->source.len)
		p->source = slice_of(at, 0);
	p->charset = w->charset;
	p->source.len = (size_t)(at + w->len - p->source.p);
	if (w->is_base64)
		decode_b(w->text, &p->bytes);
	else
		decode_q(w->text, &p->bytes);
}

static bool is_all_space(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_space(s.p[i]))
			return false;
	return true;
}

void encoded_word_decode(struct slice value, struct buf *out)
{
	struct pending pending = {0};
	size_t plain = 0, at = 0, cached = 0; /* text between words begins at plain */

	while (at < value.len) {
		struct slice before;
		struct word w;

		at = find_pair(value, at, '=', '?');
		if (at == value.len)
			break;
		if (!read_word(value, at, &cached, &w)) {
			at += 2;
			continue;
		}
		before = slice_sub(value, plain, at - plain);
		if (!pending.source.len || !is_all_space(before)) {
			flush(&pending, out);
			add_raw(out, before);
		}
		take_word(&pending, &w, value.p + at, out);
		at += w.len;
		plain = at;
	}
	flush(&pending, out);
	add_raw(out, slice_from(value, plain));
	buf_deinit(&pending.bytes);
}
