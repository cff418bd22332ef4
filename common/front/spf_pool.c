#include "common/front/spf_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/random.h"
#include "common/net/timer.h"
#include "common/proto/spf_wire.h"

#define REAP_MS 50

struct spf_checker {
	struct list link;
	struct spf_pool *pool;
	pid_t pid;
	int fd; /* -1: it is dying */
	struct loop_watch *watch;
	struct timer timer; /* of a run, of idleness, of waiting for its end */
	struct spf_pool_job *job;
	char number[SPF_WIRE_NUMBER_LEN]; /* of its run */
	bool is_busy;                     /* with a job, or with one that was cancelled */
	bool has_replied;
	bool is_wanted_dead; /* its end is no news */
};

struct spf_pool {
	struct loop *loop;
	const char *program;
	unsigned least, most, count; /* not counting those that die */
	struct list checkers, dying, waiting;
	unsigned waiting_count;
	uint64_t not_before_ms; /* no start until then */
	struct metric *running, *deaths;
};

static void on_ready(void *arg, int ready);
static void on_time(void *arg);

struct spf_pool *spf_pool_new(struct loop *loop, const char *program, unsigned least, unsigned most)
{
	struct spf_pool *p = xcalloc(1, sizeof(*p));

	p->loop = loop;
	p->program = program;
	p->least = least;
	p->most = most;
	list_init(&p->checkers);
	list_init(&p->dying);
	list_init(&p->waiting);
	p->running = metrics_gauge("mailtier_spf_checkers", NULL, "Running checkers of SPF records");
	p->deaths = metrics_counter(
		"mailtier_spf_checker_deaths", NULL, "Checkers of SPF records that crashed or took too long");
	return p;
}

unsigned spf_pool_count(const struct spf_pool *pool)
{
	return pool->count;
}

/* ---- processes ---- */

/* Its one descriptor is its standard input. */
static int spawn(const char *program, int its_end, pid_t *pid_out)
{
	char *const argv[] = {(char[]){"mailtier-spf"}, NULL};
	char *const env[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	rc = posix_spawn_file_actions_adddup2(&actions, its_end, STDIN_FILENO);
	for (int fd = STDOUT_FILENO; rc == 0 && fd <= STDERR_FILENO; fd++)
		rc = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawn(pid_out, program, &actions, &attributes, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return rc;
}

static void no_start_for_a_while(struct spf_pool *p)
{
	p->not_before_ms = loop_now_ms(p->loop) + SPF_POOL_AGAIN_MS;
}

static struct spf_checker *checker_start(struct spf_pool *p)
{
	struct spf_checker *c;
	int pair[2], rc;
	pid_t pid;

	if (loop_now_ms(p->loop) < p->not_before_ms)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		no_start_for_a_while(p);
		return NULL;
	}
	rc = spawn(p->program, pair[1], &pid);
	close(pair[1]);
	if (rc) {
		log_error("front", "%s: does not start: %s", p->program, strerror(rc));
		close(pair[0]);
		no_start_for_a_while(p);
		return NULL;
	}
	c = xcalloc(1, sizeof(*c));
	c->pool = p;
	c->pid = pid;
	c->fd = pair[0];
	timer_init(&c->timer, on_time, c);
	list_init(&c->link);
	list_add_last(&p->checkers, &c->link);
	p->count++;
	metric_add(p->running, 1);
	if (loop_watch_start(p->loop, c->fd, LOOP_READABLE, on_ready, c, &c->watch) != 0)
		c->watch = NULL; /* then its run ends by its time */
	return c;
}

static void checker_free(struct spf_checker *c)
{
	timer_stop(&c->timer);
	list_remove(&c->link);
	loop_free_later(c->pool->loop, c);
}

static void tell_of_death(const struct spf_checker *c, int status)
{
	if (c->is_wanted_dead || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	metric_add(c->pool->deaths, 1);
	if (WIFSIGNALED(status))
		log_error("front", "an SPF checker was ended by signal %d%s pid=%d", WTERMSIG(status),
			WTERMSIG(status) == SIGSYS ? ", which it gets for what its sandbox forbids" : "",
			(int)c->pid);
	else
		log_error("front", "an SPF checker ended with status %d pid=%d", WEXITSTATUS(status),
			(int)c->pid);
}

/* It is ended, and gone as soon as the kernel says so. */
static void reap(struct spf_checker *c)
{
	int status = 0;
	pid_t got = waitpid(c->pid, &status, WNOHANG);

	if (got == 0) {
		timer_set(&c->timer, c->pool->loop, REAP_MS);
		return;
	}
	if (got == c->pid)
		tell_of_death(c, status);
	checker_free(c);
}

static void checker_end(struct spf_checker *c)
{
	struct spf_pool *p = c->pool;

	/* One that was ended by others while it rested says nothing about the next. */
	if (c->is_busy && !c->has_replied && !c->is_wanted_dead)
		no_start_for_a_while(p);
	if (c->watch)
		loop_watch_stop(&c->watch);
	close(c->fd);
	c->fd = -1;
	p->count--;
	metric_add(p->running, -1);
	list_remove(&c->link);
	list_add_last(&p->dying, &c->link);
	reap(c);
}

/* ---- runs ---- */

static void give(struct spf_checker *c, struct spf_pool_job *job)
{
	struct slice run = buf_view(&job->run);
	struct iovec parts[] = {{c->number, sizeof(c->number)}, {(void *)(uintptr_t)run.p, run.len}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = ARRAY_LEN(parts)};
	ssize_t n;

	random_bytes(c->number, sizeof(c->number));
	n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	c->is_busy = true;
	c->job = job;
	job->checker = c;
	/* A failure shows as the end of the connection, or of the time. */
	timer_set(&c->timer, c->pool->loop, n < 0 ? 1 : SPF_POOL_RUN_MS);
}

static struct spf_checker *idle_checker(struct spf_pool *p)
{
	list_for_each (at, &p->checkers) {
		struct spf_checker *c = container_of(at, struct spf_checker, link);

		if (!c->is_busy)
			return c;
	}
	return p->count < p->most ? checker_start(p) : NULL;
}

static void end_job(struct spf_pool_job *job, int error, struct slice reply)
{
	job->checker = NULL;
	job->fn(job->arg, error, reply);
}

/* Those that wait get checkers while there are some; where none can be had, they fail. */
static void serve_waiting(struct spf_pool *p)
{
	while (!list_is_empty(&p->waiting)) {
		struct spf_pool_job *job = container_of(p->waiting.next, struct spf_pool_job, link);
		struct spf_checker *c = idle_checker(p);

		if (!c && p->count)
			return;
		list_remove(&job->link);
		job->is_waiting = false;
		p->waiting_count--;
		if (c)
			give(c, job);
		else
			end_job(job, ERR_NOT_NOW, (struct slice){0});
	}
}

static void fail(struct spf_checker *c)
{
	struct spf_pool *p = c->pool;
	struct spf_pool_job *job = c->job;

	c->job = NULL;
	checker_end(c);
	if (job)
		end_job(job, ERR_NOT_NOW, (struct slice){0});
	serve_waiting(p);
}

static void on_ready(void *arg, int ready)
{
	struct spf_checker *c = arg;
	char reply[SPF_WIRE_NUMBER_LEN + SPF_WIRE_REPLY_MOST + 1];
	struct spf_pool_job *job = c->job;
	ssize_t n = recv(c->fd, reply, sizeof(reply), MSG_DONTWAIT);

	(void)ready;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Nothing unasked, and no second reply to the run before. */
	if (n <= 0 || !c->is_busy || (size_t)n == sizeof(reply) || (size_t)n < sizeof(c->number) ||
		memcmp(reply, c->number, sizeof(c->number)) != 0) {
		if (n > 0)
			kill(c->pid, SIGKILL);
		fail(c);
		return;
	}
	c->has_replied = true;
	c->is_busy = false;
	c->job = NULL;
	timer_stop(&c->timer);
	if (c->pool->count > c->pool->least)
		timer_set(&c->timer, c->pool->loop, SPF_POOL_IDLE_MS);
	serve_waiting(c->pool);
	if (job)
		end_job(job, 0, slice_from(slice_of(reply, (size_t)n), sizeof(c->number)));
}

static void on_time(void *arg)
{
	struct spf_checker *c = arg;

	if (c->fd < 0) {
		reap(c);
		return;
	}
	if (c->is_busy)
		log_error("front", "an SPF checker takes too long, and is ended pid=%d", (int)c->pid);
	else
		c->is_wanted_dead = true;
	kill(c->pid, SIGKILL);
	fail(c);
}

void spf_pool_fill(struct spf_pool *pool)
{
	while (pool->count < pool->least && checker_start(pool))
		;
}

int spf_pool_run(struct spf_pool *pool, struct spf_pool_job *job)
{
	struct spf_checker *c = idle_checker(pool);

	job->checker = NULL;
	job->is_waiting = false;
	list_init(&job->link);
	if (c) {
		give(c, job);
		return 0;
	}
	if (!pool->count || pool->waiting_count == SPF_POOL_WAITING_MOST)
		return ERR_NOT_NOW;
	list_add_last(&pool->waiting, &job->link);
	job->is_waiting = true;
	pool->waiting_count++;
	return 0;
}

void spf_pool_cancel(struct spf_pool *pool, struct spf_pool_job *job)
{
	if (job->checker)
		job->checker->job = NULL;
	job->checker = NULL;
	if (job->is_waiting) {
		list_remove(&job->link);
		job->is_waiting = false;
		pool->waiting_count--;
	}
}

static void end_now(struct spf_checker *c)
{
	kill(c->pid, SIGKILL);
	if (c->fd >= 0) {
		if (c->watch)
			loop_watch_stop(&c->watch);
		close(c->fd);
		metric_add(c->pool->running, -1);
	}
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	checker_free(c);
}

void spf_pool_free(struct spf_pool **pool)
{
	struct spf_pool *p = *pool;

	if (!p)
		return;
	*pool = NULL;
	list_for_each_safe (at, &p->checkers)
		end_now(container_of(at, struct spf_checker, link));
	list_for_each_safe (at, &p->dying)
		end_now(container_of(at, struct spf_checker, link));
	free(p);
}
