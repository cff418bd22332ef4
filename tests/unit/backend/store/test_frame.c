/* Frames of every length come back; those that were stored by earlier programs are read for ever; what is none does no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/store/frame.h"
#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/mem.h"

#define LONGEST (128 * 1024)

static const char mail[] =
	"From: \"A\" <a@example.net>\r\nSubject: Re: frames\r\nContent-Type: text/plain; charset=utf-8\r\n"
	"Content-Transfer-Encoding: 8bit\r\n\r\n"
	"The frames that were stored are read as ever, and ever, and ever.\r\n";
#define MAIL SLICE_LIT(mail)

/* `mail` as the first program with a dictionary stored it. When this fails, stored mail cannot be read any more. */
static const char by_dictionary[] =
	"\050\265\057\375\042\101\234\277\125\002\000\323\103\012\225\045\063\371\135\336\065\165"
	"\216\176\346\076\343\255\375\363\247\174\323\157\373\177\054\225\365\040\315\235\150\377"
	"\225\157\103\220\276\174\010\005\161\217\121\013\374\375\200\276\174\047\106\231\315\025"
	"\164\161\010\274\055\245\020\251\242\246\200\253\116\146\042\111\332\346\022";
/* And as it was stored before there was one. */
static const char by_itself[] =
	"\050\265\057\375\040\277\155\004\000\342\311\037\035\120\253\163\030\103\251\264\123\057"
	"\166\264\254\225\171\157\064\042\116\163\114\000\011\170\101\061\123\337\320\141\254\055"
	"\157\065\001\374\307\063\152\076\075\347\131\363\235\141\307\074\037\222\255\121\347\243"
	"\206\065\326\132\162\230\164\215\225\036\174\066\241\360\241\270\312\214\002\265\105\350"
	"\107\326\350\111\301\112\072\125\201\276\336\351\136\105\032\245\367\275\020\301\132\074"
	"\245\014\245\373\042\135\077\167\070\026\203\265\102\177\227\117\025\245\327\015\072\310"
	"\344\220\244\243\040\053\002\003\000\157\365\327\026\262\137\314\120\146";

struct tools {
	struct frame_press *press;
	struct frame_opener *opener;
};

static int set_up(void **state)
{
	struct tools *t = xcalloc(1, sizeof(*t));

	t->press = frame_press_new();
	t->opener = frame_opener_new();
	*state = t;
	return t->opener ? 0 : -1;
}

static int tear_down(void **state)
{
	struct tools *t = *state;

	frame_press_free(&t->press);
	frame_opener_free(&t->opener);
	free(t);
	return 0;
}

/* Words, or octets that do not compress. */
static void fill(char *raw, size_t len, bool is_noise)
{
	static const char words[] = "frames come back, as they went in, whatever their length is. ";
	uint64_t x = UINT64_C(0x9E3779B97F4A7C15);

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		raw[i] = is_noise ? (char)(x >> 32) : words[i % (sizeof(words) - 1)];
	}
}

static void test_round_trip(void **state)
{
	static const size_t lengths[] = {0, 1, 7, 100, 1024, 4096, 8191, 8192, 8193, LONGEST};
	struct tools *t = *state;
	char *raw = xmalloc(LONGEST), *room = xmalloc(frame_bound(LONGEST)), *again = xmalloc(LONGEST);

	for (size_t i = 0; i < ARRAY_LEN(lengths) * 2; i++) {
		size_t len = lengths[i / 2], packed, found;

		fill(raw, len, i % 2);
		assert_int_equal(frame_pack(t->press, slice_of(raw, len), room, &packed), 0);
		assert_int_equal(frame_length(slice_of(room, packed), &found), 0);
		assert_int_equal(found, packed);
		assert_int_equal(frame_open(t->opener, slice_of(room, packed), again, len), 0);
		assert_memory_equal(again, raw, len);
		if (len)
			assert_int_equal(
				frame_open(t->opener, slice_of(room, packed), again, len - 1), ERR_CORRUPT);
		if (len < LONGEST)
			assert_int_equal(
				frame_open(t->opener, slice_of(room, packed), again, len + 1), ERR_CORRUPT);
	}
	free(raw);
	free(room);
	free(again);
}

static void test_stored_frames_are_read_for_ever(void **state)
{
	struct tools *t = *state;
	const struct slice stored[] = {SLICE_LIT(by_dictionary), SLICE_LIT(by_itself)};

	for (size_t i = 0; i < ARRAY_LEN(stored); i++) {
		char again[sizeof(mail)] = {0};

		assert_int_equal(frame_open(t->opener, stored[i], again, MAIL.len), 0);
		assert_string_equal(again, mail);
	}
}

/* What a dictionary is for. */
static void test_small_mail_is_small(void **state)
{
	struct tools *t = *state;
	char *room = xmalloc(frame_bound(MAIL.len));
	size_t packed;

	assert_int_equal(frame_pack(t->press, MAIL, room, &packed), 0);
	assert_true(packed < sizeof(mail) / 2);
	free(room);
}

/* Octets of frames come from imports and backups too. */
static void test_damaged_frames(void **state)
{
	struct tools *t = *state;
	const struct slice stored[] = {SLICE_LIT(by_dictionary), SLICE_LIT(by_itself)};

	for (size_t i = 0; i < ARRAY_LEN(stored); i++) {
		for (size_t at = 0; at < stored[i].len; at++) {
			/* Each in memory of its own, so that a read behind it shows. */
			char *copy = xmalloc(stored[i].len), *again = xmalloc(MAIL.len);
			size_t len;

			memcpy(copy, stored[i].p, stored[i].len);
			assert_int_equal(
				frame_open(t->opener, slice_of(copy, at), again, MAIL.len), ERR_CORRUPT);
			for (unsigned bit = 0; bit < 8; bit++) {
				copy[at] = (char)(stored[i].p[at] ^ 1 << bit);
				(void)!frame_open(t->opener, slice_of(copy, stored[i].len), again, MAIL.len);
				(void)!frame_length(slice_of(copy, stored[i].len), &len);
			}
			free(copy);
			free(again);
		}
	}
}

/* The number behind the magic and the descriptor: 2 octets of this one. */
static void test_another_dictionary(void **state)
{
	struct tools *t = *state;
	char copy[sizeof(by_dictionary) - 1], again[sizeof(mail)];

	memcpy(copy, by_dictionary, sizeof(copy));
	assert_int_equal(bytes_get_u16(copy + 5), 40001);
	bytes_put_u16(copy + 5, 40002);
	assert_int_equal(frame_open(t->opener, slice_of(copy, sizeof(copy)), again, MAIL.len), ERR_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_stored_frames_are_read_for_ever),
		cmocka_unit_test(test_small_mail_is_small),
		cmocka_unit_test(test_damaged_frames),
		cmocka_unit_test(test_another_dictionary),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
