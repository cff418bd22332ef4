/*
 * Shards, each with a lock, a table of what is remembered, and the checks under way.
 *
 *	digest = HMAC-SHA256(key of this process, length and octets of every field)
 *	         octets 0-7: shard and set · 8-23: tag, compared in constant time
 *
 * The table is a fixed array of sets of WAYS places: adding replaces an expired place, else the one that ends first.
 * So the memory is bounded and no clean-up ever runs. Only the digest is kept: neither name nor password.
 *
 * A check under way is a flight; whoever asks the same meanwhile becomes one more of its waiters. The flight's job
 * comes back on the loop that began it; waiters of other loops are told there. A waiter that is cancelled loses its fn
 * and is freed when the flight lands: flights never look at the session of who began them.
 */
#include "common/auth/credential_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/crypto/digest.h"

#define SHARDS 16
#define WAYS 8
#define TAG 16
#define TEXT_MOST 4096 /* octets of all fields together; a longer credential is not remembered */

struct place {
	uint8_t tag[TAG];
	uint64_t ends_ms; /* 0: free */
};

struct shard {
	pthread_mutex_t lock;
	struct place *places;
	struct list flights;
};

struct credential_cache {
	_Atomic unsigned refs; /* the owner's and one for each flight */
	struct shard shards[SHARDS];
	size_t sets; /* of each shard; a power of two */
	_Atomic uint64_t lifetime_ms;
	uint8_t key[DIGEST_SHA256_LEN];
	struct metric *hits, *misses, *joined;
};

struct flight {
	struct list link;
	struct list waiters;
	struct credential_cache *cache;
	uint8_t digest[DIGEST_SHA256_LEN];
	struct loop *loop;
};

struct credential_check {
	struct list link;
	struct loop *loop;
	password_fn *fn; /* NULL: cancelled; touched on the loop alone */
	void *arg;
	int verdict;
};

/* ---- the key ---- */

static bool text_add(char *text, size_t *len, struct slice field)
{
	uint32_t n = (uint32_t)field.len;

	if (field.len > TEXT_MOST || *len + sizeof(n) + field.len > TEXT_MOST)
		return false;
	memcpy(text + *len, &n, sizeof(n));
	*len += sizeof(n);
	if (field.len)
		memcpy(text + *len, field.p, field.len);
	*len += field.len;
	return true;
}

/* False if the credential is too long to be remembered. */
static bool credential_digest(
	const struct credential_cache *cache, const struct credential *c, uint8_t *digest_out)
{
	char text[TEXT_MOST];
	size_t len = 0;
	bool fits = text_add(text, &len, c->realm) && text_add(text, &len, c->service) &&
		    text_add(text, &len, slice_of(&c->generation, sizeof(c->generation))) &&
		    text_add(text, &len, c->user) && text_add(text, &len, c->stored) &&
		    text_add(text, &len, c->password);

	if (fits)
		digest_hmac(DIGEST_SHA256, slice_of(cache->key, sizeof(cache->key)), slice_of(text, len),
			digest_out);
	secret_wipe(text, len);
	return fits;
}

static struct shard *shard_of(struct credential_cache *cache, const uint8_t *digest)
{
	return &cache->shards[digest[7] % SHARDS];
}

static struct place *set_of(struct credential_cache *cache, const uint8_t *digest)
{
	uint64_t n;

	memcpy(&n, digest, sizeof(n));
	return shard_of(cache, digest)->places + (n & (cache->sets - 1)) * WAYS;
}

/* ---- the table ---- */

struct credential_cache *credential_cache_new(uint64_t lifetime_ms, size_t entries)
{
	struct credential_cache *cache = xcalloc(1, sizeof(*cache));

	cache->sets = 1;
	while (cache->sets * WAYS * SHARDS < entries)
		cache->sets *= 2;
	atomic_init(&cache->refs, 1);
	atomic_init(&cache->lifetime_ms, lifetime_ms);
	random_bytes(cache->key, sizeof(cache->key));
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&cache->shards[i].lock, NULL);
		list_init(&cache->shards[i].flights);
		cache->shards[i].places = xcalloc(cache->sets * WAYS, sizeof(struct place));
	}
	cache->hits = metrics_counter(
		"mailtier_auth_credential_hits", NULL, "Logins whose credential was remembered");
	cache->misses = metrics_counter(
		"mailtier_auth_credential_misses", NULL, "Logins whose credential had to be checked");
	cache->joined = metrics_counter("mailtier_auth_credential_joined", NULL,
		"Logins that waited for the same check already under way");
	return cache;
}

static void cache_unref(struct credential_cache *cache)
{
	if (atomic_fetch_sub_explicit(&cache->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_destroy(&cache->shards[i].lock);
		free(cache->shards[i].places);
	}
	secret_wipe(cache->key, sizeof(cache->key));
	free(cache);
}

void credential_cache_free(struct credential_cache **cache)
{
	if (*cache)
		cache_unref(*cache);
	*cache = NULL;
}

void credential_cache_set_lifetime(struct credential_cache *cache, uint64_t lifetime_ms)
{
	atomic_store(&cache->lifetime_ms, lifetime_ms);
}

void credential_cache_flush(struct credential_cache *cache)
{
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &cache->shards[i];

		pthread_mutex_lock(&s->lock);
		memset(s->places, 0, cache->sets * WAYS * sizeof(struct place));
		pthread_mutex_unlock(&s->lock);
	}
}

static struct place *place_find(struct place *set, const uint8_t *digest)
{
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].ends_ms && secret_is_equal(slice_of(set[i].tag, TAG), slice_of(digest + 8, TAG)))
			return &set[i];
	}
	return NULL;
}

static bool digest_has(struct credential_cache *cache, const uint8_t *digest)
{
	struct shard *s = shard_of(cache, digest);
	struct place *p;
	bool has;

	pthread_mutex_lock(&s->lock);
	p = place_find(set_of(cache, digest), digest);
	has = p && p->ends_ms > clock_mono_ms();
	pthread_mutex_unlock(&s->lock);
	return has;
}

static void digest_add_locked(struct credential_cache *cache, const uint8_t *digest)
{
	uint64_t lifetime = atomic_load(&cache->lifetime_ms);
	struct place *set = set_of(cache, digest);
	struct place *p = place_find(set, digest);

	if (!lifetime)
		return;
	if (!p) {
		p = &set[0];
		for (size_t i = 1; i < WAYS; i++) {
			if (set[i].ends_ms < p->ends_ms)
				p = &set[i];
		}
	}
	memcpy(p->tag, digest + 8, TAG);
	p->ends_ms = clock_mono_ms() + lifetime;
}

bool credential_cache_has(struct credential_cache *cache, const struct credential *c)
{
	uint8_t digest[DIGEST_SHA256_LEN];

	return credential_digest(cache, c, digest) && digest_has(cache, digest);
}

void credential_cache_add(struct credential_cache *cache, const struct credential *c)
{
	uint8_t digest[DIGEST_SHA256_LEN];
	struct shard *s;

	if (!credential_digest(cache, c, digest))
		return;
	s = shard_of(cache, digest);
	pthread_mutex_lock(&s->lock);
	digest_add_locked(cache, digest);
	pthread_mutex_unlock(&s->lock);
}

/* ---- checking ---- */

/* A stored text that is bad says neither yes nor no. */
static int three_valued(int verdict)
{
	return verdict == 0 || verdict == ERR_DENIED ? verdict : ERR_NOT_NOW;
}

static void waiter_tell(void *arg)
{
	struct credential_check *w = arg;
	password_fn *fn = w->fn;
	void *fn_arg = w->arg;
	int verdict = three_valued(w->verdict);

	free(w);
	if (fn)
		fn(fn_arg, verdict);
}

/* Ends and frees a flight: nobody can join it after this; its waiters move to `waiters`. */
static void flight_end(struct flight *f, int verdict, struct list *waiters)
{
	struct shard *s = shard_of(f->cache, f->digest);

	list_init(waiters);
	pthread_mutex_lock(&s->lock);
	list_remove(&f->link);
	list_move_all(waiters, &f->waiters);
	if (verdict == 0)
		digest_add_locked(f->cache, f->digest);
	pthread_mutex_unlock(&s->lock);
	list_for_each (at, waiters)
		container_of(at, struct credential_check, link)->verdict = verdict;
	cache_unref(f->cache);
	free(f);
}

/* On the loop that began the flight. A told waiter may cancel others of this loop: they stay ours until told.
 */
static void flight_land(void *arg, int verdict)
{
	struct flight *f = arg;
	struct loop *here = f->loop;
	struct list waiters;

	flight_end(f, verdict, &waiters);
	while (!list_is_empty(&waiters)) {
		struct credential_check *w = container_of(waiters.next, struct credential_check, link);

		list_remove(&w->link);
		if (w->loop == here)
			waiter_tell(w);
		else
			loop_post(w->loop, waiter_tell, w);
	}
}

/* Joins or begins the flight of this digest, with w as a waiter. True if it began here and must be started.
 */
static bool flight_join(struct credential_cache *cache, const uint8_t *digest, struct credential_check *w,
	struct flight **flight_out)
{
	struct shard *s = shard_of(cache, digest);
	struct flight *f = NULL;
	bool begun = false;

	pthread_mutex_lock(&s->lock);
	list_for_each (at, &s->flights) {
		struct flight *other = container_of(at, struct flight, link);

		if (secret_is_equal(slice_of(other->digest, sizeof(other->digest)),
			    slice_of(digest, sizeof(other->digest))))
			f = other;
	}
	if (!f) {
		f = xcalloc(1, sizeof(*f));
		f->cache = cache;
		atomic_fetch_add_explicit(&cache->refs, 1, memory_order_relaxed);
		f->loop = w->loop;
		memcpy(f->digest, digest, sizeof(f->digest));
		list_init(&f->waiters);
		list_add_last(&s->flights, &f->link);
		begun = true;
	}
	list_add_last(&f->waiters, &w->link);
	pthread_mutex_unlock(&s->lock);
	*flight_out = f;
	return begun;
}

/* The workers' queue is full: w is answered by the caller; who joined meanwhile hears it on his loop. */
static void flight_fail(struct flight *f, struct credential_check *w)
{
	struct list waiters;

	flight_end(f, ERR_NOT_NOW, &waiters);
	list_remove(&w->link);
	free(w);
	while (!list_is_empty(&waiters)) {
		struct credential_check *other = container_of(waiters.next, struct credential_check, link);

		list_remove(&other->link);
		loop_post(other->loop, waiter_tell, other);
	}
}

/* Without a cache, or beyond what it takes: straight to the workers. */
static void alone_land(void *arg, int verdict)
{
	struct credential_check *w = arg;

	w->verdict = verdict;
	waiter_tell(w);
}

static struct credential_check *waiter_new(struct loop *loop, password_fn *fn, void *arg)
{
	struct credential_check *w = xcalloc(1, sizeof(*w));

	list_init(&w->link);
	w->loop = loop;
	w->fn = fn;
	w->arg = arg;
	return w;
}

static int check_alone(struct work_pool *pool, const struct credential *c, struct credential_check *w)
{
	int error = password_check_start(pool, w->loop, c->stored, c->password, alone_land, w);

	if (error)
		free(w);
	return error;
}

static int check_shared(struct credential_cache *cache, struct work_pool *pool, const struct credential *c,
	const uint8_t *digest, struct credential_check *w)
{
	struct flight *f;
	int error;

	if (!flight_join(cache, digest, w, &f)) {
		metric_add(cache->joined, 1);
		return 0;
	}
	metric_add(cache->misses, 1);
	error = password_check_start(pool, f->loop, c->stored, c->password, flight_land, f);
	if (error)
		flight_fail(f, w);
	return error;
}

int credential_check(struct credential_cache *cache, struct work_pool *pool, struct loop *loop,
	const struct credential *c, password_fn *fn, void *arg, int *verdict_out,
	struct credential_check **check_out)
{
	uint8_t digest[DIGEST_SHA256_LEN];
	struct credential_check *w;
	bool keyed;
	int error;

	if (!password_is_acceptable(c->password)) {
		*verdict_out = ERR_DENIED;
		return 1;
	}
	if (password_is_cheap(c->stored)) {
		*verdict_out = three_valued(password_verify(c->stored, c->password));
		return 1;
	}
	keyed = cache && credential_digest(cache, c, digest);
	if (keyed && digest_has(cache, digest)) {
		metric_add(cache->hits, 1);
		*verdict_out = 0;
		return 1;
	}
	w = waiter_new(loop, fn, arg);
	error = keyed ? check_shared(cache, pool, c, digest, w) : check_alone(pool, c, w);
	if (error) {
		*verdict_out = ERR_NOT_NOW;
		return 1;
	}
	*check_out = w;
	return 0;
}

void credential_check_cancel(struct credential_check **check)
{
	if (*check)
		(*check)->fn = NULL;
	*check = NULL;
}
