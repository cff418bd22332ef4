/*
 * The reaper: what deletions left behind goes in steps, each within a budget of rows, so that no step holds
 * the writer for long. Order: expunged messages, rows of deleted mailboxes and accounts (the intents), bodies
 * without a message. A crash between steps loses nothing: the rows that remain say what is still to be done.
 */
#include "backend/store/acl.h"
#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/metadata.h"
#include "backend/store/message.h"
#include "backend/store/store_message.h"

struct reap {
	struct store_txn *txn;
	const struct store_holds *holds;
	size_t budget;
};

static uint64_t oldest_view(struct reap *r, uint32_t mailbox)
{
	return r->holds ? r->holds->oldest_view(r->holds->arg, mailbox) : UINT64_MAX;
}

static int remove_record(struct reap *r, uint32_t mailbox, uint32_t uid)
{
	if (r->budget)
		r->budget--;
	return message_remove_record(r->txn, mailbox, uid);
}

/* The retention takes it over, with the time that its views may still need: nothing is removed yet. */
static int keep(struct reap *r, const struct kept_row *row)
{
	int err = kept_put(r->txn, row);

	r->budget--;
	return err || !r->budget ? err : kept_trim(r->txn, r->holds, row->account, &r->budget);
}

/* What kept_unpack_note() found is to be kept, unless that is off by now. */
static bool is_kept(struct reap *r, int unpacked, const struct kept_row *row)
{
	return unpacked == 0 && kept_retention(r->txn, row->account);
}

static int reap_expunged(struct reap *r)
{
	struct db_key from = db_key_u32(0);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_EXPUNGED, &c);

	if (err)
		return err;
	while (r->budget) {
		uint32_t mailbox, uid;
		struct kept_row row;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		if (is_kept(r, kept_unpack_note(c.key, c.value, &row), &row)) {
			err = db_cursor_delete(&c);
			if (!err)
				err = keep(r, &row);
			if (err)
				break;
			continue;
		}
		mailbox = bytes_get_u32be(c.key.p);
		if (bytes_get_u64be(c.key.p + 4) > oldest_view(r, mailbox)) {
			if (mailbox == UINT32_MAX)
				break;
			from = db_key_u32(mailbox + 1);
			continue;
		}
		uid = bytes_get_u32be(c.key.p + 12);
		err = db_cursor_delete(&c);
		if (!err)
			err = remove_record(r, mailbox, uid);
		if (err)
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Deletes the rows with this prefix, as far as the budget goes. */
static int reap_rows(struct reap *r, enum db_name db, struct slice prefix)
{
	struct db_cursor c;
	int err = r->budget ? db_cursor_open(r->txn, db, &c) : 0;

	if (err || !r->budget)
		return err;
	while (r->budget) {
		err = db_cursor_seek(&c, prefix);
		if (err || !db_cursor_has_prefix(&c, prefix))
			break;
		err = db_cursor_delete(&c);
		r->budget--;
		if (err)
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* A chunk of the index of a deleted mailbox becomes kept rows; ERR_NOT_FOUND: there is none left. */
static int keep_chunk(struct reap *r, uint32_t account, uint32_t mailbox, uint32_t time)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	struct chunk chunk;
	int err = db_cursor_open(r->txn, DB_INDEX, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	if (!err && !db_cursor_has_prefix(&c, db_key_view(&prefix)))
		err = ERR_NOT_FOUND;
	if (!err)
		err = chunk_unpack(&c, &chunk);
	if (!err)
		err = db_cursor_delete(&c);
	db_cursor_close(&c);
	for (uint32_t i = 0; !err && i < chunk.count; i++) {
		const struct store_entry *e = &chunk.entries[i];

		err = kept_put(r->txn, &(struct kept_row){.account = account,
					       .time = time,
					       .mailbox = mailbox,
					       .uid = e->uid,
					       .size = e->size,
					       .modseq = e->modseq,
					       .keywords = e->keywords,
					       .flags = e->flags});
		r->budget -= r->budget > 0;
	}
	return err;
}

/* What was expunged before and is not kept has gone by reap_expunged(): no view is left of a mailbox that is here. */
static int keep_mailbox(struct reap *r, uint32_t account, uint32_t mailbox, uint32_t time)
{
	int err = 0;

	while (!err && r->budget)
		err = keep_chunk(r, account, mailbox, time);
	if (!err && r->budget)
		err = kept_trim(r->txn, r->holds, account, &r->budget);
	if (err && err != ERR_NOT_FOUND)
		return err;
	return metadata_reap(r->txn, account, mailbox, &r->budget);
}

static int reap_mailbox(struct reap *r, uint32_t account, uint32_t mailbox)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_MESSAGES, &c);

	if (err)
		return err;
	while (r->budget) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		err = remove_record(r, mailbox, bytes_get_u32be(c.key.p + 4));
		if (err)
			break;
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = reap_rows(r, DB_INDEX, db_key_view(&prefix));
	if (!err)
		err = reap_rows(r, DB_EXPUNGED, db_key_view(&prefix));
	return err ? err : metadata_reap(r->txn, account, mailbox, &r->budget);
}

/* Buries the mailboxes of an account one by one, then removes its other rows. */
static int reap_account(struct reap *r, uint32_t account)
{
	struct db_key prefix = db_key_u32(account), own = db_key_u32_u32(account, 0);
	struct account_state s;
	struct db_cursor c;
	int err = state_get_account(r->txn, account, &s);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	err = db_cursor_open(r->txn, DB_FOLDERS, &c);
	if (err)
		return err;
	while (r->budget) {
		uint32_t mailbox;

		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		mailbox = bytes_get_u32be(c.key.p + 4);
		err = db_cursor_delete(&c);
		if (!err)
			err = acl_drop(r->txn, account, mailbox);
		if (!err)
			err = mailbox_bury(r->txn, account, &s, mailbox);
		r->budget--;
		if (err)
			break;
	}
	db_cursor_close(&c);
	if (!err || err == ERR_NOT_FOUND)
		err = state_put_account(r->txn, account, &s);
	if (!err)
		err = reap_rows(r, DB_FOLDER_NAMES, db_key_view(&prefix));
	if (!err)
		err = reap_rows(r, DB_CHANGES, db_key_view(&prefix));
	if (!err)
		err = reap_rows(r, DB_METADATA, db_key_view(&prefix));
	if (!err)
		err = reap_rows(r, DB_QUOTA, db_key_view(&prefix));
	if (!err)
		err = reap_rows(r, DB_QUOTA_WARNED, db_key_view(&prefix));
	if (!err && r->budget)
		err = kept_drop_account(r->txn, account, &r->budget);
	if (!err && r->budget) {
		err = db_drop(r->txn, DB_STATE, db_key_view(&own));
		db_end_hold(r->txn, account);
	}
	return err;
}

static int reap_intents(struct reap *r)
{
	char key[9] = {0};
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_INTENTS, &c);

	if (err)
		return err;
	while (r->budget) {
		uint32_t account, mailbox, time;
		bool is_held = false;

		err = db_cursor_seek(&c, slice_of(key, sizeof(key)));
		if (err)
			break;
		if (c.key.len != sizeof(key)) {
			err = ERR_CORRUPT;
			break;
		}
		if (c.key.p[0] == INTENT_FORGET_ACCOUNT) /* and so are those behind it */
			break;
		memcpy(key, c.key.p, sizeof(key));
		if (key[0] > INTENT_DROP_ACCOUNT)
			break; /* of imports: not ours */
		account = bytes_get_u32be(key + 1);
		mailbox = bytes_get_u32be(key + 5);
		if (key[0] == INTENT_DROP_MAILBOX)
			is_held = oldest_view(r, mailbox) != UINT64_MAX;
		time = c.value.len == 4 && kept_retention(r->txn, account) ? bytes_get_u32(c.value.p) : 0;
		if (!is_held)
			err = key[0] != INTENT_DROP_MAILBOX ? reap_account(r, account)
			      : time                        ? keep_mailbox(r, account, mailbox, time)
							    : reap_mailbox(r, account, mailbox);
		if (!err && !is_held && key[0] == INTENT_DROP_MAILBOX) {
			struct db_key prefix = db_key_u32(mailbox);

			err = reap_rows(r, DB_SEEN, db_key_view(&prefix));
		}
		if (!err && !is_held && r->budget)
			err = db_drop(r->txn, DB_INTENTS, slice_of(key, sizeof(key)));
		if (err)
			break;
		bytes_put_u32be(key + 5, mailbox + 1); /* mailbox ids end before UINT32_MAX */
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int reap_orphans(struct reap *r)
{
	struct db_key from = db_key_u64(0);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_ORPHANS, &c);

	if (err)
		return err;
	while (r->budget) {
		uint64_t blob;
		bool done;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		if (c.key.len != 8 || c.value.len != 1) {
			err = ERR_CORRUPT;
			break;
		}
		blob = bytes_get_u64be(c.key.p);
		from = db_key_u64(blob + 1);
		if (c.value.p[0] != ORPHAN_DEAD || (r->holds && r->holds->is_pinned(r->holds->arg, blob)))
			continue;
		r->budget--;
		err = blob_remove(r->txn, blob, &r->budget, &done);
		if (err)
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_reap(struct store_txn *txn, const struct store_holds *holds, size_t limit, bool *done_out)
{
	struct reap r = {txn, holds, limit};
	int err;

	txn->passes_holds = true; /* an account may have been removed under its hold */
	err = reap_expunged(&r);

	/* A mailbox buried by an account's intent has an intent that sorts before: it gets its turn in the
	 * next step. */
	if (!err && r.budget)
		err = reap_intents(&r);
	if (!err && r.budget)
		err = reap_orphans(&r);
	txn->passes_holds = false;
	if (!err)
		*done_out = r.budget == limit;
	return err;
}
