/*
 * From RCPT to its answer: normal form, map, route, leg. A recipient that waits for its leg is asked of it
 * when it is ready; a leg from the pool that turns out to be dead before it said anything is replaced once by
 * a new one.
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_facts.h"
#include "proxy/smtp_client.h"

#define NAME_ARENA_MOST (8 * 1024)

static const struct smtp_answer not_now = {451, {"4.3.0", 5}, {"Cannot say now, try again later", 31}};
static const struct smtp_answer no_backend = {451, {"4.4.1", 5}, {"The mailbox cannot be reached now", 33}};

void smtp_recipient_free(struct smtp_recipient *r)
{
	usermap_cancel(&r->request);
	list_remove(&r->link);
	free(r->wire);
	free(r->name);
	free(r->orcpt);
	free(r);
}

void smtp_recipient_answer(struct smtp_recipient *r, const struct smtp_answer *answer)
{
	bool is_yes = answer->code / 100 == 2;

	r->state = is_yes ? SMTP_RECIPIENT_ACCEPTED : SMTP_RECIPIENT_REFUSED;
	if (!is_yes)
		smtp_log_recipient(r->client->front, slice_str(r->wire),
			r->share ? r->share->backend->name : "none", answer, SMTP_LOG_REFUSED);
	if (is_yes)
		r->share->accepted++;
	smtp_front_answer_rcpt(r->client->front, r->index, answer);
}

/* ---- legs ---- */

void smtp_share_mail(struct smtp_share *s)
{
	struct smtp_client *c = s->client;
	struct smtp_leg_mail mail = {
		.mail = &c->mail,
		.prefix = buf_len(&c->received),
		.session = smtp_front_session(c->front),
		.helo = smtp_front_helo(c->front),
		.user = smtp_front_user(c->front),
		.protocol = smtp_front_protocol(c->front),
		.client = smtp_front_client(c->front),
		.ttl = smtp_front_ttl(c->front) - 1,
	};

	smtp_leg_mail(s->leg, &mail);
}

static void ask_leg(struct smtp_recipient *r)
{
	struct buf grey = {0};

	if (r->client->mail.is_utf8 && !smtp_leg_words(r->share->leg)->smtputf8) {
		smtp_recipient_answer(
			r, SMTP_ANSWER(553, "5.6.7", "The mailbox does not take such addresses"));
		return;
	}
	/* RFC 8689 section 4.2.1: by TLS that is verified, to somebody who keeps the promise, or not at all. */
	if (r->client->mail.requires_tls && !smtp_leg_keeps_tls(r->share->leg)) {
		smtp_recipient_answer(
			r, SMTP_ANSWER(550, "5.7.30", "The way to the mailbox cannot do REQUIRETLS"));
		return;
	}
	r->state = SMTP_RECIPIENT_ASKED;
	if (r->is_greylisted)
		smtp_facts_network(smtp_front_client(r->client->front), &grey);
	smtp_leg_rcpt(r->share->leg, r->index,
		&(struct smtp_rcpt){.path.address = slice_str(r->wire),
			.notify = r->notify,
			.orcpt = slice_str(r->orcpt),
			.grey = buf_view(&grey)});
	buf_deinit(&grey);
}

static void leg_ready(struct smtp_share *s)
{
	smtp_share_mail(s);
	list_for_each_safe (at, &s->client->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->share == s && r->state == SMTP_RECIPIENT_WAITING)
			ask_leg(r);
	}
}

void smtp_share_move(struct smtp_share *from, struct smtp_share *to)
{
	list_for_each_safe (at, &from->client->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->share != from ||
			(r->state != SMTP_RECIPIENT_WAITING && r->state != SMTP_RECIPIENT_ASKED))
			continue;
		r->share = to;
		r->state = SMTP_RECIPIENT_WAITING;
		if (smtp_leg_is_ready(to->leg))
			ask_leg(r);
	}
}

struct identity_client smtp_share_identity(const struct smtp_share *s)
{
	struct smtp_front *front = s->client->front;
	struct conn *conn = smtp_front_conn(front);

	return (struct identity_client){smtp_front_client(front),
		s->backend->identity == IDENTITY_PROXY_V2 ? conn_local(conn) : NULL,
		smtp_front_session(front), conn_tls_text(conn), conn_is_secure(conn)};
}

/* False: no leg can be made. */
static bool take_leg(struct smtp_share *s, bool fresh)
{
	struct smtp_client *c = s->client;
	const struct identity_client client = smtp_share_identity(s);

	if (c->service == CONFIG_SUBMISSION)
		return smtp_submission_take_leg(s, fresh);
	s->leg = smtp_leg_take(smtp_front_loop(c->front), s->backend, s->port, c->config->host, &client,
		fresh, smtp_share_event, s);
	if (s->leg && smtp_leg_is_ready(s->leg))
		smtp_share_mail(s);
	return s->leg != NULL;
}

static struct smtp_share *find_share(struct smtp_client *c, struct backend *backend, uint16_t port)
{
	struct smtp_share *s;

	list_for_each (at, &c->shares) {
		s = container_of(at, struct smtp_share, link);
		if (s->backend == backend && s->port == port && !s->has_failed)
			return s;
	}
	s = xcalloc(1, sizeof(*s));
	s->client = c;
	s->backend = backend_ref(backend);
	s->port = port;
	list_add_last(&c->shares, &s->link);
	if (!take_leg(s, false))
		s->has_failed = true;
	return s;
}

void smtp_share_free(struct smtp_share *s)
{
	smtp_leg_release(&s->leg);
	backend_unref(&s->backend);
	list_remove(&s->link);
	/* A leg's event may be on the stack. */
	loop_free_later(smtp_front_loop(s->client->front), s);
}

/* All recipients of the share that wait for an answer get this one. The last of them may bring the client's
 * next command. */
static void answer_waiting(struct smtp_share *s, const struct smtp_answer *answer)
{
	struct smtp_client *c = s->client;
	unsigned count = 0, at_index = 0;
	unsigned *waiting;

	list_for_each (at, &c->recipients)
		count++;
	waiting = xcalloc(count + 1, sizeof(*waiting));
	list_for_each (at, &c->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->share == s &&
			(r->state == SMTP_RECIPIENT_WAITING || r->state == SMTP_RECIPIENT_ASKED)) {
			r->state = SMTP_RECIPIENT_REFUSED;
			waiting[at_index++] = r->index;
		}
	}
	for (unsigned i = 0; i < at_index; i++)
		smtp_front_answer_rcpt(c->front, waiting[i], answer);
	free(waiting);
}

/* Once, with a new connection: the back-end may have been restarted since the leg was last used. */
static bool retry(struct smtp_share *s)
{
	if (s->was_retried || s->accepted || s->client->is_data)
		return false;
	s->was_retried = true;
	list_for_each (at, &s->client->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->share == s && r->state == SMTP_RECIPIENT_ASKED)
			r->state = SMTP_RECIPIENT_WAITING;
	}
	return take_leg(s, true);
}

static void leg_lost(struct smtp_share *s, const struct smtp_reply *reply, bool was_stale)
{
	if (s->client->service == CONFIG_SUBMISSION && smtp_submission_leg_lost(s, reply, was_stale))
		return;
	s->leg = NULL;
	if (was_stale && retry(s))
		return;
	s->has_failed = true;
	if (s->is_mail_owed && smtp_submission_next_way(s, reply))
		return;
	smtp_submission_doubt(s->client);
	if (s->client->is_data)
		smtp_body_leg_lost(s);
	else
		answer_waiting(s, &no_backend);
}

static struct smtp_answer answer_of(const struct smtp_reply *reply)
{
	struct smtp_answer answer = {reply->code, reply->enhanced, reply->text};

	/* A reply of 3yz or 421 to a recipient is no answer to pass on. */
	if (reply->code / 100 == 3 || reply->code == 421)
		return not_now;
	return answer;
}

static void mail_answered(struct smtp_share *s, const struct smtp_reply *reply)
{
	s->is_mail_owed = false;
	if (reply->code / 100 == 2)
		return;
	smtp_submission_doubt(s->client);
	s->is_mail_refused = true;
	snprintf(s->refusal_text, sizeof(s->refusal_text), "%.*s%.*s", SLICE_ARG(reply->enhanced),
		SLICE_ARG(reply->text));
	s->mail_refusal = answer_of(reply);
	if (s->mail_refusal.text.p == reply->text.p) {
		s->mail_refusal.enhanced = slice_of(s->refusal_text, reply->enhanced.len);
		s->mail_refusal.text = slice_str(s->refusal_text + reply->enhanced.len);
	}
}

static void rcpt_answered(struct smtp_share *s, unsigned number, const struct smtp_reply *reply)
{
	struct smtp_answer answer = s->is_mail_refused ? s->mail_refusal : answer_of(reply);

	list_for_each (at, &s->client->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->index == number && r->state == SMTP_RECIPIENT_ASKED) {
			smtp_recipient_answer(r, &answer);
			return;
		}
	}
}

void smtp_share_event(void *owner, struct smtp_leg *leg, enum smtp_leg_event event, unsigned number,
	const struct smtp_reply *reply)
{
	struct smtp_share *s = owner;

	switch (event) {
	case SMTP_LEG_READY:
		leg_ready(s);
		break;
	case SMTP_LEG_MAIL:
		if (s->client->awaits_mail)
			smtp_submission_mail_answered(s, reply);
		else
			mail_answered(s, reply);
		break;
	case SMTP_LEG_RCPT:
		rcpt_answered(s, number, reply);
		break;
	case SMTP_LEG_DATA:
		smtp_body_data_answer(s, reply);
		break;
	case SMTP_LEG_END:
		smtp_body_end_answer(s, reply);
		break;
	case SMTP_LEG_DRAINED:
		smtp_body_drained(s->client);
		break;
	case SMTP_LEG_LOST:
		leg_lost(s, reply, smtp_leg_is_stale(leg));
		break;
	}
}

/* ---- maps ---- */

static struct slice domain_of(const char *name)
{
	const char *at = strrchr(name, '@');

	return slice_str(at ? at + 1 : "");
}

static bool is_own_domain(const struct smtp_client *c, struct slice domain)
{
	size_t count;
	const char *const *list = conf_get_list(c->config->conf, "smtp", NULL, "domains", &count);

	for (size_t i = 0; i < count; i++) {
		if (slice_is_str_nocase(domain, list[i]))
			return true;
	}
	return slice_is_str_nocase(domain, c->config->default_domain);
}

static void refuse_unknown(struct smtp_recipient *r)
{
	static const struct smtp_answer unknown = {550, {"5.1.1", 5}, {"No such user here", 17}};
	static const struct smtp_answer relaying = {
		550, {"5.7.1", 5}, {"No such user here, and no relaying", 34}};

	if (is_own_domain(r->client, domain_of(r->name)))
		smtp_recipient_answer(r, &unknown);
	else
		smtp_recipient_answer(r, &relaying);
}

/* "bob@x" is account "robert@x": the back-end is told the account, with the detail that was asked for. */
static void address_account(struct smtp_recipient *r, const char *account)
{
	struct slice name = slice_str(r->name), full = slice_str(account);
	ptrdiff_t at = slice_find_last(name, '@'), plus, account_at = slice_find_last(full, '@');
	struct slice local = slice_sub(name, 0, at < 0 ? name.len : (size_t)at);
	struct slice detail = SLICE_LIT("");
	struct buf out = {0}, whole = {0};

	plus = slice_find(local, '+');
	if (plus > 0) {
		detail = slice_from(local, (size_t)plus);
		local = slice_sub(local, 0, (size_t)plus);
	}
	if (slice_is_equal(name, full) || account_at <= 0)
		return;
	if (slice_is_equal(local, slice_sub(full, 0, (size_t)account_at)) &&
		slice_is_equal(slice_from(name, (size_t)at + 1), slice_from(full, (size_t)account_at + 1)))
		return;
	buf_add_slice(&whole, slice_sub(full, 0, (size_t)account_at));
	buf_add_slice(&whole, detail);
	smtp_parse_write_address(&out, buf_view(&whole), slice_from(full, (size_t)account_at + 1));
	free(r->wire);
	r->wire = slice_copy_str(buf_view(&out));
	buf_deinit(&out);
	buf_deinit(&whole);
}

static void to_backend(struct smtp_recipient *r, struct backend *backend, uint16_t port)
{
	if (smtp_front_ttl(r->client->front) <= 1) {
		log_error("proxy", "%s: the message goes in circles between proxies recipient=%s backend=%s",
			smtp_front_session(r->client->front), r->name, backend->name);
		smtp_recipient_answer(r, SMTP_ANSWER(451, "4.4.6", "Routing loop"));
		return;
	}
	if (!backend_is_usable(backend, BACKEND_LMTP)) {
		smtp_recipient_answer(r, &no_backend);
		return;
	}
	r->share = find_share(r->client, backend, port);
	if (r->share->has_failed) {
		smtp_recipient_answer(r, &no_backend);
	} else if (!smtp_leg_is_ready(r->share->leg)) {
		r->state = SMTP_RECIPIENT_WAITING;
	} else {
		ask_leg(r);
	}
}

static void route(struct smtp_recipient *r, const struct usermap_answer *answer)
{
	struct config *config = r->client->config;
	struct backend *backend = NULL;
	const char *why = "";
	uint16_t port = 0;
	int err = backends_route(config->backends, answer, BACKEND_LMTP, &backend, &port, &why);

	if (err == ERR_NOT_FOUND) {
		smtp_recipient_answer(r, SMTP_ANSWER(550, "5.2.1", "This user has no mailbox"));
		return;
	}
	if (err == 0 && !config_may_reach(&config->services[r->client->service], backend, &why))
		err = ERR_NOT_NOW;
	if (err) {
		log_error("proxy", "%s: %s recipient=%s map=%s line=%u", smtp_front_session(r->client->front),
			why, r->name, answer->map, answer->line);
		smtp_recipient_answer(r, &not_now);
	} else {
		address_account(r, answer->account);
		to_backend(r, backend, port);
	}
	backend_unref(&backend);
}

static void mapped(struct smtp_recipient *r, const struct usermap_answer *answer)
{
	switch (answer->verdict) {
	case USERMAP_YES:
		route(r, answer);
		break;
	case USERMAP_NO_SUCH_USER:
	case USERMAP_WRONG_CREDENTIAL:
		refuse_unknown(r);
		break;
	case USERMAP_NOT_NOW:
		smtp_recipient_answer(r, &not_now);
		break;
	}
}

static void on_mapped(void *arg, const struct usermap_answer *answer)
{
	struct smtp_recipient *r = arg;

	r->request = NULL;
	mapped(r, answer);
}

static void ask_map(struct smtp_recipient *r)
{
	struct smtp_client *c = r->client;
	const struct usermap_question question = {.service = slice_str(config_service_name(c->service)),
		.name = slice_str(r->name),
		.is_address = true};
	struct usermap_answer answer;

	if (usermap_lookup(c->config->services[c->service].chain, &question, smtp_front_loop(c->front),
		    on_mapped, r, &answer, &r->request) == 1)
		mapped(r, &answer);
}

/* An acceptance rule says where: no map is asked. */
static void to_route(struct smtp_recipient *r, const char *name)
{
	struct config *config = r->client->config;
	struct backend *backend = backends_find(config->backends, name);
	const char *why = "a rule routes to a back-end that there is not any more";

	if (backend && config_may_reach(&config->services[r->client->service], backend, &why)) {
		to_backend(r, backend, 0);
		return;
	}
	log_error("proxy", "%s: %s recipient=%s backend=%s", smtp_front_session(r->client->front), why,
		r->name, name);
	smtp_recipient_answer(r, &not_now);
}

static int normalise(const struct smtp_client *c, const struct smtp_path *path, char **name_out)
{
	struct slice domain = slice_str(c->config->default_domain), name;
	struct buf whole = {0};
	struct arena arena;
	int err;

	arena_init(&arena, NAME_ARENA_MOST);
	buf_add_slice(&whole, path->local);
	if (path->domain.len) {
		buf_add_char(&whole, '@');
		buf_add_slice(&whole, path->domain);
	}
	err = auth_name_normalise(&arena, buf_view(&whole), domain, &name);
	if (!err)
		*name_out = slice_copy_str(name);
	buf_deinit(&whole);
	arena_deinit(&arena);
	return err;
}

/* As it came, to where the user was led. */
static void submit(struct smtp_recipient *r)
{
	r->share = smtp_submission_share(r->client);
	if (!r->share)
		smtp_recipient_answer(r, &no_backend);
	else if (!smtp_leg_is_ready(r->share->leg))
		r->state = SMTP_RECIPIENT_WAITING;
	else
		ask_leg(r);
}

void smtp_recipient_new(struct smtp_client *c, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct smtp_recipient *r = xcalloc(1, sizeof(*r));
	const char *route = smtp_front_wish(c->front)->route;

	r->is_greylisted = smtp_front_wish(c->front)->is_greylisted;
	r->client = c;
	r->index = index;
	r->wire = slice_copy_str(rcpt->path.address);
	r->notify = rcpt->notify;
	r->orcpt = slice_copy_str(rcpt->orcpt);
	list_add_last(&c->recipients, &r->link);
	if (c->service == CONFIG_SUBMISSION)
		submit(r);
	else if (normalise(c, &rcpt->path, &r->name))
		smtp_recipient_answer(r, SMTP_ANSWER(550, "5.1.3", "No recipient can have this address"));
	else if (route)
		to_route(r, route);
	else
		ask_map(r);
}

/* ---- VRFY ---- */

void smtp_verify_cancel(struct smtp_client *c)
{
	usermap_cancel(&c->verify_request);
	free(c->verify_name);
	c->verify_name = NULL;
}

/* As far as the maps know: the back-end is not asked. */
static void verified(struct smtp_client *c, const struct usermap_answer *answer)
{
	enum smtp_verify what = SMTP_VERIFY_NOT_NOW;

	if (answer->verdict == USERMAP_YES)
		what = answer->target_count ? SMTP_VERIFY_HERE : SMTP_VERIFY_NONE;
	else if (answer->verdict != USERMAP_NOT_NOW)
		what = is_own_domain(c, domain_of(c->verify_name)) ? SMTP_VERIFY_NONE : SMTP_VERIFY_ELSEWHERE;
	free(c->verify_name);
	c->verify_name = NULL;
	smtp_front_answer_verify(c->front, what);
}

static void on_verified(void *arg, const struct usermap_answer *answer)
{
	struct smtp_client *c = arg;

	c->verify_request = NULL;
	verified(c, answer);
}

void smtp_verify(struct smtp_front *front, const struct smtp_path *path)
{
	struct smtp_client *c = smtp_front_tier(front);
	struct usermap_question question = {
		.service = slice_str(config_service_name(c->service)), .is_address = true};
	struct usermap_answer answer;

	if (normalise(c, path, &c->verify_name)) {
		smtp_front_answer_verify(front, SMTP_VERIFY_ELSEWHERE);
		return;
	}
	question.name = slice_str(c->verify_name);
	if (usermap_lookup(c->config->services[c->service].chain, &question, smtp_front_loop(front),
		    on_verified, c, &answer, &c->verify_request) == 1)
		verified(c, &answer);
}
