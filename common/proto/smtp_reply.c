/*
 * A reply is read only when its last line is there: the caller's buffer holds it until then, so no state is
 * kept.
 */
#include "common/proto/smtp_reply.h"

#include "common/base/num.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Length of "c.ccc.ccc" at the start of text, 0 if there is none (RFC 3463 section 2). */
static size_t enhanced_len(struct slice text, unsigned code)
{
	size_t n = 1, digits;

	if (text.len < 5 || (text.p[0] != '2' && text.p[0] != '4' && text.p[0] != '5') ||
		(unsigned)(text.p[0] - '0') != code / 100)
		return 0;
	for (int part = 0; part < 2; part++) {
		if (n >= text.len || text.p[n++] != '.')
			return 0;
		for (digits = 0; n < text.len && is_digit(text.p[n]) && digits < 3; digits++)
			n++;
		if (!digits)
			return 0;
	}
	return n == text.len || text.p[n] == ' ' ? n : 0;
}

bool smtp_reply_is_enhanced(struct slice text, unsigned code)
{
	return text.len && enhanced_len(text, code) == text.len;
}

/* One line without its end: code and what follows the fourth octet. */
static int read_line(struct slice line, unsigned *code, bool *is_last, struct slice *text)
{
	if (line.len < 3 || !is_digit(line.p[0]) || !is_digit(line.p[1]) || !is_digit(line.p[2]))
		return ERR_SYNTAX;
	*code = (unsigned)((line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0'));
	if (*code < 200 || *code > 599)
		return ERR_SYNTAX;
	if (line.len > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return ERR_SYNTAX;
	*is_last = line.len == 3 || line.p[3] == ' ';
	*text = slice_from(line, 4);
	return 0;
}

ssize_t smtp_reply_parse(struct slice in, struct smtp_reply *reply_out)
{
	struct smtp_reply reply = {0};
	size_t at = 0;
	bool is_last = false;

	while (!is_last) {
		struct slice rest = slice_from(in, at), line, text;
		const char *end = rest.len ? memchr(rest.p, '\n', rest.len) : NULL;
		unsigned code;
		size_t n;

		if (!end)
			return in.len >= SMTP_REPLY_MOST ? ERR_TOO_BIG : 0;
		n = (size_t)(end - rest.p);
		line = slice_sub(rest, 0, n && rest.p[n - 1] == '\r' ? n - 1 : n);
		at += n + 1;
		if (at > SMTP_REPLY_MOST)
			return ERR_TOO_BIG;
		if (read_line(line, &code, &is_last, &text) || (reply.code && code != reply.code))
			return ERR_SYNTAX;
		reply.code = code;
		n = enhanced_len(text, code);
		reply.enhanced = slice_sub(text, 0, n);
		reply.text = slice_from(text, n && n < text.len ? n + 1 : n);
	}
	reply.lines = slice_sub(in, 0, at);
	*reply_out = reply;
	return (ssize_t)at;
}

static bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t n = 0;

	while (rest->len && (*rest->p == ' ' || *rest->p == '\t' || *rest->p == '='))
		*rest = slice_from(*rest, 1);
	while (n < rest->len && rest->p[n] != ' ' && rest->p[n] != '\t' && rest->p[n] != '=')
		n++;
	*word_out = slice_sub(*rest, 0, n);
	*rest = slice_from(*rest, n);
	return n > 0;
}

static void read_auth(struct slice rest, struct smtp_words *w)
{
	struct slice word;

	while (next_word(&rest, &word)) {
		if (slice_is_str_nocase(word, "PLAIN"))
			w->auth |= SMTP_REPLY_AUTH_PLAIN;
		else if (slice_is_str_nocase(word, "LOGIN"))
			w->auth |= SMTP_REPLY_AUTH_LOGIN;
		else if (slice_is_str_nocase(word, "SCRAM-SHA-256"))
			w->auth |= SMTP_REPLY_AUTH_SCRAM_SHA_256;
	}
}

static void read_xclient(struct slice rest, struct smtp_words *w)
{
	static const struct {
		const char *name;
		enum smtp_reply_xclient bit;
	} rows[] = {{"ADDR", SMTP_XCLIENT_ADDR}, {"PORT", SMTP_XCLIENT_PORT}, {"HELO", SMTP_XCLIENT_HELO},
		{"LOGIN", SMTP_XCLIENT_LOGIN}, {"PROTO", SMTP_XCLIENT_PROTO},
		{"SESSION", SMTP_XCLIENT_SESSION}, {"TTL", SMTP_XCLIENT_TTL}};
	struct slice word;

	while (next_word(&rest, &word)) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			if (slice_is_str_nocase(word, rows[i].name))
				w->xclient |= rows[i].bit;
		}
	}
}

/* RFC 9422: "LIMITS RCPTMAX=20 MAILMAX=5". A limit of 0, or one that is no number, says nothing. */
static void read_limits(struct slice rest, struct smtp_words *w)
{
	struct slice word, value;
	uint32_t n;

	while (next_word(&rest, &word)) {
		bool has_value = rest.len && *rest.p == '=';

		if (!has_value || !next_word(&rest, &value) || num_parse_u32(value, &n) || !n)
			continue;
		if (slice_is_str_nocase(word, "RCPTMAX"))
			w->rcpt_most = n;
		else if (slice_is_str_nocase(word, "MAILMAX"))
			w->mail_most = n;
	}
}

static void read_words(struct slice line, struct smtp_words *w)
{
	struct slice name, value;
	struct {
		const char *name;
		bool *flag;
	} flags[] = {{"PIPELINING", &w->pipelining}, {"8BITMIME", &w->eightbitmime}, {"DSN", &w->dsn},
		{"REQUIRETLS", &w->requiretls}, {"SMTPUTF8", &w->smtputf8},
		{"ENHANCEDSTATUSCODES", &w->enhanced}, {"CHUNKING", &w->chunking}, {"STARTTLS", &w->starttls},
		{"XMARK", &w->xmark}, {"SIZE", &w->size}};

	if (!next_word(&line, &name))
		return;
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		if (slice_is_str_nocase(name, flags[i].name))
			*flags[i].flag = true;
	}
	if (slice_is_str_nocase(name, "SIZE") && next_word(&line, &value)) {
		if (num_parse_u64(value, &w->size_most))
			w->size_most = 0;
	} else if (slice_is_str_nocase(name, "AUTH")) {
		read_auth(line, w);
	} else if (slice_is_str_nocase(name, "LIMITS")) {
		read_limits(line, w);
	} else if (slice_is_str_nocase(name, "XCLIENT")) {
		read_xclient(line, w);
	}
}

void smtp_reply_words(struct slice lines, struct smtp_words *words_out)
{
	bool is_first = true;

	*words_out = (struct smtp_words){0};
	while (lines.len) {
		ptrdiff_t end = slice_find(lines, '\n');
		struct slice line = slice_sub(lines, 0, end < 0 ? lines.len : (size_t)end);

		lines = slice_from(lines, end < 0 ? lines.len : (size_t)end + 1);
		/* The first line is the host's name. */
		if (!is_first)
			read_words(slice_trim(slice_from(line, 4)), words_out);
		is_first = false;
	}
}

/* Length of the well-formed UTF-8 character at the start of s, 0 if there is none. */
static size_t character_len(struct slice s)
{
	for (size_t n = 1; n <= 4 && n <= s.len; n++)
		if (slice_is_utf8(slice_sub(s, 0, n)))
			return n;
	return 0;
}

/* Appends cleaned text; false when it did not fit. */
static bool add_clean(struct slice text, char *out, size_t size, size_t *at)
{
	while (text.len) {
		size_t n = character_len(text);
		unsigned char c = (unsigned char)*text.p;
		bool is_good = n > 1 || (n == 1 && c >= 32 && c != 127);

		if (!n)
			n = 1;
		if (*at + n >= size)
			return false;
		if (is_good)
			memcpy(out + *at, text.p, n);
		else
			out[*at] = '?';
		*at += n;
		text = slice_from(text, n);
	}
	return true;
}

void smtp_reply_text(struct slice lines, char *out, size_t size)
{
	size_t at = 0;
	bool fits = true;

	while (lines.len && fits) {
		ptrdiff_t end = slice_find(lines, '\n');
		struct slice line = slice_trim(slice_sub(lines, 0, end < 0 ? lines.len : (size_t)end));
		unsigned digit = line.len && is_digit(*line.p) ? (unsigned)(*line.p - '0') : 0;
		struct slice text = slice_trim(slice_from(line, 4));

		lines = slice_from(lines, end < 0 ? lines.len : (size_t)end + 1);
		text = slice_trim(slice_from(text, enhanced_len(text, digit * 100)));
		if (text.len && at)
			fits = add_clean(SLICE_LIT(" "), out, size, &at);
		fits = fits && add_clean(text, out, size, &at);
	}
	out[at] = '\0';
}

static void write_line(struct buf *out, unsigned code, char mark, struct slice enhanced, struct slice text)
{
	size_t len = text.len < SMTP_REPLY_TEXT_MOST ? text.len : SMTP_REPLY_TEXT_MOST;
	char head[5] = {(char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10),
		mark, 0};
	char *p;

	if (len < text.len) {
		while (len && ((unsigned char)text.p[len] & 0xc0) == 0x80)
			len--;
	}
	buf_add(out, head, 4);
	if (enhanced.len) {
		buf_add_slice(out, enhanced);
		buf_add_char(out, ' ');
	}
	p = buf_reserve(out, len + 2);
	if (!p)
		return;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		p[i] = c < 32 || c == 127 ? '?' : (char)c;
	}
	p[len] = '\r';
	p[len + 1] = '\n';
	buf_added(out, len + 2);
}

void smtp_reply_write(struct buf *out, unsigned code, struct slice enhanced, struct slice text)
{
	write_line(out, code, ' ', enhanced, text);
}

void smtp_reply_write_more(struct buf *out, unsigned code, struct slice enhanced, struct slice text)
{
	write_line(out, code, '-', enhanced, text);
}
