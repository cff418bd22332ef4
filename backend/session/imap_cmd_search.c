/*
 * SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN (RFC 4731), SAVE (RFC 5182), PARTIAL (RFC 9394)
 * and MODSEQ (RFC 7162 section 3.1.5).
 * SORT and THREAD (RFC 5256), with RETURN (RFC 5267 section 3). ESEARCH (RFC 7377): one mailbox after the other,
 * each with a view of its own, for which the keys are read anew; the selected one is searched as its client knows
 * it.
 *
 * Read jobs of a few milliseconds each go over the index, and over the records beside it where an order needs
 * their keys; then others bring what was found into order; the last ones write the answer.
 */
#include "backend/session/imap_keys.h"
#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_search.h"
#include "backend/session/imap_source.h"
#include "backend/session/imap_thread.h"
#include "backend/session/imap_status.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/proto/imap_write.h"
#include "common/proto/mime.h"

#include <stdlib.h>

#define JOB_US 4000

/* Of ESEARCH. */
struct multi {
	struct imap_sources sources;
	const struct imap_arg *program; /* RETURN, CHARSET, keys */
	struct buf mailboxes;           /* struct imap_source_mailbox */
	size_t at;
	unsigned asked; /* slots, the own one first */
	struct imap_view view;
	struct arena arena; /* of the keys */
	bool is_found;      /* which mailboxes there are is known */
	bool is_open;       /* one is under way */
};

struct search_data {
	struct imap_search search;
	const struct imap_view *view;
	struct multi *multi;
	const char *word;          /* of the untagged answer */
	struct imap_sorter sorter; /* of SORT */
	struct imap_thread *thread;
	bool is_sort;
	bool needs_keys;
	bool is_begun;    /* a part of the THREAD answer is out */
	uint32_t seq;     /* the next message */
	bool has_missing; /* messages of the view were gone, and the client has not heard of it */
	struct buf found; /* uint32_t UIDs */
	int64_t now;
	uint64_t first_modseq, last_modseq, most_modseq;
	struct imap_searcher searcher;
	struct arena scratch; /* of keys made anew */
	bool is_searched;
	bool is_finished;
};

static void free_search(struct imap_session *s)
{
	struct search_data *d = s->data;

	imap_search_free(d->search.key);
	if (d->multi) {
		imap_view_deinit(&d->multi->view);
		arena_deinit(&d->multi->arena);
		buf_deinit(&d->multi->mailboxes);
	}
	if (d->is_sort)
		imap_sorter_deinit(&d->sorter);
	imap_thread_free(&d->thread);
	buf_deinit(&d->found);
	imap_searcher_deinit(&d->searcher);
	arena_deinit(&d->scratch);
}

static size_t mailbox_count(const struct multi *m)
{
	return buf_len(&m->mailboxes) / sizeof(struct imap_source_mailbox);
}

static const struct imap_source_mailbox *mailbox_at(const struct multi *m)
{
	return (const struct imap_source_mailbox *)(const void *)buf_view(&m->mailboxes).p + m->at;
}

static void add_found(struct search_data *d, const struct store_entry *entry)
{
	if (buf_len(&d->found) == 0)
		d->first_modseq = entry->modseq;
	d->last_modseq = entry->modseq;
	if (entry->modseq > d->most_modseq)
		d->most_modseq = entry->modseq;
	buf_add(&d->found, &entry->uid, sizeof(entry->uid));
}

/* ---- the answer ---- */

static const uint32_t *numbers(const struct search_data *d, size_t *count_out)
{
	*count_out = buf_len(&d->found) / sizeof(uint32_t);
	return imap_numbers(&d->found);
}

/* As the answer shows it. */
static uint32_t number_of(const struct imap_session *s, uint32_t uid)
{
	return s->cmd->flags & IMAP_CMD_UID ? uid : imap_view_seq(&s->view, uid);
}

static void write_search(struct imap_session *s, struct search_data *d, struct buf *out)
{
	size_t count;
	const uint32_t *n = numbers(d, &count);

	buf_printf(out, "* %s", d->word);
	for (size_t i = 0; i < count; i++) {
		buf_add_char(out, ' ');
		buf_add_u64(out, number_of(s, n[i]));
	}
	if (d->search.has_modseq && count)
		buf_printf(out, " (MODSEQ %llu)", (unsigned long long)d->most_modseq);
	buf_add_str(out, "\r\n");
}

/* The MODSEQ of what is returned: of the lowest, the highest, or all (RFC 7162 section 3.1.10). */
static uint64_t returned_modseq(const struct search_data *d)
{
	unsigned returns = d->search.returns & ~(unsigned)IMAP_SEARCH_RETURN_SAVE;

	if (returns & (IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_RETURN_COUNT | IMAP_SEARCH_RETURN_PARTIAL))
		return d->most_modseq;
	if (returns == IMAP_SEARCH_RETURN_MIN)
		return d->first_modseq;
	if (returns == IMAP_SEARCH_RETURN_MAX)
		return d->last_modseq;
	return d->first_modseq > d->last_modseq ? d->first_modseq : d->last_modseq;
}

static void write_set(const struct imap_session *s, const uint32_t *uids, size_t count, struct buf *out)
{
	struct imap_write_set set;

	imap_write_set_start(&set, out);
	for (size_t i = 0; i < count; i++)
		imap_write_set_add(&set, number_of(s, uids[i]));
	imap_write_set_end(&set);
}

static void write_partial(
	const struct imap_session *s, const struct search_data *d, const uint32_t *uids, struct buf *out)
{
	const struct imap_partial *p = &d->search.partial;
	const char *minus = p->is_last ? "-" : "";
	size_t first, count;

	imap_partial_clip(p, buf_len(&d->found) / sizeof(uint32_t), &first, &count);
	buf_printf(out, " PARTIAL (%s%u:%s%u ", minus, p->from, minus, p->to);
	if (count)
		write_set(s, uids + first, count, out);
	else
		buf_add_str(out, "NIL");
	buf_add_char(out, ')');
}

static void write_esearch(struct imap_session *s, struct search_data *d, struct buf *out)
{
	unsigned returns = d->search.returns;
	size_t count;
	const uint32_t *n = numbers(d, &count);

	buf_add_str(out, "* ESEARCH (TAG ");
	imap_write_string(out, s->parse.command.tag);
	if (d->multi) {
		buf_add_str(out, " MAILBOX ");
		imap_name_write(s, out, mailbox_at(d->multi)->name);
		buf_printf(out, " UIDVALIDITY %u", d->view->uidvalidity);
	}
	buf_add_str(out, s->cmd->flags & IMAP_CMD_UID ? ") UID" : ")");
	if (count && returns & IMAP_SEARCH_RETURN_MIN)
		buf_printf(out, " MIN %u", number_of(s, n[0]));
	if (count && returns & IMAP_SEARCH_RETURN_MAX)
		buf_printf(out, " MAX %u", number_of(s, n[count - 1]));
	if (returns & IMAP_SEARCH_RETURN_COUNT)
		buf_printf(out, " COUNT %zu", count);
	if (count && returns & IMAP_SEARCH_RETURN_ALL) {
		buf_add_str(out, " ALL ");
		write_set(s, n, count, out);
	}
	if (returns & IMAP_SEARCH_RETURN_PARTIAL)
		write_partial(s, d, n, out);
	if (count && d->search.has_modseq)
		buf_printf(out, " MODSEQ %llu", (unsigned long long)returned_modseq(d));
	buf_add_str(out, "\r\n");
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* What SORT found is in its order, "$" is a set (RFC 9051 section 6.4.4.1: SAVE is of SORT too). */
static void save_numbers(struct imap_session *s, const struct search_data *d, uint32_t *n, size_t count)
{
	if (d->is_sort && count)
		qsort(n, count, sizeof(*n), compare_numbers);
	imap_view_save(&s->view, n, count);
}

/*
 * What "$" becomes: all that was found, or, where neither ALL nor COUNT nor nothing else was asked for, what
 * MIN, MAX and PARTIAL show (RFC 5182 section 2.4, RFC 9394 section 3.2). The last use of what was found.
 */
static void save(struct imap_session *s, const struct search_data *d)
{
	const unsigned some = IMAP_SEARCH_RETURN_MIN | IMAP_SEARCH_RETURN_MAX | IMAP_SEARCH_RETURN_PARTIAL;
	unsigned returns = d->search.returns;
	size_t count = buf_len(&d->found) / sizeof(uint32_t), first = 0, part = 0;
	uint32_t *n = imap_numbers(&d->found);
	struct buf kept = {0};

	if (!(returns & some) || returns & (IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_RETURN_COUNT) ||
		count == 0) {
		save_numbers(s, d, n, count);
		return;
	}
	if (returns & IMAP_SEARCH_RETURN_PARTIAL)
		imap_partial_clip(&d->search.partial, count, &first, &part);
	if (returns & IMAP_SEARCH_RETURN_MIN && (part == 0 || first > 0))
		buf_add(&kept, &n[0], sizeof(*n));
	buf_add(&kept, n + first, part * sizeof(*n));
	if (returns & IMAP_SEARCH_RETURN_MAX && (part == 0 || first + part < count) &&
		!(count == 1 && buf_len(&kept)))
		buf_add(&kept, &n[count - 1], sizeof(*n));
	save_numbers(s, d, imap_numbers(&kept), buf_len(&kept) / sizeof(*n));
	buf_deinit(&kept);
}

/* ---- jobs ---- */

/* A damaged message sorts as one without header. */
static int add_to_order(
	struct imap_session *s, struct search_data *d, struct imap_search_message *m, struct buf *made)
{
	static const struct mail_keys none;
	struct mail_keys keys = none;
	int err = d->needs_keys ? imap_search_load(m) : 0;

	if (err == 0 && d->needs_keys)
		err = imap_keys_load(m->txn, &m->message, &d->scratch, made, &keys);
	if (err < 0 && err != ERR_NOT_FOUND && err != ERR_CORRUPT)
		return err;
	if (d->thread)
		return imap_thread_add(
			d->thread, s->cmd->flags & IMAP_CMD_UID ? m->entry->uid : m->seq, m->entry, &keys);
	return imap_sorter_add(&d->sorter, m->entry->uid, m->entry, &keys);
}

static int search_entries(struct imap_session *s, struct store_txn *txn, struct search_data *d,
	struct store_scan *scan, struct store_walk *walk, struct buf *made)
{
	struct imap_search_message m = {.view = d->view, .txn = txn, .now = d->now, .walk = walk};
	uint64_t until = clock_mono_us() + JOB_US;
	/* How often the clock is looked at. */
	unsigned mask = d->search.key->cost == IMAP_SEARCH_COST_BODY     ? 0
			: d->search.key->cost == IMAP_SEARCH_COST_HEADER ? 15
			: d->needs_keys                                  ? 63
									 : 1023;
	struct imap_uids_walk at = imap_uids_walk(&d->view->uids, d->seq - 1);
	struct store_entry entry;
	unsigned count = 0;
	uint32_t uid;

	m.entry = &entry;
	while (store_scan_next(scan, &entry)) {
		int match;

		while ((uid = imap_uids_peek(&at)) && uid < entry.uid) {
			d->has_missing = true;
			d->seq++;
			imap_uids_step(&at);
		}
		if (!uid)
			break;
		if (uid != entry.uid)
			continue;
		m.seq = d->seq++;
		imap_uids_step(&at);
		m.has_message = false;
		match = imap_search_match(&m, d->search.key, &d->searcher);
		if (match < 0)
			return match;
		if (match)
			add_found(d, &entry);
		if (match && (d->is_sort || d->thread)) {
			match = add_to_order(s, d, &m, made);
			if (match < 0)
				return match;
		}
		if ((++count & mask) == 0 && clock_mono_us() > until)
			return 0;
	}
	d->has_missing |= d->seq <= d->view->uids.count;
	d->is_searched = true;
	return scan->error;
}

static int search_step(struct imap_session *s, struct store_txn *txn, struct search_data *d)
{
	struct buf made = {0};
	struct store_scan scan;
	struct store_walk walk;
	uint32_t uid;
	int err;

	if (d->seq > d->view->uids.count) {
		d->is_searched = true;
		return 0;
	}
	uid = imap_uids_at(&d->view->uids, d->seq - 1);
	err = store_scan_begin_for(&scan, txn, d->view->mailbox, uid, imap_view_who(d->view));
	if (err < 0)
		return err;
	err = store_walk_begin(&walk, txn, d->view->mailbox, uid);
	if (err == 0) {
		imap_searcher_open(&d->searcher);
		err = search_entries(s, txn, d, &scan, &walk, &made);
		imap_searcher_close(&d->searcher);
		store_walk_end(&walk);
	}
	store_scan_end(&scan);
	buf_deinit(&made);
	return err;
}

/* Puts what was found into the order asked for. */
static int sort_step(struct imap_session *s, struct store_txn *txn, struct search_data *d)
{
	struct store_entry entry;
	int sorted = imap_sorter_step(&d->sorter, clock_mono_us() + JOB_US);

	if (sorted != 1)
		return sorted;
	buf_clear(&d->found);
	for (size_t i = 0; i < imap_sorter_count(&d->sorter); i++) {
		uint32_t uid = imap_sorter_number(&d->sorter, i);

		buf_add(&d->found, &uid, sizeof(uid));
	}
	/* MIN and MAX are of this order. */
	if (d->search.has_modseq && imap_sorter_count(&d->sorter)) {
		const uint32_t *uids = imap_numbers(&d->found);
		size_t last = imap_sorter_count(&d->sorter) - 1;

		if (imap_view_entry(&s->view, txn, uids[0], &entry) == 0)
			d->first_modseq = entry.modseq;
		if (imap_view_entry(&s->view, txn, uids[last], &entry) == 0)
			d->last_modseq = entry.modseq;
	}
	return 1;
}

static int thread_step(struct imap_session *s, struct search_data *d)
{
	int done = imap_thread_step(d->thread, clock_mono_us() + JOB_US);

	if (done != 1)
		return done;
	if (!d->is_begun)
		buf_add_str(&s->out, buf_len(&d->found) ? "* THREAD " : "* THREAD");
	d->is_begun = true;
	d->is_finished = imap_thread_write(d->thread, &s->out, IMAP_BATCH);
	if (d->is_finished)
		buf_add_str(&s->out, "\r\n");
	return 0;
}

/* ---- ESEARCH ---- */

/* What is there now of a mailbox that is not selected. */
static int load_view(const struct imap_session *s, struct store_txn *txn, const struct imap_source_mailbox *e,
	struct imap_view *v)
{
	struct store_keywords keywords;
	struct store_mailbox m;
	int err = store_mailbox_get(txn, e->account, e->id, &m);

	if (err == 0)
		err = store_mailbox_keywords(txn, e->account, e->id, &keywords);
	if (err < 0)
		return err;
	v->mailbox = e->id;
	v->account = e->account;
	v->slot = e->slot;
	v->created = imap_access_created(s, v->slot, v->account);
	v->is_guest = e->account != s->account || e->slot != s->slot;
	v->who = imap_access_who(s);
	v->uidvalidity = m.uidvalidity;
	if (!v->is_guest)
		imap_view_borrow_recent(v, imap_status_recent_from(s, &m));
	imap_view_learn_keywords(v, &keywords);
	return imap_view_load(v, txn, m.uidnext);
}

static void close_mailbox(struct search_data *d)
{
	struct multi *m = d->multi;

	imap_search_free(d->search.key);
	d->search.key = NULL;
	imap_view_deinit(&m->view);
	arena_reset(&m->arena);
	buf_clear(&d->found);
	d->first_modseq = d->last_modseq = d->most_modseq = 0;
	m->is_open = false;
	m->at++;
}

/* The keys are read for each mailbox, since their sets become its own. The program was read once before. */
static int open_mailbox(struct imap_session *s, struct store_txn *txn, struct search_data *d)
{
	struct multi *m = d->multi;
	const struct imap_source_mailbox *e = mailbox_at(m);
	unsigned returns = d->search.returns;
	bool is_view = e->id == s->view.mailbox && e->slot == s->view.slot;
	int err = is_view ? imap_access_check(s, txn, IMAP_RIGHT_READ) : load_view(s, txn, e, &m->view);

	d->view = is_view ? &s->view : &m->view;
	if (err == 0)
		err = imap_search_key_parse(m->program, &m->arena, &d->search);
	d->search.returns = returns;
	if (err == 0)
		err = imap_search_prepare(d->view, d->search.key, true);
	if (err == 0)
		imap_searcher_begin(&d->searcher, d->search.key, store_work_store(s->service->work), d->view);
	d->seq = 1;
	d->is_searched = false;
	m->is_open = true;
	return err;
}

static void answer_mailbox(struct imap_session *s, struct search_data *d)
{
	if (buf_len(&d->found) && d->search.returns & ~(unsigned)IMAP_SEARCH_RETURN_SAVE)
		write_esearch(s, d, &s->out);
	if (d->search.returns & IMAP_SEARCH_RETURN_SAVE)
		save(s, d);
}

/* Slot by slot. */
static int find_mailboxes(struct imap_session *s, struct store_txn *txn, struct search_data *d)
{
	struct multi *m = d->multi;
	unsigned slots =
		imap_source_is_wide(s, &m->sources) ? store_slots(store_work_store(s->service->work)) : 1;

	m->asked++;
	m->is_found = m->asked == slots;
	return imap_source_find(s, txn, &m->sources, &s->arena, &m->mailboxes);
}

static int multi_run(struct imap_session *s, struct store_txn *txn)
{
	struct search_data *d = s->data;
	struct multi *m = d->multi;
	uint64_t until = clock_mono_us() + JOB_US;
	int err = m->is_found ? 0 : find_mailboxes(s, txn, d);

	while (err == 0 && m->is_found && m->at < mailbox_count(m) &&
		mailbox_at(m)->slot == store_txn_slot(txn) && buf_len(&s->out) < IMAP_BATCH &&
		clock_mono_us() < until) {
		if (!m->is_open)
			err = open_mailbox(s, txn, d);
		if (err == 0)
			err = search_step(s, txn, d);
		if (err == ERR_NOT_FOUND) { /* deleted meanwhile */
			close_mailbox(d);
			err = 0;
		} else if (err == 0 && d->is_searched) {
			answer_mailbox(s, d);
			close_mailbox(d);
		}
	}
	d->is_finished = m->is_found && m->at == mailbox_count(m);
	return err;
}

/* The slot of the next job: the own one, the others by number, then those of the mailboxes. */
static unsigned next_slot(const struct imap_session *s, const struct multi *m)
{
	if (m->is_found)
		return m->at < mailbox_count(m) ? mailbox_at(m)->slot : s->slot;
	if (m->asked == 0)
		return s->slot;
	return m->asked <= s->slot ? m->asked - 1 : m->asked;
}

/* ---- one mailbox ---- */

static int search_run(struct imap_session *s, struct store_txn *txn)
{
	struct search_data *d = s->data;
	int err = d->is_searched ? 0 : search_step(s, txn, d);

	if (err < 0 || !d->is_searched)
		return err;
	if (d->thread)
		return thread_step(s, d);
	if (d->is_sort) {
		int sorted = sort_step(s, txn, d);

		if (sorted != 1)
			return sorted;
	}
	d->is_finished = true;
	/* SAVE by itself is not answered. */
	if (d->search.returns & ~(unsigned)IMAP_SEARCH_RETURN_SAVE)
		write_esearch(s, d, &s->out);
	else if (!d->search.returns)
		write_search(s, d, &s->out);
	if (d->search.returns & IMAP_SEARCH_RETURN_SAVE)
		save(s, d);
	return 0;
}

/* A NO empties what was to be saved. */
static void fail(struct imap_session *s, const struct search_data *d, int err)
{
	if (d->search.returns & IMAP_SEARCH_RETURN_SAVE)
		imap_view_save(&s->view, NULL, 0);
	if (err == ERR_UNSUPPORTED)
		imap_answer(s, "NO", "BADCHARSET (US-ASCII UTF-8)", "This charset is not known here");
	else
		imap_fail(s, err);
}

static void search_done(struct imap_session *s, int err);

static void search_next(struct imap_session *s)
{
	const struct search_data *d = s->data;

	if (d->multi)
		s->at_slot = next_slot(s, d->multi);
	imap_read(s, d->multi ? multi_run : search_run, search_done);
}

static void go_on(struct imap_session *s, const struct search_data *d)
{
	if (d->multi)
		imap_progress(s, d->multi->at, mailbox_count(d->multi));
	else if (!d->is_searched)
		imap_progress(s, d->seq - 1, s->view.uids.count);
	imap_when_sent(s, search_next);
}

static void search_done(struct imap_session *s, int err)
{
	const struct search_data *d = s->data;

	if (err < 0)
		fail(s, d, err);
	else if (d->is_finished && d->has_missing) /* RFC 5530 section 3 */
		imap_answer(s, "OK", "EXPUNGEISSUED", "Some of the messages are gone");
	else if (d->is_finished)
		imap_ok(s);
	else
		go_on(s, d);
}

/* err: of parsing */
static void begin(struct imap_session *s, struct search_data *d, int err)
{
	if (err == ERR_UNSUPPORTED) {
		fail(s, d, err);
		return;
	}
	if (err < 0) {
		imap_bad(s, err == ERR_TOO_BIG ? "Search too large" : "Wrong arguments for a search");
		return;
	}
	arena_init(&d->scratch, MIME_ARENA_MAX);
	s->cleanup = free_search;
	if (s->is_uidonly && d->search.has_seq) {
		imap_answer(s, "BAD", "UIDREQUIRED", "Only UIDs may be used, as was enabled");
		return;
	}
	d->view = &s->view;
	if (!d->multi && imap_search_prepare(&s->view, d->search.key, false) < 0) {
		imap_bad(s, "No such messages");
		return;
	}
	if (!d->multi)
		imap_searcher_begin(&d->searcher, d->search.key, store_work_store(s->service->work), d->view);
	if (d->search.has_modseq)
		imap_enable_condstore(s);
	d->seq = 1;
	d->now = clock_wall_s();
	search_next(s);
}

/* RFC 6855 section 3: all is UTF-8 once it was enabled. */
static int refuse_charset(const struct imap_session *s, const struct search_data *d, int err)
{
	return s->is_utf8 && d->search.has_charset ? ERR_SYNTAX : err;
}

void imap_cmd_search(struct imap_session *s, const struct imap_command *command)
{
	struct search_data *d = imap_data(s, sizeof(*d));
	int err;

	if (!d)
		return;
	d->word = "SEARCH";
	err = imap_search_key_parse(command->args, &s->arena, &d->search);
	/* RFC 9051 section 6.4.4: there is no other answer than ESEARCH. */
	if (s->is_rev2 && !d->search.returns)
		d->search.returns = IMAP_SEARCH_RETURN_ALL;
	begin(s, d, refuse_charset(s, d, err));
}

/* ["IN" (sources)] [RETURN (...)] keys; without sources: the selected mailbox. ERR_UNSUPPORTED: BADCHARSET. */
static int read_esearch(struct imap_session *s, const struct imap_arg *arg, struct search_data *d)
{
	struct imap_sources *sources = &d->multi->sources;
	int err = 0;

	if (imap_parse_is_word(arg, "IN")) {
		err = imap_source_parse(s, arg->next, &s->arena, sources);
		if (err < 0)
			return err;
		arg = arg->next->next;
	} else {
		sources->list[sources->count++].kind = IMAP_SOURCE_SELECTED;
		sources->has_selected = true;
	}
	d->multi->program = arg;
	err = imap_search_key_parse(arg, &s->arena, &d->search);
	if (!d->search.returns)
		d->search.returns = IMAP_SEARCH_RETURN_ALL;
	if (err == 0 && d->search.returns & IMAP_SEARCH_RETURN_SAVE && sources->has_others)
		err = ERR_SYNTAX;
	if (err == 0 && sources->has_selected && !s->view.mailbox)
		err = ERR_SYNTAX;
	d->search.key = NULL; /* read anew for each mailbox */
	return err;
}

void imap_cmd_esearch(struct imap_session *s, const struct imap_command *command)
{
	struct search_data *d = imap_data(s, sizeof(*d));

	if (!d)
		return;
	d->multi = arena_calloc(&s->arena, 1, sizeof(*d->multi));
	if (!d->multi) {
		imap_fail(s, ERR_TOO_BIG);
		return;
	}
	imap_view_init(&d->multi->view);
	arena_init(&d->multi->arena, IMAP_PARSE_ARENA_AFTER);
	begin(s, d, refuse_charset(s, d, read_esearch(s, command->args, d)));
}

void imap_cmd_sort(struct imap_session *s, const struct imap_command *command)
{
	struct search_data *d = imap_data(s, sizeof(*d));
	const struct imap_arg *arg = command->args;
	struct imap_sort program;
	int err;

	if (!d)
		return;
	d->word = "SORT";
	err = imap_search_key_parse_returns(&arg, &d->search);
	if (err == 0)
		err = imap_sort_parse(arg, &program);
	if (err == 0)
		err = imap_search_key_parse_program(arg->next, &s->arena, &d->search);
	if (err == 0) {
		imap_sorter_init(&d->sorter, &program);
		d->is_sort = true;
		d->needs_keys = imap_sorter_needs_keys(&d->sorter);
	}
	begin(s, d, err);
}

void imap_cmd_thread(struct imap_session *s, const struct imap_command *command)
{
	struct search_data *d = imap_data(s, sizeof(*d));
	enum imap_thread_algorithm algorithm;
	int err;

	if (!d)
		return;
	err = imap_sort_parse_algorithm(command->args, &algorithm);
	if (err == ERR_UNSUPPORTED) {
		imap_bad(s, "No such algorithm");
		return;
	}
	if (err == 0)
		err = imap_search_key_parse_program(command->args->next, &s->arena, &d->search);
	if (err == 0) {
		d->thread = imap_thread_new(algorithm);
		d->needs_keys = true;
	}
	begin(s, d, err);
}
