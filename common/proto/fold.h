/*
 * Text comparison for SEARCH: case folding with compatibility decomposition (Unicode, as RFC 5051 wants), of a
 * whole text or of one that comes in pieces. A text has another if its folded octets hold the other's. Linear.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* Appends the folded text; ill-formed bytes become U+FFFD. */
void fold_text(struct slice utf8, struct buf *out);

/* Zeroed: ready for a text. */
struct fold_stream {
	struct buf held; /* not yet folded: what comes may still belong to it */
};
/* Appends what can be folded of the text so far. */
void fold_stream_feed(struct fold_stream *s, struct slice utf8, struct buf *out);
/* Appends the rest; the next text may begin. */
void fold_stream_end(struct fold_stream *s, struct buf *out);
void fold_stream_deinit(struct fold_stream *s);
