/* RFC 7672 section 3.1.3: PKIX-TA(0) and PKIX-EE(1) are not for mail, and count as unusable. */
#include "backend/delivery/dane.h"

#include <stdio.h>

enum {
	USAGE_TRUST_ANCHOR = 2,
	USAGE_END_ENTITY = 3,
	SELECTOR_MOST = 1 /* the whole certificate, or its key */
};

/* By matching type: octets of the digest; 0: the data itself. */
static const size_t lengths[] = {0, 32, 64};

bool dane_is_usable(const struct tls_dane_record *r)
{
	if ((r->usage != USAGE_TRUST_ANCHOR && r->usage != USAGE_END_ENTITY) || r->selector > SELECTOR_MOST ||
		r->matching >= ARRAY_LEN(lengths))
		return false;
	return lengths[r->matching] ? r->data.len == lengths[r->matching] : r->data.len > 0;
}

enum dane_state dane_judge(const struct tls_dane_record *records, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (dane_is_usable(&records[i]))
			return DANE_USABLE;
	return count ? DANE_UNUSABLE : DANE_NONE;
}

void dane_text(const struct tls_dane_record *r, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	int n = snprintf(out, size, "%u %u %u ", r->usage, r->selector, r->matching);
	size_t at = n > 0 && (size_t)n < size ? (size_t)n : 0;

	for (size_t i = 0; i < r->data.len && at + 2 < size; i++) {
		unsigned char c = (unsigned char)r->data.p[i];

		out[at++] = hex[c >> 4];
		out[at++] = hex[c & 15];
	}
	out[at] = '\0';
}
