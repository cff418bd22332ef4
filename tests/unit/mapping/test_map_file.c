/* When a map's file is read, and what may follow what is in force; with a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "mapping/map_file.h"

static const char *const backends[] = {"b1", "b2", "b3", NULL};
static char path[64], temp[64];

static void write_file(const char *to, const char *text, mode_t mode, int age_s)
{
	FILE *f = fopen(to, "w");
	struct timeval t[2] = {{.tv_sec = clock_wall_s() - age_s}};

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	t[1] = t[0];
	assert_int_equal(utimes(to, t), 0);
	assert_int_equal(chmod(to, mode), 0);
}

static void put(const char *text, mode_t mode, int age_s)
{
	write_file(temp, text, mode, age_s);
	assert_int_equal(rename(temp, path), 0);
}

struct look {
	enum map_look look;
	int error;
	char words[512];
	char backend[16]; /* of alice in what was loaded */
};

static struct look look(struct map_file *f, unsigned flags)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_parse_info info;
	struct map_data *data = NULL;
	struct look l = {.error = 0};
	struct buf why = {0};
	struct map_entry e;

	l.look = map_file_look(f, flags, &why, &l.error, &info, &data);
	snprintf(l.words, sizeof(l.words), "%s", buf_str_view(&why));
	if (l.look == MAP_LOOK_LOADED && !map_data_find(data, SLICE_LIT("alice"), &e, account, NULL, NULL))
		snprintf(l.backend, sizeof(l.backend), "%.*s", SLICE_ARG(e.targets.at[0].name));
	map_data_unref(&data);
	buf_deinit(&why);
	return l;
}

static struct map_file file_new(void)
{
	return (struct map_file){
		.options = {.file = path, .backends = backends, .ports = true}, .max_shrink = 20};
}

static void test_it_is_read_when_it_stands_still(void **state)
{
	struct map_file f = file_new();
	struct look l;

	(void)state;
	put("alice b1\n", 0600, 10);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_LOADED);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_SAME);
	/* Renamed into place, however old its mtime says it is. */
	put("alice b2\n", 0600, 10);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
	clock_fake_advance(900);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
	clock_fake_advance(100);
	l = look(&f, 0);
	assert_int_equal(l.look, MAP_LOOK_LOADED);
	assert_string_equal(l.backend, "b2");
	/* In place: every writing begins the second anew. */
	for (unsigned i = 0; i < 4; i++) {
		char text[100];

		snprintf(text, sizeof(text), "%.*salice b3\n", (int)i * 2, "#\n#\n#\n#\n");
		write_file(path, text, 0600, (int)(5 - i));
		assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
		clock_fake_advance(900);
	}
	clock_fake_advance(100);
	assert_string_equal(look(&f, 0).backend, "b3");
	/* The same size and mtime, another inode. */
	put("#\n#\n#\nalice b1\n", 0600, 2 + 4);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
	clock_fake_advance(1000);
	assert_string_equal(look(&f, 0).backend, "b1");
	/* Another owner: what could not be read may be readable now. */
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1, 1), 0);
		assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
		clock_fake_advance(1000);
		assert_int_equal(look(&f, 0).look, MAP_LOOK_LOADED);
	}
}

/* At start a file that has just been written is taken at once if it proves to be whole. */
static void test_the_first_reading(void **state)
{
	struct map_file f = file_new();

	(void)state;
	put("alice b1\n", 0600, 0);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_MOVING);
	clock_fake_advance(1000);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_LOADED);
	f = file_new();
	put("alice b1\n# end 1\n", 0600, 0);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_LOADED);
	f = file_new();
	put("alice b1\n# end 2\n", 0600, 0);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_MOVING);
	clock_fake_advance(1000);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_REFUSED);
	/* What was refused is not read again and again. */
	clock_fake_advance(5000);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_SAME);
	/* No file: said at once, and once. */
	f = file_new();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(look(&f, MAP_LOOK_START).look, MAP_LOOK_REFUSED);
	clock_fake_advance(5000);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_SAME);
}

static void test_what_may_follow(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		bool force;
		int want;
		const char *words, *backend;
	} rows[] = {
		{"alice b2\nu2 b1\nu3 b1\nu4 b1\nu5 b1\n", 0600, false, 0, "", "b2"},
		{"alice b3\nu2 b9\nu3 b1\nu4 b1\nu5 b1\n", 0600, false, ERR_SYNTAX,
			":2: \"b9\" is no back-end", "b2"},
		{"alice b3\nu2 b1\nu3 b1\n", 0600, false, ERR_DENIED,
			"3 entries instead of 5: more than max-shrink (20 %)", "b2"},
		{"alice b3\nu2 b1\nu3 b1\nu4 b1\n", 0600, false, 0, "", "b3"}, /* 20 % fewer: allowed */
		{"", 0600, false, ERR_SYNTAX, ":1: the file is empty", "b3"},
		{"# end 0\n", 0600, false, ERR_DENIED, "0 entries instead of 4", "b3"},
		{"alice b1\nu2 b1\n", 0600, true, 0, "", "b1"},
		{"alice b2\nu2 b1\n# end 2\n", 0600, false, 0, "", "b2"},
		{"alice b3\nu2 b1\n", 0600, false, ERR_DENIED, "has no line \"# end N\"", "b2"},
		{"alice b3\n# end 2\n", 0600, false, ERR_SYNTAX, "\"# end\" says 2 entries, there are 1",
			"b2"},
		{"alice b3 password={PLAIN}x\nu2 b1\n# end 2\n", 0640, false, ERR_SYNTAX,
			":1: a password in a file that others", "b2"},
		{"alice b3 password={PLAIN}x\nu2 b1\n# end 2\n", 0600, false, 0, "", "b3"},
		{"alice b1\nu2 b1\n", 0600, true, 0, "", "b1"},
	};
	struct map_file f = file_new();

	(void)state;
	put("alice b1\nu2 b1\nu3 b1\nu4 b1\nu5 b1\n", 0600, 10);
	assert_int_equal(look(&f, 0).look, MAP_LOOK_LOADED);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct look l;

		put(rows[i].text, rows[i].mode, 10);
		assert_int_equal(look(&f, 0).look, MAP_LOOK_MOVING);
		clock_fake_advance(1000);
		l = look(&f, MAP_LOOK_AGAIN | (rows[i].force ? MAP_LOOK_FORCE : 0));
		if (l.error != rows[i].want || !strstr(l.words, rows[i].words))
			fail_msg("row %zu: got %d %s", i, l.error, l.words);
		assert_int_equal(l.look, rows[i].want ? MAP_LOOK_REFUSED : MAP_LOOK_LOADED);
		if (!rows[i].want)
			assert_string_equal(l.backend, rows[i].backend);
	}
}

static void test_what_is_no_file(void **state)
{
	struct map_parse_options o = {.file = "/tmp", .backends = backends};
	struct map_parse_info info;
	struct buf why = {0};
	size_t count;

	(void)state;
	assert_int_equal(map_file_check(&o, &why, &info, &count), ERR_IO);
	assert_string_equal(buf_str_view(&why), "/tmp: is no regular file");
	buf_clear(&why);
	o.file = "/tmp/mailtier/no/such/file";
	assert_int_equal(map_file_check(&o, &why, &info, &count), ERR_IO);
	assert_non_null(strstr(buf_str_view(&why), "cannot be read: No such file"));
	buf_deinit(&why);
}

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/mailtier-file-%d", (int)getpid());
	snprintf(temp, sizeof(temp), "/tmp/mailtier-file-%d.new", (int)getpid());
	clock_fake_start(1700000000000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	clock_fake_stop();
	unlink(path);
	unlink(temp);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_read_when_it_stands_still),
		cmocka_unit_test(test_the_first_reading),
		cmocka_unit_test(test_what_may_follow),
		cmocka_unit_test(test_what_is_no_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
