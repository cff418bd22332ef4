#include "backend/store/store_restore.h"

#include <stdlib.h>

#include "backend/store/import_body.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/transfer.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define STEP_ITEMS 50
#define STEP_BYTES ((size_t)256 << 10)
#define WALK_STEP 2000
/* Deleted messages of the mailbox that are known to be deleted; more of them would stay so, beside what comes back. */
#define KEPT_MAX 1000000

/* Messages of one likeness that the mailbox has and that the stream has not yet claimed. */
struct likeness {
	char key[8];
	uint32_t left;
};

/* A deleted message of the mailbox that could be undeleted, if nothing like it comes back. */
struct deleted {
	char key[8];
	uint32_t time, mailbox, uid;
	struct deleted *next; /* of the same likeness */
};

struct item {
	const struct deleted *deleted; /* that comes back with it; may be NULL */
	char *payload;
	size_t len;
	struct store_draft *draft;
};

struct store_restore {
	struct store_restore_options o;
	struct import_body body;
	struct arena arena;
	uint32_t number;  /* of the mailbox in the stream; 0: not seen */
	uint32_t mailbox; /* of ours; 0: not there yet */
	struct slice keywords[STORE_KEYWORDS_MAX];
	size_t keyword_count;
	struct table *present;
	struct table *deleted;
	size_t deleted_count;
	struct item items[STEP_ITEMS];
	size_t item_count, waiting;
	struct store_restore_totals totals;
};

struct store_restore *store_restore_new(const struct store_restore_options *options)
{
	struct store_restore *r = xcalloc(1, sizeof(*r));

	r->o = *options;
	import_body_init(&r->body, options->store, options->slot, options->write, options->write_arg);
	arena_init(&r->arena, 0);
	r->present = table_new();
	r->deleted = table_new();
	return r;
}

/* ---- what is there ---- */

/* What cannot be read is like nothing. */
static void make_key(uint64_t size, int64_t date, const struct store_texts *texts, char *key)
{
	struct slice envelope, structure;
	struct buf room = {0};
	uint64_t hash = 0;

	if (store_text_view(&texts->envelope, &room, &envelope) == 0)
		hash = hash_bytes(envelope, size);
	if (store_text_view(&texts->bodystructure, &room, &structure) == 0)
		hash = hash_bytes(structure, hash ^ (uint64_t)date);
	bytes_put_u64(key, hash);
	buf_deinit(&room);
}

static void note_present(struct store_restore *r, const struct store_message *m)
{
	struct likeness *l;
	char key[8];

	make_key(m->size, m->date, &m->texts, key);
	l = table_get(r->present, slice_of(key, sizeof(key)));
	if (!l) {
		l = arena_calloc(&r->arena, 1, sizeof(*l));
		if (!l)
			return;
		memcpy(l->key, key, sizeof(key));
		table_put(r->present, slice_of(l->key, sizeof(l->key)), l);
	}
	l->left++;
}

/* Some messages from *uid on; *uid 0: no more. */
static int look_on(struct store_restore *r, struct store_txn *txn, uint32_t *uid)
{
	struct store_scan scan;
	struct store_entry e;
	int err = store_scan_begin(&scan, txn, r->mailbox, *uid), n = 0;

	*uid = 0;
	if (err)
		return err;
	while (!err && store_scan_next(&scan, &e)) {
		struct store_message m;

		if (n++ == WALK_STEP) {
			*uid = e.uid;
			break;
		}
		err = store_message_get(txn, r->mailbox, e.uid, &m);
		if (!err)
			note_present(r, &m);
	}
	err = err ? err : scan.error;
	store_scan_end(&scan);
	return err;
}

static int look(struct store_restore *r)
{
	struct store_mailbox m;
	uint32_t uid = 1;
	int err = 0;

	while (!err && uid) {
		struct store_txn *txn;

		err = store_begin_read(r->o.store, r->o.slot, &txn);
		if (err)
			return err;
		err = r->mailbox ? 0 : store_mailbox_find(txn, r->o.account, r->o.to, &m);
		if (err == ERR_NOT_FOUND || (!err && !r->mailbox && m.noselect)) {
			store_end_read(&txn);
			return 0;
		}
		if (!err && !r->mailbox)
			r->mailbox = m.id;
		if (!err)
			err = look_on(r, txn, &uid);
		store_end_read(&txn);
	}
	return err;
}

struct looking {
	struct store_restore *r;
	struct store_txn *txn;
};

static void note_deleted(void *arg, const struct store_kept *kept)
{
	const struct looking *l = arg;
	struct store_restore *r = l->r;
	struct store_message m;
	struct deleted *d;

	if (r->deleted_count == KEPT_MAX || store_message_get(l->txn, kept->mailbox, kept->uid, &m))
		return;
	d = arena_calloc(&r->arena, 1, sizeof(*d));
	if (!d)
		return;
	d->time = (uint32_t)kept->deleted;
	d->mailbox = kept->mailbox;
	d->uid = kept->uid;
	make_key(m.size, m.date, &m.texts, d->key);
	d->next = table_remove(r->deleted, slice_of(d->key, sizeof(d->key)));
	table_put(r->deleted, slice_of(d->key, sizeof(d->key)), d);
	r->deleted_count++;
}

/* Under another name copies are made, and what was deleted has nothing to do with them. */
static int look_for_deleted(struct store_restore *r)
{
	struct store_kept_filter filter = {.mailbox = r->o.from};
	struct store_kept_at at = {0};
	bool is_done = !slice_is_equal(r->o.from, r->o.to);
	int err = 0;

	while (!err && !is_done) {
		struct looking l = {.r = r};

		err = store_begin_read(r->o.store, r->o.slot, &l.txn);
		if (err)
			return err;
		err = store_kept_list(
			l.txn, r->o.account, &filter, &at, WALK_STEP, note_deleted, &l, &is_done);
		store_end_read(&l.txn);
	}
	return err;
}

/* One that the message would be the double of. */
static const struct deleted *take_deleted(
	struct store_restore *r, const struct transfer_message *t, const struct store_draft *draft)
{
	struct deleted *d;
	char key[8];

	make_key(t->entry.size, t->entry.date, store_draft_texts(draft), key);
	d = table_remove(r->deleted, slice_of(key, sizeof(key)));
	if (d && d->next)
		table_put(r->deleted, slice_of(d->next->key, sizeof(d->next->key)), d->next);
	return d;
}

static bool is_present(
	struct store_restore *r, const struct transfer_message *t, const struct store_draft *draft)
{
	struct likeness *l;
	char key[8];

	make_key(t->entry.size, t->entry.date, store_draft_texts(draft), key);
	l = table_get(r->present, slice_of(key, sizeof(key)));
	if (!l || !l->left)
		return false;
	l->left--;
	return true;
}

/* ---- a step ---- */

static int make_mailbox(struct store_txn *txn, void *arg)
{
	struct store_restore *r = arg;
	uint32_t id;
	int err = store_mailbox_create(txn, r->o.account, r->o.to, STORE_USE_NONE, &id);

	if (!err)
		err = store_mailbox_subscribe(txn, r->o.account, r->o.to, true);
	if (!err)
		r->mailbox = id;
	return err;
}

static int apply_one(struct store_txn *txn, struct store_restore *r, const struct item *item)
{
	struct slice names[STORE_KEYWORDS_MAX];
	struct transfer_message t;
	struct store_append a = {.account = r->o.account,
		.mailbox = r->mailbox,
		.save_date = clock_wall_s(),
		.texts = store_draft_texts(item->draft),
		.ignore_quota = true};
	struct store_appended appended;
	size_t count = 0;
	int err = transfer_unpack_message(slice_of(item->payload, item->len), &t);

	if (err)
		return err;
	for (size_t i = 0; i < r->keyword_count; i++)
		if (t.entry.keywords >> i & 1)
			names[count++] = r->keywords[i];
	a.trace = t.trace;
	a.date = t.entry.date;
	a.flags = t.entry.flags & (uint8_t)~STORE_DELETED;
	if (count)
		err = store_mailbox_make_keywords(txn, r->o.account, r->mailbox, names, count, &a.keywords);
	if (!err)
		err = store_draft_finish(txn, item->draft, &a.blob);
	if (!err)
		err = store_message_append(txn, &a, &appended);
	if (err || !item->deleted)
		return err;
	return kept_release(
		txn, r->o.account, item->deleted->time, item->deleted->mailbox, item->deleted->uid);
}

static int apply(struct store_txn *txn, void *arg)
{
	struct store_restore *r = arg;
	int err = 0;

	FAULT("restore-step");
	for (size_t i = 0; i < r->item_count && !err; i++)
		err = apply_one(txn, r, &r->items[i]);
	return err;
}

static void clear(struct store_restore *r)
{
	for (size_t i = 0; i < r->item_count; i++) {
		free(r->items[i].payload);
		import_body_drop(&r->body, &r->items[i].draft);
	}
	r->item_count = 0;
	r->waiting = 0;
}

static int step(struct store_restore *r)
{
	int err = !r->item_count || r->mailbox ? 0 : import_body_write(&r->body, make_mailbox, r);

	if (!err && r->item_count)
		err = import_body_write(&r->body, apply, r);
	for (size_t i = 0; i < r->item_count && !err; i++) {
		store_draft_committed(r->items[i].draft);
		store_draft_free(&r->items[i].draft);
		r->totals.restored++;
	}
	clear(r);
	return err;
}

/* ---- records ---- */

static int take_mailbox(struct store_restore *r, struct slice payload)
{
	struct transfer_mailbox t;
	int err = transfer_unpack_mailbox(payload, &t);

	if (err || !slice_is_equal(t.folder.name, r->o.from) || t.folder.noselect || r->number)
		return err;
	r->number = t.number;
	r->totals.is_found = true;
	r->keyword_count = t.folder.keywords.count;
	for (size_t i = 0; i < r->keyword_count; i++)
		r->keywords[i] = arena_copy(&r->arena, t.folder.keywords.names[i]);
	err = look(r);
	return err ? err : look_for_deleted(r);
}

static int take_message(struct store_restore *r, struct slice payload)
{
	struct store_source source = {0};
	struct store_draft *draft = NULL;
	struct transfer_message t;
	int err = transfer_unpack_message(payload, &t);

	if (err || t.mailbox != r->number)
		return err;
	if (t.body_kind != TRANSFER_KEPT || !r->o.kept)
		return ERR_UNSUPPORTED;
	err = r->o.kept(r->o.kept_arg, t.body, t.body_size, t.body_sum, &source);
	if (!err)
		err = import_body_draft_of(&r->body, &source, &draft);
	if (err)
		return err;
	if (is_present(r, &t, draft)) {
		r->totals.present++;
		import_body_drop(&r->body, &draft);
		return 0;
	}
	r->items[r->item_count++] = (struct item){.deleted = take_deleted(r, &t, draft),
		.payload = xmemdup0(payload.p, payload.len),
		.len = payload.len,
		.draft = draft};
	r->waiting += store_draft_waiting(draft);
	r->totals.bytes += t.entry.size;
	return r->item_count == STEP_ITEMS || r->waiting >= STEP_BYTES ? step(r) : 0;
}

int store_restore_record(void *restore, uint16_t tag, struct slice payload)
{
	if (tag == STREAM_MAILBOX)
		return take_mailbox(restore, payload);
	return tag == STREAM_MESSAGE ? take_message(restore, payload) : 0;
}

int store_restore_finish(struct store_restore *r, struct store_restore_totals *totals_out)
{
	int err = step(r);

	if (!err && r->number && !r->mailbox) /* it was empty */
		err = import_body_write(&r->body, make_mailbox, r);
	*totals_out = r->totals;
	return err;
}

void store_restore_free(struct store_restore **restore)
{
	struct store_restore *r = *restore;

	if (!r)
		return;
	clear(r);
	import_body_deinit(&r->body);
	table_free(&r->present);
	table_free(&r->deleted);
	arena_deinit(&r->arena);
	free(r);
	*restore = NULL;
}
