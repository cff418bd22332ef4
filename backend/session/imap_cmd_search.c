/*
 * SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN (RFC 4731) and MODSEQ (RFC 7162 section 3.1.5).
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
	struct buf found; /* uint32_t numbers, as the answer shows them */
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

static void add_found(
	struct imap_session *s, struct search_data *d, uint32_t seq, const struct store_entry *entry)
{
	uint32_t n = s->cmd->flags & IMAP_CMD_UID ? entry->uid : seq;

	if (buf_len(&d->found) == 0)
		d->first_modseq = entry->modseq;
	d->last_modseq = entry->modseq;
	if (entry->modseq > d->most_modseq)
		d->most_modseq = entry->modseq;
	buf_add(&d->found, &n, sizeof(n));
}

/* ---- the answer ---- */

static const uint32_t *numbers(const struct search_data *d, size_t *count_out)
{
	*count_out = buf_len(&d->found) / sizeof(uint32_t);
	return imap_numbers(&d->found);
}

static void write_search(struct search_data *d, struct buf *out)
{
	size_t count;
	const uint32_t *n = numbers(d, &count);

	buf_add_str(out, "* SEARCH");
	for (size_t i = 0; i < count; i++) {
		buf_add_char(out, ' ');
		buf_add_u64(out, n[i]);
	}
	if (d->search.has_modseq && count)
		buf_printf(out, " (MODSEQ %llu)", (unsigned long long)d->most_modseq);
	buf_add_str(out, "\r\n");
}

/* The MODSEQ of what is returned: of the lowest, the highest, or all (RFC 7162 section 3.1.10). */
static uint64_t returned_modseq(const struct search_data *d)
{
	unsigned returns = d->search.returns;

	if (returns & (IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_RETURN_COUNT))
		return d->most_modseq;
	if (returns == IMAP_SEARCH_RETURN_MIN)
		return d->first_modseq;
	if (returns == IMAP_SEARCH_RETURN_MAX)
		return d->last_modseq;
	return d->first_modseq > d->last_modseq ? d->first_modseq : d->last_modseq;
}

static void write_esearch(struct imap_session *s, struct search_data *d, struct buf *out)
{
	unsigned returns = d->search.returns;
	struct imap_write_set set;
	size_t count;
	const uint32_t *n = numbers(d, &count);

	buf_add_str(out, "* ESEARCH (TAG ");
	imap_write_string(out, s->parse.command.tag);
	buf_add_str(out, s->cmd->flags & IMAP_CMD_UID ? ") UID" : ")");
	if (count && returns & IMAP_SEARCH_RETURN_MIN)
		buf_printf(out, " MIN %u", n[0]);
	if (count && returns & IMAP_SEARCH_RETURN_MAX)
		buf_printf(out, " MAX %u", n[count - 1]);
	if (returns & IMAP_SEARCH_RETURN_COUNT)
		buf_printf(out, " COUNT %zu", count);
	if (count && returns & IMAP_SEARCH_RETURN_ALL) {
		buf_add_str(out, " ALL ");
		imap_write_set_start(&set, out);
		for (size_t i = 0; i < count; i++)
			imap_write_set_add(&set, n[i]);
		imap_write_set_end(&set);
	}
	if (count && d->search.has_modseq)
		buf_printf(out, " MODSEQ %llu", (unsigned long long)returned_modseq(d));
	buf_add_str(out, "\r\n");
}

/* ---- jobs ---- */

static int search_entries(
	struct imap_session *s, struct store_txn *txn, struct search_data *d, struct store_scan *scan)
{
	struct imap_search_message m = {.s = s, .txn = txn};
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
			add_found(s, d, m.seq, &entry);
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
	if (d->search.returns)
		write_esearch(s, d, &s->out);
	else
		write_search(d, &s->out);
	return 0;
}

static void search_done(struct imap_session *s, int err)
{
	const struct search_data *d = s->data;

	if (err < 0)
		imap_fail(s, err);
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
		imap_answer(s, "NO", "BADCHARSET (US-ASCII UTF-8)", "This charset is not known here");
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
	imap_read(s, search_run, search_done);
}
