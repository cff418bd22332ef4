/*
 * Bodies: whole feeding equals split feeding; nothing bare is ever written towards others; and what we
 * encode, a decoder reads back as it was. The first octet chooses mode and split.
 */
#include <stdlib.h>

#include "common/proto/smtp_data.h"

static size_t decode(struct smtp_decoder *d, struct slice in, size_t cut, struct buf *out)
{
	size_t n = smtp_data_decode(d, slice_sub(in, 0, cut), out);

	if (n == cut)
		n += smtp_data_decode(d, slice_from(in, cut), out);
	if (!d->has_dots)
		smtp_data_decode_end(d, out);
	return n;
}

static void check_encoded(struct slice wire)
{
	for (size_t i = 0; i < wire.len; i++) {
		if (wire.p[i] == '\n')
			require(i && wire.p[i - 1] == '\r');
		if (wire.p[i] == '\r')
			require(i + 1 < wire.len && wire.p[i + 1] == '\n');
	}
	require(wire.len >= 3 && memcmp(wire.p + wire.len - 3, ".\r\n", 3) == 0);
}

static void round_trip(struct slice body, bool splits, size_t cut)
{
	struct smtp_encoder e;
	struct smtp_decoder d;
	struct buf wire = {0}, back = {0};

	smtp_data_encode_init(&e, splits);
	smtp_data_encode(&e, slice_sub(body, 0, cut), &wire);
	smtp_data_encode(&e, slice_from(body, cut), &wire);
	smtp_data_encode_end(&e, &wire);
	smtp_data_decode_init(&d, SMTP_BARE_NORMALISE, true);
	require(smtp_data_decode(&d, buf_view(&wire), &back) == buf_len(&wire) && d.is_ended);
	if (splits)
		check_encoded(buf_view(&wire));
	else if (d.fault == SMTP_DATA_OK)
		require(slice_is_equal(buf_view(&back), body));
	buf_deinit(&wire);
	buf_deinit(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = size ? slice_of(data + 1, size - 1) : slice_of("", 0);
	enum smtp_bare bare = size && (data[0] & 1) ? SMTP_BARE_REJECT : SMTP_BARE_NORMALISE;
	bool dots = !size || !(data[0] & 2);
	size_t cut = size && in.len ? (data[0] >> 2) % (in.len + 1) : 0;
	struct smtp_decoder one, two;
	struct smtp_hops hops = {0};
	struct buf a = {0}, b = {0};

	smtp_data_decode_init(&one, bare, dots);
	smtp_data_decode_init(&two, bare, dots);
	require(decode(&one, in, in.len, &a) == decode(&two, in, cut, &b));
	require(one.is_ended == two.is_ended && one.fault == two.fault);
	require(slice_is_equal(buf_view(&a), buf_view(&b)));
	smtp_data_count_hops(&hops, buf_view(&a));
	if (dots && one.is_ended && one.fault == SMTP_DATA_OK) {
		round_trip(buf_view(&a), false, cut < buf_len(&a) ? cut : 0);
		round_trip(buf_view(&a), true, cut < buf_len(&a) ? cut : 0);
	}
	buf_deinit(&a);
	buf_deinit(&b);
	return 0;
}
