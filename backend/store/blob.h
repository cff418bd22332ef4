/*
 * Private: references to blobs, their removal and reading.
 */
#pragma once

#include "backend/store/record.h"

#define ORPHAN_PENDING 1 /* a draft is at it */
#define ORPHAN_DEAD 2    /* waits for the reaper */

MUST_CHECK int blob_size(struct store_txn *txn, uint64_t blob, uint64_t *size_out);
MUST_CHECK int blob_add_ref(struct store_txn *txn, uint64_t blob, uint64_t *size_out);
/* The last one makes it an orphan for the reaper. */
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
/* Writes the count (above 0), and takes it out of the orphans. */
MUST_CHECK int blob_set_refs(struct store_txn *txn, uint64_t blob, uint32_t refs);
/* Makes the record anew from the pieces, which must decompress to so many bytes. ERR_CORRUPT, ERR_NOT_FOUND. */
MUST_CHECK int blob_rebuild(struct store_txn *txn, uint64_t blob, uint32_t refs, uint64_t size);

/* Checks and decompresses every frame. */
MUST_CHECK int blob_verify(struct store_txn *txn, uint64_t blob, const struct blob_record *r);
