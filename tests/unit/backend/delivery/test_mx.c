/* The order of hosts. */
#include "backend/delivery/mx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"

static void test_order(void **state)
{
	static const struct {
		struct mx_entry in[4];
		size_t count;
		const char *own;
		const char *want[4];
		bool is_own;
	} rows[] = {
		{{{"b", 20}, {"a", 10}, {"c", 30}}, 3, "", {"a", "b", "c"}, false},
		{{{"b", 20}, {"a", 10}, {"c", 30}}, 3, "B", {"a"}, true},
		{{{"b", 20}, {"a", 10}, {"c", 20}}, 3, "c", {"a"}, true},
		{{{"b", 20}, {"a", 10}}, 2, "a", {NULL}, true},
		{{{"a", 20}, {"A", 10}, {"b", 30}}, 3, "", {"A", "b"}, false},
		{{{NULL, 0}}, 0, "a", {NULL}, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mx_entry entries[4];
		bool is_own;
		size_t count, want = 0;

		memcpy(entries, rows[i].in, sizeof(entries));
		count = mx_order(entries, rows[i].count, rows[i].own, i, &is_own);
		while (want < 4 && rows[i].want[want])
			want++;
		assert_int_equal(count, want);
		assert_int_equal(is_own, rows[i].is_own);
		for (size_t n = 0; n < count; n++)
			assert_string_equal(entries[n].name, rows[i].want[n]);
	}
}

/* Equals take turns, and none of another preference comes between them. */
static void test_equals_are_shuffled(void **state)
{
	unsigned first[3] = {0};

	(void)state;
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct mx_entry entries[] = {{"x", 10}, {"y", 10}, {"z", 10}, {"last", 20}};
		bool is_own;

		assert_int_equal(mx_order(entries, 4, "", seed * 0x9e3779b97f4a7c15u, &is_own), 4);
		assert_string_equal(entries[3].name, "last");
		first[entries[0].name[0] - 'x']++;
	}
	for (size_t i = 0; i < 3; i++)
		assert_in_range(first[i], 60, 140);
}

static void test_security_22_many_hosts(void **state)
{
	struct mx_entry entries[100];
	char names[100][8];
	bool is_own;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		names[i][0] = 'h';
		names[i][1] = (char)('0' + i / 10);
		names[i][2] = (char)('0' + i % 10);
		names[i][3] = '\0';
		entries[i] = (struct mx_entry){names[i], (uint16_t)(100 - i)};
	}
	assert_int_equal(mx_order(entries, 100, "", 1, &is_own), MX_HOSTS_MOST);
	assert_string_equal(entries[0].name, "h99");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_order),
		cmocka_unit_test(test_equals_are_shuffled), cmocka_unit_test(test_security_22_many_hosts)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
