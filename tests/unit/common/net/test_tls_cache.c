/* Which handshakes with servers resume an earlier session. */
#include "common/net/tls_cache.h"

#include "common/net/conn_private.h"
#include "common/net/dial.h"
#include "common/net/listener.h"
#include "tests/unit/common/net/net_test.h"

static struct loop *loop;

struct acceptor {
	struct peer peers[16];
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

static struct listener *listen_on(const char *host, struct tls *tls, struct acceptor *acceptor)
{
	struct listener_options options = {.tls = tls, .name = "test"};
	struct listener *listener = NULL;
	struct buf why = {0};

	assert_int_equal(addr_parse(slice_str(host), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, on_accept, acceptor, &why, &listener), 0);
	return listener;
}

static void end(struct listener *listener, struct acceptor *acceptor)
{
	listener_close(&listener);
	run_short(loop);
	for (unsigned i = 0; i < acceptor->count; i++)
		peer_deinit(&acceptor->peers[i]);
}

static bool reused(const struct peer *peer)
{
	return SSL_session_reused(peer->conn->ssl);
}

static void test_sessions_are_resumed_with_the_same_host_and_name_only(void **state)
{
	static const struct {
		unsigned listener;
		const char *name;
		bool want;
	} rows[] = {
		{0, "mail.example.test", false},
		{0, "mail.example.test", true},
		{0, "mail.example.test", true},
		{0, "127.0.0.1", false},
		{1, "mail.example.test", false},
		{1, "mail.example.test", true},
	};
	struct acceptor acceptor = {0};
	struct tls *server = tls_test_server(NULL), *tls = tls_test_client(true);
	struct listener *listeners[2] = {
		listen_on("127.0.0.1", server, &acceptor), listen_on("127.0.0.1", server, &acceptor)};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dial_options options = {.host = "127.0.0.1",
			.port = addr_port(listener_addr(listeners[rows[i].listener])),
			.timeout_ms = 2000,
			.tls = tls,
			.server_name = rows[i].name};
		struct peer client = {0};

		assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
		RUN_UNTIL(loop, buf_len(&client.got) == 4); /* the ticket has come as well */
		assert_int_equal(reused(&client), rows[i].want);
		assert_true(conn_has_peer_certificate(client.conn));
		peer_deinit(&client);
		run_short(loop);
	}
	tls_unref(&server);
	/* A connection may outlive the context's owner, and is given tickets still. */
	tls_unref(&tls);
	listener_close(&listeners[1]);
	end(listeners[0], &acceptor);
}

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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_sessions_are_resumed_with_the_same_host_and_name_only),
	};
#undef T

	mem_init();
	return cmocka_run_group_tests(tests, certs_make, certs_remove);
}
