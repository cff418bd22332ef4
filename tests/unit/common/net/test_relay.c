/* The relay: what was buffered goes first, nothing is lost or reordered, ends and silence, plain and TLS. */
#include "tests/unit/common/net/net_test.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "common/base/clock.h"
#include "common/net/conn_private.h"
#include "common/net/relay.h"

static struct loop *loop;

/* client <-> a = relay = b <-> server */
struct rig {
	struct peer client, server, a, b;
	struct relay *relay;
	struct relay_end end;
	unsigned ends;
};

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

static void on_end(void *arg, const struct relay_end *end)
{
	struct rig *rig = arg;

	rig->end = *end;
	rig->ends++;
}

static void secure(struct peer *client, struct peer *server)
{
	struct tls *server_tls = tls_test_server(NULL), *client_tls = tls_test_client(true);

	assert_int_equal(conn_start_tls_server(server->conn, server_tls), 0);
	assert_int_equal(conn_start_tls_client(client->conn, client_tls, "mail.example.test"), 0);
	RUN_UNTIL(loop, client->events[CONN_SECURED] && server->events[CONN_SECURED]);
	tls_unref(&server_tls);
	tls_unref(&client_tls);
}

static void rig_open(struct rig *rig, bool tls_client, bool tls_server)
{
	peer_open_pair(loop, &rig->client, &rig->a);
	peer_open_pair(loop, &rig->b, &rig->server);
	if (tls_client)
		secure(&rig->client, &rig->a);
	if (tls_server)
		secure(&rig->b, &rig->server);
}

static void rig_start(struct rig *rig, uint64_t idle_ms)
{
	assert_int_equal(relay_start(&rig->a.conn, &rig->b.conn, idle_ms, on_end, rig, &rig->relay), 0);
	assert_null(rig->a.conn);
	assert_null(rig->b.conn);
}

static void rig_close(struct rig *rig)
{
	peer_deinit(&rig->client);
	peer_deinit(&rig->server);
	RUN_UNTIL(loop, rig->ends);
	peer_deinit(&rig->a);
	peer_deinit(&rig->b);
}

static void test_what_was_buffered_goes_first(void **state)
{
	(void)state;
	for (int tls = 0; tls < 4; tls++) {
		struct rig rig = {.a.keeps = true, .b.keeps = true};

		rig_open(&rig, tls & 1, tls & 2);
		conn_write_str(rig.client.conn, "a1 login\r\na2 select\r\n");
		conn_write_str(rig.server.conn, "* OK");
		RUN_UNTIL(loop, conn_input(rig.a.conn).len == 21 && conn_input(rig.b.conn).len == 4);
		conn_consume(rig.a.conn, 10);
		conn_write_str(rig.b.conn, "x1 login\r\n");
		conn_write_str(rig.a.conn, "a1 OK\r\n");
		rig_start(&rig, 10000);
		conn_write_str(rig.client.conn, "a3 noop\r\n");
		conn_write_str(rig.server.conn, " hello");
		RUN_UNTIL(loop, buf_len(&rig.server.got) == 30 && buf_len(&rig.client.got) == 17);
		assert_true(slice_is_str(buf_view(&rig.server.got), "x1 login\r\na2 select\r\na3 noop\r\n"));
		assert_true(slice_is_str(buf_view(&rig.client.got), "a1 OK\r\n* OK hello"));
		conn_close(&rig.client.conn);
		RUN_UNTIL(loop, rig.server.events[CONN_EOF]);
		conn_close(&rig.server.conn);
		RUN_UNTIL(loop, rig.ends == 1);
		assert_int_equal(rig.end.error, 0);
		assert_true(rig.end.by_client);
		assert_int_equal(rig.end.to_server, 20);
		assert_int_equal(rig.end.to_client, 10);
		rig_close(&rig);
	}
}

/* Called from within the event that brings the client's first bytes, which then lie in the loop's scratch. */
static void on_hand_over(void *owner, struct conn *conn, enum conn_event event)
{
	struct rig *rig = owner;

	assert_int_equal(event, CONN_DATA);
	assert_ptr_equal(conn, rig->a.conn);
	conn_consume(conn, 2);
	rig_start(rig, 10000);
}

static void test_a_hand_over_from_within_an_event(void **state)
{
	struct rig rig = {0};

	(void)state;
	rig_open(&rig, false, false);
	conn_set_owner(rig.a.conn, on_hand_over, &rig);
	conn_write_str(rig.client.conn, "1 2 3");
	RUN_UNTIL(loop, buf_len(&rig.server.got) == 3);
	assert_true(slice_is_str(buf_view(&rig.server.got), "2 3"));
	rig_close(&rig);
}

#define BIG (9 * 1024 * 1024 + 123)

static char big[BIG];

static void test_much_goes_both_ways_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)(i * 31 + i / 4096);
	for (int tls = 0; tls < 4; tls++) {
		struct rig rig = {0};

		rig_open(&rig, tls & 1, tls & 2);
		rig_start(&rig, 10000);
		conn_write(rig.client.conn, slice_of(big, BIG));
		conn_write(rig.server.conn, slice_of(big, BIG));
		conn_shutdown(rig.client.conn);
		RUN_UNTIL(loop, buf_len(&rig.client.got) == BIG && rig.server.events[CONN_EOF]);
		assert_int_equal(buf_len(&rig.server.got), BIG);
		assert_memory_equal(rig.server.got.data, big, BIG);
		assert_memory_equal(rig.client.got.data, big, BIG);
		assert_int_equal(rig.ends, 0); /* one half is still open */
		conn_write_str(rig.server.conn, "bye");
		conn_close(&rig.server.conn);
		RUN_UNTIL(loop, rig.ends);
		assert_int_equal(buf_len(&rig.client.got), BIG + 3);
		assert_int_equal(rig.end.error, 0);
		assert_true(rig.end.by_client);
		assert_int_equal(rig.end.to_server, BIG);
		rig_close(&rig);
	}
}

/* Who does not read stops the other: the relay holds a bounded amount. */
static void test_back_pressure_reaches_the_sender(void **state)
{
	(void)state;
	for (int tls = 0; tls < 4; tls++) {
		struct rig rig = {0};

		rig_open(&rig, tls & 1, tls & 2);
		rig_start(&rig, 10000);
		conn_pause(rig.client.conn);
		conn_write(rig.server.conn, slice_of(big, BIG));
		for (int i = 0; i < 10; i++)
			run_short(loop);
		assert_true(conn_output_len(rig.server.conn) > BIG - 4 * 1024 * 1024);
		conn_resume(rig.client.conn);
		RUN_UNTIL(loop, buf_len(&rig.client.got) == BIG);
		assert_memory_equal(rig.client.got.data, big, BIG);
		rig_close(&rig);
	}
}

/* Bytes that stand in the relay when one side breaks still reach the other. */
static void test_last_words_arrive_after_a_break(void **state)
{
	struct rig rig = {0};

	(void)state;
	rig_open(&rig, false, false);
	rig_start(&rig, 10000);
	conn_pause(rig.client.conn);
	conn_write(rig.server.conn, slice_of(big, 1000000));
	for (int i = 0; i < 10; i++)
		run_short(loop);
	size_t passed = 1000000 - conn_output_len(rig.server.conn);
	int waiting = 0;

	ioctl(rig.client.conn->fd, FIONREAD, &waiting);
	assert_true((size_t)waiting < passed); /* some of it is within the relay */
	conn_abort(&rig.server.conn);
	conn_write_str(rig.client.conn, "into the void");
	for (int i = 0; i < 5; i++)
		run_short(loop);
	conn_resume(rig.client.conn);
	RUN_UNTIL(loop, rig.client.events[CONN_EOF] + rig.client.events[CONN_FAILED]);
	assert_true(buf_len(&rig.client.got) >= passed);
	rig_close(&rig);
}

static void test_silence_ends_it(void **state)
{
	struct rig rig = {0};

	(void)state;
	loop_free(&loop);
	clock_fake_start(0);
	assert_int_equal(loop_new(&loop), 0); /* takes the fake time */
	rig_open(&rig, false, false);
	rig_start(&rig, 60000);
	for (int i = 0; i < 3; i++) {
		clock_fake_advance(40000);
		conn_write_str(i % 2 ? rig.client.conn : rig.server.conn, "x");
		for (int turn = 0; turn < 5; turn++) {
			loop_post(loop, stop_loop, loop);
			loop_run(loop);
		}
		assert_int_equal(rig.ends, 0);
	}
	clock_fake_advance(61000);
	for (int turn = 0; turn < 5; turn++) {
		loop_post(loop, stop_loop, loop);
		loop_run(loop);
	}
	clock_fake_stop();
	assert_int_equal(rig.ends, 1);
	assert_int_equal(rig.end.error, ERR_TIMEOUT);
	rig_close(&rig);
}

static void test_stopping_comes_at_the_turns_end(void **state)
{
	struct rig rig = {0};

	(void)state;
	rig_open(&rig, false, false);
	rig_start(&rig, 10000);
	run_short(loop);
	relay_stop(rig.relay);
	assert_int_equal(rig.ends, 0);
	RUN_UNTIL(loop, rig.ends);
	assert_int_equal(rig.end.error, ERR_CANCELLED);
	RUN_UNTIL(loop, rig.client.events[CONN_EOF] && rig.server.events[CONN_EOF]);
	assert_int_equal(buf_len(&rig.client.got), 0);
	rig_close(&rig);
}

static void test_a_loop_that_goes_ends_its_relays(void **state)
{
	struct rig rig = {0};

	(void)state;
	rig_open(&rig, true, false);
	rig_start(&rig, 10000);
	run_short(loop);
	buf_deinit(&rig.client.got);
	buf_deinit(&rig.server.got);
	loop_free(&loop);
	assert_int_equal(rig.ends, 1);
	assert_int_equal(rig.end.error, ERR_CANCELLED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_what_was_buffered_goes_first),
		T(test_a_hand_over_from_within_an_event),
		T(test_much_goes_both_ways_at_once),
		T(test_back_pressure_reaches_the_sender),
		T(test_last_words_arrive_after_a_break),
		T(test_silence_ends_it),
		T(test_stopping_comes_at_the_turns_end),
		T(test_a_loop_that_goes_ends_its_relays),
	};
#undef T

	return cmocka_run_group_tests(tests, certs_make, certs_remove);
}
