/*
 * How much each user may send: messages and recipients within an hour and within a day, both sliding. Counted by name, in memory; one table a
 * program, which outlives reloads. It is written to a file when the program ends in order and while it runs (send_limits_save()), and
 * read at the start, so that a restart gives nobody a fresh allowance. Any thread; short lock; at most SEND_LIMITS_USERS_MOST users who have
 * sent within a day, beyond that the one who sent least recently is forgotten.
 */
#pragma once

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

#define SEND_LIMITS_USERS_MOST 200000

struct send_limits;

/* What one user may; 0: any number. */
struct send_allowance {
	uint32_t messages_hour, messages_day, recipients_hour, recipients_day;
};

struct send_counts {
	uint32_t messages_hour, messages_day, recipients_hour, recipients_day;
	int64_t last; /* seconds since 1970 of the last; 0: never */
};

struct send_limits *send_limits_new(void);
void send_limits_free(struct send_limits **limits);

/* Counts; ERR_TOO_BIG: it would be too much, and nothing was counted. now_s: seconds since 1970, for tests a fake's. */
MUST_CHECK int send_limits_take(struct send_limits *limits, struct slice user,
	const struct send_allowance *allowance, uint32_t messages, uint32_t recipients, int64_t now_s);
/* As of now. */
void send_limits_counts(
	struct send_limits *limits, struct slice user, int64_t now_s, struct send_counts *counts_out);
/* Each user who has sent within a day, in no order, without the lock held. */
void send_limits_each(struct send_limits *limits, int64_t now_s,
	void (*fn)(void *arg, const char *user, const struct send_counts *counts), void *arg);
/* Forgets what a user (empty: everybody) has sent. False: nothing was known of him. */
bool send_limits_clear(struct send_limits *limits, struct slice user);

/* Writes all that counts to the file, whole or not at all (a new file, renamed); nothing if nothing has changed since the last time. */
MUST_CHECK int send_limits_save(struct send_limits *limits, const char *path, int64_t now_s);
/* Adds what the file says. A file that is not there is no error; ERR_SYNTAX: from a line on it makes no sense, what stood before counts. */
MUST_CHECK int send_limits_load(struct send_limits *limits, const char *path, int64_t now_s);
