/*
 * Records of SPF (RFC 7208): which TXT record is one, and its grammar (section 4.6.1, 5, 6, 7.1), held against strictly. What has
 * passed here has only the syntax of the RFC, with limits of our own on top, so that the library that evaluates it gets nothing
 * else; `exp=` and unknown modifiers, which say nothing about the result, are left out of what it gets.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SPF_RECORD_MOST 4096 /* octets of a record */
#define SPF_RECORD_TERMS_MOST 128
#define SPF_RECORD_SPEC_MOST 253  /* octets of one domain-spec */
#define SPF_RECORD_MACROS_MOST 16 /* macros of one domain-spec */

enum spf_record_kind {
	SPF_RECORD_ALL,
	SPF_RECORD_INCLUDE,
	SPF_RECORD_A,
	SPF_RECORD_MX,
	SPF_RECORD_PTR,
	SPF_RECORD_IP4,
	SPF_RECORD_IP6,
	SPF_RECORD_EXISTS,
	SPF_RECORD_REDIRECT,
	SPF_RECORD_EXP,
	SPF_RECORD_OTHER /* a modifier that nobody knows */
};

struct spf_record_term {
	enum spf_record_kind kind;
	struct slice text;        /* whole, with its qualifier; view */
	struct slice spec;        /* the domain-spec; empty: none */
	char qualifier;           /* of a mechanism */
	uint8_t length4, length6; /* prefix lengths */
};

struct spf_record {
	size_t count;
	struct spf_record_term terms[SPF_RECORD_TERMS_MOST];
	bool has_sender_macros; /* %{s}, %{l}, %{o} or %{h}: the result depends on more than domain and address */
};

/* Is this text an SPF record at all: "v=spf1", then a blank or the end (section 4.5)? */
bool spf_record_is_one(struct slice text);
/*
 * Reads a text that is one. ERR_SYNTAX: it breaks the grammar; ERR_TOO_BIG: a limit above; *why_out then is a constant text, and *term_out
 * (which may be NULL) the term. Views of the text.
 */
MUST_CHECK int spf_record_parse(
	struct slice text, struct spf_record *record_out, const char **why_out, struct slice *term_out);
/* What macros mean in a check. */
struct spf_record_values {
	bool is_ip6;         /* of the client */
	struct slice sender; /* local@domain */
	struct slice helo;
	struct slice domain; /* whose record this is */
};

/*
 * Appends the record as the checker gets it: "v=spf1", the mechanisms up to `all` that can match such a client, and, where there is
 * no `all`, the redirection last. The terms of the record are then those that were written, in that order.
 *
 * What the library has wrong is written another way. It knows no prefix of length 0: ip4 and ip6 with one become `all`, a and mx get
 * SPF_RECORD_ANY behind their domain: who is asked for such a name answers that the client's own address is there if there is any.
 * A macro whose number takes all parts loses its first octet: the number goes.
 */
#define SPF_RECORD_ANY ".any-address.invalid"
void spf_record_write(struct spf_record *record, const struct spf_record_values *values, struct buf *out);
