/*
 * Which text is a host, and which could be a misspelt name of a back-end.
 */
#include "mapping/map_host.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/base/num.h"
#include "mapping/usermap.h"

/* A literal address, or a name with a dot: one without could not be told from a misspelt back-end. */
static bool is_host(struct slice s)
{
	char text[USERMAP_HOST_MOST + 1];
	struct in6_addr any;

	if (!s.len || s.len > USERMAP_HOST_MOST || slice_has_control(s))
		return false;
	memcpy(text, s.p, s.len);
	text[s.len] = 0;
	if (inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1)
		return true;
	if (slice_find(s, '.') <= 0 || s.p[s.len - 1] == '.' || strstr(text, ".."))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = ascii_lower(s.p[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.')
			return false;
	}
	/* What looks like an IPv4 address and is none. */
	return strspn(text, "0123456789.") != s.len;
}

int map_host_split(struct slice s, struct slice *host_out, uint16_t *port_out)
{
	ptrdiff_t colon = slice_find_last(s, ':');
	ptrdiff_t close = slice_find(s, ']');
	uint32_t port = 0;

	*host_out = s;
	*port_out = 0;
	if (slice_has_prefix(s, "[")) {
		if (close < 0)
			return ERR_SYNTAX;
		*host_out = slice_sub(s, 1, (size_t)close - 1);
		if ((size_t)close + 1 == s.len)
			return slice_find(*host_out, ':') >= 0 && is_host(*host_out) ? 0 : ERR_SYNTAX;
		if (colon != close + 1 || slice_find(*host_out, ':') < 0)
			return ERR_SYNTAX;
	} else if (colon < 0 || is_host(s)) {
		return is_host(s) ? 0 : ERR_SYNTAX;
	} else {
		*host_out = slice_sub(s, 0, (size_t)colon);
	}
	if (num_parse_u32(slice_from(s, (size_t)colon + 1), &port) || !port || port > UINT16_MAX ||
		!is_host(*host_out))
		return ERR_SYNTAX;
	*port_out = (uint16_t)port;
	return 0;
}
