/* One mailbox out of a backup into an account that lives, and what its user has deleted of it: nothing is there twice. */
#include "temp_stream.h"

#include "backend/store/blob.h"
#include "backend/store/kept.h"
#include "backend/store/store_repair.h"
#include "backend/store/store_restore.h"

static int keep(void *arg, struct store_txn *txn, uint64_t blob, uint64_t *body_out, uint64_t *sum_out)
{
	(void)arg;
	(void)txn;
	*body_out = blob;
	*sum_out = 1;
	return 0;
}

/* The backup has no packs: its bodies are the copy's, an account that nobody changes. */
struct opening {
	struct temp_store *t;
	struct buf body;
};

static int open_body(void *arg, uint64_t body, uint64_t size, uint64_t sum, struct store_source *source_out)
{
	struct opening *x = arg;
	struct store_txn *txn;
	size_t n;

	assert_int_equal(sum, 1);
	buf_clear(&x->body);
	assert_int_equal(store_begin_read(x->t->store, 0, &txn), 0);
	assert_int_equal(blob_read(txn, body, 0, buf_reserve(&x->body, size + 1), size, &n), 0);
	store_end_read(&txn);
	assert_int_equal(n, size);
	buf_added(&x->body, size);
	*source_out = (struct store_source){.memory = buf_view(&x->body), .size = size};
	return 0;
}

static void backup_to(struct temp_store *t, uint32_t account, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};
	struct store_export_options o = {.store = t->store,
		.account = account,
		.record = stream_write,
		.record_arg = &w,
		.keep = keep};
	struct store_export_totals totals;

	assert_int_equal(stream_write_head(&w), 0);
	assert_int_equal(store_export(&o, &totals), 0);
	assert_int_equal(stream_write_end(&w), 0);
	stream_writer_deinit(&w);
}

static struct store_restore_totals restore(
	struct temp_store *t, struct buf *stream, const char *from, const char *to)
{
	struct opening x = {.t = t};
	struct store_restore_options o = {.store = t->store,
		.account = t->account,
		.from = slice_str(from),
		.to = slice_str(to),
		.kept = open_body,
		.kept_arg = &x};
	struct source source = {buf_view(stream), 1 << 20};
	struct stream_reader r = {.read = from_slice, .arg = &source};
	struct store_restore *m = store_restore_new(&o);
	struct store_restore_totals totals;
	struct buf why = {0};

	assert_int_equal(stream_read_all(&r, store_restore_record, m, &why), 0);
	assert_int_equal(store_restore_finish(m, &totals), 0);
	assert_true(totals.is_found);
	store_restore_free(&m);
	stream_reader_deinit(&r);
	buf_deinit(&why);
	buf_deinit(&x.body);
	temp_check(t);
	return totals;
}

static void expunge(struct temp_store *t, uint32_t mailbox, const uint32_t *uids, size_t count)
{
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(
		store_message_expunge(txn, t->account, mailbox, uids, count, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(t, NULL);
}

static uint64_t kept(struct temp_store *t)
{
	struct store_kept_sum sum;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_kept_sum(txn, t->account, &sum), 0);
	store_end_read(&txn);
	return sum.messages;
}

static uint64_t undelete(struct temp_store *t)
{
	struct store_kept_filter all = {0};
	struct store_undeleted sum = {0};
	struct store_kept_at at = {0};
	struct store_txn *txn;
	bool done;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_kept_undelete(txn, t->account, &all, &at, 1000, &sum, &done), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_true(done);
	temp_check(t);
	return sum.messages;
}

/* A view that began before anything was expunged. */
static uint64_t oldest(void *arg, uint32_t mailbox)
{
	(void)mailbox;
	return *(uint64_t *)arg;
}

static bool nothing_pinned(void *arg, uint64_t blob)
{
	(void)arg;
	(void)blob;
	return false;
}

/* INBOX of five, the last two alike; and Old of two. The backup is of a copy, which holds the bodies. */
static uint32_t fill(struct temp_store *t, struct buf *backup)
{
	static const char *const texts[] = {
		"A: 1\r\n\r\n1", "A: 2\r\n\r\n2", "A: 3\r\n\r\n3", "A: same\r\n\r\nx", "A: same\r\n\r\nx"};
	struct store_import_options o = {.address = SLICE_LIT("copy@example.com")};
	struct store_import_totals totals;
	struct store_txn *txn;
	struct buf stream = {0};
	uint32_t old;

	temp_start(t);
	store_set_retention(t->store, 3600, 0);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		temp_add(t, t->inbox, texts[i]);
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t->account, SLICE_LIT("Old"), STORE_USE_NONE, &old), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_add(t, old, "A: o1\r\n\r\n1");
	temp_add(t, old, "A: o2\r\n\r\n2");
	o.store = t->store;
	export_to(t, t->account, &stream);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	backup_to(t, totals.account, backup);
	buf_deinit(&stream);
	return old;
}

static void test_what_comes_back_cannot_be_undeleted_as_well(void **state)
{
	static const uint32_t gone[] = {2, 3, 4};
	uint64_t modseq = 1;
	struct store_holds holds = {oldest, nothing_pinned, &modseq};
	struct buf backup = {0};
	struct store_message m;
	struct store_txn *txn;
	struct temp_store t;
	bool done;

	(void)state;
	fill(&t, &backup);
	temp_add(&t, t.inbox, "A: later\r\n\r\nl"); /* 6: not in the backup */
	expunge(&t, t.inbox, gone, 3);
	expunge(&t, t.inbox, &(uint32_t){6}, 1);
	assert_int_equal(kept(&t), 4);
	/* Beside, under another name: copies. */
	assert_int_equal(restore(&t, &backup, "INBOX", "Beside").restored, 5);
	assert_int_equal(kept(&t), 4);
	assert_int_equal(restore(&t, &backup, "INBOX", "INBOX").restored, 3);
	assert_int_equal(kept(&t), 1);
	/* A session that still shows them reads on. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_reap(txn, &holds, 1000, &done), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 2, &m), 0);
	store_end_read(&txn);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 2, &m), ERR_NOT_FOUND);
	store_end_read(&txn);
	assert_int_equal(undelete(&t), 1); /* the one that was never in a backup */
	assert_int_equal(temp_mailbox(&t, t.inbox).messages, 6);
	assert_int_equal(restore(&t, &backup, "INBOX", "INBOX").restored, 0);
	buf_deinit(&backup);
	temp_end(&t);
}

static void test_a_mailbox_that_is_gone(void **state)
{
	struct buf backup = {0};
	struct store_txn *txn;
	struct temp_store t;
	uint32_t old;

	(void)state;
	old = fill(&t, &backup);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, old), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	assert_int_equal(kept(&t), 2);
	assert_int_equal(restore(&t, &backup, "Old", "Old").restored, 2);
	assert_int_equal(kept(&t), 0);
	temp_check(&t);
	assert_int_equal(undelete(&t), 0);
	buf_deinit(&backup);
	temp_end(&t);
}

/* The check tells a record of a deleted mailbox that no row owns, and the repair keeps it again. */
static void test_records_that_nobody_owns(void **state)
{
	struct store_repair_options mend = {0};
	struct store_repair repaired;
	struct store_check_options o = {0};
	struct store_check c;
	struct db_cursor cursor;
	struct buf backup = {0};
	struct store_txn *txn;
	struct kept_row row;
	struct temp_store t;
	struct db_key key;
	uint32_t old;

	(void)state;
	old = fill(&t, &backup);
	expunge(&t, old, &(uint32_t){1}, 1);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, old), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&t); /* one is kept, the other waits for the reaper */
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(db_cursor_open(txn, DB_KEPT, &cursor), 0);
	key = db_key_u32_u64_u32(t.account, UINT64_C(1) << 32, 0);
	assert_int_equal(db_cursor_seek(&cursor, db_key_view(&key)), 0);
	assert_int_equal(kept_unpack(cursor.key, cursor.value, &row), 0);
	assert_int_equal(db_cursor_delete(&cursor), 0);
	db_cursor_close(&cursor);
	assert_int_equal(
		kept_put_sum(txn, t.account, &(struct store_kept_sum){.messages = 1, .bytes = row.size}), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_check(t.store, &o, &c), 0);
	assert_int_equal(c.errors, 1);
	assert_int_equal(store_repair(t.store, &mend, &repaired), 0);
	assert_int_equal(repaired.mended, 1);
	assert_int_equal(repaired.left, 0);
	temp_check(&t);
	assert_int_equal(kept(&t), 2);
	/* A row that a repair has made, without a MODSEQ, does not keep the account from moving. */
	key = db_key_u32_u64_u32(t.account, (uint64_t)row.time << 32 | row.mailbox, row.uid);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(db_put(txn, DB_KEPT, db_key_view(&key), SLICE_LIT("x")), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_repair(t.store, &mend, &repaired), 0);
	assert_true(repaired.mended > 0);
	temp_check(&t);
	buf_clear(&backup);
	export_to(&t, t.account, &backup);
	assert_int_equal(import_from(&(struct store_import_options){.store = t.store,
					     .address = SLICE_LIT("bob@example.com")},
				 buf_view(&backup), 1 << 20, &(struct store_import_totals){0}),
		0);
	buf_deinit(&backup);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_comes_back_cannot_be_undeleted_as_well),
		cmocka_unit_test(test_a_mailbox_that_is_gone),
		cmocka_unit_test(test_records_that_nobody_owns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
