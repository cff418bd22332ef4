/*
 * A delivery is held by its session and by each slot's job; the last of them frees it. What jobs borrow (the spool) lives as long.
 *
 *	mark = SHA-256( u32 length, sender, u32 length, recipient's address, SHA-256 of the client's bytes )
 *
 * Fault points: lmtp-after-rcpt, lmtp-amid-body, lmtp-before-commit, lmtp-between-slots, lmtp-before-answer.
 */
#include "backend/delivery/delivery.h"

#include <stdlib.h>

#include "backend/delivery/mark_table.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/crypto/digest.h"
#include "common/net/spool.h"
#include "common/net/timer.h"
#include "common/proto/address.h"

#define SPOOL_MEMORY_MOST (256 * 1024) /* of one message; then a file */
/* How long a mark that another leg holds is waited for: that leg may have been cut, and its loop not know it
 * yet. */
#define HELD_STEP_MS 50
#define HELD_STEPS_MOST 20

struct delivery_service {
	struct store_work *work;
	struct mark_table *marks;
	struct metric *stored, *repeated, *failed, *messages;
};

struct recipient {
	unsigned slot;
	uint32_t account;
	uint64_t reserved;
	bool is_reserved, is_claimed, is_marked, is_answered;
	int error;
	uint8_t mark[STORE_MARK_LEN];
	char *address; /* normalised, as it was addressed */
};

/* One slot's share of a delivery. */
struct share {
	struct delivery *delivery;
	unsigned slot;
	unsigned *recipients; /* numbers, in the order of the targets */
	size_t count;
};

struct delivery {
	struct delivery_service *service;
	struct loop *loop;
	char *sender;
	uint64_t size;
	struct smtp_mark mark;
	struct recipient *recipients;
	unsigned count, room;
	struct spool *spool;
	struct digest *digest;
	uint64_t skip; /* octets of the proxy still to come before the client's */
	int error;
	delivery_fn *fn;
	void *arg;
	unsigned refs;
	unsigned shares_open;
	struct timer timer; /* marks are waited for */
	unsigned steps;
};

struct delivery_service *delivery_service_new(struct store_work *work)
{
	struct delivery_service *s = xcalloc(1, sizeof(*s));

	s->work = work;
	s->marks = mark_table_new();
	s->messages = metrics_counter("mailtier_delivery_messages", NULL, "Messages that came for delivery");
	s->stored =
		metrics_counter("mailtier_delivery_recipients", "result=\"stored\"", "Recipients by result");
	s->repeated = metrics_counter(
		"mailtier_delivery_recipients", "result=\"repeated\"", "Recipients by result");
	s->failed =
		metrics_counter("mailtier_delivery_recipients", "result=\"failed\"", "Recipients by result");
	return s;
}

void delivery_service_free(struct delivery_service **service)
{
	if (!*service)
		return;
	mark_table_free(&(*service)->marks);
	free(*service);
	*service = NULL;
}

struct delivery *delivery_begin(struct delivery_service *service, struct loop *loop, struct slice sender,
	uint64_t size, const struct smtp_mark *mark)
{
	struct delivery *d = xcalloc(1, sizeof(*d));

	d->service = service;
	d->loop = loop;
	d->sender = slice_copy_str(sender);
	d->size = size;
	d->mark = *mark;
	d->skip = mark->prefix;
	d->refs = 1;
	return d;
}

static void release_quota(struct delivery *d)
{
	struct store *store = store_work_store(d->service->work);

	for (unsigned i = 0; i < d->count; i++) {
		struct recipient *r = &d->recipients[i];

		if (r->is_reserved)
			store_quota_release(store, r->slot, r->account, r->reserved);
		r->is_reserved = false;
	}
}

static void unref(struct delivery *d)
{
	if (--d->refs)
		return;
	release_quota(d);
	for (unsigned i = 0; i < d->count; i++)
		free(d->recipients[i].address);
	free(d->recipients);
	free(d->sender);
	spool_free(&d->spool);
	digest_free(&d->digest);
	free(d);
}

/* ---- recipients ---- */

static struct recipient *new_recipient(struct delivery *d)
{
	if (d->count == d->room) {
		d->room = d->room ? d->room * 2 : 4;
		d->recipients = xreallocarray(d->recipients, d->room, sizeof(*d->recipients));
	}
	d->recipients[d->count] = (struct recipient){0};
	return &d->recipients[d->count];
}

static int add_normalised(struct delivery *d, struct slice address, unsigned *recipient_out)
{
	struct store *store = store_work_store(d->service->work);
	struct store_account account;
	struct recipient *r;
	int err;

	for (unsigned i = 0; i < d->count; i++) {
		if (slice_is_str(address, d->recipients[i].address)) {
			*recipient_out = i;
			return 0;
		}
	}
	err = store_find_recipient(store, address, &account);
	if (err)
		return err;
	if (account.flags & STORE_ACCOUNT_NO_MAIL)
		return ERR_DENIED;
	err = store_quota_reserve(store, account.slot, account.id, d->size);
	if (err)
		return err;
	r = new_recipient(d);
	*r = (struct recipient){
		.slot = account.slot, .account = account.id, .reserved = d->size, .is_reserved = true};
	r->address = slice_copy_str(address);
	*recipient_out = d->count++;
	FAULT("lmtp-after-rcpt");
	return 0;
}

int delivery_add_recipient(struct delivery *d, const struct smtp_path *path, unsigned *recipient_out)
{
	struct address_name name;
	struct arena arena;
	struct buf whole = {0};
	int err;

	arena_init(&arena, 16 * 1024);
	buf_add_slice(&whole, path->local);
	if (path->domain.len) {
		buf_add_char(&whole, '@');
		buf_add_slice(&whole, path->domain);
	}
	err = address_normalise_whole(&arena, buf_view(&whole), &name);
	if (err == ERR_TOO_BIG)
		err = ERR_SYNTAX;
	if (!err)
		err = add_normalised(d, name.full, recipient_out);
	buf_deinit(&whole);
	arena_deinit(&arena);
	return err;
}

/* ---- the body ---- */

void delivery_add_trace(struct delivery *d, struct slice received)
{
	struct buf trace = {0};

	if (!d->spool)
		d->spool = spool_new(SPOOL_MEMORY_MOST, 0);
	buf_printf(&trace, "Return-Path: <%s>\r\n", d->sender);
	buf_add_slice(&trace, received);
	if (!d->error)
		d->error = spool_add(d->spool, buf_view(&trace));
	buf_deinit(&trace);
}

static void digest_client_bytes(struct delivery *d, struct slice bytes)
{
	size_t skip = d->skip < bytes.len ? (size_t)d->skip : bytes.len;

	if (!d->mark.is_set || d->mark.has_digest)
		return;
	if (!d->digest)
		d->digest = digest_new(DIGEST_SHA256);
	d->skip -= skip;
	digest_add(d->digest, slice_from(bytes, skip));
}

int delivery_add_body(struct delivery *d, struct slice bytes)
{
	FAULT("lmtp-amid-body");
	if (!d->error)
		d->error = spool_add(d->spool, bytes);
	if (!d->error)
		digest_client_bytes(d, bytes);
	return d->error;
}

static void add_counted(struct digest *digest, struct slice s)
{
	uint8_t len[4] = {
		(uint8_t)(s.len >> 24), (uint8_t)(s.len >> 16), (uint8_t)(s.len >> 8), (uint8_t)s.len};

	digest_add(digest, slice_of(len, sizeof(len)));
	digest_add(digest, s);
}

static void make_marks(struct delivery *d)
{
	struct digest *digest;

	if (!d->mark.is_set)
		return;
	digest = d->digest ? d->digest : digest_new(DIGEST_SHA256);
	d->digest = NULL;
	if (!d->mark.has_digest)
		digest_finish(digest, d->mark.digest);
	for (unsigned i = 0; i < d->count; i++) {
		struct recipient *r = &d->recipients[i];

		add_counted(digest, slice_str(d->sender));
		add_counted(digest, slice_str(r->address));
		digest_add(digest, slice_of(d->mark.digest, sizeof(d->mark.digest)));
		digest_finish(digest, r->mark);
	}
	digest_free(&digest);
}

/* Takes hold of the marks that are not held yet. False: some are another's, and there is time to ask again.
 */
static bool claim_marks(struct delivery *d)
{
	bool is_patient = d->steps < HELD_STEPS_MOST, is_whole = true;

	for (unsigned i = 0; d->mark.is_set && i < d->count; i++) {
		struct recipient *r = &d->recipients[i];
		enum mark_claim claim;

		if (r->is_claimed)
			continue;
		claim = mark_table_claim(d->service->marks, r->mark, is_patient);
		r->is_claimed = claim != MARK_HELD;
		r->is_marked = claim == MARK_OWN;
		is_whole &= r->is_claimed;
	}
	return is_whole;
}

/* ---- storing ---- */

static void answer(struct delivery *d, unsigned i, int error)
{
	struct recipient *r = &d->recipients[i];

	r->is_answered = true;
	r->error = error;
	if (d->fn)
		d->fn(d->arg, i, error);
}

static void share_done(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct share *share = arg;
	struct delivery *d = share->delivery;
	struct delivery_service *s = d->service;

	d->shares_open--;
	if (d->shares_open)
		FAULT("lmtp-between-slots");
	FAULT("lmtp-before-answer");
	for (size_t i = 0; i < share->count; i++) {
		int error = err ? err : i < count ? results[i].error : ERR_NOT_NOW;
		bool repeated = !error && results[i].repeated;

		metric_add(error ? s->failed : repeated ? s->repeated : s->stored, 1);
		if (repeated)
			log_info("delivery", "a repeat met its mark recipient=%s",
				d->recipients[share->recipients[i]].address);
		if (error)
			log_warn("delivery", "not stored: %s recipient=%s", error_text(error),
				d->recipients[share->recipients[i]].address);
		answer(d, share->recipients[i], error);
	}
}

static void share_drop(void *arg)
{
	struct share *share = arg;

	unref(share->delivery);
	free(share->recipients);
	free(share);
}

static void store_share(struct delivery *d, unsigned slot)
{
	struct share *share = xcalloc(1, sizeof(*share));
	struct store_work_target *targets = xcalloc(d->count, sizeof(*targets));
	struct store_work_add add = {.slot = slot,
		.spool = d->spool,
		.targets = targets,
		.done = share_done,
		.drop = share_drop,
		.arg = share,
		.loop = d->loop};

	share->delivery = d;
	share->slot = slot;
	share->recipients = xcalloc(d->count, sizeof(*share->recipients));
	for (unsigned i = 0; i < d->count; i++) {
		struct recipient *r = &d->recipients[i];

		if (r->slot != slot)
			continue;
		targets[share->count] = (struct store_work_target){.account = r->account,
			.date = clock_wall_s(),
			.mark = r->is_marked ? r->mark : NULL,
			.ignore_quota = true};
		share->recipients[share->count++] = i;
	}
	add.target_count = share->count;
	d->refs++;
	store_work_add(d->service->work, &add);
	free(targets);
}

static void fail_all(void *arg)
{
	struct delivery *d = arg;

	for (unsigned i = 0; i < d->count; i++)
		answer(d, i, d->error);
	unref(d);
}

static void store_all(struct delivery *d)
{
	uint64_t slots = 0;

	for (unsigned i = 0; i < d->count; i++)
		slots |= UINT64_C(1) << d->recipients[i].slot;
	d->shares_open = (unsigned)__builtin_popcountll(slots);
	FAULT("lmtp-before-commit");
	for (unsigned slot = 0; slot < STORE_SLOTS_MAX; slot++) {
		if (slots >> slot & 1)
			store_share(d, slot);
	}
}

static void claim_and_store(void *arg)
{
	struct delivery *d = arg;

	if (claim_marks(d)) {
		store_all(d);
		return;
	}
	d->steps++;
	timer_set(&d->timer, d->loop, HELD_STEP_MS);
}

void delivery_finish(struct delivery *d, delivery_fn *fn, void *arg)
{
	d->fn = fn;
	d->arg = arg;
	metric_add(d->service->messages, 1);
	if (d->error) {
		d->refs++;
		loop_defer(d->loop, fail_all, d);
		return;
	}
	make_marks(d);
	timer_init(&d->timer, claim_and_store, d);
	claim_and_store(d);
}

/* ---- the end ---- */

struct retirement {
	size_t count;
	uint8_t marks[][STORE_MARK_LEN];
};

static int remove_marks(struct store_txn *txn, void *arg)
{
	struct retirement *r = arg;

	for (size_t i = 0; i < r->count; i++) {
		int err = store_mark_remove(txn, r->marks[i]);

		if (err)
			return err;
	}
	return 0;
}

static void marks_removed(void *arg, int err)
{
	(void)arg;
	if (err)
		log_warn("delivery", "repeat marks stay until they expire: %s", error_text(err));
}

static void retire_slot(struct delivery *d, unsigned slot, const bool *is_gone)
{
	struct retirement *r = xcalloc(1, sizeof(*r) + d->count * sizeof(r->marks[0]));
	struct store_work_call call = {
		.run = remove_marks, .done = marks_removed, .drop = free, .arg = r, .loop = d->loop};

	for (unsigned i = 0; i < d->count; i++) {
		if (is_gone[i] && d->recipients[i].slot == slot)
			memcpy(r->marks[r->count++], d->recipients[i].mark, STORE_MARK_LEN);
	}
	store_work_write(d->service->work, slot, &call);
}

static void release_marks(struct delivery *d, bool is_retired)
{
	bool *is_gone = xcalloc(d->count + 1, sizeof(*is_gone));
	uint64_t slots = 0;

	for (unsigned i = 0; i < d->count; i++) {
		struct recipient *r = &d->recipients[i];

		if (!r->is_claimed)
			continue;
		/* What was not answered yet is not known to the peer, whatever it says. */
		is_gone[i] = mark_table_release(d->service->marks, r->mark, is_retired && r->is_answered);
		r->is_claimed = false;
		if (is_gone[i])
			slots |= UINT64_C(1) << r->slot;
	}
	for (unsigned slot = 0; slot < STORE_SLOTS_MAX; slot++) {
		if (slots >> slot & 1)
			retire_slot(d, slot, is_gone);
	}
	for (unsigned i = 0; i < d->count; i++) {
		if (is_gone[i])
			mark_table_forget(d->service->marks, d->recipients[i].mark);
	}
	free(is_gone);
}

void delivery_end(struct delivery **delivery, bool is_retired)
{
	struct delivery *d = *delivery;

	*delivery = NULL;
	if (!d)
		return;
	d->fn = NULL;
	timer_stop(&d->timer);
	release_marks(d, is_retired);
	unref(d);
}
