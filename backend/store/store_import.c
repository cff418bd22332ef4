/*
 * Records are checked as they come, and queued; a step (import_apply.c) puts what is queued in one transaction:
 *
 *	STREAM_ACCOUNT       -> an id, counters, INTENT_IMPORT
 *	mailboxes, messages  -> rows under ids of this store; counters of what the step touched
 *	changes              -> rows of the log
 *	finish               -> record and names, the intent goes: the account is there
 *
 * What is checked when records come decides counters too, so that a step may run twice.
 */
#include "backend/store/import_inner.h"

#include <stdlib.h>

#include "backend/store/mailbox.h"
#include "backend/store/names.h"
#include "backend/store/store_account.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

/* MODSEQs of a restored account go on above these of anything that was done since the backup. */
#define RESTORE_MODSEQ_SHIFT 20
#define LEGACY_EMAIL (UINT64_C(1) << 63)

int store_import_wrong(struct store_import *m, int err, const char *what)
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
		return store_import_wrong(m, err, "an account of this name is on its way already");
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
		return store_import_wrong(m, ERR_CORRUPT, "two accounts in one stream");
	/* Its texts live as long as the import. */
	payload = arena_copy(&m->arena, payload);
	err = transfer_unpack_account(payload, a);
	if (!err && !is_record_good(m, &a->record))
		err = ERR_CORRUPT;
	if (!err)
		err = names_normalise(m->o.address.len ? m->o.address : a->record.address, m->address, &name);
	if (err)
		return store_import_wrong(m, err, "the account's record is wrong");
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
	return err == ERR_EXISTS ? store_import_wrong(m, err, "the account exists already") : err;
}

static int take_alias(struct store_import *m, struct slice payload)
{
	char room[STORE_ADDRESS_MAX];
	struct slice name;

	if (m->o.address.len)
		return 0; /* another name: its aliases stay where they are */
	if (names_normalise(payload, room, &name) || m->alias_count == STORE_ALIASES_MAX ||
		slice_is_equal(name, m->header.record.address))
		return store_import_wrong(m, ERR_CORRUPT, "an alias is wrong");
	for (size_t i = 0; i < m->alias_count; i++)
		if (slice_is_equal(m->aliases[i], name))
			return store_import_wrong(m, ERR_CORRUPT, "an alias comes twice");
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
		return store_import_wrong(m, ERR_CORRUPT, "a mailbox's name is wrong");
	if (table_get(m->names, *name_out))
		return store_import_wrong(m, ERR_CORRUPT, "a mailbox's name comes twice");
	return table_count(m->names) >= 2 * STORE_MAILBOXES_MAX
		       ? store_import_wrong(m, ERR_TOO_BIG, "too many mailboxes")
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
		return store_import_wrong(m, err, "a mailbox's record is wrong");
	err = take_name(m, t.folder.name, &name);
	if (err)
		return err;
	if (!has_parent(m, name))
		return store_import_wrong(m, ERR_CORRUPT, "a mailbox has no parent");
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
	return import_apply_queue(m, STREAM_MAILBOX, payload);
}

static int take_subscription(struct store_import *m, struct slice payload)
{
	struct slice name;
	int err = take_name(m, payload, &name);

	if (err)
		return err;
	table_put(m->names, name, &m->only_subscribed);
	return import_apply_queue(m, STREAM_SUBSCRIPTION, payload);
}

/* ---- messages ---- */

bool store_import_is_email_good(const struct store_import *m, uint64_t email)
{
	return email != 0 && (email & (LEGACY_EMAIL | STORE_EMAIL_OTHER) || email <= m->header.modseq);
}

static bool is_message_good(struct store_import *m, const struct transfer_message *t)
{
	const struct imported *box;

	if (t->mailbox == 0 || t->mailbox > m->mailbox_count)
		return false;
	box = m->mailboxes[t->mailbox - 1];
	return !box->noselect && t->entry.uid > box->last_uid && t->entry.uid < box->state.uidnext &&
	       t->entry.modseq <= box->modseq && box->state.messages < box->messages &&
	       (box->keyword_count == 64 || t->entry.keywords >> box->keyword_count == 0) &&
	       store_import_is_email_good(m, t->email);
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
		return store_import_wrong(m, err, "a message's body is not in the backup as it should be");
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

/* Queues the record of a message, deleted or not. *has_body_out: its body came with an earlier one. */
static int queue_message(struct store_import *m, uint16_t tag, struct slice payload,
	const struct transfer_message *t, bool *has_body_out)
{
	struct shared *s = find_shared(m, t);

	if (t->body_kind == TRANSFER_SAME && !s)
		return store_import_wrong(m, ERR_CORRUPT, "a message has the body of one that did not come");
	if (s && (s->size != t->body_size || t->body_kind == TRANSFER_FOLLOWS))
		return store_import_wrong(m, ERR_CORRUPT, "a message's body is not the one that it names");
	*has_body_out = s;
	return import_apply_queue(m, tag, payload);
}

/* The body of the last item comes now. */
static int open_body(struct store_import *m, const struct transfer_message *t)
{
	struct store_draft *draft;
	int err = t->is_shared ? remember_shared(m, t) : 0;

	if (err)
		return err;
	m->has_open = true;
	if (t->body_kind == TRANSFER_KEPT)
		return open_kept(m, t);
	import_body_begin(&m->body, t->body_size);
	if (t->body_size)
		return 0;
	err = import_body_draft(&m->body, &draft);
	return close_body(m, err, draft);
}

static int take_message(struct store_import *m, struct slice payload)
{
	struct transfer_message t;
	bool has_body;
	int err = transfer_unpack_message(payload, &t);

	if (err || !is_message_good(m, &t))
		return store_import_wrong(m, ERR_CORRUPT, "a message's record is wrong");
	err = queue_message(m, STREAM_MESSAGE, payload, &t, &has_body);
	if (err)
		return err;
	count(m, m->mailboxes[t.mailbox - 1], &t.entry);
	return has_body ? 0 : open_body(m, &t);
}

static int take_kept(struct store_import *m, struct slice payload)
{
	struct transfer_message t;
	bool skips, has_body;
	int err = import_kept_check(m, payload, &t, &skips);

	if (err || skips)
		return err;
	err = queue_message(m, STREAM_KEPT, payload, &t, &has_body);
	if (err)
		return err;
	import_kept_count(m, &t);
	return has_body ? 0 : open_body(m, &t);
}

static int take_body(struct store_import *m, struct slice payload)
{
	struct store_draft *draft;
	int err = payload.len ? import_body_add(&m->body, payload) : ERR_CORRUPT;

	if (err)
		return store_import_wrong(m, err, "a message's body is not as long as it should be");
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
		return store_import_wrong(m, err, "the change log is wrong");
	m->next_change++;
	return m->o.is_restore ? 0 : import_apply_queue(m, STREAM_CHANGE, payload);
}

static int take_metadata(struct store_import *m, struct slice payload)
{
	struct transfer_metadata t;
	int err = transfer_unpack_metadata(payload, &t);

	if (err || t.mailbox > m->mailbox_count)
		return store_import_wrong(m, ERR_CORRUPT, "an annotation is wrong");
	return import_apply_queue(m, STREAM_METADATA, payload);
}

static int take_acl(struct store_import *m, struct slice payload)
{
	struct transfer_acl t;
	int err = transfer_unpack_acl(payload, &t);

	if (err || t.mailbox == 0 || t.mailbox > m->mailbox_count)
		return store_import_wrong(m, ERR_CORRUPT, "an entry of an ACL is wrong");
	return import_apply_queue(m, STREAM_ACL, payload);
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
		return store_import_wrong(m, ERR_CORRUPT, "what another has seen is wrong");
	return import_apply_queue(m, STREAM_SEEN, payload);
}

/* Before any message: they are counted as they come. */
static int take_quota(struct store_import *m, struct slice payload)
{
	int err = transfer_unpack_quota(payload, &m->quota);

	if (err || m->quota.mailbox > m->mailbox_count ||
		m->quotas == STORE_QUOTA_ROOTS_MAX + STORE_MAILBOXES_MAX || m->state.count)
		return store_import_wrong(m, ERR_CORRUPT, "limits of a folder are wrong");
	m->quotas++;
	err = import_apply_queue(m, STREAM_QUOTA, payload);
	return err ? err : import_apply_step(m); /* each counts all mailboxes: a transaction of its own */
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
		[STREAM_KEPT_SUM] = {import_kept_take_sum},
		[STREAM_GONE] = {import_kept_take_gone},
		[STREAM_KEPT] = {take_kept},
	};
	struct store_import *m = import;

	if (tag >= ARRAY_LEN(kinds) || !kinds[tag].take)
		return store_import_wrong(m, ERR_UNSUPPORTED, "a record of an unknown kind");
	if (m->has_account != (tag != STREAM_ACCOUNT))
		return store_import_wrong(m, ERR_CORRUPT, "the account does not come first");
	if (m->has_open != (tag == STREAM_BODY))
		return store_import_wrong(m, ERR_CORRUPT, "a body is missing, or of no message");
	return kinds[tag].take(m, payload);
}
