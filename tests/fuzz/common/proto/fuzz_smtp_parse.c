/* Every command grammar on the same octets; whatever is accepted holds no control and is well-formed UTF-8.
 */
#include "common/proto/smtp_parse.h"

static void check_text(struct slice s)
{
	require(!slice_has_control(s) && slice_is_utf8(s));
}

/* What is written again means the same. */
static void fuzz_mail_dsn(const struct smtp_mail *mail)
{
	struct buf wire = {0};
	struct smtp_mail again;
	struct arena a;

	arena_init(&a, 4096);
	check_text(mail->envid);
	buf_add_str(&wire, "FROM:<>");
	smtp_parse_write_mail_dsn(&wire, mail);
	require(smtp_parse_mail(&a, buf_view(&wire), SMTP_PARAMETER_DSN, &again) == 0);
	require(again.ret == mail->ret && slice_is_equal(again.envid, mail->envid));
	arena_deinit(&a);
	buf_deinit(&wire);
}

/* What is taken is written again so that it means the same. */
static void fuzz_xmark(struct arena *a, struct slice rest)
{
	struct smtp_mark mark, again;
	struct slice hold, hold_again;
	struct buf wire = {0};

	if (smtp_parse_xmark(a, rest, &mark, &hold))
		return;
	check_text(hold);
	smtp_parse_write_xmark(&wire, &mark, hold);
	require(slice_has_prefix(buf_view(&wire), "XMARK "));
	require(smtp_parse_xmark(a, slice_sub(buf_view(&wire), 6, buf_len(&wire) - 8), &again, &hold_again) !=
		ERR_SYNTAX);
	buf_deinit(&wire);
}

static void fuzz_rcpt_dsn(const struct smtp_rcpt *rcpt)
{
	struct slice type, address;
	struct buf wire = {0};
	struct smtp_rcpt again;
	struct arena a;

	arena_init(&a, 4096);
	check_text(rcpt->path.address);
	check_text(rcpt->orcpt);
	if (rcpt->orcpt.len) {
		require(smtp_parse_orcpt(&a, rcpt->orcpt, true, &type, &address) == 0);
		check_text(address);
	}
	buf_add_str(&wire, "TO:<a@b>");
	smtp_parse_write_rcpt_dsn(&wire, rcpt->notify, rcpt->orcpt);
	require(smtp_parse_rcpt(&a, buf_view(&wire), ~0u, &again) == 0);
	require(again.notify == rcpt->notify && slice_is_equal(again.orcpt, rcpt->orcpt));
	arena_deinit(&a);
	buf_deinit(&wire);
}

static void fuzz_arguments(struct arena *a, struct slice rest)
{
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	struct smtp_xclient x;
	struct slice value;
	uint64_t size;
	bool last;

	if (smtp_parse_mail(a, rest, ~0u, &mail) == 0) {
		fuzz_mail_dsn(&mail);
		check_text(mail.path.address);
		check_text(mail.auth);
	}
	if (smtp_parse_rcpt(a, rest, ~0u, &rcpt) == 0)
		fuzz_rcpt_dsn(&rcpt);
	if (smtp_parse_rcpt(a, rest, ~(unsigned)SMTP_PARAMETER_SMTPUTF8, &rcpt) == 0)
		require(slice_is_ascii(rcpt.orcpt));
	if (smtp_parse_xclient(a, rest, &x) == 0) {
		check_text(x.addr);
		check_text(x.helo);
		check_text(x.login);
		check_text(x.session);
	}
	fuzz_xmark(a, rest);
	if (smtp_parse_xtext(a, rest, &value) == 0)
		require(value.len <= rest.len);
	if (smtp_parse_bdat(rest, &size, &last) == 0)
		require(rest.len > 0);
	if (smtp_parse_is_greeting(rest))
		check_text(rest);
}

/* What is written parses to the same again. */
static void fuzz_path(struct arena *a, struct slice in)
{
	struct smtp_path path, again;
	struct buf wire = {0};

	if (smtp_parse_path(a, in, &path) <= 0 || path.is_null)
		return;
	buf_add_char(&wire, '<');
	buf_add_slice(&wire, path.address);
	buf_add_char(&wire, '>');
	require(smtp_parse_path(a, buf_view(&wire), &again) == (ssize_t)buf_len(&wire));
	require(slice_is_equal(path.local, again.local) && slice_is_equal(path.domain, again.domain));
	buf_deinit(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct smtp_command c;
	struct arena a;
	size_t consumed = 0;
	ssize_t n;

	if (size > 100000)
		return 0;
	arena_init(&a, 1 << 20);
	n = smtp_parse_command(in, SMTP_LINE_MOST, &c, &consumed);
	require(n <= (ssize_t)size && consumed <= size);
	if (n > 0) {
		fuzz_arguments(&a, c.rest);
		arena_reset(&a);
	}
	fuzz_arguments(&a, in);
	arena_reset(&a);
	fuzz_path(&a, in);
	arena_deinit(&a);
	return 0;
}
