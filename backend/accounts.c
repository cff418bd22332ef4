/*
 * A verb is a struct change: names are normalised and claimed, a password is hashed on a worker, one write
 * job does all the rest in one transaction, and the answer follows the commit. Claims keep two verbs from
 * giving one address to accounts in two slots, which no single transaction could see.
 */
#include "backend/accounts.h"

#include <stdlib.h>

#include "backend/store/store_account.h"
#include "common/auth/password.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/proto/address.h"

#define CHANGE_ARENA_MOST (1024 * 1024)

enum change_kind {
	CHANGE_ADD,
	CHANGE_SET,
	CHANGE_REMOVE
};

struct claim {
	struct claim *next;
	struct slice address;
};

struct change {
	struct backend *backend;
	struct control_request *request; /* NULL: ensure's */
	struct accounts_ensure *ensure;
	enum change_kind kind;
	struct arena arena;
	struct claim *claims;
	struct slice address;
	unsigned slot;
	uint32_t account;
	struct slice *aliases, *aliases_gone;
	size_t alias_count, gone_count;
	bool sets_bytes, sets_count, sets_password;
	uint64_t bytes_limit, count_limit;
	uint32_t flags_set, flags_cleared;
	struct slice password; /* stored text; empty: none */
	struct secret clear;   /* to be hashed */
	struct buf stored;
	int hash_error;
	struct work work;
	const char *failed_at; /* for the operator; the job's */
};

static struct table *claimed;

/* A login that waits for its account. `link`: of those that wait for another change of the same address. */
struct accounts_ensure {
	struct list link;
	struct backend *backend;
	struct loop *loop;
	accounts_fn *fn; /* NULL: cancelled; touched on its loop alone */
	void *arg;
	int err;
	struct slice address; /* owned */
};

/* Main loop. */
static struct list ensures = {&ensures, &ensures};

static void ensure_waiting(void *arg);
static void ensure_done(struct accounts_ensure *e, int err);

/* ---- the end of a change ---- */

static void change_free(struct change *c)
{
	for (struct claim *claim = c->claims; claim; claim = claim->next)
		(void)table_remove(claimed, claim->address);
	if (!list_is_empty(&ensures))
		loop_post(c->backend->loop, ensure_waiting, c->backend);
	secret_deinit(&c->clear);
	if (c->stored.data)
		secret_wipe(c->stored.data, c->stored.cap);
	buf_deinit(&c->stored);
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

/* ---- names ---- */

static int normalise(struct change *c, const char *text, struct slice *address_out)
{
	struct address_name name;
	int err = address_normalise_whole(&c->arena, slice_str(text), &name);

	if (!err)
		*address_out = name.full;
	return err;
}

/* ERR_NOT_NOW: another verb has it. */
static int claim(struct change *c, struct slice address)
{
	struct claim *claim_new;

	for (struct claim *at = c->claims; at; at = at->next)
		if (slice_is_equal(at->address, address))
			return 0;
	if (!claimed)
		claimed = table_new();
	if (table_get(claimed, address))
		return ERR_NOT_NOW;
	claim_new = arena_alloc(&c->arena, sizeof(*claim_new));
	if (!claim_new)
		return ERR_TOO_BIG;
	*claim_new = (struct claim){c->claims, address};
	c->claims = claim_new;
	(void)table_put(claimed, address, c);
	return 0;
}

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
		if ((err = normalise(c, control_option(c->request, option, i), &(*list_out)[i])))
			return err;
		if ((err = claim(c, (*list_out)[i])))
			return err;
	}
	*count_out = count;
	return 0;
}

/* ---- options ---- */

static int read_size(const char *text, uint64_t *value_out)
{
	return strcmp(text, "none") == 0 ? (*value_out = 0, 0) : num_parse_size(slice_str(text), value_out);
}

static int read_count(const char *text, uint64_t *value_out)
{
	return strcmp(text, "none") == 0 ? (*value_out = 0, 0) : num_parse_u64(slice_str(text), value_out);
}

/* Limits as the options say, above what the change has already. */
static int read_limits(struct change *c)
{
	const char *size = control_option(c->request, "quota", 0),
		   *count = control_option(c->request, "count", 0);
	int err = size ? read_size(size, &c->bytes_limit) : 0;

	if (!err && count)
		err = read_count(count, &c->count_limit);
	c->sets_bytes = size != NULL;
	c->sets_count = count != NULL;
	return err;
}

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
	const struct store_account_new new = {
		.address = c->address,
		.password = c->password,
		.bytes_limit = c->bytes_limit,
		.count_limit = c->count_limit,
		.flags = c->flags_set,
	};
	uint32_t account;
	int err = store_account_create(txn, &new, &account);

	return err ? err : set_names(txn, c, account);
}

static int run_set(struct store_txn *txn, struct change *c)
{
	struct store_account_record now;
	int err = store_account_get(txn, c->account, &now);

	/* What is not named stays as this transaction finds it: another verb may have come by an alias. */
	if (!err && (c->sets_bytes || c->sets_count))
		err = store_account_set_limits(txn, c->account,
			c->sets_bytes ? c->bytes_limit : now.bytes_limit,
			c->sets_count ? c->count_limit : now.count_limit);
	if (!err && (c->flags_set || c->flags_cleared))
		err = store_account_set_flags(
			txn, c->account, (now.flags & ~c->flags_cleared) | c->flags_set);
	if (!err && c->sets_password)
		err = store_account_set_password(txn, c->account, c->password);
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
	case CHANGE_REMOVE:
		return store_account_remove(txn, c->account);
	}
	return ERR_UNSUPPORTED;
}

static void done(void *arg, int err)
{
	struct change *c = arg;

	if (c->ensure) {
		ensure_done(c->ensure, err);
		return;
	}
	if (err) {
		control_fail(c->request, err, "%.*s: %s", SLICE_ARG(c->address), words_of(err, c->kind));
		return;
	}
	control_add_slice(c->request, "account", c->address);
	control_done(c->request);
}

static void drop(void *arg)
{
	change_free(arg);
}

static void write_change(struct change *c)
{
	const struct store_work_call call = {
		.run = run, .done = done, .drop = drop, .arg = c, .loop = c->backend->loop};

	(void)store_work_write(c->backend->work, c->slot, &call);
}

/* ---- accounts made at a login ---- */

static void ensure_tell(void *arg)
{
	struct accounts_ensure *e = arg;
	accounts_fn *fn = e->fn;
	void *fn_arg = e->arg;
	int err = e->err;

	free((void *)(uintptr_t)e->address.p);
	free(e);
	if (fn)
		fn(fn_arg, err);
}

/* err: of the change, or of the look before it. */
static void ensure_done(struct accounts_ensure *e, int err)
{
	if (err == 0)
		log_info("backend", "account made at its first login account=%.*s", SLICE_ARG(e->address));
	e->err = err == ERR_EXISTS ? 0 : err;
	if (!e->backend->group) { /* the program ends: nobody waits, and the loop is no more */
		e->fn = NULL;
		ensure_tell(e);
		return;
	}
	loop_post(e->loop, ensure_tell, e);
}

/* Main loop. */
static void ensure_begin(void *arg)
{
	struct accounts_ensure *e = arg;
	struct backend *b = e->backend;
	struct store_account account;
	struct change *c;
	int err;

	if (b->is_leaving)
		err = ERR_NOT_NOW;
	else if (slice_find(e->address, '@') <= 0)
		err = ERR_SYNTAX;
	else
		err = store_find_account(b->store, e->address, &account);
	if (err != ERR_NOT_FOUND) {
		ensure_done(e, err ? err : ERR_EXISTS);
		return;
	}
	if (claimed && table_get(claimed, e->address)) {
		/* After the change that has it now, whose end posts ensure_waiting(). */
		list_add_last(&ensures, &e->link);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct change){.backend = b, .ensure = e, .kind = CHANGE_ADD};
	arena_init(&c->arena, CHANGE_ARENA_MOST);
	c->address = arena_copy(&c->arena, e->address);
	c->bytes_limit = b->config->quota_size;
	c->count_limit = b->config->quota_count;
	err = claim(c, c->address);
	if (err) {
		change_free(c);
		ensure_done(e, err);
		return;
	}
	c->slot = store_account_choose_slot(b->store);
	write_change(c);
}

static void ensure_waiting(void *arg)
{
	struct list now;

	(void)arg;
	list_init(&now);
	list_move_all(&now, &ensures);
	while (!list_is_empty(&now)) {
		struct accounts_ensure *e = container_of(now.next, struct accounts_ensure, link);

		list_remove(&e->link);
		ensure_begin(e);
	}
}

struct accounts_ensure *accounts_ensure(
	struct backend *b, struct loop *loop, struct slice address, accounts_fn *fn, void *arg)
{
	struct accounts_ensure *e = xcalloc(1, sizeof(*e));

	*e = (struct accounts_ensure){.backend = b, .loop = loop, .fn = fn, .arg = arg};
	list_init(&e->link);
	e->address = slice_of(slice_copy_str(address), address.len);
	loop_post(b->loop, ensure_begin, e);
	return e;
}

void accounts_ensure_cancel(struct accounts_ensure **ensure)
{
	if (*ensure)
		(*ensure)->fn = NULL;
	*ensure = NULL;
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
	if (work_submit(c->backend->hash_pool, c->backend->loop, &c->work))
		fail(c, ERR_NOT_NOW, "too many passwords wait to be hashed");
}

/* ---- verbs that change ---- */

/* With the normalised, claimed address of the first argument; NULL: answered already. */
static struct change *begin(struct backend *b, struct control_request *r, enum change_kind kind)
{
	struct change *c = xcalloc(1, sizeof(*c));
	int err;

	c->backend = b;
	c->request = r;
	c->kind = kind;
	arena_init(&c->arena, CHANGE_ARENA_MOST);
	err = normalise(c, control_arg(r, 0), &c->address);
	if (err || slice_find(c->address, '@') < 0) {
		fail(c, ERR_SYNTAX, "an account is named by an address: local-part@domain");
		return NULL;
	}
	if ((err = claim(c, c->address))) {
		fail(c, err, "another verb is changing this address");
		return NULL;
	}
	return c;
}

/* The account of the change as it is now; an alias names its account. False: answered already. */
static bool find(struct change *c)
{
	struct store_account account;
	int err = store_find_account(c->backend->store, c->address, &account);

	if (err) {
		fail(c, err, words_of(err, CHANGE_REMOVE));
		return false;
	}
	c->slot = account.slot;
	c->account = account.id;
	c->address = arena_copy(&c->arena, slice_str(account.address));
	return true;
}

/* What add and set have in common. False: answered already. */
static bool read_options(struct change *c)
{
	const char *words = "";
	int err = read_limits(c);

	if (err) {
		fail(c, ERR_SYNTAX, "a limit is a number with a unit (10M, 2G), or none");
		return false;
	}
	read_flags(c);
	err = read_password(c, &words);
	if (err) {
		fail(c, ERR_SYNTAX, words);
		return false;
	}
	err = read_aliases(c, "alias", &c->aliases, &c->alias_count);
	if (!err)
		err = read_aliases(c, "remove-alias", &c->aliases_gone, &c->gone_count);
	if (err) {
		fail(c, err,
			err == ERR_NOT_NOW ? "another verb is changing an alias" : "an alias is an address");
		return false;
	}
	return true;
}

static void account_add(void *arg, struct control_request *r)
{
	struct backend *b = arg;
	struct change *c = begin(b, r, CHANGE_ADD);

	if (!c)
		return;
	c->bytes_limit = b->config->quota_size;
	c->count_limit = b->config->quota_count;
	c->slot = store_account_choose_slot(b->store);
	if (read_options(c))
		go(c);
}

static void account_set(void *arg, struct control_request *r)
{
	struct change *c = begin(arg, r, CHANGE_SET);

	if (c && find(c) && read_options(c))
		go(c);
}

static void account_password(void *arg, struct control_request *r)
{
	account_set(arg, r);
}

static void account_remove(void *arg, struct control_request *r)
{
	struct change *c = begin(arg, r, CHANGE_REMOVE);

	if (!c || !find(c))
		return;
	/* The one claim is the name that was given. */
	if (!slice_is_equal(c->claims->address, c->address)) {
		fail(c, ERR_DENIED, "this is an alias; account set ACCOUNT --remove-alias takes it away");
		return;
	}
	write_change(c);
}

/* ---- verbs that show ---- */

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
	control_add_bool(r, "takes_mail", !(flags & STORE_ACCOUNT_NO_MAIL));
}

struct show {
	struct control_request *request;
	struct store_account account;
	struct arena arena;
	struct store_account_record record;
	struct slice *aliases;
	size_t alias_count;
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
	err = store_account_aliases(txn, s->account.id, &s->arena, &s->aliases, &s->alias_count);
	return err ? err
		   : store_mailbox_list(txn, s->account.id, &s->arena, &s->mailboxes, &s->mailbox_count);
}

static void done_show(void *arg, int err)
{
	struct show *s = arg;
	struct control_request *r = s->request;

	if (err) {
		control_fail(r, err, "%s", words_of(err, CHANGE_REMOVE));
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
	control_add_str(r, "password", s->scheme);
	control_add_int(r, "slot", s->account.slot);
	control_add_int(r, "created", s->record.created);
	control_add_list(r, "aliases", NULL, 0);
	for (size_t i = 0; i < s->alias_count; i++)
		control_add_item(r, "aliases", s->aliases[i]);
	control_done(r);
}

static void drop_show(void *arg)
{
	struct show *s = arg;

	arena_deinit(&s->arena);
	free(s);
}

static int find_shown(struct backend *b, const char *text, struct store_account *account_out)
{
	struct address_name name;
	struct arena arena;
	int err;

	arena_init(&arena, 8 * 1024);
	err = address_normalise_whole(&arena, slice_str(text), &name);
	if (!err)
		err = store_find_account(b->store, name.full, account_out);
	arena_deinit(&arena);
	return err;
}

static void account_show(void *arg, struct control_request *r)
{
	struct backend *b = arg;
	struct show *s = xcalloc(1, sizeof(*s));
	const struct store_work_call call = {
		.run = run_show, .done = done_show, .drop = drop_show, .arg = s, .loop = b->loop};
	int err = find_shown(b, control_arg(r, 0), &s->account);

	arena_init(&s->arena, 0);
	s->request = r;
	if (err) {
		control_fail(r, err, "no such account");
		drop_show(s);
		return;
	}
	(void)store_work_read(b->work, s->account.slot, &call);
}

/*
 * A list of accounts: a reader thread finds and sorts them (number and address alone), then the main loop shows some in each turn,
 * no faster than the client takes them, each as it is at that moment.
 */
#define ROWS_A_TURN 200

struct listed {
	unsigned slot;
	uint32_t id;
	size_t address; /* in `texts` */
};

struct listing {
	struct backend *backend;
	struct control_request *request;
	struct listed *accounts;
	size_t count, room, at, shown;
	struct buf texts;
	char *domain; /* "" all */
	bool has_flags;
};

static bool collect(void *arg, const struct store_account *account)
{
	struct listing *l = arg;
	const char *at = strrchr(account->address, '@');

	if (l->domain[0] && (!at || strcmp(at + 1, l->domain) != 0))
		return true;
	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		l->accounts = xreallocarray(l->accounts, l->room, sizeof(*l->accounts));
	}
	l->accounts[l->count++] = (struct listed){account->slot, account->id, buf_len(&l->texts)};
	buf_add(&l->texts, account->address, strlen(account->address) + 1);
	return true;
}

static int by_address(const void *a, const void *b, void *texts)
{
	return strcmp((const char *)texts + ((const struct listed *)a)->address,
		(const char *)texts + ((const struct listed *)b)->address);
}

static int run_list(struct store_txn *txn, void *arg)
{
	struct listing *l = arg;

	(void)txn;
	store_each_account(l->backend->store, collect, l);
	if (l->count)
		qsort_r(l->accounts, l->count, sizeof(*l->accounts), by_address,
			(void *)(uintptr_t)buf_view(&l->texts).p);
	return 0;
}

static void listing_free(struct listing *l)
{
	free(l->accounts);
	free(l->domain);
	buf_deinit(&l->texts);
	free(l);
}

static void list_step(void *arg)
{
	struct listing *l = arg;
	struct control_request *r = l->request;
	size_t end = l->at + ROWS_A_TURN < l->count ? l->at + ROWS_A_TURN : l->count;

	for (; l->at < end; l->at++) {
		struct store_account account;

		/* Who has gone meanwhile is not shown. */
		if (store_get_account(
			    l->backend->store, l->accounts[l->at].slot, l->accounts[l->at].id, &account))
			continue;
		control_row(r);
		add_account(r, &account);
		if (l->has_flags)
			add_flags(r, account.flags);
		l->shown++;
	}
	if (l->at < l->count && !control_is_gone(r)) {
		control_when_room(r, list_step, l);
		return;
	}
	control_result(r);
	control_add_int(r, "accounts", (int64_t)l->shown);
	control_done(r);
	listing_free(l);
}

static void done_list(void *arg, int err)
{
	struct listing *l = arg;

	if (err) {
		control_fail(l->request, err, "%s", error_text(err));
		listing_free(l);
		return;
	}
	list_step(l);
}

static void list_accounts(struct backend *b, struct control_request *r, const char *domain, bool has_flags)
{
	struct listing *l = xcalloc(1, sizeof(*l));
	const struct store_work_call call = {.run = run_list, .done = done_list, .arg = l, .loop = b->loop};

	*l = (struct listing){.backend = b, .request = r, .domain = xstrdup(domain), .has_flags = has_flags};
	(void)store_work_read(b->work, 0, &call);
}

static void account_list(void *arg, struct control_request *r)
{
	list_accounts(arg, r, control_arg(r, 0), true);
}

static void quota(void *arg, struct control_request *r)
{
	struct backend *b = arg;
	struct store_account account;
	int err;

	if (control_arg_count(r) == 0) {
		list_accounts(b, r, "", false);
		return;
	}
	if ((err = find_shown(b, control_arg(r, 0), &account))) {
		control_fail(r, err, "no such account");
		return;
	}
	add_account(r, &account);
	control_done(r);
}

#define SET_OPTIONS "quota= count= alias= remove-alias= password< hash= disable enable refuse-mail take-mail"

static const struct control_verb verbs[] = {
	{"account add",
		"ADDRESS [--quota SIZE] [--count N] [--alias ADDRESS]... [--password | --hash STORED] "
		"[--disable] [--refuse-mail]",
		"Makes an account with its default folders", account_add, 1, 1,
		"quota= count= alias= password< hash= disable refuse-mail", 0},
	{"account set",
		"ADDRESS [--quota SIZE] [--count N] [--alias ADDRESS]... [--remove-alias ADDRESS]... "
		"[--password | --hash STORED] "
		"[--disable | --enable] [--refuse-mail | --take-mail]",
		"Changes what is named; --hash '' takes the password away", account_set, 1, 1, SET_OPTIONS,
		0},
	{"account password", "ADDRESS", "Sets the password: asks for it, or reads it from standard input",
		account_password, 1, 1, NULL, CONTROL_ASKS},
	{"account show", "ADDRESS", "Limits, use, aliases, folders", account_show, 1, 1, NULL, 0},
	{"account list", "[DOMAIN]", "All accounts, or those of a domain", account_list, 0, 1, NULL, 0},
	{"account remove", "ADDRESS", "Removes the account with its mail", account_remove, 1, 1, NULL, 0},
	{"quota", "[ADDRESS]", "Use and limits", quota, 0, 1, NULL, 0},
};

void accounts_register(struct backend *b)
{
	control_register(b->control, verbs, ARRAY_LEN(verbs), b);
}

void accounts_deinit(void)
{
	table_free(&claimed);
}
