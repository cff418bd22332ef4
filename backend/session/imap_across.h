/*
 * COPY and MOVE where source or target is another's: the bytes go, since the two may live in different slots. A batch at a time is
 * read into a spool, added to the target in one transaction, and only then (MOVE) expunged at the source: killed between the two,
 * a message is in both.
 */
#pragma once

#include "backend/session/imap_core.h"

/* Answers the command. name: the target, as the client wrote it; uids of the view, ascending, in the command's arena. */
void imap_across_start(
	struct imap_session *s, struct slice name, const uint32_t *uids, size_t count, bool is_move);
