/*
 * Asking a chain. The walk goes through the maps in order and stops at the first thing that decides; only a
 * slow hash makes it wait, and after that nothing is left to ask: right is yes, wrong is no, not now is not
 * now. So a request that waits holds just the answer that it will give.
 */
#include "mapping/usermap.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "mapping/usermap_private.h"

#define AREA "mapping"

struct usermap_request {
	struct usermap_chain *chain;
	usermap_fn *fn;
	void *arg;
	struct usermap *map; /* whose password is being checked */
	struct credential_check *check;
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
	a->target = e->target;
	a->port = e->port;
	a->send_only = e->send_only;
	a->line = e->line;
	a->generation = generation;
	copy_text(a->map, sizeof(a->map), slice_str(map->name));
	copy_text(a->account, sizeof(a->account), e->account);
	copy_text(a->backend, sizeof(a->backend), e->backend);
}

static void verdict_set(struct usermap_answer *a, struct usermap *map, int verdict)
{
	switch (verdict) {
	case 0:
		a->verdict = USERMAP_YES;
		a->checked = true;
		count(map, USERMAP_COUNT_HIT);
		break;
	case ERR_DENIED:
		a->verdict = USERMAP_WRONG_CREDENTIAL;
		count(map, USERMAP_COUNT_WRONG);
		break;
	default:
		a->verdict = USERMAP_NOT_NOW;
		count(map, USERMAP_COUNT_NOT_NOW);
		break;
	}
}

/* On the request's loop; the last word. */
static void request_checked(void *arg, int verdict)
{
	struct usermap_request *r = arg;
	struct usermap_answer answer;
	usermap_fn *fn = r->fn;
	void *fn_arg = r->arg;

	verdict_set(&r->answer, r->map, verdict);
	answer = r->answer;
	usermap_chain_unref(&r->chain);
	free(r);
	fn(fn_arg, &answer);
}

/*
 * Holds the password against the entry's. The key of the cache has the stored text instead of the generation:
 * a push that leaves this user's line alone leaves his remembered login alone
 * (docs/decisions/credential-key.md).
 */
static int entry_check(struct usermap_chain *chain, struct usermap *map, const struct usermap_question *q,
	struct slice stored, struct loop *loop, struct usermap_request *r)
{
	struct credential c = {.realm = slice_str(map->name),
		.service = q->service,
		.user = q->name,
		.stored = stored,
		.password = q->password};
	int verdict;

	r->map = map;
	if (!credential_check(chain->set->cache, chain->set->hash_pool, loop, &c, request_checked, r,
		    &verdict, &r->check))
		return 0;
	verdict_set(&r->answer, map, verdict);
	return 1;
}

enum walk {
	WALK_ON,
	WALK_ANSWERED,
	WALK_WAITING
};

/* One map of the chain; routed: an earlier one gave the route. */
static enum walk walk_map(struct usermap_chain *chain, struct usermap *map, const struct usermap_question *q,
	struct loop *loop, struct usermap_request *r, bool *routed)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_entry e = {0};
	uint64_t generation;
	struct map_data *data = usermap_data(map, &generation);
	int error = data ? map_data_find(data, q->name, &e, account, NULL, NULL) : ERR_NOT_NOW;
	enum walk walk = WALK_ON;

	if (error == ERR_NOT_FOUND) {
		count(map, USERMAP_COUNT_NONE);
	} else if (error) {
		if (data)
			log_warn(AREA, "expression met its match limit map=%s line=%u", map->name, e.line);
		verdict_set(&r->answer, map, ERR_NOT_NOW);
		walk = WALK_ANSWERED;
	} else {
		if (!*routed)
			route_fill(&r->answer, map, generation, &e);
		*routed = true;
		if (!q->check) {
			count(map, USERMAP_COUNT_HIT);
			r->answer.verdict = USERMAP_YES;
			walk = WALK_ANSWERED;
		} else if (e.password.len) {
			walk = entry_check(chain, map, q, e.password, loop, r) ? WALK_ANSWERED : WALK_WAITING;
		}
	}
	map_data_unref(&data);
	return walk;
}

static enum walk walk_chain(struct usermap_chain *chain, const struct usermap_question *q, struct loop *loop,
	struct usermap_request *r)
{
	bool routed = false;

	for (size_t i = 0; i < chain->count; i++) {
		enum walk walk;

		if (!usermap_has_domain(chain->maps[i], q->name))
			continue;
		walk = walk_map(chain, chain->maps[i], q, loop, r, &routed);
		if (walk != WALK_ON)
			return walk;
	}
	/* Known to some map, and none could check the credential: that is a no. */
	r->answer.verdict = routed ? USERMAP_WRONG_CREDENTIAL : USERMAP_NO_SUCH_USER;
	return WALK_ANSWERED;
}

int usermap_lookup(struct usermap_chain *chain, const struct usermap_question *q, struct loop *loop,
	usermap_fn *fn, void *arg, struct usermap_answer *answer_out, struct usermap_request **request_out)
{
	struct usermap_request *r = xcalloc(1, sizeof(*r));

	if (walk_chain(chain, q, loop, r) == WALK_WAITING) {
		r->chain = usermap_chain_ref(chain);
		r->fn = fn;
		r->arg = arg;
		*request_out = r;
		return 0;
	}
	*answer_out = r->answer;
	*request_out = NULL;
	free(r);
	return 1;
}

void usermap_cancel(struct usermap_request **request)
{
	struct usermap_request *r = *request;

	*request = NULL;
	if (!r)
		return;
	credential_check_cancel(&r->check);
	usermap_chain_unref(&r->chain);
	free(r);
}
