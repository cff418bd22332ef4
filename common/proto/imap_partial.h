/*
 * A part of an ordered list of results (RFC 9394 section 4: partial-range): "1:100" are the first hundred,
 * "-1:-100" the last. Pure; any thread.
 */
#pragma once

#include "common/proto/imap_parse.h"

struct imap_partial {
	uint32_t from; /* 0: no part is asked for */
	uint32_t to;   /* at least from */
	bool is_last;  /* counted from the end */
};

/* ERR_SYNTAX. */
MUST_CHECK int imap_partial_parse(const struct imap_arg *arg, struct imap_partial *partial_out);
/* Which of `count` results it is: the place of the first, from 0, and how many, perhaps none. */
void imap_partial_clip(
	const struct imap_partial *partial, size_t count, size_t *first_out, size_t *count_out);
