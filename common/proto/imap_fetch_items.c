/*
 * The parser cuts BODY[HEADER.FIELDS (FROM TO)]<0.10> to an atom, a list and a glued atom; they are joined
 * here. The label of the response is written by imap_write, so that no field name can break out of it
 * (security class 4).
 */
#include "common/proto/imap_fetch_items.h"

#include "common/base/num.h"
#include "common/proto/imap_write.h"

static const struct {
	const char *word;
	unsigned items;
} words[] = {
	{"UID", IMAP_FETCH_UID},
	{"FLAGS", IMAP_FETCH_FLAGS},
	{"INTERNALDATE", IMAP_FETCH_INTERNALDATE},
	{"RFC822.SIZE", IMAP_FETCH_SIZE},
	{"MODSEQ", IMAP_FETCH_MODSEQ},
	{"ENVELOPE", IMAP_FETCH_ENVELOPE},
	{"BODY", IMAP_FETCH_BODY},
	{"BODYSTRUCTURE", IMAP_FETCH_BODYSTRUCTURE},
	{"SAVEDATE", IMAP_FETCH_SAVEDATE},
	{"EMAILID", IMAP_FETCH_EMAILID},
	{"THREADID", IMAP_FETCH_THREADID},
};

static const struct {
	const char *word;
	unsigned items;
} macros[] = {
	{"FAST", IMAP_FETCH_FLAGS | IMAP_FETCH_INTERNALDATE | IMAP_FETCH_SIZE},
	{"ALL", IMAP_FETCH_FLAGS | IMAP_FETCH_INTERNALDATE | IMAP_FETCH_SIZE | IMAP_FETCH_ENVELOPE},
	{"FULL", IMAP_FETCH_FLAGS | IMAP_FETCH_INTERNALDATE | IMAP_FETCH_SIZE | IMAP_FETCH_ENVELOPE |
			 IMAP_FETCH_BODY},
};

static const struct {
	const char *word;
	enum section_kind kind;
	bool is_peek;
} old_bodies[] = {
	{"RFC822", SECTION_ALL, false},
	{"RFC822.HEADER", SECTION_HEADER, true},
	{"RFC822.TEXT", SECTION_TEXT, false},
};

static const struct prefix {
	const char *word;
	const char *label;
	bool is_peek, is_binary, is_size;
} prefixes[] = {
	{"BODY[", "BODY[", false, false, false},
	{"BODY.PEEK[", "BODY[", true, false, false},
	{"BINARY[", "BINARY[", false, true, false},
	{"BINARY.PEEK[", "BINARY[", true, true, false},
	{"BINARY.SIZE[", "BINARY.SIZE[", true, true, true},
};

struct reader {
	struct arena *arena;
	struct imap_fetch_items items;
	struct imap_fetch_body **tail;
};

static struct imap_fetch_body *add_body(struct reader *r)
{
	struct imap_fetch_body *body = arena_calloc(r->arena, 1, sizeof(*body));

	if (!body)
		return NULL;
	*r->tail = body;
	r->tail = &body->next;
	return body;
}

/* "<from.length>" or nothing. */
static int read_partial(struct imap_fetch_body *body, struct slice text)
{
	ptrdiff_t dot;

	if (text.len == 0)
		return 0;
	dot = slice_find(text, '.');
	if (text.len < 5 || dot < 0 || text.p[0] != '<' || text.p[text.len - 1] != '>')
		return ERR_SYNTAX;
	if (num_parse_u64(slice_sub(text, 1, (size_t)dot - 1), &body->from) < 0 ||
		num_parse_u64(slice_sub(text, (size_t)dot + 1, text.len - (size_t)dot - 2), &body->length) <
			0)
		return ERR_SYNTAX;
	if (body->length == 0 || body->length > INT64_MAX || body->from > INT64_MAX)
		return ERR_SYNTAX;
	body->is_partial = true;
	return 0;
}

static int read_names(struct reader *r, struct imap_fetch_body *body, const struct imap_arg *list)
{
	size_t count = 0;

	for (const struct imap_arg *a = list->first; a; a = a->next)
		count++;
	if (count == 0)
		return ERR_SYNTAX;
	body->names = arena_calloc(r->arena, count, sizeof(*body->names));
	if (!body->names)
		return ERR_TOO_BIG;
	for (const struct imap_arg *a = list->first; a; a = a->next) {
		if (imap_parse_astring(a, &body->names[body->name_count++]) < 0)
			return ERR_SYNTAX;
	}
	return 0;
}

static int write_label(
	struct reader *r, struct imap_fetch_body *body, const struct prefix *prefix, struct slice section)
{
	struct buf b = {0};

	buf_add_str(&b, prefix->label);
	for (size_t i = 0; i < section.len; i++)
		buf_add_char(&b, ascii_upper(section.p[i]));
	for (size_t i = 0; i < body->name_count; i++) {
		buf_add_str(&b, i ? " " : " (");
		imap_write_astring(&b, body->names[i]);
	}
	buf_add_str(&b, body->name_count ? ")]" : "]");
	if (body->is_partial)
		buf_printf(&b, "<%llu>", (unsigned long long)body->from);
	body->label = arena_copy(r->arena, buf_view(&b));
	buf_deinit(&b);
	return body->label.p ? 0 : ERR_TOO_BIG;
}

/* text begins with the prefix; *arg moves over the list and what is glued to it. */
static int read_section(
	struct reader *r, struct slice text, const struct prefix *prefix, const struct imap_arg **arg)
{
	struct imap_fetch_body *body = add_body(r);
	struct slice inner = slice_from(text, strlen(prefix->word));
	ptrdiff_t end = slice_find(inner, ']');
	struct slice section = slice_sub(inner, 0, end < 0 ? inner.len : (size_t)end);
	struct slice rest = slice_from(inner, section.len + 1);
	const struct imap_arg *list = (*arg)->next;
	bool has_names;
	int err;

	if (!body)
		return ERR_TOO_BIG;
	body->is_peek = prefix->is_peek;
	body->is_binary = prefix->is_binary;
	body->is_size = prefix->is_size;
	err = section_parse(section, &body->section);
	if (err == 0 && body->is_binary && body->section.kind != SECTION_ALL)
		err = ERR_SYNTAX;
	if (err < 0)
		return err;
	has_names = body->section.kind == SECTION_HEADER_FIELDS ||
		    body->section.kind == SECTION_HEADER_FIELDS_NOT;
	if (has_names != (end < 0))
		return ERR_SYNTAX;
	if (has_names) {
		if (!list || list->type != IMAP_ARG_LIST || !list->next || !list->next->is_glued)
			return ERR_SYNTAX;
		err = read_names(r, body, list);
		if (err < 0)
			return err;
		*arg = list->next;
		rest = slice_from(list->next->text, 1);
	}
	err = read_partial(body, rest);
	if (err < 0 || (body->is_size && body->is_partial))
		return err < 0 ? err : ERR_SYNTAX;
	r->items.sets_seen |= !body->is_peek;
	return write_label(r, body, prefix, section);
}

static int read_old_body(struct reader *r, const struct imap_arg *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(old_bodies); i++) {
		struct imap_fetch_body *body;

		if (!imap_parse_is_word(arg, old_bodies[i].word))
			continue;
		body = add_body(r);
		if (!body)
			return ERR_TOO_BIG;
		body->section.kind = old_bodies[i].kind;
		body->label = slice_str(old_bodies[i].word);
		body->is_peek = old_bodies[i].is_peek;
		r->items.sets_seen |= !body->is_peek;
		return 0;
	}
	return ERR_SYNTAX;
}

bool imap_fetch_items_is_lazy(const struct imap_arg *list)
{
	if (!list || list->type != IMAP_ARG_LIST || !list->first)
		return false;
	for (const struct imap_arg *a = list->first; a; a = a->next) {
		if (!imap_parse_is_word(a, "LAZY"))
			return false;
	}
	return true;
}

/* PREVIEW (LAZY); LAZY counts if every PREVIEW has it. */
static void read_preview(struct reader *r, const struct imap_arg **arg)
{
	bool is_lazy = imap_fetch_items_is_lazy((*arg)->next);

	if (is_lazy)
		*arg = (*arg)->next;
	if (!(r->items.items & IMAP_FETCH_PREVIEW))
		r->items.items |= IMAP_FETCH_PREVIEW | (is_lazy ? IMAP_FETCH_LAZY : 0);
	else if (!is_lazy)
		r->items.items &= ~(unsigned)IMAP_FETCH_LAZY;
}

static int read_item(struct reader *r, const struct imap_arg **arg)
{
	struct slice text;

	if (imap_parse_atom(*arg, &text) < 0 || (*arg)->is_glued)
		return ERR_SYNTAX;
	if (imap_parse_is_word(*arg, "PREVIEW")) {
		read_preview(r, arg);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_is_str_nocase(text, words[i].word)) {
			r->items.items |= words[i].items;
			return 0;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		if (slice_has_prefix_nocase(text, prefixes[i].word))
			return read_section(r, text, &prefixes[i], arg);
	}
	return read_old_body(r, *arg);
}

static bool read_macro(struct reader *r, const struct imap_arg *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
		if (imap_parse_is_word(arg, macros[i].word)) {
			r->items.items = macros[i].items;
			return true;
		}
	}
	return false;
}

int imap_fetch_items_parse(
	const struct imap_arg *arg, struct arena *arena, struct imap_fetch_items *items_out)
{
	struct reader r = {.arena = arena};
	const struct imap_arg *at = arg;
	int err = 0;

	r.tail = &r.items.bodies;
	if (!arg)
		return ERR_SYNTAX;
	if (arg->type == IMAP_ARG_LIST) {
		at = arg->first;
		if (!at || (arg->next && arg->next->is_glued))
			return ERR_SYNTAX;
		for (; at && err == 0; at = at ? at->next : NULL)
			err = read_item(&r, &at);
	} else if (!read_macro(&r, arg)) {
		err = read_item(&r, &at);
	}
	if (err < 0)
		return err;
	*items_out = r.items;
	return 0;
}
