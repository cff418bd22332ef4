/*
 * A name is ACCOUNT or ACCOUNT/FOLDER: the folder begins behind the first slash after the "@" (or the first slash, where there
 * is none). `quota verify` goes through accounts in jobs of some milliseconds, each account in one snapshot. With --repair, too:
 * what has drifted is then counted again, and put right, in one job of the writer.
 */
#include "backend/admin/quota_verbs.h"

#include <stdlib.h>

#include "backend/store/store_account.h"
#include "backend/store/store_quota.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define STEP_MS 5         /* after which a job of the verifier looks at no further account */
#define DRIFTS_A_STEP 200 /* that are shown of one job; all are counted */
#define ROWS_MOST (STORE_QUOTA_ROOTS_MAX + 1)

/* ---- names ---- */

struct target {
	struct store_account account;
	struct slice folder; /* a view of the request; empty: none */
};

static int find_target(struct admin *admin, const char *text, struct target *t)
{
	struct slice name = slice_str(text);
	ptrdiff_t at = slice_find(name, '@'), slash;
	size_t from = at < 0 ? 0 : (size_t)at;

	slash = slice_find(slice_from(name, from), STORE_SEPARATOR);
	*t = (struct target){0};
	if (slash >= 0) {
		t->folder = slice_from(name, from + (size_t)slash + 1);
		name = slice_sub(name, 0, from + (size_t)slash);
	}
	return store_find_account(admin->store, name, &t->account);
}

static const char *words_of(int err)
{
	if (err == ERR_NOT_FOUND)
		return "no such account or folder";
	if (err == ERR_TOO_BIG)
		return "too many folders of this account have limits";
	return error_text(err);
}

static int find_folder(struct store_txn *txn, const struct target *t, uint32_t *mailbox_out)
{
	struct store_mailbox m = {0};
	int err = t->folder.len ? store_mailbox_find(txn, t->account.id, t->folder, &m) : 0;

	*mailbox_out = m.id;
	return err;
}

/* ---- show ---- */

struct row {
	struct store_quota quota;
	uint32_t mailboxes;
	uint64_t folder_bytes, folder_count;
	size_t name_at, name_len;
};

struct show {
	struct admin *admin;
	struct control_request *request;
	struct target target;
	struct store_txn *txn;
	uint32_t mailboxes, mailboxes_limit;
	struct buf names;
	size_t count;
	struct row rows[ROWS_MOST];
};

static int take_row(void *arg, uint32_t mailbox, struct slice name, const struct store_quota *q)
{
	struct show *s = arg;
	struct row *row = &s->rows[s->count];
	struct store_mailbox m;
	int err;

	if (!mailbox) {
		s->mailboxes_limit = q->mailboxes_limit;
		return 0;
	}
	if (s->count == ROWS_MOST || (s->target.folder.len && !slice_is_equal(s->target.folder, name)))
		return 0;
	err = store_mailbox_get(s->txn, s->target.account.id, mailbox, &m);
	if (!err)
		err = store_quota_count_mailboxes(s->txn, s->target.account.id, name, &row->mailboxes);
	if (err)
		return err;
	row->quota = *q;
	row->folder_bytes = m.size;
	row->folder_count = m.messages;
	row->name_at = buf_len(&s->names);
	row->name_len = name.len;
	buf_add_slice(&s->names, name);
	s->count++;
	return 0;
}

static int run_show(struct store_txn *txn, void *arg)
{
	struct show *s = arg;
	uint32_t mailbox;
	int err;

	s->txn = txn;
	err = find_folder(txn, &s->target, &mailbox);
	if (!err)
		err = store_quota_count_mailboxes(txn, s->target.account.id, SLICE_LIT(""), &s->mailboxes);
	return err ? err : store_quota_each(txn, s->target.account.id, take_row, s);
}

static void add_limit(
	struct control_request *r, const char *used_key, uint64_t used, const char *limit_key, uint64_t limit)
{
	control_add_int(r, used_key, (int64_t)used);
	control_add_int(r, limit_key, (int64_t)limit);
}

static void done_show(void *arg, int err)
{
	struct show *s = arg;
	struct control_request *r = s->request;

	for (size_t i = 0; i < s->count && !err; i++) {
		const struct row *row = &s->rows[i];

		control_row(r);
		control_add_slice(r, "folder", slice_sub(buf_view(&s->names), row->name_at, row->name_len));
		add_limit(r, "bytes", row->quota.bytes_used, "bytes_limit", row->quota.bytes_limit);
		add_limit(r, "messages", row->quota.count_used, "messages_limit", row->quota.count_limit);
		add_limit(r, "mailboxes", row->mailboxes, "mailboxes_limit", row->quota.mailboxes_limit);
		add_limit(r, "folder_bytes", row->folder_bytes, "folder_bytes_limit",
			row->quota.folder_bytes_limit);
		add_limit(r, "folder_messages", row->folder_count, "folder_messages_limit",
			row->quota.folder_count_limit);
	}
	if (err) {
		control_fail(r, err, "%s", words_of(err));
	} else {
		const struct store_account *a = &s->target.account;
		const struct store_quota_use use = {
			a->bytes_used, a->bytes_limit, a->count_used, a->count_limit};

		control_result(r);
		control_add_str(r, "account", a->address);
		add_limit(r, "bytes", a->bytes_used, "bytes_limit", a->bytes_limit);
		add_limit(r, "messages", a->count_used, "messages_limit", a->count_limit);
		add_limit(r, "mailboxes", s->mailboxes, "mailboxes_limit", s->mailboxes_limit);
		control_add_int(r, "percent", store_quota_percent(&use));
		control_done(r);
	}
	buf_deinit(&s->names);
	free(s);
}

static void verb_show(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct show *s = xcalloc(1, sizeof(*s));
	const struct store_work_call call = {
		.run = run_show, .done = done_show, .arg = s, .loop = admin->loop};

	s->admin = admin;
	s->request = r;
	if (find_target(admin, control_arg(r, 0), &s->target)) {
		control_fail(r, ERR_NOT_FOUND, "no such account");
		free(s);
		return;
	}
	(void)store_work_read(admin->work, s->target.account.slot, &call);
}

/* ---- set ---- */

struct set {
	struct admin *admin;
	struct control_request *request;
	struct target target;
	struct store_quota limits;
	bool has_bytes, has_count, has_mailboxes, has_folder_bytes, has_folder_count;
};

static int run_set(struct store_txn *txn, void *arg)
{
	const struct set *s = arg;
	struct store_account_record record;
	struct store_quota q = {0};
	uint32_t mailbox;
	int err = find_folder(txn, &s->target, &mailbox);

	if (!err) {
		err = store_quota_get(txn, s->target.account.id, mailbox, &q);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	if (err)
		return err;
	if (!mailbox && (s->has_bytes || s->has_count)) {
		struct store_policy policy;
		const struct store_account_change change = {.policy = &policy};

		err = store_account_get(txn, s->target.account.id, &record);
		if (err)
			return err;
		policy = record.policy;
		if (s->has_bytes)
			policy.bytes_limit = s->limits.bytes_limit;
		if (s->has_count)
			policy.count_limit = s->limits.count_limit;
		policy.says |= (s->has_bytes ? STORE_SAYS_BYTES : 0) | (s->has_count ? STORE_SAYS_COUNT : 0);
		err = store_account_change(txn, s->target.account.id, &change);
		if (err)
			return err;
	} else if (mailbox) {
		q.bytes_limit = s->has_bytes ? s->limits.bytes_limit : q.bytes_limit;
		q.count_limit = s->has_count ? s->limits.count_limit : q.count_limit;
	}
	if (s->has_mailboxes)
		q.mailboxes_limit = s->limits.mailboxes_limit;
	if (s->has_folder_bytes)
		q.folder_bytes_limit = s->limits.folder_bytes_limit;
	if (s->has_folder_count)
		q.folder_count_limit = s->limits.folder_count_limit;
	return mailbox || s->has_mailboxes ? store_quota_set(txn, s->target.account.id, mailbox, &q) : 0;
}

static void done_set(void *arg, int err)
{
	struct set *s = arg;

	if (err) {
		control_fail(s->request, err, "%s", words_of(err));
	} else {
		log_info("backend", "quota set account=%s folder=%.*s", s->target.account.address,
			SLICE_ARG(s->target.folder));
		control_done(s->request);
	}
	free(s);
}

/* "none" is 0. */
static int read_limit(
	struct control_request *r, const char *option, bool is_size, uint64_t *value_out, bool *has_out)
{
	const char *text = control_option(r, option, 0);
	int err = 0;

	*has_out = text != NULL;
	if (text && slice_is_str(slice_str(text), "none"))
		*value_out = 0;
	else if (text)
		err = is_size ? num_parse_size(slice_str(text), value_out)
			      : num_parse_u64(slice_str(text), value_out);
	if (err)
		control_fail(r, ERR_SYNTAX, "--%s wants %s, or none", option,
			is_size ? "a size, such as 500M" : "a number");
	return err;
}

static int read_limits(struct set *s)
{
	struct control_request *r = s->request;
	uint64_t mailboxes = 0;
	int err = read_limit(r, "size", true, &s->limits.bytes_limit, &s->has_bytes);

	if (!err)
		err = read_limit(r, "count", false, &s->limits.count_limit, &s->has_count);
	if (!err)
		err = read_limit(r, "mailboxes", false, &mailboxes, &s->has_mailboxes);
	if (!err)
		err = read_limit(r, "folder-size", true, &s->limits.folder_bytes_limit, &s->has_folder_bytes);
	if (!err)
		err = read_limit(
			r, "folder-count", false, &s->limits.folder_count_limit, &s->has_folder_count);
	s->limits.mailboxes_limit =
		mailboxes > STORE_MAILBOXES_MAX ? STORE_MAILBOXES_MAX : (uint32_t)mailboxes;
	return err;
}

static void verb_set(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct set *s = xcalloc(1, sizeof(*s));
	const struct store_work_call call = {.run = run_set, .done = done_set, .arg = s, .loop = admin->loop};

	s->admin = admin;
	s->request = r;
	if (read_limits(s)) {
		free(s);
		return;
	}
	if (find_target(admin, control_arg(r, 0), &s->target)) {
		control_fail(r, ERR_NOT_FOUND, "no such account");
	} else if (!s->target.folder.len && (s->has_folder_bytes || s->has_folder_count)) {
		control_fail(r, ERR_SYNTAX, "--folder-size and --folder-count want ACCOUNT/FOLDER");
	} else if (!s->has_bytes && !s->has_count && !s->has_mailboxes && !s->has_folder_bytes &&
		   !s->has_folder_count) {
		control_fail(r, ERR_SYNTAX, "which limit?");
	} else {
		(void)store_work_write(admin->work, s->target.account.slot, &call);
		return;
	}
	free(s);
}

/* ---- verify ---- */

struct shown {
	struct store_quota_drift drift;
	size_t name_at, name_len; /* of its folder, in `names` */
};

struct verify {
	struct admin *admin;
	struct control_request *request;
	bool repair;
	bool mends;       /* the next job puts the account at `at` right, whose drift has been seen */
	bool has_drifted; /* the job came to one that is to be put right */
	struct place {
		unsigned slot;
		uint32_t id;
	} * accounts;
	size_t count, room, at, next;
	struct store_txn *txn;
	uint64_t accounts_seen, drift, next_drift;
	size_t shown_count;
	struct shown shown[DRIFTS_A_STEP];
	struct buf names;
};

static void verify_step(void *arg);

static bool collect(void *arg, const struct store_account *account)
{
	struct verify *v = arg;

	if (v->count == v->room) {
		v->room = v->room ? v->room * 2 : 64;
		v->accounts = xreallocarray(v->accounts, v->room, sizeof(*v->accounts));
	}
	v->accounts[v->count++] = (struct place){account->slot, account->id};
	return true;
}

static void take_drift(void *arg, const struct store_quota_drift *drift)
{
	struct verify *v = arg;
	struct shown *s = &v->shown[v->shown_count];
	struct store_mailbox m = {0};

	if (v->shown_count == DRIFTS_A_STEP)
		return;
	if (drift->mailbox && store_mailbox_get(v->txn, drift->account, drift->mailbox, &m))
		m.name = SLICE_LIT("");
	*s = (struct shown){*drift, buf_len(&v->names), m.name.len};
	buf_add_slice(&v->names, m.name);
	v->shown_count++;
}

/* Accounts of one slot, until the time is up. A repair reads them as well, and holds the writer for those alone that are wrong. */
static int run_verify(struct store_txn *txn, void *arg)
{
	struct verify *v = arg;
	uint64_t until = clock_mono_ms() + STEP_MS;
	unsigned slot = v->accounts[v->at].slot;
	int err = 0;

	v->txn = txn;
	v->next = v->at;
	v->next_drift = 0;
	v->shown_count = 0;
	v->has_drifted = false;
	buf_clear(&v->names);
	do {
		size_t shown = v->shown_count, names = buf_len(&v->names);
		uint64_t drift = 0;

		err = store_quota_verify(txn, v->accounts[v->next].id, v->mends, take_drift, v, &drift);
		if (!err && drift && v->repair && !v->mends) { /* told when it is put right */
			v->shown_count = shown;
			buf_cut(&v->names, names);
			v->has_drifted = true;
			return 0;
		}
		if (err == ERR_NOT_FOUND) /* removed meanwhile */
			err = 0;
		v->next_drift += drift;
		v->next++;
	} while (!err && !v->mends && v->next < v->count && v->accounts[v->next].slot == slot &&
		 clock_mono_ms() < until);
	return err;
}

static void end_verify(struct verify *v, int err)
{
	struct control_request *r = v->request;

	control_result(r);
	control_add_int(r, "accounts", (int64_t)v->accounts_seen);
	control_add_int(r, "drift", (int64_t)v->drift);
	control_add_bool(r, "repaired", v->repair && v->drift);
	if (err)
		control_fail(r, err, "%s", error_text(err));
	else if (v->drift && !v->repair)
		control_fail(r, ERR_CORRUPT, "%llu counters are wrong; --repair puts them right",
			(unsigned long long)v->drift);
	else
		control_done(r);
	buf_deinit(&v->names);
	free(v->accounts);
	free(v);
}

static void show_drift(struct verify *v)
{
	struct control_request *r = v->request;

	for (size_t i = 0; i < v->shown_count; i++) {
		const struct shown *s = &v->shown[i];
		struct store_account account = {0};
		const char *address = account.address;

		if (store_get_account(v->admin->store, v->accounts[v->at].slot, s->drift.account, &account))
			address = "";
		control_row(r);
		control_add_str(r, "account", address);
		control_add_str(r, "of",
			!s->drift.mailbox  ? "account"
			: s->drift.is_root ? "root"
					   : "folder");
		control_add_slice(r, "folder", slice_sub(buf_view(&v->names), s->name_at, s->name_len));
		control_add_int(r, "bytes", (int64_t)s->drift.bytes_stored);
		control_add_int(r, "bytes_counted", (int64_t)s->drift.bytes_counted);
		control_add_int(r, "messages", (int64_t)s->drift.count_stored);
		control_add_int(r, "messages_counted", (int64_t)s->drift.count_counted);
		log_error("backend", "quota is wrong account=%s mailbox=%u bytes=%llu counted=%llu%s",
			address, s->drift.mailbox, (unsigned long long)s->drift.bytes_stored,
			(unsigned long long)s->drift.bytes_counted, v->repair ? " (repaired)" : "");
	}
}

static void done_verify(void *arg, int err)
{
	struct verify *v = arg;

	if (err) {
		end_verify(v, err);
		return;
	}
	show_drift(v);
	v->accounts_seen += v->next - v->at;
	v->drift += v->next_drift;
	v->at = v->next;
	v->mends = v->has_drifted;
	control_when_room(v->request, verify_step, v);
}

static void verify_step(void *arg)
{
	struct verify *v = arg;
	const struct store_work_call call = {
		.run = run_verify, .done = done_verify, .arg = v, .loop = v->admin->loop};

	if (v->at == v->count || control_is_gone(v->request))
		end_verify(v, 0);
	else if (v->mends)
		(void)store_work_write(v->admin->work, v->accounts[v->at].slot, &call);
	else
		(void)store_work_read(v->admin->work, v->accounts[v->at].slot, &call);
}

static int by_slot(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->slot != y->slot ? (x->slot < y->slot ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

static int run_collect(struct store_txn *txn, void *arg)
{
	struct verify *v = arg;

	(void)txn;
	store_each_account(v->admin->store, collect, v);
	if (v->count)
		qsort(v->accounts, v->count, sizeof(*v->accounts), by_slot);
	return 0;
}

static void done_collect(void *arg, int err)
{
	if (err)
		end_verify(arg, err);
	else
		verify_step(arg);
}

static void verb_verify(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct verify *v = xcalloc(1, sizeof(*v));
	const struct store_work_call call = {
		.run = run_collect, .done = done_collect, .arg = v, .loop = admin->loop};
	struct store_account account;

	v->admin = admin;
	v->request = r;
	v->repair = control_has_option(r, "repair");
	if (control_arg_count(r) == 0) {
		(void)store_work_read(admin->work, 0, &call);
	} else if (store_find_account(admin->store, slice_str(control_arg(r, 0)), &account)) {
		control_fail(r, ERR_NOT_FOUND, "no such account");
		free(v);
	} else {
		(void)collect(v, &account);
		verify_step(v);
	}
}

static const struct control_verb verbs[] = {
	{"quota show", "ACCOUNT[/FOLDER]", "Use and limits of an account and of its folders that have some",
		verb_show, 1, 1, NULL, 0},
	{"quota set",
		"ACCOUNT[/FOLDER] [--size SIZE] [--count N] [--mailboxes N] [--folder-size SIZE] "
		"[--folder-count N]",
		"Limits of the account, or of the folder and all below it, or of the folder alone; none "
		"takes one away",
		verb_set, 1, 1, "size= count= mailboxes= folder-size= folder-count=", 0},
	{"quota verify", "[ACCOUNT] [--repair]",
		"Counts all messages anew, and says which counters are wrong: there should be none",
		verb_verify, 0, 1, "repair", 0},
};

void quota_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
