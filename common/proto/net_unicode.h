/*
 * Net-Unicode (RFC 5198 section 2) as mailbox names want it (RFC 9051 section 5.1, RFC 6855 section 3): UTF-8, in
 * normalisation form C, without controls and without separators of lines and paragraphs. So two spellings of a name that look the
 * same mean one mailbox. Pure; any thread.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

/* Into the arena. ERR_SYNTAX: no UTF-8, or characters that may not be in it. ERR_TOO_BIG: the arena is full. */
MUST_CHECK int net_unicode_normalise(struct arena *arena, struct slice utf8, struct slice *out);
