/*
 * AUTH (RFC 4954): the SASL dialogue, the tier's decision, delays and limits of failures. Credentials live in
 * the SASL session, which is wiped when the login was answered.
 */
#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/base/log.h"
#include "common/front/front_auth.h"
#include "common/front/front_penalty.h"
#include "common/front/smtp_session.h"

size_t smtp_front_offered(const struct smtp_front *f, const char *offered_out[SASL_MECHANISM_COUNT + 1])
{
	const struct smtp_service *s = f->service;

	if (!s->ops->login || !s->auth || f->user)
		return 0;
	return front_auth_offered(s->auth, f->conn, s->allows_clear, offered_out);
}

void smtp_front_forget_login(struct smtp_front *f)
{
	if (f->is_asked && f->service->ops->login_cancel)
		f->service->ops->login_cancel(f);
	penalty_waited(&f->attempt);
	f->is_asked = false;
	sasl_session_free(&f->sasl);
	f->credentials = (struct front_credentials){0};
}

/* A wrong credential, or one that cannot be checked by this mechanism: nobody sees which of the two it was. */
static void fail_later(struct smtp_front *f)
{
	f->failed_logins++;
	metric_add(f->service->counters->logins_failed, 1);
	smtp_front_enter(f, SMTP_DELAY);
}

void smtp_front_say_login_failed(struct smtp_front *f)
{
	SMTP_SAY(f, 535, "5.7.8", "Name or password is wrong");
	if (f->failed_logins >= f->service->limits.failed_logins) {
		SMTP_SAY(f, 421, "4.7.0", "Too many failed logins");
		smtp_front_end(f, "too many failed logins");
		return;
	}
	smtp_front_enter(f, SMTP_COMMAND);
}

void smtp_front_ask_tier(struct smtp_front *f)
{
	penalty_waited(&f->attempt);
	/* A failure's delay counts from here, or who has waited already would see how long the tier takes. */
	f->login_began_ms = loop_now_ms(f->loop);
	smtp_front_enter(f, SMTP_LOGIN);
	f->is_asked = true;
	f->service->ops->login(f, &f->credentials);
}

/* The client's own failures count, as a proxy told of him; never those of a proxy that told nothing. */
static bool has_penalty(struct smtp_front *f)
{
	return f->service->penalty &&
	       !(smtp_front_is_trusted(f) && addr_is_equal_host(&f->client, conn_raw_peer(f->conn)));
}

/* Too many logins of this client's address wait already. */
static void refuse_at_once(struct smtp_front *f)
{
	smtp_front_forget_login(f);
	SMTP_SAY(f, 454, "4.7.0", "Cannot check that now");
	SMTP_SAY(f, 421, "4.7.0", "Too many failed logins");
	smtp_front_end(f, "too many logins of this address are waiting after failed ones");
}

static void penalise(struct smtp_front *f)
{
	char text[ADDR_TEXT_MAX];

	f->penalty_ms = 0;
	if (has_penalty(f) && front_penalty_begin(f->service->penalty, &f->client, f->credentials.authcid,
				      f->service->domain, &f->attempt, &f->penalty_ms) < 0) {
		refuse_at_once(f);
	} else if (f->penalty_ms) {
		log_info(f->service->name, "%s: login waits after failed ones ms=%llu user=%.*s client=%s",
			f->session, (unsigned long long)f->penalty_ms, SLICE_ARG(f->credentials.authcid),
			addr_host(&f->client, text));
		smtp_front_enter(f, SMTP_PENALTY);
	} else {
		smtp_front_ask_tier(f);
	}
}

static void login(struct smtp_front *f, const struct front_credentials *credentials)
{
	const char *mechanism = f->credentials.mechanism;
	bool was_fetched = f->credentials.shown == FRONT_SHOWN_FETCH;
	int err = credentials->shown == FRONT_SHOWN_PASSWORD
			  ? auth_name_check_login(credentials->authcid, credentials->password)
			  : auth_name_check(credentials->authcid);

	f->credentials = *credentials;
	f->credentials.mechanism = mechanism;
	if (err) {
		smtp_front_forget_login(f);
		fail_later(f);
		return;
	}
	if (was_fetched)
		smtp_front_ask_tier(f); /* he has waited before the challenge */
	else
		penalise(f);
}

/* Who he is, is known: a password to check, or the proof of a name. */
static void sasl_ended(struct smtp_front *f)
{
	struct sasl_result *r = sasl_session_result(f->sasl);

	login(f, &(struct front_credentials){
			 .shown = r->shown == SASL_SHOWN_PROVEN ? FRONT_SHOWN_PROVEN : FRONT_SHOWN_PASSWORD,
			 .authzid = r->authzid,
			 .authcid = r->authcid,
			 .password = secret_view(&r->password)});
}

/* A challenge, a ticket or a certificate was not good. */
static void sasl_denied(struct smtp_front *f)
{
	bool is_unserved = sasl_session_is_unserved(f->sasl);

	f->credentials.authcid = sasl_session_name(f->sasl);
	smtp_front_enter(f, SMTP_LOGIN);
	smtp_front_answer_login(f, is_unserved ? FRONT_UNSERVED : FRONT_WRONG, slice_of("", 0),
		is_unserved ? "what is stored cannot serve this mechanism" : sasl_session_why(f->sasl));
}

static void sasl_failed(struct smtp_front *f, int err)
{
	if (f->sasl && *sasl_session_why(f->sasl))
		log_warn(f->service->name, "%s: AUTH: %s", f->session, sasl_session_why(f->sasl));
	smtp_front_forget_login(f);
	smtp_front_enter(f, SMTP_COMMAND);
	if (err == ERR_CANCELLED)
		SMTP_WRONG(f, 501, "5.7.0", "As you wish");
	else if (err == ERR_NOT_NOW)
		SMTP_SAY(f, 454, "4.7.0", "Not now");
	else if (err == ERR_UNSUPPORTED)
		SMTP_WRONG(f, 504, "5.5.4", "No such mechanism here");
	else
		SMTP_WRONG(f, 501, "5.5.2", "Cannot read that");
}

static void step(struct smtp_front *f, int err, struct slice challenge)
{
	switch (err) {
	case 0:
		sasl_ended(f);
		break;
	case ERR_MORE:
		conn_printf(f->conn, "334 %.*s\r\n", SLICE_ARG(challenge));
		smtp_front_enter(f, SMTP_SASL);
		break;
	case SASL_LATER:
		if (f->state != SMTP_LOGIN)
			smtp_front_enter(f, SMTP_LOGIN);
		break;
	case SASL_WANTS:
		login(f, &(struct front_credentials){
				 .shown = FRONT_SHOWN_FETCH, .authcid = sasl_session_name(f->sasl)});
		break;
	case ERR_DENIED:
		sasl_denied(f);
		break;
	default:
		sasl_failed(f, err);
		break;
	}
}

/* What came later: input has waited. */
static void came(void *arg, int err, struct slice challenge)
{
	struct smtp_front *f = arg;

	step(f, err, challenge);
	smtp_front_pump(f);
}

void smtp_front_give_stored(struct smtp_front *f, struct slice stored, bool is_known)
{
	struct buf challenge = {0};
	int err;

	if (f->state != SMTP_LOGIN || !f->is_asked)
		return;
	f->is_asked = false;
	err = sasl_session_give(f->sasl, stored, is_known, &challenge);
	came(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
}

void smtp_front_auth(struct smtp_front *f, struct slice rest)
{
	ptrdiff_t blank = slice_find(rest, ' ');
	struct slice mechanism = blank < 0 ? rest : slice_sub(rest, 0, (size_t)blank);
	struct slice initial =
		blank < 0 ? (struct slice){NULL, 0} : slice_trim(slice_from(rest, (size_t)blank));
	struct sasl_options options = {
		.service = "smtp", .mechanism = mechanism, .realm = f->service->domain, .fn = came, .arg = f};
	const char *offered[SASL_MECHANISM_COUNT + 1];
	struct buf challenge = {0};
	int err;

	if (!f->is_extended || f->user || f->is_mail) {
		SMTP_WRONG(f, 503, "5.5.1",
			f->user ? "You have logged in already" : "Not now: EHLO, then AUTH, then MAIL");
		return;
	}
	if (!smtp_front_offered(f, offered)) {
		if (f->service->auth && f->service->ops->login && !conn_is_secure(f->conn))
			SMTP_WRONG(f, 538, "5.7.11", "Only over TLS");
		else
			SMTP_WRONG(f, 503, "5.5.1", "No AUTH here");
		return;
	}
	f->attempt = (struct penalty_attempt){0};
	err = front_auth_begin(f->service->auth, f->conn, f->service->allows_clear, &options, &f->sasl);
	if (!err) {
		f->credentials.mechanism = sasl_mechanism(mechanism);
		err = sasl_session_start(f->sasl, initial, &challenge);
	}
	step(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
}

ssize_t smtp_front_take_sasl(struct smtp_front *f)
{
	struct slice in = conn_input(f->conn), line;
	struct buf challenge = {0};
	ssize_t n = smtp_parse_line(in, SMTP_AUTH_LINE_MOST, &line);
	int err;

	if (n == ERR_SYNTAX) {
		smtp_front_end(f, "controls in AUTH");
		return 1;
	}
	if (n <= 0)
		return n;
	err = sasl_session_step(f->sasl, line, &challenge);
	secret_wipe((void *)(uintptr_t)in.p, (size_t)n);
	conn_consume(f->conn, (size_t)n);
	step(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
	return n;
}

void smtp_front_answer_login(
	struct smtp_front *f, enum front_result result, struct slice user, const char *detail)
{
	char text[ADDR_TEXT_MAX];
	uint64_t began_ms;

	if (f->state != SMTP_LOGIN)
		return;
	log_info(f->service->name, "%s: login %s user=%.*s mechanism=%s client=%s%s%s", f->session,
		front_result_name(result), SLICE_ARG(user.len ? user : f->credentials.authcid),
		f->credentials.mechanism, addr_host(&f->client, text), detail && *detail ? " detail=" : "",
		detail ? detail : "");
	if (result == FRONT_WRONG)
		penalty_failed(&f->attempt, f->credentials.password);
	else if (result == FRONT_OK)
		penalty_passed(&f->attempt);
	began_ms = f->login_began_ms;
	f->is_asked = false;
	smtp_front_enter(f, SMTP_COMMAND);
	smtp_front_set_text(&f->user, result == FRONT_OK ? user : SLICE_LIT(""));
	smtp_front_forget_login(f);
	switch (result) {
	case FRONT_OK:
		metric_add(f->service->counters->logins, 1);
		SMTP_SAY(f, 235, "2.7.0", "Welcome");
		break;
	case FRONT_WRONG:
	case FRONT_UNSERVED:
		f->login_began_ms = began_ms;
		fail_later(f);
		break;
	case FRONT_NOT_NOW:
	case FRONT_IN_USE:
	case FRONT_LIMIT:
		SMTP_SAY(f, 454, "4.7.0", "Cannot check that now");
		break;
	case FRONT_NO_ACCOUNT:
	case FRONT_NOT_PERMITTED:
		SMTP_WRONG(f, 535, "5.7.1", "Not permitted to you");
		break;
	}
	smtp_front_pump(f);
}
