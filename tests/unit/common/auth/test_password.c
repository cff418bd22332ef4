/* Stored passwords: texts made by others (Python, OpenLDAP's format, the argon2 reference), caps, refusals.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/auth/password.h"
#include "common/base/clock.h"

#define WORD "s3cret-Pa\xc3\x9f"

static int verify(const char *stored, const char *password)
{
	return password_verify(slice_str(stored), slice_str(password));
}

/* Made by Python's crypt, hashlib and base64, and by argon2's reference implementation. */
static const struct {
	const char *scheme, *stored, *password;
} known[] = {
	{"CRYPT",
		"$6$saltsalt$VHS2hBoVokAdO.uH897127ZiEc.El3O1SSYrA9ApIUz2eQF6luicpyOmapbypfKLKSGl1eQBHV1I."
		"H6tLgOd81",
		WORD},
	{"CRYPT",
		"{CRYPT}$6$rounds=5000$saltsalt$VHS2hBoVokAdO.uH897127ZiEc."
		"El3O1SSYrA9ApIUz2eQF6luicpyOmapbypfKLKSGl1eQB"
		"HV1I.H6tLgOd81",
		WORD},
	{"SHA512-CRYPT",
		"{SHA512-CRYPT}$6$saltsalt$VHS2hBoVokAdO.uH897127ZiEc."
		"El3O1SSYrA9ApIUz2eQF6luicpyOmapbypfKLKSGl1eQ"
		"BHV1I.H6tLgOd81",
		WORD},
	{"CRYPT", "$5$saltsalt$WKl5m1cL89VBFumVUprokhEZn6gFycuv.D61HxD7TJ3", WORD},
	{"CRYPT", "$1$saltsalt$c6rLXduyum9P4vjWWhPsA.", WORD},
	{"CRYPT", "{crypt}$2b$05$abcdefghijklmnopqrstuuneYuyOVn0.T33QkX9pWmc5qscBL3AmO", WORD},
	{"CRYPT", "$7$8U..../....saltsalt$pX4Qq7C.eGglEbsP.fbJ8py49rnPKOxjd5ynYJVbHr/", WORD},
	{"SSHA", "{SSHA}TtBQYStSsSXDudnbKWGpwjBUNfBzYWx0c2FsdA==", WORD},
	{"SSHA256", "{SSHA256}8U8wnuf12FDkvRr+jj7OzmJ4Ppw0kFiROf6Rmy2/PqBzYWx0c2FsdA==", WORD},
	{"SSHA512",
		"{ssha512}uyQSovceXhIscVYPexTvGIMZ82fOJ3CXwAiBSTk22U/qyn0s+3RGKOTc28XqkR+I85ZBN/"
		"Eal3wOBuPPcy7xPHNhbHRz"
		"YWx0",
		WORD},
	{"SHA", "{SHA}l5p99c9WaGTBMkRBdH3RYVEGoSU=", WORD},
	{"SHA256", "{SHA256}xOfzmC4vdCQRS22fzQB7XEXn9+C9Rg18eTH+zAW1+SE=", WORD},
	{"SHA512",
		"{SHA512}azOasOJY6vtJBgdJBAGX5XtWSOzPw0OtC9JGIodi9NBVsLFSYSLxMe6Sh7F9rv4OGqf2B3nDA5ngknFa/"
		"aFl8g==",
		WORD},
	{"PBKDF2-SHA256",
		"{PBKDF2-SHA256}1000$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs", WORD},
	{"PBKDF2-SHA256",
		"{PBKDF2-SHA256}1000$++9zYWx0c2FsdHNhbHQ=$WwwLcAiNwiOPXp/QwDflQJOs+bhTurNvR43BkYccSLs=",
		WORD},
	{"PBKDF2-SHA1", "{PBKDF2-SHA1}1000$..9zYWx0c2FsdHNhbHQ$./Je0Bq68fiNderDAlyF1sUEKuk", WORD},
	{"PBKDF2", "{PBKDF2}1000$..9zYWx0c2FsdHNhbHQ$./Je0Bq68fiNderDAlyF1sUEKuk", WORD},
	{"PBKDF2-SHA512",
		"{PBKDF2-SHA512}1000$..9zYWx0c2FsdHNhbHQ$"
		"URERTvfzczzqgNfAut99j1lZsYxeEkNUoiFXPMUKCPNXZN5feJATfayC"
		".3kscNIiyAMFXWA1IZiKU6.6O6qROA",
		WORD},
	{"ARGON2ID", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"password"},
	{"ARGON2ID",
		"{ARGON2ID}$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/"
		"uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"password"},
	{"SCRAM-SHA-1",
		"{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/"
		"fTE=",
		"pencil"},
	{"SCRAM-SHA-256",
		"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"pencil"},
	{"SCRAM-SHA-256",
		"{scram-sha-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"pencil"},
	{"PLAIN", "{PLAIN}" WORD, WORD},
	{"PLAIN", "{plain}two words} and {more", "two words} and {more"},
};

static void test_what_others_made_is_understood(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		const char *reason;

		assert_int_equal(password_stored_check(slice_str(known[i].stored), &reason), 0);
		assert_string_equal(password_scheme(slice_str(known[i].stored)), known[i].scheme);
		if (verify(known[i].stored, known[i].password))
			fail_msg("%s does not fit", known[i].stored);
		assert_int_equal(verify(known[i].stored, "s3cret-pass"), ERR_DENIED);
		assert_int_equal(verify(known[i].stored, "password "), ERR_DENIED);
	}
}

/* What is stored says nothing about these passwords: they never fit, not even {PLAIN} beside themselves. */
static void security_06_empty_and_nul_passwords_never_fit(void **state)
{
	static const char nul[] = "pass\0word";
	char big[PASSWORD_MOST + 1];

	(void)state;
	memset(big, 'x', sizeof(big));
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		struct slice stored = slice_str(known[i].stored);

		assert_int_equal(password_verify(stored, slice_of("", 0)), ERR_DENIED);
		assert_int_equal(password_verify(stored, slice_of(NULL, 0)), ERR_DENIED);
		assert_int_equal(password_verify(stored, slice_of(nul, 9)), ERR_DENIED);
		assert_int_equal(password_verify(stored, slice_of(big, sizeof(big))), ERR_DENIED);
	}
	/* A password that goes on after the NUL is not its first part. */
	assert_int_equal(verify("{PLAIN}pass", "pass"), 0);
	assert_int_equal(password_verify(SLICE_LIT("{PLAIN}pass"), slice_of(nul, 9)), ERR_DENIED);
	assert_true(verify("{PLAIN}", "") != 0);
	assert_false(password_is_acceptable(slice_of(nul, 9)));
	assert_false(password_is_acceptable(slice_of(big, sizeof(big))));
	assert_true(password_is_acceptable(slice_of(big, PASSWORD_MOST)));
}

static void test_bad_texts_are_refused(void **state)
{
	static const struct {
		const char *stored;
		int want;
	} rows[] = {
		{"", ERR_SYNTAX},
		{"secret", ERR_UNSUPPORTED},
		{"{NOSUCH}x", ERR_UNSUPPORTED},
		{"{", ERR_UNSUPPORTED},
		{"{}", ERR_UNSUPPORTED},
		{"{PLAIN}", ERR_SYNTAX},
		{"{CRYPT}", ERR_UNSUPPORTED},
		{"{CRYPT}ab0123456789.", ERR_UNSUPPORTED},
		{"$3$$8846f7eaee8fb117ad06bdd830b7586c", ERR_UNSUPPORTED},
		{"$6$saltsalt$short", ERR_SYNTAX},
		{"$6$rounds=999999999$saltsalt$VHS2hBoVokAdO.uH897127ZiEc."
		 "El3O1SSYrA9ApIUz2eQF6luicpyOmapbypfKLKSGl1eQBHV1I.H6"
		 "tLgOd81",
			ERR_TOO_BIG},
		{"$2b$31$abcdefghijklmnopqrstuuneYuyOVn0.T33QkX9pWmc5qscBL3AmO", ERR_TOO_BIG},
		{"$2b$05$abcdefghijklmnopqrstuuneYuyOVn0.T33QkX9pWmc5qscBL3Am", ERR_SYNTAX},
		/* yescrypt of 1 GiB, and one with parallelism */
		{"$y$jFT$saltsaltsaltsaltsalt/$0123456789012345678901234567890123456789012", ERR_TOO_BIG},
		{"$y$j9T.$saltsaltsaltsaltsalt/$0123456789012345678901234567890123456789012", ERR_TOO_BIG},
		{"$y$j9T$salt", ERR_SYNTAX},
		{"$7$zU..../....saltsalt$pX4Qq7C.eGglEbsP.fbJ8py49rnPKOxjd5ynYJVbHr/", ERR_TOO_BIG},
		{"{SSHA}TtBQYStSsSXDudnbKWGpwjBUNfA=", ERR_SYNTAX}, /* no salt */
		{"{SSHA}!!!!", ERR_SYNTAX},
		{"{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=", ERR_SYNTAX},
		{"SCRAM-SHA-1$2000000:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/"
		 "fTE=",
			ERR_TOO_BIG},
		{"SCRAM-SHA-512$1:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
			ERR_UNSUPPORTED},
		{"{SHA}TtBQYStSsSXDudnbKWGpwjBUNfBzYWx0c2FsdA==", ERR_SYNTAX}, /* salt */
		{"{PBKDF2-SHA256}1000$salt", ERR_SYNTAX},
		{"{PBKDF2-SHA256}0$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs",
			ERR_SYNTAX},
		{"{PBKDF2-SHA256}-1$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs",
			ERR_SYNTAX},
		{"{PBKDF2-SHA256}4000000000$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs",
			ERR_TOO_BIG},
		{"{PBKDF2-SHA256}1000$..9zYWx0c2FsdHNhbHQ$Wwww", ERR_SYNTAX}, /* a key of 3 octets */
		{"{PBKDF2-SHA256}1000$$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs", ERR_SYNTAX},
		{"$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_TOO_BIG},
		{"$argon2id$v=19$m=262144,t=64,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_TOO_BIG},
		{"$argon2id$v=19$m=256,t=4000000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/"
		 "uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_TOO_BIG},
		{"$argon2id$v=19$m=1024,t=1,p=64$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_TOO_BIG},
		{"$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_SYNTAX},
		{"$argon2id$v=19$m=256,t=2,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_SYNTAX},
		{"$argon2id$v=7$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_UNSUPPORTED},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65", ERR_SYNTAX},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", ERR_SYNTAX},
		{"{ARGON2ID}$argon2d$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/"
		 "uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *reason = NULL;
		int got = password_stored_check(slice_str(rows[i].stored), &reason);

		if (got != rows[i].want || !reason)
			fail_msg("%s: got %d want %d", rows[i].stored, got, rows[i].want);
		/* And whoever asks such a text with a password gets an error at once, and never a yes. */
		assert_true(verify(rows[i].stored, "password") < 0);
	}
}

static void test_what_is_made_fits_and_is_salted(void **state)
{
	static const struct {
		const char *scheme, *begin;
	} rows[] = {
		{NULL, "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"},
		{"crypt", "{CRYPT}$y$j9T$"},
		{"BLF-CRYPT", "{BLF-CRYPT}$2b$"},
		{"SHA512-CRYPT", "{SHA512-CRYPT}$6$"},
		{"SSHA512", "{SSHA512}"},
		{"PBKDF2-SHA256", "{PBKDF2-SHA256}600000$"},
		{"SCRAM-SHA-256", "{SCRAM-SHA-256}10000:"},
		{"scram-sha-1", "{SCRAM-SHA-1}10000:"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf a = {0}, b = {0};
		const char *reason;

		assert_int_equal(password_make(rows[i].scheme, slice_str(WORD), &a), 0);
		assert_int_equal(password_make(rows[i].scheme, slice_str(WORD), &b), 0);
		assert_true(slice_has_prefix(buf_view(&a), rows[i].begin));
		assert_false(slice_is_equal(buf_view(&a), buf_view(&b)));
		assert_int_equal(password_stored_check(buf_view(&a), &reason), 0);
		assert_int_equal(password_verify(buf_view(&a), slice_str(WORD)), 0);
		assert_int_equal(password_verify(buf_view(&a), slice_str("wrong")), ERR_DENIED);
		buf_deinit(&a);
		buf_deinit(&b);
	}
}

static void test_what_cannot_be_made_adds_nothing(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(password_make("NOSUCH", slice_str("x"), &b), ERR_UNSUPPORTED);
	assert_int_equal(password_make("MD5-CRYPT", slice_str("x"), &b), ERR_UNSUPPORTED);
	assert_int_equal(password_make(NULL, slice_of("", 0), &b), ERR_SYNTAX);
	assert_int_equal(password_make(NULL, slice_of("a\0b", 3), &b), ERR_SYNTAX);
	assert_int_equal(buf_len(&b), 0);
	buf_deinit(&b);
}

static void test_cheap_ones_are_those_without_rounds(void **state)
{
	(void)state;
	assert_true(password_is_cheap(SLICE_LIT("{PLAIN}x")));
	assert_true(password_is_cheap(SLICE_LIT("{SSHA512}x")));
	assert_false(password_is_cheap(SLICE_LIT("{ARGON2ID}x")));
	assert_false(password_is_cheap(SLICE_LIT("$6$x")));
	assert_false(password_is_cheap(SLICE_LIT("{PBKDF2-SHA256}x")));
	assert_false(password_is_cheap(SLICE_LIT("{SCRAM-SHA-256}x")));
	assert_false(password_is_cheap(SLICE_LIT("x")));
}

static void test_what_serves_challenges(void **state)
{
	static const char keys[] = "{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+"
				   "CSWLOshSulAsxiupA+qs2/fTE=";
	struct scram_keys k;
	struct slice clear;

	(void)state;
	assert_true(password_is_clear(SLICE_LIT("{PLAIN}two {words}"), &clear));
	assert_true(slice_is_str(clear, "two {words}"));
	assert_false(password_is_clear(SLICE_LIT("{SHA}l5p99c9WaGTBMkRBdH3RYVEGoSU="), &clear));
	assert_false(password_is_clear(SLICE_LIT("{PLAIN}"), &clear));
	assert_false(password_is_clear(SLICE_LIT("word"), &clear));
	assert_true(password_has_scram(slice_str(keys), DIGEST_SHA1, &k));
	assert_int_equal(k.rounds, 4096);
	assert_false(password_has_scram(slice_str(keys), DIGEST_SHA256, &k));
	assert_false(password_has_scram(SLICE_LIT("{PLAIN}x"), DIGEST_SHA1, &k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_others_made_is_understood),
		cmocka_unit_test(security_06_empty_and_nul_passwords_never_fit),
		cmocka_unit_test(test_bad_texts_are_refused),
		cmocka_unit_test(test_what_is_made_fits_and_is_salted),
		cmocka_unit_test(test_what_cannot_be_made_adds_nothing),
		cmocka_unit_test(test_what_serves_challenges),
		cmocka_unit_test(test_cheap_ones_are_those_without_rounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
