/* A message's grams: from its texts into a segment that is being made. */
#pragma once

#include "backend/search/search_segment.h"
#include "backend/search/search_text.h"

/* A message with more text is left out. */
#define SEARCH_DOC_TEXT_MAX (8u << 20)

/*
 * Reads the message into the builder. 1: it is in; 0: it is left out, as what cannot be read is; ERR_TOO_BIG: the segment is full
 * without it; ERR_IO. Nothing of it stays behind but by 1. text's overlap is at least SEARCH_GRAM_LEN - 1.
 */
MUST_CHECK int search_read_message(struct search_builder *builder, struct search_text *text,
	struct store_txn *txn, const struct store_message *message);
