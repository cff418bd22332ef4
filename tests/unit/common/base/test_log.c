/* Where lines go: a syslog daemon and a journal are datagram sockets of the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/log.h"

static char path[64];

static int listen_at(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(path, sizeof(path), "/tmp/test-log-%d", (int)getpid());
	unlink(path);
	strcpy(to.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void receive(int fd, char *text, size_t size)
{
	ssize_t n = recv(fd, text, size - 1, MSG_DONTWAIT);

	text[n < 0 ? 0 : n] = 0;
}

static void test_syslog(void **state)
{
	int fd = listen_at();
	char got[4096], month[4];
	int priority, day, h, m, s;
	char rest[2048];

	(void)state;
	assert_int_equal(log_to(LOG_TO_SYSLOG, path, "mailtier-test"), 0);
	log_info("smtp", "abcd: from=<%s>", "a\r\nb");
	receive(fd, got, sizeof(got));
	assert_int_equal(
		sscanf(got, "<%d>%3s %d %d:%d:%d %2000[^\n]", &priority, month, &day, &h, &m, &s, rest), 7);
	assert_int_equal(priority, (2 << 3) | 6);
	assert_non_null(strstr(rest, "mailtier-test["));
	assert_non_null(strstr(rest, "]: INFO smtp: abcd: from=<a\\x0d\\x0ab>"));
	close(fd);
	unlink(path);
}

static void test_journal(void **state)
{
	int fd = listen_at();
	char got[4096];

	(void)state;
	assert_int_equal(log_to(LOG_TO_JOURNAL, path, "mailtier-test"), 0);
	log_error("smtp", "abcd2345: broken\nPRIORITY=0");
	receive(fd, got, sizeof(got));
	assert_string_equal(got,
		"PRIORITY=3\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=mailtier-test\nMAILTIER_AREA=smtp\n"
		"MAILTIER_SESSION=abcd2345\nMESSAGE=smtp: abcd2345: broken\\x0aPRIORITY=0\n");
	log_warn("imap", "s1-23: begins");
	receive(fd, got, sizeof(got));
	assert_non_null(strstr(got, "MAILTIER_SESSION=s1-23\n"));
	log_warn("net", "no session: here");
	receive(fd, got, sizeof(got));
	assert_null(strstr(got, "MAILTIER_SESSION"));
	/* A daemon that takes nothing holds nobody up. */
	for (int i = 0; i < 100000; i++)
		log_info("smtp", "line %d", i);
	close(fd);
	unlink(path);
}

static void test_levels(void **state)
{
	static const char *const list[] = {"smtp=debug", "imap=error"}, *const bad[] = {"smtp"},
				 *const worse[] = {"smtp=loud"};
	int fd = listen_at();
	char got[4096];

	(void)state;
	assert_int_equal(log_to(LOG_TO_JOURNAL, path, "t"), 0);
	assert_false(log_is_on(LOG_DEBUG));
	assert_int_equal(log_set_levels(bad, 1), -1);
	assert_int_equal(log_set_levels(worse, 1), -1);
	assert_int_equal(log_set_levels(list, 2), 0);
	assert_true(log_is_on(LOG_DEBUG));
	log_debug("smtp", "yes");
	receive(fd, got, sizeof(got));
	assert_non_null(strstr(got, "MESSAGE=smtp: yes\n"));
	log_debug("lmtp", "no");
	log_warn("imap", "no");
	receive(fd, got, sizeof(got));
	assert_string_equal(got, "");
	log_info("lmtp", "yes");
	receive(fd, got, sizeof(got));
	assert_non_null(strstr(got, "MESSAGE=lmtp: yes\n"));
	assert_int_equal(log_set_levels(NULL, 0), 0);
	assert_false(log_is_on(LOG_DEBUG));
	close(fd);
	unlink(path);
}

/* The daemon has gone: what it would have got goes to standard error, and nothing ends. */
static void test_nobody_listens(void **state)
{
	(void)state;
	assert_int_equal(log_to(LOG_TO_SYSLOG, "/tmp/test-log-nobody", "t"), 0);
	log_info("smtp", "this line belongs here");
	assert_int_equal(log_to(LOG_TO_STREAM, NULL, "t"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syslog),
		cmocka_unit_test(test_journal),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
