/*
 * Sessions: a client joined to a back-end. Each loop keeps a list of its own; a session costs little, since most of them only
 * wait. The main loop lists and ends them by asking each loop.
 */
#pragma once

#include "common/control/session_verbs.h"
#include "common/net/conn.h"
#include "proxy/backends.h"
#include "proxy/worker.h"

struct session_options {
	struct backend *backend;
	enum config_service service;
	const char *id;
	const char *account;
	const char *client;
};
/* Joins both connections (sets them to NULL). ERR_*: they are closed. On the worker's loop. The caller has a connection with the
 * back-end (backend_connects()), which is the session's from now on. */
MUST_CHECK int sessions_start(struct worker *worker, const struct session_options *options,
	struct conn **client_take, struct conn **server_take);

/* On the worker's loop: for the verbs about sessions. */
void sessions_each(struct worker *worker, struct session_walk *walk);
