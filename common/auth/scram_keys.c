/* SaltedPassword -> ClientKey -> StoredKey, and SaltedPassword -> ServerKey: RFC 5802 section 3. */
#include "common/auth/scram_keys.h"

#include <string.h>

#include "common/base/base64.h"
#include "common/base/num.h"
#include "common/base/secret.h"

/* Base64 of `least` to `most` octets. */
static int part(struct slice text, uint8_t *out, size_t least, size_t most, size_t *len_out)
{
	struct buf raw = {0};
	int error = text.len > 4 * DIGEST_MAX ? ERR_SYNTAX : base64_decode(&raw, text);

	if (!error && (buf_len(&raw) < least || buf_len(&raw) > most))
		error = ERR_SYNTAX;
	if (!error) {
		memcpy(out, buf_view(&raw).p, buf_len(&raw));
		*len_out = buf_len(&raw);
	}
	if (raw.data)
		secret_wipe(raw.data, raw.cap);
	buf_deinit(&raw);
	return error;
}

int scram_keys_parse(enum digest_kind kind, struct slice body, struct scram_keys *keys_out)
{
	const char *marks = slice_find(body, ',') >= 0 ? ",,," : ":$:";
	size_t len = digest_len(kind), got;
	struct scram_keys k = {.kind = kind};
	struct slice parts[4];
	int error = 0;

	for (size_t i = 0; i < 3; i++) {
		ptrdiff_t at = slice_find(body, marks[i]);

		if (at < 0)
			return ERR_SYNTAX;
		parts[i] = slice_sub(body, 0, (size_t)at);
		body = slice_from(body, (size_t)at + 1);
	}
	parts[3] = body;
	if (num_parse_u32(parts[0], &k.rounds) || !k.rounds)
		return ERR_SYNTAX;
	if (k.rounds > SCRAM_KEYS_ROUNDS_MOST)
		return ERR_TOO_BIG;
	error = part(parts[1], k.salt, 1, sizeof(k.salt), &k.salt_len);
	if (!error)
		error = part(parts[2], k.stored, len, len, &got);
	if (!error)
		error = part(parts[3], k.server, len, len, &got);
	if (!error)
		*keys_out = k;
	secret_wipe(&k, sizeof(k));
	return error;
}

void scram_keys_write(const struct scram_keys *k, struct buf *out)
{
	size_t len = digest_len(k->kind);

	buf_printf(out, "%u:", k->rounds);
	base64_encode(out, slice_of(k->salt, k->salt_len));
	buf_add_char(out, '$');
	base64_encode(out, slice_of(k->stored, len));
	buf_add_char(out, ':');
	base64_encode(out, slice_of(k->server, len));
}

void scram_keys_derive(struct slice password, struct scram_keys *k)
{
	size_t len = digest_len(k->kind);
	uint8_t salted[DIGEST_MAX], client[DIGEST_MAX];

	digest_pbkdf2(k->kind, password, slice_of(k->salt, k->salt_len), k->rounds, salted, len);
	digest_hmac(k->kind, slice_of(salted, len), SLICE_LIT("Client Key"), client);
	digest_once(k->kind, slice_of(client, len), k->stored);
	digest_hmac(k->kind, slice_of(salted, len), SLICE_LIT("Server Key"), k->server);
	secret_wipe(salted, sizeof(salted));
	secret_wipe(client, sizeof(client));
}
