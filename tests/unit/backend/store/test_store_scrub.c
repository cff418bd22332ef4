/* The scrub: all bodies in steps, large ones in several; damage is told by message; a pass goes on where it was. */
#include "backend/store/db.h"
#include "backend/store/store_scrub.h"
#include "temp_store.h"

struct found {
	uint64_t blobs[10];
	size_t count;
	char told[2000];
};

static void take(void *arg, uint64_t blob)
{
	struct found *f = arg;

	assert_true(f->count < ARRAY_LEN(f->blobs));
	f->blobs[f->count++] = blob;
}

static void tell(void *arg, const char *text)
{
	struct found *f = arg;
	size_t len = strlen(f->told);

	snprintf(f->told + len, sizeof(f->told) - len, "%s\n", text);
}

/* A pass in steps of so many bytes; the state goes to disk and back between them. */
static unsigned pass(struct temp_store *t, uint64_t most, struct found *f, struct store_scrub *s)
{
	unsigned steps = 0;

	*s = (struct store_scrub){.next = 1, .began = 7};
	do {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_scrub_put(txn, s), 0);
		assert_int_equal(store_commit(&txn), 0);
		assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
		memset(s, 0, sizeof(*s));
		assert_int_equal(store_scrub_get(txn, s), 0);
		assert_int_equal(s->began, 7);
		assert_int_equal(store_scrub_step(txn, s, most, take, f), 0);
		store_end_read(&txn);
		steps++;
	} while (s->next);
	return steps;
}

static void test_every_body_is_read_and_damage_is_named(void **state)
{
	struct temp_store t;
	struct found f = {0};
	struct store_scrub s;
	struct store_stat stat;
	struct store_txn *txn;
	struct db_cursor c;
	char *body = xmalloc(1000001), key[16], piece[70000];
	size_t key_len, piece_len;

	(void)state;
	temp_start(&t);
	srand(3);
	for (size_t i = 0; i < 1000000; i++)
		body[i] = (char)('!' + rand() % 90);
	body[1000000] = '\0';
	for (int i = 0; i < 30; i++)
		temp_add(&t, t.inbox, "A: b\r\n\r\n");
	temp_add(&t, t.inbox, body);
	temp_add(&t, t.inbox, "A: b\r\n\r\nlast");
	assert_int_equal(store_stat(t.store, &stat), 0);
	assert_true(pass(&t, 200000, &f, &s) > 3);
	assert_int_equal(s.blobs, 32);
	assert_int_equal(s.bytes, stat.stored_bytes);
	assert_int_equal(s.damaged + f.count, 0);
	assert_int_equal(pass(&t, UINT64_MAX / 2, &f, &s), 1);
	/* One octet of the large one. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(db_cursor_open(txn, DB_PIECES, &c), 0);
	assert_int_equal(db_cursor_seek(&c, slice_of("\0", 1)), 0);
	assert_int_equal(db_cursor_next(&c), 0);
	memcpy(key, c.key.p, key_len = c.key.len);
	memcpy(piece, c.value.p, piece_len = c.value.len);
	db_cursor_close(&c);
	piece[100] ^= 1;
	assert_int_equal(db_put(txn, DB_PIECES, slice_of(key, key_len), slice_of(piece, piece_len)), 0);
	assert_int_equal(store_commit(&txn), 0);
	(void)pass(&t, 100000, &f, &s);
	assert_int_equal(s.damaged, 1);
	assert_int_equal(f.count, 1);
	assert_int_equal(s.blobs, 32);
	assert_int_equal(store_scrub_tell(t.store, 0, f.blobs, f.count, tell, &f), 0);
	assert_non_null(strstr(f.told, "damaged: account=alice@example.com mailbox=INBOX uid=31 "));
	free(body);
	temp_remove(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_body_is_read_and_damage_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
