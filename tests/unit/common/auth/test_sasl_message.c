/* Whose secret a first message speaks of: tables of messages and names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/auth/sasl_message.h"

#define NAME_MOST 16

struct row {
	const char *message;
	int want;
	const char *name;
};

static void check(const struct row *rows, size_t count, int (*read)(struct slice message, struct buf *name))
{
	for (size_t i = 0; i < count; i++) {
		struct buf name = {.limit = NAME_MOST};
		int got = read(slice_str(rows[i].message), &name);

		if (got != rows[i].want)
			fail_msg("%s: got %d, want %d", rows[i].message, got, rows[i].want);
		if (!got)
			assert_string_equal(buf_str_view(&name), rows[i].name);
		buf_deinit(&name);
	}
}

#define HEX "0123456789abcdef0123456789abcdef"

static void test_cram(void **state)
{
	static const struct row rows[] = {
		{"tim " HEX, 0, "tim"},
		{"tim tam " HEX, 0, "tim tam"},
		{"tim", ERR_SYNTAX, NULL},
		{" " HEX, ERR_SYNTAX, NULL},
		{"tim " HEX "0", ERR_SYNTAX, NULL},
		{"tim ", ERR_SYNTAX, NULL},
		{"", ERR_SYNTAX, NULL},
		{"abcdefghijklmnopq " HEX, ERR_TOO_BIG, NULL},
	};

	(void)state;
	check(rows, ARRAY_LEN(rows), sasl_message_cram);
}

static int digest(struct slice message, struct buf *name)
{
	return sasl_message_digest(message, SLICE_LIT("a.b"), name);
}

static void test_digest(void **state)
{
	static const struct row rows[] = {
		{"username=\"chris\",realm=\"a.b\"", 0, "chris"},
		{"realm=\"a.b\" , username = \"chris\"", 0, "chris"},
		{"username=\"chris\"", 0, "chris"},
		{"username=chris,nc=00000001", 0, "chris"},
		{"username=\"chris\",realm=\"c.d\"", 0, "chris@c.d"},
		{"username=\"chris@e.f\",realm=\"c.d\"", 0, "chris@e.f"},
		{"username=\"ch\\\"r,=\\\\is\",realm=\"\"", 0, "ch\"r,=\\is"},
		{"USERNAME=\"x\",other=\"username=y\",unknown=z", 0, "x"},
		{"username=\"a\",username=\"b\"", ERR_SYNTAX, NULL},
		{"username=\"a\",realm=x,Realm=y", ERR_SYNTAX, NULL},
		/* what other readers end the name at */
		{"username\xae=\"a\",username=\"b\"", ERR_SYNTAX, NULL},
		{"username(=\"a\",username=\"b\"", ERR_SYNTAX, NULL},
		{"user\x7fname=\"a\",username=\"b\"", ERR_SYNTAX, NULL},
		{"a\"b=c,username=\"b\"", ERR_SYNTAX, NULL},
		{"username=\"a", ERR_SYNTAX, NULL},
		{"username=\"a\\", ERR_SYNTAX, NULL},
		{"username=\"\"", ERR_SYNTAX, NULL},
		{"username", ERR_SYNTAX, NULL},
		{"=x", ERR_SYNTAX, NULL},
		{"realm=\"a.b\"", ERR_SYNTAX, NULL},
		{"", ERR_SYNTAX, NULL},
		{"username=\"abcdefghijklmnopq\"", ERR_TOO_BIG, NULL},
		{"username=\"abcdefghijklm\",realm=\"c.de\"", ERR_TOO_BIG, NULL},
		{"a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=1,k=2,l=3,m=4,n=5,o=6,p=7,q=8,r=9,s=1,t=2,u=3,v=4,w="
		 "5,"
		 "x=6,y=7,z=8,aa=1,bb=2,cc=3,dd=4,ee=5,ff=6,username=x",
			ERR_SYNTAX, NULL},
	};

	(void)state;
	check(rows, ARRAY_LEN(rows), digest);
}

static int scram(struct slice message, struct buf *name)
{
	struct sasl_message_scram out;

	return sasl_message_scram(message, &out, name);
}

static void test_scram(void **state)
{
	static const struct row rows[] = {
		{"n,,n=user,r=abc", 0, "user"},
		{"y,a=other,n=user,r=abc,x=1", 0, "user"},
		{"p=tls-unique,,n=u=2Cs=3Der,r=abc", 0, "u,s=er"},
		{"n,,n=,r=abc", ERR_SYNTAX, NULL},
		{"n,,n=u=2cser,r=abc", ERR_SYNTAX, NULL},
		{"n,,n=user=,r=abc", ERR_SYNTAX, NULL},
		{"n,,m=x,n=user,r=abc", ERR_SYNTAX, NULL},
		{"n,b=x,n=user,r=abc", ERR_SYNTAX, NULL},
		{"n,,n=user,r=", ERR_SYNTAX, NULL},
		{"n,,n=user", ERR_SYNTAX, NULL},
		{"p=,,n=user,r=abc", ERR_SYNTAX, NULL},
		{"p,,n=user,r=abc", ERR_SYNTAX, NULL},
		{"x,,n=user,r=abc", ERR_SYNTAX, NULL},
		{"n", ERR_SYNTAX, NULL},
		{"", ERR_SYNTAX, NULL},
		{"n,,n=abcdefghijklmnopq,r=abc", ERR_TOO_BIG, NULL},
	};
	struct sasl_message_scram out;
	struct buf name = {.limit = NAME_MOST};

	(void)state;
	check(rows, ARRAY_LEN(rows), scram);
	assert_int_equal(sasl_message_scram(SLICE_LIT("p=tls-exporter,,n=u,r=x"), &out, &name), 0);
	assert_int_equal(out.flag, 'p');
	assert_true(slice_is_str(out.binding, "tls-exporter"));
	for (size_t i = 0; i < 4; i++) {
		char message[2 * SASL_MESSAGE_PART_MOST], part[2 * SASL_MESSAGE_PART_MOST];
		bool is_nonce = i % 2;

		memset(part, 'x', sizeof(part));
		snprintf(message, sizeof(message), is_nonce ? "n,,n=u,r=%.*s" : "n,a=%.*s,n=u,r=x",
			(int)(SASL_MESSAGE_PART_MOST - 2 + i / 2), part);
		buf_clear(&name);
		assert_int_equal(
			sasl_message_scram(slice_str(message), &out, &name), i < 2 ? 0 : ERR_TOO_BIG);
	}
	buf_deinit(&name);
}

static void test_a_nul_is_no_message(void **state)
{
	struct sasl_message_scram out;
	struct buf name = {.limit = NAME_MOST};

	(void)state;
	assert_int_equal(sasl_message_scram(SLICE_LIT("n,,n=u\0v,r=x"), &out, &name), ERR_SYNTAX);
	assert_int_equal(sasl_message_cram(SLICE_LIT("t\0m " HEX), &name), ERR_SYNTAX);
	assert_int_equal(digest(SLICE_LIT("username=\"t\0m\""), &name), ERR_SYNTAX);
	buf_deinit(&name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cram),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_scram),
		cmocka_unit_test(test_a_nul_is_no_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
