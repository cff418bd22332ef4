/* LIST patterns: a table, and against a plain recursive matcher over all short patterns and names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/session/imap_match.h"
#include "common/base/attr.h"

static void test_patterns_match_names(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool want;
	} rows[] = {
		{"*", "a/b", true},
		{"%", "a/b", false},
		{"%", "a", true},
		{"%/%", "a/b", true},
		{"a*", "a/b/c", true},
		{"*c", "a/b/c", true},
		{"%c", "a/b/c", false},
		{"a%c", "abc", true},
		{"a%c", "a/c", false},
		{"*/%/c", "x/y/z/c", true},
		{"inbox", "INBOX", true},
		{"InBox/x", "INBOX/x", true},
		{"inbox/X", "INBOX/x", false},
		{"inboxes", "INBOXes", false},
		{"A", "a", false},
		{"", "a", false},
		{"**", "", true},
		{"%%a", "ba", true},
		{"*%a", "x/ba", true},
		{"%*a", "x/ba", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
			imap_match(slice_str(rows[i].pattern), slice_str(rows[i].name)), rows[i].want);
}

static bool plain_match(const char *p, const char *n)
{
	if (!*p)
		return !*n;
	if (*p == '*' || *p == '%') {
		if (plain_match(p + 1, n))
			return true;
		return *n && (*p == '*' || *n != '/') && plain_match(p, n + 1);
	}
	return *p == *n && plain_match(p + 1, n + 1);
}

/* The i-th text over the letters. */
static const char *text_of(unsigned i, const char *letters, unsigned count, char *out)
{
	size_t n = 0;

	for (; i; i = (i - 1) / count)
		out[n++] = letters[(i - 1) % count];
	out[n] = '\0';
	return out;
}

static void test_all_short_ones_match_as_a_plain_matcher_says(void **state)
{
	char pattern[20], name[20];

	(void)state;
	for (unsigned p = 0; p < 3906; p++) {
		text_of(p, "a/*%b", 5, pattern);
		for (unsigned n = 0; n < 364; n++) {
			text_of(n, "a/b", 3, name);
			if (imap_match(slice_str(pattern), slice_str(name)) != plain_match(pattern, name))
				fail_msg("%s against %s", pattern, name);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patterns_match_names),
		cmocka_unit_test(test_all_short_ones_match_as_a_plain_matcher_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
