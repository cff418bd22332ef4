/* One reader and one writer, each asking what the client has enabled. */
#include "backend/session/imap_name.h"

#include "common/proto/imap_write.h"
#include "common/proto/mutf7.h"
#include "common/proto/net_unicode.h"

bool imap_name_is_utf8(const struct imap_session *s)
{
	return s->is_rev2 || s->is_utf8;
}

int imap_name_decode(
	const struct imap_session *s, struct slice text, struct arena *arena, struct slice *utf8_out)
{
	int err = 0;

	if (!imap_name_is_utf8(s) && slice_is_ascii(text))
		err = mutf7_decode_arena(arena, text, &text);
	return err < 0 ? err : net_unicode_normalise(arena, text, utf8_out);
}

int imap_name_read(
	const struct imap_session *s, const struct imap_arg *arg, struct arena *arena, struct slice *utf8_out)
{
	struct slice name;
	int err = imap_parse_astring(arg, &name);

	if (err < 0)
		return err;
	if (slice_is_str_nocase(name, "INBOX")) {
		*utf8_out = SLICE_LIT("INBOX");
		return 0;
	}
	return imap_name_decode(s, name, arena, utf8_out);
}

void imap_name_write(const struct imap_session *s, struct buf *out, struct slice utf8)
{
	if (imap_name_is_utf8(s))
		imap_write_utf8_mailbox(out, utf8);
	else
		imap_write_mailbox(out, utf8);
}

void imap_name_write_string(const struct imap_session *s, struct buf *out, struct slice utf8)
{
	if (imap_name_is_utf8(s))
		imap_write_utf8_string(out, utf8);
	else
		imap_write_string(out, utf8);
}
