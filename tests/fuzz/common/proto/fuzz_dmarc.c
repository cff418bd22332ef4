/*
 * A DMARC record (whole input), and a header block with a walk for its author's domain whose every answer is the input: the
 * organisational domain is always the end of the domain, and no more than eight names are asked.
 */
#include "common/proto/dmarc.h"

static void try_walk(struct slice domain, struct slice record)
{
	struct dmarc_walk walk;
	const struct dmarc_step *found;
	struct slice organisation;
	bool is_inherited;

	dmarc_walk_init(domain, &walk);
	require(walk.count >= 1 && walk.count <= DMARC_WALK_MOST);
	for (size_t i = 0; i < walk.count; i += 2) {
		unsigned count = 0;

		dmarc_walk_take(&walk, i, record, &count);
	}
	organisation = dmarc_walk_organisation(&walk);
	require(organisation.len && organisation.p + organisation.len == domain.p + domain.len);
	found = dmarc_walk_policy(&walk);
	if (found)
		(void)dmarc_walk_wants(&walk, found, record.len & 1, &is_inherited);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), domain;
	struct dmarc_record record;
	struct dkim_fields fields;
	struct arena a;

	if (dmarc_parse(in, &record) == 0)
		require(record.policy <= DMARC_POLICY_REJECT && record.absent <= DMARC_POLICY_REJECT);
	try_walk(SLICE_LIT("a.b.c.d.e.f.g.h.i.example.com"), in);
	try_walk(SLICE_LIT("example.com"), in);
	arena_init(&a, 4 << 20);
	if (dkim_fields_index(&a, in, &fields) == 0 &&
		dmarc_author_domain(&a, &fields, &domain) == DMARC_AUTHOR_ONE)
		try_walk(domain, SLICE_LIT("v=DMARC1;p=reject"));
	arena_deinit(&a);
	return 0;
}
