/*
 * One message over one connection: transactions until every recipient has a result. A small message is read first; with PIPELINING the
 * envelope (and, with CHUNKING, the message too) leaves in one write. A large one goes piece by piece, as the other side takes it.
 *
 * No bare CR or LF ever leaves (SMTP smuggling): every octet of a message passes the encoder, which makes a line end of each of them,
 * by DATA and by BDAT alike.
 */
#include <stdio.h>

#include "backend/delivery/outbound_inner.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/proto/smtp_parse.h"

/* A message up to this size is held whole, and may follow its envelope before that is answered. */
#define SMALL_MOST OUTBOUND_READ_MOST

enum tag {
	TAG_RSET,
	TAG_MAIL,
	TAG_RCPT,
	TAG_DATA,
	TAG_CHUNK,
	TAG_END,
	TAG_NOTHING /* the end of an empty body for nobody */
};

static void next_transaction(struct outbound_session *s);
static void pull(struct outbound_session *s);

/* ---- what the message asks for ---- */

static bool is_plain_text(struct slice s)
{
	return !slice_has_control(s) && slice_find(s, '<') < 0 && slice_find(s, '>') < 0;
}

/* "<" and ">" may stand in a quoted local part alone, where no server needs them: not sent. */
static bool is_sendable(struct slice address)
{
	return address.len && address.len <= SMTP_PATH_MOST && is_plain_text(address) &&
	       slice_is_utf8(address);
}

static bool needs_utf8(const struct outbound_try *t, struct slice address)
{
	return t->r.is_utf8 || !slice_is_ascii(t->r.sender) || !slice_is_ascii(address);
}

/* What this server cannot take of this recipient; false: he can be asked for. */
static bool refuse_recipient(struct outbound_session *s, size_t i)
{
	struct slice address = s->t->r.recipients[i].address;

	if (!is_sendable(address)) {
		outbound_give(s, i, OUTBOUND_FAILED, 0, "5.1.3", "the address cannot be sent");
		return true;
	}
	if (needs_utf8(s->t, address) && !smtp_client_words(s->client)->smtputf8) {
		outbound_give(s, i, OUTBOUND_FAILED, 0, "5.6.7",
			"the message needs SMTPUTF8, which the server does not offer");
		return true;
	}
	return false;
}

/* What this server cannot take at all. */
static bool refuse_message(struct outbound_session *s)
{
	const struct outbound_request *r = &s->t->r;
	const struct smtp_words *words = smtp_client_words(s->client);

	if (words->size && words->size_most && r->size > words->size_most) {
		outbound_give_all(
			s, OUTBOUND_FAILED, 0, "5.3.4", "the message is larger than the server takes");
		return true;
	}
	if (r->is_8bit && !words->eightbitmime && !s->settings->sends_8bit) {
		outbound_give_all(s, OUTBOUND_FAILED, 0, "5.6.3",
			"the message has 8-bit octets, and the server does not offer 8BITMIME");
		return true;
	}
	if (r->sender.len && !is_sendable(r->sender)) {
		outbound_give_all(s, OUTBOUND_FAILED, 0, "5.1.7", "the sender's address cannot be sent");
		return true;
	}
	return false;
}

/* ---- the envelope ---- */

static void add_asked(struct outbound_session *s, size_t i)
{
	if (s->asked_count == s->asked_room) {
		s->asked_room = s->asked_room ? s->asked_room * 2 : 16;
		s->asked = xreallocarray(s->asked, s->asked_room, sizeof(*s->asked));
	}
	s->asked[s->asked_count++] = i;
	s->t->states[i] = OUTBOUND_ASKED;
}

static void choose_recipients(struct outbound_session *s)
{
	const struct smtp_words *words = smtp_client_words(s->client);
	size_t most = s->settings->recipients_most;

	if (words->rcpt_most && words->rcpt_most < most)
		most = words->rcpt_most;
	s->asked_count = s->answered = s->taken = 0;
	for (size_t i = 0; i < s->t->r.recipient_count && s->asked_count < most; i++)
		if (s->t->states[i] == OUTBOUND_WAITS && !refuse_recipient(s, i))
			add_asked(s, i);
}

static bool has_utf8(const struct outbound_session *s)
{
	for (size_t i = 0; i < s->asked_count; i++)
		if (needs_utf8(s->t, s->t->r.recipients[s->asked[i]].address))
			return true;
	return false;
}

static void say_mail(struct outbound_session *s, struct buf *line)
{
	const struct outbound_request *r = &s->t->r;
	const struct smtp_words *words = smtp_client_words(s->client);
	struct smtp_mail mail = {.ret = (enum smtp_ret)r->ret, .envid = r->envid};

	buf_clear(line);
	buf_printf(line, "MAIL FROM:<%.*s>", SLICE_ARG(r->sender));
	if (words->size)
		buf_printf(line, " SIZE=%llu", (unsigned long long)r->size);
	if (words->eightbitmime && r->is_8bit)
		buf_add_str(line, " BODY=8BITMIME");
	if (s->uses_utf8)
		buf_add_str(line, " SMTPUTF8");
	if (!is_plain_text(mail.envid))
		mail.envid.len = 0;
	if (words->dsn)
		smtp_parse_write_mail_dsn(line, &mail);
	if (r->requires_tls)
		buf_add_str(line, " REQUIRETLS");
	buf_add_str(line, "\r\n");
	smtp_client_command(s->client, TAG_MAIL, buf_view(line), false);
}

static void say_rcpt(struct outbound_session *s, const struct outbound_recipient *r, struct buf *line)
{
	struct slice orcpt = is_plain_text(r->orcpt) && (s->uses_utf8 || slice_is_ascii(r->orcpt))
				     ? r->orcpt
				     : SLICE_LIT("");

	buf_clear(line);
	buf_printf(line, "RCPT TO:<%.*s>", SLICE_ARG(r->address));
	if (smtp_client_words(s->client)->dsn)
		smtp_parse_write_rcpt_dsn(line, r->notify, orcpt);
	buf_add_str(line, "\r\n");
	smtp_client_command(s->client, TAG_RCPT, buf_view(line), false);
}

static bool is_small(const struct outbound_session *s)
{
	return s->t->r.size <= SMALL_MOST;
}

/* A chunk of what is encoded already. */
static void say_chunk(struct outbound_session *s, struct slice bytes, bool is_last)
{
	struct buf line = {0};

	buf_printf(&line, "BDAT %zu%s\r\n", bytes.len, is_last ? " LAST" : "");
	buf_add_slice(&line, bytes);
	smtp_client_command(s->client, is_last ? TAG_END : TAG_CHUNK, buf_view(&line), true);
	s->is_end_said |= is_last;
	buf_deinit(&line);
}

static void start_encoder(struct outbound_session *s)
{
	smtp_data_encode_init(&s->encoder, true);
	s->encoder.keeps_dots = s->is_chunked;
	s->at = 0;
}

static void say_envelope(struct outbound_session *s)
{
	struct buf line = {0};

	s->step = OUTBOUND_SAYS;
	s->messages++;
	s->is_mail_taken = s->is_end_said = s->is_end_known = false;
	s->is_chunked = s->settings->uses_chunking && smtp_client_words(s->client)->chunking;
	s->uses_utf8 = has_utf8(s);
	if (s->is_dirty)
		smtp_client_command(s->client, TAG_RSET, SLICE_LIT("RSET\r\n"), false);
	s->is_dirty = true;
	say_mail(s, &line);
	for (size_t i = 0; i < s->asked_count; i++)
		say_rcpt(s, &s->t->r.recipients[s->asked[i]], &line);
	start_encoder(s);
	if (!s->is_chunked) {
		smtp_client_data(s->client, TAG_DATA);
	} else if (is_small(s)) {
		buf_clear(&line);
		smtp_data_encode(&s->encoder, buf_view(&s->body), &line);
		smtp_data_encode_end(&s->encoder, &line);
		say_chunk(s, buf_view(&line), true);
	}
	buf_deinit(&line);
	smtp_client_flush(s->client);
}

/* ---- the body ---- */

static void write_piece(struct outbound_session *s, struct slice piece)
{
	struct buf out = {0};
	bool is_last;

	s->at += piece.len;
	is_last = s->at >= s->t->r.size;
	smtp_data_encode(&s->encoder, piece, &out);
	if (is_last)
		smtp_data_encode_end(&s->encoder, &out);
	if (is_last)
		s->step = OUTBOUND_ENDS;
	if (s->is_chunked && (is_last || buf_len(&out))) {
		say_chunk(s, buf_view(&out), is_last);
		smtp_client_flush(s->client);
	} else if (!s->is_chunked) {
		(void)smtp_client_body(s->client, buf_view(&out));
		if (is_last) {
			s->is_end_said = true;
			smtp_client_body_end(s->client, TAG_END);
		}
	}
	buf_deinit(&out);
}

static void begin_body(struct outbound_session *s)
{
	s->step = OUTBOUND_STREAMS;
	if (is_small(s))
		write_piece(s, buf_view(&s->body));
	else
		pull(s);
}

/* The reader failed: what has begun cannot be ended, and must not be taken for whole. */
static void unreadable(struct outbound_session *s)
{
	smtp_client_close(&s->client);
	outbound_give_all(s, OUTBOUND_NOT_NOW, 0, "4.3.0", "the message cannot be read now");
	outbound_done(s);
}

/* Asks for what is needed next. The reader may answer at once: then it goes on here, not by recursion. */
static void pull(struct outbound_session *s)
{
	struct outbound_try *t = s->t;

	if (s->is_pulling) {
		s->pulls_again = true;
		return;
	}
	s->is_pulling = true;
	do {
		uint64_t at = s->step == OUTBOUND_READS ? buf_len(&s->body) : s->at;
		uint64_t left = t->r.size - at;

		s->pulls_again = false;
		if (t->is_reading || (s->step != OUTBOUND_READS && s->step != OUTBOUND_STREAMS))
			break;
		if (s->step == OUTBOUND_STREAMS && smtp_client_is_congested(s->client))
			break;
		t->is_reading = true;
		t->r.read(t->r.arg, t, at, left < OUTBOUND_READ_MOST ? (size_t)left : OUTBOUND_READ_MOST);
	} while (s->pulls_again && s->t == t);
	s->is_pulling = false;
}

void outbound_octets(struct outbound_try *t, int error, struct slice bytes)
{
	struct outbound_session *s = t->session;

	t->is_reading = false;
	if (t->is_stale) { /* of the connection before; what this one needs is asked for anew */
		t->is_stale = false;
		if (s)
			pull(s);
		return;
	}
	if (!s || (s->step != OUTBOUND_READS && s->step != OUTBOUND_STREAMS))
		return; /* the connection was lost meanwhile */
	if (error || !bytes.len ||
		bytes.len > t->r.size - (s->step == OUTBOUND_READS ? buf_len(&s->body) : s->at)) {
		unreadable(s);
		return;
	}
	if (s->step == OUTBOUND_STREAMS) {
		write_piece(s, bytes);
		pull(s);
		return;
	}
	buf_add_slice(&s->body, bytes);
	if (buf_len(&s->body) < t->r.size)
		pull(s);
	else
		say_envelope(s);
}

void outbound_send_drained(struct outbound_session *s)
{
	if (s->t && s->step == OUTBOUND_STREAMS)
		pull(s);
}

/* ---- replies ---- */

static enum outbound_verdict verdict_of(unsigned code)
{
	return code / 100 == 2 ? OUTBOUND_SENT : code / 100 == 5 ? OUTBOUND_FAILED : OUTBOUND_NOT_NOW;
}

/* The same for all who were asked for and stand in this state or an earlier one. */
static void give_asked(struct outbound_session *s, enum outbound_recipient_state state,
	enum outbound_verdict verdict, const struct smtp_client_reply *r)
{
	for (size_t i = 0; i < s->asked_count; i++)
		if (s->t->states[s->asked[i]] == state)
			outbound_give(s, s->asked[i], verdict, r->code, r->enhanced, r->text);
}

static void on_mail(struct outbound_session *s, const struct smtp_client_reply *r)
{
	s->is_mail_taken = r->code / 100 == 2;
	if (!s->is_mail_taken)
		give_asked(s, OUTBOUND_ASKED, verdict_of(r->code == 354 ? 451 : r->code), r);
}

static void on_rcpt(struct outbound_session *s, const struct smtp_client_reply *r)
{
	size_t i = s->asked[s->answered++];

	if (s->t->states[i] != OUTBOUND_ASKED)
		return;
	if (r->code / 100 == 2) {
		s->t->states[i] = OUTBOUND_TAKEN;
		s->taken++;
	} else if (s->taken && (r->code == 452 || r->code == 552)) {
		s->t->states[i] =
			OUTBOUND_WAITS; /* RFC 5321 section 4.5.3.1.10: in a transaction of his own */
	} else {
		outbound_give(s, i, verdict_of(r->code), r->code, r->enhanced, r->text);
	}
}

static void on_data(struct outbound_session *s, const struct smtp_client_reply *r)
{
	enum outbound_verdict verdict = verdict_of(r->code);

	if (r->code != 354) {
		/* A yes here is senseless, for there is no message yet: not sent, and what follows could be the reply to anything. */
		s->is_broken = verdict != OUTBOUND_FAILED && r->code / 100 != 4;
		give_asked(s, OUTBOUND_TAKEN, verdict == OUTBOUND_SENT ? OUTBOUND_NOT_NOW : verdict, r);
	} else if (s->taken == 0) {
		/* RFC 2920 section 3.1: it would wait for a message for nobody. */
		(void)smtp_client_body(s->client, SLICE_LIT(".\r\n"));
		smtp_client_body_end(s->client, TAG_NOTHING);
		s->step = OUTBOUND_ENDS;
	} else {
		begin_body(s);
	}
}

static void on_end(struct outbound_session *s, const struct smtp_client_reply *r)
{
	s->is_end_known = true;
	s->is_dirty = s->is_chunked && r->code / 100 != 2;
	give_asked(s, OUTBOUND_TAKEN, verdict_of(r->code), r);
}

/* A chunk that is refused ends it: what was sent behind it would be refused too. */
static void on_chunk(struct outbound_session *s, const struct smtp_client_reply *r)
{
	if (r->code / 100 == 2)
		return;
	give_asked(s, OUTBOUND_TAKEN, verdict_of(r->code), r);
	s->is_broken = true;
}

/* The transaction is over, or its envelope is known and a large body may follow. */
static void perhaps_go_on(struct outbound_session *s)
{
	if (s->is_broken) {
		s->is_broken = false;
		smtp_client_close(&s->client);
		next_transaction(s);
		return;
	}
	if (!smtp_client_is_idle(s->client) || s->step == OUTBOUND_STREAMS)
		return;
	if (s->step == OUTBOUND_SAYS && s->is_chunked && !s->is_end_said && s->taken) {
		begin_body(s);
		return;
	}
	next_transaction(s);
}

void outbound_send_reply(struct outbound_session *s, unsigned tag, const struct smtp_client_reply *reply)
{
	struct outbound_try *t = s->t;

	s->has_answered = true;
	/* It asks for more of what has none: nobody knows what it would take the next command for. */
	s->is_broken |= reply->code / 100 == 3 && tag != TAG_DATA;
	switch ((enum tag)tag) {
	case TAG_RSET:
		break;
	case TAG_MAIL:
		on_mail(s, reply);
		break;
	case TAG_RCPT:
		on_rcpt(s, reply);
		break;
	case TAG_DATA:
		on_data(s, reply);
		break;
	case TAG_CHUNK:
		on_chunk(s, reply);
		break;
	case TAG_END:
		on_end(s, reply);
		break;
	case TAG_NOTHING:
		s->is_dirty = false;
		break;
	}
	if (s->t == t && t)
		perhaps_go_on(s);
}

void outbound_send_lost(struct outbound_session *s, const struct smtp_client_reply *r)
{
	struct outbound_try *t = s->t;
	char text[SMTP_CLIENT_TEXT_MAX];

	snprintf(text, sizeof(text), "%.400s%s", r->text,
		r->code          ? ""
		: s->is_end_said ? " (after the message was sent)"
				 : " (before the message was sent)");
	/* Nobody knows whether it was taken: not a second time at once, and not to another host. */
	for (size_t i = 0; i < s->asked_count; i++) {
		size_t n = s->asked[i];

		if (t->states[n] == OUTBOUND_TAKEN && s->is_end_said)
			outbound_give(s, n, OUTBOUND_NOT_NOW, r->code, r->enhanced, text);
		else if (t->states[n] != OUTBOUND_KNOWN)
			t->states[n] = OUTBOUND_WAITS;
	}
	s->asked_count = 0;
	t->is_stale = t->is_reading;
	if (!t->left) {
		outbound_done(s);
		return;
	}
	outbound_note(s, false, r->code, r->enhanced, text);
	if (s->is_reused && !s->has_answered) {
		/* It had gone while it was idle: from the beginning. */
		s->is_reused = false;
		s->was_reached = false;
		t->ready_ms = 0;
		outbound_walk(s);
		return;
	}
	outbound_walk_on(s);
}

/* ---- transactions ---- */

static void next_transaction(struct outbound_session *s)
{
	struct outbound_try *t = s->t;

	if (t->left && !s->client) {
		for (size_t i = 0; i < t->r.recipient_count; i++)
			if (t->states[i] != OUTBOUND_KNOWN)
				t->states[i] = OUTBOUND_WAITS;
		t->is_stale = t->is_reading;
		outbound_note(s, false, 0, "4.4.2", "the server refused a part of the message");
		outbound_walk_on(s);
		return;
	}
	if (t->left)
		choose_recipients(s);
	if (!t->left) {
		outbound_done(s);
		return;
	}
	if (is_small(s) && buf_len(&s->body) < t->r.size) {
		s->step = OUTBOUND_READS;
		pull(s);
		return;
	}
	say_envelope(s);
}

void outbound_send(struct outbound_session *s)
{
	s->asked_count = 0;
	s->is_broken = false;
	s->step = OUTBOUND_READS;
	if (refuse_message(s)) {
		outbound_done(s);
		return;
	}
	next_transaction(s);
}
