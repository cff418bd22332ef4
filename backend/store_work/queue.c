/* Queues of jobs: a list, a lock, a condition. */
#include <errno.h>
#include <time.h>

#include "backend/store_work/inner.h"

void queue_init(struct queue *q)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->filled, &attr);
	pthread_condattr_destroy(&attr);
	q->first = NULL;
	q->end = &q->first;
	q->count = 0;
	q->is_closed = false;
}

void queue_deinit(struct queue *q)
{
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->filled);
}

void queue_add(struct queue *q, struct store_job *job)
{
	pthread_mutex_lock(&q->lock);
	job->next = NULL;
	*q->end = job;
	q->end = &job->next;
	q->count++;
	pthread_cond_signal(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

/* Cuts up to `most` off the front; the lock is held. */
static struct store_job *cut(struct queue *q, size_t most)
{
	struct store_job *first = q->first, **at = &q->first;

	for (size_t n = 0; n < most && *at; n++) {
		at = &(*at)->next;
		q->count--;
	}
	q->first = *at;
	*at = NULL;
	if (!q->first)
		q->end = &q->first;
	return first;
}

struct store_job *queue_take(struct queue *q)
{
	struct store_job *job = NULL;

	pthread_mutex_lock(&q->lock);
	while (!q->first && !q->is_closed)
		pthread_cond_wait(&q->filled, &q->lock);
	if (q->first)
		job = cut(q, 1);
	pthread_mutex_unlock(&q->lock);
	return job;
}

struct store_job *queue_take_many(struct queue *q, size_t most, unsigned ms, bool *closed_out)
{
	struct store_job *chain = NULL;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_mutex_lock(&q->lock);
	while (!q->first && !q->is_closed)
		if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT)
			break;
	if (q->first)
		chain = cut(q, most);
	*closed_out = !chain && q->is_closed;
	pthread_mutex_unlock(&q->lock);
	return chain;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->is_closed = true;
	pthread_cond_broadcast(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

size_t queue_count(struct queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->count;
	pthread_mutex_unlock(&q->lock);
	return n;
}
