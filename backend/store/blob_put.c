/*
 * Where a blob's compressed stream goes, so that no page stays half empty. LMDB gives a value of more than about 2,000 octets
 * pages of its own, and smaller ones share the pages that hold the rows; what does not fit there any more begins a new one.
 *
 *	up to 2,000      what the last page of DB_BLOBS still has room for beside the record, the rest as a piece
 *	up to INLINE_MAX with the record, as much as fills whole pages; the rest as pieces
 *	more             pieces of PIECE_SIZE, one that fills whole pages, small ones; so the record can be made anew of them
 *
 * Small pieces are cut to what the last page of DB_PIECES has room for, at most to what shares pages.
 */
#include "backend/store/blob.h"
#include "backend/store/db.h"

#define PAGE 4096
#define PAGE_HEAD 16
#define INLINE_MAX (4 * PAGE - PAGE_HEAD)
/* Less room than this at the end of pages is left empty: a piece has a cost, too. */
#define WASTE_MAX 512
/* A row is cut for this much room on a shared page, not for less. */
#define CUT_MIN 96

/* Octets of a value of so many that go to pages of their own, leaving next to nothing of them empty. */
static size_t whole_pages(size_t len)
{
	size_t pages = (len + PAGE_HEAD) / PAGE, over = (len + PAGE_HEAD) % PAGE;

	if (over > PAGE - WASTE_MAX)
		return len;
	return pages ? pages * PAGE - PAGE_HEAD : 0;
}

/* Octets of a value of so many, none of which have pages of their own, that come first. */
static size_t cut(struct store_txn *txn, enum db_name db, size_t key_len, size_t head, size_t len)
{
	size_t most = db_value_shared_max(key_len), room = db_room_at_end(txn, db, key_len);

	if (room >= head + CUT_MIN && room < most)
		most = room;
	return len < most ? len : most;
}

static int put_piece(struct store_txn *txn, uint64_t blob, uint32_t n, struct slice piece)
{
	struct db_key key = db_key_u64_u32(blob, n);

	return db_put(txn, DB_PIECES, db_key_view(&key), piece);
}

int blob_put_pieces(struct store_txn *txn, uint64_t blob, uint32_t *n, struct slice stream)
{
	int err = 0;

	while (!err && stream.len) {
		size_t len = stream.len < BLOB_PIECE_SIZE ? whole_pages(stream.len) : BLOB_PIECE_SIZE;

		if (!len)
			len = cut(txn, DB_PIECES, BLOB_PIECE_KEY, 0, stream.len);
		err = put_piece(txn, blob, (*n)++, slice_sub(stream, 0, len));
		stream = slice_from(stream, len);
	}
	return err;
}

int blob_put_full_pieces(
	struct store_txn *txn, uint64_t blob, uint32_t *n, struct slice stream, size_t *put_out)
{
	int err = 0;

	*put_out = 0;
	for (; !err && stream.len - *put_out >= BLOB_PIECE_SIZE; *put_out += BLOB_PIECE_SIZE)
		err = put_piece(txn, blob, (*n)++, slice_sub(stream, *put_out, BLOB_PIECE_SIZE));
	return err;
}

int blob_put_record(
	struct store_txn *txn, uint64_t blob, struct blob_record *r, const struct blob_frame *frames)
{
	struct db_key key = db_key_u64(blob);
	void *room;
	int err = db_reserve(txn, DB_BLOBS, db_key_view(&key), record_blob_size(r), &room);

	if (!err)
		record_pack_blob(r, frames, room);
	return err;
}

int blob_put_small(struct store_txn *txn, uint64_t blob, struct blob_record *r,
	const struct blob_frame *frames, struct slice stream)
{
	size_t head, len;
	uint32_t n = 0;
	int err;

	r->inline_data = slice_of(NULL, 0);
	head = record_blob_size(r);
	len = head + stream.len <= INLINE_MAX ? whole_pages(head + stream.len) : head;
	if (!len)
		len = cut(txn, DB_BLOBS, BLOB_KEY, head, head + stream.len);
	r->inline_data = slice_sub(stream, 0, len - head);
	err = blob_put_record(txn, blob, r, frames);
	return err ? err : blob_put_pieces(txn, blob, &n, slice_from(stream, len - head));
}
