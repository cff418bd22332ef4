/* Rows of the queue as any octets: what is read has its bounds, and is the same when it is written and read again. */
#include "backend/store/queue_record.h"

static void check(struct slice part, struct slice whole)
{
	require(!part.len || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void read_message(struct slice in)
{
	struct store_queue_message m, again;
	struct buf out = {0};

	if (queue_record_unpack_message(in, &m))
		return;
	check(m.sender, in);
	check(m.user, in);
	queue_record_pack_message(&m, &out);
	require(slice_is_equal(buf_view(&out), in));
	require(queue_record_unpack_message(buf_view(&out), &again) == 0);
	buf_deinit(&out);
}

static void read_recipient(struct slice in)
{
	struct store_queue_recipient r, again;
	struct store_queue_place place;
	struct queue_record_key key;
	struct buf out = {0};

	if (queue_record_unpack_recipient(in, &r))
		return;
	check(r.address, in);
	check(r.text, in);
	queue_record_pack_recipient(&r, &out);
	require(queue_record_unpack_recipient(buf_view(&out), &again) == 0);
	require(slice_is_equal(r.text, again.text) && slice_is_equal(r.destination, again.destination));
	r.message = r.next / 3;
	place = (struct store_queue_place){r.next, r.message, r.tries};
	key = queue_record_of(r.destination, &place);
	require(queue_record_place(slice_of(key.bytes, key.len), &place) && place.number == r.tries &&
		place.message == r.message);
	buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_queue_place place;
	struct slice in = slice_of(data, size);

	read_message(in);
	read_recipient(in);
	if (queue_record_place(in, &place))
		require(size >= QUEUE_RECORD_PLACE);
	return 0;
}
