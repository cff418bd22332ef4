/*
 * What a key needs is loaded when it is first asked for: the record, the header, the tree of the body.
 * Recursion goes down the tree of keys, whose depth the parser bounds. Texts are compared as RFC 5051 wants,
 * on decoded UTF-8; bodies are decoded in pieces, so that memory does not grow with the message.
 */
#include "backend/session/imap_search.h"

#include "backend/session/imap_keys.h"
#include "backend/session/imap_object.h"
#include "common/proto/charset.h"
#include "common/proto/date.h"
#include "common/proto/encoded_word.h"
#include "common/proto/envelope.h"
#include "common/proto/fold.h"
#include "common/proto/header.h"
#include "common/proto/mime.h"
#include "common/proto/transfer.h"

#define HEADER_MOST (1u << 20) /* of a header that is searched */
#define PIECE (64u * 1024)

struct judge {
	const struct imap_search_message *m;
	struct arena *scratch;
	struct store_message message;
	struct buf header;      /* with the trace */
	struct mime_part *root; /* offsets from behind the trace */
	bool has_message;
	bool has_header;
	bool has_tree;
	struct buf envelope; /* of date and subject */
	struct slice date, subject;
	bool has_envelope;
	int err; /* sticky: the answer is none */
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

int imap_search_prepare(const struct imap_view *v, struct imap_search_key *key, bool is_lenient)
{
	for (; key; key = key->next) {
		int err = 0;

		if (key->type == IMAP_SEARCH_SEQ || key->type == IMAP_SEARCH_UID)
			err = imap_view_resolve(v, &key->set, key->type == IMAP_SEARCH_UID);
		else if (key->type == IMAP_SEARCH_HEADER || key->type == IMAP_SEARCH_BODY ||
			 key->type == IMAP_SEARCH_TEXT)
			key->user = fold_search_new(key->text);
		if (err == ERR_SYNTAX && is_lenient) {
			clip(&key->set, v->count);
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
		struct fold_search *search = key->user;

		fold_search_free(&search);
		key->user = NULL;
		if (key->first)
			imap_search_free(key->first);
	}
}

/* ---- loading ---- */

static bool load_message(struct judge *j)
{
	if (j->has_message || j->err)
		return j->err == 0;
	j->err = store_message_get(j->m->txn, j->m->view->mailbox, j->m->entry->uid, &j->message);
	j->has_message = j->err == 0;
	return j->has_message;
}

/* Reads up to len octets at `at` into out. */
static bool read_octets(struct judge *j, uint64_t at, size_t len, struct buf *out)
{
	while (len && j->err == 0) {
		char *room = buf_reserve(out, len);
		size_t got = 0;

		if (!room) {
			j->err = ERR_TOO_BIG;
			break;
		}
		j->err = store_message_read(j->m->txn, &j->message, at, room, len, &got);
		if (j->err || got == 0)
			break;
		buf_added(out, got);
		at += got;
		len -= got;
	}
	return j->err == 0;
}

/* Date and subject from the record; false: they are not in it, and must be looked for in the message. */
static bool load_envelope(struct judge *j)
{
	if (!j->has_envelope && load_message(j))
		j->has_envelope =
			envelope_read(j->message.texts.envelope, &j->envelope, &j->date, &j->subject) == 0;
	return j->has_envelope;
}

static bool load_header(struct judge *j)
{
	struct mime_part *root;
	uint64_t len;

	if (j->has_header)
		return true;
	if (!load_message(j))
		return false;
	len = HEADER_MOST;
	if (mime_unpack(j->scratch, j->message.texts.parts, j->message.size - j->message.trace.len, &root) ==
		0)
		len = root->header_len + j->message.trace.len;
	j->has_header = read_octets(j, 0, (size_t)(len < HEADER_MOST ? len : HEADER_MOST), &j->header);
	return j->has_header;
}

static bool load_tree(struct judge *j)
{
	struct mime_parser *parser;
	struct buf piece = {0};
	uint64_t at;

	if (j->has_tree)
		return true;
	if (!load_message(j))
		return false;
	parser = mime_parser_new(j->scratch);
	if (!parser) {
		j->err = ERR_TOO_BIG;
		return false;
	}
	for (at = j->message.trace.len; at < j->message.size && j->err == 0; at += buf_len(&piece)) {
		buf_clear(&piece);
		if (!read_octets(j, at, PIECE, &piece) || buf_len(&piece) == 0)
			break;
		mime_parser_feed(parser, buf_view(&piece));
	}
	j->root = mime_parser_end(parser);
	mime_parser_free(&parser);
	buf_deinit(&piece);
	j->has_tree = j->err == 0 && j->root;
	return j->has_tree;
}

/* ---- texts ---- */

/* Any field of that name whose value has the text; an empty name: any field, name and value. */
static bool is_in_header(struct slice header, struct slice name, struct fold_search *search, bool any_value)
{
	struct header_reader reader;
	struct header_field field;
	struct buf text = {0};
	bool found = false;

	header_reader_init(&reader, header);
	while (!found && header_next(&reader, &field)) {
		if (name.len && !slice_is_equal_nocase(field.name, name))
			continue;
		if (any_value) {
			found = true;
			break;
		}
		buf_clear(&text);
		if (!name.len) {
			buf_add_slice(&text, field.name);
			buf_add_str(&text, ": ");
		}
		encoded_word_decode(field.value, &text);
		found = fold_has(search, buf_view(&text));
	}
	buf_deinit(&text);
	return found;
}

static bool is_in_part_header(struct judge *j, const struct mime_part *part, struct fold_search *search)
{
	struct buf header = {0};
	uint64_t len = part->header_len < HEADER_MOST ? part->header_len : HEADER_MOST;
	bool found = read_octets(j, part->header_at + j->message.trace.len, (size_t)len, &header) &&
		     is_in_header(buf_view(&header), SLICE_LIT(""), search, false);

	buf_deinit(&header);
	return found;
}

static struct charset_decoder *decoder_of(const struct mime_part *part)
{
	struct slice name = content_param(part->type.params, "charset");
	struct charset_decoder *decoder = NULL;

	/* US-ASCII is often a lie, and UTF-8 holds it. */
	if (name.len == 0 || slice_is_str_nocase(name, "us-ascii") ||
		charset_decoder_new(name, &decoder) < 0) {
		if (charset_decoder_new(SLICE_LIT("utf-8"), &decoder) < 0)
			return NULL;
	}
	return decoder;
}

static bool is_in_body(struct judge *j, const struct mime_part *part, struct fold_search *search)
{
	struct charset_decoder *decoder = decoder_of(part);
	struct transfer_decoder transfer;
	struct buf raw = {0}, plain = {0}, utf8 = {0};
	uint64_t at = mime_body_at(part) + j->message.trace.len, end = at + part->body_len;
	bool found = false;

	if (!decoder)
		return false;
	transfer_decoder_init(&transfer, part->encoding);
	fold_search_restart(search);
	while (!found && at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;

		buf_clear(&raw);
		buf_clear(&plain);
		buf_clear(&utf8);
		if (!read_octets(j, at, want, &raw) || buf_len(&raw) == 0)
			break;
		at += buf_len(&raw);
		transfer_decoder_feed(&transfer, buf_view(&raw), &plain);
		if (at == end)
			transfer_decoder_end(&transfer, &plain);
		charset_decoder_feed(decoder, buf_view(&plain), &utf8);
		if (at == end)
			charset_decoder_end(decoder, &utf8);
		found = fold_search_feed(search, buf_view(&utf8));
	}
	found = fold_search_end(search) || found;
	fold_search_restart(search);
	charset_decoder_free(&decoder);
	buf_deinit(&raw);
	buf_deinit(&plain);
	buf_deinit(&utf8);
	return found && j->err == 0;
}

/* BODY: texts of all parts and the headers within; TEXT: the message's header too. */
static bool judge_body(struct judge *j, const struct imap_search_key *key)
{
	if (key->text.len == 0)
		return true;
	if (key->type == IMAP_SEARCH_TEXT && load_header(j) &&
		is_in_header(buf_view(&j->header), SLICE_LIT(""), key->user, false))
		return true;
	if (!load_tree(j))
		return false;
	for (const struct mime_part *part = j->root; part && j->err == 0; part = mime_next(j->root, part)) {
		if (part != j->root && is_in_part_header(j, part, key->user))
			return true;
		if (part->kind == MIME_LEAF && slice_is_str_nocase(part->type.type, "text") &&
			is_in_body(j, part, key->user))
			return true;
	}
	return false;
}

static bool has_text(struct slice value, struct fold_search *search)
{
	struct buf text = {0};
	bool found;

	/* Most are plain: nothing to decode. */
	if (slice_is_ascii(value) && !slice_has_control(value) && !memmem(value.p, value.len, "=?", 2))
		return fold_has(search, value);
	encoded_word_decode(value, &text);
	found = fold_has(search, buf_view(&text));
	buf_deinit(&text);
	return found;
}

static bool judge_header(struct judge *j, const struct imap_search_key *key)
{
	/* A subject as such (RFC 3501 section 6.4.4) is that of ENVELOPE. An absent one may only be absent in a
	 * record whose texts were too large. */
	if (key->is_of_envelope && key->text.len && slice_is_str(key->name, "Subject") && load_envelope(j) &&
		j->subject.p)
		return has_text(j->subject, key->user);
	return load_header(j) && is_in_header(buf_view(&j->header), key->name, key->user, key->text.len == 0);
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
	else if (load_header(j))
		value = header_find(buf_view(&j->header), SLICE_LIT("Date"));
	else
		return false;
	if (!value.p || date_parse_rfc5322(value, &date) < 0)
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
	day = day_of(j->message.save_date);
	if (key->type == IMAP_SEARCH_SAVEDBEFORE)
		return day < key->day;
	return key->type == IMAP_SEARCH_SAVEDON ? day == key->day : day >= key->day;
}

/* What FETCH shows as EMAILID or THREADID. The scratch arena is left as it is: other keys may use it. */
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
		if (imap_keys_load(j->m->txn, &j->message, &arena, &made, &keys) < 0)
			keys = (struct mail_keys){0};
		arena_deinit(&arena);
		imap_object_thread(&j->message, &keys, &id);
	} else {
		imap_object_email(&j->message, &id);
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
		return entry->uid >= v->recent_from;
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
		return judge_header(j, key);
	case IMAP_SEARCH_BODY:
	case IMAP_SEARCH_TEXT:
		return judge_body(j, key);
	}
	return false;
}

int imap_search_match(
	const struct imap_search_message *m, const struct imap_search_key *key, struct arena *scratch)
{
	struct judge j = {.m = m, .scratch = scratch};
	bool is_match = judge_key(&j, key);

	buf_deinit(&j.header);
	buf_deinit(&j.envelope);
	if (key->cost != IMAP_SEARCH_COST_INDEX)
		arena_reset(scratch);
	/* One damaged message does not hide the others. */
	if (j.err == ERR_CORRUPT || j.err == ERR_NOT_FOUND)
		return 0;
	return j.err ? j.err : is_match;
}
