/* MTA-STS records and policies: views stay inside, patterns are names of hosts, what a policy names it also fits. */
#include "common/proto/sts_policy.h"

static void check_inside(struct slice part, const char *p, size_t size)
{
	require(part.p >= p && part.p + part.len <= p + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	struct slice in = slice_of(p, size), id;
	struct sts_policy policy;

	if (sts_policy_parse_record(in, &id) == 0) {
		check_inside(id, p, size);
		require(id.len && id.len <= STS_POLICY_ID_MOST && !slice_has_control(id));
	}
	if (sts_policy_parse(in, &policy) != 0)
		return 0;
	require(policy.mx_count <= STS_POLICY_MX_MOST && policy.max_age <= STS_POLICY_AGE_MOST);
	for (size_t i = 0; i < policy.mx_count; i++) {
		check_inside(policy.mx[i], p, size);
		require(sts_policy_is_pattern(policy.mx[i]) && !slice_has_control(policy.mx[i]));
		if (!slice_has_prefix(policy.mx[i], "*."))
			require(sts_policy_has_host(&policy, policy.mx[i]));
	}
	return 0;
}
