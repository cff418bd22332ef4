/* Runs and replies of the SPF checker, there and back; cut anywhere, and with figures that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/spf_wire.h"
#include "tests/unit/feed.h"

static const struct slice data[] = {{"\1\2\3\4", 4}, {"x", 1}};
static const struct spf_wire_answer answers[] = {
	{.type = 1, .name = {"a.test", 6}, .state = SPF_WIRE_RECORDS, .count = 2, .data = data},
	{.type = 16, .name = {"b.test", 6}, .state = SPF_WIRE_NONE},
};
static const struct spf_wire_run run = {.ip = {"\1\2\3\4", 4},
	.sender = {"a@b", 3},
	.helo = {"h", 1},
	.domain = {"b", 1},
	.record = {"v=spf1", 6},
	.count = 2,
	.answers = answers};

static void test_runs(void **state)
{
	struct spf_wire_run got;
	struct buf out = {0};
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(spf_wire_write_run(&run, &out), 0);
	assert_int_equal(spf_wire_read_run(buf_view(&out), &arena, &got), 0);
	assert_int_equal(got.count, 2);
	assert_true(slice_is_str(got.sender, "a@b") && slice_is_str(got.record, "v=spf1"));
	assert_int_equal(got.answers[0].count, 2);
	assert_true(slice_is_str(got.answers[0].data[1], "x"));
	assert_int_equal(got.answers[1].state, SPF_WIRE_NONE);
	for (size_t len = 0; len < buf_len(&out); len++) {
		struct feed_page page = feed_page_copy(slice_sub(buf_view(&out), 0, len));

		assert_int_equal(spf_wire_read_run(page.text, &arena, &got), ERR_SYNTAX);
		feed_page_free(&page);
	}
	buf_add_char(&out, 'x');
	assert_int_equal(spf_wire_read_run(buf_view(&out), &arena, &got), ERR_SYNTAX);
	arena_deinit(&arena);
	buf_deinit(&out);
}

static void test_security_16_limits(void **state)
{
	static char long_text[UINT16_MAX + 1];
	struct spf_wire_run r = run;
	struct buf out = {0};

	(void)state;
	r.count = SPF_WIRE_ANSWERS_MOST + 1;
	assert_int_equal(spf_wire_write_run(&r, &out), ERR_TOO_BIG);
	r = run;
	r.record = slice_of(long_text, sizeof(long_text));
	assert_int_equal(spf_wire_write_run(&r, &out), ERR_TOO_BIG);
	r.record = r.helo = r.sender = slice_of(long_text, UINT16_MAX);
	buf_clear(&out);
	assert_int_equal(spf_wire_write_run(&r, &out), ERR_TOO_BIG);
	buf_deinit(&out);
}

/* What a checker in a stranger's hands may say. */
static void test_security_16_replies(void **state)
{
	struct spf_wire_reply reply = {.kind = SPF_WIRE_MISSING,
		.result = SPF_FAIL,
		.type = 15,
		.text = SLICE_LIT("a.test"),
		.count = 2,
		.trace = {1, 0}};
	struct spf_wire_reply got;
	struct buf out = {0};

	(void)state;
	assert_int_equal(spf_wire_write_reply(&reply, &out), 0);
	assert_int_equal(spf_wire_read_reply(buf_view(&out), 2, &got), 0);
	assert_int_equal(got.kind, SPF_WIRE_MISSING);
	assert_int_equal(got.type, 15);
	assert_int_equal(got.trace[0], 1);
	assert_true(slice_is_str(got.text, "a.test"));
	assert_int_equal(spf_wire_read_reply(buf_view(&out), 1, &got), ERR_SYNTAX); /* there is no answer 1 */
	for (size_t len = 0; len < buf_len(&out); len++) {
		struct feed_page page = feed_page_copy(slice_sub(buf_view(&out), 0, len));

		assert_int_equal(spf_wire_read_reply(page.text, 2, &got), ERR_SYNTAX);
		feed_page_free(&page);
	}
	out.data[out.start + 1] = 2; /* kind */
	assert_int_equal(spf_wire_read_reply(buf_view(&out), 2, &got), ERR_SYNTAX);
	out.data[out.start + 1] = 0;
	out.data[out.start + 3] = SPF_RESULTS;
	assert_int_equal(spf_wire_read_reply(buf_view(&out), 2, &got), ERR_SYNTAX);
	buf_deinit(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_security_16_limits),
		cmocka_unit_test(test_security_16_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
