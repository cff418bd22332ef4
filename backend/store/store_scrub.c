/* The state is seven numbers of DB_META; a step goes from blob to blob, and from frame to frame of a large one. */
#include "backend/store/store_scrub.h"

#include "backend/store/blob.h"
#include "backend/store/record.h"

/* A step of small ones stays short too. */
#define BLOBS_PER_STEP 500

static const struct {
	const char *name;
	size_t at;
} numbers[] = {
	{"scrub_next", offsetof(struct store_scrub, next)},
	{"scrub_frame", offsetof(struct store_scrub, frame)},
	{"scrub_began", offsetof(struct store_scrub, began)},
	{"scrub_ended", offsetof(struct store_scrub, ended)},
	{"scrub_blobs", offsetof(struct store_scrub, blobs)},
	{"scrub_bytes", offsetof(struct store_scrub, bytes)},
	{"scrub_damaged", offsetof(struct store_scrub, damaged)},
};

int store_scrub_get(struct store_txn *txn, struct store_scrub *scrub_out)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(numbers) && !err; i++)
		err = db_meta_get(
			txn, numbers[i].name, (uint64_t *)(void *)((char *)scrub_out + numbers[i].at));
	return err;
}

int store_scrub_put(struct store_txn *txn, const struct store_scrub *scrub)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(numbers) && !err; i++)
		err = db_meta_put(txn, numbers[i].name,
			*(const uint64_t *)(const void *)((const char *)scrub + numbers[i].at));
	return err;
}

/* Frames of one blob; scrub->frame is 0 when it is done. A dead one is no damage: its pieces go. */
static int verify(struct store_txn *txn, struct store_scrub *s, struct slice key, struct slice value,
	uint64_t most, void (*fn)(void *arg, uint64_t blob), void *arg)
{
	struct blob_record r;
	struct slice row;
	uint32_t frame = (uint32_t)s->frame;
	int err = record_unpack_blob(value, &r);

	if (!err)
		err = blob_verify_some(txn, bytes_get_u64be(key.p), &r, &frame, &s->bytes, most);
	s->frame = err || frame >= r.frame_count ? 0 : frame;
	if (err != ERR_CORRUPT)
		return err;
	if (db_get(txn, DB_ORPHANS, key, &row) == ERR_NOT_FOUND) {
		s->damaged++;
		fn(arg, bytes_get_u64be(key.p));
	}
	return 0;
}

int store_scrub_step(struct store_txn *txn, struct store_scrub *s, uint64_t most,
	void (*fn)(void *arg, uint64_t blob), void *arg)
{
	struct db_key from = db_key_u64(s->next);
	uint64_t until = s->bytes + most, blobs = 0;
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_BLOBS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&from));
	while (!err && s->bytes < until && blobs < BLOBS_PER_STEP) {
		uint64_t blob = c.key.len == 8 ? bytes_get_u64be(c.key.p) : 0;

		if (blob != s->next)
			s->frame = 0; /* that one has gone */
		s->next = blob;
		if (c.key.len == 8)
			err = verify(txn, s, c.key, c.value, until, fn, arg);
		if (err || s->frame)
			break;
		s->next = blob + 1;
		s->blobs++;
		blobs++;
		err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err == ERR_NOT_FOUND)
		s->next = 0;
	return err == ERR_NOT_FOUND ? 0 : err;
}
