/*
 * Listening sockets that the program before this one has handed over (common/control/handover.h): kept here until a listener of the
 * same address opens and takes them. The very sockets are passed, so what waits in their queues is accepted by us.
 *
 * A socket is named by its address, which the kernel tells. Main thread, before loops run and while listeners are opened.
 */
#pragma once

#include <stddef.h>

#include "common/net/addr.h"

/* Keeps a listening socket. One that is none, or whose address cannot be told, is closed: ERR_SYNTAX. */
MUST_CHECK int inherit_add_take(int fd);
/* How many of this address are there. */
unsigned inherit_count(const struct addr *addr);
/* Gives one of this address to the caller, or -1. */
int inherit_take_give(const struct addr *addr);
/* The address of the i-th that nobody has taken, or NULL. */
const struct addr *inherit_rest(size_t i);
/* Closes what nobody has taken. */
void inherit_close(void);
