/*
 * Watches: who wants to hear of changes. After a commit the writer marks each watch of the account and posts
 * it to its loop once; what comes until the loop gets to it is gathered in the watch. So a busy mailbox costs
 * an idle session one call per turn of its loop.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"
#include "common/net/loop.h"

/* Mailboxes that one watch remembers at once; beyond, the whole account counts as changed (mailbox 0). */
#define PENDING_MAX 32

struct pending {
	uint32_t mailbox;
	uint64_t modseq;
};

struct account {
	char key[8];
	struct list watches;
};

struct store_watch {
	struct list link; /* in its account, under the lock */
	struct watches *all;
	struct loop *loop;
	store_watch_fn *fn;
	void *arg;
	unsigned slot;
	uint32_t account;
	uint32_t mailbox;
	/* Under the lock. */
	struct pending pending[PENDING_MAX];
	unsigned pending_count;
	bool is_posted;
	bool is_ended;
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

/* On the watch's loop (or the writer's thread without a loop). */
static void deliver(void *arg)
{
	struct store_watch *w = arg;
	struct pending pending[PENDING_MAX];
	unsigned count;
	bool is_ended;

	pthread_mutex_lock(&w->all->lock);
	count = w->pending_count;
	memcpy(pending, w->pending, count * sizeof(*pending));
	w->pending_count = 0;
	is_ended = w->is_ended;
	/* Stays posted while its functions run: unwatching in one of them must not free it under us. */
	pthread_mutex_unlock(&w->all->lock);
	for (unsigned i = 0; i < count && !is_ended; i++) {
		w->fn(w->arg, w->account, pending[i].mailbox, pending[i].modseq);
		pthread_mutex_lock(&w->all->lock);
		is_ended = w->is_ended;
		pthread_mutex_unlock(&w->all->lock);
	}
	pthread_mutex_lock(&w->all->lock);
	w->is_posted = false;
	is_ended = w->is_ended;
	if (!is_ended && w->pending_count && w->loop) {
		w->is_posted = true;
		loop_post(w->loop, deliver, w);
	}
	pthread_mutex_unlock(&w->all->lock);
	if (is_ended)
		free(w);
}

/* Remembers a change; true when the watch has to be posted. */
static bool note(struct store_watch *w, const struct store_note *n)
{
	unsigned i = 0;

	if (w->mailbox && n->mailbox != w->mailbox)
		return false;
	while (i < w->pending_count && w->pending[i].mailbox != n->mailbox)
		i++;
	if (i < PENDING_MAX) {
		w->pending[i] = (struct pending){n->mailbox, n->modseq};
		w->pending_count += i == w->pending_count;
	} else {
		w->pending[0] = (struct pending){0, n->modseq};
		w->pending_count = 1;
	}
	if (w->is_posted)
		return false;
	w->is_posted = true;
	return true;
}

void watches_tell(struct watches *all, unsigned slot, const struct store_note *notes, size_t count)
{
	struct store_watch *direct[16];
	size_t direct_count = 0;
	char room[8];

	pthread_mutex_lock(&all->lock);
	for (size_t i = 0; i < count && all->count; i++) {
		struct account *a = table_get(all->accounts,
			make_key(slot | notes[i].shared_with << SHARED_SHIFT, notes[i].account, room));

		if (!a)
			continue;
		list_for_each (at, &a->watches) {
			struct store_watch *w = container_of(at, struct store_watch, link);

			if (!note(w, &notes[i]))
				continue;
			if (w->loop)
				loop_post(w->loop, deliver, w);
			else if (direct_count < ARRAY_LEN(direct))
				direct[direct_count++] = w;
			else
				w->is_posted = false; /* told with its next change */
		}
	}
	if (all->on_commit && count) /* sessions wait for theirs; this one has time */
		all->on_commit(all->on_commit_arg, slot, notes, count);
	pthread_mutex_unlock(&all->lock);
	for (size_t i = 0; i < direct_count; i++)
		deliver(direct[i]);
}

void store_work_on_commit(struct store_work *work, store_commit_fn *fn, void *arg)
{
	pthread_mutex_lock(&work->watches->lock);
	work->watches->on_commit = fn;
	work->watches->on_commit_arg = arg;
	pthread_mutex_unlock(&work->watches->lock);
}

struct store_watch *store_work_watch(struct store_work *work, unsigned slot, uint32_t account,
	uint32_t mailbox, struct loop *loop, store_watch_fn *fn, void *arg)
{
	struct watches *all = work->watches;
	struct store_watch *w = xcalloc(1, sizeof(*w));
	char room[8];
	struct account *a;

	w->all = all;
	w->loop = loop;
	w->fn = fn;
	w->arg = arg;
	w->slot = slot;
	w->account = account;
	w->mailbox = mailbox;
	pthread_mutex_lock(&all->lock);
	a = table_get(all->accounts, make_key(slot, account, room));
	if (!a) {
		a = xcalloc(1, sizeof(*a));
		list_init(&a->watches);
		table_put(all->accounts, make_key(slot, account, a->key), a);
	}
	list_add_last(&a->watches, &w->link);
	all->count++;
	pthread_mutex_unlock(&all->lock);
	return w;
}

struct store_watch *store_work_watch_shared(struct store_work *work, unsigned slot, struct store_who who,
	struct loop *loop, store_watch_fn *fn, void *arg)
{
	return store_work_watch(work, slot | (who.slot + 1) << SHARED_SHIFT, who.account, 0, loop, fn, arg);
}

void store_work_unwatch(struct store_watch **watch)
{
	struct store_watch *w = *watch;
	struct watches *all = w ? w->all : NULL;
	char room[8];
	struct slice key;
	struct account *a;
	bool is_posted;

	if (!w)
		return;
	*watch = NULL;
	key = make_key(w->slot, w->account, room);
	pthread_mutex_lock(&all->lock);
	list_remove(&w->link);
	all->count--;
	a = table_get(all->accounts, key);
	if (a && list_is_empty(&a->watches)) {
		table_remove(all->accounts, key);
		free(a);
	}
	w->is_ended = true;
	is_posted = w->is_posted;
	pthread_mutex_unlock(&all->lock);
	if (!is_posted)
		free(w);
}
