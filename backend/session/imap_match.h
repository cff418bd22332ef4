/* Mailbox names against LIST patterns (RFC 3501 section 6.3.8): "*" is anything, "%" anything but "/". Pure.
 */
#pragma once

#include "common/base/slice.h"

/* INBOX, as a name or first level, matches in any case. No recursion; quadratic at worst. */
bool imap_match(struct slice pattern, struct slice name);
