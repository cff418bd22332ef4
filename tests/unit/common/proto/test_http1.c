/* HTTP/1.1 request heads: what is taken, what is refused, every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/http1.h"
#include "tests/unit/feed.h"

static void test_heads_are_taken_or_refused(void **state)
{
	static const struct {
		const char *in;
		ssize_t want; /* 0: more; negative: error; 1: whole */
		const char *path, *query;
		bool keep_alive, has_body;
	} rows[] = {
		{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1, "/metrics", "", true, false},
		{"HEAD /a?b=c?d HTTP/1.0\r\n\r\n", 1, "/a", "b=c?d", false, false},
		{"GET / HTTP/1.1\r\nHost:\r\nConnection: te, Close\r\n\r\n", 1, "/", "", false, false},
		{"GET / HTTP/1.1\r\nhOST: x\r\nContent-Length: 0\r\n\r\n", 1, "/", "", true, false},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", 1, "/", "", true, true},
		{"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 1, "/", "", true, true},
		{"GET / HTTP/1.1\r\nHost: x\r\n", 0, NULL, NULL, 0, 0},
		{"GET / HTTP/1.1\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.1\nHost: x\n\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/2.0\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET http://x/ HTTP/1.0\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET  / HTTP/1.0\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"G@T / HTTP/1.0\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\nA : b\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\nA: b\r\n c\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\n: b\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\nA: b\rc\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ERR_SYNTAX, NULL, NULL,
			0, 0},
		{"GET / HTTP/1.0\r\nContent-Length: +1\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"GET / HTTP/1.0\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n", ERR_SYNTAX, NULL,
			NULL, 0, 0},
		{"GET /\x80 HTTP/1.0\r\n\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
		{"EHLO example.com\r\n", ERR_SYNTAX, NULL, NULL, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct http1_request r = {0};
		ssize_t got = http1_parse_request(page.text, &r);

		if ((got > 0 ? 1 : got) != rows[i].want)
			fail_msg("row %zu: got %zd", i, got);
		if (got > 0) {
			assert_true(slice_is_str(r.path, rows[i].path));
			assert_true(slice_is_str(r.query, rows[i].query));
			assert_int_equal(r.keep_alive, rows[i].keep_alive);
			assert_int_equal(r.has_body, rows[i].has_body);
		}
		feed_page_free(&page);
	}
}

static void test_caps_hold(void **state)
{
	struct buf b = {0};
	struct http1_request r;

	(void)state;
	buf_add_str(&b, "GET /");
	while (buf_len(&b) < HTTP1_LINE_MOST + 1)
		buf_add_char(&b, 'a');
	assert_int_equal(http1_parse_request(buf_view(&b), &r), ERR_TOO_BIG);
	buf_clear(&b);
	buf_add_str(&b, "GET / HTTP/1.0\r\n");
	for (int i = 0; i < HTTP1_FIELDS_MOST + 1; i++)
		buf_add_str(&b, "a: b\r\n");
	assert_int_equal(http1_parse_request(buf_view(&b), &r), ERR_TOO_BIG);
	buf_clear(&b);
	buf_add_str(&b, "GET / HTTP/1.0\r\na: ");
	while (buf_len(&b) < HTTP1_HEAD_MOST + 1)
		buf_add_char(&b, 'a');
	assert_int_equal(http1_parse_request(buf_view(&b), &r), ERR_TOO_BIG);
	buf_deinit(&b);
}

static ssize_t feed_head(void *arg, struct slice in)
{
	return http1_parse_request(in, arg);
}

static void test_splits_change_nothing(void **state)
{
	struct slice in = slice_str("GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
	struct http1_request r;

	(void)state;
	for (size_t cut = 0; cut <= in.len; cut++)
		assert_int_equal(feed_split(feed_head, &r, in, cut), in.len);
	assert_int_equal(feed_bytes(feed_head, &r, in), in.len);
}

static void test_the_response_head(void **state)
{
	struct buf b = {0};

	(void)state;
	http1_write_head(&b, 503, "text/plain", 7, false);
	assert_string_equal(buf_str_view(&b),
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
		"Content-Length: 7\r\nCache-Control: no-store\r\n"
		"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads_are_taken_or_refused),
		cmocka_unit_test(test_caps_hold),
		cmocka_unit_test(test_splits_change_nothing),
		cmocka_unit_test(test_the_response_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
