/*
 * What is gone, by UID (RFC 7162 section 3.2.10): VANISHED of a selected mailbox, and VANISHED (EARLIER) of what went before the
 * client came. Within a session's job.
 *
 * The account's change log knows which messages went since a MODSEQ, as far back as it reaches (CHANGE_ROWS_MAX changes). Before
 * that the rule of RFC 7162 section 3.2.6 holds: every UID that the client asks about and that is not there has vanished.
 */
#pragma once

#include "backend/session/imap_core.h"

/* `* VANISHED 1:3,5`, UIDs ascending. */
void imap_vanish_write(const uint32_t *uids, size_t count, struct buf *out);

struct imap_vanish {
	const struct imap_view *view;
	struct seqset known; /* UIDs asked about; resolved */
	uint64_t since;      /* MODSEQ */
	uint32_t floor;      /* up to this UID the client knows all */
};
/* `* VANISHED (EARLIER) …`, nothing if none went. What the view still has is not among them: the client is told of that by the
 * other form. */
MUST_CHECK int imap_vanish_earlier(
	struct imap_session *s, struct store_txn *txn, const struct imap_vanish *v, struct buf *out);

/*
 * The parameter of SELECT: (uidvalidity modseq [known-uids] [(seqs uids)]). ERR_SYNTAX. Sets are parsed into the arena.
 */
struct imap_resync {
	uint32_t uidvalidity; /* 0: not asked for */
	uint64_t modseq;
	bool has_known;
	struct seqset known;
	struct seqset seqs, uids; /* ascending, of the same size; empty: none */
};
MUST_CHECK int imap_vanish_read_resync(
	const struct imap_arg *list, struct arena *arena, struct imap_resync *resync_out);
/* The highest UID of the match data that has the sequence number that the client thinks; 0: none. */
uint32_t imap_vanish_floor(const struct imap_view *view, const struct imap_resync *resync);
