/*
 * Stored passwords: which schemes there are, whether a stored text is well formed, whether a password fits it.
 *
 *	{CRYPT}$y$…  $y$… $6$… $5$… $2b$… $7$… $gy$…   libxcrypt; DES and MD5 are refused
 *	{SSHA} {SSHA256} {SSHA512}   base64 of digest(password, salt) and salt; {SHA} {SHA256} {SHA512} without salt
 *	{PBKDF2-SHA256}ROUNDS$SALT$KEY   also -SHA1, -SHA512; ab64: base64 with '.' for '+', no '=' (docs/mapping.md)
 *	{ARGON2ID}$argon2id$v=19$m=…,t=…,p=…$salt$key   with or without the prefix; {ARGON2I} too
 *	{SCRAM-SHA-256}4096:SALT$STORED:SERVER   also -SHA-1; RFC 5803, and Dovecot's commas (common/auth/scram_keys.h);
 *	SCRAM-SHA-256$4096:…         the same as authPassword has it, without braces
 *	{PLAIN}text
 *
 * password_verify() blocks for as long as the hash costs and belongs on worker threads; password_check_start()
 * brings it there. An empty password, one with a NUL and one beyond PASSWORD_MOST fit nothing, whatever is stored.
 * Costs that a stored text may ask for are capped: a text beyond the cap is malformed.
 */
#pragma once

#include "common/auth/scram_keys.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/net/work.h"

#define PASSWORD_MOST 1024        /* octets of a password */
#define PASSWORD_STORED_MOST 1024 /* octets of a stored text */
#define PASSWORD_DEFAULT_SCHEME "ARGON2ID"

/* 0, or ERR_SYNTAX, ERR_UNSUPPORTED (unknown scheme), ERR_TOO_BIG (costs beyond the cap); reason_out: fixed
 * words for the operator, always set. Computes no hash. */
MUST_CHECK int password_stored_check(struct slice stored, const char **reason_out);
/* The scheme's name as in `{NAME}`, "?" for none. */
const char *password_scheme(struct slice stored);
/* The password itself, a view, if it is stored as it is. */
bool password_is_clear(struct slice stored, struct slice *password_out);
/* SCRAM keys of this digest, if that is what is stored and well formed. */
bool password_has_scram(struct slice stored, enum digest_kind kind, struct scram_keys *keys_out);
/* True if verifying costs microseconds, so that a loop may do it itself (PLAIN and single digests). */
bool password_is_cheap(struct slice stored);

/* 0: fits. ERR_DENIED: does not. ERR_SYNTAX, ERR_UNSUPPORTED: the stored text is bad. ERR_NOT_NOW: no memory
 * for it. Blocks; any thread. */
MUST_CHECK int password_verify(struct slice stored, struct slice password);
/* Appends a fresh stored text, `{SCHEME}…`. scheme NULL: the default, ARGON2ID with m=19456 KiB, t=2, p=1.
 * ERR_UNSUPPORTED; ERR_SYNTAX (empty, NUL), ERR_TOO_BIG, ERR_NOT_NOW. Blocks; any thread. */
MUST_CHECK int password_make(const char *scheme, struct slice password, struct buf *out);
/* A password may be set: 1..PASSWORD_MOST octets, no NUL. */
bool password_is_acceptable(struct slice password);

/* verdict: as password_verify() gives it. */
typedef void password_fn(void *arg, int verdict);

/*
 * Verifies on the pool (named hash-workers) and calls fn on the loop, once. Copies both texts. ERR_NOT_NOW:
 * the queue is full, fn is not called.
 */
MUST_CHECK int password_check_start(struct work_pool *pool, struct loop *loop, struct slice stored,
	struct slice password, password_fn *fn, void *arg);
