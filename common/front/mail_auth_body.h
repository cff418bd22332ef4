/*
 * The hash of a message's body in DKIM's canonical forms (RFC 6376 section 3.7), read from a spool in pieces, on a loop or on a
 * worker thread. The spool belongs to somebody who may take it away at any time: mail_auth_body_cut() does that from another
 * thread, and waits for one piece to be copied at most.
 */
#pragma once

#include <pthread.h>

#include "common/net/spool.h"
#include "common/proto/dkim_signature.h"

#define MAIL_AUTH_PIECE (64 * 1024)

/* Which forms are wanted, and where they are given. */
enum mail_auth_form {
	MAIL_AUTH_SIMPLE,
	MAIL_AUTH_RELAXED
};
#define MAIL_AUTH_FORMS 2

struct mail_auth_body {
	pthread_mutex_t lock;
	const struct spool *spool; /* NULL: taken away */
	uint64_t at;               /* where the body begins */
	bool is_mended;            /* dkim_canon.h */
	bool is_wanted[MAIL_AUTH_FORMS];
	uint8_t hash[MAIL_AUTH_FORMS][DKIM_HASH_LEN];
};
/* The spool is borrowed. */
void mail_auth_body_init(struct mail_auth_body *body, const struct spool *spool, uint64_t at);
void mail_auth_body_deinit(struct mail_auth_body *body);
/* Computes what is wanted. ERR_CANCELLED: cut; ERR_IO: the spool cannot be read. */
MUST_CHECK int mail_auth_body_run(struct mail_auth_body *body);
void mail_auth_body_cut(struct mail_auth_body *body);
/* Octets that would be hashed. */
uint64_t mail_auth_body_len(const struct mail_auth_body *body);
