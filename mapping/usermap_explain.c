/*
 * What a look-up does, told step by step. It walks as usermap.c walks, with the same functions underneath,
 * and checks no credential. An LDAP map may make it wait.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/auth/password.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "mapping/usermap_private.h"

struct teller {
	usermap_step_fn *fn;
	void *arg;
	const char *map;
};

struct explain {
	struct teller t;
	struct usermap_chain *chain;
	size_t at;
	char *service, *name;
	struct loop *loop;
	usermap_fn *done;
	bool is_known, is_routed, can_check, send_only;
	char account[USERMAP_ADDRESS_MOST + 1]; /* of who is known */
	struct directory_login_request *request;
	struct usermap_answer answer;
};

enum explain_step {
	EXPLAIN_ON,
	EXPLAIN_END,
	EXPLAIN_WAITING
};

static const char *const rules[] = {
	[MAP_EXACT] = "exact",
	[MAP_WITHOUT_DETAIL] = "without detail",
	[MAP_DOMAIN] = "domain",
	[MAP_EXPRESSION] = "expression",
	[MAP_DEFAULT] = "default",
};

static void tell(const struct teller *t, const char *rule, struct slice key, uint32_t line, bool hit,
	const char *words)
{
	char text[USERMAP_ADDRESS_MOST + MAP_EXPRESSION_MOST + 1];

	key = slice_sub(key, 0, sizeof(text) - 1);
	if (key.len)
		memcpy(text, key.p, key.len);
	text[key.len] = 0;
	t->fn(t->arg,
		&(struct usermap_step){
			.map = t->map, .rule = rule, .key = text, .line = line, .hit = hit, .words = words});
}

static void on_rule(void *arg, enum map_rule rule, struct slice key, uint32_t line, bool hit)
{
	char words[80];

	if (hit)
		snprintf(words, sizeof(words), "line %u decides", line);
	else if (line)
		snprintf(words, sizeof(words), "line %u does not match", line);
	else
		snprintf(words, sizeof(words), "no such line");
	tell(arg, rules[rule], key, line, hit, words);
}

static void describe_route(struct buf *b, const struct map_entry *e)
{
	buf_printf(b, "account %.*s, ", SLICE_ARG(e->account));
	if (!e->targets.count)
		buf_add_str(b, e->send_only ? "no mailbox, may authenticate and send" : "no mailbox");
	for (unsigned i = 0; i < e->targets.count; i++) {
		const struct map_target *t = &e->targets.at[i];

		buf_printf(b, "%s%s %.*s", i ? ", then " : "",
			t->kind == USERMAP_BACKEND ? "back-end" : "host", SLICE_ARG(t->name));
		if (t->port)
			buf_printf(b, " port %u", t->port);
	}
}

static void explain_hit(const struct teller *t, const struct map_entry *e, bool first)
{
	struct buf words = {0};

	if (!first)
		buf_add_str(&words, "an earlier map has the route; would be: ");
	describe_route(&words, e);
	tell(t, "result", e->account, e->line, true, buf_str_view(&words));
	buf_clear(&words);
	if (e->password.len)
		buf_printf(&words, "a login is held against the password of line %u ({%s})", e->line,
			password_scheme(e->password));
	else
		buf_add_str(&words, "no password: this map routes and does not authenticate; a login goes on "
				    "to the next map");
	tell(t, "credential", slice_of(NULL, 0), e->line, e->password.len > 0, buf_str_view(&words));
	buf_deinit(&words);
}

static void answer_fill(
	struct usermap_answer *a, const struct usermap *map, uint64_t generation, const struct map_entry *e)
{
	*a = (struct usermap_answer){
		.verdict = USERMAP_YES, .send_only = e->send_only, .line = e->line, .generation = generation};
	snprintf(a->map, sizeof(a->map), "%s", map->name);
	snprintf(a->account, sizeof(a->account), "%.*s", SLICE_ARG(e->account));
	map_targets_fill(a, &e->targets);
}

/* As a login would: on until there is a route, and a map that can check. */
static enum explain_step known(struct explain *x, bool can_check)
{
	if (!x->is_known)
		x->send_only |= x->chain->maps[x->at]->send_only;
	x->is_known = true;
	x->can_check |= can_check;
	return x->is_routed && x->can_check ? EXPLAIN_END : EXPLAIN_ON;
}

/* There nobody logs in. */
static bool is_address(const struct explain *x)
{
	return !strcmp(x->service, "smtp");
}

/* As usermap.c asks: by the account, once that is all there is to find out. */
static const char *asked_name(const struct explain *x)
{
	bool is_all = x->can_check || is_address(x);

	return x->is_known && is_all && !x->is_routed ? x->account : x->name;
}

static enum explain_step cannot_say(struct explain *x, const char *words)
{
	tell(&x->t, "result", slice_str(x->name), 0, false, words);
	if (!x->is_routed)
		x->answer.verdict = USERMAP_NOT_NOW;
	return EXPLAIN_END;
}

static enum explain_step explain_file(struct explain *x, struct usermap *map)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct slice name = slice_str(asked_name(x));
	struct map_entry e;
	uint64_t generation;
	struct map_data *data = usermap_data(map, &generation);
	int error = data ? map_data_find(data, name, &e, account, on_rule, &x->t) : ERR_NOT_NOW;
	enum explain_step step = EXPLAIN_ON;

	if (error == ERR_NOT_FOUND) {
		tell(&x->t, "result", name, 0, false, "no such user in this map: the next one is asked");
	} else if (error) {
		step = cannot_say(x, data ? "an expression met its match limit: not now"
					  : "no usable generation of this map: not now");
	} else {
		explain_hit(&x->t, &e, !x->is_routed);
		if (!x->is_routed)
			answer_fill(&x->answer, map, generation, &e);
		x->is_routed = true;
		step = known(x, e.password.len > 0);
	}
	map_data_unref(&data);
	return step;
}

static enum explain_step explain_entry(
	struct explain *x, const struct directory_cache_entry *e, bool is_cached)
{
	struct usermap *map = x->chain->maps[x->at];
	struct map_entry route = {.account = slice_str(e->account)};
	struct slice bad;
	struct buf words = {0};
	bool is_routed = e->host[0];

	tell(&x->t, "entry", slice_str(e->dn), 0, true, "the entry that was found");
	if (is_routed) {
		tell(&x->t, "host attribute", slice_str(e->host), 0, true, "what the entry says");
		if (usermap_targets(map, slice_str(e->host), &route.targets, &bad))
			return cannot_say(x, "that is neither back-end nor host, or too many: not now");
	}
	if (is_routed && x->is_routed)
		buf_add_str(&words, "an earlier map has the route; would be: ");
	if (is_routed)
		describe_route(&words, &route);
	else
		buf_printf(&words, "account %s, no host: this map does not route", e->account);
	if (is_cached)
		buf_add_str(&words, " (remembered)");
	tell(&x->t, "result", route.account, 0, true, buf_str_view(&words));
	tell(&x->t, "credential", slice_of(NULL, 0), 0, e->can_check,
		!e->can_check                    ? "no password in the entry: a login goes on to the next map"
		: map->type == USERMAP_LDAP_BIND ? "a login is tried by a bind as this entry"
						 : "a login is held against the password of this entry");
	if (is_routed && !x->is_routed)
		answer_fill(&x->answer, map, 0, &route);
	x->is_routed |= is_routed;
	if (!x->is_known) {
		x->send_only = e->send_only;
		snprintf(x->account, sizeof(x->account), "%s", e->account);
	}
	buf_deinit(&words);
	return known(x, e->can_check);
}

static enum explain_step explain_ldap_answer(struct explain *x, const struct directory_login_answer *a)
{
	switch (a->verdict) {
	case DIRECTORY_LOGIN_HIT:
		return explain_entry(x, &a->entry, a->is_cached);
	case DIRECTORY_LOGIN_WRONG: /* checking nothing, it can mean but one thing */
		tell(&x->t, "flags", slice_str(x->name), 0, true, "the account is disabled: no login");
		x->answer.verdict = USERMAP_WRONG_CREDENTIAL;
		return EXPLAIN_END;
	case DIRECTORY_LOGIN_NONE:
		tell(&x->t, "result", slice_str(x->name), 0, false,
			a->is_cached ? "no such entry (remembered): the next map is asked"
				     : "no such entry: the next map is asked");
		return EXPLAIN_ON;
	case DIRECTORY_LOGIN_NOT_NOW:
		break;
	}
	return cannot_say(x, "the directory cannot say: not now");
}

static void explain_resume(void *arg, const struct directory_login_answer *a);

static enum explain_step explain_map(struct explain *x)
{
	struct usermap *map = x->chain->maps[x->at];
	const struct directory_login_question q = {.service = slice_str(x->service),
		.name = slice_str(asked_name(x)),
		.want = is_address(x) ? DIRECTORY_LOGIN_ADDRESS : DIRECTORY_LOGIN_USER};
	struct directory_login_answer a;
	struct buf words = {0};

	x->t.map = map->name;
	if (!usermap_has_domain(map, q.name)) {
		tell(&x->t, "domains", q.name, 0, false, "the map is not asked about this domain");
		return EXPLAIN_ON;
	}
	if (!map->ldap)
		return explain_file(x, map);
	directory_login_describe(map->ldap, &q, &words);
	tell(&x->t, "filter", q.name, 0, true, buf_str_view(&words));
	buf_deinit(&words);
	if (!directory_login_ask(map->ldap, &q, x->loop, explain_resume, x, &a, &x->request))
		return EXPLAIN_WAITING;
	return explain_ldap_answer(x, &a);
}

static void explain_free(struct explain *x)
{
	usermap_chain_unref(&x->chain);
	free(x->service);
	free(x->name);
	free(x);
}

/* From the present map on. False: it waits. */
static bool explain_run(struct explain *x)
{
	enum explain_step step = EXPLAIN_ON;

	for (; step == EXPLAIN_ON && x->at < x->chain->count; x->at += step == EXPLAIN_ON)
		step = explain_map(x);
	if (step == EXPLAIN_WAITING)
		return false;
	if (!x->is_known && x->answer.verdict == USERMAP_NO_SUCH_USER)
		tell(&x->t, "result", slice_str(x->name), 0, false, "no map knows this user");
	if (x->is_known && !x->is_routed && x->answer.verdict == USERMAP_NO_SUCH_USER) {
		x->answer = (struct usermap_answer){.verdict = USERMAP_YES, .send_only = x->send_only};
		tell(&x->t, "result", slice_str(x->name), 0, true,
			"known, and no map has a host: no mailbox");
	}
	return true;
}

static void explain_resume(void *arg, const struct directory_login_answer *a)
{
	struct explain *x = arg;
	struct usermap_answer answer;
	enum explain_step step = explain_ldap_answer(x, a);

	x->at = step == EXPLAIN_ON ? x->at + 1 : x->chain->count;
	if (!explain_run(x))
		return;
	answer = x->answer;
	x->done(x->t.arg, &answer);
	explain_free(x);
}

int usermap_explain(struct usermap_chain *chain, struct slice service, struct slice name, struct loop *loop,
	usermap_step_fn *fn, usermap_fn *done, void *arg, struct usermap_answer *answer_out)
{
	struct explain *x = xcalloc(1, sizeof(*x));

	x->t = (struct teller){.fn = fn, .arg = arg, .map = ""};
	x->chain = usermap_chain_ref(chain);
	x->service = slice_copy_str(service);
	x->name = slice_copy_str(name);
	x->loop = loop;
	x->done = done;
	x->answer.verdict = USERMAP_NO_SUCH_USER;
	if (!explain_run(x))
		return 0;
	*answer_out = x->answer;
	explain_free(x);
	return 1;
}
