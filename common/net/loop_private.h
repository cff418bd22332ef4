/*
 * What the files of this room know about a loop. libuv drives it: timers, wake-ups from other threads,
 * signals. All descriptors stand in one epoll set of the loop's own, whose descriptor is the one thing that
 * libuv polls: a connection is entered once, edge-triggered, and never changed, where uv_poll_t costs up to
 * five epoll_ctl(2) a connection.
 *
 * A turn: libuv polls, callbacks run (loop_enter() first), then loop_end_turn(): connections with work left,
 * deferred functions, deferred frees.
 */
#pragma once

#include <stdatomic.h>
#include <sys/epoll.h>
#include <uv.h>

#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/timer.h"

#define LOOP_SCRATCH_SIZE (64 * 1024)
#define LOOP_ADDR_VIEWS 8

/* An entry of the epoll set, embedded in its owner; fn is NULL once it is stopped. */
struct loop_io;
typedef void loop_io_fn(struct loop_io *io, uint32_t events);
struct loop_io {
	loop_io_fn *fn;
};

struct loop_call {
	loop_fn *fn;
	void *arg;
};

struct loop_calls {
	struct loop_call *at;
	size_t count, cap;
};

struct loop_posted {
	struct loop_posted *next;
	struct loop_call call;
};

/* The timing wheel: timer.c. */
#define WHEEL_TICK_MS 16
#define WHEEL_SLOTS 256
#define WHEEL_LEVELS 3
struct timer_wheel {
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
	uint64_t
		used[WHEEL_SLOTS / 64]; /* of level 0: bit set where something was put since the last visit */
	struct list expired;            /* taken out of its slot, to be called */
	uint64_t next;                  /* first tick that has not been handled */
	uint64_t armed;                 /* tick for which the loop's timer is set; UINT64_MAX: not */
	size_t count;
};

struct relay_pipe;
struct conn_packer;
struct tls_tickets;

struct loop {
	uv_loop_t uv;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* active while work is left over: libuv does not block then */
	uv_timer_t tick;
	uv_poll_t poll;
	int epoll_fd;
	int wake_fd; /* an eventfd among them: what was posted */
	struct loop_io wake;
	unsigned index;

	_Atomic(struct loop_posted *) posted; /* last first */
	_Atomic unsigned posting;             /* threads within loop_post() */
	atomic_bool stopping;
	bool in_turn;
	uint64_t turn_us, now_ms;
	struct metric *longest_turn, *long_turns;

	struct timer_wheel wheel;
	struct list conns; /* all connections of this loop */
	struct list todo;  /* connections with work at the turn's end */
	struct list again; /* connections that go on in the next turn, for fairness */
	struct list watches, signals;
	struct loop_calls deferred, frees;

	char *scratch;              /* LOOP_SCRATCH_SIZE bytes: what is read lands here first */
	struct conn_packer *packer; /* compresses for all connections; NULL: none has asked yet */
	struct relay_pipe *pipes;
	unsigned pipes_count;
	struct addr addr_views[LOOP_ADDR_VIEWS];
	unsigned addr_next;
	char text_view[128];
	struct dns_loop *dns;
	struct list resolving;       /* resolve.c: requests under way */
	struct tls_tickets *tickets; /* keys of session tickets; NULL: those of the process */
};

/* First thing in every callback of libuv: takes the time. */
void loop_enter(struct loop *loop);
/* Handles the readiness that has been told by now. */
void loop_poll(struct loop *loop);
/* Enters fd into the epoll set; events as epoll_ctl(2). */
MUST_CHECK int loop_io_start(struct loop *loop, int fd, uint32_t events, struct loop_io *io);
void loop_io_change(struct loop *loop, int fd, uint32_t events, struct loop_io *io);
/* Before fd is closed, where the socket may live on in another descriptor or stale events must not come. */
void loop_io_stop(struct loop *loop, int fd, struct loop_io *io);
/* Makes the next poll return at once. */
void loop_keep_awake(struct loop *loop);

void timer_wheel_init(struct loop *loop);
/* Runs what is due and arms the loop's timer for the rest. */
void timer_wheel_run(struct loop *loop);

/* conn.c: work at the turn's end; closing of all at loop_free(). */
void conn_todo(struct list *link);
void conn_abort_all(struct loop *loop);
/* conn_deflate.c, relay.c, resolve.c and dns.c: what they keep per loop. */
void conn_packer_free(struct loop *loop);
void relay_free_pipes(struct loop *loop);
void resolve_loop_free(struct loop *loop);
void dns_loop_free(struct loop *loop);
