/*
 * Listening sockets: one per loop on the same address (SO_REUSEPORT), so the kernel spreads connections.
 * Accepted connections come on the loop that accepted them. With descriptors exhausted (EMFILE) accepting
 * pauses for a moment and logs once.
 *
 * Whom access rules or flow control refuse is closed at once, without a word and before TLS: a refusal must cost
 * less than what it keeps away. Where a balancer's PROXY header is awaited, both are asked of the client that it tells.
 */
#pragma once

#include <stdatomic.h>

#include "common/net/access.h"
#include "common/net/conn.h"
#include "common/net/flow.h"

struct listener;

/* A new connection, let in, its PROXY header (if any) taken; TLS (if implicit) has not been done yet: CONN_OPENED follows. Set the owner with
 * conn_set_owner(). */
typedef void listener_fn(void *arg, struct conn *conn_take);

enum listener_proxy {
	LISTENER_PROXY_OFF,
	LISTENER_PROXY_REQUIRED, /* every peer is a balancer of the networks named, and sends a PROXY header; others are refused */
	LISTENER_PROXY_OPTIONAL /* peers of the networks must send one; those of others are clients, and theirs is not taken */
};

/* Levels of access rules and scopes of flow control, in the order in which they are asked. */
enum listener_level {
	LISTENER_OWN,
	LISTENER_SERVICE,
	LISTENER_GLOBAL
};
#define LISTENER_LEVELS (LISTENER_GLOBAL + 1)

/* Who may connect and how; constant and counted. Rules and networks are the policy's own. */
struct listener_policy {
	enum listener_proxy proxy;
	struct addr_net *proxy_networks; /* heap */
	size_t proxy_network_count;
	uint64_t proxy_timeout_ms; /* for the PROXY header */
	struct access_rules *access[LISTENER_LEVELS];
	atomic_uint refs;
};
/* Empty: everybody, no PROXY header. */
struct listener_policy *listener_policy_new(void);
struct listener_policy *listener_policy_ref(struct listener_policy *policy);
void listener_policy_unref(struct listener_policy **policy);

struct listener_options {
	struct addr addr;                    /* port 0: any; listener_addr() tells */
	struct tls *tls;                     /* implicit TLS; NULL: plain */
	unsigned backlog;                    /* 0: 1024 */
	struct listener_policy *policy;      /* NULL: an empty one */
	struct flow *flows[LISTENER_LEVELS]; /* NULL: not counted */
	unsigned connections_most;           /* simultaneous, where flows are not given; 0: no limit */
	const char *name;                    /* for logs and metrics */
	int unix_mode;                       /* permission bits of a unix socket */
};
/* Opens on all loops of the group; an address that is taken, be it by another process of ours, is refused. why: reason for the operator. Main thread. */
MUST_CHECK int listener_open(struct loop_group *group, const struct listener_options *options,
	listener_fn *fn, void *arg, struct buf *why, struct listener **listener_out);
/* The same on one loop only. */
MUST_CHECK int listener_open_on(struct loop *loop, const struct listener_options *options, listener_fn *fn,
	void *arg, struct buf *why, struct listener **listener_out);
const struct addr *listener_addr(const struct listener *listener);
/* New connections from now on use this context (reload). Any thread. */
void listener_set_tls(struct listener *listener, struct tls *tls);
void listener_set_policy(struct listener *listener, struct listener_policy *policy);
/* Clients that are new are no longer let into the queues (TCP); those in it are accepted as before. Main thread. */
void listener_refuse(struct listener *listener);
/* Accepts what the kernel has queued, then closes the sockets, on their loops; its connections are still counted. Any thread. */
void listener_stop(struct listener *listener);
/* listener_stop() without accepting: another program has the sockets, and their queues. */
void listener_release(struct listener *listener);
/* listener_stop(), unless it was stopped or released before, and the end. Any thread. */
void listener_close(struct listener **listener);
/* Connections that this listener has open now. */
unsigned listener_connections(const struct listener *listener);

/* ---- between the old and the new program (common/control/handover.h), on the main thread ---- */

/* Listeners that are opened from now on accept nothing before listener_begin_all(). */
void listener_hold_all(void);
void listener_begin_all(void);
/* Lets go of all listeners but those that are to be kept. */
typedef bool listener_keep_fn(void *arg, const struct addr *addr);
void listener_release_all(listener_keep_fn *keeps, void *arg);
/* Every socket of every listener that is open. */
typedef void listener_socket_fn(void *arg, const struct addr *addr, int fd);
void listener_each_socket(listener_socket_fn *fn, void *arg);
