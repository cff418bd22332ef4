/*
 * Disk bytes per message byte, records and indexes included: store_disk DIR [FILE...]. DIR is made anew for each measure and removed.
 *
 *	text 4096, 1024   mail of words, as a benchmark's load is
 *	random 4096       an attachment of random octets in base64
 *	files             messages of the user's own, one a file, as often as they are given
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/store/store_account.h"
#include "backend/store/store_message.h"
#include "common/base/mem.h"

#define MESSAGES 20000
#define A_STEP 200
#define FILE_MOST (64u * 1024 * 1024)

static const char *dir;

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "store_disk: %s: %s\n", what, error_text(err));
	exit(1);
}

struct measure {
	struct store *store;
	struct store_txn *txn;
	struct store_press *press;
	uint32_t account, inbox, waiting;
	uint64_t messages, bytes, empty;
};

static uint64_t used(struct store *store)
{
	struct store_stat s;

	must(store_stat(store, &s), "stat");
	return s.used_bytes - s.free_bytes;
}

static void remove_store(void)
{
	static const char *const files[] = {"s0/data.mdb", "s0/lock.mdb", "s0", "lock", "version", ""};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)remove(path);
	}
}

static void begin(struct measure *m)
{
	const struct store_options options = {.dir = dir, .slots = 1};
	const struct store_account_new new = {.address = SLICE_LIT("a@example.test")};
	struct store_mailbox inbox;

	*m = (struct measure){.press = store_press_new()};
	must(store_open(&options, &m->store, NULL), dir);
	must(store_begin_write(m->store, 0, &m->txn), "begin");
	must(store_account_create(m->txn, &new, &m->account), "account");
	must(store_mailbox_find(m->txn, m->account, SLICE_LIT("INBOX"), &inbox), "INBOX");
	m->inbox = inbox.id;
	must(store_commit(&m->txn), "commit");
	m->empty = used(m->store);
	must(store_begin_write(m->store, 0, &m->txn), "begin");
}

static void add(struct measure *m, struct slice message)
{
	struct store_source source = {.memory = message};
	struct store_append a = {.account = m->account, .mailbox = m->inbox, .date = 1700000000};
	struct store_appended out;
	struct store_draft *draft;
	bool done = false;

	must(store_draft_new(&source, &draft), "draft");
	while (!done) {
		must(store_draft_fill(draft, m->press, &done), "fill");
		if (!done)
			must(store_draft_write(m->txn, draft), "write");
		if (done)
			must(store_draft_finish(m->txn, draft, &a.blob), "finish");
		if (!done) {
			must(store_commit(&m->txn), "commit");
			store_draft_committed(draft);
			must(store_begin_write(m->store, 0, &m->txn), "begin");
		}
	}
	a.texts = store_draft_texts(draft);
	must(store_message_append(m->txn, &a, &out), "append");
	store_draft_free(&draft);
	m->messages++;
	m->bytes += message.len;
	if (++m->waiting < A_STEP)
		return;
	m->waiting = 0;
	must(store_commit(&m->txn), "commit");
	must(store_begin_write(m->store, 0, &m->txn), "begin");
}

static void end(struct measure *m, const char *name)
{
	struct store_stat s;
	uint64_t disk;

	must(store_commit(&m->txn), "commit");
	disk = used(m->store) - m->empty;
	must(store_stat(m->store, &s), "stat");
	printf("%s: %.3f disk bytes a message byte (%llu messages of %llu bytes on average; bodies alone "
	       "%.3f)\n",
		name, (double)disk / (double)m->bytes, (unsigned long long)m->messages,
		(unsigned long long)(m->bytes / (m->messages ? m->messages : 1)),
		(double)s.stored_bytes / (double)m->bytes);
	store_press_free(&m->press);
	store_close(&m->store);
	remove_store();
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static size_t make_head(uint64_t n, const char *type, char *room)
{
	return (size_t)sprintf(room,
		"Received: from out%u.example.net (out%u.example.net [198.51.100.%u])\r\n"
		"\tby in.example.test with ESMTPS id %016llx\r\n"
		"\tfor <user@example.test>; Fri, 20 Nov 2026 12:%02u:%02u +0000\r\n"
		"From: \"Writer %u\" <writer%u@example.net>\r\nTo: \"A User\" <user@example.test>\r\n"
		"Subject: report number %u\r\nDate: Fri, 20 Nov 2026 12:%02u:%02u +0000\r\n"
		"Message-ID: <%016llx.%u@example.net>\r\nMIME-Version: 1.0\r\n%s\r\n\r\n",
		(unsigned)(n % 9), (unsigned)(n % 9), (unsigned)(n % 250),
		(unsigned long long)(n * UINT64_C(0x9E3779B97F4A7C15)), (unsigned)(n / 60 % 60),
		(unsigned)(n % 60), (unsigned)(n % 997), (unsigned)(n % 997), (unsigned)n,
		(unsigned)(n / 60 % 60), (unsigned)(n % 60),
		(unsigned long long)(n * UINT64_C(0xD6E8FEB86659FD93)), (unsigned)n, type);
}

static void measure_text(size_t size)
{
	static const char *const words[] = {"about", "account", "after", "again", "agreement", "always",
		"answer", "before", "better", "building", "business", "called", "change", "city", "country",
		"course", "decision", "department", "different", "document", "during", "early", "enough",
		"every", "example", "family", "figure", "found", "general", "group", "house", "important",
		"interest", "large", "later", "letter", "little", "market", "matter", "might", "money",
		"month", "moving", "never", "night", "office", "often", "order", "people", "please",
		"possible", "present", "public", "really", "report", "right", "school", "should", "small",
		"state", "system", "think", "under", "water"};
	char room[8192], name[32];
	struct measure m;

	begin(&m);
	for (uint64_t n = 1; n <= MESSAGES; n++) {
		uint64_t x = n * UINT64_C(0x9E3779B97F4A7C15);
		size_t len = make_head(n, "Content-Type: text/plain; charset=utf-8", room), column = 0;

		while (len < size - 16) {
			const char *w = words[next(&x) % ARRAY_LEN(words)];
			int k = sprintf(room + len, column > 64 ? "%s\r\n" : "%s ", w);

			column = column > 64 ? 0 : column + (size_t)k;
			len += (size_t)k;
		}
		len += (size_t)sprintf(room + len, "\r\n");
		add(&m, slice_of(room, len));
	}
	sprintf(name, "text %zu", size);
	end(&m, name);
}

static void measure_random(size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char room[8192], name[32];
	struct measure m;

	begin(&m);
	for (uint64_t n = 1; n <= MESSAGES; n++) {
		uint64_t x = n * UINT64_C(0x9E3779B97F4A7C15);
		size_t len = make_head(n,
			"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64", room);

		for (size_t column = 0; len < size - 2; column++) {
			if (column == 76) {
				room[len++] = '\r';
				room[len++] = '\n';
				column = 0;
			}
			room[len++] = digits[next(&x) % 64];
		}
		room[len++] = '\r';
		room[len++] = '\n';
		add(&m, slice_of(room, len));
	}
	sprintf(name, "random %zu", size);
	end(&m, name);
}

static void measure_files(int count, char **files)
{
	char *room = xmalloc(FILE_MOST);
	struct measure m;

	begin(&m);
	for (int i = 0; i < count; i++) {
		FILE *file = fopen(files[i], "rb");
		size_t len = file ? fread(room, 1, FILE_MOST, file) : 0;

		if (file)
			fclose(file);
		if (len)
			add(&m, slice_of(room, len));
	}
	end(&m, "files");
	free(room);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: store_disk DIR [FILE...]\n");
		return 64;
	}
	mem_init();
	dir = argv[1];
	measure_text(4096);
	measure_text(1024);
	measure_random(4096);
	if (argc > 2)
		measure_files(argc - 2, argv + 2);
	return 0;
}
