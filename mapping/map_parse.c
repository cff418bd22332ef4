/*
 * One pass over lines. A line is cut into fields at blanks outside quotes; the first field decides what kind
 * of entry it is, the second where it leads, the rest are options. Faults are collected, so that one reading
 * shows them all; the data is given only when there was none.
 */
#include "mapping/map_parse.h"

#include "common/auth/password.h"
#include "common/base/num.h"
#include "common/base/secret.h"
#include "common/base/table.h"
#include "common/proto/address.h"

#define ARENA_MOST (64u * 1024) /* of one line */

enum key_kind {
	KEY_NAME, /* address or user */
	KEY_DOMAIN,
	KEY_EXPRESSION,
	KEY_DEFAULT
};

struct parse {
	const struct map_parse_options *options;
	struct buf *why;
	struct map_data *data;
	struct arena arena; /* of the line; its first byte is the line's copy, where quotes are undone */
	uint32_t line;
	uint64_t faults;
	bool ended; /* "# end N" was there */
	uint64_t end_count;
	uint32_t end_line;
};

static void fault(struct parse *p, uint32_t line, const char *format, ...) PRINTF_LIKE(3, 4);
static void fault(struct parse *p, uint32_t line, const char *format, ...)
{
	va_list args;

	if (++p->faults > MAP_FAULTS_MOST)
		return;
	buf_printf(p->why, "%s%s:%u: ", buf_len(p->why) ? "\n" : "", p->options->file, line);
	va_start(args, format);
	buf_vprintf(p->why, format, args);
	va_end(args);
}

/* ---- fields ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice skip_blanks(struct slice s)
{
	while (s.len && is_blank(s.p[0]))
		s = slice_from(s, 1);
	return s;
}

/* "/…/" with "\/" inside; ends where the closing slash stands before a blank or the end. */
static size_t expression_len(struct slice s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '/')
			return i + 1;
	}
	return 0;
}

/* Up to a blank outside quotes; 0: a quote is not closed. */
static size_t field_len(struct slice s)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < s.len && (quoted || !is_blank(s.p[i])); i++) {
		if (quoted && s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"')
			quoted = !quoted;
	}
	return quoted || i > s.len ? 0 : i;
}

/* The next field, empty at the end or before a comment. ERR_SYNTAX: quotes that do not close. */
static int field_next(struct slice *line, bool first, struct slice *field_out)
{
	size_t n;

	*line = skip_blanks(*line);
	if (!line->len || line->p[0] == '#') {
		*field_out = slice_of(NULL, 0);
		return 0;
	}
	n = first && line->p[0] == '/' ? expression_len(*line) : field_len(*line);
	if (!n || (n < line->len && !is_blank(line->p[n])))
		return ERR_SYNTAX;
	*field_out = slice_sub(*line, 0, n);
	*line = slice_from(*line, n);
	return 0;
}

/* "text" with \" and \\ undone, if it is quoted as a whole; else as it is. ERR_SYNTAX: quotes in the middle.
 */
static int unquote(struct arena *a, struct slice s, struct slice *out)
{
	size_t n = 0;
	char *p;

	*out = s;
	if (!s.len || s.p[0] != '"')
		return s.len && memchr(s.p, '"', s.len) ? ERR_SYNTAX : 0;
	p = arena_alloc(a, s.len);
	if (!p)
		return ERR_TOO_BIG;
	for (size_t i = 1; i + 1 < s.len; i++) {
		if (s.p[i] == '"')
			return ERR_SYNTAX;
		if (s.p[i] == '\\' && i + 2 < s.len)
			i++;
		p[n++] = s.p[i];
	}
	*out = slice_of(p, n);
	return 0;
}

/* ---- the first field ---- */

static int parse_expression(struct slice field, struct slice *key_out)
{
	*key_out = slice_sub(field, 1, field.len - 2);
	return key_out->len && key_out->len <= MAP_EXPRESSION_MOST ? 0 : ERR_SYNTAX;
}

/* A field that is quoted as a whole loses its quotes; `"john doe"@example.com` keeps them for the address
 * grammar. */
static int parse_address(struct parse *p, struct slice field, struct slice *key_out)
{
	struct address_name name;
	struct slice text = field;
	int error = 0;

	if (field.p[0] == '"' && field.p[field.len - 1] == '"')
		error = unquote(&p->arena, field, &text);
	if (!error)
		error = address_normalise_whole(&p->arena, text, &name);
	if (error)
		return error;
	*key_out = name.full;
	return 0;
}

static int parse_domain(struct parse *p, struct slice field, struct slice *key_out)
{
	struct slice domain;
	int error = address_normalise_domain(&p->arena, slice_from(field, 1), &domain);
	char *text;

	if (error || !domain.len)
		return ERR_SYNTAX;
	text = arena_alloc(&p->arena, domain.len + 1);
	if (!text)
		return ERR_TOO_BIG;
	text[0] = '@';
	memcpy(text + 1, domain.p, domain.len);
	*key_out = slice_of(text, domain.len + 1);
	return 0;
}

static int parse_key(struct parse *p, struct slice field, enum key_kind *kind_out, struct slice *key_out)
{
	if (slice_is_str(field, "*")) {
		*kind_out = KEY_DEFAULT;
		*key_out = field;
		return 0;
	}
	if (field.p[0] == '/') {
		*kind_out = KEY_EXPRESSION;
		return parse_expression(field, key_out);
	}
	if (field.p[0] == '@') {
		*kind_out = KEY_DOMAIN;
		return parse_domain(p, field, key_out);
	}
	*kind_out = KEY_NAME;
	return parse_address(p, field, key_out);
}

/* ---- the second field ---- */

static bool is_backend(const void *data, struct slice name)
{
	return map_data_has_backend(data, name);
}

static int parse_target(struct parse *p, struct slice field, struct map_entry *e)
{
	struct slice bad;
	int error;

	if (slice_is_str(field, "-"))
		return 0;
	error = map_targets_parse(field, is_backend, p->data, p->options->ports, &e->targets, &bad);
	if (error == ERR_SYNTAX)
		fault(p, p->line,
			"\"%.*s\" is no back-end of the configuration, and no host (an address, or a name "
			"with "
			"a dot; :port may follow)",
			SLICE_ARG(bad));
	else if (error == ERR_DENIED)
		fault(p, p->line, "\"%.*s\": a port is refused in a map that several protocols use",
			SLICE_ARG(bad));
	else if (error == ERR_EXISTS)
		fault(p, p->line, "\"%.*s\" stands in the list twice", SLICE_ARG(bad));
	else if (error)
		fault(p, p->line, "\"%.*s\": more than %d back-ends for one user", SLICE_ARG(bad),
			USERMAP_TARGETS_MOST);
	return error;
}

/* ---- options ---- */

static int option_account(struct parse *p, struct slice value, struct map_entry *e)
{
	struct address_name name;

	if (e->account.len) {
		fault(p, p->line, "account= stands there twice");
		return ERR_SYNTAX;
	}
	if (!value.len || address_normalise_whole(&p->arena, value, &name)) {
		fault(p, p->line, "account=%.*s is no address", SLICE_ARG(value));
		return ERR_SYNTAX;
	}
	e->account = name.full;
	return 0;
}

static int option_password(struct parse *p, struct slice value, struct map_entry *e)
{
	const char *reason;

	if (e->password.len) {
		fault(p, p->line, "password= stands there twice");
		return ERR_SYNTAX;
	}
	if (p->options->readable_by_others) {
		fault(p, p->line,
			"a password in a file that others can read or write; its mode must be 0600 or "
			"tighter");
		return ERR_SYNTAX;
	}
	if (slice_has_control(value)) {
		fault(p, p->line, "password= has a control character");
		return ERR_SYNTAX;
	}
	if (password_stored_check(value, &reason)) {
		fault(p, p->line, "password={%s}: %s", password_scheme(value), reason);
		return ERR_SYNTAX;
	}
	e->password = value;
	return 0;
}

static int option_send_only(struct parse *p, struct slice value, struct map_entry *e)
{
	(void)value;
	if (e->send_only || e->targets.count) {
		fault(p, p->line,
			e->send_only ? "send-only stands there twice"
				     : "send-only needs \"-\" for a back-end");
		return ERR_SYNTAX;
	}
	e->send_only = true;
	return 0;
}

static const struct option {
	const char *name;
	bool has_value;
	int (*parse)(struct parse *p, struct slice value, struct map_entry *e);
} options[] = {
	{"account", true, option_account},
	{"password", true, option_password},
	{"send-only", false, option_send_only},
};

static int parse_option(struct parse *p, struct slice field, struct map_entry *e)
{
	ptrdiff_t equal = slice_find(field, '=');
	struct slice name = equal < 0 ? field : slice_sub(field, 0, (size_t)equal);
	struct slice value = slice_of(NULL, 0);

	if (equal >= 0 && unquote(&p->arena, slice_from(field, (size_t)equal + 1), &value)) {
		fault(p, p->line, "%.*s=: quotes belong around the whole value", SLICE_ARG(name));
		return ERR_SYNTAX;
	}
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (slice_is_str(name, options[i].name) && (equal >= 0) == options[i].has_value)
			return options[i].parse(p, value, e);
	}
	fault(p, p->line, "\"%.*s\" is no option (account=, password=, send-only)", SLICE_ARG(name));
	return ERR_SYNTAX;
}

/* ---- lines ---- */

static void entry_add(struct parse *p, enum key_kind kind, const struct map_entry *e)
{
	struct buf reason = {0};
	uint32_t other = 0;
	int error;

	if (kind == KEY_EXPRESSION)
		error = map_data_add_expression(p->data, e, &reason, &other);
	else if (kind == KEY_DEFAULT)
		error = map_data_add_default(p->data, e, &other);
	else
		error = map_data_add(p->data, e, &other);
	if (error == ERR_EXISTS)
		fault(p, p->line, "%.*s stands on line %u already", SLICE_ARG(e->key), other);
	else if (error == ERR_SYNTAX)
		fault(p, p->line, "bad expression: %s", buf_str_view(&reason));
	else if (error)
		fault(p, p->line, "too much: at most %d expressions, 4 GiB of entries", MAP_EXPRESSIONS_MOST);
	buf_deinit(&reason);
}

static void parse_entry(struct parse *p, struct slice line)
{
	struct map_entry e = {.line = p->line};
	enum key_kind kind = KEY_NAME;
	struct slice field;

	if (field_next(&line, true, &field)) {
		fault(p, p->line, "a quote or an expression is not closed");
		return;
	}
	if (parse_key(p, field, &kind, &e.key)) {
		fault(p, p->line, "\"%.*s\" is no user, address, @domain, /expression/ or *",
			SLICE_ARG(field));
		return;
	}
	if (field_next(&line, false, &field) || !field.len) {
		fault(p, p->line, "no back-end behind \"%.*s\"", SLICE_ARG(e.key));
		return;
	}
	if (parse_target(p, field, &e))
		return;
	for (;;) {
		if (field_next(&line, false, &field)) {
			fault(p, p->line, "a quote is not closed");
			return;
		}
		if (!field.len)
			break;
		if (parse_option(p, field, &e))
			return;
	}
	entry_add(p, kind, &e);
}

/* "# end N" */
static bool is_end_line(struct slice line, uint64_t *n_out)
{
	struct slice s = slice_trim(line);

	return slice_has_prefix(s, "# end ") && num_parse_u64(slice_trim(slice_from(s, 6)), n_out) == 0;
}

static void parse_line(struct parse *p, struct slice line)
{
	struct slice s = skip_blanks(line);

	if (!s.len)
		return;
	if (s.p[0] == '#') {
		if (is_end_line(s, &p->end_count)) {
			p->ended = true;
			p->end_line = p->line;
		}
		return;
	}
	if (p->ended && p->end_line) {
		fault(p, p->line, "an entry after the line \"# end\" (line %u)", p->end_line);
		p->end_line = 0;
		return;
	}
	if (s.len > MAP_LINE_MOST)
		fault(p, p->line, "the line is longer than %d octets", MAP_LINE_MOST);
	else if (!slice_is_utf8(s) || memchr(s.p, 0, s.len))
		fault(p, p->line, "no well-formed UTF-8, or a NUL");
	else
		parse_entry(p, s);
	arena_reset(&p->arena);
}

/* The last line must end: a file that was cut ends anywhere. An end line shows by itself that it is whole. */
static void check_end(struct parse *p, struct slice text)
{
	if (p->faults)
		return;
	if (p->ended && p->end_count != map_data_count(p->data))
		fault(p, p->end_line, "\"# end\" says %llu entries, there are %zu: the file is not whole",
			(unsigned long long)p->end_count, map_data_count(p->data));
	else if (!p->ended && text.len && text.p[text.len - 1] != '\n')
		fault(p, p->line, "the last line has no line end: the file is not whole");
	else if (!p->ended && !map_data_count(p->data))
		fault(p, 1, "the file is empty (one that is meant to be says \"# end 0\")");
}

/* Lines that may be entries: neither empty nor a comment. */
static size_t count_lines(struct slice text)
{
	size_t n = 0;

	while (text.len) {
		const char *end = memchr(text.p, '\n', text.len);

		n += text.p[0] != '\n' && text.p[0] != '#';
		text = slice_from(text, end ? (size_t)(end - text.p) + 1 : text.len);
	}
	return n;
}

static void parse_lines(struct parse *p, struct slice text)
{
	while (text.len) {
		const char *end = memchr(text.p, '\n', text.len);
		size_t n = end ? (size_t)(end - text.p) : text.len;

		p->line++;
		parse_line(p, slice_sub(text, 0, n));
		text = slice_from(text, end ? n + 1 : n);
	}
}

static int parse_finish(
	struct parse *p, struct slice text, struct map_parse_info *info_out, struct map_data **data_out)
{
	if (p->faults) {
		if (p->faults > MAP_FAULTS_MOST)
			buf_printf(p->why, "\n%s: and %llu faults more", p->options->file,
				(unsigned long long)(p->faults - MAP_FAULTS_MOST));
		map_data_unref(&p->data);
		return ERR_SYNTAX;
	}
	map_data_seal(p->data);
	info_out->has_end = p->ended;
	info_out->generation = hash_bytes(text, 0);
	if (!info_out->generation)
		info_out->generation = 1;
	*data_out = p->data;
	return 0;
}

int map_parse(struct slice text, const struct map_parse_options *parse_options, struct buf *why,
	struct map_parse_info *info_out, struct map_data **data_out)
{
	struct parse p = {.options = parse_options, .why = why};
	struct slice all = text;
	int error;

	if (text.len > MAP_TEXT_MOST) {
		buf_printf(why, "%s:1: larger than 2 GiB", parse_options->file);
		return ERR_TOO_BIG;
	}
	if (slice_has_prefix(text, "\xef\xbb\xbf")) /* byte order mark */
		text = slice_from(text, 3);
	arena_init(&p.arena, ARENA_MOST);
	p.data = map_data_new(count_lines(text), text.len, parse_options->backends);
	parse_lines(&p, text);
	check_end(&p, text);
	error = parse_finish(&p, all, info_out, data_out);
	arena_deinit(&p.arena);
	return error;
}
