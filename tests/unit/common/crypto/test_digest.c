/* Digests, HMAC and PBKDF2 against the published vectors (FIPS 180-4, RFC 4231, RFC 2202, RFC 6070, RFC 7914
 * §11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/crypto/digest.h"

static void assert_hex(const uint8_t *got, size_t len, const char *want)
{
	char text[2 * DIGEST_MAX + 1];

	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", got[i]);
	text[2 * len] = '\0';
	assert_string_equal(text, want);
}

static const struct {
	enum digest_kind kind;
	const char *text;
	const char *want;
} digests[] = {
	{DIGEST_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
	{DIGEST_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
	{DIGEST_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{DIGEST_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{DIGEST_SHA512, "abc",
		"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
		"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
};

static void test_digests_match_the_vectors(void **state)
{
	uint8_t got[DIGEST_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(digests); i++) {
		struct digest *d = digest_new(digests[i].kind);

		digest_once(digests[i].kind, slice_str(digests[i].text), got);
		assert_hex(got, digest_len(digests[i].kind), digests[i].want);
		for (int round = 0; round < 2; round++) { /* finish starts anew */
			for (const char *p = digests[i].text; *p; p++)
				digest_add(d, slice_of(p, 1));
			digest_finish(d, got);
			assert_hex(got, digest_len(digests[i].kind), digests[i].want);
		}
		digest_free(&d);
		assert_null(d);
	}
}

static void test_hmac_matches_the_vectors(void **state)
{
	static const char key[] = "Jefe";
	static const char text[] = "what do ya want for nothing?";
	static const struct {
		enum digest_kind kind;
		const char *want;
	} rows[] = {
		{DIGEST_SHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{DIGEST_SHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{DIGEST_SHA512, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
				"9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
	};
	uint8_t got[DIGEST_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		digest_hmac(rows[i].kind, slice_str(key), slice_str(text), got);
		assert_hex(got, digest_len(rows[i].kind), rows[i].want);
	}
	digest_hmac(DIGEST_SHA256, slice_of(NULL, 0), slice_of(NULL, 0), got);
	assert_hex(got, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_pbkdf2_matches_the_vectors(void **state)
{
	uint8_t got[DIGEST_MAX];

	(void)state;
	digest_pbkdf2(DIGEST_SHA1, slice_str("password"), slice_str("salt"), 4096, got, 20);
	assert_hex(got, 20, "4b007901b765489abead49d926f721d065a429c1");
	digest_pbkdf2(DIGEST_SHA256, slice_str("passwd"), slice_str("salt"), 1, got, 64);
	assert_hex(got, 64,
		"55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
		"49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digests_match_the_vectors),
		cmocka_unit_test(test_hmac_matches_the_vectors),
		cmocka_unit_test(test_pbkdf2_matches_the_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
