#include "common/crypto/scram_client.h"

#include <string.h>

#include "common/base/base64.h"
#include "common/base/num.h"
#include "common/base/random.h"
#include "common/base/secret.h"

#define HEAD "n,,"         /* no channel binding, no other identity */
#define HEAD_BASE64 "biws" /* of the same */

void scram_client_begin(struct scram_client *c, struct slice user, const char *nonce, struct buf *out)
{
	*c = (struct scram_client){.rounds = 0};
	if (nonce)
		memcpy(c->nonce, nonce, strnlen(nonce, SCRAM_CLIENT_NONCE_LEN));
	else
		random_id(c->nonce, SCRAM_CLIENT_NONCE_LEN);
	buf_add_str(&c->bare, "n=");
	for (size_t i = 0; i < user.len; i++) {
		if (user.p[i] == ',')
			buf_add_str(&c->bare, "=2C");
		else if (user.p[i] == '=')
			buf_add_str(&c->bare, "=3D");
		else
			buf_add_char(&c->bare, user.p[i]);
	}
	buf_printf(&c->bare, ",r=%s", c->nonce);
	buf_add_str(out, HEAD);
	buf_add_slice(out, buf_view(&c->bare));
}

/* The next attribute, which must be this one. */
static bool take(struct slice *rest, char name, struct slice *value_out)
{
	ptrdiff_t comma = slice_find(*rest, ',');
	struct slice word = slice_sub(*rest, 0, comma < 0 ? rest->len : (size_t)comma);

	if (word.len < 2 || word.p[0] != name || word.p[1] != '=')
		return false;
	*value_out = slice_from(word, 2);
	*rest = slice_from(*rest, word.len + (comma >= 0));
	return true;
}

/* What stands behind the client's own nonce is the server's. */
static bool is_nonce(const struct scram_client *c, struct slice nonce)
{
	for (size_t i = 0; i < nonce.len; i++)
		if (nonce.p[i] < '!' || nonce.p[i] > '~')
			return false;
	return nonce.len > strlen(c->nonce) && slice_has_prefix(nonce, c->nonce);
}

int scram_client_challenge(struct scram_client *c, struct slice text)
{
	struct slice rest, salt, rounds;

	if (text.len > SCRAM_CLIENT_TEXT_MOST)
		return ERR_TOO_BIG;
	if (slice_has_prefix(text, "m="))
		return ERR_UNSUPPORTED;
	buf_clear(&c->server);
	buf_clear(&c->salt);
	buf_add_slice(&c->server, text);
	rest = buf_view(&c->server);
	if (!take(&rest, 'r', &c->whole_nonce) || !is_nonce(c, c->whole_nonce) || !take(&rest, 's', &salt) ||
		!salt.len || base64_decode(&c->salt, salt) || !take(&rest, 'i', &rounds) ||
		num_parse_u32(rounds, &c->rounds))
		return ERR_SYNTAX;
	if (c->rounds > SCRAM_CLIENT_ROUNDS_MOST)
		return ERR_TOO_BIG;
	return c->rounds < SCRAM_CLIENT_ROUNDS_LEAST ? ERR_SYNTAX : 0;
}

static void without_proof(const struct scram_client *c, struct buf *out)
{
	buf_add_str(out, "c=" HEAD_BASE64 ",r=");
	buf_add_slice(out, c->whole_nonce);
}

static struct slice key_view(const uint8_t *key)
{
	return slice_of((const char *)key, DIGEST_SHA256_LEN);
}

/* RFC 5802 section 3. */
void scram_client_prove(struct scram_client *c, struct slice password)
{
	uint8_t salted[DIGEST_SHA256_LEN], client[DIGEST_SHA256_LEN], stored[DIGEST_SHA256_LEN],
		server[DIGEST_SHA256_LEN];
	struct buf text = {0};

	buf_add_slice(&text, buf_view(&c->bare));
	buf_add_char(&text, ',');
	buf_add_slice(&text, buf_view(&c->server));
	buf_add_char(&text, ',');
	without_proof(c, &text);
	digest_pbkdf2(DIGEST_SHA256, password, buf_view(&c->salt), c->rounds, salted, sizeof(salted));
	digest_hmac(DIGEST_SHA256, key_view(salted), SLICE_LIT("Client Key"), client);
	digest_once(DIGEST_SHA256, key_view(client), stored);
	digest_hmac(DIGEST_SHA256, key_view(stored), buf_view(&text), c->proof);
	for (size_t i = 0; i < sizeof(c->proof); i++)
		c->proof[i] ^= client[i];
	digest_hmac(DIGEST_SHA256, key_view(salted), SLICE_LIT("Server Key"), server);
	digest_hmac(DIGEST_SHA256, key_view(server), buf_view(&text), c->signature);
	secret_wipe(salted, sizeof(salted));
	secret_wipe(client, sizeof(client));
	secret_wipe(stored, sizeof(stored));
	secret_wipe(server, sizeof(server));
	buf_deinit(&text);
}

void scram_client_final(const struct scram_client *c, struct buf *out)
{
	without_proof(c, out);
	buf_add_str(out, ",p=");
	base64_encode(out, key_view(c->proof));
}

bool scram_client_is_proven(const struct scram_client *c, struct slice text)
{
	struct buf raw = {0};
	struct slice value;
	bool yes = text.len <= SCRAM_CLIENT_TEXT_MOST && take(&text, 'v', &value) &&
		   base64_decode(&raw, value) == 0 && secret_is_equal(key_view(c->signature), buf_view(&raw));

	buf_deinit(&raw);
	return yes;
}

void scram_client_end(struct scram_client *c)
{
	buf_deinit(&c->bare);
	buf_deinit(&c->server);
	buf_deinit(&c->salt);
	secret_wipe(c, sizeof(*c));
}
