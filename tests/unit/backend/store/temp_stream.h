/* For the tests of streams: an account into memory and out of it again, records changed on the way. */
#pragma once

#include "temp_store.h"

#include "backend/store/store_export.h"
#include "backend/store/store_import.h"
#include "backend/store/transfer.h"

static inline int to_buf(void *arg, struct slice bytes)
{
	buf_add_slice(arg, bytes);
	return 0;
}

struct source {
	struct slice left;
	size_t most; /* in one read */
};

static inline ssize_t from_slice(void *arg, void *out, size_t size)
{
	struct source *s = arg;
	size_t n = s->left.len < size ? s->left.len : size;

	n = n > s->most ? s->most : n;
	memcpy(out, s->left.p, n);
	s->left = slice_from(s->left, n);
	return (ssize_t)n;
}

static inline void export_to(struct temp_store *t, uint32_t account, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};
	struct store_export_options o = {
		.store = t->store, .account = account, .record = stream_write, .record_arg = &w};
	struct store_export_totals totals;

	assert_int_equal(stream_write_head(&w), 0);
	assert_int_equal(store_export(&o, &totals), 0);
	assert_int_equal(stream_write_end(&w), 0);
	stream_writer_deinit(&w);
}

/* 0, or what went wrong, with words. */
static inline int import_from(
	struct store_import_options *o, struct slice stream, size_t most, struct store_import_totals *totals)
{
	struct source source = {stream, most};
	struct stream_reader r = {.read = from_slice, .arg = &source};
	struct store_import *m = store_import_new(o);
	struct buf why = {0};
	int err = stream_read_all(&r, store_import_record, m, &why);

	if (!err)
		err = store_import_finish(m, totals);
	assert_true(!err || err == ERR_FULL || buf_len(&why) || store_import_why(m)[0]);
	store_import_free(&m);
	stream_reader_deinit(&r);
	buf_deinit(&why);
	return err;
}

/* A record at a time, changed as an attacker would, with right checksums. */
struct edit {
	struct buf out;
	struct stream_writer w;
	uint16_t tag;
	unsigned which; /* of that tag, from 0 */
	void (*change)(uint16_t tag, struct buf *payload);
	unsigned seen;
};

static inline int edit_record(void *arg, uint16_t tag, struct slice payload)
{
	struct edit *e = arg;
	struct buf copy = {0};
	int err;

	buf_add_slice(&copy, payload);
	if (tag == e->tag && e->seen++ == e->which)
		e->change(tag, &copy);
	err = stream_write(&e->w, tag, buf_view(&copy));
	buf_deinit(&copy);
	return err;
}

/* A store_write_fn that does so many steps. */
struct stop {
	struct store *store;
	int left;
};

static inline int stop_after(
	void *arg, unsigned slot, int (*fn)(struct store_txn *txn, void *fn_arg), void *fn_arg)
{
	struct stop *s = arg;
	struct store_txn *txn;
	int err;

	if (s->left-- <= 0)
		return ERR_FULL;
	assert_int_equal(store_begin_write(s->store, slot, &txn), 0);
	err = fn(txn, fn_arg);
	if (!err)
		return store_commit(&txn);
	store_abort(&txn);
	return err;
}
