/*
 * Connections. The socket stands edge-triggered in the loop's epoll set, for input alone until a send was short for the
 * first time; sock_in and sock_out remember what the edges said, so that nothing is tried twice in vain. A read shorter
 * than asked for has emptied the socket.
 *
 *	socket -> loop's scratch -> owner's callback -> what he left over: in
 *	owner's writes -> out -> socket, at the end of the callback or turn
 *
 * Invariants: `view` and `in` are never both filled; events come from work() alone, never from within a call of the
 * owner; after an event the connection may be closed (phase) or be the relay's (is_raw), and work() ends.
 */
#include "common/net/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"
#include "common/net/relay.h"

#define LINGER_MS 5000
/* Descriptors that come with one read; the kernel drops more. */
#define PASSED_MOST 4
#define READ_A_TURN LOOP_SCRATCH_SIZE
#define DROPPED_MOST (1024 * 1024) /* unread input that is thrown away before closing */
#define IN_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

struct conn_linger {
	struct timer timer;
	struct conn *conn;
};

/* ---- the stream ---- */

static void keep_fd(struct conn *c, int fd)
{
	if (c->passed_fd >= 0)
		close(c->passed_fd);
	c->passed_fd = fd;
}

/* recv() that also takes descriptors. */
static ssize_t recv_with_fds(struct conn *c, char *p, size_t size)
{
	union {
		char bytes[CMSG_SPACE(PASSED_MOST * sizeof(int))];
		struct cmsghdr align;
	} room;
	struct iovec iov = {p, size};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes)};
	ssize_t n = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return n;
	for (struct cmsghdr *m = CMSG_FIRSTHDR(&message); m; m = CMSG_NXTHDR(&message, m)) {
		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= m->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(m) + at, sizeof(fd));
			keep_fd(c, fd);
		}
	}
	return n;
}

void conn_take_fds(struct conn *c)
{
	c->takes_fds = true;
	c->passed_fd = -1;
}

int conn_passed_fd(struct conn *c)
{
	int fd = c->takes_fds ? c->passed_fd : -1;

	c->passed_fd = -1;
	return fd;
}

ssize_t conn_sock_recv(struct conn *c, char *p, size_t size)
{
	ssize_t n;

	do
		n = c->takes_fds ? recv_with_fds(c, p, size) : recv(c->fd, p, size, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		c->sock_in = false;
		return ERR_MORE;
	}
	if (n < 0)
		return error_from_errno(errno);
	/* A read also ends where descriptors went along: more may wait behind. */
	if ((size_t)n < size && n > 0 && !c->sock_hup && !c->takes_fds)
		c->sock_in = false;
	return n;
}

ssize_t conn_sock_send(struct conn *c, const char *p, size_t len)
{
	ssize_t n;

	do
		n = send(c->fd, p, len, MSG_NOSIGNAL | (c->sends_more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		return error_from_errno(errno);
	if (n < (ssize_t)len)
		conn_want_out(c);
	return n < 0 ? ERR_MORE : n;
}

void conn_want_out(struct conn *c)
{
	c->sock_out = false;
	if (c->has_out_interest)
		return;
	c->has_out_interest = true;
	loop_io_change(c->loop, c->fd, IN_EVENTS | EPOLLOUT, &c->io);
}

ssize_t conn_stream_read(struct conn *c, char *p, size_t size)
{
	ssize_t n;

	if (c->ssl) {
		n = conn_tls_read(c, p, size);
	} else {
		n = c->sock_in ? conn_sock_recv(c, p, size) : ERR_MORE;
		c->readable = c->sock_in;
		if (n < 0 && n != ERR_MORE)
			conn_fail(c, (int)n, "reading failed");
	}
	if (n > 0)
		c->bytes_in += (uint64_t)n;
	return n;
}

ssize_t conn_stream_write(struct conn *c, const char *p, size_t len)
{
	ssize_t n;

	if (!c->sock_out)
		return ERR_MORE;
	if (c->ssl && c->phase != CONN_CLEAR_FIRST) {
		n = conn_tls_write(c, p, len);
	} else {
		n = conn_sock_send(c, p, len);
		if (n < 0 && n != ERR_MORE)
			conn_fail_output(c, (int)n);
	}
	if (n > 0)
		c->bytes_out += (uint64_t)n;
	return n;
}

/* ---- life ---- */

static void on_io(struct loop_io *io, uint32_t events);

struct conn *conn_new(struct loop *loop, conn_fn *fn, void *owner)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->io.fn = on_io;
	c->loop = loop;
	c->fn = fn;
	c->owner = owner;
	c->fd = -1;
	c->phase = CONN_OPEN;
	c->input_limit = CONN_INPUT_LIMIT;
	c->high = CONN_HIGH_MARK;
	c->low = CONN_LOW_MARK;
	list_init(&c->todo);
	list_add_last(&loop->conns, &c->link);
	return c;
}

int conn_attach(struct conn *c, int fd, uint32_t extra_events)
{
	int rc = loop_io_start(c->loop, fd, IN_EVENTS | extra_events, &c->io);

	if (rc)
		return rc;
	c->fd = fd;
	c->has_out_interest = extra_events & EPOLLOUT;
	return 0;
}

static void remember_peer(struct conn *c, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

	c->peer.family = ss->ss_family;
	if (ss->ss_family == AF_INET) {
		c->peer.port = in->sin_port;
		memcpy(c->peer.ip, &in->sin_addr, 4);
	} else if (ss->ss_family == AF_INET6) {
		c->peer.port = in6->sin6_port;
		memcpy(c->peer.ip, &in6->sin6_addr, 16);
	}
}

int conn_open_accepted(struct loop *loop, int fd, struct tls *tls, const struct sockaddr_storage *peer,
	conn_fn *fn, void *owner, struct conn **conn_out)
{
	struct conn *c = conn_new(loop, fn, owner);
	int rc = conn_attach(c, fd, 0);

	if (rc == 0 && tls)
		rc = conn_tls_start(c, tls, NULL);
	if (rc) {
		c->fd = -1; /* the caller keeps it on failure */
		conn_destroy(c);
		return rc;
	}
	if (tls)
		c->phase = CONN_HANDSHAKE;
	if (peer)
		remember_peer(c, peer);
	c->sock_out = true;
	*conn_out = c;
	return 0;
}

int conn_open_fd(struct loop *loop, int fd, struct tls *tls, conn_fn *fn, void *owner, struct conn **conn_out)
{
	int one = 1;
	int rc;

	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		rc = error_from_errno(errno);
		close(fd);
		return rc;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on unix sockets, rightly */
	rc = conn_open_accepted(loop, fd, tls, NULL, fn, owner, conn_out);
	if (rc)
		close(fd);
	return rc;
}

void conn_destroy(struct conn *c)
{
	if (c->phase == CONN_LINGERING) {
		timer_stop(&c->linger->timer);
		loop_free_later(c->loop, c->linger);
	} else if (c->dial) {
		dial_done(c);
	}
	if (c->ssl) {
		if (c->phase == CONN_OPEN || c->phase == CONN_LINGERING)
			conn_tls_shutdown(c);
		conn_tls_free(c);
	}
	c->phase = CONN_CLOSED;
	/* Not by close(2) alone: a program that is being started (a hand-over) may have a copy of the descriptor for a moment, and
	 * then events would still come, for memory that is gone. */
	loop_io_stop(c->loop, c->fd, &c->io);
	if (c->fd >= 0)
		close(c->fd);
	if (c->takes_fds)
		keep_fd(c, -1);
	c->fd = -1;
	if (c->listener)
		listener_gone(c->listener, c);
	buf_deinit(&c->in);
	buf_deinit(&c->out);
	conn_deflate_free(c);
	conn_names_free(&c->names);
	conn_told_free(c);
	list_remove(&c->todo);
	list_remove(&c->link);
	loop_free_later(c->loop, c);
}

static void drop_output(struct conn *c)
{
	buf_deinit(&c->out);
	conn_deflate_drop(c);
}

static bool has_output(const struct conn *c)
{
	return buf_len(&c->out) || conn_deflate_waiting(c);
}

void conn_fail(struct conn *c, int error, const char *detail)
{
	if (c->phase >= CONN_BROKEN) {
		if (c->phase == CONN_LINGERING)
			drop_output(c);
		return;
	}
	if (c->dial)
		dial_done(c);
	c->phase = CONN_BROKEN;
	c->error = (int16_t)error;
	c->error_detail = detail;
	c->failure_due = true;
	drop_output(c);
	conn_schedule(c);
}

void conn_fail_output(struct conn *c, int error)
{
	if (!c->is_raw) {
		conn_fail(c, error, "writing failed");
		return;
	}
	c->is_out_broken = true;
	c->sock_out = false;
	c->error = (int16_t)error;
	buf_deinit(&c->out);
}

void conn_schedule(struct conn *c)
{
	if (list_is_empty(&c->todo))
		list_add_last(&c->loop->todo, &c->todo);
}

void conn_schedule_again(struct conn *c)
{
	if (list_is_empty(&c->todo))
		list_add_last(&c->loop->again, &c->todo);
}

void conn_abort_all(struct loop *loop)
{
	list_for_each_safe (at, &loop->conns) {
		struct conn *c = container_of(at, struct conn, link);

		if (c->is_raw)
			relay_stop(c->owner);
	}
	list_for_each_safe (at, &loop->conns) {
		struct conn *c = container_of(at, struct conn, link);

		if (!c->is_raw)
			conn_destroy(c);
	}
}

/* ---- work ---- */

/* Tells the owner; true if the connection is still his and alive. */
static bool emit(struct conn *c, enum conn_event event)
{
	conn_fn *fn = c->fn;

	if (fn)
		fn(c->owner, c, event);
	return c->phase < CONN_LINGERING && !c->is_raw;
}

void conn_finish_output(struct conn *c)
{
	if (!c->wants_shutdown || c->has_shutdown || c->phase != CONN_OPEN)
		return;
	c->has_shutdown = true;
	if (c->ssl)
		conn_tls_shutdown(c);
	shutdown(c->fd, SHUT_WR);
}

bool conn_send_output(struct conn *c)
{
	/* TLS's close_notify goes out in the same packet as the last words. */
	c->sends_more = c->ssl && (c->wants_shutdown || c->is_closing);
	while (has_output(c) && (c->phase == CONN_OPEN || c->phase == CONN_LINGERING)) {
		struct buf *from = c->deflate ? conn_deflate_fill(c) : &c->out;
		struct slice s = buf_view(from);
		ssize_t n = conn_stream_write(c, s.p, s.len);

		if (n < 0)
			break;
		buf_take(from, (size_t)n);
	}
	c->sends_more = false;
	if (has_output(c))
		return false;
	drop_output(c);
	conn_finish_output(c);
	return true;
}

/* Output of before STARTTLS. */
static void send_clear(struct conn *c)
{
	while (c->clear_left) {
		ssize_t n = conn_stream_write(c, buf_view(&c->out).p, c->clear_left);

		if (n < 0)
			return;
		buf_take(&c->out, (size_t)n);
		c->clear_left -= (uint32_t)n;
	}
	c->phase = CONN_HANDSHAKE;
}

/* True when the connection is open for its owner. */
static bool work_before_open(struct conn *c)
{
	if (c->phase == CONN_CLEAR_FIRST)
		send_clear(c);
	if (c->phase != CONN_HANDSHAKE || conn_tls_handshake(c) != 0)
		return c->phase == CONN_BROKEN;
	c->phase = CONN_OPEN;
	c->readable = true; /* TLS may have read ahead */
	if (c->dial)
		dial_done(c);
	return emit(c, c->is_starttls ? CONN_SECURED : CONN_OPENED);
}

void conn_keep_input(struct conn *c)
{
	if (c->view.len) {
		struct slice s = c->view;

		c->view = slice_of(NULL, 0);
		buf_add_slice(&c->in, s);
	}
}

/* Reads once; false when there is nothing more to do now. */
static bool read_once(struct conn *c, size_t *total)
{
	size_t held = buf_len(&c->in);
	size_t room = held < c->input_limit ? c->input_limit - held : 0;
	ssize_t n;

	if (!c->readable || c->is_paused || c->has_eof || c->phase != CONN_OPEN || room == 0)
		return false;
	if (*total >= READ_A_TURN) {
		conn_schedule_again(c);
		return false;
	}
	if (room > LOOP_SCRATCH_SIZE)
		room = LOOP_SCRATCH_SIZE;
	n = c->deflate ? conn_inflate_read(c, c->loop->scratch, room)
		       : conn_stream_read(c, c->loop->scratch, room);
	if (n < 0)
		return false;
	if (n == 0) {
		c->has_eof = true;
		emit(c, CONN_EOF);
		return false;
	}
	*total += (size_t)n;
	if (held)
		buf_add(&c->in, c->loop->scratch, (size_t)n);
	else
		c->view = slice_of(c->loop->scratch, (size_t)n);
	c->data_due = false;
	if (!emit(c, CONN_DATA))
		return false;
	conn_keep_input(c);
	return true;
}

static bool tell_drained(struct conn *c)
{
	if (!(c->was_high || c->wants_drained) || buf_len(&c->out) > c->low || c->phase != CONN_OPEN)
		return true;
	c->was_high = c->wants_drained = false;
	return emit(c, CONN_DRAINED);
}

static bool tell_data(struct conn *c)
{
	if (!c->data_due || c->is_paused || c->phase != CONN_OPEN)
		return true;
	c->data_due = false;
	return conn_input(c).len == 0 || emit(c, CONN_DATA);
}

static bool tell_failure(struct conn *c)
{
	if (!c->failure_due)
		return true;
	c->failure_due = false;
	return emit(c, CONN_FAILED);
}

static void work_open(struct conn *c)
{
	size_t total = 0;

	if (c->phase < CONN_OPEN && !work_before_open(c))
		return;
	conn_send_output(c);
	if (!tell_drained(c) || !tell_data(c))
		return;
	while (read_once(c, &total))
		;
	if (c->phase >= CONN_LINGERING || c->is_raw)
		return;
	conn_send_output(c);
	if (!tell_drained(c))
		return;
	tell_failure(c);
}

static void work(struct conn *c)
{
	if (c->phase == CONN_LINGERING) {
		conn_send_output(c);
		if (!has_output(c) || c->is_out_broken)
			conn_destroy(c);
		return;
	}
	if (c->phase == CONN_DIALING || c->phase == CONN_CLOSED)
		return;
	if (c->phase == CONN_HEADER) {
		conn_told_work(c);
		return;
	}
	c->in_work = true;
	work_open(c);
	c->in_work = false;
	/* What the last event's owner wrote. */
	if (c->phase == CONN_OPEN && !c->is_raw && has_output(c) && c->sock_out)
		conn_schedule(c);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct conn *c = container_of(io, struct conn, io);

	if (c->phase == CONN_DIALING) {
		dial_on_io(c, events);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->sock_in = c->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->sock_hup = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		c->sock_out = true;
		if (c->ssl)
			c->readable = true; /* TLS may have had to write in order to read */
	}
	if (c->is_raw)
		c->raw(c->owner, c);
	else
		work(c);
}

void conn_todo(struct list *link)
{
	struct conn *c = container_of(link, struct conn, todo);

	if (c->is_raw)
		c->raw(c->owner, c);
	else
		work(c);
}

void conn_connected(struct conn *c, struct tls *tls, const char *server_name)
{
	c->sock_out = true;
	c->phase = CONN_OPEN;
	if (tls) {
		int rc = conn_tls_start(c, tls, server_name);

		if (rc) {
			conn_fail(c, rc, "TLS could not be started");
			return;
		}
		c->phase = CONN_HANDSHAKE;
		work(c);
		return;
	}
	dial_done(c);
	c->in_work = true;
	if (emit(c, CONN_OPENED)) {
		c->in_work = false;
		work(c);
	}
	c->in_work = false;
}

/* ---- the owner's calls ---- */

void conn_set_owner(struct conn *c, conn_fn *fn, void *owner)
{
	c->fn = fn;
	c->owner = owner;
}

void conn_set_raw(struct conn *c, conn_raw_fn *raw, void *owner)
{
	conn_keep_input(c);
	c->is_raw = true;
	c->raw = raw;
	c->owner = owner;
}

void conn_set_input_limit(struct conn *c, size_t bytes)
{
	c->input_limit = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
	if (c->readable)
		conn_schedule(c);
}

void conn_set_marks(struct conn *c, size_t high, size_t low)
{
	c->high = high < UINT32_MAX ? (uint32_t)high : UINT32_MAX;
	c->low = low < UINT32_MAX ? (uint32_t)low : UINT32_MAX;
}

struct slice conn_input(struct conn *c)
{
	return c->view.len ? c->view : buf_view(&c->in);
}

void conn_consume(struct conn *c, size_t n)
{
	if (c->view.len) {
		c->view = slice_from(c->view, n);
	} else {
		buf_take(&c->in, n);
		if (buf_len(&c->in) == 0)
			buf_deinit(&c->in);
	}
	if (c->readable && !c->in_work && !c->is_paused)
		conn_schedule(c);
}

void conn_pause(struct conn *c)
{
	c->is_paused = true;
}

void conn_resume(struct conn *c)
{
	if (!c->is_paused)
		return;
	c->is_paused = false;
	c->data_due = conn_input(c).len > 0;
	conn_schedule(c);
}

void conn_written(struct conn *c)
{
	if (c->phase >= CONN_BROKEN || c->has_shutdown) {
		buf_deinit(&c->out);
		return;
	}
	if (buf_len(&c->out) > c->high)
		c->was_high = true;
	if (!c->in_work && buf_len(&c->out) && c->sock_out)
		conn_schedule(c);
}

void conn_write(struct conn *c, struct slice bytes)
{
	if (c->phase >= CONN_BROKEN || c->wants_shutdown)
		return;
	buf_add_slice(&c->out, bytes);
	conn_written(c);
}

void conn_write_str(struct conn *c, const char *text)
{
	conn_write(c, slice_str(text));
}

void conn_printf(struct conn *c, const char *format, ...)
{
	va_list args;

	if (c->phase >= CONN_BROKEN || c->wants_shutdown)
		return;
	va_start(args, format);
	buf_vprintf(&c->out, format, args);
	va_end(args);
	conn_written(c);
}

struct buf *conn_output(struct conn *c)
{
	return &c->out;
}

void conn_write_take(struct conn *c, struct buf *b)
{
	if (buf_len(&c->out) == 0 && c->phase < CONN_BROKEN && !c->wants_shutdown && !b->failed) {
		size_t limit = b->limit;

		buf_deinit(&c->out);
		c->out = *b;
		c->out.limit = 0;
		buf_init(b, limit);
		conn_written(c);
		return;
	}
	conn_write(c, buf_view(b));
	buf_deinit(b);
}

size_t conn_output_len(const struct conn *c)
{
	return buf_len(&c->out);
}

bool conn_is_congested(const struct conn *c)
{
	return buf_len(&c->out) > c->high;
}

void conn_want_drained(struct conn *c)
{
	c->wants_drained = true;
	conn_schedule(c);
}

void conn_flush(struct conn *c)
{
	if (c->phase == CONN_OPEN)
		conn_send_output(c);
	if (c->was_high && buf_len(&c->out) <= c->low)
		conn_schedule(c);
}

static int start_tls(struct conn *c, struct tls *tls, const char *server_name)
{
	int rc;

	if (conn_input(c).len)
		return ERR_DENIED;
	if (c->phase != CONN_OPEN || c->ssl)
		return c->phase == CONN_BROKEN ? c->error : ERR_UNSUPPORTED;
	rc = conn_tls_start(c, tls, server_name);
	if (rc)
		return rc;
	c->is_starttls = true;
	c->data_due = false;
	c->clear_left = (uint32_t)buf_len(&c->out);
	c->phase = CONN_CLEAR_FIRST;
	conn_schedule(c);
	return 0;
}

int conn_start_tls_server(struct conn *c, struct tls *tls)
{
	return start_tls(c, tls, NULL);
}

int conn_start_tls_client(struct conn *c, struct tls *tls, const char *server_name)
{
	return start_tls(c, tls, server_name);
}

bool conn_is_tls(const struct conn *c)
{
	return c->ssl != NULL;
}

bool conn_is_secure(const struct conn *c)
{
	return c->ssl || (c->told && c->told->is_secure);
}

const char *conn_authority(const struct conn *c)
{
	const char *name = c->ssl ? SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name) : NULL;

	if (!name && c->told)
		name = c->told->authority;
	return name ? name : "";
}

const char *conn_unique_id(const struct conn *c)
{
	return c->told && c->told->unique_id ? c->told->unique_id : "";
}

const char *conn_tls_text(const struct conn *c)
{
	return c->ssl ? conn_tls_name(c, c->loop->text_view, sizeof(c->loop->text_view)) : NULL;
}

/* A place for an address that lives until seven more have been asked for on this loop. */
static struct addr *addr_view(struct loop *loop)
{
	struct addr *a = &loop->addr_views[loop->addr_next++ % LOOP_ADDR_VIEWS];

	*a = (struct addr){0};
	return a;
}

static void expand_peer(const struct conn_addr *peer, struct addr *a)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&a->ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->ss;

	a->ss.ss_family = peer->family;
	if (peer->family == AF_INET) {
		a->len = sizeof(*in);
		in->sin_port = peer->port;
		memcpy(&in->sin_addr, peer->ip, 4);
	} else if (peer->family == AF_INET6) {
		a->len = sizeof(*in6);
		in6->sin6_port = peer->port;
		memcpy(&in6->sin6_addr, peer->ip, 16);
	} else {
		a->len = sizeof(sa_family_t);
	}
}

const struct addr *conn_peer(const struct conn *c)
{
	struct addr *a = addr_view(c->loop);

	if (c->peer.family) {
		expand_peer(&c->peer, a);
		return a;
	}
	a->len = sizeof(a->ss);
	if (c->fd < 0 || getpeername(c->fd, (struct sockaddr *)&a->ss, &a->len) != 0) {
		a->len = 0;
		return a;
	}
	remember_peer((struct conn *)c, &a->ss);
	return a;
}

const struct addr *conn_raw_peer(const struct conn *c)
{
	struct addr *a;

	if (!c->told || !c->told->raw_peer.family)
		return conn_peer(c);
	a = addr_view(c->loop);
	expand_peer(&c->told->raw_peer, a);
	return a;
}

const struct addr *conn_local(const struct conn *c)
{
	struct addr *a = addr_view(c->loop);

	if (c->told && c->told->local.family) {
		expand_peer(&c->told->local, a);
		return a;
	}
	a->len = sizeof(a->ss);
	if (c->fd < 0 || getsockname(c->fd, (struct sockaddr *)&a->ss, &a->len) != 0)
		a->len = 0;
	return a;
}

struct loop *conn_loop(const struct conn *c)
{
	return c->loop;
}

int conn_error(const struct conn *c)
{
	return c->error;
}

const char *conn_error_detail(const struct conn *c)
{
	return c->error_detail ? c->error_detail : error_text(c->error);
}

uint64_t conn_bytes_in(const struct conn *c)
{
	return c->bytes_in;
}

uint64_t conn_bytes_out(const struct conn *c)
{
	return c->bytes_out;
}

void conn_shutdown(struct conn *c)
{
	if (c->phase >= CONN_BROKEN)
		return;
	c->wants_shutdown = true;
	conn_schedule(c);
}

static void on_linger_over(void *arg)
{
	struct conn_linger *linger = arg;

	conn_destroy(linger->conn);
}

static void linger(struct conn *c)
{
	struct conn_linger *l = xmalloc(sizeof(*l));

	l->conn = c;
	timer_init(&l->timer, on_linger_over, l);
	timer_set(&l->timer, c->loop, LINGER_MS);
	c->linger = l;
	c->phase = CONN_LINGERING;
}

/*
 * close(2) on a TCP socket with unread input sends RST, which would destroy our last words on their way.
 * MSG_TRUNC throws the input away without a buffer: the loop's scratch may hold what another connection's
 * owner is just looking at.
 */
static void drop_unread(struct conn *c)
{
	if (c->fd >= 0 && c->sock_in && !c->sock_hup && c->bytes_out)
		(void)!recv(c->fd, NULL, DROPPED_MOST, MSG_DONTWAIT | MSG_TRUNC);
}

void conn_close(struct conn **conn)
{
	struct conn *c = *conn;

	if (!c)
		return;
	*conn = NULL;
	c->fn = NULL;
	c->is_raw = false;
	c->is_closing = true;
	if (c->phase == CONN_CLEAR_FIRST)
		send_clear(c);
	if (c->phase == CONN_OPEN && !conn_send_output(c) && c->phase == CONN_OPEN && !c->is_out_broken) {
		linger(c);
		return;
	}
	drop_unread(c);
	conn_destroy(c);
}

void conn_abort(struct conn **conn)
{
	struct conn *c = *conn;

	if (!c)
		return;
	*conn = NULL;
	if (c->phase == CONN_OPEN)
		c->phase = CONN_BROKEN; /* no close_notify: the stream ends cut off */
	conn_destroy(c);
}
