/* A connector against a server of our own that takes the bind and then reads nothing, or answers what no server should. With
 * real servers: tests/unit/mapping/test_map_ldap.c, tests/flow/test_directory*.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/directory/directory.h"
#include "common/net/timer.h"

#define WAIT_MS 15000
#define QUESTIONS 300
#define FILTER_SIZE 50000

/* A bindResponse: success. Octet 4 is the message's id. */
static const unsigned char bound[] = {
	0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00};

struct world {
	struct loop *loop;
	struct work_pool *pool;
	struct directory *directory;
	int listener, port;
	pthread_t thread;
	const unsigned char *answer; /* to what comes after the bind; NULL: nothing is read */
	size_t answer_len;
	_Atomic bool is_silent;
	unsigned answers, not_now, not_found;
	char reason[200];
	const char *const *referrals;
};

static void serve_one(struct world *w, int fd)
{
	unsigned char in[4096];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (recv(fd, in, sizeof(in), 0) <= 0 || send(fd, bound, sizeof(bound), MSG_NOSIGNAL) < 0)
		return;
	while (w->answer && recv(fd, in, sizeof(in), 0) > 0) {
		unsigned char out[256];

		if (atomic_load(&w->is_silent))
			continue;

		memcpy(out, w->answer, w->answer_len);
		out[4] = in[4]; /* id of a short request */
		if (send(fd, out, w->answer_len, MSG_NOSIGNAL) < 0)
			return;
	}
	p.events = 0; /* until the other side is gone */
	while (poll(&p, 1, 100) == 0 && fcntl(w->listener, F_GETFD) >= 0)
		;
}

static void *serve(void *arg)
{
	struct world *w = arg;
	int fd;

	while ((fd = accept(w->listener, NULL, NULL)) >= 0) {
		serve_one(w, fd);
		close(fd);
	}
	return NULL;
}

static int begin(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int small = 4096;

	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(work_pool_new("test-directory", 2, 100, &w->pool), 0);
	w->listener = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(w->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(bind(w->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(w->listener, 8), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&a, &len), 0);
	w->port = ntohs(a.sin_port);
	*state = w;
	return 0;
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

static int end(void **state)
{
	struct world *w = *state;

	directory_close(&w->directory);
	work_pool_free(&w->pool);
	run_for(w, 20);
	shutdown(w->listener, SHUT_RDWR);
	close(w->listener);
	pthread_join(w->thread, NULL);
	loop_free(&w->loop);
	free(w);
	return 0;
}

static void open_directory(struct world *w)
{
	char uri[60];
	const char *uris[] = {uri, NULL};
	struct directory_options o = {.name = "fake",
		.uris = uris,
		.client = {.bind = LDAP_CLIENT_ANONYMOUS},
		.timeout_ms = 1000,
		.connect_timeout_ms = 1000,
		.health_ms = 60000,
		.connections = 1,
		.bind_connections = 1,
		.in_flight = 10000,
		.referrals = w->referrals};
	struct directory_status s;

	assert_int_equal(pthread_create(&w->thread, NULL, serve, w), 0);
	snprintf(uri, sizeof(uri), "ldap://127.0.0.1:%d", w->port);
	w->directory = directory_new(&o, w->loop, w->pool);
	for (uint64_t until = clock_mono_ms() + WAIT_MS;;) {
		directory_status(w->directory, &s);
		if (s.is_up)
			return;
		run_for(w, 10);
		assert_true(clock_mono_ms() < until);
	}
}

static void on_answer(void *arg, int error, const struct directory_found *found, const char *reason)
{
	struct world *w = arg;

	(void)found;
	w->answers++;
	w->not_now += error == ERR_NOT_NOW;
	w->not_found += error == ERR_NOT_FOUND;
	snprintf(w->reason, sizeof(w->reason), "%s", reason ? reason : "");
}

static void wait_answers(struct world *w, unsigned n)
{
	for (uint64_t until = clock_mono_ms() + WAIT_MS; w->answers < n;) {
		run_for(w, 20);
		assert_true(clock_mono_ms() < until);
	}
}

/* Ours is the only socket: it takes no more, and no call waits for it. */
static void test_a_full_socket_blocks_nobody(void **state)
{
	static const char *const attributes[] = {"mail", NULL};
	struct world *w = *state;
	char *filter = xmalloc(FILTER_SIZE + 20);
	struct directory_search s = {.base = "dc=x", .filter = filter, .attributes = attributes};
	struct directory_status status;
	uint64_t slowest = 0;

	memcpy(filter, "(mail=", 6);
	memset(filter + 6, 'a', FILTER_SIZE);
	memcpy(filter + 6 + FILTER_SIZE, ")", 2);
	open_directory(w);
	for (unsigned i = 0; i < QUESTIONS; i++) {
		struct directory_request *r;
		uint64_t from = clock_mono_ms();

		directory_search(w->directory, &s, on_answer, w, &r);
		slowest = clock_mono_ms() - from > slowest ? clock_mono_ms() - from : slowest;
	}
	wait_answers(w, QUESTIONS);
	assert_int_equal(w->not_now, QUESTIONS);
	assert_in_range(slowest, 0, 300); /* waiting for the socket would be a second */
	directory_status(w->directory, &status);
	assert_int_equal(status.in_flight, 0);
	free(filter);
}

/* resultCode 10, referral: to a server that would get the service's password if it was followed. */
static void test_security_06_a_referral_is_not_followed(void **state)
{
	static const unsigned char referral[] = {0x30, 0x24, 0x02, 0x01, 0x00, 0x65, 0x1f, 0x0a, 0x01, 0x0a,
		0x04, 0x00, 0x04, 0x00, 0xa3, 0x16, 0x04, 0x14, 'l', 'd', 'a', 'p', ':', '/', '/', '1', '2',
		'7', '.', '0', '.', '0', '.', '2', ':', '3', '8', '9'};
	static const char *const attributes[] = {"mail", NULL};
	struct directory_search s = {.base = "dc=x", .filter = "(a=b)", .attributes = attributes};
	struct world *w = *state;
	struct directory_request *r;

	w->answer = referral;
	w->answer_len = sizeof(referral);
	open_directory(w);
	directory_search(w->directory, &s, on_answer, w, &r);
	wait_answers(w, 1);
	assert_int_equal(w->not_now, 1);
	assert_non_null(strstr(w->reason, "eferral"));
}

/* Only to a server that the configuration names, on this very port. */
static void test_a_referral_is_followed_where_that_is_asked(void **state)
{
	static const unsigned char done[] = {
		0x30, 0x0c, 0x02, 0x01, 0x00, 0x65, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00};
	static const char *const attributes[] = {"mail", NULL};
	struct directory_search s = {.base = "dc=x", .filter = "(a=b)", .attributes = attributes};
	struct world *w = *state, *second;
	unsigned char answer[80] = {
		0x30, 0, 0x02, 0x01, 0x00, 0x65, 0, 0x0a, 0x01, 0x0a, 0x04, 0x00, 0x04, 0x00, 0xa3};
	char allowed[60];
	const char *list[] = {allowed, NULL};
	struct directory_request *r;
	void *other;
	int n;

	assert_int_equal(begin(&other), 0);
	second = other;
	second->answer = done;
	second->answer_len = sizeof(done);
	assert_int_equal(pthread_create(&second->thread, NULL, serve, second), 0);
	snprintf(allowed, sizeof(allowed), "ldap://127.0.0.1:%d", second->port);
	n = snprintf((char *)answer + 18, sizeof(answer) - 18, "%s/dc=y", allowed);
	answer[17] = (unsigned char)n;
	answer[16] = 0x04;
	answer[15] = (unsigned char)(n + 2);
	answer[6] = (unsigned char)(n + 11);
	answer[1] = (unsigned char)(n + 16);
	w->answer = answer;
	w->answer_len = (size_t)n + 18;
	w->referrals = list;
	open_directory(w);
	directory_search(w->directory, &s, on_answer, w, &r);
	wait_answers(w, 1);
	assert_int_equal(w->not_found, 1); /* the second server has said so */
	/* One that is given up, and one that is under way at the end. */
	directory_search(w->directory, &s, on_answer, w, &r);
	directory_cancel(&r);
	directory_search(w->directory, &s, on_answer, w, &r);
	wait_answers(w, 2);
	atomic_store(&second->is_silent, true);
	directory_search(w->directory, &s, on_answer, w, &r);
	run_for(w, 100);
	directory_close(&w->directory);
	run_for(w, 20);
	assert_int_equal(end(&other), 0);
}

/* More than ANSWER_MOST announced, or no LDAP at all. */
static void test_hostile_answers_end_the_connection(void **state)
{
	static const struct {
		unsigned char answer[40];
		size_t len;
	} rows[] = {
		{{0x30, 0x84, 0x7f, 0xff, 0xff, 0x00, 0x65, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00}, 13},
		{"HTTP/1.1 200 OK\r\n\r\n", 19},
		{{0x30, 0x05, 0x02, 0x01, 0x00, 0x65, 0x00}, 7},
	};
	static const char *const attributes[] = {"mail", NULL};
	struct directory_search s = {.base = "dc=x", .filter = "(a=b)", .attributes = attributes};
	struct world *w = *state;
	static unsigned row;
	struct directory_request *r;

	w->answer = rows[row].answer;
	w->answer_len = rows[row].len;
	row++;
	open_directory(w);
	directory_search(w->directory, &s, on_answer, w, &r);
	wait_answers(w, 1);
	assert_int_equal(w->not_now, 1);
}

/* A program that ends does not wait for a server that does not speak, and what was being made is freed. */
static void test_the_end_does_not_wait_for_a_connection(void **state)
{
	struct world *w = *state;
	char uri[60];
	const char *uris[] = {uri, NULL};
	struct directory_options o = {.name = "silent",
		.uris = uris,
		.client = {.bind = LDAP_CLIENT_ANONYMOUS},
		.timeout_ms = 60000,
		.connect_timeout_ms = 60000,
		.health_ms = 60000,
		.connections = 1,
		.bind_connections = 1,
		.in_flight = 10};
	uint64_t begin_ms;
	struct pollfd p = {.fd = w->listener, .events = POLLIN};

	snprintf(uri, sizeof(uri), "ldap://127.0.0.1:%d", w->port);
	w->directory = directory_new(&o, w->loop, w->pool);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1); /* it has connected, and nobody answers its bind */
	begin_ms = clock_mono_ms();
	directory_close(&w->directory);
	work_pool_free(&w->pool);
	assert_in_range(clock_mono_ms() - begin_ms, 0, 5000);
	assert_int_equal(pthread_create(&w->thread, NULL, serve, w), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_end_does_not_wait_for_a_connection, begin, end),
		cmocka_unit_test_setup_teardown(test_a_full_socket_blocks_nobody, begin, end),
		cmocka_unit_test_setup_teardown(test_security_06_a_referral_is_not_followed, begin, end),
		cmocka_unit_test_setup_teardown(test_a_referral_is_followed_where_that_is_asked, begin, end),
		cmocka_unit_test_setup_teardown(test_hostile_answers_end_the_connection, begin, end),
		cmocka_unit_test_setup_teardown(test_hostile_answers_end_the_connection, begin, end),
		cmocka_unit_test_setup_teardown(test_hostile_answers_end_the_connection, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
