/*
 * A job goes over the wanted sequence numbers with a scan of the index (flags, MODSEQ) and a walk of the records
 * (texts, bodies) side by side, whichever of them the items need, and writes into the session's out buffer until
 * a batch of octets is there.
 *
 *	* 12 FETCH (UID 80 FLAGS (\Seen) BODY[] {123456}     <- body, offset, left remember the place within
 *	...octets, as many as a batch holds...
 *	)
 *
 * A BINARY section is decoded twice: the first time its octets are counted, the second time they are sent.
 *
 * \Seen is set in a write job before the first octet of a body goes out, so that what FETCH shows is on disk.
 */
#include "backend/session/imap_fetch.h"

#include "backend/session/imap_keys.h"
#include "backend/session/imap_object.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/proto/bodystructure.h"
#include "common/proto/date.h"
#include "common/proto/imap_write.h"

#define SCRATCH_MOST MIME_ARENA_MAX
/* Entries between two wanted messages over which reading on is cheaper than looking up anew. */
#define GAP_MOST 500
/* Encoded octets that are decoded at once. */
#define BINARY_PIECE (64u * 1024)
/* Records that a job passes over at most, wanted or not: none is long. */
#define JOB_US 4000
/* A FETCH that has made so many batches is long: two readers uncompress bodies for it, while one of them has nothing else to do. */
#define FETCH_LONG 2
/* So many bodies of a batch, each at least so long; others are read at once. */
#define PARTS_MOST 128
#define PART_LEAST 1024

/* Octets of a message whose place in the batch waits for them. */
struct part {
	struct slice trace;
	uint64_t blob, size, offset;
	size_t at, len;
	int err;
};

/* One job's tools. */
struct fetcher {
	struct imap_session *s;
	struct imap_fetch *f;
	struct store_txn *txn;
	struct store_scan scan;
	struct store_walk walk;
	struct store_entry entry;
	struct store_message message;
	uint32_t at_entry;   /* UID in `entry`, 0: none */
	uint32_t at_message; /* UID in `message` */
	int err;             /* a scan or walk could not begin */
	bool has_scan;
	bool has_walk;
	size_t part_count;
	struct part parts[PARTS_MOST];
};

static int fetch_run(struct imap_session *s, struct store_txn *txn);
static void fetch_done(struct imap_session *s, int err);

void imap_fetch_free(struct imap_fetch *f)
{
	buf_deinit(&f->seen);
	arena_deinit(&f->scratch);
}

static bool needs_index(const struct imap_fetch *f)
{
	return f->items.items & (IMAP_FETCH_FLAGS | IMAP_FETCH_MODSEQ) || f->changed_since ||
	       buf_len(&f->seen);
}

static bool needs_record(const struct imap_fetch *f)
{
	return f->items.bodies || f->items.items & ~(unsigned)IMAP_FETCH_OF_INDEX;
}

/* ---- finding ---- */

/* Brings the scan to this UID; false: it is not there. */
static bool find_entry(struct fetcher *w, uint32_t uid)
{
	if (w->has_scan && w->at_entry && uid > w->at_entry && uid - w->at_entry > GAP_MOST) {
		store_scan_end(&w->scan);
		w->has_scan = false;
	}
	if (!w->has_scan) {
		w->err = store_scan_begin_for(
			&w->scan, w->txn, w->s->view.mailbox, uid, imap_view_who(&w->s->view));
		if (w->err < 0)
			return false;
		w->has_scan = true;
		w->at_entry = 0;
	}
	while (w->at_entry < uid) {
		if (!store_scan_next(&w->scan, &w->entry)) {
			w->at_entry = UINT32_MAX;
			return false;
		}
		w->at_entry = w->entry.uid;
	}
	return w->at_entry == uid;
}

static bool find_message(struct fetcher *w, uint32_t uid)
{
	if (!w->has_walk) {
		w->err = store_walk_begin(&w->walk, w->txn, w->s->view.mailbox, uid);
		if (w->err < 0)
			return false;
		w->has_walk = true;
	} else if (w->at_message < uid && uid - w->at_message > 1) {
		store_walk_skip(&w->walk, uid);
	}
	while (w->at_message < uid) {
		if (!store_walk_next(&w->walk, &w->message)) {
			w->at_message = UINT32_MAX;
			return false;
		}
		w->at_message = w->message.uid;
	}
	return w->at_message == uid;
}

/* ---- writing items ---- */

static char *put_text(char *p, const char *text, size_t len)
{
	memcpy(p, text, len);
	return p + len;
}
#define PUT(p, literal) put_text((p), (literal), sizeof(literal) - 1)

static char *put_number(char *p, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return put_text(p, digits + i, sizeof(digits) - i);
}

static void begin_item(struct fetcher *w)
{
	if (w->f->has_item)
		buf_add_char(&w->s->out, ' ');
	w->f->has_item = true;
}

/* "* n FETCH (UID n RFC822.SIZE n MODSEQ (n)": one reservation, since there may be 100,000 of them. */
static void write_numbers(struct fetcher *w, uint32_t seq, uint32_t uid, unsigned items)
{
	struct buf *out = &w->s->out;
	char *start = buf_reserve(out, 160), *p = start;
	bool has_entry = needs_index(w->f);

	if (!p)
		return;
	p = PUT(p, "* ");
	p = put_number(p, w->s->is_uidonly ? uid : seq);
	p = w->s->is_uidonly ? PUT(p, " UIDFETCH (") : PUT(p, " FETCH (");
	/* UIDFETCH has told it already (RFC 9586 section 3.3). */
	if (items & IMAP_FETCH_UID || (!w->s->is_uidonly && w->s->cmd && w->s->cmd->flags & IMAP_CMD_UID)) {
		p = PUT(p, "UID ");
		p = put_number(p, uid);
		w->f->has_item = true;
	}
	if (items & IMAP_FETCH_SIZE) {
		p = w->f->has_item ? PUT(p, " RFC822.SIZE ") : PUT(p, "RFC822.SIZE ");
		p = put_number(p, has_entry || !needs_record(w->f) ? w->entry.size : w->message.size);
		w->f->has_item = true;
	}
	if (items & IMAP_FETCH_MODSEQ) {
		p = w->f->has_item ? PUT(p, " MODSEQ (") : PUT(p, "MODSEQ (");
		p = put_number(p, w->entry.modseq);
		/* What went before it must be told too, or held back by HIGHESTMODSEQ. */
		w->s->must_sync |= w->s->is_qresync && w->entry.modseq > w->s->view.modseq;
		p = PUT(p, ")");
		w->f->has_item = true;
	}
	buf_added(out, (size_t)(p - start));
}

static bool was_just_seen(const struct imap_fetch *f, uint32_t uid)
{
	const uint32_t *uids = imap_numbers(&f->seen);
	size_t low = 0, high = buf_len(&f->seen) / sizeof(uint32_t);

	if (high == 0)
		return false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (uids[middle] < uid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < buf_len(&f->seen) / sizeof(uint32_t) && uids[low] == uid;
}

/* A record whose texts were too large to be kept has none: what is said then has the right form at least. */
#define NO_ENVELOPE "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
#define NO_STRUCTURE "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0)"

static void write_text(
	struct fetcher *w, const char *name, const struct store_text *text, const char *otherwise)
{
	begin_item(w);
	buf_add_str(&w->s->out, name);
	if (text->len == 0 || store_text_add(text, &w->s->out) < 0)
		buf_add_str(&w->s->out, otherwise);
}

static void write_texts(struct fetcher *w, unsigned items)
{
	struct buf *out = &w->s->out;
	const struct store_texts *texts = &w->message.texts;
	struct slice structure;
	struct buf room = {0};

	if (items & IMAP_FETCH_ENVELOPE)
		write_text(w, "ENVELOPE ", &texts->envelope, NO_ENVELOPE);
	if (items & IMAP_FETCH_BODYSTRUCTURE)
		write_text(w, "BODYSTRUCTURE ", &texts->bodystructure, NO_STRUCTURE);
	if (items & IMAP_FETCH_BODY) {
		begin_item(w);
		buf_add_str(out, "BODY ");
		if (store_text_view(&texts->bodystructure, &room, &structure) < 0 ||
			bodystructure_shorten(structure, out) < 0)
			buf_add_str(out, NO_STRUCTURE);
		buf_deinit(&room);
	}
}

/* What a record of an older store lacks is made of the message; a damaged one has no preview. */
static void write_keys(struct fetcher *w, unsigned items)
{
	struct buf *out = &w->s->out, made = {0};
	bool is_lazy = items & IMAP_FETCH_LAZY && w->message.texts.keys.len == 0;
	struct mail_keys keys = {0};

	if (!is_lazy || items & IMAP_FETCH_THREADID) {
		if (imap_keys_load(w->txn, &w->message, &w->f->scratch, &made, &keys) < 0)
			keys = (struct mail_keys){0};
	}
	if (items & IMAP_FETCH_THREADID) {
		begin_item(w);
		buf_add_str(out, "THREADID (");
		imap_object_thread(w->s->view.created, &w->message, &keys, out);
		buf_add_char(out, ')');
	}
	if (items & IMAP_FETCH_PREVIEW) {
		begin_item(w);
		buf_add_str(out, "PREVIEW ");
		if (is_lazy)
			buf_add_str(out, "NIL");
		else
			imap_write_string(out, keys.preview);
	}
	buf_deinit(&made);
}

static void write_record(struct fetcher *w, unsigned items)
{
	struct buf *out = &w->s->out;

	write_texts(w, items);
	if (items & IMAP_FETCH_SAVEDATE) {
		begin_item(w);
		buf_add_str(out, "SAVEDATE \"");
		date_write_internal(w->message.save_date, 0, out);
		buf_add_char(out, '"');
	}
	if (items & IMAP_FETCH_EMAILID) {
		begin_item(w);
		buf_add_str(out, "EMAILID (");
		imap_object_email(w->s->view.created, &w->message, out);
		buf_add_char(out, ')');
	}
	if (items & (IMAP_FETCH_THREADID | IMAP_FETCH_PREVIEW))
		write_keys(w, items);
}

static void write_items(struct fetcher *w, uint32_t seq, uint32_t uid)
{
	struct buf *out = &w->s->out;
	unsigned items = w->f->items.items;

	if (buf_len(&w->f->seen) && was_just_seen(w->f, uid)) {
		items |= IMAP_FETCH_FLAGS | (w->s->is_condstore ? (unsigned)IMAP_FETCH_MODSEQ : 0);
		/* RFC 7162 section 3.2.4, RFC 9051 section 7.5.2 */
		if ((w->s->is_condstore || w->s->is_rev2) && !w->s->is_uidonly)
			items |= IMAP_FETCH_UID;
	}
	write_numbers(w, seq, uid, items);
	if (items & IMAP_FETCH_FLAGS) {
		begin_item(w);
		buf_add_str(out, "FLAGS ");
		imap_view_write_flags(&w->s->view, &w->entry, out);
	}
	if (items & IMAP_FETCH_INTERNALDATE) {
		begin_item(w);
		buf_add_str(out, "INTERNALDATE \"");
		date_write_internal(needs_record(w->f) ? w->message.date : w->entry.date, 0, out);
		buf_add_char(out, '"');
	}
	if (needs_record(w->f))
		write_record(w, items);
}

/* ---- bodies ---- */

/* The trace stands before the stored bytes. */
int imap_fetch_find_section(const struct store_message *m, const struct section *section, struct arena *arena,
	uint64_t *at_out, uint64_t *len_out, enum mime_encoding *encoding_out)
{
	uint64_t trace = m->trace.len;
	struct section_range range;
	struct mime_part *root;
	int err;

	if (section->count == 0 && section->kind == SECTION_ALL) {
		*at_out = 0;
		*len_out = m->size;
		*encoding_out = MIME_BINARY;
		return 0;
	}
	arena_reset(arena);
	err = mime_unpack(arena, m->texts.parts, m->size - trace, &root);
	if (err == 0)
		err = section_find(root, section, &range);
	if (err < 0)
		return err;
	*encoding_out = range.part->kind == MIME_LEAF ? range.part->encoding : MIME_BINARY;
	/* The trace is part of the message's own header. */
	if (section->count == 0 && section->kind != SECTION_TEXT) {
		*at_out = 0;
		*len_out = range.len + trace;
	} else {
		*at_out = range.at + trace;
		*len_out = range.len;
	}
	return *at_out + *len_out > m->size ? ERR_CORRUPT : 0;
}

static void clip(const struct imap_fetch_body *body, uint64_t *at, uint64_t *len)
{
	uint64_t from;

	if (!body->is_partial)
		return;
	from = body->from < *len ? body->from : *len;
	*at += from;
	*len -= from;
	if (*len > body->length)
		*len = body->length;
}

static void begin_body(struct fetcher *w, const struct imap_fetch_body *body)
{
	begin_item(w);
	buf_add_slice(&w->s->out, body->label);
	buf_add_char(&w->s->out, ' ');
}

/* Exactly len octets, appended to out. */
static int read_octets(struct fetcher *w, uint64_t at, size_t len, struct buf *out)
{
	while (len) {
		char *room = buf_reserve(out, len);
		size_t got;
		int err;

		if (!room)
			return ERR_TOO_BIG;
		err = store_message_read(w->txn, &w->message, at, room, len, &got);
		if (err < 0)
			return err;
		if (got == 0 || got > len)
			return ERR_CORRUPT;
		buf_added(out, got);
		at += got;
		len -= got;
	}
	return 0;
}

static int read_part(struct store_txn *txn, const struct part *p, char *room)
{
	const struct store_message m = {.blob = p->blob, .size = p->size, .trace = p->trace};
	size_t got = 0, n = 0;
	int err = 0;

	for (; err == 0 && got < p->len; got += n) {
		err = store_message_read(txn, &m, p->offset + got, room + got, p->len - got, &n);
		if (err == 0 && (n == 0 || n > p->len - got))
			err = ERR_CORRUPT;
	}
	return err;
}

static char *part_room(const struct fetcher *w, const struct part *p)
{
	return w->s->out.data + w->s->out.start + p->at;
}

static void fill_part(struct store_txn *txn, void *arg, size_t i)
{
	struct fetcher *w = arg;
	struct part *p = &w->parts[i];

	p->err = read_part(txn, p, part_room(w, p));
}

/* All that was left open. What another reader could not read is tried here, before it counts as an error; then the batch ends
 * where its octets should stand. */
static int fill_parts(struct fetcher *w)
{
	int err = 0;

	store_work_share(w->s->service->work, w->txn, w->part_count, fill_part, w);
	for (size_t i = 0; i < w->part_count && err == 0; i++) {
		struct part *p = &w->parts[i];

		if (p->err)
			err = read_part(w->txn, p, part_room(w, p));
		if (err < 0) {
			buf_cut(&w->s->out, p->at);
			w->f->is_begun = true;
		}
	}
	w->part_count = 0;
	return err;
}

/* As read_octets() into the session's out buffer, now or by fill_parts(). */
static int read_body(struct fetcher *w, uint64_t at, size_t len)
{
	struct buf *out = &w->s->out;

	if (w->f->batches < FETCH_LONG || len < PART_LEAST || w->part_count == PARTS_MOST)
		return read_octets(w, at, len, out);
	if (!buf_reserve(out, len))
		return ERR_TOO_BIG;
	w->parts[w->part_count++] = (struct part){.trace = w->message.trace,
		.blob = w->message.blob,
		.size = w->message.size,
		.offset = at,
		.at = buf_len(out),
		.len = len};
	buf_added(out, len);
	return 0;
}

/* HEADER.FIELDS: the header is read whole, at most HEADER_FIELD_MAX of it. */
static int write_fields(struct fetcher *w, const struct imap_fetch_body *body, uint64_t at, uint64_t len)
{
	struct buf header = {0}, fields = {0};
	bool is_not = body->section.kind == SECTION_HEADER_FIELDS_NOT;
	uint64_t from = 0, size;
	int err = read_octets(w, at, (size_t)(len < HEADER_FIELD_MAX ? len : HEADER_FIELD_MAX), &header);

	if (err == 0) {
		header_filter(buf_view(&header), body->names, body->name_count, is_not, &fields);
		size = buf_len(&fields);
		clip(body, &from, &size);
		begin_body(w, body);
		imap_write_literal(&w->s->out, size);
		buf_add_slice(&w->s->out, slice_sub(buf_view(&fields), (size_t)from, (size_t)size));
	}
	buf_deinit(&header);
	buf_deinit(&fields);
	return err;
}

static bool is_full(const struct fetcher *w)
{
	return buf_len(&w->s->out) >= w->f->batch;
}

/* The next part of the literal under way. */
static int write_piece(struct fetcher *w)
{
	struct imap_fetch *f = w->f;
	size_t room = is_full(w) ? 0 : f->batch - buf_len(&w->s->out);
	size_t n = f->left < room || (room && f->left <= IMAP_BATCH_OVER) ? (size_t)f->left : room;
	int err = read_body(w, f->offset, n);

	if (err < 0)
		return err;
	f->offset += n;
	f->left -= n;
	return 0;
}

/* ---- BINARY (RFC 3516) ---- */

/* What cannot be decoded, or is not there: NIL, and a size of 0. */
static void refuse_body(struct fetcher *w, const struct imap_fetch_body *body)
{
	begin_body(w, body);
	buf_add_str(&w->s->out, body->is_size ? "0" : "NIL");
}

static int start_binary(struct fetcher *w, uint64_t at, uint64_t len, enum mime_encoding encoding)
{
	struct imap_fetch *f = w->f;

	if (encoding == MIME_OTHER) {
		f->has_unknown_encoding = true;
		refuse_body(w, f->body);
		return 0;
	}
	transfer_decoder_init(&f->binary.decoder, encoding);
	f->binary.from = f->binary.at = at;
	f->binary.to = at + len;
	f->binary.size = 0;
	f->binary.has_nul = false;
	f->binary.is_counting = true;
	return 0;
}

/* Decodes the next piece. */
static int decode_piece(struct fetcher *w, struct buf *plain)
{
	struct imap_fetch *f = w->f;
	uint64_t left = f->binary.to - f->binary.at;
	size_t n = left < BINARY_PIECE ? (size_t)left : BINARY_PIECE;
	struct buf raw = {0};
	int err = read_octets(w, f->binary.at, n, &raw);

	if (err == 0) {
		f->binary.at += n;
		transfer_decoder_feed(&f->binary.decoder, buf_view(&raw), plain);
		if (f->binary.at == f->binary.to)
			transfer_decoder_end(&f->binary.decoder, plain);
	}
	buf_deinit(&raw);
	return err;
}

/* All octets are counted: the item begins. A NUL wants a literal8. */
static void begin_binary(struct fetcher *w)
{
	struct imap_fetch *f = w->f;
	uint64_t from = 0, len = f->binary.size;

	f->binary.is_counting = false;
	begin_body(w, f->body);
	if (f->body->is_size) {
		buf_add_u64(&w->s->out, len);
		return;
	}
	clip(f->body, &from, &len);
	if (f->binary.has_nul)
		buf_add_char(&w->s->out, '~');
	imap_write_literal(&w->s->out, len);
	transfer_decoder_init(&f->binary.decoder, f->binary.decoder.encoding);
	f->binary.at = f->binary.from;
	f->binary.skip = from;
	f->binary.left = len;
	f->binary.is_sending = len > 0;
}

static int step_binary(struct fetcher *w)
{
	struct imap_fetch *f = w->f;
	struct buf plain = {0};
	struct slice text;
	bool is_end;
	int err = decode_piece(w, &plain);

	is_end = f->binary.at == f->binary.to;
	text = buf_view(&plain);
	if (err == 0 && f->binary.is_counting) {
		f->binary.size += text.len;
		f->binary.has_nul |= text.len && memchr(text.p, 0, text.len);
		if (is_end)
			begin_binary(w);
	} else if (err == 0) {
		size_t skip = f->binary.skip < text.len ? (size_t)f->binary.skip : text.len;

		text = slice_sub(text, skip, f->binary.left < SIZE_MAX ? (size_t)f->binary.left : SIZE_MAX);
		buf_add_slice(&w->s->out, text);
		f->binary.skip -= skip;
		f->binary.left -= text.len;
		f->binary.is_sending = f->binary.left > 0;
		if (is_end && f->binary.left)
			err = ERR_CORRUPT;
	}
	buf_deinit(&plain);
	return err;
}

/* ---- bodies, step by step ---- */

static bool is_amid_body(const struct imap_fetch *f)
{
	return f->left || f->binary.is_counting || f->binary.is_sending;
}

static int step_body(struct fetcher *w)
{
	return w->f->left ? write_piece(w) : step_binary(w);
}

/* The body at f->body begins. What a damaged message cannot give is NIL. */
static int start_body(struct fetcher *w)
{
	struct imap_fetch *f = w->f;
	const struct imap_fetch_body *body = f->body;
	bool has_fields = body->section.kind == SECTION_HEADER_FIELDS ||
			  body->section.kind == SECTION_HEADER_FIELDS_NOT;
	enum mime_encoding encoding;
	uint64_t at, len;
	int err = imap_fetch_find_section(&w->message, &body->section, &w->f->scratch, &at, &len, &encoding);

	if (err == 0 && has_fields)
		return write_fields(w, body, at, len);
	if (err == 0 && body->is_binary)
		return start_binary(w, at, len, encoding);
	if (err < 0) {
		refuse_body(w, body);
		return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? 0 : err;
	}
	clip(body, &at, &len);
	begin_body(w, body);
	imap_write_literal(&w->s->out, len);
	f->offset = at;
	f->left = len;
	return write_piece(w);
}

/* ---- going over the messages ---- */

/* The next wanted message; false at the end. */
static bool next_seq(struct imap_fetch *f, uint32_t *seq_out)
{
	while (f->range < f->seqs.count) {
		const struct seqset_range *r = &f->seqs.ranges[f->range];

		if (f->seq < r->from)
			f->seq = r->from;
		if (f->seq <= r->to) {
			*seq_out = f->seq;
			return true;
		}
		f->range++;
	}
	return false;
}

/* Finds what the message needs; false: it is not there, or not wanted. */
static bool load_message(struct fetcher *w, uint32_t uid)
{
	struct imap_fetch *f = w->f;

	if ((needs_index(f) || !needs_record(f)) && !find_entry(w, uid)) {
		f->has_missing = true;
		return false;
	}
	if (f->changed_since && w->entry.modseq <= f->changed_since)
		return false;
	if (needs_record(f) && !find_message(w, uid)) {
		f->has_missing = true;
		return false;
	}
	return true;
}

static void end_message(struct fetcher *w)
{
	buf_add_str(&w->s->out, ")\r\n");
	w->f->is_begun = w->f->has_item = false;
	w->f->body = NULL;
	w->f->seq++;
}

/* One message, or what fits of it. */
static int fetch_message(struct fetcher *w, uint32_t seq)
{
	struct imap_fetch *f = w->f;
	uint32_t uid = imap_uids_at(&w->s->view.uids, seq - 1);
	int err = 0;

	if (!f->is_begun) {
		if (!load_message(w, uid)) {
			f->seq++;
			return 0;
		}
		imap_view_tell_keywords(&w->s->view, &w->s->out);
		write_items(w, seq, uid);
		f->is_begun = true;
		f->body = f->items.bodies;
		if (f->body)
			err = start_body(w);
	} else if (!find_message(w, uid)) {
		return ERR_CORRUPT; /* our view holds it: it cannot go */
	} else {
		err = is_amid_body(f) ? step_body(w) : start_body(w);
	}
	while (err == 0 && f->body && !is_amid_body(f)) {
		f->body = f->body->next;
		if (f->body && is_full(w))
			return 0;
		if (f->body)
			err = start_body(w);
	}
	if (err == 0 && !f->body)
		end_message(w);
	return err;
}

static int fetch_messages(struct fetcher *w)
{
	uint64_t until = clock_mono_us() + JOB_US;
	unsigned count = 0;
	uint32_t seq;
	int err = 0;

	while (err == 0 && next_seq(w->f, &seq)) {
		if (is_full(w) ||
			((++count % 64 == 0 || w->f->binary.is_counting) && clock_mono_us() > until))
			return 0;
		err = fetch_message(w, seq);
		if (err == 0)
			err = w->err;
	}
	if (err == 0)
		w->f->is_finished = true;
	return err;
}

/* ---- \Seen ---- */

/* Collects the UIDs that lack it, at most a step's worth. */
static int find_unseen(struct fetcher *w)
{
	struct imap_fetch *f = w->f;

	for (size_t i = 0; i < f->seqs.count; i++) {
		for (uint32_t seq = f->seqs.ranges[i].from; seq <= f->seqs.ranges[i].to; seq++) {
			uint32_t uid = imap_uids_at(&w->s->view.uids, seq - 1);

			if (find_entry(w, uid) && !(w->entry.flags & STORE_SEEN))
				buf_add(&f->seen, &uid, sizeof(uid));
		}
	}
	f->is_checked = true;
	return w->has_scan ? w->scan.error : w->err;
}

static int seen_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_fetch *f = s->data;
	const struct store_flag_change change = {.how = STORE_FLAGS_ADD,
		.flags = STORE_SEEN,
		.unchanged_since = UINT64_MAX,
		.newest_out = &f->newest,
		.who = imap_view_who(&s->view)};
	size_t from = f->offset, count = buf_len(&f->seen) / sizeof(uint32_t) - from;
	const uint32_t *uids = imap_numbers(&f->seen);

	f->left = f->newest = 0;
	if (!(s->view.rights & IMAP_RIGHT_SEEN)) /* withdrawn meanwhile */
		return 0;
	return store_message_flag(txn, s->view.account, s->view.mailbox, uids + from,
		count < STORE_STEP_MAX ? count : STORE_STEP_MAX, &change, NULL, &f->left);
}

/* offset and left serve here as place and MODSEQ, before any body is under way. */
static void seen_done(struct imap_session *s, int err)
{
	struct imap_fetch *f = s->data;

	if (err < 0) {
		f->done(s, err);
		return;
	}
	imap_view_own(&s->view, f->left, f->newest);
	f->offset += STORE_STEP_MAX;
	if (f->offset < buf_len(&f->seen) / sizeof(uint32_t)) {
		imap_write_job(s, seen_run, seen_done);
		return;
	}
	f->offset = f->left = 0;
	f->is_marked = true;
	imap_read(s, fetch_run, fetch_done);
}

/* ---- jobs ---- */

static int fetch_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_fetch *f = s->data;
	struct fetcher w = {.s = s, .f = f, .txn = txn};
	int fill_err;
	/* NOTIFY's, between commands and in IDLE: jobs of commands on the mailbox have asked for it. */
	int err =
		s->cmd && s->cmd->flags & IMAP_CMD_SELECTED ? 0 : imap_access_check(s, txn, IMAP_RIGHT_READ);

	if (err == 0 && !f->is_checked)
		err = find_unseen(&w);
	if (w.has_scan)
		store_scan_end(&w.scan);
	w.has_scan = false;
	w.at_entry = 0;
	if (err == 0)
		err = imap_sync_keywords(s, txn);
	if (err == ERR_NOT_FOUND) /* deleted by others; what our view holds can be read still */
		err = 0;
	/* What this very job has found unseen is to be written first. */
	if (err == 0 && (buf_len(&f->seen) == 0 || f->is_marked)) {
		(void)buf_reserve(&s->out, f->batch + IMAP_BATCH_OVER + 8192);
		err = fetch_messages(&w);
		fill_err = fill_parts(&w);
		err = fill_err < 0 ? fill_err : err;
		f->batches += f->batches < FETCH_LONG;
	}
	if (w.has_scan && err == 0)
		err = w.scan.error;
	if (w.has_walk && err == 0)
		err = w.walk.error;
	if (w.has_scan)
		store_scan_end(&w.scan);
	if (w.has_walk)
		store_walk_end(&w.walk);
	return err;
}

static void fetch_done(struct imap_session *s, int err)
{
	struct imap_fetch *f = s->data;

	if (err < 0 && f->is_begun) {
		/* A line stands half written: nothing can be said any more that would be understood. */
		log_error("imap", "%s: FETCH broken off: %s user=%s mailbox=%u", s->id, error_text(err),
			s->user, s->view.mailbox);
		imap_close(s, NULL);
	} else if (err < 0 || f->is_finished) {
		f->done(s, err);
	} else if (buf_len(&f->seen) && !f->is_marked) {
		imap_write_job(s, seen_run, seen_done);
	} else {
		f->batch = f->batches == FETCH_LONG && !s->has_waited ? IMAP_BATCH_LONG : IMAP_BATCH;
		imap_read_ahead(s, fetch_run, fetch_done);
	}
}

void imap_fetch_start(struct imap_session *s, struct imap_fetch *f)
{
	s->data = f;
	f->batch = IMAP_BATCH;
	arena_init(&f->scratch, SCRATCH_MOST);
	f->is_checked = !f->items.sets_seen || s->view.is_readonly || !(s->view.rights & IMAP_RIGHT_SEEN);
	imap_read(s, fetch_run, fetch_done);
}
