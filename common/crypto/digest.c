/*
 * EVP underneath. An EVP_MD is fetched once a kind and kept for the life of the program: OpenSSL 3 looks
 * implicitly fetched ones up anew at each use, which costs more than hashing a short text.
 */
#include "common/crypto/digest.h"

#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/base/attr.h"
#include "common/base/mem.h"
#include "common/base/secret.h"

static const struct {
	const char *name;
	size_t len;
} kinds[] = {
	[DIGEST_SHA1] = {"SHA1", DIGEST_SHA1_LEN},
	[DIGEST_SHA256] = {"SHA256", DIGEST_SHA256_LEN},
	[DIGEST_SHA512] = {"SHA512", DIGEST_SHA512_LEN},
};
static EVP_MD *fetched[ARRAY_LEN(kinds)];
static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;

struct digest {
	EVP_MD_CTX *ctx;
	const EVP_MD *md;
};

static void fetch_all(void)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		fetched[i] = EVP_MD_fetch(NULL, kinds[i].name, NULL);
		require(fetched[i]);
	}
}

static const EVP_MD *md_of(enum digest_kind kind)
{
	pthread_once(&fetch_once, fetch_all);
	return fetched[kind];
}

size_t digest_len(enum digest_kind kind)
{
	return kinds[kind].len;
}

void digest_once(enum digest_kind kind, struct slice bytes, uint8_t *out)
{
	int ok = EVP_Digest(bytes.p ? bytes.p : "", bytes.len, out, NULL, md_of(kind), NULL);

	require(ok == 1);
}

struct digest *digest_new(enum digest_kind kind)
{
	struct digest *d = xcalloc(1, sizeof(*d));
	int ok;

	d->md = md_of(kind);
	d->ctx = EVP_MD_CTX_new();
	require(d->ctx);
	ok = EVP_DigestInit_ex2(d->ctx, d->md, NULL);
	require(ok == 1);
	return d;
}

void digest_free(struct digest **d)
{
	if (!*d)
		return;
	EVP_MD_CTX_free((*d)->ctx);
	free(*d);
	*d = NULL;
}

void digest_add(struct digest *d, struct slice bytes)
{
	int ok;

	if (bytes.len == 0)
		return;
	ok = EVP_DigestUpdate(d->ctx, bytes.p, bytes.len);
	require(ok == 1);
}

void digest_finish(struct digest *d, uint8_t *out)
{
	int ok = EVP_DigestFinal_ex(d->ctx, out, NULL);

	require(ok == 1);
	ok = EVP_DigestInit_ex2(d->ctx, d->md, NULL);
	require(ok == 1);
}

#define BLOCK_MOST 128 /* of SHA-512 */

/* One half of RFC 2104's H(K ^ pad, text). */
static void hmac_half(
	EVP_MD_CTX *ctx, const EVP_MD *md, const uint8_t *key, uint8_t pad, struct slice text, uint8_t *out)
{
	size_t block = (size_t)EVP_MD_get_block_size(md);
	uint8_t padded[BLOCK_MOST];
	int ok = 1;

	for (size_t i = 0; i < block; i++)
		padded[i] = key[i] ^ pad;
	ok &= EVP_DigestInit_ex2(ctx, md, NULL);
	ok &= EVP_DigestUpdate(ctx, padded, block);
	ok &= EVP_DigestUpdate(ctx, text.p ? text.p : "", text.len);
	ok &= EVP_DigestFinal_ex(ctx, out, NULL);
	secret_wipe(padded, sizeof(padded));
	require(ok == 1);
}

/* By hand: OpenSSL 3's own takes longer to look itself up than to hash a short text, and caches are asked by it. */
void digest_hmac(enum digest_kind kind, struct slice key, struct slice bytes, uint8_t *out)
{
	const EVP_MD *md = md_of(kind);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t block[BLOCK_MOST] = {0}, inner[DIGEST_MAX];

	require(ctx);
	if (key.len > (size_t)EVP_MD_get_block_size(md))
		digest_once(kind, key, block);
	else if (key.len)
		memcpy(block, key.p, key.len);
	hmac_half(ctx, md, block, 0x36, bytes, inner);
	hmac_half(ctx, md, block, 0x5c, slice_of(inner, kinds[kind].len), out);
	EVP_MD_CTX_free(ctx);
	secret_wipe(block, sizeof(block));
	secret_wipe(inner, sizeof(inner));
}

void digest_pbkdf2(enum digest_kind kind, struct slice password, struct slice salt, unsigned iterations,
	uint8_t *out, size_t out_len)
{
	int ok;

	require(password.len <= INT_MAX && salt.len <= INT_MAX && iterations <= INT_MAX &&
		out_len <= INT_MAX);
	ok = PKCS5_PBKDF2_HMAC(password.p ? password.p : "", (int)password.len,
		(const unsigned char *)(salt.p ? salt.p : ""), (int)salt.len, (int)iterations, md_of(kind),
		(int)out_len, out);
	require(ok == 1);
}
