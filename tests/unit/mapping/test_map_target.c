/* Lists of targets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "mapping/map_target.h"

static bool is_known(const void *arg, struct slice name)
{
	return arg && slice_has_prefix(name, "b") && name.len == 2;
}

static const char *read_list(const char *text, bool ports)
{
	static char out[500];
	struct map_targets list = {0};
	struct usermap_answer a = {0};
	struct slice bad;
	int error = map_targets_parse(slice_str(text), is_known, "", ports, &list, &bad);
	size_t n = 0;

	out[0] = 0;
	if (error) {
		snprintf(out, sizeof(out), "%s %.*s",
			error == ERR_SYNTAX    ? "syntax"
			: error == ERR_DENIED  ? "port"
			: error == ERR_EXISTS  ? "twice"
			: error == ERR_TOO_BIG ? "many"
					       : "?",
			SLICE_ARG(bad));
		return out;
	}
	map_targets_fill(&a, &list);
	for (unsigned i = 0; i < a.target_count; i++)
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%s:%u ",
			a.targets[i].kind == USERMAP_HOST ? "@" : "", a.targets[i].name, a.targets[i].port);
	return out;
}

static void test_lists(void **state)
{
	static const struct {
		const char *text;
		bool ports;
		const char *want;
	} rows[] = {
		{"b1", false, "b1:0 "},
		{"b2,b1", false, "b2:0 b1:0 "},
		{" b2 ,\tb1, ", false, "b2:0 b1:0 "},
		{"b2 b1", false, "b2:0 b1:0 "},
		{"b1,MX.example.org:25 [2001:DB8::1]:143", true, "b1:0 @mx.example.org:25 @2001:db8::1:143 "},
		{"10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4", false,
			"@10.0.0.1:0 @10.0.0.2:0 @10.0.0.3:0 @10.0.0.4:0 "},
		{"b1,b2,b3,b4,b5", false, "many b5"},
		{"b1,b2,b1", false, "twice b1"},
		{"mx.example.org b1 MX.example.org", false, "twice MX.example.org"},
		{"b1,nonsense,b2", false, "syntax nonsense"},
		{"b1,10.0.0.1:143", false, "port 10.0.0.1:143"},
		{"", false, "syntax "},
		{" , ", false, "syntax  , "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(read_list(rows[i].text, rows[i].ports), rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
