/*
 * The end of the header is sought in what is kept; then the fields are gone through once. New fields stand last, so that the trace
 * stays on top. A line that is no field ends the header: an empty line is put before it, as whoever reads the message later would have
 * to guess otherwise.
 */
#include "common/front/smtp_complete.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/proto/address.h"
#include "common/proto/date.h"
#include "common/proto/header.h"

#define FROM_ARENA_MOST ((size_t)1 << 20)

struct smtp_complete {
	struct smtp_complete_options options;
	char *host, *user;
	bool is_past_header;
	struct buf header;
	size_t seen; /* octets of it that hold no end */
};

struct smtp_complete *smtp_complete_new(const struct smtp_complete_options *options)
{
	struct smtp_complete *c = xcalloc(1, sizeof(*c));

	c->options = *options;
	c->host = xstrdup(options->host && *options->host ? options->host : "localhost");
	c->user = xstrdup(options->user ? options->user : "");
	return c;
}

void smtp_complete_free(struct smtp_complete **complete)
{
	struct smtp_complete *c = *complete;

	*complete = NULL;
	if (!c)
		return;
	buf_deinit(&c->header);
	free(c->host);
	free(c->user);
	free(c);
}

/* ---- From ---- */

static bool is_own(const struct smtp_complete *c, const struct address *a)
{
	struct buf whole = {0};
	bool is;

	buf_add_slice(&whole, a->local);
	if (a->domain.p)
		buf_printf(&whole, "@%.*s", SLICE_ARG(a->domain));
	is = c->options.is_own && c->options.is_own(c->options.arg, buf_view(&whole));
	buf_deinit(&whole);
	return is;
}

/* Adds how many mailboxes a From field names, and how many of them are not his own. A list that cannot be taken in counts as another's. */
static void weigh_from(const struct smtp_complete *c, struct slice value, size_t *all, size_t *others)
{
	struct address *list;
	struct arena arena;
	size_t count;

	arena_init(&arena, FROM_ARENA_MOST);
	if (address_parse_list(&arena, value, &list, &count)) {
		*all += 1;
		*others += 1;
		count = 0;
	}
	for (size_t i = 0; i < count; i++) {
		if (list[i].kind != ADDRESS_MAILBOX)
			continue;
		*all += 1;
		*others += !is_own(c, &list[i]);
	}
	arena_deinit(&arena);
}

/* ---- the header ---- */

struct found {
	bool date, message_id;
	size_t from, others; /* mailboxes of From; those that are not his */
};

static bool is_bcc(struct slice name)
{
	return slice_is_str_nocase(name, "Bcc") || slice_is_str_nocase(name, "Resent-Bcc");
}

static void look(const struct smtp_complete *c, struct slice header, struct found *found)
{
	struct header_reader reader;
	struct header_field field;

	header_reader_init(&reader, header);
	while (header_next(&reader, &field) && field.name.len) {
		if (slice_is_str_nocase(field.name, "Date"))
			found->date = true;
		else if (slice_is_str_nocase(field.name, "Message-ID"))
			found->message_id = true;
		else if (slice_is_str_nocase(field.name, "From") && c->options.from != SMTP_COMPLETE_FROM_ANY)
			weigh_from(c, field.value, &found->from, &found->others);
	}
}

static void add_fields(
	const struct smtp_complete *c, const struct found *found, bool has_sender, struct buf *out)
{
	char id[33];

	if (has_sender)
		buf_printf(out, "Sender: <%s>\r\n", c->user);
	if (!c->options.adds_missing)
		return;
	if (!found->date) {
		buf_add_str(out, "Date: ");
		date_write_rfc5322(c->options.unix_s, 0, out);
		buf_add_str(out, "\r\n");
	}
	if (!found->message_id) {
		random_id(id, sizeof(id) - 1);
		buf_printf(out, "Message-ID: <%s@%s>\r\n", id, c->host);
	}
}

/* header: up to its empty line, which is not in it. */
static int write_header(const struct smtp_complete *c, struct slice header, struct buf *out)
{
	struct found found = {0};
	struct header_reader reader;
	struct header_field field;
	bool has_sender;

	look(c, header, &found);
	if (c->options.from == SMTP_COMPLETE_FROM_REFUSE && (found.others || !found.from))
		return ERR_DENIED;
	has_sender =
		c->options.from == SMTP_COMPLETE_FROM_MARK && (found.others || found.from != 1) && *c->user;
	header_reader_init(&reader, header);
	while (header_next(&reader, &field)) {
		if (!field.name.len) {
			add_fields(c, &found, has_sender, out);
			buf_add_str(out, "\r\n");
			buf_add_slice(out, field.raw);
			buf_add_slice(out, reader.rest);
			return 0;
		}
		if ((c->options.removes_bcc && is_bcc(field.name)) ||
			(has_sender && slice_is_str_nocase(field.name, "Sender")))
			continue;
		buf_add_slice(out, field.raw);
	}
	add_fields(c, &found, has_sender, out);
	return 0;
}

/* Where the empty line begins; -1: not there yet. */
static ptrdiff_t find_end(struct smtp_complete *c)
{
	struct slice in = buf_view(&c->header);
	const char *at;
	size_t from = c->seen > 3 ? c->seen - 3 : 0;

	if (slice_has_prefix_nocase(in, "\r\n"))
		return 0;
	at = in.len > from ? memmem(in.p + from, in.len - from, "\r\n\r\n", 4) : NULL;
	c->seen = in.len;
	return at ? at - in.p + 2 : -1;
}

int smtp_complete_add(struct smtp_complete *c, struct slice piece, struct buf *out)
{
	ptrdiff_t end;
	int err;

	if (c->is_past_header) {
		buf_add_slice(out, piece);
		return 0;
	}
	buf_add_slice(&c->header, piece);
	end = find_end(c);
	if (end < 0)
		return buf_len(&c->header) > SMTP_COMPLETE_HEADER_MOST ? ERR_TOO_BIG : 0;
	if ((size_t)end > SMTP_COMPLETE_HEADER_MOST)
		return ERR_TOO_BIG;
	err = write_header(c, slice_sub(buf_view(&c->header), 0, (size_t)end), out);
	if (err)
		return err;
	buf_add_slice(out, slice_from(buf_view(&c->header), (size_t)end));
	buf_deinit(&c->header);
	c->is_past_header = true;
	return 0;
}

int smtp_complete_end(struct smtp_complete *c, struct buf *out)
{
	int err = c->is_past_header ? 0 : write_header(c, buf_view(&c->header), out);

	c->is_past_header = true;
	buf_deinit(&c->header);
	return err;
}
