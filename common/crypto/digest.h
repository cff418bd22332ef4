/*
 * Digests, HMAC (RFC 2104) and PBKDF2 (RFC 8018) on OpenSSL's EVP. Any thread; a streaming digest belongs to
 * one at a time. Nothing here can fail but for lack of memory, which ends the program.
 */
#pragma once

#include <stdint.h>

#include "common/base/slice.h"

enum digest_kind {
	DIGEST_SHA1,
	DIGEST_SHA256,
	DIGEST_SHA512
};

/* The longest result in bytes. */
#define DIGEST_MAX 64
#define DIGEST_SHA1_LEN 20
#define DIGEST_SHA256_LEN 32
#define DIGEST_SHA512_LEN 64
size_t digest_len(enum digest_kind kind);

/* Of one piece; out takes digest_len() bytes. */
void digest_once(enum digest_kind kind, struct slice bytes, uint8_t *out);

/* Streaming. */
struct digest;
struct digest *digest_new(enum digest_kind kind);
void digest_free(struct digest **d);
void digest_add(struct digest *d, struct slice bytes);
/* Writes the result and starts anew. */
void digest_finish(struct digest *d, uint8_t *out);

/* HMAC of one piece; out takes digest_len() bytes. */
void digest_hmac(enum digest_kind kind, struct slice key, struct slice bytes, uint8_t *out);
/* PBKDF2-HMAC; slow by design: on a worker thread. iterations >= 1. */
void digest_pbkdf2(enum digest_kind kind, struct slice password, struct slice salt, unsigned iterations,
	uint8_t *out, size_t out_len);
