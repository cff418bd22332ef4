/* Values, words, dates, encodings, charsets, folding: what comes out is UTF-8, pieces give what the whole
 * gives. */
#include "common/proto/charset.h"
#include "common/proto/content.h"
#include "common/proto/date.h"
#include "common/proto/encoded_word.h"
#include "common/proto/fold.h"
#include "common/proto/header.h"
#include "common/proto/net_unicode.h"
#include "common/proto/transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_transfer(struct slice text, enum mime_encoding encoding, size_t cut)
{
	struct buf whole = {0}, pieces = {0};
	struct transfer_decoder d;

	transfer_decoder_init(&d, encoding);
	transfer_decoder_feed(&d, text, &whole);
	transfer_decoder_end(&d, &whole);
	transfer_decoder_init(&d, encoding);
	transfer_decoder_feed(&d, slice_sub(text, 0, cut), &pieces);
	transfer_decoder_feed(&d, slice_from(text, cut), &pieces);
	transfer_decoder_end(&d, &pieces);
	require(slice_is_equal(buf_view(&whole), buf_view(&pieces)));
	require(buf_len(&whole) <= text.len);
	buf_deinit(&whole);
	buf_deinit(&pieces);
}

static void check_charset(struct slice charset, struct slice text)
{
	struct buf out = {0}, folded = {0};

	if (charset_to_utf8(charset, text, &out) == 0) {
		struct fold_stream s = {0};

		require(slice_is_utf8(buf_view(&out)));
		fold_stream_feed(&s, buf_view(&out), &folded);
		fold_stream_end(&s, &folded);
		fold_stream_deinit(&s);
		require(slice_is_utf8(buf_view(&folded)));
		buf_clear(&folded);
		fold_text(buf_view(&out), &folded);
		require(slice_is_utf8(buf_view(&folded)));
	}
	buf_deinit(&out);
	buf_deinit(&folded);
}

static void check_name(struct arena *a, struct slice text)
{
	struct slice name, again;

	if (net_unicode_normalise(a, text, &name) < 0)
		return;
	require(slice_is_utf8(name) && !slice_has_control(name));
	require(net_unicode_normalise(a, name, &again) == 0 && slice_is_equal(name, again));
}

static void check_header(struct slice text)
{
	struct header_reader r;
	struct header_field f;
	size_t len = 0;

	header_reader_init(&r, text);
	while (header_next(&r, &f))
		len += f.raw.len;
	require(len + r.rest.len == text.len && header_length(text) >= len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *charsets[] = {
		"utf-8", "iso-8859-1", "iso-2022-jp", "shift_jis", "utf-7", "gb2312", "big5", "utf-16"};
	struct slice text = slice_from(slice_of(data, size), 2);
	struct content_value v;
	struct content_param *list;
	struct buf words = {0};
	struct arena a;
	struct date d;
	int32_t day;

	if (size < 2)
		return 0;
	arena_init(&a, 0);
	check_name(&a, text);
	require(content_parse_type(&a, text, &v) == 0);
	(void)content_param_text(&a, v.params, "name");
	require(content_parse_disposition(&a, text, &v) == 0);
	(void)content_param_text(&a, v.params, "filename");
	require(content_parse_tokens(&a, text, &list) == 0);
	encoded_word_decode(text, &words);
	require(slice_is_utf8(buf_view(&words)) && !slice_has_control(buf_view(&words)));
	(void)!date_parse_rfc5322(text, &d);
	(void)!date_parse_internal(text, &d);
	(void)!date_parse_search(text, &day);
	check_transfer(text, MIME_BASE64, data[0]);
	check_transfer(text, MIME_QUOTED_PRINTABLE, data[0]);
	check_charset(slice_str(charsets[data[1] % ARRAY_LEN(charsets)]), text);
	check_header(text);
	buf_deinit(&words);
	arena_deinit(&a);
	return 0;
}
