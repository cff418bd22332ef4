/* What is not there and what may not be read is passed over alike (RFC 7377 section 5). */
#include "backend/session/imap_source.h"

#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"

static const struct {
	const char *word;
	enum imap_source_kind kind;
	bool has_names;
} words[] = {
	{"SELECTED", IMAP_SOURCE_SELECTED, false},
	{"PERSONAL", IMAP_SOURCE_PERSONAL, false},
	{"INBOXES", IMAP_SOURCE_PERSONAL, false},
	{"SUBSCRIBED", IMAP_SOURCE_SUBSCRIBED, false},
	{"SUBTREE", IMAP_SOURCE_SUBTREE, true},
	{"SUBTREE-ONE", IMAP_SOURCE_SUBTREE_ONE, true},
	{"MAILBOXES", IMAP_SOURCE_MAILBOXES, true},
};

static int add(struct imap_sources *sources, enum imap_source_kind kind, struct slice name)
{
	if (sources->count == IMAP_SOURCES_MOST)
		return ERR_TOO_BIG;
	sources->list[sources->count++] = (struct imap_source){kind, name};
	return 0;
}

static int add_name(const struct imap_session *s, struct imap_sources *sources, enum imap_source_kind kind,
	const struct imap_arg *arg, struct arena *arena)
{
	struct slice name;
	int err = imap_parse_astring(arg, &name);

	if (err == 0)
		err = imap_name_read(s, arg, arena, &name);
	else
		return err;
	if (err == 0)
		err = store_mailbox_normalise(name, arena, &name);
	if (err == ERR_SYNTAX) /* no mailbox can have it */
		return 0;
	return err < 0 ? err : add(sources, kind, name);
}

static int add_names(const struct imap_session *s, struct imap_sources *sources, enum imap_source_kind kind,
	const struct imap_arg *arg, struct arena *arena)
{
	int err = 0;

	if (!arg || arg->type != IMAP_ARG_LIST)
		return add_name(s, sources, kind, arg, arena);
	if (!arg->first)
		return ERR_SYNTAX;
	for (arg = arg->first; arg && err == 0; arg = arg->next)
		err = add_name(s, sources, kind, arg, arena);
	return err;
}

int imap_source_parse(const struct imap_session *s, const struct imap_arg *list, struct arena *arena,
	struct imap_sources *out)
{
	int err = 0;

	if (!list || list->type != IMAP_ARG_LIST || !list->first)
		return ERR_SYNTAX;
	*out = (struct imap_sources){.count = 0};
	for (const struct imap_arg *arg = list->first; arg && err == 0; arg = arg ? arg->next : NULL) {
		size_t i = 0;

		while (i < ARRAY_LEN(words) && !imap_parse_is_word(arg, words[i].word))
			i++;
		if (i == ARRAY_LEN(words))
			return ERR_SYNTAX;
		if (words[i].kind == IMAP_SOURCE_SELECTED)
			out->has_selected = true;
		else
			out->has_others = true;
		if (words[i].has_names) {
			arg = arg->next;
			err = add_names(s, out, words[i].kind, arg, arena);
		} else {
			err = add(out, words[i].kind, slice_of(NULL, 0));
		}
	}
	return err;
}

/* The name is the parent's or below it; levels: at most so many below, 0: any. */
static bool is_in_tree(struct slice name, struct slice parent, unsigned levels)
{
	if (slice_is_equal(name, parent))
		return true;
	if (name.len <= parent.len || name.p[parent.len] != STORE_SEPARATOR ||
		!slice_is_equal(slice_sub(name, 0, parent.len), parent))
		return false;
	return levels == 0 || slice_find(slice_from(name, parent.len + 1), STORE_SEPARATOR) < 0;
}

static bool is_subscribed(const struct imap_sources *sources, const struct store_mailbox *m)
{
	for (size_t i = 0; i < sources->subscribed_count && !m->subscribed; i++) {
		if (slice_is_equal_nocase(sources->subscribed[i], m->name))
			return true;
	}
	return m->subscribed;
}

static bool is_selected(const struct imap_session *s, unsigned slot, uint32_t mailbox)
{
	return s->view.mailbox == mailbox && s->view.slot == slot;
}

static bool is_meant(const struct imap_session *s, const struct imap_sources *sources,
	const struct imap_source *source, const struct store_mailbox *m, unsigned slot)
{
	bool is_own = m->account == s->account && slot == s->slot;

	switch (source->kind) {
	case IMAP_SOURCE_SELECTED:
		return is_own && is_selected(s, slot, m->id);
	case IMAP_SOURCE_PERSONAL:
		return is_own;
	case IMAP_SOURCE_SUBSCRIBED:
		return is_subscribed(sources, m);
	case IMAP_SOURCE_SUBTREE:
		return is_in_tree(m->name, source->name, 0);
	case IMAP_SOURCE_SUBTREE_ONE:
		return is_in_tree(m->name, source->name, 1);
	case IMAP_SOURCE_MAILBOXES:
		return slice_is_equal(m->name, source->name);
	}
	return false;
}

bool imap_source_is_wide(const struct imap_session *s, const struct imap_sources *sources)
{
	for (size_t i = 0; i < sources->count; i++) {
		const struct imap_source *source = &sources->list[i];

		if (source->kind == IMAP_SOURCE_SUBSCRIBED || imap_access_is_foreign(source->name) ||
			(source->kind == IMAP_SOURCE_SELECTED && s->view.is_guest))
			return true;
	}
	return false;
}

/* Own mailboxes, and what is subscribed of others'. */
static int list_own(struct imap_session *s, struct store_txn *txn, struct imap_sources *sources,
	struct arena *arena, struct store_mailbox **all_out, size_t *count_out)
{
	size_t kept = 0;
	int err = store_mailbox_list(txn, s->account, arena, all_out, count_out);

	if (err < 0)
		return err;
	sources->subscribed = arena_calloc(arena, *count_out + 1, sizeof(*sources->subscribed));
	if (!sources->subscribed)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < *count_out; i++) {
		struct store_mailbox *m = &(*all_out)[i];

		if (!imap_access_is_foreign(m->name))
			(*all_out)[kept++] = *m;
		else if (m->subscribed)
			sources->subscribed[sources->subscribed_count++] = m->name;
	}
	*count_out = kept;
	return 0;
}

/* The selected one, if it is another's: it needs no lookup, but to be readable still. */
static int find_selected(struct imap_session *s, struct store_txn *txn, const struct imap_sources *sources,
	struct arena *arena, struct buf *found)
{
	struct imap_source_mailbox e = {s->view.slot, s->view.account, s->view.mailbox, slice_of(NULL, 0)};
	struct store_account owner;
	struct store_mailbox m;
	int err;

	if (!sources->has_selected || !s->view.is_guest || s->view.slot != store_txn_slot(txn))
		return 0;
	err = imap_access_check(s, txn, IMAP_RIGHT_READ);
	if (err == 0)
		err = store_get_account(store_work_store(s->service->work), e.slot, e.account, &owner);
	if (err == 0)
		err = store_mailbox_get(txn, e.account, e.id, &m);
	if (err < 0)
		return err == ERR_NOT_FOUND ? 0 : err;
	e.name = imap_access_full_name(&owner, m.name, arena);
	buf_add(found, &e, sizeof(e));
	return e.name.p ? 0 : ERR_TOO_BIG;
}

static int add_meant(struct imap_session *s, struct store_txn *txn, const struct imap_sources *sources,
	const struct store_mailbox *all, size_t count, struct buf *found)
{
	unsigned slot = store_txn_slot(txn);

	for (size_t i = 0; i < count; i++) {
		const struct store_mailbox *m = &all[i];
		struct imap_source_mailbox e = {slot, m->account, m->id, m->name};
		unsigned rights;
		bool wanted = false;
		int err;

		for (size_t k = 0; k < sources->count && !wanted && m->id; k++)
			wanted = is_meant(s, sources, &sources->list[k], m, slot);
		if (!wanted || m->noselect)
			continue;
		if (sources->has_selected && s->view.is_guest && is_selected(s, slot, m->id))
			continue; /* is there already */
		err = imap_access_rights(s, txn, m, &rights);
		if (err < 0 && err != ERR_NOT_FOUND)
			return err;
		if (err == 0 && rights & IMAP_RIGHT_LOOKUP && rights & IMAP_RIGHT_READ)
			buf_add(found, &e, sizeof(e));
	}
	return 0;
}

int imap_source_find(struct imap_session *s, struct store_txn *txn, struct imap_sources *sources,
	struct arena *arena, struct buf *found)
{
	struct store_mailbox *all;
	size_t count;
	int err = 0;

	if (store_txn_slot(txn) == s->slot) {
		err = list_own(s, txn, sources, arena, &all, &count);
		if (err == 0)
			err = add_meant(s, txn, sources, all, count, found);
	}
	if (err < 0 || !imap_source_is_wide(s, sources))
		return err;
	err = find_selected(s, txn, sources, arena, found);
	if (err == 0)
		err = imap_access_list(s, txn, arena, &all, &count);
	return err < 0 ? err : add_meant(s, txn, sources, all, count, found);
}
