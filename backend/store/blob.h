/*
 * Private: references to blobs, their removal and reading.
 */
#pragma once

#include "backend/store/record.h"

#define ORPHAN_PENDING 1 /* a draft is at it */
#define ORPHAN_DEAD 2    /* waits for the reaper */

/* Of the stream of a large one, so much in each piece but the last ones: it fills LMDB's pages. */
#define BLOB_PIECE_SIZE (16 * 4096 - 16)
#define BLOB_KEY 8
#define BLOB_PIECE_KEY 12

/* ---- writing; a piece that is put moves *n to the next ---- */

/* As many as are full; *put_out is their octets. */
MUST_CHECK int blob_put_full_pieces(
	struct store_txn *txn, uint64_t blob, uint32_t *n, struct slice stream, size_t *put_out);
/* All that is left of a stream. */
MUST_CHECK int blob_put_pieces(struct store_txn *txn, uint64_t blob, uint32_t *n, struct slice stream);
/* The record, with its inline_data. */
MUST_CHECK int blob_put_record(
	struct store_txn *txn, uint64_t blob, struct blob_record *r, const struct blob_frame *frames);
/* Record and the whole stream of one that has no pieces yet. */
MUST_CHECK int blob_put_small(struct store_txn *txn, uint64_t blob, struct blob_record *r,
	const struct blob_frame *frames, struct slice stream);

/* ---- references ---- */

MUST_CHECK int blob_size(struct store_txn *txn, uint64_t blob, uint64_t *size_out);
/* All references: those that the record counts, and copies. ERR_CORRUPT. */
MUST_CHECK int blob_refs(
	struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t *refs_out);
MUST_CHECK int blob_add_ref(struct store_txn *txn, uint64_t blob, uint64_t *size_out);
/* The last one makes it an orphan for the reaper. Of one whose record is lost or damaged nothing is counted: it is left to the repair. */
MUST_CHECK int blob_drop_ref(struct store_txn *txn, uint64_t blob);
/* Removes pieces, at most *budget (which it lowers), at last the record and the orphan's row. */
MUST_CHECK int blob_remove(struct store_txn *txn, uint64_t blob, size_t *budget, bool *done_out);
/* Bytes of the message without trace; fewer than len only at the end. */
MUST_CHECK int blob_read(
	struct store_txn *txn, uint64_t blob, uint64_t offset, char *data, size_t len, size_t *len_out);
/* The same of frames from *frame on (which moves) while *read, to which their compressed bytes are added, is below most. */
MUST_CHECK int blob_verify_some(struct store_txn *txn, uint64_t blob, const struct blob_record *r,
	uint32_t *frame, uint64_t *read, uint64_t most);

/* ---- for the repair ---- */

/* Makes it an orphan for the reaper. */
MUST_CHECK int blob_put_dead(struct store_txn *txn, uint64_t blob);
/* Writes the count (above 0) into the record, and takes it out of the orphans. */
MUST_CHECK int blob_set_refs(struct store_txn *txn, uint64_t blob, uint32_t refs);
/* Makes the record anew from the pieces, which must decompress to so many bytes. ERR_CORRUPT, ERR_NOT_FOUND. */
MUST_CHECK int blob_rebuild(struct store_txn *txn, uint64_t blob, uint32_t refs, uint64_t size);

/* Checks and decompresses every frame. */
MUST_CHECK int blob_verify(struct store_txn *txn, uint64_t blob, const struct blob_record *r);
