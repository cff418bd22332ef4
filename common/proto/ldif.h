/*
 * LDIF (RFC 2849), as directories give entries out: folded lines, comments, values in base64. Changes other than "add" are refused, and so are
 * values by URL. Pure and linear.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

#define LDIF_ATTRIBUTES_MAX 1000 /* of one entry */
#define LDIF_VALUE_MAX (1024 * 1024)

struct ldif {
	struct slice text;
	size_t at;
	unsigned line; /* of `at`, from 1 */
};

struct ldif_attribute {
	struct slice name;  /* without options (";lang-de"); case as it stands */
	struct slice value; /* decoded */
	unsigned line;
};

struct ldif_entry {
	unsigned line; /* of its dn */
	struct slice dn;
	size_t count;
	struct ldif_attribute *attributes; /* the arena's */
	unsigned bad_line;                 /* after an error */
	const char *why;
};

void ldif_begin(struct ldif *l, struct slice text);
/*
 * The next entry; texts are views of the text or the arena's. ERR_NOT_FOUND: there is none. ERR_SYNTAX, ERR_TOO_BIG, ERR_UNSUPPORTED: this
 * one is wrong, reading may go on behind it.
 */
MUST_CHECK int ldif_next(struct ldif *l, struct arena *arena, struct ldif_entry *entry_out);
