/* A host value of a directory, or the second field of a file: taken, it is a list of places of which each is within the text
 * and reads as itself; refused, the part that is bad lies in the text. */
#include "mapping/map_target.h"

static bool is_known(const void *arg, struct slice name)
{
	(void)arg;
	return slice_is_str(name, "b1") || slice_is_str(name, "b2") || slice_is_str(name, "x.y");
}

static bool is_inside(struct slice part, struct slice text)
{
	return !part.len || (part.p >= text.p && part.p + part.len <= text.p + text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_of(data, size), bad = slice_of(NULL, 0);
	struct map_targets list;
	struct usermap_answer answer = {0};

	if (map_targets_parse(text, is_known, NULL, size & 1, &list, &bad)) {
		require(is_inside(bad, text));
		return 0;
	}
	require(list.count > 0 && list.count <= USERMAP_TARGETS_MOST);
	for (unsigned i = 0; i < list.count; i++) {
		const struct map_target *t = &list.at[i];

		require(t->name.len && t->name.len <= USERMAP_HOST_MOST && is_inside(t->name, text));
		require(!slice_has_control(t->name) && !memchr(t->name.p, ',', t->name.len));
		require(t->kind == USERMAP_HOST ? !is_known(NULL, t->name) || t->port : !t->port);
		require(!t->port || size & 1);
	}
	map_targets_fill(&answer, &list);
	require(answer.target_count == list.count);
	return 0;
}
