/* The text is made on the loop and handed over to the worker whole: nothing is shared between the two. */
#include "backend/delivery/kept_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/timer.h"
#include "common/net/work.h"

struct kept_file {
	struct loop *loop;
	char *path;
	kept_file_fn *fn;
	void *arg;
	struct timer timer;
	struct work_pool *pool;
	bool is_changed;
};

struct saving {
	struct work work;
	struct buf text;
	char *path;
};

static void write_file(const char *path, struct slice text)
{
	struct buf aside = {0};
	FILE *file;
	bool is_written;

	buf_printf(&aside, "%s.new", path);
	file = fopen(buf_str_view(&aside), "we");
	is_written = file && fwrite(text.p ? text.p : "", 1, text.len, file) == text.len &&
		     fflush(file) == 0 && fsync(fileno(file)) == 0;
	if (file && fclose(file) != 0)
		is_written = false;
	if (!is_written || rename(buf_str_view(&aside), path) != 0)
		log_error("sending", "%s cannot be written: what it keeps is forgotten with a restart", path);
	buf_deinit(&aside);
}

static void run(void *job)
{
	struct saving *s = job;

	write_file(s->path, buf_view(&s->text));
}

static void done(void *job, int error)
{
	struct saving *s = job;

	(void)error;
	buf_deinit(&s->text);
	free(s->path);
	free(s);
}

static void save(void *arg)
{
	struct kept_file *k = arg;
	struct saving *s = xcalloc(1, sizeof(*s));

	s->work = (struct work){.run = run, .done = done, .job = s};
	s->path = xstrdup(k->path);
	k->fn(k->arg, &s->text);
	k->is_changed = false;
	if (work_submit(k->pool, k->loop, &s->work) != 0) {
		done(s, 0);
		kept_file_changed(k);
	}
}

struct kept_file *kept_file_new(
	struct loop *loop, const char *name, const char *path, kept_file_fn *fn, void *arg)
{
	struct kept_file *k = xcalloc(1, sizeof(*k));

	k->loop = loop;
	k->path = xstrdup(path);
	k->fn = fn;
	k->arg = arg;
	timer_init(&k->timer, save, k);
	if (work_pool_new(name, 1, 4, &k->pool) != 0)
		log_error("sending", "no thread for %s: it is written at the end alone", path);
	return k;
}

void kept_file_read(const struct kept_file *k, struct buf *out)
{
	FILE *file = fopen(k->path, "re");
	char piece[8192];
	size_t n;

	if (!file)
		return;
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0 && buf_len(out) + n <= KEPT_FILE_MOST)
		buf_add(out, piece, n);
	fclose(file);
}

void kept_file_changed(struct kept_file *k)
{
	k->is_changed = true;
	if (k->pool && !timer_is_set(&k->timer))
		timer_set(&k->timer, k->loop, KEPT_FILE_DELAY_MS);
}

void kept_file_end(struct kept_file *k)
{
	timer_stop(&k->timer);
	work_pool_end(k->pool);
}

void kept_file_free(struct kept_file **file)
{
	struct kept_file *k = *file;
	struct buf text = {0};

	*file = NULL;
	if (!k)
		return;
	work_pool_free(&k->pool);
	if (k->is_changed) {
		k->fn(k->arg, &text);
		write_file(k->path, buf_view(&text));
		buf_deinit(&text);
	}
	free(k->path);
	free(k);
}
