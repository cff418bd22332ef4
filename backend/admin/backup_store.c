#include "backend/admin/backup_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backend/admin/accounts_ensure.h"
#include "backend/admin/backup_dir.h"
#include "backend/admin/backup_names.h"
#include "backend/admin/domain_dump.h"
#include "backend/store/store_account.h"
#include "backend/store/store_restore.h"
#include "backend/store/store_restore_others.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/proto/address.h"

/* Rows of an answer, and names of one request. */
#define ROWS_MAX 100000
#define NAMES_MAX 200
#define KEEP_DEFAULT 14

struct row {
	struct store_stream_account account; /* address: owned */
	struct backup_state state;
	char *text; /* a failure, or NULL */
};

struct job {
	struct work work;
	struct admin *admin;
	struct control_request *request;
	struct backup_io io;
	struct backup_names naming;
	struct backup_dir *dir;
	char *path;
	const char *names[NAMES_MAX]; /* of the request */
	size_t name_count;
	const char *mailbox, *as;
	bool all;
	struct table *restored; /* digests of accounts that restore --all has made; owned */
	int64_t before;
	unsigned keep;
	uint64_t rate;
	/* results */
	int err;
	struct buf why;
	struct row *rows;
	size_t row_count, row_room;
	char domains[64]; /* the newest state of domains and classes, below the backup; "": none */
	uint64_t domain_states;
	uint64_t accounts, saved, unchanged, gone, failed, states, bodies, bytes, messages, present, removed;
	char address[STORE_ADDRESS_MAX + 1];
};

static void job_free(struct job *j)
{
	for (size_t i = 0; i < j->row_count; i++) {
		free(j->rows[i].text);
		free((char *)(uintptr_t)j->rows[i].account.address.p);
	}
	free(j->rows);
	free(j->path);
	buf_deinit(&j->why);
	backup_io_deinit(&j->io);
	backup_names_drop(&j->naming);
	accounts_ensure_again(j->admin);
	free(j);
}

static struct row *add_row(struct job *j, struct slice address)
{
	if (j->row_count == ROWS_MAX)
		return NULL;
	if (j->row_count == j->row_room)
		j->rows = xreallocarray(
			j->rows, j->row_room = j->row_room ? j->row_room * 2 : 64, sizeof(*j->rows));
	j->rows[j->row_count] =
		(struct row){.account.address = slice_of(xmemdup0(address.p, address.len), address.len)};
	return &j->rows[j->row_count++];
}

static void add_failure(struct job *j, struct slice address, const char *text)
{
	struct row *row = add_row(j, address);

	j->failed++;
	if (row)
		row->text = xstrdup(text);
}

/* ---- saving ---- */

static void save_one(struct job *j, const struct store_account *a)
{
	int err = backup_dir_save(j->dir, &j->io, a, j->keep);

	j->accounts++;
	if (!err)
		j->saved++;
	else if (err == ERR_EXISTS)
		j->unchanged++;
	else if (err == ERR_NOT_FOUND)
		j->gone++; /* removed meanwhile */
	else
		add_failure(j, slice_str(a->address), error_text(err));
	if (err == ERR_FULL || err == ERR_CANCELLED)
		j->err = err; /* the others would fare no better */
}

static bool save_each(void *arg, const struct store_account *a)
{
	struct job *j = arg;

	if (backup_io_is_cancelled(&j->io))
		j->err = ERR_CANCELLED;
	if (!j->err)
		save_one(j, a);
	return !j->err;
}

static int note_domains(void *arg, const struct backup_state *s)
{
	struct job *j = arg;

	j->domain_states++;
	snprintf(j->domains, sizeof(j->domains), "domains/%s", s->name);
	return 0;
}

static int save_domains(struct job *j)
{
	struct buf commands = {0};
	int err = domain_dump_commands(j->admin->store, &commands);

	if (!err)
		err = backup_dir_save_domains(j->dir, buf_view(&commands), j->keep);
	buf_deinit(&commands);
	if (err && err != ERR_EXISTS)
		return err;
	return backup_dir_each_domains(j->dir, note_domains, j);
}

static void run_backup(void *arg)
{
	struct job *j = arg;
	struct store *store = j->admin->store;

	metric_add(j->admin->backups->m_running, 1);
	j->err = backup_dir_open(j->path, true, &j->dir, &j->why);
	if (!j->err) {
		backup_dir_set_rate(j->dir, j->rate);
		if (j->name_count == 0)
			j->err = save_domains(j);
		if (j->name_count == 0 && !j->err)
			store_each_account(store, save_each, j);
		for (size_t i = 0; i < j->name_count && !j->err; i++) {
			struct store_account a;

			if (store_find_account(store, slice_str(j->names[i]), &a))
				add_failure(j, slice_str(j->names[i]), "no such account");
			else
				save_one(j, &a);
		}
		backup_pack_written(backup_dir_pack(j->dir), &j->bodies, &j->bytes);
	}
	backup_dir_close(&j->dir);
	metric_add(j->admin->backups->m_running, -1);
}

/* ---- reading: list, verify, prune ---- */

struct look {
	struct job *job;
	struct row *row;      /* list */
	struct table *seen;   /* verify: bodies that were proved */
	uint8_t *used;        /* prune */
	struct slice address; /* of the state at hand, owned */
	char *room;
};

static int take_account(void *arg, uint16_t tag, struct slice payload)
{
	struct look *l = arg;
	struct store_stream_account a;
	int err = tag == STREAM_ACCOUNT ? store_stream_account(payload, &a) : ERR_CORRUPT;

	if (err)
		return err;
	l->row = add_row(l->job, a.address);
	if (!l->row)
		return ERR_TOO_BIG;
	a.address = l->row->account.address;
	l->row->account = a;
	return ERR_CANCELLED; /* that is all */
}

static int list_state(void *arg, const struct backup_state *s)
{
	struct look *l = arg;
	struct buf why = {0};
	int err = backup_dir_read(l->job->dir, s, take_account, l, &why);

	buf_deinit(&why);
	if (err != ERR_CANCELLED)
		return err ? err : ERR_CORRUPT;
	l->row->state = *s;
	return 0;
}

static int prove_body(struct look *l, const struct store_stream_body *b)
{
	struct store_source source;
	char *key;
	int err = b->is_kept ? backup_pack_source(
				       backup_dir_pack(l->job->dir), b->body, b->size, b->sum, &source)
			     : ERR_CORRUPT;

	if (!l->room)
		l->room = xmalloc(STORE_FRAME_SIZE);
	for (uint64_t at = 0; !err && at < b->size;) {
		ssize_t n = source.read(source.arg, at, l->room, STORE_FRAME_SIZE);

		if (n <= 0)
			err = n < 0 ? (int)n : ERR_CORRUPT;
		else
			at += (uint64_t)n;
	}
	if (err)
		return err;
	l->job->bodies++;
	l->job->bytes += b->size;
	key = xmalloc(8);
	memcpy(key, &b->body, 8);
	table_put(l->seen, slice_of(key, 8), key);
	return 0;
}

static int verify_record(void *arg, uint16_t tag, struct slice payload)
{
	struct look *l = arg;
	struct store_stream_account a;
	struct store_stream_body b;
	int err = 0;

	if (tag == STREAM_ACCOUNT) {
		err = store_stream_account(payload, &a);
		if (!err)
			l->address = slice_of(xmemdup0(a.address.p, a.address.len), a.address.len);
	} else {
		err = store_stream_body(tag, payload, &b);
		l->job->messages += tag == STREAM_MESSAGE;
		if (err == ERR_NOT_FOUND)
			err = 0;
		else if (!err && !table_get(l->seen, slice_of(&b.body, 8)))
			err = prove_body(l, &b);
	}
	return backup_io_is_cancelled(&l->job->io) ? ERR_CANCELLED : err;
}

static int verify_state(void *arg, const struct backup_state *s)
{
	struct look *l = arg;
	struct buf why = {0}, text = {0};
	int err = backup_dir_read(l->job->dir, s, verify_record, l, &why);

	l->job->states++;
	if (err && err != ERR_CANCELLED) {
		buf_printf(&text, "accounts/%s/%s: %s", s->digest, s->name,
			buf_len(&why) ? buf_str_view(&why) : error_text(err));
		add_failure(l->job, l->address, buf_str_view(&text));
		err = 0;
	}
	free((char *)(uintptr_t)l->address.p);
	l->address = slice_of(NULL, 0);
	buf_deinit(&why);
	buf_deinit(&text);
	return err;
}

static int verify_domains(void *arg, const struct backup_state *s)
{
	struct job *j = arg;
	struct buf text = {0};
	int err = backup_dir_verify_domains(j->dir, s);

	if (err) {
		buf_printf(&text, "domains/%s: %s", s->name, error_text(err));
		add_failure(j, slice_of("", 0), buf_str_view(&text));
		buf_deinit(&text);
	}
	return note_domains(j, s);
}

static int note_used(void *arg, uint16_t tag, struct slice payload)
{
	struct look *l = arg;
	struct store_stream_body b;
	int err = store_stream_body(tag, payload, &b);

	if (!err && b.is_kept)
		l->used[backup_pack_number(b.body) / 8] |= (uint8_t)(1u << backup_pack_number(b.body) % 8);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int prune_state(void *arg, const struct backup_state *s)
{
	struct look *l = arg;
	struct buf why = {0};
	int err = backup_dir_read(l->job->dir, s, note_used, l, &why);

	l->job->states++;
	if (err && !buf_len(&l->job->why))
		buf_printf(&l->job->why, "accounts/%s/%s: %s; nothing was removed", s->digest, s->name,
			buf_len(&why) ? buf_str_view(&why) : error_text(err));
	buf_deinit(&why);
	return err;
}

static void run_look(
	struct job *j, bool writes, backup_state_fn *fn, backup_state_fn *domains_fn, bool prunes)
{
	struct look l = {.job = j, .seen = table_new()};
	struct slice key;
	void *value;
	unsigned removed = 0;

	j->err = backup_dir_open(j->path, writes, &j->dir, &j->why);
	if (prunes)
		l.used = xcalloc(BACKUP_PACKS_MAX / 8, 1);
	if (!j->err)
		j->err = backup_dir_each_domains(j->dir, domains_fn, j);
	if (!j->err)
		j->err = backup_dir_each(j->dir, fn, &l);
	if (!j->err && prunes)
		j->err = backup_pack_remove_unused(backup_dir_pack(j->dir), l.used, &removed);
	j->removed = removed;
	backup_dir_close(&j->dir);
	for (size_t at = 0; table_next(l.seen, &at, &key, &value);)
		free(value);
	table_free(&l.seen);
	free(l.used);
	free(l.room);
}

static void run_list(void *arg)
{
	run_look(arg, false, list_state, note_domains, false);
}

static void run_verify(void *arg)
{
	run_look(arg, false, verify_state, verify_domains, false);
}

static void run_prune(void *arg)
{
	run_look(arg, true, prune_state, note_domains, true);
}

/* ---- restoring ---- */

static int restore_account(struct job *j, const struct backup_state *s, struct slice address)
{
	const struct store_import_options o = {.store = j->admin->store,
		.slot = store_account_choose_slot(j->admin->store),
		.address = address,
		.is_restore = true,
		.write = backup_io_store,
		.write_arg = &j->io,
		.kept = backup_pack_source,
		.kept_arg = backup_dir_pack(j->dir),
		.may_name = backup_names_may,
		.claim = backup_names_claim,
		.names_arg = &j->naming};
	struct store_import *m = store_import_new(&o);
	struct store_import_totals totals;
	int err = backup_dir_read(j->dir, s, store_import_record, m, &j->why);

	if (!err)
		err = store_import_finish(m, &totals);
	if (err && store_import_why(m)[0]) {
		buf_clear(&j->why);
		buf_add_str(&j->why, store_import_why(m));
	}
	if (!err) {
		j->accounts++;
		j->messages += totals.messages;
		j->bytes += totals.bytes;
		memcpy(j->address, totals.address, sizeof(j->address));
		log_info("backup", "restored account=%s messages=%llu", totals.address,
			(unsigned long long)totals.messages);
	}
	store_import_free(&m);
	backup_names_drop(&j->naming);
	return err;
}

static int restore_mailbox(struct job *j, const struct backup_state *s)
{
	struct store_account a;
	struct store_restore_options o = {.store = j->admin->store,
		.write = backup_io_store,
		.write_arg = &j->io,
		.kept = backup_pack_source,
		.kept_arg = backup_dir_pack(j->dir)};
	struct store_restore_totals totals = {0};
	struct store_restore *r;
	struct arena arena;
	int err;

	if (store_find_account(j->admin->store, slice_str(j->names[0]), &a)) {
		buf_add_str(&j->why, "the account is not here: restore it whole");
		return ERR_NOT_FOUND;
	}
	arena_init(&arena, 0);
	err = store_mailbox_normalise(slice_str(j->mailbox), &arena, &o.from);
	if (!err)
		err = store_mailbox_normalise(slice_str(j->as ? j->as : j->mailbox), &arena, &o.to);
	if (err) {
		buf_add_str(&j->why, "that is no name of a mailbox");
		arena_deinit(&arena);
		return err;
	}
	o.slot = a.slot;
	o.account = a.id;
	r = store_restore_new(&o);
	err = backup_dir_read(j->dir, s, store_restore_record, r, &j->why);
	if (!err)
		err = store_restore_finish(r, &totals);
	store_restore_free(&r);
	arena_deinit(&arena);
	j->messages = totals.restored;
	j->bytes = totals.bytes;
	j->present = totals.present;
	if (!err && !totals.is_found) {
		buf_add_str(&j->why, "the backup has no such mailbox");
		err = ERR_NOT_FOUND;
	}
	return err;
}

/* The account's name in the backup: an alias that is here leads to it, but an address that is nobody's stands for itself. */
static int find_state(struct job *j, struct backup_state *s)
{
	struct store_account a;
	struct address_name name;
	struct arena arena;
	struct slice address = slice_str(j->names[0]);
	int err = 0;

	arena_init(&arena, 0);
	if (store_find_account(j->admin->store, address, &a) == 0)
		address = slice_str(a.address);
	else if (address_normalise_whole(&arena, address, &name) == 0)
		address = name.full;
	err = backup_dir_find(j->dir, address, j->before, s);
	arena_deinit(&arena);
	if (err == ERR_NOT_FOUND)
		buf_add_str(&j->why, j->before ? "the backup has no such account at that time"
					       : "the backup has no such account");
	return err;
}

static int restore_newest(void *arg, const struct backup_state *s)
{
	struct job *j = arg;
	int err;

	if (!s->is_newest)
		return 0;
	if (backup_io_is_cancelled(&j->io))
		return ERR_CANCELLED;
	err = restore_account(j, s, slice_of(NULL, 0));
	if (!err) {
		char *digest = xstrdup(s->digest);

		table_put(j->restored, slice_str(digest), digest);
	} else if (err == ERR_EXISTS) {
		j->present++;
	} else if (err) {
		struct buf text = {0};

		buf_printf(&text, "accounts/%s/%s: %s", s->digest, s->name,
			buf_len(&j->why) ? buf_str_view(&j->why) : error_text(err));
		add_failure(j, slice_of("", 0), buf_str_view(&text));
		buf_deinit(&text);
	}
	buf_clear(&j->why);
	return err == ERR_FULL || err == ERR_CANCELLED ? err : 0;
}

/* What its users have in mailboxes of others: they may have come after those. */
static int restore_others(void *arg, const struct backup_state *s)
{
	struct job *j = arg;
	struct store_restore_others *others;
	struct buf why = {0};
	int err;

	if (!s->is_newest || !table_get(j->restored, slice_str(s->digest)))
		return 0;
	others = store_restore_others_new(j->admin->store, backup_io_store, &j->io);
	err = backup_dir_read(j->dir, s, store_restore_others_record, others, &why);
	store_restore_others_free(&others);
	buf_deinit(&why);
	return err == ERR_CANCELLED ? 0 : err;
}

static int restore_all(struct job *j)
{
	struct slice key;
	void *value;
	int err;

	j->restored = table_new();
	err = backup_dir_each(j->dir, restore_newest, j);
	if (!err)
		err = backup_dir_each(j->dir, restore_others, j);
	for (size_t at = 0; table_next(j->restored, &at, &key, &value);)
		free(value);
	table_free(&j->restored);
	return err;
}

static void run_restore(void *arg)
{
	struct job *j = arg;
	struct backup_state s;

	metric_add(j->admin->backups->m_running, 1);
	j->err = backup_dir_open(j->path, false, &j->dir, &j->why);
	if (!j->err && j->all) {
		j->err = restore_all(j);
	} else if (!j->err) {
		j->err = find_state(j, &s);
		if (!j->err)
			j->err = j->mailbox ? restore_mailbox(j, &s)
					    : restore_account(j, &s, slice_str(j->as ? j->as : ""));
	}
	backup_dir_close(&j->dir);
	metric_add(j->admin->backups->m_running, -1);
}

/* ---- answers ---- */

static void put_time(struct control_request *r, const char *key, int64_t time)
{
	char text[32];
	time_t t = (time_t)time;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	control_add_str(r, key, text);
}

static void put_rows(struct job *j)
{
	for (size_t i = 0; i < j->row_count; i++) {
		const struct row *row = &j->rows[i];

		control_row(j->request);
		control_add_slice(j->request, "account", row->account.address);
		if (row->text) {
			control_add_str(j->request, "failure", row->text);
			continue;
		}
		put_time(j->request, "time", row->state.time);
		control_add_int(j->request, "mailboxes", row->account.mailboxes);
		control_add_int(j->request, "messages", (int64_t)row->account.messages);
		control_add_int(j->request, "bytes", (int64_t)row->account.bytes);
		control_add_str(j->request, "folder", row->state.digest);
	}
	control_result(j->request);
}

struct figure {
	const char *name;
	size_t at;
};
#define FIGURE(member)                                                                                       \
	{                                                                                                    \
#member, offsetof(struct job, member)                                                        \
	}
static const struct figure backup_figures[] = {FIGURE(accounts), FIGURE(saved), FIGURE(unchanged),
	FIGURE(gone), FIGURE(failed), FIGURE(bodies), FIGURE(bytes)};
static const struct figure list_figures[] = {{NULL, 0}};
static const struct figure verify_figures[] = {FIGURE(states), FIGURE(domain_states), FIGURE(messages),
	FIGURE(bodies), FIGURE(bytes), FIGURE(failed)};
static const struct figure prune_figures[] = {FIGURE(states), FIGURE(removed)};
static const struct figure restore_figures[] = {
	FIGURE(accounts), FIGURE(messages), FIGURE(bytes), FIGURE(present), FIGURE(failed)};

static void answer(struct job *j, int err, const char *what, const struct figure *figures, size_t count)
{
	struct control_request *r = j->request;

	err = err ? err : j->err;
	put_rows(j);
	for (size_t i = 0; i < count && figures[i].name; i++)
		control_add_int(r, figures[i].name,
			(int64_t) * (const uint64_t *)(const void *)((const char *)j + figures[i].at));
	if (j->domains[0])
		control_add_str(r, "domains", j->domains);
	if (j->address[0] && !j->all)
		control_add_str(r, "account", j->address);
	metric_add(j->admin->backups->m_messages, (int64_t)j->messages);
	metric_add(j->admin->backups->m_bytes, (int64_t)j->bytes);
	if (err)
		control_fail(r, err, "%s", buf_len(&j->why) ? buf_str_view(&j->why) : error_text(err));
	else if (j->failed)
		control_fail(r, ERR_CORRUPT, "%s: %llu failures", what, (unsigned long long)j->failed);
	else
		control_done(r);
	job_free(j);
}

static void done_backup(void *arg, int err)
{
	struct job *j = arg;

	log_info("backup",
		"backup dir=%s accounts=%llu saved=%llu unchanged=%llu failed=%llu bodies=%llu bytes=%llu",
		j->path, (unsigned long long)j->accounts, (unsigned long long)j->saved,
		(unsigned long long)j->unchanged, (unsigned long long)j->failed,
		(unsigned long long)j->bodies, (unsigned long long)j->bytes);
	if (!err && !j->err && !j->failed && !j->name_count)
		metric_set(metrics_gauge("mailtier_backup_last_success_seconds", NULL,
				   "When the last backup of all accounts ended well, in seconds since 1970"),
			(int64_t)time(NULL));
	answer(j, err, "backup", backup_figures, ARRAY_LEN(backup_figures));
}

static void done_list(void *arg, int err)
{
	answer(arg, err, "list", list_figures, ARRAY_LEN(list_figures));
}

static void done_verify(void *arg, int err)
{
	answer(arg, err, "verify", verify_figures, ARRAY_LEN(verify_figures));
}

static void done_prune(void *arg, int err)
{
	answer(arg, err, "prune", prune_figures, ARRAY_LEN(prune_figures));
}

static void done_restore(void *arg, int err)
{
	answer(arg, err, "restore", restore_figures, ARRAY_LEN(restore_figures));
}

/* ---- the verbs ---- */

static struct job *job_new(struct admin *admin, struct control_request *r)
{
	struct job *j = xcalloc(1, sizeof(*j));
	const char *name;

	j->admin = admin;
	j->request = r;
	j->path = xstrdup(control_arg_path(r, 0));
	j->keep = KEEP_DEFAULT;
	backup_io_init(&j->io, admin->backups, -1);
	backup_names_init(&j->naming, admin);
	while (j->name_count < NAMES_MAX && (name = control_option(r, "account", j->name_count)))
		j->names[j->name_count++] = name;
	return j;
}

static void refuse(struct job *j, int err, const char *words)
{
	control_fail(j->request, err, "%s", words);
	job_free(j);
}

static void submit(struct job *j, loop_fn *run, void (*done)(void *job, int err))
{
	j->work = (struct work){.run = run, .done = done, .job = j};
	if (work_submit(j->admin->backups->pool, j->admin->loop, &j->work))
		refuse(j, ERR_NOT_NOW, "as many transfers run as may; try later");
}

static void verb_backup(void *arg, struct control_request *r)
{
	struct job *j = job_new(arg, r);
	const char *keep = control_option(r, "keep", 0), *rate = control_option(r, "rate", 0);
	uint64_t n;

	if (keep) {
		if (num_parse_u64(slice_str(keep), &n) || n > 100000) {
			refuse(j, ERR_SYNTAX, "--keep: a number of states, 0 for all");
			return;
		}
		j->keep = (unsigned)n;
	}
	if (rate && num_parse_size(slice_str(rate), &j->rate)) {
		refuse(j, ERR_SYNTAX, "--rate: a size, such as 20M, that may be written in a second");
		return;
	}
	submit(j, run_backup, done_backup);
}

static void verb_list(void *arg, struct control_request *r)
{
	submit(job_new(arg, r), run_list, done_list);
}

static void verb_verify(void *arg, struct control_request *r)
{
	submit(job_new(arg, r), run_verify, done_verify);
}

static void verb_prune(void *arg, struct control_request *r)
{
	submit(job_new(arg, r), run_prune, done_prune);
}

/* As list shows it. */
static bool read_time(const char *text, int64_t *time_out)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	*time_out = timegm(&tm);
	return end && (strcmp(end, "") == 0 || strcmp(end, "Z") == 0);
}

static void verb_restore(void *arg, struct control_request *r)
{
	struct job *j = job_new(arg, r);
	const char *at = control_option(r, "at", 0);

	j->mailbox = control_option(r, "mailbox", 0);
	j->as = control_option(r, "as", 0);
	j->all = control_has_option(r, "all");
	if (at && !read_time(at, &j->before)) {
		refuse(j, ERR_SYNTAX, "--at: a time in UTC, such as 2026-11-27T03:00:00");
		return;
	}
	if (j->all ? j->name_count || j->mailbox || j->as || at : j->name_count != 1) {
		refuse(j, ERR_SYNTAX, "say one --account, or --all by itself");
		return;
	}
	submit(j, run_restore, done_restore);
}

static const struct control_verb verbs[] = {
	{"store backup", "DIR [--account ADDRESS]... [--keep N] [--rate SIZE]",
		"Adds the present state of all accounts, or of some, to a backup, while they are in use",
		verb_backup, 1, 1, "account= keep= rate=", 0},
	{"store backup list", "DIR", "States of accounts in a backup", verb_list, 1, 1, NULL, 0},
	{"store backup verify", "DIR", "Reads all of a backup and proves its checksums", verb_verify, 1, 1,
		NULL, 0},
	{"store backup prune", "DIR", "Removes bodies that no state of a backup needs any more", verb_prune,
		1, 1, NULL, 0},
	{"store restore", "DIR --account ADDRESS [--mailbox NAME] [--as NAME] [--at TIME] | DIR --all",
		"Brings back an account that is gone, a mailbox of one that is here, or all accounts that "
		"are not here",
		verb_restore, 1, 1, "account= mailbox= as= at= all", 0},
};

void backup_store_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
