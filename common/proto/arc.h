/*
 * The Authenticated Received Chain of a message (RFC 8617): its sets gathered and checked for structure, and the octets
 * that a seal covers. Pure; views of the header block. All faults of a chain are for good (section 5.2.1).
 */
#pragma once

#include "common/proto/dkim_fields.h"

/* RFC 8617 section 4.2.1. */
#define ARC_SETS_MOST 50

struct arc_set {
	const struct header_field *results; /* ARC-Authentication-Results */
	const struct header_field *message; /* ARC-Message-Signature */
	const struct header_field *seal;    /* ARC-Seal */
	struct dkim_signature message_signature, seal_signature;
};

struct arc_chain {
	unsigned count;        /* sets, instances 1 to count; 0: no chain */
	bool is_marked_failed; /* the newest seal says cv=fail: nobody goes on with it */
	struct arc_set sets[ARC_SETS_MOST];
};

/* Gathers the chain and checks its structure (section 5.2, steps 1 to 3). ERR_SYNTAX: there is one, and it is broken;
 * *why_out, if not NULL, is a fixed text. The count is the highest instance seen then. */
MUST_CHECK int arc_gather(
	struct arena *a, const struct dkim_fields *fields, struct arc_chain *chain_out, const char **why_out);
/* Gives what the seal of this instance covers to the sink: sets from `first` to instance, its own seal without b= last
 * (section 5.1.1). first is 1; for a chain that failed, instance (section 5.1.2). */
void arc_give_seal(
	const struct arc_chain *chain, unsigned first, unsigned instance, dkim_sink_fn *sink, void *arg);
