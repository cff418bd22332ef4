/*
 * Results: what each means by the plan, its line in the log, and its commit. All results that came while the last commit was on its way go with the
 * next; those of which a notice is to be sent go with the notice, parcel by parcel. What could not be written stays and is tried again: a message
 * that was sent must not be sent again because the disk is full.
 */
#include <stdlib.h>

#include "backend/delivery/queue_inner.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

void queue_result_id(const struct queue_parcel *p, char out[32])
{
	snprintf(out, 32, "%u-%llu", p->slot->number, (unsigned long long)p->message.id);
}

/* ---- what a result means ---- */

static struct slice keep_text(struct queue_parcel *p, const char *text)
{
	struct slice s = slice_sub(slice_str(text), 0, STORE_QUEUE_TEXT_MAX);

	return s.len ? arena_copy(&p->arena, s) : slice_of(NULL, 0);
}

static void give_up(struct queue_item *item, struct slice text)
{
	struct queue_parcel *p = item->parcel;
	struct buf all = {0};

	buf_printf(&all, "Gave up after %u tries: ", item->tries);
	buf_add_slice(&all, text);
	item->event = QUEUE_FAILED;
	item->is_final = true;
	item->code = 0; /* the words are ours */
	item->status = SLICE_LIT("5.4.7");
	item->text = keep_text(p, buf_str_view(&all));
	buf_deinit(&all);
}

static void put_off(struct queue_item *item, const struct queue_outcome *o, uint64_t now)
{
	const struct queue_plan *plan = &item->parcel->queue->settings.plan;
	const struct store_queue_message *m = &item->parcel->message;
	uint64_t end = m->arrived + plan->lifetime;

	if (queue_plan_is_over(plan, m->arrived, o->is_tried ? item->tries : 0, now)) {
		give_up(item, item->text);
		return;
	}
	item->next = queue_plan_next(plan, m->arrived, item->tries, now);
	if (o->not_before)
		item->next = o->not_before < end ? o->not_before : end;
}

static void decide(struct queue_item *item, const struct queue_outcome *o)
{
	struct queue_parcel *p = item->parcel;
	const struct queue_settings *settings = &p->queue->settings;
	const struct store_queue_message *m = &p->message;
	uint64_t now = clock_wall_ms();

	item->event = o->event;
	item->is_final = o->event != QUEUE_DELAYED;
	item->is_tried = o->is_tried;
	item->tries += o->is_tried;
	item->code = o->code;
	item->status = keep_text(p, o->status);
	item->text = keep_text(p, o->text);
	item->remote = keep_text(p, o->remote);
	item->is_aside = p->is_damaged && o->event == QUEUE_DELAYED;
	if (item->is_aside) /* an operator's now, not the schedule's */
		return;
	if (o->event == QUEUE_DELAYED)
		put_off(item, o, now);
	if (item->event == QUEUE_DELAYED &&
		!queue_plan_is_late(&settings->plan, m->arrived, item->is_warned, now))
		return;
	item->tells = queue_plan_tells(item->event, m->sender.len > 0, item->notify);
	/* A notice that nobody takes. */
	if (item->event == QUEUE_FAILED && !m->sender.len && !(m->flags & STORE_QUEUE_LAST))
		item->tells = settings->postmaster[0] != '\0';
	if (item->event == QUEUE_DELAYED)
		item->is_warned = item->tells;
}

struct store_queue_change queue_result_change(const struct queue_item *item)
{
	struct store_queue_change c = {.message = item->parcel->message.id, .number = item->number};

	if (item->is_final) {
		c.how = STORE_QUEUE_END;
		return c;
	}
	if (item->is_aside) {
		c.how = STORE_QUEUE_HOLD;
		c.reason = SLICE_LIT(QUEUE_DAMAGED);
		return c;
	}
	c.how = STORE_QUEUE_DEFER;
	c.next = item->next;
	c.tries = item->tries;
	c.is_warned = item->is_warned;
	c.status = item->status;
	c.remote = item->remote;
	c.text = item->text;
	return c;
}

void queue_unreadable(struct queue_parcel *p, int err)
{
	log_error("queue", "the body of a queued message cannot be read message=%u-%llu: %s%s",
		p->slot->number, (unsigned long long)p->message.id, error_text(err),
		err == ERR_CORRUPT ? "; it is not sent: see queue list --state held, store check" : "");
	p->is_damaged |= err == ERR_CORRUPT;
}

/* ---- the log ---- */

static void clean(struct buf *out, const char *text)
{
	for (; text && *text; text++)
		buf_add_char(out, (unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static void log_line(const struct queue_item *item, const struct queue_outcome *o)
{
	static const char *const words[] = {[QUEUE_STORED] = "sent",
		[QUEUE_PASSED] = "sent",
		[QUEUE_RELAYED] = "sent",
		[QUEUE_FAILED] = "bounced",
		[QUEUE_DELAYED] = "deferred"};
	const struct queue_parcel *p = item->parcel;
	const struct store_queue_message *m = &p->message;
	uint64_t now = clock_wall_ms(), before = p->loaded > m->arrived ? p->loaded - m->arrived : 0;
	uint64_t here = now > p->loaded + o->connect_ms + o->transfer_ms
				? now - p->loaded - o->connect_ms - o->transfer_ms
				: 0;
	char id[32];
	struct buf text = {0};

	if (!log_is_on(LOG_INFO))
		return;
	queue_result_id(p, id);
	clean(&text, item->text.len ? item->text.p : "");
	/* delay: in the store, in memory, until the first command, from there. */
	log_info("queue",
		"%.*s: from=<%.*s> to=<%.*s> relay=%s delay=%.3f/%.3f/%.3f/%.3f tls=%s dsn=%.*s status=%s "
		"(%s) "
		"queue=%s tries=%u",
		SLICE_ARG(m->session.len ? m->session : slice_str(id)), SLICE_ARG(m->sender),
		SLICE_ARG(item->address), o->relay && o->relay[0] ? o->relay : "none", (double)before / 1000,
		(double)here / 1000, (double)o->connect_ms / 1000, (double)o->transfer_ms / 1000,
		o->tls && o->tls[0] ? o->tls : "none", SLICE_ARG(item->status),
		item->is_aside ? "held" : words[item->event], buf_str_view(&text), id, item->tries);
	buf_deinit(&text);
}

static void count_result(struct queue *q, const struct queue_item *item)
{
	bool is_local = strcmp(item->parcel->hop->name, QUEUE_LOCAL_HOP) == 0;

	if (item->is_aside) {
		metric_add(q->m_damaged, 1);
		return;
	}
	metric_add(item->event == QUEUE_FAILED    ? q->m_failed
		   : item->event == QUEUE_DELAYED ? q->m_deferred
		   : is_local                     ? q->m_local
						  : q->m_sent,
		1);
}

static void put_result(struct queue_slot *slot, struct queue_item *item, bool is_new)
{
	struct list *list = item->tells ? &slot->telling : &slot->results;

	if (is_new)
		list_add_last(list, &item->link);
	else
		list_add_first(list, &item->link);
}

void queue_result(struct queue_item *item, const struct queue_outcome *o)
{
	struct queue_slot *slot = item->parcel->slot;

	if (item->is_done)
		return;
	item->is_done = true;
	decide(item, o);
	log_line(item, o);
	count_result(slot->queue, item);
	put_result(slot, item, true);
	queue_commit(slot);
}

/* ---- commits ---- */

struct commit {
	struct queue_slot *slot;
	size_t count;
	bool is_notice;
	struct queue_item *items[QUEUE_CHANGES_MOST];
	struct store_queue_change changes[QUEUE_CHANGES_MOST];
};

static int run_commit(struct store_txn *txn, void *arg)
{
	struct commit *c = arg;

	for (size_t i = 0; i < c->count; i++) {
		int err = store_queue_change(txn, &c->changes[i]);

		/* An operator took it away meanwhile; or its row is damaged, which the next pass finds. */
		if (err && err != ERR_NOT_FOUND && (err != ERR_CORRUPT || store_txn_error(txn)))
			return err;
	}
	FAULT("queue-before-commit");
	return 0;
}

/* An operator took some of them away before the notice was stored: the others are told without them. */
static void without_removed(struct commit *c)
{
	struct queue_slot *slot = c->slot;

	for (size_t i = 0; i < c->count; i++) {
		if (!c->items[i]->is_removed)
			put_result(slot, c->items[i], false);
		else
			queue_item_gone(c->items[i]);
	}
	queue_commit(slot);
}

static void committed(void *arg, int err)
{
	struct commit *c = arg;
	struct queue_slot *slot = c->slot;

	if (c->is_notice)
		slot->notices--;
	else
		slot->is_committing = false;
	if (err == ERR_CLOSED && c->is_notice) {
		without_removed(c);
		return;
	}
	if (err) {
		log_error("queue", "results of %zu recipients wait to be written: %s", c->count,
			error_text(err));
		for (size_t i = 0; i < c->count; i++)
			put_result(slot, c->items[i], false);
		if (!slot->queue->is_ended)
			timer_set(&slot->retry, slot->queue->loop, QUEUE_COMMIT_RETRY_MS);
		return;
	}
	for (size_t i = 0; i < c->count; i++) {
		if (!c->items[i]->is_final && !c->items[i]->is_aside)
			queue_scan_at(slot, c->items[i]->next);
		queue_item_gone(c->items[i]);
	}
	queue_commit(slot);
}

static void notice_written(void *arg, int err)
{
	struct commit *c = arg;
	struct queue *q = c->slot->queue;

	if (!err)
		queue_wake(q);
	committed(c, err);
	free(c);
}

static void take(struct commit *c, struct queue_item *item)
{
	list_remove(&item->link);
	c->items[c->count] = item;
	c->changes[c->count++] = queue_result_change(item);
}

/* This one and those of its parcel that are told alike. */
static void send_notice(struct queue_slot *slot, struct queue_item *first)
{
	struct commit *c = xcalloc(1, sizeof(*c));

	c->slot = slot;
	c->is_notice = true;
	slot->notices++;
	list_for_each_safe (at, &slot->telling) {
		struct queue_item *item = container_of(at, struct queue_item, link);

		if (item->parcel == first->parcel && item->event == first->event &&
			c->count < QUEUE_CHANGES_MOST)
			take(c, item);
	}
	queue_notice_send(slot, c->items, c->count, notice_written, c);
}

static struct queue_item *find_telling(struct queue_slot *slot)
{
	list_for_each (at, &slot->telling) {
		struct queue_item *item = container_of(at, struct queue_item, link);

		/* The others of its try may come yet, and be told with it. */
		if (!item->parcel->is_active)
			return item;
	}
	return NULL;
}

static void commit_plain(struct queue_slot *slot)
{
	struct commit *c = xcalloc(1, sizeof(*c));

	c->slot = slot;
	list_for_each_safe (at, &slot->results) {
		if (c->count == QUEUE_CHANGES_MOST)
			break;
		take(c, container_of(at, struct queue_item, link));
	}
	if (!c->count) {
		free(c);
		return;
	}
	slot->is_committing = true;
	(void)store_work_write(slot->queue->work, slot->number,
		&(struct store_work_call){.run = run_commit,
			.done = committed,
			.drop = free,
			.arg = c,
			.loop = slot->queue->loop,
			.name = "queue results"});
}

void queue_commit(struct queue_slot *slot)
{
	struct queue_item *item;

	if (timer_is_set(&slot->retry))
		return;
	while (slot->notices < QUEUE_NOTICES_MOST && (item = find_telling(slot)))
		send_notice(slot, item);
	if (!slot->is_committing && !list_is_empty(&slot->results))
		commit_plain(slot);
}
