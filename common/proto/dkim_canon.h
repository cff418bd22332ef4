/*
 * Canonical forms of messages (RFC 6376 section 3.4): what is hashed of a body, as a stream cut anywhere, and of a
 * header field. Pure; octets go to the caller's sink in pieces, which are views for the time of the call.
 *
 * Lines end with CRLF. What is signed for the way out may still hold bare CRs and LFs, which leave as CRLF; then
 * `is_mended` takes them for line ends here too, so that the signature is one of what leaves.
 */
#pragma once

#include "common/base/buf.h"

typedef void dkim_sink_fn(void *arg, struct slice piece);

struct dkim_body {
	dkim_sink_fn *sink;
	void *arg;
	bool is_relaxed;
	bool is_mended;
	uint64_t size; /* octets that went to the sink */
	/* private */
	uint64_t empty_lines; /* held back: they count only if text follows */
	bool has_blank;       /* relaxed: blanks that count only if text follows in the line */
	bool is_after_cr;
	bool is_in_line; /* the line has text that went out */
	size_t pending;
	char piece[1024];
};

void dkim_canon_body_init(struct dkim_body *b, bool is_relaxed, dkim_sink_fn *sink, void *arg);
void dkim_canon_body(struct dkim_body *b, struct slice bytes);
/* The end: an unfinished line is ended; an empty body is CRLF (simple) or nothing (relaxed). */
void dkim_canon_body_end(struct dkim_body *b);

/*
 * Gives one field, raw with its line end or without, to the sink in canonical form, with CRLF. is_last: without CRLF,
 * as the signature itself is hashed.
 */
void dkim_canon_field(struct slice raw, bool is_relaxed, bool is_last, dkim_sink_fn *sink, void *arg);
/* The same with the value of its b= tag left out (RFC 6376 section 3.7), for the signature itself. */
void dkim_canon_signature(struct slice raw, bool is_relaxed, dkim_sink_fn *sink, void *arg);

/* Sinks: into a struct buf. */
void dkim_canon_to_buf(void *buf, struct slice piece);
