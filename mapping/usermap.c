/*
 * Asking a chain. The walk goes through the maps in order until it has a route and, where it must, a checked
 * credential. A file map answers at once, or makes the walk wait for a slow hash; an LDAP map may make it wait for the
 * directory. A walk that waits keeps its question and goes on where it stood, on its own loop.
 */
#include "mapping/usermap.h"

#include <stdlib.h>

#include "common/auth/password.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "mapping/usermap_private.h"

#define AREA "mapping"

struct usermap_request {
	struct usermap_chain *chain;
	struct loop *loop;
	usermap_fn *fn;
	void *arg;
	size_t at;                        /* the map being asked */
	struct usermap_question question; /* own copies once it waits */
	struct secret password, stored;   /* stored: what was fetched */
	char *service, *name;
	struct credential_check *check;
	struct directory_login_request *ldap;
	bool is_known, is_routed, is_checked;
	bool send_only; /* as the map says that knew the user first */
	struct usermap_answer answer;
};

/* ---- chains ---- */

int usermap_chain_new(struct usermap_set *set, const char *const *maps, struct usermap_chain **chain_out)
{
	struct usermap_chain *c = xcalloc(1, sizeof(*c));
	int error = 0;

	atomic_init(&c->refs, 1);
	c->set = set;
	for (size_t i = 0; maps[i] && !error; i++) {
		struct usermap *map = NULL;

		for (size_t j = 0; j < set->count; j++) {
			if (!strcmp(set->maps[j]->name, maps[i]))
				map = set->maps[j];
		}
		if (!map || c->count == USERMAP_CHAIN_MOST)
			error = map ? ERR_TOO_BIG : ERR_NOT_FOUND;
		else
			c->maps[c->count++] = usermap_ref(map);
	}
	if (error)
		usermap_chain_unref(&c);
	else
		*chain_out = c;
	return error;
}

struct usermap_chain *usermap_chain_ref(struct usermap_chain *chain)
{
	atomic_fetch_add_explicit(&chain->refs, 1, memory_order_relaxed);
	return chain;
}

void usermap_chain_unref(struct usermap_chain **chain)
{
	struct usermap_chain *c = *chain;

	*chain = NULL;
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < c->count; i++)
		usermap_unref(&c->maps[i]);
	free(c);
}

/* ---- the walk ---- */

static void count(struct usermap *map, enum usermap_counter counter)
{
	metric_add(map->metrics.lookups[counter], 1);
}

static void copy_text(char *to, size_t room, struct slice s)
{
	require(s.len < room);
	if (s.len)
		memcpy(to, s.p, s.len);
	to[s.len] = 0;
}

static void route_fill(
	struct usermap_answer *a, const struct usermap *map, uint64_t generation, const struct map_entry *e)
{
	a->send_only = e->send_only;
	a->line = e->line;
	a->generation = generation;
	copy_text(a->map, sizeof(a->map), slice_str(map->name));
	copy_text(a->account, sizeof(a->account), e->account);
	map_targets_fill(a, &e->targets);
}

enum walk {
	WALK_ON,
	WALK_ANSWERED,
	WALK_WAITING
};

static struct usermap *map_of(const struct usermap_request *r)
{
	return r->chain->maps[r->at];
}

static enum walk decide(struct usermap_request *r, enum usermap_verdict verdict, enum usermap_counter counter)
{
	r->answer.verdict = verdict;
	count(map_of(r), counter);
	return WALK_ANSWERED;
}

static bool wants_password(const struct usermap_request *r)
{
	return r->question.shown == USERMAP_SHOWN_PASSWORD && !r->is_checked;
}

/* The map knows the user: is anything left to ask? */
static enum walk known(struct usermap_request *r)
{
	if (!r->is_known)
		r->send_only |= map_of(r)->send_only;
	r->is_known = true;
	if (r->question.shown == USERMAP_SHOWN_FETCH) {
		if (!r->stored.len)
			return WALK_ON;
	} else if (!r->is_routed || wants_password(r)) {
		return WALK_ON;
	}
	r->answer.checked = r->is_checked;
	return decide(r, USERMAP_YES, USERMAP_COUNT_HIT);
}

/* No map is left. */
static void walk_end(struct usermap_request *r)
{
	if (!r->is_known) {
		r->answer.verdict = USERMAP_NO_SUCH_USER;
	} else if (wants_password(r)) {
		/* Known to some map, and none could check the credential: that is a no. */
		r->answer.verdict = USERMAP_WRONG_CREDENTIAL;
	} else {
		/* Known, and no map has a host for him. */
		r->answer.verdict = USERMAP_YES;
		r->answer.checked = r->is_checked;
		r->answer.target_count = 0;
		r->answer.send_only = r->send_only;
	}
}

/* ---- a file map ---- */

static enum walk password_verdict(struct usermap_request *r, int verdict)
{
	switch (verdict) {
	case 0:
		r->is_checked = true;
		return known(r);
	case ERR_DENIED:
		return decide(r, USERMAP_WRONG_CREDENTIAL, USERMAP_COUNT_WRONG);
	default:
		return decide(r, USERMAP_NOT_NOW, USERMAP_COUNT_NOT_NOW);
	}
}

static void walk_resume(struct usermap_request *r, enum walk walk);

static void on_password(void *arg, int verdict)
{
	struct usermap_request *r = arg;

	r->check = NULL;
	walk_resume(r, password_verdict(r, verdict));
}

/*
 * Holds the password against the entry's. The key of the cache has the stored text instead of the generation:
 * a push that leaves this user's line alone leaves his remembered login alone
 * (docs/decisions/credential-key.md).
 */
static enum walk entry_check(struct usermap_request *r, struct slice stored)
{
	struct credential c = {.realm = slice_str(map_of(r)->name),
		.service = r->question.service,
		.user = r->question.name,
		.stored = stored,
		.password = r->question.password};
	int verdict;

	if (!credential_check(r->chain->set->cache, r->chain->set->hash_pool, r->loop, &c, on_password, r,
		    &verdict, &r->check))
		return WALK_WAITING;
	return password_verdict(r, verdict);
}

/* Who is known, and needs no more checking, is asked for by his account: it is his mailbox that is looked for. */
static struct slice asked_name(const struct usermap_request *r)
{
	bool by_account = r->is_known && !wants_password(r) && r->question.shown != USERMAP_SHOWN_FETCH;

	return by_account ? slice_str(r->answer.account) : r->question.name;
}

/* One text, with the NUL that ends it. */
static void stored_keep(struct usermap_request *r, struct slice text)
{
	char copy[PASSWORD_STORED_MOST + 1];

	require(text.len < sizeof(copy));
	memcpy(copy, text.p, text.len);
	copy[text.len] = 0;
	secret_set(&r->stored, slice_of(copy, text.len + 1));
	secret_wipe(copy, sizeof(copy));
}

static enum walk walk_file(struct usermap_request *r)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct usermap *map = map_of(r);
	struct map_entry e = {0};
	uint64_t generation;
	struct map_data *data = usermap_data(map, &generation);
	int error = data ? map_data_find(data, asked_name(r), &e, account, NULL, NULL) : ERR_NOT_NOW;
	enum walk walk = WALK_ON;

	if (error == ERR_NOT_FOUND) {
		count(map, USERMAP_COUNT_NONE);
	} else if (error) {
		if (data)
			log_warn(AREA, "expression met its match limit map=%s line=%u", map->name, e.line);
		walk = decide(r, USERMAP_NOT_NOW, USERMAP_COUNT_NOT_NOW);
	} else {
		if (!r->is_routed)
			route_fill(&r->answer, map, generation, &e);
		r->is_routed = true;
		if (e.password.len && r->question.shown == USERMAP_SHOWN_FETCH)
			stored_keep(r, e.password);
		walk = wants_password(r) && e.password.len ? entry_check(r, e.password) : known(r);
	}
	map_data_unref(&data);
	return walk;
}

/* ---- an LDAP map ---- */

static enum walk ldap_hit(struct usermap_request *r, const struct directory_login_answer *a)
{
	const struct directory_cache_entry *e = &a->entry;
	struct usermap *map = map_of(r);
	struct map_targets targets;
	struct slice bad;

	if (e->host[0] && usermap_targets(map, slice_str(e->host), &targets, &bad)) {
		log_error(AREA, "bad value of the host attribute, not now map=%s user=%.*s value=%.*s",
			map->name, SLICE_ARG(r->question.name), SLICE_ARG(bad));
		return decide(r, USERMAP_NOT_NOW, USERMAP_COUNT_NOT_NOW);
	}
	if (!r->is_known || (e->host[0] && !r->is_routed)) {
		copy_text(r->answer.map, sizeof(r->answer.map), slice_str(map->name));
		copy_text(r->answer.account, sizeof(r->answer.account), slice_str(e->account));
	}
	if (e->host[0] && !r->is_routed) {
		map_targets_fill(&r->answer, &targets);
		r->answer.line = 0;
		r->is_routed = true;
	}
	if (!r->is_known)
		r->send_only = e->send_only;
	r->is_checked |= e->is_checked;
	if (a->stored_count && !r->stored.len)
		directory_login_texts(a, &r->stored);
	return known(r);
}

static enum walk ldap_answered(struct usermap_request *r, const struct directory_login_answer *a)
{
	switch (a->verdict) {
	case DIRECTORY_LOGIN_HIT:
		return ldap_hit(r, a);
	case DIRECTORY_LOGIN_NONE:
		count(map_of(r), USERMAP_COUNT_NONE);
		return WALK_ON;
	case DIRECTORY_LOGIN_WRONG:
		return decide(r, USERMAP_WRONG_CREDENTIAL, USERMAP_COUNT_WRONG);
	case DIRECTORY_LOGIN_NOT_NOW:
		break;
	}
	return decide(r, USERMAP_NOT_NOW, USERMAP_COUNT_NOT_NOW);
}

static void on_ldap(void *arg, const struct directory_login_answer *a)
{
	struct usermap_request *r = arg;

	r->ldap = NULL;
	walk_resume(r, ldap_answered(r, a));
}

static enum directory_login_want ldap_want(const struct usermap_request *r)
{
	if (r->question.is_address)
		return DIRECTORY_LOGIN_ADDRESS;
	if (r->question.shown == USERMAP_SHOWN_FETCH)
		return DIRECTORY_LOGIN_FETCH;
	return wants_password(r) ? DIRECTORY_LOGIN_CHECK : DIRECTORY_LOGIN_USER;
}

static enum walk walk_ldap(struct usermap_request *r)
{
	const struct directory_login_question question = {.want = ldap_want(r),
		.service = r->question.service,
		.name = asked_name(r),
		.password = r->question.password};
	struct directory_login_answer a;

	if (!directory_login_ask(map_of(r)->ldap, &question, r->loop, on_ldap, r, &a, &r->ldap))
		return WALK_WAITING;
	return ldap_answered(r, &a);
}

/* ---- the walk ---- */

static enum walk walk_map(struct usermap_request *r)
{
	if (!usermap_has_domain(map_of(r), asked_name(r)))
		return WALK_ON;
	return map_of(r)->ldap ? walk_ldap(r) : walk_file(r);
}

static enum walk walk_from(struct usermap_request *r)
{
	enum walk walk = WALK_ON;

	for (; r->at < r->chain->count; r->at++) {
		walk = walk_map(r);
		if (walk != WALK_ON)
			return walk;
	}
	walk_end(r);
	return WALK_ANSWERED;
}

static void request_free(struct usermap_request *r)
{
	usermap_chain_unref(&r->chain);
	secret_deinit(&r->password);
	secret_deinit(&r->stored);
	free(r->service);
	free(r->name);
	free(r);
}

/* The fetched texts go to the asker. */
static void stored_give(struct usermap_request *r)
{
	if (r->question.shown != USERMAP_SHOWN_FETCH)
		return;
	secret_deinit(r->question.stored_out);
	if (r->answer.verdict == USERMAP_YES) {
		*r->question.stored_out = r->stored;
		r->stored = (struct secret){0};
	}
}

/* The last word, unless something else is to be waited for. */
static void walk_resume(struct usermap_request *r, enum walk walk)
{
	struct usermap_answer answer;
	usermap_fn *fn = r->fn;
	void *arg = r->arg;

	if (walk == WALK_ON) {
		r->at++;
		walk = walk_from(r);
	}
	if (walk == WALK_WAITING)
		return;
	answer = r->answer;
	stored_give(r);
	request_free(r);
	fn(arg, &answer);
}

/* What was borrowed for the call becomes ours. */
static void question_keep(struct usermap_request *r)
{
	struct usermap_question *q = &r->question;

	r->service = slice_copy_str(q->service);
	r->name = slice_copy_str(q->name);
	q->service = slice_str(r->service);
	q->name = slice_of(r->name, q->name.len);
	if (q->shown == USERMAP_SHOWN_PASSWORD)
		secret_set(&r->password, q->password);
	q->password = secret_view(&r->password);
}

int usermap_lookup(struct usermap_chain *chain, const struct usermap_question *q, struct loop *loop,
	usermap_fn *fn, void *arg, struct usermap_answer *answer_out, struct usermap_request **request_out)
{
	struct usermap_request *r = xcalloc(1, sizeof(*r));

	r->chain = usermap_chain_ref(chain);
	r->question = *q;
	r->loop = loop;
	r->is_checked = q->shown == USERMAP_SHOWN_PROVEN;
	if (walk_from(r) == WALK_WAITING) {
		question_keep(r);
		r->fn = fn;
		r->arg = arg;
		*request_out = r;
		return 0;
	}
	*answer_out = r->answer;
	stored_give(r);
	*request_out = NULL;
	request_free(r);
	return 1;
}

void usermap_cancel(struct usermap_request **request)
{
	struct usermap_request *r = *request;

	*request = NULL;
	if (!r)
		return;
	credential_check_cancel(&r->check);
	directory_login_cancel(&r->ldap);
	request_free(r);
}
