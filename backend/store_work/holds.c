/*
 * What the reaper must leave alone: views of mailboxes and pinned blobs. Two tables behind one short lock; an
 * end or a move wakes the reaper of the slot.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define KEY_LEN 12

struct group { /* all views of one mailbox */
	char key[KEY_LEN];
	struct list views;
	uint32_t claimed; /* highest UID that one of them has told of */
};

struct pin {
	char key[KEY_LEN];
	uint64_t count;
};

struct holds {
	pthread_mutex_t lock;
	struct table *groups;
	struct table *pins;
	uint64_t views;
};

struct store_view {
	struct list link;
	struct store_work *work;
	unsigned slot;
	uint32_t mailbox;
	uint64_t modseq;
};

static struct slice make_key(unsigned slot, uint64_t id, char *room)
{
	bytes_put_u32be(room, slot);
	bytes_put_u64be(room + 4, id);
	return slice_of(room, KEY_LEN);
}

struct holds *holds_new(void)
{
	struct holds *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	h->groups = table_new();
	h->pins = table_new();
	return h;
}

void holds_free(struct holds **holds)
{
	struct holds *h = *holds;
	struct slice key;
	void *value;

	if (!h)
		return;
	for (size_t at = 0; table_next(h->groups, &at, &key, &value);)
		free(value);
	for (size_t at = 0; table_next(h->pins, &at, &key, &value);)
		free(value);
	table_free(&h->groups);
	table_free(&h->pins);
	pthread_mutex_destroy(&h->lock);
	free(h);
	*holds = NULL;
}

uint64_t holds_oldest(struct holds *h, unsigned slot, uint32_t mailbox)
{
	char room[KEY_LEN];
	uint64_t oldest = UINT64_MAX;
	struct group *g;

	pthread_mutex_lock(&h->lock);
	g = table_get(h->groups, make_key(slot, mailbox, room));
	if (g)
		list_for_each (at, &g->views) {
			struct store_view *v = container_of(at, struct store_view, link);

			if (v->modseq < oldest)
				oldest = v->modseq;
		}
	pthread_mutex_unlock(&h->lock);
	return oldest;
}

bool holds_is_pinned(struct holds *h, unsigned slot, uint64_t blob)
{
	char room[KEY_LEN];
	bool is_pinned;

	pthread_mutex_lock(&h->lock);
	is_pinned = table_get(h->pins, make_key(slot, blob, room));
	pthread_mutex_unlock(&h->lock);
	return is_pinned;
}

void holds_count(struct holds *h, uint64_t *views_out, uint64_t *pins_out)
{
	pthread_mutex_lock(&h->lock);
	*views_out = h->views;
	*pins_out = table_count(h->pins);
	pthread_mutex_unlock(&h->lock);
}

/* ---- views ---- */

struct store_view *store_work_view(struct store_work *work, unsigned slot, uint32_t mailbox, uint64_t modseq)
{
	struct store_view *v = xcalloc(1, sizeof(*v));
	struct holds *h = work->holds;
	char room[KEY_LEN];
	struct group *g;

	*v = (struct store_view){.work = work, .slot = slot, .mailbox = mailbox, .modseq = modseq};
	pthread_mutex_lock(&h->lock);
	g = table_get(h->groups, make_key(slot, mailbox, room));
	if (!g) {
		g = xcalloc(1, sizeof(*g));
		list_init(&g->views);
		table_put(h->groups, make_key(slot, mailbox, g->key), g);
	}
	list_add_last(&g->views, &v->link);
	h->views++;
	pthread_mutex_unlock(&h->lock);
	return v;
}

void store_work_view_move(struct store_view *v, uint64_t modseq)
{
	bool moved;

	pthread_mutex_lock(&v->work->holds->lock);
	moved = modseq > v->modseq;
	if (moved)
		v->modseq = modseq;
	pthread_mutex_unlock(&v->work->holds->lock);
	if (moved)
		v->work->writers[v->slot].waste = true;
}

uint32_t store_work_view_claim(struct store_view *v, uint32_t from, uint32_t to)
{
	struct holds *h = v->work->holds;
	char room[KEY_LEN];
	struct group *g;

	pthread_mutex_lock(&h->lock);
	g = table_get(h->groups, make_key(v->slot, v->mailbox, room));
	if (from <= g->claimed)
		from = g->claimed + 1;
	if (to > g->claimed)
		g->claimed = to;
	pthread_mutex_unlock(&h->lock);
	return from <= to ? from : 0;
}

uint32_t store_work_claimed(struct store_work *work, unsigned slot, uint32_t mailbox)
{
	struct holds *h = work->holds;
	char room[KEY_LEN];
	const struct group *g;
	uint32_t claimed;

	pthread_mutex_lock(&h->lock);
	g = table_get(h->groups, make_key(slot, mailbox, room));
	claimed = g ? g->claimed : 0;
	pthread_mutex_unlock(&h->lock);
	return claimed;
}

void store_work_view_end(struct store_view **view)
{
	struct store_view *v = *view;
	struct holds *h = v ? v->work->holds : NULL;
	char room[KEY_LEN];
	struct slice key;
	struct group *g;

	if (!v)
		return;
	key = make_key(v->slot, v->mailbox, room);
	pthread_mutex_lock(&h->lock);
	list_remove(&v->link);
	h->views--;
	g = table_get(h->groups, key);
	if (g && list_is_empty(&g->views)) {
		table_remove(h->groups, key);
		free(g);
	}
	pthread_mutex_unlock(&h->lock);
	v->work->writers[v->slot].waste = true;
	free(v);
	*view = NULL;
}

/* ---- pins ---- */

void store_work_pin(struct store_work *work, unsigned slot, uint64_t blob)
{
	struct holds *h = work->holds;
	char room[KEY_LEN];
	struct pin *p;

	pthread_mutex_lock(&h->lock);
	p = table_get(h->pins, make_key(slot, blob, room));
	if (!p) {
		p = xcalloc(1, sizeof(*p));
		table_put(h->pins, make_key(slot, blob, p->key), p);
	}
	p->count++;
	pthread_mutex_unlock(&h->lock);
}

void store_work_unpin(struct store_work *work, unsigned slot, uint64_t blob)
{
	struct holds *h = work->holds;
	char room[KEY_LEN];
	struct slice key = make_key(slot, blob, room);
	struct pin *p;

	pthread_mutex_lock(&h->lock);
	p = table_get(h->pins, key);
	if (p && --p->count == 0) {
		table_remove(h->pins, key);
		free(p);
	}
	pthread_mutex_unlock(&h->lock);
	work->writers[slot].waste = true;
}
