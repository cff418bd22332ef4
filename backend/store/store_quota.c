/*
 *	DB_QUOTA          account u32be | mailbox u32be   1 | bytes u64 | count u64 | mailboxes u32 | folder bytes u64 |
 *	                                                  folder count u64 | bytes used u64 | count used u64
 *	DB_QUOTA_WARNED   account u32be [| mailbox u32be] 1 | (threshold u8 | time i64)*
 *
 * A root knows its folder by id; what lies below is decided by names, with at most STORE_QUOTA_ROOTS_MAX comparisons.
 */
#include "backend/store/quota.h"

#include "backend/store/mailbox.h"
#include "common/base/num.h"

#define RECORD 1
#define LEN 53

static void pack(const struct store_quota *q, char v[LEN])
{
	v[0] = RECORD;
	bytes_put_u64(v + 1, q->bytes_limit);
	bytes_put_u64(v + 9, q->count_limit);
	bytes_put_u32(v + 17, q->mailboxes_limit);
	bytes_put_u64(v + 21, q->folder_bytes_limit);
	bytes_put_u64(v + 29, q->folder_count_limit);
	bytes_put_u64(v + 37, q->bytes_used);
	bytes_put_u64(v + 45, q->count_used);
}

static int unpack(struct slice v, struct store_quota *q)
{
	if (v.len != LEN || v.p[0] != RECORD)
		return ERR_CORRUPT;
	*q = (struct store_quota){
		.bytes_limit = bytes_get_u64(v.p + 1),
		.count_limit = bytes_get_u64(v.p + 9),
		.mailboxes_limit = bytes_get_u32(v.p + 17),
		.folder_bytes_limit = bytes_get_u64(v.p + 21),
		.folder_count_limit = bytes_get_u64(v.p + 29),
		.bytes_used = bytes_get_u64(v.p + 37),
		.count_used = bytes_get_u64(v.p + 45),
	};
	return 0;
}

static int put(struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_quota *q)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	char v[LEN];

	pack(q, v);
	return db_put(txn, DB_QUOTA, db_key_view(&key), slice_of(v, sizeof(v)));
}

int store_quota_get(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_quota *quota_out)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	int err = db_get(txn, DB_QUOTA, db_key_view(&key), &value);

	return err ? err : unpack(value, quota_out);
}

static bool is_under(struct slice name, struct slice root)
{
	return name.len >= root.len && memcmp(name.p, root.p, root.len) == 0 &&
	       (root.len == 0 || name.len == root.len || name.p[root.len] == STORE_SEPARATOR);
}

/* ---- the account's rows, in memory ---- */

struct root {
	uint32_t mailbox;
	struct slice name;
	struct store_quota quota;
};
struct roots {
	size_t count;
	struct arena names;
	struct root at[STORE_QUOTA_ROOTS_MAX + 1];
};

static int load_one(
	struct store_txn *txn, uint32_t account, struct roots *r, struct slice key, struct slice value)
{
	struct root *root = &r->at[r->count];
	struct folder_record folder;
	int err;

	if (key.len != 8)
		return ERR_CORRUPT;
	if (r->count == ARRAY_LEN(r->at))
		return 0;
	*root = (struct root){.mailbox = bytes_get_u32be(key.p + 4), .name = SLICE_LIT("")};
	err = unpack(value, &root->quota);
	if (!err && root->mailbox) {
		err = mailbox_get_folder(txn, account, root->mailbox, &folder);
		if (err == ERR_NOT_FOUND) /* the account goes, step by step */
			return 0;
		if (!err)
			root->name = arena_copy(&r->names, folder.name);
	}
	r->count += !err;
	return err;
}

/* Frees with roots_free(), also after an error. */
static int load(struct store_txn *txn, uint32_t account, struct roots *r)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err;

	r->count = 0;
	arena_init(&r->names, 0);
	err = db_cursor_open(txn, DB_QUOTA, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = load_one(txn, account, r, c.key, c.value);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static void roots_free(struct roots *r)
{
	arena_deinit(&r->names);
}

/* Most accounts have no rows: found out by one look. */
static int has_rows(struct store_txn *txn, uint32_t account, bool *has_out)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_QUOTA, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	*has_out = !err && db_cursor_has_prefix(&c, db_key_view(&prefix));
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_quota_above(
	struct store_txn *txn, uint32_t account, struct slice name, store_quota_fn *fn, void *arg)
{
	struct roots r;
	int err = load(txn, account, &r);

	for (size_t i = 0; i < r.count && !err; i++) {
		if (is_under(name, r.at[i].name))
			err = fn(arg, r.at[i].mailbox, r.at[i].name, &r.at[i].quota);
	}
	roots_free(&r);
	return err;
}

int store_quota_each(struct store_txn *txn, uint32_t account, store_quota_fn *fn, void *arg)
{
	struct roots r;
	int err = load(txn, account, &r);

	for (size_t i = 0; i < r.count && !err; i++)
		err = fn(arg, r.at[i].mailbox, r.at[i].name, &r.at[i].quota);
	roots_free(&r);
	return err;
}

/* ---- counting ---- */

struct count_names {
	struct slice name;
	uint32_t count;
};

/* Calls fn for each mailbox of the account: its folder's row, and its counters (zero for a name only). */
typedef int mailbox_fn(void *arg, uint32_t mailbox, struct slice name, const struct mailbox_state *state);
static int each_mailbox(struct store_txn *txn, uint32_t account, mailbox_fn *fn, void *arg)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_FOLDERS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		uint32_t mailbox = c.key.len == 8 ? bytes_get_u32be(c.key.p + 4) : 0;
		struct mailbox_state state = {0};
		struct folder_record folder;

		err = record_unpack_folder(c.value, &folder);
		if (!err)
			err = state_get_mailbox(txn, account, mailbox, &state);
		if (err == ERR_NOT_FOUND && folder.noselect)
			err = 0;
		if (!err)
			err = fn(arg, mailbox, folder.name, &state);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int count_name(void *arg, uint32_t mailbox, struct slice name, const struct mailbox_state *state)
{
	struct count_names *n = arg;

	(void)mailbox;
	(void)state;
	n->count += is_under(name, n->name);
	return 0;
}

int store_quota_count_mailboxes(
	struct store_txn *txn, uint32_t account, struct slice name, uint32_t *count_out)
{
	struct count_names n = {name, 0};
	struct account_state s;
	int err;

	if (name.len == 0) {
		err = state_get_account(txn, account, &s);
		*count_out = err ? 0 : s.mailboxes;
		return err;
	}
	err = each_mailbox(txn, account, count_name, &n);
	*count_out = n.count;
	return err;
}

static int count_into_roots(void *arg, uint32_t mailbox, struct slice name, const struct mailbox_state *state)
{
	struct roots *r = arg;

	(void)mailbox;
	for (size_t i = 0; i < r->count; i++) {
		if (!r->at[i].mailbox || !is_under(name, r->at[i].name))
			continue;
		r->at[i].quota.bytes_used += state->size;
		r->at[i].quota.count_used += state->messages;
	}
	return 0;
}

static int recount(struct store_txn *txn, uint32_t account, struct roots *r)
{
	for (size_t i = 0; i < r->count; i++)
		r->at[i].quota.bytes_used = r->at[i].quota.count_used = 0;
	return each_mailbox(txn, account, count_into_roots, r);
}

/* ---- what INBOX can still take ---- */

static void least(uint64_t *room, uint64_t limit, uint64_t used)
{
	uint64_t left = limit > used ? limit - used : 0;

	if (limit && left < *room)
		*room = left;
}

static int inbox_room(struct store_txn *txn, uint32_t account, const struct roots *r, uint64_t *bytes_out,
	uint64_t *count_out)
{
	struct mailbox_state state;
	int err;

	*bytes_out = *count_out = UINT64_MAX;
	for (size_t i = 0; i < r->count; i++) {
		const struct store_quota *q = &r->at[i].quota;

		/* Only INBOX itself can be above INBOX. */
		if (!r->at[i].mailbox || !slice_is_str(r->at[i].name, "INBOX"))
			continue;
		least(bytes_out, q->bytes_limit, q->bytes_used);
		least(count_out, q->count_limit, q->count_used);
		err = state_get_mailbox(txn, account, r->at[i].mailbox, &state);
		if (err)
			return err;
		least(bytes_out, q->folder_bytes_limit, state.size);
		least(count_out, q->folder_count_limit, state.messages);
	}
	return 0;
}

int quota_inbox_room(struct store_txn *txn, uint32_t account, uint64_t *bytes_out, uint64_t *count_out)
{
	struct roots r;
	int err = load(txn, account, &r);

	if (!err)
		err = inbox_room(txn, account, &r, bytes_out, count_out);
	roots_free(&r);
	return err;
}

static int tell_inbox(struct store_txn *txn, uint32_t account, const struct roots *r)
{
	struct effect room = {.kind = EFFECT_INBOX_ROOM, .account = account};
	int err = inbox_room(txn, account, r, &room.bytes, &room.count);

	if (!err)
		db_effect(txn, &room, slice_of(NULL, 0));
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- warnings ---- */

static unsigned percent(uint64_t used, uint64_t limit)
{
	if (!limit)
		return 0;
	if (used >= limit)
		return 100;
	return (unsigned)(limit > UINT64_MAX / 100 ? used / (limit / 100) : used * 100 / limit);
}

unsigned store_quota_percent(const struct store_quota_use *use)
{
	unsigned bytes = percent(use->bytes_used, use->bytes_limit);
	unsigned count = percent(use->count_used, use->count_limit);

	return bytes > count ? bytes : count;
}

static struct store_quota_use root_use(const struct store_quota *q, const struct mailbox_state *own)
{
	struct store_quota_use all = {q->bytes_used, q->bytes_limit, q->count_used, q->count_limit};
	struct store_quota_use one = {own->size, q->folder_bytes_limit, own->messages, q->folder_count_limit};

	return store_quota_percent(&one) > store_quota_percent(&all) ? one : all;
}

int store_quota_use(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_quota_use *use_out)
{
	struct store_account a = {0};
	struct account_state s;
	struct mailbox_state own = {0};
	struct store_quota q;
	int err;

	if (mailbox) {
		err = store_quota_get(txn, account, mailbox, &q);
		if (err)
			return err;
		err = state_get_mailbox(txn, account, mailbox, &own);
		if (err && err != ERR_NOT_FOUND) /* a name alone has no messages of its own */
			return err;
		*use_out = root_use(&q, &own);
		return 0;
	}
	err = store_get_account(txn->slot->store, txn->slot->number, account, &a);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err)
		*use_out = (struct store_quota_use){s.bytes, a.bytes_limit, s.count, a.count_limit};
	return err;
}

static struct db_key warned_key(uint32_t account, uint32_t mailbox)
{
	return mailbox ? db_key_u32_u32(account, mailbox) : db_key_u32(account);
}

struct warned {
	size_t count;
	struct {
		uint8_t threshold;
		int64_t time;
	} at[STORE_QUOTA_THRESHOLDS_MAX];
};

/* An empty row: of nothing. */
static int unpack_warned(struct slice v, struct warned *w)
{
	w->count = 0;
	if (v.len == 0)
		return 0;
	if (v.p[0] != RECORD || (v.len - 1) % 9)
		return ERR_CORRUPT;
	for (size_t at = 1; at < v.len && w->count < ARRAY_LEN(w->at); at += 9) {
		w->at[w->count].threshold = (uint8_t)v.p[at];
		w->at[w->count++].time = (int64_t)bytes_get_u64(v.p + at + 1);
	}
	return 0;
}

static int get_warned(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct slice *row_out)
{
	struct db_key key = warned_key(account, mailbox);
	int err = db_get(txn, DB_QUOTA_WARNED, db_key_view(&key), row_out);

	if (err == ERR_NOT_FOUND)
		*row_out = slice_of(NULL, 0);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int put_warned(struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct warned *w)
{
	struct db_key key = warned_key(account, mailbox);
	char v[1 + STORE_QUOTA_THRESHOLDS_MAX * 9] = {RECORD};

	for (size_t i = 0; i < w->count; i++) {
		v[1 + i * 9] = (char)w->at[i].threshold;
		bytes_put_u64(v + 2 + i * 9, (uint64_t)w->at[i].time);
	}
	return db_put(txn, DB_QUOTA_WARNED, db_key_view(&key), slice_of(v, 1 + w->count * 9));
}

unsigned quota_due(
	struct slice row, const unsigned *thresholds, size_t count, unsigned percent, int64_t since)
{
	struct warned w;
	size_t top = 0;

	while (top < count && top < STORE_QUOTA_THRESHOLDS_MAX && thresholds[top] <= percent)
		top++;
	if (top == 0 || unpack_warned(row, &w))
		return 0;
	for (size_t i = 0; i < w.count; i++)
		if (w.at[i].threshold == thresholds[top - 1] && w.at[i].time > since)
			return 0;
	return thresholds[top - 1];
}

int store_quota_warn(struct store_txn *txn, uint32_t account, uint32_t mailbox, const unsigned *thresholds,
	size_t count, uint64_t interval_s, int64_t now, unsigned *threshold_out)
{
	struct store_quota_use use;
	struct warned w, next = {0};
	unsigned due = 0;
	struct slice row;
	int err = store_quota_use(txn, account, mailbox, &use);

	*threshold_out = 0;
	if (!err)
		err = get_warned(txn, account, mailbox, &row);
	if (!err)
		err = unpack_warned(row, &w);
	if (!err)
		due = quota_due(row, thresholds, count, store_quota_percent(&use), now - (int64_t)interval_s);
	if (err || !due)
		return err;
	/* Lower ones count as told with it; higher ones keep their time. */
	for (size_t i = 0; i < w.count; i++) {
		if (w.at[i].threshold > due)
			next.at[next.count++] = w.at[i];
	}
	for (size_t i = 0; i < count && thresholds[i] <= due && next.count < ARRAY_LEN(next.at); i++) {
		next.at[next.count].threshold = (uint8_t)thresholds[i];
		next.at[next.count++].time = now;
	}
	err = put_warned(txn, account, mailbox, &next);
	if (!err)
		*threshold_out = due;
	return err;
}

/* A folder's limits are nearer now: whoever watches hears of it after the commit. */
static int tell_root(struct store_txn *txn, uint32_t account, const struct root *root)
{
	struct effect e = {.kind = EFFECT_ROOT_USED, .account = account, .count = root->mailbox};
	struct mailbox_state own = {0};
	struct store_quota_use use;
	struct slice row;
	int err = state_get_mailbox(txn, account, root->mailbox, &own);

	if (err && err != ERR_NOT_FOUND)
		return err;
	use = root_use(&root->quota, &own);
	e.bytes = store_quota_percent(&use);
	if (!e.bytes)
		return 0;
	err = get_warned(txn, account, root->mailbox, &row);
	if (!err)
		db_effect(txn, &e, row);
	return err;
}

/* ---- changes ---- */

static int add_delta(struct store_txn *txn, uint32_t account, struct root *root,
	const struct mailbox_state *before, const struct mailbox_state *after)
{
	struct store_quota *q = &root->quota;

	/* Counters that were wrong before are the verifier's to find: they keep nobody from removing his mail. */
	if (before) {
		q->bytes_used -= q->bytes_used < before->size ? q->bytes_used : before->size;
		q->count_used -= q->count_used < before->messages ? q->count_used : before->messages;
	}
	if (after) {
		q->bytes_used += after->size;
		q->count_used += after->messages;
	}
	return put(txn, account, root->mailbox, q);
}

static bool grows(const struct mailbox_state *before, const struct mailbox_state *after)
{
	return after && (!before || after->size > before->size || after->messages > before->messages);
}

static int change_roots(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct mailbox_state *before, const struct mailbox_state *after)
{
	struct folder_record folder;
	struct slice name;
	struct roots r;
	int err = load(txn, account, &r);

	if (!err)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (!err) {
		name = arena_copy(&r.names, folder.name);
		for (size_t i = 0; i < r.count && !err; i++) {
			if (!r.at[i].mailbox || !is_under(name, r.at[i].name))
				continue;
			err = add_delta(txn, account, &r.at[i], before, after);
			if (!err && grows(before, after))
				err = tell_root(txn, account, &r.at[i]);
		}
	}
	if (!err)
		err = tell_inbox(txn, account, &r);
	roots_free(&r);
	return err == ERR_NOT_FOUND ? 0 : err; /* of an account that goes */
}

int quota_changed(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct mailbox_state *before, const struct mailbox_state *after)
{
	bool has;
	int err;

	if (before && after && before->size == after->size && before->messages == after->messages)
		return 0;
	err = has_rows(txn, account, &has);
	return err || !has ? err : change_roots(txn, account, mailbox, before, after);
}

int quota_move(struct store_txn *txn, uint32_t account, uint32_t from, uint32_t to)
{
	struct db_key key = db_key_u32_u32(account, from);
	struct store_quota q;
	int err = store_quota_get(txn, account, from, &q);

	if (!err)
		err = db_drop(txn, DB_QUOTA, db_key_view(&key));
	if (!err)
		err = db_drop(txn, DB_QUOTA_WARNED, db_key_view(&key));
	if (!err && to)
		err = put(txn, account, to, &q);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static bool is_beyond(const struct store_quota *now, const struct store_quota *before)
{
	return (now->bytes_limit && now->bytes_used > now->bytes_limit &&
		       now->bytes_used > before->bytes_used) ||
	       (now->count_limit && now->count_used > now->count_limit &&
		       now->count_used > before->count_used);
}

int quota_renamed(struct store_txn *txn, uint32_t account)
{
	struct roots r, before;
	bool has;
	int err = has_rows(txn, account, &has);

	if (err || !has)
		return err;
	err = load(txn, account, &r);
	before = r;
	if (!err)
		err = recount(txn, account, &r);
	for (size_t i = 0; i < r.count && !err; i++) {
		if (!r.at[i].mailbox)
			continue;
		if (is_beyond(&r.at[i].quota, &before.at[i].quota))
			err = db_fail(txn, ERR_TOO_BIG);
		else
			err = put(txn, account, r.at[i].mailbox, &r.at[i].quota);
	}
	if (!err)
		err = tell_inbox(txn, account, &r);
	roots_free(&r);
	return err;
}

int quota_verify_roots(struct store_txn *txn, uint32_t account, bool repair,
	void (*report)(void *arg, uint32_t mailbox, const struct store_quota *stored,
		const struct store_quota *right),
	void *arg)
{
	struct roots r, stored;
	int err = load(txn, account, &r);

	stored = r;
	if (!err)
		err = recount(txn, account, &r);
	for (size_t i = 0; i < r.count && !err; i++) {
		const struct store_quota *q = &r.at[i].quota, *was = &stored.at[i].quota;

		if (!r.at[i].mailbox ||
			(q->bytes_used == was->bytes_used && q->count_used == was->count_used))
			continue;
		report(arg, r.at[i].mailbox, was, q);
		if (repair)
			err = put(txn, account, r.at[i].mailbox, q);
	}
	if (!err && repair && r.count)
		err = tell_inbox(txn, account, &r);
	roots_free(&r);
	return err;
}

/* ---- limits ---- */

static bool exceeds(uint64_t limit, uint64_t used, uint64_t more)
{
	uint64_t sum;

	return limit && (!num_add_u64(used, more, &sum) || sum > limit);
}

struct wish {
	struct slice name, from; /* from.p NULL: none */
	struct mailbox_state stored, now;
	uint64_t bytes, count;
};

static int check_row(const struct wish *w, const struct root *root, uint32_t mailbox)
{
	const struct store_quota *q = &root->quota;

	if (root->mailbox == mailbox && (exceeds(q->folder_bytes_limit, w->now.size, w->bytes) ||
						exceeds(q->folder_count_limit, w->now.messages, w->count)))
		return ERR_TOO_BIG;
	/* What moves within a root does not make it larger. */
	if (!root->mailbox || !is_under(w->name, root->name) || (w->from.p && is_under(w->from, root->name)))
		return 0;
	return exceeds(q->bytes_limit, q->bytes_used + w->now.size - w->stored.size, w->bytes) ||
			       exceeds(q->count_limit, q->count_used + w->now.messages - w->stored.messages,
				       w->count)
		       ? ERR_TOO_BIG
		       : 0;
}

static int check_rows(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct mailbox_state *now, uint32_t from, uint64_t bytes, uint64_t count)
{
	struct wish w = {.now = *now, .bytes = bytes, .count = count};
	struct folder_record folder;
	struct roots r;
	int err = load(txn, account, &r);

	if (!err)
		err = state_get_mailbox(txn, account, mailbox, &w.stored);
	if (!err)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (!err)
		w.name = arena_copy(&r.names, folder.name);
	if (!err && from) {
		err = mailbox_get_folder(txn, account, from, &folder);
		if (!err)
			w.from = arena_copy(&r.names, folder.name);
	}
	for (size_t i = 0; i < r.count && !err; i++)
		err = check_row(&w, &r.at[i], mailbox);
	roots_free(&r);
	return err;
}

int quota_check(struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct mailbox_state *now,
	uint32_t from, uint64_t bytes, uint64_t count)
{
	bool has;
	int err = has_rows(txn, account, &has);

	return err || !has ? err : check_rows(txn, account, mailbox, now, from, bytes, count);
}

int store_quota_check(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t bytes, uint64_t count)
{
	struct mailbox_state now;
	int err = state_get_mailbox(txn, account, mailbox, &now);

	return err ? err : quota_check(txn, account, mailbox, &now, 0, bytes, count);
}

int quota_check_mailbox(
	struct store_txn *txn, uint32_t account, const struct account_state *s, struct slice name)
{
	struct roots r;
	bool has;
	int err = has_rows(txn, account, &has);

	if (err || !has)
		return err;
	err = load(txn, account, &r);
	for (size_t i = 0; i < r.count && !err; i++) {
		uint32_t limit = r.at[i].quota.mailboxes_limit, count = s->mailboxes;

		if (!limit || !is_under(name, r.at[i].name))
			continue;
		if (r.at[i].mailbox)
			err = store_quota_count_mailboxes(txn, account, r.at[i].name, &count);
		if (!err && count >= limit)
			err = ERR_TOO_BIG;
	}
	roots_free(&r);
	return err;
}

static bool is_empty(const struct store_quota *q)
{
	return !store_quota_is_root(q) && !q->folder_bytes_limit && !q->folder_count_limit;
}

int store_quota_set(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_quota *limits)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct folder_record folder;
	struct roots r = {0};
	int err = 0;

	if (mailbox)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (err)
		return err;
	db_note(txn, account, 0, 0);
	if (is_empty(limits)) {
		err = db_drop(txn, DB_QUOTA, db_key_view(&key));
		if (!err && mailbox)
			err = db_drop(txn, DB_QUOTA_WARNED, db_key_view(&key));
	} else
		err = put(txn, account, mailbox, limits);
	if (err)
		return err;
	err = load(txn, account, &r);
	if (!err && r.count > STORE_QUOTA_ROOTS_MAX)
		err = db_fail(txn, ERR_TOO_BIG);
	if (!err)
		err = recount(txn, account, &r);
	for (size_t i = 0; i < r.count && !err; i++) {
		if (r.at[i].mailbox == mailbox && mailbox)
			err = put(txn, account, mailbox, &r.at[i].quota);
	}
	if (!err)
		err = tell_inbox(txn, account, &r);
	roots_free(&r);
	return err;
}

/* ---- the repair ---- */

bool quota_is_row(struct slice key, struct slice value, bool is_warned)
{
	struct store_quota q;

	if (is_warned)
		return (key.len == 4 || key.len == 8) && value.len >= 1 && value.p[0] == RECORD &&
		       (value.len - 1) % 9 == 0;
	return key.len == 8 && unpack(value, &q) == 0;
}
