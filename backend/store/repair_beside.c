/*
 * Rows that stand beside mailboxes and messages: ACLs and their index, what others have seen, annotations, limits. One that cannot
 * be read is of no use to anybody, and keeps others from working: it goes, and is told. An index row is made of its ACL.
 */
#include "backend/store/acl.h"
#include "backend/store/metadata.h"
#include "backend/store/quota.h"
#include "backend/store/repair.h"

static bool is_acl(struct slice key, struct slice value, struct store_acl_entry *entries, size_t *count)
{
	return key.len == 8 && acl_unpack(value, entries, count) == 0;
}

static int check_acl(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct db_key folder = {.len = 8};
	struct slice row;
	size_t count;

	if (is_acl(key, value, entries, &count)) {
		memcpy(folder.bytes, key.p, folder.len);
		if (db_get(r->txn, DB_FOLDERS, db_key_view(&folder), &row) == 0)
			return 0;
	}
	repair_keep_key(arg, key);
	return 0;
}

/* Not in the ACL that it stands for. */
static int check_shared(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count = 0;

	(void)value;
	if (key.len == 13 && store_acl_get(r->txn, bytes_get_u32be(key.p + 5), bytes_get_u32be(key.p + 9),
				     entries, &count) != 0)
		count = 0;
	for (size_t i = 0; i < count; i++)
		if (entries[i].who.slot == (uint8_t)key.p[0] &&
			entries[i].who.account == bytes_get_u32be(key.p + 1))
			return 0;
	repair_keep_key(arg, key);
	return 0;
}

/* Keeps the ACLs that are not wholly in the index. */
static int check_index(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count = 0;

	if (!is_acl(key, value, entries, &count))
		return 0;
	for (size_t i = 0; i < count; i++) {
		struct db_key shared =
			acl_shared_key(entries[i].who, bytes_get_u32be(key.p), bytes_get_u32be(key.p + 4));
		struct slice row;

		if (db_get(r->txn, DB_SHARED, db_key_view(&shared), &row) == ERR_NOT_FOUND) {
			repair_keep_key(arg, key);
			break;
		}
	}
	return 0;
}

static int fill_index(struct repair *r, void *arg)
{
	const struct buf *keys = arg;
	struct slice key, value;
	size_t at = 0;
	int err = 0;

	while (!err && repair_take_key(keys, &at, &key)) {
		struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
		size_t count = 0;

		if (db_get(r->txn, DB_ACL, key, &value) != 0 || !is_acl(key, value, entries, &count))
			continue;
		for (size_t i = 0; i < count && !err; i++) {
			struct db_key shared = acl_shared_key(
				entries[i].who, bytes_get_u32be(key.p), bytes_get_u32be(key.p + 4));

			err = db_put(r->txn, DB_SHARED, db_key_view(&shared), slice_of(NULL, 0));
		}
		repair_mended(r, "an ACL was not in its index");
	}
	return err;
}

static int mend_index(struct repair *r)
{
	struct buf keys = {0};
	int err = repair_each_row(r, DB_ACL, check_index, &keys);

	if (!err && buf_len(&keys))
		err = repair_in_write(r, fill_index, &keys);
	buf_deinit(&keys);
	return err;
}

static int check_seen(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	if (!seen_is_row(key, value))
		repair_keep_key(arg, key);
	return 0;
}

static int check_metadata(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	if (!metadata_is_row(key, value))
		repair_keep_key(arg, key);
	return 0;
}

static int check_quota(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	if (!quota_is_row(key, value, false))
		repair_keep_key(arg, key);
	return 0;
}

static int check_warned(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	if (!quota_is_row(key, value, true))
		repair_keep_key(arg, key);
	return 0;
}

int repair_beside(struct repair *r)
{
	static const struct {
		enum db_name db;
		repair_row_fn *check;
		const char *what;
	} rows[] = {
		{DB_ACL, check_acl, "an ACL could not be read, or was of no mailbox: it goes"},
		{DB_SHARED, check_shared, "the index of ACLs named what no ACL has"},
		{DB_SEEN, check_seen, "what another has seen could not be read: it counts as unseen"},
		{DB_METADATA, check_metadata, "an annotation could not be read: it goes"},
		{DB_QUOTA, check_quota, "limits of a folder could not be read: they go"},
		{DB_QUOTA_WARNED, check_warned, "warnings of a quota could not be read"},
	};
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows) && !err; i++)
		err = repair_rows(r, rows[i].db, rows[i].check, rows[i].what);
	return err ? err : mend_index(r);
}
