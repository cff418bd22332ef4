/* Connections: order of bytes, marks, pause, ends, STARTTLS, listeners and dialling on loopback. */
#include "tests/unit/common/net/net_test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include "common/base/clock.h"
#include "common/net/conn_private.h"
#include "common/net/dial.h"
#include "common/net/listener.h"

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

static void test_bytes_come_in_order_and_the_end_is_told(void **state)
{
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write_str(a.conn, "hello ");
	conn_printf(a.conn, "%s %d\r\n", "world", 42);
	assert_int_equal(conn_output_len(a.conn), 16);
	conn_shutdown(a.conn);
	conn_write_str(a.conn, "too late");
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	assert_true(slice_is_str(buf_view(&b.got), "hello world 42\r\n"));
	assert_int_equal(b.events[CONN_DATA], 1);
	conn_write_str(b.conn, "the other way still works");
	RUN_UNTIL(loop, buf_len(&a.got) == 25);
	assert_int_equal(conn_bytes_out(a.conn), 16);
	assert_int_equal(conn_bytes_in(b.conn), 16);
	conn_close(&b.conn);
	assert_null(b.conn);
	RUN_UNTIL(loop, a.events[CONN_EOF]);
	peer_deinit(&a);
	peer_deinit(&b);
}

/* Consumes 1 byte at each event: the rest waits in the connection's own buffer. */
static void on_nibble(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	peer->events[event]++;
	if (event == CONN_DATA) {
		buf_add_slice(&peer->got, slice_sub(conn_input(conn), 0, 1));
		conn_consume(conn, 1);
	}
}

static void test_input_that_is_left_waits(void **state)
{
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_nibble, &b);
	for (const char *p = "abc"; *p; p++) {
		unsigned before = b.events[CONN_DATA];

		conn_write(a.conn, slice_of(p, 1));
		conn_write(a.conn, slice_of("-", 1));
		RUN_UNTIL(loop, b.events[CONN_DATA] == before + 1);
	}
	assert_true(slice_is_str(buf_view(&b.got), "a-b"));
	assert_true(slice_is_str(conn_input(b.conn), "-c-"));
	conn_consume(b.conn, 3);
	assert_int_equal(conn_input(b.conn).len, 0);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_input_stops_at_its_limit(void **state)
{
	static char block[100000];
	struct peer a = {0}, b = {.keeps = true};

	(void)state;
	memset(block, 'x', sizeof(block));
	peer_open_pair(loop, &a, &b);
	conn_set_input_limit(b.conn, 1000);
	conn_write(a.conn, slice_of(block, sizeof(block)));
	RUN_UNTIL(loop, conn_input(b.conn).len == 1000);
	run_short(loop);
	run_short(loop);
	assert_int_equal(conn_input(b.conn).len, 1000);
	b.keeps = false;
	conn_consume(b.conn, 1000);
	RUN_UNTIL(loop, buf_len(&b.got) == sizeof(block) - 1000);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_congestion_ends_with_drained(void **state)
{
	static char block[2000000];
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_pause(b.conn);
	conn_write(a.conn, slice_of(block, sizeof(block)));
	assert_true(conn_is_congested(a.conn));
	run_short(loop);
	run_short(loop);
	assert_true(conn_is_congested(a.conn));
	assert_int_equal(a.events[CONN_DRAINED], 0);
	assert_int_equal(b.events[CONN_DATA], 0);
	conn_resume(b.conn);
	RUN_UNTIL(loop, a.events[CONN_DRAINED] == 1);
	RUN_UNTIL(loop, buf_len(&b.got) == sizeof(block));
	conn_want_drained(a.conn);
	RUN_UNTIL(loop, a.events[CONN_DRAINED] == 2);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_resuming_with_input_at_hand_tells_it(void **state)
{
	struct peer a = {0}, b = {.keeps = true};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write_str(a.conn, "x");
	RUN_UNTIL(loop, b.events[CONN_DATA] == 1);
	conn_pause(b.conn);
	conn_write_str(a.conn, "y");
	run_short(loop);
	assert_int_equal(b.events[CONN_DATA], 1);
	b.keeps = false;
	conn_resume(b.conn);
	RUN_UNTIL(loop, buf_len(&b.got) == 2);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void test_close_sends_what_waits(void **state)
{
	static char block[1000000];
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write(a.conn, slice_of(block, sizeof(block)));
	conn_close(&a.conn);
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	assert_int_equal(buf_len(&b.got), sizeof(block));
	peer_deinit(&b);
}

static void test_lingering_has_an_end(void **state)
{
	static char block[1000000];
	struct peer a = {0}, b = {0};

	(void)state;
	loop_free(&loop);
	clock_fake_start(0);
	assert_int_equal(loop_new(&loop), 0);
	peer_open_pair(loop, &a, &b);
	conn_pause(b.conn);
	conn_write(a.conn, slice_of(block, sizeof(block)));
	conn_close(&a.conn);
	clock_fake_advance(5100);
	loop_post(loop, stop_loop, loop);
	loop_run(loop);
	clock_fake_stop();
	conn_resume(b.conn);
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	assert_in_range(buf_len(&b.got), 1, sizeof(block) - 1);
	peer_deinit(&b);
}

static void test_a_broken_peer_is_told_once(void **state)
{
	struct peer a = {0};
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], NULL, peer_on_event, &a, &a.conn), 0);
	close(fds[1]);
	conn_write_str(a.conn, "nobody hears");
	RUN_UNTIL(loop, a.events[CONN_FAILED]);
	assert_int_equal(a.error, ERR_CLOSED);
	conn_write_str(a.conn, "nobody hears");
	run_short(loop);
	assert_int_equal(a.events[CONN_FAILED], 1);
	assert_int_equal(conn_output_len(a.conn), 0);
	peer_deinit(&a);
}

static void on_close_itself(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	assert_ptr_equal(conn, peer->conn);
	peer->events[event]++;
	conn_write_str(conn, "bye");
	conn_close(&peer->conn);
}

static void test_an_owner_may_close_in_any_event(void **state)
{
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_close_itself, &b);
	conn_write_str(a.conn, "x");
	RUN_UNTIL(loop, a.events[CONN_EOF]);
	assert_true(slice_is_str(buf_view(&a.got), "bye"));
	peer_deinit(&a);

	memset(&a, 0, sizeof(a));
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_close_itself, &b);
	conn_shutdown(a.conn);
	RUN_UNTIL(loop, b.events[CONN_EOF]);
	RUN_UNTIL(loop, buf_len(&a.got) == 3);
	peer_deinit(&a);
}

static void test_a_buffer_moves_into_the_output(void **state)
{
	struct peer a = {0}, b = {0};
	struct buf text = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	buf_add_str(&text, "one ");
	conn_write_take(a.conn, &text);
	assert_int_equal(buf_len(&text), 0);
	buf_add_str(&text, "two");
	conn_write_take(a.conn, &text);
	buf_add_str(conn_output(a.conn), " three");
	conn_written(a.conn);
	conn_flush(a.conn);
	assert_int_equal(conn_output_len(a.conn), 0);
	RUN_UNTIL(loop, buf_len(&b.got));
	assert_true(slice_is_str(buf_view(&b.got), "one two three"));
	buf_deinit(&text);
	peer_deinit(&a);
	peer_deinit(&b);
}

/* ---- listeners and dialling ---- */

struct acceptor {
	struct peer peers[64];
	unsigned count;
};

static void on_accept(void *arg, struct conn *conn)
{
	struct acceptor *acceptor = arg;
	struct peer *peer = &acceptor->peers[acceptor->count++];

	peer->conn = conn;
	conn_set_owner(conn, peer_on_event, peer);
	conn_write_str(conn, "hi\r\n");
}

static void acceptor_deinit(struct acceptor *acceptor)
{
	for (unsigned i = 0; i < acceptor->count; i++)
		peer_deinit(&acceptor->peers[i]);
}

static struct listener *listen_on(const char *host, struct tls *tls, unsigned most, struct acceptor *acceptor)
{
	struct listener_options options = {.tls = tls, .name = "test", .connections_most = most};
	struct listener *listener = NULL;
	struct buf why = {0};

	assert_int_equal(addr_parse(slice_str(host), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, on_accept, acceptor, &why, &listener), 0);
	return listener;
}

static void dial_to(struct peer *peer, const char *host, uint16_t port, uint64_t timeout_ms, struct tls *tls)
{
	struct dial_options options = {.host = host,
		.port = port,
		.timeout_ms = timeout_ms,
		.tls = tls,
		.server_name = tls ? "mail.example.test" : NULL};

	assert_int_equal(dial(loop, &options, peer_on_event, peer, &peer->conn), 0);
}

static void test_dial_and_accept(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "::1"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct acceptor acceptor = {0};
		struct peer client = {0};
		struct listener *listener = listen_on(hosts[i], NULL, 0, &acceptor);
		char text[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];
		int value = 0;
		socklen_t len = sizeof(value);

		dial_to(&client, hosts[i], addr_port(listener_addr(listener)), 2000, NULL);
		conn_write_str(client.conn, "early");
		RUN_UNTIL(loop, buf_len(&client.got) == 4 && buf_len(&acceptor.peers[0].got) == 5);
		assert_int_equal(client.events[CONN_OPENED], 1);
		assert_int_equal(acceptor.peers[0].events[CONN_OPENED], 0);
		assert_string_equal(addr_host(conn_peer(client.conn), text), hosts[i]);
		assert_string_equal(addr_text(conn_local(client.conn), text),
			addr_text(conn_peer(acceptor.peers[0].conn), other));
		assert_string_equal(addr_text(conn_peer(client.conn), text),
			addr_text(conn_local(acceptor.peers[0].conn), other));
		assert_int_equal(
			getsockopt(acceptor.peers[0].conn->fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
		assert_int_equal(value, 1);
		assert_int_equal(listener_connections(listener), 1);
		peer_deinit(&client);
		acceptor_deinit(&acceptor);
		assert_int_equal(listener_connections(listener), 0);
		listener_close(&listener);
		run_short(loop);
	}
}

/* A client that goes on talking while it is thrown out still reads why. */
static void test_last_words_survive_unread_input(void **state)
{
	static char chatter[30000];
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	struct addr addr = *listener_addr(listener);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[64];

	(void)state;
	assert_int_equal(connect(fd, (struct sockaddr *)&addr.ss, addr.len), 0);
	RUN_UNTIL(loop, acceptor.count == 1);
	conn_pause(acceptor.peers[0].conn);
	assert_int_equal(write(fd, chatter, sizeof(chatter)), sizeof(chatter));
	run_short(loop);
	conn_write_str(acceptor.peers[0].conn, "421 bye\r\n");
	conn_close(&acceptor.peers[0].conn);
	run_short(loop);
	assert_int_equal(recv(fd, text, 4, MSG_WAITALL), 4);
	assert_int_equal(recv(fd, text, 9, MSG_WAITALL), 9);
	assert_memory_equal(text, "421 bye\r\n", 9);
	assert_int_equal(recv(fd, text, 1, 0), 0); /* an end in order, no reset */
	close(fd);
	listener_close(&listener);
	run_short(loop);
}

struct two {
	struct peer peer;
	struct conn *other;
};

static void on_close_the_other(void *owner, struct conn *conn, enum conn_event event)
{
	struct two *two = owner;

	if (event != CONN_DATA)
		return;
	conn_close(&two->other);
	buf_add_slice(&two->peer.got, conn_input(conn)); /* still what came in */
	conn_consume(conn, conn_input(conn).len);
}

static void test_closing_another_leaves_the_input_alone(void **state)
{
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	struct peer talker = {0}, noisy = {0};
	struct two two = {0};

	(void)state;
	dial_to(&noisy, "127.0.0.1", addr_port(listener_addr(listener)), 1000, NULL);
	RUN_UNTIL(loop, acceptor.count == 1);
	two.other = acceptor.peers[0].conn;
	acceptor.peers[0].conn = NULL;
	conn_pause(two.other);
	conn_write_str(noisy.conn, "XXXXXXXXXXXX");
	dial_to(&talker, "127.0.0.1", addr_port(listener_addr(listener)), 1000, NULL);
	RUN_UNTIL(loop, acceptor.count == 2);
	conn_set_owner(acceptor.peers[1].conn, on_close_the_other, &two);
	conn_write_str(talker.conn, "mine");
	RUN_UNTIL(loop, buf_len(&two.peer.got) == 4);
	assert_memory_equal(two.peer.got.data, "mine", 4);
	buf_deinit(&two.peer.got);
	peer_deinit(&talker);
	peer_deinit(&noisy);
	acceptor_deinit(&acceptor);
	listener_close(&listener);
	run_short(loop);
}

static void test_dial_over_a_unix_socket(void **state)
{
	struct acceptor acceptor = {0};
	struct peer client = {0};
	struct listener *listener;
	struct stat st;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/mailtier-net-%d.sock", getpid());
	listener = listen_on(path, NULL, 0, &acceptor);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	dial_to(&client, path, 0, 2000, NULL);
	RUN_UNTIL(loop, buf_len(&client.got) == 4);
	assert_true(addr_is_loopback(conn_peer(acceptor.peers[0].conn)));
	listener_close(&listener);
	run_short(loop);
	assert_int_equal(stat(path, &st), -1);
	peer_deinit(&client);
	acceptor_deinit(&acceptor);
}

static void test_refused_connections_fail(void **state)
{
	struct acceptor acceptor = {0};
	struct peer client = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	uint16_t port = addr_port(listener_addr(listener));

	(void)state;
	listener_close(&listener);
	run_short(loop);
	dial_to(&client, "127.0.0.1", port, 2000, NULL);
	RUN_UNTIL(loop, client.events[CONN_FAILED]);
	assert_string_equal(conn_error_detail(client.conn), "Connection refused");
	assert_int_equal(client.events[CONN_OPENED], 0);
	peer_deinit(&client);
}

/* A listening socket whose queue is full does not answer. */
static void test_dial_times_out(void **state)
{
	struct peer clients[4] = {0};
	struct addr addr;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned failed = 0;

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &addr), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr.ss, addr.len), 0);
	assert_int_equal(listen(fd, 0), 0);
	getsockname(fd, (struct sockaddr *)&addr.ss, &addr.len);
	for (unsigned i = 0; i < 4; i++)
		dial_to(&clients[i], "127.0.0.1", addr_port(&addr), 100, NULL);
	for (unsigned i = 0; i < 20; i++)
		run_short(loop);
	for (unsigned i = 0; i < 4; i++) {
		failed += clients[i].events[CONN_FAILED];
		assert_int_equal(clients[i].events[CONN_FAILED] + clients[i].events[CONN_OPENED], 1);
		if (clients[i].events[CONN_FAILED])
			assert_int_equal(clients[i].error, ERR_TIMEOUT);
		peer_deinit(&clients[i]);
	}
	assert_true(failed > 0);
	close(fd);
}

static void test_dial_can_be_cancelled_in_every_state(void **state)
{
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	struct tls *tls = tls_test_client(true);
	struct peer client = {0};

	(void)state;
	for (unsigned turns = 0; turns < 4; turns++) {
		dial_to(&client, "127.0.0.1", addr_port(listener_addr(listener)), 1000,
			turns % 2 ? tls : NULL);
		for (unsigned i = 0; i < turns; i++) {
			loop_post(loop, stop_loop, loop);
			loop_run(loop);
		}
		conn_close(&client.conn);
	}
	run_short(loop);
	tls_unref(&tls);
	listener_close(&listener);
	run_short(loop);
	acceptor_deinit(&acceptor);
	buf_deinit(&client.got);
}

static void test_connections_have_a_limit(void **state)
{
	struct acceptor acceptor = {0};
	struct peer clients[3] = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 2, &acceptor);
	unsigned closed = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		dial_to(&clients[i], "127.0.0.1", addr_port(listener_addr(listener)), 1000, NULL);
	for (unsigned i = 0; i < 10; i++)
		run_short(loop);
	assert_int_equal(acceptor.count, 2);
	assert_int_equal(listener_connections(listener), 2);
	for (unsigned i = 0; i < 3; i++) {
		closed += clients[i].events[CONN_EOF] + clients[i].events[CONN_FAILED] > 0;
		peer_deinit(&clients[i]);
	}
	assert_int_equal(closed, 1);
	listener_close(&listener);
	run_short(loop);
	acceptor_deinit(&acceptor);
}

static void test_closing_takes_what_is_queued_first(void **state)
{
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	struct addr addr = *listener_addr(listener);
	int fds[8];
	char text[8];

	(void)state;
	run_short(loop);
	for (unsigned i = 0; i < 8; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&addr.ss, addr.len), 0);
	}
	listener_close(&listener);
	assert_null(listener);
	RUN_UNTIL(loop, acceptor.count == 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(read(fds[i], text, sizeof(text)), 4);
		close(fds[i]);
	}
	acceptor_deinit(&acceptor);
}

static void test_exhausted_descriptors_pause_accepting(void **state)
{
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, 0, &acceptor);
	struct addr addr = *listener_addr(listener);
	struct rlimit before, tight;
	int fds[4], spare;
	char byte;

	(void)state;
	run_short(loop);
	for (unsigned i = 0; i < 4; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	spare = dup(0); /* the next number would be this one */
	close(spare);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)spare;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(connect(fds[i], (struct sockaddr *)&addr.ss, addr.len), 0);
	run_short(loop);
	run_short(loop);
	assert_int_equal(acceptor.count, 0);
	assert_int_equal(read(fds[0], &byte, 1), 0); /* told by the reserve */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	RUN_UNTIL(loop, acceptor.count >= 2);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	listener_close(&listener);
	run_short(loop);
	acceptor_deinit(&acceptor);
}

/* ---- TLS ---- */

static void test_tls_both_ways_at_once(void **state)
{
	static char block[300000];
	struct acceptor acceptor = {0};
	struct tls *server = tls_test_server(NULL), *client_tls = tls_test_client(true);
	struct listener *listener = listen_on("127.0.0.1", server, 0, &acceptor);
	struct peer client = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7);
	dial_to(&client, "127.0.0.1", addr_port(listener_addr(listener)), 2000, client_tls);
	conn_write(client.conn, slice_of(block, sizeof(block)));
	RUN_UNTIL(
		loop, client.events[CONN_OPENED] && acceptor.count && acceptor.peers[0].events[CONN_OPENED]);
	conn_write(acceptor.peers[0].conn, slice_of(block, sizeof(block)));
	RUN_UNTIL(loop, buf_len(&client.got) == 4 + sizeof(block) &&
				buf_len(&acceptor.peers[0].got) == sizeof(block));
	assert_memory_equal(buf_view(&client.got).p + 4, block, sizeof(block));
	assert_memory_equal(buf_view(&acceptor.peers[0].got).p, block, sizeof(block));
	assert_string_equal(conn_tls_text(client.conn), "TLSv1.3 TLS_AES_128_GCM_SHA256");
	assert_true(conn_has_peer_certificate(client.conn));
	assert_false(conn_has_peer_certificate(acceptor.peers[0].conn));
	assert_string_equal(conn_peer_certificate_name(client.conn), "server");
	conn_shutdown(client.conn);
	RUN_UNTIL(loop, acceptor.peers[0].events[CONN_EOF]);
	tls_unref(&server);
	tls_unref(&client_tls);
	listener_close(&listener);
	run_short(loop);
	peer_deinit(&client);
	acceptor_deinit(&acceptor);
}

static void test_a_wrong_certificate_is_refused(void **state)
{
	static const struct {
		const char *certificate, *name;
		bool verify;
		bool want_opened;
	} rows[] = {
		{"server", "mail.example.test", true, true},
		{"server", "127.0.0.1", true, true},
		{"server", "other.example.test", true, false},
		{"server", "127.0.0.2", true, false},
		{"server", "other.example.test", false, true},
		{"stranger", "mail.example.test", true, false},
		{"stranger", "mail.example.test", false, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_server_options options = {.session_context = "test"};
		struct acceptor acceptor = {0};
		struct listener *listener;
		struct peer client = {0};
		struct dial_options dialling = {
			.host = "127.0.0.1", .timeout_ms = 2000, .server_name = rows[i].name};
		struct tls *server, *client_tls = tls_test_client(rows[i].verify);
		struct buf why = {0};
		char pem[32], key[32];

		snprintf(pem, sizeof(pem), "%s.pem", rows[i].certificate);
		snprintf(key, sizeof(key), "%s.key", rows[i].certificate);
		options.certificate = cert_path(pem);
		options.key = cert_path(key);
		assert_int_equal(tls_server_new(&options, &why, &server), 0);
		listener = listen_on("127.0.0.1", server, 0, &acceptor);
		dialling.port = addr_port(listener_addr(listener));
		dialling.tls = client_tls;
		assert_int_equal(dial(loop, &dialling, peer_on_event, &client, &client.conn), 0);
		RUN_UNTIL(loop, client.events[CONN_OPENED] + client.events[CONN_FAILED]);
		assert_int_equal(client.events[CONN_OPENED], rows[i].want_opened);
		if (!rows[i].want_opened)
			assert_int_equal(client.error, ERR_TLS);
		tls_unref(&server);
		tls_unref(&client_tls);
		listener_close(&listener);
		run_short(loop);
		peer_deinit(&client);
		acceptor_deinit(&acceptor);
	}
}

static void check_names(struct conn *conn, bool has_shown)
{
	static const struct {
		enum conn_certificate_field field;
		size_t index;
		const char *want;
	} rows[] = {
		{CONN_CERTIFICATE_CN, 0, "client"},
		{CONN_CERTIFICATE_CN, 1, NULL},
		{CONN_CERTIFICATE_EMAIL, 0, "client@example.test"},
		{CONN_CERTIFICATE_EMAIL, 1, "other@example.test"},
		{CONN_CERTIFICATE_EMAIL, 2, NULL},
		{CONN_CERTIFICATE_UPN, 0, "client@ad.example.test"},
		{CONN_CERTIFICATE_UPN, 1, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *got = conn_peer_certificate_field(conn, rows[i].field, rows[i].index);

		if (has_shown && rows[i].want)
			assert_string_equal(got, rows[i].want);
		else
			assert_null(got);
	}
}

static void test_clients_show_certificates(void **state)
{
	static const struct {
		const char *certificate; /* NULL: none */
		bool required;
		bool want;
	} rows[] = {
		{"client", true, true},
		{"client", false, true},
		{NULL, true, false},
		{NULL, false, true},
		{"stranger", true, false},
		{"stranger", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_server_options so = {.certificate = cert_path("server.pem"),
			.key = cert_path("server.key"),
			.client_ca = cert_path("ca.pem"),
			.client_required = rows[i].required};
		struct tls_client_options co = {.ca = cert_path("ca.pem"), .verify = true};
		struct acceptor acceptor = {0};
		struct peer client = {0}, *seen = &acceptor.peers[0];
		struct listener *listener;
		struct tls *server, *client_tls;
		struct buf why = {0};
		char pem[32], key[32];

		if (rows[i].certificate) {
			snprintf(pem, sizeof(pem), "%s.pem", rows[i].certificate);
			snprintf(key, sizeof(key), "%s.key", rows[i].certificate);
			co.certificate = cert_path(pem);
			co.key = cert_path(key);
		}
		assert_int_equal(tls_server_new(&so, &why, &server), 0);
		assert_int_equal(tls_client_new(&co, &why, &client_tls), 0);
		listener = listen_on("127.0.0.1", server, 0, &acceptor);
		dial_to(&client, "127.0.0.1", addr_port(listener_addr(listener)), 2000, client_tls);
		RUN_UNTIL(loop, seen->events[CONN_OPENED] + seen->events[CONN_FAILED]);
		assert_int_equal(seen->events[CONN_OPENED], rows[i].want);
		assert_int_equal(conn_has_peer_certificate(seen->conn), rows[i].want && rows[i].certificate);
		assert_string_equal(conn_peer_certificate_name(seen->conn),
			rows[i].want && rows[i].certificate ? "client"
							    : conn_peer_certificate_name(seen->conn));
		check_names(seen->conn, rows[i].want && rows[i].certificate);
		tls_unref(&server);
		tls_unref(&client_tls);
		listener_close(&listener);
		run_short(loop);
		peer_deinit(&client);
		acceptor_deinit(&acceptor);
	}
}

static void test_starttls_goes_on_encrypted(void **state)
{
	struct tls *server = tls_test_server(NULL), *client_tls = tls_test_client(true);
	struct peer a = {0}, b = {0};

	(void)state;
	peer_open_pair(loop, &a, &b);
	conn_write_str(a.conn, "STARTTLS\r\n");
	RUN_UNTIL(loop, buf_len(&b.got) == 10);
	conn_write_str(b.conn, "220 go ahead\r\n");
	assert_int_equal(conn_start_tls_server(b.conn, server), 0);
	conn_write_str(b.conn, "secret");
	RUN_UNTIL(loop, buf_len(&a.got) == 14);
	run_short(loop);
	assert_int_equal(buf_len(&a.got), 14);
	assert_int_equal(conn_start_tls_client(a.conn, client_tls, "mail.example.test"), 0);
	assert_int_equal(conn_start_tls_client(a.conn, client_tls, "mail.example.test"), ERR_UNSUPPORTED);
	RUN_UNTIL(loop, a.events[CONN_SECURED] && b.events[CONN_SECURED] && buf_len(&a.got) == 20);
	assert_true(slice_is_str(buf_view(&a.got), "220 go ahead\r\nsecret"));
	assert_true(conn_is_tls(a.conn));
	tls_unref(&server);
	tls_unref(&client_tls);
	peer_deinit(&a);
	peer_deinit(&b);
}

/* Both ends know the same, another connection has other octets, and one without TLS has none. */
static void security_07_what_binds_to_a_connection(void **state)
{
	struct tls *server = tls_test_server(NULL), *client_tls = tls_test_client(true);
	char ours[64], theirs[64], before[64] = "";
	size_t our_len, their_len;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct peer a = {0}, b = {0};

		peer_open_pair(loop, &a, &b);
		assert_null(conn_channel_binding(b.conn, ours, sizeof(ours), &our_len));
		assert_int_equal(conn_start_tls_server(b.conn, server), 0);
		assert_int_equal(conn_start_tls_client(a.conn, client_tls, "mail.example.test"), 0);
		assert_null(conn_channel_binding(b.conn, ours, sizeof(ours), &our_len));
		RUN_UNTIL(loop, a.events[CONN_SECURED] && b.events[CONN_SECURED]);
		assert_string_equal(
			conn_channel_binding(b.conn, ours, sizeof(ours), &our_len), "tls-exporter");
		assert_string_equal(
			conn_channel_binding(a.conn, theirs, sizeof(theirs), &their_len), "tls-exporter");
		assert_int_equal(our_len, 32);
		assert_int_equal(their_len, 32);
		assert_memory_equal(ours, theirs, 32);
		assert_memory_not_equal(ours, before, 32);
		assert_null(conn_channel_binding(b.conn, theirs, 31, &their_len));
		memcpy(before, ours, 32);
		peer_deinit(&a);
		peer_deinit(&b);
	}
	tls_unref(&server);
	tls_unref(&client_tls);
}

/* What came behind STARTTLS in clear must never be taken for encrypted (RFC 3207 section 6, CVE-2011-0411).
 */
static void on_starttls_line(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	peer->events[event]++;
	if (event == CONN_DATA && !conn_is_tls(conn))
		conn_consume(conn, 10); /* the line STARTTLS, and no more */
	else if (event == CONN_DATA)
		buf_add_slice(&peer->got, conn_input(conn));
}

static void security_01_starttls_injection(void **state)
{
	struct tls *server = tls_test_server(NULL);
	struct peer a = {0}, b = {0};

	(void)state;
	/* In the connection's buffer already: refused. */
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_starttls_line, &b);
	conn_write_str(a.conn, "STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n");
	RUN_UNTIL(loop, b.events[CONN_DATA]);
	assert_int_equal(conn_start_tls_server(b.conn, server), ERR_DENIED);
	peer_deinit(&a);
	peer_deinit(&b);
	/* Still in the kernel: read as TLS, and the handshake fails. */
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	peer_open_pair(loop, &a, &b);
	conn_set_owner(b.conn, on_starttls_line, &b);
	conn_write_str(a.conn, "STARTTLS\r\n");
	RUN_UNTIL(loop, b.events[CONN_DATA]);
	conn_write_str(a.conn, "MAIL FROM:<evil@example.com>\r\n");
	conn_flush(a.conn);
	assert_int_equal(conn_start_tls_server(b.conn, server), 0);
	RUN_UNTIL(loop, b.events[CONN_FAILED]);
	assert_int_equal(conn_error(b.conn), ERR_TLS);
	assert_int_equal(buf_len(&b.got), 0);
	assert_int_equal(b.events[CONN_SECURED], 0);
	peer_deinit(&a);
	peer_deinit(&b);
	tls_unref(&server);
}

/* A client that speaks ALPN means a service: another one than ours is refused (ALPACA). */
static void security_02_alpaca(void **state)
{
	static const char *const ours[] = {"imap", NULL};
	static const struct {
		const char *offer; /* wire format */
		bool want;
	} rows[] = {{"", true}, {"\x04imap", true}, {"\x08http/1.1\x04imap", true}, {"\x08http/1.1", false},
		{"\x02h2\x08http/1.1", false}, {"\x04pop3", false}};
	struct tls *server = tls_test_server(ours);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls *client_tls = tls_test_client(true);
		struct peer a = {0}, b = {0};

		peer_open_pair(loop, &a, &b);
		assert_int_equal(conn_start_tls_server(b.conn, server), 0);
		assert_int_equal(conn_start_tls_client(a.conn, client_tls, "mail.example.test"), 0);
		SSL_set_alpn_protos(
			a.conn->ssl, (const unsigned char *)rows[i].offer, (unsigned)strlen(rows[i].offer));
		RUN_UNTIL(loop, a.events[CONN_SECURED] + a.events[CONN_FAILED] &&
					b.events[CONN_SECURED] + b.events[CONN_FAILED]);
		assert_int_equal(b.events[CONN_SECURED], rows[i].want);
		peer_deinit(&a);
		peer_deinit(&b);
		tls_unref(&client_tls);
	}
	tls_unref(&server);
}

static void test_bad_tls_files_are_explained(void **state)
{
	struct tls_server_options options = {
		.certificate = cert_path("server.pem"), .key = cert_path("server.key")};
	struct buf why = {0};
	struct tls *tls = NULL;

	(void)state;
	chmod(options.key, 0644);
	assert_int_equal(tls_server_new(&options, &why, &tls), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "server.key: others may read"));
	chmod(options.key, 0600);
	buf_clear(&why);
	options.certificate = "/nonexistent.pem";
	assert_int_equal(tls_server_new(&options, &why, &tls), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "/nonexistent.pem"));
	buf_clear(&why);
	options.certificate = cert_path("client.pem"); /* of another key */
	assert_int_equal(tls_server_new(&options, &why, &tls), ERR_CONFIG);
	options = (struct tls_server_options){.certificate = cert_path("server.pem"),
		.key = cert_path("server.key"),
		.client_required = true};
	assert_int_equal(tls_server_new(&options, &why, &tls), ERR_CONFIG);
	assert_null(tls);
	buf_deinit(&why);
}

static int group_set_up(void **state)
{
	return certs_make(state);
}

/* As while another program is being started: a copy of the descriptor is there, so the file is open still. */
static void test_a_closed_connection_gets_no_events_though_its_file_is_open(void **state)
{
	struct epoll_event event;
	struct peer peer = {0};
	int fds[2], copy;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	copy = dup(fds[0]);
	assert_int_equal(conn_open_fd(loop, fds[0], NULL, peer_on_event, &peer, &peer.conn), 0);
	run_short(loop);
	conn_abort(&peer.conn);
	run_short(loop);
	assert_int_equal(write(fds[1], "late", 4), 4);
	assert_int_equal(epoll_wait(loop->epoll_fd, &event, 1, 0), 0);
	run_short(loop);
	close(fds[1]);
	close(copy);
	peer_deinit(&peer);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_a_closed_connection_gets_no_events_though_its_file_is_open),
		T(test_bytes_come_in_order_and_the_end_is_told),
		T(test_input_that_is_left_waits),
		T(test_input_stops_at_its_limit),
		T(test_congestion_ends_with_drained),
		T(test_resuming_with_input_at_hand_tells_it),
		T(test_close_sends_what_waits),
		T(test_lingering_has_an_end),
		T(test_a_broken_peer_is_told_once),
		T(test_an_owner_may_close_in_any_event),
		T(test_a_buffer_moves_into_the_output),
		T(test_dial_and_accept),
		T(test_last_words_survive_unread_input),
		T(test_closing_another_leaves_the_input_alone),
		T(test_dial_over_a_unix_socket),
		T(test_refused_connections_fail),
		T(test_dial_times_out),
		T(test_dial_can_be_cancelled_in_every_state),
		T(test_connections_have_a_limit),
		T(test_closing_takes_what_is_queued_first),
		T(test_exhausted_descriptors_pause_accepting),
		T(test_tls_both_ways_at_once),
		T(test_a_wrong_certificate_is_refused),
		T(test_clients_show_certificates),
		T(test_starttls_goes_on_encrypted),
		T(security_07_what_binds_to_a_connection),
		T(security_01_starttls_injection),
		T(security_02_alpaca),
		T(test_bad_tls_files_are_explained),
	};
#undef T

	return cmocka_run_group_tests(tests, group_set_up, certs_remove);
}
