/*
 * What TLSA records of a mail server are good for (RFC 7672, 7671). Pure; any thread. Matching itself is common/net's.
 */
#pragma once

#include <stddef.h>

#include "common/net/tls.h"

enum dane_state {
	DANE_NONE,   /* none are published (or not under DNSSEC): DANE says nothing */
	DANE_USABLE, /* the certificate must match one */
	DANE_UNUSABLE, /* there are some, but none that mail may use: TLS is a must, verification is not (RFC 7672 section 2.2) */
	DANE_NOT_NOW /* whether there are any cannot be said, or what was said is forged: the host is not to be used now */
};

/* Usage 2 or 3, a selector and a digest that are known, and data of the right length. */
bool dane_is_usable(const struct tls_dane_record *record);
/* Of all validated records of a host; count 0: DANE_NONE. */
enum dane_state dane_judge(const struct tls_dane_record *records, size_t count);
/* "3 1 1 0123..": a policy's line in reports (RFC 8460 section 4.4), at most size - 1 characters. */
void dane_text(const struct tls_dane_record *record, char *out, size_t size);
