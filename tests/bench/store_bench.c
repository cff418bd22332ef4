/*
 * Figures of the store alone, without sessions and network: one a line, name, value, unit. Usage: store_bench
 * DIR [MESSAGES]; DIR is made and must be on the disk to be measured.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store_work/store_work.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define RUN_MS 3000
#define USERS 16

struct bench {
	struct store *store;
	struct store_work *work;
	uint32_t accounts[USERS];
	uint32_t inbox; /* of the first */
	char message[4096];
	size_t len;
};

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "store_bench: %s: %s\n", what, error_text(err));
	exit(1);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void make_message(struct bench *b)
{
	unsigned seed = 1;
	int n = snprintf(b->message, sizeof(b->message),
		"Return-Path: <sender@example.org>\r\nFrom: A Sender <sender@example.org>\r\n"
		"To: Some Body <user0001@example.test>\r\nSubject: a message for the benchmark\r\n"
		"Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1234567890@example.org>\r\n"
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");

	/* Words and digits, so that it compresses about as text does. */
	for (b->len = (size_t)n; b->len < sizeof(b->message) - 2; b->len++)
		b->message[b->len] = b->len % 77 == 76 ? '\n' : "etaoin shrdlu0123456789"[rand_r(&seed) % 23];
	memcpy(b->message + b->len, "\r\n", 2);
	b->len += 2;
}

static void make_accounts(struct bench *b)
{
	for (unsigned i = 0; i < USERS; i++) {
		char address[40];
		struct store_account_new a = {
			.address = slice_of(address,
				(size_t)snprintf(address, sizeof(address), "user%u@example.test", i))};
		struct store_txn *txn;

		must(store_begin_write(b->store, 0, &txn), "begin");
		must(store_account_create(txn, &a, &b->accounts[i]), "account");
		must(store_commit(&txn), "commit");
	}
}

/* ---- deliveries: `depth` in flight ---- */

struct flight {
	struct bench *b;
	pthread_mutex_t lock;
	pthread_cond_t landed;
	unsigned in_air;
	uint64_t count;
};

static void on_added(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct flight *f = arg;

	must(err ? err : count ? results[0].error : 0, "delivery");
	pthread_mutex_lock(&f->lock);
	f->in_air--;
	f->count++;
	pthread_cond_signal(&f->landed);
	pthread_mutex_unlock(&f->lock);
}

static void measure_deliveries(struct bench *b, unsigned depth, const char *name)
{
	struct flight f = {.b = b, .lock = PTHREAD_MUTEX_INITIALIZER, .landed = PTHREAD_COND_INITIALIZER};
	uint64_t begin = clock_mono_us(), took;
	double cpu = cpu_seconds();

	for (unsigned i = 0; clock_mono_us() - begin < RUN_MS * 1000; i++) {
		struct store_work_target target = {.account = b->accounts[1 + i % (USERS - 1)],
			.date = 1700000000,
			.trace = SLICE_LIT("Delivered-To: user@example.test\r\n")};
		struct store_work_add add = {.memory = slice_of(b->message, b->len),
			.targets = &target,
			.target_count = 1,
			.done = on_added,
			.arg = &f};

		pthread_mutex_lock(&f.lock);
		while (f.in_air >= depth)
			pthread_cond_wait(&f.landed, &f.lock);
		f.in_air++;
		pthread_mutex_unlock(&f.lock);
		store_work_add(b->work, &add);
	}
	pthread_mutex_lock(&f.lock);
	while (f.in_air)
		pthread_cond_wait(&f.landed, &f.lock);
	pthread_mutex_unlock(&f.lock);
	took = clock_mono_us() - begin;
	printf("%s %.0f per_second\n", name, (double)f.count * 1e6 / (double)took);
	printf("%s_cpu %.3f ms_each\n", name, (cpu_seconds() - cpu) * 1000 / (double)f.count);
}

/* ---- a large mailbox ---- */

static void fill_mailbox(struct bench *b, unsigned messages)
{
	struct store_source source = {.memory = slice_of(b->message, b->len)};
	struct store_press *press = store_press_new();
	uint64_t begin = clock_mono_us();
	struct store_mailbox m;
	struct store_txn *txn;

	must(store_begin_read(b->store, 0, &txn), "begin");
	must(store_mailbox_find(txn, b->accounts[0], SLICE_LIT("INBOX"), &m), "INBOX");
	b->inbox = m.id;
	store_end_read(&txn);
	for (unsigned i = 0; i < messages;) {
		must(store_begin_write(b->store, 0, &txn), "begin");
		for (unsigned k = 0; k < 500 && i < messages; k++, i++) {
			struct store_append a = {.account = b->accounts[0],
				.mailbox = b->inbox,
				.date = 1700000000 + i,
				.flags = i % 3 ? STORE_SEEN : 0};
			struct store_appended out;
			struct store_draft *d;
			bool done;

			must(store_draft_new(&source, &d), "draft");
			must(store_draft_fill(d, press, &done), "fill");
			must(store_draft_finish(txn, d, &a.blob), "finish");
			a.texts = store_draft_texts(d);
			must(store_message_append(txn, &a, &out), "append");
			store_draft_free(&d);
		}
		must(store_commit(&txn), "commit");
	}
	printf("fill %.0f messages_per_second\n", messages * 1e6 / (double)(clock_mono_us() - begin));
	store_press_free(&press);
}

static uint64_t best_of(struct bench *b, void (*fn)(struct bench *, struct store_txn *))
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 7; i++) {
		uint64_t begin = clock_mono_us(), took;
		struct store_txn *txn;

		must(store_begin_read(b->store, 0, &txn), "begin");
		fn(b, txn);
		store_end_read(&txn);
		took = clock_mono_us() - begin;
		best = took < best ? took : best;
	}
	return best;
}

static uint64_t sink;

static void sink_run(void *arg, uint32_t from, uint32_t count)
{
	(void)arg;
	sink += from + count;
}

static void do_select(struct bench *b, struct store_txn *txn)
{
	struct store_mailbox m;
	uint32_t unseen;

	must(store_mailbox_find(txn, b->accounts[0], SLICE_LIT("INBOX"), &m), "find");
	must(store_message_runs(txn, m.id, m.uidnext, sink_run, NULL), "uids");
	if (store_message_first_unseen(txn, &m, &unseen) == 0)
		sink += unseen;
}

static void do_flags(struct bench *b, struct store_txn *txn)
{
	struct store_scan scan;
	struct store_entry e;

	must(store_scan_begin(&scan, txn, b->inbox, 0), "scan");
	while (store_scan_next(&scan, &e))
		sink += e.uid + e.flags;
	must(scan.error, "scan");
	store_scan_end(&scan);
}

static void do_envelopes(struct bench *b, struct store_txn *txn)
{
	struct buf out = {0};
	struct store_walk walk;
	struct store_message m;

	must(store_walk_begin(&walk, txn, b->inbox, 0), "walk");
	while (store_walk_next(&walk, &m)) {
		if (buf_len(&out) > 65536)
			buf_clear(&out);
		must(store_text_add(&m.texts.envelope, &out), "envelope");
	}
	must(walk.error, "walk");
	store_walk_end(&walk);
	sink += buf_len(&out);
	buf_deinit(&out);
}

static void do_bodies(struct bench *b, struct store_txn *txn)
{
	char data[8192];
	struct store_walk walk;
	struct store_message m;
	size_t len;

	must(store_walk_begin(&walk, txn, b->inbox, 0), "walk");
	for (int i = 0; i < 10000 && store_walk_next(&walk, &m); i++) {
		must(store_message_read(txn, &m, 0, data, sizeof(data), &len), "read");
		sink += len;
	}
	store_walk_end(&walk);
}

static void measure_writes(struct bench *b, unsigned messages)
{
	uint32_t *uids = xreallocarray(NULL, messages, sizeof(*uids));
	struct store_flag_change change = {
		.how = STORE_FLAGS_ADD, .flags = STORE_FLAGGED, .unchanged_since = UINT64_MAX};
	size_t step = messages < STORE_STEP_MAX ? messages : STORE_STEP_MAX;
	struct store_txn *txn;
	uint64_t modseq, begin;

	for (unsigned i = 0; i < messages; i++)
		uids[i] = i + 1;
	begin = clock_mono_us();
	must(store_begin_write(b->store, 0, &txn), "begin");
	must(store_message_flag(txn, b->accounts[0], b->inbox, uids, step, &change, NULL, &modseq), "flag");
	printf("flag_step %.2f ms\n", (double)(clock_mono_us() - begin) / 1000);
	must(store_commit(&txn), "commit");
	printf("flag_step_committed %.2f ms\n", (double)(clock_mono_us() - begin) / 1000);
	begin = clock_mono_us();
	must(store_begin_write(b->store, 0, &txn), "begin");
	must(store_message_expunge(txn, b->accounts[0], b->inbox, uids, step, true, NULL, &modseq),
		"expunge");
	printf("expunge_step %.2f ms\n", (double)(clock_mono_us() - begin) / 1000);
	must(store_commit(&txn), "commit");
	free(uids);
}

/* One small write, as it is in the transaction itself and as it is in a child. */
static int one_write(struct store_txn *txn, void *arg)
{
	uint8_t mark[STORE_MARK_LEN] = {0};
	uint32_t *n = arg;

	++*n;
	memcpy(mark, n, sizeof(*n));
	return store_mark_add(txn, mark, 1000);
}

static void measure_children(struct bench *b, const char *when)
{
	struct store_txn *txn;
	uint64_t begin, plain;
	uint32_t n = 0;

	must(store_begin_write(b->store, 0, &txn), "begin");
	begin = clock_mono_us();
	for (int i = 0; i < 1000; i++)
		must(one_write(txn, &n), "write");
	plain = clock_mono_us() - begin;
	begin = clock_mono_us();
	for (int i = 0; i < 1000; i++)
		must(store_txn_try(txn, one_write, &n), "child");
	printf("write_plain%s %.2f us\n", when, (double)plain / 1000);
	printf("write_in_child%s %.2f us\n", when, (double)(clock_mono_us() - begin) / 1000);
	store_abort(&txn);
}

/* Expunges the mailbox and lets the reaper finish: many free pages. */
static void delete_all(struct bench *b, unsigned messages)
{
	uint64_t begin = clock_mono_us(), longest = 0, modseq;
	uint32_t *uids = xreallocarray(NULL, messages, sizeof(*uids));
	struct store_txn *txn;
	bool done = false;

	for (unsigned i = 0; i < messages; i++)
		uids[i] = i + 1;
	must(store_begin_write(b->store, 0, &txn), "begin");
	must(store_message_expunge(txn, b->accounts[0], b->inbox, uids, messages, true, NULL, &modseq),
		"expunge");
	must(store_commit(&txn), "commit");
	while (!done) {
		uint64_t step = clock_mono_us();

		must(store_begin_write(b->store, 0, &txn), "begin");
		must(store_reap(txn, NULL, 500, &done), "reap");
		step = clock_mono_us() - step;
		longest = step > longest ? step : longest;
		must(store_commit(&txn), "commit");
	}
	free(uids);
	printf("delete_all %.2f s\n", (double)(clock_mono_us() - begin) / 1e6);
	printf("reap_step_longest %.2f ms\n", (double)longest / 1000);
}

int main(int argc, char **argv)
{
	struct store_work_options wo = {0};
	struct store_options o = {.slots = 1};
	static struct bench b;
	unsigned messages = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 100000;
	struct store_check_options co = {0};
	struct store_check c;
	struct store_stat s;
	uint64_t begin;

	if (argc < 2) {
		fprintf(stderr, "usage: store_bench DIR [MESSAGES]\n");
		return 64;
	}
	o.dir = argv[1];
	must(store_open(&o, &b.store, NULL), "open");
	make_message(&b);
	make_accounts(&b);
	must(store_work_start(b.store, &wo, &b.work), "start");
	measure_deliveries(&b, 1, "append_one");
	measure_deliveries(&b, 16, "append_16");
	measure_deliveries(&b, 64, "append_64");
	store_work_stop(&b.work);
	fill_mailbox(&b, messages);
	printf("select %.3f ms\n", (double)best_of(&b, do_select) / 1000);
	printf("fetch_flags %.2f ms\n", (double)best_of(&b, do_flags) / 1000);
	printf("fetch_envelope %.2f ms\n", (double)best_of(&b, do_envelopes) / 1000);
	printf("fetch_10000_bodies %.2f ms\n", (double)best_of(&b, do_bodies) / 1000);
	measure_children(&b, "");
	measure_writes(&b, messages);
	must(store_stat(b.store, &s), "stat");
	printf("bytes_per_message %.0f bytes\n", (double)(s.used_bytes - s.free_bytes) / (double)s.blobs);
	begin = clock_mono_us();
	must(store_check(b.store, &co, &c), "check");
	printf("check %.2f s errors=%llu\n", (double)(clock_mono_us() - begin) / 1e6,
		(unsigned long long)c.errors);
	delete_all(&b, messages);
	measure_children(&b, "_after_deletions");
	store_close(&b.store);
	return sink == 42;
}
