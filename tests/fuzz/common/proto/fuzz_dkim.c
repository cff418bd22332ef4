/*
 * What a header field or a TXT record may hold: tag lists, signatures, key records. Views stay inside, decoded octets within
 * their limits, and names that go into DNS questions are names.
 */
#include "common/proto/dkim_key.h"
#include "common/proto/dkim_signature.h"
#include "common/proto/dkim_tags.h"

static void check_inside(struct slice part, struct slice whole)
{
	require(part.len == 0 || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void check_name(struct slice name)
{
	require(name.len >= 1 && name.len <= 253);
	for (size_t i = 0; i < name.len; i++) {
		char c = name.p[i];

		require((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.');
	}
}

static void try_signature(struct slice in, enum dkim_field field)
{
	struct dkim_signature sig;
	const char *why = NULL;
	struct arena a;

	arena_init(&a, 256 * 1024);
	if (dkim_signature_parse(&a, in, field, &sig, &why) == 0) {
		check_name(sig.domain);
		check_name(sig.selector);
		check_name(sig.identity_domain);
		check_inside(sig.fields, in);
		require(sig.b.len && sig.b.len <= DKIM_B_MOST);
		require(dkim_signature_is_under(sig.identity_domain, sig.domain));
		require(field == DKIM_FIELD_SIGNATURE || (sig.instance >= 1 && sig.instance <= 50));
		(void)dkim_signature_is_out_of_time(&sig, 1800000000);
	} else {
		require(why);
	}
	arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct dkim_tags tags;
	struct dkim_key key;
	struct arena a;

	if (dkim_tags_parse(in, &tags) == 0)
		for (size_t i = 0; i < tags.count; i++) {
			check_inside(tags.list[i].name, in);
			check_inside(tags.list[i].value, in);
		}
	arena_init(&a, 64 * 1024);
	if (dkim_key_parse(&a, in, &key) == 0)
		require(key.octets.len <= DKIM_KEY_MOST);
	arena_deinit(&a);
	try_signature(in, DKIM_FIELD_SIGNATURE);
	try_signature(in, DKIM_FIELD_AMS);
	try_signature(in, DKIM_FIELD_SEAL);
	return 0;
}
