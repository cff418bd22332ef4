/*
 * Header blocks with ARC sets, good and broken, and the choice of fields by h=: what a whole chain's seals cover can always be
 * given, and each field goes at most once.
 */
#include "common/proto/arc.h"

static void count_octets(void *arg, struct slice piece)
{
	*(size_t *)arg += piece.len;
}

static void try_chain(struct arena *a, const struct dkim_fields *fields)
{
	struct arc_chain chain;
	const char *why = NULL;

	if (arc_gather(a, fields, &chain, &why) != 0) {
		require(why);
		return;
	}
	require(chain.count <= ARC_SETS_MOST);
	for (unsigned i = 1; i <= chain.count; i++) {
		size_t all = 0, one = 0;

		arc_give_seal(&chain, 1, i, count_octets, &all);
		arc_give_seal(&chain, i, i, count_octets, &one);
		require(one && one <= all);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct dkim_fields fields;
	struct buf names = {0};
	struct arena a;

	arena_init(&a, 16 << 20);
	if (dkim_fields_index(&a, in, &fields) == 0) {
		size_t given = 0;

		for (size_t i = 0; i < fields.count; i++)
			buf_printf(&names, "%.*s:From:", SLICE_ARG(fields.list[i].name));
		dkim_fields_give(&fields, buf_view(&names), false, NULL, count_octets, &given);
		require(given <= in.len + 2 * fields.count);
		buf_clear(&names);
		dkim_fields_write(&fields, true, &names);
		try_chain(&a, &fields);
	}
	arena_deinit(&a);
	buf_deinit(&names);
	return 0;
}
