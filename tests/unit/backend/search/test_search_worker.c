/* The indexer's thread: what there is when it starts, what comes, rebuilding, and its end amid work. */
#include "tests/unit/backend/store/temp_store.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

#include "backend/search/search_build.h"
#include "backend/search/search_check.h"
#include "backend/search/search_worker.h"
#include "common/base/log.h"

struct fixture {
	struct temp_store t;
	struct store_work *work;
	struct search_worker *worker;
};

static const struct search_worker_options all_of_it = {.share = 100};

static int start(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct store_options o = {.slots = 1, .map_size = 256 << 20, .has_text_index = true};

	log_set_level(LOG_ERROR);
	temp_start(&f->t);
	store_close(&f->t.store);
	o.dir = f->t.dir;
	assert_int_equal(store_open(&o, &f->t.store, NULL), 0);
	assert_int_equal(store_work_start(f->t.store, &(struct store_work_options){0}, &f->work), 0);
	*state = f;
	return 0;
}

static int stop(void **state)
{
	struct fixture *f = *state;

	search_worker_stop(&f->worker);
	store_work_stop(&f->work);
	temp_end(&f->t);
	free(f);
	return 0;
}

static void fill(struct fixture *f, unsigned count)
{
	char mail[6000];
	struct store_appended added;

	for (unsigned i = 0; i < count; i++) {
		int head = snprintf(mail, sizeof(mail), "Subject: number %u\r\n\r\n", i);

		for (int at = head; at < (int)sizeof(mail) - 1; at++)
			mail[at] = (char)('a' + (unsigned)at * (i + 3) % 23);
		mail[sizeof(mail) - 1] = '\0';
		assert_int_equal(temp_append(&f->t, f->t.account, f->t.inbox, slice_str(mail), 0, &added), 0);
	}
}

static uint32_t covered(struct fixture *f)
{
	struct search_build_status s;

	assert_int_equal(search_build_status(f->t.store, 0, f->t.account, f->t.inbox, &s), 0);
	return s.covered;
}

static void wait_until_covered(struct fixture *f, uint32_t least)
{
	for (int i = 0; i < 20000 && (covered(f) < least || !search_worker_is_idle(f->worker)); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_true(covered(f) >= least);
}

/* Copies all of INBOX to itself, by the writer: so it tells of it. */
static int copy_all(struct store_txn *txn, void *arg)
{
	struct fixture *f = arg;
	uint32_t uids[300];
	size_t count = temp_all(&f->t, txn, uids, ARRAY_LEN(uids));

	return store_message_copy(txn, f->t.account, f->t.inbox, uids, count, f->t.inbox, false, NULL);
}

static void on_done(void *arg, int err)
{
	(void)arg;
	assert_int_equal(err, 0);
}

static void test_it_follows(void **state)
{
	struct fixture *f = *state;
	const struct store_work_call call = {.run = copy_all, .done = on_done, .arg = f};
	struct search_worker_stat stat;

	fill(f, 200);
	assert_int_equal(search_worker_start(f->work, &all_of_it, &f->worker), 0);
	wait_until_covered(f, 200);
	(void)store_work_write(f->work, 0, &call);
	wait_until_covered(f, 400);
	search_worker_stat(f->worker, &stat);
	assert_int_equal(stat.indexed, 400);
	assert_int_equal(stat.failed + stat.left_out + stat.waiting + stat.is_full, 0);
	search_worker_rebuild(f->worker, 0, f->t.account);
	for (int i = 0; i < 20000 && stat.indexed < 800; i++) {
		search_worker_stat(f->worker, &stat);
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	search_worker_rebuild(f->worker, 0, 0); /* of all */
	for (int i = 0; i < 20000 && stat.indexed < 1200; i++) {
		search_worker_stat(f->worker, &stat);
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	wait_until_covered(f, 400);
	assert_int_equal(stat.indexed, 1200);
}

/* Threads of this program that let others go first by so much more than this one. */
static unsigned count_nice(long by)
{
	long own = getpriority(PRIO_PROCESS, 0);
	DIR *dir = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.' &&
			 getpriority(PRIO_PROCESS, (id_t)strtoul(e->d_name, NULL, 10)) == own + by;
	closedir(dir);
	return count;
}

static void test_others_go_first(void **state)
{
	struct fixture *f = *state;

	if (getpriority(PRIO_PROCESS, 0) > 0) /* there is no room for ten more */
		skip();
	fill(f, 1);
	assert_int_equal(search_worker_start(f->work, &all_of_it, &f->worker), 0);
	for (int i = 0; i < 20000 && count_nice(10) == 0; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(count_nice(10), 1);
}

static void test_it_ends_amid_its_work(void **state)
{
	static const struct search_worker_options little = {.share = 1};
	struct fixture *f = *state;

	fill(f, 300);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(search_worker_start(f->work, i % 2 ? &all_of_it : &little, &f->worker), 0);
		search_worker_rebuild(f->worker, 0, 0);
		nanosleep(&(struct timespec){0, i * 1000000L}, NULL);
		search_worker_stop(&f->worker);
	}
	assert_int_equal(search_worker_start(f->work, &all_of_it, &f->worker), 0);
	wait_until_covered(f, 300);
}

struct checker {
	struct fixture *f;
	atomic_bool is_over;
	unsigned rounds, failed;
	struct search_check found;
};

static void say(void *arg, const char *text)
{
	(void)arg;
	print_error("%s\n", text);
}

static void *check_often(void *arg)
{
	struct checker *c = arg;
	struct fixture *f = c->f;

	for (; !atomic_load(&c->is_over); c->rounds++)
		c->failed += search_check_account(f->t.store, 0, f->t.account, say, NULL, &c->found) != 0;
	return NULL;
}

/* A mailbox that searches found damaged is made anew, beside checks, which find nothing wrong meanwhile. */
static void test_it_heals_beside_checks(void **state)
{
	struct fixture *f = *state;
	struct checker c = {.f = f};
	struct search_worker_stat stat = {0};
	pthread_t thread;

	fill(f, 150);
	assert_int_equal(search_worker_start(f->work, &all_of_it, &f->worker), 0);
	wait_until_covered(f, 150);
	assert_int_equal(pthread_create(&thread, NULL, check_often, &c), 0);
	for (unsigned i = 1; i <= 5; i++) {
		assert_true(store_text_mark_damaged(f->t.store, 0, f->t.inbox));
		search_worker_rebuild(f->worker, 0, f->t.account + 99); /* wakes it */
		for (int n = 0; n < 20000 && stat.indexed < 150 * (i + 1); n++) {
			search_worker_stat(f->worker, &stat);
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		}
		assert_int_equal(stat.indexed, 150 * (i + 1));
	}
	wait_until_covered(f, 150);
	atomic_store(&c.is_over, true);
	pthread_join(thread, NULL);
	assert_true(c.rounds > 0 && c.found.messages > 0);
	assert_int_equal(c.failed + c.found.errors, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_follows, start, stop),
		cmocka_unit_test_setup_teardown(test_others_go_first, start, stop),
		cmocka_unit_test_setup_teardown(test_it_ends_amid_its_work, start, stop),
		cmocka_unit_test_setup_teardown(test_it_heals_beside_checks, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
