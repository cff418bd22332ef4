/* Headers by table, each whole and cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/front/smtp_complete.h"

static bool is_own(void *arg, struct slice address)
{
	(void)arg;
	return slice_is_str_nocase(address, "me@x.test");
}

enum {
	ALL = -100
};

static const struct {
	const char *in;
	enum smtp_complete_from from;
	const char *want;
	int err;
} rows[] = {
	{"From: me@x.test\r\nDate: d\r\nMessage-ID: <m>\r\n\r\nbody\r\n", SMTP_COMPLETE_FROM_REFUSE,
		"From: me@x.test\r\nDate: d\r\nMessage-ID: <m>\r\n\r\nbody\r\n", 0},
	{"From: me@x.test\r\n\r\nbody\r\n\r\nBcc: x\r\n", SMTP_COMPLETE_FROM_ANY,
		"From: me@x.test\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: "
		"<*@h.test>\r\n\r\nbody\r\n\r\nBcc: "
		"x\r\n",
		0},
	{"BCC: a@b,\r\n c@d\r\nfrom: me@x.test\r\nbcc : e@f\r\nResent-Bcc: g@h\r\nX-Bcc: i\r\n "
	 "date:d\r\nDATE: d\r\nmessage-id: "
	 "m\r\n\r\n",
		SMTP_COMPLETE_FROM_ANY,
		"from: me@x.test\r\nX-Bcc: i\r\n date:d\r\nDATE: d\r\nmessage-id: m\r\n\r\n", 0},
	{"\r\nno header\r\n", SMTP_COMPLETE_FROM_ANY,
		"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <*@h.test>\r\n\r\nno header\r\n", 0},
	{"just text\r\nFrom: other@x.test\r\n", SMTP_COMPLETE_FROM_ANY,
		"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <*@h.test>\r\n\r\njust text\r\nFrom: "
		"other@x.test\r\n",
		0},
	{"Subject: no end\r\n", SMTP_COMPLETE_FROM_ANY,
		"Subject: no end\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <*@h.test>\r\n", 0},
	{"", SMTP_COMPLETE_FROM_ANY, "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <*@h.test>\r\n", 0},
	{"Date: d\r\nMessage-ID: m\r\nFrom: A <me@x.test>\r\nSender: evil@x.test\r\n\r\n",
		SMTP_COMPLETE_FROM_MARK,
		"Date: d\r\nMessage-ID: m\r\nFrom: A <me@x.test>\r\nSender: evil@x.test\r\n\r\n", 0},
	{"Date: d\r\nMessage-ID: m\r\nFrom: other@x.test\r\nSender: evil@x.test\r\n\r\n",
		SMTP_COMPLETE_FROM_MARK,
		"Date: d\r\nMessage-ID: m\r\nFrom: other@x.test\r\nSender: <me@x.test>\r\n\r\n", 0},
	{"Date: d\r\nMessage-ID: m\r\nFrom: me@x.test, you@x.test\r\n\r\n", SMTP_COMPLETE_FROM_MARK,
		"Date: d\r\nMessage-ID: m\r\nFrom: me@x.test, you@x.test\r\nSender: <me@x.test>\r\n\r\n", 0},
	{"From: other@x.test\r\n\r\n", SMTP_COMPLETE_FROM_REFUSE, "", ERR_DENIED},
	{"From: me@x.test\r\nFrom: other@x.test\r\n\r\n", SMTP_COMPLETE_FROM_REFUSE, "", ERR_DENIED},
	{"Subject: nobody\r\n\r\n", SMTP_COMPLETE_FROM_REFUSE, "", ERR_DENIED},
	{"text\r\nFrom: me@x.test\r\n\r\n", SMTP_COMPLETE_FROM_REFUSE, "", ERR_DENIED},
};

/* The random part of a Message-ID becomes "*". */
static void hide_id(struct buf *text)
{
	struct slice all = buf_view(text);
	const char *at = all.len ? memmem(all.p, all.len, "@h.test>", 8) : NULL;
	struct buf out = {0};
	size_t end;

	if (!at)
		return;
	end = (size_t)(at - all.p);
	assert_true(end > 33 && all.p[end - 33] == '<');
	buf_add_slice(&out, slice_sub(all, 0, end - 32));
	buf_add_char(&out, '*');
	buf_add_slice(&out, slice_from(all, end));
	buf_deinit(text);
	*text = out;
}

static void run(size_t row, size_t cut)
{
	struct slice in = slice_str(rows[row].in);
	struct smtp_complete *c = smtp_complete_new(&(struct smtp_complete_options){.adds_missing = true,
		.removes_bcc = true,
		.from = rows[row].from,
		.host = "h.test",
		.user = "me@x.test",
		.is_own = is_own});
	struct buf out = {0};
	int err = smtp_complete_add(c, slice_sub(in, 0, cut), &out);

	if (!err)
		err = smtp_complete_add(c, slice_from(in, cut), &out);
	if (!err)
		err = smtp_complete_end(c, &out);
	assert_int_equal(err, rows[row].err);
	hide_id(&out);
	if (!err)
		assert_string_equal(buf_str_view(&out), rows[row].want);
	buf_deinit(&out);
	smtp_complete_free(&c);
}

static void test_table_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t cut = 0; cut <= strlen(rows[i].in); cut++)
			run(i, cut);
	}
}

static void test_header_is_bounded(void **state)
{
	struct smtp_complete *c = smtp_complete_new(&(struct smtp_complete_options){.adds_missing = true});
	struct buf out = {0};
	int err = 0;

	(void)state;
	for (int i = 0; i < 200000 && !err; i++)
		err = smtp_complete_add(c, slice_str("X-A: b\r\n"), &out);
	assert_int_equal(err, ERR_TOO_BIG);
	assert_int_equal(out.end, 0);
	smtp_complete_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_at_every_cut),
		cmocka_unit_test(test_header_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
