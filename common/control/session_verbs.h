/*
 * The verbs `session list` and `session kick` of both tiers. Sessions live on loops; a question walks over them in steps: on a loop at
 * most so many are looked at in one turn, then the rows are answered on the control loop, and the next step waits until the client of
 * the control socket has taken them. So neither a loop nor memory is filled, however many there are.
 *
 * A tier numbers its sessions: of one kind on one loop, later ones have greater numbers and stand behind earlier ones. What ends between two
 * steps is not shown, what begins may be.
 */
#pragma once

#include "common/base/buf.h"
#include "common/control/control.h"
#include "common/net/addr.h"

struct session_info {
	uint64_t number;
	const char *id;
	const char *service;     /* "imap" */
	const char *user;        /* "" before a login, or where there is none */
	const struct addr *peer; /* the client; NULL: client is its address as text */
	const char *client;
	const char *backend; /* NULL: a back-end's own session */
	const char *state;
	int64_t since; /* seconds since 1970 */
};

struct session_walk;
/* Would session_walk_take() look at this one? Spares making the info. */
bool session_walk_wants(const struct session_walk *walk, uint64_t number);
/* Looks at a session. True: it is to be ended, without a word where the protocol has none. On its loop. */
bool session_walk_take(struct session_walk *walk, const struct session_info *info);

/* Shows all sessions of one kind on this loop to the walk, first ones first. On the loop. */
typedef void session_each_fn(void *arg, struct loop *loop, struct session_walk *walk);

struct session_kinds {
	session_each_fn *const *each; /* NULL-ended: one for each kind */
	struct loop_group *group;
	bool has_backends; /* sessions lead to back-ends: --backend, and a column */
	void *arg;
};

/* kinds: lives as long as the control. */
void session_verbs_register(struct control *control, const struct session_kinds *kinds);
/* Ends all sessions with this back-end, and answers the request. */
void session_verbs_kick_backend(
	const struct session_kinds *kinds, struct control_request *request, const char *backend);
