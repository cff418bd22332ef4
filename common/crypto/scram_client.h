/*
 * The client's side of SCRAM-SHA-256 (RFC 5802, 7677), without channel binding: four texts, and a proof of each side that it knows the
 * password. Base64 of the whole texts is the protocol's that carries them. The server is hostile: what it may have computed is bounded,
 * and it is no server of ours before scram_client_is_proven().
 *
 *	scram_client_begin -> first text      server's first -> scram_client_challenge -> scram_client_prove (slow)
 *	-> scram_client_final                 server's final -> scram_client_is_proven
 *
 * Names and passwords go as they are: nothing is normalised (SASLprep). Belongs to one thread at a time.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/crypto/digest.h"

#define SCRAM_CLIENT_NONCE_LEN 24
#define SCRAM_CLIENT_TEXT_MOST 1024     /* of the server's texts */
#define SCRAM_CLIENT_ROUNDS_LEAST 4096  /* RFC 7677 section 4 */
#define SCRAM_CLIENT_ROUNDS_MOST 600000 /* some tenths of a second */

struct scram_client {
	char nonce[SCRAM_CLIENT_NONCE_LEN + 1];
	struct buf bare;   /* the first text without its head */
	struct buf server; /* the server's first */
	struct buf salt;
	struct slice whole_nonce; /* view of server */
	uint32_t rounds;
	uint8_t proof[DIGEST_SHA256_LEN], signature[DIGEST_SHA256_LEN];
};

/* Appends the first text. nonce: NULL, or a test's. */
void scram_client_begin(struct scram_client *c, struct slice user, const char *nonce, struct buf *out);
/* ERR_SYNTAX: it is none, or answers another one; ERR_TOO_BIG: a limit above; ERR_UNSUPPORTED: an extension that is to be understood. */
MUST_CHECK int scram_client_challenge(struct scram_client *c, struct slice text);
/* Blocks; any thread. */
void scram_client_prove(struct scram_client *c, struct slice password);
void scram_client_final(const struct scram_client *c, struct buf *out);
/* The server knows the password, too. */
bool scram_client_is_proven(const struct scram_client *c, struct slice text);
/* Wipes and frees; of a zeroed one as well. */
void scram_client_end(struct scram_client *c);
