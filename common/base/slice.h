/*
 * A slice borrows bytes: pointer and length, never an owner, not NUL-terminated. Passed by value.
 * An empty slice may have a NULL pointer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const char *p;
	size_t len;
};

/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).p ? (s).p : ""
/* A slice of a string literal; usable in static tables. */
#define SLICE_LIT(literal)                                                                                   \
	(struct slice)                                                                                       \
	{                                                                                                    \
		(literal), sizeof(literal) - 1                                                               \
	}

static inline struct slice slice_of(const void *p, size_t len)
{
	return (struct slice){p, len};
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){s, s ? strlen(s) : 0};
}

/* The part from `from` on, at most `len` bytes; clamped to the slice. */
static inline struct slice slice_sub(struct slice s, size_t from, size_t len)
{
	if (from > s.len)
		from = s.len;
	if (len > s.len - from)
		len = s.len - from;
	return (struct slice){s.p ? s.p + from : NULL, len};
}

static inline struct slice slice_from(struct slice s, size_t from)
{
	return slice_sub(s, from, SIZE_MAX);
}

static inline bool slice_is_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool slice_is_str(struct slice a, const char *s)
{
	return slice_is_equal(a, slice_str(s));
}

/* ASCII letters compare equal in either case; other bytes as they are. */
bool slice_is_equal_nocase(struct slice a, struct slice b);
bool slice_is_str_nocase(struct slice a, const char *s);
bool slice_has_prefix(struct slice s, const char *prefix);
bool slice_has_prefix_nocase(struct slice s, const char *prefix);
/* Position of the first byte c, or -1. */
ptrdiff_t slice_find(struct slice s, char c);
/* Position of the last byte c, or -1. */
ptrdiff_t slice_find_last(struct slice s, char c);
/* Without leading and trailing spaces, tabs, CR and LF. */
struct slice slice_trim(struct slice s);
/* Heap copy with a NUL added; caller frees. */
char *slice_copy_str(struct slice s);
/* Has a control character (0-31, 127): such text never goes into a side protocol or a log. */
bool slice_has_control(struct slice s);
/* Well-formed UTF-8 (RFC 3629), NUL refused. */
bool slice_is_utf8(struct slice s);
bool slice_is_ascii(struct slice s);
/* ASCII without NUL: what is the same in nearly every charset. */
bool slice_is_plain(struct slice s);

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static inline char ascii_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}
