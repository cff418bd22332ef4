/*
 * One read job on two readers. Parts are taken from both ends until they meet, so that a helper that comes late, or not at
 * all, is not waited for; only a part that it is at is.
 *
 *	owner   0 1 2 3 ...  >|<  ... n-2 n-1   helper
 *
 * Whoever leaves last frees: the helper may come out of the queue when its owner has gone.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/mem.h"

struct share {
	struct store_job job; /* the helper's */
	store_work_part_fn *fn;
	void *arg;
	pthread_mutex_t lock; /* over what follows */
	size_t from, to;      /* parts that nobody has taken */
	unsigned users;
	bool is_helping; /* the helper is at a part */
	bool is_awaited; /* the owner waits for its end */
	sem_t ended;
};

static void leave(struct share *s)
{
	bool is_last;

	pthread_mutex_lock(&s->lock);
	is_last = --s->users == 0;
	pthread_mutex_unlock(&s->lock);
	if (!is_last)
		return;
	pthread_mutex_destroy(&s->lock);
	sem_destroy(&s->ended);
	free(s);
}

static bool take_last(struct share *s, size_t *part_out)
{
	bool is_there;

	pthread_mutex_lock(&s->lock);
	is_there = s->from < s->to;
	if (is_there)
		*part_out = --s->to;
	if (!is_there && s->is_awaited)
		sem_post(&s->ended);
	s->is_helping = is_there;
	pthread_mutex_unlock(&s->lock);
	return is_there;
}

static bool take_first(struct share *s, size_t *part_out)
{
	bool is_there;

	pthread_mutex_lock(&s->lock);
	is_there = s->from < s->to;
	if (is_there)
		*part_out = s->from++;
	else
		s->is_awaited = s->is_helping;
	pthread_mutex_unlock(&s->lock);
	return is_there;
}

static int help(struct store_txn *txn, struct store_job *job)
{
	struct share *s = container_of(job, struct share, job);
	size_t part;

	while (take_last(s, &part))
		s->fn(txn, s->arg, part);
	return 0;
}

static void answer(struct store_job *job)
{
	leave(container_of(job, struct share, job));
}

/* NULL: nobody has time. */
static struct share *ask_for_help(
	struct store_work *work, unsigned slot, size_t count, store_work_part_fn *fn, void *arg)
{
	struct share *s;

	if (work->busy_readers + queue_count(&work->reads) >= work->options.reader_threads)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->job.work = work;
	s->job.slot = slot;
	s->job.run = help;
	s->job.answer = answer;
	s->job.call.name = "help";
	s->fn = fn;
	s->arg = arg;
	s->to = count;
	s->users = 2;
	pthread_mutex_init(&s->lock, NULL);
	require(sem_init(&s->ended, 0, 0) == 0);
	if (job_open(&s->job)) {
		queue_add(&work->reads, &s->job);
		return s;
	}
	leave(s);
	job_answer(&s->job);
	return NULL;
}

void store_work_share(
	struct store_work *work, struct store_txn *txn, size_t count, store_work_part_fn *fn, void *arg)
{
	struct share *s = count > 1 ? ask_for_help(work, store_txn_slot(txn), count, fn, arg) : NULL;
	size_t part;

	for (size_t i = 0; !s && i < count; i++)
		fn(txn, arg, i);
	if (!s)
		return;
	while (take_first(s, &part))
		fn(txn, arg, part);
	/* No other thread changes it now. */
	while (s->is_awaited && sem_wait(&s->ended) < 0)
		require(errno == EINTR);
	leave(s);
}
