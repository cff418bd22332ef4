/* Messages: what is stored comes back, counters and log agree, nothing goes backwards, damage is seen. */
#include "tests/unit/backend/store/temp_store.h"

#include <fcntl.h>

#include "backend/store/record.h"
#include "common/base/random.h"

#define TRACE "Return-Path: <b@example.com>\r\n"

static void test_a_message_comes_back(void **state)
{
	static const char text[] = "Subject: hello\r\nFrom: A <a@example.com>\r\n\r\nbody\r\n";
	struct temp_store t;
	struct store_txn *txn;
	struct store_message m;
	struct store_mailbox box;
	struct buf room = {0};
	struct slice text_of;
	char got[256];
	size_t len;

	(void)state;
	temp_start(&t);
	assert_int_equal(temp_add(&t, t.inbox, text), 1);
	assert_int_equal(temp_add(&t, t.inbox, text), 2);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 1, &m), 0);
	assert_int_equal(m.size, strlen(TRACE) + strlen(text));
	assert_int_equal(m.date, 1700000000);
	assert_int_equal(store_text_view(&m.texts.envelope, &room, &text_of), 0);
	assert_non_null(memmem(text_of.p, text_of.len, "\"hello\"", 7));
	assert_true(m.texts.envelope.is_squeezed && m.texts.envelope.bytes.len < text_of.len);
	assert_int_equal(store_text_view(&m.texts.bodystructure, &room, &text_of), 0);
	assert_true(slice_has_prefix(text_of, "(\"text\" \"plain\"") ||
		    slice_has_prefix(text_of, "(\"TEXT\" \"PLAIN\""));
	buf_deinit(&room);
	for (size_t from = 0; from <= m.size; from++) {
		assert_int_equal(store_message_read(txn, &m, from, got, sizeof(got), &len), 0);
		assert_int_equal(len, m.size - from);
		assert_memory_equal(
			got, (TRACE "Subject: hello\r\nFrom: A <a@example.com>\r\n\r\nbody\r\n") + from, len);
	}
	assert_int_equal(store_message_get(txn, t.inbox, 3, &m), ERR_NOT_FOUND);
	store_end_read(&txn);
	box = temp_mailbox(&t, t.inbox);
	assert_int_equal(box.messages, 2);
	assert_int_equal(box.unseen, 2);
	assert_int_equal(box.uidnext, 3);
	assert_int_equal(box.size, 2 * (strlen(TRACE) + strlen(text)));
	temp_end(&t);
}

/* Sizes around the borders of pieces and frames, incompressible bytes. */
static void test_large_messages_come_back_whole(void **state)
{
	static const size_t sizes[] = {
		0, 1, 16000, 16384, 65519, 65521, 131071, 131072, 131073, 700001, 5000000};
	struct temp_store t;

	(void)state;
	temp_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char *bytes = xmalloc(sizes[i] + 1), *got = xmalloc(sizes[i] + 1);
		struct store_press *press = store_press_new();
		struct store_source source = {.memory = slice_of(bytes, sizes[i])};
		struct store_append a = {.account = t.account, .mailbox = t.inbox};
		struct store_appended appended;
		struct store_draft *d;
		struct store_txn *txn;
		struct store_message m;
		size_t len, at;
		bool done = false;

		random_bytes(bytes, sizes[i]);
		assert_int_equal(store_draft_new(&source, &d), 0);
		while (!done) {
			assert_int_equal(store_draft_fill(d, press, &done), 0);
			assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
			if (!done) {
				/* The first try is lost: the pieces must be written again. */
				assert_int_equal(store_draft_write(txn, d), 0);
				store_abort(&txn);
				assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
				assert_int_equal(store_draft_write(txn, d), 0);
			} else {
				assert_int_equal(store_draft_finish(txn, d, &a.blob), 0);
				a.texts = store_draft_texts(d);
				assert_int_equal(store_message_append(txn, &a, &appended), 0);
			}
			assert_int_equal(store_commit(&txn), 0);
			store_draft_committed(d);
		}
		assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
		assert_int_equal(store_message_get(txn, t.inbox, appended.uid, &m), 0);
		assert_int_equal(m.size, sizes[i]);
		assert_int_equal(store_message_read(txn, &m, 0, got, sizes[i] + 1, &len), 0);
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(got, bytes, len);
		for (at = 0; at < sizes[i]; at += len) {
			assert_int_equal(store_message_read(txn, &m, at, got, 50021, &len), 0);
			assert_memory_equal(got, bytes + at, len);
			assert_true(len > 0);
		}
		store_end_read(&txn);
		store_draft_free(&d);
		store_press_free(&press);
		free(bytes);
		free(got);
	}
	temp_end(&t);
}

static void test_unfinished_drafts_leave_nothing(void **state)
{
	char *bytes = xmalloc(6000000);
	struct temp_store t;
	struct store_txn *txn;
	struct store_stat s;
	struct store_draft *d;
	bool done;

	(void)state;
	temp_start(&t);
	random_bytes(bytes, 6000000);
	for (int drop = 0; drop < 2; drop++) {
		d = temp_draft(slice_of(bytes, 6000000), &done);
		assert_false(done);
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_draft_write(txn, d), 0);
		assert_int_equal(store_commit(&txn), 0);
		store_draft_committed(d);
		temp_check(&t);
		temp_reap(&t, NULL); /* must leave it alone while it is pending */
		assert_int_equal(store_stat(t.store, &s), 0);
		assert_int_equal(s.orphans, 1);
		if (drop) {
			assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
			assert_int_equal(store_draft_drop(txn, d), 0);
			assert_int_equal(store_commit(&txn), 0);
		} else {
			store_close(&t.store);
			temp_open(&t, 256 << 20);
		}
		store_draft_free(&d);
		temp_reap(&t, NULL);
		assert_int_equal(store_stat(t.store, &s), 0);
		assert_int_equal(s.orphans, 0);
	}
	free(bytes);
	temp_end(&t);
}

/* Its pieces go in steps, and the end may come between two: the check finds no damage in what no message has. */
static void test_the_reaper_may_be_cut_short(void **state)
{
	char *bytes = xmalloc(1000000);
	struct store_appended a;
	struct temp_store t;
	bool done = false;
	unsigned steps = 0;
	struct store_txn *txn;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	random_bytes(bytes, 1000000);
	assert_int_equal(temp_append(&t, t.account, t.inbox, slice_of(bytes, 1000000), 0, &a), 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_expunge(txn, t.account, t.inbox, &a.uid, 1, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	while (!done) {
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_reap(txn, NULL, 3, &done), 0);
		assert_int_equal(store_commit(&txn), 0);
		temp_check(&t);
		steps++;
	}
	assert_true(steps > 4);
	free(bytes);
	temp_end(&t);
}

/* A thousand messages, then random changes, against a model; the check proves counters and log after each
 * round. */
#define MODEL 1000
struct model {
	bool there[MODEL + 1];
	uint8_t flags[MODEL + 1];
};

static void compare_model(struct temp_store *t, const struct model *model)
{
	struct store_txn *txn;
	struct store_entry e;
	struct store_scan scan;
	uint32_t uids[MODEL], last = 0;
	size_t count, n = 0, first_unseen = SIZE_MAX;
	struct store_mailbox mailbox = temp_mailbox(t, t->inbox);
	uint32_t unseen = 0;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	count = temp_all(t, txn, uids, MODEL);
	for (uint32_t uid = 1; uid <= MODEL; uid++) {
		assert_int_equal(
			store_message_entry(txn, t->inbox, uid, &e), model->there[uid] ? 0 : ERR_NOT_FOUND);
		if (!model->there[uid])
			continue;
		assert_int_equal(e.flags, model->flags[uid]);
		assert_int_equal(uids[n], uid);
		if (first_unseen == SIZE_MAX && !(e.flags & STORE_SEEN))
			first_unseen = n;
		n++;
	}
	assert_int_equal(n, count);
	assert_int_equal(store_message_first_unseen(txn, &mailbox, &unseen),
		first_unseen == SIZE_MAX ? ERR_NOT_FOUND : 0);
	assert_int_equal(first_unseen == SIZE_MAX ? 0 : first_unseen, unseen);
	n = 0;
	assert_int_equal(store_scan_begin(&scan, txn, t->inbox, 300), 0);
	while (store_scan_next(&scan, &e)) {
		assert_true(e.uid >= 300 && e.uid > last && model->there[e.uid]);
		last = e.uid;
		n++;
	}
	assert_int_equal(scan.error, 0);
	store_scan_end(&scan);
	for (uint32_t uid = 1; uid < 300; uid++)
		n += model->there[uid];
	assert_int_equal(n, count);
	store_end_read(&txn);
}

static void test_index_follows_a_model(void **state)
{
	struct temp_store t;
	static struct model model;
	unsigned seed = 42;

	(void)state;
	memset(&model, 0, sizeof(model));
	temp_start(&t);
	for (uint32_t i = 1; i <= MODEL; i++) {
		assert_int_equal(temp_add(&t, t.inbox, "A: b\r\n\r\nc\r\n"), i);
		model.there[i] = true;
	}
	compare_model(&t, &model);
	for (int round = 0; round < 40; round++) {
		uint32_t uids[200];
		size_t count = 0;
		bool expunge = rand_r(&seed) % 2;
		struct store_flag_change change = {.how = (enum store_flag_how)(rand_r(&seed) % 3),
			.flags = (uint8_t)(rand_r(&seed) % 32),
			.unchanged_since = UINT64_MAX};
		struct store_txn *txn;
		uint64_t modseq;

		for (uint32_t uid = 1 + (uint32_t)rand_r(&seed) % 20; uid <= MODEL && count < 200;
			uid += 1 + (uint32_t)rand_r(&seed) % 9)
			uids[count++] = uid;
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		if (expunge)
			assert_int_equal(store_message_expunge(
						 txn, t.account, t.inbox, uids, count, false, NULL, &modseq),
				0);
		else
			assert_int_equal(store_message_flag(txn, t.account, t.inbox, uids, count, &change,
						 NULL, &modseq),
				0);
		assert_int_equal(store_commit(&txn), 0);
		for (size_t i = 0; i < count; i++) {
			uint8_t *f = &model.flags[uids[i]];

			if (expunge && (*f & STORE_DELETED))
				model.there[uids[i]] = false;
			if (expunge)
				continue;
			*f = change.how == STORE_FLAGS_REPLACE ? change.flags
			     : change.how == STORE_FLAGS_ADD   ? *f | change.flags
							       : *f & (uint8_t)~change.flags;
		}
		compare_model(&t, &model);
		temp_check(&t);
		if (round % 10 == 9)
			temp_reap(&t, NULL);
	}
	temp_end(&t);
}

static void test_changes_tell_what_happened(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_changes c;
	struct store_mailbox before;
	struct arena arena;
	struct store_flag_change seen = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX};
	uint32_t flag[3] = {2, 3, 6}, gone[2] = {3, 4};
	uint64_t modseq, last;

	(void)state;
	temp_start(&t);
	arena_init(&arena, 0);
	for (int i = 0; i < 5; i++)
		temp_add(&t, t.inbox, "A: b\r\n\r\n");
	before = temp_mailbox(&t, t.inbox);
	for (int i = 0; i < 2; i++)
		temp_add(&t, t.inbox, "A: b\r\n\r\n");
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, flag, 3, &seen, NULL, &modseq), 0);
	assert_true(modseq > before.modseq);
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, flag, 3, &seen, NULL, &last), 0);
	assert_int_equal(last, 0);
	assert_int_equal(store_message_expunge(txn, t.account, t.inbox, gone, 2, true, NULL, &last), 0);
	assert_true(last > modseq);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_changes(txn, t.account, t.inbox, before.modseq, &arena, &c), 0);
	assert_int_equal(c.modseq, last);
	assert_int_equal(c.added_count, 2);
	assert_int_equal(c.added[0], 6);
	assert_int_equal(c.added[1], 7);
	assert_int_equal(c.expunged_count, 2);
	assert_int_equal(c.expunged[0], 3);
	assert_int_equal(c.expunged[1], 4);
	assert_int_equal(c.changed_count, 1);
	assert_int_equal(c.changed[0].uid, 2);
	assert_int_equal(c.changed[0].modseq, modseq);
	assert_int_equal(store_message_changes(txn, t.account, t.inbox, last, &arena, &c), 0);
	assert_int_equal(c.added_count + c.expunged_count + c.changed_count, 0);
	assert_int_equal(store_message_changes(txn, t.account, 4711, 0, &arena, &c), 0);
	assert_true(c.gone);
	store_end_read(&txn);
	arena_deinit(&arena);
	temp_end(&t);
}

static void test_the_log_is_trimmed_and_says_so(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_changes c;
	struct arena arena;
	struct store_flag_change change = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX};
	uint32_t uid;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	arena_init(&arena, 0);
	uid = temp_add(&t, t.inbox, "A: b\r\n\r\n");
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	for (int i = 0; i < 20100; i++) {
		change.how = i % 2 ? STORE_FLAGS_REMOVE : STORE_FLAGS_ADD;
		assert_int_equal(
			store_message_flag(txn, t.account, t.inbox, &uid, 1, &change, NULL, &modseq), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_changes(txn, t.account, t.inbox, 1, &arena, &c), 0);
	assert_true(c.incomplete);
	assert_int_equal(store_message_changes(txn, t.account, t.inbox, modseq - 5000, &arena, &c), 0);
	assert_false(c.incomplete);
	assert_int_equal(c.changed_count, 1);
	store_end_read(&txn);
	arena_deinit(&arena);
	temp_end(&t);
}

static void test_unchangedsince_refuses_what_is_newer(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_flag_change change = {
		.how = STORE_FLAGS_ADD, .flags = STORE_FLAGGED, .unchanged_since = UINT64_MAX};
	uint32_t uids[3] = {1, 2, 3}, two = 2, failed;
	uint64_t before, modseq;
	struct buf out = {0};

	(void)state;
	temp_start(&t);
	for (int i = 0; i < 3; i++)
		temp_add(&t, t.inbox, "A: b\r\n\r\n");
	before = temp_mailbox(&t, t.inbox).modseq;
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, &two, 1, &change, NULL, &modseq), 0);
	change.flags = STORE_SEEN;
	change.unchanged_since = before;
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, uids, 3, &change, &out, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(buf_len(&out), sizeof(failed));
	memcpy(&failed, buf_view(&out).p, sizeof(failed));
	assert_int_equal(failed, 2);
	assert_int_equal(temp_mailbox(&t, t.inbox).unseen, 1);
	buf_deinit(&out);
	temp_end(&t);
}

static void test_copy_and_move_take_everything_along(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_flag_change change = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN | STORE_FLAGGED, .unchanged_since = UINT64_MAX};
	struct slice keyword = SLICE_LIT("$Label1"), other = SLICE_LIT("other");
	struct store_keywords names;
	char rooms[2][STORE_UIDL_MADE];
	struct store_message m, from;
	struct store_entry e;
	struct store_stat s;
	uint32_t uids[3] = {1, 2, 9}, trash;
	uint64_t modseq, bits;
	struct buf pairs = {0};

	(void)state;
	temp_start(&t);
	for (int i = 0; i < 2; i++)
		temp_add(&t, t.inbox, "Subject: s\r\n\r\nbody");
	trash = temp_find(&t, t.account, "Trash");
	temp_add(&t, trash, "A: b\r\n\r\n");
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_make_keywords(txn, t.account, trash, &other, 1, &bits), 0);
	assert_int_equal(
		store_mailbox_make_keywords(txn, t.account, t.inbox, &keyword, 1, &change.keywords), 0);
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, uids, 1, &change, NULL, &modseq), 0);
	assert_int_equal(store_message_copy(txn, t.account, t.inbox, uids, 3, trash, false, &pairs), 0);
	assert_int_equal(buf_len(&pairs), 4 * sizeof(uint32_t));
	assert_int_equal(store_message_copy(txn, t.account, t.inbox, uids, 1, trash, true, &pairs), 0);
	assert_int_equal(store_message_copy(txn, t.account, trash, uids, 1, trash, false, NULL), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(((const uint32_t *)(const void *)buf_view(&pairs).p)[5], 4);
	buf_deinit(&pairs);
	assert_int_equal(temp_mailbox(&t, t.inbox).messages, 1);
	assert_int_equal(temp_mailbox(&t, trash).messages, 5);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_entry(txn, trash, 4, &e), 0);
	assert_int_equal(e.flags, STORE_SEEN | STORE_FLAGGED);
	assert_int_equal(store_mailbox_keywords(txn, t.account, trash, &names), 0);
	assert_int_equal(e.keywords, 2);
	assert_true(slice_is_str(names.names[1], "$Label1"));
	assert_int_equal(store_message_get(txn, trash, 4, &m), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 1, &from), 0); /* not reaped yet */
	assert_int_equal(m.blob, from.blob);
	assert_int_equal(m.date, from.date);
	assert_false(slice_is_equal(store_message_uidl(&m, rooms[0]), store_message_uidl(&from, rooms[1])));
	store_end_read(&txn);
	temp_check(&t);
	temp_reap(&t, NULL);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs, 3);
	temp_end(&t);
}

#define COPIED 700

static uint64_t count_rows(struct temp_store *t, enum db_name db)
{
	struct store_txn *txn;
	uint64_t n = 0;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(db_count(txn, db, &n), 0);
	store_end_read(&txn);
	return n;
}

static void copy_step(struct temp_store *t, const uint32_t *uids, size_t count, uint32_t to, size_t want)
{
	struct store_txn *txn;
	struct buf pairs = {0};

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_copy(txn, t->account, t->inbox, uids, count, to, false, &pairs), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(buf_len(&pairs), want * 2 * sizeof(uint32_t));
	buf_deinit(&pairs);
}

static void expunge_all_of(struct temp_store *t, uint32_t mailbox)
{
	struct store_txn *txn;
	uint64_t modseq;
	uint32_t uids[3 * COPIED];

	for (uint32_t i = 0; i < ARRAY_LEN(uids); i++)
		uids[i] = i + 1;
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(
		store_message_expunge(txn, t->account, mailbox, uids, ARRAY_LEN(uids), true, NULL, &modseq),
		0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(t, NULL);
}

/* Over chunks, gaps and records' batches; the bodies are not written again, and go with the last of their messages. */
static void test_many_messages_are_copied(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_stat s;
	uint32_t uids[COPIED], to, n = 0, uid = 0;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	to = temp_find(&t, t.account, "Trash");
	for (unsigned i = 0; i < COPIED; i++) {
		char text[64];

		snprintf(text, sizeof(text), "Subject: %u\r\n\r\nbody %u", i, i);
		uids[i] = temp_add(&t, t.inbox, text);
	}
	/* Some are not there: single ones, and more than are read over. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_expunge(txn, t.account, t.inbox, uids + 3, 1, true, NULL, &modseq), 0);
	assert_int_equal(
		store_message_expunge(txn, t.account, t.inbox, uids + 60, 550, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	copy_step(&t, uids, COPIED, to, COPIED - 551);
	copy_step(&t, uids + 650, 50, to, 50);
	assert_int_equal(count_rows(&t, DB_COPIES), COPIED - 551);
	assert_int_equal(temp_mailbox(&t, to).messages, COPIED - 551 + 50);
	temp_check(&t);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	for (unsigned i = 0; i < COPIED; i++) {
		struct store_message m, from;
		struct store_entry a, b;

		if (i == 3 || (i >= 60 && i < 610))
			continue;
		n++;
		assert_int_equal(store_message_get(txn, to, n, &m), 0);
		assert_int_equal(store_message_get(txn, t.inbox, uids[i], &from), 0);
		assert_int_equal(m.blob, from.blob);
		assert_true(slice_is_equal(m.texts.envelope.bytes, from.texts.envelope.bytes));
		assert_int_equal(store_message_entry(txn, to, n, &a), 0);
		assert_int_equal(store_message_entry(txn, t.inbox, uids[i], &b), 0);
		assert_int_equal(a.size, b.size);
		assert_int_equal(a.date, b.date);
	}
	store_end_read(&txn);
	/* One message of two at a time, from a long set. */
	for (uid = 0; uid < COPIED / 2; uid++)
		uids[uid] = 2 * uid + 1;
	copy_step(&t, uids, COPIED / 2, to, 75);
	temp_check(&t);
	expunge_all_of(&t, t.inbox);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs, COPIED - 551);
	temp_check(&t);
	expunge_all_of(&t, to);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs, 0);
	assert_int_equal(count_rows(&t, DB_COPIES), 0);
	assert_int_equal(count_rows(&t, DB_ORPHANS), 0);
	temp_end(&t);
}

struct holding {
	uint32_t mailbox;
	uint64_t modseq, blob;
};

static uint64_t hold_view(void *arg, uint32_t mailbox)
{
	struct holding *h = arg;

	return mailbox == h->mailbox ? h->modseq : UINT64_MAX;
}

static bool hold_blob(void *arg, uint64_t blob)
{
	return blob == ((struct holding *)arg)->blob;
}

static void test_the_reaper_waits_for_views_and_pins(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_message m;
	struct holding h = {0};
	struct store_holds holds = {hold_view, hold_blob, &h};
	struct store_stat s;
	uint32_t uid;
	uint64_t modseq;
	char byte;
	size_t len;

	(void)state;
	temp_start(&t);
	uid = temp_add(&t, t.inbox, "A: b\r\n\r\n");
	h.mailbox = t.inbox;
	h.modseq = temp_mailbox(&t, t.inbox).modseq;
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_expunge(txn, t.account, t.inbox, &uid, 1, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, &holds);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, uid, &m), 0);
	assert_int_equal(store_message_read(txn, &m, m.trace.len, &byte, 1, &len), 0);
	assert_int_equal(byte, 'A');
	h.blob = m.blob;
	store_end_read(&txn);
	h.modseq = modseq;
	temp_reap(&t, &holds);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.expunged, 0);
	assert_int_equal(s.blobs, 1);
	temp_check(&t);
	h.blob = 0;
	temp_reap(&t, &holds);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs + s.orphans, 0);
	temp_end(&t);
}

static void test_recent_is_taken_once(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint32_t from, count;

	(void)state;
	temp_start(&t);
	temp_add(&t, t.inbox, "A: b\r\n\r\n");
	temp_add(&t, t.inbox, "A: b\r\n\r\n");
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_count_recent(txn, t.account, t.inbox, 1, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(store_mailbox_take_recent(txn, t.account, t.inbox, &from), 0);
	assert_int_equal(from, 1);
	assert_int_equal(store_mailbox_take_recent(txn, t.account, t.inbox, &from), 0);
	assert_int_equal(from, 3);
	assert_int_equal(store_mailbox_count_recent(txn, t.account, t.inbox, 3, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_end(&t);
}

static void test_marks_are_kept_and_expire(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint8_t mark[STORE_MARK_LEN];
	size_t count;
	bool has;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	for (uint8_t i = 0; i < 10; i++) {
		memset(mark, i, sizeof(mark));
		assert_int_equal(store_mark_add(txn, mark, 1000 + i), 0);
		assert_int_equal(store_mark_add(txn, mark, 2000), ERR_EXISTS);
	}
	assert_int_equal(store_mark_remove(txn, mark), 0);
	assert_int_equal(store_mark_remove(txn, mark), 0);
	assert_int_equal(store_mark_expire(txn, 1005, 3, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(store_mark_expire(txn, 1005, 100, &count), 0);
	assert_int_equal(count, 2);
	for (uint8_t i = 0; i < 10; i++) {
		memset(mark, i, sizeof(mark));
		assert_int_equal(store_mark_has(txn, mark, &has), 0);
		assert_int_equal(has, i >= 5 && i < 9);
	}
	assert_int_equal(store_commit(&txn), 0);
	temp_end(&t);
}

static int fill_up(struct store_txn *txn, void *arg)
{
	struct store_source source = {.memory = slice_of(arg, 3000000)};
	struct store_press *press = store_press_new();
	struct store_draft *d;
	bool done = false;
	uint64_t blob;
	int err = store_draft_new(&source, &d);

	while (!err && !done) {
		err = store_draft_fill(d, press, &done);
		if (!err && !done)
			err = store_draft_write(txn, d);
	}
	if (!err)
		err = store_draft_finish(txn, d, &blob);
	store_draft_free(&d);
	store_press_free(&press);
	return err;
}

static void test_a_full_map_fails_alone_and_grows(void **state)
{
	char *bytes = xmalloc(3000000);
	struct temp_store t;
	struct store_txn *txn;
	struct store_stat before, after;
	struct store_flag_change change = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX};
	uint32_t uid;
	uint64_t modseq;

	(void)state;
	random_bytes(bytes, 3000000);
	temp_start(&t);
	uid = temp_add(&t, t.inbox, "A: b\r\n\r\n");
	store_close(&t.store);
	temp_open(&t, 2 << 20);
	assert_int_equal(store_stat(t.store, &before), 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t.account, t.inbox, &uid, 1, &change, NULL, &modseq), 0);
	assert_int_equal(store_txn_try(txn, fill_up, bytes), ERR_FULL);
	assert_int_equal(store_txn_error(txn), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(temp_mailbox(&t, t.inbox).unseen, 0);
	temp_check(&t);
	/* A full map that is mostly empty again does not grow; one that is in use does. */
	for (int i = 0; i < 8000 && before.map_size == (2 << 20); i++) {
		temp_add(&t, t.inbox, "A: b\r\n\r\nsome more of it\r\n");
		if (i % 100 == 0)
			assert_int_equal(store_stat(t.store, &before), 0);
	}
	assert_int_equal(store_stat(t.store, &after), 0);
	assert_true(after.map_size >= 4 << 20);
	free(bytes);
	temp_end(&t);
}

static void count_finding(void *arg, const char *text)
{
	(void)text;
	++*(int *)arg;
}

/* A byte changed in the file is found by reading and by the check. */
static void test_damage_is_found(void **state)
{
	char needle[65] = "", body[200], path[128], *data;
	struct temp_store t;
	struct store_txn *txn;
	struct store_message m;
	struct store_check c;
	int found = 0, fd;
	struct store_check_options o = {.report = count_finding, .arg = &found};
	size_t len, changed = 0;
	off_t size;

	(void)state;
	random_bytes(needle, sizeof(needle) - 1); /* does not compress, and so is found in the file */
	for (size_t i = 0; i < sizeof(needle) - 1; i++)
		needle[i] = (char)(needle[i] | 0x80);
	snprintf(body, sizeof(body), "A: b\r\n\r\n%s\r\n", needle);
	temp_start(&t);
	temp_add(&t, t.inbox, body);
	store_close(&t.store);
	snprintf(path, sizeof(path), "%s/s0/data.mdb", t.dir);
	fd = open(path, O_RDWR);
	size = lseek(fd, 0, SEEK_END);
	data = xmalloc((size_t)size);
	assert_int_equal(pread(fd, data, (size_t)size, 0), size);
	for (char *at = data; (at = memmem(at, (size_t)(data + size - at), needle, 16)); at++, changed++)
		assert_int_equal(pwrite(fd, "N", 1, at - data), 1);
	assert_true(changed > 0);
	close(fd);
	free(data);
	temp_open(&t, 256 << 20);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 1, &m), 0);
	assert_int_equal(store_message_read(txn, &m, 0, body, sizeof(body), &len), ERR_CORRUPT);
	store_end_read(&txn);
	assert_int_equal(store_check(t.store, &o, &c), 0);
	assert_int_equal(c.errors, 1);
	assert_int_equal(found, 1);
	temp_remove(&t);
}

static void expect_text(const struct store_text *text, const char *want)
{
	struct buf room = {0};
	struct slice got;

	assert_int_equal(store_text_view(text, &room, &got), 0);
	assert_true(slice_is_str(got, want));
	buf_deinit(&room);
}

/* Cut anywhere, or of another kind, it is none. */
static void expect_no_other(char *bytes, size_t size)
{
	struct store_message got;

	for (size_t i = 0; i < size; i++) {
		char *cut = xmalloc(i + 1);

		memcpy(cut, bytes, i);
		assert_int_equal(record_unpack_message(slice_of(cut, i), &got), ERR_CORRUPT);
		free(cut);
	}
	bytes[1] |= 8;
	assert_int_equal(record_unpack_message(slice_of(bytes, size), &got), ERR_CORRUPT);
	bytes[0] = 4;
	assert_int_equal(record_unpack_message(slice_of(bytes, size), &got), ERR_CORRUPT);
}

static void test_records_survive_cutting(void **state)
{
	static const char *const envelope = "(NIL \"s\" ((\"A\" NIL \"a\" \"b\")) ((\"A\" NIL \"a\" \"b\")))";
	struct store_message m = {.uid = 0xabcd,
				     .blob = 7,
				     .size = 1000,
				     .date = -5,
				     .save_date = INT64_MAX,
				     .trace = SLICE_LIT("trace"),
				     .uidl = SLICE_LIT("u"),
				     .email = UINT64_MAX,
				     .texts = {.bodystructure = {SLICE_LIT("(b)"), 3, false},
					     .parts = SLICE_LIT("parts"),
					     .keys = SLICE_LIT("keys")}},
			     got;
	struct squeeze_dict dict;
	struct buf squeezed = {0};
	char bytes[256], room[STORE_UIDL_MADE];
	size_t size;

	(void)state;
	record_text_dict(&dict);
	m.texts.envelope = record_text_squeeze(&dict, slice_str(envelope), &squeezed);
	assert_true(m.texts.envelope.is_squeezed);
	size = record_message_size(&m);
	record_pack_message(&m, bytes);
	assert_int_equal(record_unpack_message(slice_of(bytes, size), &got), 0);
	assert_int_equal(got.blob, 7);
	assert_int_equal(got.size, 1000);
	assert_true(got.date == -5 && got.save_date == INT64_MAX && got.email == UINT64_MAX);
	expect_text(&got.texts.envelope, envelope);
	expect_text(&got.texts.bodystructure, "(b)");
	assert_true(slice_is_str(got.trace, "trace"));
	assert_true(slice_is_str(got.texts.parts, "parts"));
	assert_true(slice_is_str(got.texts.keys, "keys"));
	got.uid = 0xabcd;
	assert_true(slice_is_str(store_message_uidl(&got, room), "u"));
	expect_no_other(bytes, size);
	/* One whose UIDL is made of UIDVALIDITY and UID. */
	record_set_uidl(&m, SLICE_LIT("12345678abcd"));
	assert_int_equal(m.uidl.len, 12);
	record_set_uidl(&m, SLICE_LIT("123456780000abce"));
	assert_int_equal(m.uidl.len, 16);
	record_set_uidl(&m, SLICE_LIT("1234567A0000abcd"));
	assert_int_equal(m.uidl.len, 16);
	record_set_uidl(&m, SLICE_LIT("1234567a0000abcd"));
	assert_int_equal(m.uidl.len, 0);
	size = record_message_size(&m);
	record_pack_message(&m, bytes);
	assert_int_equal(record_unpack_message(slice_of(bytes, size), &got), 0);
	got.uid = 0xabcd;
	assert_true(slice_is_str(store_message_uidl(&got, room), "1234567a0000abcd"));
	expect_no_other(bytes, size);
	buf_deinit(&squeezed);
}

/* As programs before version 3 of this record wrote them. */
static void test_a_record_of_version_2_is_read(void **state)
{
	static const char bytes[] =
		"\2\0\5\0\1\0\3\0\0\0\3\0\0\0\5\0\0\0\7\0\0\0\0\0\0\0"
		"\350\3\0\0\0\0\0\0\5\0\0\0\0\0\0\0\11\0\0\0\0\0\0\0\4\0\0\0\13\0\0\0\0\0\0\0"
		"traceu(e)(b)partskeys";
	struct store_message got;

	(void)state;
	assert_int_equal(record_unpack_message(slice_of(bytes, sizeof(bytes) - 1), &got), 0);
	assert_int_equal(got.blob, 7);
	assert_int_equal(got.email, 11);
	assert_int_equal(got.save_date, 9);
	expect_text(&got.texts.envelope, "(e)");
	expect_text(&got.texts.bodystructure, "(b)");
	assert_true(slice_is_str(got.uidl, "u"));
	assert_true(slice_is_str(got.texts.keys, "keys"));
	for (size_t i = 0; i < sizeof(bytes) - 1; i++)
		assert_int_equal(record_unpack_message(slice_of(bytes, i), &got), ERR_CORRUPT);
}

/* As version 1 of the store wrote them. */
static void test_a_record_of_version_1_is_read(void **state)
{
	static const char bytes[] = "\1\0\5\0\1\0\3\0\0\0\3\0\0\0\5\0\0\0\7\0\0\0\0\0\0\0"
				    "\350\3\0\0\0\0\0\0\5\0\0\0\0\0\0\0\11\0\0\0\0\0\0\0traceu(e)(b)parts";
	struct store_message got;

	(void)state;
	assert_int_equal(record_unpack_message(slice_of(bytes, sizeof(bytes) - 1), &got), 0);
	assert_int_equal(got.blob, 7);
	assert_int_equal(got.size, 1000);
	assert_int_equal(got.save_date, 9);
	assert_int_equal(got.email, 0);
	assert_true(slice_is_str(got.texts.parts, "parts"));
	assert_int_equal(got.texts.keys.len, 0);
}

/* A store that an older program has made: its version is raised everywhere, its messages stay. */
static void test_a_store_of_version_1_is_opened(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_message m;
	char path[200];
	uint64_t version;
	FILE *file;

	(void)state;
	temp_start(&t);
	temp_add(&t, t.inbox, "A: b\r\n\r\nbody\r\n");
	for (unsigned i = 0; i < t.store->slot_count; i++) {
		assert_int_equal(store_begin_write(t.store, i, &txn), 0);
		assert_int_equal(db_meta_put(txn, "version", 1), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
	snprintf(path, sizeof(path), "%s/version", t.dir);
	file = fopen(path, "w");
	fprintf(file, "mailtier store 1\nslots %u\n", t.store->slot_count);
	fclose(file);
	store_close(&t.store);
	for (int i = 0; i < 2; i++) {
		temp_open(&t, 256 << 20);
		assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
		assert_int_equal(db_meta_get(txn, "version", &version), 0);
		assert_int_equal(version, STORE_VERSION);
		assert_int_equal(store_message_get(txn, t.inbox, 1, &m), 0);
		store_end_read(&txn);
		if (i == 0)
			store_close(&t.store);
	}
	temp_remove(&t);
}

/* Rows that come behind all others fill their pages: two bodies of 1.6 KB in each, and not one. */
static void test_pages_are_filled(void **state)
{
	struct temp_store t;
	struct store_stat before, after;
	char text[1901] = "A: b\r\n\r\n";

	(void)state;
	temp_start(&t);
	srand(4);
	assert_int_equal(store_stat(t.store, &before), 0);
	for (int n = 0; n < 200; n++) {
		for (size_t i = 8; i < sizeof(text) - 1; i++)
			text[i] = (char)('!' + rand() % 90);
		temp_add(&t, t.inbox, text);
	}
	assert_int_equal(store_stat(t.store, &after), 0);
	assert_true(after.stored_bytes - before.stored_bytes > 200 * 1400);
	assert_true(after.used_bytes - after.free_bytes - before.used_bytes + before.free_bytes < 200 * 3500);
	temp_end(&t);
}

static void set_seen(struct temp_store *t, uint32_t uid, bool is_seen)
{
	struct store_flag_change change = {.how = is_seen ? STORE_FLAGS_ADD : STORE_FLAGS_REMOVE,
		.flags = STORE_SEEN,
		.unchanged_since = UINT64_MAX};
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t->account, t->inbox, &uid, 1, &change, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static int first_unseen(struct temp_store *t, uint32_t *place_out)
{
	struct store_mailbox mailbox = temp_mailbox(t, t->inbox);
	struct store_txn *txn;
	int err;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	err = store_message_first_unseen(txn, &mailbox, place_out);
	store_end_read(&txn);
	return err;
}

/* It is found at the beginning, and at the end if all are there; in the middle of a large mailbox nobody looks. */
static void test_the_first_unseen_of_many(void **state)
{
	enum {
		ALL = 40000
	};
	static uint32_t uids[ALL];
	struct temp_store t;
	struct store_txn *txn;
	uint32_t place;

	(void)state;
	temp_start(&t);
	set_seen(&t, temp_add(&t, t.inbox, "Subject: one\r\n\r\n"), true);
	assert_int_equal(first_unseen(&t, &place), ERR_NOT_FOUND);
	for (uint32_t count = 1; count < ALL; count *= 2) {
		uint32_t most = ALL - count < count ? ALL - count : count;

		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		for (uint32_t i = 0; i < most; i++)
			uids[i] = i + 1;
		assert_int_equal(
			store_message_copy(txn, t.account, t.inbox, uids, most, t.inbox, false, NULL), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
	assert_int_equal(temp_mailbox(&t, t.inbox).messages, ALL);
	assert_int_equal(first_unseen(&t, &place), ERR_NOT_FOUND);
	set_seen(&t, ALL - 3, false);
	set_seen(&t, ALL - 200, false);
	assert_int_equal(first_unseen(&t, &place), 0);
	assert_int_equal(place, ALL - 201);
	set_seen(&t, ALL / 2, false);
	assert_int_equal(first_unseen(&t, &place), ERR_NOT_NOW);
	set_seen(&t, 5000, false);
	assert_int_equal(first_unseen(&t, &place), 0);
	assert_int_equal(place, 4999);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(temp_all(&t, txn, uids, ALL), ALL);
	store_end_read(&txn);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message_comes_back),
		cmocka_unit_test(test_pages_are_filled),
		cmocka_unit_test(test_large_messages_come_back_whole),
		cmocka_unit_test(test_unfinished_drafts_leave_nothing),
		cmocka_unit_test(test_the_reaper_may_be_cut_short),
		cmocka_unit_test(test_index_follows_a_model),
		cmocka_unit_test(test_changes_tell_what_happened),
		cmocka_unit_test(test_the_log_is_trimmed_and_says_so),
		cmocka_unit_test(test_unchangedsince_refuses_what_is_newer),
		cmocka_unit_test(test_copy_and_move_take_everything_along),
		cmocka_unit_test(test_many_messages_are_copied),
		cmocka_unit_test(test_the_reaper_waits_for_views_and_pins),
		cmocka_unit_test(test_recent_is_taken_once),
		cmocka_unit_test(test_marks_are_kept_and_expire),
		cmocka_unit_test(test_a_full_map_fails_alone_and_grows),
		cmocka_unit_test(test_damage_is_found),
		cmocka_unit_test(test_records_survive_cutting),
		cmocka_unit_test(test_a_record_of_version_1_is_read),
		cmocka_unit_test(test_a_record_of_version_2_is_read),
		cmocka_unit_test(test_a_store_of_version_1_is_opened),
		cmocka_unit_test(test_the_first_unseen_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
