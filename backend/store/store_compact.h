/*
 * Compaction: each slot is copied into a new file without its free pages, the copy is compared with the original row by row,
 * synced, and renamed into its place: the one thing that gives space back to the file system. A crash at any moment leaves the
 * old file or the new one, both whole. The store must be closed, and its lock is held all the time; one slot at a time needs
 * room beside it.
 */
#pragma once

#include "backend/store/store.h"

struct store_compacted {
	uint64_t before, after; /* bytes of the files */
	unsigned slots;         /* done */
};

/* why_out gets a sentence on failure; slots that were done stay done. ERR_FULL: no room for the copy. */
MUST_CHECK int store_compact(const char *dir, struct store_compacted *compacted_out, struct buf *why_out);
