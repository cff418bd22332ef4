/*
 * Numbers out of text, whole or not at all: no sign, no blanks, no overflow. 0 or ERR_SYNTAX, ERR_TOO_BIG.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

MUST_CHECK int num_parse_u32(struct slice s, uint32_t *n_out);
MUST_CHECK int num_parse_u64(struct slice s, uint64_t *n_out);
/* Bytes with a unit: 10, 10K, 10M, 10G, 10T (powers of 1024), an optional B or iB after it. */
MUST_CHECK int num_parse_size(struct slice s, uint64_t *bytes_out);
/* Time with a unit: 500ms, 30s, 5m, 2h, 7d, 2w; a bare number is seconds. */
MUST_CHECK int num_parse_duration(struct slice s, uint64_t *ms_out);

static inline bool num_add_u64(uint64_t a, uint64_t b, uint64_t *sum_out)
{
	return !__builtin_add_overflow(a, b, sum_out);
}

static inline bool num_mul_u64(uint64_t a, uint64_t b, uint64_t *product_out)
{
	return !__builtin_mul_overflow(a, b, product_out);
}
