/*
 * A hash table from bytes to pointers. Keys are borrowed: each entry's key must live as long as the entry,
 * usually inside the value. Hashing is seeded at random per table. One thread at a time.
 */
#pragma once

#include "common/base/error.h"
#include "common/base/attr.h"
#include "common/base/slice.h"

struct table;

struct table *table_new(void);
/* Frees the table, not the values. */
void table_free(struct table **t);
size_t table_count(const struct table *t);
/* NULL when absent. */
void *table_get(const struct table *t, struct slice key);
/* Adds or replaces; returns the value that was there before, or NULL. value must not be NULL. */
void *table_put(struct table *t, struct slice key, void *value);
/* Returns the removed value, or NULL. */
void *table_remove(struct table *t, struct slice key);
/* Iteration in no order: start with *at = 0; false at the end. Removing the entry just returned is allowed. */
bool table_next(const struct table *t, size_t *at, struct slice *key_out, void **value_out);

/* Seeded 64-bit hash (xxh3). */
uint64_t hash_bytes(struct slice s, uint64_t seed);
