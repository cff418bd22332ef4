/*
 * Texts of conditions and actions to structs. A subject or an action is a row of a table; what its values are is a function. Strict: what
 * is not understood is an error with its place, and a condition that could never hold at its phase is one too.
 */
#include "common/front/smtp_rule.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/net/dial.h"
#include "common/proto/dns_name.h"
#include "common/proto/smtp_parse.h"
#include "common/proto/smtp_reply.h"

#define TOKEN_MOST 1024

static const char *const phase_names[SMTP_PHASES] = {[SMTP_PHASE_CONNECT] = "connect",
	[SMTP_PHASE_HELO] = "helo",
	[SMTP_PHASE_MAIL] = "mail",
	[SMTP_PHASE_RCPT] = "rcpt",
	[SMTP_PHASE_HEADER] = "header",
	[SMTP_PHASE_DATA] = "data"};

const char *smtp_rule_phase_name(enum smtp_phase phase)
{
	return phase_names[phase];
}

/* ---- tokens ---- */

struct tokens {
	struct slice text;
	size_t at;     /* the next octet */
	size_t begin;  /* of the token, for errors */
	bool is_regex; /* the token stood between slashes */
	bool is_quoted;
	size_t len;
	char token[TOKEN_MOST]; /* without quotes */
	struct buf *why;
};

static int fail(struct tokens *t, int err, const char *reason)
{
	buf_printf(t->why, "octet %zu: %s", t->begin + 1, reason);
	return err;
}

static void skip_blanks(struct tokens *t)
{
	while (t->at < t->text.len && (t->text.p[t->at] == ' ' || t->text.p[t->at] == '\t'))
		t->at++;
	t->begin = t->at;
}

static bool is_end(struct tokens *t)
{
	skip_blanks(t);
	return t->at == t->text.len;
}

static int add_octet(struct tokens *t, char c)
{
	if (t->len + 1 >= sizeof(t->token))
		return fail(t, ERR_TOO_BIG, "this is too long");
	t->token[t->len++] = c;
	return 0;
}

/* Up to the closing mark. Within quotes a backslash takes the next octet as it is; within slashes it goes along, but before a slash. */
static int read_marked(struct tokens *t, char mark)
{
	t->at++;
	while (t->at < t->text.len && t->text.p[t->at] != mark) {
		char c = t->text.p[t->at++];
		int err = 0;

		if (c == '\\' && t->at < t->text.len) {
			char next = t->text.p[t->at++];

			if (mark == '/' && next != '/')
				err = add_octet(t, c);
			c = next;
		}
		if (err == 0)
			err = add_octet(t, c);
		if (err)
			return err;
	}
	if (t->at == t->text.len)
		return fail(t, ERR_SYNTAX,
			mark == '/' ? "the expression has no end" : "the quotation has no end");
	t->at++;
	if (t->at < t->text.len && t->text.p[t->at] != ' ' && t->text.p[t->at] != '\t') {
		t->begin = t->at;
		return fail(t, ERR_SYNTAX, "a blank belongs here");
	}
	return 0;
}

/* The next token; there is one. */
static int next(struct tokens *t)
{
	int err = 0;

	skip_blanks(t);
	t->len = 0;
	t->is_regex = t->at < t->text.len && t->text.p[t->at] == '/';
	t->is_quoted = t->at < t->text.len && t->text.p[t->at] == '"';
	if (t->is_regex || t->is_quoted) {
		err = read_marked(t, t->text.p[t->at]);
	} else {
		while (err == 0 && t->at < t->text.len && t->text.p[t->at] != ' ' &&
			t->text.p[t->at] != '\t') {
			if (t->text.p[t->at] == '"')
				err = fail(t, ERR_SYNTAX, "a quotation mark stands amid a word");
			else
				err = add_octet(t, t->text.p[t->at++]);
		}
	}
	t->token[t->len] = 0;
	return err;
}

static struct slice token(const struct tokens *t)
{
	return slice_of(t->token, t->len);
}

static int tokens_init(struct tokens *t, struct slice text, struct buf *why)
{
	*t = (struct tokens){.text = text, .why = why};
	for (size_t i = 0; i < text.len; i++) {
		if ((unsigned char)text.p[i] < 32 || text.p[i] == 127) {
			t->begin = i;
			return fail(t, ERR_SYNTAX, "a control character");
		}
	}
	return slice_is_utf8(text) ? 0 : fail(t, ERR_SYNTAX, "this is no UTF-8");
}

/* ---- conditions ---- */

enum value_kind {
	VALUE_NETS,
	VALUE_TEXTS,
	VALUE_TEXTS_OR_NONE, /* alone: there is such a text */
	VALUE_FLAG,
	VALUE_NUMBER,
	VALUE_RESULTS,
	VALUE_POLICIES,
	VALUE_COUNTRIES,
	VALUE_ZONE,
	VALUE_FIELD
};

/* One row a subject: from which phase on it is known. */
static const struct {
	const char *name;
	enum value_kind kind;
	enum smtp_phase from;
} subjects[SMTP_SUBJECTS] = {
	[SMTP_SUBJECT_PEER] = {"peer", VALUE_NETS, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_PTR] = {"ptr", VALUE_TEXTS_OR_NONE, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_COUNTRY] = {"country", VALUE_COUNTRIES, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_DNSBL] = {"dnsbl", VALUE_ZONE, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_TLS] = {"tls", VALUE_TEXTS_OR_NONE, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_TLS_VERIFIED] = {"tls-verified", VALUE_FLAG, SMTP_PHASE_CONNECT},
	[SMTP_SUBJECT_MESSAGES] = {"messages", VALUE_NUMBER, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_ERRORS] = {"errors", VALUE_NUMBER, SMTP_PHASE_HELO},
	[SMTP_SUBJECT_HELO] = {"helo", VALUE_TEXTS, SMTP_PHASE_HELO},
	[SMTP_SUBJECT_USER] = {"user", VALUE_TEXTS_OR_NONE, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SENDER] = {"sender", VALUE_TEXTS, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SENDER_DOMAIN] = {"sender-domain", VALUE_TEXTS, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SENDER_IS_OWN] = {"sender-is-own", VALUE_FLAG, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SIZE] = {"size", VALUE_NUMBER, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SPF] = {"spf", VALUE_RESULTS, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_SPF_HELO] = {"spf-helo", VALUE_RESULTS, SMTP_PHASE_MAIL},
	[SMTP_SUBJECT_RECIPIENT] = {"recipient", VALUE_TEXTS, SMTP_PHASE_RCPT},
	[SMTP_SUBJECT_DOMAIN] = {"domain", VALUE_TEXTS, SMTP_PHASE_RCPT},
	[SMTP_SUBJECT_RECIPIENTS] = {"recipients", VALUE_NUMBER, SMTP_PHASE_RCPT},
	[SMTP_SUBJECT_HEADER] = {"header", VALUE_FIELD, SMTP_PHASE_HEADER},
	[SMTP_SUBJECT_DKIM] = {"dkim", VALUE_RESULTS, SMTP_PHASE_DATA},
	[SMTP_SUBJECT_DKIM_DOMAIN] = {"dkim-domain", VALUE_TEXTS, SMTP_PHASE_DATA},
	[SMTP_SUBJECT_DMARC] = {"dmarc", VALUE_RESULTS, SMTP_PHASE_DATA},
	[SMTP_SUBJECT_DMARC_POLICY] = {"dmarc-policy", VALUE_POLICIES, SMTP_PHASE_DATA},
	[SMTP_SUBJECT_ARC] = {"arc", VALUE_RESULTS, SMTP_PHASE_DATA},
};

const char *smtp_rule_subject_name(enum smtp_subject subject)
{
	return subjects[subject].name;
}

void smtp_rule_condition_deinit(struct smtp_condition *c)
{
	for (size_t i = 0; c->patterns && i < c->count; i++)
		smtp_pattern_free(&c->patterns[i]);
	free(c->patterns);
	free(c->nets);
	free(c->countries);
	free(c->name);
	free(c->text);
	*c = (struct smtp_condition){0};
}

/* Room for one value more: an array doubles at powers of two. */
static void *grow(void *array, size_t count, size_t size)
{
	return count & (count - 1) ? array : xreallocarray(array, count ? count * 2 : 1, size);
}

static int take_net(struct tokens *t, struct smtp_condition *c)
{
	struct addr_net net;

	if (addr_net_parse(token(t), &net))
		return fail(t, ERR_SYNTAX, "this is no address or network");
	c->nets = grow(c->nets, c->count, sizeof(*c->nets));
	c->nets[c->count++] = net;
	return 0;
}

static int take_text(struct tokens *t, struct smtp_condition *c)
{
	struct smtp_pattern *p;
	struct buf reason = {0};
	int err = smtp_pattern_new(token(t), t->is_regex, &reason, &p);

	if (err) {
		err = fail(t, err, buf_str_view(&reason));
	} else {
		c->patterns = grow(c->patterns, c->count, sizeof(struct smtp_pattern *));
		c->patterns[c->count++] = p;
	}
	buf_deinit(&reason);
	return err;
}

static int take_number(struct tokens *t, struct smtp_condition *c)
{
	struct slice word = token(t);

	if (c->order)
		return fail(t, ERR_SYNTAX, "one number only");
	if (word.len < 1 || (word.p[0] != '<' && word.p[0] != '>'))
		return fail(t, ERR_SYNTAX, "a number after < or > belongs here, as in >10");
	c->order = word.p[0];
	word = slice_from(word, 1);
	if (num_parse_size(word, &c->number) ||
		(c->subject != SMTP_SUBJECT_SIZE && num_parse_u64(word, &c->number)))
		return fail(t, ERR_SYNTAX, "this is no number");
	return 0;
}

static int take_result(struct tokens *t, struct smtp_condition *c)
{
	enum smtp_result result = smtp_facts_result(token(t));

	if (result == SMTP_RESULT_UNKNOWN)
		return fail(t, ERR_SYNTAX,
			"one of none pass fail softfail neutral policy temperror permerror belongs here");
	c->words |= 1U << result;
	return 0;
}

static int take_policy(struct tokens *t, struct smtp_condition *c)
{
	static const char *const words[] = {[SMTP_DMARC_NONE] = "none",
		[SMTP_DMARC_QUARANTINE] = "quarantine",
		[SMTP_DMARC_REJECT] = "reject"};

	for (unsigned i = SMTP_DMARC_NONE; i <= SMTP_DMARC_REJECT; i++) {
		if (slice_is_str_nocase(token(t), words[i])) {
			c->words |= 1U << i;
			return 0;
		}
	}
	return fail(t, ERR_SYNTAX, "one of none quarantine reject belongs here");
}

static int take_country(struct tokens *t, struct smtp_condition *c)
{
	if (t->len != 2)
		return fail(t, ERR_SYNTAX, "a country has two letters (ISO 3166)");
	for (size_t i = 0; i < 2; i++) {
		t->token[i] = ascii_upper(t->token[i]);
		if (t->token[i] < 'A' || t->token[i] > 'Z')
			return fail(t, ERR_SYNTAX, "a country has two letters (ISO 3166)");
	}
	c->countries = grow(c->countries, c->count, sizeof(*c->countries));
	memcpy(c->countries[c->count++], t->token, 3);
	return 0;
}

/* The zone, then the addresses of its answer that count. */
static int take_zone(struct tokens *t, struct smtp_condition *c)
{
	struct slice zone = dns_name_trim(token(t));
	int err;

	if (c->name) {
		err = take_net(t, c);
		if (!err && addr_ip(&c->nets[c->count - 1].base).len != 4)
			err = fail(t, ERR_SYNTAX, "answers of lists are addresses of 127.0.0.0/8");
		if (!err && addr_ip(&c->nets[c->count - 1].base).p[0] != 127)
			err = fail(t, ERR_SYNTAX, "answers of lists are addresses of 127.0.0.0/8");
		return err;
	}
	if (!dns_name_is_host(zone) || zone.len > 180)
		return fail(t, ERR_SYNTAX, "this is no zone");
	c->name = xmemdup0(zone.p, zone.len);
	return 0;
}

static bool is_field_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.p[i] <= ' ' || (unsigned char)name.p[i] >= 127 || name.p[i] == ':')
			return false;
	}
	return name.len > 0 && name.len < 128;
}

static int take_field(struct tokens *t, struct smtp_condition *c)
{
	if (c->name)
		return take_text(t, c);
	if (!is_field_name(token(t)))
		return fail(t, ERR_SYNTAX, "this is no name of a field");
	c->name = xmemdup0(t->token, t->len);
	return 0;
}

static int (*const takers[])(struct tokens *t, struct smtp_condition *c) = {
	[VALUE_NETS] = take_net,
	[VALUE_TEXTS] = take_text,
	[VALUE_TEXTS_OR_NONE] = take_text,
	[VALUE_FLAG] = NULL,
	[VALUE_NUMBER] = take_number,
	[VALUE_RESULTS] = take_result,
	[VALUE_POLICIES] = take_policy,
	[VALUE_COUNTRIES] = take_country,
	[VALUE_ZONE] = take_zone,
	[VALUE_FIELD] = take_field,
};

static bool may_be_regex(enum value_kind kind)
{
	return kind == VALUE_TEXTS || kind == VALUE_TEXTS_OR_NONE || kind == VALUE_FIELD;
}

static bool is_complete(const struct smtp_condition *c, enum value_kind kind)
{
	return kind == VALUE_FLAG || kind == VALUE_TEXTS_OR_NONE || c->count || c->words || c->order ||
	       c->name;
}

static int take_subject(struct tokens *t, enum smtp_phase phase, struct smtp_condition *c)
{
	int err = is_end(t) ? fail(t, ERR_SYNTAX, "a condition belongs here") : next(t);

	if (!err && slice_is_str(token(t), "not") && !t->is_quoted) {
		c->is_not = true;
		err = is_end(t) ? fail(t, ERR_SYNTAX, "what is not?") : next(t);
	}
	if (err)
		return err;
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		if (!slice_is_str(token(t), subjects[i].name) || t->is_quoted || t->is_regex)
			continue;
		c->subject = (enum smtp_subject)i;
		return subjects[i].from <= phase ? 0
						 : fail(t, ERR_SYNTAX, "this is not known yet at that phase");
	}
	return fail(t, ERR_SYNTAX, "there is no such condition");
}

static int take_values(struct tokens *t, struct smtp_condition *c)
{
	enum value_kind kind = subjects[c->subject].kind;
	size_t values = 0;

	while (!is_end(t)) {
		int err = next(t);

		if (!err && ++values > SMTP_RULE_VALUES_MOST)
			err = fail(t, ERR_TOO_BIG, "too many values");
		if (!err && !takers[kind])
			err = fail(t, ERR_SYNTAX, "this condition has no values");
		if (!err && t->is_regex && !may_be_regex(kind))
			err = fail(t, ERR_SYNTAX, "no expression may stand here");
		if (!err)
			err = takers[kind](t, c);
		if (err)
			return err;
	}
	return is_complete(c, kind) ? 0 : fail(t, ERR_SYNTAX, "a value belongs here");
}

int smtp_rule_parse_condition(
	struct slice text, enum smtp_phase phase, struct buf *why, struct smtp_condition *condition_out)
{
	struct smtp_condition c = {0};
	struct tokens t;
	int err = tokens_init(&t, text, why);

	if (!err)
		err = take_subject(&t, phase, &c);
	if (!err)
		err = take_values(&t, &c);
	if (err) {
		smtp_rule_condition_deinit(&c);
		return err;
	}
	c.text = slice_copy_str(text);
	*condition_out = c;
	return 0;
}

/* ---- actions ---- */

static int take_answer(struct tokens *t, struct smtp_action *a);
static int take_reason(struct tokens *t, struct smtp_action *a);
static int take_header(struct tokens *t, struct smtp_action *a);
static int take_removal(struct tokens *t, struct smtp_action *a);
static int take_address(struct tokens *t, struct smtp_action *a);
static int take_target(struct tokens *t, struct smtp_action *a);
static int take_rate(struct tokens *t, struct smtp_action *a);

#define AT(phase) (1U << SMTP_PHASE_##phase)
#define ANYWHERE (AT(CONNECT) | AT(HELO) | AT(MAIL) | AT(RCPT) | AT(HEADER) | AT(DATA))
#define WITHIN_MAIL (AT(MAIL) | AT(RCPT) | AT(HEADER) | AT(DATA))
#define WITH_CONTENT (AT(HEADER) | AT(DATA))

/* One row an action. take NULL: nothing follows. */
static const struct {
	const char *name;
	int (*take)(struct tokens *t, struct smtp_action *a);
	unsigned phases;
} actions[SMTP_ACTIONS] = {
	[SMTP_ACTION_ACCEPT] = {"accept", NULL, ANYWHERE},
	[SMTP_ACTION_REJECT] = {"reject", take_answer, ANYWHERE},
	[SMTP_ACTION_TEMPREJECT] = {"tempreject", take_answer, ANYWHERE},
	[SMTP_ACTION_DISCARD] = {"discard", NULL, WITH_CONTENT},
	[SMTP_ACTION_GREYLIST] = {"greylist", NULL, AT(RCPT)},
	[SMTP_ACTION_QUARANTINE] = {"quarantine", take_reason, WITHIN_MAIL},
	[SMTP_ACTION_ADD_HEADER] = {"add-header", take_header, WITHIN_MAIL},
	[SMTP_ACTION_REMOVE_HEADER] = {"remove-header", take_removal, WITH_CONTENT},
	[SMTP_ACTION_ADD_RECIPIENT] = {"add-recipient", take_address, WITH_CONTENT},
	[SMTP_ACTION_REDIRECT] = {"redirect", take_address, AT(RCPT) | WITH_CONTENT},
	[SMTP_ACTION_ROUTE] = {"route", take_target, AT(RCPT)},
	[SMTP_ACTION_RATE_LIMIT] = {"rate-limit", take_rate, ANYWHERE},
	[SMTP_ACTION_MILTER] = {"milter", take_target, AT(MAIL) | AT(RCPT) | AT(HEADER)},
};

const char *smtp_rule_action_name(enum smtp_action_kind kind)
{
	return actions[kind].name;
}

void smtp_rule_action_deinit(struct smtp_action *a)
{
	smtp_pattern_free(&a->pattern);
	free(a->enhanced);
	free(a->name);
	free(a->value);
	free(a->text);
	*a = (struct smtp_action){0};
}

void smtp_rule_deinit(struct smtp_rule *r)
{
	for (size_t i = 0; i < r->condition_count; i++)
		smtp_rule_condition_deinit(&r->conditions[i]);
	for (size_t i = 0; i < r->action_count; i++)
		smtp_rule_action_deinit(&r->actions[i]);
	free(r->conditions);
	free(r->actions);
	free(r->name);
	*r = (struct smtp_rule){0};
}

static struct slice rest(struct tokens *t)
{
	skip_blanks(t);
	return slice_trim(slice_from(t->text, t->at));
}

static int take_value(struct tokens *t, struct smtp_action *a, struct slice value, size_t most)
{
	if (value.len > most)
		return fail(t, ERR_TOO_BIG, "this text is too long");
	a->value = value.len ? xmemdup0(value.p, value.len) : xstrdup("");
	t->at = t->text.len;
	return 0;
}

/* A digit at the beginning of what is left: a code must stand there. */
static bool is_digit_next(struct tokens *t)
{
	skip_blanks(t);
	return t->at < t->text.len && t->text.p[t->at] >= '0' && t->text.p[t->at] <= '9';
}

static int take_code(struct tokens *t, struct smtp_action *a, unsigned digit)
{
	uint32_t code;

	if (t->len != 3 || num_parse_u32(token(t), &code) || code / 100 != digit)
		return fail(t, ERR_SYNTAX,
			digit == 5 ? "a code of 500 to 599 belongs here"
				   : "a code of 400 to 499 belongs here");
	a->code = code;
	return 0;
}

static int take_enhanced(struct tokens *t, struct smtp_action *a, unsigned digit)
{
	if (!smtp_reply_is_enhanced(token(t), digit * 100))
		return fail(t, ERR_SYNTAX, "this is no enhanced status code of that class, as 5.7.1");
	a->enhanced = xmemdup0(t->token, t->len);
	return 0;
}

/* [code] [enhanced] [text] */
static int take_answer(struct tokens *t, struct smtp_action *a)
{
	unsigned digit = a->kind == SMTP_ACTION_REJECT ? 5 : 4;

	while (!a->enhanced && is_digit_next(t)) {
		int err = next(t);

		if (!err && !memchr(t->token, '.', t->len) && !a->code)
			err = take_code(t, a, digit);
		else if (!err)
			err = take_enhanced(t, a, digit);
		if (err)
			return err;
	}
	return take_value(t, a, rest(t), SMTP_RULE_TEXT_MOST);
}

static int take_reason(struct tokens *t, struct smtp_action *a)
{
	return take_value(t, a, rest(t), SMTP_RULE_TEXT_MOST);
}

/* Name: value */
static int take_header(struct tokens *t, struct smtp_action *a)
{
	struct slice all = rest(t);
	ptrdiff_t colon = slice_find(all, ':');
	struct slice name = slice_trim(slice_sub(all, 0, colon > 0 ? (size_t)colon : 0));

	if (!is_field_name(name))
		return fail(t, ERR_SYNTAX, "a field belongs here, as in X-Rule: text");
	a->name = xmemdup0(name.p, name.len);
	return take_value(t, a, slice_trim(slice_from(all, (size_t)colon + 1)), 900);
}

static int take_removal(struct tokens *t, struct smtp_action *a)
{
	int err = is_end(t) ? fail(t, ERR_SYNTAX, "a field's name belongs here") : next(t);
	struct buf reason = {0};

	if (err)
		return err;
	if (!is_field_name(token(t)) || t->is_regex)
		return fail(t, ERR_SYNTAX, "this is no name of a field");
	a->name = xmemdup0(t->token, t->len);
	if (is_end(t))
		return 0;
	err = next(t);
	if (err)
		return err;
	err = smtp_pattern_new(token(t), t->is_regex, &reason, &a->pattern);
	if (err)
		err = fail(t, err, buf_str_view(&reason));
	buf_deinit(&reason);
	return err;
}

static int take_address(struct tokens *t, struct smtp_action *a)
{
	struct smtp_path path;
	struct buf bracketed = {0};
	struct arena arena;
	ssize_t n = 0;
	int err = is_end(t) ? fail(t, ERR_SYNTAX, "an address belongs here") : next(t);

	if (err)
		return err;
	arena_init(&arena, 8 * SMTP_PATH_MOST);
	buf_printf(&bracketed, "<%.*s>", SLICE_ARG(token(t)));
	n = smtp_parse_path(&arena, buf_view(&bracketed), &path);
	if (n != (ssize_t)buf_len(&bracketed) || path.is_null || !path.domain.len || path.is_utf8)
		err = fail(t, ERR_SYNTAX, "this is no address (ASCII, with a domain)");
	else
		a->name = xmemdup0(path.address.p, path.address.len);
	buf_deinit(&bracketed);
	arena_deinit(&arena);
	return err;
}

static int take_target(struct tokens *t, struct smtp_action *a)
{
	int err = is_end(t) ? fail(t, ERR_SYNTAX, "a name belongs here") : next(t);

	if (!err)
		a->name = xmemdup0(t->token, t->len);
	return err;
}

static const struct {
	const char *name;
	enum smtp_rate_key key;
} rate_keys[] = {{"peer", SMTP_RATE_PEER}, {"network", SMTP_RATE_NETWORK}, {"user", SMTP_RATE_USER},
	{"sender", SMTP_RATE_SENDER}, {"sender-domain", SMTP_RATE_SENDER_DOMAIN},
	{"recipient", SMTP_RATE_RECIPIENT}, {"domain", SMTP_RATE_DOMAIN}};

static int take_rate_key(struct tokens *t, struct smtp_action *a)
{
	int err = next(t);

	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_LEN(rate_keys); i++) {
		if (slice_is_str(token(t), rate_keys[i].name)) {
			a->keys |= rate_keys[i].key;
			return 0;
		}
	}
	return fail(
		t, ERR_SYNTAX, "one of peer network user sender sender-domain recipient domain belongs here");
}

/* count/period by key... [code enhanced text] */
static int take_rate(struct tokens *t, struct smtp_action *a)
{
	int err = is_end(t) ? fail(t, ERR_SYNTAX, "a rate belongs here, as in 100/1h by peer") : next(t);
	ptrdiff_t slash;

	if (err)
		return err;
	slash = slice_find(token(t), '/');
	if (slash <= 0 || num_parse_u64(slice_sub(token(t), 0, (size_t)slash), &a->count) ||
		num_parse_duration(slice_from(token(t), (size_t)slash + 1), &a->period_ms))
		return fail(t, ERR_SYNTAX, "a rate belongs here, as in 100/1h");
	if (!a->count || a->count > 1000000000 || a->period_ms < 1000 ||
		a->period_ms > UINT64_C(31) * 86400000)
		return fail(t, ERR_SYNTAX, "a rate is 1 to 1000000000 in 1s to 31d");
	err = is_end(t) ? ERR_SYNTAX : next(t);
	if (err || !slice_is_str(token(t), "by"))
		return fail(t, ERR_SYNTAX, "`by` and what is counted by belong here, as in 100/1h by peer");
	do
		err = is_end(t) ? fail(t, ERR_SYNTAX, "what is it counted by?") : take_rate_key(t, a);
	while (!err && !is_end(t) && !is_digit_next(t));
	return err ? err : take_answer(t, a);
}

/* A rate cannot be counted by what is not known yet. */
static bool is_rate_known(unsigned keys, enum smtp_phase phase)
{
	if (phase < SMTP_PHASE_MAIL)
		return !(keys & ~(unsigned)(SMTP_RATE_PEER | SMTP_RATE_NETWORK));
	return phase == SMTP_PHASE_RCPT || !(keys & (SMTP_RATE_RECIPIENT | SMTP_RATE_DOMAIN));
}

int smtp_rule_parse_action(
	struct slice text, enum smtp_phase phase, struct buf *why, struct smtp_action *action_out)
{
	struct smtp_action a = {0};
	struct tokens t;
	unsigned i = 0;
	int err = tokens_init(&t, text, why);

	if (!err)
		err = is_end(&t) ? fail(&t, ERR_SYNTAX, "an action belongs here") : next(&t);
	while (!err && i < SMTP_ACTIONS && !slice_is_str(token(&t), actions[i].name))
		i++;
	if (!err && i == SMTP_ACTIONS)
		err = fail(&t, ERR_SYNTAX, "there is no such action");
	if (err)
		return err;
	a.kind = (enum smtp_action_kind)i;
	if (!(actions[i].phases & 1U << phase))
		err = fail(&t, ERR_SYNTAX, "this cannot be done at that phase");
	if (!err && actions[i].take)
		err = actions[i].take(&t, &a);
	if (!err && !is_end(&t))
		err = fail(&t, ERR_SYNTAX, "nothing belongs here");
	if (!err && a.kind == SMTP_ACTION_RATE_LIMIT && !is_rate_known(a.keys, phase))
		err = fail(&t, ERR_SYNTAX, "it cannot be counted by that at this phase");
	if (err) {
		smtp_rule_action_deinit(&a);
		return err;
	}
	a.text = slice_copy_str(text);
	*action_out = a;
	return 0;
}
