/* Base subjects (RFC 5256 section 2.1), previews (RFC 8970), message ids and the packed keys of a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "common/proto/mail_keys.h"
#include "common/proto/preview.h"
#include "common/proto/subject.h"

static const struct {
	const char *subject, *base;
	bool is_reply;
} subjects[] = {
	{"", "", false},
	{"hello", "hello", false},
	{"  a \t b  ", "a b", false},
	{"Re: hello", "hello", true},
	{"RE:hello", "hello", true},
	{"re : hello", "hello", true},
	{"Re: re: Fwd: fw: hello", "hello", true},
	{"Re[2]: hello", "hello", true},
	{"Re [list]: hello", "hello", true},
	{"[list] Re: hello", "hello", true},
	{"[a] [b] Re: [c] hello", "hello", true},
	{"[a][b] hello", "hello", false},
	{"[a]", "[a]", false},
	{"Re: [a]", "[a]", true},
	{"[a] [b]", "[b]", false},
	{"hello (fwd)", "hello", true},
	{"hello (fwd) (FWD)  ", "hello", true},
	{"(fwd)", "", true},
	{"[fwd: hello]", "hello", true},
	{"[Fwd: Re: [x] hello (fwd)]", "hello", true},
	{"[fwd: [fwd: hello]]", "hello", true},
	{"[fwd:]", "", true},
	{"[a [b] hello", "[a [b] hello", false},
	{"Re", "Re", false},
	{"Real: x", "Real: x", false},
	{"Reply: x", "Reply: x", false},
	{"Re: Re", "Re", true},
	{"forward: x", "forward: x", false},
	{"=?utf-8?q?Re=3A_gr=C3=BC=C3=9Fe?=",
		"gr\xc3\xbc\xc3\x9f"
		"e",
		true},
	{"=?iso-8859-1?q?a=09b?= =?iso-8859-1?q?c?=", "a bc", false},
};

static void test_base_subjects(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(subjects); i++) {
		struct buf got = {0};
		bool is_reply = !subjects[i].is_reply;

		subject_base(slice_str(subjects[i].subject), &got, &is_reply);
		if (strcmp(buf_str_view(&got), subjects[i].base) != 0 || is_reply != subjects[i].is_reply)
			fail_msg("%s: got \"%s\" %d", subjects[i].subject, buf_str_view(&got), is_reply);
		buf_deinit(&got);
	}
}

/* Of this thread's processor time: what else the machine does counts for nothing. */
static uint64_t cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* Repeats the piece; ten times the length may not take more than some thirty times as long. */
static uint64_t time_of(const char *piece, size_t count)
{
	struct buf text = {0}, got = {0};
	uint64_t start, best = UINT64_MAX;
	bool is_reply;

	for (size_t i = 0; i < count; i++)
		buf_add_str(&text, piece);
	for (int i = 0; i < 3; i++) {
		buf_clear(&got);
		start = cpu_us();
		subject_base(buf_view(&text), &got, &is_reply);
		start = cpu_us() - start;
		best = start < best ? start : best;
	}
	buf_deinit(&text);
	buf_deinit(&got);
	return best;
}

static void test_base_subjects_are_linear(void **state)
{
	static const char *const pieces[] = {
		"[]", "[a", "re:", "[fwd:", "]", "(fwd)", "re[", "[] re", "re [x] "};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		uint64_t one = time_of(pieces[i], 3000), ten = time_of(pieces[i], 30000);

		if (ten > 30 * one + 10000)
			fail_msg("%s: %llu us, %llu us", pieces[i], (unsigned long long)one,
				(unsigned long long)ten);
	}
}

static const struct {
	const char *mail, *preview;
} previews[] = {
	{"\r\nHello  there,\r\n\r\nhow are\tyou?\r\n", "Hello there, how are you?"},
	{"\r\n", ""},
	{"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	 "gr=FC=DFe=\r\n!\r\n",
		"gr\xc3\xbc\xc3\x9f"
		"e!"},
	{"\r\n> quoted\r\n> more\r\nanswer\r\n-- \r\nsignature\r\n", "answer"},
	{"\r\n> only quoted\r\n", "> only quoted"},
	{"Content-Type: text/html\r\n\r\n<html><head><title>T</title><style>p{}</style></head><!-- no "
	 "--><body>"
	 "<p>One&nbsp;<b>tw</b>o</p><script>x()</script><p>3 &lt; 4 &amp; &#x41;&#66; &bogus;</p>",
		"One two 3 < 4 & AB &bogus;"},
	{"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: "
	 "text/html\r\n\r\n<p>h</p>\r\n"
	 "--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n",
		"plain"},
	{"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n"
	 "Content-Disposition: attachment\r\n\r\nno\r\n--b\r\nContent-Type: image/png\r\n\r\nxx\r\n--b--\r\n",
		""},
	{"Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSGVsbG8=\r\n",
		"Hello"},
	{"Content-Type: text/html\r\n\r\n<!-- never closed", ""},
	{"Content-Type: text/html\r\n\r\na<b", "a"},
};

static void write_preview(struct slice mail, struct buf *out)
{
	const struct mime_part *root, *part;
	struct arena arena;

	arena_init(&arena, 0);
	root = mime_parse(&arena, mail);
	part = preview_part(root);
	if (part)
		preview_write(part, slice_sub(mail, (size_t)mime_body_at(part), (size_t)part->body_len), out);
	arena_deinit(&arena);
}

static void test_previews(void **state)
{
	struct buf mail = {0}, got = {0};
	size_t chars = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(previews); i++) {
		buf_clear(&got);
		write_preview(slice_str(previews[i].mail), &got);
		if (strcmp(buf_str_view(&got), previews[i].preview) != 0)
			fail_msg("%s\ngot: %s", previews[i].mail, buf_str_view(&got));
	}
	/* At most 200 characters, whatever they are made of, and none halved by the limit of what is read. */
	buf_add_str(&mail, "\r\n");
	for (int i = 0; i < 30000; i++)
		buf_add_str(&mail, "\xe2\x82\xac");
	buf_clear(&got);
	write_preview(buf_view(&mail), &got);
	assert_true(slice_is_utf8(buf_view(&got)));
	assert_int_equal(buf_len(&got), 3 * PREVIEW_CHARS);
	for (size_t i = 0; i < buf_len(&got); i++)
		chars += ((unsigned char)got.data[got.start + i] & 0xc0) != 0x80;
	assert_int_equal(chars, PREVIEW_CHARS);
	buf_deinit(&mail);
	buf_deinit(&got);
}

static void keys_of(const char *mail, struct buf *packed, struct mail_keys *keys)
{
	struct arena arena;
	const struct mime_part *root;

	arena_init(&arena, 0);
	root = mime_parse(&arena, slice_str(mail));
	buf_clear(packed);
	assert_int_equal(mail_keys_pack(root->envelope, SLICE_LIT("pre"), &arena, packed), 0);
	arena_deinit(&arena);
	assert_int_equal(mail_keys_unpack(buf_view(packed), keys), 0);
}

static void test_keys_of_a_message(void **state)
{
	struct buf packed = {0};
	struct mail_keys k;

	(void)state;
	keys_of("Date: Fri, 31 Dec 2000 16:01:33 -0800\r\nSubject: Re: [x] HELLO\r\n"
		"From: =?utf-8?q?=C3=84rger?= <Foo.Bar@EXAMPLE.com>, b@c\r\nTo: friends: one@x, two@y;\r\n"
		"Cc: \"Q. Uoted\" <q@z>\r\nMessage-ID: <a@b>\r\nReferences: <1@x> junk <2@x>\r\n <3@x>\r\n"
		"In-Reply-To: <4@x>\r\n\r\n",
		&packed, &k);
	assert_true(k.has_date && k.is_reply);
	assert_int_equal(k.sent, 978307293);
	assert_true(slice_is_str(k.texts[MAIL_KEY_SUBJECT], "hello"));
	assert_true(slice_is_str(k.texts[MAIL_KEY_FROM], "foo.bar"));
	assert_true(slice_is_str(k.texts[MAIL_KEY_TO], "friends"));
	assert_true(slice_is_str(k.texts[MAIL_KEY_CC], "q"));
	assert_true(slice_is_str(k.texts[MAIL_KEY_DISPLAY_FROM], "a\xcc\x88rger"));
	assert_true(slice_is_str(k.texts[MAIL_KEY_DISPLAY_TO], "friends"));
	assert_true(slice_is_str(k.preview, "pre"));
	assert_int_equal(k.reference_count, 3);
	assert_true(k.id != 0);
	keys_of("From: plain@Example.com\r\nTo: x\r\n\r\n", &packed, &k);
	assert_false(k.has_date || k.is_reply);
	assert_int_equal(k.id, 0);
	assert_true(slice_is_str(k.texts[MAIL_KEY_DISPLAY_FROM], "plain@example.com"));
	assert_int_equal(k.texts[MAIL_KEY_CC].len, 0);
	for (size_t i = 0; i < buf_len(&packed); i++)
		assert_int_equal(mail_keys_unpack(slice_sub(buf_view(&packed), 0, i), &k), ERR_CORRUPT);
	packed.data[packed.start] = 9;
	assert_int_equal(mail_keys_unpack(buf_view(&packed), &k), ERR_CORRUPT);
	buf_deinit(&packed);
}

static uint64_t id_of(const char *field)
{
	struct buf packed = {0}, mail = {0};
	struct mail_keys k;

	buf_printf(&mail, "Message-ID: %s\r\n\r\n", field);
	keys_of(buf_str_view(&mail), &packed, &k);
	buf_deinit(&packed);
	buf_deinit(&mail);
	return k.id;
}

static void test_message_ids(void **state)
{
	static const char *const none[] = {"", "a@b", "<a>", "<@b>", "<a@>", "<a@b", "<\"a@b>", "<>"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		if (id_of(none[i]))
			fail_msg("%s is no message id", none[i]);
	/* RFC 5256 section 3: quoting makes no difference, case does. */
	assert_true(
		id_of("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>") == id_of("<01KF8JCEOCBS0045PS@xxx.yyy.com>"));
	assert_true(id_of("<\"a\\\"b\"@c>") == id_of("<\"a\\\"\\b\"@c>"));
	assert_true(id_of("<\"a>b\"@c>") != 0);
	assert_true(id_of("junk <a@b> more") == id_of("<a@b>"));
	assert_true(id_of("<x <a@b>") == id_of("<a@b>"));
	assert_true(id_of("<A@b>") != id_of("<a@b>"));
}

static void test_references_are_bounded(void **state)
{
	struct buf mail = {0}, packed = {0};
	struct mail_keys k, last;

	(void)state;
	keys_of("Message-ID: <999@x>\r\nReferences: <0@x>\r\n\r\n", &packed, &last);
	buf_add_str(&mail, "In-Reply-To: text <7@x> <8@x>\r\nReferences:");
	for (int i = 0; i < 1000; i++)
		buf_printf(&mail, " <%d@x>", i);
	buf_add_str(&mail, "\r\n\r\n");
	{
		struct buf other = {0};

		keys_of(buf_str_view(&mail), &other, &k);
		assert_int_equal(k.reference_count, MAIL_KEYS_REFERENCES_MAX);
		assert_true(mail_keys_reference(&k, 0) == mail_keys_reference(&last, 0));
		assert_true(mail_keys_reference(&k, MAIL_KEYS_REFERENCES_MAX - 1) == last.id);
		keys_of("References: none\r\nIn-Reply-To: text <0@x> <8@x>\r\n\r\n", &other, &k);
		assert_int_equal(k.reference_count, 1);
		assert_true(mail_keys_reference(&k, 0) == mail_keys_reference(&last, 0));
		buf_deinit(&other);
	}
	buf_deinit(&mail);
	buf_deinit(&packed);
}

static const struct {
	const char *text, *date, *subject; /* "-": NIL; NULL date: corrupt */
} envelopes[] = {
	{"(NIL NIL NIL NIL)", "-", "-"},
	{"(\"d\" \"s\" NIL)", "d", "s"},
	{"(NIL \"a \\\"b\\\" \\\\c\" NIL)", "-", "a \"b\" \\c"},
	{"(\"\" {4}\r\na)\"( ((NIL)))", "", "a)\"("},
	{"({0}\r\n {2}\r\nxy NIL)", "", "xy"},
	{"(\"d\" \"s", NULL, NULL},
	{"(\"d\"", NULL, NULL},
	{"(\"d\" {9}\r\nx NIL)", NULL, NULL},
	{"(\"d\" {x}\r\nx NIL)", NULL, NULL},
	{"(\"d\"x\"s\" NIL)", NULL, NULL},
	{"", NULL, NULL},
	{"(", NULL, NULL},
	{"(x y)", NULL, NULL},
};

static bool is_text(struct slice got, const char *want)
{
	return strcmp(want, "-") == 0 ? !got.p : got.p && slice_is_str(got, want);
}

static void test_envelopes_are_read_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(envelopes); i++) {
		struct slice date = {0}, subject = {0};
		struct buf buf = {0};
		int err = envelope_read(slice_str(envelopes[i].text), &buf, &date, &subject);

		if (err != (envelopes[i].date ? 0 : ERR_CORRUPT) ||
			(err == 0 && (!is_text(date, envelopes[i].date) ||
					     !is_text(subject, envelopes[i].subject))))
			fail_msg("%s: %d", envelopes[i].text, err);
		buf_deinit(&buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base_subjects),
		cmocka_unit_test(test_base_subjects_are_linear),
		cmocka_unit_test(test_previews),
		cmocka_unit_test(test_keys_of_a_message),
		cmocka_unit_test(test_message_ids),
		cmocka_unit_test(test_references_are_bounded),
		cmocka_unit_test(test_envelopes_are_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
