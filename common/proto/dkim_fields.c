/*
 * Names are compared by a hash first: h= may name hundreds, a header hold thousands, and that product must stay cheap.
 */
#include "common/proto/dkim_fields.h"

#include "common/proto/dkim_tags.h"

/* FNV-1a of the name in lower case; it only speeds up, so that collisions cost time and nothing else. */
static uint32_t hash_name(struct slice name)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ (unsigned char)ascii_lower(name.p[i])) * 16777619u;
	return h;
}

int dkim_fields_index(struct arena *a, struct slice header, struct dkim_fields *fields_out)
{
	struct dkim_fields f = {0};
	struct header_reader r;
	struct header_field field;
	size_t count = 0;

	if (header.len > DKIM_HEADER_MOST)
		return ERR_TOO_BIG;
	header_reader_init(&r, header);
	while (header_next(&r, &field))
		if (++count > DKIM_FIELDS_MOST)
			return ERR_TOO_BIG;
	f.list = arena_calloc(a, count + 1, sizeof(*f.list));
	f.hashes = arena_calloc(a, count + 1, sizeof(*f.hashes));
	f.taken = arena_calloc(a, count + 1, sizeof(*f.taken));
	if (!f.list || !f.hashes || !f.taken)
		return ERR_TOO_BIG;
	header_reader_init(&r, header);
	while (header_next(&r, &f.list[f.count])) {
		f.hashes[f.count] = hash_name(f.list[f.count].name);
		f.count++;
	}
	*fields_out = f;
	return 0;
}

static bool is_named(const struct dkim_fields *f, size_t i, uint32_t hash, struct slice name)
{
	return f->hashes[i] == hash && f->list[i].name.len && slice_is_equal_nocase(f->list[i].name, name);
}

void dkim_fields_give(struct dkim_fields *fields, struct slice names, bool is_relaxed,
	const struct header_field *skip, dkim_sink_fn *sink, void *arg)
{
	struct slice name;

	fields->round++;
	while (dkim_tags_next(&names, ':', &name)) {
		uint32_t hash = hash_name(name);

		for (size_t i = fields->count; i-- > 0;) {
			if (!is_named(fields, i, hash, name) || fields->taken[i] == fields->round ||
				(skip && skip->raw.p == fields->list[i].raw.p))
				continue;
			fields->taken[i] = fields->round;
			dkim_canon_field(fields->list[i].raw, is_relaxed, false, sink, arg);
			break;
		}
	}
}

size_t dkim_fields_count(const struct dkim_fields *fields, const char *name)
{
	struct slice s = slice_str(name);
	uint32_t hash = hash_name(s);
	size_t count = 0;

	for (size_t i = 0; i < fields->count; i++)
		count += is_named(fields, i, hash, s);
	return count;
}

const struct header_field *dkim_fields_find(const struct dkim_fields *fields, const char *name)
{
	struct slice s = slice_str(name);
	uint32_t hash = hash_name(s);

	for (size_t i = 0; i < fields->count; i++)
		if (is_named(fields, i, hash, s))
			return &fields->list[i];
	return NULL;
}

/* What is signed; over: once more than it is there. RFC 6376 section 5.4.1, and what mail readers show or obey. */
static const struct {
	const char *name;
	bool over;
} signed_names[] = {
	{"From", true}, {"Sender", false}, {"Reply-To", true}, {"Subject", true}, {"Date", true},
	{"Message-ID", true}, {"To", true}, {"Cc", true}, {"In-Reply-To", false}, {"References", false},
	{"MIME-Version", true}, {"Content-Type", true}, {"Content-Transfer-Encoding", true},
	{"Content-Disposition", false}, {"Content-ID", false}, {"Content-Description", false},
	{"Resent-Date", false}, {"Resent-From", false}, {"Resent-To", false}, {"Resent-Cc", false},
	{"List-Id", false}, {"List-Help", false}, {"List-Unsubscribe", false},
	{"List-Unsubscribe-Post", false}, {"List-Subscribe", false}, {"List-Post", false},
	{"List-Owner", false}, {"List-Archive", false}, {"Autocrypt", false},
	{"DKIM-Signature", false}, /* by ARC alone: RFC 8617 section 4.1.2 */
};
/* Of one name; more of them stay unsigned rather than make h= endless. */
#define SAME_MOST 20

void dkim_fields_write(const struct dkim_fields *fields, bool is_arc, struct buf *out)
{
	size_t begin = buf_len(out);

	for (size_t i = 0; i < ARRAY_LEN(signed_names); i++) {
		size_t times = dkim_fields_count(fields, signed_names[i].name);

		if (!is_arc && i == ARRAY_LEN(signed_names) - 1)
			break;
		if (times > SAME_MOST)
			times = SAME_MOST;
		for (times += signed_names[i].over; times > 0; times--)
			buf_printf(out, "%s%s", buf_len(out) > begin ? ":" : "", signed_names[i].name);
	}
}
