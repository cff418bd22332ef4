/*
 * Work for the crash tests, and its judge.
 *
 *	crash_store work DIR MESSAGES             delivers from three threads while a fourth churns; DIR/acked gets a
 *	                                          line after each answer
 *	crash_store serial DIR MESSAGES           one thread delivers
 *	crash_store verify DIR                    opens DIR, checks it, compares with DIR/acked
 *	crash_store images RECORD DIR COUNT SEED  makes power-loss images of a recorded run in DIR and judges each
 *	crash_store lying …                       the same on a disk that forgets what it synced: must fail
 *	crash_store syncs RECORD                  of a run with one thread: every answer came after all its writes
 *	                                          were synced
 *	crash_store full DIR ACKED_DIR            on a small file system: fills it, frees it, goes on
 *
 * Every message is made from its tag alone, so that the judge can make it again and compare all of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store_work/store_work.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define PAGE 4096
#define MAP_SIZE (UINT64_C(1) << 30)
#define KEEPER "keeper@example.com" /* messages are only added */
#define CHURN "churn@example.com"   /* everything happens */

static void die(const char *format, ...) PRINTF_LIKE(1, 2);
static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		die("%s: %s", what, error_text(err));
}

/* ---- messages by tag ---- */

/* Mostly small, some of several frames, a few that go in pieces over several transactions. */
static size_t message_size(uint32_t tag)
{
	if (tag % 97 == 5)
		return 2600000;
	if (tag % 16 == 3)
		return 200000 + tag % 1000;
	return 300 + tag * 37 % 6000;
}

static char *make_message(uint32_t tag, size_t *len_out)
{
	size_t size = message_size(tag);
	char *p = xmalloc(size + 64);
	int n = snprintf(p, 64, "Tag: %08u\r\nSubject: crash\r\n\r\n", (unsigned)tag);
	uint64_t x = tag * UINT64_C(0x9E3779B97F4A7C15) + 1;

	for (size_t i = (size_t)n; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = tag % 97 == 5 ? (char)(x | 1) : (char)('a' + x % 16);
	}
	*len_out = size;
	return p;
}

/* ---- the store ---- */

static struct store *open_store(const char *dir, bool must_exist)
{
	struct store_options o = {.dir = dir, .slots = 1, .map_size = MAP_SIZE, .must_exist = must_exist};
	struct buf why = {0};
	struct store *s;

	if (store_open(&o, &s, &why))
		die("open %s: %s", dir, buf_str_view(&why));
	buf_deinit(&why);
	return s;
}

static uint32_t account_of(struct store *s, const char *address)
{
	struct store_account a;

	return store_find_account(s, slice_str(address), &a) ? 0 : a.id;
}

static void make_account(struct store *s, const char *address)
{
	struct store_account_new a = {.address = slice_str(address)};
	struct store_txn *txn;
	uint32_t id;

	if (account_of(s, address))
		return;
	must(store_begin_write(s, 0, &txn), "begin");
	must(store_account_create(txn, &a, &id), "account");
	must(store_commit(&txn), "commit");
}

/* ---- working ---- */

struct work {
	struct store *store;
	struct store_work *work;
	int acked;
	_Atomic uint32_t next;
	uint32_t last;
	uint32_t account;
	_Atomic bool over;
	_Atomic uint64_t refused;
};

struct wait {
	struct work *w;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t tag; /* 0: not to be acknowledged */
	int err;
	bool is_over;
};

static void wait_init(struct wait *x, struct work *w)
{
	*x = (struct wait){.w = w, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

static void wait_end(struct wait *x, int err)
{
	pthread_mutex_lock(&x->lock);
	x->err = err;
	x->is_over = true;
	pthread_cond_signal(&x->changed);
	pthread_mutex_unlock(&x->lock);
}

static int wait_for(struct wait *x)
{
	pthread_mutex_lock(&x->lock);
	while (!x->is_over)
		pthread_cond_wait(&x->changed, &x->lock);
	x->is_over = false;
	pthread_mutex_unlock(&x->lock);
	return x->err;
}

/* The answer: from now on the message must be there. */
static void on_added(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct wait *x = arg;
	char line[64];

	if (!err && count)
		err = results[0].error;
	if (!err && x->tag) {
		int n = snprintf(
			line, sizeof(line), "%08u %010u\n", (unsigned)x->tag, (unsigned)results[0].uid);

		if (write(x->w->acked, line, (size_t)n) != n)
			die("acked: %s", strerror(errno));
	}
	wait_end(x, err);
}

static int deliver(struct wait *x, uint32_t account, uint32_t tag, bool acknowledge)
{
	struct store_work_target target = {
		.account = account, .date = 1700000000, .trace = SLICE_LIT("Return-Path: <>\r\n")};
	struct store_work_add add = {.targets = &target, .target_count = 1, .done = on_added, .arg = x};
	size_t len;
	char *message = make_message(tag, &len);
	int err;

	add.memory = slice_of(message, len);
	x->tag = acknowledge ? tag : 0;
	store_work_add(x->w->work, &add);
	err = wait_for(x);
	free(message);
	return err;
}

static void *adder(void *arg)
{
	struct work *w = arg;
	struct wait x;
	uint32_t tag;

	wait_init(&x, w);
	while ((tag = w->next++) <= w->last)
		if (deliver(&x, w->account, tag, true))
			w->refused++;
	return NULL;
}

struct churn {
	struct wait wait;
	uint32_t account;
	unsigned seed;
};

/* One random change; errors such as "exists already" are part of it. */
static int churn_run(struct store_txn *txn, void *arg)
{
	struct churn *c = arg;
	struct store_flag_change change = {.how = STORE_FLAGS_ADD,
		.flags = (uint8_t)(rand_r(&c->seed) % 32),
		.unchanged_since = UINT64_MAX};
	struct store_mailbox inbox, trash, other;
	uint32_t uids[8], base, id;
	uint64_t modseq;
	char name[32];
	int err = store_mailbox_find(txn, c->account, SLICE_LIT("INBOX"), &inbox);

	if (!err)
		err = store_mailbox_find(txn, c->account, SLICE_LIT("Trash"), &trash);
	if (err)
		return err;
	base = inbox.uidnext > 20 ? inbox.uidnext - 20 : 1;
	for (uint32_t i = 0; i < 8; i++)
		uids[i] = base + i * 2;
	snprintf(name, sizeof(name), "box%d/sub%d", rand_r(&c->seed) % 5, rand_r(&c->seed) % 5);
	switch (rand_r(&c->seed) % 6) {
	case 0:
		return store_message_flag(txn, c->account, inbox.id, uids, 8, &change, NULL, &modseq);
	case 1:
		return store_message_expunge(txn, c->account, inbox.id, uids, 8, false, NULL, &modseq);
	case 2:
		return store_message_copy(txn, c->account, inbox.id, uids, 4, trash.id, false, NULL);
	case 3:
		return store_message_copy(txn, c->account, inbox.id, uids, 4, trash.id, true, NULL);
	case 4:
		return store_mailbox_create(txn, c->account, slice_str(name), STORE_USE_NONE, &id);
	}
	err = store_mailbox_find(txn, c->account, slice_str(name), &other);
	return err ? err : store_mailbox_delete(txn, c->account, other.id);
}

static void churn_done(void *arg, int err)
{
	wait_end(&((struct churn *)arg)->wait, err);
}

static void *churner(void *arg)
{
	struct work *w = arg;
	struct churn c = {.account = account_of(w->store, CHURN), .seed = w->last};
	struct store_work_call call = {.run = churn_run, .done = churn_done, .arg = &c};

	wait_init(&c.wait, w);
	for (uint32_t i = 1; !w->over; i++) {
		int err = 0;

		if (i % 3 == 0)
			err = deliver(&c.wait, c.account, 100000 + i % 50, false);
		if (err)
			w->refused++;
		store_work_write(w->work, 0, &call);
		err = wait_for(&c.wait);
		if (err == ERR_CORRUPT || err == ERR_IO)
			die("churn: %s", error_text(err));
	}
	return NULL;
}

static void start_work(struct work *w, const char *dir, const char *acked_dir)
{
	struct store_work_options o = {0};
	char path[4096];

	*w = (struct work){.store = open_store(dir, false)};
	make_account(w->store, KEEPER);
	make_account(w->store, CHURN);
	w->account = account_of(w->store, KEEPER);
	must(store_work_start(w->store, &o, &w->work), "start");
	snprintf(path, sizeof(path), "%s/acked", acked_dir);
	w->acked = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (w->acked < 0)
		die("%s: %s", path, strerror(errno));
}

static void end_work(struct work *w)
{
	store_work_stop(&w->work);
	store_close(&w->store);
	close(w->acked);
}

/* The highest tag begun so far is not known after a kill: a new run goes on a thousand above the highest
 * acknowledged. */
static uint32_t first_tag(const char *dir)
{
	char path[4096], line[64];
	unsigned tag, top = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/acked", dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%8u", &tag) == 1 && tag > top)
			top = tag;
	if (f)
		fclose(f);
	return top ? (top / 1000 + 1) * 1000 : 1;
}

static int do_work(const char *dir, uint32_t messages, unsigned threads)
{
	pthread_t t[8];
	struct work w;

	start_work(&w, dir, dir);
	w.next = first_tag(dir);
	w.last = w.next + messages - 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, i == 3 ? churner : adder, &w);
	for (unsigned i = 0; i < threads && i < 3; i++)
		pthread_join(t[i], NULL);
	w.over = true;
	if (threads > 3)
		pthread_join(t[3], NULL);
	end_work(&w);
	return w.refused > 0;
}

/* ---- judging ---- */

struct judge {
	uint32_t *uid_of; /* by tag */
	uint32_t top;
};

/* Compares a stored message with the one its tag makes; returns the tag. */
static uint32_t judge_message(struct store_txn *txn, const struct store_message *m, char **got, size_t *room)
{
	uint64_t size = m->size - m->trace.len;
	size_t len, want_len;
	uint32_t tag;
	char *want;

	if (*room < size)
		*got = xreallocarray(*got, *room = (size_t)size, 1);
	must(store_message_read(txn, m, m->trace.len, *got, (size_t)size, &len), "read");
	if (len < 20 || num_parse_u32(slice_of(*got + 5, 8), &tag))
		die("uid %u is none of ours", (unsigned)m->uid);
	want = make_message(tag, &want_len);
	if (want_len != len || memcmp(want, *got, len))
		die("uid %u, tag %u: differs from what was sent", (unsigned)m->uid, (unsigned)tag);
	free(want);
	return tag;
}

static void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", text);
}

/* Every acknowledged message is there under its UID, whole; no message is there twice. */
static void judge_messages(struct store *s, struct slice acked)
{
	uint32_t account = account_of(s, KEEPER), *uid_of, tag, uid;
	size_t lines = acked.len / 20, room = 0, tags = 10000000;
	struct store_mailbox inbox;
	struct store_message m;
	struct store_entry e;
	struct store_scan scan;
	struct store_txn *txn;
	char *got = NULL;

	if (!account) {
		if (lines)
			die("the account is gone");
		return;
	}
	uid_of = calloc(tags, sizeof(*uid_of));
	must(store_begin_read(s, 0, &txn), "begin");
	must(store_mailbox_find(txn, account, SLICE_LIT("INBOX"), &inbox), "INBOX");
	must(store_scan_begin(&scan, txn, inbox.id, 0), "scan");
	while (store_scan_next(&scan, &e)) {
		must(store_message_get(txn, inbox.id, e.uid, &m), "message");
		tag = judge_message(txn, &m, &got, &room);
		if (tag >= tags || uid_of[tag])
			die("tag %u is there twice", (unsigned)tag);
		uid_of[tag] = e.uid;
	}
	must(scan.error, "scan");
	store_scan_end(&scan);
	store_end_read(&txn);
	for (size_t i = 0; i < lines; i++) {
		struct slice line = slice_sub(acked, i * 20, 20);

		if (num_parse_u32(slice_sub(line, 0, 8), &tag) || num_parse_u32(slice_sub(line, 9, 10), &uid))
			die("bad line in acked");
		if (tag >= tags || uid_of[tag] != uid)
			die("acknowledged tag %u uid %u is not there", (unsigned)tag, (unsigned)uid);
	}
	free(uid_of);
	free(got);
}

static void judge(struct store *s, struct slice acked)
{
	struct store_check_options o = {.report = report};
	struct store_check c;

	must(store_check(s, &o, &c), "check");
	if (c.errors)
		die("check found %llu errors", (unsigned long long)c.errors);
	judge_messages(s, acked);
}

static struct buf read_file(const char *path)
{
	struct buf b = {0};
	FILE *f = fopen(path, "r");
	char data[65536];
	size_t n;

	while (f && (n = fread(data, 1, sizeof(data), f)) > 0)
		buf_add(&b, data, n);
	if (f)
		fclose(f);
	return b;
}

static int do_verify(const char *dir)
{
	struct store *s = open_store(dir, true);
	char path[4096];
	struct buf acked;

	snprintf(path, sizeof(path), "%s/acked", dir);
	acked = read_file(path);
	judge(s, buf_view(&acked));
	printf("verified acknowledged=%zu\n", buf_len(&acked) / 20);
	buf_deinit(&acked);
	store_close(&s);
	return 0;
}

/* ---- power loss ---- */

struct event {
	char kind;
	uint64_t at;
	uint32_t len;
	const char *bytes;
};

static bool next_event(struct slice *record, struct event *e)
{
	if (record->len < 13)
		return false;
	e->kind = record->p[0];
	memcpy(&e->at, record->p + 1, 8);
	memcpy(&e->len, record->p + 9, 4);
	if (record->len - 13 < e->len)
		return false;
	e->bytes = record->p + 13;
	*record = slice_from(*record, 13 + (size_t)e->len);
	return true;
}

static void apply(int fd, uint64_t at, const char *bytes, size_t len)
{
	if (pwrite(fd, bytes, len, (off_t)at) != (ssize_t)len)
		die("image: %s", strerror(errno));
}

struct images {
	const char *dir;
	int base; /* a file with all that is synced */
	struct event pending[65536];
	size_t pending_count;
	struct buf acked;
	bool is_lying; /* a disk that says synced and forgets: the judge must notice */
	unsigned seed;
	unsigned made;
};

static void copy_base(struct images *g, int to)
{
	static char data[1 << 20];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(g->base, data, sizeof(data), at)) > 0) {
		apply(to, (uint64_t)at, data, (size_t)n);
		at += n;
	}
}

/* Page by page of what was written and not synced: all, none, or each by chance. */
static void apply_some(struct images *g, int to)
{
	unsigned how = (unsigned)rand_r(&g->seed) % 6;

	for (size_t i = 0; i < g->pending_count; i++) {
		struct event *e = &g->pending[i];

		for (uint64_t at = 0; at < e->len; at += PAGE) {
			size_t len = e->len - at < PAGE ? (size_t)(e->len - at) : PAGE;
			bool take = how == 0 || (how > 1 && (unsigned)rand_r(&g->seed) % 6 < how - 1);

			if (take)
				apply(to, e->at + at, e->bytes + at, len);
		}
	}
}

static void make_image(struct images *g)
{
	char path[4096];
	struct store *s;
	struct wait x;
	struct work w;
	int fd;

	snprintf(path, sizeof(path), "%s/s0/data.mdb", g->dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	copy_base(g, fd);
	apply_some(g, fd);
	close(fd);
	s = open_store(g->dir, true);
	judge(s, buf_view(&g->acked));
	store_close(&s);
	/* And it goes on from there: leftovers are reaped, new mail is taken. */
	if (g->made % 10 == 0) {
		snprintf(path, sizeof(path), "%s/acked", g->dir);
		unlink(path);
		start_work(&w, g->dir, g->dir);
		wait_init(&x, &w);
		must(deliver(&x, w.account, 9000001, true), "delivery after power loss");
		end_work(&w);
		s = open_store(g->dir, true);
		judge(s, buf_view(&g->acked));
		store_close(&s);
	}
	g->made++;
}

static void take_event(struct images *g, const struct event *e)
{
	switch (e->kind) {
	case 'W':
	case 'D':
		if (g->pending_count == ARRAY_LEN(g->pending))
			die("too many writes without a sync");
		g->pending[g->pending_count++] = *e;
		break;
	case 'S':
		if (g->is_lying)
			break;
		for (size_t i = 0; i < g->pending_count; i++)
			apply(g->base, g->pending[i].at, g->pending[i].bytes, g->pending[i].len);
		g->pending_count = 0;
		break;
	case 'A':
		buf_add(&g->acked, e->bytes, e->len);
		break;
	}
}

/* A write that syncs itself is on disk when it returns; other pending ones are not for that. */
static void settle(struct images *g, const struct event *e)
{
	if (e->kind != 'D')
		return;
	apply(g->base, e->at, e->bytes, e->len);
	g->pending_count--;
}

static int do_images(const char *record_path, const char *dir, unsigned count, unsigned seed, bool is_lying)
{
	static struct images g;
	struct buf record = read_file(record_path);
	struct slice left = buf_view(&record);
	struct event e;
	char path[4096];
	size_t events = 0, first = 0, at = 0;

	/* The store is made, with its accounts, when the first acknowledgement comes; images before show an
	 * empty one. */
	while (next_event(&left, &e)) {
		events++;
		if (e.kind == 'A' && !first)
			first = events;
	}
	if (!first || events - first < count)
		die("the record is too short: %zu events", events);
	g.dir = dir;
	g.seed = seed;
	g.is_lying = is_lying;
	mkdir(dir, 0700);
	snprintf(path, sizeof(path), "%s/s0", dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/version", dir);
	FILE *f = fopen(path, "w");
	if (!f)
		die("%s: %s", path, strerror(errno));
	fputs("mailtier store 1\nslots 1\n", f);
	fclose(f);
	snprintf(path, sizeof(path), "%s/base", dir);
	g.base = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	left = buf_view(&record);
	while (next_event(&left, &e)) {
		take_event(&g, &e);
		/* While a write is under way and after it: both moments can be the last. */
		if (++at >= first && (unsigned)rand_r(&g.seed) % (events - at + 1) < count - g.made &&
			g.made < count)
			make_image(&g);
		settle(&g, &e);
	}
	printf("images=%u acknowledged=%zu events=%zu\n", g.made, buf_len(&g.acked) / 20, events);
	buf_deinit(&record);
	buf_deinit(&g.acked);
	return g.made < count;
}

static int do_syncs(const char *record_path)
{
	struct buf record = read_file(record_path);
	struct slice left = buf_view(&record);
	size_t pending = 0, commits = 0, acked = 0, commits_before = 0, syncs = 0;
	struct event e;

	while (next_event(&left, &e)) {
		if (e.kind == 'W') {
			pending++;
		} else if (e.kind == 'S') {
			pending = 0;
			syncs++;
		} else if (e.kind == 'D') {
			if (pending)
				die("the header was written before its pages were synced");
			commits++;
		} else {
			if (pending || commits == commits_before)
				die("answer %zu came before its commit was on disk", acked);
			acked++;
			commits_before = commits;
		}
	}
	printf("acknowledged=%zu commits=%zu syncs=%zu\n", acked, commits, syncs);
	buf_deinit(&record);
	return acked == 0 || syncs < commits;
}

/* ---- a full disk ---- */

static int do_full(const char *dir, const char *acked_dir)
{
	char path[4096], block[65536] = {0};
	struct wait x;
	struct work w;
	struct buf acked;
	uint32_t tag = 1, refused = 0, taken = 0;
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/ballast", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 64; i++)
		if (write(fd, block, sizeof(block)) < 0)
			die("ballast: %s", strerror(errno));
	close(fd);
	start_work(&w, dir, acked_dir);
	wait_init(&x, &w);
	for (; refused < 20 && tag < 20000; tag++) {
		err = deliver(&x, w.account, tag, true);
		if (err == ERR_FULL)
			refused++;
		else if (err)
			die("full disk: %s, expected full", error_text(err));
		else
			taken++;
	}
	if (refused < 20)
		die("the disk never became full");
	unlink(path);
	for (int i = 0; i < 20; tag++)
		if (message_size(tag) < 10000) {
			must(deliver(&x, w.account, tag, true), "after space came back");
			i++;
		}
	end_work(&w);
	w.store = open_store(dir, true);
	snprintf(path, sizeof(path), "%s/acked", acked_dir);
	acked = read_file(path);
	judge(w.store, buf_view(&acked));
	store_close(&w.store);
	printf("taken=%u refused=%u\n", (unsigned)taken, (unsigned)refused);
	buf_deinit(&acked);
	return 0;
}

static uint32_t number(const char *s)
{
	uint32_t n;

	must(num_parse_u32(slice_str(s), &n), "number");
	return n;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";

	if (!strcmp(verb, "work") && argc == 4)
		return do_work(argv[2], number(argv[3]), 4);
	if (!strcmp(verb, "serial") && argc == 4)
		return do_work(argv[2], number(argv[3]), 1);
	if (!strcmp(verb, "verify"))
		return do_verify(argv[2]);
	if ((!strcmp(verb, "images") || !strcmp(verb, "lying")) && argc == 6)
		return do_images(argv[2], argv[3], number(argv[4]), number(argv[5]), !strcmp(verb, "lying"));
	if (!strcmp(verb, "syncs"))
		return do_syncs(argv[2]);
	if (!strcmp(verb, "full") && argc == 4)
		return do_full(argv[2], argv[3]);
	fprintf(stderr, "usage: crash_store work|serial DIR MESSAGES | verify DIR | images|lying RECORD DIR "
			"COUNT SEED |\n"
			"       syncs RECORD | full DIR ACKED_DIR\n");
	return 64;
}
