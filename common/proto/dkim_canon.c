/*
 * Body: octets are looked at one line end at a time. Empty lines are counted and not given until text follows, so that
 * those at the end vanish; in the relaxed form the same is done with blanks in a line. A CR is held until the next
 * octet says whether it ends the line.
 */
#include "common/proto/dkim_canon.h"

static const struct slice crlf = SLICE_LIT("\r\n");

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

void dkim_canon_to_buf(void *buf, struct slice piece)
{
	buf_add_slice(buf, piece);
}

/* ---- bodies ---- */

void dkim_canon_body_init(struct dkim_body *b, bool is_relaxed, dkim_sink_fn *sink, void *arg)
{
	*b = (struct dkim_body){.sink = sink, .arg = arg, .is_relaxed = is_relaxed};
}

static void flush(struct dkim_body *b)
{
	if (b->pending)
		b->sink(b->arg, slice_of(b->piece, b->pending));
	b->pending = 0;
}

static void give(struct dkim_body *b, struct slice s)
{
	b->size += s.len;
	if (s.len > sizeof(b->piece) - b->pending)
		flush(b);
	if (s.len > sizeof(b->piece)) {
		b->sink(b->arg, s);
		return;
	}
	memcpy(b->piece + b->pending, s.p, s.len);
	b->pending += s.len;
}

/* Text of a line, without blanks in the relaxed form: what was held back goes first. */
static void give_text(struct dkim_body *b, struct slice text)
{
	for (; b->empty_lines; b->empty_lines--)
		give(b, crlf);
	if (b->has_blank)
		give(b, SLICE_LIT(" "));
	b->has_blank = false;
	b->is_in_line = true;
	give(b, text);
}

static void end_line(struct dkim_body *b)
{
	b->has_blank = false;
	b->is_after_cr = false;
	if (b->is_in_line)
		give(b, crlf);
	else
		b->empty_lines++;
	b->is_in_line = false;
}

static bool is_text(const struct dkim_body *b, char c)
{
	return c != '\r' && c != '\n' && !(b->is_relaxed && is_blank(c));
}

/* Octets from here on that are the same in the canonical form, over whole lines; they begin and end with text. */
static size_t run_length(const struct dkim_body *b, struct slice s)
{
	size_t len = 0;

	for (;;) {
		size_t gap = 0;

		while (len < s.len && ((unsigned char)s.p[len] > ' ' || is_text(b, s.p[len])))
			len++;
		if (s.len - len > 1 && s.p[len] == ' ')
			gap = 1; /* a single blank stays one */
		else if (s.len - len > 2 && s.p[len] == '\r' && s.p[len + 1] == '\n')
			gap = 2;
		if (!gap || !is_text(b, s.p[len + gap]))
			return len;
		len += gap;
	}
}

/* A CR that no LF follows: text, or a line end where such are mended. */
static void end_cr(struct dkim_body *b)
{
	b->is_after_cr = false;
	if (b->is_mended)
		end_line(b);
	else
		give_text(b, SLICE_LIT("\r"));
}

void dkim_canon_body(struct dkim_body *b, struct slice bytes)
{
	size_t len;

	for (; bytes.len; bytes = slice_from(bytes, len)) {
		char c = bytes.p[0];

		len = 1;
		if (c == '\n' && (b->is_after_cr || b->is_mended)) {
			end_line(b);
			continue;
		}
		if (b->is_after_cr)
			end_cr(b);
		if (c == '\r') {
			b->is_after_cr = true;
		} else if (c == '\n') {
			give_text(b, slice_sub(bytes, 0, 1));
		} else if (b->is_relaxed && is_blank(c)) {
			b->has_blank = true;
		} else {
			len = run_length(b, bytes);
			give_text(b, slice_sub(bytes, 0, len));
		}
	}
}

void dkim_canon_body_end(struct dkim_body *b)
{
	if (b->is_after_cr)
		end_cr(b);
	if (b->is_in_line)
		end_line(b);
	if (!b->is_relaxed && b->size == 0)
		give(b, crlf);
	flush(b);
}

/* ---- header fields ---- */

/* Without the line end behind it. */
static struct slice without_end(struct slice raw)
{
	if (raw.len && raw.p[raw.len - 1] == '\n')
		raw.len--;
	if (raw.len && raw.p[raw.len - 1] == '\r')
		raw.len--;
	return raw;
}

static bool is_space(char c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

/* Blanks and folds of a value become one blank; those before and behind the whole go. */
struct squeeze {
	dkim_sink_fn *sink;
	void *arg;
	bool has_text, has_blank;
};

static void squeeze(struct squeeze *q, struct slice s)
{
	while (s.len) {
		size_t len = 0;

		while (len < s.len && is_space(s.p[len]))
			len++;
		q->has_blank |= len > 0;
		s = slice_from(s, len);
		for (len = 0; len < s.len && !is_space(s.p[len]);)
			len++;
		if (!len)
			break;
		if (q->has_blank && q->has_text)
			q->sink(q->arg, SLICE_LIT(" "));
		q->has_blank = false;
		q->has_text = true;
		q->sink(q->arg, slice_sub(s, 0, len));
		s = slice_from(s, len);
	}
}

static void give_name(struct slice name, dkim_sink_fn *sink, void *arg)
{
	char lower[128];

	while (name.len && is_space(name.p[name.len - 1]))
		name.len--;
	while (name.len) {
		size_t len = name.len < sizeof(lower) ? name.len : sizeof(lower);

		for (size_t i = 0; i < len; i++)
			lower[i] = ascii_lower(name.p[i]);
		sink(arg, slice_of(lower, len));
		name = slice_from(name, len);
	}
	sink(arg, SLICE_LIT(":"));
}

/* cut: this part of raw is left out. */
static void give_field(
	struct slice raw, struct slice cut, bool is_relaxed, bool is_last, dkim_sink_fn *sink, void *arg)
{
	struct squeeze q = {.sink = sink, .arg = arg};
	struct slice before, behind;
	ptrdiff_t colon;

	raw = without_end(raw);
	before = cut.p ? slice_sub(raw, 0, (size_t)(cut.p - raw.p)) : raw;
	behind = cut.p ? slice_from(raw, (size_t)(cut.p - raw.p) + cut.len) : slice_of(NULL, 0);
	colon = slice_find(before, ':');
	if (!is_relaxed || colon < 0) {
		sink(arg, before);
		if (behind.len)
			sink(arg, behind);
	} else {
		give_name(slice_sub(before, 0, (size_t)colon), sink, arg);
		squeeze(&q, slice_from(before, (size_t)colon + 1));
		squeeze(&q, behind);
	}
	if (!is_last)
		sink(arg, crlf);
}

void dkim_canon_field(struct slice raw, bool is_relaxed, bool is_last, dkim_sink_fn *sink, void *arg)
{
	give_field(raw, slice_of(NULL, 0), is_relaxed, is_last, sink, arg);
}

/* What stands between "b=" and the next semicolon, all of it; a NULL pointer when there is no b=. */
static struct slice find_b(struct slice raw)
{
	ptrdiff_t colon = slice_find(raw, ':');
	size_t at = colon < 0 ? raw.len : (size_t)colon + 1;

	while (at < raw.len) {
		struct slice tag = slice_from(raw, at);
		ptrdiff_t end = slice_find(tag, ';');
		ptrdiff_t equals;

		tag = slice_sub(tag, 0, end < 0 ? tag.len : (size_t)end);
		equals = slice_find(tag, '=');
		if (equals > 0 && slice_is_str(slice_trim(slice_sub(tag, 0, (size_t)equals)), "b"))
			return slice_from(tag, (size_t)equals + 1);
		at += tag.len + 1;
	}
	return slice_of(NULL, 0);
}

void dkim_canon_signature(struct slice raw, bool is_relaxed, dkim_sink_fn *sink, void *arg)
{
	raw = without_end(raw);
	give_field(raw, find_b(raw), is_relaxed, true, sink, arg);
}
