/*
 * The head of an HTTP/1.1 request (RFC 9112) as a small server needs it, and the head of its response.
 * Everything is capped; a body is only noticed, never read. Views point into the input. No memory of its own,
 * no failure but in the input.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/error.h"

/* Octets of a whole head, of its request line, and the number of fields. */
#define HTTP1_HEAD_MOST 8192
#define HTTP1_LINE_MOST 2048
#define HTTP1_FIELDS_MOST 64

struct http1_request {
	struct slice method;
	struct slice path;  /* up to "?", begins with "/" */
	struct slice query; /* after "?", may be empty */
	struct slice host;
	bool keep_alive;
	bool has_body; /* Content-Length other than 0, or Transfer-Encoding */
};

/*
 * Octets of the head, 0 when more are needed, ERR_TOO_BIG beyond a cap, ERR_SYNTAX for everything else: lines
 * that do not end in CR LF, folded fields (RFC 9112 §5.2), blanks before a colon (§5.1), no or two Hosts
 * (§3.2), both of Content-Length and Transfer-Encoding (§6.1), targets that are not in origin form (§3.2.1).
 */
ssize_t http1_parse_request(struct slice in, struct http1_request *request_out);
/* Status line and fields of a response with a body of that length, up to and with the empty line. */
void http1_write_head(
	struct buf *out, unsigned status, const char *content_type, size_t length, bool keep_alive);
/* "OK" for 200 and so on; "Unknown" for others. */
const char *http1_reason(unsigned status);
