/*
 * A front on one end of a socket pair, on a loop of its own thread; the test talks on the other end, blocking with a deadline. The
 * tier is a fake whose answer depends on the user's name:
 *
 *	yes...    handed over; "handed over" is said, and what comes then is sent back as it came
 *	wrong, notnow, noaccount, notpermitted, inuse, limit, unserved    refused so
 *	later     refused as not now, from a later turn
 *	never     no answer: the deadline decides
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auth/sasl.h"
#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"

#define TALK_WAIT_MS 3000

static struct loop_group *talk_group;
static _Atomic bool talk_trusts;
static _Atomic int talk_cancels;
static _Atomic unsigned talk_ttl; /* front_ttl() of the last login */
static char talk_seen[512];       /* what the fake tier saw last; read after its answer */

static void talk_echo(void *owner, struct conn *conn, enum conn_event event)
{
	struct slice in = conn_input(conn);

	(void)owner;
	if (event == CONN_DATA) {
		conn_write(conn, in);
		conn_consume(conn, in.len);
	} else if (event == CONN_EOF || event == CONN_FAILED) {
		conn_close(&conn);
	}
}

static void talk_hand_over(struct front *f)
{
	struct front_handover h;
	struct slice in;

	front_hand_over(f, &h);
	conn_printf(h.conn, "%.*s handed over\r\n", SLICE_ARG(h.tag));
	conn_set_owner(h.conn, talk_echo, NULL);
	in = conn_input(h.conn);
	conn_write(h.conn, in);
	conn_consume(h.conn, in.len);
	if (h.is_ended)
		conn_close(&h.conn);
}

static void talk_later(void *arg)
{
	front_refuse(arg, FRONT_NOT_NOW, NULL);
}

static void talk_login(struct front *f, const struct front_credentials *c)
{
	static const struct {
		const char *user;
		enum front_result result;
	} refusals[] = {{"wrong", FRONT_WRONG}, {"notnow", FRONT_NOT_NOW}, {"noaccount", FRONT_NO_ACCOUNT},
		{"notpermitted", FRONT_NOT_PERMITTED}, {"inuse", FRONT_IN_USE}, {"limit", FRONT_LIMIT},
		{"unserved", FRONT_UNSERVED}};
	char host[ADDR_TEXT_MAX];

	atomic_store(&talk_ttl, front_ttl(f));
	snprintf(talk_seen, sizeof(talk_seen), "%.*s|%.*s|%.*s|%s|%s:%u|%s|%d%s", SLICE_ARG(c->authzid),
		SLICE_ARG(c->authcid), SLICE_ARG(c->password), c->mechanism,
		front_is_proxied(f) ? addr_host(front_client(f), host) : "-",
		front_is_proxied(f) ? addr_port(front_client(f)) : 0,
		front_is_proxied(f) ? front_session(f) : "-", front_is_secure(f),
		front_is_utf8(f) ? "|utf8" : "");
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		if (slice_is_str(c->authcid, refusals[i].user)) {
			front_refuse(f, refusals[i].result, "as the test wants");
			return;
		}
	}
	if (slice_is_str(c->authcid, "later"))
		loop_defer(conn_loop(front_conn(f)), talk_later, f);
	else if (!slice_is_str(c->authcid, "never"))
		talk_hand_over(f);
}

static void talk_cancel(struct front *f)
{
	(void)f;
	atomic_fetch_add(&talk_cancels, 1);
}

static bool talk_is_trusted(struct front *f)
{
	(void)f;
	return atomic_load(&talk_trusts);
}

static const struct front_ops talk_ops = {
	.login = talk_login, .cancel = talk_cancel, .is_trusted = talk_is_trusted};

struct talk_start {
	front_start_fn *start;
	struct front_service *service;
	int fd;
};

static void talk_begin(void *arg)
{
	struct talk_start *s = arg;
	struct conn *conn;

	require(conn_open_fd(loop_current(), s->fd, NULL, talk_echo, NULL, &conn) == 0);
	s->start(s->service, conn, 0);
	free(s);
}

/* The test's end of a new connection. */
static int talk_open(front_start_fn *start, struct front_service *service)
{
	struct talk_start *s = malloc(sizeof(*s));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*s = (struct talk_start){start, service, fds[0]};
	loop_post(loop_group_at(talk_group, 0), talk_begin, s);
	return fds[1];
}

/* Reads until the text ends with `end` or, with NULL, to the connection's end. */
static void talk_read(int fd, const char *end, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	while (n + 1 < size) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (end && n >= strlen(end) && strcmp(out + n - strlen(end), end) == 0)
			return;
		if (poll(&p, 1, TALK_WAIT_MS) <= 0)
			break;
		got = read(fd, out + n, size - n - 1);
		if (got <= 0) {
			snprintf(out + n, size - n, "%s", "<end>");
			return;
		}
		n += (size_t)got;
		out[n] = '\0';
	}
	snprintf(out + (n < size - 10 ? n : size - 10), 10, "%s", "<late>");
}

static void talk_write(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

struct talk_case {
	const char *name;
	const char *in;   /* all of it at once, then the writing side is closed */
	const char *want; /* all that comes after the greeting; "<end>" is added */
	const char *seen; /* what the tier saw; NULL: not looked at */
	bool trusts;
	bool needs_tls;
};

/* Each case whole, then in pieces of one octet. */
static inline void talk_run(front_start_fn *start, const struct talk_case *cases, size_t count)
{
	for (size_t i = 0; i < count * 2; i++) {
		const struct talk_case *c = &cases[i / 2];
		struct front_service service;
		char got[16384], want[16384];
		int fd;

		front_service_init(&service, "test", &talk_ops, NULL);
		service.allows_clear = !c->needs_tls;
		service.limits.failed_delay_ms = 1;
		atomic_store(&talk_trusts, c->trusts);
		talk_seen[0] = '\0';
		fd = talk_open(start, &service);
		talk_read(fd, "\r\n", got, sizeof(got));
		if (i % 2 == 0) {
			talk_write(fd, c->in, strlen(c->in));
		} else {
			for (size_t k = 0; c->in[k]; k++)
				talk_write(fd, c->in + k, 1);
		}
		shutdown(fd, SHUT_WR);
		talk_read(fd, NULL, got, sizeof(got));
		snprintf(want, sizeof(want), "%s<end>", c->want);
		if (strcmp(got, want) != 0)
			print_error("case: %s%s\n", c->name, i % 2 ? " (octet by octet)" : "");
		assert_string_equal(got, want);
		if (c->seen)
			assert_string_equal(talk_seen, c->seen);
		close(fd);
		/* The front ends at its turn's end: the service is on our stack. */
		while (atomic_load(&service.refs) > 1)
			usleep(200);
		front_service_unref(&(struct front_service *){&service});
	}
}

static int talk_setup(void **state)
{
	struct buf why = {0};

	(void)state;
	if (sasl_init("test", &why) < 0 || loop_group_start(1, &talk_group) < 0)
		return -1;
	return 0;
}

static int talk_teardown(void **state)
{
	(void)state;
	loop_group_stop(&talk_group);
	sasl_deinit();
	return 0;
}

/* One dialogue with a proxy's service: what is answered to all of `in`, and the hop count that the tier sees then. */
static inline unsigned talk_with_proxy(front_start_fn *start, const char *in, char *got, size_t size)
{
	struct front_service service;
	int fd;

	front_service_init(&service, "test", &talk_ops, NULL);
	service.allows_clear = service.counts_hops = true;
	service.limits.failed_delay_ms = 0;
	atomic_store(&talk_trusts, false);
	atomic_store(&talk_ttl, 0);
	fd = talk_open(start, &service);
	talk_read(fd, "\r\n", got, size);
	talk_write(fd, in, strlen(in));
	shutdown(fd, SHUT_WR);
	talk_read(fd, NULL, got, size);
	close(fd);
	while (atomic_load(&service.refs) > 1)
		usleep(200);
	front_service_unref(&(struct front_service *){&service});
	return atomic_load(&talk_ttl);
}
