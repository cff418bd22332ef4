#include "common/base/squeeze.h"

#include <string.h>

#include "common/base/bytes.h"

#define MATCH_MIN 6
#define MATCH_BASE 3
#define MATCH_MORE 15 /* of the length's bits: an octet more follows */
#define MATCH_MAX (MATCH_BASE + MATCH_MORE + 255)
#define LITERALS_MAX 128
/* Octets of a text that are looked at. */
#define LOOK_MAX 8192
/* Short runs are copied by so many at once, where there is room for them. */
#define STRIDE 16

/* Of MATCH_MIN octets; two more can be read. */
static size_t slot_of(const char *p)
{
	return (size_t)(((bytes_get_u64(p) << 16) * UINT64_C(0x9E3779B97F4A7C15)) >> 54);
}

void squeeze_dict_init(struct squeeze_dict *dict, struct slice text)
{
	*dict = (struct squeeze_dict){.text = slice_sub(text, 0, SQUEEZE_WINDOW)};
	for (size_t i = 0; i + MATCH_MIN + 2 <= dict->text.len; i++)
		dict->at[slot_of(dict->text.p + i)] = (uint16_t)(i + 1);
}

/* At most so many octets come of a text of n. */
static size_t bound(size_t n)
{
	return n + n / LITERALS_MAX + 2;
}

static char *put_literals(char *out, const char *p, size_t n)
{
	while (n) {
		size_t run = n < LITERALS_MAX ? n : LITERALS_MAX;

		*out++ = (char)(run - 1);
		memcpy(out, p, run);
		out += run;
		p += run;
		n -= run;
	}
	return out;
}

static char *put_match(char *out, size_t len, size_t distance)
{
	size_t n = len - MATCH_BASE < MATCH_MORE ? len - MATCH_BASE : MATCH_MORE;

	*out++ = (char)(0x80 | n << 3 | distance >> 8);
	*out++ = (char)distance;
	if (n == MATCH_MORE)
		*out++ = (char)(len - MATCH_BASE - MATCH_MORE);
	return out;
}

/* Of b, which comes after a and ends at `end`. */
static size_t match_len(const char *a, const char *b, const char *end)
{
	size_t n = 0, most = (size_t)(end - b) < MATCH_MAX ? (size_t)(end - b) : MATCH_MAX;

	while (n + 8 <= most && bytes_get_u64(a + n) == bytes_get_u64(b + n))
		n += 8;
	while (n < most && a[n] == b[n])
		n++;
	return n;
}

void squeeze(const struct squeeze_dict *dict, struct slice text, struct buf *out)
{
	char window[SQUEEZE_WINDOW + LOOK_MAX + 2];
	uint16_t at[SQUEEZE_SLOTS];
	size_t begin = dict->text.len, look = text.len < LOOK_MAX ? text.len : LOOK_MAX;
	size_t i = begin, end = begin + look, literal = begin;
	char *room = buf_reserve(out, bound(text.len)), *to = room;

	if (!room)
		return;
	memcpy(at, dict->at, sizeof(at));
	memset(window + end, 0, 2);
	if (begin)
		memcpy(window, dict->text.p, begin);
	if (look)
		memcpy(window + begin, text.p, look);
	while (i + MATCH_MIN <= end) {
		size_t slot = slot_of(window + i), from = at[slot], len = 0;

		at[slot] = (uint16_t)(i + 1);
		if (from && i + 1 - from <= SQUEEZE_WINDOW)
			len = match_len(window + from - 1, window + i, window + end);
		if (len < MATCH_MIN) {
			i++;
			continue;
		}
		to = put_literals(to, window + literal, i - literal);
		to = put_match(to, len, i + 1 - from);
		literal = i + len;
		for (i += 2; i < literal && i + MATCH_MIN <= end; i += 2)
			at[slot_of(window + i)] = (uint16_t)(i + 1);
		i = literal;
	}
	to = put_literals(to, window + literal, end - literal);
	to = put_literals(to, text.p + look, text.len - look);
	buf_added(out, (size_t)(to - room));
}

/* Copies what may overlap what comes of it. */
static void copy_match(char *to, const char *from, size_t n, size_t room, size_t there)
{
	if (n <= STRIDE && room >= STRIDE && there >= STRIDE)
		memcpy(to, from, STRIDE);
	else if (there >= n)
		memcpy(to, from, n);
	else
		for (size_t i = 0; i < n; i++)
			to[i] = from[i];
}

/* Octets opened, or SIZE_MAX. */
static size_t open_into(struct slice dict, struct slice in, char *out, size_t room)
{
	const unsigned char *p = (const unsigned char *)in.p, *end = p + in.len;
	size_t n = 0;

	while (p < end) {
		size_t token = *p++, len, distance, back;

		if (token < 0x80) {
			len = token + 1;
			if (len > (size_t)(end - p) || len > room - n)
				return SIZE_MAX;
			copy_match(out + n, (const char *)p, len, room - n, (size_t)(end - p));
			p += len;
			n += len;
			continue;
		}
		if (p == end)
			return SIZE_MAX;
		distance = (token & 7) << 8 | *p++;
		len = MATCH_BASE + (token >> 3 & 15);
		if (len == MATCH_BASE + MATCH_MORE) {
			if (p == end)
				return SIZE_MAX;
			len += *p++;
		}
		if (len > room - n || distance == 0 || distance > n + dict.len)
			return SIZE_MAX;
		if (distance > n) {
			/* Begins in the dictionary, and may go on at the text's beginning. */
			back = distance - n < len ? distance - n : len;
			copy_match(out + n, dict.p + dict.len - (distance - n), back, room - n, distance - n);
			n += back;
			len -= back;
			distance = n;
		}
		copy_match(out + n, out + n - distance, len, room - n, distance);
		n += len;
	}
	return n;
}

int squeeze_open(struct slice dict, struct slice squeezed, size_t len, struct buf *out)
{
	char *room;
	size_t n;

	if (len == 0)
		return squeezed.len ? ERR_CORRUPT : 0;
	room = buf_reserve(out, len);
	if (!room)
		return ERR_TOO_BIG;
	n = open_into(dict, squeezed, room, len);
	if (n != len)
		return ERR_CORRUPT;
	buf_added(out, n);
	return 0;
}
