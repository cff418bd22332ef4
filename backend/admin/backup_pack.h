/*
 * The bodies of a backup: compressed as they stand in the store, in files that are written once.
 *
 *	packs/NNNNNN      bodies one after the other: head, frames' lengths and sums, the compressed stream
 *	index/IDENTITY    for each blob number of a slot: where its body stands, its sum, a check; rows of 24 octets, sparse
 *
 * A body's place is its number in the accounts' streams: pack << 40 | offset. Every run writes packs of its own, and the index
 * after they are on disk, so a run that is cut leaves all earlier ones as they were. One thread at a time.
 */
#pragma once

#include "backend/store/store_blob.h"
#include "common/base/buf.h"

#define BACKUP_PACK_SIZE (UINT64_C(256) << 20)
#define BACKUP_PACKS_MAX (1u << 24)

struct backup_pack;

/* dir is a descriptor of the backup's folder, borrowed. For writing or reading. */
MUST_CHECK int backup_pack_open(int dir, struct backup_pack **pack_out);
/* Accepts NULL, sets NULL. */
void backup_pack_close(struct backup_pack **pack);

/* ---- writing ---- */

/* Blobs of this slot come next. */
MUST_CHECK int backup_pack_slot(struct backup_pack *pack, uint64_t identity);
/* A step of store_export_options.keep: gathers in memory; 1 (STORE_EXPORT_AGAIN): flush, then call again. */
MUST_CHECK int backup_pack_keep(struct backup_pack *pack, struct store_txn *txn, uint64_t blob,
	uint64_t *body_out, uint64_t *sum_out);
/* What was gathered is written; without a transaction. */
MUST_CHECK int backup_pack_flush(struct backup_pack *pack);
/* All of it is on disk, then the index knows it. */
MUST_CHECK int backup_pack_sync(struct backup_pack *pack);
/* Bodies and octets written since the opening. */
void backup_pack_written(const struct backup_pack *pack, uint64_t *bodies_out, uint64_t *bytes_out);

/* ---- reading ---- */

/* A store_kept_fn. */
MUST_CHECK int backup_pack_source(
	void *pack, uint64_t body, uint64_t size, uint64_t sum, struct store_source *source_out);
/* Removes the packs that are not marked in `used` (by number, BACKUP_PACKS_MAX bits); count_out: how many. */
MUST_CHECK int backup_pack_remove_unused(struct backup_pack *pack, const uint8_t *used, unsigned *count_out);
static inline uint32_t backup_pack_number(uint64_t body)
{
	return (uint32_t)(body >> 40);
}
