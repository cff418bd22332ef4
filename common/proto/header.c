/*
 * A field is a line and the lines after it that begin with a blank; the empty line ends the header. All is
 * found by memchr over line feeds, so reading is linear, and every view points into the bytes given.
 */
#include "common/proto/header.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Length of the first line with its line feed. */
static size_t line_length(struct slice s)
{
	const char *end = s.len ? memchr(s.p, '\n', s.len) : NULL;

	return end ? (size_t)(end - s.p) + 1 : s.len;
}

static bool is_empty_line(struct slice s)
{
	return (s.len >= 1 && s.p[0] == '\n') || (s.len >= 2 && s.p[0] == '\r' && s.p[1] == '\n');
}

void header_reader_init(struct header_reader *r, struct slice bytes)
{
	r->rest = bytes;
}

bool header_next(struct header_reader *r, struct header_field *field_out)
{
	size_t len;

	if (r->rest.len == 0 || is_empty_line(r->rest))
		return false;
	len = line_length(r->rest);
	while (len < r->rest.len && is_blank(r->rest.p[len]))
		len += line_length(slice_from(r->rest, len));
	header_split(slice_sub(r->rest, 0, len), field_out);
	r->rest = slice_from(r->rest, len);
	return true;
}

/* Printable ASCII but the colon (RFC 5322 section 2.2). */
static bool is_name(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] < 33 || (unsigned char)s.p[i] > 126)
			return false;
	return s.len > 0;
}

void header_split(struct slice raw, struct header_field *field_out)
{
	ptrdiff_t colon = slice_find(slice_sub(raw, 0, line_length(raw)), ':');
	struct slice name = slice_sub(raw, 0, colon > 0 ? (size_t)colon : 0);

	while (name.len && is_blank(name.p[name.len - 1]))
		name.len--;
	*field_out = (struct header_field){.raw = raw};
	if (!is_name(name))
		return;
	field_out->name = name;
	field_out->value = slice_trim(slice_sub(raw, (size_t)colon + 1, HEADER_FIELD_MAX));
}

size_t header_length(struct slice bytes)
{
	size_t at = 0;

	while (at < bytes.len && !is_empty_line(slice_from(bytes, at)))
		at += line_length(slice_from(bytes, at));
	return at < bytes.len ? at + line_length(slice_from(bytes, at)) : bytes.len;
}

struct slice header_unfold(struct arena *a, struct slice value)
{
	char *copy;
	size_t len = 0;

	if (value.len == 0 || !memchr(value.p, '\n', value.len))
		return value;
	copy = arena_alloc(a, value.len);
	if (!copy)
		return (struct slice){NULL, 0};
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] == '\n' || (value.p[i] == '\r' && i + 1 < value.len && value.p[i + 1] == '\n'))
			continue;
		copy[len++] = value.p[i];
	}
	return slice_of(copy, len);
}

struct slice header_find(struct slice bytes, struct slice name)
{
	struct header_reader r;
	struct header_field field;

	header_reader_init(&r, bytes);
	while (header_next(&r, &field))
		if (slice_is_equal_nocase(field.name, name))
			return field.value.p ? field.value : slice_of("", 0);
	return (struct slice){NULL, 0};
}

static bool is_named(struct slice name, const struct slice *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_is_equal_nocase(name, names[i]))
			return true;
	return false;
}

void header_filter(struct slice bytes, const struct slice *names, size_t count, bool is_not, struct buf *out)
{
	struct header_reader r;
	struct header_field field;

	header_reader_init(&r, bytes);
	while (header_next(&r, &field)) {
		if ((field.name.len && is_named(field.name, names, count)) == is_not)
			continue;
		buf_add_slice(out, field.raw);
		if (field.raw.p[field.raw.len - 1] != '\n')
			buf_add_str(out, "\r\n");
	}
	buf_add_str(out, "\r\n");
}
