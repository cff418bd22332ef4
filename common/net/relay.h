/*
 * The relay: joins two connections; what one sends the other gets, in order, with back-pressure, knowing
 * nothing of the protocol. Both connections belong to it from then on. Input already buffered on either side
 * and unsent output go first, in order. Plain to plain moves by splice(2) without copying; idle relays hold
 * no buffers. A half-close is passed on. Silence in both directions for idle_ms ends it.
 */
#pragma once

#include "common/net/conn.h"

struct relay;

struct relay_end {
	int error; /* 0: both sides ended in order; ERR_TIMEOUT: idle; ERR_CANCELLED: relay_stop(); else what
		      broke */
	bool by_client;     /* the side `a` ended first */
	uint64_t to_client; /* bytes b -> a */
	uint64_t to_server; /* bytes a -> b */
};
/* Called once, with both connections closed; the last thing the relay does. */
typedef void relay_fn(void *arg, const struct relay_end *end);

/* Takes both connections (sets the pointers to NULL). Own loop's thread; both must be of this loop. */
MUST_CHECK int relay_start(struct conn **a_take, struct conn **b_take, uint64_t idle_ms, relay_fn *fn,
	void *arg, struct relay **relay_out);
/* Closes both without a word; fn comes at the turn's end. */
void relay_stop(struct relay *relay);
