/*
 * Strings go out quoted where RFC 3501 lets them, else as literals: raw 8-bit text, long text. NUL never goes
 * out.
 */
#include "common/proto/envelope.h"

#include "common/base/num.h"
#include "common/proto/address.h"
#include "common/proto/imap_write.h"

struct row {
	const char *name;
	size_t at;
	bool is_joined; /* more than one field of the name: joined by a comma */
};

#define AT(member) offsetof(struct envelope, member)
static const struct row rows[] = {
	{"date", AT(date), false},
	{"subject", AT(subject), false},
	{"from", AT(from), false},
	{"sender", AT(sender), false},
	{"reply-to", AT(reply_to), false},
	{"to", AT(to), true},
	{"cc", AT(cc), true},
	{"bcc", AT(bcc), true},
	{"in-reply-to", AT(in_reply_to), false},
	{"message-id", AT(message_id), false},
	{"references", AT(references), false},
};

static struct slice *member(struct envelope *e, const struct row *row)
{
	return (struct slice *)(void *)((char *)e + row->at);
}

/* Two values and ", " between them, up to ENVELOPE_FIELD_MAX. */
static int join(struct arena *a, struct slice *to, struct slice value)
{
	char *text;

	if (to->len + 2 >= ENVELOPE_FIELD_MAX)
		return 0;
	value = slice_sub(value, 0, ENVELOPE_FIELD_MAX - to->len - 2);
	text = arena_alloc(a, to->len + 2 + value.len);
	if (!text)
		return ERR_TOO_BIG;
	memcpy(text, to->p, to->len);
	memcpy(text + to->len, ", ", 2);
	if (value.len)
		memcpy(text + to->len + 2, value.p, value.len);
	*to = slice_of(text, to->len + 2 + value.len);
	return 0;
}

int envelope_take_field(struct envelope *e, struct arena *a, struct slice name, struct slice value)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice *to, kept;

		if (!slice_is_str_nocase(name, rows[i].name))
			continue;
		to = member(e, &rows[i]);
		if (to->p && !rows[i].is_joined)
			return 0;
		value = slice_sub(value, 0, ENVELOPE_FIELD_MAX);
		kept = value.len ? header_unfold(a, value) : slice_of("", 0);
		if (kept.p && kept.p == value.p)
			kept = arena_copy(a, value);
		if (!kept.p)
			return ERR_TOO_BIG;
		if (to->p && to->len)
			return join(a, to, kept);
		*to = kept;
		return 0;
	}
	return 0;
}

static void write_address(const struct address *at, struct buf *out)
{
	const struct slice nil = {NULL, 0};
	bool is_mailbox = at->kind == ADDRESS_MAILBOX;

	buf_add_char(out, '(');
	imap_write_nstring(out, is_mailbox && at->name.len ? at->name : nil);
	buf_add_char(out, ' ');
	imap_write_nstring(out, at->route);
	buf_add_char(out, ' ');
	if (at->kind == ADDRESS_GROUP_BEGIN)
		imap_write_nstring(out, at->name.p ? at->name : slice_of("", 0));
	else
		imap_write_nstring(out, is_mailbox && !at->local.p ? slice_of("", 0) : at->local);
	buf_add_char(out, ' ');
	/* NIL here means a group, so a mailbox without domain shows an empty one. */
	imap_write_nstring(out, is_mailbox && !at->domain.p ? slice_of("", 0) : at->domain);
	buf_add_char(out, ')');
}

static int write_list(struct slice value, struct arena *a, struct buf *out)
{
	struct address *list = NULL;
	size_t count = 0;
	int err = value.len ? address_parse_list(a, value, &list, &count) : 0;

	if (err)
		return err;
	if (count == 0) {
		buf_add_str(out, "NIL");
		return 0;
	}
	buf_add_char(out, '(');
	for (size_t i = 0; i < count; i++)
		write_address(&list[i], out);
	buf_add_char(out, ')');
	return 0;
}

int envelope_write(const struct envelope *e, struct arena *a, struct buf *out)
{
	static const struct envelope none;
	const struct envelope *at = e ? e : &none;
	const struct slice lists[] = {at->from, at->sender.len ? at->sender : at->from,
		at->reply_to.len ? at->reply_to : at->from, at->to, at->cc, at->bcc};

	buf_add_char(out, '(');
	imap_write_nstring(out, at->date);
	buf_add_char(out, ' ');
	imap_write_nstring(out, at->subject);
	buf_add_char(out, ' ');
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		int err = write_list(lists[i], a, out);

		if (err)
			return err;
		buf_add_char(out, ' ');
	}
	imap_write_nstring(out, at->in_reply_to);
	buf_add_char(out, ' ');
	imap_write_nstring(out, at->message_id);
	buf_add_char(out, ')');
	return out->failed ? ERR_TOO_BIG : 0;
}

/* ---- reading it back ---- */

/* The next nstring; appended to buf, its length in len_out; is_nil_out: NIL. */
static int read_nstring(struct slice *text, struct buf *buf, size_t *len_out, bool *is_nil_out)
{
	size_t before = buf_len(buf), i = 1;
	ptrdiff_t end;
	uint32_t len;

	*is_nil_out = slice_has_prefix(*text, "NIL");
	if (*is_nil_out) {
		i = 3;
	} else if (slice_has_prefix(*text, "\"")) {
		while (i < text->len && text->p[i] != '"') {
			size_t from = i;

			while (i < text->len && text->p[i] != '"' && text->p[i] != '\\')
				i++;
			buf_add(buf, text->p + from, i - from);
			if (i + 1 < text->len && text->p[i] == '\\') {
				buf_add_char(buf, text->p[i + 1]);
				i += 2;
			} else if (i < text->len && text->p[i] == '\\') {
				return ERR_CORRUPT;
			}
		}
		i++;
	} else if (slice_has_prefix(*text, "{")) {
		end = slice_find(*text, '}');
		if (end < 0 || num_parse_u32(slice_sub(*text, 1, (size_t)end - 1), &len) < 0 ||
			text->len - (size_t)end < (size_t)len + 3)
			return ERR_CORRUPT;
		buf_add(buf, text->p + end + 3, len);
		i = (size_t)end + 3 + len;
	} else {
		return ERR_CORRUPT;
	}
	if (i >= text->len || buf->failed)
		return ERR_CORRUPT;
	*text = slice_from(*text, i);
	*len_out = buf_len(buf) - before;
	return 0;
}

int envelope_read(struct slice text, struct buf *buf, struct slice *date_out, struct slice *subject_out)
{
	size_t start = buf_len(buf), date_len = 0, subject_len = 0;
	bool has_no_date = false, has_no_subject = false;
	int err = slice_has_prefix(text, "(") && buf_reserve(buf, 1) ? 0 : ERR_CORRUPT;

	text = slice_from(text, 1);
	if (err == 0)
		err = read_nstring(&text, buf, &date_len, &has_no_date);
	if (err == 0 && text.p[0] != ' ')
		err = ERR_CORRUPT;
	text = slice_from(text, 1);
	if (err == 0)
		err = read_nstring(&text, buf, &subject_len, &has_no_subject);
	if (err < 0)
		return err;
	*date_out = has_no_date ? slice_of(NULL, 0) : slice_sub(buf_view(buf), start, date_len);
	*subject_out =
		has_no_subject ? slice_of(NULL, 0) : slice_sub(buf_view(buf), start + date_len, subject_len);
	return 0;
}
