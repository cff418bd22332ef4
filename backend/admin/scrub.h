/*
 * The background scrub of a running store: one thread that reads all bodies at a configured pace, slot by slot, and begins anew
 * every `scrub-interval`. Damage goes to the log by account, mailbox and UID, and into metrics. Verbs `store scrub status|start|stop`.
 */
#pragma once

#include "backend/admin/admin.h"

struct scrub;

/* On the main loop, once the store is open. Keys scrub-interval, scrub-rate. */
MUST_CHECK int scrub_start(struct admin *admin, const struct conf *conf, struct scrub **scrub_out);
/* Keys anew. */
void scrub_set_config(struct scrub *scrub, const struct conf *conf);
/* Ends the thread; accepts NULL, sets NULL. Before the store is closed. */
void scrub_stop(struct scrub **scrub);
/* The verbs; admin->scrub may still be NULL. */
void scrub_register(struct admin *admin);
