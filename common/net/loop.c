/*
 * The loop on libuv. Invariant: callbacks of owners run only between loop_enter() and the end of
 * loop_end_turn(), and memory given to loop_free_later() lives until then.
 */
#include "common/net/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/loop_private.h"
#include "common/net/tls_tickets.h"

#define EVENTS_A_TURN 32
#define ROUNDS_A_TURN 16
#define LONG_TURN_US 20000

struct loop_watch {
	struct loop_io io;
	struct list link;
	struct loop *loop;
	int fd;
	loop_watch_fn *fn;
	void *arg;
};

struct loop_signal {
	uv_signal_t handle;
	struct list link;
	struct loop *loop;
	struct loop_call call;
};

struct loop_group {
	unsigned count;
	struct loop **loops;
	pthread_t *threads;
};

static _Thread_local struct loop *current;

static int error_from_uv(int code)
{
	return code < 0 ? error_from_errno(-code) : 0;
}

static void calls_add(struct loop_calls *calls, loop_fn *fn, void *arg)
{
	if (calls->count == calls->cap) {
		calls->cap = calls->cap ? calls->cap * 2 : 16;
		calls->at = xreallocarray(calls->at, calls->cap, sizeof(*calls->at));
	}
	calls->at[calls->count++] = (struct loop_call){fn, arg};
}

void loop_enter(struct loop *loop)
{
	if (loop->in_turn)
		return;
	loop->in_turn = true;
	loop->turn_us = clock_mono_us();
	loop->now_ms = loop->turn_us / 1000;
}

static void on_idle(uv_idle_t *handle)
{
	(void)handle;
}

void loop_keep_awake(struct loop *loop)
{
	uv_idle_start(&loop->idle, on_idle);
}

static void run_todo(struct loop *loop)
{
	struct list batch;

	list_init(&batch);
	list_move_all(&batch, &loop->todo);
	while (!list_is_empty(&batch)) {
		struct list *link = batch.next;

		list_remove(link);
		conn_todo(link);
	}
}

static void run_deferred(struct loop *loop)
{
	struct loop_calls batch = loop->deferred;

	loop->deferred = (struct loop_calls){0};
	for (size_t i = 0; i < batch.count; i++)
		batch.at[i].fn(batch.at[i].arg);
	if (!loop->deferred.at) { /* keep the memory for the next turn */
		batch.count = 0;
		loop->deferred = batch;
	} else {
		free(batch.at);
	}
}

static bool has_work(const struct loop *loop)
{
	return !list_is_empty(&loop->todo) || loop->deferred.count;
}

static void end_turn(struct loop *loop)
{
	loop_enter(loop);
	timer_wheel_run(loop);
	for (int round = 0; has_work(loop) && round < ROUNDS_A_TURN; round++) {
		run_todo(loop);
		run_deferred(loop);
	}
	if (!has_work(loop)) {
		for (size_t i = 0; i < loop->frees.count; i++)
			free(loop->frees.at[i].arg);
		loop->frees.count = 0;
	}
	list_move_all(&loop->todo, &loop->again);
	if (has_work(loop))
		loop_keep_awake(loop);
	else
		uv_idle_stop(&loop->idle);
}

static void on_check(uv_check_t *handle)
{
	end_turn(handle->data);
}

/* Last before libuv blocks: whatever its timers left is done too, and the turn is measured. */
static void on_prepare(uv_prepare_t *handle)
{
	struct loop *loop = handle->data;
	uint64_t took;

	if (!loop->in_turn && !has_work(loop) && !loop->frees.count)
		return;
	if (has_work(loop) || loop->frees.count)
		end_turn(loop);
	took = clock_mono_us() - loop->turn_us;
	loop->in_turn = false;
	metric_raise(loop->longest_turn, (int64_t)took);
	if (took >= LONG_TURN_US)
		metric_add(loop->long_turns, 1);
}

static void run_posted(struct loop *loop)
{
	struct loop_posted *last = atomic_exchange(&loop->posted, NULL);
	struct loop_posted *first = NULL;

	while (last) {
		struct loop_posted *next = last->next;

		last->next = first;
		first = last;
		last = next;
	}
	while (first) {
		struct loop_posted *p = first;

		first = p->next;
		p->call.fn(p->call.arg);
		free(p);
	}
}

/* Edge-triggered, so that the count need not be read. Not uv_async_t: its loop spins until whoever woke it has come back from
 * write(2), which on a busy processor is the one thing that it must not wait for. */
static void on_wake(struct loop_io *io, uint32_t events)
{
	struct loop *loop = container_of(io, struct loop, wake);
	/* Looked at first: what was posted before the stop is run before it. */
	bool stops = atomic_load(&loop->stopping);

	(void)events;
	loop_enter(loop);
	run_posted(loop);
	if (stops)
		uv_stop(&loop->uv);
}

static void wake(struct loop *loop)
{
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(loop->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	require(n == sizeof(one));
}

void loop_poll(struct loop *loop)
{
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(loop->epoll_fd, events, EVENTS_A_TURN, 0);

	for (int i = 0; i < n; i++) {
		struct loop_io *io = events[i].data.ptr;

		if (io->fn)
			io->fn(io, events[i].events);
	}
}

static void on_poll(uv_poll_t *handle, int status, int uv_events)
{
	struct loop *loop = handle->data;

	(void)uv_events;
	if (status < 0)
		return;
	loop_enter(loop);
	loop_poll(loop);
}

static int start_handles(struct loop *loop)
{
	int rc;

	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->wake.fn = on_wake;
	if (loop->wake_fd < 0)
		return error_from_errno(errno);
	rc = loop_io_start(loop, loop->wake_fd, EPOLLIN | EPOLLET, &loop->wake);
	if (rc)
		return rc;
	rc = uv_poll_init(&loop->uv, &loop->poll, loop->epoll_fd);
	if (rc == 0)
		rc = uv_poll_start(&loop->poll, UV_READABLE, on_poll);
	if (rc)
		return error_from_uv(rc);
	uv_prepare_init(&loop->uv, &loop->prepare);
	uv_check_init(&loop->uv, &loop->check);
	uv_idle_init(&loop->uv, &loop->idle);
	uv_timer_init(&loop->uv, &loop->tick);
	loop->poll.data = loop->prepare.data = loop->check.data = loop->tick.data = loop;
	uv_prepare_start(&loop->prepare, on_prepare);
	uv_check_start(&loop->check, on_check);
	return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void close_uv(struct loop *loop)
{
	uv_walk(&loop->uv, close_handle, NULL);
	while (uv_run(&loop->uv, UV_RUN_NOWAIT))
		;
	uv_loop_close(&loop->uv);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
}

static int loop_new_as(unsigned index, const char *label, struct loop **loop_out)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	char labels[32];

	signal(SIGPIPE, SIG_IGN); /* splice(2) has no MSG_NOSIGNAL */
	loop->index = index;
	loop->wake_fd = -1;
	list_init(&loop->conns);
	list_init(&loop->todo);
	list_init(&loop->again);
	list_init(&loop->watches);
	list_init(&loop->signals);
	list_init(&loop->resolving);
	if (uv_loop_init(&loop->uv) != 0) {
		free(loop);
		return ERR_IO;
	}
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0 || start_handles(loop) != 0) {
		close_uv(loop);
		free(loop);
		return ERR_IO;
	}
	loop->scratch = xmalloc(LOOP_SCRATCH_SIZE);
	loop->now_ms = clock_mono_ms();
	timer_wheel_init(loop);
	snprintf(labels, sizeof(labels), "loop=\"%s\"", label);
	loop->longest_turn = metrics_gauge("mailtier_net_loop_turn_longest_microseconds", labels,
		"Longest turn of the event loop since the start.");
	loop->long_turns = metrics_counter(
		"mailtier_net_loop_long_turns", labels, "Turns of the event loop that took 20 ms or more.");
	*loop_out = loop;
	return 0;
}

int loop_new(struct loop **loop_out)
{
	return loop_new_as(0, "main", loop_out);
}

static void free_posted(struct loop *loop)
{
	struct loop_posted *p = atomic_exchange(&loop->posted, NULL);

	while (p) {
		struct loop_posted *next = p->next;

		free(p);
		p = next;
	}
}

void loop_free(struct loop **loop_take)
{
	struct loop *loop = *loop_take;

	if (!loop)
		return;
	*loop_take = NULL;
	/* What a thread has posted may have been run, and ended the loop, before that thread has woken it. */
	while (atomic_load(&loop->posting))
		sched_yield();
	conn_abort_all(loop);
	resolve_loop_free(loop);
	dns_loop_free(loop);
	tls_tickets_unref(&loop->tickets);
	run_deferred(loop);
	conn_abort_all(loop);
	conn_packer_free(loop);
	relay_free_pipes(loop);
	close_uv(loop);
	list_for_each_safe (at, &loop->watches)
		free(container_of(at, struct loop_watch, link));
	list_for_each_safe (at, &loop->signals)
		free(container_of(at, struct loop_signal, link));
	free_posted(loop);
	for (size_t i = 0; i < loop->frees.count; i++)
		free(loop->frees.at[i].arg);
	free(loop->frees.at);
	free(loop->deferred.at);
	free(loop->scratch);
	free(loop);
}

void loop_run(struct loop *loop)
{
	struct loop *before = current;

	current = loop;
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	end_turn(loop);
	loop->in_turn = false;
	atomic_store(&loop->stopping, false);
	current = before;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopping, true);
	wake(loop);
}

struct loop *loop_current(void)
{
	return current;
}

unsigned loop_index(const struct loop *loop)
{
	return loop->index;
}

uint64_t loop_now_ms(const struct loop *loop)
{
	return loop->now_ms;
}

void loop_post(struct loop *loop, loop_fn *fn, void *arg)
{
	struct loop_posted *p = xmalloc(sizeof(*p)), *before = atomic_load(&loop->posted);

	p->call = (struct loop_call){fn, arg};
	atomic_fetch_add(&loop->posting, 1);
	do
		p->next = before;
	while (!atomic_compare_exchange_weak(&loop->posted, &before, p));
	/* Now it may have been run, and p be gone. */
	if (!before) /* else whoever posted that has woken the loop, or is about to */
		wake(loop);
	atomic_fetch_sub(&loop->posting, 1);
}

void loop_defer(struct loop *loop, loop_fn *fn, void *arg)
{
	calls_add(&loop->deferred, fn, arg);
}

void loop_free_later(struct loop *loop, void *p)
{
	if (p)
		calls_add(&loop->frees, NULL, p);
}

/* ---- groups ---- */

static void *group_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int group_start_thread(struct loop_group *group, unsigned i)
{
	char label[16];
	sigset_t all, before;
	int rc;

	snprintf(label, sizeof(label), "%u", i);
	rc = loop_new_as(i, label, &group->loops[i]);
	if (rc)
		return rc;
	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&group->threads[i], NULL, group_thread, group->loops[i]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		loop_free(&group->loops[i]);
		return error_from_errno(rc);
	}
	snprintf(label, sizeof(label), "loop-%u", i);
	pthread_setname_np(group->threads[i], label);
	return 0;
}

int loop_group_start(unsigned count, struct loop_group **group_out)
{
	struct loop_group *group = xcalloc(1, sizeof(*group));
	int rc = 0;

	require(count > 0);
	group->loops = xcalloc(count, sizeof(*group->loops));
	group->threads = xcalloc(count, sizeof(*group->threads));
	while (rc == 0 && group->count < count) {
		rc = group_start_thread(group, group->count);
		if (rc == 0)
			group->count++;
	}
	if (rc) {
		loop_group_stop(&group);
		return rc;
	}
	*group_out = group;
	return 0;
}

unsigned loop_group_count(const struct loop_group *group)
{
	return group->count;
}

struct loop *loop_group_at(const struct loop_group *group, unsigned i)
{
	require(i < group->count);
	return group->loops[i];
}

void loop_group_stop(struct loop_group **group_take)
{
	struct loop_group *group = *group_take;

	if (!group)
		return;
	*group_take = NULL;
	for (unsigned i = 0; i < group->count; i++)
		loop_stop(group->loops[i]);
	for (unsigned i = 0; i < group->count; i++)
		pthread_join(group->threads[i], NULL);
	for (unsigned i = 0; i < group->count; i++)
		loop_free(&group->loops[i]);
	free(group->loops);
	free(group->threads);
	free(group);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *handle, int number)
{
	struct loop_signal *s = handle->data;

	(void)number;
	loop_enter(s->loop);
	s->call.fn(s->call.arg);
}

int loop_on_signal(struct loop *loop, int number, loop_fn *fn, void *arg)
{
	struct loop_signal *s = xcalloc(1, sizeof(*s));
	int rc;

	s->loop = loop;
	s->call = (struct loop_call){fn, arg};
	rc = uv_signal_init(&loop->uv, &s->handle);
	if (rc) {
		free(s);
		return error_from_uv(rc);
	}
	s->handle.data = s;
	list_add_last(&loop->signals, &s->link); /* freed with the loop, since libuv knows the handle now */
	return error_from_uv(uv_signal_start(&s->handle, on_signal, number));
}

/* ---- descriptors ---- */

int loop_io_start(struct loop *loop, int fd, uint32_t events, struct loop_io *io)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		return error_from_errno(errno);
	return 0;
}

void loop_io_change(struct loop *loop, int fd, uint32_t events, struct loop_io *io)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0)
		log_error("net", "epoll_ctl failed fd=%d errno=%d", fd, errno);
}

void loop_io_stop(struct loop *loop, int fd, struct loop_io *io)
{
	io->fn = NULL;
	if (fd >= 0)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void watch_on_io(struct loop_io *io, uint32_t events)
{
	struct loop_watch *watch = container_of(io, struct loop_watch, io);
	int ready = 0;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
		ready |= LOOP_READABLE;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		ready |= LOOP_WRITABLE;
	watch->fn(watch->arg, ready);
}

static uint32_t watch_events(int wanted)
{
	return (wanted & LOOP_READABLE ? (uint32_t)EPOLLIN : 0) |
	       (wanted & LOOP_WRITABLE ? (uint32_t)EPOLLOUT : 0);
}

int loop_watch_start(
	struct loop *loop, int fd, int wanted, loop_watch_fn *fn, void *arg, struct loop_watch **watch_out)
{
	struct loop_watch *watch = xcalloc(1, sizeof(*watch));
	int rc;

	watch->io.fn = watch_on_io;
	watch->loop = loop;
	watch->fd = fd;
	watch->fn = fn;
	watch->arg = arg;
	rc = loop_io_start(loop, fd, watch_events(wanted), &watch->io);
	if (rc) {
		free(watch);
		return rc;
	}
	list_add_last(&loop->watches, &watch->link);
	*watch_out = watch;
	return 0;
}

void loop_watch_change(struct loop_watch *watch, int wanted)
{
	loop_io_change(watch->loop, watch->fd, watch_events(wanted), &watch->io);
}

void loop_watch_stop(struct loop_watch **watch_take)
{
	struct loop_watch *watch = *watch_take;

	if (!watch)
		return;
	*watch_take = NULL;
	loop_io_stop(watch->loop, watch->fd, &watch->io);
	list_remove(&watch->link);
	loop_free_later(watch->loop, watch);
}
