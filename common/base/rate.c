/*
 * A shard is an open table of entries {hash, time}: a key's entry is one of the WAYS places that its hash names; of these the one
 * whose time is the oldest gives way. So memory is fixed, and no walk is ever needed.
 *
 *	time = when the bucket will be empty. It may be at most `period - interval` ahead; each event adds interval = period / count.
 */
#include "common/base/rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/base/table.h"

#define WAYS 8
#define ROWS (RATE_ENTRIES_MOST / RATE_SHARDS / WAYS)

struct entry {
	uint64_t hash;
	uint64_t empty_us;
};

struct shard {
	pthread_mutex_t lock;
	struct entry *entries; /* made at first use */
};

struct rates {
	uint64_t seed;
	struct shard shards[RATE_SHARDS];
};

struct rates *rates_new(void)
{
	struct rates *r = xcalloc(1, sizeof(*r));

	random_bytes(&r->seed, sizeof(r->seed));
	for (unsigned i = 0; i < RATE_SHARDS; i++)
		pthread_mutex_init(&r->shards[i].lock, NULL);
	return r;
}

void rates_free(struct rates **rates)
{
	struct rates *r = *rates;

	*rates = NULL;
	if (!r)
		return;
	for (unsigned i = 0; i < RATE_SHARDS; i++) {
		free(r->shards[i].entries);
		pthread_mutex_destroy(&r->shards[i].lock);
	}
	free(r);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct rates *shared;

static void make_shared(void)
{
	shared = rates_new();
}

struct rates *rates_shared(void)
{
	pthread_once(&once, make_shared);
	return shared;
}

static struct entry *find(struct shard *s, uint64_t hash)
{
	struct entry *row, *oldest;

	if (!s->entries)
		s->entries = xcalloc(ROWS * WAYS, sizeof(*s->entries));
	row = oldest = &s->entries[(hash >> 8) % ROWS * WAYS];
	for (unsigned i = 0; i < WAYS; i++) {
		if (row[i].hash == hash)
			return &row[i];
		if (row[i].empty_us < oldest->empty_us)
			oldest = &row[i];
	}
	*oldest = (struct entry){hash, 0};
	return oldest;
}

static bool ask(
	struct rates *r, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms, bool counts)
{
	uint64_t hash = hash_bytes(key, r->seed), interval = period_ms * 1000 / count, now = now_ms * 1000,
		 from;
	struct shard *s = &r->shards[hash % RATE_SHARDS];
	struct entry *e;
	bool yes;

	pthread_mutex_lock(&s->lock);
	e = find(s, hash);
	from = e->empty_us > now ? e->empty_us : now;
	yes = from - now <= period_ms * 1000 - interval;
	if (yes && counts)
		e->empty_us = from + interval;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

bool rates_take(struct rates *r, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms)
{
	return ask(r, key, count, period_ms, now_ms, true);
}

bool rates_would_take(struct rates *r, struct slice key, uint64_t count, uint64_t period_ms, uint64_t now_ms)
{
	return ask(r, key, count, period_ms, now_ms, false);
}
