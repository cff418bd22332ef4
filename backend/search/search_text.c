/*
 * A message of moderate size is read once and whole; of a larger one, the ranges that are asked for. Where the parts
 * are is in the record; what type they have is read from their headers. Bodies are decoded in pieces, so that memory
 * does not grow with the message.
 */
#include "backend/search/search_text.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/proto/charset.h"
#include "common/proto/encoded_word.h"
#include "common/proto/envelope.h"
#include "common/proto/fold.h"
#include "common/proto/header.h"
#include "common/proto/mime.h"
#include "common/proto/transfer.h"

#define WHOLE_MAX (256u * 1024)
#define PIECE (64u * 1024)
/* Folded text that is handed over at once, unless one piece gives more. */
#define BATCH (128u * 1024)
#define DECODERS 4
#define CHARSET_MAX 64

struct decoder {
	struct charset_decoder *decoder;
	char name[CHARSET_MAX]; /* in small letters */
	size_t name_len;
};

struct search_text {
	size_t overlap;
	struct store_txn *txn;
	const struct store_message *message;
	struct arena arena; /* the tree */
	struct arena type;  /* the type of the part under way */
	struct buf whole;   /* the message, if is_whole */
	struct buf range;   /* what was read last of one that is larger */
	struct buf header;  /* folded */
	struct buf values;
	struct buf opened, envelope;
	struct buf plain, utf8, text, folded;
	struct fold_stream fold;
	struct mime_part *root; /* offsets from behind the trace */
	struct decoder decoders[DECODERS];
	unsigned next_decoder;
	bool is_whole;
	bool has_header;
};

struct search_text *search_text_new(size_t overlap)
{
	struct search_text *t = xcalloc(1, sizeof(*t));

	t->overlap = overlap;
	arena_init(&t->arena, MIME_ARENA_MAX);
	arena_init(&t->type, MIME_ARENA_MAX);
	return t;
}

void search_text_free(struct search_text **text)
{
	struct search_text *t = *text;

	if (!t)
		return;
	for (size_t i = 0; i < DECODERS; i++)
		charset_decoder_free(&t->decoders[i].decoder);
	arena_deinit(&t->arena);
	arena_deinit(&t->type);
	buf_deinit(&t->whole);
	buf_deinit(&t->range);
	buf_deinit(&t->header);
	buf_deinit(&t->values);
	buf_deinit(&t->opened);
	buf_deinit(&t->envelope);
	buf_deinit(&t->plain);
	buf_deinit(&t->utf8);
	buf_deinit(&t->text);
	buf_deinit(&t->folded);
	fold_stream_deinit(&t->fold);
	free(t);
	*text = NULL;
}

void search_text_begin(struct search_text *t, struct store_txn *txn, const struct store_message *message)
{
	t->txn = txn;
	t->message = message;
	t->root = NULL;
	t->is_whole = t->has_header = false;
	arena_reset(&t->arena);
}

/* ---- reading ---- */

static int read_into(struct search_text *t, uint64_t at, size_t len, struct buf *out)
{
	buf_clear(out);
	while (len) {
		char *room = buf_reserve(out, len);
		size_t got = 0;
		int err = room ? store_message_read(t->txn, t->message, at, room, len, &got) : ERR_TOO_BIG;

		if (err < 0)
			return err;
		if (got == 0)
			break;
		buf_added(out, got);
		at += got;
		len -= got;
	}
	return 0;
}

/* A view until the next call; fewer octets only at the message's end. */
static int read_range(struct search_text *t, uint64_t at, size_t len, struct slice *out)
{
	int err = 0;

	if (t->message->size > WHOLE_MAX) {
		err = read_into(t, at, len, &t->range);
		*out = buf_view(&t->range);
		return err;
	}
	if (!t->is_whole)
		err = read_into(t, 0, (size_t)t->message->size, &t->whole);
	t->is_whole = err == 0;
	*out = slice_sub(slice_from(buf_view(&t->whole), (size_t)at), 0, len);
	return err;
}

static int parse_tree(struct search_text *t)
{
	struct mime_parser *parser = mime_parser_new(&t->arena);
	struct slice piece;
	int err = parser ? 0 : ERR_TOO_BIG;

	for (uint64_t at = t->message->trace.len; err == 0 && at < t->message->size; at += piece.len) {
		err = read_range(t, at, PIECE, &piece);
		if (err < 0 || piece.len == 0)
			break;
		mime_parser_feed(parser, piece);
	}
	t->root = parser ? mime_parser_end(parser) : NULL;
	mime_parser_free(&parser);
	return err == 0 && !t->root ? ERR_TOO_BIG : err;
}

static int load_tree(struct search_text *t)
{
	const struct store_message *m = t->message;

	if (t->root || mime_unpack(&t->arena, m->texts.parts, m->size - m->trace.len, &t->root) == 0)
		return 0;
	return parse_tree(t);
}

/* The raw header, or as much of it as is looked into. */
static int read_header(struct search_text *t, struct slice *out)
{
	uint64_t len;
	int err = load_tree(t);

	if (err < 0)
		return err;
	len = t->root->header_len + t->message->trace.len;
	return read_range(t, 0, (size_t)(len < SEARCH_TEXT_HEADER_MAX ? len : SEARCH_TEXT_HEADER_MAX), out);
}

/* ---- headers ---- */

static void fold_value(struct search_text *t, struct slice name, struct slice value, struct buf *out)
{
	buf_clear(&t->text);
	if (name.p) {
		buf_add_slice(&t->text, name);
		buf_add_str(&t->text, ": ");
	}
	encoded_word_decode(value, &t->text);
	fold_text(buf_view(&t->text), out);
	buf_add_char(out, '\0');
}

static void fold_header(struct search_text *t, struct slice header, struct buf *out)
{
	struct header_reader reader;
	struct header_field field;

	header_reader_init(&reader, header);
	while (header_next(&reader, &field))
		fold_value(t, field.name.p ? field.name : slice_of("", 0), field.value, out);
}

int search_text_header(struct search_text *t, struct slice *folded_out)
{
	struct slice raw;
	int err = t->has_header ? 0 : read_header(t, &raw);

	if (err < 0)
		return err;
	if (!t->has_header) {
		buf_clear(&t->header);
		fold_header(t, raw, &t->header);
		t->has_header = true;
	}
	*folded_out = buf_view(&t->header);
	return 0;
}

int search_text_values(struct search_text *t, struct slice name, struct slice *folded_out, bool *is_there_out)
{
	struct header_reader reader;
	struct header_field field;
	struct slice raw;
	int err = read_header(t, &raw);

	if (err < 0)
		return err;
	*is_there_out = false;
	buf_clear(&t->values);
	header_reader_init(&reader, raw);
	while (header_next(&reader, &field)) {
		if (!slice_is_equal_nocase(field.name, name))
			continue;
		*is_there_out = true;
		fold_value(t, slice_of(NULL, 0), field.value, &t->values);
	}
	*folded_out = buf_view(&t->values);
	return 0;
}

int search_text_subject(struct search_text *t, struct slice *folded_out, bool *is_there_out)
{
	struct slice envelope, date, subject = {NULL, 0};
	int err = store_text_view(&t->message->texts.envelope, &t->opened, &envelope);

	buf_clear(&t->envelope);
	buf_clear(&t->values);
	*is_there_out = !err && envelope_read(envelope, &t->envelope, &date, &subject) == 0 && subject.p;
	if (!*is_there_out)
		return 0;
	/* Most are plain: nothing to decode. */
	if (slice_is_plain(subject) && !slice_has_control(subject) &&
		!memmem(subject.p, subject.len, "=?", 2)) {
		fold_text(subject, &t->values);
		buf_add_char(&t->values, '\0');
	} else {
		fold_value(t, slice_of(NULL, 0), subject, &t->values);
	}
	*folded_out = buf_view(&t->values);
	return 0;
}

int search_text_raw_value(struct search_text *t, struct slice name, struct slice *value_out)
{
	struct slice raw;
	int err = read_header(t, &raw);

	if (err == 0)
		*value_out = header_find(raw, name);
	return err;
}

/* ---- bodies ---- */

/* Hands over what has gathered; is_last: the text ends here. */
static bool flush(struct search_text *t, bool is_last, search_text_fn *fn, void *arg)
{
	bool goes_on = buf_len(&t->folded) == 0 || fn(arg, buf_view(&t->folded));

	if (is_last)
		buf_clear(&t->folded);
	else if (buf_len(&t->folded) > t->overlap)
		buf_take(&t->folded, buf_len(&t->folded) - t->overlap);
	return goes_on;
}

static bool flush_full(struct search_text *t, search_text_fn *fn, void *arg)
{
	return buf_len(&t->folded) < BATCH + t->overlap || flush(t, false, fn, arg);
}

static struct charset_decoder *find_decoder(struct search_text *t, struct slice name)
{
	struct decoder *d = NULL;
	char small[CHARSET_MAX];

	for (size_t i = 0; i < name.len; i++)
		small[i] = ascii_lower(name.p[i]);
	for (size_t i = 0; i < DECODERS; i++) {
		d = &t->decoders[i];
		if (d->decoder && d->name_len == name.len && memcmp(d->name, small, name.len) == 0)
			return d->decoder;
	}
	d = &t->decoders[t->next_decoder++ % DECODERS];
	charset_decoder_free(&d->decoder);
	d->name_len = name.len;
	memcpy(d->name, small, name.len);
	return charset_decoder_new(name, &d->decoder) == 0 ? d->decoder : NULL;
}

/* US-ASCII is often a lie, and UTF-8 holds it; what is not known is read as UTF-8 too. */
static struct charset_decoder *decoder_of(struct search_text *t, struct slice charset)
{
	struct charset_decoder *decoder = NULL;

	if (charset.len && charset.len <= CHARSET_MAX && !slice_is_str_nocase(charset, "us-ascii"))
		decoder = find_decoder(t, charset);
	return decoder ? decoder : find_decoder(t, SLICE_LIT("utf-8"));
}

static int read_body(struct search_text *t, const struct mime_part *part, struct slice charset,
	search_text_fn *fn, void *arg, bool *goes_on)
{
	struct charset_decoder *decoder = decoder_of(t, charset);
	uint64_t at = mime_body_at(part) + t->message->trace.len, end = at + part->body_len;
	bool is_as_is = part->encoding == MIME_7BIT || part->encoding == MIME_8BIT ||
			part->encoding == MIME_BINARY || part->encoding == MIME_OTHER;
	struct transfer_decoder transfer;
	int err = 0;

	if (!decoder)
		return 0;
	transfer_decoder_init(&transfer, part->encoding);
	while (*goes_on && at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
		struct slice raw;

		err = read_range(t, at, want, &raw);
		if (err < 0 || raw.len == 0)
			break;
		at += raw.len;
		buf_clear(&t->utf8);
		if (!is_as_is) {
			buf_clear(&t->plain);
			transfer_decoder_feed(&transfer, raw, &t->plain);
			if (at == end)
				transfer_decoder_end(&transfer, &t->plain);
			raw = buf_view(&t->plain);
		}
		charset_decoder_feed(decoder, raw, &t->utf8);
		if (at == end)
			charset_decoder_end(decoder, &t->utf8);
		fold_stream_feed(&t->fold, buf_view(&t->utf8), &t->folded);
		*goes_on = flush_full(t, fn, arg);
	}
	if (at < end) { /* it must not begin the next text */
		buf_clear(&t->utf8);
		charset_decoder_end(decoder, &t->utf8);
	}
	fold_stream_end(&t->fold, &t->folded);
	buf_add_char(&t->folded, '\0');
	return err;
}

/*
 * The charset of a leaf's text; false: it is no text. As the parser has it, of which the record keeps the places
 * alone: a leaf that says multipart or message could not be opened, and is text.
 */
static bool is_text(struct search_text *t, struct slice header, struct slice *charset_out)
{
	struct content_value type = {.type = {NULL, 0}};
	struct header_reader reader;
	struct header_field field;

	arena_reset(&t->type);
	header_reader_init(&reader, header);
	while (!type.type.p && header_next(&reader, &field)) {
		if (slice_is_str_nocase(field.name, "Content-Type") &&
			content_parse_type(&t->type, slice_sub(field.value, 0, ENVELOPE_FIELD_MAX), &type) <
				0)
			return false;
	}
	if (!type.type.p || slice_is_str_nocase(type.type, "multipart") ||
		(slice_is_str_nocase(type.type, "message") && slice_is_str_nocase(type.subtype, "rfc822"))) {
		*charset_out = slice_of(NULL, 0);
		return true;
	}
	*charset_out = content_param(type.params, "charset");
	return slice_is_str_nocase(type.type, "text");
}

static int read_part(
	struct search_text *t, const struct mime_part *part, search_text_fn *fn, void *arg, bool *goes_on)
{
	uint64_t len = part->header_len < SEARCH_TEXT_HEADER_MAX ? part->header_len : SEARCH_TEXT_HEADER_MAX;
	struct slice header, charset;
	int err = read_range(t, part->header_at + t->message->trace.len, (size_t)len, &header);

	if (err < 0)
		return err;
	if (part != t->root) {
		fold_header(t, header, &t->folded);
		*goes_on = flush_full(t, fn, arg);
	}
	if (!*goes_on || part->kind != MIME_LEAF || !is_text(t, header, &charset))
		return 0;
	return read_body(t, part, charset, fn, arg, goes_on);
}

int search_text_bodies(struct search_text *t, search_text_fn *fn, void *arg)
{
	bool goes_on = true;
	int err = load_tree(t);

	buf_clear(&t->folded);
	if (err < 0)
		return err;
	for (const struct mime_part *part = t->root; part && goes_on && err == 0;
		part = mime_next(t->root, part))
		err = read_part(t, part, fn, arg, &goes_on);
	if (err == 0 && goes_on)
		(void)flush(t, true, fn, arg);
	return err;
}
