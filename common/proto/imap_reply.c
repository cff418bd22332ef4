/* The response's end is found first, over literals; then its first line is cut to words. */
#include "common/proto/imap_reply.h"

#include "common/base/num.h"

static const struct {
	const char *word;
	enum imap_reply_status status;
} status_words[] = {
	{"OK", IMAP_REPLY_OK},
	{"NO", IMAP_REPLY_NO},
	{"BAD", IMAP_REPLY_BAD},
	{"PREAUTH", IMAP_REPLY_PREAUTH},
	{"BYE", IMAP_REPLY_BYE},
};

/* The number of a "{n}" at the line's end. */
static bool has_literal(struct slice line, uint64_t *size_out)
{
	ptrdiff_t open = slice_find_last(line, '{');

	if (open < 0 || line.p[line.len - 1] != '}')
		return false;
	return num_parse_u64(slice_sub(line, (size_t)open + 1, line.len - (size_t)open - 2), size_out) == 0;
}

/* Length of the response with its last line end. */
static ssize_t find_end(struct slice in)
{
	size_t at = 0;

	for (;;) {
		ptrdiff_t lf = slice_find(slice_from(in, at), '\n');
		size_t end;
		uint64_t size;
		struct slice line;

		if (lf < 0)
			return in.len >= IMAP_REPLY_MOST ? ERR_TOO_BIG : 0;
		end = at + (size_t)lf;
		if (end >= IMAP_REPLY_MOST)
			return ERR_TOO_BIG;
		line = slice_sub(in, at, end - at);
		if (line.len && line.p[line.len - 1] == '\r')
			line.len--;
		if (!has_literal(line, &size))
			return (ssize_t)end + 1;
		if (size > IMAP_REPLY_MOST - end)
			return ERR_TOO_BIG;
		at = end + 1 + (size_t)size;
		if (at > in.len)
			return at >= IMAP_REPLY_MOST ? ERR_TOO_BIG : 0;
	}
}

/* Takes the word up to a blank or the end, and the blank. */
static struct slice take_word(struct slice *s)
{
	ptrdiff_t blank = slice_find(*s, ' ');
	struct slice word = blank < 0 ? *s : slice_sub(*s, 0, (size_t)blank);

	*s = slice_from(*s, blank < 0 ? s->len : (size_t)blank + 1);
	return word;
}

/* [CODE args] in front of the text; a bracket within quotes does not end it. */
static void take_code(struct imap_reply *r)
{
	bool is_quoted = false;
	struct slice code;

	if (!slice_has_prefix(r->text, "["))
		return;
	for (size_t i = 1; i < r->text.len; i++) {
		char c = r->text.p[i];

		if (is_quoted && c == '\\') {
			i++;
		} else if (c == '"') {
			is_quoted = !is_quoted;
		} else if (c == ']' && !is_quoted) {
			code = slice_sub(r->text, 1, i - 1);
			r->text = slice_from(r->text, i + 1);
			if (slice_has_prefix(r->text, " "))
				r->text = slice_from(r->text, 1);
			r->code = take_word(&code);
			r->code_args = code;
			return;
		}
	}
}

static void read_status(struct imap_reply *r, struct slice rest)
{
	struct slice word = take_word(&rest);

	for (size_t i = 0; i < sizeof(status_words) / sizeof(status_words[0]); i++) {
		if (!slice_is_str_nocase(word, status_words[i].word))
			continue;
		r->status = status_words[i].status;
		r->text = rest;
		take_code(r);
		return;
	}
	if (num_parse_u32(word, &r->number) == 0)
		word = take_word(&rest);
	r->name = word;
	r->text = rest;
}

/* Tags are ours: letters and digits. */
static bool is_tag(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = ascii_lower(s.p[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
			return false;
	}
	return s.len > 0;
}

ssize_t imap_reply_parse(struct slice in, struct imap_reply *reply_out)
{
	struct imap_reply r = {0};
	ssize_t n = find_end(in);
	struct slice rest;

	if (n <= 0)
		return n;
	r.line = slice_sub(in, 0, (size_t)n);
	rest = slice_sub(in, 0, (size_t)n - 1);
	if (rest.len && rest.p[rest.len - 1] == '\r')
		rest.len--;
	if (slice_find(rest, '\0') >= 0)
		return ERR_SYNTAX;
	if (slice_is_str(rest, "+") || slice_has_prefix(rest, "+ ")) {
		r.kind = IMAP_REPLY_CONTINUE;
		r.text = slice_from(rest, 2);
	} else if (slice_has_prefix(rest, "* ")) {
		r.kind = IMAP_REPLY_UNTAGGED;
		read_status(&r, slice_from(rest, 2));
		if (r.status == IMAP_REPLY_DATA && r.name.len == 0)
			return ERR_SYNTAX;
	} else {
		r.kind = IMAP_REPLY_TAGGED;
		r.tag = take_word(&rest);
		read_status(&r, rest);
		if (!is_tag(r.tag) || (r.status != IMAP_REPLY_OK && r.status != IMAP_REPLY_NO &&
					      r.status != IMAP_REPLY_BAD))
			return ERR_SYNTAX;
	}
	*reply_out = r;
	return n;
}

bool imap_reply_capabilities(const struct imap_reply *reply, struct slice *list_out)
{
	if (reply->status != IMAP_REPLY_DATA && slice_is_str_nocase(reply->code, "CAPABILITY")) {
		*list_out = reply->code_args;
		return true;
	}
	if (reply->kind == IMAP_REPLY_UNTAGGED && slice_is_str_nocase(reply->name, "CAPABILITY")) {
		*list_out = reply->text;
		return true;
	}
	return false;
}

bool imap_reply_next_word(struct slice *list, struct slice *word_out)
{
	while (list->len) {
		struct slice word = take_word(list);

		if (word.len) {
			*word_out = word;
			return true;
		}
	}
	return false;
}

bool imap_reply_has_word(struct slice list, const char *word)
{
	struct slice w;

	while (imap_reply_next_word(&list, &w)) {
		if (slice_is_str_nocase(w, word))
			return true;
	}
	return false;
}
