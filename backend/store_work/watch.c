/*
 * Watches: who wants to hear of changes. Watches of an account on one loop share a hub. After a commit the writer marks each hub of
 * the account and posts it to its loop once; what comes until the loop gets to it is gathered in the hub, and the loop tells each
 * watch. So a mailbox that thousands watch costs the writer one mark a loop, and a busy one costs an idle session one call per turn
 * of its loop.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"
#include "common/net/loop.h"

/* Mailboxes that one hub remembers at once; beyond, the whole account counts as changed (mailbox 0). */
#define PENDING_MAX 16
/* Watches that are told in one turn of the loop. */
#define TURN_MAX 200

struct pending {
	uint32_t mailbox;
	uint64_t modseq;
};

struct account {
	char key[8];
	struct list hubs;
};

struct hub {
	struct list link; /* in its account, under the lock; alone once it has no watch */
	struct watches *all;
	struct loop *loop;
	char key[8];
	uint32_t account;
	/* Under the lock. */
	struct pending pending[PENDING_MAX];
	uint16_t pending_count;
	bool is_full;   /* the whole account */
	bool is_posted; /* the loop will come by, or is at it */
	/* The loop's. */
	struct list watches;
	struct list *at;             /* the next to be told; NULL: none */
	struct store_watch *current; /* its function runs */
	struct pending *batch;       /* what they are told */
	unsigned batch_count;
	bool is_batch_full;
};

struct store_watch {
	struct list link; /* in its hub, the loop's */
	struct hub *hub;
	store_watch_fn *fn;
	void *arg;
	uint32_t mailbox;
};

struct watches {
	pthread_mutex_t lock;
	struct table *accounts;
	uint64_t count;
	store_commit_fn *on_commit; /* NULL: none */
	void *on_commit_arg;
};

/* In a key, watches of what is shared with somebody stand apart: his slot + 1 above the slot where the ACLs lie. */
#define SHARED_SHIFT 16

static struct slice make_key(unsigned slot, uint32_t account, char *room)
{
	bytes_put_u32be(room, slot);
	bytes_put_u32be(room + 4, account);
	return slice_of(room, 8);
}

struct watches *watches_new(void)
{
	struct watches *w = xcalloc(1, sizeof(*w));

	pthread_mutex_init(&w->lock, NULL);
	w->accounts = table_new();
	return w;
}

void watches_free(struct watches **watches)
{
	struct watches *w = *watches;
	struct slice key;
	void *value;

	if (!w)
		return;
	for (size_t at = 0; table_next(w->accounts, &at, &key, &value);)
		free(value);
	table_free(&w->accounts);
	pthread_mutex_destroy(&w->lock);
	free(w);
	*watches = NULL;
}

uint64_t watches_count(struct watches *w)
{
	uint64_t count;

	pthread_mutex_lock(&w->lock);
	count = w->count;
	pthread_mutex_unlock(&w->lock);
	return count;
}

/* ---- telling ---- */

static void hub_free(struct hub *h)
{
	free(h->batch);
	free(h);
}

/* Takes what has gathered; false: nothing has, or nobody is left, and the hub rests or is gone. */
static bool take_batch(struct hub *h)
{
	bool is_empty = list_is_empty(&h->watches), has;

	pthread_mutex_lock(&h->all->lock);
	has = h->pending_count && !is_empty;
	h->is_posted = has;
	if (has) {
		h->batch = xcalloc(h->pending_count, sizeof(*h->batch));
		memcpy(h->batch, h->pending, h->pending_count * sizeof(*h->batch));
		h->batch_count = h->pending_count;
		h->is_batch_full = h->is_full;
		h->pending_count = 0;
		h->is_full = false;
		h->at = h->watches.next;
	}
	pthread_mutex_unlock(&h->all->lock);
	if (is_empty)
		hub_free(h);
	return has;
}

/* All were told. False: nothing has come meanwhile, or nobody is left, and the hub rests or is gone. */
static bool end_batch(struct hub *h)
{
	bool is_empty = list_is_empty(&h->watches), has;

	free(h->batch);
	h->batch = NULL;
	h->at = NULL;
	pthread_mutex_lock(&h->all->lock);
	h->is_posted = has = h->pending_count && !is_empty;
	pthread_mutex_unlock(&h->all->lock);
	if (is_empty)
		hub_free(h);
	return has;
}

/* Its function may end any watch of the hub, this one too, and begin others, which are not told of this. */
static void tell(struct hub *h, struct store_watch *w)
{
	h->current = w;
	for (unsigned i = 0; i < h->batch_count && h->current == w; i++) {
		struct pending *p = &h->batch[i];

		if (h->is_batch_full && w->mailbox)
			w->fn(w->arg, h->account, w->mailbox, p->modseq);
		else if (!w->mailbox || p->mailbox == w->mailbox)
			w->fn(w->arg, h->account, p->mailbox, p->modseq);
	}
	h->current = NULL;
}

/* On the hub's loop. */
static void deliver(void *arg)
{
	struct hub *h = arg;

	if (!h->batch && !take_batch(h))
		return;
	for (unsigned n = 0; n < TURN_MAX && h->at != &h->watches; n++) {
		struct store_watch *w = container_of(h->at, struct store_watch, link);

		h->at = h->at->next;
		tell(h, w);
	}
	if (h->at != &h->watches || end_batch(h))
		loop_post(h->loop, deliver, h);
}

/* Remembers a change; true when the hub has to be posted. */
static bool note(struct hub *h, const struct store_note *n)
{
	unsigned i = 0;

	while (i < h->pending_count && h->pending[i].mailbox != n->mailbox)
		i++;
	if (h->is_full) {
		h->pending[0].modseq = n->modseq;
	} else if (i < PENDING_MAX) {
		h->pending[i] = (struct pending){n->mailbox, n->modseq};
		h->pending_count += i == h->pending_count;
	} else {
		h->pending[0] = (struct pending){0, n->modseq};
		h->pending_count = 1;
		h->is_full = true;
	}
	if (h->is_posted)
		return false;
	h->is_posted = true;
	return true;
}

void watches_tell(struct watches *all, unsigned slot, const struct store_note *notes, size_t count)
{
	char room[8];

	pthread_mutex_lock(&all->lock);
	for (size_t i = 0; i < count && all->count; i++) {
		struct account *a = table_get(all->accounts,
			make_key(slot | notes[i].shared_with << SHARED_SHIFT, notes[i].account, room));

		if (!a)
			continue;
		list_for_each (at, &a->hubs) {
			struct hub *h = container_of(at, struct hub, link);

			if (note(h, &notes[i]))
				loop_post(h->loop, deliver, h);
		}
	}
	if (all->on_commit && count) /* sessions wait for theirs; this one has time */
		all->on_commit(all->on_commit_arg, slot, notes, count);
	pthread_mutex_unlock(&all->lock);
}

void store_work_on_commit(struct store_work *work, store_commit_fn *fn, void *arg)
{
	pthread_mutex_lock(&work->watches->lock);
	work->watches->on_commit = fn;
	work->watches->on_commit_arg = arg;
	pthread_mutex_unlock(&work->watches->lock);
}

/* ---- beginning and end ---- */

/* The hub of this loop for an account, made if there is none. Under the lock. */
static struct hub *find_hub(struct watches *all, struct slice key, uint32_t account, struct loop *loop)
{
	struct account *a = table_get(all->accounts, key);
	struct hub *h;

	if (!a) {
		a = xcalloc(1, sizeof(*a));
		memcpy(a->key, key.p, sizeof(a->key));
		list_init(&a->hubs);
		table_put(all->accounts, slice_of(a->key, sizeof(a->key)), a);
	}
	list_for_each (at, &a->hubs) {
		h = container_of(at, struct hub, link);
		if (h->loop == loop)
			return h;
	}
	h = xcalloc(1, sizeof(*h));
	h->all = all;
	h->loop = loop;
	h->account = account;
	memcpy(h->key, key.p, sizeof(h->key));
	list_init(&h->watches);
	list_add_last(&a->hubs, &h->link);
	return h;
}

struct store_watch *store_work_watch(struct store_work *work, unsigned slot, uint32_t account,
	uint32_t mailbox, struct loop *loop, store_watch_fn *fn, void *arg)
{
	struct watches *all = work->watches;
	struct store_watch *w = xcalloc(1, sizeof(*w));
	char room[8];

	w->fn = fn;
	w->arg = arg;
	w->mailbox = mailbox;
	pthread_mutex_lock(&all->lock);
	w->hub = find_hub(all, make_key(slot, account, room), account, loop);
	all->count++;
	pthread_mutex_unlock(&all->lock);
	list_add_first(&w->hub->watches, &w->link);
	return w;
}

struct store_watch *store_work_watch_shared(struct store_work *work, unsigned slot, struct store_who who,
	struct loop *loop, store_watch_fn *fn, void *arg)
{
	return store_work_watch(work, slot | (who.slot + 1) << SHARED_SHIFT, who.account, 0, loop, fn, arg);
}

/* The hub's last watch has gone: nobody finds it any more. False: the loop is still to come by, and frees it. */
static bool end_hub(struct hub *h)
{
	struct slice key = slice_of(h->key, sizeof(h->key));
	struct account *a = table_get(h->all->accounts, key);

	list_remove(&h->link);
	if (list_is_empty(&a->hubs)) {
		table_remove(h->all->accounts, key);
		free(a);
	}
	h->pending_count = 0;
	return !h->is_posted;
}

void store_work_unwatch(struct store_watch **watch)
{
	struct store_watch *w = *watch;
	struct hub *h = w ? w->hub : NULL;
	bool is_last, is_free = false;

	if (!w)
		return;
	*watch = NULL;
	if (h->at == &w->link)
		h->at = w->link.next;
	if (h->current == w)
		h->current = NULL;
	list_remove(&w->link);
	free(w);
	is_last = list_is_empty(&h->watches);
	pthread_mutex_lock(&h->all->lock);
	h->all->count--;
	if (is_last)
		is_free = end_hub(h);
	pthread_mutex_unlock(&h->all->lock);
	if (is_free)
		hub_free(h);
}
