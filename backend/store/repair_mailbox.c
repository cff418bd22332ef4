/*
 * One mailbox: records, index, expunged rows and counters against each other. The records say what there is; the index is
 * made anew from them where it lacks something.
 *
 *	record    index    expunged, kept
 *	there     there    -                whole, once their numbers agree
 *	there     -        -                comes into the index again, as unseen, with a new MODSEQ
 *	there     -        there            deleted: stays so
 *	damaged   there    -                made anew from its body, if it still names it
 *	-         there    -                lost: told, left
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/store/blob.h"
#include "backend/store/change.h"
#include "backend/store/chunk.h"
#include "backend/store/repair.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

/* Where the versions of a message's record have what the repair looks for; record_message.c draws them. */
static const struct layout {
	size_t blob, size, date;
	bool is_size_long;        /* u64, not u32 */
	size_t texts, texts_last; /* where the trace may begin */
} layouts[] = {
	{.blob = 2, .size = 10, .date = 14, .texts = 32, .texts_last = 22 + 10 * 10 + 4},
	{.blob = 18, .size = 26, .date = 34, .is_size_long = true, .texts = 62, .texts_last = 62},
	{.blob = 18, .size = 26, .date = 34, .is_size_long = true, .texts = 50, .texts_last = 50},
};
/* A MODSEQ that none has: the entry is not written again. */
#define LEFT_OUT UINT64_MAX

struct uids {
	uint32_t *list;
	size_t count, room;
};

static void add_uid(struct uids *u, uint32_t uid)
{
	if (u->count == u->room)
		u->list = xreallocarray(u->list, u->room = u->room ? u->room * 2 : 64, sizeof(*u->list));
	u->list[u->count++] = uid;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static bool has_uid(const struct uids *u, uint32_t uid)
{
	return u->count && bsearch(&uid, u->list, u->count, sizeof(uid), compare_u32);
}

struct box {
	struct repair *r;
	uint32_t account, mailbox;
	struct account_state *s;
	struct mailbox_state state;
	struct store_entry *entries; /* of the index, ascending */
	size_t count, room;
	struct buf more;  /* entries that are missing */
	struct uids gone; /* expunged or kept: not of the index */
	struct uids back; /* came into the index again */
	bool is_rebuilt;  /* the index is to be written */
};

static void add_entry(struct box *b, const struct store_entry *e)
{
	if (b->count == b->room)
		b->entries =
			xreallocarray(b->entries, b->room = b->room ? b->room * 2 : 128, sizeof(*b->entries));
	b->entries[b->count++] = *e;
}

static int compare_entries(const void *a, const void *b)
{
	const struct store_entry *x = a, *y = b;

	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void name_box(struct box *b, uint32_t uid, struct buf *out)
{
	repair_name(b->r, b->account, b->mailbox, uid, out);
}

static void mended(struct box *b, uint32_t uid, const char *what)
{
	struct buf name = {0};

	name_box(b, uid, &name);
	repair_mended(b->r, "%s %s", what, buf_str_view(&name));
	buf_deinit(&name);
}

static void lost(struct box *b, uint32_t uid, const char *what)
{
	struct buf name = {0};

	name_box(b, uid, &name);
	repair_left(b->r, "%s %s", what, buf_str_view(&name));
	b->r->result.damaged++;
	b->r->has_losses = true;
	buf_deinit(&name);
}

int repair_has(struct store_txn *txn, enum db_name db, struct slice prefix, bool *has_out)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, db, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, prefix);
	*has_out = !err && db_cursor_has_prefix(&c, prefix);
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int repair_last_uid(struct store_txn *txn, uint32_t mailbox, uint32_t *uid_out)
{
	struct db_key last = db_key_u32_u32(mailbox, UINT32_MAX), prefix = db_key_u32(mailbox);
	struct db_cursor c;
	uint32_t count;
	int err = db_cursor_open(txn, DB_MESSAGES, &c);

	*uid_out = 0;
	if (err)
		return err;
	err = db_cursor_floor(&c, db_key_view(&last));
	if (!err && db_cursor_has_prefix(&c, db_key_view(&prefix)))
		*uid_out = bytes_get_u32be(c.key.p + 4);
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = db_cursor_open(txn, DB_INDEX, &c);
	if (err)
		return err;
	err = db_cursor_floor(&c, db_key_view(&last));
	if (!err && db_cursor_has_prefix(&c, db_key_view(&prefix)) && chunk_count(c.value, &count) == 0 &&
		chunk_uid(c.value.p, count - 1) > *uid_out)
		*uid_out = chunk_uid(c.value.p, count - 1);
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int repair_count(struct store_txn *txn, uint32_t mailbox, struct mailbox_state *sums)
{
	struct store_scan scan;
	struct store_entry e;
	int err = store_scan_begin(&scan, txn, mailbox, 0);

	sums->messages = sums->unseen = sums->deleted = 0;
	sums->size = 0;
	while (!err && store_scan_next(&scan, &e)) {
		sums->messages++;
		sums->unseen += !(e.flags & STORE_SEEN);
		sums->deleted += (e.flags & STORE_DELETED) != 0;
		sums->size += e.size;
	}
	if (!err)
		err = scan.error;
	store_scan_end(&scan);
	return err;
}

/* ---- what there is ---- */

/* All chunks that can be read; one that cannot makes the index be written anew. */
static int read_index(struct box *b)
{
	struct db_key prefix = db_key_u32(b->mailbox);
	struct db_cursor c;
	uint32_t last = 0;
	int err = db_cursor_open(b->r->txn, DB_INDEX, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		uint32_t count = 0;

		if (c.key.len != 8 || chunk_count(c.value, &count)) {
			b->is_rebuilt = true;
			b->r->has_losses = true; /* until the records have told all of it */
			mended(b, c.key.len == 8 ? bytes_get_u32be(c.key.p + 4) : 0,
				"part of an index could not be read, it is made anew from the records:");
			continue;
		}
		if (chunk_uid(c.value.p, 0) < bytes_get_u32be(c.key.p + 4))
			b->is_rebuilt = true;
		for (uint32_t i = 0; i < count; i++) {
			struct store_entry e;

			chunk_entry(c.value.p, count, i, &e);
			if (e.uid <= last)
				b->is_rebuilt = true;
			last = e.uid;
			if (e.uid && e.uid != UINT32_MAX)
				add_entry(b, &e);
		}
	}
	db_cursor_close(&c);
	if (b->is_rebuilt && b->count) {
		size_t to = 0;

		qsort(b->entries, b->count, sizeof(*b->entries), compare_entries);
		for (size_t i = 1; i < b->count; i++)
			if (b->entries[i].uid != b->entries[to].uid)
				b->entries[++to] = b->entries[i];
		b->count = to + 1;
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Rows of DB_EXPUNGED: those that say nothing readable, or whose record has gone, go. */
static int read_expunged(struct box *b)
{
	struct db_key prefix = db_key_u32(b->mailbox);
	struct store_txn *txn = b->r->txn;
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_EXPUNGED, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		struct slice value = {0};
		struct kept_row row;
		uint32_t uid = c.key.len == 16 ? bytes_get_u32be(c.key.p + 12) : 0;
		struct db_key key = db_key_u32_u32(b->mailbox, uid);
		int read = kept_unpack_note(c.key, c.value, &row);

		err = uid ? db_get(txn, DB_MESSAGES, db_key_view(&key), &value) : ERR_NOT_FOUND;
		if (err == ERR_NOT_FOUND || (read && read != ERR_NOT_FOUND)) {
			/* A deleted message whose note is damaged comes back rather than goes. */
			mended(b, uid, "a row of an expunged message said nothing, it goes:");
			err = db_cursor_delete(&c);
		} else if (!err) {
			add_uid(&b->gone, uid);
		}
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int read_kept(struct box *b)
{
	struct db_key prefix = db_key_u32(b->account);
	struct db_cursor c;
	int err = db_cursor_open(b->r->txn, DB_KEPT, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		struct kept_row row;

		if (kept_unpack(c.key, c.value, &row) == 0 && row.mailbox == b->mailbox)
			add_uid(&b->gone, row.uid);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- damaged records ---- */

struct body {
	struct store_txn *txn;
	uint64_t blob;
};

static ssize_t read_body(void *arg, uint64_t offset, void *out, size_t size)
{
	const struct body *body = arg;
	size_t n;
	int err = blob_read(body->txn, body->blob, offset, out, size, &n);

	return err ? err : (ssize_t)n;
}

/* Parses the body again. */
static int make_texts(struct store_txn *txn, uint64_t blob, uint64_t size, struct store_draft **draft_out)
{
	struct body body = {txn, blob};
	struct store_source source = {.read = read_body, .arg = &body, .size = size};
	struct store_press *press;
	bool done = false;
	int err = store_draft_new(&source, draft_out);

	if (err)
		return err;
	press = store_press_new();
	while (!err && !done) {
		err = store_draft_fill(*draft_out, press, &done);
		store_draft_skip(*draft_out);
	}
	store_press_free(&press);
	if (err)
		store_draft_free(draft_out);
	return err;
}

static bool is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Whole lines of the right length, as a trace is. */
static bool is_trace(struct slice s)
{
	if (s.len < 4 || !is_letter(s.p[0]) || s.p[s.len - 2] != '\r' || s.p[s.len - 1] != '\n' ||
		!memchr(s.p, ':', s.len))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] == '\0' || ((unsigned char)s.p[i] < ' ' && !memchr("\r\n\t", s.p[i], 3)))
			return false;
	return true;
}

/* The body that a damaged record still names: it fits the index in two numbers at least. ERR_NOT_FOUND. */
static int find_body_at(struct box *b, const struct store_entry *e, struct slice value,
	const struct layout *l, struct store_message *m)
{
	uint64_t size, said;
	int err;

	if (value.len < l->texts)
		return ERR_NOT_FOUND;
	m->blob = bytes_get_u64(value.p + l->blob);
	said = l->is_size_long ? bytes_get_u64(value.p + l->size) : bytes_get_u32(value.p + l->size);
	if (said != e->size && (int64_t)bytes_get_u64(value.p + l->date) != e->date)
		return ERR_NOT_FOUND;
	err = m->blob ? blob_size(b->r->txn, m->blob, &size) : ERR_NOT_FOUND;
	if (err)
		return err == ERR_CORRUPT ? ERR_NOT_FOUND : err;
	if (size > e->size || e->size - size > STORE_TRACE_MAX)
		return ERR_NOT_FOUND;
	m->size = e->size;
	m->trace = slice_of(NULL, 0);
	for (size_t at = l->texts; size < e->size && at <= l->texts_last && !m->trace.len; at++)
		if (is_trace(slice_sub(value, at, (size_t)(e->size - size))))
			m->trace = slice_sub(value, at, (size_t)(e->size - size));
	return m->trace.len == e->size - size ? 0 : ERR_NOT_FOUND;
}

static int find_body(struct box *b, const struct store_entry *e, struct slice value, struct store_message *m)
{
	int err = ERR_NOT_FOUND;

	for (size_t i = 0; i < ARRAY_LEN(layouts) && err == ERR_NOT_FOUND; i++)
		err = find_body_at(b, e, value, &layouts[i], m);
	return err;
}

/* A record that cannot be read is made anew from its body. ERR_NOT_FOUND: the body is not known. */
static int remake_record(struct box *b, const struct store_entry *e, struct slice value)
{
	struct db_key key = db_key_u32_u32(b->mailbox, e->uid);
	char *copy = xmemdup0(value.p, value.len);
	struct store_message m = {
		.uid = e->uid, .date = e->date, .save_date = e->date, .uidvalidity = b->state.uidvalidity};
	struct store_draft *draft = NULL;
	void *room;
	int err = find_body(b, e, slice_of(copy, value.len), &m);

	if (!err)
		err = make_texts(b->r->txn, m.blob, e->size - m.trace.len, &draft);
	if (!err) {
		m.texts = *store_draft_texts(draft);
		err = db_reserve(b->r->txn, DB_MESSAGES, db_key_view(&key), record_message_size(&m), &room);
	}
	if (!err)
		record_pack_message(&m, room);
	store_draft_free(&draft);
	free(copy);
	return err == ERR_CORRUPT ? ERR_NOT_FOUND : err;
}

/* ---- records against the index ---- */

/* The record is right: the index says the same. */
static void agree(struct box *b, struct store_entry *e, const struct store_message *m)
{
	if (e->size != m->size || e->date != m->date) {
		e->size = (uint32_t)m->size;
		e->date = m->date;
		b->is_rebuilt = true;
		mended(b, e->uid, "index and record did not agree, the record is right:");
	}
	if (e->modseq == 0 || e->modseq > b->s->modseq || e->modseq == LEFT_OUT) {
		/* The log cannot tell of it, so all clients hear of it anew. */
		add_uid(&b->back, e->uid);
		b->is_rebuilt = true;
		mended(b, e->uid, "a MODSEQ was beyond the account's, a new one is given:");
	}
}

/* e: its entry in the index, or NULL. */
static int check_record(struct box *b, uint32_t uid, struct store_entry *e, struct slice value)
{
	struct store_entry one = {.uid = uid};
	struct store_message m;
	int err = record_unpack_message(value, &m);

	if (!err && m.size > UINT32_MAX)
		err = ERR_CORRUPT;
	if (err && !e) {
		lost(b, uid, "a record cannot be read and the index does not know it:");
		return 0;
	}
	if (err) {
		err = remake_record(b, e, value);
		if (err == ERR_NOT_FOUND)
			lost(b, uid, "a record cannot be read, and its body is not known:");
		else if (!err)
			mended(b, uid, "a record could not be read, it is made anew from its body:");
		return err == ERR_NOT_FOUND ? 0 : err;
	}
	if (e) {
		agree(b, e, &m);
		return 0;
	}
	if (uid == 0 || uid == UINT32_MAX)
		return 0;
	one.size = (uint32_t)m.size;
	one.date = m.date;
	add_uid(&b->back, uid);
	buf_add(&b->more, &one, sizeof(one));
	b->is_rebuilt = true;
	mended(b, uid, "a message was missing in the index:");
	return 0;
}

/* It was expunged: the index should not have it. */
static void leave_out(struct box *b, struct store_entry *e)
{
	e->modseq = LEFT_OUT;
	b->is_rebuilt = true;
	mended(b, e->uid, "the index had an expunged message:");
}

/* The first record from this UID on; a cursor each, since records may be written. ERR_NOT_FOUND. */
static int next_record(struct box *b, uint32_t from, uint32_t *uid_out, struct slice *value_out)
{
	struct db_key key = db_key_u32_u32(b->mailbox, from), prefix = db_key_u32(b->mailbox);
	struct db_cursor c;
	int err = db_cursor_open(b->r->txn, DB_MESSAGES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	if (!err && (!db_cursor_has_prefix(&c, db_key_view(&prefix)) || c.key.len != 8))
		err = ERR_NOT_FOUND;
	if (!err) {
		*uid_out = bytes_get_u32be(c.key.p + 4);
		*value_out = c.value;
	}
	db_cursor_close(&c);
	return err;
}

/* Walks records and index together. */
static int check_records(struct box *b)
{
	size_t next = 0;
	uint32_t uid = 0;
	struct slice value;
	int err;

	while ((err = next_record(b, uid, &uid, &value)) == 0 && uid != UINT32_MAX) {
		struct store_entry *e;

		for (; next < b->count && b->entries[next].uid < uid; next++)
			lost(b, b->entries[next].uid, "a message has lost its record:");
		e = next < b->count && b->entries[next].uid == uid ? &b->entries[next++] : NULL;
		if (!has_uid(&b->gone, uid))
			err = check_record(b, uid, e, value);
		else if (e)
			leave_out(b, e);
		if (err)
			return err;
		uid++;
	}
	if (err && err != ERR_NOT_FOUND)
		return err;
	for (; next < b->count; next++)
		lost(b, b->entries[next].uid, "a message has lost its record:");
	for (size_t at = 0; at < buf_len(&b->more); at += sizeof(struct store_entry)) {
		struct store_entry e;

		memcpy(&e, buf_view(&b->more).p + at, sizeof(e));
		add_entry(b, &e);
	}
	return 0;
}

/* ---- writing ---- */

static int drop_index(struct box *b)
{
	struct db_key prefix = db_key_u32(b->mailbox);
	struct db_cursor c;
	int err = db_cursor_open(b->r->txn, DB_INDEX, &c);

	if (err)
		return err;
	for (;;) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		err = db_cursor_delete(&c);
		if (err)
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Those that came back get a new MODSEQ, which the log tells. */
static int write_index(struct box *b)
{
	uint64_t modseq = b->s->modseq + 1;
	int err = drop_index(b);

	qsort(b->entries, b->count, sizeof(*b->entries), compare_entries);
	if (b->back.count)
		qsort(b->back.list, b->back.count, sizeof(uint32_t), compare_u32);
	for (size_t i = 0; i < b->count && !err; i++) {
		struct store_entry *e = &b->entries[i];

		if (e->modseq == LEFT_OUT)
			continue;
		if (has_uid(&b->back, e->uid))
			e->modseq = modseq;
		err = chunk_append(b->r->txn, b->mailbox, e, 1);
	}
	FAULT("store-repair");
	if (!err && b->back.count)
		err = change_log(
			b->r->txn, b->account, b->s, CHANGE_FLAGS, b->mailbox, b->back.list, b->back.count);
	return err;
}

/* Counters that are lost: a new UIDVALIDITY, since nobody knows which UIDs were given. */
static int start_state(struct box *b)
{
	uint32_t now = (uint32_t)clock_wall_s(), last;
	int err = repair_last_uid(b->r->txn, b->mailbox, &last);

	if (err)
		return err;
	b->s->uidvalidity = now > b->s->uidvalidity ? now : b->s->uidvalidity + 1;
	b->state = (struct mailbox_state){
		.uidvalidity = b->s->uidvalidity, .uidnext = last + 1, .recent_from = last + 1};
	mended(b, 0, "counters were lost, they are made anew under a new UIDVALIDITY:");
	return change_log(b->r->txn, b->account, b->s, CHANGE_KEYWORDS, b->mailbox, NULL, 0);
}

static int finish(struct box *b, const struct mailbox_state *before)
{
	uint32_t last;
	int err = b->is_rebuilt ? write_index(b) : 0;

	if (!err)
		err = repair_count(b->r->txn, b->mailbox, &b->state);
	if (!err)
		err = repair_last_uid(b->r->txn, b->mailbox, &last);
	if (err)
		return err;
	if (last >= b->state.uidnext)
		b->state.uidnext = last + 1;
	if (b->state.recent_from > b->state.uidnext || b->state.recent_from == 0)
		b->state.recent_from = b->state.uidnext;
	if (b->back.count || b->state.modseq > b->s->modseq || b->state.modseq == 0)
		b->state.modseq = b->s->modseq;
	if (b->state.messages < before->messages)
		b->r->has_losses = true;
	if (memcmp(&b->state, before, sizeof(*before)) == 0)
		return 0;
	if (!b->is_rebuilt)
		mended(b, 0, "counters did not agree with the index:");
	return state_put_mailbox(b->r->txn, b->account, b->mailbox, &b->state);
}

int repair_mailbox(struct repair *r, uint32_t account, uint32_t mailbox, struct account_state *s)
{
	struct box b = {.r = r, .account = account, .mailbox = mailbox, .s = s};
	struct mailbox_state before = {0};
	int err = state_get_mailbox(r->txn, account, mailbox, &b.state);

	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
		err = start_state(&b);
	else
		before = b.state;
	if (!err)
		err = read_index(&b);
	if (!err)
		err = read_expunged(&b);
	if (!err)
		err = read_kept(&b);
	if (!err && b.gone.count)
		qsort(b.gone.list, b.gone.count, sizeof(uint32_t), compare_u32);
	if (!err)
		err = check_records(&b);
	if (!err)
		err = finish(&b, &before);
	buf_deinit(&b.more);
	free(b.entries);
	free(b.gone.list);
	free(b.back.list);
	return err;
}
