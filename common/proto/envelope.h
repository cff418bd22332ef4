/*
 * What IMAP's ENVELOPE shows of a message (RFC 3501 section 7.4.2): the texts of some header fields, and the
 * ready IMAP text made of them. Date, Subject, In-Reply-To, Message-ID: the first field counts. Address
 * fields that stand more than once are joined. A missing or empty Sender or Reply-To shows From. References is
 * kept for THREAD's sake; ENVELOPE does not show it.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/proto/header.h"

/* Most bytes kept of one field; the rest is left out. */
#define ENVELOPE_FIELD_MAX ((size_t)256 << 10)

/* Unfolded values, words still encoded; NULL pointer: no such field. */
struct envelope {
	struct slice date;
	struct slice subject;
	struct slice from;
	struct slice sender;
	struct slice reply_to;
	struct slice to;
	struct slice cc;
	struct slice bcc;
	struct slice in_reply_to;
	struct slice message_id;
	struct slice references;
};

/* Takes the field if it belongs into an envelope; value still folded. 0 or ERR_TOO_BIG (arena full: not
 * taken). */
MUST_CHECK int envelope_take_field(
	struct envelope *e, struct arena *a, struct slice name, struct slice value);
/*
 * Date and Subject out of a text that envelope_write() made, still encoded; appended to buf, whose views they are.
 * A NULL pointer: NIL. ERR_CORRUPT.
 */
MUST_CHECK int envelope_read(
	struct slice text, struct buf *buf, struct slice *date_out, struct slice *subject_out);
/* Appends the parenthesised IMAP text; e may be NULL (all NIL). The arena serves for the time of the call. */
MUST_CHECK int envelope_write(const struct envelope *e, struct arena *a, struct buf *out);
