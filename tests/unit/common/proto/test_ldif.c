/* LDIF: the examples of RFC 2849, what directories write, and what is wrong with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/ldif.h"

static void show(struct slice text, struct buf *out)
{
	struct ldif_entry e;
	struct arena arena;
	struct ldif l;
	int err;

	arena_init(&arena, 0);
	ldif_begin(&l, text);
	while ((err = ldif_next(&l, &arena, &e)) != ERR_NOT_FOUND) {
		buf_printf(out, "%u:", e.line);
		if (err)
			buf_printf(out, "!%u %s", e.bad_line, e.why);
		else
			buf_printf(out, "%.*s", SLICE_ARG(e.dn));
		for (size_t i = 0; !err && i < e.count; i++)
			buf_printf(out, "|%u %.*s=%.*s", e.attributes[i].line,
				SLICE_ARG(e.attributes[i].name), SLICE_ARG(e.attributes[i].value));
		buf_add_char(out, '\n');
	}
	arena_deinit(&arena);
}

static void test_entries(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"", ""},
		{"version: 1\n# a comment\n that goes on\n\n", ""},
		{"version: 1\ndn: cn=Barbara Jensen, ou=Product Development, dc=airius, dc=com\nobjectclass: "
		 "top\ncn: Barbara "
		 "Jensen\ncn: Babs\n\ndn: cn=Bjorn\nsn: J\n",
			"2:cn=Barbara Jensen, ou=Product Development, dc=airius, dc=com|3 objectclass=top|4 "
			"cn=Barbara Jensen|5 "
			"cn=Babs\n7:cn=Bjorn|8 sn=J\n"},
		{"dn:cn=B, ou=Product Deve\r\n lopment\r\ncn: a\r\n b\r\n  c\r\n\r\n",
			"1:cn=B, ou=Product Development|3 cn=ab c\n"},
		{"dn:: Y249w6k=\nuserPassword:: e1BMQUlOfXg=\n", "1:cn=\xc3\xa9|2 userPassword={PLAIN}x\n"},
		{"dn: a\ncn;lang-de:  x\n# c\nempty:\n", "1:a|2 cn=x|4 empty=\n"},
		{"\n\ndn: a\nchangetype: add\ncontrol: 1.2 true\ncn: b", "3:a|6 cn=b\n"},
		{"dn: a\nchangetype: delete\ncn: b\n\ndn: c\n",
			"1:!2 a change is not an entry; only \"add\" is taken\n5:c\n"},
		{"dn: a\njpegPhoto:< file:///etc/passwd\ncn: x\n\ndn: c\n",
			"1:!2 values by URL are not fetched\n5:c\n"},
		{"dn: a\ncn:: ***\n\ndn: c\n", "1:!2 a value is no base64\n4:c\n"},
		{"cn: a\nsn: b\n\ndn: c\n", "1:!1 an entry begins with \"dn:\"\n4:c\n"},
		{"no colon\n\ndn: c\n", "1:!1 a line is no \"name: value\"\n3:c\n"},
		{" folded first\n\ndn: c\n", "1:!1 a line is no \"name: value\"\n3:c\n"},
		{"dn: a\n;x: d\n\ndn: c\n", "1:!2 a line is no \"name: value\"\n4:c\n"},
		{"dn: a\nb c: d\n\ndn: c\n", "1:!2 a line is no \"name: value\"\n4:c\n"},
		{"dn: a\ncn: x\n \n \ny: z\n", "1:a|2 cn=x|5 y=z\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf got = {0};

		show(slice_str(rows[i].text), &got);
		assert_string_equal(buf_str_view(&got), rows[i].want);
		buf_deinit(&got);
	}
}

static void test_limits(void **state)
{
	struct buf text = {0}, got = {0};

	(void)state;
	buf_add_str(&text, "dn: many\n");
	for (int i = 0; i < LDIF_ATTRIBUTES_MAX + 1; i++)
		buf_add_str(&text, "a: b\n");
	buf_add_str(&text, "\ndn: long\ncn: x\n");
	for (int i = 0; i < 2 * LDIF_VALUE_MAX / 64 + 1; i++) {
		buf_add_char(&text, ' ');
		for (int k = 0; k < 64; k++)
			buf_add_char(&text, 'x');
		buf_add_char(&text, '\n');
	}
	buf_add_str(&text, "\ndn: last\n");
	show(buf_view(&text), &got);
	assert_non_null(strstr(buf_str_view(&got), "1:!1002 an entry has too many values\n"));
	assert_non_null(strstr(buf_str_view(&got), "1004:!1005 a line is too long\n"));
	assert_non_null(strstr(buf_str_view(&got), ":last\n"));
	buf_deinit(&text);
	buf_deinit(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
