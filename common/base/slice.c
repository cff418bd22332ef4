/* Comparison, search and classification of borrowed bytes. */
#include "common/base/slice.h"

#include "common/base/mem.h"

bool slice_is_equal_nocase(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	}
	return true;
}

bool slice_is_str_nocase(struct slice a, const char *s)
{
	return slice_is_equal_nocase(a, slice_str(s));
}

bool slice_has_prefix(struct slice s, const char *prefix)
{
	return slice_is_equal(slice_sub(s, 0, strlen(prefix)), slice_str(prefix));
}

bool slice_has_prefix_nocase(struct slice s, const char *prefix)
{
	return slice_is_equal_nocase(slice_sub(s, 0, strlen(prefix)), slice_str(prefix));
}

ptrdiff_t slice_find(struct slice s, char c)
{
	const char *hit = s.len ? memchr(s.p, c, s.len) : NULL;

	return hit ? hit - s.p : -1;
}

ptrdiff_t slice_find_last(struct slice s, char c)
{
	for (size_t i = s.len; i > 0; i--) {
		if (s.p[i - 1] == c)
			return (ptrdiff_t)i - 1;
	}
	return -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
	while (s.len && is_blank(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len && is_blank(s.p[s.len - 1]))
		s.len--;
	return s;
}

char *slice_copy_str(struct slice s)
{
	return xmemdup0(s.p, s.len);
}

bool slice_has_control(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 32 || c == 127)
			return true;
	}
	return false;
}

bool slice_is_ascii(struct slice s)
{
	const uint64_t highs = UINT64_C(0x8080808080808080);
	size_t i = 0;
	uint64_t w;

	for (; s.len - i >= sizeof(w); i += sizeof(w)) {
		memcpy(&w, s.p + i, sizeof(w));
		if (w & highs)
			return false;
	}
	for (; i < s.len; i++) {
		if ((unsigned char)s.p[i] >= 128)
			return false;
	}
	return true;
}

/* Length of the well-formed sequence at p, 0 if there is none (RFC 3629, section 4). */
static size_t utf8_sequence(const unsigned char *p, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t need;

	if (p[0] < 0x80)
		return p[0] != 0;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		need = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		need = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		need = 4;
	else
		return 0;
	if (len < need)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0; /* shorter form exists */
	else if (p[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	}
	return need;
}

/* How many octets from here on, by eights, are ASCII without NUL: most text is nothing else. */
static size_t ascii_run(const unsigned char *p, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
	size_t n = 0;
	uint64_t w;

	for (; len - n >= sizeof(w); n += sizeof(w)) {
		memcpy(&w, p + n, sizeof(w));
		if ((w | (w - ones)) & highs) /* beyond 7 bits, or a NUL's borrow */
			break;
	}
	return n;
}

bool slice_is_plain(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = ascii_run(p, s.len); i < s.len; i++) {
		if (p[i] == 0 || p[i] >= 0x80)
			return false;
	}
	return true;
}

bool slice_is_utf8(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = ascii_run(p, s.len); i < s.len;) {
		size_t n = p[i] < 0x80 ? ascii_run(p + i, s.len - i) : 0;

		if (n == 0)
			n = utf8_sequence(p + i, s.len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}
