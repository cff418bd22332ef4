/*
 * The list parser walks the text once. Every byte of input gives at most one byte of output, so one copy of the
 * text's size holds all results: words are written to it one after the other, quotes undone, runs of blanks
 * and comments shrunk to one blank.
 *
 *	"Joe Q." <joe@x>, a b@c (Name), friends: d@e;
 *
 * What stands before '<' is the name; without '<' the last word before '@' is the local part.
 */
#include "common/proto/address.h"

#include <idn2.h>
#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

#define DETAIL_MARK '+'
/* A gap beside a dot, until it is known: a blank in a name ("Joe Q. Public"), nothing in "joe . doe @ x". */
#define GAP '\x01'

struct scan {
	const char *p;
	const char *end;
	char *w; /* where the next output byte goes */
	struct address *list;
	size_t count;
	size_t most; /* the list has room for one more: the end of a group */
	bool in_group;
};

/* The words before a separator or '<'. */
struct words {
	char *start;
	char *last_word; /* start of the last one */
	char *at;        /* last '@' outside quotes */
	char *local;     /* start of the word before it */
	char *stop;      /* where blanks ended the domain, else NULL */
	struct slice comment;
	bool is_gap; /* blanks or a comment since the last word */
	bool has_any;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* From '(' to behind its ')'; nested ones count, a backslash quotes. Gives the inside. */
static struct slice skip_comment(struct scan *s)
{
	const char *start = ++s->p;
	size_t depth = 1;

	while (s->p < s->end) {
		char c = *s->p++;

		if (c == '\\' && s->p < s->end)
			s->p++;
		else if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			return slice_trim(slice_of(start, (size_t)(s->p - 1 - start)));
	}
	return slice_trim(slice_of(start, (size_t)(s->end - start)));
}

/* From '"' to behind the closing one, without quotes and folds. */
static void copy_quoted(struct scan *s)
{
	s->p++;
	while (s->p < s->end) {
		char c = *s->p++;

		if (c == '"')
			return;
		if (c == '\\' && s->p < s->end)
			c = *s->p++;
		if (c != '\r' && c != '\n')
			*s->w++ = c;
	}
}

static void copy_literal(struct scan *s)
{
	while (s->p < s->end) {
		char c = *s->p++;

		if (!is_space(c))
			*s->w++ = c;
		if (c == ']')
			return;
	}
}

static struct address *add(struct scan *s, enum address_kind kind)
{
	struct address *a;

	if (s->count >= s->most + (kind == ADDRESS_GROUP_END))
		return NULL;
	a = &s->list[s->count++];
	*a = (struct address){.kind = kind};
	return a;
}

static struct slice written(const char *from, const char *to)
{
	return slice_of(from, (size_t)(to - from));
}

/* A comment serves as the name of an address that has none: "a@b (Name)". */
static struct slice comment_name(struct scan *s, struct slice comment)
{
	char *start = s->w;

	for (size_t i = 0; i < comment.len; i++) {
		if (comment.p[i] == '\\' && i + 1 < comment.len)
			i++;
		if (comment.p[i] != '\r' && comment.p[i] != '\n')
			*s->w++ = comment.p[i];
	}
	return s->w > start ? written(start, s->w) : (struct slice){NULL, 0};
}

/* A gap becomes one blank; none before '@' and behind it. */
static void begin_word(struct scan *s, struct words *w, char next)
{
	bool is_at = next == '@' || (w->at && s->w == w->at + 1);

	if (w->is_gap && w->has_any && !is_at && (next == '.' || s->w[-1] == '.')) {
		*s->w++ = GAP;
	} else if (w->is_gap && w->has_any && !is_at) {
		if (w->at && !w->stop)
			w->stop = s->w;
		*s->w++ = ' ';
		w->last_word = s->w;
	}
	w->is_gap = false;
	w->has_any = true;
}

/* The text with its gaps as blanks. */
static struct slice as_name(char *from, char *to)
{
	for (char *p = from; p < to; p++)
		if (*p == GAP)
			*p = ' ';
	return slice_trim(written(from, to));
}

/* The text without its gaps. */
static struct slice as_atoms(char *from, const char *to)
{
	char *w = from;

	for (const char *p = from; p < to; p++)
		if (*p != GAP)
			*w++ = *p;
	return written(from, w);
}

/* Collects up to a separator, '<', or a group's colon; returns which, 0 at the end of text. */
static char collect_words(struct scan *s, struct words *w)
{
	*w = (struct words){.start = s->w, .last_word = s->w, .local = s->w};
	while (s->p < s->end) {
		char c = *s->p;

		if (c == ',' || c == ';' || c == '<')
			return c;
		if (c == ':' && !w->at && !s->in_group)
			return c;
		if (c == '(') {
			struct slice comment = skip_comment(s);

			w->comment = comment.len ? comment : w->comment;
			w->is_gap = true;
		} else if (is_space(c)) {
			w->is_gap = true;
			s->p++;
		} else {
			begin_word(s, w, c);
			if (c == '"') {
				copy_quoted(s);
			} else if (c == '[' && w->at) {
				copy_literal(s);
			} else {
				if (c == '@' && !w->stop) {
					w->at = s->w;
					w->local = w->last_word;
				}
				if (c == '\\' && s->p + 1 < s->end)
					s->p++;
				*s->w++ = *s->p++;
			}
		}
	}
	return 0;
}

static void finish_bare(struct scan *s, struct words *w)
{
	struct address *a;

	if (!w->has_any || !(a = add(s, ADDRESS_MAILBOX)))
		return;
	if (!w->at) {
		a->local = as_name(w->start, s->w);
	} else {
		a->local = as_atoms(w->local, w->at);
		a->domain = as_atoms(w->at + 1, w->stop ? w->stop : s->w);
		if (w->local > w->start)
			a->name = as_name(w->start, w->local);
	}
	if (!a->name.len)
		a->name = comment_name(s, w->comment);
}

/* "@a,@b:" before the mailbox (RFC 5322 section 4.4); nothing is consumed if no colon ends it. */
static struct slice read_route(struct scan *s)
{
	const char *p = s->p;
	char *start = s->w;

	while (p < s->end && *p != ':' && *p != '>' && *p != '"' && *p != '<')
		p++;
	if (p == s->end || *p != ':')
		return (struct slice){NULL, 0};
	for (; s->p < p; s->p++)
		if (!is_space(*s->p))
			*s->w++ = *s->p;
	s->p++;
	return written(start, s->w);
}

/* From '<' to behind '>'; a comma ends it too where the '>' is missing. */
static void read_angle(struct scan *s, struct address *a)
{
	char *start, *at = NULL;

	s->p++;
	while (s->p < s->end && is_space(*s->p))
		s->p++;
	if (s->p < s->end && *s->p == '@')
		a->route = read_route(s);
	start = s->w;
	while (s->p < s->end && *s->p != '>' && *s->p != ',') {
		char c = *s->p;

		if (c == '"') {
			copy_quoted(s);
		} else if (c == '(') {
			(void)skip_comment(s);
		} else if (c == '[' && at) {
			copy_literal(s);
		} else if (is_space(c)) {
			s->p++;
		} else {
			if (c == '@')
				at = s->w;
			*s->w++ = c;
			s->p++;
		}
	}
	a->local = written(start, at ? at : s->w);
	if (at)
		a->domain = written(at + 1, s->w);
}

/* What follows '>' up to the next separator says nothing, but for a comment's name. */
static struct slice skip_rest(struct scan *s)
{
	struct slice comment = {NULL, 0};

	while (s->p < s->end && *s->p != ',' && *s->p != ';') {
		if (*s->p == '(') {
			comment = skip_comment(s);
		} else if (*s->p == '"') {
			char *w = s->w;

			copy_quoted(s);
			s->w = w;
		} else {
			s->p++;
		}
	}
	return comment;
}

static void finish_angle(struct scan *s, struct words *w)
{
	struct address scratch, *a = add(s, ADDRESS_MAILBOX);
	struct slice comment;

	if (!a)
		a = &scratch;
	*a = (struct address){.kind = ADDRESS_MAILBOX};
	if (w->has_any)
		a->name = as_name(w->start, s->w);
	read_angle(s, a);
	comment = skip_rest(s);
	if (!a->name.len)
		a->name = comment_name(s, comment.len ? comment : w->comment);
}

static void end_group(struct scan *s)
{
	if (s->in_group)
		(void)add(s, ADDRESS_GROUP_END);
	s->in_group = false;
}

static void read_entry(struct scan *s)
{
	struct words w;
	struct address *a;
	char stop = collect_words(s, &w);

	if (stop == ':') {
		s->p++;
		a = add(s, ADDRESS_GROUP_BEGIN);
		if (a)
			a->name = as_name(w.start, s->w);
		s->in_group = a != NULL;
		return;
	}
	if (stop == '<')
		finish_angle(s, &w);
	else
		finish_bare(s, &w);
	if (s->p < s->end && *s->p++ == ';')
		end_group(s);
}

int address_parse_list(struct arena *a, struct slice text, struct address **list_out, size_t *count_out)
{
	struct scan s = {.p = text.p, .end = text.p + text.len};
	size_t most = 2;

	for (size_t i = 0; i < text.len && most < ADDRESS_LIST_MAX; i++)
		most += text.p[i] == ',' || text.p[i] == ':' ? 1 : text.p[i] == ';' ? 2 : 0;
	s.most = most < ADDRESS_LIST_MAX ? most : ADDRESS_LIST_MAX;
	s.list = arena_alloc(a, (s.most + 1) * sizeof(*s.list));
	s.w = arena_alloc(a, text.len + 1);
	if (!s.list || !s.w)
		return ERR_TOO_BIG;
	while (s.p < s.end && s.count < s.most)
		read_entry(&s);
	end_group(&s);
	*list_out = s.list;
	*count_out = s.count;
	return 0;
}

/* ---- normal form ---- */

static bool has_bad_byte(struct slice s)
{
	return slice_has_control(s) || !slice_is_utf8(s);
}

/* Where the local part ends: the last '@' outside quotes; -1: none. */
static ptrdiff_t find_at(struct slice s)
{
	ptrdiff_t at = -1;
	bool in_quotes = false;

	for (size_t i = 0; i < s.len; i++) {
		if (in_quotes && s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"' && (i == 0 || in_quotes))
			in_quotes = !in_quotes;
		else if (s.p[i] == '@' && !in_quotes)
			at = (ptrdiff_t)i;
	}
	return at;
}

/* "\"a b\"" to "a b"; anything else is given back. */
static struct slice unquote(struct arena *a, struct slice s)
{
	char *copy;
	size_t len = 0;

	if (s.len < 2 || s.p[0] != '"' || s.p[s.len - 1] != '"')
		return s;
	copy = arena_alloc(a, s.len);
	if (!copy)
		return (struct slice){NULL, 0};
	for (size_t i = 1; i + 1 < s.len; i++) {
		if (s.p[i] == '\\' && i + 2 < s.len)
			i++;
		copy[len++] = s.p[i];
	}
	return slice_of(copy, len);
}

/* Result of libunistring (heap) into the arena. */
static int keep(struct arena *a, uint8_t *text, size_t len, struct slice *out)
{
	struct slice copy;

	if (!text)
		return ERR_SYNTAX;
	copy = arena_copy(a, slice_of(text, len));
	free(text);
	if (!copy.p)
		return ERR_TOO_BIG;
	*out = copy;
	return 0;
}

static int normalise_text(struct arena *a, struct slice s, bool is_folded, struct slice *out)
{
	uint8_t *text;
	size_t len = 0;
	char *copy;

	if (!slice_is_ascii(s)) {
		text = is_folded ? u8_casefold((const uint8_t *)s.p, s.len, NULL, UNINORM_NFC, NULL, &len)
				 : u8_normalize(UNINORM_NFC, (const uint8_t *)s.p, s.len, NULL, &len);
		return keep(a, text, len, out);
	}
	copy = arena_copy_str(a, s);
	if (!copy)
		return ERR_TOO_BIG;
	for (size_t i = 0; is_folded && i < s.len; i++)
		copy[i] = ascii_lower(copy[i]);
	*out = slice_of(copy, s.len);
	return 0;
}

static bool is_domain_ascii(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
		if (c == '.' && (i == 0 || s.p[i - 1] == '.'))
			return false;
	}
	return s.len > 0 && s.len <= ADDRESS_DOMAIN_MAX && s.p[s.len - 1] != '.';
}

/* An address literal: "[127.0.0.1]", "[IPv6:...]". */
static bool is_literal(struct slice s)
{
	if (s.len < 3 || s.len > ADDRESS_DOMAIN_MAX || s.p[0] != '[' || s.p[s.len - 1] != ']')
		return false;
	for (size_t i = 1; i + 1 < s.len; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' ||
			    s.p[i] == ':' || s.p[i] == '-'))
			return false;
	return true;
}

static int domain_to_ascii(struct arena *a, struct slice s, struct slice *out)
{
	char *text = arena_copy_str(a, s), *ascii = NULL;
	struct slice copy;

	if (!text)
		return ERR_TOO_BIG;
	if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return ERR_SYNTAX;
	copy = arena_copy(a, slice_str(ascii));
	idn2_free(ascii);
	if (!copy.p)
		return ERR_TOO_BIG;
	*out = copy;
	return 0;
}

int address_normalise_domain(struct arena *a, struct slice text, struct slice *domain_out)
{
	struct slice domain;
	int err;

	if (text.len > 1 && text.p[text.len - 1] == '.')
		text.len--;
	if (text.len == 0 || text.len > ADDRESS_MAX || has_bad_byte(text))
		return ERR_SYNTAX;
	if (slice_is_ascii(text))
		err = normalise_text(a, text, true, &domain);
	else
		err = domain_to_ascii(a, text, &domain);
	if (err)
		return err;
	if (!is_domain_ascii(domain) && !is_literal(domain))
		return ERR_SYNTAX;
	*domain_out = domain;
	return 0;
}

static int join(struct arena *a, struct slice local, struct slice domain, struct address_name *name)
{
	size_t len = local.len + (domain.len ? 1 + domain.len : 0);
	char *full;

	if (len > ADDRESS_MAX || !(full = arena_alloc(a, len + 1)))
		return ERR_TOO_BIG;
	memcpy(full, local.p, local.len);
	if (domain.len) {
		full[local.len] = '@';
		memcpy(full + local.len + 1, domain.p, domain.len);
	}
	full[len] = '\0';
	name->full = slice_of(full, len);
	name->local = slice_of(full, local.len);
	name->domain = domain.len ? slice_of(full + local.len + 1, domain.len) : slice_of("", 0);
	return 0;
}

static int normalise(struct arena *a, struct slice text, bool has_detail, struct address_name *name_out)
{
	struct address_name name = {.detail = {"", 0}};
	struct slice local, domain = {"", 0};
	ptrdiff_t at, mark;
	int err;

	if (text.len > 4 * ADDRESS_MAX)
		return ERR_TOO_BIG;
	if (text.len == 0 || has_bad_byte(text))
		return ERR_SYNTAX;
	at = find_at(text);
	local = unquote(a, slice_sub(text, 0, at < 0 ? text.len : (size_t)at));
	if (!local.p)
		return ERR_TOO_BIG;
	if (at >= 0 && (err = address_normalise_domain(a, slice_from(text, (size_t)at + 1), &domain)))
		return err;
	mark = has_detail ? slice_find(local, DETAIL_MARK) : -1;
	if (mark > 0) {
		if ((err = normalise_text(a, slice_from(local, (size_t)mark + 1), false, &name.detail)))
			return err;
		local = slice_sub(local, 0, (size_t)mark);
	}
	if (local.len == 0)
		return ERR_SYNTAX;
	if ((err = normalise_text(a, local, true, &local)) || (err = join(a, local, domain, &name)))
		return err;
	*name_out = name;
	return 0;
}

int address_normalise(struct arena *a, struct slice text, struct address_name *name_out)
{
	return normalise(a, text, true, name_out);
}

int address_normalise_whole(struct arena *a, struct slice text, struct address_name *name_out)
{
	return normalise(a, text, false, name_out);
}
