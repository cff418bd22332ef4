/* The parts are found first, while "/" and ";" still are what they mean, and decoded then. */
#include "common/proto/imap_url.h"

#include "common/base/num.h"

/* Where `word` begins in text, in any case; -1: nowhere. */
static ptrdiff_t find_word(struct slice text, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= text.len; i++) {
		if (slice_has_prefix_nocase(slice_from(text, i), word))
			return (ptrdiff_t)i;
	}
	return -1;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX becomes its octet; controls and 8-bit octets stand in no URL as they are, and NUL in none at all. */
static int decode(struct slice text, struct arena *arena, struct slice *out)
{
	char *p = arena_alloc(arena, text.len + 1);
	size_t n = 0;

	if (!p)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c < 0x20 || c > 0x7e)
			return ERR_SYNTAX;
		if (c == '%') {
			int high = text.len - i > 2 ? hex(text.p[i + 1]) : -1;
			int low = text.len - i > 2 ? hex(text.p[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return ERR_SYNTAX;
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		p[n++] = (char)c;
	}
	*out = slice_of(p, n);
	return 0;
}

/* Takes `word` and what stands up to the next "/;" (or the end) off the front; false: another word stands there. */
static bool take_param(struct slice *text, const char *word, struct slice *value_out)
{
	ptrdiff_t end;

	if (!slice_has_prefix_nocase(*text, word))
		return false;
	*value_out = slice_from(*text, strlen(word));
	end = find_word(*value_out, "/;");
	if (end >= 0)
		*value_out = slice_sub(*value_out, 0, (size_t)end);
	*text = slice_from(*text, strlen(word) + value_out->len);
	return true;
}

static int read_partial(struct slice value, struct imap_url *url)
{
	ptrdiff_t dot = slice_find(value, '.');
	struct slice from = dot < 0 ? value : slice_sub(value, 0, (size_t)dot);
	int err = num_parse_u64(from, &url->from);

	if (err == 0 && dot >= 0)
		err = num_parse_u64(slice_from(value, (size_t)dot + 1), &url->length);
	return err < 0 || url->length == 0 ? ERR_SYNTAX : 0;
}

/* ;UID=n[/;SECTION=s][/;PARTIAL=a[.b]] */
static int read_params(struct slice text, struct arena *arena, struct imap_url *url)
{
	struct slice value;
	int err = 0;

	if (!take_param(&text, ";UID=", &value) || num_parse_u32(value, &url->uid) < 0 || url->uid == 0)
		return ERR_SYNTAX;
	if (take_param(&text, "/;SECTION=", &value))
		err = value.len ? decode(value, arena, &url->section) : ERR_SYNTAX;
	if (err == 0 && take_param(&text, "/;PARTIAL=", &value))
		err = read_partial(value, url);
	return err == 0 && text.len ? ERR_SYNTAX : err;
}

/* mailbox[;UIDVALIDITY=n] */
static int read_mailbox(struct slice text, struct arena *arena, struct imap_url *url)
{
	static const char word[] = ";UIDVALIDITY=";
	ptrdiff_t at = find_word(text, word);

	if (at >= 0) {
		if (num_parse_u32(slice_from(text, (size_t)at + strlen(word)), &url->uidvalidity) < 0 ||
			url->uidvalidity == 0)
			return ERR_SYNTAX;
		text = slice_sub(text, 0, (size_t)at);
	}
	return text.len && slice_find(text, ';') < 0 ? decode(text, arena, &url->mailbox) : ERR_SYNTAX;
}

int imap_url_parse(struct slice text, struct arena *arena, struct imap_url *url_out)
{
	struct imap_url url = {.length = UINT64_MAX};
	ptrdiff_t at = find_word(text, "/;UID=");
	int err = 0;

	if (at > 0) {
		if (text.p[0] != '/' || text.p[1] == '/')
			return ERR_SYNTAX;
		err = read_mailbox(slice_sub(text, 1, (size_t)at - 1), arena, &url);
	}
	if (err == 0)
		err = read_params(at >= 0 ? slice_from(text, (size_t)at + 1) : text, arena, &url);
	if (err == 0)
		*url_out = url;
	return err;
}
