/*
 * The text of a map of any bytes: it is refused with words, or taken; then every name that its lines hold is
 * asked for, and what is found stays within the sizes that answers have.
 */
#include "mapping/map_parse.h"

static void ask(const struct map_data *d, struct slice name)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_entry e = {0};

	if (map_data_find(d, name, &e, account, NULL, NULL))
		return;
	require(e.account.len && e.account.len <= USERMAP_ADDRESS_MOST);
	require(e.line > 0 && e.targets.count <= USERMAP_TARGETS_MOST);
	require(!memchr(e.account.p, 0, e.account.len));
	for (unsigned i = 0; i < e.targets.count; i++) {
		struct slice host = e.targets.at[i].name;

		require(host.len && host.len <= USERMAP_HOST_MOST && !memchr(host.p, 0, host.len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const backends[] = {"b1", "b2", "x.y", NULL};
	struct map_parse_options o = {
		.file = "f", .backends = backends, .ports = size & 1, .readable_by_others = size & 2};
	struct slice text = slice_of(data, size);
	struct map_parse_info info;
	struct map_data *d = NULL;
	struct buf why = {0};

	if (map_parse(text, &o, &why, &info, &d)) {
		require(!d && buf_len(&why) > 0);
		buf_deinit(&why);
		return 0;
	}
	require(info.generation);
	for (size_t n = 0; text.len && n < 100; n++) {
		ptrdiff_t end = slice_find(text, '\n');
		struct slice line = end < 0 ? text : slice_sub(text, 0, (size_t)end);
		ptrdiff_t blank = slice_find(line, ' ');

		ask(d, blank < 0 ? line : slice_sub(line, 0, (size_t)blank));
		text = slice_from(text, end < 0 ? text.len : (size_t)end + 1);
	}
	ask(d, SLICE_LIT("alice+x@example.com"));
	map_data_unref(&d);
	buf_deinit(&why);
	return 0;
}
