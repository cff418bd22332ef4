/* Messages of the SPF checker, as a run and as a reply: what is read can be written, and is the same octets again. */
#include "common/proto/spf_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct spf_wire_reply reply;
	struct spf_wire_run run;
	struct buf out = {0};
	struct arena arena;

	arena_init(&arena, 1 << 20);
	if (spf_wire_read_run(in, &arena, &run) == 0) {
		require(spf_wire_write_run(&run, &out) == 0);
		require(slice_is_equal(in, buf_view(&out)));
	}
	buf_clear(&out);
	if (spf_wire_read_reply(in, 3, &reply) == 0) {
		require(spf_wire_write_reply(&reply, &out) == 0);
		require(slice_is_equal(in, buf_view(&out)));
	}
	arena_deinit(&arena);
	buf_deinit(&out);
	return 0;
}
