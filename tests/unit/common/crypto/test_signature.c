/* Signatures with RSA and Ed25519, and keys that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/crypto/signature.h"
#include "tests/unit/common/dkim_keys.h"
#include "tests/unit/feed.h"

static const uint8_t digest[SIGNATURE_DIGEST_LEN] = {1, 2, 3, 4, 5};

/* ---- both ways ---- */

static void check_pair(const char *pem, enum signature_kind kind, unsigned bits)
{
	struct signature_key *private = NULL, *public = NULL;
	struct buf octets = {0}, signature = {0};
	uint8_t other[SIGNATURE_DIGEST_LEN];
	unsigned got_bits = 0;

	assert_int_equal(signature_key_private(slice_str(pem), &private), 0);
	assert_int_equal(signature_key_kind(private), kind);
	assert_int_equal(signature_key_bits(private), bits);
	signature_key_write(private, &octets);
	assert_int_equal(signature_key_public(kind, buf_view(&octets), &public, &got_bits), 0);
	assert_int_equal(got_bits, bits);
	assert_int_equal(signature_sign(private, digest, &signature), 0);
	assert_int_equal(signature_verify(public, digest, buf_view(&signature)), 0);
	assert_int_equal(signature_verify(private, digest, buf_view(&signature)), 0);
	memcpy(other, digest, sizeof(other));
	other[31] ^= 1;
	assert_int_equal(signature_verify(public, other, buf_view(&signature)), ERR_DENIED);
	signature.data[signature.start] ^= 1;
	assert_int_equal(signature_verify(public, digest, buf_view(&signature)), ERR_DENIED);
	signature.data[signature.start] ^= 1;
	assert_int_equal(
		signature_verify(public, digest, slice_sub(buf_view(&signature), 0, 10)), ERR_DENIED);
	assert_int_equal(signature_verify(public, digest, slice_of("", 0)), ERR_DENIED);
	assert_int_equal(signature_verify(public, digest, buf_view(&signature)), 0);
	signature_key_unref(&public);
	signature_key_unref(&private);
	buf_deinit(&octets);
	buf_deinit(&signature);
}

static void test_what_is_signed_verifies(void **state)
{
	(void)state;
	check_pair(key_rsa_pem, SIGNATURE_RSA, 2048);
	check_pair(key_ed25519_pem, SIGNATURE_ED25519, 256);
}

static void test_public_half_is_the_known_one(void **state)
{
	struct signature_key *key = NULL;
	struct buf octets = {0}, text = {0};

	(void)state;
	assert_int_equal(signature_key_private(slice_str(key_ed25519_pem), &key), 0);
	signature_key_write(key, &octets);
	base64_encode(&text, buf_view(&octets));
	assert_string_equal(buf_str_view(&text), KEY_8463_ED25519_PUBLIC);
	signature_key_unref(&key);
	buf_deinit(&octets);
	buf_deinit(&text);
}

static void test_private_keys_of_other_kinds(void **state)
{
	struct signature_key *key = NULL;

	(void)state;
	assert_int_equal(signature_key_private(slice_str(key_ec_pem), &key), ERR_UNSUPPORTED);
	assert_int_equal(signature_key_private(slice_str("-----BEGIN"), &key), ERR_SYNTAX);
	assert_int_equal(signature_key_private(slice_str(""), &key), ERR_SYNTAX);
	assert_null(key);
}

/* ---- keys from the DNS ---- */

static void der(struct buf *out, unsigned char tag, struct slice content)
{
	buf_add_char(out, (char)tag);
	if (content.len >= 0x80)
		buf_add_char(out, (char)0x82);
	if (content.len >= 0x80)
		buf_add_char(out, (char)(content.len >> 8));
	buf_add_char(out, (char)content.len);
	buf_add_slice(out, content);
}

/* RSAPublicKey of a modulus of so many bits, all ones. */
static int refused(unsigned bits, struct slice exponent, unsigned *bits_out)
{
	struct buf modulus = {0}, sequence = {0}, key = {0};
	struct signature_key *made = NULL;
	struct feed_page page;
	int err;

	buf_add_char(&modulus, 0);
	for (unsigned i = 0; i < bits / 8; i++)
		buf_add_char(&modulus, (char)0xff);
	der(&sequence, 0x02, buf_view(&modulus));
	der(&sequence, 0x02, exponent);
	der(&key, 0x30, buf_view(&sequence));
	page = feed_page_copy(buf_view(&key));
	err = signature_key_public(SIGNATURE_RSA, page.text, &made, bits_out);
	feed_page_free(&page);
	signature_key_unref(&made);
	buf_deinit(&modulus);
	buf_deinit(&sequence);
	buf_deinit(&key);
	return err;
}

static void test_security_20_rsa_keys_have_limits(void **state)
{
	static const struct slice usual = SLICE_LIT("\x01\x00\x01");
	unsigned bits = 0;

	(void)state;
	assert_int_equal(refused(512, usual, &bits), ERR_DENIED);
	assert_int_equal(bits, 512);
	assert_int_equal(refused(1016, usual, &bits), ERR_DENIED);
	assert_int_equal(refused(1024, usual, &bits), 0);
	assert_int_equal(refused(4096, usual, &bits), 0);
	assert_int_equal(refused(4104, usual, &bits), ERR_DENIED);
	assert_int_equal(refused(16384, usual, &bits), ERR_DENIED);
	assert_int_equal(bits, 16384);
	/* Exponents: long, even, one, none. */
	assert_int_equal(refused(2048, SLICE_LIT("\x7f\xff\xff\xff\xff\xff\xff\xff"), &bits), ERR_DENIED);
	assert_int_equal(refused(2048, SLICE_LIT("\x02"), &bits), ERR_SYNTAX);
	assert_int_equal(refused(2048, SLICE_LIT("\x01"), &bits), ERR_SYNTAX);
	assert_int_equal(refused(2048, slice_of("", 1), &bits), ERR_SYNTAX);
	assert_int_equal(refused(2048, SLICE_LIT("\x80"), &bits), ERR_SYNTAX);
}

static void test_security_20_keys_that_are_none(void **state)
{
	static const char info[] = KEY_8463_RSA_PUBLIC;
	struct signature_key *key = NULL;
	struct buf good = {0};

	(void)state;
	assert_int_equal(base64_decode(&good, slice_str(info)), 0);
	assert_int_equal(signature_key_public(SIGNATURE_RSA, buf_view(&good), &key, NULL), 0);
	assert_int_equal(signature_key_bits(key), 1024);
	signature_key_unref(&key);
	/* Cut anywhere. */
	for (size_t len = 0; len < buf_len(&good); len++) {
		struct feed_page page = feed_page_copy(slice_sub(buf_view(&good), 0, len));

		assert_int_not_equal(signature_key_public(SIGNATURE_RSA, page.text, &key, NULL), 0);
		feed_page_free(&page);
	}
	assert_int_equal(
		signature_key_public(SIGNATURE_ED25519, slice_of(digest, 31), &key, NULL), ERR_SYNTAX);
	assert_int_equal(signature_key_public(SIGNATURE_ED25519, slice_of("", 0), &key, NULL), ERR_SYNTAX);
	assert_null(key);
	buf_deinit(&good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_signed_verifies),
		cmocka_unit_test(test_public_half_is_the_known_one),
		cmocka_unit_test(test_private_keys_of_other_kinds),
		cmocka_unit_test(test_security_20_rsa_keys_have_limits),
		cmocka_unit_test(test_security_20_keys_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
