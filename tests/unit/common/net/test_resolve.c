/* The resolver against a small name server on loopback that lives on the same loop. */
#include "tests/unit/common/net/net_test.h"

#include <netinet/in.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/net/dial.h"
#include "common/net/dns.h"
#include "common/net/listener.h"
#include "common/net/resolve.h"

/* What the server says to questions for <first label>.example.test */
static const struct {
	const char *label;
	int rcode;  /* -1: no answer at all */
	unsigned a; /* that many records */
	unsigned aaaa;
} zone[] = {
	{"both", 0, 1, 1},
	{"four", 0, 1, 0},
	{"six", 0, 0, 1},
	{"none", 0, 0, 0},
	{"missing", 3, 0, 0},
	{"broken", 2, 0, 0},
	{"silent", -1, 0, 0},
	{"many", 0, 60, 60},
};

static struct loop *loop;
static int server_fd;
static uint16_t server_port;
static struct loop_watch *server_watch;

static void put16(struct buf *b, unsigned n)
{
	buf_add_char(b, (char)(n >> 8));
	buf_add_char(b, (char)n);
}

static void put_records(struct buf *answer, unsigned type, unsigned count)
{
	static const char v6[16] = {0x20, 0x01, 0x0d, (char)0xb8};

	for (unsigned i = 0; i < count; i++) {
		put16(answer, 0xc00c); /* the name of the question */
		put16(answer, type);
		put16(answer, 1);
		put16(answer, 0);
		put16(answer, 300);
		put16(answer, type == 1 ? 4 : 16);
		if (type == 1)
			buf_printf(answer, "%c%c%c%c", 127, 0, (char)(i + 1), 1);
		else
			buf_add(answer, v6, 15), buf_add_char(answer, (char)(i + 1));
	}
}

static void on_query(void *arg, int ready)
{
	unsigned char query[512];
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	ssize_t n =
		recvfrom(server_fd, query, sizeof(query), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
	struct buf answer = {0};
	size_t end = 12, row = 0;
	unsigned type, count;

	(void)arg;
	(void)ready;
	if (n < 17)
		return;
	while (row < ARRAY_LEN(zone) &&
		(query[12] != strlen(zone[row].label) ||
			strncasecmp((const char *)query + 13, zone[row].label, query[12]) != 0))
		row++;
	if (row == ARRAY_LEN(zone) || zone[row].rcode < 0)
		return;
	while (query[end])
		end += query[end] + 1u;
	type = query[end + 2];
	count = type == 1 ? zone[row].a : type == 28 ? zone[row].aaaa : 0;
	if (count > 17)
		count = 17; /* what a datagram of 512 bytes holds */
	buf_add(&answer, query, 2);
	put16(&answer, 0x8180u | (unsigned)zone[row].rcode);
	put16(&answer, 1);
	put16(&answer, count);
	put16(&answer, 0);
	put16(&answer, 0);
	buf_add(&answer, query + 12, end + 5 - 12);
	put_records(&answer, type, count);
	sendto(server_fd, answer.data, buf_len(&answer), 0, (struct sockaddr *)&from, from_len);
	buf_deinit(&answer);
}

static int set_up(void **state)
{
	struct dns_options options = {0};
	struct buf why = {0};
	struct addr addr;
	char servers[64];

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &addr), 0);
	server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server_fd, (struct sockaddr *)&addr.ss, addr.len), 0);
	getsockname(server_fd, (struct sockaddr *)&addr.ss, &addr.len);
	server_port = addr_port(&addr);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", server_port);
	options.servers = servers;
	assert_int_equal(loop_watch_start(loop, server_fd, LOOP_READABLE, on_query, NULL, &server_watch), 0);
	return dns_init(&options, &why);
}

static int tear_down(void **state)
{
	(void)state;
	loop_watch_stop(&server_watch);
	close(server_fd);
	loop_free(&loop);
	dns_deinit();
	return 0;
}

struct answer {
	unsigned calls, count;
	int error;
	struct addr addrs[RESOLVE_ADDRS_MOST];
};

static void on_answer(void *arg, int error, const struct addr *addrs, unsigned count)
{
	struct answer *answer = arg;

	answer->calls++;
	answer->error = error;
	answer->count = count;
	memcpy(answer->addrs, addrs, count * sizeof(*addrs));
}

static void test_answers(void **state)
{
	static const struct {
		const char *host;
		int want;
		unsigned count;
		const char *first;
	} rows[] = {
		{"both.example.test", 0, 2, "[2001:db8::1]:25"},
		{"four.example.test", 0, 1, "127.0.1.1:25"},
		{"SIX.example.test", 0, 1, "[2001:db8::1]:25"},
		{"none.example.test", ERR_NOT_FOUND, 0, NULL},
		{"missing.example.test", ERR_NOT_FOUND, 0, NULL},
		{"broken.example.test", ERR_NOT_NOW, 0, NULL},
		{"silent.example.test", ERR_NOT_NOW, 0, NULL},
		{"many.example.test", 0, RESOLVE_ADDRS_MOST, NULL}, /* in changing order */
		{"localhost", 0, 2, "[::1]:25"},
		{"192.0.2.7", 0, 1, "192.0.2.7:25"},
		{"2001:db8::7", 0, 1, "[2001:db8::7]:25"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer answer = {0};
		struct resolve_request *request;
		char text[ADDR_TEXT_MAX];
		uint64_t timeout = strncmp(rows[i].host, "silent", 6) == 0 ? 200 : 4000;

		assert_int_equal(
			resolve_addrs(loop, rows[i].host, 25, timeout, on_answer, &answer, &request), 0);
		assert_int_equal(answer.calls, 0);
		RUN_UNTIL(loop, answer.calls);
		if (answer.error != rows[i].want)
			fail_msg("%s: got %d, want %d", rows[i].host, answer.error, rows[i].want);
		assert_int_equal(answer.count, rows[i].count);
		if (rows[i].first)
			assert_string_equal(addr_text(&answer.addrs[0], text), rows[i].first);
	}
}

static void test_bad_names_are_not_sent(void **state)
{
	static const char *const names[] = {"", ".", "a..b", "a b", "a\r\nb", "ex\xc3\xa4mple.test", "a/b",
		"x.y;z", "a123456789012345678901234567890123456789012345678901234567890123.test"};
	struct resolve_request *request;
	char longest[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(
			resolve_addrs(loop, names[i], 25, 100, on_answer, NULL, &request), ERR_SYNTAX);
	for (size_t i = 0; i < sizeof(longest) - 1; i++)
		longest[i] = i % 10 == 9 ? '.' : 'a';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(resolve_addrs(loop, longest, 25, 100, on_answer, NULL, &request), ERR_SYNTAX);
}

static void test_cancelled_requests_are_silent(void **state)
{
	static const char *const hosts[] = {"both.example.test", "silent.example.test", "192.0.2.7"};
	struct answer answer = {0};

	(void)state;
	for (unsigned turns = 0; turns < 3; turns++)
		for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
			struct resolve_request *request;

			assert_int_equal(
				resolve_addrs(loop, hosts[i], 25, 100, on_answer, &answer, &request), 0);
			for (unsigned turn = 0; turn < turns && i != 2 && !answer.calls; turn++) {
				loop_post(loop, stop_loop, loop);
				loop_run(loop);
			}
			if (answer.calls) /* was quicker than we */
				answer.calls = 0;
			else
				resolve_cancel(&request);
		}
	for (int i = 0; i < 10; i++)
		run_short(loop);
	assert_int_equal(answer.calls, 0);
}

static void test_dial_by_name(void **state)
{
	struct dial_options options = {.host = "four.example.test", .timeout_ms = 3000};
	struct listener_options listening = {.name = "test"};
	struct listener *listener;
	struct peer client = {0};
	struct buf why = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.1.1"), 0, &listening.addr), 0);
	assert_int_equal(listener_open_on(loop, &listening, NULL, NULL, &why, &listener), 0);
	options.port = addr_port(listener_addr(listener));
	run_short(loop);
	listener_close(&listener); /* refused, but at the right place */
	run_short(loop);
	assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
	RUN_UNTIL(loop, client.events[CONN_FAILED]);
	assert_string_equal(conn_error_detail(client.conn), "Connection refused");
	peer_deinit(&client);
	options.host = "missing.example.test";
	client = (struct peer){0};
	assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
	RUN_UNTIL(loop, client.events[CONN_FAILED]);
	assert_int_equal(client.error, ERR_NOT_FOUND);
	peer_deinit(&client);
	client = (struct peer){0};
	options.host = "silent.example.test";
	assert_int_equal(dial(loop, &options, peer_on_event, &client, &client.conn), 0);
	run_short(loop);
	peer_deinit(&client); /* cancelled while resolving */
}

static void test_bad_settings_are_explained(void **state)
{
	struct dns_options options = {.servers = "127.0.0.1 nonsense:x"};
	struct buf why = {0};

	(void)state;
	assert_int_equal(dns_init(&options, &why), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "nonsense:x"));
	buf_clear(&why);
	options = (struct dns_options){.trust_anchor = "/nonexistent/anchor"};
	assert_int_equal(dns_init(&options, &why), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "/nonexistent/anchor"));
	buf_deinit(&why);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_answers),
		T(test_bad_names_are_not_sent),
		T(test_cancelled_requests_are_silent),
		T(test_dial_by_name),
		T(test_bad_settings_are_explained),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
