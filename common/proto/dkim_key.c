/*
 * A record counts as a key if it has p= and, when it has v=, that is DKIM1 and comes first (RFC 6376 section 3.6.1).
 */
#include "common/proto/dkim_key.h"

#include "common/base/base64.h"
#include "common/proto/dkim_tags.h"

static bool has_word(struct slice list, const char *word)
{
	struct slice one;

	while (dkim_tags_next(&list, ':', &one))
		if (slice_is_str_nocase(one, word))
			return true;
	return false;
}

static bool is_key_record(const struct dkim_tags *tags)
{
	struct slice v = dkim_tags_get(tags, "v");

	if (v.p && (!slice_is_str(v, "DKIM1") || !slice_is_str(tags->list[0].name, "v")))
		return false;
	return dkim_tags_get(tags, "p").p != NULL;
}

/* k=, s= and h=: is the key of a kind that is used here? */
static int read_kind(const struct dkim_tags *tags, struct dkim_key *key)
{
	struct slice k = dkim_tags_get(tags, "k"), s = dkim_tags_get(tags, "s"), h = dkim_tags_get(tags, "h");

	if (!k.p || slice_is_str_nocase(k, "rsa"))
		key->algorithm = DKIM_RSA_SHA256;
	else if (slice_is_str_nocase(k, "ed25519"))
		key->algorithm = DKIM_ED25519_SHA256;
	else
		return ERR_UNSUPPORTED;
	if (s.p && !has_word(s, "email") && !has_word(s, "*"))
		return ERR_UNSUPPORTED;
	return h.p && !has_word(h, "sha256") ? ERR_UNSUPPORTED : 0;
}

int dkim_key_parse(struct arena *a, struct slice record, struct dkim_key *key_out)
{
	struct dkim_key key = {0};
	struct dkim_tags tags;
	struct slice p, t;
	int err;

	if (record.len > DKIM_KEY_RECORD_MOST)
		return ERR_TOO_BIG;
	if (dkim_tags_parse(record, &tags) != 0)
		return slice_has_prefix(slice_trim(record), "v=DKIM1") ? ERR_SYNTAX : ERR_NOT_FOUND;
	if (!is_key_record(&tags))
		return ERR_NOT_FOUND;
	err = read_kind(&tags, &key);
	p = dkim_tags_get(&tags, "p");
	t = dkim_tags_get(&tags, "t");
	if (!p.len)
		return ERR_DENIED;
	if (!err)
		err = dkim_tags_base64(a, p, DKIM_KEY_MOST, &key.octets);
	if (err)
		return err;
	key.is_testing = has_word(t, "y");
	key.is_strict = has_word(t, "s");
	*key_out = key;
	return 0;
}

const char *dkim_key_refuses(const struct dkim_key *key, const struct dkim_signature *sig)
{
	if (key->algorithm != sig->algorithm)
		return "key is of another algorithm";
	if (key->is_strict && !slice_is_equal(sig->identity_domain, sig->domain))
		return "key is not for subdomains";
	return NULL;
}

void dkim_key_name(struct slice selector, struct slice domain, struct buf *out)
{
	buf_printf(out, "%.*s._domainkey.%.*s", SLICE_ARG(selector), SLICE_ARG(domain));
}

void dkim_key_write(enum dkim_algorithm algorithm, struct slice octets, struct buf *out)
{
	buf_printf(out, "v=DKIM1; k=%s; p=", algorithm == DKIM_RSA_SHA256 ? "rsa" : "ed25519");
	base64_encode(out, octets);
}
