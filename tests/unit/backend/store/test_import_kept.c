/* Deleted messages that can be undeleted go along with their account: the same list, the same times, and they come back as before. */
#include "temp_stream.h"

#include "backend/store/blob.h"
#include "backend/store/store_kept.h"
#include "common/base/clock.h"

#define RETENTION 3600
#define LARGE_SIZE (1500 * 1000)

static void start(struct temp_store *t)
{
	temp_start(t);
	store_set_retention(t->store, RETENTION, 0);
}

static uint32_t add(struct temp_store *t, uint32_t mailbox, const char *name, uint8_t flags)
{
	struct store_appended a;
	char text[100];

	snprintf(text, sizeof(text), "Subject: %s\r\n\r\nThis is %s.\r\n", name, name);
	assert_int_equal(temp_append(t, t->account, mailbox, slice_str(text), flags, &a), 0);
	return a.uid;
}

static uint32_t make(struct temp_store *t, const char *name)
{
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t->account, slice_str(name), STORE_USE_NONE, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	return id;
}

static void delete (struct temp_store *t, uint32_t mailbox)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t->account, mailbox), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/*
 * Kept afterwards: of INBOX one with a flag and a keyword, one whose bytes another mailbox still shows, and a large one; of a deleted
 * mailbox one that was expunged before and two with a keyword; of a name that stays for its child, one; of one under whose name another
 * lives, one. Eight.
 */
static void fill(struct temp_store *t)
{
	uint32_t old = make(t, "Projects/Old"), parent = make(t, "Parent"), again = make(t, "Again"), live,
		 uid;
	char *large = malloc(LARGE_SIZE);
	struct store_appended a;
	struct store_txn *txn;

	make(t, "Parent/Child");
	live = make(t, "Live");
	for (size_t i = 0; i < LARGE_SIZE; i++)
		large[i] = (char)(i * i * 7919 % 251);
	memcpy(large, "A: b\r\n\r\n", 8);
	add(t, t->inbox, "stays", STORE_SEEN);
	uid = add(t, t->inbox, "flagged", STORE_FLAGGED | STORE_DELETED);
	temp_flag(t, t->inbox, uid, 0, "$Work");
	temp_expunge(t, t->inbox, uid);
	uid = add(t, t->inbox, "shared", 0);
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_copy(txn, t->account, t->inbox, &uid, 1, live, false, NULL), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_expunge(t, t->inbox, uid);
	assert_int_equal(temp_append(t, t->account, t->inbox, slice_of(large, LARGE_SIZE), 0, &a), 0);
	temp_expunge(t, t->inbox, a.uid);
	free(large);
	temp_expunge(t, old, add(t, old, "before", 0));
	temp_flag(t, old, add(t, old, "old one", STORE_SEEN), 0, "first");
	temp_flag(t, old, add(t, old, "old two", 0), 0, "second");
	delete (t, old);
	add(t, parent, "parent's", STORE_ANSWERED);
	delete (t, parent);
	add(t, again, "again", 0);
	delete (t, again);
	add(t, make(t, "Again"), "lives", 0);
}

#define KEPT 8
#define MANY 200

static void add_kept(void *arg, const struct store_kept *k)
{
	buf_printf(arg, "%.*s %d %u %lld %llu\n", SLICE_ARG(k->name), k->is_gone, k->uid,
		(long long)k->deleted, (unsigned long long)k->size);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What undelete would find, as lines in the order of their letters: within a second there is no other. */
static void list(struct temp_store *t, uint32_t account, struct buf *out)
{
	struct store_kept_filter all = {0};
	struct store_kept_at at = {0};
	struct store_txn *txn;
	struct buf text = {0};
	char *lines[2 * KEPT], *rest;
	size_t n = 0;
	bool done;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_kept_list(txn, account, &all, &at, 1000, add_kept, &text, &done), 0);
	assert_true(done);
	store_end_read(&txn);
	buf_add_char(&text, '\0');
	for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		lines[n++] = line;
	qsort(lines, n, sizeof(*lines), compare_lines);
	buf_clear(out);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s\n", lines[i]);
	buf_deinit(&text);
}

static struct store_kept_sum sums(struct temp_store *t, uint32_t account)
{
	struct store_kept_sum sum;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_kept_sum(txn, account, &sum), 0);
	store_end_read(&txn);
	return sum;
}

static struct store_undeleted undelete(struct temp_store *t, uint32_t account)
{
	struct store_kept_filter all = {0};
	struct store_undeleted sum = {0};
	struct store_kept_at at = {0};
	bool done = false;

	while (!done) {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_kept_undelete(txn, account, &all, &at, 3, &sum, &done), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
	return sum;
}

static void expire(struct temp_store *t, int64_t now)
{
	struct store_kept_pass pass = {0};

	do {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_kept_expire(txn, NULL, now, 3, &pass), 0);
		assert_int_equal(store_commit(&txn), 0);
	} while (pass.account);
	temp_reap(t, NULL);
}

/* Mailboxes and messages as users see them; not their numbers: what comes back within one second comes in any order. */
static void describe(struct temp_store *t, uint32_t account, struct buf *out)
{
	struct store_mailbox *boxes;
	struct arena arena;
	struct store_txn *txn;
	struct buf text = {0};
	char *lines[40];
	size_t count, n = 0;

	arena_init(&arena, 0);
	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_list(txn, account, &arena, &boxes, &count), 0);
	for (size_t i = 0; i < count; i++) {
		struct store_scan scan;
		struct store_entry e;

		if (boxes[i].noselect)
			continue;
		assert_int_equal(store_scan_begin(&scan, txn, boxes[i].id, 0), 0);
		while (store_scan_next(&scan, &e)) {
			struct store_message m;

			assert_int_equal(store_message_get(txn, boxes[i].id, e.uid, &m), 0);
			buf_clear(&text);
			buf_printf(&text, "%.*s %u %llx %lld %u %.*s", SLICE_ARG(boxes[i].name), e.flags,
				(unsigned long long)e.keywords, (long long)e.date, e.size,
				SLICE_ARG(m.trace));
			assert_true(n < ARRAY_LEN(lines));
			lines[n++] = xmemdup0(buf_view(&text).p, buf_len(&text));
		}
		store_scan_end(&scan);
	}
	store_end_read(&txn);
	qsort(lines, n, sizeof(*lines), compare_lines);
	buf_clear(out);
	for (size_t i = 0; i < n; i++) {
		buf_printf(out, "%s\n", lines[i]);
		free(lines[i]);
	}
	buf_deinit(&text);
	arena_deinit(&arena);
}

static void assert_same(struct buf *a, struct buf *b)
{
	assert_string_equal(buf_str_view(a), buf_str_view(b));
}

static void test_the_same_list_and_they_come_back(void **state)
{
	struct store_import_totals totals = {0};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct buf waiting = {0}, stream = {0}, alice = {0}, bob = {0};
	struct store_undeleted back;
	struct temp_store t;

	(void)state;
	start(&t);
	fill(&t);
	o.store = t.store;
	/* What the reaper has not come to yet is kept as well: the stream is the same before and after it, octet for octet. */
	export_to(&t, t.account, &waiting);
	assert_int_equal(sums(&t, t.account).messages, 0);
	temp_reap(&t, NULL);
	export_to(&t, t.account, &stream);
	assert_int_equal(sums(&t, t.account).messages, KEPT);
	assert_int_equal(buf_len(&waiting), buf_len(&stream));
	assert_memory_equal(waiting.data, stream.data, buf_len(&stream));

	assert_int_equal(import_from(&o, buf_view(&stream), 1000, &totals), 0);
	assert_int_equal(totals.kept, KEPT);
	assert_int_equal(totals.kept_bytes, sums(&t, t.account).bytes);
	assert_int_equal(sums(&t, totals.account).messages, KEPT);
	assert_int_equal(sums(&t, totals.account).bytes, sums(&t, t.account).bytes);
	temp_check(&t);
	list(&t, t.account, &alice);
	list(&t, totals.account, &bob);
	assert_same(&alice, &bob);
	assert_non_null(strstr(buf_str_view(&alice), "Projects/Old 1 3 "));
	assert_non_null(strstr(buf_str_view(&alice), "Parent 1 1 "));
	describe(&t, t.account, &alice);
	describe(&t, totals.account, &bob);
	assert_same(&alice, &bob);

	back = undelete(&t, t.account);
	assert_int_equal(back.messages, KEPT);
	back = undelete(&t, totals.account);
	assert_int_equal(back.messages, KEPT);
	assert_int_equal(back.lost + back.over_quota, 0);
	describe(&t, t.account, &alice);
	describe(&t, totals.account, &bob);
	assert_same(&alice, &bob);
	assert_non_null(strstr(buf_str_view(&bob), "Recovered/Projects/Old 1 1 "));
	assert_int_equal(sums(&t, totals.account).messages, 0);
	temp_reap(&t, NULL);
	buf_deinit(&waiting);
	buf_deinit(&stream);
	buf_deinit(&alice);
	buf_deinit(&bob);
	temp_end(&t);
}

/* In a store of its own, from the stream alone; and gone when their time is over, not before, with all their pages. */
static void test_they_expire_when_they_would_have(void **state)
{
	struct store_import_totals totals = {0};
	struct store_import_options o = {0};
	struct temp_store source, t;
	struct store_stat before, after;
	struct buf stream = {0};
	int64_t first = clock_wall_s(), last;
	struct store_txn *txn;

	(void)state;
	start(&source);
	fill(&source);
	last = clock_wall_s();
	export_to(&source, source.account, &stream);
	start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	o.store = t.store;
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	assert_int_equal(store_stat(t.store, &before), 0);
	expire(&t, first + RETENTION - 1);
	assert_int_equal(sums(&t, totals.account).messages, KEPT);
	expire(&t, last + RETENTION);
	assert_int_equal(sums(&t, totals.account).messages, 0);
	assert_int_equal(store_stat(t.store, &after), 0);
	assert_int_equal(before.blobs - after.blobs, KEPT - 1); /* one is shown elsewhere */
	buf_deinit(&stream);
	temp_end(&source);
	temp_end(&t);
}

/* A stream from a machine whose clock is ahead: nothing is kept for longer than from now on. */
static void set_ahead(uint16_t tag, struct buf *payload)
{
	bytes_put_u32(payload->data + (tag == STREAM_GONE ? 4 : 0), UINT32_MAX);
}

static int edit_stream(struct buf *stream, struct edit *e)
{
	struct source from = {buf_view(stream), 1 << 20};
	struct stream_reader r = {.read = from_slice, .arg = &from};
	struct buf why = {0};
	int err;

	e->w = (struct stream_writer){.write = to_buf, .arg = &e->out};
	assert_int_equal(stream_write_head(&e->w), 0);
	err = stream_read_all(&r, edit_record, e, &why);
	assert_int_equal(stream_write_end(&e->w), 0);
	stream_reader_deinit(&r);
	stream_writer_deinit(&e->w);
	buf_deinit(&why);
	return err;
}

static void test_a_clock_that_was_ahead(void **state)
{
	static const uint16_t tags[] = {STREAM_KEPT, STREAM_GONE};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct temp_store t;
	struct buf stream = {0};

	(void)state;
	start(&t);
	fill(&t);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
		struct edit e = {.tag = tags[i], .change = set_ahead};
		struct store_import_totals totals = {0};
		struct buf lines = {0};
		struct store_txn *txn;

		assert_int_equal(edit_stream(&stream, &e), 0);
		assert_int_equal(import_from(&o, buf_view(&e.out), 1 << 20, &totals), 0);
		list(&t, totals.account, &lines);
		assert_null(strstr(buf_str_view(&lines), "4294967295"));
		expire(&t, clock_wall_s() + RETENTION);
		assert_int_equal(sums(&t, totals.account).messages, 0);
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_account_remove(txn, totals.account), 0);
		assert_int_equal(store_commit(&txn), 0);
		temp_reap(&t, NULL);
		buf_deinit(&lines);
		buf_deinit(&e.out);
	}
	buf_deinit(&stream);
	temp_end(&t);
}

/* ---- while it goes on ---- */

struct feeding {
	struct temp_store *t;
	struct store_import *m;
	unsigned seen;
	bool is_done;
};

/* A look for what has expired falls amid the import, whose own may be over already. */
static int expire_amid(void *arg, uint16_t tag, struct slice payload)
{
	struct feeding *f = arg;

	if (tag == STREAM_KEPT && ++f->seen == MANY / 2) {
		expire(f->t, clock_wall_s() + 2 * RETENTION);
		f->is_done = true;
	}
	return store_import_record(f->m, tag, payload);
}

static void test_a_look_for_the_expired_leaves_an_import_alone(void **state)
{
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct store_import_totals totals;
	struct temp_store t;
	struct feeding f = {.t = &t};
	struct buf stream = {0};
	struct source source;
	struct stream_reader r = {.read = from_slice, .arg = &source};
	struct buf why = {0};
	uint32_t uid;

	(void)state;
	start(&t);
	fill(&t);
	/* Many with one body: each builds on the record of the first. */
	uid = add(&t, t.inbox, "one of many", 0);
	for (uint32_t i = 0; i < MANY; i++) {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(
			store_message_copy(txn, t.account, t.inbox, &uid, 1, t.inbox, false, NULL), 0);
		assert_int_equal(store_commit(&txn), 0);
	}
	for (uint32_t i = 0; i <= MANY; i++)
		temp_expunge(&t, t.inbox, uid + i);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	source = (struct source){buf_view(&stream), 1 << 20};
	f.m = store_import_new(&o);
	assert_int_equal(stream_read_all(&r, expire_amid, &f, &why), 0);
	assert_true(f.is_done);
	assert_int_equal(store_import_finish(f.m, &totals), 0);
	assert_int_equal(sums(&t, totals.account).messages, KEPT + MANY + 1);
	store_import_free(&f.m);
	stream_reader_deinit(&r);
	buf_deinit(&why);
	buf_deinit(&stream);
	temp_end(&t);
}

struct taking {
	struct temp_store *t;
	struct stream_writer w;
	bool undeletes, is_done;
};

static int change_amid(void *arg, uint16_t tag, struct slice payload)
{
	struct taking *x = arg;

	if (tag == STREAM_KEPT_SUM && !x->is_done) {
		x->is_done = true;
		if (x->undeletes)
			assert_int_equal(undelete(x->t, x->t->account).messages, KEPT);
		else
			expire(x->t, clock_wall_s() + 2 * RETENTION);
	}
	return stream_write(&x->w, tag, payload);
}

/* What was undeleted, or expired, since the state was taken is left out; the stream is good. */
static void test_what_changes_during_an_export(void **state)
{
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};

	(void)state;
	for (int undeletes = 0; undeletes < 2; undeletes++) {
		struct temp_store t;
		struct buf stream = {0};
		struct taking x = {.t = &t, .undeletes = undeletes};
		struct store_export_options from = {.record = change_amid, .record_arg = &x};
		struct store_export_totals exported;
		struct store_import_totals totals = {0};

		start(&t);
		fill(&t);
		temp_reap(&t, NULL);
		from.store = o.store = t.store;
		from.account = t.account;
		x.w = (struct stream_writer){.write = to_buf, .arg = &stream};
		assert_int_equal(stream_write_head(&x.w), 0);
		assert_int_equal(store_export(&from, &exported), 0);
		assert_int_equal(stream_write_end(&x.w), 0);
		assert_int_equal(exported.kept, 0);
		assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
		assert_int_equal(totals.kept, 0);
		assert_int_equal(totals.messages, 3);
		temp_reap(&t, NULL);
		stream_writer_deinit(&x.w);
		buf_deinit(&stream);
		temp_end(&t);
	}
}

static void test_stops_after_any_step(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0};
	struct temp_store t;
	int err = ERR_FULL;

	(void)state;
	start(&t);
	fill(&t);
	for (int i = 0; i < 200; i++)
		temp_expunge(&t, t.inbox, add(&t, t.inbox, "one of many", 0));
	export_to(&t, t.account, &stream);
	for (int steps = 0; err; steps++) {
		struct stop stop = {t.store, steps};
		struct store_import_options o = {.store = t.store,
			.address = SLICE_LIT("bob@example.com"),
			.write = stop_after,
			.write_arg = &stop};
		struct store_stat stat;

		assert_true(steps < 100);
		err = import_from(&o, buf_view(&stream), 1 << 20, &totals);
		temp_check(&t);
		store_close(&t.store);
		temp_open(&t, 256 << 20);
		store_set_retention(t.store, RETENTION, 0);
		temp_reap(&t, NULL);
		temp_check(&t);
		assert_int_equal(store_stat(t.store, &stat), 0);
		/* Nothing of one that stopped. */
		assert_int_equal(stat.kept, (KEPT + 200) * (err ? 1 : 2));
		assert_int_equal(stat.intents, 0);
	}
	buf_deinit(&stream);
	temp_end(&t);
}

/* ---- out of a backup ---- */

/* Bodies "in a backup": those of the store itself. */
static int keep(void *arg, struct store_txn *txn, uint64_t blob, uint64_t *body_out, uint64_t *sum_out)
{
	struct store_blob_info info;

	(void)arg;
	assert_int_equal(store_blob_info(txn, blob, &info), 0);
	*body_out = blob;
	*sum_out = 1;
	return 0;
}

struct opening {
	struct temp_store *t;
	struct buf body;
	unsigned opened;
};

static int open_body(void *arg, uint64_t body, uint64_t size, uint64_t sum, struct store_source *source_out)
{
	struct opening *x = arg;
	struct store_txn *txn;
	size_t n;

	assert_int_equal(sum, 1);
	x->opened++;
	buf_clear(&x->body);
	assert_int_equal(store_begin_read(x->t->store, 0, &txn), 0);
	assert_int_equal(blob_read(txn, body, 0, buf_reserve(&x->body, size + 1), size, &n), 0);
	store_end_read(&txn);
	assert_int_equal(n, size);
	buf_added(&x->body, size);
	*source_out = (struct store_source){.memory = buf_view(&x->body), .size = size};
	return 0;
}

static void backup_to(struct temp_store *t, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};
	struct store_export_options o = {.store = t->store,
		.account = t->account,
		.record = stream_write,
		.record_arg = &w,
		.keep = keep};
	struct store_export_totals totals;

	assert_int_equal(stream_write_head(&w), 0);
	assert_int_equal(store_export(&o, &totals), 0);
	assert_int_equal(totals.kept, KEPT);
	assert_int_equal(stream_write_end(&w), 0);
	stream_writer_deinit(&w);
}

/* With the time of their deletion as it was: what was over before the restore is left out, its body not even read. */
static void test_restored_from_a_backup(void **state)
{
	struct temp_store t;
	struct opening x = {.t = &t};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com"),
		.is_restore = true,
		.kept = open_body,
		.kept_arg = &x};
	struct store_import_totals totals = {0};
	struct buf stream = {0}, alice = {0}, bob = {0};
	unsigned opened;

	(void)state;
	start(&t);
	fill(&t);
	o.store = t.store;
	backup_to(&t, &stream);
	temp_reap(&t, NULL);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	opened = x.opened;
	assert_int_equal(totals.kept, KEPT);
	list(&t, t.account, &alice);
	list(&t, totals.account, &bob);
	assert_same(&alice, &bob);
	temp_check(&t);
	assert_int_equal(undelete(&t, totals.account).messages, KEPT);
	temp_check(&t);
	store_set_retention(t.store, 0, 0);
	x.opened = 0;
	o.address = SLICE_LIT("carol@example.com");
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	assert_int_equal(totals.kept, 0);
	assert_int_equal(totals.messages, 3);
	assert_int_equal(opened - x.opened, KEPT - 1); /* one is a live one's, too */
	buf_deinit(&x.body);
	buf_deinit(&stream);
	buf_deinit(&alice);
	buf_deinit(&bob);
	temp_end(&t);
}

/* ---- hostile streams ---- */

#define EDIT_KEPT(name, what)                                                                                \
	static void name(uint16_t tag, struct buf *payload)                                                  \
	{                                                                                                    \
		struct transfer_kept k;                                                                      \
		struct transfer_message *m = &k.message;                                                     \
		char *old = xmemdup0(buf_view(payload).p, buf_len(payload));                                 \
                                                                                                             \
		(void)tag;                                                                                   \
		assert_int_equal(transfer_unpack_kept(slice_of(old, buf_len(payload)), &k), 0);              \
		what;                                                                                        \
		buf_clear(payload);                                                                          \
		transfer_pack_kept(&k, payload);                                                             \
		free(old);                                                                                   \
	}
EDIT_KEPT(time_0, (m->uidl = m->uidl, k.time = 0))
EDIT_KEPT(uid_of_a_live_one, m->entry.uid = 1)
EDIT_KEPT(uid_again, m->entry.uid = 2)
EDIT_KEPT(uid_beyond, m->entry.uid = 99)
EDIT_KEPT(uid_last, m->entry.uid = UINT32_MAX)
EDIT_KEPT(mailbox_0, m->mailbox = 0)
EDIT_KEPT(mailbox_none, m->mailbox = 99)
EDIT_KEPT(mailbox_back, m->mailbox = 1)
EDIT_KEPT(modseq_beyond, m->entry.modseq = 10000)
EDIT_KEPT(keyword_beyond, m->entry.keywords = 4)
EDIT_KEPT(email_beyond, m->email = 10000)
EDIT_KEPT(longer_body, (m->body_size++, m->entry.size++))
EDIT_KEPT(shorter_body, (m->body_size--, m->entry.size--))
EDIT_KEPT(same_of_none, m->body_kind = TRANSFER_SAME)
EDIT_KEPT(kept_nowhere, m->body_kind = TRANSFER_KEPT)

#define EDIT_GONE(name_, what)                                                                               \
	static void name_(uint16_t tag, struct buf *payload)                                                 \
	{                                                                                                    \
		struct transfer_gone g;                                                                      \
		char *old = xmemdup0(buf_view(payload).p, buf_len(payload));                                 \
                                                                                                             \
		(void)tag;                                                                                   \
		assert_int_equal(transfer_unpack_gone(slice_of(old, buf_len(payload)), &g), 0);              \
		what;                                                                                        \
		buf_clear(payload);                                                                          \
		transfer_pack_gone(&g, payload);                                                             \
		free(old);                                                                                   \
	}
EDIT_GONE(number_again, g.number--)
EDIT_GONE(number_beyond, g.number++)
EDIT_GONE(name_control, g.folder.name = SLICE_LIT("a\nb"))
EDIT_GONE(name_utf8, g.folder.name = SLICE_LIT("a\xff"))
EDIT_GONE(name_empty, g.folder.name = SLICE_LIT(""))
EDIT_GONE(name_noselect, g.folder.noselect = true)
EDIT_GONE(keyword_space, (g.folder.keywords.count = 1, g.folder.keywords.names[0] = SLICE_LIT("a b")))

static void sum_0(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u64(payload->data, 0);
}

static void sum_fewer(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u64(payload->data, KEPT - 1);
}

static void sum_more_than_may_be(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u64(payload->data, STORE_EXPORT_KEPT_MAX + 1);
}

static void sum_less(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u64(payload->data + 8, bytes_get_u64(payload->data + 8) - 1);
}

static void cut(uint16_t tag, struct buf *payload)
{
	(void)tag;
	buf_cut(payload, buf_len(payload) - 1);
}

static void test_security_hostile_records(void **state)
{
	static const struct {
		uint16_t tag;
		unsigned which;
		void (*change)(uint16_t tag, struct buf *payload);
	} rows[] = {
		{STREAM_KEPT, 0, time_0},
		{STREAM_KEPT, 0, uid_of_a_live_one},
		{STREAM_KEPT, 1, uid_again},
		{STREAM_KEPT, 2, uid_beyond},
		{STREAM_KEPT, KEPT - 1, uid_last},
		{STREAM_KEPT, 0, mailbox_0},
		{STREAM_KEPT, 0, mailbox_none},
		{STREAM_KEPT, KEPT - 1, mailbox_back},
		{STREAM_KEPT, 0, modseq_beyond},
		{STREAM_KEPT, 0, keyword_beyond},
		{STREAM_KEPT, 5, keyword_beyond},
		{STREAM_KEPT, 0, email_beyond},
		{STREAM_KEPT, 0, longer_body},
		{STREAM_KEPT, 0, shorter_body},
		{STREAM_KEPT, 0, same_of_none},
		{STREAM_KEPT, 0, kept_nowhere},
		{STREAM_KEPT, 0, cut},
		{STREAM_GONE, 0, number_again},
		{STREAM_GONE, 0, number_beyond},
		{STREAM_GONE, 0, name_control},
		{STREAM_GONE, 0, name_utf8},
		{STREAM_GONE, 0, name_empty},
		{STREAM_GONE, 0, name_noselect},
		{STREAM_GONE, 0, keyword_space},
		{STREAM_GONE, 0, cut},
		{STREAM_KEPT_SUM, 0, sum_0},
		{STREAM_KEPT_SUM, 0, sum_fewer},
		{STREAM_KEPT_SUM, 0, sum_more_than_may_be},
		{STREAM_KEPT_SUM, 0, sum_less},
		{STREAM_KEPT_SUM, 0, cut},
	};
	struct store_import_totals totals = {0};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct buf stream = {0};
	struct store_stat stat;
	struct temp_store t;

	(void)state;
	start(&t);
	fill(&t);
	temp_reap(&t, NULL);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct edit e = {.tag = rows[i].tag, .which = rows[i].which, .change = rows[i].change};
		int err;

		assert_int_equal(edit_stream(&stream, &e), 0);
		assert_true(e.seen > e.which);
		err = import_from(&o, buf_view(&e.out), 1 << 20, &totals);
		if (!err)
			print_error("row %zu was taken\n", i);
		assert_true(err < 0);
		buf_deinit(&e.out);
	}
	assert_int_equal(store_count_accounts(t.store), 1);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(store_stat(t.store, &stat), 0);
	assert_int_equal(stat.kept, KEPT);
	assert_int_equal(stat.intents, 0);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	assert_int_equal(totals.kept, KEPT);
	buf_deinit(&stream);
	temp_end(&t);
}

static void write_unknown(uint16_t tag, struct buf *out)
{
	struct stream_writer w = {.write = to_buf, .arg = out};

	assert_int_equal(stream_write_head(&w), 0);
	assert_int_equal(stream_write(&w, tag, SLICE_LIT("what later programs write")), 0);
	assert_int_equal(stream_write_end(&w), 0);
	stream_writer_deinit(&w);
}

static int take_nothing(void *arg, uint16_t tag, struct slice payload)
{
	(void)arg;
	(void)tag;
	(void)payload;
	return 0;
}

/* As a program that does not know kept messages meets them: it says so, with the place. */
static void test_a_kind_that_is_not_known(void **state)
{
	static const struct {
		uint16_t tag;
		int want;
	} rows[] = {{STREAM_LAST + 1, ERR_UNSUPPORTED}, {STREAM_OPTIONAL | (STREAM_LAST + 1), 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf stream = {0}, why = {0};
		struct source source;
		struct stream_reader r = {.read = from_slice, .arg = &source};

		write_unknown(rows[i].tag, &stream);
		source = (struct source){buf_view(&stream), 1 << 20};
		assert_int_equal(stream_read_all(&r, take_nothing, NULL, &why), rows[i].want);
		if (rows[i].want)
			assert_string_equal(buf_str_view(&why), "the stream has a record of kind 15 at byte "
								"24, which this program does not know");
		stream_reader_deinit(&r);
		buf_deinit(&stream);
		buf_deinit(&why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_list_and_they_come_back),
		cmocka_unit_test(test_they_expire_when_they_would_have),
		cmocka_unit_test(test_a_clock_that_was_ahead),
		cmocka_unit_test(test_a_look_for_the_expired_leaves_an_import_alone),
		cmocka_unit_test(test_what_changes_during_an_export),
		cmocka_unit_test(test_stops_after_any_step),
		cmocka_unit_test(test_restored_from_a_backup),
		cmocka_unit_test(test_security_hostile_records),
		cmocka_unit_test(test_a_kind_that_is_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
