/*
 * The stream of one account: what export writes and import reads. A head, then records:
 *
 *	head     "MAILTIER ACCOUNT" | version u32 | 0 u32
 *	record   tag u16 | 0 u16 | length u32 | xxh3 of the payload, seeded with tag and length, u64 | payload
 *
 * The last record is STREAM_END with the number of records and of payload bytes and a checksum over all checksums: a
 * stream that was cut, or lost a record, is told from a whole one. A reader skips records that it does not know if their
 * tag has STREAM_OPTIONAL, and refuses the stream otherwise. Numbers are little-endian. docs/storage.md has the payloads.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/slice.h"

#define STREAM_VERSION 1
#define STREAM_RECORD_MAX ((size_t)1 << 20)
#define STREAM_BODY_MAX ((size_t)128 << 10) /* bytes of a message in one record */

enum stream_tag {
	STREAM_ACCOUNT = 1,
	STREAM_ALIAS,
	STREAM_MAILBOX,
	STREAM_SUBSCRIPTION,
	STREAM_MESSAGE,
	STREAM_BODY,
	STREAM_CHANGE,
	STREAM_METADATA,
	STREAM_ACL,
	STREAM_QUOTA,
	STREAM_SEEN,
	STREAM_KEPT_SUM,
	STREAM_GONE,
	STREAM_KEPT,
	STREAM_LAST = STREAM_KEPT,
	STREAM_END = 255
};
#define STREAM_OPTIONAL 0x8000

/* Takes one record; 0 or ERR_*, which ends what feeds it. */
typedef int stream_record_fn(void *arg, uint16_t tag, struct slice payload);

/* ---- writing ---- */

struct stream_writer {
	int (*write)(void *arg, struct slice bytes); /* all of them, or ERR_* */
	void *arg;
	struct buf out;
	uint64_t records, bytes, chain;
};
/* Zero the struct and set write and arg first. */
MUST_CHECK int stream_write_head(struct stream_writer *w);
/* ERR_TOO_BIG beyond STREAM_RECORD_MAX; else what write returned. Is a stream_record_fn. */
MUST_CHECK int stream_write(void *writer, uint16_t tag, struct slice payload);
/* The end record; all is given to write. */
MUST_CHECK int stream_write_end(struct stream_writer *w);
void stream_writer_deinit(struct stream_writer *w);

/* ---- reading: the input is hostile ---- */

struct stream_reader {
	/* At most size bytes; 0: the end; or ERR_*. */
	ssize_t (*read)(void *arg, void *out, size_t size);
	void *arg;
	struct buf in;
	uint64_t at; /* offset of the next record, for messages */
	uint64_t records, bytes, chain;
	bool has_head, has_end;
};
/*
 * Reads to the end and gives each record but the last to fn. ERR_SYNTAX: no such stream, or one that was cut;
 * ERR_UNSUPPORTED: of another version or with a record that may not be skipped; ERR_CORRUPT: a checksum is wrong; what read
 * or fn returned. why gets a sentence with the offset.
 */
MUST_CHECK int stream_read_all(struct stream_reader *r, stream_record_fn *fn, void *arg, struct buf *why);
void stream_reader_deinit(struct stream_reader *r);
