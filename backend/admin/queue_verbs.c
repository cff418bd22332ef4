/*
 * All verbs walk over the recipients of the queue, slot by slot, in steps: a read job finds those that are meant, then they are shown, or a write job
 * changes them. No step reads more than some thousand rows or changes more than some hundred, so a queue of a million costs memory for one step.
 *
 * An ID is SLOT-NUMBER for a message with all its recipients, SLOT-NUMBER/N for one of them.
 */
#include "backend/admin/queue_verbs.h"

#include <stdlib.h>

#include "backend/delivery/queue.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/num.h"

#define STEP_FOUND 200
#define STEP_READ 5000
#define LIST_MOST 1000 /* shown, if nothing else is said */

enum verb {
	VERB_LIST,
	VERB_SHOW,
	VERB_RETRY,
	VERB_HOLD,
	VERB_RELEASE,
	VERB_REMOVE
};

struct found {
	struct queue_touched at;
	struct store_queue_message message;
	struct store_queue_recipient recipient;
};

struct filter {
	bool has_id, has_number;
	unsigned slot;
	uint64_t message;
	uint32_t number;
	const char *sender, *user, *recipient, *domain; /* the request's */
	bool wants_held, wants_waiting;
	uint64_t older; /* than this, ms since 1970; 0: any */
};

struct walk {
	struct admin *admin;
	struct control_request *request;
	enum verb verb;
	struct filter filter;
	uint64_t limit, count;
	unsigned slot;
	uint64_t message; /* the step begins here */
	uint32_t number;
	/* What a step finds. */
	struct arena arena;
	struct store_txn *txn;
	struct found found[STEP_FOUND];
	size_t found_count, read;
	uint64_t next_message;
	uint32_t next_number;
	bool has_more; /* of this slot */
	bool is_cut;   /* by the limit */
	char *reason;
};

static void free_walk(struct walk *w)
{
	arena_deinit(&w->arena);
	free(w->reason);
	free(w);
}

/* ---- finding ---- */

static bool is_named(struct slice address, const char *want)
{
	return !want || slice_is_str_nocase(address, want);
}

static bool is_meant(
	const struct filter *f, const struct store_queue_recipient *r, const struct store_queue_message *m)
{
	if (f->has_id && (r->message != f->message || (f->has_number && r->number != f->number)))
		return false;
	if (r->is_held ? !f->wants_held : !f->wants_waiting)
		return false;
	return is_named(r->address, f->recipient) && is_named(r->destination, f->domain) &&
	       is_named(m->sender, f->sender) && is_named(m->user, f->user) &&
	       (!f->older || m->arrived <= f->older);
}

static struct slice keep(struct walk *w, struct slice s)
{
	return s.len ? arena_copy(&w->arena, s) : slice_of(NULL, 0);
}

static bool take_row(void *arg, const struct store_queue_recipient *r)
{
	struct walk *w = arg;
	struct store_queue_message m = {0};
	struct found *f;

	w->next_message = r->message;
	w->next_number = r->number;
	if (w->filter.has_id && r->message != w->filter.message)
		return false;
	if (w->found_count == STEP_FOUND || w->read == STEP_READ) {
		w->has_more = true;
		return false;
	}
	w->read++;
	if (store_queue_get(w->txn, r->message, &m)) /* damaged: it can be seen, and removed */
		m = (struct store_queue_message){.id = r->message};
	if (!is_meant(&w->filter, r, &m))
		return true;
	if (w->count + w->found_count >= w->limit) {
		w->is_cut = true;
		return false;
	}
	f = &w->found[w->found_count++];
	*f = (struct found){.at = {.slot = w->slot, .message = r->message, .number = r->number}};
	snprintf(f->at.destination, sizeof(f->at.destination), "%.*s", SLICE_ARG(r->destination));
	f->message = m;
	f->message.sender = keep(w, m.sender);
	f->message.envid = keep(w, m.envid);
	f->message.session = keep(w, m.session);
	f->message.user = keep(w, m.user);
	f->recipient = *r;
	f->recipient.address = keep(w, r->address);
	f->recipient.destination = keep(w, r->destination);
	f->recipient.orcpt = keep(w, r->orcpt);
	f->recipient.reason = keep(w, r->reason);
	f->recipient.status = keep(w, r->status);
	f->recipient.remote = keep(w, r->remote);
	f->recipient.text = keep(w, r->text);
	return true;
}

static int run_find(struct store_txn *txn, void *arg)
{
	struct walk *w = arg;

	arena_reset(&w->arena);
	w->txn = txn;
	w->found_count = w->read = 0;
	w->has_more = w->is_cut = false;
	return store_queue_each(txn, w->message, w->number, take_row, w);
}

/* ---- showing ---- */

static void add_notify(struct control_request *r, unsigned notify)
{
	struct buf text = {0};

	smtp_parse_write_notify(&text, notify);
	if (buf_len(&text))
		control_add_slice(r, "notify", buf_view(&text));
	buf_deinit(&text);
}

static void show_row(struct walk *w, const struct found *f)
{
	struct control_request *r = w->request;
	const struct store_queue_recipient *to = &f->recipient;

	control_row(r);
	control_add_text(r, "id", "%u-%llu/%u", f->at.slot, (unsigned long long)f->at.message, f->at.number);
	control_add_slice(r, "sender", f->message.sender);
	control_add_slice(r, "recipient", to->address);
	control_add_str(r, "state", to->is_held ? "held" : "waiting");
	control_add_int(r, "size", (int64_t)f->message.size);
	control_add_time(r, "arrived", (int64_t)(f->message.arrived / 1000));
	control_add_int(r, "tries", to->tries);
	if (!to->is_held)
		control_add_time(r, "next", (int64_t)(to->next / 1000));
	if (to->is_held)
		control_add_slice(r, "reason", to->reason);
	if (to->text.len) {
		control_add_slice(r, "status", to->status);
		if (to->remote.len)
			control_add_slice(r, "remote", to->remote);
		control_add_slice(r, "text", to->text);
	}
	if (w->verb != VERB_SHOW)
		return;
	control_add_slice(r, "destination", to->destination);
	control_add_bool(r, "delay_told", to->is_warned);
	add_notify(r, to->notify);
	if (to->orcpt.len)
		control_add_slice(r, "orcpt", to->orcpt);
}

/* What is the same for all recipients. */
static void show_message(struct walk *w, const struct store_queue_message *m)
{
	struct control_request *r = w->request;

	control_result(r);
	control_add_text(r, "message", "%u-%llu", w->filter.slot, (unsigned long long)w->filter.message);
	control_add_slice(r, "session", m->session);
	control_add_slice(r, "user", m->user);
	control_add_slice(r, "envid", m->envid);
	control_add_bool(r, "is_notice", m->flags & STORE_QUEUE_NOTICE);
	control_add_bool(r, "smtputf8", m->flags & STORE_QUEUE_UTF8);
	control_add_bool(r, "requiretls", m->flags & STORE_QUEUE_REQUIRETLS);
}

/* ---- changing ---- */

static int run_change(struct store_txn *txn, void *arg)
{
	static const enum store_queue_how hows[] = {[VERB_RETRY] = STORE_QUEUE_RETRY,
		[VERB_HOLD] = STORE_QUEUE_HOLD,
		[VERB_RELEASE] = STORE_QUEUE_RELEASE,
		[VERB_REMOVE] = STORE_QUEUE_END};
	struct walk *w = arg;

	for (size_t i = 0; i < w->found_count; i++) {
		const struct found *f = &w->found[i];
		struct store_queue_change c = {.how = hows[w->verb],
			.message = f->at.message,
			.number = f->at.number,
			.next = clock_wall_ms(),
			.reason = slice_str(w->reason && w->reason[0] ? w->reason : "by an operator")};
		int err = store_queue_change(txn, &c);

		if (err && err != ERR_NOT_FOUND)
			return err;
	}
	return 0;
}

static void log_changes(const struct walk *w)
{
	static const char *const words[] = {[VERB_RETRY] = "retried",
		[VERB_HOLD] = "held",
		[VERB_RELEASE] = "released",
		[VERB_REMOVE] = "removed"};

	for (size_t i = 0; i < w->found_count; i++) {
		const struct found *f = &w->found[i];
		const struct store_queue_recipient *to = &f->recipient;
		uint64_t now = clock_wall_ms(),
			 waited = now > f->message.arrived ? now - f->message.arrived : 0;
		const char *reason = w->reason ? w->reason : "";
		char id[32];

		snprintf(id, sizeof(id), "%u-%llu", f->at.slot, (unsigned long long)f->at.message);
		/* The keys of every line about a recipient: docs/operations.md. */
		log_info("queue",
			"%.*s: from=<%.*s> to=<%.*s> relay=none delay=%.3f/0.000/0.000/0.000 tls=none "
			"dsn=%.*s "
			"status=%s (by an operator%s%s) queue=%s tries=%u",
			SLICE_ARG(f->message.session.len ? f->message.session : slice_str(id)),
			SLICE_ARG(f->message.sender), SLICE_ARG(to->address), (double)waited / 1000,
			SLICE_ARG(to->status.len ? to->status : SLICE_LIT("none")), words[w->verb],
			reason[0] ? ": " : "", reason, id, to->tries);
	}
}

/* ---- the steps ---- */

static void begin_step(struct walk *w);

static void end_walk(struct walk *w)
{
	struct control_request *r = w->request;

	if (w->filter.has_id && !w->count) {
		control_fail(r, ERR_NOT_FOUND, "there is no such message, or recipient of it, in that state");
		free_walk(w);
		return;
	}
	if (w->verb != VERB_SHOW)
		control_result(r);
	control_add_int(r, "recipients", (int64_t)w->count);
	if (w->is_cut)
		control_add_bool(r, "more", true);
	control_done(r);
	free_walk(w);
}

static void next_step(void *arg)
{
	struct walk *w = arg;

	w->count += w->found_count;
	if (w->has_more) {
		w->message = w->next_message;
		w->number = w->next_number;
	} else {
		w->slot++;
		w->message = 0;
		w->number = 0;
	}
	if (w->is_cut || control_is_gone(w->request) || w->slot >= store_slots(w->admin->store) ||
		(w->filter.has_id && !w->has_more))
		end_walk(w);
	else
		begin_step(w);
}

static void fail(struct walk *w, int err)
{
	control_fail(w->request, err, "%s", error_text(err));
	free_walk(w);
}

static void changed(void *arg, int err)
{
	struct walk *w = arg;
	struct queue_touched *list;

	if (err) {
		fail(w, err);
		return;
	}
	list = xcalloc(w->found_count + 1, sizeof(*list));
	for (size_t i = 0; i < w->found_count; i++)
		list[i] = w->found[i].at;
	queue_touch(w->admin->queue, list, w->found_count, w->verb == VERB_RETRY || w->verb == VERB_RELEASE);
	free(list);
	log_changes(w);
	next_step(w);
}

static void found(void *arg, int err)
{
	struct walk *w = arg;

	if (err) {
		fail(w, err);
		return;
	}
	if (w->verb <= VERB_SHOW) {
		for (size_t i = 0; i < w->found_count; i++)
			show_row(w, &w->found[i]);
		if (w->verb == VERB_SHOW && w->found_count && !w->count && !w->has_more)
			show_message(w, &w->found[0].message);
		control_when_room(w->request, next_step, w);
		return;
	}
	if (!w->found_count) {
		next_step(w);
		return;
	}
	(void)store_work_write(w->admin->work, w->slot,
		&(struct store_work_call){.run = run_change,
			.done = changed,
			.arg = w,
			.loop = w->admin->loop,
			.name = "queue verb"});
}

static void begin_step(struct walk *w)
{
	(void)store_work_read(w->admin->work, w->slot,
		&(struct store_work_call){.run = run_find,
			.done = found,
			.arg = w,
			.loop = w->admin->loop,
			.name = "queue list"});
}

/* ---- arguments ---- */

static bool read_id(const char *text, struct filter *f)
{
	struct slice s = slice_str(text), number;
	ptrdiff_t dash = slice_find(s, '-'), slash = slice_find(s, '/');
	uint32_t slot;

	if (dash <= 0)
		return false;
	if (slash > dash) {
		number = slice_from(s, (size_t)slash + 1);
		s = slice_sub(s, 0, (size_t)slash);
		f->has_number = true;
		if (num_parse_u32(number, &f->number))
			return false;
	}
	if (num_parse_u32(slice_sub(s, 0, (size_t)dash), &slot) ||
		num_parse_u64(slice_from(s, (size_t)dash + 1), &f->message))
		return false;
	f->slot = slot;
	f->has_id = true;
	return true;
}

/* NULL, or what is wrong. */
static const char *read_filter(struct walk *w)
{
	struct control_request *r = w->request;
	struct filter *f = &w->filter;
	const char *state = control_option(r, "state", 0), *older = control_option(r, "older", 0);
	const char *limit = control_option(r, "limit", 0);
	uint64_t ms;

	f->sender = control_option(r, "sender", 0);
	f->user = control_option(r, "user", 0);
	f->recipient = control_option(r, "recipient", 0);
	f->domain = control_option(r, "domain", 0);
	f->wants_held = f->wants_waiting = true;
	if (state && strcmp(state, "held") == 0)
		f->wants_waiting = false;
	else if (state && strcmp(state, "waiting") == 0)
		f->wants_held = false;
	else if (state)
		return "--state is waiting or held";
	if (older && (num_parse_duration(slice_str(older), &ms) || ms > clock_wall_ms()))
		return "--older is a time, such as 3h or 2d";
	if (older)
		f->older = clock_wall_ms() - ms;
	if (limit && (num_parse_u64(slice_str(limit), &w->limit) || !w->limit))
		return "--limit is a number";
	if (control_arg_count(r) > 0 && !read_id(control_arg(r, 0), f))
		return "an ID is SLOT-NUMBER, or SLOT-NUMBER/RECIPIENT, as queue list shows it";
	if (f->has_id && f->slot >= store_slots(w->admin->store))
		return "there is no such slot";
	return NULL;
}

static void start(struct admin *admin, struct control_request *r, enum verb verb, bool wants_choice)
{
	struct walk *w = xcalloc(1, sizeof(*w));
	const char *why, *reason = control_option(r, "reason", 0);

	w->admin = admin;
	w->request = r;
	w->verb = verb;
	w->limit = verb == VERB_LIST ? LIST_MOST : UINT64_MAX;
	arena_init(&w->arena, 0);
	why = read_filter(w);
	if (!admin->queue) {
		control_fail(r, ERR_NOT_NOW, "the store is not open yet");
		free_walk(w);
		return;
	}
	if (!why && wants_choice && !w->filter.has_id && !w->filter.sender && !w->filter.user &&
		!w->filter.recipient && !w->filter.domain && !w->filter.older &&
		!control_option(r, "state", 0) && !control_has_option(r, "all"))
		why = "say which: an ID, --sender, --user, --recipient, --domain, --state, --older, or --all";
	if (why) {
		control_fail(r, ERR_SYNTAX, "%s", why);
		free_walk(w);
		return;
	}
	if (verb == VERB_HOLD)
		w->reason = xstrdup(reason ? reason : "");
	if (verb == VERB_HOLD || verb == VERB_RETRY)
		w->filter.wants_held = false;
	if (verb == VERB_RELEASE)
		w->filter.wants_waiting = false;
	w->slot = w->filter.has_id ? w->filter.slot : 0;
	w->message = w->filter.message;
	begin_step(w);
}

static void verb_list(void *arg, struct control_request *r)
{
	start(arg, r, VERB_LIST, false);
}

static void verb_show(void *arg, struct control_request *r)
{
	start(arg, r, VERB_SHOW, false);
}

static void verb_retry(void *arg, struct control_request *r)
{
	start(arg, r, VERB_RETRY, true);
}

static void verb_hold(void *arg, struct control_request *r)
{
	start(arg, r, VERB_HOLD, true);
}

static void verb_release(void *arg, struct control_request *r)
{
	start(arg, r, VERB_RELEASE, true);
}

static void verb_remove(void *arg, struct control_request *r)
{
	start(arg, r, VERB_REMOVE, true);
}

/* ---- flush ---- */

static void verb_flush(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct walk *w = xcalloc(1, sizeof(*w));

	w->admin = admin;
	w->request = r;
	w->verb = VERB_RETRY;
	w->limit = UINT64_MAX;
	w->filter.domain = control_arg(r, 0);
	w->filter.wants_waiting = true;
	arena_init(&w->arena, 0);
	if (!admin->queue) {
		control_fail(r, ERR_NOT_NOW, "the store is not open yet");
		free_walk(w);
		return;
	}
	begin_step(w);
}

#define FILTERS "sender= user= recipient= domain= state= older="
#define FILTERS_USAGE                                                                                        \
	"[--sender ADDRESS] [--user NAME] [--recipient ADDRESS] [--domain DOMAIN] [--state waiting|held] "   \
	"[--older TIME]"

static const struct control_verb verbs[] = {
	{"queue list", FILTERS_USAGE " [--limit N]",
		"Recipients in the queue, at most 1,000 if no limit is given", verb_list, 0, 0,
		FILTERS " limit=", 0},
	{"queue show", "ID", "A message of the queue with its recipients", verb_show, 1, 1, NULL, 0},
	{"queue retry", "[ID | " FILTERS_USAGE " | --all]", "Tries them now", verb_retry, 0, 1,
		FILTERS " all", 0},
	{"queue hold", "[ID | " FILTERS_USAGE " | --all] [--reason TEXT]",
		"Keeps them until they are released", verb_hold, 0, 1, FILTERS " all reason=", 0},
	{"queue release", "[ID | " FILTERS_USAGE " | --all]", "Lets go what is held", verb_release, 0, 1,
		FILTERS " all", 0},
	{"queue remove", "[ID | " FILTERS_USAGE " | --all]", "Takes them out; their senders are not told",
		verb_remove, 0, 1, FILTERS " all", 0},
	{"queue flush", "DOMAIN", "Tries what waits for a domain now, even if it was put off", verb_flush, 1,
		1, NULL, 0},
};

/* ---- figures ---- */

static void collect(void *arg)
{
	struct admin *admin = arg;
	struct store_queue_stat sum = {0};

	for (unsigned i = 0; admin->store && i < store_slots(admin->store); i++) {
		struct store_queue_stat one;
		struct store_txn *txn;

		if (store_begin_read(admin->store, i, &txn))
			continue;
		if (store_queue_stat(txn, &one) == 0) {
			sum.messages += one.messages;
			sum.waiting += one.waiting;
			sum.held += one.held;
			if (one.oldest && (!sum.oldest || one.oldest < sum.oldest))
				sum.oldest = one.oldest;
		}
		store_end_read(&txn);
	}
	metric_set(metrics_gauge("mailtier_queue_messages", NULL, "Messages in the queue"),
		(int64_t)sum.messages);
	metric_set(metrics_gauge("mailtier_queue_recipients", "state=\"waiting\"",
			   "Recipients in the queue by state"),
		(int64_t)sum.waiting);
	metric_set(metrics_gauge(
			   "mailtier_queue_recipients", "state=\"held\"", "Recipients in the queue by state"),
		(int64_t)sum.held);
	metric_set(metrics_gauge(
			   "mailtier_queue_oldest_seconds", NULL, "Age of the oldest message in the queue"),
		sum.oldest ? (int64_t)((clock_wall_ms() - sum.oldest) / 1000) : 0);
}

void queue_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}

void queue_verbs_measure(struct admin *admin, bool is_on)
{
	if (is_on)
		metrics_on_collect(collect, admin);
	else
		metrics_off_collect(collect, admin);
}
