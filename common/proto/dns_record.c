#include "common/proto/dns_record.h"

typedef int parse_fn(struct arena *arena, struct slice data, struct dns_record *r);
typedef bool name_fn(struct slice name);

static int keep(struct arena *arena, struct slice s, struct slice *out)
{
	*out = arena_copy(arena, s);
	return out->p ? 0 : ERR_TOO_BIG;
}

/* Labels, each behind its length, up to the empty one, which must be the end of the data. The root gives an empty name. */
static int parse_name(struct arena *arena, struct slice data, name_fn *is_allowed, struct slice *name_out)
{
	char text[DNS_NAME_MOST + 2];
	size_t at = 0, len = 0;

	for (;;) {
		size_t label;

		if (at >= data.len)
			return ERR_SYNTAX;
		label = (unsigned char)data.p[at++];
		if (label == 0)
			break;
		if (label > DNS_LABEL_MOST || label > data.len - at || len + label + 1 > DNS_NAME_MOST + 1)
			return ERR_SYNTAX;
		/* A dot within a label would read as two labels. */
		if (slice_find(slice_sub(data, at, label), '.') >= 0)
			return ERR_SYNTAX;
		for (size_t i = 0; i < label; i++)
			text[len + i] = ascii_lower(data.p[at + i]);
		text[len + label] = '.';
		len += label + 1;
		at += label;
	}
	if (at != data.len || (len && !is_allowed(slice_of(text, len))))
		return ERR_SYNTAX;
	return keep(arena, slice_of(text, len ? len - 1 : 0), name_out);
}

static int parse_host(struct arena *arena, struct slice data, struct dns_record *r)
{
	int err = parse_name(arena, data, r->any_name ? dns_name_is_question : dns_name_is_host, &r->name);

	return err ? err : r->name.len ? 0 : ERR_SYNTAX;
}

static int parse_a(struct arena *arena, struct slice data, struct dns_record *r)
{
	return data.len == 4 ? keep(arena, data, &r->ip) : ERR_SYNTAX;
}

static int parse_aaaa(struct arena *arena, struct slice data, struct dns_record *r)
{
	return data.len == 16 ? keep(arena, data, &r->ip) : ERR_SYNTAX;
}

static int parse_mx(struct arena *arena, struct slice data, struct dns_record *r)
{
	if (data.len < 3)
		return ERR_SYNTAX;
	r->preference = (uint16_t)((unsigned char)data.p[0] << 8 | (unsigned char)data.p[1]);
	return parse_name(
		arena, slice_from(data, 2), r->any_name ? dns_name_is_question : dns_name_is_host, &r->name);
}

static int parse_txt(struct arena *arena, struct slice data, struct dns_record *r)
{
	char *text = arena_alloc(arena, data.len + 1);
	size_t at = 0, len = 0;

	if (!text)
		return ERR_TOO_BIG;
	if (data.len == 0)
		return ERR_SYNTAX;
	while (at < data.len) {
		size_t part = (unsigned char)data.p[at++];

		if (part > data.len - at)
			return ERR_SYNTAX;
		memcpy(text + len, data.p + at, part);
		len += part;
		at += part;
	}
	text[len] = '\0';
	r->text = slice_of(text, len);
	return 0;
}

static int parse_tlsa(struct arena *arena, struct slice data, struct dns_record *r)
{
	if (data.len < 4)
		return ERR_SYNTAX;
	r->usage = (uint8_t)data.p[0];
	r->selector = (uint8_t)data.p[1];
	r->matching = (uint8_t)data.p[2];
	return keep(arena, slice_from(data, 3), &r->data);
}

static const struct {
	enum dns_type type;
	parse_fn *parse;
} types[] = {
	{DNS_A, parse_a},
	{DNS_AAAA, parse_aaaa},
	{DNS_CNAME, parse_host},
	{DNS_PTR, parse_host},
	{DNS_MX, parse_mx},
	{DNS_TXT, parse_txt},
	{DNS_TLSA, parse_tlsa},
};

int dns_record_parse(struct arena *arena, enum dns_type type, struct slice data, bool any_name,
	struct dns_record *record_out)
{
	struct dns_record record = {.type = type, .any_name = any_name};
	int err = ERR_UNSUPPORTED;

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (types[i].type == type)
			err = types[i].parse(arena, data, &record);
	if (!err)
		*record_out = record;
	return err;
}
