/*
 * A PROXY header of any bytes: consumed at most what was given and never beyond the limit, views inside the input, the same
 * answer at every shorter piece (more) and for a copy, and what is written of it reads as the same again.
 */
#include "common/base/attr.h"
#include "common/proto/proxy_protocol.h"

static void check_inside(struct slice in, struct slice view)
{
	require(view.len == 0 || (view.p >= in.p && view.p + view.len <= in.p + in.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct proxy_protocol h, again;
	struct buf out = {0};
	ssize_t n = proxy_protocol_parse(in, &h);

	require(n <= (ssize_t)size && n <= PROXY_PROTOCOL_MOST);
	if (n <= 0)
		return 0;
	for (size_t len = 0; len < (size_t)n; len++)
		require(proxy_protocol_parse(slice_sub(in, 0, len), &again) == 0);
	check_inside(in, h.authority);
	check_inside(in, h.unique_id);
	check_inside(in, h.alpn);
	check_inside(in, h.ssl_version);
	check_inside(in, h.ssl_cipher);
	check_inside(in, h.ssl_cn);
	require(!slice_has_control(h.authority) && !slice_has_control(h.ssl_cn));
	require(!h.is_local || (!h.has_ssl && h.family == PROXY_PROTOCOL_UNKNOWN));
	proxy_protocol_write(&out, &h);
	require(proxy_protocol_parse(buf_view(&out), &again) == (ssize_t)buf_len(&out));
	require(again.is_local == h.is_local && again.family == h.family);
	if (h.family != PROXY_PROTOCOL_UNKNOWN) {
		require(memcmp(again.source, h.source, 16) == 0 && again.source_port == h.source_port);
		require(slice_is_equal(again.authority, h.authority) &&
			slice_is_equal(again.ssl_cn, h.ssl_cn));
		require(again.ssl_verify == h.ssl_verify && again.ssl_client == h.ssl_client);
	}
	buf_deinit(&out);
	return 0;
}
