/*
 * The header fields that a signature covers (RFC 6376 sections 3.5 h=, 5.4.2): of each name in h= the last field that
 * was not taken yet, a name without a field being nothing. And what a signer should name. Pure; the index is in the
 * arena, fields are views of the header block.
 */
#pragma once

#include "common/proto/dkim_canon.h"
#include "common/proto/dkim_signature.h"
#include "common/proto/header.h"

/* Most fields of a message, and octets of its header, that signatures are looked into for. */
#define DKIM_FIELDS_MOST 2000
#define DKIM_HEADER_MOST ((size_t)1 << 20)

struct dkim_fields {
	size_t count;
	struct header_field *list; /* from the top */
	uint32_t *hashes;          /* of their names */
	uint32_t *taken;           /* round in which each was last taken */
	uint32_t round;
};

/* Indexes a header block. ERR_TOO_BIG: beyond the limits, or the arena is full. */
MUST_CHECK int dkim_fields_index(struct arena *a, struct slice header, struct dkim_fields *fields_out);
/* Gives the fields of h= to the sink in canonical form, each with CRLF. skip: a field that does not count (the one that
 * holds the signature itself); raw.p NULL: none. */
void dkim_fields_give(struct dkim_fields *fields, struct slice names, bool is_relaxed,
	const struct header_field *skip, dkim_sink_fn *sink, void *arg);
/* How many fields have this name. */
size_t dkim_fields_count(const struct dkim_fields *fields, const char *name);
/* The first field of this name; NULL: none. */
const struct header_field *dkim_fields_find(const struct dkim_fields *fields, const char *name);

/*
 * Appends the h= of a signer: each field there that is worth signing, as often as it is there, and those that a reader
 * sees once more than that, so that nobody adds one (RFC 6376 section 8.15).
 */
void dkim_fields_write(const struct dkim_fields *fields, bool is_arc, struct buf *out);
