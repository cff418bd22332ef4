#include "backend/store/export_kept.h"

#include <stdlib.h>

#include "backend/store/chunk.h"
#include "backend/store/mailbox.h"
#include "backend/store/store_export.h"
#include "common/base/mem.h"

/* ---- gathering ---- */

struct gathering {
	struct store_txn *txn;
	uint32_t account;
	uint32_t (*number_of)(const void *arg, uint32_t mailbox);
	const void *arg;
	struct export_kept_list *list;
};

static int add(struct gathering *g, const struct kept_row *r)
{
	struct export_kept_list *l = g->list;
	uint32_t number = g->number_of(g->arg, r->mailbox);

	if (l->count == STORE_EXPORT_KEPT_MAX)
		return ERR_TOO_BIG;
	if (l->count == l->room)
		l->rows = xreallocarray(l->rows, l->room = l->room ? l->room * 2 : 64, sizeof(*l->rows));
	l->rows[l->count] = (struct export_kept){number, *r};
	if (!r->time) /* the retention takes it for that */
		l->rows[l->count].row.time = 1;
	if (!r->modseq) /* a repair did not know it */
		l->rows[l->count].row.modseq = 1;
	l->count++;
	l->bytes += r->size;
	return 0;
}

/* Rows with this prefix; what cannot be read is left to the check. */
static int add_rows(struct gathering *g, enum db_name db, const struct db_key *prefix,
	int (*unpack)(struct slice key, struct slice value, struct kept_row *row_out))
{
	struct db_cursor c;
	int err = db_cursor_open(g->txn, db, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(prefix))) {
		struct kept_row r;

		if (unpack(c.key, c.value, &r) == 0 && r.account == g->account)
			err = add(g, &r);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* What was expunged of a mailbox, and waits. */
static int add_expunged(struct gathering *g, uint32_t mailbox)
{
	struct db_key prefix = db_key_u32(mailbox);

	return add_rows(g, DB_EXPUNGED, &prefix, kept_unpack_note);
}

static int add_expunged_of_all(struct gathering *g)
{
	struct db_key prefix = db_key_u32(g->account);
	struct db_cursor c;
	int err = db_cursor_open(g->txn, DB_FOLDERS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		if (c.key.len == 8)
			err = add_expunged(g, bytes_get_u32be(c.key.p + 4));
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* The index of a mailbox that was deleted at that time, as far as the reaper has left it. */
static int add_index(struct gathering *g, uint32_t mailbox, uint32_t time)
{
	struct store_scan scan;
	struct store_entry e;
	int err = store_scan_begin(&scan, g->txn, mailbox, 0);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	while (!err && store_scan_next(&scan, &e))
		err = add(g, &(struct kept_row){.account = g->account,
				     .time = time,
				     .mailbox = mailbox,
				     .uid = e.uid,
				     .size = e.size,
				     .modseq = e.modseq,
				     .keywords = e.keywords,
				     .flags = e.flags});
	err = err ? err : scan.error;
	store_scan_end(&scan);
	return err;
}

/* Mailboxes that were deleted, and wait. */
static int add_dropped(struct gathering *g)
{
	char prefix[5] = {INTENT_DROP_MAILBOX};
	struct db_cursor c;
	int err = db_cursor_open(g->txn, DB_INTENTS, &c);

	if (err)
		return err;
	bytes_put_u32be(prefix + 1, g->account);
	err = db_cursor_seek(&c, slice_of(prefix, sizeof(prefix)));
	while (!err && db_cursor_has_prefix(&c, slice_of(prefix, sizeof(prefix)))) {
		if (c.key.len == 9 && c.value.len == 4) {
			uint32_t mailbox = bytes_get_u32be(c.key.p + 5);

			err = add_expunged(g, mailbox);
			if (!err)
				err = add_index(g, mailbox, bytes_get_u32(c.value.p));
		}
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Those of mailboxes that are no more come last. */
static int compare(const void *a, const void *b)
{
	const struct export_kept *x = a, *y = b;

	if (!x->number != !y->number)
		return x->number ? -1 : 1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	if (x->row.mailbox != y->row.mailbox)
		return x->row.mailbox < y->row.mailbox ? -1 : 1;
	return x->row.uid < y->row.uid ? -1 : x->row.uid > y->row.uid;
}

int export_kept_take(struct store_txn *txn, uint32_t account,
	uint32_t (*number_of)(const void *arg, uint32_t mailbox), const void *arg,
	struct export_kept_list *list)
{
	struct gathering g = {txn, account, number_of, arg, list};
	struct db_key prefix = db_key_u32(account);
	int err = add_rows(&g, DB_KEPT, &prefix, kept_unpack);

	if (!err && kept_retention(txn, account)) {
		err = add_expunged_of_all(&g);
		if (!err)
			err = add_dropped(&g);
	}
	if (!err && list->count)
		qsort(list->rows, list->count, sizeof(*list->rows), compare);
	return err;
}

/* ---- mailboxes that are no more ---- */

int export_kept_number(struct store_txn *txn, uint32_t account, uint32_t first, struct export_kept_list *list,
	int (*fn)(void *arg, const struct transfer_gone *gone), void *arg)
{
	struct transfer_gone gone = {.number = first - 1};
	uint64_t bits = UINT64_MAX;
	uint32_t mailbox = 0;
	int err = 0;

	for (size_t i = 0; i < list->count && !err; i++) {
		struct export_kept *k = &list->rows[i];

		if (k->number)
			continue;
		if (gone.number < first || mailbox != k->row.mailbox) {
			mailbox = k->row.mailbox;
			gone.number++;
			err = kept_get_folder(txn, account, mailbox, &gone.time, &gone.folder);
			if (err == ERR_NOT_FOUND || (!err && !gone.time)) {
				gone.time = 0;
				gone.folder = (struct folder_record){0};
				err = 0;
			}
			gone.folder.noselect = false;
			bits = gone.folder.keywords.count < STORE_KEYWORDS_MAX
				       ? (UINT64_C(1) << gone.folder.keywords.count) - 1
				       : UINT64_MAX;
			if (!err)
				err = fn(arg, &gone);
		}
		k->number = gone.number;
		k->row.keywords &= bits; /* of those without a name nothing would come back */
	}
	return err;
}

void export_kept_free(struct export_kept_list *list)
{
	free(list->rows);
	*list = (struct export_kept_list){0};
}
