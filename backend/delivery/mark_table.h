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

/* Takes hold of a mark. True: look it up in the store and put it there. False: other open legs hold it, store
 * without. */
bool mark_table_claim(struct mark_table *table, const uint8_t mark[STORE_MARK_LEN]);
/* Lets go. is_retired: the leg ended in order. True: nobody needs the mark any more, remove it from the
 * store. */
bool mark_table_release(struct mark_table *table, const uint8_t mark[STORE_MARK_LEN], bool is_retired);
size_t mark_table_count(struct mark_table *table);
