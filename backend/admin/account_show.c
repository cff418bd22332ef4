/*
 * A list of accounts goes by pages: a reader thread walks over the name table and keeps the least addresses behind the last one
 * shown, PAGE_MOST at a time, so that memory is bounded however many accounts there are; then the main loop shows some in each
 * turn, no faster than the client takes them, each as it is at that moment.
 */
#include "backend/admin/account_show.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/admin/accounts.h"
#include "backend/admin/policy_options.h"
#include "backend/store/store_account.h"
#include "backend/store/store_mailbox.h"
#include "common/auth/password.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/num.h"

static const char *const levels[] = {
	[STORE_LEVEL_ACCOUNT] = "account",
	[STORE_LEVEL_CLASS] = "class",
	[STORE_LEVEL_DOMAIN] = "domain",
	[STORE_LEVEL_BUILT_IN] = "built-in",
	[STORE_LEVEL_CAP] = "domain maximum",
};

static void add_account(struct control_request *r, const struct store_account *a)
{
	control_add_str(r, "account", a->address);
	control_add_int(r, "bytes", (int64_t)a->bytes_used);
	control_add_int(r, "bytes_limit", (int64_t)a->bytes_limit);
	control_add_int(r, "messages", (int64_t)a->count_used);
	control_add_int(r, "messages_limit", (int64_t)a->count_limit);
}

static void add_flags(struct control_request *r, uint32_t flags)
{
	control_add_bool(r, "enabled", !(flags & STORE_ACCOUNT_DISABLED));
	control_add_bool(r, "takes_mail", !(flags & (STORE_ACCOUNT_NO_MAIL | STORE_ACCOUNT_MAIL_LATER)));
	control_add_bool(r, "suspended", flags & STORE_ACCOUNT_SUSPENDED);
}

/* ---- one account ---- */

struct show {
	struct control_request *request;
	struct store *store;
	struct store_account account;
	struct arena arena;
	struct store_account_record record;
	struct slice *aliases, *forwards;
	size_t alias_count, forward_count;
	struct store_mailbox *mailboxes;
	size_t mailbox_count;
	char scheme[32];
};

static int run_show(struct store_txn *txn, void *arg)
{
	struct show *s = arg;
	int err = store_account_get(txn, s->account.id, &s->record);

	if (err)
		return err;
	snprintf(s->scheme, sizeof(s->scheme), "%s",
		s->record.password.len ? password_scheme(s->record.password) : "");
	s->record.name = arena_copy(&s->arena, s->record.name);
	err = store_account_split(
		arena_copy(&s->arena, s->record.forwards), &s->arena, &s->forwards, &s->forward_count);
	if (!err)
		err = store_account_aliases(txn, s->account.id, &s->arena, &s->aliases, &s->alias_count);
	return err ? err
		   : store_mailbox_list(txn, s->account.id, &s->arena, &s->mailboxes, &s->mailbox_count);
}

/* Values and where they come from. */
static void show_levels(struct show *s)
{
	struct control_request *r = s->request;
	struct store_account_origin o;

	if (store_account_explain(s->store, s->account.slot, s->account.id, &o))
		return;
	control_add_str(r, "bytes_limit_from", levels[o.bytes]);
	control_add_str(r, "messages_limit_from", levels[o.count]);
	policy_options_show_protocols(r, o.effective.protocols);
	control_add_str(r, "protocols_from", levels[o.protocols]);
	control_add_str(r, "suspended_mail", policy_options_mail_word(o.effective.suspended_mail));
	control_add_str(r, "suspended_mail_from", levels[o.suspended_mail]);
	control_add_list(r, "suspended_by", NULL, 0);
	for (size_t i = 0; i < ARRAY_LEN(o.is_suspended_by); i++)
		if (o.is_suspended_by[i])
			control_add_item(r, "suspended_by", slice_str(levels[i]));
	control_add_str(r, "class", o.class);
	control_add_str(r, "class_from", o.class[0] ? levels[o.class_from] : "");
	if (o.class[0] && !o.has_class)
		control_add_bool(r, "class_is_missing", true);
}

static void done_show(void *arg, int err)
{
	struct show *s = arg;
	struct control_request *r = s->request;

	if (err) {
		control_fail(r, err, "%s", err == ERR_NOT_FOUND ? "no such account" : error_text(err));
		return;
	}
	for (size_t i = 0; i < s->mailbox_count; i++) {
		control_row(r);
		control_add_slice(r, "mailbox", s->mailboxes[i].name);
		control_add_int(r, "messages", s->mailboxes[i].messages);
		control_add_int(r, "unseen", s->mailboxes[i].unseen);
		control_add_int(r, "bytes", (int64_t)s->mailboxes[i].size);
	}
	control_result(r);
	add_account(r, &s->account);
	add_flags(r, s->account.flags);
	show_levels(s);
	control_add_slice(r, "name", s->record.name);
	control_add_str(r, "password", s->scheme);
	control_add_int(r, "slot", s->account.slot);
	control_add_time(r, "created", store_created_time(s->record.created));
	control_add_list(r, "aliases", NULL, 0);
	for (size_t i = 0; i < s->alias_count; i++)
		control_add_item(r, "aliases", s->aliases[i]);
	control_add_list(r, "forwards", NULL, 0);
	for (size_t i = 0; i < s->forward_count; i++)
		control_add_item(r, "forwards", s->forwards[i]);
	if (s->forward_count)
		control_add_bool(r, "keeps_a_copy", !(s->account.flags & STORE_ACCOUNT_FORWARDS_ONLY));
	control_done(r);
}

static void drop_show(void *arg)
{
	struct show *s = arg;

	arena_deinit(&s->arena);
	free(s);
}

static int find_shown(struct admin *admin, const char *text, struct store_account *account_out)
{
	return store_find_account(admin->store, slice_str(text), account_out);
}

static void account_show(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct show *s = xcalloc(1, sizeof(*s));
	const struct store_work_call call = {
		.run = run_show, .done = done_show, .drop = drop_show, .arg = s, .loop = admin->loop};
	int err = find_shown(admin, control_arg(r, 0), &s->account);

	arena_init(&s->arena, 0);
	s->request = r;
	s->store = admin->store;
	if (err) {
		control_fail(r, err, "no such account");
		drop_show(s);
		return;
	}
	(void)store_work_read(admin->work, s->account.slot, &call);
}

/* ---- lists ---- */

#define ROWS_A_TURN 200
#define PAGE_MOST 5000

struct listed {
	unsigned slot;
	uint32_t id;
	char *address;
};

struct listing {
	struct admin *admin;
	struct control_request *request;
	struct listed page[2 * PAGE_MOST];
	size_t count, at;
	bool is_more; /* accounts behind this page */
	uint64_t shown, most;
	char *after;                   /* address; "" the beginning */
	char *domain, *class, *prefix; /* "" all */
	bool only_suspended, only_disabled, has_flags;
};

static bool fits(const struct listing *l, const struct store_account *a)
{
	const char *at = strrchr(a->address, '@');
	struct store_account_origin origin;

	if (strcmp(a->address, l->after) <= 0)
		return false;
	if (l->domain[0] && (!at || strcmp(at + 1, l->domain) != 0))
		return false;
	if (strncmp(a->address, l->prefix, strlen(l->prefix)) != 0)
		return false;
	if ((l->only_suspended && !(a->flags & STORE_ACCOUNT_SUSPENDED)) ||
		(l->only_disabled && !(a->flags & STORE_ACCOUNT_DISABLED)))
		return false;
	return !l->class[0] || (store_account_explain(l->admin->store, a->slot, a->id, &origin) == 0 &&
				       strcmp(origin.class, l->class) == 0);
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->address, ((const struct listed *)b)->address);
}

/* Keeps the least. */
static void cut_page(struct listing *l)
{
	qsort(l->page, l->count, sizeof(*l->page), by_address);
	for (; l->count > PAGE_MOST; l->is_more = true)
		free(l->page[--l->count].address);
}

static bool collect(void *arg, const struct store_account *account)
{
	struct listing *l = arg;

	/* Behind a page that is full already: another page's. */
	if (l->is_more && strcmp(account->address, l->page[PAGE_MOST - 1].address) > 0)
		return true;
	if (!fits(l, account))
		return true;
	if (l->count == ARRAY_LEN(l->page))
		cut_page(l);
	l->page[l->count++] = (struct listed){account->slot, account->id, xstrdup(account->address)};
	return true;
}

static int run_page(struct store_txn *txn, void *arg)
{
	struct listing *l = arg;

	(void)txn;
	store_each_account(l->admin->store, collect, l);
	cut_page(l);
	return 0;
}

static void page_free(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->page[i].address);
	l->count = l->at = 0;
	l->is_more = false;
}

static void listing_free(struct listing *l)
{
	page_free(l);
	free(l->after);
	free(l->domain);
	free(l->class);
	free(l->prefix);
	free(l);
}

static void done_page(void *arg, int err);

static void next_page(struct listing *l)
{
	const struct store_work_call call = {
		.run = run_page, .done = done_page, .arg = l, .loop = l->admin->loop};

	if (l->count) {
		free(l->after);
		l->after = xstrdup(l->page[l->count - 1].address);
	}
	page_free(l);
	(void)store_work_read(l->admin->work, 0, &call);
}

static void show_row(struct listing *l, const struct store_account *account)
{
	struct control_request *r = l->request;

	control_row(r);
	add_account(r, account);
	if (l->has_flags)
		add_flags(r, account->flags);
	l->shown++;
}

static void end_list(struct listing *l, bool is_cut)
{
	struct control_request *r = l->request;

	control_result(r);
	control_add_int(r, "accounts", (int64_t)l->shown);
	if (is_cut)
		control_add_bool(r, "more", true);
	control_done(r);
	listing_free(l);
}

static void list_step(void *arg)
{
	struct listing *l = arg;
	struct control_request *r = l->request;
	size_t end = l->at + ROWS_A_TURN < l->count ? l->at + ROWS_A_TURN : l->count;

	for (; l->at < end && l->shown < l->most; l->at++) {
		struct store_account account;

		/* Who has gone meanwhile is not shown. */
		if (!store_get_account(l->admin->store, l->page[l->at].slot, l->page[l->at].id, &account))
			show_row(l, &account);
	}
	if (control_is_gone(r) || l->shown >= l->most)
		end_list(l, l->at < l->count || l->is_more);
	else if (l->at < l->count)
		control_when_room(r, list_step, l);
	else if (l->is_more)
		next_page(l);
	else
		end_list(l, false);
}

static void done_page(void *arg, int err)
{
	struct listing *l = arg;

	if (err) {
		control_fail(l->request, err, "%s", error_text(err));
		listing_free(l);
		return;
	}
	list_step(l);
}

static char *option_of(struct control_request *r, const char *name)
{
	const char *text = control_option(r, name, 0);

	return xstrdup(text ? text : "");
}

static void list_accounts(struct admin *admin, struct control_request *r, const char *domain, bool has_flags)
{
	struct listing *l = xcalloc(1, sizeof(*l));
	const char *limit = control_option(r, "limit", 0);

	l->admin = admin;
	l->request = r;
	l->domain = xstrdup(domain);
	l->class = option_of(r, "class");
	l->prefix = option_of(r, "prefix");
	l->after = option_of(r, "after");
	l->only_suspended = control_has_option(r, "suspended");
	l->only_disabled = control_has_option(r, "disabled");
	l->has_flags = has_flags;
	l->most = UINT64_MAX;
	if (limit && (num_parse_u64(slice_str(limit), &l->most) || l->most == 0)) {
		control_fail(r, ERR_SYNTAX, "--limit is a number from 1");
		listing_free(l);
		return;
	}
	next_page(l);
}

static void account_list(void *arg, struct control_request *r)
{
	list_accounts(arg, r, control_arg(r, 0), true);
}

static void quota_list(void *arg, struct control_request *r)
{
	list_accounts(arg, r, control_arg(r, 0), false);
}

static void quota(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct store_account account;
	int err;

	if (control_arg_count(r) == 0) {
		list_accounts(admin, r, "", false);
		return;
	}
	if ((err = find_shown(admin, control_arg(r, 0), &account))) {
		control_fail(r, err, "no such account");
		return;
	}
	add_account(r, &account);
	control_done(r);
}

static const struct control_verb verbs[] = {
	{"account show", "ADDRESS", "Limits and where they come from, use, aliases, forwarding, folders",
		account_show, 1, 1, NULL, 0},
	{"account list",
		"[DOMAIN] [--class CLASS] [--prefix TEXT] [--suspended] [--disabled] [--after ADDRESS] "
		"[--limit N]",
		"Accounts, sorted by address: all, or those that fit; --after and --limit show a page",
		account_list, 0, 1, "class= prefix= suspended disabled after= limit=", 0},
	{"quota", "[ADDRESS]", "Use and limits", quota, 0, 1, NULL, 0},
	{"quota list", "[DOMAIN]", "Use and limits of all accounts, or of those of a domain", quota_list, 0,
		1, NULL, 0},
};

void account_show_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
