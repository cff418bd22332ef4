/*
 * A shard holds its peers in a hash table and in a list by the time of their last connection, the longest silent first. Its lock is
 * never held while anything else is called.
 */
#include "common/net/flow.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define SHARDS 16
#define SHARD_MOST (FLOW_PEERS_MOST / SHARDS)
#define LOOK_MOST 8 /* peers that are looked at to find one to forget */

struct window {
	uint64_t start_ms;
	unsigned before, now; /* in the interval before start_ms, and since */
};

struct peer {
	struct list link;
	uint8_t key[16];
	unsigned open;
	struct window window;
};

struct shard {
	pthread_mutex_t lock;
	struct table *table;
	struct list silent;
};

struct flow {
	atomic_uint refs, open;
	pthread_mutex_t lock; /* limits and window */
	struct flow_limits limits;
	struct window window;
	struct shard shards[SHARDS];
};

/* ---- life ---- */

struct flow *flow_new(void)
{
	struct flow *f = xcalloc(1, sizeof(*f));

	atomic_store(&f->refs, 1);
	pthread_mutex_init(&f->lock, NULL);
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&f->shards[i].lock, NULL);
		f->shards[i].table = table_new();
		list_init(&f->shards[i].silent);
	}
	return f;
}

struct flow *flow_ref(struct flow *f)
{
	if (f)
		atomic_fetch_add(&f->refs, 1);
	return f;
}

void flow_unref(struct flow **flow)
{
	struct flow *f = *flow;

	*flow = NULL;
	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		list_for_each_safe (at, &f->shards[i].silent)
			free(container_of(at, struct peer, link));
		table_free(&f->shards[i].table);
		pthread_mutex_destroy(&f->shards[i].lock);
	}
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void flow_set_limits(struct flow *f, const struct flow_limits *limits)
{
	pthread_mutex_lock(&f->lock);
	f->limits = *limits;
	pthread_mutex_unlock(&f->lock);
}

/* ---- intervals ---- */

static bool window_take(struct window *w, unsigned most, uint64_t interval_ms, uint64_t now_ms)
{
	uint64_t passed, counted;

	/* Loops have times of their own, each as old as its turn. */
	if (now_ms < w->start_ms)
		now_ms = w->start_ms;
	passed = now_ms - w->start_ms;

	if (passed >= 2 * interval_ms) {
		*w = (struct window){.start_ms = now_ms};
	} else if (passed >= interval_ms) {
		w->before = w->now;
		w->now = 0;
		w->start_ms += interval_ms;
	}
	passed = now_ms - w->start_ms;
	/* rounded up: a connection counts until it is wholly outside */
	counted = w->now + (w->before * (interval_ms - passed) + interval_ms - 1) / interval_ms;
	if (counted >= most)
		return false;
	w->now++;
	return true;
}

static void window_give_back(struct window *w)
{
	if (w->now)
		w->now--;
}

/* ---- peers ---- */

/* False: a peer without an address, which is not counted. */
static bool peer_key(const struct addr *addr, uint8_t key_out[16])
{
	struct slice ip = addr_ip(addr);

	memset(key_out, 0, 16);
	if (ip.len == 4) {
		key_out[10] = key_out[11] = 0xff;
		memcpy(key_out + 12, ip.p, 4);
	} else if (ip.len == 16) {
		memcpy(key_out, ip.p, 8);
	}
	return ip.len > 0;
}

static struct shard *shard_of(struct flow *f, const uint8_t key[16])
{
	return &f->shards[hash_bytes(slice_of(key, 16), 0) % SHARDS];
}

static bool make_room(struct shard *s)
{
	unsigned looked = 0;

	if (table_count(s->table) < SHARD_MOST)
		return true;
	list_for_each_safe (at, &s->silent) {
		struct peer *p = container_of(at, struct peer, link);

		if (p->open == 0) {
			table_remove(s->table, slice_of(p->key, sizeof(p->key)));
			list_remove(&p->link);
			free(p);
			return true;
		}
		/* Those with open connections go to the other end, so that the next look finds others. */
		list_remove(&p->link);
		list_add_last(&s->silent, &p->link);
		if (++looked == LOOK_MOST)
			return false;
	}
	return false;
}

static struct peer *find_or_add(struct shard *s, const uint8_t key[16])
{
	struct peer *p = table_get(s->table, slice_of(key, 16));

	if (p) {
		list_remove(&p->link);
	} else {
		if (!make_room(s))
			return NULL;
		p = xcalloc(1, sizeof(*p));
		memcpy(p->key, key, sizeof(p->key));
		table_put(s->table, slice_of(p->key, sizeof(p->key)), p);
	}
	list_add_last(&s->silent, &p->link);
	return p;
}

static enum flow_answer enter_peer(struct flow *f, const struct flow_limits *limits, const struct addr *addr,
	uint64_t now_ms, bool *is_counted_out)
{
	enum flow_answer answer = FLOW_TAKEN;
	uint8_t key[16];
	struct shard *s;
	struct peer *p;

	*is_counted_out = false;
	if ((limits->peer_connections == 0 && limits->peer_new_connections == 0) || !peer_key(addr, key))
		return FLOW_TAKEN;
	s = shard_of(f, key);
	pthread_mutex_lock(&s->lock);
	p = find_or_add(s, key);
	if (p && limits->peer_connections && p->open >= limits->peer_connections)
		answer = FLOW_PEER_CONNECTIONS;
	else if (p && limits->peer_new_connections &&
		 !window_take(&p->window, limits->peer_new_connections, limits->peer_new_interval_ms, now_ms))
		answer = FLOW_PEER_NEW_CONNECTIONS;
	else if (p)
		p->open++;
	*is_counted_out = p && answer == FLOW_TAKEN;
	pthread_mutex_unlock(&s->lock);
	return answer;
}

static void leave_peer(struct flow *f, const struct addr *addr, bool has_not_come)
{
	uint8_t key[16];
	struct shard *s;
	struct peer *p;

	if (!peer_key(addr, key))
		return;
	s = shard_of(f, key);
	pthread_mutex_lock(&s->lock);
	p = table_get(s->table, slice_of(key, 16));
	if (p && p->open)
		p->open--;
	if (p && has_not_come)
		window_give_back(&p->window);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the whole ---- */

enum flow_answer flow_enter(
	struct flow *f, const struct addr *peer, uint64_t now_ms, bool *is_peer_counted_out)
{
	enum flow_answer answer = FLOW_TAKEN;
	struct flow_limits limits;

	pthread_mutex_lock(&f->lock);
	limits = f->limits;
	if (limits.connections && atomic_load(&f->open) >= limits.connections)
		answer = FLOW_CONNECTIONS;
	else if (limits.new_connections &&
		 !window_take(&f->window, limits.new_connections, limits.new_interval_ms, now_ms))
		answer = FLOW_NEW_CONNECTIONS;
	else
		atomic_fetch_add(&f->open, 1);
	pthread_mutex_unlock(&f->lock);
	if (answer != FLOW_TAKEN)
		return answer;
	answer = enter_peer(f, &limits, peer, now_ms, is_peer_counted_out);
	if (answer != FLOW_TAKEN)
		flow_cancel(f, peer, false);
	return answer;
}

void flow_leave(struct flow *f, const struct addr *peer, bool is_peer_counted)
{
	atomic_fetch_sub(&f->open, 1);
	if (is_peer_counted)
		leave_peer(f, peer, false);
}

void flow_cancel(struct flow *f, const struct addr *peer, bool is_peer_counted)
{
	pthread_mutex_lock(&f->lock);
	window_give_back(&f->window);
	pthread_mutex_unlock(&f->lock);
	atomic_fetch_sub(&f->open, 1);
	if (is_peer_counted)
		leave_peer(f, peer, true);
}

unsigned flow_connections(const struct flow *f)
{
	return atomic_load(&f->open);
}

size_t flow_peers(struct flow *f)
{
	size_t count = 0;

	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&f->shards[i].lock);
		count += table_count(f->shards[i].table);
		pthread_mutex_unlock(&f->shards[i].lock);
	}
	return count;
}
