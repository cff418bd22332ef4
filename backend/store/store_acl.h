/*
 * Who may do what with a mailbox of another account (RFC 4314), and which messages he has seen there.
 *
 * An ACL lies with its mailbox, in the owner's slot. It names accounts by slot and id: a rename leaves it right, and a new
 * account under an old address is nobody that it knows. The owner stands in none: he has all rights. Beside the ACLs an
 * index leads from whom they name to the mailboxes. Functions take a transaction of the owner's slot.
 */
#pragma once

#include "backend/store/store.h"
#include "common/base/arena.h"

#define STORE_ACL_ENTRIES_MAX 500 /* of one mailbox */
#define STORE_ACL_SHARED_MAX                                                                                 \
	10000 /* mailboxes of one slot that name one account; of "anyone" that are listed */

/* RFC 4314 section 2.1, in the order in which they are written. */
enum store_right {
	STORE_RIGHT_LOOKUP = 1 << 0,         /* l */
	STORE_RIGHT_READ = 1 << 1,           /* r */
	STORE_RIGHT_SEEN = 1 << 2,           /* s */
	STORE_RIGHT_WRITE = 1 << 3,          /* w */
	STORE_RIGHT_INSERT = 1 << 4,         /* i */
	STORE_RIGHT_POST = 1 << 5,           /* p */
	STORE_RIGHT_CREATE = 1 << 6,         /* k */
	STORE_RIGHT_DELETE = 1 << 7,         /* x */
	STORE_RIGHT_DELETE_MESSAGE = 1 << 8, /* t */
	STORE_RIGHT_EXPUNGE = 1 << 9,        /* e */
	STORE_RIGHT_ADMIN = 1 << 10,         /* a */
	STORE_RIGHTS_ALL = (1 << 11) - 1
};

/* Letters to rights; "c" is k, "d" is t and e (RFC 4314 section 2.1.1). ERR_SYNTAX: no such right. */
MUST_CHECK int store_acl_parse(struct slice letters, unsigned *rights_out);
/* Appends the letters, with "c" and "d" behind where a member of them is among the rights. */
void store_acl_print(unsigned rights, struct buf *out);

/* An account of any slot; account 0: "anyone", which is every account of the owner's domain. */
struct store_who {
	unsigned slot;
	uint32_t account;
};
struct store_acl_entry {
	struct store_who who;
	uint16_t rights;
	uint16_t denied; /* of "-identifier": taken from what all entries give */
};

/* Room for STORE_ACL_ENTRIES_MAX; count_out 0: nobody but the owner. */
MUST_CHECK int store_acl_get(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	struct store_acl_entry *entries, size_t *count_out);
/* Replaces this one's entry; without rights and denials it goes. ERR_NOT_FOUND: no such mailbox. ERR_TOO_BIG: one of the two
 * limits. */
MUST_CHECK int store_acl_set(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry);
/* What somebody who is not the owner may do. is_near: "anyone" means him too. */
MUST_CHECK int store_acl_rights(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	struct store_who who, bool is_near, unsigned *rights_out);

/* Mailboxes whose ACL names this one, by owner and mailbox; the array is the arena's. At most STORE_ACL_SHARED_MAX. */
struct store_acl_shared {
	uint32_t account;
	uint32_t mailbox;
};
MUST_CHECK int store_acl_shared(struct store_txn *txn, struct store_who who, struct arena *arena,
	struct store_acl_shared **shared_out, size_t *count_out);
/* Those of one owner. */
MUST_CHECK int store_acl_shared_of(struct store_txn *txn, struct store_who who, uint32_t account,
	struct arena *arena, struct store_acl_shared **shared_out, size_t *count_out);

/* Where a step of the two functions below goes on; zero at first. */
struct store_acl_at {
	unsigned part;
	uint32_t account, mailbox;
};
/*
 * An account has gone: it leaves the ACLs of this slot, what it had seen goes, and its own annotations of others' mailboxes. One
 * call is a step of at most `limit` (2 or more) rows; done_out: nothing is left.
 */
MUST_CHECK int store_acl_forget(
	struct store_txn *txn, struct store_who who, size_t limit, struct store_acl_at *at, bool *done_out);
/*
 * An account goes on under another number (it was moved): what it had seen in this slot's mailboxes and its annotations of them
 * are the other's now, who gets its rights as well. Steps as above. Beginning anew does no harm.
 */
MUST_CHECK int store_acl_hand_over(struct store_txn *txn, struct store_who who, struct store_who to,
	size_t limit, struct store_acl_at *at, bool *done_out);

/* Accounts of this slot that have gone and are not yet forgotten in all slots; at most `room`. */
MUST_CHECK int store_acl_gone(struct store_txn *txn, uint32_t *accounts, size_t room, size_t *count_out);
/* This one is. */
MUST_CHECK int store_acl_forgotten(struct store_txn *txn, uint32_t account);

/* ---- what others have seen ---- */

/*
 * \Seen of those who are not the owner: own for each of them, with MODSEQs of its own, in rows of STORE_SEEN_BLOCK UIDs. The
 * owner's is in the index.
 */
#define STORE_SEEN_BLOCK 64

struct store_entry;
/* A reader over one mailbox for one of them, for UIDs in any order, cheap in ascending order. begin, apply, end. */
struct store_seen {
	struct store_txn *txn;
	void *cursor;
	uint32_t mailbox;
	struct store_who who;
	uint32_t first;  /* UIDs of the row at hand: from here, STORE_SEEN_BLOCK of them; UINT32_MAX: none */
	const char *row; /* NULL: nothing was ever seen there */
	size_t len;
};
MUST_CHECK int store_seen_begin(
	struct store_seen *seen, struct store_txn *txn, uint32_t mailbox, struct store_who who);
/* The entry as this one sees it: flags and modseq. */
MUST_CHECK int store_seen_apply(struct store_seen *seen, struct store_entry *entry);
void store_seen_end(struct store_seen *seen);
/* The highest MODSEQ among his changes, 0 without. */
MUST_CHECK int store_seen_modseq(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint64_t *modseq_out);
/* UIDs (ascending) that he has changed after `since`; appended as uint32_t. */
MUST_CHECK int store_seen_changes(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint64_t since, struct buf *uids_out);
/* Messages that are there and that he has not seen. */
MUST_CHECK int store_seen_count(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t *unseen_out);
/* How many stand before the first of them. ERR_NOT_FOUND: there is none. ERR_NOT_NOW: it is not among the first 16,000; nobody looks further. */
MUST_CHECK int store_seen_first(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t *place_out);
