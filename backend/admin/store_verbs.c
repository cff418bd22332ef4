/*
 * These verbs run on the operator's worker thread: check and repair read every page of the store and may take their time.
 */
#include "backend/admin/store_verbs.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/admin/scrub.h"
#include "backend/search/search_check.h"
#include "backend/store/store_check.h"
#include "backend/store/store_text.h"
#include "backend/store/store_compact.h"
#include "backend/store/store_repair.h"
#include "common/base/log.h"
#include "common/base/mem.h"

/* Findings that are shown; all are counted. */
#define FINDINGS_SHOWN 1000

enum {
	EXIT_GOOD = 0,
	EXIT_FOUND = 1,
	EXIT_USAGE = 64,
	EXIT_BROKEN = 70,
	EXIT_NOT_NOW = 75
};

struct job {
	struct work work;
	struct admin *admin;
	struct control_request *request;
	bool skips_bodies, removes_strays;
	int error;
	char *findings[FINDINGS_SHOWN];
	size_t finding_count;
	struct store_check check;
	struct search_check index;
	struct store_repair repair;
	struct store_stat stat;
};

static void keep_finding(void *arg, const char *text)
{
	struct job *j = arg;

	if (j->finding_count < FINDINGS_SHOWN)
		j->findings[j->finding_count++] = xstrdup(text);
}

static void job_free(struct job *j)
{
	for (size_t i = 0; i < j->finding_count; i++)
		free(j->findings[i]);
	free(j);
}

/* False: the check cannot go on. */
static bool check_index(void *arg, const struct store_account *account)
{
	struct job *j = arg;
	int err =
		search_check_account(j->admin->store, account->slot, account->id, keep_finding, j, &j->index);

	if (err && err != ERR_UNSUPPORTED) /* one slot is without an index */
		j->error = err;
	return !j->error;
}

static void run_check(void *arg)
{
	struct job *j = arg;
	const struct store_check_options options = {
		.skip_bodies = j->skips_bodies, .report = keep_finding, .arg = j};

	j->error = store_check(j->admin->store, &options, &j->check);
	if (!j->error && !j->skips_bodies && store_text_is_on(j->admin->store))
		store_each_account(j->admin->store, check_index, j);
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
	control_add_int(r, "accounts", (int64_t)j->check.accounts);
	control_add_int(r, "mailboxes", (int64_t)j->check.mailboxes);
	control_add_int(r, "messages", (int64_t)j->check.messages);
	control_add_int(r, "blobs", (int64_t)j->check.blobs);
	control_add_int(r, "bytes", (int64_t)j->check.bytes);
	control_add_int(r, "indexed", (int64_t)j->index.messages);
	control_add_int(r, "errors", (int64_t)(j->check.errors + j->index.errors));
	if (err || j->error)
		control_fail(r, err ? err : j->error, "the check could not be finished: %s",
			error_text(err ? err : j->error));
	else if (j->check.errors || j->index.errors)
		control_fail(r, ERR_CORRUPT, "%llu errors, and %llu of the text index",
			(unsigned long long)j->check.errors, (unsigned long long)j->index.errors);
	else
		control_done(r);
	job_free(j);
}

static void run_repair(void *arg)
{
	struct job *j = arg;
	const struct store_repair_options options = {.skip_bodies = j->skips_bodies,
		.remove_strays = j->removes_strays,
		.report = keep_finding,
		.arg = j};

	j->error = store_repair(j->admin->store, &options, &j->repair);
}

static void done_repair(void *arg, int err)
{
	struct job *j = arg;
	struct control_request *r = j->request;

	for (size_t i = 0; i < j->finding_count; i++) {
		control_row(r);
		control_add_str(r, "finding", j->findings[i]);
		log_warn("store", "%s", j->findings[i]);
	}
	control_result(r);
	control_add_int(r, "mended", (int64_t)j->repair.mended);
	control_add_int(r, "left", (int64_t)j->repair.left);
	control_add_int(r, "damaged", (int64_t)j->repair.damaged);
	if (err || j->error)
		control_fail(r, err ? err : j->error, "the repair could not be finished: %s",
			error_text(err ? err : j->error));
	else if (j->repair.left)
		control_fail(
			r, ERR_CORRUPT, "%llu findings cannot be mended", (unsigned long long)j->repair.left);
	else
		control_done(r);
	job_free(j);
}

static void run_stat(void *arg)
{
	struct job *j = arg;

	j->error = store_stat(j->admin->store, &j->stat);
}

struct figure {
	const char *name;
	size_t at;
};
#define FIGURE(member)                                                                                       \
	{                                                                                                    \
#member, offsetof(struct store_stat, member)                                                 \
	}
static const struct figure figures[] = {FIGURE(accounts), FIGURE(mailboxes), FIGURE(messages), FIGURE(blobs),
	FIGURE(message_bytes), FIGURE(blob_bytes), FIGURE(stored_bytes), FIGURE(map_size), FIGURE(used_bytes),
	FIGURE(free_bytes), FIGURE(orphans), FIGURE(expunged), FIGURE(intents), FIGURE(kept),
	FIGURE(kept_bytes), FIGURE(readers), FIGURE(oldest_reader)};

static uint64_t figure_of(const struct store_stat *stat, const struct figure *f)
{
	return *(const uint64_t *)(const void *)((const char *)stat + f->at);
}

static void done_stat(void *arg, int err)
{
	struct job *j = arg;
	struct control_request *r = j->request;

	if (err || j->error) {
		control_fail(r, err ? err : j->error, "%s", error_text(err ? err : j->error));
	} else {
		for (size_t i = 0; i < ARRAY_LEN(figures); i++)
			control_add_int(r, figures[i].name, (int64_t)figure_of(&j->stat, &figures[i]));
		control_add_str(r, "oldest_reader_job", j->stat.oldest.name ? j->stat.oldest.name : "");
		control_add_int(r, "oldest_reader_ms", (int64_t)j->stat.oldest.age_ms);
		control_add_int(r, "oldest_reader_held_bytes", (int64_t)j->stat.oldest.held_bytes);
		control_add_int(r, "text_index_bytes", (int64_t)store_text_size(j->admin->store));
		control_add_int(r, "slots", j->stat.slots);
		control_add_int(r, "version", j->stat.version);
		control_done(r);
	}
	job_free(j);
}

static void submit(struct admin *admin, struct control_request *r, loop_fn *run, void (*done)(void *, int))
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->admin = admin;
	j->request = r;
	j->skips_bodies = control_has_option(r, "no-bodies");
	j->removes_strays = control_has_option(r, "remove-strays");
	j->work = (struct work){.run = run, .done = done, .job = j};
	if (work_submit(admin->operator_pool, admin->loop, &j->work)) {
		control_fail(r, ERR_NOT_NOW, "others of these run already");
		job_free(j);
	}
}

static void verb_check(void *arg, struct control_request *r)
{
	submit(arg, r, run_check, done_check);
}

static void verb_repair(void *arg, struct control_request *r)
{
	submit(arg, r, run_repair, done_repair);
}

static void verb_stat(void *arg, struct control_request *r)
{
	submit(arg, r, run_stat, done_stat);
}

static const struct control_verb verbs[] = {
	{"store check", "[--no-bodies]",
		"Proves the store: records, counters, references, checksums, text index", verb_check, 0, 0,
		"no-bodies", 0},
	{"store repair", "[--no-bodies] [--remove-strays]",
		"Mends what store check finds, and names what cannot be mended", verb_repair, 0, 0,
		"no-bodies remove-strays", 0},
	{"store stat", "", "Figures of the store", verb_stat, 0, 0, NULL, 0},
};

void store_verbs_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
	scrub_register(admin);
}

/* ---- a closed store ---- */

static void print_finding(void *arg, const char *text)
{
	(void)arg;
	printf("%s\n", text);
}

static int check_offline(struct store *store)
{
	const struct store_check_options options = {.report = print_finding};
	struct store_check check;
	int err = store_check(store, &options, &check);

	if (err) {
		fprintf(stderr, "mailtier-backend: the check could not be finished: %s\n", error_text(err));
		return EXIT_BROKEN;
	}
	printf("accounts %llu mailboxes %llu messages %llu blobs %llu bytes %llu errors %llu\n",
		(unsigned long long)check.accounts, (unsigned long long)check.mailboxes,
		(unsigned long long)check.messages, (unsigned long long)check.blobs,
		(unsigned long long)check.bytes, (unsigned long long)check.errors);
	return check.errors ? EXIT_FOUND : EXIT_GOOD;
}

static int repair_offline(struct store *store, bool skip_bodies, bool remove_strays)
{
	const struct store_repair_options options = {
		.skip_bodies = skip_bodies, .remove_strays = remove_strays, .report = print_finding};
	struct store_repair repair;
	int err = store_repair(store, &options, &repair);

	if (err) {
		fprintf(stderr, "mailtier-backend: the repair could not be finished: %s\n", error_text(err));
		return EXIT_BROKEN;
	}
	printf("mended %llu left %llu damaged %llu\n", (unsigned long long)repair.mended,
		(unsigned long long)repair.left, (unsigned long long)repair.damaged);
	return repair.left ? EXIT_FOUND : EXIT_GOOD;
}

static int stat_offline(struct store *store)
{
	struct store_stat stat;
	int err = store_stat(store, &stat);

	if (err) {
		fprintf(stderr, "mailtier-backend: %s\n", error_text(err));
		return EXIT_BROKEN;
	}
	for (size_t i = 0; i < ARRAY_LEN(figures); i++)
		printf("%s %llu\n", figures[i].name, (unsigned long long)figure_of(&stat, &figures[i]));
	printf("slots %u\nversion %u\n", stat.slots, stat.version);
	return EXIT_GOOD;
}

static int compact_offline(const char *dir)
{
	struct store_compacted result = {0};
	struct buf why = {0};
	int err = store_compact(dir, &result, &why);

	if (err)
		fprintf(stderr, "mailtier-backend: %s: %s\n", dir,
			why.data ? buf_str_view(&why) : error_text(err));
	else
		printf("slots %u before %llu after %llu given back %lld\n", result.slots,
			(unsigned long long)result.before, (unsigned long long)result.after,
			(long long)(result.before - result.after));
	buf_deinit(&why);
	return !err                                    ? EXIT_GOOD
	       : err == ERR_NOT_NOW || err == ERR_FULL ? EXIT_NOT_NOW
	       : err == ERR_NOT_FOUND                  ? EXIT_FOUND
						       : EXIT_BROKEN;
}

enum offline {
	OFFLINE_CHECK,
	OFFLINE_STAT,
	OFFLINE_REPAIR,
	OFFLINE_COMPACT,
	OFFLINE_COUNT
};

/* The options that stand behind the verb; false: one that it does not know. */
static bool has_offline_options(
	enum offline verb, int argc, char **argv, bool *skip_bodies, bool *remove_strays)
{
	*skip_bodies = *remove_strays = false;
	for (int i = 1; i < argc; i++) {
		if (verb == OFFLINE_REPAIR && strcmp(argv[i], "--no-bodies") == 0)
			*skip_bodies = true;
		else if (verb == OFFLINE_REPAIR && strcmp(argv[i], "--remove-strays") == 0)
			*remove_strays = true;
		else
			return false;
	}
	return true;
}

int store_verbs_offline(const char *dir, int argc, char **argv)
{
	static const char *const names[OFFLINE_COUNT] = {"check", "stat", "repair", "compact"};
	const struct store_options options = {.dir = dir, .must_exist = true, .no_repair = true};
	struct buf why = {0};
	struct store *store;
	enum offline verb = OFFLINE_CHECK;
	bool skip_bodies, remove_strays;
	int err, status = EXIT_BROKEN;

	while (argc > 0 && verb < OFFLINE_COUNT && strcmp(argv[0], names[verb]) != 0)
		verb++;
	if (argc < 1 || verb == OFFLINE_COUNT ||
		!has_offline_options(verb, argc, argv, &skip_bodies, &remove_strays)) {
		fprintf(stderr,
			"usage: mailtier-backend --store DIR check|stat|compact\n"
			"       mailtier-backend --store DIR repair [--no-bodies] [--remove-strays]\n");
		return EXIT_USAGE;
	}
	if (verb == OFFLINE_COMPACT)
		return compact_offline(dir);
	if ((err = store_open(&options, &store, &why))) {
		fprintf(stderr, "mailtier-backend: %s: %s\n", dir,
			why.data ? buf_str_view(&why) : error_text(err));
		buf_deinit(&why);
		return err == ERR_NOT_NOW ? EXIT_NOT_NOW : err == ERR_NOT_FOUND ? EXIT_FOUND : EXIT_BROKEN;
	}
	switch (verb) {
	case OFFLINE_CHECK:
		status = check_offline(store);
		break;
	case OFFLINE_REPAIR:
		status = repair_offline(store, skip_bodies, remove_strays);
		break;
	case OFFLINE_STAT:
	case OFFLINE_COMPACT:
	case OFFLINE_COUNT:
		status = stat_offline(store);
		break;
	}
	store_close(&store);
	buf_deinit(&why);
	return status;
}
