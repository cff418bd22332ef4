/*
 * From any charset to UTF-8, by libc's iconv, whole or in pieces. Bytes that the charset does not have become
 * U+FFFD. NUL and ill-formed UTF-8 never come out. Charset names come from mail: only names of registered
 * form reach iconv (no "//TRANSLIT" and the like).
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

struct charset_decoder;

/* ERR_UNSUPPORTED: no such charset here. An empty name is US-ASCII. Then feed, end, free. */
MUST_CHECK int charset_decoder_new(struct slice charset, struct charset_decoder **decoder_out);
void charset_decoder_feed(struct charset_decoder *d, struct slice bytes, struct buf *out);
/* Ends the text: an unfinished character becomes U+FFFD; the decoder starts anew. */
void charset_decoder_end(struct charset_decoder *d, struct buf *out);
void charset_decoder_free(struct charset_decoder **d);

/* True when this machine knows the charset (SEARCH CHARSET, BADCHARSET). */
bool charset_is_known(struct slice charset);
/* Appends the text as UTF-8. ERR_UNSUPPORTED adds nothing. */
MUST_CHECK int charset_to_utf8(struct slice charset, struct slice text, struct buf *out);
/* Appends the text as it is where it is well-formed UTF-8, else as Windows-1252: for raw 8-bit headers. */
void charset_guess_utf8(struct slice text, struct buf *out);
