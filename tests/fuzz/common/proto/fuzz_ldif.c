/* Any bytes as LDIF: it ends, goes on behind errors, lines only rise, values stay within their limit. */
#include "common/proto/ldif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ldif_entry e;
	struct arena arena;
	struct ldif l;
	unsigned line = 0;
	int err;

	arena_init(&arena, 0);
	ldif_begin(&l, slice_of(data, size));
	while ((err = ldif_next(&l, &arena, &e)) != ERR_NOT_FOUND) {
		require(e.line > line && (err != 0) == (e.why != NULL));
		line = e.line;
		require(e.count <= LDIF_ATTRIBUTES_MAX && (!err || e.bad_line >= e.line));
		for (size_t i = 0; !err && i < e.count; i++) {
			const struct ldif_attribute *a = &e.attributes[i];

			require(a->name.len && a->line > line && a->value.len <= LDIF_VALUE_MAX);
			require(slice_find(a->name, ';') < 0);
		}
	}
	require(l.at == size);
	arena_deinit(&arena);
	return 0;
}
