/*
 * The listeners of the configuration, opened on all loops. A new connection goes to the front of its service as the configuration of
 * its loop has it now. Main thread, but for the accepting.
 */
#pragma once

#include "proxy/config.h"

/* Opens all addresses of all sections `listener`; on failure none stays open. why: for the operator. */
MUST_CHECK int listeners_open(struct loop_group *group, const struct config *config, struct buf *why);
/* New connections use the certificates of this configuration. */
void listeners_set_config(const struct config *config);
/* Takes what the kernel has queued, then closes. */
void listeners_close(void);
