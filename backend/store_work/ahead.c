/*
 * Messages prepared ahead of their add job. A piece is a job of the preparing threads with some messages and a copy of their
 * octets, since the place where they came in still grows and moves.
 *
 *	loop     piece, piece, piece … add            (or freed: the client has gone)
 *	workers      piece, piece …     add's rest, then all drafts together to the writer
 *
 * Whoever ends last frees: the owner (loop or add job), or a piece that is still under way when the owner has gone.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/mem.h"

struct store_ahead {
	pthread_mutex_t lock; /* over what follows up to `drafts` */
	size_t under_way;     /* pieces */
	bool is_free;         /* its owner has gone */
	int err;
	size_t held; /* by the drafts that are ready */
	struct add_job *waiter;
	struct store_draft *drafts[STORE_AHEAD_MESSAGES]; /* each a piece's own until that has ended */
	size_t count, bytes;                              /* the owner's: what was given */
};

struct piece {
	struct store_job job;
	struct store_ahead *ahead;
	size_t first, count; /* of its drafts */
	char *bytes;
	struct store_work_range ranges[];
};

static void destroy(struct store_ahead *ahead)
{
	for (size_t i = 0; i < ahead->count; i++)
		store_draft_free(&ahead->drafts[i]);
	pthread_mutex_destroy(&ahead->lock);
	free(ahead);
}

static bool is_given_up(struct store_ahead *ahead)
{
	bool given_up;

	pthread_mutex_lock(&ahead->lock);
	given_up = ahead->is_free || ahead->err;
	pthread_mutex_unlock(&ahead->lock);
	return given_up;
}

/* Keeps a draft, if there is room for what it has become. */
static void keep(struct store_ahead *ahead, struct store_draft **draft)
{
	size_t held = store_draft_held(*draft);

	pthread_mutex_lock(&ahead->lock);
	if (held <= STORE_AHEAD_HELD - ahead->held)
		ahead->held += held;
	else
		held = 0;
	pthread_mutex_unlock(&ahead->lock);
	if (!held)
		store_draft_free(draft);
}

static int make(struct piece *p, struct store_press *press)
{
	int err = 0;

	for (size_t i = 0; i < p->count && !err; i++) {
		struct store_draft **draft = &p->ahead->drafts[p->first + i];
		struct store_source source = {
			.memory = slice_of(p->bytes + p->ranges[i].offset, (size_t)p->ranges[i].size)};
		bool done = false;

		err = is_given_up(p->ahead) ? ERR_CANCELLED : store_draft_new(&source, draft);
		if (!err)
			err = store_draft_fill(*draft, press, &done);
		if (!err && !done)
			err = ERR_TOO_BIG; /* STORE_AHEAD_BYTES are less than STORE_DRAFT_PART */
		if (!err)
			keep(p->ahead, draft);
	}
	return err;
}

static void prepare(struct store_job *job, struct store_press *press)
{
	struct piece *p = container_of(job, struct piece, job);
	struct store_ahead *ahead = p->ahead;
	int err = make(p, press);
	struct add_job *waiter = NULL;
	bool is_last;

	pthread_mutex_lock(&ahead->lock);
	ahead->err = ahead->err ? ahead->err : err;
	is_last = --ahead->under_way == 0;
	if (is_last)
		waiter = ahead->waiter;
	is_last &= ahead->is_free;
	pthread_mutex_unlock(&ahead->lock);
	if (waiter)
		add_ahead_done(waiter);
	else if (is_last)
		destroy(ahead);
	job_answer(job);
}

static void answer(struct store_job *job)
{
	struct piece *p = container_of(job, struct piece, job);

	free(p->bytes);
	free(p);
}

static struct store_ahead *ahead_new(void)
{
	struct store_ahead *ahead = xcalloc(1, sizeof(*ahead));

	pthread_mutex_init(&ahead->lock, NULL);
	return ahead;
}

bool store_work_ahead(struct store_work *work, struct store_ahead **ahead, struct slice bytes,
	const struct store_work_range *ranges, size_t count)
{
	struct store_ahead *a = *ahead;
	struct piece *p;

	if (count > STORE_AHEAD_MESSAGES - (a ? a->count : 0) ||
		bytes.len > STORE_AHEAD_BYTES - (a ? a->bytes : 0) ||
		queue_count(&work->prepares) >= work->options.queue_max)
		return false;
	p = xcalloc(1, sizeof(*p) + count * sizeof(*p->ranges));
	p->job.work = work;
	p->job.prepare = prepare;
	p->job.answer = answer;
	if (!job_open(&p->job)) {
		job_answer(&p->job);
		return false;
	}
	if (!a)
		a = *ahead = ahead_new();
	p->ahead = a;
	p->first = a->count;
	p->count = count;
	p->bytes = xmalloc(bytes.len + 1);
	memcpy(p->bytes, bytes.p, bytes.len);
	memcpy(p->ranges, ranges, count * sizeof(*ranges));
	a->count += count;
	a->bytes += bytes.len;
	pthread_mutex_lock(&a->lock);
	a->under_way++;
	pthread_mutex_unlock(&a->lock);
	queue_add(&work->prepares, &p->job);
	return true;
}

void store_ahead_free(struct store_ahead **ahead)
{
	struct store_ahead *a = *ahead;
	bool is_last;

	if (!a)
		return;
	*ahead = NULL;
	pthread_mutex_lock(&a->lock);
	a->is_free = true;
	is_last = a->under_way == 0;
	pthread_mutex_unlock(&a->lock);
	if (is_last)
		destroy(a);
}

size_t ahead_count(const struct store_ahead *ahead)
{
	return ahead ? ahead->count : 0;
}

size_t ahead_bytes(const struct store_ahead *ahead)
{
	return ahead ? ahead->bytes : 0;
}

bool ahead_is_ready(struct store_ahead *ahead, struct add_job *waiter)
{
	bool is_ready;

	pthread_mutex_lock(&ahead->lock);
	is_ready = ahead->under_way == 0;
	if (!is_ready)
		ahead->waiter = waiter;
	pthread_mutex_unlock(&ahead->lock);
	return is_ready;
}

int ahead_take(struct store_ahead *ahead, struct store_draft **into)
{
	if (ahead->err)
		return ahead->err;
	memcpy(into, ahead->drafts, ahead->count * sizeof(struct store_draft *));
	memset(ahead->drafts, 0, ahead->count * sizeof(struct store_draft *));
	return 0;
}
