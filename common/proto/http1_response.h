/*
 * Responses of HTTP/1.1 (RFC 9112) as a small client reads them: the head, and a body in chunks. The server is hostile: everything is
 * capped. Views into the input; the state is the caller's. Pure; any thread.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define HTTP1_RESPONSE_HEAD_MOST (16 * 1024)

struct http1_response {
	unsigned status; /* 100 to 599 */
	bool has_length; /* Content-Length */
	uint64_t length;
	bool is_chunked;
	struct slice content_type; /* "" none */
};

/* > 0: octets of the head with its empty line; 0: more; ERR_SYNTAX; ERR_TOO_BIG; ERR_UNSUPPORTED: another coding than chunked. */
MUST_CHECK ssize_t http1_response_parse(struct slice in, struct http1_response *response_out);
/* "text/plain; charset=utf-8" is of type "text/plain". */
bool http1_response_is_type(const struct http1_response *response, const char *type);

/* A body in chunks (section 7.1). Zeroed: at its beginning. */
struct http1_chunks {
	bool is_over;
	bool is_in_data;
	uint64_t left;
};
/* Takes whole lines and pieces of chunks, appends what they hold; > 0: consumed; 0: more; ERR_SYNTAX. Trailers are passed over. */
MUST_CHECK ssize_t http1_response_chunk(struct http1_chunks *c, struct slice in, struct buf *out);
