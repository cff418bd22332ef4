/* The control socket and the status listener, on a loop of their own, asked through real sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/control/control.h"
#include "common/control/status.h"

#define ANSWER_MOST 65536
#define ANSWER_MS 10000

static char folder[64], path[96];
static struct loop *loop;
static struct control *control;
static struct status *status;
static pthread_t thread;
static uint16_t status_port;
static struct control_request *waiting;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_ready = true;

/* ---- verbs ---- */

static void run_echo(void *arg, struct control_request *request)
{
	(void)arg;
	for (size_t i = 0; i < control_arg_count(request); i++) {
		control_row(request);
		control_add_int(request, "number", (int64_t)i);
		control_add_str(request, "word", control_arg(request, i));
	}
	control_result(request);
	if (control_has_option(request, "quota"))
		control_add_str(request, "quota", control_option(request, "quota", 0));
	for (size_t i = 0; control_option(request, "alias", i); i++)
		control_add_item(request, "aliases", slice_str(control_option(request, "alias", i)));
	control_add_bool(request, "force", control_has_option(request, "force"));
	control_add_slice(request, "bytes", slice_of("a\xff\n", 3));
	control_done(request);
}

static void run_slow(void *arg, struct control_request *request)
{
	(void)arg;
	control_row(request);
	control_add_int(request, "line", 1);
	control_progress(request, "%d of %d\x1b[2J", 1, 2);
	control_row(request);
	control_add_int(request, "line", 2);
	control_done(request);
}

static void run_password(void *arg, struct control_request *request)
{
	(void)arg;
	control_add_text(request, "length", "%zu", control_input(request).len);
	control_done(request);
}

static void run_fail(void *arg, struct control_request *request)
{
	(void)arg;
	control_fail(request, atoi(control_arg(request, 0)), "because of %s", control_arg(request, 0));
}

static void run_later(void *arg, struct control_request *request)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	waiting = request;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void run_times(void *arg, struct control_request *request)
{
	(void)arg;
	control_row(request);
	control_add_time(request, "at", 1800000000);
	control_row(request);
	control_add_time(request, "at", 0);
	control_add_time(request, "until", 1);
	control_done(request);
}

static void run_path(void *arg, struct control_request *request)
{
	(void)arg;
	control_add_str(request, "path", control_arg_path(request, 0));
	control_done(request);
}

/* A listing that would be 100 MiB if it did not wait for its reader. */
#define LONG_STEPS 1000
#define LONG_ROWS 100
static _Atomic unsigned long_steps, long_ends;

static void long_step(void *arg)
{
	static char text[1024];
	struct control_request *request = arg;

	memset(text, 'x', sizeof(text) - 1);
	if (control_is_gone(request) || long_steps == LONG_STEPS) {
		long_ends++;
		control_done(request);
		return;
	}
	for (unsigned i = 0; i < LONG_ROWS; i++) {
		control_row(request);
		control_add_str(request, "text", text);
	}
	long_steps++;
	control_when_room(request, long_step, request);
}

static void run_long(void *arg, struct control_request *request)
{
	(void)arg;
	long_steps = long_ends = 0;
	long_step(request);
}

/* Says "here" to what was passed. */
static void run_into(void *arg, struct control_request *request)
{
	int fd = control_take_fd(request);

	(void)arg;
	control_add_bool(request, "written", write(fd, "here", 4) == 4);
	close(fd);
	control_done(request);
}

static const struct control_verb verbs[] = {
	{"into", "[FILE]", "writes to what was passed", run_into, 0, 1, NULL, CONTROL_TAKES_OUT},
	{"long", "", "tells much", run_long, 0, 0, NULL, 0},
	{"echo", "WORD...", "gives back", run_echo, 1, 5, "quota= alias= force", 0},
	{"echo password", "[--password]", "measures", run_password, 0, 0, "password<", 0},
	{"take all", "", "measures", run_password, 0, 0, NULL, CONTROL_READS_ALL},
	{"fail", "ERROR", "fails", run_fail, 1, 1, NULL, 0},
	{"slow", "", "tells how far it is", run_slow, 0, 0, NULL, 0},
	{"times", "", "tells times", run_times, 0, 0, NULL, 0},
	{"later", "", "waits", run_later, 0, 0, NULL, 0},
	{"path", "FILE", "completes", run_path, 1, 1, NULL, 0},
};

/* ---- the loop ---- */

static bool ready(void *arg, struct buf *reason)
{
	(void)arg;
	if (!is_ready)
		buf_add_str(reason, "no map");
	return is_ready;
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static struct conf *status_conf(uint16_t port)
{
	static const struct conf_section sections[] = {CONTROL_CONF_SECTIONS, {0}};
	static const struct conf_key keys[] = {CONTROL_CONF_KEYS("/run/x.sock"), {0}};
	static const struct conf_key *const tables[] = {keys, NULL};
	static const struct conf_table table = {"test", "/etc/x", sections, tables, NULL};
	struct buf why = {0}, text = {0};
	struct conf *conf = NULL;

	buf_printf(&text, "status { listen = {\"127.0.0.1:%u\"} }", port);
	if (conf_load_text(&table, "x", buf_view(&text), &why, &conf))
		fail_msg("%s", buf_str_view(&why));
	buf_deinit(&text);
	buf_deinit(&why);
	return conf;
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static int start(void **state)
{
	struct buf why = {0};
	struct conf *conf;

	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/mailtier-control-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/x.sock", folder);
	assert_int_equal(loop_new(&loop), 0);
	if (control_open(loop, "mailtier-test", path, NULL, &why, &control))
		fail_msg("%s", buf_str_view(&why));
	control_register(control, verbs, ARRAY_LEN(verbs), NULL);
	status_port = free_port();
	conf = status_conf(status_port);
	if (status_open(loop, conf, ready, NULL, &why, &status))
		fail_msg("%s", buf_str_view(&why));
	conf_free(&conf);
	buf_deinit(&why);
	return pthread_create(&thread, NULL, run_loop, loop);
}

static void end_loop(void *arg)
{
	loop_stop(arg);
}

/* Listeners close by posts of their own: the loop ends after these. */
static void end_all(void *arg)
{
	control_close(&control);
	status_close(&status);
	loop_post(arg, end_loop, arg);
}

static int stop(void **state)
{
	(void)state;
	loop_post(loop, end_all, loop);
	pthread_join(thread, NULL);
	loop_free(&loop);
	assert_int_not_equal(access(path, F_OK), 0);
	return rmdir(folder);
}

/* ---- a client ---- */

static int dial(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

static void send_text(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until that many lines are there, or the end when lines is 0. */
static const char *receive(int fd, unsigned lines)
{
	static char text[ANSWER_MOST];
	size_t len = 0;
	unsigned seen = 0;

	while (len < sizeof(text) - 1 && (lines == 0 || seen < lines)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, ANSWER_MS) != 1)
			fail_msg("no answer; so far: %.*s", (int)len, text);
		n = recv(fd, text + len, lines ? 1 : sizeof(text) - 1 - len, 0);
		if (n <= 0)
			break;
		seen += text[len] == '\n';
		len += (size_t)n;
	}
	text[len] = '\0';
	return text;
}

static void send_with_fds(int socket, const char *text, const int *fds, size_t count)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} room = {.bytes = {0}};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	assert_int_equal(sendmsg(socket, &message, MSG_NOSIGNAL), strlen(text));
}

/* The octet that the descriptor goes along with may come before the request, and both may wait already when the server looks. */
static void test_a_descriptor_goes_along(void **state)
{
	static const char request[] = "{\"argv\":[\"into\"]}\n";
	int fd = dial(), other[2], pipes[2];
	char got[8] = {0};

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(other), 0);
	send_text(fd, "{\"argv\":[\"into\",\"a b\"]}\n");
	assert_string_equal(receive(fd, 1), "{\"ask\":\">\",\"file\":\"a b\"}\n");
	send_text(fd, "{\"argv\":[\"into\",\"-\"]}\n");
	assert_string_equal(receive(fd, 1), "{\"ask\":\">\",\"file\":\"\"}\n");
	for (int i = 0; i < 20; i++) {
		/* Of several the last one counts, the others are closed. */
		send_with_fds(fd, " ", (int[]){other[1], pipes[1]}, 2);
		send_text(fd, request);
		assert_string_equal(
			receive(fd, 1), "{\"ok\":true,\"status\":0,\"result\":{\"written\":true}}\n");
		assert_int_equal(read(pipes[0], got, sizeof(got)), 4);
	}
	close(pipes[1]);
	close(other[1]);
	assert_int_equal(read(pipes[0], got, sizeof(got)), 0); /* nobody has kept it */
	assert_int_equal(read(other[0], got, sizeof(got)), 0);
	close(pipes[0]);
	close(other[0]);
	close(fd);
}

static void test_requests_get_their_answers(void **state)
{
	static const struct {
		const char *request, *want;
	} rows[] = {
		{"{\"argv\":[\"echo\",\"a\",\"--quota\",\"1G\",\"--alias=x\",\"--alias\",\"y=z\",\"b\"]}\n",
			"{\"row\":{\"number\":0,\"word\":\"a\"}}\n{\"row\":{\"number\":1,\"word\":\"b\"}}\n"
			"{\"ok\":true,\"status\":0,\"result\":{\"quota\":\"1G\",\"aliases\":[\"x\",\"y=z\"],"
			"\"force\":false,"
			"\"bytes\":\"a?\\n\"}}\n"},
		{"{\"argv\":[\"echo\",\"--force\",\"--\",\"--quota\"]}\n",
			"{\"row\":{\"number\":0,\"word\":\"--quota\"}}\n"
			"{\"ok\":true,\"status\":0,\"result\":{\"force\":true,\"bytes\":\"a?\\n\"}}\n"},
		{"{\"argv\":[\"echo\"]}\n",
			"{\"ok\":false,\"status\":64,\"error\":\"usage: echo WORD...\"}\n"},
		{"{\"argv\":[\"echo\",\"a\",\"--other\"]}\n",
			"{\"ok\":false,\"status\":64,\"error\":\"usage: echo WORD...\"}\n"},
		{"{\"argv\":[\"echo\",\"a\",\"--quota\"]}\n",
			"{\"ok\":false,\"status\":64,\"error\":\"usage: echo WORD...\"}\n"},
		{"{\"argv\":[\"echo\",\"a\",\"--force=1\"]}\n",
			"{\"ok\":false,\"status\":64,\"error\":\"usage: echo WORD...\"}\n"},
		{"{\"argv\":[\"nothing\",\"here\"]}\n",
			"{\"ok\":false,\"status\":64,\"error\":\"mailtier-test knows no \\\"nothing "
			"here\\\"; ask for help\"}\n"},
		{"{\"argv\":[\"echo\",\"password\",\"--password\"]}\n", "{\"ask\":\"Password\"}\n"},
		{"{\"argv\":[\"echo\",\"password\",\"--password\"],\"input\":\"secret\"}\n",
			"{\"ok\":true,\"status\":0,\"result\":{\"length\":\"6\"}}\n"},
		{"{\"argv\":[\"echo\",\"password\"]}\n",
			"{\"ok\":true,\"status\":0,\"result\":{\"length\":\"0\"}}\n"},
		{"{\"argv\":[\"slow\"]}\n", "{\"row\":{\"line\":1}}\n{\"progress\":\"1 of "
					    "2\\u001B[2J\"}\n{\"row\":{\"line\":2}}\n"
					    "{\"ok\":true,\"status\":0,\"result\":{}}\n"},
		{"{\"argv\":[\"times\"]}\n",
			"{\"row\":{\"at\":1800000000},\"times\":[\"at\"]}\n"
			"{\"row\":{\"at\":0,\"until\":1},\"times\":[\"at\",\"until\"]}\n"
			"{\"ok\":true,\"status\":0,\"result\":{},\"times\":[\"at\",\"until\"]}\n"},
		{"{\"argv\":[\"take\",\"all\"]}\n", "{\"ask\":\"*\"}\n"},
		{"{\"argv\":[\"path\",\"x\"],\"cwd\":\"/tmp\"}\n",
			"{\"ok\":true,\"status\":0,\"result\":{\"path\":\"/tmp/x\"}}\n"},
		{"{\"argv\":[\"path\",\"/x\"],\"cwd\":\"/tmp\"}\n",
			"{\"ok\":true,\"status\":0,\"result\":{\"path\":\"/x\"}}\n"},
		{"{\"argv\":[\"fail\",\"-7\"]}\n",
			"{\"ok\":false,\"status\":75,\"error\":\"because of -7\"}\n"},
		{"{\"argv\":[\"fail\",\"-4\"]}\n",
			"{\"ok\":false,\"status\":1,\"error\":\"because of -4\"}\n"},
		{"{\"argv\":[\"fail\",\"-13\"]}\n",
			"{\"ok\":false,\"status\":70,\"error\":\"because of -13\"}\n"},
		{"no json\n", "{\"ok\":false,\"status\":64,\"error\":\"a request is one JSON object with "
			      "\\\"argv\\\"\"}\n"},
		{"{}\n", "{\"ok\":false,\"status\":64,\"error\":\"a request is one JSON object with "
			 "\\\"argv\\\"\"}\n"},
		{"{\"argv\":[1]}\n", "{\"ok\":false,\"status\":64,\"error\":\"a request is one JSON object "
				     "with \\\"argv\\\"\"}\n"},
		{"\n", "{\"ok\":false,\"status\":64,\"error\":\"a request is one JSON object with "
		       "\\\"argv\\\"\"}\n"},
	};
	int fd = dial();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned lines = 0;

		for (const char *p = rows[i].want; *p; p++)
			lines += *p == '\n';
		send_text(fd, rows[i].request);
		assert_string_equal(receive(fd, lines), rows[i].want);
	}
	close(fd);
}

static void test_requests_sent_at_once_are_answered_in_order(void **state)
{
	int fd = dial();

	(void)state;
	send_text(fd,
		"{\"argv\":[\"fail\",\"-7\"]}\n{\"argv\":[\"fail\",\"-4\"]}\n{\"argv\":[\"fail\",\"-2\"]}\n");
	shutdown(fd, SHUT_WR);
	assert_string_equal(receive(fd, 0), "{\"ok\":false,\"status\":75,\"error\":\"because of -7\"}\n"
					    "{\"ok\":false,\"status\":1,\"error\":\"because of -4\"}\n"
					    "{\"ok\":false,\"status\":64,\"error\":\"because of -2\"}\n");
	close(fd);
}

static void answer_later(void *arg)
{
	struct control_request *request = arg;

	control_add_bool(request, "gone", control_is_gone(request));
	control_done(request);
}

static struct control_request *wait_for_request(void)
{
	struct control_request *request;

	pthread_mutex_lock(&lock);
	while (!waiting)
		pthread_cond_wait(&changed, &lock);
	request = waiting;
	waiting = NULL;
	pthread_mutex_unlock(&lock);
	return request;
}

static void test_a_verb_may_answer_later_and_after_its_client(void **state)
{
	struct control_request *request;
	int fd = dial();

	(void)state;
	send_text(fd, "{\"argv\":[\"later\"]}\n");
	request = wait_for_request();
	loop_post(control_request_loop(request), answer_later, request);
	assert_string_equal(receive(fd, 1), "{\"ok\":true,\"status\":0,\"result\":{\"gone\":false}}\n");
	send_text(fd, "{\"argv\":[\"later\"]}\n");
	request = wait_for_request();
	close(fd);
	/* Another client's answer shows that the loop has had its turn. */
	fd = dial();
	send_text(fd, "{\"argv\":[\"fail\",\"-4\"]}\n");
	receive(fd, 1);
	loop_post(loop, answer_later, request);
	send_text(fd, "{\"argv\":[\"fail\",\"-4\"]}\n");
	receive(fd, 1);
	close(fd);
}

/* A listing goes no faster than its reader, and ends when he goes. */
static void test_a_long_answer_waits_for_its_reader(void **state)
{
	static char in[65536];
	unsigned steps = 0, rows = 0;
	ssize_t n;
	int fd = dial();

	(void)state;
	send_text(fd, "{\"argv\":[\"long\"]}\n");
	for (unsigned still = 0; still < 50; still = long_steps == steps && steps ? still + 1 : 0) {
		steps = long_steps;
		usleep(2000);
	}
	assert_in_range(steps, 1, LONG_STEPS / 2);
	while (rows < LONG_STEPS * LONG_ROWS + 1 && (n = read(fd, in, sizeof(in))) > 0)
		for (ssize_t i = 0; i < n; i++)
			rows += in[i] == '\n';
	assert_int_equal(rows, LONG_STEPS * LONG_ROWS + 1);
	assert_int_equal(long_ends, 1);
	send_text(fd, "{\"argv\":[\"long\"]}\n");
	for (unsigned i = 0; i < ANSWER_MS && (long_ends || !long_steps); i++)
		usleep(1000);
	close(fd);
	for (unsigned i = 0; i < ANSWER_MS && !long_ends; i++)
		usleep(1000);
	assert_int_equal(long_ends, 1);
}

static void test_the_socket_is_its_owners_and_is_not_taken_twice(void **state)
{
	struct control *second = NULL;
	struct buf why = {0};
	struct stat st;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(control_open(loop, "x", path, NULL, &why, &second), ERR_EXISTS);
	assert_null(second);
	assert_non_null(strstr(buf_str_view(&why), "another program listens there"));
	buf_deinit(&why);
}

static void test_every_program_has_help_and_metrics(void **state)
{
	int fd = dial();

	(void)state;
	send_text(fd, "{\"argv\":[\"help\"]}\n");
	shutdown(fd, SHUT_WR);
	assert_non_null(
		strstr(receive(fd, 0), "{\"row\":{\"verb\":\"echo WORD...\",\"does\":\"gives back\"}}\n"));
	close(fd);
	fd = dial();
	send_text(fd, "{\"argv\":[\"metrics\",\"--text\"]}\n");
	assert_non_null(strstr(receive(fd, 1), "# EOF\\n"));
	close(fd);
}

/* ---- status ---- */

static const char *ask_status(const char *request)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(status_port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *answer;

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	send_text(fd, request);
	answer = receive(fd, 0);
	close(fd);
	return answer;
}

#define LAST "Host: x\r\nConnection: close\r\n\r\n"

static void test_the_status_pages(void **state)
{
	static const struct {
		const char *request, *begin, *end;
	} rows[] = {
		{"GET /health HTTP/1.1\r\n" LAST, "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"},
		{"HEAD /health HTTP/1.1\r\n" LAST, "HTTP/1.1 200 OK\r\n", "\r\n\r\n"},
		{"GET /health HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"},
		{"GET /ready HTTP/1.1\r\n" LAST, "HTTP/1.1 200 OK\r\n", "\r\n\r\nready\n"},
		{"GET /metrics HTTP/1.1\r\n" LAST,
			"HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; "
			"charset=utf-8\r\n",
			"# EOF\n"},
		{"GET /other HTTP/1.1\r\n" LAST, "HTTP/1.1 404 Not Found\r\n", "\r\n\r\nNot Found\n"},
		{"POST /health HTTP/1.1\r\nContent-Length: 1\r\nHost: x\r\n\r\na", "HTTP/1.1 405 ",
			"Not Allowed\n"},
		{"EHLO x\r\n", "HTTP/1.1 400 Bad Request\r\n", "\r\n\r\nBad Request\n"},
		{"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\n" LAST, "HTTP/1.1 200 OK\r\n",
			"\r\n\r\nready\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice got = slice_str(ask_status(rows[i].request));
		size_t end = strlen(rows[i].end);

		if (!slice_has_prefix(got, rows[i].begin) || got.len < end ||
			!slice_is_str(slice_from(got, got.len - end), rows[i].end))
			fail_msg("row %zu: %.*s", i, SLICE_ARG(got));
	}
	is_ready = false;
	assert_non_null(
		strstr(ask_status("GET /ready HTTP/1.1\r\n" LAST), "HTTP/1.1 503 Service Unavailable\r\n"));
	assert_non_null(strstr(ask_status("GET /ready HTTP/1.1\r\n" LAST), "\r\n\r\nno map\n"));
	is_ready = true;
	assert_non_null(strstr(ask_status("GET /ready HTTP/1.1\r\n" LAST), "HTTP/1.1 200 OK\r\n"));
	status_set_draining(status);
	assert_non_null(strstr(ask_status("GET /ready HTTP/1.1\r\n" LAST), "\r\n\r\ndraining\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests_get_their_answers, start, stop),
		cmocka_unit_test_setup_teardown(test_a_descriptor_goes_along, start, stop),
		cmocka_unit_test_setup_teardown(
			test_requests_sent_at_once_are_answered_in_order, start, stop),
		cmocka_unit_test_setup_teardown(
			test_a_verb_may_answer_later_and_after_its_client, start, stop),
		cmocka_unit_test_setup_teardown(
			test_the_socket_is_its_owners_and_is_not_taken_twice, start, stop),
		cmocka_unit_test_setup_teardown(test_a_long_answer_waits_for_its_reader, start, stop),
		cmocka_unit_test_setup_teardown(test_every_program_has_help_and_metrics, start, stop),
		cmocka_unit_test_setup_teardown(test_the_status_pages, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
