/*
 * What a FETCH asks for (RFC 3501 section 6.4.5; RFC 3516, 7162, 8474, 8514, 8970): from the parser's argument tree to a
 * struct. Memory from the caller's arena. Pure; any thread.
 */
#pragma once

#include "common/proto/imap_parse.h"
#include "common/proto/section.h"

enum imap_fetch_item {
	IMAP_FETCH_UID = 1,
	IMAP_FETCH_FLAGS = 2,
	IMAP_FETCH_INTERNALDATE = 4,
	IMAP_FETCH_SIZE = 8,
	IMAP_FETCH_MODSEQ = 16,
	IMAP_FETCH_ENVELOPE = 32,
	IMAP_FETCH_BODY = 64, /* the structure without extensions */
	IMAP_FETCH_BODYSTRUCTURE = 128,
	IMAP_FETCH_SAVEDATE = 256,
	IMAP_FETCH_EMAILID = 512,
	IMAP_FETCH_THREADID = 1024,
	IMAP_FETCH_PREVIEW = 2048,
	IMAP_FETCH_LAZY = 4096 /* PREVIEW may be NIL where it is not ready */
};
#define IMAP_FETCH_OF_INDEX                                                                                  \
	(IMAP_FETCH_UID | IMAP_FETCH_FLAGS | IMAP_FETCH_INTERNALDATE | IMAP_FETCH_SIZE | IMAP_FETCH_MODSEQ)

/* One BODY[...], BODY.PEEK[...], BINARY[...], BINARY.PEEK[...], BINARY.SIZE[...], RFC822, RFC822.HEADER or
 * RFC822.TEXT. */
struct imap_fetch_body {
	struct imap_fetch_body *next;
	struct section section;
	struct slice *names; /* of HEADER.FIELDS */
	size_t name_count;
	struct slice label; /* ready for the response: `BODY[HEADER.FIELDS (FROM)]<0>`, `RFC822.TEXT`; may
			       hold literals */
	bool is_peek;       /* does not set \Seen */
	bool is_binary;     /* its transfer encoding is to be undone; the section is SECTION_ALL */
	bool is_size;       /* and only the size told */
	bool is_partial;
	uint64_t from; /* of 63 bits (RFC 9051 section 9) */
	uint64_t length;
};

struct imap_fetch_items {
	unsigned items; /* enum imap_fetch_item */
	struct imap_fetch_body *bodies;
	bool sets_seen;
};

/* "(LAZY)": it belongs to the PREVIEW before it. */
bool imap_fetch_items_is_lazy(const struct imap_arg *list);
/* arg: the item (with what belongs to it behind it), macro or list. ERR_SYNTAX; ERR_TOO_BIG: the arena is full. */
MUST_CHECK int imap_fetch_items_parse(
	const struct imap_arg *arg, struct arena *arena, struct imap_fetch_items *items_out);
