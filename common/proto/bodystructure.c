/*
 * The tree is walked with an explicit position: down to the first child, over to the next, up to the parent,
 * where the parent's texts that follow its children are written.
 */
#include "common/proto/bodystructure.h"

#include "common/proto/imap_write.h"

#define NESTED_MAX (MIME_DEPTH_MAX + 8)

static void write_params(const struct content_param *params, struct buf *out)
{
	if (!params) {
		buf_add_str(out, "NIL");
		return;
	}
	buf_add_char(out, '(');
	for (const struct content_param *p = params; p; p = p->next) {
		if (p != params)
			buf_add_char(out, ' ');
		imap_write_string(out, p->name);
		buf_add_char(out, ' ');
		imap_write_string(out, p->value);
	}
	buf_add_char(out, ')');
}

static void write_languages(const struct content_param *list, struct buf *out)
{
	if (!list) {
		buf_add_str(out, "NIL");
		return;
	}
	buf_add_char(out, '(');
	for (const struct content_param *p = list; p; p = p->next) {
		if (p != list)
			buf_add_char(out, ' ');
		imap_write_string(out, p->name);
	}
	buf_add_char(out, ')');
}

/* Disposition, language, location: the end of every body's extension data. */
static void write_extension(const struct mime_part *p, struct buf *out)
{
	buf_add_char(out, ' ');
	if (p->disposition.type.p) {
		buf_add_char(out, '(');
		imap_write_string(out, p->disposition.type);
		buf_add_char(out, ' ');
		write_params(p->disposition.params, out);
		buf_add_char(out, ')');
	} else {
		buf_add_str(out, "NIL");
	}
	buf_add_char(out, ' ');
	write_languages(p->languages, out);
	buf_add_char(out, ' ');
	imap_write_nstring(out, p->location);
}

/* Type to size, which every body but a multipart has. */
static void write_basic(const struct mime_part *p, struct buf *out)
{
	buf_add_char(out, '(');
	imap_write_string(out, p->type.type);
	buf_add_char(out, ' ');
	imap_write_string(out, p->type.subtype);
	buf_add_char(out, ' ');
	write_params(p->type.params, out);
	buf_add_char(out, ' ');
	imap_write_nstring(out, p->id);
	buf_add_char(out, ' ');
	imap_write_nstring(out, p->description);
	buf_add_char(out, ' ');
	imap_write_string(out, p->encoding_text.p ? p->encoding_text : SLICE_LIT("7bit"));
	buf_add_char(out, ' ');
	buf_add_u64(out, p->body_len);
}

/* Texts before the children. */
static int enter(const struct mime_part *p, struct arena *a, struct buf *out)
{
	int err = 0;

	switch (p->kind) {
	case MIME_MULTIPART:
		buf_add_char(out, '(');
		break;
	case MIME_MESSAGE:
		write_basic(p, out);
		buf_add_char(out, ' ');
		err = envelope_write(p->first_child->envelope, a, out);
		buf_add_char(out, ' ');
		break;
	case MIME_LEAF:
		write_basic(p, out);
		break;
	}
	return err;
}

/* Texts behind the children. */
static void leave(const struct mime_part *p, bool is_long, struct buf *out)
{
	if (p->kind == MIME_MULTIPART) {
		buf_add_char(out, ' ');
		imap_write_string(out, p->type.subtype);
		if (is_long) {
			buf_add_char(out, ' ');
			write_params(p->type.params, out);
			write_extension(p, out);
		}
		buf_add_char(out, ')');
		return;
	}
	if (p->kind == MIME_MESSAGE || slice_is_str_nocase(p->type.type, "text")) {
		buf_add_char(out, ' ');
		buf_add_u64(out, p->body_lines);
	}
	if (is_long) {
		buf_add_char(out, ' ');
		imap_write_nstring(out, p->md5);
		write_extension(p, out);
	}
	buf_add_char(out, ')');
}

static int write_tree(const struct mime_part *root, bool is_long, struct arena *a, struct buf *out)
{
	const struct mime_part *p = root;
	int err;

	for (;;) {
		if ((err = enter(p, a, out)))
			return err;
		if (p->first_child) {
			p = p->first_child;
			continue;
		}
		leave(p, is_long, out);
		while (p != root && !p->next) {
			p = p->parent;
			leave(p, is_long, out);
		}
		if (p == root)
			return out->failed ? ERR_TOO_BIG : 0;
		p = p->next;
	}
}

int bodystructure_write(const struct mime_part *root, struct arena *a, struct buf *out)
{
	return write_tree(root, true, a, out);
}

int bodystructure_write_short(const struct mime_part *root, struct arena *a, struct buf *out)
{
	return write_tree(root, false, a, out);
}

/* ---- BODY out of BODYSTRUCTURE ---- */

/* One level of parentheses that is a body. */
struct level {
	bool is_multipart;
	bool is_text;
	bool is_message;
	unsigned fields; /* seen so far; a multipart's children are not counted */
};

/* Length of one string, literal, number or NIL at the start; 0: none. */
static size_t token_length(struct slice s)
{
	size_t n = 0, i = 1;

	if (s.len == 0)
		return 0;
	if (s.p[0] == '"') {
		while (i < s.len && s.p[i] != '"')
			i += s.p[i] == '\\' ? 2 : 1;
		return i < s.len ? i + 1 : 0;
	}
	if (s.p[0] == '{') {
		while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9' && n <= s.len)
			n = n * 10 + (size_t)(s.p[i++] - '0');
		if (s.len - i < 3 || memcmp(s.p + i, "}\r\n", 3) != 0 || n > s.len - i - 3)
			return 0;
		return i + 3 + n;
	}
	for (i = 0; i < s.len && s.p[i] != ' ' && s.p[i] != ')' && s.p[i] != '('; i++)
		;
	return i;
}

/* Length of a parenthesised list that is no body: parameters, envelope, disposition. */
static size_t list_length(struct slice s)
{
	size_t depth = 0, at = 0;

	while (at < s.len) {
		if (s.p[at] == '(') {
			depth++;
			at++;
		} else if (s.p[at] == ')') {
			at++;
			if (--depth == 0)
				return at;
		} else if (s.p[at] == ' ') {
			at++;
		} else {
			size_t n = token_length(slice_from(s, at));

			if (n == 0)
				return 0;
			at += n;
		}
	}
	return 0;
}

/* How many fields of this level BODY shows. */
static unsigned shown_fields(const struct level *l)
{
	if (l->is_multipart)
		return 1;
	return l->is_message ? 10 : l->is_text ? 8 : 7;
}

/* A field that begins with anything but a body: copied if it is shown. 0: malformed. */
static size_t take_field(struct level *l, struct slice s, struct buf *out)
{
	size_t n = s.p[0] == '(' ? list_length(s) : token_length(s);

	if (n == 0)
		return 0;
	if (l->fields == 0 && !l->is_multipart)
		l->is_text = slice_is_str_nocase(slice_sub(s, 0, n), "\"text\"");
	if (l->fields == 0 && !l->is_multipart)
		l->is_message = slice_is_str_nocase(slice_sub(s, 0, n), "\"message\"");
	if (l->fields == 1)
		l->is_message = l->is_message && slice_is_str_nocase(slice_sub(s, 0, n), "\"rfc822\"");
	if (l->fields < shown_fields(l)) {
		if (l->fields || l->is_multipart)
			buf_add_char(out, ' ');
		buf_add_slice(out, slice_sub(s, 0, n));
	}
	l->fields++;
	return n;
}

/* True where the next '(' opens a body: the text's start, a multipart's child, the body in a message. */
static bool is_body_next(const struct level *l)
{
	return (l->fields == 0) || (!l->is_multipart && l->is_message && l->fields == 8);
}

static int shorten(struct slice s, struct buf *out)
{
	struct level levels[NESTED_MAX];
	size_t depth = 0, at = 0;

	do {
		struct level *l = depth ? &levels[depth - 1] : NULL;
		struct slice rest = slice_from(s, at);

		if (rest.len == 0)
			return ERR_CORRUPT;
		if (rest.p[0] == '(' && (!l || is_body_next(l))) {
			if (depth == NESTED_MAX)
				return ERR_CORRUPT;
			if (l && l->fields == 8) {
				l->fields++;
				buf_add_char(out, ' ');
			} else if (l) {
				l->is_multipart = true;
			}
			levels[depth++] = (struct level){0};
			buf_add_char(out, '(');
			at++;
		} else if (!l) {
			return ERR_CORRUPT;
		} else if (rest.p[0] == ')') {
			if (l->fields < shown_fields(l))
				return ERR_CORRUPT;
			buf_add_char(out, ')');
			depth--;
			at++;
		} else if (rest.p[0] == ' ') {
			at++;
		} else {
			size_t n = take_field(l, rest, out);

			if (n == 0)
				return ERR_CORRUPT;
			at += n;
		}
	} while (depth);
	return at == s.len ? 0 : ERR_CORRUPT;
}

int bodystructure_shorten(struct slice bodystructure, struct buf *out)
{
	size_t len = buf_len(out);
	int err = shorten(bodystructure, out);

	if (err)
		buf_cut(out, len);
	else if (out->failed)
		err = ERR_TOO_BIG;
	return err;
}
