/*
 * Queues of jobs: a list, a lock, a semaphore with one count for each job. No condition variable: glibc
 * before 2.41 can lose a pthread_cond_signal() when several threads wait (its bug 25847).
 */
#include <errno.h>
#include <time.h>

#include "backend/store_work/inner.h"

void queue_init(struct queue *q)
{
	pthread_mutex_init(&q->lock, NULL);
	require(sem_init(&q->filled, 0, 0) == 0);
	q->first = NULL;
	q->end = &q->first;
	q->count = 0;
	q->is_closed = false;
}

void queue_deinit(struct queue *q)
{
	pthread_mutex_destroy(&q->lock);
	sem_destroy(&q->filled);
}

void queue_add(struct queue *q, struct store_job *job)
{
	pthread_mutex_lock(&q->lock);
	job->next = NULL;
	*q->end = job;
	q->end = &job->next;
	q->count++;
	pthread_mutex_unlock(&q->lock);
	sem_post(&q->filled); /* who is woken finds the lock free */
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

/* What a thread finds that has got a count: one job for it and for each further count, up to most. Of a closed queue one count stays. The
 * lock is held. */
static struct store_job *found(struct queue *q, size_t most)
{
	size_t counts = 1, before = q->count;
	struct store_job *chain;

	while (counts < most && sem_trywait(&q->filled) == 0)
		counts++;
	chain = q->first ? cut(q, counts) : NULL;
	if (q->is_closed && before < counts)
		sem_post(&q->filled);
	return chain;
}

struct store_job *queue_take(struct queue *q)
{
	struct store_job *job;

	while (sem_wait(&q->filled) < 0)
		require(errno == EINTR);
	pthread_mutex_lock(&q->lock);
	job = found(q, 1);
	pthread_mutex_unlock(&q->lock);
	return job;
}

struct store_job *queue_take_many(struct queue *q, size_t most, uint64_t us, bool *closed_out)
{
	struct store_job *chain;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(us / 1000000);
	until.tv_nsec += (long)(us % 1000000) * 1000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	*closed_out = false;
	while (sem_clockwait(&q->filled, CLOCK_MONOTONIC, &until) < 0) {
		if (errno == ETIMEDOUT)
			return NULL;
		require(errno == EINTR);
	}
	pthread_mutex_lock(&q->lock);
	chain = found(q, most);
	*closed_out = !chain && q->is_closed;
	pthread_mutex_unlock(&q->lock);
	return chain;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->is_closed = true;
	sem_post(&q->filled);
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
