/*
 * Fields are sorted into their sets by instance in one pass over the header.
 */
#include "common/proto/arc.h"

#include "common/proto/dkim_tags.h"

#define INSTANCE_TEXT_MOST 64

/* "i=N" before the first semicolon of ARC-Authentication-Results; 0: none. */
static unsigned results_instance(struct slice value)
{
	struct slice rest = value, first, name;
	uint64_t n;

	if (!dkim_tags_next(&rest, ';', &first) || !rest.p || first.len > INSTANCE_TEXT_MOST ||
		!dkim_tags_next(&first, '=', &name) || !first.p || !slice_is_str(name, "i") ||
		dkim_tags_number(slice_trim(first), &n) != 0)
		return 0;
	return n <= ARC_SETS_MOST ? (unsigned)n : 0;
}

/* Puts the field into its set; NULL, or what is wrong. */
static const char *sort_in(struct arena *a, const struct header_field *field, struct arc_chain *chain)
{
	struct dkim_signature sig = {0};
	const struct header_field **place;
	const char *why = NULL;
	unsigned instance;
	struct arc_set *set;

	if (slice_is_str_nocase(field->name, "ARC-Authentication-Results")) {
		instance = results_instance(field->value);
		if (!instance)
			return "ARC-Authentication-Results without instance";
		set = &chain->sets[instance - 1];
		place = &set->results;
	} else if (slice_is_str_nocase(field->name, "ARC-Message-Signature")) {
		if (dkim_signature_parse(a, field->value, DKIM_FIELD_AMS, &sig, &why) != 0)
			return why;
		instance = sig.instance;
		set = &chain->sets[instance - 1];
		place = &set->message;
		set->message_signature = sig;
	} else if (slice_is_str_nocase(field->name, "ARC-Seal")) {
		if (dkim_signature_parse(a, field->value, DKIM_FIELD_SEAL, &sig, &why) != 0)
			return why;
		instance = sig.instance;
		set = &chain->sets[instance - 1];
		place = &set->seal;
		set->seal_signature = sig;
	} else {
		return NULL;
	}
	if (*place)
		return "an ARC field twice";
	*place = field;
	if (instance > chain->count)
		chain->count = instance;
	return NULL;
}

static const char *check_sets(const struct arc_chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++) {
		const struct arc_set *set = &chain->sets[i];

		if (!set->results || !set->message || !set->seal)
			return "an ARC set is not whole";
		if (set->seal_signature.chain != (i ? DKIM_CHAIN_PASS : DKIM_CHAIN_NONE))
			return set->seal_signature.chain == DKIM_CHAIN_FAIL ? "the chain failed before"
									    : "cv= does not fit its place";
	}
	return NULL;
}

int arc_gather(
	struct arena *a, const struct dkim_fields *fields, struct arc_chain *chain_out, const char **why_out)
{
	const char *why = NULL, *first = NULL;

	memset(chain_out, 0, sizeof(*chain_out));
	for (size_t i = 0; i < fields->count; i++) {
		why = slice_has_prefix_nocase(fields->list[i].name, "ARC-")
			      ? sort_in(a, &fields->list[i], chain_out)
			      : NULL;
		if (why && !first)
			first = why;
	}
	if (chain_out->count)
		chain_out->is_marked_failed =
			chain_out->sets[chain_out->count - 1].seal &&
			chain_out->sets[chain_out->count - 1].seal_signature.chain == DKIM_CHAIN_FAIL;
	if (!first)
		first = check_sets(chain_out);
	if (first && why_out)
		*why_out = first;
	return first ? ERR_SYNTAX : 0;
}

void arc_give_seal(
	const struct arc_chain *chain, unsigned first, unsigned instance, dkim_sink_fn *sink, void *arg)
{
	for (unsigned i = first - 1; i < instance; i++) {
		const struct arc_set *set = &chain->sets[i];

		dkim_canon_field(set->results->raw, true, false, sink, arg);
		dkim_canon_field(set->message->raw, true, false, sink, arg);
		if (i + 1 < instance)
			dkim_canon_field(set->seal->raw, true, false, sink, arg);
		else
			dkim_canon_signature(set->seal->raw, true, sink, arg);
	}
}
