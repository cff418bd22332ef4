/* One row an option: how its text becomes a value. */
#include "backend/admin/policy_options.h"

#include <string.h>

#include "common/base/error.h"
#include "common/base/num.h"

static const struct {
	const char *name;
	uint8_t protocol;
} protocol_rows[] = {
	{"imap", STORE_PROTOCOL_IMAP}, {"pop3", STORE_PROTOCOL_POP3}, {"lmtp", STORE_PROTOCOL_LMTP}};

static const char *const mail_words[] = {
	[STORE_MAIL_KEPT] = "keep", [STORE_MAIL_DEFERRED] = "defer", [STORE_MAIL_REFUSED] = "refuse"};

static int read_quota(struct slice text, struct store_policy *p)
{
	return slice_is_str(text, "none") ? (p->bytes_limit = 0, 0) : num_parse_size(text, &p->bytes_limit);
}

static int read_count(struct slice text, struct store_policy *p)
{
	return slice_is_str(text, "none") ? (p->count_limit = 0, 0) : num_parse_u64(text, &p->count_limit);
}

static int add_protocol(struct slice word, uint8_t *protocols)
{
	for (size_t i = 0; i < ARRAY_LEN(protocol_rows); i++) {
		if (slice_is_str(word, protocol_rows[i].name)) {
			*protocols |= protocol_rows[i].protocol;
			return 0;
		}
	}
	return ERR_SYNTAX;
}

int policy_options_protocols(struct slice text, uint8_t *protocols_out)
{
	uint8_t protocols = 0;

	if (slice_is_str(text, "all") || slice_is_str(text, "none")) {
		*protocols_out = slice_is_str(text, "all") ? STORE_PROTOCOLS_ALL : 0;
		return 0;
	}
	for (bool more = true; more;) {
		ptrdiff_t comma = slice_find(text, ',');
		struct slice word = comma < 0 ? text : slice_sub(text, 0, (size_t)comma);

		if (add_protocol(word, &protocols))
			return ERR_SYNTAX;
		more = comma >= 0;
		text = slice_from(text, word.len + 1);
	}
	*protocols_out = protocols;
	return 0;
}

static int read_protocols(struct slice text, struct store_policy *p)
{
	return policy_options_protocols(text, &p->protocols);
}

static int read_mail(struct slice text, struct store_policy *p)
{
	for (size_t i = 0; i < ARRAY_LEN(mail_words); i++) {
		if (slice_is_str(text, mail_words[i])) {
			p->suspended_mail = (uint8_t)i;
			return 0;
		}
	}
	return ERR_SYNTAX;
}

static const struct {
	const char *option;
	enum store_says says;
	int (*read)(struct slice text, struct store_policy *p);
	const char *why;
} rows[] = {
	{"quota", STORE_SAYS_BYTES, read_quota, "a limit is a number with a unit (10M, 2G), none or inherit"},
	{"count", STORE_SAYS_COUNT, read_count, "a limit of messages is a number, none or inherit"},
	{"protocols", STORE_SAYS_PROTOCOLS, read_protocols,
		"protocols are a list of imap, pop3 and lmtp with commas, or all, none, inherit"},
	{"suspended-mail", STORE_SAYS_SUSPENDED_MAIL, read_mail,
		"mail for who is suspended is keep, defer, refuse or inherit"},
};

int policy_options_read(
	const struct control_request *request, struct policy_options *options_out, const char **why_out)
{
	struct policy_options o = {0};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *text = control_option(request, rows[i].option, 0);

		if (!text)
			continue;
		if (strcmp(text, "inherit") == 0) {
			o.inherits |= rows[i].says;
		} else if (rows[i].read(slice_str(text), &o.values)) {
			*why_out = rows[i].why;
			return ERR_SYNTAX;
		} else {
			o.says |= rows[i].says;
		}
	}
	o.suspends = control_has_option(request, "suspend");
	o.resumes = control_has_option(request, "resume");
	if (o.suspends && o.resumes) {
		*why_out = "--suspend and --resume contradict each other";
		return ERR_SYNTAX;
	}
	*options_out = o;
	return 0;
}

bool policy_options_is_empty(const struct policy_options *o)
{
	return !o->says && !o->inherits && !o->suspends && !o->resumes;
}

void policy_options_apply(const struct policy_options *o, struct store_policy *p)
{
	p->says = (p->says & ~o->inherits) | o->says;
	if (o->says & STORE_SAYS_BYTES)
		p->bytes_limit = o->values.bytes_limit;
	if (o->says & STORE_SAYS_COUNT)
		p->count_limit = o->values.count_limit;
	if (o->says & STORE_SAYS_PROTOCOLS)
		p->protocols = o->values.protocols;
	if (o->says & STORE_SAYS_SUSPENDED_MAIL)
		p->suspended_mail = o->values.suspended_mail;
	p->is_suspended = (p->is_suspended || o->suspends) && !o->resumes;
}

const char *policy_options_mail_word(uint8_t suspended_mail)
{
	return suspended_mail < ARRAY_LEN(mail_words) ? mail_words[suspended_mail] : "";
}

void policy_options_protocol_words(uint8_t protocols, struct buf *out)
{
	const char *comma = "";

	if (!(protocols & STORE_PROTOCOLS_ALL))
		buf_add_str(out, "none");
	for (size_t i = 0; i < ARRAY_LEN(protocol_rows); i++) {
		if (!(protocols & protocol_rows[i].protocol))
			continue;
		buf_printf(out, "%s%s", comma, protocol_rows[i].name);
		comma = ",";
	}
}

void policy_options_show_protocols(struct control_request *r, uint8_t protocols)
{
	control_add_list(r, "protocols", NULL, 0);
	for (size_t i = 0; i < ARRAY_LEN(protocol_rows); i++)
		if (protocols & protocol_rows[i].protocol)
			control_add_item(r, "protocols", slice_str(protocol_rows[i].name));
}

void policy_options_show(struct control_request *r, const struct store_policy *p)
{
	if (p->says & STORE_SAYS_BYTES)
		control_add_int(r, "bytes_limit", (int64_t)p->bytes_limit);
	if (p->says & STORE_SAYS_COUNT)
		control_add_int(r, "messages_limit", (int64_t)p->count_limit);
	if (p->says & STORE_SAYS_PROTOCOLS)
		policy_options_show_protocols(r, p->protocols);
	if (p->says & STORE_SAYS_SUSPENDED_MAIL)
		control_add_str(r, "suspended_mail", policy_options_mail_word(p->suspended_mail));
	control_add_bool(r, "suspended", p->is_suspended);
}
