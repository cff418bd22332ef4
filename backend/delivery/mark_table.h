/*
 * Which repeat marks are held by deliveries of open legs. The store knows that a mark exists; this table
 * knows whether its leg is still there. A mark whose leg was cut stops a repeat; the same bytes sent at the
 * same time over two open legs are two messages. In memory, one per program, any thread; after a restart all
 * marks in the store count as cut.
 */
#pragma once

#include <stdbool.h>

#include "backend/store/store_message.h"

struct mark_table;

struct mark_table *mark_table_new(void);
void mark_table_free(struct mark_table **table);

enum mark_claim {
	MARK_OWN,   /* held now: look it up in the store, and put it there */
	MARK_HELD,  /* not taken: an open leg holds it, or one that was cut and whose end has not been noticed
		       yet */
	MARK_SHARED /* held now beside an open leg: store without it */
};
/* Takes hold of a mark. is_patient: while others hold it, take nothing, so that the caller may ask again a
 * little later. */
enum mark_claim mark_table_claim(
	struct mark_table *table, const uint8_t mark[STORE_MARK_LEN], bool is_patient);
/*
 * Lets go. is_retired: the leg ended in order. True: nobody needs the mark any more; it is still held until
 * the caller has begun to remove it from the store and says mark_table_forget(), so that nobody looks it up
 * in between.
 */
MUST_CHECK bool mark_table_release(
	struct mark_table *table, const uint8_t mark[STORE_MARK_LEN], bool is_retired);
void mark_table_forget(struct mark_table *table, const uint8_t mark[STORE_MARK_LEN]);
size_t mark_table_count(struct mark_table *table);
