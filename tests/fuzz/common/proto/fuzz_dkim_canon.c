/*
 * Canonical forms: whole feeding equals split feeding; what is canonical stays as it is; the relaxed form is also that of the
 * simple one; mended bodies hold nothing bare. The first octet chooses the split.
 */
#include "common/proto/dkim_canon.h"

static void body(struct slice in, size_t cut, bool is_relaxed, bool is_mended, struct buf *out)
{
	struct dkim_body b;

	dkim_canon_body_init(&b, is_relaxed, dkim_canon_to_buf, out);
	b.is_mended = is_mended;
	dkim_canon_body(&b, slice_sub(in, 0, cut));
	dkim_canon_body(&b, slice_from(in, cut));
	dkim_canon_body_end(&b);
	require(b.size == buf_len(out));
}

static void check_bare(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		require(s.p[i] == '\n' ? i && s.p[i - 1] == '\r'
				       : s.p[i] != '\r' || (i + 1 < s.len && s.p[i + 1] == '\n'));
}

static void check_body(struct slice in, size_t cut, bool is_relaxed, bool is_mended)
{
	struct buf whole = {0}, split = {0}, again = {0};

	body(in, in.len, is_relaxed, is_mended, &whole);
	body(in, cut, is_relaxed, is_mended, &split);
	require(slice_is_equal(buf_view(&whole), buf_view(&split)));
	body(buf_view(&whole), buf_len(&whole), is_relaxed, is_mended, &again);
	require(slice_is_equal(buf_view(&whole), buf_view(&again)));
	if (is_mended)
		check_bare(buf_view(&whole));
	buf_deinit(&whole);
	buf_deinit(&split);
	buf_deinit(&again);
}

static void check_field(struct slice in)
{
	struct buf relaxed = {0}, again = {0}, simple = {0}, signature = {0};

	dkim_canon_field(in, true, false, dkim_canon_to_buf, &relaxed);
	dkim_canon_field(in, false, false, dkim_canon_to_buf, &simple);
	dkim_canon_signature(in, true, dkim_canon_to_buf, &signature);
	require(buf_len(&signature) <= buf_len(&relaxed));
	if (memchr(in.p ? in.p : "", ':', in.len)) {
		dkim_canon_field(buf_view(&relaxed), true, false, dkim_canon_to_buf, &again);
		require(slice_is_equal(buf_view(&relaxed), buf_view(&again)));
	}
	buf_deinit(&relaxed);
	buf_deinit(&again);
	buf_deinit(&simple);
	buf_deinit(&signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = size ? slice_of(data + 1, size - 1) : slice_of("", 0);
	size_t cut = size && in.len ? data[0] % (in.len + 1) : 0;

	for (unsigned mode = 0; mode < 4; mode++)
		check_body(in, cut, mode & 1, mode & 2);
	check_field(in);
	return 0;
}
