/*
 * The header as a list of fields, and what stages change of it and of the envelope. The fields are views of the octets as they came, or
 * of texts in the content's arena, so that what nobody touches leaves octet by octet as it was.
 *
 * What was put before the client's first octet is counted apart (`prefix`): a message that has got nothing else needs no digest.
 */
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/front/smtp_content_inner.h"

static int grow(struct smtp_content *c)
{
	if (c->field_count >= SMTP_CONTENT_FIELDS_MOST + SMTP_CONTENT_EDITS_MOST)
		return ERR_TOO_BIG;
	if (c->field_count < c->field_room)
		return 0;
	c->field_room = c->field_room ? c->field_room * 2 : 32;
	c->fields = xreallocarray(c->fields, c->field_room, sizeof(*c->fields));
	return 0;
}

int smtp_content_split(struct smtp_content *c)
{
	struct header_reader r;
	struct header_field field;

	header_reader_init(&r, buf_view(&c->header));
	while (header_next(&r, &field)) {
		if (c->field_count == SMTP_CONTENT_FIELDS_MOST || field.raw.len > HEADER_FIELD_MAX || grow(c))
			return ERR_TOO_BIG;
		c->fields[c->field_count++] = field;
	}
	c->has_empty_line = r.rest.len > 0;
	return 0;
}

size_t smtp_content_field_count(const struct smtp_content *c)
{
	return c->field_count;
}

const struct header_field *smtp_content_field(const struct smtp_content *c, size_t i)
{
	require(i < c->field_count);
	return &c->fields[i];
}

size_t smtp_content_find(const struct smtp_content *c, struct slice name, size_t n)
{
	size_t i = 0;

	for (; i < c->field_count; i++) {
		if (c->fields[i].name.len && slice_is_equal_nocase(c->fields[i].name, name) && n-- == 0)
			break;
	}
	return i;
}

/* ---- writing a field ---- */

static bool is_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.p[i] <= ' ' || name.p[i] >= 127 || name.p[i] == ':')
			return false;
	}
	return name.len > 0 && name.len < 256;
}

/* A line end may stand only before a blank, and no line may be of blanks alone: it would look like the header's end to some. */
static int add_value(struct buf *out, struct slice value)
{
	bool is_blank_line = true;

	for (size_t i = 0; i < value.len; i++) {
		char ch = value.p[i];

		if (ch == '\r' && i + 1 < value.len && value.p[i + 1] == '\n')
			continue;
		if (ch == '\n') {
			bool is_folded =
				i + 1 < value.len && (value.p[i + 1] == ' ' || value.p[i + 1] == '\t');

			/* The name stands in the first line: that one is never blank. */
			if (!is_folded || (is_blank_line && memchr(value.p, '\n', i)))
				return ERR_SYNTAX;
			buf_add_str(out, "\r\n");
			is_blank_line = true;
			continue;
		}
		if (ch == '\r' || ch == 0)
			return ERR_SYNTAX;
		if (ch != ' ' && ch != '\t')
			is_blank_line = false;
		buf_add_char(out, ch);
	}
	return is_blank_line && value.len && memchr(value.p, '\n', value.len) ? ERR_SYNTAX : 0;
}

/* The raw field in the arena. */
static int write_field(
	struct smtp_content *c, struct slice name, struct slice value, struct header_field *field_out)
{
	struct buf out = {0};
	struct slice raw = {0};
	int err = is_name(name) ? 0 : ERR_SYNTAX;

	if (!err && (value.len > HEADER_FIELD_MAX || c->edits >= SMTP_CONTENT_EDITS_MOST))
		err = ERR_TOO_BIG;
	if (!err) {
		buf_add_slice(&out, name);
		buf_add_str(&out, ": ");
		err = add_value(&out, slice_trim(value));
		buf_add_str(&out, "\r\n");
	}
	if (!err)
		raw = arena_copy(&c->texts, buf_view(&out));
	buf_deinit(&out);
	if (!err && !raw.p)
		err = ERR_TOO_BIG;
	if (err)
		return err;
	c->edits++;
	header_split(raw, field_out);
	return 0;
}

/* Behind i fields that are ours and count as prefix. */
static int insert(struct smtp_content *c, size_t i, bool is_prefix, struct slice name, struct slice value)
{
	struct header_field field;
	int err = write_field(c, name, value, &field);

	if (!err)
		err = grow(c);
	if (err)
		return err;
	if (i > c->field_count)
		i = c->field_count;
	memmove(&c->fields[i + 1], &c->fields[i], (c->field_count - i) * sizeof(*c->fields));
	c->fields[i] = field;
	c->field_count++;
	if (is_prefix)
		c->prefix += field.raw.len;
	else
		c->is_edited = true;
	return 0;
}

int smtp_content_insert(struct smtp_content *c, size_t i, struct slice name, struct slice value)
{
	return insert(c, i, i == 0, name, value);
}

int smtp_content_insert_first(struct smtp_content *c, size_t i, struct slice name, struct slice value)
{
	return insert(c, i, true, name, value);
}

int smtp_content_change(struct smtp_content *c, size_t i, struct slice value)
{
	struct header_field field;
	int err;

	require(i < c->field_count);
	err = write_field(c, c->fields[i].name, value, &field);
	if (err)
		return err;
	c->fields[i] = field;
	c->is_edited = true;
	return 0;
}

void smtp_content_delete(struct smtp_content *c, size_t i)
{
	require(i < c->field_count);
	memmove(&c->fields[i], &c->fields[i + 1], (c->field_count - i - 1) * sizeof(*c->fields));
	c->field_count--;
	c->is_edited = true;
}

void smtp_content_set_body(struct smtp_content *c, struct spool *body_take)
{
	spool_free(&c->body);
	c->body = body_take;
	c->is_edited = true;
}

/* ---- the envelope ---- */

char *smtp_content_copy_texts(struct slice *const *texts, size_t count)
{
	size_t size = count;
	char *whole, *at;

	for (size_t i = 0; i < count; i++)
		size += texts[i]->len;
	at = whole = xcalloc(1, size);
	for (size_t i = 0; i < count; i++) {
		if (texts[i]->len)
			memcpy(at, texts[i]->p, texts[i]->len);
		texts[i]->p = at;
		at += texts[i]->len + 1;
	}
	return whole;
}

int smtp_content_parse_path(struct slice address, struct smtp_path *path_out, char **text_out)
{
	struct smtp_path path = {0};
	struct slice *const texts[] = {&path.local, &path.domain, &path.address};
	struct buf text = {0};
	struct arena arena;
	ssize_t n;

	arena_init(&arena, 4 * SMTP_PATH_MOST);
	buf_add_char(&text, '<');
	buf_add_slice(&text, address);
	buf_add_char(&text, '>');
	n = smtp_parse_path(&arena, buf_view(&text), &path);
	if (n == (ssize_t)buf_len(&text)) {
		*text_out = smtp_content_copy_texts(texts, ARRAY_LEN(texts));
		*path_out = path;
	}
	n -= (ssize_t)buf_len(&text);
	arena_deinit(&arena);
	buf_deinit(&text);
	return n == 0 ? 0 : ERR_SYNTAX;
}

struct smtp_content_recipient *smtp_content_new_recipient(struct smtp_content *c)
{
	struct smtp_content_recipient *r;

	if (c->recipient_count == c->recipient_room) {
		c->recipient_room = c->recipient_room ? c->recipient_room * 2 : 4;
		c->recipients = xreallocarray(c->recipients, c->recipient_room, sizeof(*c->recipients));
	}
	r = &c->recipients[c->recipient_count++];
	*r = (struct smtp_content_recipient){0};
	return r;
}

int smtp_content_set_sender(struct smtp_content *c, struct slice address)
{
	struct smtp_path path;
	char *text;
	int err = smtp_content_parse_path(address, &path, &text);

	if (err)
		return err;
	if (path.is_utf8 && !c->mail.is_utf8) {
		free(text);
		return ERR_SYNTAX;
	}
	free(c->sender_text);
	c->sender_text = text;
	c->mail.path = path;
	c->is_envelope_new = true;
	return 0;
}

static bool is_present(const struct smtp_content_recipient *r)
{
	return (r->is_accepted || r->is_added) && !r->is_removed;
}

static struct smtp_content_recipient *find_recipient(struct smtp_content *c, const struct smtp_path *path)
{
	for (size_t i = 0; i < c->recipient_count; i++) {
		struct smtp_content_recipient *r = &c->recipients[i];

		if (is_present(r) && slice_is_equal(r->rcpt.path.local, path->local) &&
			slice_is_equal_nocase(r->rcpt.path.domain, path->domain))
			return r;
	}
	return NULL;
}

int smtp_content_add_recipient(struct smtp_content *c, struct slice address)
{
	struct smtp_content_recipient *r;
	struct smtp_path path;
	char *text;
	int err = smtp_content_parse_path(address, &path, &text);

	if (err)
		return err;
	err = path.is_null || (path.is_utf8 && !c->mail.is_utf8) ? ERR_SYNTAX
	      : c->added >= SMTP_CONTENT_RECIPIENTS_MOST         ? ERR_TOO_BIG
								 : 0;
	if (err || find_recipient(c, &path)) {
		free(text);
		return err;
	}
	r = smtp_content_new_recipient(c);
	r->rcpt.path = path;
	r->text = text;
	r->is_added = true;
	c->added++;
	return 0;
}

int smtp_content_remove_recipient(struct smtp_content *c, struct slice address)
{
	struct smtp_content_recipient *r;
	struct smtp_path path;
	char *text;
	int err = smtp_content_parse_path(address, &path, &text);

	if (err)
		return err;
	r = find_recipient(c, &path);
	free(text);
	if (!r)
		return ERR_NOT_FOUND;
	r->is_removed = true;
	if (!r->is_added)
		c->is_envelope_new = true;
	return 0;
}

const struct smtp_path *smtp_content_recipient(const struct smtp_content *c, size_t i)
{
	for (size_t k = 0; k < c->recipient_count; k++) {
		if (is_present(&c->recipients[k]) && i-- == 0)
			return &c->recipients[k].rcpt.path;
	}
	return NULL;
}

void smtp_content_hold(struct smtp_content *c, struct slice reason)
{
	if (!c->hold)
		smtp_facts_set(&c->hold, reason.len ? reason : SLICE_LIT("quarantine"));
}
