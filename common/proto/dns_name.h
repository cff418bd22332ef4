/*
 * Names of the DNS as text (RFC 1035 section 2.3, RFC 1123 section 2.1): which may be asked, which are names of hosts, and the
 * reversed names of addresses. Names come from strangers; what has passed here holds no control, blank or octet above 126.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define DNS_NAME_MOST 253 /* characters, without a final dot */
#define DNS_LABEL_MOST 63

/* Letters, digits, hyphen and underscore in labels of 1 to 63; a final dot may stand there. */
bool dns_name_is_host(struct slice name);
/* May be asked: any printable ASCII (blank too) in labels of 1 to 63, as the macros of SPF make them; a final dot may stand there. */
bool dns_name_is_question(struct slice name);
/* The same without a final dot. */
struct slice dns_name_trim(struct slice name);
/*
 * Appends the reversed name of an address of 4 or 16 octets in network order: "1.2.0.192.in-addr.arpa", nibbles and "ip6.arpa"
 * (RFC 3596 section 2.5). zone: another ending, such as that of a list of bad addresses (RFC 5782); NULL: those. ERR_SYNTAX: another
 * length, or the name is too long.
 */
MUST_CHECK int dns_name_reverse(struct slice ip, const char *zone, struct buf *out);
