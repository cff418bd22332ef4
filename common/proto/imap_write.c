/*
 * Invariant: CR and LF leave this file only as the end of a literal's announcement or within a literal's
 * counted octets. NUL leaves it in a literal8 alone.
 */
#include "common/proto/imap_write.h"

#include "common/proto/mutf7.h"

#define QUOTED_MOST 1000 /* longer strings go as literals: clients read lines with limits */
#define ID_VALUE_MOST 1024

static bool is_atom_char(unsigned char c)
{
	return c > 0x20 && c < 0x7f && !strchr("(){%*\"\\]", c);
}

bool imap_write_is_atom(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_atom_char((unsigned char)s.p[i]))
			return false;
	}
	return s.len > 0;
}

bool imap_write_is_flag(struct slice s)
{
	return imap_write_is_atom(s.len && s.p[0] == '\\' ? slice_from(s, 1) : s);
}

/* What may stand in any quoted string of a response, but for 8-bit octets. */
static bool can_quote_utf8(struct slice s)
{
	if (s.len > QUOTED_MOST)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '\0' || s.p[i] == '\r' || s.p[i] == '\n')
			return false;
	}
	return true;
}

/* RFC 3501 section 9: TEXT-CHAR, 7 bit. */
static bool can_quote(struct slice s)
{
	return can_quote_utf8(s) && slice_is_ascii(s);
}

static void write_quoted(struct buf *out, struct slice s)
{
	size_t plain = 0;

	buf_add_char(out, '"');
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] != '"' && s.p[i] != '\\')
			continue;
		buf_add(out, s.p + plain, i - plain);
		buf_add_char(out, '\\');
		plain = i;
	}
	buf_add_slice(out, slice_from(s, plain));
	buf_add_char(out, '"');
}

static void write_without_nul(struct buf *out, struct slice s)
{
	size_t len = s.len;

	for (size_t i = 0; i < s.len; i++)
		len -= s.p[i] == '\0';
	imap_write_literal(out, len);
	if (len == s.len) {
		buf_add_slice(out, s);
		return;
	}
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] != '\0')
			buf_add_char(out, s.p[i]);
	}
}

void imap_write_string(struct buf *out, struct slice s)
{
	if (can_quote(s))
		write_quoted(out, s);
	else
		write_without_nul(out, s);
}

void imap_write_nstring(struct buf *out, struct slice s)
{
	if (s.p)
		imap_write_string(out, s);
	else
		buf_add_str(out, "NIL");
}

void imap_write_binary(struct buf *out, struct slice s)
{
	if (slice_find(s, '\0') < 0) {
		imap_write_nstring(out, s);
		return;
	}
	buf_add_char(out, '~');
	imap_write_literal(out, s.len);
	buf_add_slice(out, s);
}

void imap_write_astring(struct buf *out, struct slice s)
{
	if (imap_write_is_atom(s) && !slice_is_str_nocase(s, "NIL"))
		buf_add_slice(out, s);
	else
		imap_write_string(out, s);
}

void imap_write_mailbox(struct buf *out, struct slice utf8)
{
	struct buf name = {0};

	if (mutf7_encode(&name, utf8) < 0)
		buf_add_str(&name, "?");
	imap_write_astring(out, buf_view(&name));
	buf_deinit(&name);
}

void imap_write_utf8_string(struct buf *out, struct slice s)
{
	if (can_quote_utf8(s) && slice_is_utf8(s))
		write_quoted(out, s);
	else
		write_without_nul(out, s);
}

void imap_write_utf8_mailbox(struct buf *out, struct slice utf8)
{
	if (imap_write_is_atom(utf8) && !slice_is_str_nocase(utf8, "NIL"))
		buf_add_slice(out, utf8);
	else
		imap_write_utf8_string(out, utf8);
}

void imap_write_text(struct buf *out, struct slice text)
{
	if (text.len == 0) {
		buf_add_char(out, '-');
		return;
	}
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];
		bool is_bad = c < 0x20 || c >= 0x7f || (i == 0 && c == '[');

		buf_add_char(out, is_bad ? '?' : (char)c);
	}
}

void imap_write_literal(struct buf *out, uint64_t n)
{
	buf_add_char(out, '{');
	buf_add_u64(out, n);
	buf_add_str(out, "}\r\n");
}

void imap_write_set_start(struct imap_write_set *set, struct buf *out)
{
	*set = (struct imap_write_set){.out = out};
}

void imap_write_set_end(struct imap_write_set *set)
{
	if (!set->from)
		return;
	if (set->has_any)
		buf_add_char(set->out, ',');
	buf_add_u64(set->out, set->from);
	if (set->to != set->from) {
		buf_add_char(set->out, ':');
		buf_add_u64(set->out, set->to);
	}
	set->has_any = true;
	set->from = set->to = 0;
}

void imap_write_set_add(struct imap_write_set *set, uint32_t n)
{
	if (set->from && n == set->to + 1) {
		set->to = n;
		return;
	}
	imap_write_set_end(set);
	set->from = set->to = n;
}

int imap_write_command_string(struct buf *out, struct slice s, bool has_literal_plus)
{
	bool has_line_end = slice_find(s, '\r') >= 0 || slice_find(s, '\n') >= 0;

	if (slice_find(s, '\0') >= 0)
		return ERR_SYNTAX;
	if (!has_line_end && (!has_literal_plus || can_quote(s))) {
		write_quoted(out, s);
		return 0;
	}
	if (!has_literal_plus)
		return ERR_SYNTAX;
	buf_printf(out, "{%zu+}\r\n", s.len);
	buf_add_slice(out, s);
	return 0;
}

int imap_write_id_pair(struct buf *out, struct slice name, struct slice value)
{
	if (name.len > 30 || slice_has_control(name) || !slice_is_ascii(name))
		return ERR_SYNTAX;
	if (value.len > ID_VALUE_MOST || slice_has_control(value) || !slice_is_ascii(value))
		return ERR_SYNTAX;
	write_quoted(out, name);
	buf_add_char(out, ' ');
	if (value.p)
		write_quoted(out, value);
	else
		buf_add_str(out, "NIL");
	return 0;
}
