/* The first unseen message, wherever in many chunks it lies; an index that is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "backend/store/chunk.h"
#include "tests/unit/backend/store/temp_store.h"

#define MESSAGES 1000

static void flag(struct temp_store *t, uint32_t from, uint32_t to, enum store_flag_how how)
{
	const struct store_flag_change change = {
		.how = how, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX};
	uint32_t uids[MESSAGES];
	struct store_txn *txn;
	size_t count = 0;
	uint64_t modseq;

	while (from <= to)
		uids[count++] = from++;
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(
		store_message_flag(txn, t->account, t->inbox, uids, count, &change, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static void expunge(struct temp_store *t, uint32_t from, uint32_t to)
{
	uint32_t uids[MESSAGES];
	struct store_txn *txn;
	size_t count = 0;
	uint64_t modseq;

	while (from <= to)
		uids[count++] = from++;
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(
		store_message_expunge(txn, t->account, t->inbox, uids, count, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* Number of the first unseen message, 0: there is none. */
static uint32_t first_unseen(struct temp_store *t)
{
	struct store_mailbox mailbox = temp_mailbox(t, t->inbox);
	struct store_txn *txn;
	uint32_t place;
	int err;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	err = store_message_first_unseen(txn, &mailbox, &place);
	store_end_read(&txn);
	if (err == ERR_NOT_FOUND)
		return 0;
	assert_int_equal(err, 0);
	return place + 1;
}

static void fill(struct temp_store *t)
{
	temp_start(t);
	for (uint32_t i = 1; i <= MESSAGES; i++)
		assert_int_equal(temp_add(t, t->inbox, "A: b\r\n\r\nc\r\n"), i);
}

static void test_the_first_unseen_is_found_from_both_ends(void **state)
{
	struct temp_store t;

	(void)state;
	fill(&t);
	assert_int_equal(first_unseen(&t), 1);
	flag(&t, 1, MESSAGES, STORE_FLAGS_ADD);
	assert_int_equal(first_unseen(&t), 0);
	for (uint32_t uid = 1; uid <= MESSAGES; uid += uid < 3 || uid > 990 ? 1 : 41) {
		uint32_t more = uid + 200 < MESSAGES ? uid + 200 : MESSAGES;

		flag(&t, uid, uid, STORE_FLAGS_REMOVE);
		assert_int_equal(first_unseen(&t), uid);
		flag(&t, more, more, STORE_FLAGS_REMOVE);
		assert_int_equal(first_unseen(&t), uid);
		flag(&t, uid, uid, STORE_FLAGS_ADD);
		assert_int_equal(first_unseen(&t), more == uid ? 0 : more);
		flag(&t, more, more, STORE_FLAGS_ADD);
	}
	/* Numbers are counted without what went. */
	flag(&t, 700, 703, STORE_FLAGS_REMOVE);
	expunge(&t, 1, 1);
	expunge(&t, 300, 699);
	assert_int_equal(first_unseen(&t), 299);
	expunge(&t, 701, MESSAGES);
	assert_int_equal(first_unseen(&t), 299);
	expunge(&t, 700, 700);
	assert_int_equal(first_unseen(&t), 0);
	temp_end(&t);
}

static void count_run(void *arg, uint32_t from, uint32_t count)
{
	uint32_t *last = arg;

	assert_true(count && from > *last); /* a view relies on it */
	*last = from + count - 1;
}

/* In a transaction that is given up: this value for a chunk at this key, and what reading the mailbox says then. */
static int read_with(struct temp_store *t, uint32_t key_uid, struct slice value)
{
	struct store_mailbox mailbox = temp_mailbox(t, t->inbox);
	struct db_key key = db_key_u32_u32(t->inbox, key_uid);
	struct store_txn *txn;
	uint32_t last = 0;
	int err;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(db_put(txn, DB_INDEX, db_key_view(&key), value), 0);
	err = store_message_runs(txn, t->inbox, mailbox.uidnext, count_run, &last);
	store_abort(&txn);
	return err;
}

/* Two entries, all else 0. */
static struct slice make_chunk(char *room, uint32_t first, uint32_t second)
{
	memset(room, 0, CHUNK_HEAD + 2 * CHUNK_ENTRY);
	room[0] = 1;
	bytes_put_u16(room + 2, 2);
	bytes_put_u32(room + CHUNK_HEAD, first);
	bytes_put_u32(room + CHUNK_HEAD + 4, second);
	return slice_of(room, CHUNK_HEAD + 2 * CHUNK_ENTRY);
}

/* A damaged index is told, and ends no program: nothing that is not in order comes out of it. */
static void test_broken_chunks_are_refused(void **state)
{
	static const struct {
		uint32_t first, second;
		int err;
	} rows[] = {
		{501, 505, 0},
		{505, 501, ERR_CORRUPT},        /* not ascending */
		{501, 501, ERR_CORRUPT},        /* twice */
		{490, 505, ERR_CORRUPT},        /* in the chunk before */
		{499, 505, ERR_CORRUPT},        /* below its key */
		{501, 801, ERR_CORRUPT},        /* in the chunk behind */
		{501, UINT32_MAX, ERR_CORRUPT}, /* beyond UIDNEXT */
		{0, 501, ERR_CORRUPT},
	};
	char room[CHUNK_HEAD + 2 * CHUNK_ENTRY];
	struct temp_store t;

	(void)state;
	fill(&t);
	expunge(&t, 400, 800);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
			read_with(&t, 500, make_chunk(room, rows[i].first, rows[i].second)), rows[i].err);
	assert_int_equal(read_with(&t, 0, make_chunk(room, 0, 1)), ERR_CORRUPT);
	assert_int_equal(read_with(&t, 500, SLICE_LIT("no chunk")), ERR_CORRUPT);
	assert_int_equal(read_with(&t, 500, SLICE_LIT("")), ERR_CORRUPT);
	assert_int_equal(read_with(&t, 2000, make_chunk(room, 2000, 2001)), ERR_CORRUPT);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_unseen_is_found_from_both_ends),
		cmocka_unit_test(test_broken_chunks_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
