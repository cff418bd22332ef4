/*
 * The struct, its messages, and what a program sees of those before it. Programs that have retired are watched by their
 * connections: the end of one is the end of the other. A later hand-over passes the connections on.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/control/handover_internal.h"
#include "common/control/notify.h"

/* ---- messages ---- */

int handover_send(int fd, const int *fds, size_t count, const char *format, ...)
{
	union {
		char bytes[CMSG_SPACE(HANDOVER_FDS_MOST * sizeof(int))];
		struct cmsghdr align;
	} room;
	struct buf text = {0};
	struct iovec iov;
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	va_list args;
	ssize_t n;

	require(count <= HANDOVER_FDS_MOST);
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	iov = (struct iovec){text.data, buf_len(&text)};
	if (count) {
		struct cmsghdr *c;

		memset(&room, 0, sizeof(room));
		message.msg_control = room.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	n = n < 0 ? error_from_errno(errno) : 0;
	buf_deinit(&text);
	return (int)n;
}

int handover_receive(int fd, char text[HANDOVER_MESSAGE_MOST], int fds[HANDOVER_FDS_MOST], size_t *count_out)
{
	union {
		char bytes[CMSG_SPACE(HANDOVER_FDS_MOST * sizeof(int))];
		struct cmsghdr align;
	} room;
	struct iovec iov = {text, HANDOVER_MESSAGE_MOST - 1};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes)};
	size_t count = 0;
	ssize_t n;

	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? ERR_NOT_NOW : 0;
	text[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds + count, CMSG_DATA(c), bytes);
		count += bytes / sizeof(int);
	}
	*count_out = count;
	return n > 0 ? 1 : 0;
}

struct slice handover_word(struct slice *rest)
{
	ptrdiff_t end = slice_find(*rest, ' ');
	struct slice word = slice_sub(*rest, 0, end < 0 ? rest->len : (size_t)end);

	*rest = slice_from(*rest, end < 0 ? rest->len : (size_t)end + 1);
	return word;
}

/* ---- those before us ---- */

static void count_predecessors(struct handover *h)
{
	int64_t count = 0, sessions = 0;

	list_for_each (at, &h->predecessors) {
		count++;
		sessions += container_of(at, struct predecessor, link)->sessions;
	}
	metric_set(h->predecessors_gauge, count);
	metric_set(h->sessions_gauge, sessions);
}

void handover_predecessor_free(struct predecessor *p)
{
	list_remove(&p->link);
	loop_watch_stop(&p->watch);
	close(p->fd);
	free(p);
}

static void on_predecessor(void *arg, int ready)
{
	struct predecessor *p = arg;
	struct handover *h = p->handover;
	char text[HANDOVER_MESSAGE_MOST];
	int fds[HANDOVER_FDS_MOST];
	size_t count;
	int rc;

	(void)ready;
	while ((rc = handover_receive(p->fd, text, fds, &count)) == 1) {
		struct slice rest = slice_str(text), word = handover_word(&rest);
		uint64_t sessions;

		for (size_t i = 0; i < count; i++) /* it has nothing to give any more */
			close(fds[i]);
		if (slice_is_str(word, "sessions") && num_parse_u64(rest, &sessions) == 0)
			p->sessions = (int64_t)sessions;
		else if (slice_is_str(word, "main"))
			p->is_main_due = false;
	}
	if (rc == 0) {
		if (p->is_main_due) /* it died before it could */
			handover_claim();
		log_info(h->options.area, "the old program has ended pid=%d", (int)p->pid);
		handover_predecessor_free(p);
	}
	count_predecessors(h);
}

void handover_claim(void)
{
	char lines[80];

	snprintf(lines, sizeof(lines), "MAINPID=%d\nREADY=1", (int)getpid());
	notify_send(lines);
}

void handover_watch(struct predecessor *p)
{
	if (loop_watch_start(p->handover->options.loop, p->fd, LOOP_READABLE, on_predecessor, p, &p->watch) !=
		0)
		log_warn(p->handover->options.area, "an old program cannot be watched pid=%d", (int)p->pid);
	count_predecessors(p->handover);
}

/* ---- the program ---- */

/* As it was called, if by a path: a link to the version in use stays one. */
static char *program_path(const char *name)
{
	char path[4096];
	ssize_t n;

	if (strchr(name, '/')) {
		struct buf whole = {0};
		char *text;

		if (name[0] != '/' && getcwd(path, sizeof(path)))
			buf_printf(&whole, "%s/", path);
		buf_add_str(&whole, name);
		text = xstrdup(buf_str_view(&whole));
		buf_deinit(&whole);
		return text;
	}
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	return n > 0 ? xmemdup0(path, (size_t)n) : xstrdup(name);
}

void handover_early_signals(sigset_t *signals_out)
{
	sigemptyset(signals_out);
	sigaddset(signals_out, SIGHUP);
	sigaddset(signals_out, SIGUSR2);
}

struct handover *handover_new(int argc, char **argv)
{
	struct handover *h = xcalloc(1, sizeof(*h));
	sigset_t early;

	(void)argc;
	handover_early_signals(&early);
	pthread_sigmask(SIG_BLOCK, &early, NULL);
	h->argv = argv;
	h->program = program_path(argv[0]);
	h->generation = 1;
	h->fd = h->errors_fd = h->stderr_fd = -1;
	list_init(&h->predecessors);
	if (getenv(HANDOVER_VARIABLE)) {
		/* Threads there are none yet. */
		unsetenv(HANDOVER_VARIABLE);
		handover_take_init(h, HANDOVER_FD);
	}
	return h;
}

static void on_usr2(void *arg)
{
	handover_give(arg, NULL);
}

int handover_start(struct handover *h, const struct handover_options *options, struct buf *why)
{
	sigset_t early;
	int rc;

	h->options = *options;
	h->generation_gauge = metrics_gauge("mailtier_program_generation", NULL,
		"1 for a program that was started by hand, one more after each hand-over");
	h->predecessors_gauge = metrics_gauge(
		"mailtier_program_predecessors", NULL, "Old programs that live on for their sessions");
	h->sessions_gauge = metrics_gauge(
		"mailtier_program_predecessor_sessions", NULL, "Connections of clients that those have left");
	h->failed = metrics_counter(
		"mailtier_program_handovers_failed", NULL, "Hand-overs that failed: this program went on");
	metric_set(h->generation_gauge, h->generation);
	rc = loop_on_signal(options->loop, SIGUSR2, on_usr2, h);
	if (rc) {
		buf_add_str(why, "SIGUSR2 cannot be watched\n");
		return rc;
	}
	handover_early_signals(&early);
	pthread_sigmask(SIG_UNBLOCK, &early, NULL);
	list_for_each (at, &h->predecessors)
		handover_watch(container_of(at, struct predecessor, link));
	if (h->taking == TAKING_NOTHING)
		notify_send("READY=1");
	else
		handover_take_start(h);
	return 0;
}

void handover_set_limit(struct handover *h, uint64_t limit_ms)
{
	h->options.limit_ms = limit_ms;
}

bool handover_is_waiting(const struct handover *h)
{
	return h->taking != TAKING_NOTHING;
}

bool handover_is_retired(const struct handover *h)
{
	return h->giving == GIVING_DONE;
}

void handover_tell_sessions(struct handover *h, int64_t sessions)
{
	if (h->giving == GIVING_DONE && h->fd >= 0 &&
		handover_send(h->fd, NULL, 0, "sessions %lld", (long long)sessions) != 0)
		log_debug(h->options.area, "the new program does not listen");
}

static void run_handover(void *arg, struct control_request *request)
{
	handover_give(arg, request);
}

static const struct control_verb verbs[] = {
	{"handover", "", "Starts the program anew and hands the listeners over to it; answers when it serves",
		run_handover, 0, 0, NULL, 0},
};

void handover_register(struct handover *h, struct control *control)
{
	control_register(control, verbs, ARRAY_LEN(verbs), h);
}

void handover_stop(struct handover *h)
{
	handover_give_stop(h);
	handover_take_stop(h);
	list_for_each_safe (at, &h->predecessors)
		handover_predecessor_free(container_of(at, struct predecessor, link));
}

void handover_free(struct handover **handover)
{
	struct handover *h = *handover;

	if (!h)
		return;
	*handover = NULL;
	free(h->program);
	buf_deinit(&h->told);
	free(h);
}
