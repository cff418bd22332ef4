/* Equal preferences are told apart by a hash of the name under the try's seed: a shuffle that needs no state. */
#include "backend/delivery/mx.h"

#include <stdlib.h>

#include "common/base/table.h"

static int compare(const void *a, const void *b, void *arg)
{
	const uint64_t *seed = arg;
	const struct mx_entry *x = a, *y = b;
	uint64_t hx, hy;

	if (x->preference != y->preference)
		return x->preference < y->preference ? -1 : 1;
	hx = hash_bytes(slice_str(x->name), *seed);
	hy = hash_bytes(slice_str(y->name), *seed);
	return hx < hy ? -1 : hx > hy;
}

static bool is_named(const struct mx_entry *entries, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (slice_is_str_nocase(slice_str(entries[i].name), name))
			return true;
	return false;
}

size_t mx_order(struct mx_entry *entries, size_t count, const char *own, uint64_t seed, bool *is_own_out)
{
	uint32_t limit = UINT32_MAX; /* preferences from here on are not for us */
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (*own && slice_is_str_nocase(slice_str(entries[i].name), own) &&
			entries[i].preference < limit)
			limit = entries[i].preference;
	*is_own_out = limit != UINT32_MAX;
	qsort_r(entries, count, sizeof(*entries), compare, &seed);
	for (size_t i = 0; i < count && kept < MX_HOSTS_MOST; i++)
		if (entries[i].preference < limit && !is_named(entries, kept, entries[i].name))
			entries[kept++] = entries[i];
	return kept;
}
