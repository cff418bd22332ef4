/*
 * Repeat marks: one row by digest, one by time, so that old ones are found without looking at all.
 */
#include "backend/store/db.h"
#include "backend/store/store_message.h"

static struct slice time_key(int64_t time, const char *mark, char *room)
{
	bytes_put_u64be(room, (uint64_t)time);
	memcpy(room + 8, mark, STORE_MARK_LEN);
	return slice_of(room, 8 + STORE_MARK_LEN);
}

static struct slice mark_key(const uint8_t *mark)
{
	return slice_of(mark, STORE_MARK_LEN);
}

int store_mark_has(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN], bool *has_out)
{
	struct slice value;
	int err = db_get(txn, DB_MARKS, mark_key(mark), &value);

	if (err && err != ERR_NOT_FOUND)
		return err;
	*has_out = !err;
	return 0;
}

int store_mark_add(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN], int64_t now)
{
	char room[8 + STORE_MARK_LEN], value[8];
	bool has;
	int err = store_mark_has(txn, mark, &has);

	if (err || has)
		return err ? err : ERR_EXISTS;
	bytes_put_u64(value, (uint64_t)now);
	err = db_put(txn, DB_MARKS, mark_key(mark), slice_of(value, sizeof(value)));
	return err ? err
		   : db_put(txn, DB_MARK_TIMES, time_key(now, (const char *)mark, room), slice_of(NULL, 0));
}

int store_mark_remove(struct store_txn *txn, const uint8_t mark[STORE_MARK_LEN])
{
	char room[8 + STORE_MARK_LEN];
	struct slice value;
	int64_t time;
	int err = db_get(txn, DB_MARKS, mark_key(mark), &value);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (value.len != 8)
		return ERR_CORRUPT;
	time = (int64_t)bytes_get_u64(value.p);
	err = db_drop(txn, DB_MARKS, mark_key(mark));
	return err ? err : db_drop(txn, DB_MARK_TIMES, time_key(time, (const char *)mark, room));
}

int store_mark_expire(struct store_txn *txn, int64_t before, size_t limit, size_t *count_out)
{
	char mark[STORE_MARK_LEN];
	struct db_cursor c;
	size_t count = 0;
	int err = db_cursor_open(txn, DB_MARK_TIMES, &c);

	if (err)
		return err;
	while (count < limit) {
		err = db_cursor_seek(&c, slice_of("", 1));
		if (err)
			break;
		if (c.key.len != 8 + STORE_MARK_LEN) {
			err = ERR_CORRUPT;
			break;
		}
		if ((int64_t)bytes_get_u64be(c.key.p) >= before)
			break;
		memcpy(mark, c.key.p + 8, sizeof(mark));
		err = db_drop(txn, DB_MARKS, slice_of(mark, sizeof(mark)));
		if (!err)
			err = db_cursor_delete(&c);
		if (err)
			break;
		count++;
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (count_out)
		*count_out = count;
	return 0;
}
