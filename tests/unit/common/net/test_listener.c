/*
 * Who is let in: PROXY headers by mode and network, access rules and flow control on the peer that they tell, changes of
 * policy while connections are open. Clients are bare sockets of 127.0.0.0/8.
 */
#include "tests/unit/common/net/net_test.h"

#include <arpa/inet.h>
#include <errno.h>

#include "common/base/clock.h"
#include "common/net/dial.h"
#include "common/net/listener.h"
#include "common/proto/proxy_protocol.h"

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

struct place {
	struct listener *listener;
	struct listener_policy *policy;
	struct acceptor acceptor;
};

static struct listener_policy *make_policy(enum listener_proxy proxy, const char *network, const char *rule)
{
	struct listener_policy *policy = listener_policy_new();
	struct buf why = {0};

	policy->proxy = proxy;
	policy->proxy_timeout_ms = 5000;
	if (network) {
		policy->proxy_networks = xcalloc(1, sizeof(*policy->proxy_networks));
		policy->proxy_network_count = 1;
		assert_int_equal(addr_net_parse(slice_str(network), policy->proxy_networks), 0);
	}
	if (rule)
		assert_int_equal(access_rules_new(&rule, 1, &why, &policy->access[LISTENER_OWN]), 0);
	return policy;
}

static void place_open(
	struct place *place, struct listener_policy *policy_take, struct flow *flow, struct tls *tls)
{
	struct listener_options options = {
		.tls = tls, .policy = policy_take, .name = "test", .flows = {flow}};
	struct buf why = {0};

	memset(place, 0, sizeof(*place));
	place->policy = policy_take;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(
		listener_open_on(loop, &options, on_accept, &place->acceptor, &why, &place->listener), 0);
}

static void place_close(struct place *place)
{
	listener_policy_unref(&place->policy);
	listener_close(&place->listener);
	run_short(loop);
	for (unsigned i = 0; i < place->acceptor.count; i++)
		peer_deinit(&place->acceptor.peers[i]);
}

/* A client's socket, connected from that address. */
static int client_from(const char *source, const struct place *place)
{
	struct addr from, to = *listener_addr(place->listener);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(addr_parse(slice_str(source), 0, &from), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from.ss, from.len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to.ss, to.len), 0);
	return fd;
}

static void send_all(int fd, const void *p, size_t len)
{
	assert_int_equal(send(fd, p, len, MSG_NOSIGNAL), len);
}

/* Closed by the other side, without a word? A reset is closed too. */
static bool is_closed(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static const char *peer_text(const struct peer *peer)
{
	static char text[ADDR_TEXT_MAX];

	return addr_text(conn_peer(peer->conn), text);
}

#define LINE "PROXY TCP4 192.0.2.1 198.51.100.7 56324 143\r\n"

static void test_security_07_headers_count_from_trusted_networks_alone(void **state)
{
	static const struct {
		enum listener_proxy mode;
		const char *source, *text;
		const char *want_peer; /* NULL: refused; "": the socket's */
		const char *want_input;
	} rows[] = {
		{LISTENER_PROXY_OFF, "127.0.0.5", LINE "NOOP\r\n", "", LINE "NOOP\r\n"},
		{LISTENER_PROXY_OFF, "127.0.0.9", LINE "NOOP\r\n", "", LINE "NOOP\r\n"},
		{LISTENER_PROXY_REQUIRED, "127.0.0.5", LINE "NOOP\r\n", "192.0.2.1:56324", "NOOP\r\n"},
		{LISTENER_PROXY_REQUIRED, "127.0.0.9", LINE "NOOP\r\n", NULL, NULL},
		{LISTENER_PROXY_REQUIRED, "127.0.0.9", "", NULL, NULL},
		{LISTENER_PROXY_REQUIRED, "127.0.0.5", "NOOP\r\n", NULL, NULL},
		{LISTENER_PROXY_OPTIONAL, "127.0.0.5", LINE "NOOP\r\n", "192.0.2.1:56324", "NOOP\r\n"},
		{LISTENER_PROXY_OPTIONAL, "127.0.0.5", "NOOP\r\n", NULL, NULL},
		/* from others it is input like any other, and no header */
		{LISTENER_PROXY_OPTIONAL, "127.0.0.9", LINE "NOOP\r\n", "", LINE "NOOP\r\n"},
		{LISTENER_PROXY_REQUIRED, "127.0.0.5", "PROXY UNKNOWN\r\nNOOP\r\n", "", "NOOP\r\n"},
		/* only one header is taken */
		{LISTENER_PROXY_REQUIRED, "127.0.0.5", LINE LINE, "192.0.2.1:56324", LINE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct place place;
		struct peer *peer = &place.acceptor.peers[0];
		char text[ADDR_TEXT_MAX];
		int fd;

		place_open(&place, make_policy(rows[i].mode, "127.0.0.4/30", NULL), NULL, NULL);
		fd = client_from(rows[i].source, &place);
		if (rows[i].text[0])
			send_all(fd, rows[i].text, strlen(rows[i].text));
		if (!rows[i].want_peer) {
			RUN_UNTIL(loop, is_closed(fd));
			assert_int_equal(place.acceptor.count, 0);
		} else {
			RUN_UNTIL(loop,
				place.acceptor.count && buf_len(&peer->got) == strlen(rows[i].want_input));
			assert_true(slice_is_str(buf_view(&peer->got), rows[i].want_input));
			if (rows[i].want_peer[0])
				assert_string_equal(peer_text(peer), rows[i].want_peer);
			else
				assert_string_equal(addr_host(conn_peer(peer->conn), text), rows[i].source);
			assert_string_equal(addr_host(conn_raw_peer(peer->conn), text), rows[i].source);
		}
		close(fd);
		place_close(&place);
	}
}

static size_t make_header(char *to, const struct proxy_protocol *h)
{
	struct buf out = {0};
	size_t len;

	proxy_protocol_write(&out, h);
	len = buf_len(&out);
	memcpy(to, buf_view(&out).p, len);
	buf_deinit(&out);
	return len;
}

static void test_what_a_header_tells(void **state)
{
	static const struct {
		uint8_t client;
		uint32_t verify;
		const char *want_name;
		bool want_secure;
	} rows[] = {{7, 0, "alice", true}, {3, 0, "alice", true}, {7, 1, NULL, true}, {1, 0, NULL, true},
		{0, 0, NULL, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct proxy_protocol h = {.family = PROXY_PROTOCOL_TCP6,
			.source = {0x20, 1, 0xd, 0xb8, [15] = 1},
			.destination = {0x20, 1, 0xd, 0xb8, [15] = 2},
			.source_port = 4000,
			.destination_port = 993,
			.authority = SLICE_LIT("imap.example.test"),
			.unique_id = SLICE_LIT("abc-123"),
			.has_ssl = true,
			.ssl_client = rows[i].client,
			.ssl_verify = rows[i].verify,
			.ssl_cn = SLICE_LIT("alice")};
		char header[PROXY_PROTOCOL_MOST], text[ADDR_TEXT_MAX];
		size_t len = make_header(header, &h);
		struct place place;
		struct conn *conn;
		int fd;

		place_open(&place, make_policy(LISTENER_PROXY_REQUIRED, "127.0.0.0/8", NULL), NULL, NULL);
		fd = client_from("127.0.0.1", &place);
		for (size_t at = 0; at < len; at++) { /* octet by octet */
			send_all(fd, header + at, 1);
			if (at % 16 == 0)
				run_short(loop);
		}
		RUN_UNTIL(loop, place.acceptor.count);
		conn = place.acceptor.peers[0].conn;
		assert_string_equal(peer_text(&place.acceptor.peers[0]), "[2001:db8::1]:4000");
		assert_string_equal(addr_text(conn_local(conn), text), "[2001:db8::2]:993");
		assert_string_equal(conn_authority(conn), "imap.example.test");
		assert_string_equal(conn_unique_id(conn), "abc-123");
		assert_false(conn_is_tls(conn));
		assert_int_equal(conn_is_secure(conn), rows[i].want_secure);
		assert_int_equal(conn_has_peer_certificate(conn), rows[i].want_name != NULL);
		if (rows[i].want_name)
			assert_string_equal(
				conn_peer_certificate_field(conn, CONN_CERTIFICATE_CN, 0), rows[i].want_name);
		else
			assert_null(conn_peer_certificate_field(conn, CONN_CERTIFICATE_CN, 0));
		assert_null(conn_peer_certificate_field(conn, CONN_CERTIFICATE_EMAIL, 0));
		close(fd);
		place_close(&place);
	}
}

static void test_local_is_the_connection_itself(void **state)
{
	char header[64], text[ADDR_TEXT_MAX];
	size_t len = make_header(header, &(struct proxy_protocol){.is_local = true});
	struct place place;
	int fd;

	(void)state;
	place_open(&place, make_policy(LISTENER_PROXY_REQUIRED, "127.0.0.0/8", NULL), NULL, NULL);
	fd = client_from("127.0.0.6", &place);
	send_all(fd, header, len);
	RUN_UNTIL(loop, place.acceptor.count);
	assert_string_equal(addr_host(conn_peer(place.acceptor.peers[0].conn), text), "127.0.0.6");
	assert_string_equal(addr_host(conn_local(place.acceptor.peers[0].conn), text), "127.0.0.1");
	assert_false(conn_is_secure(place.acceptor.peers[0].conn));
	close(fd);
	place_close(&place);
}

static void test_a_header_has_a_deadline_and_an_end(void **state)
{
	struct place place;
	int slow, ended;

	(void)state;
	loop_free(&loop);
	clock_fake_start(0);
	assert_int_equal(loop_new(&loop), 0);
	place_open(&place, make_policy(LISTENER_PROXY_REQUIRED, "127.0.0.0/8", NULL), NULL, NULL);
	slow = client_from("127.0.0.1", &place);
	ended = client_from("127.0.0.1", &place);
	send_all(slow, "PROXY TCP4 ", 11);
	send_all(ended, "PROXY TCP4 ", 11);
	for (unsigned i = 0; i < 5; i++) {
		loop_post(loop, stop_loop, loop);
		loop_run(loop);
	}
	assert_int_equal(listener_connections(place.listener), 2);
	shutdown(ended, SHUT_WR);
	for (unsigned i = 0; i < 50 && !is_closed(ended); i++) {
		loop_post(loop, stop_loop, loop);
		loop_run(loop);
	}
	assert_true(is_closed(ended));
	assert_false(is_closed(slow));
	clock_fake_advance(5100);
	loop_post(loop, stop_loop, loop);
	loop_run(loop);
	clock_fake_stop();
	RUN_UNTIL(loop, is_closed(slow));
	assert_int_equal(listener_connections(place.listener), 0);
	assert_int_equal(place.acceptor.count, 0);
	close(slow);
	close(ended);
	place_close(&place);
}

/* What follows the header may be TLS's first octets: none of them is lost, and the balancer's word about TLS does not matter then. */
static void test_tls_begins_behind_the_header(void **state)
{
	struct tls *server = tls_test_server(NULL), *client_tls = tls_test_client(true);
	struct peer client = {0};
	struct place place;
	char header[64];
	size_t len = make_header(
		header, &(struct proxy_protocol){.family = PROXY_PROTOCOL_TCP4, .source = {192, 0, 2, 1}});
	int fd;

	(void)state;
	place_open(&place, make_policy(LISTENER_PROXY_REQUIRED, "127.0.0.0/8", NULL), NULL, server);
	fd = client_from("127.0.0.1", &place);
	send_all(fd, header, len);
	assert_int_equal(conn_open_fd(loop, fd, NULL, peer_on_event, &client, &client.conn), 0);
	assert_int_equal(conn_start_tls_client(client.conn, client_tls, "mail.example.test"), 0);
	RUN_UNTIL(loop, client.events[CONN_SECURED] && buf_len(&client.got) == 4);
	assert_string_equal(peer_text(&place.acceptor.peers[0]), "192.0.2.1:0");
	assert_true(conn_is_tls(place.acceptor.peers[0].conn));
	assert_int_equal(place.acceptor.peers[0].events[CONN_OPENED], 1);
	assert_string_equal(conn_authority(place.acceptor.peers[0].conn), "mail.example.test");
	peer_deinit(&client);
	place_close(&place);
	tls_unref(&server);
	tls_unref(&client_tls);
}

static void test_rules_and_limits_judge_the_told_peer(void **state)
{
	struct flow *flow = flow_new();
	struct place place;
	int fds[6];
	static const struct {
		const char *line;
		bool want;
	} rows[] = {
		{"PROXY TCP4 192.0.2.1 198.51.100.7 1 143\r\n", true},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 2 143\r\n", false}, /* one of a peer */
		{"PROXY TCP4 192.0.2.2 198.51.100.7 1 143\r\n", true},
		{"PROXY TCP4 192.0.2.66 198.51.100.7 1 143\r\n", false}, /* the rule */
		{"PROXY TCP4 192.0.2.3 198.51.100.7 1 143\r\n", true},
		{"PROXY TCP4 192.0.2.4 198.51.100.7 1 143\r\n", false}, /* three in all */
	};
	unsigned taken = 0;

	(void)state;
	flow_set_limits(flow, &(struct flow_limits){.connections = 3, .peer_connections = 1});
	place_open(&place, make_policy(LISTENER_PROXY_REQUIRED, "127.0.0.0/8", "deny 192.0.2.64/26"), flow,
		NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fds[i] = client_from("127.0.0.1", &place);
		send_all(fds[i], rows[i].line, strlen(rows[i].line));
		taken += rows[i].want;
		if (rows[i].want)
			RUN_UNTIL(loop, place.acceptor.count == taken);
		else
			RUN_UNTIL(loop, is_closed(fds[i]));
		assert_int_equal(flow_connections(flow), taken);
	}
	/* Who ends makes room. */
	peer_deinit(&place.acceptor.peers[0]);
	assert_int_equal(flow_connections(flow), 2);
	close(fds[1]);
	fds[1] = client_from("127.0.0.1", &place);
	send_all(fds[1], rows[0].line, strlen(rows[0].line));
	RUN_UNTIL(loop, place.acceptor.count == taken + 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		close(fds[i]);
	place_close(&place);
	run_short(loop);
	assert_int_equal(flow_connections(flow), 0);
	flow_unref(&flow);
}

static void test_a_new_policy_counts_for_new_connections(void **state)
{
	struct place place;
	struct listener_policy *stricter = make_policy(LISTENER_PROXY_OFF, NULL, "deny 127.0.0.9");
	int before, after, other;

	(void)state;
	place_open(&place, make_policy(LISTENER_PROXY_OFF, NULL, NULL), NULL, NULL);
	before = client_from("127.0.0.9", &place);
	RUN_UNTIL(loop, place.acceptor.count == 1);
	listener_set_policy(place.listener, stricter);
	listener_policy_unref(&stricter);
	run_short(loop);
	after = client_from("127.0.0.9", &place);
	other = client_from("127.0.0.8", &place);
	RUN_UNTIL(loop, is_closed(after) && place.acceptor.count == 2);
	send_all(before, "x", 1);
	RUN_UNTIL(loop, buf_len(&place.acceptor.peers[0].got) == 1);
	close(before);
	close(after);
	close(other);
	place_close(&place);
}

static int group_set_up(void **state)
{
	return certs_make(state);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_security_07_headers_count_from_trusted_networks_alone),
		T(test_what_a_header_tells),
		T(test_local_is_the_connection_itself),
		T(test_a_header_has_a_deadline_and_an_end),
		T(test_tls_begins_behind_the_header),
		T(test_rules_and_limits_judge_the_told_peer),
		T(test_a_new_policy_counts_for_new_connections),
	};
#undef T

	return cmocka_run_group_tests(tests, group_set_up, certs_remove);
}
