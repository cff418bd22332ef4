/* The keys of listeners: what is refused and at which key, and what is made of what is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/front/listen.h"

static const char *const no_alpn[] = {NULL};
static const struct listen_service services[] = {{"imap", no_alpn}, {"pop3", no_alpn}, {NULL, NULL}};

static void check(struct conf *conf)
{
	listen_check(conf, services);
}

static const struct conf_section sections[] = {
	{"", 0, NULL, "Top"},
	{"listener", CONF_TITLED, NULL, "Listeners"},
	{"service", CONF_TITLED | CONF_RELOAD, "imap pop3", "Services"},
	{"tls", CONF_TITLED | CONF_RELOAD, NULL, "Certificates"},
	{NULL, 0, NULL, NULL},
};
static const struct conf_key keys[] = {
	{"listener", "service", CONF_ENUM, CONF_REQUIRED, NULL, 0, 0, "imap pop3", "Service", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};
static const struct conf_key *const tables[] = {keys, listen_keys, NULL};
static const struct conf_table table = {
	.program = "test", .file = "test.conf", .sections = sections, .keys = tables, .check = check};

#define LISTENER(more) "listener a { service = pop3\n listen = 127.0.0.1:1\n tls = none\n" more "\n}\n"

static void test_faults_are_told_at_their_key(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: taken */
	} rows[] = {
		{LISTENER(""), NULL},
		{LISTENER("access = {\"10 allow 192.0.2.0/24\", \"deny any\"}"), NULL},
		{LISTENER("access = \"10 alow any\""), "test.conf:4: access: \"10 alow any\""},
		{"access = \"deny 192.0.2.1/24\"\n" LISTENER(""), "test.conf:1: access: "},
		{LISTENER("") "service imap { access = \"deny\" }\n", "access: \"deny\": no address"},
		{LISTENER("proxy-protocol = required"), "proxy-networks: must be set"},
		{LISTENER("proxy-protocol = optional"), "proxy-networks: must be set"},
		{LISTENER("proxy-protocol = optional\nproxy-networks = 10.0.0.0/8"), NULL},
		{LISTENER("proxy-protocol = guess"), "proxy-protocol"},
		{LISTENER("proxy-networks = 10.0.0.1/8"), "proxy-networks"},
		{LISTENER("new-interval = 0"), "new-interval"},
		{"listener a { service = imap\n listen = 127.0.0.1:1\n }\n",
			"there is no section tls default"},
		{"listener a { service = imap\n listen = 127.0.0.1:1\n tls = implicit\n certificates = b\n "
		 "certificate = c }\n",
			"there is no section tls c"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf *conf = NULL;
		struct buf why = {0};
		int err = conf_load_text(&table, "test.conf", slice_str(rows[i].text), &why, &conf);

		if ((err == 0) != (rows[i].want == NULL) ||
			(rows[i].want && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("row %zu: %d %s", i, err, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
	}
}

static void test_a_policy_has_all_levels(void **state)
{
	static const char text[] =
		"access = \"deny 192.0.2.1\"\n"
		"service pop3 { access = \"deny 192.0.2.2\" }\n"
		"service imap { access = \"deny 192.0.2.4\" }\n" LISTENER(
			"access = \"deny 192.0.2.3\"\nproxy-protocol = optional\n"
			"proxy-networks = {10.0.0.0/8, ::1}\nproxy-timeout = 2s\nallow-clear = yes");
	static const enum access_answer want[LISTENER_LEVELS][4] = {
		[LISTENER_OWN] = {ACCESS_NONE, ACCESS_NONE, ACCESS_DENY, ACCESS_NONE},
		[LISTENER_SERVICE] = {ACCESS_NONE, ACCESS_DENY, ACCESS_NONE, ACCESS_NONE},
		[LISTENER_GLOBAL] = {ACCESS_DENY, ACCESS_NONE, ACCESS_NONE, ACCESS_NONE}};
	const struct listen_one *l;
	struct listen *listen = NULL;
	struct conf *conf;
	struct buf why = {0};

	(void)state;
	assert_int_equal(conf_load_text(&table, "test.conf", SLICE_LIT(text), &why, &conf), 0);
	assert_int_equal(listen_new(conf, services, &why, &listen), 0);
	assert_int_equal(listen->count, 1);
	l = &listen->listeners[0];
	assert_string_equal(l->title, "a");
	assert_int_equal(l->service, 1);
	assert_null(l->tls);
	assert_true(l->allows_clear);
	assert_int_equal(l->policy->proxy, LISTENER_PROXY_OPTIONAL);
	assert_int_equal(l->policy->proxy_network_count, 2);
	assert_int_equal(l->policy->proxy_timeout_ms, 2000);
	for (size_t level = 0; level < LISTENER_LEVELS; level++)
		for (uint8_t host = 1; host <= 4; host++) {
			struct addr peer;

			addr_set_ip(&peer, (uint8_t[]){192, 0, 2, host}, 4, 0);
			assert_int_equal(
				access_rules_ask(l->policy->access[level], &peer), want[level][host - 1]);
		}
	listen_free(&listen);
	conf_free(&conf);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_are_told_at_their_key),
		cmocka_unit_test(test_a_policy_has_all_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
