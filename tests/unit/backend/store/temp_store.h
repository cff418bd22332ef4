/* For the tests of the store: one in a temporary folder, small, removed in the end; messages and helpers. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/store/store_account.h"
#include "backend/store/store_check.h"
#include "backend/store/store_message.h"
#include "common/base/mem.h"

struct temp_store {
	char dir[64];
	struct store *store;
	uint32_t account, inbox;
};

static void temp_report(void *arg, const char *text)
{
	(void)arg;
	print_error("check: %s\n", text);
}

static inline void temp_open(struct temp_store *t, uint64_t map_size)
{
	struct store_options o = {.dir = t->dir, .slots = 1, .map_size = map_size};
	struct buf why = {0};
	int err = store_open(&o, &t->store, &why);

	if (err)
		print_error("%s\n", buf_str_view(&why));
	buf_deinit(&why);
	assert_int_equal(err, 0);
}

static inline uint32_t temp_account(struct temp_store *t, const char *address)
{
	struct store_account_new a = {.address = slice_str(address), .password = SLICE_LIT("{PLAIN}x")};
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_account_create(txn, &a, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	return id;
}

static inline uint32_t temp_find(struct temp_store *t, uint32_t account, const char *name)
{
	struct store_txn *txn;
	struct store_mailbox m;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, account, slice_str(name), &m), 0);
	store_end_read(&txn);
	return m.id;
}

static inline void temp_start(struct temp_store *t)
{
	const char *base = getenv("TMPDIR");

	snprintf(t->dir, sizeof(t->dir), "%s/mailtier-store-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(t->dir));
	temp_open(t, 256 << 20);
	t->account = temp_account(t, "alice@example.com");
	t->inbox = temp_find(t, t->account, "INBOX");
}

/* Nothing may be wrong at the end of any test. */
static inline void temp_check(struct temp_store *t)
{
	struct store_check_options o = {.report = temp_report};
	struct store_check c;

	assert_int_equal(store_check(t->store, &o, &c), 0);
	assert_int_equal(c.errors, 0);
}

static inline void temp_remove(struct temp_store *t)
{
	static const char *const files[] = {"s0/text/data.mdb", "s0/text/lock.mdb", "s0/text", "s0/data.mdb",
		"s0/lock.mdb", "s0", "lock", "version"};
	char path[128];

	store_close(&t->store);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", t->dir, files[i]);
		remove(path);
	}
	rmdir(t->dir);
}

static inline void temp_end(struct temp_store *t)
{
	temp_check(t);
	temp_remove(t);
}

/* A draft of these bytes, filled as far as one go does. */
static inline struct store_draft *temp_draft(struct slice message, bool *done_out)
{
	struct store_source source = {.memory = message};
	struct store_press *press = store_press_new();
	struct store_draft *d;

	assert_int_equal(store_draft_new(&source, &d), 0);
	assert_int_equal(store_draft_fill(d, press, done_out), 0);
	store_press_free(&press);
	return d;
}

/* Stores a message that needs one fill; returns the result of the append, the commit's result must be 0. */
static inline int temp_append(struct temp_store *t, uint32_t account, uint32_t mailbox, struct slice message,
	uint8_t flags, struct store_appended *out)
{
	struct store_append a = {.account = account,
		.mailbox = mailbox,
		.flags = flags,
		.date = 1700000000,
		.save_date = 1700000001};
	struct store_txn *txn;
	bool done;
	struct store_draft *d = temp_draft(message, &done);
	int err;

	assert_true(done);
	a.texts = store_draft_texts(d);
	a.trace = SLICE_LIT("Return-Path: <b@example.com>\r\n");
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_draft_finish(txn, d, &a.blob), 0);
	err = store_message_append(txn, &a, out);
	if (err) {
		store_abort(&txn);
	} else {
		assert_int_equal(store_commit(&txn), 0);
		store_draft_committed(d);
	}
	store_draft_free(&d);
	return err;
}

static inline uint32_t temp_add(struct temp_store *t, uint32_t mailbox, const char *text)
{
	struct store_appended a;

	assert_int_equal(temp_append(t, t->account, mailbox, slice_str(text), 0, &a), 0);
	return a.uid;
}

static inline struct store_mailbox temp_mailbox(struct temp_store *t, uint32_t mailbox)
{
	struct store_txn *txn;
	struct store_mailbox m;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_get(txn, t->account, mailbox, &m), 0);
	store_end_read(&txn);
	return m;
}

/* Adds flags and a keyword to a message. */
static inline void temp_flag(
	struct temp_store *t, uint32_t mailbox, uint32_t uid, uint8_t flags, const char *keyword)
{
	struct store_flag_change c = {.how = STORE_FLAGS_ADD, .flags = flags, .unchanged_since = UINT64_MAX};
	struct slice name = slice_str(keyword);
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_make_keywords(txn, t->account, mailbox, &name, 1, &c.keywords), 0);
	assert_int_equal(store_message_flag(txn, t->account, mailbox, &uid, 1, &c, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static inline void temp_expunge(struct temp_store *t, uint32_t mailbox, uint32_t uid)
{
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_expunge(txn, t->account, mailbox, &uid, 1, true, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

struct temp_uids {
	uint32_t *uids;
	size_t room, count;
};

static void temp_add_run(void *arg, uint32_t from, uint32_t count)
{
	struct temp_uids *u = arg;

	for (uint32_t i = 0; i < count; i++) {
		assert_true(u->count < u->room);
		u->uids[u->count++] = from + i;
	}
}

/* All UIDs of INBOX. */
static inline size_t temp_all(const struct temp_store *t, struct store_txn *txn, uint32_t *uids, size_t room)
{
	struct temp_uids u = {uids, room, 0};
	struct store_mailbox m;

	assert_int_equal(store_mailbox_get(txn, t->account, t->inbox, &m), 0);
	assert_int_equal(store_message_runs(txn, t->inbox, m.uidnext, temp_add_run, &u), 0);
	return u.count;
}

/* Runs the reaper to its end; holds may be NULL. */
static inline void temp_reap(struct temp_store *t, const struct store_holds *holds)
{
	bool done = false;

	while (!done) {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_reap(txn, holds, 50, &done), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
}
