/*
 * One function says of each kind of row what is wrong with it; the check tells that, the repair acts on it. The rows of one recipient
 * agree in every snapshot, so many short ones will do; sums are compared with the numbers of rows of one snapshot.
 */
#include "backend/store/queue_check.h"

#include "backend/store/queue_record.h"

static bool has_prefix_row(struct store_txn *txn, enum db_name db, struct slice prefix)
{
	bool has = false;

	return repair_has(txn, db, prefix, &has) == 0 && has;
}

static bool is_indexed(struct store_txn *txn, const struct store_queue_recipient *r)
{
	struct store_queue_place place = {r->next, r->message, r->number};
	struct queue_record_key due = queue_record_due(&place), of = queue_record_of(r->destination, &place);
	struct slice value;

	return db_get(txn, DB_QUEUE_DUE, slice_of(due.bytes, due.len), &value) == 0 &&
	       slice_is_equal(value, r->destination) &&
	       db_get(txn, DB_QUEUE_OF, slice_of(of.bytes, of.len), &value) == 0;
}

static const char *wrong_with_message(struct store_txn *txn, struct slice key, struct slice value)
{
	struct store_queue_message m;

	if (key.len != 8 || queue_record_unpack_message(value, &m))
		return "a queued message cannot be read";
	return has_prefix_row(txn, DB_QUEUE_TO, key) ? NULL : "a queued message has no recipient";
}

static bool unpack_recipient(struct slice key, struct slice value, struct store_queue_recipient *r)
{
	if (key.len != 12 || queue_record_unpack_recipient(value, r))
		return false;
	r->message = bytes_get_u64be(key.p);
	r->number = bytes_get_u32be(key.p + 8);
	return true;
}

static const char *wrong_with_recipient(struct store_txn *txn, struct slice key, struct slice value)
{
	struct store_queue_recipient r;
	struct slice row;

	if (!unpack_recipient(key, value, &r))
		return "a queued recipient cannot be read";
	return db_get(txn, DB_QUEUE, slice_sub(key, 0, 8), &row) ? "a queued recipient has no message" : NULL;
}

static const char *wrong_with_index(struct store_txn *txn, struct slice key, struct slice destination)
{
	struct store_queue_place place;
	struct store_queue_recipient r;

	if (!queue_record_place(key, &place) ||
		store_queue_get_recipient(txn, place.message, place.number, &r) || r.is_held ||
		r.next != place.time || !slice_is_equal(r.destination, destination))
		return "an index of the queue names what does not wait";
	return NULL;
}

static const char *wrong_with_due(struct store_txn *txn, struct slice key, struct slice value)
{
	return key.len == QUEUE_RECORD_PLACE ? wrong_with_index(txn, key, value)
					     : "a row of the queue cannot be read";
}

static const char *wrong_with_of(struct store_txn *txn, struct slice key, struct slice value)
{
	(void)value;
	return key.len > QUEUE_RECORD_PLACE
		       ? wrong_with_index(txn, key, slice_sub(key, 0, key.len - QUEUE_RECORD_PLACE - 1))
		       : "a row of the queue cannot be read";
}

static const char *wrong_with_waiting(struct store_txn *txn, struct slice key, struct slice value)
{
	struct store_queue_recipient r;

	if (!unpack_recipient(key, value, &r) || r.is_held || is_indexed(txn, &r))
		return NULL;
	return "a queued recipient is in no index";
}

/* In the order of the repair: what a row depends on is right by then. */
static const struct pass {
	enum db_name db;
	const char *(*wrong)(struct store_txn *txn, struct slice key, struct slice value);
} passes[] = {
	{DB_QUEUE_TO, wrong_with_recipient},
	{DB_QUEUE, wrong_with_message},
	{DB_QUEUE_DUE, wrong_with_due},
	{DB_QUEUE_OF, wrong_with_of},
	{DB_QUEUE_TO, wrong_with_waiting},
};
#define PASS_WAITING 4

/* ---- the check ---- */

static int check_row(struct check *k, struct slice key, struct slice value, void *arg)
{
	const struct pass *pass = arg;
	const char *what = pass->wrong(k->txn, key, value);

	if (what && key.len >= 12)
		check_finding(k, "%s: message=%llu", what,
			(unsigned long long)bytes_get_u64be(
				pass->db == DB_QUEUE_TO ? key.p : key.p + key.len - 12));
	else if (what)
		check_finding(k, "%s", what);
	return 0;
}

struct sums {
	uint64_t said_waiting, said_held, due, of, to;
};

static int get_sums(struct store_txn *txn, struct sums *s)
{
	int err = db_meta_get(txn, "queue_waiting", &s->said_waiting);

	if (err == ERR_CORRUPT)
		s->said_waiting = UINT64_MAX;
	else if (err)
		return err;
	err = db_meta_get(txn, "queue_held", &s->said_held);
	if (err == ERR_CORRUPT)
		s->said_held = UINT64_MAX;
	else if (err)
		return err;
	err = db_count(txn, DB_QUEUE_DUE, &s->due);
	if (!err)
		err = db_count(txn, DB_QUEUE_OF, &s->of);
	return err ? err : db_count(txn, DB_QUEUE_TO, &s->to);
}

static int check_sums(struct check *k)
{
	struct sums s;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (err)
		return err;
	err = get_sums(k->txn, &s);
	if (!err && (s.due != s.said_waiting || s.of != s.due || s.to != s.due + s.said_held))
		check_finding(k,
			"the queue says waiting=%llu held=%llu; rows by time %llu, by destination %llu, "
			"recipients %llu",
			(unsigned long long)s.said_waiting, (unsigned long long)s.said_held,
			(unsigned long long)s.due, (unsigned long long)s.of, (unsigned long long)s.to);
	store_end_read(&k->txn);
	return err;
}

int queue_check(struct check *k)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(passes) && !err; i++)
		err = check_each_row(k, passes[i].db, CHECK_ROWS, check_row, (void *)(uintptr_t)&passes[i]);
	return err ? err : check_sums(k);
}

/* ---- the repair ---- */

struct mending {
	const struct pass *pass;
	struct buf keys;
};

static int find_row(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct mending *m = arg;

	if (m->pass->wrong(r->txn, key, value))
		repair_keep_key(&m->keys, key);
	return 0;
}

static int put_index(struct repair *r, struct slice key, struct slice value)
{
	struct store_queue_recipient to;
	struct store_queue_place place;
	struct queue_record_key due, of;
	struct buf copy = {0};
	int err = 0;

	buf_add_slice(&copy, value);
	if (unpack_recipient(key, buf_view(&copy), &to)) {
		place = (struct store_queue_place){to.next, to.message, to.number};
		due = queue_record_due(&place);
		of = queue_record_of(to.destination, &place);
		err = db_put(r->txn, DB_QUEUE_DUE, slice_of(due.bytes, due.len), to.destination);
		if (!err)
			err = db_put(r->txn, DB_QUEUE_OF, slice_of(of.bytes, of.len), slice_of(NULL, 0));
	}
	buf_deinit(&copy);
	return err;
}

static int mend_rows(struct repair *r, void *arg)
{
	struct mending *m = arg;
	struct slice key, value;
	size_t at = 0;
	int err = 0;

	while (!err && repair_take_key(&m->keys, &at, &key)) {
		const char *what;

		err = db_get(r->txn, m->pass->db, key, &value);
		what = err ? NULL : m->pass->wrong(r->txn, key, value);
		err = err == ERR_NOT_FOUND ? 0 : err;
		if (!what) /* it ended meanwhile */
			continue;
		repair_mended(r, "%s: %s", what,
			m->pass == &passes[PASS_WAITING] ? "it is put into both" : "it goes");
		err = m->pass == &passes[PASS_WAITING] ? put_index(r, key, value)
						       : db_drop(r->txn, m->pass->db, key);
	}
	return err;
}

static int raise_last(struct repair *r)
{
	struct db_key top = db_key_u64(UINT64_MAX);
	struct db_cursor c;
	uint64_t last = 0, found = 0;
	int err = db_meta_get(r->txn, "last_queued", &last);

	if (err && err != ERR_CORRUPT)
		return err;
	err = db_cursor_open(r->txn, DB_QUEUE, &c);
	if (err)
		return err;
	err = db_cursor_floor(&c, db_key_view(&top));
	if (!err && c.key.len == 8)
		found = bytes_get_u64be(c.key.p);
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (found <= last)
		return 0;
	repair_mended(
		r, "the last number of the queue was %llu, below what is there", (unsigned long long)last);
	return db_meta_put(r->txn, "last_queued", found);
}

static int mend_sums(struct repair *r, void *arg)
{
	struct sums s;
	int err = get_sums(r->txn, &s);

	(void)arg;
	if (!err && (s.said_waiting != s.due || s.said_held != s.to - s.due)) {
		repair_mended(r, "the sums of the queue are counted anew");
		err = db_meta_put(r->txn, "queue_waiting", s.due);
		if (!err)
			err = db_meta_put(r->txn, "queue_held", s.to - s.due);
	}
	return err ? err : raise_last(r);
}

/* A message that cannot be read goes first, so that its recipients have none. */
static const char *unreadable_message(struct store_txn *txn, struct slice key, struct slice value)
{
	const char *what = wrong_with_message(txn, key, value);
	struct store_queue_message m;

	return key.len != 8 || queue_record_unpack_message(value, &m) ? what : NULL;
}

static int mend_pass(struct repair *r, const struct pass *pass)
{
	struct mending m = {.pass = pass};
	int err = repair_each_row(r, pass->db, find_row, &m);

	if (!err && buf_len(&m.keys))
		err = repair_in_write(r, mend_rows, &m);
	buf_deinit(&m.keys);
	return err;
}

int repair_queue(struct repair *r)
{
	static const struct pass first = {DB_QUEUE, unreadable_message};
	int err = mend_pass(r, &first);

	for (size_t i = 0; i < ARRAY_LEN(passes) && !err; i++)
		err = mend_pass(r, &passes[i]);
	return err ? err : repair_in_write(r, mend_sums, NULL);
}
