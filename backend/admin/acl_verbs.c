/* An owner is an account, or "@domain": the account to which that domain's public folders belong. */
#include "backend/admin/acl_verbs.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/store_account.h"
#include "backend/store/store_domain.h"
#include "common/base/mem.h"

#define ARENA_MOST (4u << 20)
/* What a public folder gives to everyone of its domain unless it is said or inherited. */
#define PUBLIC_RIGHTS "lrs"

struct verb {
	struct admin *admin;
	struct control_request *request;
	struct arena arena;
	struct store_account owner;
	struct slice mailbox;
	int (*run)(struct store_txn *txn, struct verb *v);
	/* acl set, acl remove */
	struct store_who who;
	bool denies, removes;
	char how; /* '+', '-' or '=' */
	unsigned rights;
	/* public add */
	bool is_new; /* the owner is to be made first */
	bool has_rights;
	/* found */
	struct store_acl_entry *entries;
	size_t entry_count;
	struct store_mailbox *mailboxes;
	size_t mailbox_count;
};

static void verb_free(void *arg)
{
	struct verb *v = arg;

	arena_deinit(&v->arena);
	free(v);
}

static void refuse(struct verb *v, int err, const char *words)
{
	control_fail(v->request, err, "%s", words);
	verb_free(v);
}

static int run(struct store_txn *txn, void *arg)
{
	struct verb *v = arg;

	return v->run(txn, v);
}

/* ---- words ---- */

static int find_owner(struct verb *v, const char *text)
{
	char address[STORE_ADDRESS_MAX + 1];

	if (text[0] != '@')
		return store_find_account(v->admin->store, slice_str(text), &v->owner);
	if (snprintf(address, sizeof(address), STORE_PUBLIC_LOCAL "%s", text) >= (int)sizeof(address))
		return ERR_TOO_BIG;
	return store_find_account(v->admin->store, slice_str(address), &v->owner);
}

static struct verb *begin(struct admin *admin, struct control_request *r)
{
	struct verb *v = xcalloc(1, sizeof(*v));

	v->admin = admin;
	v->request = r;
	arena_init(&v->arena, ARENA_MOST);
	return v;
}

/* False: answered. */
static bool read_mailbox(struct verb *v, const char *text)
{
	int err = store_mailbox_normalise(slice_str(text), &v->arena, &v->mailbox);

	if (err)
		refuse(v, ERR_SYNTAX, "this is no name of a mailbox");
	return !err;
}

static struct verb *begin_acl(struct admin *admin, struct control_request *r)
{
	struct verb *v = begin(admin, r);

	if (find_owner(v, control_arg(r, 0))) {
		refuse(v, ERR_NOT_FOUND, "there is no such account, or the domain has no public folders");
		return NULL;
	}
	return read_mailbox(v, control_arg(r, 1)) ? v : NULL;
}

static bool read_who(struct verb *v, const char *text)
{
	struct store_account account;

	v->denies = text[0] == '-';
	text += v->denies;
	if (strcmp(text, "anyone") == 0)
		return true;
	if (store_find_account(v->admin->store, slice_str(text), &account)) {
		refuse(v, ERR_NOT_FOUND, "there is no such account on this back-end");
		return false;
	}
	if (account.slot == v->owner.slot && account.id == v->owner.id) {
		refuse(v, ERR_DENIED, "the owner has all rights");
		return false;
	}
	v->who = (struct store_who){account.slot, account.id};
	return true;
}

static bool read_rights(struct verb *v, const char *text)
{
	v->how = '=';
	if (text[0] == '+' || text[0] == '-')
		v->how = *text++;
	if (store_acl_parse(slice_str(text), &v->rights) == 0)
		return true;
	refuse(v, ERR_SYNTAX, "rights are letters of lrswipkxtea, with + or - before them to add or to take");
	return false;
}

static const char *words_of(int err)
{
	if (err == ERR_NOT_FOUND)
		return "there is no such mailbox";
	if (err == ERR_EXISTS)
		return "there is such a mailbox already";
	if (err == ERR_CANCELLED)
		return "the ACL does not name this identifier";
	if (err == ERR_TOO_BIG)
		return "too many entries in this ACL, mailboxes in the account, or mailboxes that name this "
		       "account";
	return error_text(err);
}

static void done_change(void *arg, int err)
{
	struct verb *v = arg;

	if (err) {
		control_fail(v->request, err == ERR_CANCELLED ? ERR_NOT_FOUND : err, "%s", words_of(err));
		return;
	}
	control_add_slice(v->request, "mailbox", v->mailbox);
	control_done(v->request);
}

static void write_job(struct verb *v, int (*fn)(struct store_txn *txn, struct verb *v))
{
	const struct store_work_call call = {
		.run = run, .done = done_change, .drop = verb_free, .arg = v, .loop = v->admin->loop};

	v->run = fn;
	(void)store_work_write(v->admin->work, v->owner.slot, &call);
}

/* ---- acl set, acl remove ---- */

static int run_set(struct store_txn *txn, struct verb *v)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX], entry = {.who = v->who};
	struct store_mailbox m;
	uint16_t *rights;
	size_t count;
	int err = store_mailbox_find(txn, v->owner.id, v->mailbox, &m);

	if (!err)
		err = store_acl_get(txn, m.account, m.id, entries, &count);
	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		if (entries[i].who.slot == v->who.slot && entries[i].who.account == v->who.account)
			entry = entries[i];
	}
	rights = v->denies ? &entry.denied : &entry.rights;
	if (v->removes && !*rights)
		return ERR_CANCELLED;
	if (v->how == '+')
		*rights |= (uint16_t)v->rights;
	else if (v->how == '-')
		*rights &= (uint16_t)~v->rights;
	else
		*rights = (uint16_t)v->rights;
	return store_acl_set(txn, m.account, m.id, &entry);
}

static void acl_set(void *arg, struct control_request *r)
{
	struct verb *v = begin_acl(arg, r);

	if (v && read_who(v, control_arg(r, 2)) && read_rights(v, control_arg(r, 3)))
		write_job(v, run_set);
}

static void acl_remove(void *arg, struct control_request *r)
{
	struct verb *v = begin_acl(arg, r);

	if (!v || !read_who(v, control_arg(r, 2)))
		return;
	v->removes = true;
	write_job(v, run_set);
}

/* ---- acl list ---- */

static int run_list(struct store_txn *txn, struct verb *v)
{
	struct store_mailbox m;
	int err = store_mailbox_find(txn, v->owner.id, v->mailbox, &m);

	v->entries = arena_calloc(&v->arena, STORE_ACL_ENTRIES_MAX, sizeof(*v->entries));
	if (!v->entries)
		return ERR_TOO_BIG;
	return err ? err : store_acl_get(txn, m.account, m.id, v->entries, &v->entry_count);
}

static void add_row(struct verb *v, const char *prefix, const char *who, unsigned rights)
{
	struct buf text = {0};

	store_acl_print(rights, &text);
	control_row(v->request);
	control_add_text(v->request, "identifier", "%s%s", prefix, who);
	control_add_str(v->request, "rights", buf_str_view(&text));
	buf_deinit(&text);
}

static void done_list(void *arg, int err)
{
	struct verb *v = arg;

	if (err) {
		control_fail(v->request, err, "%s", words_of(err));
		return;
	}
	if (!store_account_is_public(slice_str(v->owner.address)))
		add_row(v, "", v->owner.address, STORE_RIGHTS_ALL);
	for (size_t i = 0; i < v->entry_count; i++) {
		const struct store_acl_entry *e = &v->entries[i];
		struct store_account account = {.address = "anyone"};

		if (e->who.account &&
			store_get_account(v->admin->store, e->who.slot, e->who.account, &account))
			continue; /* it has gone */
		if (e->rights)
			add_row(v, "", account.address, e->rights);
		if (e->denied)
			add_row(v, "-", account.address, e->denied);
	}
	control_done(v->request);
}

static void acl_list(void *arg, struct control_request *r)
{
	struct verb *v = begin_acl(arg, r);
	struct store_work_call call = {.run = run, .done = done_list, .drop = verb_free, .arg = v};

	if (!v)
		return;
	call.loop = v->admin->loop;
	v->run = run_list;
	(void)store_work_read(v->admin->work, v->owner.slot, &call);
}

/* ---- public folders ---- */

/* The account without the folders that others begin with: INBOX alone stays, and nobody has rights on it. */
static int make_owner(struct store_txn *txn, struct verb *v)
{
	const struct store_account_new account = {.address = slice_str(v->owner.address),
		.flags = STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_NO_MAIL};
	struct store_mailbox *all;
	size_t count;
	int err = store_account_create(txn, &account, &v->owner.id);

	if (!err)
		err = store_mailbox_list(txn, v->owner.id, &v->arena, &all, &count);
	for (size_t i = 0; !err && i < count; i++) {
		if (all[i].id && !slice_is_str(all[i].name, "INBOX"))
			err = store_mailbox_delete(txn, v->owner.id, all[i].id);
	}
	return err;
}

static int run_add(struct store_txn *txn, struct verb *v)
{
	struct store_acl_entry entry = {.rights = (uint16_t)v->rights}, entries[STORE_ACL_ENTRIES_MAX];
	size_t count = 0;
	uint32_t mailbox;
	int err = v->is_new ? make_owner(txn, v) : 0;

	if (!err)
		err = store_mailbox_create(txn, v->owner.id, v->mailbox, STORE_USE_NONE, &mailbox);
	if (!err)
		err = store_acl_get(txn, v->owner.id, mailbox, entries, &count);
	if (!err && (v->has_rights || count == 0))
		err = store_acl_set(txn, v->owner.id, mailbox, &entry);
	return err;
}

static struct verb *begin_public(struct admin *admin, struct control_request *r)
{
	struct verb *v = begin(admin, r);
	struct store_domain_status status;
	const char *domain = control_arg(r, 0);
	char owner[STORE_ADDRESS_MAX + 1];
	int err;

	if (store_domain_find(admin->store, slice_str(domain), &v->arena, &status)) {
		refuse(v, ERR_NOT_FOUND, "there is no such domain on this back-end");
		return NULL;
	}
	snprintf(owner, sizeof(owner), "@%s", domain);
	err = find_owner(v, owner);
	if (err == ERR_NOT_FOUND) {
		v->is_new = true;
		v->owner.slot = store_account_choose_slot(admin->store);
		snprintf(v->owner.address, sizeof(v->owner.address), STORE_PUBLIC_LOCAL "@%s", domain);
	} else if (err) {
		refuse(v, err, error_text(err));
		return NULL;
	}
	return v;
}

static void public_add(void *arg, struct control_request *r)
{
	struct verb *v = begin_public(arg, r);
	const char *rights = v ? control_option(r, "rights", 0)
			       : NULL; /* without a verb the request is answered, and gone */

	if (!v || !read_mailbox(v, control_arg(r, 1)) || !read_rights(v, rights ? rights : PUBLIC_RIGHTS))
		return;
	v->has_rights = rights != NULL;
	write_job(v, run_add);
}

static int run_remove(struct store_txn *txn, struct verb *v)
{
	struct store_mailbox m;
	int err = store_mailbox_find(txn, v->owner.id, v->mailbox, &m);

	return err ? err : store_mailbox_delete(txn, v->owner.id, m.id);
}

static void public_remove(void *arg, struct control_request *r)
{
	struct verb *v = begin_public(arg, r);

	if (v && v->is_new)
		refuse(v, ERR_NOT_FOUND, "the domain has no public folders");
	else if (v && read_mailbox(v, control_arg(r, 1)))
		write_job(v, run_remove);
}

static int run_folders(struct store_txn *txn, struct verb *v)
{
	return store_mailbox_list(txn, v->owner.id, &v->arena, &v->mailboxes, &v->mailbox_count);
}

static void done_folders(void *arg, int err)
{
	struct verb *v = arg;

	if (err) {
		control_fail(v->request, err, "%s", words_of(err));
		return;
	}
	for (size_t i = 0; i < v->mailbox_count; i++) {
		const struct store_mailbox *m = &v->mailboxes[i];

		if (!m->id || slice_is_str(m->name, "INBOX"))
			continue;
		control_row(v->request);
		control_add_slice(v->request, "mailbox", m->name);
		control_add_int(v->request, "messages", m->messages);
		control_add_int(v->request, "bytes", (int64_t)m->size);
	}
	control_done(v->request);
}

static void public_list(void *arg, struct control_request *r)
{
	struct verb *v = begin_public(arg, r);
	struct store_work_call call = {.run = run, .done = done_folders, .drop = verb_free, .arg = v};

	if (!v)
		return;
	if (v->is_new) { /* none yet */
		control_done(r);
		verb_free(v);
		return;
	}
	call.loop = v->admin->loop;
	v->run = run_folders;
	(void)store_work_read(v->admin->work, v->owner.slot, &call);
}

static const struct control_verb verbs[] = {
	{"acl list", "OWNER MAILBOX",
		"Who may do what with a mailbox; OWNER is an account, or @DOMAIN for public folders",
		acl_list, 2, 2, NULL, 0},
	{"acl set", "OWNER MAILBOX IDENTIFIER RIGHTS",
		"Gives rights (letters of lrswipkxtea; + adds, - takes) to an account or to anyone of the "
		"owner's domain; "
		"-IDENTIFIER denies them",
		acl_set, 4, 4, NULL, 0},
	{"acl remove", "OWNER MAILBOX IDENTIFIER", "Takes an identifier out of an ACL", acl_remove, 3, 3,
		NULL, 0},
	{"public add", "DOMAIN NAME [--rights RIGHTS]",
		"Makes a public folder; RIGHTS are those of everyone in the domain: lrs, or what the folder "
		"above gives",
		public_add, 2, 2, "rights=", 0},
	{"public list", "DOMAIN", "The public folders of a domain", public_list, 1, 1, NULL, 0},
	{"public remove", "DOMAIN NAME", "Removes a public folder with its messages", public_remove, 2, 2,
		NULL, 0},
};

void acl_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
