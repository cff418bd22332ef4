/* Texts of messages as SEARCH looks into them: decoding, folding, borders, limits, and pieces of large ones. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/search/search_text.h"

/* Of the trace that temp_append() adds. */
#define TRACE "return-path: <b@example.com>|"

struct fixture {
	struct temp_store t;
	struct search_text *text;
	struct store_txn *txn;
	struct store_message message;
	struct buf got;
};

static int start(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	temp_start(&f->t);
	f->text = search_text_new(4);
	*state = f;
	return 0;
}

static int stop(void **state)
{
	struct fixture *f = *state;

	search_text_free(&f->text);
	buf_deinit(&f->got);
	temp_end(&f->t);
	free(f);
	return 0;
}

/* The texts of the bodies, one after the other, NUL shown as "|". */
static bool gather(void *arg, struct slice folded)
{
	struct buf *got = arg;

	for (size_t i = 0; i < folded.len; i++)
		buf_add_char(got, folded.p[i] ? folded.p[i] : '|');
	return true;
}

static void begin(struct fixture *f, struct slice mail)
{
	struct store_appended added;

	assert_int_equal(temp_append(&f->t, f->t.account, f->t.inbox, mail, 0, &added), 0);
	assert_int_equal(store_begin_read(f->t.store, 0, &f->txn), 0);
	assert_int_equal(store_message_get(f->txn, f->t.inbox, added.uid, &f->message), 0);
	search_text_begin(f->text, f->txn, &f->message);
}

static const char *bodies(struct fixture *f)
{
	buf_clear(&f->got);
	assert_int_equal(search_text_bodies(f->text, gather, &f->got), 0);
	return buf_str_view(&f->got);
}

static void test_what_is_looked_into(void **state)
{
	static const struct {
		const char *mail, *header, *bodies;
	} rows[] = {
		{"Subject: A\r\n\r\nHello W\xc3\x96rld\r\n", "subject: a|", "hello wo\xcc\x88rld\r\n|"},
		{"", "", "|"},
		{"Subject: =?iso-8859-1?Q?=C4?=\r\n x\r\n\r\n", "subject: a\xcc\x88 x|", "|"},
		{"no field\r\nA: b\r\n\r\n", ": |a: b|", "|"},
		{"Content-Type: text/html; charset=koi8-r\r\nContent-Transfer-Encoding: "
		 "base64\r\n\r\n8A==\r\n",
			"content-type: text/html; charset=koi8-r|content-transfer-encoding: base64|",
			"\xd0\xbf|"},
		{"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B$^\x1b(B A\r\n",
			"content-type: text/plain; charset=iso-2022-jp|", "\xe3\x81\xbe a\r\n|"},
		{"Content-Type: text/plain; charset=x-none\r\n\r\nA\r\n",
			"content-type: text/plain; charset=x-none|", "a\r\n|"},
		{"Content-Type: image/png\r\n\r\nABC\r\n", "content-type: image/png|", ""},
		/* What could not be opened is text. */
		{"Content-Type: multipart/mixed\r\n\r\nABC\r\n", "content-type: multipart/mixed|",
			"abc\r\n|"},
		{"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\nX: "
		 "ONE\r\n\r\nBody=3D\r\n--b\r\n"
		 "Content-Transfer-Encoding: quoted-printable\r\n\r\nBo=\r\ndy=3D\r\n--b\r\nContent-Type: "
		 "message/rfc822\r\n\r\nSubject: In\r\n\r\nNer\r\n--b\r\nContent-Type: "
		 "image/png\r\n\r\nNO\r\n"
		 "--b--\r\npost\r\n",
			"content-type: multipart/mixed; boundary=b|",
			"x: one|body=3d|content-transfer-encoding: quoted-printable|body=|content-type: "
			"message/rfc822|subject: in|ner|content-type: image/png|"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice header;
		struct buf shown = {0};

		begin(f, slice_str(rows[i].mail));
		assert_int_equal(search_text_header(f->text, &header), 0);
		(void)gather(&shown, header);
		assert_true(
			buf_len(&shown) >= strlen(TRACE) && memcmp(shown.data, TRACE, strlen(TRACE)) == 0);
		assert_string_equal(buf_str_view(&shown) + strlen(TRACE), rows[i].header);
		assert_string_equal(bodies(f), rows[i].bodies);
		assert_string_equal(bodies(f), rows[i].bodies); /* again */
		buf_deinit(&shown);
		store_end_read(&f->txn);
	}
}

static void test_values_of_fields(void **state)
{
	struct fixture *f = *state;
	struct slice got;
	bool is_there;

	begin(f, SLICE_LIT("To: A\r\nX: y\r\nTO: =?utf-8?Q?=C3=84?=\r\nEmpty:\r\n\r\n"));
	assert_int_equal(search_text_values(f->text, SLICE_LIT("to"), &got, &is_there), 0);
	assert_true(is_there);
	assert_true(slice_is_equal(got, SLICE_LIT("a\0a\xcc\x88\0")));
	assert_int_equal(search_text_values(f->text, SLICE_LIT("empty"), &got, &is_there), 0);
	assert_true(is_there && got.len == 1);
	assert_int_equal(search_text_values(f->text, SLICE_LIT("none"), &got, &is_there), 0);
	assert_true(!is_there && got.len == 0);
	assert_int_equal(search_text_raw_value(f->text, SLICE_LIT("to"), &got), 0);
	assert_true(slice_is_str(got, "A"));
	assert_int_equal(search_text_raw_value(f->text, SLICE_LIT("none"), &got), 0);
	assert_null(got.p);
	store_end_read(&f->txn);
}

struct hunt {
	const char *needle;
	unsigned found;
};

static bool hunt(void *arg, struct slice folded)
{
	struct hunt *h = arg;

	h->found += memmem(folded.p, folded.len, h->needle, strlen(h->needle)) != NULL;
	return true;
}

/* A word at every place around the ends of pieces is seen, whatever the encoding. */
static void test_pieces_overlap(void **state)
{
	struct fixture *f = *state;
	size_t len = 700 * 1024;
	char *mail = xmalloc(len + 100);

	for (size_t at = 60; at < len - 5; at += 8191 + at % 64) {
		struct hunt h = {.needle = "mnopq"};
		size_t head = (size_t)sprintf(
			mail, "Content-Type: text/plain; charset=%s\r\n\r\n", at % 2 ? "utf-8" : "cp932");

		memset(mail + head, 'x', len);
		memcpy(mail + head + at, "MNOPQ", 5);
		begin(f, slice_of(mail, head + len));
		assert_int_equal(search_text_bodies(f->text, hunt, &h), 0);
		assert_true(h.found >= 1);
		store_end_read(&f->txn);
	}
	free(mail);
}

/* Many parts, many fields, and a message of nothing but escapes: memory stays, time is linear (class 11, 12, 13). */
static void test_security_12_large_headers_are_looked_into_up_to_a_limit(void **state)
{
	struct fixture *f = *state;
	size_t len = 3u << 20;
	char *mail = xmalloc(len);
	struct slice header;

	memset(mail, 'a', len);
	memcpy(mail, "A: b\r\nX: ", 9);
	begin(f, slice_of(mail, len));
	assert_int_equal(search_text_header(f->text, &header), 0);
	assert_true(header.len <= SEARCH_TEXT_HEADER_MAX + 16);
	assert_true(memcmp(header.p + strlen(TRACE), "a: b", 5) == 0);
	store_end_read(&f->txn);
	for (size_t i = 0; i + 4 <= len; i += 4)
		memcpy(mail + i, "a:\r\n", 4);
	begin(f, slice_of(mail, len));
	assert_int_equal(search_text_header(f->text, &header), 0);
	assert_true(header.len <= 2 * SEARCH_TEXT_HEADER_MAX);
	store_end_read(&f->txn);
	free(mail);
}

static bool count_text(void *arg, struct slice folded)
{
	for (size_t i = 0; i + 4 <= folded.len; i++)
		*(unsigned *)arg += memcmp(folded.p + i, "word", 4) == 0;
	return true;
}

/* Parts with long types, looked into again and again, as a search with many keys does: nothing adds up (class 11). */
static void test_security_11_types_of_parts_do_not_add_up(void **state)
{
	struct fixture *f = *state;
	struct buf mail = {0};

	buf_add_str(&mail, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (int i = 0; i < 12; i++) {
		buf_add_str(&mail, "--b\r\nContent-Type: text/plain; x=");
		memset(buf_reserve(&mail, 200 << 10), 'x', 200 << 10);
		buf_added(&mail, 200 << 10);
		buf_add_str(&mail, "\r\n\r\nword\r\n");
	}
	begin(f, buf_view(&mail));
	for (int i = 0; i < 80; i++) {
		unsigned seen = 0;

		assert_int_equal(search_text_bodies(f->text, count_text, &seen), 0);
		assert_int_equal(seen, 12);
	}
	store_end_read(&f->txn);
	buf_deinit(&mail);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_looked_into, start, stop),
		cmocka_unit_test_setup_teardown(test_values_of_fields, start, stop),
		cmocka_unit_test_setup_teardown(test_pieces_overlap, start, stop),
		cmocka_unit_test_setup_teardown(
			test_security_12_large_headers_are_looked_into_up_to_a_limit, start, stop),
		cmocka_unit_test_setup_teardown(test_security_11_types_of_parts_do_not_add_up, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
