/*
 * The gate of a back-end: how many connections a proxy may have with it, and how many logins may be under way at once while it comes
 * back. A host that has just come back gets a few logins at a time, then more and more over the time of its return, so that
 * thousands of clients who were dropped with it do not all stand at its door at once. Arithmetic on atomics alone: any thread, no clock of
 * its own.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BACKEND_GATE_FIRST 8  /* logins at once when the return begins */
#define BACKEND_GATE_LAST 128 /* and when it ends; from then on there is no limit */

/* Zeroed it is open. */
struct backend_gate {
	_Atomic uint64_t returned_ms; /* when it came back; 0: it was never away, or the return is over */
	_Atomic int64_t logins;       /* under way */
	_Atomic int64_t connections;
};

/* It was away and is back: the return begins. */
void backend_gate_return(struct backend_gate *gate, uint64_t now_ms);
/* Logins that may be under way together; 0: any number. */
unsigned backend_gate_window(struct backend_gate *gate, uint64_t return_ms, uint64_t now_ms);
/* A login begins, if it may: then backend_gate_logged_in() follows, however it ends. */
bool backend_gate_log_in(struct backend_gate *gate, uint64_t return_ms, uint64_t now_ms);
void backend_gate_logged_in(struct backend_gate *gate);
/* A connection is made, if most (0: no limit) allows it: then backend_gate_disconnect() follows. */
bool backend_gate_connect(struct backend_gate *gate, unsigned most);
void backend_gate_disconnect(struct backend_gate *gate);
