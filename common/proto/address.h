/*
 * Mail addresses: lists of them as header fields hold them (RFC 5322 section 3.4, RFC 6532, obsolete forms
 * too), and the one normal form under which users, accounts and map entries are compared.
 *
 * The list parser takes whatever it is given: malformed input gives the best guess, never an error. Normal
 * form: local part unquoted, case-folded, NFC; domain as lower-case ASCII (A-labels, IDNA2008), so that one
 * domain has one spelling in keys, logs and on the wire, whoever typed it in whichever script. Pure
 * functions.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

/* Most entries that a list gives; what follows is left out. */
#define ADDRESS_LIST_MAX 10000
/* Most bytes of a normal form. */
#define ADDRESS_MAX 320
#define ADDRESS_DOMAIN_MAX 255

enum address_kind {
	ADDRESS_MAILBOX,
	ADDRESS_GROUP_BEGIN, /* name: the group's; the rest is empty */
	ADDRESS_GROUP_END    /* all is empty */
};

/* Texts without quotes, comments and folds; encoded words stay encoded. A missing text has a NULL pointer. */
struct address {
	enum address_kind kind;
	struct slice name;   /* display name; of "a@b (Name)" the comment */
	struct slice route;  /* obsolete source route: "@a,@b" */
	struct slice local;  /* "" counts as present */
	struct slice domain; /* NULL: the text had none */
};

/*
 * Reads an address list (folds may be in it). Linear. Everything is a copy in the arena. 0, or ERR_TOO_BIG
 * when the arena is full; then nothing is given.
 */
MUST_CHECK int address_parse_list(
	struct arena *a, struct slice text, struct address **list_out, size_t *count_out);

/* A normalised name: user, account or recipient. */
struct address_name {
	struct slice full;   /* local@domain, or local alone; without the detail */
	struct slice local;  /* part of full */
	struct slice domain; /* part of full; empty when the name had none */
	struct slice
		detail; /* what stood between '+' and '@', NFC, its case kept; empty when there was none */
};

/*
 * Brings "Alice+News@Example.COM" to full "alice@example.com", detail "News". A leading '+' splits nothing
 * off. ERR_SYNTAX: no local part, controls, ill-formed UTF-8, a domain that IDNA refuses. ERR_TOO_BIG: beyond
 * ADDRESS_MAX, or the arena is full. ASCII costs no library call.
 */
MUST_CHECK int address_normalise(struct arena *a, struct slice text, struct address_name *name_out);
/* The same without looking for a detail: "a+b@c" stays what it is. */
MUST_CHECK int address_normalise_whole(struct arena *a, struct slice text, struct address_name *name_out);
/* A domain alone: lower-case ASCII. */
MUST_CHECK int address_normalise_domain(struct arena *a, struct slice text, struct slice *domain_out);
