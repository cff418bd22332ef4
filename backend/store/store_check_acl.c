/* The check of ACLs, of the index beside them, and of what others have seen. */
#include "backend/store/acl.h"

#include <stdio.h>

#include "backend/store/mailbox.h"

struct acl_check {
	struct store_txn *txn;
	acl_found_fn *found;
	void *arg;
};

static void tell(struct acl_check *k, const char *what, uint32_t account, uint32_t mailbox)
{
	char text[160];

	snprintf(text, sizeof(text), "%s account=%u mailbox=%u", what, account, mailbox);
	k->found(k->arg, text);
}

static int check_acl(struct acl_check *k, struct slice key, struct slice value)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct folder_record folder;
	uint32_t account, mailbox;
	struct slice row;
	size_t count = 0;
	int err;

	if (key.len != 8)
		return ERR_CORRUPT;
	account = bytes_get_u32be(key.p);
	mailbox = bytes_get_u32be(key.p + 4);
	if (mailbox_get_folder(k->txn, account, mailbox, &folder) != 0)
		tell(k, "an ACL of no mailbox:", account, mailbox);
	err = acl_unpack(value, entries, &count);
	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		struct db_key shared = acl_shared_key(entries[i].who, account, mailbox);

		if (db_get(k->txn, DB_SHARED, db_key_view(&shared), &row) != 0)
			tell(k, "an ACL is not in its index:", account, mailbox);
	}
	return 0;
}

static int check_shared(struct acl_check *k, struct slice key, struct slice value)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	uint32_t account, mailbox;
	size_t count = 0, at = 0;
	int err;

	(void)value;
	if (key.len != 13)
		return ERR_CORRUPT;
	account = bytes_get_u32be(key.p + 5);
	mailbox = bytes_get_u32be(key.p + 9);
	err = store_acl_get(k->txn, account, mailbox, entries, &count);
	while (!err && at < count) {
		struct db_key own = acl_shared_key(entries[at].who, account, mailbox);

		if (slice_is_equal(db_key_view(&own), key))
			break;
		at++;
	}
	if (!err && at == count)
		tell(k, "the index of ACLs names what no ACL has:", account, mailbox);
	return err;
}

static int check_seen(struct acl_check *k, struct slice key, struct slice value)
{
	if (!seen_is_row(key, value))
		tell(k, "what another has seen is damaged:", 0, key.len >= 4 ? bytes_get_u32be(key.p) : 0);
	return 0;
}

int acl_check(struct store_txn *txn, acl_found_fn *found, void *arg)
{
	static const struct {
		enum db_name db;
		int (*fn)(struct acl_check *k, struct slice key, struct slice value);
		const char *damaged;
	} rows[] = {{DB_ACL, check_acl, "a damaged ACL:"},
		{DB_SHARED, check_shared, "a damaged index of ACLs:"}, {DB_SEEN, check_seen, "damaged:"}};
	struct acl_check k = {txn, found, arg};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct db_cursor c;
		int err = db_cursor_open(txn, rows[i].db, &c);

		if (err)
			return err;
		err = db_cursor_seek(&c, slice_of("", 1));
		while (!err) {
			err = rows[i].fn(&k, c.key, c.value);
			if (err == ERR_CORRUPT) {
				tell(&k, rows[i].damaged, 0, 0);
				err = 0;
			}
			if (!err)
				err = db_cursor_next(&c);
		}
		db_cursor_close(&c);
		if (err != ERR_NOT_FOUND)
			return err;
	}
	return 0;
}
