/* SASL dialogues: what parses, what is refused, and that nobody's failure is another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <malloc.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <string.h>

#include "common/auth/password.h"
#include "common/auth/sasl.h"
#include "common/auth/sasl_message.h"
#include "common/base/base64.h"
#include "common/crypto/digest.h"

static const char *const both[] = {"PLAIN", "LOGIN", NULL};

static int new_session(const char *mechanism, const char *const *allowed, struct sasl_session **s_out)
{
	const struct sasl_options options = {
		.service = "imap", .mechanism = slice_str(mechanism), .allowed = allowed};

	return sasl_session_new(&options, s_out);
}

static struct sasl_session *begin(const char *mechanism)
{
	struct sasl_session *s = NULL;

	assert_int_equal(new_session(mechanism, both, &s), 0);
	return s;
}

/* Base64 of raw octets; one at a time. */
static struct slice b64(struct buf *b, const void *raw, size_t len)
{
	buf_clear(b);
	base64_encode(b, slice_of(raw, len));
	return buf_len(b) ? buf_view(b) : slice_of("", 0);
}

static int plain(const void *raw, size_t len, struct sasl_session **s_out)
{
	struct sasl_session *s = begin("PLAIN");
	struct buf text = {0}, challenge = {0};
	int rc = sasl_session_start(s, b64(&text, raw, len), &challenge);

	buf_deinit(&text);
	buf_deinit(&challenge);
	if (s_out)
		*s_out = s;
	else
		sasl_session_free(&s);
	return rc;
}

static void test_plain_is_parsed(void **state)
{
	static const struct {
		const char *raw;
		size_t len;
		const char *authzid, *authcid, *password;
	} rows[] = {
		{"\0alice@example.com\0secret", 25, "", "alice@example.com", "secret"},
		{"alice\0alice\0secret", 18, "", "alice", "secret"},
		{"bob@x.y\0alice\0se cret", 21, "bob@x.y", "alice", "se cret"},
		{"\0\xc3\xa4@x\0\xc3\xb6", 8, "", "\xc3\xa4@x", "\xc3\xb6"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sasl_session *s;
		struct sasl_result *r;

		assert_int_equal(plain(rows[i].raw, rows[i].len, &s), 0);
		r = sasl_session_result(s);
		assert_true(slice_is_str(r->authzid, rows[i].authzid));
		assert_true(slice_is_str(r->authcid, rows[i].authcid));
		assert_true(slice_is_str(secret_view(&r->password), rows[i].password));
		sasl_session_free(&s);
	}
}

static void security_13_bad_messages_are_refused(void **state)
{
	static const struct {
		const char *raw;
		size_t len;
	} rows[] = {
		{"", 0},
		{"\0", 1},
		{"\0\0", 2},
		{"alice", 5},
		{"\0alice", 6},
		{"\0alice\0", 7},
		{"\0\0secret", 8},
		{"\0alice\0se\0cret", 14}, /* NUL in the password */
		{"\0alice\0secret\0", 14},
		{"\0al\xff"
		 "ice\0secret",
			13},                 /* ill-formed UTF-8 */
		{"\0al\xc3\0secret", 11},    /* cut UTF-8 */
		{"\0al\r\nice\0secret", 14}, /* controls */
		{"\0al\x7fice\0secret", 13},
		{"b\xc0\x80\0alice\0secret", 16}, /* in the other identity */
		{"b\n\0alice\0secret", 15},
	};
	struct sasl_session *s = begin("PLAIN");
	struct buf challenge = {0};

	(void)state;
	/* "=": there, and empty. */
	assert_int_not_equal(sasl_session_start(s, slice_str("="), &challenge), 0);
	sasl_session_free(&s);
	buf_deinit(&challenge);
	for (size_t i = 1; i < ARRAY_LEN(rows); i++) {
		int got = plain(rows[i].raw, rows[i].len, NULL);

		if (got >= 0 || got == ERR_MORE)
			fail_msg("row %zu: got %d", i, got);
	}
}

static void test_plain_without_an_initial_response(void **state)
{
	struct sasl_session *s = begin("plain");
	struct buf challenge = {0};

	(void)state;
	assert_int_equal(sasl_session_start(s, slice_of(NULL, 0), &challenge), ERR_MORE);
	assert_int_equal(buf_len(&challenge), 0);
	assert_int_equal(sasl_session_step(s, slice_str("AGFsaWNlAHNlY3JldA=="), &challenge), 0);
	assert_true(slice_is_str(sasl_session_result(s)->authcid, "alice"));
	/* Ended is ended. */
	assert_int_equal(sasl_session_step(s, slice_str("AGFsaWNlAHNlY3JldA=="), &challenge), ERR_SYNTAX);
	assert_int_equal(sasl_session_start(s, slice_str("AGFsaWNlAHNlY3JldA=="), &challenge), ERR_SYNTAX);
	sasl_session_free(&s);
	buf_deinit(&challenge);
}

static void test_login_asks_twice(void **state)
{
	struct sasl_session *s = begin("LOGIN");
	struct buf challenge = {0};

	(void)state;
	assert_int_equal(sasl_session_start(s, slice_of(NULL, 0), &challenge), ERR_MORE);
	assert_true(slice_is_str(buf_view(&challenge), "VXNlcm5hbWU6"));
	assert_int_equal(sasl_session_step(s, slice_str("YWxpY2U="), &challenge), ERR_MORE);
	assert_true(slice_is_str(buf_view(&challenge), "UGFzc3dvcmQ6"));
	assert_int_equal(sasl_session_step(s, slice_str("c2VjcmV0"), &challenge), 0);
	assert_true(slice_is_str(sasl_session_result(s)->authcid, "alice"));
	assert_int_equal(sasl_session_result(s)->authzid.len, 0);
	assert_true(slice_is_str(secret_view(&sasl_session_result(s)->password), "secret"));
	sasl_session_free(&s);

	/* The name as an initial response. */
	s = begin("LOGIN");
	assert_int_equal(sasl_session_start(s, slice_str("YWxpY2U="), &challenge), ERR_MORE);
	assert_true(slice_is_str(buf_view(&challenge), "UGFzc3dvcmQ6"));
	assert_int_equal(sasl_session_step(s, slice_str("c2VjcmV0"), &challenge), 0);
	sasl_session_free(&s);
	buf_deinit(&challenge);
}

/* The library would take "alice" for "alice NUL mallory". */
static void security_13_login_takes_no_nul_and_nothing_empty(void **state)
{
	static const struct {
		const char *name;
		size_t name_len;
		const char *password;
		size_t password_len;
	} rows[] = {
		{"alice\0mallory", 13, "secret", 6},
		{"alice", 5, "se\0cret", 7},
		{"", 0, "secret", 6},
		{"alice", 5, "", 0},
		{"al\nice", 6, "secret", 6},
		{"\xff", 1, "secret", 6},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sasl_session *s = begin("LOGIN");
		struct buf text = {0}, challenge = {0};
		int rc = sasl_session_start(s, slice_of(NULL, 0), &challenge);

		assert_int_equal(rc, ERR_MORE);
		rc = sasl_session_step(s, b64(&text, rows[i].name, rows[i].name_len), &challenge);
		if (rc == ERR_MORE)
			rc = sasl_session_step(
				s, b64(&text, rows[i].password, rows[i].password_len), &challenge);
		if (rc >= 0 || rc == ERR_MORE)
			fail_msg("row %zu: got %d", i, rc);
		sasl_session_free(&s);
		buf_deinit(&text);
		buf_deinit(&challenge);
	}
}

static void test_base64_and_cancelling(void **state)
{
	static const char *const bad[] = {
		"!", "A", "AGFs aWNl", "AGFsaWNlAHNlY3JldA=", "AGFsaWNlAHNlY3JldA===", "=A==", "*A"};
	struct buf challenge = {0};
	struct sasl_session *s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		s = begin("PLAIN");
		assert_int_equal(sasl_session_start(s, slice_str(bad[i]), &challenge), ERR_SYNTAX);
		sasl_session_free(&s);
	}
	s = begin("LOGIN");
	assert_int_equal(sasl_session_start(s, slice_of(NULL, 0), &challenge), ERR_MORE);
	assert_int_equal(sasl_session_step(s, slice_str("*"), &challenge), ERR_CANCELLED);
	assert_int_equal(sasl_session_step(s, slice_str("YWxpY2U="), &challenge), ERR_SYNTAX);
	sasl_session_free(&s);
	buf_deinit(&challenge);
}

static void test_sizes_are_capped(void **state)
{
	char raw[SASL_LINE_MOST];
	char line[SASL_LINE_MOST + 4];
	struct sasl_session *s;
	struct buf challenge = {0};
	size_t len;

	(void)state;
	memset(line, 'A', sizeof(line));
	s = begin("PLAIN");
	assert_int_equal(sasl_session_start(s, slice_of(line, sizeof(line)), &challenge), ERR_TOO_BIG);
	sasl_session_free(&s);
	buf_deinit(&challenge);
	/* The longest password that is one, and one octet more. */
	memset(raw, 'p', sizeof(raw));
	memcpy(raw, "\0alice", 7);
	len = 7 + PASSWORD_MOST;
	assert_int_equal(plain(raw, len, &s), 0);
	assert_int_equal(sasl_session_result(s)->password.len, PASSWORD_MOST);
	sasl_session_free(&s);
	assert_int_equal(plain(raw, len + 1, NULL), ERR_TOO_BIG);
	/* The same for the name. */
	memset(raw, 'n', sizeof(raw));
	raw[0] = 0;
	memcpy(raw + 1 + SASL_NAME_MOST, "\0pw", 3);
	assert_int_equal(plain(raw, 1 + SASL_NAME_MOST + 3, NULL), 0);
	memset(raw + 1, 'n', SASL_NAME_MOST + 1);
	memcpy(raw + 2 + SASL_NAME_MOST, "\0pw", 3);
	assert_int_equal(plain(raw, 2 + SASL_NAME_MOST + 3, NULL), ERR_TOO_BIG);
}

/* Not what is installed decides but the list, and of that only what has a row. */
static void security_19_only_allowed_mechanisms_begin(void **state)
{
	static const char *const others[] = {"ANONYMOUS", "NTLM", "OTP", "SRP", "GS2-KRB5", "GSS-SPNEGO", "",
		"PLAI", "PLAINX", "CRAM-MD5-PLUS", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	static const char *const not_listed[] = {
		"CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "GSSAPI", "EXTERNAL"};
	static const char *const all[] = {"ANONYMOUS", "NTLM", "OTP", "SRP", "GS2-KRB5", "GSS-SPNEGO",
		"EXTERNAL", "SCRAM-SHA-256-PLUS", NULL};
	static const char *const plain_only[] = {"PLAIN", NULL};
	static const char *const none[] = {NULL};
	struct sasl_session *s = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		assert_int_equal(new_session(others[i], both, &s), ERR_UNSUPPORTED);
		assert_int_equal(new_session(others[i], all, &s), ERR_UNSUPPORTED);
		assert_null(sasl_mechanism(slice_str(others[i])));
	}
	for (size_t i = 0; i < ARRAY_LEN(not_listed); i++)
		assert_int_equal(new_session(not_listed[i], both, &s), ERR_UNSUPPORTED);
	/* Listed, and the connection has neither certificate nor channel binding. */
	assert_int_equal(new_session("EXTERNAL", all, &s), ERR_UNSUPPORTED);
	assert_int_equal(new_session("SCRAM-SHA-256-PLUS", all, &s), ERR_UNSUPPORTED);
	assert_int_equal(new_session("LOGIN", plain_only, &s), ERR_UNSUPPORTED);
	assert_int_equal(new_session("PLAIN", none, &s), ERR_UNSUPPORTED);
	assert_null(s);
	assert_string_equal(sasl_mechanism(slice_str("login")), "LOGIN");
	assert_true(sasl_traits("PLAIN") & SASL_HANDS_PASSWORD);
	assert_false(sasl_traits("SCRAM-SHA-256") & SASL_HANDS_PASSWORD);
	assert_int_equal(sasl_traits("NTLM"), 0);
}

static void *hostile_thread(void *arg)
{
	/* the last two are a CRAM answer and a SCRAM beginning */
	static const char *const lines[] = {"!!!!", "AAAA", "=", "", "AGFsaWNl",
		"//////8=", "AGFsaWNlAHNlY3JldA==", "YWxpY2UgMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
		"biwsbj1hbGljZSxyPWFiY2RlZg=="};
	static const char *const all_of_them[] = {
		"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"};
	static const char *const listed[] = {
		"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256", NULL};

	(void)arg;
	for (unsigned i = 0; i < 500; i++) {
		struct buf challenge = {0};
		struct sasl_session *s = NULL;
		const char *line = lines[i % ARRAY_LEN(lines)];

		if (new_session(all_of_them[i % ARRAY_LEN(all_of_them)], listed, &s))
			continue;
		if (sasl_session_start(s, slice_of(NULL, 0), &challenge) == ERR_MORE &&
			sasl_session_step(s, slice_str(line), &challenge) == SASL_WANTS)
			(void)!sasl_session_give(s, SLICE_LIT("{PLAIN}x\0"), true, &challenge);
		sasl_session_free(&s); /* many in the middle of it */
		buf_deinit(&challenge);
	}
	return NULL;
}

/* While others fail and leave in every way, a session that began before them and those that begin meanwhile
 * go on. */
static void security_08_one_clients_failure_is_his_own(void **state)
{
	struct sasl_session *mine = begin("LOGIN");
	struct buf challenge = {0};
	pthread_t threads[3];

	(void)state;
	assert_int_equal(sasl_session_start(mine, slice_str("YWxpY2U="), &challenge), ERR_MORE);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hostile_thread, NULL), 0);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(plain("\0alice\0secret", 13, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(sasl_session_step(mine, slice_str("c2VjcmV0"), &challenge), 0);
	assert_true(slice_is_str(sasl_session_result(mine)->authcid, "alice"));
	assert_true(slice_is_str(secret_view(&sasl_session_result(mine)->password), "secret"));
	sasl_session_free(&mine);
	buf_deinit(&challenge);
}

/* ---- challenges: clients by the RFCs, on digests alone ---- */

static struct loop *loop;
static struct work_pool *pool;

struct client {
	struct sasl_session *s;
	struct buf challenge; /* decoded */
	int rc;
	bool came;
};

static void on_came(void *arg, int rc, struct slice challenge)
{
	struct client *c = arg;

	buf_clear(&c->challenge);
	if (challenge.len)
		assert_int_equal(base64_decode(&c->challenge, challenge), 0);
	c->rc = rc;
	c->came = true;
	loop_stop(loop);
}

/* What a step gave, waited for. */
static int settle(struct client *c, int rc, struct buf *challenge)
{
	if (rc == SASL_LATER) {
		c->came = false;
		loop_run(loop);
		assert_true(c->came);
		return c->rc;
	}
	buf_clear(&c->challenge);
	if (buf_len(challenge))
		assert_int_equal(base64_decode(&c->challenge, buf_view(challenge)), 0);
	return rc;
}

struct setting {
	const char *binding;
	struct slice binding_data;
	const char *realm;
};

static int client_begin(
	struct client *c, const char *mechanism, const char *initial, const struct setting *with)
{
	const char *const allowed[] = {mechanism, NULL};
	struct sasl_options o = {.service = "imap",
		.mechanism = slice_str(mechanism),
		.allowed = allowed,
		.host = "mail.example.com",
		.pool = pool,
		.loop = loop,
		.fn = on_came,
		.arg = c};
	struct buf text = {0}, challenge = {0};
	int rc;

	*c = (struct client){0};
	if (with) {
		o.binding = with->binding;
		o.binding_data = with->binding_data;
		o.realm = with->realm;
	}
	assert_int_equal(sasl_session_new(&o, &c->s), 0);
	rc = settle(c,
		sasl_session_start(
			c->s, initial ? b64(&text, initial, strlen(initial)) : slice_of(NULL, 0), &challenge),
		&challenge);
	buf_deinit(&text);
	buf_deinit(&challenge);
	return rc;
}

static int client_say(struct client *c, const char *line)
{
	struct buf text = {0}, challenge = {0};
	int rc = settle(c, sasl_session_step(c->s, b64(&text, line, strlen(line)), &challenge), &challenge);

	buf_deinit(&text);
	buf_deinit(&challenge);
	return rc;
}

/* stored NULL: there is no such user; "": he has nothing. */
static int client_stored(struct client *c, const char *stored)
{
	struct buf challenge = {0};
	int rc = settle(c,
		sasl_session_give(c->s,
			slice_of(stored ? stored : "", stored && *stored ? strlen(stored) + 1 : 0),
			stored != NULL, &challenge),
		&challenge);

	buf_deinit(&challenge);
	return rc;
}

static void client_end(struct client *c)
{
	sasl_session_free(&c->s);
	buf_deinit(&c->challenge);
}

static void hex(const unsigned char *raw, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

/* ---- CRAM-MD5, RFC 2195 ---- */

static void cram_answer(
	const char *user, const char *password, struct slice challenge, char *out, size_t size)
{
	unsigned char mac[16];
	unsigned len = sizeof(mac);
	char text[33];

	assert_non_null(HMAC(EVP_md5(), password, (int)strlen(password), (const unsigned char *)challenge.p,
		challenge.len, mac, &len));
	hex(mac, sizeof(mac), text);
	snprintf(out, size, "%s %s", user, text);
}

static int cram(const char *user, const char *password, const char *stored, struct client *c)
{
	char answer[256];

	assert_int_equal(client_begin(c, "CRAM-MD5", NULL, NULL), ERR_MORE);
	cram_answer(user, password, buf_view(&c->challenge), answer, sizeof(answer));
	assert_int_equal(client_say(c, answer), SASL_WANTS);
	assert_true(slice_is_str(sasl_session_name(c->s), user));
	return client_stored(c, stored);
}

static void test_cram_md5(void **state)
{
	static const struct {
		const char *stored;
		int want;
		bool unserved;
	} rows[] = {
		{"{PLAIN}tanstaaf", 0, false},
		{"{CLEARTEXT}tanstaaf", 0, false},
		{"{PLAIN}tanstaaF", ERR_DENIED, false},
		{"{SHA256}xOfzmC4vdCQRS22fzQB7XEXn9+C9Rg18eTH+zAW1+SE=", ERR_DENIED, true},
		{"", ERR_DENIED, true},
		{NULL, ERR_DENIED, false},
	};
	struct buf first = {0};
	struct client c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (cram("tim@example.com", "tanstaaf", rows[i].stored, &c) != rows[i].want)
			fail_msg("row %zu", i);
		assert_int_equal(sasl_session_is_unserved(c.s), rows[i].unserved);
		if (!rows[i].want) {
			assert_int_equal(sasl_session_result(c.s)->shown, SASL_SHOWN_PROVEN);
			assert_true(slice_is_str(sasl_session_result(c.s)->authcid, "tim@example.com"));
			assert_int_equal(sasl_session_result(c.s)->authzid.len, 0);
		}
		client_end(&c);
	}
	/* No challenge comes twice; an initial response makes no sense. */
	assert_int_equal(client_begin(&c, "CRAM-MD5", NULL, NULL), ERR_MORE);
	buf_add_slice(&first, buf_view(&c.challenge));
	client_end(&c);
	assert_int_equal(client_begin(&c, "CRAM-MD5", NULL, NULL), ERR_MORE);
	assert_false(slice_is_equal(buf_view(&first), buf_view(&c.challenge)));
	client_end(&c);
	buf_deinit(&first);
	assert_int_equal(
		client_begin(&c, "CRAM-MD5", "tim 00000000000000000000000000000000", NULL), ERR_SYNTAX);
	client_end(&c);
}

/* ---- DIGEST-MD5, RFC 2831 ---- */

static void md5(struct slice in, unsigned char out[16])
{
	unsigned len = 16;

	assert_int_equal(EVP_Digest(in.p, in.len, out, &len, EVP_md5(), NULL), 1);
}

static void directive(struct slice challenge, const char *name, char *out, size_t size)
{
	char text[1024];
	const char *at, *end;

	snprintf(text, sizeof(text), "%.*s", (int)challenge.len, challenge.p);
	at = strstr(text, name);
	assert_non_null(at);
	at += strlen(name) + 2; /* ="... */
	end = strchr(at, '"');
	assert_non_null(end);
	snprintf(out, size, "%.*s", (int)(end - at), at);
}

/* RFC 2831 section 2.1.2.1; prefix is "AUTHENTICATE", or "" of the server's answer. */
static void digest_response(const char *user, const char *realm, const char *password, const char *nonce,
	const char *cnonce, const char *prefix, const char *uri, char out[33])
{
	unsigned char h[16];
	char a1[33], a2[33], text[1024];
	struct buf b = {0};

	buf_printf(&b, "%s:%s:%s", user, realm, password);
	md5(buf_view(&b), h);
	buf_clear(&b);
	buf_add(&b, h, 16);
	buf_printf(&b, ":%s:%s", nonce, cnonce);
	md5(buf_view(&b), h);
	hex(h, 16, a1);
	snprintf(text, sizeof(text), "%s:%s", prefix, uri);
	md5(slice_str(text), h);
	hex(h, 16, a2);
	snprintf(text, sizeof(text), "%s:%s:00000001:%s:auth:%s", a1, nonce, cnonce, a2);
	md5(slice_str(text), h);
	hex(h, 16, out);
	buf_deinit(&b);
}

static void test_digest_md5(void **state)
{
	static const struct setting with = {.realm = "example.com"};
	static const struct {
		const char *user, *realm, *stored, *name;
		int want;
	} rows[] = {
		{"chris", "example.com", "{PLAIN}secret", "chris", ERR_MORE},
		{"chris@example.com", "example.com", "{PLAIN}secret", "chris@example.com", ERR_MORE},
		{"chris", "other.example", "{PLAIN}secret", "chris@other.example", ERR_MORE},
		{"chris", "example.com", "{PLAIN}Secret", "chris", ERR_DENIED},
		{"chris", "example.com", NULL, "chris", ERR_DENIED},
	};
	char nonce[256], realm[256], response[33], line[1024], want[64], old_nonce[256] = "";
	struct client c;

	(void)state;
	/* The figures of RFC 2831 section 4, of our client. */
	digest_response("chris", "elwood.innosoft.com", "secret", "OA6MG9tEQGm2hh", "OA6MHXh6VqTrRk",
		"AUTHENTICATE", "imap/elwood.innosoft.com", response);
	assert_string_equal(response, "d388dad90d4bbd760a152321f2143af7");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(client_begin(&c, "DIGEST-MD5", NULL, &with), ERR_MORE);
		directive(buf_view(&c.challenge), "nonce", nonce, sizeof(nonce));
		directive(buf_view(&c.challenge), "realm", realm, sizeof(realm));
		assert_string_equal(realm, "example.com");
		assert_string_not_equal(nonce, old_nonce);
		/* No layers are offered. */
		directive(buf_view(&c.challenge), "qop", line, sizeof(line));
		assert_string_equal(line, "auth");
		snprintf(old_nonce, sizeof(old_nonce), "%s", nonce);
		digest_response(rows[i].user, rows[i].realm, "secret", nonce, "cn", "AUTHENTICATE",
			"imap/mail.example.com", response);
		snprintf(line, sizeof(line),
			"charset=utf-8,username=\"%s\",realm=\"%s\",nonce=\"%s\",nc=00000001,cnonce=\"cn\","
			"digest-uri=\"imap/mail.example.com\",response=%s,qop=auth",
			rows[i].user, rows[i].realm, nonce, response);
		assert_int_equal(client_say(&c, line), SASL_WANTS);
		assert_true(slice_is_str(sasl_session_name(c.s), rows[i].name));
		if (client_stored(&c, rows[i].stored) != rows[i].want)
			fail_msg("row %zu", i);
		if (rows[i].want == ERR_MORE) {
			digest_response(rows[i].user, rows[i].realm, "secret", nonce, "cn", "",
				"imap/mail.example.com", response);
			snprintf(want, sizeof(want), "rspauth=%s", response);
			assert_true(slice_is_str(buf_view(&c.challenge), want));
			assert_int_equal(client_say(&c, ""), 0);
			assert_true(slice_is_str(sasl_session_result(c.s)->authcid, rows[i].name));
			assert_int_equal(sasl_session_result(c.s)->authzid.len, 0);
		}
		client_end(&c);
	}
	/* An answer that was right once is wrong for another nonce. */
	assert_int_equal(client_begin(&c, "DIGEST-MD5", NULL, &with), ERR_MORE);
	digest_response("chris", "example.com", "secret", old_nonce, "cn", "AUTHENTICATE",
		"imap/mail.example.com", response);
	snprintf(line, sizeof(line),
		"charset=utf-8,username=\"chris\",realm=\"example.com\",nonce=\"%s\",nc=00000001,cnonce="
		"\"cn\","
		"digest-uri=\"imap/mail.example.com\",response=%s,qop=auth",
		old_nonce, response);
	assert_int_equal(client_say(&c, line), SASL_WANTS);
	assert_int_equal(client_stored(&c, "{PLAIN}secret"), ERR_DENIED);
	client_end(&c);
}

/* ---- SCRAM, RFC 5802 and RFC 7677 ---- */

struct scram {
	enum digest_kind kind;
	const char *password;
	const char *gs2, *bare; /* of the first message */
	struct slice binding;   /* what c= shows behind gs2 */
	char first[512];        /* the server's */
	struct buf proof, signature;
};

static void scram_first(struct scram *x, struct slice server)
{
	snprintf(x->first, sizeof(x->first), "%.*s", (int)server.len, server.p);
}

/* The client's last message, and what the server must answer to it. */
static void scram_final(struct scram *x, char *out, size_t size)
{
	size_t len = digest_len(x->kind);
	uint8_t salted[64], client[64], stored[64], mac[64], server[64];
	struct buf salt = {0}, binding = {0}, text = {0}, message = {0};
	char nonce[256], salt64[256];
	unsigned rounds;

	assert_int_equal(sscanf(x->first, "r=%255[^,],s=%255[^,],i=%u", nonce, salt64, &rounds), 3);
	assert_int_equal(base64_decode(&salt, slice_str(salt64)), 0);
	buf_add_str(&binding, x->gs2);
	buf_add_slice(&binding, x->binding);
	base64_encode(&text, buf_view(&binding));
	buf_printf(&message, "c=%s,r=%s", buf_str_view(&text), nonce);
	digest_pbkdf2(x->kind, slice_str(x->password), buf_view(&salt), rounds, salted, len);
	digest_hmac(x->kind, slice_of(salted, len), SLICE_LIT("Client Key"), client);
	digest_once(x->kind, slice_of(client, len), stored);
	buf_clear(&text);
	buf_printf(&text, "%s,%s,%s", x->bare, x->first, buf_str_view(&message));
	digest_hmac(x->kind, slice_of(stored, len), buf_view(&text), mac);
	for (size_t i = 0; i < len; i++)
		client[i] ^= mac[i];
	digest_hmac(x->kind, slice_of(salted, len), SLICE_LIT("Server Key"), server);
	digest_hmac(x->kind, slice_of(server, len), buf_view(&text), mac);
	buf_clear(&x->signature);
	buf_add_str(&x->signature, "v=");
	base64_encode(&x->signature, slice_of(mac, len));
	buf_add_str(&message, ",p=");
	base64_encode(&message, slice_of(client, len));
	snprintf(out, size, "%s", buf_str_view(&message));
	buf_deinit(&salt);
	buf_deinit(&binding);
	buf_deinit(&text);
	buf_deinit(&message);
}

static int scram(const char *mechanism, struct scram *x, const char *stored, const struct setting *with,
	struct client *c)
{
	char line[1024], first[512];
	int rc;

	snprintf(first, sizeof(first), "%s%s", x->gs2, x->bare);
	rc = client_begin(c, mechanism, first, with);
	if (rc != SASL_WANTS)
		return rc;
	rc = client_stored(c, stored);
	if (rc != ERR_MORE)
		return rc;
	scram_first(x, buf_view(&c->challenge));
	scram_final(x, line, sizeof(line));
	rc = client_say(c, line);
	if (rc != ERR_MORE)
		return rc;
	assert_true(slice_is_equal(buf_view(&c->challenge), buf_view(&x->signature)));
	return client_say(c, "");
}

static void test_scram(void **state)
{
	/* "pencil" with the salts and rounds of the RFCs' examples; the last two as Dovecot writes them. */
	static const struct {
		const char *mechanism;
		enum digest_kind kind;
		const char *stored, *gs2;
		int want;
		const char *authzid;
	} rows[] = {
		{"SCRAM-SHA-1", DIGEST_SHA1, "{PLAIN}pencil", "n,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, "{PLAIN}pencil", "n,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, "{PLAIN}pencil", "y,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, "{PLAIN}pencil", "n,a=bob=2Cx,", 0, "bob,x"},
		{"SCRAM-SHA-1", DIGEST_SHA1,
			"{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:"
			"D+CSWLOshSulAsxiupA+qs2/fTE=",
			"n,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256,
			"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
			"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
			"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
			"n,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256,
			"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
			"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
			"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
			"n,,", 0, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, "{PLAIN}Pencil", "n,,", ERR_DENIED, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, NULL, "n,,", ERR_DENIED, ""},
		{"SCRAM-SHA-256", DIGEST_SHA256, "", "n,,", ERR_DENIED, ""},
		/* the keys of the other digest serve not */
		{"SCRAM-SHA-1", DIGEST_SHA1,
			"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
			"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
			"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
			"n,,", ERR_DENIED, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram x = {.kind = rows[i].kind,
			.password = "pencil",
			.gs2 = rows[i].gs2,
			.bare = "n=us=3Der,r=fyko+d2lbbFgONRv9qkxdawL"};
		struct client c;
		int rc = scram(rows[i].mechanism, &x, rows[i].stored, NULL, &c);

		if (rc != rows[i].want)
			fail_msg("row %zu: %d", i, rc);
		if (!rc) {
			assert_true(slice_is_str(sasl_session_result(c.s)->authcid, "us=er"));
			assert_true(slice_is_str(sasl_session_result(c.s)->authzid, rows[i].authzid));
		}
		client_end(&c);
		buf_deinit(&x.signature);
	}
}

/* The client of our tests says what the RFCs' examples say. */
static void test_scram_client_is_the_rfcs(void **state)
{
	struct scram one = {.kind = DIGEST_SHA1,
		.password = "pencil",
		.gs2 = "n,,",
		.bare = "n=user,r=fyko+d2lbbFgONRv9qkxdawL"};
	struct scram two = {.kind = DIGEST_SHA256,
		.password = "pencil",
		.gs2 = "n,,",
		.bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"};
	char line[1024];

	(void)state;
	scram_first(
		&one, SLICE_LIT("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"));
	scram_final(&one, line, sizeof(line));
	assert_string_equal(
		line, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
	assert_string_equal(buf_str_view(&one.signature), "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
	scram_first(&two, SLICE_LIT("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s="
				    "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
	scram_final(&two, line, sizeof(line));
	assert_string_equal(line, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="
				  "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	assert_string_equal(buf_str_view(&two.signature), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
	buf_deinit(&one.signature);
	buf_deinit(&two.signature);
}

/* Faked, missing, foreign and down-graded channel bindings: CVE-2026-33603's class. */
static void security_07_channel_bindings_are_held_against_ours(void **state)
{
	static const struct setting bound = {
		.binding = "tls-exporter", .binding_data = {"0123456789abcdef0123456789abcdef", 32}};
	static const struct {
		const char *mechanism, *gs2;
		struct slice shown;
		const struct setting *with;
		int want;
	} rows[] = {
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", {"0123456789abcdef0123456789abcdef", 32}, &bound,
			0},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", {"0123456789abcdef0123456789abcdeX", 32}, &bound,
			ERR_DENIED},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", {"0123456789abcdef", 16}, &bound, ERR_DENIED},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", {"", 0}, &bound, ERR_DENIED},
		{"SCRAM-SHA-256-PLUS", "p=tls-unique,,", {"0123456789abcdef0123456789abcdef", 32}, &bound,
			ERR_SYNTAX},
		{"SCRAM-SHA-256-PLUS", "n,,", {"", 0}, &bound, ERR_SYNTAX},
		{"SCRAM-SHA-256-PLUS", "y,,", {"", 0}, &bound, ERR_DENIED},
		/* we bind, and he was told that we do not */
		{"SCRAM-SHA-256", "y,,", {"", 0}, &bound, ERR_DENIED},
		{"SCRAM-SHA-256", "p=tls-exporter,,", {"0123456789abcdef0123456789abcdef", 32}, &bound,
			ERR_SYNTAX},
		{"SCRAM-SHA-256", "n,,", {"", 0}, &bound, 0},
		{"SCRAM-SHA-256", "y,,", {"", 0}, NULL, 0},
		{"SCRAM-SHA-256", "p=tls-exporter,,", {"0123456789abcdef0123456789abcdef", 32}, NULL,
			ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scram x = {.kind = DIGEST_SHA256,
			.password = "pencil",
			.gs2 = rows[i].gs2,
			.bare = "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			.binding = rows[i].shown};
		struct client c;
		int rc = scram(rows[i].mechanism, &x, "{PLAIN}pencil", rows[i].with, &c);

		if (rc != rows[i].want)
			fail_msg("row %zu: %d", i, rc);
		client_end(&c);
		buf_deinit(&x.signature);
	}
}

/* Who is not there is asked as one who is: with the same salt each time. */
static void test_a_challenge_says_nothing_of_the_user(void **state)
{
	static const char *const stored[] = {"{PLAIN}pencil", NULL, "", "{SHA}l5p99c9WaGTBMkRBdH3RYVEGoSU="};
	char salts[ARRAY_LEN(stored)][2][512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stored); i++) {
		for (size_t k = 0; k < 2; k++) {
			struct client c;
			char name[64];
			const char *salt;

			snprintf(name, sizeof(name), "n,,n=user%zu,r=abcdefgh", i);
			assert_int_equal(client_begin(&c, "SCRAM-SHA-256", name, NULL), SASL_WANTS);
			assert_int_equal(client_stored(&c, stored[i]), ERR_MORE);
			salt = strstr(buf_str_view(&c.challenge), ",s=");
			assert_non_null(salt);
			snprintf(salts[i][k], sizeof(salts[i][k]), "%s", salt);
			client_end(&c);
		}
		assert_string_equal(salts[i][0], salts[i][1]);
		assert_int_equal(strlen(salts[i][0]), strlen(salts[0][0]));
		if (i)
			assert_string_not_equal(salts[i][0], salts[0][0]);
	}
}

/* Stored keys show the same salt however a name is written; so must the salts of those who are not there. */
static void security_07_other_spellings_show_nobody(void **state)
{
	static const struct setting with = {.realm = "example.com"};
	static const char *const names[] = {
		"nobody@example.com", "Nobody@Example.COM", "nobody", "NOBODY+detail", "nobody@example.com."};
	char salts[ARRAY_LEN(names)][512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct client c;
		char first[64];

		snprintf(first, sizeof(first), "n,,n=%s,r=abcdefgh", names[i]);
		assert_int_equal(client_begin(&c, "SCRAM-SHA-256", first, &with), SASL_WANTS);
		assert_int_equal(client_stored(&c, NULL), ERR_MORE);
		snprintf(salts[i], sizeof(salts[i]), "%s", strstr(buf_str_view(&c.challenge), ",s="));
		client_end(&c);
		assert_string_equal(salts[i], salts[0]);
	}
}

/* What sessions of the longest lines hold while they wait for their clients. */
static void security_09_a_waiting_session_is_small(void **state)
{
	static const char *const mechanisms[] = {
		"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"};
	struct client clients[50];
	char name[SASL_NAME_MOST - 1], nonce[SASL_MESSAGE_PART_MOST - 2], first[2048];

	(void)state;
	memset(name, 'n', sizeof(name));
	memset(nonce, 'r', sizeof(nonce));
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
		bool is_scram = slice_has_prefix(slice_str(mechanisms[i]), "SCRAM");
		bool is_login = !strcmp(mechanisms[i], "LOGIN");
		size_t before = mallinfo2().uordblks, held;

		snprintf(first, sizeof(first), is_scram ? "n,,n=%.*s,r=%.*s" : "%.*s", (int)sizeof(name),
			name, (int)sizeof(nonce), nonce);
		for (size_t k = 0; k < ARRAY_LEN(clients); k++) {
			int rc = client_begin(
				&clients[k], mechanisms[i], is_scram || is_login ? first : NULL, NULL);

			if (rc == SASL_WANTS)
				rc = client_stored(&clients[k], "{PLAIN}pencil");
			assert_int_equal(rc, ERR_MORE);
		}
		held = (mallinfo2().uordblks - before) / ARRAY_LEN(clients);
		if (held > SASL_SESSION_MOST)
			fail_msg("%s: %zu octets", mechanisms[i], held);
		for (size_t k = 0; k < ARRAY_LEN(clients); k++)
			client_end(&clients[k]);
	}
}

static void test_external(void **state)
{
	static const char *const allowed[] = {"EXTERNAL", NULL};
	static const struct {
		const char *initial; /* NULL: none, and then an empty line */
		int want;
		const char *authzid;
	} rows[] = {{"", 0, ""}, {NULL, 0, ""}, {"alice@example.com", 0, ""},
		{"bob@example.com", 0, "bob@example.com"}, {"bob\nx", -1, ""}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct sasl_options o = {.service = "imap",
			.mechanism = SLICE_LIT("external"),
			.allowed = allowed,
			.external = "alice@example.com"};
		struct buf text = {0}, challenge = {0};
		struct sasl_session *s;
		int rc;

		assert_int_equal(sasl_session_new(&o, &s), 0);
		if (!rows[i].initial) {
			assert_int_equal(sasl_session_start(s, slice_of(NULL, 0), &challenge), ERR_MORE);
			rc = sasl_session_step(s, slice_of("", 0), &challenge);
		} else if (!*rows[i].initial) {
			rc = sasl_session_start(s, slice_str("="), &challenge);
		} else {
			rc = sasl_session_start(
				s, b64(&text, rows[i].initial, strlen(rows[i].initial)), &challenge);
		}
		if (rows[i].want == -1 ? rc >= 0 : rc != rows[i].want)
			fail_msg("row %zu: %d", i, rc);
		if (!rc) {
			assert_int_equal(sasl_session_result(s)->shown, SASL_SHOWN_PROVEN);
			assert_true(slice_is_str(sasl_session_result(s)->authcid, "alice@example.com"));
			assert_true(slice_is_str(sasl_session_result(s)->authzid, rows[i].authzid));
		}
		sasl_session_free(&s);
		buf_deinit(&text);
		buf_deinit(&challenge);
	}
}

/* A worker's job outlives its session; what is no ticket is refused, and there is no keytab. */
static void security_08_tickets_and_early_leavers(void **state)
{
	struct scram x = {.kind = DIGEST_SHA256,
		.password = "x",
		.gs2 = "n,,",
		.bare = "n=user,r=fyko+d2lbbFgONRv9qkxdawL"};
	struct client c;

	(void)state;
	assert_int_equal(client_begin(&c, "GSSAPI", NULL, NULL), ERR_MORE);
	assert_true(client_say(&c, "no ticket") < 0);
	client_end(&c);
	for (unsigned i = 0; i < 20; i++) {
		const char *const allowed[] = {"SCRAM-SHA-1", "GSSAPI", NULL};
		const struct sasl_options o = {.service = "imap",
			.mechanism = slice_str(allowed[i & 1]),
			.allowed = allowed,
			.keytab = "/nonexistent",
			.pool = pool,
			.loop = loop,
			.fn = on_came,
			.arg = NULL};
		struct buf challenge = {0};
		struct sasl_session *s;
		int rc;

		assert_int_equal(sasl_session_new(&o, &s), 0);
		rc = sasl_session_start(s, slice_str("biwsbj11LHI9YWJjZGVm"), &challenge);
		if (rc == SASL_WANTS)
			rc = sasl_session_give(s, slice_of("", 0), false, &challenge);
		assert_int_equal(rc, SASL_LATER);
		sasl_session_free(&s); /* on_came would crash */
		buf_deinit(&challenge);
	}
	assert_int_equal(scram("SCRAM-SHA-256", &x, NULL, NULL, &c), ERR_DENIED);
	client_end(&c);
	buf_deinit(&x.signature);
}

static int setup(void **state)
{
	struct buf why = {0};
	int error = sasl_init("mailtier-test", &why);

	(void)state;
	if (error)
		print_error("%s\n", buf_str_view(&why));
	buf_deinit(&why);
	if (error || loop_new(&loop) || work_pool_new("test-hash", 1, 100, &pool))
		return -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	work_pool_free(&pool);
	loop_free(&loop);
	sasl_deinit();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_is_parsed),
		cmocka_unit_test(security_13_bad_messages_are_refused),
		cmocka_unit_test(test_plain_without_an_initial_response),
		cmocka_unit_test(test_login_asks_twice),
		cmocka_unit_test(security_13_login_takes_no_nul_and_nothing_empty),
		cmocka_unit_test(test_base64_and_cancelling),
		cmocka_unit_test(test_sizes_are_capped),
		cmocka_unit_test(security_19_only_allowed_mechanisms_begin),
		cmocka_unit_test(test_cram_md5),
		cmocka_unit_test(test_digest_md5),
		cmocka_unit_test(test_scram_client_is_the_rfcs),
		cmocka_unit_test(test_scram),
		cmocka_unit_test(security_07_channel_bindings_are_held_against_ours),
		cmocka_unit_test(security_07_other_spellings_show_nobody),
		cmocka_unit_test(security_09_a_waiting_session_is_small),
		cmocka_unit_test(test_a_challenge_says_nothing_of_the_user),
		cmocka_unit_test(test_external),
		cmocka_unit_test(security_08_tickets_and_early_leavers),
		cmocka_unit_test(security_08_one_clients_failure_is_his_own),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
