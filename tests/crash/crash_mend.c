/*
 * Undelete, repair and compaction for the crash tests, and their judge.
 *
 *	crash_mend make DIR       a store with messages, half of them deleted and kept
 *	crash_mend damage DIR     loses parts of it that can be mended
 *	crash_mend undelete DIR   brings all back, a few in each transaction
 *	crash_mend repair DIR
 *	crash_mend compact DIR
 *	crash_mend verify DIR     every message is there once, live or kept, octet for octet, and the check finds nothing
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/store/db.h"
#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store/store_compact.h"
#include "backend/store/store_kept.h"
#include "backend/store/store_repair.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define MAP_SIZE (UINT64_C(1) << 28)
#define MESSAGES 400
#define ROOM 300000

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s\n", what, error_text(err));
	exit(1);
}

static struct store *open_store(const char *dir)
{
	const struct store_options options = {.dir = dir, .slots = 1, .map_size = MAP_SIZE};
	struct store *store;

	must(store_open(&options, &store, NULL), "open");
	store_set_retention(store, 86400, 0);
	return store;
}

static struct slice make_message(uint32_t tag, char *room)
{
	size_t len = (size_t)snprintf(room, 64, "Tag: %08u\r\nSubject: mend\r\n\r\n", (unsigned)tag);
	size_t size = tag % 20 == 7 ? 150000 + tag : 400 + tag;
	uint32_t x = tag + 1;

	while (len < size) {
		x = x * 1664525 + 1013904223;
		room[len++] = (char)('!' + (x >> 16) % 90);
	}
	return slice_of(room, len);
}

static void append(struct store *store, uint32_t account, uint32_t mailbox, uint32_t tag)
{
	static char room[ROOM];
	struct store_source source = {.memory = make_message(tag, room)};
	struct store_press *press = store_press_new();
	struct store_append a = {.account = account, .mailbox = mailbox, .date = 1700000000 + tag};
	struct store_appended out;
	struct store_draft *draft;
	struct store_txn *txn;
	bool done;

	must(store_draft_new(&source, &draft), "draft");
	must(store_draft_fill(draft, press, &done), "fill");
	a.texts = store_draft_texts(draft);
	must(store_begin_write(store, 0, &txn), "begin");
	must(store_draft_finish(txn, draft, &a.blob), "finish");
	must(store_message_append(txn, &a, &out), "append");
	must(store_commit(&txn), "commit");
	store_draft_free(&draft);
	store_press_free(&press);
}

static uint32_t find_inbox(struct store *store, uint32_t account)
{
	struct store_mailbox m;
	struct store_txn *txn;

	must(store_begin_read(store, 0, &txn), "read");
	must(store_mailbox_find(txn, account, SLICE_LIT("INBOX"), &m), "INBOX");
	store_end_read(&txn);
	return m.id;
}

static uint32_t find_account(struct store *store)
{
	struct store_account a;

	must(store_find_account(store, SLICE_LIT("alice@example.com"), &a), "account");
	return a.id;
}

static void make(const char *dir)
{
	const struct store_account_new new = {.address = SLICE_LIT("alice@example.com")};
	struct store *store = open_store(dir);
	uint32_t account, inbox, uids[MESSAGES / 2];
	struct store_txn *txn;
	uint64_t modseq;
	bool done = false;

	must(store_begin_write(store, 0, &txn), "begin");
	must(store_account_create(txn, &new, &account), "create");
	must(store_commit(&txn), "commit");
	inbox = find_inbox(store, account);
	for (uint32_t tag = 1; tag <= MESSAGES; tag++)
		append(store, account, inbox, tag);
	for (uint32_t i = 0; i < MESSAGES / 2; i++)
		uids[i] = i * 2 + 1;
	must(store_begin_write(store, 0, &txn), "begin");
	must(store_message_expunge(txn, account, inbox, uids, MESSAGES / 2, true, NULL, &modseq), "expunge");
	must(store_commit(&txn), "commit");
	while (!done) {
		must(store_begin_write(store, 0, &txn), "begin");
		must(store_reap(txn, NULL, 100, &done), "reap");
		must(store_commit(&txn), "commit");
	}
	store_close(&store);
}

static void undelete(const char *dir)
{
	struct store *store = open_store(dir);
	const struct store_kept_filter all = {.since = 0};
	struct store_undeleted sum = {0};
	struct store_kept_at at = {0};
	bool done = false;

	while (!done) {
		struct store_txn *txn;

		must(store_begin_write(store, 0, &txn), "begin");
		must(store_kept_undelete(txn, find_account(store), &all, &at, 7, &sum, &done), "undelete");
		must(store_commit(&txn), "commit");
	}
	store_close(&store);
}

static void lose_first(struct store_txn *txn, enum db_name db, struct slice prefix)
{
	struct db_cursor c;

	must(db_cursor_open(txn, db, &c), "cursor");
	must(db_cursor_seek(&c, prefix), "seek");
	must(db_cursor_delete(&c), "delete");
	db_cursor_close(&c);
}

static void damage(const char *dir)
{
	struct store *store = open_store(dir);
	uint32_t account = find_account(store), inbox = find_inbox(store, account);
	struct db_key index = db_key_u32(inbox), state = db_key_u32_u32(account, inbox);
	struct store_txn *txn;

	must(store_begin_write(store, 0, &txn), "begin");
	lose_first(txn, DB_INDEX, db_key_view(&index));
	lose_first(txn, DB_STATE, db_key_view(&state));
	for (uint64_t blob = 3; blob < 200; blob += 9) {
		struct db_key key = db_key_u64(blob);

		must(db_put(txn, DB_ORPHANS, db_key_view(&key), SLICE_LIT("\2")), "put");
	}
	must(store_commit(&txn), "commit");
	store_close(&store);
}

static void print(void *arg, const char *text)
{
	(void)arg;
	printf("%s\n", text);
}

static void repair(const char *dir)
{
	const struct store_options options = {
		.dir = dir, .map_size = MAP_SIZE, .must_exist = true, .no_repair = true};
	const struct store_repair_options how = {.report = print};
	struct store_repair result;
	struct store *store;

	must(store_open(&options, &store, NULL), "open");
	must(store_repair(store, &how, &result), "repair");
	store_close(&store);
}

static void compact(const char *dir)
{
	struct store_compacted result;
	struct buf why = {0};
	int err = store_compact(dir, &result, &why);

	if (err)
		printf("%s\n", buf_str_view(&why));
	must(err, "compact");
	printf("%llu -> %llu\n", (unsigned long long)result.before, (unsigned long long)result.after);
	buf_deinit(&why);
}

/* ---- the judge ---- */

struct judge {
	struct store_txn *txn;
	unsigned seen[MESSAGES + 1];
};

static void judge_message(struct judge *j, uint32_t mailbox, uint32_t uid)
{
	static char room[ROOM], got[ROOM];
	struct store_message m;
	struct slice want;
	uint32_t tag;
	size_t len;

	must(store_message_get(j->txn, mailbox, uid, &m), "record");
	must(store_message_read(j->txn, &m, 0, got, sizeof(got), &len), "body");
	must(num_parse_u32(slice_of(got + 5, 8), &tag), "tag");
	must(tag < 1 || tag > MESSAGES ? ERR_CORRUPT : 0, "tag");
	want = make_message(tag, room);
	must(want.len != len || memcmp(want.p, got, len) != 0 ? ERR_CORRUPT : 0, "octets");
	j->seen[tag]++;
}

static void judge_kept(void *arg, const struct store_kept *kept)
{
	judge_message(arg, kept->mailbox, kept->uid);
}

static void verify(const char *dir)
{
	struct store *store = open_store(dir);
	uint32_t account = find_account(store), inbox = find_inbox(store, account);
	const struct store_check_options options = {.report = print};
	const struct store_kept_filter all = {.since = 0};
	struct store_kept_at at = {0};
	struct judge j = {0};
	struct store_check check;
	struct store_scan scan;
	struct store_entry e;
	unsigned live = 0;
	bool done;

	must(store_check(store, &options, &check), "check");
	must(check.errors ? ERR_CORRUPT : 0, "check");
	must(store_begin_read(store, 0, &j.txn), "read");
	must(store_scan_begin(&scan, j.txn, inbox, 0), "scan");
	for (; store_scan_next(&scan, &e); live++)
		judge_message(&j, inbox, e.uid);
	store_scan_end(&scan);
	must(store_kept_list(j.txn, account, &all, &at, MESSAGES * 2, judge_kept, &j, &done), "kept");
	store_end_read(&j.txn);
	for (uint32_t tag = 1; tag <= MESSAGES; tag++)
		must(j.seen[tag] == 1 ? 0 : ERR_CORRUPT, "each message once");
	printf("%u live, %u kept\n", live, MESSAGES - live);
	store_close(&store);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(const char *dir);
	} verbs[] = {{"make", make}, {"damage", damage}, {"undelete", undelete}, {"repair", repair},
		{"compact", compact}, {"verify", verify}};

	for (size_t i = 0; argc == 3 && i < ARRAY_LEN(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0) {
			verbs[i].fn(argv[2]);
			return 0;
		}
	fprintf(stderr, "usage: crash_mend make|damage|undelete|repair|compact|verify DIR\n");
	return 64;
}
