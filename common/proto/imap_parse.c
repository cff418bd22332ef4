/*
 * A command is a chain of pieces: line, literal, line, ... Each line is copied once into the arena and cut to
 * tokens there; open lists are remembered between the pieces as a stack of tails, so nesting costs no recursion.
 *
 *	LINE --(line ends in {n})--> ANNOUNCED --hold--> HOLD --n bytes--> LINE
 *	                                       --stream--> LINE
 *	     --broken--> SKIP_LINE <--> SKIP_LITERAL --> ENDED_BAD
 *
 * A broken command is skipped to its end with all non-synchronising literals in it, which are on their way
 * already; a synchronising literal ends it, since the client waits for the answer (RFC 7888 section 4).
 */
#include "common/proto/imap_parse.h"

#include "common/base/num.h"

#define MINUS_MOST 4096 /* RFC 7888 section 5 */

const struct imap_parse_limits imap_parse_limits_before_login = {
	.line = 8192,
	.command = 16 * 1024,
	.literal = 4096,
	.literal_total = 8192,
	.literals = 4,
	.args = 8,
	.nodes = 80, /* ID has 30 pairs at most (RFC 2971 section 3.3) */
	.depth = 2,
	.skip = 64 * 1024,
	.nonsync = IMAP_LITERALS_MINUS,
};

const struct imap_parse_limits imap_parse_limits_after_login = {
	.line = 64 * 1024,
	.command = 512 * 1024,
	.literal = 128 * 1024,
	.literal_total = 256 * 1024,
	.literals = 500,
	.args = 8000,
	.nodes = 8000,
	.depth = 40,
	.skip = 100u << 20,
	.nonsync = IMAP_LITERALS_PLUS,
	.wants_utf8 = true,
};

enum state {
	STATE_LINE,
	STATE_ANNOUNCED,
	STATE_HOLD,
	STATE_SKIP_LINE,
	STATE_SKIP_LITERAL,
	STATE_ENDED,     /* whole */
	STATE_ENDED_BAD, /* answer and go on */
	STATE_LOST       /* the frame is gone */
};

enum after {
	AFTER_OPEN, /* begin of arguments or a "(": a token may follow at once */
	AFTER_ARG,  /* a blank must come before the next */
	AFTER_LIST  /* as AFTER_ARG, but "]..." may follow at once */
};

/* A line in the arena being cut to tokens. */
struct cursor {
	char *p;
	size_t len;
	size_t at;
};

void imap_parse_start(struct imap_parse *p, const struct imap_parse_limits *limits, struct arena *arena)
{
	*p = (struct imap_parse){.limits = limits, .arena = arena, .state = STATE_LINE, .after = AFTER_OPEN};
}

static bool is_atom_char(unsigned char c)
{
	return c > 0x20 && c < 0x7f && c != '(' && c != ')' && c != '{' && c != '"' && c != '\\';
}

/* Marks the command as broken; the first reason stays. */
static int broken(struct imap_parse *p, const char *reason)
{
	if (!p->reason)
		p->reason = reason;
	return ERR_SYNTAX;
}

/* Does the raw line end in {n} or {n+}? */
static bool has_literal_at_end(struct slice line, uint64_t *size_out, bool *is_sync_out)
{
	size_t end = line.len;
	ptrdiff_t open = slice_find_last(line, '{');
	bool is_sync;

	if (open < 0 || line.p[end - 1] != '}')
		return false;
	end--;
	is_sync = line.p[end - 1] != '+';
	if (!is_sync)
		end--;
	if (num_parse_u64(slice_sub(line, (size_t)open + 1, end - (size_t)open - 1), size_out) < 0) {
		/* Digits beyond 64 bits are a literal still, and one beyond every limit. */
		for (size_t i = (size_t)open + 1; i < end; i++) {
			if (line.p[i] < '0' || line.p[i] > '9')
				return false;
		}
		if (end == (size_t)open + 1)
			return false;
		*size_out = UINT64_MAX;
	}
	*is_sync_out = is_sync;
	return true;
}

/* What of a broken command is still to come after this literal announcement? */
static void skip_after_literal(struct imap_parse *p, uint64_t size, bool is_sync)
{
	if (is_sync) {
		p->state = STATE_ENDED_BAD;
	} else if (!num_add_u64(p->skipped, size, &p->skipped) || p->skipped > p->limits->skip) {
		p->state = STATE_LOST;
	} else {
		p->literal_left = size;
		p->state = STATE_SKIP_LITERAL;
	}
}

static void skip_after_line(struct imap_parse *p, struct slice line)
{
	uint64_t size;
	bool is_sync;

	p->skipped += line.len;
	if (has_literal_at_end(line, &size, &is_sync))
		skip_after_literal(p, size, is_sync);
	else
		p->state = STATE_ENDED_BAD;
}

static struct imap_arg *add_arg(struct imap_parse *p, enum imap_arg_type type, struct slice text)
{
	struct imap_arg *arg;

	if (p->nodes >= p->limits->nodes || (p->depth == 0 && p->command.count >= p->limits->args)) {
		(void)broken(p, "Too many arguments");
		return NULL;
	}
	arg = arena_calloc(p->arena, 1, sizeof(*arg));
	if (!arg) {
		(void)broken(p, "Command too large");
		return NULL;
	}
	arg->type = type;
	arg->text = text;
	arg->size = text.len;
	*p->tail = arg;
	p->tail = &arg->next;
	p->nodes++;
	if (p->depth == 0)
		p->command.count++;
	return arg;
}

static int open_list(struct imap_parse *p)
{
	struct imap_arg *list;

	if (p->depth >= p->limits->depth)
		return broken(p, "Lists nested too deeply");
	if (!p->stack) {
		p->stack = arena_calloc(p->arena, p->limits->depth, sizeof(*p->stack));
		if (!p->stack)
			return broken(p, "Command too large");
	}
	list = add_arg(p, IMAP_ARG_LIST, (struct slice){0});
	if (!list)
		return ERR_SYNTAX;
	p->stack[p->depth++] = p->tail;
	p->tail = &list->first;
	p->after = AFTER_OPEN;
	return 0;
}

static int close_list(struct imap_parse *p)
{
	if (p->depth == 0)
		return broken(p, "Parenthesis closed that was not open");
	p->tail = p->stack[--p->depth];
	p->after = AFTER_LIST;
	return 0;
}

/* The closing quote ends it; escapes are undone in place. */
static int read_quoted(struct imap_parse *p, struct cursor *c)
{
	char *start = c->p + ++c->at;
	char *to = start;

	for (; c->at < c->len; c->at++) {
		char ch = c->p[c->at];

		if (ch == '"') {
			c->at++;
			p->after = AFTER_ARG;
			if (p->limits->wants_utf8 && !slice_is_utf8(slice_of(start, (size_t)(to - start))))
				return broken(p, "Quoted string that is no UTF-8");
			return add_arg(p, IMAP_ARG_QUOTED, slice_of(start, (size_t)(to - start)))
				       ? 0
				       : ERR_SYNTAX;
		}
		if (ch == '\\') {
			if (++c->at >= c->len || (c->p[c->at] != '"' && c->p[c->at] != '\\'))
				return broken(p, "Bad escape in a quoted string");
			ch = c->p[c->at];
		}
		if (ch == '\0' || ch == '\r')
			return broken(p, "NUL or CR in a quoted string");
		*to++ = ch;
	}
	return broken(p, "Quoted string without an end");
}

static int read_atom(struct imap_parse *p, struct cursor *c)
{
	size_t start = c->at;

	if (c->p[c->at] == '\\')
		c->at++;
	while (c->at < c->len && is_atom_char((unsigned char)c->p[c->at]))
		c->at++;
	if (c->at == start)
		return broken(p, "Character that no atom can have");
	p->after = AFTER_ARG;
	return add_arg(p, IMAP_ARG_ATOM, slice_of(c->p + start, c->at - start)) ? 0 : ERR_SYNTAX;
}

/* {n} or {n+} at the end of the line, or the same behind a ~. */
static int read_literal(struct imap_parse *p, struct cursor *c)
{
	bool is_binary = c->p[c->at] == '~';
	struct slice rest = slice_of(c->p + c->at + is_binary, c->len - c->at - is_binary);
	struct imap_literal literal = {.depth = p->depth, .is_binary = is_binary};

	if (slice_find_last(rest, '{') != 0 || !has_literal_at_end(rest, &literal.size, &literal.is_sync))
		return broken(p, "Bad literal");
	if (literal.size > INT64_MAX)
		return broken(p, "Literal too large");
	if (!literal.is_sync && p->limits->nonsync == IMAP_LITERALS_MINUS && literal.size > MINUS_MOST)
		return broken(p, "Non-synchronizing literal too large");
	if (++p->literals > p->limits->literals)
		return broken(p, "Too many literals");
	p->literal_arg = add_arg(p, IMAP_ARG_LITERAL, (struct slice){0});
	if (!p->literal_arg)
		return ERR_SYNTAX;
	p->literal_arg->size = literal.size;
	p->literal = literal;
	p->after = AFTER_ARG;
	c->at = c->len;
	p->state = STATE_ANNOUNCED;
	return 0;
}

static int read_token(struct imap_parse *p, struct cursor *c, bool is_glued)
{
	char ch = c->p[c->at];
	struct imap_arg **place = p->tail;
	int err;

	if (ch == ')') {
		c->at++;
		return close_list(p);
	}
	if (is_glued && !(p->after == AFTER_LIST && ch == ']'))
		return broken(p, "Blank missing between arguments");
	if (ch == '~' && c->at + 1 < c->len && c->p[c->at + 1] == '{')
		ch = '{';
	switch (ch) {
	case '(':
		c->at++;
		err = open_list(p);
		break;
	case '"':
		err = read_quoted(p, c);
		break;
	case '{':
		err = read_literal(p, c);
		break;
	default:
		err = read_atom(p, c);
	}
	if (err == 0)
		(*place)->is_glued = is_glued;
	return err;
}

static int read_args(struct imap_parse *p, struct cursor *c)
{
	while (c->at < c->len) {
		size_t start = c->at;
		int err;

		while (c->at < c->len && c->p[c->at] == ' ')
			c->at++;
		if (c->at == c->len)
			break;
		err = read_token(p, c, c->at == start && p->after != AFTER_OPEN);
		if (err < 0)
			return err;
	}
	if (p->state == STATE_ANNOUNCED)
		return 0;
	if (p->depth)
		return broken(p, "Parenthesis not closed");
	p->state = STATE_ENDED;
	return 0;
}

/* 1*<any ASTRING-CHAR except "+"> */
static int read_tag(struct imap_parse *p, struct cursor *c)
{
	while (c->at < c->len && is_atom_char((unsigned char)c->p[c->at]) && !strchr("+%*", c->p[c->at]))
		c->at++;
	if (c->at == 0 || c->at == c->len || c->p[c->at] != ' ')
		return broken(p, c->len ? "No command with a tag" : "Empty line");
	p->command.tag = slice_of(c->p, c->at++);
	return 0;
}

static struct slice read_word(struct cursor *c)
{
	size_t start = c->at;

	for (; c->at < c->len && c->p[c->at] != ' ' && is_atom_char((unsigned char)c->p[c->at]); c->at++)
		c->p[c->at] = ascii_upper(c->p[c->at]);
	return slice_of(c->p + start, c->at - start);
}

/* The command word; the one after UID belongs to it. */
static int read_name(struct imap_parse *p, struct cursor *c)
{
	struct slice name = read_word(c);

	if (slice_is_str(name, "UID") && c->at < c->len && c->p[c->at] == ' ') {
		struct slice second;

		c->at++;
		second = read_word(c);
		name.len = second.len ? name.len + 1 + second.len : 0;
	}
	if (name.len == 0 || (c->at < c->len && c->p[c->at] != ' '))
		return broken(p, "No command");
	p->command.name = name;
	if (c->at < c->len)
		c->at++;
	return 0;
}

/* A line without its end. */
static void read_line(struct imap_parse *p, struct slice line)
{
	struct cursor c = {.len = line.len};
	bool is_first = p->tail == NULL;
	int err = 0;

	c.p = arena_copy_str(p->arena, line);
	if (!c.p)
		err = broken(p, "Command too large");
	if (err == 0 && is_first) {
		p->tail = &p->command.args;
		err = read_tag(p, &c);
		if (err == 0)
			err = read_name(p, &c);
	}
	if (err == 0)
		err = read_args(p, &c);
	if (err < 0)
		skip_after_line(p, line);
}

/* Length of the line with its end; 0: not there yet. */
static ssize_t find_line(struct imap_parse *p, struct slice in, struct slice *line_out)
{
	ptrdiff_t lf = slice_find(slice_from(in, p->scanned), '\n');
	size_t len;

	if (lf < 0) {
		p->scanned = in.len;
		return in.len >= p->limits->line ? ERR_TOO_BIG : 0;
	}
	len = p->scanned + (size_t)lf;
	if (len + 1 > p->limits->line)
		return ERR_TOO_BIG;
	p->scanned = 0;
	*line_out = slice_sub(in, 0, len > 0 && in.p[len - 1] == '\r' ? len - 1 : len);
	return (ssize_t)len + 1;
}

static ssize_t feed_line(struct imap_parse *p, struct slice in)
{
	struct slice line;
	ssize_t n = find_line(p, in, &line);

	if (n <= 0)
		return n;
	if (p->state == STATE_SKIP_LINE) {
		skip_after_line(p, line);
		return n;
	}
	p->held += (size_t)n;
	if (p->held > p->limits->command) {
		(void)broken(p, "Command too large");
		skip_after_line(p, line);
	} else {
		read_line(p, line);
	}
	return n;
}

static ssize_t feed_literal(struct imap_parse *p, struct slice in)
{
	size_t n = in.len < p->literal_left ? in.len : (size_t)p->literal_left;

	if (p->state == STATE_HOLD && n) {
		struct imap_arg *arg = p->literal_arg;

		/* The arena's memory behind `text` is ours and writable. */
		memcpy((char *)(uintptr_t)arg->text.p + (arg->size - p->literal_left), in.p, n);
	}
	p->literal_left -= n;
	if (p->literal_left)
		return (ssize_t)n;
	if (p->state == STATE_HOLD && p->literal_arg->type != IMAP_ARG_BINARY &&
		slice_find(p->literal_arg->text, '\0') >= 0)
		(void)broken(p, "NUL in a literal");
	p->state = p->reason ? STATE_SKIP_LINE : STATE_LINE;
	return (ssize_t)n;
}

/* True when there is something to tell. */
static bool has_event(struct imap_parse *p, enum imap_parse_event *event_out)
{
	if (p->state == STATE_ANNOUNCED)
		*event_out = IMAP_PARSE_LITERAL;
	else if (p->state == STATE_ENDED)
		*event_out = IMAP_PARSE_COMMAND;
	else if (p->state == STATE_ENDED_BAD)
		*event_out = IMAP_PARSE_BAD;
	else
		return false;
	return true;
}

ssize_t imap_parse_feed(struct imap_parse *p, struct slice in, enum imap_parse_event *event_out)
{
	size_t at = 0;

	while (!has_event(p, event_out)) {
		bool is_literal = p->state == STATE_HOLD || p->state == STATE_SKIP_LITERAL;
		bool was_literal_open = is_literal && p->literal_left > 0;
		ssize_t n;

		if (p->state == STATE_LOST)
			return ERR_TOO_BIG;
		n = is_literal ? feed_literal(p, slice_from(in, at)) : feed_line(p, slice_from(in, at));
		if (n < 0)
			return n;
		at += (size_t)n;
		if (n == 0 && (!is_literal || was_literal_open)) {
			*event_out = IMAP_PARSE_MORE;
			break;
		}
	}
	return (ssize_t)at;
}

int imap_parse_hold_binary(struct imap_parse *p)
{
	const struct imap_parse_limits *most = p->limits;
	uint64_t size = p->literal.size;
	char *room = NULL;

	if (p->literal.is_binary)
		p->literal_arg->type = IMAP_ARG_BINARY;
	if (size <= most->literal && size <= most->literal_total - p->literal_total &&
		size <= most->command - (p->held < most->command ? p->held : most->command))
		room = arena_alloc(p->arena, (size_t)size + 1);
	if (!room) {
		imap_parse_refuse(p, "Literal too large");
		return ERR_TOO_BIG;
	}
	room[size] = '\0';
	p->held += (size_t)size;
	p->literal_total += size;
	p->literal_arg->text = slice_of(room, (size_t)size);
	p->literal_left = size;
	p->state = STATE_HOLD;
	return 0;
}

int imap_parse_hold(struct imap_parse *p)
{
	if (p->literal.is_binary) {
		imap_parse_refuse(p, "No binary literal is allowed here");
		return ERR_SYNTAX;
	}
	return imap_parse_hold_binary(p);
}

void imap_parse_stream(struct imap_parse *p)
{
	p->literal_arg->type = IMAP_ARG_STREAM;
	p->state = STATE_LINE;
}

void imap_parse_refuse(struct imap_parse *p, const char *reason)
{
	(void)broken(p, reason);
	skip_after_literal(p, p->literal.size, p->literal.is_sync);
}

ssize_t imap_parse_line(struct slice in, size_t limit, struct slice *line_out)
{
	ptrdiff_t lf = slice_find(slice_sub(in, 0, limit), '\n');

	if (lf < 0)
		return in.len >= limit ? ERR_TOO_BIG : 0;
	*line_out = slice_sub(in, 0, lf > 0 && in.p[lf - 1] == '\r' ? (size_t)lf - 1 : (size_t)lf);
	return lf + 1;
}

/* ---- arguments ---- */

static bool has_any(struct slice s, const char *chars)
{
	for (size_t i = 0; i < s.len; i++) {
		if (strchr(chars, s.p[i]))
			return true;
	}
	return false;
}

static int read_string(const struct imap_arg *arg, const char *not_in_atom, struct slice *text_out)
{
	if (!arg || arg->type == IMAP_ARG_LIST || arg->type == IMAP_ARG_STREAM ||
		arg->type == IMAP_ARG_BINARY)
		return ERR_SYNTAX;
	if (arg->type == IMAP_ARG_ATOM && has_any(arg->text, not_in_atom))
		return ERR_SYNTAX;
	*text_out = arg->text;
	return 0;
}

int imap_parse_astring(const struct imap_arg *arg, struct slice *text_out)
{
	return read_string(arg, "%*\\", text_out);
}

int imap_parse_list_mailbox(const struct imap_arg *arg, struct slice *text_out)
{
	return read_string(arg, "\\", text_out);
}

int imap_parse_atom(const struct imap_arg *arg, struct slice *text_out)
{
	if (!arg || arg->type != IMAP_ARG_ATOM)
		return ERR_SYNTAX;
	*text_out = arg->text;
	return 0;
}

int imap_parse_nstring(const struct imap_arg *arg, struct slice *text_out)
{
	if (imap_parse_is_word(arg, "NIL")) {
		*text_out = (struct slice){NULL, 0};
		return 0;
	}
	if (!arg || arg->type == IMAP_ARG_ATOM)
		return ERR_SYNTAX;
	return read_string(arg, "", text_out);
}

int imap_parse_u32(const struct imap_arg *arg, uint32_t *n_out)
{
	struct slice text;
	int err = imap_parse_atom(arg, &text);

	return err < 0 ? err : num_parse_u32(text, n_out);
}

int imap_parse_u63(const struct imap_arg *arg, uint64_t *n_out)
{
	struct slice text;
	uint64_t n;
	int err = imap_parse_atom(arg, &text);

	if (err == 0)
		err = num_parse_u64(text, &n);
	if (err < 0)
		return err;
	if (n > INT64_MAX)
		return ERR_TOO_BIG;
	*n_out = n;
	return 0;
}

bool imap_parse_is_word(const struct imap_arg *arg, const char *word)
{
	return arg && arg->type == IMAP_ARG_ATOM && slice_is_str_nocase(arg->text, word);
}
