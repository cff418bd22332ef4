/*
 * A worker reads and checks the whole file. Then the main loop hands out batches, BATCHES_A_SLOT to each slot at a time: names are
 * claimed, places in domains promised, passwords in clear hashed on a worker, and one write job makes the batch. A batch that fails is
 * done again row by row, so that one row fails alone. What is there already is passed over (or updated), so an import that was
 * interrupted goes on when it is run again.
 *
 * Fault points: import-amid-batch, import-after-batch.
 */
#include "backend/admin/account_import.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/admin/accounts.h"
#include "backend/admin/accounts_ensure.h"
#include "backend/admin/claims.h"
#include "backend/admin/import_rows.h"
#include "backend/admin/sessions.h"
#include "backend/store/store_account.h"
#include "common/auth/password.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/secret.h"

/* Accounts of one transaction: what the writer does in less than its 5 ms. */
#define BATCH_ROWS 100
#define BATCH_NAMES 300 /* addresses and aliases of them; one account may have more */
#define BATCHES_A_SLOT 2
#define ERRORS_SHOWN 1000
/* How long a pipe may give nothing. */
#define WAIT_MOST_MS 60000
#define WAIT_STEP_MS 200
#define PROGRESS_MS 500
#define ROWS_A_TURN 500
#define BATCH_ARENA_MOST (4 * 1024 * 1024)

struct import_error {
	unsigned line;
	struct slice address; /* the rows' */
	char why[120];
};

struct import {
	struct admin *admin;
	struct control_request *request;
	int fd;         /* the client's file or pipe; -1: taken back */
	char name[100]; /* for the operator */
	char *text;     /* the file; owned */
	size_t len;
	struct import_check check;
	struct import_rows rows;
	bool is_dry, updates, goes_on;
	struct work work;
	int err; /* why it ends before its end */
	char why[200];
	struct import_error errors[ERRORS_SHOWN];
	size_t error_count, errors_shown;
	/* main loop */
	size_t next; /* row */
	struct batch *filling[STORE_SLOTS_MAX];
	unsigned busy; /* batches under way */
	unsigned turn;
	bool is_posted; /* pump_later() will come */
	size_t made, updated, present, failed, done;
	uint64_t began_ms, told_ms;
};

struct batch {
	struct import *import;
	unsigned slot;
	struct import_row *rows[BATCH_ROWS];
	uint32_t accounts[BATCH_ROWS]; /* of those that are there */
	bool is_reserved[BATCH_ROWS];
	bool is_bad[BATCH_ROWS];
	size_t count, names;
	size_t only; /* BATCH_ROWS: all; else this row alone */
	struct arena arena;
	struct claims claims;
	struct work work;
};

static bool is_running;        /* one at a time; main loop */
static _Atomic bool is_ending; /* the program */

/* ---- the file, on a worker ---- */

static void note_error(struct import *m, unsigned line, struct slice address, const char *why)
{
	if (m->error_count < ERRORS_SHOWN) {
		struct import_error *e = &m->errors[m->error_count];

		e->line = line;
		e->address = address;
		snprintf(e->why, sizeof(e->why), "%s", why);
	}
	m->error_count++;
}

static void report(void *arg, unsigned line, struct slice address, const char *why)
{
	note_error(arg, line, address, why);
}

/* More of the file: octets, 0 at its end, or an error. It may be a pipe that is slow. */
static ssize_t read_more(const struct import *m, char *to, size_t most)
{
	struct pollfd p = {.fd = m->fd, .events = POLLIN};

	for (unsigned waited = 0; waited < WAIT_MOST_MS && !is_ending; waited += WAIT_STEP_MS) {
		ssize_t n;
		int ready = poll(&p, 1, WAIT_STEP_MS);

		if (ready == 0 || (ready < 0 && errno == EINTR))
			continue;
		n = ready < 0 ? -1 : read(m->fd, to, most);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n < 0 ? ERR_IO : n;
	}
	return ERR_TIMEOUT;
}

static int read_file(struct import *m)
{
	size_t room = 0;
	ssize_t n;

	do {
		if (m->len == IMPORT_FILE_MAX) {
			snprintf(m->why, sizeof(m->why), "it is larger than %u MiB", IMPORT_FILE_MAX >> 20);
			return ERR_TOO_BIG;
		}
		if (m->len == room) {
			char *text = xmalloc((room = room ? room * 2 : 1024 * 1024));

			if (m->len) {
				memcpy(text, m->text, m->len);
				secret_wipe(m->text, m->len);
			}
			free(m->text);
			m->text = text;
		}
		n = read_more(m, m->text + m->len, room - m->len);
		m->len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	if (n < 0)
		snprintf(m->why, sizeof(m->why), "%s",
			n == ERR_TIMEOUT ? "nothing came for too long" : "it cannot be read to its end");
	return (int)n;
}

static void run_read(void *arg)
{
	struct import *m = arg;
	const char *why = "";
	int err = read_file(m);

	if (!err && (err = import_rows_read(slice_of(m->text, m->len), &m->check, &m->rows, &why)))
		snprintf(m->why, sizeof(m->why), "%s", why);
	m->err = err;
}

/* ---- the end ---- */

static void run_wipe(void *arg)
{
	struct import *m = arg;

	if (m->text)
		secret_wipe(m->text, m->len);
	free(m->text);
	if (m->fd >= 0)
		close(m->fd);
	import_rows_free(&m->rows);
}

static void done_wipe(void *arg, int err)
{
	if (err)
		run_wipe(arg);
	free(arg);
}

/* Wiping hundreds of megabytes is nothing for the loop. */
static void import_free(struct import *m)
{
	is_running = false;
	m->work = (struct work){.run = run_wipe, .done = done_wipe, .job = m};
	if (work_submit(m->admin->import_pool, m->admin->loop, &m->work))
		done_wipe(m, ERR_CANCELLED);
}

static void show_errors(struct import *m)
{
	for (; m->errors_shown < m->error_count && m->errors_shown < ERRORS_SHOWN; m->errors_shown++) {
		const struct import_error *e = &m->errors[m->errors_shown];

		control_row(m->request);
		control_add_int(m->request, "line", e->line);
		control_add_slice(m->request, "address", e->address);
		control_add_str(m->request, "error", e->why);
	}
}

static void finish(struct import *m)
{
	struct control_request *r = m->request;

	show_errors(m);
	if (m->updated)
		sessions_recheck(m->admin);
	if (m->made || m->updated)
		log_info("backend", "accounts imported made=%zu updated=%zu errors=%zu", m->made, m->updated,
			m->error_count);
	if (m->err) {
		control_fail(r, m->err, "%s; %zu accounts were made, %zu updated: run it again to go on",
			m->why, m->made, m->updated);
		import_free(m);
		return;
	}
	control_result(r);
	control_add_int(r, "made", (int64_t)m->made);
	control_add_int(r, "updated", (int64_t)m->updated);
	control_add_int(r, "present", (int64_t)m->present);
	control_add_int(r, "errors", (int64_t)m->error_count);
	control_add_int(r, "passed_over", (int64_t)m->rows.passed_over);
	control_add_int(r, "milliseconds", (int64_t)(clock_mono_ms() - m->began_ms));
	control_done(r);
	import_free(m);
}

/* ---- one batch ---- */

static struct batch *batch_new(struct import *m, unsigned slot)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	b->import = m;
	b->slot = slot;
	b->only = BATCH_ROWS;
	arena_init(&b->arena, BATCH_ARENA_MOST);
	b->claims.arena = &b->arena;
	return b;
}

static int create_row(struct store_txn *txn, const struct import_row *row)
{
	const struct store_account_new new = {.address = row->address,
		.password = row->password,
		.policy = row->policy,
		.flags = row->flags_set,
		.class = row->class,
		.name = row->name,
		.forwards = row->forwards};
	uint32_t account;
	int err = store_account_create(txn, &new, &account);

	for (size_t i = 0; !err && i < row->alias_count; i++)
		err = store_account_add_alias(txn, account, row->aliases[i]);
	return err;
}

/* Aliases are added, never taken away; what the row does not say stays. */
static int update_row(struct store_txn *txn, const struct import_row *row, uint32_t account)
{
	struct store_account_record now;
	struct store_policy policy;
	uint32_t flags;
	const struct store_account_change change = {
		.policy = &policy,
		.flags = &flags,
		.password = row->password.len ? &row->password : NULL,
		.class = row->class.len ? &row->class : NULL,
		.name = row->name.len ? &row->name : NULL,
		.forwards = row->sets_forwards ? &row->forwards : NULL,
	};
	int err = store_account_get(txn, account, &now);

	if (err)
		return err;
	policy = now.policy;
	policy.says |= row->policy.says;
	if (row->policy.says & STORE_SAYS_BYTES)
		policy.bytes_limit = row->policy.bytes_limit;
	if (row->policy.says & STORE_SAYS_COUNT)
		policy.count_limit = row->policy.count_limit;
	flags = (now.flags & ~row->flags_cleared) | row->flags_set;
	err = store_account_change(txn, account, &change);
	for (size_t i = 0; !err && i < row->alias_count; i++) {
		err = store_account_add_alias(txn, account, row->aliases[i]);
		if (err == ERR_EXISTS)
			err = 0; /* claimed, and checked to be nobody else's */
	}
	return err;
}

static int run_batch(struct store_txn *txn, void *arg)
{
	struct batch *b = arg;
	int err = 0;

	for (size_t i = 0; i < b->count && !err; i++) {
		if (b->is_bad[i] || (b->only != BATCH_ROWS && b->only != i))
			continue;
		err = b->rows[i]->state == IMPORT_NEW ? create_row(txn, b->rows[i])
						      : update_row(txn, b->rows[i], b->accounts[i]);
		FAULT("import-amid-batch");
	}
	return err;
}

static void pump(struct import *m);

static void stop(struct import *m, int err, const char *why)
{
	if (m->err)
		return;
	m->err = err;
	snprintf(m->why, sizeof(m->why), "%s", why);
}

static void count_row(struct import *m, const struct import_row *row)
{
	if (row->state == IMPORT_NEW)
		m->made++;
	else
		m->updated++;
}

static void bad_row(struct batch *b, size_t i, const char *why)
{
	b->is_bad[i] = true;
	b->import->failed++;
	note_error(b->import, b->rows[i]->line, b->rows[i]->address, why);
}

static void tell_progress(struct import *m, bool is_last)
{
	uint64_t now = clock_mono_ms(), spent = now - m->began_ms;
	size_t total = m->rows.count, rate = spent ? m->done * 1000 / spent : 0;

	if (!is_last && now < m->told_ms + PROGRESS_MS)
		return;
	m->told_ms = now;
	show_errors(m);
	control_progress(m->request, "%zu of %zu lines, %zu made, %zu errors, %zu/s, %zu s left", m->done,
		total, m->made, m->error_count, rate, rate ? (total - m->done) / rate : 0);
}

static void batch_end(struct batch *b)
{
	struct import *m = b->import;

	for (size_t i = 0; i < b->count; i++)
		if (b->is_reserved[i])
			store_domain_release(m->admin->store, b->rows[i]->address);
	m->done += b->count;
	claims_drop(&b->claims);
	accounts_ensure_again(m->admin);
	arena_wipe(&b->arena);
	arena_deinit(&b->arena);
	free(b);
	m->busy--;
	tell_progress(m, false);
	pump(m);
}

static void done_batch(void *arg, int err);

static void write_batch(struct batch *b)
{
	const struct store_work_call call = {
		.run = run_batch, .done = done_batch, .arg = b, .loop = b->import->admin->loop};

	(void)store_work_write(b->import->admin->work, b->slot, &call);
}

/* The next row by itself, or the end. */
static void next_single(struct batch *b)
{
	while (b->only < b->count && b->is_bad[b->only])
		b->only++;
	if (b->only < b->count && !b->import->err)
		write_batch(b);
	else
		batch_end(b);
}

static void done_batch(void *arg, int err)
{
	struct batch *b = arg;
	struct import *m = b->import;
	bool is_single = b->only != BATCH_ROWS;

	FAULT("import-after-batch");
	if (err == ERR_FULL || err == ERR_NOT_NOW || err == ERR_IO || err == ERR_CORRUPT) {
		stop(m, err, err == ERR_FULL ? "the disk is full" : error_text(err));
		batch_end(b);
		return;
	}
	if (is_single) {
		if (err)
			bad_row(b, b->only,
				err == ERR_EXISTS ? "an address of it has just been taken" : error_text(err));
		else
			count_row(m, b->rows[b->only]);
		b->only++;
		next_single(b);
		return;
	}
	if (err) {
		b->only = 0;
		next_single(b);
		return;
	}
	for (size_t i = 0; i < b->count; i++)
		if (!b->is_bad[i])
			count_row(m, b->rows[i]);
	batch_end(b);
}

static void run_hashes(void *arg)
{
	struct batch *b = arg;

	for (size_t i = 0; i < b->count; i++) {
		struct import_row *row = b->rows[i];
		struct buf stored = {0};

		if (!row->is_clear || b->is_bad[i])
			continue;
		if (password_make(NULL, row->password, &stored) == 0) {
			row->password = arena_copy(&b->arena, buf_view(&stored));
			row->is_clear = !row->password.p;
		}
		if (stored.data)
			secret_wipe(stored.data, stored.cap);
		buf_deinit(&stored);
	}
}

static void done_hashes(void *arg, int err)
{
	struct batch *b = arg;

	for (size_t i = 0; i < b->count; i++) {
		if (b->is_bad[i] || !b->rows[i]->is_clear)
			continue;
		if (err) {
			stop(b->import, ERR_NOT_NOW, "the program ends");
			batch_end(b);
			return;
		}
		bad_row(b, i, "the password cannot be hashed");
	}
	write_batch(b);
}

static void send_batch(struct batch *b)
{
	struct import *m = b->import;
	bool has_clear = false;

	for (size_t i = 0; i < b->count; i++)
		has_clear |= b->rows[i]->is_clear && !b->is_bad[i];
	m->busy++;
	if (!has_clear) {
		write_batch(b);
		return;
	}
	b->work = (struct work){.run = run_hashes, .done = done_hashes, .job = b};
	if (work_submit(m->admin->import_pool, m->admin->loop, &b->work)) {
		stop(m, ERR_NOT_NOW, "the program ends");
		batch_end(b);
	}
}

/* ---- handing out ---- */

/* Claims and promises of one row; NULL: it is in the batch. */
static const char *take_names(struct batch *b, const struct import_row *row, bool *is_reserved_out)
{
	struct admin *admin = b->import->admin;
	int err = claims_take(&b->claims, row->address);

	for (size_t i = 0; i < row->alias_count && !err; i++)
		err = claims_take(&b->claims, row->aliases[i]);
	if (err)
		return "another verb is changing an address of it, run it again";
	if (row->state != IMPORT_NEW)
		return NULL;
	err = store_domain_reserve(admin->store, row->address, admin->domains_must_exist);
	*is_reserved_out = !err;
	return err ? accounts_domain_words(err) : NULL;
}

/* As it is now: between the check and now others may have made or removed it. False: it is passed over. */
static bool look_again(struct import *m, struct import_row *row, struct store_account *account_out)
{
	int err = store_find_account(m->admin->store, row->address, account_out);

	row->state = err ? IMPORT_NEW : IMPORT_PRESENT;
	if (!err && slice_is_str(row->address, account_out->address) && m->updates)
		return true;
	m->present += !err;
	return err != 0;
}

static void hand_out(struct import *m, struct import_row *row)
{
	struct store_account account = {0};
	unsigned slot;
	struct batch *b;
	const char *why;
	size_t i;

	if (row->state == IMPORT_WRONG || !look_again(m, row, &account)) {
		m->done++;
		return;
	}
	slot = row->state == IMPORT_NEW ? m->turn++ / BATCH_ROWS % store_slots(m->admin->store)
					: account.slot;
	if (!m->filling[slot])
		m->filling[slot] = batch_new(m, slot);
	b = m->filling[slot];
	i = b->count++;
	b->rows[i] = row;
	b->accounts[i] = account.id;
	why = take_names(b, row, &b->is_reserved[i]);
	if (why)
		bad_row(b, i, why);
	b->names += 1 + row->alias_count;
	if (b->count == BATCH_ROWS || b->names >= BATCH_NAMES) {
		m->filling[slot] = NULL;
		send_batch(b);
	}
}

/* Sends what is not full: the rows have ended, or nothing else is under way. */
static void send_rest(struct import *m)
{
	for (unsigned slot = 0; slot < STORE_SLOTS_MAX; slot++) {
		struct batch *b = m->filling[slot];

		m->filling[slot] = NULL;
		if (!b)
			continue;
		if (m->err) {
			m->busy++;
			batch_end(b);
		} else {
			send_batch(b);
		}
	}
}

static void pump_later(void *arg)
{
	struct import *m = arg;

	m->is_posted = false;
	m->busy--;
	pump(m);
}

static bool has_rest(const struct import *m)
{
	for (unsigned slot = 0; slot < STORE_SLOTS_MAX; slot++)
		if (m->filling[slot])
			return true;
	return false;
}

/* It counts as busy itself: what it calls may come back here, and the last one ends the import. */
static void pump(struct import *m)
{
	unsigned most = BATCHES_A_SLOT * store_slots(m->admin->store);

	m->busy++;
	if (m->admin->is_leaving || m->admin->is_draining)
		stop(m, ERR_NOT_NOW, "the program ends");
	if (control_is_gone(m->request))
		stop(m, ERR_CANCELLED, "the client has gone");
	for (unsigned i = 0; !m->err && m->busy <= most && m->next < m->rows.count && i < ROWS_A_TURN; i++)
		hand_out(m, &m->rows.rows[m->next++]);
	if (m->err || m->next == m->rows.count) {
		send_rest(m);
	} else if (m->busy <= most && !m->is_posted) {
		m->is_posted = true;
		m->busy++;
		loop_post(m->admin->loop, pump_later, m);
	}
	m->busy--;
	if (m->busy == 0 && (m->err || m->next == m->rows.count) && !has_rest(m))
		finish(m);
}

static void start_pump(void *arg)
{
	pump(arg);
}

/* ---- the verb ---- */

static void done_read(void *arg, int err)
{
	struct import *m = arg;
	const struct import_rows *rows = &m->rows;

	if (err || m->err) {
		control_fail(m->request, err ? ERR_NOT_NOW : m->err, "%s: %s", m->name,
			err ? "the program ends" : m->why);
		import_free(m);
		return;
	}
	show_errors(m);
	if (rows->wrong_count && !m->goes_on) {
		control_fail(m->request, ERR_CONFIG,
			"%zu of %zu lines are wrong, nothing was done; --continue-on-error does the others",
			rows->wrong_count, rows->count);
		import_free(m);
		return;
	}
	if (m->is_dry) {
		control_result(m->request);
		control_add_int(m->request, "would_make", (int64_t)rows->new_count);
		control_add_int(
			m->request, m->updates ? "would_update" : "present", (int64_t)rows->present_count);
		control_add_int(m->request, "would_hash", (int64_t)rows->clear_count);
		control_add_int(m->request, "errors", (int64_t)m->error_count);
		control_add_int(m->request, "passed_over", (int64_t)rows->passed_over);
		control_done(m->request);
		import_free(m);
		return;
	}
	m->began_ms = clock_mono_ms();
	loop_post(m->admin->loop, start_pump, m);
}

static bool read_format(struct import *m, struct control_request *r)
{
	const char *format = control_option(r, "format", 0);
	size_t len = strlen(control_arg(r, 0));

	if (!format)
		format = len > 5 && strcmp(control_arg(r, 0) + len - 5, ".ldif") == 0 ? "ldif" : "csv";
	m->check.format = strcmp(format, "ldif") == 0 ? IMPORT_LDIF : IMPORT_CSV;
	return m->check.format == IMPORT_LDIF || strcmp(format, "csv") == 0;
}

static void account_import(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	const char *name = control_arg(r, 0);
	struct import *m;

	if (is_running) {
		control_fail(r, ERR_NOT_NOW, "an import runs already");
		return;
	}
	m = xcalloc(1, sizeof(*m));
	is_running = true;
	m->admin = admin;
	m->request = r;
	m->fd = control_take_fd(r);
	snprintf(
		m->name, sizeof(m->name), "%s", !name[0] || strcmp(name, "-") == 0 ? "standard input" : name);
	m->is_dry = control_has_option(r, "dry-run");
	m->updates = control_has_option(r, "update");
	m->goes_on = control_has_option(r, "continue-on-error");
	m->check = (struct import_check){.store = admin->store,
		.domains_must_exist = admin->domains_must_exist,
		.report = report,
		.arg = m};
	if (!read_format(m, r)) {
		control_fail(r, ERR_SYNTAX, "--format is csv or ldif");
		import_free(m);
		return;
	}
	m->work = (struct work){.run = run_read, .done = done_read, .job = m};
	if (work_submit(admin->import_pool, admin->loop, &m->work)) {
		control_fail(r, ERR_NOT_NOW, "the program ends");
		import_free(m);
	}
}

void account_import_end(void)
{
	is_ending = true;
}

static const struct control_verb verbs[] = {
	{"account import", "[FILE] [--format csv|ldif] [--dry-run] [--update] [--continue-on-error]",
		"Makes many accounts from a file, or from standard input", account_import, 0, 1,
		"format= dry-run update continue-on-error", CONTROL_TAKES_IN},
};

void account_import_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
