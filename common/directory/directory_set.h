/*
 * The connectors of a program: made from the configuration, kept as long as anybody asks them, with the worker threads
 * on which they connect. On the loop that it was opened for, or after that has ended.
 */
#pragma once

#include "common/directory/directory_conf.h"

struct directory_set;

/* Without connectors. */
struct directory_set *directory_set_new(struct loop *loop);
/* Closes all connectors: nobody asks them any more. Run the loop once more afterwards: connections that are just being
 * made come home there. */
void directory_set_free(struct directory_set **set);

/* A connector with its servers. Constant; the directory holds its life: see directory_hold(). */
struct directory_entry {
	struct directory_connector options; /* texts are copies */
	struct directory *directory;
};

/*
 * Makes those of the configuration that are new or changed; the plan has all, in its order. Nothing is in force before
 * directory_set_use(); directory_set_drop() undoes it. Both take the plan. ERR_NOT_NOW: no threads.
 */
struct directory_plan;
MUST_CHECK int directory_set_plan(struct directory_set *set, const struct directory_connector *connectors,
	size_t count, struct directory_plan **plan_out);
void directory_set_use(struct directory_set *set, struct directory_plan **plan);
void directory_set_drop(struct directory_set *set, struct directory_plan **plan);
/* NULL: there is none. View, as long as the connector is planned, in force or held. */
const struct directory_entry *directory_plan_find(const struct directory_plan *plan, const char *name);
/* Of those in force. */
const struct directory_entry *directory_set_find(const struct directory_set *set, const char *name);
/* Closes those that went and that nobody holds any more. Call it now and then. */
void directory_set_sweep(struct directory_set *set);
