/*
 * First line: a template of a filter or DN; second: a name; rest: a service. A template that is taken gives a filter that
 * libldap reads as one filter with as many items, whatever the name holds; a base gives a DN with as many parts.
 */
#include <ldap.h>
#include <stdlib.h>

#include "common/directory/directory_text.h"
#include "common/directory/ldap_client.h"

static struct slice cut(struct slice *rest)
{
	ptrdiff_t at = slice_find(*rest, '\n');
	struct slice line = at < 0 ? *rest : slice_sub(*rest, 0, (size_t)at);

	*rest = at < 0 ? slice_of(NULL, 0) : slice_from(*rest, (size_t)at + 1);
	return line;
}

/* What the structure is made of: parentheses that are not escaped. */
static size_t parentheses(struct slice filter)
{
	size_t n = 0;

	for (size_t i = 0; i < filter.len; i++)
		n += filter.p[i] == '(' || filter.p[i] == ')';
	return n;
}

/* No octet of a value means anything: undone, it is the value. */
static void check_value(struct slice value)
{
	struct buf b = {0};
	struct slice s;
	size_t n = 0;

	directory_text_filter_value(&b, value);
	s = buf_view(&b);
	for (size_t i = 0; i < s.len; n++) {
		char c = s.p[i++];

		require(!strchr("*()\"+,;<>=# ", c) && c);
		if (c == '\\') {
			char hex[3] = {s.p[i], s.p[i + 1], 0};

			c = (char)strtoul(hex, NULL, 16);
			i += 2;
		}
		require(n < value.len && c == value.p[n]);
	}
	require(n == value.len);
	buf_deinit(&b);
}

static void check_filter(struct slice template, const struct directory_text_names *names)
{
	const struct directory_text_names plain = {.name = SLICE_LIT("a@b"), .service = SLICE_LIT("s")};
	struct buf b = {0}, same = {0};
	const char *reason;

	if (directory_text_check_filter(template, &reason))
		return;
	directory_text_filter(&b, template, names);
	directory_text_filter(&same, template, &plain);
	require(!memchr(buf_str_view(&b), 0, buf_len(&b)) || memchr(template.p, 0, template.len));
	require(parentheses(buf_view(&b)) == parentheses(buf_view(&same)));
	buf_deinit(&b);
	buf_deinit(&same);
}

static size_t dn_parts(const char *text)
{
	LDAPDN dn = NULL;
	size_t n = 0;

	if (ldap_str2dn(text, &dn, LDAP_DN_FORMAT_LDAPV3))
		return SIZE_MAX;
	while (dn && dn[n])
		n++;
	ldap_dnfree(dn);
	return n;
}

static void check_base(struct slice template, const struct directory_text_names *names)
{
	const struct directory_text_names plain = {.name = SLICE_LIT("a@b"), .service = SLICE_LIT("s")};
	struct buf b = {0}, same = {0};
	const char *reason;

	if (directory_text_check_base(template, &reason) ||
		memchr(template.p ? template.p : "x", 0, template.len))
		return;
	directory_text_base(&same, template, &plain);
	if (ldap_client_is_dn(buf_str_view(&same))) {
		directory_text_base(&b, template, names);
		/* SIZE_MAX: no DN any more, where a variable stands for an attribute; a server refuses it. */
		require(dn_parts(buf_str_view(&b)) == SIZE_MAX ||
			dn_parts(buf_str_view(&b)) == dn_parts(buf_str_view(&same)));
	}
	buf_deinit(&b);
	buf_deinit(&same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of(data, size), template = cut(&rest);
	struct directory_text_names names;
	bool is_password;
	char *text;

	if (size > 4096)
		return 0;
	names.name = cut(&rest);
	names.service = rest;
	check_value(names.name);
	check_value(names.service);
	check_filter(template, &names);
	check_base(template, &names);
	text = slice_copy_str(names.name);
	(void)ldap_client_refusal(text, &is_password);
	free(text);
	return 0;
}
