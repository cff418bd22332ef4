/*
 * What the files of usermap share: the set, its maps, chains. Not for other rooms.
 *
 * A struct usermap is one map with its options, which never change; a changed configuration makes a new one
 * that takes over the data. `data` is read by all loops under `lock`, held for a few instructions. `file`
 * belongs to the polling job while there is one (`poll`), to the set's loop otherwise.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/auth/directory_login.h"
#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/net/timer.h"
#include "mapping/map_file.h"
#include "mapping/usermap.h"

enum usermap_counter {
	USERMAP_COUNT_HIT,
	USERMAP_COUNT_NONE,
	USERMAP_COUNT_WRONG,
	USERMAP_COUNT_NOT_NOW,
	USERMAP_COUNTERS
};

struct usermap_metrics {
	struct metric *usable, *entries, *bytes, *generation, *loaded_at, *load_ms, *loads, *failures,
		*refused;
	struct metric *lookups[USERMAP_COUNTERS];
};

struct usermap {
	_Atomic unsigned refs;
	struct usermap_set *set; /* NULL: dropped */
	/* options, constant */
	char *name, *path; /* path: "" of an LDAP map */
	enum usermap_type type;
	char **domains; /* NULL-ended, normalised; NULL: all */
	char **backends;
	unsigned max_shrink;
	bool ports;
	struct directory_login *ldap; /* NULL: a file map */
	uint64_t positive_ms, negative_ms, stale_ms;
	size_t cache_entries;
	bool send_only;
	/* in force */
	pthread_mutex_t lock;
	struct map_data *data; /* NULL: none */
	uint64_t data_generation;
	/* watching: the set's loop, or the job */
	struct map_file file;
	struct poll *poll; /* under way; NULL: none */
	/* status: the set's loop */
	bool reloading, reload_force;
	uint64_t reload_until_ms;
	struct list reloads;      /* struct usermap_reload */
	struct map_data *retired; /* freed by the next job: it may be large */
	int64_t loaded_at, error_at;
	uint64_t load_ms, loads, failures;
	char *error;
	struct usermap_metrics metrics;
};

struct usermap_set {
	struct loop *loop;
	struct directory_set *directories;
	struct work_pool *hash_pool, *load_pool;
	struct credential_cache *cache;
	struct usermap **maps;
	size_t count;
	struct timer timer;
};

struct usermap_chain {
	_Atomic unsigned refs;
	struct usermap_set *set;
	size_t count;
	struct usermap *maps[USERMAP_CHAIN_MOST];
};

/* NULL and why: a domain that is none, a name too long, no such connector. refs is 1. */
struct usermap *usermap_new(struct usermap_set *set, const struct usermap_options *options,
	const char *const *backends, const struct directory_plan *connectors, struct buf *why);
struct usermap *usermap_ref(struct usermap *map);
void usermap_unref(struct usermap **map);
/* True if the options are those that the map has. */
bool usermap_is_same(const struct usermap *map, const struct usermap *other);
/* The generation in force, counted for the caller; NULL if there is none. Any thread. */
struct map_data *usermap_data(struct usermap *map, uint64_t *generation_out);
/* The map is asked about names of this domain. */
bool usermap_has_domain(const struct usermap *map, struct slice name);
/* Where an entry of a directory leads. ERR_*: its values are neither back-ends nor hosts, or too many; bad_out: which. */
MUST_CHECK int usermap_targets(const struct usermap *map, struct slice hosts, struct map_targets *targets_out,
	struct slice *bad_out);
