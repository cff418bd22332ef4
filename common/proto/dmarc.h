/*
 * DMARC (RFC 9989, which replaced RFC 7489): policy records, the DNS tree walk that finds them and the organisational
 * domain, alignment, and the author domain of a message. Pure: who asks the DNS gives the answers in.
 *
 *	a.mail.example.com   _dmarc.a.mail.example.com, _dmarc.mail.example.com, _dmarc.example.com, _dmarc.com
 *
 * All domains are lower-case ASCII.
 */
#pragma once

#include "common/proto/dkim_fields.h"

/* Names asked in one walk (RFC 9989 section 4.10). */
#define DMARC_WALK_MOST 8
#define DMARC_RECORD_MOST 4096

enum dmarc_policy {
	DMARC_POLICY_NONE,
	DMARC_POLICY_QUARANTINE,
	DMARC_POLICY_REJECT
};
/* "none", "quarantine", "reject" */
const char *dmarc_policy_name(enum dmarc_policy policy);

enum dmarc_psd {
	DMARC_PSD_UNKNOWN,
	DMARC_PSD_YES,
	DMARC_PSD_NO
};

struct dmarc_record {
	bool is_applied; /* false: no valid p= and nobody to report to, so nothing is asked for (section 4.10.1) */
	enum dmarc_policy policy, subdomains, absent; /* p=, sp=, np= with what they fall back to */
	bool has_absent;                              /* np= stands there */
	bool is_dkim_strict, is_spf_strict;           /* adkim=s, aspf=s */
	bool is_testing;                              /* t=y, or RFC 7489's pct=0 */
	enum dmarc_psd psd;
};
/* ERR_NOT_FOUND: no DMARC record (does not begin with v=DMARC1). Faults behind that fall back to defaults. */
MUST_CHECK int dmarc_parse(struct slice text, struct dmarc_record *record_out);

/* ---- the walk ---- */

struct dmarc_step {
	struct slice domain; /* asked at _dmarc. before it; a view of the domain walked */
	bool has_record;
	struct dmarc_record record;
};
struct dmarc_walk {
	size_t count;
	struct dmarc_step steps[DMARC_WALK_MOST]; /* from the domain itself upwards */
};
/* Lists what is to be asked. The domain must outlive the walk. */
void dmarc_walk_init(struct slice domain, struct dmarc_walk *walk_out);
/* One TXT record of the answer for step i; others_out counts DMARC records: more than one, and none counts. */
void dmarc_walk_take(struct dmarc_walk *walk, size_t i, struct slice text, unsigned *count);
/* The organisational domain (section 4.10.2). */
struct slice dmarc_walk_organisation(const struct dmarc_walk *walk);
/* The step whose record applies to the domain walked (section 4.10.1); NULL: none. */
const struct dmarc_step *dmarc_walk_policy(const struct dmarc_walk *walk);
/* What that record asks for; exists: the domain walked is in the DNS. t=y lowers it by one. */
enum dmarc_policy dmarc_walk_wants(
	const struct dmarc_walk *walk, const struct dmarc_step *found, bool exists, bool *is_inherited_out);

/* ---- the author ---- */

enum dmarc_author {
	DMARC_AUTHOR_ONE,
	DMARC_AUTHOR_NONE, /* no From, or nothing of it is an address with a domain */
	DMARC_AUTHOR_SEVERAL, /* From twice, or more than one domain in it: what readers show is anybody's guess */
	DMARC_AUTHOR_MALFORMED /* there is an address whose domain is none */
};
/* The author domain of a message (section 5.3.1), in the arena. */
enum dmarc_author dmarc_author_domain(
	struct arena *a, const struct dkim_fields *fields, struct slice *domain_out);
