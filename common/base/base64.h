/*
 * Base64 (RFC 4648, section 4: padded, no line breaks).
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/error.h"

/* What a digit stands for, -1 for any other character. */
int base64_digit(char c);
void base64_encode(struct buf *out, struct slice raw);
/* Decodes canonical base64 only: right padding, no white space, no stray bits. ERR_SYNTAX adds nothing. */
MUST_CHECK int base64_decode(struct buf *out, struct slice text);
