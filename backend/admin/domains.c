/* A verb takes the domain as it is, changes the copy by its options, and one write job in slot 0 puts it. */
#include "backend/admin/domains.h"

#include <stdlib.h>

#include "backend/admin/accounts.h"
#include "backend/admin/accounts_ensure.h"
#include "backend/admin/claims.h"
#include "backend/admin/policy_options.h"
#include "backend/admin/sessions.h"
#include "backend/store/store_domain.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/proto/address.h"
#include "common/proto/dns_name.h"

#define CHANGE_ARENA_MOST (256 * 1024)

struct change {
	struct admin *admin;
	struct control_request *request;
	struct arena arena;
	struct claims claims;
	struct store_domain domain;
	bool is_new, is_removal;
};

static void change_free(void *arg)
{
	struct change *c = arg;
	struct admin *admin = c->admin;

	claims_drop(&c->claims);
	accounts_ensure_again(admin);
	arena_deinit(&c->arena);
	free(c);
}

static int run(struct store_txn *txn, void *arg)
{
	struct change *c = arg;

	return c->is_removal ? store_domain_remove(txn, c->domain.name) : store_domain_put(txn, &c->domain);
}

static const char *words_of(int err)
{
	if (err == ERR_EXISTS)
		return "it, or an alias, is a domain with accounts, or another domain's alias";
	if (err == ERR_TOO_BIG)
		return "too many domains or aliases, or texts that are too long";
	return error_text(err);
}

static void done(void *arg, int err)
{
	struct change *c = arg;

	if (err) {
		control_fail(c->request, err, "domain %.*s: %s", SLICE_ARG(c->domain.name), words_of(err));
		return;
	}
	sessions_recheck(c->admin);
	control_add_slice(c->request, "domain", c->domain.name);
	control_done(c->request);
}

static void write_change(struct change *c)
{
	const struct store_work_call call = {
		.run = run, .done = done, .drop = change_free, .arg = c, .loop = c->admin->loop};

	(void)store_work_write(c->admin->work, 0, &call);
}

/* ---- reading a request; each answers and gives false when something is wrong ---- */

static bool refuse(struct change *c, int err, const char *words, const char *what)
{
	struct buf text = {0};

	buf_add_str(&text, what);
	buf_add_str(&text, words);
	control_fail(c->request, err, "%s", buf_str_view(&text));
	buf_deinit(&text);
	change_free(c);
	return false;
}

/* Nobody changes the domain, or an address in it. */
static bool claim(struct change *c, struct slice domain)
{
	char room[STORE_DOMAIN_MAX + 2];
	int err = domain.len > STORE_DOMAIN_MAX ? ERR_TOO_BIG : 0;

	if (!err && claims_has_within(domain))
		err = ERR_NOT_NOW;
	if (!err) {
		room[0] = '@';
		memcpy(room + 1, domain.p, domain.len);
		err = claims_take(&c->claims, slice_of(room, domain.len + 1));
	}
	return !err || refuse(c, err, "another verb is changing this domain or an address in it", "");
}

/* Of a name that is to come: mail reaches no other. What is there can be changed and removed whatever it is called. */
static bool is_in_dns(struct change *c, const char *text, struct slice name)
{
	return (dns_name_is_host(name) && name.p[0] != '-') ||
	       refuse(c, ERR_SYNTAX, ": is no name of the DNS: labels of 1 to 63 letters, digits and hyphens",
		       text);
}

static bool read_domain(struct change *c, const char *text, struct slice *domain_out)
{
	int err = address_normalise_domain(&c->arena, slice_str(text), domain_out);

	return (!err && domain_out->len) || refuse(c, ERR_SYNTAX, ": is no domain", text);
}

static bool read_maxima(struct change *c)
{
	const char *size = control_option(c->request, "max-quota", 0),
		   *count = control_option(c->request, "max-count", 0),
		   *accounts = control_option(c->request, "max-accounts", 0);
	struct store_domain *d = &c->domain;
	int err = 0;

	if (size)
		err = strcmp(size, "none") == 0 ? (d->bytes_most = 0, 0)
						: num_parse_size(slice_str(size), &d->bytes_most);
	if (!err && count)
		err = strcmp(count, "none") == 0 ? (d->count_most = 0, 0)
						 : num_parse_u64(slice_str(count), &d->count_most);
	if (!err && accounts)
		err = strcmp(accounts, "none") == 0 ? (d->accounts_most = 0, 0)
						    : num_parse_u32(slice_str(accounts), &d->accounts_most);
	return !err ||
	       refuse(c, ERR_SYNTAX, "a maximum is a number (of bytes with a unit: 10M, 2G), or none", "");
}

static bool read_class(struct change *c)
{
	const char *class = control_option(c->request, "class", 0);
	struct store_class_status status;

	if (!class)
		return true;
	c->domain.class = strcmp(class, "none") == 0 ? slice_of(NULL, 0) : slice_str(class);
	if (!c->domain.class.len)
		return true;
	if (store_class_find(c->admin->store, c->domain.class, &c->arena, &status) || !status.has_record)
		return refuse(c, ERR_NOT_FOUND, ": there is no such class; `class add` makes it", class);
	return true;
}

/* The address of an account here; of a new domain's own accounts there is none yet. */
static bool read_account(struct change *c, const char *option, struct slice *address_out)
{
	const char *text = control_option(c->request, option, 0);
	struct store_account account;
	struct slice address;

	if (!text)
		return true;
	if (strcmp(text, "none") == 0) {
		*address_out = slice_of(NULL, 0);
		return true;
	}
	if (accounts_normalise(&c->arena, slice_str(text), &address))
		return refuse(c, ERR_SYNTAX, ": is no address", text);
	*address_out = address;
	if (c->is_new && slice_is_equal(slice_from(address, (size_t)slice_find_last(address, '@') + 1),
				 c->domain.name))
		return true;
	if (store_find_account(c->admin->store, address, &account))
		return refuse(
			c, ERR_NOT_FOUND, ": is no account of this back-end; account add makes one", text);
	return true;
}

/* Is it among the texts with a blank between two? */
static bool has_alias(struct slice list, struct slice name)
{
	while (list.len) {
		ptrdiff_t at = slice_find(list, ' ');
		struct slice one = at < 0 ? list : slice_sub(list, 0, (size_t)at);

		if (slice_is_equal(one, name))
			return true;
		list = slice_from(list, one.len + 1);
	}
	return false;
}

static void add_alias(struct change *c, struct slice name)
{
	struct buf list = {0};

	buf_add_slice(&list, c->domain.aliases);
	if (buf_len(&list))
		buf_add_char(&list, ' ');
	buf_add_slice(&list, name);
	c->domain.aliases = arena_copy(&c->arena, buf_view(&list));
	buf_deinit(&list);
}

static void drop_alias(struct change *c, struct slice name)
{
	struct slice rest = c->domain.aliases;

	c->domain.aliases = slice_of(NULL, 0);
	while (rest.len) {
		ptrdiff_t at = slice_find(rest, ' ');
		struct slice one = at < 0 ? rest : slice_sub(rest, 0, (size_t)at);

		if (!slice_is_equal(one, name))
			add_alias(c, one);
		rest = slice_from(rest, one.len + 1);
	}
}

static bool read_aliases(struct change *c)
{
	const char *text;
	struct slice name;

	for (size_t i = 0; (text = control_option(c->request, "remove-alias", i)); i++) {
		if (!read_domain(c, text, &name))
			return false;
		if (!has_alias(c->domain.aliases, name))
			return refuse(c, ERR_NOT_FOUND, ": is no alias of this domain", text);
		drop_alias(c, name);
	}
	for (size_t i = 0; (text = control_option(c->request, "alias", i)); i++) {
		if (!read_domain(c, text, &name) || !is_in_dns(c, text, name) || !claim(c, name))
			return false;
		if (!has_alias(c->domain.aliases, name))
			add_alias(c, name);
	}
	return true;
}

static bool read_policy(struct change *c)
{
	struct policy_options options;
	const char *why = "";

	if (policy_options_read(c->request, &options, &why))
		return refuse(c, ERR_SYNTAX, why, "");
	policy_options_apply(&options, &c->domain.policy);
	return true;
}

/* ---- verbs ---- */

/* With the domain as it is now; NULL: answered. */
static struct change *begin(struct admin *admin, struct control_request *r, bool must_exist)
{
	struct change *c = xcalloc(1, sizeof(*c));
	struct store_domain_status status;
	struct slice name;
	int err;

	*c = (struct change){.admin = admin, .request = r};
	arena_init(&c->arena, CHANGE_ARENA_MOST);
	c->claims.arena = &c->arena;
	if (!read_domain(c, control_arg(r, 0), &name) || !claim(c, name))
		return NULL;
	err = store_domain_find(admin->store, name, &c->arena, &status);
	if (!err && !slice_is_equal(status.domain.name, name)) {
		(void)refuse(c, ERR_EXISTS, ": is an alias of another domain", control_arg(r, 0));
		return NULL;
	}
	c->is_new = err || !status.has_record;
	if (c->is_new == must_exist) {
		(void)refuse(c, must_exist ? ERR_NOT_FOUND : ERR_EXISTS,
			!must_exist ? ": there is such a domain already"
			: !err      ? ": has accounts, but no record yet; `domain add` makes it"
				    : ": there is no such domain",
			control_arg(r, 0));
		return NULL;
	}
	c->domain = c->is_new ? (struct store_domain){.name = name} : status.domain;
	return c;
}

static void put(struct admin *admin, struct control_request *r, bool must_exist)
{
	struct change *c = begin(admin, r, must_exist);

	if (c && (must_exist || is_in_dns(c, control_arg(r, 0), c->domain.name)) && read_policy(c) &&
		read_maxima(c) && read_class(c) && read_account(c, "catch-all", &c->domain.catch_all) &&
		read_account(c, "postmaster", &c->domain.postmaster) && read_aliases(c))
		write_change(c);
}

static void domain_add(void *arg, struct control_request *r)
{
	put(arg, r, false);
}

static void domain_set(void *arg, struct control_request *r)
{
	put(arg, r, true);
}

static void domain_remove(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct change *c = begin(admin, r, true);
	struct store_domain_status status;

	if (!c)
		return;
	if (store_domain_find(admin->store, c->domain.name, &c->arena, &status) == 0 && status.names) {
		control_fail(r, ERR_DENIED,
			"%llu addresses of %llu accounts are in this domain; they go first",
			(unsigned long long)status.names, (unsigned long long)status.accounts);
		change_free(c);
		return;
	}
	c->is_removal = true;
	write_change(c);
}

static void show_list(struct control_request *r, const char *key, struct slice list)
{
	control_add_list(r, key, NULL, 0);
	while (list.len) {
		ptrdiff_t at = slice_find(list, ' ');
		struct slice one = at < 0 ? list : slice_sub(list, 0, (size_t)at);

		control_add_item(r, key, one);
		list = slice_from(list, one.len + 1);
	}
}

static void show_fields(struct control_request *r, const struct store_domain_status *s)
{
	const struct store_domain *d = &s->domain;

	control_add_slice(r, "domain", d->name);
	control_add_bool(r, "explicit", s->has_record);
	control_add_int(r, "accounts", (int64_t)s->accounts);
	control_add_int(r, "addresses", (int64_t)s->names);
	show_list(r, "aliases", d->aliases);
	control_add_slice(r, "class", d->class);
	control_add_slice(r, "postmaster", d->postmaster);
	control_add_slice(r, "catch_all", d->catch_all);
	policy_options_show(r, &d->policy);
	if (d->accounts_most)
		control_add_int(r, "max_accounts", d->accounts_most);
	if (d->bytes_most)
		control_add_int(r, "max_bytes", (int64_t)d->bytes_most);
	if (d->count_most)
		control_add_int(r, "max_messages", (int64_t)d->count_most);
}

static void domain_show(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct store_domain_status status;
	struct arena arena;
	struct slice name;
	int err;

	arena_init(&arena, CHANGE_ARENA_MOST);
	err = address_normalise_domain(&arena, slice_str(control_arg(r, 0)), &name);
	if (!err)
		err = store_domain_find(admin->store, name, &arena, &status);
	if (err) {
		control_fail(r, err, "no such domain");
	} else {
		show_fields(r, &status);
		control_done(r);
	}
	arena_deinit(&arena);
}

/* ---- the list, some in each turn ---- */

#define ROWS_A_TURN 200

struct listing {
	struct control_request *request;
	struct arena arena;
	struct store_domain_status *list;
	size_t count, at;
};

static void list_step(void *arg)
{
	struct listing *l = arg;
	struct control_request *r = l->request;
	size_t end = l->at + ROWS_A_TURN < l->count ? l->at + ROWS_A_TURN : l->count;

	for (; l->at < end; l->at++) {
		control_row(r);
		show_fields(r, &l->list[l->at]);
	}
	if (l->at < l->count && !control_is_gone(r)) {
		control_when_room(r, list_step, l);
		return;
	}
	control_result(r);
	control_add_int(r, "domains", (int64_t)l->count);
	control_done(r);
	arena_deinit(&l->arena);
	free(l);
}

static void domain_list(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct listing *l = xcalloc(1, sizeof(*l));
	int err;

	l->request = r;
	arena_init(&l->arena, 0);
	err = store_domain_list(admin->store, &l->arena, &l->list, &l->count);
	if (!err) {
		list_step(l);
		return;
	}
	control_fail(r, err, "%s", error_text(err));
	arena_deinit(&l->arena);
	free(l);
}

#define OPTIONS                                                                                              \
	POLICY_OPTIONS                                                                                       \
	" alias= max-quota= max-count= max-accounts= class= catch-all= postmaster="
#define USAGE                                                                                                \
	"DOMAIN " POLICY_OPTIONS_USAGE " [--max-quota SIZE|none] [--max-count N|none] "                      \
	"[--max-accounts N|none] [--class CLASS|none] [--catch-all ADDRESS|none] "                           \
	"[--postmaster ADDRESS|none] [--alias DOMAIN]..."

static const struct control_verb verbs[] = {
	{"domain add", USAGE, "Makes a domain; limits are what its accounts have that say none", domain_add,
		1, 1, OPTIONS, 0},
	{"domain set", USAGE " [--remove-alias DOMAIN]...", "Changes what is named, for all accounts at once",
		domain_set, 1, 1, OPTIONS " remove-alias=", 0},
	{"domain show", "DOMAIN", "What the domain says", domain_show, 1, 1, NULL, 0},
	{"domain list", "", "All domains, also those that only accounts have made", domain_list, 0, 0, NULL,
		0},
	{"domain remove", "DOMAIN", "Removes a domain without accounts", domain_remove, 1, 1, NULL, 0},
};

void domains_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
