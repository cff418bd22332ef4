/*
 * Records are checked as they come, and queued; a step puts what is queued in one transaction:
 *
 *	STREAM_ACCOUNT       -> an id, counters, INTENT_IMPORT
 *	mailboxes, messages  -> rows under ids of this store; counters of what the step touched
 *	changes              -> rows of the log
 *	finish               -> record and names, the intent goes: the account is there
 *
 * What is checked when records come decides counters too, so that a step may run twice.
 */
#include "backend/store/store_import.h"

#include <stdlib.h>

#include "backend/store/account.h"
#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/import_body.h"
#include "backend/store/mailbox.h"
#include "backend/store/names.h"
#include "backend/store/store_account.h"
#include "backend/store/transfer.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define STEP_ITEMS 64
#define RIGHTS_STEP 100
#define STEP_BYTES ((size_t)256 << 10)
/* MODSEQs of a restored account go on above these of anything that was done since the backup. */
#define RESTORE_MODSEQ_SHIFT 20
#define LEGACY_EMAIL (UINT64_C(1) << 63)

struct item {
	uint16_t tag;
	char *payload; /* owned */
	size_t len;
	struct store_draft *draft; /* of a message whose body came with it */
};

struct imported {
	uint32_t id; /* once its row is written */
	struct mailbox_state state;
	uint64_t modseq; /* of the stream; state.modseq is ours */
	uint32_t messages;
	uint64_t size;
	uint32_t last_uid;
	uint32_t keyword_count;
	bool noselect;
	bool is_touched;
};

/* A body that later messages may share: the message of ours that has it. */
struct shared {
	struct db_key key;
	uint64_t blob; /* 0: queued, not written */
	uint64_t size;
	uint32_t mailbox, uid;
};

struct store_import {
	struct store_import_options o;
	struct import_body body;
	struct arena arena; /* names, shared */
	struct buf why;
	bool has_account, is_finished, is_claimed;
	bool replaces; /* this one: */
	unsigned old_slot;
	uint32_t old_account;
	uint32_t account; /* of ours; 0: none made */
	struct transfer_account header;
	struct account_state state;
	char address[STORE_ADDRESS_MAX];
	struct slice *aliases;
	size_t alias_count;
	struct table *names; /* of mailboxes -> struct imported, or only_subscribed */
	char only_subscribed;
	struct imported **mailboxes;
	uint32_t mailbox_count, mailbox_room;
	struct table *shared;
	struct item items[STEP_ITEMS];
	size_t item_count, waiting;
	bool has_open; /* the last item waits for its body */
	uint64_t next_change;
	struct transfer_quota quota; /* the last one */
	uint32_t quotas;
};

static int wrong(struct store_import *m, int err, const char *what)
{
	if (!buf_len(&m->why))
		buf_add_str(&m->why, what);
	return err;
}

struct store_import *store_import_new(const struct store_import_options *options)
{
	struct store_import *m = xcalloc(1, sizeof(*m));

	m->o = *options;
	import_body_init(&m->body, options->store, options->slot, options->write, options->write_arg);
	arena_init(&m->arena, 0);
	m->names = table_new();
	m->shared = table_new();
	return m;
}

const char *store_import_why(struct store_import *m)
{
	return buf_len(&m->why) ? buf_str_view(&m->why) : "";
}

/* ---- a step ---- */

static void items_clear(struct store_import *m)
{
	for (size_t i = 0; i < m->item_count; i++) {
		free(m->items[i].payload);
		import_body_drop(&m->body, &m->items[i].draft);
	}
	m->item_count = 0;
	m->waiting = 0;
	m->has_open = false;
}

static int apply_mailbox(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_mailbox t;
	int err = transfer_unpack_mailbox(payload, &t);

	if (err)
		return err;
	return mailbox_put_imported(txn, m->account, &t.folder, t.subscribed,
		&m->mailboxes[t.number - 1]->state, &m->mailboxes[t.number - 1]->id);
}

/* Blob and texts of a message: of its draft, or of the one that came before. copy_out: to be freed when the texts were used. */
static int find_body(struct store_txn *txn, struct store_import *m, const struct item *item,
	const struct transfer_message *t, struct store_message *out, char **copy_out)
{
	struct db_key key = db_key_u64(t->body), row;
	struct shared *s = table_get(m->shared, db_key_view(&key));
	struct store_message other;
	struct slice value;
	int err;

	*copy_out = NULL;
	if (item->draft) {
		out->texts = *store_draft_texts(item->draft);
		return store_draft_finish(txn, item->draft, &out->blob);
	}
	if (!s || !s->blob)
		return ERR_CORRUPT;
	row = db_key_u32_u32(s->mailbox, s->uid);
	err = db_get(txn, DB_MESSAGES, db_key_view(&row), &value);
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	/* Its page may be written to. */
	*copy_out = xmemdup0(value.p, value.len);
	err = record_unpack_message(slice_of(*copy_out, value.len), &other);
	out->texts = other.texts;
	out->blob = s->blob;
	return err;
}

static int put_message(
	struct store_txn *txn, uint32_t mailbox, struct store_entry *e, const struct store_message *r)
{
	struct db_key key = db_key_u32_u32(mailbox, e->uid);
	uint64_t size;
	void *room;
	int err = db_reserve(txn, DB_MESSAGES, db_key_view(&key), record_message_size(r), &room);

	if (err)
		return err;
	record_pack_message(r, room);
	err = chunk_append(txn, mailbox, e);
	return err ? err : blob_add_ref(txn, r->blob, &size);
}

static int apply_message(struct store_txn *txn, struct store_import *m, const struct item *item)
{
	struct transfer_message t;
	struct store_message r = {0};
	struct imported *box;
	struct shared *s;
	struct db_key key;
	char *copy;
	int err = transfer_unpack_message(slice_of(item->payload, item->len), &t);

	if (err)
		return err;
	box = m->mailboxes[t.mailbox - 1];
	err = find_body(txn, m, item, &t, &r, &copy);
	if (!err) {
		r.size = t.entry.size;
		r.date = t.entry.date;
		r.save_date = t.save_date;
		r.email = t.email;
		r.trace = t.trace;
		r.uidl = t.uidl;
		err = put_message(txn, box->id, &t.entry, &r);
	}
	free(copy);
	key = db_key_u64(t.body);
	s = item->draft && t.is_shared ? table_get(m->shared, db_key_view(&key)) : NULL;
	if (!err && s) {
		s->blob = r.blob;
		s->mailbox = box->id;
		s->uid = t.entry.uid;
	}
	box->is_touched = true;
	return err;
}

/* Another user's number in the log: nobody's here. */
static uint64_t user_of(const struct store_import *m, enum transfer_owner owner)
{
	if (owner == TRANSFER_OTHER)
		return UINT64_MAX;
	return owner == TRANSFER_OWN ? store_metadata_user(m->o.slot, m->account) : STORE_METADATA_SHARED;
}

/* Other users' entries come along if these are here. */
static int apply_metadata(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_metadata t;
	struct store_account other;
	uint64_t user;
	int err = transfer_unpack_metadata(payload, &t);

	if (err)
		return err;
	user = user_of(m, t.owner);
	if (t.owner == TRANSFER_OTHER) {
		if (store_find_account(m->o.store, t.address, &other))
			return 0;
		user = store_metadata_user(other.slot, other.id);
	}
	err = metadata_put_imported(
		txn, m->account, t.mailbox ? m->mailboxes[t.mailbox - 1]->id : 0, user, t.name, t.value);
	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

/* Accounts that are not here get no rights: sharing is within one back-end. */
static int apply_acl(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct store_acl_entry entry = {0};
	struct store_account other;
	struct transfer_acl t;
	int err = transfer_unpack_acl(payload, &t);

	if (err)
		return err;
	if (t.address.len) {
		if (store_find_account(m->o.store, t.address, &other))
			return 0;
		entry.who = (struct store_who){other.slot, other.id};
	}
	entry.rights = t.rights;
	entry.denied = t.denied;
	err = acl_put_imported(txn, m->account, m->mailboxes[t.mailbox - 1]->id, &entry);
	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

static int apply_seen(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct store_account other;
	struct transfer_seen t;
	int err = transfer_unpack_seen(payload, &t);

	if (err || store_find_account(m->o.store, t.address, &other))
		return err;
	return seen_put_imported(txn, m->mailboxes[t.mailbox - 1]->id,
		(struct store_who){other.slot, other.id}, t.block, t.row);
}

static int set_quota(struct store_txn *txn, struct store_import *m, const struct transfer_quota *t)
{
	int err = store_quota_set(
		txn, m->account, t->mailbox ? m->mailboxes[t->mailbox - 1]->id : 0, &t->limits);

	return err == ERR_TOO_BIG ? ERR_CORRUPT : err;
}

static int apply_quota(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct transfer_quota t;
	int err = transfer_unpack_quota(payload, &t);

	return err ? err : set_quota(txn, m, &t);
}

static int apply_change(struct store_txn *txn, struct store_import *m, struct slice payload)
{
	struct db_key key;
	struct transfer_change t;
	struct buf row = {0};
	char mailbox[4], user[8];
	int err = transfer_unpack_change(payload, &t);

	if (err)
		return err;
	key = db_key_u32_u64(m->account, t.modseq);
	bytes_put_u32(mailbox, t.mailbox ? m->mailboxes[t.mailbox - 1]->id : 0);
	buf_add_char(&row, (char)t.kind);
	buf_add(&row, mailbox, sizeof(mailbox));
	if (t.kind == CHANGE_METADATA) {
		bytes_put_u64(user, user_of(m, t.owner));
		buf_add(&row, user, sizeof(user));
	}
	buf_add_slice(&row, t.rest);
	err = db_put(txn, DB_CHANGES, db_key_view(&key), buf_view(&row));
	buf_deinit(&row);
	return err;
}

static int apply(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	int err = 0;

	FAULT("import-step");
	for (size_t i = 0; i < m->item_count && !err; i++) {
		const struct item *item = &m->items[i];
		struct slice payload = slice_of(item->payload, item->len);

		if (item->tag == STREAM_MAILBOX)
			err = apply_mailbox(txn, m, payload);
		else if (item->tag == STREAM_SUBSCRIPTION)
			err = mailbox_put_subscribed(txn, m->account, payload);
		else if (item->tag == STREAM_MESSAGE)
			err = apply_message(txn, m, item);
		else if (item->tag == STREAM_METADATA)
			err = apply_metadata(txn, m, payload);
		else if (item->tag == STREAM_ACL)
			err = apply_acl(txn, m, payload);
		else if (item->tag == STREAM_QUOTA)
			err = apply_quota(txn, m, payload);
		else if (item->tag == STREAM_SEEN)
			err = apply_seen(txn, m, payload);
		else
			err = apply_change(txn, m, payload);
	}
	for (uint32_t i = 0; i < m->mailbox_count && !err; i++) {
		struct imported *box = m->mailboxes[i];

		if (box->is_touched && !box->noselect)
			err = state_put_mailbox(txn, m->account, box->id, &box->state);
	}
	return err ? err : state_put_account(txn, m->account, &m->state);
}

static int step(struct store_import *m)
{
	int err = m->item_count ? import_body_write(&m->body, apply, m) : 0;

	for (size_t i = 0; i < m->item_count && !err; i++)
		if (m->items[i].draft) {
			store_draft_committed(m->items[i].draft);
			store_draft_free(&m->items[i].draft);
		}
	for (uint32_t i = 0; i < m->mailbox_count && m->item_count; i++)
		m->mailboxes[i]->is_touched = false;
	items_clear(m);
	return err;
}

/* Queues a copy of the payload. The item is the last one. */
static int queue(struct store_import *m, uint16_t tag, struct slice payload)
{
	int err = m->item_count == STEP_ITEMS || m->waiting >= STEP_BYTES ? step(m) : 0;

	if (err)
		return err;
	m->items[m->item_count++] =
		(struct item){.tag = tag, .payload = xmemdup0(payload.p, payload.len), .len = payload.len};
	m->waiting += payload.len;
	return 0;
}

/* ---- the account ---- */

static int begin(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	struct account_imported names = {.record = m->header.record,
		.replaces = m->replaces,
		.old_slot = m->old_slot,
		.old_account = m->old_account};
	uint32_t id;
	int err = account_check_names(txn, &names);

	if (!err)
		err = db_meta_next(txn, "last_account", &id);
	if (!err)
		err = mailbox_put_intent(txn, INTENT_IMPORT, id, 0, 0);
	if (!err)
		err = state_put_account(txn, id, &m->state);
	if (!err)
		m->account = id;
	return err;
}

/* The account that it replaces, by its own name and not by an alias. */
static int find_old(struct store_import *m, struct slice name)
{
	struct store_account old;
	int err = names_claim(m->o.store->names, name);

	if (err)
		return wrong(m, err, "an account of this name is on its way already");
	m->is_claimed = true;
	if (!m->o.replaces || store_find_account(m->o.store, name, &old) || !slice_is_str(name, old.address))
		return 0;
	m->replaces = true;
	m->old_slot = old.slot;
	m->old_account = old.id;
	return 0;
}

static bool is_text_good(struct slice s, size_t most)
{
	return s.len <= most && !slice_has_control(s) && slice_is_utf8(s);
}

static bool are_forwards_good(struct store_import *m, struct slice text)
{
	char room[STORE_ADDRESS_MAX];
	struct slice *list, name;
	size_t count = 0;

	if (text.len == 0)
		return true;
	if (store_account_split(text, &m->arena, &list, &count) || count > STORE_FORWARDS_MAX)
		return false;
	for (size_t i = 0; i < count; i++)
		if (names_normalise(list[i], room, &name) || !slice_is_equal(name, list[i]))
			return false;
	return true;
}

static bool is_record_good(struct store_import *m, const struct account_record *r)
{
	return is_text_good(r->password, STORE_PASSWORD_MAX) &&
	       is_text_good(r->name, STORE_ACCOUNT_NAME_MAX) &&
	       (r->class.len == 0 || store_class_is_name(r->class)) && are_forwards_good(m, r->forwards) &&
	       (r->flags & ~(uint32_t)STORE_ACCOUNT_OWN_FLAGS) == 0;
}

static int may_name(struct store_import *m, struct slice name, bool is_alias)
{
	return m->o.may_name ? m->o.may_name(m->o.names_arg, name, is_alias, &m->why) : 0;
}

static int take_account(struct store_import *m, struct slice payload)
{
	struct transfer_account *a = &m->header;
	uint64_t now = (uint64_t)clock_wall_s();
	struct slice name;
	int err;

	if (m->has_account)
		return wrong(m, ERR_CORRUPT, "two accounts in one stream");
	/* Its texts live as long as the import. */
	payload = arena_copy(&m->arena, payload);
	err = transfer_unpack_account(payload, a);
	if (!err && !is_record_good(m, &a->record))
		err = ERR_CORRUPT;
	if (!err)
		err = names_normalise(m->o.address.len ? m->o.address : a->record.address, m->address, &name);
	if (err)
		return wrong(m, err, "the account's record is wrong");
	a->record.address = name;
	m->state = (struct account_state){
		.modseq = a->modseq, .change_low = a->change_low, .uidvalidity = a->uidvalidity};
	m->state.change_rows = (uint32_t)(a->modseq - a->change_low);
	if (m->o.is_restore) {
		uint64_t above = now << RESTORE_MODSEQ_SHIFT;

		m->state.modseq = above > a->modseq ? above : a->modseq + 1;
		m->state.change_low = m->state.modseq;
		m->state.change_rows = 0;
	}
	m->next_change = a->change_low + 1;
	m->has_account = true;
	err = may_name(m, name, false);
	if (!err)
		err = find_old(m, name);
	if (!err)
		err = import_body_write(&m->body, begin, m);
	return err == ERR_EXISTS ? wrong(m, err, "the account exists already") : err;
}

static int take_alias(struct store_import *m, struct slice payload)
{
	char room[STORE_ADDRESS_MAX];
	struct slice name;

	if (m->o.address.len)
		return 0; /* another name: its aliases stay where they are */
	if (names_normalise(payload, room, &name) || m->alias_count == STORE_ALIASES_MAX ||
		slice_is_equal(name, m->header.record.address))
		return wrong(m, ERR_CORRUPT, "an alias is wrong");
	for (size_t i = 0; i < m->alias_count; i++)
		if (slice_is_equal(m->aliases[i], name))
			return wrong(m, ERR_CORRUPT, "an alias comes twice");
	m->aliases = xreallocarray(m->aliases, m->alias_count + 1, sizeof(*m->aliases));
	m->aliases[m->alias_count++] = arena_copy(&m->arena, name);
	return may_name(m, name, true);
}

/* ---- mailboxes ---- */

/* In its stored form, not taken; the copy is the arena's. */
static int take_name(struct store_import *m, struct slice name, struct slice *name_out)
{
	int err = store_mailbox_normalise(name, &m->arena, name_out);

	if (err || !slice_is_equal(name, *name_out))
		return wrong(m, ERR_CORRUPT, "a mailbox's name is wrong");
	if (table_get(m->names, *name_out))
		return wrong(m, ERR_CORRUPT, "a mailbox's name comes twice");
	return table_count(m->names) >= 2 * STORE_MAILBOXES_MAX ? wrong(m, ERR_TOO_BIG, "too many mailboxes")
								: 0;
}

/* Parents come before their children and are mailboxes. */
static bool has_parent(struct store_import *m, struct slice name)
{
	ptrdiff_t up = slice_find_last(name, STORE_SEPARATOR);
	void *parent = up > 0 ? table_get(m->names, slice_sub(name, 0, (size_t)up)) : NULL;

	return up <= 0 || (parent && parent != &m->only_subscribed);
}

static int take_mailbox(struct store_import *m, struct slice payload)
{
	struct transfer_mailbox t;
	struct imported *box;
	struct slice name;
	int err = transfer_unpack_mailbox(payload, &t);

	if (!err && (t.number != m->mailbox_count + 1 || m->mailbox_count == m->header.mailboxes ||
			    t.state.modseq > m->header.modseq || t.state.uidvalidity > m->header.uidvalidity))
		err = ERR_CORRUPT;
	for (uint32_t i = 0; i < m->mailbox_count && !err && !t.folder.noselect; i++)
		if (!m->mailboxes[i]->noselect && !m->o.is_restore &&
			m->mailboxes[i]->state.uidvalidity == t.state.uidvalidity)
			err = ERR_CORRUPT;
	if (err)
		return wrong(m, err, "a mailbox's record is wrong");
	err = take_name(m, t.folder.name, &name);
	if (err)
		return err;
	if (!has_parent(m, name))
		return wrong(m, ERR_CORRUPT, "a mailbox has no parent");
	box = xcalloc(1, sizeof(*box));
	*box = (struct imported){.state = t.state,
		.modseq = t.state.modseq,
		.messages = t.state.messages,
		.size = t.state.size,
		.keyword_count = (uint32_t)t.folder.keywords.count,
		.noselect = t.folder.noselect};
	box->state.messages = 0;
	box->state.size = 0;
	if (m->o.is_restore) {
		box->state.uidvalidity = mailbox_next_uidvalidity(&m->state);
		box->state.modseq = m->state.modseq;
	}
	if (m->mailbox_count == m->mailbox_room) {
		m->mailbox_room = m->mailbox_room ? m->mailbox_room * 2 : 64;
		m->mailboxes = xreallocarray(m->mailboxes, m->mailbox_room, sizeof(*m->mailboxes));
	}
	m->mailboxes[m->mailbox_count++] = box;
	m->state.mailboxes++;
	table_put(m->names, name, box);
	return queue(m, STREAM_MAILBOX, payload);
}

static int take_subscription(struct store_import *m, struct slice payload)
{
	struct slice name;
	int err = take_name(m, payload, &name);

	if (err)
		return err;
	table_put(m->names, name, &m->only_subscribed);
	return queue(m, STREAM_SUBSCRIPTION, payload);
}

/* ---- messages ---- */

static bool is_message_good(struct store_import *m, const struct transfer_message *t)
{
	const struct imported *box;

	if (t->mailbox == 0 || t->mailbox > m->mailbox_count)
		return false;
	box = m->mailboxes[t->mailbox - 1];
	return !box->noselect && t->entry.uid > box->last_uid && t->entry.uid < box->state.uidnext &&
	       t->entry.modseq <= box->modseq && box->state.messages < box->messages &&
	       (box->keyword_count == 64 || t->entry.keywords >> box->keyword_count == 0) && t->email != 0 &&
	       (t->email & LEGACY_EMAIL || t->email <= m->header.modseq);
}

static void count(struct store_import *m, struct imported *box, const struct store_entry *e)
{
	box->last_uid = e->uid;
	box->state.messages++;
	box->state.size += e->size;
	box->state.unseen += !(e->flags & STORE_SEEN);
	box->state.deleted += (e->flags & STORE_DELETED) != 0;
	m->state.count++;
	m->state.bytes += e->size;
}

/* The body of the last item is whole. */
static int close_body(struct store_import *m, int err, struct store_draft *draft)
{
	struct item *item = &m->items[m->item_count - 1];

	m->has_open = false;
	if (err)
		return err;
	item->draft = draft;
	m->waiting += store_draft_waiting(draft);
	return 0;
}

static int open_kept(struct store_import *m, const struct transfer_message *t)
{
	struct store_source source = {0};
	struct store_draft *draft = NULL;
	int err = m->o.kept ? m->o.kept(m->o.kept_arg, t->body, t->body_size, t->body_sum, &source)
			    : ERR_UNSUPPORTED;

	if (!err)
		err = import_body_draft_of(&m->body, &source, &draft);
	if (err)
		return wrong(m, err, "a message's body is not in the backup as it should be");
	return close_body(m, 0, draft);
}

/* A body of that number came before: the same bytes, not read again. */
static struct shared *find_shared(struct store_import *m, const struct transfer_message *t)
{
	struct db_key key = db_key_u64(t->body);

	return table_get(m->shared, db_key_view(&key));
}

static int remember_shared(struct store_import *m, const struct transfer_message *t)
{
	struct shared *s = arena_calloc(&m->arena, 1, sizeof(*s));

	if (!s)
		return ERR_TOO_BIG;
	s->key = db_key_u64(t->body);
	s->size = t->body_size;
	table_put(m->shared, db_key_view(&s->key), s);
	return 0;
}

static int take_message(struct store_import *m, struct slice payload)
{
	struct transfer_message t;
	struct shared *s;
	int err = transfer_unpack_message(payload, &t);

	if (err || !is_message_good(m, &t))
		return wrong(m, ERR_CORRUPT, "a message's record is wrong");
	s = find_shared(m, &t);
	if (t.body_kind == TRANSFER_SAME && !s)
		return wrong(m, ERR_CORRUPT, "a message has the body of one that did not come");
	if (s && (s->size != t.body_size || t.body_kind == TRANSFER_FOLLOWS))
		return wrong(m, ERR_CORRUPT, "a message's body is not the one that it names");
	err = queue(m, STREAM_MESSAGE, payload);
	if (err)
		return err;
	count(m, m->mailboxes[t.mailbox - 1], &t.entry);
	if (s)
		return 0;
	if (t.is_shared)
		err = remember_shared(m, &t);
	if (err)
		return err;
	m->has_open = true;
	if (t.body_kind == TRANSFER_KEPT)
		return open_kept(m, &t);
	import_body_begin(&m->body, t.body_size);
	if (t.body_size == 0) {
		struct store_draft *draft;

		err = import_body_draft(&m->body, &draft);
		return close_body(m, err, draft);
	}
	return 0;
}

static int take_body(struct store_import *m, struct slice payload)
{
	struct store_draft *draft;
	int err = payload.len ? import_body_add(&m->body, payload) : ERR_CORRUPT;

	if (err)
		return wrong(m, err, "a message's body is not as long as it should be");
	if (!import_body_is_whole(&m->body))
		return 0;
	err = import_body_draft(&m->body, &draft);
	return close_body(m, err, draft);
}

/* ---- the log ---- */

static int take_change(struct store_import *m, struct slice payload)
{
	struct transfer_change t;
	int err = transfer_unpack_change(payload, &t);

	if (!err &&
		(t.modseq != m->next_change || t.modseq > m->header.modseq || t.mailbox > m->mailbox_count))
		err = ERR_CORRUPT;
	if (!err && t.mailbox && t.kind <= CHANGE_EXPUNGED && t.rest.len) {
		uint32_t last = bytes_get_u32(t.rest.p + t.rest.len - 4);

		if (last >= m->mailboxes[t.mailbox - 1]->state.uidnext)
			err = ERR_CORRUPT;
	}
	if (err)
		return wrong(m, err, "the change log is wrong");
	m->next_change++;
	return m->o.is_restore ? 0 : queue(m, STREAM_CHANGE, payload);
}

static int take_metadata(struct store_import *m, struct slice payload)
{
	struct transfer_metadata t;
	int err = transfer_unpack_metadata(payload, &t);

	if (err || t.mailbox > m->mailbox_count)
		return wrong(m, ERR_CORRUPT, "an annotation is wrong");
	return queue(m, STREAM_METADATA, payload);
}

static int take_acl(struct store_import *m, struct slice payload)
{
	struct transfer_acl t;
	int err = transfer_unpack_acl(payload, &t);

	if (err || t.mailbox == 0 || t.mailbox > m->mailbox_count)
		return wrong(m, ERR_CORRUPT, "an entry of an ACL is wrong");
	return queue(m, STREAM_ACL, payload);
}

static int take_seen(struct store_import *m, struct slice payload)
{
	struct transfer_seen t;
	uint64_t highest = 0;
	char room[SEEN_ROW_MAX];
	int err = transfer_unpack_seen(payload, &t);

	if (!err)
		err = seen_clamp(t.row, UINT64_MAX, room, &highest);
	if (err || t.mailbox == 0 || t.mailbox > m->mailbox_count || highest > m->header.modseq ||
		m->mailboxes[t.mailbox - 1]->noselect ||
		t.block > m->mailboxes[t.mailbox - 1]->state.uidnext / STORE_SEEN_BLOCK)
		return wrong(m, ERR_CORRUPT, "what another has seen is wrong");
	return queue(m, STREAM_SEEN, payload);
}

/* Before any message: they are counted as they come. */
static int take_quota(struct store_import *m, struct slice payload)
{
	int err = transfer_unpack_quota(payload, &m->quota);

	if (err || m->quota.mailbox > m->mailbox_count ||
		m->quotas == STORE_QUOTA_ROOTS_MAX + STORE_MAILBOXES_MAX || m->state.count)
		return wrong(m, ERR_CORRUPT, "limits of a folder are wrong");
	m->quotas++;
	err = queue(m, STREAM_QUOTA, payload);
	return err ? err : step(m); /* each counts all mailboxes: a transaction of its own */
}

int store_import_record(void *import, uint16_t tag, struct slice payload)
{
	static const struct {
		int (*take)(struct store_import *m, struct slice payload);
	} kinds[] = {
		[STREAM_ACCOUNT] = {take_account},
		[STREAM_ALIAS] = {take_alias},
		[STREAM_MAILBOX] = {take_mailbox},
		[STREAM_SUBSCRIPTION] = {take_subscription},
		[STREAM_MESSAGE] = {take_message},
		[STREAM_BODY] = {take_body},
		[STREAM_CHANGE] = {take_change},
		[STREAM_METADATA] = {take_metadata},
		[STREAM_ACL] = {take_acl},
		[STREAM_QUOTA] = {take_quota},
		[STREAM_SEEN] = {take_seen},
	};
	struct store_import *m = import;

	if (tag >= ARRAY_LEN(kinds) || !kinds[tag].take)
		return wrong(m, ERR_UNSUPPORTED, "a record of an unknown kind");
	if (m->has_account != (tag != STREAM_ACCOUNT))
		return wrong(m, ERR_CORRUPT, "the account does not come first");
	if (m->has_open != (tag == STREAM_BODY))
		return wrong(m, ERR_CORRUPT, "a body is missing, or of no message");
	return kinds[tag].take(m, payload);
}

/* ---- the end ---- */

static int check_whole(struct store_import *m)
{
	if (!m->has_account || m->has_open)
		return wrong(m, ERR_CORRUPT, "the account is not whole");
	if (m->mailbox_count != m->header.mailboxes || m->state.count != m->header.messages ||
		m->state.bytes != m->header.bytes || m->next_change != m->header.modseq + 1)
		return wrong(m, ERR_CORRUPT, "the account's totals disagree");
	for (uint32_t i = 0; i < m->mailbox_count; i++)
		if (m->mailboxes[i]->state.messages != m->mailboxes[i]->messages ||
			m->mailboxes[i]->state.size != m->mailboxes[i]->size)
			return wrong(m, ERR_CORRUPT, "a mailbox's totals disagree");
	return table_get(m->names, SLICE_LIT("INBOX")) ? 0
						       : wrong(m, ERR_CORRUPT, "the account has no INBOX");
}

static struct slice intent_key(char kind, uint32_t account, char *room)
{
	room[0] = kind;
	bytes_put_u32be(room + 1, account);
	bytes_put_u32be(room + 5, 0);
	return slice_of(room, 9);
}

static int put_moved(struct store_txn *txn, struct store_import *m)
{
	char key[9], value[8];

	bytes_put_u32(value, m->old_slot);
	bytes_put_u32(value + 4, m->old_account);
	return db_put(
		txn, DB_INTENTS, intent_key(INTENT_MOVED, m->account, key), slice_of(value, sizeof(value)));
}

static int activate(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	struct account_imported a = {
		m->header.record, m->aliases, m->alias_count, m->replaces, m->old_slot, m->old_account};
	char key[9];
	struct store_account old;
	int err = account_check_names(txn, &a);

	if (!err && m->replaces)
		err = store_get_account(m->o.store, m->old_slot, m->old_account, &old);
	if (!err && m->replaces)
		err = put_moved(txn, m);
	if (!err && m->replaces && m->old_slot == m->o.slot)
		err = store_account_remove(txn, m->old_account);
	if (!err)
		err = account_put_imported(txn, m->account, &a);
	m->state.aliases = (uint32_t)m->alias_count;
	if (!err)
		err = state_put_account(txn, m->account, &m->state);
	if (!err &&
		m->quotas) /* once more: what INBOX can take is told to the memory, which knows the account now */
		err = set_quota(txn, m, &m->quota);
	if (!err)
		err = db_drop(txn, DB_INTENTS, intent_key(INTENT_IMPORT, m->account, key));
	db_note(txn, m->account, 0, 0);
	return err;
}

/* What an account has in others' mailboxes is said by slot and number: one step in a slot. */
struct rights {
	struct store_who from, to;
	struct store_acl_at at, now;
	bool is_done;
};

static int move_rights_step(struct store_txn *txn, void *arg)
{
	struct rights *r = arg;

	r->now = r->at; /* it may run twice */
	return store_acl_hand_over(txn, r->from, r->to, RIGHTS_STEP, &r->now, &r->is_done);
}

static int move_rights(struct store_import *m)
{
	int err = 0;

	for (unsigned slot = 0; slot < store_slots(m->o.store) && !err; slot++) {
		struct rights r = {.from = {m->old_slot, m->old_account}, .to = {m->o.slot, m->account}};
		struct import_body other = m->body;

		other.slot = slot;
		while (!err && !r.is_done) {
			err = import_body_write(&other, move_rights_step, &r);
			r.at = r.now;
		}
	}
	return err;
}

static int remove_old(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	int err = store_account_remove(txn, m->old_account);

	return err == ERR_NOT_FOUND ? 0 : err;
}

static int drop_moved(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	char key[9];

	return db_drop(txn, DB_INTENTS, intent_key(INTENT_MOVED, m->account, key));
}

/* A step in another slot. */
static int write_in(struct store_import *m, unsigned slot, int (*fn)(struct store_txn *txn, void *arg))
{
	struct import_body other = m->body;

	other.slot = slot;
	return import_body_write(&other, fn, m);
}

static int claim_names(struct store_import *m)
{
	int err = m->o.claim ? m->o.claim(m->o.names_arg, m->header.record.address) : 0;

	for (size_t i = 0; !err && m->o.claim && i < m->alias_count; i++)
		err = m->o.claim(m->o.names_arg, m->aliases[i]);
	return err ? wrong(m, err, "another verb is changing the account's address or an alias") : 0;
}

int store_import_finish(struct store_import *m, struct store_import_totals *totals_out)
{
	int err = check_whole(m);

	if (!err)
		err = step(m);
	if (!err)
		err = claim_names(m);
	if (!err)
		err = import_body_write(&m->body, activate, m);
	if (err == ERR_EXISTS)
		wrong(m, err, "the account, or one of its aliases, exists already");
	if (err)
		return err;
	m->is_finished = true;
	FAULT("import-visible");
	*totals_out = (struct store_import_totals){.mailboxes = m->mailbox_count,
		.messages = m->state.count,
		.bytes = m->state.bytes,
		.account = m->account};
	memcpy(totals_out->address, m->address, m->header.record.address.len);
	if (!m->replaces)
		return 0;
	err = move_rights(m);
	if (!err)
		err = write_in(m, m->old_slot, remove_old);
	FAULT("import-old-removed");
	if (!err)
		err = import_body_write(&m->body, drop_moved, m);
	if (!err) {
		totals_out->old_slot = m->old_slot;
		totals_out->old_account = m->old_account;
	}
	return err;
}

static int give_up(struct store_txn *txn, void *arg)
{
	struct store_import *m = arg;
	char key[9];
	int err = db_drop(txn, DB_INTENTS, intent_key(INTENT_IMPORT, m->account, key));

	return err ? err : mailbox_put_intent(txn, INTENT_DROP_ACCOUNT, m->account, 0, 0);
}

void store_import_free(struct store_import **import)
{
	struct store_import *m = *import;

	if (!m)
		return;
	items_clear(m);
	if (m->account && !m->is_finished)
		(void)!import_body_write(&m->body, give_up, m); /* else the next start does it */
	if (m->is_claimed)
		names_unclaim(m->o.store->names, m->header.record.address);
	import_body_deinit(&m->body);
	for (uint32_t i = 0; i < m->mailbox_count; i++)
		free(m->mailboxes[i]);
	free(m->mailboxes);
	free(m->aliases);
	table_free(&m->names);
	table_free(&m->shared);
	arena_deinit(&m->arena);
	buf_deinit(&m->why);
	free(m);
	*import = NULL;
}

/* ---- start-up ---- */

struct intent {
	char kind;
	uint32_t account;
	uint32_t old_slot, old_account;
};

/* Intents of imports and moves: few, and taken in one look. */
static int list_intents(struct store *store, unsigned slot, struct buf *found)
{
	static const char first[] = {INTENT_IMPORT};
	struct store_txn *txn;
	struct db_cursor c;
	int err = store_begin_read(store, slot, &txn);

	if (err)
		return err;
	err = db_cursor_open(txn, DB_INTENTS, &c);
	if (!err) {
		err = db_cursor_seek(&c, slice_of(first, 1));
		for (; !err && c.key.len == 9 && c.key.p[0] <= INTENT_MOVED; err = db_cursor_next(&c)) {
			struct intent i = {.kind = c.key.p[0], .account = bytes_get_u32be(c.key.p + 1)};

			if (i.kind == INTENT_MOVED && c.value.len == 8) {
				i.old_slot = bytes_get_u32(c.value.p);
				i.old_account = bytes_get_u32(c.value.p + 4);
			}
			buf_add(found, &i, sizeof(i));
		}
		db_cursor_close(&c);
	}
	store_end_read(&txn);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int recover_one(struct store *store, unsigned slot, const struct intent *i)
{
	struct store_import m = {.account = i->account,
		.old_slot = i->old_slot,
		.old_account = i->old_account,
		.o = {.store = store, .slot = slot}};
	int err;

	m.body = (struct import_body){.store = store, .slot = slot, .fd = -1};
	if (i->kind == INTENT_IMPORT)
		return import_body_write(&m.body, give_up, &m);
	err = move_rights(&m);
	if (!err && i->old_slot < store_slots(store))
		err = write_in(&m, i->old_slot, remove_old);
	return err ? err : import_body_write(&m.body, drop_moved, &m);
}

int store_import_recover(struct store *store, unsigned slot)
{
	struct buf found = {0};
	int err = list_intents(store, slot, &found);

	for (size_t at = 0; !err && at < buf_len(&found); at += sizeof(struct intent)) {
		struct intent i;

		memcpy(&i, buf_view(&found).p + at, sizeof(i));
		err = recover_one(store, slot, &i);
	}
	buf_deinit(&found);
	return err;
}
