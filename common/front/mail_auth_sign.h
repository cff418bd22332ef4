/*
 * Signing one message: DKIM-Signature fields for what leaves under the author's domain, or an ARC set (RFC 8617 section 5.1)
 * over what came in. A job is made on a loop, may run on a worker thread, and then holds the fields' values. It copies the
 * header; the body is read through mail_auth_body.h.
 *
 * What is hashed is the message as it leaves: bare CRs and LFs count as the CRLF that is sent in their place.
 */
#pragma once

#include "common/front/mail_auth_body.h"
#include "common/front/mail_auth_keys.h"
#include "common/proto/arc.h"
#include "common/proto/dmarc.h"

#define MAIL_AUTH_SIGN_FIELDS 3

struct mail_auth_sign {
	struct arena arena;
	struct mail_auth_keys *keys; /* counted */
	struct mail_auth_body body;
	struct dkim_fields fields;
	struct arc_chain *chain; /* sealing: the chain that is there */
	struct mail_auth_choice choices[MAIL_AUTH_KEYS_SIGN];
	unsigned choice_count;
	struct slice results; /* sealing: of ARC-Authentication-Results, without i= */
	enum dkim_chain verdict;
	int64_t now;
	const char *why_not; /* nothing is signed; fixed text */
	/* what run() made, in the order in which they are put before the header, the last one topmost; value without line end, folded */
	unsigned count;
	struct {
		struct slice name, value;
	} made[MAIL_AUTH_SIGN_FIELDS];
};

/* For the author's domain of this header (with or without its empty line). choice_count 0: it has no key, why_not says why. */
void mail_auth_sign_init(struct mail_auth_sign *job, struct mail_auth_keys *keys, struct slice header,
	const struct spool *spool, uint64_t body_at, int64_t now);
/* Drops the keys whose selector and domain have signed this message already: by one of our proxies, before it came here. */
void mail_auth_sign_only_new(struct mail_auth_sign *job);
/*
 * A set by the key of keys->seal_domain. results: what a reader may know of our checks ("host; dkim=pass ..."), verdict: of the chain
 * that is there. A chain that its newest seal calls failed, or that is full, is left as it is (why_not).
 */
void mail_auth_sign_seal(struct mail_auth_sign *job, struct mail_auth_keys *keys, struct slice header,
	const struct spool *spool, uint64_t body_at, struct slice results, enum dkim_chain verdict,
	int64_t now);
void mail_auth_sign_deinit(struct mail_auth_sign *job);
uint64_t mail_auth_sign_cost(const struct mail_auth_sign *job);
/* ERR_CANCELLED, ERR_IO: nothing was made. Any thread, once. */
MUST_CHECK int mail_auth_sign_run(struct mail_auth_sign *job);
