/* The IMAP dialogue before login, over a socket pair. */
#include "tests/unit/common/front/talk.h"

#include "common/base/log.h"
#include "common/front/dialogue.h"

#define CAPS "IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID"
#define BYE_OK(tag) "* BYE Logging out.\r\n" tag " OK Logout completed.\r\n"

static const struct talk_case cases[] = {
	{"capability", "a CAPABILITY\r\n",
		"* CAPABILITY " CAPS " AUTH=PLAIN AUTH=LOGIN\r\na OK Capability completed.\r\n", NULL, false,
		false},
	{"capability without TLS", "a CAPABILITY\r\n",
		"* CAPABILITY " CAPS " LOGINDISABLED\r\na OK Capability completed.\r\n", NULL, false, true},
	{"noop, logout, nothing after it", "a NOOP\r\nb LOGOUT\r\nc NOOP\r\n",
		"a OK NOOP completed.\r\n" BYE_OK("b"), NULL, false, false},
	{"login", "a LOGIN yes secret\r\nthen this\r\n", "a handed over\r\nthen this\r\n",
		"|yes|secret|command|-:0|-|0", false, false},
	{"login, quoted", "a LOGIN \"yes\" \"a \\\"b\\\\ c\"\r\n", "a handed over\r\n",
		"|yes|a \"b\\ c|command|-:0|-|0", false, false},
	{"login, literals", "a LOGIN {3}\r\nyes {6+}\r\nsecret\r\nmore", "+ OK\r\na handed over\r\nmore",
		"|yes|secret|command|-:0|-|0", false, false},
	{"login without TLS", "a LOGIN yes secret\r\n",
		"a NO [PRIVACYREQUIRED] Use TLS before you log in.\r\n", "", false, true},
	{"authenticate without TLS", "a AUTHENTICATE PLAIN AHllcwBzZWNyZXQ=\r\n",
		"a NO [PRIVACYREQUIRED] Use TLS before you log in.\r\n", "", false, true},
	{"plain, initial response", "a AUTHENTICATE PLAIN AHllcwBzZWNyZXQ=\r\n", "a handed over\r\n",
		"|yes|secret|PLAIN|-:0|-|0", false, false},
	{"plain, challenge", "a authenticate plain\r\nAHllcwBzZWNyZXQ=\r\n", "+ \r\na handed over\r\n",
		"|yes|secret|PLAIN|-:0|-|0", false, false},
	{"plain, foreign identity is shown to the tier", "a AUTHENTICATE PLAIN Ym9iAHllcwBzZWNyZXQ=\r\n",
		"a handed over\r\n", "bob|yes|secret|PLAIN|-:0|-|0", false, false},
	{"login mechanism", "a AUTHENTICATE LOGIN\r\neWVz\r\nc2VjcmV0\r\n",
		"+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\na handed over\r\n", "|yes|secret|LOGIN|-:0|-|0", false,
		false},
	{"sasl cancelled", "a AUTHENTICATE PLAIN\r\n*\r\nb NOOP\r\n",
		"+ \r\na BAD Authentication cancelled.\r\nb OK NOOP completed.\r\n", "", false, false},
	{"sasl, bad base64", "a AUTHENTICATE PLAIN !!!!\r\nb NOOP\r\n",
		"a BAD Invalid authentication data.\r\nb OK NOOP completed.\r\n", "", false, false},
	{"sasl, unknown mechanism", "a AUTHENTICATE CRAM-MD5\r\n",
		"a NO [CANNOT] This mechanism is not offered.\r\n", "", false, false},
	{"refusals",
		"a LOGIN notnow x\r\nb LOGIN noaccount x\r\nc LOGIN notpermitted x\r\nd LOGIN inuse x\r\ne "
		"LOGIN limit x\r\n",
		"a NO [UNAVAILABLE] Temporarily unavailable, try again later.\r\n"
		"b NO [AUTHORIZATIONFAILED] There is no mailbox here that this user may use.\r\n"
		"c NO [AUTHORIZATIONFAILED] This user may not do that.\r\n"
		"d NO [INUSE] The mailbox is in use.\r\ne NO [LIMIT] Too many sessions of this user.\r\n",
		NULL, false, false},
	{"wrong thrice", "a LOGIN wrong x\r\nb LOGIN wrong x\r\nc LOGIN wrong x\r\nd NOOP\r\n",
		"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\nb NO [AUTHENTICATIONFAILED] "
		"Authentication failed.\r\n"
		"c NO [AUTHENTICATIONFAILED] Authentication failed.\r\n* BYE Too many failed logins.\r\n",
		NULL, false, false},
	{"an answer from a later turn, then another try", "a LOGIN later x\r\nb LOGIN yes y\r\n",
		"a NO [UNAVAILABLE] Temporarily unavailable, try again later.\r\nb handed over\r\n",
		"|yes|y|command|-:0|-|0", false, false},
	{"an empty password is never asked of the tier", "a LOGIN yes \"\"\r\n",
		"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n", "", false, false},
	{"a name with a control neither", "a LOGIN \"y\tes\" x\r\n",
		"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n", "", false, false},
	{"a name with a line end in a literal neither", "a LOGIN {5+}\r\ny\r\nes x\r\n",
		"a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n", "", false, false},
	{"id", "a ID (\"name\" \"x\")\r\nb ID NIL\r\n",
		"* ID (\"name\" \"Mailtier\")\r\na OK ID completed.\r\n* ID (\"name\" \"Mailtier\")\r\nb OK "
		"ID completed.\r\n",
		NULL, false, false},
	{"id from a stranger is not believed",
		"a ID (\"x-originating-ip\" \"192.0.2.7\" \"x-session-id\" \"forged\")\r\nb LOGIN yes x\r\n",
		"* ID (\"name\" \"Mailtier\")\r\na OK ID completed.\r\nb handed over\r\n",
		"|yes|x|command|-:0|-|0", false, false},
	{"id from a trusted proxy",
		"a ID (\"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"4711\" \"x-session-id\" "
		"\"abc\" "
		"\"x-client-transport\" \"TLS\")\r\nb LOGIN yes x\r\n",
		"* ID (\"name\" \"Mailtier\")\r\na OK ID completed.\r\nb handed over\r\n",
		"|yes|x|command|192.0.2.7:4711|abc|1", true, false},
	{"id of a trusted proxy with nonsense", "a ID (\"x-originating-ip\" \"not an address\")\r\n",
		"a BAD Wrong arguments.\r\n", NULL, true, false},
	{"starttls is not offered", "a STARTTLS\r\n", "a BAD TLS is not offered here.\r\n", NULL, false,
		false},
	{"unknown and senseless commands", "a SELECT INBOX\r\nb LOGIN x\r\nc NOOP x\r\n",
		"a BAD This command is not known before login.\r\nb BAD Wrong arguments.\r\nc BAD Wrong "
		"arguments.\r\n",
		NULL, false, false},
	{"http ends at once", "GET / HTTP/1.1\r\nHost: x\r\n\r\na NOOP\r\n", "", NULL, false, false},
	{"http after a command too", "a NOOP\r\nPOST http://x/ HTTP/1.1\r\n\r\n", "a OK NOOP completed.\r\n",
		NULL, false, false},
	{"a literal of a command that takes none", "a CAPABILITY {10}\r\nb NOOP\r\n",
		"a BAD No literal is taken here.\r\nb OK NOOP completed.\r\n", NULL, false, false},
	{"a literal too large, and nothing after it", "a LOGIN {99999}\r\n", "a BAD Literal too large.\r\n",
		NULL, false, false},
	{"a literal too large", "a LOGIN {99999}\r\nb NOOP\r\n",
		"a BAD Literal too large.\r\nb OK NOOP completed.\r\n", NULL, false, false},
};

static void talk_say(int fd, const char *text)
{
	talk_write(fd, text, strlen(text));
}

/* A request whose first octet comes with the command before. */
static void security_02_http_in_pieces(void **state)
{
	struct front_service service;
	char got[4096];
	int fd;

	(void)state;
	front_service_init(&service, "test", &talk_ops, NULL);
	service.allows_clear = true;
	fd = talk_open(imap_front_start, &service);
	talk_read(fd, "\r\n", got, sizeof(got));
	talk_say(fd, "a NOOP\r\nP");
	talk_read(fd, "completed.\r\n", got, sizeof(got));
	talk_say(fd, "OST http:");
	talk_say(fd, "//x/ HTTP/1.1\r\nb NOOP\r\n");
	talk_read(fd, NULL, got, sizeof(got));
	assert_string_equal(got, "<end>");
	close(fd);
	/* What only begins like one is a command. */
	fd = talk_open(imap_front_start, &service);
	talk_read(fd, "\r\n", got, sizeof(got));
	talk_say(fd, "P");
	talk_say(fd, "OST NOOP\r\n");
	talk_read(fd, "\r\n", got, sizeof(got));
	assert_string_equal(got, "POST OK NOOP completed.\r\n");
	close(fd);
	/* The fronts end at their turns' ends: the service is on our stack. */
	while (atomic_load(&service.refs) > 1)
		usleep(200);
	front_service_unref(&(struct front_service *){&service});
}

static void test_dialogue(void **state)
{
	(void)state;
	talk_run(imap_front_start, cases, ARRAY_LEN(cases));
}

/* Ten senseless commands, and no more. */
static void test_wrong_commands(void **state)
{
	char in[1024] = "", want[2048] = "";
	struct talk_case c = {"eleven wrong commands", in, want, NULL, false, false};

	(void)state;
	for (int i = 0; i < 11; i++) {
		strcat(in, "x NONSENSE\r\n");
		if (i < 10)
			strcat(want, "x BAD This command is not known before login.\r\n");
	}
	strcat(want, "* BYE Too many wrong commands.\r\n");
	talk_run(imap_front_start, &c, 1);
}

/* Endless lines, deep lists, many arguments, a flood: each is refused, none makes the front take more memory than it may. */
static void test_security_09_limits_before_login(void **state)
{
	static char line[20000], lists[3000], args[3000];
	const struct talk_case limits[] = {
		{"endless line", line, "* BYE Line or literal too long.\r\n", NULL, false, false},
		{"nested lists", lists, "a BAD Lists nested too deeply.\r\nb OK NOOP completed.\r\n", NULL,
			false, false},
		{"many arguments", args, "a BAD Too many arguments.\r\nb OK NOOP completed.\r\n", NULL, false,
			false},
	};

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	snprintf(lists, sizeof(lists), "a ID ");
	memset(lists + 5, '(', 1000);
	strcpy(lists + 1005, "\r\nb NOOP\r\n");
	snprintf(args, sizeof(args), "a ID ");
	for (size_t i = 5; i < 1000; i += 2)
		memcpy(args + i, "x ", 3);
	strcat(args, "\r\nb NOOP\r\n");
	talk_run(imap_front_start, limits, ARRAY_LEN(limits));
	assert_true(DIALOGUE_INPUT_MOST + DIALOGUE_ARENA_MOST + DIALOGUE_OUTPUT_MOST <= FRONT_MEMORY_MOST);
	assert_true(DIALOGUE_TICKET_INPUT_MOST + DIALOGUE_TICKET_ARENA_MOST + DIALOGUE_OUTPUT_MOST <=
		    FRONT_TICKET_MEMORY_MOST);
}

/* No answer of the tier: the deadline answers, and tells the tier. */
static void test_deadline_of_a_login(void **state)
{
	struct front_service service;
	char got[1024];
	int fd;

	(void)state;
	front_service_init(&service, "test", &talk_ops, NULL);
	service.allows_clear = true;
	service.limits.login_ms = 50;
	atomic_store(&talk_cancels, 0);
	fd = talk_open(imap_front_start, &service);
	talk_read(fd, "\r\n", got, sizeof(got));
	talk_write(fd, "a LOGIN never x\r\n", 17);
	talk_read(fd, "\r\n", got, sizeof(got));
	assert_string_equal(got, "a NO [UNAVAILABLE] Temporarily unavailable, try again later.\r\n");
	assert_int_equal(atomic_load(&talk_cancels), 1);
	/* Gone amid a login: the tier is told too. */
	talk_write(fd, "b LOGIN never x\r\n", 17);
	close(fd);
	while (atomic_load(&service.refs) > 1)
		usleep(200);
	assert_int_equal(atomic_load(&talk_cancels), 2);
	front_service_unref(&(struct front_service *){&service});
}

/* Silence ends with BYE. */
static void test_deadline_of_a_command(void **state)
{
	struct front_service service;
	char got[1024];
	int fd;

	(void)state;
	front_service_init(&service, "test", &talk_ops, NULL);
	service.limits.command_ms = 50;
	fd = talk_open(imap_front_start, &service);
	talk_read(fd, "\r\n", got, sizeof(got));
	talk_read(fd, NULL, got, sizeof(got));
	assert_string_equal(got, "* BYE Silent for too long.\r\n<end>");
	close(fd);
	while (atomic_load(&service.refs) > 1)
		usleep(200);
	front_service_unref(&(struct front_service *){&service});
}

/* The time of a password hash, which an unknown name does not cost, is part of the delay and not added to it. */
static void test_the_delay_of_a_failed_login_counts_from_its_beginning(void **state)
{
	(void)state;
	assert_int_equal(front_delay_left(2000, 0, 5000), 2000);
	assert_int_equal(front_delay_left(2000, 5000, 5000), 2000);
	assert_int_equal(front_delay_left(2000, 5000, 5030), 1970);
	assert_int_equal(front_delay_left(2000, 5000, 9000), 0);
}

/* Anybody may tell a proxy of fewer hops, and of nothing else. */
static void test_hops_are_counted_down(void **state)
{
	static const struct {
		const char *in;
		unsigned want;
	} rows[] = {
		{"a LOGIN yes x\r\n", FRONT_TTL},
		{"a ID (\"x-proxy-ttl\" \"3\")\r\nb LOGIN yes x\r\n", 3},
		{"a ID (\"x-proxy-ttl\" \"0\")\r\nb LOGIN yes x\r\n", 0},
		{"a ID (\"x-proxy-ttl\" \"9\" \"x-originating-ip\" \"192.0.2.7\")\r\nb LOGIN yes x\r\n",
			FRONT_TTL},
		{"a ID (\"x-proxy-ttl\" \"many\")\r\nb LOGIN yes x\r\n", FRONT_TTL},
	};
	char got[2048];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
			talk_with_proxy(imap_front_start, rows[i].in, got, sizeof(got)), rows[i].want);
		assert_non_null(strstr(got, "handed over"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_delay_of_a_failed_login_counts_from_its_beginning),
		cmocka_unit_test(test_dialogue),
		cmocka_unit_test(security_02_http_in_pieces),
		cmocka_unit_test(test_hops_are_counted_down),
		cmocka_unit_test(test_wrong_commands),
		cmocka_unit_test(test_security_09_limits_before_login),
		cmocka_unit_test(test_deadline_of_a_login),
		cmocka_unit_test(test_deadline_of_a_command),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, talk_setup, talk_teardown);
}
