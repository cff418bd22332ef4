/* inet_pton and inet_ntop, with the port and the unix path kept in the same value. */
#include "common/net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "common/base/num.h"

static struct sockaddr_in *in4(const struct addr *addr)
{
	return (struct sockaddr_in *)&addr->ss;
}

static struct sockaddr_in6 *in6(const struct addr *addr)
{
	return (struct sockaddr_in6 *)&addr->ss;
}

static const struct sockaddr_un *un(const struct addr *addr)
{
	return (const struct sockaddr_un *)&addr->ss;
}

struct slice addr_ip(const struct addr *addr)
{
	if (addr->len && addr->ss.ss_family == AF_INET)
		return slice_of(&in4(addr)->sin_addr, 4);
	if (addr->len && addr->ss.ss_family == AF_INET6) {
		const struct in6_addr *a = &in6(addr)->sin6_addr;

		return IN6_IS_ADDR_V4MAPPED(a) ? slice_of(&a->s6_addr[12], 4) : slice_of(a, 16);
	}
	return slice_of(NULL, 0);
}

static int parse_unix(struct slice path, struct addr *addr_out)
{
	struct addr a = {.len = sizeof(struct sockaddr_un)};
	struct sockaddr_un *sun = (struct sockaddr_un *)&a.ss;

	if (path.len >= sizeof(sun->sun_path) || slice_find(path, '\0') >= 0)
		return ERR_SYNTAX;
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path.p, path.len);
	*addr_out = a;
	return 0;
}

int addr_parse(struct slice host, uint16_t port, struct addr *addr_out)
{
	char text[INET6_ADDRSTRLEN];
	struct addr a = {0};

	if (host.len && host.p[0] == '/')
		return parse_unix(host, addr_out);
	if (host.len >= 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
		host = slice_sub(host, 1, host.len - 2);
	if (host.len == 0 || host.len >= sizeof(text) || slice_find(host, '\0') >= 0)
		return ERR_SYNTAX;
	memcpy(text, host.p, host.len);
	text[host.len] = '\0';
	if (inet_pton(AF_INET, text, &in4(&a)->sin_addr) == 1) {
		a.ss.ss_family = AF_INET;
		a.len = sizeof(struct sockaddr_in);
	} else if (inet_pton(AF_INET6, text, &in6(&a)->sin6_addr) == 1) {
		a.ss.ss_family = AF_INET6;
		a.len = sizeof(struct sockaddr_in6);
	} else {
		return ERR_SYNTAX;
	}
	addr_set_port(&a, port);
	*addr_out = a;
	return 0;
}

static int parse_port(struct slice text, uint16_t *port_out)
{
	uint32_t port;

	if (num_parse_u32(text, &port) != 0 || port > 65535)
		return ERR_SYNTAX;
	*port_out = (uint16_t)port;
	return 0;
}

int addr_parse_hostport(struct slice text, uint16_t default_port, struct addr *addr_out)
{
	ptrdiff_t colon = slice_find_last(text, ':');
	ptrdiff_t bracket = slice_find(text, ']');
	bool has_port = colon >= 0 && (bracket >= 0 ? colon == bracket + 1 : slice_find(text, ':') == colon);
	uint16_t port = default_port;

	if (text.len && text.p[0] == '/')
		return parse_unix(text, addr_out);
	if (has_port) {
		int rc = parse_port(slice_from(text, (size_t)colon + 1), &port);

		if (rc)
			return rc;
		text = slice_sub(text, 0, (size_t)colon);
	} else if (default_port == 0) {
		return ERR_SYNTAX;
	}
	return addr_parse(text, port, addr_out);
}

const char *addr_host(const struct addr *addr, char text[ADDR_TEXT_MAX])
{
	struct slice ip = addr_ip(addr);

	if (ip.len)
		inet_ntop(ip.len == 4 ? AF_INET : AF_INET6, ip.p, text, ADDR_TEXT_MAX);
	else if (addr->len && addr->ss.ss_family == AF_UNIX)
		snprintf(text, ADDR_TEXT_MAX, "%.*s", (int)sizeof(un(addr)->sun_path),
			addr->len > sizeof(sa_family_t) && un(addr)->sun_path[0] ? un(addr)->sun_path
										 : "unix");
	else
		snprintf(text, ADDR_TEXT_MAX, "none");
	return text;
}

const char *addr_text(const struct addr *addr, char text[ADDR_TEXT_MAX])
{
	char host[ADDR_TEXT_MAX];
	size_t ip_len = addr_ip(addr).len;

	addr_host(addr, host);
	if (ip_len == 0)
		return memcpy(text, host, sizeof(host));
	snprintf(text, ADDR_TEXT_MAX, ip_len == 4 ? "%.50s:%u" : "[%.50s]:%u", host, addr_port(addr));
	return text;
}

uint16_t addr_port(const struct addr *addr)
{
	if (addr->len && addr->ss.ss_family == AF_INET)
		return ntohs(in4(addr)->sin_port);
	if (addr->len && addr->ss.ss_family == AF_INET6)
		return ntohs(in6(addr)->sin6_port);
	return 0;
}

void addr_set_port(struct addr *addr, uint16_t port)
{
	if (addr->len && addr->ss.ss_family == AF_INET)
		in4(addr)->sin_port = htons(port);
	else if (addr->len && addr->ss.ss_family == AF_INET6)
		in6(addr)->sin6_port = htons(port);
}

void addr_set_ip(struct addr *addr, const void *ip, size_t len, uint16_t port)
{
	*addr = (struct addr){0};
	if (len == 4) {
		addr->len = sizeof(struct sockaddr_in);
		addr->ss.ss_family = AF_INET;
		memcpy(&in4(addr)->sin_addr, ip, 4);
	} else {
		require(len == 16);
		addr->len = sizeof(struct sockaddr_in6);
		addr->ss.ss_family = AF_INET6;
		memcpy(&in6(addr)->sin6_addr, ip, 16);
	}
	addr_set_port(addr, port);
}

bool addr_is_loopback(const struct addr *addr)
{
	static const struct in6_addr one = IN6ADDR_LOOPBACK_INIT;
	struct slice ip = addr_ip(addr);

	if (ip.len == 4)
		return ip.p[0] == 127;
	if (ip.len == 16)
		return memcmp(ip.p, &one, 16) == 0;
	return addr->len && addr->ss.ss_family == AF_UNIX;
}

bool addr_is_equal_host(const struct addr *a, const struct addr *b)
{
	struct slice x = addr_ip(a), y = addr_ip(b);

	if (x.len || y.len)
		return slice_is_equal(x, y);
	return a->len && b->len && a->ss.ss_family == b->ss.ss_family;
}

/* True if the first `bits` bits agree. */
static bool same_prefix(const char *a, const char *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return rest == 0 || (((uint8_t)a[bits / 8] ^ (uint8_t)b[bits / 8]) >> (8 - rest)) == 0;
}

static bool has_host_bits(struct slice ip, unsigned bits)
{
	for (unsigned i = bits; i < ip.len * 8; i++)
		if ((uint8_t)ip.p[i / 8] & (0x80u >> (i % 8)))
			return true;
	return false;
}

int addr_net_parse(struct slice text, struct addr_net *net_out)
{
	struct addr_net net = {0};
	ptrdiff_t slash = slice_find(text, '/');
	struct slice ip;
	uint32_t bits;

	if (slice_is_str(text, "unix")) {
		net.base.len = sizeof(sa_family_t);
		net.base.ss.ss_family = AF_UNIX;
		*net_out = net;
		return 0;
	}
	if (slash == 0 ||
		addr_parse(slice_sub(text, 0, slash < 0 ? text.len : (size_t)slash), 0, &net.base) != 0)
		return ERR_SYNTAX;
	ip = addr_ip(&net.base);
	net.bits = (unsigned)ip.len * 8;
	if (slash > 0) {
		if (num_parse_u32(slice_from(text, (size_t)slash + 1), &bits) != 0)
			return ERR_SYNTAX;
		if (ip.len == 4 && net.base.ss.ss_family == AF_INET6) { /* ::ffff:10.0.0.0/104 */
			if (bits < 96)
				return ERR_SYNTAX;
			bits -= 96;
		}
		if (bits > net.bits || has_host_bits(ip, bits))
			return ERR_SYNTAX;
		net.bits = bits;
	}
	*net_out = net;
	return 0;
}

bool addr_net_has(const struct addr_net *net, const struct addr *addr)
{
	struct slice base = addr_ip(&net->base), ip = addr_ip(addr);

	if (base.len == 0)
		return net->base.len && addr->len && addr->ss.ss_family == AF_UNIX;
	return base.len == ip.len && same_prefix(base.p, ip.p, net->bits);
}
