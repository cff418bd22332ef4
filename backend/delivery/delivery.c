/*
 * A delivery is held by its session and by each slot's job; the last of them frees it. What jobs borrow (the spool) lives as long.
 *
 * A recipient is a RCPT; it has targets: the accounts where its message goes, one unless it is forwarded. Who was addressed
 * himself, or is reached by forwarding from two recipients, gets one copy by forwarding at most; a recipient is stored when
 * all its targets are.
 *
 *	mark = SHA-256( u32 length, sender, u32 length, recipient's address, SHA-256 of the client's bytes )
 *	       and for a target by forwarding u32 length, account's address, before the last
 *
 * Fault points: lmtp-after-rcpt, lmtp-amid-body, lmtp-before-commit, lmtp-between-slots, lmtp-before-answer.
 */
#include "backend/delivery/delivery.h"

#include <stdlib.h>

#include "backend/delivery/delivery_inner.h"
#include "backend/delivery/forward.h"
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

#define RECIPIENT_ARENA_MOST (512 * 1024) /* one recipient with all accounts it is forwarded to */
/* Traces, line ends that are mended, estimates of senders. */
#define SIZE_SLACK (64u * 1024)
#define SPOOL_MEMORY_MOST (256 * 1024) /* of one message; then a file */
/* How long a mark that another leg holds is waited for: that leg may have been cut, and its loop not know it
 * yet. */
#define HELD_STEP_MS 50
#define HELD_STEPS_MOST 20

struct delivery_service *delivery_service_new(struct store_work *work)
{
	struct delivery_service *s = xcalloc(1, sizeof(*s));

	s->work = work;
	s->marks = mark_table_new();
	pthread_mutex_init(&s->srs_lock, NULL);
	s->messages = metrics_counter("mailtier_delivery_messages", NULL, "Messages that came for delivery");
	s->stored =
		metrics_counter("mailtier_delivery_recipients", "result=\"stored\"", "Recipients by result");
	s->repeated = metrics_counter(
		"mailtier_delivery_recipients", "result=\"repeated\"", "Recipients by result");
	s->failed =
		metrics_counter("mailtier_delivery_recipients", "result=\"failed\"", "Recipients by result");
	s->queued =
		metrics_counter("mailtier_delivery_recipients", "result=\"queued\"", "Recipients by result");
	s->forwarded = metrics_counter("mailtier_delivery_forwarded", NULL,
		"Copies stored by forwarding, in accounts that were not addressed");
	return s;
}

void delivery_service_free(struct delivery_service **service)
{
	if (!*service)
		return;
	mark_table_free(&(*service)->marks);
	srs_free(&(*service)->srs);
	pthread_mutex_destroy(&(*service)->srs_lock);
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

void delivery_release_target(struct delivery *d, struct target *t)
{
	if (t->is_reserved)
		store_quota_release(store_work_store(d->service->work), t->slot, t->account, t->reserved);
	t->is_reserved = false;
}

static void unref(struct delivery *d)
{
	if (--d->refs)
		return;
	for (unsigned i = 0; i < d->target_count; i++) {
		delivery_release_target(d, &d->targets[i]);
		free(d->targets[i].address);
		queued_free(&d->targets[i].queued);
	}
	for (unsigned i = 0; i < d->count; i++) {
		free(d->recipients[i].address);
		free(d->recipients[i].orcpt);
		free(d->recipients[i].targets);
	}
	free(d->targets);
	free(d->recipients);
	free(d->sender);
	free(d->session);
	free(d->user);
	free(d->envid);
	free(d->hold);
	spool_free(&d->spool);
	digest_free(&d->digest);
	free(d);
}

void delivery_set_mark(struct delivery *d, const struct smtp_mark *mark)
{
	d->mark = *mark;
	d->skip = mark->prefix;
}

/* ---- recipients ---- */

struct recipient *delivery_new_recipient(struct delivery *d)
{
	if (d->count == d->room) {
		d->room = d->room ? d->room * 2 : 4;
		d->recipients = xreallocarray(d->recipients, d->room, sizeof(*d->recipients));
	}
	d->recipients[d->count] = (struct recipient){0};
	return &d->recipients[d->count];
}

struct target *delivery_new_target(struct delivery *d, unsigned *number_out)
{
	struct target *t;

	if (d->target_count == d->target_room) {
		d->target_room = d->target_room ? d->target_room * 2 : 4;
		d->targets = xreallocarray(d->targets, d->target_room, sizeof(*d->targets));
	}
	t = &d->targets[d->target_count];
	*t = (struct target){.recipient = d->count};
	*number_out = d->target_count++;
	return t;
}

bool delivery_find_recipient(const struct delivery *d, struct slice address, unsigned *recipient_out)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (slice_is_str(address, d->recipients[i].address)) {
			*recipient_out = i;
			return true;
		}
	}
	return false;
}

/* The target of this account by forwarding, if there is one. */
static bool find_forwarded(const struct delivery *d, const struct forward_account *a, unsigned *target_out)
{
	for (unsigned i = 0; i < d->target_count; i++) {
		const struct target *t = &d->targets[i];

		if (t->is_forwarded && !t->queued && t->slot == a->slot && t->account == a->id) {
			*target_out = i;
			return true;
		}
	}
	return false;
}

/* Of this message, whose size is not known: it may exceed the account's quota by itself, by whatever names it comes. */
static bool is_promised_already(const struct delivery *d, const struct forward_account *a)
{
	for (unsigned i = 0; d->size == 0 && i < d->target_count; i++) {
		const struct target *t = &d->targets[i];

		if (t->is_reserved && t->slot == a->slot && t->account == a->id)
			return true;
	}
	return false;
}

/* Reserves its quota. What is forwarded is refused for a time only: the sender is not to lose it. */
static int add_target(struct delivery *d, const struct forward_account *a, unsigned *target_out)
{
	bool reserves = !is_promised_already(d, a);
	struct target *t;
	int err;

	if (a->is_remote)
		return delivery_forward(d, a, target_out);
	if (a->is_forwarded && find_forwarded(d, a, target_out))
		return 0;
	err = reserves ? store_quota_reserve(store_work_store(d->service->work), a->slot, a->id, d->size) : 0;
	if (err)
		return !a->is_forwarded ? err : err == ERR_TOO_BIG ? ERR_FULL : ERR_NOT_NOW;
	t = delivery_new_target(d, target_out);
	t->slot = a->slot;
	t->account = a->id;
	t->reserved = d->size;
	t->is_reserved = reserves;
	t->is_forwarded = a->is_forwarded;
	t->address = a->is_forwarded ? xstrdup(a->address) : NULL;
	return 0;
}

static int add_targets(struct delivery *d, const struct forward_account *list, size_t count)
{
	unsigned before = d->target_count, *targets = xcalloc(count, sizeof(*targets));
	struct recipient *r;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		err = add_target(d, &list[i], &targets[i]);
	if (err) {
		while (d->target_count > before) {
			struct target *t = &d->targets[--d->target_count];

			delivery_release_target(d, t);
			free(t->address);
			queued_free(&t->queued);
		}
		free(targets);
		return err;
	}
	r = delivery_new_recipient(d);
	r->targets = targets;
	r->count = count;
	return 0;
}

static int find_account(struct store *store, struct slice address, struct store_account *account_out)
{
	int err = store_find_recipient(store, address, account_out);

	if (!err && account_out->flags & (STORE_ACCOUNT_NO_MAIL | STORE_ACCOUNT_MAIL_LATER))
		err = account_out->flags & STORE_ACCOUNT_NO_MAIL ? ERR_DENIED : ERR_NOT_NOW;
	return err;
}

static int add_normalised(
	struct delivery *d, struct arena *arena, struct slice address, unsigned *recipient_out)
{
	struct store *store = store_work_store(d->service->work);
	struct forward_account *list;
	struct store_account account;
	size_t count;
	int err;

	if (delivery_find_recipient(d, address, recipient_out))
		return 0;
	err = find_account(store, address, &account);
	if (err)
		return err;
	err = forward_expand(store, &account, arena, &list, &count);
	if (err)
		return err == ERR_DENIED ? ERR_UNSUPPORTED : err;
	err = add_targets(d, list, count);
	if (err)
		return err;
	d->recipients[d->count].address = slice_copy_str(address);
	*recipient_out = d->count++;
	FAULT("lmtp-after-rcpt");
	return 0;
}

static int normalise(struct arena *arena, const struct smtp_path *path, struct address_name *name_out)
{
	struct buf whole = {0};
	int err;

	buf_add_slice(&whole, path->local);
	if (path->domain.len) {
		buf_add_char(&whole, '@');
		buf_add_slice(&whole, path->domain);
	}
	err = address_normalise_whole(arena, buf_view(&whole), name_out);
	buf_deinit(&whole);
	return err == ERR_TOO_BIG ? ERR_SYNTAX : err;
}

int delivery_find(struct delivery_service *service, const struct smtp_path *path)
{
	struct store_account account;
	struct address_name name;
	struct arena arena;
	int err;

	arena_init(&arena, RECIPIENT_ARENA_MOST);
	err = normalise(&arena, path, &name);
	if (!err)
		err = find_account(store_work_store(service->work), name.full, &account);
	arena_deinit(&arena);
	return err;
}

int delivery_add_recipient(struct delivery *d, const struct smtp_path *path, unsigned *recipient_out)
{
	struct address_name name;
	struct arena arena;
	int err;

	arena_init(&arena, RECIPIENT_ARENA_MOST);
	err = normalise(&arena, path, &name);
	if (!err && delivery_service_is_returned(d->service, path))
		err = delivery_add_returned(d, path, recipient_out);
	else if (!err)
		err = add_normalised(d, &arena, name.full, recipient_out);
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
	d->skip_queued = (uint32_t)buf_len(&trace);
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
	/* What goes out must be known to need 8BITMIME, whatever was said. */
	if ((d->is_whole || d->has_queued) && !(d->queue_flags & STORE_QUEUE_8BIT) && !slice_is_ascii(bytes))
		d->queue_flags |= STORE_QUEUE_8BIT;
	if (!d->error)
		digest_client_bytes(d, bytes);
	return d->error;
}

void delivery_set_prefix(struct delivery *d, uint64_t prefix)
{
	d->skip = prefix;
}

void delivery_set_digest(struct delivery *d, const uint8_t digest[SMTP_DIGEST_LEN])
{
	d->mark.has_digest = true;
	memcpy(d->mark.digest, digest, SMTP_DIGEST_LEN);
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
	for (unsigned i = 0; i < d->target_count; i++) {
		struct target *t = &d->targets[i];

		add_counted(digest, slice_str(d->sender));
		add_counted(digest, slice_str(d->recipients[t->recipient].address));
		if (t->is_forwarded)
			add_counted(digest, slice_str(t->address));
		digest_add(digest, slice_of(d->mark.digest, sizeof(d->mark.digest)));
		digest_finish(digest, t->mark);
	}
	digest_free(&digest);
}

/* Takes hold of the marks that are not held yet. False: some are another's, and there is time to ask again.
 */
static bool claim_marks(struct delivery *d)
{
	bool is_patient = d->steps < HELD_STEPS_MOST, is_whole = true;

	for (unsigned i = 0; d->mark.is_set && i < d->target_count; i++) {
		struct target *t = &d->targets[i];
		enum mark_claim claim;

		if (t->is_claimed || t->is_dropped)
			continue;
		claim = mark_table_claim(d->service->marks, t->mark, is_patient);
		t->is_claimed = claim != MARK_HELD;
		t->is_marked = claim == MARK_OWN;
		is_whole &= t->is_claimed;
	}
	return is_whole;
}

/* ---- storing ---- */

/* Who is addressed himself gets no copy by forwarding. */
static void merge_targets(struct delivery *d)
{
	for (unsigned i = 0; i < d->count; i++) {
		struct recipient *r = &d->recipients[i];

		for (size_t k = 0; k < r->count; k++) {
			struct target *t = &d->targets[r->targets[k]];

			for (unsigned n = 0; n < d->target_count && t->is_forwarded && !t->queued; n++) {
				const struct target *own = &d->targets[n];

				if (own->is_forwarded || own->queued || own->slot != t->slot ||
					own->account != t->account)
					continue;
				t->is_dropped = true;
				r->targets[k] = n;
				break;
			}
		}
	}
}

static void answer(struct delivery *d, unsigned i, int error)
{
	struct recipient *r = &d->recipients[i];

	if (error)
		log_warn("delivery", "not stored: %s recipient=%s", error_text(error), r->address);
	r->is_answered = true;
	if (d->fn)
		d->fn(d->arg, i, error);
}

/* All its targets are done? */
static bool is_decided(const struct delivery *d, const struct recipient *r, int *error_out)
{
	*error_out = 0;
	for (size_t k = 0; k < r->count; k++) {
		const struct target *t = &d->targets[r->targets[k]];

		if (!t->is_done)
			return false;
		if (!*error_out)
			*error_out = t->error;
	}
	return true;
}

static void note_target(struct delivery *d, struct target *t, int error, bool is_repeated)
{
	struct delivery_service *s = d->service;

	t->is_done = true;
	t->error = error;
	metric_add(error ? s->failed : is_repeated ? s->repeated : t->queued ? s->queued : s->stored, 1);
	if (t->is_forwarded && !error && !is_repeated)
		metric_add(s->forwarded, 1);
	if (is_repeated)
		log_info("delivery", "a repeat met its mark recipient=%s",
			d->recipients[t->recipient].address);
}

/* The account has gone since RCPT. One of that name that is here now has come from another slot, or is new: later. */
static int not_found(struct delivery *d, const struct target *t)
{
	struct store_account account;
	int err = store_find_recipient(
		store_work_store(d->service->work), slice_str(d->recipients[t->recipient].address), &account);

	return err ? err : ERR_NOT_NOW;
}

static void share_done(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct share *share = arg;
	struct delivery *d = share->delivery;

	d->shares_open--;
	if (d->shares_open)
		FAULT("lmtp-between-slots");
	FAULT("lmtp-before-answer");
	for (size_t i = 0; i < share->count; i++) {
		int error = err ? err : i < count ? results[i].error : ERR_NOT_NOW;

		if (error == ERR_NOT_FOUND && !d->targets[share->targets[i]].queued)
			error = not_found(d, &d->targets[share->targets[i]]);
		note_target(d, &d->targets[share->targets[i]], error, !error && results[i].repeated);
	}
	if (share->has_queued && d->service->queued_fn)
		d->service->queued_fn(d->service->queued_arg);
	for (unsigned i = 0; i < d->count; i++) {
		int error;

		if (!d->recipients[i].is_answered && is_decided(d, &d->recipients[i], &error))
			answer(d, i, error);
	}
}

static void share_drop(void *arg)
{
	struct share *share = arg;

	unref(share->delivery);
	free(share->targets);
	free(share->queued);
	free(share);
}

/* The line that a copy by forwarding begins with: by whom. */
static void forward_trace(const struct delivery *d, const struct target *t, struct buf *out)
{
	buf_printf(out, "Delivered-To: %s\r\n", d->recipients[t->recipient].address);
}

/* What was promised at RCPT is stored; a message that is larger than its sender told (RFC 1870 section 6.3) was promised nothing. */
static bool is_as_told(const struct delivery *d)
{
	return d->size == 0 || spool_len(d->spool) <= d->size + SIZE_SLACK;
}

/* Of one sender, so that recipients of one message stand together; NULL: what is stored in accounts. */
static void share_targets(struct delivery *d, struct share *share, struct store_work_target *targets,
	struct buf *traces, const struct target *like, const struct store_queue_message *message)
{
	const char *sender = like ? like->queued->sender : NULL;

	for (unsigned i = 0; i < d->target_count; i++) {
		struct target *t = &d->targets[i];
		struct store_work_target *to = &targets[share->count];

		if (t->slot != share->slot || t->is_dropped || t->is_shared || !t->queued != !like)
			continue;
		if (like && strcmp(t->queued->sender ? t->queued->sender : "", sender ? sender : "") != 0)
			continue;
		t->is_shared = true;
		if (t->is_forwarded && !t->queued)
			forward_trace(d, t, &traces[i]);
		*to = (struct store_work_target){.account = t->account,
			.date = clock_wall_s(),
			.trace = buf_view(&traces[i]),
			.mark = t->is_marked ? t->mark : NULL,
			.ignore_quota = is_as_told(d),
			.queue = message};
		if (like) {
			share->queued[share->count] = delivery_queue_recipient(d, t);
			to->queued = &share->queued[share->count];
		}
		share->targets[share->count++] = i;
	}
}

static void store_share(struct delivery *d, unsigned slot)
{
	struct share *share = xcalloc(1, sizeof(*share));
	struct store_work_target *targets = xcalloc(d->target_count, sizeof(*targets));
	struct store_queue_message *messages = xcalloc(d->target_count, sizeof(*messages));
	struct buf *traces = xcalloc(d->target_count, sizeof(*traces));
	struct store_work_add add = {.slot = slot,
		.spool = d->spool,
		.targets = targets,
		.done = share_done,
		.drop = share_drop,
		.arg = share,
		.loop = d->loop};

	share->delivery = d;
	share->slot = slot;
	share->targets = xcalloc(d->target_count, sizeof(*share->targets));
	share->queued = xcalloc(d->target_count, sizeof(*share->queued));
	share_targets(d, share, targets, traces, NULL, NULL);
	for (unsigned i = 0; i < d->target_count; i++) {
		const struct target *t = &d->targets[i];

		if (t->slot != slot || t->is_dropped || t->is_shared)
			continue;
		messages[i] = delivery_queue_message(d, t->queued->sender);
		share_targets(d, share, targets, traces, t, &messages[i]);
		share->has_queued = true;
	}
	add.target_count = share->count;
	d->refs++;
	store_work_add(d->service->work, &add);
	for (unsigned i = 0; i < d->target_count; i++)
		buf_deinit(&traces[i]);
	free(traces);
	free(messages);
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

	for (unsigned i = 0; i < d->target_count; i++) {
		if (!d->targets[i].is_dropped)
			slots |= UINT64_C(1) << d->targets[i].slot;
	}
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
	delivery_turn_to_queue(d);
	merge_targets(d);
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
	struct retirement *r = xcalloc(1, sizeof(*r) + d->target_count * sizeof(r->marks[0]));
	struct store_work_call call = {
		.run = remove_marks, .done = marks_removed, .drop = free, .arg = r, .loop = d->loop};

	for (unsigned i = 0; i < d->target_count; i++) {
		if (is_gone[i] && d->targets[i].slot == slot)
			memcpy(r->marks[r->count++], d->targets[i].mark, STORE_MARK_LEN);
	}
	store_work_write(d->service->work, slot, &call);
}

/* All recipients that have this target were answered: what was not answered yet is not known to the peer, whatever it says. */
static bool is_known(const struct delivery *d, unsigned target)
{
	for (unsigned i = 0; i < d->count; i++) {
		const struct recipient *r = &d->recipients[i];

		for (size_t k = 0; k < r->count; k++) {
			if (r->targets[k] == target && !r->is_answered)
				return false;
		}
	}
	return true;
}

static void release_marks(struct delivery *d, bool is_retired)
{
	bool *is_gone = xcalloc(d->target_count + 1, sizeof(*is_gone));
	uint64_t slots = 0;

	for (unsigned i = 0; i < d->target_count; i++) {
		struct target *t = &d->targets[i];

		if (!t->is_claimed)
			continue;
		is_gone[i] = mark_table_release(d->service->marks, t->mark, is_retired && is_known(d, i));
		t->is_claimed = false;
		if (is_gone[i])
			slots |= UINT64_C(1) << t->slot;
	}
	for (unsigned slot = 0; slot < STORE_SLOTS_MAX; slot++) {
		if (slots >> slot & 1)
			retire_slot(d, slot, is_gone);
	}
	for (unsigned i = 0; i < d->target_count; i++) {
		if (is_gone[i])
			mark_table_forget(d->service->marks, d->targets[i].mark);
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
