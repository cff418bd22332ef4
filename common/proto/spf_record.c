#include "common/proto/spf_record.h"

#include <arpa/inet.h>

static const struct slice version = {"v=spf1", 6};

struct parse {
	struct spf_record *record;
	const char *why;
};

/* Takes the term's rest behind its name, which it must use up. */
typedef int parse_fn(struct parse *p, struct slice rest, struct spf_record_term *term);

static int fault(struct parse *p, const char *why)
{
	p->why = why;
	return ERR_SYNTAX;
}

static bool is_alpha(char c)
{
	char lower = ascii_lower(c);

	return lower >= 'a' && lower <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool spf_record_is_one(struct slice text)
{
	return slice_is_equal_nocase(slice_sub(text, 0, version.len), version) &&
	       (text.len == version.len || text.p[version.len] == ' ');
}

/* ---- macros (section 7.1) ---- */

/* "{" letter *DIGIT ["r"] *delimiter "}" behind a percent sign: its length, or 0. */
static size_t macro_braces(struct parse *p, struct slice s, bool is_exp)
{
	size_t at = 2, number = 0, digits = 0;
	char letter;

	if (s.len < 3)
		return 0;
	letter = ascii_lower(s.p[1]);
	if (!letter || !strchr(is_exp ? "slodiphcrtv" : "slodiphv", letter))
		return 0;
	for (; at < s.len && is_digit(s.p[at]); at++, digits++)
		number = number < 1000 ? number * 10 + (size_t)(s.p[at] - '0') : number;
	if (digits && (number == 0 || number > 128 || digits > 3))
		return 0;
	if (at < s.len && ascii_lower(s.p[at]) == 'r')
		at++;
	while (at < s.len && s.p[at] && strchr(".-+,/_=", s.p[at]))
		at++;
	if (at >= s.len || s.p[at] != '}')
		return 0;
	if (strchr("sloh", letter))
		p->record->has_sender_macros = true;
	return at + 1;
}

/* One macro-expand or macro-literal at the front: its length, or 0. */
static size_t macro_part(struct parse *p, struct slice s, bool is_exp)
{
	size_t len;

	if (s.p[0] != '%')
		return s.p[0] >= 0x21 && s.p[0] <= 0x7e ? 1 : 0;
	if (s.len < 2)
		return 0;
	if (s.p[1] == '%' || s.p[1] == '_' || s.p[1] == '-')
		return 2;
	len = s.p[1] == '{' ? macro_braces(p, slice_from(s, 1), is_exp) : 0;
	return len ? len + 1 : 0;
}

/* The whole of s must be a macro-string. last_out: where its last part begins. */
static int macro_string(struct parse *p, struct slice s, bool is_exp, size_t *last_out)
{
	unsigned macros = 0;

	*last_out = 0;
	for (size_t at = 0, len; at < s.len; at += len) {
		len = macro_part(p, slice_from(s, at), is_exp);
		if (len == 0)
			return fault(p, "a wrong macro or character");
		if (len > 1 && ++macros > SPF_RECORD_MACROS_MOST) {
			p->why = "too many macros";
			return ERR_TOO_BIG;
		}
		*last_out = at;
	}
	return 0;
}

/* Letters, digits, hyphens; neither begins nor ends with a hyphen; not digits alone. */
static bool is_top_label(struct slice s)
{
	bool is_number = true;

	if (!s.len || s.p[0] == '-' || s.p[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alpha(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '-')
			return false;
		is_number = is_number && is_digit(s.p[i]);
	}
	return !is_number;
}

static int domain_spec(struct parse *p, struct slice s, struct slice *spec_out)
{
	size_t last;
	ptrdiff_t dot;
	int err;

	if (!s.len)
		return fault(p, "a domain is missing");
	if (s.len > SPF_RECORD_SPEC_MOST) {
		p->why = "a domain is too long";
		return ERR_TOO_BIG;
	}
	err = macro_string(p, s, false, &last);
	if (err)
		return err;
	*spec_out = s;
	if (s.p[last] == '%')
		return 0;
	if (s.p[s.len - 1] == '.')
		s.len--;
	dot = slice_find_last(s, '.');
	if (dot < 0 || !is_top_label(slice_from(s, (size_t)dot + 1)))
		return fault(p, "a domain does not end with a top label");
	return 0;
}

/* ---- prefix lengths (section 5.6) ---- */

/* Takes "/" and a number of at most `most` off the end; 1: there was one (*length_out), 0: none, < 0: a wrong one. */
static int take_length(struct slice *s, const char *slashes, unsigned most, uint8_t *length_out)
{
	size_t n = strlen(slashes), digits = 0;
	unsigned number = 0;
	struct slice text;

	while (digits < s->len && is_digit(s->p[s->len - 1 - digits]))
		digits++;
	if (digits + n > s->len || memcmp(s->p + s->len - digits - n, slashes, n) != 0)
		return 0;
	text = slice_from(*s, s->len - digits);
	if (digits == 0 || digits > 3 || (digits > 1 && text.p[0] == '0'))
		return ERR_SYNTAX;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned)(text.p[i] - '0');
	if (number > most)
		return ERR_SYNTAX;
	s->len -= digits + n;
	*length_out = (uint8_t)number;
	return 1;
}

/* The two lengths of `a` and `mx` off the end. */
static int take_dual_length(struct parse *p, struct slice *s, struct spf_record_term *term)
{
	int second = take_length(s, "//", 128, &term->length6);
	int first = second < 0 ? 0 : take_length(s, "/", 32, &term->length4);

	return second < 0 || first < 0 ? fault(p, "a wrong prefix length") : 0;
}

/* ---- terms ---- */

static int parse_all(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	(void)term;
	return rest.len ? fault(p, "something behind \"all\"") : 0;
}

/* ":" domain-spec */
static int parse_domain(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	if (!rest.len || rest.p[0] != ':')
		return fault(p, "a domain is missing");
	return domain_spec(p, slice_from(rest, 1), &term->spec);
}

static int parse_ptr(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	return rest.len ? parse_domain(p, rest, term) : 0;
}

/* [":" domain-spec] [dual-cidr-length] */
static int parse_hosts(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	int err = take_dual_length(p, &rest, term);

	return err ? err : parse_ptr(p, rest, term);
}

static int parse_network(struct parse *p, struct slice rest, int family, unsigned most, uint8_t *length)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char ip[16];

	if (take_length(&rest, "/", most, length) < 0)
		return fault(p, "a wrong prefix length");
	if (rest.len < 2 || rest.len > sizeof(text) || rest.p[0] != ':')
		return fault(p, "a wrong address");
	memcpy(text, rest.p + 1, rest.len - 1);
	text[rest.len - 1] = '\0';
	if (strlen(text) != rest.len - 1 || inet_pton(family, text, ip) != 1)
		return fault(p, "a wrong address");
	return 0;
}

static int parse_ip4(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	return parse_network(p, rest, AF_INET, 32, &term->length4);
}

static int parse_ip6(struct parse *p, struct slice rest, struct spf_record_term *term)
{
	return parse_network(p, rest, AF_INET6, 128, &term->length6);
}

static const struct {
	const char *name;
	enum spf_record_kind kind;
	parse_fn *parse;
} mechanisms[] = {
	/* in the order of the enum */
	{"all", SPF_RECORD_ALL, parse_all},
	{"include", SPF_RECORD_INCLUDE, parse_domain},
	{"a", SPF_RECORD_A, parse_hosts},
	{"mx", SPF_RECORD_MX, parse_hosts},
	{"ptr", SPF_RECORD_PTR, parse_ptr},
	{"ip4", SPF_RECORD_IP4, parse_ip4},
	{"ip6", SPF_RECORD_IP6, parse_ip6},
	{"exists", SPF_RECORD_EXISTS, parse_domain},
};

/* ALPHA *(ALPHA / DIGIT / "-" / "_" / ".") at the front. */
static size_t name_length(struct slice s)
{
	size_t len = 0;

	if (!s.len || !is_alpha(s.p[0]))
		return 0;
	while (len < s.len && (is_alpha(s.p[len]) || is_digit(s.p[len]) || strchr("-_.", s.p[len])) &&
		s.p[len])
		len++;
	return len;
}

static bool has_kind(const struct spf_record *record, enum spf_record_kind kind)
{
	for (size_t i = 0; i < record->count; i++)
		if (record->terms[i].kind == kind)
			return true;
	return false;
}

static int parse_modifier(
	struct parse *p, struct slice name, struct slice value, struct spf_record_term *term)
{
	size_t last;

	term->kind = slice_is_str_nocase(name, "redirect") ? SPF_RECORD_REDIRECT
		     : slice_is_str_nocase(name, "exp")    ? SPF_RECORD_EXP
							   : SPF_RECORD_OTHER;
	if (term->kind == SPF_RECORD_OTHER)
		return macro_string(p, value, true, &last);
	if (has_kind(p->record, term->kind))
		return fault(p, "a modifier stands twice");
	return domain_spec(p, value, &term->spec);
}

static int parse_term(struct parse *p, struct slice text, struct spf_record_term *term)
{
	size_t len = name_length(text);
	struct slice rest = text, name;

	term->text = text;
	if (len && len < text.len && text.p[len] == '=')
		return parse_modifier(p, slice_sub(text, 0, len), slice_from(text, len + 1), term);
	term->qualifier = '+';
	if (text.p[0] && strchr("+-?~", text.p[0])) {
		term->qualifier = text.p[0];
		rest = slice_from(rest, 1);
	}
	len = 0;
	while (len < rest.len && rest.p[len] != ':' && rest.p[len] != '/')
		len++;
	name = slice_sub(rest, 0, len);
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++)
		if (slice_is_str_nocase(name, mechanisms[i].name)) {
			term->kind = mechanisms[i].kind;
			return mechanisms[i].parse(p, slice_from(rest, len), term);
		}
	return fault(p, "an unknown mechanism");
}

int spf_record_parse(
	struct slice text, struct spf_record *record_out, const char **why_out, struct slice *term_out)
{
	struct slice rest = slice_from(text, version.len);
	struct parse p = {.record = record_out};
	int err = 0;

	*record_out = (struct spf_record){0};
	if (text.len > SPF_RECORD_MOST) {
		*why_out = "the record is too long";
		return ERR_TOO_BIG;
	}
	while (!err && rest.len) {
		struct spf_record_term term = {.length4 = 32, .length6 = 128};
		ptrdiff_t blank;

		if (rest.p[0] == ' ') {
			rest = slice_from(rest, 1);
			continue;
		}
		blank = slice_find(rest, ' ');
		text = slice_sub(rest, 0, blank < 0 ? rest.len : (size_t)blank);
		rest = slice_from(rest, text.len);
		if (record_out->count == SPF_RECORD_TERMS_MOST) {
			p.why = "too many terms";
			err = ERR_TOO_BIG;
		} else {
			err = parse_term(&p, text, &term);
		}
		if (err && term_out)
			*term_out = text;
		if (!err)
			record_out->terms[record_out->count++] = term;
	}
	if (err)
		*why_out = p.why;
	return err;
}

/* ---- for the checker ---- */

/* The value of a macro letter; p NULL: not known here. */
static struct slice value_of(const struct spf_record_values *v, char letter)
{
	ptrdiff_t at = slice_find_last(v->sender, '@');

	switch (ascii_lower(letter)) {
	case 's':
		return v->sender;
	case 'l':
		return slice_sub(v->sender, 0, at > 0 ? (size_t)at : 0);
	case 'o':
		return slice_from(v->sender, (size_t)(at + 1));
	case 'd':
		return v->domain;
	case 'h':
		return v->helo;
	case 'v':
		return v->is_ip6 ? SLICE_LIT("ip6") : SLICE_LIT("in-addr");
	default:
		return (struct slice){0};
	}
}

/* Into how many parts the delimiters split the value. */
static unsigned parts_of(const struct spf_record_values *v, char letter, struct slice delimiters)
{
	struct slice value = value_of(v, letter);
	unsigned parts = 1;

	if (ascii_lower(letter) == 'i')
		return slice_find(delimiters, '.') >= 0 ? v->is_ip6 ? 32 : 4 : 1;
	for (size_t i = 0; i < value.len; i++)
		if (memchr(delimiters.p, value.p[i], delimiters.len))
			parts++;
	return value.p ? parts : UINT16_MAX;
}

/* Behind "%{": the macro, with "}". Its number goes where it takes all parts: the library then loses an octet. */
static size_t write_macro(const struct spf_record_values *v, struct slice s, struct buf *out)
{
	size_t end = (size_t)slice_find(s, '}') + 1, at = 1;
	struct slice delimiters;
	unsigned number = 0;

	while (is_digit(s.p[at]))
		number = number * 10 + (unsigned)(s.p[at++] - '0');
	delimiters = slice_sub(s, at, end - 1 - at);
	if (delimiters.len && ascii_lower(delimiters.p[0]) == 'r')
		delimiters = slice_from(delimiters, 1);
	if (!delimiters.len)
		delimiters = SLICE_LIT(".");
	buf_printf(out, "%%{%c", s.p[0]);
	if (number && number < parts_of(v, s.p[0], delimiters))
		buf_add_u64(out, number);
	buf_add(out, s.p + at, end - at);
	return end;
}

static void write_spec(const struct spf_record_values *v, struct slice s, struct buf *out)
{
	while (s.len) {
		size_t len = s.p[0] == '%' ? 2 : 1;

		if (len == 2 && s.p[1] == '{')
			len += write_macro(v, slice_from(s, 2), out);
		else
			buf_add(out, s.p, len);
		s = slice_from(s, len);
	}
}

/* The domain with the ending that says that any address will do; a final dot goes before it. */
static void write_any(const struct spf_record_values *v, struct slice spec, struct buf *out)
{
	if (spec.p[spec.len - 1] == '.')
		spec.len--;
	write_spec(v, spec, out);
	buf_add_str(out, SPF_RECORD_ANY);
}

/* False: it can never match such a client. */
static bool write_term(const struct spf_record_values *v, const struct spf_record_term *term, struct buf *out)
{
	bool has_hosts = term->kind == SPF_RECORD_A || term->kind == SPF_RECORD_MX;
	unsigned length = v->is_ip6 ? term->length6 : term->length4;
	struct slice spec = term->spec;

	if (term->kind == (v->is_ip6 ? SPF_RECORD_IP4 : SPF_RECORD_IP6))
		return false;
	buf_add_char(out, ' ');
	if (term->kind == SPF_RECORD_REDIRECT) {
		buf_add_str(out, "redirect=");
		write_spec(v, spec, out);
		return true;
	}
	buf_add_char(out, term->qualifier);
	if (term->kind == SPF_RECORD_IP4 || term->kind == SPF_RECORD_IP6) {
		if (length == 0)
			buf_add_str(out, "all");
		else
			buf_add_slice(out,
				strchr("+-?~", term->text.p[0]) ? slice_from(term->text, 1) : term->text);
		return true;
	}
	buf_add_str(out, mechanisms[term->kind].name);
	if (has_hosts && length == 0 && !spec.len)
		spec = SLICE_LIT("%{d}");
	if (spec.len)
		buf_add_char(out, ':');
	if (has_hosts && length == 0) {
		write_any(v, spec, out);
		return true;
	}
	write_spec(v, spec, out);
	if (has_hosts)
		buf_printf(out, "%s%u", v->is_ip6 ? "//" : "/", length);
	return true;
}

void spf_record_write(struct spf_record *record, const struct spf_record_values *values, struct buf *out)
{
	bool has_all = has_kind(record, SPF_RECORD_ALL);
	struct spf_record_term redirect = {0};
	size_t written = 0;

	buf_add_slice(out, version);
	for (size_t i = 0; i < record->count; i++) {
		const struct spf_record_term term = record->terms[i];

		if (term.kind < SPF_RECORD_REDIRECT && write_term(values, &term, out))
			record->terms[written++] = term;
		if (term.kind == SPF_RECORD_REDIRECT)
			redirect = term;
		if (term.kind == SPF_RECORD_ALL)
			break;
	}
	if (redirect.text.len && !has_all) {
		record->terms[written++] = redirect;
		write_term(values, &redirect, out);
	}
	record->count = written;
}
