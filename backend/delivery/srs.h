/*
 * The Sender Rewriting Scheme: what is forwarded to another server leaves with a sender of our own domain, so that it passes SPF, and a bounce
 * comes back here and goes on to whom it is meant for.
 *
 *	SRS0=hash=days=domain=local@ours         a sender of his own domain
 *	SRS1=hash=domain=rest@ours               one that the server at `domain` had rewritten: rest is what followed its SRS0
 *
 * hash: the first 40 bits of HMAC-SHA-256 over the rest in lower case, in base 32: an address that nobody here has made is none. days: since 1970,
 * modulo 1024, in base 32, so that old ones end. Local parts keep their case, as far as servers on the way do.
 *
 * Pure but for the keys; any thread.
 */
#pragma once

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SRS_KEYS_MOST 8
#define SRS_KEY_LEAST 16 /* octets */

struct srs;

/* Domain and keys are copied; the first key signs, all are believed. lifetime: days, at most 500. */
struct srs *srs_new(struct slice domain, const struct slice *keys, size_t count, unsigned lifetime_days);
/* Wipes the keys. Accepts NULL, sets NULL. */
void srs_free(struct srs **srs);

/* Appends the new sender, local@domain unquoted. sender: local part and domain, not quoted; the null one is nobody's to rewrite. ERR_DENIED: it
 * is of our domain already. ERR_TOO_BIG: longer than a local part may be. */
MUST_CHECK int srs_forward(
	const struct srs *srs, struct slice local, struct slice domain, int64_t now, struct buf *out);
/* Whose it is: appends local@domain, unquoted. ERR_NOT_FOUND: no such address of ours at all. ERR_DENIED: one, but nobody here has made it.
 * ERR_TIMEOUT: it is too old. */
MUST_CHECK int srs_reverse(
	const struct srs *srs, struct slice local, struct slice domain, int64_t now, struct buf *out);
