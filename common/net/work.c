/*
 * A queue, a mutex, a semaphore and threads. Results go home by loop_post().
 *
 * A semaphore with one count for each job, and no condition variable: glibc before 2.41 can lose a
 * pthread_cond_signal() when several threads wait (its bug 25847), and a job would lie until the next one
 * comes.
 */
#include "common/net/work.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/metrics.h"

struct work_pool {
	pthread_mutex_t lock;
	sem_t more; /* one count a waiting job; one a thread at the end */
	struct work *first, *last;
	unsigned waiting, queue_most;
	bool stopping;
	unsigned threads_count;
	pthread_t *threads;
	char name[16];
	struct metric *waiting_gauge, *running_gauge, *done_counter, *refused_counter;
};

static void finish(void *arg)
{
	struct work *w = arg;

	w->done(w->job, w->error);
}

static struct work *take_first(struct work_pool *pool)
{
	struct work *w = pool->first;

	if (w) {
		pool->first = w->next;
		if (!pool->first)
			pool->last = NULL;
		pool->waiting--;
		metric_add(pool->waiting_gauge, -1);
	}
	return w;
}

static struct work *next_work(struct work_pool *pool)
{
	struct work *w;

	while (sem_wait(&pool->more) < 0)
		require(errno == EINTR);
	pthread_mutex_lock(&pool->lock);
	w = pool->stopping ? NULL : take_first(pool);
	pthread_mutex_unlock(&pool->lock);
	return w;
}

static void *worker(void *arg)
{
	struct work_pool *pool = arg;
	struct work *w;

	while ((w = next_work(pool))) {
		metric_add(pool->running_gauge, 1);
		w->run(w->job);
		metric_add(pool->running_gauge, -1);
		metric_add(pool->done_counter, 1);
		loop_post(w->loop, finish, w);
	}
	return NULL;
}

static void name_metrics(struct work_pool *pool)
{
	char labels[40];

	snprintf(labels, sizeof(labels), "pool=\"%s\"", pool->name);
	pool->waiting_gauge =
		metrics_gauge("mailtier_net_work_waiting", labels, "Jobs that wait for a worker thread.");
	pool->running_gauge =
		metrics_gauge("mailtier_net_work_running", labels, "Jobs that a worker thread runs.");
	pool->done_counter = metrics_counter("mailtier_net_work_done", labels, "Jobs that were run.");
	pool->refused_counter = metrics_counter(
		"mailtier_net_work_refused", labels, "Jobs that were refused because the queue was full.");
}

int work_pool_new(const char *name, unsigned threads, unsigned queue_most, struct work_pool **pool_out)
{
	struct work_pool *pool = xcalloc(1, sizeof(*pool));
	sigset_t all, before;
	int rc = 0;

	require(threads > 0);
	pthread_mutex_init(&pool->lock, NULL);
	require(sem_init(&pool->more, 0, 0) == 0);
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	pool->queue_most = queue_most;
	name_metrics(pool);
	pool->threads = xcalloc(threads, sizeof(*pool->threads));
	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (rc == 0 && pool->threads_count < threads) {
		rc = pthread_create(&pool->threads[pool->threads_count], NULL, worker, pool);
		if (rc == 0)
			pthread_setname_np(pool->threads[pool->threads_count++], pool->name);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		work_pool_free(&pool);
		return error_from_errno(rc);
	}
	*pool_out = pool;
	return 0;
}

static struct work *take_left(struct work_pool *pool)
{
	struct work *w;

	pthread_mutex_lock(&pool->lock);
	w = take_first(pool);
	pthread_mutex_unlock(&pool->lock);
	return w;
}

void work_pool_end(struct work_pool *pool)
{
	struct work *w;

	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads_count; i++)
		sem_post(&pool->more);
	for (unsigned i = 0; i < pool->threads_count; i++)
		pthread_join(pool->threads[i], NULL);
	pool->threads_count = 0;
	while ((w = take_left(pool))) {
		w->error = ERR_CANCELLED;
		loop_post(w->loop, finish, w);
	}
}

void work_pool_free(struct work_pool **pool_take)
{
	struct work_pool *pool = *pool_take;

	if (!pool)
		return;
	*pool_take = NULL;
	work_pool_end(pool);
	pthread_mutex_destroy(&pool->lock);
	sem_destroy(&pool->more);
	free(pool->threads);
	free(pool);
}

int work_submit(struct work_pool *pool, struct loop *loop, struct work *w)
{
	bool is_taken;

	w->loop = loop;
	w->next = NULL;
	w->error = 0;
	pthread_mutex_lock(&pool->lock);
	is_taken = !pool->stopping && pool->waiting < pool->queue_most;
	if (is_taken) {
		if (pool->last)
			pool->last->next = w;
		else
			pool->first = w;
		pool->last = w;
		pool->waiting++;
		metric_add(pool->waiting_gauge, 1);
		sem_post(&pool->more);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!is_taken)
		metric_add(pool->refused_counter, 1);
	return is_taken ? 0 : ERR_NOT_NOW;
}

unsigned work_pool_waiting(const struct work_pool *pool)
{
	unsigned n;

	pthread_mutex_lock((pthread_mutex_t *)&pool->lock);
	n = pool->waiting;
	pthread_mutex_unlock((pthread_mutex_t *)&pool->lock);
	return n;
}
