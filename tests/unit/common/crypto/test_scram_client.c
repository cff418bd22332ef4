/* SCRAM-SHA-256 as a client: the example of RFC 7677 section 3, and servers that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/crypto/scram_client.h"

#define NONCE "rOprNGfwEbeRWgbNEkqO"
#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define FIRST "r=" NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=" SALT ",i=4096"

static void test_the_example(void **state)
{
	struct scram_client c;
	struct buf out = {0};

	(void)state;
	scram_client_begin(&c, SLICE_LIT("user"), NONCE, &out);
	assert_string_equal(buf_str_view(&out), "n,,n=user,r=" NONCE);
	assert_int_equal(scram_client_challenge(&c, SLICE_LIT(FIRST)), 0);
	scram_client_prove(&c, SLICE_LIT("pencil"));
	buf_clear(&out);
	scram_client_final(&c, &out);
	assert_string_equal(buf_str_view(&out),
		"c=biws,r=" NONCE
		"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	assert_true(scram_client_is_proven(&c, SLICE_LIT("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
	assert_false(scram_client_is_proven(&c, SLICE_LIT("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=")));
	assert_false(scram_client_is_proven(&c, SLICE_LIT("v=")));
	assert_false(scram_client_is_proven(&c, SLICE_LIT("e=invalid-proof")));
	assert_false(scram_client_is_proven(&c, SLICE_LIT("")));
	scram_client_end(&c);
	buf_deinit(&out);
}

static void test_hostile_challenges(void **state)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{FIRST, 0},
		{FIRST ",x=later", 0},
		{"r=" NONCE "x,s=" SALT ",i=600000", 0},
		{"r=" NONCE "x,s=" SALT ",i=600001", ERR_TOO_BIG},
		{"r=" NONCE "x,s=" SALT ",i=4294967297", ERR_SYNTAX},
		{"r=" NONCE "x,s=" SALT ",i=4095", ERR_SYNTAX}, /* would be guessed from what is overheard */
		{"r=" NONCE "x,s=" SALT ",i=", ERR_SYNTAX},
		{"r=" NONCE "x,s=" SALT, ERR_SYNTAX},
		{"r=" NONCE "x,s=,i=4096", ERR_SYNTAX},
		{"r=" NONCE "x,s=!,i=4096", ERR_SYNTAX},
		{"r=" NONCE ",s=" SALT ",i=4096", ERR_SYNTAX}, /* nothing of the server's own */
		{"r=another,s=" SALT ",i=4096", ERR_SYNTAX},
		{"r=" NONCE "\n,s=" SALT ",i=4096", ERR_SYNTAX},
		{"m=what,r=" NONCE "x,s=" SALT ",i=4096", ERR_UNSUPPORTED},
		{"s=" SALT ",r=" NONCE "x,i=4096", ERR_SYNTAX},
		{"e=other-error", ERR_SYNTAX},
		{"", ERR_SYNTAX},
	};
	struct scram_client c;
	struct buf out = {0};

	(void)state;
	scram_client_begin(&c, SLICE_LIT("a,b=c"), NONCE, &out);
	assert_string_equal(buf_str_view(&out), "n,,n=a=2Cb=3Dc,r=" NONCE);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(scram_client_challenge(&c, slice_str(rows[i].text)), rows[i].want);
	for (size_t i = 0; i < SCRAM_CLIENT_TEXT_MOST; i++)
		buf_add_char(&out, 'r');
	assert_int_equal(scram_client_challenge(&c, buf_view(&out)), ERR_TOO_BIG);
	scram_client_end(&c);
	/* A nonce of its own, each time. */
	buf_clear(&out);
	scram_client_begin(&c, SLICE_LIT("u"), NULL, &out);
	assert_int_equal(strlen(c.nonce), SCRAM_CLIENT_NONCE_LEN);
	scram_client_end(&c);
	buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_example), cmocka_unit_test(test_hostile_challenges)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
