/*
 * STORE, EXPUNGE, UID EXPUNGE, COPY, MOVE (RFC 3501 section 6.4, RFC 4315, RFC 6851, RFC 7162): changes of
 * messages by UID, in write jobs of at most STORE_STEP_MAX messages (STORE_COPY_MAX). The messages are those of the client's
 * view; what others have expunged meanwhile is passed over by the store.
 */
#include "backend/session/imap_access.h"
#include "backend/session/imap_across.h"
#include "backend/session/imap_fetch.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"

#include "common/proto/imap_write.h"

/* A run of UIDs that is worked through in steps. */
struct steps {
	uint32_t *uids;
	size_t count;
	size_t at;
};

static size_t step_of(const struct steps *steps, size_t most)
{
	size_t left = steps->count - steps->at;

	return left < most ? left : most;
}

static size_t step_count(const struct steps *steps)
{
	return step_of(steps, STORE_STEP_MAX);
}

/* The set of a command and its UIDs; false: answered. */
static bool read_set(struct imap_session *s, const struct imap_arg *arg, bool is_uid, struct seqset *seqs_out,
	struct steps *steps_out)
{
	struct slice text;
	int err = imap_parse_atom(arg, &text);

	if (err == 0)
		err = imap_view_set(&s->view, text, is_uid, &s->arena, seqs_out);
	if (err < 0) {
		imap_bad(s, "No such messages");
		return false;
	}
	err = imap_view_uids(&s->view, seqs_out, &s->arena, &steps_out->uids, &steps_out->count);
	if (err < 0)
		imap_fail(s, err);
	return err == 0;
}

static bool is_uid_command(const struct imap_session *s)
{
	return s->cmd->flags & IMAP_CMD_UID;
}

/* ---- STORE ---- */

struct store_data {
	struct imap_fetch fetch; /* first: shows the flags when all is written */
	struct steps steps;
	struct store_flag_change change;
	struct slice *keywords;
	size_t keyword_count;
	struct buf failed; /* UIDs beyond UNCHANGEDSINCE */
	struct buf step_failed;
	uint64_t modseq, newest; /* of a step */
	bool is_silent;
};

static const struct {
	const char *name;
	uint8_t flag;
} system_flags[] = {
	{"\\Answered", STORE_ANSWERED},
	{"\\Flagged", STORE_FLAGGED},
	{"\\Deleted", STORE_DELETED},
	{"\\Seen", STORE_SEEN},
	{"\\Draft", STORE_DRAFT},
};

int imap_store_read_flags(const struct imap_arg *first, struct arena *arena, uint8_t *flags_out,
	struct slice **keywords_out, size_t *count_out)
{
	size_t count = 0;
	uint8_t flags = 0;

	for (const struct imap_arg *arg = first; arg; arg = arg->next)
		count++;
	*keywords_out = arena_calloc(arena, count + 1, sizeof(**keywords_out));
	if (!*keywords_out)
		return ERR_TOO_BIG;
	count = 0;
	for (const struct imap_arg *arg = first; arg; arg = arg->next) {
		struct slice text;
		uint8_t before = flags;

		if (imap_parse_atom(arg, &text) < 0 || !imap_write_is_flag(text))
			return ERR_SYNTAX;
		for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
			flags |= imap_parse_is_word(arg, system_flags[i].name) ? system_flags[i].flag : 0;
		/* \Recent is the server's; other names behind a backslash do not exist. */
		if (text.p[0] == '\\' && flags == before && !imap_parse_is_word(arg, "\\Recent")) {
			bool is_known = false;

			for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
				is_known |= imap_parse_is_word(arg, system_flags[i].name);
			if (!is_known)
				return ERR_SYNTAX;
		} else if (text.p[0] != '\\') {
			(*keywords_out)[count++] = text;
		}
	}
	*flags_out = flags;
	*count_out = count;
	return 0;
}

static void free_store(struct imap_session *s)
{
	struct store_data *d = s->data;

	imap_fetch_free(&d->fetch);
	buf_deinit(&d->failed);
	buf_deinit(&d->step_failed);
}

static bool may_change(const struct store_data *d, unsigned rights)
{
	unsigned any = IMAP_RIGHT_SEEN | IMAP_RIGHT_WRITE | IMAP_RIGHT_DELETE_MESSAGE;

	if (d->change.how == STORE_FLAGS_REPLACE) /* all flags are meant */
		return rights & any;
	if (!d->change.flags && !d->keyword_count) /* none is */
		return true;
	return imap_access_flags(rights, d->change.flags) || (d->keyword_count && rights & IMAP_RIGHT_WRITE);
}

static int store_run(struct imap_session *s, struct store_txn *txn)
{
	struct store_data *d = s->data;
	uint32_t account = s->view.account;
	unsigned rights = s->view.rights;
	int err;

	buf_clear(&d->step_failed);
	/* RFC 4314 section 4: what may not be changed stays; it fails only when nothing may be. */
	if (!may_change(d, rights))
		return ERR_FORBIDDEN;
	d->change.keep_flags = (uint8_t)~imap_access_flags(rights, STORE_FLAGS_ALL);
	d->change.who = imap_view_who(&s->view);
	d->change.keep_keywords = rights & IMAP_RIGHT_WRITE ? 0 : UINT64_MAX;
	d->change.newest_out = &d->newest;
	if (d->change.how == STORE_FLAGS_REMOVE || d->change.keep_keywords)
		err = store_mailbox_keyword_bits(
			txn, account, s->view.mailbox, d->keywords, d->keyword_count, &d->change.keywords);
	else
		err = store_mailbox_make_keywords(
			txn, account, s->view.mailbox, d->keywords, d->keyword_count, &d->change.keywords);
	if (err < 0)
		return err;
	return store_message_flag(txn, account, s->view.mailbox, d->steps.uids + d->steps.at,
		step_count(&d->steps), &d->change, &d->step_failed, &d->modseq);
}

/* MODIFIED lists what the client has named: UIDs, or sequence numbers. */
static void answer_store(struct imap_session *s)
{
	struct store_data *d = s->data;
	const uint32_t *failed = imap_numbers(&d->failed);
	size_t count = buf_len(&d->failed) / sizeof(*failed);
	struct imap_write_set set;
	struct buf code = {0};

	s->must_sync = true;
	if (count == 0) {
		if (d->fetch.has_missing)
			imap_answer(s, "OK", "EXPUNGEISSUED", "Some of the messages are gone");
		else
			imap_ok(s);
		return;
	}
	buf_add_str(&code, "MODIFIED ");
	imap_write_set_start(&set, &code);
	for (size_t i = 0; i < count; i++)
		imap_write_set_add(&set, is_uid_command(s) ? failed[i] : imap_view_seq(&s->view, failed[i]));
	imap_write_set_end(&set);
	imap_answer(s, "OK", buf_str_view(&code), "Some have changed meanwhile");
	buf_deinit(&code);
}

static void store_shown(struct imap_session *s, int err)
{
	if (err < 0)
		imap_fail(s, err);
	else
		answer_store(s);
}

/* Of messages that were left alone a new MODSEQ without flags would say that the flags are known. */
static int leave_out_failed(struct imap_session *s)
{
	struct store_data *d = s->data;
	const uint32_t *failed = imap_numbers(&d->failed);
	size_t count = buf_len(&d->failed) / sizeof(*failed), next = 0;
	struct seqset kept = {.ranges = arena_alloc(&s->arena, d->steps.count * sizeof(*kept.ranges))};

	if (!kept.ranges)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < d->steps.count; i++) {
		uint32_t seq = imap_view_seq(&s->view, d->steps.uids[i]);

		if (next < count && failed[next] == d->steps.uids[i])
			next++;
		else if (kept.count && kept.ranges[kept.count - 1].to + 1 == seq)
			kept.ranges[kept.count - 1].to = seq;
		else
			kept.ranges[kept.count++] = (struct seqset_range){seq, seq};
	}
	d->fetch.seqs = kept;
	return 0;
}

static void show(struct imap_session *s)
{
	struct store_data *d = s->data;

	d->fetch.items.items = d->is_silent ? 0 : IMAP_FETCH_FLAGS;
	if (s->is_rev2 && !d->is_silent) /* RFC 9051 appendix E, 21 */
		d->fetch.items.items |= IMAP_FETCH_UID;
	if (s->is_condstore)
		d->fetch.items.items |= IMAP_FETCH_MODSEQ | (s->is_uidonly ? 0 : (unsigned)IMAP_FETCH_UID);
	if (!d->fetch.items.items) {
		answer_store(s);
		return;
	}
	if (d->is_silent && buf_len(&d->failed) && leave_out_failed(s) < 0) {
		answer_store(s);
		return;
	}
	d->fetch.done = store_shown;
	imap_fetch_start(s, &d->fetch);
}

static void store_done(struct imap_session *s, int err)
{
	struct store_data *d = s->data;

	if (err < 0) {
		s->must_sync = true;
		if (err == ERR_TOO_BIG)
			imap_answer(s, "NO", "LIMIT", "Too many keywords, or one too long");
		else
			imap_fail(s, err);
		return;
	}
	imap_view_own(&s->view, d->modseq, d->newest);
	buf_add_slice(&d->failed, buf_view(&d->step_failed));
	d->steps.at += step_count(&d->steps);
	imap_progress(s, d->steps.at, d->steps.count);
	if (d->steps.at < d->steps.count)
		imap_write_job(s, store_run, store_done);
	else
		show(s);
}

/* [SP "(" "UNCHANGEDSINCE" n ")"]; *arg moves on. */
static int read_modifier(struct imap_session *s, const struct imap_arg **arg, struct store_data *d)
{
	const struct imap_arg *list = *arg;

	d->change.unchanged_since = UINT64_MAX;
	if (!list || list->type != IMAP_ARG_LIST)
		return 0;
	if (!imap_parse_is_word(list->first, "UNCHANGEDSINCE") ||
		imap_parse_u63(list->first->next, &d->change.unchanged_since) < 0 || list->first->next->next)
		return ERR_SYNTAX;
	imap_enable_condstore(s);
	*arg = list->next;
	return 0;
}

static int read_how(const struct imap_arg *arg, struct store_data *d)
{
	static const struct {
		const char *word;
		enum store_flag_how how;
		bool is_silent;
	} words[] = {{"FLAGS", STORE_FLAGS_REPLACE, false}, {"FLAGS.SILENT", STORE_FLAGS_REPLACE, true},
		{"+FLAGS", STORE_FLAGS_ADD, false}, {"+FLAGS.SILENT", STORE_FLAGS_ADD, true},
		{"-FLAGS", STORE_FLAGS_REMOVE, false}, {"-FLAGS.SILENT", STORE_FLAGS_REMOVE, true}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!imap_parse_is_word(arg, words[i].word))
			continue;
		d->change.how = words[i].how;
		d->is_silent = words[i].is_silent;
		return 0;
	}
	return ERR_SYNTAX;
}

void imap_cmd_store(struct imap_session *s, const struct imap_command *command)
{
	struct store_data *d = imap_data(s, sizeof(*d));
	const struct imap_arg *arg = command->args ? command->args->next : NULL;
	const struct imap_arg *flags;
	int err;

	if (!d)
		return;
	s->cleanup = free_store;
	err = read_modifier(s, &arg, d);
	if (err == 0)
		err = read_how(arg, d);
	if (err == 0 && !arg->next)
		err = ERR_SYNTAX;
	if (err == 0) {
		flags = arg->next->type == IMAP_ARG_LIST ? arg->next->first : arg->next;
		if (arg->next->type == IMAP_ARG_LIST && arg->next->next)
			err = ERR_SYNTAX;
		else
			err = imap_store_read_flags(
				flags, &s->arena, &d->change.flags, &d->keywords, &d->keyword_count);
	}
	if (err < 0) {
		imap_bad(s, "Wrong arguments for STORE");
		return;
	}
	if (!read_set(s, command->args, is_uid_command(s), &d->fetch.seqs, &d->steps))
		return;
	if (d->steps.count)
		imap_write_job(s, store_run, store_done);
	else
		imap_ok(s);
}

/* ---- EXPUNGE ---- */

struct expunge_data {
	struct steps steps;
	uint64_t modseq;
	bool has_expunged;
};

static int expunge_run(struct imap_session *s, struct store_txn *txn)
{
	struct expunge_data *d = s->data;

	if (!(s->view.rights & IMAP_RIGHT_EXPUNGE))
		return ERR_FORBIDDEN;
	return store_message_expunge(txn, s->view.account, s->view.mailbox, d->steps.uids + d->steps.at,
		step_count(&d->steps), false, NULL, &d->modseq);
}

static void expunge_done(struct imap_session *s, int err)
{
	struct expunge_data *d = s->data;

	if (err < 0) {
		imap_fail(s, err);
		return;
	}
	d->has_expunged |= d->modseq != 0;
	d->steps.at += step_count(&d->steps);
	imap_progress(s, d->steps.at, d->steps.count);
	if (d->steps.at < d->steps.count) {
		imap_write_job(s, expunge_run, expunge_done);
	} else {
		s->tells_modseq = s->is_qresync && d->has_expunged;
		imap_ok(s);
	}
}

/* EXPUNGE is for the messages that this client knows: others with \Deleted stay for those who deleted them.
 */
static int find_deleted_run(struct imap_session *s, struct store_txn *txn)
{
	struct expunge_data *d = s->data;
	struct store_scan scan;
	struct store_entry entry;
	int err = s->view.rights & IMAP_RIGHT_EXPUNGE ? store_scan_begin(&scan, txn, s->view.mailbox, 1)
						      : ERR_FORBIDDEN;

	if (err < 0)
		return err;
	while (store_scan_next(&scan, &entry)) {
		if (entry.flags & STORE_DELETED && imap_view_seq(&s->view, entry.uid) &&
			d->steps.count < s->view.uids.count)
			d->steps.uids[d->steps.count++] = entry.uid;
	}
	err = scan.error;
	store_scan_end(&scan);
	return err;
}

static void find_deleted_done(struct imap_session *s, int err)
{
	const struct expunge_data *d = s->data;

	if (err < 0)
		imap_fail(s, err);
	else if (d->steps.count)
		imap_write_job(s, expunge_run, expunge_done);
	else
		imap_ok(s);
}

void imap_cmd_expunge(struct imap_session *s, const struct imap_command *command)
{
	struct expunge_data *d;

	if (command->count) {
		imap_bad(s, "EXPUNGE has no arguments");
		return;
	}
	d = imap_data(s, sizeof(*d));
	if (!d)
		return;
	d->steps.uids = arena_alloc(&s->arena, (s->view.uids.count + 1) * sizeof(*d->steps.uids));
	if (!d->steps.uids)
		imap_fail(s, ERR_TOO_BIG);
	else
		imap_read(s, find_deleted_run, find_deleted_done);
}

void imap_cmd_uid_expunge(struct imap_session *s, const struct imap_command *command)
{
	struct expunge_data *d = imap_data(s, sizeof(*d));
	struct seqset seqs;

	if (!d)
		return;
	if (command->count != 1) {
		imap_bad(s, "UID EXPUNGE has one argument");
		return;
	}
	if (!read_set(s, command->args, true, &seqs, &d->steps))
		return;
	if (d->steps.count)
		imap_write_job(s, expunge_run, expunge_done);
	else
		imap_ok(s);
}

/* ---- COPY and MOVE ---- */

/* Of the mailbox that a message leaves: MOVE is a COPY, a STORE of \Deleted and an EXPUNGE (RFC 6851 section 3.3). */
#define MOVE_RIGHTS (IMAP_RIGHT_DELETE_MESSAGE | IMAP_RIGHT_EXPUNGE)

struct copy_data {
	struct steps steps;
	struct slice name;
	bool is_move;
	uint32_t to;
	uint32_t uidvalidity;
	struct buf pairs; /* old UID, new UID */
	struct buf step_pairs;
	uint32_t *undo;
	int err;
};

static void free_copy(struct imap_session *s)
{
	struct copy_data *d = s->data;

	buf_deinit(&d->pairs);
	buf_deinit(&d->step_pairs);
}

static int copy_run(struct imap_session *s, struct store_txn *txn)
{
	struct copy_data *d = s->data;
	struct store_mailbox to;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_INSERT, &to);

	if (err < 0)
		return err == ERR_DENIED ? ERR_NOT_FOUND : err;
	buf_clear(&d->step_pairs);
	d->to = to.id;
	d->uidvalidity = to.uidvalidity;
	if (d->is_move && (s->view.rights & MOVE_RIGHTS) != MOVE_RIGHTS)
		return ERR_FORBIDDEN;
	return store_message_copy(txn, s->view.account, s->view.mailbox, d->steps.uids + d->steps.at,
		step_of(&d->steps, STORE_COPY_MAX), to.id, d->is_move, &d->step_pairs);
}

/* old:new sets; new UIDs grow as old ones do, so that both sides have one order. */
void imap_store_write_copyuid(const struct buf *all, uint32_t uidvalidity, struct buf *out)
{
	const uint32_t *pairs = imap_numbers(all);
	size_t count = buf_len(all) / (2 * sizeof(*pairs));
	struct imap_write_set set;

	buf_printf(out, "COPYUID %u ", uidvalidity);
	for (unsigned side = 0; side < 2; side++) {
		if (side)
			buf_add_char(out, ' ');
		imap_write_set_start(&set, out);
		for (size_t i = 0; i < count; i++)
			imap_write_set_add(&set, pairs[2 * i + side]);
		imap_write_set_end(&set);
	}
}

static void answer_copy(struct imap_session *s)
{
	struct copy_data *d = s->data;
	struct buf code = {0};

	s->must_sync = true;
	if (buf_len(&d->pairs) == 0) {
		imap_answer(s, "OK", NULL, "Nothing was there to be copied");
		return;
	}
	imap_store_write_copyuid(&d->pairs, d->uidvalidity, &code);
	if (d->is_move) {
		/* MOVE tells it before the EXPUNGEs (RFC 6851 section 4.3). */
		conn_printf(s->conn, "* OK [%s] Moved\r\n", buf_str_view(&code));
		imap_ok(s);
	} else {
		imap_answer(s, "OK", buf_str_view(&code), "Copied");
	}
	buf_deinit(&code);
}

static void fail_copy(struct imap_session *s, int err)
{
	s->must_sync = true;
	if (err == ERR_NOT_FOUND)
		imap_answer(s, "NO", "TRYCREATE", "No such mailbox");
	else if (err == ERR_TOO_BIG)
		imap_answer(s, "NO", "OVERQUOTA", "Quota exceeded");
	else
		imap_fail(s, err);
}

/* A later step has failed: what earlier ones copied goes again (RFC 3501 section 6.4.7). */
static int undo_run(struct imap_session *s, struct store_txn *txn)
{
	struct copy_data *d = s->data;
	uint64_t modseq;

	return store_message_expunge(txn, s->view.account, d->to, d->undo + d->steps.at,
		step_count(&d->steps), true, NULL, &modseq);
}

static void undo_done(struct imap_session *s, int err)
{
	struct copy_data *d = s->data;

	d->steps.at += step_count(&d->steps);
	if (err == 0 && d->steps.at < d->steps.count)
		imap_write_job(s, undo_run, undo_done);
	else
		fail_copy(s, d->err);
}

static bool begin_undo(struct imap_session *s, int err)
{
	struct copy_data *d = s->data;
	const uint32_t *pairs = imap_numbers(&d->pairs);
	size_t count = buf_len(&d->pairs) / (2 * sizeof(*pairs));

	if (d->is_move || count == 0)
		return false;
	d->undo = arena_alloc(&s->arena, count * sizeof(*d->undo));
	if (!d->undo)
		return false;
	for (size_t i = 0; i < count; i++)
		d->undo[i] = pairs[2 * i + 1];
	d->err = err;
	d->steps = (struct steps){.uids = d->steps.uids, .count = count};
	imap_write_job(s, undo_run, undo_done);
	return true;
}

/* Copies into the selected mailbox are no news to this session (RFC 5465 section 5.2). */
static void note_own(struct imap_session *s, const struct copy_data *d)
{
	const uint32_t *pairs = imap_numbers(&d->step_pairs);
	size_t count = buf_len(&d->step_pairs) / (2 * sizeof(*pairs));

	if (count)
		imap_notify_own_uids(s, d->to, pairs[1], pairs[2 * count - 1]);
}

static void copy_done(struct imap_session *s, int err)
{
	struct copy_data *d = s->data;

	if (err < 0) {
		if (!begin_undo(s, err))
			fail_copy(s, err);
		return;
	}
	note_own(s, d);
	buf_add_slice(&d->pairs, buf_view(&d->step_pairs));
	d->steps.at += step_of(&d->steps, STORE_COPY_MAX);
	imap_progress(s, d->steps.at, d->steps.count);
	if (d->steps.at < d->steps.count)
		imap_write_job(s, copy_run, copy_done);
	else
		answer_copy(s);
}

static int find_target_run(struct imap_session *s, struct store_txn *txn)
{
	struct copy_data *d = s->data;
	struct store_mailbox to;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_INSERT, &to);

	return err == ERR_DENIED ? ERR_NOT_FOUND : err;
}

static void find_target_done(struct imap_session *s, int err)
{
	if (err < 0)
		fail_copy(s, err);
	else
		answer_copy(s);
}

void imap_cmd_copy(struct imap_session *s, const struct imap_command *command)
{
	struct copy_data *d = imap_data(s, sizeof(*d));
	struct seqset seqs;

	if (!d)
		return;
	d->is_move = slice_is_str(command->name, "MOVE") || slice_is_str(command->name, "UID MOVE");
	if (command->count != 2 || imap_parse_astring(command->args->next, &d->name) < 0) {
		imap_bad(s, "Wants messages and a mailbox");
		return;
	}
	if (!read_set(s, command->args, is_uid_command(s), &seqs, &d->steps))
		return;
	s->cleanup = free_copy;
	if (imap_name_read(s, command->args->next, &s->arena, &d->name) < 0)
		fail_copy(s, ERR_NOT_FOUND);
	else if (s->view.is_guest || imap_access_is_foreign(d->name))
		imap_across_start(s, d->name, d->steps.uids, d->steps.count, d->is_move);
	else if (d->steps.count)
		imap_write_job(s, copy_run, copy_done);
	else
		imap_read(s, find_target_run, find_target_done);
}
