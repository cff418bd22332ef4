#include "backend/admin/backup_names.h"

#include <time.h>

#include "backend/admin/accounts.h"
#include "backend/store/store_account.h"
#include "backend/store/store_domain.h"

/* Other verbs have a name for some moments: so long is waited for them, and looked so often. */
#define CLAIM_TRIES 100
#define CLAIM_PAUSE_NS 100000000L
/* As much as all names of an account need. */
#define ARENA_MOST ((size_t)4 << 20)

void backup_names_init(struct backup_names *n, struct admin *admin)
{
	*n = (struct backup_names){.store = admin->store, .domains_must_exist = admin->domains_must_exist};
	arena_init(&n->arena, ARENA_MOST);
	n->claims.arena = &n->arena;
}

int backup_names_may(void *arg, struct slice name, bool is_alias, struct buf *why)
{
	struct backup_names *n = arg;
	struct store_account now;
	int err;

	if (slice_find(name, '@') < 0) {
		buf_add_str(why, "an account is named by an address: local-part@domain");
		return ERR_SYNTAX;
	}
	/* It has its place already: it is moved or replaced, or this ends with ERR_EXISTS. Public folders take none. */
	if (name.p[0] == '#' || store_find_account(n->store, name, &now) == 0)
		return 0;
	err = is_alias ? store_domain_may_name(n->store, name, n->domains_must_exist)
		       : store_domain_reserve(n->store, name, n->domains_must_exist);
	if (err) {
		buf_printf(why, "%.*s: %s", SLICE_ARG(name), accounts_domain_words(err));
		return err;
	}
	if (!is_alias)
		n->reserved = arena_copy(&n->arena, name);
	return 0;
}

int backup_names_claim(void *arg, struct slice name)
{
	const struct timespec pause = {0, CLAIM_PAUSE_NS};
	struct backup_names *n = arg;
	int err = claims_take(&n->claims, name);

	for (unsigned i = 0; err == ERR_NOT_NOW && i < CLAIM_TRIES; i++) {
		nanosleep(&pause, NULL);
		err = claims_take(&n->claims, name);
	}
	return err;
}

void backup_names_drop(struct backup_names *n)
{
	claims_drop(&n->claims);
	if (n->reserved.len)
		store_domain_release(n->store, n->reserved);
	n->reserved = slice_of(NULL, 0);
	arena_deinit(&n->arena);
	arena_init(&n->arena, ARENA_MOST);
}
