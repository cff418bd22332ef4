/* HTTP responses: split feeding of chunks equals whole feeding, and never makes more than it took. */
#include "common/proto/http1_response.h"

static int feed(struct slice in, size_t cut, struct buf *out, bool *is_over)
{
	struct http1_chunks c = {0};
	size_t at = 0, end = cut;
	ssize_t n;

	for (;;) {
		n = http1_response_chunk(&c, slice_sub(in, at, end - at), out);
		require(n <= (ssize_t)(end - at));
		if (n > 0)
			at += (size_t)n;
		else if (n == 0 && end < in.len)
			end = in.len;
		else
			break;
	}
	*is_over = c.is_over;
	return (int)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	struct slice in = slice_of(p, size);
	struct http1_response r;
	ssize_t n = http1_response_parse(in, &r);
	struct buf whole = {0}, split = {0};
	bool over_whole, over_split;

	require(n <= (ssize_t)size);
	if (n > 0) {
		require(r.status >= 100 && r.status <= 599);
		(void)http1_response_is_type(&r, "text/plain");
		in = slice_from(in, (size_t)n);
	}
	require(feed(in, in.len, &whole, &over_whole) == feed(in, in.len / 2, &split, &over_split));
	require(over_whole == over_split && slice_is_equal(buf_view(&whole), buf_view(&split)));
	require(buf_len(&whole) <= in.len);
	buf_deinit(&whole);
	buf_deinit(&split);
	return 0;
}
