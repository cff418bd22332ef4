/*
 *	hold all mailboxes -> one read transaction: account, names, index, log  -> records of these
 *	                  -> read transactions of STEP bytes: messages, bodies  -> records of these
 *	                  -> the same of deleted messages that are kept         -> records of these
 *	                                                                        -> records of the log
 *
 * Within a transaction records are gathered; given on they are after it, since the taker may wait for a slow pipe.
 */
#include "backend/store/store_export.h"

#include <stdlib.h>

#include "backend/store/acl.h"
#include "backend/store/blob.h"
#include "backend/store/export_kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/store_account.h"
#include "backend/store/transfer.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define STEP_BYTES (1u << 20)
#define STEP_MESSAGES 200
/* Names that change while we take hold of their mailboxes. */
#define HOLD_ROUNDS_MAX 20

struct folder {
	uint32_t id;
	size_t first, count; /* of its entries */
	bool noselect;
	bool has_seen; /* something that others have seen */
};

struct number {
	uint32_t id, number;
};

struct exporting {
	const struct store_export_options *o;
	struct store_export_totals totals;
	struct arena arena;
	uint32_t *held; /* sorted */
	size_t held_count;
	struct folder *folders; /* by number - 1; noselect ones have no entries */
	size_t folder_count;
	struct number *numbers; /* of them, by id */
	struct store_entry *entries;
	size_t entry_count, entry_room;
	struct buf changes; /* records as in `out` */
	struct buf out;     /* tag u16 | length u32 | payload, to be given on */
	struct table *sent; /* bodies that may come again */
	/* Where the next step begins. */
	size_t folder_at, entry_at;
	uint64_t body_at; /* within the body; the message's own record is out */
	bool in_body;
	struct export_kept_list kept;
	size_t kept_at;
	uint64_t kept_blob; /* of the one at hand, once it is begun; 0: it is not */
};

static void add_record(struct buf *out, uint16_t tag, struct slice payload)
{
	char head[6];

	bytes_put_u16(head, tag);
	bytes_put_u32(head + 2, (uint32_t)payload.len);
	buf_add(out, head, sizeof(head));
	buf_add_slice(out, payload);
}

static int give(struct exporting *x, struct buf *records)
{
	struct slice left = buf_view(records);
	int err = 0;

	while (!err && left.len) {
		uint16_t tag = bytes_get_u16(left.p);
		size_t len = bytes_get_u32(left.p + 2);

		err = x->o->record(x->o->record_arg, tag, slice_sub(left, 6, len));
		left = slice_from(left, 6 + len);
	}
	buf_clear(records);
	return err;
}

/* ---- holding ---- */

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static bool is_held(const struct exporting *x, uint32_t mailbox)
{
	return !x->o->hold ||
	       (x->held_count && bsearch(&mailbox, x->held, x->held_count, sizeof(*x->held), compare_ids));
}

/* Holds those of the list that are not held yet; how many there were. */
static size_t hold_missing(struct exporting *x, const struct store_mailbox *list, size_t count)
{
	uint32_t *more = xcalloc(count + 1, sizeof(*more));
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (list[i].id && !list[i].noselect && !is_held(x, list[i].id))
			more[n++] = list[i].id;
	x->held = xreallocarray(x->held, x->held_count + n + 1, sizeof(*x->held));
	for (size_t i = 0; i < n; i++) {
		x->o->hold(x->o->arg, more[i]);
		x->held[x->held_count++] = more[i];
	}
	if (n)
		qsort(x->held, x->held_count, sizeof(*x->held), compare_ids);
	free(more);
	return n;
}

/* ---- the state ---- */

static int take_account(struct exporting *x, struct store_txn *txn, struct transfer_account *a)
{
	struct db_key key = db_key_u32(x->o->account);
	struct account_state s;
	struct slice value;
	int err = db_get(txn, DB_ACCOUNTS, db_key_view(&key), &value);

	if (!err)
		err = record_unpack_account(value, &a->record);
	if (!err)
		err = state_get_account(txn, x->o->account, &s);
	if (err)
		return err;
	a->modseq = s.modseq;
	a->change_low = s.change_low;
	a->uidvalidity = s.uidvalidity;
	a->mailboxes = s.mailboxes;
	a->messages = s.count;
	a->bytes = s.bytes;
	x->totals = (struct store_export_totals){
		.mailboxes = s.mailboxes, .messages = s.count, .bytes = s.bytes, .modseq = s.modseq};
	return s.count > STORE_EXPORT_MESSAGES_MAX ? ERR_TOO_BIG : 0;
}

static int put_account(struct exporting *x, struct store_txn *txn)
{
	struct transfer_account a = {0};
	struct buf payload = {0};
	struct slice *aliases;
	size_t count;
	int err = take_account(x, txn, &a);

	if (!err)
		err = store_account_aliases(txn, x->o->account, &x->arena, &aliases, &count);
	if (err)
		return err;
	transfer_pack_account(&a, &payload);
	add_record(&x->out, STREAM_ACCOUNT, buf_view(&payload));
	for (size_t i = 0; i < count; i++)
		add_record(&x->out, STREAM_ALIAS, aliases[i]);
	buf_deinit(&payload);
	return 0;
}

static int take_entries(struct exporting *x, struct store_txn *txn, struct folder *f)
{
	struct store_scan scan;
	struct store_entry e;
	int err = store_scan_begin(&scan, txn, f->id, 0);

	f->first = x->entry_count;
	if (err)
		return err;
	while (store_scan_next(&scan, &e)) {
		if (x->entry_count == x->entry_room) {
			x->entry_room = x->entry_room ? x->entry_room * 2 : 1024;
			x->entries = xreallocarray(x->entries, x->entry_room, sizeof(*x->entries));
		}
		x->entries[x->entry_count++] = e;
	}
	f->count = x->entry_count - f->first;
	err = scan.error;
	store_scan_end(&scan);
	return err;
}

static int put_mailbox(struct exporting *x, struct store_txn *txn, const struct store_mailbox *m)
{
	struct folder *f = &x->folders[x->folder_count++];
	struct transfer_mailbox t = {.number = (uint32_t)x->folder_count, .subscribed = m->subscribed};
	struct buf payload = {0};
	int err = mailbox_get_folder(txn, x->o->account, m->id, &t.folder);

	*f = (struct folder){.id = m->id, .noselect = m->noselect};
	if (!err && !t.folder.noselect) {
		err = state_get_mailbox(txn, x->o->account, m->id, &t.state);
		if (!err)
			err = take_entries(x, txn, f);
		if (!err)
			err = seen_has(txn, m->id, &f->has_seen);
	}
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	transfer_pack_mailbox(&t, &payload);
	add_record(&x->out, STREAM_MAILBOX, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

/* The number of a mailbox id in the stream; 0: it is no more. */
static uint32_t number_of(const struct exporting *x, uint32_t id)
{
	const struct number *n =
		x->folder_count ? bsearch(&id, x->numbers, x->folder_count, sizeof(*x->numbers), compare_ids)
				: NULL;

	return n ? n->number : 0;
}

static void sort_numbers(struct exporting *x)
{
	x->numbers = xcalloc(x->folder_count + 1, sizeof(*x->numbers));
	for (size_t i = 0; i < x->folder_count; i++)
		x->numbers[i] = (struct number){x->folders[i].id, (uint32_t)i + 1};
	qsort(x->numbers, x->folder_count, sizeof(*x->numbers), compare_ids);
}

static enum transfer_owner owner_of(const struct exporting *x, uint64_t user)
{
	if (user == STORE_METADATA_SHARED)
		return TRANSFER_EVERYBODY;
	return user == store_metadata_user(x->o->slot, x->o->account) ? TRANSFER_OWN : TRANSFER_OTHER;
}

static int put_metadata(void *arg, uint32_t mailbox, uint64_t user, struct slice name, struct slice value)
{
	struct exporting *x = arg;
	struct transfer_metadata t = {.mailbox = mailbox ? number_of(x, mailbox) : 0,
		.owner = owner_of(x, user),
		.name = name,
		.value = value};
	struct store_account other;
	struct buf payload = {0};

	if (mailbox && !t.mailbox)
		return 0; /* of a deleted one, on its way out */
	if (t.owner == TRANSFER_OTHER) {
		if (store_get_account(x->o->store, (unsigned)(user >> 32) - 1, (uint32_t)user, &other))
			return 0; /* of an account that is no more */
		t.other = (struct transfer_person){slice_str(other.address), other.created};
	}
	transfer_pack_metadata(&t, &payload);
	add_record(&x->out, STREAM_METADATA, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

static int put_acl(struct exporting *x, struct store_txn *txn, uint32_t number, uint32_t mailbox)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct buf payload = {0};
	size_t count = 0;
	int err = store_acl_get(txn, x->o->account, mailbox, entries, &count);

	for (size_t i = 0; i < count && !err; i++) {
		const struct store_who *who = &entries[i].who;
		struct transfer_acl t = {
			.mailbox = number, .rights = entries[i].rights, .denied = entries[i].denied};
		struct store_account other;

		if (who->account) {
			if (store_get_account(x->o->store, who->slot, who->account, &other))
				continue; /* of an account that is no more */
			t.who = (struct transfer_person){slice_str(other.address), other.created};
		}
		buf_clear(&payload);
		transfer_pack_acl(&t, &payload);
		add_record(&x->out, STREAM_ACL, buf_view(&payload));
	}
	buf_deinit(&payload);
	return err;
}

static int put_quota(void *arg, uint32_t mailbox, struct slice name, const struct store_quota *limits)
{
	struct exporting *x = arg;
	struct transfer_quota t = {mailbox ? number_of(x, mailbox) : 0, *limits};
	struct buf payload = {0};

	(void)name;
	if (mailbox && !t.mailbox)
		return 0;
	transfer_pack_quota(&t, &payload);
	add_record(&x->out, STREAM_QUOTA, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

static int put_changes(struct exporting *x, struct store_txn *txn)
{
	struct db_key prefix = db_key_u32(x->o->account);
	struct buf payload = {0};
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_CHANGES, &c);

	if (!err) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
			struct transfer_change t;

			if (c.key.len != 12 || c.value.len < 5) {
				err = ERR_CORRUPT;
				break;
			}
			t = (struct transfer_change){.modseq = bytes_get_u64be(c.key.p + 4),
				.mailbox = number_of(x, bytes_get_u32(c.value.p + 1)),
				.kind = (enum change_kind)c.value.p[0],
				.rest = slice_from(c.value, 5)};
			if (t.kind == CHANGE_METADATA && t.rest.len >= 8) {
				t.owner = owner_of(x, bytes_get_u64(t.rest.p));
				t.rest = slice_from(t.rest, 8);
			}
			buf_clear(&payload);
			transfer_pack_change(&t, &payload);
			add_record(&x->changes, STREAM_CHANGE, buf_view(&payload));
			err = db_cursor_next(&c);
		}
		db_cursor_close(&c);
	}
	buf_deinit(&payload);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Of a mailbox that can have messages; 0: it is no more. */
static uint32_t number_of_live(const void *exporting, uint32_t id)
{
	const struct exporting *x = exporting;
	uint32_t number = number_of(x, id);

	return number && !x->folders[number - 1].noselect ? number : 0;
}

static int put_gone(void *arg, const struct transfer_gone *gone)
{
	struct exporting *x = arg;
	struct buf payload = {0};

	transfer_pack_gone(gone, &payload);
	add_record(&x->out, STREAM_GONE, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

/* What can be undeleted: its sums, and the mailboxes that are gone. */
static int put_kept(struct exporting *x, struct store_txn *txn)
{
	struct buf payload = {0};
	int err = export_kept_take(txn, x->o->account, number_of_live, x, &x->kept);

	if (err || !x->kept.count)
		return err;
	transfer_pack_kept_sum(&(struct transfer_kept_sum){x->kept.count, x->kept.bytes}, &payload);
	add_record(&x->out, STREAM_KEPT_SUM, buf_view(&payload));
	buf_deinit(&payload);
	return export_kept_number(txn, x->o->account, (uint32_t)x->folder_count + 1, &x->kept, put_gone, x);
}

static int take_state(
	struct exporting *x, struct store_txn *txn, const struct store_mailbox *list, size_t count)
{
	int err = put_account(x, txn);

	x->folders = xcalloc(count + 1, sizeof(*x->folders));
	for (size_t i = 0; i < count && !err; i++) {
		if (list[i].id)
			err = put_mailbox(x, txn, &list[i]);
		else
			add_record(&x->out, STREAM_SUBSCRIPTION, list[i].name);
	}
	sort_numbers(x);
	if (!err)
		err = store_metadata_all(txn, x->o->account, put_metadata, x);
	for (size_t i = 0; i < x->folder_count && !err; i++)
		err = put_acl(x, txn, (uint32_t)i + 1, x->folders[i].id);
	if (!err)
		err = store_quota_each(txn, x->o->account, put_quota, x);
	if (!err)
		err = put_kept(x, txn);
	return err ? err : put_changes(x, txn);
}

/* Takes the state in a transaction in which every mailbox was held before it began. */
static int begin(struct exporting *x)
{
	for (int round = 0; round < HOLD_ROUNDS_MAX; round++) {
		struct store_mailbox *list = NULL;
		struct store_txn *txn;
		size_t count = 0;
		bool all_held = true;
		int err = store_begin_read(x->o->store, x->o->slot, &txn);

		if (err)
			return err;
		arena_reset(&x->arena);
		err = store_mailbox_list(txn, x->o->account, &x->arena, &list, &count);
		for (size_t i = 0; i < count && !err && all_held; i++)
			all_held = list[i].id == 0 || list[i].noselect || is_held(x, list[i].id);
		if (!err && all_held)
			err = take_state(x, txn, list, count);
		store_end_read(&txn);
		if (err || all_held)
			return err;
		hold_missing(x, list, count);
	}
	return ERR_NOT_NOW;
}

/* ---- messages ---- */

/* A body by its first sending may be referred to later, if others have it too. */
static bool was_sent(struct exporting *x, uint64_t blob, bool is_shared)
{
	struct db_key *key;

	if (!is_shared)
		return false;
	key = arena_alloc(&x->arena, sizeof(*key));
	if (!key)
		return false;
	*key = db_key_u64(blob);
	return table_get(x->sent, db_key_view(key)) || table_put(x->sent, db_key_view(key), key);
}

static int describe(
	struct exporting *x, struct store_txn *txn, const struct store_message *m, struct transfer_message *t)
{
	struct db_key key = db_key_u64(m->blob);
	struct blob_record r;
	struct slice value;
	uint32_t refs;
	int err = db_get(txn, DB_BLOBS, db_key_view(&key), &value);

	if (!err)
		err = record_unpack_blob(value, &r);
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	t->body = m->blob;
	t->body_size = r.size;
	err = blob_refs(txn, m->blob, &r, &refs);
	if (err)
		return err;
	t->is_shared = refs > 1;
	if (!x->o->keep) {
		t->body_kind = was_sent(x, m->blob, t->is_shared) ? TRANSFER_SAME : TRANSFER_FOLLOWS;
		return 0;
	}
	t->body_kind = TRANSFER_KEPT;
	return x->o->keep(x->o->arg, txn, m->blob, &t->body, &t->body_sum);
}

/* Completes the record that has mailbox and entry; *again_out: its body is not kept yet. uidl: room that it needs. */
static int fill_message(struct exporting *x, struct store_txn *txn, const struct store_message *m,
	struct transfer_message *t, char uidl[STORE_UIDL_MADE], bool *again_out)
{
	int err = describe(x, txn, m, t);

	*again_out = err == STORE_EXPORT_AGAIN;
	if (err)
		return err < 0 ? err : 0;
	t->save_date = m->save_date;
	/* Of one stored before there were EMAILIDs: its copies share the blob, so they share this; no MODSEQ is as high. */
	t->email = m->email ? m->email : UINT64_C(1) << 63 | m->blob;
	t->trace = m->trace;
	t->uidl = store_message_uidl(m, uidl);
	x->in_body = t->body_kind == TRANSFER_FOLLOWS && t->body_size;
	x->body_at = 0;
	return 0;
}

static int put_message(struct exporting *x, struct store_txn *txn, struct store_message *m, bool *again_out)
{
	const struct folder *f = &x->folders[x->folder_at];
	struct transfer_message t = {
		.mailbox = (uint32_t)x->folder_at + 1, .entry = x->entries[f->first + x->entry_at]};
	struct buf payload = {0};
	char uidl[STORE_UIDL_MADE];
	int err = store_message_get(txn, f->id, t.entry.uid, m);

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	err = fill_message(x, txn, m, &t, uidl, again_out);
	if (err || *again_out)
		return err;
	transfer_pack_message(&t, &payload);
	add_record(&x->out, STREAM_MESSAGE, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

static int put_body(struct exporting *x, struct store_txn *txn, uint64_t blob)
{
	char *room = xmalloc(STREAM_BODY_MAX);
	int err = 0;

	while (!err && x->in_body && buf_len(&x->out) < STEP_BYTES) {
		size_t n;

		err = blob_read(txn, blob, x->body_at, room, STREAM_BODY_MAX, &n);
		if (err)
			break;
		if (n)
			add_record(&x->out, STREAM_BODY, slice_of(room, n));
		x->body_at += n;
		x->in_body = n == STREAM_BODY_MAX;
	}
	free(room);
	return err;
}

static void next_message(struct exporting *x)
{
	x->entry_at++;
	while (x->folder_at < x->folder_count && x->entry_at >= x->folders[x->folder_at].count) {
		x->folder_at++;
		x->entry_at = 0;
	}
}

static int step_in(struct exporting *x, struct store_txn *txn)
{
	int err = 0;

	for (int n = 0;
		n < STEP_MESSAGES && !err && x->folder_at < x->folder_count && buf_len(&x->out) < STEP_BYTES;
		n++) {
		const struct folder *f = &x->folders[x->folder_at];
		struct store_message m;
		bool again = false;

		if (x->in_body)
			err = store_message_get(txn, f->id, x->entries[f->first + x->entry_at].uid, &m);
		else
			err = put_message(x, txn, &m, &again);
		if (!err && again)
			break;
		if (!err && x->in_body)
			err = put_body(x, txn, m.blob);
		if (!err && !x->in_body)
			next_message(x);
	}
	return err;
}

/* One step in a read transaction; what it gathered is given on after it. */
static int send_step(struct exporting *x, int (*step)(struct exporting *x, struct store_txn *txn))
{
	struct store_txn *txn;
	int err;

	if (x->o->is_cancelled && x->o->is_cancelled(x->o->arg))
		return ERR_CANCELLED;
	err = store_begin_read(x->o->store, x->o->slot, &txn);
	if (err)
		return err;
	err = step(x, txn);
	store_end_read(&txn);
	return err ? err : give(x, &x->out);
}

static int send_messages(struct exporting *x)
{
	int err = 0;

	if (x->folder_count && x->folders[0].count == 0)
		next_message(x);
	while (!err && x->folder_at < x->folder_count)
		err = send_step(x, step_in);
	return err;
}

/* ---- deleted messages: nothing holds them ---- */

/* The record of the one at hand. One that expired or was undeleted since is left out; amid its body it is too late for that. */
static int begin_kept(struct exporting *x, struct store_txn *txn, bool *again_out)
{
	const struct export_kept *k = &x->kept.rows[x->kept_at];
	struct transfer_kept t = {.time = k->row.time, .message.mailbox = k->number};
	struct buf payload = {0};
	struct store_message m;
	char uidl[STORE_UIDL_MADE];
	int err = store_message_get(txn, k->row.mailbox, k->row.uid, &m);

	if (err)
		return err != ERR_NOT_FOUND ? err : x->kept_blob ? ERR_NOT_NOW : 0;
	t.message.entry = (struct store_entry){.uid = k->row.uid,
		.modseq = k->row.modseq,
		.date = m.date,
		.keywords = k->row.keywords,
		.size = (uint32_t)m.size,
		.flags = k->row.flags};
	x->kept_blob = m.blob;
	err = fill_message(x, txn, &m, &t.message, uidl, again_out);
	if (err || *again_out)
		return err;
	transfer_pack_kept(&t, &payload);
	add_record(&x->out, STREAM_KEPT, buf_view(&payload));
	buf_deinit(&payload);
	x->totals.kept++;
	x->totals.kept_bytes += m.size;
	return 0;
}

static int kept_step(struct exporting *x, struct store_txn *txn)
{
	int err = 0;

	for (int n = 0;
		n < STEP_MESSAGES && !err && x->kept_at < x->kept.count && buf_len(&x->out) < STEP_BYTES;
		n++) {
		bool again = false;

		if (!x->in_body)
			err = begin_kept(x, txn, &again);
		if (!err && again)
			break;
		if (!err && x->in_body)
			err = put_body(x, txn, x->kept_blob);
		if (!err && !x->in_body) {
			x->kept_at++;
			x->kept_blob = 0;
		}
	}
	return err == ERR_NOT_FOUND ? ERR_NOT_NOW : err;
}

static int send_kept(struct exporting *x)
{
	int err = 0;

	while (!err && x->kept_at < x->kept.count)
		err = send_step(x, kept_step);
	return err;
}

/* ---- what others have seen ---- */

struct seeing {
	struct exporting *x;
	uint32_t number;
};

/* What was changed since the state was taken counts as of its last moment. */
static int put_seen(void *arg, struct store_who who, uint32_t block, struct slice row)
{
	struct seeing *s = arg;
	struct transfer_seen t = {.mailbox = s->number, .block = block};
	struct store_account other;
	struct buf payload = {0};
	char copy[SEEN_ROW_MAX];
	uint64_t highest;
	int err = seen_clamp(row, s->x->totals.modseq, copy, &highest);

	if (err || store_get_account(s->x->o->store, who.slot, who.account, &other))
		return 0; /* damaged, or of an account that is no more */
	t.who = (struct transfer_person){slice_str(other.address), other.created};
	t.row = slice_of(copy, row.len);
	transfer_pack_seen(&t, &payload);
	add_record(&s->x->out, STREAM_SEEN, buf_view(&payload));
	buf_deinit(&payload);
	return 0;
}

static int send_seen_of(struct exporting *x, uint32_t number)
{
	struct seeing s = {x, number};
	struct seen_at at = {0};
	bool is_done = false;
	int err = 0;

	while (!err && !is_done) {
		struct store_txn *txn;

		if (x->o->is_cancelled && x->o->is_cancelled(x->o->arg))
			return ERR_CANCELLED;
		err = store_begin_read(x->o->store, x->o->slot, &txn);
		if (err)
			return err;
		err = seen_each(txn, x->folders[number - 1].id, &at, STEP_MESSAGES, put_seen, &s, &is_done);
		store_end_read(&txn);
		if (!err)
			err = give(x, &x->out);
	}
	return err;
}

static int send_seen(struct exporting *x)
{
	int err = 0;

	for (size_t i = 0; i < x->folder_count && !err; i++)
		if (x->folders[i].has_seen)
			err = send_seen_of(x, (uint32_t)i + 1);
	return err;
}

int store_export(const struct store_export_options *options, struct store_export_totals *totals_out)
{
	struct exporting x = {.o = options, .sent = table_new()};
	int err;

	arena_init(&x.arena, 0);
	err = begin(&x);
	if (!err)
		err = give(&x, &x.out);
	if (!err)
		err = send_messages(&x);
	if (!err)
		err = send_kept(&x);
	if (!err)
		err = send_seen(&x);
	if (!err)
		err = give(&x, &x.changes);
	if (!err)
		*totals_out = x.totals;
	table_free(&x.sent);
	buf_deinit(&x.out);
	buf_deinit(&x.changes);
	arena_deinit(&x.arena);
	export_kept_free(&x.kept);
	free(x.entries);
	free(x.folders);
	free(x.numbers);
	free(x.held);
	return err;
}

int store_stream_account(struct slice payload, struct store_stream_account *out)
{
	struct transfer_account a;
	int err = transfer_unpack_account(payload, &a);

	if (!err)
		*out = (struct store_stream_account){
			a.record.address, a.modseq, a.messages, a.bytes, a.mailboxes};
	return err;
}

int store_stream_body(uint16_t tag, struct slice payload, struct store_stream_body *out)
{
	struct transfer_kept k;
	int err = tag == STREAM_MESSAGE ? transfer_unpack_message(payload, &k.message)
		  : tag == STREAM_KEPT  ? transfer_unpack_kept(payload, &k)
					: ERR_NOT_FOUND;

	if (!err)
		*out = (struct store_stream_body){k.message.body_kind == TRANSFER_KEPT, k.message.body,
			k.message.body_size, k.message.body_sum};
	return err;
}
