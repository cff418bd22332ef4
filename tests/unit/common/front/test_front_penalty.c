/*
 * Penalties in the dialogues of IMAP, POP3 and SMTP: who waits before the tier is asked, what counts as a failure, whose address
 * counts. The clients' addresses are told by the test, which is a trusted proxy. What the delays are is penalty.c's, on a fake
 * clock; here they are so short that nobody is kept, or so long that only the end of the test ends them.
 */
#include "tests/unit/common/front/talk.h"

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/front/front_auth.h"
#include "common/front/front_penalty.h"
#include "common/front/smtp_front.h"

#define SHORT_MS 60
#define LONG_MS 60000

static struct penalty *penalties;

static void set_delay(uint64_t ms)
{
	const struct penalty_limits limits = {.delay_ms = ms,
		.most_ms = ms,
		.free = 1,
		.decay_ms = 3600000,
		.waiting = 1,
		.known_ms = 3600000};

	if (penalties)
		penalty_set_limits(penalties, &limits);
	else
		penalties = penalty_new(1000, 1000, &limits);
}

static int64_t delayed(void)
{
	return metric_get(metrics_counter("mailtier_auth_penalty_delayed", NULL, ""));
}

static int64_t waiting(void)
{
	return metric_get(metrics_gauge("mailtier_auth_penalty_waiting", NULL, ""));
}

static void wait_for_waiting(int64_t want)
{
	for (int i = 0; i < TALK_WAIT_MS && waiting() != want; i++)
		usleep(1000);
	assert_int_equal(waiting(), want);
}

static void add_record(void *arg, const struct penalty_record *r)
{
	size_t n = strlen(arg);

	snprintf((char *)arg + n, 512 - n, "%s:%u ", r->name, r->failures);
}

/* "NAME:FAILURES " of all records, in no order. */
static const char *records(void)
{
	static char text[512];
	size_t at = 0;

	text[0] = '\0';
	while (penalty_each(penalties, &at, add_record, text))
		;
	return text;
}

/* ---- one protocol ---- */

struct protocol {
	const char *name;
	int (*open)(void);
	const char *hello_end;
	const char *told[2]; /* before and after the address */
	const char *told_end;
	const char *login[2]; /* before the name, before the password; NULL: AUTH PLAIN */
	const char *yes_end, *no_end, *not_now;
};

static struct front_service fronts[2];
static struct smtp_service submission;

static int open_imap(void)
{
	return talk_open(imap_front_start, &fronts[0]);
}

static int open_pop3(void)
{
	return talk_open(pop3_front_start, &fronts[1]);
}

static void smtp_begin(void *arg)
{
	struct conn *conn;

	require(conn_open_fd(loop_current(), *(int *)arg, NULL, talk_echo, NULL, &conn) == 0);
	smtp_front_start(&submission, conn, 0);
	free(arg);
}

static int open_smtp(void)
{
	int fds[2], *fd = malloc(sizeof(*fd));

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*fd = fds[0];
	loop_post(loop_group_at(talk_group, 0), smtp_begin, fd);
	return fds[1];
}

static const struct protocol protocols[] = {
	{"imap", open_imap, "\r\n", {"i ID (\"x-originating-ip\" \"", "\")\r\n"}, "OK ID completed.\r\n",
		{"l LOGIN ", " "}, "handed over\r\n", "failed.\r\n",
		"l NO [UNAVAILABLE] Temporarily unavailable, try again later.\r\n* BYE Too many failed "
		"logins.\r\n<end>"},
	{"pop3", open_pop3, "\r\n", {"XCLIENT ADDR=", "\r\n"}, "+OK Updated.\r\n", {"USER ", "\r\nPASS "},
		"handed over\r\n", "failed.\r\n",
		"+OK\r\n-ERR [SYS/TEMP] Temporarily unavailable, try again later.\r\n-ERR Too many failed "
		"logins.\r\n<end>"},
	{"smtp", open_smtp, "\r\n", {"XCLIENT ADDR=", "\r\nEHLO x\r\n"}, "250 ENHANCEDSTATUSCODES\r\n",
		{NULL, NULL}, "235 2.7.0 Welcome\r\n", "wrong\r\n",
		"454 4.7.0 Cannot check that now\r\n421 4.7.0 Too many failed logins\r\n<end>"},
};

/* A connection whose client is told; NULL: nothing is told. */
static int begin(const struct protocol *p, const char *client)
{
	char text[256], got[2048];
	int fd = p->open();

	talk_read(fd, p->hello_end, got, sizeof(got));
	if (client)
		snprintf(text, sizeof(text), "%s%s%s", p->told[0], client, p->told[1]);
	else
		snprintf(text, sizeof(text), "%s", p->login[0] ? "" : "EHLO x\r\n");
	talk_write(fd, text, strlen(text));
	if (client || !p->login[0])
		talk_read(fd, p->told_end, got, sizeof(got));
	return fd;
}

static void send_login(const struct protocol *p, int fd, const char *user, const char *password)
{
	char text[512];

	if (p->login[0]) {
		snprintf(text, sizeof(text), "%s%s%s%s\r\n", p->login[0], user, p->login[1], password);
	} else {
		char plain[256];
		struct buf line = {0};
		int n = snprintf(plain, sizeof(plain), "%c%s%c%s", 0, user, 0, password);

		buf_add_str(&line, "AUTH PLAIN ");
		base64_encode(&line, slice_of(plain, (size_t)n));
		snprintf(text, sizeof(text), "%s\r\n", buf_str_view(&line));
		buf_deinit(&line);
	}
	talk_write(fd, text, strlen(text));
}

/* Logs in and says what came until `end`. */
static void expect_login(
	const struct protocol *p, int fd, const char *user, const char *password, const char *end)
{
	char got[2048];

	send_login(p, fd, user, password);
	talk_read(fd, end, got, sizeof(got));
	if (strlen(got) < strlen(end) || strcmp(got + strlen(got) - strlen(end), end) != 0)
		fail_msg("%s: %s %s: %s", p->name, user, password, got);
}

static void fail_once(const struct protocol *p, const char *client, const char *user, const char *password)
{
	int fd = begin(p, client);

	expect_login(p, fd, user, password, p->no_end);
	close(fd);
}

static void pass_once(const struct protocol *p, const char *client, const char *user)
{
	int fd = begin(p, client);

	expect_login(p, fd, user, "x", p->yes_end);
	close(fd);
}

static void each_protocol(void (*fn)(const struct protocol *p))
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		atomic_store(&talk_trusts, true);
		set_delay(SHORT_MS);
		(void)penalty_clear_all(penalties);
		fn(&protocols[i]);
		wait_for_waiting(0);
	}
}

static void failures_delay(const struct protocol *p)
{
	char a[32], b[32], me[32], you[32];
	int64_t before = delayed();
	uint64_t began;

	/* Names and addresses of this protocol's run alone: known good ones stay. */
	snprintf(a, sizeof(a), "192.0.2.%d", p->name[0]);
	snprintf(b, sizeof(b), "198.51.100.%d", p->name[0]);
	snprintf(me, sizeof(me), "yes-%s", p->name);
	snprintf(you, sizeof(you), "yes-too-%s", p->name);
	fail_once(p, a, "wrong", "1");
	pass_once(p, b, you);
	assert_int_equal(delayed(), before);
	fail_once(p, a, "wrong", "2");
	assert_int_equal(delayed(), before);
	began = clock_mono_ms();
	pass_once(p, a, me);
	assert_true(clock_mono_ms() - began >= SHORT_MS);
	assert_int_equal(delayed(), before + 1);
	/* Another address; and this one, where he is known now. */
	pass_once(p, b, me);
	pass_once(p, a, me);
	assert_int_equal(delayed(), before + 1);
	/* The user who was guessed at waits elsewhere. */
	fail_once(p, b, "wrong", "3");
	assert_int_equal(delayed(), before + 2);
}

static void test_failures_delay_the_next_login(void **state)
{
	(void)state;
	each_protocol(failures_delay);
}

static void too_many(const struct protocol *p)
{
	char a[32], got[2048];
	int first, second;

	snprintf(a, sizeof(a), "203.0.113.%d", p->name[0]);
	fail_once(p, a, "wrong", "1");
	fail_once(p, a, "wrong", "2");
	set_delay(LONG_MS);
	first = begin(p, a);
	send_login(p, first, "yes-nobody", "x");
	wait_for_waiting(1);
	second = begin(p, a);
	send_login(p, second, "yes-nobody", "x");
	talk_read(second, NULL, got, sizeof(got));
	assert_string_equal(got, p->not_now);
	close(second);
	/* The first one goes amid its wait; its place is free again. */
	close(first);
	wait_for_waiting(0);
	first = begin(p, a);
	send_login(p, first, "yes-nobody", "x");
	wait_for_waiting(1);
	close(first);
}

static void test_too_many_waiting_are_refused_at_once(void **state)
{
	(void)state;
	each_protocol(too_many);
}

/* Only wrong credentials count, and those of a client whom the proxy has told. */
static void what_counts(const struct protocol *p)
{
	static const char *const others[] = {"notnow", "noaccount", "notpermitted", "unserved"};
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(others) * 4; i++) {
		fd = begin(p, "192.0.2.200");
		expect_login(p, fd, others[i % ARRAY_LEN(others)], "x", "\r\n");
		close(fd);
	}
	fail_once(p, NULL, "wrong", "1");
	fail_once(p, NULL, "wrong", "2");
	assert_string_equal(records(), "");
	/* The listener's domain makes a bare name whole. */
	fail_once(p, "192.0.2.201", "wrong", "1");
	assert_non_null(strstr(records(), "wrong@test.example:1 "));
	assert_non_null(strstr(records(), "192.0.2.201:1 "));
	/* The same again is no guess. */
	fail_once(p, "192.0.2.201", "wrong", "1");
	assert_non_null(strstr(records(), "192.0.2.201:1 "));
}

static void test_only_wrong_credentials_of_clients_count(void **state)
{
	(void)state;
	each_protocol(what_counts);
}

/* Who has a hash that serves no challenge is not told from who is not there: by no word, and by no end. */
static void fail_alike(const struct protocol *p)
{
	static const char *const users[] = {"wrong", "unserved"};
	char got[ARRAY_LEN(users)][4096];

	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		int fd = begin(p, "192.0.2.203");

		for (size_t k = 0; k < 40; k++)
			send_login(p, fd, users[i], "x");
		talk_read(fd, NULL, got[i], sizeof(got[i]));
		close(fd);
	}
	assert_non_null(strstr(got[0], "<end>"));
	assert_string_equal(got[0], got[1]);
}

static void security_07_what_cannot_be_checked_fails_as_what_is_wrong(void **state)
{
	(void)state;
	each_protocol(fail_alike);
}

#define FAILED_MS 150

/* What a penalty has made wait does not hide how long the answer took: the delay of a failure comes on top. */
static void delay_on_top(const struct protocol *p)
{
	uint64_t began;

	fail_once(p, "192.0.2.204", "wrong", "1");
	fail_once(p, "192.0.2.204", "wrong", "2");
	set_delay(FAILED_MS);
	began = clock_mono_ms();
	fail_once(p, "192.0.2.204", "wrong", "3");
	assert_true(clock_mono_ms() - began >= 2 * FAILED_MS - 2);
}

static void set_failed_delay(uint64_t ms)
{
	fronts[0].limits.failed_delay_ms = fronts[1].limits.failed_delay_ms =
		submission.limits.failed_delay_ms = ms;
}

static void security_a_penalty_hides_no_time(void **state)
{
	(void)state;
	set_failed_delay(FAILED_MS);
	each_protocol(delay_on_top);
	set_failed_delay(0);
}

/* Whatever way a name is written, it is the same user. */
static void test_names_have_one_form(void **state)
{
	static const char *const rows[][2] = {{"alice@example.com", "alice@example.com"},
		{"Alice@Example.COM", "alice@example.com"}, {"alice@example.com.", "alice@example.com"},
		{"alice", "alice@test.example"}, {"ALICE", "alice@test.example"},
		{"a.b-c_d@x-y.example.com", "a.b-c_d@x-y.example.com"},
		{"alice+x@example.com", "alice@example.com"}, {"Alice+X@example.com", "alice@example.com"},
		{"+x@example.com", "+x@example.com"},
		{"alice@b\xc3\xbc"
		 "cher.example",
			"alice@xn--bcher-kva.example"},
		{"alice@xn--bcher-kva.example", "alice@xn--bcher-kva.example"}};
	struct addr client;

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.1"), 0, &client), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct penalty_attempt a;
		uint64_t ms;

		assert_int_equal(front_penalty_begin(
					 penalties, &client, slice_str(rows[i][0]), "test.example", &a, &ms),
			0);
		if (strcmp(a.name, rows[i][1]) != 0)
			fail_msg("%s is %s", rows[i][0], a.name);
		penalty_waited(&a);
	}
}

/* Proxies that log in on behalf of users whom they have checked show a credential of their own. */
static void test_a_proxys_own_login_is_nobodys_failure(void **state)
{
	const struct protocol *p = &protocols[0];
	static const char plain[] = "alice\0wrong\0x";
	struct buf line = {0};
	char got[2048];
	int fd = begin(p, "192.0.2.202");

	(void)state;
	(void)penalty_clear_all(penalties);
	buf_add_str(&line, "a AUTHENTICATE PLAIN ");
	base64_encode(&line, slice_of(plain, sizeof(plain) - 1));
	buf_add_str(&line, "\r\n");
	talk_write(fd, line.data, buf_len(&line));
	talk_read(fd, "failed.\r\n", got, sizeof(got));
	assert_non_null(strstr(got, "a NO [AUTHENTICATIONFAILED]"));
	assert_string_equal(records(), "");
	close(fd);
	buf_deinit(&line);
}

/* ---- set-up ---- */

static void smtp_login(struct smtp_front *f, const struct front_credentials *c)
{
	static const struct {
		const char *user;
		enum front_result result;
	} refusals[] = {{"wrong", FRONT_WRONG}, {"notnow", FRONT_NOT_NOW}, {"noaccount", FRONT_NO_ACCOUNT},
		{"notpermitted", FRONT_NOT_PERMITTED}, {"unserved", FRONT_UNSERVED}};
	enum front_result result = FRONT_OK;

	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		if (slice_is_str(c->authcid, refusals[i].user))
			result = refusals[i].result;
	}
	smtp_front_answer_login(f, result, c->authcid, NULL);
}

static void smtp_end(struct smtp_front *f)
{
	(void)f;
}

static bool smtp_is_trusted(struct smtp_front *f)
{
	(void)f;
	return atomic_load(&talk_trusts);
}

static int setup(void **state)
{
	static const struct smtp_ops ops = {
		.end = smtp_end, .is_trusted = smtp_is_trusted, .login = smtp_login};

	set_delay(SHORT_MS);
	for (size_t i = 0; i < ARRAY_LEN(fronts); i++) {
		front_service_init(&fronts[i], "test", &talk_ops, NULL);
		fronts[i].allows_clear = true;
		fronts[i].limits.failed_delay_ms = 0;
		fronts[i].penalty = penalties;
		fronts[i].domain = "test.example";
	}
	smtp_service_init(&submission, "submission", &ops, NULL);
	submission.allows_clear = true;
	submission.auth = front_auth_plain();
	submission.limits.failed_delay_ms = 0;
	submission.penalty = penalties;
	submission.domain = "test.example";
	return talk_setup(state);
}

static int teardown(void **state)
{
	struct smtp_service *s = &submission;

	/* Fronts end on the loop: the services are ours. */
	while (atomic_load(&fronts[0].refs) + atomic_load(&fronts[1].refs) + atomic_load(&submission.refs) >
		3)
		usleep(200);
	(void)talk_teardown(state);
	for (size_t i = 0; i < ARRAY_LEN(fronts); i++)
		front_service_unref(&(struct front_service *){&fronts[i]});
	smtp_service_unref(&s);
	penalty_free(&penalties);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures_delay_the_next_login),
		cmocka_unit_test(test_too_many_waiting_are_refused_at_once),
		cmocka_unit_test(test_only_wrong_credentials_of_clients_count),
		cmocka_unit_test(security_07_what_cannot_be_checked_fails_as_what_is_wrong),
		cmocka_unit_test(security_a_penalty_hides_no_time),
		cmocka_unit_test(test_names_have_one_form),
		cmocka_unit_test(test_a_proxys_own_login_is_nobodys_failure),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, setup, teardown);
}
