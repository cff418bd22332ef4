/*
 * Key records: the TXT record at SELECTOR._domainkey.DOMAIN (RFC 6376 section 3.6.1, RFC 8301, RFC 8463), and the name
 * where it stands. Pure; octets in the arena. DNS is hostile: sizes are limited before anything is decoded.
 */
#pragma once

#include "common/proto/dkim_signature.h"

/* Most octets of a record, and of the key in it: RSA of 4096 bits needs 550. */
#define DKIM_KEY_RECORD_MOST 8192
#define DKIM_KEY_MOST 1024

struct dkim_key {
	enum dkim_algorithm algorithm;
	struct slice octets; /* p=, decoded */
	bool is_testing;     /* t=y */
	bool is_strict;      /* t=s: the domain of i= must be d= itself */
};

/*
 * Reads a record. ERR_NOT_FOUND: this is no key record (another TXT); ERR_DENIED: revoked (p= is empty); ERR_UNSUPPORTED:
 * a key that is not for mail or of another kind, or that does not allow SHA-256; ERR_SYNTAX, ERR_TOO_BIG: broken.
 */
MUST_CHECK int dkim_key_parse(struct arena *a, struct slice record, struct dkim_key *key_out);
/* May this key check that signature? NULL, or why not (a fixed text). */
const char *dkim_key_refuses(const struct dkim_key *key, const struct dkim_signature *sig);
/* Appends "SELECTOR._domainkey.DOMAIN". */
void dkim_key_name(struct slice selector, struct slice domain, struct buf *out);
/* Appends the record of a public key: "v=DKIM1; k=rsa; p=...". octets: of a SubjectPublicKeyInfo, of Ed25519 the 32. */
void dkim_key_write(enum dkim_algorithm algorithm, struct slice octets, struct buf *out);
