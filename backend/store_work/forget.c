/*
 * What an account that has gone leaves in other slots: its entries in ACLs, what it had seen. Slot after slot, in steps of the
 * writers; the account's own slot keeps an intent until all is done, and the next start goes on.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define STEP 300 /* rows */
#define AT_ONCE 1000

struct forget {
	struct store_work *work;
	struct store_who who;
	unsigned slot; /* that is being worked on; slot_count: the intent is */
	bool is_slot_done;
	struct store_acl_at from, now; /* where the step began, and where it stands */
};

static void next_slot(struct forget *f);

static int forget_run(struct store_txn *txn, void *arg)
{
	struct forget *f = arg;

	f->now = f->from; /* it may run twice */
	return store_acl_forget(txn, f->who, STEP, &f->now, &f->is_slot_done);
}

static int intent_run(struct store_txn *txn, void *arg)
{
	struct forget *f = arg;

	return store_acl_forgotten(txn, f->who.account);
}

/* On a thread of the store's: there is no loop. */
static void forget_done(void *arg, int err)
{
	struct forget *f = arg;

	if (err)
		log_warn("store",
			"what a removed account may do elsewhere stands until the next start slot=%u: %s",
			f->slot, error_text(err));
	if (err || f->slot == f->work->slot_count) {
		free(f);
		return;
	}
	f->from = f->now;
	if (f->is_slot_done) {
		f->slot++;
		f->from = (struct store_acl_at){0};
	}
	next_slot(f);
}

static void next_slot(struct forget *f)
{
	bool is_last = f->slot == f->work->slot_count;
	struct store_work_call call = {
		.run = is_last ? intent_run : forget_run, .done = forget_done, .arg = f};

	(void)store_work_write(f->work, is_last ? f->who.slot : f->slot, &call);
}

void store_work_forget(struct store_work *work, unsigned slot, uint32_t account)
{
	struct forget *f = xcalloc(1, sizeof(*f));

	*f = (struct forget){.work = work, .who = {slot, account}};
	next_slot(f);
}

void forget_resume(struct store_work *work)
{
	for (unsigned slot = 0; slot < work->slot_count; slot++) {
		uint32_t accounts[AT_ONCE];
		size_t count = 0;
		struct store_txn *txn;
		int err = store_begin_read(work->store, slot, &txn);

		if (err)
			continue;
		err = store_acl_gone(txn, accounts, AT_ONCE, &count);
		store_end_read(&txn);
		for (size_t i = 0; i < count && !err; i++)
			store_work_forget(work, slot, accounts[i]);
	}
}
