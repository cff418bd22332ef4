/*
 * The listeners of the configuration, opened on all loops. A new connection goes to the front of its service as the configuration of
 * its loop has it now. Main thread, but for the accepting.
 */
#pragma once

#include "proxy/config.h"

/* Opens all addresses of all sections `listener`; on failure none stays open. why: for the operator. */
MUST_CHECK int listeners_open(
	struct loop *loop, struct loop_group *group, const struct config *config, struct buf *why);
/* New connections use the certificates, rules and limits of this configuration. */
void listeners_set_config(const struct config *config);
/* The end, in steps. No new client comes into the kernel's queues; those in it are still taken. */
void listeners_refuse(void);
/* Takes what the kernel has queued, then closes the sockets. */
void listeners_stop(void);
/* Clients whose connections are open: before login, joined, in a mail dialogue. */
int64_t listeners_connections(void);
/* All of the steps at once, and the end of the counting. */
void listeners_close(void);
/* After the loops have ended. */
void listeners_free(void);
