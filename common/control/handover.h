/*
 * Hand-over: SIGUSR2, or the verb `handover`, starts the program anew (the same path, which may hold another version by now, and the
 * same arguments), gives it the very listening sockets, and retires when the new one serves.
 *
 *	old                                         new (MAILTIER_HANDOVER=3)
 *	 |-- heirloom 1 GENERATION PID N, stderr ---->|   a socket pair; the new one's errors go through a pipe to the old one
 *	 |-- sockets (descriptors), old PID (one) --->|   goes into the background, so that the supervisor becomes its parent
 *	 |<------------------------------- hello PID -|   reads its configuration, opens what it names, takes sockets by address
 *	 |<-------------------- left ADDRESS, ready --|   maps are loaded, probes have settled
 *	 |-- go -------------------------------------->|   accepts from now on
 *	 |<-------------------------------- serving --|
 *	 |-- main, sessions N, ... ------------------->|   the old one accepts no more, and lives as long as its sessions
 *
 * Whatever goes wrong before `serving`, the old one goes on as if nothing had happened, and says the reason in an ERROR line. A
 * program that waits for its predecessor's end (waits_for_end: it has a store that only one can hold) says `serving` at `go`, and
 * begins when the connection ends.
 *
 * One struct handover a program; everything on the main thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/control/control.h"

struct handover;

/*
 * First thing in main(), before threads: remembers how the program was started, and lets SIGHUP and SIGUSR2 wait for handover_start():
 * their default is the end. In one that was started by a hand-over it receives the
 * sockets (common/net/inherit.h), and holds listeners back; what it cannot understand ends the program.
 */
struct handover *handover_new(int argc, char **argv);
/* Started by a hand-over, and not serving yet. */
bool handover_is_waiting(const struct handover *h);

struct handover_options {
	struct loop *loop;
	const char *area; /* for log lines: "proxy" */
	uint64_t limit_ms;
	bool waits_for_end;
	/* The new one: is everything loaded? reason: for the operator. */
	bool (*is_ready)(void *arg, struct buf *reason);
	/* The new one: serve. Listeners still wait for listener_begin_all(), which is called after it. ERR_NOT_NOW: ask
	 * again (what the old one had locked is not free at once). */
	int (*begin)(void *arg);
	/* The old one: another serves; retire. Its listeners are released; those that the other left are stopped. */
	void (*retire)(void *arg);
	/* May a hand-over begin now? NULL, or why not. */
	const char *(*refusal)(void *arg);
	void *arg;
};
/* The main loop is there, listeners are open, SIGHUP is watched: signals may come. Says READY=1 to the supervisor when the program serves. */
MUST_CHECK int handover_start(struct handover *h, const struct handover_options *options, struct buf *why);
/* New limit, after a reload. */
void handover_set_limit(struct handover *h, uint64_t limit_ms);
/* The verb `handover`. */
void handover_register(struct handover *h, struct control *control);
/* Has handed over. */
bool handover_is_retired(const struct handover *h);
/* The old one tells the new one how many sessions it has left. */
void handover_tell_sessions(struct handover *h, int64_t sessions);
/* Gives up a hand-over that is under way: the program is to end. */
void handover_cancel(struct handover *h);
/* Closes everything; on the loop, before that is freed. */
void handover_stop(struct handover *h);
void handover_free(struct handover **h);
