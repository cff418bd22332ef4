/* What the configuration of logins refuses, and what a connection without TLS is offered. TLS, certificates and tickets are in
 * tests/flow/test_mechanisms.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/front/front_auth.h"

static const struct conf_section sections[] = {
	{"", 0, NULL, "top"},
	{"service", CONF_TITLED | CONF_RELOAD, "imap", "services"},
	{NULL, 0, NULL, NULL},
};
static const struct conf_key keys[] = {
	FRONT_AUTH_KEYS,
	FRONT_AUTH_SERVICE_KEYS("imap"),
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};
static const struct conf_key *const tables[] = {keys, NULL};
static bool allows_clear, asks;
static char keytab[] = "/tmp/mailtier-keytab-XXXXXX";

static void check(struct conf *conf)
{
	front_auth_check(conf, "imap", allows_clear, asks);
	front_auth_check_realms(conf);
}

static const struct conf_table table = {
	.program = "test", .file = "/nonexistent", .sections = sections, .keys = tables, .check = check};

static int load(const char *text, struct buf *why, struct conf **conf_out)
{
	return conf_load_text(&table, "t.conf", slice_str(text), why, conf_out);
}

static void test_what_cannot_work_is_refused(void **state)
{
	static const struct {
		const char *text;
		bool allows_clear, asks, has_keytab;
		const char *want; /* NULL: good */
	} rows[] = {
		{"", false, false, false, NULL},
		{"service imap { mechanisms = {PLAIN, SCRAM-SHA-256-PLUS} }", false, false, false, NULL},
		{"service imap { mechanisms = {} mechanisms-clear = {} }", false, false, false,
			"no mechanism is left"},
		{"service imap { mechanisms = {NTLM} }", false, false, false, "is none of"},
		{"service imap { mechanisms = {EXTERNAL} }", false, false, false, "client-ca"},
		{"service imap { mechanisms = {EXTERNAL} }", false, true, false, NULL},
		{"service imap { mechanisms-clear = {EXTERNAL} }", false, true, false, "with TLS"},
		{"service imap { mechanisms-clear = {SCRAM-SHA-1-PLUS} }", false, true, false, "with TLS"},
		{"service imap { mechanisms-clear = {PLAIN} }", false, false, false, "allow-clear"},
		{"service imap { mechanisms-clear = {PLAIN} }", true, false, false, NULL},
		{"service imap { mechanisms-clear = {CRAM-MD5} }", false, false, false, NULL},
		{"service imap { mechanisms = {GSSAPI} }", false, false, false, "there is no keytab"},
		{"service imap { mechanisms-clear = {GSSAPI} }", false, false, true, "no realm is listed"},
		{"gssapi-realms = {\"not offered\"}", false, false, false, "REALM=domain"},
		{"gssapi-realms = {\"A.B\"}\nservice imap { mechanisms = {GSSAPI} }", false, false, true,
			"REALM=domain"},
		{"gssapi-realms = {\"=a.b\"}\nservice imap { mechanisms = {GSSAPI} }", false, false, true,
			"REALM=domain"},
		{"gssapi-realms = {\"A.B=\"}\nservice imap { mechanisms = {GSSAPI} }", false, false, true,
			"REALM=domain"},
		{"gssapi-realms = {\"A.B=A.B\"}\nservice imap { mechanisms = {GSSAPI} }", false, false, true,
			"lower case"},
		{"gssapi-realms = {\"A.B=a.b\"}\nservice imap { mechanisms = {GSSAPI} }", false, false, true,
			NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0}, text = {0};
		struct conf *conf = NULL;
		int err;

		allows_clear = rows[i].allows_clear;
		asks = rows[i].asks;
		if (rows[i].has_keytab)
			buf_printf(&text, "gssapi-keytab = \"%s\"\n", keytab);
		buf_printf(&text, "%s\n", rows[i].text);
		err = load(buf_str_view(&text), &why, &conf);
		if ((err == 0) != (rows[i].want == NULL) ||
			(rows[i].want && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("%s: %s", rows[i].text, buf_str_view(&why));
		conf_free(&conf);
		buf_deinit(&why);
		buf_deinit(&text);
	}
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

static void offered_is(const struct front_auth *auth, struct conn *conn, bool clear, const char *want)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];
	struct buf got = {0};
	size_t n = front_auth_offered(auth, conn, clear, offered);

	for (size_t i = 0; i < n; i++)
		buf_printf(&got, "%s%s", i ? " " : "", offered[i]);
	assert_null(offered[n]);
	assert_string_equal(buf_str_view(&got), want);
	buf_deinit(&got);
}

static void test_without_tls(void **state)
{
	struct loop *loop;
	struct conn *conn;
	struct front_auth *auth = front_auth_plain(), *again;
	struct sasl_session *s = NULL;
	struct sasl_options o = {.service = "imap", .mechanism = SLICE_LIT("PLAIN")};
	struct buf why = {0};
	struct conf *conf;
	int fds[2];

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], NULL, on_event, NULL, &conn), 0);
	offered_is(auth, conn, false, "");
	offered_is(auth, conn, true, "PLAIN LOGIN");
	assert_false(front_auth_takes_passwords(auth, conn, false));
	assert_true(front_auth_takes_passwords(auth, conn, true));
	assert_int_equal(front_auth_begin(auth, conn, false, &o, &s), ERR_UNSUPPORTED);
	assert_int_equal(front_auth_begin(auth, conn, true, &o, &s), 0);
	sasl_session_free(&s);
	front_auth_unref(&auth);

	allows_clear = true;
	assert_int_equal(
		load("service imap { mechanisms-clear = {scram-sha-256, CRAM-MD5, cram-md5, LOGIN} }\n", &why,
			&conf),
		ERR_CONFIG); /* words are written as they are */
	buf_clear(&why);
	assert_int_equal(
		load("service imap { mechanisms-clear = {SCRAM-SHA-256, CRAM-MD5, CRAM-MD5, LOGIN} }\n", &why,
			&conf),
		0);
	auth = front_auth_new(conf, "imap", "mail.example.com", NULL);
	conf_free(&conf);
	again = front_auth_ref(auth);
	front_auth_unref(&auth);
	offered_is(again, conn, false, "SCRAM-SHA-256 CRAM-MD5");
	offered_is(again, conn, true, "SCRAM-SHA-256 CRAM-MD5 LOGIN");
	o.mechanism = SLICE_LIT("cram-md5");
	assert_int_equal(front_auth_begin(again, conn, false, &o, &s), 0);
	sasl_session_free(&s);
	front_auth_unref(&again);
	conn_abort(&conn);
	close(fds[1]);
	loop_free(&loop);
	buf_deinit(&why);
}

static int setup(void **state)
{
	struct buf why = {0};
	int fd = mkstemp(keytab);

	(void)state;
	return fd < 0 || fchmod(fd, 0600) || close(fd) || sasl_init("test", &why);
}

static int teardown(void **state)
{
	(void)state;
	sasl_deinit();
	return unlink(keytab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_cannot_work_is_refused),
		cmocka_unit_test(test_without_tls),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
