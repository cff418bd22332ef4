/*
 * The base subject of a message (RFC 5256 section 2.1): what SORT and THREAD compare. Pure; any thread.
 */
#pragma once

#include "common/base/buf.h"

/*
 * Appends the base subject of a Subject field's value (unfolded, words still encoded) in UTF-8, its case as
 * written. is_reply_out: what was taken off says that the message is a reply or forward. Linear.
 */
void subject_base(struct slice value, struct buf *out, bool *is_reply_out);
