/*
 * The arithmetic of the queue, pure: when the next try is, when it is enough, and whom to tell what. Times are milliseconds; `wall` ones
 * since 1970.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct queue_plan {
	uint64_t retry_first; /* after the first try; doubles with each, */
	uint64_t retry_most;  /* up to this */
	unsigned tries;       /* then it is enough, */
	uint64_t lifetime;    /* or when it is as old as this */
	uint64_t warning;     /* when a delay is told; 0: never */
};

/* From the try with this number (from 1 on) to the next. */
uint64_t queue_plan_wait(const struct queue_plan *plan, unsigned tries);
/* A message of `arrived` whose try with this number failed at wall: is there no other? tries 0: none was made, age alone counts. */
bool queue_plan_is_over(const struct queue_plan *plan, uint64_t arrived, unsigned tries, uint64_t wall);
/* Never beyond its end, so that it gives up in time. */
uint64_t queue_plan_next(const struct queue_plan *plan, uint64_t arrived, unsigned tries, uint64_t wall);

enum queue_event {
	QUEUE_STORED,  /* in an account here */
	QUEUE_PASSED,  /* taken by a server that was told what its sender wants to hear */
	QUEUE_RELAYED, /* taken by one that does no DSN */
	QUEUE_FAILED,
	QUEUE_DELAYED
};
/* Does a notice go out (RFC 3461 section 5.2)? notify: of enum smtp_notify. A null sender never gets one. */
bool queue_plan_tells(enum queue_event event, bool has_sender, unsigned notify);
/* A delay is due to be told. */
bool queue_plan_is_late(const struct queue_plan *plan, uint64_t arrived, bool is_warned, uint64_t wall);
