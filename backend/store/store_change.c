/* The rows of the change log (change.h), read in order. */
#include "backend/store/store_change.h"

#include "backend/store/change.h"

#define HEAD 5
#define USER 8

_Static_assert((int)STORE_CHANGE_ADDED == (int)CHANGE_ADDED && (int)STORE_CHANGE_SEEN == (int)CHANGE_SEEN,
	"two names for one thing");

static int read_row(struct slice key, struct slice row, struct store_change *change_out)
{
	struct store_change c = {0};

	if (key.len != 12 || row.len < HEAD || row.p[0] < STORE_CHANGE_ADDED || row.p[0] > STORE_CHANGE_SEEN)
		return ERR_CORRUPT;
	c.modseq = bytes_get_u64be(key.p + 4);
	c.kind = (enum store_change_kind)row.p[0];
	c.mailbox = bytes_get_u32(row.p + 1);
	row = slice_from(row, HEAD);
	if (c.kind == STORE_CHANGE_METADATA) {
		if (row.len < USER)
			return ERR_CORRUPT;
		c.user = bytes_get_u64(row.p);
		row = slice_from(row, USER);
	}
	if (c.kind > STORE_CHANGE_EXPUNGED)
		c.text = row;
	*change_out = c;
	return 0;
}

int store_change_each(struct store_txn *txn, uint32_t account, uint64_t since, store_change_fn *fn, void *arg,
	uint64_t *now_out, bool *incomplete_out)
{
	struct db_key key = db_key_u32_u64(account, since + 1), prefix = db_key_u32(account);
	struct store_change change;
	struct account_state s;
	struct db_cursor c;
	int err = state_get_account(txn, account, &s);

	if (err)
		return err;
	*now_out = s.modseq;
	*incomplete_out = since < s.change_low;
	if (*incomplete_out || since >= s.modseq)
		return 0;
	err = db_cursor_open(txn, DB_CHANGES, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = read_row(c.key, c.value, &change);
		if (!err)
			err = fn(arg, &change);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}
