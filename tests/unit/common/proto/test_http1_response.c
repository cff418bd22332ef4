/* Responses of HTTP as a client reads them (RFC 9112). */
#include "common/proto/http1_response.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_heads(void **state)
{
	static const struct {
		const char *text;
		ssize_t want; /* 1: all of it */
		unsigned status;
		bool has_length, is_chunked, is_plain;
		uint64_t length;
	} rows[] = {
		{"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\n\r\n",
			1, 200, true, false, true, 12},
		{"HTTP/1.0 404 Not Found\n\n", 1, 404, false, false, false, 0},
		{"HTTP/1.1 200\r\nTRANSFER-ENCODING: Chunked\r\n\r\n", 1, 200, false, true, false, 0},
		{"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\n", 1, 200, false, false, false, 0},
		{"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", ERR_UNSUPPORTED, 0, false, false, false,
			0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ERR_UNSUPPORTED, 0, false,
			false, false, 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", ERR_SYNTAX, 0,
			false, false, false, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", ERR_SYNTAX, 0, false,
			false, false, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"HTTP/2 200\r\n\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"HTTP/1.1 999 x\r\n\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"220 mail ESMTP\r\n", ERR_SYNTAX, 0, false, false, false, 0},
		{"HTTP/1.1 200 OK\r\nA: b\r\n", 0, 0, false, false, false, 0},
		{"HTTP/1.1", 0, 0, false, false, false, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice in = slice_str(rows[i].text);
		struct http1_response r;
		ssize_t n = http1_response_parse(in, &r);

		assert_int_equal(n, rows[i].want == 1 ? (ssize_t)in.len : rows[i].want);
		if (n > 0) {
			assert_int_equal(r.status, rows[i].status);
			assert_int_equal(r.has_length, rows[i].has_length);
			assert_int_equal(r.length, rows[i].length);
			assert_int_equal(r.is_chunked, rows[i].is_chunked);
			assert_int_equal(http1_response_is_type(&r, "text/plain"), rows[i].is_plain);
		}
		/* Each beginning asks for more, or says the same. */
		for (size_t cut = 0; cut < in.len; cut++) {
			n = http1_response_parse(slice_sub(in, 0, cut), &r);
			assert_true(n == 0 || n == rows[i].want || (n < 0 && rows[i].want < 0));
		}
	}
}

static void test_security_23_heads_are_capped(void **state)
{
	struct buf text = {0};
	struct http1_response r;

	(void)state;
	buf_add_str(&text, "HTTP/1.1 200 OK\r\n");
	while (buf_len(&text) <= HTTP1_RESPONSE_HEAD_MOST)
		buf_add_str(&text, "X: yyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
	assert_int_equal(http1_response_parse(buf_view(&text), &r), ERR_TOO_BIG);
	buf_deinit(&text);
}

static void test_chunks(void **state)
{
	static const struct {
		const char *text, *want;
		bool is_over;
		int error;
	} rows[] = {{"5\r\nhello\r\n3;x=y\r\n wo\r\n0\r\n\r\nrest", "hello wo", true, 0},
		{"A\n0123456789\n0\nTrailer: x\n\n", "0123456789", true, 0}, {"0\r\n\r\n", "", true, 0},
		{"5\r\nhel", "hel", false, 0}, {"5\r\nhelloX\r\n", "hello", false, ERR_SYNTAX},
		{"\r\n", "", false, ERR_SYNTAX}, {"-1\r\n", "", false, ERR_SYNTAX},
		{"5x\r\n", "", false, ERR_SYNTAX}, {"ffffffffffffffff1\r\n", "", false, ERR_SYNTAX}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t cut = 0; cut <= strlen(rows[i].text); cut++) {
			struct http1_chunks c = {0};
			struct buf out = {0};
			size_t at = 0, end = cut;
			ssize_t n = 0;

			for (;;) {
				n = http1_response_chunk(
					&c, slice_sub(slice_str(rows[i].text), at, end - at), &out);
				if (n > 0)
					at += (size_t)n;
				else if (n == 0 && end < strlen(rows[i].text))
					end = strlen(rows[i].text);
				else
					break;
			}
			assert_int_equal(n, rows[i].error);
			assert_int_equal(c.is_over, rows[i].is_over);
			assert_string_equal(buf_str_view(&out), rows[i].want);
			buf_deinit(&out);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_heads),
		cmocka_unit_test(test_security_23_heads_are_capped), cmocka_unit_test(test_chunks)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
