/* An account goes out as a stream and comes in again as it was; what is wrong in a stream leaves nothing behind. */
#include "temp_stream.h"

#include "backend/store/change.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_metadata.h"
#include "backend/store/store_quota.h"

#define SMALL "From: a@example.com\r\nSubject: s\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"

static uint32_t make_mailbox(struct temp_store *t, const char *name)
{
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t->account, slice_str(name), STORE_USE_NONE, &id), 0);
	assert_int_equal(store_mailbox_subscribe(txn, t->account, SLICE_LIT("Not there"), true), 0);
	assert_int_equal(store_commit(&txn), 0);
	return id;
}

/* One who is not the owner. */
static void see(struct temp_store *t, uint32_t mailbox, uint32_t uid, uint32_t account)
{
	struct store_who who = {0, account};
	struct store_flag_change c = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX, .who = &who};
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t->account, mailbox, &uid, 1, &c, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* Mailboxes, a name only, messages small and large, shared bodies, flags, keywords, expunged ones, an alias. */
static void fill(struct temp_store *t)
{
	size_t large = 700 * 1000;
	uint32_t carol = temp_account(t, "carol@example.com");
	char *text = malloc(large);
	struct store_appended a;
	struct store_txn *txn;
	uint32_t lists = make_mailbox(t, "Lists/C/ﬂags"), uid;

	for (size_t i = 0; i < large; i++)
		text[i] = (char)(i * 7919 % 251);
	memcpy(text, SMALL, sizeof(SMALL) - 1);
	uid = temp_add(t, t->inbox, SMALL);
	temp_flag(t, t->inbox, uid, STORE_SEEN, "$Label1");
	assert_int_equal(temp_append(t, t->account, lists, slice_of(text, large), STORE_FLAGGED, &a), 0);
	uid = temp_add(t, t->inbox, "\r\n");
	temp_expunge(t, t->inbox, uid);
	temp_add(t, t->inbox, "");
	uid = 1;
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_copy(txn, t->account, lists, &uid, 1, t->inbox, false, NULL), 0);
	assert_int_equal(store_message_copy(txn, t->account, lists, &uid, 1, lists, false, NULL), 0);
	assert_int_equal(store_account_add_alias(txn, t->account, SLICE_LIT("ali@example.com")), 0);
	assert_int_equal(store_metadata_set(txn, t->account, lists, STORE_METADATA_SHARED,
				 SLICE_LIT("/comment"), SLICE_LIT("a\0b"), NULL),
		0);
	assert_int_equal(store_metadata_set(txn, t->account, t->inbox, store_metadata_user(0, t->account),
				 SLICE_LIT("/comment"), SLICE_LIT(""), NULL),
		0);
	assert_int_equal(store_metadata_set(txn, t->account, 0, STORE_METADATA_SHARED, SLICE_LIT("/admin"),
				 SLICE_LIT("x"), NULL),
		0);
	assert_int_equal(store_metadata_set(txn, t->account, t->inbox, store_metadata_user(0, 999),
				 SLICE_LIT("/comment"), SLICE_LIT("gone"), NULL),
		0);
	assert_int_equal(store_acl_set(txn, t->account, lists,
				 &(struct store_acl_entry){{0, carol}, STORE_RIGHT_READ | STORE_RIGHT_LOOKUP,
					 STORE_RIGHT_ADMIN}),
		0);
	assert_int_equal(store_acl_set(txn, t->account, lists,
				 &(struct store_acl_entry){{0, 0}, STORE_RIGHT_LOOKUP, 0}),
		0);
	assert_int_equal(
		store_quota_set(txn, t->account, lists,
			&(struct store_quota){
				.bytes_limit = 5 << 20, .count_limit = 1000, .folder_count_limit = 900}),
		0);
	assert_int_equal(
		store_quota_set(txn, t->account, 0, &(struct store_quota){.mailboxes_limit = 70}), 0);
	assert_int_equal(store_commit(&txn), 0);
	for (int i = 0; i < 300; i++)
		temp_add(t, lists, SMALL);
	see(t, lists, 2, carol);
	see(t, lists, 290, carol);
	see(t, lists, 290, 999); /* nobody */
	free(text);
}

/* Everything a client could see of an account, but numbers of mailboxes and blobs. */
static int describe(void *arg, uint16_t tag, struct slice payload)
{
	struct transfer_account a;
	struct transfer_message m;

	if (tag == STREAM_ACCOUNT) {
		assert_int_equal(transfer_unpack_account(payload, &a), 0);
		buf_printf(arg, "account %llu %llu %u %u %llu %llu %.*s\n", (unsigned long long)a.modseq,
			(unsigned long long)a.change_low, a.uidvalidity, a.mailboxes,
			(unsigned long long)a.messages, (unsigned long long)a.bytes,
			SLICE_ARG(a.record.password));
	} else if (tag == STREAM_MESSAGE) {
		assert_int_equal(transfer_unpack_message(payload, &m), 0);
		m.body = 0;
		transfer_pack_message(&m, arg);
	} else {
		buf_printf(arg, "%u ", tag);
		buf_add_slice(arg, payload);
	}
	return 0;
}

static void describe_account(struct temp_store *t, uint32_t account, struct buf *out)
{
	struct store_export_options o = {
		.store = t->store, .account = account, .record = describe, .record_arg = out};
	struct store_export_totals totals;

	assert_int_equal(store_export(&o, &totals), 0);
}

static void test_comes_back_as_it_was(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0}, before = {0}, after = {0};
	struct store_import_options o = {.address = SLICE_LIT("Bob@example.com")};
	struct temp_store t;
	struct store_changes changes;
	struct store_account found;
	struct store_txn *txn;
	struct arena arena;
	struct store_mailbox inbox, lists;
	struct store_quota quota;

	(void)state;
	temp_start(&t);
	fill(&t);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	assert_int_equal(import_from(&o, buf_view(&stream), 1000, &totals), 0);
	assert_string_equal(totals.address, "bob@example.com");
	assert_int_equal(totals.messages, 305);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("bob@example.com"), &found), 0);
	assert_int_equal(found.id, totals.account);
	assert_int_equal(found.count_used, 305);
	describe_account(&t, t.account, &before);
	describe_account(&t, totals.account, &after);
	/* The alias stays with the first. */
	buf_take(&after, 0);
	assert_true(buf_len(&before) - buf_len(&after) == 2 + sizeof("ali@example.com") - 1);
	/* Once more, from the copy and with all of its names: the same. */
	temp_check(&t);
	arena_init(&arena, 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, totals.account, SLICE_LIT("INBOX"), &inbox), 0);
	assert_int_equal(inbox.uidnext, 5);
	assert_int_equal(store_mailbox_find(txn, totals.account, SLICE_LIT("Lists/C/ﬂags"), &lists), 0);
	assert_int_equal(store_quota_get(txn, totals.account, lists.id, &quota), 0);
	assert_int_equal(quota.count_limit, 1000);
	assert_int_equal(quota.folder_count_limit, 900);
	assert_int_equal(quota.count_used, lists.messages);
	assert_int_equal(quota.bytes_used, lists.size);
	assert_int_equal(store_message_changes(txn, totals.account, inbox.id, 1, &arena, &changes), 0);
	assert_false(changes.incomplete);
	assert_int_equal(changes.expunged_count, 1);
	assert_int_equal(changes.expunged[0], 2);
	store_end_read(&txn);
	arena_deinit(&arena);
	buf_deinit(&stream);
	buf_deinit(&before);
	buf_deinit(&after);
	temp_end(&t);
}

struct feeding {
	struct temp_store *t;
	struct store_import *m;
	bool is_forgotten;
};

/* Carol goes when everything of the copy is there but its changes. */
static int forget_amid(void *arg, uint16_t tag, struct slice payload)
{
	struct feeding *f = arg;
	struct temp_store *t = f->t;
	struct store_account carol;
	struct store_acl_at at = {0};
	struct store_txn *txn;
	bool is_done = false;

	if (tag == STREAM_CHANGE && !f->is_forgotten) {
		assert_int_equal(store_find_account(t->store, SLICE_LIT("carol@example.com"), &carol), 0);
		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_account_remove(txn, carol.id), 0);
		while (!is_done)
			assert_int_equal(
				store_acl_forget(txn, (struct store_who){0, carol.id}, 100, &at, &is_done),
				0);
		assert_int_equal(store_acl_forgotten(txn, carol.id), 0);
		assert_int_equal(store_commit(&txn), 0);
		f->is_forgotten = true;
	}
	return store_import_record(f->m, tag, payload);
}

static void test_one_whom_it_names_goes_meanwhile(void **state)
{
	struct store_import_totals totals;
	struct temp_store t;
	struct buf stream = {0}, why = {0};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct feeding f = {.t = &t};
	struct source source;
	struct stream_reader r = {.read = from_slice, .arg = &source};

	(void)state;
	temp_start(&t);
	fill(&t);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	source = (struct source){buf_view(&stream), 1000};
	f.m = store_import_new(&o);
	assert_int_equal(stream_read_all(&r, forget_amid, &f, &why), 0);
	assert_true(f.is_forgotten);
	assert_int_equal(store_import_finish(f.m, &totals), 0);
	store_import_free(&f.m);
	stream_reader_deinit(&r);
	temp_check(&t); /* the log too */
	buf_deinit(&why);
	buf_deinit(&stream);
	temp_end(&t);
}

/* As if the account had been removed, and one made under its address at another time. */
static void make_another(struct temp_store *t, const char *address)
{
	struct store_account found;
	struct account_record r;
	struct store_txn *txn;
	struct buf packed = {0};
	struct slice value;
	struct db_key key;

	assert_int_equal(store_find_account(t->store, slice_str(address), &found), 0);
	assert_true(found.created > 0);
	key = db_key_u32(found.id);
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(db_get(txn, DB_ACCOUNTS, db_key_view(&key), &value), 0);
	assert_int_equal(record_unpack_account(value, &r), 0);
	r.created++;
	record_pack_account(&r, &packed);
	assert_int_equal(db_put(txn, DB_ACCOUNTS, db_key_view(&key), buf_view(&packed)), 0);
	assert_int_equal(store_commit(&txn), 0);
	store_close(&t->store);
	temp_open(t, 256 << 20);
	buf_deinit(&packed);
}

static size_t entries_of(struct temp_store *t, uint32_t account, struct store_acl_entry *entries)
{
	struct store_mailbox lists;
	struct store_txn *txn;
	size_t count;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, account, SLICE_LIT("Lists/C/ﬂags"), &lists), 0);
	assert_int_equal(store_acl_get(txn, account, lists.id, entries, &count), 0);
	store_end_read(&txn);
	return count;
}

static void test_who_has_an_address_now_inherits_nothing(void **state)
{
	static const char *const others[] = {"bob@example.com", "dan@example.com"};
	static struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct transfer_person person = {.address = SLICE_LIT("carol@example.com")};
	struct store_import_totals totals = {0};
	struct store_account found;
	struct buf stream = {0};
	struct temp_store t;

	(void)state;
	temp_start(&t);
	fill(&t);
	export_to(&t, t.account, &stream);
	for (size_t i = 0; i < 2; i++) {
		struct store_import_options o = {.store = t.store, .address = slice_str(others[i])};
		struct buf seen = {0};

		assert_int_equal(import_from(&o, buf_view(&stream), 1000, &totals), 0);
		/* Carol and anyone; then anyone alone. */
		assert_int_equal(entries_of(&t, totals.account, entries), 2 - i);
		describe_account(&t, totals.account, &seen);
		assert_int_equal(memmem(buf_view(&seen).p, buf_len(&seen), "carol", 5) != NULL, i == 0);
		buf_deinit(&seen);
		if (i == 0)
			make_another(&t, "carol@example.com");
	}
	assert_int_equal(store_find_account(t.store, person.address, &found), 0);
	person.created = found.created;
	assert_int_equal(transfer_find_person(t.store, &person, &found), 0);
	person.created--;
	assert_int_equal(transfer_find_person(t.store, &person, &found), ERR_NOT_FOUND);
	person.created = 0; /* a stream of an older program */
	assert_int_equal(transfer_find_person(t.store, &person, &found), 0);
	buf_deinit(&stream);
	temp_end(&t);
}

static void test_exists_and_replaces(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0}, before = {0}, after = {0};
	struct store_import_options o = {0};
	struct store_account found;
	struct temp_store t;

	(void)state;
	temp_start(&t);
	fill(&t);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	describe_account(&t, t.account, &before);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), ERR_EXISTS);
	o.replaces = true;
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("alice@example.com"), &found), 0);
	assert_int_equal(found.id, totals.account);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("ali@example.com"), &found), 0);
	assert_int_equal(found.id, totals.account);
	assert_int_equal(store_count_accounts(t.store), 2);
	describe_account(&t, totals.account, &after);
	assert_int_equal(buf_len(&before), buf_len(&after));
	assert_memory_equal(buf_view(&before).p, buf_view(&after).p, buf_len(&before));
	temp_reap(&t, NULL);
	temp_check(&t);
	store_close(&t.store);
	temp_open(&t, 256 << 20);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("ali@example.com"), &found), 0);
	buf_deinit(&stream);
	buf_deinit(&before);
	buf_deinit(&after);
	temp_end(&t);
}

static void test_restore_goes_on_above(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com"), .is_restore = true};
	struct temp_store t;
	struct store_txn *txn;
	struct store_mailbox old, new;
	struct store_account_record r;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	fill(&t);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_account_get(txn, t.account, &r), 0);
	modseq = r.modseq;
	assert_int_equal(store_account_get(txn, totals.account, &r), 0);
	assert_true(r.modseq > modseq);
	assert_int_equal(store_mailbox_find(txn, t.account, SLICE_LIT("Lists/C/ﬂags"), &old), 0);
	assert_int_equal(store_mailbox_find(txn, totals.account, SLICE_LIT("Lists/C/ﬂags"), &new), 0);
	assert_true(new.uidvalidity > old.uidvalidity);
	assert_true(new.modseq > modseq);
	assert_int_equal(new.messages, old.messages);
	store_end_read(&txn);
	buf_deinit(&stream);
	temp_end(&t);
}

/* Security class: an operator's file is hostile. Cut anywhere, one byte changed anywhere: refused, and nothing is left. */
static void test_security_damaged_streams(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0};
	struct store_import_options o = {.address = SLICE_LIT("bob@example.com")};
	struct temp_store t;
	struct store_stat stat;
	char *copy;
	size_t len;

	(void)state;
	temp_start(&t);
	temp_add(&t, t.inbox, SMALL);
	temp_add(&t, t.inbox, SMALL);
	o.store = t.store;
	export_to(&t, t.account, &stream);
	len = buf_len(&stream);
	copy = xmemdup0(buf_view(&stream).p, len);
	for (size_t i = 0; i < len; i += i < 200 || i > len - 80 ? 1 : 37) {
		assert_true(import_from(&o, slice_of(copy, i), 1 << 20, &totals) < 0);
		copy[i] ^= 0x20;
		assert_true(import_from(&o, slice_of(copy, len), 1 << 20, &totals) < 0);
		copy[i] ^= 0x20;
	}
	assert_int_equal(store_count_accounts(t.store), 1);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(store_stat(t.store, &stat), 0);
	assert_int_equal(stat.blobs, 2);
	assert_int_equal(stat.intents, 0);
	assert_int_equal(stat.mailboxes, 6);
	free(copy);
	buf_deinit(&stream);
	temp_end(&t);
}

#define EDIT_MESSAGE(name, what)                                                                             \
	static void name(uint16_t tag, struct buf *payload)                                                  \
	{                                                                                                    \
		struct transfer_message m;                                                                   \
		char *old = xmemdup0(buf_view(payload).p, buf_len(payload));                                 \
                                                                                                             \
		(void)tag;                                                                                   \
		assert_int_equal(transfer_unpack_message(slice_of(old, buf_len(payload)), &m), 0);           \
		what;                                                                                        \
		buf_clear(payload);                                                                          \
		transfer_pack_message(&m, payload);                                                          \
		free(old);                                                                                   \
	}
EDIT_MESSAGE(uid_again, m.entry.uid = 1)
EDIT_MESSAGE(uid_beyond, m.entry.uid = 99)
EDIT_MESSAGE(modseq_beyond, m.entry.modseq = 1000)
EDIT_MESSAGE(keyword_beyond, m.entry.keywords = 2)
EDIT_MESSAGE(flags_beyond, m.entry.flags = 32)
EDIT_MESSAGE(no_mailbox, m.mailbox = 7)
EDIT_MESSAGE(mailbox_0, m.mailbox = 0)
EDIT_MESSAGE(size_wrong, m.entry.size++)
EDIT_MESSAGE(longer_body, (m.body_size++, m.entry.size++))
EDIT_MESSAGE(shorter_body, (m.body_size--, m.entry.size--))
EDIT_MESSAGE(same_of_none, m.body_kind = TRANSFER_SAME)
EDIT_MESSAGE(kept_nowhere, m.body_kind = TRANSFER_KEPT)
EDIT_MESSAGE(email_beyond, m.email = 1000)
EDIT_MESSAGE(email_none, m.email = 0)
EDIT_MESSAGE(uidl_space, m.uidl = SLICE_LIT("a b"))
EDIT_MESSAGE(trace_open, (m.entry.size -= (uint32_t)m.trace.len - 3, m.trace = SLICE_LIT("X:a")))
EDIT_MESSAGE(date_beyond, m.entry.date = INT64_MAX)

#define EDIT_MAILBOX(name, what)                                                                             \
	static void name(uint16_t tag, struct buf *payload)                                                  \
	{                                                                                                    \
		struct transfer_mailbox m;                                                                   \
		char *old = xmemdup0(buf_view(payload).p, buf_len(payload));                                 \
                                                                                                             \
		(void)tag;                                                                                   \
		assert_int_equal(transfer_unpack_mailbox(slice_of(old, buf_len(payload)), &m), 0);           \
		what;                                                                                        \
		buf_clear(payload);                                                                          \
		transfer_pack_mailbox(&m, payload);                                                          \
		free(old);                                                                                   \
	}
EDIT_MAILBOX(name_twice, m.folder.name = SLICE_LIT("INBOX"))
EDIT_MAILBOX(name_control, m.folder.name = SLICE_LIT("a\nb"))
EDIT_MAILBOX(name_utf8, m.folder.name = SLICE_LIT("a\xff"))
EDIT_MAILBOX(name_orphan, m.folder.name = SLICE_LIT("x/y"))
EDIT_MAILBOX(name_empty, m.folder.name = SLICE_LIT(""))
EDIT_MAILBOX(inbox_gone, m.folder.name = SLICE_LIT("Inbux"))
EDIT_MAILBOX(number_wrong, m.number = 9)
EDIT_MAILBOX(uidvalidity_0, m.state.uidvalidity = 0)
EDIT_MAILBOX(uidvalidity_beyond, m.state.uidvalidity = UINT32_MAX)
EDIT_MAILBOX(uidvalidity_twice, m.state.uidvalidity--)
EDIT_MAILBOX(uidnext_0, m.state.uidnext = 0)
EDIT_MAILBOX(box_modseq, m.state.modseq = 1000)
EDIT_MAILBOX(more_messages, m.state.messages++)
EDIT_MAILBOX(other_size, m.state.size++)
EDIT_MAILBOX(keyword_twice, (m.folder.keywords.count = 2, m.folder.keywords.names[0] = SLICE_LIT("a"),
				    m.folder.keywords.names[1] = SLICE_LIT("A")))
EDIT_MAILBOX(keyword_space, (m.folder.keywords.count = 1, m.folder.keywords.names[0] = SLICE_LIT("a b")))

static void cut_payload(uint16_t tag, struct buf *payload)
{
	(void)tag;
	buf_cut(payload, buf_len(payload) - 1);
}

static void alias_wrong(uint16_t tag, struct buf *payload)
{
	(void)tag;
	buf_clear(payload);
	buf_add_str(payload, "alice@example.com");
}

#define EDIT_METADATA(name_, what)                                                                           \
	static void name_(uint16_t tag, struct buf *payload)                                                 \
	{                                                                                                    \
		struct transfer_metadata m;                                                                  \
		char *old = xmemdup0(buf_view(payload).p, buf_len(payload));                                 \
                                                                                                             \
		(void)tag;                                                                                   \
		assert_int_equal(transfer_unpack_metadata(slice_of(old, buf_len(payload)), &m), 0);          \
		what;                                                                                        \
		buf_clear(payload);                                                                          \
		transfer_pack_metadata(&m, payload);                                                         \
		free(old);                                                                                   \
	}
static const char long_value[STORE_METADATA_VALUE_MAX + 1];
EDIT_METADATA(entry_upper, m.name = SLICE_LIT("/Comment"))
EDIT_METADATA(entry_nowhere, m.mailbox = 99)
EDIT_METADATA(entry_long, m.value = slice_of(long_value, sizeof(long_value)))

static void acl_rights(uint16_t tag, struct buf *payload)
{
	struct transfer_acl a = {1, 0xffff, 0, {SLICE_LIT("x@example.com"), 0}};

	(void)tag;
	buf_clear(payload);
	transfer_pack_acl(&a, payload);
}

static void acl_nowhere(uint16_t tag, struct buf *payload)
{
	struct transfer_acl a = {99, STORE_RIGHT_READ, 0, {SLICE_LIT("x@example.com"), 0}};

	(void)tag;
	buf_clear(payload);
	transfer_pack_acl(&a, payload);
}

/* A MODSEQ that the account has not reached. */
static void seen_late(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u64(payload->data + buf_len(payload) - 8, UINT64_C(1) << 40);
}

static void seen_beyond(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u32(payload->data + 4, 1000);
}

static void seen_nowhere(uint16_t tag, struct buf *payload)
{
	(void)tag;
	bytes_put_u32(payload->data, 99);
}

static void change_gap(uint16_t tag, struct buf *payload)
{
	struct transfer_change c;
	char *old = xmemdup0(buf_view(payload).p, buf_len(payload));

	(void)tag;
	assert_int_equal(transfer_unpack_change(slice_of(old, buf_len(payload)), &c), 0);
	c.modseq++;
	buf_clear(payload);
	transfer_pack_change(&c, payload);
	free(old);
}

static void test_security_hostile_records(void **state)
{
	static const struct {
		uint16_t tag;
		unsigned which;
		void (*change)(uint16_t tag, struct buf *payload);
	} rows[] = {
		{STREAM_MESSAGE, 1, uid_again},
		{STREAM_MESSAGE, 1, uid_beyond},
		{STREAM_MESSAGE, 0, modseq_beyond},
		{STREAM_MESSAGE, 0, keyword_beyond},
		{STREAM_MESSAGE, 0, flags_beyond},
		{STREAM_MESSAGE, 0, no_mailbox},
		{STREAM_MESSAGE, 0, mailbox_0},
		{STREAM_MESSAGE, 0, size_wrong},
		{STREAM_MESSAGE, 0, longer_body},
		{STREAM_MESSAGE, 0, shorter_body},
		{STREAM_MESSAGE, 0, same_of_none},
		{STREAM_MESSAGE, 0, kept_nowhere},
		{STREAM_MESSAGE, 0, email_beyond},
		{STREAM_MESSAGE, 0, email_none},
		{STREAM_MESSAGE, 0, uidl_space},
		{STREAM_MESSAGE, 0, trace_open},
		{STREAM_MESSAGE, 0, date_beyond},
		{STREAM_MESSAGE, 0, cut_payload},
		{STREAM_MAILBOX, 1, name_twice},
		{STREAM_MAILBOX, 1, name_control},
		{STREAM_MAILBOX, 1, name_utf8},
		{STREAM_MAILBOX, 1, name_orphan},
		{STREAM_MAILBOX, 1, name_empty},
		{STREAM_MAILBOX, 0, inbox_gone},
		{STREAM_MAILBOX, 0, number_wrong},
		{STREAM_MAILBOX, 0, uidvalidity_0},
		{STREAM_MAILBOX, 0, uidvalidity_beyond},
		{STREAM_MAILBOX, 2, uidvalidity_twice},
		{STREAM_MAILBOX, 0, uidnext_0},
		{STREAM_MAILBOX, 0, box_modseq},
		{STREAM_MAILBOX, 0, more_messages},
		{STREAM_MAILBOX, 0, other_size},
		{STREAM_MAILBOX, 0, keyword_twice},
		{STREAM_MAILBOX, 0, keyword_space},
		{STREAM_MAILBOX, 0, cut_payload},
		{STREAM_ALIAS, 0, alias_wrong},
		{STREAM_METADATA, 0, entry_upper},
		{STREAM_METADATA, 0, entry_nowhere},
		{STREAM_METADATA, 0, entry_long},
		{STREAM_QUOTA, 0, cut_payload},
		{STREAM_SEEN, 0, cut_payload},
		{STREAM_SEEN, 0, seen_late},
		{STREAM_SEEN, 0, seen_beyond},
		{STREAM_SEEN, 0, seen_nowhere},
		{STREAM_ACL, 0, acl_rights},
		{STREAM_ACL, 0, acl_nowhere},
		{STREAM_CHANGE, 3, change_gap},
		{STREAM_CHANGE, 3, cut_payload},
		{STREAM_ACCOUNT, 0, cut_payload},
		{STREAM_BODY, 0, cut_payload},
	};
	struct store_import_totals totals = {0};
	struct store_import_options o = {0};
	struct buf stream = {0};
	struct temp_store source, t;
	struct store_txn *txn;

	(void)state;
	temp_start(&source);
	temp_add(&source, source.inbox, SMALL);
	temp_add(&source, source.inbox, SMALL);
	temp_flag(&source, source.inbox, 1, STORE_SEEN, "one");
	see(&source, source.inbox, 1, temp_account(&source, "carol@example.com"));
	assert_int_equal(store_begin_write(source.store, 0, &txn), 0);
	assert_int_equal(store_account_add_alias(txn, source.account, SLICE_LIT("ali@example.com")), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_write(source.store, 0, &txn), 0);
	assert_int_equal(store_metadata_set(txn, source.account, source.inbox, STORE_METADATA_SHARED,
				 SLICE_LIT("/comment"), SLICE_LIT("x"), NULL),
		0);
	assert_int_equal(store_quota_set(txn, source.account, source.inbox,
				 &(struct store_quota){.bytes_limit = 5 << 20}),
		0);
	assert_int_equal(store_acl_set(txn, source.account, source.inbox,
				 &(struct store_acl_entry){{0, 0}, STORE_RIGHT_LOOKUP, 0}),
		0);
	assert_int_equal(store_commit(&txn), 0);
	export_to(&source, source.account, &stream);
	temp_start(&t);
	o.store = t.store;
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct edit e = {.tag = rows[i].tag, .which = rows[i].which, .change = rows[i].change};
		struct source from = {buf_view(&stream), 1 << 20};
		struct stream_reader r = {.read = from_slice, .arg = &from};
		struct buf why = {0};
		int err;

		e.w = (struct stream_writer){.write = to_buf, .arg = &e.out};
		assert_int_equal(stream_write_head(&e.w), 0);
		assert_int_equal(stream_read_all(&r, edit_record, &e, &why), 0);
		assert_int_equal(stream_write_end(&e.w), 0);
		assert_true(e.seen > rows[i].which);
		err = import_from(&o, buf_view(&e.out), 1 << 20, &totals);
		if (err != ERR_CORRUPT && err != ERR_UNSUPPORTED && err != ERR_SYNTAX && err != ERR_EXISTS)
			print_error("row %zu: %s\n", i, error_text(err));
		assert_true(err == ERR_CORRUPT || err == ERR_UNSUPPORTED || err == ERR_SYNTAX ||
			    err == ERR_EXISTS);
		stream_reader_deinit(&r);
		stream_writer_deinit(&e.w);
		buf_deinit(&e.out);
		buf_deinit(&why);
	}
	assert_int_equal(store_count_accounts(t.store), 0);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(import_from(&o, buf_view(&stream), 1 << 20, &totals), 0);
	buf_deinit(&stream);
	temp_end(&source);
	temp_end(&t);
}

/* The disk is full, or the program dies, after each of its transactions: the next start leaves nothing of it. */
static void test_stops_after_any_step(void **state)
{
	struct store_import_totals totals = {0};
	struct buf stream = {0};
	struct temp_store t;
	int err = ERR_FULL;

	(void)state;
	temp_start(&t);
	fill(&t);
	export_to(&t, t.account, &stream);
	for (int steps = 0; err; steps++) {
		struct stop stop = {t.store, steps};
		struct store_import_options o = {.store = t.store,
			.address = SLICE_LIT("bob@example.com"),
			.write = stop_after,
			.write_arg = &stop};

		assert_true(steps < 100);
		err = import_from(&o, buf_view(&stream), 1 << 20, &totals);
		assert_int_equal(store_count_accounts(t.store), err ? 2 : 3);
		temp_check(&t);
		store_close(&t.store);
		temp_open(&t, 256 << 20);
		assert_int_equal(store_count_accounts(t.store), err ? 2 : 3);
		temp_reap(&t, NULL);
	}
	buf_deinit(&stream);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_back_as_it_was),
		cmocka_unit_test(test_one_whom_it_names_goes_meanwhile),
		cmocka_unit_test(test_exists_and_replaces),
		cmocka_unit_test(test_who_has_an_address_now_inherits_nothing),
		cmocka_unit_test(test_restore_goes_on_above),
		cmocka_unit_test(test_security_damaged_streams),
		cmocka_unit_test(test_security_hostile_records),
		cmocka_unit_test(test_stops_after_any_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
