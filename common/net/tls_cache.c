/*
 * One session a key, the newest. The key travels with the SSL as its application data (freed with it), since the server's ticket comes
 * some time after the handshake.
 */
#include "common/net/tls_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/table.h"

struct entry {
	struct list link; /* oldest first */
	SSL_SESSION *session;
	size_t key_len;
	char key[];
};

struct tls_cache {
	pthread_mutex_t lock;
	struct table *table;
	struct list entries;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_index, cache_index;

static void free_key(void *parent, void *p, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	free(p);
}

static struct slice entry_key(const struct entry *e)
{
	return slice_of(e->key, e->key_len);
}

static void drop(struct tls_cache *cache, struct entry *e)
{
	(void)table_remove(cache->table, entry_key(e));
	list_remove(&e->link);
	SSL_SESSION_free(e->session);
	free(e);
}

/* With its context: connections hold that longer than the struct tls which made it. */
static void free_cache(void *parent, void *p, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	struct tls_cache *cache = p;

	(void)parent;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	if (!cache)
		return;
	list_for_each_safe (at, &cache->entries)
		drop(cache, container_of(at, struct entry, link));
	table_free(&cache->table);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

static void init(void)
{
	key_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_key);
	cache_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_cache);
	require(key_index >= 0 && cache_index >= 0);
}

/* OpenSSL calls this with each session that a server gives; 1: the reference is ours. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_cache *cache = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), cache_index);
	const char *key = SSL_get_ex_data(ssl, key_index);
	size_t len = key ? strlen(key) : 0;
	struct entry *e;

	if (!len || !SSL_SESSION_is_resumable(session))
		return 0;
	pthread_mutex_lock(&cache->lock);
	e = table_get(cache->table, slice_of(key, len));
	if (e) {
		SSL_SESSION_free(e->session);
		e->session = session;
	} else {
		if (table_count(cache->table) >= TLS_CACHE_MOST)
			drop(cache, container_of(cache->entries.next, struct entry, link));
		e = xmalloc(sizeof(*e) + len);
		e->session = session;
		e->key_len = len;
		memcpy(e->key, key, len);
		list_add_last(&cache->entries, &e->link);
		(void)table_put(cache->table, entry_key(e), e);
	}
	pthread_mutex_unlock(&cache->lock);
	return 1;
}

struct tls_cache *tls_cache_new(SSL_CTX *ctx)
{
	struct tls_cache *cache = xcalloc(1, sizeof(*cache));

	pthread_once(&once, init);
	pthread_mutex_init(&cache->lock, NULL);
	cache->table = table_new();
	list_init(&cache->entries);
	require(SSL_CTX_set_ex_data(ctx, cache_index, cache) == 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	return cache;
}

void tls_cache_offer(struct tls_cache *cache, SSL *ssl, struct slice key)
{
	SSL_SESSION *session = NULL;
	struct entry *e;

	if (!key.len || key.len > TLS_CACHE_KEY_MOST)
		return;
	require(SSL_set_ex_data(ssl, key_index, slice_copy_str(key)) == 1);
	pthread_mutex_lock(&cache->lock);
	e = table_get(cache->table, key);
	if (e && time(NULL) - SSL_SESSION_get_time(e->session) > TLS_CACHE_AGE_S) {
		drop(cache, e);
		e = NULL;
	}
	if (e && SSL_SESSION_up_ref(e->session) == 1)
		session = e->session;
	pthread_mutex_unlock(&cache->lock);
	if (session) {
		(void)SSL_set_session(ssl, session);
		SSL_SESSION_free(session);
	}
}
