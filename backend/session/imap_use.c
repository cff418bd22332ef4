#include "backend/session/imap_use.h"

#include "common/base/attr.h"

static const char *const words[] = {
	[STORE_USE_NONE] = NULL,
	[STORE_USE_ARCHIVE] = "\\Archive",
	[STORE_USE_DRAFTS] = "\\Drafts",
	[STORE_USE_FLAGGED] = "\\Flagged",
	[STORE_USE_JUNK] = "\\Junk",
	[STORE_USE_SENT] = "\\Sent",
	[STORE_USE_TRASH] = "\\Trash",
};

const char *imap_use_word(enum store_use use)
{
	return use < ARRAY_LEN(words) ? words[use] : NULL;
}

int imap_use_find(struct slice word, enum store_use *use_out)
{
	for (size_t i = 1; i < ARRAY_LEN(words); i++) {
		if (slice_is_str_nocase(word, words[i])) {
			*use_out = (enum store_use)i;
			return 0;
		}
	}
	return ERR_UNSUPPORTED;
}
