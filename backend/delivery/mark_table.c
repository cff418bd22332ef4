/*
 * An entry lives while at least one open leg holds its mark. `cut` counts legs that ended without order
 * meanwhile: as many repeats may come, and each takes the place of one.
 */
#include "backend/delivery/mark_table.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/table.h"

struct entry {
	uint8_t mark[STORE_MARK_LEN];
	unsigned held, cut;
};

struct mark_table {
	pthread_mutex_t lock;
	struct table *entries;
};

struct mark_table *mark_table_new(void)
{
	struct mark_table *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	t->entries = table_new();
	return t;
}

void mark_table_free(struct mark_table **table)
{
	struct mark_table *t = *table;
	struct slice key;
	void *entry;

	*table = NULL;
	if (!t)
		return;
	for (size_t at = 0; table_next(t->entries, &at, &key, &entry);) {
		table_remove(t->entries, key);
		free(entry);
	}
	table_free(&t->entries);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static struct entry *find(struct mark_table *t, const uint8_t mark[STORE_MARK_LEN])
{
	return table_get(t->entries, slice_of(mark, STORE_MARK_LEN));
}

static void drop(struct mark_table *t, struct entry *e)
{
	table_remove(t->entries, slice_of(e->mark, STORE_MARK_LEN));
	free(e);
}

static enum mark_claim claim(struct mark_table *t, const uint8_t mark[STORE_MARK_LEN], bool is_patient)
{
	struct entry *e = find(t, mark);
	enum mark_claim result = MARK_OWN;

	if (!e) {
		e = xcalloc(1, sizeof(*e));
		memcpy(e->mark, mark, STORE_MARK_LEN);
		table_put(t->entries, slice_of(e->mark, STORE_MARK_LEN), e);
	} else if (e->cut) {
		e->cut--;
	} else if (is_patient) {
		return MARK_HELD;
	} else {
		result = MARK_SHARED;
	}
	e->held++;
	return result;
}

enum mark_claim mark_table_claim(struct mark_table *t, const uint8_t mark[STORE_MARK_LEN], bool is_patient)
{
	enum mark_claim result;

	pthread_mutex_lock(&t->lock);
	result = claim(t, mark, is_patient);
	pthread_mutex_unlock(&t->lock);
	return result;
}

bool mark_table_release(struct mark_table *t, const uint8_t mark[STORE_MARK_LEN], bool is_retired)
{
	struct entry *e;
	bool remove;

	pthread_mutex_lock(&t->lock);
	e = find(t, mark);
	require(e && e->held);
	e->cut += !is_retired;
	remove = e->held == 1 && !e->cut;
	if (!remove && --e->held == 0)
		drop(t, e);
	pthread_mutex_unlock(&t->lock);
	return remove;
}

void mark_table_forget(struct mark_table *t, const uint8_t mark[STORE_MARK_LEN])
{
	struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = find(t, mark);
	require(e && e->held);
	if (--e->held == 0)
		drop(t, e);
	pthread_mutex_unlock(&t->lock);
}

size_t mark_table_count(struct mark_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = table_count(t->entries);
	pthread_mutex_unlock(&t->lock);
	return n;
}
