/* One run of the library over given answers: what it says, what it misses, in which order it looked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/spf_wire.h"
#include "common/spf/spf_eval.h"

static const struct slice host = {"m.b.test", 8}, address = {"\xc0\0\2\1", 4};
static const struct spf_wire_answer answers[] = {
	{.type = 15, .name = {"b.test", 6}, .state = SPF_WIRE_RECORDS, .count = 1, .data = &host},
	{.type = 1, .name = {"M.b.test", 8}, .state = SPF_WIRE_RECORDS, .count = 1, .data = &address},
	{.type = 1, .name = {"f.test", 6}, .state = SPF_WIRE_FAILED},
	{.type = 1, .name = {"n.test", 6}, .state = SPF_WIRE_NONE},
};

static void test_runs(void **state)
{
	static const struct {
		const char *record;
		unsigned answers;
		enum spf_wire_kind kind;
		enum spf_result result;
		const char *text;
		unsigned count;
		uint16_t trace[4];
	} rows[] = {
		{"v=spf1 ip4:192.0.2.0/24 -all", 0, SPF_WIRE_RESULT, SPF_PASS, "ip4:192.0.2.0/24", 0, {0}},
		{"v=spf1 -ip4:10.0.0.0/8 ~ip4:192.0.2.1 -all", 0, SPF_WIRE_RESULT, SPF_SOFTFAIL,
			"~ip4:192.0.2.1", 0, {0}},
		{"v=spf1 -all", 0, SPF_WIRE_RESULT, SPF_FAIL, "-all", 0, {0}},
		{"v=spf1 mx -all", 0, SPF_WIRE_MISSING, SPF_TEMPERROR, "b.test", 0, {0}},
		{"v=spf1 mx -all", 1, SPF_WIRE_MISSING, SPF_TEMPERROR, "m.b.test", 1, {0}},
		{"v=spf1 ip4:10.0.0.0/8 mx -all", 2, SPF_WIRE_RESULT, SPF_PASS, "mx", 2, {0, 1}},
		{"v=spf1 a:n.test a:f.test -all", 4, SPF_WIRE_RESULT, SPF_TEMPERROR, NULL, 2, {3, 2}},
		{"v=spf1 a:n.test ?all", 4, SPF_WIRE_RESULT, SPF_NEUTRAL, "?all", 1, {3}},
		{"v=spf1 include:c.test -all", 4, SPF_WIRE_MISSING, SPF_TEMPERROR, "c.test", 0, {0}},
		{"v=spf1 nonsense", 0, SPF_WIRE_RESULT, SPF_PERMERROR, NULL, 0, {0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct spf_wire_run run = {.ip = address,
			.sender = SLICE_LIT("a@b.test"),
			.helo = SLICE_LIT("h.test"),
			.domain = SLICE_LIT("b.test"),
			.record = slice_str(rows[i].record),
			.count = rows[i].answers,
			.answers = answers};
		struct buf in = {0}, out = {0};
		struct spf_wire_reply reply;

		assert_int_equal(spf_wire_write_run(&run, &in), 0);
		assert_int_equal(spf_eval(buf_view(&in), &out), 0);
		assert_int_equal(spf_wire_read_reply(buf_view(&out), rows[i].answers, &reply), 0);
		if (reply.kind != rows[i].kind ||
			(reply.kind == SPF_WIRE_RESULT && reply.result != rows[i].result) ||
			(rows[i].text && !slice_is_str(reply.text, rows[i].text)) ||
			reply.count != rows[i].count ||
			memcmp(reply.trace, rows[i].trace, reply.count * sizeof(reply.trace[0])) != 0)
			fail_msg("%s: %d %d %.*s %u", rows[i].record, (int)reply.kind, (int)reply.result,
				SLICE_ARG(reply.text), reply.count);
		buf_deinit(&in);
		buf_deinit(&out);
	}
}

static void test_nonsense_is_refused(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(spf_eval(SLICE_LIT(""), &out), ERR_SYNTAX);
	assert_int_equal(spf_eval(SLICE_LIT("SPF1 and more"), &out), ERR_SYNTAX);
	assert_int_equal(buf_len(&out), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
