/*
 * Ready connections: for each back-end with `spare` set, each loop keeps so many connections whose TLS is done and whose greeting has
 * been read, so that an IMAP login costs one round trip and no handshake. One is used once, or replaced when it has waited for
 * SPARE_AGE_MS, before the back-end's patience ends. On the worker's loop.
 */
#pragma once

#include "proxy/worker.h"

#define SPARE_AGE_MS 20000

/* loop_post() these to a worker's loop: begin to keep spares; end for good. */
void spare_begin(void *worker);
void spare_end(void *worker);
/* A connection that waits for a login, with which host, or NULL. The caller owns it, and has a connection (backend_connects()) with
 * it; another is made in its place. */
struct conn *spare_take(struct worker *worker, const struct backend *backend, unsigned *host_out);
/* Ends a spare connection with this back-end, if there is one: another login than IMAP's wants it. */
bool spare_make_room(struct worker *worker, const struct backend *backend);
/* Those with a host that was found down go. */
void spare_host_is_down(struct worker *worker, const struct backend *backend, unsigned host);
