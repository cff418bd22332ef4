/* Any octets as the texts of a notice and as the message that it returns: what comes out has CRLF alone, no controls, short lines, and as many
 * parts as it should. */
#include "common/proto/dsn.h"

#define BOUNDARY "abcdefghijabcdefghijabcdefghij0123456789"

static struct slice take(struct slice *in)
{
	size_t len;
	struct slice s;

	if (!in->len)
		return *in;
	len = (unsigned char)in->p[0] * 4u;
	s = slice_sub(*in, 1, len);
	*in = slice_from(*in, 1 + s.len);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), text;
	struct dsn_recipient r[2] = {{.code = 550, .last_try = 1}, {.until = 9}};
	struct dsn d = {.boundary = SLICE_LIT(BOUNDARY), .recipients = r, .recipient_count = 2};
	unsigned parts = 0, kind = size ? data[0] : 0;
	struct buf out = {0};
	size_t end = 0;

	in = slice_from(in, 1);
	r[0].action = r[1].action = kind & 3;
	d.is_full = kind & 4;
	d.is_utf8 = kind & 8;
	for (int i = 0; i < 2; i++) {
		r[i].address = take(&in);
		r[i].orcpt_type = take(&in);
		r[i].orcpt = take(&in);
		r[i].status = take(&in);
		r[i].remote = take(&in);
		r[i].text = take(&in);
	}
	d.host = take(&in);
	d.from = take(&in);
	d.to = take(&in);
	d.message_id = take(&in);
	d.envid = take(&in);
	d.text_template = take(&in);
	/* The operator's own words; the boundary is made by chance, and they cannot know it. */
	if (memmem(d.text_template.p, d.text_template.len, BOUNDARY, strlen(BOUNDARY)))
		return 0;
	dsn_write(&d, &out);
	text = buf_view(&out);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '\n') {
			require(text.p[i - 1] == '\r');
			require(i - end < 1000);
			parts += slice_has_prefix(slice_from(text, end), "--" BOUNDARY);
			end = i + 1;
		} else {
			require(c >= ' ' || c == '\t' || c == '\r');
			require(c != '\r' || (i + 1 < text.len && text.p[i + 1] == '\n'));
		}
	}
	require(end == text.len && parts == 4);
	/* The message is returned as it is but for its line ends: apart, since its lines may be long. */
	buf_clear(&out);
	d.message = in;
	dsn_write(&d, &out);
	buf_deinit(&out);
	return 0;
}
