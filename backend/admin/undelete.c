/*
 * Both verbs go through an account's kept messages in steps, one job each: a listing reads, and shows what a step found before
 * the next begins; an undelete writes, and counts what a step did when it is on disk.
 */
#include "backend/admin/undelete.h"

#include <stdlib.h>
#include <time.h>

#include "backend/store/store_kept.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define ROWS_SHOWN 200   /* a step of a listing */
#define ROWS_WRITTEN 100 /* a step of an undelete: within the writer's 5 ms */

struct shown {
	struct store_kept kept;
	size_t name_at; /* in `names` */
};

struct undelete {
	struct admin *admin;
	struct control_request *request;
	struct store_account account;
	struct store_kept_filter filter;
	struct buf mailbox; /* the filter's */
	bool is_listing, is_done;
	struct store_kept_at at;
	/* What a step makes; taken over when it is done. */
	struct store_kept_at next;
	struct store_undeleted sum, next_sum;
	struct shown rows[ROWS_SHOWN];
	size_t row_count;
	struct buf names;
	uint64_t messages, bytes;
};

static void free_undelete(struct undelete *u)
{
	buf_deinit(&u->mailbox);
	buf_deinit(&u->names);
	free(u);
}

static void begin_step(struct undelete *u);

/* ---- listing ---- */

static void take_row(void *arg, const struct store_kept *kept)
{
	struct undelete *u = arg;

	u->rows[u->row_count++] = (struct shown){*kept, buf_len(&u->names)};
	buf_add_slice(&u->names, kept->name);
}

static int run_list(struct store_txn *txn, void *arg)
{
	struct undelete *u = arg;

	u->row_count = 0;
	buf_clear(&u->names);
	u->next = u->at;
	return store_kept_list(
		txn, u->account.id, &u->filter, &u->next, ROWS_SHOWN, take_row, u, &u->is_done);
}

static void end_list(struct undelete *u)
{
	struct control_request *r = u->request;

	control_result(r);
	control_add_str(r, "account", u->account.address);
	control_add_int(r, "messages", (int64_t)u->messages);
	control_add_int(r, "bytes", (int64_t)u->bytes);
	control_done(r);
	free_undelete(u);
}

static void next_step(void *arg)
{
	struct undelete *u = arg;

	if (u->is_done || control_is_gone(u->request))
		end_list(u);
	else
		begin_step(u);
}

static void done_list(void *arg, int err)
{
	struct undelete *u = arg;
	struct control_request *r = u->request;

	if (err) {
		control_fail(r, err, "%s", error_text(err));
		free_undelete(u);
		return;
	}
	for (size_t i = 0; i < u->row_count; i++) {
		const struct store_kept *k = &u->rows[i].kept;

		control_row(r);
		control_add_slice(
			r, "mailbox", slice_sub(buf_view(&u->names), u->rows[i].name_at, k->name.len));
		control_add_bool(r, "mailbox_gone", k->is_gone);
		control_add_int(r, "uid", k->uid);
		control_add_int(r, "bytes", (int64_t)k->size);
		control_add_time(r, "deleted", k->deleted);
		u->messages++;
		u->bytes += k->size;
	}
	u->at = u->next;
	control_when_room(r, next_step, u);
}

/* ---- undelete ---- */

static int run_undelete(struct store_txn *txn, void *arg)
{
	struct undelete *u = arg;

	/* May come again for the same step: from where the last one was committed. */
	u->next = u->at;
	u->next_sum = u->sum;
	return store_kept_undelete(
		txn, u->account.id, &u->filter, &u->next, ROWS_WRITTEN, &u->next_sum, &u->is_done);
}

static void add_sum(struct undelete *u)
{
	struct control_request *r = u->request;

	control_add_str(r, "account", u->account.address);
	control_add_int(r, "messages", (int64_t)u->sum.messages);
	control_add_int(r, "bytes", (int64_t)u->sum.bytes);
	control_add_int(r, "over_quota", (int64_t)u->sum.over_quota);
	control_add_int(r, "lost", (int64_t)u->sum.lost);
}

static void done_undelete(void *arg, int err)
{
	struct undelete *u = arg;

	if (!err) {
		u->at = u->next;
		u->sum = u->next_sum;
		if (!u->is_done) {
			begin_step(u);
			return;
		}
	}
	add_sum(u);
	if (u->sum.messages)
		log_info("backend", "messages undeleted account=%s messages=%llu bytes=%llu",
			u->account.address, (unsigned long long)u->sum.messages,
			(unsigned long long)u->sum.bytes);
	if (err)
		control_fail(u->request, err, "ended early: %s", error_text(err));
	else if (u->sum.over_quota)
		control_fail(u->request, ERR_TOO_BIG, "the quota has no room for %llu of them",
			(unsigned long long)u->sum.over_quota);
	else if (u->sum.lost)
		control_fail(u->request, ERR_CORRUPT, "%llu of them are damaged: store check tells more",
			(unsigned long long)u->sum.lost);
	else
		control_done(u->request);
	free_undelete(u);
}

static void begin_step(struct undelete *u)
{
	const struct store_work_call call = {.run = u->is_listing ? run_list : run_undelete,
		.done = u->is_listing ? done_list : done_undelete,
		.arg = u,
		.loop = u->admin->loop,
		.name = "account deleted"};

	if (u->is_listing)
		(void)store_work_read(u->admin->work, u->account.slot, &call);
	else
		(void)store_work_write(u->admin->work, u->account.slot, &call);
}

/* ---- arguments ---- */

/* "3h" ago, "2026-11-27" or "2026-11-27T10:30:00" (UTC), or seconds since 1970 as `account deleted` shows them. */
static int read_since(const char *text, int64_t *since_out)
{
	static const char *const forms[] = {
		"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
	uint64_t n;

	if (num_parse_u64(slice_str(text), &n) == 0 && n > 100000000 && n < UINT32_MAX) {
		*since_out = (int64_t)n;
		return 0;
	}
	if (num_parse_duration(slice_str(text), &n) == 0) {
		*since_out = clock_wall_s() - (int64_t)(n / 1000);
		if (*since_out < 0)
			*since_out = 0;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		struct tm tm = {0};
		const char *end = strptime(text, forms[i], &tm);

		if (end && !*end) {
			*since_out = timegm(&tm);
			return *since_out >= 0 && *since_out < UINT32_MAX ? 0 : ERR_SYNTAX;
		}
	}
	return ERR_SYNTAX;
}

static int read_mailbox(struct undelete *u, const char *name)
{
	struct arena arena;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(slice_str(name), &arena, &stored);
	if (!err)
		buf_add_slice(&u->mailbox, stored);
	u->filter.mailbox = buf_view(&u->mailbox);
	arena_deinit(&arena);
	return err;
}

static void start(struct admin *admin, struct control_request *r, bool is_listing)
{
	struct undelete *u = xcalloc(1, sizeof(*u));
	const char *since = control_option(r, "since", 0), *mailbox = control_option(r, "mailbox", 0);
	const char *words = NULL;
	int err = store_find_account(admin->store, slice_str(control_arg(r, 0)), &u->account);

	u->admin = admin;
	u->request = r;
	u->is_listing = is_listing;
	if (err)
		words = "no such account";
	else if (since && (err = read_since(since, &u->filter.since)))
		words = "--since is a time that has passed (3h, 2d) or a date (2026-11-27, "
			"2026-11-27T10:30:00, UTC)";
	else if (u->filter.since > clock_wall_s() && (err = ERR_SYNTAX))
		words = "--since lies in the future (dates are UTC)";
	else if (mailbox && (err = read_mailbox(u, mailbox)))
		words = "this cannot be the name of a mailbox";
	if (words) {
		control_fail(r, err, "%s", words);
		free_undelete(u);
		return;
	}
	begin_step(u);
}

static void verb_deleted(void *arg, struct control_request *r)
{
	start(arg, r, true);
}

static void verb_undelete(void *arg, struct control_request *r)
{
	start(arg, r, control_has_option(r, "dry-run"));
}

static const struct control_verb verbs[] = {
	{"account deleted", "ADDRESS [--mailbox NAME] [--since TIME]",
		"Deleted messages that can be brought back", verb_deleted, 1, 1, "mailbox= since=", 0},
	{"account undelete", "ADDRESS [--mailbox NAME] [--since TIME] [--dry-run]",
		"Brings deleted messages back, with new UIDs", verb_undelete, 1, 1, "mailbox= since= dry-run",
		0},
};

void undelete_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
