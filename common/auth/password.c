/*
 * A table of schemes; each row says how a stored text is checked for form and cost, and how a password is
 * held against it. Every row's `check` runs before its `fits`, so that no `fits` meets a text that the
 * checker would refuse: a cost or a length that somebody wrote into a file never gets to a hash function
 * unseen.
 */
#include "common/auth/password.h"

#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/base64.h"
#include "common/base/num.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/crypto/digest.h"

/* What a stored text may ask for. */
#define MEMORY_MOST_KIB (256u * 1024) /* argon2, yescrypt, scrypt */
#define ARGON2_PASSES_MOST 64u
#define ARGON2_LANES_MOST 16u
#define ARGON2_WORK_MOST (1024u * 1024) /* KiB x passes */
#define PBKDF2_ROUNDS_MOST 10000000u
#define CRYPT_ROUNDS_MOST 5000000u
#define BCRYPT_COST_MOST 15u
#define KEY_LEAST 16 /* octets of a derived key */
#define KEY_MOST 64
#define SALT_MOST 64

/* What we make: RFC 9106 leaves the choice; these are OWASP's figures for argon2id. */
#define MAKE_ARGON2_MEMORY_KIB 19456
#define MAKE_ARGON2_PASSES 2
#define MAKE_ARGON2_LANES 1
#define MAKE_PBKDF2_ROUNDS 600000
#define MAKE_SALT_LEN 16
#define MAKE_KEY_LEN 32

struct scheme {
	const char *name;
	/* body: what follows the prefix */
	int (*check)(const struct scheme *s, struct slice body, const char **reason_out);
	int (*fits)(const struct scheme *s, struct slice body, struct slice password);
	int (*make)(const struct scheme *s, struct slice password, struct buf *out); /* NULL: not made here */
	enum digest_kind digest;
	bool salted;
	bool cheap;
	const char *crypt; /* prefix for crypt's own choice of setting */
	argon2_type argon2;
};

static int refuse(const char **reason_out, int error, const char *words)
{
	*reason_out = words;
	return error;
}

/* ---- PLAIN ---- */

static int plain_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	(void)s;
	if (!password_is_acceptable(body))
		return refuse(reason_out, ERR_SYNTAX, "the password is empty or too long, or has a NUL");
	return 0;
}

static int plain_fits(const struct scheme *s, struct slice body, struct slice password)
{
	(void)s;
	return secret_is_equal(body, password) ? 0 : ERR_DENIED;
}

static int plain_make(const struct scheme *s, struct slice password, struct buf *out)
{
	(void)s;
	buf_add_slice(out, password);
	return 0;
}

/* ---- SHA, SSHA: base64 of digest and salt ---- */

/* raw holds the digest, then the salt. */
static int digest_decode(const struct scheme *s, struct slice body, struct buf *raw)
{
	size_t least = digest_len(s->digest) + (s->salted ? 1 : 0);
	size_t most = digest_len(s->digest) + (s->salted ? SALT_MOST : 0);

	if (body.len > PASSWORD_STORED_MOST || base64_decode(raw, body))
		return ERR_SYNTAX;
	return buf_len(raw) >= least && buf_len(raw) <= most ? 0 : ERR_SYNTAX;
}

static int digest_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	struct buf raw = {0};
	int error = digest_decode(s, body, &raw);

	buf_deinit(&raw);
	return error ? refuse(reason_out, error, "no base64 of a digest (and salt) of the right length") : 0;
}

static void digest_salted(const struct scheme *s, struct slice password, struct slice salt, uint8_t *out)
{
	char text[PASSWORD_MOST + SALT_MOST];

	require(password.len <= PASSWORD_MOST && salt.len <= SALT_MOST);
	memcpy(text, password.p, password.len);
	if (salt.len)
		memcpy(text + password.len, salt.p, salt.len);
	digest_once(s->digest, slice_of(text, password.len + salt.len), out);
	secret_wipe(text, sizeof(text));
}

static int digest_fits(const struct scheme *s, struct slice body, struct slice password)
{
	size_t len = digest_len(s->digest);
	uint8_t got[DIGEST_MAX];
	struct buf raw = {0};
	int error = digest_decode(s, body, &raw);

	if (!error) {
		digest_salted(s, password, slice_from(buf_view(&raw), len), got);
		error = secret_is_equal(slice_sub(buf_view(&raw), 0, len), slice_of(got, len)) ? 0
											       : ERR_DENIED;
		secret_wipe(got, sizeof(got));
	}
	buf_deinit(&raw);
	return error;
}

static int digest_make(const struct scheme *s, struct slice password, struct buf *out)
{
	uint8_t raw[DIGEST_MAX + MAKE_SALT_LEN];
	size_t len = digest_len(s->digest);
	size_t salt = s->salted ? MAKE_SALT_LEN : 0;

	random_bytes(raw + len, salt);
	digest_salted(s, password, slice_of(raw + len, salt), raw);
	base64_encode(out, slice_of(raw, len + salt));
	return 0;
}

/* ---- PBKDF2: ROUNDS$SALT$KEY, as OpenLDAP's pw-pbkdf2 and passlib's ldap_pbkdf2_* write it ---- */

struct pbkdf2 {
	uint32_t rounds;
	uint8_t salt[SALT_MOST], key[KEY_MOST];
	size_t salt_len, key_len;
};

/* "Adapted base64": '.' stands for '+', and there is no padding. Ordinary base64 is taken too. */
static int ab64_decode(struct slice text, uint8_t *out, size_t most, size_t *len_out)
{
	char padded[(KEY_MOST / 3 + 2) * 4];
	struct buf raw = {0};
	size_t n = 0;
	int error;

	while (text.len && text.p[text.len - 1] == '=')
		text.len--;
	if (text.len > sizeof(padded) - 4)
		return ERR_TOO_BIG;
	for (; n < text.len; n++)
		padded[n] = text.p[n] == '.' ? '+' : text.p[n];
	while (n % 4)
		padded[n++] = '=';
	error = base64_decode(&raw, slice_of(padded, n));
	if (!error && buf_len(&raw) > most)
		error = ERR_TOO_BIG;
	if (!error) {
		*len_out = buf_len(&raw);
		if (*len_out)
			memcpy(out, buf_view(&raw).p, *len_out);
	}
	buf_deinit(&raw);
	return error;
}

static void ab64_encode(struct buf *out, struct slice raw)
{
	struct buf text = {0};
	struct slice t;

	base64_encode(&text, raw);
	t = buf_view(&text);
	for (size_t i = 0; i < t.len && t.p[i] != '='; i++)
		buf_add_char(out, t.p[i] == '+' ? '.' : t.p[i]);
	buf_deinit(&text);
}

static int pbkdf2_decode(struct slice body, struct pbkdf2 *p)
{
	ptrdiff_t a = slice_find(body, '$');
	ptrdiff_t b = slice_find_last(body, '$');

	if (a < 0 || b <= a || num_parse_u32(slice_sub(body, 0, (size_t)a), &p->rounds) || p->rounds == 0)
		return ERR_SYNTAX;
	if (p->rounds > PBKDF2_ROUNDS_MOST)
		return ERR_TOO_BIG;
	if (ab64_decode(
		    slice_sub(body, (size_t)a + 1, (size_t)(b - a - 1)), p->salt, SALT_MOST, &p->salt_len) ||
		ab64_decode(slice_from(body, (size_t)b + 1), p->key, KEY_MOST, &p->key_len))
		return ERR_SYNTAX;
	return p->salt_len && p->key_len >= KEY_LEAST ? 0 : ERR_SYNTAX;
}

static int pbkdf2_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	struct pbkdf2 p;
	int error = pbkdf2_decode(body, &p);

	(void)s;
	if (error == ERR_TOO_BIG)
		return refuse(reason_out, error, "more rounds than 10,000,000");
	return error ? refuse(reason_out, error, "not of the form ROUNDS$SALT$KEY in base64") : 0;
}

static int pbkdf2_fits(const struct scheme *s, struct slice body, struct slice password)
{
	struct pbkdf2 p;
	uint8_t got[KEY_MOST];
	int error = pbkdf2_decode(body, &p);

	if (error)
		return error;
	digest_pbkdf2(s->digest, password, slice_of(p.salt, p.salt_len), p.rounds, got, p.key_len);
	error = secret_is_equal(slice_of(p.key, p.key_len), slice_of(got, p.key_len)) ? 0 : ERR_DENIED;
	secret_wipe(got, sizeof(got));
	return error;
}

static int pbkdf2_make(const struct scheme *s, struct slice password, struct buf *out)
{
	uint8_t salt[MAKE_SALT_LEN], key[DIGEST_MAX];
	size_t len = digest_len(s->digest);

	random_bytes(salt, sizeof(salt));
	digest_pbkdf2(s->digest, password, slice_of(salt, sizeof(salt)), MAKE_PBKDF2_ROUNDS, key, len);
	buf_printf(out, "%u$", MAKE_PBKDF2_ROUNDS);
	ab64_encode(out, slice_of(salt, sizeof(salt)));
	buf_add_char(out, '$');
	ab64_encode(out, slice_of(key, len));
	secret_wipe(key, sizeof(key));
	return 0;
}

/* ---- ARGON2: $argon2id$v=19$m=19456,t=2,p=1$salt$key (the PHC string) ---- */

struct argon2_costs {
	uint32_t version, memory, passes, lanes;
};

/* The number behind `name` up to `end`; moves *at behind end. */
static int argon2_number(struct slice *at, const char *name, char end, uint32_t *n_out)
{
	struct slice s = slice_from(*at, strlen(name));
	ptrdiff_t stop = slice_find(s, end);

	if (!slice_has_prefix(*at, name) || stop < 0 || num_parse_u32(slice_sub(s, 0, (size_t)stop), n_out))
		return ERR_SYNTAX;
	*at = slice_from(s, (size_t)stop + 1);
	return 0;
}

static bool is_base64_text(struct slice s, size_t raw_least)
{
	for (size_t i = 0; i < s.len; i++)
		if (base64_digit(s.p[i]) < 0)
			return false;
	return s.len % 4 != 1 && s.len * 3 / 4 >= raw_least && s.len * 3 / 4 <= KEY_MOST;
}

static int argon2_parse(const struct scheme *s, struct slice body, struct argon2_costs *c)
{
	char head[16];
	ptrdiff_t dollar;

	snprintf(head, sizeof(head), "$%s$", argon2_type2string(s->argon2, 0));
	if (!slice_has_prefix(body, head))
		return ERR_SYNTAX;
	body = slice_from(body, strlen(head));
	if (argon2_number(&body, "v=", '$', &c->version) || argon2_number(&body, "m=", ',', &c->memory) ||
		argon2_number(&body, "t=", ',', &c->passes) || argon2_number(&body, "p=", '$', &c->lanes))
		return ERR_SYNTAX;
	dollar = slice_find(body, '$');
	if (dollar < 0 || !is_base64_text(slice_sub(body, 0, (size_t)dollar), 8) ||
		!is_base64_text(slice_from(body, (size_t)dollar + 1), KEY_LEAST))
		return ERR_SYNTAX;
	return 0;
}

static int argon2_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	struct argon2_costs c;

	if (argon2_parse(s, body, &c))
		return refuse(reason_out, ERR_SYNTAX, "not of the form $argon2id$v=19$m=…,t=…,p=…$salt$key");
	if (c.version != 0x13 && c.version != 0x10)
		return refuse(reason_out, ERR_UNSUPPORTED, "an argon2 version that is not known");
	if (!c.lanes || !c.passes || c.memory < 8 * (uint64_t)c.lanes)
		return refuse(reason_out, ERR_SYNTAX, "argon2 parameters that make no sense");
	if (c.memory > MEMORY_MOST_KIB)
		return refuse(reason_out, ERR_TOO_BIG, "argon2 asks for more than 256 MiB (m=262144)");
	if (c.passes > ARGON2_PASSES_MOST || c.lanes > ARGON2_LANES_MOST ||
		(uint64_t)c.memory * c.passes > ARGON2_WORK_MOST)
		return refuse(reason_out, ERR_TOO_BIG,
			"argon2 costs too much (t above 64, p above 16, m*t above 1048576)");
	return 0;
}

static int argon2_fits(const struct scheme *s, struct slice body, struct slice password)
{
	char text[PASSWORD_STORED_MOST + 1];
	int rc;

	memcpy(text, body.p, body.len);
	text[body.len] = 0;
	rc = argon2_verify(text, password.p, password.len, s->argon2);
	secret_wipe(text, body.len);
	if (rc == ARGON2_OK)
		return 0;
	if (rc == ARGON2_VERIFY_MISMATCH)
		return ERR_DENIED;
	return rc == ARGON2_MEMORY_ALLOCATION_ERROR || rc == ARGON2_THREAD_FAIL ? ERR_NOT_NOW : ERR_SYNTAX;
}

static int argon2_make(const struct scheme *s, struct slice password, struct buf *out)
{
	uint8_t salt[MAKE_SALT_LEN];
	char text[256];
	int rc;

	random_bytes(salt, sizeof(salt));
	rc = argon2_hash(MAKE_ARGON2_PASSES, MAKE_ARGON2_MEMORY_KIB, MAKE_ARGON2_LANES, password.p,
		password.len, salt, sizeof(salt), NULL, MAKE_KEY_LEN, text, sizeof(text), s->argon2,
		ARGON2_VERSION_NUMBER);
	if (rc != ARGON2_OK)
		return ERR_NOT_NOW;
	buf_add_str(out, text);
	return 0;
}

/* ---- CRYPT: libxcrypt's; costs are read out of the setting ---- */

static const char crypt_letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static bool is_crypt_text(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!s.p[i] || !strchr(crypt_letters, s.p[i]))
			return false;
	}
	return true;
}

static unsigned crypt_value(char c)
{
	const char *at = c ? strchr(crypt_letters, c) : NULL;

	return at ? (unsigned)(at - crypt_letters) : 64;
}

/* The last field has just this many letters of crypt's alphabet, and what stands before it is a salt. */
static int crypt_tail(struct slice rest, size_t hash_len)
{
	ptrdiff_t dollar = slice_find_last(rest, '$');

	if (dollar < 0 || !is_crypt_text(slice_from(rest, (size_t)dollar + 1)) ||
		rest.len - (size_t)dollar - 1 != hash_len)
		return ERR_SYNTAX;
	return is_crypt_text(slice_sub(rest, 0, (size_t)dollar)) ? 0 : ERR_SYNTAX;
}

/* $1$salt$hash; $5$, $6$: [rounds=N$]salt$hash. */
static int crypt_sha(struct slice rest, size_t hash_len)
{
	uint32_t rounds = 0;

	if (slice_has_prefix(rest, "rounds=")) {
		ptrdiff_t dollar = slice_find(rest, '$');

		if (dollar < 0 || num_parse_u32(slice_sub(rest, 7, (size_t)dollar - 7), &rounds))
			return ERR_SYNTAX;
		rest = slice_from(rest, (size_t)dollar + 1);
	}
	return rounds > CRYPT_ROUNDS_MOST ? ERR_TOO_BIG : crypt_tail(rest, hash_len);
}

/* $2b$NN$ and 53 letters. */
static int crypt_bcrypt(struct slice rest, size_t hash_len)
{
	uint32_t cost;

	if (rest.len != 3 + hash_len || rest.p[2] != '$' || num_parse_u32(slice_sub(rest, 0, 2), &cost) ||
		cost < 4 || !is_crypt_text(slice_from(rest, 3)))
		return ERR_SYNTAX;
	return cost > BCRYPT_COST_MOST ? ERR_TOO_BIG : 0;
}

/*
 * $y$jXR$salt$hash: after the flavour one letter for log2(N) - 1 and one for r - 1. More letters would be
 * parallelism or time beyond the ordinary: nothing makes such texts, and they are not taken.
 */
static int crypt_yescrypt(struct slice rest, size_t hash_len)
{
	ptrdiff_t dollar = slice_find(rest, '$');
	unsigned n_log2, r;

	if (dollar != 3)
		return dollar > 3 ? ERR_TOO_BIG : ERR_SYNTAX;
	n_log2 = crypt_value(rest.p[1]) + 1;
	r = crypt_value(rest.p[2]) + 1;
	if (!is_crypt_text(slice_sub(rest, 0, 3)))
		return ERR_SYNTAX;
	if (n_log2 > 21 || r > 48 || ((uint64_t)r << n_log2) / 8 > MEMORY_MOST_KIB)
		return ERR_TOO_BIG;
	return crypt_tail(slice_from(rest, 4), hash_len);
}

/* $7$NRRRRRPPPPPsalt$hash: log2(N), then r and p of five letters each, low bits first. */
static int crypt_scrypt(struct slice rest, size_t hash_len)
{
	uint32_t r = 0, p = 0;
	unsigned n_log2;

	if (rest.len < 11 || !is_crypt_text(slice_sub(rest, 0, 11)))
		return ERR_SYNTAX;
	n_log2 = crypt_value(rest.p[0]);
	for (unsigned i = 0; i < 5; i++) {
		r |= crypt_value(rest.p[1 + i]) << (6 * i);
		p |= crypt_value(rest.p[6 + i]) << (6 * i);
	}
	if (n_log2 > 21 || r > 64 || p > 4 || ((uint64_t)r << n_log2) / 8 > MEMORY_MOST_KIB)
		return ERR_TOO_BIG;
	return crypt_tail(slice_from(rest, 11), hash_len);
}

static const struct crypt_form {
	const char *prefix;
	int (*check)(struct slice rest, size_t hash_len);
	size_t hash_len;
} crypt_forms[] = {
	{"$y$", crypt_yescrypt, 43},
	{"$gy$", crypt_yescrypt, 43},
	{"$7$", crypt_scrypt, 43},
	{"$6$", crypt_sha, 86},
	{"$5$", crypt_sha, 43},
	{"$2b$", crypt_bcrypt, 53},
	{"$2y$", crypt_bcrypt, 53},
	{"$2a$", crypt_bcrypt, 53},
	{"$1$", crypt_sha, 22},
};

static int crypt_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	(void)s;
	for (size_t i = 0; i < ARRAY_LEN(crypt_forms); i++) {
		const struct crypt_form *f = &crypt_forms[i];
		int error;

		if (!slice_has_prefix(body, f->prefix))
			continue;
		error = f->check(slice_from(body, strlen(f->prefix)), f->hash_len);
		if (error == ERR_TOO_BIG)
			return refuse(reason_out, error, "a crypt setting that costs too much");
		return error ? refuse(reason_out, error,
				       "no whole crypt text: salt or hash have the wrong length")
			     : 0;
	}
	return refuse(reason_out, ERR_UNSUPPORTED,
		"a crypt method that is not taken ($y$, $gy$, $7$, $6$, $5$, $2b$, $2y$, $2a$ and $1$ are)");
}

static int crypt_fits(const struct scheme *s, struct slice body, struct slice password)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	char stored[PASSWORD_STORED_MOST + 1], clear[PASSWORD_MOST + 1];
	const char *got;
	int verdict = ERR_DENIED;

	(void)s;
	if (!data)
		return ERR_NOT_NOW;
	memcpy(stored, body.p, body.len);
	stored[body.len] = 0;
	memcpy(clear, password.p, password.len);
	clear[password.len] = 0;
	errno = 0;
	got = crypt_rn(clear, stored, data, sizeof(*data));
	if (got)
		verdict = secret_is_equal(body, slice_str(got)) ? 0 : ERR_DENIED;
	else if (errno == ENOMEM)
		verdict = ERR_NOT_NOW;
	secret_wipe(clear, sizeof(clear));
	secret_wipe(stored, sizeof(stored));
	secret_wipe(data, sizeof(*data));
	free(data);
	return verdict;
}

static int crypt_make(const struct scheme *s, struct slice password, struct buf *out)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	char setting[CRYPT_GENSALT_OUTPUT_SIZE], clear[PASSWORD_MOST + 1], salt[32];
	const char *got = NULL;

	if (!data)
		return ERR_NOT_NOW;
	memcpy(clear, password.p, password.len);
	clear[password.len] = 0;
	random_bytes(salt, sizeof(salt));
	if (crypt_gensalt_rn(s->crypt, 0, salt, sizeof(salt), setting, sizeof(setting)))
		got = crypt_rn(clear, setting, data, sizeof(*data));
	if (got)
		buf_add_str(out, got);
	secret_wipe(clear, sizeof(clear));
	secret_wipe(data, sizeof(*data));
	free(data);
	return got ? 0 : ERR_NOT_NOW;
}

/* ---- SCRAM ---- */

static int scram_check(const struct scheme *s, struct slice body, const char **reason_out)
{
	struct scram_keys keys;
	int error = scram_keys_parse(s->digest, body, &keys);

	secret_wipe(&keys, sizeof(keys));
	if (error == ERR_TOO_BIG)
		return refuse(reason_out, error, "more than 1000000 iterations");
	return error ? refuse(reason_out, error, "not ITERATIONS:SALT$STOREDKEY:SERVERKEY in base64") : 0;
}

static int scram_fits(const struct scheme *s, struct slice body, struct slice password)
{
	size_t len = digest_len(s->digest);
	struct scram_keys have, made;
	int error = scram_keys_parse(s->digest, body, &have);

	if (error)
		return error;
	made = have;
	scram_keys_derive(password, &made);
	error = secret_is_equal(slice_of(have.stored, len), slice_of(made.stored, len)) ? 0 : ERR_DENIED;
	secret_wipe(&have, sizeof(have));
	secret_wipe(&made, sizeof(made));
	return error;
}

static int scram_make(const struct scheme *s, struct slice password, struct buf *out)
{
	struct scram_keys keys = {
		.kind = s->digest, .rounds = SCRAM_KEYS_ROUNDS, .salt_len = SCRAM_KEYS_SALT_LEN};

	random_bytes(keys.salt, keys.salt_len);
	scram_keys_derive(password, &keys);
	scram_keys_write(&keys, out);
	secret_wipe(&keys, sizeof(keys));
	return 0;
}

/* ---- the table ---- */

#define CRYPT(name, prefix)                                                                                  \
	{                                                                                                    \
		name, crypt_check, crypt_fits, crypt_make, .crypt = (prefix)                                 \
	}
#define DIGEST(name, kind, salt)                                                                             \
	{                                                                                                    \
		name, digest_check, digest_fits, digest_make, .digest = (kind), .salted = (salt),            \
							      .cheap = true                                  \
	}
#define PBKDF2(name, kind)                                                                                   \
	{                                                                                                    \
		name, pbkdf2_check, pbkdf2_fits, pbkdf2_make, .digest = (kind)                               \
	}

#define SCRAM(name, kind)                                                                                    \
	{                                                                                                    \
		name, scram_check, scram_fits, scram_make, .digest = (kind)                                  \
	}

static const struct scheme schemes[] = {
	{"ARGON2ID", argon2_check, argon2_fits, argon2_make, .argon2 = Argon2_id},
	{"ARGON2I", argon2_check, argon2_fits, NULL, .argon2 = Argon2_i},
	CRYPT("CRYPT", "$y$"),
	CRYPT("BLF-CRYPT", "$2b$"),
	CRYPT("SHA512-CRYPT", "$6$"),
	CRYPT("SHA256-CRYPT", "$5$"),
	{"MD5-CRYPT", crypt_check, crypt_fits, NULL, .crypt = "$1$"},
	PBKDF2("PBKDF2-SHA256", DIGEST_SHA256),
	PBKDF2("PBKDF2-SHA512", DIGEST_SHA512),
	PBKDF2("PBKDF2-SHA1", DIGEST_SHA1),
	PBKDF2("PBKDF2", DIGEST_SHA1),
	SCRAM("SCRAM-SHA-256", DIGEST_SHA256),
	SCRAM("SCRAM-SHA-1", DIGEST_SHA1),
	DIGEST("SSHA512", DIGEST_SHA512, true),
	DIGEST("SSHA256", DIGEST_SHA256, true),
	DIGEST("SSHA", DIGEST_SHA1, true),
	DIGEST("SHA512", DIGEST_SHA512, false),
	DIGEST("SHA256", DIGEST_SHA256, false),
	DIGEST("SHA", DIGEST_SHA1, false),
	{"PLAIN", plain_check, plain_fits, plain_make, .cheap = true},
	{"CLEARTEXT", plain_check, plain_fits, plain_make, .cheap = true},
};

static const struct scheme *scheme_named(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (slice_is_str_nocase(name, schemes[i].name))
			return &schemes[i];
	}
	return NULL;
}

/* The scheme and what follows its prefix; NULL if there is none. Texts that begin with '$' name their method
 * themselves. */
static const struct scheme *scheme_of(struct slice stored, struct slice *body_out)
{
	ptrdiff_t close = slice_find(stored, '}');

	*body_out = stored;
	if (slice_has_prefix(stored, "{") && close > 0) {
		*body_out = slice_from(stored, (size_t)close + 1);
		return scheme_named(slice_sub(stored, 1, (size_t)close - 1));
	}
	if (slice_has_prefix(stored, "$argon2id$"))
		return scheme_named(SLICE_LIT("ARGON2ID"));
	if (slice_has_prefix(stored, "$argon2i$"))
		return scheme_named(SLICE_LIT("ARGON2I"));
	if (slice_has_prefix(stored, "SCRAM-SHA-") && slice_find(stored, '$') > 0) {
		ptrdiff_t dollar = slice_find(stored, '$');

		*body_out = slice_from(stored, (size_t)dollar + 1);
		return scheme_named(slice_sub(stored, 0, (size_t)dollar));
	}
	return slice_has_prefix(stored, "$") ? scheme_named(SLICE_LIT("CRYPT")) : NULL;
}

bool password_is_acceptable(struct slice password)
{
	return password.len && password.len <= PASSWORD_MOST && !memchr(password.p, 0, password.len);
}

static int stored_check(struct slice stored, const struct scheme **scheme_out, struct slice *body_out,
	const char **reason_out)
{
	*reason_out = "";
	if (stored.len > PASSWORD_STORED_MOST)
		return refuse(reason_out, ERR_TOO_BIG, "longer than 1024 octets");
	if (!stored.len || memchr(stored.p, 0, stored.len))
		return refuse(reason_out, ERR_SYNTAX, "empty, or with a NUL");
	*scheme_out = scheme_of(stored, body_out);
	if (!*scheme_out)
		return refuse(reason_out, ERR_UNSUPPORTED,
			"no scheme that is known ({ARGON2ID}, {CRYPT}, {PBKDF2-SHA256}, {SSHA512}, "
			"{SSHA256}, {SSHA}, {SCRAM-SHA-256}, {PLAIN} …)");
	return (*scheme_out)->check(*scheme_out, *body_out, reason_out);
}

int password_stored_check(struct slice stored, const char **reason_out)
{
	const struct scheme *s;
	struct slice body;

	return stored_check(stored, &s, &body, reason_out);
}

const char *password_scheme(struct slice stored)
{
	struct slice body;
	const struct scheme *s = scheme_of(stored, &body);

	return s ? s->name : "?";
}

bool password_is_clear(struct slice stored, struct slice *password_out)
{
	const struct scheme *s;
	const char *reason;

	return !stored_check(stored, &s, password_out, &reason) && s->check == plain_check;
}

bool password_has_scram(struct slice stored, enum digest_kind kind, struct scram_keys *keys_out)
{
	const struct scheme *s;
	const char *reason;
	struct slice body;

	return !stored_check(stored, &s, &body, &reason) && s->check == scram_check && s->digest == kind &&
	       !scram_keys_parse(kind, body, keys_out);
}

bool password_is_cheap(struct slice stored)
{
	struct slice body;
	const struct scheme *s = scheme_of(stored, &body);

	return s && s->cheap;
}

int password_verify(struct slice stored, struct slice password)
{
	const struct scheme *s;
	const char *reason;
	struct slice body;
	int error = stored_check(stored, &s, &body, &reason);

	if (error)
		return error == ERR_TOO_BIG ? ERR_SYNTAX : error;
	if (!password_is_acceptable(password))
		return ERR_DENIED;
	return s->fits(s, body, password);
}

int password_make(const char *scheme, struct slice password, struct buf *out)
{
	const struct scheme *s = scheme_named(slice_str(scheme ? scheme : PASSWORD_DEFAULT_SCHEME));
	size_t before = buf_len(out);
	int error;

	if (!s || !s->make)
		return ERR_UNSUPPORTED;
	if (!password_is_acceptable(password))
		return password.len > PASSWORD_MOST ? ERR_TOO_BIG : ERR_SYNTAX;
	buf_printf(out, "{%s}", s->name);
	error = s->make(s, password, out);
	if (error)
		buf_cut(out, before);
	return error;
}
