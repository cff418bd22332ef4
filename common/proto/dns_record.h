/*
 * The data of DNS records, octets to structs: A, AAAA, MX, TXT, PTR, CNAME (RFC 1035, 3596), TLSA (RFC 6698). The data stands by
 * itself: names in it are not compressed. Whoever owns a zone chooses these octets: names are taken only if they are names of
 * hosts, so that none can carry a line end, a control or a blank into a log, a header or another protocol.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/proto/dns_name.h"

enum dns_type {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28,
	DNS_TLSA = 52
};

struct dns_record {
	enum dns_type type;
	bool any_name;   /* the name may be no host's */
	struct slice ip; /* A: 4 octets, AAAA: 16; network order */
	/* MX, PTR, CNAME: a host's name in lower case, without final dot; a NUL follows. MX: empty where there is no host,
	 * which says that the domain takes no mail (RFC 7505) */
	struct slice name;
	uint16_t preference; /* MX */
	struct slice text;   /* TXT: its strings joined without anything between; any octets; a NUL follows */
	uint8_t usage, selector, matching; /* TLSA, any values */
	struct slice data;                 /* TLSA: not empty */
};

/*
 * Everything in *record_out is the arena's. ERR_SYNTAX: the data is not of that type, or names what is not a host. ERR_TOO_BIG: the
 * arena is full. Nothing is read beyond the data.
 */
/* any_name: names may be all that may be asked (dns_name_is_question()), which no protocol but the DNS itself can take. */
MUST_CHECK int dns_record_parse(struct arena *arena, enum dns_type type, struct slice data, bool any_name,
	struct dns_record *record_out);
