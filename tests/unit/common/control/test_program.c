/* What both programs read from the keys that they share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/control/program.h"

static const struct conf_section sections[] = {{"", 0, NULL, "All"}, {NULL, 0, NULL, NULL}};
static const struct conf_key keys[] = {
	{"", "host-name", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL, "Name", NULL},
	PROGRAM_LOG_KEYS,
	{"", "loops", CONF_INT, 0, "0", 0, 256, NULL, "Threads", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};
static const struct conf_key *const tables[] = {keys, NULL};
static const struct conf_table table = {
	.program = "test", .file = "/test.conf", .sections = sections, .keys = tables};

static void test_keys_of_the_log_are_checked(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: taken */
	} rows[] = {
		{"log-levels = {\"smtp=debug\", \"imap=warn\"}", NULL},
		{"log-levels = {\"smtp=debug\", \"imap\"}",
			"test.conf:1: log-levels: \"imap\" is not AREA=LEVEL"},
		{"\nlog-levels = {\"smtp=loud\"}", "test.conf:2: log-levels: \"smtp=loud\""},
		{"log-levels = {\"=debug\"}", "test.conf:1: log-levels: "},
		{"log-to = syslog\nlog-socket = \"/run/other\"", NULL},
		{"log-to = syslog\nlog-socket = \"other\"", "test.conf:2: log-socket: "},
		{"log-file = \"/x.log\"", NULL},
		{"log-file = \"/nonexistent/x.log\"", "test.conf:1: log-file: /nonexistent: No such file"},
	};
	struct conf_table checked = table;

	(void)state;
	checked.check = program_check;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct conf *conf = NULL;
		int err = conf_load_text(&checked, "test.conf", slice_str(rows[i].text), &why, &conf);

		if ((err == 0) != (rows[i].want == NULL) ||
			(rows[i].want && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("%s: %d: %s", rows[i].text, err, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
	}
}

static struct conf *load(const char *text)
{
	struct buf why = {0};
	struct conf *conf = NULL;

	assert_int_equal(conf_load_text(&table, "test.conf", slice_str(text), &why, &conf), 0);
	buf_deinit(&why);
	return conf;
}

static void test_the_host_is_named_or_the_systems(void **state)
{
	char system[256] = "";
	const struct {
		const char *text;
		size_t size;
		const char *want;
	} rows[] = {
		{"host-name = \"mx.example.com\"\n", 256, "mx.example.com"},
		{"host-name = \"mx.example.com\"\n", 15, "mx.example.com"},
		{"", 256, system},
		{"host-name = \"mx.example.com\"\n", 1, ""},
	};

	(void)state;
	assert_int_equal(gethostname(system, sizeof(system) - 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf *conf = load(rows[i].text);
		char room[256];

		memset(room, 'x', sizeof(room));
		program_host_name(conf, room, rows[i].size);
		assert_string_equal(room, rows[i].want);
		conf_free(&conf);
	}
}

static void test_loops_are_a_number_or_one_a_core(void **state)
{
	struct conf *three = load("loops = 3\n"), *none = load("");

	(void)state;
	assert_int_equal(program_loops(three), 3);
	assert_int_equal(program_loops(none), sysconf(_SC_NPROCESSORS_ONLN));
	conf_free(&three);
	conf_free(&none);
}

static void test_descriptors_go_up_to_the_hard_limit(void **state)
{
	struct rlimit limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	program_raise_descriptors();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(limit.rlim_cur, limit.rlim_max);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_of_the_log_are_checked),
		cmocka_unit_test(test_the_host_is_named_or_the_systems),
		cmocka_unit_test(test_loops_are_a_number_or_one_a_core),
		cmocka_unit_test(test_descriptors_go_up_to_the_hard_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
