/*
 * Commands are looked up in a table, parameters of MAIL in another. Invariants: nothing that is handed out
 * holds a control character, and texts beyond ASCII are well-formed UTF-8, so that no later writer of a
 * command, header or log line can be led astray by a name.
 */
#include "common/proto/smtp_parse.h"

#include "common/base/num.h"

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

static bool is_atext(unsigned char c)
{
	if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
		return true;
	return c && strchr("!#$%&'*+-/=?^_`{|}~", c);
}

static bool is_domain_octet(unsigned char c)
{
	return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       c == '-' || c == '.' || c == '_';
}

static bool is_control(unsigned char c)
{
	return c < 32 || c == 127;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice skip_blanks(struct slice s)
{
	while (s.len && is_blank(*s.p))
		s = slice_from(s, 1);
	return s;
}

static struct slice trim_blanks(struct slice s)
{
	s = skip_blanks(s);
	while (s.len && is_blank(s.p[s.len - 1]))
		s.len--;
	return s;
}

/* Takes the next word (up to a blank) off *rest. False at the end. */
static bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t n = 0;

	*rest = skip_blanks(*rest);
	while (n < rest->len && !is_blank(rest->p[n]))
		n++;
	*word_out = slice_sub(*rest, 0, n);
	*rest = slice_from(*rest, n);
	return n > 0;
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

static bool has_high_octet(struct slice s)
{
	return !slice_is_ascii(s);
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
	path->is_utf8 = has_high_octet(path->local) || has_high_octet(path->domain);
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

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

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

/* Decoded text that may go into headers and logs. */
static int read_xtext_text(struct arena *a, struct slice text, struct slice *value_out)
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

/* ---- MAIL and RCPT ---- */

static int set_size(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	/* RFC 1870 section 3: up to 20 digits. What no number holds is too big for any limit. */
	if (num_parse_u64(value, &mail->size) == ERR_TOO_BIG)
		mail->size = UINT64_MAX;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return ERR_SYNTAX;
	}
	return value.len && value.len <= 20 ? 0 : ERR_SYNTAX;
}

static int set_body(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	if (slice_is_str_nocase(value, "7BIT"))
		mail->body = SMTP_BODY_7BIT;
	else if (slice_is_str_nocase(value, "8BITMIME"))
		mail->body = SMTP_BODY_8BITMIME;
	else
		return ERR_UNSUPPORTED;
	return 0;
}

static int set_utf8(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	mail->is_utf8 = true;
	return value.p ? ERR_SYNTAX : 0;
}

static int set_auth(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	if (slice_is_str(value, "<>"))
		return 0;
	return value.len ? read_xtext_text(a, value, &mail->auth) : ERR_SYNTAX;
}

static int parse_mark(struct slice value, struct smtp_mark *mark)
{
	ptrdiff_t colon = slice_find(value, ':');
	struct slice digest = colon < 0 ? slice_of("", 0) : slice_from(value, (size_t)colon + 1);

	if (num_parse_u64(colon < 0 ? value : slice_sub(value, 0, (size_t)colon), &mark->prefix))
		return ERR_SYNTAX;
	if (colon >= 0) {
		if (digest.len != 2 * SMTP_DIGEST_LEN)
			return ERR_SYNTAX;
		for (size_t i = 0; i < SMTP_DIGEST_LEN; i++) {
			int high = hex_value(digest.p[2 * i]), low = hex_value(digest.p[2 * i + 1]);

			if (high < 0 || low < 0)
				return ERR_SYNTAX;
			mark->digest[i] = (uint8_t)(high * 16 + low);
		}
		mark->has_digest = true;
	}
	mark->is_set = true;
	return 0;
}

static int set_mark(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	return parse_mark(value, &mail->mark);
}

/*
 * xtext as RFC 3461 section 4 has it, to the letter: "!" to "~" without "+" and "=", and "+" with two upper case digits. What it
 * stands for is printable: an ORCPT with a newline in it became a line of a spool file elsewhere (CVE-2020-28026).
 */
static int check_xtext(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '+') {
			int high = i + 1 < text.len ? hex_value(text.p[i + 1]) : -1;
			int low = i + 2 < text.len ? hex_value(text.p[i + 2]) : -1;

			if (high < 0 || low < 0 || high > 7 || text.p[i + 1] >= 'a' || text.p[i + 2] >= 'a' ||
				is_control((unsigned char)(high * 16 + low)))
				return ERR_SYNTAX;
			i += 2;
		} else if (c < 33 || c > 126 || c == '=') {
			return ERR_SYNTAX;
		}
	}
	return 0;
}

static int set_ret(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	if (slice_is_str_nocase(value, "FULL"))
		mail->ret = SMTP_RET_FULL;
	else if (slice_is_str_nocase(value, "HDRS"))
		mail->ret = SMTP_RET_HDRS;
	else
		return ERR_SYNTAX;
	return 0;
}

static int set_envid(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	if (!value.len || value.len > SMTP_ENVID_MOST || check_xtext(value))
		return ERR_SYNTAX;
	mail->envid = arena_copy(a, value);
	return mail->envid.p ? 0 : ERR_TOO_BIG;
}

static int set_requiretls(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	mail->requires_tls = true;
	return value.p ? ERR_SYNTAX : 0;
}

/* A row is of MAIL (set) or of RCPT (set_rcpt). */
struct parameter {
	const char *name;
	enum smtp_parameter bit;
	int (*set)(struct arena *a, struct slice value, struct smtp_mail *mail); /* value.p NULL: no "=" */
	int (*set_rcpt)(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt);
};

static const struct parameter mail_parameters[] = {
	{"SIZE", SMTP_PARAMETER_SIZE, set_size, NULL},
	{"BODY", SMTP_PARAMETER_BODY, set_body, NULL},
	{"SMTPUTF8", SMTP_PARAMETER_SMTPUTF8, set_utf8, NULL},
	{"AUTH", SMTP_PARAMETER_AUTH, set_auth, NULL},
	{"XMARK", SMTP_PARAMETER_XMARK, set_mark, NULL},
	{"RET", SMTP_PARAMETER_DSN, set_ret, NULL},
	{"ENVID", SMTP_PARAMETER_DSN, set_envid, NULL},
	{"REQUIRETLS", SMTP_PARAMETER_REQUIRETLS, set_requiretls, NULL},
	{NULL, 0, NULL, NULL},
};

/* "NAME" or "NAME=value". The row, if it is legal and was not seen; < 0 otherwise. */
static int find_parameter(const struct parameter *table, struct slice word, unsigned legal, unsigned *seen,
	const struct parameter **row_out, struct slice *value_out)
{
	ptrdiff_t equals = slice_find(word, '=');
	struct slice name = equals < 0 ? word : slice_sub(word, 0, (size_t)equals);

	for (unsigned i = 0; table[i].name; i++) {
		if (!slice_is_str_nocase(name, table[i].name))
			continue;
		if (!(legal & table[i].bit))
			return ERR_UNSUPPORTED;
		if (*seen & 1u << i)
			return ERR_SYNTAX;
		*seen |= 1u << i;
		*row_out = &table[i];
		*value_out = equals < 0 ? (struct slice){NULL, 0} : slice_from(word, (size_t)equals + 1);
		return 0;
	}
	return ERR_UNSUPPORTED;
}

static const struct {
	const char *word;
	enum smtp_notify bit;
} notifies[] = {
	{"NEVER", SMTP_NOTIFY_NEVER},
	{"SUCCESS", SMTP_NOTIFY_SUCCESS},
	{"FAILURE", SMTP_NOTIFY_FAILURE},
	{"DELAY", SMTP_NOTIFY_DELAY},
};

static unsigned notify_bit(struct slice word)
{
	for (size_t i = 0; i < ARRAY_LEN(notifies); i++) {
		if (slice_is_str_nocase(word, notifies[i].word))
			return notifies[i].bit;
	}
	return 0;
}

static int set_notify(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	(void)a;
	(void)is_utf8;
	for (;;) {
		ptrdiff_t comma = slice_find(value, ',');
		unsigned bit = notify_bit(comma < 0 ? value : slice_sub(value, 0, (size_t)comma));

		if (!bit || rcpt->notify & bit)
			return ERR_SYNTAX;
		rcpt->notify |= bit;
		if (comma < 0)
			break;
		value = slice_from(value, (size_t)comma + 1);
	}
	return rcpt->notify & SMTP_NOTIFY_NEVER && rcpt->notify != SMTP_NOTIFY_NEVER ? ERR_SYNTAX : 0;
}

int smtp_parse_orcpt(
	struct arena *a, struct slice orcpt, bool is_utf8, struct slice *type_out, struct slice *address_out)
{
	ptrdiff_t semicolon = slice_find(orcpt, ';');
	struct slice type = slice_sub(orcpt, 0, semicolon < 0 ? 0 : (size_t)semicolon), text;
	bool has_high = has_high_octet(orcpt);

	if (!type.len || orcpt.len > SMTP_ORCPT_MOST || (size_t)semicolon + 1 == orcpt.len)
		return ERR_SYNTAX;
	for (size_t i = 0; i < type.len; i++) {
		if (!is_atext((unsigned char)type.p[i]) || (unsigned char)type.p[i] >= 0x80 ||
			strchr("+=", type.p[i]))
			return ERR_SYNTAX;
	}
	text = slice_from(orcpt, (size_t)semicolon + 1);
	/* RFC 6533 section 3: only an address of type utf-8 may be written so. */
	if (has_high && (!is_utf8 || !slice_is_str_nocase(type, "utf-8")))
		return ERR_SYNTAX;
	if (!has_high && check_xtext(text))
		return ERR_SYNTAX;
	*type_out = type;
	return read_xtext_text(a, text, address_out);
}

static int set_orcpt(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	struct slice type, address;
	int err = smtp_parse_orcpt(a, value, is_utf8, &type, &address);

	if (err)
		return err;
	rcpt->orcpt = arena_copy(a, value);
	return rcpt->orcpt.p ? 0 : ERR_TOO_BIG;
}

/* A network as we write it: nothing else may stand there. */
static int set_grey(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	(void)is_utf8;
	for (size_t i = 0; i < value.len; i++) {
		char c = ascii_lower(value.p[i]);

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && c != '.' && c != ':' && c != '/')
			return ERR_SYNTAX;
	}
	if (!value.len || value.len > SMTP_GREY_MOST)
		return ERR_SYNTAX;
	rcpt->grey = arena_copy(a, value);
	return rcpt->grey.p ? 0 : ERR_TOO_BIG;
}

static const struct parameter rcpt_parameters[] = {
	{"NOTIFY", SMTP_PARAMETER_DSN, NULL, set_notify},
	{"ORCPT", SMTP_PARAMETER_DSN, NULL, set_orcpt},
	{"XGREY", SMTP_PARAMETER_XGREY, NULL, set_grey},
	{NULL, 0, NULL, NULL},
};

void smtp_parse_write_mail_dsn(struct buf *out, const struct smtp_mail *mail)
{
	if (mail->ret != SMTP_RET_NONE)
		buf_add_str(out, mail->ret == SMTP_RET_FULL ? " RET=FULL" : " RET=HDRS");
	if (mail->envid.len)
		buf_printf(out, " ENVID=%.*s", SLICE_ARG(mail->envid));
}

void smtp_parse_write_notify(struct buf *out, unsigned notify)
{
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_LEN(notifies); i++) {
		if (!(notify & notifies[i].bit))
			continue;
		buf_printf(out, "%s%s", comma, notifies[i].word);
		comma = ",";
	}
}

void smtp_parse_write_rcpt_dsn(struct buf *out, unsigned notify, struct slice orcpt)
{
	if (notify) {
		buf_add_str(out, " NOTIFY=");
		smtp_parse_write_notify(out, notify);
	}
	if (orcpt.len)
		buf_printf(out, " ORCPT=%.*s", SLICE_ARG(orcpt));
}

/* "FROM:" and blanks off the start. */
static int skip_word(struct slice *rest, const char *word)
{
	if (!slice_has_prefix_nocase(*rest, word))
		return ERR_SYNTAX;
	*rest = skip_blanks(slice_from(*rest, strlen(word)));
	return 0;
}

int smtp_parse_mail(struct arena *a, struct slice rest, unsigned legal, struct smtp_mail *mail_out)
{
	struct smtp_mail mail = {.auth = SLICE_LIT(""), .envid = SLICE_LIT("")};
	const struct parameter *row;
	struct slice word, value;
	unsigned seen = 0;
	ssize_t n;

	if (skip_word(&rest, "FROM:"))
		return ERR_SYNTAX;
	n = smtp_parse_path(a, rest, &mail.path);
	if (n < 0)
		return (int)n;
	rest = slice_from(rest, (size_t)n);
	if (rest.len && !is_blank(*rest.p))
		return ERR_SYNTAX;
	while (next_word(&rest, &word)) {
		int err = find_parameter(mail_parameters, word, legal, &seen, &row, &value);

		if (!err)
			err = row->set(a, value, &mail);
		if (err)
			return err;
	}
	*mail_out = mail;
	return 0;
}

int smtp_parse_rcpt(struct arena *a, struct slice rest, unsigned legal, struct smtp_rcpt *rcpt_out)
{
	struct smtp_rcpt rcpt = {.orcpt = SLICE_LIT("")};
	const struct parameter *row;
	struct slice word, value;
	unsigned seen = 0;
	ssize_t n;

	if (skip_word(&rest, "TO:"))
		return ERR_SYNTAX;
	n = smtp_parse_path(a, rest, &rcpt.path);
	if (n < 0)
		return (int)n;
	rest = slice_from(rest, (size_t)n);
	if (rcpt.path.is_null || (rest.len && !is_blank(*rest.p)))
		return ERR_SYNTAX;
	while (next_word(&rest, &word)) {
		int err = find_parameter(rcpt_parameters, word, legal, &seen, &row, &value);

		if (!err)
			err = row->set_rcpt(a, value, legal & SMTP_PARAMETER_SMTPUTF8, &rcpt);
		if (err)
			return err;
	}
	*rcpt_out = rcpt;
	return 0;
}

int smtp_parse_xmark(struct arena *a, struct slice rest, struct smtp_mark *mark_out, struct slice *hold_out)
{
	struct smtp_mark mark = {0};
	struct slice word, hold = {NULL, 0};
	int err = next_word(&rest, &word) ? parse_mark(word, &mark) : ERR_SYNTAX;

	if (!err && next_word(&rest, &word)) {
		if (!slice_has_prefix_nocase(word, "HOLD="))
			return ERR_SYNTAX;
		err = read_xtext_text(a, slice_from(word, 5), &hold);
	}
	if (!err && next_word(&rest, &word))
		err = ERR_SYNTAX;
	if (err)
		return err;
	*mark_out = mark;
	*hold_out = hold;
	return 0;
}

void smtp_parse_write_xmark(struct buf *out, const struct smtp_mark *mark, struct slice hold)
{
	buf_printf(out, "XMARK %llu", (unsigned long long)mark->prefix);
	for (size_t i = 0; mark->has_digest && i < SMTP_DIGEST_LEN; i++)
		buf_printf(out, i ? "%02x" : ":%02x", mark->digest[i]);
	if (hold.p) {
		buf_add_str(out, " HOLD=");
		smtp_parse_write_xtext(out, hold);
	}
	buf_add_str(out, "\r\n");
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
		err = read_xtext_text(a, slice_from(word, (size_t)equals + 1), &value);
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
