/* A fake tier with 30,000 sessions on two loops, asked over a real control socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/control/session_verbs.h"

#define LOOPS 2
#define COUNT 15000 /* of each loop */

static char folder[64], path[96];
static struct loop *loop;
static struct loop_group *group;
static struct control *control;
static pthread_t thread;
static bool is_gone[LOOPS][COUNT];
static atomic_uint most_looked, most_taken, steps;

/* Session n of loop l: user n % 100, client 10.l.n/256.n%256, every third of service pop3. */
static void each_fake(void *arg, struct loop *at, struct session_walk *walk)
{
	unsigned l = loop_index(at), looked = 0, taken = 0;

	(void)arg;
	for (unsigned n = 0; n < COUNT; n++) {
		char id[16], user[32], client[32];
		const struct session_info info = {.number = n + 1,
			.id = id,
			.service = n % 3 ? "imap" : "pop3",
			.user = user,
			.client = client,
			.backend = n % 2 ? "b1" : "b2",
			.state = "idle",
			.since = 1000 + n};

		if (is_gone[l][n] || !session_walk_wants(walk, n + 1))
			continue;
		snprintf(id, sizeof(id), "s%u.%u", l, n);
		snprintf(user, sizeof(user), "user%u@example.com", n % 100);
		snprintf(client, sizeof(client), "10.%u.%u.%u", l, n / 256, n % 256);
		looked++;
		if (session_walk_take(walk, &info)) {
			is_gone[l][n] = true;
			taken++;
		}
	}
	if (looked > most_looked)
		most_looked = looked;
	if (taken > most_taken)
		most_taken = taken;
	steps++;
}

static void each_none(void *arg, struct loop *at, struct session_walk *walk)
{
	(void)arg;
	(void)at;
	(void)walk;
}

static session_each_fn *const each[] = {each_none, each_fake, NULL};
static struct session_kinds kinds = {.each = each, .has_backends = true};

static void kick_b2(void *arg, struct control_request *r)
{
	session_verbs_kick_backend(arg, r, "b2");
}

static const struct control_verb drain[] = {{"drain", "", "", kick_b2, 0, 0, NULL, 0}};

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
{
	struct buf why = {0};

	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/mt-sessions-XXXXXX");
	if (!mkdtemp(folder) || loop_new(&loop) || loop_group_start(LOOPS, &group))
		return -1;
	snprintf(path, sizeof(path), "%s/s", folder);
	if (control_open(loop, "test", path, NULL, &why, &control))
		return -1;
	kinds.group = group;
	session_verbs_register(control, &kinds);
	control_register(control, drain, 1, &kinds);
	return pthread_create(&thread, NULL, run, loop);
}

static void stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void close_all(void *arg)
{
	(void)arg;
	control_close(&control);
	loop_stop(loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_post(loop, close_all, NULL);
	pthread_join(thread, NULL);
	loop_group_stop(&group);
	loop_post(loop, stop, NULL);
	loop_run(loop);
	loop_free(&loop);
	rmdir(folder);
	return 0;
}

static int connect_control(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(un.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* The number of rows, and the last line. */
static unsigned ask(const char *argv, char last[512])
{
	int fd = connect_control();
	FILE *f = fdopen(fd, "r+");
	char *line = NULL;
	size_t room = 0;
	unsigned rows = 0;

	fprintf(f, "{\"argv\":[%s]}\n", argv);
	fflush(f);
	last[0] = '\0';
	while (getline(&line, &room, f) > 0) {
		snprintf(last, 512, "%s", line);
		if (strncmp(line, "{\"row\"", 6) != 0)
			break;
		rows++;
	}
	free(line);
	fclose(f);
	return rows;
}

static void test_all_are_listed_in_steps(void **state)
{
	char last[512];

	(void)state;
	steps = most_looked = 0;
	assert_int_equal(ask("\"session\",\"list\"", last), LOOPS * COUNT);
	assert_non_null(strstr(last, "\"sessions\":30000"));
	assert_int_equal(most_looked, 200); /* rows of one turn */
	assert_true(steps >= LOOPS * COUNT / 200);
	most_looked = 0;
	assert_int_equal(ask("\"session\",\"list\",\"--user\",\"nobody@example.com\"", last), 0);
	assert_int_equal(most_looked, 2000);
}

static void test_filters(void **state)
{
	static const struct {
		const char *options;
		unsigned rows;
	} rows[] = {
		{"\"--user\",\"USER7@Example.com\"", 300},
		{"\"--user\",\"user7@example.com\",\"--backend\",\"b1\"", 300},
		{"\"--user\",\"user7@example.com\",\"--backend\",\"b2\"", 0},
		{"\"--service\",\"pop3\"", 10000},
		{"\"--peer\",\"10.1.0.0/16\"", 15000},
		{"\"--peer\",\"10.1.2.0/24\",\"--service\",\"imap\"", 171},
		{"\"--peer\",\"10.0.0.9\"", 1},
		{"\"--peer\",\"2001:db8::/32\"", 0},
	};
	char last[512], argv[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(argv, sizeof(argv), "\"session\",\"list\",%s", rows[i].options);
		assert_int_equal(ask(argv, last), rows[i].rows);
	}
	ask("\"session\",\"list\",\"--peer\",\"10.1.2.0/8\"", last);
	assert_non_null(strstr(last, "\"status\":64"));
	ask("\"session\",\"kick\"", last);
	assert_non_null(strstr(last, "\"status\":64"));
}

/* Who does not read holds up his own question alone: no more is asked of the loops than fits on the way. */
static void test_a_slow_client_is_waited_for(void **state)
{
	int fd = connect_control();
	char last[512];
	unsigned before;

	(void)state;
	steps = 0;
	assert_int_equal(write(fd, "{\"argv\":[\"session\",\"list\"]}\n", 28), 28);
	/* One question that finds one row takes 16 steps: no others, in the end. */
	for (int i = 0; i < 200; i++) {
		before = steps;
		assert_int_equal(ask("\"session\",\"list\",\"--peer\",\"10.0.0.9\"", last), 1);
		if (before > 0 && steps - before == 16)
			break;
	}
	assert_int_equal(steps - before, 16);
	close(fd); /* and it ends when he goes */
}

static void test_kicks(void **state)
{
	char last[512];

	(void)state;
	ask("\"session\",\"kick\",\"s1.77\"", last);
	assert_non_null(strstr(last, "\"kicked\":1"));
	ask("\"session\",\"kick\",\"s1.77\"", last);
	assert_non_null(strstr(last, "\"status\":1"));
	ask("\"session\",\"kick\",\"user3@example.com\"", last);
	assert_non_null(strstr(last, "\"kicked\":300"));
	most_taken = 0;
	ask("\"drain\"", last);
	assert_non_null(strstr(last, "\"kicked\":15000"));
	assert_true(most_taken <= 2000);
	assert_int_equal(ask("\"session\",\"list\",\"--backend\",\"b2\"", last), 0);
	assert_int_equal(ask("\"session\",\"list\"", last), 30000 - 1 - 300 - 15000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_are_listed_in_steps),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_a_slow_client_is_waited_for),
		cmocka_unit_test(test_kicks),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
