/* PROXY headers of both versions: what is taken, what is refused and when, what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/proxy_protocol.h"
#include "tests/unit/feed.h"

#define SIGN "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\300\0\2\1\306\63\144\7\x1f\x90\0\x8f" /* 192.0.2.1 8080, 198.51.100.7 143 */
#define V6 "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\2\0\1\0\2"
#define IN(literal) (literal), sizeof(literal) - 1

static void test_lines(void **state)
{
	static const struct {
		const char *in;
		ssize_t want; /* 1: whole */
		enum proxy_protocol_family family;
		uint16_t source_port, destination_port;
		uint8_t first, last; /* octets of the source */
	} rows[] = {
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324 143\r\n", 1, PROXY_PROTOCOL_TCP4, 56324, 143, 192,
			1},
		{"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, PROXY_PROTOCOL_TCP4, 65535,
			65535, 255, 255},
		{"PROXY TCP4 1.2.3.4 0.0.0.0 0 0\r\n", 1, PROXY_PROTOCOL_TCP4, 0, 0, 1, 4},
		{"PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n", 1, PROXY_PROTOCOL_TCP6, 1, 2, 0x20, 1},
		{"PROXY UNKNOWN\r\n", 1, PROXY_PROTOCOL_UNKNOWN, 0, 0, 0, 0},
		{"PROXY UNKNOWN ffff::1 what else 1\r\n", 1, PROXY_PROTOCOL_UNKNOWN, 0, 0, 0, 0},
		{"", 0, 0, 0, 0, 0, 0},
		{"P", 0, 0, 0, 0, 0, 0},
		{"PROXY", 0, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324 143", 0, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324 143\r", 0, 0, 0, 0, 0, 0},
		/* somebody else's first words are refused at their first octet */
		{"E", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"EHLO example.com\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"proxy TCP4 192.0.2.1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY \r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY UNKNOWNX\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP5 192.0.2.1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324 143\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4  192.0.2.1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324 143 \r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 056324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 65536 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.1 198.51.100.7 -1 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.02.1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 192.0.2.256 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP4 2001:db8::1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP6 192.0.2.1 198.51.100.7 56324 143\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
		{"PROXY TCP6 2001:db8::1%lo 2001:db8::2 1 2\r\n", ERR_SYNTAX, 0, 0, 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct proxy_protocol h = {0};
		ssize_t got = proxy_protocol_parse(page.text, &h);

		if ((got > 0 ? 1 : got) != rows[i].want)
			fail_msg("row %zu (%s): got %zd", i, rows[i].in, got);
		if (got > 0) {
			assert_int_equal(got, page.text.len);
			assert_int_equal(h.version, 1);
			assert_int_equal(h.family, rows[i].family);
			assert_int_equal(h.source_port, rows[i].source_port);
			assert_int_equal(h.destination_port, rows[i].destination_port);
			assert_int_equal(h.source[0], rows[i].first);
			assert_int_equal(h.source[h.family == PROXY_PROTOCOL_TCP4 ? 3 : 15], rows[i].last);
			assert_false(proxy_protocol_is_secure(&h));
		}
		feed_page_free(&page);
	}
}

static void test_a_line_has_107_octets_at_most(void **state)
{
	char line[PROXY_PROTOCOL_LINE_MOST + 2] = "PROXY UNKNOWN ";
	const size_t most = PROXY_PROTOCOL_LINE_MOST;
	struct proxy_protocol h;

	(void)state;
	memset(line + 14, 'x', sizeof(line) - 14);
	assert_int_equal(proxy_protocol_parse(slice_of(line, most - 1), &h), 0);
	assert_int_equal(proxy_protocol_parse(slice_of(line, most), &h), ERR_SYNTAX);
	memcpy(line + most - 2, "\r\n", 2);
	assert_int_equal(proxy_protocol_parse(slice_of(line, most), &h), most);
	memcpy(line + most - 2, "x\r\n", 3);
	assert_int_equal(proxy_protocol_parse(slice_of(line, most + 1), &h), ERR_SYNTAX);
}

struct binary_row {
	const char *in;
	size_t len;
	ssize_t want;
};

static void test_binary_headers(void **state)
{
	static const struct binary_row rows[] = {
		{IN(SIGN "\x21\x11\0\x0c" V4), 1},
		{IN(SIGN "\x21\x21\0\x24" V6), 1},
		{IN(SIGN "\x20\0\0\0"), 1},
		{IN(SIGN "\x20\x11\0\x0c" V4), 1}, /* LOCAL, whatever follows */
		{IN(SIGN "\x20\x77\0\4abcd"), 1},  /* even a family that there is not */
		{IN(SIGN "\x21\0\0\0"), 1},        /* unspecified */
		{IN(SIGN "\x21\0\0\4abcd"), 1},
		{IN(SIGN "\x21\x11\0\x0f" V4 "\4\0\0"), 1}, /* NOOP */
		{IN(SIGN "\x21\x11\0\x12" V4 "\4\0\3abc"), 1},
		{IN(SIGN "\x21\x11\0\x14" V4 "\x30\0\5netns"), 1},
		{IN(SIGN "\x21\x11\0\x10" V4 "\xe0\0\1x"), 1}, /* ours to pass over */
		{IN("\r"), 0},
		{IN("\r\n\r\n\0\r\nQUIT"), 0},
		{IN(SIGN), 0},
		{IN(SIGN "\x21\x11\0"), 0},
		{IN(SIGN "\x21\x11\0\x0c"
			 "\300\0\2\1"),
			0},
		{IN("\r\n\r\n\0\r\nQUIX"), ERR_SYNTAX},
		{IN("\n"), ERR_SYNTAX},
		{IN(SIGN "\x11"), ERR_SYNTAX}, /* a version that there is not, said at once */
		{IN(SIGN "\x31"), ERR_SYNTAX},
		{IN(SIGN "\x22"), ERR_SYNTAX}, /* a command that there is not */
		{IN(SIGN "\x21\x11\0\x0b"
			 "\300\0\2\1\306\63\144\7\x1f\x90\0"),
			ERR_SYNTAX}, /* cut addresses */
		{IN(SIGN "\x21\x41\0\0"), ERR_SYNTAX},
		{IN(SIGN "\x21\x10\0\x0c" V4), ERR_SYNTAX},
		{IN(SIGN "\x21\x13\0\x0c" V4), ERR_SYNTAX},
		{IN(SIGN "\x21\x12\0\x0c" V4), ERR_UNSUPPORTED}, /* datagrams */
		{IN(SIGN "\x21\x11\x0f\xf1" V4), ERR_TOO_BIG},
		{IN(SIGN "\x21\x11\x0f\xf0" V4), 0},
		/* additions that are cut */
		{IN(SIGN "\x21\x11\0\x0d" V4 "\4"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x0f" V4 "\4\0\1"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x10" V4 "\4\xff\xff"
			 "a"),
			ERR_SYNTAX},
		/* twice */
		{IN(SIGN "\x21\x11\0\x14" V4 "\2\0\1a"
			 "\2\0\1b"),
			ERR_SYNTAX},
		/* controls, bad UTF-8 in text */
		{IN(SIGN "\x21\x11\0\x10" V4 "\2\0\1\n"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x10" V4 "\2\0\1\0"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x10" V4 "\2\0\1\xff"), ERR_SYNTAX},
		/* TLS: too short, an inner addition cut, a control in the name, twice */
		{IN(SIGN "\x21\x11\0\x13" V4 "\x20\0\4\1\0\0\0"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x15" V4 "\x20\0\6\1\0\0\0\0\x22"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x18" V4 "\x20\0\x09\1\0\0\0\0\x22\0\1\r"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x1c" V4 "\x20\0\5\1\0\0\0\0\x20\0\5\1\0\0\0\0"), ERR_SYNTAX},
		/* checksums: wrong, of a wrong length */
		{IN(SIGN "\x21\x11\0\x13" V4 "\3\0\4\1\2\3\4"), ERR_SYNTAX},
		{IN(SIGN "\x21\x11\0\x12" V4 "\3\0\3\1\2\3"), ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_of(rows[i].in, rows[i].len));
		struct proxy_protocol h = {0};
		ssize_t got = proxy_protocol_parse(page.text, &h);

		if ((got > 0 ? 1 : got) != rows[i].want)
			fail_msg("row %zu: got %zd", i, got);
		if (got > 0) {
			assert_int_equal(got, rows[i].len);
			assert_int_equal(h.version, 2);
		}
		feed_page_free(&page);
	}
}

/* The digest was made by another implementation, for which that of "123456789" is E3069283. */
static void test_checksum(void **state)
{
	char header[] = SIGN "\x21\x11\0\x16" V4 "\3\0\4\x6b\xeb\x0d\x76"
			     "\2\0\0";
	const size_t len = sizeof(header) - 1;
	struct proxy_protocol h;
	unsigned right = 0;

	(void)state;
	/* Of one octet's 256 values exactly one is right, and the others of the header are covered too. */
	for (unsigned i = 0; i < 256; i++) {
		header[len - 7] = (char)i;
		right += proxy_protocol_parse(slice_of(header, len), &h) > 0;
	}
	assert_int_equal(right, 1);
	header[len - 7] = 0x6b;
	assert_int_equal(proxy_protocol_parse(slice_of(header, len), &h), len);
	header[16] ^= 1;
	assert_int_equal(proxy_protocol_parse(slice_of(header, len), &h), ERR_SYNTAX);
}

static void test_additions_are_read(void **state)
{
	static const char in[] = SIGN "\x21\x11\0\x4a" V4 "\2\0\x0c"
				      "mail.example"
				      "\1\0\4imap"
				      "\5\0\3\0\1\2"
				      "\x20\0\x1f"
				      "\7\0\0\0\0"
				      "\x21\0\7TLSv1.3"
				      "\x22\0\5alice"
				      "\x23\0\5AES-1"
				      "after";
	struct proxy_protocol h;

	(void)state;
	assert_int_equal(proxy_protocol_parse(slice_of(in, sizeof(in) - 1), &h), sizeof(in) - 1 - 5);
	assert_int_equal(h.family, PROXY_PROTOCOL_TCP4);
	assert_int_equal(h.source_port, 8080);
	assert_int_equal(h.destination_port, 143);
	assert_memory_equal(h.destination, "\306\63\144\7", 4);
	assert_true(slice_is_str(h.authority, "mail.example"));
	assert_true(slice_is_str(h.alpn, "imap"));
	assert_true(slice_is_equal(h.unique_id, SLICE_LIT("\0\1\2")));
	assert_true(h.has_ssl);
	assert_true(slice_is_str(h.ssl_version, "TLSv1.3"));
	assert_true(slice_is_str(h.ssl_cipher, "AES-1"));
	assert_true(slice_is_str(proxy_protocol_verified_name(&h), "alice"));
}

/* As in Dovecot before 2.4.4: the name of a certificate that was not verified, or not shown, names nobody. */
static void test_security_07_unverified_names_name_nobody(void **state)
{
	static const struct {
		uint8_t client;
		uint32_t verify;
		bool is_secure, has_name;
	} rows[] = {
		{0, 0, false, false},
		{1, 0, true, false},
		{3, 0, true, true},
		{5, 0, true, true},
		{3, 1, true, false},
		{3, UINT32_C(0x80000000), true, false},
		{2, 0, false, false},
		{6, 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct proxy_protocol h = {.family = PROXY_PROTOCOL_TCP4,
			.has_ssl = true,
			.ssl_client = rows[i].client,
			.ssl_verify = rows[i].verify,
			.ssl_cn = SLICE_LIT("alice")};
		struct proxy_protocol got = {0};
		struct buf out = {0};

		proxy_protocol_write(&out, &h);
		assert_int_equal(proxy_protocol_parse(buf_view(&out), &got), buf_len(&out));
		assert_int_equal(proxy_protocol_is_secure(&got), rows[i].is_secure);
		assert_int_equal(proxy_protocol_verified_name(&got).len > 0, rows[i].has_name);
		buf_deinit(&out);
	}
}

static void test_written_headers_are_read_again(void **state)
{
	static const struct proxy_protocol rows[] = {
		{.is_local = true},
		{.family = PROXY_PROTOCOL_UNKNOWN},
		{.family = PROXY_PROTOCOL_TCP4,
			.source = {192, 0, 2, 1},
			.destination = {198, 51, 100, 7},
			.source_port = 65535,
			.destination_port = 25},
		{.family = PROXY_PROTOCOL_TCP6,
			.source = {0x20, 1, 0xd, 0xb8, [15] = 1},
			.destination = {0x20, 1, 0xd, 0xb8, [15] = 2},
			.source_port = 1,
			.destination_port = 993,
			.authority = {"mail.example", 12},
			.unique_id = {"0123456789abcdef", 16},
			.alpn = {"imap", 4},
			.has_ssl = true,
			.ssl_client = 7,
			.ssl_verify = 0x01020304,
			.ssl_version = {"TLSv1.3", 7},
			.ssl_cn = {"al\xc3\xaf"
				   "ce",
				6},
			.ssl_cipher = {"AES", 3}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct proxy_protocol *want = &rows[i];
		struct proxy_protocol got = {0};
		struct buf out = {0};

		proxy_protocol_write(&out, want);
		assert_int_equal(proxy_protocol_parse(buf_view(&out), &got), buf_len(&out));
		assert_int_equal(got.is_local, want->is_local);
		assert_int_equal(got.family, want->family);
		assert_memory_equal(got.source, want->source, 16);
		assert_memory_equal(got.destination, want->destination, 16);
		assert_int_equal(got.source_port, want->source_port);
		assert_int_equal(got.destination_port, want->destination_port);
		assert_true(slice_is_equal(got.authority, want->authority));
		assert_true(slice_is_equal(got.unique_id, want->unique_id));
		assert_true(slice_is_equal(got.alpn, want->alpn));
		assert_int_equal(got.has_ssl, want->has_ssl);
		assert_int_equal(got.ssl_client, want->ssl_client);
		assert_int_equal(got.ssl_verify, want->ssl_verify);
		assert_true(slice_is_equal(got.ssl_version, want->ssl_version));
		assert_true(slice_is_equal(got.ssl_cn, want->ssl_cn));
		assert_true(slice_is_equal(got.ssl_cipher, want->ssl_cipher));
		buf_deinit(&out);
	}
}

static ssize_t feed_header(void *arg, struct slice in)
{
	return proxy_protocol_parse(in, arg);
}

static void test_every_split_says_the_same(void **state)
{
	static const struct binary_row rows[] = {
		{IN(SIGN "\x21\x11\0\x1b" V4 "\2\0\x0c"
			 "mail.example"),
			0},
		{IN(SIGN "\x20\0\0\0"), 0},
		{IN("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice in = slice_of(rows[i].in, rows[i].len);
		struct proxy_protocol h;

		for (size_t cut = 0; cut <= in.len; cut++)
			assert_int_equal(feed_split(feed_header, &h, in, cut), in.len);
		assert_int_equal(feed_bytes(feed_header, &h, in), in.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_a_line_has_107_octets_at_most),
		cmocka_unit_test(test_binary_headers),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_additions_are_read),
		cmocka_unit_test(test_security_07_unverified_names_name_nobody),
		cmocka_unit_test(test_written_headers_are_read_again),
		cmocka_unit_test(test_every_split_says_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
