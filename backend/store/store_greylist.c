/*
 * Two rows an entry, the second for finding what is over without looking at all. An entry that passes is written again only when it has
 * not been for an hour, so that a mailing list costs the writer little.
 */
#include "backend/store/store_greylist.h"

#include "backend/store/db.h"

#define VERSION 1
#define RECORD_LEN (1 + 8 + 8 + 8 + 4)
#define FRESH_S 3600

struct entry {
	int64_t first, last, goes;
	uint32_t passes;
};

static void pack(const struct entry *e, char record[RECORD_LEN])
{
	record[0] = VERSION;
	bytes_put_u64(record + 1, (uint64_t)e->first);
	bytes_put_u64(record + 9, (uint64_t)e->last);
	bytes_put_u64(record + 17, (uint64_t)e->goes);
	bytes_put_u32(record + 25, e->passes);
}

static int unpack(struct slice record, struct entry *e_out)
{
	if (record.len != RECORD_LEN || record.p[0] != VERSION)
		return ERR_CORRUPT;
	e_out->first = (int64_t)bytes_get_u64(record.p + 1);
	e_out->last = (int64_t)bytes_get_u64(record.p + 9);
	e_out->goes = (int64_t)bytes_get_u64(record.p + 17);
	e_out->passes = bytes_get_u32(record.p + 25);
	return 0;
}

static struct slice time_key(int64_t goes, const uint8_t *key, char room[8 + STORE_GREYLIST_KEY_LEN])
{
	bytes_put_u64be(room, (uint64_t)goes);
	memcpy(room + 8, key, STORE_GREYLIST_KEY_LEN);
	return slice_of(room, 8 + STORE_GREYLIST_KEY_LEN);
}

/* old: what stands there, NULL nothing. */
static int put(struct store_txn *txn, const uint8_t *key, const struct entry *old, const struct entry *e)
{
	char record[RECORD_LEN], room[8 + STORE_GREYLIST_KEY_LEN];
	int err = old ? db_drop(txn, DB_GREYLIST_TIMES, time_key(old->goes, key, room)) : 0;

	if (err)
		return err;
	pack(e, record);
	err = db_put(
		txn, DB_GREYLIST, slice_of(key, STORE_GREYLIST_KEY_LEN), slice_of(record, sizeof(record)));
	return err ? err : db_put(txn, DB_GREYLIST_TIMES, time_key(e->goes, key, room), slice_of(NULL, 0));
}

/* The first rows by time: those that are over, and as many more as there are too many. */
static int clean(struct store_txn *txn, int64_t now, uint64_t max)
{
	uint64_t count;
	struct db_cursor c;
	int err = db_count(txn, DB_GREYLIST, &count);

	if (!err)
		err = db_cursor_open(txn, DB_GREYLIST_TIMES, &c);
	if (err)
		return err;
	for (unsigned i = 0; !err && i < STORE_GREYLIST_STEP; i++) {
		char key[STORE_GREYLIST_KEY_LEN];

		err = db_cursor_seek(&c, slice_of("", 1));
		if (!err && c.key.len != 8 + STORE_GREYLIST_KEY_LEN)
			err = ERR_CORRUPT;
		if (err || ((int64_t)bytes_get_u64be(c.key.p) > now && count < max))
			break;
		memcpy(key, c.key.p + 8, sizeof(key));
		err = db_drop(txn, DB_GREYLIST, slice_of(key, sizeof(key)));
		if (!err)
			err = db_cursor_delete(&c);
		count -= count > 0;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int first_try(struct store_txn *txn, const uint8_t *key, const struct entry *old, int64_t now,
	const struct store_greylist_terms *terms, uint64_t *wait_s_out)
{
	const struct entry e = {now, now, now + (int64_t)terms->retry_s, 0};

	*wait_s_out = terms->delay_s ? terms->delay_s : 1;
	return put(txn, key, old, &e);
}

int store_greylist_ask(struct store_txn *txn, const uint8_t key[STORE_GREYLIST_KEY_LEN], int64_t now,
	const struct store_greylist_terms *terms, uint64_t *wait_s_out)
{
	struct slice record;
	struct entry old, e;
	int err = clean(txn, now, terms->entries_max);

	if (!err)
		err = db_get(txn, DB_GREYLIST, slice_of(key, STORE_GREYLIST_KEY_LEN), &record);
	if (err == ERR_NOT_FOUND)
		return first_try(txn, key, NULL, now, terms, wait_s_out);
	if (!err)
		err = unpack(record, &old);
	if (err)
		return err;
	/* It is over, but nobody has taken it away yet; or the clock was set back. */
	if (old.goes <= now || old.first > now)
		return first_try(txn, key, &old, now, terms, wait_s_out);
	if (!old.passes && now - old.first < (int64_t)terms->delay_s) {
		*wait_s_out = terms->delay_s - (uint64_t)(now - old.first);
		return 0;
	}
	*wait_s_out = 0;
	if (old.passes && now - old.last < FRESH_S)
		return 0;
	e = (struct entry){old.first, now, now + (int64_t)terms->life_s,
		old.passes < UINT32_MAX ? old.passes + 1 : old.passes};
	return put(txn, key, &old, &e);
}

int store_greylist_time_key(struct slice key, struct slice record, char room[STORE_GREYLIST_TIME_LEN])
{
	struct entry e;
	int err = key.len == STORE_GREYLIST_KEY_LEN ? unpack(record, &e) : ERR_CORRUPT;

	if (!err)
		(void)time_key(e.goes, (const uint8_t *)key.p, room);
	return err;
}

int store_greylist_count(struct store_txn *txn, uint64_t *count_out)
{
	return db_count(txn, DB_GREYLIST, count_out);
}
