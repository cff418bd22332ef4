/* A logical line is a line with those that begin with a blank behind it; an entry is logical lines up to a blank one. */
#include "common/proto/ldif.h"

#include <string.h>

#include "common/base/base64.h"

struct line {
	unsigned number; /* of its first */
	struct slice text;
};

void ldif_begin(struct ldif *l, struct slice text)
{
	*l = (struct ldif){.text = text, .line = 1};
	if (text.len >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		l->at = 3;
}

static bool is_end(const struct ldif *l)
{
	return l->at >= l->text.len;
}

/* Without its line end. */
static struct slice take_physical(struct ldif *l)
{
	struct slice rest = slice_from(l->text, l->at), text;
	ptrdiff_t end = slice_find(rest, '\n');

	text = end < 0 ? rest : slice_sub(rest, 0, (size_t)end);
	l->at += text.len + (end >= 0);
	l->line++;
	if (text.len && text.p[text.len - 1] == '\r')
		text.len--;
	return text;
}

/* Where the folded lines that follow end, and how many octets they hold. */
static size_t count_folded(const struct ldif *l)
{
	struct ldif ahead = *l;
	size_t total = 0;

	while (!is_end(&ahead) && ahead.text.p[ahead.at] == ' ')
		total += take_physical(&ahead).len - 1;
	return total;
}

/* The next logical line; an empty text is a blank line. */
static int take_line(struct ldif *l, struct arena *arena, struct line *line_out)
{
	size_t folded, len;
	char *text;

	line_out->number = l->line;
	line_out->text = take_physical(l);
	folded = line_out->text.len ? count_folded(l) : 0;
	if (!folded) {
		/* Folded lines of nothing but their blank. */
		while (line_out->text.len && !is_end(l) && l->text.p[l->at] == ' ')
			(void)take_physical(l);
		return 0;
	}
	len = line_out->text.len;
	text = folded + len > LDIF_VALUE_MAX * 2 ? NULL : arena_alloc(arena, len + folded);
	if (text)
		memcpy(text, line_out->text.p, len);
	while (!is_end(l) && l->text.p[l->at] == ' ') {
		struct slice more = slice_from(take_physical(l), 1);

		if (text && more.len)
			memcpy(text + len, more.p, more.len);
		len += more.len;
	}
	line_out->text = slice_of(text, text ? len : 0);
	return text ? 0 : ERR_TOO_BIG;
}

static void skip_entry(struct ldif *l)
{
	while (!is_end(l) && take_physical(l).len)
		;
}

static int fail(struct ldif *l, struct ldif_entry *e, const struct line *line, int err, const char *why)
{
	e->bad_line = line->number;
	e->why = why;
	if (line->text.len || err == ERR_TOO_BIG)
		skip_entry(l);
	return err;
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '.' || c == ';' || c == '_';
}

/* "name: value", "name:: base64"; 0 or an error with why_out. */
static int split(struct slice text, struct arena *arena, struct ldif_attribute *a, const char **why_out)
{
	ptrdiff_t colon = slice_find(text, ':'), option;
	struct slice rest;
	struct buf raw = {0};
	bool is_base64;
	int err = 0;

	*why_out = "a line is no \"name: value\"";
	if (colon <= 0)
		return ERR_SYNTAX;
	a->name = slice_sub(text, 0, (size_t)colon);
	for (size_t i = 0; i < a->name.len; i++)
		if (!is_name_char(a->name.p[i]))
			return ERR_SYNTAX;
	option = slice_find(a->name, ';');
	if (option == 0)
		return ERR_SYNTAX;
	if (option > 0)
		a->name.len = (size_t)option;
	rest = slice_from(text, (size_t)colon + 1);
	is_base64 = rest.len && rest.p[0] == ':';
	if (rest.len && rest.p[0] == '<') {
		*why_out = "values by URL are not fetched";
		return ERR_UNSUPPORTED;
	}
	rest = slice_from(rest, is_base64);
	while (rest.len && rest.p[0] == ' ')
		rest = slice_from(rest, 1);
	if (is_base64) {
		*why_out = "a value is no base64";
		while (rest.len && rest.p[rest.len - 1] == ' ')
			rest.len--;
		err = base64_decode(&raw, rest);
		rest = err ? rest : arena_copy(arena, buf_view(&raw));
		buf_deinit(&raw);
		if (!err && !rest.p)
			err = ERR_TOO_BIG;
	}
	a->value = rest;
	if (!err && rest.len > LDIF_VALUE_MAX) {
		*why_out = "a value is too long";
		err = ERR_TOO_BIG;
	}
	return err;
}

/* Blank lines, comments, and the version that a file may begin with. False: the end. */
static int take_first(struct ldif *l, struct arena *arena, struct line *line_out)
{
	while (!is_end(l)) {
		int err = take_line(l, arena, line_out);

		if (err)
			return err;
		if (line_out->text.len && line_out->text.p[0] != '#' &&
			!slice_has_prefix_nocase(line_out->text, "version:"))
			return 0;
	}
	return ERR_NOT_FOUND;
}

static int add(struct ldif *l, struct arena *arena, struct ldif_entry *e, const struct line *line)
{
	struct ldif_attribute *a = &e->attributes[e->count];
	const char *why;
	int err;

	if (e->count == LDIF_ATTRIBUTES_MAX)
		return fail(l, e, line, ERR_TOO_BIG, "an entry has too many values");
	a->line = line->number;
	err = split(line->text, arena, a, &why);
	if (err)
		return fail(l, e, line, err, why);
	if (slice_is_str_nocase(a->name, "changetype")) {
		if (!slice_is_str_nocase(a->value, "add"))
			return fail(l, e, line, ERR_UNSUPPORTED,
				"a change is not an entry; only \"add\" is taken");
		return 0;
	}
	if (slice_is_str_nocase(a->name, "control"))
		return 0;
	e->count++;
	return 0;
}

/* How many lines the entry has at most; its values are one array. */
static size_t count_lines(const struct ldif *l)
{
	struct ldif ahead = *l;
	size_t n = 1;

	while (n <= LDIF_ATTRIBUTES_MAX && !is_end(&ahead)) {
		if (take_physical(&ahead).len == 0)
			break;
		n++;
	}
	return n;
}

int ldif_next(struct ldif *l, struct arena *arena, struct ldif_entry *e)
{
	struct ldif_attribute dn;
	struct line line = {0};
	const char *why;
	int err;

	*e = (struct ldif_entry){0};
	err = take_first(l, arena, &line);
	e->line = line.number;
	if (err == ERR_NOT_FOUND)
		return err;
	if (err)
		return fail(l, e, &line, err, "a line is too long");
	err = split(line.text, arena, &dn, &why);
	if (err || !slice_is_str_nocase(dn.name, "dn"))
		return fail(l, e, &line, err ? err : ERR_SYNTAX, err ? why : "an entry begins with \"dn:\"");
	e->dn = dn.value;
	e->attributes = arena_calloc(arena, count_lines(l) + 1, sizeof(*e->attributes));
	if (!e->attributes)
		return fail(l, e, &line, ERR_TOO_BIG, "there is no memory for it");
	while (!is_end(l)) {
		err = take_line(l, arena, &line);
		if (err)
			return fail(l, e, &line, err, "a line is too long");
		if (!line.text.len)
			break;
		if (line.text.p[0] == '#')
			continue;
		err = add(l, arena, e, &line);
		if (err)
			return err;
	}
	return 0;
}
