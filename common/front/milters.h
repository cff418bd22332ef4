/*
 * The filters that a program knows (sections `milter`), and which of them a service asks, in which order (key `milters` of its
 * section). A set is made from one configuration, constant and counted; a reload makes a new one, and sessions keep theirs.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/front/milter.h"

/* Filters that one service asks. */
#define MILTERS_MOST 16

/* Of the program's table of sections. */
#define MILTERS_SECTION                                                                                      \
	{                                                                                                    \
		"milter", CONF_TITLED | CONF_RELOAD, NULL,                                                   \
			"A filter that is shown messages over the milter protocol (rspamd, OpenDKIM, "       \
			"ClamAV); services name it"                                                          \
	}
/* Rows of that section, and `milters` of the sections service smtp and submission. */
extern const struct conf_key milters_keys[];
/* In the program's check(). */
void milters_check(struct conf *conf);

struct milters;
/* conf has been checked; it need not outlive the set. */
struct milters *milters_new(const struct conf *conf);
struct milters *milters_ref(struct milters *milters);
/* Accepts NULL. */
void milters_unref(struct milters **milters);
/* By its title; NULL: there is none. Lives as long as the set. */
const struct milter_settings *milters_find(const struct milters *milters, const char *title);
/* Those of a service, in order; returns how many (at most MILTERS_MOST). */
size_t milters_of(const struct milters *milters, const char *service,
	const struct milter_settings *settings_out[MILTERS_MOST]);
