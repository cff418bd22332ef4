/*
 * NOTIFY (RFC 5465 section 3.1, 8). The arguments live as long as the command; what is kept is copied into an arena of its own
 * with a limit: beyond it the client is told NOTIFICATIONOVERFLOW. A name that is no mailbox's, or not to be looked up, is ignored,
 * and watched for: it may come to be, or be shared.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"
#include "common/base/mem.h"

/* BADEVENT lists what there is: AnnotationChange is not. */
#define EVENTS                                                                                               \
	"MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange "         \
	"ServerMetadataChange"

static const struct {
	const char *word;
	unsigned event;
} events[] = {
	{"MessageNew", IMAP_EVENT_NEW},
	{"MessageExpunge", IMAP_EVENT_EXPUNGE},
	{"FlagChange", IMAP_EVENT_FLAGS},
	{"MailboxName", IMAP_EVENT_NAME},
	{"SubscriptionChange", IMAP_EVENT_SUBSCRIPTION},
	{"MailboxMetadataChange", IMAP_EVENT_METADATA},
	{"ServerMetadataChange", IMAP_EVENT_SERVER_METADATA},
};

static const struct {
	const char *word;
	enum imap_filter filter;
	bool has_names;
} filters[] = {
	{"INBOXES", IMAP_FILTER_INBOXES, false},
	{"PERSONAL", IMAP_FILTER_PERSONAL, false},
	{"SUBSCRIBED", IMAP_FILTER_SUBSCRIBED, false},
	{"SUBTREE", IMAP_FILTER_SUBTREE, true},
	{"MAILBOXES", IMAP_FILTER_MAILBOXES, true},
};

/* ---- copies ---- */

static struct imap_arg *copy_arg(struct arena *arena, const struct imap_arg *arg)
{
	struct imap_arg *copy = arena_calloc(arena, 1, sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *arg;
	copy->next = copy->first = NULL;
	if (arg->text.len)
		copy->text = arena_copy(arena, arg->text);
	return arg->text.len && !copy->text.p ? NULL : copy;
}

/* fetch-att nest once: BODY[HEADER.FIELDS (...)]. ERR_SYNTAX beyond, ERR_TOO_BIG without memory. */
static int copy_list(struct arena *arena, const struct imap_arg *list, struct imap_arg **copy_out)
{
	struct imap_arg *copy = copy_arg(arena, list), **tail = copy ? &copy->first : NULL;

	if (!copy)
		return ERR_TOO_BIG;
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next) {
		struct imap_arg *own = copy_arg(arena, arg), **inner = own ? &own->first : NULL;

		if (!own)
			return ERR_TOO_BIG;
		for (const struct imap_arg *in = arg->type == IMAP_ARG_LIST ? arg->first : NULL; in;
			in = in->next) {
			if (in->type == IMAP_ARG_LIST)
				return ERR_SYNTAX;
			*inner = copy_arg(arena, in);
			if (!*inner)
				return ERR_TOO_BIG;
			inner = &(*inner)->next;
		}
		*tail = own;
		tail = &own->next;
	}
	*copy_out = copy;
	return 0;
}

/* ---- events ---- */

static int read_fetch(struct imap_notify_set *set, const struct imap_arg *list)
{
	struct imap_arg *copy;
	int err = copy_list(&set->arena, list, &copy);

	if (err == 0)
		err = imap_fetch_items_parse(copy, &set->arena, &set->fetch);
	if (err < 0)
		return err;
	/* Nobody has read them. */
	set->fetch.sets_seen = false;
	for (struct imap_fetch_body *b = set->fetch.bodies; b; b = b->next)
		b->is_peek = true;
	set->has_fetch = true;
	return 0;
}

/* Events from arg on. ERR_UNSUPPORTED: one that there is not. */
static int read_events(
	struct imap_notify_set *set, const struct imap_arg *arg, bool is_selected, unsigned *events_out)
{
	unsigned got = 0;

	if (!arg)
		return ERR_SYNTAX;
	for (; arg; arg = arg->next) {
		size_t i = 0;

		if (arg->type != IMAP_ARG_ATOM)
			return ERR_SYNTAX;
		while (i < ARRAY_LEN(events) && !imap_parse_is_word(arg, events[i].word))
			i++;
		if (i == ARRAY_LEN(events))
			return ERR_UNSUPPORTED;
		got |= events[i].event;
		if (events[i].event == IMAP_EVENT_NEW && arg->next && arg->next->type == IMAP_ARG_LIST) {
			int err = is_selected ? read_fetch(set, arg->next) : ERR_SYNTAX;

			if (err < 0)
				return err;
			arg = arg->next;
		}
	}
	/* Section 5. */
	if (!(got & IMAP_EVENT_NEW) != !(got & IMAP_EVENT_EXPUNGE) ||
		(got & IMAP_EVENT_FLAGS && !(got & IMAP_EVENT_NEW)))
		return ERR_SYNTAX;
	*events_out = got;
	return 0;
}

/* "(" event ... ")", NONE, or, as the RFC's examples have it, events without parentheses. */
static int read_events_or_none(
	struct imap_notify_set *set, const struct imap_arg *arg, bool is_selected, unsigned *events_out)
{
	*events_out = 0;
	if (imap_parse_is_word(arg, "NONE"))
		return arg->next ? ERR_SYNTAX : 0;
	if (arg && arg->type == IMAP_ARG_LIST)
		return arg->next ? ERR_SYNTAX : read_events(set, arg->first, is_selected, events_out);
	return read_events(set, arg, is_selected, events_out);
}

/* ---- groups ---- */

static int add_name(struct imap_session *s, struct imap_notify_set *set, struct imap_notify_group *g,
	const struct imap_arg *arg)
{
	struct slice name;
	int err = imap_name_read(s, arg, &set->arena, &name);

	if (err == ERR_SYNTAX && arg->type != IMAP_ARG_LIST) /* no mailbox has such a name */
		return 0;
	if (err < 0)
		return err;
	if (name.len > 1 && name.p[name.len - 1] == STORE_SEPARATOR)
		name.len--;
	err = imap_access_canonical(name, &set->arena, &name);
	if (err == 0)
		g->names[g->count++] = name;
	return err == ERR_SYNTAX ? 0 : err;
}

static int read_names(struct imap_session *s, struct imap_notify_set *set, struct imap_notify_group *g,
	const struct imap_arg *arg, unsigned *left)
{
	const struct imap_arg *at = arg && arg->type == IMAP_ARG_LIST ? arg->first : arg;
	unsigned count = 0;

	if (!at)
		return ERR_SYNTAX;
	for (const struct imap_arg *a = at; a && (a == arg || arg->type == IMAP_ARG_LIST);
		a = arg->type == IMAP_ARG_LIST ? a->next : NULL)
		count++;
	if (count > *left)
		return ERR_TOO_BIG;
	*left -= count;
	g->names = arena_calloc(&set->arena, count, sizeof(*g->names));
	if (!g->names)
		return ERR_TOO_BIG;
	for (; count; count--, at = at->next) {
		int err = add_name(s, set, g, at);

		if (err < 0)
			return err;
	}
	return 0;
}

static int read_selected(struct imap_notify_set *set, const struct imap_arg *arg, bool *has_selected)
{
	int err;

	if (*has_selected)
		return ERR_SYNTAX;
	*has_selected = true;
	set->is_delayed = imap_parse_is_word(arg, "SELECTED-DELAYED");
	err = read_events_or_none(set, arg->next, true, &set->selected);
	return err == 0 && set->selected & ~(unsigned)IMAP_EVENTS_OF_MESSAGES ? ERR_SYNTAX : err;
}

static int read_group(struct imap_session *s, struct imap_notify_set *set, const struct imap_arg *list,
	bool *has_selected, unsigned *left)
{
	struct imap_notify_group *g = &set->groups[set->count];
	const struct imap_arg *arg = list->type == IMAP_ARG_LIST ? list->first : NULL;
	size_t i = 0;
	int err = 0;

	if (imap_parse_is_word(arg, "SELECTED") || imap_parse_is_word(arg, "SELECTED-DELAYED"))
		return read_selected(set, arg, has_selected);
	while (i < ARRAY_LEN(filters) && !imap_parse_is_word(arg, filters[i].word))
		i++;
	if (i == ARRAY_LEN(filters))
		return ERR_SYNTAX;
	if (set->count == IMAP_NOTIFY_GROUPS_MAX)
		return ERR_TOO_BIG;
	g->filter = filters[i].filter;
	arg = arg->next;
	if (filters[i].has_names) {
		err = read_names(s, set, g, arg, left);
		arg = arg ? arg->next : NULL;
	}
	if (err == 0)
		err = read_events_or_none(set, arg, false, &g->events);
	set->count += err == 0;
	return err;
}

static int read_groups(struct imap_session *s, struct imap_notify_set *set, const struct imap_arg *arg)
{
	bool has_selected = false;
	unsigned left = IMAP_NOTIFY_NAMES_MAX;
	int err = arg ? 0 : ERR_SYNTAX;

	for (; arg && err == 0; arg = arg->next)
		err = read_group(s, set, arg, &has_selected, &left);
	return err;
}

/* ---- the command ---- */

struct notify_data {
	bool wants_status;
};

static int set_run(struct imap_session *s, struct store_txn *txn)
{
	const struct notify_data *d = s->data;

	return imap_notify_begin(s, txn, d->wants_status);
}

static void put_in_force(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	imap_others_put_in_force(s);
	imap_notify_set_free(&n->set);
	n->set = n->next;
	n->next = NULL;
	n->is_overflown = false; /* what was watched before */
	/* What the answer's sync is about to tell is no news to be fetched: imap_notify_command_ended() says from where on. */
	n->fetch_mailbox = 0;
	n->own_uids.count = 0;
}

/* The set before goes on, unless it has come to its end itself. */
static void give_up(struct imap_session *s)
{
	imap_others_give_up(s);
	imap_notify_set_free(&s->notify->next);
	imap_notify_end_overflow(s);
	imap_others_see_subscribed(s);
}

static void set_done(struct imap_session *s, int err)
{
	if (err == 0) {
		put_in_force(s);
		s->must_sync = s->view.mailbox != 0;
		imap_ok(s);
		return;
	}
	give_up(s);
	if (err == ERR_TOO_BIG)
		imap_answer(s, "NO", "NOTIFICATIONOVERFLOW", "That is more than can be watched");
	else
		imap_fail(s, err);
}

static void own_done(struct imap_session *s, int err)
{
	struct imap_notify *n = s->notify;
	const struct notify_data *d = s->data;

	if (err == 0 && (imap_notify_wants_others(n->next) || n->is_metadata_wanted))
		imap_others_begin(s, d->wants_status, set_done);
	else
		set_done(s, err);
}

static void notify_none(struct imap_session *s)
{
	imap_notify_set_none(s);
	imap_ok(s);
}

void imap_cmd_notify(struct imap_session *s, const struct imap_command *command)
{
	struct notify_data *d = imap_data(s, sizeof(*d));
	const struct imap_arg *arg = command->args;
	struct imap_notify *n;
	int err;

	if (!d)
		return;
	if (command->count == 1 && imap_parse_is_word(arg, "NONE")) {
		notify_none(s);
		return;
	}
	if (!imap_parse_is_word(arg, "SET")) {
		imap_bad(s, "NOTIFY wants SET or NONE");
		return;
	}
	arg = arg->next;
	d->wants_status = imap_parse_is_word(arg, "STATUS");
	if (d->wants_status)
		arg = arg->next;
	n = imap_notify_get(s);
	imap_notify_set_free(&n->next);
	n->next = xcalloc(1, sizeof(*n->next));
	arena_init(&n->next->arena, IMAP_NOTIFY_MEMORY);
	err = read_groups(s, n->next, arg);
	if (err == 0) {
		s->at_slot = s->slot;
		imap_read_beside(s, set_run, own_done);
		return;
	}
	imap_notify_set_free(&n->next);
	if (err == ERR_UNSUPPORTED)
		imap_answer(s, "NO", "BADEVENT (" EVENTS ")", "There is no such event here");
	else if (err == ERR_TOO_BIG)
		imap_answer(s, "NO", "NOTIFICATIONOVERFLOW", "That is more than can be watched");
	else
		imap_bad(s, "Wrong arguments for NOTIFY");
}
