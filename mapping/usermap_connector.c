/*
 * A connector that stays the same stays, with its connections. One that changed is another one: the old goes on serving
 * the chains that were made with it.
 */
#include "mapping/usermap_connector.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define WORKERS 16 /* threads that connect; a connector holds at most two at a time */
#define WORK_MOST 1000

static bool is_same(const struct connector *c, const struct usermap_connector *o)
{
	const struct usermap_connector *a = &c->options;

	return directory_is_same(c->directory, &o->directory) && !strcmp(a->base, o->base) &&
	       !strcmp(a->filter, o->filter) && !strcmp(a->address_filter, o->address_filter) &&
	       !strcmp(a->host_attribute, o->host_attribute) &&
	       !strcmp(a->password_attribute, o->password_attribute) &&
	       !strcmp(a->account_attribute, o->account_attribute) && a->several == o->several;
}

static struct connector *connector_new(struct usermap_set *set, const struct usermap_connector *o)
{
	struct connector *c = xcalloc(1, sizeof(*c));

	list_init(&c->link);
	c->options = (struct usermap_connector){.base = xstrdup(o->base),
		.filter = xstrdup(o->filter),
		.address_filter = xstrdup(o->address_filter),
		.host_attribute = xstrdup(o->host_attribute),
		.password_attribute = xstrdup(o->password_attribute),
		.account_attribute = xstrdup(o->account_attribute),
		.several = o->several};
	c->directory = directory_new(&o->directory, set->loop, set->directory_pool);
	return c;
}

static void text_free(const char *s)
{
	free((void *)(uintptr_t)s);
}

static void connector_free(struct connector *c)
{
	list_remove(&c->link);
	directory_close(&c->directory);
	text_free(c->options.base);
	text_free(c->options.filter);
	text_free(c->options.address_filter);
	text_free(c->options.host_attribute);
	text_free(c->options.password_attribute);
	text_free(c->options.account_attribute);
	free(c);
}

static bool is_among(struct connector *const *list, size_t count, const struct connector *c)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i] == c)
			return true;
	}
	return false;
}

int usermap_connectors_make(
	struct usermap_set *set, const struct usermap_config *config, struct connector ***connectors_out)
{
	struct connector **list;

	if (config->connector_count && !set->directory_pool) {
		int error = work_pool_new("directory", WORKERS, WORK_MOST, &set->directory_pool);

		if (error)
			return error;
	}
	list = xcalloc(config->connector_count + 1, sizeof(*list));

	for (size_t i = 0; i < config->connector_count; i++) {
		for (size_t j = 0; j < set->connector_count; j++) {
			if (is_same(set->connectors[j], &config->connectors[i]))
				list[i] = set->connectors[j];
		}
		if (!list[i])
			list[i] = connector_new(set, &config->connectors[i]);
	}
	*connectors_out = list;
	return 0;
}

void usermap_connectors_use(struct usermap_set *set, struct connector **connectors, size_t count)
{
	for (size_t i = 0; i < set->connector_count; i++) {
		if (!is_among(connectors, count, set->connectors[i]))
			list_add_last(&set->gone, &set->connectors[i]->link);
	}
	free(set->connectors);
	set->connectors = connectors;
	set->connector_count = count;
}

void usermap_connectors_drop(struct usermap_set *set, struct connector **connectors, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!is_among(set->connectors, set->connector_count, connectors[i]))
			connector_free(connectors[i]);
	}
	free(connectors);
}

void usermap_connectors_sweep(struct usermap_set *set)
{
	list_for_each_safe (at, &set->gone) {
		struct connector *c = container_of(at, struct connector, link);

		if (directory_is_held(c->directory))
			continue;
		connector_free(c);
		for (size_t i = 0; i < set->connector_count; i++)
			directory_show(set->connectors[i]->directory);
	}
}

void usermap_connectors_close(struct usermap_set *set)
{
	usermap_connectors_use(set, NULL, 0);
	while (!list_is_empty(&set->gone))
		connector_free(container_of(set->gone.next, struct connector, link));
	work_pool_free(&set->directory_pool);
}
