/* Pages of a commit are neighbours, the file does not grow for it without bound, and a full disk takes nothing away. */
#include "tests/unit/backend/store/temp_store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "backend/store/db.h"

#define USERS 12
#define AT_ONCE 6
#define PAGE 4096

struct place {
	struct temp_store t;
	uint32_t account[USERS], inbox[USERS];
	uint32_t turn; /* of the random numbers */
};

static uint32_t any(struct place *p, uint32_t below)
{
	p->turn = p->turn * 1664525 + 1013904223;
	return (p->turn >> 8) % below;
}

static void start(struct place *p)
{
	*p = (struct place){.turn = 1};
	temp_start(&p->t);
	for (unsigned i = 0; i < USERS; i++) {
		char address[32];

		snprintf(address, sizeof(address), "u%u@example.com", i);
		p->account[i] = temp_account(&p->t, address);
		p->inbox[i] = temp_find(&p->t, p->account[i], "INBOX");
	}
}

/* One commit that stores a message of each of some users. */
static int deliver(struct place *p)
{
	static char text[3000] = "Subject: pages\r\n\r\n";
	struct store_txn *txn;
	int err;

	assert_int_equal(store_begin_write(p->t.store, 0, &txn), 0);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		unsigned u = any(p, USERS);
		struct store_append a = {
			.account = p->account[u], .mailbox = p->inbox[u], .date = 1700000000};
		struct store_appended out;
		struct store_draft *d;
		bool done;

		for (size_t k = 18; k < sizeof(text); k++)
			text[k] = (char)('a' + any(p, 16));
		d = temp_draft(slice_of(text, sizeof(text)), &done);
		a.texts = store_draft_texts(d);
		err = store_draft_finish(txn, d, &a.blob);
		if (!err)
			err = store_message_append(txn, &a, &out);
		store_draft_free(&d);
		if (err) {
			store_abort(&txn);
			return err;
		}
	}
	return store_commit(&txn);
}

/* One commit that changes the flags of one message of each of some users. */
static int flag(struct place *p, uint32_t uids)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(p->t.store, 0, &txn), 0);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		unsigned u = any(p, USERS);
		uint32_t uid = 1 + any(p, uids);
		struct store_flag_change change = {.how = any(p, 2) ? STORE_FLAGS_ADD : STORE_FLAGS_REMOVE,
			.flags = STORE_SEEN,
			.unchanged_since = UINT64_MAX};
		uint64_t modseq;
		int err =
			store_message_flag(txn, p->account[u], p->inbox[u], &uid, 1, &change, NULL, &modseq);

		if (err) {
			store_abort(&txn);
			return err;
		}
	}
	return store_commit(&txn);
}

/* Writes that this thread has made; false: the system does not tell. */
static bool count_writes(unsigned long *count_out)
{
	FILE *f = fopen("/proc/thread-self/io", "r");
	char line[128];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		found = sscanf(line, "syscw: %lu", count_out) == 1 || found;
	if (f)
		fclose(f);
	return found;
}

static uint64_t pages(struct place *p)
{
	struct store_stat s;

	assert_int_equal(store_stat(p->t.store, &s), 0);
	return s.used_bytes / PAGE;
}

/* LMDB writes neighbours with one call. Without turns it makes 27 calls a commit here, with them 20. */
static void test_pages_of_a_commit_are_neighbours(void **state)
{
	unsigned long before, after;
	struct place p;

	(void)state;
	start(&p);
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(deliver(&p), 0);
	if (!count_writes(&before)) {
		temp_end(&p.t);
		skip();
	}
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(deliver(&p), 0);
	assert_true(count_writes(&after));
	print_message("writes a commit: %lu\n", (after - before) / 400);
	assert_in_range((after - before) / 400, 1, 22);
	temp_end(&p.t);
}

/* Changes that need no room leave the file as long as it is, but for what turns may add. */
static void test_the_file_grows_within_bounds(void **state)
{
	struct place p;
	uint64_t before;

	(void)state;
	start(&p);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(deliver(&p), 0);
	before = pages(&p);
	for (unsigned i = 0; i < 6000; i++)
		assert_int_equal(flag(&p, 60), 0);
	print_message("pages: %llu, then %llu\n", (unsigned long long)before, (unsigned long long)pages(&p));
	assert_in_range(pages(&p) - before, 0, 2600);
	temp_end(&p.t);
}

/* What needs no room goes on when there is none: pages that are free are not kept for order's sake. */
static void test_a_full_disk_gets_all_free_pages(void **state)
{
	struct rlimit was, now;
	struct place p;
	struct stat st;
	char path[128];
	unsigned stored = 0;

	(void)state;
	start(&p);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(deliver(&p), 0);
	snprintf(path, sizeof(path), "%s/s0/data.mdb", p.t.dir);
	assert_int_equal(stat(path, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	now = (struct rlimit){(rlim_t)st.st_size + 40 * PAGE, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
	while (deliver(&p) == 0)
		stored++;
	print_message("commits until the disk was full: %u\n", stored);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(flag(&p, 60), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(deliver(&p), 0);
	temp_end(&p.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_of_a_commit_are_neighbours),
		cmocka_unit_test(test_the_file_grows_within_bounds),
		cmocka_unit_test(test_a_full_disk_gets_all_free_pages),
	};

	/* Some thousand commits: where syncing costs nothing, if there is such a place. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
