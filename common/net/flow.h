/*
 * Flow control: how many connections a scope (a listener, a service, the whole program) takes at a time and in an interval, in all
 * and of each peer. An IPv6 peer is its /64. A scope lives on across reloads, with new limits; it is counted by flow_ref(). Any
 * thread; short locks, one for each shard of the table of peers.
 *
 * An interval slides: of those that came in the interval before, as many count as that interval still overlaps. The table of
 * peers is bounded (FLOW_PEERS_MOST): when it is full, peers without an open connection are forgotten, the longest silent ones first;
 * where all have one, a new peer is let in without being counted.
 */
#pragma once

#include "common/net/addr.h"

/* Peers that a scope remembers. */
#define FLOW_PEERS_MOST 65536

struct flow;

/* 0: no limit. Intervals in milliseconds, at least 1. */
struct flow_limits {
	unsigned connections;      /* at a time */
	unsigned new_connections;  /* within new_interval_ms */
	unsigned peer_connections; /* of one peer, at a time */
	unsigned peer_new_connections;
	uint64_t new_interval_ms, peer_new_interval_ms;
};

enum flow_answer {
	FLOW_TAKEN,
	FLOW_CONNECTIONS,
	FLOW_NEW_CONNECTIONS,
	FLOW_PEER_CONNECTIONS,
	FLOW_PEER_NEW_CONNECTIONS
};

struct flow *flow_new(void);
struct flow *flow_ref(struct flow *flow);
void flow_unref(struct flow **flow);
/* For connections to come; open ones stay. */
void flow_set_limits(struct flow *flow, const struct flow_limits *limits);

/* One more connection of that peer, unless a limit is reached. is_peer_counted_out is to be given back with flow_leave(). now_ms: a
 * monotonic clock; it may lag by a moment. */
enum flow_answer flow_enter(
	struct flow *flow, const struct addr *peer, uint64_t now_ms, bool *is_peer_counted_out);
/* The connection has ended. */
void flow_leave(struct flow *flow, const struct addr *peer, bool is_peer_counted);
/* The connection has not come about: as if flow_enter() had not been called. */
void flow_cancel(struct flow *flow, const struct addr *peer, bool is_peer_counted);
/* Open connections, and peers that are remembered. */
unsigned flow_connections(const struct flow *flow);
size_t flow_peers(struct flow *flow);
