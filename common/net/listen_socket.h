/*
 * Makes the sockets of listeners: options, modes of unix sockets, stale files. Any thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/net/addr.h"

/*
 * A listening socket, not blocking; the caller closes it. unix_mode 0: 0600; backlog 0: 1024. is_first: refuse an address at which
 * anybody listens already; later ones share it. Reasons in why; an error of error_from_errno().
 */
MUST_CHECK int listen_socket_open(const struct addr *addr, int unix_mode, unsigned backlog, bool is_first,
	struct buf *why, int *fd_out);
bool listen_socket_is_unix(const struct addr *addr);
/* Writes what could not be done, and errno's reason; errno as an error. */
int listen_socket_fail(struct buf *why, const struct addr *addr, const char *what);
