/*
 * A tree without its texts:
 *
 *	version (1 byte), then for each part in pre-order:
 *	  kind | encoding << 4 (1 byte), varints: bytes from the parent's body (root: from 0) to the header, header_len,
 *	  body_len, child_count
 */
#include "common/proto/mime.h"

#define VERSION 1

static void add_varint(struct buf *out, uint64_t n)
{
	while (n >= 0x80) {
		buf_add_char(out, (char)(n | 0x80));
		n >>= 7;
	}
	buf_add_char(out, (char)n);
}

static bool take_varint(struct slice *in, uint64_t *n_out)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 63 && in->len; shift += 7) {
		unsigned char c = (unsigned char)in->p[0];

		*in = slice_from(*in, 1);
		n |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*n_out = n;
			return true;
		}
	}
	return false;
}

void mime_pack(const struct mime_part *root, struct buf *out)
{
	buf_add_char(out, VERSION);
	for (const struct mime_part *p = root; p; p = mime_next(root, p)) {
		buf_add_char(out, (char)((unsigned)p->kind | (unsigned)p->encoding << 4));
		add_varint(out, p->header_at - (p->parent ? mime_body_at(p->parent) : 0));
		add_varint(out, p->header_len);
		add_varint(out, p->body_len);
		add_varint(out, p->child_count);
	}
}

/* One part within [at, end) of its parent's body. */
static int take_part(struct slice *in, uint64_t at, uint64_t end, struct mime_part *part)
{
	uint64_t gap, header, body, children;
	unsigned char c;

	if (in->len == 0)
		return ERR_CORRUPT;
	c = (unsigned char)in->p[0];
	*in = slice_from(*in, 1);
	if (!take_varint(in, &gap) || !take_varint(in, &header) || !take_varint(in, &body) ||
		!take_varint(in, &children))
		return ERR_CORRUPT;
	if ((c & 15) > MIME_MESSAGE || c >> 4 > MIME_OTHER || children > MIME_PARTS_MAX)
		return ERR_CORRUPT;
	if (gap > end - at || header > end - at - gap || body > end - at - gap - header)
		return ERR_CORRUPT;
	part->kind = (enum mime_kind)(c & 15);
	part->encoding = (enum mime_encoding)(c >> 4);
	part->header_at = at + gap;
	part->header_len = header;
	part->body_len = body;
	part->child_count = (uint32_t)children;
	return 0;
}

static void add_child(struct mime_part *parent, struct mime_part *part)
{
	part->parent = parent;
	part->depth = parent->depth + 1;
	if (parent->last_child)
		parent->last_child->next = part;
	else
		parent->first_child = part;
	parent->last_child = part;
}

int mime_unpack(struct arena *a, struct slice packed, uint64_t message_len, struct mime_part **root_out)
{
	struct mime_part *root = NULL, *parent = NULL;
	uint32_t left[MIME_DEPTH_MAX + 1]; /* children that are still to come, per depth */
	size_t count = 0;

	if (packed.len == 0 || packed.p[0] != VERSION)
		return ERR_CORRUPT;
	packed = slice_from(packed, 1);
	do {
		struct mime_part *part = arena_calloc(a, 1, sizeof(*part));
		uint64_t at = parent ? mime_body_at(parent) : 0;
		uint64_t end = parent ? at + parent->body_len : message_len;

		if (!part)
			return ERR_TOO_BIG;
		if (++count > MIME_PARTS_MAX || take_part(&packed, at, end, part))
			return ERR_CORRUPT;
		part->depth = 1;
		if (parent)
			add_child(parent, part);
		else
			root = part;
		if (part->depth > MIME_DEPTH_MAX)
			return ERR_CORRUPT;
		left[part->depth] = part->child_count;
		parent = part;
		while (parent && left[parent->depth] == 0)
			parent = parent->parent;
		if (parent)
			left[parent->depth]--;
	} while (parent);
	if (packed.len)
		return ERR_CORRUPT;
	*root_out = root;
	return 0;
}
