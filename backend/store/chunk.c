/*
 * Chunks are packed dense: every write packs the whole value anew, which costs less than a page's copy. UIDs
 * ascend within and across the chunks of a mailbox.
 */
#include "backend/store/chunk.h"

/* Below this a chunk looks for company. */
#define SMALL (CHUNK_ENTRIES / 4)

int chunk_count(struct slice value, uint32_t *count_out)
{
	uint32_t n;

	if (value.len < CHUNK_HEAD || value.p[0] != 1)
		return ERR_CORRUPT;
	n = bytes_get_u16(value.p + 2);
	if (n == 0 || n > CHUNK_ENTRIES || value.len != CHUNK_HEAD + (size_t)n * CHUNK_ENTRY)
		return ERR_CORRUPT;
	*count_out = n;
	return 0;
}

void chunk_entry(const char *value, uint32_t count, uint32_t i, struct store_entry *entry_out)
{
	const char *at = value + CHUNK_HEAD;
	size_t n = count;

	entry_out->uid = bytes_get_u32(at + (size_t)i * 4);
	entry_out->size = bytes_get_u32(at + n * 4 + (size_t)i * 4);
	entry_out->modseq = bytes_get_u64(at + n * 8 + (size_t)i * 8);
	entry_out->date = (int64_t)bytes_get_u64(at + n * 16 + (size_t)i * 8);
	entry_out->keywords = bytes_get_u64(at + n * 24 + (size_t)i * 8);
	entry_out->flags = (uint8_t)at[n * 32 + i];
}

static void pack(const struct chunk *c, char *value)
{
	char *at = value + CHUNK_HEAD;
	size_t n = c->count;
	uint16_t unseen = 0, deleted = 0;
	uint64_t modseq = 0;

	for (size_t i = 0; i < n; i++) {
		const struct store_entry *e = &c->entries[i];

		bytes_put_u32(at + i * 4, e->uid);
		bytes_put_u32(at + n * 4 + i * 4, e->size);
		bytes_put_u64(at + n * 8 + i * 8, e->modseq);
		bytes_put_u64(at + n * 16 + i * 8, (uint64_t)e->date);
		bytes_put_u64(at + n * 24 + i * 8, e->keywords);
		at[n * 32 + i] = (char)e->flags;
		unseen += !(e->flags & STORE_SEEN);
		deleted += (e->flags & STORE_DELETED) != 0;
		modseq = e->modseq > modseq ? e->modseq : modseq;
	}
	value[0] = 1;
	value[1] = 0;
	bytes_put_u16(value + 2, (uint16_t)n);
	bytes_put_u16(value + 4, unseen);
	bytes_put_u16(value + 6, deleted);
	bytes_put_u64(value + 8, modseq);
}

uint32_t chunk_find(const char *value, uint32_t count, uint32_t uid)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (chunk_uid(value, mid) < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int chunk_seek(struct db_cursor *c, uint32_t mailbox, uint32_t uid)
{
	struct db_key key = db_key_u32_u32(mailbox, uid), prefix = db_key_u32(mailbox);
	int err = db_cursor_floor(c, db_key_view(&key));

	if (!err && !db_cursor_has_prefix(c, db_key_view(&prefix)))
		err = ERR_NOT_FOUND;
	return err;
}

int chunk_unpack(const struct db_cursor *c, struct chunk *chunk_out)
{
	int err = chunk_count(c->value, &chunk_out->count);

	if (err)
		return err;
	chunk_out->mailbox = bytes_get_u32be(c->key.p);
	chunk_out->key_uid = bytes_get_u32be(c->key.p + 4);
	for (uint32_t i = 0; i < chunk_out->count; i++)
		chunk_entry(c->value.p, chunk_out->count, i, &chunk_out->entries[i]);
	return 0;
}

static int put(struct store_txn *txn, const struct chunk *c)
{
	struct db_key key = db_key_u32_u32(c->mailbox, c->key_uid);
	void *room;
	int err = db_reserve(
		txn, DB_INDEX, db_key_view(&key), CHUNK_HEAD + (size_t)c->count * CHUNK_ENTRY, &room);

	if (!err)
		pack(c, room);
	return err;
}

/* Takes the entries of the chunk behind c into it, when both fit with room to spare. */
static int join_next(struct store_txn *txn, struct chunk *c)
{
	struct db_key key = db_key_u32_u32(c->mailbox, c->key_uid), prefix = db_key_u32(c->mailbox);
	struct db_cursor cursor;
	uint32_t more;
	int err = db_cursor_open(txn, DB_INDEX, &cursor);

	if (err)
		return err;
	err = db_cursor_seek(&cursor, db_key_view(&key));
	if (!err)
		err = db_cursor_next(&cursor);
	if (!err && db_cursor_has_prefix(&cursor, db_key_view(&prefix))) {
		err = chunk_count(cursor.value, &more);
		if (!err && c->count + more <= CHUNK_ENTRIES - SMALL) {
			for (uint32_t i = 0; i < more; i++)
				chunk_entry(cursor.value.p, more, i, &c->entries[c->count + i]);
			c->count += more;
			err = db_cursor_delete(&cursor);
		}
	}
	db_cursor_close(&cursor);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int chunk_store(struct store_txn *txn, struct chunk *c)
{
	struct db_key key = db_key_u32_u32(c->mailbox, c->key_uid);
	int err = 0;

	if (c->count == 0)
		return db_delete(txn, DB_INDEX, db_key_view(&key));
	if (c->count < SMALL)
		err = join_next(txn, c);
	return err ? err : put(txn, c);
}

/* Copies the packed value with n entries more; cheaper than unpacking all of it. */
static void pack_with(const char *value, uint32_t count, const struct store_entry *e, uint32_t n, char *out)
{
	static const uint8_t widths[] = {4, 4, 8, 8, 8, 1};
	const char *from = value + CHUNK_HEAD;
	char *at[ARRAY_LEN(widths)], *to = out + CHUNK_HEAD;
	uint16_t unseen = chunk_unseen(value), deleted = chunk_deleted(value);
	uint64_t modseq = bytes_get_u64(value + 8);

	for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
		memcpy(to, from, (size_t)count * widths[i]);
		at[i] = to + (size_t)count * widths[i];
		from += (size_t)count * widths[i];
		to += ((size_t)count + n) * widths[i];
	}
	for (uint32_t i = 0; i < n; i++) {
		bytes_put_u32(at[0] + (size_t)i * 4, e[i].uid);
		bytes_put_u32(at[1] + (size_t)i * 4, e[i].size);
		bytes_put_u64(at[2] + (size_t)i * 8, e[i].modseq);
		bytes_put_u64(at[3] + (size_t)i * 8, (uint64_t)e[i].date);
		bytes_put_u64(at[4] + (size_t)i * 8, e[i].keywords);
		at[5][i] = (char)e[i].flags;
		unseen += !(e[i].flags & STORE_SEEN);
		deleted += (e[i].flags & STORE_DELETED) != 0;
		modseq = e[i].modseq > modseq ? e[i].modseq : modseq;
	}
	memcpy(out, value, CHUNK_HEAD);
	bytes_put_u16(out + 2, (uint16_t)(count + n));
	bytes_put_u16(out + 4, unseen);
	bytes_put_u16(out + 6, deleted);
	bytes_put_u64(out + 8, modseq);
}

/* What the last chunk has room for; how many that is. */
static int fill_last(
	struct store_txn *txn, uint32_t mailbox, const struct store_entry *e, size_t count, uint32_t *n_out)
{
	char value[CHUNK_BYTES];
	struct db_cursor c;
	struct db_key key;
	uint32_t has = 0, n = 0;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = chunk_seek(&c, mailbox, e->uid);
	if (!err)
		err = chunk_count(c.value, &has);
	if (!err && chunk_uid(c.value.p, has - 1) >= e->uid)
		err = ERR_CORRUPT;
	if (!err) {
		n = CHUNK_ENTRIES - has < count ? CHUNK_ENTRIES - has : (uint32_t)count;
		key = db_key_u32_u32(mailbox, bytes_get_u32be(c.key.p + 4));
		pack_with(c.value.p, has, e, n, value);
	}
	db_cursor_close(&c);
	if (n)
		err = db_put(txn, DB_INDEX, db_key_view(&key),
			slice_of(value, CHUNK_HEAD + ((size_t)has + n) * CHUNK_ENTRY));
	*n_out = n;
	return err == ERR_NOT_FOUND ? 0 : err;
}

int chunk_append(struct store_txn *txn, uint32_t mailbox, const struct store_entry *e, size_t count)
{
	uint32_t n = 0;
	int err = count ? fill_last(txn, mailbox, e, count, &n) : 0;

	for (size_t at = n; at < count && !err; at += n) {
		struct chunk new = {.mailbox = mailbox, .key_uid = e[at].uid};

		n = count - at < CHUNK_ENTRIES ? (uint32_t)(count - at) : CHUNK_ENTRIES;
		new.count = n;
		memcpy(new.entries, e + at, n * sizeof(*e));
		err = put(txn, &new);
	}
	return err;
}
