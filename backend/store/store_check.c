/*
 * The check, in four passes per slot (accounts: check_account.c):
 *
 *	accounts  each in one snapshot: records, names, mailboxes, index against messages, counters against sums
 *	names     every name leads to an account; rows of no account or mailbox
 *	blobs     references counted from all messages against what the records say; frames decompressed
 *	pieces    no piece without a blob; marks by digest and by time
 *
 * The passes over blobs take many snapshots; a difference is reported only if it is still there in one
 * snapshot of all.
 */
#include "backend/store/store_check.h"

#include <stdlib.h>

#include "backend/store/acl.h"
#include "backend/store/blob.h"
#include "backend/store/check.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/queue_check.h"
#include "backend/store/queue_record.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define BLOBS_PER_SNAPSHOT 200

void check_finding(struct check *k, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	k->result.errors++;
	if (!k->options->report)
		return;
	buf_printf(&text, "slot %u: ", k->slot);
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	k->options->report(k->options->arg, buf_str_view(&text));
	buf_deinit(&text);
}

bool check_is_cancelled(struct check *k)
{
	return k->options->is_cancelled && k->options->is_cancelled(k->options->arg);
}

/* ERR_CORRUPT becomes a finding; other errors end the check. */
int check_judge(struct check *k, int err, const char *what, uint32_t account, uint32_t mailbox, uint32_t uid)
{
	if (err != ERR_CORRUPT && err != ERR_NOT_FOUND)
		return err;
	check_finding(k, "%s: %s account=%u mailbox=%u uid=%u", what, error_text(err), account, mailbox, uid);
	return 0;
}

/* ---- snapshots over long databases ---- */

static int each_row_in(struct check *k, enum db_name db, struct buf *from, size_t rows, check_row_fn *fn,
	void *arg, bool *more_out)
{
	struct db_cursor c;
	size_t n = 0;
	int err = db_cursor_open(k->txn, db, &c);

	*more_out = false;
	if (err)
		return err;
	err = db_cursor_seek(&c, buf_view(from));
	while (!err) {
		if (rows && n++ == rows) {
			buf_clear(from);
			buf_add_slice(from, c.key);
			*more_out = true;
			break;
		}
		err = fn(k, c.key, c.value, arg);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int check_each_row(struct check *k, enum db_name db, size_t rows, check_row_fn *fn, void *arg)
{
	struct buf from = {0};
	bool more = true;
	int err = 0;

	buf_add_char(&from, '\0');
	while (!err && more) {
		if (check_is_cancelled(k)) {
			err = ERR_CANCELLED;
			break;
		}
		err = store_begin_read(k->store, k->slot, &k->txn);
		if (err)
			break;
		store_txn_set_name(k->txn, "store check");
		err = each_row_in(k, db, &from, rows, fn, arg, &more);
		store_end_read(&k->txn);
	}
	buf_deinit(&from);
	return err;
}

static int take_account(struct check *k, struct slice key, struct slice value, void *arg)
{
	(void)k;
	(void)value;
	if (key.len == 4)
		buf_add(arg, key.p, 4);
	return 0;
}

static int check_accounts(struct check *k)
{
	struct buf ids = {0};
	int err = check_each_row(k, DB_ACCOUNTS, CHECK_ROWS, take_account, &ids);

	for (size_t at = 0; !err && at < buf_len(&ids); at += 4) {
		if (check_is_cancelled(k))
			err = ERR_CANCELLED;
		if (!err)
			err = store_begin_read(k->store, k->slot, &k->txn);
		if (err)
			break;
		err = check_account(k, bytes_get_u32be(buf_view(&ids).p + at));
		store_end_read(&k->txn);
	}
	buf_deinit(&ids);
	return err;
}

/* ---- names, and rows of nobody ---- */

static int check_a_name(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct db_key account;
	struct slice record;
	int err;

	(void)arg;
	if (value.len != 4)
		return check_judge(k, ERR_CORRUPT, "name", 0, 0, 0);
	account = db_key_u32(bytes_get_u32(value.p));
	err = db_get(k->txn, DB_ACCOUNTS, db_key_view(&account), &record);
	if (err == ERR_NOT_FOUND)
		check_finding(k, "name %.*s leads to no account", SLICE_ARG(key));
	return err == ERR_NOT_FOUND ? 0 : err;
}

struct known {
	struct table *table;
	struct db_key *keys;
	size_t count, room;
};

static void know(struct known *n, uint32_t mailbox)
{
	if (n->count == n->room) /* the table borrows keys: filled in the end */
		n->keys = xreallocarray(n->keys, n->room = n->room ? n->room * 2 : 256, sizeof(*n->keys));
	n->keys[n->count++] = db_key_u32(mailbox);
}

static int know_folder(struct check *k, struct slice key, struct slice value, void *arg)
{
	(void)k;
	(void)value;
	if (key.len == 8)
		know(arg, bytes_get_u32be(key.p + 4));
	return 0;
}

static int know_intent(struct check *k, struct slice key, struct slice value, void *arg)
{
	(void)value;
	if (key.len != 9)
		check_finding(k, "an intent cannot be read");
	if (key.len == 9 && key.p[0] == INTENT_DROP_MAILBOX)
		know(arg, bytes_get_u32be(key.p + 5));
	return 0;
}

static int know_kept(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct known *n = arg;
	struct kept_row r;

	(void)k;
	if (kept_unpack(key, value, &r) == 0 &&
		!(n->count && bytes_get_u32be(n->keys[n->count - 1].bytes) == r.mailbox))
		know(n, r.mailbox);
	return 0;
}

/* Jumps from mailbox to mailbox. */
static int check_prefixes(struct check *k, enum db_name db, const char *what, struct known *n)
{
	struct db_key from = db_key_u32(0);
	struct db_cursor c;
	int err = db_cursor_open(k->txn, db, &c);

	if (err)
		return err;
	while (!err) {
		uint32_t mailbox;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		mailbox = bytes_get_u32be(c.key.p);
		if (!table_get(n->table, slice_of(c.key.p, 4)))
			check_finding(k, "%s of no mailbox: mailbox=%u", what, mailbox);
		if (mailbox == UINT32_MAX)
			break;
		from = db_key_u32(mailbox + 1);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* In one snapshot: lists of mailboxes are short. */
static int check_strays(struct check *k)
{
	struct known n = {.table = table_new()};
	struct buf start = {0};
	bool more;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (!err) {
		buf_add_char(&start, '\0');
		err = each_row_in(k, DB_FOLDERS, &start, 0, know_folder, &n, &more);
		if (!err)
			err = each_row_in(k, DB_INTENTS, &start, 0, know_intent, &n, &more);
		if (!err)
			err = each_row_in(k, DB_KEPT, &start, 0, know_kept, &n, &more);
		for (size_t i = 0; i < n.count; i++)
			table_put(n.table, db_key_view(&n.keys[i]), &n.keys[i]);
		if (!err)
			err = check_prefixes(k, DB_INDEX, "index", &n);
		if (!err)
			err = check_prefixes(k, DB_MESSAGES, "messages", &n);
		if (!err)
			err = check_prefixes(k, DB_EXPUNGED, "expunged messages", &n);
		if (!err)
			err = check_prefixes(k, DB_SEEN, "what others have seen", &n);
		store_end_read(&k->txn);
	}
	buf_deinit(&start);
	free(n.keys);
	table_free(&n.table);
	return err;
}

/* ---- blobs ---- */

struct ref {
	char key[8];
	uint32_t count; /* references found */
	bool is_orphan; /* in DB_ORPHANS */
	bool has_record;
	bool is_wrong;
};

struct refs {
	struct table *table;
};

static struct ref *ref_of(struct refs *r, struct slice key)
{
	struct ref *f = table_get(r->table, key);

	if (f)
		return f;
	f = xcalloc(1, sizeof(*f));
	memcpy(f->key, key.p, sizeof(f->key));
	table_put(r->table, slice_of(f->key, sizeof(f->key)), f);
	return f;
}

static void refs_free(struct refs *r)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(r->table, &at, &key, &value);)
		free(value);
	table_free(&r->table);
}

static int count_ref(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct store_message m;
	struct db_key blob;
	int err = record_unpack_message(value, &m);

	if (err)
		return check_judge(k, err, "message", 0, key.len == 8 ? bytes_get_u32be(key.p) : 0,
			key.len == 8 ? bytes_get_u32be(key.p + 4) : 0);
	blob = db_key_u64(m.blob);
	ref_of(arg, db_key_view(&blob))->count++;
	return 0;
}

static int count_queued(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct store_queue_message m;
	struct db_key blob;

	(void)k;
	(void)key;
	if (queue_record_unpack_message(value, &m))
		return 0; /* queue_check() tells it */
	blob = db_key_u64(m.blob);
	ref_of(arg, db_key_view(&blob))->count++;
	return 0;
}

static int note_orphan(struct check *k, struct slice key, struct slice value, void *arg)
{
	(void)value;
	if (key.len != 8)
		return check_judge(k, ERR_CORRUPT, "orphan", 0, 0, 0);
	ref_of(arg, key)->is_orphan = true;
	return 0;
}

/* A live blob's count is right; a dead one has no reference and stands among the orphans. */
static bool is_right(const struct ref *f, uint32_t refs)
{
	return f->count == 0 ? f->is_orphan : f->count == refs && !f->is_orphan;
}

static int compare_blob(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct blob_record r;
	struct ref *f;
	uint32_t refs = 0;
	int err = key.len == 8 ? record_unpack_blob(value, &r) : ERR_CORRUPT;

	if (err)
		return check_judge(k, err, "blob", 0, 0, 0);
	err = blob_refs(k->txn, bytes_get_u64be(key.p), &r, &refs);
	if (err && err != ERR_CORRUPT)
		return err;
	f = ref_of(arg, key);
	f->has_record = true;
	f->is_wrong = err || !is_right(f, refs);
	return 0;
}

/* What compare_blob() reads with its blob; here those that no blob has. */
static int check_copies(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct slice record;
	int err = key.len == 8 && value.len == 4 ? db_get(k->txn, DB_BLOBS, key, &record) : ERR_CORRUPT;

	(void)arg;
	if (err == ERR_NOT_FOUND)
		check_finding(k, "copies are counted of blob=%llu, which is not there",
			(unsigned long long)bytes_get_u64be(key.p));
	else if (err)
		return check_judge(k, err, "count of copies", 0, 0, 0);
	return 0;
}

/* No message has it: the reaper takes its pieces away in steps, and may have taken some. */
static bool is_orphan(struct check *k, struct slice key)
{
	struct slice row;

	return db_get(k->txn, DB_ORPHANS, key, &row) == 0;
}

static int verify_blob(struct check *k, struct slice key, struct slice value, void *arg)
{
	struct blob_record r;
	uint64_t blob;
	int err;

	(void)arg;
	if (key.len != 8 || record_unpack_blob(value, &r))
		return 0; /* reported already */
	blob = bytes_get_u64be(key.p);
	k->result.blobs++;
	k->result.bytes += r.size;
	if (k->options->skip_bodies)
		return 0;
	err = blob_verify(k->txn, blob, &r);
	if (err == ERR_CORRUPT && !is_orphan(k, key))
		check_finding(k, "body is damaged: blob=%llu", (unsigned long long)blob);
	return err == ERR_CORRUPT ? 0 : err;
}

static int gather(struct check *k, struct refs *r, size_t rows)
{
	int err;

	r->table = table_new();
	err = check_each_row(k, DB_MESSAGES, rows, count_ref, r);
	if (!err)
		err = check_each_row(k, DB_QUEUE, rows, count_queued, r);
	if (!err)
		err = check_each_row(k, DB_ORPHANS, rows, note_orphan, r);
	return err ? err : check_each_row(k, DB_BLOBS, rows, compare_blob, r);
}

/* The same in one snapshot: what is wrong now is wrong. */
static int gather_once(struct check *k, struct refs *r)
{
	struct buf start = {0};
	bool more;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	r->table = table_new();
	if (err)
		return err;
	buf_add_char(&start, '\0');
	err = each_row_in(k, DB_MESSAGES, &start, 0, count_ref, r, &more);
	if (!err)
		err = each_row_in(k, DB_QUEUE, &start, 0, count_queued, r, &more);
	if (!err)
		err = each_row_in(k, DB_ORPHANS, &start, 0, note_orphan, r, &more);
	if (!err)
		err = each_row_in(k, DB_BLOBS, &start, 0, compare_blob, r, &more);
	store_end_read(&k->txn);
	buf_deinit(&start);
	return err;
}

static bool has_wrong(struct refs *r)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(r->table, &at, &key, &value);) {
		struct ref *f = value;

		if (f->is_wrong || (f->count && !f->has_record))
			return true;
	}
	return false;
}

static void report_wrong(struct check *k, struct refs *r)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(r->table, &at, &key, &value);) {
		struct ref *f = value;

		if (f->count && !f->has_record)
			check_finding(k, "blob=%llu is missing, messages=%u",
				(unsigned long long)bytes_get_u64be(f->key), f->count);
		else if (f->is_wrong)
			check_finding(k, "references of blob=%llu: counted %u",
				(unsigned long long)bytes_get_u64be(f->key), f->count);
	}
}

static int check_blobs(struct check *k)
{
	struct refs r = {0};
	uint64_t errors = k->result.errors;
	int err = gather(k, &r, CHECK_ROWS);
	bool again = !err && has_wrong(&r);

	refs_free(&r);
	if (again) {
		k->result.errors = errors; /* unreadable records are found again */
		err = gather_once(k, &r);
		if (!err)
			report_wrong(k, &r);
		refs_free(&r);
	}
	if (!err)
		err = check_each_row(k, DB_COPIES, CHECK_ROWS, check_copies, NULL);
	return err ? err : check_each_row(k, DB_BLOBS, BLOBS_PER_SNAPSHOT, verify_blob, NULL);
}

/* ---- pieces and marks ---- */

static int check_pieces(struct check *k)
{
	struct db_key from = db_key_u64(0);
	struct db_cursor c;
	struct slice value;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (!err)
		err = db_cursor_open(k->txn, DB_PIECES, &c);
	if (err)
		return err;
	for (;;) {
		struct db_key blob;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		blob = db_key_u64(bytes_get_u64be(c.key.p));
		from = db_key_u64(bytes_get_u64be(c.key.p) + 1);
		err = db_get(k->txn, DB_BLOBS, db_key_view(&blob), &value);
		if (err == ERR_NOT_FOUND)
			err = db_get(k->txn, DB_ORPHANS, db_key_view(&blob), &value);
		if (err == ERR_NOT_FOUND)
			check_finding(k, "pieces of no blob: %llu",
				(unsigned long long)bytes_get_u64be(blob.bytes));
		else if (err)
			break;
	}
	db_cursor_close(&c);
	store_end_read(&k->txn);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int check_marks(struct check *k)
{
	uint64_t marks, times;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (err)
		return err;
	err = db_count(k->txn, DB_MARKS, &marks);
	if (!err)
		err = db_count(k->txn, DB_MARK_TIMES, &times);
	if (!err && marks != times)
		check_finding(k, "marks=%llu by digest, %llu by time", (unsigned long long)marks,
			(unsigned long long)times);
	store_end_read(&k->txn);
	return err;
}

/* Each row by itself is small; what may go wrong is that one of the two tables has lost some. */
static int check_greylist(struct check *k)
{
	uint64_t rows, times;
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (err)
		return err;
	err = db_count(k->txn, DB_GREYLIST, &rows);
	if (!err)
		err = db_count(k->txn, DB_GREYLIST_TIMES, &times);
	if (!err && rows != times)
		check_finding(k, "%llu entries of the greylist, %llu times of them", (unsigned long long)rows,
			(unsigned long long)times);
	store_end_read(&k->txn);
	return err;
}

static void report_text(void *arg, const char *text)
{
	check_finding(arg, "%s", text);
}

/* ---- ACLs ---- */

static int check_acls(struct check *k)
{
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (err)
		return err;
	err = acl_check(k->txn, report_text, k);
	store_end_read(&k->txn);
	return err;
}

/* ---- numbers that only grow ---- */

static int check_number(struct check *k, const char *name, enum db_name db, bool is_wide, uint64_t beyond)
{
	char top[16];
	struct db_cursor c;
	uint64_t said = 0, found = 0;
	int err = db_meta_get(k->txn, name, &said);

	if (err == ERR_CORRUPT)
		said = 0;
	else if (err)
		return err;
	memset(top, 0xff, sizeof(top));
	err = db_cursor_open(k->txn, db, &c);
	if (err)
		return err;
	err = db_cursor_floor(&c, slice_of(top, sizeof(top)));
	if (!err && c.key.len >= 8)
		found = is_wide ? bytes_get_u64be(c.key.p) : bytes_get_u32be(c.key.p);
	db_cursor_close(&c);
	if (found && said < found + beyond)
		check_finding(k, "number %s is %llu, there is one of %llu", name, (unsigned long long)said,
			(unsigned long long)found);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int check_numbers(struct check *k)
{
	int err = store_begin_read(k->store, k->slot, &k->txn);

	if (err)
		return err;
	err = check_number(k, "last_account", DB_FOLDERS, false, 0);
	if (!err)
		err = check_number(k, "last_mailbox", DB_MESSAGES, false, 0);
	if (!err)
		err = check_number(k, "next_blob", DB_BLOBS, true, 1);
	if (!err)
		err = check_number(k, "last_queued", DB_QUEUE, true, 0);
	store_end_read(&k->txn);
	return err;
}

/* ---- for the repair ---- */

int check_slot_strays(struct store *store, unsigned slot, void (*report)(void *arg, const char *text),
	void *arg, uint64_t *errors_out)
{
	const struct store_check_options options = {.report = report, .arg = arg};
	struct check k = {.store = store, .slot = slot, .options = &options};
	int err = check_strays(&k);

	*errors_out = k.result.errors;
	return err;
}

/* ---- the whole ---- */

int store_check(struct store *store, const struct store_check_options *options, struct store_check *check_out)
{
	struct check k = {.store = store, .options = options};
	int err = 0;

	for (k.slot = 0; k.slot < store->slot_count && !err; k.slot++) {
		err = check_accounts(&k);
		if (!err)
			err = check_each_row(&k, DB_NAMES, CHECK_ROWS, check_a_name, NULL);
		if (!err)
			err = check_strays(&k);
		if (!err)
			err = check_blobs(&k);
		if (!err)
			err = check_pieces(&k);
		if (!err)
			err = check_marks(&k);
		if (!err)
			err = check_greylist(&k);
		if (!err)
			err = check_numbers(&k);
		if (!err)
			err = check_acls(&k);
		if (!err)
			err = queue_check(&k);
		if (err)
			break;
	}
	if (!err) {
		k.slot = 0;
		err = store_domain_check(store, report_text, &k);
	}
	buf_deinit(&k.kept);
	*check_out = k.result;
	return err;
}
