/*
 * smtp_front on one end of a socket pair, on a loop of its own thread, with a fake tier that answers
 * recipients late and in reverse order. What the flow tests cannot see: order of replies, and that each
 * transaction is reset exactly once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/front/smtp_front.h"

#define WAIT_MS 3000
#define LATE_MOST 64

static struct loop_group *group;
static struct smtp_service services[2]; /* SMTP, LMTP */
static bool trusts = true;

/* The fake tier; one session at a time, touched on its loop, read after the session's end. */
static struct {
	struct smtp_front *front;
	unsigned late[LATE_MOST], late_count;
	unsigned accepted[LATE_MOST], accepted_count;
	struct buf body;
	_Atomic unsigned mails, orders, cuts, data_cuts, sents, ends;
} tier;

static void end(struct smtp_front *f)
{
	(void)f;
	tier.front = NULL;
	tier.ends++;
}

static bool is_trusted(struct smtp_front *f)
{
	(void)f;
	return trusts;
}

static void mail(struct smtp_front *f, const struct smtp_mail *m)
{
	tier.front = f;
	if (slice_is_str(m->path.local, "refused")) {
		smtp_front_answer_mail(f, SMTP_ANSWER(550, "5.7.1", "not you"));
		return;
	}
	tier.mails++;
	tier.late_count = tier.accepted_count = 0;
	buf_deinit(&tier.body);
	smtp_front_answer_mail(f, SMTP_ANSWER(250, "2.1.0", "ok"));
}

/* Answers all that wait, the last one first. */
static void answer_late(void *arg)
{
	struct smtp_front *f = arg;

	while (tier.front == f && tier.late_count) {
		char text[32];
		unsigned i = tier.late[--tier.late_count];

		snprintf(text, sizeof(text), "number %u", i);
		smtp_front_answer_rcpt(
			f, i, &(struct smtp_answer){i % 3 == 2 ? 550 : 250, SLICE_LIT(""), slice_str(text)});
	}
}

static void rcpt(struct smtp_front *f, unsigned index, const struct smtp_rcpt *rcpt)
{
	(void)rcpt;
	tier.late[tier.late_count++] = index;
	if (index % 3 != 2)
		tier.accepted[tier.accepted_count++] = index;
	loop_defer(smtp_front_loop(f), answer_late, f);
}

static void data_begin(struct smtp_front *f)
{
	smtp_front_answer_data(f, SMTP_ANSWER(354, "", "go"));
}

static void let_go(void *arg)
{
	if (tier.front == arg)
		smtp_front_hold_data(arg, false);
}

static void data_chunk(struct smtp_front *f, struct slice bytes)
{
	buf_add_slice(&tier.body, bytes);
	smtp_front_hold_data(f, true);
	loop_defer(smtp_front_loop(f), let_go, f);
}

static void answer_ends(void *arg)
{
	struct smtp_front *f = arg;

	if (tier.front != f)
		return;
	if (!smtp_front_service(f)->is_lmtp) {
		smtp_front_answer_end(f, 0, SMTP_ANSWER(250, "2.0.0", "done"));
		return;
	}
	while (tier.front == f && tier.accepted_count) {
		char text[32];
		unsigned i = tier.accepted[--tier.accepted_count];

		snprintf(text, sizeof(text), "end %u", i);
		smtp_front_answer_end(f, i, &(struct smtp_answer){250, SLICE_LIT(""), slice_str(text)});
	}
}

static void data_end(struct smtp_front *f)
{
	loop_defer(smtp_front_loop(f), answer_ends, f);
}

static void data_cut(struct smtp_front *f)
{
	(void)f;
	tier.data_cuts++;
}

static void sent(struct smtp_front *f)
{
	(void)f;
	tier.sents++;
}

static void reset(struct smtp_front *f, enum smtp_reset how)
{
	(void)f;
	if (how == SMTP_RESET_ORDER)
		tier.orders++;
	else
		tier.cuts++;
}

static const struct smtp_ops ops = {.end = end,
	.is_trusted = is_trusted,
	.mail = mail,
	.rcpt = rcpt,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.sent = sent,
	.reset = reset};

struct start {
	int fd;
	struct smtp_service *service;
};

static void no_event(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

static void start(void *arg)
{
	struct start *s = arg;
	struct conn *conn;

	require(conn_open_fd(loop_current(), s->fd, NULL, no_event, NULL, &conn) == 0);
	smtp_front_start(s->service, conn, 0);
	free(s);
}

static int open_session(bool is_lmtp)
{
	int pair[2];
	struct start *s = malloc(sizeof(*s));

	require(s && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	*s = (struct start){pair[0], &services[is_lmtp]};
	tier.mails = tier.orders = tier.cuts = tier.data_cuts = tier.sents = tier.ends = 0;
	loop_post(loop_group_at(group, 0), start, s);
	return pair[1];
}

/* Reads until `until` stands at the end of what came, or the connection ends. */
static void expect(int fd, const char *want)
{
	struct buf got = {0};
	struct pollfd p = {fd, POLLIN, 0};

	while (!slice_is_str(buf_view(&got), want) && poll(&p, 1, WAIT_MS) == 1) {
		char *at = buf_reserve(&got, 4096);
		ssize_t n = read(fd, at, 4096);

		if (n <= 0)
			break;
		buf_added(&got, (size_t)n);
	}
	assert_string_equal(buf_str_view(&got), want);
	buf_deinit(&got);
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* The session is over on the loop. */
static void close_session(int fd)
{
	close(fd);
	for (int i = 0; i < WAIT_MS && !tier.ends; i++)
		usleep(1000);
	assert_int_equal(tier.ends, 1);
}

static void greet(int fd, bool is_lmtp)
{
	static const char words[] =
		"250-test.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n"
		"250-XCLIENT " SMTP_XCLIENT_NAMES "\r\n";
	char text[512];

	expect(fd, is_lmtp ? "220 test.example LMTP\r\n" : "220 test.example ESMTP\r\n");
	say(fd, is_lmtp ? "LHLO c\r\n" : "EHLO c\r\n");
	snprintf(text, sizeof(text),
		"%s%s250-SIZE 1000000\r\n250-LIMITS RCPTMAX=%u\r\n250 ENHANCEDSTATUSCODES\r\n", words,
		is_lmtp ? "250-XMARK\r\n" : "", smtp_limits_default.recipients);
	expect(fd, text);
}

static void test_replies_keep_their_order(void **state)
{
	int fd = open_session(false);

	(void)state;
	greet(fd, false);
	say(fd, "MAIL FROM:<a@b>\r\nRCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nRCPT TO:<bad\r\nRCPT TO:<2@x>\r\nRCPT "
		"TO:<3@x>\r\nNOOP\r\nDATA\r\n");
	expect(fd, "250 2.1.0 ok\r\n250 number 0\r\n250 number 1\r\n501 5.1.3 Cannot read that\r\n550 number "
		   "2\r\n250 number 3\r\n"
		   "250 2.0.0 Ok\r\n354 End with CRLF.CRLF\r\n");
	say(fd, "one\r\n..two\r\n.\r\nMAIL FROM:<c@d>\r\nQUIT\r\n");
	expect(fd, "250 2.0.0 done\r\n250 2.1.0 ok\r\n221 2.0.0 Bye\r\n");
	close_session(fd);
	assert_int_equal(tier.mails, 2);
	assert_int_equal(tier.orders, 2);
	assert_int_equal(tier.cuts + tier.data_cuts, 0);
	assert_int_equal(tier.sents, 1);
}

static void test_lmtp_answers_each(void **state)
{
	int fd = open_session(true);

	(void)state;
	greet(fd, true);
	say(fd, "MAIL FROM:<a@b> XMARK=3\r\nRCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nRCPT TO:<2@x>\r\nRCPT "
		"TO:<3@x>\r\nBDAT 5\r\none\r\nBDAT 4 LAST\r\n.two");
	expect(fd, "250 2.1.0 ok\r\n250 number 0\r\n250 number 1\r\n550 number 2\r\n250 number 3\r\n250 "
		   "2.0.0 Chunk taken\r\n"
		   "250 end 0\r\n250 end 1\r\n250 end 3\r\n");
	assert_string_equal(buf_str_view(&tier.body), "one\r\n.two\r\n");
	say(fd, "RSET\r\n");
	expect(fd, "250 2.0.0 Ok\r\n");
	assert_int_equal(tier.orders, 1);
	close_session(fd);
	assert_int_equal(tier.orders + tier.cuts, 1);
}

/* Whoever goes without QUIT leaves a cut transaction, with or without its answer. */
static void test_client_goes(void **state)
{
	static const char *const talks[] = {"MAIL FROM:<a@b>\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<0@x>\r\n",
		"MAIL FROM:<a@b>\r\nRCPT TO:<0@x>\r\nDATA\r\n",
		"MAIL FROM:<a@b>\r\nRCPT TO:<0@x>\r\nBDAT 100\r\nabc"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
		int fd = open_session(true);

		greet(fd, true);
		say(fd, talks[i]);
		expect(fd, i == 0   ? "250 2.1.0 ok\r\n"
			   : i == 2 ? "250 2.1.0 ok\r\n250 number 0\r\n354 End with CRLF.CRLF\r\n"
				    : "250 2.1.0 ok\r\n250 number 0\r\n");
		close_session(fd);
		assert_int_equal(tier.cuts, 1);
		assert_int_equal(tier.orders, 0);
		assert_int_equal(tier.data_cuts, i >= 2);
	}
}

static void test_refused_bodies(void **state)
{
	int fd = open_session(false);
	struct buf long_line = {0};

	(void)state;
	greet(fd, false);
	say(fd, "MAIL FROM:<refused@b>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<0@x>\r\nDATA\r\n");
	expect(fd, "550 5.7.1 not you\r\n250 2.1.0 ok\r\n250 number 0\r\n354 End with CRLF.CRLF\r\n");
	for (size_t i = 0; i <= SMTP_DATA_LINE_MOST; i++)
		buf_add_char(&long_line, 'x');
	buf_add_str(&long_line, "\r\n.\r\nNOOP\r\n");
	say(fd, buf_str_view(&long_line));
	expect(fd, "550 5.6.0 A line is too long\r\n250 2.0.0 Ok\r\n");
	buf_deinit(&long_line);
	close_session(fd);
	assert_int_equal(tier.data_cuts, 1);
	assert_int_equal(tier.orders + tier.cuts, 1);
}

/* A client's refused recipients count against him; a proxy's do not, whose connection serves many clients. */
static void test_errors_end_a_session(void **state)
{
	static const char refused[] = "MAIL FROM:<refused@b>\r\n", no[] = "550 5.7.1 not you\r\n";

	(void)state;
	for (int is_lmtp = 0; is_lmtp < 2; is_lmtp++) {
		int fd = open_session(is_lmtp);

		services[is_lmtp].limits.errors = 3;
		greet(fd, is_lmtp);
		for (int i = 0; i < (is_lmtp ? 10 : 0); i++) {
			say(fd, refused);
			expect(fd, no);
			say(fd, "MAIL FROM:<a@b>\r\nRCPT TO:<bad\r\nRSET\r\n");
			expect(fd, "250 2.1.0 ok\r\n501 5.1.3 Cannot read that\r\n250 2.0.0 Ok\r\n");
		}
		say(fd, is_lmtp ? "NONSENSE\r\n" : "MAIL FROM:<a@b>\r\nRCPT TO:<bad\r\n");
		expect(fd, is_lmtp ? "500 5.5.1 Unknown command\r\n"
				   : "250 2.1.0 ok\r\n501 5.1.3 Cannot read that\r\n");
		say(fd, "NONSENSE\r\nNONSENSE\r\nNONSENSE\r\nNONSENSE\r\n");
		expect(fd, "500 5.5.1 Unknown command\r\n500 5.5.1 Unknown command\r\n421 4.7.0 Too many "
			   "errors\r\n");
		services[is_lmtp].limits.errors = 20;
		close_session(fd);
	}
}

static void test_lmtp_distrusts(void **state)
{
	int fd;

	(void)state;
	trusts = false;
	fd = open_session(true);
	expect(fd, "554 5.7.1 Only for trusted proxies\r\n");
	close(fd);
	trusts = true;
}

static int set_up(void **state)
{
	(void)state;
	require(loop_group_start(1, &group) == 0);
	for (int i = 0; i < 2; i++) {
		smtp_service_init(&services[i], i ? "lmtp" : "smtp", &ops, NULL);
		services[i].host = "test.example";
		services[i].is_lmtp = i;
		services[i].limits.message_size = 1000000;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_group_stop(&group);
	for (int i = 0; i < 2; i++) {
		struct smtp_service *s = &services[i];

		smtp_service_unref(&s);
	}
	buf_deinit(&tier.body);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies_keep_their_order),
		cmocka_unit_test(test_lmtp_answers_each),
		cmocka_unit_test(test_client_goes),
		cmocka_unit_test(test_refused_bodies),
		cmocka_unit_test(test_errors_end_a_session),
		cmocka_unit_test(test_lmtp_distrusts),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
