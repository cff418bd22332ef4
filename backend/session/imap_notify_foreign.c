/*
 * What happened in another's account, as far as this session may know. One pass over the log gathers which mailboxes were touched;
 * rights are those of now. If names or ACLs have changed, the mailboxes that the session may look up are listed and compared with
 * those that it was told of last: so what it never saw has no way into an answer, whatever stands in the log, and a right that is
 * granted is a mailbox that appears, one that is revoked a mailbox that goes (RFC 5465 sections 5.4 and 5.9).
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify_inner.h"
#include "backend/session/imap_status.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_change.h"
#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"

/* Told at once of one account; each is looked for among all. */
#define RENAMES_MAX 100
#define WATCHED (IMAP_RIGHT_LOOKUP | IMAP_RIGHT_READ)

struct touched {
	uint32_t mailbox;
	unsigned events;
	bool is_made;                 /* or made anew */
	bool is_new;                  /* and its UIDVALIDITY is to be told */
	bool is_seen;                 /* somebody who is not the owner has marked messages as read */
	bool is_by_self, is_by_other; /* its name or ACL was changed */
	struct touched *next;
};

struct annotation {
	uint32_t mailbox;
	struct slice text;
	struct annotation *next;
};

struct look {
	struct imap_session *s;
	struct imap_other *o;
	const struct imap_notify_set *set; /* NULL: it is not watched */
	struct store_txn *txn;
	struct store_account owner;
	struct arena arena;
	struct table *table; /* of touched, by mailbox */
	struct touched *touched, **touched_tail;
	struct annotation *annotations, **annotations_tail;
	unsigned count;
	bool are_names_stale;
	/* Mailboxes as they are, where they had to be listed. */
	bool has_list;
	struct store_mailbox *now;
	bool *may_read;
	size_t now_count;
	struct table *by_id, *by_name;       /* of now */
	struct table *known_id, *known_name; /* of what was told last */
	struct slice *minds;                 /* how the client calls each of these now */
};

static struct slice key_of(const uint32_t *mailbox)
{
	return slice_of((const char *)mailbox, sizeof(*mailbox));
}

/* ---- gathering ---- */

static struct touched *touch(struct look *l, uint32_t mailbox)
{
	struct touched *m = table_get(l->table, key_of(&mailbox));

	if (m)
		return m;
	m = arena_calloc(&l->arena, 1, sizeof(*m));
	if (!m)
		return NULL;
	m->mailbox = mailbox;
	table_put(l->table, key_of(&m->mailbox), m);
	*l->touched_tail = m;
	l->touched_tail = &m->next;
	return m;
}

static int keep_annotation(struct look *l, const struct store_change *c)
{
	struct annotation *a =
		l->count++ < IMAP_NOTIFY_CHANGES_MAX ? arena_calloc(&l->arena, 1, sizeof(*a)) : NULL;

	if (!a)
		return ERR_TOO_BIG;
	*a = (struct annotation){.mailbox = c->mailbox, .text = arena_copy(&l->arena, c->text)};
	*l->annotations_tail = a;
	l->annotations_tail = &a->next;
	return 0;
}

static unsigned event_of(enum store_change_kind kind)
{
	return kind == STORE_CHANGE_ADDED      ? IMAP_EVENT_NEW
	       : kind == STORE_CHANGE_EXPUNGED ? IMAP_EVENT_EXPUNGE
	       : kind == STORE_CHANGE_FLAGS    ? IMAP_EVENT_FLAGS
					       : 0;
}

static bool is_of_names(enum store_change_kind kind)
{
	return kind == STORE_CHANGE_CREATED || kind == STORE_CHANGE_RENAMED || kind == STORE_CHANGE_DELETED ||
	       kind == STORE_CHANGE_ACL;
}

static int gather(void *arg, const struct store_change *c)
{
	struct look *l = arg;
	bool is_own = imap_notify_is_own(&l->o->own, c->modseq);
	struct touched *m;

	if (c->modseq <= l->o->told && !imap_notify_is_left_over(l->s->notify, l->o->slot, l->o->account, c))
		return 0;

	if (c->kind == STORE_CHANGE_METADATA) {
		if (is_own || !c->mailbox ||
			(c->user != STORE_METADATA_SHARED && c->user != imap_metadata_user(l->s)))
			return 0;
		return keep_annotation(l, c);
	}
	if (!l->set || (!event_of(c->kind) && !is_of_names(c->kind) && c->kind != STORE_CHANGE_SEEN))
		return 0;
	m = touch(l, c->mailbox);
	if (!m)
		return ERR_TOO_BIG;
	if (is_of_names(c->kind)) {
		l->are_names_stale = true;
		m->is_made |= c->kind == STORE_CHANGE_CREATED;
		m->is_by_self |= is_own;
		m->is_by_other |= !is_own;
	} else if (!is_own) {
		m->events |= event_of(c->kind);
		m->is_seen |= c->kind == STORE_CHANGE_SEEN;
	}
	return 0;
}

/* The session itself did that, and nobody else since: no news. */
static bool is_by_self(const struct look *l, uint32_t mailbox)
{
	const struct touched *m = table_get(l->table, key_of(&mailbox));

	return m && m->is_by_self && !m->is_by_other;
}

static bool is_made(const struct look *l, uint32_t mailbox)
{
	const struct touched *m = table_get(l->table, key_of(&mailbox));

	return m && m->is_made;
}

static unsigned wanted(const struct look *l, struct slice name)
{
	return imap_notify_wanted(l->set, name, imap_notify_is_subscribed(l->set, name));
}

/* ---- the mailboxes as they are ---- */

static int list_now(struct look *l)
{
	int err = imap_access_list_of(l->s, l->txn, &l->owner, &l->arena, &l->now, &l->now_count);

	if (err < 0)
		return err;
	l->may_read = arena_calloc(&l->arena, l->now_count + 1, sizeof(*l->may_read));
	if (!l->may_read)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < l->now_count && err == 0; i++) {
		unsigned rights = 0;

		err = imap_access_rights(l->s, l->txn, &l->now[i], &rights);
		l->may_read[i] = rights & IMAP_RIGHT_READ;
		table_put(l->by_id, key_of(&l->now[i].id), &l->now[i]);
		table_put(l->by_name, l->now[i].name, &l->now[i]);
	}
	l->has_list = err == 0;
	return err;
}

static void index_known(struct look *l)
{
	for (size_t i = 0; i < l->o->known_count; i++) {
		struct imap_known *k = &l->o->known[i];

		table_put(l->known_id, key_of(&k->mailbox), k);
		table_put(l->known_name, k->name, k);
	}
}

void imap_foreign_forget(struct imap_other *o)
{
	o->all->known_memory -= o->known_memory;
	o->known_memory = o->known_count = 0;
	free(o->known);
	free(o->names);
	o->known = NULL;
	o->names = NULL;
}

/* What is there now is what was told. */
static int remember(struct look *l)
{
	struct imap_other *o = l->o;
	size_t len = 0;
	char *at;

	imap_foreign_forget(o);
	for (size_t i = 0; i < l->now_count; i++)
		len += l->now[i].name.len;
	o->known_memory = len + l->now_count * sizeof(*o->known);
	o->all->known_memory += o->known_memory;
	if (o->all->known_memory > IMAP_NOTIFY_KNOWN_MEMORY) {
		imap_foreign_forget(o);
		return ERR_TOO_BIG;
	}
	o->known = xcalloc(l->now_count + 1, sizeof(*o->known));
	o->names = at = xmalloc(len + 1);
	for (size_t i = 0; i < l->now_count; i++) {
		const struct store_mailbox *m = &l->now[i];

		memcpy(at, m->name.p, m->name.len);
		o->known[i] = (struct imap_known){.mailbox = m->id,
			.uidvalidity = m->uidvalidity,
			.may_read = l->may_read[i],
			.is_noselect = m->noselect,
			.name = slice_of(at, m->name.len)};
		at += m->name.len;
	}
	o->known_count = l->now_count;
	return 0;
}

/* ---- responses ---- */

static void end_line(struct imap_session *s, struct slice name, struct slice old_name, struct buf *out)
{
	buf_add_str(out, ") \"" IMAP_HIERARCHY "\" ");
	imap_name_write(s, out, name);
	if (old_name.len) {
		buf_add_str(out, " (\"OLDNAME\" (");
		imap_name_write(s, out, old_name);
		buf_add_str(out, "))");
	}
	buf_add_str(out, "\r\n");
}

void imap_foreign_write_missing(struct imap_session *s, struct slice name, bool has_children, bool is_lost,
	bool is_subscribed, struct buf *out)
{
	buf_add_str(out, "* LIST (\\NonExistent");
	if (has_children)
		buf_add_str(out, " \\HasChildren");
	if (is_lost)
		buf_add_str(out, " \\NoAccess");
	if (is_subscribed)
		buf_add_str(out, " \\Subscribed");
	end_line(s, name, slice_of(NULL, 0), out);
}

static bool has_children(const struct look *l, struct slice name)
{
	for (size_t i = 0; i < l->now_count; i++)
		if (imap_notify_is_below(l->now[i].name, name))
			return true;
	return false;
}

static void write_there(struct look *l, const struct store_mailbox *m, struct slice old_name)
{
	struct buf *out = &l->s->out;

	buf_printf(out, "* LIST (%s", m->has_children ? "\\HasChildren" : "\\HasNoChildren");
	if (m->noselect)
		buf_add_str(out, " \\Noselect");
	else if (!l->may_read[m - l->now])
		buf_add_str(out, " \\NoAccess");
	if (imap_notify_is_subscribed(l->set, m->name))
		buf_add_str(out, " \\Subscribed");
	end_line(l->s, m->name, old_name, out);
}

static void write_gone(struct look *l, struct slice name, bool is_lost)
{
	imap_foreign_write_missing(l->s, name, has_children(l, name), is_lost,
		imap_notify_is_subscribed(l->set, name), &l->s->out);
}

/* Section 5.4: the direct parent is affected, too. */
static void write_parent(struct look *l, struct slice name)
{
	struct slice parent = slice_sub(name, 0, (size_t)slice_find_last(name, STORE_SEPARATOR));
	const struct store_mailbox *m = table_get(l->by_name, parent);

	if (!(wanted(l, parent) & IMAP_EVENT_NAME))
		return;
	if (m)
		write_there(l, m, slice_of(NULL, 0));
	else
		write_gone(l, parent, false);
}

static bool is_selected(const struct look *l, uint32_t mailbox)
{
	const struct imap_view *v = &l->s->view;

	return v->is_guest && v->mailbox == mailbox && v->slot == l->o->slot && v->account == l->o->account;
}

static int write_status(struct look *l, const struct store_mailbox *m, unsigned items)
{
	if (m->messages > IMAP_NOTIFY_UNSEEN_MAX)
		items &= ~imap_status_item("UNSEEN");
	if (!items || m->noselect || is_selected(l, m->id))
		return 0;
	return imap_status_write(l->s, l->txn, m, m->name, items);
}

/* ---- names ---- */

/* INBOX was renamed: "a new INBOX is assumed to be created. No MailboxName event is sent for INBOX". */
static bool is_inbox_anew(struct look *l, const struct store_mailbox *m)
{
	return table_get(l->known_name, m->name) &&
	       slice_is_equal(m->name, imap_access_full_name(&l->owner, SLICE_LIT("INBOX"), &l->arena));
}

/* It was not there for this session before. */
static void name_new(struct look *l, const struct store_mailbox *m)
{
	unsigned events = wanted(l, m->name);

	if (is_inbox_anew(l, m))
		return;
	if (events & IMAP_EVENT_NAME || (events && !is_made(l, m->id)))
		write_there(l, m, slice_of(NULL, 0));
	if (events & IMAP_EVENT_NAME)
		write_parent(l, m->name);
}

/* ---- renames ---- */

/* The client has heard that `old_name` is `name`: so it calls what stands below it. */
static int follow(struct look *l, struct slice old_name, struct slice name)
{
	for (size_t i = 0; i < l->o->known_count; i++) {
		struct slice rest = l->minds[i];
		char *text;

		if (!imap_notify_is_below(rest, old_name))
			continue;
		rest = slice_from(rest, old_name.len);
		text = arena_alloc(&l->arena, name.len + rest.len);
		if (!text)
			return ERR_TOO_BIG;
		memcpy(text, name.p, name.len);
		memcpy(text + name.len, rest.p, rest.len);
		l->minds[i] = slice_of(text, name.len + rest.len);
	}
	return 0;
}

static const struct store_mailbox *renamed(const struct look *l, size_t i)
{
	const struct store_mailbox *m = table_get(l->by_id, key_of(&l->o->known[i].mailbox));

	return m && l->minds[i].len && !slice_is_equal(m->name, l->minds[i]) ? m : NULL;
}

/* As the client has it, another that is to be renamed has this name still. */
static bool is_taken(const struct look *l, struct slice name)
{
	for (size_t i = 0; i < l->o->known_count; i++)
		if (slice_is_equal(l->minds[i], name) && renamed(l, i))
			return true;
	return false;
}

static int tell_rename(struct look *l, size_t i, const struct store_mailbox *m)
{
	struct slice old_name = l->minds[i];

	if (!is_by_self(l, m->id) && (wanted(l, m->name) | wanted(l, old_name)) & IMAP_EVENT_NAME)
		write_there(l, m, old_name);
	l->minds[i] = m->name;
	return follow(l, old_name, m->name);
}

/*
 * OLDNAME is what the client calls it: children go along with their parent without a word, and none is renamed to a name that
 * another has yet. Who change names with each other, or are too many, are told as gone and new.
 */
static int tell_renames(struct look *l)
{
	unsigned told = 0;
	bool goes_on = true;
	int err = 0;

	l->minds = arena_calloc(&l->arena, l->o->known_count + 1, sizeof(*l->minds));
	if (!l->minds)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < l->o->known_count; i++)
		l->minds[i] = l->o->known[i].name;
	while (goes_on && err == 0) {
		goes_on = false;
		for (size_t i = 0; i < l->o->known_count && err == 0 && told < RENAMES_MAX; i++) {
			const struct store_mailbox *m = renamed(l, i);

			if (!m || is_taken(l, m->name))
				continue;
			err = tell_rename(l, i, m);
			goes_on = true;
			told++;
		}
	}
	for (size_t i = 0; i < l->o->known_count && err == 0; i++) {
		struct imap_known *k = &l->o->known[i];

		if (!renamed(l, i))
			continue;
		table_remove(l->known_id, key_of(&k->mailbox));
		if (wanted(l, l->minds[i]) & IMAP_EVENT_NAME && !table_get(l->by_name, l->minds[i]))
			write_gone(l, l->minds[i], true);
	}
	return err;
}

static void name_known(struct look *l, const struct store_mailbox *m, const struct imap_known *k)
{
	unsigned events = wanted(l, m->name);

	if ((l->may_read[m - l->now] != k->may_read && events) ||
		(m->noselect != k->is_noselect && events & IMAP_EVENT_NAME))
		write_there(l, m, slice_of(NULL, 0));
}

/* The first STATUS of what can be watched from now on. k: NULL, if it was not there for this session before. */
static int tell_first_status(struct look *l, const struct store_mailbox *m, const struct imap_known *k)
{
	unsigned events = wanted(l, m->name) & IMAP_EVENTS_OF_MESSAGES;
	struct touched *t = table_get(l->table, key_of(&m->id));

	if (!l->may_read[m - l->now] || !events)
		return 0;
	if (k && k->may_read)
		return m->uidvalidity != k->uidvalidity && events & IMAP_EVENT_FLAGS
			       ? write_status(l, m, imap_notify_items(l->s, 0, true))
			       : 0;
	if (!k && t && t->is_made && !is_inbox_anew(l, m)) { /* what is in it is told as it came */
		t->is_new = events & IMAP_EVENT_FLAGS;
		return 0;
	}
	if (t)
		t->events = 0;
	return write_status(l, m, imap_notify_first_items(events));
}

/* Deleted, or no longer to be looked up: told alike, where both are told. */
static int tell_gone(struct look *l, const struct imap_known *k, struct slice name)
{
	unsigned events = wanted(l, name);
	struct store_mailbox m;
	int err = store_mailbox_get(l->txn, l->o->account, k->mailbox, &m);
	bool is_lost = err == 0;

	if (err < 0 && err != ERR_NOT_FOUND)
		return err;
	if (!events || is_by_self(l, k->mailbox) || table_get(l->by_name, name))
		return 0;
	if (events & IMAP_EVENT_NAME || is_lost)
		write_gone(l, name, true);
	if (events & IMAP_EVENT_NAME)
		write_parent(l, name);
	return 0;
}

static int compare(struct look *l)
{
	int err = tell_renames(l);

	for (size_t i = 0; i < l->o->known_count && err == 0; i++)
		if (!table_get(l->by_id, key_of(&l->o->known[i].mailbox)))
			err = tell_gone(l, &l->o->known[i], l->minds[i]);
	for (size_t i = 0; i < l->now_count && err == 0; i++) {
		const struct imap_known *k = table_get(l->known_id, key_of(&l->now[i].id));

		if (is_by_self(l, l->now[i].id))
			continue;
		if (k)
			name_known(l, &l->now[i], k);
		else
			name_new(l, &l->now[i]);
	}
	/* Behind all names: a STATUS is of the mailbox that has the name now. */
	for (size_t i = 0; i < l->now_count && err == 0; i++)
		if (!is_by_self(l, l->now[i].id))
			err = tell_first_status(l, &l->now[i], table_get(l->known_id, key_of(&l->now[i].id)));
	return err;
}

static void tell_subscribed(struct look *l)
{
	struct slice all = buf_view(&l->o->subscribed);

	for (ptrdiff_t end; (end = slice_find(all, '\n')) >= 0; all = slice_from(all, (size_t)end + 1)) {
		struct slice name = slice_sub(all, 0, (size_t)end);
		const struct store_mailbox *m = NULL;

		for (size_t i = 0; i < l->now_count && !m; i++)
			if (slice_is_equal_nocase(l->now[i].name, name))
				m = &l->now[i];
		if (!(imap_notify_wanted(l->set, m ? m->name : name, true) & IMAP_EVENT_SUBSCRIPTION))
			continue;
		if (m)
			write_there(l, m, slice_of(NULL, 0));
		else
			write_gone(l, name, false);
	}
	buf_deinit(&l->o->subscribed);
}

static int tell_names(struct look *l)
{
	bool is_first = !l->o->known;
	int err = list_now(l);

	if (err < 0)
		return err;
	index_known(l);
	if (!is_first || !l->o->is_quiet)
		err = compare(l);
	if (err == 0)
		tell_subscribed(l);
	table_free(&l->known_id);
	table_free(&l->known_name);
	return err < 0 ? err : remember(l);
}

/* ---- messages, annotations ---- */

/* A mailbox that may be watched now, by the name that the session sees. ERR_NOT_FOUND: no. */
static int find_watched(struct look *l, uint32_t mailbox, struct store_mailbox *m)
{
	unsigned rights = 0;
	int err = store_mailbox_get(l->txn, l->o->account, mailbox, m);

	if (err == 0)
		err = imap_access_rights(l->s, l->txn, m, &rights);
	if (err < 0)
		return err;
	if ((rights & WATCHED) != WATCHED)
		return ERR_NOT_FOUND;
	m->name = imap_access_full_name(&l->owner, m->name, &l->arena);
	return m->name.p ? 0 : ERR_TOO_BIG;
}

/* Which messages others have read is not told: only that the user has, in another session. */
static int has_seen_more(struct look *l, uint32_t mailbox, bool *has_out)
{
	uint64_t modseq = 0;
	int err = store_seen_modseq(l->txn, mailbox, imap_access_who(l->s), &modseq);

	*has_out = modseq > l->o->told && !imap_notify_is_own(&l->o->own, modseq);
	return err;
}

static int tell_messages(struct look *l, const struct touched *t)
{
	struct store_mailbox m;
	unsigned events = t->events, items;
	bool has_seen = false;
	int err = find_watched(l, t->mailbox, &m);

	if (err == 0 && t->is_seen)
		err = has_seen_more(l, t->mailbox, &has_seen);
	if (err < 0)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (has_seen)
		events |= IMAP_EVENT_FLAGS;
	events &= wanted(l, m.name);
	items = imap_notify_items(l->s, events, t->is_new);
	/* Section 5.1: "does not notify the client". */
	if (events == IMAP_EVENT_FLAGS && !t->is_new && !l->s->is_condstore &&
		m.messages > IMAP_NOTIFY_UNSEEN_MAX)
		items = 0;
	return write_status(l, &m, items);
}

static int tell_annotation(struct look *l, const struct annotation *a)
{
	struct store_mailbox m;
	unsigned rights = 0;
	struct slice name;
	int err = store_mailbox_get(l->txn, l->o->account, a->mailbox, &m);

	if (err == 0)
		err = imap_metadata_check(l->s, l->txn, &m);
	if (err == 0)
		err = imap_access_rights(l->s, l->txn, &m, &rights);
	if (err < 0) /* it has gone, or is not for this session */
		return err == ERR_NOT_FOUND || err == ERR_FORBIDDEN ? 0 : err;
	name = imap_access_full_name(&l->owner, m.name, &l->arena);
	if (!name.p)
		return ERR_TOO_BIG;
	if (l->s->notify->is_metadata_wanted ||
		((rights & WATCHED) == WATCHED && wanted(l, name) & IMAP_EVENT_METADATA))
		imap_notify_write_metadata(l->s, name, a->text);
	return 0;
}

/* ---- the job ---- */

static void begin_look(struct look *l, struct imap_session *s, struct store_txn *txn, struct imap_other *o)
{
	*l = (struct look){.s = s, .o = o, .set = o->is_watched ? o->all->set : NULL, .txn = txn};
	arena_init(&l->arena, 0);
	l->table = table_new();
	l->by_id = table_new();
	l->by_name = table_new();
	l->known_id = table_new();
	l->known_name = table_new();
	l->touched_tail = &l->touched;
	l->annotations_tail = &l->annotations;
}

static void end_look(struct look *l)
{
	table_free(&l->table);
	table_free(&l->by_id);
	table_free(&l->by_name);
	table_free(&l->known_id);
	table_free(&l->known_name);
	arena_deinit(&l->arena);
}

static int read_log(struct look *l, uint64_t told, uint64_t *now_out)
{
	struct imap_notify *n = l->s->notify;
	uint64_t since = imap_notify_since(n, l->o->slot, l->o->account, told);
	bool is_incomplete = false;
	int err = store_change_each(
		l->txn, l->o->account, since ? since : UINT64_MAX - 1, gather, l, now_out, &is_incomplete);

	if (err == 0 && is_incomplete && since < told)
		err = store_change_each(l->txn, l->o->account, told, gather, l, now_out, &is_incomplete);
	if (l->set && n->left.slot == l->o->slot && n->left.account == l->o->account)
		n->left.mailbox = 0;

	return err == 0 && is_incomplete ? ERR_TOO_BIG : err;
}

static bool is_renamed(const struct look *l)
{
	return l->o->address && strcmp(l->o->address, l->owner.address) != 0;
}

static void keep_address(struct look *l)
{
	free(l->o->address);
	l->o->address = xstrdup(l->owner.address);
}

static int tell_all(struct look *l)
{
	int err = 0;

	if (l->set && (l->are_names_stale || !l->o->known || is_renamed(l) || buf_len(&l->o->subscribed)))
		err = tell_names(l);
	if (err == 0)
		keep_address(l);
	for (const struct annotation *a = l->annotations; a && err == 0; a = a->next)
		err = tell_annotation(l, a);
	for (const struct touched *t = l->touched; t && err == 0; t = t->next)
		if (t->events || t->is_seen || t->is_new)
			err = tell_messages(l, t);
	return err;
}

/* Nothing of it is there any more, its name neither. */
static void tell_removed(struct look *l)
{
	for (size_t i = 0; i < l->o->known_count; i++)
		if (wanted(l, l->o->known[i].name) & IMAP_EVENT_NAME)
			write_gone(l, l->o->known[i].name, true);
	imap_foreign_forget(l->o);
}

int imap_foreign_tell(struct imap_session *s, struct store_txn *txn, struct imap_other *o)
{
	struct look l;
	uint64_t now = 0;
	int err;

	begin_look(&l, s, txn, o);
	err = store_get_account(store_work_store(s->service->work), o->slot, o->account, &l.owner);
	if (err == 0)
		err = read_log(&l, o->told, &now);
	if (err == 0)
		err = tell_all(&l);
	else if (err == ERR_NOT_FOUND)
		tell_removed(&l);
	/* Too much to be told. Annotations alone are seen when they are asked for. */
	if (err == ERR_TOO_BIG) {
		if (l.set)
			imap_notify_overflow(s);
		err = 0;
	}
	end_look(&l);
	if (err < 0)
		return err;
	if (now) {
		o->told = now;
		o->own.count = 0;
	}
	return 0;
}

/* Section 3.1: what can be looked up and not be watched is told so; STATUS of the others. */
static int tell_first(struct look *l, bool wants_status)
{
	int err = 0;

	for (size_t i = 0; i < l->now_count && err == 0; i++) {
		const struct store_mailbox *m = &l->now[i];
		unsigned events = wanted(l, m->name);

		if (events && !m->noselect && !l->may_read[i])
			write_there(l, m, slice_of(NULL, 0));
		else if (wants_status && events & IMAP_EVENTS_OF_MESSAGES)
			err = write_status(l, m, imap_notify_first_items(events));
	}
	return err;
}

int imap_foreign_begin(struct imap_session *s, struct store_txn *txn, struct imap_other *o, bool wants_status)
{
	struct look l;
	int err;

	begin_look(&l, s, txn, o);
	err = store_get_account(store_work_store(s->service->work), o->slot, o->account, &l.owner);
	if (err == 0)
		err = read_log(&l, 0, &o->told);
	if (err == 0 && l.set) {
		err = list_now(&l);
		if (err == 0)
			err = tell_first(&l, wants_status);
		if (err == 0)
			err = remember(&l);
	}
	if (err == 0)
		keep_address(&l);
	end_look(&l);
	return err;
}
