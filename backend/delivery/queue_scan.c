/*
 * Filling the window. A pass reads who is due in the order of time, a thousand rows a job; the loop takes those that are not in the window yet and
 * whose next hop has room in its share, and a second job loads them as parcels.
 *
 * Rows may come before the place that a pass has reached (a commit that took long), so each pass begins some seconds before the last one began,
 * and once a minute at the start; that one takes those too whose time is further away than any wait (the clock was ahead, and is right now). Where a next hop has too much, its domains are remembered, and read by the other index when it has room.
 */
#include <limits.h>
#include <stdlib.h>

#include "backend/delivery/queue_inner.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/proto/header.h"

#define PASS_OVERLAP_MS 2000
#define WAIT_MOST_MS 30000
#define LOAD_MOST 100 /* recipients a job */
#define HEADER_READ (32 * 1024)

struct row {
	struct store_queue_place place;
	unsigned domain; /* where its text begins in `texts` */
	unsigned domain_len;
};

struct scan {
	struct queue_slot *slot;
	char *domain; /* of a refill; NULL: a pass */
	struct store_queue_place from;
	uint64_t until;
	/* What it found. */
	struct row rows[QUEUE_SCAN_ROWS];
	size_t count;
	struct buf texts;
	bool is_full;  /* there may be more */
	uint64_t next; /* time of the first beyond; 0: none */
};

/* ---- loading ---- */

struct wanted {
	struct store_queue_place place;
	char *domain;
	struct queue_hop *hop;
	/* What was loaded. ERR_NOT_FOUND: it has gone meanwhile. ERR_CORRUPT: it is damaged, and to be set aside. */
	int err;
	struct store_queue_message message;
	struct store_queue_recipient recipient;
	struct slice body;
	bool is_first; /* of its message in this load */
};

struct load {
	struct queue_slot *slot;
	struct arena arena;
	struct wanted wanted[LOAD_MOST];
	size_t count;
};

void queue_item_key(char key[16], unsigned slot, uint64_t message, uint32_t number)
{
	memcpy(key, &slot, 4);
	memcpy(key + 4, &message, 8);
	memcpy(key + 12, &number, 4);
}

/* A copy in the arena; what does not fit (there is no limit) would be our mistake. */
static struct slice keep(struct arena *a, struct slice s)
{
	return s.len ? arena_copy(a, s) : slice_of(NULL, 0);
}

static void keep_message(struct arena *a, struct store_queue_message *m)
{
	m->sender = keep(a, m->sender);
	m->envid = keep(a, m->envid);
	m->session = keep(a, m->session);
	m->user = keep(a, m->user);
}

static void keep_recipient(struct arena *a, struct store_queue_recipient *r)
{
	r->address = keep(a, r->address);
	r->destination = keep(a, r->destination);
	r->orcpt = keep(a, r->orcpt);
	r->trace = keep(a, r->trace);
	r->reason = keep(a, r->reason);
	r->status = keep(a, r->status);
	r->remote = keep(a, r->remote);
	r->text = keep(a, r->text);
}

static int load_body(struct store_txn *txn, struct arena *a, struct wanted *w)
{
	bool is_short = w->message.size <= QUEUE_BODY_KEPT;
	size_t want = is_short ? (size_t)w->message.size : HEADER_READ, len = 0;
	char *room;
	int err;

	/* Of a long one the header is looked at before its first try alone. */
	if (!is_short && w->recipient.tries)
		return 0;
	room = arena_alloc(a, want + 1);
	if (!room)
		return ERR_NOT_NOW;
	err = store_queue_read(txn, &w->message, 0, room, want, &len);
	if (!err && is_short && len != want)
		err = ERR_CORRUPT;
	if (!err)
		w->body = slice_of(room, len);
	return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

/* Its row does not say what the index says: it has changed since it was seen, or the index is damaged. */
static int is_it_there(struct store_txn *txn, const struct store_queue_place *place)
{
	bool is_listed = false;
	int err = store_queue_is_due(txn, place, &is_listed);

	return err ? err : is_listed ? ERR_CORRUPT : ERR_NOT_FOUND;
}

static int load_message(struct store_txn *txn, struct arena *a, struct wanted *w)
{
	int err = store_queue_get(txn, w->place.message, &w->message);

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	keep_message(a, &w->message);
	return load_body(txn, a, w);
}

static int run_load(struct store_txn *txn, void *arg)
{
	struct load *l = arg;

	arena_reset(&l->arena);
	for (size_t i = 0; i < l->count; i++) {
		struct wanted *w = &l->wanted[i];
		const struct store_queue_place *p = &w->place;

		w->is_first = i == 0 || l->wanted[i - 1].place.message != p->message || l->wanted[i - 1].err;
		w->err = store_queue_get_recipient(txn, p->message, p->number, &w->recipient);
		if (w->err == ERR_NOT_FOUND ||
			(!w->err && (w->recipient.is_held || w->recipient.next != p->time)))
			w->err = is_it_there(txn, p);
		if (!w->err && w->is_first) {
			w->err = load_message(txn, &l->arena, w);
		} else if (!w->err) {
			w->message = l->wanted[i - 1].message;
			w->body = l->wanted[i - 1].body;
		}
		if (!w->err)
			keep_recipient(&l->arena, &w->recipient);
	}
	return 0;
}

/* ---- parcels ---- */

static bool fits(const struct wanted *first, const struct wanted *w)
{
	return w->hop == first->hop && w->place.message == first->place.message &&
	       slice_is_equal(w->recipient.trace, first->recipient.trace);
}

/* Received, of servers; Delivered-To, of those who forward: a circle within this one adds no Received. Who forwards (trace) and has done so
 * before is met again: no more, however few the hops are. */
static unsigned count_hops(struct slice header, struct slice trace)
{
	unsigned n = 0;
	struct slice rest = header;

	while (rest.len) {
		ptrdiff_t at = slice_find(rest, '\n');
		struct slice line = slice_sub(rest, 0, at < 0 ? rest.len : (size_t)at + 1);

		if (line.p[0] == '\r' || line.p[0] == '\n')
			break;
		n += slice_has_prefix_nocase(line, "received:") ||
		     slice_has_prefix_nocase(line, "delivered-to:");
		if (trace.len && slice_is_equal_nocase(line, trace))
			return UINT_MAX;
		rest = slice_from(rest, line.len);
	}
	return n;
}

static bool has_high(struct slice s)
{
	return !slice_is_ascii(s);
}

static void fill_item(struct queue_parcel *p, struct queue_item *item, const struct wanted *w)
{
	const struct store_queue_recipient *r = &w->recipient;
	struct arena *a = &p->arena;

	queue_item_key(item->key, p->slot->number, p->message.id, w->place.number);
	item->parcel = p;
	item->number = w->place.number;
	item->address = keep(a, r->address);
	item->destination = keep(a, r->destination);
	item->orcpt = keep(a, r->orcpt);
	item->notify = r->notify;
	item->tries = r->tries;
	item->is_warned = r->is_warned;
	item->last_status = keep(a, r->status);
	item->last_remote = keep(a, r->remote);
	item->last_text = keep(a, r->text);
	list_init(&item->link);
}

/* The place that was taken for a row at the scan. */
static void give_back(struct queue_slot *slot, const struct store_queue_place *place)
{
	char key[16];
	struct queue_item *placeholder;

	queue_item_key(key, slot->number, place->message, place->number);
	placeholder = table_remove(slot->queue->window, slice_of(key, sizeof(key)));
	free(placeholder);
}

/* It is not sent now. */
static void leave(struct queue_slot *slot, const struct store_queue_place *place, struct queue_hop *hop)
{
	give_back(slot, place);
	hop->in_window--;
	slot->in_window--;
	queue_place_free(slot, hop);
}

static struct queue_parcel *make_parcel(struct queue_slot *slot, struct wanted *const *list, size_t count)
{
	struct queue_parcel *p = xcalloc(1, sizeof(*p));
	const struct wanted *w = list[0];

	list_init(&p->link);
	p->queue = slot->queue;
	p->slot = slot;
	p->hop = w->hop;
	arena_init(&p->arena, 0);
	p->message = w->message;
	keep_message(&p->arena, &p->message);
	p->trace = keep(&p->arena, w->recipient.trace);
	if (w->message.size <= QUEUE_BODY_KEPT)
		p->body = keep(&p->arena, w->body);
	p->has_high = has_high(w->body);
	p->hops = count_hops(w->body, p->trace);
	p->loaded = clock_wall_ms();
	p->items = arena_calloc(&p->arena, count, sizeof(*p->items));
	p->count = p->left = count;
	for (size_t i = 0; i < count; i++) {
		struct queue_item *item = &p->items[i];

		give_back(slot, &list[i]->place);
		fill_item(p, item, list[i]);
		table_put(slot->queue->window, slice_of(item->key, sizeof(item->key)), item);
	}
	return p;
}

/* One whose message goes in circles, or whose next hop waits, ends here; others line up. */
static void dispatch(struct queue_parcel *p)
{
	struct queue *q = p->queue;
	struct queue_hop *hop = p->hop;
	size_t count = p->count;

	if (q->settings.hops && p->hops > q->settings.hops) {
		for (size_t i = 0; i < count; i++)
			queue_result(
				&p->items[i], &(struct queue_outcome){.event = QUEUE_FAILED,
						      .status = "5.4.6",
						      .text = "The message goes in circles: too many hops"});
		return;
	}
	if (queue_hop_is_off(q, hop, p->loaded)) {
		for (size_t i = 0; i < count; i++)
			queue_result(&p->items[i], &(struct queue_outcome){.event = QUEUE_DELAYED,
							   .not_before = hop->until,
							   .status = hop->status,
							   .text = hop->reason});
		return;
	}
	list_add_last(&hop->waiting, &p->link);
	queue_hop_run(q, hop);
}

/* What is an account's here goes that way, whatever its domain's next hop is. */
static void choose_hop(struct queue *q, struct wanted *w)
{
	struct queue_hop *local;

	if (w->err || strcmp(w->hop->name, QUEUE_LOCAL_HOP) == 0 || !queue_local_is(q, w->recipient.address))
		return;
	local = queue_hop_get(q, QUEUE_LOCAL_HOP);
	w->hop->in_window--;
	local->in_window++;
	w->hop = local;
}

/* ---- what cannot be sent ---- */

struct aside {
	struct queue_slot *slot;
	size_t count;
	struct {
		struct store_queue_place place;
		struct queue_hop *hop;
		char domain[STORE_QUEUE_DESTINATION_MAX + 1];
		bool is_done;
	} rows[LOAD_MOST];
};

static int run_aside(struct store_txn *txn, void *arg)
{
	struct aside *a = arg;

	for (size_t i = 0; i < a->count; i++) {
		int err = store_queue_set_aside(
			txn, &a->rows[i].place, slice_str(a->rows[i].domain), SLICE_LIT(QUEUE_DAMAGED));

		a->rows[i].is_done = !err;
		if (err && err != ERR_NOT_FOUND)
			return err;
	}
	return 0;
}

/* Told once: it comes in no pass any more. */
static void set_aside(void *arg, int err)
{
	struct aside *a = arg;
	struct queue_slot *slot = a->slot;

	if (err)
		log_warn("queue", "damaged recipients of slot %u cannot be set aside: %s", slot->number,
			error_text(err));
	for (size_t i = 0; i < a->count; i++) {
		const struct store_queue_place *p = &a->rows[i].place;

		leave(slot, p, a->rows[i].hop);
		if (err || !a->rows[i].is_done)
			continue;
		metric_add(slot->queue->m_damaged, 1);
		log_error("queue",
			"a queued message is damaged, and is not sent: message=%u-%llu/%u domain=%s; see "
			"queue list "
			"--state held, store check",
			slot->number, (unsigned long long)p->message, p->number, a->rows[i].domain);
	}
}

/* The place in the window is kept meanwhile, so that no pass takes it again. */
static void add_aside(struct queue_slot *slot, struct aside **a, const struct wanted *w)
{
	if (!*a)
		*a = xcalloc(1, sizeof(**a));
	(*a)->slot = slot;
	(*a)->rows[(*a)->count].place = w->place;
	(*a)->rows[(*a)->count].hop = w->hop;
	snprintf((*a)->rows[(*a)->count].domain, sizeof((*a)->rows[0].domain), "%s", w->domain);
	(*a)->count++;
}

static void send_aside(struct queue_slot *slot, struct aside *a)
{
	if (!a)
		return;
	(void)store_work_write(slot->queue->work, slot->number,
		&(struct store_work_call){.run = run_aside,
			.done = set_aside,
			.drop = free,
			.arg = a,
			.loop = slot->queue->loop,
			.name = "queue damaged"});
}

static void loaded(void *arg, int err)
{
	struct load *l = arg;
	struct queue_slot *slot = l->slot;
	struct queue *q = slot->queue;
	struct wanted *group[QUEUE_PARCEL_MOST];
	bool taken[LOAD_MOST] = {false};
	struct aside *aside = NULL;

	for (size_t i = 0; i < l->count; i++) {
		struct wanted *w = &l->wanted[i];

		if (err)
			w->err = err;
		if (w->err && w->err != ERR_NOT_FOUND && w->err != ERR_CORRUPT)
			log_warn("queue", "a queued recipient cannot be read message=%u-%llu/%u: %s",
				slot->number, (unsigned long long)w->place.message, w->place.number,
				error_text(w->err));
		taken[i] = w->err != 0;
		if (w->err == ERR_CORRUPT && !err)
			add_aside(slot, &aside, w);
		else if (w->err)
			leave(slot, &w->place, w->hop);
		choose_hop(q, w);
	}
	send_aside(slot, aside);
	for (size_t i = 0; i < l->count; i++) {
		size_t count = 0;

		for (size_t k = i; k < l->count && count < QUEUE_PARCEL_MOST; k++) {
			if (taken[k] || (k != i && !fits(&l->wanted[i], &l->wanted[k])))
				continue;
			taken[k] = true;
			group[count++] = &l->wanted[k];
			if (k == i && l->wanted[i].err)
				break;
		}
		if (count)
			dispatch(make_parcel(slot, group, count));
	}
}

static void drop_load(void *arg)
{
	struct load *l = arg;

	for (size_t i = 0; i < l->count; i++)
		free(l->wanted[i].domain);
	arena_deinit(&l->arena);
	free(l);
}

static void send_load(struct load **load)
{
	struct load *l = *load;

	*load = NULL;
	if (!l)
		return;
	(void)store_work_read(l->slot->queue->work, l->slot->number,
		&(struct store_work_call){.run = run_load,
			.done = loaded,
			.drop = drop_load,
			.arg = l,
			.loop = l->slot->queue->loop,
			.name = "queue load"});
}

/* ---- what a scan found ---- */

static void park(struct queue_hop *hop, const char *domain)
{
	for (unsigned i = 0; i < hop->parked_count; i++)
		if (strcmp(hop->parked[i], domain) == 0)
			return;
	if (hop->parked_count == QUEUE_PARKED_MOST) {
		hop->has_more_parked = true;
		return;
	}
	if (!hop->parked)
		hop->parked = xcalloc(QUEUE_PARKED_MOST, sizeof(*hop->parked));
	hop->parked[hop->parked_count++] = xstrdup(domain);
}

/* A row that is not in the window and has room there. */
static bool take_row(struct queue_slot *slot, const struct row *row, const char *domain, struct load **load)
{
	struct queue *q = slot->queue;
	struct queue_item *placeholder;
	struct queue_hop *hop;
	struct wanted *w;
	char key[16];

	queue_item_key(key, slot->number, row->place.message, row->place.number);
	if (table_get(q->window, slice_of(key, sizeof(key))))
		return false;
	hop = queue_hop_of(q, slice_str(domain));
	if (hop->in_window >= queue_share(q)) {
		park(hop, domain);
		return false;
	}
	placeholder = xcalloc(1, sizeof(*placeholder));
	memcpy(placeholder->key, key, sizeof(key));
	table_put(q->window, slice_of(placeholder->key, sizeof(placeholder->key)), placeholder);
	hop->in_window++;
	slot->in_window++;
	if (*load && (*load)->count == LOAD_MOST)
		send_load(load);
	if (!*load) {
		*load = xcalloc(1, sizeof(**load));
		(*load)->slot = slot;
		arena_init(&(*load)->arena, 0);
	}
	w = &(*load)->wanted[(*load)->count++];
	w->place = row->place;
	w->domain = xstrdup(domain);
	w->hop = hop;
	return true;
}

static void end_pass(struct queue_slot *slot)
{
	uint64_t now = clock_wall_ms(), wait = WAIT_MOST_MS;

	slot->is_pass = slot->is_far = false;
	queue_count_deferred(slot->queue);
	if (slot->next_due && slot->next_due < now + wait)
		wait = slot->next_due > now ? slot->next_due - now : 1;
	if (slot->is_again)
		queue_scan(slot);
	else
		queue_scan_at(slot, now + wait);
}

void queue_scan_at(struct queue_slot *slot, uint64_t wall)
{
	uint64_t now = clock_wall_ms();

	if (slot->queue->is_ended || (timer_is_set(&slot->timer) && slot->timer_at <= wall))
		return;
	slot->timer_at = wall;
	timer_set(&slot->timer, slot->queue->loop, wall > now ? wall - now : 0);
}

static struct store_queue_place after(const struct store_queue_place *place)
{
	struct store_queue_place next = *place;

	next.number++; /* numbers end before UINT32_MAX */
	return next;
}

static void scanned(void *arg, int err)
{
	struct scan *s = arg;
	struct queue_slot *slot = s->slot;
	struct load *load = NULL;
	bool is_stopped = false;

	slot->is_scanning = false;
	if (err)
		log_warn("queue", "the queue of slot %u cannot be read: %s", slot->number, error_text(err));
	for (size_t i = 0; i < s->count && !err && !slot->queue->is_ended; i++) {
		struct row *row = &s->rows[i];

		if (slot->in_window >= slot->queue->settings.window) {
			is_stopped = true; /* goes on from here */
			if (s->domain)
				park(queue_hop_of(slot->queue, slice_str(s->domain)), s->domain);
			else
				slot->mark = row->place;
			break;
		}
		take_row(slot, row, buf_str_view(&s->texts) + row->domain, &load);
	}
	send_load(&load);
	if (slot->queue->is_ended)
		return;
	if (err) {
		slot->is_pass = false;
		queue_scan_at(slot, clock_wall_ms() + WAIT_MOST_MS);
	} else if (s->domain) {
		queue_scan(slot);
	} else if (!is_stopped && s->is_full) {
		slot->mark = after(&s->rows[s->count - 1].place);
		queue_scan(slot);
	} else if (!is_stopped && slot->wants_far) {
		/* Once a minute: who waits for a time that nothing can have been given, unless the clock was ahead. He is due. */
		slot->next_due = s->next;
		slot->wants_far = false;
		slot->is_far = true;
		slot->mark =
			(struct store_queue_place){.time = clock_wall_ms() + queue_wait_most(slot->queue)};
		queue_scan(slot);
	} else if (!is_stopped) {
		if (!slot->is_far)
			slot->next_due = s->next;
		end_pass(slot);
	}
}

static void drop_scan(void *arg)
{
	struct scan *s = arg;

	free(s->domain);
	buf_deinit(&s->texts);
	free(s);
}

/* ---- the job ---- */

static bool note_row(void *arg, const struct store_queue_place *place, struct slice destination)
{
	struct scan *s = arg;

	if (place->time > s->until) {
		s->next = place->time;
		return false;
	}
	if (s->count == QUEUE_SCAN_ROWS) {
		s->is_full = true;
		return false;
	}
	s->rows[s->count++] = (struct row){*place, (unsigned)buf_len(&s->texts), (unsigned)destination.len};
	buf_add_slice(&s->texts, destination);
	buf_add_char(&s->texts, '\0');
	return true;
}

static int run_scan(struct store_txn *txn, void *arg)
{
	struct scan *s = arg;

	s->count = 0;
	s->next = 0;
	s->is_full = false;
	buf_clear(&s->texts);
	if (s->domain)
		return store_queue_due_of(txn, slice_str(s->domain), &s->from, s->until, note_row, s);
	return store_queue_due(txn, &s->from, UINT64_MAX, note_row, s);
}

static void begin_scan(struct queue_slot *slot, char *domain_take)
{
	struct scan *s = xcalloc(1, sizeof(*s));

	s->slot = slot;
	s->domain = domain_take;
	s->until = clock_wall_ms();
	if (!domain_take)
		s->from = slot->mark;
	if (!domain_take && slot->is_far)
		s->until = UINT64_MAX;
	slot->is_scanning = true;
	(void)store_work_read(slot->queue->work, slot->number,
		&(struct store_work_call){.run = run_scan,
			.done = scanned,
			.drop = drop_scan,
			.arg = s,
			.loop = slot->queue->loop,
			.name = "queue scan"});
}

static char *take_refill(struct queue_slot *slot)
{
	struct queue_refill *r = container_of(slot->refills.next, struct queue_refill, link);
	char *domain = r->domain;

	list_remove(&r->link);
	free(r);
	return domain;
}

void queue_scan(struct queue_slot *slot)
{
	uint64_t now = clock_wall_ms(), mono = clock_mono_ms();

	if (slot->queue->is_ended || !slot->queue->is_running)
		return;
	if (slot->is_scanning) {
		slot->is_again = true;
		return;
	}
	if (slot->in_window >= slot->queue->settings.window)
		return; /* queue_item_gone() comes back */
	if (!list_is_empty(&slot->refills)) {
		begin_scan(slot, take_refill(slot));
		return;
	}
	if (!slot->is_pass) {
		slot->mark = (struct store_queue_place){0};
		slot->is_far = slot->wants_far = false;
		if (mono < slot->full_pass_at && slot->pass_began > PASS_OVERLAP_MS)
			slot->mark.time = slot->pass_began - PASS_OVERLAP_MS;
		else {
			slot->full_pass_at = mono + QUEUE_FULL_PASS_MS;
			slot->wants_far = true;
		}
		slot->pass_began = now;
		slot->is_pass = true;
		slot->is_again = false;
		timer_stop(&slot->timer);
	}
	begin_scan(slot, NULL);
}

void queue_scan_refill(struct queue *q, struct queue_hop *hop)
{
	char *domain;

	if (hop->parked_count == 0) {
		if (hop->has_more_parked) {
			hop->has_more_parked = false;
			for (unsigned i = 0; i < q->slot_count; i++) {
				q->slots[i].full_pass_at = 0;
				q->slots[i].is_again = true;
				queue_scan(&q->slots[i]);
			}
		}
		return;
	}
	domain = hop->parked[--hop->parked_count];
	for (unsigned i = 0; i < q->slot_count; i++) {
		struct queue_refill *r = xcalloc(1, sizeof(*r));

		r->domain = xstrdup(domain);
		list_add_last(&q->slots[i].refills, &r->link);
		queue_scan(&q->slots[i]);
	}
	free(domain);
}
