/* Flow control under a clock of the test's: each limit, what leaves give back, sliding intervals, the bound of the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/net/flow.h"

#define MINUTE 60000

static struct addr peer_of(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(slice_str(text), 0, &addr), 0);
	return addr;
}

/* One step: a peer comes (want), or leaves. */
struct step {
	const char *peer; /* NULL: the end */
	uint64_t at_ms;
	bool leaves;
	enum flow_answer want;
};

#define IN(peer, at, want)                                                                                   \
	{                                                                                                    \
		peer, at, false, want                                                                        \
	}
#define OUT(peer)                                                                                            \
	{                                                                                                    \
		peer, 0, true, FLOW_TAKEN                                                                    \
	}

static void test_limits(void **state)
{
	static const struct {
		struct flow_limits limits;
		struct step steps[12];
	} rows[] = {
		{{.connections = 0}, {IN("192.0.2.1", 0, FLOW_TAKEN), IN("192.0.2.1", 0, FLOW_TAKEN)}},
		{{.connections = 2},
			{IN("192.0.2.1", 0, FLOW_TAKEN), IN("192.0.2.2", 0, FLOW_TAKEN),
				IN("192.0.2.3", 0, FLOW_CONNECTIONS), OUT("192.0.2.1"),
				IN("192.0.2.3", 0, FLOW_TAKEN), IN("192.0.2.3", 0, FLOW_CONNECTIONS)}},
		{{.new_connections = 2, .new_interval_ms = MINUTE},
			{IN("192.0.2.1", 1000, FLOW_TAKEN), OUT("192.0.2.1"),
				IN("192.0.2.1", 1001, FLOW_TAKEN), OUT("192.0.2.1"),
				IN("192.0.2.2", 1002, FLOW_NEW_CONNECTIONS),
				IN("192.0.2.2", MINUTE + 999, FLOW_NEW_CONNECTIONS),
				/* half of the interval before still counts: one of two */
				IN("192.0.2.2", MINUTE + 31000, FLOW_TAKEN),
				IN("192.0.2.2", MINUTE + 31001, FLOW_NEW_CONNECTIONS),
				IN("192.0.2.2", 4 * MINUTE, FLOW_TAKEN),
				IN("192.0.2.2", 4 * MINUTE, FLOW_TAKEN),
				IN("192.0.2.2", 4 * MINUTE, FLOW_NEW_CONNECTIONS)}},
		{{.peer_connections = 1},
			{IN("192.0.2.1", 0, FLOW_TAKEN), IN("192.0.2.1", 0, FLOW_PEER_CONNECTIONS),
				IN("::ffff:192.0.2.1", 0, FLOW_PEER_CONNECTIONS),
				IN("192.0.2.2", 0, FLOW_TAKEN), OUT("192.0.2.1"),
				IN("192.0.2.1", 0, FLOW_TAKEN)}},
		/* a /64 is one peer */
		{{.peer_connections = 1}, {IN("2001:db8::1", 0, FLOW_TAKEN),
						  IN("2001:db8::ffff:0:0:1", 0, FLOW_PEER_CONNECTIONS),
						  IN("2001:db8:0:1::1", 0, FLOW_TAKEN)}},
		{{.peer_new_connections = 1, .peer_new_interval_ms = 10000},
			{IN("192.0.2.1", 5, FLOW_TAKEN), OUT("192.0.2.1"),
				IN("192.0.2.1", 6, FLOW_PEER_NEW_CONNECTIONS), IN("192.0.2.2", 6, FLOW_TAKEN),
				IN("192.0.2.1", 20005, FLOW_TAKEN)}},
		/* the time of another loop lags behind that at which the interval began: nothing is forgotten */
		{{.new_connections = 2,
			 .new_interval_ms = 10000,
			 .peer_new_connections = 1,
			 .peer_new_interval_ms = 10000},
			{IN("192.0.2.1", 50000, FLOW_TAKEN),
				IN("192.0.2.1", 49999, FLOW_PEER_NEW_CONNECTIONS),
				IN("192.0.2.2", 49998, FLOW_TAKEN),
				IN("192.0.2.3", 49997, FLOW_NEW_CONNECTIONS),
				IN("192.0.2.3", 50001, FLOW_NEW_CONNECTIONS)}},
		/* peers without an address are not told apart, and not limited */
		{{.peer_connections = 1}, {IN("/run/x", 0, FLOW_TAKEN), IN("/run/x", 0, FLOW_TAKEN)}},
		/* who is refused for the one limit does not use up the other */
		{{.new_connections = 2, .new_interval_ms = MINUTE, .peer_connections = 1},
			{IN("192.0.2.1", 1, FLOW_TAKEN), IN("192.0.2.1", 2, FLOW_PEER_CONNECTIONS),
				IN("192.0.2.1", 3, FLOW_PEER_CONNECTIONS), IN("192.0.2.2", 4, FLOW_TAKEN),
				IN("192.0.2.3", 5, FLOW_NEW_CONNECTIONS)}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct flow *flow = flow_new();
		bool counted = rows[i].limits.peer_connections || rows[i].limits.peer_new_connections;

		flow_set_limits(flow, &rows[i].limits);
		for (const struct step *step = rows[i].steps; step->peer; step++) {
			struct addr peer = peer_of(step->peer);
			enum flow_answer got;
			bool ignored;

			if (step->leaves) {
				flow_leave(flow, &peer, counted);
				continue;
			}
			got = flow_enter(flow, &peer, step->at_ms, &ignored);
			if (got != step->want)
				fail_msg("row %zu, step %zu: got %d", i, (size_t)(step - rows[i].steps), got);
		}
		flow_unref(&flow);
		assert_null(flow);
	}
}

static void test_cancelled_ones_have_not_come(void **state)
{
	const struct flow_limits limits = {.connections = 1,
		.new_connections = 1,
		.new_interval_ms = MINUTE,
		.peer_connections = 1,
		.peer_new_connections = 1,
		.peer_new_interval_ms = MINUTE};
	struct addr peer = peer_of("192.0.2.1");
	struct flow *flow = flow_new();
	bool counted;

	(void)state;
	flow_set_limits(flow, &limits);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(flow_enter(flow, &peer, 1, &counted), FLOW_TAKEN);
		assert_true(counted);
		assert_int_equal(flow_connections(flow), 1);
		flow_cancel(flow, &peer, counted);
	}
	assert_int_equal(flow_connections(flow), 0);
	flow_unref(&flow);
}

/* Connections that were not counted of a peer, since no limit was set then, do not count against it when they leave. */
static void test_limits_change_under_open_connections(void **state)
{
	struct addr peer = peer_of("192.0.2.1");
	struct flow *flow = flow_new();
	bool before, after;

	(void)state;
	assert_int_equal(flow_enter(flow, &peer, 1, &before), FLOW_TAKEN);
	assert_false(before);
	flow_set_limits(flow, &(struct flow_limits){.peer_connections = 1});
	assert_int_equal(flow_enter(flow, &peer, 2, &after), FLOW_TAKEN);
	assert_true(after);
	flow_leave(flow, &peer, before);
	assert_int_equal(flow_enter(flow, &peer, 3, &after), FLOW_PEER_CONNECTIONS);
	flow_unref(&flow);
}

static void numbered(struct addr *peer, unsigned n)
{
	const uint8_t ip[4] = {10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	addr_set_ip(peer, ip, 4, 1);
}

static void test_the_table_is_bounded(void **state)
{
	struct flow *flow = flow_new();
	struct addr peer, open = peer_of("192.0.2.1");
	bool counted;

	(void)state;
	flow_set_limits(flow, &(struct flow_limits){.peer_connections = 1});
	assert_int_equal(flow_enter(flow, &open, 1, &counted), FLOW_TAKEN);
	for (unsigned i = 0; i < FLOW_PEERS_MOST + 50000; i++) {
		numbered(&peer, i);
		assert_int_equal(flow_enter(flow, &peer, 1, &counted), FLOW_TAKEN);
		assert_true(counted);
		flow_leave(flow, &peer, counted);
	}
	assert_true(flow_peers(flow) <= FLOW_PEERS_MOST);
	assert_true(flow_peers(flow) > FLOW_PEERS_MOST - 100);
	/* Who has a connection is not forgotten for others' sake. */
	assert_int_equal(flow_enter(flow, &open, 1, &counted), FLOW_PEER_CONNECTIONS);
	/* Full of open ones: new peers come in, uncounted. */
	for (unsigned i = 0; i < FLOW_PEERS_MOST + 50000; i++) {
		numbered(&peer, i);
		assert_int_equal(flow_enter(flow, &peer, 1, &counted), FLOW_TAKEN);
	}
	assert_false(counted);
	assert_true(flow_peers(flow) <= FLOW_PEERS_MOST);
	flow_unref(&flow);
}

static void *come_and_go(void *arg)
{
	struct flow *flow = arg;
	struct addr peer;
	bool counted;

	for (unsigned i = 0; i < 20000; i++) {
		numbered(&peer, i % 64);
		if (flow_enter(flow, &peer, i, &counted) == FLOW_TAKEN)
			flow_leave(flow, &peer, counted);
	}
	return NULL;
}

static void test_threads_leave_nothing_behind(void **state)
{
	struct flow *flow = flow_new();
	pthread_t threads[4];

	(void)state;
	flow_set_limits(flow, &(struct flow_limits){.connections = 3, .peer_connections = 1});
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, flow), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(flow_connections(flow), 0);
	flow_unref(&flow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_cancelled_ones_have_not_come),
		cmocka_unit_test(test_limits_change_under_open_connections),
		cmocka_unit_test(test_the_table_is_bounded),
		cmocka_unit_test(test_threads_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
