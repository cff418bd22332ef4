/* security 12, 14: records of messages, and the texts squeezed into them, take linear time, whatever they hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/record.h"
#include "tests/unit/linear.h"

/* Squeezed, and back. */
static void work_squeeze(struct slice text)
{
	struct squeeze_dict dict;
	struct buf squeezed = {0}, room = {0};
	struct store_text made;
	struct slice again;

	record_text_dict(&dict);
	made = record_text_squeeze(&dict, text, &squeezed);
	if (made.is_squeezed) {
		assert_int_equal(store_text_view(&made, &room, &again), 0);
		assert_true(slice_is_equal(text, again));
	}
	buf_deinit(&squeezed);
	buf_deinit(&room);
}

/* As what was squeezed. */
static void work_view(struct slice text)
{
	struct store_text given = {text, 1000000, true};
	struct buf room = {0};
	struct slice again;

	(void)!store_text_view(&given, &room, &again);
	buf_deinit(&room);
}

static void work_unpack(struct slice text)
{
	struct store_message m = {0};
	struct buf room = {0};
	struct slice view;

	if (record_unpack_message(text, &m) == 0) {
		(void)!store_text_view(&m.texts.envelope, &room, &view);
		(void)!store_text_view(&m.texts.bodystructure, &room, &view);
	}
	buf_deinit(&room);
}

static void test_12_time_is_linear_in_size(void **state)
{
	static const struct {
		linear_fn *work;
		const char *start, *again;
	} rows[] = {
		{work_squeeze, "", "a"},
		{work_squeeze, "", "ab"},
		{work_squeeze, "", "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 1 1)"},
		{work_squeeze, "", "((NIL NIL \"a\" \"example.com\"))"},
		{work_squeeze, "", "abcdefghijklmnopqrstuvwxyz0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		{work_squeeze, "", "\xff\xfe\x80 "},
		{work_view, "", "a"},
		{work_view, "", "\xff"},
		{work_view, "", "\x80\x01"},
		{work_view, "", "\x01\x02\x03\x04\x05\x06\x07"},
		{work_unpack, "", "\x01"},
		{work_unpack, "\x03", "\xff"},
		{work_unpack, "\x03", "\x80\x80"},
		{work_unpack, "\x02", "\x7f\x03"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		linear_expect(rows[i].work, rows[i].start, rows[i].again, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_12_time_is_linear_in_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
