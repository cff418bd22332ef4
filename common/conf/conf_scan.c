/*
 * A look at a file's text before libconfuse reads it, because its scanner takes things silently: it swallows
 * characters that it does not know (so *:143 becomes :143), takes a comment or string without end for the end
 * of the file and then begins the next file inside of it, and tells nobody of an empty list.
 *
 * So comments become blanks here, words go into quotes, an empty list gets one word that nobody can write
 * (CONF_EMPTY_LIST), and what has no end is told. Line ends stay where they are: places stay true.
 */
#include "common/conf/conf_internal.h"

struct scan {
	struct conf *conf;
	const char *file;
	struct slice text;
	size_t at;
	int line;
	unsigned depth;          /* of braces */
	int brace_line;          /* of the outermost one that is open */
	char last, last_but_one; /* kinds of token: 'w' a word, else the character */
	struct buf *out;
};

static char peek(const struct scan *s, size_t ahead)
{
	return s->at + ahead < s->text.len ? s->text.p[s->at + ahead] : '\0';
}

/* Takes one character, put as it is or as a blank. */
static void take(struct scan *s, bool as_blank)
{
	char c = peek(s, 0);

	s->line += c == '\n';
	buf_add_char(s->out, as_blank && c != '\n' ? ' ' : c);
	s->at++;
}

static void token(struct scan *s, char kind)
{
	s->last_but_one = s->last;
	s->last = kind;
}

static bool fault(struct scan *s, int line, const char *what)
{
	conf_fault(s->conf, s->file, line, NULL, "%s", what);
	return false;
}

static bool skip_long_comment(struct scan *s)
{
	int line = s->line;

	take(s, true);
	take(s, true);
	while (s->at < s->text.len && !(peek(s, 0) == '*' && peek(s, 1) == '/'))
		take(s, true);
	if (s->at >= s->text.len)
		return fault(s, line, "this comment has no end");
	take(s, true);
	take(s, true);
	return true;
}

static bool take_quoted(struct scan *s)
{
	char quote = peek(s, 0);
	int line = s->line;

	take(s, false);
	while (s->at < s->text.len && peek(s, 0) != quote) {
		if (peek(s, 0) == '$' && peek(s, 1) == '{' && quote == '"')
			return fault(s, s->line,
				"${...} in double quotes would be a variable of the environment; use single "
				"quotes");
		if (peek(s, 0) == '\\' && s->at + 1 < s->text.len)
			take(s, false);
		take(s, false);
	}
	if (s->at >= s->text.len)
		return fault(s, line, "this string has no end");
	take(s, false);
	token(s, 'w');
	return true;
}

static bool is_word_character(const struct scan *s)
{
	char c = peek(s, 0);

	if (c == '/' && (peek(s, 1) == '*' || peek(s, 1) == '/'))
		return false;
	return s->at < s->text.len && !strchr(" \t\r\n\"'={}(),#", c);
}

/* A bare word, put in single quotes: a backslash before its end would mean the quote. */
static bool take_word(struct scan *s)
{
	buf_add_char(s->out, '\'');
	while (is_word_character(s)) {
		if (peek(s, 0) == '\\')
			return fault(s, s->line, "a backslash must stand in quotes");
		take(s, false);
	}
	buf_add_char(s->out, '\'');
	token(s, 'w');
	return true;
}

static bool take_any(struct scan *s)
{
	char c = peek(s, 0);

	if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
		take(s, true);
	} else if (c == '#' || (c == '/' && peek(s, 1) == '/')) {
		while (s->at < s->text.len && peek(s, 0) != '\n')
			take(s, true);
	} else if (c == '/' && peek(s, 1) == '*') {
		return skip_long_comment(s);
	} else if (c == '"' || c == '\'') {
		return take_quoted(s);
	} else if (c == '+' && peek(s, 1) == '=') {
		return fault(s, s->line, "+= is not known here; write the whole list");
	} else if (strchr("={}(),", c)) {
		if (c == '}' && s->last == '{' && s->last_but_one == '=')
			buf_add_str(s->out, "'" CONF_EMPTY_LIST "'");
		if (c == '{' && s->depth++ == 0)
			s->brace_line = s->line;
		if (c == '}' && s->depth-- == 0)
			return fault(s, s->line, "this brace closes nothing");
		take(s, false);
		token(s, c);
	} else {
		return take_word(s);
	}
	return true;
}

bool conf_scan(struct conf *conf, const char *file, struct slice text, struct buf *out)
{
	struct scan s = {.conf = conf, .file = file, .text = text, .line = 1, .out = out};

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		s.line += c == '\n';
		if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 127)
			return fault(&s, s.line, "has a control character");
	}
	s.line = 1;
	while (s.at < text.len)
		if (!take_any(&s))
			return false;
	if (s.depth)
		return fault(&s, s.brace_line, "this brace is not closed");
	return !out->failed || fault(&s, 0, "is too large");
}
