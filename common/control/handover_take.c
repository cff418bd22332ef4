/*
 * The new program's part. What it cannot take, before the old one has said go, ends it; the old one shows why.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/control/handover_internal.h"
#include "common/net/inherit.h"
#include "common/net/listener.h"

/* For the old one's words, which are there already. */
#define RECEIVE_S 10
#define LOOK_MS 20

static NORETURN void die(const char *words)
{
	fprintf(stderr, "hand-over: %s\n", words);
	exit(1);
}

/* ---- what we are given ---- */

struct gift {
	uint64_t version, generation, pid, sockets, olds;
};

static void read_head(struct handover *h, int fd, struct gift *gift)
{
	char text[HANDOVER_MESSAGE_MOST];
	int fds[HANDOVER_FDS_MOST];
	uint64_t *const numbers[] = {
		&gift->version, &gift->generation, &gift->pid, &gift->sockets, &gift->olds};
	struct slice rest;
	size_t count;

	if (handover_receive(fd, text, fds, &count) != 1)
		die("the old program says nothing");
	rest = slice_str(text);
	if (!slice_is_str(handover_word(&rest), "heirloom") || count != 1)
		die("the old program speaks another language");
	h->stderr_fd = fds[0];
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (num_parse_u64(handover_word(&rest), numbers[i]) != 0 ||
			(i == 0 && gift->version != HANDOVER_VERSION))
			die("the old program is of another version that cannot hand over to this one: "
			    "restart");
	}
}

static void add_predecessor(struct handover *h, uint64_t pid, int fd)
{
	struct predecessor *p = xcalloc(1, sizeof(*p));

	p->handover = h;
	p->pid = (pid_t)pid;
	p->fd = fd;
	list_add_last(&h->predecessors, &p->link);
}

/* Sockets and connections to still older programs, as many as were announced. */
static void read_gifts(struct handover *h, int fd, const struct gift *gift)
{
	uint64_t olds = 0;

	while (h->sockets < gift->sockets || olds < gift->olds) {
		char text[HANDOVER_MESSAGE_MOST];
		int fds[HANDOVER_FDS_MOST];
		struct slice rest;
		size_t count;
		uint64_t pid;

		if (handover_receive(fd, text, fds, &count) != 1)
			die("the old program does not give all that it promised");
		rest = slice_str(text);
		if (slice_is_str(handover_word(&rest), "sockets")) {
			for (size_t i = 0; i < count; i++) {
				if (inherit_add_take(fds[i]) != 0)
					die("a descriptor of the old program is no listening socket");
			}
			h->sockets += count;
		} else if (count == 1 && num_parse_u64(rest, &pid) == 0) {
			add_predecessor(h, pid, fds[0]);
			olds++;
		} else {
			die("the old program speaks another language");
		}
		if (count == 0)
			die("the old program does not give all that it promised");
	}
}

void handover_take_init(struct handover *h, int fd)
{
	struct timeval limit = {.tv_sec = RECEIVE_S};
	struct gift gift;
	pid_t pid;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0)
		die("there is no connection to an old program");
	/* Into the background: whoever supervises the old one becomes our parent, and sees our end. */
	pid = fork();
	if (pid < 0)
		die("no process");
	if (pid > 0)
		_exit(0);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (handover_send(fd, NULL, 0, "hello %d", (int)getpid()) != 0)
		die("the old program does not listen");
	read_head(h, fd, &gift);
	read_gifts(h, fd, &gift);
	h->generation = (unsigned)gift.generation;
	add_predecessor(h, gift.pid, fd);
	h->from = container_of(h->predecessors.prev, struct predecessor, link);
	list_remove(&h->from->link);
	h->taking = TAKING_LOADING;
	listener_hold_all();
}

/* ---- serving ---- */

static void take_stderr(struct handover *h)
{
	if (h->stderr_fd < 0)
		return;
	dup2(h->stderr_fd, STDERR_FILENO);
	close(h->stderr_fd);
	h->stderr_fd = -1;
}

/* False: in a moment, perhaps. */
static bool begin(struct handover *h, loop_fn *again)
{
	uint64_t now = loop_now_ms(h->options.loop);

	take_stderr(h);
	timer_stop(&h->timer);
	if (h->options.begin(h->options.arg) != ERR_NOT_NOW)
		return true;
	h->begin_by_ms = h->begin_by_ms ? h->begin_by_ms : now + h->options.limit_ms;
	if (now >= h->begin_by_ms)
		die("the old program has ended, but what it held is not free");
	timer_init(&h->timer, again, h);
	timer_set(&h->timer, h->options.loop, LOOK_MS);
	return false;
}

static void serve(void *arg)
{
	struct handover *h = arg;
	struct predecessor *from = h->from;

	if (!begin(h, serve))
		return;
	listener_begin_all();
	inherit_close();
	FAULT("handover-serving");
	log_info(h->options.area, "took over pid=%d generation=%u sockets=%zu", (int)from->pid, h->generation,
		h->sockets);
	h->taking = TAKING_NOTHING;
	h->from = NULL;
	list_add_last(&h->predecessors, &from->link);
	if (h->is_orphan || h->options.waits_for_end) { /* nobody is left who could say it */
		handover_claim();
		handover_predecessor_free(from);
		return;
	}
	loop_watch_stop(&from->watch);
	from->is_main_due = true;
	if (handover_send(from->fd, NULL, 0, "serving") != 0)
		log_warn(h->options.area, "the old program does not listen any more pid=%d", (int)from->pid);
	handover_watch(from);
}

/* Clients wait. What the old one has answered is committed; its connection still stands, so the number is its own. */
static void on_late(void *arg)
{
	struct handover *h = arg;

	log_error(h->options.area, "the old program does not end, it is killed pid=%d", (int)h->from->pid);
	kill(h->from->pid, SIGKILL);
}

static void on_go(struct handover *h)
{
	if (!h->options.waits_for_end) {
		serve(h);
		return;
	}
	h->taking = TAKING_WAITING;
	take_stderr(h);
	timer_stop(&h->timer);
	timer_init(&h->timer, on_late, h);
	timer_set(&h->timer, h->options.loop, h->options.limit_ms);
	if (handover_send(h->from->fd, NULL, 0, "serving") != 0)
		log_warn(h->options.area, "the old program does not listen any more pid=%d",
			(int)h->from->pid);
}

static void on_end(struct handover *h)
{
	loop_watch_stop(&h->from->watch);
	h->is_orphan = true;
	if (h->taking == TAKING_WAITING) {
		serve(h);
		return;
	}
	take_stderr(h);
	log_warn(h->options.area, "the old program died during the hand-over pid=%d", (int)h->from->pid);
	if (h->taking == TAKING_READY)
		serve(h);
}

static void on_old(void *arg, int ready)
{
	struct handover *h = arg;
	char text[HANDOVER_MESSAGE_MOST];
	int fds[HANDOVER_FDS_MOST];
	size_t count;
	int rc = handover_receive(h->from->fd, text, fds, &count);

	(void)ready;
	if (rc == ERR_NOT_NOW)
		return;
	for (size_t i = 0; rc == 1 && i < count; i++)
		close(fds[i]);
	if (rc != 1)
		on_end(h);
	else if (h->taking == TAKING_READY && slice_is_str(slice_str(text), "go"))
		on_go(h);
	else if (slice_is_str(slice_str(text), "no"))
		die("the old program has given up");
}

/* ---- getting ready ---- */

static void tell_ready(struct handover *h)
{
	char text[ADDR_TEXT_MAX];
	const struct addr *addr;
	int rc = 0;

	FAULT("handover-ready");
	h->taking = TAKING_READY;
	if (h->is_orphan) {
		serve(h);
		return;
	}
	for (size_t i = 0; rc == 0 && (addr = inherit_rest(i)); i++)
		rc = handover_send(h->from->fd, NULL, 0, "left %s", addr_text(addr, text));
	if (rc == 0)
		rc = handover_send(h->from->fd, NULL, 0, "ready");
	if (rc)
		log_warn(h->options.area, "the old program does not listen pid=%d", (int)h->from->pid);
}

static void look(void *arg)
{
	struct handover *h = arg;
	struct buf reason = {0};

	if (h->options.is_ready(h->options.arg, &reason)) {
		tell_ready(h);
	} else {
		/* Once for each reason, so that the old one can say what was waited for. */
		if (!slice_is_equal(buf_view(&reason), buf_view(&h->told)) && !h->is_orphan &&
			handover_send(h->from->fd, NULL, 0, "waits %s", buf_str_view(&reason)) == 0) {
			buf_clear(&h->told);
			buf_add_slice(&h->told, buf_view(&reason));
		}
		timer_set(&h->timer, h->options.loop, LOOK_MS);
	}
	buf_deinit(&reason);
}

void handover_take_start(struct handover *h)
{
	struct timeval none = {0};

	setsockopt(h->from->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	(void)fcntl(h->from->fd, F_SETFL, fcntl(h->from->fd, F_GETFL) | O_NONBLOCK);
	timer_init(&h->timer, look, h);
	timer_set(&h->timer, h->options.loop, 1);
	if (loop_watch_start(h->options.loop, h->from->fd, LOOP_READABLE, on_old, h, &h->from->watch) != 0)
		die("the old program cannot be watched");
}

void handover_take_stop(struct handover *h)
{
	if (h->taking == TAKING_NOTHING)
		return;
	timer_stop(&h->timer);
	if (h->from)
		handover_predecessor_free(h->from);
	h->from = NULL;
	inherit_close();
}
