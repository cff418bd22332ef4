/*
 * All maps of a program, and the watching of their files. A timer looks twice a second: for each map that is
 * not being looked at it sends one job to the loading thread; the job stats, perhaps reads and parses, and
 * comes back to the set's loop, which swaps the generation under the map's lock. One thread loads, so that
 * reading never takes more than one core; the generation that was replaced is freed there too, since freeing
 * a million entries takes milliseconds.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "mapping/usermap_private.h"

#define AREA "mapping"
#define LOOK_EVERY_MS 500
#define START_WAIT_MS 1500   /* for a file that is just being written when the program starts */
#define RELOAD_WAIT_MS 15000 /* for a file to stand still when an operator asks */
#define WORDS_MOST (16u * 1024)

struct poll {
	struct work work;
	struct usermap *map;
	struct map_data *retired;
	unsigned flags;
	enum map_look look;
	int error;
	struct map_parse_info info;
	struct map_data *data;
	uint64_t took_ms;
	struct buf words;
};

struct usermap_reload {
	struct list link;
	usermap_reload_fn *fn;
	void *arg;
};

/* ---- what a look brought ---- */

static void data_swap(struct usermap *map, struct map_data *data, uint64_t generation)
{
	struct map_data *old;

	pthread_mutex_lock(&map->lock);
	old = map->data;
	map->data = data;
	map->data_generation = generation;
	pthread_mutex_unlock(&map->lock);
	if (map->retired)
		map_data_unref(&map->retired);
	map->retired = old;
}

static void map_loaded(struct usermap *map, struct poll *p)
{
	struct usermap_metrics *m = &map->metrics;
	size_t entries = map_data_count(p->data);

	map->loaded_at = clock_wall_s();
	map->load_ms = p->took_ms;
	map->loads++;
	free(map->error);
	map->error = xstrdup("");
	metric_set(m->usable, 1);
	metric_set(m->entries, (int64_t)entries);
	metric_set(m->bytes, (int64_t)map_data_bytes(p->data));
	metric_set(m->generation, (int64_t)(p->info.generation & 0xffffffffffff));
	metric_set(m->loaded_at, map->loaded_at);
	metric_set(m->load_ms, (int64_t)p->took_ms);
	metric_set(m->refused, 0);
	metric_add(m->loads, 1);
	log_info(AREA, "map taken map=%s entries=%zu generation=%016" PRIx64 " ms=%" PRIu64, map->name,
		entries, p->info.generation, p->took_ms);
	buf_printf(&p->words, "%zu entries, generation %016" PRIx64, entries, p->info.generation);
	data_swap(map, p->data, p->info.generation);
	p->data = NULL;
}

static void map_refused(struct usermap *map, struct poll *p)
{
	map->failures++;
	map->error_at = clock_wall_s();
	free(map->error);
	map->error = xstrdup(buf_str_view(&p->words));
	metric_add(map->metrics.failures, 1);
	metric_set(map->metrics.refused, 1);
	/* The first fault is enough for a line of the log; `map status` shows them all. */
	log_error(AREA, "map refused, %s map=%s: %.*s%s",
		map->data ? "the last good one stays in force" : "none is in force: not now for its users",
		map->name, (int)strcspn(map->error, "\n"), map->error,
		strchr(map->error, '\n') ? " (and more)" : "");
}

/* Answers those who asked for a reload. They may ask for another one. */
static void reloads_answer(struct usermap *map, int error, const char *words)
{
	struct list waiting;

	list_init(&waiting);
	list_move_all(&waiting, &map->reloads);
	map->reloading = map->reload_force = false;
	while (!list_is_empty(&waiting)) {
		struct usermap_reload *r = container_of(waiting.next, struct usermap_reload, link);
		struct usermap_reload copy = *r;

		list_remove(&r->link);
		free(r);
		if (copy.fn)
			copy.fn(copy.arg, map->name, error, words);
	}
}

static void poll_take(struct usermap *map, struct poll *p)
{
	switch (p->look) {
	case MAP_LOOK_SAME:
		break;
	case MAP_LOOK_MOVING:
		break;
	case MAP_LOOK_LOADED:
		map_loaded(map, p);
		p->error = 0;
		break;
	case MAP_LOOK_REFUSED:
		map_refused(map, p);
		break;
	}
}

static void poll_free(struct poll *p)
{
	map_data_unref(&p->data);
	map_data_unref(&p->retired);
	usermap_unref(&p->map);
	buf_deinit(&p->words);
	free(p);
}

/* On a worker, or at start on the caller's thread. */
static void poll_run(void *job)
{
	struct poll *p = job;
	uint64_t start;

	map_data_unref(&p->retired);
	start = clock_mono_ms();
	p->look = map_file_look(&p->map->file, p->flags, &p->words, &p->error, &p->info, &p->data);
	p->took_ms = clock_mono_ms() - start;
}

static void poll_done(void *job, int error)
{
	struct poll *p = job;
	struct usermap *map = p->map;
	bool settled = p->look == MAP_LOOK_LOADED || p->look == MAP_LOOK_REFUSED;

	map->poll = NULL;
	if (!error && map->set) {
		poll_take(map, p);
		/* A look that began before the wish does not fulfil it. */
		if (map->reloading && p->flags & MAP_LOOK_AGAIN && settled)
			reloads_answer(map, p->error, buf_str_view(&p->words));
		else if (map->reloading && clock_mono_ms() > map->reload_until_ms)
			reloads_answer(map, ERR_NOT_NOW, "the file does not stand still");
	}
	poll_free(p);
}

static struct poll *poll_new(struct usermap *map, unsigned flags)
{
	struct poll *p = xcalloc(1, sizeof(*p));

	p->work = (struct work){.run = poll_run, .done = poll_done, .job = p};
	p->map = usermap_ref(map);
	p->flags = flags;
	p->retired = map->retired;
	map->retired = NULL;
	buf_init(&p->words, WORDS_MOST);
	return p;
}

static void map_poll(struct usermap_set *set, struct usermap *map)
{
	struct poll *p;

	if (map->poll || map->ldap)
		return;
	p = poll_new(map, (map->reloading ? MAP_LOOK_AGAIN : 0) | (map->reload_force ? MAP_LOOK_FORCE : 0));
	if (work_submit(set->load_pool, set->loop, &p->work))
		poll_free(p); /* the next look will do */
	else
		map->poll = p;
}

static void on_timer(void *arg)
{
	struct usermap_set *set = arg;

	for (size_t i = 0; i < set->count; i++)
		map_poll(set, set->maps[i]);
	directory_set_sweep(set->directories);
	timer_set(&set->timer, set->loop, LOOK_EVERY_MS);
}

/* ---- opening, changing, closing ---- */

/* The first reading, before anybody asks. */
static void map_first(struct usermap *map)
{
	uint64_t until = clock_mono_ms() + START_WAIT_MS;
	const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};

	while (!map->ldap) {
		struct poll *p = poll_new(map, MAP_LOOK_START);
		bool moving;

		poll_run(p);
		moving = p->look == MAP_LOOK_MOVING;
		poll_take(map, p);
		poll_free(p);
		if (!moving || clock_mono_ms() > until)
			return;
		nanosleep(&pause, NULL);
	}
}

static void maps_free(struct usermap **maps, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (maps[i])
			maps[i]->set = NULL;
		usermap_unref(&maps[i]);
	}
	free(maps);
}

static int maps_new(struct usermap_set *set, const struct usermap_config *config,
	const struct directory_plan *connectors, struct buf *why, struct usermap ***maps_out)
{
	struct usermap **maps = xcalloc(config->count + 1, sizeof(*maps));

	for (size_t i = 0; i < config->count; i++) {
		maps[i] = usermap_new(set, &config->maps[i], config->backends, connectors, why);
		if (!maps[i]) {
			maps_free(maps, config->count);
			return ERR_CONFIG;
		}
	}
	*maps_out = maps;
	return 0;
}

static void set_free(struct usermap_set *set)
{
	directory_set_free(&set->directories);
	work_pool_free(&set->load_pool);
	credential_cache_free(&set->cache);
	free(set);
}

int usermap_set_open(const struct usermap_config *config, struct loop *loop, struct work_pool *hash_pool,
	struct buf *why, struct usermap_set **set_out)
{
	struct usermap_set *set = xcalloc(1, sizeof(*set));
	unsigned queue = config->count ? (unsigned)config->count * 2 : 1;
	struct directory_plan *connectors;
	int error;

	set->loop = loop;
	set->hash_pool = hash_pool;
	set->directories = directory_set_new(loop);
	set->cache = credential_cache_new(config->credential_lifetime_ms, config->credential_entries);
	error = work_pool_new("map-load", 1, queue + 64, &set->load_pool);
	if (!error)
		error = directory_set_plan(
			set->directories, config->connectors, config->connector_count, &connectors);
	if (!error) {
		error = maps_new(set, config, connectors, why, &set->maps);
		directory_set_use(set->directories, &connectors);
	}
	if (error) {
		set_free(set);
		return error;
	}
	set->count = config->count;
	for (size_t i = 0; i < set->count; i++)
		map_first(set->maps[i]);
	timer_init(&set->timer, on_timer, set);
	timer_set(&set->timer, loop, LOOK_EVERY_MS);
	*set_out = set;
	return 0;
}

/* A map whose options changed goes on with what the old one has in force, until its file was read under the
 * new ones. */
static void map_inherit(struct usermap *map, struct usermap *old)
{
	uint64_t generation;
	struct map_data *data = usermap_data(old, &generation);

	if (map->ldap || old->ldap) {
		map_data_unref(&data);
		return;
	}
	data_swap(map, data, generation);
	map->loaded_at = old->loaded_at;
	map->load_ms = old->load_ms;
	map->loads = old->loads;
	map->failures = old->failures;
}

static struct usermap *map_named(struct usermap_set *set, const char *name)
{
	for (size_t i = 0; i < set->count; i++) {
		if (!strcmp(set->maps[i]->name, name))
			return set->maps[i];
	}
	return NULL;
}

static void map_drop_metrics(struct usermap_set *set, struct usermap *map)
{
	if (map_named(set, map->name))
		return;
	metric_set(map->metrics.usable, 0);
	metric_set(map->metrics.entries, 0);
	metric_set(map->metrics.bytes, 0);
	metric_set(map->metrics.refused, 0);
}

int usermap_set_reconfigure(struct usermap_set *set, const struct usermap_config *config, struct buf *why)
{
	struct usermap **old = set->maps, **maps;
	size_t old_count = set->count;
	struct directory_plan *connectors;
	int error = directory_set_plan(
		set->directories, config->connectors, config->connector_count, &connectors);

	if (error)
		return error;
	error = maps_new(set, config, connectors, why, &maps);
	if (error) {
		directory_set_drop(set->directories, &connectors);
		return error;
	}
	directory_set_use(set->directories, &connectors);
	for (size_t i = 0; i < config->count; i++) {
		struct usermap *before = map_named(set, maps[i]->name);

		if (before && usermap_is_same(before, maps[i])) {
			usermap_unref(&maps[i]);
			maps[i] = usermap_ref(before);
		} else if (before) {
			map_inherit(maps[i], before);
		}
	}
	set->maps = maps;
	set->count = config->count;
	credential_cache_set_lifetime(set->cache, config->credential_lifetime_ms);
	for (size_t i = 0; i < old_count; i++) {
		struct usermap *now = map_named(set, old[i]->name);

		if (now != old[i]) {
			old[i]->set = NULL;
			reloads_answer(old[i], ERR_CANCELLED, "the configuration changed");
			map_drop_metrics(set, old[i]);
		}
		usermap_unref(&old[i]);
	}
	free(old);
	for (size_t i = 0; i < set->count; i++)
		map_poll(set, set->maps[i]);
	return 0;
}

void usermap_set_close(struct usermap_set **set_in_out)
{
	struct usermap_set *set = *set_in_out;

	*set_in_out = NULL;
	if (!set)
		return;
	timer_stop(&set->timer);
	for (size_t i = 0; i < set->count; i++) {
		set->maps[i]->set = NULL;
		reloads_answer(set->maps[i], ERR_CANCELLED, "the program ends");
		if (set->maps[i]->ldap)
			directory_login_end(set->maps[i]->ldap);
	}
	work_pool_free(&set->load_pool);
	maps_free(set->maps, set->count);
	set_free(set);
}

void usermap_set_flush(struct usermap_set *set, struct slice name)
{
	credential_cache_flush(set->cache);
	for (size_t i = 0; i < set->count; i++) {
		if (set->maps[i]->ldap)
			directory_login_flush(set->maps[i]->ldap, name);
	}
}

/* ---- operating ---- */

size_t usermap_set_count(const struct usermap_set *set)
{
	return set->count;
}

void usermap_set_status(struct usermap_set *set, size_t i, struct usermap_status *status_out)
{
	struct usermap *map = set->maps[i];

	*status_out = (struct usermap_status){.name = map->name,
		.type = map->type == USERMAP_FILE            ? "file"
			: map->type == USERMAP_LDAP_PASSWORD ? "ldap-password"
							     : "ldap-bind",
		.file = map->path,
		.connector = "",
		.server = "",
		.usable = map->data != NULL,
		.generation = map->data_generation,
		.loaded_at = map->loaded_at,
		.load_ms = map->load_ms,
		.loads = map->loads,
		.failures = map->failures,
		.error = map->error,
		.error_at = map->error_at};
	if (map->data) {
		status_out->entries = map_data_count(map->data);
		status_out->bytes = map_data_bytes(map->data);
	}
	if (map->ldap) {
		struct directory_status d;

		directory_status(directory_login_directory(map->ldap), &d);
		status_out->connector = directory_name(directory_login_directory(map->ldap));
		status_out->server = d.server;
		status_out->usable = d.is_up;
		status_out->error = d.error;
		status_out->entries = directory_login_count(map->ldap);
	}
}

/* Nothing is loaded of a directory: a reload forgets what it said. */
static void ldap_reload(struct usermap *map, usermap_reload_fn *fn, void *arg)
{
	directory_login_flush(map->ldap, slice_of(NULL, 0));
	if (fn)
		fn(arg, map->name, 0, "answers of the directory are forgotten");
}

static void map_reload(
	struct usermap_set *set, struct usermap *map, bool force, usermap_reload_fn *fn, void *arg)
{
	struct usermap_reload *r = xcalloc(1, sizeof(*r));

	r->fn = fn;
	r->arg = arg;
	list_add_last(&map->reloads, &r->link);
	map->reloading = true;
	map->reload_force |= force;
	map->reload_until_ms = clock_mono_ms() + RELOAD_WAIT_MS;
	map_poll(set, map);
}

int usermap_set_reload(
	struct usermap_set *set, const char *name, bool force, usermap_reload_fn *fn, void *arg)
{
	if (name && !map_named(set, name))
		return ERR_NOT_FOUND;
	for (size_t i = 0; i < set->count; i++) {
		if (name && strcmp(set->maps[i]->name, name))
			continue;
		if (set->maps[i]->ldap)
			ldap_reload(set->maps[i], fn, arg);
		else
			map_reload(set, set->maps[i], force, fn, arg);
	}
	return 0;
}

/* ---- checking a file by itself ---- */

struct check {
	struct work work;
	struct usermap *as; /* whose options it has; NULL: none of ours */
	bool ports;
	char *file;
	usermap_reload_fn *fn;
	void *arg;
	int error;
	struct buf words;
};

static void check_run(void *job)
{
	struct check *c = job;
	struct map_parse_options options = {.file = c->file, .ports = c->ports};
	struct map_parse_info info;
	size_t entries;

	if (c->as)
		options.backends = (const char *const *)c->as->backends;
	c->error = map_file_check(&options, &c->words, &info, &entries);
	if (!c->error)
		buf_printf(&c->words, "%zu entries, generation %016" PRIx64 "%s", entries, info.generation,
			info.has_end ? "" : ", no \"# end\" line");
}

static void check_free(struct check *c)
{
	usermap_unref(&c->as);
	buf_deinit(&c->words);
	free(c->file);
	free(c);
}

static void check_done(void *job, int error)
{
	struct check *c = job;

	if (error)
		c->fn(c->arg, c->file, ERR_NOT_NOW, "the program ends");
	else
		c->fn(c->arg, c->file, c->error, buf_str_view(&c->words));
	check_free(c);
}

int usermap_set_check(
	struct usermap_set *set, const char *as, const char *file, usermap_reload_fn *fn, void *arg)
{
	struct usermap *map = as ? map_named(set, as) : set->count ? set->maps[0] : NULL;
	struct check *c;

	if (as && !map)
		return ERR_NOT_FOUND;
	c = xcalloc(1, sizeof(*c));
	c->work = (struct work){.run = check_run, .done = check_done, .job = c};
	c->as = map ? usermap_ref(map) : NULL;
	c->ports = as ? map->ports : true;
	c->file = xstrdup(file);
	c->fn = fn;
	c->arg = arg;
	buf_init(&c->words, WORDS_MOST);
	if (work_submit(set->load_pool, set->loop, &c->work)) {
		check_free(c);
		return ERR_NOT_NOW;
	}
	return 0;
}
