/*
 * Compression on a connection (raw deflate, RFC 1951; the order of layers is RFC 4978's: compressed, then TLS).
 *
 *	out -> pieces of 64 KiB, each by itself -> packed -> TLS or socket
 *	TLS or socket -> 4 KiB -> inflate -> the owner's input; what the input limit leaves over waits in `left`
 *
 * A piece refers to nothing before it, and so the one compressor of a loop serves all of its connections: a connection
 * that is silent holds no compressor, and nothing that it sent is still in any window. It needs no last block either when
 * compression ends: who has read what was written reads on without it. Only the window for what the peer
 * sends is its own (32 KiB, made by zlib when it is first needed).
 */
#include <stdlib.h>
#include <zlib.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"

#define PIECE (64 * 1024)
#define RAW_SIZE 4096
#define READS_A_TURN 8 /* that make nothing; then others have their turn */
#define LEVEL 1
#define WINDOW_BITS (-15) /* without a header */
#define MEM_LEVEL 8
/* What a peer may make of one octet in the long run (deflate's own limit is 1,032), and what is not yet the long run. */
#define INFLATE_RATIO_MOST 250
#define INFLATE_FREE (UINT64_C(32) * 1024 * 1024)

struct conn_deflate {
	z_stream in;
	struct buf left;     /* compressed, not yet looked at */
	struct buf packed;   /* for the wire */
	uint64_t raw, plain; /* octets in, before and after inflating */
	bool has_more;       /* inflate stopped because the room was full */
	bool is_ended;       /* the peer's stream has come to its end: what is left is not compressed */
};

struct conn_packer {
	z_stream out;
};

int conn_start_deflate(struct conn *c)
{
	struct conn_deflate *d;

	if (conn_input(c).len)
		return ERR_DENIED;
	if (c->phase != CONN_OPEN || c->deflate)
		return c->phase == CONN_BROKEN ? c->error : ERR_UNSUPPORTED;
	d = xcalloc(1, sizeof(*d));
	if (inflateInit2(&d->in, WINDOW_BITS) != Z_OK) {
		free(d);
		return ERR_NOT_NOW;
	}
	/* What was written before goes first, as it is. */
	d->packed = c->out;
	buf_init(&c->out, 0);
	c->deflate = d;
	return 0;
}

bool conn_is_deflated(const struct conn *c)
{
	return c->deflate != NULL;
}

void conn_deflate_free(struct conn *c)
{
	struct conn_deflate *d = c->deflate;

	if (!d)
		return;
	inflateEnd(&d->in);
	buf_deinit(&d->left);
	buf_deinit(&d->packed);
	free(d);
	c->deflate = NULL;
}

/* ---- out ---- */

size_t conn_deflate_waiting(const struct conn *c)
{
	return c->deflate ? buf_len(&c->deflate->packed) : 0;
}

void conn_deflate_drop(struct conn *c)
{
	if (c->deflate)
		buf_deinit(&c->deflate->packed);
}

static struct conn_packer *packer_of(struct loop *loop)
{
	struct conn_packer *p = loop->packer;

	if (p) {
		(void)deflateReset(&p->out);
		return p;
	}
	p = xcalloc(1, sizeof(*p));
	/* Fails for want of memory alone. */
	require(deflateInit2(&p->out, LEVEL, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK);
	loop->packer = p;
	return p;
}

void conn_packer_free(struct loop *loop)
{
	if (!loop->packer)
		return;
	deflateEnd(&loop->packer->out);
	free(loop->packer);
	loop->packer = NULL;
}

/* The next piece of the output, packed behind what is packed already. */
static void pack(struct conn *c)
{
	struct conn_deflate *d = c->deflate;
	struct slice piece = slice_sub(buf_view(&c->out), 0, PIECE);
	z_stream *z = &packer_of(c->loop)->out;
	size_t most;
	char *room;

	most = deflateBound(z, piece.len) + 64; /* and the flush */
	room = buf_reserve(&d->packed, most);
	z->next_in = (Bytef *)(uintptr_t)piece.p;
	z->avail_in = (uInt)piece.len;
	z->next_out = (Bytef *)room;
	z->avail_out = (uInt)most;
	require(deflate(z, Z_SYNC_FLUSH) == Z_OK && z->avail_in == 0 && z->avail_out > 0);
	buf_added(&d->packed, most - z->avail_out);
	buf_take(&c->out, piece.len);
}

struct buf *conn_deflate_fill(struct conn *c)
{
	if (!buf_len(&c->deflate->packed) && buf_len(&c->out))
		pack(c);
	return &c->deflate->packed;
}

/* ---- in ---- */

static int broken(struct conn *c, const char *detail)
{
	conn_fail(c, ERR_SYNTAX, detail);
	return ERR_SYNTAX;
}

/* Takes what it can of `in` into p; the rest waits. Octets made, or ERR_*. */
static ssize_t inflate_some(struct conn *c, struct slice in, char *p, size_t size)
{
	struct conn_deflate *d = c->deflate;
	bool was_left = buf_len(&d->left) > 0;
	size_t used, made;
	int rc;

	d->in.next_in = (Bytef *)(uintptr_t)in.p;
	d->in.avail_in = (uInt)in.len;
	d->in.next_out = (Bytef *)p;
	d->in.avail_out = (uInt)size;
	rc = inflate(&d->in, Z_SYNC_FLUSH);
	used = in.len - d->in.avail_in;
	made = size - d->in.avail_out;
	d->has_more = d->in.avail_out == 0;
	d->raw += used;
	d->plain += made;
	d->is_ended = rc == Z_STREAM_END;
	if ((rc != Z_OK && rc != Z_BUF_ERROR && !d->is_ended) || (in.len && !used && !made))
		return broken(c, "bad compressed data");
	if (d->plain > INFLATE_FREE && d->plain / INFLATE_RATIO_MOST > d->raw)
		return broken(c, "compressed data that grows beyond measure");
	if (was_left)
		buf_take(&d->left, used);
	else
		buf_add_slice(&d->left, slice_from(in, used));
	if (buf_len(&d->left) == 0)
		buf_deinit(&d->left);
	return (ssize_t)made;
}

ssize_t conn_inflate_read(struct conn *c, char *p, size_t size)
{
	struct conn_deflate *d = c->deflate;
	char raw[RAW_SIZE];
	unsigned reads = 0;
	ssize_t n;

	do {
		struct slice in = buf_view(&d->left);

		/* Only conn_stop_deflate() goes on from there, and what has come before may lead to it. */
		if (d->is_ended)
			return buf_len(&c->in) ? ERR_MORE : broken(c, "the compressed stream was ended");

		if (in.len == 0 && !d->has_more) {
			n = conn_stream_read(c, raw, sizeof(raw));
			if (n <= 0)
				return n;
			in = slice_of(raw, (size_t)n);
		}
		n = inflate_some(c, in, p, size);
	} while (n == 0 && ++reads < READS_A_TURN);
	if (n == 0) {
		c->readable = true;
		conn_schedule_again(c);
		return ERR_MORE;
	}
	if (n > 0 && (d->has_more || buf_len(&d->left)))
		c->readable = true; /* though the socket may be empty */
	return n;
}

int conn_stop_deflate(struct conn *c)
{
	struct conn_deflate *d = c->deflate;
	struct buf left;

	if (!d)
		return ERR_UNSUPPORTED;
	if (conn_input(c).len || (!d->is_ended && (buf_len(&d->left) || d->has_more)))
		return ERR_DENIED;
	while (buf_len(&c->out))
		pack(c);
	buf_deinit(&c->out);
	c->out = d->packed;
	buf_init(&d->packed, 0);
	left = d->left;
	buf_init(&d->left, 0);
	conn_deflate_free(c);
	buf_add_slice(&c->in, buf_view(&left));
	buf_deinit(&left);
	c->readable = true;
	conn_schedule_again(c);
	return 0;
}
