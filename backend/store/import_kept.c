/* Deleted messages of an account that is imported: they come to stand as the retention of the account that they left had them. */
#include "backend/store/import_inner.h"

#include "backend/store/kept.h"
#include "backend/store/store_export.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

int import_kept_take_sum(struct store_import *m, struct slice payload)
{
	if (m->kept_said.messages || m->mailbox_count != m->header.mailboxes ||
		transfer_unpack_kept_sum(payload, &m->kept_said) ||
		m->kept_said.messages > STORE_EXPORT_KEPT_MAX)
		return store_import_wrong(m, ERR_CORRUPT, "the sums of deleted messages are wrong");
	return 0;
}

/* A name in its stored form. */
static bool is_name_good(struct slice name)
{
	struct arena arena;
	struct slice stored;
	bool good;

	arena_init(&arena, 0);
	good = store_mailbox_normalise(name, &arena, &stored) == 0 && slice_is_equal(name, stored);
	arena_deinit(&arena);
	return good;
}

int import_kept_take_gone(struct store_import *m, struct slice payload)
{
	struct transfer_gone g;
	int err = transfer_unpack_gone(payload, &g);

	if (err || m->kept.messages || m->gone_count >= m->kept_said.messages ||
		g.number != m->mailbox_count + m->gone_count + 1 || (g.time && !is_name_good(g.folder.name)))
		return store_import_wrong(m, ERR_CORRUPT, "a deleted mailbox's record is wrong");
	if (m->gone_count == m->gone_room) {
		m->gone_room = m->gone_room ? m->gone_room * 2 : 16;
		m->gone = xreallocarray(m->gone, m->gone_room, sizeof(*m->gone));
	}
	m->gone[m->gone_count++] =
		(struct import_gone){.keyword_count = g.time ? (uint32_t)g.folder.keywords.count : 0};
	return import_apply_queue(m, STREAM_GONE, payload);
}

static bool is_good(const struct store_import *m, const struct transfer_message *t)
{
	uint32_t keywords, uidnext = UINT32_MAX;

	if (t->mailbox == 0 || t->mailbox > m->mailbox_count + m->gone_count ||
		m->kept.messages == m->kept_said.messages ||
		t->entry.size > m->kept_said.bytes - m->kept.bytes || t->entry.modseq > m->header.modseq ||
		!store_import_is_email_good(m, t->email))
		return false;
	if (t->mailbox < m->kept_number || (t->mailbox == m->kept_number && t->entry.uid <= m->kept_uid))
		return false;
	if (t->mailbox <= m->mailbox_count) {
		const struct imported *box = m->mailboxes[t->mailbox - 1];

		if (box->noselect)
			return false;
		keywords = box->keyword_count;
		uidnext = box->state.uidnext;
	} else {
		keywords = m->gone[t->mailbox - 1 - m->mailbox_count].keyword_count;
	}
	return t->entry.uid < uidnext && (keywords == 64 || t->entry.keywords >> keywords == 0);
}

/* Its time is over already: the next look would take it away. */
static bool is_over(const struct store_import *m, uint32_t time)
{
	return (int64_t)time <= clock_wall_s() - (int64_t)m->o.store->retention_s;
}

int import_kept_check(
	struct store_import *m, struct slice payload, struct transfer_message *message_out, bool *skips_out)
{
	struct transfer_kept k;
	int err = transfer_unpack_kept(payload, &k);

	if (err || !is_good(m, &k.message))
		return store_import_wrong(m, ERR_CORRUPT, "a deleted message's record is wrong");
	*message_out = k.message;
	/* Others do not build on it: in a backup each says where its body is. */
	*skips_out = k.message.body_kind == TRANSFER_KEPT && is_over(m, k.time);
	return 0;
}

void import_kept_count(struct store_import *m, const struct transfer_message *t)
{
	m->kept.messages++;
	m->kept.bytes += t->entry.size;
	m->kept_number = t->mailbox;
	m->kept_uid = t->entry.uid;
}

/* ---- in a step ---- */

/* None lies ahead: it would be kept for too long. */
static uint32_t not_ahead(uint32_t time)
{
	int64_t now = clock_wall_s();

	return (int64_t)time > now ? (uint32_t)now : time;
}

int import_kept_apply_gone(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_gone g;
	struct buf folder = {0};
	uint32_t *id;
	int err = transfer_unpack_gone(payload, &g);

	if (err)
		return err;
	id = &m->gone[g.number - 1 - m->mailbox_count].id;
	err = db_meta_next(txn, "last_mailbox", id);
	if (err || !g.time)
		return err;
	record_pack_folder(&g.folder, &folder);
	err = kept_put_folder(txn, m->account, *id, not_ahead(g.time), buf_view(&folder));
	buf_deinit(&folder);
	return err;
}

int import_kept_apply_row(
	struct store_txn *txn, struct store_import *m, const struct transfer_kept *k, uint32_t *mailbox_out)
{
	const struct transfer_message *t = &k->message;
	struct kept_row row = {.account = m->account,
		.time = not_ahead(k->time),
		.mailbox = t->mailbox <= m->mailbox_count ? m->mailboxes[t->mailbox - 1]->id
							  : m->gone[t->mailbox - 1 - m->mailbox_count].id,
		.uid = t->entry.uid,
		.size = t->entry.size,
		.modseq = t->entry.modseq,
		.keywords = t->entry.keywords,
		.flags = t->entry.flags};
	struct db_key key = db_key_u32_u32(row.mailbox, row.uid);
	struct slice value;
	int err = db_get(txn, DB_MESSAGES, db_key_view(&key), &value);

	FAULT("import-kept");
	*mailbox_out = row.mailbox;
	if (err == 0)
		return store_import_wrong(
			m, ERR_CORRUPT, "a deleted message has the UID of one that is there");
	return err == ERR_NOT_FOUND ? kept_put(txn, &row) : err;
}
