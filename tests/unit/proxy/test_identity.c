/* What is written is read again by the parser of the format. */
#include "proxy/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/proto/proxy_protocol.h"

static void write_and_read(struct buf *out, const struct identity_client *client, struct proxy_protocol *h)
{
	buf_clear(out);
	identity_write(out, client);
	assert_int_equal(proxy_protocol_parse(buf_view(out), h), (ssize_t)buf_len(out));
}

static void test_addresses_of_every_kind(void **state)
{
	static const struct {
		const char *client, *local;
		enum proxy_protocol_family want;
		uint8_t source[16], destination[16];
	} rows[] = {
		{"192.0.2.1", "192.0.2.2", PROXY_PROTOCOL_TCP4, {192, 0, 2, 1}, {192, 0, 2, 2}},
		{"2001:db8::1", "2001:db8::2", PROXY_PROTOCOL_TCP6,
			{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
			{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}},
		{"192.0.2.1", "2001:db8::2", PROXY_PROTOCOL_TCP6,
			{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1},
			{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}},
		{"/run/x", "192.0.2.2", PROXY_PROTOCOL_UNKNOWN, {0}, {0}},
	};
	struct buf out = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr client, local;
		struct proxy_protocol h;
		const struct identity_client who = {&client, &local, "abcdefgh", NULL, false};

		assert_int_equal(addr_parse(slice_str(rows[i].client), 1234, &client), 0);
		assert_int_equal(addr_parse(slice_str(rows[i].local), 143, &local), 0);
		write_and_read(&out, &who, &h);
		assert_int_equal(h.family, rows[i].want);
		assert_memory_equal(h.source, rows[i].source, 16);
		assert_memory_equal(h.destination, rows[i].destination, 16);
		if (h.family != PROXY_PROTOCOL_UNKNOWN) {
			assert_int_equal(h.source_port, 1234);
			assert_int_equal(h.destination_port, 143);
			assert_true(slice_is_str(h.unique_id, "abcdefgh"));
		}
		assert_false(h.is_local || h.has_ssl);
	}
	buf_deinit(&out);
}

static void test_tls_and_probes(void **state)
{
	struct addr addr;
	const struct identity_client over_tls = {&addr, &addr, "s", "TLSv1.3 TLS_AES_128_GCM_SHA256", true};
	const struct identity_client before_us = {&addr, &addr, "s", NULL, true};
	struct proxy_protocol h;
	struct buf out = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.1"), 1, &addr), 0);
	write_and_read(&out, &over_tls, &h);
	assert_true(proxy_protocol_is_secure(&h));
	assert_true(slice_is_str(h.ssl_version, "TLSv1.3"));
	assert_true(slice_is_str(h.ssl_cipher, "TLS_AES_128_GCM_SHA256"));
	assert_int_equal(proxy_protocol_verified_name(&h).len, 0);
	write_and_read(&out, &before_us, &h);
	assert_true(proxy_protocol_is_secure(&h));
	write_and_read(&out, NULL, &h);
	assert_true(h.is_local);
	buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_of_every_kind),
		cmocka_unit_test(test_tls_and_probes),
	};

	mem_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
