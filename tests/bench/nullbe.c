/*
 * A null back-end: IMAP on one port, POP3 on the next, every login right, every answer at the least cost, so that the
 * proxy before it is what a benchmark measures. For benchmarks only.
 *
 *	nullbe HOST PORT [MIB]     FETCH and RETR answer with one message of MIB mebibytes (64)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BULK_CHUNK (1024 * 1024)

struct peer {
	int fd; /* of a listener: is_listener */
	bool is_listener, is_imap, wants_write;
	char line[2048];
	size_t line_len;
	uint64_t bulk_left;
	char after_bulk[128]; /* sent when the bulk is through */
};

static int epoll_fd;
static uint64_t bulk_bytes = 64ull << 20;
static char bulk[BULK_CHUNK];

static void watch(struct peer *p, int op)
{
	struct epoll_event ev = {.events = EPOLLIN | (p->wants_write ? EPOLLOUT : 0u), .data.ptr = p};

	epoll_ctl(epoll_fd, op, p->fd, &ev);
}

static void drop(struct peer *p)
{
	close(p->fd);
	free(p);
}

static void say(struct peer *p, const char *text)
{
	ssize_t n = send(p->fd, text, strlen(text), MSG_NOSIGNAL);

	(void)n; /* short answers into an empty socket */
}

/* Sends on while the socket takes it. */
static void push_bulk(struct peer *p)
{
	while (p->bulk_left) {
		size_t want = p->bulk_left < BULK_CHUNK ? (size_t)p->bulk_left : BULK_CHUNK;
		ssize_t n = send(p->fd, bulk, want, MSG_NOSIGNAL);

		if (n < 0)
			break;
		p->bulk_left -= (uint64_t)n;
	}
	if (p->wants_write != (p->bulk_left > 0)) {
		p->wants_write = p->bulk_left > 0;
		watch(p, EPOLL_CTL_MOD);
	}
	if (p->bulk_left == 0)
		say(p, p->after_bulk);
}

static bool answer_imap(struct peer *p, char *line)
{
	char out[512];
	char *command = strchr(line, ' ');
	const char *tag = line;

	if (!command)
		return true;
	*command++ = '\0';
	if (strncasecmp(command, "LOGOUT", 6) == 0) {
		snprintf(out, sizeof(out), "* BYE\r\n%.60s OK done\r\n", tag);
		say(p, out);
		return false;
	}
	if (strncasecmp(command, "ID", 2) == 0)
		snprintf(out, sizeof(out), "* ID NIL\r\n%.60s OK done\r\n", tag);
	else if (strncasecmp(command, "CAPABILITY", 10) == 0)
		snprintf(out, sizeof(out),
			"* CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN IDLE\r\n%.60s OK done\r\n", tag);
	else if (strncasecmp(command, "LOGIN", 5) == 0 || strncasecmp(command, "AUTH", 4) == 0)
		snprintf(out, sizeof(out), "%.60s OK [CAPABILITY IMAP4rev1 IDLE NAMESPACE] in\r\n", tag);
	else if (strncasecmp(command, "FETCH", 5) == 0) {
		snprintf(out, sizeof(out), "* 1 FETCH (BODY[] {%llu}\r\n", (unsigned long long)bulk_bytes);
		snprintf(p->after_bulk, sizeof(p->after_bulk), ")\r\n%.60s OK done\r\n", tag);
		say(p, out);
		p->bulk_left = bulk_bytes;
		push_bulk(p);
		return true;
	} else
		snprintf(out, sizeof(out), "%.60s OK done\r\n", tag);
	say(p, out);
	return true;
}

static bool answer_pop3(struct peer *p, const char *line)
{
	if (strncasecmp(line, "CAPA", 4) == 0) {
		say(p, "+OK\r\nUSER\r\nSASL PLAIN\r\nPIPELINING\r\n.\r\n");
		return true;
	}
	say(p, "+OK\r\n");
	if (strncasecmp(line, "RETR", 4) == 0) {
		snprintf(p->after_bulk, sizeof(p->after_bulk), "\r\n.\r\n");
		p->bulk_left = bulk_bytes;
		push_bulk(p);
	}
	return strncasecmp(line, "QUIT", 4) != 0;
}

static void on_input(struct peer *p)
{
	char in[8192];
	ssize_t n = recv(p->fd, in, sizeof(in), 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(p);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (in[i] != '\n') {
			if (p->line_len < sizeof(p->line) - 1)
				p->line[p->line_len++] = in[i];
			continue;
		}
		if (p->line_len && p->line[p->line_len - 1] == '\r')
			p->line_len--;
		if (p->is_imap && p->line_len && p->line[p->line_len - 1] == '}') {
			/* a literal: nginx logs in with them; its text goes on the line */
			say(p, "+ go on\r\n");
			continue;
		}
		p->line[p->line_len] = '\0';
		p->line_len = 0;
		if (!(p->is_imap ? answer_imap(p, p->line) : answer_pop3(p, p->line))) {
			drop(p);
			return;
		}
	}
}

static void on_accept(struct peer *listener)
{
	int one = 1;

	for (;;) {
		struct peer *p;
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		p = calloc(1, sizeof(*p));
		p->fd = fd;
		p->is_imap = listener->is_imap;
		watch(p, EPOLL_CTL_ADD);
		say(p, p->is_imap ? "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] null\r\n"
				  : "+OK null\r\n");
	}
}

static void listen_on(const char *host, unsigned port, bool is_imap)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct peer *p = calloc(1, sizeof(*p));
	int one = 1;

	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	p->is_listener = true;
	p->is_imap = is_imap;
	setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (inet_pton(AF_INET, host, &at.sin_addr) != 1 ||
		bind(p->fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(p->fd, 4096) < 0) {
		fprintf(stderr, "nullbe: %s:%u: %s\n", host, port, strerror(errno));
		exit(1);
	}
	watch(p, EPOLL_CTL_ADD);
}

int main(int argc, char **argv)
{
	struct rlimit files = {20000, 20000};
	unsigned port;

	if (argc < 3) {
		fprintf(stderr, "usage: nullbe HOST PORT [MIB]\n");
		return 64;
	}
	if (argc > 3)
		bulk_bytes = strtoull(argv[3], NULL, 10) << 20;
	setrlimit(RLIMIT_NOFILE, &files);
	memset(bulk, 'x', sizeof(bulk));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	port = (unsigned)strtoul(argv[2], NULL, 10);
	listen_on(argv[1], port, true);
	listen_on(argv[1], port + 1, false);
	for (;;) {
		struct epoll_event evs[256];
		int n = epoll_wait(epoll_fd, evs, 256, -1);

		for (int i = 0; i < n; i++) {
			struct peer *p = evs[i].data.ptr;

			if (p->is_listener)
				on_accept(p);
			else if (evs[i].events & EPOLLOUT)
				push_bulk(p);
			else
				on_input(p);
		}
	}
}
