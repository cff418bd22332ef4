/* IMAP responses and POP3 replies, and the two's words; all views lie within the input. */
#include "common/base/attr.h"
#include "common/proto/imap_reply.h"
#include "common/proto/pop3_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice part, struct slice whole)
{
	require(part.len == 0 || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void one_pop3(struct slice in)
{
	struct pop3_reply reply;
	struct pop3_command command;
	size_t consumed = 0;

	if (pop3_parse_reply(in, 512, &reply) > 0) {
		inside(reply.code, in);
		inside(reply.text, in);
		inside(reply.line, in);
	}
	if (pop3_parse_command(in, POP3_LINE_MOST, &command, &consumed) > 0) {
		inside(command.rest, in);
		for (unsigned i = 0; i < command.count && i < POP3_ARGS_MOST; i++)
			inside(command.args[i], command.rest);
	}
	require(consumed <= in.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), list, word;
	struct imap_reply r;
	ssize_t n;

	one_pop3(in);
	while ((n = imap_reply_parse(in, &r)) > 0) {
		require((size_t)n <= in.len);
		inside(r.tag, r.line);
		inside(r.name, r.line);
		inside(r.code, r.line);
		inside(r.code_args, r.line);
		inside(r.text, r.line);
		if (imap_reply_capabilities(&r, &list)) {
			while (imap_reply_next_word(&list, &word))
				inside(word, r.line);
		}
		in = slice_from(in, (size_t)n);
	}
	return 0;
}
