/*
 * Event loops, one thread each. Everything on a loop (its connections, timers, sessions) is touched by that
 * thread alone; other threads reach it by loop_post() only. The library underneath is not visible here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/error.h"

struct loop;
typedef void loop_fn(void *arg);

/* A loop without a thread: the caller runs it by loop_run(). ERR_IO when the system gives no descriptors. */
MUST_CHECK int loop_new(struct loop **loop_out);
/* Frees a loop that does not run. Relays that are left end with ERR_CANCELLED, connections are closed without
 * an event; owners that should clean up are told by the program before. */
void loop_free(struct loop **loop);
/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
/* Any thread. What this thread has posted before is run, then the loop ends. */
void loop_stop(struct loop *loop);

/* The loop of the calling thread, or NULL. */
struct loop *loop_current(void);
/* Number of the loop in its group, from 0. */
unsigned loop_index(const struct loop *loop);
/* Milliseconds of the monotonic clock, taken once a turn. */
uint64_t loop_now_ms(const struct loop *loop);

/* Any thread: fn(arg) runs on the loop's thread, in order of posting from one thread. Never fails. */
void loop_post(struct loop *loop, loop_fn *fn, void *arg);
/* Own thread: fn(arg) runs at the end of the present turn, after all callbacks. */
void loop_defer(struct loop *loop, loop_fn *fn, void *arg);
/* Own thread: free(p) at the end of the turn, so that no callback runs on freed memory. */
void loop_free_later(struct loop *loop, void *p);

/* A group: count loops with a thread each (they start at once). */
struct loop_group;
MUST_CHECK int loop_group_start(unsigned count, struct loop_group **group_out);
unsigned loop_group_count(const struct loop_group *group);
struct loop *loop_group_at(const struct loop_group *group, unsigned i);
/* Stops and joins all threads and frees the loops. Not from one of them. */
void loop_group_stop(struct loop_group **group);

/* Signals: on_signal(arg) on this loop for each arrival of signal number. One watcher a number and process.
 */
MUST_CHECK int loop_on_signal(struct loop *loop, int number, loop_fn *fn, void *arg);

/* Watches a descriptor that a foreign library owns; fn gets the readiness. */
enum loop_ready {
	LOOP_READABLE = 1,
	LOOP_WRITABLE = 2
};
typedef void loop_watch_fn(void *arg, int ready);
struct loop_watch;
MUST_CHECK int loop_watch_start(
	struct loop *loop, int fd, int wanted, loop_watch_fn *fn, void *arg, struct loop_watch **watch_out);
void loop_watch_change(struct loop_watch *watch, int wanted);
/* Before the library closes the descriptor. */
void loop_watch_stop(struct loop_watch **watch);
