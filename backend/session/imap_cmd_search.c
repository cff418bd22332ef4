/*
 * SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN (RFC 4731), SAVE (RFC 5182), PARTIAL (RFC 9394)
 * and MODSEQ (RFC 7162 section 3.1.5).
 * Read jobs of a few milliseconds each go over the index; the last one writes the answer.
 */
#include "backend/session/imap_search.h"

#include "common/base/clock.h"
#include "common/proto/imap_write.h"
#include "common/proto/mime.h"

#define JOB_US 4000

struct search_data {
	struct imap_search search;
	uint32_t seq;     /* the next message */
	struct buf found; /* uint32_t UIDs */
	int64_t now;
	uint64_t first_modseq, last_modseq, most_modseq;
	struct arena scratch;
	bool is_finished;
};

static void free_search(struct imap_session *s)
{
	struct search_data *d = s->data;

	imap_search_free(d->search.key);
	buf_deinit(&d->found);
	arena_deinit(&d->scratch);
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

	buf_add_str(out, "* SEARCH");
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

/*
 * What "$" becomes: all that was found, or, where neither ALL nor COUNT nor nothing else was asked for, what
 * MIN, MAX and PARTIAL show (RFC 5182 section 2.4, RFC 9394 section 3.2).
 */
static void save(struct imap_session *s, const struct search_data *d)
{
	const unsigned some = IMAP_SEARCH_RETURN_MIN | IMAP_SEARCH_RETURN_MAX | IMAP_SEARCH_RETURN_PARTIAL;
	unsigned returns = d->search.returns;
	size_t count, first = 0, part = 0;
	const uint32_t *n = numbers(d, &count);
	struct buf kept = {0};

	if (!(returns & some) || returns & (IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_RETURN_COUNT) ||
		count == 0) {
		imap_view_save(&s->view, n, count);
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
	imap_view_save(&s->view, imap_numbers(&kept), buf_len(&kept) / sizeof(*n));
	buf_deinit(&kept);
}

/* ---- jobs ---- */

static int search_entries(
	struct imap_session *s, struct store_txn *txn, struct search_data *d, struct store_scan *scan)
{
	struct imap_search_message m = {.s = s, .txn = txn, .now = d->now};
	uint64_t until = clock_mono_us() + JOB_US;
	unsigned mask = d->search.key->cost == IMAP_SEARCH_COST_INDEX ? 1023 : 0;
	struct store_entry entry;
	unsigned count = 0;

	m.entry = &entry;
	while (store_scan_next(scan, &entry)) {
		int match;

		while (d->seq <= s->view.count && s->view.uids[d->seq - 1] < entry.uid)
			d->seq++;
		if (d->seq > s->view.count)
			break;
		if (s->view.uids[d->seq - 1] != entry.uid)
			continue;
		m.seq = d->seq++;
		match = imap_search_match(&m, d->search.key, &d->scratch);
		if (match < 0)
			return match;
		if (match)
			add_found(d, &entry);
		if ((++count & mask) == 0 && clock_mono_us() > until)
			return 0;
	}
	d->is_finished = true;
	return scan->error;
}

static int search_run(struct imap_session *s, struct store_txn *txn)
{
	struct search_data *d = s->data;
	struct store_scan scan;
	int err = 0;

	if (d->seq > s->view.count) {
		d->is_finished = true;
	} else {
		err = store_scan_begin(&scan, txn, s->view.mailbox, s->view.uids[d->seq - 1]);
		if (err < 0)
			return err;
		err = search_entries(s, txn, d, &scan);
		store_scan_end(&scan);
	}
	if (err < 0 || !d->is_finished)
		return err;
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

static void search_done(struct imap_session *s, int err)
{
	const struct search_data *d = s->data;

	if (err < 0)
		fail(s, d, err);
	else if (!d->is_finished)
		imap_read(s, search_run, search_done);
	else
		imap_ok(s);
}

void imap_cmd_search(struct imap_session *s, const struct imap_command *command)
{
	struct search_data *d = imap_data(s, sizeof(*d));
	int err;

	if (!d)
		return;
	err = imap_search_key_parse(command->args, &s->arena, &d->search);
	if (err == ERR_UNSUPPORTED) {
		fail(s, d, err);
		return;
	}
	if (err < 0) {
		imap_bad(s, err == ERR_TOO_BIG ? "Search too large" : "Wrong arguments for SEARCH");
		return;
	}
	arena_init(&d->scratch, MIME_ARENA_MAX);
	s->cleanup = free_search;
	if (imap_search_prepare(&s->view, d->search.key) < 0) {
		imap_bad(s, "No such messages");
		return;
	}
	if (d->search.has_modseq)
		imap_enable_condstore(s);
	d->seq = 1;
	d->now = clock_wall_s();
	imap_read(s, search_run, search_done);
}
