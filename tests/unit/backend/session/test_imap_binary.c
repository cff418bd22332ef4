/* FETCH BINARY (RFC 3516): sections without their transfer encoding, their sizes, parts of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "tests/unit/backend/session/imap_rig.h"

static const char mail[] =
	"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: "
	"quoted-printable\r\n\r\n"
	"Stra=DFe soft=\r\n line\r\n"
	"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: "
	"base64\r\n\r\nAAEC\r\nAwQF\r\n"
	"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-strange\r\n\r\n???\r\n"
	"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
	"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: "
	"base64\r\n\r\nSGVsbG8=\r\n--b--\r\n";

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 0, 0);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void test_sections_are_decoded(void **state)
{
	struct rig_client c;
	struct buf got = {0};

	rig_connect(&c, *state, "alice@example.com");
	rig_append(&c, "INBOX", "", mail);
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "FETCH 1 (BINARY.PEEK[1] UID)",
		"* 1 FETCH (UID 1 BINARY[1] {16}\r\nStra\xdf"
		"e soft line)\r\n",
		"OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[1]<3.4>",
		"BINARY[1]<3> {4}\r\na\xdf"
		"e )\r\n",
		"OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[1]<900.4>", "BINARY[1]<900> {0}\r\n)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2] BINARY.SIZE[4])",
		"BINARY.SIZE[1] 16 BINARY.SIZE[2] 6 BINARY.SIZE[4] 5)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[4]", "BINARY[4] {5}\r\nplain)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 (BINARY.PEEK[5] BINARY.PEEK[5]<1.3> BINARY.PEEK[4]<0.2>)",
		"BINARY[5] {5}\r\nHello BINARY[5]<1> {3}\r\nell BINARY[4]<0> {2}\r\npl)\r\n", "OK");
	/* A NUL goes in a literal8. */
	(void)rig_command(&c, "NOOP");
	rig_send(&c, "x FETCH 1 BINARY.PEEK[2]\r\n", 26);
	(void)rig_until(&c, "* 1 FETCH (BINARY[2] ~{6}");
	(void)rig_until(&c, "x OK");
	buf_add_slice(&got, buf_view(&c.text));
	assert_non_null(memmem(got.data + got.start, buf_len(&got), "\0\1\2\3\4\5)\r\n", 9));
	buf_deinit(&got);
	/* What is not there, and what cannot be decoded. */
	RIG_EXPECT(
		&c, "FETCH 1 (BINARY.PEEK[9] BINARY.SIZE[9])", "BINARY[9] NIL BINARY.SIZE[9] 0)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[3]", "NO [UNKNOWN-CTE]");
	RIG_EXPECT(&c, "FETCH 1 BINARY.SIZE[3]", "NO [UNKNOWN-CTE]");
	/* All of it is as BODY[] shows it. */
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[]", "BINARY[] {", mail, ")\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 FLAGS", "FLAGS (\\Recent))", "OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY[4]", "FLAGS (\\Seen \\Recent) BINARY[4] {5}\r\nplain)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY[1.TEXT]", "BAD");
	rig_disconnect(&c);
}

/* More than a job holds: pieces that are counted and sent join to what was encoded. */
static void test_a_large_section(void **state)
{
	struct buf plain = {0}, text = {0}, command = {0};
	struct rig_client c;
	const char *got;

	for (uint32_t i = 0; buf_len(&plain) < 1000000; i++)
		buf_printf(&plain, "%u:", i * 2654435761u);
	buf_add_str(&text, "Content-Transfer-Encoding: base64\r\n\r\n");
	for (size_t at = 0; at < buf_len(&plain); at += 57) {
		base64_encode(&text, slice_sub(buf_view(&plain), at, 57));
		buf_add_str(&text, "\r\n");
	}
	rig_connect(&c, *state, "alice@example.com");
	rig_append(&c, "INBOX", "", buf_str_view(&text));
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	buf_printf(&command, "BINARY.SIZE[1] %zu)", buf_len(&plain));
	RIG_EXPECT(&c, "FETCH 1 BINARY.SIZE[1]", buf_str_view(&command), "OK");
	got = strstr(rig_command(&c, "FETCH 1 (BINARY.PEEK[1])"), "}\r\n");
	assert_non_null(got);
	assert_memory_equal(got + 3, plain.data + plain.start, buf_len(&plain));
	got = strstr(rig_command(&c, "FETCH 1 (BINARY.PEEK[1]<500000.400000>)"), "{400000}\r\n");
	assert_non_null(got);
	assert_memory_equal(got + 10, plain.data + plain.start + 500000, 400000);
	assert_memory_equal(got + 400010, ")\r\n", 3);
	buf_deinit(&plain);
	buf_deinit(&text);
	buf_deinit(&command);
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sections_are_decoded, start, stop),
		cmocka_unit_test_setup_teardown(test_a_large_section, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
