/* Domains in a configuration: what is refused, where, and what is to be written instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/front/dns_keys.h"
#include "common/front/domain_keys.h"

static const struct conf_section sections[] = {{"", 0, NULL, "Top"}, {NULL, 0, NULL, NULL}};
static const struct conf_key keys[] = {
	{"", "one", CONF_STRING, 0, "", 0, 0, NULL, "A domain", NULL},
	{"", "many", CONF_LIST, 0, "", 0, 0, NULL, "Domains", NULL},
	{"", "any", CONF_LIST, 0, "", 0, 0, NULL, "Domains", NULL},
	{"", "host", CONF_STRING, 0, "", 0, 0, NULL, "A host", NULL},
	{"", "hosts", CONF_LIST, 0, "", 0, 0, NULL, "Patterns of hosts", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};
static const struct conf_key *const tables[] = {keys, dns_keys, NULL};

static void check(struct conf *conf)
{
	size_t count;
	const char *const *many = conf_get_list(conf, "", NULL, "many", &count);

	domain_keys_check_one(conf, "", NULL, "one");
	domain_keys_check(conf, "", NULL, "many", many, count);
	domain_keys_check_any(conf, "", NULL, "any");
	domain_keys_check_host(conf, "", NULL, "host");
	many = conf_get_list(conf, "", NULL, "hosts", &count);
	domain_keys_check_hosts(conf, "", NULL, "hosts", many, count, true);
	dns_keys_check(conf);
}

static const struct conf_table table = {
	.program = "test", .file = "test.conf", .sections = sections, .keys = tables, .check = check};

static void test_faults_are_told_at_their_key(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: taken */
	} rows[] = {
		{"one = \"\"", NULL},
		{"one = example.com\nmany = {a.example, xn--bcher-kva.example}", NULL},
		{"\none = \"!! senseless !!\"",
			"test.conf:2: one: \"!! senseless !!\" is no domain, such as example.com"},
		{"one = \"a b\"", "test.conf:1: one: "},
		{"one = Example.COM", NULL},
		{"one = \"b\xc3\xbc"
		 "cher.example\"",
			"is no domain in its normal form; write xn--bcher-kva.example"},
		{"\n\nmany = {a.example, \"\"}", "test.conf:3: many: \"\" is no domain"},
		{"many = {a.example, \"user@b.example\"}", "test.conf:1: many: \"user@b.example\""},
		{"any = {Example.COM, \"b\xc3\xbc"
		 "cher.example\"}",
			NULL},
		{"any = {a.example, \"b c\"}", "test.conf:1: any: \"b c\" is no domain"},
		{"host = MX1", NULL},
		{"host = mx.Example.com", NULL},
		{"\nhost = \"mx example\"", "test.conf:2: host: \"mx example\" is no name of a host"},
		{"host = \"b\xc3\xbc"
		 "cher.example\"",
			"test.conf:1: host: "},
		{"host = \"*.example.com\"", "test.conf:1: host: "},
		{"hosts = {\"*.example.com\", mail.example.com}", NULL},
		{"hosts = {\"*\"}", "test.conf:1: hosts: \"*\""},
		{"hosts = {\"*.*.example.com\"}", "test.conf:1: hosts: "},
		{"hosts = {\"\"}", "test.conf:1: hosts: \"\""},
		{"resolvers = {192.0.2.53, \"192.0.2.54:5353\", \"2001:db8::53\", \"[2001:db8::53]:53\"}",
			NULL},
		{"one = a.example\nresolvers = {192.0.2.53, ns1.example.com}",
			"test.conf:2: resolvers: \"ns1.example.com\" is not the address of a name server"},
		{"resolvers = {\"\"}", "test.conf:1: resolvers: \"\""},
		{"resolvers = {\"192.0.2.53 192.0.2.54\"}", "test.conf:1: resolvers: "},
		{"resolvers = {\"/run/dns.sock\"}", "test.conf:1: resolvers: "},
		{"resolvers = {\"192.0.2.53:99999\"}", "test.conf:1: resolvers: "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct conf *conf = NULL;
		int err = conf_load_text(&table, "test.conf", slice_str(rows[i].text), &why, &conf);

		if ((err == 0) != (rows[i].want == NULL) ||
			(rows[i].want && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("%s: %d: %s", rows[i].text, err, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_are_told_at_their_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
