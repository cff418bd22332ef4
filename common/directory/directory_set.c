/*
 * A connector that stays the same stays, with its connections. One that changed is another one: the old goes on serving
 * those that hold it.
 */
#include "common/directory/directory_set.h"

#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/mem.h"

#define WORKERS 16 /* threads that connect; a connector holds at most two at a time */
#define WORK_MOST 1000

struct connector {
	struct list link; /* of those that went */
	struct directory_entry entry;
};

struct directory_plan {
	size_t count;
	struct connector *at[];
};

struct directory_set {
	struct loop *loop;
	struct work_pool *pool; /* NULL until there is a connector */
	struct directory_plan *now;
	struct list gone;
};

/* ---- one connector ---- */

static const char *copy(const char *s)
{
	return xstrdup(s ? s : "");
}

static bool is_text(const char *a, const char *b)
{
	return !strcmp(a, b ? b : "");
}

static const char *const *list_copy(const char *const *list)
{
	size_t n = 0;
	const char **made;

	while (list && list[n])
		n++;
	made = xcalloc(n + 1, sizeof(*made));
	for (size_t i = 0; i < n; i++)
		made[i] = xstrdup(list[i]);
	return made;
}

static bool is_same_list(const char *const *a, const char *const *b)
{
	size_t i = 0;

	for (; a[i] && b && b[i]; i++) {
		if (strcmp(a[i], b[i]))
			return false;
	}
	return !a[i] && (!b || !b[i]);
}

static bool is_same(const struct connector *c, const struct directory_connector *o)
{
	const struct directory_connector *a = &c->entry.options;

	return directory_is_same(c->entry.directory, &o->directory) && is_text(a->base, o->base) &&
	       is_text(a->filter, o->filter) && is_text(a->address_filter, o->address_filter) &&
	       is_text(a->host_attribute, o->host_attribute) &&
	       is_text(a->password_attribute, o->password_attribute) &&
	       is_text(a->account_attribute, o->account_attribute) && is_text(a->person, o->person) &&
	       is_text(a->flags_attribute, o->flags_attribute) &&
	       is_same_list(a->alias_attributes, o->alias_attributes) && a->several == o->several;
}

static struct connector *connector_new(struct directory_set *set, const struct directory_connector *o)
{
	struct connector *c = xcalloc(1, sizeof(*c));

	list_init(&c->link);
	c->entry.options = (struct directory_connector){.base = copy(o->base),
		.filter = copy(o->filter),
		.address_filter = copy(o->address_filter),
		.host_attribute = copy(o->host_attribute),
		.password_attribute = copy(o->password_attribute),
		.account_attribute = copy(o->account_attribute),
		.flags_attribute = copy(o->flags_attribute),
		.person = copy(o->person),
		.alias_attributes = list_copy(o->alias_attributes),
		.several = o->several};
	c->entry.directory = directory_new(&o->directory, set->loop, set->pool);
	return c;
}

static void text_free(const char *s)
{
	free((void *)(uintptr_t)s);
}

static void connector_free(struct connector *c)
{
	struct directory_connector *o = &c->entry.options;

	list_remove(&c->link);
	directory_close(&c->entry.directory);
	text_free(o->base);
	text_free(o->filter);
	text_free(o->address_filter);
	text_free(o->host_attribute);
	text_free(o->password_attribute);
	text_free(o->account_attribute);
	text_free(o->flags_attribute);
	text_free(o->person);
	for (const char *const *at = o->alias_attributes; *at; at++)
		text_free(*at);
	free((void *)(uintptr_t)o->alias_attributes);
	free(c);
}

/* ---- plans ---- */

static struct directory_plan *plan_new(size_t count)
{
	struct directory_plan *p = xcalloc(1, sizeof(*p) + count * sizeof(p->at[0]));

	p->count = count;
	return p;
}

static bool is_among(const struct directory_plan *plan, const struct connector *c)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (plan->at[i] == c)
			return true;
	}
	return false;
}

int directory_set_plan(struct directory_set *set, const struct directory_connector *connectors, size_t count,
	struct directory_plan **plan_out)
{
	struct directory_plan *plan;

	if (count && !set->pool) {
		int error = work_pool_new("directory", WORKERS, WORK_MOST, &set->pool);

		if (error)
			return error;
	}
	plan = plan_new(count);
	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < set->now->count; j++) {
			if (is_same(set->now->at[j], &connectors[i]))
				plan->at[i] = set->now->at[j];
		}
		if (!plan->at[i])
			plan->at[i] = connector_new(set, &connectors[i]);
	}
	*plan_out = plan;
	return 0;
}

void directory_set_use(struct directory_set *set, struct directory_plan **plan)
{
	struct directory_plan *old = set->now;

	set->now = *plan;
	*plan = NULL;
	for (size_t i = 0; i < old->count; i++) {
		if (!is_among(set->now, old->at[i]))
			list_add_last(&set->gone, &old->at[i]->link);
	}
	free(old);
}

void directory_set_drop(struct directory_set *set, struct directory_plan **plan)
{
	struct directory_plan *p = *plan;

	*plan = NULL;
	for (size_t i = 0; i < p->count; i++) {
		if (!is_among(set->now, p->at[i]))
			connector_free(p->at[i]);
	}
	free(p);
}

const struct directory_entry *directory_plan_find(const struct directory_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->count; i++) {
		if (!strcmp(directory_name(plan->at[i]->entry.directory), name))
			return &plan->at[i]->entry;
	}
	return NULL;
}

/* ---- the set ---- */

struct directory_set *directory_set_new(struct loop *loop)
{
	struct directory_set *set = xcalloc(1, sizeof(*set));

	set->loop = loop;
	set->now = plan_new(0);
	list_init(&set->gone);
	return set;
}

const struct directory_entry *directory_set_find(const struct directory_set *set, const char *name)
{
	return directory_plan_find(set->now, name);
}

void directory_set_sweep(struct directory_set *set)
{
	list_for_each_safe (at, &set->gone) {
		struct connector *c = container_of(at, struct connector, link);

		if (directory_is_held(c->entry.directory))
			continue;
		connector_free(c);
		for (size_t i = 0; i < set->now->count; i++)
			directory_show(set->now->at[i]->entry.directory);
	}
}

void directory_set_free(struct directory_set **set_in_out)
{
	struct directory_set *set = *set_in_out;
	struct directory_plan *none;

	*set_in_out = NULL;
	if (!set)
		return;
	none = plan_new(0);
	directory_set_use(set, &none);
	while (!list_is_empty(&set->gone))
		connector_free(container_of(set->gone.next, struct connector, link));
	work_pool_free(&set->pool);
	free(set->now);
	free(set);
}
