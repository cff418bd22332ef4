/* Packed trees and body structure texts are read back as hostile bytes. */
#include "common/proto/bodystructure.h"
#include "common/proto/mail_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out = {0};
	struct mime_part *root;
	struct mail_keys keys;
	struct arena a;

	arena_init(&a, 64 << 20);
	if (mime_unpack(&a, slice_of(data, size), 1000000, &root) == 0) {
		for (const struct mime_part *p = root; p; p = mime_next(root, p))
			require(mime_body_at(p) + p->body_len <= 1000000);
		mime_pack(root, &out);
		require(buf_len(&out) <= size); /* shortest forms */
	}
	if (mail_keys_unpack(slice_of(data, size), &keys) == 0 && keys.reference_count)
		(void)mail_keys_reference(&keys, keys.reference_count - 1);
	buf_clear(&out);
	if (bodystructure_shorten(slice_of(data, size), &out) != 0)
		require(buf_len(&out) == 0);
	buf_deinit(&out);
	arena_deinit(&a);
	return 0;
}
