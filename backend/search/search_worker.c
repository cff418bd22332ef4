/*
 *	commits --> dirty mailboxes --> visit: 1. gone? its rows go
 *	sweep  -->                             2. enough new messages? a segment of them
 *	                                       3. many small segments at the end? one of them
 *	                                       4. more than a quarter gone? segments without those
 *
 * All reading of mail is in transactions of STEP_US; a segment's rows are written in one transaction of the index, with
 * the row of the mailbox.
 */
#include "backend/search/search_worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "backend/search/search_build.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/table.h"

#define SHARE_DEFAULT 50
#define NICE 10
/* Commits are gathered for so long before their mailboxes are looked at. */
#define GATHER_MS 200
#define FULL_RETRY_MS 60000
/* So long after a commit mail is being stored: those who store it wait for their answers, and indexing takes a fifth of its share. */
#define CALM_MS 100
#define CALM_SHARES 5
/* More than this, and all mailboxes are looked at. */
#define DIRTY_MAX 100000
#define ACCOUNTS_STEP 64
/* Looking at mailboxes in which there is nothing to do is paid for when it comes to so much. */
#define LOOK_US 4000

struct dirty {
	char key[12]; /* slot, account, mailbox */
	struct dirty *next;
	unsigned slot;
	uint32_t account, mailbox; /* mailbox 0: all of the account */
	bool is_rebuild;
};

struct search_worker {
	struct store_work *work;
	struct store *store;
	unsigned share;
	pthread_t thread;
	pthread_mutex_t lock; /* over what follows up to `builder` */
	pthread_cond_t changed;
	struct table *known; /* of dirty */
	struct dirty *first, **end;
	size_t dirty_count;
	bool must_sweep, must_collect;
	bool is_stopping, is_busy, is_waiting;
	uint64_t stored_at_ms; /* when the last commit of mail was */
	struct search_worker_stat stat;
	struct search_build *builder; /* the thread's own from here on */
	uint64_t full_until_ms;
	uint64_t look_us; /* spent with looking, and not yet paid for */
	struct metric *m_indexed, *m_left_out, *m_segments, *m_waiting, *m_failed, *m_full, *m_octets;
};

/* ---- what waits ---- */

static void put_key(struct dirty *d)
{
	bytes_put_u32be(d->key, d->slot);
	bytes_put_u32be(d->key + 4, d->account);
	bytes_put_u32be(d->key + 8, d->mailbox);
}

/* The lock is held. */
static void add_dirty(
	struct search_worker *w, unsigned slot, uint32_t account, uint32_t mailbox, bool is_rebuild)
{
	struct dirty probe = {.slot = slot, .account = account, .mailbox = mailbox}, *d;

	put_key(&probe);
	d = table_get(w->known, slice_of(probe.key, sizeof(probe.key)));
	if (d) {
		d->is_rebuild |= is_rebuild;
		return;
	}
	if (w->dirty_count >= DIRTY_MAX && !is_rebuild) {
		w->must_sweep = true;
		return;
	}
	d = xcalloc(1, sizeof(*d));
	*d = probe;
	d->is_rebuild = is_rebuild;
	table_put(w->known, slice_of(d->key, sizeof(d->key)), d);
	*w->end = d;
	w->end = &d->next;
	w->dirty_count++;
}

/* On a writer's thread, after its commit. */
static void on_commit(void *arg, unsigned slot, const struct store_note *notes, size_t count)
{
	struct search_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < count; i++) {
		if (notes[i].shared_with)
			continue;
		if (notes[i].mailbox)
			add_dirty(w, slot, notes[i].account, notes[i].mailbox, false);
		else
			w->must_collect = true; /* mailboxes may have gone */
	}
	w->stored_at_ms = clock_mono_ms();
	if (w->is_waiting) /* else it would be woken from its rest for nothing */
		pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static struct dirty *take_dirty(struct search_worker *w)
{
	struct dirty *d;

	pthread_mutex_lock(&w->lock);
	d = w->is_stopping ? NULL : w->first;
	if (d) {
		w->first = d->next;
		if (!w->first)
			w->end = &w->first;
		w->dirty_count--;
		table_remove(w->known, slice_of(d->key, sizeof(d->key)));
	}
	pthread_mutex_unlock(&w->lock);
	return d;
}

/* ---- time ---- */

/* Sleeps unless the end comes; true: it has come. */
static bool rest(struct search_worker *w, uint64_t us)
{
	struct timespec until;
	bool is_stopping;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(us % 1000000) * 1000;
	until.tv_sec += (time_t)(us / 1000000) + until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&w->lock);
	while (!w->is_stopping && us && pthread_cond_timedwait(&w->changed, &w->lock, &until) == 0)
		;
	is_stopping = w->is_stopping;
	pthread_mutex_unlock(&w->lock);
	return is_stopping;
}

/* After a step that took so long: keeps to the share. */
static bool pause_after(void *arg, uint64_t us)
{
	struct search_worker *w = arg;
	unsigned share = w->share;

	pthread_mutex_lock(&w->lock);
	if (share < 100 && clock_mono_ms() - w->stored_at_ms < CALM_MS)
		share = (share + CALM_SHARES - 1) / CALM_SHARES;
	pthread_mutex_unlock(&w->lock);
	return rest(w, us * (100 - share) / share);
}

/* The same for what takes less than a step. */
static void spend(struct search_worker *w, uint64_t began_us)
{
	w->look_us += clock_mono_us() - began_us;
	if (w->look_us < LOOK_US)
		return;
	(void)pause_after(w, w->look_us);
	w->look_us = 0;
}

/* ---- visits ---- */

static void account_for(struct search_worker *w, int err, const struct search_build_done *done)
{
	pthread_mutex_lock(&w->lock);
	w->stat.indexed += done->indexed;
	w->stat.left_out += done->left_out;
	w->stat.segments += done->segments;
	w->stat.failed += err < 0 && err != ERR_CANCELLED;
	w->stat.is_full = err == ERR_FULL;
	pthread_mutex_unlock(&w->lock);
	metric_add(w->m_indexed, (int64_t)done->indexed);
	metric_add(w->m_left_out, (int64_t)done->left_out);
	metric_add(w->m_segments, (int64_t)done->segments);
	metric_add(w->m_failed, err < 0 && err != ERR_CANCELLED);
}

static void visit(struct search_worker *w, unsigned slot, uint32_t account, uint32_t mailbox)
{
	struct search_build_done done = {0};
	uint64_t began = clock_mono_us();
	int err;

	if (w->full_until_ms > clock_mono_ms())
		return; /* a sweep will come */
	err = search_build_mailbox(w->builder, slot, account, mailbox, &done);
	if (err == ERR_UNSUPPORTED)
		return; /* this slot is without an index, which was told */
	account_for(w, err, &done);
	if (done.segments == 0) /* else its steps were paid for */
		spend(w, began);
	if (err == ERR_FULL) {
		log_warn("search", "the text index is full: slot=%u; searches go on without it", slot);
		w->full_until_ms = clock_mono_ms() + FULL_RETRY_MS;
	} else if (err < 0 && err != ERR_CANCELLED) {
		log_warn("search", "cannot index mailbox %u of slot %u: %s", mailbox, slot, error_text(err));
	}
}

static void visit_account(struct search_worker *w, unsigned slot, uint32_t account, bool is_rebuild)
{
	uint64_t began = clock_mono_us();
	uint32_t *ids;
	size_t count;
	int err = is_rebuild ? search_build_forget(w->builder, slot, account) : 0;

	if (is_rebuild)
		w->full_until_ms = 0; /* the operator may have made room */
	if (err == 0)
		err = search_build_list(w->store, slot, account, &ids, &count);
	if (err < 0) {
		if (err != ERR_NOT_FOUND && err != ERR_CANCELLED)
			log_warn("search", "cannot index account %u of slot %u: %s", account, slot,
				error_text(err));
		return;
	}
	if (!is_rebuild)
		spend(w, began);
	for (size_t i = 0; i < count && !rest(w, 0); i++)
		visit(w, slot, account, ids[i]);
	free(ids);
}

struct accounts {
	struct {
		unsigned slot;
		uint32_t id;
	} * list;
	size_t count, room;
};

static bool gather_account(void *arg, const struct store_account *account)
{
	struct accounts *a = arg;

	if (a->count == a->room) {
		a->room = a->room ? a->room * 2 : ACCOUNTS_STEP;
		a->list = xreallocarray(a->list, a->room, sizeof(*a->list));
	}
	a->list[a->count].slot = account->slot;
	a->list[a->count++].id = account->id;
	return true;
}

static void sweep(struct search_worker *w)
{
	struct accounts accounts = {0};

	store_each_account(w->store, gather_account, &accounts);
	for (size_t i = 0; i < accounts.count && !rest(w, 0); i++)
		visit_account(w, accounts.list[i].slot, accounts.list[i].id, false);
	free(accounts.list);
}

static void collect_gone(struct search_worker *w)
{
	for (unsigned i = 0; i < store_slots(w->store); i++) {
		int err = search_build_collect(w->builder, i);

		if (err < 0 && err != ERR_CANCELLED && err != ERR_UNSUPPORTED)
			log_warn("search", "cannot clean the text index of slot %u: %s", i, error_text(err));
	}
}

/* Takes the wish, if there is one. */
static bool take(struct search_worker *w, bool *wish)
{
	bool is_wanted;

	pthread_mutex_lock(&w->lock);
	is_wanted = *wish && !w->is_stopping;
	if (is_wanted)
		*wish = false;
	pthread_mutex_unlock(&w->lock);
	return is_wanted;
}

/* Waits for something to do; false: the end. */
static bool wait_for_work(struct search_worker *w)
{
	bool goes_on;

	search_build_rest(w->builder);
	pthread_mutex_lock(&w->lock);
	w->is_busy = false;
	while (!w->is_stopping && !w->first && !w->must_sweep && !w->must_collect) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += FULL_RETRY_MS / 1000;
		w->is_waiting = true;
		if (pthread_cond_timedwait(&w->changed, &w->lock, &until)) {
			w->must_sweep |= w->stat.is_full;
			break; /* a look at what is damaged */
		}
	}
	w->is_busy = true;
	w->is_waiting = false;
	goes_on = !w->is_stopping;
	pthread_mutex_unlock(&w->lock);
	return goes_on;
}

/* What searches found damaged is made anew. */
static void heal(struct search_worker *w)
{
	for (unsigned i = 0; i < store_slots(w->store); i++) {
		uint32_t mailbox = store_text_take_damaged(w->store, i), account = 0;

		if (mailbox && search_build_heal(w->builder, i, mailbox, &account) == 0 && account)
			visit(w, i, account, mailbox);
	}
}

static void *worker_main(void *arg)
{
	struct search_worker *w = arg;
	struct dirty *d;

	/* This thread alone: on a system whose processors are all busy those go first for whom somebody waits. */
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	while (wait_for_work(w)) {
		if (take(w, &w->must_collect))
			collect_gone(w);
		if (take(w, &w->must_sweep)) {
			w->full_until_ms = 0;
			sweep(w);
		}
		while ((d = take_dirty(w))) {
			if (d->mailbox && !d->is_rebuild)
				visit(w, d->slot, d->account, d->mailbox);
			else
				visit_account(w, d->slot, d->account, d->is_rebuild);
			free(d);
		}
		heal(w);
		(void)rest(w, GATHER_MS * 1000);
	}
	return NULL;
}

/* ---- outside ---- */

/* Right before the metrics are shown. */
static void show(void *arg)
{
	struct search_worker *w = arg;
	struct search_worker_stat s;

	search_worker_stat(w, &s);
	metric_set(w->m_waiting, (int64_t)s.waiting);
	metric_set(w->m_full, s.is_full);
	metric_set(w->m_octets, (int64_t)store_text_size(w->store));
}

static void make_metrics(struct search_worker *w)
{
	w->m_indexed = metrics_counter("mailtier_text_index_messages", NULL, "Messages indexed.");
	w->m_left_out = metrics_counter("mailtier_text_index_left_out", NULL,
		"Messages that the index would be larger than, and that are searched without it.");
	w->m_segments = metrics_counter("mailtier_text_index_segments", NULL, "Segments written.");
	w->m_failed = metrics_counter(
		"mailtier_text_index_failed", NULL, "Times that the text index could not be written.");
	w->m_waiting = metrics_gauge(
		"mailtier_text_index_mailboxes_waiting", NULL, "Mailboxes that the indexer is to look at.");
	w->m_full = metrics_gauge("mailtier_text_index_full", NULL,
		"1: text-index-size or the disk is used up; searches go on without what is missing.");
	w->m_octets = metrics_gauge("mailtier_text_index_bytes", NULL, "Size of the text index.");
}

int search_worker_start(struct store_work *work, const struct search_worker_options *options,
	struct search_worker **worker_out)
{
	struct search_worker *w;
	pthread_condattr_t attr;

	if (!store_text_is_on(store_work_store(work)))
		return ERR_UNSUPPORTED;
	w = xcalloc(1, sizeof(*w));
	w->work = work;
	w->store = store_work_store(work);
	w->share = options->share && options->share <= 100 ? options->share : SHARE_DEFAULT;
	w->end = &w->first;
	w->known = table_new();
	w->must_sweep = w->must_collect = w->is_busy = true;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	w->builder = search_build_new(w->store, pause_after, w);
	make_metrics(w);
	store_work_on_commit(work, on_commit, w);
	if (pthread_create(&w->thread, NULL, worker_main, w)) {
		w->thread = 0;
		search_worker_stop(&w);
		return ERR_NOT_NOW;
	}
	metrics_on_collect(show, w);
	*worker_out = w;
	return 0;
}

void search_worker_stop(struct search_worker **worker)
{
	struct search_worker *w = *worker;

	if (!w)
		return;
	metrics_off_collect(show, w);
	store_work_on_commit(w->work, NULL, NULL);
	pthread_mutex_lock(&w->lock);
	w->is_stopping = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	if (w->thread)
		pthread_join(w->thread, NULL);
	for (struct dirty *d = w->first, *next; d; d = next) {
		next = d->next;
		free(d);
	}
	table_free(&w->known);
	search_build_free(&w->builder);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	free(w);
	*worker = NULL;
}

static bool mark_account(void *arg, const struct store_account *account)
{
	struct search_worker *w = arg;

	add_dirty(w, account->slot, account->id, 0, true);
	return true;
}

void search_worker_rebuild(struct search_worker *w, unsigned slot, uint32_t account)
{
	pthread_mutex_lock(&w->lock);
	if (account)
		add_dirty(w, slot, account, 0, true);
	else
		store_each_account(w->store, mark_account, w);
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

bool search_worker_is_idle(struct search_worker *w)
{
	bool is_idle;

	pthread_mutex_lock(&w->lock);
	is_idle = !w->is_busy && !w->first && !w->must_sweep && !w->must_collect;
	pthread_mutex_unlock(&w->lock);
	return is_idle;
}

void search_worker_stat(struct search_worker *w, struct search_worker_stat *stat_out)
{
	pthread_mutex_lock(&w->lock);
	*stat_out = w->stat;
	stat_out->waiting = w->dirty_count;
	pthread_mutex_unlock(&w->lock);
}
