/* The Sender Rewriting Scheme: there and back, over two servers, forged, old, in other cases, too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backend/delivery/srs.h"

#define DAY INT64_C(86400)
#define NOW (INT64_C(20000) * DAY)

static const struct slice keys[] = {{"the first key of this test", 26}, {"the old key of this test", 24}};

static char *split(char *address)
{
	char *at = strrchr(address, '@');

	assert_non_null(at);
	*at = '\0';
	return at + 1;
}

static int forward(struct srs *s, const char *sender, struct buf *out)
{
	char text[400], *domain;

	snprintf(text, sizeof(text), "%s", sender);
	domain = split(text);
	buf_clear(out);
	return srs_forward(s, slice_str(text), slice_str(domain), NOW, out);
}

static int reverse(struct srs *s, const char *address, int64_t now, struct buf *out)
{
	char text[400], *domain;

	snprintf(text, sizeof(text), "%s", address);
	domain = split(text);
	buf_clear(out);
	return srs_reverse(s, slice_str(text), slice_str(domain), now, out);
}

static void test_there_and_back(void **state)
{
	static const char *const senders[] = {"alice@example.org", "Alice.B@example.org", "a=b=c@example.org",
		"a+b-c@x.example", "\xc3\xbc@example.org"};
	struct srs *s = srs_new(SLICE_LIT("Fwd.Example"), keys, 2, 21);
	struct buf out = {0}, back = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(senders) / sizeof(*senders); i++) {
		assert_int_equal(forward(s, senders[i], &out), 0);
		assert_true(slice_has_prefix(buf_view(&out), "SRS0="));
		assert_non_null(strstr(buf_str_view(&out), "@fwd.example"));
		assert_int_equal(reverse(s, buf_str_view(&out), NOW, &back), 0);
		assert_string_equal(buf_str_view(&back), senders[i]);
	}
	assert_int_equal(forward(s, "alice@fwd.example", &out), ERR_DENIED);
	buf_deinit(&out);
	buf_deinit(&back);
	srs_free(&s);
}

static void test_over_two_and_three_servers(void **state)
{
	struct srs *one = srs_new(SLICE_LIT("one.example"), keys, 1, 21),
		   *two = srs_new(SLICE_LIT("two.example"), keys + 1, 1, 21),
		   *three = srs_new(SLICE_LIT("three.example"), keys, 1, 21);
	struct buf a = {0}, b = {0}, c = {0}, back = {0};

	(void)state;
	assert_int_equal(forward(one, "alice@example.org", &a), 0);
	assert_int_equal(forward(two, buf_str_view(&a), &b), 0);
	assert_true(slice_has_prefix(buf_view(&b), "SRS1="));
	assert_int_equal(forward(three, buf_str_view(&b), &c), 0);
	assert_int_equal(buf_len(&c), buf_len(&b) + 2); /* the domain's name alone is longer */
	/* A bounce goes to the first at once, and from there to its sender. */
	assert_int_equal(reverse(three, buf_str_view(&c), NOW, &back), 0);
	assert_string_equal(buf_str_view(&back), buf_str_view(&a));
	assert_int_equal(reverse(two, buf_str_view(&b), NOW, &back), 0);
	assert_string_equal(buf_str_view(&back), buf_str_view(&a));
	assert_int_equal(reverse(one, buf_str_view(&a), NOW, &back), 0);
	assert_string_equal(buf_str_view(&back), "alice@example.org");
	buf_deinit(&a);
	buf_deinit(&b);
	buf_deinit(&c);
	buf_deinit(&back);
	srs_free(&one);
	srs_free(&two);
	srs_free(&three);
}

static void test_old_keys_are_believed(void **state)
{
	struct srs *before = srs_new(SLICE_LIT("f.example"), keys + 1, 1, 21),
		   *now = srs_new(SLICE_LIT("f.example"), keys, 2, 21),
		   *after = srs_new(SLICE_LIT("f.example"), keys, 1, 21);
	struct buf out = {0}, back = {0};

	(void)state;
	assert_int_equal(forward(before, "a@b.example", &out), 0);
	assert_int_equal(reverse(now, buf_str_view(&out), NOW, &back), 0);
	assert_int_equal(reverse(after, buf_str_view(&out), NOW, &back), ERR_DENIED);
	buf_deinit(&out);
	buf_deinit(&back);
	srs_free(&before);
	srs_free(&now);
	srs_free(&after);
}

static void test_security_18_a_forged_address_is_none(void **state)
{
	struct srs *s = srs_new(SLICE_LIT("f.example"), keys, 1, 21);
	struct buf out = {0}, back = {0};
	char *text;

	(void)state;
	assert_int_equal(forward(s, "alice@example.org", &out), 0);
	text = slice_copy_str(buf_view(&out));
	/* Every octet before the @ counts, in lower case. */
	for (size_t i = 0; text[i] != '@'; i++) {
		char c = text[i];
		int err;

		text[i] = c == 'x' ? 'y' : 'x';
		err = reverse(s, text, NOW, &back);
		assert_true(err == ERR_DENIED || (i < 5 && err == ERR_NOT_FOUND));
		text[i] = c;
	}
	for (size_t i = 0; text[i] != '@'; i++)
		text[i] = ascii_upper(text[i]);
	assert_int_equal(reverse(s, text, NOW, &back), 0);
	assert_string_equal(buf_str_view(&back), "ALICE@EXAMPLE.ORG");
	assert_int_equal(reverse(s, "SRS0=@f.example", NOW, &back), ERR_DENIED);
	assert_int_equal(reverse(s, "SRS1=abcdefgh=x@f.example", NOW, &back), ERR_DENIED);
	assert_int_equal(reverse(s, "srs0user@f.example", NOW, &back), ERR_NOT_FOUND);
	assert_int_equal(reverse(s, "SRS0=abcdefgh=aa=b=c@other.example", NOW, &back), ERR_NOT_FOUND);
	free(text);
	buf_deinit(&out);
	buf_deinit(&back);
	srs_free(&s);
}

static void test_it_ends_with_time(void **state)
{
	struct srs *s = srs_new(SLICE_LIT("f.example"), keys, 1, 21);
	struct buf out = {0}, back = {0};

	(void)state;
	assert_int_equal(forward(s, "alice@example.org", &out), 0);
	assert_int_equal(reverse(s, buf_str_view(&out), NOW + 21 * DAY, &back), 0);
	assert_int_equal(reverse(s, buf_str_view(&out), NOW + 22 * DAY, &back), ERR_TIMEOUT);
	assert_int_equal(reverse(s, buf_str_view(&out), NOW + 1000 * DAY, &back), ERR_TIMEOUT);
	assert_int_equal(reverse(s, buf_str_view(&out), NOW - DAY, &back), 0);
	buf_deinit(&out);
	buf_deinit(&back);
	srs_free(&s);
}

static void test_what_is_too_long(void **state)
{
	struct srs *s = srs_new(SLICE_LIT("f.example"), keys, 1, 21);
	struct buf out = {0};
	char sender[300];

	(void)state;
	memset(sender, 'x', sizeof(sender));
	strcpy(sender + 230, "@example.org");
	assert_int_equal(forward(s, sender, &out), ERR_TOO_BIG);
	assert_int_equal(buf_len(&out), 0);
	buf_deinit(&out);
	srs_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_over_two_and_three_servers),
		cmocka_unit_test(test_old_keys_are_believed),
		cmocka_unit_test(test_security_18_a_forged_address_is_none),
		cmocka_unit_test(test_it_ends_with_time),
		cmocka_unit_test(test_what_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
