/*
 * One map: its options, what it has in force, its metrics.
 */
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/mem.h"
#include "common/proto/address.h"
#include "mapping/usermap_private.h"

static char **copy_names(const char *const *names)
{
	size_t n = 0;
	char **copy;

	while (names && names[n])
		n++;
	copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(names[i]);
	return copy;
}

static void free_names(char ***names)
{
	for (size_t i = 0; *names && (*names)[i]; i++)
		free((*names)[i]);
	free(*names);
	*names = NULL;
}

static bool is_same_names(char *const *a, char *const *b)
{
	size_t i = 0;

	for (; a[i] && b[i]; i++) {
		if (strcmp(a[i], b[i]))
			return false;
	}
	return !a[i] && !b[i];
}

/* Domains in the form that names have. */
static int normalise_domains(struct usermap *map, struct buf *why)
{
	struct arena a;
	int error = 0;

	arena_init(&a, 0);
	for (size_t i = 0; map->domains[i] && !error; i++) {
		struct slice domain;

		error = address_normalise_domain(&a, slice_str(map->domains[i]), &domain);
		if (error) {
			buf_printf(why, "map %s: \"%s\" is no domain", map->name, map->domains[i]);
			break;
		}
		free(map->domains[i]);
		map->domains[i] = slice_copy_str(domain);
	}
	arena_deinit(&a);
	return error ? ERR_CONFIG : 0;
}

static void metrics_find(struct usermap *map)
{
	static const char *const verdicts[USERMAP_COUNTERS] = {"hit", "none", "wrong", "not_now"};
	struct usermap_metrics *m = &map->metrics;
	struct buf label = {0};
	const char *l;

	buf_add_str(&label, "map=\"");
	metrics_escape_label(&label, slice_str(map->name));
	buf_add_str(&label, "\"");
	l = buf_str_view(&label);
	m->usable = metrics_gauge("mailtier_map_usable", l, "1: a generation is in force");
	m->entries = metrics_gauge("mailtier_map_entries", l, "Entries in force");
	m->bytes = metrics_gauge("mailtier_map_bytes", l, "Memory of the generation in force");
	m->generation = metrics_gauge(
		"mailtier_map_generation", l, "Low 48 bits of the generation in force (hash of its content)");
	m->loaded_at = metrics_gauge(
		"mailtier_map_last_load_timestamp_seconds", l, "When the one in force was taken");
	m->load_ms = metrics_gauge("mailtier_map_load_milliseconds", l, "How long reading it took");
	m->refused = metrics_gauge("mailtier_map_refused", l, "1: the file as it is now was refused");
	m->loads = metrics_counter("mailtier_map_loads", l, "Generations taken");
	m->failures = metrics_counter("mailtier_map_load_failures", l, "Readings refused");
	for (size_t i = 0; i < USERMAP_COUNTERS; i++) {
		buf_clear(&label);
		buf_add_str(&label, "map=\"");
		metrics_escape_label(&label, slice_str(map->name));
		buf_printf(&label, "\",answer=\"%s\"", verdicts[i]);
		m->lookups[i] =
			metrics_counter("mailtier_map_lookups", buf_str_view(&label), "Look-ups by answer");
	}
	buf_deinit(&label);
}

/* The LDAP side of a map. */
static int ldap_open(struct usermap_set *set, struct usermap *map, const struct usermap_options *o,
	const struct directory_plan *connectors, struct buf *why)
{
	struct directory_login_options options = {.kind = "map",
		.name = map->name,
		.by_bind = o->type == USERMAP_LDAP_BIND,
		.positive_ms = o->positive_ms,
		.negative_ms = o->negative_ms,
		.stale_ms = o->stale_ms,
		.cache_entries = o->cache_entries,
		.home = set->loop,
		.credentials = set->cache,
		.hash_pool = set->hash_pool};

	if (o->type == USERMAP_FILE)
		return 0;
	options.connector = directory_plan_find(connectors, o->connector);
	if (!options.connector) {
		buf_printf(why, "map %s: there is no connector %s", map->name, o->connector);
		return ERR_CONFIG;
	}
	map->ldap = directory_login_new(&options);
	return 0;
}

static bool is_backend(const void *arg, struct slice name)
{
	const struct usermap *map = arg;

	for (size_t i = 0; map->backends[i]; i++) {
		if (slice_is_str(name, map->backends[i]))
			return true;
	}
	return false;
}

int usermap_targets(
	const struct usermap *map, struct slice hosts, struct map_targets *targets_out, struct slice *bad_out)
{
	return map_targets_parse(hosts, is_backend, map, map->ports, targets_out, bad_out);
}

struct usermap *usermap_new(struct usermap_set *set, const struct usermap_options *o,
	const char *const *backends, const struct directory_plan *connectors, struct buf *why)
{
	struct usermap *map = xcalloc(1, sizeof(*map));

	atomic_init(&map->refs, 1);
	map->set = set;
	map->name = xstrdup(o->name);
	map->path = xstrdup(o->file ? o->file : "");
	map->type = o->type;
	map->domains = copy_names(o->domains);
	map->backends = copy_names(backends);
	map->max_shrink = o->max_shrink < 100 ? o->max_shrink : 100;
	map->ports = o->ports;
	map->positive_ms = o->positive_ms;
	map->negative_ms = o->negative_ms;
	map->stale_ms = o->stale_ms;
	map->cache_entries = o->cache_entries;
	map->send_only = o->send_only;
	map->error = xstrdup("");
	pthread_mutex_init(&map->lock, NULL);
	list_init(&map->reloads);
	map->file.options = (struct map_parse_options){
		.file = map->path, .backends = (const char *const *)map->backends, .ports = map->ports};
	map->file.max_shrink = map->max_shrink;
	if (strlen(o->name) > USERMAP_NAME_MOST)
		buf_printf(why, "map %s: the name is longer than %d octets", o->name, USERMAP_NAME_MOST);
	if (strlen(o->name) > USERMAP_NAME_MOST || normalise_domains(map, why) ||
		ldap_open(set, map, o, connectors, why)) {
		usermap_unref(&map);
		return NULL;
	}
	metrics_find(map);
	return map;
}

struct usermap *usermap_ref(struct usermap *map)
{
	atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
	return map;
}

void usermap_unref(struct usermap **map)
{
	struct usermap *m = *map;

	*map = NULL;
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	directory_login_unref(&m->ldap);
	map_data_unref(&m->data);
	map_data_unref(&m->retired);
	pthread_mutex_destroy(&m->lock);
	free_names(&m->domains);
	free_names(&m->backends);
	free(m->error);
	free(m->name);
	free(m->path);
	free(m);
}

bool usermap_is_same(const struct usermap *a, const struct usermap *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->path, b->path) && a->type == b->type &&
	       is_same_names(a->domains, b->domains) && is_same_names(a->backends, b->backends) &&
	       a->max_shrink == b->max_shrink && a->ports == b->ports && a->positive_ms == b->positive_ms &&
	       a->negative_ms == b->negative_ms && a->stale_ms == b->stale_ms &&
	       a->cache_entries == b->cache_entries && a->send_only == b->send_only &&
	       (a->ldap ? directory_login_directory(a->ldap) : NULL) ==
		       (b->ldap ? directory_login_directory(b->ldap) : NULL);
}

struct map_data *usermap_data(struct usermap *map, uint64_t *generation_out)
{
	struct map_data *data;

	pthread_mutex_lock(&map->lock);
	data = map->data ? map_data_ref(map->data) : NULL;
	*generation_out = map->data_generation;
	pthread_mutex_unlock(&map->lock);
	return data;
}

bool usermap_has_domain(const struct usermap *map, struct slice name)
{
	ptrdiff_t at = slice_find_last(name, '@');

	if (!map->domains[0])
		return true;
	for (size_t i = 0; at >= 0 && map->domains[i]; i++) {
		if (slice_is_str(slice_from(name, (size_t)at + 1), map->domains[i]))
			return true;
	}
	return false;
}
