/* What a server says to SCRAM: its first text, a line end, its last one. Whatever it is, the rounds stay within their bounds; and without a
 * proof that was computed nobody is proven but by chance. */
#include "common/crypto/scram_client.h"
#include "common/base/mem.h"

#define NONCE "rOprNGfwEbeRWgbNEkqO"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of((const char *)data, size);
	ptrdiff_t end = slice_find(in, '\n');
	struct scram_client c;
	struct buf out = {0};

	scram_client_begin(&c, SLICE_LIT("user"), NONCE, &out);
	if (scram_client_challenge(&c, slice_sub(in, 0, end < 0 ? size : (size_t)end)) == 0) {
		require(c.rounds >= SCRAM_CLIENT_ROUNDS_LEAST && c.rounds <= SCRAM_CLIENT_ROUNDS_MOST);
		require(slice_has_prefix(c.whole_nonce, NONCE));
		scram_client_final(&c, &out);
		(void)scram_client_is_proven(&c, slice_from(in, end < 0 ? size : (size_t)end + 1));
	}
	scram_client_end(&c);
	buf_deinit(&out);
	return 0;
}
