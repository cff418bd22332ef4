/*
 * Notices (RFC 3461 to 3464). The message is read as far as it is returned, the notice written by common/proto/dsn.h and stored as a queued message
 * of the null sender, in the commit in which its recipients end, or are marked as warned: told once, whatever happens.
 */
#include <stdlib.h>

#include "backend/delivery/queue_inner.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/proto/dsn.h"

#define BOUNDARY_LEN 40

struct notice {
	struct queue_slot *slot;
	struct queue_item **items; /* the caller's until done */
	size_t count;
	void (*done)(void *arg, int err);
	void *arg;
	struct arena arena;
	char *bytes; /* of the message */
	size_t len, most;
	bool is_full;
	struct buf text;
	struct store_queue_message message;
	struct store_queue_recipient recipient;
	struct store_work_target target;
};

static void free_notice(void *arg)
{
	struct notice *n = arg;

	arena_deinit(&n->arena);
	buf_deinit(&n->text);
	free(n->bytes);
	free(n);
}

static const struct queue_parcel *parcel_of(const struct notice *n)
{
	return n->items[0]->parcel;
}

/* ---- the commit ---- */

/* ERR_CLOSED: some are not there any more, and the notice that tells of them must not be stored. */
static int run_changes(struct store_txn *txn, void *arg)
{
	struct notice *n = arg;
	bool is_any_removed = false;

	for (size_t i = 0; i < n->count; i++) {
		struct store_queue_change c = queue_result_change(n->items[i]);
		int err = store_queue_change(txn, &c);

		n->items[i]->is_removed =
			err == ERR_NOT_FOUND || (err == ERR_CORRUPT && !store_txn_error(txn));
		is_any_removed |= n->items[i]->is_removed;
		if (err && !n->items[i]->is_removed)
			return err;
	}
	if (is_any_removed)
		return ERR_CLOSED;
	FAULT("queue-before-notice");
	return 0;
}

static void changed(void *arg, int err)
{
	struct notice *n = arg;

	n->done(n->arg, err);
}

static void stored(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct notice *n = arg;

	if (!err)
		err = count ? results[0].error : ERR_NOT_NOW;
	if (!err)
		metric_add(n->slot->queue->m_notices, 1);
	changed(arg, err);
}

/* Nobody can be told, or he has been told enough: what becomes of the recipients is written all the same. */
static void change_alone(struct notice *n)
{
	(void)store_work_write(n->slot->queue->work, n->slot->number,
		&(struct store_work_call){.run = run_changes,
			.done = changed,
			.drop = free_notice,
			.arg = n,
			.loop = n->slot->queue->loop,
			.name = "queue results"});
}

/* ---- the text ---- */

static enum dsn_action action_of(const struct queue_item *item)
{
	switch (item->event) {
	case QUEUE_FAILED:
		return DSN_FAILED;
	case QUEUE_DELAYED:
		return DSN_DELAYED;
	case QUEUE_STORED:
		return DSN_DELIVERED;
	case QUEUE_PASSED:
	case QUEUE_RELAYED:
		break;
	}
	return DSN_RELAYED;
}

static struct dsn_recipient recipient_of(struct notice *n, const struct queue_item *item)
{
	const struct queue *q = n->slot->queue;
	const struct store_queue_message *m = &item->parcel->message;
	struct dsn_recipient r = {.action = action_of(item),
		.address = item->address,
		.status = item->status,
		.remote = item->remote,
		.code = item->code,
		.text = item->text,
		.last_try = clock_wall_s(),
		.until = (int64_t)((m->arrived + q->settings.plan.lifetime) / 1000)};

	/* The reply as it was: its enhanced status stands apart in the result. */
	if (item->code && item->status.len) {
		struct buf text = {0};

		buf_printf(&text, "%.*s %.*s", SLICE_ARG(item->status), SLICE_ARG(item->text));
		r.text = arena_copy(&n->arena, buf_view(&text));
		buf_deinit(&text);
	}
	if (item->orcpt.len && smtp_parse_orcpt(&n->arena, item->orcpt, true, &r.orcpt_type, &r.orcpt))
		r.orcpt = slice_of(NULL, 0);
	return r;
}

static const char *template_of(const struct queue_settings *s, enum dsn_action action)
{
	return action == DSN_FAILED    ? s->failure_text
	       : action == DSN_DELAYED ? s->delay_text
				       : s->success_text;
}

static void write_text(struct notice *n, struct slice to)
{
	const struct queue *q = n->slot->queue;
	const struct queue_settings *s = &q->settings;
	const struct store_queue_message *m = &parcel_of(n)->message;
	struct dsn_recipient *recipients = xcalloc(n->count, sizeof(*recipients));
	char boundary[BOUNDARY_LEN + 1], id[25];
	struct buf from = {0}, message_id = {0};
	struct dsn d = {.host = slice_str(s->host),
		.to = to,
		.date = clock_wall_s(),
		.arrived = (int64_t)(m->arrived / 1000),
		.recipients = recipients,
		.recipient_count = n->count,
		.message = slice_of(n->bytes, n->len),
		.is_full = n->is_full,
		.is_utf8 = m->flags & STORE_QUEUE_UTF8};

	random_id(boundary, BOUNDARY_LEN);
	random_id(id, sizeof(id) - 1);
	for (size_t i = 0; i < n->count; i++)
		recipients[i] = recipient_of(n, n->items[i]);
	buf_printf(&from, "%s%s", s->notice_from[0] ? s->notice_from : "MAILER-DAEMON@",
		s->notice_from[0] ? "" : s->host);
	buf_printf(&message_id, "%s@%s", id, s->host);
	d.from = buf_view(&from);
	d.message_id = buf_view(&message_id);
	d.boundary = slice_str(boundary);
	d.text_template = slice_str(template_of(s, recipients[0].action));
	if (m->envid.len && smtp_parse_xtext(&n->arena, m->envid, &d.envid))
		d.envid = slice_of(NULL, 0);
	dsn_write(&d, &n->text);
	n->message.flags = STORE_QUEUE_NOTICE | (dsn_is_utf8(&d) ? STORE_QUEUE_UTF8 : 0) |
			   (slice_is_ascii(buf_view(&n->text)) ? 0 : STORE_QUEUE_8BIT);
	buf_deinit(&from);
	buf_deinit(&message_id);
	free(recipients);
}

/* ---- sending ---- */

/* Its sender; of a message without one the postmaster. */
static struct slice whom(const struct notice *n)
{
	const struct store_queue_message *m = &parcel_of(n)->message;

	return m->sender.len ? m->sender : slice_str(n->slot->queue->settings.postmaster);
}

static void store(struct notice *n)
{
	(void)store_work_add(n->slot->queue->work, &(struct store_work_add){.slot = n->slot->number,
							   .memory = buf_view(&n->text),
							   .targets = &n->target,
							   .target_count = 1,
							   .also = run_changes,
							   .done = stored,
							   .drop = free_notice,
							   .arg = n,
							   .loop = n->slot->queue->loop});
}

static void is_signed(void *arg, struct slice fields)
{
	struct notice *n = arg;
	struct buf whole = {0};

	if (fields.len) {
		buf_add_slice(&whole, fields);
		buf_add_slice(&whole, buf_view(&n->text));
		buf_deinit(&n->text);
		n->text = whole;
	}
	store(n);
}

/* Whoever can make us send notices by a forged sender must not have us flood him. An address with another detail, or in other letters, is the same. */
static bool has_enough(struct notice *n, struct slice to)
{
	const struct queue *q = n->slot->queue;
	ptrdiff_t at = slice_find_last(to, '@'), plus = slice_find(slice_sub(to, 0, (size_t)at), '+');
	struct buf key = {0};
	bool yes;

	if (!q->settings.notice_limit)
		return false;
	for (size_t i = 0; i < to.len; i++)
		if (plus <= 0 || i < (size_t)plus || i >= (size_t)at)
			buf_add_char(&key, ascii_lower(to.p[i]));
	yes = !rates_take(q->notices, buf_view(&key), q->settings.notice_limit, q->settings.notice_interval,
		loop_now_ms(q->loop));
	buf_deinit(&key);
	return yes;
}

static void send(struct notice *n)
{
	const struct queue_sender *sender = &n->slot->queue->sender;
	const struct store_queue_message *m = &parcel_of(n)->message;
	struct slice to = whom(n);
	ptrdiff_t at = slice_find_last(to, '@');
	struct slice domain = at < 0 ? slice_of(NULL, 0) : slice_from(to, (size_t)at + 1);
	char *lower = arena_copy_str(&n->arena, domain);
	char id[32];

	queue_result_id(parcel_of(n), id);
	if (!domain.len || domain.len > STORE_QUEUE_DESTINATION_MAX || !lower) {
		log_warn("queue", "nobody can be told about %s: its sender has no domain", id);
		change_alone(n);
		return;
	}
	if (has_enough(n, to)) {
		log_warn("queue",
			"%.*s: no notice: its recipient has had notice-limit of them to=<%.*s> about=%s",
			SLICE_ARG(m->session.len ? m->session : slice_str(id)), SLICE_ARG(to), id);
		metric_add(n->slot->queue->m_untold, 1);
		change_alone(n);
		return;
	}
	for (char *p = lower; *p; p++)
		*p = ascii_lower(*p);
	write_text(n, to);
	n->message.arrived = clock_wall_ms();
	n->message.session = m->session;
	n->message.flags |= m->sender.len ? 0 : STORE_QUEUE_LAST;
	n->recipient = (struct store_queue_recipient){.notify = SMTP_NOTIFY_NEVER,
		.next = n->message.arrived,
		.address = to,
		.destination = slice_str(lower)};
	n->target = (struct store_work_target){.queue = &n->message, .queued = &n->recipient};
	log_info("queue", "%.*s: a notice goes to=<%.*s> recipients=%zu about=%s",
		SLICE_ARG(m->session.len ? m->session : slice_str(id)), SLICE_ARG(to), n->count, id);
	if (sender->sign)
		sender->sign(sender->sign_arg, buf_view(&n->text), is_signed, n);
	else
		store(n);
}

static int run_read(struct store_txn *txn, void *arg)
{
	struct notice *n = arg;

	return store_queue_read(txn, &parcel_of(n)->message, 0, n->bytes, n->most, &n->len);
}

static void was_read(void *arg, int err)
{
	struct notice *n = arg;

	if (err) { /* a damaged body: the notice goes without it */
		n->len = 0;
		n->is_full = false;
	}
	send(n);
}

void queue_notice_send(struct queue_slot *slot, struct queue_item **items, size_t count,
	void (*done)(void *arg, int err), void *arg)
{
	struct notice *n = xcalloc(1, sizeof(*n));
	const struct queue_parcel *p = items[0]->parcel;
	const struct store_queue_message *m = &p->message;

	n->slot = slot;
	n->items = items;
	n->count = count;
	n->done = done;
	n->arg = arg;
	arena_init(&n->arena, 0);
	/* RFC 3461 section 4.3: the whole is returned in failures alone. */
	n->is_full = items[0]->event == QUEUE_FAILED && m->ret != SMTP_RET_HDRS &&
		     m->size <= slot->queue->settings.notice_size;
	n->most = n->is_full || m->size < DSN_HEADER_MOST ? (size_t)m->size : DSN_HEADER_MOST;
	n->bytes = xmalloc(n->most + 1);
	if (p->body.p) {
		n->len = p->body.len < n->most ? p->body.len : n->most;
		memcpy(n->bytes, p->body.p, n->len);
		send(n);
		return;
	}
	(void)store_work_read(slot->queue->work, slot->number,
		&(struct store_work_call){.run = run_read,
			.done = was_read,
			.arg = n,
			.loop = slot->queue->loop,
			.name = "queue notice"});
}
