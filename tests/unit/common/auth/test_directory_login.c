/* Users in a real slapd, without maps: as the back-end asks. What maps make of it: tests/unit/mapping/test_map_ldap.c.
 * Skipped without slapd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/auth/directory_login.h"
#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/timer.h"
#include "tests/unit/slapd.h"

#define WAIT_MS 15000

static struct slapd slapd;

struct world {
	struct loop *loop;
	struct work_pool *pool;
	struct directory_set *set;
	struct credential_cache *credentials;
	struct directory_login *login;
	struct directory_login_answer answer;
	char stored[200];
	bool is_answered;
};

static void on_stop(void *arg)
{
	loop_stop(arg);
}

static void run_for(struct world *w, unsigned ms)
{
	struct timer t;

	timer_init(&t, on_stop, w->loop);
	timer_set(&t, w->loop, ms);
	loop_run(w->loop);
	timer_stop(&t);
}

static void login_open(struct world *w, bool by_bind)
{
	static char uri[60];
	static const char *uris[2] = {uri, NULL};
	struct directory_connector c = {.directory = {.name = "corp",
						.uris = uris,
						.client = {.verify = true,
							.bind = LDAP_CLIENT_SIMPLE,
							.bind_dn = SLAPD_READER,
							.password = SLICE_LIT(SLAPD_READER_PASSWORD)},
						.timeout_ms = 2000,
						.connect_timeout_ms = 2000,
						.health_ms = 500,
						.connections = 1,
						.bind_connections = 1,
						.in_flight = 10},
		.base = SLAPD_BASE,
		.filter = "mail=%e",
		.address_filter = "mail=%e",
		.password_attribute = "userPassword"};
	struct directory_plan *plan = NULL;
	struct directory_login_options o = {.kind = "test",
		.name = "corp",
		.by_bind = by_bind,
		.positive_ms = 60000,
		.negative_ms = 10000,
		.stale_ms = 60000,
		.cache_entries = 1000,
		.home = w->loop,
		.credentials = w->credentials,
		.hash_pool = w->pool};

	snprintf(uri, sizeof(uri), "ldap://127.0.0.1:%d", slapd.port);
	assert_int_equal(directory_set_plan(w->set, &c, 1, &plan), 0);
	directory_set_use(w->set, &plan);
	o.connector = directory_set_find(w->set, "corp");
	assert_non_null(o.connector);
	assert_null(directory_set_find(w->set, "other"));
	w->login = directory_login_new(&o);
}

static int begin(void **state)
{
	struct world *w;

	if (!slapd_is_there())
		return 0;
	w = xcalloc(1, sizeof(*w));
	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(work_pool_new("test-hash", 1, 100, &w->pool), 0);
	w->set = directory_set_new(w->loop);
	w->credentials = credential_cache_new(60000, 1000);
	*state = w;
	return 0;
}

static int end(void **state)
{
	struct world *w = *state;

	if (!w)
		return 0;
	directory_login_end(w->login);
	directory_login_unref(&w->login);
	directory_set_free(&w->set);
	run_for(w, 20);
	work_pool_free(&w->pool);
	run_for(w, 20);
	credential_cache_free(&w->credentials);
	loop_free(&w->loop);
	free(w);
	return 0;
}

static void keep(struct world *w, const struct directory_login_answer *a)
{
	w->answer = *a;
	w->is_answered = true;
	snprintf(w->stored, sizeof(w->stored), "%.*s", SLICE_ARG(a->stored[0]));
}

static void on_answer(void *arg, const struct directory_login_answer *a)
{
	struct world *w = arg;

	keep(w, a);
	loop_stop(w->loop);
}

static enum directory_login_verdict ask(
	struct world *w, enum directory_login_want want, const char *name, const char *password)
{
	const struct directory_login_question q = {.want = want,
		.service = SLICE_LIT("imap"),
		.name = slice_str(name),
		.password = slice_str(password)};
	struct directory_login_answer a = {0};
	struct directory_login_request *r = NULL;

	w->is_answered = false;
	if (directory_login_ask(w->login, &q, w->loop, on_answer, w, &a, &r))
		keep(w, &a);
	for (uint64_t until = clock_mono_ms() + WAIT_MS; !w->is_answered;) {
		run_for(w, 100);
		assert_true(clock_mono_ms() < until);
	}
	return w->answer.verdict;
}

static struct world *world_of(void **state)
{
	if (!*state) {
		print_message("slapd is not installed\n");
		skip();
	}
	return *state;
}

static void test_stored_passwords_are_given_and_not_kept(void **state)
{
	struct world *w = world_of(state);

	login_open(w, false);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(
			ask(w, DIRECTORY_LOGIN_FETCH, "alice@corp.example", ""), DIRECTORY_LOGIN_HIT);
		assert_false(w->answer.is_cached);
		assert_int_equal(w->answer.stored_count, 1);
		assert_string_equal(w->stored, "{PLAIN}alice-Pw");
		assert_true(w->answer.entry.can_check);
		assert_false(w->answer.entry.is_checked);
	}
	assert_int_equal(directory_login_count(w->login), 0);
	assert_int_equal(ask(w, DIRECTORY_LOGIN_FETCH, "bob@corp.example", ""), DIRECTORY_LOGIN_HIT);
	assert_memory_equal(w->stored, "{SSHA}", 6);
	assert_int_equal(ask(w, DIRECTORY_LOGIN_FETCH, "nopass@corp.example", ""), DIRECTORY_LOGIN_HIT);
	assert_int_equal(w->answer.stored_count, 0);
	assert_false(w->answer.entry.can_check);
	assert_int_equal(ask(w, DIRECTORY_LOGIN_FETCH, "nobody@corp.example", ""), DIRECTORY_LOGIN_NONE);
	assert_int_equal(ask(w, DIRECTORY_LOGIN_FETCH, "twin@corp.example", ""), DIRECTORY_LOGIN_NOT_NOW);
}

static void test_a_bind_gives_no_stored_password(void **state)
{
	struct world *w = world_of(state);

	login_open(w, true);
	assert_int_equal(ask(w, DIRECTORY_LOGIN_FETCH, "alice@corp.example", ""), DIRECTORY_LOGIN_HIT);
	assert_int_equal(w->answer.stored_count, 0);
	assert_false(w->answer.entry.can_check);
}

static void test_users_log_in(void **state)
{
	static const struct {
		enum directory_login_want want;
		const char *name, *password;
		enum directory_login_verdict verdict;
	} rows[] = {
		{DIRECTORY_LOGIN_CHECK, "alice@corp.example", "alice-Pw", DIRECTORY_LOGIN_HIT},
		{DIRECTORY_LOGIN_CHECK, "alice@corp.example", "wrong", DIRECTORY_LOGIN_WRONG},
		{DIRECTORY_LOGIN_CHECK, "alice@corp.example", "", DIRECTORY_LOGIN_WRONG},
		{DIRECTORY_LOGIN_USER, "alice@corp.example", "", DIRECTORY_LOGIN_HIT},
		{DIRECTORY_LOGIN_USER, "nobody@corp.example", "", DIRECTORY_LOGIN_NONE},
	};
	struct world *w = world_of(state);

	for (unsigned by_bind = 0; by_bind < 2; by_bind++) {
		if (w->login) {
			directory_login_end(w->login);
			directory_login_unref(&w->login);
		}
		login_open(w, by_bind);
		for (unsigned round = 0; round < 2; round++) {
			for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
				assert_int_equal(ask(w, rows[i].want, rows[i].name, rows[i].password),
					rows[i].verdict);
				assert_int_equal(w->answer.is_cached, round);
				assert_int_equal(w->answer.entry.is_checked,
					rows[i].want == DIRECTORY_LOGIN_CHECK &&
						rows[i].verdict == DIRECTORY_LOGIN_HIT);
			}
		}
	}
}

static int start(void **state)
{
	(void)state;
	if (slapd_is_there() && !slapd_new(&slapd)) {
		print_error("slapd does not start\n");
		return -1;
	}
	return 0;
}

static int stop(void **state)
{
	(void)state;
	if (slapd_is_there())
		slapd_free(&slapd);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stored_passwords_are_given_and_not_kept, begin, end),
		cmocka_unit_test_setup_teardown(test_a_bind_gives_no_stored_password, begin, end),
		cmocka_unit_test_setup_teardown(test_users_log_in, begin, end),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
