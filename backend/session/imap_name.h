/*
 * Mailbox names as this client writes and reads them: modified UTF-7 (RFC 3501 section 5.1.3), or UTF-8 once it has enabled
 * IMAP4rev2 (RFC 9051 section 5.1) or UTF8=ACCEPT (RFC 6855). Inside, names are UTF-8. Whoever takes a name from a command or puts
 * one into a response goes through here.
 */
#pragma once

#include "backend/session/imap_core.h"

/* The client has enabled one of the two: its names and its quoted strings are UTF-8. */
bool imap_name_is_utf8(const struct imap_session *s);
/*
 * The name of an argument, into the arena: Net-Unicode, INBOX in capitals. A name with 8-bit octets is UTF-8 whatever was enabled
 * (RFC 6855 section 3). ERR_SYNTAX: no mailbox name. ERR_TOO_BIG: the arena is full.
 */
MUST_CHECK int imap_name_read(const struct imap_session *s, const struct imap_arg *arg, struct arena *arena,
	struct slice *utf8_out);
/* The same for text that is no argument of its own: reference and pattern of a LIST. INBOX stays as it is. */
MUST_CHECK int imap_name_decode(
	const struct imap_session *s, struct slice text, struct arena *arena, struct slice *utf8_out);
/* A name given in UTF-8, as an astring. */
void imap_name_write(const struct imap_session *s, struct buf *out, struct slice utf8);
/* A string given in UTF-8. */
void imap_name_write_string(const struct imap_session *s, struct buf *out, struct slice utf8);
