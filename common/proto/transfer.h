/*
 * Content transfer encodings (RFC 2045 sections 6.7, 6.8), decoded in pieces of any size. Tolerant: what is
 * no base64 is skipped, a broken quoted-printable escape stays as text.
 */
#pragma once

#include "common/base/buf.h"
#include "common/proto/mime.h"

struct transfer_decoder {
	enum mime_encoding encoding;
	uint32_t bits;  /* base64: collected bits */
	unsigned count; /* base64: characters in bits */
	char held[64];  /* quoted-printable: '=' and what may belong to it, or blanks at a line's end */
	unsigned held_len;
};

void transfer_decoder_init(struct transfer_decoder *d, enum mime_encoding encoding);
void transfer_decoder_feed(struct transfer_decoder *d, struct slice bytes, struct buf *out);
void transfer_decoder_end(struct transfer_decoder *d, struct buf *out);
/* The encoding of that name; MIME_7BIT for an empty one, MIME_OTHER for a strange one. */
enum mime_encoding transfer_encoding(struct slice name);
