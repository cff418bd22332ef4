/*
 * RSA keys are read by our own few lines of DER and then built from modulus and exponent: sizes are known before
 * OpenSSL sees anything, and its decoders, which try all formats they know, would cost more than the check itself.
 */
#include "common/crypto/signature.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define ED25519_LEN 32
#define EXPONENT_BITS_MOST 33 /* 65537 is usual; a long one makes checking slow */

struct signature_key {
	enum signature_kind kind;
	unsigned bits;
	bool is_private;
	EVP_PKEY *pkey;
	EVP_PKEY_CTX *verifying; /* RSA: set up once, copied for each check; never changed */
	_Atomic unsigned refs;
};

static EVP_MD *sha256;
static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;

static void fetch(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	require(sha256);
}

/* ---- DER ---- */

/* Takes one element of this tag off the front; its content. */
static int take_der(struct slice *rest, unsigned char tag, struct slice *content_out)
{
	const unsigned char *p = (const unsigned char *)rest->p;
	size_t len, head = 2;

	if (rest->len < 2 || p[0] != tag)
		return ERR_SYNTAX;
	len = p[1];
	if (len == 0x81 && rest->len >= 3) {
		len = p[2];
		head = 3;
	} else if (len == 0x82 && rest->len >= 4) {
		len = (size_t)p[2] << 8 | p[3];
		head = 4;
	} else if (len >= 0x80) {
		return ERR_SYNTAX;
	}
	if (len > rest->len - head)
		return ERR_SYNTAX;
	*content_out = slice_sub(*rest, head, len);
	*rest = slice_from(*rest, head + len);
	return 0;
}

/* rsaEncryption with NULL parameters (RFC 3279 section 2.3.1). */
static const char rsa_oid[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/* SubjectPublicKeyInfo: the BIT STRING in it holds the RSAPublicKey. */
static int unwrap(struct slice info, struct slice *key_out)
{
	struct slice outer, algorithm, bits, rest = info;

	if (take_der(&rest, 0x30, &outer) != 0 || take_der(&outer, 0x30, &algorithm) != 0)
		return ERR_SYNTAX;
	if (!slice_is_equal(
		    slice_sub(algorithm, 0, sizeof(rsa_oid) - 1), slice_of(rsa_oid, sizeof(rsa_oid) - 1)))
		return ERR_SYNTAX;
	if (take_der(&outer, 0x03, &bits) != 0 || bits.len < 1 || bits.p[0] != 0)
		return ERR_SYNTAX;
	*key_out = slice_from(bits, 1);
	return 0;
}

/* A positive integer without leading zeros. */
static int take_integer(struct slice *rest, struct slice *n_out)
{
	if (take_der(rest, 0x02, n_out) != 0 || n_out->len == 0 || (n_out->p[0] & 0x80))
		return ERR_SYNTAX;
	while (n_out->len && n_out->p[0] == 0)
		*n_out = slice_from(*n_out, 1);
	return n_out->len ? 0 : ERR_SYNTAX;
}

static unsigned bits_of(struct slice n)
{
	unsigned bits = (unsigned)(n.len - 1) * 8, top = (unsigned char)n.p[0];

	for (; top; top >>= 1)
		bits++;
	return bits;
}

static int read_rsa(struct slice octets, struct slice *modulus_out, struct slice *exponent_out)
{
	struct slice key, sequence;

	if (unwrap(octets, &key) != 0)
		key = octets; /* RSAPublicKey itself, as RFC 6376 has it by the letter */
	if (take_der(&key, 0x30, &sequence) != 0 || take_integer(&sequence, modulus_out) != 0 ||
		take_integer(&sequence, exponent_out) != 0)
		return ERR_SYNTAX;
	return 0;
}

/* ---- keys ---- */

static struct signature_key *key_take(
	EVP_PKEY *pkey, enum signature_kind kind, unsigned bits, bool is_private)
{
	struct signature_key *key = xcalloc(1, sizeof(*key));

	key->pkey = pkey;
	key->kind = kind;
	key->bits = bits;
	key->is_private = is_private;
	atomic_init(&key->refs, 1);
	return key;
}

static EVP_PKEY *build_rsa(struct slice modulus, struct slice exponent)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	BIGNUM *n = BN_bin2bn((const unsigned char *)modulus.p, (int)modulus.len, NULL);
	BIGNUM *e = BN_bin2bn((const unsigned char *)exponent.p, (int)exponent.len, NULL);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	OSSL_PARAM *params;
	EVP_PKEY *pkey = NULL;

	require(build && n && e && ctx);
	require(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1);
	require(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1);
	params = OSSL_PARAM_BLD_to_param(build);
	require(params);
	if (EVP_PKEY_fromdata_init(ctx) != 1 ||
		EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	EVP_PKEY_CTX_free(ctx);
	BN_free(n);
	BN_free(e);
	return pkey;
}

static int start_verifying(struct signature_key *key)
{
	key->verifying = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	if (!key->verifying || EVP_PKEY_verify_init(key->verifying) != 1 ||
		EVP_PKEY_CTX_set_rsa_padding(key->verifying, RSA_PKCS1_PADDING) != 1 ||
		EVP_PKEY_CTX_set_signature_md(key->verifying, sha256) != 1)
		return ERR_SYNTAX;
	return 0;
}

static int rsa_public(struct slice octets, struct signature_key **key_out, unsigned *bits_out)
{
	struct slice modulus, exponent;
	EVP_PKEY *pkey;
	unsigned bits;

	if (read_rsa(octets, &modulus, &exponent) != 0)
		return ERR_SYNTAX;
	bits = bits_of(modulus);
	if (bits_out)
		*bits_out = bits;
	if (bits < SIGNATURE_RSA_LEAST || bits > SIGNATURE_RSA_MOST || bits_of(exponent) > EXPONENT_BITS_MOST)
		return ERR_DENIED;
	if (!(modulus.p[modulus.len - 1] & 1) || !(exponent.p[exponent.len - 1] & 1) || bits_of(exponent) < 2)
		return ERR_SYNTAX;
	pkey = build_rsa(modulus, exponent);
	if (!pkey)
		return ERR_SYNTAX;
	*key_out = key_take(pkey, SIGNATURE_RSA, bits, false);
	if (start_verifying(*key_out) != 0) {
		signature_key_unref(key_out);
		return ERR_SYNTAX;
	}
	return 0;
}

static int ed25519_public(struct slice octets, struct signature_key **key_out)
{
	EVP_PKEY *pkey = NULL;

	if (octets.len == ED25519_LEN)
		pkey = EVP_PKEY_new_raw_public_key_ex(
			NULL, "ED25519", NULL, (const unsigned char *)octets.p, octets.len);
	if (!pkey)
		return ERR_SYNTAX;
	*key_out = key_take(pkey, SIGNATURE_ED25519, 256, false);
	return 0;
}

int signature_key_public(
	enum signature_kind kind, struct slice octets, struct signature_key **key_out, unsigned *bits_out)
{
	int err;

	pthread_once(&fetch_once, fetch);
	err = kind == SIGNATURE_RSA ? rsa_public(octets, key_out, bits_out) : ed25519_public(octets, key_out);
	if (!err && bits_out)
		*bits_out = (*key_out)->bits;
	ERR_clear_error();
	return err;
}

/* Nobody is asked for the password of a key. */
static int no_password(char *out, int size, int rw, void *arg)
{
	(void)out, (void)size, (void)rw, (void)arg;
	return -1;
}

int signature_key_private(struct slice pem, struct signature_key **key_out)
{
	BIO *bio = pem.len && pem.len <= INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.len) : NULL;
	EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	unsigned bits = pkey ? (unsigned)EVP_PKEY_get_bits(pkey) : 0;
	int err = 0, kind = pkey ? EVP_PKEY_get_base_id(pkey) : 0;

	pthread_once(&fetch_once, fetch);
	BIO_free(bio);
	ERR_clear_error();
	if (!pkey)
		err = ERR_SYNTAX;
	else if (kind != EVP_PKEY_RSA && kind != EVP_PKEY_ED25519)
		err = ERR_UNSUPPORTED;
	else if (kind == EVP_PKEY_RSA && (bits < SIGNATURE_RSA_LEAST || bits > SIGNATURE_RSA_MOST))
		err = ERR_DENIED;
	if (err) {
		EVP_PKEY_free(pkey);
		return err;
	}
	*key_out = key_take(pkey, kind == EVP_PKEY_RSA ? SIGNATURE_RSA : SIGNATURE_ED25519,
		kind == EVP_PKEY_RSA ? bits : 256, true);
	if (kind == EVP_PKEY_RSA && start_verifying(*key_out) != 0) {
		signature_key_unref(key_out);
		return ERR_SYNTAX;
	}
	return 0;
}

struct signature_key *signature_key_ref(struct signature_key *key)
{
	atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
	return key;
}

void signature_key_unref(struct signature_key **key)
{
	struct signature_key *k = *key;

	*key = NULL;
	if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
		return;
	EVP_PKEY_CTX_free(k->verifying);
	EVP_PKEY_free(k->pkey);
	free(k);
}

enum signature_kind signature_key_kind(const struct signature_key *key)
{
	return key->kind;
}

unsigned signature_key_bits(const struct signature_key *key)
{
	return key->bits;
}

void signature_key_write(const struct signature_key *key, struct buf *out)
{
	unsigned char raw[ED25519_LEN], *der = NULL;
	size_t len = sizeof(raw);
	int der_len;

	if (key->kind == SIGNATURE_ED25519) {
		require(EVP_PKEY_get_raw_public_key(key->pkey, raw, &len) == 1);
		buf_add(out, raw, len);
		return;
	}
	der_len = i2d_PUBKEY(key->pkey, &der);
	require(der_len > 0);
	buf_add(out, der, (size_t)der_len);
	OPENSSL_free(der);
}

/* ---- signatures ---- */

static bool verify_rsa(const struct signature_key *key, const uint8_t *digest, struct slice signature)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_dup(key->verifying);
	bool is_good = ctx && EVP_PKEY_verify(ctx, (const unsigned char *)signature.p, signature.len, digest,
				      SIGNATURE_DIGEST_LEN) == 1;

	EVP_PKEY_CTX_free(ctx);
	return is_good;
}

static bool verify_ed25519(const struct signature_key *key, const uint8_t *digest, struct slice signature)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool is_good = ctx && EVP_DigestVerifyInit_ex(ctx, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
		       EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.len, digest,
			       SIGNATURE_DIGEST_LEN) == 1;

	EVP_MD_CTX_free(ctx);
	return is_good;
}

int signature_verify(
	const struct signature_key *key, const uint8_t digest[SIGNATURE_DIGEST_LEN], struct slice signature)
{
	bool is_good = key->kind == SIGNATURE_RSA ? verify_rsa(key, digest, signature)
						  : verify_ed25519(key, digest, signature);

	if (!is_good)
		ERR_clear_error();
	return is_good ? 0 : ERR_DENIED;
}

static int sign_rsa(const struct signature_key *key, const uint8_t *digest, uint8_t *out, size_t *len)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	int ok = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
		 EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
		 EVP_PKEY_CTX_set_signature_md(ctx, sha256) == 1 &&
		 EVP_PKEY_sign(ctx, out, len, digest, SIGNATURE_DIGEST_LEN) == 1;

	EVP_PKEY_CTX_free(ctx);
	return ok ? 0 : ERR_IO;
}

static int sign_ed25519(const struct signature_key *key, const uint8_t *digest, uint8_t *out, size_t *len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx && EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
		 EVP_DigestSign(ctx, out, len, digest, SIGNATURE_DIGEST_LEN) == 1;

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : ERR_IO;
}

int signature_sign(
	const struct signature_key *key, const uint8_t digest[SIGNATURE_DIGEST_LEN], struct buf *out)
{
	uint8_t signature[SIGNATURE_MOST];
	size_t len = sizeof(signature);
	int err;

	require(key->is_private);
	err = key->kind == SIGNATURE_RSA ? sign_rsa(key, digest, signature, &len)
					 : sign_ed25519(key, digest, signature, &len);
	ERR_clear_error();
	if (!err)
		buf_add(out, signature, len);
	return err;
}
