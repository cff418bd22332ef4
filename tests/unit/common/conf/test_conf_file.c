/* Files that keys name: the whole of them, or why not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/conf/conf_file.h"

static void test_whole_or_a_reason(void **state)
{
	char path[] = "/tmp/mailtier-conf-file-XXXXXX";
	int fd = mkstemp(path);
	const struct {
		const char *path;
		size_t most;
		int want;
		const char *text;
	} rows[] = {
		{path, 5, 0, "hello"},
		{path, 100, 0, "hello"},
		{path, 4, EFBIG, NULL},
		{"/tmp", 100, EISDIR, NULL},
		{"/nonexistent/x", 100, ENOENT, NULL},
	};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = {0};

		assert_int_equal(conf_file_read(rows[i].path, rows[i].most, &out), rows[i].want);
		if (rows[i].text)
			assert_string_equal(buf_str_view(&out), rows[i].text);
		buf_deinit(&out);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_or_a_reason)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
