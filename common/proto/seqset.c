/* Ranges counted first, then read into one array, so that a set costs eight bytes a range and no more. */
#include "common/proto/seqset.h"

#include <stdlib.h>

/* A number or "*" at *at. */
static int read_number(struct slice s, size_t *at, uint32_t *n_out)
{
	uint64_t n = 0;
	size_t i = *at;

	if (i < s.len && s.p[i] == '*') {
		*at = i + 1;
		*n_out = SEQSET_STAR;
		return 0;
	}
	for (; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		n = n * 10 + (uint64_t)(s.p[i] - '0');
		if (n > UINT32_MAX)
			return ERR_TOO_BIG;
	}
	if (i == *at || n == 0)
		return ERR_SYNTAX;
	*at = i;
	/* The highest number stands for "*" here, and no message ever has one of the last two. */
	*n_out = n == SEQSET_STAR ? SEQSET_STAR - 1 : (uint32_t)n;
	return 0;
}

static int read_range(struct slice s, size_t *at, struct seqset_range *range_out)
{
	struct seqset_range r;
	int err = read_number(s, at, &r.from);

	if (err < 0)
		return err;
	r.to = r.from;
	if (*at < s.len && s.p[*at] == ':') {
		++*at;
		err = read_number(s, at, &r.to);
		if (err < 0)
			return err;
	}
	*range_out = r;
	return 0;
}

int seqset_parse(struct slice text, struct arena *arena, struct seqset *set_out)
{
	struct seqset set = {.count = 1};
	size_t at = 0, n = 0;

	for (size_t i = 0; i < text.len; i++)
		set.count += text.p[i] == ',';
	set.ranges = arena_calloc(arena, set.count, sizeof(*set.ranges));
	if (!set.ranges)
		return ERR_TOO_BIG;
	for (;;) {
		int err = read_range(text, &at, &set.ranges[n]);

		if (err < 0)
			return err;
		n++;
		if (at == text.len)
			break;
		if (text.p[at++] != ',')
			return ERR_SYNTAX;
	}
	set.count = n;
	*set_out = set;
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct seqset_range *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

void seqset_resolve(struct seqset *set, uint32_t max)
{
	size_t kept = 0;

	if (max == 0)
		max = 1;
	for (size_t i = 0; i < set->count; i++) {
		struct seqset_range *r = &set->ranges[i];

		if (r->from == SEQSET_STAR)
			r->from = max;
		if (r->to == SEQSET_STAR)
			r->to = max;
		if (r->from > r->to)
			*r = (struct seqset_range){r->to, r->from};
	}
	if (set->count)
		qsort(set->ranges, set->count, sizeof(*set->ranges), compare_ranges);
	for (size_t i = 0; i < set->count; i++) {
		struct seqset_range *last = kept ? &set->ranges[kept - 1] : NULL;

		if (last && (uint64_t)set->ranges[i].from <= (uint64_t)last->to + 1) {
			if (set->ranges[i].to > last->to)
				last->to = set->ranges[i].to;
		} else {
			set->ranges[kept++] = set->ranges[i];
		}
	}
	set->count = kept;
}

bool seqset_has(const struct seqset *set, uint32_t n)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (n > set->ranges[middle].to)
			low = middle + 1;
		else if (n < set->ranges[middle].from)
			high = middle;
		else
			return true;
	}
	return false;
}

bool seqset_has_star(const struct seqset *set)
{
	for (size_t i = 0; i < set->count; i++) {
		if (set->ranges[i].from == SEQSET_STAR || set->ranges[i].to == SEQSET_STAR)
			return true;
	}
	return false;
}

uint64_t seqset_size(const struct seqset *set)
{
	uint64_t n = 0;

	for (size_t i = 0; i < set->count; i++)
		n += (uint64_t)set->ranges[i].to - set->ranges[i].from + 1;
	return n;
}
