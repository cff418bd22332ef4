/*
 * raw -> transfer encoding -> charset -> (HTML: tags, comments, scripts out; entities) -> blanks joined, cut
 * after PREVIEW_CHARS characters. Lines that quote another message, and signatures, tell nothing new: they are
 * left out of plain text as long as something else is there.
 */
#include "common/proto/preview.h"

#include "common/proto/charset.h"
#include "common/proto/transfer.h"

#define FIRST_RAW 1024

static bool is_text(const struct mime_part *part, const char *subtype)
{
	return part->kind == MIME_LEAF && slice_is_str_nocase(part->type.type, "text") &&
	       slice_is_str_nocase(part->type.subtype, subtype) && part->body_len &&
	       !slice_is_str_nocase(part->disposition.type, "attachment");
}

const struct mime_part *preview_part(const struct mime_part *root)
{
	const struct mime_part *html = NULL;

	for (const struct mime_part *part = root; part; part = mime_next(root, part)) {
		if (is_text(part, "plain"))
			return part;
		if (!html && is_text(part, "html"))
			html = part;
	}
	return html;
}

static void decode(const struct mime_part *part, struct slice raw, struct buf *out)
{
	struct slice charset = content_param(part->type.params, "charset");
	struct charset_decoder *decoder = NULL;
	struct transfer_decoder transfer;
	struct buf bytes = {0};

	transfer_decoder_init(&transfer, part->encoding);
	transfer_decoder_feed(&transfer, raw, &bytes);
	/* A character that the end of `raw` has halved would spoil the guess. */
	for (int i = 0; i < 4 && raw.len < part->body_len && buf_len(&bytes) &&
			(unsigned char)bytes.data[bytes.end - 1] >= 0x80;
		i++)
		buf_cut(&bytes, buf_len(&bytes) - 1);
	if (charset.len == 0 || slice_is_str_nocase(charset, "us-ascii") ||
		slice_is_str_nocase(charset, "utf-8") || charset_decoder_new(charset, &decoder) < 0) {
		charset_guess_utf8(buf_view(&bytes), out);
	} else {
		/* What the cut has halved is left out: no end. */
		charset_decoder_feed(decoder, buf_view(&bytes), out);
		charset_decoder_free(&decoder);
	}
	buf_deinit(&bytes);
}

/* ---- HTML ---- */

struct entity {
	const char *name;
	const char *text;
};
static const struct entity entities[] = {
	{"amp;", "&"},
	{"lt;", "<"},
	{"gt;", ">"},
	{"quot;", "\""},
	{"apos;", "'"},
	{"nbsp;", " "},
};

static void add_utf8(uint32_t c, struct buf *out)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		c = ' ';
	if (c < 0x80) {
		buf_add_char(out, (char)c);
		return;
	}
	if (c >= 0x10000)
		buf_add_char(out, (char)(0xf0 | c >> 18));
	if (c >= 0x800)
		buf_add_char(out, (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3f) : 0xe0 | c >> 12));
	buf_add_char(out, (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6));
	buf_add_char(out, (char)(0x80 | (c & 0x3f)));
}

/* "#39;" or "#x27;" behind the ampersand; its length, 0: none. */
static size_t add_number(struct slice s, struct buf *out)
{
	size_t i = 1;
	uint32_t base = 10, n = 0;

	if (i < s.len && ascii_lower(s.p[i]) == 'x') {
		base = 16;
		i++;
	}
	for (; i < s.len && i < 10; i++) {
		char c = ascii_lower(s.p[i]);
		uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
				 : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
							: 99;

		if (c == ';' && n) {
			add_utf8(n, out);
			return i + 1;
		}
		if (digit >= base)
			return 0;
		n = n * base + digit;
	}
	return 0;
}

static size_t add_entity(struct slice s, struct buf *out)
{
	if (s.len && s.p[0] == '#')
		return add_number(s, out);
	for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
		if (slice_has_prefix_nocase(s, entities[i].name)) {
			buf_add_str(out, entities[i].text);
			return strlen(entities[i].name);
		}
	}
	return 0;
}

/* Length of what begins at '<': a tag, a comment, or an element whose content is no text. */
static size_t markup_length(struct slice s)
{
	static const struct {
		const char *begin, *end;
	} hidden[] = {{"<!--", "-->"}, {"<style", "</style"}, {"<script", "</script"}, {"<title", "</title"}};
	const char *close;

	for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
		size_t len = strlen(hidden[i].end);

		if (!slice_has_prefix_nocase(s, hidden[i].begin))
			continue;
		for (size_t at = 0; at + len <= s.len; at++) {
			if (slice_has_prefix_nocase(slice_from(s, at), hidden[i].end)) {
				s = slice_from(s, at);
				close = memchr(s.p, '>', s.len);
				return close ? at + (size_t)(close - s.p) + 1 : at + s.len;
			}
		}
		return s.len;
	}
	close = memchr(s.p, '>', s.len);
	return close ? (size_t)(close - s.p) + 1 : s.len;
}

static bool is_inline_tag(struct slice s)
{
	static const char *const tags[] = {"b>", "i>", "u>", "em>", "strong>", "span", "a ", "a>", "font"};

	s = slice_from(s, s.len > 1 && s.p[1] == '/' ? 2 : 1);
	for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
		if (slice_has_prefix_nocase(s, tags[i]))
			return true;
	}
	return false;
}

static void strip_html(struct slice s, struct buf *out)
{
	while (s.len) {
		size_t n = 0;

		if (s.p[0] == '<') {
			n = markup_length(s);
			if (!is_inline_tag(s))
				buf_add_char(out, ' ');
		} else if (s.p[0] == '&') {
			n = add_entity(slice_from(s, 1), out);
			n += n ? 1 : 0;
		}
		if (n == 0) {
			buf_add_char(out, s.p[0]);
			n = 1;
		}
		s = slice_from(s, n);
	}
}

/* ---- text ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Blanks and controls joined to one blank; true: full. */
static bool add_words(struct slice s, struct buf *out, size_t *chars)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool is_gap = c <= ' ' || c == 0x7f;

		if ((c & 0xc0) != 0x80 && *chars == PREVIEW_CHARS)
			return true;
		if (is_gap && (buf_len(out) == 0 || out->data[out->end - 1] == ' '))
			continue;
		buf_add_char(out, is_gap ? ' ' : (char)c);
		*chars += (c & 0xc0) != 0x80;
	}
	return false;
}

/* True: full. */
static bool add_plain(struct slice s, bool with_quotes, struct buf *out)
{
	size_t chars = 0;
	bool is_full = false;

	while (s.len && !is_full) {
		const char *lf = memchr(s.p, '\n', s.len);
		struct slice line = slice_sub(s, 0, lf ? (size_t)(lf - s.p) + 1 : s.len);

		s = slice_from(s, line.len);
		if (!with_quotes && slice_has_prefix(line, "-- ") && line.len <= 5 &&
			is_blank(line.p[line.len - 1]))
			break;
		if (with_quotes || line.p[0] != '>')
			is_full = add_words(line, out, &chars);
	}
	if (buf_len(out) && out->data[out->end - 1] == ' ')
		buf_cut(out, buf_len(out) - 1);
	return is_full;
}

/* True: more of the part would change nothing. */
static bool write_from(const struct mime_part *part, struct slice raw, struct buf *out)
{
	struct buf text = {0}, plain = {0};
	bool is_full;

	buf_clear(out);
	decode(part, raw, &text);
	if (slice_is_str_nocase(part->type.subtype, "html")) {
		strip_html(buf_view(&text), &plain);
		is_full = add_plain(buf_view(&plain), true, out);
	} else {
		is_full = add_plain(buf_view(&text), false, out);
		if (buf_len(out) == 0)
			(void)add_plain(buf_view(&text), true, out);
	}
	buf_deinit(&text);
	buf_deinit(&plain);
	return is_full;
}

void preview_write(const struct mime_part *part, struct slice raw, struct buf *out)
{
	struct buf line = {0};

	raw = slice_sub(raw, 0, PREVIEW_RAW);
	/* The first kilobyte is mostly enough. */
	if (!write_from(part, slice_sub(raw, 0, FIRST_RAW), &line) && raw.len > FIRST_RAW)
		(void)write_from(part, raw, &line);
	buf_add_slice(out, buf_view(&line));
	buf_deinit(&line);
}
