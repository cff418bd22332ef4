/*
 * The change log of an account as those outside read it: what happened since a MODSEQ, in order. It keeps the
 * last changes alone; whoever was away for longer is told so.
 */
#pragma once

#include "backend/store/store.h"

enum store_change_kind {
	STORE_CHANGE_ADDED = 1, /* messages */
	STORE_CHANGE_FLAGS,
	STORE_CHANGE_EXPUNGED,
	STORE_CHANGE_CREATED,    /* a mailbox */
	STORE_CHANGE_RENAMED,    /* text: its old name */
	STORE_CHANGE_DELETED,    /* text: its name */
	STORE_CHANGE_SUBSCRIBED, /* or unsubscribed; text: the name */
	STORE_CHANGE_KEYWORDS,
	STORE_CHANGE_METADATA, /* user, text: the entry; mailbox 0: of the account */
	STORE_CHANGE_ACL,      /* of a mailbox */
	STORE_CHANGE_SEEN      /* by one who is not the owner */
};

/* Texts are views; empty in changes that an older program has logged. */
struct store_change {
	uint64_t modseq;
	enum store_change_kind kind;
	uint32_t mailbox;
	uint64_t user; /* as in store_metadata.h */
	struct slice text;
};

/*
 * Calls fn for each change after `since`; its first result that is not 0 ends it and is returned. now_out: the
 * account's MODSEQ, `since` of the next call. incomplete_out: the log does not reach back to `since`; then
 * nothing is called. ERR_NOT_FOUND: no such account.
 */
typedef int store_change_fn(void *arg, const struct store_change *change);
MUST_CHECK int store_change_each(struct store_txn *txn, uint32_t account, uint64_t since, store_change_fn *fn,
	void *arg, uint64_t *now_out, bool *incomplete_out);
