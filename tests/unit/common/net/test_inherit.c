/* Sockets that another program gave: matched by address, taken by listeners, held back, let go; and a queue that nobody may enter. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/un.h>

#include "net_test.h"

#include "common/net/inherit.h"
#include "common/net/listener.h"

static struct loop *loop;

static int setup(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int teardown(void **state)
{
	(void)state;
	inherit_close();
	loop_free(&loop);
	return 0;
}

/* A socket that listens at this address (port 0: any), as another loop's of an old program would. */
static int listening(const char *host, uint16_t port, struct addr *addr_out)
{
	struct addr addr;
	int fd, one = 1;

	assert_int_equal(addr_parse(slice_str(host), port, &addr), 0);
	fd = socket(addr.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr.ss, addr.len), 0);
	assert_int_equal(listen(fd, 16), 0);
	addr.len = sizeof(addr.ss);
	getsockname(fd, (struct sockaddr *)&addr.ss, &addr.len);
	*addr_out = addr;
	return fd;
}

static int client(const struct addr *addr)
{
	int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)&addr->ss, addr->len), 0);
	return fd;
}

static unsigned accepted;

static void on_accept(void *arg, struct conn *conn_take)
{
	(void)arg;
	accepted++;
	conn_close(&conn_take);
}

static void test_sockets_are_told_by_their_address(void **state)
{
	struct addr a, b, other;
	int fd = listening("127.0.0.1", 0, &a), one;

	(void)state;
	assert_int_equal(inherit_add_take(fd), 0);
	assert_int_equal(inherit_add_take(listening("127.0.0.1", addr_port(&a), &a)), 0);
	assert_int_equal(inherit_add_take(listening("127.0.0.1", 0, &b)), 0);
	assert_int_equal(inherit_count(&a), 2);
	assert_int_equal(inherit_count(&b), 1);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.2"), addr_port(&a), &other), 0);
	assert_int_equal(inherit_count(&other), 0);
	assert_int_equal(addr_parse(SLICE_LIT("::"), addr_port(&a), &other), 0);
	assert_int_equal(inherit_count(&other), 0);
	assert_int_equal(inherit_take_give(&other), -1);
	one = inherit_take_give(&a);
	assert_int_equal(one, fd);
	close(one);
	assert_int_equal(inherit_count(&a), 1);
	assert_non_null(inherit_rest(1));
	assert_null(inherit_rest(2));
	inherit_close();
	assert_null(inherit_rest(0));
	assert_int_equal(inherit_count(&a), 0);
}

static void test_a_unix_socket_is_told_by_its_path(void **state)
{
	char folder[] = "/tmp/mt-inherit-XXXXXX", path[64];
	struct addr a, same;
	struct listener_options options = {.name = "test", .unix_mode = 0600};
	struct listener *l;
	struct buf why = {0};
	int fd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s", folder);
	fd = listening(path, 0, &a);
	assert_int_equal(inherit_add_take(fd), 0);
	assert_int_equal(addr_parse(slice_str(path), 0, &same), 0);
	assert_int_equal(inherit_count(&same), 1);
	options.addr = same;
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &l), 0);
	assert_int_equal(inherit_count(&same), 0);
	/* Released, the path stays: it is another program's. */
	listener_release(l);
	listener_close(&l);
	run_short(loop);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	rmdir(folder);
}

static void test_what_listens_not_is_refused(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), file = dup(0);

	(void)state;
	assert_int_equal(inherit_add_take(fd), ERR_SYNTAX);
	assert_int_equal(inherit_add_take(file), ERR_SYNTAX);
	assert_null(inherit_rest(0));
}

/* Three sockets come, one loop is there: whatever queue a client stands in, he is accepted; but not before the beginning. */
static void test_a_listener_takes_all_sockets_of_its_address(void **state)
{
	struct listener_options options = {.name = "test"};
	struct listener *l;
	struct buf why = {0};
	int clients[12];

	(void)state;
	accepted = 0;
	assert_int_equal(inherit_add_take(listening("127.0.0.1", 0, &options.addr)), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			inherit_add_take(listening("127.0.0.1", addr_port(&options.addr), &options.addr)), 0);
	listener_hold_all();
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &l), 0);
	assert_null(inherit_rest(0));
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		clients[i] = client(&options.addr);
	for (int i = 0; i < 5; i++)
		run_short(loop);
	assert_int_equal(accepted, 0);
	listener_begin_all();
	RUN_UNTIL(loop, accepted == ARRAY_LEN(clients));
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
	listener_close(&l);
	run_short(loop);
}

static atomic_uint shared;

static void on_shared(void *arg, struct conn *conn_take)
{
	(void)arg;
	shared++;
	conn_close(&conn_take);
}

static void count_socket(void *arg, const struct addr *addr, int fd)
{
	(void)addr;
	(void)fd;
	++*(unsigned *)arg;
}

/* One socket comes for three loops, and no second may be bound (it was not shared): they take turns at its queue. */
static void test_loops_share_a_socket_that_has_no_second(void **state)
{
	struct listener_options options = {.name = "test"};
	struct loop_group *group;
	struct listener *l;
	struct buf why = {0};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unsigned count = 0;
	int clients[12];

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 16), 0);
	getsockname(fd, (struct sockaddr *)&in, &len);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), ntohs(in.sin_port), &options.addr), 0);
	assert_int_equal(inherit_add_take(fd), 0);
	assert_int_equal(loop_group_start(3, &group), 0);
	shared = 0;
	assert_int_equal(listener_open(group, &options, on_shared, NULL, &why, &l), 0);
	listener_each_socket(count_socket, &count);
	assert_int_equal(count, 3);
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		clients[i] = client(&options.addr);
	for (int i = 0; i < 500 && shared < ARRAY_LEN(clients); i++)
		usleep(10000);
	assert_int_equal(shared, ARRAY_LEN(clients));
	for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
	listener_close(&l);
	loop_group_stop(&group);
}

static bool keeps_port(void *arg, const struct addr *addr)
{
	return addr_port(addr) == *(uint16_t *)arg;
}

/* Released sockets live on elsewhere with their queues; kept ones go on. */
static void test_released_sockets_keep_their_queues(void **state)
{
	struct listener_options options = {.name = "test"};
	struct listener *gone, *kept;
	struct buf why = {0};
	struct addr a, b;
	unsigned count = 0;
	uint16_t port;
	int fd, copy, waits, fresh;

	(void)state;
	accepted = 0;
	fd = listening("127.0.0.1", 0, &a);
	copy = dup(fd);
	assert_int_equal(inherit_add_take(fd), 0);
	options.addr = a;
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &gone), 0);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &kept), 0);
	b = *listener_addr(kept);
	port = addr_port(&b);
	listener_each_socket(count_socket, &count);
	assert_int_equal(count, 2);
	waits = client(&a);
	listener_release_all(keeps_port, &port);
	run_short(loop);
	assert_int_equal(accepted, 0);
	fd = accept(copy, NULL, NULL);
	assert_true(fd >= 0);
	fresh = client(&b);
	RUN_UNTIL(loop, accepted == 1);
	count = 0;
	listener_each_socket(count_socket, &count);
	assert_int_equal(count, 1);
	close(fd);
	close(fresh);
	close(waits);
	close(copy);
	listener_close(&gone);
	listener_close(&kept);
	run_short(loop);
}

/* Who stands in the queue is taken; who comes now gets no answer, neither yes nor no. */
static void test_a_refusing_listener_takes_its_queue_alone(void **state)
{
	struct listener_options options = {.name = "test"};
	struct timeval short_wait = {.tv_usec = 200000};
	struct listener *l;
	struct buf why = {0};
	struct addr addr;
	int before, after;

	(void)state;
	accepted = 0;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, on_accept, NULL, &why, &l), 0);
	addr = *listener_addr(l);
	before = client(&addr);
	listener_refuse(l);
	after = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(after, SOL_SOCKET, SO_SNDTIMEO, &short_wait, sizeof(short_wait));
	assert_int_equal(connect(after, (struct sockaddr *)&addr.ss, addr.len), -1);
	assert_true(errno == EINPROGRESS || errno == EAGAIN);
	RUN_UNTIL(loop, accepted == 1);
	listener_stop(l);
	run_short(loop);
	close(after);
	after = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(after, (struct sockaddr *)&addr.ss, addr.len), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(after);
	close(before);
	listener_close(&l);
	run_short(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sockets_are_told_by_their_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_unix_socket_is_told_by_its_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_listens_not_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_listener_takes_all_sockets_of_its_address, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_loops_share_a_socket_that_has_no_second, setup, teardown),
		cmocka_unit_test_setup_teardown(test_released_sockets_keep_their_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_refusing_listener_takes_its_queue_alone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
