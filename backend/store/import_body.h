/*
 * Private: what all imports share: their write transactions, and a body on its way from records of a stream to a draft. Up to
 * IMPORT_MEMORY of it is gathered in memory, then in an unlinked file in the store's directory.
 */
#pragma once

#include "backend/store/store_import.h"

#define IMPORT_MEMORY ((size_t)4 << 20)

struct import_body {
	struct store *store;
	unsigned slot;
	store_write_fn *write; /* NULL: transactions of our own */
	void *write_arg;
	struct store_press *press;
	struct buf memory;
	int fd; /* -1: all is in memory */
	uint64_t size, want;
};

void import_body_init(
	struct import_body *b, struct store *store, unsigned slot, store_write_fn *write, void *write_arg);
void import_body_deinit(struct import_body *b);
/* fn in a transaction that is committed when it gives 0. */
MUST_CHECK int import_body_write(
	struct import_body *b, int (*fn)(struct store_txn *txn, void *arg), void *arg);
void import_body_begin(struct import_body *b, uint64_t size);
/* ERR_CORRUPT: more than was said. */
MUST_CHECK int import_body_add(struct import_body *b, struct slice bytes);
static inline bool import_body_is_whole(const struct import_body *b)
{
	return b->size == b->want;
}
/*
 * A filled draft of what was gathered, or of another source; a large one has its first pieces on disk. The caller finishes and
 * frees it, or gives it to import_body_drop().
 */
MUST_CHECK int import_body_draft(struct import_body *b, struct store_draft **draft_out);
MUST_CHECK int import_body_draft_of(
	struct import_body *b, const struct store_source *source, struct store_draft **draft_out);
/* Accepts NULL, sets NULL. What was written is left to the reaper, or to the next start. */
void import_body_drop(struct import_body *b, struct store_draft **draft);
