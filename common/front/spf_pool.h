/*
 * The checker processes of one loop (common/spf): started when they are needed, at most so many, each with one run at a time. One that
 * dies, lies or takes too long is ended and replaced; its run fails. Nothing here waits for a process. Everything belongs to the loop.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/net/loop.h"

#define SPF_POOL_WAITING_MOST 1000 /* runs that wait for a checker */
#define SPF_POOL_RUN_MS 2000       /* of one run */
#define SPF_POOL_IDLE_MS 60000     /* a checker beyond the least is ended after so long */
#define SPF_POOL_AGAIN_MS 1000     /* before a new one, when the last has died over its first run */

struct spf_pool;
/* error 0: the reply, a view. ERR_NOT_NOW: there is none. */
typedef void spf_pool_fn(void *arg, int error, struct slice reply);

/* Embedded in its owner. */
struct spf_pool_job {
	struct list link;
	spf_pool_fn *fn;
	void *arg;
	struct buf run; /* the owner's; constant until fn or cancel */
	struct spf_checker *checker;
	bool is_waiting;
};

/* program: a path that lives on. */
struct spf_pool *spf_pool_new(struct loop *loop, const char *program, unsigned least, unsigned most);
/* Ends the processes; jobs are forgotten without a word. */
void spf_pool_free(struct spf_pool **pool);
/* Starts those that there should be at least. */
void spf_pool_fill(struct spf_pool *pool);
/* fn is called later. ERR_NOT_NOW: too many wait, or no checker can be started. */
MUST_CHECK int spf_pool_run(struct spf_pool *pool, struct spf_pool_job *job);
/* fn will not be called. */
void spf_pool_cancel(struct spf_pool *pool, struct spf_pool_job *job);
unsigned spf_pool_count(const struct spf_pool *pool);
