/*
 * Names put into LDAP filters and DNs: every value that comes from outside is escaped, here and nowhere else. Pure
 * functions.
 *
 * A template holds %u (the part before the last '@'), %d (the domain), %e (the whole name), %s (the service), %%.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* Appends value as RFC 4515 section 3 wants it in an assertion: all but plain letters, digits and harmless signs as
 * \xx. */
void directory_text_filter_value(struct buf *out, struct slice value);
/* Appends value as RFC 4514 section 2.4 wants it in a DN. */
void directory_text_dn_value(struct buf *out, struct slice value);

struct directory_text_names {
	struct slice name; /* user or address */
	struct slice service;
};

/* 0, or ERR_SYNTAX with a reason: unbalanced parentheses, an item without '=', an unknown variable. A template without
 * the outer parentheses is good. */
MUST_CHECK int directory_text_check_filter(struct slice template, const char **reason_out);
/* 0, or ERR_SYNTAX with a reason: an unknown variable. */
MUST_CHECK int directory_text_check_base(struct slice template, const char **reason_out);
/* Appends the filter with all values escaped, in parentheses. */
void directory_text_filter(struct buf *out, struct slice template, const struct directory_text_names *names);
/* Appends the DN with all values escaped. */
void directory_text_base(struct buf *out, struct slice template, const struct directory_text_names *names);
/* Appends the template that finds whom an address belongs to: who fits all items of person ("(a=b)(c=d)", may be ""), and
 * has the address in one of the attributes. In proxyAddresses addresses stand behind "smtp:". */
void directory_text_address_filter(
	struct buf *out, const char *person, const char *account, const char *const *aliases);
