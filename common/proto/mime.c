/*
 * The parser sees lines. Of a body line only the beginning is kept, and only when it begins with "--", because
 * that alone can be a boundary; of a header the field that is just being read is kept.
 *
 *	open[]: the multiparts that are open, outermost first       cur: the part whose header or body is read
 *
 *	message (multipart a)            open[0]
 *	  part 1
 *	  part 2: message/rfc822
 *	    message (multipart b)        open[1]
 *	      part 1  <- cur
 *
 * A boundary of open[i] closes everything from cur up to, not including, that multipart. The line end before a
 * boundary belongs to the boundary (RFC 2046 section 5.1.1).
 */
#include "common/proto/mime.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/table.h"
#include "common/proto/header.h"
#include "common/proto/transfer.h"

/* "--", boundary, "--", and some blanks. */
#define HEAD_MAX (MIME_BOUNDARY_MAX + 64)
/* A field buffer that grew beyond this is given back after the field. */
#define FIELD_KEPT 65536

struct open_part {
	struct mime_part *part;
	struct slice boundary;
	uint64_t hash;
};

struct mime_parser {
	struct arena *arena;
	struct mime_part *root;
	struct mime_part *cur;
	bool is_in_header;
	bool is_cut;
	bool is_ended;
	size_t part_count;

	struct open_part open[MIME_DEPTH_MAX];
	size_t open_count;

	uint64_t at;         /* bytes taken so far */
	uint64_t lines;      /* line ends so far */
	uint64_t line_at;    /* where the current line begins */
	unsigned eol_before; /* length of the line end right before it */
	uint64_t part_lines; /* lines when cur's header began */

	char last;         /* last byte of the line so far */
	bool is_candidate; /* the line begins as a boundary does, or may yet */
	char head[HEAD_MAX];
	size_t head_len; /* HEAD_MAX + 1: longer than any boundary */

	struct buf field;    /* raw header field so far */
	size_t headers_used; /* bytes of all headers, against HEADER_ALL_MAX */
};

static const struct content_param charset_us_ascii = {
	.name = {"charset", 7},
	.value = {"us-ascii", 8},
};

static struct mime_part *new_part(struct mime_parser *p, struct mime_part *parent)
{
	struct mime_part *part;

	if (p->part_count >= MIME_PARTS_MAX || (parent && parent->depth >= MIME_DEPTH_MAX))
		return NULL;
	part = arena_calloc(p->arena, 1, sizeof(*part));
	if (!part)
		return NULL;
	part->parent = parent;
	part->depth = parent ? parent->depth + 1 : 1;
	if (!parent || parent->kind == MIME_MESSAGE) {
		part->envelope = arena_calloc(p->arena, 1, sizeof(*part->envelope));
		if (!part->envelope)
			return NULL;
	}
	p->part_count++;
	if (!parent)
		return part;
	if (parent->last_child)
		parent->last_child->next = part;
	else
		parent->first_child = part;
	parent->last_child = part;
	parent->child_count++;
	return part;
}

/* The header of `part` begins at the given place. */
static void begin_header(struct mime_parser *p, struct mime_part *part, uint64_t at, uint64_t lines)
{
	part->header_at = at;
	p->part_lines = lines;
	p->cur = part;
	p->is_in_header = true;
}

struct mime_parser *mime_parser_new(struct arena *a)
{
	struct mime_parser *p = xcalloc(1, sizeof(*p));

	p->arena = a;
	p->root = new_part(p, NULL);
	if (!p->root) {
		free(p);
		return NULL;
	}
	begin_header(p, p->root, 0, 0);
	return p;
}

/* ---- header fields ---- */

static bool is_first(const struct content_value *v)
{
	return v->type.p == NULL;
}

static void keep_text(struct mime_parser *p, struct slice *to, struct slice value)
{
	struct slice kept;

	if (to->p || !value.len)
		return;
	value = slice_sub(value, 0, ENVELOPE_FIELD_MAX);
	kept = header_unfold(p->arena, value);
	*to = kept.p == value.p ? arena_copy(p->arena, value) : kept;
	p->is_cut |= !to->p;
}

static void take_content_field(struct mime_parser *p, struct slice name, struct slice value)
{
	struct mime_part *part = p->cur;
	int err = 0;

	value = slice_sub(value, 0, ENVELOPE_FIELD_MAX);
	if (slice_is_str_nocase(name, "Content-Type")) {
		if (!part->has_type)
			err = content_parse_type(p->arena, value, &part->type);
		part->has_type |= part->type.type.p != NULL;
	} else if (slice_is_str_nocase(name, "Content-Transfer-Encoding")) {
		if (!part->encoding_text.p)
			part->encoding_text = content_parse_token(p->arena, value);
	} else if (slice_is_str_nocase(name, "Content-Disposition")) {
		if (is_first(&part->disposition))
			err = content_parse_disposition(p->arena, value, &part->disposition);
	} else if (slice_is_str_nocase(name, "Content-Language")) {
		if (!part->languages)
			err = content_parse_tokens(p->arena, value, &part->languages);
	} else if (slice_is_str_nocase(name, "Content-ID")) {
		keep_text(p, &part->id, value);
	} else if (slice_is_str_nocase(name, "Content-Description")) {
		keep_text(p, &part->description, value);
	} else if (slice_is_str_nocase(name, "Content-MD5")) {
		keep_text(p, &part->md5, value);
	} else if (slice_is_str_nocase(name, "Content-Location")) {
		keep_text(p, &part->location, value);
	}
	p->is_cut |= err != 0;
}

/* The field in the buffer is whole. */
static void end_field(struct mime_parser *p)
{
	struct header_field field;

	if (buf_len(&p->field) == 0)
		return;
	header_split(buf_view(&p->field), &field);
	if (slice_has_prefix_nocase(field.name, "Content-"))
		take_content_field(p, field.name, field.value);
	else if (p->cur->envelope && field.name.len)
		p->is_cut |= envelope_take_field(p->cur->envelope, p->arena, field.name, field.value) != 0;
	if (p->field.cap > FIELD_KEPT)
		buf_deinit(&p->field);
	buf_clear(&p->field);
}

static void keep_header_bytes(struct mime_parser *p, struct slice bytes)
{
	size_t room = HEADER_FIELD_MAX - buf_len(&p->field);

	if (room > HEADER_ALL_MAX - p->headers_used)
		room = HEADER_ALL_MAX - p->headers_used;
	if (bytes.len > room) {
		p->is_cut = true;
		bytes.len = room;
	}
	buf_add_slice(&p->field, bytes);
	p->headers_used += bytes.len;
}

/* ---- the end of a header ---- */

static bool is_type(const struct mime_part *part, const char *type, const char *subtype)
{
	return slice_is_str_nocase(part->type.type, type) &&
	       (!subtype || slice_is_str_nocase(part->type.subtype, subtype));
}

static void set_plain(struct mime_part *part)
{
	part->type = (struct content_value){.type = SLICE_LIT("text"), .subtype = SLICE_LIT("plain")};
	part->type.params = (struct content_param *)(void *)&charset_us_ascii;
	part->has_type = false;
}

/*
 * A multipart or message that was not opened, or in which no part was found, is plain text: so everything in
 * it can be seen, and a multipart always has a part.
 */
static void settle_kind(struct mime_part *part)
{
	if (part->kind == MIME_MULTIPART && part->child_count == 0)
		part->kind = MIME_LEAF;
	if (part->kind == MIME_LEAF &&
		(is_type(part, "multipart", NULL) || is_type(part, "message", "rfc822")))
		set_plain(part);
}

/* What RFC 2045 section 5.2 and RFC 2046 section 5.1.5 say of a part without a type. */
static void set_defaults(struct mime_part *part)
{
	bool is_in_digest = part->parent && part->parent->kind == MIME_MULTIPART &&
			    is_type(part->parent, "multipart", "digest");

	part->encoding = transfer_encoding(part->encoding_text);
	if (part->has_type)
		return;
	set_plain(part);
	if (is_in_digest)
		part->type =
			(struct content_value){.type = SLICE_LIT("message"), .subtype = SLICE_LIT("rfc822")};
}

/* A multipart is opened if it has a usable boundary. */
static bool open_multipart(struct mime_parser *p)
{
	struct slice boundary = content_param(p->cur->type.params, "boundary");

	while (boundary.len && (boundary.p[boundary.len - 1] == ' ' || boundary.p[boundary.len - 1] == '\t'))
		boundary.len--;
	if (boundary.len == 0 || boundary.len > MIME_BOUNDARY_MAX || p->open_count >= MIME_DEPTH_MAX ||
		p->cur->depth >= MIME_DEPTH_MAX)
		return false;
	p->cur->kind = MIME_MULTIPART;
	p->open[p->open_count++] = (struct open_part){p->cur, boundary, hash_bytes(boundary, 0)};
	return true;
}

/* Message in a message: its header begins where the body of cur does. */
static void open_message(struct mime_parser *p, uint64_t at, uint64_t lines)
{
	struct mime_part *child;

	p->cur->kind = MIME_MESSAGE;
	child = new_part(p, p->cur);
	if (child) {
		begin_header(p, child, at, lines);
	} else {
		p->cur->kind = MIME_LEAF;
		p->is_cut = true;
	}
}

static void end_header(struct mime_parser *p, uint64_t at, uint64_t lines)
{
	struct mime_part *part = p->cur;

	end_field(p);
	part->header_len = at - part->header_at;
	part->header_lines = lines - p->part_lines;
	/* Until the part is closed this holds the count at its start. */
	part->body_lines = lines;
	set_defaults(part);
	p->is_in_header = false;
	if (is_type(part, "multipart", NULL)) {
		if (!open_multipart(p) && part->depth >= MIME_DEPTH_MAX)
			p->is_cut = true;
	} else if (is_type(part, "message", "rfc822")) {
		open_message(p, at, lines);
	}
}

/* ---- the end of parts ---- */

/* Closes cur and its parents up to, not including, `until` (NULL: all). The line at `at` belongs to none of
 * them. */
static void close_parts(struct mime_parser *p, const struct mime_part *until, uint64_t at, unsigned eol)
{
	uint64_t least = 0;

	if (p->is_in_header) {
		struct mime_part *part = p->cur;

		/* A header that no empty line ended has no body, and opens nothing. */
		end_field(p);
		part->header_len = at - part->header_at;
		part->header_lines = p->lines - p->part_lines;
		part->body_lines = p->lines;
		set_defaults(part);
		p->is_in_header = false;
	}
	for (struct mime_part *part = p->cur; part != until; part = part->parent) {
		uint64_t body_at = mime_body_at(part), end = at - eol, lines = p->lines - (eol ? 1 : 0);

		if (end < body_at || end < least) {
			end = body_at > least ? body_at : least;
			lines = p->lines;
		}
		part->body_len = end - body_at;
		part->body_lines = lines > part->body_lines ? lines - part->body_lines : 0;
		settle_kind(part);
		least = end;
		p->cur = part->parent;
	}
}

/* ---- boundaries ---- */

static ptrdiff_t find_open(const struct mime_parser *p, struct slice text)
{
	uint64_t hash = hash_bytes(text, 0);

	for (size_t i = p->open_count; i-- > 0;)
		if (p->open[i].hash == hash && slice_is_equal(p->open[i].boundary, text))
			return (ptrdiff_t)i;
	return -1;
}

/* True when the line is a boundary of an open multipart, and then it is dealt with. */
static bool take_boundary(struct mime_parser *p)
{
	struct slice text = slice_of(p->head + 2, p->head_len - 2);
	struct mime_part *part;
	ptrdiff_t at;
	bool is_close = false;

	while (text.len && strchr(" \t\r\n", text.p[text.len - 1]) && text.p[text.len - 1])
		text.len--;
	at = find_open(p, text);
	if (at < 0 && text.len > 2 && memcmp(text.p + text.len - 2, "--", 2) == 0) {
		is_close = true;
		at = find_open(p, slice_sub(text, 0, text.len - 2));
	}
	if (at < 0)
		return false;
	if (!is_close && p->part_count >= MIME_PARTS_MAX) {
		p->is_cut = true;
		return false;
	}
	buf_clear(&p->field);
	close_parts(p, p->open[at].part, p->line_at, p->eol_before);
	p->open_count = (size_t)at + (is_close ? 0 : 1);
	if (is_close)
		return true;
	part = new_part(p, p->cur);
	if (part)
		begin_header(p, part, p->at, p->lines + 1);
	else
		p->is_cut = true;
	return true;
}

/* ---- lines ---- */

static void end_line(struct mime_parser *p, unsigned eol)
{
	bool is_blank = p->at - p->line_at == eol;

	if (p->is_candidate && p->head_len > 2 && p->head_len <= HEAD_MAX && p->open_count &&
		take_boundary(p)) {
		p->lines += eol ? 1 : 0;
	} else {
		p->lines += eol ? 1 : 0;
		if (p->is_in_header && is_blank && eol) {
			buf_clear(&p->field);
			end_header(p, p->at, p->lines);
		}
	}
	p->line_at = p->at;
	p->eol_before = eol;
	p->is_candidate = true;
	p->head_len = 0;
}

/* A boundary can only be a line whose first two bytes are "--". */
static void keep_head(struct mime_parser *p, struct slice piece)
{
	size_t n = piece.len;

	if (n > HEAD_MAX - p->head_len) {
		p->is_candidate = false;
		return;
	}
	memcpy(p->head + p->head_len, piece.p, n);
	p->head_len += n;
	if (p->head[0] != '-' || (p->head_len > 1 && p->head[1] != '-'))
		p->is_candidate = false;
}

/* Bytes of one line; the last piece of it ends with the line feed. */
static void take_piece(struct mime_parser *p, struct slice piece)
{
	bool is_begin = p->at == p->line_at, is_end = piece.p[piece.len - 1] == '\n';
	char before = piece.len > 1 ? piece.p[piece.len - 2] : is_begin ? '\0' : p->last;

	if (is_begin)
		p->is_candidate = p->open_count > 0 && piece.p[0] == '-';
	if (p->is_candidate)
		keep_head(p, piece);
	if (p->is_in_header) {
		if (is_begin && piece.p[0] != ' ' && piece.p[0] != '\t')
			end_field(p);
		keep_header_bytes(p, piece);
	}
	p->last = piece.p[piece.len - 1];
	p->at += piece.len;
	if (is_end)
		end_line(p, before == '\r' ? 2 : 1);
}

void mime_parser_feed(struct mime_parser *p, struct slice bytes)
{
	require(!p->is_ended);
	while (bytes.len) {
		const char *end = memchr(bytes.p, '\n', bytes.len);
		size_t n = end ? (size_t)(end - bytes.p) + 1 : bytes.len;

		take_piece(p, slice_sub(bytes, 0, n));
		bytes = slice_from(bytes, n);
	}
}

struct mime_part *mime_parser_end(struct mime_parser *p)
{
	require(!p->is_ended);
	if (p->at > p->line_at)
		end_line(p, 0);
	close_parts(p, NULL, p->at, 0);
	p->is_ended = true;
	return p->root;
}

bool mime_parser_is_cut(const struct mime_parser *p)
{
	return p->is_cut;
}

void mime_parser_free(struct mime_parser **p)
{
	if (!*p)
		return;
	buf_deinit(&(*p)->field);
	free(*p);
	*p = NULL;
}

struct mime_part *mime_parse(struct arena *a, struct slice message)
{
	struct mime_parser *p = mime_parser_new(a);
	struct mime_part *root;

	if (!p)
		return NULL;
	mime_parser_feed(p, message);
	root = mime_parser_end(p);
	mime_parser_free(&p);
	return root;
}

struct mime_part *mime_next(const struct mime_part *root, const struct mime_part *p)
{
	if (p->first_child)
		return p->first_child;
	for (; p != root; p = p->parent)
		if (p->next)
			return p->next;
	return NULL;
}
