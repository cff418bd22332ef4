/*
 * Encoded words in header values (RFC 2047, RFC 2231 section 5): reading them, and writing them for texts of
 * ours.
 */
#pragma once

#include "common/base/buf.h"

/*
 * Appends an unfolded or folded header value as UTF-8: encoded words decoded (blanks between two of them
 * dropped, characters that were split over two words of one charset joined), raw 8-bit text by
 * charset_guess_utf8(). Words of unknown charsets stay as they are. No control characters come out: they
 * become blanks.
 */
void encoded_word_decode(struct slice value, struct buf *out);
