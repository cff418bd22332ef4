/*
 * Whole dialogues before login. The first octet says which front and whether the peer is trusted; the rest is what the client sends,
 * then it half-closes. Every front must end by itself, whatever came.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/ready.h"
#include "common/auth/penalty.h"
#include "common/auth/sasl.h"
#include "common/base/log.h"
#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"
#include "tests/fuzz/common/front/mechanisms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop_group *group;
static struct work_pool *pool;
static struct front_service service;
static _Atomic bool trusts;

struct job {
	front_start_fn *start;
	int fd;
};

static void ignore(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

/* Names that begin with y are let in, n is not now, all others are wrong. */
static void login(struct front *f, const struct front_credentials *c)
{
	struct front_handover h;

	require(c->authcid.len >= 1 && c->authcid.len <= FRONT_NAME_MOST && !slice_has_control(c->authcid));
	if (c->shown == FRONT_SHOWN_FETCH) {
		if (c->authcid.p[0] == 'n')
			front_refuse(f, FRONT_NOT_NOW, NULL);
		else
			front_give_stored(
				f, mechanisms_stored(c->authcid.p[0]), mechanisms_is_known(c->authcid.p[0]));
		return;
	}
	require(c->shown == FRONT_SHOWN_PASSWORD); /* nobody meets a challenge by guessing */
	require(c->password.len >= 1 && c->password.len <= FRONT_PASSWORD_MOST);
	if (c->authcid.p[0] == 'y') {
		front_hand_over(f, &h);
		conn_close(&h.conn);
	} else {
		front_refuse(f, c->authcid.p[0] == 'n' ? FRONT_NOT_NOW : FRONT_WRONG, NULL);
	}
}

static void cancel(struct front *f)
{
	(void)f;
}

static bool is_trusted(struct front *f)
{
	(void)f;
	return atomic_load(&trusts);
}

static const struct front_ops ops = {.login = login, .cancel = cancel, .is_trusted = is_trusted};

static void begin(void *arg)
{
	struct job *job = arg;
	struct conn *conn;

	require(conn_open_fd(loop_current(), job->fd, NULL, ignore, NULL, &conn) == 0);
	job->start(&service, conn, 0);
	free(job);
}

/* Clients whom a proxy has told wait after every failure; few at a time, so that some are refused. */
static const struct penalty_limits penalties = {
	.delay_ms = 1, .most_ms = 1, .free = 0, .decay_ms = 1000, .waiting = 1, .known_ms = 0};

static void init(void)
{
	struct buf why = {0};

	log_set_level(LOG_ERROR);
	require(sasl_init("fuzz", &why) == 0 && loop_group_start(1, &group) == 0);
	require(work_pool_new("fuzz-hash", 1, 100, &pool) == 0);
	front_service_init(&service, "fuzz", &ops, NULL);
	service.allows_clear = true;
	front_auth_unref(&service.auth);
	service.auth = mechanisms_all(pool);
	service.limits.failed_delay_ms = 0;
	service.penalty = penalty_new(1000, 1000, &penalties);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct job *job;
	char out[4096];
	size_t at = 1;
	int fds[2];

	if (size < 1)
		return 0;
	if (!group)
		init();
	atomic_store(&trusts, data[0] & 2);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	job = malloc(sizeof(*job));
	require(job);
	*job = (struct job){data[0] & 1 ? pop3_front_start : imap_front_start, fds[0]};
	loop_post(loop_group_at(group, 0), begin, job);
	for (;;) {
		struct pollfd p = {.fd = fds[1], .events = (short)(POLLIN | (at < size ? POLLOUT : 0))};

		require(ready(&p, 10000) > 0);
		if (p.revents & POLLOUT) {
			ssize_t n = send(fds[1], data + at, size - at, MSG_NOSIGNAL | MSG_DONTWAIT);

			at = n < 0 && !(p.revents & POLLIN) ? size : at + (size_t)(n > 0 ? n : 0);
			if (at >= size)
				shutdown(fds[1], SHUT_WR);
		}
		if (size == 1)
			shutdown(fds[1], SHUT_WR);
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && read(fds[1], out, sizeof(out)) <= 0)
			break;
	}
	close(fds[1]);
	return 0;
}
