/*
 * Tag lists (RFC 6376 section 3.2): "v=1; a=rsa-sha256; ...", as signatures, key records, DMARC records and
 * ARC fields hold them, and the two kinds of values in them that are no plain text. Pure; everything is a view
 * into the text.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

/* Most tags of one list. */
#define DKIM_TAGS_MOST 64

struct dkim_tag {
	struct slice name;  /* as written: names are case-sensitive */
	struct slice value; /* without blanks and folds around it; those inside stay */
};

struct dkim_tags {
	size_t count;
	struct dkim_tag list[DKIM_TAGS_MOST];
};

/* Reads a whole list; one semicolon may end it. ERR_SYNTAX: no list, or a tag twice (then nothing of it
 * counts). ERR_TOO_BIG: more than DKIM_TAGS_MOST. */
MUST_CHECK int dkim_tags_parse(struct slice text, struct dkim_tags *tags_out);
/* The value, or a NULL pointer when the list has no such tag; "" counts as present. */
struct slice dkim_tags_get(const struct dkim_tags *tags, const char *name);

/* Decodes base64 with blanks and folds anywhere in it; a missing '=' at the end is forgiven. ERR_SYNTAX, or
 * ERR_TOO_BIG: more than most octets, or the arena is full. */
MUST_CHECK int dkim_tags_base64(struct arena *a, struct slice text, size_t most, struct slice *octets_out);
/* An unsigned decimal number of at most 12 digits (RFC 6376 section 3.5, t= and x=). ERR_SYNTAX. */
MUST_CHECK int dkim_tags_number(struct slice text, uint64_t *n_out);

/* Steps through a list with separators, such as "from : to : subject": gives each element without blanks and
 * folds around it (it may be empty). False at the end. Begin with *rest = the list; a NULL pointer is none. */
bool dkim_tags_next(struct slice *rest, char separator, struct slice *element_out);
