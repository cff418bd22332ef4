/* Any bytes as CSV: it ends, goes on behind errors, stays within its limits, and reading what it read, written again, gives the same. */
#include "common/base/buf.h"
#include "common/proto/csv.h"

static void write_field(struct buf *out, struct slice field)
{
	buf_add_char(out, '"');
	for (size_t i = 0; i < field.len; i++) {
		if (field.p[i] == '"')
			buf_add_char(out, '"');
		buf_add_char(out, field.p[i]);
	}
	buf_add_char(out, '"');
}

static void check_again(const struct csv_record *r)
{
	struct buf text = {0};
	struct csv_record again;
	struct arena arena;
	struct csv c;

	for (size_t i = 0; i < r->count; i++) {
		if (i)
			buf_add_char(&text, ',');
		write_field(&text, r->fields[i]);
	}
	arena_init(&arena, 0);
	csv_begin(&c, buf_view(&text));
	require(csv_next(&c, &arena, &again) == 0 && again.count == r->count);
	for (size_t i = 0; i < r->count; i++)
		require(slice_is_equal(again.fields[i], r->fields[i]));
	require(csv_next(&c, &arena, &again) == ERR_NOT_FOUND);
	arena_deinit(&arena);
	buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct csv_record r;
	struct arena arena;
	struct csv c;
	unsigned line = 0;
	int err;

	arena_init(&arena, 0);
	csv_begin(&c, slice_of(data, size));
	while ((err = csv_next(&c, &arena, &r)) != ERR_NOT_FOUND) {
		require(r.line > line && (err != 0) == (r.why != NULL));
		line = r.line;
		require(r.count <= CSV_FIELDS_MAX);
		if (!err)
			check_again(&r);
	}
	arena_deinit(&arena);
	return 0;
}
