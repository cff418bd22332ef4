/*
 * What a server keeps for SCRAM (RFC 5802 section 3): salt, iterations, StoredKey and ServerKey, of SHA-1 or SHA-256.
 * Written as RFC 5803 has it, and read in that form and in Dovecot's:
 *
 *	4096:SALT$STORED:SERVER        RFC 5803, behind {SCRAM-SHA-256} or SCRAM-SHA-256$
 *	4096,SALT,STORED,SERVER        Dovecot, behind {SCRAM-SHA-256}
 *
 * SALT, STORED and SERVER in base64. Pure but for scram_keys_derive(), which blocks for as long as the iterations cost.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/crypto/digest.h"

#define SCRAM_KEYS_SALT_MOST 64
#define SCRAM_KEYS_ROUNDS_MOST 1000000u /* that a stored text may ask of a client and of us */
/* Of keys that we make. All of them, so that an account that is not there looks as one that is. */
#define SCRAM_KEYS_ROUNDS 10000u
#define SCRAM_KEYS_SALT_LEN 16

struct scram_keys {
	enum digest_kind kind; /* DIGEST_SHA1, DIGEST_SHA256 */
	uint32_t rounds;
	size_t salt_len;
	uint8_t salt[SCRAM_KEYS_SALT_MOST];
	uint8_t stored[DIGEST_MAX], server[DIGEST_MAX]; /* digest_len(kind) octets */
};

/* body: what follows the name of the scheme. ERR_SYNTAX; ERR_TOO_BIG: too many iterations. */
MUST_CHECK int scram_keys_parse(enum digest_kind kind, struct slice body, struct scram_keys *keys_out);
/* Appends RFC 5803's form, from the number of iterations on. */
void scram_keys_write(const struct scram_keys *keys, struct buf *out);
/* Fills the keys from kind, rounds and salt, and the password as it is (PRECIS is the client's to apply). Blocks; any
 * thread. */
void scram_keys_derive(struct slice password, struct scram_keys *keys);
