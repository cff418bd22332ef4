/* SASL dialogues: what parses, what is refused, and that nobody's failure is another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

#include "common/auth/password.h"
#include "common/auth/sasl.h"
#include "common/base/base64.h"

static const char *const both[] = {"PLAIN", "LOGIN", NULL};

static struct sasl_session *begin(const char *mechanism)
{
	struct sasl_session *s = NULL;

	assert_int_equal(sasl_session_new("imap", slice_str(mechanism), both, &s), 0);
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
	static const char *const others[] = {"ANONYMOUS", "CRAM-MD5", "DIGEST-MD5", "NTLM", "SCRAM-SHA-256",
		"EXTERNAL", "", "PLAI", "PLAINX", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	static const char *const all[] = {
		"ANONYMOUS", "CRAM-MD5", "DIGEST-MD5", "NTLM", "SCRAM-SHA-256", "EXTERNAL", NULL};
	static const char *const plain_only[] = {"PLAIN", NULL};
	static const char *const none[] = {NULL};
	struct sasl_session *s = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		assert_int_equal(sasl_session_new("imap", slice_str(others[i]), both, &s), ERR_UNSUPPORTED);
		assert_int_equal(sasl_session_new("imap", slice_str(others[i]), all, &s), ERR_UNSUPPORTED);
		assert_null(sasl_mechanism(slice_str(others[i])));
	}
	assert_int_equal(sasl_session_new("imap", slice_str("LOGIN"), plain_only, &s), ERR_UNSUPPORTED);
	assert_int_equal(sasl_session_new("imap", slice_str("PLAIN"), none, &s), ERR_UNSUPPORTED);
	assert_null(s);
	assert_string_equal(sasl_mechanism(slice_str("login")), "LOGIN");
	assert_true(sasl_is_cleartext("PLAIN"));
	assert_false(sasl_is_cleartext("SCRAM-SHA-256"));
}

static void *hostile_thread(void *arg)
{
	static const char *const lines[] = {
		"!!!!", "AAAA", "=", "", "AGFsaWNl", "//////8=", "AGFsaWNlAHNlY3JldA=="};

	(void)arg;
	for (unsigned i = 0; i < 500; i++) {
		struct buf challenge = {0};
		struct sasl_session *s = NULL;
		const char *line = lines[i % ARRAY_LEN(lines)];

		if (sasl_session_new("pop3", slice_str(i & 1 ? "PLAIN" : "LOGIN"), both, &s))
			continue;
		if (sasl_session_start(s, slice_of(NULL, 0), &challenge) == ERR_MORE)
			(void)!sasl_session_step(s, slice_str(line), &challenge);
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

static int setup(void **state)
{
	struct buf why = {0};
	int error = sasl_init("mailtier-test", &why);

	(void)state;
	if (error)
		print_error("%s\n", buf_str_view(&why));
	buf_deinit(&why);
	return error;
}

static int teardown(void **state)
{
	(void)state;
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
		cmocka_unit_test(security_08_one_clients_failure_is_his_own),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
