/*
 * Modified UTF-7, the coding of mailbox names (RFC 3501 section 5.1.3), to and from UTF-8. Strict: each name
 * has exactly one coding, so that two spellings never mean one mailbox. Pure; any thread.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* ERR_SYNTAX adds nothing: 8-bit octets, base64 of what needs none, superfluous bits, lone surrogates,
 * controls. */
MUST_CHECK int mutf7_decode(struct buf *out, struct slice mutf7);
/* ERR_SYNTAX adds nothing: the input is no UTF-8, or has controls. */
MUST_CHECK int mutf7_encode(struct buf *out, struct slice utf8);
/* As mutf7_decode, into the arena. ERR_TOO_BIG: it is full. */
MUST_CHECK int mutf7_decode_arena(struct arena *arena, struct slice mutf7, struct slice *utf8_out);
