/* Workers are made before their loops have anything to do; each finds its own by the number of its loop. */
#include "proxy/worker.h"

#include <stdlib.h>

#include "common/base/mem.h"

static struct worker *workers;
static unsigned worker_count;

struct worker *worker_here(void)
{
	unsigned i = loop_index(loop_current());

	require(i < worker_count);
	return &workers[i];
}

unsigned workers_count(void)
{
	return worker_count;
}

struct worker *workers_at(unsigned i)
{
	require(i < worker_count);
	return &workers[i];
}

void workers_start(struct loop_group *group, struct config *config)
{
	worker_count = loop_group_count(group);
	workers = xcalloc(worker_count, sizeof(*workers));
	for (unsigned i = 0; i < worker_count; i++) {
		workers[i].loop = loop_group_at(group, i);
		workers[i].config = config_ref(config);
		list_init(&workers[i].sessions);
		list_init(&workers[i].logins);
		list_init(&workers[i].waiting);
		list_init(&workers[i].spares);
	}
}

struct change {
	struct worker *worker;
	struct config *config;
};

static void change_config(void *arg)
{
	struct change *change = arg;
	struct config *old = change->worker->config;

	change->worker->config = change->config;
	config_unref(&old);
	free(change);
}

void workers_set_config(struct config *config)
{
	for (unsigned i = 0; i < worker_count; i++) {
		struct change *change = xmalloc(sizeof(*change));

		*change = (struct change){&workers[i], config_ref(config)};
		loop_post(workers[i].loop, change_config, change);
	}
}

void workers_end(void)
{
	for (unsigned i = 0; i < worker_count; i++)
		config_unref(&workers[i].config);
	free(workers);
	workers = NULL;
	worker_count = 0;
}
