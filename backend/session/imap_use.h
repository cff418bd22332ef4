/* Special uses (RFC 6154) as words of IMAP. */
#pragma once

#include "backend/store/store_mailbox.h"

/* "\Drafts"; NULL for STORE_USE_NONE. */
const char *imap_use_word(enum store_use use);
/* ERR_UNSUPPORTED: none that we keep. */
MUST_CHECK int imap_use_find(struct slice word, enum store_use *use_out);
