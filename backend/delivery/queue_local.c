/*
 * Mail for accounts of this back-end: a delivery like any other, with a mark that names the queued message. A crash between its commit and that of
 * the queue leaves the mark, which the next try meets: stored once. Recipients that forward, or are held by their own rules, go on from there.
 */
#include <stdlib.h>

#include "backend/delivery/queue_inner.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/crypto/digest.h"
#include "common/proto/address.h"

#define READ_STEP (128 * 1024)
#define NO_NUMBER UINT32_MAX

static int parse(struct arena *a, struct slice address, struct smtp_path *path)
{
	struct buf text = {0};
	ssize_t n;

	buf_add_char(&text, '<');
	buf_add_slice(&text, address);
	buf_add_char(&text, '>');
	n = smtp_parse_path(a, buf_view(&text), path);
	buf_deinit(&text);
	return n > 0 && !path->is_null ? 0 : ERR_SYNTAX;
}

bool queue_local_is(struct queue *q, struct slice address)
{
	struct store_account account;
	struct address_name name;
	struct smtp_path path;
	struct arena arena;
	struct buf whole = {0};
	bool is_returned;
	int err;

	arena_init(&arena, 64 * 1024);
	err = parse(&arena, address, &path);
	is_returned = !err && delivery_service_is_returned(q->delivery, &path);
	if (!err) {
		buf_add_slice(&whole, path.local);
		buf_add_char(&whole, '@');
		buf_add_slice(&whole, path.domain);
		err = address_normalise_whole(&arena, buf_view(&whole), &name);
	}
	if (!err)
		err = store_find_recipient(store_work_store(q->work), name.full, &account);
	else
		err = ERR_NOT_FOUND;
	buf_deinit(&whole);
	arena_deinit(&arena);
	return is_returned || err != ERR_NOT_FOUND;
}

/* ---- results ---- */

static const struct {
	int err;
	enum queue_event event;
	const char *status, *text;
} outcomes[] = {
	{0, QUEUE_STORED, "2.0.0", "Stored"},
	{ERR_NOT_FOUND, QUEUE_FAILED, "5.1.1", "No such user here"},
	{ERR_SYNTAX, QUEUE_FAILED, "5.1.3", "No address that could be here"},
	{ERR_DENIED, QUEUE_FAILED, "5.2.1", "This account takes no mail"},
	{ERR_UNSUPPORTED, QUEUE_FAILED, "5.4.6", "The forwarding of this address goes in circles"},
	{ERR_TOO_BIG, QUEUE_DELAYED, "4.2.2", "Mailbox is full"},
	{ERR_FULL, QUEUE_DELAYED, "4.3.1", "No room now"},
};

static void tell(struct queue_item *item, int err)
{
	struct queue_outcome o = {.is_tried = true,
		.event = QUEUE_DELAYED,
		.status = "4.3.0",
		.text = "Not now",
		.relay = "local"};

	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
		if (outcomes[i].err != err)
			continue;
		o.event = outcomes[i].event;
		o.status = outcomes[i].status;
		o.text = outcomes[i].text;
	}
	queue_result(item, &o);
}

static void end_try(struct queue_parcel *p, int err)
{
	struct queue *q = p->queue;
	struct queue_hop *hop = p->hop;

	for (size_t i = 0; i < p->count; i++)
		if (!p->items[i].is_done)
			tell(&p->items[i], err);
	q->local_active--;
	q->active--;
	queue_settle(p);
	queue_hop_run(q, hop);
}

static void stored(void *arg, unsigned recipient, int error)
{
	struct queue_parcel *p = arg;
	bool is_whole = true;

	for (size_t i = 0; i < p->count; i++) {
		if (!p->items[i].is_done && p->numbers[i] == recipient)
			tell(&p->items[i], error);
		is_whole &= p->items[i].is_done;
	}
	if (is_whole)
		end_try(p, 0);
}

/* ---- the body ---- */

struct piece {
	struct queue_parcel *parcel;
	uint64_t offset;
	size_t len;
	char bytes[READ_STEP];
};

static int run_piece(struct store_txn *txn, void *arg)
{
	struct piece *r = arg;

	return store_queue_read(txn, &r->parcel->message, r->offset, r->bytes, sizeof(r->bytes), &r->len);
}

static void read_on(struct queue_parcel *p);

static void add(struct queue_parcel *p, struct slice bytes)
{
	int err = delivery_add_body(p->delivery, bytes);

	if (err)
		log_warn("queue", "the spool is broken: %s", error_text(err)); /* and told at the end */
}

static void piece_read(void *arg, int err)
{
	struct piece *r = arg;
	struct queue_parcel *p = r->parcel;

	if (!err && !r->len)
		err = ERR_CORRUPT;
	if (err) {
		queue_unreadable(p, err);
		end_try(p, ERR_IO);
		return;
	}
	add(p, slice_of(r->bytes, r->len));
	p->offset += r->len;
	read_on(p);
}

static void read_on(struct queue_parcel *p)
{
	struct piece *r;

	if (p->offset >= p->message.size) {
		delivery_finish(p->delivery, stored, p);
		return;
	}
	r = xcalloc(1, sizeof(*r));
	r->parcel = p;
	r->offset = p->offset;
	(void)store_work_read(p->queue->work, p->slot->number,
		&(struct store_work_call){.run = run_piece,
			.done = piece_read,
			.drop = free,
			.arg = r,
			.loop = p->queue->loop,
			.name = "queue read"});
}

/* ---- the delivery ---- */

/* Names the message, which nobody else has: a store's numbers are given once. */
static struct smtp_mark mark_of(const struct queue_parcel *p)
{
	struct smtp_mark mark = {.is_set = true, .has_digest = true};
	char text[96];
	int len = snprintf(text, sizeof(text), "mailtier queue %u %llu %llu", p->slot->number,
		(unsigned long long)p->message.id, (unsigned long long)p->message.arrived);

	digest_once(DIGEST_SHA256, slice_of(text, (size_t)len), mark.digest);
	return mark;
}

static bool add_recipients(struct queue_parcel *p)
{
	bool has_any = false;

	p->numbers = xcalloc(p->count, sizeof(*p->numbers));
	for (size_t i = 0; i < p->count; i++) {
		struct queue_item *item = &p->items[i];
		struct smtp_path path;
		int err = parse(&p->arena, item->address, &path);

		p->numbers[i] = NO_NUMBER;
		if (!err)
			err = delivery_add_recipient(p->delivery, &path, &p->numbers[i]);
		if (err)
			tell(item, err);
		has_any |= !err;
	}
	return has_any;
}

void queue_local_start(struct queue_parcel *p)
{
	struct queue *q = p->queue;
	struct smtp_mark mark = mark_of(p);

	q->local_active++;
	q->active++;
	p->is_active = true;
	metric_add(q->m_tries, 1);
	p->delivery = delivery_begin(q->delivery, q->loop, p->message.sender, p->message.size, &mark);
	delivery_set_envelope(
		p->delivery, &(struct delivery_envelope){.session = p->message.session,
				     .envid = p->message.envid,
				     .ret = p->message.ret,
				     .is_8bit = p->message.flags & STORE_QUEUE_8BIT,
				     .is_utf8 = p->message.flags & STORE_QUEUE_UTF8,
				     .requires_tls = p->message.flags & STORE_QUEUE_REQUIRETLS});
	if (!add_recipients(p)) {
		end_try(p, 0);
		return;
	}
	delivery_add_trace(p->delivery, slice_of(NULL, 0));
	add(p, p->trace);
	if (p->body.p) {
		add(p, p->body);
		p->offset = p->message.size;
	}
	read_on(p);
}

void queue_local_end(struct queue_parcel *p)
{
	delivery_end(&p->delivery, true);
}
