/*
 * Which events of which mailbox a NOTIFY asks for, and what a STATUS tells of them. Names are those that the session sees, others'
 * in their canonical form: imap_notify_set.c brings what the client wrote into it.
 */
#include "backend/session/imap_access.h"
#include "backend/session/imap_notify.h"
#include "backend/session/imap_status.h"

bool imap_notify_is_below(struct slice name, struct slice parent)
{
	return name.len > parent.len && name.p[parent.len] == STORE_SEPARATOR &&
	       memcmp(name.p, parent.p, parent.len) == 0;
}

static bool has_name(const struct imap_notify_group *g, struct slice name)
{
	for (unsigned i = 0; i < g->count; i++) {
		if (slice_is_equal(name, g->names[i]) ||
			(g->filter == IMAP_FILTER_SUBTREE && imap_notify_is_below(name, g->names[i])))
			return true;
	}
	return false;
}

static bool is_match(const struct imap_notify_group *g, struct slice name, bool is_subscribed)
{
	switch (g->filter) {
	case IMAP_FILTER_INBOXES:
		return slice_is_str(name, "INBOX"); /* all that is delivered goes there */
	case IMAP_FILTER_PERSONAL:
		return !imap_access_is_foreign(name);
	case IMAP_FILTER_SUBSCRIBED:
		return is_subscribed;
	case IMAP_FILTER_SUBTREE:
	case IMAP_FILTER_MAILBOXES:
		return has_name(g, name);
	}
	return false;
}

unsigned imap_notify_wanted(const struct imap_notify_set *set, struct slice name, bool is_subscribed)
{
	unsigned events = 0;

	for (unsigned i = 0; set && i < set->count; i++)
		if (is_match(&set->groups[i], name, is_subscribed))
			events |= set->groups[i].events;
	return events;
}

bool imap_notify_wants_others(const struct imap_notify_set *set)
{
	for (unsigned i = 0; set && i < set->count; i++) {
		const struct imap_notify_group *g = &set->groups[i];

		if (!g->events)
			continue;
		if (g->filter == IMAP_FILTER_SUBSCRIBED)
			return true;
		for (unsigned k = 0; k < g->count; k++)
			if (imap_access_is_foreign(g->names[k]))
				return true;
	}
	return false;
}

/* ---- subscriptions to others' mailboxes ---- */

static bool next_subscribed(const struct imap_notify_set *set, size_t *at, struct slice *name_out)
{
	struct slice rest = slice_from(buf_view(&set->subscribed), *at);
	ptrdiff_t end = slice_find(rest, '\n');

	if (end < 0)
		return false;
	*name_out = slice_sub(rest, 0, (size_t)end);
	*at += (size_t)end + 1;
	return true;
}

bool imap_notify_is_subscribed(const struct imap_notify_set *set, struct slice name)
{
	struct slice subscribed;

	for (size_t at = 0; set && next_subscribed(set, &at, &subscribed);)
		if (slice_is_equal_nocase(subscribed, name)) /* as LIST has it */
			return true;
	return false;
}

int imap_notify_read_subscribed(struct imap_session *s, struct store_txn *txn, struct imap_notify_set *set)
{
	struct store_mailbox *all;
	struct arena arena;
	size_t count = 0;
	int err;

	arena_init(&arena, 0);
	buf_clear(&set->subscribed);
	err = store_mailbox_list(txn, s->account, &arena, &all, &count);
	for (size_t i = 0; i < count && err == 0; i++) {
		if (!all[i].subscribed || !imap_access_is_foreign(all[i].name))
			continue;
		buf_add_slice(&set->subscribed, all[i].name);
		buf_add_char(&set->subscribed, '\n');
		if (buf_len(&set->subscribed) > IMAP_NOTIFY_SUBSCRIBED_MEMORY)
			err = ERR_TOO_BIG;
	}
	arena_deinit(&arena);
	return err;
}

static bool is_within(struct slice name, struct slice owner)
{
	return name.len > owner.len && name.p[owner.len] == STORE_SEPARATOR &&
	       slice_is_equal_nocase(slice_sub(name, 0, owner.len), owner);
}

static bool has_subscribed(const struct imap_notify_set *set, struct slice owner)
{
	struct slice name;

	for (size_t at = 0; next_subscribed(set, &at, &name);)
		if (is_within(name, owner))
			return true;
	return false;
}

bool imap_notify_wants_owner(const struct imap_notify_set *set, struct slice owner)
{
	for (unsigned i = 0; set && i < set->count; i++) {
		const struct imap_notify_group *g = &set->groups[i];

		if (!g->events)
			continue;
		if (g->filter == IMAP_FILTER_SUBSCRIBED && has_subscribed(set, owner))
			return true;
		for (unsigned k = 0; k < g->count; k++)
			if (slice_is_equal(g->names[k], owner) || imap_notify_is_below(g->names[k], owner) ||
				(g->filter == IMAP_FILTER_SUBTREE &&
					imap_notify_is_below(owner, g->names[k])))
				return true;
	}
	return false;
}

/* ---- STATUS ---- */

unsigned imap_notify_items(const struct imap_session *s, unsigned events, bool is_new)
{
	unsigned items = 0;

	if (events & (IMAP_EVENT_NEW | IMAP_EVENT_EXPUNGE))
		items |= imap_status_item("MESSAGES") | imap_status_item("UIDNEXT") |
			 (s->is_condstore ? imap_status_item("HIGHESTMODSEQ") : 0);
	if (events & IMAP_EVENT_FLAGS)
		items |= imap_status_item("UIDVALIDITY") | imap_status_item("UNSEEN") |
			 (s->is_condstore ? imap_status_item("HIGHESTMODSEQ") : 0);
	return items | (is_new ? imap_status_item("UIDVALIDITY") : 0);
}

unsigned imap_notify_first_items(unsigned events)
{
	unsigned items = 0;

	if (events & IMAP_EVENT_NEW)
		items |= imap_status_item("MESSAGES") | imap_status_item("UIDNEXT") |
			 imap_status_item("UIDVALIDITY");
	if (events & IMAP_EVENT_EXPUNGE)
		items |= imap_status_item("MESSAGES");
	if (events & IMAP_EVENT_FLAGS)
		items |= imap_status_item("UIDVALIDITY") | imap_status_item("HIGHESTMODSEQ");
	return items;
}
