/* The end of an import: the account becomes visible in one transaction; what it replaces goes; what a crash left is ended at start-up. */
#include "backend/store/import_inner.h"

#include <stdlib.h>

#include "backend/store/mailbox.h"
#include "backend/store/names.h"
#include "backend/store/store_account.h"
#include "common/base/fault.h"

#define RIGHTS_STEP 100

static int check_whole(struct store_import *m)
{
	if (!m->has_account || m->has_open)
		return store_import_wrong(m, ERR_CORRUPT, "the account is not whole");
	if (m->mailbox_count != m->header.mailboxes || m->state.count != m->header.messages ||
		m->state.bytes != m->header.bytes || m->next_change != m->header.modseq + 1)
		return store_import_wrong(m, ERR_CORRUPT, "the account's totals disagree");
	for (uint32_t i = 0; i < m->mailbox_count; i++)
		if (m->mailboxes[i]->state.messages != m->mailboxes[i]->messages ||
			m->mailboxes[i]->state.size != m->mailboxes[i]->size)
			return store_import_wrong(m, ERR_CORRUPT, "a mailbox's totals disagree");
	return table_get(m->names, SLICE_LIT("INBOX"))
		       ? 0
		       : store_import_wrong(m, ERR_CORRUPT, "the account has no INBOX");
}

static struct slice intent_key(char kind, uint32_t account, char *room)
{
	room[0] = kind;
	bytes_put_u32be(room + 1, account);
	bytes_put_u32be(room + 5, 0);
	return slice_of(room, 9);
}

static int put_moved(struct store_txn *txn, struct store_import *m)
{
	char key[9], value[8];

	bytes_put_u32(value, m->old_slot);
	bytes_put_u32(value + 4, m->old_account);
	return db_put(
		txn, DB_INTENTS, intent_key(INTENT_MOVED, m->account, key), slice_of(value, sizeof(value)));
}

static int activate(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	struct account_imported a = {
		m->header.record, m->aliases, m->alias_count, m->replaces, m->old_slot, m->old_account};
	char key[9];
	struct store_account old;
	int err = account_check_names(txn, &a);

	if (!err && m->replaces)
		err = store_get_account(m->o.store, m->old_slot, m->old_account, &old);
	if (!err && m->replaces)
		err = put_moved(txn, m);
	if (!err && m->replaces && m->old_slot == m->o.slot)
		err = store_account_remove(txn, m->old_account);
	if (!err)
		err = account_put_imported(txn, m->account, &a);
	m->state.aliases = (uint32_t)m->alias_count;
	if (!err)
		err = state_put_account(txn, m->account, &m->state);
	if (!err &&
		m->quotas) /* once more: what INBOX can take is told to the memory, which knows the account now */
		err = import_apply_limits(txn, m, &m->quota);
	if (!err)
		err = db_drop(txn, DB_INTENTS, intent_key(INTENT_IMPORT, m->account, key));
	db_note(txn, m->account, 0, 0);
	return err;
}

/* What an account has in others' mailboxes is said by slot and number: one step in a slot. */
struct rights {
	struct store_who from, to;
	struct store_acl_at at, now;
	bool is_done;
};

static int move_rights_step(struct store_txn *txn, void *arg)
{
	struct rights *r = arg;

	r->now = r->at; /* it may run twice */
	return store_acl_hand_over(txn, r->from, r->to, RIGHTS_STEP, &r->now, &r->is_done);
}

static int move_rights(struct store_import *m)
{
	int err = 0;

	for (unsigned slot = 0; slot < store_slots(m->o.store) && !err; slot++) {
		struct rights r = {.from = {m->old_slot, m->old_account}, .to = {m->o.slot, m->account}};
		struct import_body other = m->body;

		other.slot = slot;
		while (!err && !r.is_done) {
			err = import_body_write(&other, move_rights_step, &r);
			r.at = r.now;
		}
	}
	return err;
}

static int remove_old(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	int err = store_account_remove(txn, m->old_account);

	return err == ERR_NOT_FOUND ? 0 : err;
}

static int drop_moved(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	char key[9];

	return db_drop(txn, DB_INTENTS, intent_key(INTENT_MOVED, m->account, key));
}

/* A step in another slot. */
static int write_in(struct store_import *m, unsigned slot, int (*fn)(struct store_txn *txn, void *arg))
{
	struct import_body other = m->body;

	other.slot = slot;
	return import_body_write(&other, fn, m);
}

static int claim_names(struct store_import *m)
{
	int err = m->o.claim ? m->o.claim(m->o.names_arg, m->header.record.address) : 0;

	for (size_t i = 0; !err && m->o.claim && i < m->alias_count; i++)
		err = m->o.claim(m->o.names_arg, m->aliases[i]);
	return err ? store_import_wrong(m, err, "another verb is changing the account's address or an alias")
		   : 0;
}

int store_import_finish(struct store_import *m, struct store_import_totals *totals_out)
{
	int err = check_whole(m);

	if (!err)
		err = import_apply_step(m);
	if (!err)
		err = claim_names(m);
	if (!err)
		err = import_body_write(&m->body, activate, m);
	if (err == ERR_EXISTS)
		store_import_wrong(m, err, "the account, or one of its aliases, exists already");
	if (err)
		return err;
	m->is_finished = true;
	FAULT("import-visible");
	*totals_out = (struct store_import_totals){.mailboxes = m->mailbox_count,
		.messages = m->state.count,
		.bytes = m->state.bytes,
		.kept = m->kept.messages,
		.kept_bytes = m->kept.bytes,
		.account = m->account};
	memcpy(totals_out->address, m->address, m->header.record.address.len);
	if (!m->replaces)
		return 0;
	err = move_rights(m);
	if (!err)
		err = write_in(m, m->old_slot, remove_old);
	FAULT("import-old-removed");
	if (!err)
		err = import_body_write(&m->body, drop_moved, m);
	if (!err) {
		totals_out->old_slot = m->old_slot;
		totals_out->old_account = m->old_account;
	}
	return err;
}

static int give_up(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	char key[9];
	int err = db_drop(txn, DB_INTENTS, intent_key(INTENT_IMPORT, m->account, key));

	return err ? err : mailbox_put_intent(txn, INTENT_DROP_ACCOUNT, m->account, 0, 0);
}

void store_import_free(struct store_import **import)
{
	struct store_import *m = *import;

	if (!m)
		return;
	import_apply_clear(m);
	if (m->account && !m->is_finished)
		(void)!import_body_write(&m->body, give_up, m); /* else the next start does it */
	if (m->is_claimed)
		names_unclaim(m->o.store->names, m->header.record.address);
	import_body_deinit(&m->body);
	for (uint32_t i = 0; i < m->mailbox_count; i++)
		free(m->mailboxes[i]);
	free(m->mailboxes);
	free(m->gone);
	free(m->aliases);
	table_free(&m->names);
	table_free(&m->shared);
	arena_deinit(&m->arena);
	buf_deinit(&m->why);
	free(m);
	*import = NULL;
}

/* ---- start-up ---- */

struct intent {
	char kind;
	uint32_t account;
	uint32_t old_slot, old_account;
};

/* Intents of imports and moves: few, and taken in one look. */
static int list_intents(struct store *store, unsigned slot, struct buf *found)
{
	static const char first[] = {INTENT_IMPORT};
	struct store_txn *txn;
	struct db_cursor c;
	int err = store_begin_read(store, slot, &txn);

	if (err)
		return err;
	err = db_cursor_open(txn, DB_INTENTS, &c);
	if (!err) {
		err = db_cursor_seek(&c, slice_of(first, 1));
		for (; !err && c.key.len == 9 && c.key.p[0] <= INTENT_MOVED; err = db_cursor_next(&c)) {
			struct intent i = {.kind = c.key.p[0], .account = bytes_get_u32be(c.key.p + 1)};

			if (i.kind == INTENT_MOVED && c.value.len == 8) {
				i.old_slot = bytes_get_u32(c.value.p);
				i.old_account = bytes_get_u32(c.value.p + 4);
			}
			buf_add(found, &i, sizeof(i));
		}
		db_cursor_close(&c);
	}
	store_end_read(&txn);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int recover_one(struct store *store, unsigned slot, const struct intent *i)
{
	struct store_import m = {.account = i->account,
		.old_slot = i->old_slot,
		.old_account = i->old_account,
		.o = {.store = store, .slot = slot}};
	int err;

	m.body = (struct import_body){.store = store, .slot = slot, .fd = -1};
	if (i->kind == INTENT_IMPORT)
		return import_body_write(&m.body, give_up, &m);
	err = move_rights(&m);
	if (!err && i->old_slot < store_slots(store))
		err = write_in(&m, i->old_slot, remove_old);
	return err ? err : import_body_write(&m.body, drop_moved, &m);
}

int store_import_recover(struct store *store, unsigned slot)
{
	struct buf found = {0};
	int err = list_intents(store, slot, &found);

	for (size_t at = 0; !err && at < buf_len(&found); at += sizeof(struct intent)) {
		struct intent i;

		memcpy(&i, buf_view(&found).p + at, sizeof(i));
		err = recover_one(store, slot, &i);
	}
	buf_deinit(&found);
	return err;
}
