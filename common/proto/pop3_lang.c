/* A range is matched as RFC 4647 section 3.3.1 has it: it is the tag, or the tag's beginning; our only tag is one subtag. */
#include "common/proto/pop3_lang.h"

void pop3_lang_answer(struct buf *out, const struct pop3_command *command)
{
	struct slice range = command->count ? command->args[0] : (struct slice){0};

	if (command->count == 0)
		buf_add_str(out, "+OK Languages:\r\nen English\r\n.\r\n");
	else if (slice_is_str_nocase(range, "en") || slice_is_str(range, "*"))
		buf_add_str(out, "+OK en English it is.\r\n");
	else
		buf_add_str(out, "-ERR This language is not known here.\r\n");
}
