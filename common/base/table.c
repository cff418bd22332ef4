/* Open addressing, linear probing, tombstones; at most three quarters in use. */
#include "common/base/table.h"

#include <stdlib.h>
#include <xxhash.h>

#include "common/base/mem.h"
#include "common/base/random.h"

#define TABLE_FIRST 16

struct entry {
	uint64_t hash;
	struct slice key;
	void *value; /* NULL: never used, or removed when key.p is &removed_mark */
};

struct table {
	struct entry *entries;
	size_t size; /* a power of two */
	size_t count;
	size_t used; /* count and tombstones */
	uint64_t seed;
};

static const char removed_mark;

uint64_t hash_bytes(struct slice s, uint64_t seed)
{
	return XXH3_64bits_withSeed(s.p ? s.p : "", s.len, seed);
}

struct table *table_new(void)
{
	struct table *t = xcalloc(1, sizeof(*t));

	random_bytes(&t->seed, sizeof(t->seed));
	t->size = TABLE_FIRST;
	t->entries = xcalloc(t->size, sizeof(*t->entries));
	return t;
}

void table_free(struct table **t)
{
	if (!*t)
		return;
	free((*t)->entries);
	free(*t);
	*t = NULL;
}

size_t table_count(const struct table *t)
{
	return t->count;
}

static bool is_tombstone(const struct entry *e)
{
	return !e->value && e->key.p == &removed_mark;
}

/* The entry of this key, or NULL. */
static struct entry *find(const struct table *t, struct slice key, uint64_t hash)
{
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct entry *e = &t->entries[i];

		if (!e->value && !is_tombstone(e))
			return NULL;
		if (e->value && e->hash == hash && slice_is_equal(e->key, key))
			return e;
	}
}

static void insert_new(struct table *t, struct slice key, uint64_t hash, void *value)
{
	size_t i = hash & (t->size - 1);

	while (t->entries[i].value)
		i = (i + 1) & (t->size - 1);
	if (!is_tombstone(&t->entries[i]))
		t->used++;
	t->entries[i] = (struct entry){hash, key, value};
	t->count++;
}

static void rebuild(struct table *t, size_t size)
{
	struct entry *old = t->entries;
	size_t old_size = t->size;

	t->entries = xcalloc(size, sizeof(*t->entries));
	t->size = size;
	t->count = t->used = 0;
	for (size_t i = 0; i < old_size; i++) {
		if (old[i].value)
			insert_new(t, old[i].key, old[i].hash, old[i].value);
	}
	free(old);
}

void *table_get(const struct table *t, struct slice key)
{
	struct entry *e = find(t, key, hash_bytes(key, t->seed));

	return e ? e->value : NULL;
}

void *table_put(struct table *t, struct slice key, void *value)
{
	uint64_t hash = hash_bytes(key, t->seed);
	struct entry *e = find(t, key, hash);
	void *before;

	require(value);
	if (e) {
		before = e->value;
		e->key = key;
		e->value = value;
		return before;
	}
	if ((t->used + 1) * 4 > t->size * 3)
		rebuild(t, t->count * 2 >= t->size ? t->size * 2 : t->size);
	insert_new(t, key, hash, value);
	return NULL;
}

void *table_remove(struct table *t, struct slice key)
{
	struct entry *e = find(t, key, hash_bytes(key, t->seed));
	void *value;

	if (!e)
		return NULL;
	value = e->value;
	*e = (struct entry){.key = {&removed_mark, 0}};
	t->count--;
	return value;
}

bool table_next(const struct table *t, size_t *at, struct slice *key_out, void **value_out)
{
	while (*at < t->size) {
		struct entry *e = &t->entries[(*at)++];

		if (!e->value)
			continue;
		*key_out = e->key;
		*value_out = e->value;
		return true;
	}
	return false;
}
