/*
 * Blobs: the immutable bytes of one message, stored once per slot, as independent zstd frames of 128 KiB of
 * message each, with a checksum per frame; and the draft, in which a message is made ready outside the
 * writer.
 *
 * A draft is used by one thread at a time: store_draft_fill() on a worker, store_draft_write() and
 * store_draft_finish() inside write transactions. A large message alternates between them, so that neither
 * memory nor a transaction holds more than STORE_DRAFT_PART compressed bytes; what was written before the
 * blob is referenced stands under a pending mark, and start-up removes it. After each commit call
 * store_draft_committed(); without it the next transaction writes the same pieces again.
 */
#pragma once

#include <sys/types.h>

#include "backend/store/frame.h"
#include "backend/store/store.h"

#define STORE_FRAME_SIZE (128 * 1024)
#define STORE_DRAFT_PART (2 * 1024 * 1024)
#define STORE_MESSAGE_MAX (UINT64_C(2) * 1024 * 1024 * 1024 - 64 * 1024)

/* A text as it is stored. */
struct store_text {
	struct slice bytes; /* the text, or what it was squeezed to */
	size_t len;         /* of the text */
	bool is_squeezed;
};
/* Appends the text. ERR_CORRUPT; ERR_TOO_BIG: no room in out. */
MUST_CHECK int store_text_add(const struct store_text *text, struct buf *out);
/* The text: a view of its bytes, or of room, whose content goes. The same errors; then an empty one. */
MUST_CHECK int store_text_view(const struct store_text *text, struct buf *room, struct slice *text_out);

/* The texts of the record, computed once; slices are borrowed by whoever takes the struct. */
struct store_texts {
	struct store_text envelope; /* ready IMAP text of ENVELOPE */
	struct store_text
		bodystructure; /* of BODYSTRUCTURE (BODY is made of it by bodystructure_shorten()) */
	struct slice parts;    /* the MIME tree as mime_pack() writes it, offsets from the blob's start */
	struct slice keys;     /* as mail_keys_pack() writes them; empty: stored before there were any */
};
#define STORE_TEXT_MAX ((size_t)4 << 20) /* of each; a message with more gets an empty tree in its place */

/* Where the bytes of a message come from: memory, or a function (memory.p NULL). */
struct store_source {
	struct slice memory;
	/* Reads at most size bytes at offset; returns how many (0 only at the end), or ERR_*. On a worker. */
	ssize_t (*read)(void *arg, uint64_t offset, void *out, size_t size);
	void *arg;
	uint64_t offset; /* where the message begins, when read is used */
	uint64_t size;   /* and how long it is */
};

struct store_draft;

/* A compressor and its memory, kept by each preparing thread for draft after draft. */
struct store_press;
struct store_press *store_press_new(void);
void store_press_free(struct store_press **press);

/* The source must live as long as the draft is filled. ERR_TOO_BIG beyond STORE_MESSAGE_MAX. */
MUST_CHECK int store_draft_new(const struct store_source *source, struct store_draft **draft_out);
/* Removes nothing from the store: give one that is written but not finished to store_draft_drop() first. */
void store_draft_free(struct store_draft **draft);
/* Once filled: the texts, made in the same pass over the message; the draft's. */
const struct store_texts *store_draft_texts(const struct store_draft *draft);
/* Compresses until all is done (*done_out) or STORE_DRAFT_PART bytes wait to be written. Any thread. */
MUST_CHECK int store_draft_fill(struct store_draft *draft, struct store_press *press, bool *done_out);
/* Writes the pieces that wait, under a pending mark. Not needed for a message that one fill has done. */
MUST_CHECK int store_draft_write(struct store_txn *txn, struct store_draft *draft);
/* Writes the rest and the blob record; the blob may be referenced from now on in this transaction or later
 * ones. */
MUST_CHECK int store_draft_finish(struct store_txn *txn, struct store_draft *draft, uint64_t *blob_out);
/* The transaction that wrote or finished it is on disk. A finished one lets go of its bytes; store_draft_finish() then
 * only gives the blob again, which stays pending until it is referenced. */
void store_draft_committed(struct store_draft *draft);
/* Forgets the compressed bytes that wait: only the texts are wanted of it. */
void store_draft_skip(struct store_draft *draft);
/* Compressed bytes that wait to be written. */
size_t store_draft_waiting(const struct store_draft *draft);
/* What a filled draft holds in memory. Any thread. */
size_t store_draft_held(const struct store_draft *draft);
/* All of the message is compressed. */
bool store_draft_is_filled(const struct store_draft *draft);
/* Gives up: what was written becomes an orphan for the reaper. */
MUST_CHECK int store_draft_drop(struct store_txn *txn, struct store_draft *draft);
/* Some transaction was committed with pieces of it, so that giving up needs store_draft_drop(). */
bool store_draft_is_written(const struct store_draft *draft);

/* ---- the compressed stream of a blob, for backups ---- */

struct store_blob_info {
	uint64_t size, stored; /* bytes of the message; of its compressed stream */
	uint32_t frame_count;
	struct slice frames; /* per frame: length u32, xxh3 u64, little-endian; a view */
};
/* ERR_CORRUPT: no such blob. */
MUST_CHECK int store_blob_info(struct store_txn *txn, uint64_t blob, struct store_blob_info *info_out);
/* So many bytes of its stream, at most STORE_FRAME_SIZE: a view that is good until the next call. */
MUST_CHECK int store_blob_stream(
	struct store_txn *txn, uint64_t blob, uint64_t at, size_t len, struct slice *bytes_out);
/* Checks one frame and decompresses it to exactly size bytes, at most STORE_FRAME_SIZE. ERR_CORRUPT. */
MUST_CHECK int store_frame_unpack(
	struct frame_opener *opener, struct slice frame, uint64_t sum, char *out, size_t size);
/* A number that is this slot's alone, of all stores. */
MUST_CHECK int store_slot_identity(struct store *store, unsigned slot, uint64_t *identity_out);
