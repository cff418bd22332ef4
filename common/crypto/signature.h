/*
 * Signatures over SHA-256 digests, as DKIM makes and checks them (RFC 6376 section 3.3.2, RFC 8463): RSA with PKCS #1
 * v1.5, and Ed25519 of the digest's octets; on OpenSSL's EVP. Keys are made once and shared: any thread may use one,
 * and references are counted. Public keys come from the DNS and are hostile: RSA outside of SIGNATURE_RSA_LEAST to
 * SIGNATURE_RSA_MOST bits or with a large exponent is refused before any arithmetic.
 */
#pragma once

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* RFC 8301 section 3.2; above, one check would cost as much as hundreds. */
#define SIGNATURE_RSA_LEAST 1024
#define SIGNATURE_RSA_MOST 4096
#define SIGNATURE_DIGEST_LEN 32
/* The longest signature. */
#define SIGNATURE_MOST (SIGNATURE_RSA_MOST / 8)

enum signature_kind {
	SIGNATURE_RSA,
	SIGNATURE_ED25519
};

struct signature_key;

/* A public key: of RSA a SubjectPublicKeyInfo or an RSAPublicKey (DER), of Ed25519 its 32 octets. ERR_SYNTAX: no such key;
 * ERR_DENIED: RSA of a size that is not taken (bits_out says which, if not NULL). */
MUST_CHECK int signature_key_public(
	enum signature_kind kind, struct slice octets, struct signature_key **key_out, unsigned *bits_out);
/* A private key out of PEM text (PKCS #8 or traditional, not encrypted). ERR_SYNTAX, ERR_UNSUPPORTED (of another kind),
 * ERR_DENIED as above. */
MUST_CHECK int signature_key_private(struct slice pem, struct signature_key **key_out);
struct signature_key *signature_key_ref(struct signature_key *key);
void signature_key_unref(struct signature_key **key);

enum signature_kind signature_key_kind(const struct signature_key *key);
/* Of the modulus; Ed25519: 256. */
unsigned signature_key_bits(const struct signature_key *key);
/* Appends the public half as signature_key_public() takes it (RSA: SubjectPublicKeyInfo). */
void signature_key_write(const struct signature_key *key, struct buf *out);

/* 0: the signature is of this digest by this key; ERR_DENIED: it is not. */
MUST_CHECK int signature_verify(
	const struct signature_key *key, const uint8_t digest[SIGNATURE_DIGEST_LEN], struct slice signature);
/* Appends a signature of the digest. The key must be private. */
MUST_CHECK int signature_sign(
	const struct signature_key *key, const uint8_t digest[SIGNATURE_DIGEST_LEN], struct buf *out);
