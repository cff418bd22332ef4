/*
 * Messages of a mailbox: index entries (what FETCH FLAGS needs), records (what FETCH ENVELOPE needs), bodies.
 *
 * The message as clients see it is the recipient's trace prefix followed by the blob's bytes; sizes and
 * offsets run over both. UIDs and MODSEQs only grow. Expunging takes a message out of the index at once;
 * record and body stay readable by UID until no view is older (backend/store_work registers views,
 * store_reap() removes).
 */
#pragma once

#include "backend/store/store_acl.h"
#include "backend/store/store_blob.h"
#include "backend/store/store_mailbox.h"

#define STORE_TRACE_MAX 4096
#define STORE_UIDL_MAX 70
/* Flag changes and expunges of more messages than this go in several transactions (5 ms rule); so do copies and moves, a message of
 * which takes the writer 1.2 and 1.7 us. */
#define STORE_STEP_MAX 5000
#define STORE_COPY_MAX 2500

enum store_flag {
	STORE_SEEN = 1,
	STORE_ANSWERED = 2,
	STORE_FLAGGED = 4,
	STORE_DELETED = 8,
	STORE_DRAFT = 16,
	STORE_FLAGS_ALL = 31
};

struct store_entry {
	uint32_t uid;
	uint32_t size; /* as the client sees it */
	uint64_t modseq;
	int64_t date; /* INTERNALDATE, seconds since 1970 */
	uint64_t keywords;
	uint8_t flags; /* enum store_flag */
};

/* ---- reading the index ---- */

/*
 * All UIDs of the mailbox, ascending: fn is called for each stretch of UIDs that follow one another without a gap. uidnext is its own, of the same
 * transaction. Chunks of the index that have no gap are not looked into, so that it costs next to nothing where nothing was deleted.
 */
MUST_CHECK int store_message_runs(struct store_txn *txn, uint32_t mailbox, uint32_t uidnext,
	void (*fn)(void *arg, uint32_t from, uint32_t count), void *arg);
/*
 * How many messages stand before the first without \Seen. ERR_NOT_FOUND: all have it. ERR_NOT_NOW: it is not among the first 16,000, nor are all of
 * them among the last 16,000; nobody looks further.
 */
MUST_CHECK int store_message_first_unseen(
	struct store_txn *txn, const struct store_mailbox *mailbox, uint32_t *place_out);
/* The entry of a UID; ERR_NOT_FOUND when expunged or never there. */
MUST_CHECK int store_message_entry(
	struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct store_entry *entry_out);
/*
 * Index entries from a UID on, ascending: store_scan_begin(), store_scan_next() until false,
 * store_scan_end(). An error sticks in scan.error. No write to the mailbox meanwhile.
 */
struct store_scan {
	struct store_txn *txn;
	void *cursor;
	uint32_t mailbox;
	uint32_t uid_from;
	int error;
	const char *chunk;
	uint32_t at;
	uint32_t count;
	bool is_for; /* somebody who is not the owner */
	struct store_seen seen;
};
MUST_CHECK int store_scan_begin(
	struct store_scan *scan, struct store_txn *txn, uint32_t mailbox, uint32_t uid_from);
/* The same as one who is not the owner sees it (store_acl.h); NULL: the owner. */
MUST_CHECK int store_scan_begin_for(struct store_scan *scan, struct store_txn *txn, uint32_t mailbox,
	uint32_t uid_from, const struct store_who *who);
bool store_scan_next(struct store_scan *scan, struct store_entry *entry_out);
void store_scan_end(struct store_scan *scan);

/* ---- reading records ---- */

/* No MODSEQ has this bit. */
#define STORE_EMAIL_OTHER (UINT64_C(1) << 62)

/* Views of the transaction. */
struct store_message {
	uint32_t uid;
	uint64_t blob;
	uint64_t size;     /* trace + blob */
	int64_t date;      /* INTERNALDATE */
	int64_t save_date; /* when it came into this mailbox */
	uint64_t email; /* EMAILID: the same for all copies in the account; 0: stored before there were any;
			   with STORE_EMAIL_OTHER: it came with a copy from another account, and is the same there */
	struct slice trace;
	struct slice uidl;    /* empty: made of the next one and the UID */
	uint32_t uidvalidity; /* of the mailbox when it came there, for that */
	struct store_texts texts;
};
#define STORE_UIDL_MADE 20
/* The UIDL as clients see it: a view of the message, or of room. */
struct slice store_message_uidl(const struct store_message *message, char room[STORE_UIDL_MADE]);
/* Also of a message expunged but not yet reaped. ERR_NOT_FOUND. */
MUST_CHECK int store_message_get(
	struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct store_message *message_out);
/*
 * Records in ascending order of UID, for FETCH over many (one pass of a cursor). Expunged ones that are not
 * yet reaped are among them: go by your own view of UIDs. Same pattern as store_scan.
 */
struct store_walk {
	struct store_txn *txn;
	void *cursor;
	uint32_t mailbox;
	uint32_t uid_from;
	int error;
	bool skip;
};
MUST_CHECK int store_walk_begin(
	struct store_walk *walk, struct store_txn *txn, uint32_t mailbox, uint32_t uid_from);
/* Jumps forward: the next record returned has at least this UID. */
void store_walk_skip(struct store_walk *walk, uint32_t uid);
bool store_walk_next(struct store_walk *walk, struct store_message *message_out);
void store_walk_end(struct store_walk *walk);

/*
 * Bytes from `offset` on of the message as the client sees it, at most len; fewer only at its end (0 there).
 * Verifies checksums of all frames it touches: ERR_CORRUPT. Sequential reading decompresses each frame once.
 */
MUST_CHECK int store_message_read(struct store_txn *txn, const struct store_message *message, uint64_t offset,
	void *data, size_t len, size_t *len_out);

/* ---- what changed since ---- */

/* Arrays are the arena's; UIDs ascending in each. */
struct store_changes {
	uint64_t modseq; /* the mailbox's HIGHESTMODSEQ now: `since` of the next call */
	uint32_t uidnext;
	uint32_t messages;
	uint32_t *added; /* UIDs that came and are still there */
	size_t added_count;
	uint32_t *expunged; /* UIDs that went, among them may be some that came after `since` too */
	size_t expunged_count;
	struct store_entry *changed; /* flags or keywords changed, message still there and not in `added` */
	size_t changed_count;
	bool gone;       /* the mailbox was deleted: nothing else is set */
	bool incomplete; /* the log no longer reaches back to `since`: compare with store_message_runs() */
};
/* Changes of one mailbox after MODSEQ `since`, from the account's change log. Cheap when there are none. */
MUST_CHECK int store_message_changes(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	uint64_t since, struct arena *arena, struct store_changes *changes_out);

/* ---- writing ---- */

struct store_append {
	uint32_t account;
	uint32_t mailbox;
	uint64_t blob; /* from store_draft_finish(), same transaction or before */
	const struct store_texts *texts;
	struct slice trace; /* per recipient, whole lines with CRLF, at most STORE_TRACE_MAX */
	struct slice uidl;  /* empty: made from UIDVALIDITY and UID */
	int64_t date;       /* INTERNALDATE */
	int64_t save_date;
	uint64_t keywords; /* bits of this mailbox */
	uint8_t flags;
	bool ignore_quota;           /* what was promised at RCPT is stored */
	const struct store_who *who; /* whose \Seen it is, if not the owner's; NULL: the owner's */
	uint64_t
		email; /* what a copy from another account keeps (STORE_EMAIL_OTHER); 0: it is a new message */
};
struct store_appended {
	uint32_t uid;
	uint32_t uidvalidity;
	uint64_t modseq;
};
/* ERR_TOO_BIG: over quota; ERR_DENIED: \Noselect. Takes one reference to the blob. */
MUST_CHECK int store_message_append(
	struct store_txn *txn, const struct store_append *append, struct store_appended *appended_out);

enum store_flag_how {
	STORE_FLAGS_REPLACE,
	STORE_FLAGS_ADD,
	STORE_FLAGS_REMOVE
};
struct store_flag_change {
	enum store_flag_how how;
	uint8_t flags;
	uint64_t keywords;
	uint64_t unchanged_since; /* RFC 7162 UNCHANGEDSINCE; UINT64_MAX: none */
	/* the highest MODSEQ that a changed message had before, or 0; may be NULL */
	uint64_t *newest_out;
	uint8_t keep_flags; /* these are left as they are */
	uint64_t keep_keywords;
	const struct store_who
		*who; /* who changes them, if not the owner: his is what he has seen. NULL: the owner */
};
/*
 * Changes the flags of the given UIDs (ascending; missing ones are skipped, as RFC 3501 wants). All changed
 * messages get one new MODSEQ, modseq_out (0: nothing changed). failed_out (may be NULL unless
 * unchanged_since is used): uint32_t UIDs appended that were newer than unchanged_since.
 */
MUST_CHECK int store_message_flag(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const uint32_t *uids, size_t count, const struct store_flag_change *change, struct buf *failed_out,
	uint64_t *modseq_out);
/*
 * Expunges those of the UIDs (ascending) that have \Deleted, or all given when `any`. expunged_out (may be
 * NULL): uint32_t UIDs appended. modseq_out: 0 when nothing went.
 */
MUST_CHECK int store_message_expunge(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const uint32_t *uids, size_t count, bool any, struct buf *expunged_out, uint64_t *modseq_out);
/* UIDs with \Deleted, ascending, at most `room`; count_out is the number written. */
MUST_CHECK int store_message_deleted(
	struct store_txn *txn, uint32_t mailbox, uint32_t *uids, size_t room, size_t *count_out);
/*
 * Copies (or moves: the originals are expunged in the same transaction) the given UIDs, ascending, to another
 * mailbox of the account (a copy may go to the same one). Flags, keywords and INTERNALDATE go along; UIDL is
 * new. pairs_out: pairs of uint32_t (old UID, new UID) appended. All or nothing: ERR_TOO_BIG over quota
 * (copy) or keywords.
 */
MUST_CHECK int store_message_copy(struct store_txn *txn, uint32_t account, uint32_t from,
	const uint32_t *uids, size_t count, uint32_t to, bool move, struct buf *pairs_out);

/* ---- repeat marks: SHA-256 of what was delivered ---- */

#define STORE_MARK_LEN 32
/* ERR_EXISTS when it is there already (its time stays). */
MUST_CHECK int store_mark_add(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN], int64_t now);
MUST_CHECK int store_mark_has(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN], bool *has_out);
/* Absent ones are no error. */
MUST_CHECK int store_mark_remove(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN]);
/* Removes at most `limit` marks older than `before`; count_out may be NULL. */
MUST_CHECK int store_mark_expire(struct store_txn *txn, int64_t before, size_t limit, size_t *count_out);

/* ---- the reaper ---- */

/* What may not be removed yet; asked from the reaping thread. */
struct store_holds {
	/* The lowest MODSEQ that a view of this mailbox has seen; UINT64_MAX without views. */
	uint64_t (*oldest_view)(void *arg, uint32_t mailbox);
	/* A transfer holds this blob. */
	bool (*is_pinned)(void *arg, uint64_t blob);
	void *arg;
};
/*
 * Removes at most `limit` expunged records, orphaned blob pieces, rows of deleted mailboxes and accounts.
 * done_out: nothing is left but what is held. One call is one step of a few milliseconds with limit = 500.
 */
MUST_CHECK int store_reap(
	struct store_txn *txn, const struct store_holds *holds, size_t limit, bool *done_out);
