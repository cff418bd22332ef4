/*
 * The index against a scan: what it excludes never has the text, whatever happened to the mailbox, the index and the
 * program in between.
 */
#include "tests/unit/backend/store/temp_store.h"

#include <sys/resource.h>

#include "backend/search/search_build.h"
#include "backend/search/search_check.h"
#include "backend/search/search_text.h"
#include "common/base/log.h"
#include "common/base/random.h"

struct fixture {
	struct temp_store t;
	struct search_build *build;
	unsigned rests;
	unsigned give_up_at; /* 0: never */
};

static bool rest(void *arg, uint64_t us)
{
	struct fixture *f = arg;

	(void)us;
	return ++f->rests == f->give_up_at;
}

static void open_with_index(struct fixture *f, uint64_t size)
{
	const struct store_options o = {.dir = f->t.dir,
		.slots = 1,
		.map_size = 256 << 20,
		.has_text_index = true,
		.text_size = size};

	assert_int_equal(store_open(&o, &f->t.store, NULL), 0);
	f->build = search_build_new(f->t.store, rest, f);
}

static void close_it(struct fixture *f)
{
	search_build_free(&f->build);
	store_close(&f->t.store);
}

static int start(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	log_set_level(LOG_ERROR);
	temp_start(&f->t);
	store_close(&f->t.store);
	open_with_index(f, 0);
	*state = f;
	return 0;
}

static int stop(void **state)
{
	struct fixture *f = *state;

	search_build_free(&f->build);
	temp_end(&f->t);
	free(f);
	return 0;
}

static const char *const words[] = {"time", "Person", "year", "w\xc3\xa4y",
	"stra\xc3\x9f"
	"e",
	"\xe3\x81\xbe\xe3\x81\xbf", "budget", "meeting", "0123", "a", "\xd0\x9f\xd1\x80\xd0\xb8", "=3D",
	"<b>", "\xf0\x9f\x98\x80"};

static uint32_t roll(uint32_t below)
{
	uint32_t n;

	random_bytes(&n, sizeof(n));
	return n % below;
}

static void add_words(struct buf *out, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		buf_add_str(out, words[roll(ARRAY_LEN(words))]);
		buf_add_str(out, roll(8) ? " " : "\r\n");
	}
}

/* One of several forms, with random words. */
static void write_mail(struct buf *out)
{
	static const char *const heads[] = {
		"Content-Type: text/plain; charset=utf-8\r\n\r\n",
		"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: "
		"quoted-printable\r\n\r\n",
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		"Content-Type: text/plain; charset=koi8-r\r\n\r\n",
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst "
		"budget\r\n--b\r\nContent-Type: "
		"message/rfc822\r\n\r\nSubject: inner way\r\n\r\n",
		"Content-Type: application/octet-stream\r\n\r\n",
		"\r\n",
	};

	buf_clear(out);
	buf_printf(out, "Subject: =?utf-8?Q?=C3=84=20");
	buf_printf(out, "%u?= ", roll(100));
	buf_add_str(out, words[roll(ARRAY_LEN(words))]);
	buf_printf(out, "\r\nX-Number: %u\r\n", roll(1000));
	buf_add_str(out, heads[roll(ARRAY_LEN(heads))]);
	add_words(out, roll(200));
	buf_add_str(out, "\r\n");
}

static void fill(struct fixture *f, unsigned count)
{
	struct store_appended added;
	struct buf mail = {0};

	for (unsigned i = 0; i < count; i++) {
		write_mail(&mail);
		assert_int_equal(temp_append(&f->t, f->t.account, f->t.inbox, buf_view(&mail), 0, &added), 0);
	}
	buf_deinit(&mail);
}

static struct search_build_status status_of(struct fixture *f, uint32_t mailbox)
{
	struct search_build_status s;

	assert_int_equal(search_build_status(f->t.store, 0, f->t.account, mailbox, &s), 0);
	return s;
}

static int build(struct fixture *f)
{
	struct search_build_done done = {0};

	return search_build_mailbox(f->build, 0, f->t.account, f->t.inbox, &done);
}

static bool gather(void *arg, struct slice folded)
{
	buf_add_slice(arg, folded);
	return true;
}

/* Every text of a message. */
static void read_texts(
	struct search_text *text, struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct buf *out)
{
	struct store_message m;
	struct slice header;

	assert_int_equal(store_message_get(txn, mailbox, uid, &m), 0);
	search_text_begin(text, txn, &m);
	buf_clear(out);
	assert_int_equal(search_text_header(text, &header), 0);
	buf_add_slice(out, header);
	assert_int_equal(search_text_bodies(text, gather, out), 0);
}

/* Needles out of the messages themselves and made up ones: the index excludes no message that has it, and, where it covers
 * a message, nearly all that have it not (of one that holds no such grams, all). Returns how many were excluded. */
static unsigned compare(struct fixture *f)
{
	struct store_mailbox mailbox = temp_mailbox(&f->t, f->t.inbox);
	uint32_t *uids = xcalloc(mailbox.messages + 1, sizeof(*uids));
	struct search_text *text = search_text_new(0);
	struct buf *texts = xcalloc(mailbox.messages + 1, sizeof(*texts)), needle = {0};
	struct store_txn *txn;
	unsigned excluded = 0;
	size_t count;

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	count = temp_all(&f->t, txn, uids, mailbox.messages);
	for (size_t i = 0; i < count; i++)
		read_texts(text, txn, f->t.inbox, uids[i], &texts[i]);
	store_end_read(&txn);
	for (unsigned round = 0; round < 60; round++) {
		struct search_index *index = search_index_new(f->t.store, 0, f->t.inbox, mailbox.uidvalidity);
		struct slice from = buf_view(&texts[roll((uint32_t)count)]);
		struct search_filter *filter;

		buf_clear(&needle);
		if (round % 6 == 0)
			buf_add_str(&needle, "zebra crossing");
		else
			buf_add_slice(&needle,
				slice_sub(slice_from(from, roll((uint32_t)from.len)), 0, 1 + roll(20)));
		filter = search_filter_new(buf_view(&needle));
		search_index_open(index);
		for (size_t i = 0; i < count; i++) {
			if (!search_index_excludes(index, filter, uids[i]))
				continue;
			excluded++;
			assert_null(memmem(texts[i].data, buf_len(&texts[i]), needle.data, buf_len(&needle)));
		}
		search_index_free(&index);
		search_filter_free(&filter);
	}
	for (size_t i = 0; i < count; i++)
		buf_deinit(&texts[i]);
	buf_deinit(&needle);
	search_text_free(&text);
	free(texts);
	free(uids);
	return excluded;
}

static void expunge_some(struct fixture *f, unsigned one_in)
{
	struct store_mailbox mailbox = temp_mailbox(&f->t, f->t.inbox);
	uint32_t *uids = xcalloc(mailbox.messages + 1, sizeof(*uids));
	struct store_txn *txn;
	size_t count, n = 0;
	uint64_t modseq;

	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	count = temp_all(&f->t, txn, uids, mailbox.messages);
	for (size_t i = 0; i < count; i++)
		if (roll(one_in) == 0)
			uids[n++] = uids[i];
	assert_int_equal(
		store_message_expunge(txn, f->t.account, f->t.inbox, uids, n, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	free(uids);
}

static void test_it_excludes_nothing_that_is_there(void **state)
{
	struct fixture *f = *state;
	struct search_build_status s;

	fill(f, 60);
	assert_int_equal(build(f), 0);
	assert_int_equal(status_of(f, f->t.inbox).covered, 0); /* too few to be worth it */
	assert_int_equal(compare(f), 0);
	for (unsigned i = 0; i < 12; i++) {
		fill(f, 70 + roll(300));
		assert_int_equal(build(f), 0);
		if (i % 4 == 3)
			assert_true(compare(f) > 0);
	}
	s = status_of(f, f->t.inbox);
	assert_true(s.covered > s.messages / 2);
	assert_true(s.segments < 12); /* some were joined */
	assert_true(s.index.octets <= s.index.text);
	expunge_some(f, 3);
	assert_true(compare(f) > 0);
	assert_int_equal(build(f), 0);
	assert_true(compare(f) > 0);
	s = status_of(f, f->t.inbox);
	assert_true(s.covered <= s.messages && s.index.docs <= s.messages + s.messages / 3 + 1);
	expunge_some(f, 1);
	assert_int_equal(build(f), 0);
	s = status_of(f, f->t.inbox);
	assert_int_equal(s.index.docs, 0);
	assert_int_equal(s.segments, 0);
}

/* Given up at each step, and the program ended there: what is left is right, and goes on. */
static void test_it_may_be_interrupted_anywhere(void **state)
{
	struct fixture *f = *state;
	int err = ERR_CANCELLED;

	fill(f, 1500);
	for (unsigned i = 1; err == ERR_CANCELLED && i < 500; i++) {
		f->rests = 0;
		f->give_up_at = 1 + i / 2 + i * i / 16;
		err = build(f);
		assert_true(err == 0 || err == ERR_CANCELLED);
		if (i % 3 == 0) {
			close_it(f);
			open_with_index(f, 0);
		}
		if (i < 8)
			(void)compare(f);
	}
	assert_int_equal(err, 0);
	assert_true(compare(f) > 0);
	assert_true(status_of(f, f->t.inbox).covered > 1000);
}

static void test_it_goes_with_its_mailbox(void **state)
{
	struct fixture *f = *state;
	uint32_t *ids, second;
	struct search_build_done done = {0};
	struct store_txn *txn;
	struct search_mailbox row;
	struct store_text_txn *text;
	size_t count;

	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, f->t.account, SLICE_LIT("x"), STORE_USE_NONE, &second), 0);
	assert_int_equal(store_commit(&txn), 0);
	fill(f, 600);
	assert_int_equal(build(f), 0);
	assert_int_equal(search_build_list(f->t.store, 0, f->t.account, &ids, &count), 0);
	assert_true(count >= 2);
	free(ids);
	assert_int_equal(search_build_list(f->t.store, 0, f->t.account + 9, &ids, &count), 0);
	free(ids);
	/* Of another UIDVALIDITY nothing is believed, and it is made anew. */
	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_text_begin_write(f->t.store, 0, txn, &text), 0);
	assert_int_equal(search_mailbox_get(text, f->t.inbox, &row), 0);
	row.uidvalidity++;
	assert_int_equal(search_mailbox_put(text, f->t.inbox, &row), 0);
	assert_int_equal(store_text_commit(&text), 0);
	store_end_read(&txn);
	assert_int_equal(compare(f), 0);
	assert_int_equal(build(f), 0);
	assert_true(compare(f) > 0);
	/* The mailbox becomes another's and goes. */
	assert_int_equal(search_build_forget(f->build, 0, f->t.account), 0);
	assert_int_equal(status_of(f, f->t.inbox).index.docs, 0);
	assert_int_equal(build(f), 0);
	assert_int_equal(search_build_collect(f->build, 0), 0);
	assert_true(compare(f) > 0);
	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_rename(txn, f->t.account, f->t.inbox, SLICE_LIT("old")),
		0); /* its id goes along */
	assert_int_equal(store_mailbox_delete(txn, f->t.account, f->t.inbox), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(search_build_collect(f->build, 0), 0);
	assert_int_equal(store_text_begin_read(f->t.store, 0, &text), 0);
	assert_int_equal(search_mailbox_get(text, f->t.inbox, &row), ERR_NOT_FOUND);
	store_text_end(&text);
	assert_int_equal(search_build_mailbox(f->build, 0, f->t.account, f->t.inbox, &done),
		0); /* gone: nothing to do */
	temp_reap(&f->t, NULL);
}

/* A full index ends nothing: what fits is used, the rest is scanned, and there are no half segments. */
static void test_it_may_be_full(void **state)
{
	struct fixture *f = *state;
	int err = 0;

	close_it(f);
	open_with_index(f, 256 << 10);
	for (unsigned i = 0; i < 40 && err == 0; i++) {
		fill(f, 300);
		err = build(f);
	}
	assert_int_equal(err, ERR_FULL);
	(void)compare(f);
	assert_int_equal(build(f), ERR_FULL);
	(void)compare(f);
	close_it(f);
	open_with_index(f, 0);
	assert_int_equal(build(f), 0);
	assert_true(compare(f) > 0);
}

static void ignore(void *arg, const char *text)
{
	(void)text;
	++*(unsigned *)arg;
}

static struct search_check check(struct fixture *f)
{
	struct search_check c = {0}, all;
	unsigned found = 0;

	assert_int_equal(
		search_check_mailbox(f->t.store, 0, f->t.account, f->t.inbox, ignore, &found, &c), 0);
	assert_int_equal(found, c.errors);
	all = (struct search_check){0};
	assert_int_equal(search_check_account(f->t.store, 0, f->t.account, ignore, &found, &all), 0);
	assert_true(all.messages == c.messages && all.segments == c.segments && all.errors == c.errors);
	return c;
}

/* Overwrites the first row that is of this kind; false: there is none. */
static bool damage(struct fixture *f, enum search_row kind, size_t at)
{
	struct store_text_key key = {f->t.inbox, (uint8_t)kind, 0, 0}, found;
	struct store_text_txn *text;
	struct store_txn *txn;
	struct slice row;
	char copy[SEARCH_BLOCK_MAX * 4];

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_text_begin_write(f->t.store, 0, txn, &text), 0);
	store_end_read(&txn);
	assert_int_equal(store_text_seek(text, &key, &found, &row), 0);
	assert_int_equal(found.kind, kind);
	assert_true(row.len <= sizeof(copy) && at < row.len);
	memcpy(copy, row.p, row.len);
	copy[at] ^= 1;
	assert_int_equal(store_text_put(text, &found, slice_of(copy, row.len)), 0);
	return store_text_commit(&text) == 0;
}

/* A damaged row takes nothing from an answer; it is found by the check, told once, and healed. */
static void test_security_14_a_damaged_index_takes_nothing_away(void **state)
{
	static const enum search_row kinds[] = {SEARCH_ROW_SEGMENT, SEARCH_ROW_BLOCK};
	struct fixture *f = *state;
	struct search_check c;
	uint32_t account;

	fill(f, 700);
	assert_int_equal(build(f), 0);
	c = check(f);
	assert_true(c.messages > 600 && c.errors == 0 && c.segments > 0 && c.octets > 0);
	assert_int_equal(store_text_take_damaged(f->t.store, 0), 0);
	log_set_level(-1);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		for (size_t at = 0; at < 100; at += 33) {
			assert_true(damage(f, kinds[i], at));
			(void)compare(f);
			assert_true(check(f).errors > 0);
			assert_int_equal(store_text_take_damaged(f->t.store, 0), f->t.inbox);
			assert_int_equal(search_build_heal(f->build, 0, f->t.inbox, &account), 0);
			assert_int_equal(account, f->t.account);
			assert_int_equal(build(f), 0);
			assert_true(compare(f) > 0);
			assert_int_equal(check(f).errors, 0);
		}
	}
	/* Grams that are missing from sound rows: the check alone can tell. */
	assert_true(store_text_mark_damaged(f->t.store, 0, 7) && !store_text_mark_damaged(f->t.store, 0, 7));
	log_set_level(LOG_ERROR);
}

/* A mail of random letters, of so many octets. */
static void write_noise(struct buf *out, const char *head, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *room;

	buf_clear(out);
	buf_add_str(out, head);
	room = buf_reserve(out, len);
	random_bytes(room, len);
	for (size_t i = 0; i < len; i++)
		room[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : digits[(unsigned char)room[i] & 63];
	buf_added(out, len);
}

/* Of any size: large ones are written piece by piece. */
static void append(struct fixture *f, struct slice mail)
{
	struct store_append a = {.account = f->t.account, .mailbox = f->t.inbox, .date = 1700000000};
	struct store_source source = {.memory = mail};
	struct store_press *press = store_press_new();
	struct store_appended added;
	struct store_draft *d;
	struct store_txn *txn;
	bool done = false;

	assert_int_equal(store_draft_new(&source, &d), 0);
	while (!done) {
		assert_int_equal(store_draft_fill(d, press, &done), 0);
		assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
		a.texts = store_draft_texts(d);
		if (done) {
			assert_int_equal(store_draft_finish(txn, d, &a.blob), 0);
			assert_int_equal(store_message_append(txn, &a, &added), 0);
		} else {
			assert_int_equal(store_draft_write(txn, d), 0);
		}
		assert_int_equal(store_commit(&txn), 0);
		store_draft_committed(d);
	}
	store_draft_free(&d);
	store_press_free(&press);
}

/*
 * Mail that is made to fill the index: random letters in all sizes, more of them than a message may have, and bytes that are text in
 * no charset. Memory while it is indexed is bounded, the index is smaller than its text, and what is left out is scanned.
 */
static void test_security_23_hostile_mail_is_left_out(void **state)
{
	static const struct {
		const char *head;
		size_t len;
		unsigned count;
	} rows[] = {
		{"Subject: a\r\n\r\n", 300, 400},
		{"Subject: a\r\n\r\n", 60 << 10, 40},
		{"Content-Type: text/plain; charset=utf-16\r\n\r\n", 60 << 10, 20},
		{"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n", 400 << 10, 4},
		{"Subject: a\r\n\r\n", 2 << 20, 3},
		{"Subject: a\r\n\r\n", 10 << 20, 2},
		{"Subject: a\r\nX: ", 3 << 20, 2},
	};
	struct fixture *f = *state;
	struct search_build_status s;
	struct rusage before, after;
	struct buf mail = {0};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (unsigned n = 0; n < rows[i].count; n++) {
			write_noise(&mail, rows[i].head, rows[i].len);
			append(f, buf_view(&mail));
		}
	}
	buf_deinit(&mail);
	fill(f, 300); /* and among them what is worth indexing */
	getrusage(RUSAGE_SELF, &before);
	assert_int_equal(build(f), 0);
	getrusage(RUSAGE_SELF, &after);
	fill(f, 600);
	assert_int_equal(build(f), 0);
	s = status_of(f, f->t.inbox);
	assert_true(s.covered >= 512);
	assert_true(s.index.octets <= s.index.text / SEARCH_SHARE_DEN * SEARCH_SHARE_NUM);
#ifndef __SANITIZE_ADDRESS__
#ifndef __SANITIZE_THREAD__
	/* The file's pages are counted too. */
	assert_true((after.ru_maxrss - before.ru_maxrss) >> 10 < 160);
#endif
#endif
	assert_true(compare(f) > 0);
	assert_int_equal(check(f).errors, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_excludes_nothing_that_is_there, start, stop),
		cmocka_unit_test_setup_teardown(test_it_may_be_interrupted_anywhere, start, stop),
		cmocka_unit_test_setup_teardown(test_it_goes_with_its_mailbox, start, stop),
		cmocka_unit_test_setup_teardown(test_it_may_be_full, start, stop),
		cmocka_unit_test_setup_teardown(
			test_security_14_a_damaged_index_takes_nothing_away, start, stop),
		cmocka_unit_test_setup_teardown(test_security_23_hostile_mail_is_left_out, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
