/* A login asks from its loop, the main loop does it; whoever finds the address claimed waits for the end of that verb. */
#include "backend/admin/accounts_ensure.h"

#include <stdlib.h>

#include "backend/admin/claims.h"
#include "backend/store/store_account.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define ENSURE_ARENA_MOST (8 * 1024)

/* `link`: of those that wait for another verb about the same address. */
struct accounts_ensure {
	struct list link;
	struct admin *admin;
	struct loop *loop;
	accounts_fn *fn; /* NULL: cancelled; touched on its loop alone */
	void *arg;
	int err;
	struct slice address; /* owned */
	struct arena arena;
	struct claims claims;
};

/* Main loop. */
static struct list waiting = {&waiting, &waiting};

static void tell(void *arg)
{
	struct accounts_ensure *e = arg;
	accounts_fn *fn = e->fn;
	void *fn_arg = e->arg;
	int err = e->err;

	free((void *)(uintptr_t)e->address.p);
	arena_deinit(&e->arena);
	free(e);
	if (fn)
		fn(fn_arg, err);
}

/* err: of the change, or of the look before it. */
static void finish(struct accounts_ensure *e, int err)
{
	if (err == 0)
		log_info("backend", "account made at its first login account=%.*s", SLICE_ARG(e->address));
	e->err = err == ERR_EXISTS ? 0 : err;
	if (!e->admin->group) { /* the program ends: nobody waits, and the loop is no more */
		e->fn = NULL;
		tell(e);
		return;
	}
	loop_post(e->loop, tell, e);
}

static int run(struct store_txn *txn, void *arg)
{
	struct accounts_ensure *e = arg;
	const struct store_account_new account = {.address = e->address};
	uint32_t id;

	return store_account_create(txn, &account, &id);
}

static void done(void *arg, int err)
{
	struct accounts_ensure *e = arg;

	e->err = err;
}

static void drop(void *arg)
{
	struct accounts_ensure *e = arg;

	store_domain_release(e->admin->store, e->address);
	claims_drop(&e->claims);
	accounts_ensure_again(e->admin);
	finish(e, e->err);
}

static void begin(void *arg)
{
	struct accounts_ensure *e = arg;
	struct admin *admin = e->admin;
	const struct store_work_call call = {
		.run = run, .done = done, .drop = drop, .arg = e, .loop = admin->loop};
	struct store_account account;
	int err;

	if (admin->is_leaving)
		err = ERR_NOT_NOW;
	else if (slice_find(e->address, '@') <= 0 || store_account_is_public(e->address))
		err = ERR_SYNTAX;
	else
		err = store_find_account(admin->store, e->address, &account);
	if (err != ERR_NOT_FOUND) {
		finish(e, err ? err : ERR_EXISTS);
		return;
	}
	err = claims_take(&e->claims, e->address);
	if (err == ERR_NOT_NOW) {
		list_add_last(&waiting, &e->link);
		return;
	}
	if (!err)
		err = store_domain_reserve(admin->store, e->address, admin->domains_must_exist);
	if (err) {
		claims_drop(&e->claims);
		finish(e, err == ERR_EXISTS ? ERR_NOT_FOUND : err);
		return;
	}
	e->err = ERR_NOT_NOW;
	(void)store_work_write(admin->work, store_account_choose_slot(admin->store), &call);
}

static void look_again(void *arg)
{
	struct list now;

	(void)arg;
	list_init(&now);
	list_move_all(&now, &waiting);
	while (!list_is_empty(&now)) {
		struct accounts_ensure *e = container_of(now.next, struct accounts_ensure, link);

		list_remove(&e->link);
		begin(e);
	}
}

void accounts_ensure_again(struct admin *admin)
{
	if (!list_is_empty(&waiting))
		loop_post(admin->loop, look_again, admin);
}

struct accounts_ensure *accounts_ensure(
	struct admin *admin, struct loop *loop, struct slice address, accounts_fn *fn, void *arg)
{
	struct accounts_ensure *e = xcalloc(1, sizeof(*e));

	*e = (struct accounts_ensure){.admin = admin, .loop = loop, .fn = fn, .arg = arg};
	list_init(&e->link);
	arena_init(&e->arena, ENSURE_ARENA_MOST);
	e->claims.arena = &e->arena;
	e->address = slice_of(slice_copy_str(address), address.len);
	loop_post(admin->loop, begin, e);
	return e;
}

void accounts_ensure_cancel(struct accounts_ensure **ensure)
{
	if (*ensure)
		(*ensure)->fn = NULL;
	*ensure = NULL;
}
