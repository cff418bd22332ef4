/*
 * Authentication-Results (RFC 8601) and the payload that ARC-Authentication-Results has of it (RFC 8617 section 4.1.1): written by
 * one encoder, and read as far as it takes to know fields that claim to be ours. Those are forged when a message comes in from
 * outside, and must go (RFC 8601 section 5), however they are written: with comments, folds, quotes, in another case.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"

#define AUTH_RESULTS_PROPERTIES_MOST 8
#define AUTH_RESULTS_FIELD_MOST (64 * 1024) /* a longer Authentication-Results is taken for forged */

struct auth_results_property {
	const char *ptype;  /* "smtp", "header", "policy", "body" */
	const char *name;   /* "mailfrom", "d" */
	struct slice value; /* a stranger's; addresses are written as such */
};

/* One method's result. Views. */
struct auth_results_one {
	const char *method;   /* "spf", "dkim", "dmarc", "arc", "iprev", "auth" */
	const char *result;   /* "pass" */
	struct slice comment; /* after the result, in parentheses; empty: none */
	struct slice reason;  /* empty: none */
	unsigned count;
	struct auth_results_property properties[AUTH_RESULTS_PROPERTIES_MOST];
};

/* Adds a property; none with an empty value, or beyond AUTH_RESULTS_PROPERTIES_MOST. */
void auth_results_add(struct auth_results_one *one, const char *ptype, const char *name, struct slice value);
/*
 * Appends the whole field, folded, with its CRLF. instance 0: "Authentication-Results"; otherwise "ARC-Authentication-Results" with
 * "i=" and that number. count 0: "none".
 */
void auth_results_write(struct buf *out, unsigned instance, const char *authserv_id,
	const struct auth_results_one *results, size_t count);

/*
 * Is this whole field (name, colon, value, folds) an Authentication-Results that must not come in from outside: its authserv-id is one of
 * ids (NULL-ended; a final dot and the case of letters are of no matter), or cannot be read? Other fields: false.
 */
bool auth_results_is_forged(struct slice field, const char *const *ids);

/*
 * The same for a message that passes by in pieces, cut anywhere: takes such fields out of its header. What comes out depends on
 * nothing but what came in, so a repeat of the same message is the same octets again.
 */
struct auth_results_filter {
	const char *const *ids; /* must live on */
	unsigned removed;       /* fields taken out so far */
	int state, end;         /* private from here */
	bool is_behind_cr;
	struct buf held;
};
void auth_results_filter_init(struct auth_results_filter *f, const char *const *ids);
/* Appends what passes. */
void auth_results_filter_feed(struct auth_results_filter *f, struct slice piece, struct buf *out);
/* The message has ended: appends what was held. Frees. */
void auth_results_filter_end(struct auth_results_filter *f, struct buf *out);
/* Frees, at any time. */
void auth_results_filter_deinit(struct auth_results_filter *f);
