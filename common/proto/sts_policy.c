/* Fields are "key: value" lines that end with LF or CR LF (section 3.2); of a key that may stand once, the first counts. */
#include "common/proto/sts_policy.h"

#include "common/base/num.h"
#include "common/proto/dns_name.h"

static const char *const modes[] = {
	[STS_POLICY_NONE] = "none", [STS_POLICY_TESTING] = "testing", [STS_POLICY_ENFORCE] = "enforce"};

/* Up to the separator, which is taken off. */
static struct slice next_part(struct slice *rest, char separator)
{
	ptrdiff_t end = slice_find(*rest, separator);
	struct slice part = slice_sub(*rest, 0, end < 0 ? rest->len : (size_t)end);

	*rest = slice_from(*rest, end < 0 ? rest->len : (size_t)end + 1);
	return slice_trim(part);
}

static bool is_id(struct slice id)
{
	for (size_t i = 0; i < id.len; i++) {
		char c = ascii_lower(id.p[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
			return false;
	}
	return id.len && id.len <= STS_POLICY_ID_MOST;
}

int sts_policy_parse_record(struct slice text, struct slice *id_out)
{
	struct slice rest = text, part = next_part(&rest, ';'), id = {NULL, 0};

	if (!slice_is_str(part, "v=STSv1"))
		return ERR_NOT_FOUND;
	while (rest.len) {
		part = next_part(&rest, ';');
		if (!slice_has_prefix(part, "id="))
			continue;
		if (id.p)
			return ERR_SYNTAX;
		id = slice_from(part, 3);
	}
	if (!is_id(id))
		return ERR_SYNTAX;
	*id_out = id;
	return 0;
}

int sts_policy_parse_mode(struct slice word, enum sts_policy_mode *mode_out)
{
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (slice_is_str(word, modes[i])) {
			*mode_out = (enum sts_policy_mode)i;
			return 0;
		}
	return ERR_SYNTAX;
}

const char *sts_policy_mode_word(enum sts_policy_mode mode)
{
	return modes[mode];
}

bool sts_policy_is_pattern(struct slice pattern)
{
	return dns_name_is_host(slice_has_prefix(pattern, "*.") ? slice_from(pattern, 2) : pattern);
}

struct fields {
	bool has_version, has_mode, has_age, is_wrong;
};

static void read_field(struct slice key, struct slice value, struct sts_policy *p, struct fields *f)
{
	uint64_t age;

	if (slice_is_str(key, "version") && !f->has_version) {
		f->has_version = true;
		f->is_wrong |= !slice_is_str(value, "STSv1");
	} else if (slice_is_str(key, "mode") && !f->has_mode) {
		f->has_mode = true;
		f->is_wrong |= sts_policy_parse_mode(value, &p->mode) != 0;
	} else if (slice_is_str(key, "max_age") && !f->has_age) {
		f->has_age = true;
		f->is_wrong |= value.len > 10 || num_parse_u64(value, &age) != 0;
		if (!f->is_wrong)
			p->max_age = age < STS_POLICY_AGE_MOST ? (uint32_t)age : STS_POLICY_AGE_MOST;
	} else if (slice_is_str(key, "mx")) {
		f->is_wrong |= !sts_policy_is_pattern(value);
		if (p->mx_count < STS_POLICY_MX_MOST)
			p->mx[p->mx_count] = value;
		p->mx_count++;
	}
}

int sts_policy_parse(struct slice text, struct sts_policy *policy_out)
{
	struct sts_policy p = {0};
	struct fields f = {0};

	if (text.len > STS_POLICY_SIZE_MOST)
		return ERR_TOO_BIG;
	while (text.len) {
		struct slice line = next_part(&text, '\n');
		ptrdiff_t colon = slice_find(line, ':');

		if (colon > 0)
			read_field(slice_trim(slice_sub(line, 0, (size_t)colon)),
				slice_trim(slice_from(line, (size_t)colon + 1)), &p, &f);
	}
	if (p.mx_count > STS_POLICY_MX_MOST)
		return ERR_TOO_BIG;
	if (f.is_wrong || !f.has_version || !f.has_mode || !f.has_age ||
		(!p.mx_count && p.mode != STS_POLICY_NONE))
		return ERR_SYNTAX;
	*policy_out = p;
	return 0;
}

bool sts_policy_fits(struct slice pattern, struct slice host)
{
	ptrdiff_t dot;

	pattern = dns_name_trim(pattern);
	host = dns_name_trim(host);
	if (!slice_has_prefix(pattern, "*."))
		return slice_is_equal_nocase(pattern, host);
	dot = slice_find(host, '.');
	return dot > 0 && slice_is_equal_nocase(slice_from(pattern, 1), slice_from(host, (size_t)dot));
}

bool sts_policy_has_host(const struct sts_policy *policy, struct slice host)
{
	for (size_t i = 0; i < policy->mx_count; i++)
		if (sts_policy_fits(policy->mx[i], host))
			return true;
	return false;
}
