/* A back-end's health: which hosts are tried, what takes one as down and what brings it back. */
#include "proxy/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "proxy/backend_gate.h"

static unsigned down_calls, down_host;

static void on_down(struct backend *b, unsigned host, enum backend_protocol protocol)
{
	(void)b;
	(void)protocol;
	down_calls++;
	down_host = host;
}

/* hosts: how many. */
static struct backend *make(unsigned hosts, bool is_probed, const struct backend *old)
{
	static const char *const names[] = {"b1.example", "b2.example", "b3.example"};
	struct backend *b = xcalloc(1, sizeof(*b));

	atomic_store(&b->refs, 1);
	b->name = xstrdup("b");
	b->server_name = xstrdup("");
	b->user = xstrdup("");
	b->is_named = true;
	b->connect_ms = 60000;
	b->probe_ms = is_probed ? 1000 : 0;
	b->return_ms = 5000;
	b->failures = 3;
	for (; b->host_count < hosts; b->host_count++) {
		b->hosts[b->host_count].name = xstrdup(names[b->host_count]);
		b->hosts[b->host_count].server_name = xstrdup(names[b->host_count]);
	}
	backend_attach_states(b, old, "b");
	down_calls = 0;
	return b;
}

/* "012": the order in which hosts are tried. */
static const char *order(struct backend *b)
{
	static char text[BACKEND_HOSTS_MOST + 1];
	struct backend_try attempt = {0};
	unsigned n = 0;

	while (backend_next_host(b, BACKEND_IMAP, &attempt))
		text[n++] = (char)('0' + attempt.host);
	text[n] = '\0';
	return text;
}

static void test_hosts_are_tried_in_order_and_those_down_are_left_out(void **state)
{
	struct backend *b = make(3, true, NULL);
	char text[80];

	(void)state;
	assert_string_equal(order(b), "012");
	backend_probed(b, 0, BACKEND_IMAP, ERR_NOT_NOW, "refused");
	assert_string_equal(order(b), "12");
	assert_true(backend_is_up(b, BACKEND_IMAP));
	backend_host_error(b, 0, BACKEND_IMAP, text, sizeof(text));
	assert_string_equal(text, "refused");
	backend_probed(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "refused");
	backend_probed(b, 2, BACKEND_IMAP, ERR_NOT_NOW, "refused");
	assert_string_equal(order(b), "");
	assert_false(backend_is_up(b, BACKEND_IMAP));
	assert_true(backend_is_up(b, BACKEND_POP3)); /* each protocol by itself */
	assert_int_equal(down_calls, 3);
	backend_probed(b, 2, BACKEND_IMAP, ERR_NOT_NOW, "again");
	assert_int_equal(down_calls, 3);
	backend_probed(b, 2, BACKEND_IMAP, 0, NULL);
	assert_string_equal(order(b), "2");
	backend_host_error(b, 2, BACKEND_IMAP, text, sizeof(text));
	assert_string_equal(text, "");
	backend_unref(&b);
}

static void test_failures_in_a_row_take_a_host_as_down(void **state)
{
	struct backend *b = make(2, true, NULL);

	(void)state;
	backend_tried(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_tried(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_tried(b, 1, BACKEND_IMAP, 0, NULL); /* the row is broken */
	backend_tried(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_tried(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	assert_true(backend_host_is_up(b, 1, BACKEND_IMAP));
	backend_tried(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	assert_false(backend_host_is_up(b, 1, BACKEND_IMAP));
	assert_int_equal(down_calls, 1);
	assert_int_equal(down_host, 1);
	backend_tried(b, 1, BACKEND_IMAP, 0, NULL);
	assert_true(backend_host_is_up(b, 1, BACKEND_IMAP));
	backend_unref(&b);
}

static void test_the_gate_narrows_only_when_the_whole_back_end_was_away(void **state)
{
	struct backend *b = make(2, true, NULL);
	struct backend_figures f;

	(void)state;
	backend_probed(b, 0, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_probed(b, 0, BACKEND_IMAP, 0, NULL);
	backend_figures(b, &f);
	assert_int_equal(f.window, 0);
	backend_probed(b, 0, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_probed(b, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_probed(b, 1, BACKEND_IMAP, 0, NULL);
	backend_figures(b, &f);
	assert_in_range(f.window, BACKEND_GATE_FIRST, BACKEND_GATE_LAST - 1);
	backend_unref(&b);
}

static void test_without_probes_one_login_at_a_time_tries_again(void **state)
{
	struct backend *b = make(1, false, NULL);
	struct backend_try attempt = {0};

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		backend_tried(b, 0, BACKEND_IMAP, ERR_NOT_NOW, "x");
	assert_false(backend_is_up(b, BACKEND_IMAP));
	assert_false(backend_next_host(b, BACKEND_IMAP, &attempt));
	usleep(1050 * 1000);
	assert_true(backend_is_up(b, BACKEND_IMAP));
	assert_true(backend_next_host(b, BACKEND_IMAP, &attempt));
	attempt = (struct backend_try){0};
	assert_false(backend_next_host(b, BACKEND_IMAP, &attempt));
	backend_tried(b, 0, BACKEND_IMAP, 0, NULL);
	assert_true(backend_next_host(b, BACKEND_IMAP, &attempt));
	backend_unref(&b);
}

static void test_a_reload_keeps_what_is_known_of_the_same_hosts(void **state)
{
	struct backend *old = make(2, true, NULL), *b;

	(void)state;
	backend_probed(old, 1, BACKEND_IMAP, ERR_NOT_NOW, "x");
	backend_set_drained(old, true);
	backend_learn(old, BACKEND_IMAP, BACKEND_KNOWN);
	b = make(3, true, old);
	assert_true(backend_is_same_host(old, 1, b, 1));
	assert_false(backend_is_same_host(old, 1, b, 2));
	assert_false(backend_is_same_host(old, 1, b, 7));
	backend_unref(&old);
	assert_true(backend_is_drained(b));
	assert_false(backend_is_usable(b, BACKEND_IMAP));
	assert_int_equal(backend_capabilities(b, BACKEND_IMAP), BACKEND_KNOWN);
	assert_string_equal(order(b), "02");
	backend_unref(&b);
}

static void test_the_time_for_connecting_is_one_for_all_hosts(void **state)
{
	struct backend *b = make(2, true, NULL);
	struct backend_try attempt = {.until_ms = 1};

	(void)state;
	assert_false(backend_next_host(b, BACKEND_IMAP, &attempt));
	backend_unref(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts_are_tried_in_order_and_those_down_are_left_out),
		cmocka_unit_test(test_failures_in_a_row_take_a_host_as_down),
		cmocka_unit_test(test_the_gate_narrows_only_when_the_whole_back_end_was_away),
		cmocka_unit_test(test_without_probes_one_login_at_a_time_tries_again),
		cmocka_unit_test(test_a_reload_keeps_what_is_known_of_the_same_hosts),
		cmocka_unit_test(test_the_time_for_connecting_is_one_for_all_hosts),
	};

	mem_init();
	backend_on_down(on_down);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
