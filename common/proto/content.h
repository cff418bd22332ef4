/*
 * Structured MIME header values: types with parameters (RFC 2045 section 5.1, RFC 2231), dispositions (RFC
 * 2183), and lists of tokens. Tolerant: what cannot be read is left out. Linear; memory from the caller's
 * arena.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

/* Most parameters of one field; what follows is left out. */
#define CONTENT_PARAMS_MAX 100

struct content_param {
	struct slice name;  /* as written; "filename*" when the value is in RFC 2231's extended form */
	struct slice value; /* quotes undone, continuations joined */
	struct content_param *next;
};

/* A value of the form type "/" subtype *(";" parameter), or token *(";" parameter) with an empty subtype. */
struct content_value {
	struct slice type; /* NULL: the field was missing or unreadable */
	struct slice subtype;
	struct content_param *params;
};

/* Content-Type. Unreadable: all empty. 0, or ERR_TOO_BIG when the arena is full. */
MUST_CHECK int content_parse_type(struct arena *a, struct slice value, struct content_value *out);
/* Content-Disposition. */
MUST_CHECK int content_parse_disposition(struct arena *a, struct slice value, struct content_value *out);
/* One token without comments: Content-Transfer-Encoding. NULL pointer when unreadable or the arena is full.
 */
struct slice content_parse_token(struct arena *a, struct slice value);
/* Content-Language: tokens between commas, as params with empty values. */
MUST_CHECK int content_parse_tokens(struct arena *a, struct slice value, struct content_param **list_out);

/* The plain parameter as written, or a NULL pointer; names compare without case. */
struct slice content_param(const struct content_param *params, const char *name);
/*
 * The parameter as UTF-8, from "name*" (RFC 2231) or "name" (RFC 2047 words in it decoded, as many programs
 * write them). NULL pointer when absent or the arena is full.
 */
struct slice content_param_text(struct arena *a, const struct content_param *params, const char *name);
