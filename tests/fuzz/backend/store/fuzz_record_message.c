/* Records of messages: what is read holds only views of what was given; what is written again reads the same. */
#include <stdint.h>
#include <stdlib.h>

#include "backend/store/record.h"
#include "common/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const struct store_message *a, const struct store_message *b)
{
	const struct slice *x[] = {&a->trace, &a->uidl, &a->texts.envelope.bytes,
		&a->texts.bodystructure.bytes, &a->texts.parts, &a->texts.keys};
	const struct slice *y[] = {&b->trace, &b->uidl, &b->texts.envelope.bytes,
		&b->texts.bodystructure.bytes, &b->texts.parts, &b->texts.keys};

	for (size_t i = 0; i < 6; i++)
		require(slice_is_equal(*x[i], *y[i]));
	require(a->blob == b->blob && a->size == b->size && a->email == b->email && a->date == b->date &&
		a->save_date == b->save_date);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice given = slice_of((const char *)data, size);
	struct buf room = {0}, squeezed = {0};
	struct store_message m = {0}, again = {0};
	struct squeeze_dict dict;
	struct slice text;
	size_t len;
	char *packed;

	/* Any octets, as a text. */
	record_text_dict(&dict);
	if (record_text_squeeze(&dict, given, &squeezed).is_squeezed) {
		const struct store_text t = {buf_view(&squeezed), size, true};

		require(store_text_view(&t, &room, &text) == 0 && slice_is_equal(text, given));
	}
	if (record_unpack_message(given, &m) == 0) {
		if (store_text_view(&m.texts.envelope, &room, &text) == 0)
			require(text.len == m.texts.envelope.len);
		if (store_text_view(&m.texts.bodystructure, &room, &text) == 0)
			require(text.len == m.texts.bodystructure.len);
		len = record_message_size(&m);
		packed = xmalloc(len);
		record_pack_message(&m, packed);
		require(record_unpack_message(slice_of(packed, len), &again) == 0);
		expect_same(&m, &again);
		free(packed);
	}
	buf_deinit(&room);
	buf_deinit(&squeezed);
	return 0;
}
