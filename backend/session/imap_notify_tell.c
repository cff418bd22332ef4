/*
 * One pass over the change log gathers what happened: which messages' mailboxes, in a table; names in a list, in order. Then the
 * mailboxes are looked at as they are now, and responses are written: what has come and gone meanwhile is told as gone.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"
#include "backend/session/imap_status.h"
#include "backend/session/imap_use.h"
#include "backend/store/store_change.h"
#include "common/base/bytes.h"
#include "common/base/table.h"
#include "common/proto/imap_write.h"

struct touched {
	char key[4];
	uint32_t mailbox;
	unsigned events;
	bool is_new; /* made, or made anew: its UIDVALIDITY is another */
	struct touched *next;
};

struct named {
	enum store_change_kind kind;
	uint32_t mailbox;
	struct slice text;
	struct named *next;
};

struct tell {
	struct imap_session *s;
	struct imap_notify *n;
	struct store_txn *txn;
	const struct imap_notify_set *set; /* may be NULL */
	struct arena arena;
	struct table *table;
	struct touched *touched, **touched_tail;
	struct named *named, **named_tail;
	unsigned named_count;
	bool has_subscribed; /* to mailboxes of others, or no longer */
};

/* ---- what is wanted ---- */

/* Of the user, whatever mailboxes they stand beside. */
static bool wants_server_metadata(const struct imap_notify_set *set)
{
	for (unsigned i = 0; set && i < set->count; i++)
		if (set->groups[i].events & IMAP_EVENT_SERVER_METADATA)
			return true;
	return false;
}

/* ---- gathering ---- */

static int touch(struct tell *t, uint32_t mailbox, unsigned events, bool is_new)
{
	struct touched *m;
	char key[4];

	bytes_put_u32(key, mailbox);
	m = table_get(t->table, slice_of(key, sizeof(key)));
	if (!m) {
		m = arena_calloc(&t->arena, 1, sizeof(*m));
		if (!m)
			return ERR_TOO_BIG;
		memcpy(m->key, key, sizeof(key));
		m->mailbox = mailbox;
		table_put(t->table, slice_of(m->key, sizeof(m->key)), m);
		*t->touched_tail = m;
		t->touched_tail = &m->next;
	}
	m->events |= events;
	m->is_new |= is_new;
	return 0;
}

static int keep_name(struct tell *t, const struct store_change *c)
{
	struct named *n =
		t->named_count++ < IMAP_NOTIFY_CHANGES_MAX ? arena_calloc(&t->arena, 1, sizeof(*n)) : NULL;

	if (!n)
		return ERR_TOO_BIG;
	*n = (struct named){.kind = c->kind, .mailbox = c->mailbox, .text = arena_copy(&t->arena, c->text)};
	*t->named_tail = n;
	t->named_tail = &n->next;
	return 0;
}

static int gather(void *arg, const struct store_change *c)
{
	struct tell *t = arg;

	if (c->modseq <= t->n->told && !imap_notify_is_left_over(t->n, t->s->slot, t->s->account, c))
		return 0;
	if (imap_notify_is_own(&t->n->own, c->modseq)) {
		if (c->kind != STORE_CHANGE_SUBSCRIBED || !imap_access_is_foreign(c->text))
			return 0;
		t->has_subscribed = true;
		return imap_others_subscribed(t->s, SLICE_LIT(""));
	}
	switch (c->kind) {
	case STORE_CHANGE_ADDED:
		return touch(t, c->mailbox, IMAP_EVENT_NEW, false);
	case STORE_CHANGE_EXPUNGED:
		return touch(t, c->mailbox, IMAP_EVENT_EXPUNGE, false);
	case STORE_CHANGE_FLAGS:
		return touch(t, c->mailbox, IMAP_EVENT_FLAGS, false);
	case STORE_CHANGE_CREATED:
		if (touch(t, c->mailbox, 0, true) < 0)
			return ERR_TOO_BIG;
		return keep_name(t, c);
	case STORE_CHANGE_METADATA:
		if (c->user != STORE_METADATA_SHARED && c->user != imap_metadata_user(t->s))
			return 0;
		return keep_name(t, c);
	case STORE_CHANGE_SUBSCRIBED:
		t->has_subscribed |= imap_access_is_foreign(c->text);
		return keep_name(t, c);
	case STORE_CHANGE_RENAMED:
	case STORE_CHANGE_DELETED:
		return keep_name(t, c);
	case STORE_CHANGE_KEYWORDS:
	case STORE_CHANGE_ACL:
	case STORE_CHANGE_SEEN:
		return 0;
	}
	return 0;
}

/* ---- messages: STATUS ---- */

/* One of the own account; others' slots number their mailboxes, too. */
static bool is_selected(const struct imap_session *s, uint32_t mailbox)
{
	return mailbox == s->view.mailbox && !s->view.is_guest;
}

static int tell_messages(struct tell *t, const struct touched *m)
{
	struct store_mailbox mailbox;
	unsigned events;
	bool is_new;
	int err;

	if (is_selected(t->s, m->mailbox))
		return 0;
	err = store_mailbox_get(t->txn, t->s->account, m->mailbox, &mailbox);
	if (err < 0)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (mailbox.noselect)
		return 0;
	events = imap_notify_wanted(t->set, mailbox.name, mailbox.subscribed);
	/* Section 5.1: who hears of flags hears of another UIDVALIDITY. */
	is_new = m->is_new && events & IMAP_EVENT_FLAGS;
	/* A new INBOX, since the old one was renamed: its messages went along. */
	events &= m->events | (m->is_new && slice_is_str(mailbox.name, "INBOX") ? IMAP_EVENT_EXPUNGE : 0u);
	if (!events && !is_new)
		return 0;
	return imap_status_write(
		t->s, t->txn, &mailbox, mailbox.name, imap_notify_items(t->s, events, is_new));
}

/* ---- names: LIST ---- */

static int write_list(struct tell *t, struct slice name, struct slice old_name, unsigned event)
{
	struct buf *out = &t->s->out;
	struct store_mailbox m = {.name = name};
	bool has_children = false, exists;
	int err = store_mailbox_find(t->txn, t->s->account, name, &m);

	exists = err == 0;
	if (err == ERR_NOT_FOUND)
		err = store_mailbox_is_subscribed(t->txn, t->s->account, name, &m.subscribed);
	if (err == 0)
		err = store_mailbox_has_children(t->txn, t->s->account, name, &has_children);
	if (err < 0)
		return err;
	if (!(imap_notify_wanted(t->set, name, m.subscribed || event == IMAP_EVENT_SUBSCRIPTION) & event) &&
		!(old_name.len && imap_notify_wanted(t->set, old_name, false) & event))
		return 0;
	buf_printf(out, "* LIST (%s",
		exists ? has_children ? "\\HasChildren" : "\\HasNoChildren" : "\\NonExistent");
	if (exists && m.noselect)
		buf_add_str(out, " \\Noselect");
	if (m.subscribed)
		buf_add_str(out, " \\Subscribed");
	if (exists && imap_use_word(m.use))
		buf_printf(out, " %s", imap_use_word(m.use));
	buf_add_str(out, ") \"" IMAP_HIERARCHY "\" ");
	imap_name_write(t->s, out, name);
	if (old_name.len) {
		buf_add_str(out, " (\"OLDNAME\" (");
		imap_name_write(t->s, out, old_name);
		buf_add_str(out, "))");
	}
	buf_add_str(out, "\r\n");
	return 0;
}

/* Section 5.4: the direct parent is affected, too. */
static int write_with_parent(struct tell *t, struct slice name)
{
	ptrdiff_t up = slice_find_last(name, STORE_SEPARATOR);
	int err = write_list(t, name, slice_of(NULL, 0), IMAP_EVENT_NAME);

	if (err == 0 && up > 0)
		err = write_list(t, slice_sub(name, 0, (size_t)up), slice_of(NULL, 0), IMAP_EVENT_NAME);
	return err;
}

/* A child that went along with its parent is not told of. */
static bool has_renamed_parent(const struct tell *t, struct slice old_name)
{
	for (const struct named *n = t->named; n; n = n->next)
		if (n->kind == STORE_CHANGE_RENAMED && imap_notify_is_below(old_name, n->text))
			return true;
	return false;
}

void imap_notify_write_metadata(struct imap_session *s, struct slice name, struct slice entry)
{
	buf_add_str(&s->out, "* METADATA ");
	imap_name_write(s, &s->out, name);
	buf_add_char(&s->out, ' ');
	imap_write_astring(&s->out, entry);
	buf_add_str(&s->out, "\r\n");
}

static int tell_named(struct tell *t, const struct named *n)
{
	struct store_mailbox mailbox = {0};
	bool wants;
	int err = 0;

	if (n->kind == STORE_CHANGE_DELETED)
		return n->text.len ? write_with_parent(t, n->text) : 0;
	if (n->kind == STORE_CHANGE_SUBSCRIBED && imap_access_is_foreign(n->text))
		return imap_others_subscribed(t->s, n->text);
	if (n->kind == STORE_CHANGE_SUBSCRIBED)
		return n->text.len ? write_list(t, n->text, slice_of(NULL, 0), IMAP_EVENT_SUBSCRIPTION) : 0;
	if (n->mailbox) {
		err = store_mailbox_get(t->txn, t->s->account, n->mailbox, &mailbox);
		if (err == ERR_NOT_FOUND) /* it has gone since, as is told further on */
			return 0;
	}
	if (err < 0)
		return err;
	/* Names are views, and what follows reads other pages, but writes none. */
	if (n->kind == STORE_CHANGE_CREATED)
		return slice_is_str(mailbox.name, "INBOX") ? 0 : write_with_parent(t, mailbox.name);
	if (n->kind == STORE_CHANGE_RENAMED)
		return !n->text.len || has_renamed_parent(t, n->text)
			       ? 0
			       : write_list(t, mailbox.name, n->text, IMAP_EVENT_NAME);
	wants = t->n->is_metadata_wanted ||
		(n->mailbox ? imap_notify_wanted(t->set, mailbox.name, mailbox.subscribed) &
					IMAP_EVENT_METADATA
			    : wants_server_metadata(t->set));
	if (!wants)
		return 0;
	imap_notify_write_metadata(t->s, mailbox.name, n->text);
	return 0;
}

/* ---- the job ---- */

static int tell_all(struct tell *t)
{
	int err = 0;

	for (const struct named *n = t->named; n && err == 0; n = n->next)
		err = tell_named(t, n);
	for (const struct touched *m = t->touched; m && err == 0; m = m->next)
		err = tell_messages(t, m);
	return err;
}

int imap_notify_tell(struct imap_session *s, struct store_txn *txn)
{
	struct imap_notify *n = s->notify;
	struct tell t = {.s = s, .n = n, .txn = txn, .set = n->set, .table = table_new()};
	uint64_t now = 0, told = n->told ? n->told : UINT64_MAX - 1;
	uint64_t since = n->told ? imap_notify_since(n, s->slot, s->account, told) : told;
	bool is_incomplete = false;
	int err;

	arena_init(&t.arena, 0);
	t.touched_tail = &t.touched;
	t.named_tail = &t.named;
	err = store_change_each(txn, s->account, since, gather, &t, &now, &is_incomplete);
	if (err == 0 && is_incomplete && since < told)
		err = store_change_each(txn, s->account, told, gather, &t, &now, &is_incomplete);
	if (n->left.slot == s->slot && n->left.account == s->account)
		n->left.mailbox = 0;
	if (err == 0 && is_incomplete)
		err = ERR_TOO_BIG;
	if (err == 0 && t.has_subscribed && n->set)
		err = imap_notify_read_subscribed(s, txn, n->set);
	if (err == 0)
		err = tell_all(&t);
	if (err == ERR_TOO_BIG) { /* `now` is known before the first change is read */
		imap_notify_overflow(s);
		err = 0;
	}
	table_free(&t.table);
	arena_deinit(&t.arena);
	if (err < 0)
		return err;
	n->told = now;
	n->own.count = 0;
	return 0;
}

/* ---- the beginning ---- */

static int nothing(void *arg, const struct store_change *c)
{
	(void)arg;
	(void)c;
	return 0;
}

int imap_notify_begin(struct imap_session *s, struct store_txn *txn, bool wants_status)
{
	struct imap_notify *n = s->notify;
	struct imap_notify_set *set = n->next;
	struct store_mailbox *all;
	struct arena arena;
	bool is_incomplete;
	uint64_t now;
	size_t count = 0;
	/* The client counts on what the set that goes has not told yet. */
	int err = n->set ? imap_notify_tell(s, txn) : 0;

	if (err == 0)
		err = imap_notify_read_subscribed(s, txn, set);
	if (err < 0)
		return err;
	arena_init(&arena, 0);
	err = store_mailbox_list(txn, s->account, &arena, &all, &count);
	for (size_t i = 0; i < count && err == 0 && wants_status; i++) {
		unsigned events = imap_notify_wanted(set, all[i].name, all[i].subscribed);

		events &= IMAP_EVENTS_OF_MESSAGES;
		if (events && all[i].id && !all[i].noselect && !imap_access_is_foreign(all[i].name) &&
			!is_selected(s, all[i].id))
			err = imap_status_write(
				s, txn, &all[i], all[i].name, imap_notify_first_items(events));
	}
	arena_deinit(&arena);
	if (err == 0)
		err = store_change_each(txn, s->account, UINT64_MAX - 1, nothing, NULL, &now, &is_incomplete);
	if (err == 0) {
		n->told = now;
		n->own.count = 0;
	}
	return err;
}
