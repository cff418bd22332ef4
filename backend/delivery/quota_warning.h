/*
 * Warnings to users whose mailboxes, or folders with limits of their own, fill up: a message by a template into their INBOX,
 * once an interval for each threshold that is reached. The store says whom (store_quota_watch()) and remembers what was told, so
 * a restart repeats nothing. Of public folders, which are nobody's, those are told who administer them (right "a" on the folder
 * that has the limits, at most QUOTA_WARNING_TOLD_MAX); are there none, the log alone.
 *
 * Lives on one loop; the store's threads only put accounts into its queue.
 */
#pragma once

#include "backend/store/store_quota.h"
#include "common/base/buf.h"

struct loop;
struct store_work;
struct quota_warning;

#define QUOTA_WARNING_TEMPLATE_MAX 65536
#define QUOTA_WARNING_TOLD_MAX 50

struct quota_warning_settings {
	unsigned thresholds[STORE_QUOTA_THRESHOLDS_MAX]; /* percent, ascending */
	size_t count;                                    /* 0: nobody is warned */
	uint64_t interval_s;
	struct slice template; /* checked; empty: the built-in one */
	const char *from;      /* address; "": postmaster at the account's domain */
	const char *host;      /* for Message-ID */
};

/* Is it a template: "Subject: text", an empty line, the text; ${words} that are known? NULL, or why not; line_out: where. */
const char *quota_warning_check(struct slice template, unsigned *line_out);

struct quota_warning *quota_warning_new(struct store_work *work, struct loop *loop);
/* settings are copied. On the loop. */
void quota_warning_set(struct quota_warning *w, const struct quota_warning_settings *settings);
/* No warning begins any more: before store_work_halt(), on the loop. Accepts NULL. */
void quota_warning_end(struct quota_warning *w);
/* After its loop has run for the last time. Accepts NULL. */
void quota_warning_free(struct quota_warning **w);

/* What a warning is of, and who gets it. */
struct quota_warning_of {
	const char *address; /* of the account */
	struct slice folder; /* empty: the account */
	struct store_quota_use use;
	const char *to;
};
/* The message; out is whole, with CRLF. For quota_warning_new()'s own use, and tests. */
void quota_warning_write(const struct quota_warning_settings *settings, const struct quota_warning_of *of,
	unsigned threshold, int64_t now, struct buf *out);
