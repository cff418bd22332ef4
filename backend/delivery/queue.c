/*
 * Next hops and tries. A hop that could not be reached (failures > 0) has one try at a time until one of its hosts answers; what comes to it
 * before `until` is put off without a try.
 *
 * An item is counted in its slot's and its hop's window from the scan to the commit of its result; a parcel lives until all its items are
 * committed and its try has ended.
 */
#include "backend/delivery/queue.h"

#include <stdlib.h>

#include "backend/delivery/queue_inner.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define LOOK_EVERY_MS 1000 /* at all next hops, at most */
/* What clocks may be apart, or a reload may have shortened, without being wrong. */
#define CLOCK_SLACK_MS UINT64_C(3600000)

/* ---- next hops ---- */

/* A quarter of what is free: however many slow hops there are, each takes less, and there is room for others. */
unsigned queue_share(const struct queue *q)
{
	size_t all = (size_t)q->settings.window * q->slot_count, used = table_count(q->window);
	size_t share = used < all ? (all - used) / 4 : 0;

	return share ? (unsigned)share : 1;
}

static void free_hop(struct queue_hop *hop)
{
	for (unsigned i = 0; i < hop->parked_count; i++)
		free(hop->parked[i]);
	free(hop->parked);
	free(hop->reason);
	free(hop->status);
	free(hop);
}

static bool is_idle(const struct queue_hop *hop, uint64_t now)
{
	return !hop->in_window && !hop->active && !hop->parked_count && list_is_empty(&hop->waiting) &&
	       (!hop->failures || now > hop->until + UINT64_C(86400000));
}

/* Those of which nothing is to be remembered. */
static void sweep_hops(struct queue *q)
{
	uint64_t now = clock_wall_ms();
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(q->hops, &at, &key, &value);) {
		struct queue_hop *hop = value;

		if (is_idle(hop, now)) {
			table_remove(q->hops, key);
			free_hop(hop);
		}
	}
}

struct queue_hop *queue_hop_get(struct queue *q, const char *name)
{
	struct queue_hop *hop = table_get(q->hops, slice_str(name));

	if (hop)
		return hop;
	if (table_count(q->hops) >= QUEUE_HOPS_MOST && clock_mono_ms() >= q->sweep_at) {
		q->sweep_at = clock_mono_ms() + LOOK_EVERY_MS;
		sweep_hops(q);
	}
	hop = xcalloc(1, sizeof(*hop));
	snprintf(hop->name, sizeof(hop->name), "%s", name);
	list_init(&hop->waiting);
	table_put(q->hops, slice_str(hop->name), hop);
	return hop;
}

struct queue_hop *queue_hop_of(struct queue *q, struct slice destination)
{
	char name[OUTBOUND_NEXT_HOP_MAX];
	struct queue_hop *hop;
	bool is_none = q->sender.next_hop(q->sender.arg, destination, name) != 0;

	if (is_none) /* no next hop has a blank */
		snprintf(name, sizeof(name), "no domain");
	hop = queue_hop_get(q, name);
	hop->is_none = is_none;
	return hop;
}

uint64_t queue_wait_most(const struct queue *q)
{
	const struct queue_plan *plan = &q->settings.plan;

	return (plan->retry_most > plan->retry_first ? plan->retry_most : plan->retry_first) + CLOCK_SLACK_MS;
}

bool queue_hop_is_off(const struct queue *q, const struct queue_hop *hop, uint64_t now)
{
	return hop->until > now && hop->until - now <= queue_wait_most(q);
}

static void set_text(char **to, const char *text)
{
	free(*to);
	*to = text ? xstrdup(text) : NULL;
}

void queue_count_deferred(struct queue *q)
{
	struct slice key;
	void *value;
	int64_t n = 0;
	uint64_t now = clock_wall_ms(), mono = clock_mono_ms();

	if (mono < q->count_at)
		return;
	q->count_at = mono + LOOK_EVERY_MS;
	for (size_t at = 0; table_next(q->hops, &at, &key, &value);)
		n += queue_hop_is_off(q, value, now);
	metric_set(q->m_hops_deferred, n);
}

/* ---- parcels ---- */

static void free_parcel(struct queue_parcel *p)
{
	arena_deinit(&p->arena);
	free(p->recipients);
	free(p->numbers);
	free(p);
}

void queue_parcel_end(struct queue_parcel *p)
{
	if (p->left || p->is_active || p->reads)
		return;
	queue_local_end(p);
	free_parcel(p);
}

void queue_item_gone(struct queue_item *item)
{
	struct queue_parcel *p = item->parcel;
	struct queue_slot *slot = p->slot;
	struct queue_hop *hop = p->hop;

	table_remove(p->queue->window, slice_of(item->key, sizeof(item->key)));
	slot->in_window--;
	hop->in_window--;
	p->left--;
	queue_parcel_end(p);
	queue_place_free(slot, hop);
}

void queue_place_free(struct queue_slot *slot, struct queue_hop *hop)
{
	struct queue *q = slot->queue;

	metric_set(q->m_window, (int64_t)table_count(q->window));
	if ((hop->parked_count || hop->has_more_parked) && hop->in_window <= queue_share(q) / 2)
		queue_scan_refill(q, hop);
	if ((slot->is_pass || slot->is_again || !list_is_empty(&slot->refills)) && !slot->is_scanning &&
		slot->in_window <= q->settings.window / 4 * 3)
		queue_scan(slot);
}

/* ---- a try ---- */

/* Items that a try began with and said nothing about: our mistake, or the program ends. Their rows stay as they are. */
static void forget_item(struct queue_item *item)
{
	item->is_done = true;
	queue_item_gone(item);
}

static void give_octets(
	struct queue_parcel *p, uint64_t offset, size_t most, struct slice body, uint64_t body_at)
{
	char text[4096];
	size_t len = 0;

	/* The trace comes first; what is left of it goes alone. */
	if (offset < p->trace.len) {
		struct slice part = slice_sub(p->trace, (size_t)offset, most);

		len = part.len < sizeof(text) ? part.len : sizeof(text);
		memcpy(text, part.p, len);
		p->queue->sender.octets(p->try, 0, slice_of(text, len));
		return;
	}
	p->queue->sender.octets(p->try, 0, slice_sub(body, (size_t)(offset - p->trace.len - body_at), most));
}

struct reading {
	struct queue_parcel *parcel;
	uint64_t offset; /* of the body */
	size_t most, len;
	char bytes[];
};

static int run_read(struct store_txn *txn, void *arg)
{
	struct reading *r = arg;

	return store_queue_read(txn, &r->parcel->message, r->offset, r->bytes, r->most, &r->len);
}

/* The try may have ended meanwhile, and all else of the parcel. */
static void drop_read(void *arg)
{
	struct reading *r = arg;
	struct queue_parcel *p = r->parcel;

	p->reads--;
	free(r);
	queue_parcel_end(p);
}

static void was_read(void *arg, int err)
{
	struct reading *r = arg;
	struct queue_parcel *p = r->parcel;

	if (!p->try)
		return;
	if (!err && !r->len)
		err = ERR_CORRUPT;
	if (err) {
		queue_unreadable(p, err);
		p->queue->sender.octets(p->try, err, slice_of(NULL, 0));
		return;
	}
	p->queue->sender.octets(p->try, 0, slice_of(r->bytes, r->len));
}

static void on_read(void *arg, struct outbound_try *t, uint64_t offset, size_t most)
{
	struct queue_parcel *p = arg;
	struct reading *r;

	p->try = t;
	if (offset < p->trace.len || p->body.p) {
		give_octets(p, offset, most, p->body, 0);
		return;
	}
	most = most < OUTBOUND_READ_MOST ? most : OUTBOUND_READ_MOST;
	r = xcalloc(1, sizeof(*r) + most);
	r->parcel = p;
	r->offset = offset - p->trace.len;
	r->most = most;
	p->reads++;
	(void)store_work_read(p->queue->work, p->slot->number,
		&(struct store_work_call){.run = run_read,
			.done = was_read,
			.drop = drop_read,
			.arg = r,
			.loop = p->queue->loop,
			.name = "queue read"});
}

static void on_result(void *arg, size_t i, const struct outbound_result *r)
{
	struct queue_parcel *p = arg;
	struct queue_item *item = &p->items[i];
	struct queue_outcome outcome = {.is_tried = true,
		.code = r->code,
		.status = r->enhanced,
		.text = r->text,
		.remote = r->host,
		.relay = r->relay,
		.tls = r->tls,
		.connect_ms = r->connect_ms,
		.transfer_ms = r->transfer_ms};

	if (item->is_done)
		return;
	switch (r->verdict) {
	case OUTBOUND_SENT:
		outcome.event = r->has_dsn ? QUEUE_PASSED : QUEUE_RELAYED;
		break;
	case OUTBOUND_NOT_NOW:
		/* The program ends: nothing was learned. */
		if (p->queue->is_ended && !r->code)
			return;
		outcome.event = QUEUE_DELAYED;
		break;
	case OUTBOUND_FAILED:
		outcome.event = QUEUE_FAILED;
		break;
	}
	queue_result(item, &outcome);
}

/* The try is over: what was kept back until all results are known may be told. */
void queue_settle(struct queue_parcel *p)
{
	struct queue_slot *slot = p->slot;

	p->is_active = false;
	queue_parcel_end(p);
	queue_commit(slot);
}

/* What waits for this hop is put off untried. */
static void put_off_waiting(struct queue_hop *hop)
{
	struct list all;

	list_init(&all);
	list_move_all(&all, &hop->waiting);
	while (!list_is_empty(&all)) {
		struct queue_parcel *p = container_of(all.next, struct queue_parcel, link);
		size_t count = p->count;
		struct queue_item *items = p->items;

		list_remove(&p->link);
		p->is_active = true; /* it outlives its items' results */
		for (size_t i = 0; i < count; i++)
			queue_result(&items[i], &(struct queue_outcome){.event = QUEUE_DELAYED,
							.not_before = hop->until,
							.status = hop->status,
							.text = hop->reason});
		queue_settle(p);
	}
}

static void hop_failed(struct queue *q, struct queue_hop *hop, const char *reason)
{
	uint64_t now = clock_wall_ms();

	/* Of tries that went on side by side the first one counts. */
	if (!hop->failures || !queue_hop_is_off(q, hop, now))
		hop->failures++;
	hop->until = now + queue_plan_wait(&q->settings.plan, hop->failures);
	set_text(&hop->reason, reason && reason[0] ? reason : "The destination cannot be reached");
	set_text(&hop->status, "4.4.1");
	log_warn("queue", "the next hop %s is put off for %llu s: %s", hop->name,
		(unsigned long long)((hop->until - now) / 1000), hop->reason);
	put_off_waiting(hop);
	queue_count_deferred(q);
}

static void on_done(void *arg, const struct outbound_facts *facts)
{
	struct queue_parcel *p = arg;
	struct queue *q = p->queue;
	struct queue_hop *hop = p->hop;

	p->try = NULL;
	hop->active--;
	q->active--;
	if (!q->is_ended && facts && facts->is_unreachable) {
		hop_failed(q, hop, facts->reason);
	} else if (!q->is_ended && hop->failures) {
		log_info("queue", "the next hop %s can be reached again", hop->name);
		hop->failures = 0;
		hop->until = 0;
		queue_count_deferred(q);
	}
	for (size_t i = 0, count = p->count; i < count; i++) {
		if (p->items[i].is_done)
			continue;
		if (q->is_ended)
			forget_item(&p->items[i]);
		else
			queue_result(&p->items[i], &(struct queue_outcome){.event = QUEUE_DELAYED,
							   .is_tried = true,
							   .status = "4.3.0",
							   .text = "The try ended without a result"});
	}
	queue_settle(p);
	queue_hop_run(q, hop);
}

static void make_recipients(struct queue_parcel *p)
{
	if (!p->recipients)
		p->recipients = xcalloc(p->count, sizeof(*p->recipients));
	for (size_t i = 0; i < p->count; i++)
		p->recipients[i] = (struct outbound_recipient){.address = p->items[i].address,
			.notify = p->items[i].notify,
			.orcpt = p->items[i].orcpt};
}

static int start_try(struct queue_parcel *p)
{
	struct queue *q = p->queue;
	const struct store_queue_message *m = &p->message;
	const char *session = m->session.len ? m->session.p : "";
	char id[32];
	struct outbound_request request = {.next_hop = p->hop->name,
		.sender = m->sender,
		.size = m->size + p->trace.len,
		.is_8bit = (m->flags & STORE_QUEUE_8BIT) || p->has_high,
		.is_utf8 = m->flags & STORE_QUEUE_UTF8,
		.requires_tls = m->flags & STORE_QUEUE_REQUIRETLS,
		.ret = m->ret,
		.envid = m->envid,
		.recipient_count = p->count,
		.read = on_read,
		.result = on_result,
		.done = on_done,
		.arg = p};
	int err;

	queue_result_id(p, id);
	request.session = session[0] ? session : id;
	make_recipients(p);
	request.recipients = p->recipients;
	p->is_active = true;
	p->hop->active++;
	err = q->sender.start(q->sender.arg, &request, &p->try);
	if (err) {
		p->is_active = false;
		p->hop->active--;
	} else {
		metric_add(q->m_tries, 1);
		q->active++;
	}
	return err;
}

/* It cannot be begun at all: a domain that is none, or a route that a reload has taken away. */
static void refuse(struct queue_parcel *p)
{
	size_t count = p->count;
	bool is_for_good = p->hop->is_none;

	p->is_active = true;
	for (size_t i = 0; i < count; i++)
		queue_result(&p->items[i],
			&(struct queue_outcome){.event = is_for_good ? QUEUE_FAILED : QUEUE_DELAYED,
				.status = is_for_good ? "5.1.2" : "4.3.0",
				.text = is_for_good ? "The domain of this address cannot be one"
						    : "Sending cannot begin"});
	queue_settle(p);
}

void queue_hop_run(struct queue *q, struct queue_hop *hop)
{
	bool is_local = strcmp(hop->name, QUEUE_LOCAL_HOP) == 0;

	while (!list_is_empty(&hop->waiting) && !q->is_ended) {
		struct queue_parcel *p = container_of(hop->waiting.next, struct queue_parcel, link);
		int err;

		if (is_local) {
			if (q->local_active >= QUEUE_LOCAL_MOST)
				return;
			list_remove(&p->link);
			queue_local_start(p);
			continue;
		}
		if (hop->is_full || (hop->failures && hop->active))
			return;
		list_remove(&p->link);
		err = hop->is_none ? ERR_SYNTAX : start_try(p);
		if (err == ERR_NOT_NOW) {
			list_add_first(&hop->waiting, &p->link);
			hop->is_full = true;
			return;
		}
		if (err == ERR_CANCELLED) {
			list_add_first(&hop->waiting, &p->link);
			return;
		}
		if (err)
			refuse(p);
	}
}

void queue_room(void *arg, const char *next_hop)
{
	struct queue *q = arg;
	struct slice key;
	void *value;

	if (next_hop) {
		struct queue_hop *hop = table_get(q->hops, slice_str(next_hop));

		if (hop) {
			hop->is_full = false;
			queue_hop_run(q, hop);
		}
		return;
	}
	for (size_t at = 0; table_next(q->hops, &at, &key, &value);) {
		struct queue_hop *hop = value;

		if (!hop->is_full)
			continue;
		hop->is_full = false;
		queue_hop_run(q, hop);
	}
}

/* ---- life ---- */

static void copy_settings(struct queue *q, const struct queue_settings *from)
{
	const char *const texts[ARRAY_LEN(q->texts)] = {from->host, from->notice_from, from->postmaster,
		from->failure_text, from->delay_text, from->success_text};

	q->settings = *from;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		set_text(&q->texts[i], texts[i] ? texts[i] : "");
	q->settings.host = q->texts[0];
	q->settings.notice_from = q->texts[1];
	q->settings.postmaster = q->texts[2];
	q->settings.failure_text = q->texts[3];
	q->settings.delay_text = q->texts[4];
	q->settings.success_text = q->texts[5];
}

static void timed_out(void *arg)
{
	queue_scan(arg);
}

static void commit_again(void *arg)
{
	queue_commit(arg);
}

struct queue *queue_new(struct store_work *work, struct delivery_service *delivery, struct loop *loop,
	const struct queue_sender *sender, const struct queue_settings *settings)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->work = work;
	q->delivery = delivery;
	q->loop = loop;
	q->sender = *sender;
	copy_settings(q, settings);
	q->hops = table_new();
	q->window = table_new();
	q->slot_count = store_slots(store_work_store(work));
	q->slots = xcalloc(q->slot_count, sizeof(*q->slots));
	for (unsigned i = 0; i < q->slot_count; i++) {
		struct queue_slot *slot = &q->slots[i];

		slot->queue = q;
		slot->number = i;
		list_init(&slot->refills);
		list_init(&slot->results);
		list_init(&slot->telling);
		timer_init(&slot->timer, timed_out, slot);
		timer_init(&slot->retry, commit_again, slot);
	}
	q->notices = rates_new();
	q->m_sent =
		metrics_counter("mailtier_queue_results", "result=\"sent\"", "Recipients by result of a try");
	q->m_local = metrics_counter(
		"mailtier_queue_results", "result=\"stored\"", "Recipients by result of a try");
	q->m_deferred = metrics_counter(
		"mailtier_queue_results", "result=\"deferred\"", "Recipients by result of a try");
	q->m_failed = metrics_counter(
		"mailtier_queue_results", "result=\"bounced\"", "Recipients by result of a try");
	q->m_notices = metrics_counter("mailtier_queue_notices", NULL, "Delivery status notifications made");
	q->m_untold = metrics_counter("mailtier_queue_notices_limited", NULL,
		"Delivery status notifications not made: notice-limit");
	q->m_tries = metrics_counter("mailtier_queue_tries", NULL, "Tries handed to the sending side");
	q->m_damaged = metrics_counter("mailtier_queue_damaged", NULL,
		"Recipients that were set aside because their message is damaged");
	q->m_window = metrics_gauge("mailtier_queue_window", NULL, "Recipients of the queue in memory");
	q->m_hops_deferred =
		metrics_gauge("mailtier_queue_hops_deferred", NULL, "Next hops that are put off");
	return q;
}

static void start(void *arg)
{
	struct queue *q = arg;

	q->is_running = true;
	for (unsigned i = 0; i < q->slot_count; i++)
		queue_scan(&q->slots[i]);
}

void queue_start(struct queue *q)
{
	loop_post(q->loop, start, q);
}

static void wake(void *arg)
{
	struct queue *q = arg;

	q->is_woken = false;
	for (unsigned i = 0; i < q->slot_count; i++) {
		q->slots[i].is_again = true;
		queue_scan(&q->slots[i]);
	}
}

void queue_wake(struct queue *q)
{
	if (!atomic_exchange(&q->is_woken, true))
		loop_post(q->loop, wake, q);
}

struct touched {
	struct queue *queue;
	bool is_due;
	size_t count;
	struct queue_touched list[];
};

/* All of a parcel: those that were not touched are read again with the others. */
static void forget_waiting(struct queue *q, const struct queue_touched *t)
{
	char key[16];
	struct queue_item *item;
	struct queue_parcel *p;

	queue_item_key(key, t->slot, t->message, t->number);
	item = table_get(q->window, slice_of(key, sizeof(key)));
	p = item ? item->parcel : NULL;
	if (!p || p->is_active || list_is_empty(&p->link))
		return;
	list_remove(&p->link);
	p->is_active = true; /* it outlives its items */
	for (size_t i = 0; i < p->count; i++)
		forget_item(&p->items[i]);
	queue_settle(p);
}

static void touch(void *arg)
{
	struct touched *t = arg;
	struct queue *q = t->queue;

	for (size_t i = 0; i < t->count; i++) {
		forget_waiting(q, &t->list[i]);
		if (t->is_due)
			queue_hop_of(q, slice_str(t->list[i].destination))->until = 0;
	}
	for (unsigned i = 0; i < q->slot_count; i++)
		q->slots[i].full_pass_at = 0;
	queue_count_deferred(q);
	free(t);
	queue_wake(q);
}

void queue_touch(struct queue *q, const struct queue_touched *list, size_t count, bool is_due)
{
	struct touched *t = xcalloc(1, sizeof(*t) + count * sizeof(*list));

	t->queue = q;
	t->is_due = is_due;
	t->count = count;
	memcpy(t->list, list, count * sizeof(*list));
	loop_post(q->loop, touch, t);
}

struct new_settings {
	struct queue *queue;
	struct queue_settings settings;
	char *texts[6];
};

static void take_settings(void *arg)
{
	struct new_settings *n = arg;

	copy_settings(n->queue, &n->settings);
	for (size_t i = 0; i < ARRAY_LEN(n->texts); i++)
		free(n->texts[i]);
	free(n);
}

void queue_set(struct queue *q, const struct queue_settings *settings)
{
	struct new_settings *n = xcalloc(1, sizeof(*n));
	const char **texts[ARRAY_LEN(n->texts)];

	n->queue = q;
	n->settings = *settings;
	texts[0] = &n->settings.host;
	texts[1] = &n->settings.notice_from;
	texts[2] = &n->settings.postmaster;
	texts[3] = &n->settings.failure_text;
	texts[4] = &n->settings.delay_text;
	texts[5] = &n->settings.success_text;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = n->texts[i] = xstrdup(*texts[i] ? *texts[i] : "");
	loop_post(q->loop, take_settings, n);
}

static void end(void *arg)
{
	struct queue *q = arg;

	for (unsigned i = 0; i < q->slot_count; i++) {
		timer_stop(&q->slots[i].timer);
		timer_stop(&q->slots[i].retry);
	}
}

unsigned queue_active(const struct queue *q)
{
	return q->active;
}

void queue_end(struct queue *q)
{
	q->is_ended = true;
	loop_post(q->loop, end, q);
}

void queue_free(struct queue **queue)
{
	struct queue *q = *queue;
	struct slice key;
	void *value;

	*queue = NULL;
	if (!q)
		return;
	/* Items belong to parcels, which go with the last of them. A placeholder is alone. */
	for (size_t at = 0; table_next(q->window, &at, &key, &value);) {
		struct queue_item *item = value;
		struct queue_parcel *p = item->parcel;

		table_remove(q->window, key);
		if (!p)
			free(item);
		else if (--p->left == 0) {
			delivery_end(&p->delivery, false);
			free_parcel(p);
		}
	}
	for (size_t at = 0; table_next(q->hops, &at, &key, &value);)
		free_hop(value);
	rates_free(&q->notices);
	for (unsigned i = 0; i < q->slot_count; i++) {
		while (!list_is_empty(&q->slots[i].refills)) {
			struct queue_refill *r =
				container_of(q->slots[i].refills.next, struct queue_refill, link);

			list_remove(&r->link);
			free(r->domain);
			free(r);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(q->texts); i++)
		free(q->texts[i]);
	table_free(&q->hops);
	table_free(&q->window);
	free(q->slots);
	free(q);
}
