/* One pass; a record with an error is left at the end of the line where it is found. */
#include "common/proto/csv.h"

#include <string.h>

void csv_begin(struct csv *c, struct slice text)
{
	*c = (struct csv){.text = text, .line = 1};
	if (text.len >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		c->at = 3;
}

static int peek(const struct csv *c)
{
	return c->at < c->text.len ? (unsigned char)c->text.p[c->at] : -1;
}

/* Takes a line end, if one is here. */
static bool take_line_end(struct csv *c)
{
	size_t n = peek(c) == '\n' ? 1 : 0;

	if (peek(c) == '\r' && c->at + 1 < c->text.len && c->text.p[c->at + 1] == '\n')
		n = 2;
	c->at += n;
	c->line += n > 0;
	return n > 0;
}

static void skip_line(struct csv *c)
{
	struct slice rest = slice_from(c->text, c->at);
	ptrdiff_t end = slice_find(rest, '\n');

	c->at += end < 0 ? rest.len : (size_t)end + 1;
	c->line += end >= 0;
}

static int fail(struct csv *c, struct csv_record *r, int err, const char *why)
{
	r->why = why;
	skip_line(c);
	return err;
}

/* Without its quotes; doubled ones become one. */
static int undouble(struct slice raw, struct arena *arena, struct slice *field_out)
{
	char *text = arena_alloc(arena, raw.len + 1);
	size_t len = 0;

	if (!text)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < raw.len; i++) {
		text[len++] = raw.p[i];
		i += raw.p[i] == '"';
	}
	*field_out = slice_of(text, len);
	return 0;
}

/* Behind the opening quote. */
static int take_quoted(struct csv *c, struct arena *arena, struct csv_record *r)
{
	size_t begin = c->at;
	unsigned line = c->line, first_line = c->line;
	bool doubled = false;

	for (;;) {
		int ch = peek(c);

		if (ch < 0) {
			/* What follows its line is read again: the quote was a slip, most likely. */
			struct slice rest = slice_from(c->text, begin);
			ptrdiff_t end = slice_find(rest, '\n');

			c->at = end < 0 ? c->text.len : begin + (size_t)end + 1;
			c->line = first_line + (end >= 0);
			r->why = "a quote is not closed";
			return ERR_SYNTAX;
		}
		c->at++;
		line += ch == '\n';
		if (ch != '"')
			continue;
		if (peek(c) != '"')
			break;
		c->at++;
		doubled = true;
	}
	c->line = line;
	r->fields[r->count] = slice_sub(c->text, begin, c->at - 1 - begin);
	if (r->fields[r->count].len > CSV_FIELD_MAX)
		return fail(c, r, ERR_TOO_BIG, "a field is too long");
	if (doubled && undouble(r->fields[r->count], arena, &r->fields[r->count]))
		return fail(c, r, ERR_TOO_BIG, "there is no memory for it");
	if (peek(c) >= 0 && peek(c) != ',' && peek(c) != '\n' && peek(c) != '\r')
		return fail(c, r, ERR_SYNTAX, "text follows a closing quote");
	return 0;
}

static int take_plain(struct csv *c, struct csv_record *r)
{
	size_t begin = c->at;

	while (peek(c) >= 0 && peek(c) != ',' && peek(c) != '\n' && peek(c) != '"')
		c->at++;
	if (peek(c) == '"')
		return fail(c, r, ERR_SYNTAX, "a quote stands within a field");
	if (peek(c) == '\n' && c->at > begin && c->text.p[c->at - 1] == '\r')
		c->at--;
	r->fields[r->count] = slice_sub(c->text, begin, c->at - begin);
	return c->at - begin > CSV_FIELD_MAX ? fail(c, r, ERR_TOO_BIG, "a field is too long") : 0;
}

int csv_next(struct csv *c, struct arena *arena, struct csv_record *r)
{
	while (take_line_end(c))
		;
	r->line = c->line;
	r->count = 0;
	r->why = NULL;
	if (peek(c) < 0)
		return ERR_NOT_FOUND;
	for (;;) {
		int err;

		if (r->count == CSV_FIELDS_MAX)
			return fail(c, r, ERR_TOO_BIG, "too many fields");
		if (peek(c) == '"') {
			c->at++;
			err = take_quoted(c, arena, r);
		} else {
			err = take_plain(c, r);
		}
		if (err)
			return err;
		r->count++;
		if (peek(c) < 0 || take_line_end(c))
			return 0;
		if (peek(c) != ',')
			return fail(c, r, ERR_SYNTAX, "a carriage return stands alone");
		c->at++;
	}
}
