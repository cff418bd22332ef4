/* STATUS items (RFC 3501 section 6.3.10, RFC 7162, 8438, 9208), for STATUS and for LIST's RETURN (STATUS
 * ...). */
#pragma once

#include "backend/session/imap_core.h"

/* Bits of the items in a list argument. ERR_SYNTAX. */
MUST_CHECK int imap_status_parse(const struct imap_arg *list, unsigned *items_out);
/* The bit of one item that there is. */
unsigned imap_status_item(const char *name);
bool imap_status_has_modseq(unsigned items);
/* Writes "* STATUS name (...)"; on a reader thread. */
MUST_CHECK int imap_status_write(struct imap_session *s, struct store_txn *txn,
	const struct store_mailbox *mailbox, struct slice name, unsigned items);
/* The first UID of the mailbox that no session has shown as \Recent. */
uint32_t imap_status_recent_from(const struct imap_session *s, const struct store_mailbox *m);
