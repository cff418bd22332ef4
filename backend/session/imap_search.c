/*
 * What a key needs is loaded when it is first asked for: the record, the header, the texts of the body.
 * Recursion goes down the tree of keys, whose depth the parser bounds. Texts are compared as RFC 5051 wants: folded
 * octets within folded octets.
 */
#include "backend/session/imap_search.h"

#include <stdlib.h>

#include "backend/session/imap_keys.h"
#include "backend/session/imap_object.h"
#include "common/base/mem.h"
#include "common/proto/date.h"
#include "common/proto/encoded_word.h"
#include "common/proto/envelope.h"
#include "common/proto/fold.h"

/* What a key looks for. */
struct needle {
	struct buf folded;
	struct search_filter *filter; /* NULL: too short for the index */
};

struct judge {
	struct imap_search_message *m;
	struct imap_searcher *searcher;
	bool is_begun; /* the texts are of this message */
	bool has_envelope;
	struct slice date, subject; /* of the envelope */
	int err;                    /* sticky: the answer is none */
};

static bool judge_key(struct judge *j, const struct imap_search_key *key);

/* ---- preparing ---- */

/* Takes out what is beyond the mailbox. */
static void clip(struct seqset *set, uint32_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->count && set->ranges[i].from <= count; i++) {
		if (set->ranges[i].to > count)
			set->ranges[i].to = count;
		kept++;
	}
	set->count = kept;
}

static struct needle *needle_new(struct slice text)
{
	struct needle *n = xcalloc(1, sizeof(*n));

	fold_text(text, &n->folded);
	n->filter = search_filter_new(buf_view(&n->folded));
	return n;
}

static void needle_free(struct needle **needle)
{
	if (!*needle)
		return;
	buf_deinit(&(*needle)->folded);
	search_filter_free(&(*needle)->filter);
	free(*needle);
	*needle = NULL;
}

int imap_search_prepare(const struct imap_view *v, struct imap_search_key *key, bool is_lenient)
{
	for (; key; key = key->next) {
		int err = 0;

		if (key->type == IMAP_SEARCH_SEQ || key->type == IMAP_SEARCH_UID)
			err = imap_view_resolve(v, &key->set, key->type == IMAP_SEARCH_UID);
		else if (key->type == IMAP_SEARCH_HEADER || key->type == IMAP_SEARCH_BODY ||
			 key->type == IMAP_SEARCH_TEXT)
			key->user = needle_new(key->text);
		if (err == ERR_SYNTAX && is_lenient) {
			clip(&key->set, v->uids.count);
			err = 0;
		}
		if (err == 0 && key->first)
			err = imap_search_prepare(v, key->first, is_lenient);
		if (err < 0)
			return err;
	}
	return 0;
}

void imap_search_free(struct imap_search_key *key)
{
	for (; key; key = key->next) {
		struct needle *needle = key->user;

		needle_free(&needle);
		key->user = NULL;
		if (key->first)
			imap_search_free(key->first);
	}
}

static size_t longest_needle(const struct imap_search_key *key)
{
	size_t most = 0;

	for (; key; key = key->next) {
		const struct needle *n = key->user;
		size_t below = key->first ? longest_needle(key->first) : 0;

		most = n && buf_len(&n->folded) > most ? buf_len(&n->folded) : most;
		most = below > most ? below : most;
	}
	return most;
}

void imap_searcher_begin(struct imap_searcher *s, const struct imap_search_key *key, struct store *store,
	const struct imap_view *v)
{
	size_t longest = longest_needle(key);

	search_text_free(&s->text);
	s->text = search_text_new(longest ? longest - 1 : 0);
	search_index_free(&s->index);
	if (longest >= SEARCH_GRAM_LEN && store_text_is_on(store))
		s->index = search_index_new(store, v->slot, v->mailbox, v->uidvalidity);
}

void imap_searcher_open(struct imap_searcher *s)
{
	if (s->index)
		search_index_open(s->index);
}

void imap_searcher_close(struct imap_searcher *s)
{
	if (s->index)
		search_index_close(s->index);
}

void imap_searcher_deinit(struct imap_searcher *s)
{
	search_text_free(&s->text);
	search_index_free(&s->index);
	buf_deinit(&s->opened);
	buf_deinit(&s->envelope);
}

/* ---- loading ---- */

int imap_search_load(struct imap_search_message *m)
{
	uint32_t uid = m->entry->uid;

	if (m->has_message)
		return 0;
	if (m->walk && m->walk->cursor && m->walk->uid_from <= uid) {
		store_walk_skip(m->walk, uid);
		m->has_message = store_walk_next(m->walk, &m->message) && m->message.uid == uid;
	}
	/* The walk ends at a damaged record; the others are still there. */
	if (!m->has_message) {
		int err = store_message_get(m->txn, m->view->mailbox, uid, &m->message);

		if (err < 0)
			return err;
		m->has_message = true;
	}
	return 0;
}

static bool load_message(struct judge *j)
{
	if (j->err == 0)
		j->err = imap_search_load(j->m);
	return j->err == 0;
}

/* Date and subject from the record; false: they are not in it, and must be looked for in the message. */
static bool load_envelope(struct judge *j)
{
	struct slice envelope;

	if (!j->has_envelope && load_message(j)) {
		buf_clear(&j->searcher->envelope);
		j->has_envelope = store_text_view(&j->m->message.texts.envelope, &j->searcher->opened,
					  &envelope) == 0 &&
				  envelope_read(envelope, &j->searcher->envelope, &j->date, &j->subject) == 0;
	}
	return j->has_envelope;
}

static bool load_text(struct judge *j)
{
	if (load_message(j) && !j->is_begun) {
		search_text_begin(j->searcher->text, j->m->txn, &j->m->message);
		j->is_begun = true;
	}
	return j->err == 0;
}

/* ---- texts ---- */

static bool has_needle(const struct needle *n, struct slice folded)
{
	struct slice needle = buf_view(&n->folded);

	if (needle.len == 0 || folded.len < needle.len)
		return needle.len == 0;
	return memmem(folded.p, folded.len, needle.p, needle.len) != NULL;
}

struct look {
	const struct needle *needle;
	bool is_found;
};

static bool look_into(void *arg, struct slice folded)
{
	struct look *look = arg;

	look->is_found = has_needle(look->needle, folded);
	return !look->is_found;
}

/* BODY: texts of all parts and the headers within; TEXT: the message's header too. */
static bool judge_body(struct judge *j, const struct imap_search_key *key)
{
	struct look look = {.needle = key->user};
	struct slice header;

	if (key->text.len == 0)
		return true;
	if (!load_text(j))
		return false;
	if (key->type == IMAP_SEARCH_TEXT) {
		j->err = search_text_header(j->searcher->text, &header);
		if (j->err == 0 && has_needle(key->user, header))
			return true;
	}
	if (j->err == 0)
		j->err = search_text_bodies(j->searcher->text, look_into, &look);
	return j->err == 0 && look.is_found;
}

/* The index says that the message cannot have the text. */
static bool is_excluded(struct judge *j, const struct imap_search_key *key)
{
	const struct needle *needle = key->user;

	return j->searcher->index &&
	       search_index_excludes(j->searcher->index, needle->filter, j->m->entry->uid);
}

/* Any field of that name whose value has the text; an empty name: any field, name and value. */
static bool judge_header(struct judge *j, const struct imap_search_key *key)
{
	bool is_there = false;
	struct slice folded;

	if (!load_text(j))
		return false;
	/* A subject as such (RFC 3501 section 6.4.4) is that of ENVELOPE. An absent one may only be absent in a
	 * record whose texts were too large. */
	if (key->is_of_envelope && key->text.len && slice_is_str(key->name, "Subject")) {
		j->err = search_text_subject(j->searcher->text, &folded, &is_there);
		if (j->err || is_there)
			return j->err == 0 && has_needle(key->user, folded);
	}
	if (key->name.len) {
		j->err = search_text_values(j->searcher->text, key->name, &folded, &is_there);
	} else {
		j->err = search_text_header(j->searcher->text, &folded);
		is_there = j->err == 0 && folded.len;
	}
	return j->err == 0 && is_there && (key->text.len == 0 || has_needle(key->user, folded));
}

/* ---- dates and flags ---- */

static int64_t day_of(int64_t unix_s)
{
	return unix_s >= 0 ? unix_s / 86400 : -((-unix_s + 86399) / 86400);
}

static bool judge_sent(struct judge *j, const struct imap_search_key *key)
{
	struct date date;
	struct slice value;

	if (load_envelope(j) && j->date.p)
		value = j->date;
	else if (load_text(j))
		j->err = search_text_raw_value(j->searcher->text, SLICE_LIT("Date"), &value);
	else
		return false;
	if (j->err || !value.p || date_parse_rfc5322(value, &date) < 0)
		return false;
	if (key->type == IMAP_SEARCH_SENTBEFORE)
		return date.local_day < key->day;
	return key->type == IMAP_SEARCH_SENTON ? date.local_day == key->day : date.local_day >= key->day;
}

static bool judge_saved(struct judge *j, const struct imap_search_key *key)
{
	int64_t day;

	if (!load_message(j))
		return false;
	day = day_of(j->m->message.save_date);
	if (key->type == IMAP_SEARCH_SAVEDBEFORE)
		return day < key->day;
	return key->type == IMAP_SEARCH_SAVEDON ? day == key->day : day >= key->day;
}

/* What FETCH shows as EMAILID or THREADID. */
static bool judge_object(struct judge *j, const struct imap_search_key *key)
{
	struct buf id = {0}, made = {0};
	struct mail_keys keys = {0};
	struct arena arena;
	bool is_match;

	if (!load_message(j))
		return false;
	if (key->type == IMAP_SEARCH_THREADID) {
		arena_init(&arena, MIME_ARENA_MAX);
		if (imap_keys_load(j->m->txn, &j->m->message, &arena, &made, &keys) < 0)
			keys = (struct mail_keys){0};
		arena_deinit(&arena);
		imap_object_thread(j->m->view->created, &j->m->message, &keys, &id);
	} else {
		imap_object_email(j->m->view->created, &j->m->message, &id);
	}
	is_match = slice_is_equal(buf_view(&id), key->text);
	buf_deinit(&id);
	buf_deinit(&made);
	return is_match;
}

static bool has_flag(const struct store_entry *entry, enum imap_search_flag flag)
{
	static const uint8_t bits[] = {
		[IMAP_SEARCH_SEEN] = STORE_SEEN,
		[IMAP_SEARCH_ANSWERED] = STORE_ANSWERED,
		[IMAP_SEARCH_FLAGGED] = STORE_FLAGGED,
		[IMAP_SEARCH_DELETED] = STORE_DELETED,
		[IMAP_SEARCH_DRAFT] = STORE_DRAFT,
	};

	return entry->flags & bits[flag];
}

static bool has_keyword(const struct imap_view *v, const struct store_entry *entry, struct slice name)
{
	for (unsigned i = 0; i < v->keyword_count; i++) {
		if (entry->keywords & UINT64_C(1) << i && slice_is_equal_nocase(v->keywords[i], name))
			return true;
	}
	return false;
}

/* ---- the tree ---- */

static bool judge_all(struct judge *j, const struct imap_search_key *key)
{
	for (const struct imap_search_key *k = key->first; k; k = k->next) {
		if (!judge_key(j, k))
			return false;
	}
	return true;
}

static bool judge_any(struct judge *j, const struct imap_search_key *key)
{
	for (const struct imap_search_key *k = key->first; k; k = k->next) {
		if (judge_key(j, k))
			return true;
	}
	return false;
}

static bool judge_key(struct judge *j, const struct imap_search_key *key)
{
	const struct store_entry *entry = j->m->entry;
	const struct imap_view *v = j->m->view;
	struct seqset saved;

	if (j->err)
		return false;
	switch (key->type) {
	case IMAP_SEARCH_ALL:
		return true;
	case IMAP_SEARCH_AND:
		return judge_all(j, key);
	case IMAP_SEARCH_OR:
		return judge_any(j, key);
	case IMAP_SEARCH_NOT:
		return !judge_key(j, key->first);
	case IMAP_SEARCH_SEQ:
	case IMAP_SEARCH_UID:
		return seqset_has(&key->set, j->m->seq);
	case IMAP_SEARCH_SAVED:
		saved = imap_view_saved(v);
		return seqset_has(&saved, entry->uid);
	case IMAP_SEARCH_FLAG:
		return has_flag(entry, key->flag);
	case IMAP_SEARCH_RECENT:
		return imap_view_is_recent(v, entry->uid);
	case IMAP_SEARCH_KEYWORD:
		return has_keyword(v, entry, key->text);
	case IMAP_SEARCH_BEFORE:
		return day_of(entry->date) < key->day;
	case IMAP_SEARCH_ON:
		return day_of(entry->date) == key->day;
	case IMAP_SEARCH_SINCE:
		return day_of(entry->date) >= key->day;
	case IMAP_SEARCH_OLDER: /* RFC 5032: both have the moment itself */
		return j->m->now - entry->date >= (int64_t)key->number;
	case IMAP_SEARCH_YOUNGER:
		return j->m->now - entry->date <= (int64_t)key->number;
	case IMAP_SEARCH_LARGER:
		return entry->size > key->number;
	case IMAP_SEARCH_SMALLER:
		return entry->size < key->number;
	case IMAP_SEARCH_MODSEQ:
		return entry->modseq >= key->number;
	case IMAP_SEARCH_SAVEDBEFORE:
	case IMAP_SEARCH_SAVEDON:
	case IMAP_SEARCH_SAVEDSINCE:
		return judge_saved(j, key);
	case IMAP_SEARCH_EMAILID:
	case IMAP_SEARCH_THREADID:
		return judge_object(j, key);
	case IMAP_SEARCH_SENTBEFORE:
	case IMAP_SEARCH_SENTON:
	case IMAP_SEARCH_SENTSINCE:
		return judge_sent(j, key);
	case IMAP_SEARCH_HEADER:
		return !is_excluded(j, key) && judge_header(j, key);
	case IMAP_SEARCH_BODY:
	case IMAP_SEARCH_TEXT:
		return !is_excluded(j, key) && judge_body(j, key);
	}
	return false;
}

int imap_search_match(
	struct imap_search_message *m, const struct imap_search_key *key, struct imap_searcher *searcher)
{
	struct judge j = {.m = m, .searcher = searcher};
	bool is_match = judge_key(&j, key);

	/* One damaged message does not hide the others. */
	if (j.err == ERR_CORRUPT || j.err == ERR_NOT_FOUND)
		return 0;
	return j.err ? j.err : is_match;
}
