/* Targets of an add that are recipients of the queue: copied with all they point to, and put under one record of their message. */
#include "backend/store_work/inner.h"
#include "common/base/arena.h"

static bool copy(struct arena *a, struct slice *text)
{
	if (!text->len)
		return true;
	*text = arena_copy(a, *text);
	return text->p != NULL;
}

static const struct store_queue_message *copy_message(struct arena *a, const struct store_queue_message *from)
{
	struct store_queue_message *m = arena_alloc(a, sizeof(*m));

	if (!m)
		return NULL;
	*m = *from;
	return copy(a, &m->sender) && copy(a, &m->envid) && copy(a, &m->session) && copy(a, &m->user) ? m
												      : NULL;
}

bool add_queue_copy(struct arena *a, const struct store_work_target *from, struct store_work_target *to,
	const struct store_work_target *from_before, const struct store_work_target *to_before)
{
	struct store_queue_recipient *r = arena_alloc(a, sizeof(*r));

	if (from_before && from_before->queue == from->queue)
		to->queue = to_before->queue;
	else
		to->queue = copy_message(a, from->queue);
	if (!to->queue || !r)
		return false;
	*r = *from->queued;
	to->queued = r;
	return copy(a, &r->address) && copy(a, &r->destination) && copy(a, &r->orcpt) && copy(a, &r->trace) &&
	       copy(a, &r->reason) && copy(a, &r->status) && copy(a, &r->remote) && copy(a, &r->text);
}

int add_queue_to(
	struct store_txn *txn, uint64_t blob, const struct store_work_target *t, struct add_queue_open *open)
{
	struct store_queue_recipient r = *t->queued;
	int err = 0;

	if (open->message != t->queue) {
		struct store_queue_message m = *t->queue;

		m.blob = blob;
		err = store_queue_add(txn, &m, &open->id);
		if (err)
			return err;
		open->message = t->queue;
		open->count = 0;
	}
	r.message = open->id;
	r.number = open->count;
	err = store_queue_add_recipient(txn, &r);
	if (!err)
		open->count++;
	return err;
}
