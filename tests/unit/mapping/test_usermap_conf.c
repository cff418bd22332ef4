/* The keys of maps, read through a program's table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mapping/usermap.h"

static const struct conf_section sections[] = {
	{"", 0, NULL, ""}, USERMAP_CONF_SECTION, DIRECTORY_CONF_SECTION, {0}};
static const struct conf_key *const keys[] = {usermap_conf_keys, directory_conf_keys, NULL};
static void check(struct conf *conf)
{
	usermap_conf_check(conf);
	directory_conf_check(conf);
}

static const struct conf_table table = {"test", "/etc/test.conf", sections, keys, check};

static struct conf *load(const char *text, struct buf *why)
{
	struct conf *conf = NULL;

	if (conf_load_text(&table, "/etc/mailtier/test.conf", slice_str(text), why, &conf))
		return NULL;
	return conf;
}

static void test_maps_are_read(void **state)
{
	static const char *const backends[] = {"b1", NULL};
	static const char *const single[] = {"two", NULL};
	struct usermap_config c;
	struct buf why = {0};
	struct conf *conf =
		load("credential-cache = 5m\n"
		     "map one { file = users domains = {\"a.example\", \"b.example\"} max-shrink = 50 }\n"
		     "map two { type = file file = /srv/two }\n",
			&why);

	(void)state;
	if (!conf)
		fail_msg("%s", buf_str_view(&why));
	usermap_config_read(conf, backends, single, &c);
	assert_int_equal(c.count, 2);
	assert_int_equal(c.credential_lifetime_ms, 300000);
	assert_int_equal(c.credential_entries, 100000);
	assert_string_equal(c.maps[0].name, "one");
	assert_string_equal(c.maps[0].file, "/etc/mailtier/users");
	assert_string_equal(c.maps[0].domains[1], "b.example");
	assert_int_equal(c.maps[0].max_shrink, 50);
	assert_false(c.maps[0].ports);
	assert_string_equal(c.maps[1].file, "/srv/two");
	assert_true(!c.maps[1].domains || !c.maps[1].domains[0]);
	assert_int_equal(c.maps[1].max_shrink, 20);
	assert_true(c.maps[1].ports);
	usermap_config_free(&c);
	conf_free(&conf);
	buf_deinit(&why);
}

static void test_connectors_are_read(void **state)
{
	static const char *const backends[] = {"b1", NULL};
	struct usermap_config c;
	struct buf why = {0};
	struct conf *conf = load("connector open { uris = {\"ldap://d1.example\", \"ldaps://d2.example\"} "
				 "bind = anonymous base = \"dc=x\" }\n"
				 "connector ad { type = activedirectory uris = {\"ldaps://ad.example\"} bind "
				 "= anonymous base = \"dc=%d\" "
				 "timeout = 10s several = error host-attribute = info }\n"
				 "map one { type = ldap-password connector = open positive-ttl = 5s }\n"
				 "map two { type = ldap-bind connector = ad send-only = yes }\n",
		&why);

	(void)state;
	if (!conf)
		fail_msg("%s", buf_str_view(&why));
	usermap_config_read(conf, backends, NULL, &c);
	assert_int_equal(c.count, 2);
	assert_int_equal(c.maps[0].type, USERMAP_LDAP_PASSWORD);
	assert_int_equal(c.maps[0].positive_ms, 5000);
	assert_int_equal(c.maps[0].stale_ms, 3600000);
	assert_string_equal(c.maps[1].connector, "ad");
	assert_true(c.maps[1].send_only);
	assert_int_equal(c.connector_count, 2);
	assert_string_equal(c.connectors[0].directory.uris[1], "ldaps://d2.example");
	assert_string_equal(c.connectors[0].filter, "(mail=%e)");
	assert_string_equal(c.connectors[0].host_attribute, "mailHost");
	assert_int_equal(c.connectors[0].several, DIRECTORY_SEVERAL_ERROR);
	assert_true(c.connectors[0].directory.client.start_tls && c.connectors[0].directory.client.verify);
	assert_int_equal(c.connectors[0].directory.timeout_ms, 4000);
	assert_non_null(strstr(c.connectors[1].filter, "sAMAccountName"));
	assert_string_equal(c.connectors[0].alias_attributes[0], "mailLocalAddress");
	assert_string_equal(c.connectors[0].flags_attribute, "");
	assert_string_equal(c.connectors[1].alias_attributes[0], "proxyAddresses");
	assert_string_equal(c.connectors[1].flags_attribute, "userAccountControl");
	assert_string_equal(c.connectors[1].address_filter, "");
	assert_string_equal(c.connectors[1].host_attribute, "info");
	assert_int_equal(c.connectors[1].several, DIRECTORY_SEVERAL_ERROR);
	assert_int_equal(c.connectors[1].directory.timeout_ms, 10000);
	usermap_config_free(&c);
	conf_free(&conf);
	buf_deinit(&why);
}

#define CONNECTOR(more) "connector c { uris = {\"ldap://d\"} base = \"dc=x\" bind = anonymous " more " }\n"

static void test_bad_maps_are_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"map one { }\n", "file"},
		{"map one { file = x type = ldap }\n", "type"},
		{"map one { file = x max-shrink = 101 }\n", "max-shrink"},
		{"credential-cache = 2d\n", "credential-cache"},
		{"map one { type = ldap-bind }\n", "connector"},
		{"map one { type = ldap-bind connector = none }\n", "connector"},
		{"map one { file = x connector = c }\n", "connector"},
		{CONNECTOR("") "map one { type = ldap-bind connector = c file = x }\n", "file"},
		{CONNECTOR("password-attribute = \"\"") "map one { type = ldap-password connector = c }\n",
			"password-attribute"},
		{CONNECTOR("timeout = 601s"), "timeout"},
		{CONNECTOR("filter = \"(mail=%e\""), "filter"},
		{CONNECTOR("address-filter = \"mail=%x\""), "address-filter"},
		{CONNECTOR("host-attribute = \"a b\""), "host-attribute"},
		{CONNECTOR("bind-dn = \"cn=a\""), "bind"},
		{CONNECTOR("certificate = /etc/hostname"), "certificate"},
		{"connector c { uris = {\"ldap://d\"} base = \"dc=x\" }\n", "bind"},
		{"connector c { uris = {\"http://d\"} base = \"dc=x\" bind = anonymous }\n", "uris"},
		{"connector c { uris = {\"ldap://d\"} base = nonsense bind = anonymous }\n", "base"},
		{"connector c { uris = "
		 "{\"ldap://a\",\"ldap://b\",\"ldap://c\",\"ldap://d\",\"ldap://e\",\"ldap://f\"} "
		 "base = \"dc=x\" bind = anonymous }\n",
			"uris"},
		{"connector c { uris = {\"ldap://d\"} base = \"dc=x\" bind = external tls = none }\n",
			"external"},
		{"connector c { uris = {\"ldap://d\"} base = \"dc=x\" bind = gssapi }\n", "needs a keytab"},
		{"connector c { uris = {\"ldap://d\"} base = \"dc=x\" bind = gssapi tls = none }\n",
			"need TLS"},
		{CONNECTOR("referrals = {nonsense}"), "referrals"},
		{CONNECTOR("principal = \"a@B\""), "bind = gssapi"},
		{CONNECTOR("flags-attribute = \"a b\""), "flags-attribute"},
		{CONNECTOR("alias-attributes = {\"a b\"}"), "alias-attributes"},
		{CONNECTOR("alias-attributes = {a} address-filter = \"mail=%e\""), "alias-attributes"},
		{CONNECTOR("alias-attributes = {} account-attribute = \"\""), "alias-attributes"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf why = {0};

		assert_null(load(rows[i].text, &why));
		assert_non_null(strstr(buf_str_view(&why), rows[i].want));
		buf_deinit(&why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps_are_read),
		cmocka_unit_test(test_connectors_are_read),
		cmocka_unit_test(test_bad_maps_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
