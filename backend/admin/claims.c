/* One table for the program, behind a lock; keys live in the arenas of those who claimed. */
#include "backend/admin/claims.h"

#include <pthread.h>
#include <string.h>

#include "common/base/table.h"

struct claim {
	struct claim *next;
	struct slice name;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table *claimed;

static struct slice domain_of(struct slice name)
{
	ptrdiff_t at = slice_find_last(name, '@');

	return at < 0 ? slice_of("", 0) : slice_from(name, (size_t)at);
}

/* With its '@'. */
static bool is_domain_taken(const struct claims *claims, struct slice domain)
{
	const struct claims *owner = domain.len ? table_get(claimed, domain) : NULL;

	return owner && owner != claims;
}

static int take(struct claims *claims, struct slice name)
{
	const struct claims *owner;
	struct claim *claim;

	if (!claimed)
		claimed = table_new();
	owner = table_get(claimed, name);
	if (owner == claims)
		return 0;
	if (owner || is_domain_taken(claims, domain_of(name)))
		return ERR_NOT_NOW;
	claim = arena_alloc(claims->arena, sizeof(*claim));
	if (!claim)
		return ERR_TOO_BIG;
	*claim = (struct claim){claims->first, arena_copy(claims->arena, name)};
	if (!claim->name.p)
		return ERR_TOO_BIG;
	claims->first = claim;
	(void)table_put(claimed, claim->name, claims);
	return 0;
}

int claims_take(struct claims *claims, struct slice name)
{
	int err;

	pthread_mutex_lock(&lock);
	err = take(claims, name);
	pthread_mutex_unlock(&lock);
	return err;
}

void claims_drop(struct claims *claims)
{
	pthread_mutex_lock(&lock);
	for (const struct claim *c = claims->first; c; c = c->next)
		(void)table_remove(claimed, c->name);
	claims->first = NULL;
	pthread_mutex_unlock(&lock);
}

bool claims_has(struct slice name)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = claimed && (table_get(claimed, name) || is_domain_taken(NULL, domain_of(name)));
	pthread_mutex_unlock(&lock);
	return has;
}

bool claims_has_within(struct slice domain)
{
	struct slice key;
	void *value;
	bool has = false;

	pthread_mutex_lock(&lock);
	for (size_t at = 0; !has && claimed && table_next(claimed, &at, &key, &value);) {
		struct slice of = domain_of(key);

		has = of.len < key.len && slice_is_equal(slice_from(of, 1), domain);
	}
	pthread_mutex_unlock(&lock);
	return has;
}

void claims_deinit(void)
{
	table_free(&claimed);
}
