/* Chains of maps on a loop: three values, credentials, files that change under the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/timer.h"
#include "mapping/usermap.h"

#define PBKDF2 "{PBKDF2-SHA256}1000$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs"
#define WORD "s3cret-Pa\xc3\x9f"

static const char *const backends[] = {"b1", "b2", "b3", NULL};

struct world {
	char dir[64];
	struct loop *loop;
	struct work_pool *pool;
	struct usermap_set *set;
	struct usermap_chain *chain;
	struct usermap_answer answer; /* the last that came later */
	unsigned answers;
	int reload_error;
	char reload_words[256];
	unsigned reloads;
};

static const char *path_of(const struct world *w, const char *name)
{
	static char path[4][160];
	static unsigned n;
	char *p = path[n++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", w->dir, name);
	return p;
}

/* age_s: how long ago it was written, as its mtime says. */
static void put(const struct world *w, const char *name, const char *text, mode_t mode, int age_s)
{
	const char *path = path_of(w, name), *temp = path_of(w, "temp");
	FILE *f = fopen(temp, "w");
	struct timeval t[2];

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	gettimeofday(&t[0], NULL);
	t[0].tv_sec -= age_s;
	t[1] = t[0];
	assert_int_equal(utimes(temp, t), 0);
	assert_int_equal(chmod(temp, mode), 0);
	assert_int_equal(rename(temp, path), 0);
}

static void world_begin(struct world *w)
{
	*w = (struct world){.reload_error = 1};
	snprintf(w->dir, sizeof(w->dir), "/tmp/mailtier-map-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(work_pool_new("test-hash", 2, 100, &w->pool), 0);
}

/* A set of maps "m1", "m2" … of files of the same names, and a chain of all. */
static void world_open(struct world *w, unsigned count, const char *const *domains_of_first)
{
	static const char *const names[] = {"m1", "m2", "m3"};
	struct usermap_options o[3];
	const char *chain[4] = {0};
	struct usermap_config c = {.maps = o,
		.count = count,
		.backends = backends,
		.credential_lifetime_ms = 60000,
		.credential_entries = 1000};
	struct buf why = {0};
	char *files[3];

	for (unsigned i = 0; i < count; i++) {
		files[i] = xstrdup(path_of(w, names[i]));
		o[i] = (struct usermap_options){.name = names[i],
			.file = files[i],
			.max_shrink = 20,
			.domains = i == 0 ? domains_of_first : NULL};
		chain[i] = names[i];
	}
	assert_int_equal(usermap_set_open(&c, w->loop, w->pool, &why, &w->set), 0);
	assert_int_equal(usermap_chain_new(w->set, chain, &w->chain), 0);
	for (unsigned i = 0; i < count; i++)
		free(files[i]);
	buf_deinit(&why);
}

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

static void world_end(struct world *w)
{
	char command[100];

	usermap_chain_unref(&w->chain);
	usermap_set_close(&w->set);
	work_pool_free(&w->pool);
	run_for(w, 1);
	loop_free(&w->loop);
	snprintf(command, sizeof(command), "rm -rf '%s'", w->dir);
	assert_int_equal(system(command), 0);
}

static void on_answer(void *arg, const struct usermap_answer *answer)
{
	struct world *w = arg;

	w->answer = *answer;
	w->answers++;
	loop_stop(w->loop);
}

/* Asks, and waits for the answer; password NULL: not to be checked. */
static struct usermap_answer ask(struct world *w, const char *name, const char *password)
{
	struct usermap_question q = {.service = SLICE_LIT("imap"),
		.name = slice_str(name),
		.shown = password ? USERMAP_SHOWN_PASSWORD : USERMAP_SHOWN_NONE,
		.password = slice_str(password)};
	struct usermap_request *r;
	struct usermap_answer a;

	if (usermap_lookup(w->chain, &q, w->loop, on_answer, w, &a, &r)) {
		assert_null(r);
		return a;
	}
	loop_run(w->loop);
	return w->answer;
}

static void on_reload(void *arg, const char *name, int error, const char *words)
{
	struct world *w = arg;

	(void)name;
	w->reload_error = error;
	snprintf(w->reload_words, sizeof(w->reload_words), "%s", words);
	w->reloads++;
	loop_stop(w->loop);
}

static int reload(struct world *w, bool force)
{
	unsigned before = w->reloads;
	uint64_t until = clock_mono_ms() + 10000;

	assert_int_equal(usermap_set_reload(w->set, "m1", force, on_reload, w), 0);
	while (w->reloads == before && clock_mono_ms() < until)
		loop_run(w->loop);
	return w->reload_error;
}

/* Runs the loop until the map's loads and failures together are n. */
static struct usermap_status status_after(struct world *w, uint64_t n)
{
	uint64_t until = clock_mono_ms() + 10000;
	struct usermap_status s;

	usermap_set_status(w->set, 0, &s);
	while (s.loads + s.failures < n && clock_mono_ms() < until) {
		run_for(w, 20);
		usermap_set_status(w->set, 0, &s);
	}
	assert_int_equal(s.loads + s.failures, n);
	return s;
}

static void test_a_chain_answers_in_three_values(void **state)
{
	static const struct {
		const char *name, *password;
		enum usermap_verdict want;
		const char *account, *map;
		bool checked;
	} rows[] = {
		{"alice@a.b", NULL, USERMAP_YES, "alice@a.b", "m1", false},
		{"alice@a.b", "right", USERMAP_YES, "alice@a.b", "m1", true},
		{"alice@a.b", "wrong", USERMAP_WRONG_CREDENTIAL, NULL, NULL,
			false}, /* m2 has "wrong": it is not asked */
		{"slow@a.b", WORD, USERMAP_YES, "slow@a.b", "m1", true},
		{"slow@a.b", "wrong", USERMAP_WRONG_CREDENTIAL, NULL, NULL, false},
		{"slow@a.b", "", USERMAP_WRONG_CREDENTIAL, NULL, NULL, false},
		{"second@a.b", "right", USERMAP_YES, "second@a.b", "m2", true},
		/* the first routes, the second authenticates */
		{"routed@a.b", NULL, USERMAP_YES, "other@a.b", "m1", false},
		{"routed@a.b", "right", USERMAP_YES, "other@a.b", "m1", true},
		{"routed@a.b", "wrong", USERMAP_WRONG_CREDENTIAL, NULL, NULL, false},
		/* known, and nobody can check it */
		{"nopass@a.b", NULL, USERMAP_YES, "nopass@a.b", "m1", false},
		{"nopass@a.b", "any", USERMAP_WRONG_CREDENTIAL, NULL, NULL, false},
		{"nobody@a.b", NULL, USERMAP_NO_SUCH_USER, NULL, NULL, false},
		{"nobody@a.b", "any", USERMAP_NO_SUCH_USER, NULL, NULL, false},
	};
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1",
		"alice@a.b b1 password={PLAIN}right\nslow@a.b b2 password=" PBKDF2 "\n"
		"routed@a.b b1 account=other@a.b\nnopass@a.b b1\n",
		0600, 10);
	put(&w, "m2",
		"second@a.b b2 password={PLAIN}right\nrouted@a.b b3 password={PLAIN}right\n"
		"alice@a.b b1 password={PLAIN}wrong\n",
		0600, 10);
	world_open(&w, 2, NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct usermap_answer a = ask(&w, rows[i].name, rows[i].password);

		if (a.verdict != rows[i].want)
			fail_msg("%s %s: got %d", rows[i].name, rows[i].password, a.verdict);
		if (a.verdict != USERMAP_YES)
			continue;
		assert_string_equal(a.account, rows[i].account);
		assert_string_equal(a.map, rows[i].map);
		assert_int_equal(a.checked, rows[i].checked);
	}
	world_end(&w);
}

/* A map that is not there answers not now for its domains, and other domains feel nothing. */
/* For challenges: what is stored, of the first map that has something; and names that were proven. */
static void test_fetched_and_proven(void **state)
{
	static const struct {
		const char *name;
		enum usermap_verdict want;
		const char *stored;
	} rows[] = {
		{"alice@a.b", USERMAP_YES, "{PLAIN}right"},
		{"slow@a.b", USERMAP_YES, PBKDF2},
		{"routed@a.b", USERMAP_YES, "{PLAIN}second"},
		{"nopass@a.b", USERMAP_YES, NULL},
		{"nobody@a.b", USERMAP_NO_SUCH_USER, NULL},
	};
	struct secret stored = {0};
	struct usermap_request *r;
	struct usermap_answer a;
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1",
		"alice@a.b b1 password={PLAIN}right\nslow@a.b b2 password=" PBKDF2
		"\nrouted@a.b b1 account=other@a.b\nnopass@a.b b1\n",
		0600, 10);
	put(&w, "m2", "routed@a.b b3 password={PLAIN}second\nalice@a.b b1 password={PLAIN}wrong\n", 0600, 10);
	world_open(&w, 2, NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct usermap_question q = {.service = SLICE_LIT("imap"),
			.name = slice_str(rows[i].name),
			.shown = USERMAP_SHOWN_FETCH,
			.stored_out = &stored};

		secret_set(&stored, SLICE_LIT("of before"));
		assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 1);
		assert_int_equal(a.verdict, rows[i].want);
		assert_false(a.checked);
		assert_int_equal(stored.len, rows[i].stored ? strlen(rows[i].stored) + 1 : 0);
		if (rows[i].stored)
			assert_string_equal(stored.data, rows[i].stored);
		q.shown = USERMAP_SHOWN_PROVEN;
		q.stored_out = NULL;
		assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 1);
		assert_int_equal(a.verdict, rows[i].want);
		assert_int_equal(a.checked, rows[i].want == USERMAP_YES);
	}
	secret_deinit(&stored);
	world_end(&w);
}

static void test_a_map_without_a_generation_is_not_now(void **state)
{
	static const char *const domains[] = {"Down.Example", NULL};
	struct usermap_status s;
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m2", "* b1\n", 0644, 10);
	world_open(&w, 2, domains);
	assert_int_equal(ask(&w, "a@down.example", NULL).verdict, USERMAP_NOT_NOW);
	assert_int_equal(ask(&w, "a@down.example", "x").verdict, USERMAP_NOT_NOW);
	assert_int_equal(ask(&w, "a@up.example", NULL).verdict, USERMAP_YES);
	assert_int_equal(ask(&w, "bare", NULL).verdict, USERMAP_YES);
	usermap_set_status(w.set, 0, &s);
	assert_false(s.usable);
	assert_int_equal(s.failures, 1);
	assert_non_null(strstr(s.error, "m1: cannot be read: No such file"));
	/* It comes, and is taken. */
	put(&w, "m1", "a@down.example b3\n", 0644, 0);
	s = status_after(&w, 2);
	assert_true(s.usable);
	assert_string_equal(s.error, "");
	assert_string_equal(ask(&w, "a@down.example", NULL).targets[0].name, "b3");
	world_end(&w);
}

static void test_a_remembered_credential_answers_at_once(void **state)
{
	struct usermap_question q = {.service = SLICE_LIT("imap"),
		.name = SLICE_LIT("slow@a.b"),
		.shown = USERMAP_SHOWN_PASSWORD,
		.password = slice_str(WORD)};
	struct usermap_request *r = NULL;
	struct usermap_answer a;
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "slow@a.b b2 password=" PBKDF2 "\n", 0600, 10);
	world_open(&w, 1, NULL);
	/* Later, and cancelled: no answer comes. */
	assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 0);
	usermap_cancel(&r);
	assert_null(r);
	run_for(&w, 100);
	assert_int_equal(w.answers, 0);
	/* What the workers found out was remembered all the same. */
	assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 1);
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_true(a.checked);
	/* Not for another service, nor after a flush. */
	q.service = SLICE_LIT("pop3");
	assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 0);
	loop_run(w.loop);
	usermap_set_flush(w.set, slice_of(NULL, 0));
	assert_int_equal(usermap_lookup(w.chain, &q, w.loop, on_answer, &w, &a, &r), 0);
	loop_run(w.loop);
	assert_int_equal(w.answer.verdict, USERMAP_YES);
	world_end(&w);
}

/* A new password is in force with its generation, whatever is remembered of the old one. */
static void security_07_a_changed_password_is_not_remembered(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "slow@a.b b2 password=" PBKDF2 "\n", 0600, 10);
	world_open(&w, 1, NULL);
	assert_int_equal(ask(&w, "slow@a.b", WORD).verdict, USERMAP_YES);
	put(&w, "m1",
		"slow@a.b b2 password={PBKDF2-SHA1}1000$..9zYWx0c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
		0600, 10);
	assert_int_equal(reload(&w, false), 0);
	assert_int_equal(ask(&w, "slow@a.b", WORD).verdict, USERMAP_WRONG_CREDENTIAL);
	put(&w, "m1", "other@a.b b2\n", 0600, 10);
	assert_int_equal(reload(&w, true), 0);
	assert_int_equal(ask(&w, "slow@a.b", WORD).verdict, USERMAP_NO_SUCH_USER);
	world_end(&w);
}

/* Renamed into place, it is taken after it stood still; everything that is wrong leaves the last good one in
 * force. */
static void test_a_file_that_changes(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		bool force;
		int want;
		const char *words, *backend; /* backend: of alice afterwards */
	} rows[] = {
		{"alice b2\nu2 b1\nu3 b1\nu4 b1\nu5 b1\n", 0600, false, 0, "5 entries, generation ", "b2"},
		{"alice b3\nu2 b9\nu3 b1\nu4 b1\nu5 b1\n", 0600, false, ERR_SYNTAX,
			"m1:2: \"b9\" is no back-end", "b2"},
		{"alice b3\n", 0600, false, ERR_DENIED, "1 entries instead of 5: more than max-shrink (20 %)",
			"b2"},
		{"alice b3\n", 0600, true, 0, "1 entries", "b3"},
	};
	struct usermap_status s;
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "alice b1\nu2 b1\nu3 b1\nu4 b1\nu5 b1\n", 0600, 10);
	world_open(&w, 1, NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		put(&w, "m1", rows[i].text, rows[i].mode, 10);
		if (reload(&w, rows[i].force) != rows[i].want || !strstr(w.reload_words, rows[i].words))
			fail_msg("row %zu: got %d %s", i, w.reload_error, w.reload_words);
		assert_string_equal(ask(&w, "alice", NULL).targets[0].name, rows[i].backend);
	}
	usermap_set_status(w.set, 0, &s);
	assert_int_equal(s.loads, 3);
	assert_int_equal(s.failures, 2);
	assert_int_equal(usermap_set_reload(w.set, "nosuch", false, on_reload, &w), ERR_NOT_FOUND);
	world_end(&w);
}

/* Written slowly in place: not read before it has stood still, by itself, without anybody asking. */
static void test_a_file_that_is_written_slowly(void **state)
{
	struct usermap_status s;
	struct world w;
	FILE *f;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "alice b1\n", 0600, 10);
	world_open(&w, 1, NULL);
	f = fopen(path_of(&w, "m1"), "w");
	assert_non_null(f);
	for (unsigned i = 0; i < 5; i++) {
		fputs(i == 0 ? "alice b2\n" : i == 4 ? "last b1\n" : "# more\n", f);
		fflush(f);
		run_for(&w, 350);
		assert_string_equal(ask(&w, "alice", NULL).targets[0].name, "b1");
	}
	fclose(f);
	usermap_set_status(w.set, 0, &s);
	assert_int_equal(s.loads, 1);
	assert_int_equal(s.failures, 0);
	s = status_after(&w, 2);
	assert_int_equal(s.entries, 2);
	assert_string_equal(ask(&w, "alice", NULL).targets[0].name, "b2");
	/* Removed: the last good one stays. */
	assert_int_equal(unlink(path_of(&w, "m1")), 0);
	s = status_after(&w, 3);
	assert_int_equal(s.failures, 1);
	assert_string_equal(ask(&w, "alice", NULL).targets[0].name, "b2");
	world_end(&w);
}

/* ---- readers on other threads while generations change ---- */

struct reader {
	struct world *w;
	_Atomic bool *stop;
	pthread_t thread;
	uint64_t asked, bad;
};

static void on_never(void *arg, const struct usermap_answer *answer)
{
	(void)arg;
	(void)answer;
}

static void *reader_run(void *arg)
{
	struct reader *r = arg;
	struct usermap_question q = {.service = SLICE_LIT("smtp"), .name = SLICE_LIT("alice")};

	while (!*r->stop) {
		struct usermap_request *request;
		struct usermap_answer a;

		if (!usermap_lookup(r->w->chain, &q, NULL, on_never, NULL, &a, &request) ||
			a.verdict != USERMAP_YES ||
			(strcmp(a.targets[0].name, "b1") && strcmp(a.targets[0].name, "b2")) ||
			a.line != (a.targets[0].name[1] == '1' ? 1 : 2))
			r->bad++;
		r->asked++;
	}
	return NULL;
}

static void test_readers_see_whole_generations(void **state)
{
	_Atomic bool stop = false;
	struct reader readers[3];
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "alice b1\nbob b2\n", 0600, 10);
	world_open(&w, 1, NULL);
	for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
		readers[i] = (struct reader){.w = &w, .stop = &stop};
		assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		put(&w, "m1",
			i & 1   ? "alice b1\nbob b2\n"
			: i % 4 ? "bob b2\nalice\n"
				: "bob b1\nalice b2\n",
			0600, 10);
		(void)!reload(&w, false);
	}
	stop = true;
	for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].bad, 0);
		assert_true(readers[i].asked > 0);
	}
	world_end(&w);
}

/* ---- reconfiguring, explaining, checking ---- */

static void test_a_new_configuration(void **state)
{
	static const char *const fewer[] = {"b1", NULL};
	static const char *const names[] = {"m1", NULL};
	struct usermap_chain *after = NULL;
	struct usermap_options o[1];
	struct usermap_config c = {.maps = o, .count = 1, .backends = backends};
	struct usermap_status s;
	struct buf why = {0};
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "alice b1\nbob b2\n", 0600, 10);
	put(&w, "m2", "carol b1\n", 0600, 10);
	world_open(&w, 2, NULL);
	/* Fewer back-ends: the file is wrong now; what is in force stays, and the fault is told. */
	c.backends = fewer;
	o[0] = (struct usermap_options){.name = "m1", .file = path_of(&w, "m1"), .max_shrink = 20};
	assert_int_equal(usermap_set_reconfigure(w.set, &c, &why), 0);
	assert_int_equal(usermap_set_count(w.set), 1);
	assert_int_equal(usermap_chain_new(w.set, names, &after), 0);
	s = status_after(&w, 2);
	assert_int_equal(s.failures, 1);
	assert_non_null(strstr(s.error, "m1:2: \"b2\" is no back-end"));
	/* The chain that was made before still knows all. */
	assert_int_equal(ask(&w, "carol", NULL).verdict, USERMAP_YES);
	usermap_chain_unref(&w.chain);
	w.chain = after;
	assert_int_equal(ask(&w, "carol", NULL).verdict, USERMAP_NO_SUCH_USER);
	assert_string_equal(ask(&w, "bob", NULL).targets[0].name, "b2");
	world_end(&w);
	buf_deinit(&why);
}

static void on_step(void *arg, const struct usermap_step *step)
{
	buf_printf(arg, "%s/%s/%s/%u/%s;", step->map, step->rule, step->key, step->line,
		step->hit ? "yes" : "no");
}

static void test_explaining(void **state)
{
	static const char *const domains[] = {"a.b", NULL};
	struct usermap_answer a;
	struct buf steps = {0};
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "x@a.b b1\n/^y/ b1\n/^alice/ b2\n", 0600, 10);
	put(&w, "m2", "@c.d b3 account=all@c.d password={PLAIN}x\n", 0600, 10);
	world_open(&w, 2, domains);
	assert_int_equal(usermap_explain(w.chain, SLICE_LIT("imap"), SLICE_LIT("alice+n@a.b"), w.loop,
				 on_step, NULL, &steps, &a),
		1);
	assert_string_equal(buf_str_view(&steps),
		"m1/exact/alice+n@a.b/0/no;m1/without "
		"detail/alice@a.b/0/no;m1/domain/@a.b/0/no;m1/expression/^y/2/no;"
		"m1/expression/^alice/3/yes;m1/result/alice@a.b/3/yes;m1/credential//3/no;"
		"m2/exact/alice+n@a.b/0/no;m2/without "
		"detail/alice@a.b/0/no;m2/domain/@a.b/0/no;m2/result/alice+n@a.b/0/no;");
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_string_equal(a.targets[0].name, "b2");
	buf_clear(&steps);
	assert_int_equal(usermap_explain(w.chain, SLICE_LIT("imap"), SLICE_LIT("q@c.d"), w.loop, on_step,
				 NULL, &steps, &a),
		1);
	assert_string_equal(buf_str_view(&steps),
		"m1/domains/q@c.d/0/no;m2/exact/q@c.d/0/no;m2/domain/@c.d/1/yes;"
		"m2/result/all@c.d/1/yes;m2/credential//1/yes;");
	assert_string_equal(a.account, "all@c.d");
	buf_clear(&steps);
	assert_int_equal(usermap_explain(w.chain, SLICE_LIT("imap"), SLICE_LIT("q@e.f"), w.loop, on_step,
				 NULL, &steps, &a),
		1);
	assert_int_equal(a.verdict, USERMAP_NO_SUCH_USER);
	buf_deinit(&steps);
	world_end(&w);
}

static void test_checking_without_loading(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w);
	put(&w, "m1", "alice b1\n", 0600, 10);
	put(&w, "next", "alice 10.0.0.1:143\n# end 1\n", 0600, 0);
	put(&w, "bad", "alice b1\nalice b2\n", 0600, 0);
	world_open(&w, 1, NULL);
	assert_int_equal(usermap_set_check(w.set, NULL, path_of(&w, "next"), on_reload, &w), 0);
	loop_run(w.loop);
	assert_int_equal(w.reload_error, 0);
	assert_non_null(strstr(w.reload_words, "1 entries, generation "));
	assert_int_equal(usermap_set_check(w.set, "m1", path_of(&w, "next"), on_reload, &w), 0);
	loop_run(w.loop);
	assert_int_equal(w.reload_error, ERR_SYNTAX);
	assert_non_null(strstr(w.reload_words, "next:1: \"10.0.0.1:143\": a port is refused"));
	assert_int_equal(usermap_set_check(w.set, NULL, path_of(&w, "bad"), on_reload, &w), 0);
	loop_run(w.loop);
	assert_non_null(strstr(w.reload_words, "bad:2: alice stands on line 1 already"));
	assert_int_equal(
		usermap_set_check(w.set, "nosuch", path_of(&w, "bad"), on_reload, &w), ERR_NOT_FOUND);
	assert_string_equal(ask(&w, "alice", NULL).targets[0].name, "b1");
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_chain_answers_in_three_values),
		cmocka_unit_test(test_fetched_and_proven),
		cmocka_unit_test(test_a_map_without_a_generation_is_not_now),
		cmocka_unit_test(test_a_remembered_credential_answers_at_once),
		cmocka_unit_test(security_07_a_changed_password_is_not_remembered),
		cmocka_unit_test(test_a_file_that_changes),
		cmocka_unit_test(test_a_file_that_is_written_slowly),
		cmocka_unit_test(test_readers_see_whole_generations),
		cmocka_unit_test(test_a_new_configuration),
		cmocka_unit_test(test_explaining),
		cmocka_unit_test(test_checking_without_loading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
