/*
 * MAIL, RCPT and XMARK: their parameters stand in tables, one of what may come once and in which dialects.
 */
#include "common/base/num.h"
#include "common/proto/smtp_parse.h"
#include "common/proto/smtp_parse_inner.h"

static int set_size(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	/* RFC 1870 section 3: up to 20 digits. What no number holds is too big for any limit. */
	if (num_parse_u64(value, &mail->size) == ERR_TOO_BIG)
		mail->size = UINT64_MAX;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return ERR_SYNTAX;
	}
	return value.len && value.len <= 20 ? 0 : ERR_SYNTAX;
}

static int set_body(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	if (slice_is_str_nocase(value, "7BIT"))
		mail->body = SMTP_BODY_7BIT;
	else if (slice_is_str_nocase(value, "8BITMIME"))
		mail->body = SMTP_BODY_8BITMIME;
	else
		return ERR_UNSUPPORTED;
	return 0;
}

static int set_utf8(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	mail->is_utf8 = true;
	return value.p ? ERR_SYNTAX : 0;
}

static int set_auth(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	if (slice_is_str(value, "<>"))
		return 0;
	return value.len ? smtp_parse_xtext_text(a, value, &mail->auth) : ERR_SYNTAX;
}

static int parse_mark(struct slice value, struct smtp_mark *mark)
{
	ptrdiff_t colon = slice_find(value, ':');
	struct slice digest = colon < 0 ? slice_of("", 0) : slice_from(value, (size_t)colon + 1);

	if (num_parse_u64(colon < 0 ? value : slice_sub(value, 0, (size_t)colon), &mark->prefix))
		return ERR_SYNTAX;
	if (colon >= 0) {
		if (digest.len != 2 * SMTP_DIGEST_LEN)
			return ERR_SYNTAX;
		for (size_t i = 0; i < SMTP_DIGEST_LEN; i++) {
			int high = hex_value(digest.p[2 * i]), low = hex_value(digest.p[2 * i + 1]);

			if (high < 0 || low < 0)
				return ERR_SYNTAX;
			mark->digest[i] = (uint8_t)(high * 16 + low);
		}
		mark->has_digest = true;
	}
	mark->is_set = true;
	return 0;
}

static int set_mark(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	return parse_mark(value, &mail->mark);
}

/*
 * xtext as RFC 3461 section 4 has it, to the letter: "!" to "~" without "+" and "=", and "+" with two upper case digits. What it
 * stands for is printable: an ORCPT with a newline in it became a line of a spool file elsewhere (CVE-2020-28026).
 */
static int check_xtext(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '+') {
			int high = i + 1 < text.len ? hex_value(text.p[i + 1]) : -1;
			int low = i + 2 < text.len ? hex_value(text.p[i + 2]) : -1;

			if (high < 0 || low < 0 || high > 7 || text.p[i + 1] >= 'a' || text.p[i + 2] >= 'a' ||
				is_control((unsigned char)(high * 16 + low)))
				return ERR_SYNTAX;
			i += 2;
		} else if (c < 33 || c > 126 || c == '=') {
			return ERR_SYNTAX;
		}
	}
	return 0;
}

static int set_ret(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	if (slice_is_str_nocase(value, "FULL"))
		mail->ret = SMTP_RET_FULL;
	else if (slice_is_str_nocase(value, "HDRS"))
		mail->ret = SMTP_RET_HDRS;
	else
		return ERR_SYNTAX;
	return 0;
}

static int set_envid(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	if (!value.len || value.len > SMTP_ENVID_MOST || check_xtext(value))
		return ERR_SYNTAX;
	mail->envid = arena_copy(a, value);
	return mail->envid.p ? 0 : ERR_TOO_BIG;
}

static int set_requiretls(struct arena *a, struct slice value, struct smtp_mail *mail)
{
	(void)a;
	mail->requires_tls = true;
	return value.p ? ERR_SYNTAX : 0;
}

/* A row is of MAIL (set) or of RCPT (set_rcpt). */
struct parameter {
	const char *name;
	enum smtp_parameter bit;
	int (*set)(struct arena *a, struct slice value, struct smtp_mail *mail); /* value.p NULL: no "=" */
	int (*set_rcpt)(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt);
};

static const struct parameter mail_parameters[] = {
	{"SIZE", SMTP_PARAMETER_SIZE, set_size, NULL},
	{"BODY", SMTP_PARAMETER_BODY, set_body, NULL},
	{"SMTPUTF8", SMTP_PARAMETER_SMTPUTF8, set_utf8, NULL},
	{"AUTH", SMTP_PARAMETER_AUTH, set_auth, NULL},
	{"XMARK", SMTP_PARAMETER_XMARK, set_mark, NULL},
	{"RET", SMTP_PARAMETER_DSN, set_ret, NULL},
	{"ENVID", SMTP_PARAMETER_DSN, set_envid, NULL},
	{"REQUIRETLS", SMTP_PARAMETER_REQUIRETLS, set_requiretls, NULL},
	{NULL, 0, NULL, NULL},
};

/* "NAME" or "NAME=value". The row, if it is legal and was not seen; < 0 otherwise. */
static int find_parameter(const struct parameter *table, struct slice word, unsigned legal, unsigned *seen,
	const struct parameter **row_out, struct slice *value_out)
{
	ptrdiff_t equals = slice_find(word, '=');
	struct slice name = equals < 0 ? word : slice_sub(word, 0, (size_t)equals);

	for (unsigned i = 0; table[i].name; i++) {
		if (!slice_is_str_nocase(name, table[i].name))
			continue;
		if (!(legal & table[i].bit))
			return ERR_UNSUPPORTED;
		if (*seen & 1u << i)
			return ERR_SYNTAX;
		*seen |= 1u << i;
		*row_out = &table[i];
		*value_out = equals < 0 ? (struct slice){NULL, 0} : slice_from(word, (size_t)equals + 1);
		return 0;
	}
	return ERR_UNSUPPORTED;
}

static const struct {
	const char *word;
	enum smtp_notify bit;
} notifies[] = {
	{"NEVER", SMTP_NOTIFY_NEVER},
	{"SUCCESS", SMTP_NOTIFY_SUCCESS},
	{"FAILURE", SMTP_NOTIFY_FAILURE},
	{"DELAY", SMTP_NOTIFY_DELAY},
};

static unsigned notify_bit(struct slice word)
{
	for (size_t i = 0; i < ARRAY_LEN(notifies); i++) {
		if (slice_is_str_nocase(word, notifies[i].word))
			return notifies[i].bit;
	}
	return 0;
}

static int set_notify(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	(void)a;
	(void)is_utf8;
	for (;;) {
		ptrdiff_t comma = slice_find(value, ',');
		unsigned bit = notify_bit(comma < 0 ? value : slice_sub(value, 0, (size_t)comma));

		if (!bit || rcpt->notify & bit)
			return ERR_SYNTAX;
		rcpt->notify |= bit;
		if (comma < 0)
			break;
		value = slice_from(value, (size_t)comma + 1);
	}
	return rcpt->notify & SMTP_NOTIFY_NEVER && rcpt->notify != SMTP_NOTIFY_NEVER ? ERR_SYNTAX : 0;
}

int smtp_parse_orcpt(
	struct arena *a, struct slice orcpt, bool is_utf8, struct slice *type_out, struct slice *address_out)
{
	ptrdiff_t semicolon = slice_find(orcpt, ';');
	struct slice type = slice_sub(orcpt, 0, semicolon < 0 ? 0 : (size_t)semicolon), text;
	bool has_high = !slice_is_ascii(orcpt);

	if (!type.len || orcpt.len > SMTP_ORCPT_MOST || (size_t)semicolon + 1 == orcpt.len)
		return ERR_SYNTAX;
	for (size_t i = 0; i < type.len; i++) {
		if (!is_atext((unsigned char)type.p[i]) || (unsigned char)type.p[i] >= 0x80 ||
			strchr("+=", type.p[i]))
			return ERR_SYNTAX;
	}
	text = slice_from(orcpt, (size_t)semicolon + 1);
	/* RFC 6533 section 3: only an address of type utf-8 may be written so. */
	if (has_high && (!is_utf8 || !slice_is_str_nocase(type, "utf-8")))
		return ERR_SYNTAX;
	if (!has_high && check_xtext(text))
		return ERR_SYNTAX;
	*type_out = type;
	return smtp_parse_xtext_text(a, text, address_out);
}

static int set_orcpt(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	struct slice type, address;
	int err = smtp_parse_orcpt(a, value, is_utf8, &type, &address);

	if (err)
		return err;
	rcpt->orcpt = arena_copy(a, value);
	return rcpt->orcpt.p ? 0 : ERR_TOO_BIG;
}

/* A network as we write it: nothing else may stand there. */
static int set_grey(struct arena *a, struct slice value, bool is_utf8, struct smtp_rcpt *rcpt)
{
	(void)is_utf8;
	for (size_t i = 0; i < value.len; i++) {
		char c = ascii_lower(value.p[i]);

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && c != '.' && c != ':' && c != '/')
			return ERR_SYNTAX;
	}
	if (!value.len || value.len > SMTP_GREY_MOST)
		return ERR_SYNTAX;
	rcpt->grey = arena_copy(a, value);
	return rcpt->grey.p ? 0 : ERR_TOO_BIG;
}

static const struct parameter rcpt_parameters[] = {
	{"NOTIFY", SMTP_PARAMETER_DSN, NULL, set_notify},
	{"ORCPT", SMTP_PARAMETER_DSN, NULL, set_orcpt},
	{"XGREY", SMTP_PARAMETER_XGREY, NULL, set_grey},
	{NULL, 0, NULL, NULL},
};

void smtp_parse_write_mail_dsn(struct buf *out, const struct smtp_mail *mail)
{
	if (mail->ret != SMTP_RET_NONE)
		buf_add_str(out, mail->ret == SMTP_RET_FULL ? " RET=FULL" : " RET=HDRS");
	if (mail->envid.len)
		buf_printf(out, " ENVID=%.*s", SLICE_ARG(mail->envid));
}

void smtp_parse_write_notify(struct buf *out, unsigned notify)
{
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_LEN(notifies); i++) {
		if (!(notify & notifies[i].bit))
			continue;
		buf_printf(out, "%s%s", comma, notifies[i].word);
		comma = ",";
	}
}

void smtp_parse_write_rcpt_dsn(struct buf *out, unsigned notify, struct slice orcpt)
{
	if (notify) {
		buf_add_str(out, " NOTIFY=");
		smtp_parse_write_notify(out, notify);
	}
	if (orcpt.len)
		buf_printf(out, " ORCPT=%.*s", SLICE_ARG(orcpt));
}

/* "FROM:" and blanks off the start. */
static int skip_word(struct slice *rest, const char *word)
{
	if (!slice_has_prefix_nocase(*rest, word))
		return ERR_SYNTAX;
	*rest = skip_blanks(slice_from(*rest, strlen(word)));
	return 0;
}

int smtp_parse_mail(struct arena *a, struct slice rest, unsigned legal, struct smtp_mail *mail_out)
{
	struct smtp_mail mail = {.auth = SLICE_LIT(""), .envid = SLICE_LIT("")};
	const struct parameter *row;
	struct slice word, value;
	unsigned seen = 0;
	ssize_t n;

	if (skip_word(&rest, "FROM:"))
		return ERR_SYNTAX;
	n = smtp_parse_path(a, rest, &mail.path);
	if (n < 0)
		return (int)n;
	rest = slice_from(rest, (size_t)n);
	if (rest.len && !is_blank(*rest.p))
		return ERR_SYNTAX;
	while (next_word(&rest, &word)) {
		int err = find_parameter(mail_parameters, word, legal, &seen, &row, &value);

		if (!err)
			err = row->set(a, value, &mail);
		if (err)
			return err;
	}
	*mail_out = mail;
	return 0;
}

int smtp_parse_rcpt(struct arena *a, struct slice rest, unsigned legal, struct smtp_rcpt *rcpt_out)
{
	struct smtp_rcpt rcpt = {.orcpt = SLICE_LIT("")};
	const struct parameter *row;
	struct slice word, value;
	unsigned seen = 0;
	ssize_t n;

	if (skip_word(&rest, "TO:"))
		return ERR_SYNTAX;
	n = smtp_parse_path(a, rest, &rcpt.path);
	if (n < 0)
		return (int)n;
	rest = slice_from(rest, (size_t)n);
	if (rcpt.path.is_null || (rest.len && !is_blank(*rest.p)))
		return ERR_SYNTAX;
	while (next_word(&rest, &word)) {
		int err = find_parameter(rcpt_parameters, word, legal, &seen, &row, &value);

		if (!err)
			err = row->set_rcpt(a, value, legal & SMTP_PARAMETER_SMTPUTF8, &rcpt);
		if (err)
			return err;
	}
	*rcpt_out = rcpt;
	return 0;
}

int smtp_parse_xmark(struct arena *a, struct slice rest, struct smtp_mark *mark_out, struct slice *hold_out)
{
	struct smtp_mark mark = {0};
	struct slice word, hold = {NULL, 0};
	int err = next_word(&rest, &word) ? parse_mark(word, &mark) : ERR_SYNTAX;

	if (!err && next_word(&rest, &word)) {
		if (!slice_has_prefix_nocase(word, "HOLD="))
			return ERR_SYNTAX;
		err = smtp_parse_xtext_text(a, slice_from(word, 5), &hold);
	}
	if (!err && next_word(&rest, &word))
		err = ERR_SYNTAX;
	if (err)
		return err;
	*mark_out = mark;
	*hold_out = hold;
	return 0;
}

void smtp_parse_write_xmark(struct buf *out, const struct smtp_mark *mark, struct slice hold)
{
	buf_printf(out, "XMARK %llu", (unsigned long long)mark->prefix);
	for (size_t i = 0; mark->has_digest && i < SMTP_DIGEST_LEN; i++)
		buf_printf(out, i ? "%02x" : ":%02x", mark->digest[i]);
	if (hold.p) {
		buf_add_str(out, " HOLD=");
		smtp_parse_write_xtext(out, hold);
	}
	buf_add_str(out, "\r\n");
}
