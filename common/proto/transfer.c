/* Base64 collects 24 bits; quoted-printable holds back what may be an escape or blanks at a line's end. */
#include "common/proto/transfer.h"

#include "common/base/base64.h"

void transfer_decoder_init(struct transfer_decoder *d, enum mime_encoding encoding)
{
	*d = (struct transfer_decoder){.encoding = encoding};
}

static void flush_bits(struct transfer_decoder *d, struct buf *out)
{
	uint32_t bits = d->bits << (6 * (4 - d->count));

	for (unsigned i = 0; i + 1 < d->count; i++)
		buf_add_char(out, (char)(bits >> (16 - 8 * i)));
	d->bits = 0;
	d->count = 0;
}

/* Padding ends one run of base64; some programs write several in one body. */
static void feed_base64(struct transfer_decoder *d, struct slice bytes, struct buf *out)
{
	for (size_t i = 0; i < bytes.len; i++) {
		int digit = base64_digit(bytes.p[i]);

		if (bytes.p[i] == '=')
			flush_bits(d, out);
		if (digit < 0)
			continue;
		d->bits = d->bits << 6 | (uint32_t)digit;
		if (++d->count == 4)
			flush_bits(d, out);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void release(struct transfer_decoder *d, struct buf *out)
{
	buf_add(out, d->held, d->held_len);
	d->held_len = 0;
}

/* What follows '='. True: c was part of it. */
static bool take_escape(struct transfer_decoder *d, char c, struct buf *out)
{
	if (c == '\n') { /* soft line break, with or without CR and blanks */
		d->held_len = 0;
		return true;
	}
	if (d->held_len == 1 && hex_digit(c) >= 0) {
		d->held[d->held_len++] = c;
		return true;
	}
	if (d->held_len == 2 && hex_digit(d->held[1]) >= 0 && hex_digit(c) >= 0) {
		buf_add_char(out, (char)(hex_digit(d->held[1]) * 16 + hex_digit(c)));
		d->held_len = 0;
		return true;
	}
	if ((c == ' ' || c == '\t' || c == '\r') && d->held_len < sizeof(d->held) &&
		(d->held_len == 1 || hex_digit(d->held[1]) < 0)) {
		d->held[d->held_len++] = c;
		return true;
	}
	release(d, out);
	return false;
}

/* Blanks at a line's end are no part of the text (RFC 2045 section 6.7, rule 3). */
static bool take_blank(struct transfer_decoder *d, char c, struct buf *out)
{
	if (c == '\n') {
		bool has_cr = d->held[d->held_len - 1] == '\r';

		d->held_len = 0;
		buf_add_str(out, has_cr ? "\r\n" : "\n");
		return true;
	}
	if ((c == ' ' || c == '\t' || c == '\r') && d->held_len < sizeof(d->held)) {
		d->held[d->held_len++] = c;
		return true;
	}
	release(d, out);
	return false;
}

static void feed_quoted_printable(struct transfer_decoder *d, struct slice bytes, struct buf *out)
{
	for (size_t i = 0; i < bytes.len; i++) {
		char c = bytes.p[i];

		if (d->held_len && d->held[0] == '=' && take_escape(d, c, out))
			continue;
		if (d->held_len && d->held[0] != '=' && take_blank(d, c, out))
			continue;
		if (c == '=' || c == ' ' || c == '\t' || c == '\r') {
			d->held[0] = c;
			d->held_len = 1;
		} else {
			buf_add_char(out, c);
		}
	}
}

void transfer_decoder_feed(struct transfer_decoder *d, struct slice bytes, struct buf *out)
{
	switch (d->encoding) {
	case MIME_BASE64:
		feed_base64(d, bytes, out);
		return;
	case MIME_QUOTED_PRINTABLE:
		feed_quoted_printable(d, bytes, out);
		return;
	case MIME_7BIT:
	case MIME_8BIT:
	case MIME_BINARY:
	case MIME_OTHER:
		buf_add_slice(out, bytes);
		return;
	}
}

void transfer_decoder_end(struct transfer_decoder *d, struct buf *out)
{
	if (d->encoding == MIME_BASE64)
		flush_bits(d, out);
	/* "=" at the very end is a soft line break; blanks there are a line's end. */
	if (d->encoding == MIME_QUOTED_PRINTABLE && d->held_len > 1 && d->held[0] == '=' &&
		hex_digit(d->held[1]) >= 0)
		release(d, out);
	d->held_len = 0;
}

enum mime_encoding transfer_encoding(struct slice name)
{
	static const struct {
		const char *name;
		enum mime_encoding encoding;
	} rows[] = {
		{"", MIME_7BIT},
		{"7bit", MIME_7BIT},
		{"8bit", MIME_8BIT},
		{"binary", MIME_BINARY},
		{"quoted-printable", MIME_QUOTED_PRINTABLE},
		{"base64", MIME_BASE64},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (slice_is_str_nocase(name, rows[i].name))
			return rows[i].encoding;
	return MIME_OTHER;
}
