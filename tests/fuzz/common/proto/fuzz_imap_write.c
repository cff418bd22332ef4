/* Whatever the encoder is given, its text is one value for the parser; mailbox names come back as they were.
 */
#include "common/base/attr.h"
#include "common/proto/imap_parse.h"
#include "common/proto/imap_write.h"
#include "common/proto/mutf7.h"
#include "common/proto/pop3_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The one argument's text. */
static void check_one_value(struct buf *value, struct slice want)
{
	struct buf command = {0};
	struct imap_parse p;
	struct arena arena;
	enum imap_parse_event event = IMAP_PARSE_MORE;
	size_t at = 0;

	buf_add_str(&command, "a B ");
	buf_add_slice(&command, buf_view(value));
	buf_add_str(&command, "\r\n");
	arena_init(&arena, IMAP_PARSE_ARENA_AFTER);
	imap_parse_start(&p, &imap_parse_limits_after_login, &arena);
	do {
		ssize_t n = imap_parse_feed(&p, slice_from(buf_view(&command), at), &event);

		require(n >= 0 && event != IMAP_PARSE_MORE && event != IMAP_PARSE_BAD);
		at += (size_t)n;
		if (event == IMAP_PARSE_LITERAL)
			require(imap_parse_hold(&p) == 0);
	} while (event != IMAP_PARSE_COMMAND);
	require(at == buf_len(&command) && p.command.count == 1);
	require(want.p == NULL || slice_is_equal(p.command.args->text, want));
	arena_deinit(&arena);
	buf_deinit(&command);
}

static void check_mailbox(struct slice in)
{
	struct buf a = {0}, b = {0};

	if (mutf7_encode(&a, in) == 0) {
		require(mutf7_decode(&b, buf_view(&a)) == 0);
		require(slice_is_equal(buf_view(&b), in));
	}
	buf_clear(&a);
	buf_clear(&b);
	if (mutf7_decode(&a, in) == 0) {
		require(slice_is_utf8(buf_view(&a)));
		require(mutf7_encode(&b, buf_view(&a)) == 0);
		require(slice_is_equal(buf_view(&b), in));
	}
	buf_deinit(&a);
	buf_deinit(&b);
}

/* The stuffed text has no line that is a lone dot but the last, and lines end in CRLF alone. */
static void check_stuffing(struct slice in, size_t cut)
{
	struct pop3_parse_stuff stuff;
	struct buf out = {0}, whole = {0};
	struct slice got;

	pop3_parse_stuff_init(&stuff);
	pop3_parse_stuff_add(&stuff, &out, slice_sub(in, 0, cut));
	pop3_parse_stuff_add(&stuff, &out, slice_from(in, cut));
	pop3_parse_stuff_end(&stuff, &out);
	buf_add_slice(&whole, in);
	pop3_parse_stuff_message(&whole, 0);
	require(slice_is_equal(buf_view(&whole), buf_view(&out)));
	buf_deinit(&whole);
	got = buf_view(&out);
	for (size_t i = 0; i < got.len; i++)
		require(got.p[i] != '\n' || (i && got.p[i - 1] == '\r'));
	for (size_t i = 0; i + 2 < got.len; i++) {
		bool is_begin = i == 0 || got.p[i - 1] == '\n';

		if (is_begin && got.p[i] == '.' && got.p[i + 1] == '\r' && got.p[i + 2] == '\n')
			require(i + 3 == got.len);
	}
	buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	bool has_nul = slice_find(in, '\0') >= 0;
	struct buf out = {0};

	if (size > 60000)
		return 0;
	imap_write_string(&out, in);
	check_one_value(&out, has_nul ? (struct slice){NULL, 0} : in);
	buf_clear(&out);
	imap_write_astring(&out, in);
	check_one_value(&out, has_nul ? (struct slice){NULL, 0} : in);
	buf_clear(&out);
	imap_write_mailbox(&out, in);
	check_one_value(&out, (struct slice){NULL, 0});
	buf_clear(&out);
	imap_write_utf8_string(&out, in);
	check_one_value(&out, has_nul ? (struct slice){NULL, 0} : in);
	buf_clear(&out);
	imap_write_utf8_mailbox(&out, in);
	check_one_value(&out, has_nul ? (struct slice){NULL, 0} : in);
	buf_clear(&out);
	if (imap_write_command_string(&out, in, true) == 0)
		check_one_value(&out, in);
	buf_clear(&out);
	imap_write_text(&out, in);
	require(!slice_has_control(buf_view(&out)) && slice_is_ascii(buf_view(&out)));
	buf_deinit(&out);
	check_mailbox(in);
	check_stuffing(in, size ? data[0] % (size + 1) : 0);
	return 0;
}
