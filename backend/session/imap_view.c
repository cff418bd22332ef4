/* UIDs in one ascending list: a sequence number is a place in it. */
#include "backend/session/imap_core.h"

#include <stdlib.h>

#include "common/proto/imap_write.h"

static const struct {
	uint8_t flag;
	const char *name;
} system_flags[] = {
	{STORE_ANSWERED, "\\Answered"},
	{STORE_FLAGGED, "\\Flagged"},
	{STORE_DELETED, "\\Deleted"},
	{STORE_SEEN, "\\Seen"},
	{STORE_DRAFT, "\\Draft"},
};

void imap_view_init(struct imap_view *v)
{
	*v = (struct imap_view){0};
	arena_init(&v->names, 0);
}

void imap_view_deinit(struct imap_view *v)
{
	store_work_view_end(&v->hold);
	imap_uids_deinit(&v->uids);
	buf_deinit(&v->expunged);
	buf_deinit(&v->saved);
	arena_deinit(&v->names);
	imap_view_init(v);
}

static void add_run(void *arg, uint32_t from, uint32_t count)
{
	imap_uids_add(arg, from, count);
}

int imap_view_load(struct imap_view *v, struct store_txn *txn, uint32_t uidnext)
{
	return store_message_runs(txn, v->mailbox, uidnext, add_run, &v->uids);
}

uint32_t imap_view_seq(const struct imap_view *v, uint32_t uid)
{
	uint32_t at = imap_uids_lower(&v->uids, uid);

	return at < v->uids.count && imap_uids_at(&v->uids, at) == uid ? at + 1 : 0;
}

uint32_t imap_view_last_uid(const struct imap_view *v)
{
	return imap_uids_last(&v->uids);
}

static void add_recent(struct imap_view *v, uint32_t from, uint32_t to)
{
	struct imap_recent *last = v->recent_count ? &v->recent[v->recent_count - 1] : NULL;

	if (last && from == last->to + 1) {
		last->to = to;
		return;
	}
	if (v->recent_count == IMAP_VIEW_RECENT)
		memmove(v->recent, v->recent + 1, --v->recent_count * sizeof(*v->recent));
	v->recent[v->recent_count++] = (struct imap_recent){from, to};
}

void imap_view_claim(struct imap_view *v, uint32_t from, uint32_t to)
{
	uint32_t first = from <= to ? store_work_view_claim(v->hold, from, to) : 0;

	if (first)
		add_recent(v, first, to);
}

void imap_view_borrow_recent(struct imap_view *v, uint32_t from)
{
	v->recent_count = 0;
	add_recent(v, from, UINT32_MAX);
}

bool imap_view_is_recent(const struct imap_view *v, uint32_t uid)
{
	for (unsigned i = v->recent_count; i > 0; i--) {
		if (uid >= v->recent[i - 1].from)
			return uid <= v->recent[i - 1].to;
	}
	return false;
}

uint32_t imap_view_recent(const struct imap_view *v)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < v->recent_count; i++) {
		uint32_t to = v->recent[i].to;

		n += (to == UINT32_MAX ? v->uids.count : imap_uids_lower(&v->uids, to + 1)) -
		     imap_uids_lower(&v->uids, v->recent[i].from);
	}
	return n;
}

void imap_view_own(struct imap_view *v, uint64_t modseq, uint64_t newest)
{
	/* The steps of a long command follow one another, unless others write in between. */
	uint64_t last = v->own_count ? v->own[v->own_count - 1].to : 0;

	if (!modseq || newest > v->modseq)
		return;
	if (last && modseq == last + 1) {
		v->own[v->own_count - 1].to = modseq;
	} else if (v->own_count < IMAP_VIEW_OWN) {
		v->own[v->own_count].from = v->own[v->own_count].to = modseq;
		v->own_count++;
	}
}

void imap_view_learn_keywords(struct imap_view *v, const struct store_keywords *keywords)
{
	if (keywords->count <= v->keyword_count)
		return;
	if (!v->keywords)
		v->keywords = arena_calloc(&v->names, STORE_KEYWORDS_MAX, sizeof(*v->keywords));
	for (unsigned i = v->keyword_count; v->keywords && i < keywords->count && i < STORE_KEYWORDS_MAX;
		i++) {
		v->keywords[i] = arena_copy(&v->names, keywords->names[i]);
		v->keyword_count = i + 1;
	}
}

/* Ranges of UIDs become ranges of places. */
static void uids_to_seqs(const struct imap_view *v, struct seqset *set)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->count; i++) {
		uint32_t from = imap_uids_lower(&v->uids, set->ranges[i].from) + 1;
		uint32_t to = set->ranges[i].to == UINT32_MAX
				      ? v->uids.count
				      : imap_uids_lower(&v->uids, set->ranges[i].to + 1);

		if (from <= to)
			set->ranges[kept++] = (struct seqset_range){from, to};
	}
	set->count = kept;
}

int imap_view_resolve(const struct imap_view *v, struct seqset *set, bool is_uid)
{
	seqset_resolve(set, is_uid ? imap_view_last_uid(v) : v->uids.count);
	if (is_uid)
		uids_to_seqs(v, set);
	else if (v->uids.count == 0 && seqset_size(set) == 1 && set->ranges[0].from == 1)
		set->count = 0; /* "*" or "1:*" of an empty mailbox: nothing, and no error */
	else if (set->count && set->ranges[set->count - 1].to > v->uids.count)
		return ERR_SYNTAX;
	return 0;
}

int imap_view_entry(
	const struct imap_view *v, struct store_txn *txn, uint32_t uid, struct store_entry *entry_out)
{
	struct store_seen seen;
	int err = store_message_entry(txn, v->mailbox, uid, entry_out);

	if (err < 0 || !v->is_guest)
		return err;
	err = store_seen_begin(&seen, txn, v->mailbox, v->who);
	if (err == 0)
		err = store_seen_apply(&seen, entry_out);
	store_seen_end(&seen);
	return err;
}

/* ---- "$" ---- */

struct seqset imap_view_saved(const struct imap_view *v)
{
	size_t count = buf_len(&v->saved) / sizeof(struct seqset_range);

	return (struct seqset){
		count ? (struct seqset_range *)(void *)(v->saved.data + v->saved.start) : NULL, count};
}

/* A run without a message of the view between its UIDs is one range: later arrivals have higher UIDs. */
void imap_view_save(struct imap_view *v, const uint32_t *uids, size_t count)
{
	struct seqset_range range = {0, 0};
	uint32_t last = 0; /* place behind the last message */

	buf_clear(&v->saved);
	for (size_t i = 0; i < count; i++) {
		uint32_t at = i && last < v->uids.count && imap_uids_at(&v->uids, last) == uids[i]
				      ? last
				      : imap_uids_lower(&v->uids, uids[i]);

		if (i && at == last) {
			range.to = uids[i];
		} else {
			if (i)
				buf_add(&v->saved, &range, sizeof(range));
			range = (struct seqset_range){uids[i], uids[i]};
		}
		last = at + 1;
	}
	if (count)
		buf_add(&v->saved, &range, sizeof(range));
}

static int saved_set(const struct imap_view *v, struct arena *arena, struct seqset *seqs_out)
{
	struct seqset saved = imap_view_saved(v), set = {.count = saved.count};

	if (saved.count) {
		set.ranges = arena_alloc(arena, saved.count * sizeof(*set.ranges));
		if (!set.ranges)
			return ERR_TOO_BIG;
		memcpy(set.ranges, saved.ranges, saved.count * sizeof(*set.ranges));
	}
	uids_to_seqs(v, &set);
	*seqs_out = set;
	return 0;
}

int imap_view_set(const struct imap_view *v, struct slice text, bool is_uid, struct arena *arena,
	struct seqset *seqs_out)
{
	struct seqset set;
	int err;

	if (slice_is_str(text, "$"))
		return saved_set(v, arena, seqs_out);
	err = seqset_parse(text, arena, &set);
	if (err == 0)
		err = imap_view_resolve(v, &set, is_uid);
	if (err == 0)
		*seqs_out = set;
	return err;
}

int imap_view_uids(const struct imap_view *v, const struct seqset *seqs, struct arena *arena,
	uint32_t **uids_out, size_t *count_out)
{
	size_t count = (size_t)seqset_size(seqs), n = 0;
	uint32_t *uids = NULL;

	if (count) {
		uids = arena_alloc(arena, count * sizeof(*uids));
		if (!uids)
			return ERR_TOO_BIG;
	}
	for (size_t i = 0; i < seqs->count; i++) {
		size_t run = seqs->ranges[i].to - seqs->ranges[i].from + 1;

		imap_uids_copy(&v->uids, seqs->ranges[i].from - 1, (uint32_t)run, uids + n);
		n += run;
	}
	*uids_out = uids;
	*count_out = n;
	return 0;
}

void imap_view_write_flags(const struct imap_view *v, const struct store_entry *entry, struct buf *out)
{
	bool has_any = false;

	buf_add_char(out, '(');
	for (size_t i = 0; i < ARRAY_LEN(system_flags) && entry->flags; i++) {
		if (!(entry->flags & system_flags[i].flag))
			continue;
		if (has_any)
			buf_add_char(out, ' ');
		buf_add_str(out, system_flags[i].name);
		has_any = true;
	}
	if (!v->hides_recent && imap_view_is_recent(v, entry->uid)) {
		buf_add_str(out, has_any ? " \\Recent" : "\\Recent");
		has_any = true;
	}
	for (uint64_t bits = entry->keywords; bits; bits &= bits - 1) {
		unsigned i = (unsigned)__builtin_ctzll(bits);

		if (i >= v->keyword_count)
			continue;
		if (has_any)
			buf_add_char(out, ' ');
		buf_add_slice(out, v->keywords[i]);
		has_any = true;
	}
	buf_add_char(out, ')');
}

static void write_names(const struct imap_view *v, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
		buf_printf(out, "%s%s", i ? " " : "", system_flags[i].name);
	for (unsigned i = 0; i < v->keyword_count; i++) {
		buf_add_char(out, ' ');
		buf_add_slice(out, v->keywords[i]);
	}
}

/* Those that the rights reach (RFC 4314 section 5.1.1). */
static void write_permanent(const struct imap_view *v, struct buf *out)
{
	const char *blank = "";

	for (size_t i = 0; i < ARRAY_LEN(system_flags); i++) {
		if (!imap_access_flags(v->rights, system_flags[i].flag))
			continue;
		buf_printf(out, "%s%s", blank, system_flags[i].name);
		blank = " ";
	}
	if (!(v->rights & IMAP_RIGHT_WRITE))
		return;
	for (unsigned i = 0; i < v->keyword_count; i++) {
		buf_add_char(out, ' ');
		buf_add_slice(out, v->keywords[i]);
	}
	if (v->keyword_count < STORE_KEYWORDS_MAX)
		buf_add_str(out, " \\*");
}

void imap_view_write_flag_list(struct imap_view *v, struct buf *out)
{
	v->keyword_told = v->keyword_count;
	buf_add_str(out, "* FLAGS (");
	write_names(v, out);
	if (v->is_readonly) {
		buf_add_str(out, ")\r\n* OK [PERMANENTFLAGS ()] Read-only\r\n");
		return;
	}
	buf_add_str(out, ")\r\n* OK [PERMANENTFLAGS (");
	write_permanent(v, out);
	buf_add_str(out, ")] Flags kept\r\n");
}

void imap_view_tell_keywords(struct imap_view *v, struct buf *out)
{
	if (v->keyword_told < v->keyword_count)
		imap_view_write_flag_list(v, out);
}
