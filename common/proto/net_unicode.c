/* libunistring composes; what is ASCII needs nothing. */
#include "common/proto/net_unicode.h"

#include <stdlib.h>
#include <uninorm.h>

/* U+0080 to U+009F, U+2028, U+2029; the text is UTF-8. */
static bool has_forbidden(struct slice s)
{
	for (size_t i = 0; i + 1 < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i], d = (unsigned char)s.p[i + 1];

		if (c == 0xc2 && d < 0xa0)
			return true;
		if (c == 0xe2 && d == 0x80 && i + 2 < s.len && ((unsigned char)s.p[i + 2] | 1) == 0xa9)
			return true;
	}
	return false;
}

int net_unicode_normalise(struct arena *arena, struct slice utf8, struct slice *out)
{
	struct slice copy;
	uint8_t *text;
	size_t len = 0;

	if (slice_has_control(utf8) || !slice_is_utf8(utf8) || has_forbidden(utf8))
		return ERR_SYNTAX;
	if (slice_is_ascii(utf8)) {
		copy = arena_copy(arena, utf8);
	} else {
		text = u8_normalize(UNINORM_NFC, (const uint8_t *)utf8.p, utf8.len, NULL, &len);
		if (!text)
			return ERR_TOO_BIG;
		copy = arena_copy(arena, slice_of((const char *)text, len));
		free(text);
	}
	if (!copy.p)
		return ERR_TOO_BIG;
	*out = copy;
	return 0;
}
