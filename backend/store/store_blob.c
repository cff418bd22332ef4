/*
 * Drafts and blobs.
 *
 *	message   |<- 128 KiB ->|<- 128 KiB ->|<- rest ->|
 *	            zstd frame    zstd frame    frame        each with length and xxh3 in the blob's record
 *	stream    |frame|frame|frame|                        one string of bytes …
 *	pieces    |<- 65520 ->|<- 65520 ->|<-rest|           … cut to what fills LMDB's pages
 *
 * The beginning of a small stream, or all of it, stands in the record's own value; blob_put.c says what goes where.
 * DB_ORPHANS holds the blobs without a message: ORPHAN_PENDING while a draft writes them over several
 * transactions, ORPHAN_DEAD when they wait for the reaper.
 */
#include "backend/store/store_blob.h"

#include <stdlib.h>

#include "backend/store/blob.h"
#include "backend/store/db_slot.h"
#include "backend/store/frame.h"
#include "backend/store/record.h"
#include "common/base/arena.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"
#include "common/proto/bodystructure.h"
#include "common/proto/envelope.h"
#include "common/proto/mail_keys.h"
#include "common/proto/mime.h"
#include "common/proto/preview.h"

/* Ids promised to be taken at once, so that DB_META is written once in so many blobs. */
#define ID_STEP 65536

struct store_draft {
	struct store_source source;
	uint64_t size;
	uint64_t at; /* compressed up to here */
	char *raw;   /* one frame read from a source that is no memory */
	struct buf stream;
	struct blob_frame *frames;
	uint32_t frame_count;
	uint64_t stored; /* length of the whole stream so far */

	uint64_t blob;        /* 0: not taken yet */
	uint32_t piece_count; /* on disk */
	size_t writing;       /* bytes of `stream` put in a transaction that is not yet committed */
	uint32_t writing_pieces;
	bool is_written; /* something of it is committed */
	bool is_finished;
	bool is_whole; /* finished and committed */

	struct arena arena; /* of the MIME tree and the texts */
	struct mime_parser *parser;
	struct buf envelope, bodystructure, parts, keys;
	struct buf squeezed_envelope, squeezed_structure;
	struct store_texts texts;
};

/* ---- filling ---- */

struct store_press {
	struct frame_press *frames;
	struct squeeze_dict dict; /* of the texts */
};

struct store_press *store_press_new(void)
{
	struct store_press *p = xcalloc(1, sizeof(*p));

	p->frames = frame_press_new();
	record_text_dict(&p->dict);
	return p;
}

void store_press_free(struct store_press **press)
{
	if (!*press)
		return;
	frame_press_free(&(*press)->frames);
	free(*press);
	*press = NULL;
}

int store_draft_new(const struct store_source *source, struct store_draft **draft_out)
{
	uint64_t size = source->memory.p || !source->read ? source->memory.len : source->size;
	struct store_draft *d;

	if (size > STORE_MESSAGE_MAX)
		return ERR_TOO_BIG;
	d = xcalloc(1, sizeof(*d));
	d->source = *source;
	d->size = size;
	d->frames = xcalloc((size_t)(size / STORE_FRAME_SIZE) + 1, sizeof(*d->frames));
	arena_init(&d->arena, MIME_ARENA_MAX);
	buf_init(&d->envelope, STORE_TEXT_MAX);
	buf_init(&d->bodystructure, STORE_TEXT_MAX);
	buf_init(&d->parts, STORE_TEXT_MAX);
	buf_init(&d->keys, STORE_TEXT_MAX);
	d->parser = mime_parser_new(&d->arena);
	if (!d->parser) {
		store_draft_free(&d);
		return ERR_NOT_NOW;
	}
	*draft_out = d;
	return 0;
}

void store_draft_free(struct store_draft **draft)
{
	struct store_draft *d = *draft;

	if (!d)
		return;
	mime_parser_free(&d->parser);
	buf_deinit(&d->stream);
	buf_deinit(&d->envelope);
	buf_deinit(&d->bodystructure);
	buf_deinit(&d->parts);
	buf_deinit(&d->keys);
	buf_deinit(&d->squeezed_envelope);
	buf_deinit(&d->squeezed_structure);
	arena_deinit(&d->arena);
	free(d->frames);
	free(d->raw);
	free(d);
	*draft = NULL;
}

/* So many of the message's bytes, at most a frame. */
static int read_raw(struct store_draft *d, uint64_t at, size_t want, struct slice *raw_out)
{
	size_t got = 0;

	if (d->source.memory.p) {
		*raw_out = slice_sub(d->source.memory, (size_t)at, want);
		return 0;
	}
	if (!d->raw)
		d->raw = xmalloc(STORE_FRAME_SIZE);
	while (got < want) {
		ssize_t n =
			d->source.read(d->source.arg, d->source.offset + at + got, d->raw + got, want - got);

		if (n <= 0)
			return n < 0 ? (int)n : ERR_IO;
		got += (size_t)n;
	}
	*raw_out = slice_of(d->raw, got);
	return 0;
}

/* The next frame's. */
static int next_raw(struct store_draft *d, struct slice *raw_out)
{
	uint64_t left = d->size - d->at;

	return read_raw(d, d->at, left < STORE_FRAME_SIZE ? (size_t)left : STORE_FRAME_SIZE, raw_out);
}

static int add_frame(struct store_draft *d, struct store_press *press, struct slice raw)
{
	char *room = buf_reserve(&d->stream, frame_bound(raw.len));
	size_t n;
	int err = frame_pack(press->frames, raw, room, &n);

	if (err)
		return err;
	d->frames[d->frame_count++] = (struct blob_frame){(uint32_t)n, hash_bytes(slice_of(room, n), 0)};
	buf_added(&d->stream, n);
	d->stored += n;
	d->at += raw.len;
	return 0;
}

/* Texts of a message whose own are too large for a record. */
static void put_plain_texts(struct store_draft *d)
{
	buf_clear(&d->bodystructure);
	buf_clear(&d->parts);
	buf_printf(&d->bodystructure, "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"8BIT\" %llu 0 NIL NIL NIL NIL)",
		(unsigned long long)d->size);
}

/* Without them the message is what one stored before there were any is. */
static int make_keys(struct store_draft *d, const struct mime_part *root)
{
	const struct mime_part *part = preview_part(root);
	struct buf preview = {0};
	struct slice raw;
	int err = 0;

	if (part) {
		err = read_raw(d, mime_body_at(part),
			part->body_len < PREVIEW_RAW ? (size_t)part->body_len : PREVIEW_RAW, &raw);
		if (err == 0)
			preview_write(part, raw, &preview);
	}
	if (err == 0 && mail_keys_pack(root->envelope, buf_view(&preview), &d->arena, &d->keys) < 0)
		buf_clear(&d->keys);
	buf_deinit(&preview);
	return err;
}

static int make_texts(struct store_draft *d, const struct store_press *press)
{
	struct mime_part *root = mime_parser_end(d->parser);
	int err = root ? make_keys(d, root) : 0;

	if (!root || envelope_write(root->envelope, &d->arena, &d->envelope) || d->envelope.failed) {
		buf_clear(&d->envelope);
		buf_add_str(&d->envelope, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
	}
	if (!root || bodystructure_write(root, &d->arena, &d->bodystructure) || d->bodystructure.failed)
		put_plain_texts(d);
	else
		mime_pack(root, &d->parts);
	if (d->parts.failed)
		put_plain_texts(d);
	d->texts = (struct store_texts){
		record_text_squeeze(&press->dict, buf_view(&d->envelope), &d->squeezed_envelope),
		record_text_squeeze(&press->dict, buf_view(&d->bodystructure), &d->squeezed_structure),
		buf_view(&d->parts), buf_view(&d->keys)};
	if (d->texts.envelope.is_squeezed)
		buf_deinit(&d->envelope);
	if (d->texts.bodystructure.is_squeezed)
		buf_deinit(&d->bodystructure);
	mime_parser_free(&d->parser);
	arena_deinit(&d->arena); /* the texts have left it */
	return err;
}

int store_draft_fill(struct store_draft *d, struct store_press *press, bool *done_out)
{
	int err = 0;

	while (!err && d->at < d->size && buf_len(&d->stream) < STORE_DRAFT_PART) {
		struct slice raw;

		err = next_raw(d, &raw);
		if (err)
			break;
		mime_parser_feed(d->parser, raw);
		err = add_frame(d, press, raw);
	}
	if (!err && d->at == d->size && d->parser)
		err = make_texts(d, press);
	if (err)
		return err;
	*done_out = d->at == d->size;
	return 0;
}

const struct store_texts *store_draft_texts(const struct store_draft *d)
{
	return &d->texts;
}

bool store_draft_is_written(const struct store_draft *d)
{
	return d->is_written;
}

/* ---- writing ---- */

static int put_orphan(struct store_txn *txn, uint64_t blob, char kind)
{
	struct db_key key = db_key_u64(blob);

	if (kind == ORPHAN_DEAD)
		txn->has_waste = true;
	return db_put(txn, DB_ORPHANS, db_key_view(&key), slice_of(&kind, 1));
}

/* Takes an id once for the draft, and sees to it that the disk knows it as taken. */
static int take_id(struct store_txn *txn, struct store_draft *d)
{
	uint64_t high;
	int err;

	if (!d->blob)
		d->blob = txn->slot->next_blob++;
	err = db_meta_get(txn, "next_blob", &high);
	if (!err && d->blob >= high)
		err = db_meta_put(txn, "next_blob", d->blob + ID_STEP);
	return err;
}

int store_draft_write(struct store_txn *txn, struct store_draft *d)
{
	uint32_t n = d->piece_count;
	int err = take_id(txn, d);

	FAULT("store-draft-piece");
	if (!err && !d->is_written)
		err = put_orphan(txn, d->blob, ORPHAN_PENDING);
	if (!err)
		err = blob_put_full_pieces(txn, d->blob, &n, buf_view(&d->stream), &d->writing);
	d->writing_pieces = n - d->piece_count;
	return err;
}

static void remember_fresh(struct store_txn *t, uint64_t blob)
{
	if (t->fresh_count == t->fresh_room) {
		t->fresh_room = t->fresh_room ? t->fresh_room * 2 : 16;
		t->fresh = xreallocarray(t->fresh, t->fresh_room, sizeof(*t->fresh));
	}
	t->fresh[t->fresh_count++] = blob;
}

int store_draft_finish(struct store_txn *txn, struct store_draft *d, uint64_t *blob_out)
{
	struct blob_record r = {.size = d->size, .stored = d->stored, .frame_count = d->frame_count};
	uint32_t n = d->piece_count;
	int err;

	if (d->is_whole) {
		*blob_out = d->blob;
		return 0;
	}
	err = take_id(txn, d);
	if (!err && !d->is_written) {
		err = blob_put_small(txn, d->blob, &r, d->frames, buf_view(&d->stream));
	} else if (!err) {
		err = blob_put_pieces(txn, d->blob, &n, buf_view(&d->stream));
		if (!err)
			err = blob_put_record(txn, d->blob, &r, d->frames);
	}
	if (err)
		return err;
	d->is_finished = true;
	remember_fresh(txn, d->blob);
	*blob_out = d->blob;
	return 0;
}

void store_draft_committed(struct store_draft *d)
{
	d->is_written = true;
	if (d->is_finished) {
		d->is_whole = true;
		buf_deinit(&d->stream);
		return;
	}
	buf_take(&d->stream, d->writing);
	d->piece_count += d->writing_pieces;
	d->writing = 0;
	d->writing_pieces = 0;
}

void store_draft_skip(struct store_draft *d)
{
	buf_clear(&d->stream);
}

size_t store_draft_waiting(const struct store_draft *d)
{
	return buf_len(&d->stream);
}

size_t store_draft_held(const struct store_draft *d)
{
	return sizeof(*d) + buf_len(&d->stream) + buf_len(&d->envelope) + buf_len(&d->bodystructure) +
	       buf_len(&d->squeezed_envelope) + buf_len(&d->squeezed_structure) + buf_len(&d->parts) +
	       buf_len(&d->keys);
}

bool store_draft_is_filled(const struct store_draft *d)
{
	return d->at == d->size && !d->parser;
}

int store_draft_drop(struct store_txn *txn, struct store_draft *d)
{
	return d->is_written || d->is_finished ? put_orphan(txn, d->blob, ORPHAN_DEAD) : 0;
}

/* ---- references ---- */

static int get_record(struct store_txn *txn, uint64_t blob, struct blob_record *r)
{
	struct db_key key = db_key_u64(blob);
	struct slice value;
	int err = db_get_near(txn, DB_BLOBS, db_key_view(&key), &value);

	return err ? err : record_unpack_blob(value, r);
}

/* Writes the record with another count; the frames come from the old value, so a copy is packed first. */
static int put_refs(struct store_txn *txn, uint64_t blob, struct blob_record *r, uint32_t refs)
{
	struct db_key key = db_key_u64(blob);
	size_t size = record_blob_size(r);
	char *copy = xmalloc(size);
	int err;

	r->refs = refs;
	record_pack_blob(r, NULL, copy);
	err = db_put(txn, DB_BLOBS, db_key_view(&key), slice_of(copy, size));
	free(copy);
	return err;
}

/* References beyond those that the record counts; ERR_CORRUPT: not a row of ours. */
static int get_copies(struct store_txn *txn, uint64_t blob, uint32_t *count_out)
{
	struct db_key key = db_key_u64(blob);
	struct slice value;
	int err = db_get(txn, DB_COPIES, db_key_view(&key), &value);

	*count_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (value.len != 4 || bytes_get_u32(value.p) == 0)
		return ERR_CORRUPT;
	*count_out = bytes_get_u32(value.p);
	return 0;
}

static int put_copies(struct store_txn *txn, uint64_t blob, uint32_t count)
{
	struct db_key key = db_key_u64(blob);
	char value[4];

	if (count == 0)
		return db_drop(txn, DB_COPIES, db_key_view(&key));
	bytes_put_u32(value, count);
	return db_put(txn, DB_COPIES, db_key_view(&key), slice_of(value, sizeof(value)));
}

int blob_refs(struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t *refs_out)
{
	uint32_t copies;
	int err = get_copies(txn, blob, &copies);

	if (err)
		return err;
	if (copies > UINT32_MAX - r->refs)
		return ERR_CORRUPT;
	*refs_out = r->refs + copies;
	return 0;
}

/* The record has the first reference. Further ones stand in a table of their own, so that a copy does not write the body anew. */
int blob_add_ref(struct store_txn *txn, uint64_t blob, uint64_t *size_out)
{
	struct db_key key = db_key_u64(blob);
	struct blob_record r;
	uint32_t copies;
	int err = get_record(txn, blob, &r);

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	*size_out = r.size;
	if (r.refs == 0) {
		err = put_refs(txn, blob, &r, 1);
		return err ? err : db_drop(txn, DB_ORPHANS, db_key_view(&key));
	}
	err = get_copies(txn, blob, &copies);
	if (!err && copies >= UINT32_MAX - r.refs)
		return ERR_TOO_BIG;
	return err ? err : put_copies(txn, blob, copies + 1);
}

int blob_size(struct store_txn *txn, uint64_t blob, uint64_t *size_out)
{
	struct blob_record r;
	int err = get_record(txn, blob, &r);

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	*size_out = r.size;
	return 0;
}

int blob_drop_ref(struct store_txn *txn, uint64_t blob)
{
	struct blob_record r;
	uint32_t copies;
	int err = get_copies(txn, blob, &copies);

	if (!err && copies)
		return put_copies(txn, blob, copies - 1);
	if (!err)
		err = get_record(txn, blob, &r);
	/* Its user may remove the message: what is left of the body is store repair's. */
	if ((err == ERR_NOT_FOUND || err == ERR_CORRUPT) && !store_txn_error(txn))
		return 0;
	if (err)
		return db_fail(txn, ERR_CORRUPT);
	if (r.refs > 1)
		return put_refs(txn, blob, &r, r.refs - 1);
	return put_orphan(txn, blob, ORPHAN_DEAD);
}

int db_orphan_fresh(struct store_txn *txn)
{
	for (size_t i = 0; i < txn->fresh_count; i++) {
		struct db_key key = db_key_u64(txn->fresh[i]);
		struct blob_record r;
		struct slice row;
		int err = get_record(txn, txn->fresh[i], &r);

		if (!err && r.refs == 0 && db_get(txn, DB_ORPHANS, db_key_view(&key), &row) == ERR_NOT_FOUND)
			err = put_orphan(txn, txn->fresh[i], ORPHAN_PENDING);
		if (err && err != ERR_NOT_FOUND)
			return err;
	}
	return 0;
}

int blob_remove(struct store_txn *txn, uint64_t blob, size_t *budget, bool *done_out)
{
	struct db_key key = db_key_u64(blob);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_PIECES, &c);

	*done_out = false;
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	while (!err && *budget && db_cursor_has_prefix(&c, db_key_view(&key))) {
		err = db_cursor_delete(&c);
		--*budget;
		if (!err)
			err = db_cursor_seek(&c, db_key_view(&key));
	}
	*done_out = err == ERR_NOT_FOUND || (!err && !db_cursor_has_prefix(&c, db_key_view(&key)));
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (!*done_out)
		return 0;
	err = db_drop(txn, DB_BLOBS, db_key_view(&key));
	if (!err)
		err = db_drop(txn, DB_COPIES, db_key_view(&key));
	return err ? err : db_drop(txn, DB_ORPHANS, db_key_view(&key));
}

/* ---- what reading keeps ---- */

struct db_frame_cache {
	struct frame_opener *opener;
	char *joined; /* a frame that lies in several pieces */
	size_t joined_room;
	char raw[STORE_FRAME_SIZE];
	uint64_t blob; /* whose frame is in raw; 0: none */
	uint32_t frame;
	size_t len;
};

void db_frame_cache_free(struct db_frame_cache **cache)
{
	struct db_frame_cache *c = *cache;

	if (!c)
		return;
	frame_opener_free(&c->opener);
	free(c->joined);
	free(c);
	*cache = NULL;
}

static struct db_frame_cache *cache_of(struct store_txn *txn)
{
	if (!txn->cache) {
		txn->cache = xcalloc(1, sizeof(*txn->cache));
		txn->cache->opener = frame_opener_new();
	}
	return txn->cache->opener ? txn->cache : NULL;
}

/* ---- repair ---- */

int blob_put_dead(struct store_txn *txn, uint64_t blob)
{
	return put_orphan(txn, blob, ORPHAN_DEAD);
}

int blob_set_refs(struct store_txn *txn, uint64_t blob, uint32_t refs)
{
	struct db_key key = db_key_u64(blob);
	struct blob_record r;
	int err = get_record(txn, blob, &r);

	if (!err)
		err = put_refs(txn, blob, &r, refs);
	if (!err)
		err = db_drop(txn, DB_COPIES, db_key_view(&key));
	return err ? err : db_drop(txn, DB_ORPHANS, db_key_view(&key));
}

static int join_pieces(struct store_txn *txn, uint64_t blob, struct buf *stream)
{
	for (uint32_t n = 0;; n++) {
		struct db_key key = db_key_u64_u32(blob, n);
		struct slice piece;
		int err = db_get(txn, DB_PIECES, db_key_view(&key), &piece);

		if (err)
			return err == ERR_NOT_FOUND && n > 0 ? 0 : err;
		buf_add_slice(stream, piece);
	}
}

/* The frames of a stream, each with its length; every one must be whole and as long as frames are. */
static int split_frames(struct store_txn *txn, struct slice stream, uint64_t size, struct blob_frame *frames)
{
	uint32_t count = (uint32_t)((size + STORE_FRAME_SIZE - 1) / STORE_FRAME_SIZE);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t left = size - (uint64_t)i * STORE_FRAME_SIZE;
		size_t want = left < STORE_FRAME_SIZE ? (size_t)left : STORE_FRAME_SIZE;
		size_t len;
		int err = frame_length(stream, &len);

		if (!err)
			err = frame_open(txn->cache->opener, slice_of(stream.p, len), txn->cache->raw, want);
		if (err)
			return err;
		frames[i] = (struct blob_frame){(uint32_t)len, hash_bytes(slice_of(stream.p, len), 0)};
		stream = slice_from(stream, len);
	}
	return stream.len ? ERR_CORRUPT : 0;
}

int blob_rebuild(struct store_txn *txn, uint64_t blob, uint32_t refs, uint64_t size)
{
	struct db_key key = db_key_u64(blob);
	struct blob_record r = {.refs = refs, .size = size};
	struct blob_frame *frames = NULL;
	struct buf stream = {0};
	int err = size <= STORE_MESSAGE_MAX ? 0 : ERR_CORRUPT;

	if (!err)
		err = cache_of(txn) ? join_pieces(txn, blob, &stream) : ERR_NOT_NOW;
	if (!err) {
		txn->cache->blob = 0;
		r.stored = buf_len(&stream);
		r.frame_count = (uint32_t)((size + STORE_FRAME_SIZE - 1) / STORE_FRAME_SIZE);
		frames = xcalloc((size_t)r.frame_count + 1, sizeof(*frames));
		err = split_frames(txn, buf_view(&stream), size, frames);
	}
	if (!err)
		err = blob_put_record(txn, blob, &r, frames);
	if (!err)
		err = db_drop(txn, DB_COPIES, db_key_view(&key));
	free(frames);
	buf_deinit(&stream);
	return err ? err : db_drop(txn, DB_ORPHANS, db_key_view(&key));
}

/* ---- start-up: pending blobs have no draft any more ---- */

int db_remove_pending(struct store *store, unsigned slot)
{
	struct store_txn *txn;
	struct db_cursor c;
	uint64_t *ids = NULL;
	size_t count = 0;
	int err = store_begin_write(store, slot, &txn);

	if (err)
		return err;
	err = db_cursor_open(txn, DB_ORPHANS, &c);
	if (!err) {
		err = db_cursor_seek(&c, slice_of("", 1));
		for (; !err; err = db_cursor_next(&c)) {
			ids = xreallocarray(ids, count + 1, sizeof(*ids));
			ids[count++] = bytes_get_u64be(c.key.p);
		}
		db_cursor_close(&c);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	for (size_t i = 0; i < count && !err; i++)
		err = put_orphan(txn, ids[i], ORPHAN_DEAD);
	free(ids);
	if (!err && count)
		return store_commit(&txn);
	store_abort(&txn);
	return err;
}

/* ---- reading ---- */

/* Bytes [at, at+len) of what is in pieces: a view when they lie in one, else copied to `to`. */
static int piece_bytes(
	struct store_txn *txn, uint64_t blob, uint64_t at, size_t len, char *to, struct slice *bytes_out)
{
	uint32_t n = (uint32_t)(at / BLOB_PIECE_SIZE); /* those before the last ones are full */
	uint64_t begins = (uint64_t)n * BLOB_PIECE_SIZE;
	size_t got = 0;

	while (got < len) {
		struct db_key key = db_key_u64_u32(blob, n++);
		struct slice piece, part;
		int err = db_get_near(txn, DB_PIECES, db_key_view(&key), &piece);

		if (err)
			return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
		part = slice_sub(piece, (size_t)(at + got - begins), len - got);
		begins += piece.len;
		if (part.len == len) {
			*bytes_out = part;
			return 0;
		}
		if (part.len)
			memcpy(to + got, part.p, part.len);
		got += part.len;
	}
	*bytes_out = slice_of(to, len);
	return 0;
}

/* Bytes [at, at+len) of the stream; a view of the map when they lie in one place. */
static int stream_bytes(struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint64_t at,
	size_t len, struct slice *bytes_out)
{
	struct db_frame_cache *c = txn->cache;
	struct slice first;
	int err;

	if (at > r->stored || len > r->stored - at)
		return ERR_CORRUPT;
	first = slice_sub(r->inline_data, (size_t)at, len);
	if (first.len == len) {
		*bytes_out = first;
		return 0;
	}
	if (len > frame_bound(STORE_FRAME_SIZE))
		return ERR_CORRUPT;
	if (c->joined_room < len) {
		c->joined_room = frame_bound(STORE_FRAME_SIZE);
		c->joined = xreallocarray(c->joined, c->joined_room, 1);
	}
	if (first.len)
		memcpy(c->joined, first.p, first.len);
	at += first.len;
	len -= first.len;
	err = piece_bytes(txn, blob, at - r->inline_data.len, len, c->joined + first.len, bytes_out);
	if (!err && first.len) {
		if (bytes_out->p != c->joined + first.len)
			memcpy(c->joined + first.len, bytes_out->p, len);
		*bytes_out = slice_of(c->joined, first.len + len);
	}
	return err;
}

static size_t frame_raw_len(const struct blob_record *r, uint32_t frame)
{
	uint64_t from = (uint64_t)frame * STORE_FRAME_SIZE;

	return r->size - from < STORE_FRAME_SIZE ? (size_t)(r->size - from) : STORE_FRAME_SIZE;
}

/* Checks and decompresses a frame to its room; stream_at: where it begins in the stream. */
static int unpack_frame(struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t frame,
	uint64_t stream_at, char *room)
{
	struct blob_frame f = record_blob_frame(r, frame);
	struct slice bytes;
	int err = stream_bytes(txn, blob, r, stream_at, f.len, &bytes);

	if (err)
		return err;
	if (hash_bytes(bytes, 0) != f.sum)
		return ERR_CORRUPT;
	return frame_open(txn->cache->opener, bytes, room, frame_raw_len(r, frame));
}

static bool is_cached(const struct store_txn *txn, uint64_t blob, uint32_t frame)
{
	const struct db_frame_cache *c = txn->cache;

	return c->blob == blob && c->frame == frame && !txn->is_write;
}

/* Brings a frame into the cache. */
static int load_frame(
	struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t frame, uint64_t stream_at)
{
	struct db_frame_cache *c = txn->cache;
	int err;

	if (is_cached(txn, blob, frame) && c->len == frame_raw_len(r, frame))
		return 0;
	c->blob = 0;
	err = unpack_frame(txn, blob, r, frame, stream_at, c->raw);
	if (err)
		return err;
	c->blob = blob;
	c->frame = frame;
	c->len = frame_raw_len(r, frame);
	return 0;
}

/* What is wanted of a frame; a whole one comes without a stay in the cache. */
static int read_frame(struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t frame,
	uint64_t stream_at, size_t skip, char *data, size_t len)
{
	int err;

	if (skip == 0 && len == frame_raw_len(r, frame) && !is_cached(txn, blob, frame))
		return unpack_frame(txn, blob, r, frame, stream_at, data);
	err = load_frame(txn, blob, r, frame, stream_at);
	if (!err)
		memcpy(data, txn->cache->raw + skip, len);
	return err;
}

int blob_read(struct store_txn *txn, uint64_t blob, uint64_t offset, char *data, size_t len, size_t *len_out)
{
	struct blob_record r;
	uint64_t stream_at = 0;
	uint32_t frame = (uint32_t)(offset / STORE_FRAME_SIZE);
	size_t got = 0;
	int err = cache_of(txn) ? get_record(txn, blob, &r) : ERR_NOT_NOW;

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	if (offset >= r.size) {
		*len_out = 0;
		return 0;
	}
	for (uint32_t i = 0; i < frame; i++)
		stream_at += record_blob_frame(&r, i).len;
	for (; got < len && frame < r.frame_count; frame++) {
		size_t skip = (size_t)((offset + got) % STORE_FRAME_SIZE);
		size_t n = frame_raw_len(&r, frame) - skip;

		if (n > len - got)
			n = len - got;
		err = read_frame(txn, blob, &r, frame, stream_at, skip, data + got, n);
		if (err)
			return err;
		got += n;
		stream_at += record_blob_frame(&r, frame).len;
	}
	*len_out = got;
	return 0;
}

int blob_verify_some(struct store_txn *txn, uint64_t blob, const struct blob_record *r, uint32_t *frame,
	uint64_t *read, uint64_t most)
{
	uint64_t stream_at = 0, whole = 0;
	int err = cache_of(txn) ? 0 : ERR_NOT_NOW;

	for (uint32_t i = 0; i < r->frame_count; i++) {
		stream_at += i < *frame ? record_blob_frame(r, i).len : 0;
		whole += record_blob_frame(r, i).len;
	}
	if (!err && whole != r->stored)
		return ERR_CORRUPT;
	while (!err && *frame < r->frame_count && *read < most) {
		uint32_t len = record_blob_frame(r, *frame).len;

		txn->cache->blob = 0;
		err = load_frame(txn, blob, r, *frame, stream_at);
		stream_at += len;
		*read += len;
		++*frame;
	}
	return err;
}

int blob_verify(struct store_txn *txn, uint64_t blob, const struct blob_record *r)
{
	uint64_t read = 0;
	uint32_t frame = 0;

	return blob_verify_some(txn, blob, r, &frame, &read, UINT64_MAX);
}

/* ---- for backups ---- */

int store_blob_info(struct store_txn *txn, uint64_t blob, struct store_blob_info *out)
{
	struct blob_record r;
	int err = get_record(txn, blob, &r);

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	*out = (struct store_blob_info){
		r.size, r.stored, r.frame_count, slice_of(r.frames, (size_t)r.frame_count * RECORD_FRAME)};
	return 0;
}

int store_blob_stream(struct store_txn *txn, uint64_t blob, uint64_t at, size_t len, struct slice *bytes_out)
{
	struct blob_record r;
	int err = cache_of(txn) ? get_record(txn, blob, &r) : ERR_NOT_NOW;

	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	return stream_bytes(txn, blob, &r, at, len, bytes_out);
}

int store_frame_unpack(struct frame_opener *opener, struct slice frame, uint64_t sum, char *out, size_t size)
{
	if (hash_bytes(frame, 0) != sum || size > STORE_FRAME_SIZE)
		return ERR_CORRUPT;
	return frame_open(opener, frame, out, size);
}

int store_slot_identity(struct store *store, unsigned slot, uint64_t *identity_out)
{
	struct store_txn *txn;
	int err = store_begin_read(store, slot, &txn);

	if (err)
		return err;
	err = db_meta_get(txn, "identity", identity_out);
	store_end_read(&txn);
	return !err && !*identity_out ? ERR_CORRUPT : err;
}
