/*
 * One pass over complete lines: until the empty line is there nothing is taken, and how much may be waited
 * for is capped.
 */
#include "common/proto/http1.h"

#include "common/base/num.h"

/* RFC 9110 §5.6.2 */
static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = ascii_lower(s.p[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
			(c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return s.len > 0;
}

/* The line at *at without its CR LF; *at moves behind it. 1: there is one, 0: not whole yet, or an error. */
static int next_line(struct slice in, size_t *at, size_t most, struct slice *line_out)
{
	struct slice rest = slice_from(in, *at);
	ptrdiff_t end = slice_find(rest, '\n');

	if (end < 0)
		return rest.len > most ? ERR_TOO_BIG : 0;
	if ((size_t)end > most)
		return ERR_TOO_BIG;
	if (end == 0 || rest.p[end - 1] != '\r')
		return ERR_SYNTAX;
	*line_out = slice_sub(rest, 0, (size_t)end - 1);
	*at += (size_t)end + 1;
	return 1;
}

/* method SP target SP "HTTP/1." digit */
static int parse_request_line(struct slice line, struct http1_request *r)
{
	ptrdiff_t first = slice_find(line, ' '), last = slice_find_last(line, ' '), mark;
	struct slice target, version;

	if (first < 0 || last <= first)
		return ERR_SYNTAX;
	r->method = slice_sub(line, 0, (size_t)first);
	target = slice_sub(line, (size_t)first + 1, (size_t)(last - first) - 1);
	version = slice_from(line, (size_t)last + 1);
	if (!is_token(r->method) || target.len == 0 || target.p[0] != '/')
		return ERR_SYNTAX;
	for (size_t i = 0; i < target.len; i++)
		if ((unsigned char)target.p[i] <= ' ' || (unsigned char)target.p[i] >= 127)
			return ERR_SYNTAX;
	if (slice_is_str(version, "HTTP/1.1"))
		r->keep_alive = true;
	else if (!slice_is_str(version, "HTTP/1.0"))
		return ERR_SYNTAX;
	mark = slice_find(target, '?');
	r->path = mark < 0 ? target : slice_sub(target, 0, (size_t)mark);
	r->query = mark < 0 ? slice_of(NULL, 0) : slice_from(target, (size_t)mark + 1);
	return 0;
}

struct seen {
	bool host, length, coding;
};

/* Does a list such as "close, te" hold this word. */
static bool has_item(struct slice list, const char *word)
{
	while (list.len) {
		ptrdiff_t comma = slice_find(list, ',');
		struct slice item = comma < 0 ? list : slice_sub(list, 0, (size_t)comma);

		if (slice_is_str_nocase(slice_trim(item), word))
			return true;
		list = comma < 0 ? slice_of(NULL, 0) : slice_from(list, (size_t)comma + 1);
	}
	return false;
}

static int parse_field(struct slice line, struct http1_request *r, struct seen *seen)
{
	ptrdiff_t colon = slice_find(line, ':');
	struct slice name, value;
	uint64_t length;

	if (colon <= 0)
		return ERR_SYNTAX;
	name = slice_sub(line, 0, (size_t)colon);
	value = slice_trim(slice_from(line, (size_t)colon + 1));
	if (!is_token(name))
		return ERR_SYNTAX;
	for (size_t i = 0; i < value.len; i++)
		if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 127)
			return ERR_SYNTAX;
	if (slice_is_str_nocase(name, "host")) {
		if (seen->host)
			return ERR_SYNTAX;
		seen->host = true;
		r->host = value;
	} else if (slice_is_str_nocase(name, "content-length")) {
		if (seen->length || seen->coding || num_parse_u64(value, &length))
			return ERR_SYNTAX;
		seen->length = true;
		r->has_body = length > 0;
	} else if (slice_is_str_nocase(name, "transfer-encoding")) {
		if (seen->length || seen->coding)
			return ERR_SYNTAX;
		seen->coding = true;
		r->has_body = true;
	} else if (slice_is_str_nocase(name, "connection")) {
		r->keep_alive = r->keep_alive && !has_item(value, "close");
	}
	return 0;
}

ssize_t http1_parse_request(struct slice in, struct http1_request *request_out)
{
	struct http1_request r = {0};
	struct seen seen = {0};
	bool is_11;
	struct slice line;
	unsigned fields = 0;
	size_t at = 0;
	int got = next_line(in, &at, HTTP1_LINE_MOST, &line), error;

	if (got <= 0)
		return got;
	if ((error = parse_request_line(line, &r)))
		return error;
	is_11 = r.keep_alive;
	for (;;) {
		got = next_line(in, &at, HTTP1_HEAD_MOST, &line);
		if (got < 0)
			return got;
		if (at > HTTP1_HEAD_MOST || (got == 0 && in.len > HTTP1_HEAD_MOST))
			return ERR_TOO_BIG;
		if (got == 0)
			return 0;
		if (line.len == 0)
			break;
		if (++fields > HTTP1_FIELDS_MOST)
			return ERR_TOO_BIG;
		if ((error = parse_field(line, &r, &seen)))
			return error;
	}
	if (is_11 && !seen.host)
		return ERR_SYNTAX;
	*request_out = r;
	return (ssize_t)at;
}

const char *http1_reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *reason;
	} reasons[] = {
		{200, "OK"},
		{400, "Bad Request"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{413, "Content Too Large"},
		{431, "Request Header Fields Too Large"},
		{503, "Service Unavailable"},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

void http1_write_head(
	struct buf *out, unsigned status, const char *content_type, size_t length, bool keep_alive)
{
	buf_printf(out,
		"HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
		"X-Content-Type-Options: nosniff\r\nConnection: %s\r\n\r\n",
		status, http1_reason(status), content_type, length, keep_alive ? "keep-alive" : "close");
}
