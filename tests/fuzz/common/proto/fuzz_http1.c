/*
 * A request head of any bytes: consumed at most what was given, views inside the input, the same answer when
 * all but the last octet came first.
 */
#include "common/base/attr.h"
#include "common/proto/http1.h"

static void check_inside(struct slice in, struct slice view)
{
	require(view.len == 0 || (view.p >= in.p && view.p + view.len <= in.p + in.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct http1_request r, again;
	ssize_t n = http1_parse_request(in, &r);

	require(n <= (ssize_t)size);
	if (n <= 0)
		return 0;
	check_inside(in, r.method);
	check_inside(in, r.path);
	check_inside(in, r.query);
	check_inside(in, r.host);
	require(r.path.len > 0 && r.path.p[0] == '/');
	require(http1_parse_request(slice_sub(in, 0, (size_t)n - 1), &again) == 0);
	require(http1_parse_request(slice_sub(in, 0, (size_t)n), &again) == n);
	require(again.has_body == r.has_body && again.keep_alive == r.keep_alive);
	return 0;
}
