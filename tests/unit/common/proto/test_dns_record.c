/* Data of DNS records; each row is read at the end of a page, and with the arena full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/dns_record.h"
#include "tests/unit/feed.h"

static void show(const struct dns_record *r, struct buf *out)
{
	for (size_t i = 0; i < r->ip.len; i++)
		buf_printf(out, "%s%u", i ? "." : "", (unsigned char)r->ip.p[i]);
	if (r->name.p)
		buf_printf(out, "%u <%.*s>", r->preference, SLICE_ARG(r->name));
	if (r->text.p)
		buf_printf(out, "\"%.*s\"", SLICE_ARG(r->text));
	if (r->data.p)
		buf_printf(out, "%u %u %u %.*s", r->usage, r->selector, r->matching, SLICE_ARG(r->data));
}

static void test_data(void **state)
{
#define DATA(text) text, sizeof(text) - 1
	static const struct {
		enum dns_type type;
		const char *data;
		size_t len;
		const char *want; /* NULL: ERR_SYNTAX */
	} rows[] = {
		{DNS_A, DATA("\xc0\0\2\1"), "192.0.2.1"},
		{DNS_A, DATA("\xc0\0\2"), NULL},
		{DNS_A, DATA("\xc0\0\2\1\1"), NULL},
		{DNS_AAAA, DATA("0123456789abcdef"), "48.49.50.51.52.53.54.55.56.57.97.98.99.100.101.102"},
		{DNS_AAAA, DATA("0123"), NULL},
		{DNS_MX, DATA("\1\2\2MX\4test\0"), "258 <mx.test>"},
		{DNS_MX, DATA("\0\0\0"), "0 <>"}, /* RFC 7505 */
		{DNS_MX, DATA("\0\0"), NULL},
		{DNS_MX, DATA("\0\0\2mx\4test"), NULL},
		{DNS_MX, DATA("\0\0\2mx\4test\0x"), NULL},
		{DNS_MX, DATA("\0\0\3m\r\n\4test\0"), NULL},
		{DNS_MX, DATA("\0\0\3m x\4test\0"), NULL},
		{DNS_MX, DATA("\0\0\3m.x\4test\0"), NULL},
		{DNS_MX, DATA("\0\0\2mx\xc0\0"), NULL}, /* a pointer */
		{DNS_CNAME, DATA("\1a\4test\0"), "0 <a.test>"},
		{DNS_PTR, DATA("\1a\4test\0"), "0 <a.test>"},
		{DNS_PTR, DATA("\0"), NULL},
		{DNS_PTR, DATA(""), NULL},
		{DNS_TXT, DATA("\3abc\0\2de"), "\"abcde\""},
		{DNS_TXT, DATA("\0"), "\"\""},
		{DNS_TXT, DATA("\3ab"), NULL},
		{DNS_TXT, DATA(""), NULL},
		{DNS_TLSA, DATA("\3\1\1abc"), "3 1 1 abc"},
		{DNS_TLSA, DATA("\377\1\1abc"), "255 1 1 abc"},
		{DNS_TLSA, DATA("\3\1\1"), NULL},
	};
#undef DATA

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_of(rows[i].data, rows[i].len));
		struct dns_record r = {0};
		struct buf out = {0};
		struct arena arena;
		int err;

		arena_init(&arena, 0);
		err = dns_record_parse(&arena, rows[i].type, page.text, false, &r);
		show(&r, &out);
		if (err != (rows[i].want ? 0 : ERR_SYNTAX) ||
			strcmp(buf_str_view(&out), rows[i].want ? rows[i].want : "") != 0)
			fail_msg("row %zu: %d %s", i, err, buf_str_view(&out));
		arena_fail_after(1);
		if (rows[i].want)
			assert_int_equal(
				dns_record_parse(&arena, rows[i].type, page.text, false, &r), ERR_TOO_BIG);
		arena_fail_after(0);
		arena_deinit(&arena);
		buf_deinit(&out);
		feed_page_free(&page);
	}
}

static void test_security_04_long_names_are_refused(void **state)
{
	char data[300];
	struct dns_record r;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t labels = 1; labels < sizeof(data) / 2 - 1; labels++) {
		for (size_t i = 0; i < labels; i++)
			memcpy(data + 2 * i, "\1a", 2);
		data[2 * labels] = '\0';
		assert_int_equal(dns_record_parse(&arena, DNS_PTR, slice_of(data, 2 * labels + 1), false, &r),
			2 * labels - 1 <= DNS_NAME_MOST ? 0 : ERR_SYNTAX);
	}
	arena_deinit(&arena);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_security_04_long_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
