/* Private: octets and words of SMTP, for the files of smtp_parse. */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/slice.h"

static inline bool is_atext(unsigned char c)
{
	if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
		return true;
	return c && strchr("!#$%&'*+-/=?^_`{|}~", c);
}

static inline bool is_control(unsigned char c)
{
	return c < 32 || c == 127;
}

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline struct slice skip_blanks(struct slice s)
{
	while (s.len && is_blank(*s.p))
		s = slice_from(s, 1);
	return s;
}

/* Takes the next word (up to a blank) off *rest. False at the end. */
static inline bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t n = 0;

	*rest = skip_blanks(*rest);
	while (n < rest->len && !is_blank(rest->p[n]))
		n++;
	*word_out = slice_sub(*rest, 0, n);
	*rest = slice_from(*rest, n);
	return n > 0;
}

static inline int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Decoded xtext that may go into headers and logs; in the arena. ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int smtp_parse_xtext_text(struct arena *a, struct slice text, struct slice *value_out);
