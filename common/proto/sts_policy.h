/*
 * MTA-STS (RFC 8461): the TXT record that says that there is a policy, the policy, and which hosts it means. Views into the input. Both
 * come from strangers. Pure; any thread.
 */
#pragma once

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

#define STS_POLICY_SIZE_MOST (64 * 1024) /* octets of a policy's text */
#define STS_POLICY_MX_MOST 100           /* patterns; more is no policy */
#define STS_POLICY_ID_MOST 32
#define STS_POLICY_AGE_MOST 31557600 /* seconds; section 3.2 */

enum sts_policy_mode {
	STS_POLICY_NONE,
	STS_POLICY_TESTING,
	STS_POLICY_ENFORCE
};

struct sts_policy {
	enum sts_policy_mode mode;
	uint32_t max_age; /* seconds, cut to STS_POLICY_AGE_MOST */
	size_t mx_count;
	struct slice mx[STS_POLICY_MX_MOST]; /* names of hosts; "*." may stand for one label in front */
};

/* "v=STSv1; id=2026;". ERR_NOT_FOUND: it is about something else; ERR_SYNTAX. */
MUST_CHECK int sts_policy_parse_record(struct slice text, struct slice *id_out);
/* The whole text. ERR_SYNTAX: no version, mode or age, or no host where there must be one; ERR_TOO_BIG. What is not known is passed over. */
MUST_CHECK int sts_policy_parse(struct slice text, struct sts_policy *policy_out);
/* "none", "testing", "enforce"; ERR_SYNTAX. */
MUST_CHECK int sts_policy_parse_mode(struct slice word, enum sts_policy_mode *mode_out);
const char *sts_policy_mode_word(enum sts_policy_mode mode);
/* A pattern as above. */
bool sts_policy_is_pattern(struct slice pattern);
/* Section 4.1. */
bool sts_policy_fits(struct slice pattern, struct slice host);
bool sts_policy_has_host(const struct sts_policy *policy, struct slice host);
