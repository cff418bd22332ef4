/* The verifier: counters against what the index says. One function for `store check`, the operator's verb and the repair. */
#include "backend/store/chunk.h"
#include "backend/store/mailbox.h"
#include "backend/store/quota.h"
#include "common/base/mem.h"

#include <stdlib.h>

struct verify {
	struct store_txn *txn;
	uint32_t account;
	bool repair;
	void (*report)(void *arg, const struct store_quota_drift *drift);
	void *arg;
	uint64_t drift;
	uint64_t bytes, count; /* of all mailboxes */
};

struct counted {
	uint64_t bytes, count, unseen, deleted;
};

static int count_index(struct store_txn *txn, uint32_t mailbox, struct counted *c)
{
	struct store_entry e;
	struct store_scan scan;
	int err = store_scan_begin(&scan, txn, mailbox, 0);

	*c = (struct counted){0};
	if (err)
		return err;
	while (store_scan_next(&scan, &e)) {
		c->bytes += e.size;
		c->count++;
		c->unseen += !(e.flags & STORE_SEEN);
		c->deleted += (e.flags & STORE_DELETED) != 0;
	}
	err = scan.error;
	store_scan_end(&scan);
	return err;
}

static void tell(struct verify *v, uint32_t mailbox, bool is_root, const struct counted *c, uint64_t bytes,
	uint64_t count)
{
	v->drift++;
	if (v->report)
		v->report(v->arg, &(struct store_quota_drift){.account = v->account,
					  .mailbox = mailbox,
					  .is_root = is_root,
					  .bytes_counted = c->bytes,
					  .bytes_stored = bytes,
					  .count_counted = c->count,
					  .count_stored = count});
}

static int verify_mailbox(struct verify *v, uint32_t mailbox)
{
	struct mailbox_state s;
	struct counted c;
	int err = state_get_mailbox(v->txn, v->account, mailbox, &s);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err; /* a name only */
	err = count_index(v->txn, mailbox, &c);
	if (err)
		return err;
	v->bytes += c.bytes;
	v->count += c.count;
	if (c.bytes == s.size && c.count == s.messages && c.unseen == s.unseen && c.deleted == s.deleted)
		return 0;
	tell(v, mailbox, false, &c, s.size, s.messages);
	if (!v->repair)
		return 0;
	s.size = c.bytes;
	s.messages = (uint32_t)c.count;
	s.unseen = (uint32_t)c.unseen;
	s.deleted = (uint32_t)c.deleted;
	return state_put_mailbox(v->txn, v->account, mailbox, &s);
}

static int verify_account(struct verify *v)
{
	struct counted c = {.bytes = v->bytes, .count = v->count};
	struct account_state s;
	int err = state_get_account(v->txn, v->account, &s);

	if (err || (s.bytes == c.bytes && s.count == c.count))
		return err;
	tell(v, 0, false, &c, s.bytes, s.count);
	if (!v->repair)
		return 0;
	s.bytes = c.bytes;
	s.count = c.count;
	return state_put_account(v->txn, v->account, &s);
}

/* All ids first: repairs move pages under a cursor. */
static int list_mailboxes(struct store_txn *txn, uint32_t account, struct buf *ids)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_FOLDERS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		if (c.key.len == 8)
			buf_add(ids, c.key.p + 4, 4);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static void root_drift(
	void *arg, uint32_t mailbox, const struct store_quota *stored, const struct store_quota *right)
{
	struct verify *v = arg;
	struct counted c = {.bytes = right->bytes_used, .count = right->count_used};

	tell(v, mailbox, true, &c, stored->bytes_used, stored->count_used);
}

int store_quota_verify(struct store_txn *txn, uint32_t account, bool repair,
	void (*report)(void *arg, const struct store_quota_drift *drift), void *arg, uint64_t *drift_out)
{
	struct verify v = {.txn = txn, .account = account, .repair = repair, .report = report, .arg = arg};
	struct buf ids = {0};
	int err = list_mailboxes(txn, account, &ids);

	for (size_t at = 0; at < buf_len(&ids) && !err; at += 4)
		err = verify_mailbox(&v, bytes_get_u32be(buf_view(&ids).p + at));
	buf_deinit(&ids);
	if (!err)
		err = verify_account(&v);
	if (!err)
		err = quota_verify_roots(txn, account, repair, root_drift, &v);
	*drift_out = v.drift;
	return err;
}
