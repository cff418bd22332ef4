/*
 * A load generator for line protocols: many connections on one epoll loop, each going through the same script of
 * sends and expected lines, again and again. It knows no protocol; the runner writes the script. For tests and
 * benchmarks only.
 *
 *	load [options] STEP...
 *
 *	S<text>   sends text and CRLF. In it %u is the user's number in four digits, %c the connection's number, %n a
 *	          number that never comes twice, %m the message (see --size), %l its length. With --files each message is
 *	          the next of the files whose names stand in that list, a line each, as they are.
 *	E<text>   waits for a line that begins with text. A line that begins with what --fail names ends the run.
 *	B<bytes>  waits for that many bytes, whatever they are.
 *	L         what follows is repeated on the same connection (else each round is a connection of its own)
 *	H         holds: the connection stays open, idle, until the run ends
 *	T         from here on the time of a round is taken (default: from connect)
 *
 * Prints one line of JSON: rounds, rounds a second, bytes, percentiles of a round's time in ms. With --tls --resume each client
 * resumes the TLS session of its connection before; `resumed` counts how often the server let it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)
#define LINE_MOST 2000
#define STEPS_MOST 4000
#define TIMES_MOST 4000000
#define OPENING_MOST 64

struct client {
	int fd;
	SSL *ssl;
	SSL_SESSION *session; /* with --resume: what the server gave last */
	unsigned number;
	unsigned user;
	int step;
	bool is_connecting, is_handshaking, is_done, wants_write;
	char *out;
	size_t out_len, out_at;
	char line[LINE_MOST];
	size_t line_len;
	uint64_t bytes_left; /* of a B step */
	uint64_t began_us;
};

static struct {
	const char *host, *fail, *users_format, *files;
	unsigned port, conns, users, first_user, size, sources;
	long total;
	double seconds;
	bool tls, tls_resume;
	int step_count, loop_from;
	char **steps;
} opt = {.host = "127.0.0.1",
	.fail = "",
	.conns = 1,
	.users = 1,
	.first_user = 1,
	.size = 4096,
	.sources = 1,
	.loop_from = -1};

static struct text {
	char *p;
	size_t len;
} * texts; /* of --files */
static size_t text_count;

static SSL_CTX *ctx;
static int epoll_fd;
static char scratch[READ_SIZE];
static float *times_ms;
static size_t times;
static long rounds, started;
static uint64_t bytes_in, unique, failures;
static unsigned holding, active;
static bool is_over;
static uint64_t run_began_us;
static struct client *clients;
static unsigned opened;
static bool holds; /* the script has an H step */
static uint64_t resumed;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "load: %s: %s\n", what, detail);
	exit(1);
}

static void watch(struct client *c, int op)
{
	struct epoll_event ev = {.events = EPOLLIN | (c->wants_write ? EPOLLOUT : 0u), .data.ptr = c};

	if (epoll_ctl(epoll_fd, op, c->fd, &ev) < 0)
		die("epoll_ctl", strerror(errno));
}

static void connect_client(struct client *c)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || inet_pton(AF_INET, opt.host, &to.sin_addr) != 1)
		die("socket", opt.host);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (opt.sources > 1) { /* spread over 127.0.0.1 … so that ports do not run out */
		struct sockaddr_in from = {.sin_family = AF_INET};

		from.sin_addr.s_addr = htonl(0x7f000001u + c->number % opt.sources);
		setsockopt(c->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
			die("bind", strerror(errno));
	}
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		die("connect", strerror(errno));
	c->is_connecting = true;
	c->wants_write = true;
	c->step = 0;
	c->line_len = 0;
	c->began_us = now_us();
	c->user = opt.first_user + (unsigned)(started % (long)opt.users);
	started++;
	if (opt.tls) {
		c->ssl = SSL_new(ctx);
		SSL_set_app_data(c->ssl, c);
		if (c->session)
			SSL_set_session(c->ssl, c->session);
		SSL_set_fd(c->ssl, c->fd);
		SSL_set_connect_state(c->ssl);
		c->is_handshaking = true;
	}
	watch(c, EPOLL_CTL_ADD);
}

/* With TLS 1.3 it comes after the handshake, with the first data. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct client *c = SSL_get_app_data(ssl);

	SSL_SESSION_free(c->session);
	c->session = session;
	return 1;
}

static void close_client(struct client *c)
{
	if (c->ssl) {
		SSL_set_quiet_shutdown(c->ssl, 1);
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	close(c->fd);
	c->fd = -1;
	free(c->out);
	c->out = NULL;
	c->out_len = c->out_at = 0;
}

/* A message of opt.size bytes with CRLF lines, and never a line that begins with a dot. */
static size_t add_message(char *out, uint64_t n)
{
	int len;
	uint32_t seed;

	if (text_count) {
		const struct text *t = &texts[n % text_count];

		memcpy(out, t->p, t->len);
		return t->len;
	}
	len = sprintf(out,
		"From: Load <load@example.test>\r\nTo: User <user@example.test>\r\nSubject: number %llu in a "
		"row\r\n"
		"Message-ID: <%llu.%llu@load.example.test>\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n"
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
		(unsigned long long)n, (unsigned long long)n, (unsigned long long)run_began_us);
	seed = (uint32_t)n * 2654435761u + 1;
	while (len + 74 < (int)opt.size) {
		for (int i = 0; i < 70; i++) {
			seed = seed * 1664525u + 1013904223u;
			out[len++] = "etaoin shrdlu cmfwyp vbgkqj"[(seed >> 16) % 27];
		}
		out[len - 70] = 'x';
		out[len++] = '\r';
		out[len++] = '\n';
	}
	while (len + 2 < (int)opt.size)
		out[len++] = 'z';
	out[len++] = '\r';
	out[len++] = '\n';
	return (size_t)len;
}

static void queue_text(struct client *c, const char *text)
{
	size_t room = strlen(text) * 8 + opt.size + 512;
	size_t n = c->out_len;

	c->out = realloc(c->out, n + room);
	for (const char *p = text; *p; p++) {
		if (*p != '%') {
			c->out[n++] = *p;
			continue;
		}
		switch (*++p) {
		case 'u':
			n += (size_t)sprintf(c->out + n, "%04u", c->user);
			break;
		case 'c':
			n += (size_t)sprintf(c->out + n, "%u", c->number);
			break;
		case 'n':
			n += (size_t)sprintf(c->out + n, "%llu", (unsigned long long)++unique);
			break;
		case 'l':
			n += (size_t)sprintf(c->out + n, "%u", opt.size); /* every message has this length */
			break;
		case 'm':
			n += add_message(c->out + n, ++unique);
			break;
		default:
			c->out[n++] = *p;
		}
	}
	c->out[n++] = '\r';
	c->out[n++] = '\n';
	c->out_len = n;
}

static bool flush(struct client *c)
{
	while (c->out_at < c->out_len) {
		ssize_t n;

		if (c->ssl) {
			n = SSL_write(c->ssl, c->out + c->out_at, (int)(c->out_len - c->out_at));
			if (n <= 0)
				break;
		} else {
			n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
			if (n < 0)
				break;
		}
		c->out_at += (size_t)n;
	}
	if (c->out_at == c->out_len)
		c->out_at = c->out_len = 0;
	if (c->wants_write != (c->out_len > 0)) {
		c->wants_write = c->out_len > 0;
		watch(c, EPOLL_CTL_MOD);
	}
	return true;
}

static void round_is_over(struct client *c)
{
	if (times < TIMES_MOST)
		times_ms[times++] = (float)(now_us() - c->began_us) / 1000.0f;
	rounds++;
	if (opt.total && rounds >= opt.total)
		is_over = true;
}

/* Clients that hold come in one after the other, OPENING_MOST on the way at a time: a storm would measure the storm. */
static void open_next(void)
{
	if (holds && opened < opt.conns)
		connect_client(&clients[opened++]);
}

/* Goes on with the script until it must wait. False: the connection was closed. */
static bool advance(struct client *c)
{
	for (;;) {
		const char *step;

		if (c->step == opt.step_count) {
			round_is_over(c);
			if (opt.loop_from >= 0) {
				if (is_over || (opt.total && started >= opt.total)) {
					c->is_done = true;
					active--;
					return true;
				}
				c->step = opt.loop_from;
				c->began_us = now_us();
				started++;
				continue;
			}
			close_client(c);
			if (is_over || (opt.total && started >= opt.total)) {
				c->is_done = true;
				active--;
				return false;
			}
			connect_client(c);
			return false;
		}
		step = opt.steps[c->step];
		switch (step[0]) {
		case 'S':
			queue_text(c, step + 1);
			break;
		case 'L':
			break;
		case 'T':
			c->began_us = now_us();
			break;
		case 'H':
			c->is_done = true;
			holding++;
			active--;
			flush(c);
			open_next();
			return true;
		case 'B':
			if (!c->bytes_left)
				c->bytes_left = strtoull(step + 1, NULL, 10);
			flush(c);
			return true;
		default:
			flush(c);
			return true;
		}
		c->step++;
	}
}

/* Takes received bytes through the script. False: the connection was closed. */
static bool take(struct client *c, const char *p, size_t len)
{
	bytes_in += len;
	while (len && !c->is_done) {
		const char *want = opt.steps[c->step];
		const char *end;
		size_t n;

		if (want[0] == 'B') {
			n = len < c->bytes_left ? len : (size_t)c->bytes_left;
			c->bytes_left -= n;
			p += n;
			len -= n;
			if (c->bytes_left == 0) {
				c->step++;
				if (!advance(c))
					return false;
			}
			continue;
		}
		end = memchr(p, '\n', len);
		n = end ? (size_t)(end - p) + 1 : len;
		if (c->line_len < LINE_MOST - 1) {
			size_t keep = n < LINE_MOST - 1 - c->line_len ? n : LINE_MOST - 1 - c->line_len;

			memcpy(c->line + c->line_len, p, keep);
			c->line_len += keep;
		}
		p += n;
		len -= n;
		if (!end)
			break;
		c->line[c->line_len] = '\0';
		c->line_len = 0;
		if (*opt.fail && strstr(opt.fail, "|") == NULL &&
			strncmp(c->line, opt.fail, strlen(opt.fail)) == 0)
			die("answer", c->line);
		if (strncmp(c->line, want + 1, strlen(want + 1)) == 0) {
			c->step++;
			if (!advance(c))
				return false;
		}
	}
	return true;
}

static void handshake(struct client *c)
{
	int r = SSL_do_handshake(c->ssl);

	if (r == 1) {
		c->is_handshaking = false;
		c->wants_write = false;
		resumed += (uint64_t)SSL_session_reused(c->ssl);
		watch(c, EPOLL_CTL_MOD);
		advance(c);
		return;
	}
	r = SSL_get_error(c->ssl, r);
	if (r != SSL_ERROR_WANT_READ && r != SSL_ERROR_WANT_WRITE)
		die("TLS handshake", ERR_reason_error_string(ERR_peek_last_error()));
	if (c->wants_write != (r == SSL_ERROR_WANT_WRITE)) {
		c->wants_write = r == SSL_ERROR_WANT_WRITE;
		watch(c, EPOLL_CTL_MOD);
	}
}

static void on_ready(struct client *c, uint32_t events)
{
	if (c->is_connecting) {
		int err = 0;
		socklen_t len = sizeof(err);

		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			die("connect", strerror(err));
		if (!(events & EPOLLOUT))
			return;
		c->is_connecting = false;
		if (!c->ssl) {
			c->wants_write = false;
			watch(c, EPOLL_CTL_MOD);
			advance(c);
		}
	}
	if (c->is_handshaking) {
		handshake(c);
		if (c->is_handshaking)
			return;
	}
	if (c->out_len)
		flush(c);
	for (;;) {
		ssize_t n = c->ssl ? SSL_read(c->ssl, scratch, sizeof(scratch))
				   : recv(c->fd, scratch, sizeof(scratch), 0);

		if (n > 0) {
			if (!take(c, scratch, (size_t)n))
				return;
			if (!c->ssl && n < (ssize_t)sizeof(scratch))
				return;
			continue;
		}
		if (c->ssl ? SSL_get_error(c->ssl, (int)n) == SSL_ERROR_WANT_READ
			   : (n < 0 && errno == EAGAIN))
			return;
		if (is_over || c->is_done) {
			close_client(c);
			return;
		}
		failures++;
		die("connection closed", opt.steps[c->step]);
	}
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static double percentile(double p)
{
	return times ? (double)times_ms[(size_t)((double)(times - 1) * p)] : 0;
}

/* The files of the list, each whole; opt.size becomes the largest. */
static void read_files(const char *list)
{
	FILE *names = fopen(list, "r");
	char name[LINE_MOST];

	if (!names)
		die("files", list);
	while (fgets(name, sizeof(name), names)) {
		FILE *f;
		struct text t = {malloc(opt.size + 1), 0};
		size_t room = opt.size;

		name[strcspn(name, "\n")] = 0;
		f = fopen(name, "r");
		if (!f)
			die("files", name);
		for (size_t n; (n = fread(t.p + t.len, 1, room - t.len, f)) > 0;) {
			t.len += n;
			if (t.len == room)
				t.p = realloc(t.p, room *= 2);
		}
		fclose(f);
		if (t.len > opt.size)
			opt.size = (unsigned)t.len;
		texts = realloc(texts, sizeof(*texts) * (text_count + 1));
		texts[text_count++] = t;
	}
	fclose(names);
}

static void read_options(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"conns", 1, 0, 'c'},
		{"users", 1, 0, 'u'}, {"first-user", 1, 0, 'f'}, {"size", 1, 0, 's'}, {"total", 1, 0, 'n'},
		{"seconds", 1, 0, 't'}, {"tls", 0, 0, 'T'}, {"fail", 1, 0, 'F'}, {"sources", 1, 0, 'o'},
		{"resume", 0, 0, 'R'}, {"files", 1, 0, 'i'}, {0}};
	int o;

	while ((o = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		switch (o) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			opt.conns = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'u':
			opt.users = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'f':
			opt.first_user = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			opt.size = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			opt.total = strtol(optarg, NULL, 10);
			break;
		case 't':
			opt.seconds = strtod(optarg, NULL);
			break;
		case 'T':
			opt.tls = true;
			break;
		case 'R':
			opt.tls_resume = true;
			break;
		case 'F':
			opt.fail = optarg;
			break;
		case 'i':
			opt.files = optarg;
			break;
		case 'o':
			opt.sources = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			exit(64);
		}
	}
	opt.steps = argv + optind;
	opt.step_count = argc - optind;
	if (opt.step_count < 1 || opt.step_count > STEPS_MOST || !opt.port ||
		opt.size > 8 * 1024 * 1024 - 4096)
		die("usage", "load [options] STEP... (see the head of load.c)");
	for (int i = 0; i < opt.step_count; i++) {
		if (opt.steps[i][0] == 'L')
			opt.loop_from = i + 1;
		if (opt.steps[i][0] == 'H')
			holds = true;
	}
}

int main(int argc, char **argv)
{
	struct rlimit files = {20000, 20000};
	double elapsed;

	read_options(argc, argv);
	if (opt.files)
		read_files(opt.files);
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	times_ms = malloc(sizeof(*times_ms) * TIMES_MOST);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (opt.tls) {
		ctx = SSL_CTX_new(TLS_client_method());
		SSL_CTX_set_session_cache_mode(
			ctx, opt.tls_resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
					    : SSL_SESS_CACHE_OFF);
		if (opt.tls_resume)
			SSL_CTX_sess_set_new_cb(ctx, on_session);
		SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	}
	clients = calloc(opt.conns, sizeof(*clients));
	run_began_us = now_us();
	active = opt.conns;
	for (unsigned i = 0; i < opt.conns; i++)
		clients[i].number = i;
	while (opened < opt.conns && !(holds && opened >= OPENING_MOST)) {
		unsigned i = opened;

		connect_client(&clients[opened++]);
		/* a storm of SYNs would only test the backlog: let each batch be answered */
		if (i % 64 == 63) {
			struct epoll_event evs[64];
			int n = epoll_wait(epoll_fd, evs, 64, 1);

			for (int k = 0; k < n; k++)
				on_ready(evs[k].data.ptr, evs[k].events);
		}
	}
	while (active > 0 && !(is_over && opt.loop_from < 0 && opt.total == 0)) {
		struct epoll_event evs[256];
		int n = epoll_wait(epoll_fd, evs, 256, 100);

		for (int k = 0; k < n; k++)
			on_ready(evs[k].data.ptr, evs[k].events);
		if (opt.seconds > 0 && (double)(now_us() - run_began_us) / 1e6 >= opt.seconds)
			break;
		if (opt.total && rounds >= opt.total)
			break;
	}
	elapsed = (double)(now_us() - run_began_us) / 1e6;
	qsort(times_ms, times, sizeof(*times_ms), by_value);
	printf("{\"rounds\": %ld, \"per_second\": %.1f, \"seconds\": %.3f, \"bytes\": %llu, \"holding\": %u, "
	       "\"resumed\": %llu, "
	       "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n",
		rounds, (double)rounds / elapsed, elapsed, (unsigned long long)bytes_in, holding,
		(unsigned long long)resumed, percentile(0.5), percentile(0.99), percentile(1.0));
	fflush(stdout);
	if (holding) { /* until standard input ends */
		char c;

		while (read(0, &c, 1) > 0)
			;
	}
	return 0;
}
