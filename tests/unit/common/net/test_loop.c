/* Loops, posts between threads, groups, watches, signals, workers, listeners on several loops. Run under tsan
 * too. */
#include "tests/unit/common/net/net_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/net/dial.h"
#include "common/net/listener.h"
#include "common/net/work.h"

static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

/* ---- posts ---- */

#define POSTERS 4
#define POSTS 2000

struct post {
	unsigned poster, number;
};

static struct post posts[POSTERS][POSTS];
static unsigned next_of[POSTERS], posts_seen;

static void on_post(void *arg)
{
	struct post *post = arg;

	assert_ptr_equal(loop_current(), loop);
	assert_int_equal(post->number, next_of[post->poster]++);
	if (++posts_seen == POSTERS * POSTS)
		loop_stop(loop);
}

static void *poster_thread(void *arg)
{
	struct post *mine = arg;

	for (unsigned i = 0; i < POSTS; i++)
		loop_post(loop, on_post, &mine[i]);
	return NULL;
}

static void test_posts_arrive_in_the_order_of_each_thread(void **state)
{
	pthread_t threads[POSTERS];

	(void)state;
	for (unsigned i = 0; i < POSTERS; i++) {
		for (unsigned k = 0; k < POSTS; k++)
			posts[i][k] = (struct post){i, k};
		pthread_create(&threads[i], NULL, poster_thread, posts[i]);
	}
	loop_run(loop);
	assert_int_equal(posts_seen, POSTERS * POSTS);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_null(loop_current());
}

/* ---- the turn's end ---- */

static char order[16];

static void on_second(void *arg)
{
	strcat(order, "d");
	assert_int_equal(*(int *)arg, 42); /* freed later than this */
	loop_stop(loop);
}

static void on_first(void *arg)
{
	int *p = xmalloc(sizeof(*p));

	(void)arg;
	*p = 42;
	loop_free_later(loop, p);
	loop_defer(loop, on_second, p);
	strcat(order, "p");
}

static void test_deferred_calls_run_after_the_callbacks(void **state)
{
	(void)state;
	loop_post(loop, on_first, NULL);
	loop_post(loop, on_first, NULL);
	loop_run(loop);
	assert_string_equal(order, "ppdd");
}

/* ---- descriptors and signals ---- */

struct watcher {
	struct loop_watch *watch;
	int fd, calls, ready;
};

static void on_ready(void *arg, int ready)
{
	struct watcher *w = arg;
	char byte;

	w->calls++;
	w->ready = ready;
	if (ready & LOOP_READABLE)
		(void)!read(w->fd, &byte, 1);
	else
		loop_watch_change(w->watch, LOOP_READABLE);
}

static void test_foreign_descriptors_are_watched(void **state)
{
	struct watcher w = {0};
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	w.fd = fds[0];
	assert_int_equal(loop_watch_start(loop, w.fd, LOOP_READABLE, on_ready, &w, &w.watch), 0);
	run_short(loop);
	assert_int_equal(w.calls, 0);
	assert_int_equal(write(fds[1], "xy", 2), 2);
	RUN_UNTIL(loop, w.calls == 2); /* again as long as there is something */
	assert_int_equal(w.ready, LOOP_READABLE);
	loop_watch_change(w.watch, LOOP_WRITABLE);
	RUN_UNTIL(loop, w.calls == 3);
	assert_int_equal(w.ready, LOOP_WRITABLE);
	loop_watch_stop(&w.watch);
	assert_null(w.watch);
	assert_int_equal(write(fds[1], "z", 1), 1);
	run_short(loop);
	assert_int_equal(w.calls, 3);
	close(fds[0]);
	close(fds[1]);
}

static void count_up(void *arg)
{
	++*(int *)arg;
}

static void test_signals_come_on_the_loop(void **state)
{
	int calls = 0;

	(void)state;
	assert_int_equal(loop_on_signal(loop, SIGUSR1, count_up, &calls), 0);
	raise(SIGUSR1);
	RUN_UNTIL(loop, calls == 1);
	raise(SIGUSR1);
	RUN_UNTIL(loop, calls == 2);
}

/* ---- groups ---- */

static atomic_uint group_seen;

static void on_group(void *arg)
{
	assert_ptr_equal(loop_current(), arg);
	atomic_fetch_add(&group_seen, 1u << (8 * loop_index(arg)));
}

static void wait_for(atomic_uint *value, unsigned want)
{
	for (int i = 0; atomic_load(value) != want && i < 5000; i++)
		usleep(1000);
	assert_int_equal(atomic_load(value), want);
}

static void test_a_group_runs_by_itself(void **state)
{
	struct loop_group *group;

	(void)state;
	group_seen = 0;
	assert_int_equal(loop_group_start(3, &group), 0);
	assert_int_equal(loop_group_count(group), 3);
	for (unsigned i = 0; i < 3; i++)
		loop_post(loop_group_at(group, i), on_group, loop_group_at(group, i));
	wait_for(&group_seen, 0x010101);
	loop_group_stop(&group);
	assert_null(group);
}

/* Connections that echo, accepted on two loops. */
static atomic_uint echoes_open, echoes_closed;

static void on_echo(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	if (event == CONN_DATA) {
		conn_write(conn, conn_input(conn));
		conn_consume(conn, conn_input(conn).len);
	} else if (event == CONN_EOF || event == CONN_FAILED) {
		conn_close(&conn);
		atomic_fetch_add(&echoes_closed, 1);
	}
}

static void on_accept(void *arg, struct conn *conn)
{
	assert_ptr_equal(arg, &echoes_open);
	assert_ptr_equal(conn_loop(conn), loop_current());
	conn_set_owner(conn, on_echo, NULL);
	atomic_fetch_add(&echoes_open, 1);
}

#define CLIENTS 40

static void test_listeners_share_an_address(void **state)
{
	struct listener_options options = {.name = "echo"};
	struct peer clients[CLIENTS] = {0};
	struct dial_options dialling = {.host = "127.0.0.1", .timeout_ms = 3000};
	struct loop_group *group;
	struct listener *listener;
	struct buf why = {0};
	unsigned done = 0;

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(loop_group_start(2, &group), 0);
	assert_int_equal(listener_open(group, &options, on_accept, &echoes_open, &why, &listener), 0);
	dialling.port = addr_port(listener_addr(listener));
	for (unsigned i = 0; i < CLIENTS; i++) {
		assert_int_equal(dial(loop, &dialling, peer_on_event, &clients[i], &clients[i].conn), 0);
		conn_write_str(clients[i].conn, "echo");
	}
	for (int round = 0; round < 300 && done < CLIENTS; round++) {
		run_short(loop);
		done = 0;
		for (unsigned i = 0; i < CLIENTS; i++)
			done += buf_len(&clients[i].got) == 4;
	}
	assert_int_equal(done, CLIENTS);
	assert_int_equal(listener_connections(listener), CLIENTS);
	listener_set_tls(listener, NULL);
	for (unsigned i = 0; i < CLIENTS; i++)
		peer_deinit(&clients[i]);
	run_short(loop);
	wait_for(&echoes_closed, CLIENTS);
	listener_close(&listener);
	loop_group_stop(&group);
	assert_int_equal(echoes_open, CLIENTS);
}

static void test_an_address_in_use_is_explained(void **state)
{
	struct listener_options options = {.name = "test"};
	struct listener *listener = NULL;
	struct buf why = {0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&options.addr.ss, options.addr.len), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&options.addr.ss, &options.addr.len);
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &listener), ERR_EXISTS);
	assert_non_null(strstr(buf_str_view(&why), "cannot bind: Address already in use"));
	buf_deinit(&why);
	close(fd);
}

/* SO_REUSEPORT is for the loops of one listener: a second program at the same address would get half of the clients. */
static void test_an_address_of_another_listener_is_refused(void **state)
{
	struct listener_options options = {.name = "first"};
	struct listener *first, *second = NULL;
	struct loop_group *group;
	struct buf why = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(loop_group_start(2, &group), 0);
	assert_int_equal(listener_open(group, &options, on_accept, NULL, &why, &first), 0);
	options.addr = *listener_addr(first);
	assert_int_equal(listener_open(group, &options, on_accept, NULL, &why, &second), ERR_EXISTS);
	assert_non_null(strstr(buf_str_view(&why), "cannot bind: Address already in use"));
	buf_deinit(&why);
	listener_close(&first);
	loop_group_stop(&group);
}

/* ---- workers ---- */

struct job {
	struct work work;
	atomic_bool *gate;
	int input, output, error;
	bool is_done;
};

static void job_run(void *arg)
{
	struct job *job = arg;

	while (job->gate && !atomic_load(job->gate))
		usleep(500);
	job->output = job->input * 2;
}

static void job_done(void *arg, int error)
{
	struct job *job = arg;

	assert_ptr_equal(loop_current(), loop);
	job->error = error;
	job->is_done = true;
}

#define JOBS 100

static void test_workers_answer_on_the_loop(void **state)
{
	static struct job jobs[JOBS];
	struct work_pool *pool;
	unsigned done = 0;

	(void)state;
	assert_int_equal(work_pool_new("test", 3, JOBS, &pool), 0);
	for (int i = 0; i < JOBS; i++) {
		jobs[i] =
			(struct job){.work = {.run = job_run, .done = job_done, .job = &jobs[i]}, .input = i};
		assert_int_equal(work_submit(pool, loop, &jobs[i].work), 0);
	}
	for (int round = 0; round < 300 && done < JOBS; round++) {
		run_short(loop);
		done = 0;
		for (int i = 0; i < JOBS; i++)
			done += jobs[i].is_done;
	}
	assert_int_equal(done, JOBS);
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].error, 0);
		assert_int_equal(jobs[i].output, 2 * i);
	}
	assert_int_equal(work_pool_waiting(pool), 0);
	work_pool_free(&pool);
}

static void *open_gate(void *arg)
{
	usleep(20000);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void test_a_full_queue_refuses_and_a_freed_pool_cancels(void **state)
{
	static struct job jobs[4];
	static atomic_bool gate;
	struct work_pool *pool;
	pthread_t thread;

	(void)state;
	assert_int_equal(work_pool_new("full", 1, 2, &pool), 0);
	for (int i = 0; i < 4; i++) {
		jobs[i] = (struct job){.work = {.run = job_run, .done = job_done, .job = &jobs[i]},
			.gate = &gate,
			.input = 1};
		if (i == 3) {
			assert_int_equal(work_submit(pool, loop, &jobs[i].work), ERR_NOT_NOW);
			break;
		}
		assert_int_equal(work_submit(pool, loop, &jobs[i].work), 0);
		for (int k = 0; i == 0 && work_pool_waiting(pool) && k < 5000; k++)
			usleep(1000); /* until the one worker has it */
	}
	pthread_create(&thread, NULL, open_gate, &gate);
	work_pool_end(pool);
	pthread_join(thread, NULL);
	assert_int_equal(work_submit(pool, loop, &jobs[3].work), ERR_NOT_NOW);
	work_pool_free(&pool);
	RUN_UNTIL(loop, jobs[0].is_done && jobs[1].is_done && jobs[2].is_done);
	assert_int_equal(jobs[0].error, 0);
	assert_int_equal(jobs[0].output, 2);
	assert_int_equal(jobs[1].error, ERR_CANCELLED);
	assert_int_equal(jobs[2].output, 0);
	assert_false(jobs[3].is_done);
}

static atomic_bool is_inside, may_leave;

static void stay(void *arg)
{
	(void)arg;
	atomic_store(&is_inside, true);
	while (!atomic_load(&may_leave))
		usleep(100);
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

/* Answers of workers are posted before the loops are stopped, and must not be lost with what they hold. */
static void test_what_is_posted_before_a_stop_is_run(void **state)
{
	struct loop_group *group;
	bool is_run = false;

	(void)state;
	assert_int_equal(loop_group_start(1, &group), 0);
	loop_post(loop_group_at(group, 0), stay, NULL);
	while (!atomic_load(&is_inside))
		usleep(100);
	loop_post(loop_group_at(group, 0), set_flag, &is_run);
	loop_stop(loop_group_at(group, 0));
	atomic_store(&may_leave, true);
	loop_group_stop(&group);
	assert_true(is_run);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_posts_arrive_in_the_order_of_each_thread),
		T(test_deferred_calls_run_after_the_callbacks),
		T(test_foreign_descriptors_are_watched),
		T(test_signals_come_on_the_loop),
		T(test_a_group_runs_by_itself),
		T(test_listeners_share_an_address),
		T(test_an_address_in_use_is_explained),
		T(test_an_address_of_another_listener_is_refused),
		T(test_workers_answer_on_the_loop),
		T(test_a_full_queue_refuses_and_a_freed_pool_cancels),
		T(test_what_is_posted_before_a_stop_is_run),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
