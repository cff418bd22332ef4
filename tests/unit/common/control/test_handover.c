/*
 * Both parts of a hand-over, this program being the old and the new one: started with the variable of a hand-over it plays the
 * role that $HEIR names. The socket in question is a listener of a loop; the client asks who serves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/metrics.h"
#include "common/control/handover.h"
#include "common/control/notify.h"
#include "common/net/conn.h"
#include "common/net/listener.h"
#include "common/net/timer.h"

#define WAIT_MS 20000

struct side {
	struct loop *loop;
	struct handover *handover;
	struct listener *listener;
	struct timer timer, late;
	bool has_retired, has_begun;
	unsigned begins;
	const char *role;
	const char *no; /* why no hand-over may begin */
};

static char *self[] = {NULL, NULL};

static void on_accept(void *arg, struct conn *conn_take)
{
	const struct side *side = arg;

	conn_write_str(conn_take, side->role);
	conn_close(&conn_take);
}

static void stop(void *arg)
{
	struct side *side = arg;

	loop_stop(side->loop);
}

static void on_retire(void *arg)
{
	struct side *side = arg;

	side->has_retired = true;
	loop_stop(side->loop);
}

static int on_begin(void *arg)
{
	struct side *side = arg;

	side->has_begun = ++side->begins == 3;
	return side->has_begun ? 0 : ERR_NOT_NOW;
}

static bool is_ready(void *arg, struct buf *reason)
{
	const struct side *side = arg;

	if (strcmp(side->role, "unready") == 0)
		buf_add_str(reason, "the moon is not full");
	return strcmp(side->role, "unready") != 0;
}

static const char *refusal(void *arg)
{
	return ((struct side *)arg)->no;
}

static void side_start(struct side *side, const struct addr *addr, uint64_t limit_ms)
{
	struct listener_options listening = {.name = "test", .addr = *addr};
	struct handover_options options = {.area = "test",
		.limit_ms = limit_ms,
		.is_ready = is_ready,
		.begin = on_begin,
		.retire = on_retire,
		.refusal = refusal,
		.arg = side};
	struct buf why = {0};

	assert_int_equal(loop_new(&side->loop), 0);
	options.loop = side->loop;
	assert_int_equal(listener_open_on(side->loop, &listening, on_accept, side, &why, &side->listener), 0);
	assert_int_equal(handover_start(side->handover, &options, &why), 0);
	timer_init(&side->late, stop, side);
	timer_set(&side->late, side->loop, WAIT_MS);
}

static void side_end(struct side *side)
{
	handover_stop(side->handover);
	listener_close(&side->listener);
	timer_stop(&side->late);
	timer_init(&side->timer, stop, side);
	timer_set(&side->timer, side->loop, 1);
	loop_run(side->loop);
	loop_free(&side->loop);
	handover_free(&side->handover);
}

/* ---- the new one ---- */

/* It serves until the old one has ended. */
static void watch_old(void *arg)
{
	struct side *side = arg;
	struct metric *olds = metrics_gauge("mailtier_program_predecessors", NULL, "");

	if (side->has_begun && metric_get(olds) == 0)
		loop_stop(side->loop);
	else
		timer_set(&side->timer, side->loop, 20);
}

static int heir(char **argv)
{
	struct side side = {.role = getenv("HEIR")};
	struct addr addr;

	if (strcmp(side.role, "dies") == 0) {
		fprintf(stderr, "no room\nat the inn\n");
		return 7;
	}
	side.handover = handover_new(1, argv);
	if (strcmp(side.role, "breaks") == 0)
		abort();
	if (addr_parse(SLICE_LIT("127.0.0.1"), (uint16_t)strtoul(getenv("PORT"), NULL, 10), &addr) != 0)
		return 8;
	side_start(&side, &addr, WAIT_MS);
	timer_init(&side.timer, watch_old, &side);
	timer_set(&side.timer, side.loop, 20);
	loop_run(side.loop);
	timer_stop(&side.timer);
	side_end(&side);
	return 0;
}

/* ---- the old one ---- */

static void begin(struct side *side, const char *role)
{
	struct addr addr;
	char port[8];

	*side = (struct side){.role = "old"};
	self[0] = (char *)(uintptr_t) "/proc/self/exe";
	side->handover = handover_new(1, self);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &addr), 0);
	side_start(side, &addr, strcmp(role, "unready") == 0 ? 1500 : WAIT_MS);
	snprintf(port, sizeof(port), "%u", addr_port(listener_addr(side->listener)));
	setenv("PORT", port, 1);
	setenv("HEIR", role, 1);
}

static int64_t failures(void)
{
	return metric_get(metrics_counter("mailtier_program_handovers_failed", NULL, ""));
}

struct wait {
	struct side *side;
	int64_t failures;
};

static void look(void *arg)
{
	struct wait *w = arg;

	if (w->side->has_retired || failures() > w->failures)
		loop_stop(w->side->loop);
	else
		timer_set(&w->side->timer, w->side->loop, 5);
}

/* Until the hand-over is decided. */
static void run(struct side *side)
{
	struct wait w = {side, failures()};

	kill(getpid(), SIGUSR2);
	timer_init(&side->timer, look, &w);
	timer_set(&side->timer, side->loop, 5);
	loop_run(side->loop);
	timer_stop(&side->timer);
}

/* Who answers at our address; runs our loop meanwhile. */
static void ask(struct side *side, char text[16])
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct addr *addr = listener_addr(side->listener);
	ssize_t n = -1;

	if (connect(fd, (const struct sockaddr *)&addr->ss, addr->len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	for (int i = 0; i < 500 && n < 0; i++) {
		timer_init(&side->timer, stop, side);
		timer_set(&side->timer, side->loop, 10);
		loop_run(side->loop);
		n = recv(fd, text, 15, 0);
	}
	text[n > 0 ? n : 0] = '\0';
	close(fd);
}

static void test_the_new_program_serves(void **state)
{
	struct side side;
	char text[16];

	(void)state;
	begin(&side, "new");
	ask(&side, text);
	assert_string_equal(text, "old");
	run(&side);
	assert_true(side.has_retired);
	assert_true(handover_is_retired(side.handover));
	for (int i = 0; i < 5; i++) {
		ask(&side, text);
		assert_string_equal(text, "new");
	}
	/* A second time it has nothing to hand over. */
	side.has_retired = false;
	kill(getpid(), SIGUSR2);
	ask(&side, text);
	assert_false(side.has_retired);
	side_end(&side);
}

static void test_failures_leave_the_old_one_serving(void **state)
{
	static const char *const roles[] = {"dies", "breaks", "unready"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		struct side side;
		char text[16];
		int64_t before = failures();

		begin(&side, roles[i]);
		run(&side);
		assert_false(side.has_retired);
		assert_int_equal(failures(), before + 1);
		ask(&side, text);
		assert_string_equal(text, "old");
		side_end(&side);
		/* Nothing of it is left. */
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(errno, ECHILD);
	}
}

static void test_a_refused_one_starts_nothing(void **state)
{
	struct side side;
	char text[16];

	(void)state;
	begin(&side, "new");
	side.no = "not today";
	kill(getpid(), SIGUSR2);
	ask(&side, text);
	assert_string_equal(text, "old");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	side_end(&side);
}

/* ---- the supervisor ---- */

static void test_the_supervisor_is_told(void **state)
{
	char folder[] = "/tmp/mt-notify-XXXXXX", text[64];
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t n;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/n", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	notify_send("READY=1"); /* without the variable: nothing */
	assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
	setenv("NOTIFY_SOCKET", un.sun_path, 1);
	notify_send("MAINPID=12\nREADY=1");
	n = recv(fd, text, sizeof(text), 0);
	assert_int_equal(n, 18);
	assert_memory_equal(text, "MAINPID=12\nREADY=1", 18);
	setenv("NOTIFY_SOCKET", "no path", 1);
	notify_send("READY=1");
	assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
	close(fd);
	unlink(un.sun_path);
	/* In the abstract name space. */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	n = snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "%s", folder);
	un.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&un,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
		0);
	un.sun_path[0] = '@';
	setenv("NOTIFY_SOCKET", un.sun_path, 1);
	notify_send("READY=1");
	assert_int_equal(recv(fd, text, sizeof(text), 0), 7);
	unsetenv("NOTIFY_SOCKET");
	close(fd);
	rmdir(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_supervisor_is_told),
		cmocka_unit_test(test_a_refused_one_starts_nothing),
		cmocka_unit_test(test_failures_leave_the_old_one_serving),
		cmocka_unit_test(test_the_new_program_serves),
	};

	(void)argc;
	unsetenv("NOTIFY_SOCKET");
	if (getenv("MAILTIER_HANDOVER"))
		return heir(argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
