#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/proto/smtp_data.h"

#define R SMTP_BARE_REJECT
#define N SMTP_BARE_NORMALISE

struct row {
	const char *in;
	size_t consumed; /* 0: all */
	const char *out;
	bool ended;
	enum smtp_bare bare;
	enum smtp_data_fault fault;
};

static const struct row rows[] = {
	{"a\r\n.\r\n", 0, "a\r\n", true, N, SMTP_DATA_OK},
	{".\r\n", 0, "", true, N, SMTP_DATA_OK},
	{"a\r\n.\r\nQUIT\r\n", 6, "a\r\n", true, N, SMTP_DATA_OK},
	{"..\r\n...a\r\n.b\r\n.\r\n", 0, ".\r\n..a\r\nb\r\n", true, N, SMTP_DATA_OK},
	/* what other programs have taken for an end */
	{"a\n.\nb\r\n.\r\n", 0, "a\r\n.\r\nb\r\n", true, N, SMTP_DATA_OK},
	{"a\n.\r\nb\r\n.\r\n", 0, "a\r\n.\r\nb\r\n", true, N, SMTP_DATA_OK},
	{"a\r\n.\nb\r\n.\r\n", 0, "a\r\n\r\nb\r\n", true, N, SMTP_DATA_OK},
	{"a\r\n.\rb\r\n.\r\n", 0, "a\r\n\rb\r\n", true, N, SMTP_DATA_OK},
	{"a\r.\r\nb\r\n.\r\n", 0, "a\r.\r\nb\r\n", true, N, SMTP_DATA_OK},
	{"a\r.\rb\r\n.\r\n", 0, "a\r.\rb\r\n", true, N, SMTP_DATA_OK},
	{"a\n\r\n.\r\n", 0, "a\r\n\r\n", true, N, SMTP_DATA_OK},
	{"a\r\r\n.\r\n", 0, "a\r\r\n", true, N, SMTP_DATA_OK},
	{"a\r\n.\r\r\nb\r\n.\r\n", 0, "a\r\n\r\r\nb\r\n", true, N, SMTP_DATA_OK},
	/* dots behind a bare LF */
	{"a\n.b\n..c\n.\n...\r\n.\r\n", 0, "a\r\n.b\r\n.c\r\n.\r\n..\r\n", true, N, SMTP_DATA_OK},
	/* refused, and read to the end */
	{"a\nb\r\nc\r\n.\r\nX", 11, "a", true, R, SMTP_DATA_BARE_NEWLINE},
	{"a\rb\r\nc\r\n.\r\nX", 11, "a", true, R, SMTP_DATA_BARE_NEWLINE},
	{"a\r\n\xff\xe4\r\n.\r\n", 0, "a\r\n\xff\xe4\r\n", true, R, SMTP_DATA_OK},
	/* lines of more than a few octets, with some that are low or high */
	{"The quick\tbrown f\xc3\xb6x jumps\r\n..over it, 0123456789\r\n\r\n.....\r\nover\r\n.\r\n", 0,
		"The quick\tbrown f\xc3\xb6x jumps\r\n.over it, 0123456789\r\n\r\n....\r\nover\r\n", true, R,
		SMTP_DATA_OK},
	{"0123456789abcdef\n.123456789abcdef\r\n0123456789\rab\x0e\xff\r\n.\r\n", 0,
		"0123456789abcdef\r\n.123456789abcdef\r\n0123456789\rab\x0e\xff\r\n", true, N, SMTP_DATA_OK},
	{"first line\r\n0123456789abcdef\nX\r\n.\r\n", 0, "first line\r\n0123456789abcdef", true, R,
		SMTP_DATA_BARE_NEWLINE},
	{"", 0, "", false, N, SMTP_DATA_OK},
	{"abc\r\n.\r", 0, "abc\r\n", false, N, SMTP_DATA_OK},
};

static void check(const struct row *r, struct slice in, size_t cut, size_t step)
{
	struct smtp_decoder d;
	struct buf out = {0};
	size_t at = 0;
	size_t want = r->consumed ? r->consumed : in.len;

	smtp_data_decode_init(&d, r->bare, true);
	while (at < in.len && !d.is_ended) {
		size_t n = step ? step : at < cut ? cut - at : in.len - at;

		at += smtp_data_decode(&d, slice_sub(in, at, n), &out);
	}
	if (at != want || d.is_ended != r->ended || d.fault != r->fault ||
		!slice_is_str(buf_view(&out), r->out))
		fail_msg("%s cut %zu step %zu: consumed %zu want %zu, ended %d, fault %d, got '%.*s' want "
			 "'%s'",
			r->in, cut, step, at, want, d.is_ended, d.fault, SLICE_ARG(buf_view(&out)), r->out);
	buf_deinit(&out);
}

static void test_decode_at_every_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice in = slice_str(rows[i].in);

		for (size_t cut = 0; cut <= in.len; cut++)
			check(&rows[i], in, cut, 0);
		check(&rows[i], in, 0, 1);
	}
}

static void test_nul_is_refused(void **state)
{
	static const char in[] = "a\0b\r\nc\r\n.\r\n";
	struct row r = {in, sizeof(in) - 1, "a", true, N, SMTP_DATA_NUL};

	(void)state;
	for (size_t cut = 0; cut < sizeof(in); cut++)
		check(&r, slice_of(in, sizeof(in) - 1), cut, 0);
	for (size_t at = 0; at < 24; at++) {
		char text[] = "0123456789abcdefghijklmn\r\n.\r\n", want[sizeof(text)] = "";
		struct row later = {text, sizeof(text) - 1, want, true, N, SMTP_DATA_NUL};

		memcpy(want, text, at);
		text[at] = 0;
		check(&later, slice_of(text, sizeof(text) - 1), 0, 0);
	}
}

static void test_line_length(void **state)
{
	struct {
		size_t len;
		enum smtp_data_fault want;
	} lines[] = {{SMTP_DATA_LINE_MOST, SMTP_DATA_OK}, {SMTP_DATA_LINE_MOST + 1, SMTP_DATA_LONG_LINE}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct smtp_decoder d;
		struct buf in = {0}, out = {0};

		memset(buf_reserve(&in, lines[i].len), 'x', lines[i].len);
		buf_added(&in, lines[i].len);
		buf_add_str(&in, "\r\nend\r\n.\r\n");
		smtp_data_decode_init(&d, N, true);
		assert_int_equal(smtp_data_decode(&d, buf_view(&in), &out), buf_len(&in));
		assert_true(d.is_ended);
		assert_int_equal(d.fault, lines[i].want);
		assert_int_equal(buf_len(&out), i == 0 ? lines[i].len + 7 : 0);
		buf_deinit(&in);
		buf_deinit(&out);
	}
}

static void test_bdat(void **state)
{
	static const struct {
		const char *in, *out;
		enum smtp_data_fault reject;
	} cases[] = {
		{"a\r\n.\r\nb\r\n", "a\r\n.\r\nb\r\n", SMTP_DATA_OK},
		{"..a\nb", "..a\r\nb\r\n", SMTP_DATA_BARE_NEWLINE},
		{"a\r", "a\r\r\n", SMTP_DATA_BARE_NEWLINE},
		{"", "", SMTP_DATA_OK},
		{"x", "x\r\n", SMTP_DATA_OK},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice in = slice_str(cases[i].in);

		for (size_t cut = 0; cut <= in.len; cut++) {
			struct smtp_decoder d;
			struct buf out = {0};

			smtp_data_decode_init(&d, N, false);
			assert_int_equal(smtp_data_decode(&d, slice_sub(in, 0, cut), &out), cut);
			assert_int_equal(smtp_data_decode(&d, slice_from(in, cut), &out), in.len - cut);
			smtp_data_decode_end(&d, &out);
			assert_string_equal(buf_str_view(&out), cases[i].out);
			assert_false(d.is_ended);
			buf_clear(&out);
			smtp_data_decode_init(&d, R, false);
			assert_int_equal(smtp_data_decode(&d, in, &out), in.len);
			smtp_data_decode_end(&d, &out);
			assert_int_equal(d.fault, cases[i].reject);
			buf_deinit(&out);
		}
	}
}

static void test_encode_at_every_split(void **state)
{
	static const struct {
		const char *in, *ours, *others;
	} cases[] = {
		{"a\r\n.b\r\n", "a\r\n..b\r\n.\r\n", "a\r\n..b\r\n.\r\n"},
		{"", ".\r\n", ".\r\n"},
		{"a\r.b\r\n", "a\r.b\r\n.\r\n", "a\r\n..b\r\n.\r\n"},
		{".\n.", "..\r\n..\r\n.\r\n", "..\r\n..\r\n.\r\n"},
		{"a\r", "a\r\r\n.\r\n", "a\r\n.\r\n"},
		{"\r\r\n", "\r\r\n.\r\n", "\r\n\r\n.\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice in = slice_str(cases[i].in);

		for (size_t cut = 0; cut <= in.len; cut++) {
			for (int splits = 0; splits < 2; splits++) {
				struct smtp_encoder e;
				struct buf out = {0};

				smtp_data_encode_init(&e, splits);
				smtp_data_encode(&e, slice_sub(in, 0, cut), &out);
				smtp_data_encode(&e, slice_from(in, cut), &out);
				smtp_data_encode_end(&e, &out);
				assert_string_equal(
					buf_str_view(&out), splits ? cases[i].others : cases[i].ours);
				buf_deinit(&out);
			}
		}
	}
}

static void test_hops(void **state)
{
	struct slice in =
		SLICE_LIT("Received: a\r\n\tReceived: b\r\nX-Received: c\r\nrecEIVED: d\r\nReceive: e\r\n"
			  "Received : f\r\n\r\nReceived: g\r\n");

	(void)state;
	for (size_t cut = 0; cut <= in.len; cut++) {
		struct smtp_hops h = {0};

		smtp_data_count_hops(&h, slice_sub(in, 0, cut));
		smtp_data_count_hops(&h, slice_from(in, cut));
		assert_int_equal(h.count, 2);
		assert_true(h.is_past_header);
	}
}

/* "by" and our host, in any spelling and fold; a longer host, another word or another field is not ours. */
static void test_own_hops(void **state)
{
	struct slice in = SLICE_LIT("Received: from a by mx.Test.example with ESMTP\r\n"
				    "Received: from b (x)\r\n\tBY\r\n\tMX.test.example;\r\n\tdate\r\n"
				    "Received: by mx.test.example\r\n"
				    "Received: by mx.test.example.org with x by mx.test.example2\r\n"
				    "Received: from mx.test.example by other (standby mx.test.example)\r\n"
				    "Received: bymx.test.example\r\n"
				    "X-Received: by mx.test.example\r\n"
				    "\r\nReceived: by mx.test.example\r\n");

	(void)state;
	for (size_t cut = 0; cut <= in.len; cut++) {
		struct smtp_hops h = {.host = "mx.test.Example"};

		smtp_data_count_hops(&h, slice_sub(in, 0, cut));
		smtp_data_count_hops(&h, slice_from(in, cut));
		assert_int_equal(h.count, 6);
		assert_int_equal(h.own, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode_at_every_split),
		cmocka_unit_test(test_nul_is_refused),
		cmocka_unit_test(test_line_length),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_encode_at_every_split),
		cmocka_unit_test(test_hops),
		cmocka_unit_test(test_own_hops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
