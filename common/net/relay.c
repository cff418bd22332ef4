/*
 * The relay. Each direction is a flow; in a flow bytes stand, in this order, in
 *
 *	socket of `to`  <-  to->out  <-  pipe  <-  socket of `from`
 *
 * and a later place is filled only when the earlier ones are empty. Small amounts are copied through the loop's scratch:
 * two system calls. When a read fills the scratch, and both sides are plain, the flow turns to splice(2) by a pipe that it
 * borrows from the loop while bytes are in it, and back when the amounts get small.
 */
#include "common/net/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"

#define PIPE_SIZE (512 * 1024)
#define CHUNK_FIRST                                                                                          \
	(64 * 1024)   /* doubled while `to` takes all at once, so that a slow client holds little  \
				 */
#define PIPES_MOST 32 /* spare ones a loop keeps */
#define BYTES_A_TURN (1024 * 1024) /* then others have their turn */
#define BULK_LEAST (16 * 1024)     /* a splice of less than this ends bulk */

struct relay_pipe {
	struct relay_pipe *next;
	int out, in; /* the ends as pipe(2) numbers them: read from out, write to in */
};

struct flow {
	struct conn *from, *to;
	struct relay_pipe *pipe; /* only while in_pipe > 0 */
	uint64_t bytes;
	uint32_t in_pipe;
	uint32_t chunk; /* how much is spliced at once */
	bool is_bulk;
	bool has_ended; /* `from` sent its last */
	bool is_passed; /* and `to` knows it, or can be told nothing any more */
};

struct relay {
	struct flow flows[2]; /* a -> b, b -> a */
	struct loop *loop;
	struct timer idle;
	uint64_t idle_ms, active_ms;
	relay_fn *fn;
	void *arg;
	bool is_over;
	bool someone_ended, by_client;
	int error; /* of writing to one side, whose last words are still awaited */
};

/* ---- pipes ---- */

static struct relay_pipe *pipe_borrow(struct loop *loop)
{
	struct relay_pipe *p = loop->pipes;
	int fds[2];

	if (p) {
		loop->pipes = p->next;
		loop->pipes_count--;
		return p;
	}
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
		return NULL;
	if (fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE) <
		0) { /* the user's share is used up: it would be a tiny one */
		close(fds[0]);
		close(fds[1]);
		return NULL;
	}
	p = xmalloc(sizeof(*p));
	p->out = fds[0];
	p->in = fds[1];
	return p;
}

static void pipe_free(struct relay_pipe *p)
{
	close(p->out);
	close(p->in);
	free(p);
}

/* The pipe must be empty. */
static void pipe_return(struct loop *loop, struct relay_pipe *p)
{
	if (loop->pipes_count >= PIPES_MOST) {
		pipe_free(p);
		return;
	}
	p->next = loop->pipes;
	loop->pipes = p;
	loop->pipes_count++;
}

void relay_free_pipes(struct loop *loop)
{
	while (loop->pipes) {
		struct relay_pipe *p = loop->pipes;

		loop->pipes = p->next;
		pipe_free(p);
	}
	loop->pipes_count = 0;
}

/* ---- the end ---- */

/* What stands in the pipe joins the output of `to`, which conn_close() still sends. */
static void rescue_pipe(struct relay *r, struct flow *f)
{
	while (f->in_pipe) {
		ssize_t n = read(f->pipe->out, r->loop->scratch, LOOP_SCRATCH_SIZE);

		if (n <= 0)
			break;
		if (f->to->phase == CONN_OPEN)
			buf_add(&f->to->out, r->loop->scratch, (size_t)n);
		f->in_pipe -= (uint32_t)n;
	}
	if (f->pipe && f->in_pipe)
		pipe_free(f->pipe);
	else if (f->pipe)
		pipe_return(r->loop, f->pipe);
	f->pipe = NULL;
}

static void finish(struct relay *r, int error)
{
	struct relay_end end = {.error = error,
		.by_client = r->by_client,
		.to_server = r->flows[0].bytes,
		.to_client = r->flows[1].bytes};
	struct conn *a = r->flows[0].from, *b = r->flows[1].from;

	r->is_over = true;
	rescue_pipe(r, &r->flows[0]);
	rescue_pipe(r, &r->flows[1]);
	timer_stop(&r->idle);
	conn_close(&a);
	conn_close(&b);
	loop_free_later(r->loop, r);
	r->fn(r->arg, &end);
}

static void note_end(struct relay *r, const struct conn *who)
{
	if (r->someone_ended)
		return;
	r->someone_ended = true;
	r->by_client = who == r->flows[0].from;
}

/* ---- moving ---- */

static bool splice_in(struct relay *r, struct flow *f)
{
	ssize_t n;

	f->pipe = pipe_borrow(r->loop);
	if (!f->pipe) {
		f->is_bulk = false;
		return true;
	}
	do
		n = splice(f->from->fd, NULL, f->pipe->in, NULL, f->chunk, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		f->in_pipe = (uint32_t)n;
		f->bytes += (uint64_t)n;
		f->is_bulk = n >= BULK_LEAST;
		return true;
	}
	pipe_return(r->loop, f->pipe);
	f->pipe = NULL;
	if (n == 0)
		f->has_ended = true;
	else if (errno == EAGAIN)
		f->from->sock_in = f->from->readable = false;
	else
		conn_fail(f->from, error_from_errno(errno), "reading failed");
	return n == 0;
}

/* True when the pipe is empty. */
static bool splice_out(struct relay *r, struct flow *f)
{
	while (f->in_pipe) {
		ssize_t n;

		if (!f->to->sock_out)
			return false;
		n = splice(
			f->pipe->out, NULL, f->to->fd, NULL, f->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_want_out(f->to);
			f->chunk = CHUNK_FIRST;
			return false;
		}
		if (n <= 0) {
			conn_fail_output(f->to, n ? error_from_errno(errno) : ERR_IO);
			return false;
		}
		f->in_pipe -= (uint32_t)n;
	}
	if (f->pipe) {
		pipe_return(r->loop, f->pipe);
		f->chunk = f->chunk < PIPE_SIZE ? f->chunk * 2 : f->chunk;
	}
	f->pipe = NULL;
	return true;
}

/* True when it is worth going on. */
static bool copy(struct flow *f)
{
	char *scratch = f->from->loop->scratch;
	ssize_t n = conn_stream_read(f->from, scratch, LOOP_SCRATCH_SIZE);
	ssize_t sent;

	if (n < 0)
		return false;
	if (n == 0) {
		f->has_ended = true;
		return true;
	}
	f->bytes += (uint64_t)n;
	f->is_bulk = n == LOOP_SCRATCH_SIZE && !f->from->ssl && !f->to->ssl;
	sent = conn_stream_write(f->to, scratch, (size_t)n);
	if (sent < 0 && sent != ERR_MORE)
		return false;
	if (sent < n)
		buf_add(&f->to->out, scratch + (sent > 0 ? sent : 0), (size_t)(n - (sent > 0 ? sent : 0)));
	return true;
}

static bool are_alive(const struct flow *f)
{
	return f->from->phase == CONN_OPEN && f->to->phase == CONN_OPEN;
}

static struct flow *other_flow(struct relay *r, const struct flow *f)
{
	return f == &r->flows[0] ? &r->flows[1] : &r->flows[0];
}

/* `to` takes nothing any more: what is on the way to it is lost. */
static void give_up(struct relay *r, struct flow *f)
{
	note_end(r, f->to);
	r->error = f->to->error;
	f->is_passed = true;
	if (f->pipe)
		pipe_free(f->pipe);
	f->pipe = NULL;
	f->in_pipe = 0;
}

static void pump(struct relay *r, struct flow *f)
{
	uint64_t most = f->bytes + BYTES_A_TURN;
	bool more = true;

	while (more && are_alive(f)) {
		if (!conn_send_output(f->to) || !splice_out(r, f))
			break;
		if (f->has_ended) {
			note_end(r, f->from);
			f->is_passed = true;
			if (!other_flow(r, f)->is_passed) { /* else both are closed next */
				f->to->wants_shutdown = true;
				conn_finish_output(f->to);
			}
			return;
		}
		if (!f->from->readable)
			return;
		if (f->bytes >= most) {
			conn_schedule_again(f->from);
			return;
		}
		more = f->is_bulk ? splice_in(r, f) : copy(f);
	}
	if (f->to->is_out_broken)
		give_up(r, f);
}

static void on_ready(void *owner, struct conn *conn)
{
	struct relay *r = owner;

	(void)conn;
	if (r->is_over)
		return;
	r->active_ms = loop_now_ms(r->loop);
	/* First what the server has to say: it may be its last word before a reset that the other way would
	 * find. */
	for (int i = 1; i >= 0; i--)
		if (!r->flows[i].is_passed)
			pump(r, &r->flows[i]);
	for (int i = 0; i < 2; i++) {
		struct conn *c = r->flows[i].from;

		if (c->phase == CONN_OPEN)
			continue;
		note_end(r, c);
		finish(r, c->error);
		return;
	}
	if (r->flows[0].is_passed && r->flows[1].is_passed)
		finish(r, r->error);
}

static void on_idle(void *arg)
{
	struct relay *r = arg;
	uint64_t silent = loop_now_ms(r->loop) - r->active_ms;

	if (silent >= r->idle_ms)
		finish(r, ERR_TIMEOUT);
	else
		timer_set(&r->idle, r->loop, r->idle_ms - silent);
}

/* ---- start and stop ---- */

/* What was read before the hand-over is the first that `to` gets. */
static void flow_init(struct flow *f, struct conn *from, struct conn *to)
{
	f->from = from;
	f->to = to;
	f->has_ended = from->has_eof;
	f->bytes = buf_len(&from->in);
	f->chunk = CHUNK_FIRST;
	if (to->phase == CONN_OPEN)
		conn_write_take(to, &from->in);
}

int relay_start(struct conn **a_take, struct conn **b_take, uint64_t idle_ms, relay_fn *fn, void *arg,
	struct relay **relay_out)
{
	struct relay *r = xcalloc(1, sizeof(*r));
	struct conn *a = *a_take, *b = *b_take;

	require(a->loop == b->loop && a->phase >= CONN_OPEN && b->phase >= CONN_OPEN);
	*a_take = *b_take = NULL;
	r->loop = a->loop;
	r->idle_ms = idle_ms;
	r->active_ms = loop_now_ms(r->loop);
	r->fn = fn;
	r->arg = arg;
	conn_set_raw(a, on_ready, r);
	conn_set_raw(b, on_ready, r);
	flow_init(&r->flows[0], a, b);
	flow_init(&r->flows[1], b, a);
	timer_init(&r->idle, on_idle, r);
	timer_set(&r->idle, r->loop, idle_ms);
	conn_schedule(a); /* the first pumping, at the turn's end */
	*relay_out = r;
	return 0;
}

static void stop_later(void *arg)
{
	struct relay *r = arg;

	if (!r->is_over)
		finish(r, ERR_CANCELLED);
}

void relay_stop(struct relay *r)
{
	loop_defer(r->loop, stop_later, r);
}
