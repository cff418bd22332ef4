/*
 * One job a notice, on the workers that sign mail of users too. The message stands in a spool of its own meanwhile, as the signer wants it; notices
 * are limited (queue.notice-size), and so is how many are made at a time.
 */
#include "backend/notice_sign.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_sign.h"
#include "common/net/spool.h"
#include "common/net/work.h"
#include "common/proto/header.h"

struct notice_sign {
	struct loop *loop;
	pthread_mutex_t lock; /* over the pointer */
	struct mail_auth_keys *keys;
};

struct job {
	struct mail_auth_sign sign;
	struct spool *spool;
	struct work work;
	int error;
	void (*done)(void *arg, struct slice fields);
	void *done_arg;
};

struct notice_sign *notice_sign_new(struct loop *loop)
{
	struct notice_sign *s = xcalloc(1, sizeof(*s));

	s->loop = loop;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

int notice_sign_set(struct notice_sign *s, const struct conf *conf, struct buf *why)
{
	struct mail_auth_keys *keys, *old;
	int err = mail_auth_keys_new(conf, why, &keys);

	if (err)
		return err;
	pthread_mutex_lock(&s->lock);
	old = s->keys;
	s->keys = keys;
	pthread_mutex_unlock(&s->lock);
	mail_auth_keys_unref(&old);
	return 0;
}

void notice_sign_free(struct notice_sign **signer)
{
	struct notice_sign *s = *signer;

	*signer = NULL;
	if (!s)
		return;
	mail_auth_keys_unref(&s->keys);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct mail_auth_keys *take_keys(struct notice_sign *s)
{
	struct mail_auth_keys *keys;

	pthread_mutex_lock(&s->lock);
	keys = s->keys && s->keys->count ? mail_auth_keys_ref(s->keys) : NULL;
	pthread_mutex_unlock(&s->lock);
	return keys;
}

static void end(struct job *job)
{
	struct buf fields = {0};

	if (job->error)
		log_warn("queue", "a notice goes without a signature: %s", error_text(job->error));
	for (unsigned i = job->sign.count; !job->error && i-- > 0;)
		buf_printf(&fields, "%.*s: %.*s\r\n", SLICE_ARG(job->sign.made[i].name),
			SLICE_ARG(job->sign.made[i].value));
	job->done(job->done_arg, buf_view(&fields));
	buf_deinit(&fields);
	mail_auth_sign_deinit(&job->sign);
	spool_free(&job->spool);
	free(job);
}

static void run(void *arg)
{
	struct job *job = arg;

	job->error = mail_auth_sign_run(&job->sign);
}

static void on_run(void *arg, int error)
{
	struct job *job = arg;

	if (error)
		job->error = error;
	end(job);
}

static void start(struct notice_sign *s, struct job *job)
{
	int err;

	job->work = (struct work){.run = run, .done = on_run, .job = job};
	err = mail_auth_workers_submit(s->loop, &job->work);
	if (err == ERR_UNSUPPORTED)
		run(job);
	if (err)
		on_run(job, err == ERR_UNSUPPORTED ? 0 : err);
}

void notice_sign(
	void *arg, struct slice message, void (*done)(void *arg, struct slice fields), void *done_arg)
{
	struct notice_sign *s = arg;
	struct mail_auth_keys *keys = take_keys(s);
	struct job *job;
	size_t header = header_length(message);

	if (!keys) {
		done(done_arg, slice_of(NULL, 0));
		return;
	}
	job = xcalloc(1, sizeof(*job));
	job->done = done;
	job->done_arg = done_arg;
	job->spool = spool_new(message.len, 0);
	job->error = spool_add(job->spool, message);
	mail_auth_sign_init(
		&job->sign, keys, slice_sub(message, 0, header), job->spool, header, clock_wall_s());
	mail_auth_keys_unref(&keys);
	if (job->error || !job->sign.choice_count)
		end(job);
	else
		start(s, job);
}
