/* Compaction: files become small, and all that was there is there. */
#include <sys/stat.h>

#include "backend/store/store_compact.h"
#include "temp_store.h"

static uint64_t size_of(const struct temp_store *t)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/s0/data.mdb", t->dir);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void test_space_goes_back_to_the_file_system(void **state)
{
	struct temp_store t;
	struct store_compacted c;
	struct store_txn *txn;
	struct store_mailbox m;
	struct store_stat before, after;
	struct buf why = {0};
	char *body = xmalloc(400001);
	uint64_t modseq, size;

	(void)state;
	temp_start(&t);
	srand(2);
	for (size_t i = 0; i < 400000; i++)
		body[i] = (char)('!' + rand() % 90);
	body[400000] = '\0';
	for (uint32_t uid = 1; uid <= 20; uid++) {
		temp_add(&t, t.inbox, body);
		if (uid == 5)
			continue;
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(
			store_message_expunge(txn, t.account, t.inbox, &uid, 1, true, NULL, &modseq), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
	temp_reap(&t, NULL);
	assert_int_equal(store_stat(t.store, &before), 0);
	assert_true(before.free_bytes > 4000000);
	size = size_of(&t);
	/* Not while somebody has it open. */
	assert_int_equal(store_compact(t.dir, &c, &why), ERR_NOT_NOW);
	store_close(&t.store);
	assert_int_equal(store_compact(t.dir, &c, &why), 0);
	assert_int_equal(c.slots, 1);
	assert_int_equal(c.before, size);
	assert_int_equal(c.after, size_of(&t));
	assert_true(c.after < size - 4000000);
	temp_open(&t, 256 << 20);
	assert_int_equal(store_stat(t.store, &after), 0);
	assert_int_equal(after.messages, before.messages);
	assert_int_equal(after.blob_bytes, before.blob_bytes);
	m = temp_mailbox(&t, t.inbox);
	assert_int_equal(m.messages, 1);
	assert_int_equal(m.uidnext, 21);
	assert_int_equal(temp_add(&t, t.inbox, body), 21);
	free(body);
	buf_deinit(&why);
	temp_end(&t);
}

static void test_what_was_cut_off_is_removed(void **state)
{
	struct temp_store t;
	char dir[128], path[160];
	struct stat st;
	FILE *file;

	(void)state;
	temp_start(&t);
	store_close(&t.store);
	snprintf(dir, sizeof(dir), "%s/s0.new", t.dir);
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_non_null(file = fopen(path, "w"));
	fclose(file);
	temp_open(&t, 256 << 20);
	assert_int_equal(stat(dir, &st), -1);
	temp_end(&t);
}

static void test_no_store_is_told(void **state)
{
	struct store_compacted c;
	struct buf why = {0};

	(void)state;
	assert_int_equal(store_compact("/nonexistent/store", &c, &why), ERR_NOT_FOUND);
	assert_true(buf_len(&why) > 0);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space_goes_back_to_the_file_system),
		cmocka_unit_test(test_what_was_cut_off_is_removed),
		cmocka_unit_test(test_no_store_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
