/*
 * One signature as a header field holds it: DKIM-Signature (RFC 6376 section 3.5, RFC 8463), ARC-Message-Signature and
 * ARC-Seal (RFC 8617 section 4.1). Reading checks all that the field shows by itself, domains come as lower-case ASCII.
 * Texts are views of the value or copies in the arena. Pure.
 *
 * l= is read and not obeyed (RFC 6376 section 8.2): the whole body is what counts, so that a signature over a part of
 * it is good only if that part is all.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* Most header fields that a signature may name. */
#define DKIM_SIGNED_FIELDS_MOST 500
/* Most octets of one such field, and of b= decoded. */
#define DKIM_SIGNATURE_MOST ((size_t)32 * 1024)
#define DKIM_B_MOST 1024
#define DKIM_HASH_LEN 32
/* How far t= may lie in the future: clocks differ. Seconds. */
#define DKIM_CLOCK_SKEW 3600

enum dkim_field {
	DKIM_FIELD_SIGNATURE, /* DKIM-Signature */
	DKIM_FIELD_AMS,       /* ARC-Message-Signature */
	DKIM_FIELD_SEAL       /* ARC-Seal */
};

enum dkim_algorithm {
	DKIM_RSA_SHA256,
	DKIM_ED25519_SHA256
};

enum dkim_chain { /* cv= of a seal */
	DKIM_CHAIN_NONE,
	DKIM_CHAIN_FAIL,
	DKIM_CHAIN_PASS
};

struct dkim_signature {
	enum dkim_field field;
	enum dkim_algorithm algorithm;
	bool is_header_relaxed, is_body_relaxed;
	struct slice domain;          /* d= */
	struct slice selector;        /* s= */
	struct slice identity_domain; /* of i=; d= where there is none */
	struct slice fields;          /* h=, as written; empty in a seal */
	uint8_t body_hash[DKIM_HASH_LEN];
	struct slice b;       /* decoded */
	struct slice b_start; /* first eight digits of b=, for header.b (RFC 6008) */
	bool has_length;      /* l= */
	uint64_t made, until; /* t=, x=; 0: not given */
	unsigned instance;    /* ARC: i= */
	enum dkim_chain chain;
};

/* Reads a field's value. ERR_SYNTAX, ERR_TOO_BIG or ERR_UNSUPPORTED (an algorithm that does not count, a version):
 * *why_out, if not NULL, is a fixed text then. What is known of domain, selector, algorithm, b_start is filled in
 * even so, for the report. */
MUST_CHECK int dkim_signature_parse(struct arena *a, struct slice value, enum dkim_field field,
	struct dkim_signature *sig_out, const char **why_out);
/* t= and x= against the clock: NULL when it is in force, else a fixed text. */
const char *dkim_signature_is_out_of_time(const struct dkim_signature *sig, int64_t now);
/* "rsa-sha256", "ed25519-sha256". */
const char *dkim_signature_algorithm_name(enum dkim_algorithm algorithm);

/* Is this the field's domain below that one, or the same? Both lower-case. */
bool dkim_signature_is_under(struct slice domain, struct slice parent);

/* What a signer writes. Views. */
struct dkim_draft {
	enum dkim_field field;
	enum dkim_algorithm algorithm;
	bool is_header_relaxed, is_body_relaxed;
	struct slice domain, selector;
	struct slice fields;      /* h= */
	const uint8_t *body_hash; /* DKIM_HASH_LEN; NULL in a seal */
	uint64_t made;
	unsigned instance;
	enum dkim_chain chain;
};
/* Appends the field folded, without its line end, up to "b=" and nothing behind it. */
void dkim_signature_write(const struct dkim_draft *draft, struct buf *out);
/* Appends the digits of b= in folded lines. */
void dkim_signature_write_b(struct slice b, struct buf *out);
