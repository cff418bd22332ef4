/* SCRAM's keys: the RFCs' examples, both forms, caps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/auth/scram_keys.h"

/* "pencil" with salt and iterations of RFC 5802 section 5 and RFC 7677 section 3; made by Python's hashlib and hmac. */
#define ONE "QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE="
#define TWO                                                                                                  \
	"W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                             \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static void test_the_rfcs_examples(void **state)
{
	static const struct {
		enum digest_kind kind;
		const char *text;
	} rows[] = {{DIGEST_SHA1, "4096:" ONE}, {DIGEST_SHA256, "4096:" TWO}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram_keys k, made;
		struct buf out = {0};

		assert_int_equal(scram_keys_parse(rows[i].kind, slice_str(rows[i].text), &k), 0);
		assert_int_equal(k.rounds, 4096);
		made = k;
		memset(made.stored, 0, sizeof(made.stored));
		memset(made.server, 0, sizeof(made.server));
		scram_keys_derive(SLICE_LIT("pencil"), &made);
		assert_memory_equal(made.stored, k.stored, digest_len(rows[i].kind));
		assert_memory_equal(made.server, k.server, digest_len(rows[i].kind));
		scram_keys_write(&made, &out);
		assert_string_equal(buf_str_view(&out), rows[i].text);
		buf_deinit(&out);
	}
}

static void test_commas_are_dovecots(void **state)
{
	struct scram_keys a, b;

	(void)state;
	assert_int_equal(scram_keys_parse(DIGEST_SHA1, slice_str("4096:" ONE), &a), 0);
	assert_int_equal(scram_keys_parse(DIGEST_SHA1,
				 slice_str("4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,"
					   "D+CSWLOshSulAsxiupA+qs2/fTE="),
				 &b),
		0);
	assert_memory_equal(a.salt, b.salt, a.salt_len);
	assert_memory_equal(a.stored, b.stored, DIGEST_SHA1_LEN);
	assert_memory_equal(a.server, b.server, DIGEST_SHA1_LEN);
}

static void test_bad_texts(void **state)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{"1000000:" ONE, 0},
		{"1000001:" ONE, ERR_TOO_BIG},
		{"0:" ONE, ERR_SYNTAX},
		{"-1:" ONE, ERR_SYNTAX},
		{"99999999999:" ONE, ERR_SYNTAX},
		{":" ONE, ERR_SYNTAX},
		{"4096:" TWO, ERR_SYNTAX}, /* of the other digest */
		{"4096:$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=", ERR_SYNTAX},
		{"4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=", ERR_SYNTAX},
		{"4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:", ERR_SYNTAX},
		{"4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:!", ERR_SYNTAX},
		{"4096", ERR_SYNTAX},
		{"", ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram_keys k;
		int got = scram_keys_parse(DIGEST_SHA1, slice_str(rows[i].text), &k);

		if (got != rows[i].want)
			fail_msg("%s: got %d", rows[i].text, got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_rfcs_examples),
		cmocka_unit_test(test_commas_are_dovecots),
		cmocka_unit_test(test_bad_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
