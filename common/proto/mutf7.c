/*
 * Printable US-ASCII stands for itself, "&-" is "&", and "&...-" holds UTF-16 in base64 with "," for "/" and
 * no padding. One coding a name: a shift may hold no printable ASCII, may not follow a shift directly, and
 * its last bits are zero.
 */
#include "common/proto/mutf7.h"

#include <sys/types.h>

#include "common/base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/* Base64 with "," for "/". */
static int digit_value(char c)
{
	return c == '/' ? -1 : base64_digit(c == ',' ? '/' : c);
}

static size_t put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* One UTF-16 unit after the other; *high holds a first surrogate. Returns octets written, or ERR_SYNTAX. */
static ssize_t put_unit(char *to, uint32_t unit, uint32_t *high)
{
	bool is_low = unit >= 0xdc00 && unit <= 0xdfff;

	if (*high) {
		uint32_t c = 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00);

		if (!is_low)
			return ERR_SYNTAX;
		*high = 0;
		return (ssize_t)put_utf8(to, c);
	}
	if (is_low || (unit >= 0x20 && unit <= 0x7e) || unit < 0x20 || unit == 0x7f)
		return ERR_SYNTAX;
	if (unit >= 0xd800 && unit <= 0xdbff) {
		*high = unit;
		return 0;
	}
	return (ssize_t)put_utf8(to, unit);
}

/* What stands between "&" and "-"; *len counts its digits. Writes at most 3 octets for 2 digits. */
static ssize_t decode_shift(char *to, struct slice in, size_t *len_out)
{
	uint32_t bits = 0, high = 0;
	unsigned held = 0;
	size_t i = 0, n = 0;

	for (; i < in.len && in.p[i] != '-'; i++) {
		int value = digit_value(in.p[i]);

		if (value < 0)
			return ERR_SYNTAX;
		bits = bits << 6 | (uint32_t)value;
		held += 6;
		if (held >= 16) {
			ssize_t put = put_unit(to + n, bits >> (held - 16) & 0xffff, &high);

			if (put < 0)
				return put;
			n += (size_t)put;
			held -= 16;
			bits &= (1u << held) - 1;
		}
	}
	if (i == in.len || i == 0 || high || held >= 6 || bits)
		return ERR_SYNTAX;
	*len_out = i;
	return (ssize_t)n;
}

/* to has room for 2 * in.len octets. Returns octets written, or ERR_SYNTAX. */
static ssize_t decode(char *to, struct slice in)
{
	size_t n = 0, digits, shift_end = SIZE_MAX;

	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.p[i];
		ssize_t put;

		if (c < 0x20 || c > 0x7e)
			return ERR_SYNTAX;
		if (c != '&') {
			to[n++] = (char)c;
			continue;
		}
		if (i + 1 < in.len && in.p[i + 1] == '-') {
			to[n++] = '&';
			i++;
			continue;
		}
		if (i == shift_end)
			return ERR_SYNTAX;
		put = decode_shift(to + n, slice_from(in, i + 1), &digits);
		if (put < 0)
			return put;
		n += (size_t)put;
		i += digits + 1;
		shift_end = i + 1;
	}
	return (ssize_t)n;
}

int mutf7_decode(struct buf *out, struct slice mutf7)
{
	char *room;
	ssize_t n;

	if (mutf7.len > SIZE_MAX / 4)
		return ERR_TOO_BIG;
	room = buf_reserve(out, mutf7.len * 2 + 1);
	if (!room)
		return ERR_TOO_BIG;
	n = decode(room, mutf7);
	if (n < 0)
		return (int)n;
	buf_added(out, (size_t)n);
	return 0;
}

int mutf7_decode_arena(struct arena *arena, struct slice mutf7, struct slice *utf8_out)
{
	char *room;
	ssize_t n;

	if (mutf7.len > SIZE_MAX / 4)
		return ERR_TOO_BIG;
	room = arena_alloc(arena, mutf7.len * 2 + 1);
	if (!room)
		return ERR_TOO_BIG;
	n = decode(room, mutf7);
	if (n < 0)
		return (int)n;
	room[n] = '\0';
	*utf8_out = slice_of(room, (size_t)n);
	return 0;
}

/* The next character of well-formed UTF-8. */
static uint32_t next_char(struct slice s, size_t *at)
{
	const unsigned char *p = (const unsigned char *)s.p + *at;

	if (p[0] < 0x80) {
		*at += 1;
		return p[0];
	}
	if (p[0] < 0xe0) {
		*at += 2;
		return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
	}
	if (p[0] < 0xf0) {
		*at += 3;
		return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
	}
	*at += 4;
	return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

struct encoder {
	struct buf *out;
	uint32_t bits;
	unsigned held;
	bool is_shifted;
};

static void put_bits(struct encoder *e, uint32_t unit)
{
	if (!e->is_shifted) {
		buf_add_char(e->out, '&');
		e->is_shifted = true;
	}
	e->bits = e->bits << 16 | unit;
	e->held += 16;
	while (e->held >= 6) {
		e->held -= 6;
		buf_add_char(e->out, alphabet[e->bits >> e->held & 0x3f]);
	}
	e->bits &= (1u << e->held) - 1;
}

static void end_shift(struct encoder *e)
{
	if (!e->is_shifted)
		return;
	if (e->held)
		buf_add_char(e->out, alphabet[e->bits << (6 - e->held) & 0x3f]);
	buf_add_char(e->out, '-');
	*e = (struct encoder){.out = e->out};
}

int mutf7_encode(struct buf *out, struct slice utf8)
{
	struct encoder e = {.out = out};

	if (!slice_is_utf8(utf8) || slice_has_control(utf8))
		return ERR_SYNTAX;
	for (size_t i = 0; i < utf8.len;) {
		uint32_t c = next_char(utf8, &i);

		if (c < 0x80) {
			end_shift(&e);
			buf_add_char(out, (char)c);
			if (c == '&')
				buf_add_char(out, '-');
		} else if (c < 0x10000) {
			put_bits(&e, c);
		} else {
			put_bits(&e, 0xd800 + ((c - 0x10000) >> 10));
			put_bits(&e, 0xdc00 + ((c - 0x10000) & 0x3ff));
		}
	}
	end_shift(&e);
	return 0;
}
