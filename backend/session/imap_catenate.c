/* A job copies COPY_STEP octets; the spool is the job's meanwhile, as all of the session is. */
#include "backend/session/imap_catenate.h"

#include "backend/session/imap_fetch.h"
#include "common/net/spool.h"
#include "common/proto/header.h"

#define COPY_STEP (512u * 1024)
#define PIECE (64u * 1024)
#define NAMES_MOST 100

/* HEADER.FIELDS (A B): the names. */
static int read_names(struct imap_session *s, struct slice list, struct imap_catenate *c)
{
	c->names = arena_calloc(&s->arena, NAMES_MOST, sizeof(*c->names));
	if (!c->names)
		return ERR_TOO_BIG;
	if (list.len < 3 || list.p[0] != '(' || list.p[list.len - 1] != ')')
		return ERR_NOT_FOUND;
	list = slice_sub(list, 1, list.len - 2);
	while (list.len) {
		ptrdiff_t blank = slice_find(list, ' ');
		size_t len = blank < 0 ? list.len : (size_t)blank;

		if (len == 0 || c->name_count == NAMES_MOST)
			return ERR_NOT_FOUND;
		c->names[c->name_count++] = slice_sub(list, 0, len);
		list = slice_from(list, blank < 0 ? len : len + 1);
	}
	return 0;
}

int imap_catenate_parse(struct imap_session *s, struct slice text, struct imap_catenate *c)
{
	struct slice word;
	ptrdiff_t blank;
	bool has_fields;
	int err = imap_url_parse(text, &s->arena, &c->url);

	if (err < 0)
		return err == ERR_SYNTAX ? ERR_NOT_FOUND : err;
	blank = slice_find(c->url.section, ' ');
	word = blank < 0 ? c->url.section : slice_sub(c->url.section, 0, (size_t)blank);
	if (section_parse(word, &c->section) < 0)
		return ERR_NOT_FOUND;
	has_fields = c->section.kind == SECTION_HEADER_FIELDS || c->section.kind == SECTION_HEADER_FIELDS_NOT;
	if (has_fields != (blank >= 0))
		return ERR_NOT_FOUND;
	return has_fields ? read_names(s, slice_from(c->url.section, (size_t)blank + 1), c) : 0;
}

static int find_mailbox(struct imap_session *s, struct store_txn *txn, struct imap_catenate *c)
{
	struct store_mailbox mailbox;
	uint32_t id = s->view.mailbox, uidvalidity = s->view.uidvalidity;

	if (!c->url.mailbox.len && id) {
		int err = imap_access_check(s, txn, IMAP_RIGHT_READ);

		if (err < 0)
			return err;
	}
	if (c->url.mailbox.len) {
		int err = imap_access_find(s, txn, c->url.mailbox, IMAP_RIGHT_READ, &mailbox);

		if (err < 0)
			return err == ERR_DENIED || err == ERR_FORBIDDEN ? ERR_NOT_FOUND : err;
		id = mailbox.id;
		uidvalidity = mailbox.uidvalidity;
	}
	if (!id || (c->url.uidvalidity && c->url.uidvalidity != uidvalidity))
		return ERR_NOT_FOUND;
	c->mailbox = id;
	return 0;
}

/* Gone for everybody, or gone but still in this client's view? */
static int find_message(
	struct imap_session *s, struct store_txn *txn, struct imap_catenate *c, struct store_message *m)
{
	struct store_entry entry;
	bool is_ours = c->mailbox == s->view.mailbox && s->at_slot == s->view.slot &&
		       imap_view_seq(&s->view, c->url.uid);
	int err = is_ours ? 0 : store_message_entry(txn, c->mailbox, c->url.uid, &entry);

	return err ? err : store_message_get(txn, c->mailbox, c->url.uid, m);
}

static void clip(const struct imap_url *url, uint64_t *at, uint64_t *len)
{
	uint64_t from = url->from < *len ? url->from : *len;

	*at += from;
	*len -= from;
	if (*len > url->length)
		*len = url->length;
}

static int put(struct imap_catenate *c, struct slice bytes)
{
	if (bytes.len && memchr(bytes.p, '\0', bytes.len))
		return ERR_SYNTAX;
	return spool_add(c->spool, bytes);
}

static int copy_octets(struct store_txn *txn, const struct store_message *m, struct imap_catenate *c,
	uint64_t step, struct buf *out)
{
	while (step) {
		size_t want = step < PIECE ? (size_t)step : PIECE, got = 0;
		char *room = buf_reserve(out, want);
		int err = room ? store_message_read(txn, m, c->at, room, want, &got) : ERR_TOO_BIG;

		if (err < 0)
			return err;
		if (got == 0)
			return ERR_CORRUPT;
		buf_added(out, got);
		c->at += got;
		c->left -= got;
		step -= got;
	}
	return 0;
}

/* The whole header is read and what is wanted of it kept. */
static int copy_fields(struct store_txn *txn, const struct store_message *m, struct imap_catenate *c)
{
	struct buf header = {0}, fields = {0};
	bool is_not = c->section.kind == SECTION_HEADER_FIELDS_NOT;
	uint64_t at = 0, len;
	int err = copy_octets(txn, m, c, c->left < HEADER_FIELD_MAX ? c->left : HEADER_FIELD_MAX, &header);

	c->left = 0;
	if (err == 0) {
		header_filter(buf_view(&header), c->names, c->name_count, is_not, &fields);
		len = buf_len(&fields);
		clip(&c->url, &at, &len);
		err = len > c->most ? ERR_TOO_BIG
				    : put(c, slice_sub(buf_view(&fields), (size_t)at, (size_t)len));
	}
	buf_deinit(&header);
	buf_deinit(&fields);
	return err;
}

static int copy_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_catenate *c = s->catenate;
	bool is_first = c->mailbox == 0;
	struct store_message m;
	struct buf piece = {0};
	struct arena arena;
	int err = is_first ? find_mailbox(s, txn, c) : 0;

	if (err == 0)
		err = find_message(s, txn, c, &m);
	if (err < 0)
		return err;
	if (is_first) {
		enum mime_encoding encoding;

		arena_init(&arena, MIME_ARENA_MAX);
		err = imap_fetch_find_section(&m, &c->section, &arena, &c->at, &c->left, &encoding);
		arena_deinit(&arena);
		if (err < 0)
			return err;
		if (c->names)
			return copy_fields(txn, &m, c);
		clip(&c->url, &c->at, &c->left);
		if (c->left > c->most)
			return ERR_TOO_BIG;
	}
	err = copy_octets(txn, &m, c, c->left < COPY_STEP ? c->left : COPY_STEP, &piece);
	if (err == 0)
		err = put(c, buf_view(&piece));
	buf_deinit(&piece);
	return err;
}

static void copied(struct imap_session *s, int err)
{
	struct imap_catenate *c = s->catenate;

	if (err == 0 && c->left)
		imap_read(s, copy_run, copied);
	else
		c->done(s, err);
}

void imap_catenate_start(struct imap_session *s, struct imap_catenate *c)
{
	s->catenate = c;
	if (c->url.mailbox.len)
		imap_access_go(s, c->url.mailbox);
	else if (s->view.mailbox)
		s->at_slot = s->view.slot;
	imap_read(s, copy_run, copied);
}
