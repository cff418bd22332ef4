/*
 * Numbers walk down the tree: into a multipart's parts; into an enclosed message as if its parts were the
 * message part's own; a message or part that is no multipart has the one part 1, itself (RFC 3501
 * section 6.4.5).
 */
#include "common/proto/section.h"

#include "common/base/num.h"

static int parse_kind(struct slice text, enum section_kind *kind_out)
{
	static const struct {
		const char *name;
		enum section_kind kind;
	} rows[] = {
		{"", SECTION_ALL},
		{"HEADER", SECTION_HEADER},
		{"HEADER.FIELDS", SECTION_HEADER_FIELDS},
		{"HEADER.FIELDS.NOT", SECTION_HEADER_FIELDS_NOT},
		{"TEXT", SECTION_TEXT},
		{"MIME", SECTION_MIME},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (slice_is_str_nocase(text, rows[i].name)) {
			*kind_out = rows[i].kind;
			return 0;
		}
	}
	return ERR_SYNTAX;
}

int section_parse(struct slice text, struct section *section_out)
{
	struct section s = {.kind = SECTION_ALL};
	int err;

	while (text.len && text.p[0] >= '0' && text.p[0] <= '9') {
		ptrdiff_t dot = slice_find(text, '.');
		size_t len = dot < 0 ? text.len : (size_t)dot;

		if (s.count >= SECTION_NUMBERS_MAX ||
			num_parse_u32(slice_sub(text, 0, len), &s.numbers[s.count]) ||
			s.numbers[s.count] == 0)
			return ERR_SYNTAX;
		s.count++;
		text = slice_from(text, len);
		if (text.len == 1)
			return ERR_SYNTAX; /* a dot at the end */
		text = slice_from(text, 1);
	}
	if ((err = parse_kind(text, &s.kind)))
		return err;
	if (s.kind == SECTION_MIME && s.count == 0)
		return ERR_SYNTAX;
	*section_out = s;
	return 0;
}

static const struct mime_part *nth_child(const struct mime_part *p, uint32_t n)
{
	const struct mime_part *child = p->first_child;

	if (n > p->child_count)
		return NULL;
	while (child && --n)
		child = child->next;
	return child;
}

/* The part that the numbers name; NULL: there is none. */
static const struct mime_part *walk(const struct mime_part *root, const struct section *s)
{
	const struct mime_part *in = root, *part = NULL;

	for (size_t i = 0; i < s->count; i++) {
		if (part)
			in = part->kind == MIME_MESSAGE     ? part->first_child
			     : part->kind == MIME_MULTIPART ? part
							    : NULL;
		if (!in)
			return NULL;
		if (in->kind == MIME_MULTIPART)
			part = nth_child(in, s->numbers[i]);
		else
			part = s->numbers[i] == 1 ? in : NULL;
		if (!part)
			return NULL;
	}
	return part ? part : root;
}

static void set_header(struct section_range *r, const struct mime_part *p)
{
	*r = (struct section_range){p->header_at, p->header_len, p};
}

static void set_body(struct section_range *r, const struct mime_part *p)
{
	*r = (struct section_range){mime_body_at(p), p->body_len, p};
}

int section_find(const struct mime_part *root, const struct section *s, struct section_range *range_out)
{
	const struct mime_part *part, *message;

	part = walk(root, s);
	if (!part)
		return ERR_NOT_FOUND;
	message = s->count == 0 ? root : part->kind == MIME_MESSAGE ? part->first_child : NULL;
	switch (s->kind) {
	case SECTION_ALL:
		if (s->count == 0)
			*range_out = (struct section_range){0, mime_body_at(root) + root->body_len, root};
		else
			set_body(range_out, part);
		return 0;
	case SECTION_MIME:
		set_header(range_out, part);
		return 0;
	case SECTION_HEADER:
	case SECTION_HEADER_FIELDS:
	case SECTION_HEADER_FIELDS_NOT:
		if (!message)
			return ERR_NOT_FOUND;
		set_header(range_out, message);
		return 0;
	case SECTION_TEXT:
		if (!message)
			return ERR_NOT_FOUND;
		set_body(range_out, message);
		return 0;
	}
	return ERR_NOT_FOUND;
}
