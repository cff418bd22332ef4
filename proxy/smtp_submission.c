/*
 * What users send: after AUTH here each transaction goes whole, with all its recipients, to the submission service of the user's back-end,
 * where he is logged in by the same trust as for IMAP. Users without a mailbox are led to the back-ends of `submission-route`. Ways are tried in their
 * order, the next when one is down or breaks before it has answered MAIL; then it is 451.
 *
 * The answer to MAIL is the back-end's: it knows whose addresses are whose, and what the user may send. Only who goes on in one session with the
 * sender that was taken last is answered at once, and his MAIL goes with the first RCPT, whose answer it is if it is refused now. If all ways
 * break then, it is 451 to RCPT, and his next MAIL looks for a way anew.
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "proxy/smtp_client.h"

static const struct smtp_answer no_way = {
	451, {"4.4.1", 5}, {"Mail cannot be taken over now, try again later", 46}};
static const struct smtp_answer not_permitted = {550, {"5.7.1", 5}, {"You may not send by this service", 32}};

void smtp_submission_doubt(struct smtp_client *c)
{
	free(c->known_sender);
	c->known_sender = NULL;
}

void smtp_submission_forget(struct smtp_client *c)
{
	for (unsigned i = 0; i < c->way_count; i++)
		backend_unref(&c->ways[i].backend);
	c->way_count = 0;
	free(c->account);
	c->account = NULL;
	smtp_submission_doubt(c);
	secret_deinit(&c->password);
}

/* ---- at login ---- */

/* Those that the service may lead to. */
static void keep_way(struct smtp_client *c, struct backend *backend, uint16_t port, const char **why_out)
{
	if (c->way_count < SMTP_WAYS_MOST &&
		config_may_reach(&c->config->services[c->service], backend, why_out))
		c->ways[c->way_count++] = (struct smtp_way){backend_ref(backend), port};
}

static void find_route(struct smtp_client *c, const char **why_out)
{
	size_t count;
	const char *const *names =
		conf_get_list(c->config->conf, "service", "submission", "submission-route", &count);

	*why_out = "the user has no mailbox, and there is no submission-route";
	for (size_t i = 0; i < count; i++) {
		struct backend *b = backends_find(c->config->backends, names[i]);

		if (b)
			keep_way(c, b, 0, why_out);
	}
}

static void find_targets(struct smtp_client *c, const struct usermap_answer *found, const char **why_out)
{
	struct backend *backends[USERMAP_TARGETS_MOST];
	uint16_t ports[USERMAP_TARGETS_MOST];
	unsigned count = backends_route_all(c->config->backends, found, backends, ports, why_out);

	for (unsigned i = 0; i < count; i++) {
		/* A port of the map is of another protocol. */
		keep_way(c, backends[i], 0, why_out);
		backend_unref(&backends[i]);
	}
}

int smtp_submission_found(struct smtp_client *c, const struct usermap_answer *found, const char **why_out)
{
	bool replays = false;

	smtp_submission_forget(c);
	if (found->target_count)
		find_targets(c, found, why_out);
	else
		find_route(c, why_out);
	if (!c->way_count)
		return found->target_count ? ERR_NOT_NOW : ERR_DENIED;
	c->account = xstrdup(found->target_count && *found->account ? found->account : c->login_name);
	for (unsigned i = 0; i < c->way_count; i++)
		replays |= c->ways[i].backend->trust == BACKEND_REPLAY;
	if (replays && c->credentials->shown == FRONT_SHOWN_PASSWORD)
		secret_set(&c->password, c->credentials->password);
	return 0;
}

/* ---- MAIL ---- */

static struct smtp_leg_login login_of(const struct smtp_client *c)
{
	return (struct smtp_leg_login){.account = slice_str(c->account),
		.password = secret_view(&c->password),
		.helo = smtp_front_helo(c->front),
		.protocol = smtp_front_protocol(c->front),
		.ttl = smtp_front_ttl(c->front) - 1};
}

bool smtp_submission_take_leg(struct smtp_share *s, bool fresh)
{
	struct smtp_client *c = s->client;
	const struct identity_client client = smtp_share_identity(s);
	const struct smtp_leg_login login = login_of(c);

	s->leg = smtp_leg_take_login(smtp_front_loop(c->front), s->backend, s->port, c->config->host, &client,
		&login, fresh, smtp_share_event, s);
	if (s->leg && smtp_leg_is_ready(s->leg))
		smtp_share_mail(s);
	return s->leg != NULL;
}

static struct smtp_share *new_share(struct smtp_client *c, const struct smtp_way *way)
{
	struct smtp_share *s = xcalloc(1, sizeof(*s));

	s->client = c;
	s->backend = backend_ref(way->backend);
	s->port = way->port;
	list_add_last(&c->shares, &s->link);
	return s;
}

static void answer_mail(struct smtp_client *c, const struct smtp_answer *answer)
{
	c->awaits_mail = false;
	if (answer->code / 100 != 2)
		smtp_log_sender(c->front, c->mail.path.address, answer);
	smtp_front_answer_mail(c->front, answer);
}

/* By the next way that is up; NULL: there is none. */
static struct smtp_share *try_next(struct smtp_client *c)
{
	while (c->way_at < c->way_count) {
		const struct smtp_way *way = &c->ways[c->way_at++];
		struct smtp_share *s;

		if (!backend_is_usable(way->backend, BACKEND_SUBMISSION))
			continue;
		s = new_share(c, way);
		if (smtp_submission_take_leg(s, false))
			return s;
		smtp_share_free(s);
	}
	return NULL;
}

/* Taken in this session, by a back-end that is still up, whose leg waits. */
static bool is_known(const struct smtp_client *c)
{
	const struct identity_client client = {
		.client = smtp_front_client(c->front), .session = smtp_front_session(c->front)};
	const struct smtp_leg_login login = login_of(c);

	if (!c->known_sender || !slice_is_str(c->mail.path.address, c->known_sender))
		return false;
	for (unsigned i = 0; i < c->way_count; i++)
		if (backend_is_usable(c->ways[i].backend, BACKEND_SUBMISSION))
			return smtp_leg_is_kept(c->ways[i].backend, c->ways[i].port, &client, &login);
	return false;
}

void smtp_submission_mail(struct smtp_client *c)
{
	c->way_at = 0;
	c->owes_mail = smtp_front_ttl(c->front) > 1 && is_known(c);
	if (c->owes_mail) {
		smtp_front_answer_mail(c->front, SMTP_ANSWER(250, "2.1.0", "Ok"));
		return;
	}
	c->awaits_mail = true;
	if (smtp_front_ttl(c->front) <= 1) {
		log_error("proxy", "%s: the message goes in circles between proxies user=%s",
			smtp_front_session(c->front), c->account);
		answer_mail(c, SMTP_ANSWER(451, "4.4.6", "Routing loop"));
	} else if (!try_next(c)) {
		answer_mail(c, &no_way);
	}
}

void smtp_submission_mail_answered(struct smtp_share *s, const struct smtp_reply *reply)
{
	struct smtp_answer answer = {reply->code, reply->enhanced, reply->text};

	smtp_submission_doubt(s->client);
	if (reply->code / 100 == 2)
		s->client->known_sender = slice_copy_str(s->client->mail.path.address);
	if (reply->code / 100 == 3 || reply->code == 421)
		answer = no_way;
	answer_mail(s->client, &answer);
}

/* His back-end says that he may not send: no other is asked. */
static bool is_not_permitted(const struct smtp_reply *reply)
{
	return reply->code == 535 && slice_has_prefix(reply->text, "535 5.7.1");
}

/* Before MAIL was answered nothing can have been stored. */
bool smtp_submission_leg_lost(struct smtp_share *s, const struct smtp_reply *reply, bool was_stale)
{
	struct smtp_client *c = s->client;

	if (reply->code == 535)
		log_error("proxy", "%s: submission: backend=%s refuses the login of user=%s: %.*s",
			smtp_front_session(c->front), s->backend->name, c->account, SLICE_ARG(reply->text));
	if (!c->awaits_mail)
		return false;
	s->leg = NULL;
	if (was_stale && !s->was_retried) {
		s->was_retried = true;
		if (smtp_submission_take_leg(s, true))
			return true;
	}
	s->has_failed = true;
	if (is_not_permitted(reply))
		answer_mail(c, &not_permitted);
	else if (!try_next(c))
		answer_mail(c, &no_way);
	return true;
}

bool smtp_submission_next_way(struct smtp_share *s, const struct smtp_reply *reply)
{
	struct smtp_share *next = is_not_permitted(reply) ? NULL : try_next(s->client);

	if (!next)
		return false;
	next->is_mail_owed = true;
	smtp_share_move(s, next);
	return true;
}

struct smtp_share *smtp_submission_share(struct smtp_client *c)
{
	if (c->owes_mail) {
		struct smtp_share *first = try_next(c);

		if (first)
			first->is_mail_owed = true;
		else
			smtp_submission_doubt(c);
	}
	c->owes_mail = false;
	list_for_each (at, &c->shares) {
		struct smtp_share *s = container_of(at, struct smtp_share, link);

		if (s->leg)
			return s;
	}
	return NULL;
}
