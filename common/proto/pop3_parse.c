/* Lines are found first, then cut to words at blanks. Nothing is unescaped: POP3 has no quoting. */
#include "common/proto/pop3_parse.h"

#include "common/base/num.h"

/* > 0: length of the line with its end, 0: more, ERR_TOO_BIG. */
static ssize_t find_line(struct slice in, size_t limit, struct slice *line_out)
{
	ptrdiff_t lf = slice_find(slice_sub(in, 0, limit), '\n');

	if (lf < 0)
		return in.len >= limit ? ERR_TOO_BIG : 0;
	*line_out = slice_sub(in, 0, lf > 0 && in.p[lf - 1] == '\r' ? (size_t)lf - 1 : (size_t)lf);
	return lf + 1;
}

/* Next word of *rest; words are cut by any number of blanks. */
static bool next_word(struct slice *rest, struct slice *word_out)
{
	size_t start = 0, end;

	while (start < rest->len && rest->p[start] == ' ')
		start++;
	for (end = start; end < rest->len && rest->p[end] != ' '; end++)
		;
	*word_out = slice_sub(*rest, start, end - start);
	*rest = slice_from(*rest, end);
	return end > start;
}

static void read_words(struct pop3_command *c)
{
	struct slice rest = c->rest, word;

	while (c->count <= POP3_ARGS_MOST && next_word(&rest, &word)) {
		if (c->count < POP3_ARGS_MOST)
			c->args[c->count] = word;
		c->count++;
	}
}

ssize_t pop3_parse_command(
	struct slice in, size_t limit, struct pop3_command *command_out, size_t *consumed_out)
{
	struct pop3_command c = {0};
	struct slice line, word;
	ptrdiff_t blank;
	ssize_t n = find_line(in, limit, &line);

	if (n <= 0)
		return n;
	if (slice_has_control(line)) {
		if (consumed_out)
			*consumed_out = (size_t)n;
		return ERR_SYNTAX;
	}
	blank = slice_find(line, ' ');
	word = blank < 0 ? line : slice_sub(line, 0, (size_t)blank);
	if (blank >= 0)
		c.rest = slice_from(line, (size_t)blank + 1);
	for (size_t i = 0; i < word.len && word.len < sizeof(c.name); i++)
		c.name[i] = ascii_upper(word.p[i]);
	read_words(&c);
	if (consumed_out)
		*consumed_out = (size_t)n;
	*command_out = c;
	return n;
}

ssize_t pop3_parse_line(struct slice in, size_t limit, struct slice *line_out)
{
	return find_line(in, limit, line_out);
}

/* [CODE] in front of the text. */
static void take_code(struct pop3_reply *r)
{
	ptrdiff_t end;

	if (!slice_has_prefix(r->text, "["))
		return;
	end = slice_find(r->text, ']');
	if (end < 0)
		return;
	r->code = slice_sub(r->text, 1, (size_t)end - 1);
	r->text = slice_from(r->text, (size_t)end + 1);
	if (slice_has_prefix(r->text, " "))
		r->text = slice_from(r->text, 1);
}

ssize_t pop3_parse_reply(struct slice in, size_t limit, struct pop3_reply *reply_out)
{
	static const struct {
		const char *word;
		enum pop3_status status;
	} words[] = {{"+OK", POP3_OK}, {"-ERR", POP3_ERR}, {"+", POP3_CONTINUE}};
	struct pop3_reply r = {0};
	struct slice line, word;
	ssize_t n = find_line(in, limit, &line);

	if (n <= 0)
		return n;
	if (slice_has_control(line))
		return ERR_SYNTAX;
	r.line = slice_sub(in, 0, (size_t)n);
	r.text = line;
	word = slice_sub(line, 0, slice_find(line, ' ') < 0 ? line.len : (size_t)slice_find(line, ' '));
	r.text = slice_from(line, word.len + 1);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!slice_is_str(word, words[i].word))
			continue;
		r.status = words[i].status;
		if (r.status != POP3_CONTINUE)
			take_code(&r);
		*reply_out = r;
		return n;
	}
	return ERR_SYNTAX;
}

bool pop3_parse_is_end(struct slice line)
{
	return slice_is_str(line, ".") || slice_is_str(line, ".\r\n") || slice_is_str(line, ".\n");
}

void pop3_parse_stuff_init(struct pop3_parse_stuff *stuff)
{
	*stuff = (struct pop3_parse_stuff){.is_line_begin = true};
}

void pop3_parse_stuff_add(struct pop3_parse_stuff *stuff, struct buf *out, struct slice piece)
{
	size_t plain = 0, at = 0;

	while (at < piece.len) {
		const char *lf = memchr(piece.p + at, '\n', piece.len - at);
		size_t end = lf ? (size_t)(lf - piece.p) : piece.len;

		if (stuff->is_line_begin && piece.p[at] == '.') {
			buf_add(out, piece.p + plain, at - plain);
			buf_add_char(out, '.');
			plain = at;
		}
		if (end > at)
			stuff->is_after_cr = piece.p[end - 1] == '\r';
		if (lf && !stuff->is_after_cr) {
			buf_add(out, piece.p + plain, end - plain);
			buf_add_char(out, '\r');
			plain = end;
		}
		stuff->is_line_begin = lf != NULL;
		stuff->is_after_cr &= !lf;
		at = end + (lf != NULL);
	}
	buf_add_slice(out, slice_from(piece, plain));
}

void pop3_parse_stuff_end(struct pop3_parse_stuff *stuff, struct buf *out)
{
	if (!stuff->is_line_begin)
		buf_add_str(out, stuff->is_after_cr ? "\n" : "\r\n");
	buf_add_str(out, ".\r\n");
	pop3_parse_stuff_init(stuff);
}

static bool wants_stuffing(struct slice text)
{
	for (size_t at = 0; at < text.len;) {
		const char *lf = memchr(text.p + at, '\n', text.len - at);
		size_t end = lf ? (size_t)(lf - text.p) : text.len;

		if (text.p[at] == '.' || (lf && (end == at || text.p[end - 1] != '\r')))
			return true;
		at = end + 1;
	}
	return false;
}

void pop3_parse_stuff_message(struct buf *out, size_t from)
{
	struct slice text = slice_from(buf_view(out), from);
	char last = text.len ? text.p[text.len - 1] : '\n';
	struct pop3_parse_stuff stuff = {.is_after_cr = last == '\r', .is_line_begin = last == '\n'};
	struct buf copy = {0};

	if (wants_stuffing(text)) {
		buf_add_slice(&copy, text);
		buf_cut(out, from);
		pop3_parse_stuff_init(&stuff);
		pop3_parse_stuff_add(&stuff, out, buf_view(&copy));
		buf_deinit(&copy);
	}
	pop3_parse_stuff_end(&stuff, out);
}

int pop3_parse_number(struct slice arg, uint32_t *n_out)
{
	uint32_t n;
	int err = num_parse_u32(arg, &n);

	if (err < 0)
		return err;
	if (n == 0)
		return ERR_SYNTAX;
	*n_out = n;
	return 0;
}
