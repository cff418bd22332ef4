/* Records of a deleted mailbox that no row of the retention owns: they are kept again, since nobody knows that they should not be. */
#include <stdlib.h>

#include "backend/store/mailbox.h"
#include "backend/store/repair.h"
#include "common/base/clock.h"

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void add_owned(struct buf *owned, uint32_t mailbox, uint32_t uid)
{
	uint64_t id = (uint64_t)mailbox << 32 | uid;

	buf_add(owned, &id, sizeof(id));
}

static void sort(struct buf *owned)
{
	if (buf_len(owned))
		qsort(owned->data, buf_len(owned) / sizeof(uint64_t), sizeof(uint64_t), compare_u64);
}

static bool is_owned(const struct buf *owned, uint32_t mailbox, uint32_t uid)
{
	uint64_t id = (uint64_t)mailbox << 32 | uid;

	return buf_len(owned) &&
	       bsearch(&id, owned->data, buf_len(owned) / sizeof(id), sizeof(id), compare_u64);
}

/* The reaper's, when no view shows them. */
static int add_expunged(struct repair *r, uint32_t mailbox, struct buf *owned)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_EXPUNGED, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c))
		if (c.key.len == 16)
			add_owned(owned, mailbox, bytes_get_u32be(c.key.p + 12));
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* UIDs, u32 each, of records that are not owned. */
static int find_unowned(struct repair *r, uint32_t mailbox, const struct buf *kept,
	const struct buf *expunged, struct buf *uids)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_MESSAGES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		uint32_t uid = c.key.len == 8 ? bytes_get_u32be(c.key.p + 4) : 0;

		if (uid && !is_owned(kept, mailbox, uid) && !is_owned(expunged, mailbox, uid))
			buf_add(uids, &uid, sizeof(uid));
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int keep_again(
	struct repair *r, uint32_t account, uint32_t mailbox, uint32_t uid, struct store_kept_sum *sum)
{
	struct kept_row row = {.account = account, .mailbox = mailbox, .uid = uid, .modseq = 1};
	struct folder_record folder;
	struct store_message m;
	struct buf name = {0};
	int err = store_message_get(r->txn, mailbox, uid, &m);

	repair_name(r, account, mailbox, uid, &name);
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
		repair_left(r, "the record of a deleted message cannot be read: %s", buf_str_view(&name));
		buf_deinit(&name);
		return 0;
	}
	row.size = m.size;
	if (!err && kept_get_folder(r->txn, account, mailbox, &row.time, &folder))
		row.time = (uint32_t)clock_wall_s();
	if (!err)
		err = kept_put(r->txn, &row);
	if (!err) {
		repair_mended(r, "a deleted message was nobody's, it is kept again: %s", buf_str_view(&name));
		sum->messages++;
		sum->bytes += m.size;
	}
	buf_deinit(&name);
	return err;
}

static int mend_gone(struct repair *r, uint32_t account, uint32_t mailbox, const struct buf *kept,
	struct store_kept_sum *sum)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct buf expunged = {0}, uids = {0};
	struct slice value;
	int err = db_get(r->txn, DB_FOLDERS, db_key_view(&key), &value);

	if (err != ERR_NOT_FOUND || repair_is_going(r, INTENT_DROP_MAILBOX, account, mailbox))
		return err == ERR_NOT_FOUND ? 0 : err;
	err = add_expunged(r, mailbox, &expunged);
	sort(&expunged);
	if (!err)
		err = find_unowned(r, mailbox, kept, &expunged, &uids);
	for (size_t at = 0; at < buf_len(&uids) && !err; at += sizeof(uint32_t)) {
		uint32_t uid;

		memcpy(&uid, uids.data + at, sizeof(uid));
		err = keep_again(r, account, mailbox, uid, sum);
	}
	buf_deinit(&expunged);
	buf_deinit(&uids);
	return err;
}

int repair_kept_unowned(
	struct repair *r, uint32_t account, const struct buf *keys, struct store_kept_sum *sum)
{
	struct buf kept = {0};
	struct slice key;
	size_t at = 0;
	uint32_t last = 0;
	int err = 0;

	while (repair_take_key(keys, &at, &key))
		if (key.len == 16 && bytes_get_u32be(key.p + 4))
			add_owned(&kept, bytes_get_u32be(key.p + 8), bytes_get_u32be(key.p + 12));
	sort(&kept);
	for (size_t i = 0; i < buf_len(&kept) && !err; i += sizeof(uint64_t)) {
		uint64_t id;

		memcpy(&id, kept.data + i, sizeof(id));
		if ((uint32_t)(id >> 32) != last)
			err = mend_gone(r, account, (uint32_t)(id >> 32), &kept, sum);
		last = (uint32_t)(id >> 32);
	}
	buf_deinit(&kept);
	return err;
}
