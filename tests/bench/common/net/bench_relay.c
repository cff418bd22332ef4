/*
 * What the relay costs by itself, without a mail protocol in front of it. The relay runs in a process of its own (a child),
 * which accepts, dials and joins; the parent plays the clients and the server, with blocking sockets.
 *
 *	bench_relay idle plain|tls N      memory (PSS) per idle relayed pair, after N of them
 *	bench_relay bulk plain|tls MB     CPU seconds per GB (2^30) from the server to one client, and the rate
 *	bench_relay small plain|tls N     CPU per connection that is accepted, dialled, relayed for 4 round trips, and closed;
 *	                                  with TLS a full handshake each
 *
 * TLS is between client and relay; the way to the server is plain. CPU is that of the child alone.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "common/base/num.h"
#include "common/net/dial.h"
#include "common/net/listener.h"
#include "common/net/relay.h"
#include "tests/unit/common/net/net_test.h"

static struct addr server_addr;

static void fail_now(const char *what)
{
	fprintf(stderr, "bench_relay: %s: %s\n", what, strerror(errno));
	exit(70);
}

/* ---- the child ---- */

struct session {
	struct conn *client, *server;
	bool is_client_ready, is_server_ready;
};

static void on_relay_end(void *arg, const struct relay_end *end)
{
	(void)end;
	free(arg);
}

static void on_session(void *owner, struct conn *conn, enum conn_event event)
{
	struct session *s = owner;
	struct relay *relay;

	if (event == CONN_FAILED || event == CONN_EOF) {
		conn_close(&s->client);
		conn_close(&s->server);
		free(s);
		return;
	}
	if (event == CONN_OPENED && conn == s->client)
		s->is_client_ready = true;
	if (event == CONN_OPENED && conn == s->server)
		s->is_server_ready = true;
	if (s->is_client_ready && s->is_server_ready &&
		relay_start(&s->client, &s->server, 3600000, on_relay_end, s, &relay) != 0)
		fail_now("relay");
}

static void on_accept(void *arg, struct conn *conn)
{
	char host[ADDR_TEXT_MAX];
	struct dial_options options = {
		.host = addr_host(&server_addr, host), .port = addr_port(&server_addr), .timeout_ms = 10000};
	struct session *s = xcalloc(1, sizeof(*s));

	s->client = conn;
	s->is_client_ready = arg == NULL; /* no TLS: no CONN_OPENED */
	conn_set_owner(conn, on_session, s);
	if (dial(conn_loop(conn), &options, on_session, s, &s->server) != 0)
		fail_now("dial");
}

static void run_child(bool is_tls, int report)
{
	struct listener_options options = {
		.name = "bench", .tls = is_tls ? tls_test_server(NULL) : NULL, .backlog = 4096};
	struct listener *listener;
	struct buf why = {0};
	struct loop *loop;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&loop) != 0 || addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr) != 0 ||
		listener_open_on(loop, &options, on_accept, options.tls, &why, &listener) != 0)
		fail_now("listen");
	if (write(report, listener_addr(listener), sizeof(struct addr)) < 0)
		fail_now("report");
	loop_run(loop);
	exit(0);
}

/* ---- the parent ---- */

static struct addr relay_addr;
static pid_t child;
static int server_fd;

static void start(bool is_tls)
{
	struct rlimit limit;
	int fds[2];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	if (addr_parse(SLICE_LIT("127.0.0.1"), 0, &server_addr) != 0)
		fail_now("address");
	server_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server_fd, (struct sockaddr *)&server_addr.ss, server_addr.len) != 0 ||
		listen(server_fd, 4096) != 0)
		fail_now("listen");
	getsockname(server_fd, (struct sockaddr *)&server_addr.ss, &server_addr.len);
	if (pipe(fds) != 0)
		fail_now("pipe");
	child = fork();
	if (child == 0)
		run_child(is_tls, fds[1]);
	if (read(fds[0], &relay_addr, sizeof(relay_addr)) != sizeof(relay_addr))
		fail_now("the child");
}

static double cpu_of_child(void)
{
	struct timespec t;
	clockid_t id;

	clock_getcpuclockid(child, &id);
	clock_gettime(id, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long pss_of_child(void)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", child);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pss: %ld kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static int connect_client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&relay_addr.ss, relay_addr.len) != 0)
		fail_now("connect");
	return fd;
}

static int accept_server(void)
{
	int fd = accept(server_fd, NULL, NULL);

	if (fd < 0)
		fail_now("accept");
	return fd;
}

static SSL_CTX *client_context;

static SSL *secure(int fd)
{
	SSL *ssl;

	if (!client_context)
		client_context = SSL_CTX_new(TLS_client_method());
	ssl = SSL_new(client_context);
	SSL_set_fd(ssl, fd);
	if (SSL_connect(ssl) != 1)
		fail_now("handshake");
	return ssl;
}

static void read_exactly(int fd, SSL *ssl, char *p, size_t len)
{
	while (len) {
		ssize_t n = ssl ? SSL_read(ssl, p, (int)len) : read(fd, p, len);

		if (n <= 0)
			fail_now("reading");
		p += n;
		len -= (size_t)n;
	}
}

static void write_exactly(int fd, SSL *ssl, const char *p, size_t len)
{
	ssize_t n = ssl ? SSL_write(ssl, p, (int)len) : write(fd, p, len);

	if (n != (ssize_t)len)
		fail_now("writing");
}

/* One word there and one back through the relay, so that all is set up. */
static void greet(int client, SSL *ssl, int server)
{
	char text[64];

	write_exactly(client, ssl, "a1 NOOP\r\n", 9);
	read_exactly(server, NULL, text, 9);
	write_exactly(server, NULL, "a1 OK\r\n", 7);
	read_exactly(client, ssl, text, 7);
}

static void measure_idle(bool is_tls, unsigned count)
{
	unsigned warm = 50; /* the first ones pay for what all share */
	long before = 0;

	for (unsigned i = 0; i < count + warm; i++) {
		int client = connect_client();
		SSL *ssl = is_tls ? secure(client) : NULL;

		greet(client, ssl, accept_server());
		if (i + 1 == warm)
			before = pss_of_child();
		if (ssl && i)
			SSL_free(ssl); /* the socket stays open */
	}
	printf("idle %s: %.2f KiB per relayed pair (%u pairs)\n", is_tls ? "tls" : "plain",
		(double)(pss_of_child() - before) / count, count);
}

static uint64_t bulk_bytes;

static void *send_bulk(void *arg)
{
	static char block[256 * 1024];
	int fd = *(int *)arg;

	for (uint64_t left = bulk_bytes; left;) {
		ssize_t n = write(fd, block, left < sizeof(block) ? left : sizeof(block));

		if (n <= 0)
			fail_now("sending");
		left -= (uint64_t)n;
	}
	return NULL;
}

static void measure_bulk(bool is_tls, unsigned megabytes)
{
	static char block[256 * 1024];
	int client = connect_client();
	SSL *ssl = is_tls ? secure(client) : NULL;
	int server = accept_server();
	double cpu, wall, gigabytes;
	pthread_t thread;

	bulk_bytes = (uint64_t)megabytes << 20;
	gigabytes = (double)bulk_bytes / (1u << 30);
	greet(client, ssl, server);
	cpu = cpu_of_child();
	wall = now();
	pthread_create(&thread, NULL, send_bulk, &server);
	for (uint64_t left = bulk_bytes; left;) {
		size_t size = left < sizeof(block) ? left : sizeof(block);
		ssize_t n = ssl ? SSL_read(ssl, block, (int)size) : recv(client, block, size, MSG_TRUNC);

		if (n <= 0)
			fail_now("receiving");
		left -= (uint64_t)n;
	}
	wall = now() - wall;
	cpu = cpu_of_child() - cpu;
	pthread_join(thread, NULL);
	printf("bulk %s: %.3f CPU-s/GB, %.0f MB/s\n", is_tls ? "tls" : "plain", cpu / gigabytes,
		(double)megabytes / wall);
}

static void measure_small(bool is_tls, unsigned count)
{
	double cpu, wall;

	cpu = cpu_of_child();
	wall = now();
	for (unsigned i = 0; i < count; i++) {
		int client = connect_client();
		SSL *ssl = is_tls ? secure(client) : NULL;
		int server = accept_server();

		for (int trip = 0; trip < 4; trip++)
			greet(client, ssl, server);
		SSL_free(ssl);
		close(client);
		close(server);
	}
	wall = now() - wall;
	cpu = cpu_of_child() - cpu;
	printf("small %s: %.4f ms CPU a connection, %.0f a second\n", is_tls ? "tls" : "plain",
		cpu * 1000 / count, count / wall);
}

int main(int argc, char **argv)
{
	bool is_tls = argc > 2 && strcmp(argv[2], "tls") == 0;
	uint32_t n = 0;

	if (argc != 4 || num_parse_u32(slice_str(argv[3]), &n) != 0 || n == 0) {
		fprintf(stderr, "usage: bench_relay idle|bulk|small plain|tls N\n");
		return 64;
	}
	if (is_tls)
		certs_make(NULL);
	start(is_tls);
	if (strcmp(argv[1], "idle") == 0)
		measure_idle(is_tls, n);
	else if (strcmp(argv[1], "bulk") == 0)
		measure_bulk(is_tls, n);
	else
		measure_small(is_tls, n);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (is_tls)
		certs_remove(NULL);
	return 0;
}
