/* One command line to an argument tree, for tests of the grammars that read such trees. Include after
 * cmocka.h. */
#pragma once

#include "common/base/buf.h"
#include "common/proto/imap_parse.h"

/* Arguments of "a X <text>"; literals are held. NULL when the line is broken. The tree is the arena's. */
static inline const struct imap_arg *imap_line_args(struct arena *arena, const char *text)
{
	struct buf line = {0};
	struct imap_parse p;
	enum imap_parse_event event = IMAP_PARSE_MORE;
	size_t at = 0;

	buf_printf(&line, "a X %s\r\n", text);
	imap_parse_start(&p, &imap_parse_limits_after_login, arena);
	do {
		ssize_t n = imap_parse_feed(&p, slice_from(buf_view(&line), at), &event);

		if (n < 0 || event == IMAP_PARSE_MORE)
			break;
		at += (size_t)n;
		if (event == IMAP_PARSE_LITERAL && imap_parse_hold(&p) < 0)
			break;
	} while (event == IMAP_PARSE_LITERAL);
	buf_deinit(&line);
	return event == IMAP_PARSE_COMMAND ? p.command.args : NULL;
}
