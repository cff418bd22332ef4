/* The POP3 dialogue before login, over a socket pair. */
#include "tests/unit/common/front/talk.h"

#include "common/base/log.h"

#define CAPA "RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nLANG\r\n"

static const struct talk_case cases[] = {
	{"capa", "CAPA\r\n", "+OK\r\n" CAPA "USER\r\nSASL PLAIN LOGIN\r\n.\r\n", NULL, false, false},
	{"capa without TLS", "CAPA\r\n", "+OK\r\n" CAPA ".\r\n", NULL, false, true},
	{"capa for a trusted proxy", "CAPA\r\n",
		"+OK\r\n" CAPA "USER\r\nSASL PLAIN LOGIN\r\nXCLIENT\r\n.\r\n", NULL, true, false},
	{"user and pass", "USER yes\r\nPASS secret\r\nthen\r\n", "+OK\r\n handed over\r\nthen\r\n",
		"|yes|secret|command|-:0|-|0", false, false},
	{"blanks of a password count", "user yes\r\npass  two words \r\n", "+OK\r\n handed over\r\n",
		"|yes| two words |command|-:0|-|0", false, false},
	{"pass without user", "PASS x\r\nNOOP\r\n", "-ERR Wrong arguments, or out of order.\r\n+OK\r\n", "",
		false, false},
	{"the name is forgotten after a refusal", "USER notnow\r\nPASS x\r\nPASS x\r\n",
		"+OK\r\n-ERR [SYS/TEMP] Temporarily unavailable, try again later.\r\n-ERR Wrong arguments, "
		"or out of order.\r\n",
		NULL, false, false},
	{"user without TLS", "USER yes\r\nPASS x\r\n",
		"-ERR [AUTH] Use TLS before you log in.\r\n-ERR Wrong arguments, or out of order.\r\n", "",
		false, true},
	{"plain", "AUTH PLAIN AHllcwBzZWNyZXQ=\r\n", " handed over\r\n", "|yes|secret|PLAIN|-:0|-|0", false,
		false},
	{"plain, challenge", "AUTH PLAIN\r\nAHllcwBzZWNyZXQ=\r\nmore", "+ \r\n handed over\r\nmore",
		"|yes|secret|PLAIN|-:0|-|0", false, false},
	{"sasl cancelled", "AUTH LOGIN\r\n*\r\nQUIT\r\n",
		"+ VXNlcm5hbWU6\r\n-ERR Authentication cancelled.\r\n+OK Bye.\r\n", "", false, false},
	{"list of mechanisms", "AUTH\r\n", "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n", NULL, false, false},
	{"refusals",
		"USER noaccount\r\nPASS x\r\nUSER inuse\r\nPASS x\r\nUSER limit\r\nPASS x\r\nUSER "
		"notpermitted\r\nPASS x\r\n",
		"+OK\r\n-ERR [SYS/PERM] There is no mailbox here that this user may use.\r\n+OK\r\n-ERR "
		"[IN-USE] The "
		"mailbox is in use.\r\n"
		"+OK\r\n-ERR [SYS/TEMP] Too many sessions of this user.\r\n+OK\r\n-ERR [AUTH] This user may "
		"not do that.\r\n",
		NULL, false, false},
	{"wrong thrice", "USER wrong\r\nPASS x\r\nUSER wrong\r\nPASS x\r\nUSER wrong\r\nPASS x\r\nNOOP\r\n",
		"+OK\r\n-ERR [AUTH] Authentication failed.\r\n+OK\r\n-ERR [AUTH] Authentication failed.\r\n"
		"+OK\r\n-ERR [AUTH] Authentication failed.\r\n-ERR Too many failed logins.\r\n",
		NULL, false, false},
	{"xclient of a stranger", "XCLIENT ADDR=192.0.2.7 SESSION=forged\r\nUSER yes\r\nPASS x\r\n",
		"-ERR You are not a trusted proxy.\r\n+OK\r\n handed over\r\n", "|yes|x|command|-:0|-|0",
		false, false},
	{"xclient of a trusted proxy",
		"XCLIENT ADDR=2001:db8::7 PORT=4711 SESSION=abc CLIENT-TRANSPORT=TLS TTL=3\r\nUSER "
		"yes\r\nPASS x\r\n",
		"+OK Updated.\r\n+OK\r\n handed over\r\n", "|yes|x|command|2001:db8::7:4711|abc|1", true,
		false},
	{"xclient with nonsense", "XCLIENT ADDR=nobody\r\nXCLIENT PORT=99999\r\nXCLIENT SESSION=\r\n",
		"-ERR Wrong arguments, or out of order.\r\n-ERR Wrong arguments, or out of order.\r\n-ERR "
		"Wrong arguments, or out of order.\r\n",
		NULL, true, false},
	{"controls in a line", "USER y\tes\r\nNOOP\r\n", "-ERR This is no command.\r\n+OK\r\n", "", false,
		false},
	/* RFC 6856 */
	{"languages", "LANG\r\nLANG en\r\nLANG *\r\nLANG sv\r\nLANG en-GB\r\nLANG en sv\r\n",
		"+OK Languages:\r\nen English\r\n.\r\n+OK en English it is.\r\n+OK en English it is.\r\n"
		"-ERR This language is not known here.\r\n-ERR This language is not known here.\r\n"
		"-ERR Wrong arguments, or out of order.\r\n",
		NULL, false, false},
	{"UTF-8", "UTF8 x\r\nUTF8\r\nUTF8\r\nSTLS\r\nUSER yes\r\nPASS \xc3\xa4\r\n",
		"-ERR Wrong arguments, or out of order.\r\n+OK UTF-8 from here on.\r\n+OK UTF-8 from here "
		"on.\r\n"
		"-ERR TLS is to be begun before UTF8.\r\n+OK\r\n handed over\r\n",
		"|yes|\xc3\xa4|command|-:0|-|0|utf8", false, false},
	{"no UTF-8 in a password", "USER yes\r\nPASS \xe4\r\nNOOP\r\n",
		"+OK\r\n-ERR [AUTH] Authentication failed.\r\n+OK\r\n", "", false, false},
	{"unknown commands", "STAT\r\nRETR 1\r\nSTLS\r\n",
		"-ERR This command is not known before login.\r\n-ERR This command is not known before "
		"login.\r\n-ERR TLS is not offered here.\r\n",
		NULL, false, false},
	{"http ends at once", "OPTIONS / HTTP/1.1\r\n\r\nQUIT\r\n", "", NULL, false, false},
};

static void test_dialogue(void **state)
{
	(void)state;
	talk_run(pop3_front_start, cases, ARRAY_LEN(cases));
}

static void test_security_09_limits_before_login(void **state)
{
	static char line[20000];
	const struct talk_case limits[] = {
		{"endless line", line, "-ERR Line too long.\r\n", NULL, false, false}};

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	talk_run(pop3_front_start, limits, ARRAY_LEN(limits));
}

static void test_greeting(void **state)
{
	struct front_service service;
	char got[256];

	(void)state;
	for (int trusts = 0; trusts < 2; trusts++) {
		int fd;

		front_service_init(&service, "test", &talk_ops, NULL);
		service.host = "mail.example.com";
		atomic_store(&talk_trusts, trusts);
		fd = talk_open(pop3_front_start, &service);
		talk_read(fd, "\r\n", got, sizeof(got));
		assert_string_equal(got, trusts ? "+OK [XCLIENT] mail.example.com Mailtier ready.\r\n"
						: "+OK mail.example.com Mailtier ready.\r\n");
		close(fd);
		while (atomic_load(&service.refs) > 1)
			usleep(200);
		front_service_unref(&(struct front_service *){&service});
	}
}

/* Anybody may tell a proxy of fewer hops, and of nothing else. */
static void test_hops_are_counted_down(void **state)
{
	static const struct {
		const char *in;
		unsigned want;
	} rows[] = {
		{"USER yes\r\nPASS x\r\n", FRONT_TTL},
		{"XCLIENT TTL=3\r\nUSER yes\r\nPASS x\r\n", 3},
		{"XCLIENT TTL=1\r\nXCLIENT TTL=4\r\nUSER yes\r\nPASS x\r\n", 1},
		{"XCLIENT TTL=99\r\nUSER yes\r\nPASS x\r\n", FRONT_TTL},
		{"XCLIENT TTL=3 ADDR=192.0.2.7\r\nUSER yes\r\nPASS x\r\n", FRONT_TTL},
		{"XCLIENT TTL=-1\r\nUSER yes\r\nPASS x\r\n", FRONT_TTL},
	};
	char got[2048];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
			talk_with_proxy(pop3_front_start, rows[i].in, got, sizeof(got)), rows[i].want);
		assert_non_null(strstr(got, "handed over"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogue),
		cmocka_unit_test(test_hops_are_counted_down),
		cmocka_unit_test(test_security_09_limits_before_login),
		cmocka_unit_test(test_greeting),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, talk_setup, talk_teardown);
}
