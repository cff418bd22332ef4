/*
 * Socket addresses: text to struct and back, comparison, networks. Values, no owner. IPv4, IPv6 and unix
 * paths.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

struct addr {
	socklen_t len; /* 0: none */
	struct sockaddr_storage ss;
};

/* "192.0.2.1", "[2001:db8::1]", "2001:db8::1" with a port given apart; "/run/x.sock" for unix. ERR_SYNTAX. */
MUST_CHECK int addr_parse(struct slice host, uint16_t port, struct addr *addr_out);
/* "host:port", "[v6]:port"; the port may be absent when default_port is not 0. */
MUST_CHECK int addr_parse_hostport(struct slice text, uint16_t default_port, struct addr *addr_out);
/* Enough for any text of an address. */
#define ADDR_TEXT_MAX 120
/* "192.0.2.1", "2001:db8::1" without port; returns text. IPv4-mapped IPv6 is written as IPv4. */
const char *addr_host(const struct addr *addr, char text[ADDR_TEXT_MAX]);
/* "192.0.2.1:25", "[2001:db8::1]:25". */
const char *addr_text(const struct addr *addr, char text[ADDR_TEXT_MAX]);
uint16_t addr_port(const struct addr *addr);
void addr_set_port(struct addr *addr, uint16_t port);
/* The IP address in network order: 4 octets (IPv4-mapped IPv6 too), 16, or 0 for none. View of addr. */
struct slice addr_ip(const struct addr *addr);
/* The address of 4 or 16 octets in network order. */
void addr_set_ip(struct addr *addr, const void *ip, size_t len, uint16_t port);
bool addr_is_loopback(const struct addr *addr);
bool addr_is_equal_host(const struct addr *a, const struct addr *b);

/* "10.0.0.0/8", "2001:db8::/32", a bare address, or "unix". Host bits that are set are ERR_SYNTAX. */
struct addr_net {
	struct addr base;
	unsigned bits;
};
MUST_CHECK int addr_net_parse(struct slice text, struct addr_net *net_out);
/* IPv4-mapped IPv6 addresses count as IPv4. */
bool addr_net_has(const struct addr_net *net, const struct addr *addr);
