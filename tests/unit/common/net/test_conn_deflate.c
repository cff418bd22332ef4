/* Compressed connections: what goes in comes out, however it is cut; bad streams and bombs end. */
#include "tests/unit/common/net/net_test.h"

#include <zlib.h>

static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

static void test_both_ways_in_any_pieces(void **state)
{
	enum {
		LINES = 60000
	};
	struct peer a = {0}, b = {0};
	struct buf sent = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write_str(a.conn, "in clear\r\n");
	assert_int_equal(conn_start_deflate(a.conn), 0);
	assert_true(conn_is_deflated(a.conn));
	assert_int_equal(conn_start_deflate(a.conn), ERR_UNSUPPORTED);
	RUN_UNTIL(loop, buf_len(&b.got) == 10);
	assert_true(slice_is_str(buf_view(&b.got), "in clear\r\n"));
	buf_clear(&b.got);
	assert_int_equal(conn_start_deflate(b.conn), 0);
	conn_set_input_limit(b.conn, 5000); /* inflate has more than there is room for */
	for (unsigned i = 0; i < LINES; i++)
		buf_printf(&sent, "* %u FETCH (UID %u FLAGS (\\Seen))\r\n", i, i * 7);
	conn_write(a.conn, buf_view(&sent));
	RUN_UNTIL(loop, buf_len(&b.got) == buf_len(&sent));
	assert_memory_equal(b.got.data + b.got.start, sent.data + sent.start, buf_len(&sent));
	assert_true(conn_bytes_out(a.conn) * 3 < buf_len(&sent));
	for (unsigned i = 0; i < 300; i++) {
		conn_printf(b.conn, "a%u NOOP\r\n", i);
		conn_flush(b.conn);
		if (i % 7 == 0)
			run_short(loop);
	}
	RUN_UNTIL(loop, buf_len(&a.got) == 10 * 9 + 90 * 10 + 200 * 11);
	/* Unsent words reach the peer after a close. */
	buf_clear(&b.got);
	conn_write(a.conn, buf_view(&sent));
	conn_close(&a.conn);
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	assert_int_equal(buf_len(&b.got), buf_len(&sent));
	buf_deinit(&sent);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_input_that_waits_refuses_it(void **state)
{
	struct peer a = {0}, b = {.keeps = true};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write_str(a.conn, "early");
	RUN_UNTIL(loop, b.events[CONN_DATA]);
	assert_int_equal(conn_start_deflate(b.conn), ERR_DENIED);
	assert_false(conn_is_deflated(b.conn));
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_a_broken_stream_ends_the_connection(void **state)
{
	static const char *const streams[] = {
		"\x07garbage that is no deflate", "\x03\x00" /* a last block */};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		struct peer a = {0}, b = {0};

		peer_open_pair(loop, &a, &b);
		assert_int_equal(conn_start_deflate(b.conn), 0);
		conn_write(a.conn, slice_of(streams[i], i ? 2 : strlen(streams[i])));
		RUN_UNTIL(loop, b.events[CONN_FAILED]);
		assert_int_equal(b.error, ERR_SYNTAX);
		peer_deinit(&a);
		peer_deinit(&b);
	}
}

struct turns {
	struct conn *conn;
	uint64_t seen, most;
};

/* Once a turn: how much more was read. */
static void on_turn(void *arg)
{
	struct turns *turns = arg;
	uint64_t now = conn_bytes_in(turns->conn);

	if (now - turns->seen > turns->most)
		turns->most = now - turns->seen;
	turns->seen = now;
	loop_post(loop, on_turn, turns);
}

/* Empty blocks make nothing of any number of octets. */
static void test_security_23_a_stream_of_nothing_is_read_in_turns(void **state)
{
	static const char block[] = {0, 0, 0, (char)0xff, (char)0xff};
	char blocks[150000];
	struct peer b = {0};
	struct turns turns = {0};
	ssize_t sent;
	int fds[2];

	(void)state;
	for (size_t i = 0; i < sizeof(blocks); i++)
		blocks[i] = block[i % sizeof(block)];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], NULL, peer_on_event, &b, &b.conn), 0);
	assert_int_equal(conn_start_deflate(b.conn), 0);
	turns.conn = b.conn;
	sent = send(fds[1], blocks, sizeof(blocks), MSG_DONTWAIT);
	assert_true(sent > 120000);
	loop_post(loop, on_turn, &turns);
	RUN_UNTIL(loop, conn_bytes_in(b.conn) == (uint64_t)sent);
	assert_true(turns.most > 0 && turns.most <= 80000);
	assert_int_equal(b.events[CONN_DATA], 0);
	close(fds[1]);
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	peer_deinit(&b);
}

/* Counts, and keeps nothing. */
static void on_count(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	peer->events[event]++;
	if (event == CONN_DATA) {
		assert_true(conn_input(conn).len <= CONN_INPUT_LIMIT);
		conn_consume(conn, conn_input(conn).len);
	}
}

static void test_security_23_a_bomb_is_stopped(void **state)
{
	enum {
		SIZE = 64 << 20
	};
	struct peer a = {0}, b = {0};
	char *zeros = xcalloc(1, SIZE);
	uLong most = compressBound(SIZE);
	char *bomb = xmalloc(most);
	z_stream z = {0};

	(void)state;
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)zeros;
	z.avail_in = SIZE;
	z.next_out = (Bytef *)bomb;
	z.avail_out = (uInt)most;
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_count, &b);
	assert_int_equal(conn_start_deflate(b.conn), 0);
	conn_write(a.conn, slice_of(bomb, most - z.avail_out));
	RUN_UNTIL(loop, b.events[CONN_FAILED]);
	deflateEnd(&z);
	free(zeros);
	free(bomb);
	peer_deinit(&a);
	peer_deinit(&b);
}

/* Stops when it has read a whole line. */
static void on_line(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	peer->events[event]++;
	if (event != CONN_DATA)
		return;
	buf_add_slice(&peer->got, conn_input(conn));
	conn_consume(conn, conn_input(conn).len);
	if (!conn_is_deflated(conn) || slice_find(buf_view(&peer->got), '\n') < 0)
		return;
	conn_write_str(conn, "OK\r\n");
	peer->error = conn_stop_deflate(conn);
	conn_write_str(conn, "in clear again");
	/* What came behind the last block. */
	buf_add_slice(&peer->got, conn_input(conn));
	conn_consume(conn, conn_input(conn).len);
}

static size_t pack(const char *text, int flush, char *out, size_t size)
{
	z_stream z = {0};
	size_t n;

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)text;
	z.avail_in = (uInt)strlen(text);
	z.next_out = (Bytef *)out;
	z.avail_out = (uInt)size;
	(void)deflate(&z, flush);
	n = size - z.avail_out;
	deflateEnd(&z);
	return n;
}

/* With a last block and octets behind it; without one, the peer waiting; without one, octets behind it. */
static void test_compression_ends(void **state)
{
	static const struct {
		int flush;
		const char *behind;
		const char *want;
		int err;
	} rows[] = {
		{Z_FINISH, "plain", "line\nplain", 0},
		{Z_FINISH, "", "line\n", 0},
		{Z_SYNC_FLUSH, "", "line\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct peer a = {0}, b = {.error = 1};
		char packed[200], plain[100];
		size_t n = pack("line\n", rows[i].flush, packed, sizeof(packed));
		z_stream z = {0};

		strcpy(packed + n, rows[i].behind); /* NOLINT: a row of ours */
		n += strlen(rows[i].behind);
		peer_open_pair(loop, &a, &b);
		conn_set_owner(b.conn, on_line, &b);
		assert_int_equal(conn_stop_deflate(b.conn), ERR_UNSUPPORTED);
		assert_int_equal(conn_start_deflate(b.conn), 0);
		conn_write(a.conn, slice_of(packed, n));
		RUN_UNTIL(loop, b.error != 1);
		assert_int_equal(b.error, rows[i].err);
		assert_false(conn_is_deflated(b.conn));
		conn_write_str(a.conn, " and more");
		RUN_UNTIL(loop, buf_len(&b.got) == strlen(rows[i].want) + 9);
		assert_true(slice_has_prefix(buf_view(&b.got), rows[i].want));
		/* The answer is compressed, what follows is not. */
		RUN_UNTIL(loop, buf_len(&a.got) > 14);
		assert_int_equal(inflateInit2(&z, -15), Z_OK);
		z.next_in = (Bytef *)a.got.data + a.got.start;
		z.avail_in = (uInt)buf_len(&a.got) - 14;
		z.next_out = (Bytef *)plain;
		z.avail_out = sizeof(plain);
		assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
		assert_int_equal(z.avail_in, 0);
		assert_true(slice_is_str(slice_of(plain, sizeof(plain) - z.avail_out), "OK\r\n"));
		assert_memory_equal(a.got.data + a.got.start + buf_len(&a.got) - 14, "in clear again", 14);
		inflateEnd(&z);
		/* And it may begin again. */
		assert_int_equal(conn_start_deflate(b.conn), 0);
		peer_deinit(&a);
		peer_deinit(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_ways_in_any_pieces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_input_that_waits_refuses_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_broken_stream_ends_the_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_security_23_a_bomb_is_stopped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_security_23_a_stream_of_nothing_is_read_in_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_compression_ends, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
