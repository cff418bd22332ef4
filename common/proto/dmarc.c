/*
 * A walk is answered in any order and judged from the longest name to the shortest, where the first psd= ends it: what
 * was asked beyond that is not looked at.
 */
#include "common/proto/dmarc.h"

#include "common/proto/address.h"
#include "common/proto/dkim_tags.h"

#define WALK_LABELS 7 /* of a long name what is left after the first step */
#define AUTHORS_MOST 100

static const char *const policy_names[] = {"none", "quarantine", "reject"};

const char *dmarc_policy_name(enum dmarc_policy policy)
{
	return policy_names[policy];
}

/* ---- records ---- */

static bool read_policy(struct slice s, enum dmarc_policy *policy)
{
	for (size_t i = 0; i < ARRAY_LEN(policy_names); i++)
		if (slice_is_str_nocase(s, policy_names[i])) {
			*policy = (enum dmarc_policy)i;
			return true;
		}
	return false;
}

/* At least one URI with a scheme and something behind it. */
static bool has_uri(struct slice list)
{
	struct slice one;

	while (dkim_tags_next(&list, ',', &one)) {
		ptrdiff_t colon = slice_find(one, ':');

		if (colon > 0 && (size_t)colon + 1 < one.len)
			return true;
	}
	return false;
}

/*
 * Tags are taken one by one, and a broken one is passed over: dkim_tags_parse() refuses a list as a whole, which here
 * would switch the policy off (section 4.8).
 */
static struct slice find_tag(struct slice text, const char *name)
{
	struct slice one;

	while (dkim_tags_next(&text, ';', &one)) {
		ptrdiff_t at = slice_find(one, '=');

		if (at > 0 && slice_is_str_nocase(slice_trim(slice_sub(one, 0, (size_t)at)), name)) {
			one = slice_trim(slice_from(one, (size_t)at + 1));
			return one.p ? one : slice_of("", 0);
		}
	}
	return slice_of(NULL, 0);
}

static bool is_version(struct slice text)
{
	struct slice first, name;

	return dkim_tags_next(&text, ';', &first) && dkim_tags_next(&first, '=', &name) &&
	       slice_is_str(name, "v") && slice_is_str(slice_trim(first), "DMARC1");
}

int dmarc_parse(struct slice text, struct dmarc_record *record_out)
{
	struct dmarc_record r = {0};
	struct slice p, sp, np, psd;
	bool is_valid;

	if (text.len > DMARC_RECORD_MOST || !is_version(text))
		return ERR_NOT_FOUND;
	p = find_tag(text, "p");
	sp = find_tag(text, "sp");
	np = find_tag(text, "np");
	psd = find_tag(text, "psd");
	is_valid = read_policy(p, &r.policy);
	r.subdomains = r.policy;
	if (sp.p)
		is_valid &= read_policy(sp, &r.subdomains);
	r.absent = r.subdomains;
	r.has_absent = np.p != NULL;
	if (np.p)
		is_valid &= read_policy(np, &r.absent);
	r.is_applied = is_valid || has_uri(find_tag(text, "rua"));
	if (!is_valid)
		r.policy = r.subdomains = r.absent = DMARC_POLICY_NONE;
	r.is_dkim_strict = slice_is_str_nocase(find_tag(text, "adkim"), "s");
	r.is_spf_strict = slice_is_str_nocase(find_tag(text, "aspf"), "s");
	r.is_testing =
		slice_is_str_nocase(find_tag(text, "t"), "y") || slice_is_str(find_tag(text, "pct"), "0");
	r.psd = slice_is_str_nocase(psd, "y")   ? DMARC_PSD_YES
		: slice_is_str_nocase(psd, "n") ? DMARC_PSD_NO
						: DMARC_PSD_UNKNOWN;
	*record_out = r;
	return 0;
}

/* ---- the walk ---- */

static size_t label_count(struct slice domain)
{
	size_t count = 1;

	for (size_t i = 0; i < domain.len; i++)
		count += domain.p[i] == '.';
	return count;
}

/* Without its first label; empty behind the last. */
static struct slice parent_of(struct slice domain)
{
	ptrdiff_t dot = slice_find(domain, '.');

	return dot < 0 ? slice_of(NULL, 0) : slice_from(domain, (size_t)dot + 1);
}

void dmarc_walk_init(struct slice domain, struct dmarc_walk *walk_out)
{
	struct slice at = domain;

	*walk_out = (struct dmarc_walk){0};
	walk_out->steps[walk_out->count++].domain = domain;
	at = parent_of(at);
	while (at.len && label_count(at) > WALK_LABELS)
		at = parent_of(at);
	for (; at.len && walk_out->count < DMARC_WALK_MOST; at = parent_of(at))
		walk_out->steps[walk_out->count++].domain = at;
}

void dmarc_walk_take(struct dmarc_walk *walk, size_t i, struct slice text, unsigned *count)
{
	struct dmarc_record record;

	if (dmarc_parse(text, &record) != 0)
		return;
	walk->steps[i].record = record;
	walk->steps[i].has_record = ++*count == 1;
}

/* The last step that counts: a record with psd=y or psd=n ends the walk. */
static size_t walk_end(const struct dmarc_walk *walk)
{
	for (size_t i = 0; i < walk->count; i++)
		if (walk->steps[i].has_record && walk->steps[i].record.psd != DMARC_PSD_UNKNOWN)
			return i + 1;
	return walk->count;
}

/* The part of the domain walked that has one label more than its parent. */
static struct slice below(struct slice domain, struct slice parent)
{
	size_t at = domain.len - parent.len - 1;

	while (at && domain.p[at - 1] != '.')
		at--;
	return slice_from(domain, at);
}

struct slice dmarc_walk_organisation(const struct dmarc_walk *walk)
{
	struct slice organisation = walk->steps[0].domain;
	size_t end = walk_end(walk);

	for (size_t i = 0; i < end; i++) {
		const struct dmarc_step *s = &walk->steps[i];

		if (s->has_record)
			organisation = i && s->record.psd == DMARC_PSD_YES
					       ? below(walk->steps[0].domain, s->domain)
					       : s->domain;
	}
	return organisation;
}

const struct dmarc_step *dmarc_walk_policy(const struct dmarc_walk *walk)
{
	struct slice organisation = dmarc_walk_organisation(walk);
	size_t end = walk_end(walk);

	if (walk->steps[0].has_record)
		return &walk->steps[0];
	for (size_t i = 1; i < end; i++)
		if (walk->steps[i].has_record && (slice_is_equal(walk->steps[i].domain, organisation) ||
							 walk->steps[i].record.psd == DMARC_PSD_YES))
			return &walk->steps[i];
	return NULL;
}

enum dmarc_policy dmarc_walk_wants(
	const struct dmarc_walk *walk, const struct dmarc_step *found, bool exists, bool *is_inherited_out)
{
	const struct dmarc_record *r = &found->record;
	enum dmarc_policy policy = r->policy;

	*is_inherited_out = found != &walk->steps[0];
	if (*is_inherited_out)
		policy = exists ? r->subdomains : r->absent;
	return r->is_testing && policy != DMARC_POLICY_NONE ? (enum dmarc_policy)(policy - 1) : policy;
}

/* ---- the author ---- */

static enum dmarc_author one_domain(
	struct arena *a, const struct address *list, size_t count, struct slice *domain_out)
{
	struct slice found = {0}, domain;

	if (count > AUTHORS_MOST)
		return DMARC_AUTHOR_SEVERAL;
	for (size_t i = 0; i < count; i++) {
		if (list[i].kind != ADDRESS_MAILBOX)
			continue;
		if (!list[i].domain.len || address_normalise_domain(a, list[i].domain, &domain) != 0)
			return DMARC_AUTHOR_MALFORMED;
		if (found.p && !slice_is_equal(found, domain))
			return DMARC_AUTHOR_SEVERAL;
		found = domain;
	}
	*domain_out = found;
	return found.p ? DMARC_AUTHOR_ONE : DMARC_AUTHOR_NONE;
}

enum dmarc_author dmarc_author_domain(
	struct arena *a, const struct dkim_fields *fields, struct slice *domain_out)
{
	const struct header_field *from = dkim_fields_find(fields, "From");
	struct address *list;
	struct slice text;
	size_t count;

	if (!from)
		return DMARC_AUTHOR_NONE;
	if (dkim_fields_count(fields, "From") > 1)
		return DMARC_AUTHOR_SEVERAL;
	text = header_unfold(a, from->value);
	if (!text.p || address_parse_list(a, text, &list, &count) != 0)
		return DMARC_AUTHOR_MALFORMED;
	return one_domain(a, list, count, domain_out);
}
