#include "common/proto/dns_name.h"

struct slice dns_name_trim(struct slice name)
{
	if (name.len && name.p[name.len - 1] == '.')
		name.len--;
	return name;
}

static bool is_host_char(unsigned char c)
{
	unsigned char lower = (unsigned char)ascii_lower((char)c);

	return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool is_printable(unsigned char c)
{
	return c >= ' ' && c < 127;
}

static bool has_labels_of(struct slice name, bool (*is_allowed)(unsigned char))
{
	size_t label = 0;

	name = dns_name_trim(name);
	if (name.len == 0 || name.len > DNS_NAME_MOST)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (name.p[i] == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (!is_allowed((unsigned char)name.p[i]) || ++label > DNS_LABEL_MOST) {
			return false;
		}
	}
	return label > 0;
}

bool dns_name_is_host(struct slice name)
{
	return has_labels_of(name, is_host_char);
}

bool dns_name_is_question(struct slice name)
{
	return has_labels_of(name, is_printable);
}

int dns_name_reverse(struct slice ip, const char *zone, struct buf *out)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *octets = (const unsigned char *)ip.p;
	size_t before = buf_len(out);

	if (ip.len != 4 && ip.len != 16)
		return ERR_SYNTAX;
	for (size_t i = ip.len; i-- > 0;)
		if (ip.len == 4)
			buf_printf(out, "%u.", octets[i]);
		else
			buf_printf(out, "%c.%c.", hex[octets[i] & 15], hex[octets[i] >> 4]);
	buf_add_str(out, zone ? zone : ip.len == 4 ? "in-addr.arpa" : "ip6.arpa");
	if (out->failed)
		return ERR_TOO_BIG;
	if (!dns_name_is_question(slice_from(buf_view(out), before))) {
		buf_cut(out, before);
		return ERR_SYNTAX;
	}
	return 0;
}
