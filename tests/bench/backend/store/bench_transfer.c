/*
 * Export and import of one large account: bench_transfer DIR [MESSAGES [MAILBOXES [SIZE]]] makes a store in DIR (which must not exist),
 * fills an account, exports it to a file, imports it into another slot, and shows how fast that went and how much memory it took.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store/store_export.h"
#include "backend/store/store_import.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define must(call) require((call) == 0)

static uint32_t mailboxes[10000];

static struct store_draft *draft_of(struct slice text, struct store_press *press)
{
	struct store_source source = {.memory = text};
	struct store_draft *d;
	bool done;

	must(store_draft_new(&source, &d));
	must(store_draft_fill(d, press, &done));
	require(done);
	return d;
}

static void fill(struct store *store, uint32_t account, unsigned messages, unsigned boxes, size_t size)
{
	struct store_press *press = store_press_new();
	char *text = malloc(size + 1);
	struct store_appended appended;
	struct store_txn *txn;

	for (unsigned i = 0; i < boxes;) {
		must(store_begin_write(store, 0, &txn));
		for (unsigned k = 0; k < 100 && i < boxes; k++, i++) {
			char name[40];

			snprintf(name, sizeof(name), "Folder %05u", i);
			must(store_mailbox_create(
				txn, account, slice_str(name), STORE_USE_NONE, &mailboxes[i]));
		}
		must(store_commit(&txn));
	}
	for (unsigned i = 0; i < messages;) {
		must(store_begin_write(store, 0, &txn));
		for (unsigned k = 0; k < 500 && i < messages; k++, i++) {
			struct store_append a = {.account = account,
				.mailbox = mailboxes[i % boxes],
				.date = 1700000000,
				.save_date = 1700000000};
			struct store_draft *d;
			int n = snprintf(text, size,
				"From: a@example.com\r\nSubject: number %u\r\nMessage-ID: <%u@x>\r\n\r\n", i,
				i);

			for (size_t at = (size_t)n; at < size; at++)
				text[at] = "etaoin shrdlu\n"[(at * 7 + i * 31 + at / 97) % 14];
			d = draft_of(slice_of(text, size), press);
			a.texts = store_draft_texts(d);
			must(store_draft_finish(txn, d, &a.blob));
			must(store_message_append(txn, &a, &appended));
			store_draft_free(&d);
		}
		must(store_commit(&txn));
	}
	free(text);
	store_press_free(&press);
}

static int write_all(void *arg, struct slice bytes)
{
	return write(*(int *)arg, bytes.p, bytes.len) == (ssize_t)bytes.len ? 0 : ERR_IO;
}

static ssize_t read_some(void *arg, void *out, size_t size)
{
	ssize_t n = read(*(int *)arg, out, size);

	return n < 0 ? error_from_errno(errno) : n;
}

/* A step as the program's writer runs it; the longest, without its commit. */
static uint64_t longest, steps;

static int step(void *arg, unsigned slot, int (*fn)(struct store_txn *txn, void *fn_arg), void *fn_arg)
{
	struct store_txn *txn;
	uint64_t began;
	int err = store_begin_write(arg, slot, &txn);

	if (err)
		return err;
	began = clock_mono_us();
	err = fn(txn, fn_arg);
	began = clock_mono_us() - began;
	longest = began > longest ? began : longest;
	steps++;
	if (!err)
		return store_commit(&txn);
	store_abort(&txn);
	return err;
}

static long peak(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return r.ru_maxrss / 1024;
}

static void show(const char *what, uint64_t us, uint64_t messages, uint64_t bytes)
{
	double s = (double)us / 1e6;

	printf("%s: %.1f s, %.0f messages/s, %.1f MB/s, peak memory so far %ld MiB\n", what, s,
		(double)messages / s, (double)bytes / s / 1e6, peak());
}

int main(int argc, char **argv)
{
	unsigned messages = argc > 2 ? (unsigned)atoi(argv[2]) : 100000,
		 boxes = argc > 3 ? (unsigned)atoi(argv[3]) : 9000;
	size_t size = argc > 4 ? (size_t)atoi(argv[4]) : 4096;
	struct store_account_new a = {.address = SLICE_LIT("big@example.com")};
	struct store_options so = {.dir = argc > 1 ? argv[1] : "", .slots = 2};
	struct store_import_options io = {.slot = 1, .address = SLICE_LIT("copy@example.com")};
	struct stream_writer w = {.write = write_all};
	struct store_export_options eo = {.record = stream_write, .record_arg = &w};
	struct stream_reader r = {.read = read_some};
	struct store_export_totals out;
	struct store_import_totals in;
	struct store_import *import;
	struct store_check_options co = {0};
	struct store_check check;
	struct buf why = {0};
	struct store_txn *txn;
	struct store *store;
	char path[4096];
	uint64_t began;
	int fd;

	if (argc < 2 || boxes == 0 || boxes > ARRAY_LEN(mailboxes) || size < 200)
		return fprintf(stderr, "usage: bench_transfer DIR [MESSAGES [MAILBOXES [SIZE]]]\n"), 64;
	must(store_open(&so, &store, NULL));
	must(store_begin_write(store, 0, &txn));
	must(store_account_create(txn, &a, &eo.account));
	must(store_commit(&txn));
	fill(store, eo.account, messages, boxes, size);
	printf("%u messages of %zu bytes in %u mailboxes; peak memory so far %ld MiB\n", messages, size,
		boxes, peak());
	snprintf(path, sizeof(path), "%s/stream", argv[1]);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	w.arg = r.arg = &fd;
	eo.store = io.store = store;
	io.write = step;
	io.write_arg = store;
	began = clock_mono_us();
	must(stream_write_head(&w));
	must(store_export(&eo, &out));
	must(stream_write_end(&w));
	must(fsync(fd));
	show("export to a file", clock_mono_us() - began, out.messages, out.bytes);
	must(lseek(fd, 0, SEEK_SET) != 0);
	began = clock_mono_us();
	import = store_import_new(&io);
	must(stream_read_all(&r, store_import_record, import, &why));
	must(store_import_finish(import, &in));
	store_import_free(&import);
	show("import from it", clock_mono_us() - began, in.messages, in.bytes);
	printf("steps: %llu, the longest held the writer for %.1f ms before its commit\n",
		(unsigned long long)steps, (double)longest / 1000);
	require(in.messages == out.messages && in.bytes == out.bytes);
	must(store_check(store, &co, &check));
	printf("check: %llu errors\n", (unsigned long long)check.errors);
	stream_reader_deinit(&r);
	stream_writer_deinit(&w);
	store_close(&store);
	close(fd);
	return check.errors != 0;
}
