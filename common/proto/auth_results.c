#include "common/proto/auth_results.h"

#include "common/proto/field_text.h"

/* An id begins within so many octets, or the field cannot be read. */
#define VALUE_MOST 4096

static const char field_name[] = "authentication-results";

/* ---- writing ---- */

void auth_results_add(struct auth_results_one *one, const char *ptype, const char *name, struct slice value)
{
	if (value.len && one->count < AUTH_RESULTS_PROPERTIES_MOST)
		one->properties[one->count++] = (struct auth_results_property){ptype, name, value};
}

/* A word is written when the next one begins, so that the last one can have its semicolon. */
struct writer {
	struct field_text field;
	struct buf word;
};

static void next_word(struct writer *w)
{
	if (buf_len(&w->word))
		field_text_word(&w->field, buf_view(&w->word));
	buf_clear(&w->word);
}

static void write_one(struct writer *w, const struct auth_results_one *one)
{
	buf_add_char(&w->word, ';');
	next_word(w);
	field_text_fold(&w->field);
	buf_printf(&w->word, "%s=%s", one->method, one->result);
	if (one->comment.len) {
		next_word(w);
		field_text_comment(&w->word, one->comment);
	}
	if (one->reason.len) {
		next_word(w);
		buf_add_str(&w->word, "reason=");
		field_text_value(&w->word, one->reason, false);
	}
	for (unsigned i = 0; i < one->count; i++) {
		next_word(w);
		buf_printf(&w->word, "%s.%s=", one->properties[i].ptype, one->properties[i].name);
		field_text_value(&w->word, one->properties[i].value, true);
	}
}

void auth_results_write(struct buf *out, unsigned instance, const char *authserv_id,
	const struct auth_results_one *results, size_t count)
{
	struct writer w = {0};

	field_text_begin(&w.field, out, instance ? "ARC-Authentication-Results" : "Authentication-Results");
	if (instance) {
		buf_printf(&w.word, "i=%u;", instance);
		next_word(&w);
	}
	field_text_value(&w.word, slice_str(authserv_id), false);
	for (size_t i = 0; i < count; i++)
		write_one(&w, &results[i]);
	if (count == 0)
		buf_add_str(&w.word, "; none");
	next_word(&w);
	field_text_end(&w.field);
	buf_deinit(&w.word);
}

/* ---- whose is it? ---- */

/* Passes blanks, folds and comments (RFC 5322 section 3.2.2). False: a comment does not end. */
static bool skip_cfws(struct slice *s)
{
	size_t depth = 0, i = 0;

	for (; i < s->len; i++) {
		char c = s->p[i];

		if (c == '(')
			depth++;
		else if (depth && c == ')')
			depth--;
		else if (depth && c == '\\')
			i++;
		else if (!depth && c != ' ' && c != '\t' && c != '\r' && c != '\n')
			break;
	}
	*s = slice_from(*s, i);
	return depth == 0;
}

/* Takes the next octet of the id, quotes undone; -1: it is over; -2: the quotes do not end. */
static int next_char(struct slice *s, bool *is_quoted)
{
	for (;;) {
		char c;

		if (!s->len)
			return *is_quoted ? -2 : -1;
		c = s->p[0];
		if (!*is_quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ';' || c == '('))
			return -1;
		*s = slice_from(*s, 1);
		if (c == '"') {
			*is_quoted = !*is_quoted;
			continue;
		}
		if (*is_quoted && (c == '\r' || c == '\n'))
			continue; /* a fold */
		if (*is_quoted && c == '\\') {
			if (!s->len)
				return -2;
			c = s->p[0];
			*s = slice_from(*s, 1);
		}
		return (unsigned char)c;
	}
}

static bool is_one_of(struct slice id, const char *const *ids)
{
	if (id.len && id.p[id.len - 1] == '.')
		id.len--;
	for (; *ids; ids++) {
		struct slice own = slice_str(*ids);

		if (own.len && own.p[own.len - 1] == '.')
			own.len--;
		if (slice_is_equal_nocase(id, own))
			return true;
	}
	return false;
}

static bool claims_one_of(struct slice value, const char *const *ids)
{
	char id[256];
	size_t len = 0;
	bool is_quoted = false;
	int c;

	if (!skip_cfws(&value))
		return true;
	while ((c = next_char(&value, &is_quoted)) >= 0) {
		if (len == sizeof(id)) /* no honest one is that long */
			return true;
		id[len++] = (char)c;
	}
	return c == -2 || len == 0 || is_one_of(slice_trim(slice_of(id, len)), ids);
}

/* The value of a field of our name that these octets begin with. */
static bool has_name(struct slice s, struct slice *value_out)
{
	if (!slice_has_prefix_nocase(s, field_name))
		return false;
	s = slice_from(s, sizeof(field_name) - 1);
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = slice_from(s, 1);
	*value_out = slice_sub(s, 1, VALUE_MOST);
	return s.len && s.p[0] == ':';
}

bool auth_results_is_forged(struct slice field, const char *const *ids)
{
	bool is_long = field.len > AUTH_RESULTS_FIELD_MOST;

	/* Readers that take a bare CR for a line end find a field of the name behind one, too. */
	for (;;) {
		struct slice value;
		const char *cr;

		if (has_name(field, &value) && (is_long || claims_one_of(value, ids)))
			return true;
		cr = field.len ? memchr(field.p, '\r', field.len) : NULL;
		if (!cr)
			return false;
		field = slice_from(field, (size_t)(cr - field.p) + 1);
	}
}

/* ---- in passing ---- */

/* Those of ..._LINE stand one behind their own: there a line begins. */
enum filter_state {
	FILTER_NAME, /* held may begin as our name does */
	FILTER_PASS, /* within another field */
	FILTER_PASS_LINE,
	FILTER_HOLD, /* within one of the name, held whole */
	FILTER_HOLD_LINE,
	FILTER_DROP, /* within one that is too long */
	FILTER_DROP_LINE,
	FILTER_BODY
};

/* What the last octet was: a line ends with LF, CR LF, or a bare CR; the header ends with an empty line of the first two kinds alone. */
enum filter_end {
	FILTER_END_NONE,
	FILTER_END_LF,
	FILTER_END_CR,
	FILTER_END_EMPTY_CR /* the first octet of a line */
};

void auth_results_filter_init(struct auth_results_filter *f, const char *const *ids)
{
	*f = (struct auth_results_filter){.ids = ids, .state = FILTER_PASS_LINE, .end = FILTER_END_LF};
}

static void release(struct auth_results_filter *f, struct buf *out)
{
	buf_add_slice(out, buf_view(&f->held));
	buf_clear(&f->held);
}

/* A bare CR before it must not meet a LF behind it. */
static void take_out(struct auth_results_filter *f, struct buf *out)
{
	f->removed++;
	if (f->is_behind_cr)
		buf_add_char(out, '\n');
	buf_clear(&f->held);
}

/* The field that was held is whole. */
static void decide(struct auth_results_filter *f, struct buf *out)
{
	if (auth_results_is_forged(buf_view(&f->held), f->ids))
		take_out(f, out);
	else
		release(f, out);
}

static void begin_line(struct auth_results_filter *f, char c, struct buf *out)
{
	if (c == '\n' && f->end == FILTER_END_CR) { /* CR LF */
		f->state--;
		return;
	}
	if ((c == ' ' || c == '\t') && f->end != FILTER_END_EMPTY_CR) {
		f->state--;
		return;
	}
	if (f->state == FILTER_HOLD_LINE)
		decide(f, out);
	if (c == '\n') /* behind a LF, or behind the CR of an empty line */
		f->state = FILTER_BODY;
	else
		f->state = c == '\r' ? FILTER_PASS : FILTER_NAME;
	f->is_behind_cr = f->end != FILTER_END_LF;
}

/* Does what is held still begin as our name, blanks and a colon do? */
static void look_at_name(struct auth_results_filter *f, struct buf *out)
{
	struct slice held = buf_view(&f->held);
	size_t n = sizeof(field_name) - 1;
	char last = held.p[held.len - 1];

	if (held.len <= n ? ascii_lower(last) == field_name[held.len - 1] : last == ' ' || last == '\t')
		return;
	if (held.len > n && last == ':') {
		f->state = FILTER_HOLD;
		return;
	}
	f->state = FILTER_PASS;
	release(f, out);
}

/* Up to the first CR or LF, and with it. */
static size_t line_length(struct slice s)
{
	const char *end = memchr(s.p, '\n', s.len);
	size_t len = end ? (size_t)(end - s.p) + 1 : s.len;
	const char *cr = memchr(s.p, '\r', len);

	return cr ? (size_t)(cr - s.p) + 1 : len;
}

static void note_end(struct auth_results_filter *f, char last, bool is_line_begin)
{
	enum filter_end before = (enum filter_end)f->end;

	f->end = last == '\n' ? FILTER_END_LF : FILTER_END_CR;
	if (last == '\r' && is_line_begin && before == FILTER_END_LF)
		f->end = FILTER_END_EMPTY_CR;
	f->state++;
}

/* Takes one octet, or the rest of a line. */
static size_t take(struct auth_results_filter *f, struct slice s, struct buf *out)
{
	bool is_line_begin =
		f->state == FILTER_PASS_LINE || f->state == FILTER_HOLD_LINE || f->state == FILTER_DROP_LINE;
	size_t len;

	if (is_line_begin)
		begin_line(f, s.p[0], out);
	if (f->state == FILTER_BODY) {
		buf_add_slice(out, s);
		return s.len;
	}
	len = f->state == FILTER_NAME ? 1 : line_length(s);
	if (f->state == FILTER_PASS)
		buf_add(out, s.p, len);
	else if (f->state != FILTER_DROP)
		buf_add(&f->held, s.p, len);
	if (buf_len(&f->held) > AUTH_RESULTS_FIELD_MOST) {
		take_out(f, out);
		f->state = FILTER_DROP;
	}
	if (f->state == FILTER_NAME)
		look_at_name(f, out);
	if (s.p[len - 1] == '\n' || s.p[len - 1] == '\r')
		note_end(f, s.p[len - 1], is_line_begin && len == 1);
	return len;
}

void auth_results_filter_feed(struct auth_results_filter *f, struct slice piece, struct buf *out)
{
	while (piece.len)
		piece = slice_from(piece, take(f, piece, out));
}

void auth_results_filter_end(struct auth_results_filter *f, struct buf *out)
{
	if (f->state == FILTER_HOLD || f->state == FILTER_HOLD_LINE)
		decide(f, out);
	else
		release(f, out);
	auth_results_filter_deinit(f);
}

void auth_results_filter_deinit(struct auth_results_filter *f)
{
	buf_deinit(&f->held);
}
