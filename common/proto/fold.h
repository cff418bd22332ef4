/*
 * Text comparison for SEARCH: case folding with compatibility decomposition (Unicode, as RFC 5051 wants), and
 * a substring search over UTF-8 that comes in pieces. Linear.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* Appends the folded text; ill-formed bytes become U+FFFD. */
void fold_text(struct slice utf8, struct buf *out);

struct fold_search;

/* An empty needle is found in every text. Needle is UTF-8. */
struct fold_search *fold_search_new(struct slice needle);
/* True as soon as the needle has been seen; stays true until fold_search_restart(). */
bool fold_search_feed(struct fold_search *s, struct slice utf8);
/* Ends the text: last call before the answer is final. */
bool fold_search_end(struct fold_search *s);
void fold_search_restart(struct fold_search *s);
void fold_search_free(struct fold_search **s);
/* All at once. */
bool fold_has(struct fold_search *s, struct slice utf8);
