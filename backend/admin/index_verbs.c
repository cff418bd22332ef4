/*
 * A status reads all segments of an account, so it runs on the operator's worker thread; a rebuild is the indexer's, and
 * is only asked for here.
 */
#include "backend/admin/index_verbs.h"

#include <stdlib.h>

#include "backend/search/search_build.h"
#include "backend/search/search_check.h"
#include "backend/store/store_mailbox.h"
#include "backend/store/store_text.h"
#include "common/base/mem.h"
#include "common/proto/address.h"

/* All are counted. */
#define FINDINGS_SHOWN 1000

struct row {
	struct slice name; /* the arena's */
	struct search_build_status status;
};

struct job {
	struct work work;
	struct admin *admin;
	struct control_request *request;
	struct store_account account;
	struct arena arena;
	struct row *rows;
	size_t count;
	struct search_check check;
	char *findings[FINDINGS_SHOWN];
	size_t finding_count;
	int error;
};

static int find_account(struct admin *admin, const char *text, struct store_account *account_out)
{
	struct address_name name;
	struct arena arena;
	int err;

	arena_init(&arena, 8 * 1024);
	err = address_normalise_whole(&arena, slice_str(text), &name);
	if (err == 0)
		err = store_find_account(admin->store, name.full, account_out);
	arena_deinit(&arena);
	return err;
}

static void job_free(struct job *j)
{
	for (size_t i = 0; i < j->finding_count; i++)
		free(j->findings[i]);
	arena_deinit(&j->arena);
	free(j->rows);
	free(j);
}

/* ---- status of an account ---- */

static int list_mailboxes(struct job *j, struct store_mailbox **list_out, size_t *count_out)
{
	struct store_txn *txn;
	int err = store_begin_read(j->admin->store, j->account.slot, &txn);

	if (err == 0)
		err = store_mailbox_list(txn, j->account.id, &j->arena, list_out, count_out);
	store_end_read(&txn);
	return err;
}

static void run_status(void *arg)
{
	struct job *j = arg;
	struct store_mailbox *list;
	size_t count = 0;

	j->error = list_mailboxes(j, &list, &count);
	j->rows = xcalloc(count + 1, sizeof(*j->rows));
	for (size_t i = 0; i < count && j->error == 0; i++) {
		struct row *row = &j->rows[j->count];
		int err;

		if (!list[i].id || list[i].noselect)
			continue;
		err = search_build_status(
			j->admin->store, j->account.slot, j->account.id, list[i].id, &row->status);
		row->name = list[i].name;
		if (err == 0)
			j->count++;
		else if (err != ERR_NOT_FOUND)
			j->error = err;
	}
}

static void done_status(void *arg, int err)
{
	struct job *j = arg;
	struct control_request *r = j->request;

	for (size_t i = 0; i < j->count; i++) {
		const struct search_build_status *s = &j->rows[i].status;

		control_row(r);
		control_add_slice(r, "mailbox", j->rows[i].name);
		control_add_int(r, "messages", s->messages);
		control_add_int(r, "indexed", s->covered);
		control_add_int(r, "segments", s->segments);
		control_add_int(r, "index_bytes", (int64_t)s->index.octets);
		control_add_int(r, "text_bytes", (int64_t)s->index.text);
	}
	if (err || j->error)
		control_fail(r, err ? err : j->error, "%s", error_text(err ? err : j->error));
	else
		control_done(r);
	job_free(j);
}

static void show_all(struct admin *admin, struct control_request *r)
{
	struct search_worker_stat stat = {0};

	if (admin->indexer)
		search_worker_stat(admin->indexer, &stat);
	control_add_bool(r, "on", admin->indexer != NULL);
	control_add_bool(r, "idle", admin->indexer && search_worker_is_idle(admin->indexer));
	control_add_bool(r, "full", stat.is_full);
	control_add_int(r, "index_bytes", (int64_t)store_text_size(admin->store));
	control_add_int(r, "indexed", (int64_t)stat.indexed);
	control_add_int(r, "left_out", (int64_t)stat.left_out);
	control_add_int(r, "segments", (int64_t)stat.segments);
	control_add_int(r, "mailboxes_waiting", (int64_t)stat.waiting);
	control_add_int(r, "failed", (int64_t)stat.failed);
	control_done(r);
}

/* Of the account that is the first argument. */
static void submit(struct admin *admin, struct control_request *r, loop_fn *run, void (*done)(void *, int))
{
	struct job *j = xcalloc(1, sizeof(*j));

	arena_init(&j->arena, 0);
	j->admin = admin;
	j->request = r;
	j->work = (struct work){.run = run, .done = done, .job = j};
	if (!admin->indexer) {
		control_fail(r, ERR_UNSUPPORTED, "there is no text index (text-index = false)");
		job_free(j);
	} else if (find_account(admin, control_arg(r, 0), &j->account) < 0) {
		control_fail(r, ERR_NOT_FOUND, "no such account");
		job_free(j);
	} else if (work_submit(admin->operator_pool, admin->loop, &j->work)) {
		control_fail(r, ERR_NOT_NOW, "others of these run already");
		job_free(j);
	}
}

static void verb_status(void *arg, struct control_request *r)
{
	if (control_arg_count(r) == 0)
		show_all(arg, r);
	else
		submit(arg, r, run_status, done_status);
}

/* ---- check ---- */

static void keep_finding(void *arg, const char *text)
{
	struct job *j = arg;

	if (j->finding_count < FINDINGS_SHOWN)
		j->findings[j->finding_count++] = xstrdup(text);
}

static void run_check(void *arg)
{
	struct job *j = arg;

	j->error = search_check_account(
		j->admin->store, j->account.slot, j->account.id, keep_finding, j, &j->check);
}

static void done_check(void *arg, int err)
{
	struct job *j = arg;
	struct control_request *r = j->request;

	for (size_t i = 0; i < j->finding_count; i++) {
		control_row(r);
		control_add_str(r, "finding", j->findings[i]);
	}
	control_result(r);
	control_add_int(r, "messages", (int64_t)j->check.messages);
	control_add_int(r, "segments", (int64_t)j->check.segments);
	control_add_int(r, "index_bytes", (int64_t)j->check.octets);
	control_add_int(r, "errors", (int64_t)j->check.errors);
	if (err || j->error)
		control_fail(r, err ? err : j->error, "%s", error_text(err ? err : j->error));
	else if (j->check.errors)
		control_fail(r, ERR_CORRUPT, "%llu errors", (unsigned long long)j->check.errors);
	else
		control_done(r);
	job_free(j);
}

static void verb_check(void *arg, struct control_request *r)
{
	submit(arg, r, run_check, done_check);
}

/* ---- rebuild ---- */

static void verb_rebuild(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct store_account account = {.id = 0};
	bool is_all = control_has_option(r, "all");

	if (is_all == (control_arg_count(r) > 0)) {
		control_fail(r, ERR_SYNTAX, "either an account or --all");
	} else if (!admin->indexer) {
		control_fail(r, ERR_UNSUPPORTED, "there is no text index (text-index = false)");
	} else if (!is_all && find_account(admin, control_arg(r, 0), &account) < 0) {
		control_fail(r, ERR_NOT_FOUND, "no such account");
	} else {
		search_worker_rebuild(admin->indexer, account.slot, account.id);
		control_done(r);
	}
}

static const struct control_verb verbs[] = {
	{"index status", "[ACCOUNT]", "What the text index has, of all or of each mailbox of an account",
		verb_status, 0, 1, NULL, 0},
	{"index check", "ACCOUNT", "Proves the text index of an account against its messages", verb_check, 1,
		1, NULL, 0},
	{"index rebuild", "ACCOUNT | --all",
		"Deletes the text index of an account, or all of it, and makes it anew; mail can be searched "
		"meanwhile",
		verb_rebuild, 0, 1, "all", 0},
};

void index_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
