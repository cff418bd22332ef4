/*
 * A user's counts stand in buckets: twelve of five minutes, 24 of an hour, each with the number of its interval, so that an old one is seen to be
 * old when it is looked at. "Within an hour" is thus the last 55 to 60 minutes, "a day" the last 23 to 24 hours.
 *
 *	file: one line a user and bucket: h|d INTERVAL MESSAGES RECIPIENTS USER
 */
#include "backend/session/send_limits.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"

#define FINE_S 300
#define FINE_COUNT 12
#define COARSE_S 3600
#define COARSE_COUNT 24
#define LINE_MOST 1024

struct bucket {
	uint32_t interval;
	uint32_t messages, recipients;
};

struct user {
	struct list link; /* the one who sent most recently comes last */
	int64_t last;
	struct bucket fine[FINE_COUNT], coarse[COARSE_COUNT];
	char name[];
};

struct send_limits {
	pthread_mutex_t lock;
	struct table *users;
	struct list recent;
	bool is_changed;
};

struct send_limits *send_limits_new(void)
{
	struct send_limits *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->lock, NULL);
	l->users = table_new();
	list_init(&l->recent);
	return l;
}

static void forget(struct send_limits *l, struct user *u)
{
	(void)table_remove(l->users, slice_str(u->name));
	list_remove(&u->link);
	free(u);
	l->is_changed = true;
}

void send_limits_free(struct send_limits **limits)
{
	struct send_limits *l = *limits;

	*limits = NULL;
	if (!l)
		return;
	list_for_each_safe (at, &l->recent)
		forget(l, container_of(at, struct user, link));
	table_free(&l->users);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* ---- buckets ---- */

static void sum(
	const struct bucket *buckets, unsigned count, uint32_t now, uint32_t *messages, uint32_t *recipients)
{
	*messages = *recipients = 0;
	for (unsigned i = 0; i < count; i++) {
		if (!buckets[i].interval || buckets[i].interval > now || now - buckets[i].interval >= count)
			continue;
		*messages += buckets[i].messages;
		*recipients += buckets[i].recipients;
	}
}

static void add(
	struct bucket *buckets, unsigned count, uint32_t interval, uint32_t messages, uint32_t recipients)
{
	struct bucket *b = &buckets[interval % count];

	if (b->interval != interval)
		*b = (struct bucket){.interval = interval};
	b->messages += messages;
	b->recipients += recipients;
}

static void count(const struct user *u, int64_t now_s, struct send_counts *c)
{
	sum(u->fine, FINE_COUNT, (uint32_t)(now_s / FINE_S), &c->messages_hour, &c->recipients_hour);
	sum(u->coarse, COARSE_COUNT, (uint32_t)(now_s / COARSE_S), &c->messages_day, &c->recipients_day);
	c->last = u->last;
}

/* ---- users ---- */

/* Those who have not sent for a day count for nothing. */
static void sweep(struct send_limits *l, int64_t now_s)
{
	while (!list_is_empty(&l->recent)) {
		struct user *u = container_of(l->recent.next, struct user, link);

		if (u->last + COARSE_S * COARSE_COUNT > now_s &&
			table_count(l->users) <= SEND_LIMITS_USERS_MOST)
			break;
		forget(l, u);
	}
}

static struct user *get(struct send_limits *l, struct slice name)
{
	struct user *u = table_get(l->users, name);

	if (u)
		return u;
	u = xcalloc(1, sizeof(*u) + name.len + 1);
	memcpy(u->name, name.p, name.len);
	list_add_last(&l->recent, &u->link);
	(void)table_put(l->users, slice_str(u->name), u);
	return u;
}

static bool is_over(uint32_t have, uint32_t more, uint32_t most)
{
	return most && more && (uint64_t)have + more > most;
}

int send_limits_take(struct send_limits *l, struct slice user, const struct send_allowance *a,
	uint32_t messages, uint32_t recipients, int64_t now_s)
{
	struct send_counts c;
	struct user *u;
	int err = 0;

	if (!user.len)
		return 0;
	pthread_mutex_lock(&l->lock);
	u = get(l, user);
	count(u, now_s, &c);
	if (is_over(c.messages_hour, messages, a->messages_hour) ||
		is_over(c.messages_day, messages, a->messages_day) ||
		is_over(c.recipients_hour, recipients, a->recipients_hour) ||
		is_over(c.recipients_day, recipients, a->recipients_day)) {
		err = ERR_TOO_BIG;
		if (!u->last)
			forget(l, u);
	} else {
		add(u->fine, FINE_COUNT, (uint32_t)(now_s / FINE_S), messages, recipients);
		add(u->coarse, COARSE_COUNT, (uint32_t)(now_s / COARSE_S), messages, recipients);
		u->last = now_s;
		list_remove(&u->link);
		list_add_last(&l->recent, &u->link);
		l->is_changed = true;
		sweep(l, now_s);
	}
	pthread_mutex_unlock(&l->lock);
	return err;
}

void send_limits_counts(
	struct send_limits *l, struct slice user, int64_t now_s, struct send_counts *counts_out)
{
	struct user *u;

	*counts_out = (struct send_counts){0};
	pthread_mutex_lock(&l->lock);
	u = table_get(l->users, user);
	if (u)
		count(u, now_s, counts_out);
	pthread_mutex_unlock(&l->lock);
}

bool send_limits_clear(struct send_limits *l, struct slice user)
{
	bool any = false;

	pthread_mutex_lock(&l->lock);
	list_for_each_safe (at, &l->recent) {
		struct user *u = container_of(at, struct user, link);

		if (user.len && !slice_is_str(user, u->name))
			continue;
		forget(l, u);
		any = true;
	}
	pthread_mutex_unlock(&l->lock);
	return any;
}

/* ---- all ---- */

struct copy {
	char *name;
	struct send_counts counts;
};

void send_limits_each(struct send_limits *l, int64_t now_s,
	void (*fn)(void *arg, const char *user, const struct send_counts *counts), void *arg)
{
	struct copy *copies;
	size_t n = 0;

	pthread_mutex_lock(&l->lock);
	sweep(l, now_s);
	copies = xcalloc(table_count(l->users) + 1, sizeof(*copies));
	list_for_each (at, &l->recent) {
		const struct user *u = container_of(at, struct user, link);

		copies[n].name = xstrdup(u->name);
		count(u, now_s, &copies[n++].counts);
	}
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < n; i++) {
		fn(arg, copies[i].name, &copies[i].counts);
		free(copies[i].name);
	}
	free(copies);
}

/* ---- the file ---- */

static void write_buckets(struct buf *out, char kind, const struct bucket *buckets, unsigned count,
	uint32_t now, const char *name)
{
	for (unsigned i = 0; i < count; i++) {
		const struct bucket *b = &buckets[i];

		if (b->interval && b->interval <= now && now - b->interval < count)
			buf_printf(
				out, "%c %u %u %u %s\n", kind, b->interval, b->messages, b->recipients, name);
	}
}

static int write_file(const char *path, struct slice text)
{
	struct buf temporary = {0};
	int fd, err = 0;

	buf_printf(&temporary, "%s.new", path);
	fd = open(buf_str_view(&temporary), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		err = error_from_errno(errno);
	while (!err && text.len) {
		ssize_t n = write(fd, text.p, text.len);

		if (n < 0 && errno != EINTR)
			err = error_from_errno(errno);
		else if (n > 0)
			text = slice_from(text, (size_t)n);
	}
	if (fd >= 0 && close(fd) && !err)
		err = error_from_errno(errno);
	if (!err && rename(buf_str_view(&temporary), path))
		err = error_from_errno(errno);
	buf_deinit(&temporary);
	return err;
}

int send_limits_save(struct send_limits *l, const char *path, int64_t now_s)
{
	struct buf out = {0};
	int err;

	pthread_mutex_lock(&l->lock);
	if (!l->is_changed) {
		pthread_mutex_unlock(&l->lock);
		return 0;
	}
	sweep(l, now_s);
	list_for_each (at, &l->recent) {
		const struct user *u = container_of(at, struct user, link);

		write_buckets(&out, 'h', u->fine, FINE_COUNT, (uint32_t)(now_s / FINE_S), u->name);
		write_buckets(&out, 'd', u->coarse, COARSE_COUNT, (uint32_t)(now_s / COARSE_S), u->name);
	}
	l->is_changed = false;
	pthread_mutex_unlock(&l->lock);
	err = write_file(path, buf_view(&out));
	buf_deinit(&out);
	return err;
}

/* One number off the start, with the blank behind it. */
static int take_number(struct slice *line, uint32_t *number_out)
{
	ptrdiff_t blank = slice_find(*line, ' ');

	if (blank <= 0 || num_parse_u32(slice_sub(*line, 0, (size_t)blank), number_out))
		return ERR_SYNTAX;
	*line = slice_from(*line, (size_t)blank + 1);
	return 0;
}

static int load_line(struct send_limits *l, struct slice line, int64_t now_s)
{
	bool is_fine = line.len > 2 && line.p[0] == 'h';
	uint32_t interval, messages, recipients, now = (uint32_t)(now_s / (is_fine ? FINE_S : COARSE_S));
	struct user *u;
	int64_t at;

	if (line.len < 3 || (line.p[0] != 'h' && line.p[0] != 'd') || line.p[1] != ' ')
		return ERR_SYNTAX;
	line = slice_from(line, 2);
	if (take_number(&line, &interval) || take_number(&line, &messages) ||
		take_number(&line, &recipients) || !line.len || slice_has_control(line))
		return ERR_SYNTAX;
	if (interval > now || now - interval >= (is_fine ? FINE_COUNT : COARSE_COUNT))
		return 0;
	if (table_count(l->users) >= SEND_LIMITS_USERS_MOST && !table_get(l->users, line))
		return 0;
	u = get(l, line);
	if (is_fine)
		add(u->fine, FINE_COUNT, interval, messages, recipients);
	else
		add(u->coarse, COARSE_COUNT, interval, messages, recipients);
	at = (int64_t)interval * (is_fine ? FINE_S : COARSE_S);
	if (at > u->last)
		u->last = at;
	return 0;
}

int send_limits_load(struct send_limits *l, const char *path, int64_t now_s)
{
	char line[LINE_MOST];
	FILE *file = fopen(path, "re");
	int err = 0;

	if (!file)
		return errno == ENOENT ? 0 : error_from_errno(errno);
	pthread_mutex_lock(&l->lock);
	while (!err && fgets(line, sizeof(line), file)) {
		size_t len = strlen(line);

		if (!len || line[len - 1] != '\n')
			err = ERR_SYNTAX;
		else
			err = load_line(l, slice_of(line, len - 1), now_s);
	}
	pthread_mutex_unlock(&l->lock);
	fclose(file);
	return err;
}
