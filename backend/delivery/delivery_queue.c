/*
 * What of a delivery goes to the queue, and as what. Recipients become targets when they are added; delivery_turn_to_queue() decides at the end whether
 * those of this back-end may be stored directly.
 */
#include <stdlib.h>

#include "backend/delivery/delivery_inner.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/table.h"

void delivery_service_on_queued(struct delivery_service *service, delivery_queued_fn *fn, void *arg)
{
	service->queued_fn = fn;
	service->queued_arg = arg;
}

void queued_free(struct queued **queued)
{
	struct queued *q = *queued;

	*queued = NULL;
	if (!q)
		return;
	free(q->address);
	free(q->destination);
	free(q->sender);
	free(q->trace);
	free(q->orcpt);
	free(q);
}

static char *copy_said(struct slice text)
{
	return text.len ? slice_copy_str(text) : NULL;
}

/* The sender's account's, or one that his address gives. */
static unsigned choose_slot(const struct delivery *d, struct slice user)
{
	struct store *store = store_work_store(d->service->work);
	struct store_account account;

	if (user.len && store_find_account(store, user, &account) == 0)
		return account.slot;
	return (unsigned)(hash_bytes(slice_str(d->sender), 0) % store_slots(store));
}

void delivery_set_envelope(struct delivery *d, const struct delivery_envelope *e)
{
	free(d->session);
	free(d->user);
	free(d->envid);
	d->session = copy_said(e->session);
	d->user = copy_said(e->user);
	d->envid = copy_said(e->envid);
	d->ret = e->ret;
	d->queue_flags = (e->is_8bit ? STORE_QUEUE_8BIT : 0) | (e->is_utf8 ? STORE_QUEUE_UTF8 : 0) |
			 (e->requires_tls ? STORE_QUEUE_REQUIRETLS : 0);
	d->is_whole = e->is_whole;
	d->slot = choose_slot(d, e->user);
}

/* The domain of an address as it is on the wire, in lower case. ERR_SYNTAX. */
static int destination_of(struct slice address, char **out)
{
	ptrdiff_t at = slice_find_last(address, '@');
	struct slice domain = at < 0 ? slice_of(NULL, 0) : slice_from(address, (size_t)at + 1);

	if (!domain.len || domain.len > STORE_QUEUE_DESTINATION_MAX || slice_has_control(domain))
		return ERR_SYNTAX;
	*out = slice_copy_str(domain);
	for (char *p = *out; *p; p++)
		*p = ascii_lower(*p);
	return 0;
}

static int new_queued(struct slice address, struct queued **out)
{
	struct queued *q;
	char *destination;
	int err = address.len > STORE_QUEUE_ADDRESS_MAX ? ERR_SYNTAX : destination_of(address, &destination);

	if (err)
		return err;
	q = xcalloc(1, sizeof(*q));
	q->address = slice_copy_str(address);
	q->destination = destination;
	*out = q;
	return 0;
}

/* The wire's spelling with its domain in lower case: what tells recipients apart. */
static char *name_of(const struct queued *q)
{
	char *name = xstrdup(q->address);
	size_t len = strlen(name), domain = strlen(q->destination);

	memcpy(name + len - domain, q->destination, domain);
	return name;
}

int delivery_add_remote(struct delivery *d, const struct smtp_rcpt *rcpt, unsigned *recipient_out)
{
	struct queued *q;
	struct recipient *r;
	struct target *t;
	char *name;
	unsigned number;
	int err = new_queued(rcpt->path.address, &q);

	if (err)
		return err;
	name = name_of(q);
	if (delivery_find_recipient(d, slice_str(name), recipient_out)) {
		queued_free(&q);
		free(name);
		return 0;
	}
	q->notify = rcpt->notify;
	q->orcpt = copy_said(rcpt->orcpt);
	t = delivery_new_target(d, &number);
	t->slot = d->slot;
	t->queued = q;
	d->has_queued = true;
	r = delivery_new_recipient(d);
	r->address = name;
	r->targets = xcalloc(1, sizeof(*r->targets));
	r->targets[0] = number;
	r->count = 1;
	*recipient_out = d->count++;
	return 0;
}

void delivery_set_wishes(struct delivery *d, unsigned recipient, unsigned notify, struct slice orcpt)
{
	struct recipient *r = &d->recipients[recipient];

	r->notify = notify;
	free(r->orcpt);
	r->orcpt = copy_said(orcpt);
}

void delivery_hold(struct delivery *d, struct slice reason)
{
	free(d->hold);
	d->hold = slice_copy_str(reason);
}

/* ---- forwarding to other servers ---- */

void delivery_service_set_srs(struct delivery_service *s, struct srs *srs_take)
{
	struct srs *old;

	pthread_mutex_lock(&s->srs_lock);
	old = s->srs;
	s->srs = srs_take;
	pthread_mutex_unlock(&s->srs_lock);
	srs_free(&old);
}

/* The wire's spelling of local@domain, which need not be quoted. */
static void write_wire(struct slice address, struct buf *out)
{
	ptrdiff_t at = slice_find_last(address, '@');

	smtp_parse_write_address(
		out, slice_sub(address, 0, at < 0 ? 0 : (size_t)at), slice_from(address, (size_t)(at + 1)));
}

/* NULL: it stays. */
static char *rewrite_sender(struct delivery *d)
{
	struct delivery_service *s = d->service;
	struct buf text = {0}, plain = {0}, wire = {0};
	struct smtp_path path;
	struct arena arena;
	char *sender = NULL;
	int err = ERR_NOT_FOUND;

	if (!d->sender[0])
		return NULL;
	arena_init(&arena, 16 * 1024);
	buf_printf(&text, "<%s>", d->sender);
	pthread_mutex_lock(&s->srs_lock);
	if (s->srs && smtp_parse_path(&arena, buf_view(&text), &path) > 0 && path.domain.len)
		err = srs_forward(s->srs, path.local, path.domain, clock_wall_s(), &plain);
	pthread_mutex_unlock(&s->srs_lock);
	if (!err) {
		write_wire(buf_view(&plain), &wire);
		sender = slice_copy_str(buf_view(&wire));
	}
	buf_deinit(&text);
	buf_deinit(&plain);
	buf_deinit(&wire);
	arena_deinit(&arena);
	return sender;
}

int delivery_forward(struct delivery *d, const struct forward_account *a, unsigned *target_out)
{
	struct buf wire = {0}, trace = {0};
	struct queued *q;
	struct target *t;
	int err;

	for (unsigned i = 0; i < d->target_count; i++) {
		t = &d->targets[i];
		if (t->queued && t->is_forwarded && strcmp(t->address, a->address) == 0) {
			*target_out = i;
			return 0;
		}
	}
	write_wire(slice_str(a->address), &wire);
	err = new_queued(buf_view(&wire), &q);
	buf_deinit(&wire);
	if (err)
		return ERR_CLOSED; /* as a target that is no more */
	buf_printf(&trace, "Delivered-To: %s\r\n", a->from);
	q->trace = slice_copy_str(buf_view(&trace));
	q->sender = rewrite_sender(d);
	buf_deinit(&trace);
	t = delivery_new_target(d, target_out);
	t->slot = a->slot;
	t->queued = q;
	d->has_queued = true;
	t->is_forwarded = true;
	t->address = xstrdup(a->address);
	return 0;
}

static int reverse(struct delivery_service *s, const struct smtp_path *path, struct buf *out)
{
	int err = ERR_NOT_FOUND;

	pthread_mutex_lock(&s->srs_lock);
	if (s->srs)
		err = srs_reverse(s->srs, path->local, path->domain, clock_wall_s(), out);
	pthread_mutex_unlock(&s->srs_lock);
	return err;
}

bool delivery_service_is_returned(struct delivery_service *s, const struct smtp_path *path)
{
	struct buf plain = {0};
	int err = reverse(s, path, &plain);

	buf_deinit(&plain);
	return err != ERR_NOT_FOUND;
}

int delivery_add_returned(struct delivery *d, const struct smtp_path *path, unsigned *recipient_out)
{
	struct buf plain = {0}, wire = {0};
	struct smtp_rcpt rcpt = {0};
	int err = reverse(d->service, path, &plain);

	if (err) {
		log_info("delivery", "a rewritten sender that is %s: %.*s",
			err == ERR_TIMEOUT ? "too old" : "not ours", SLICE_ARG(path->address));
		err = ERR_NOT_FOUND;
	} else {
		write_wire(buf_view(&plain), &wire);
		rcpt.path.address = buf_view(&wire);
		err = delivery_add_remote(d, &rcpt, recipient_out);
	}
	buf_deinit(&plain);
	buf_deinit(&wire);
	return err;
}

/* ---- what must go through the queue ---- */

static bool must_turn(const struct delivery *d)
{
	uint64_t slots = 0;
	bool has_queued = false, has_stored = false, wants_news = false;

	for (unsigned i = 0; i < d->target_count; i++) {
		slots |= UINT64_C(1) << d->targets[i].slot;
		has_queued |= d->targets[i].queued != NULL;
		has_stored |= d->targets[i].queued == NULL;
	}
	/* Who wants to hear of a success is told by the queue. */
	for (unsigned i = 0; i < d->count; i++)
		wants_news |= (d->recipients[i].notify & SMTP_NOTIFY_SUCCESS) != 0;
	if (d->hold)
		return has_stored;
	return d->is_whole && has_stored && (has_queued || wants_news || (slots & (slots - 1)));
}

/* This recipient is addressed anew by the queue, which finds out where his mail goes when it brings it. */
static void turn_recipient(struct delivery *d, unsigned i)
{
	struct recipient *r = &d->recipients[i];
	struct buf wire = {0};
	struct queued *q;
	struct target *t;
	int err;
	unsigned number, slot = d->targets[r->targets[0]].slot;

	if (r->count == 1 && d->targets[r->targets[0]].queued && !d->targets[r->targets[0]].is_forwarded)
		return;
	write_wire(slice_str(r->address), &wire);
	err = new_queued(buf_view(&wire), &q);
	buf_deinit(&wire);
	if (err) /* it is an account's: it has a domain */
		return;
	q->notify = r->notify;
	q->orcpt = r->orcpt ? xstrdup(r->orcpt) : NULL;
	for (size_t k = 0; k < r->count; k++)
		d->targets[r->targets[k]].is_dropped = true;
	t = delivery_new_target(d, &number);
	t->recipient = i;
	t->slot = d->is_whole ? d->slot : slot;
	t->queued = q;
	r->targets[0] = number;
	r->count = 1;
}

void delivery_turn_to_queue(struct delivery *d)
{
	bool is_all = must_turn(d);

	for (unsigned i = 0; i < d->count; i++) {
		if (is_all || d->recipients[i].notify & SMTP_NOTIFY_SUCCESS)
			turn_recipient(d, i);
	}
}

bool delivery_is_queued(const struct delivery *d, unsigned recipient)
{
	const struct recipient *r = &d->recipients[recipient];

	return r->count == 1 && d->targets[r->targets[0]].queued;
}

/* ---- as the store wants it ---- */

struct store_queue_message delivery_queue_message(const struct delivery *d, const char *sender)
{
	return (struct store_queue_message){.skip = d->skip_queued,
		.arrived = clock_wall_ms(),
		.flags = d->queue_flags,
		.ret = (uint8_t)d->ret,
		.sender = slice_str(sender ? sender : d->sender),
		.envid = slice_str(d->envid),
		.session = slice_str(d->session),
		.user = slice_str(d->user)};
}

struct store_queue_recipient delivery_queue_recipient(const struct delivery *d, const struct target *t)
{
	const struct queued *q = t->queued;
	/* What was asked for at RCPT goes along with what is forwarded (RFC 3461 section 6.2.7.2). */
	const struct recipient *r = &d->recipients[t->recipient];
	unsigned notify = t->is_forwarded ? r->notify : q->notify;
	const char *orcpt = t->is_forwarded ? r->orcpt : q->orcpt;

	return (struct store_queue_recipient){.is_held = d->hold != NULL,
		.notify = (uint8_t)notify,
		.next = clock_wall_ms(),
		.address = slice_str(q->address),
		.destination = slice_str(q->destination),
		.orcpt = slice_str(orcpt),
		.trace = slice_str(q->trace),
		.reason = slice_sub(slice_str(d->hold), 0, STORE_QUEUE_TEXT_MAX)};
}
