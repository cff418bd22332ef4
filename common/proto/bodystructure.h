/*
 * Ready IMAP texts of BODY and BODYSTRUCTURE (RFC 3501 section 7.4.2) from a parsed tree. Iterative.
 */
#pragma once

#include "common/base/buf.h"
#include "common/proto/mime.h"

/* Appends BODYSTRUCTURE, with extension data. 0, or ERR_TOO_BIG when the arena or the buffer is full. */
MUST_CHECK int bodystructure_write(const struct mime_part *root, struct arena *a, struct buf *out);
/* Appends BODY: the same without extension data. */
MUST_CHECK int bodystructure_write_short(const struct mime_part *root, struct arena *a, struct buf *out);
/*
 * Appends BODY, made from a ready BODYSTRUCTURE text of ours (a record keeps that one alone). ERR_CORRUPT
 * when the text is none; nothing is added then.
 */
MUST_CHECK int bodystructure_shorten(struct slice bodystructure, struct buf *out);
