/* Notices: what they say, and that no hostile text adds a line, a field or a part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/proto/dsn.h"

#define BOUNDARY "abcdefghij0123456789"

static struct dsn base(const struct dsn_recipient *r, size_t count)
{
	return (struct dsn){.host = SLICE_LIT("b1.test"),
		.from = SLICE_LIT("MAILER-DAEMON@b1.test"),
		.to = SLICE_LIT("a@b.test"),
		.message_id = SLICE_LIT("id@b1.test"),
		.boundary = SLICE_LIT(BOUNDARY),
		.date = 1700000000,
		.arrived = 1699990000,
		.recipients = r,
		.recipient_count = count,
		.message = SLICE_LIT("Subject: x\r\n\r\nbody\r\n"),
		.is_full = true};
}

static char *write(const struct dsn *d)
{
	struct buf out = {0};
	char *text;

	dsn_write(d, &out);
	text = slice_copy_str(buf_view(&out));
	buf_deinit(&out);
	return text;
}

static void expect(const char *text, const char *want)
{
	if (!strstr(text, want))
		fail_msg("no '%s' in:\n%s", want, text);
}

static void expect_no(const char *text, const char *want)
{
	if (strstr(text, want))
		fail_msg("'%s' in:\n%s", want, text);
}

/* Only CRLF, no controls, no line beyond 998 octets. */
static void check_wire(const char *text)
{
	size_t line = 0;

	for (const char *p = text; *p; p++) {
		if (*p == '\r') {
			assert_int_equal(p[1], '\n');
			continue;
		}
		if (*p == '\n') {
			assert_int_equal(p[-1], '\r');
			assert_true(line <= 998);
			line = 0;
			continue;
		}
		assert_true((unsigned char)*p >= ' ' || *p == '\t');
		line++;
	}
}

/* Words that the remote host never said are not put into its mouth. */
static void test_a_reason_of_our_own(void **state)
{
	const struct dsn_recipient r = {.action = DSN_FAILED,
		.address = SLICE_LIT("u@c.test"),
		.status = SLICE_LIT("4.4.1"),
		.remote = SLICE_LIT("mx.c.test"),
		.text = SLICE_LIT("no answer in time"),
		.last_try = 1700000000};
	struct dsn d = base(&r, 1);
	char *text = write(&d);

	(void)state;
	expect(text, "<u@c.test>: mx.c.test: no answer in time\r\n");
	free(text);
}

static void test_a_failure(void **state)
{
	const struct dsn_recipient r = {.action = DSN_FAILED,
		.address = SLICE_LIT("u@c.test"),
		.orcpt_type = SLICE_LIT("rfc822"),
		.orcpt = SLICE_LIT("o@c.test"),
		.status = SLICE_LIT("5.1.1"),
		.remote = SLICE_LIT("mx.c.test"),
		.code = 550,
		.text = SLICE_LIT("5.1.1 No such user"),
		.last_try = 1700000000};
	struct dsn d = base(&r, 1);
	char *text;

	(void)state;
	d.envid = SLICE_LIT("env=1");
	text = write(&d);
	check_wire(text);
	expect(text, "From: Mail Delivery System <MAILER-DAEMON@b1.test>\r\nTo: <a@b.test>\r\n"
		     "Subject: Undelivered mail returned to its sender\r\nDate: Tue, 14 Nov 2023 22:13:20 "
		     "+0000\r\n"
		     "Message-ID: <id@b1.test>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
		     "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"" BOUNDARY
		     "\"\r\n\r\n--" BOUNDARY "\r\n");
	expect(text, "<u@c.test>: mx.c.test said: 550 5.1.1 No such user\r\n");
	expect(text, "Content-Type: message/delivery-status\r\n\r\nOriginal-Envelope-Id: env=1\r\n"
		     "Reporting-MTA: dns;b1.test\r\nArrival-Date: Tue, 14 Nov 2023 19:26:40 +0000\r\n\r\n"
		     "Original-Recipient: rfc822;o@c.test\r\nFinal-Recipient: rfc822;u@c.test\r\nAction: "
		     "failed\r\n"
		     "Status: 5.1.1\r\nRemote-MTA: dns;mx.c.test\r\nDiagnostic-Code: smtp;550 5.1.1 No such "
		     "user\r\n"
		     "Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\r\n--" BOUNDARY "\r\n");
	expect(text, "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody\r\n--" BOUNDARY "--\r\n");
	free(text);
	d.is_full = false;
	text = write(&d);
	expect(text, "Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n--" BOUNDARY "--\r\n");
	expect_no(text, "body\r\n");
	free(text);
}

static void test_other_actions(void **state)
{
	static const struct {
		enum dsn_action action;
		const char *word, *status;
	} rows[] = {{DSN_DELAYED, "Action: delayed\r\n", "Status: 4.0.0\r\n"},
		{DSN_DELIVERED, "Action: delivered\r\n", "Status: 2.0.0\r\n"},
		{DSN_RELAYED, "Action: relayed\r\n", "Status: 2.0.0\r\n"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct dsn_recipient r = {.action = rows[i].action,
			.address = SLICE_LIT("u@c.test"),
			.status = SLICE_LIT("nonsense"),
			.until = 1700000000};
		struct dsn d = base(&r, 1);
		char *text = write(&d);

		check_wire(text);
		expect(text, rows[i].word);
		expect(text, rows[i].status);
		if (rows[i].action == DSN_DELAYED)
			expect(text, "Will-Retry-Until: Tue, 14 Nov 2023 22:13:20 +0000\r\n");
		free(text);
	}
}

static void test_security_04_hostile_texts_stay_in_their_lines(void **state)
{
	struct dsn_recipient r = {.action = DSN_FAILED,
		.address = SLICE_LIT("u\r\nBcc: x@y@c.test"),
		.orcpt_type = SLICE_LIT("rfc822\r\nX: y"),
		.orcpt = SLICE_LIT("o\nAction: delivered"),
		.status = SLICE_LIT("5.1.1\r\nAction: delivered"),
		.remote = SLICE_LIT("mx\r\nX-Evil: 1"),
		.code = 550,
		.text = SLICE_LIT("no\r\n\r\n--" BOUNDARY "\r\nX-Evil: 2\0\x1b[2J\x85\xc2\x85")};
	struct dsn d = base(&r, 1);
	char *big = calloc(1, 5001), *text;

	(void)state;
	d.envid = SLICE_LIT("e\r\nX-Evil: 3");
	d.to = SLICE_LIT("a@b.test>\r\nX-Evil: 4");
	d.message = SLICE_LIT("Subject: x\ny: z\r\rbare\n\nbody");
	text = write(&d);
	check_wire(text);
	expect_no(text, "\r\nX-Evil");
	expect_no(text, "\r\nBcc");
	expect_no(text, "\r\nAction: delivered");
	expect(text, "Status: 5.0.0\r\n");
	expect_no(text, "\x1b");
	free(text);
	/* Long ones are folded and bounded. */
	memset(big, 'x', 5000);
	r.text = slice_str(big);
	r.address = slice_str(big);
	text = write(&d);
	check_wire(text);
	assert_true(strlen(text) < 9000);
	free(text);
	free(big);
}

static void test_utf8_addresses_make_it_global(void **state)
{
	const struct dsn_recipient r = {.action = DSN_FAILED,
		.address = SLICE_LIT("j\xc3\xbcrgen@c.test"),
		.text = SLICE_LIT("nein \xc3\xbc \xff")};
	struct dsn d = base(&r, 1);
	char *text = write(&d);

	(void)state;
	check_wire(text);
	assert_true(dsn_is_utf8(&d));
	expect(text, "report-type=global-delivery-status;");
	expect(text, "Content-Type: message/global-delivery-status\r\n");
	expect(text, "Final-Recipient: utf-8;j\xc3\xbcrgen@c.test\r\n");
	expect(text, "Diagnostic-Code: x-mailtier;nein \xc3\xbc ?\r\n");
	expect(text, "Content-Type: message/global\r\n");
	free(text);
}

static void test_templates(void **state)
{
	const struct dsn_recipient r = {
		.action = DSN_FAILED, .address = SLICE_LIT("u@c.test"), .text = SLICE_LIT("no")};
	struct dsn d = base(&r, 1);
	char *text;

	(void)state;
	d.text_template = SLICE_LIT("Subject: Zur\xc3\xbc"
				    "ck\n\nAn ${sender} von ${host}:\n${recipients}\nEnde ${nix} $");
	text = write(&d);
	check_wire(text);
	expect(text, "Subject: =?UTF-8?");
	expect(text, "8bit\r\n\r\nAn a@b.test von b1.test:\r\n<u@c.test>: no\r\nEnde ${nix} $\r\n--");
	free(text);
}

/* RFC 5322 section 2.1.1: 998 octets at most, whatever stands before a word and whatever it stands for. */
static void test_lines_of_templates_stay_short(void **state)
{
	static const char *const words[] = {"${recipients}", "${sender}", "${host}", "${date}", "${until}"};
	char host[256], before[901], template[1000];

	(void)state;
	memset(host, 'h', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	memset(before, 'x', sizeof(before) - 1);
	before[sizeof(before) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct dsn_recipient r = {.address = slice_str(host),
			.remote = slice_str(host),
			.code = 550,
			.text = slice_str(host)};
		struct dsn d = {.boundary = SLICE_LIT("b"),
			.recipients = &r,
			.recipient_count = 1,
			.host = slice_str(host),
			.to = slice_str(host)};
		struct buf out = {0};
		const char *line, *end;

		snprintf(template, sizeof(template), "%s%s behind\n", before, words[i]);
		d.text_template = slice_str(template);
		dsn_write(&d, &out);
		for (line = buf_str_view(&out); (end = strstr(line, "\r\n")); line = end + 2)
			assert_true(end - line <= 998);
		assert_non_null(strstr(buf_str_view(&out), "behind\r\n"));
		buf_deinit(&out);
	}
}

static void test_templates_are_checked(void **state)
{
	static const struct {
		const char *text, *why;
		unsigned line;
	} rows[] = {{"Subject: x\n\nhello ${recipients} ${until}\n", NULL, 0}, {"hello", NULL, 0},
		{"Subject: x\nhello", "empty line", 2}, {"a\nb\n${x}", "${word}", 3}, {"\xff", "UTF-8", 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned line;
		const char *why = dsn_check_template(slice_str(rows[i].text), &line);

		assert_int_equal(!why, !rows[i].why);
		if (why) {
			assert_non_null(strstr(why, rows[i].why));
			assert_int_equal(line, rows[i].line);
		}
	}
}

static void test_header(void **state)
{
	static const struct {
		const char *in, *want;
	} rows[] = {{"A: b\r\n\r\nx", "A: b\r\n"}, {"A: b\n\nx", "A: b\n"}, {"A: b\r\n", "A: b\r\n"},
		{"", ""}, {"\r\nx", ""}, {"A: b", "A: b"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_true(slice_is_str(dsn_header(slice_str(rows[i].in)), rows[i].want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_failure),
		cmocka_unit_test(test_a_reason_of_our_own),
		cmocka_unit_test(test_other_actions),
		cmocka_unit_test(test_security_04_hostile_texts_stay_in_their_lines),
		cmocka_unit_test(test_utf8_addresses_make_it_global),
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_lines_of_templates_stay_short),
		cmocka_unit_test(test_templates_are_checked),
		cmocka_unit_test(test_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
