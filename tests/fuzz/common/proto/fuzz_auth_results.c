/*
 * Forged Authentication-Results: a message through the filter, whole and cut at a place that its first octet says. Both say the same;
 * what came out has no such field any more, going through again takes nothing out. And the text as a value that is written: one field.
 */
#include "common/proto/auth_results.h"
#include "common/proto/header.h"

static const char *const ids[] = {"mx.test", NULL};

static void run(struct slice in, size_t cut, struct buf *out, unsigned *removed)
{
	struct auth_results_filter f;

	auth_results_filter_init(&f, ids);
	auth_results_filter_feed(&f, slice_sub(in, 0, cut), out);
	auth_results_filter_feed(&f, slice_from(in, cut), out);
	*removed = f.removed;
	auth_results_filter_end(&f, out);
	*removed = f.removed;
}

static void check_written(struct slice value)
{
	struct auth_results_one one = {.method = "spf", .result = "pass", .comment = value, .reason = value};
	struct header_reader reader;
	struct header_field field;
	struct buf out = {0};

	auth_results_add(&one, "smtp", "mailfrom", value);
	auth_results_write(&out, 0, "mx.test", &one, 1);
	header_reader_init(&reader, buf_view(&out));
	require(header_next(&reader, &field));
	require(reader.rest.len == 0 && auth_results_is_forged(field.raw, ids));
	require(!memchr(out.data + out.start, '\0', buf_len(&out)));
	buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct buf whole = {0}, cut = {0}, again = {0};
	struct header_reader reader;
	struct header_field field;
	unsigned removed, more;

	run(in, 0, &whole, &removed);
	run(in, size ? data[0] : 0, &cut, &more);
	require(slice_is_equal(buf_view(&whole), buf_view(&cut)) && removed == more);
	run(buf_view(&whole), 0, &again, &more);
	require(more == 0 && slice_is_equal(buf_view(&whole), buf_view(&again)));
	header_reader_init(&reader, buf_view(&whole));
	while (header_next(&reader, &field))
		require(!auth_results_is_forged(field.raw, ids));
	if (size < 4096)
		check_written(in);
	buf_deinit(&whole);
	buf_deinit(&cut);
	buf_deinit(&again);
	return 0;
}
