/*
 * The selected mailbox as the client knows it: its UIDs in order (position + 1 is the sequence number), how
 * far changes have been told, and which expunges still wait for a moment at which they may be told (RFC 3501
 * sections 5.5 and 7.4.1). Used by the session's job while one runs, else by its loop.
 */
#pragma once

#include "backend/session/imap_uids.h"
#include "backend/store_work/store_work.h"
#include "common/proto/seqset.h"

struct imap_session;
struct imap_arg;

#define IMAP_VIEW_OWN 32

/* A session claims what it tells of first; others may claim between. With more ranges the oldest are recent no more. */
#define IMAP_VIEW_RECENT 8
struct imap_recent {
	uint32_t from, to;
};

struct imap_view {
	uint32_t mailbox; /* 0: none is selected */
	uint32_t account; /* its owner's */
	unsigned slot;
	int64_t created;      /* when its owner's account was made (struct store_account) */
	unsigned rights;      /* enum imap_right */
	unsigned rights_told; /* what PERMANENTFLAGS spoke of */
	bool is_guest;        /* it is another's: \Seen is one's own, \Recent is the owner's */
	struct store_who who; /* whose \Seen, while is_guest */
	uint32_t uidvalidity;
	struct imap_uids uids;
	struct imap_recent recent[IMAP_VIEW_RECENT]; /* UIDs that are \Recent here; ascending */
	unsigned recent_count;
	uint32_t recent_taken;   /* UIDs below are taken from others already */
	uint64_t modseq;         /* all changes up to here are in the view */
	uint64_t told;           /* and the client has heard of all up to here: lower while expunges wait */
	struct buf expunged;     /* uint32_t UIDs that are gone, but not yet told; ascending */
	struct store_view *hold; /* keeps them readable */
	struct slice *keywords;  /* STORE_KEYWORDS_MAX names, or NULL while there are none */
	unsigned keyword_count;
	unsigned keyword_told; /* so many of them the client has heard of */
	struct arena names;    /* theirs */
	struct {
		uint64_t from, to;
	} own[IMAP_VIEW_OWN]; /* MODSEQs of this command's changes, which the client is not told again
				      */
	unsigned own_count;
	struct buf
		saved; /* what "$" stands for (RFC 5182): struct seqset_range of UIDs, ascending; those that
			     went are in it still */
	bool is_readonly;
	bool hides_recent; /* of a client that enabled IMAP4rev2, which knows no \Recent */
};

/* Content of a buf of uint32_t; NULL while it is empty. */
static inline uint32_t *imap_numbers(const struct buf *b)
{
	return b->data ? (uint32_t *)(void *)(b->data + b->start) : NULL;
}

/* For store_scan_begin_for(): NULL in one's own mailboxes. */
static inline const struct store_who *imap_view_who(const struct imap_view *v)
{
	return v->is_guest ? &v->who : NULL;
}

void imap_view_init(struct imap_view *v);
/* Forgets the mailbox and its memory. */
void imap_view_deinit(struct imap_view *v);

/* In a job: takes all UIDs that are there. */
MUST_CHECK int imap_view_load(struct imap_view *v, struct store_txn *txn, uint32_t uidnext);
/* Sequence number of a UID, 0 if it is not in the view. */
uint32_t imap_view_seq(const struct imap_view *v, uint32_t uid);
uint32_t imap_view_last_uid(const struct imap_view *v);
/*
 * The client is about to hear of these UIDs: those that no other session has told of are \Recent here (RFC 3501 section 2.3.2). Needs the
 * view's hold.
 */
void imap_view_claim(struct imap_view *v, uint32_t from, uint32_t to);
/* A view that changes nothing: all from this UID on are \Recent in it, and for whoever claims them too. */
void imap_view_borrow_recent(struct imap_view *v, uint32_t from);
bool imap_view_is_recent(const struct imap_view *v, uint32_t uid);
/* \Recent messages of this session. */
uint32_t imap_view_recent(const struct imap_view *v);
/* Learns the keywords' names that it does not know yet. */
void imap_view_learn_keywords(struct imap_view *v, const struct store_keywords *keywords);

/* In a job: an entry as this session sees it. ERR_NOT_FOUND. */
MUST_CHECK int imap_view_entry(
	const struct imap_view *v, struct store_txn *txn, uint32_t uid, struct store_entry *entry_out);

/* The messages of "$", as a resolved set of UIDs; a view. */
struct seqset imap_view_saved(const struct imap_view *v);
/* "$" becomes the messages of these UIDs, ascending. */
void imap_view_save(struct imap_view *v, const uint32_t *uids, size_t count);

/* The set of a command, "$" too, as ordered ranges of sequence numbers, in the arena. ERR_SYNTAX: bad form, or a
 * sequence number that does not exist (UIDs that do not exist are left out). */
MUST_CHECK int imap_view_set(const struct imap_view *v, struct slice text, bool is_uid, struct arena *arena,
	struct seqset *seqs_out);
/* The same in place, for a set that is parsed already. */
MUST_CHECK int imap_view_resolve(const struct imap_view *v, struct seqset *set, bool is_uid);
/* The UIDs of a set of sequence numbers, ascending, in the arena; NULL and count 0 when there are none.
 * ERR_TOO_BIG. */
MUST_CHECK int imap_view_uids(const struct imap_view *v, const struct seqset *seqs, struct arena *arena,
	uint32_t **uids_out, size_t *count_out);

/* Writes `(\Seen \Recent $x)`. */
void imap_view_write_flags(const struct imap_view *v, const struct store_entry *entry, struct buf *out);
/* Writes the untagged FLAGS response, and PERMANENTFLAGS. */
void imap_view_write_flag_list(struct imap_view *v, struct buf *out);
/* That, if there are keywords which the client has not heard of: before each FETCH response. */
void imap_view_tell_keywords(struct imap_view *v, struct buf *out);

/* ---- bringing the view up to date: imap_sync.c ---- */

/* A change of one's own that was asked for silently or is shown already. newest: the highest MODSEQ that its
 * messages had before; if the view does not know that one, all of them are told. */
void imap_view_own(struct imap_view *v, uint64_t modseq, uint64_t newest);
/* Reads the changes and tells the client of those it may hear now; then calls done. Needs a selected mailbox.
 * ERR_NOT_FOUND: the mailbox is gone. */
void imap_sync_start(
	struct imap_session *s, bool allow_expunge, void (*done)(struct imap_session *s, int err));
void imap_sync_free(struct imap_session *s);
/* In a job: learns keywords that others have made. */
MUST_CHECK int imap_sync_keywords(struct imap_session *s, struct store_txn *txn);
