/*
 * Judging messages by a tree of search keys, on a reader thread: index entries first, then the header, then
 * bodies decoded to UTF-8 and folded. One searcher a command; a message at a time.
 */
#pragma once

#include "backend/search/search_index.h"
#include "backend/search/search_text.h"
#include "backend/session/imap_core.h"
#include "common/proto/imap_search_key.h"

/* Resolves sets against the view. ERR_SYNTAX: a sequence number that does not exist; lenient: those are left out
 * (RFC 7377 section 2). */
MUST_CHECK int imap_search_prepare(const struct imap_view *v, struct imap_search_key *key, bool is_lenient);
/* Frees what the keys hold outside the arena. */
void imap_search_free(struct imap_search_key *key);

/* What is kept from one message to the next. Zeroed, then imap_searcher_begin() with the keys that come. */
struct imap_searcher {
	struct search_text *text;
	struct search_index *index; /* NULL: not wanted, or there is none */
	struct buf opened;          /* the envelope's text */
	struct buf envelope;        /* of date and subject */
};
/* v: of the mailbox that is searched, as it will be from now on. */
void imap_searcher_begin(struct imap_searcher *s, const struct imap_search_key *key, struct store *store,
	const struct imap_view *v);
/* A job begins, and ends: nothing of the index stays open between two. */
void imap_searcher_open(struct imap_searcher *s);
void imap_searcher_close(struct imap_searcher *s);
void imap_searcher_deinit(struct imap_searcher *s);

struct imap_search_message {
	const struct imap_view *view;
	struct store_txn *txn;
	const struct store_entry *entry;
	struct store_walk *walk; /* at or before the entry; NULL: none. For records in order */
	struct store_message message;
	bool has_message;
	uint32_t seq;
	int64_t now; /* seconds since 1970: for OLDER and YOUNGER */
};
/* Loads the record, unless that was done. ERR_NOT_FOUND, ERR_CORRUPT. */
MUST_CHECK int imap_search_load(struct imap_search_message *m);
/* 1: it is one, 0: it is none, or ERR_*. */
MUST_CHECK int imap_search_match(
	struct imap_search_message *m, const struct imap_search_key *key, struct imap_searcher *searcher);
