/*
 * Rates of acceptance rules: how often something may happen in a period, by key. Counters are this program's own (a proxy's are the
 * proxy's), live through reloads as long as the rule's name and rate stay, and are lost with the program. Any thread.
 *
 * A counter is one time of day (the leaky bucket of GCRA): bursts up to the whole count are let through, afterwards one each
 * period/count. At most SMTP_RATE_ENTRIES_MOST keys are remembered; when they are full those whose bucket is emptiest go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define SMTP_RATE_SHARDS 16
#define SMTP_RATE_ENTRIES_MOST (1U << 18) /* 4 MiB */

struct smtp_rates;
struct smtp_rates *smtp_rates_new(void);
void smtp_rates_free(struct smtp_rates **rates);
/* The program's one, made at first use: rules outlive no reload, their counters do. */
struct smtp_rates *smtp_rates_shared(void);
/* Counts one; false: it would be more than count in period_ms, and is not counted. */
bool smtp_rates_take(
	struct smtp_rates *rates, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms);
/* The same without counting. */
bool smtp_rates_would_take(
	struct smtp_rates *rates, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms);
