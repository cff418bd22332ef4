/* Replies of a hostile server: split feeding agrees, and what we write on is one line. */
#include "common/proto/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct smtp_reply reply, again;
	struct smtp_words words;
	struct buf out = {0};
	ssize_t n = smtp_reply_parse(in, &reply);

	require(n <= (ssize_t)size);
	if (n > 0) {
		smtp_reply_words(reply.lines, &words);
		smtp_reply_write(&out, reply.code, reply.enhanced, reply.text);
		require(slice_find(buf_view(&out), '\n') == (ptrdiff_t)buf_len(&out) - 1);
		require(smtp_reply_parse(buf_view(&out), &again) == (ssize_t)buf_len(&out));
		require(again.code == reply.code);
		require(smtp_reply_parse(slice_sub(in, 0, (size_t)n - 1), &again) == 0);
	}
	smtp_reply_words(in, &words);
	buf_deinit(&out);
	return 0;
}
