#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/proto/received_spf.h"

static void test_written(void **state)
{
	struct received_spf field = {.result = "pass",
		.identity = "mailfrom",
		.receiver = SLICE_LIT("mx.example.test"),
		.client_ip = SLICE_LIT("192.0.2.1"),
		.domain = SLICE_LIT("sender.test"),
		.envelope_from = SLICE_LIT("alice@sender.test"),
		.helo = SLICE_LIT("mail.sender.test"),
		.mechanism = SLICE_LIT("ip4:192.0.2.0/24")};
	struct buf out = {0};

	(void)state;
	received_spf_write(&out, &field);
	assert_string_equal(buf_str_view(&out),
		"Received-SPF: pass\r\n"
		"\t(mx.example.test: domain sender.test designates 192.0.2.1 as permitted sender)\r\n"
		"\tidentity=mailfrom; client-ip=192.0.2.1;\r\n"
		"\tenvelope-from=\"alice@sender.test\"; helo=mail.sender.test;\r\n"
		"\treceiver=mx.example.test; mechanism=\"ip4:192.0.2.0/24\";\r\n");
	buf_deinit(&out);
}

static void test_security_04_texts_are_encoded(void **state)
{
	struct received_spf field = {.result = "permerror",
		.identity = "helo",
		.receiver = SLICE_LIT("mx"),
		.client_ip = SLICE_LIT("2001:db8::1"),
		.domain = SLICE_LIT("a)b\r\nc"),
		.helo = SLICE_LIT("x\ny"),
		.problem = SLICE_LIT("\"\\")};
	struct buf out = {0};

	(void)state;
	received_spf_write(&out, &field);
	assert_string_equal(buf_str_view(&out),
		"Received-SPF: permerror\r\n"
		"\t(mx: domain a\\)b??c has a wrong record, asked about 2001:db8::1)\r\n"
		"\tidentity=helo; client-ip=\"2001:db8::1\"; helo=\"x?y\"; receiver=mx;\r\n"
		"\tmechanism=default; problem=\"\\\"\\\\\";\r\n");
	buf_deinit(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_security_04_texts_are_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
