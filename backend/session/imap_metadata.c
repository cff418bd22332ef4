/*
 * Three kinds of entries: stored ones; the special use of a mailbox, which is kept with it; and what the
 * operator's configuration says of the server. All are told by the same two functions, tell() and tell_nil().
 */
#include "backend/session/imap_metadata.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "backend/session/imap_name.h"
#include "backend/session/imap_use.h"
#include "common/base/mem.h"
#include "common/proto/imap_write.h"

/* ---- arguments ---- */

static unsigned count_components(struct slice name)
{
	unsigned count = 0;

	for (size_t i = 0; i < name.len; i++)
		count += name.p[i] == '/';
	return count;
}

/* RFC 5464 section 3.2. */
static bool is_name(struct slice name, bool is_whole)
{
	unsigned components = count_components(name);
	struct slice rest;

	if (name.len == 0 || name.p[0] != '/' || name.p[name.len - 1] == '/')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.p[i];

		if (c < 0x20 || c >= 0x7f || c == '*' || c == '%' ||
			(c == '/' && name.p[i + 1] == '/')) /* the last one is none */
			return false;
	}
	if (slice_has_prefix(name, "/private"))
		rest = slice_from(name, sizeof("/private") - 1);
	else if (slice_has_prefix(name, "/shared"))
		rest = slice_from(name, sizeof("/shared") - 1);
	else
		return false;
	if (rest.len == 0)
		return !is_whole;
	if (slice_is_str(rest, "/vendor") || slice_has_prefix(rest, "/vendor/"))
		return !is_whole || components >= 4;
	return rest.p[0] == '/';
}

int imap_metadata_read_name(
	const struct imap_arg *arg, bool has_value, struct arena *arena, struct slice *name_out)
{
	struct slice text;
	char *lower;

	if (imap_parse_astring(arg, &text) < 0)
		return ERR_SYNTAX;
	if (text.len > STORE_METADATA_NAME_MAX)
		return ERR_TOO_BIG;
	lower = arena_copy_str(arena, text);
	if (!lower)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < text.len; i++)
		lower[i] = ascii_lower(lower[i]);
	text = slice_of(lower, text.len);
	if (!is_name(text, has_value))
		return ERR_SYNTAX;
	*name_out = text;
	return 0;
}

bool imap_metadata_is_options(const struct imap_arg *arg)
{
	return arg && arg->type == IMAP_ARG_LIST && arg->next &&
	       (imap_parse_is_word(arg->first, "MAXSIZE") || imap_parse_is_word(arg->first, "DEPTH"));
}

int imap_metadata_read_options(const struct imap_arg *list, struct imap_metadata_query *query)
{
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next->next) {
		if (imap_parse_is_word(arg, "MAXSIZE")) {
			if (imap_parse_u32(arg->next, &query->maxsize) < 0)
				return ERR_SYNTAX;
			query->has_maxsize = true;
		} else if (imap_parse_is_word(arg, "DEPTH")) {
			if (imap_parse_is_word(arg->next, "infinity"))
				query->depth = UINT_MAX;
			else if (imap_parse_is_word(arg->next, "1"))
				query->depth = 1;
			else if (imap_parse_is_word(arg->next, "0"))
				query->depth = 0;
			else
				return ERR_SYNTAX;
		} else {
			return ERR_SYNTAX;
		}
	}
	return 0;
}

int imap_metadata_read_entries(
	const struct imap_arg *arg, struct arena *arena, struct imap_metadata_query *query)
{
	const struct imap_arg *at = arg && arg->type == IMAP_ARG_LIST ? arg->first : arg;

	if (!at)
		return ERR_SYNTAX;
	for (; at; at = at->next) {
		/* "/private" alone is no entry, but there may be some below it. */
		int err;

		if (query->count == IMAP_METADATA_ASKED_MAX)
			return ERR_TOO_BIG;
		err = imap_metadata_read_name(at, query->depth == 0, arena, &query->names[query->count]);
		if (err < 0)
			return err;
		query->count++;
		if (arg->type != IMAP_ARG_LIST)
			break;
	}
	return 0;
}

/* ---- who may ---- */

/* RFC 5464 section 3.3: "l" and any one of these. */
#define ANY_ACCESS                                                                                           \
	(IMAP_RIGHT_READ | IMAP_RIGHT_SEEN | IMAP_RIGHT_WRITE | IMAP_RIGHT_INSERT | IMAP_RIGHT_POST)

uint64_t imap_metadata_user(const struct imap_session *s)
{
	return store_metadata_user(s->slot, s->account);
}

int imap_metadata_find(
	struct imap_session *s, struct store_txn *txn, struct slice name, struct store_mailbox *mailbox_out)
{
	int err = imap_access_find(s, txn, name, IMAP_RIGHT_LOOKUP, mailbox_out);

	return err < 0 ? err : imap_metadata_check(s, txn, mailbox_out);
}

int imap_metadata_check(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox)
{
	unsigned rights;
	int err = imap_access_rights(s, txn, mailbox, &rights);

	if (err < 0)
		return err;
	if (!(rights & IMAP_RIGHT_LOOKUP))
		return ERR_NOT_FOUND;
	return rights & ANY_ACCESS ? 0 : ERR_FORBIDDEN;
}

/* ---- what the operator says ---- */

struct imap_notes {
	_Atomic unsigned refs;
	char *comment, *admin;
};

struct imap_notes *imap_notes_new(const char *comment, const char *admin)
{
	struct imap_notes *notes = xcalloc(1, sizeof(*notes));

	notes->refs = 1;
	notes->comment = comment ? xstrdup(comment) : NULL;
	notes->admin = admin ? xstrdup(admin) : NULL;
	return notes;
}

struct imap_notes *imap_notes_ref(struct imap_notes *notes)
{
	if (notes)
		atomic_fetch_add(&notes->refs, 1);
	return notes;
}

void imap_notes_unref(struct imap_notes **notes)
{
	struct imap_notes *n = *notes;

	*notes = NULL;
	if (!n || atomic_fetch_sub(&n->refs, 1) > 1)
		return;
	free(n->comment);
	free(n->admin);
	free(n);
}

/* ---- responses ---- */

struct tell {
	const struct imap_session *s;
	struct imap_metadata_query *query;
	struct buf *out;
	struct slice mailbox;
	struct slice asked; /* the entry that is being answered */
	bool is_open;       /* the response's parenthesis is */
	bool has_any;       /* of what was asked */
};

static void tell_name(struct tell *t, struct slice name)
{
	if (t->is_open) {
		buf_add_char(t->out, ' ');
	} else {
		buf_add_str(t->out, "* METADATA ");
		imap_name_write(t->s, t->out, t->mailbox);
		buf_add_str(t->out, " (");
		t->is_open = true;
	}
	imap_write_astring(t->out, name);
	buf_add_char(t->out, ' ');
}

static int tell(void *arg, struct slice name, struct slice value)
{
	struct tell *t = arg;
	struct imap_metadata_query *q = t->query;

	if (q->depth != UINT_MAX && name.len > t->asked.len &&
		count_components(slice_from(name, t->asked.len)) > q->depth)
		return 0;
	t->has_any = true;
	if (q->has_maxsize && value.len > q->maxsize) {
		if (value.len > q->longest)
			q->longest = value.len;
		return 0;
	}
	tell_name(t, name);
	/* No value is NIL; this one is empty at most. */
	imap_write_binary(t->out, value.p ? value : SLICE_LIT(""));
	return 0;
}

/* An entry that is not stored, if it is asked for or lies below what is. */
static void tell_extra(struct tell *t, const char *name, const char *value)
{
	struct slice n = slice_str(name);

	if (value && n.len >= t->asked.len && memcmp(n.p, t->asked.p, t->asked.len) == 0 &&
		(n.len == t->asked.len || n.p[t->asked.len] == '/'))
		(void)tell(t, n, slice_str(value));
}

static int tell_asked(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox, struct tell *t)
{
	uint64_t user =
		slice_has_prefix(t->asked, "/private") ? imap_metadata_user(s) : STORE_METADATA_SHARED;
	uint32_t account = mailbox ? mailbox->account : s->account;
	int err = store_metadata_each(txn, account, mailbox ? mailbox->id : 0, user, t->asked, tell, t);

	if (err < 0)
		return err;
	if (mailbox) {
		tell_extra(t, STORE_METADATA_USE, imap_use_word(mailbox->use));
	} else if (s->notes) {
		tell_extra(t, "/shared/comment", s->notes->comment);
		tell_extra(t, "/shared/admin", s->notes->admin);
	}
	if (!t->has_any) {
		tell_name(t, t->asked);
		buf_add_str(t->out, "NIL");
	}
	return 0;
}

int imap_metadata_write(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox,
	struct slice name, struct imap_metadata_query *query)
{
	struct tell t = {.s = s, .query = query, .out = &s->out, .mailbox = name};
	int err = 0;

	for (unsigned i = 0; i < query->count && err == 0; i++) {
		t.asked = query->names[i];
		t.has_any = false;
		err = tell_asked(s, txn, mailbox, &t);
	}
	if (t.is_open)
		buf_add_str(&s->out, ")\r\n");
	return err;
}
