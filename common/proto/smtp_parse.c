/*
 * Commands are looked up in a table, parameters of MAIL in another. Invariants: nothing that is handed out
 * holds a control character, and texts beyond ASCII are well-formed UTF-8, so that no later writer of a
 * command, header or log line can be led astray by a name.
 */
#include "common/proto/smtp_parse.h"

#include "common/base/num.h"
#include "common/proto/smtp_parse_inner.h"

static const struct {
	const char *word;
	enum smtp_verb verb;
} verbs[] = {
	{"MAIL", SMTP_MAIL},
	{"RCPT", SMTP_RCPT},
	{"DATA", SMTP_DATA},
	{"BDAT", SMTP_BDAT},
	{"RSET", SMTP_RSET},
	{"QUIT", SMTP_QUIT},
	{"EHLO", SMTP_EHLO},
	{"LHLO", SMTP_LHLO},
	{"HELO", SMTP_HELO},
	{"NOOP", SMTP_NOOP},
	{"AUTH", SMTP_AUTH},
	{"STARTTLS", SMTP_STARTTLS},
	{"XCLIENT", SMTP_XCLIENT},
	{"XMARK", SMTP_XMARK},
	{"VRFY", SMTP_VRFY},
	{"EXPN", SMTP_EXPN},
	{"HELP", SMTP_HELP},
};

static bool is_domain_octet(unsigned char c)
{
	return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       c == '-' || c == '.' || c == '_';
}

static struct slice trim_blanks(struct slice s)
{
	s = skip_blanks(s);
	while (s.len && is_blank(s.p[s.len - 1]))
		s.len--;
	return s;
}

/* A line without its end; < 0 as the header says, with its whole length in *len. */
static ssize_t take_line(struct slice in, size_t limit, struct slice *line_out, size_t *len)
{
	const char *end = in.len ? memchr(in.p, '\n', in.len < limit ? in.len : limit) : NULL;
	struct slice line;

	if (!end)
		return in.len >= limit ? ERR_TOO_BIG : 0;
	*len = (size_t)(end - in.p) + 1;
	line = slice_sub(in, 0, *len - 1);
	if (!line.len || line.p[line.len - 1] != '\r')
		return ERR_SYNTAX;
	line.len--;
	for (size_t i = 0; i < line.len; i++) {
		if (is_control((unsigned char)line.p[i]) && line.p[i] != '\t')
			return ERR_SYNTAX;
	}
	*line_out = line;
	return (ssize_t)*len;
}

ssize_t smtp_parse_line(struct slice in, size_t limit, struct slice *line_out)
{
	size_t len;

	return take_line(in, limit, line_out, &len);
}

ssize_t smtp_parse_command(
	struct slice in, size_t limit, struct smtp_command *command_out, size_t *consumed_out)
{
	struct smtp_command c = {.verb = SMTP_UNKNOWN};
	struct slice line;
	size_t len = 0;
	ssize_t n = take_line(in, limit, &line, &len);

	if (n == ERR_SYNTAX && consumed_out)
		*consumed_out = len;
	if (n <= 0)
		return n;
	next_word(&line, &c.word);
	c.rest = trim_blanks(line);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (slice_is_str_nocase(c.word, verbs[i].word)) {
			c.verb = verbs[i].verb;
			break;
		}
	}
	*command_out = c;
	return n;
}

/* ---- paths ---- */

/* A quoted local part from its opening quote on: its length; the unquoted octets go to out (room for all). */
static ssize_t read_quoted(struct slice s, char *out, size_t *len)
{
	size_t i = 1;

	for (*len = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"')
			return (ssize_t)i + 1;
		if (c == '\\') {
			if (++i == s.len)
				break;
			c = (unsigned char)s.p[i];
		}
		if (is_control(c))
			return ERR_SYNTAX;
		out[(*len)++] = (char)c;
	}
	return ERR_SYNTAX;
}

static ssize_t read_local(struct slice s, char *out, size_t *len)
{
	size_t n = 0;

	if (s.len && *s.p == '"')
		return read_quoted(s, out, len);
	while (n < s.len && (is_atext((unsigned char)s.p[n]) || s.p[n] == '.'))
		n++;
	if (!n)
		return ERR_SYNTAX;
	memcpy(out, s.p, n);
	*len = n;
	return (ssize_t)n;
}

static ssize_t read_domain(struct slice s, bool *is_literal)
{
	size_t n = 0;

	*is_literal = s.len && *s.p == '[';
	if (*is_literal) {
		for (n = 1; n < s.len && s.p[n] != ']'; n++) {
			unsigned char c = (unsigned char)s.p[n];

			if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
				    c == '.' || c == ':' || c == '-'))
				return ERR_SYNTAX;
		}
		return n < s.len && n > 1 ? (ssize_t)n + 1 : ERR_SYNTAX;
	}
	while (n < s.len && is_domain_octet((unsigned char)s.p[n]))
		n++;
	if (!n || *s.p == '.' || memmem(s.p, n, "..", 2))
		return ERR_SYNTAX;
	return (ssize_t)n;
}

/* "@a,@b:" at the start: its length, 0 when there is none. */
static ssize_t read_route(struct slice s)
{
	size_t n = 0;
	bool literal;

	if (!s.len || *s.p != '@')
		return 0;
	for (;;) {
		ssize_t domain;

		if (n >= s.len || s.p[n++] != '@')
			return ERR_SYNTAX;
		domain = read_domain(slice_from(s, n), &literal);
		if (domain < 0)
			return domain;
		n += (size_t)domain;
		if (n < s.len && s.p[n] == ':')
			return (ssize_t)n + 1;
		if (n >= s.len || s.p[n++] != ',')
			return ERR_SYNTAX;
	}
}

static bool is_dot_string(struct slice s)
{
	bool atom = false;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '.') {
			if (!atom)
				return false;
			atom = false;
		} else if (is_atext((unsigned char)s.p[i])) {
			atom = true;
		} else {
			return false;
		}
	}
	return atom;
}

void smtp_parse_write_address(struct buf *out, struct slice local, struct slice domain)
{
	if (!local.len)
		return;
	if (is_dot_string(local)) {
		buf_add_slice(out, local);
	} else {
		buf_add_char(out, '"');
		for (size_t i = 0; i < local.len; i++) {
			if (local.p[i] == '"' || local.p[i] == '\\')
				buf_add_char(out, '\\');
			buf_add_char(out, local.p[i]);
		}
		buf_add_char(out, '"');
	}
	if (domain.len) {
		buf_add_char(out, '@');
		buf_add_slice(out, domain);
	}
}

/* Copies what was found into the arena and checks sizes and encoding. */
static int finish_path(struct arena *a, struct smtp_path *path)
{
	struct buf wire = {0};
	int err = ERR_TOO_BIG;

	if (path->local.len > SMTP_LOCAL_MOST || path->domain.len > SMTP_DOMAIN_MOST)
		return ERR_TOO_BIG;
	if (!slice_is_utf8(path->local) || !slice_is_utf8(path->domain))
		return ERR_SYNTAX;
	path->is_utf8 = !slice_is_ascii(path->local) || !slice_is_ascii(path->domain);
	buf_init(&wire, SMTP_PATH_MOST);
	smtp_parse_write_address(&wire, path->local, path->domain);
	path->local = arena_copy(a, path->local);
	path->domain = arena_copy(a, path->domain);
	path->address = arena_copy(a, buf_view(&wire));
	if (!wire.failed && path->local.p && path->domain.p && path->address.p)
		err = 0;
	buf_deinit(&wire);
	return err;
}

static ssize_t read_mailbox(struct slice s, char *local, struct smtp_path *path)
{
	size_t len = 0, n;
	ssize_t got = read_route(s);

	if (got < 0)
		return got;
	n = (size_t)got;
	got = read_local(slice_from(s, n), local, &len);
	if (got < 0)
		return got;
	n += (size_t)got;
	path->local = slice_of(local, len);
	if (!len)
		return ERR_SYNTAX;
	if (n < s.len && s.p[n] == '@') {
		got = read_domain(slice_from(s, ++n), &path->is_literal);
		if (got < 0)
			return got;
		path->domain = slice_sub(s, n, (size_t)got);
		n += (size_t)got;
	} else if (!slice_is_str_nocase(path->local, "postmaster")) {
		return ERR_SYNTAX;
	}
	return (ssize_t)n;
}

ssize_t smtp_parse_path(struct arena *a, struct slice text, struct smtp_path *path_out)
{
	struct smtp_path path = {.local = SLICE_LIT(""), .domain = SLICE_LIT(""), .address = SLICE_LIT("")};
	char local[SMTP_PATH_MOST];
	ssize_t n;
	int err;

	if (!text.len || *text.p != '<')
		return ERR_SYNTAX;
	if (text.len >= 2 && text.p[1] == '>') {
		path.is_null = true;
		*path_out = path;
		return 2;
	}
	/* Longer than any legal path: cut, so that `local` has room for every octet. */
	n = read_mailbox(slice_sub(text, 1, sizeof(local)), local, &path);
	if (n < 0)
		return text.len > sizeof(local) ? ERR_TOO_BIG : n;
	n++;
	if ((size_t)n >= text.len || text.p[n] != '>')
		return text.len > sizeof(local) ? ERR_TOO_BIG : ERR_SYNTAX;
	err = finish_path(a, &path);
	if (err)
		return err;
	*path_out = path;
	return n + 1;
}

/* ---- xtext ---- */

int smtp_parse_xtext(struct arena *a, struct slice text, struct slice *value_out)
{
	char *out = arena_alloc(a, text.len + 1);
	size_t n = 0;

	if (!out)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '+') {
			int high = i + 1 < text.len ? hex_value(text.p[i + 1]) : -1;
			int low = i + 2 < text.len ? hex_value(text.p[i + 2]) : -1;

			if (high < 0 || low < 0)
				return ERR_SYNTAX;
			c = (unsigned char)(high * 16 + low);
			i += 2;
		} else if (c < 33 || c == 127 || c == '=') {
			return ERR_SYNTAX;
		}
		out[n++] = (char)c;
	}
	out[n] = 0;
	*value_out = slice_of(out, n);
	return 0;
}

void smtp_parse_write_xtext(struct buf *out, struct slice value)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.p[i];

		if (c < 33 || c > 126 || c == '+' || c == '=') {
			buf_add_char(out, '+');
			buf_add_char(out, hex[c >> 4]);
			buf_add_char(out, hex[c & 15]);
		} else {
			buf_add_char(out, (char)c);
		}
	}
}

int smtp_parse_xtext_text(struct arena *a, struct slice text, struct slice *value_out)
{
	struct slice value;
	int err = smtp_parse_xtext(a, text, &value);

	if (err)
		return err;
	if (slice_has_control(value) || !slice_is_utf8(value))
		return ERR_SYNTAX;
	*value_out = value;
	return 0;
}

int smtp_parse_bdat(struct slice rest, uint64_t *size_out, bool *is_last_out)
{
	struct slice number, last, more;
	uint64_t size;

	if (!next_word(&rest, &number) || num_parse_u64(number, &size))
		return ERR_SYNTAX;
	if (next_word(&rest, &last) && !slice_is_str_nocase(last, "LAST"))
		return ERR_SYNTAX;
	if (next_word(&rest, &more))
		return ERR_SYNTAX;
	*size_out = size;
	*is_last_out = last.len > 0;
	return 0;
}

bool smtp_parse_is_greeting(struct slice rest)
{
	if (!rest.len || rest.len > SMTP_DOMAIN_MOST || slice_has_control(rest) || !slice_is_utf8(rest))
		return false;
	for (size_t i = 0; i < rest.len; i++) {
		if (strchr(" <>()\\\";,", rest.p[i]))
			return false;
	}
	return true;
}

/* ---- XCLIENT ---- */

static int set_xclient(struct smtp_xclient *x, struct slice name, struct slice value)
{
	uint32_t port = 0;
	const struct {
		const char *name;
		struct slice *text;
		uint16_t *port;
	} rows[] = {
		{"ADDR", &x->addr, NULL},
		{"PORT", NULL, &x->port},
		{"HELO", &x->helo, NULL},
		{"LOGIN", &x->login, NULL},
		{"PROTO", &x->proto, NULL},
		{"NAME", &x->name, NULL},
		{"SESSION", &x->session, NULL},
		{"DESTADDR", &x->destaddr, NULL},
		{"DESTPORT", NULL, &x->destport},
		{"TTL", NULL, &x->ttl},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!slice_is_str_nocase(name, rows[i].name))
			continue;
		if (slice_is_str_nocase(value, "[UNAVAILABLE]") ||
			slice_is_str_nocase(value, "[TEMPUNAVAIL]"))
			return 0;
		if (rows[i].text) {
			*rows[i].text = value;
			return 0;
		}
		if (num_parse_u32(value, &port) || port > UINT16_MAX)
			return ERR_SYNTAX;
		*rows[i].port = (uint16_t)port;
		return 0;
	}
	return ERR_SYNTAX;
}

int smtp_parse_xclient(struct arena *a, struct slice rest, struct smtp_xclient *xclient_out)
{
	const struct slice none = SLICE_LIT("");
	struct smtp_xclient x = {none, 0, none, none, none, none, none, none, 0, 0};
	struct slice word, value;
	bool any = false;
	int err;

	while (next_word(&rest, &word)) {
		ptrdiff_t equals = slice_find(word, '=');

		if (equals <= 0)
			return ERR_SYNTAX;
		err = smtp_parse_xtext_text(a, slice_from(word, (size_t)equals + 1), &value);
		if (!err)
			err = set_xclient(&x, slice_sub(word, 0, (size_t)equals), value);
		if (err)
			return err;
		any = true;
	}
	if (!any)
		return ERR_SYNTAX;
	if (slice_has_prefix_nocase(x.addr, "IPV6:"))
		x.addr = slice_from(x.addr, 5);
	if (slice_has_prefix_nocase(x.destaddr, "IPV6:"))
		x.destaddr = slice_from(x.destaddr, 5);
	*xclient_out = x;
	return 0;
}
