/* The rows of the text index, and when those of an earlier run are believed. */
#include "tests/unit/backend/store/temp_store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "backend/store/store_text.h"
#include "common/base/log.h"

static int open_it(struct temp_store *t, bool has_text, bool no_repair)
{
	const struct store_options o = {.dir = t->dir,
		.slots = 1,
		.map_size = 64 << 20,
		.has_text_index = has_text,
		.no_repair = no_repair};

	return store_open(&o, &t->store, NULL);
}

static int start(void **state)
{
	struct temp_store *t = xcalloc(1, sizeof(*t));

	log_set_level(LOG_ERROR);
	temp_start(t);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	*state = t;
	return 0;
}

static int stop(void **state)
{
	temp_end(*state);
	free(*state);
	return 0;
}

static void put(struct temp_store *t, struct store_text_key key, const char *value)
{
	struct store_text_txn *txn;
	struct store_txn *mail;

	assert_int_equal(store_begin_read(t->store, 0, &mail), 0);
	assert_int_equal(store_text_begin_write(t->store, 0, mail, &txn), 0);
	store_end_read(&mail);
	assert_int_equal(store_text_put(txn, &key, slice_str(value)), 0);
	assert_int_equal(store_text_commit(&txn), 0);
}

static bool has(struct temp_store *t, struct store_text_key key)
{
	struct store_text_txn *txn;
	struct slice value;
	int err;

	assert_int_equal(store_text_begin_read(t->store, 0, &txn), 0);
	err = store_text_get(txn, &key, &value);
	store_text_end(&txn);
	assert_true(err == 0 || err == ERR_NOT_FOUND);
	return err == 0;
}

static const struct store_text_key some = {1, 2, 3, 4};

static bool is_key(struct store_text_key a, struct store_text_key b)
{
	return a.mailbox == b.mailbox && a.kind == b.kind && a.uid == b.uid && a.gram == b.gram;
}

static void test_rows_in_order(void **state)
{
	static const struct store_text_key keys[] = {
		{1, 1, 0, 0}, {1, 2, 7, 0}, {1, 3, 7, 5}, {1, 3, 7, 0x1000000}, {1, 3, 300, 0}, {2, 1, 0, 0}};
	struct temp_store *t = *state;
	struct store_text_txn *txn;
	struct store_text_key found;
	struct store_txn *mail;
	struct slice value;
	size_t removed;

	for (size_t i = ARRAY_LEN(keys); i-- > 0;)
		put(t, keys[i], "v");
	assert_int_equal(store_text_begin_read(t->store, 0, &txn), 0);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct store_text_key behind = keys[i];

		assert_int_equal(store_text_get(txn, &keys[i], &value), 0);
		assert_true(slice_is_str(value, "v"));
		behind.gram++;
		assert_int_equal(store_text_floor(txn, &keys[i], &found, &value), 0);
		assert_true(is_key(found, keys[i]));
		assert_int_equal(store_text_floor(txn, &behind, &found, &value), 0);
		assert_true(is_key(found, keys[i]));
		if (i + 1 < ARRAY_LEN(keys)) {
			assert_int_equal(store_text_seek(txn, &behind, &found, &value), 0);
			assert_true(is_key(found, keys[i + 1]));
		} else {
			assert_int_equal(store_text_seek(txn, &behind, &found, &value), ERR_NOT_FOUND);
		}
	}
	store_text_end(&txn);
	assert_int_equal(store_begin_read(t->store, 0, &mail), 0);
	assert_int_equal(store_text_begin_write(t->store, 0, mail, &txn), 0);
	assert_int_equal(store_text_remove(txn, &keys[1], &keys[4], 2, &removed), 0);
	assert_int_equal(removed, 2);
	assert_int_equal(store_text_remove(txn, &keys[1], &keys[4], 2, &removed), 0);
	assert_int_equal(removed, 1);
	assert_int_equal(store_text_commit(&txn), 0);
	assert_true(has(t, keys[0]) && has(t, keys[4]) && has(t, keys[5]));
	assert_false(has(t, keys[1]) || has(t, keys[2]) || has(t, keys[3]));
	assert_int_equal(store_text_begin_write(t->store, 0, mail, &txn), 0);
	store_end_read(&mail);
	assert_int_equal(
		store_text_remove(txn, &keys[4], &(struct store_text_key){9, 0, 0, 0}, 99, &removed), 0);
	assert_int_equal(removed, 2);
	store_text_end(&txn); /* given up */
	assert_true(has(t, keys[5]));
	assert_true(store_text_size(t->store) > 0);
}

/* A test of a removal of so many rows that pages go. */
static void test_many_rows_go(void **state)
{
	struct temp_store *t = *state;
	struct store_text_txn *txn;
	struct store_txn *mail;
	size_t removed;

	assert_int_equal(store_begin_read(t->store, 0, &mail), 0);
	assert_int_equal(store_text_begin_write(t->store, 0, mail, &txn), 0);
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(store_text_put(txn, &(struct store_text_key){1 + i / 2500, 3, i, 0},
					 SLICE_LIT("some text of some length, so that pages fill")),
			0);
	assert_int_equal(store_text_commit(&txn), 0);
	assert_int_equal(store_text_begin_write(t->store, 0, mail, &txn), 0);
	assert_int_equal(store_text_remove(txn, &(struct store_text_key){1, 0, 0, 0},
				 &(struct store_text_key){2, 0, 0, 0}, SIZE_MAX, &removed),
		0);
	assert_int_equal(removed, 2500);
	assert_int_equal(store_text_commit(&txn), 0);
	store_end_read(&mail);
	assert_false(has(t, (struct store_text_key){1, 3, 2499, 0}));
	assert_true(has(t, (struct store_text_key){2, 3, 2500, 0}));
}

static void test_it_stays_and_goes_with_the_option(void **state)
{
	struct temp_store *t = *state;
	struct store_text_txn *txn;
	char path[100];
	struct stat st;

	snprintf(path, sizeof(path), "%s/s0/text", t->dir);
	put(t, some, "x");
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	assert_true(store_text_is_on(t->store) && has(t, some));
	store_close(&t->store);
	/* Looking into a closed store leaves it. */
	assert_int_equal(open_it(t, false, true), 0);
	assert_false(store_text_is_on(t->store));
	assert_int_equal(store_text_begin_read(t->store, 0, &txn), ERR_UNSUPPORTED);
	assert_int_equal(store_text_size(t->store), 0);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	assert_true(has(t, some));
	store_close(&t->store);
	/* A run without it may change what it says. */
	assert_int_equal(open_it(t, false, false), 0);
	assert_int_equal(stat(path, &st), -1);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	assert_false(has(t, some));
}

static void copy(const char *from, const char *to)
{
	char command[300];

	snprintf(command, sizeof(command), "cp -a %s %s", from, to);
	assert_int_equal(system(command), 0);
}

/* Files of the mail put back from a copy, files of the index from elsewhere, damaged files: none is believed. */
static void test_security_14_an_index_of_another_state_is_not_believed(void **state)
{
	struct temp_store *t = *state;
	char mail[100], text[100], saved[100];
	FILE *file;

	snprintf(mail, sizeof(mail), "%s/s0/data.mdb", t->dir);
	snprintf(text, sizeof(text), "%s/s0/text/data.mdb", t->dir);
	snprintf(saved, sizeof(saved), "%s.saved", t->dir);
	(void)temp_add(t, t->inbox, "Subject: one\r\n\r\n");
	put(t, some, "x");
	store_close(&t->store);
	copy(mail, saved);
	/* Mail goes on, the index does not: it is behind, and right. */
	assert_int_equal(open_it(t, true, false), 0);
	(void)temp_add(t, t->inbox, "Subject: two\r\n\r\n");
	store_close(&t->store);
	copy(saved, mail);
	assert_int_equal(open_it(t, true, false), 0);
	assert_true(has(t, some));
	/* The index has seen a message that is then taken back. */
	(void)temp_add(t, t->inbox, "Subject: two\r\n\r\n");
	put(t, (struct store_text_key){1, 2, 3, 5}, "x");
	store_close(&t->store);
	copy(saved, mail);
	assert_int_equal(open_it(t, true, false), 0);
	assert_false(has(t, some));
	/* Of another slot. */
	put(t, some, "x");
	store_close(&t->store);
	copy(text, saved);
	assert_int_equal(open_it(t, false, false), 0);
	store_close(&t->store);
	temp_remove(t);
	temp_start(t);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	for (int i = 0; i < 9; i++)
		(void)temp_add(t, t->inbox, "Subject: one\r\n\r\n");
	store_close(&t->store);
	snprintf(text, sizeof(text), "%s/s0/text/data.mdb", t->dir);
	copy(saved, text);
	assert_int_equal(open_it(t, true, false), 0);
	assert_false(has(t, some));
	/* Of this slot, made after the copy was, and behind it by its numbers: as after a compaction, which begins them again. */
	put(t, some, "x");
	store_close(&t->store);
	snprintf(mail, sizeof(mail), "%s/s0/data.mdb", t->dir);
	copy(mail, saved);
	assert_int_equal(open_it(t, false, false), 0);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	put(t, some, "x");
	store_close(&t->store);
	copy(saved, mail);
	assert_int_equal(open_it(t, true, false), 0);
	assert_false(has(t, some));
	/* No database at all. */
	put(t, some, "x");
	store_close(&t->store);
	file = fopen(text, "w");
	assert_non_null(file);
	for (int i = 0; i < 20000; i++)
		(void)fputc('x', file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(open_it(t, true, false), 0);
	assert_false(has(t, some));
	assert_int_equal(unlink(saved), 0);
}

/* An index that is to be made anew while there is no room: the mail is served without it, and the next start makes it. */
static void test_no_room_for_a_new_one(void **state)
{
	struct temp_store *t = *state;
	struct rlimit old, little;
	struct store_appended added;
	char path[100];

	for (int i = 0; i < 20; i++) /* so that its free pages are behind the limit */
		assert_int_equal(
			temp_append(t, t->account, t->inbox, SLICE_LIT("a: b\r\n\r\nc\r\n"), 0, &added), 0);
	store_close(&t->store);
	snprintf(path, sizeof(path), "%s/s0/text/data.mdb", t->dir);
	assert_int_equal(unlink(path), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	little = old;
	little.rlim_cur = 12 << 10;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	log_set_level(-1);
	assert_int_equal(open_it(t, true, false), 0);
	log_set_level(LOG_ERROR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(store_text_is_on(t->store));
	assert_int_equal(temp_mailbox(t, t->inbox).messages, 20);
	store_close(&t->store);
	assert_int_equal(open_it(t, true, false), 0);
	assert_true(store_text_is_on(t->store));
	put(t, some, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_many_rows_go, start, stop),
		cmocka_unit_test_setup_teardown(test_it_stays_and_goes_with_the_option, start, stop),
		cmocka_unit_test_setup_teardown(
			test_security_14_an_index_of_another_state_is_not_believed, start, stop),
		cmocka_unit_test_setup_teardown(test_no_room_for_a_new_one, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
