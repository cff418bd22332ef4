/* Each table is damaged in turn, by direct writes; after the repair the check finds nothing (or what is told as lost), and every
 * message that was not damaged is there octet for octet. */
#include "backend/store/chunk.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_kept.h"
#include "backend/store/store_metadata.h"
#include "backend/store/store_quota.h"
#include "backend/store/store_repair.h"
#include "temp_store.h"

#define MESSAGES 300

struct damaged {
	struct temp_store t;
	uint32_t work;
	struct store_repair result;
	char told[20000];
};

static void take_report(void *arg, const char *text)
{
	struct damaged *d = arg;
	size_t len = strlen(d->told);

	snprintf(d->told + len, sizeof(d->told) - len, "%s\n", text);
}

/* Odd ones are large enough to have pieces. */
static struct slice body_of(uint32_t i, char *room)
{
	size_t len = (size_t)sprintf(room, "Subject: number %u\r\n\r\n", i);

	if (i % 50 == 1)
		for (unsigned k = 0; k < 200000; k++)
			room[len++] = (char)('!' + (k * 7919 + i * 31 + (k * k) % 89) % 90);
	return slice_of(room, len);
}

static void start(struct damaged *d)
{
	static char room[300000];
	struct store_txn *txn;

	memset(d, 0, sizeof(*d));
	temp_start(&d->t);
	store_set_retention(d->t.store, 3600, 0);
	assert_int_equal(store_begin_write(d->t.store, 0, &txn), 0);
	assert_int_equal(
		store_mailbox_create(txn, d->t.account, SLICE_LIT("Work"), STORE_USE_NONE, &d->work), 0);
	assert_int_equal(store_account_add_alias(txn, d->t.account, SLICE_LIT("al@example.com")), 0);
	assert_int_equal(store_commit(&txn), 0);
	for (uint32_t i = 1; i <= MESSAGES; i++) {
		struct store_appended a;

		assert_int_equal(temp_append(&d->t, d->t.account, i % 3 ? d->t.inbox : d->work,
					 body_of(i, room), i % 2 ? STORE_SEEN : 0, &a),
			0);
	}
	temp_check(&d->t);
}

static struct store_check check(struct damaged *d)
{
	struct store_check_options o = {0};
	struct store_check c;

	assert_int_equal(store_check(d->t.store, &o, &c), 0);
	return c;
}

static void repair(struct damaged *d)
{
	struct store_repair_options o = {.report = take_report, .arg = d};

	d->told[0] = '\0';
	assert_int_equal(store_repair(d->t.store, &o, &d->result), 0);
}

/* All messages of a mailbox, `but` them. */
static void all_there(struct damaged *d, uint32_t mailbox, uint32_t count, uint32_t but)
{
	static char room[300000], got[300000];
	struct store_txn *txn;
	struct store_scan scan;
	struct store_entry e;
	uint32_t seen = 0;

	assert_int_equal(store_begin_read(d->t.store, 0, &txn), 0);
	assert_int_equal(store_scan_begin(&scan, txn, mailbox, 0), 0);
	while (store_scan_next(&scan, &e)) {
		/* UIDs of INBOX: 1, 2, 4, 5 ... */
		uint32_t i = mailbox == d->work ? e.uid * 3 : e.uid + (e.uid - 1) / 2;
		struct store_message m;
		struct slice want = body_of(i, room);
		size_t len;

		if (e.uid == but)
			continue;
		assert_int_equal(store_message_get(txn, mailbox, e.uid, &m), 0);
		assert_int_equal(store_message_read(txn, &m, m.trace.len, got, sizeof(got), &len), 0);
		assert_int_equal(len, want.len);
		assert_memory_equal(got, want.p, len);
		assert_true(m.texts.envelope.len > 10);
		seen++;
	}
	store_scan_end(&scan);
	store_end_read(&txn);
	assert_int_equal(seen, count);
}

static void all_whole(struct damaged *d)
{
	struct store_account a;

	if (check(d).errors)
		print_error("%s", d->told);
	assert_int_equal(check(d).errors, 0);
	all_there(d, d->t.inbox, 200, 0);
	all_there(d, d->work, 100, 0);
	assert_int_equal(store_find_account(d->t.store, SLICE_LIT("al@example.com"), &a), 0);
	assert_int_equal(a.id, d->t.account);
	assert_int_equal(a.count_used, 300);
	/* It takes new mail. */
	temp_add(&d->t, d->work, "A: b\r\n\r\nnew");
	temp_reap(&d->t, NULL);
	assert_int_equal(check(d).errors, 0);
}

/* ---- ways to damage ---- */

static void put(struct damaged *d, enum db_name db, struct slice key, struct slice value)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(d->t.store, 0, &txn), 0);
	assert_int_equal(db_put(txn, db, key, value), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static void drop(struct damaged *d, enum db_name db, struct slice key)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(d->t.store, 0, &txn), 0);
	assert_int_equal(db_delete(txn, db, key), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* The first row with the prefix: its key. */
static struct db_key first(struct damaged *d, enum db_name db, struct slice prefix, struct buf *value)
{
	struct db_key key = {.len = 0};
	struct store_txn *txn;
	struct db_cursor c;

	assert_int_equal(store_begin_read(d->t.store, 0, &txn), 0);
	assert_int_equal(db_cursor_open(txn, db, &c), 0);
	assert_int_equal(db_cursor_seek(&c, prefix), 0);
	assert_true(db_cursor_has_prefix(&c, prefix) && c.key.len <= sizeof(key.bytes));
	memcpy(key.bytes, c.key.p, c.key.len);
	key.len = c.key.len;
	buf_clear(value);
	buf_add_slice(value, c.value);
	db_cursor_close(&c);
	store_end_read(&txn);
	return key;
}

static struct db_key account_key(struct damaged *d)
{
	return db_key_u32(d->t.account);
}

static void lose_account_record(struct damaged *d)
{
	struct db_key key = account_key(d);

	drop(d, DB_ACCOUNTS, db_key_view(&key));
}

static void spoil_account_record(struct damaged *d)
{
	struct db_key key = account_key(d);

	put(d, DB_ACCOUNTS, db_key_view(&key), SLICE_LIT("\1xx"));
}

static void lose_name(struct damaged *d)
{
	drop(d, DB_NAMES, SLICE_LIT("alice@example.com"));
}

static void spoil_alias(struct damaged *d)
{
	put(d, DB_NAMES, SLICE_LIT("al@example.com"), SLICE_LIT("\77\0\0\0"));
}

static void add_dead_name(struct damaged *d)
{
	put(d, DB_NAMES, SLICE_LIT("nobody@example.com"), SLICE_LIT("\77\0\0\0"));
}

static void spoil_account_state(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, 0);

	put(d, DB_STATE, db_key_view(&key), SLICE_LIT("short"));
}

static void lose_account_state(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, 0);

	drop(d, DB_STATE, db_key_view(&key));
}

static void lose_mailbox_state(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);

	drop(d, DB_STATE, db_key_view(&key));
}

/* Counters of a mailbox and of the account's quota, all off. */
static void spoil_counters(struct damaged *d)
{
	struct db_key box = db_key_u32_u32(d->t.account, d->work), own = db_key_u32_u32(d->t.account, 0);
	struct buf value = {0};

	(void)first(d, DB_STATE, db_key_view(&box), &value);
	value.data[8] ^= 3;
	value.data[12] ^= 1;
	value.data[25] ^= 1;
	put(d, DB_STATE, db_key_view(&box), buf_view(&value));
	(void)first(d, DB_STATE, db_key_view(&own), &value);
	value.data[9] ^= 7;
	value.data[40] ^= 1;
	put(d, DB_STATE, db_key_view(&own), buf_view(&value));
	buf_deinit(&value);
}

static void lose_folder(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);

	drop(d, DB_FOLDERS, db_key_view(&key));
}

static void spoil_folder(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);

	put(d, DB_FOLDERS, db_key_view(&key), SLICE_LIT("\7"));
}

static void lose_folder_name(struct damaged *d)
{
	struct db_key key = account_key(d);

	memcpy(key.bytes + 4, "Work", 4);
	key.len = 8;
	drop(d, DB_FOLDER_NAMES, db_key_view(&key));
}

static void add_dead_folder_name(struct damaged *d)
{
	struct db_key key = account_key(d);

	memcpy(key.bytes + 4, "None", 4);
	key.len = 8;
	put(d, DB_FOLDER_NAMES, db_key_view(&key), SLICE_LIT("\77\0\0\0\0"));
}

static void lose_chunk(struct damaged *d)
{
	struct db_key prefix = db_key_u32(d->t.inbox);
	struct buf value = {0};
	struct db_key key = first(d, DB_INDEX, db_key_view(&prefix), &value);

	drop(d, DB_INDEX, db_key_view(&key));
	buf_deinit(&value);
}

static void spoil_chunk(struct damaged *d)
{
	struct db_key prefix = db_key_u32(d->t.inbox);
	struct buf value = {0};
	struct db_key key = first(d, DB_INDEX, db_key_view(&prefix), &value);

	value.data[0] = 9;
	put(d, DB_INDEX, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
}

/* Sizes and MODSEQs of a chunk. */
static void spoil_entries(struct damaged *d)
{
	struct db_key prefix = db_key_u32(d->t.inbox);
	struct buf value = {0};
	struct db_key key = first(d, DB_INDEX, db_key_view(&prefix), &value);
	uint32_t n = bytes_get_u16(value.data + 2);

	value.data[CHUNK_HEAD + n * 4 + 1] ^= 1;
	value.data[CHUNK_HEAD + n * 8 + 7] ^= 1;
	put(d, DB_INDEX, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
}

static void spoil_record(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.inbox, 7);
	struct buf value = {0};

	(void)first(d, DB_MESSAGES, db_key_view(&key), &value);
	value.data[0] = 77;
	value.data[24] ^= 9; /* a length */
	put(d, DB_MESSAGES, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
}

static void spoil_expunged(struct damaged *d)
{
	struct db_key key = db_key_u32_u64_u32(d->t.inbox, 3, 9999);

	put(d, DB_EXPUNGED, db_key_view(&key), SLICE_LIT("x"));
}

static void spoil_kept(struct damaged *d)
{
	struct db_key key = db_key_u32_u64_u32(d->t.account, (uint64_t)1000 << 32 | d->t.inbox, 9999),
		      sums = db_key_u32_u64_u32(d->t.account, 0, 0);

	put(d, DB_KEPT, db_key_view(&key), SLICE_LIT("x"));
	put(d, DB_KEPT, db_key_view(&sums), SLICE_LIT("1234567812345678"));
}

static void spoil_refs(struct damaged *d)
{
	struct buf value = {0};
	struct db_key key = first(d, DB_BLOBS, SLICE_LIT("\0"), &value);

	value.data[4] = 5;
	put(d, DB_BLOBS, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
}

static void spoil_copies(struct damaged *d)
{
	struct db_key one = db_key_u64(1), two = db_key_u64(2), three = db_key_u64(3),
		      none = db_key_u64(99999);

	put(d, DB_COPIES, db_key_view(&one), SLICE_LIT("x"));
	put(d, DB_COPIES, db_key_view(&two), SLICE_LIT("\7\0\0\0"));
	put(d, DB_COPIES, db_key_view(&three), SLICE_LIT("\0\0\0\0"));
	put(d, DB_COPIES, db_key_view(&none), SLICE_LIT("\1\0\0\0"));
	put(d, DB_COPIES, SLICE_LIT("key"), SLICE_LIT("\1\0\0\0"));
}

static void add_copies_of_none(struct damaged *d)
{
	struct db_key none = db_key_u64(99999);

	put(d, DB_COPIES, db_key_view(&none), SLICE_LIT("\1\0\0\0"));
}

static void add_orphan(struct damaged *d)
{
	struct db_key key = db_key_u64(2);

	put(d, DB_ORPHANS, db_key_view(&key), SLICE_LIT("\2"));
}

static uint64_t blob_with_pieces(struct damaged *d)
{
	struct buf value = {0};
	struct db_key key = first(d, DB_PIECES, SLICE_LIT("\0"), &value);

	buf_deinit(&value);
	return bytes_get_u64be(key.bytes);
}

static void lose_blob(struct damaged *d)
{
	struct db_key key = db_key_u64(blob_with_pieces(d));

	drop(d, DB_BLOBS, db_key_view(&key));
}

static void spoil_blob(struct damaged *d)
{
	struct db_key key = db_key_u64(blob_with_pieces(d));

	put(d, DB_BLOBS, db_key_view(&key), SLICE_LIT("\11"));
}

/* As a message leaves it that was removed when its body's record could not be read. */
static void add_blob(struct damaged *d)
{
	struct db_key key = db_key_u64(1000001), piece = db_key_u64_u32(1000001, 0);

	put(d, DB_BLOBS, db_key_view(&key), SLICE_LIT("\11"));
	put(d, DB_PIECES, db_key_view(&piece), SLICE_LIT("of nobody"));
}

static void add_blob_of_no_key(struct damaged *d)
{
	put(d, DB_BLOBS, SLICE_LIT("odd"), SLICE_LIT("\11"));
}

static void add_pieces(struct damaged *d)
{
	struct db_key key = db_key_u64_u32(1000000, 0);

	put(d, DB_PIECES, db_key_view(&key), SLICE_LIT("of nobody"));
}

static void lose_changes(struct damaged *d)
{
	struct db_key prefix = account_key(d);
	struct buf value = {0};
	struct db_key key;

	for (int i = 0; i < 3; i++) {
		key = first(d, DB_CHANGES, db_key_view(&prefix), &value);
		drop(d, DB_CHANGES, db_key_view(&key));
	}
	key = first(d, DB_CHANGES, db_key_view(&prefix), &value);
	put(d, DB_CHANGES, db_key_view(&key), SLICE_LIT("x"));
	buf_deinit(&value);
}

static void add_marks(struct damaged *d)
{
	static const char digest[STORE_MARK_LEN] = "a mark without its time";
	char times[8 + STORE_MARK_LEN] = "a time without its mark";

	put(d, DB_MARKS, slice_of(digest, sizeof(digest)), SLICE_LIT("12345678"));
	put(d, DB_MARK_TIMES, slice_of(times, sizeof(times)), slice_of(NULL, 0));
	put(d, DB_MARK_TIMES, SLICE_LIT("short"), slice_of(NULL, 0));
}

static void spoil_numbers(struct damaged *d)
{
	static const char *const names[] = {"last_mailbox", "last_account", "next_blob"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		put(d, DB_META, slice_str(names[i]), SLICE_LIT("\1\0\0\0\0\0\0\0"));
	d->t.store->slots[0].next_blob = 1;
}

static void add_intent(struct damaged *d)
{
	put(d, DB_INTENTS, SLICE_LIT("short"), slice_of(NULL, 0));
}

/* ---- what stands beside ---- */

static void share(struct damaged *d)
{
	struct store_who who = {0, 77};
	struct store_flag_change c = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX, .who = &who};
	struct store_txn *txn;
	uint32_t uid = 1;
	uint64_t modseq;

	assert_int_equal(store_begin_write(d->t.store, 0, &txn), 0);
	assert_int_equal(store_acl_set(txn, d->t.account, d->work,
				 &(struct store_acl_entry){who, STORE_RIGHT_READ, 0}),
		0);
	assert_int_equal(store_message_flag(txn, d->t.account, d->work, &uid, 1, &c, NULL, &modseq), 0);
	assert_int_equal(store_metadata_set(txn, d->t.account, d->work, STORE_METADATA_SHARED,
				 SLICE_LIT("/comment"), SLICE_LIT("x"), NULL),
		0);
	assert_int_equal(
		store_quota_set(txn, d->t.account, d->work, &(struct store_quota){.count_limit = 100000}), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&d->t);
}

static void spoil_first(struct damaged *d, enum db_name db, bool by_mailbox)
{
	struct db_key prefix = db_key_u32(by_mailbox ? d->work : d->t.account), key;
	struct buf value = {0};

	share(d);
	key = first(d, db, db_key_view(&prefix), &value);
	put(d, db, db_key_view(&key), SLICE_LIT("\7rubbish"));
	buf_deinit(&value);
}

static void spoil_acl(struct damaged *d)
{
	spoil_first(d, DB_ACL, false);
}

static void lose_acl(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);

	share(d);
	drop(d, DB_ACL, db_key_view(&key));
}

static void lose_shared(struct damaged *d)
{
	struct buf value = {0};
	struct db_key key;

	share(d);
	key = first(d, DB_SHARED, slice_of("", 1), &value); /* slot 0 */
	drop(d, DB_SHARED, db_key_view(&key));
	buf_deinit(&value);
}

static void spoil_seen(struct damaged *d)
{
	spoil_first(d, DB_SEEN, true);
}

static void spoil_annotation(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);
	char row[24] = {0};

	share(d);
	memcpy(row, key.bytes, 8);
	memcpy(row + 16, "/comment", 8);
	put(d, DB_METADATA, slice_of(row, sizeof(row)), SLICE_LIT("\7"));
}

static void spoil_weight(struct damaged *d)
{
	struct db_key key = db_key_u32(d->t.account);

	share(d);
	put(d, DB_METADATA, db_key_view(&key), SLICE_LIT("\1\7\0\0\0\0\0\0\0"));
}

static void spoil_limits(struct damaged *d)
{
	spoil_first(d, DB_QUOTA, false);
}

static void spoil_root(struct damaged *d)
{
	struct db_key prefix = db_key_u32(d->t.account), key;
	struct buf value = {0};

	share(d);
	key = first(d, DB_QUOTA, db_key_view(&prefix), &value);
	value.data[37]++;
	put(d, DB_QUOTA, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
}

/* The root's counters are too small for what its mailbox says. */
static void spoil_root_and_counters(struct damaged *d)
{
	struct db_key key = db_key_u32_u32(d->t.account, d->work);
	struct buf value = {0};

	share(d);
	(void)first(d, DB_QUOTA, db_key_view(&key), &value);
	memset(value.data + 37, 0, 16);
	put(d, DB_QUOTA, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	spoil_counters(d);
}

static void test_each_table_is_mended(void **state)
{
	static const struct {
		const char *what;
		void (*damage)(struct damaged *d);
	} rows[] = {
		{"account record lost", lose_account_record},
		{"account record", spoil_account_record},
		{"name lost", lose_name},
		{"alias", spoil_alias},
		{"name of no account", add_dead_name},
		{"counters of an account", spoil_account_state},
		{"counters of an account lost", lose_account_state},
		{"counters of a mailbox lost", lose_mailbox_state},
		{"sums", spoil_counters},
		{"folder lost", lose_folder},
		{"folder", spoil_folder},
		{"folder's name lost", lose_folder_name},
		{"name of no folder", add_dead_folder_name},
		{"chunk lost", lose_chunk},
		{"chunk", spoil_chunk},
		{"entries", spoil_entries},
		{"record", spoil_record},
		{"expunged", spoil_expunged},
		{"kept", spoil_kept},
		{"references", spoil_refs},
		{"copies", spoil_copies},
		{"copies of nothing", add_copies_of_none},
		{"orphan", add_orphan},
		{"body's record lost", lose_blob},
		{"body's record", spoil_blob},
		{"body's record of nothing", add_blob},
		{"body's record of no key", add_blob_of_no_key},
		{"pieces", add_pieces},
		{"change log", lose_changes},
		{"marks", add_marks},
		{"numbers", spoil_numbers},
		{"intent", add_intent},
		{"ACL", spoil_acl},
		{"ACL lost", lose_acl},
		{"index of ACLs", lose_shared},
		{"seen", spoil_seen},
		{"annotation", spoil_annotation},
		{"sum of annotations", spoil_weight},
		{"limits", spoil_limits},
		{"quota root", spoil_root},
		{"quota root and counters", spoil_root_and_counters},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		static struct damaged d;

		print_message("%s\n", rows[i].what);
		start(&d);
		rows[i].damage(&d);
		assert_true(check(&d).errors > 0);
		repair(&d);
		if (d.result.left)
			print_error("%s", d.told);
		assert_int_equal(d.result.left, 0);
		assert_true(d.result.mended > 0);
		all_whole(&d);
		repair(&d);
		assert_int_equal(d.result.mended + d.result.left, 0);
		/* Also after a start. */
		store_close(&d.t.store);
		temp_open(&d.t, 256 << 20);
		all_there(&d, d.t.inbox, 200, 0);
		temp_remove(&d.t);
	}
}

static void test_what_is_lost_is_named_and_left(void **state)
{
	static struct damaged d;
	struct db_key key;
	struct buf value = {0};

	(void)state;
	start(&d);
	key = db_key_u32_u32(d.t.inbox, 7);
	drop(&d, DB_MESSAGES, db_key_view(&key));
	repair(&d);
	assert_int_equal(d.result.damaged, 1);
	assert_non_null(strstr(d.told,
		"left: a message has lost its record: account=alice@example.com mailbox=INBOX uid=7\n"));
	assert_non_null(strstr(d.told, "left: a body of no message stays"));
	all_there(&d, d.t.inbox, 199, 7);
	all_there(&d, d.work, 100, 0);
	/* The message is the user's to remove; then its body may go. */
	{
		const struct store_repair_options o = {
			.report = take_report, .remove_strays = true, .arg = &d};
		struct store_txn *txn;
		uint32_t uid = 7;
		uint64_t modseq;

		assert_int_equal(store_begin_write(d.t.store, 0, &txn), 0);
		assert_int_equal(
			store_message_expunge(txn, d.t.account, d.t.inbox, &uid, 1, true, NULL, &modseq), 0);
		assert_int_equal(store_commit(&txn), 0);
		assert_int_equal(store_repair(d.t.store, &o, &d.result), 0);
		assert_int_equal(d.result.left, 0);
		temp_reap(&d.t, NULL);
	}
	temp_check(&d.t);
	/* A damaged body. */
	key = first(&d, DB_PIECES, SLICE_LIT("\0"), &value);
	value.data[1000] ^= 1;
	put(&d, DB_PIECES, db_key_view(&key), buf_view(&value));
	repair(&d);
	assert_int_equal(d.result.damaged, 1);
	assert_int_equal(d.result.mended, 0);
	assert_non_null(
		strstr(d.told, "left: the body of a message is damaged: account=alice@example.com mailbox="));
	buf_deinit(&value);
	temp_remove(&d.t);
}

/* A small body is lost with its record. The message is named, and its user can remove it; nothing is left then. */
static void test_a_body_that_is_lost_with_its_record(void **state)
{
	static struct damaged d;
	struct store_message m;
	struct store_txn *txn;
	struct db_key key;
	uint32_t uid = 8;
	uint64_t modseq;

	(void)state;
	start(&d);
	store_set_retention(d.t.store, 0, 0);
	assert_int_equal(store_begin_read(d.t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, d.t.inbox, uid, &m), 0);
	key = db_key_u64(m.blob);
	store_end_read(&txn);
	put(&d, DB_BLOBS, db_key_view(&key), SLICE_LIT("\11"));
	repair(&d);
	assert_int_equal(d.result.damaged, 1);
	assert_non_null(strstr(d.told,
		"left: the body of a message is lost: account=alice@example.com mailbox=INBOX uid=8"));
	all_there(&d, d.t.inbox, 199, uid);
	assert_int_equal(store_begin_write(d.t.store, 0, &txn), 0);
	assert_int_equal(store_message_expunge(txn, d.t.account, d.t.inbox, &uid, 1, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&d.t, NULL);
	repair(&d);
	assert_int_equal(d.result.left, 0);
	assert_int_equal(check(&d).errors, 0);
	temp_remove(&d.t);
}

static void test_counts_are_made_anew(void **state)
{
	static struct damaged d;
	struct store_recount counted, said;
	struct store_txn *txn;
	bool changed;

	(void)state;
	start(&d);
	spoil_counters(&d);
	assert_int_equal(store_begin_write(d.t.store, 0, &txn), 0);
	assert_int_equal(store_account_recount(txn, d.t.account, &counted, &said), 0);
	assert_int_equal(counted.messages, 300);
	assert_true(said.bytes != counted.bytes);
	assert_int_equal(store_account_recount_mend(txn, d.t.account, &changed), 0);
	assert_true(changed);
	assert_int_equal(store_account_recount_mend(txn, d.t.account, &changed), 0);
	assert_false(changed);
	assert_int_equal(store_commit(&txn), 0);
	temp_end(&d.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_table_is_mended),
		cmocka_unit_test(test_what_is_lost_is_named_and_left),
		cmocka_unit_test(test_a_body_that_is_lost_with_its_record),
		cmocka_unit_test(test_counts_are_made_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
