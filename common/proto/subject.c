/*
 * Two ends move towards each other over the decoded text; each step takes off what RFC 5256 section 5 names.
 * A run of blobs is passed over once: what stands behind it decides for all of them.
 */
#include "common/proto/subject.h"

#include "common/proto/encoded_word.h"

struct scan {
	const char *p;
	size_t at, end;
	bool is_reply;
};

static bool has_prefix(const struct scan *s, size_t at, const char *word)
{
	return slice_has_prefix_nocase(slice_of(s->p + at, s->end - at), word);
}

static size_t skip_blanks(const struct scan *s, size_t at)
{
	while (at < s->end && s->p[at] == ' ')
		at++;
	return at;
}

/* "[" *BLOBCHAR "]" *WSP; the place behind it, or `at`. */
static size_t skip_blob(const struct scan *s, size_t at)
{
	size_t i = at;

	if (i >= s->end || s->p[i] != '[')
		return at;
	for (i++; i < s->end && s->p[i] != '['; i++) {
		if (s->p[i] == ']')
			return skip_blanks(s, i + 1);
	}
	return at;
}

/* ("re" / "fw" / "fwd") *WSP [blob] ":"; the place behind it, or `at`. */
static size_t skip_refwd(const struct scan *s, size_t at)
{
	static const char *const words[] = {"re", "fwd", "fw"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t to;

		if (!has_prefix(s, at, words[i]))
			continue;
		to = skip_blob(s, skip_blanks(s, at + strlen(words[i])));
		if (to < s->end && s->p[to] == ':')
			return to + 1;
	}
	return at;
}

/* Step 2 */
static void cut_trailers(struct scan *s)
{
	for (;;) {
		while (s->end > s->at && s->p[s->end - 1] == ' ')
			s->end--;
		if (s->end - s->at < 5 || !has_prefix(s, s->end - 5, "(fwd)"))
			return;
		s->end -= 5;
		s->is_reply = true;
	}
}

/* Steps 3 to 5 */
static void cut_leaders(struct scan *s)
{
	for (;;) {
		size_t behind, next, last, to;

		s->at = behind = last = skip_blanks(s, s->at);
		while ((next = skip_blob(s, behind)) != behind) {
			last = behind;
			behind = next;
		}
		to = skip_refwd(s, behind);
		if (to != behind) {
			s->is_reply = true;
			s->at = to;
		} else if (behind == s->at) {
			return;
		} else {
			/* A blob is the base itself where nothing else would be left. */
			s->at = behind < s->end ? behind : last;
			if (s->at == last)
				return;
		}
	}
}

/* Step 6 */
static bool cut_forward(struct scan *s)
{
	if (s->at == s->end || s->p[s->end - 1] != ']' || !has_prefix(s, s->at, "[fwd:"))
		return false;
	s->at += 5;
	s->end--;
	s->is_reply = true;
	return true;
}

/* Step 1: blanks of any kind and number are one. */
static void decode(struct slice value, struct buf *out)
{
	struct buf text = {0};
	struct slice s;

	encoded_word_decode(value, &text);
	s = buf_view(&text);
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] != ' ' || i == 0 || s.p[i - 1] != ' ')
			buf_add_char(out, s.p[i]);
	}
	buf_deinit(&text);
}

void subject_base(struct slice value, struct buf *out, bool *is_reply_out)
{
	struct buf text = {0};
	struct scan s = {0};

	decode(value, &text);
	s.p = buf_str_view(&text); /* never NULL */
	s.end = buf_len(&text);
	do {
		cut_trailers(&s);
		cut_leaders(&s);
	} while (cut_forward(&s));
	if (s.end > s.at)
		buf_add(out, s.p + s.at, s.end - s.at);
	*is_reply_out = s.is_reply;
	buf_deinit(&text);
}
