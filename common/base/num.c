/* Digits, then for sizes and durations a unit from a table. */
#include "common/base/num.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{"", 1},
	{"b", 1},
	{"k", 1ull << 10},
	{"kb", 1ull << 10},
	{"kib", 1ull << 10},
	{"m", 1ull << 20},
	{"mb", 1ull << 20},
	{"mib", 1ull << 20},
	{"g", 1ull << 30},
	{"gb", 1ull << 30},
	{"gib", 1ull << 30},
	{"t", 1ull << 40},
	{"tb", 1ull << 40},
	{"tib", 1ull << 40},
};

static const struct unit time_units[] = {
	{"", 1000},
	{"ms", 1},
	{"s", 1000},
	{"m", 60000},
	{"min", 60000},
	{"h", 3600000},
	{"d", 86400000},
	{"w", 604800000},
};

/* Reads leading digits; *digits_out counts them. */
static int leading_u64(struct slice s, uint64_t *n_out, size_t *digits_out)
{
	uint64_t n = 0;
	size_t i = 0;

	for (; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		if (!num_mul_u64(n, 10, &n) || !num_add_u64(n, (uint64_t)(s.p[i] - '0'), &n))
			return ERR_TOO_BIG;
	}
	if (i == 0)
		return ERR_SYNTAX;
	*n_out = n;
	*digits_out = i;
	return 0;
}

int num_parse_u64(struct slice s, uint64_t *n_out)
{
	uint64_t n;
	size_t digits;
	int err = leading_u64(s, &n, &digits);

	if (err < 0)
		return err;
	if (digits != s.len)
		return ERR_SYNTAX;
	*n_out = n;
	return 0;
}

int num_parse_u32(struct slice s, uint32_t *n_out)
{
	uint64_t n;
	int err = num_parse_u64(s, &n);

	if (err < 0)
		return err;
	if (n > UINT32_MAX)
		return ERR_TOO_BIG;
	*n_out = (uint32_t)n;
	return 0;
}

static int parse_with_unit(struct slice s, const struct unit *units, size_t count, uint64_t *n_out)
{
	uint64_t n;
	size_t digits;
	int err = leading_u64(s, &n, &digits);

	if (err < 0)
		return err;
	for (size_t i = 0; i < count; i++) {
		if (!slice_is_str_nocase(slice_from(s, digits), units[i].name))
			continue;
		return num_mul_u64(n, units[i].factor, n_out) ? 0 : ERR_TOO_BIG;
	}
	return ERR_SYNTAX;
}

int num_parse_size(struct slice s, uint64_t *bytes_out)
{
	return parse_with_unit(s, size_units, ARRAY_LEN(size_units), bytes_out);
}

int num_parse_duration(struct slice s, uint64_t *ms_out)
{
	return parse_with_unit(s, time_units, ARRAY_LEN(time_units), ms_out);
}
