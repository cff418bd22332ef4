/* What is made here is what the store makes when a message comes, as far as the octets that are read reach. */
#include "backend/session/imap_keys.h"

#include "common/proto/preview.h"

static int read_head(struct store_txn *txn, const struct store_message *m, struct buf *out)
{
	uint64_t size = m->size - m->trace.len;
	size_t want = size < IMAP_KEYS_READ ? (size_t)size : IMAP_KEYS_READ;

	while (buf_len(out) < want) {
		size_t got, left = want - buf_len(out);
		char *room = buf_reserve(out, left);
		int err = room ? store_message_read(txn, m, m->trace.len + buf_len(out), room, left, &got)
			       : ERR_TOO_BIG;

		if (err < 0)
			return err;
		if (got == 0)
			return ERR_CORRUPT;
		buf_added(out, got);
	}
	return 0;
}

static int make(struct slice head, struct arena *arena, struct buf *made)
{
	const struct mime_part *root = mime_parse(arena, head), *part;
	struct buf preview = {0};
	int err;

	if (!root)
		return ERR_TOO_BIG;
	part = preview_part(root);
	if (part)
		preview_write(
			part, slice_sub(head, (size_t)mime_body_at(part), (size_t)part->body_len), &preview);
	err = mail_keys_pack(root->envelope, buf_view(&preview), arena, made);
	buf_deinit(&preview);
	return err;
}

int imap_keys_load(struct store_txn *txn, const struct store_message *m, struct arena *arena,
	struct buf *made, struct mail_keys *keys_out)
{
	struct slice packed = m->texts.keys;
	struct buf head = {0};
	int err = 0;

	if (packed.len == 0) {
		buf_clear(made);
		err = read_head(txn, m, &head);
		if (err == 0)
			err = make(buf_view(&head), arena, made);
		buf_deinit(&head);
		arena_reset(arena);
		packed = buf_view(made);
	}
	return err < 0 ? err : mail_keys_unpack(packed, keys_out);
}
