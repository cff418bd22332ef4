/* The check of one account, in one snapshot: names, mailboxes, index against messages, counters against sums, the log. */
#include <stdlib.h>

#include "backend/store/change.h"
#include "backend/store/check.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/metadata.h"
#include "backend/store/quota.h"

/* ---- one mailbox ---- */

struct sums {
	uint64_t messages, unseen, deleted, size;
};

/* One entry of the index against its record. walk stands at or before the entry's uid. */
static int check_entry(struct check *k, uint32_t account, uint32_t mailbox, const struct store_entry *e,
	const struct mailbox_state *s, struct sums *sums)
{
	struct store_message m;
	int err = store_message_get(k->txn, mailbox, e->uid, &m);

	sums->messages++;
	sums->unseen += !(e->flags & STORE_SEEN);
	sums->deleted += (e->flags & STORE_DELETED) != 0;
	sums->size += e->size;
	if (e->uid == 0 || e->uid >= s->uidnext || e->modseq > s->modseq || e->modseq == 0)
		check_finding(k, "index entry beyond its mailbox's counters account=%u mailbox=%u uid=%u",
			account, mailbox, e->uid);
	if (err)
		return check_judge(k, err, "message", account, mailbox, e->uid);
	if (m.size != e->size || m.date != e->date)
		check_finding(
			k, "index and record differ account=%u mailbox=%u uid=%u", account, mailbox, e->uid);
	k->result.messages++;
	return 0;
}

static int check_index(
	struct check *k, uint32_t account, uint32_t mailbox, const struct mailbox_state *s, struct sums *sums)
{
	struct store_scan scan;
	struct store_entry e;
	uint32_t last = 0;
	int err = store_scan_begin(&scan, k->txn, mailbox, 0);

	while (!err && store_scan_next(&scan, &e)) {
		if (e.uid <= last)
			check_finding(k, "index out of order account=%u mailbox=%u uid=%u", account, mailbox,
				e.uid);
		last = e.uid;
		err = check_entry(k, account, mailbox, &e, s, sums);
	}
	if (!err)
		err = scan.error;
	store_scan_end(&scan);
	return check_judge(k, err, "index", account, mailbox, last);
}

/* Rows with this prefix. */
static int count_rows(struct check *k, enum db_name db, struct slice prefix, uint64_t *count_out)
{
	struct db_cursor c;
	uint64_t count = 0;
	int err = db_cursor_open(k->txn, db, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, prefix);
	for (; !err && db_cursor_has_prefix(&c, prefix); err = db_cursor_next(&c))
		count++;
	db_cursor_close(&c);
	*count_out = count;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- kept messages ---- */

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* How many kept messages a mailbox has. */
static uint64_t count_kept(const struct check *k, uint32_t mailbox)
{
	const uint32_t *ids = (const void *)k->kept.data;
	size_t count = buf_len(&k->kept) / sizeof(*ids), low = 0, high = count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (ids[mid] < mailbox)
			low = mid + 1;
		else
			high = mid;
	}
	for (high = low; high < count && ids[high] == mailbox;)
		high++;
	return high - low;
}

static int check_kept_row(struct check *k, struct db_cursor *c, struct store_kept_sum *sum)
{
	struct store_message m;
	struct kept_row r;
	int err = kept_unpack(c->key, c->value, &r);

	if (err == ERR_NOT_FOUND)
		return 0;
	if (err)
		return check_judge(k, err, "kept message", bytes_get_u32be(c->key.p), 0, 0);
	sum->bytes += r.size;
	sum->messages++;
	err = store_message_get(k->txn, r.mailbox, r.uid, &m);
	if (err)
		return check_judge(k, err, "kept message", r.account, r.mailbox, r.uid);
	buf_add(&k->kept, &r.mailbox, sizeof(r.mailbox));
	return 0;
}

/* Waits for the reaper: its records are of its index. */
static int is_buried(struct check *k, uint32_t account, uint32_t mailbox, bool *buried_out)
{
	char key[9] = {INTENT_DROP_MAILBOX};
	struct slice value;
	int err;

	bytes_put_u32be(key + 1, account);
	bytes_put_u32be(key + 5, mailbox);
	err = db_get(k->txn, DB_INTENTS, slice_of(key, sizeof(key)), &value);
	*buried_out = !err;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* A deleted mailbox has no records but of its kept messages; those of the others are check_mailbox()'s. */
static int check_gone(struct check *k, uint32_t account, uint32_t mailbox)
{
	struct db_key prefix = db_key_u32(mailbox), folder = db_key_u32_u32(account, mailbox);
	uint64_t records = 0, expunged = 0, kept = count_kept(k, mailbox);
	struct slice value;
	bool buried = false;
	int err = db_get(k->txn, DB_FOLDERS, db_key_view(&folder), &value);

	if (err != ERR_NOT_FOUND)
		return err;
	err = is_buried(k, account, mailbox, &buried);
	if (!err && !buried)
		err = count_rows(k, DB_MESSAGES, db_key_view(&prefix), &records);
	if (!err && !buried)
		err = count_rows(k, DB_EXPUNGED, db_key_view(&prefix), &expunged);
	if (!err && !buried && records != kept + expunged)
		check_finding(k, "records=%llu, expunged=%llu, kept=%llu account=%u deleted mailbox=%u",
			(unsigned long long)records, (unsigned long long)expunged, (unsigned long long)kept,
			account, mailbox);
	return err;
}

static int check_all_gone(struct check *k, uint32_t account)
{
	const uint32_t *ids = (const void *)k->kept.data;
	size_t count = buf_len(&k->kept) / sizeof(*ids);
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		if (i == 0 || ids[i] != ids[i - 1])
			err = check_gone(k, account, ids[i]);
	return err;
}

/* Rows have their records, sums are right; gathers k->kept. */
static int check_kept(struct check *k, uint32_t account)
{
	struct db_key prefix = db_key_u32(account);
	struct store_kept_sum sum = {0}, said;
	struct db_cursor c;
	int err = db_cursor_open(k->txn, DB_KEPT, &c);

	buf_clear(&k->kept);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = check_kept_row(k, &c, &sum);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (!err || err == ERR_NOT_FOUND)
		err = check_judge(
			k, store_kept_sum(k->txn, account, &said), "sums of kept messages", account, 0, 0);
	if (err)
		return err;
	if (said.bytes != sum.bytes || said.messages != sum.messages)
		check_finding(k, "kept messages of account=%u: %llu of %llu bytes, its sums say %llu of %llu",
			account, (unsigned long long)sum.messages, (unsigned long long)sum.bytes,
			(unsigned long long)said.messages, (unsigned long long)said.bytes);
	if (buf_len(&k->kept))
		qsort(k->kept.data, buf_len(&k->kept) / sizeof(uint32_t), sizeof(uint32_t), compare_u32);
	return check_all_gone(k, account);
}

static int check_mailbox(struct check *k, uint32_t account, uint32_t mailbox,
	const struct folder_record *folder, struct account_state *left)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct mailbox_state s;
	struct sums sums = {0};
	uint64_t records, expunged, kept = count_kept(k, mailbox);
	int err = state_get_mailbox(k->txn, account, mailbox, &s);

	k->result.mailboxes++;
	if (folder->noselect) {
		if (err != ERR_NOT_FOUND)
			check_finding(k, "a name without messages has counters account=%u mailbox=%u",
				account, mailbox);
		return 0;
	}
	if (err)
		return check_judge(k, err, "counters of a mailbox", account, mailbox, 0);
	err = check_index(k, account, mailbox, &s, &sums);
	if (!err)
		err = count_rows(k, DB_MESSAGES, db_key_view(&prefix), &records);
	if (!err)
		err = count_rows(k, DB_EXPUNGED, db_key_view(&prefix), &expunged);
	if (err)
		return err;
	if (records != sums.messages + expunged + kept)
		check_finding(k, "records=%llu, index=%llu, expunged=%llu, kept=%llu account=%u mailbox=%u",
			(unsigned long long)records, (unsigned long long)sums.messages,
			(unsigned long long)expunged, (unsigned long long)kept, account, mailbox);
	if (sums.messages != s.messages || sums.unseen != s.unseen || sums.deleted != s.deleted ||
		sums.size != s.size)
		check_finding(
			k, "counters of account=%u mailbox=%u do not agree with its index", account, mailbox);
	if (s.modseq > left->modseq || s.recent_from > s.uidnext)
		check_finding(
			k, "counters of account=%u mailbox=%u go beyond their bounds", account, mailbox);
	left->bytes -= s.size;
	left->count -= s.messages;
	return 0;
}

/* ---- one account ---- */

/* The row of a name must lead back to the mailbox. */
static int check_name(struct check *k, uint32_t account, uint32_t mailbox, struct slice name)
{
	char room[STORE_MAILBOX_NAME_MAX + 4];
	struct slice value;
	int err;

	if (name.len == 0 || name.len > STORE_MAILBOX_NAME_MAX)
		return check_judge(k, ERR_CORRUPT, "name of a mailbox", account, mailbox, 0);
	err = db_get(k->txn, DB_FOLDER_NAMES, mailbox_name_key(account, name, room), &value);
	if (!err && (value.len != 5 || bytes_get_u32(value.p) != mailbox))
		err = ERR_CORRUPT;
	return check_judge(k, err, "name of a mailbox", account, mailbox, 0);
}

static int check_mailboxes(struct check *k, uint32_t account, struct account_state *s)
{
	struct db_key prefix = db_key_u32(account);
	struct account_state left = *s;
	struct folder_record folder;
	struct db_cursor c;
	uint32_t mailboxes = 0;
	int err = db_cursor_open(k->txn, DB_FOLDERS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = err ? err : db_cursor_next(&c)) {
		uint32_t mailbox = bytes_get_u32be(c.key.p + 4);

		mailboxes++;
		err = record_unpack_folder(c.value, &folder);
		if (!err)
			err = check_name(k, account, mailbox, folder.name);
		if (!err)
			err = check_mailbox(k, account, mailbox, &folder, &left);
		err = check_judge(k, err, "mailbox", account, mailbox, 0);
		if (err)
			break;
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (mailboxes != s->mailboxes)
		check_finding(
			k, "account=%u counts %u mailboxes, there are %u", account, s->mailboxes, mailboxes);
	if (left.bytes || left.count)
		check_finding(k, "quota of account=%u does not agree: bytes off by %lld, messages by %lld",
			account, (long long)left.bytes, (long long)left.count);
	return 0;
}

/* Every name that leads somewhere leads to a folder. */
static int check_folder_names(struct check *k, uint32_t account)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(k->txn, DB_FOLDER_NAMES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		uint32_t mailbox = c.value.len == 5 ? bytes_get_u32(c.value.p) : UINT32_MAX;
		struct db_key folder = db_key_u32_u32(account, mailbox);
		struct slice value;

		if (mailbox)
			err = check_judge(k, db_get(k->txn, DB_FOLDERS, db_key_view(&folder), &value),
				"folder of a name", account, mailbox, 0);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int check_log(struct check *k, uint32_t account, const struct account_state *s)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	uint64_t rows = 0, last = 0;
	int err = db_cursor_open(k->txn, DB_CHANGES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		rows++;
		last = c.key.len == 12 ? bytes_get_u64be(c.key.p + 4) : UINT64_MAX;
		if (!change_is_row(c.value))
			check_finding(k, "a row of the change log of account=%u cannot be read", account);
		if (last <= s->change_low)
			check_finding(k, "change log of account=%u reaches below its bound", account);
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	if (rows != s->change_rows || last > s->modseq || rows != s->modseq - s->change_low)
		check_finding(k,
			"change log of account=%u has %llu rows up to %llu, its counters say %u up to %llu",
			account, (unsigned long long)rows, (unsigned long long)last, s->change_rows,
			(unsigned long long)s->modseq);
	return 0;
}

static int check_account_names(struct check *k, uint32_t account, struct slice address, uint32_t aliases)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	struct slice value;
	uint32_t found = 0;
	int err = db_get(k->txn, DB_NAMES, address, &value);

	if (!err && (value.len != 4 || bytes_get_u32(value.p) != account))
		err = ERR_CORRUPT;
	err = check_judge(k, err, "address of an account", account, 0, 0);
	if (!err)
		err = db_cursor_open(k->txn, DB_ACCOUNTS, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		if (c.key.len == 4)
			continue;
		found++;
		err = db_get(k->txn, DB_NAMES, slice_from(c.key, 4), &value);
		if (!err && (value.len != 4 || bytes_get_u32(value.p) != account))
			err = ERR_CORRUPT;
		err = check_judge(k, err, "alias", account, 0, 0);
		if (err)
			break;
	}
	db_cursor_close(&c);
	if (found != aliases)
		check_finding(k, "account=%u counts %u aliases, there are %u", account, aliases, found);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static void metadata_finding(void *arg, uint32_t account, uint32_t mailbox, const char *what)
{
	check_finding(arg, "%s account=%u mailbox=%u", what, account, mailbox);
}

static void root_finding(
	void *arg, uint32_t mailbox, const struct store_quota *stored, const struct store_quota *right)
{
	check_finding(arg, "quota root of mailbox=%u does not agree: bytes off by %lld, messages by %lld",
		mailbox, (long long)(stored->bytes_used - right->bytes_used),
		(long long)(stored->count_used - right->count_used));
}

int check_account(struct check *k, uint32_t account)
{
	struct db_key key = db_key_u32(account);
	struct account_record r;
	struct account_state s;
	struct slice value;
	int err = db_get(k->txn, DB_ACCOUNTS, db_key_view(&key), &value);

	if (err == ERR_NOT_FOUND)
		return 0; /* removed since we took its number */
	if (!err)
		err = record_unpack_account(value, &r);
	if (!err)
		err = state_get_account(k->txn, account, &s);
	if (err)
		return check_judge(k, err, "account", account, 0, 0);
	k->result.accounts++;
	err = check_account_names(k, account, r.address, s.aliases);
	if (!err)
		err = check_kept(k, account);
	if (!err)
		err = check_folder_names(k, account);
	if (!err)
		err = check_mailboxes(k, account, &s);
	if (!err)
		err = check_judge(k, metadata_check(k->txn, account, metadata_finding, k), "annotations",
			account, 0, 0);
	if (!err)
		err = check_judge(k, quota_verify_roots(k->txn, account, false, root_finding, k),
			"quota roots", account, 0, 0);
	return err ? err : check_log(k, account, &s);
}

/* ---- for the repair ---- */

int check_one_account(struct store *store, unsigned slot, uint32_t account, uint64_t *errors_out)
{
	const struct store_check_options options = {0};
	struct check k = {.store = store, .slot = slot, .options = &options};
	int err = store_begin_read(store, slot, &k.txn);

	if (err)
		return err;
	err = check_account(&k, account);
	store_end_read(&k.txn);
	buf_deinit(&k.kept);
	*errors_out = k.result.errors;
	return err;
}
