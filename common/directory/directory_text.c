/*
 * Escaping says what may stay as it is, never what must go: a value can hold no octet that means something to LDAP.
 */
#include "common/directory/directory_text.h"

#include <string.h>

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '.' || c == '_' || c == '@';
}

static void add_hex(struct buf *out, char c)
{
	static const char digits[] = "0123456789abcdef";

	buf_add_char(out, '\\');
	buf_add_char(out, digits[(unsigned char)c >> 4]);
	buf_add_char(out, digits[(unsigned char)c & 15]);
}

void directory_text_filter_value(struct buf *out, struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		if (is_plain(value.p[i]))
			buf_add_char(out, value.p[i]);
		else
			add_hex(out, value.p[i]);
	}
}

void directory_text_dn_value(struct buf *out, struct slice value)
{
	/* A pair of hex digits stands for any octet, wherever it is: leading '#' and outer blanks too. */
	directory_text_filter_value(out, value);
}

typedef void escape_fn(struct buf *out, struct slice value);

static void expand(
	struct buf *out, struct slice template, const struct directory_text_names *names, escape_fn *escape)
{
	ptrdiff_t at = slice_find_last(names->name, '@');
	struct slice user = at < 0 ? names->name : slice_sub(names->name, 0, (size_t)at);
	struct slice domain = at < 0 ? slice_of(NULL, 0) : slice_from(names->name, (size_t)at + 1);

	for (size_t i = 0; i < template.len; i++) {
		char c = template.p[i];

		if (c != '%' || i + 1 == template.len) {
			buf_add_char(out, c);
			continue;
		}
		switch (template.p[++i]) {
		case 'u':
			escape(out, user);
			break;
		case 'd':
			escape(out, domain);
			break;
		case 'e':
			escape(out, names->name);
			break;
		case 's':
			escape(out, names->service);
			break;
		default:
			buf_add_char(out, template.p[i]);
			break;
		}
	}
}

void directory_text_filter(struct buf *out, struct slice template, const struct directory_text_names *names)
{
	bool bare = !slice_has_prefix(template, "(");

	if (bare)
		buf_add_char(out, '(');
	expand(out, template, names, directory_text_filter_value);
	if (bare)
		buf_add_char(out, ')');
}

void directory_text_base(struct buf *out, struct slice template, const struct directory_text_names *names)
{
	expand(out, template, names, directory_text_dn_value);
}

static void add_item(struct buf *out, const char *attribute)
{
	bool is_proxy = slice_is_str_nocase(SLICE_LIT("proxyAddresses"), attribute);

	if (*attribute)
		buf_printf(out, "(%s=%s%%e)", attribute, is_proxy ? "smtp:" : "");
}

void directory_text_address_filter(
	struct buf *out, const char *person, const char *account, const char *const *aliases)
{
	buf_printf(out, "(&%s(|", person);
	add_item(out, account);
	for (; aliases && *aliases; aliases++)
		add_item(out, *aliases);
	buf_add_str(out, "))");
}

int directory_text_check_base(struct slice template, const char **reason_out)
{
	for (size_t i = 0; i < template.len; i++) {
		if (template.p[i] != '%')
			continue;
		if (++i == template.len || !strchr("udes%", template.p[i])) {
			*reason_out = "after % stands u, d, e, s or another %";
			return ERR_SYNTAX;
		}
	}
	return 0;
}

/* One item of a filter, from after its '(' to its ')'; its length, or -1 when it has no attribute and '='. */
static ptrdiff_t item_len(struct slice s)
{
	size_t end = 0;
	ptrdiff_t equal;

	while (end < s.len && s.p[end] != '(' && s.p[end] != ')')
		end++;
	equal = slice_find(slice_sub(s, 0, end), '=');
	return equal > 0 ? (ptrdiff_t)end : -1;
}

int directory_text_check_filter(struct slice template, const char **reason_out)
{
	bool bare = !slice_has_prefix(template, "(");
	int depth = bare ? 1 : 0;
	ptrdiff_t n;

	if (directory_text_check_base(template, reason_out))
		return ERR_SYNTAX;
	*reason_out = "this is no LDAP filter (RFC 4515)";
	if (!template.len || (bare && (item_len(template) != (ptrdiff_t) template.len)))
		return ERR_SYNTAX;
	for (size_t i = bare ? template.len : 0; i < template.len; i++) {
		if (template.p[i] == ')') {
			if (--depth < 0)
				return ERR_SYNTAX;
			if (!depth && i + 1 != template.len)
				return ERR_SYNTAX;
			continue;
		}
		if (template.p[i] != '(' || ++i == template.len)
			return ERR_SYNTAX;
		depth++;
		if (template.p[i] == '&' || template.p[i] == '|' || template.p[i] == '!') {
			if (i + 1 == template.len || template.p[i + 1] != '(')
				return ERR_SYNTAX;
			continue;
		}
		n = item_len(slice_from(template, i));
		if (n < 0 || i + (size_t)n == template.len || template.p[i + (size_t)n] != ')')
			return ERR_SYNTAX;
		i += (size_t)n - 1;
	}
	return bare || !depth ? 0 : ERR_SYNTAX;
}
