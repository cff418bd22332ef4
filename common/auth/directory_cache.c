/*
 *	digest: octets 0-6 choose the set, 7 the shard, 8-23 are compared, in constant time
 *
 * A place owns one block: the entry's fields, and both texts behind them.
 */
#include "common/auth/directory_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/base/table.h"

#define SHARDS 16
#define WAYS 8
#define TAG 16

#define HEAD offsetof(struct directory_cache_entry, account)

struct held {
	size_t account_len, host_len, dn_len; /* with their NULs */
	char head[HEAD];                      /* the entry without its texts */
	char texts[];                         /* account, hosts, DN; each with its NUL */
};

struct place {
	uint8_t tag[TAG];
	uint64_t user, got_ms;
	struct held *held; /* NULL: free */
};

struct shard {
	pthread_mutex_t lock;
	struct place *places;
	size_t count;
};

struct directory_cache {
	struct shard shards[SHARDS];
	size_t sets;
	uint8_t key[DIGEST_SHA256_LEN];
	uint64_t seed;
	_Atomic uint64_t epoch;
};

struct directory_cache *directory_cache_new(size_t entries)
{
	struct directory_cache *c = xcalloc(1, sizeof(*c));

	c->sets = 1;
	while (c->sets * WAYS * SHARDS < entries)
		c->sets *= 2;
	random_bytes(c->key, sizeof(c->key));
	random_bytes(&c->seed, sizeof(c->seed));
	atomic_init(&c->epoch, 1);
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&c->shards[i].lock, NULL);
		c->shards[i].places = xcalloc(c->sets * WAYS, sizeof(struct place));
	}
	return c;
}

static void place_clear(struct shard *s, struct place *p)
{
	if (p->held)
		s->count--;
	free(p->held);
	*p = (struct place){0};
}

void directory_cache_free(struct directory_cache **cache)
{
	struct directory_cache *c = *cache;

	*cache = NULL;
	if (!c)
		return;
	directory_cache_flush(c, slice_of(NULL, 0));
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_destroy(&c->shards[i].lock);
		free(c->shards[i].places);
	}
	secret_wipe(c->key, sizeof(c->key));
	free(c);
}

/* ---- keys ---- */

static void text_add(struct buf *b, struct slice s)
{
	uint64_t n = s.len;

	buf_add(b, &n, sizeof(n));
	buf_add_slice(b, s);
}

/* A cache belongs to one map or service, so that is in the key by the key. */
void directory_cache_key(const struct directory_cache *c, const struct directory_cache_question *q,
	struct directory_cache_key *key_out)
{
	struct buf b = {0};

	(void)buf_reserve(
		&b, 64 + q->service.len + q->name.len + q->password.len); /* so that it never moves */
	buf_add_char(&b, (char)q->wanted);
	text_add(&b, q->service);
	text_add(&b, q->name);
	text_add(&b, q->password);
	digest_hmac(DIGEST_SHA256, slice_of(c->key, sizeof(c->key)), buf_view(&b), key_out->digest);
	key_out->user = hash_bytes(q->name, c->seed);
	secret_wipe(b.data, b.cap);
	buf_deinit(&b);
}

static struct shard *shard_of(struct directory_cache *c, const struct directory_cache_key *key)
{
	return &c->shards[key->digest[7] % SHARDS];
}

static struct place *set_of(struct directory_cache *c, const struct directory_cache_key *key)
{
	uint64_t n;

	memcpy(&n, key->digest, sizeof(n));
	return shard_of(c, key)->places + (n & (c->sets - 1)) * WAYS;
}

static bool is_same(const struct place *p, const struct directory_cache_key *key)
{
	return p->held && secret_is_equal(slice_of(p->tag, TAG), slice_of(key->digest + 8, TAG));
}

static struct place *place_find(struct place *set, const struct directory_cache_key *key)
{
	for (size_t i = 0; i < WAYS; i++) {
		if (is_same(&set[i], key))
			return &set[i];
	}
	return NULL;
}

/* ---- what is held ---- */

uint64_t directory_cache_epoch(struct directory_cache *c)
{
	return atomic_load(&c->epoch);
}

static struct held *held_new(const struct directory_cache_entry *e)
{
	size_t account = strlen(e->account) + 1, host = strlen(e->host) + 1, dn = strlen(e->dn) + 1;
	struct held *h = xmalloc(sizeof(*h) + account + host + dn);

	memcpy(h->head, e, HEAD);
	h->account_len = account;
	h->host_len = host;
	h->dn_len = dn;
	memcpy(h->texts, e->account, account);
	memcpy(h->texts + account, e->host, host);
	memcpy(h->texts + account + host, e->dn, dn);
	return h;
}

static bool is_hit(const struct place *p)
{
	enum directory_cache_kind kind;

	memcpy(&kind, p->held->head + offsetof(struct directory_cache_entry, kind), sizeof(kind));
	return kind == DIRECTORY_CACHE_HIT;
}

/* What gives way in a full set: what was no hit before what was one, the oldest first. */
static struct place *place_least(struct place *set)
{
	struct place *least = &set[0];

	for (size_t i = 1; i < WAYS; i++) {
		bool hit = is_hit(least);

		if (is_hit(&set[i]) == hit ? set[i].got_ms < least->got_ms : hit)
			least = &set[i];
	}
	return least;
}

void directory_cache_put(struct directory_cache *c, const struct directory_cache_key *key, uint64_t epoch,
	uint64_t now_ms, const struct directory_cache_entry *e)
{
	struct shard *s = shard_of(c, key);
	struct place *set = set_of(c, key), *p = NULL;

	pthread_mutex_lock(&s->lock);
	if (epoch == atomic_load(&c->epoch)) {
		p = place_find(set, key);
		for (size_t i = 0; !p && i < WAYS; i++)
			p = set[i].held ? NULL : &set[i];
		if (!p)
			p = place_least(set);
	}
	/* A set full of users has no room for a name that is none's. */
	if (p && !(p->held && is_hit(p) && e->kind != DIRECTORY_CACHE_HIT && !is_same(p, key))) {
		place_clear(s, p);
		memcpy(p->tag, key->digest + 8, TAG);
		p->user = key->user;
		p->got_ms = now_ms;
		p->held = held_new(e);
		s->count++;
	}
	pthread_mutex_unlock(&s->lock);
}

bool directory_cache_get(struct directory_cache *c, const struct directory_cache_key *key,
	struct directory_cache_entry *entry_out, uint64_t *got_ms_out)
{
	struct shard *s = shard_of(c, key);
	struct place *p;

	pthread_mutex_lock(&s->lock);
	p = place_find(set_of(c, key), key);
	if (p) {
		const struct held *h = p->held;

		memcpy(entry_out, h->head, HEAD);
		memcpy(entry_out->account, h->texts, h->account_len);
		memcpy(entry_out->host, h->texts + h->account_len, h->host_len);
		memcpy(entry_out->dn, h->texts + h->account_len + h->host_len, h->dn_len);
		*got_ms_out = p->got_ms;
	}
	pthread_mutex_unlock(&s->lock);
	return p != NULL;
}

void directory_cache_flush(struct directory_cache *c, struct slice name)
{
	uint64_t user = hash_bytes(name, c->seed);

	atomic_fetch_add(&c->epoch, 1);
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];

		pthread_mutex_lock(&s->lock);
		for (size_t j = 0; j < c->sets * WAYS; j++) {
			if (s->places[j].held && (!name.len || s->places[j].user == user))
				place_clear(s, &s->places[j]);
		}
		pthread_mutex_unlock(&s->lock);
	}
}

size_t directory_cache_count(struct directory_cache *c)
{
	size_t n = 0;

	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&c->shards[i].lock);
		n += c->shards[i].count;
		pthread_mutex_unlock(&c->shards[i].lock);
	}
	return n;
}
