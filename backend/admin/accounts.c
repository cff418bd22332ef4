/*
 * A verb is a struct change: names are normalised and claimed, a password is hashed on a worker, one write
 * job does all the rest in one transaction, and the answer follows the commit.
 */
#include "backend/admin/accounts.h"

#include <stdlib.h>

#include "backend/admin/accounts_ensure.h"
#include "backend/admin/policy_options.h"
#include "backend/admin/sessions.h"
#include "backend/store/store_account.h"
#include "common/auth/password.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/proto/address.h"

#define CHANGE_ARENA_MOST (1024 * 1024)

enum change_kind {
	CHANGE_ADD,
	CHANGE_SET,
	CHANGE_RENAME,
	CHANGE_REMOVE
};

struct change {
	struct admin *admin;
	struct control_request *request;
	enum change_kind kind;
	struct arena arena;
	struct claims claims;
	struct slice address;     /* of the account; its new one, when it is renamed */
	struct slice old_address; /* when it is renamed */
	bool is_reserved;         /* a place in the domain of `address` */
	unsigned slot;
	uint32_t account;
	struct slice *aliases, *aliases_gone;
	size_t alias_count, gone_count;
	struct policy_options policy;
	uint32_t flags_set, flags_cleared;
	bool sets_password, sets_class, sets_name, sets_forwards, keeps_alias;
	struct slice password; /* stored text; empty: none */
	struct slice class, name, forwards;
	struct secret clear; /* to be hashed */
	struct buf stored;
	struct buf users; /* who still names an address that goes */
	int hash_error;
	struct work work;
};

/* ---- the end of a change ---- */

static void change_free(struct change *c)
{
	if (c->is_reserved)
		store_domain_release(c->admin->store, c->address);
	claims_drop(&c->claims);
	accounts_ensure_again(c->admin);
	secret_deinit(&c->clear);
	if (c->stored.data)
		secret_wipe(c->stored.data, c->stored.cap);
	buf_deinit(&c->stored);
	buf_deinit(&c->users);
	arena_deinit(&c->arena);
	free(c);
}

static void fail(struct change *c, int err, const char *words)
{
	control_fail(c->request, err, "%s", words);
	change_free(c);
}

static const char *words_of(int err, enum change_kind kind)
{
	if (err == ERR_EXISTS)
		return "the address exists already, as an account or an alias";
	if (err == ERR_NOT_FOUND)
		return kind == CHANGE_SET ? "no such account or alias" : "no such account";
	if (err == ERR_DENIED)
		return "the account's own address cannot be taken away";
	if (err == ERR_TOO_BIG)
		return "too many aliases, or a text that is too long";
	return error_text(err);
}

const char *accounts_domain_words(int err)
{
	if (err == ERR_EXISTS)
		return "its domain is an alias of another domain, whose accounts have these addresses "
		       "already";
	if (err == ERR_NOT_FOUND)
		return "there is no such domain; `domain add` makes it";
	if (err == ERR_TOO_BIG)
		return "its domain has as many accounts as it may have";
	return error_text(err);
}

/* ---- names ---- */

int accounts_normalise(struct arena *arena, struct slice text, struct slice *address_out)
{
	struct address_name name;
	int err = address_normalise_whole(arena, text, &name);

	if (!err && slice_find(name.full, '@') < 0)
		err = ERR_SYNTAX;
	if (!err)
		*address_out = name.full;
	return err;
}

static const char reserved[] = "this address is that of the domain's public folders; `public add` makes them";

/* All values of an option as normalised, claimed addresses. */
static int read_aliases(struct change *c, const char *option, struct slice **list_out, size_t *count_out)
{
	size_t count = 0;
	int err;

	while (control_option(c->request, option, count))
		count++;
	*list_out = arena_calloc(&c->arena, count + 1, sizeof(**list_out));
	if (!*list_out)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < count; i++) {
		struct slice text = slice_str(control_option(c->request, option, i));

		if ((err = accounts_normalise(&c->arena, text, &(*list_out)[i])))
			return err;
		if (store_account_is_public((*list_out)[i]))
			return ERR_DENIED;
		if ((err = claims_take(&c->claims, (*list_out)[i])))
			return err;
	}
	*count_out = count;
	return 0;
}

/* False: answered. */
static bool may_name(struct change *c)
{
	for (size_t i = 0; i < c->alias_count; i++) {
		int err = store_domain_may_name(c->admin->store, c->aliases[i], c->admin->domains_must_exist);

		if (err) {
			control_fail(c->request, err, "%.*s: %s", SLICE_ARG(c->aliases[i]),
				accounts_domain_words(err));
			change_free(c);
			return false;
		}
	}
	return true;
}

/* ---- forwarding ---- */

static int add_forward(struct store *store, struct arena *arena, struct slice self, struct slice word,
	struct buf *list, struct buf *why)
{
	struct store_account account;
	struct slice address;
	int err = accounts_normalise(arena, word, &address);

	if (err) {
		buf_printf(why, "\"%.*s\" is no address", SLICE_ARG(word));
		return ERR_SYNTAX;
	}
	err = store_find_account(store, address, &account);
	if (err && slice_find(address, '@') < 0) {
		buf_printf(why, "%.*s is no account of this back-end, and has no domain", SLICE_ARG(address));
		return err;
	}
	/* One that is no account's here is another server's: it goes there by the queue. */
	if (!err && slice_is_str(self, account.address)) {
		buf_printf(why, "%.*s would forward to itself", SLICE_ARG(self));
		return ERR_DENIED;
	}
	if (buf_len(list))
		buf_add_char(list, '\n');
	buf_add_slice(list, address);
	return 0;
}

int accounts_forwards(struct store *store, struct arena *arena, struct slice self, struct slice text,
	struct slice *forwards_out, struct buf *why)
{
	struct buf list = {0};
	size_t count = 0;
	int err = 0;

	while (!err && text.len) {
		ptrdiff_t comma = slice_find(text, ',');
		struct slice word = slice_trim(comma < 0 ? text : slice_sub(text, 0, (size_t)comma));

		text = comma < 0 ? slice_of(NULL, 0) : slice_from(text, (size_t)comma + 1);
		if (++count > STORE_FORWARDS_MAX) {
			buf_printf(why, "an account forwards to %d addresses at most", STORE_FORWARDS_MAX);
			err = ERR_TOO_BIG;
		} else {
			err = add_forward(store, arena, self, word, &list, why);
		}
	}
	*forwards_out = arena_copy(arena, buf_view(&list));
	buf_deinit(&list);
	return err ? err : forwards_out->p ? 0 : ERR_TOO_BIG;
}

/* False: answered. */
static bool read_forwards(struct change *c)
{
	const char *text = control_option(c->request, "forward", 0);
	struct buf all = {0}, why = {0};
	int err = 0;

	if (!text)
		return true;
	c->sets_forwards = true;
	if (text[0] && strcmp(text, "none") != 0) {
		for (size_t i = 0; (text = control_option(c->request, "forward", i)); i++)
			buf_printf(&all, "%s%s", i ? "," : "", text);
		err = accounts_forwards(
			c->admin->store, &c->arena, c->address, buf_view(&all), &c->forwards, &why);
	}
	if (err)
		fail(c, err, buf_str_view(&why));
	buf_deinit(&all);
	buf_deinit(&why);
	return !err;
}

/* ---- options ---- */

static void read_flags(struct change *c)
{
	static const struct {
		const char *option;
		uint32_t set, cleared;
	} rows[] = {
		{"disable", STORE_ACCOUNT_DISABLED, 0},
		{"enable", 0, STORE_ACCOUNT_DISABLED},
		{"refuse-mail", STORE_ACCOUNT_NO_MAIL, 0},
		{"take-mail", 0, STORE_ACCOUNT_NO_MAIL},
		{"no-keep", STORE_ACCOUNT_FORWARDS_ONLY, 0},
		{"keep", 0, STORE_ACCOUNT_FORWARDS_ONLY},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!control_has_option(c->request, rows[i].option))
			continue;
		c->flags_set |= rows[i].set;
		c->flags_cleared |= rows[i].cleared;
	}
}

/* --hash gives a stored text, --password asked for one in clear. */
static int read_password(struct change *c, const char **words_out)
{
	const char *hash = control_option(c->request, "hash", 0);
	struct slice clear = control_input(c->request);
	int err;

	if (hash) {
		c->password = arena_copy(&c->arena, slice_str(hash));
		c->sets_password = true;
		return hash[0] && (err = password_stored_check(c->password, words_out)) ? err : 0;
	}
	if (clear.len && clear.p[clear.len - 1] == '\n')
		clear.len--;
	if (!clear.len && !control_has_option(c->request, "password"))
		return 0;
	if (!password_is_acceptable(clear)) {
		*words_out = "this cannot be a password: empty, too long, or with a NUL";
		return ERR_SYNTAX;
	}
	secret_set(&c->clear, clear);
	c->sets_password = true;
	return 0;
}

/* Class and name of a human. False: answered. */
static bool read_texts(struct change *c)
{
	const char *class = control_option(c->request, "class", 0),
		   *name = control_option(c->request, "name", 0);
	struct store_class_status status;

	c->sets_class = class != NULL;
	c->sets_name = name != NULL;
	c->class = class && strcmp(class, "none") != 0 ? slice_str(class) : slice_of(NULL, 0);
	c->name = name ? slice_str(name) : slice_of(NULL, 0);
	if (c->class.len &&
		(store_class_find(c->admin->store, c->class, &c->arena, &status) || !status.has_record)) {
		fail(c, ERR_NOT_FOUND, "there is no such class; `class add` makes it");
		return false;
	}
	if (c->name.len > STORE_ACCOUNT_NAME_MAX) {
		fail(c, ERR_TOO_BIG, "the name is too long");
		return false;
	}
	return true;
}

static bool is_above(uint64_t limit, uint64_t most)
{
	return most && (!limit || limit > most);
}

/* What is said here may not be more than the domain allows. False: answered. */
static bool is_within_domain(struct change *c)
{
	struct slice domain = slice_from(c->address, (size_t)slice_find_last(c->address, '@') + 1);
	const struct policy_options *o = &c->policy;
	struct store_domain_status status;

	if (store_domain_find(c->admin->store, domain, &c->arena, &status))
		return true;
	if (((o->says & STORE_SAYS_BYTES) && is_above(o->values.bytes_limit, status.domain.bytes_most)) ||
		((o->says & STORE_SAYS_COUNT) && is_above(o->values.count_limit, status.domain.count_most))) {
		fail(c, ERR_TOO_BIG, "the domain allows its accounts less; `domain show` says how much");
		return false;
	}
	return true;
}

/* What add and set have in common. False: answered already. */
static bool read_options(struct change *c)
{
	const char *words = "";
	int err = policy_options_read(c->request, &c->policy, &words);

	if (!err) {
		read_flags(c);
		err = read_password(c, &words);
	}
	if (err) {
		fail(c, ERR_SYNTAX, words);
		return false;
	}
	err = read_aliases(c, "alias", &c->aliases, &c->alias_count);
	if (!err)
		err = read_aliases(c, "remove-alias", &c->aliases_gone, &c->gone_count);
	if (err) {
		fail(c, err,
			err == ERR_NOT_NOW  ? "another verb is changing an alias"
			: err == ERR_DENIED ? reserved
					    : "an alias is an address");
		return false;
	}
	return may_name(c) && read_texts(c) && is_within_domain(c) && read_forwards(c);
}

/* ---- the transaction ---- */

static int set_names(struct store_txn *txn, struct change *c, uint32_t account)
{
	int err = 0;

	for (size_t i = 0; !err && i < c->gone_count; i++)
		err = store_account_remove_alias(txn, account, c->aliases_gone[i]);
	for (size_t i = 0; !err && i < c->alias_count; i++)
		err = store_account_add_alias(txn, account, c->aliases[i]);
	return err;
}

static int run_add(struct store_txn *txn, struct change *c)
{
	struct store_account_new new = {.address = c->address,
		.password = c->password,
		.flags = c->flags_set,
		.class = c->class,
		.name = c->name,
		.forwards = c->forwards};
	uint32_t account;
	int err;

	policy_options_apply(&c->policy, &new.policy);
	err = store_account_create(txn, &new, &account);
	return err ? err : set_names(txn, c, account);
}

static int run_set(struct store_txn *txn, struct change *c)
{
	struct store_account_record now;
	int err = store_account_get(txn, c->account, &now);

	if (err)
		return err;
	/* What is not named stays as this transaction finds it: another verb may have come by an alias. */
	struct store_policy policy = now.policy;
	uint32_t flags = (now.flags & ~c->flags_cleared) | c->flags_set;
	const struct store_account_change change = {
		.policy = &policy,
		.flags = &flags,
		.password = c->sets_password ? &c->password : NULL,
		.class = c->sets_class ? &c->class : NULL,
		.name = c->sets_name ? &c->name : NULL,
		.forwards = c->sets_forwards ? &c->forwards : NULL,
	};

	policy_options_apply(&c->policy, &policy);
	err = store_account_change(txn, c->account, &change);
	return err ? err : set_names(txn, c, c->account);
}

static int run(struct store_txn *txn, void *arg)
{
	struct change *c = arg;

	switch (c->kind) {
	case CHANGE_ADD:
		return run_add(txn, c);
	case CHANGE_SET:
		return run_set(txn, c);
	case CHANGE_RENAME:
		return store_account_rename(txn, c->account, c->address, c->keeps_alias);
	case CHANGE_REMOVE:
		return store_account_remove(txn, c->account);
	}
	return ERR_UNSUPPORTED;
}

/* Who runs a session that he may not begin any more is sent away. */
static bool may_end_sessions(const struct change *c)
{
	return c->kind == CHANGE_RENAME || c->kind == CHANGE_REMOVE ||
	       (c->kind == CHANGE_SET && (!policy_options_is_empty(&c->policy) || c->sets_class ||
						 c->flags_set || c->gone_count));
}

static void done(void *arg, int err)
{
	struct change *c = arg;

	if (err) {
		control_fail(c->request, err, "%.*s: %s", SLICE_ARG(c->address), words_of(err, c->kind));
		return;
	}
	if (may_end_sessions(c))
		sessions_recheck(c->admin);
	if (c->kind == CHANGE_REMOVE)
		store_work_forget(c->admin->work, c->slot, c->account);
	control_add_slice(c->request, "account", c->address);
	if (buf_len(&c->users))
		control_add_text(c->request, "warning",
			"mail still goes to an address that is no more, by the word of: %s",
			buf_str_view(&c->users));
	control_done(c->request);
}

static void drop(void *arg)
{
	change_free(arg);
}

/* Before the change: who names an address that it takes away? */
static void find_users(struct change *c)
{
	struct store *store = c->admin->store;

	if (c->kind == CHANGE_REMOVE)
		(void)store_account_users(store, c->slot, c->account, &c->users);
	if (c->kind == CHANGE_RENAME && !c->keeps_alias && !slice_is_equal(c->old_address, c->address))
		(void)store_name_users(store, c->old_address, &c->users);
	for (size_t i = 0; i < c->gone_count && !buf_len(&c->users); i++)
		(void)store_name_users(store, c->aliases_gone[i], &c->users);
}

static void write_change(struct change *c)
{
	const struct store_work_call call = {
		.run = run, .done = done, .drop = drop, .arg = c, .loop = c->admin->loop};

	find_users(c);
	(void)store_work_write(c->admin->work, c->slot, &call);
}

/* ---- hashing ---- */

static void run_hash(void *arg)
{
	struct change *c = arg;

	c->hash_error = password_make(NULL, secret_view(&c->clear), &c->stored);
}

static void done_hash(void *arg, int err)
{
	struct change *c = arg;

	if (err || c->hash_error) {
		fail(c, ERR_NOT_NOW, "the password cannot be hashed now");
		return;
	}
	c->password = buf_view(&c->stored);
	write_change(c);
}

static void go(struct change *c)
{
	if (!c->clear.len) {
		write_change(c);
		return;
	}
	c->work = (struct work){.run = run_hash, .done = done_hash, .job = c};
	if (work_submit(c->admin->hash_pool, c->admin->loop, &c->work))
		fail(c, ERR_NOT_NOW, "too many passwords wait to be hashed");
}

/* ---- verbs ---- */

/* With the normalised, claimed address of the first argument; NULL: answered already. */
static struct change *begin(struct admin *admin, struct control_request *r, enum change_kind kind)
{
	struct change *c = xcalloc(1, sizeof(*c));
	int err;

	c->admin = admin;
	c->request = r;
	c->kind = kind;
	arena_init(&c->arena, CHANGE_ARENA_MOST);
	c->claims.arena = &c->arena;
	err = accounts_normalise(&c->arena, slice_str(control_arg(r, 0)), &c->address);
	if (err) {
		fail(c, ERR_SYNTAX, "an account is named by an address: local-part@domain");
		return NULL;
	}
	if ((err = claims_take(&c->claims, c->address))) {
		fail(c, err, "another verb is changing this address");
		return NULL;
	}
	return c;
}

static struct slice domain_of(struct slice address)
{
	return slice_from(address, (size_t)(slice_find_last(address, '@') + 1));
}

/* A place in the domain for the account's (new) address; one that stays in its domain has one. False: answered. */
static bool reserve(struct change *c)
{
	struct store *store = c->admin->store;
	bool must_exist = c->admin->domains_must_exist,
	     stays = c->old_address.len && slice_is_equal(domain_of(c->old_address), domain_of(c->address));
	int err = stays ? store_domain_may_name(store, c->address, must_exist)
			: store_domain_reserve(store, c->address, must_exist);

	if (err) {
		fail(c, err, accounts_domain_words(err));
		return false;
	}
	c->is_reserved = !stays;
	return true;
}

/* The account of the change as it is now; an alias names its account. False: answered already. */
static bool find(struct change *c)
{
	struct store_account account;
	int err = store_find_account(c->admin->store, c->address, &account);

	if (!err) {
		c->slot = account.slot;
		c->account = account.id;
		c->address = arena_copy(&c->arena, slice_str(account.address));
		if (!c->address.p)
			err = ERR_TOO_BIG;
	}
	if (err)
		fail(c, err, words_of(err, CHANGE_REMOVE));
	return !err;
}

/* The address is that of public folders, whose account neither comes nor changes its name this way, nor lets anybody in. False:
 * answered. */
static bool is_for_users(struct change *c, struct slice address)
{
	bool is_public = store_account_is_public(address);

	if (is_public)
		fail(c, ERR_DENIED, reserved); /* and the address goes with it */
	return !is_public;
}

static void account_add(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct change *c = begin(admin, r, CHANGE_ADD);

	if (!c || !is_for_users(c, c->address) || !reserve(c))
		return;
	c->slot = store_account_choose_slot(admin->store);
	if (read_options(c))
		go(c);
}

static void account_set(void *arg, struct control_request *r)
{
	struct change *c = begin(arg, r, CHANGE_SET);

	if (!c || !find(c) || !read_options(c))
		return;
	if (!c->sets_password && !(c->flags_cleared & (STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_NO_MAIL)))
		go(c);
	else if (is_for_users(c, c->address))
		go(c);
}

static void account_password(void *arg, struct control_request *r)
{
	account_set(arg, r);
}

/* The name that was given is the account's own. False: answered. */
static bool is_own_name(struct change *c, struct slice given, const char *words)
{
	if (slice_is_equal(given, c->address))
		return true;
	fail(c, ERR_DENIED, words);
	return false;
}

static void account_remove(void *arg, struct control_request *r)
{
	struct change *c = begin(arg, r, CHANGE_REMOVE);
	struct slice given = c ? c->address : slice_of(NULL, 0);

	if (!c || !find(c))
		return;
	if (is_own_name(c, given, "this is an alias; account set ACCOUNT --remove-alias takes it away"))
		write_change(c);
}

static void account_rename(void *arg, struct control_request *r)
{
	struct change *c = begin(arg, r, CHANGE_RENAME);
	struct slice given = c ? c->address : slice_of(NULL, 0), address;
	int err;

	if (!c || !find(c) || !is_own_name(c, given, "this is an alias; give the account's own address"))
		return;
	err = accounts_normalise(&c->arena, slice_str(control_arg(r, 1)), &address);
	if (!err)
		err = claims_take(&c->claims, address);
	if (err) {
		fail(c, err,
			err == ERR_NOT_NOW ? "another verb is changing the new address"
					   : "an account is named by an address: local-part@domain");
		return;
	}
	if (!is_for_users(c, given) || !is_for_users(c, address))
		return;
	c->old_address = given;
	c->address = address;
	c->keeps_alias = control_has_option(r, "keep-alias");
	if (!slice_is_equal(given, address) && !reserve(c))
		return;
	write_change(c);
}

#define OWN_OPTIONS "class= name= alias= forward= keep no-keep password< hash= disable refuse-mail"
#define OWN_USAGE                                                                                            \
	POLICY_OPTIONS_USAGE                                                                                 \
	" [--class CLASS|none] [--name TEXT] [--alias ADDRESS]... "                                          \
	"[--forward ADDRESS,...|none] [--keep | --no-keep] [--password | --hash STORED] "

static const struct control_verb verbs[] = {
	{"account add", "ADDRESS " OWN_USAGE "[--disable] [--refuse-mail]",
		"Makes an account with its default folders", account_add, 1, 1,
		POLICY_OPTIONS " " OWN_OPTIONS, 0},
	{"account set",
		"ADDRESS " OWN_USAGE
		"[--remove-alias ADDRESS]... [--disable | --enable] [--refuse-mail | --take-mail]",
		"Changes what is named; --hash '' takes the password away", account_set, 1, 1,
		POLICY_OPTIONS " " OWN_OPTIONS " remove-alias= enable take-mail", 0},
	{"account password", "ADDRESS", "Sets the password: asks for it, or reads it from standard input",
		account_password, 1, 1, NULL, CONTROL_ASKS},
	{"account rename", "OLD NEW [--keep-alias]",
		"Gives the account another address, with all it has; its sessions end unless the old one "
		"stays as an alias, in the same domain",
		account_rename, 2, 2, "keep-alias", 0},
	{"account remove", "ADDRESS", "Removes the account with its mail", account_remove, 1, 1, NULL, 0},
};

void accounts_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
