/*
 * Checking one message's DKIM signatures (RFC 6376, 8301, 8463) and ARC chain (RFC 8617), without the asking and waiting:
 * the plan says which keys it needs, is told what the DNS has, and then computes. Reading a plan costs little and may be done on
 * a loop; running it may be done on a worker thread.
 *
 *	mail_auth_plan_init -> for each key: mail_auth_plan_key -> mail_auth_plan_run -> results
 *
 * A plan copies the header, so that nothing in it depends on the message but the body (mail_auth_body.h).
 */
#pragma once

#include "common/crypto/signature.h"
#include "common/front/mail_auth_body.h"
#include "common/front/smtp_facts.h"
#include "common/proto/arc.h"
#include "common/proto/dkim_key.h"
#include "common/proto/dmarc.h"

/* DKIM signatures that are checked; of more of them those of the author's domain come first, then from the top. */
#define MAIL_AUTH_SIGNATURES_MOST 8
/* Keys that one message may make us ask for. */
#define MAIL_AUTH_KEYS_MOST (MAIL_AUTH_SIGNATURES_MOST + 2 * ARC_SETS_MOST)
/* Memory of one plan. */
#define MAIL_AUTH_PLAN_MOST ((size_t)4 << 20)

struct mail_auth_key {
	const char *name;        /* SELECTOR._domainkey.DOMAIN */
	enum smtp_result result; /* UNKNOWN until told; PASS: there is a key */
	const char *why;         /* fixed text, where there is none */
	struct dkim_key record;
	struct signature_key *key;
};

struct mail_auth_signature {
	const struct header_field *field;
	struct dkim_signature sig;
	enum smtp_result result;
	const char *why; /* fixed text, of what is not PASS; NULL: nothing to say */
	struct mail_auth_key *key;
};

struct mail_auth_chain {
	enum smtp_result result; /* NONE, PASS, FAIL */
	const char *why;
	struct slice domain; /* of the newest seal; empty: not known */
	struct arc_chain chain;
	struct mail_auth_key *message_key; /* of the newest message signature */
	struct mail_auth_key *seal_keys[ARC_SETS_MOST];
};

struct mail_auth_plan {
	struct arena arena;
	struct slice header;
	struct dkim_fields fields;
	const char *why_not; /* nothing can be checked: too long a header, too many fields */
	int64_t now;
	unsigned rsa_least; /* bits: RSA keys below get POLICY */

	enum dmarc_author author; /* of the From field */
	struct slice author_domain;

	bool wants_dkim;
	unsigned signature_count, left_out; /* more than are checked */
	struct mail_auth_signature *signatures;
	struct mail_auth_chain *arc; /* NULL: not checked */
	unsigned key_count;
	struct mail_auth_key *keys;
	struct mail_auth_body body;
};

struct mail_auth_wants {
	bool dkim, arc;
	unsigned rsa_least;
	int64_t now; /* seconds since 1970 */
};
/* The spool is borrowed as mail_auth_body.h says; body_at: where the body begins in it. */
void mail_auth_plan_init(struct mail_auth_plan *plan, const struct mail_auth_wants *wants,
	struct slice header, const struct spool *spool, uint64_t body_at);
void mail_auth_plan_deinit(struct mail_auth_plan *plan);
/* What the DNS said about key i: error as in dns.h (0, ERR_NOT_FOUND, else not now), and the texts of its TXT records. */
void mail_auth_plan_key(
	struct mail_auth_plan *plan, unsigned i, int error, const struct slice *texts, unsigned count);
/* Octets that running would hash, about. */
uint64_t mail_auth_plan_cost(const struct mail_auth_plan *plan);
/* Computes all results. ERR_CANCELLED, ERR_IO: they are TEMPERROR then. Once. */
int mail_auth_plan_run(struct mail_auth_plan *plan);

/* The SHA-256 of what a signature covers of the header, its own field included; `own` is its raw field. */
void mail_auth_plan_digest(struct dkim_fields *fields, struct slice names, bool is_relaxed,
	const struct header_field *own, uint8_t digest_out[DKIM_HASH_LEN]);
