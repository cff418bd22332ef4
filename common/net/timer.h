/*
 * Deadlines on a loop: an intrusive timer, set and stopped in constant time, exact to about 50 ms late
 * (never early). Embedded in its owner; must be stopped before the owner's memory goes.
 */
#pragma once

#include "common/base/list.h"
#include "common/net/loop.h"

struct timer {
	struct list link;
	struct loop *loop; /* NULL while not set */
	uint64_t at_ms;
	loop_fn *fn;
	void *arg;
};

void timer_init(struct timer *timer, loop_fn *fn, void *arg);
/* Runs fn(arg) once, after_ms from now; replaces an earlier setting. */
void timer_set(struct timer *timer, struct loop *loop, uint64_t after_ms);
void timer_stop(struct timer *timer);
static inline bool timer_is_set(const struct timer *timer)
{
	return timer->loop != NULL;
}
