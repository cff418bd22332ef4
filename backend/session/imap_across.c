/* One batch: load_run() in steps, imap_add(), for MOVE expunge_run(). */
#include "backend/session/imap_across.h"

#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_object.h"
#include "common/base/mem.h"
#include "common/net/spool.h"

#define SPOOL_MEMORY (512u * 1024)
#define READ_STEP (512u * 1024)
#define PIECE (64u * 1024)
/* Of one batch: this many messages, or as many as make so many octets. */
#define BATCH_MESSAGES 100
#define BATCH_SIZE (4u << 20)
#define SOURCE_RIGHTS (IMAP_RIGHT_DELETE_MESSAGE | IMAP_RIGHT_EXPUNGE)

struct across {
	const uint32_t *uids;
	size_t count, at;
	struct slice name;
	bool is_move;
	/* the target */
	unsigned slot;
	uint32_t account, mailbox, uidvalidity;
	unsigned rights;
	bool is_guest;
	/* the batch */
	struct spool *spool;
	struct arena arena; /* its keywords */
	struct store_work_target targets[BATCH_MESSAGES];
	struct store_work_range ranges[BATCH_MESSAGES];
	uint32_t batch[BATCH_MESSAGES]; /* UIDs */
	unsigned batch_count;
	bool is_amid;  /* the last of them is not wholly read */
	uint64_t read; /* octets of it */
	/* all */
	struct buf pairs; /* old UID, new UID */
	uint32_t *undo;
	size_t undone;
	int err;
};

static void free_across(struct imap_session *s)
{
	struct across *a = s->data;

	spool_free(&a->spool);
	arena_deinit(&a->arena);
	buf_deinit(&a->pairs);
}

static size_t pair_count(const struct across *a)
{
	return buf_len(&a->pairs) / (2 * sizeof(uint32_t));
}

/* ---- answers ---- */

static void answer(struct imap_session *s, int err)
{
	struct across *a = s->data;
	struct buf code = {0};
	bool has_copied = pair_count(a) != 0;

	s->must_sync = s->view.mailbox != 0;
	if (has_copied)
		imap_store_write_copyuid(&a->pairs, a->uidvalidity, &code);
	/* MOVE tells it before the EXPUNGEs (RFC 6851 section 4.3), also of what was moved before it failed. */
	if (has_copied && a->is_move)
		conn_printf(s->conn, "* OK [%s] Moved\r\n", buf_str_view(&code));
	if (err == ERR_NOT_FOUND || err == ERR_DENIED)
		imap_answer(s, "NO", "TRYCREATE", "No such mailbox");
	else if (err == ERR_TOO_BIG)
		imap_answer(s, "NO", "OVERQUOTA", "Quota exceeded");
	else if (err < 0)
		imap_fail(s, err);
	else if (!has_copied)
		imap_answer(s, "OK", NULL, "Nothing was there to be copied");
	else if (a->is_move)
		imap_ok(s);
	else
		imap_answer(s, "OK", buf_str_view(&code), "Copied");
	buf_deinit(&code);
}

/* A later batch has failed: what earlier ones copied goes again (RFC 3501 section 6.4.7). */
static int undo_run(struct imap_session *s, struct store_txn *txn)
{
	struct across *a = s->data;
	size_t left = pair_count(a) - a->undone;
	uint64_t modseq;

	return store_message_expunge(txn, a->account, a->mailbox, a->undo + a->undone,
		left < STORE_STEP_MAX ? left : STORE_STEP_MAX, true, NULL, &modseq);
}

static void undo_done(struct imap_session *s, int err)
{
	struct across *a = s->data;

	a->undone += STORE_STEP_MAX;
	if (err == 0 && a->undone < pair_count(a)) {
		imap_write_job(s, undo_run, undo_done);
		return;
	}
	buf_clear(&a->pairs);
	answer(s, a->err);
}

static void fail(struct imap_session *s, int err)
{
	struct across *a = s->data;
	const uint32_t *pairs = imap_numbers(&a->pairs);

	a->err = err;
	if (a->is_move || pair_count(a) == 0) {
		answer(s, err);
		return;
	}
	a->undo = arena_alloc(&s->arena, pair_count(a) * sizeof(*a->undo));
	if (!a->undo) {
		answer(s, err);
		return;
	}
	for (size_t i = 0; i < pair_count(a); i++)
		a->undo[i] = pairs[2 * i + 1];
	s->at_slot = a->slot;
	imap_write_job(s, undo_run, undo_done);
}

/* ---- reading ---- */

/* The keywords of an entry by name, for the batch. */
static int name_keywords(
	struct across *a, const struct store_keywords *names, uint64_t bits, struct store_work_target *t)
{
	struct slice *list = arena_calloc(&a->arena, (size_t)__builtin_popcountll(bits) + 1, sizeof(*list));

	if (!list)
		return ERR_TOO_BIG;
	t->keywords = list;
	for (; bits; bits &= bits - 1) {
		unsigned i = (unsigned)__builtin_ctzll(bits);

		if (i >= names->count)
			return ERR_CORRUPT;
		list[t->keyword_count] = arena_copy(&a->arena, names->names[i]);
		if (!list[t->keyword_count++].p)
			return ERR_TOO_BIG;
	}
	return 0;
}

/* The next message of the batch. ERR_NOT_FOUND: it is gone. */
static int begin_message(struct imap_session *s, struct store_txn *txn, uint32_t uid)
{
	struct across *a = s->data;
	struct store_work_target *t = &a->targets[a->batch_count];
	struct store_keywords names;
	struct store_entry entry;
	int err = imap_view_entry(&s->view, txn, uid, &entry);

	if (err == 0)
		err = store_mailbox_keywords(txn, s->view.account, s->view.mailbox, &names);
	if (err < 0)
		return err;
	*t = (struct store_work_target){.account = a->account,
		.mailbox = a->mailbox,
		.flags = imap_access_flags(a->rights, entry.flags),
		.date = entry.date,
		.who = a->is_guest ? imap_access_who(s) : (struct store_who){0, 0}};
	if (a->rights & IMAP_RIGHT_WRITE)
		err = name_keywords(a, &names, entry.keywords, t);
	if (err < 0)
		return err;
	a->batch[a->batch_count] = uid;
	a->ranges[a->batch_count].offset = spool_len(a->spool);
	a->is_amid = true;
	a->read = 0;
	return 0;
}

/* At most *step octets of the message at hand. */
static int read_message(struct imap_session *s, struct store_txn *txn, uint64_t *step)
{
	struct across *a = s->data;
	struct store_message m;
	char *piece;
	int err = store_message_get(txn, s->view.mailbox, a->batch[a->batch_count], &m);

	if (err < 0)
		return err;
	/* RFC 8474 section 5.1: a copy keeps it. */
	a->targets[a->batch_count].email = imap_object_email_number(s->view.created, &m);
	piece = xmalloc(PIECE);
	while (err == 0 && a->read < m.size && *step) {
		size_t got = 0;

		err = store_message_read(txn, &m, a->read, piece, PIECE, &got);
		if (err == 0 && got == 0)
			err = ERR_CORRUPT;
		if (err == 0)
			err = spool_add(a->spool, slice_of(piece, got));
		a->read += got;
		*step -= got < *step ? got : *step;
	}
	free(piece);
	if (err == 0 && a->read == m.size) {
		a->ranges[a->batch_count].size = m.size;
		a->batch_count++;
		a->is_amid = false;
		a->at++;
	}
	return err;
}

static bool is_batch_full(const struct across *a)
{
	return !a->is_amid &&
	       (a->at == a->count || a->batch_count == BATCH_MESSAGES || spool_len(a->spool) >= BATCH_SIZE);
}

static int load_run(struct imap_session *s, struct store_txn *txn)
{
	struct across *a = s->data;
	uint64_t step = READ_STEP;
	int err = 0;

	while (err == 0 && step && !is_batch_full(a)) {
		if (!a->is_amid)
			err = begin_message(s, txn, a->uids[a->at]);
		if (err == 0)
			err = read_message(s, txn, &step);
		if (err == ERR_NOT_FOUND) { /* others have expunged it */
			if (a->is_amid)
				return ERR_NOT_NOW;
			a->at++;
			err = 0;
		}
	}
	return err;
}

static void load(struct imap_session *s);

/* ---- adding, expunging ---- */

static int expunge_run(struct imap_session *s, struct store_txn *txn)
{
	struct across *a = s->data;
	uint64_t modseq;
	int err = imap_access_check(s, txn, IMAP_RIGHT_READ | SOURCE_RIGHTS);

	return err < 0 ? err
		       : store_message_expunge(txn, s->view.account, s->view.mailbox, a->batch,
				 a->batch_count, true, NULL, &modseq);
}

static void batch_done(struct imap_session *s, int err)
{
	struct across *a = s->data;

	if (err < 0) {
		fail(s, err);
		return;
	}
	imap_progress(s, a->at, a->count);
	if (a->at < a->count)
		load(s);
	else
		answer(s, 0);
}

static void added(struct imap_session *s, int err, const struct store_work_added *first)
{
	struct across *a = s->data;

	if (err < 0) {
		fail(s, err);
		return;
	}
	/* One transaction gave them all: without a gap. */
	for (unsigned i = 0; i < a->batch_count; i++) {
		uint32_t pair[2] = {a->batch[i], first->uid + i};

		buf_add(&a->pairs, pair, sizeof(pair));
	}
	s->at_slot = s->view.slot;
	if (a->is_move)
		imap_write_job(s, expunge_run, batch_done);
	else
		batch_done(s, 0);
}

static void loaded(struct imap_session *s, int err)
{
	struct across *a = s->data;
	struct store_work_add add = {.spool = a->spool,
		.targets = a->targets,
		.ranges = a->ranges,
		.target_count = a->batch_count};

	if (err < 0) {
		fail(s, err == ERR_NOT_FOUND ? ERR_NOT_NOW : err);
	} else if (!is_batch_full(a)) {
		imap_read(s, load_run, loaded);
	} else if (a->batch_count == 0) { /* the rest is gone */
		batch_done(s, 0);
	} else {
		s->at_slot = a->slot;
		imap_add(s, &add, added);
	}
}

static void load(struct imap_session *s)
{
	struct across *a = s->data;

	spool_free(&a->spool);
	a->spool = spool_new(SPOOL_MEMORY, 0);
	arena_reset(&a->arena);
	a->batch_count = 0;
	s->at_slot = s->view.slot;
	imap_read(s, load_run, loaded);
}

/* ---- the target ---- */

static int find_run(struct imap_session *s, struct store_txn *txn)
{
	struct across *a = s->data;
	struct store_mailbox to;
	int err = imap_access_find(s, txn, a->name, IMAP_RIGHT_INSERT, &to);

	if (err == 0)
		err = imap_access_rights(s, txn, &to, &a->rights);
	if (err < 0)
		return err;
	a->slot = store_txn_slot(txn);
	a->account = to.account;
	a->mailbox = to.id;
	a->uidvalidity = to.uidvalidity;
	a->is_guest = a->slot != s->slot || a->account != s->account;
	return 0;
}

static void found(struct imap_session *s, int err)
{
	struct across *a = s->data;

	if (err < 0 || a->count == 0)
		answer(s, err);
	else if (a->is_move && (s->view.rights & SOURCE_RIGHTS) != SOURCE_RIGHTS)
		answer(s, ERR_FORBIDDEN);
	else
		load(s);
}

void imap_across_start(
	struct imap_session *s, struct slice name, const uint32_t *uids, size_t count, bool is_move)
{
	struct across *a;

	s->cleanup = NULL; /* of what `data` was */
	a = imap_data(s, sizeof(*a));
	if (!a)
		return;
	a->name = name;
	a->uids = uids;
	a->count = count;
	a->is_move = is_move;
	arena_init(&a->arena, 0);
	s->cleanup = free_across;
	imap_access_go(s, name);
	imap_read(s, find_run, found);
}
