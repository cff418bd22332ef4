/*
 * A back-end of one process for tests of the IMAP session: a store in a folder of its own, its threads, one
 * loop, and clients on socketpairs that talk to real sessions, blocking and line by line. Include after
 * cmocka.h.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/session/imap_session.h"
#include "backend/store/store.h"
#include "backend/store/store_account.h"
#include "backend/store_work/store_work.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/net/conn.h"
#include "common/net/loop.h"

#define RIG_WAIT_MS 5000
#define RIG_LOOPS 2

struct rig {
	char dir[64];
	struct store *store;
	struct store_work *work;
	struct loop_group *loops;
	struct imap_service *service;
	unsigned clients; /* they take turns on the loops */
	unsigned slots;   /* of the store; 0: one. To be set before rig_start() */
};

struct rig_client {
	struct rig *rig;
	int fd;
	struct buf in;   /* received, not yet looked at */
	struct buf text; /* what rig_command() returned a view of */
	unsigned tag;
};

static inline void rig_start(struct rig *r, struct imap_limits limits)
{
	struct store_options options = {.slots = r->slots ? r->slots : 1, .map_size = UINT64_C(1) << 30};
	struct buf why = {0};

	log_set_level(LOG_ERROR);
	snprintf(r->dir, sizeof(r->dir), "%s/mailtier-imap-XXXXXX",
		getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(r->dir));
	options.dir = r->dir;
	if (store_open(&options, &r->store, &why) < 0)
		fail_msg("store: %s", buf_str_view(&why));
	buf_deinit(&why);
	assert_int_equal(store_work_start(r->store, &(struct store_work_options){0}, &r->work), 0);
	assert_int_equal(loop_group_start(RIG_LOOPS, &r->loops), 0);
	r->service = imap_service_new(r->work, RIG_LOOPS, &limits);
}

/* Depth is that of the store: dir/slot/file. */
static inline void rig_remove(const char *dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	struct buf path = {0};

	while (d && (entry = readdir(d))) {
		if (entry->d_name[0] == '.' && (!entry->d_name[1] || entry->d_name[1] == '.'))
			continue;
		buf_clear(&path);
		buf_printf(&path, "%s/%s", dir, entry->d_name);
		if (unlink(buf_str_view(&path)) < 0)
			rig_remove(buf_str_view(&path));
	}
	buf_deinit(&path);
	if (d)
		closedir(d);
	rmdir(dir);
}

static inline void rig_stop(struct rig *r)
{
	for (int i = 0; i < RIG_WAIT_MS / 10 && imap_service_count(r->service); i++)
		usleep(10000);
	assert_int_equal(imap_service_count(r->service), 0);
	store_work_halt(r->work); /* what sessions left behind is answered on the loops, and ends views */
	loop_group_stop(&r->loops);
	imap_service_free(&r->service);
	store_work_stop(&r->work);
	store_close(&r->store);
	rig_remove(r->dir);
}

static inline void rig_add_account_in(
	struct rig *r, unsigned slot, const char *address, uint64_t bytes_limit, uint64_t count_limit)
{
	struct store_account_new account = {
		.address = slice_str(address), .bytes_limit = bytes_limit, .count_limit = count_limit};
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(r->store, slot, &txn), 0);
	assert_int_equal(store_account_create(txn, &account, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static inline void rig_add_account(
	struct rig *r, const char *address, uint64_t bytes_limit, uint64_t count_limit)
{
	rig_add_account_in(r, 0, address, bytes_limit, count_limit);
}

struct rig_login {
	struct rig *rig;
	struct store_account account;
	unsigned loop;
	int fd;
};

static inline void rig_silent(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

static inline void rig_begin(void *arg)
{
	struct rig_login *login = arg;
	struct conn *conn;

	require(conn_open_fd(loop_group_at(login->rig->loops, login->loop), login->fd, NULL, rig_silent, NULL,
			&conn) == 0);
	imap_session_start(&(struct imap_session_start){.service = login->rig->service,
		.conn = conn,
		.tag = SLICE_LIT("login"),
		.account = &login->account,
		.session = "test"});
	free(login);
}

/* Text up to and with the first line that begins with `start`; a view until the next call. */
static inline const char *rig_until(struct rig_client *c, const char *start)
{
	uint64_t until = clock_mono_ms() + RIG_WAIT_MS;
	size_t len = strlen(start), looked = 0;
	char piece[65536];

	for (;;) {
		struct slice in = buf_view(&c->in);
		const char *lf;

		while (looked < in.len && (lf = memchr(in.p + looked, '\n', in.len - looked))) {
			size_t end = (size_t)(lf - in.p) + 1;

			if (end - looked >= len && memcmp(in.p + looked, start, len) == 0) {
				buf_clear(&c->text);
				buf_add(&c->text, in.p, end);
				buf_take(&c->in, end);
				return buf_str_view(&c->text);
			}
			looked = end;
		}
		{
			uint64_t now = clock_mono_ms();
			struct pollfd p = {.fd = c->fd, .events = POLLIN};
			ssize_t n = now < until ? poll(&p, 1, (int)(until - now)) : 0;

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				fail_msg("no line that begins with %s; got: %s", start, buf_str_view(&c->in));
			n = read(c->fd, piece, sizeof(piece));
			if (n <= 0)
				fail_msg("closed before a line that begins with %s; got: %s", start,
					buf_str_view(&c->in));
			buf_add(&c->in, piece, (size_t)n);
		}
	}
}

static inline void rig_send(struct rig_client *c, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(c->fd, bytes, len);

		assert_true(n > 0);
		bytes += n;
		len -= (size_t)n;
	}
}

static inline void rig_connect(struct rig_client *c, struct rig *r, const char *address)
{
	struct rig_login *login = calloc(1, sizeof(*login));
	int fds[2];

	*c = (struct rig_client){.rig = r};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	login->rig = r;
	login->fd = fds[1];
	assert_int_equal(store_find_account(r->store, slice_str(address), &login->account), 0);
	login->loop = r->clients++ % RIG_LOOPS;
	loop_post(loop_group_at(r->loops, login->loop), rig_begin, login);
	(void)rig_until(c, "login OK");
}

static inline void rig_disconnect(struct rig_client *c)
{
	close(c->fd);
	buf_deinit(&c->in);
	buf_deinit(&c->text);
}

/* Sends one command and returns all up to its tagged line. */
static inline const char *rig_command(struct rig_client *c, const char *command)
{
	char tag[20];
	struct buf line = {0};

	snprintf(tag, sizeof(tag), "t%u ", ++c->tag);
	buf_add_str(&line, tag);
	buf_add_str(&line, command);
	buf_add_str(&line, "\r\n");
	rig_send(c, line.data + line.start, buf_len(&line));
	buf_deinit(&line);
	return rig_until(c, tag);
}

/* The answer has all of these lines or words, in this order. */
static inline void rig_expect(struct rig_client *c, const char *command, const char *const *wants)
{
	const char *got = rig_command(c, command), *at = got;

	for (; *wants; wants++) {
		const char *found = strstr(at, *wants);

		if (!found)
			fail_msg("%s\nwanted: %s\ngot: %s", command, *wants, got);
		at = found + strlen(*wants);
	}
}
#define RIG_EXPECT(client, command, ...)                                                                     \
	rig_expect((client), (command), (const char *const[]){__VA_ARGS__, NULL})

static inline void rig_refuse(struct rig_client *c, const char *command, const char *not_wanted)
{
	const char *got = rig_command(c, command);

	if (strstr(got, not_wanted))
		fail_msg("%s\nnot wanted: %s\ngot: %s", command, not_wanted, got);
}

/* APPENDs a text with LITERAL+; args stand between mailbox and literal ("" or "(\\Seen) "). */
static inline const char *rig_append(
	struct rig_client *c, const char *mailbox, const char *args, const char *text)
{
	struct buf command = {0};
	const char *got;

	buf_printf(&command, "APPEND %s %s{%zu+}\r\n%s", mailbox, args, strlen(text), text);
	got = rig_command(c, buf_str_view(&command));
	buf_deinit(&command);
	return got;
}
