/* SPF records: what is written for the checker is a record by the same grammar, and soon says the same when it is written again. */
#include "common/proto/spf_record.h"

static const struct spf_record_values values = {
	.sender = {"a.b-c@x.y.test", 14}, .helo = {"h.test", 6}, .domain = {"y.test", 6}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct buf once = {0}, twice = {0};
	struct spf_record record;
	struct slice term = {0};
	const char *why = NULL;
	int err;

	if (!spf_record_is_one(in))
		return 0;
	err = spf_record_parse(in, &record, &why, &term);
	require((err != 0) == (why != NULL));
	/* The second time settles prefix lengths; the ending of any address may have made a domain too long. */
	for (unsigned turn = 0; !err && turn < 3; turn++) {
		struct buf *now = turn % 2 ? &twice : &once; /* the record's views are of the other */

		buf_clear(now);
		spf_record_write(&record, &values, now);
		require(spf_record_is_one(buf_view(now)));
		err = spf_record_parse(buf_view(now), &record, &why, NULL);
		require(!err || err == ERR_TOO_BIG);
	}
	require(err || slice_is_equal(buf_view(&once), buf_view(&twice)));
	buf_deinit(&once);
	buf_deinit(&twice);
	return 0;
}
