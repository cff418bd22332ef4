/*
 * What changes messages. Each operation: read the counters of account and mailbox, change index and records,
 * log one change under the next MODSEQ, write the counters back. So counters, quota and log agree in every
 * snapshot.
 */
#include "backend/store/store_message.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/acl.h"
#include "backend/store/blob.h"
#include "backend/store/change.h"
#include "backend/store/chunk.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/message.h"
#include "backend/store/names.h"
#include "backend/store/quota.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"

static int get_counters(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct counters *c)
{
	struct folder_record folder;
	int err = state_get_mailbox(txn, account, mailbox, &c->mailbox);

	if (err == ERR_NOT_FOUND && mailbox_get_folder(txn, account, mailbox, &folder) == 0)
		return ERR_DENIED; /* \Noselect */
	return err ? err : state_get_account(txn, account, &c->account);
}

static int put_counters(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct counters *c)
{
	int err;

	c->mailbox.modseq = c->account.modseq;
	err = state_put_mailbox(txn, account, mailbox, &c->mailbox);
	return err ? err : state_put_account(txn, account, &c->account);
}

/* ---- append ---- */

static int check_quota(struct store_txn *txn, uint32_t account, const struct account_state *s, uint64_t bytes,
	uint64_t count)
{
	struct db_key key = db_key_u32(account);
	struct account_record r;
	struct slice value;
	uint64_t sum, bytes_limit, count_limit;
	int err = db_get(txn, DB_ACCOUNTS, db_key_view(&key), &value);

	if (!err)
		err = record_unpack_account(value, &r);
	if (err)
		return err;
	names_limits(txn->slot->store->names, &r, &bytes_limit, &count_limit);
	if (bytes_limit && (!num_add_u64(s->bytes, bytes, &sum) || sum > bytes_limit))
		return ERR_TOO_BIG;
	if (count_limit && s->count + count > count_limit)
		return ERR_TOO_BIG;
	return 0;
}

static void count_in(struct counters *c, const struct store_entry *e)
{
	c->account.bytes += e->size;
	c->account.count++;
	c->mailbox.size += e->size;
	c->mailbox.messages++;
	c->mailbox.unseen += !(e->flags & STORE_SEEN);
	c->mailbox.deleted += (e->flags & STORE_DELETED) != 0;
}

static void count_out(struct counters *c, const struct store_entry *e)
{
	c->account.bytes -= e->size;
	c->account.count--;
	c->mailbox.size -= e->size;
	c->mailbox.messages--;
	c->mailbox.unseen -= !(e->flags & STORE_SEEN);
	c->mailbox.deleted -= (e->flags & STORE_DELETED) != 0;
}

static int put_message(struct store_txn *txn, uint32_t mailbox, uint32_t uid, const struct store_message *m)
{
	struct db_key key = db_key_u32_u32(mailbox, uid);
	void *room;
	int err = db_reserve(txn, DB_MESSAGES, db_key_view(&key), record_message_size(m), &room);

	if (!err)
		record_pack_message(m, room);
	return err;
}

/* Puts a message behind all others of the mailbox: record and counters. */
static int add_record(struct store_txn *txn, uint32_t mailbox, struct counters *c, struct store_entry *e,
	const struct store_message *m)
{
	struct store_message stored = *m;
	int err;

	if (c->mailbox.uidnext == UINT32_MAX)
		return ERR_TOO_BIG;
	e->uid = c->mailbox.uidnext++;
	stored.uidvalidity = c->mailbox.uidvalidity;
	err = put_message(txn, mailbox, e->uid, &stored);
	count_in(c, e);
	return err;
}

/* The same, and the index; log and blob reference are the caller's. */
static int add_message(struct store_txn *txn, uint32_t mailbox, struct counters *c, struct store_entry *e,
	const struct store_message *m)
{
	int err = add_record(txn, mailbox, c, e, m);

	return err ? err : chunk_append(txn, mailbox, e, 1);
}

int store_message_append(
	struct store_txn *txn, const struct store_append *a, struct store_appended *appended_out)
{
	struct counters c;
	struct store_entry e = {
		.flags = a->flags & STORE_FLAGS_ALL, .keywords = a->keywords, .date = a->date};
	struct store_message m = {.blob = a->blob,
		.date = a->date,
		.save_date = a->save_date,
		.trace = a->trace,
		.uidl = a->uidl,
		.texts = *a->texts};
	const bool is_seen = true;
	uint64_t size;
	int err = get_counters(txn, a->account, a->mailbox, &c);

	if (err)
		return err;
	if (a->trace.len > STORE_TRACE_MAX || a->uidl.len > STORE_UIDL_MAX)
		return ERR_TOO_BIG;
	err = blob_size(txn, a->blob, &size);
	if (err)
		return err;
	size += a->trace.len;
	if (!a->ignore_quota)
		err = check_quota(txn, a->account, &c.account, size, 1);
	if (!err && !a->ignore_quota)
		err = quota_check(txn, a->account, a->mailbox, &c.mailbox, 0, size, 1);
	if (err)
		return err;
	e.size = (uint32_t)size;
	e.modseq = c.account.modseq + 1;
	if (a->who)
		e.flags &= (uint8_t)~STORE_SEEN;
	m.size = size;
	m.email = a->email ? a->email : e.modseq;
	err = add_message(txn, a->mailbox, &c, &e, &m);
	if (!err)
		err = blob_add_ref(txn, a->blob, &size);
	if (!err)
		err = change_log_one(txn, a->account, &c.account, CHANGE_ADDED, a->mailbox, e.uid);
	if (!err)
		err = put_counters(txn, a->account, a->mailbox, &c);
	if (!err && a->who && a->flags & STORE_SEEN)
		err = seen_put(txn, a->mailbox, *a->who, &e.uid, &is_seen, 1, e.modseq);
	if (err)
		return err;
	*appended_out = (struct store_appended){e.uid, c.mailbox.uidvalidity, e.modseq};
	return 0;
}

/* ---- changing entries in place ---- */

/*
 * Walks the given UIDs (ascending) through the chunks of a mailbox; `edit` sees each entry that is there and
 * says what becomes of it.
 */
enum edit {
	EDIT_KEEP,
	EDIT_CHANGED,
	EDIT_REMOVE
};
typedef enum edit edit_fn(void *arg, struct store_entry *e);

/* Edits within one unpacked chunk; *at moves behind the UIDs that lie in it or in gaps. */
static bool edit_chunk(struct chunk *chunk, uint32_t limit, const uint32_t *uids, size_t count, size_t *at,
	edit_fn *edit, void *arg)
{
	uint32_t to = 0;
	bool is_changed = false;

	for (uint32_t i = 0; i < chunk->count; i++) {
		struct store_entry e = chunk->entries[i];
		enum edit what = EDIT_KEEP;

		while (*at < count && uids[*at] < e.uid)
			++*at;
		if (*at < count && uids[*at] == e.uid) {
			++*at;
			what = edit(arg, &e);
		}
		is_changed |= what != EDIT_KEEP;
		if (what != EDIT_REMOVE)
			chunk->entries[to++] = e;
	}
	chunk->count = to;
	while (*at < count && uids[*at] < limit)
		++*at;
	return is_changed;
}

/* The lowest UID of the next chunk's key, or UINT32_MAX: everything below belongs to the present one. */
static int next_limit(struct db_cursor *c, uint32_t mailbox, uint32_t *limit_out)
{
	struct db_key prefix = db_key_u32(mailbox);
	int err = db_cursor_next(c);

	if (err && err != ERR_NOT_FOUND)
		return err;
	*limit_out = !err && db_cursor_has_prefix(c, db_key_view(&prefix)) ? bytes_get_u32be(c->key.p + 4)
									   : UINT32_MAX;
	return 0;
}

static int find_chunk(
	struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct chunk *chunk, uint32_t *limit)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = chunk_seek(&c, mailbox, uid);
	if (err == ERR_NOT_FOUND) {
		/* Below the first chunk. */
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (!err && !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			err = ERR_NOT_FOUND;
	}
	if (!err)
		err = chunk_unpack(&c, chunk);
	if (!err)
		err = next_limit(&c, mailbox, limit);
	db_cursor_close(&c);
	return err;
}

static int edit_entries(
	struct store_txn *txn, uint32_t mailbox, const uint32_t *uids, size_t count, edit_fn *edit, void *arg)
{
	struct chunk chunk;
	size_t at = 0;

	while (at < count) {
		size_t before = at;
		uint32_t limit = 0;
		int err = find_chunk(txn, mailbox, uids[at], &chunk, &limit);

		if (err)
			return err == ERR_NOT_FOUND ? 0 : err;
		if (edit_chunk(&chunk, limit, uids, count, &at, edit, arg))
			err = chunk_store(txn, &chunk);
		if (err)
			return err;
		if (at == before)
			at++; /* UINT32_MAX itself, which no message has */
	}
	return 0;
}

/* UIDs that were touched, for the log. */
struct touched {
	uint32_t *uids;
	size_t count;
};

static void touch(struct touched *t, uint32_t uid)
{
	t->uids[t->count++] = uid;
}

/* ---- flags ---- */

struct flag_edit {
	const struct store_flag_change *change;
	struct counters *c;
	struct touched touched;
	struct buf *failed;
	uint64_t modseq;
	uint64_t newest;
	/* with change->who */
	struct store_seen seen;
	uint32_t *seen_uids;
	bool *seen_flags;
	size_t seen_count;
	int err;
};

/* What the change makes of an entry. */
static void change_flags(const struct store_flag_change *ch, struct store_entry *e)
{
	struct store_entry before = *e;

	switch (ch->how) {
	case STORE_FLAGS_REPLACE:
		e->flags = ch->flags & STORE_FLAGS_ALL;
		e->keywords = ch->keywords;
		break;
	case STORE_FLAGS_ADD:
		e->flags |= ch->flags & STORE_FLAGS_ALL;
		e->keywords |= ch->keywords;
		break;
	case STORE_FLAGS_REMOVE:
		e->flags &= (uint8_t)~ch->flags;
		e->keywords &= ~ch->keywords;
		break;
	}
	e->flags = (uint8_t)((e->flags & ~ch->keep_flags) | (before.flags & ch->keep_flags));
	e->keywords = (e->keywords & ~ch->keep_keywords) | (before.keywords & ch->keep_keywords);
}

/* Of one who is not the owner: his \Seen stands elsewhere, and the owner's stays. */
static void put_seen_aside(
	struct flag_edit *f, const struct store_entry *owners, struct store_entry *e, uint8_t was)
{
	if ((e->flags ^ was) & STORE_SEEN) {
		f->seen_flags[f->seen_count] = e->flags & STORE_SEEN;
		f->seen_uids[f->seen_count++] = e->uid;
	}
	e->flags = (uint8_t)((e->flags & ~STORE_SEEN) | (owners->flags & STORE_SEEN));
}

static enum edit edit_flags(void *arg, struct store_entry *entry)
{
	struct flag_edit *f = arg;
	const struct store_flag_change *ch = f->change;
	struct store_entry e = *entry;
	uint64_t modseq;
	uint8_t was;
	bool is_mine = false;

	if (ch->who && f->err == 0)
		f->err = store_seen_apply(&f->seen, &e);
	if (f->err)
		return EDIT_KEEP;
	modseq = e.modseq;
	if (modseq > ch->unchanged_since) {
		if (f->failed)
			buf_add(f->failed, &e.uid, sizeof(e.uid));
		return EDIT_KEEP;
	}
	was = e.flags;
	change_flags(ch, &e);
	if (ch->who) {
		is_mine = (e.flags ^ was) & STORE_SEEN;
		put_seen_aside(f, entry, &e, was);
	}
	if (e.flags == entry->flags && e.keywords == entry->keywords) {
		if (is_mine && modseq > f->newest)
			f->newest = modseq;
		return EDIT_KEEP;
	}
	count_out(f->c, entry);
	count_in(f->c, &e);
	if (modseq > f->newest)
		f->newest = modseq;
	e.modseq = f->modseq;
	*entry = e;
	touch(&f->touched, e.uid);
	return EDIT_CHANGED;
}

static int begin_seen(struct store_txn *txn, uint32_t mailbox, size_t count, struct flag_edit *f)
{
	if (!f->change->who)
		return 0;
	f->seen_uids = xreallocarray(NULL, count + 1, sizeof(*f->seen_uids));
	f->seen_flags = xreallocarray(NULL, count + 1, sizeof(*f->seen_flags));
	return store_seen_begin(&f->seen, txn, mailbox, *f->change->who);
}

/* The owner's messages have not changed: it takes a MODSEQ of the account, not of the mailbox. */
static int end_seen(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct flag_edit *f)
{
	int err = 0;

	store_seen_end(&f->seen);
	if (f->seen_count) {
		err = seen_put(
			txn, mailbox, *f->change->who, f->seen_uids, f->seen_flags, f->seen_count, f->modseq);
		if (!err && !f->touched.count) {
			err = change_log(txn, account, &f->c->account, CHANGE_SEEN, mailbox, NULL, 0);
			if (!err)
				err = state_put_account(txn, account, &f->c->account);
		}
	}
	return err;
}

int store_message_flag(struct store_txn *txn, uint32_t account, uint32_t mailbox, const uint32_t *uids,
	size_t count, const struct store_flag_change *change, struct buf *failed_out, uint64_t *modseq_out)
{
	struct counters c;
	struct flag_edit f = {.change = change, .c = &c, .failed = failed_out};
	int err = get_counters(txn, account, mailbox, &c);

	if (err)
		return err;
	f.modseq = c.account.modseq + 1;
	f.touched.uids = xreallocarray(NULL, count + 1, sizeof(uint32_t));
	err = begin_seen(txn, mailbox, count, &f);
	if (!err)
		err = edit_entries(txn, mailbox, uids, count, edit_flags, &f);
	if (!err)
		err = f.err;
	if (!err)
		err = end_seen(txn, account, mailbox, &f);
	store_seen_end(&f.seen);
	if (!err && f.touched.count) {
		err = change_log(
			txn, account, &c.account, CHANGE_FLAGS, mailbox, f.touched.uids, f.touched.count);
		if (!err)
			err = put_counters(txn, account, mailbox, &c);
	}
	if (!err)
		*modseq_out = f.touched.count || f.seen_count ? f.modseq : 0;
	if (!err && change->newest_out)
		*change->newest_out = f.newest;
	free(f.touched.uids);
	free(f.seen_uids);
	free(f.seen_flags);
	return err;
}

/* ---- expunge ---- */

struct expunge_edit {
	struct counters *c;
	struct touched touched;
	struct kept_row *kept; /* as many as touched; NULL: they live on elsewhere */
	bool any;
};

static enum edit edit_expunge(void *arg, struct store_entry *e)
{
	struct expunge_edit *x = arg;

	if (!x->any && !(e->flags & STORE_DELETED))
		return EDIT_KEEP;
	count_out(x->c, e);
	if (x->kept)
		x->kept[x->touched.count] = (struct kept_row){
			.uid = e->uid, .size = e->size, .flags = e->flags, .keywords = e->keywords};
	touch(&x->touched, e->uid);
	return EDIT_REMOVE;
}

/* The row that tells the reaper of one. */
static int put_expunged(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t modseq,
	struct kept_row *row, uint32_t uid)
{
	struct db_key key = db_key_u32_u64_u32(mailbox, modseq, uid);
	char note[KEPT_NOTE];

	if (!row)
		return db_put(txn, DB_EXPUNGED, db_key_view(&key), slice_of(NULL, 0));
	row->account = account;
	row->time = (uint32_t)clock_wall_s();
	kept_pack_note(row, note);
	return db_put(txn, DB_EXPUNGED, db_key_view(&key), slice_of(note, sizeof(note)));
}

/* Takes the UIDs out of the index; rows in DB_EXPUNGED tell the reaper when their records may go. */
static int expunge(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct counters *c,
	const uint32_t *uids, size_t count, struct expunge_edit *x)
{
	uint64_t modseq = c->account.modseq + 1;
	int err;

	x->c = c;
	x->touched.uids = xreallocarray(NULL, count + 1, sizeof(uint32_t));
	err = edit_entries(txn, mailbox, uids, count, edit_expunge, x);
	for (size_t i = 0; i < x->touched.count && !err; i++)
		err = put_expunged(
			txn, account, mailbox, modseq, x->kept ? &x->kept[i] : NULL, x->touched.uids[i]);
	if (!err && x->touched.count) {
		err = change_log(txn, account, &c->account, CHANGE_EXPUNGED, mailbox, x->touched.uids,
			x->touched.count);
		txn->has_waste = true;
	}
	return err;
}

/* keep: for the retention; not what was moved. */
static int expunge_all(struct store_txn *txn, uint32_t account, uint32_t mailbox, const uint32_t *uids,
	size_t count, bool any, bool keep, struct buf *expunged_out, uint64_t *modseq_out)
{
	struct counters c;
	struct expunge_edit x = {.any = any};
	int err = get_counters(txn, account, mailbox, &c);

	if (err)
		return err;
	if (keep && kept_retention(txn, account))
		x.kept = xcalloc(count + 1, sizeof(*x.kept));
	err = expunge(txn, account, mailbox, &c, uids, count, &x);
	if (!err && x.touched.count)
		err = put_counters(txn, account, mailbox, &c);
	if (!err) {
		*modseq_out = x.touched.count ? c.account.modseq : 0;
		if (expunged_out)
			buf_add(expunged_out, x.touched.uids, x.touched.count * sizeof(uint32_t));
	}
	free(x.touched.uids);
	free(x.kept);
	return err;
}

int store_message_expunge(struct store_txn *txn, uint32_t account, uint32_t mailbox, const uint32_t *uids,
	size_t count, bool any, struct buf *expunged_out, uint64_t *modseq_out)
{
	return expunge_all(txn, account, mailbox, uids, count, any, true, expunged_out, modseq_out);
}

int message_remove_record(struct store_txn *txn, uint32_t mailbox, uint32_t uid)
{
	struct store_message m;
	struct db_key key = db_key_u32_u32(mailbox, uid);
	int err = store_message_get(txn, mailbox, uid, &m);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	err = db_drop(txn, DB_MESSAGES, db_key_view(&key));
	return err ? err : blob_drop_ref(txn, m.blob);
}

/* ---- messages that come back ---- */

int message_batch_begin(struct message_batch *b, struct store_txn *txn, uint32_t account, uint32_t mailbox)
{
	*b = (struct message_batch){.txn = txn, .account = account, .mailbox = mailbox};
	int err = get_counters(txn, account, mailbox, &b->c);

	b->modseq = b->c.account.modseq + 1;
	return err;
}

int message_batch_add(struct message_batch *b, struct store_entry *e, const struct store_message *m)
{
	int err = check_quota(b->txn, b->account, &b->c.account, e->size, 1);

	if (!err)
		err = quota_check(b->txn, b->account, b->mailbox, &b->c.mailbox, 0, e->size, 1);
	if (err)
		return err;
	e->modseq = b->modseq;
	err = add_message(b->txn, b->mailbox, &b->c, e, m);
	if (err)
		return db_fail(b->txn, err);
	if (b->count == b->room) {
		b->room = b->room ? b->room * 2 : 64;
		b->uids = xreallocarray(b->uids, b->room, sizeof(*b->uids));
	}
	b->uids[b->count++] = e->uid;
	return 0;
}

int message_batch_end(struct message_batch *b, int err)
{
	if (!err && b->count)
		err = change_log(
			b->txn, b->account, &b->c.account, CHANGE_ADDED, b->mailbox, b->uids, b->count);
	if (!err && b->count)
		err = put_counters(b->txn, b->account, b->mailbox, &b->c);
	free(b->uids);
	b->uids = NULL;
	b->count = b->room = 0;
	return err;
}

/* ---- copy and move ---- */

/* Entries between two wanted ones over which reading on is cheaper than looking up anew. */
#define COPY_GAP 500
/* Records are read together, then written: no cursor stands in a table that is written to. */
#define COPY_ROWS 100
#define COPY_BYTES (256u * 1024)

struct copy {
	struct store_txn *txn;
	uint32_t account, from, to;
	struct counters c;                /* of the target */
	uint64_t map[STORE_KEYWORDS_MAX]; /* bits of the target for each bit of the source */
	uint64_t modseq;
	struct touched added;
	struct buf *pairs;
	struct store_entry *entries; /* of the source, those of the target once they are written */
	size_t count;
	struct buf rows; /* records of entries from `at` on */
	size_t ends[COPY_ROWS];
	int64_t now;
};

/* Entries of the UIDs that are there. */
static int collect(struct copy *k, const uint32_t *uids, size_t count)
{
	struct store_scan scan = {0};
	struct store_entry e = {.uid = 0};
	int err = 0;

	k->entries = xcalloc(count + 1, sizeof(*k->entries));
	for (size_t i = 0; i < count && !err; i++) {
		if ((uids[i] > e.uid && uids[i] - e.uid > COPY_GAP) || !scan.cursor) {
			store_scan_end(&scan);
			err = store_scan_begin(&scan, k->txn, k->from, uids[i]);
			e.uid = 0;
		}
		while (!err && e.uid < uids[i])
			if (!store_scan_next(&scan, &e))
				e.uid = UINT32_MAX;
		if (!err)
			err = scan.error;
		if (!err && e.uid == uids[i])
			k->entries[k->count++] = e;
	}
	store_scan_end(&scan);
	return err;
}

/* Keywords used by the messages get their bits in the target. */
static int map_keywords(struct copy *k)
{
	char text[STORE_KEYWORD_LEN_MAX];
	struct store_keywords names;
	uint64_t used = 0;
	int err = 0;

	for (size_t i = 0; i < k->count; i++)
		used |= k->entries[i].keywords;
	for (unsigned bit = 0; used >> bit && !err && k->from != k->to; bit++) {
		if (!(used >> bit & 1))
			continue;
		/* Read anew: the last step may have written. */
		err = store_mailbox_keywords(k->txn, k->account, k->from, &names);
		if (!err && bit >= names.count)
			err = ERR_CORRUPT;
		if (err)
			return err;
		if (names.names[bit].len > sizeof(text))
			return ERR_CORRUPT;
		memcpy(text, names.names[bit].p, names.names[bit].len);
		err = store_mailbox_make_keywords(k->txn, k->account, k->to,
			&(struct slice){text, names.names[bit].len}, 1, &k->map[bit]);
		if (bit == 63)
			break;
	}
	for (unsigned bit = 0; k->from == k->to && bit < STORE_KEYWORDS_MAX; bit++)
		k->map[bit] = UINT64_C(1) << bit;
	return err;
}

static uint64_t mapped(const struct copy *k, uint64_t keywords)
{
	uint64_t bits = 0;

	for (unsigned bit = 0; bit < STORE_KEYWORDS_MAX; bit++)
		if (keywords >> bit & 1)
			bits |= k->map[bit];
	return bits;
}

/* Reads records of the entries from `at` on: how many. */
static int read_rows(struct copy *k, size_t at, size_t *count_out)
{
	struct db_cursor c;
	size_t n = 0;
	int err = db_cursor_open(k->txn, DB_MESSAGES, &c);

	if (err)
		return err;
	buf_clear(&k->rows);
	while (!err && n < COPY_ROWS && at + n < k->count && buf_len(&k->rows) < COPY_BYTES) {
		const struct store_entry *e = &k->entries[at + n];
		struct db_key key = db_key_u32_u32(k->from, e->uid);

		err = n && e->uid == e[-1].uid + 1 ? db_cursor_next(&c)
						   : db_cursor_seek(&c, db_key_view(&key));
		if (!err && !slice_is_equal(c.key, db_key_view(&key)))
			err = ERR_NOT_FOUND;
		if (!err) {
			buf_add_slice(&k->rows, c.value);
			k->ends[n++] = buf_len(&k->rows);
		}
	}
	db_cursor_close(&c);
	*count_out = n;
	return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

static int copy_one(struct copy *k, struct store_entry *e, struct slice row)
{
	struct store_message m;
	uint32_t old = e->uid;
	uint64_t size;
	int err = record_unpack_message(row, &m);

	if (err)
		return err;
	m.save_date = k->now;
	m.uidl = slice_of(NULL, 0);
	e->keywords = mapped(k, e->keywords);
	e->modseq = k->modseq;
	err = add_record(k->txn, k->to, &k->c, e, &m);
	if (!err)
		err = blob_add_ref(k->txn, m.blob, &size);
	if (err)
		return err;
	touch(&k->added, e->uid);
	if (k->pairs) {
		uint32_t pair[2] = {old, e->uid};

		buf_add(k->pairs, pair, sizeof(pair));
	}
	return 0;
}

static int copy_rows(struct copy *k)
{
	size_t n = 0;
	int err = 0;

	for (size_t at = 0; at < k->count && !err; at += n) {
		err = read_rows(k, at, &n);
		for (size_t i = 0; i < n && !err; i++) {
			size_t from = i ? k->ends[i - 1] : 0;

			err = copy_one(k, &k->entries[at + i],
				slice_sub(buf_view(&k->rows), from, k->ends[i] - from));
		}
	}
	return err ? err : chunk_append(k->txn, k->to, k->entries, k->count);
}

static int copy_all(struct copy *k, bool move)
{
	uint64_t bytes = 0;
	int err = map_keywords(k);

	k->now = clock_wall_s();
	for (size_t i = 0; i < k->count; i++)
		bytes += k->entries[i].size;
	if (!err)
		err = get_counters(k->txn, k->account, k->to, &k->c);
	if (!err && !move)
		err = check_quota(k->txn, k->account, &k->c.account, bytes, k->count);
	if (!err)
		err = quota_check(
			k->txn, k->account, k->to, &k->c.mailbox, move ? k->from : 0, bytes, k->count);
	if (err)
		return err;
	k->modseq = k->c.account.modseq + 1;
	k->added.uids = xreallocarray(NULL, k->count + 1, sizeof(uint32_t));
	err = copy_rows(k);
	if (!err)
		err = change_log(k->txn, k->account, &k->c.account, CHANGE_ADDED, k->to, k->added.uids,
			k->added.count);
	if (!err)
		err = put_counters(k->txn, k->account, k->to, &k->c);
	return err;
}

int store_message_copy(struct store_txn *txn, uint32_t account, uint32_t from, const uint32_t *uids,
	size_t count, uint32_t to, bool move, struct buf *pairs_out)
{
	struct copy k = {.txn = txn, .account = account, .from = from, .to = to, .pairs = pairs_out};
	struct counters c;
	uint64_t modseq;
	int err = get_counters(txn, account, from, &c);

	if (!err)
		err = get_counters(txn, account, to, &k.c);
	if (!err)
		err = collect(&k, uids, count);
	if (!err && k.count)
		err = copy_all(&k, move);
	if (!err && k.count && move)
		err = expunge_all(txn, account, from, uids, count, true, false, NULL, &modseq);
	free(k.entries);
	free(k.added.uids);
	buf_deinit(&k.rows);
	return err;
}
