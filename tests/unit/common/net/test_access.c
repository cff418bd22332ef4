/* Access rules: what fits, which of several decides, which texts are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/net/access.h"

#define RULES 4

static struct access_rules *make(const char *const *texts)
{
	struct access_rules *rules;
	struct buf why = {0};
	size_t count = 0;

	while (count < RULES && texts[count])
		count++;
	if (access_rules_new(texts, count, &why, &rules) != 0)
		fail_msg("%s", buf_str_view(&why));
	return rules;
}

static struct addr peer_of(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(slice_str(text), 0, &addr), 0);
	return addr;
}

static void test_one_level(void **state)
{
	static const struct {
		const char *rules[RULES];
		const char *peer;
		enum access_answer want;
	} rows[] = {
		{{NULL}, "192.0.2.1", ACCESS_NONE},
		{{"allow 192.0.2.1"}, "192.0.2.1", ACCESS_ALLOW},
		{{"allow 192.0.2.1"}, "192.0.2.2", ACCESS_NONE},
		{{"deny 192.0.2.0/24"}, "192.0.2.255", ACCESS_DENY},
		{{"deny 192.0.2.0/24"}, "192.0.3.0", ACCESS_NONE},
		{{"deny 192.0.2.0/24"}, "::ffff:192.0.2.9", ACCESS_DENY},
		{{"deny 192.0.2.3-192.0.2.5"}, "192.0.2.2", ACCESS_NONE},
		{{"deny 192.0.2.3-192.0.2.5"}, "192.0.2.3", ACCESS_DENY},
		{{"deny 192.0.2.3-192.0.2.5"}, "192.0.2.5", ACCESS_DENY},
		{{"deny 192.0.2.3-192.0.2.5"}, "192.0.2.6", ACCESS_NONE},
		{{"deny 192.0.2.250-192.0.3.5"}, "192.0.3.1", ACCESS_DENY},
		{{"deny 2001:db8::/32"}, "2001:db8:ffff::1", ACCESS_DENY},
		{{"deny 2001:db8::1-2001:db8::ff"}, "2001:db8::fe", ACCESS_DENY},
		{{"deny 2001:db8::1-2001:db8::ff"}, "2001:db8::1:0", ACCESS_NONE},
		{{"deny 0.0.0.0/0"}, "2001:db8::1", ACCESS_NONE},
		{{"deny ::/0"}, "192.0.2.1", ACCESS_NONE},
		{{"deny any"}, "192.0.2.1", ACCESS_DENY},
		{{"deny any"}, "2001:db8::1", ACCESS_DENY},
		{{"deny any"}, "/run/x", ACCESS_DENY},
		{{"deny unix"}, "/run/x", ACCESS_DENY},
		{{"deny unix"}, "192.0.2.1", ACCESS_NONE},
		/* the lowest number decides, wherever it stands */
		{{"20 allow 192.0.2.1", "10 deny 192.0.2.0/24"}, "192.0.2.1", ACCESS_DENY},
		{{"10 deny 192.0.2.0/24", "20 allow 192.0.2.1"}, "192.0.2.1", ACCESS_DENY},
		{{"10 allow 192.0.2.0/24", "20 deny 192.0.2.1"}, "192.0.2.1", ACCESS_ALLOW},
		{{"allow 192.0.2.1", "99 deny any"}, "192.0.2.1", ACCESS_DENY}, /* none is 100 */
		{{"allow 192.0.2.1", "101 deny any"}, "192.0.2.1", ACCESS_ALLOW},
		/* then the narrower one */
		{{"deny any", "allow 192.0.2.0/24"}, "192.0.2.1", ACCESS_ALLOW},
		{{"deny any", "allow 192.0.2.0/24"}, "192.0.3.1", ACCESS_DENY},
		{{"allow 192.0.2.0/24", "deny 192.0.2.128/25", "allow 192.0.2.129"}, "192.0.2.130",
			ACCESS_DENY},
		{{"allow 192.0.2.0/24", "deny 192.0.2.128/25", "allow 192.0.2.129"}, "192.0.2.129",
			ACCESS_ALLOW},
		{{"deny 192.0.2.0/24", "allow 192.0.2.8-192.0.2.9"}, "192.0.2.9", ACCESS_ALLOW},
		{{"deny any", "allow ::/0"}, "2001:db8::1", ACCESS_ALLOW},
		/* then the one that denies */
		{{"allow 192.0.2.0/24", "deny 192.0.2.0/24"}, "192.0.2.1", ACCESS_DENY},
		{{"deny 192.0.2.0/24", "allow 192.0.2.0/24"}, "192.0.2.1", ACCESS_DENY},
		{{" 5\tallow   192.0.2.1 "}, "192.0.2.1", ACCESS_ALLOW},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct access_rules *rules = make(rows[i].rules);
		struct addr peer = peer_of(rows[i].peer);
		enum access_answer got = access_rules_ask(rules, &peer);

		if (got != rows[i].want)
			fail_msg("row %zu: got %d", i, got);
		access_rules_free(&rules);
		assert_null(rules);
	}
}

static void test_listener_over_service_over_global(void **state)
{
	static const struct {
		const char *listener[RULES], *service[RULES], *global[RULES];
		bool want;
	} rows[] = {
		{{NULL}, {NULL}, {NULL}, true},
		{{NULL}, {NULL}, {"deny any"}, false},
		{{NULL}, {"allow 192.0.2.1"}, {"1 deny any"}, true},
		{{"deny 192.0.2.1"}, {"1 allow any"}, {"1 allow any"}, false},
		{{"1000 allow 192.0.2.1"}, {"1 deny any"}, {"1 deny any"}, true},
		{{"deny 192.0.2.2"}, {NULL}, {"deny any"}, false},
		{{"deny 192.0.2.2"}, {"allow any"}, {"deny any"}, true},
	};
	const struct addr peer = peer_of("192.0.2.1");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct access_rules *listener = make(rows[i].listener), *service = make(rows[i].service),
				    *global = make(rows[i].global);
		const struct access_rules *levels[] = {listener, service, NULL, global};

		if (access_is_allowed(levels, ARRAY_LEN(levels), &peer) != rows[i].want)
			fail_msg("row %zu", i);
		access_rules_free(&listener);
		access_rules_free(&service);
		access_rules_free(&global);
	}
}

static void test_faults_have_a_reason(void **state)
{
	static const char *const rows[] = {"", "allow", "192.0.2.1", "permit 192.0.2.1", "Allow 192.0.2.1",
		"allow 192.0.2.1 192.0.2.2", "-1 allow any", "1000001 allow any", "99999999999 allow any",
		"1x allow any", "allow 192.0.2.1/24", "allow 192.0.2.0/33", "allow 192.0.2",
		"allow example.com", "allow 192.0.2.2-192.0.2.1", "allow 192.0.2.1-", "allow -192.0.2.1",
		"allow 192.0.2.1-2001:db8::1", "allow /run/x", "allow 1.2.3.4-/run/x"};
	static const char *many[ACCESS_RULES_MOST + 1];
	struct access_rules *rules = NULL;
	struct buf why = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_clear(&why);
		if (access_rules_new(&rows[i], 1, &why, &rules) != ERR_SYNTAX)
			fail_msg("taken: %s", rows[i]);
		assert_true(buf_len(&why) > 5);
	}
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = "allow any";
	assert_int_equal(access_rules_new(many, ARRAY_LEN(many), &why, &rules), ERR_TOO_BIG);
	assert_int_equal(access_rules_new(many, ACCESS_RULES_MOST, &why, &rules), 0);
	access_rules_free(&rules);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_level),
		cmocka_unit_test(test_listener_over_service_over_global),
		cmocka_unit_test(test_faults_have_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
