/* Lines end with CR LF; a bare LF is taken too, as RFC 9112 section 2.2 allows. */
#include "common/proto/http1_response.h"

#include "common/base/num.h"

/* A size of a chunk with its extensions, or a trailer's line. */
#define LINE_MOST 1024
#define CHUNK_MOST (1024u * 1024 * 1024)

/* The line at the start of in without its end; 0: not whole. */
static size_t read_line(struct slice in, struct slice *line_out)
{
	ptrdiff_t end = slice_find(in, '\n');
	size_t n;

	if (end < 0)
		return 0;
	n = (size_t)end;
	*line_out = slice_sub(in, 0, n && in.p[n - 1] == '\r' ? n - 1 : n);
	return n + 1;
}

/* "HTTP/1.1 200 OK" */
static int read_status(struct slice line, unsigned *status_out)
{
	uint32_t n;

	if (!slice_has_prefix(line, "HTTP/1.") || line.len < 12 || line.p[8] != ' ' ||
		num_parse_u32(slice_sub(line, 9, 3), &n) || n < 100 || n > 599 ||
		(line.len > 12 && line.p[12] != ' '))
		return ERR_SYNTAX;
	*status_out = n;
	return 0;
}

static int read_field(struct slice line, struct http1_response *r)
{
	ptrdiff_t colon = slice_find(line, ':');
	struct slice name, value;

	if (colon <= 0 || line.p[0] == ' ' || line.p[0] == '\t')
		return ERR_SYNTAX; /* folded, or no field */
	name = slice_sub(line, 0, (size_t)colon);
	value = slice_trim(slice_from(line, (size_t)colon + 1));
	if (slice_is_str_nocase(name, "content-length")) {
		if (r->has_length || num_parse_u64(value, &r->length))
			return ERR_SYNTAX;
		r->has_length = true;
	} else if (slice_is_str_nocase(name, "transfer-encoding")) {
		if (!slice_is_str_nocase(value, "chunked") || r->is_chunked)
			return ERR_UNSUPPORTED;
		r->is_chunked = true;
	} else if (slice_is_str_nocase(name, "content-encoding")) {
		if (!slice_is_str_nocase(value, "identity"))
			return ERR_UNSUPPORTED;
	} else if (slice_is_str_nocase(name, "content-type")) {
		r->content_type = value;
	}
	return 0;
}

ssize_t http1_response_parse(struct slice in, struct http1_response *response_out)
{
	struct http1_response r = {0};
	struct slice line;
	size_t at = read_line(in, &line), n;
	int err = at ? read_status(line, &r.status) : 0;

	while (at && !err) {
		n = read_line(slice_from(in, at), &line);
		at += n;
		if (!n || at > HTTP1_RESPONSE_HEAD_MOST)
			break;
		if (line.len == 0) {
			if (r.is_chunked && r.has_length)
				return ERR_SYNTAX; /* section 6.3: somebody is being fooled */
			*response_out = r;
			return (ssize_t)at;
		}
		err = read_field(line, &r);
	}
	if (err)
		return err;
	return in.len > HTTP1_RESPONSE_HEAD_MOST ? ERR_TOO_BIG : 0;
}

bool http1_response_is_type(const struct http1_response *response, const char *type)
{
	struct slice value = response->content_type;
	ptrdiff_t end = slice_find(value, ';');

	return slice_is_str_nocase(slice_trim(slice_sub(value, 0, end < 0 ? value.len : (size_t)end)), type);
}

static int read_size(struct slice line, uint64_t *size_out)
{
	uint64_t size = 0;
	size_t digits = 0;

	for (; digits < line.len; digits++) {
		char c = ascii_lower(line.p[digits]);

		if (c >= '0' && c <= '9')
			size = size * 16 + (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			size = size * 16 + (uint64_t)(c - 'a' + 10);
		else
			break;
		if (size > CHUNK_MOST)
			return ERR_SYNTAX;
	}
	if (!digits || (digits < line.len && line.p[digits] != ';' && line.p[digits] != ' ' &&
			       line.p[digits] != '\t'))
		return ERR_SYNTAX;
	*size_out = size;
	return 0;
}

/* States: a size's line; data; data's end (left 0 while in data); trailers are lines behind the size 0, which is left UINT64_MAX. */
ssize_t http1_response_chunk(struct http1_chunks *c, struct slice in, struct buf *out)
{
	struct slice line;
	size_t n;

	if (c->is_over || !in.len)
		return 0;
	if (c->is_in_data && c->left) {
		n = in.len < c->left ? in.len : (size_t)c->left;
		buf_add(out, in.p, n);
		c->left -= n;
		return (ssize_t)n;
	}
	n = read_line(in, &line);
	if (!n)
		return in.len > LINE_MOST ? ERR_SYNTAX : 0;
	if (c->is_in_data) {
		if (line.len)
			return ERR_SYNTAX;
		c->is_in_data = false;
	} else if (c->left == UINT64_MAX) {
		c->is_over = line.len == 0;
	} else {
		if (read_size(line, &c->left))
			return ERR_SYNTAX;
		c->is_in_data = c->left > 0;
		if (!c->left)
			c->left = UINT64_MAX;
	}
	return (ssize_t)n;
}
