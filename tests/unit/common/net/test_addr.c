/* Addresses and networks as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/net/addr.h"

static void test_host_and_port(void **state)
{
	static const struct {
		const char *text;
		uint16_t default_port;
		const char *want; /* NULL: refused */
	} rows[] = {
		{"127.0.0.1:25", 0, "127.0.0.1:25"},
		{"127.0.0.1", 143, "127.0.0.1:143"},
		{"127.0.0.1", 0, NULL},
		{"[::1]:993", 0, "[::1]:993"},
		{"[2001:DB8::0:1]", 25, "[2001:db8::1]:25"},
		{"2001:db8::1", 25, "[2001:db8::1]:25"},
		{"2001:db8::1:25", 0, NULL},
		{"[::1]", 0, NULL},
		{"127.0.0.1:65536", 0, NULL},
		{"127.0.0.1:", 25, NULL},
		{"127.0.0.1:-1", 25, NULL},
		{"127.0.0.1:+1", 25, NULL},
		{"example.com:25", 0, NULL},
		{"", 25, NULL},
		{":25", 0, NULL},
		{"[::1]x:25", 0, NULL},
		{"127.1", 25, NULL},
		{"1.2.3.4.5", 25, NULL},
		{"[::ffff:10.0.0.1]:1", 0, "10.0.0.1:1"},
		{"/run/x.sock", 0, "/run/x.sock"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct addr addr;
		char text[ADDR_TEXT_MAX];
		int rc = addr_parse_hostport(slice_str(rows[i].text), rows[i].default_port, &addr);

		if ((rc == 0) != (rows[i].want != NULL) || (rc && rc != ERR_SYNTAX))
			fail_msg("%s: got %d", rows[i].text, rc);
		if (rc == 0)
			assert_string_equal(addr_text(&addr, text), rows[i].want);
	}
}

static void test_networks(void **state)
{
	static const struct {
		const char *net, *host;
		bool want;
	} rows[] = {
		{"10.0.0.0/8", "10.255.1.2", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/8", "::ffff:10.1.1.1", true},
		{"10.0.0.0/8", "2001:db8::1", false},
		{"192.0.2.128/25", "192.0.2.127", false},
		{"192.0.2.128/25", "192.0.2.200", true},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "10.0.0.1", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::ffff:10.0.0.0/104", "10.9.9.9", true},
		{"unix", "/run/x", true},
		{"unix", "127.0.0.1", false},
		{"127.0.0.0/8", "/run/x", false},
	};
	static const char *const bad[] = {"10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/32", "10.0.0.0/", "/8",
		"10.0.0.0/8/8", "10.0.0.0/-1", "example.com", "", "/run/x.sock"};
	struct addr_net net;
	struct addr addr;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(addr_net_parse(slice_str(rows[i].net), &net), 0);
		assert_int_equal(addr_parse(slice_str(rows[i].host), 25, &addr), 0);
		if (addr_net_has(&net, &addr) != rows[i].want)
			fail_msg("%s has %s", rows[i].net, rows[i].host);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (addr_net_parse(slice_str(bad[i]), &net) != ERR_SYNTAX)
			fail_msg("%s was taken", bad[i]);
}

static void test_comparison(void **state)
{
	struct addr a, b, none = {0};
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("10.0.0.1"), 1, &a), 0);
	assert_int_equal(addr_parse(SLICE_LIT("::ffff:10.0.0.1"), 2, &b), 0);
	assert_true(addr_is_equal_host(&a, &b));
	assert_false(addr_is_equal_host(&a, &none));
	assert_false(addr_is_equal_host(&none, &none));
	assert_false(addr_is_loopback(&a));
	assert_int_equal(addr_parse(SLICE_LIT("::1"), 1, &a), 0);
	assert_true(addr_is_loopback(&a));
	assert_int_equal(addr_parse(SLICE_LIT("127.9.9.9"), 1, &a), 0);
	assert_true(addr_is_loopback(&a));
	addr_set_port(&a, 4242);
	assert_int_equal(addr_port(&a), 4242);
	assert_string_equal(addr_text(&none, text), "none");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_and_port),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_comparison),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
