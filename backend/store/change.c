/* Writing and reading the change log; the rows are drawn in change.h. */
#include "backend/store/change.h"

#include <stdlib.h>

#include "backend/store/chunk.h"
#include "common/base/mem.h"

#define HEAD 5
#define RANGE 8
#define USER 8
#define TEXT_MAX STORE_MAILBOX_NAME_MAX
/* Rows removed with each new one while there are too many. */
#define TRIM_STEP 2

static int trim(struct store_txn *txn, uint32_t account, struct account_state *s)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_CHANGES, &c);

	if (err)
		return err;
	for (int i = 0; i < TRIM_STEP && !err; i++) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		s->change_low = bytes_get_u64be(c.key.p + 4);
		err = db_cursor_delete(&c);
		s->change_rows--;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int put_row(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice row)
{
	struct db_key key = db_key_u32_u64(account, ++s->modseq);
	int err = db_put(txn, DB_CHANGES, db_key_view(&key), row);

	if (!err && ++s->change_rows > CHANGE_ROWS_MAX)
		err = trim(txn, account, s);
	return err;
}

int change_log(struct store_txn *txn, uint32_t account, struct account_state *s, enum change_kind kind,
	uint32_t mailbox, const uint32_t *uids, size_t count)
{
	char row[HEAD + CHANGE_RANGES_MAX * RANGE];
	size_t i = 0;
	int err = 0;

	row[0] = (char)kind;
	bytes_put_u32(row + 1, mailbox);
	do {
		size_t ranges = 0;

		while (i < count && ranges < CHANGE_RANGES_MAX) {
			size_t from = i++;

			while (i < count && uids[i] == uids[i - 1] + 1)
				i++;
			bytes_put_u32(row + HEAD + ranges * RANGE, uids[from]);
			bytes_put_u32(row + HEAD + ranges * RANGE + 4, uids[i - 1]);
			ranges++;
		}
		err = put_row(txn, account, s, slice_of(row, HEAD + ranges * RANGE));
	} while (!err && i < count);
	if (!err)
		db_note(txn, account,
			kind <= CHANGE_EXPUNGED || kind == CHANGE_KEYWORDS || kind == CHANGE_ACL ||
					kind == CHANGE_SEEN
				? mailbox
				: 0,
			s->modseq);
	return err;
}

int change_log_one(struct store_txn *txn, uint32_t account, struct account_state *s, enum change_kind kind,
	uint32_t mailbox, uint32_t uid)
{
	return change_log(txn, account, s, kind, mailbox, &uid, 1);
}

int change_log_text(struct store_txn *txn, uint32_t account, struct account_state *s, enum change_kind kind,
	uint32_t mailbox, uint64_t user, struct slice text)
{
	char row[HEAD + USER + TEXT_MAX];
	size_t len = HEAD;
	int err;

	if (text.len > TEXT_MAX)
		return ERR_CORRUPT;
	row[0] = (char)kind;
	bytes_put_u32(row + 1, mailbox);
	if (kind == CHANGE_METADATA) {
		bytes_put_u64(row + len, user);
		len += USER;
	}
	if (text.len)
		memcpy(row + len, text.p, text.len);
	err = put_row(txn, account, s, slice_of(row, len + text.len));
	if (!err)
		db_note(txn, account, 0, s->modseq);
	return err;
}

/* ---- reading ---- */

bool change_is_row(struct slice row)
{
	if (row.len < HEAD || row.p[0] < CHANGE_ADDED)
		return false;
	if (row.p[0] > CHANGE_EXPUNGED)
		return true; /* a text, or nothing */
	if ((row.len - HEAD) % RANGE)
		return false;
	for (size_t at = HEAD; at < row.len; at += RANGE)
		if (bytes_get_u32(row.p + at) > bytes_get_u32(row.p + at + 4))
			return false;
	return true;
}

struct uid_list {
	uint32_t *uids;
	size_t count, room;
};

static void list_add_range(struct uid_list *l, uint32_t first, uint32_t last)
{
	for (uint64_t uid = first; uid <= last; uid++) {
		if (l->count == l->room) {
			l->room = l->room ? l->room * 2 : 64;
			l->uids = xreallocarray(l->uids, l->room, sizeof(*l->uids));
		}
		l->uids[l->count++] = (uint32_t)uid;
	}
}

static int compare_uids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void list_sort(struct uid_list *l)
{
	size_t n = 0;

	if (l->count == 0)
		return;
	qsort(l->uids, l->count, sizeof(*l->uids), compare_uids);
	for (size_t i = 1; i < l->count; i++)
		if (l->uids[i] != l->uids[n])
			l->uids[++n] = l->uids[i];
	l->count = n + 1;
}

struct lists {
	struct uid_list added, flags, expunged;
};

static int read_row(struct slice row, uint32_t mailbox, uint32_t uidnext, struct lists *lists)
{
	struct uid_list *to = NULL;

	if (row.len < HEAD || (row.p[0] <= CHANGE_EXPUNGED && (row.len - HEAD) % RANGE))
		return ERR_CORRUPT;
	if (bytes_get_u32(row.p + 1) != mailbox)
		return 0;
	if (row.p[0] == CHANGE_ADDED)
		to = &lists->added;
	else if (row.p[0] == CHANGE_FLAGS)
		to = &lists->flags;
	else if (row.p[0] == CHANGE_EXPUNGED)
		to = &lists->expunged;
	for (size_t at = HEAD; to && at < row.len; at += RANGE) {
		uint32_t first = bytes_get_u32(row.p + at), last = bytes_get_u32(row.p + at + 4);

		if (first > last || last >= uidnext)
			return ERR_CORRUPT;
		list_add_range(to, first, last);
	}
	return 0;
}

static int read_rows(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t since,
	uint32_t uidnext, struct lists *lists)
{
	struct db_key key = db_key_u32_u64(account, since + 1), prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_CHANGES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = read_row(c.value, mailbox, uidnext, lists);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int give(struct arena *arena, const struct uid_list *l, uint32_t **uids_out, size_t *count_out)
{
	*uids_out = NULL;
	*count_out = l->count;
	if (l->count == 0)
		return 0;
	*uids_out = arena_calloc(arena, l->count, sizeof(**uids_out));
	if (!*uids_out)
		return ERR_TOO_BIG;
	memcpy(*uids_out, l->uids, l->count * sizeof(**uids_out));
	return 0;
}

/* Keeps of `added` what is still in the index; gives entries of `flags` that are there and not in added. */
static int meet_index(struct store_txn *txn, uint32_t mailbox, struct lists *lists, struct arena *arena,
	struct store_changes *out)
{
	struct uid_list *added = &lists->added, *flags = &lists->flags;
	uint32_t lowest = UINT32_MAX;
	size_t a = 0, f = 0, kept = 0;
	struct store_scan scan;
	struct store_entry e;
	int err;

	if (added->count)
		lowest = added->uids[0];
	if (flags->count && flags->uids[0] < lowest)
		lowest = flags->uids[0];
	if (flags->count) {
		out->changed = arena_calloc(arena, flags->count, sizeof(*out->changed));
		if (!out->changed)
			return ERR_TOO_BIG;
	}
	err = store_scan_begin(&scan, txn, mailbox, lowest);
	if (err)
		return err;
	while ((a < added->count || f < flags->count) && store_scan_next(&scan, &e)) {
		bool is_added = false;

		while (a < added->count && added->uids[a] < e.uid)
			a++;
		if (a < added->count && added->uids[a] == e.uid) {
			is_added = true;
			added->uids[kept++] = e.uid;
			a++;
		}
		while (f < flags->count && flags->uids[f] < e.uid)
			f++;
		if (f < flags->count && flags->uids[f] == e.uid) {
			if (!is_added)
				out->changed[out->changed_count++] = e;
			f++;
		}
	}
	added->count = kept;
	err = scan.error;
	store_scan_end(&scan);
	return err;
}

static int collect(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t since,
	struct arena *arena, struct lists *lists, struct store_changes *out)
{
	int err = read_rows(txn, account, mailbox, since, out->uidnext, lists);

	if (err)
		return err;
	list_sort(&lists->added);
	list_sort(&lists->flags);
	list_sort(&lists->expunged);
	if (lists->added.count || lists->flags.count)
		err = meet_index(txn, mailbox, lists, arena, out);
	if (!err)
		err = give(arena, &lists->added, &out->added, &out->added_count);
	if (!err)
		err = give(arena, &lists->expunged, &out->expunged, &out->expunged_count);
	return err;
}

int store_message_changes(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t since,
	struct arena *arena, struct store_changes *changes_out)
{
	struct store_changes out = {0};
	struct account_state account_state;
	struct mailbox_state state;
	struct lists lists = {0};
	int err = state_get_mailbox(txn, account, mailbox, &state);

	if (err == ERR_NOT_FOUND) {
		*changes_out = (struct store_changes){.gone = true};
		return 0;
	}
	if (err)
		return err;
	out.modseq = state.modseq;
	out.uidnext = state.uidnext;
	out.messages = state.messages;
	if (state.modseq > since) {
		err = state_get_account(txn, account, &account_state);
		if (!err && since < account_state.change_low)
			out.incomplete = true;
		else if (!err)
			err = collect(txn, account, mailbox, since, arena, &lists, &out);
	}
	free(lists.added.uids);
	free(lists.flags.uids);
	free(lists.expunged.uids);
	if (!err)
		*changes_out = out;
	return err;
}
