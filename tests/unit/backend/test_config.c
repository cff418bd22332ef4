/* The back-end's configuration: defaults that load, trust by network, proxies' credentials, what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/config.h"
#include "common/net/conn.h"

static int load(const char *text, struct buf *why, struct config **config_out)
{
	struct conf *conf;
	int err = conf_load_text(&config_table, "test.conf", slice_str(text), why, &conf);

	return err ? err : config_new(conf, why, config_out);
}

static void test_an_empty_file_gives_the_defaults(void **state)
{
	struct buf why = {0};
	struct config *c = NULL, *again;

	(void)state;
	assert_int_equal(load("", &why, &c), 0);
	assert_int_equal(c->listener_count, 0);
	assert_int_equal(c->trusted_count, 0);
	assert_true(c->is_pop3_exclusive);
	assert_false(c->is_over_quota_permanent);
	assert_int_equal(c->message_size, 100 << 20);
	assert_int_equal(c->pop3_idle_ms, 600000);
	again = config_ref(c);
	config_unref(&c);
	assert_null(c);
	assert_int_equal(again->wrong_commands, 10);
	config_unref(&again);
	buf_deinit(&why);
}

static void test_mechanisms_that_cannot_work(void **state)
{
	static const char imap[] = "listener a {\n\tservice = imap\n\tlisten = {\"*:1\"}\n\ttls = none\n}\n";
	static const struct {
		const char *text, *want; /* NULL: good */
	} rows[] = {
		{"service imap { mechanisms = {SCRAM-SHA-256} }\n", NULL},
		{"service imap { mechanisms = {EXTERNAL} }\n", "client-ca"},
		{"service imap { mechanisms-clear = {SCRAM-SHA-1-PLUS} }\n", "with TLS"},
		/* nobody listens there */
		{"service pop3 { mechanisms = {EXTERNAL} }\n", NULL},
		/* users of this section are served by what hands the password over; others by what is listed */
		{"service imap { mechanisms = {CRAM-MD5, PLAIN} }\nusers u { connector = c domains = "
		 "{\"a.b\"} }\n",
			NULL},
	};
	static const char connector[] =
		"connector c { uris = {\"ldap://127.0.0.1\"} bind = anonymous base = \"dc=x\" }\n";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0}, text = {0};
		struct conf *conf = NULL;

		buf_printf(&text, "%s%s%s", imap, connector, rows[i].text);
		if ((conf_load_text(&config_table, "test.conf", buf_view(&text), &why, &conf) == 0) !=
				!rows[i].want ||
			(rows[i].want && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("%s: %s", rows[i].text, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
		buf_deinit(&text);
	}
}

static void test_a_listener_has_its_domain_or_the_default(void **state)
{
	struct buf why = {0};
	struct config *c = NULL;

	(void)state;
	assert_int_equal(
		load("default-domain = example.com\n"
		     "listener a {\n\tservice = imap\n\tlisten = {\"*:1\"}\n\ttls = none\n}\n"
		     "listener b {\n\tservice = pop3\n\tlisten = {\"*:2\"}\n\ttls = none\n\tdomain = "
		     "example.org\n}\n",
			&why, &c),
		0);
	assert_string_equal(c->listeners[0].domain, "example.com");
	assert_string_equal(c->listeners[1].domain, "example.org");
	config_unref(&c);
	buf_deinit(&why);
}

static void test_a_proxys_password_may_be_clear_or_a_hash(void **state)
{
	static const struct {
		const char *secret, *want;
	} rows[] = {{"sesame", "{PLAIN}sesame"},
		{"{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9gAAAA=", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9gAAAA="},
		{"{PLAIN}{SSHA}", "{PLAIN}{SSHA}"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char path[] = "/tmp/test-config-XXXXXX";
		int fd = mkstemp(path);
		struct buf text = {0}, why = {0};
		struct config *c = NULL;

		assert_true(fd >= 0 && fchmod(fd, 0600) == 0);
		assert_true(dprintf(fd, "%s\n", rows[i].secret) > 0);
		close(fd);
		buf_printf(&text,
			"trusted-proxies = {\"10.0.0.0/8\", \"unix\"}\nproxy edge {\n\tcredential = "
			"\"%s\"\n}\n",
			path);
		assert_int_equal(load(buf_str_view(&text), &why, &c), 0);
		assert_int_equal(c->trusted_count, 2);
		assert_true(slice_is_str(config_find_proxy(c, SLICE_LIT("edge"))->stored, rows[i].want));
		assert_null(config_find_proxy(c, SLICE_LIT("edg")));
		assert_null(config_find_proxy(c, SLICE_LIT("")));
		config_unref(&c);
		unlink(path);
		buf_deinit(&text);
		buf_deinit(&why);
	}
}

static void test_what_cannot_work_is_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"listener l {\n\tservice = lmtp\n\tlisten = {\"*:24\"}\n\ttls = none\n}\n",
			"LMTP answers trusted proxies only"},
		{"listener l {\n\tservice = imap\n\tlisten = {\"*:143\"}\n}\n",
			"there is no section tls default"},
		{"listener l {\n\tservice = sieve\n\tlisten = {\"*:25\"}\n}\n", "service"},
		{"pop3-lock = never\n", "pop3-lock"},
		{"trusted-proxies = {\"10.0.0.1/8\"}\n", "trusted-proxies"},
		{"limits {\n\tpop3-idle = 1m\n}\n", "pop3-idle"},
		{"nonsense = 1\n", "nonsense"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct config *c = NULL;

		assert_int_not_equal(load(rows[i].text, &why, &c), 0);
		if (!strstr(buf_str_view(&why), rows[i].want) || !strstr(buf_str_view(&why), "test.conf:"))
			fail_msg("row %zu: %s", i, buf_str_view(&why));
		buf_deinit(&why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_file_gives_the_defaults),
		cmocka_unit_test(test_mechanisms_that_cannot_work),
		cmocka_unit_test(test_a_listener_has_its_domain_or_the_default),
		cmocka_unit_test(test_a_proxys_password_may_be_clear_or_a_hash),
		cmocka_unit_test(test_what_cannot_work_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
