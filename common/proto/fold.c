/*
 * Folding works piece by piece: what follows the last ASCII character of the text so far is held back,
 * because an ASCII character begins a new combining sequence and whatever stands before it can be folded
 * without what comes. The search keeps the last needle-length - 1 folded bytes.
 */
#include "common/proto/fold.h"

#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

#include "common/base/mem.h"
#include "common/proto/charset.h"

/* Text without any ASCII is folded in pieces of this size at a character's border. */
#define HELD_MAX 4096

struct fold_search {
	struct buf needle; /* folded */
	struct buf held;   /* not yet folded */
	struct buf folded; /* folded, not yet searched, behind the overlap */
	bool is_found;
};

static void fold_ascii(struct slice s, struct buf *out)
{
	char *to = s.len ? buf_reserve(out, s.len) : NULL;

	if (!to)
		return;
	for (size_t i = 0; i < s.len; i++)
		to[i] = ascii_lower(s.p[i]);
	buf_added(out, s.len);
}

void fold_text(struct slice utf8, struct buf *out)
{
	struct buf clean = {0};
	uint8_t *text;
	size_t len = 0;

	if (slice_is_ascii(utf8)) {
		fold_ascii(utf8, out);
		return;
	}
	if (!slice_is_utf8(utf8)) {
		if (charset_to_utf8(SLICE_LIT("UTF-8"), utf8, &clean))
			return;
		utf8 = buf_view(&clean);
	}
	text = u8_casefold((const uint8_t *)utf8.p, utf8.len, NULL, UNINORM_NFKD, NULL, &len);
	if (text)
		buf_add(out, text, len);
	free(text);
	buf_deinit(&clean);
}

struct fold_search *fold_search_new(struct slice needle)
{
	struct fold_search *s = xcalloc(1, sizeof(*s));

	fold_text(needle, &s->needle);
	fold_search_restart(s);
	return s;
}

static void search(struct fold_search *s)
{
	struct slice text = buf_view(&s->folded), needle = buf_view(&s->needle);

	if (s->is_found || text.len < needle.len)
		return;
	s->is_found = memmem(text.p, text.len, needle.p, needle.len) != NULL;
	buf_take(&s->folded, text.len - (needle.len - 1));
}

/* Folds the first n held bytes and looks into them. */
static void fold_held(struct fold_search *s, size_t n)
{
	fold_text(slice_sub(buf_view(&s->held), 0, n), &s->folded);
	buf_take(&s->held, n);
	search(s);
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

bool fold_search_feed(struct fold_search *s, struct slice utf8)
{
	while (!s->is_found && utf8.len) {
		struct slice piece = slice_sub(utf8, 0, 16384);

		buf_add_slice(&s->held, piece);
		utf8 = slice_from(utf8, piece.len);
		fold_held(s, foldable(buf_view(&s->held)));
	}
	return s->is_found;
}

bool fold_search_end(struct fold_search *s)
{
	if (!s->is_found)
		fold_held(s, buf_len(&s->held));
	return s->is_found;
}

void fold_search_restart(struct fold_search *s)
{
	buf_clear(&s->held);
	buf_clear(&s->folded);
	s->is_found = buf_len(&s->needle) == 0;
}

void fold_search_free(struct fold_search **s)
{
	if (!*s)
		return;
	buf_deinit(&(*s)->needle);
	buf_deinit(&(*s)->held);
	buf_deinit(&(*s)->folded);
	free(*s);
	*s = NULL;
}

bool fold_has(struct fold_search *s, struct slice utf8)
{
	fold_search_restart(s);
	return fold_search_feed(s, utf8) || fold_search_end(s);
}
