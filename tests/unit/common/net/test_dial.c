/* What dialling has of its own: where connections come from, what is written before all else. Listeners and TLS by themselves:
 * test_conn.c; sessions that are resumed: test_tls_cache.c. */
#include "common/net/dial.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

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

static void test_source_addresses_go_round(void **state)
{
	static const char *const texts[] = {"127.0.0.71", "::1", "127.0.0.72"};
	static const char *const want[] = {"127.0.0.71", "127.0.0.72", "127.0.0.72", "127.0.0.71"};
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, &acceptor);
	struct addr sources[3];
	struct dial_options options = {.host = "127.0.0.1",
		.port = addr_port(listener_addr(listener)),
		.timeout_ms = 2000,
		.sources = sources,
		.source_count = 3};

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(addr_parse(slice_str(texts[i]), 0, &sources[i]), 0);
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		struct peer client = {0};
		char text[ADDR_TEXT_MAX];

		options.source_first = i;
		assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
		RUN_UNTIL(loop, client.events[CONN_OPENED]);
		assert_string_equal(addr_host(conn_local(client.conn), text), want[i]);
		peer_deinit(&client);
	}
	options.source_count = DIAL_SOURCES_MOST + 1;
	assert_int_equal(dial(loop, &options, NULL, NULL, &(struct conn *){0}), ERR_TOO_BIG);
	end(listener, &acceptor);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

/* In a network of its own with four ports: two addresses give eight connections, and the ninth finds none. */
static void exhaust_ports(void)
{
	struct acceptor acceptor = {0};
	struct peer clients[9] = {0};
	struct addr sources[2];
	struct dial_options options = {
		.host = "127.0.0.1", .timeout_ms = 2000, .sources = sources, .source_count = 2};
	struct listener *listener;

	loopback_up();
	listener = listen_on("127.0.0.1", NULL, &acceptor);
	options.port = addr_port(listener_addr(listener));
	write_file("/proc/sys/net/ipv4/ip_local_port_range", "20000 20003");
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(addr_parse(slice_str(i ? "127.0.0.82" : "127.0.0.81"), 0, &sources[i]), 0);
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(dial(loop, &options, peer_on_event, &clients[i], &clients[i].conn), 0);
		RUN_UNTIL(loop, clients[i].events[CONN_OPENED] + clients[i].events[CONN_FAILED]);
		assert_int_equal(clients[i].events[CONN_OPENED], i < 8);
	}
	assert_string_equal(conn_error_detail(clients[8].conn), "Cannot assign requested address");
	for (unsigned i = 0; i < 9; i++)
		peer_deinit(&clients[i]);
	end(listener, &acceptor);
}

static void test_the_next_source_serves_when_one_has_no_port_left(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) != 0)
			_exit(77);
		assert_int_equal(loop_new(&loop), 0);
		exhaust_ports();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip(); /* not allowed to make a network */
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_a_prefix_goes_first_in_clear(void **state)
{
	struct acceptor acceptor = {0};
	struct listener *listener = listen_on("127.0.0.1", NULL, &acceptor);
	struct tls *tls = tls_test_client(true);
	struct dial_options options = {.host = "127.0.0.1",
		.port = addr_port(listener_addr(listener)),
		.timeout_ms = 2000,
		.prefix = SLICE_LIT("PREFIX\r\n")};

	(void)state;
	for (unsigned with_tls = 0; with_tls < 2; with_tls++) {
		struct peer client = {0};
		struct peer *peer = &acceptor.peers[with_tls];

		options.tls = with_tls ? tls : NULL;
		options.server_name = "mail.example.test";
		assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
		conn_write_str(client.conn, "hello");
		RUN_UNTIL(loop, acceptor.count == with_tls + 1 && buf_len(&peer->got) >= 13);
		assert_true(slice_has_prefix(
			buf_view(&peer->got), with_tls ? "PREFIX\r\n\x16\x03\x01" : "PREFIX\r\nhello"));
		peer_deinit(&client);
	}
	tls_unref(&tls);
	end(listener, &acceptor);
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
		T(test_source_addresses_go_round),
		T(test_the_next_source_serves_when_one_has_no_port_left),
		T(test_a_prefix_goes_first_in_clear),
	};
#undef T

	mem_init();
	return cmocka_run_group_tests(tests, certs_make, certs_remove);
}
