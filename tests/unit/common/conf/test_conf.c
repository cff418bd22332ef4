/* The table of keys: values, defaults, faults with their place, several files, reload, printing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/conf/conf.h"

static const struct conf_section sections[] = {
	{"", 0, NULL, "The top"},
	{"limits", 0, NULL, "Limits"},
	{"listener", CONF_TITLED | CONF_RELOAD, NULL, "A listener"},
	{"fixed", CONF_TITLED, NULL, "A section that only a restart adds"},
	{"service", CONF_TITLED, "imap pop3", "A service"},
	{0},
};
static const struct conf_key keys_a[] = {
	{"", "loops", CONF_INT, 0, "4", 1, 64, NULL, "Loops", NULL},
	{"", "name", CONF_STRING, CONF_RELOAD, "mail.example.com", 0, 0, NULL, "Name", NULL},
	{"", "level", CONF_ENUM, CONF_RELOAD, "info", 0, 0, "error warn info debug", "Level", NULL},
	{"limits", "message-size", CONF_SIZE, CONF_RELOAD, "10M", 1024, 1u << 30, NULL, "Largest message",
		NULL},
	{"limits", "idle", CONF_DURATION, CONF_RELOAD, "35m", 1000, 0, NULL, "Idle", NULL},
	{0},
};
static const struct conf_key keys_b[] = {
	{"listener", "listen", CONF_ADDRESSES, CONF_REQUIRED | CONF_RELOAD, NULL, 1, 0, NULL, "Addresses",
		NULL},
	{"listener", "tls", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL, "TLS at once", NULL},
	{"listener", "allow", CONF_NETWORKS, CONF_RELOAD, "127.0.0.0/8 ::1", 0, 0, NULL, "Who may", NULL},
	{"fixed", "secret", CONF_SECRET, 0, NULL, 0, 0, NULL, "A secret", NULL},
	{"fixed", "file", CONF_PATH, CONF_EXISTS, NULL, 0, 0, NULL, "A file", NULL},
	{"fixed", "key", CONF_PATH, CONF_PRIVATE, NULL, 0, 0, NULL, "A private file", NULL},
	{"service", "mechanisms", CONF_LIST, CONF_RELOAD, "plain login", 0, 0, "plain login scram",
		"Mechanisms", NULL},
	{"service", "uidl", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL, "UIDL | format", "pop3"},
	{0},
};
static const struct conf_key *const tables[] = {keys_a, keys_b, NULL};

static void check(struct conf *conf)
{
	if (conf_get_int(conf, "", NULL, "loops") == 13)
		conf_error(conf, "", NULL, "loops", "brings bad luck");
}

static const struct conf_table table = {"mailtier-test", "/etc/mailtier/test.conf", sections, tables, check};

static struct conf *load(const char *text)
{
	struct buf why = {0};
	struct conf *conf = NULL;
	int error = conf_load_text(&table, "t.conf", slice_str(text), &why, &conf);

	if (error)
		fail_msg("%s", buf_str_view(&why));
	buf_deinit(&why);
	return conf;
}

static void test_values_come_typed_and_defaults_fill_the_rest(void **state)
{
	struct conf *conf = load("#\nloops = 8\n"
				 "level = debug # words\n"
				 "limits { message-size = 64K idle = 90 }\n"
				 "listener imaps { listen = {\"127.0.0.1:993\", \"[::1]:993\", *:143,\n "
				 "/run/x.sock} tls = yes }\n"
				 "listener single { listen = 127.0.0.1:143 allow = {} }\n"
				 "service imap { mechanisms = {scram} }\n");
	const struct conf_address *addresses;
	const char *const *list;
	size_t n;

	(void)state;
	assert_int_equal(conf_get_int(conf, "", NULL, "loops"), 8);
	assert_string_equal(conf_get_string(conf, "", NULL, "name"), "mail.example.com");
	assert_false(conf_is_set(conf, "", NULL, "name"));
	assert_int_equal(conf_get_enum(conf, "", NULL, "level"), 3);
	assert_int_equal(conf_get_size(conf, "limits", NULL, "message-size"), 65536);
	assert_int_equal(conf_get_duration(conf, "limits", NULL, "idle"), 90000);
	addresses = conf_get_addresses(conf, "listener", "imaps", "listen", &n);
	assert_int_equal(n, 5);
	assert_string_equal(addresses[0].host, "127.0.0.1");
	assert_int_equal(addresses[0].port, 993);
	assert_string_equal(addresses[1].host, "::1");
	assert_string_equal(addresses[2].host, "0.0.0.0");
	assert_int_equal(addresses[2].port, 143);
	assert_false(addresses[2].may_lack);
	assert_string_equal(addresses[3].host, "::");
	assert_int_equal(addresses[3].port, 143);
	assert_true(addresses[3].may_lack);
	assert_string_equal(addresses[4].host, "/run/x.sock");
	assert_true(conf_get_bool(conf, "listener", "imaps", "tls"));
	conf_get_addresses(conf, "listener", "single", "listen", &n);
	assert_int_equal(n, 1);
	list = conf_get_list(conf, "listener", "imaps", "allow", &n);
	assert_int_equal(n, 2);
	assert_string_equal(list[1], "::1");
	conf_get_list(conf, "listener", "single", "allow", &n);
	assert_int_equal(n, 0);
	list = conf_get_list(conf, "service", "imap", "mechanisms", &n);
	assert_int_equal(n, 1);
	assert_string_equal(list[0], "scram");
	conf_get_list(conf, "service", "pop3", "mechanisms", &n);
	assert_int_equal(n, 2);
	list = conf_titles(conf, "listener", &n);
	assert_int_equal(n, 2);
	assert_string_equal(list[0], "imaps");
	assert_null(list[2]);
	assert_true(conf_has_title(conf, "listener", "single"));
	assert_false(conf_has_title(conf, "listener", "double"));
	assert_string_equal(conf_where(conf, "listener", "imaps", "tls"), "t.conf:6");
	assert_string_equal(conf_where(conf, "listener", "single", "tls"), "t.conf:7");
	assert_string_equal(conf_where(conf, "", NULL, "name"), "default");
	conf_free(&conf);
	assert_null(conf);
}

static void test_every_fault_is_told_with_its_place(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"loops = 0", "t.conf:1: loops: \"0\" is below the least, 1\n"},
		{"\n\nloops = 65", "t.conf:3: loops: \"65\" is above the most, 64\n"},
		{"loops = many", "t.conf:1: loops: \"many\" is no number\n"},
		{"loops = -1", "t.conf:1: loops: \"-1\" is no number\n"},
		{"loops = 99999999999999999999", "t.conf:1: loops: \"99999999999999999999\" is no number\n"},
		{"loops = 13", "t.conf:1: loops: brings bad luck\n"},
		{"lops = 1", "t.conf:1: lops: unknown key or section\n"},
		{"level = loud", "t.conf:1: level: \"loud\" is none of: error warn info debug\n"},
		{"name = \"a\\nb\"", "t.conf:1: name: \"value\" has control characters or is no UTF-8\n"},
		{"name = \"\xff\"", "t.conf:1: name: \"value\" has control characters or is no UTF-8\n"},
		{"loops = 1\nloops = 1", "t.conf:2: loops: stands twice in this file (first in line 1)\n"},
		{"limits {\n sise = 1 }", "t.conf:2: sise: unknown key in section limits\n"},
		{"limits {\n message-size = 10X\n idle = 1ms }",
			"t.conf:2: message-size: \"10X\" is no size (write 4096, 64K, 10M, 1G)\n"
			"t.conf:3: idle: \"1ms\" is below the least, 1s\n"},
		{"limits {}\nlimits {}", "t.conf:2: limits: this section stands twice in this file\n"},
		{"listener a { listen = *:1 }\nlistener a { listen = *:2 }",
			"t.conf:2: a section with the title \"a\" stands there already; in one file each "
			"stands once\n"},
		{"listener a { listen = *:1\nlisten = *:1 }",
			"t.conf:2: listen: stands twice in this file (first in line 1)\n"},
		{"listener a { listen = {*:1}\nlisten += {*:1} }",
			"t.conf:2: += is not known here; write the whole list\n"},
		{"listener a { listen = {}\nlisten = *:1 }",
			"t.conf:2: listen: stands twice in this file (first in line 1)\n"},
		{"loops = *8", "t.conf:1: loops: \"*8\" is no number\n"},
		{"name = \"${HOME}\"",
			"t.conf:1: ${...} in double quotes would be a variable of the environment; use "
			"single quotes\n"},
		{"\nname = \"abc\n\n", "t.conf:2: this string has no end\n"},
		{"\n\n/* abc\n\n", "t.conf:3: this comment has no end\n"},
		{"name = a\\b", "t.conf:1: a backslash must stand in quotes\n"},
		{"name = a\x01", "t.conf:1: has a control character\n"},
		{"listener a { listen = {}\nlisten = {} }",
			"t.conf:2: listen: stands twice in this file (first in line 1)\n"},
		{"\nlistener a { tls = on }", "t.conf:2: listen: must be set in listener a\n"},
		{"listener \"a b\" { listen = *:1 }",
			"t.conf:1: listener: the title must be 1 to 64 of A-Z a-z 0-9 . _ @ -\n"},
		{"listener { listen = *:1 }", NULL},
		{"listener a { listen = 192.0.2.1 }", "t.conf:1: listen: \"192.0.2.1\" needs a port\n"},
		{"listener a { listen = localhost:143 }",
			"t.conf:1: listen: \"localhost:143\" is no address (write 192.0.2.1:143, "
			"[2001:db8::1]:143, *:143 or /unix/path)\n"},
		{"listener a { listen = \"::1\" }", "t.conf:1: listen: \"::1\" needs a port\n"},
		{"listener a { listen = \"h:0\" }", NULL},
		{"listener a { listen = \"h:65536\" }", NULL},
		{"listener a { listen = \"[::1\" }", NULL},
		{"listener a { listen = \"[::1]143\" }", NULL},
		{"listener a { listen = \"a b:1\" }", NULL},
		{"listener a { listen = \"\" }", NULL},
		{"listener a { listen = *:1 tls = maybe }",
			"t.conf:1: tls: \"maybe\" is neither yes nor no\n"},
		{"listener a { listen = *:1 allow = {10.0.0.1/8} }",
			"t.conf:1: allow: \"10.0.0.1/8\" is no network (write 10.0.0.0/8, 2001:db8::/32, "
			"192.0.2.7)\n"},
		{"listener a { listen = *:1 allow = {10.0.0.0/33} }", NULL},
		{"service smtp { }", "t.conf:1: service: \"smtp\" is none of: imap pop3\n"},
		{"service imap { uidl = x }", "t.conf:1: uidl: is no key of service imap\n"},
		{"service imap { mechanisms = {plain, ntlm} }",
			"t.conf:1: mechanisms: \"ntlm\" is none of: plain login scram\n"},
		{"fixed f { secret = /nonexistent/x }",
			"t.conf:1: secret: \"/nonexistent/x\" No such file or directory\n"},
		{"fixed f { file = / }", "t.conf:1: file: \"/\" is no plain file\n"},
		{"loops", NULL},
		{"loops =", NULL},
		{"loops = \"1", NULL},
		{"limits {", NULL},
		{"}", NULL},
		{"loops = {1}", NULL},
		{"limits = 1", NULL},
		{"include(\"/etc/passwd\")", NULL},
		{"/* open", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct conf *conf = NULL;

		if (conf_load_text(&table, "t.conf", slice_str(rows[i].text), &why, &conf) != ERR_CONFIG)
			fail_msg("taken: %s", rows[i].text);
		assert_null(conf);
		if (rows[i].want)
			assert_string_equal(buf_str_view(&why), rows[i].want);
		else if (strncmp(buf_str_view(&why), "t.conf:1: ", 10) != 0)
			fail_msg("%s: %s", rows[i].text, buf_str_view(&why));
		buf_deinit(&why);
	}
}

/* A folder of its own for each test that needs files. */
static char folder[64];

static const char *path_of(const char *name)
{
	static char path[16][128];
	static unsigned next;
	char *p = path[next++ % 16];

	snprintf(p, 128, "%s/%s", folder, name);
	return p;
}

static void put(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(path_of(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path_of(name), mode), 0);
}

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/mailtier-conf-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = {"a.conf", "b.conf", "secret", "key", "out"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(path_of(names[i]));
	return rmdir(folder);
}

static void test_later_files_replace_and_merge(void **state)
{
	const char *files[] = {path_of("a.conf"), path_of("b.conf")};
	struct buf why = {0};
	struct conf *conf = NULL;
	size_t n;

	(void)state;
	put("a.conf", "loops = 2\nname = a\nlistener x { listen = {*:1, *:2} tls = yes }\n", 0644);
	put("b.conf", "loops = 3\n\nlistener x { listen = {192.0.2.1:9} }\nlistener y { listen = *:7 }\n",
		0644);
	assert_int_equal(conf_load(&table, files, 2, &why, &conf), 0);
	assert_int_equal(conf_get_int(conf, "", NULL, "loops"), 3);
	assert_string_equal(conf_get_string(conf, "", NULL, "name"), "a");
	assert_int_equal(conf_get_addresses(conf, "listener", "x", "listen", &n)[0].port, 9);
	assert_int_equal(n, 1);
	assert_true(conf_get_bool(conf, "listener", "x", "tls"));
	assert_non_null(strstr(conf_where(conf, "listener", "x", "listen"), "b.conf:3"));
	assert_true(conf_has_title(conf, "listener", "y"));
	conf_free(&conf);
	unlink(files[1]);
	assert_int_equal(conf_load(&table, files, 2, &why, &conf), ERR_IO);
	assert_non_null(strstr(buf_str_view(&why), "b.conf: No such file or directory\n"));
	buf_deinit(&why);
}

static void test_secrets_are_read_from_tight_files_only(void **state)
{
	const char *file = path_of("a.conf");
	struct buf why = {0};
	struct conf *conf = NULL;

	(void)state;
	put("a.conf", "fixed f { secret = secret key = key }\n", 0644);
	put("secret", "open sesame\nsecond line\n", 0600);
	put("key", "x", 0400);
	if (conf_load(&table, &file, 1, &why, &conf))
		fail_msg("%s", buf_str_view(&why));
	assert_true(slice_is_str(conf_get_secret(conf, "fixed", "f", "secret"), "open sesame"));
	assert_string_equal(conf_get_string(conf, "fixed", "f", "key"), path_of("key"));
	conf_free(&conf);
	chmod(path_of("secret"), 0640);
	chmod(path_of("key"), 0604);
	assert_int_equal(conf_load(&table, &file, 1, &why, &conf), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "a.conf:1: secret: "));
	assert_non_null(strstr(buf_str_view(&why), "a.conf:1: key: "));
	buf_clear(&why);
	chmod(path_of("key"), 0600);
	put("secret", "\n", 0600);
	assert_int_equal(conf_load(&table, &file, 1, &why, &conf), ERR_CONFIG);
	assert_non_null(strstr(buf_str_view(&why), "has no secret"));
	buf_deinit(&why);
}

static void test_a_reload_changes_what_it_may_and_refuses_whole(void **state)
{
	const char *file = path_of("a.conf");
	struct buf why = {0}, notes = {0};
	struct conf *old = NULL, *now = NULL;

	(void)state;
	put("a.conf", "loops = 2\nname = a\nlistener x { listen = *:1 }\nfixed gone { }\n", 0644);
	assert_int_equal(conf_load(&table, &file, 1, &why, &old), 0);
	put("a.conf", "loops = 3\nname = b\nlistener y { listen = *:2 }\nfixed new { }\n", 0644);
	assert_int_equal(conf_reload(old, &why, &notes, &now), 0);
	assert_int_equal(conf_get_int(now, "", NULL, "loops"), 2);
	assert_string_equal(conf_get_string(now, "", NULL, "name"), "b");
	assert_false(conf_has_title(now, "listener", "x"));
	assert_true(conf_has_title(now, "listener", "y"));
	assert_true(conf_has_title(now, "fixed", "gone"));
	assert_false(conf_has_title(now, "fixed", "new"));
	assert_string_equal(buf_str_view(&notes),
		"loops: changed in the file; in force by a hand-over or restart\n"
		"fixed new: new in the file; in force by a hand-over or restart\n"
		"fixed gone: gone from the file; in force by a hand-over or restart\n");
	conf_free(&old);
	assert_int_equal(conf_get_int(now, "", NULL, "loops"), 2);
	old = now;
	now = NULL;
	put("a.conf", "name = c\nlevel = loud\n", 0644);
	assert_int_equal(conf_reload(old, &why, &notes, &now), ERR_CONFIG);
	assert_null(now);
	assert_non_null(strstr(buf_str_view(&why), "a.conf:2: level: "));
	assert_string_equal(conf_get_string(old, "", NULL, "name"), "b");
	conf_free(&old);
	buf_deinit(&why);
	buf_deinit(&notes);
}

/* What a printing function writes, as a string that the caller frees. */
static char *printed(void (*print)(const struct conf_table *, FILE *))
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	print(&table, out);
	fclose(out);
	return text;
}

static void test_the_defaults_are_a_configuration_with_every_key(void **state)
{
	char *text = printed(conf_print_defaults), *docs = printed(conf_print_docs);
	struct conf *conf = load(text);

	(void)state;
	assert_int_equal(conf_get_int(conf, "", NULL, "loops"), 4);
	assert_true(conf_is_set(conf, "", NULL, "loops"));
	assert_int_equal(conf_get_duration(conf, "limits", NULL, "idle"), 2100000);
	conf_free(&conf);
	for (size_t t = 0; tables[t]; t++)
		for (const struct conf_key *key = tables[t]; key->section; key++) {
			assert_non_null(strstr(text, key->name));
			assert_non_null(strstr(text, key->doc));
			assert_non_null(strstr(docs, key->name));
		}
	assert_non_null(
		strstr(docs, "| `message-size` | size, 1K to 1G | `10M` | reload | Largest message |"));
	assert_non_null(strstr(docs, "UIDL \\| format (only: pop3)"));
	free(text);
	free(docs);
}

static void test_what_is_in_force_is_printed_without_secrets(void **state)
{
	const char *file = path_of("a.conf");
	struct buf why = {0};
	struct conf *conf = NULL;
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	(void)state;
	put("a.conf", "loops = 2\nname = \"a \\\"b\\\"\"\nfixed f { secret = secret }\n", 0644);
	put("secret", "open sesame\n", 0600);
	assert_int_equal(conf_load(&table, &file, 1, &why, &conf), 0);
	out = open_memstream(&text, &len);
	conf_print(conf, out);
	fclose(out);
	assert_non_null(strstr(text, "name = \"a \\\"b\\\"\"\t# "));
	assert_null(strstr(text, "sesame"));
	assert_null(strstr(text, "level"));
	free(text);
	conf_free(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_come_typed_and_defaults_fill_the_rest),
		cmocka_unit_test(test_every_fault_is_told_with_its_place),
		cmocka_unit_test_setup_teardown(
			test_later_files_replace_and_merge, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(
			test_secrets_are_read_from_tight_files_only, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(
			test_a_reload_changes_what_it_may_and_refuses_whole, make_folder, remove_folder),
		cmocka_unit_test(test_the_defaults_are_a_configuration_with_every_key),
		cmocka_unit_test_setup_teardown(
			test_what_is_in_force_is_printed_without_secrets, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
