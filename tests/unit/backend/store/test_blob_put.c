/* Streams of every length come back from wherever they were put, and leave next to no room on pages empty. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/blob.h"
#include "backend/store/db.h"

#define NO_PREVIEW "Content-Type: a/b\r\n\r\n"
#define LONGEST (64 + 256 * 1024)

static char noise[LONGEST];

/* Octets that do not compress, so that the stream is about as long. */
static void make_noise(void)
{
	uint64_t x = UINT64_C(0x9E3779B97F4A7C15);

	memcpy(noise, NO_PREVIEW, sizeof(NO_PREVIEW) - 1);
	for (size_t i = sizeof(NO_PREVIEW) - 1; i < sizeof(noise); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		noise[i] = (char)(x >> 32);
	}
}

static void add(struct temp_store *t, struct store_txn *txn, struct store_press *press, size_t len)
{
	struct store_source source = {.memory = slice_of(noise, len)};
	struct store_append a = {.account = t->account, .mailbox = t->inbox};
	struct store_appended out;
	struct store_draft *d;
	bool done;

	assert_int_equal(store_draft_new(&source, &d), 0);
	assert_int_equal(store_draft_fill(d, press, &done), 0);
	assert_true(done);
	assert_int_equal(store_draft_finish(txn, d, &a.blob), 0);
	a.texts = store_draft_texts(d);
	assert_int_equal(store_message_append(txn, &a, &out), 0);
	store_draft_free(&d);
}

static void expect(struct temp_store *t, uint32_t uid, size_t len)
{
	static char got[LONGEST];
	struct store_txn *txn;
	struct store_message m;
	size_t n;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t->inbox, uid, &m), 0);
	assert_int_equal(m.size, len);
	assert_int_equal(store_message_read(txn, &m, 0, got, sizeof(got), &n), 0);
	assert_int_equal(n, len);
	assert_memory_equal(got, noise, len);
	if (len > 100) {
		assert_int_equal(store_message_read(txn, &m, len - 100, got, 50, &n), 0);
		assert_int_equal(n, 50);
		assert_memory_equal(got, noise + len - 100, 50);
	}
	store_end_read(&txn);
}

static uint64_t used(struct temp_store *t)
{
	struct store_stat s;

	assert_int_equal(store_stat(t->store, &s), 0);
	return s.used_bytes - s.free_bytes;
}

/* Lengths around every border: of what shares pages, of pages, of what is inline, of pieces and frames. */
static void test_streams_of_every_length_come_back(void **state)
{
	static const size_t borders[] = {20, 2022, 3500, 4080, 8176, 4 * 4096 - 16, 4 * 4096 + 2000,
		BLOB_PIECE_SIZE, 2 * BLOB_PIECE_SIZE, 128 * 1024, 128 * 1024 + 4080, 256 * 1024};
	struct store_press *press = store_press_new();
	struct temp_store t;
	struct store_txn *txn;
	uint32_t uid = 0;

	(void)state;
	temp_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(borders); i++) {
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		for (size_t n = 0; n < 80; n += i < 5 ? 1 : 5)
			add(&t, txn, press, borders[i] - 20 + n + 9);
		assert_int_equal(store_commit(&txn), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(borders); i++)
		for (size_t n = 0; n < 80; n += i < 5 ? 1 : 5)
			expect(&t, ++uid, borders[i] - 20 + n + 9);
	store_press_free(&press);
	temp_check(&t);
	temp_remove(&t);
}

/* Before, a body had half a page, or one, or one more, whatever it needed. */
static void test_next_to_nothing_of_pages_stays_empty(void **state)
{
	static const size_t lengths[] = {600, 1450, 2100, 3000, 4500, 7000, 10000, 20000};
	struct store_press *press = store_press_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct temp_store t;
		struct store_txn *txn;
		uint64_t before;
		double each;

		temp_start(&t);
		before = used(&t);
		for (int batch = 0; batch < 10; batch++) {
			assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
			for (int n = 0; n < 50; n++)
				add(&t, txn, press, lengths[i]);
			assert_int_equal(store_commit(&txn), 0);
		}
		/* The rest are the message's record, index and change. */
		each = (double)(used(&t) - before) / 500;
		if (each > 450 + (double)lengths[i] * 1.05)
			print_error("%zu octets take %.0f\n", lengths[i], each);
		assert_true(each < 450 + (double)lengths[i] * 1.05);
		expect(&t, 1, lengths[i]);
		expect(&t, 500, lengths[i]);
		temp_remove(&t);
	}
	store_press_free(&press);
}

/* What was aborted has not filled a page; a deletion has not emptied one. Only room is lost by it. */
static void test_a_wrong_estimate_costs_room_alone(void **state)
{
	struct store_press *press = store_press_new();
	struct temp_store t;
	struct store_txn *txn;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		for (uint32_t n = 0; n < i % 7; n++)
			add(&t, txn, press, 500 + 37 * (size_t)i);
		store_abort(&txn);
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		add(&t, txn, press, 1000 + 61 * (size_t)i);
		assert_int_equal(store_commit(&txn), 0);
		if (i % 3 == 1) {
			uint32_t uid = i;

			assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
			assert_int_equal(
				store_message_expunge(txn, t.account, t.inbox, &uid, 1, true, NULL, &modseq),
				0);
			assert_int_equal(store_commit(&txn), 0);
			temp_reap(&t, NULL);
		}
	}
	for (uint32_t i = 0; i < 40; i++)
		if (i == 39 || (i + 1) % 3 != 1)
			expect(&t, i + 1, 1000 + 61 * (size_t)i);
	temp_check(&t);
	temp_remove(&t);
	store_press_free(&press);
}

static void test_records_of_both_versions_are_read(void **state)
{
	static const char old[] = "\1\1\0\0\2\0\0\0\144\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
				  "\5\0\0\0\1\2\3\4\5\6\7\10hello";
	struct blob_record r, again;
	char packed[64];
	size_t size;

	(void)state;
	assert_int_equal(record_unpack_blob(slice_of(old, sizeof(old) - 1), &r), 0);
	assert_int_equal(r.refs, 2);
	assert_int_equal(r.size, 100);
	assert_int_equal(r.stored, 5);
	assert_true(slice_is_str(r.inline_data, "hello"));
	for (size_t n = 0; n < sizeof(old) - 1; n++)
		assert_int_equal(record_unpack_blob(slice_of(old, n), &again), ERR_CORRUPT);
	r.inline_data = slice_sub(r.inline_data, 0, 3);
	size = record_blob_size(&r);
	record_pack_blob(&r, NULL, packed);
	assert_int_equal(record_unpack_blob(slice_of(packed, size), &again), 0);
	assert_int_equal(again.refs, 2);
	assert_int_equal(again.size, 100);
	assert_int_equal(again.stored, 5);
	assert_int_equal(again.frame_count, 1);
	assert_int_equal(record_blob_frame(&again, 0).len, 5);
	assert_true(record_blob_frame(&again, 0).sum == UINT64_C(0x0807060504030201));
	assert_true(slice_is_str(again.inline_data, "hel"));
	for (size_t n = 0; n < size; n++)
		assert_int_equal(record_unpack_blob(slice_of(packed, n), &again), ERR_CORRUPT);
	packed[2] = 6; /* more inline than there is */
	assert_int_equal(record_unpack_blob(slice_of(packed, size), &again), ERR_CORRUPT);
	packed[0] = 3;
	assert_int_equal(record_unpack_blob(slice_of(packed, size), &again), ERR_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams_of_every_length_come_back),
		cmocka_unit_test(test_next_to_nothing_of_pages_stays_empty),
		cmocka_unit_test(test_a_wrong_estimate_costs_room_alone),
		cmocka_unit_test(test_records_of_both_versions_are_read),
	};

	mem_init();
	make_noise();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
