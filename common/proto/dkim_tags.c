/*
 * tag-list = tag-spec *(";" tag-spec) [";"], tag-spec = [FWS] name [FWS] "=" [FWS] value [FWS]. Folds are
 * blanks: what a header field or a zone file made of a line end does not matter here.
 */
#include "common/proto/dkim_tags.h"

#include "common/base/base64.h"
#include "common/base/num.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_tag_name(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = ascii_lower(s.p[i]);

		if (!(c >= 'a' && c <= 'z') && !(i && ((c >= '0' && c <= '9') || c == '_')))
			return false;
	}
	return s.len > 0;
}

/* Printable ASCII and blanks; beyond ASCII what RFC 8616 allows. */
static bool is_tag_value(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (((unsigned char)s.p[i] < 0x20 && !is_blank(s.p[i])) || s.p[i] == 0x7f)
			return false;
	return true;
}

bool dkim_tags_next(struct slice *rest, char separator, struct slice *element_out)
{
	ptrdiff_t at;

	if (!rest->p)
		return false;
	at = slice_find(*rest, separator);
	*element_out = slice_trim(at < 0 ? *rest : slice_sub(*rest, 0, (size_t)at));
	*rest = at < 0 ? slice_of(NULL, 0) : slice_from(*rest, (size_t)at + 1);
	return true;
}

int dkim_tags_parse(struct slice text, struct dkim_tags *tags_out)
{
	struct slice rest = text, one;

	tags_out->count = 0;
	while (dkim_tags_next(&rest, ';', &one)) {
		struct dkim_tag tag;
		ptrdiff_t at = slice_find(one, '=');

		if (one.len == 0 && !rest.p && tags_out->count)
			break;
		if (at <= 0)
			return ERR_SYNTAX;
		tag.name = slice_trim(slice_sub(one, 0, (size_t)at));
		tag.value = slice_trim(slice_from(one, (size_t)at + 1));
		if (!tag.value.p)
			tag.value = slice_of("", 0);
		if (!is_tag_name(tag.name) || !is_tag_value(tag.value))
			return ERR_SYNTAX;
		for (size_t i = 0; i < tags_out->count; i++)
			if (slice_is_equal(tags_out->list[i].name, tag.name))
				return ERR_SYNTAX;
		if (tags_out->count == DKIM_TAGS_MOST)
			return ERR_TOO_BIG;
		tags_out->list[tags_out->count++] = tag;
	}
	return tags_out->count ? 0 : ERR_SYNTAX;
}

struct slice dkim_tags_get(const struct dkim_tags *tags, const char *name)
{
	for (size_t i = 0; i < tags->count; i++)
		if (slice_is_str(tags->list[i].name, name))
			return tags->list[i].value;
	return slice_of(NULL, 0);
}

int dkim_tags_base64(struct arena *a, struct slice text, size_t most, struct slice *octets_out)
{
	size_t digits = 0, padding = 0, at = 0;
	uint32_t bits = 0;
	char *out;

	for (size_t i = 0; i < text.len; i++) {
		if (is_blank(text.p[i]))
			continue;
		if (text.p[i] == '=')
			padding++;
		else if (base64_digit(text.p[i]) < 0 || padding)
			return ERR_SYNTAX;
		else
			digits++;
	}
	if (digits % 4 == 1 || padding > 2 || (padding && (digits + padding) % 4))
		return ERR_SYNTAX;
	if (digits / 4 * 3 > most)
		return ERR_TOO_BIG;
	out = arena_alloc(a, digits / 4 * 3 + 3);
	if (!out)
		return ERR_TOO_BIG;
	digits = 0;
	for (size_t i = 0; i < text.len; i++) {
		int digit = base64_digit(text.p[i]);

		if (digit < 0)
			continue;
		bits = bits << 6 | (uint32_t)digit;
		if (++digits % 4 == 1)
			continue;
		/* 12 bits give one octet, 18 two, 24 three. */
		out[at++] = (char)(bits >> (digits % 4 == 2 ? 4 : digits % 4 == 3 ? 2 : 0));
	}
	if (at > most)
		return ERR_TOO_BIG;
	*octets_out = slice_of(out, at);
	return 0;
}

int dkim_tags_number(struct slice text, uint64_t *n_out)
{
	return text.len > 12 || num_parse_u64(text, n_out) != 0 ? ERR_SYNTAX : 0;
}
