/* What is not there and what may not be read is passed over alike (RFC 7377 section 5). */
#include "backend/session/imap_source.h"

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

static bool is_meant(const struct imap_source *source, const struct store_mailbox *m, uint32_t selected)
{
	switch (source->kind) {
	case IMAP_SOURCE_SELECTED:
		return m->id == selected;
	case IMAP_SOURCE_PERSONAL:
		return true;
	case IMAP_SOURCE_SUBSCRIBED:
		return m->subscribed;
	case IMAP_SOURCE_SUBTREE:
		return is_in_tree(m->name, source->name, 0);
	case IMAP_SOURCE_SUBTREE_ONE:
		return is_in_tree(m->name, source->name, 1);
	case IMAP_SOURCE_MAILBOXES:
		return slice_is_equal(m->name, source->name);
	}
	return false;
}

int imap_source_find(struct imap_session *s, struct store_txn *txn, const struct imap_sources *sources,
	uint32_t selected, struct arena *arena, struct imap_source_mailbox **mailboxes_out, size_t *count_out)
{
	struct imap_source_mailbox *found;
	struct store_mailbox *all, mailbox;
	size_t count, n = 0;
	int err = store_mailbox_list(txn, imap_access_account(s), arena, &all, &count);

	if (err < 0)
		return err;
	found = arena_calloc(arena, count + 1, sizeof(*found));
	if (!found)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < count; i++) {
		bool wanted = false;

		for (size_t k = 0; k < sources->count && !wanted && all[i].id; k++)
			wanted = is_meant(&sources->list[k], &all[i], selected);
		if (!wanted || all[i].noselect)
			continue;
		err = imap_access_find(s, txn, all[i].name, IMAP_RIGHT_READ, &mailbox);
		if (err == 0)
			found[n++] = (struct imap_source_mailbox){mailbox.id, all[i].name};
		else if (err != ERR_NOT_FOUND && err != ERR_DENIED)
			return err;
	}
	*mailboxes_out = found;
	*count_out = n;
	return 0;
}
