#include "backend/delivery/srs.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/crypto/digest.h"
#include "common/proto/smtp_parse.h"

#define HASH_LEN 8 /* characters of 5 bits */
#define DAYS_LEN 2
#define DAYS_MODULO 1024
#define PREFIX_LEN 4 /* SRS0 */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

struct key {
	char *p;
	size_t len;
};

struct srs {
	char *domain;
	unsigned lifetime;
	struct key keys[SRS_KEYS_MOST];
	size_t count;
};

struct srs *srs_new(struct slice domain, const struct slice *keys, size_t count, unsigned lifetime_days)
{
	struct srs *s = xcalloc(1, sizeof(*s));

	require(count > 0 && count <= SRS_KEYS_MOST);
	s->domain = slice_copy_str(domain);
	for (char *p = s->domain; *p; p++)
		*p = ascii_lower(*p);
	s->lifetime = lifetime_days;
	for (size_t i = 0; i < count; i++)
		s->keys[s->count++] = (struct key){xmemdup0(keys[i].p, keys[i].len), keys[i].len};
	return s;
}

void srs_free(struct srs **srs)
{
	struct srs *s = *srs;

	*srs = NULL;
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++) {
		explicit_bzero(s->keys[i].p, s->keys[i].len);
		free(s->keys[i].p);
	}
	free(s->domain);
	free(s);
}

/* Of what follows it, in lower case: servers on the way may change that. */
static void hash(const struct key *key, struct slice rest, char out[HASH_LEN])
{
	uint8_t mac[DIGEST_MAX];
	uint64_t bits = 0;
	struct buf lower = {0};

	for (size_t i = 0; i < rest.len; i++)
		buf_add_char(&lower, ascii_lower(rest.p[i]));
	digest_hmac(DIGEST_SHA256, slice_of(key->p, key->len), buf_view(&lower), mac);
	buf_deinit(&lower);
	for (int i = 0; i < 5; i++)
		bits = bits << 8 | mac[i];
	for (int i = 0; i < HASH_LEN; i++)
		out[i] = alphabet[bits >> (5 * (HASH_LEN - 1 - i)) & 31];
}

static unsigned day_of(int64_t now)
{
	return (unsigned)(now / 86400 % DAYS_MODULO);
}

static bool is_separator(char c)
{
	return c == '=' || c == '+' || c == '-';
}

/* "SRS0=" with any of the separators. */
static bool has_prefix(struct slice local, const char *word)
{
	return local.len > PREFIX_LEN && slice_has_prefix_nocase(local, word) &&
	       is_separator(local.p[PREFIX_LEN]);
}

static int finish(const struct srs *s, const char *word, const struct buf *rest, struct buf *out)
{
	char sum[HASH_LEN];

	if (PREFIX_LEN + 2 + HASH_LEN + buf_len(rest) > SMTP_LOCAL_MOST)
		return ERR_TOO_BIG;
	hash(&s->keys[0], buf_view(rest), sum);
	buf_printf(out, "%s=%.*s=%.*s@%s", word, HASH_LEN, sum, SLICE_ARG(buf_view(rest)), s->domain);
	return 0;
}

int srs_forward(const struct srs *s, struct slice local, struct slice domain, int64_t now, struct buf *out)
{
	struct buf rest = {0};
	unsigned day = day_of(now);
	ptrdiff_t at = -1;
	int err;

	if (slice_is_str_nocase(domain, s->domain))
		return ERR_DENIED;
	/* Of one that was rewritten twice the first server is named, and nobody else: it does not grow. */
	if (has_prefix(local, "SRS1"))
		at = slice_find(slice_from(local, PREFIX_LEN + 1), '=');
	if (at >= 0) {
		buf_add_slice(&rest, slice_from(local, PREFIX_LEN + 1 + (size_t)at + 1));
		err = finish(s, "SRS1", &rest, out);
	} else if (has_prefix(local, "SRS0")) {
		buf_printf(&rest, "%.*s=", SLICE_ARG(domain));
		buf_add_slice(&rest, slice_from(local, PREFIX_LEN));
		err = finish(s, "SRS1", &rest, out);
	} else {
		buf_printf(&rest, "%c%c=%.*s=%.*s", alphabet[day >> 5], alphabet[day & 31], SLICE_ARG(domain),
			SLICE_ARG(local));
		err = finish(s, "SRS0", &rest, out);
	}
	buf_deinit(&rest);
	return err;
}

static bool is_ours(const struct srs *s, struct slice sum, struct slice rest)
{
	bool is = false;

	for (size_t i = 0; i < s->count; i++) {
		char want[HASH_LEN], got[HASH_LEN];

		hash(&s->keys[i], rest, want);
		for (size_t k = 0; k < HASH_LEN; k++)
			got[k] = ascii_lower(sum.p[k]);
		is |= secret_is_equal(slice_of(want, HASH_LEN), slice_of(got, HASH_LEN));
	}
	return is;
}

static int value_of(char c)
{
	const char *at = c ? strchr(alphabet, ascii_lower(c)) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

/* "days=domain=local" */
static int reverse_first(const struct srs *s, struct slice rest, int64_t now, struct buf *out)
{
	int high, low;
	unsigned age;
	ptrdiff_t at;

	if (rest.len < DAYS_LEN + 1 || rest.p[DAYS_LEN] != '=')
		return ERR_DENIED;
	high = value_of(rest.p[0]);
	low = value_of(rest.p[1]);
	rest = slice_from(rest, DAYS_LEN + 1);
	at = slice_find(rest, '=');
	if (high < 0 || low < 0 || at <= 0 || (size_t)at + 1 == rest.len)
		return ERR_DENIED;
	age = (day_of(now) + DAYS_MODULO - (unsigned)(high << 5 | low)) % DAYS_MODULO;
	/* One of tomorrow is another host's whose clock goes before ours. */
	if (age > s->lifetime && age != DAYS_MODULO - 1)
		return ERR_TIMEOUT;
	buf_add_slice(out, slice_from(rest, (size_t)at + 1));
	buf_add_char(out, '@');
	buf_add_slice(out, slice_sub(rest, 0, (size_t)at));
	return 0;
}

/* "domain=rest" */
static int reverse_second(struct slice rest, struct buf *out)
{
	ptrdiff_t at = slice_find(rest, '=');

	if (at <= 0 || (size_t)at + 1 >= rest.len || !is_separator(rest.p[at + 1]))
		return ERR_DENIED;
	buf_add_str(out, "SRS0");
	buf_add_slice(out, slice_from(rest, (size_t)at + 1));
	buf_add_char(out, '@');
	buf_add_slice(out, slice_sub(rest, 0, (size_t)at));
	return 0;
}

int srs_reverse(const struct srs *s, struct slice local, struct slice domain, int64_t now, struct buf *out)
{
	bool is_first = has_prefix(local, "SRS0");
	struct slice sum, rest;

	if (!slice_is_str_nocase(domain, s->domain) || (!is_first && !has_prefix(local, "SRS1")))
		return ERR_NOT_FOUND;
	sum = slice_sub(local, PREFIX_LEN + 1, HASH_LEN);
	rest = slice_from(local, PREFIX_LEN + 1 + HASH_LEN);
	if (sum.len != HASH_LEN || !rest.len || rest.p[0] != '=')
		return ERR_DENIED;
	rest = slice_from(rest, 1);
	if (!is_ours(s, sum, rest))
		return ERR_DENIED;
	return is_first ? reverse_first(s, rest, now, out) : reverse_second(rest, out);
}
