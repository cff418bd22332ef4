/*
 * The stream of an account, as an attacker would write it. The first octet says how the rest is taken: odd, as the stream itself;
 * even, as records (tag u8, length u16, payload) which get their head, checksums and end. Whatever comes in, the store stays sound and
 * without a trace of what was refused; what was taken can be exported and taken again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store/store_export.h"
#include "backend/store/store_import.h"
#include "common/base/bytes.h"
#include "common/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store *store;
static char dir[64];

static void stop(void)
{
	static const char *const files[] = {"s0/data.mdb", "s0/lock.mdb", "s0", "lock", "version"};
	char path[128];

	store_close(&store);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		remove(path);
	}
	rmdir(dir);
}

static void start(void)
{
	struct store_options o = {.dir = dir, .slots = 1, .map_size = 64 << 20};
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/mailtier-fuzz-XXXXXX",
		stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp");
	require(mkdtemp(dir));
	require(store_open(&o, &store, NULL) == 0);
	atexit(stop);
}

static ssize_t from_slice(void *arg, void *out, size_t size)
{
	struct slice *left = arg;
	size_t n = left->len < size ? left->len : size;

	if (n)
		memcpy(out, left->p, n);
	*left = slice_from(*left, n);
	return (ssize_t)n;
}

static int to_buf(void *arg, struct slice bytes)
{
	buf_add_slice(arg, bytes);
	return 0;
}

static void frame(struct slice in, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};

	require(stream_write_head(&w) == 0);
	while (in.len >= 3) {
		size_t len = bytes_get_u16(in.p + 1);

		require(stream_write(&w, (uint8_t)in.p[0], slice_sub(in, 3, len)) == 0);
		in = slice_from(in, 3 + len);
	}
	require(stream_write_end(&w) == 0);
	stream_writer_deinit(&w);
}

static int import(struct slice in, struct slice address, struct store_import_totals *totals)
{
	struct store_import_options o = {.store = store, .address = address};
	struct store_import *m = store_import_new(&o);
	struct stream_reader r = {.read = from_slice, .arg = &in};
	struct buf why = {0};
	int err = stream_read_all(&r, store_import_record, m, &why);

	if (!err)
		err = store_import_finish(m, totals);
	store_import_free(&m);
	stream_reader_deinit(&r);
	buf_deinit(&why);
	return err;
}

static void export(uint32_t account, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};
	struct store_export_options o = {
		.store = store, .account = account, .record = stream_write, .record_arg = &w};
	struct store_export_totals totals;

	require(stream_write_head(&w) == 0);
	require(store_export(&o, &totals) == 0);
	require(stream_write_end(&w) == 0);
	stream_writer_deinit(&w);
}

static void clear(const uint32_t *accounts, size_t count)
{
	struct store_txn *txn;
	bool done = false;

	while (!done) {
		require(store_begin_write(store, 0, &txn) == 0);
		for (size_t i = 0; i < count; i++)
			require(store_account_remove(txn, accounts[i]) == 0);
		count = 0;
		require(store_reap(txn, NULL, 1000, &done) == 0);
		require(store_commit(&txn) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned runs;
	struct store_import_totals totals, again;
	struct store_check_options o = {0};
	struct store_check check;
	struct buf stream = {0};
	struct slice in = slice_of(data, size);
	uint32_t accounts[2];
	size_t count = 0;

	if (!store)
		start();
	if (size == 0)
		return 0;
	if (data[0] & 1)
		buf_add_slice(&stream, slice_from(in, 1));
	else
		frame(slice_from(in, 1), &stream);
	if (import(buf_view(&stream), slice_of(NULL, 0), &totals) == 0) {
		accounts[count++] = totals.account;
		buf_clear(&stream);
		export(totals.account, &stream);
		require(import(buf_view(&stream), SLICE_LIT("again@example.org"), &again) == 0);
		accounts[count++] = again.account;
		require(again.messages == totals.messages && again.bytes == totals.bytes);
		require(again.kept == totals.kept && again.kept_bytes == totals.kept_bytes);
	}
	if (count || ++runs % 64 == 0) {
		require(store_check(store, &o, &check) == 0 && check.errors == 0);
	}
	clear(accounts, count);
	buf_deinit(&stream);
	return 0;
}
