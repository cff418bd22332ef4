/* A class is a name and a policy: what its members' accounts do not say themselves. */
#include "backend/admin/classes.h"

#include <stdlib.h>

#include "backend/admin/accounts_ensure.h"
#include "backend/admin/claims.h"
#include "backend/admin/policy_options.h"
#include "backend/admin/sessions.h"
#include "backend/store/store_domain.h"
#include "common/base/mem.h"

#define CHANGE_ARENA_MOST (16 * 1024)

struct change {
	struct admin *admin;
	struct control_request *request;
	struct arena arena;
	struct claims claims;
	struct store_class class;
	bool is_removal;
};

static void change_free(void *arg)
{
	struct change *c = arg;

	claims_drop(&c->claims);
	arena_deinit(&c->arena);
	free(c);
}

static int run(struct store_txn *txn, void *arg)
{
	struct change *c = arg;

	return c->is_removal ? store_class_remove(txn, c->class.name) : store_class_put(txn, &c->class);
}

static void done(void *arg, int err)
{
	struct change *c = arg;

	if (err) {
		control_fail(c->request, err, "class %.*s: %s", SLICE_ARG(c->class.name),
			err == ERR_TOO_BIG ? "there are as many classes as there may be" : error_text(err));
		return;
	}
	sessions_recheck(c->admin);
	control_add_slice(c->request, "class", c->class.name);
	control_done(c->request);
}

/* With the class as it is now in *status_out; NULL: answered. */
static struct change *begin(struct admin *admin, struct control_request *r, bool must_exist,
	struct store_class_status *status_out)
{
	struct change *c = xcalloc(1, sizeof(*c));
	struct slice name = slice_str(control_arg(r, 0));
	struct buf claim = {0};
	const char *words = NULL;
	int err = 0;

	*c = (struct change){.admin = admin, .request = r};
	arena_init(&c->arena, CHANGE_ARENA_MOST);
	c->claims.arena = &c->arena;
	buf_printf(&claim, "class %.*s", SLICE_ARG(name));
	if (!store_class_is_name(name)) {
		err = ERR_SYNTAX;
		words = "a class is named by up to 64 of a-z, 0-9, '-', '_', '.'";
	} else if ((err = claims_take(&c->claims, buf_view(&claim)))) {
		words = "another verb is changing this class";
	} else {
		err = store_class_find(admin->store, name, &c->arena, status_out);
		if (err || !status_out->has_record) {
			/* Accounts may name one that is not there. */
			uint64_t accounts = err ? 0 : status_out->accounts;

			*status_out = (struct store_class_status){
				.class = {.name = arena_copy(&c->arena, name)}, .accounts = accounts};
			err = must_exist ? ERR_NOT_FOUND : 0;
			words = "no such class";
		} else if (!must_exist) {
			err = ERR_EXISTS;
			words = "there is such a class already";
		}
	}
	buf_deinit(&claim);
	if (err) {
		control_fail(r, err, "%s", words);
		change_free(c);
		return NULL;
	}
	c->class = status_out->class;
	return c;
}

static void write_change(struct change *c)
{
	const struct store_work_call call = {
		.run = run, .done = done, .drop = change_free, .arg = c, .loop = c->admin->loop};

	(void)store_work_write(c->admin->work, 0, &call);
}

static void put(struct admin *admin, struct control_request *r, bool must_exist)
{
	struct store_class_status status;
	struct policy_options options;
	const char *why = "";
	struct change *c;

	if (policy_options_read(r, &options, &why)) {
		control_fail(r, ERR_SYNTAX, "%s", why);
		return;
	}
	c = begin(admin, r, must_exist, &status);
	if (!c)
		return;
	policy_options_apply(&options, &c->class.policy);
	write_change(c);
}

static void class_add(void *arg, struct control_request *r)
{
	put(arg, r, false);
}

static void class_set(void *arg, struct control_request *r)
{
	put(arg, r, true);
}

static void class_remove(void *arg, struct control_request *r)
{
	struct store_class_status status;
	struct change *c = begin(arg, r, true, &status);

	if (!c)
		return;
	if (status.accounts || status.domains) {
		control_fail(r, ERR_DENIED, "%llu accounts and %llu domains are of this class",
			(unsigned long long)status.accounts, (unsigned long long)status.domains);
		change_free(c);
		return;
	}
	c->is_removal = true;
	write_change(c);
}

static void show_fields(struct control_request *r, const struct store_class_status *s)
{
	control_add_slice(r, "class", s->class.name);
	control_add_int(r, "accounts", (int64_t)s->accounts);
	control_add_int(r, "domains", (int64_t)s->domains);
	policy_options_show(r, &s->class.policy);
}

static void class_show(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct store_class_status status;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	err = store_class_find(admin->store, slice_str(control_arg(r, 0)), &arena, &status);
	if (err || !status.has_record) {
		control_fail(r, ERR_NOT_FOUND, "no such class");
	} else {
		show_fields(r, &status);
		control_done(r);
	}
	arena_deinit(&arena);
}

static void class_list(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct store_class_status *list = NULL;
	struct arena arena;
	size_t count = 0, shown = 0;
	int err;

	arena_init(&arena, 0);
	err = store_class_list(admin->store, &arena, &list, &count);
	for (size_t i = 0; !err && i < count; i++) {
		if (!list[i].has_record)
			continue;
		control_row(r);
		show_fields(r, &list[i]);
		shown++;
	}
	arena_deinit(&arena);
	if (err) {
		control_fail(r, err, "%s", error_text(err));
		return;
	}
	control_result(r);
	control_add_int(r, "classes", (int64_t)shown);
	control_done(r);
}

static const struct control_verb verbs[] = {
	{"class add", "CLASS " POLICY_OPTIONS_USAGE, "Makes a class of accounts", class_add, 1, 1,
		POLICY_OPTIONS, 0},
	{"class set", "CLASS " POLICY_OPTIONS_USAGE, "Changes what is named, for all members at once",
		class_set, 1, 1, POLICY_OPTIONS, 0},
	{"class show", "CLASS", "What the class says, and its members", class_show, 1, 1, NULL, 0},
	{"class list", "", "All classes", class_list, 0, 0, NULL, 0},
	{"class remove", "CLASS", "Removes a class without members", class_remove, 1, 1, NULL, 0},
};

void classes_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
