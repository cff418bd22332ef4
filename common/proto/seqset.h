/*
 * IMAP sequence sets (RFC 3501 section 9: sequence-set) of message numbers or UIDs. Parsed into ranges in the
 * caller's arena; seqset_resolve() gives "*" its value, orders and joins. Pure; any thread.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

#define SEQSET_STAR UINT32_MAX /* "*" until resolved */

struct seqset_range {
	uint32_t from;
	uint32_t to;
};

struct seqset {
	struct seqset_range *ranges;
	size_t count;
};

/* ERR_SYNTAX (zero, empty, bad form), ERR_TOO_BIG (a number beyond 32 bits, or the arena is full). */
MUST_CHECK int seqset_parse(struct slice text, struct arena *arena, struct seqset *set_out);
/* "*" becomes max (at least 1), backward ranges are turned, then ordered and joined. In place, O(n log n). */
void seqset_resolve(struct seqset *set, uint32_t max);
/* Of a resolved set. */
bool seqset_has(const struct seqset *set, uint32_t n);
/* Of an unresolved set: does it speak of "*"? */
bool seqset_has_star(const struct seqset *set);
/* Sum of all ranges of a resolved set. */
uint64_t seqset_size(const struct seqset *set);
