/* The keys of filters: what is refused and at which key, and what is made of what is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/front/milters.h"

static void check(struct conf *conf)
{
	milters_check(conf);
}

static const struct conf_section sections[] = {
	{"", 0, NULL, "Top"},
	{"service", CONF_TITLED | CONF_RELOAD, "imap smtp submission", "Services"},
	MILTERS_SECTION,
	{NULL, 0, NULL, NULL},
};
static const struct conf_key *const tables[] = {milters_keys, NULL};
static const struct conf_table table = {
	.program = "test", .file = "test.conf", .sections = sections, .keys = tables, .check = check};

#define MILTER(address) "milter a { address = \"" address "\" }\n"

static void test_faults_are_told_at_their_key(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: taken */
	} rows[] = {
		{MILTER("127.0.0.1:11332"), NULL},
		{MILTER("[::1]:11332"), NULL},
		{MILTER("rspamd.example:11332"), NULL},
		{MILTER("/run/opendkim.sock"), NULL},
		{MILTER("127.0.0.1"), "test.conf:1: address: neither HOST:PORT nor a path"},
		{MILTER("127.0.0.1:0"), "address"},
		{MILTER("127.0.0.1:70000"), "address"},
		{MILTER("::1:11332"), "address"},
		{MILTER(":11332"), "address"},
		{"milter a { }\n", "address: must be set"},
		{"milter a { address = \"x:1\"\n failure = maybe }\n", "failure"},
		{"service smtp { milters = b }\n" MILTER("x:1"),
			"test.conf:1: milters: there is no section milter b"},
		{"service smtp { milters = {a, a} }\n" MILTER("x:1"), NULL},
		{"service imap { milters = a }\n" MILTER("x:1"), "milters"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct conf *conf = NULL;
		int err = conf_load_text(&table, "test.conf", slice_str(rows[i].text), &why, &conf);

		if (!rows[i].want && err)
			fail_msg("%s: %s", rows[i].text, buf_str_view(&why));
		if (rows[i].want && (err != ERR_CONFIG || !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("%s: wanted %s, got %s", rows[i].text, rows[i].want, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
	}
}

static void test_a_set(void **state)
{
	static const char text[] =
		"milter a { address = \"[::1]:11332\"\n failure = reject\n end-timeout = 7s }\n"
		"milter b { address = /run/x }\n"
		"service smtp { milters = {b, a} }\n";
	const struct milter_settings *of[MILTERS_MOST];
	struct milters *m;
	struct buf why = {0};
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_load_text(&table, "test.conf", SLICE_LIT(text), &why, &conf), 0);
	m = milters_new(conf);
	conf_free(&conf); /* the set has what it needs */
	assert_int_equal(milters_of(m, "smtp", of), 2);
	assert_string_equal(of[0]->name, "b");
	assert_string_equal(of[0]->host, "/run/x");
	assert_int_equal(of[0]->failure, MILTER_FAILURE_TEMPFAIL);
	assert_string_equal(of[1]->host, "::1");
	assert_int_equal(of[1]->port, 11332);
	assert_int_equal(of[1]->failure, MILTER_FAILURE_REJECT);
	assert_int_equal(of[1]->end_ms, 7000);
	assert_ptr_equal(milters_find(m, "a"), of[1]);
	assert_null(milters_find(m, "c"));
	assert_int_equal(milters_of(m, "submission", of), 0);
	milters_unref(&m);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_are_told_at_their_key),
		cmocka_unit_test(test_a_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
