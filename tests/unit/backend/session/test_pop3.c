/*
 * The POP3 session over a real store and a socket pair: locks, a session from its login to its last word,
 * commands cut anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/session/pop3_core.h"
#include "backend/store/store_account.h"
#include "common/base/log.h"
#include "common/base/mem.h"

static const char message_one[] = "Subject: one\r\n\r\n.dot\r\nend\r\n";
static const char message_two[] = "Subject: two\r\n\r\nno end";

struct world {
	char dir[64];
	struct store *store;
	struct store_work *work;
	struct loop_group *group;
	struct pop3_service *service;
	struct store_account account;
};

static void store_message(struct world *w, const char *text)
{
	const struct store_source source = {.memory = slice_str(text)};
	struct store_press *press = store_press_new();
	struct store_draft *draft;
	struct store_txn *txn;
	struct store_mailbox inbox;
	struct store_append append = {.account = w->account.id};
	struct store_appended appended;
	bool is_done = false;

	assert_int_equal(store_draft_new(&source, &draft), 0);
	assert_int_equal(store_draft_fill(draft, press, &is_done), 0);
	assert_true(is_done);
	assert_int_equal(store_begin_write(w->store, w->account.slot, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, w->account.id, SLICE_LIT("INBOX"), &inbox), 0);
	append.mailbox = inbox.id;
	append.texts = store_draft_texts(draft);
	assert_int_equal(store_draft_finish(txn, draft, &append.blob), 0);
	assert_int_equal(store_message_append(txn, &append, &appended), 0);
	assert_int_equal(store_commit(&txn), 0);
	store_draft_committed(draft);
	store_draft_free(&draft);
	store_press_free(&press);
}

static void make_account(struct world *w)
{
	const struct store_account_new new = {.address = SLICE_LIT("a@example.test")};
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(w->store, 0, &txn), 0);
	assert_int_equal(store_account_create(txn, &new, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_find_account(w->store, SLICE_LIT("a@example.test"), &w->account), 0);
}

static int setup(void **state)
{
	static const struct pop3_limits limits = {
		.idle_ms = 600000, .transfer_ms = 10000, .bad_commands = 5, .is_exclusive = true};
	struct world *w = xcalloc(1, sizeof(*w));
	struct store_options options = {.slots = 1, .map_size = 64 << 20};
	const struct store_work_options work = {.reader_threads = 1, .prepare_threads = 1};

	log_set_level(LOG_ERROR);
	snprintf(w->dir, sizeof(w->dir), "/tmp/test-pop3-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	options.dir = w->dir;
	assert_int_equal(store_open(&options, &w->store, NULL), 0);
	make_account(w);
	store_message(w, message_one);
	store_message(w, message_two);
	assert_int_equal(store_work_start(w->store, &work, &w->work), 0);
	assert_int_equal(loop_group_start(1, &w->group), 0);
	w->service = pop3_service_new(w->work, 1, &limits);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[100];

	for (int i = 0; i < 1000 && pop3_service_count(w->service); i++)
		usleep(5000);
	assert_int_equal(pop3_service_count(w->service), 0);
	store_work_stop(&w->work);
	loop_group_stop(&w->group);
	pop3_service_free(&w->service);
	store_close(&w->store);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

struct begin {
	struct world *world;
	bool is_utf8;
	int fd;
	struct pop3_lock *lock;
};

static void ignore(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

/* On the loop. */
static void begin_session(void *arg)
{
	struct begin *b = arg;
	struct conn *conn;

	require(conn_open_fd(loop_group_at(b->world->group, 0), b->fd, NULL, ignore, NULL, &conn) == 0);
	pop3_session_start(&(struct pop3_session_start){.service = b->world->service,
		.conn = conn,
		.lock = b->lock,
		.account = &b->world->account,
		.session = "test",
		.is_utf8 = b->is_utf8});
	free(b);
}

static int start_as(struct world *w, bool is_utf8)
{
	struct begin *b = xcalloc(1, sizeof(*b));
	int fds[2];

	assert_int_equal(pop3_lock_take(w->service, &w->account, &b->lock), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	b->world = w;
	b->fd = fds[1];
	b->is_utf8 = is_utf8;
	loop_post(loop_group_at(w->group, 0), begin_session, b);
	return fds[0];
}

static int start(struct world *w)
{
	return start_as(w, false);
}

/* All that the session says until it closes. */
static void read_all(int fd, struct buf *out)
{
	char block[4096];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		buf_add(out, block, (size_t)n);
	close(fd);
}

static const char dialogue[] =
	"STAT\r\nLIST\r\nRETR 1\r\nTOP 1 1\r\nRETR 2\r\nLIST 2\r\nDELE 1\r\nSTAT\r\nRSET\r\nBAD\r\n"
	"RETR 3\r\nNO\x01OP\r\nNOOP\r\nQUIT\r\n";
static const char answers[] = "+OK 2 messages (49 octets)\r\n"
			      "+OK 2 49\r\n"
			      "+OK 2 messages\r\n1 27\r\n2 22\r\n.\r\n"
			      "+OK 27 octets\r\nSubject: one\r\n\r\n..dot\r\nend\r\n.\r\n"
			      "+OK\r\nSubject: one\r\n\r\n..dot\r\n.\r\n"
			      "+OK 22 octets\r\nSubject: two\r\n\r\nno end\r\n.\r\n"
			      "+OK 2 22\r\n"
			      "+OK\r\n"
			      "+OK 1 22\r\n"
			      "+OK\r\n"
			      "-ERR No such command here.\r\n"
			      "-ERR There is no such message.\r\n"
			      "-ERR No such command here.\r\n"
			      "+OK\r\n"
			      "+OK Bye.\r\n";

static void test_a_dialogue_is_the_same_however_it_is_cut(void **state)
{
	struct world *w = *state;
	const size_t len = sizeof(dialogue) - 1;

	for (size_t cut = 0; cut < len; cut += 5) {
		struct buf got = {0};
		int fd = start(w);

		assert_int_equal(write(fd, dialogue, cut), cut);
		usleep(1000);
		assert_int_equal(write(fd, dialogue + cut, len - cut), len - cut);
		read_all(fd, &got);
		assert_string_equal(buf_str_view(&got), answers);
		buf_deinit(&got);
	}
}

static void test_the_maildrop_is_locked_until_the_end(void **state)
{
	struct world *w = *state;
	struct pop3_lock *lock;
	struct buf got = {0};
	int fd = start(w);

	assert_int_equal(pop3_lock_take(w->service, &w->account, &lock), ERR_DENIED);
	assert_int_equal(write(fd, "QUIT\r\n", 6), 6);
	read_all(fd, &got);
	assert_int_equal(pop3_lock_take(w->service, &w->account, &lock), 0);
	pop3_lock_release(&lock);
	assert_null(lock);
	pop3_lock_release(&lock);
	buf_deinit(&got);
}

static void test_a_client_that_goes_deletes_nothing(void **state)
{
	struct world *w = *state;
	struct buf got = {0};
	int fd = start(w);

	assert_int_equal(write(fd, "DELE 1\r\nDELE 2\r\n", 16), 16);
	shutdown(fd, SHUT_WR);
	read_all(fd, &got);
	assert_string_equal(buf_str_view(&got), "+OK 2 messages (49 octets)\r\n+OK\r\n+OK\r\n");
	buf_clear(&got);
	fd = start(w);
	assert_int_equal(write(fd, "STAT\r\nQUIT\r\n", 12), 12);
	read_all(fd, &got);
	assert_non_null(strstr(buf_str_view(&got), "+OK 2 49\r\n"));
	buf_deinit(&got);
}

static void test_deletions_are_stored_at_quit(void **state)
{
	struct world *w = *state;
	struct buf got = {0};
	int fd = start(w);

	assert_int_equal(write(fd, "DELE 1\r\nQUIT\r\n", 14), 14);
	read_all(fd, &got);
	assert_string_equal(buf_str_view(&got), "+OK 2 messages (49 octets)\r\n+OK\r\n+OK Bye.\r\n");
	buf_clear(&got);
	fd = start(w);
	assert_int_equal(write(fd, "STAT\r\nQUIT\r\n", 12), 12);
	read_all(fd, &got);
	assert_non_null(strstr(buf_str_view(&got), "+OK 1 22\r\n"));
	buf_deinit(&got);
}

/* RFC 6856: shown as they are, unless the operator wants it by the letter. */
static void test_8bit_headers_and_utf8(void **state)
{
	static const struct {
		bool is_strict, is_utf8;
		const char *want;
	} rows[] = {
		{false, false, "+OK 24 octets\r\nSubject: \xc3\xa4\r\n\r\n\xc3\xb6 body\r\n.\r\n"},
		{false, true, "+OK 24 octets\r\nSubject: \xc3\xa4\r\n\r\n\xc3\xb6 body\r\n.\r\n"},
		{true, true, "+OK 24 octets\r\nSubject: \xc3\xa4\r\n\r\n\xc3\xb6 body\r\n.\r\n"},
		{true, false, "-ERR [UTF8] The message wants UTF8 before the login.\r\n"},
	};
	struct world *w = *state;

	store_message(w, "Subject: \xc3\xa4\r\n\r\n\xc3\xb6 body\r\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pop3_limits limits = {.idle_ms = 600000,
			.transfer_ms = 10000,
			.bad_commands = 5,
			.is_exclusive = true,
			.is_strict_utf8 = rows[i].is_strict};
		struct buf got = {0};
		int fd;

		pop3_service_set_limits(w->service, &limits);
		fd = start_as(w, rows[i].is_utf8);
		assert_int_equal(write(fd, "RETR 3\r\nUTF8\r\nLANG\r\nTOP 1 0\r\nCAPA\r\nQUIT\r\n", 42), 42);
		read_all(fd, &got);
		assert_non_null(strstr(buf_str_view(&got), rows[i].want));
		/* Not after the login; and an ASCII header is shown to everybody. */
		assert_non_null(
			strstr(buf_str_view(&got), "-ERR No such command here.\r\n+OK Languages:\r\nen"));
		assert_non_null(strstr(buf_str_view(&got), "+OK\r\nSubject: one\r\n\r\n.\r\n"));
		assert_non_null(strstr(buf_str_view(&got), "\r\nUTF8 USER\r\nLANG\r\n"));
		buf_deinit(&got);
	}
}

/* ---- what is read ahead ---- */

#define MANY 150
#define MANY_BASE 2 /* messages of setup() */

/* Message i of many: some with dots, some too large to be read ahead, one with an 8-bit header. */
static void make_one(unsigned i, struct buf *out)
{
	size_t lines = i % 40 == 7 ? POP3_AHEAD_MESSAGE / 16 : i % 50 == 11 ? 2000 : i % 13;

	buf_printf(out, "Subject: %s %u\r\n\r\n", i == 60 ? "\xc3\xa4" : "number", i);
	for (size_t n = 0; n < lines; n++)
		buf_printf(out, "%sline %06zu..\r\n", n % 7 == 3 ? "." : "", n);
	if (i % 3 == 0)
		buf_add_str(out, "no end");
}

static void want_one(unsigned i, bool is_strict, struct buf *out)
{
	struct buf raw = {0};
	struct pop3_parse_stuff stuff;

	make_one(i, &raw);
	if (is_strict && i == 60) {
		buf_add_str(out, "-ERR [UTF8] The message wants UTF8 before the login.\r\n");
	} else {
		buf_printf(out, "+OK %zu octets\r\n", buf_len(&raw));
		pop3_parse_stuff_init(&stuff);
		pop3_parse_stuff_add(&stuff, out, buf_view(&raw));
		pop3_parse_stuff_end(&stuff, out);
	}
	buf_deinit(&raw);
}

/* Reads as many octets as are wanted, and compares. */
static void expect(int fd, struct buf *want)
{
	struct buf got = {0};
	char block[65536];

	while (buf_len(&got) < buf_len(want)) {
		size_t left = buf_len(want) - buf_len(&got);
		ssize_t n = read(fd, block, left < sizeof(block) ? left : sizeof(block));

		assert_true(n > 0);
		buf_add(&got, block, (size_t)n);
	}
	assert_true(slice_is_equal(buf_view(&got), buf_view(want)));
	buf_clear(want);
	buf_deinit(&got);
}

static void ask(int fd, const char *verb, unsigned i)
{
	char line[40];
	int n = snprintf(line, sizeof(line), "%s %u\r\n", verb, i + 1 + MANY_BASE);

	assert_int_equal(write(fd, line, (size_t)n), n);
}

/* The session may not even have begun yet. */
static void close_and_wait(struct world *w, int fd)
{
	struct pop3_lock *lock = NULL;
	int err = ERR_DENIED;

	close(fd);
	for (int i = 0; i < 5000 && err; i++) {
		err = pop3_lock_take(w->service, &w->account, &lock);
		if (err)
			usleep(1000);
	}
	assert_int_equal(err, 0);
	pop3_lock_release(&lock);
}

static void test_messages_are_the_same_in_any_order(void **state)
{
	/* step: from one message to the next; depth: commands under way; the order wraps around */
	static const struct {
		unsigned first, step, depth;
		bool is_strict, deletes;
	} rows[] = {
		{0, 1, 1, false, false},
		{0, 1, 20, false, false},
		{0, 1, MANY, false, false},
		{0, 1, 7, true, false},
		{0, 1, 1, true, true},
		{140, 1, 3, true, false},
		{0, 2, 1, false, true},
		{3, 7, 5, true, false},
		{MANY - 1, MANY - 1, 1, true, false},
		{MANY - 1, MANY - 1, 4, true, true},
	};
	struct world *w = *state;
	struct buf want = {0};

	for (unsigned i = 0; i < MANY; i++) {
		make_one(i, &want);
		store_message(w, buf_str_view(&want));
		buf_clear(&want);
	}
	for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
		struct pop3_limits limits = {.idle_ms = 600000,
			.transfer_ms = 10000,
			.bad_commands = 5,
			.is_exclusive = true,
			.is_strict_utf8 = rows[r].is_strict};
		unsigned asked = 0, said = 0, at = rows[r].first, next = rows[r].first;
		char greeting[64];
		int fd;

		pop3_service_set_limits(w->service, &limits);
		fd = start(w);
		assert_true(read(fd, greeting, sizeof(greeting)) > 0);
		while (said < MANY) {
			while (asked < MANY && asked < said + rows[r].depth) {
				ask(fd, "RETR", at);
				if (rows[r].deletes)
					ask(fd, "DELE", at);
				at = (at + rows[r].step) % MANY;
				asked++;
			}
			want_one(next, rows[r].is_strict, &want);
			if (rows[r].deletes)
				buf_add_str(&want, "+OK\r\n");
			expect(fd, &want);
			next = (next + rows[r].step) % MANY;
			said++;
			if (said % 40 == 0 && rows[r].depth == 1) { /* something else between */
				ask(fd, "TOP 1 0\r\nRSET\r\nRETR", next);
				buf_add_str(&want, "+OK\r\nSubject: one\r\n\r\n.\r\n+OK\r\n");
				want_one(next, rows[r].is_strict, &want);
				expect(fd, &want);
			}
		}
		close_and_wait(w, fd); /* without a word, and perhaps amid what is read ahead */
	}
	buf_deinit(&want);
}

/* A session that goes while its job is at work, at any moment. */
static void test_a_session_may_end_while_it_reads_ahead(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < MANY; i++) {
		struct buf text = {0};

		make_one(i, &text);
		store_message(w, buf_str_view(&text));
		buf_deinit(&text);
	}
	for (unsigned i = 0; i < 60; i++) {
		int fd = start(w);

		for (unsigned n = 0; n < i; n++)
			ask(fd, "RETR", n);
		if (i % 3 == 0)
			assert_int_equal(write(fd, "QUIT\r\n", 6), 6);
		usleep(i * 37 % 900);
		close_and_wait(w, fd);
	}
}

/* ---- more messages than a session holds sizes of ---- */

#define CROWD (2 * POP3_SIZES_MAX + 10)

static size_t small_one(unsigned i, char *room, size_t size)
{
	return (size_t)snprintf(
		room, size, "Subject: %u\r\n\r\n%.*s\r\n", i, (int)(i % 17), "12345678901234567");
}

static void store_crowd(struct world *w)
{
	struct store_press *press = store_press_new();
	struct store_mailbox inbox;
	struct store_txn *txn;

	assert_int_equal(store_begin_write(w->store, w->account.slot, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, w->account.id, SLICE_LIT("INBOX"), &inbox), 0);
	for (unsigned i = 0; i < CROWD; i++) {
		char room[100];
		const struct store_source source = {
			.memory = slice_of(room, small_one(i, room, sizeof(room)))};
		struct store_append append = {.account = w->account.id, .mailbox = inbox.id};
		struct store_appended appended;
		struct store_draft *draft;
		bool is_done = false;

		assert_int_equal(store_draft_new(&source, &draft), 0);
		assert_int_equal(store_draft_fill(draft, press, &is_done), 0);
		append.texts = store_draft_texts(draft);
		assert_int_equal(store_draft_finish(txn, draft, &append.blob), 0);
		assert_int_equal(store_message_append(txn, &append, &appended), 0);
		store_draft_free(&draft);
	}
	assert_int_equal(store_commit(&txn), 0);
	store_press_free(&press);
}

static void expunge(struct world *w, const uint32_t *uids, size_t count)
{
	struct store_mailbox inbox;
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(w->store, w->account.slot, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, w->account.id, SLICE_LIT("INBOX"), &inbox), 0);
	assert_int_equal(
		store_message_expunge(txn, w->account.id, inbox.id, uids, count, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* Message numbers, from 1. */
static size_t size_of_one(unsigned number)
{
	char room[100];

	return number == 1   ? sizeof(message_one) - 1
	       : number == 2 ? sizeof(message_two) - 1
			     : small_one(number - 1 - MANY_BASE, room, sizeof(room));
}

static void test_sizes_are_those_of_the_login(void **state)
{
	/* at the edges of what is held at once, and what another session takes away */
	static const uint32_t gone[] = {2, 5, POP3_SIZES_MAX, POP3_SIZES_MAX + 1, POP3_SIZES_MAX + 2,
		POP3_SIZES_MAX + 3, CROWD + MANY_BASE};
	static const unsigned asked[] = {CROWD + MANY_BASE, 1, POP3_SIZES_MAX, POP3_SIZES_MAX + 1,
		2 * POP3_SIZES_MAX, 2 * POP3_SIZES_MAX + 1, 2, POP3_SIZES_MAX + 2};
	struct world *w = *state;
	struct buf want = {0}, say = {0};
	unsigned total = CROWD + MANY_BASE;
	size_t bytes = 0, left;
	int fd;

	store_crowd(w);
	for (unsigned n = 1; n <= total; n++)
		bytes += size_of_one(n);
	left = bytes;
	fd = start(w);
	buf_printf(&want, "+OK %u messages (%zu octets)\r\n", total, bytes);
	expect(fd, &want);
	expunge(w, gone, ARRAY_LEN(gone));
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		unsigned n = asked[i];

		buf_printf(&say, "LIST %u\r\nDELE %u\r\nLIST %u\r\nSTAT\r\n", n, n, n);
		left -= size_of_one(n);
		buf_printf(&want, "+OK %u %zu\r\n+OK\r\n-ERR There is no such message.\r\n+OK %zu %zu\r\n", n,
			size_of_one(n), total - i - 1, left);
	}
	buf_add_str(&say, "RSET\r\nLIST\r\nSTAT\r\n");
	buf_printf(&want, "+OK\r\n+OK %u messages\r\n", total);
	for (unsigned n = 1; n <= total; n++)
		buf_printf(&want, "%u %zu\r\n", n, size_of_one(n));
	buf_printf(&want, ".\r\n+OK %u %zu\r\n", total, bytes);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) { /* TOP shows the whole */
		unsigned n = asked[i];
		char room[100];
		size_t len = n > MANY_BASE ? small_one(n - 1 - MANY_BASE, room, sizeof(room)) : 0;

		if (!len)
			continue;
		buf_printf(&say, "RETR %u\r\nTOP %u 9\r\n", n, n);
		buf_printf(&want, "+OK %zu octets\r\n%.*s.\r\n+OK\r\n%.*s.\r\n", len, (int)len, room,
			(int)len, room);
	}
	buf_add_str(&say, "DELE 3\r\nDELE 5\r\nQUIT\r\n");
	buf_add_str(&want, "+OK\r\n+OK\r\n+OK Bye.\r\n");
	assert_int_equal(write(fd, say.data + say.start, buf_len(&say)), buf_len(&say));
	expect(fd, &want);
	close_and_wait(w, fd);
	left = bytes - size_of_one(3);
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		left -= size_of_one(gone[i]);
	fd = start(w);
	buf_printf(&want, "+OK %zu messages (%zu octets)\r\n", total - 1 - ARRAY_LEN(gone), left);
	expect(fd, &want);
	close_and_wait(w, fd);
	buf_deinit(&want);
	buf_deinit(&say);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_dialogue_is_the_same_however_it_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_maildrop_is_locked_until_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_client_that_goes_deletes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deletions_are_stored_at_quit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_8bit_headers_and_utf8, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages_are_the_same_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_session_may_end_while_it_reads_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes_are_those_of_the_login, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
