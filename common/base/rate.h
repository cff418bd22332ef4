/*
 * Rates: how often something may happen in a period, by key. Counters are in memory and lost with the program. Any thread.
 *
 * A counter is one time of day (the leaky bucket of GCRA): bursts up to the whole count are let through, afterwards one each
 * period/count. At most RATE_ENTRIES_MOST keys are remembered; when they are full those whose bucket is emptiest go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define RATE_SHARDS 16
#define RATE_ENTRIES_MOST (1U << 18) /* 4 MiB */

struct rates;
struct rates *rates_new(void);
void rates_free(struct rates **rates);
/* The program's one, made at first use, of acceptance rules: they outlive no reload, their counters do as long as name and rate stay. */
struct rates *rates_shared(void);
/* Counts one; false: it would be more than count in period_ms, and is not counted. */
bool rates_take(struct rates *rates, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms);
/* The same without counting. */
bool rates_would_take(
	struct rates *rates, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms);
