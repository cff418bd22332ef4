/*
 * Producing FETCH responses for a set of messages (RFC 3501 section 7.4.2): used by FETCH, and by STORE for
 * the flags that it shows. Runs in read jobs of IMAP_BATCH octets or twice as many each, the next one when the client has
 * taken enough; bodies are streamed, never held.
 */
#pragma once

#include "backend/session/imap_core.h"
#include "common/proto/imap_fetch_items.h"
#include "common/proto/imap_partial.h"
#include "common/proto/transfer.h"

struct imap_fetch {
	struct imap_fetch_items items;
	struct seqset seqs;
	uint64_t changed_since; /* 0: all; CHANGEDSINCE of RFC 7162 */
	void (*done)(struct imap_session *s, int err);

	/* where it stands */
	size_t range;
	uint32_t seq;                 /* the next message; 0: begin of the range */
	struct imap_fetch_body *body; /* the next body of the message at hand; NULL: between messages */
	uint64_t offset;              /* of the literal under way */
	uint64_t left;
	struct buf seen; /* uint32_t UIDs that this FETCH has set \Seen on */
	bool is_begun;   /* the message's line is open */
	bool has_item;   /* something stands in it */
	bool is_checked; /* which messages lack \Seen is known */
	bool is_marked;  /* and they have it now */
	bool is_finished;
	bool has_missing; /* some were expunged by others */
	unsigned batches; /* jobs so far; counts to FETCH_LONG */
	size_t batch;     /* octets of a job */
	uint64_t newest;  /* MODSEQ of a message that got \Seen, before */
	struct {
		struct transfer_decoder decoder;
		uint64_t from, at, to; /* of the encoded octets in the message */
		uint64_t size;         /* decoded so far */
		uint64_t skip, left;   /* of the decoded octets, while they are sent */
		bool is_counting, is_sending;
		bool has_nul;
	} binary;
	bool has_unknown_encoding; /* a section could not be decoded: the answer is NO */
	struct arena scratch;
};

/* f (zeroed but items, seqs, changed_since, done) lives in the command's arena and becomes the session's `data`: the first
 * member of whatever was that. imap_fetch_free() before it goes. */
void imap_fetch_start(struct imap_session *s, struct imap_fetch *f);
void imap_fetch_free(struct imap_fetch *f);
/* Where a section lies in the message as clients see it. ERR_NOT_FOUND: it has none. The arena is for the tree. */
MUST_CHECK int imap_fetch_find_section(const struct store_message *m, const struct section *section,
	struct arena *arena, uint64_t *at_out, uint64_t *len_out, enum mime_encoding *encoding_out);
