/*
 * The old program's part: starts the new one, and follows it until it serves. Until then every way out is give_up(): the new
 * one is ended, and nothing has changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/control/handover_internal.h"
#include "common/control/notify.h"
#include "common/net/listener.h"

/* How much of what the new one wrote on standard error is kept for the reason. */
#define ERRORS_MOST 700

/* ---- what the new one writes on standard error ---- */

static bool read_errors(struct handover *h)
{
	char text[2048];
	ssize_t n = read(h->errors_fd, text, sizeof(text));

	if (n <= 0)
		return n < 0 && (errno == EINTR);
	/* It would have gone there anyway. */
	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		log_debug(h->options.area, "standard error is closed");
	buf_add(&h->errors, text, (size_t)n);
	if (buf_len(&h->errors) > ERRORS_MOST)
		buf_take(&h->errors, buf_len(&h->errors) - ERRORS_MOST);
	return true;
}

static void close_errors(struct handover *h)
{
	loop_watch_stop(&h->errors_watch);
	if (h->errors_fd >= 0)
		close(h->errors_fd);
	h->errors_fd = -1;
}

static void on_errors(void *arg, int ready)
{
	struct handover *h = arg;

	(void)ready;
	if (!read_errors(h) && errno != EAGAIN)
		close_errors(h);
}

/* A line of the log that nobody has to act on: "2026-11-20T12:30:10.123Z INFO ". */
static bool is_chatter(struct slice line)
{
	struct slice level = slice_from(line, line.len < 24 ? line.len : 24);

	return slice_has_prefix(level, " INFO ") || slice_has_prefix(level, " DEBUG ");
}

/* Its last words, in one line. */
static void add_errors(struct handover *h, struct buf *out)
{
	struct slice rest = buf_view(&h->errors);

	while (rest.len) {
		ptrdiff_t end = slice_find(rest, '\n');
		size_t n = end < 0 ? rest.len : (size_t)end;

		if (n && !is_chatter(slice_sub(rest, 0, n)))
			buf_printf(out, "; %.*s", SLICE_ARG(slice_sub(rest, 0, n)));
		rest = slice_from(rest, end < 0 ? n : n + 1);
	}
}

/* ---- the end of it ---- */

static void close_giving(struct handover *h)
{
	timer_stop(&h->timer);
	loop_watch_stop(&h->watch);
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	free(h->left);
	h->left = NULL;
	h->left_count = 0;
	buf_deinit(&h->reason);
}

static void reap(struct handover *h, struct buf *why)
{
	int status = 0;

	if (h->child <= 0)
		return;
	if (h->pid == 0)
		kill(h->child, SIGKILL); /* what would not go into the background */
	while (waitpid(h->child, &status, 0) < 0 && errno == EINTR)
		;
	h->child = 0;
	if (why && WIFEXITED(status) && WEXITSTATUS(status))
		buf_printf(why, " with status %d", WEXITSTATUS(status));
	else if (why && WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		buf_printf(why, " by signal %d", WTERMSIG(status));
}

/* has_ended: the new one is gone; otherwise it is made to go. */
static void give_up(struct handover *h, bool has_ended, const char *what)
{
	struct control_request *request = h->request;
	struct buf why = {0};

	buf_add_str(&why, what);
	if (!has_ended && h->pid > 0) {
		(void)!handover_send(h->fd, NULL, 0, "no");
		kill(h->pid, SIGKILL);
	}
	reap(h, has_ended ? &why : NULL);
	while (h->errors_fd >= 0 && read_errors(h))
		;
	close_errors(h);
	if (buf_len(&h->reason))
		buf_printf(&why, ": %s", buf_str_view(&h->reason));
	add_errors(h, &why);
	log_error(h->options.area, "hand-over failed, this program goes on: %s", buf_str_view(&why));
	metric_add(h->failed, 1);
	close_giving(h);
	h->giving = GIVING_NOTHING;
	h->pid = 0;
	h->request = NULL;
	if (request)
		control_fail(request, ERR_NOT_NOW, "this program goes on: %s", buf_str_view(&why));
	buf_deinit(&why);
}

static void on_limit(void *arg)
{
	give_up(arg, false, "the new program was not ready in time");
}

/* ---- it serves ---- */

static bool is_left(void *arg, const struct addr *addr)
{
	const struct handover *h = arg;
	char one[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];

	for (size_t i = 0; i < h->left_count; i++) {
		if (strcmp(addr_text(&h->left[i], one), addr_text(addr, other)) == 0)
			return true;
	}
	return false;
}

static void succeed(struct handover *h)
{
	struct control_request *request = h->request;
	char line[40];

	FAULT("handover-retires");
	h->giving = GIVING_DONE;
	h->request = NULL;
	timer_stop(&h->timer);
	listener_release_all(is_left, h);
	list_for_each_safe (at, &h->predecessors) /* the new one has them */
		handover_predecessor_free(container_of(at, struct predecessor, link));
	metric_set(h->predecessors_gauge, 0);
	metric_set(h->sessions_gauge, 0);
	snprintf(line, sizeof(line), "MAINPID=%d", (int)h->pid);
	notify_send(line);
	if (handover_send(h->fd, NULL, 0, "main") != 0)
		log_debug(h->options.area, "the new program does not listen");
	log_info(h->options.area, "handed over pid=%d generation=%u", (int)h->pid, h->generation + 1);
	if (request) {
		control_result(request);
		control_add_int(request, "pid", h->pid);
		control_add_int(request, "generation", h->generation + 1);
		control_done(request);
	}
	h->options.retire(h->options.arg);
}

/* ---- what it says ---- */

static void on_hello(struct handover *h, struct slice rest)
{
	uint64_t pid;

	if (h->pid || num_parse_u64(rest, &pid) != 0)
		return;
	h->pid = (pid_t)pid;
	reap(h, NULL); /* it has gone into the background: what we started ends at once */
	log_info(h->options.area, "hand-over: the new program comes up pid=%d", (int)h->pid);
}

static void on_left(struct handover *h, struct slice rest)
{
	struct addr addr;

	int rc = rest.len && rest.p[0] == '/' ? addr_parse(rest, 0, &addr)
					      : addr_parse_hostport(rest, 0, &addr);

	if (rc != 0)
		return;
	h->left = xreallocarray(h->left, h->left_count + 1, sizeof(*h->left));
	h->left[h->left_count++] = addr;
}

static void on_message(struct handover *h, const char *text)
{
	struct slice rest = slice_str(text), word = handover_word(&rest);

	if (slice_is_str(word, "hello")) {
		on_hello(h, rest);
	} else if (slice_is_str(word, "left") && h->giving == GIVING_STARTED) {
		on_left(h, rest);
	} else if (slice_is_str(word, "waits")) {
		buf_clear(&h->reason);
		buf_add_slice(&h->reason, rest);
	} else if (slice_is_str(word, "ready") && h->giving == GIVING_STARTED) {
		buf_clear(&h->reason);
		h->giving = GIVING_GONE;
		FAULT("handover-go");
		if (handover_send(h->fd, NULL, 0, "go") != 0)
			give_up(h, false, "the new program does not listen");
	} else if (slice_is_str(word, "serving") && h->giving == GIVING_GONE) {
		succeed(h);
	}
}

static void on_new(void *arg, int ready)
{
	struct handover *h = arg;
	char text[HANDOVER_MESSAGE_MOST];
	int fds[HANDOVER_FDS_MOST];
	size_t count;
	int rc = handover_receive(h->fd, text, fds, &count);

	(void)ready;
	if (rc == ERR_NOT_NOW)
		return;
	for (size_t i = 0; rc == 1 && i < count; i++)
		close(fds[i]);
	if (rc == 1)
		on_message(h, text);
	else if (h->giving == GIVING_DONE)
		close_giving(h); /* the new one has ended, or passed us on; our sessions live on */
	else
		give_up(h, true, "the new program ended");
}

/* ---- the start ---- */

struct sockets {
	int *fds;
	size_t count;
};

static void add_socket(void *arg, const struct addr *addr, int fd)
{
	struct sockets *s = arg;

	(void)addr;
	s->fds = xreallocarray(s->fds, s->count + 1, sizeof(*s->fds));
	s->fds[s->count++] = fd;
}

static int send_gifts(struct handover *h)
{
	const int err = STDERR_FILENO;
	struct sockets s = {0};
	unsigned olds = 0;
	int rc;

	listener_each_socket(add_socket, &s);
	list_for_each (at, &h->predecessors)
		olds++;
	rc = handover_send(h->fd, &err, 1, "heirloom %d %u %d %zu %u", HANDOVER_VERSION, h->generation + 1,
		(int)getpid(), s.count, olds);
	for (size_t i = 0; rc == 0 && i < s.count; i += HANDOVER_FDS_MOST) {
		size_t n = s.count - i < HANDOVER_FDS_MOST ? s.count - i : HANDOVER_FDS_MOST;

		rc = handover_send(h->fd, s.fds + i, n, "sockets");
	}
	list_for_each (at, &h->predecessors) {
		const struct predecessor *p = container_of(at, struct predecessor, link);

		if (rc == 0)
			rc = handover_send(h->fd, &p->fd, 1, "old %d", (int)p->pid);
	}
	free(s.fds);
	return rc;
}

/* The environment with our variable; free() the array. */
static char **make_environment(void)
{
	static char variable[] = HANDOVER_VARIABLE "=3";
	size_t count = 0;
	char **env;

	while (environ[count])
		count++;
	env = xcalloc(count + 2, sizeof(*env));
	memcpy(env, environ, count * sizeof(*env));
	env[count] = variable;
	return env;
}

/* Nothing goes along but standard input and output, its standard error, and its end of the connection. */
static int spawn(struct handover *h, int its_end, int its_errors)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t early, all;
	char **env = make_environment();
	int rc;

	handover_early_signals(&early);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	/* Its errors first: number 3 may be theirs. */
	rc = posix_spawn_file_actions_adddup2(&actions, its_errors, STDERR_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&actions, its_end, HANDOVER_FD);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&actions, HANDOVER_FD + 1);
	posix_spawnattr_setsigmask(&attributes, &early);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawn(&h->child, h->program, &actions, &attributes, h->argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	free(env);
	return rc;
}

static int start(struct handover *h, struct buf *why)
{
	int pair[2] = {-1, -1}, errors[2] = {-1, -1};
	int rc = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || pipe2(errors, O_CLOEXEC) != 0)
		rc = errno;
	h->fd = pair[0];
	h->errors_fd = errors[0];
	if (rc == 0 &&
		(fcntl(h->fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(h->errors_fd, F_SETFL, O_NONBLOCK) < 0))
		rc = errno;
	if (rc == 0)
		rc = spawn(h, pair[1], errors[1]);
	if (pair[1] >= 0)
		close(pair[1]);
	if (errors[1] >= 0)
		close(errors[1]);
	if (rc) {
		h->child = 0;
		buf_printf(why, "%s cannot be started: %s", h->program, strerror(rc));
		return ERR_IO;
	}
	rc = send_gifts(h);
	if (rc == 0 || rc == ERR_CLOSED) /* it has ended already: its end says more */
		rc = loop_watch_start(h->options.loop, h->fd, LOOP_READABLE, on_new, h, &h->watch);
	if (rc == 0)
		rc = loop_watch_start(
			h->options.loop, h->errors_fd, LOOP_READABLE, on_errors, h, &h->errors_watch);
	if (rc)
		buf_printf(why, "the sockets cannot be passed: %s", error_text(rc));
	return rc;
}

static const char *refusal(const struct handover *h)
{
	size_t olds = 0;

	list_for_each (at, &h->predecessors)
		olds++;
	if (h->giving == GIVING_DONE)
		return "this program has handed over already";
	if (h->giving != GIVING_NOTHING)
		return "a hand-over is under way";
	if (h->taking != TAKING_NOTHING)
		return "this program does not serve yet";
	if (olds >= HANDOVER_PREDECESSORS_MOST)
		return "too many old programs live on; end some of them";
	return h->options.refusal(h->options.arg);
}

void handover_give(struct handover *h, struct control_request *request)
{
	struct buf why = {0};
	const char *no = refusal(h);

	if (no) {
		log_warn(h->options.area, "hand-over refused: %s", no);
		if (request)
			control_fail(request, ERR_NOT_NOW, "%s", no);
		return;
	}
	log_info(h->options.area, "hand-over begins program=%s", h->program);
	h->giving = GIVING_STARTED;
	h->pid = 0;
	h->request = request;
	buf_clear(&h->errors);
	timer_init(&h->timer, on_limit, h);
	timer_set(&h->timer, h->options.loop, h->options.limit_ms);
	if (start(h, &why) != 0)
		give_up(h, false, buf_str_view(&why));
	buf_deinit(&why);
}

void handover_cancel(struct handover *h)
{
	if (h->giving == GIVING_STARTED || h->giving == GIVING_GONE)
		give_up(h, false, "this program is to end");
}

void handover_give_stop(struct handover *h)
{
	handover_cancel(h);
	close_giving(h);
	close_errors(h);
	buf_deinit(&h->errors);
}
