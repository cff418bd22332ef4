/*
 * What each loop of the proxy has of its own: the configuration in force, its open sessions, its ready connections to back-ends.
 * Belongs to its loop's thread; the main loop reaches it by loop_post().
 */
#pragma once

#include "common/base/list.h"
#include "common/net/timer.h"
#include "proxy/config.h"

struct worker {
	struct loop *loop;
	struct config *config;
	struct list sessions; /* struct session (sessions.c) */
	struct list logins;   /* logins under way (login.c) */
	struct list spares;   /* ready connections (spare.h) */
	struct list waiting;  /* logins that wait at a back-end's gate (login.c) */
	unsigned waiting_count;
	bool is_letting_in; /* it is looked at in this turn or the next */
	struct timer waiting_tick;
	struct timer spare_tick;
};

/* The worker of the calling thread's loop. */
struct worker *worker_here(void);

/* Main thread, before listeners open: one for each loop of the group, with this configuration. */
void workers_start(struct loop_group *group, struct config *config);
/* Main thread: each gets the new configuration on its loop. */
void workers_set_config(struct config *config);
unsigned workers_count(void);
struct worker *workers_at(unsigned i);
/* Main thread, after the group has been stopped. */
void workers_end(void);
