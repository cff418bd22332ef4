/*
 * The one MIME parser (RFC 2045, 2046), used by delivery, IMAP, search and preview alike, so that all see the
 * same tree. Bytes are fed in pieces of any size, so a large message need not be in memory; the result is a
 * tree of parts with byte offsets into the message. Iterative, linear in time, bounded in memory.
 *
 * It never fails: malformed input gives some tree. Line ends are CRLF or a bare LF. A line is a boundary only
 * if nothing but blanks follow it, so that boundaries that begin alike are kept apart. Depth, parts and
 * header sizes are capped: beyond them content is taken as text of the part where it stands, and is_cut says
 * so. A multipart without a usable boundary, or in which none was found, is text/plain: a multipart always
 * has a part. The tree lives in the caller's arena (an arena that runs full cuts the tree as the other limits
 * do); the parser itself, with the line and field it is reading, on the heap until mime_parser_free().
 */
#pragma once

#include "common/base/buf.h"
#include "common/proto/content.h"
#include "common/proto/envelope.h"

/* A part's depth: the message itself is 1. */
#define MIME_DEPTH_MAX 100
#define MIME_PARTS_MAX 10000
#define MIME_BOUNDARY_MAX 990
/* An arena for one parser should allow about this much. */
#define MIME_ARENA_MAX ((size_t)128 << 20)

enum mime_kind {
	MIME_LEAF,
	MIME_MULTIPART, /* children: its parts */
	MIME_MESSAGE    /* message/rfc822: one child, the enclosed message */
};

enum mime_encoding {
	MIME_7BIT,
	MIME_8BIT,
	MIME_BINARY,
	MIME_QUOTED_PRINTABLE,
	MIME_BASE64,
	MIME_OTHER
};

struct mime_part {
	struct mime_part *parent; /* NULL: the message itself */
	struct mime_part *first_child;
	struct mime_part *last_child;
	struct mime_part *next;
	enum mime_kind kind;
	enum mime_encoding encoding;
	uint32_t depth;
	uint32_t child_count;

	uint64_t header_at;    /* offsets from the start of the message */
	uint64_t header_len;   /* with the empty line; the body follows */
	uint64_t body_len;     /* without the line end that belongs to the following boundary */
	uint64_t header_lines; /* line ends in it */
	uint64_t body_lines;

	struct content_value
		type;  /* never NULL: text/plain, or message/rfc822 in a digest, where none was given */
	bool has_type; /* the header had a readable Content-Type */
	struct slice encoding_text; /* NULL: none given */
	struct slice id;
	struct slice description; /* unfolded, words still encoded */
	struct slice md5;
	struct slice location;
	struct content_value disposition;
	struct content_param *languages;
	struct envelope *envelope; /* of a message (root, or child of MIME_MESSAGE); else NULL */
};

static inline uint64_t mime_body_at(const struct mime_part *p)
{
	return p->header_at + p->header_len;
}

struct mime_parser;

/* NULL: the arena has no room for a start. */
struct mime_parser *mime_parser_new(struct arena *a);
/* The next bytes of the message. */
void mime_parser_feed(struct mime_parser *p, struct slice bytes);
/* Ends the message: gives the tree, which lives in the arena. The parser must not be fed any more. */
struct mime_part *mime_parser_end(struct mime_parser *p);
/* True when a limit left something uninterpreted. */
bool mime_parser_is_cut(const struct mime_parser *p);
/* Frees the parser, not the tree; accepts NULL. */
void mime_parser_free(struct mime_parser **p);

/* All at once, for a message in memory. NULL: no room in the arena. */
struct mime_part *mime_parse(struct arena *a, struct slice message);

/* Pre-order walk: the part after p within root's tree, NULL at the end. */
struct mime_part *mime_next(const struct mime_part *root, const struct mime_part *p);

/*
 * A tree without its texts: kinds, encodings and offsets alone, for the message's record, so that a section
 * of a stored message is found without parsing it again. A few bytes a part.
 */
void mime_pack(const struct mime_part *root, struct buf *out);
/* ERR_CORRUPT: not such a text, or offsets that leave the message; ERR_TOO_BIG: arena full. */
MUST_CHECK int mime_unpack(
	struct arena *a, struct slice packed, uint64_t message_len, struct mime_part **root_out);
