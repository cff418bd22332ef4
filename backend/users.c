/*
 * A section whose options and connector stay the same over a reload keeps its directory_login, and with it what is remembered and
 * what is under way; another one is made beside it, and the old lives as long as a snapshot or a question holds it.
 */
#include "backend/users.h"

#include <stdlib.h>

#include "backend/backend.h"
#include "common/auth/auth_name.h"
#include "common/base/mem.h"
#include "common/directory/directory_set.h"
#include "common/proto/address.h"

#define SWEEP_MS 5000

struct users {
	struct backend *backend;
	struct directory_set *directories;
	struct timer sweep;
};

const struct conf_key users_keys[] = {
	{"users", "domains", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Whose names end so; empty: all users whom no other section names", NULL},
	{"users", "connector", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Title of the section `connector` that knows their passwords; empty: their accounts do",
		NULL},
	{"users", "type", CONF_ENUM, CONF_RELOAD, "ldap-bind", 0, 0, "ldap-password ldap-bind",
		"How the connector's entry shows that a password is right: the one in it is compared, or it "
		"is bound as",
		NULL},
	{"users", "positive-ttl", CONF_DURATION, CONF_RELOAD, "60s", 0, 86400000, NULL,
		"How long it is remembered that a password was right", NULL},
	{"users", "negative-ttl", CONF_DURATION, CONF_RELOAD, "10s", 0, 3600000, NULL,
		"How long it is remembered that there is no such user, or that a password was wrong", NULL},
	{"users", "stale-limit", CONF_DURATION, CONF_RELOAD, "1h", 0, 604800000, NULL,
		"How old a positive answer may be that is given while the directory cannot say", NULL},
	{"users", "cache-entries", CONF_INT, CONF_RELOAD, "100000", 1000, 10000000, NULL,
		"How many answers are remembered", NULL},
	{"users", "create-accounts", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Make the account, with the default limits, when a user whose password the connector has "
		"checked logs in "
		"first, or whom a trusted proxy has checked",
		NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

/* ---- checking ---- */

static bool is_in(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (slice_is_str_nocase(slice_str(*list), word))
			return true;
	return false;
}

static void check_connector(struct conf *conf, const char *title, const char *connector)
{
	if (!conf_has_title(conf, "connector", connector))
		conf_error(conf, "users", title, "connector", "there is no section connector %s", connector);
	else if (conf_get_enum(conf, "users", title, "type") == 0 &&
		 !*conf_get_string(conf, "connector", connector, "password-attribute"))
		conf_error(conf, "users", title, "type",
			"ldap-password needs the connector's password-attribute");
}

static void check_section(struct conf *conf, const char *title)
{
	const char *connector = conf_get_string(conf, "users", title, "connector");
	bool creates = conf_get_bool(conf, "users", title, "create-accounts");
	size_t domains;

	(void)conf_get_list(conf, "users", title, "domains", &domains);
	if (*connector)
		check_connector(conf, title, connector);
	else if (!creates)
		conf_error(conf, "users", title, "connector",
			"names none, and create-accounts is no: the section says nothing");
	if (creates && !domains)
		conf_error(conf, "users", title, "create-accounts",
			"makes accounts in named domains only: set `domains`");
}

/* No domain may be in two sections. */
static void check_pair(struct conf *conf, const char *a, const char *b)
{
	size_t n, m;
	const char *const *mine = conf_get_list(conf, "users", a, "domains", &n);
	const char *const *other = conf_get_list(conf, "users", b, "domains", &m);

	if (!n && !m)
		conf_error(
			conf, "users", b, "domains", "is empty, as that of users %s: who would be asked?", a);
	for (size_t i = 0; i < m; i++)
		if (is_in(mine, other[i]))
			conf_error(conf, "users", b, "domains", "%s is in users %s already", other[i], a);
}

void users_check(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "users", &count);

	directory_conf_check(conf);
	for (size_t i = 0; i < count; i++) {
		check_section(conf, titles[i]);
		for (size_t k = 0; k < i; k++)
			check_pair(conf, titles[k], titles[i]);
	}
}

/* ---- snapshots ---- */

static int read_domains(const struct conf *conf, struct config_users *s, struct buf *why)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "users", s->title, "domains", &count);
	struct arena arena;
	int err = 0;

	s->domains = xcalloc(count + 1, sizeof(*s->domains));
	arena_init(&arena, 0);
	for (size_t i = 0; !err && i < count; i++) {
		struct slice domain;

		err = address_normalise_domain(&arena, slice_str(list[i]), &domain);
		if (err)
			buf_printf(why, "%s: users %s: domains: \"%s\" is no domain\n",
				conf_where(conf, "users", s->title, "domains"), s->title, list[i]);
		else
			s->domains[i] = slice_copy_str(domain);
	}
	arena_deinit(&arena);
	return err ? ERR_CONFIG : 0;
}

int users_read(struct config *c, struct buf *why)
{
	size_t count;
	const struct conf *conf = c->conf;
	const char *const *titles = conf_titles(conf, "users", &count);
	int err = 0;

	c->users = xcalloc(count + 1, sizeof(*c->users));
	for (size_t i = 0; !err && i < count; i++) {
		struct config_users *s = &c->users[c->user_count++];

		s->title = titles[i];
		s->by_bind = conf_get_enum(conf, "users", s->title, "type") == 1;
		s->creates = conf_get_bool(conf, "users", s->title, "create-accounts");
		s->positive_ms = conf_get_duration(conf, "users", s->title, "positive-ttl");
		s->negative_ms = conf_get_duration(conf, "users", s->title, "negative-ttl");
		s->stale_ms = conf_get_duration(conf, "users", s->title, "stale-limit");
		s->cache_entries = conf_get_int(conf, "users", s->title, "cache-entries");
		err = read_domains(conf, s, why);
	}
	return err;
}

void users_free_sections(struct config *c)
{
	for (size_t i = 0; i < c->user_count; i++) {
		directory_login_unref(&c->users[i].login);
		for (char **at = c->users[i].domains; at && *at; at++)
			free(*at);
		free(c->users[i].domains);
	}
	free(c->users);
}

static struct slice domain_of(struct slice name)
{
	ptrdiff_t at = slice_find_last(name, '@');

	return at < 0 ? SLICE_LIT("") : slice_from(name, (size_t)at + 1);
}

static bool has_domain(const struct config_users *s, struct slice domain)
{
	for (char **at = s->domains; *at; at++)
		if (slice_is_str(domain, *at))
			return true;
	return false;
}

const struct config_users *users_find(const struct config *c, struct slice name)
{
	struct slice domain = domain_of(name);
	const struct config_users *rest = NULL;

	for (size_t i = 0; i < c->user_count; i++) {
		if (has_domain(&c->users[i], domain))
			return &c->users[i];
		if (!c->users[i].domains[0])
			rest = &c->users[i];
	}
	return rest;
}

bool users_may_create(const struct config_users *s, struct slice address)
{
	return s && s->creates && has_domain(s, domain_of(address));
}

/* ---- directories ---- */

static void on_sweep(void *arg)
{
	struct users *u = arg;

	directory_set_sweep(u->directories);
	timer_set(&u->sweep, u->backend->admin.loop, SWEEP_MS);
}

struct users *users_new(struct backend *b)
{
	struct users *u = xcalloc(1, sizeof(*u));

	u->backend = b;
	u->directories = directory_set_new(b->admin.loop);
	timer_init(&u->sweep, on_sweep, u);
	timer_set(&u->sweep, b->admin.loop, SWEEP_MS);
	return u;
}

void users_free(struct users **users)
{
	struct users *u = *users;

	*users = NULL;
	if (!u)
		return;
	timer_stop(&u->sweep);
	directory_set_free(&u->directories);
	free(u);
}

void users_end(struct config *c)
{
	for (size_t i = 0; i < c->user_count; i++)
		if (c->users[i].login)
			directory_login_end(c->users[i].login);
}

static const struct config_users *same_before(const struct config *old, const struct config_users *s)
{
	for (size_t i = 0; old && i < old->user_count; i++) {
		const struct config_users *o = &old->users[i];

		if (o->login && strcmp(o->title, s->title) == 0 && o->connector == s->connector &&
			o->by_bind == s->by_bind && o->positive_ms == s->positive_ms &&
			o->negative_ms == s->negative_ms && o->stale_ms == s->stale_ms &&
			o->cache_entries == s->cache_entries)
			return o;
	}
	return NULL;
}

static void tie_section(struct users *u, const struct config *old, struct config_users *s)
{
	const struct config_users *before = same_before(old, s);
	const struct directory_login_options options = {
		.kind = "users",
		.name = s->title,
		.by_bind = s->by_bind,
		.connector = s->connector,
		.positive_ms = s->positive_ms,
		.negative_ms = s->negative_ms,
		.stale_ms = s->stale_ms,
		.cache_entries = s->cache_entries,
		.home = u->backend->admin.loop,
		.credentials = u->backend->credentials,
		.hash_pool = u->backend->admin.hash_pool,
	};

	s->login = before ? directory_login_ref(before->login) : directory_login_new(&options);
}

int users_tie(struct users *u, const struct config *old, struct config *c, struct buf *why)
{
	size_t count;
	const char *const *titles = conf_titles(c->conf, "connector", &count);
	struct directory_connector *connectors = xcalloc(count + 1, sizeof(*connectors));
	struct directory_plan *plan;
	int err;

	for (size_t i = 0; i < count; i++)
		directory_conf_read(c->conf, titles[i], &connectors[i]);
	err = directory_set_plan(u->directories, connectors, count, &plan);
	free(connectors);
	if (err) {
		buf_add_str(why, "no threads for connectors\n");
		return err;
	}
	for (size_t i = 0; i < c->user_count; i++) {
		struct config_users *s = &c->users[i];

		s->connector =
			directory_plan_find(plan, conf_get_string(c->conf, "users", s->title, "connector"));
		if (s->connector)
			tie_section(u, old, s);
	}
	directory_set_use(u->directories, &plan);
	return 0;
}

/* ---- verbs ---- */

static void list(void *arg, struct control_request *r)
{
	const struct backend *b = arg;

	for (size_t i = 0; i < b->config->user_count; i++) {
		const struct config_users *s = &b->config->users[i];
		struct directory_status status = {.server = "", .error = ""};

		control_row(r);
		control_add_str(r, "users", s->title);
		control_add_list(r, "domains", (const char *const *)s->domains, 0);
		for (char **at = s->domains; *at; at++)
			control_add_item(r, "domains", slice_str(*at));
		control_add_bool(r, "create_accounts", s->creates);
		if (s->login)
			directory_status(directory_login_directory(s->login), &status);
		control_add_str(
			r, "connector", s->login ? directory_name(directory_login_directory(s->login)) : "");
		control_add_bool(r, "up", !s->login || status.is_up);
		control_add_str(r, "server", status.server);
		control_add_int(r, "remembered", s->login ? (int64_t)directory_login_count(s->login) : 0);
		control_add_str(r, "error", status.error);
	}
	control_done(r);
}

static void flush(void *arg, struct control_request *r)
{
	struct backend *b = arg;
	struct slice name = {0};
	struct arena arena;
	int err = 0;

	arena_init(&arena, 8 * 1024);
	if (control_arg_count(r))
		err = auth_name_normalise(&arena, slice_str(control_arg(r, 0)), SLICE_LIT(""), &name);
	if (err) {
		control_fail(r, ERR_SYNTAX, "no user can have this name");
	} else {
		credential_cache_flush(b->credentials);
		for (size_t i = 0; i < b->config->user_count; i++)
			if (b->config->users[i].login)
				directory_login_flush(b->config->users[i].login, name);
		control_done(r);
	}
	arena_deinit(&arena);
}

static const struct control_verb verbs[] = {
	{"users list", "", "Each section `users`: its domains, its connector and how that is", list, 0, 0,
		NULL, 0},
	{"users flush", "[USER]",
		"Forgets which passwords were right, and what directories said of a user (with domain), or "
		"of all",
		flush, 0, 1, NULL, 0},
};

void users_register(struct backend *b)
{
	control_register(b->admin.control, verbs, ARRAY_LEN(verbs), b);
}
