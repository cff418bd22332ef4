/* Packets of a hostile filter: nothing outside the packet is read, and its texts stay one field and one line. */
#include "common/proto/milter.h"

#include "common/proto/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct milter_reply r;
	struct buf out = {0};
	ssize_t n;

	while ((n = milter_parse(in, &r)) > 0) {
		require((size_t)n <= in.len);
		milter_field_text(&out, r.value, (r.index & 1) != 0);
		for (size_t i = 0; i < buf_len(&out); i++) {
			char c = buf_view(&out).p[i];

			require(c != '\0');
			require(c != '\r' || buf_view(&out).p[i + 1] == '\n');
			require(c != '\n' ||
				(i + 1 < buf_len(&out) &&
					(buf_view(&out).p[i + 1] == ' ' || buf_view(&out).p[i + 1] == '\t')));
		}
		buf_clear(&out);
		if (r.kind == MILTER_REPLY_CODE) {
			smtp_reply_write(&out, r.code, r.enhanced, r.text);
			require(slice_find(buf_view(&out), '\n') == (ptrdiff_t)buf_len(&out) - 1);
			buf_clear(&out);
		}
		for (size_t i = 0; i < MILTER_STAGES; i++)
			(void)milter_macros_has(r.macros[i], "mail_addr");
		(void)milter_field_is_name(r.name);
		in = slice_from(in, (size_t)n);
	}
	buf_deinit(&out);
	return 0;
}
