/*
 * The PROXY header of an accepted connection. It is looked at in the socket (MSG_PEEK) and then taken to its last octet and no
 * further, since what follows may be TLS. Until it is whole nobody but the listener knows of the connection.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"
#include "common/proto/proxy_protocol.h"

#define UNIQUE_ID_MOST 64

static void on_time(void *arg)
{
	struct conn_told *t = arg;

	t->done(t->conn, ERR_TIMEOUT);
}

void conn_told_begin(struct conn *c, uint64_t timeout_ms, struct tls *tls, conn_told_fn *done)
{
	struct conn_told *t = xcalloc(1, sizeof(*t));

	t->conn = c;
	t->done = done;
	t->tls = tls_ref(tls);
	t->raw_peer = c->peer;
	timer_init(&t->timer, on_time, t);
	timer_set(&t->timer, c->loop, timeout_ms);
	c->told = t;
	c->phase = CONN_HEADER;
}

void conn_told_free(struct conn *c)
{
	struct conn_told *t = c->told;

	if (!t)
		return;
	c->told = NULL;
	timer_stop(&t->timer);
	tls_unref(&t->tls);
	free(t->name);
	free(t->authority);
	free(t->unique_id);
	loop_free_later(c->loop, t);
}

static void set_addr(struct conn_addr *a, enum proxy_protocol_family family, const uint8_t *ip, uint16_t port)
{
	*a = (struct conn_addr){0};
	a->family = family == PROXY_PROTOCOL_TCP4 ? AF_INET : AF_INET6;
	a->port = htons(port);
	memcpy(a->ip, ip, family == PROXY_PROTOCOL_TCP4 ? 4 : 16);
}

static char *copy_text(struct slice s)
{
	return s.len ? slice_copy_str(s) : NULL;
}

/* It goes into log lines and to other servers. */
static char *copy_unique_id(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return NULL;
	return s.len <= UNIQUE_ID_MOST ? copy_text(s) : NULL;
}

static void keep(struct conn *c, const struct proxy_protocol *h)
{
	struct conn_told *t = c->told;

	if (h->family != PROXY_PROTOCOL_UNKNOWN) {
		set_addr(&c->peer, h->family, h->source, h->source_port);
		set_addr(&t->local, h->family, h->destination, h->destination_port);
	}
	t->is_secure = proxy_protocol_is_secure(h);
	t->name = copy_text(proxy_protocol_verified_name(h));
	t->authority = copy_text(h->authority);
	t->unique_id = copy_unique_id(h->unique_id);
}

static ssize_t take(struct conn *c)
{
	struct proxy_protocol h;
	ssize_t have, n;

	do
		have = recv(c->fd, c->loop->scratch, PROXY_PROTOCOL_MOST, MSG_PEEK);
	while (have < 0 && errno == EINTR);
	if (have < 0)
		return errno == EAGAIN ? ERR_MORE : error_from_errno(errno);
	if (have == 0)
		return ERR_CLOSED;
	n = proxy_protocol_parse(slice_of(c->loop->scratch, (size_t)have), &h);
	if (n == 0)
		return c->sock_hup ? ERR_CLOSED : ERR_MORE;
	if (n < 0)
		return n;
	keep(c, &h);
	if (recv(c->fd, c->loop->scratch, (size_t)n, 0) != n)
		return ERR_CLOSED;
	c->bytes_in += (uint64_t)n;
	return 0;
}

void conn_told_work(struct conn *c)
{
	struct conn_told *t = c->told;
	ssize_t rc = c->sock_in ? take(c) : ERR_MORE;

	if (rc == ERR_MORE) {
		c->sock_in = false; /* an edge comes with the next octets */
		return;
	}
	timer_stop(&t->timer);
	if (rc == 0) {
		struct tls *tls = t->tls;

		t->tls = NULL;
		c->phase = CONN_OPEN;
		if (tls)
			rc = conn_tls_start(c, tls, NULL);
		if (tls && rc == 0)
			c->phase = CONN_HANDSHAKE;
		tls_unref(&tls);
	}
	t->done(c, (int)rc);
}
