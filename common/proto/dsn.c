/*
 *	header             From, To, Subject, Date, Message-ID, Auto-Submitted, multipart/report
 *	text/plain         the template
 *	message/delivery-status (or global-delivery-status)   per message, then per recipient
 *	message/rfc822, text/rfc822-headers (or global, global-headers)
 */
#include "common/proto/dsn.h"

#include <stdio.h>

#include "common/base/base64.h"
#include "common/proto/date.h"

#define FOLD_AT 200
#define WORD_OCTETS 42      /* of an encoded word */
#define RECIPIENTS_SHOWN 50 /* in the text for humans; all are in the machine's part */

static const struct {
	const char *word, *subject, *text;
} actions[] = {
	[DSN_FAILED] = {"failed", "Undelivered mail returned to its sender",
		"This is the mail system at ${host}.\n\n"
		"Your message of ${date} could not be delivered to:\n\n${recipients}\n"
		"It will not be tried again. What the other side said stands with each address; your\n"
		"message, or its header, is attached.\n"},
	[DSN_DELAYED] = {"delayed", "Delivery of your mail is delayed",
		"This is the mail system at ${host}.\n\n"
		"THIS IS A WARNING ONLY. YOU NEED NOT SEND YOUR MESSAGE AGAIN.\n\n"
		"Your message of ${date} could not be delivered yet to:\n\n${recipients}\n"
		"It will be tried until ${until}.\n"},
	[DSN_DELIVERED] = {"delivered", "Your mail was delivered",
		"This is the mail system at ${host}.\n\n"
		"Your message of ${date} was delivered, as you asked to be told, to:\n\n${recipients}\n"},
	[DSN_RELAYED] = {"relayed", "Your mail was passed on",
		"This is the mail system at ${host}.\n\n"
		"Your message of ${date} was passed on to a server that does not tell whether it is\n"
		"delivered:\n\n${recipients}\n"},
};

/* ---- texts ---- */

/* The length of a well-formed UTF-8 sequence at the start, or 0. */
static size_t sequence(struct slice s)
{
	size_t most = s.len < 4 ? s.len : 4;

	for (size_t n = 2; n <= most; n++)
		if (slice_is_utf8(slice_sub(s, 0, n)) && (unsigned char)s.p[0] >= 0xc2)
			return n;
	return 0;
}

/* One line, without controls, bounded; ASCII alone unless is_utf8. */
static void add_clean(struct buf *out, struct slice text, bool is_utf8)
{
	text = slice_sub(text, 0, DSN_TEXT_MOST);
	while (text.len) {
		unsigned char c = (unsigned char)text.p[0];
		size_t n = 1;

		if (c >= ' ' && c < 127) {
			buf_add_char(out, (char)c);
		} else if (c >= 0x80 && (n = sequence(text)) > 0 && is_utf8 &&
			   !(c == 0xc2 && (unsigned char)text.p[1] < 0xa0)) { /* C1 controls */
			buf_add(out, text.p, n);
		} else {
			buf_add_char(out, c == '\t' ? ' ' : '?');
			n = n ? n : 1;
		}
		text = slice_from(text, n);
	}
}

/* Ends a field that began at `from`: folds what is too long, at blanks where there are some. */
static void end_field(struct buf *out, size_t from)
{
	struct buf line = {0};
	struct slice rest;

	buf_add_slice(&line, slice_from(buf_view(out), from));
	buf_cut(out, from);
	rest = buf_view(&line);
	while (rest.len > FOLD_AT) {
		size_t at = FOLD_AT;

		while (at > FOLD_AT / 2 && rest.p[at] != ' ')
			at--;
		if (rest.p[at] != ' ')
			for (at = FOLD_AT; at > 1 && ((unsigned char)rest.p[at] & 0xc0) == 0x80;)
				at--;
		buf_add_slice(out, slice_sub(rest, 0, at));
		buf_add_str(out, "\r\n ");
		rest = slice_from(rest, at + (rest.p[at] == ' '));
		if (!rest.len) /* a line of blanks alone ends a header for some */
			buf_add_char(out, '?');
	}
	buf_add_slice(out, rest);
	buf_add_str(out, "\r\n");
	buf_deinit(&line);
}

static void add_field(struct buf *out, const char *name, struct slice value, bool is_utf8)
{
	size_t from = buf_len(out);

	buf_add_str(out, name);
	add_clean(out, value, is_utf8);
	end_field(out, from);
}

static void add_date(struct buf *out, const char *name, int64_t time)
{
	buf_add_str(out, name);
	date_write_rfc5322(time, 0, out);
	buf_add_str(out, "\r\n");
}

/* ---- what is asked of all recipients ---- */

static bool has_high(struct slice s)
{
	return !slice_is_ascii(s);
}

bool dsn_is_utf8(const struct dsn *d)
{
	bool is = d->is_utf8 || has_high(d->to);

	for (size_t i = 0; i < d->recipient_count && !is; i++)
		is = has_high(d->recipients[i].address) || has_high(d->recipients[i].orcpt);
	return is;
}

struct slice dsn_header(struct slice message)
{
	struct slice most = slice_sub(message, 0, DSN_HEADER_MOST);
	bool is_start = true;

	for (size_t i = 0; i < most.len; i++) {
		if (most.p[i] == '\n') {
			if (is_start)
				return slice_sub(most, 0, i && most.p[i - 1] == '\r' ? i - 1 : i);
			is_start = true;
		} else if (most.p[i] != '\r') {
			is_start = false;
		}
	}
	/* Cut: to whole lines. */
	if (most.len < message.len && slice_find_last(most, '\n') >= 0)
		most = slice_sub(most, 0, (size_t)slice_find_last(most, '\n') + 1);
	return most;
}

/* ---- the text for humans ---- */

static void add_recipients(const struct dsn *d, struct buf *out, bool is_utf8)
{
	for (size_t i = 0; i < d->recipient_count && i < RECIPIENTS_SHOWN; i++) {
		const struct dsn_recipient *r = &d->recipients[i];
		size_t from = buf_len(out);

		buf_add_str(out, "<");
		add_clean(out, r->address, is_utf8);
		buf_add_str(out, ">: ");
		if (r->remote.len) {
			add_clean(out, r->remote, is_utf8);
			buf_add_str(
				out, r->code ? " said: " : ": "); /* without a code these words are ours */
		}
		if (r->code)
			buf_printf(out, "%u ", r->code);
		add_clean(out, r->text, is_utf8);
		end_field(out, from);
	}
	if (d->recipient_count > RECIPIENTS_SHOWN)
		buf_printf(out, "and %zu more\r\n", d->recipient_count - RECIPIENTS_SHOWN);
}

static bool replace(const struct dsn *d, struct slice *rest, struct buf *out, bool is_utf8)
{
	if (slice_has_prefix(*rest, "${recipients}")) {
		add_recipients(d, out, is_utf8);
		*rest = slice_from(*rest, 13);
		if (rest->len && rest->p[0] == '\n') /* it has ended its lines */
			*rest = slice_from(*rest, 1);
	} else if (slice_has_prefix(*rest, "${sender}")) {
		add_clean(out, d->to, is_utf8);
		*rest = slice_from(*rest, 9);
	} else if (slice_has_prefix(*rest, "${host}")) {
		add_clean(out, d->host, is_utf8);
		*rest = slice_from(*rest, 7);
	} else if (slice_has_prefix(*rest, "${date}")) {
		date_write_rfc5322(d->arrived, 0, out);
		*rest = slice_from(*rest, 7);
	} else if (slice_has_prefix(*rest, "${until}")) {
		date_write_rfc5322(d->recipients[0].until, 0, out);
		*rest = slice_from(*rest, 8);
	} else {
		return false;
	}
	return true;
}

static bool is_word(struct slice rest)
{
	static const char *const words[] = {"${recipients}", "${sender}", "${host}", "${date}", "${until}"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (slice_has_prefix(rest, words[i]))
			return true;
	return false;
}

const char *dsn_check_template(struct slice text, unsigned *line_out)
{
	ptrdiff_t end = slice_find(text, '\n');

	*line_out = 1;
	if (!slice_is_utf8(text))
		return "is not UTF-8";
	if (slice_has_prefix_nocase(text, "subject:")) {
		struct slice next = end < 0 ? slice_of(NULL, 0) : slice_from(text, (size_t)end + 1);

		*line_out = 2;
		if (!slice_has_prefix(next, "\n") && !slice_has_prefix(next, "\r\n"))
			return "an empty line must follow the Subject";
		*line_out = 1;
	}
	for (size_t i = 0; i < text.len; i++) {
		*line_out += text.p[i] == '\n';
		if (slice_has_prefix(slice_from(text, i), "${") && !is_word(slice_from(text, i)))
			return "a ${word} that there is not";
	}
	return NULL;
}

#define LINE_MOST 900

/* What a word stands for, on a line that has *line octets so far. */
static bool add_word(const struct dsn *d, struct slice *text, struct buf *out, size_t *line)
{
	bool is_list = slice_has_prefix(*text, "${recipients}");
	struct buf word = {0};

	if (!replace(d, text, &word, true))
		return false;
	if (*line && (is_list || *line + buf_len(&word) > LINE_MOST)) {
		buf_add_str(out, "\r\n");
		*line = 0;
	}
	/* The list has lines of its own, and has ended the last one. */
	buf_add_slice(out, is_list ? buf_view(&word) : slice_sub(buf_view(&word), 0, LINE_MOST));
	*line = is_list ? 0 : *line + buf_len(&word);
	buf_deinit(&word);
	return true;
}

static void add_text(const struct dsn *d, struct slice text, struct buf *out)
{
	size_t line = 0;

	while (text.len) {
		size_t n = 1;
		unsigned char c = (unsigned char)text.p[0];

		if (c == '$' && add_word(d, &text, out, &line))
			continue;
		if (c == '\n') {
			buf_add_str(out, "\r\n");
			line = 0;
		} else if (c >= 0x80 && (n = sequence(text)) > 0) {
			buf_add(out, text.p, n);
			line += n;
		} else if (c != '\r') {
			n = 1;
			buf_add_char(out, c == '\t' || (c >= ' ' && c < 127) ? (char)c : '?');
			line++;
		}
		text = slice_from(text, n);
		if (line > LINE_MOST) {
			buf_add_str(out, "\r\n");
			line = 0;
		}
	}
	buf_add_str(out, "\r\n");
}

/* "Subject: x" and an empty line before the text. */
static struct slice take_subject(struct slice *text)
{
	ptrdiff_t at = slice_find(*text, '\n');
	struct slice line = slice_sub(*text, 0, at < 0 ? 0 : (size_t)at), next;

	if (at < 0 || !slice_has_prefix_nocase(line, "subject:"))
		return slice_of(NULL, 0);
	next = slice_from(*text, (size_t)at + 1);
	if (next.len && next.p[0] == '\r')
		next = slice_from(next, 1);
	if (next.len && next.p[0] == '\n')
		next = slice_from(next, 1);
	*text = next;
	return slice_trim(slice_from(line, 8));
}

/* ---- the parts ---- */

static void add_status(const struct dsn_recipient *r, struct buf *out)
{
	static const char *const none[] = {[DSN_FAILED] = "5.0.0",
		[DSN_DELAYED] = "4.0.0",
		[DSN_DELIVERED] = "2.0.0",
		[DSN_RELAYED] = "2.0.0"};
	struct slice s = r->status;
	bool is_good = s.len >= 5 && s.len <= 9 && (s.p[0] == '2' || s.p[0] == '4' || s.p[0] == '5') &&
		       s.p[1] == '.';
	unsigned dots = 0;

	for (size_t i = 0; i < s.len && is_good; i++) {
		dots += s.p[i] == '.';
		is_good = s.p[i] == '.' ? i + 1 < s.len && s.p[i + 1] != '.' : s.p[i] >= '0' && s.p[i] <= '9';
	}
	if (!is_good || dots != 2)
		s = slice_str(none[r->action]);
	buf_printf(out, "Status: %.*s\r\n", SLICE_ARG(s));
}

static bool is_type(struct slice type)
{
	bool is = type.len > 0 && type.len <= 40;

	for (size_t i = 0; i < type.len && is; i++)
		is = (type.p[i] >= 'a' && type.p[i] <= 'z') || (type.p[i] >= 'A' && type.p[i] <= 'Z') ||
		     (type.p[i] >= '0' && type.p[i] <= '9') || type.p[i] == '-';
	return is;
}

static void add_recipient(const struct dsn_recipient *r, struct buf *out, bool is_utf8)
{
	char name[64];
	size_t from;

	buf_add_str(out, "\r\n");
	if (r->orcpt.len && is_type(r->orcpt_type)) {
		snprintf(name, sizeof(name), "Original-Recipient: %.*s;", SLICE_ARG(r->orcpt_type));
		add_field(out, name, r->orcpt, is_utf8);
	}
	add_field(out, has_high(r->address) ? "Final-Recipient: utf-8;" : "Final-Recipient: rfc822;",
		r->address, is_utf8);
	buf_printf(out, "Action: %s\r\n", actions[r->action].word);
	add_status(r, out);
	if (r->remote.len)
		add_field(out, "Remote-MTA: dns;", r->remote, is_utf8);
	if (r->text.len) {
		from = buf_len(out);
		buf_add_str(out, r->code ? "Diagnostic-Code: smtp;" : "Diagnostic-Code: x-mailtier;");
		if (r->code)
			buf_printf(out, "%u ", r->code);
		add_clean(out, r->text, is_utf8);
		end_field(out, from);
	}
	if (r->last_try)
		add_date(out, "Last-Attempt-Date: ", r->last_try);
	if (r->action == DSN_DELAYED && r->until)
		add_date(out, "Will-Retry-Until: ", r->until);
}

static void begin_part(const struct dsn *d, struct buf *out, const char *type)
{
	buf_printf(out, "--%.*s\r\nContent-Type: %s\r\n", SLICE_ARG(d->boundary), type);
}

/* As it is, but for line ends, which are CRLF on the wire, and NUL. */
static void add_message(struct buf *out, struct slice message)
{
	for (size_t i = 0; i < message.len; i++) {
		char c = message.p[i];

		if (c == '\r' && i + 1 < message.len && message.p[i + 1] == '\n')
			continue;
		if (c == '\r' || c == '\n')
			buf_add_str(out, "\r\n");
		else
			buf_add_char(out, c ? c : '?');
	}
	if (!message.len || message.p[message.len - 1] != '\n')
		buf_add_str(out, "\r\n");
}

/* RFC 2047, where it is not ASCII: words of whole characters, one a line. */
static void add_subject(struct buf *out, struct slice subject)
{
	struct buf line = {0};
	struct slice text;

	if (slice_is_ascii(subject)) {
		add_field(out, "Subject: ", subject, false);
		return;
	}
	add_clean(&line, subject, true);
	text = buf_view(&line);
	buf_add_str(out, "Subject: ");
	for (size_t at = 0, end; at < text.len; at = end) {
		end = at + WORD_OCTETS < text.len ? at + WORD_OCTETS : text.len;
		while (end < text.len && ((unsigned char)text.p[end] & 0xc0) == 0x80)
			end--;
		buf_add_str(out, at ? "\r\n =?UTF-8?B?" : "=?UTF-8?B?");
		base64_encode(out, slice_sub(text, at, end - at));
		buf_add_str(out, "?=");
	}
	buf_add_str(out, "\r\n");
	buf_deinit(&line);
}

static void add_header(const struct dsn *d, struct slice subject, struct buf *out, bool is_utf8)
{
	size_t from = buf_len(out);

	buf_add_str(out, "From: Mail Delivery System <");
	add_clean(out, d->from, is_utf8);
	buf_add_str(out, ">");
	end_field(out, from);
	from = buf_len(out);
	buf_add_str(out, "To: <");
	add_clean(out, d->to, is_utf8);
	buf_add_str(out, ">");
	end_field(out, from);
	add_subject(out, subject);
	add_date(out, "Date: ", d->date);
	from = buf_len(out);
	buf_add_str(out, "Message-ID: <");
	add_clean(out, d->message_id, is_utf8);
	buf_add_str(out, ">");
	end_field(out, from);
	buf_printf(out,
		"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
		"Content-Type: multipart/report; report-type=%s;\r\n boundary=\"%.*s\"\r\n\r\n",
		is_utf8 ? "global-delivery-status" : "delivery-status", SLICE_ARG(d->boundary));
}

void dsn_write(const struct dsn *d, struct buf *out)
{
	bool is_utf8 = dsn_is_utf8(d);
	enum dsn_action action = d->recipient_count ? d->recipients[0].action : DSN_FAILED;
	struct slice text = d->text_template.len ? d->text_template : slice_str(actions[action].text);
	struct slice subject = take_subject(&text);
	struct slice message = d->is_full ? d->message : dsn_header(d->message);

	add_header(d, subject.len ? subject : slice_str(actions[action].subject), out, is_utf8);
	begin_part(d, out, "text/plain; charset=utf-8");
	buf_add_str(out, "Content-Transfer-Encoding: 8bit\r\n\r\n");
	if (d->recipient_count)
		add_text(d, text, out);
	begin_part(d, out, is_utf8 ? "message/global-delivery-status" : "message/delivery-status");
	buf_add_str(out, is_utf8 ? "Content-Transfer-Encoding: 8bit\r\n\r\n" : "\r\n");
	if (d->envid.len)
		add_field(out, "Original-Envelope-Id: ", d->envid, is_utf8);
	add_field(out, "Reporting-MTA: dns;", d->host, is_utf8);
	add_date(out, "Arrival-Date: ", d->arrived);
	for (size_t i = 0; i < d->recipient_count; i++)
		add_recipient(&d->recipients[i], out, is_utf8);
	buf_add_str(out, "\r\n");
	if (d->is_full)
		begin_part(d, out, is_utf8 ? "message/global" : "message/rfc822");
	else
		begin_part(d, out, is_utf8 ? "message/global-headers" : "text/rfc822-headers");
	buf_add_str(out, has_high(message) ? "Content-Transfer-Encoding: 8bit\r\n\r\n" : "\r\n");
	add_message(out, message);
	buf_printf(out, "--%.*s--\r\n", SLICE_ARG(d->boundary));
}
