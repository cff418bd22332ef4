/*
 * What a session hears of its account beyond the selected mailbox. Sessions that want nothing of the kind have
 * no struct imap_notify and pay nothing. Changes come from the account's change log: a notice says that there
 * are some, then a job reads them and writes the responses.
 */
#pragma once

#include "backend/session/imap_core.h"

/* ENABLE METADATA (RFC 5464 section 4.1). */
void imap_notify_enable_metadata(struct imap_session *s);
/* Changes that this session made itself: it is not told of them. 0: none. */
void imap_notify_own(struct imap_session *s, uint64_t from, uint64_t to);
/* Is there something to be told? */
bool imap_notify_is_due(const struct imap_session *s);
/* Tells it, then calls done. */
void imap_notify_start(struct imap_session *s, void (*done)(struct imap_session *s, int err));
void imap_notify_free(struct imap_session *s);
