/* Address lists and normal forms: no view leaves its copy, a normal form is its own normal form. */
#include "common/base/buf.h"
#include "common/proto/address.h"
#include "common/proto/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_of(data, size);
	struct envelope e = {.from = text};
	struct address *list;
	struct address_name name, again;
	struct buf out = {0};
	size_t count, len = 0;
	struct arena a;

	arena_init(&a, 0);
	require(address_parse_list(&a, text, &list, &count) == 0);
	require(count <= ADDRESS_LIST_MAX + 1);
	for (size_t i = 0; i < count; i++)
		len += list[i].name.len + list[i].local.len + list[i].domain.len + list[i].route.len;
	require(len <= text.len);
	require(envelope_write(&e, &a, &out) == 0);
	if (address_normalise(&a, text, &name) == 0) {
		require(name.full.len <= ADDRESS_MAX && slice_is_utf8(name.full));
		if (slice_find(name.local, '@') < 0 && slice_find(name.local, '"') < 0) {
			require(address_normalise_whole(&a, name.full, &again) == 0);
			require(slice_is_equal(name.full, again.full));
		}
	}
	buf_deinit(&out);
	arena_deinit(&a);
	return 0;
}
