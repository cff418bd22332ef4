/*
 * Listening sockets and what is offered on them. The sockets stay for the program's life; what they offer
 * (certificates, limits, trust) is a set of services made from one configuration, which each loop has its own
 * pointer to, so that a reload changes it between two connections.
 */
#pragma once

#include "backend/backend.h"

/* What is offered, by b->config. Once, before a listener accepts: when the store and its services are there. Main thread. */
void listeners_offer(struct backend *b);
/* Opens all of b->config on b->admin.group. Main thread. why: for the operator. */
MUST_CHECK int listeners_open(struct backend *b, struct buf *why);
/* New connections get b->config from now on. Main thread. */
void listeners_set_config(struct backend *b);
/* No new client comes into the kernel's queues; those in it are still taken. Main thread. */
void listeners_refuse(void);
/* Takes what the kernel has queued, then closes the sockets; connections that are open go on, and reloads are theirs too. Main thread. */
void listeners_stop(void);
/* The same if it was not done, and the end of reloads. Main thread. */
void listeners_close(void);
/* After the group's threads have ended. */
void listeners_free(void);
