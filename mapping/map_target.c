/*
 * A list is one text: files have it in one field, directories in one value or, in the server's order, in several.
 */
#include "mapping/map_target.h"

#include <string.h>

#include "mapping/map_host.h"

static bool is_between(char c)
{
	return c == ',' || c == ' ' || c == '\t';
}

static int parse_one(
	struct slice part, map_target_known_fn *is_known, const void *arg, bool ports, struct map_target *t)
{
	*t = (struct map_target){.kind = USERMAP_BACKEND, .name = part};
	if (is_known(arg, part))
		return 0;
	t->kind = USERMAP_HOST;
	if (map_host_split(part, &t->name, &t->port))
		return ERR_SYNTAX;
	return t->port && !ports ? ERR_DENIED : 0;
}

static bool is_there(const struct map_targets *list, const struct map_target *t)
{
	for (unsigned i = 0; i < list->count; i++) {
		const struct map_target *other = &list->at[i];

		if (other->kind == t->kind && other->port == t->port &&
			slice_is_equal_nocase(other->name, t->name))
			return true;
	}
	return false;
}

int map_targets_parse(struct slice text, map_target_known_fn *is_known, const void *arg, bool ports,
	struct map_targets *targets_out, struct slice *bad_out)
{
	struct map_targets list = {0};
	struct map_target one;
	size_t i = 0;

	while (i < text.len) {
		size_t from = i;
		int error;

		while (i < text.len && !is_between(text.p[i]))
			i++;
		if (i > from) {
			*bad_out = slice_sub(text, from, i - from);
			error = parse_one(*bad_out, is_known, arg, ports, &one);
			if (!error && is_there(&list, &one))
				error = ERR_EXISTS;
			if (!error && list.count == USERMAP_TARGETS_MOST)
				error = ERR_TOO_BIG;
			if (error)
				return error;
			list.at[list.count++] = one;
		}
		while (i < text.len && is_between(text.p[i]))
			i++;
	}
	*bad_out = text;
	if (!list.count)
		return ERR_SYNTAX;
	*targets_out = list;
	return 0;
}

void map_targets_fill(struct usermap_answer *a, const struct map_targets *targets)
{
	a->target_count = targets->count;
	for (unsigned i = 0; i < targets->count; i++) {
		const struct map_target *from = &targets->at[i];
		struct usermap_target *to = &a->targets[i];

		require(from->name.len < sizeof(to->name));
		to->kind = from->kind;
		to->port = from->port;
		memcpy(to->name, from->name.p, from->name.len);
		to->name[from->name.len] = 0;
		for (char *p = to->name; from->kind == USERMAP_HOST && *p; p++)
			*p = ascii_lower(*p);
	}
}
