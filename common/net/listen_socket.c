#include "common/net/listen_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

int listen_socket_fail(struct buf *why, const struct addr *addr, const char *what)
{
	char text[ADDR_TEXT_MAX];
	int code = errno;

	buf_printf(why, "%s: %s: %s", addr_text(addr, text), what, strerror(code));
	return error_from_errno(code);
}

bool listen_socket_is_unix(const struct addr *addr)
{
	return addr->ss.ss_family == AF_UNIX;
}

/* A socket file that nobody listens on any more is in the way after a crash. */
static void remove_stale_socket(const struct addr *addr)
{
	const char *path = ((const struct sockaddr_un *)&addr->ss)->sun_path;
	struct stat st;
	int fd;

	if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr->ss, addr->len) != 0 &&
		errno == ECONNREFUSED)
		unlink(path);
	if (fd >= 0)
		close(fd);
}

static void set_tcp_options(int fd, const struct addr *addr)
{
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (addr->ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
}

static int bind_unix(int fd, const struct addr *addr, int mode, struct buf *why)
{
	remove_stale_socket(addr);
	/* The mode of the descriptor is that of the file made by bind(2): there is no moment of wider access.
	 */
	if (fchmod(fd, (mode_t)mode) != 0)
		return listen_socket_fail(why, addr, "cannot set the mode");
	if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len) != 0)
		return listen_socket_fail(why, addr, "cannot bind");
	if (chmod(((const struct sockaddr_un *)&addr->ss)->sun_path, (mode_t)mode) != 0)
		return listen_socket_fail(why, addr, "cannot set the mode");
	return 0;
}

/*
 * The first socket of an address is bound without SO_REUSEPORT, so that an address at which anybody listens already
 * is refused; then it shares with those of the other loops.
 */
static int bind_tcp(int fd, const struct addr *addr, bool is_first, struct buf *why)
{
	int one = 1;

	set_tcp_options(fd, addr);
	if (!is_first)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len) != 0)
		return listen_socket_fail(why, addr, "cannot bind");
	if (is_first)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	return 0;
}

int listen_socket_open(
	const struct addr *addr, int unix_mode, unsigned backlog, bool is_first, struct buf *why, int *fd_out)
{
	int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return listen_socket_fail(why, addr, "cannot open a socket");
	if (listen_socket_is_unix(addr)) {
		rc = bind_unix(fd, addr, unix_mode ? unix_mode : 0600, why);
	} else {
		rc = bind_tcp(fd, addr, is_first, why);
	}
	if (rc == 0 && listen(fd, backlog ? (int)backlog : BACKLOG) != 0)
		rc = listen_socket_fail(why, addr, "cannot listen");
	if (rc) {
		close(fd);
		return rc;
	}
	*fd_out = fd;
	return 0;
}
