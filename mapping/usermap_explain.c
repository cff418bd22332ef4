/*
 * What a look-up does, told step by step. It walks as usermap.c walks, with the same functions underneath,
 * and checks no credential.
 */
#include <stdio.h>

#include "common/auth/password.h"
#include "common/base/buf.h"
#include "mapping/usermap_private.h"

struct teller {
	usermap_step_fn *fn;
	void *arg;
	const char *map;
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
	switch (e->target) {
	case USERMAP_BACKEND:
		buf_printf(b, "back-end %.*s", SLICE_ARG(e->backend));
		break;
	case USERMAP_HOST:
		buf_printf(b, "host %.*s", SLICE_ARG(e->backend));
		if (e->port)
			buf_printf(b, " port %u", e->port);
		break;
	case USERMAP_NOWHERE:
		buf_add_str(b, e->send_only ? "no mailbox, may authenticate and send" : "no mailbox");
		break;
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
	*a = (struct usermap_answer){.verdict = USERMAP_YES,
		.target = e->target,
		.port = e->port,
		.send_only = e->send_only,
		.line = e->line,
		.generation = generation};
	snprintf(a->map, sizeof(a->map), "%s", map->name);
	snprintf(a->account, sizeof(a->account), "%.*s", SLICE_ARG(e->account));
	snprintf(a->backend, sizeof(a->backend), "%.*s", SLICE_ARG(e->backend));
}

/* True: nothing more is asked after this map. */
static bool explain_map(const struct teller *t, struct usermap *map, struct slice name, bool *known,
	struct usermap_answer *answer)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_entry e;
	uint64_t generation;
	struct map_data *data;
	int error;

	if (!usermap_has_domain(map, name)) {
		tell(t, "domains", name, 0, false, "the map is not asked about this domain");
		return false;
	}
	data = usermap_data(map, &generation);
	error = data ? map_data_find(data, name, &e, account, on_rule, (void *)t) : ERR_NOT_NOW;
	if (error == ERR_NOT_FOUND) {
		tell(t, "result", name, 0, false, "no such user in this map: the next one is asked");
	} else if (error) {
		tell(t, "result", name, 0, false,
			data ? "an expression met its match limit: not now"
			     : "no usable generation of this map: not now");
		if (!*known)
			answer->verdict = USERMAP_NOT_NOW;
	} else {
		explain_hit(t, &e, !*known);
		if (!*known)
			answer_fill(answer, map, generation, &e);
		*known = true;
		error = e.password.len ? 0 : ERR_NOT_FOUND;
	}
	map_data_unref(&data);
	return error != ERR_NOT_FOUND;
}

void usermap_explain(struct usermap_chain *chain, struct slice name, usermap_step_fn *fn, void *arg,
	struct usermap_answer *answer_out)
{
	struct usermap_answer answer = {.verdict = USERMAP_NO_SUCH_USER};
	struct teller t = {.fn = fn, .arg = arg, .map = ""};
	bool known = false;

	for (size_t i = 0; i < chain->count; i++) {
		t.map = chain->maps[i]->name;
		if (explain_map(&t, chain->maps[i], name, &known, &answer))
			break;
	}
	if (answer.verdict == USERMAP_NO_SUCH_USER)
		tell(&t, "result", name, 0, false, "no map knows this user");
	*answer_out = answer;
}
