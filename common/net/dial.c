/*
 * Dialling: resolve, then one address after the other, each with its share of the time that is left, then
 * TLS. The struct hangs on its connection until that is open; closing the connection cancels whatever is
 * under way.
 */
#include "common/net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/conn_private.h"
#include "common/net/resolve.h"

struct dial {
	struct conn *conn;
	struct timer timer;
	uint64_t deadline_ms;
	struct resolve_request *request;
	struct tls *tls;
	char *server_name;
	struct addr *sources;
	unsigned source_count, source_first;
	struct buf prefix;
	int error; /* of the last address tried */
	const char *detail;
	unsigned at, count;
	struct addr addrs[];
};

static void try_next(struct dial *d);

void dial_done(struct conn *c)
{
	struct dial *d = c->dial;

	c->dial = NULL;
	timer_stop(&d->timer);
	resolve_cancel(&d->request);
	tls_unref(&d->tls);
	free(d->server_name);
	free(d->sources);
	buf_deinit(&d->prefix);
	d->conn = NULL;
	loop_free_later(c->loop, d);
}

static void drop_socket(struct conn *c)
{
	loop_io_fn *fn = c->io.fn;

	/* As conn_close() does; the next address is tried with the same struct. */
	loop_io_stop(c->loop, c->fd, &c->io);
	c->io.fn = fn;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void note_failure(struct dial *d, int code)
{
	d->error = error_from_errno(code);
	d->detail = strerrordesc_np(code);
}

/* source NULL: any. The port is chosen when connecting: so one that is in use towards another peer may serve again. */
static int open_socket(const struct addr *addr, const struct addr *source)
{
	int one = 1;
	int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (addr->ss.ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!source)
		return fd;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&source->ss, source->len) != 0) {
		int code = errno;

		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

/* A socket that connects or has; -1 and errno. */
static int connect_from(const struct addr *addr, const struct addr *source)
{
	int fd = open_socket(addr, source);
	int code;

	if (fd < 0)
		return -1;
	/* EAGAIN: the queue of a unix socket is full. */
	if (connect(fd, (const struct sockaddr *)&addr->ss, addr->len) == 0 || errno == EINPROGRESS)
		return fd;
	code = errno;
	close(fd);
	errno = code;
	return -1;
}

/* From the first source address that has a port left. */
static int connect_to(const struct dial *d, const struct addr *addr)
{
	bool is_bound = false;

	for (unsigned i = 0; i < d->source_count; i++) {
		const struct addr *source = &d->sources[(d->source_first + i) % d->source_count];
		int fd;

		if (source->ss.ss_family != addr->ss.ss_family)
			continue;
		is_bound = true;
		fd = connect_from(addr, source);
		if (fd >= 0 || errno != EADDRNOTAVAIL)
			return fd;
	}
	return is_bound ? -1 : connect_from(addr, NULL);
}

/* A socket that has just connected takes so little whole, or is of no use. */
static bool send_prefix(struct dial *d)
{
	struct slice prefix = buf_view(&d->prefix);

	return prefix.len == 0 ||
	       send(d->conn->fd, prefix.p, prefix.len, MSG_NOSIGNAL) == (ssize_t)prefix.len;
}

static void connected(struct dial *d)
{
	struct conn *c = d->conn;

	if (d->tls) { /* the timer goes on for the handshake, the rest of the time is its */
		uint64_t now = clock_mono_ms();

		timer_set(&d->timer, c->loop, d->deadline_ms > now ? d->deadline_ms - now : 0);
	}
	conn_connected(c, d->tls, d->server_name);
}

void dial_on_io(struct conn *c, uint32_t events)
{
	struct dial *d = c->dial;
	int code = 0;
	socklen_t len = sizeof(code);

	if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		return;
	if (events & (EPOLLERR | EPOLLHUP) && getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len) != 0)
		code = errno;
	if (code) {
		note_failure(d, code);
		drop_socket(c);
		try_next(d);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
		c->sock_in = c->readable = true;
	c->sock_hup = events & (EPOLLRDHUP | EPOLLHUP);
	if (!send_prefix(d)) {
		note_failure(d, errno);
		drop_socket(c);
		try_next(d);
		return;
	}
	connected(d);
}

/* Starts connecting to one address; false when it cannot even begin. */
static bool try_address(struct dial *d, const struct addr *addr)
{
	struct conn *c = d->conn;
	int fd = connect_to(d, addr);
	int rc;

	if (fd < 0) {
		note_failure(d, errno);
		return false;
	}
	rc = conn_attach(c, fd, EPOLLOUT);
	if (rc) {
		d->error = rc;
		close(fd);
		return false;
	}
	c->sock_out = false;
	return true;
}

static void try_next(struct dial *d)
{
	struct loop *loop = d->conn->loop;
	uint64_t now = clock_mono_ms();
	uint64_t left = d->deadline_ms > now ? d->deadline_ms - now : 0;

	while (d->at < d->count && left) {
		const struct addr *addr = &d->addrs[d->at++];

		if (try_address(d, addr)) {
			timer_set(&d->timer, loop, left / (d->count - d->at + 1));
			return;
		}
	}
	conn_fail(d->conn, d->error, d->detail);
}

static void on_time(void *arg)
{
	struct dial *d = arg;
	struct conn *c = d->conn;

	d->error = ERR_TIMEOUT;
	d->detail = "connecting took too long";
	if (c->phase == CONN_DIALING && d->at < d->count) {
		drop_socket(c);
		try_next(d);
		return;
	}
	conn_fail(c, ERR_TIMEOUT,
		c->phase == CONN_DIALING ? "connecting took too long" : "the TLS handshake took too long");
}

static void on_resolved(void *arg, int error, const struct addr *addrs, unsigned count)
{
	struct dial *d = arg;

	d->request = NULL;
	if (error) {
		conn_fail(d->conn, error, "the name could not be resolved");
		return;
	}
	d->count = count < RESOLVE_ADDRS_MOST ? count : RESOLVE_ADDRS_MOST;
	memcpy(d->addrs, addrs, d->count * sizeof(*addrs));
	try_next(d);
}

static struct dial *dial_new(struct conn *c, const struct dial_options *options, unsigned addrs_most)
{
	struct dial *d = xcalloc(1, sizeof(*d) + addrs_most * sizeof(d->addrs[0]));

	d->conn = c;
	d->error = ERR_NOT_NOW;
	d->deadline_ms = clock_mono_ms() + options->timeout_ms;
	d->tls = tls_ref(options->tls);
	d->server_name = xstrdup(options->server_name ? options->server_name : options->host);
	d->source_count = options->source_count;
	d->source_first = options->source_first;
	if (d->source_count) {
		d->sources = xcalloc(d->source_count, sizeof(*d->sources));
		memcpy(d->sources, options->sources, d->source_count * sizeof(*d->sources));
	}
	buf_add_slice(&d->prefix, options->prefix);
	timer_init(&d->timer, on_time, d);
	c->dial = d;
	c->phase = CONN_DIALING;
	return d;
}

int dial(struct loop *loop, const struct dial_options *options, conn_fn *fn, void *owner,
	struct conn **conn_out)
{
	struct addr addr = {0};
	bool is_literal = addr_parse(slice_str(options->host), options->port, &addr) == 0;
	struct conn *c;
	struct dial *d;
	int rc;

	if (options->source_count > DIAL_SOURCES_MOST || options->prefix.len > DIAL_PREFIX_MOST)
		return ERR_TOO_BIG;
	c = conn_new(loop, fn, owner);
	d = dial_new(c, options, is_literal ? 1 : RESOLVE_ADDRS_MOST);
	if (is_literal) {
		d->addrs[0] = addr;
		d->count = 1;
		try_next(d); /* tells nothing before the turn's end */
	} else {
		rc = resolve_addrs(
			loop, options->host, options->port, options->timeout_ms, on_resolved, d, &d->request);
		if (rc) {
			conn_destroy(c);
			return rc;
		}
	}
	*conn_out = c;
	return 0;
}
