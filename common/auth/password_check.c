/*
 * password_check_start(): one job on the hash workers, which owns copies of both texts and is freed when it comes
 * back. Nothing cancels it: who gives up tells his own fn to say nothing.
 */
#include <stdlib.h>

#include "common/auth/password.h"
#include "common/base/mem.h"
#include "common/base/secret.h"

struct password_check {
	struct work work;
	struct secret stored, password;
	int verdict;
	password_fn *fn;
	void *arg;
};

static void check_free(struct password_check *c)
{
	secret_deinit(&c->stored);
	secret_deinit(&c->password);
	free(c);
}

/* In a worker. */
static void check_run(void *job)
{
	struct password_check *c = job;

	c->verdict = password_verify(secret_view(&c->stored), secret_view(&c->password));
}

static void check_done(void *job, int error)
{
	struct password_check *c = job;
	password_fn *fn = c->fn;
	void *arg = c->arg;
	int verdict = error ? ERR_NOT_NOW : c->verdict;

	check_free(c);
	fn(arg, verdict);
}

int password_check_start(struct work_pool *pool, struct loop *loop, struct slice stored,
	struct slice password, password_fn *fn, void *arg)
{
	struct password_check *c = xcalloc(1, sizeof(*c));
	int error;

	c->work = (struct work){.run = check_run, .done = check_done, .job = c};
	c->fn = fn;
	c->arg = arg;
	secret_set(&c->stored, stored);
	/* Beyond the limit it fits nothing, whatever it is: no need to carry it. */
	secret_set(&c->password, slice_sub(password, 0, PASSWORD_MOST + 1));
	error = work_submit(pool, loop, &c->work);
	if (error) {
		check_free(c);
		return ERR_NOT_NOW;
	}
	return 0;
}
