/*
 * Mailboxes of an account: names, counters, keywords, subscriptions.
 *
 * Names are UTF-8 with '/' between levels, 1..STORE_MAILBOX_NAME_MAX bytes, no control characters, no empty
 * level; INBOX is spelt in upper case whatever the caller writes (as a whole name or first level). A mailbox
 * id is unique in its slot for ever and stays through a rename. Functions take the account too, and give
 * ERR_NOT_FOUND for a mailbox of another account: nobody reaches a foreign mailbox by guessing ids.
 */
#pragma once

#include "backend/store/store.h"
#include "common/base/arena.h"

#define STORE_MAILBOX_NAME_MAX 400
#define STORE_MAILBOX_LEVELS_MAX 20
#define STORE_MAILBOXES_MAX 10000 /* per account */
#define STORE_KEYWORDS_MAX 64     /* per mailbox */
#define STORE_KEYWORD_LEN_MAX 100
#define STORE_SEPARATOR '/'

enum store_use {
	STORE_USE_NONE,
	STORE_USE_ARCHIVE,
	STORE_USE_DRAFTS,
	STORE_USE_FLAGGED,
	STORE_USE_JUNK,
	STORE_USE_SENT,
	STORE_USE_TRASH
};

/* A mailbox as one transaction sees it. Name is a view of the transaction, or the arena's in lists. */
struct store_mailbox {
	uint32_t id; /* 0: does not exist, the name is only subscribed */
	uint32_t account;
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t messages;
	uint32_t unseen;      /* messages without \Seen */
	uint32_t deleted;     /* messages with \Deleted */
	uint32_t recent_from; /* UIDs from here on are \Recent for the next session that takes them */
	uint64_t size;        /* sum of message sizes */
	uint64_t modseq;      /* the highest of this mailbox (HIGHESTMODSEQ); at least 1 */
	enum store_use use;
	bool noselect; /* deleted while it had children: a name only */
	bool subscribed;
	bool has_children; /* in lists only */
	struct slice name;
};

/* ---- reading ---- */

/* Brings a name into its stored form in `arena`: Net-Unicode, INBOX in capitals. ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int store_mailbox_normalise(struct slice name, struct arena *arena, struct slice *name_out);
/* By name. A \Noselect name is found (noselect = true). */
MUST_CHECK int store_mailbox_find(
	struct store_txn *txn, uint32_t account, struct slice name, struct store_mailbox *mailbox_out);
/* Are there mailboxes below this name, which is in its stored form? */
MUST_CHECK int store_mailbox_has_children(
	struct store_txn *txn, uint32_t account, struct slice name, bool *has_out);
MUST_CHECK int store_mailbox_get(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_mailbox *mailbox_out);
/*
 * All of the account sorted so that children follow their parent, INBOX first; with names that are only
 * subscribed (id 0). Array and names are the arena's.
 */
MUST_CHECK int store_mailbox_list(struct store_txn *txn, uint32_t account, struct arena *arena,
	struct store_mailbox **mailboxes_out, size_t *count_out);
/* Also of a name that is no mailbox. */
MUST_CHECK int store_mailbox_is_subscribed(
	struct store_txn *txn, uint32_t account, struct slice name, bool *subscribed_out);
/* The keyword names; name i belongs to bit i of store_entry.keywords. Views of the transaction. */
struct store_keywords {
	size_t count;
	struct slice names[STORE_KEYWORDS_MAX];
};
MUST_CHECK int store_mailbox_keywords(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_keywords *keywords_out);
/* Bits of those of the names that exist (without case); unknown names are left out. No write. */
MUST_CHECK int store_mailbox_keyword_bits(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct slice *names, size_t count, uint64_t *bits_out);
/* STATUS RECENT: messages from this UID on. */
MUST_CHECK int store_mailbox_count_recent(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t from, uint32_t *count_out);

/* ---- writing ---- */

/* Creates it with missing parents; also a \Noselect name becomes a mailbox (new UIDVALIDITY). Not subscribed.
 */
MUST_CHECK int store_mailbox_create(struct store_txn *txn, uint32_t account, struct slice name,
	enum store_use use, uint32_t *mailbox_out);
/*
 * RFC 3501 6.3.4: with children the messages go and the name stays \Noselect; ERR_DENIED for INBOX and for
 * a \Noselect name with children. A \Noselect name that lost its last child goes by itself. Messages are
 * removed in steps by store_reap(); the quota is free at once. A subscription stays.
 */
MUST_CHECK int store_mailbox_delete(struct store_txn *txn, uint32_t account, uint32_t mailbox);
/*
 * RFC 3501 6.3.5: children move too, missing parents of the new name are made. INBOX: its messages go to the
 * new name with their UIDs and UIDVALIDITY, and INBOX is empty under a new id and a new UIDVALIDITY; its
 * children stay. ERR_EXISTS: new name (of it or of a child) is taken. ERR_DENIED: into its own children.
 */
MUST_CHECK int store_mailbox_rename(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct slice new_name);
/* RFC 6154: another special use, or STORE_USE_NONE. Told as a change of STORE_METADATA_USE. */
MUST_CHECK int store_mailbox_set_use(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, enum store_use use);
/* Any well-formed name, also one that does not exist. Unsubscribing what is not subscribed is ERR_NOT_FOUND.
 */
MUST_CHECK int store_mailbox_subscribe(
	struct store_txn *txn, uint32_t account, struct slice name, bool subscribed);
/* Makes missing keywords; ERR_TOO_BIG beyond STORE_KEYWORDS_MAX or for a name too long. */
MUST_CHECK int store_mailbox_make_keywords(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct slice *names, size_t count, uint64_t *bits_out);
/*
 * \Recent for the session that selects read-write: gives the first UID that no session took yet (equal to
 * uidnext: none), and takes all. Compare recent_from with uidnext in a read transaction first: equal needs no
 * write.
 */
MUST_CHECK int store_mailbox_take_recent(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *recent_from_out);
