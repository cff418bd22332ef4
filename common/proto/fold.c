/*
 * Folding works piece by piece: what follows the last ASCII character of the text so far is held back,
 * because an ASCII character begins a new combining sequence and whatever stands before it can be folded
 * without what comes.
 */
#include "common/proto/fold.h"

#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

#include "common/base/mem.h"
#include "common/proto/charset.h"

/* Text without any ASCII is folded in pieces of this size at a character's border. */
#define HELD_MAX 4096
#define PIECE 16384
/* So many ASCII characters in a row are worth a cut. */
#define ASCII_LEAST 16

/* The capital letters among eight ASCII characters become small ones. */
static uint64_t lower_eight(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t from_a = w + (0x80 - 'A') * ones, beyond_z = w + (0x7f - 'Z') * ones;

	return w | ((from_a ^ beyond_z) & (0x80 * ones)) >> 2;
}

static void fold_ascii(struct slice s, struct buf *out)
{
	char *to = s.len ? buf_reserve(out, s.len) : NULL;
	size_t i = 0;
	uint64_t w;

	if (!to)
		return;
	for (; s.len - i >= sizeof(w); i += sizeof(w)) {
		memcpy(&w, s.p + i, sizeof(w));
		w = lower_eight(w);
		memcpy(to + i, &w, sizeof(w));
	}
	for (; i < s.len; i++)
		to[i] = ascii_lower(s.p[i]);
	buf_added(out, s.len);
}

static void fold_unicode(struct slice utf8, struct buf *out)
{
	size_t len = 0;
	uint8_t *text = u8_casefold((const uint8_t *)utf8.p, utf8.len, NULL, UNINORM_NFKD, NULL, &len);

	if (text)
		buf_add(out, text, len);
	free(text);
}

/* Where the first run of at least ASCII_LEAST ASCII characters begins, or the end. */
static size_t find_ascii(struct slice s)
{
	size_t run = 0;

	for (size_t i = 0; i < s.len; i++) {
		run = (unsigned char)s.p[i] < 0x80 ? run + 1 : 0;
		if (run == ASCII_LEAST)
			return i + 1 - ASCII_LEAST;
	}
	return s.len;
}

static size_t ascii_length(struct slice s)
{
	size_t n = 0;

	while (n < s.len && slice_is_ascii(slice_sub(slice_from(s, n), 0, ASCII_LEAST)))
		n += s.len - n < ASCII_LEAST ? s.len - n : ASCII_LEAST;
	while (n < s.len && (unsigned char)s.p[n] < 0x80)
		n++;
	return n;
}

/*
 * An ASCII character is folded without regard to its neighbours, and begins a new combining sequence: so a text may be cut
 * before and behind it, and only what lies between longer runs of them needs the library.
 */
void fold_text(struct slice utf8, struct buf *out)
{
	struct buf clean = {0};

	if (slice_is_ascii(utf8)) {
		fold_ascii(utf8, out);
		return;
	}
	if (!slice_is_utf8(utf8)) {
		if (charset_to_utf8(SLICE_LIT("UTF-8"), utf8, &clean))
			return;
		utf8 = buf_view(&clean);
	}
	while (utf8.len) {
		size_t n = ascii_length(utf8);

		fold_ascii(slice_sub(utf8, 0, n), out);
		utf8 = slice_from(utf8, n);
		n = find_ascii(utf8);
		if (n)
			fold_unicode(slice_sub(utf8, 0, n), out);
		utf8 = slice_from(utf8, n);
	}
	buf_deinit(&clean);
}

/* How much of the held text can be folded now. */
static size_t foldable(struct slice s)
{
	size_t n = s.len;

	while (n && (unsigned char)s.p[n - 1] >= 0x80)
		n--;
	if (n)
		return n - 1;
	if (s.len < HELD_MAX)
		return 0;
	for (n = s.len; n && ((unsigned char)s.p[n - 1] & 0xc0) == 0x80;)
		n--;
	return n > 1 ? n - 1 : s.len;
}

void fold_stream_feed(struct fold_stream *s, struct slice utf8, struct buf *out)
{
	/* Most text: all but its last character needs nothing of what comes. */
	if (utf8.len > 1 && buf_len(&s->held) <= 1 && slice_is_ascii(buf_view(&s->held)) &&
		slice_is_ascii(utf8)) {
		fold_ascii(buf_view(&s->held), out);
		buf_clear(&s->held);
		fold_ascii(slice_sub(utf8, 0, utf8.len - 1), out);
		utf8 = slice_from(utf8, utf8.len - 1);
	}
	while (utf8.len) {
		struct slice piece = slice_sub(utf8, 0, PIECE);
		size_t n;

		buf_add_slice(&s->held, piece);
		utf8 = slice_from(utf8, piece.len);
		n = foldable(buf_view(&s->held));
		fold_text(slice_sub(buf_view(&s->held), 0, n), out);
		buf_take(&s->held, n);
	}
}

void fold_stream_end(struct fold_stream *s, struct buf *out)
{
	fold_text(buf_view(&s->held), out);
	buf_clear(&s->held);
}

void fold_stream_deinit(struct fold_stream *s)
{
	buf_deinit(&s->held);
}
