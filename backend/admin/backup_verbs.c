#include "backend/admin/backup_verbs.h"

#include <stdlib.h>

#include "backend/admin/accounts_ensure.h"
#include "backend/admin/backup_names.h"
#include "backend/admin/sessions.h"
#include "backend/store/store_account.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/num.h"

struct job {
	struct work work;
	struct admin *admin;
	struct control_request *request;
	struct backup_io io;
	struct backup_names names;
	struct store_account account; /* of an export */
	struct slice address;         /* of an import: a view of the request's */
	bool replaces;                /* of an import; of a hold: it ends */
	unsigned slot;
	int err;
	struct buf why;
	struct store_export_totals exported;
	struct store_import_totals imported;
};

static struct job *job_new(struct admin *admin, struct control_request *r)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->admin = admin;
	j->request = r;
	backup_io_init(&j->io, admin->backups, control_take_fd(r));
	backup_names_init(&j->names, admin);
	return j;
}

static void job_free(struct job *j)
{
	backup_io_deinit(&j->io);
	backup_names_drop(&j->names);
	accounts_ensure_again(j->admin);
	buf_deinit(&j->why);
	free(j);
}

static void fail(struct job *j, int err, const char *words)
{
	control_fail(j->request, err, "%s", words);
	job_free(j);
}

static void submit(struct job *j, loop_fn *run, void (*done)(void *job, int err))
{
	j->work = (struct work){.run = run, .done = done, .job = j};
	if (work_submit(j->admin->backups->pool, j->admin->loop, &j->work))
		fail(j, ERR_NOT_NOW, "as many transfers run as may; try later");
}

static void count(struct job *j, uint64_t messages, uint64_t bytes)
{
	metric_add(j->admin->backups->m_messages, (int64_t)messages);
	metric_add(j->admin->backups->m_bytes, (int64_t)bytes);
}

/* Deleted messages that account undelete can bring back: they went along. */
static void add_kept(struct job *j, uint64_t messages, uint64_t bytes)
{
	control_add_int(j->request, "kept", (int64_t)messages);
	control_add_int(j->request, "kept_bytes", (int64_t)bytes);
}

/* ---- export ---- */

static void run_export(void *arg)
{
	struct job *j = arg;
	struct stream_writer w = {.write = backup_io_write, .arg = &j->io};
	const struct store_export_options o = {.store = j->admin->store,
		.slot = j->account.slot,
		.account = j->account.id,
		.hold = backup_io_hold,
		.arg = &j->io,
		.record = stream_write,
		.record_arg = &w,
		.is_cancelled = backup_io_is_cancelled};

	metric_add(j->admin->backups->m_running, 1);
	j->io.slot = j->account.slot;
	j->err = stream_write_head(&w);
	if (!j->err)
		j->err = store_export(&o, &j->exported);
	if (!j->err)
		j->err = stream_write_end(&w);
	if (!j->err)
		j->err = backup_io_sync(&j->io);
	stream_writer_deinit(&w);
	backup_io_deinit(&j->io); /* the pipe's reader sees the end */
	metric_add(j->admin->backups->m_running, -1);
}

static void done_export(void *arg, int err)
{
	struct job *j = arg;

	err = err ? err : j->err;
	if (err) {
		fail(j, err == ERR_CLOSED ? ERR_IO : err,
			err == ERR_CLOSED ? "the reader of the pipe has gone" : error_text(err));
		return;
	}
	log_info("backup", "exported account=%s modseq=%llu messages=%llu bytes=%llu", j->account.address,
		(unsigned long long)j->exported.modseq, (unsigned long long)j->exported.messages,
		(unsigned long long)j->exported.bytes);
	count(j, j->exported.messages, j->exported.bytes);
	control_add_str(j->request, "account", j->account.address);
	control_add_int(j->request, "mailboxes", (int64_t)j->exported.mailboxes);
	control_add_int(j->request, "messages", (int64_t)j->exported.messages);
	control_add_int(j->request, "bytes", (int64_t)j->exported.bytes);
	control_add_int(j->request, "modseq", (int64_t)j->exported.modseq);
	add_kept(j, j->exported.kept, j->exported.kept_bytes);
	control_done(j->request);
	job_free(j);
}

static void verb_export(void *arg, struct control_request *r)
{
	struct job *j = job_new(arg, r);

	if (store_find_account(j->admin->store, slice_str(control_arg(r, 0)), &j->account)) {
		fail(j, ERR_NOT_FOUND, "no such account");
		return;
	}
	submit(j, run_export, done_export);
}

/* ---- import ---- */

static void run_import(void *arg)
{
	struct job *j = arg;
	const struct store_import_options o = {.store = j->admin->store,
		.slot = j->slot,
		.address = j->address,
		.replaces = j->replaces,
		.write = backup_io_store,
		.write_arg = &j->io,
		.may_name = backup_names_may,
		.claim = backup_names_claim,
		.names_arg = &j->names};
	struct store_import *m = store_import_new(&o);
	struct stream_reader r = {.read = backup_io_read, .arg = &j->io};

	metric_add(j->admin->backups->m_running, 1);
	j->err = stream_read_all(&r, store_import_record, m, &j->why);
	if (!j->err)
		j->err = store_import_finish(m, &j->imported);
	if (j->err && store_import_why(m)[0]) {
		buf_clear(&j->why);
		buf_printf(&j->why, "%s (byte %llu of the stream)", store_import_why(m),
			(unsigned long long)r.at);
	}
	store_import_free(&m);
	backup_names_drop(&j->names);
	stream_reader_deinit(&r);
	metric_add(j->admin->backups->m_running, -1);
}

static void forget_old(struct job *j)
{
	if (j->imported.old_account)
		store_work_forget(j->admin->work, j->imported.old_slot, j->imported.old_account);
}

static void done_import(void *arg, int err)
{
	struct job *j = arg;

	forget_old(j);
	err = err ? err : j->err;
	if (err) {
		/* Bad input is the operator's affair (1, 64), not our own damage (70). */
		fail(j, err == ERR_CORRUPT ? ERR_DENIED : err,
			buf_len(&j->why) ? buf_str_view(&j->why) : error_text(err));
		return;
	}
	if (j->replaces) /* whose sessions hold the one that was */
		sessions_recheck(j->admin);
	log_info("backup", "imported account=%s slot=%u messages=%llu bytes=%llu", j->imported.address,
		j->slot, (unsigned long long)j->imported.messages, (unsigned long long)j->imported.bytes);
	count(j, j->imported.messages, j->imported.bytes);
	control_add_str(j->request, "account", j->imported.address);
	control_add_int(j->request, "slot", j->slot);
	control_add_int(j->request, "mailboxes", (int64_t)j->imported.mailboxes);
	control_add_int(j->request, "messages", (int64_t)j->imported.messages);
	control_add_int(j->request, "bytes", (int64_t)j->imported.bytes);
	add_kept(j, j->imported.kept, j->imported.kept_bytes);
	control_done(j->request);
	job_free(j);
}

/* --slot N; else that with the fewest accounts. */
static int read_slot(struct control_request *r, struct store *store, unsigned *slot_out)
{
	const char *text = control_option(r, "slot", 0);
	uint64_t slot;

	if (!text) {
		*slot_out = store_account_choose_slot(store);
		return 0;
	}
	if (num_parse_u64(slice_str(text), &slot) || slot >= store_slots(store))
		return ERR_SYNTAX;
	*slot_out = (unsigned)slot;
	return 0;
}

static void verb_import(void *arg, struct control_request *r)
{
	struct job *j = job_new(arg, r);
	const char *as = control_option(r, "as", 0);

	j->address = slice_str(as ? as : "");
	j->replaces = control_has_option(r, "replace");
	if (read_slot(r, j->admin->store, &j->slot)) {
		fail(j, ERR_SYNTAX, "--slot: there is no such slot");
		return;
	}
	submit(j, run_import, done_import);
}

/* ---- move ---- */

/* Straight from one slot into the other: records are given on, not written. */
static int copy(struct job *j)
{
	const struct store_import_options to = {.store = j->admin->store,
		.slot = j->slot,
		.replaces = true,
		.write = backup_io_store,
		.write_arg = &j->io,
		.may_name = backup_names_may,
		.claim = backup_names_claim,
		.names_arg = &j->names};
	struct store_import *m = store_import_new(&to);
	const struct store_export_options from = {.store = j->admin->store,
		.slot = j->account.slot,
		.account = j->account.id,
		.hold = backup_io_hold,
		.arg = &j->io,
		.record = store_import_record,
		.record_arg = m,
		.is_cancelled = backup_io_is_cancelled};
	int err = store_export(&from, &j->exported);

	if (!err)
		err = store_import_finish(m, &j->imported);
	if (err && store_import_why(m)[0])
		buf_add_str(&j->why, store_import_why(m));
	store_import_free(&m);
	backup_names_drop(&j->names);
	return err;
}

/* What the verb found when it was given. */
static bool is_still_here(struct job *j)
{
	struct store_account now;

	return store_find_account(j->admin->store, slice_str(j->account.address), &now) == 0 &&
	       now.slot == j->account.slot && now.id == j->account.id;
}

static void run_move(void *arg)
{
	struct job *j = arg;
	struct store_account now;

	metric_add(j->admin->backups->m_running, 1);
	j->io.slot = j->account.slot;
	j->err = store_account_hold(j->admin->store, j->account.slot, j->account.id);
	if (!j->err && !is_still_here(j)) { /* it waited for its turn */
		(void)!store_account_release(j->admin->store, j->account.slot, j->account.id);
		buf_add_str(&j->why, "the account was moved or removed meanwhile");
		j->err = ERR_NOT_NOW;
	} else if (!j->err) {
		j->err = copy(j);
		/* If it is visible there, nothing is added to the old one any more: its hold ends with its last row, or, if
		 * it is not yet removed, when the next start ends the move. */
		if (j->err && (store_find_account(j->admin->store, slice_str(j->account.address), &now) ||
				      now.slot == j->account.slot))
			(void)!store_account_release(j->admin->store, j->account.slot, j->account.id);
	}
	backup_io_release(&j->io);
	metric_add(j->admin->backups->m_running, -1);
}

static void done_move(void *arg, int err)
{
	struct job *j = arg;

	forget_old(j);
	err = err ? err : j->err;
	if (err) {
		fail(j, err == ERR_EXISTS && !buf_len(&j->why) ? ERR_NOT_NOW : err,
			buf_len(&j->why)    ? buf_str_view(&j->why)
			: err == ERR_EXISTS ? "the account is held already"
					    : error_text(err));
		return;
	}
	sessions_recheck(j->admin);
	log_info("backup", "moved account=%s from=%u to=%u messages=%llu", j->imported.address,
		j->account.slot, j->slot, (unsigned long long)j->imported.messages);
	count(j, j->imported.messages, j->imported.bytes);
	control_add_str(j->request, "account", j->imported.address);
	control_add_int(j->request, "from", j->account.slot);
	control_add_int(j->request, "to", j->slot);
	control_add_int(j->request, "messages", (int64_t)j->imported.messages);
	control_add_int(j->request, "bytes", (int64_t)j->imported.bytes);
	add_kept(j, j->imported.kept, j->imported.kept_bytes);
	control_done(j->request);
	job_free(j);
}

static void verb_move(void *arg, struct control_request *r)
{
	struct job *j = job_new(arg, r);

	if (store_find_account(j->admin->store, slice_str(control_arg(r, 0)), &j->account)) {
		fail(j, ERR_NOT_FOUND, "no such account");
		return;
	}
	if (!control_option(r, "slot", 0)) {
		fail(j, ERR_SYNTAX, "where to? --slot N says it");
		return;
	}
	if (read_slot(r, j->admin->store, &j->slot)) {
		fail(j, ERR_SYNTAX, "--slot: there is no such slot");
		return;
	}
	if (j->slot == j->account.slot) {
		fail(j, ERR_DENIED, "the account is in that slot");
		return;
	}
	submit(j, run_move, done_move);
}

/* ---- hold ---- */

/* On a thread: it waits for the slot's present transaction. */
static void run_hold(void *arg)
{
	struct job *j = arg;

	j->err = j->replaces ? store_account_release(j->admin->store, j->account.slot, j->account.id)
			     : store_account_hold(j->admin->store, j->account.slot, j->account.id);
}

static void done_hold(void *arg, int err)
{
	struct job *j = arg;

	err = err ? err : j->err;
	if (err) {
		fail(j, err,
			err == ERR_TOO_BIG     ? "as many accounts are held as may"
			: err == ERR_EXISTS    ? "the account is held already"
			: err == ERR_NOT_FOUND ? "the account is not held"
					       : error_text(err));
		return;
	}
	control_add_str(j->request, "account", j->account.address);
	control_done(j->request);
	job_free(j);
}

static void change_hold(struct admin *admin, struct control_request *r, bool releases)
{
	struct job *j = job_new(admin, r);

	j->replaces = releases;
	if (store_find_account(admin->store, slice_str(control_arg(r, 0)), &j->account))
		fail(j, ERR_NOT_FOUND, "no such account");
	else
		submit(j, run_hold, done_hold);
}

static void verb_hold(void *arg, struct control_request *r)
{
	change_hold(arg, r, false);
}

static void verb_release(void *arg, struct control_request *r)
{
	change_hold(arg, r, true);
}

static const struct control_verb verbs[] = {
	{"account move", "ADDRESS --slot N", "Moves an account into another slot of this store, as it is",
		verb_move, 1, 1, "slot=", 0},
	{"account hold", "ADDRESS",
		"Nothing changes in the account until it is released: mail for it waits at the senders",
		verb_hold, 1, 1, NULL, 0},
	{"account release", "ADDRESS", "Ends a hold", verb_release, 1, 1, NULL, 0},
	{"store export", "ACCOUNT [FILE|-]",
		"Writes an account as a stream to a new file or to standard output, while it is in use",
		verb_export, 1, 2, NULL, CONTROL_TAKES_OUT},
	{"store import", "[FILE|-] [--as ADDRESS] [--replace] [--slot N]",
		"Makes an account of such a stream, as it was, under its own name or another", verb_import, 0,
		1, "as= replace slot=", CONTROL_TAKES_IN},
};

void backup_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
