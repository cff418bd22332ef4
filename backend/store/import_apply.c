/* An import's step: records that were checked as they came (store_import.c) go into one transaction, which may run twice. */
#include "backend/store/import_inner.h"

#include <stdlib.h>

#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/mailbox.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

#define STEP_BYTES ((size_t)256 << 10)

void import_apply_clear(struct store_import *m)
{
	for (size_t i = 0; i < m->item_count; i++) {
		free(m->items[i].payload);
		import_body_drop(&m->body, &m->items[i].draft);
	}
	m->item_count = 0;
	m->waiting = 0;
	m->has_open = false;
}

static int apply_mailbox(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_mailbox t;
	int err = transfer_unpack_mailbox(payload, &t);

	if (err)
		return err;
	return mailbox_put_imported(txn, m->account, &t.folder, t.subscribed,
		&m->mailboxes[t.number - 1]->state, &m->mailboxes[t.number - 1]->id);
}

/* Blob and texts of a message: of its draft, or of the one that came before. copy_out: to be freed when the texts were used. */
static int find_body(struct store_txn *txn, struct store_import *m, const struct item *item,
	const struct transfer_message *t, struct store_message *out, char **copy_out)
{
	struct db_key key = db_key_u64(t->body), row;
	struct shared *s = table_get(m->shared, db_key_view(&key));
	struct store_message other;
	struct slice value;
	int err;

	*copy_out = NULL;
	if (item->draft) {
		out->texts = *store_draft_texts(item->draft);
		return store_draft_finish(txn, item->draft, &out->blob);
	}
	if (!s || !s->blob)
		return ERR_CORRUPT;
	row = db_key_u32_u32(s->mailbox, s->uid);
	err = db_get(txn, DB_MESSAGES, db_key_view(&row), &value);
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	/* Its page may be written to. */
	*copy_out = xmemdup0(value.p, value.len);
	err = record_unpack_message(slice_of(*copy_out, value.len), &other);
	out->texts = other.texts;
	out->blob = s->blob;
	return err;
}

static int put_record(struct store_txn *txn, uint32_t mailbox, const struct store_message *r)
{
	struct db_key key = db_key_u32_u32(mailbox, r->uid);
	uint64_t size;
	void *room;
	int err = db_reserve(txn, DB_MESSAGES, db_key_view(&key), record_message_size(r), &room);

	if (err)
		return err;
	record_pack_message(r, room);
	return blob_add_ref(txn, r->blob, &size);
}

/* The record of a message, deleted or not, with a reference to its body. mailbox: ours. */
static int put_message(struct store_txn *txn, struct store_import *m, const struct item *item,
	const struct transfer_message *t, uint32_t mailbox)
{
	struct store_message r = {0};
	struct shared *s;
	struct db_key key;
	char *copy;
	int err = find_body(txn, m, item, t, &r, &copy);

	if (!err) {
		r.size = t->entry.size;
		r.date = t->entry.date;
		r.save_date = t->save_date;
		r.email = t->email;
		r.trace = t->trace;
		r.uid = t->entry.uid;
		record_set_uidl(&r, t->uidl);
		err = put_record(txn, mailbox, &r);
	}
	free(copy);
	key = db_key_u64(t->body);
	s = item->draft && t->is_shared ? table_get(m->shared, db_key_view(&key)) : NULL;
	if (!err && s) {
		s->blob = r.blob;
		s->mailbox = mailbox;
		s->uid = t->entry.uid;
	}
	return err;
}

static int apply_message(struct store_txn *txn, struct store_import *m, const struct item *item)
{
	struct transfer_message t;
	struct imported *box;
	int err = transfer_unpack_message(slice_of(item->payload, item->len), &t);

	if (err)
		return err;
	box = m->mailboxes[t.mailbox - 1];
	err = put_message(txn, m, item, &t, box->id);
	if (!err)
		err = chunk_append(txn, box->id, &t.entry, 1);
	box->is_touched = true;
	return err;
}

static int apply_kept(struct store_txn *txn, struct store_import *m, const struct item *item)
{
	struct transfer_kept k;
	uint32_t mailbox;
	int err = transfer_unpack_kept(slice_of(item->payload, item->len), &k);

	if (!err)
		err = import_kept_apply_row(txn, m, &k, &mailbox);
	return err ? err : put_message(txn, m, item, &k.message, mailbox);
}

/* Another user's number in the log: nobody's here. */
static uint64_t user_of(const struct store_import *m, enum transfer_owner owner)
{
	if (owner == TRANSFER_OTHER)
		return UINT64_MAX;
	return owner == TRANSFER_OWN ? store_metadata_user(m->o.slot, m->account) : STORE_METADATA_SHARED;
}

/* Other users' entries come along if these are here. */
static int apply_metadata(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_metadata t;
	struct store_account other;
	uint64_t user;
	int err = transfer_unpack_metadata(payload, &t);

	if (err)
		return err;
	user = user_of(m, t.owner);
	if (t.owner == TRANSFER_OTHER) {
		if (transfer_find_person(m->o.store, &t.other, &other))
			return 0;
		user = store_metadata_user(other.slot, other.id);
	}
	err = metadata_put_imported(
		txn, m->account, t.mailbox ? m->mailboxes[t.mailbox - 1]->id : 0, user, t.name, t.value);
	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

/* Accounts that are not here get no rights: sharing is within one back-end. */
static int apply_acl(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct store_acl_entry entry = {0};
	struct store_account other;
	struct transfer_acl t;
	int err = transfer_unpack_acl(payload, &t);

	if (err)
		return err;
	if (t.who.address.len) {
		if (transfer_find_person(m->o.store, &t.who, &other))
			return 0;
		entry.who = (struct store_who){other.slot, other.id};
	}
	entry.rights = t.rights;
	entry.denied = t.denied;
	err = acl_put_imported(txn, m->account, m->mailboxes[t.mailbox - 1]->id, &entry);
	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

static int apply_seen(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct store_account other;
	struct transfer_seen t;
	int err = transfer_unpack_seen(payload, &t);

	if (err || transfer_find_person(m->o.store, &t.who, &other))
		return err;
	return seen_put_imported(txn, m->mailboxes[t.mailbox - 1]->id,
		(struct store_who){other.slot, other.id}, t.block, t.row);
}

int import_apply_limits(struct store_txn *txn, struct store_import *m, const struct transfer_quota *t)
{
	int err = store_quota_set(
		txn, m->account, t->mailbox ? m->mailboxes[t->mailbox - 1]->id : 0, &t->limits);

	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

static int apply_quota(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_quota t;
	int err = transfer_unpack_quota(payload, &t);

	return err ? err : import_apply_limits(txn, m, &t);
}

static int apply_change(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct db_key key;
	struct transfer_change t;
	struct buf row = {0};
	char mailbox[4], user[8];
	int err = transfer_unpack_change(payload, &t);

	if (err)
		return err;
	key = db_key_u32_u64(m->account, t.modseq);
	bytes_put_u32(mailbox, t.mailbox ? m->mailboxes[t.mailbox - 1]->id : 0);
	buf_add_char(&row, (char)t.kind);
	buf_add(&row, mailbox, sizeof(mailbox));
	if (t.kind == CHANGE_METADATA) {
		bytes_put_u64(user, user_of(m, t.owner));
		buf_add(&row, user, sizeof(user));
	}
	buf_add_slice(&row, t.rest);
	err = db_put(txn, DB_CHANGES, db_key_view(&key), buf_view(&row));
	buf_deinit(&row);
	return err;
}

static int apply(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	int err = 0;

	FAULT("import-step");
	for (size_t i = 0; i < m->item_count && !err; i++) {
		const struct item *item = &m->items[i];
		struct slice payload = slice_of(item->payload, item->len);

		if (item->tag == STREAM_MAILBOX)
			err = apply_mailbox(txn, m, payload);
		else if (item->tag == STREAM_SUBSCRIPTION)
			err = mailbox_put_subscribed(txn, m->account, payload);
		else if (item->tag == STREAM_MESSAGE)
			err = apply_message(txn, m, item);
		else if (item->tag == STREAM_KEPT)
			err = apply_kept(txn, m, item);
		else if (item->tag == STREAM_GONE)
			err = import_kept_apply_gone(txn, m, payload);
		else if (item->tag == STREAM_METADATA)
			err = apply_metadata(txn, m, payload);
		else if (item->tag == STREAM_ACL)
			err = apply_acl(txn, m, payload);
		else if (item->tag == STREAM_QUOTA)
			err = apply_quota(txn, m, payload);
		else if (item->tag == STREAM_SEEN)
			err = apply_seen(txn, m, payload);
		else
			err = apply_change(txn, m, payload);
	}
	for (uint32_t i = 0; i < m->mailbox_count && !err; i++) {
		struct imported *box = m->mailboxes[i];

		if (box->is_touched && !box->noselect)
			err = state_put_mailbox(txn, m->account, box->id, &box->state);
	}
	return err ? err : state_put_account(txn, m->account, &m->state);
}

int import_apply_step(struct store_import *m)
{
	int err = m->item_count ? import_body_write(&m->body, apply, m) : 0;

	for (size_t i = 0; i < m->item_count && !err; i++)
		if (m->items[i].draft) {
			store_draft_committed(m->items[i].draft);
			store_draft_free(&m->items[i].draft);
		}
	for (uint32_t i = 0; i < m->mailbox_count && m->item_count; i++)
		m->mailboxes[i]->is_touched = false;
	import_apply_clear(m);
	return err;
}

int import_apply_queue(struct store_import *m, uint16_t tag, struct slice payload)
{
	int err = m->item_count == IMPORT_STEP_ITEMS || m->waiting >= STEP_BYTES ? import_apply_step(m) : 0;

	if (err)
		return err;
	m->items[m->item_count++] =
		(struct item){.tag = tag, .payload = xmemdup0(payload.p, payload.len), .len = payload.len};
	m->waiting += payload.len;
	return 0;
}
