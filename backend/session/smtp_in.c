/*
 * One struct session per connection, the front's `tier`. A transaction is a struct delivery that is whole: what is stored for one
 * recipient is stored for all.
 *
 *	accepted -> MAIL: is the sender the user's? -> RCPT: here? else may he send to anywhere? -> DATA -> commit -> one answer
 */
#include "backend/session/smtp_in.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "backend/session/rcpt_answer.h"
#include "backend/session/smtp_sent.h"
#include "backend/store/store_domain.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/front_auth.h"
#include "common/front/smtp_content.h"
#include "common/front/smtp_log.h"
#include "common/proto/address.h"

#define NAME_ARENA_MOST ((size_t)64 * 1024)

static const struct smtp_answer too_many_messages = {
	450, {"4.7.1", 5}, {"You have sent too many messages, try again later", 48}};
static const struct smtp_answer too_many_recipients = {
	450, {"4.7.1", 5}, {"You have sent to too many recipients, try again later", 53}};

struct smtp_in_service {
	struct smtp_service smtp;
	struct smtp_in_settings settings;
	struct delivery_service *delivery;
	struct store_work *work;
};

/* A RCPT that was accepted. */
struct named {
	unsigned recipient; /* of the delivery */
	char *address;      /* for the log */
};

struct session {
	struct list link; /* in this thread's list */
	uint64_t number;  /* for struct session_walk */
	int64_t since;    /* seconds since 1970 */
	struct smtp_front *front;
	struct smtp_in_service *service;
	void *login;
	bool is_user;
	struct store_account *account; /* of the user; NULL: a guest, or nobody */

	struct delivery *delivery;
	uint64_t prefix;  /* octets that a proxy of ours puts first */
	struct list grey; /* recipients that greylisting is asked about */
	char *sender;
	bool has_digest; /* of the client's octets: a proxy of ours has changed them, and told */
	uint8_t digest[SMTP_DIGEST_LEN];
	struct named *names;
	unsigned count, room;
	unsigned recipients; /* of the delivery: numbers so far */
	unsigned due;        /* answers of it */
	int error;           /* the first */
	bool is_answered_yes;
	struct smtp_sent *sent; /* the copy for the user; NULL: none */
};

/* The sessions of this thread's loop. */
static _Thread_local struct list sessions;
static _Thread_local uint64_t numbers;
static _Atomic unsigned session_count;

static struct list *own_sessions(void)
{
	if (!sessions.next)
		list_init(&sessions);
	return &sessions;
}

static struct smtp_in_service *service_of(const struct smtp_front *front)
{
	return smtp_front_service(front)->tier;
}

static void begin(struct smtp_front *front)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->front = front;
	s->number = ++numbers;
	s->since = clock_wall_s();
	s->service = service_of(front);
	list_init(&s->grey);
	list_add_last(own_sessions(), &s->link);
	atomic_fetch_add(&session_count, 1);
	smtp_front_set_tier(front, s);
}

static void clear(struct session *s, bool is_retired)
{
	greylist_cancel_all(&s->grey);
	free(s->sender);
	s->sender = NULL;
	s->has_digest = false;
	delivery_end(&s->delivery, is_retired);
	for (unsigned i = 0; i < s->count; i++)
		free(s->names[i].address);
	s->count = s->recipients = s->due = 0;
	s->error = 0;
	s->is_answered_yes = false;
	smtp_sent_free(&s->sent);
}

static void end(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);

	list_remove(&s->link);
	atomic_fetch_sub(&session_count, 1);
	clear(s, false);
	free(s->account);
	free(s->names);
	smtp_front_set_tier(front, NULL);
	loop_free_later(smtp_front_loop(front), s);
}

static bool is_trusted(struct smtp_front *front)
{
	const struct smtp_in_settings *settings = &service_of(front)->settings;

	return settings->is_trusted(settings->arg, smtp_front_conn(front));
}

/* ---- logins ---- */

static void login(struct smtp_front *front, const struct front_credentials *credentials)
{
	const struct smtp_in_settings *settings = &service_of(front)->settings;

	settings->login(settings->arg, front, credentials);
}

static void login_cancel(struct smtp_front *front)
{
	const struct smtp_in_settings *settings = &service_of(front)->settings;

	settings->login_cancel(settings->arg, front);
}

void smtp_in_set_login(struct smtp_front *front, void *login)
{
	struct session *s = smtp_front_tier(front);

	s->login = login;
}

void *smtp_in_login(const struct smtp_front *front)
{
	const struct session *s = smtp_front_tier(front);

	return s->login;
}

int smtp_in_logged_in(
	struct smtp_front *front, const struct store_account *account, struct slice user, bool is_vouched)
{
	struct session *s = smtp_front_tier(front);

	if (!account && !s->service->settings.takes_guests)
		return ERR_DENIED;
	s->is_user = true;
	free(s->account);
	s->account = NULL;
	if (account) {
		s->account = xmalloc(sizeof(*s->account));
		*s->account = *account;
	}
	if (is_vouched)
		smtp_front_keep_marks(front);
	smtp_front_answer_login(front, FRONT_OK, account ? slice_str(account->address) : user, NULL);
	return 0;
}

/* ---- whose an address is ---- */

/* The account of an address in any spelling, with or without a detail. */
static int find_own(
	const struct session *s, struct arena *arena, struct slice address, struct store_account *account_out)
{
	struct store *store = store_work_store(s->service->work);
	struct address_name name;
	int err = address_normalise_whole(arena, address, &name);

	if (err)
		return err;
	err = store_find_account(store, name.full, account_out);
	if (err != ERR_NOT_FOUND)
		return err;
	err = address_normalise(arena, address, &name);
	return err ? err : store_find_account(store, name.full, account_out);
}

static bool is_same_domain(const char *a, const char *b)
{
	const char *x = strrchr(a, '@'), *y = strrchr(b, '@');

	return x && y && strcmp(x, y) == 0;
}

/* Guests: their name, or a name of the same domain. */
static bool is_guests(const struct session *s, struct arena *arena, struct slice address)
{
	const char *user = smtp_front_user(s->front), *at = strrchr(user, '@');
	struct address_name name;

	if (address_normalise(arena, address, &name))
		return false;
	if (slice_is_str(name.full, user))
		return true;
	return s->service->settings.sender_check == SMTP_IN_SENDER_DOMAIN && at &&
	       slice_is_str(name.domain, at + 1);
}

/* Has the domain of this address a name of the account? Its own address stands for all: aliases elsewhere are found by find_own(). */
static bool is_in_domain(const struct session *s, struct arena *arena, struct slice address)
{
	struct buf whole = {0};
	struct address_name name;
	bool is;

	if (address_normalise(arena, address, &name))
		return false;
	buf_printf(&whole, "x@%.*s", SLICE_ARG(name.domain));
	is = is_same_domain(buf_str_view(&whole), s->account->address);
	buf_deinit(&whole);
	return is;
}

static bool is_users(const struct session *s, struct slice address)
{
	struct store_account found;
	struct arena arena;
	bool is;

	arena_init(&arena, NAME_ARENA_MOST);
	if (!s->account)
		is = is_guests(s, &arena, address);
	else if (find_own(s, &arena, address, &found) == 0)
		is = (found.slot == s->account->slot && found.id == s->account->id) ||
		     (s->service->settings.sender_check == SMTP_IN_SENDER_DOMAIN &&
			     is_same_domain(found.address, s->account->address));
	else
		is = s->service->settings.sender_check == SMTP_IN_SENDER_DOMAIN &&
		     is_in_domain(s, &arena, address);
	arena_deinit(&arena);
	return is;
}

static bool is_own(struct smtp_front *front, struct slice address)
{
	const struct session *s = smtp_front_tier(front);

	return !s->is_user || is_users(s, address);
}

/* ---- MAIL ---- */

/* NULL: he may send as that. */
static const struct smtp_answer *sender_refusal(const struct session *s, const struct smtp_path *path)
{
	static const struct smtp_answer null = {
		550, SLICE_LIT("5.7.1"), SLICE_LIT("The null sender is not for users")};
	static const struct smtp_answer foreign = {
		553, SLICE_LIT("5.7.1"), SLICE_LIT("This sender address is not yours")};
	const struct smtp_in_settings *settings = &s->service->settings;

	if (!s->is_user)
		return NULL;
	if (path->is_null)
		return settings->takes_null_sender ? NULL : &null;
	if (settings->sender_check == SMTP_IN_SENDER_ANY || is_users(s, path->address))
		return NULL;
	return &foreign;
}

static int take_allowance(const struct session *s, uint32_t messages, uint32_t recipients)
{
	const struct smtp_in_settings *settings = &s->service->settings;
	struct send_allowance allowance = {0};

	if (!s->is_user || !settings->limits)
		return 0;
	settings->allowance(settings->arg, s->account, smtp_front_user(s->front), &allowance);
	return send_limits_take(settings->limits, slice_str(smtp_front_user(s->front)), &allowance, messages,
		recipients, clock_wall_s());
}

static void set_envelope(struct session *s, const struct smtp_mail *mail)
{
	const struct delivery_envelope envelope = {
		.session = slice_str(smtp_front_session(s->front)),
		.user = slice_str(s->is_user ? smtp_front_user(s->front) : ""),
		.ret = mail->ret,
		.envid = mail->envid,
		.is_8bit = mail->body == SMTP_BODY_8BITMIME,
		.is_utf8 = mail->is_utf8,
		.requires_tls = mail->requires_tls,
		.is_whole = true,
	};

	delivery_set_envelope(s->delivery, &envelope);
}

static void mail(struct smtp_front *front, const struct smtp_mail *mail)
{
	struct session *s = smtp_front_tier(front);
	const struct smtp_answer *refusal = sender_refusal(s, &mail->path);
	struct smtp_mark mark = mail->mark;

	if (!refusal && take_allowance(s, 1, 0))
		refusal = &too_many_messages;
	if (refusal) {
		smtp_log_sender(front, mail->path.address, refusal);
		smtp_front_answer_mail(front, refusal);
		return;
	}
	s->prefix = mark.prefix;
	s->sender = slice_copy_str(mail->path.address);
	mark.is_set = true;
	/* Of the octets as the client sent them, which are known when all have come. */
	if (s->service->settings.complete)
		mark.has_digest = true;
	s->delivery = delivery_begin(
		s->service->delivery, smtp_front_loop(front), mail->path.address, mail->size, &mark);
	set_envelope(s, mail);
	smtp_front_answer_mail(front, SMTP_ANSWER(250, "2.1.0", "Ok"));
}

/* ---- RCPT ---- */

static void add_name(struct session *s, unsigned recipient, struct slice address)
{
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 8;
		s->names = xreallocarray(s->names, s->room, sizeof(*s->names));
	}
	s->names[s->count++] = (struct named){.recipient = recipient, .address = slice_copy_str(address)};
	if (recipient >= s->recipients)
		s->recipients = recipient + 1;
}

/* Whose domain is it? */
enum place {
	PLACE_HERE,    /* ours, and nobody of that name is here */
	PLACE_CLUSTER, /* ours, and others of it live elsewhere */
	PLACE_OUTSIDE
};

static enum place place_of(const struct session *s, const struct smtp_path *path)
{
	const struct smtp_in_settings *settings = &s->service->settings;
	struct store_domain_status status;
	enum place place = PLACE_OUTSIDE;
	struct slice domain;
	struct arena arena;

	arena_init(&arena, NAME_ARENA_MOST);
	if (!path->is_literal && address_normalise_domain(&arena, path->domain, &domain) == 0) {
		if (settings->is_cluster_domain(settings->arg, domain))
			place = PLACE_CLUSTER;
		else if (store_domain_find(store_work_store(s->service->work), domain, &arena, &status) == 0)
			place = PLACE_HERE;
	}
	arena_deinit(&arena);
	return place;
}

static const struct smtp_answer unknown = {550, {"5.1.1", 5}, {"No such user here", 17}};

/* NULL: it goes to the queue. */
static const struct smtp_answer *add_remote(
	struct session *s, const struct smtp_rcpt *rcpt, unsigned *recipient_out)
{
	static const struct smtp_answer relaying = {
		550, SLICE_LIT("5.7.1"), SLICE_LIT("No such user here, and no relaying")};
	const struct smtp_in_settings *settings = &s->service->settings;
	enum place place = place_of(s, &rcpt->path);
	int err;

	if (place == PLACE_HERE)
		return &unknown;
	if (!s->is_user && !settings->may_relay(settings->arg, smtp_front_client(s->front)))
		return place == PLACE_CLUSTER ? &unknown : &relaying;
	err = delivery_add_remote(s->delivery, rcpt, recipient_out);
	return err ? rcpt_answer(err, s->service->settings.is_over_quota_permanent) : NULL;
}

static void refuse(
	struct session *s, unsigned index, const struct smtp_rcpt *rcpt, const struct smtp_answer *answer)
{
	smtp_log_recipient(s->front, rcpt->path.address, "none", answer, SMTP_LOG_REFUSED);
	smtp_front_answer_rcpt(s->front, index, answer);
}

static void add_recipient(struct session *s, unsigned index, const struct smtp_rcpt *rcpt)
{
	const struct smtp_answer *refusal = NULL;
	unsigned recipient = 0;
	int err = delivery_add_recipient(s->delivery, &rcpt->path, &recipient);

	if (err == ERR_NOT_FOUND) {
		refusal = add_remote(s, rcpt, &recipient);
	} else if (err) {
		refusal = rcpt_answer(err, s->service->settings.is_over_quota_permanent);
	} else {
		delivery_set_wishes(s->delivery, recipient, rcpt->notify, rcpt->orcpt);
	}
	if (!refusal && take_allowance(s, 0, 1))
		refusal = &too_many_recipients;
	if (refusal) {
		refuse(s, index, rcpt, refusal);
		return;
	}
	add_name(s, recipient, rcpt->path.address);
	smtp_front_answer_rcpt(s->front, index, SMTP_ANSWER(250, "2.1.5", "Ok"));
}

static void greylisted(void *arg, unsigned index, const struct smtp_rcpt *rcpt, uint64_t wait_s, int err)
{
	struct session *s = arg;
	char text[GREYLIST_TEXT_MOST];
	struct smtp_answer answer;

	if (!wait_s && !err) {
		add_recipient(s, index, rcpt);
		return;
	}
	greylist_answer(wait_s, err, text, &answer.code, &answer.enhanced, &answer.text);
	refuse(s, index, rcpt, &answer);
}

/* A rule of our own wants it, or a proxy's. */
static bool is_greylisted(struct session *s, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct greylist_question question = {.work = s->service->work,
		.loop = smtp_front_loop(s->front),
		.pending = &s->grey,
		.terms = s->service->settings.greylist,
		.network = rcpt->grey,
		.sender = slice_str(s->sender),
		.index = index,
		.rcpt = rcpt};
	struct buf network = {0};
	bool is = false;

	if (smtp_front_wish(s->front)->is_greylisted && !rcpt->grey.len) {
		smtp_facts_network(smtp_front_client(s->front), &network);
		question.network = buf_view(&network);
	}
	if (question.network.len)
		is = greylist_ask(&question, greylisted, s);
	buf_deinit(&network);
	return is;
}

static void rcpt(struct smtp_front *front, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct session *s = smtp_front_tier(front);
	struct smtp_rcpt whole = *rcpt;

	/* <postmaster> alone is the only path without a domain (RFC 5321 section 4.5.1). */
	if (!whole.path.domain.len && s->service->settings.domain)
		whole.path.domain = slice_str(s->service->settings.domain);
	if (!is_greylisted(s, index, &whole))
		add_recipient(s, index, &whole);
}

/* ---- VRFY ---- */

static void verify(struct smtp_front *front, const struct smtp_path *path)
{
	struct session *s = smtp_front_tier(front);
	int err = delivery_find(s->service->delivery, path);
	bool is_none = err == ERR_NOT_FOUND || err == ERR_DENIED || err == ERR_SYNTAX;

	smtp_front_answer_verify(front, !err                                         ? SMTP_VERIFY_HERE
					: is_none && place_of(s, path) == PLACE_HERE ? SMTP_VERIFY_NONE
					: is_none                                    ? SMTP_VERIFY_ELSEWHERE
										     : SMTP_VERIFY_NOT_NOW);
}

/* What a proxy of ours has made of the message since MAIL. */
static void take_mark(struct smtp_front *front, const struct smtp_mark *mark, struct slice hold)
{
	struct session *s = smtp_front_tier(front);

	s->prefix = mark->prefix;
	s->has_digest = mark->has_digest;
	memcpy(s->digest, mark->digest, sizeof(s->digest));
	if (hold.p)
		delivery_hold(s->delivery, hold);
}

/* ---- the body ---- */

static void data_begin(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);
	struct buf received = {0};
	struct smtp_mark mark;

	smtp_front_mark(front, &mark);
	delivery_set_prefix(s->delivery, s->prefix + mark.prefix);
	if (mark.has_digest)
		delivery_set_digest(s->delivery, mark.digest);
	if (smtp_front_held(front))
		delivery_hold(s->delivery, slice_str(smtp_front_held(front)));
	smtp_front_received(front, clock_wall_s(), &received);
	delivery_add_trace(s->delivery, buf_view(&received));
	if (s->is_user && s->account && s->service->settings.keeps_sent)
		s->sent = smtp_sent_new();
	buf_deinit(&received);
	smtp_front_answer_data(front, SMTP_ANSWER(354, "", ""));
}

static void data_chunk(struct smtp_front *front, struct slice bytes)
{
	struct session *s = smtp_front_tier(front);

	if (delivery_add_body(s->delivery, bytes))
		log_debug(s->service->settings.name, "%s: the spool is broken; the answer comes at the end",
			smtp_front_session(front));
	if (s->sent)
		smtp_sent_add(s->sent, bytes);
}

static void answer_end(struct session *s)
{
	struct smtp_front *front = s->front;
	char text[FRONT_SESSION_MOST + 32];
	bool any_queued = false;
	struct smtp_answer answer = {250, SLICE_LIT("2.0.0"), SLICE_LIT("")};

	for (unsigned i = 0; i < s->count; i++)
		any_queued |= delivery_is_queued(s->delivery, s->names[i].recipient);
	if (s->error == ERR_FULL) {
		answer = (struct smtp_answer){452, SLICE_LIT("4.3.1"), SLICE_LIT("No room now")};
	} else if (s->error) {
		answer = (struct smtp_answer){451, SLICE_LIT("4.3.0"), SLICE_LIT("Not now")};
	} else {
		snprintf(text, sizeof(text), "%s, session %s", any_queued ? "Queued" : "Stored",
			smtp_front_session(front));
		answer.text = slice_str(text);
		s->is_answered_yes = true;
	}
	for (unsigned i = 0; i < s->count; i++) {
		bool is_queued = delivery_is_queued(s->delivery, s->names[i].recipient);

		smtp_log_recipient(front, slice_str(s->names[i].address), is_queued ? "queue" : "local",
			&answer, is_queued ? SMTP_LOG_ACCEPTED : SMTP_LOG_SENT);
	}
	if (!s->error && s->sent)
		smtp_sent_store(&s->sent, s->service->work, smtp_front_loop(front), s->account);
	/* The last statement: the answer may bring the next transaction, or the end. */
	smtp_front_answer_end(front, 0, &answer);
}

static void stored(void *arg, unsigned recipient, int error)
{
	struct session *s = arg;

	(void)recipient;
	if (error && !s->error)
		s->error = error;
	if (s->due && --s->due == 0)
		answer_end(s);
}

static void data_end(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);
	uint8_t digest[SMTP_DIGEST_LEN];

	if (s->has_digest)
		delivery_set_digest(s->delivery, s->digest);
	else if (smtp_front_client_digest(front, digest))
		delivery_set_digest(s->delivery, digest);
	s->due = s->recipients;
	delivery_finish(s->delivery, stored, s);
}

static void data_cut(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);

	delivery_end(&s->delivery, false);
	smtp_sent_free(&s->sent);
}

static void reset(struct smtp_front *front, enum smtp_reset how)
{
	struct session *s = smtp_front_tier(front);

	/* Who goes on after a 250 has seen it. After 451 he will come again, and must find the marks. */
	clear(s, how == SMTP_RESET_ORDER && s->is_answered_yes);
}

static const struct smtp_ops ops = {
	.begin = begin,
	.end = end,
	.is_trusted = is_trusted,
	.login = login,
	.login_cancel = login_cancel,
	.is_own = is_own,
	.mail = mail,
	.rcpt = rcpt,
	.verify = verify,
	.mark = take_mark,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.reset = reset,
};

/* ---- services ---- */

static void free_service(struct smtp_service *smtp)
{
	struct smtp_in_service *s = container_of(smtp, struct smtp_in_service, smtp);

	tls_unref(&s->settings.tls);
	if (s->settings.free_arg)
		s->settings.free_arg(s->settings.arg);
	free(s);
}

struct smtp_in_service *smtp_in_service_new(
	struct delivery_service *delivery, struct store_work *work, const struct smtp_in_settings *settings)
{
	struct smtp_in_service *s = xcalloc(1, sizeof(*s));

	s->settings = *settings;
	s->delivery = delivery;
	s->work = work;
	if (settings->tls)
		s->settings.tls = tls_ref(settings->tls);
	smtp_service_init(&s->smtp, settings->name, &ops, s);
	s->smtp.host = settings->host;
	s->smtp.domain = settings->domain ? settings->domain : "";
	s->smtp.tls = s->settings.tls;
	s->smtp.allows_clear = settings->allows_clear;
	s->smtp.requires_login = settings->is_submission;
	s->smtp.auth = settings->auth;
	s->smtp.penalty = settings->penalty;
	s->smtp.complete = settings->complete;
	s->smtp.takes_marks = true;
	s->smtp.offers_dsn = true;
	s->smtp.offers_requiretls = true;
	s->smtp.free = free_service;
	return s;
}

struct smtp_service *smtp_in_service_front(struct smtp_in_service *service)
{
	return &service->smtp;
}

void smtp_in_service_unref(struct smtp_in_service **service)
{
	struct smtp_service *smtp = *service ? &(*service)->smtp : NULL;

	*service = NULL;
	if (smtp)
		smtp_service_unref(&smtp);
}

void smtp_in_start(struct smtp_in_service *service, struct conn *conn_take, unsigned flags)
{
	smtp_front_start(&service->smtp, conn_take, flags);
}

/* ---- all sessions ---- */

void smtp_in_each(struct loop *loop, struct session_walk *walk)
{
	require(loop == loop_current());
	list_for_each_safe (at, own_sessions()) {
		struct session *s = container_of(at, struct session, link);

		if (session_walk_wants(walk, s->number) &&
			session_walk_take(walk, &(struct session_info){
							.number = s->number,
							.id = smtp_front_session(s->front),
							.service = s->service->settings.name,
							.user = smtp_front_user(s->front),
							.peer = smtp_front_client(s->front),
							.state = s->count ? "transaction" : "mail",
							.since = s->since,
						}))
			smtp_front_close(s->front, true);
	}
}

void smtp_in_close_all(struct loop *loop, bool is_now)
{
	require(loop == loop_current());
	list_for_each_safe (at, own_sessions())
		smtp_front_close(container_of(at, struct session, link)->front, is_now);
}

void smtp_in_recheck(
	struct loop *loop, bool (*must_end)(void *arg, const struct store_account *account), void *arg)
{
	require(loop == loop_current());
	list_for_each_safe (at, own_sessions()) {
		struct session *s = container_of(at, struct session, link);

		if (s->account && must_end(arg, s->account))
			smtp_front_close(s->front, false);
	}
}

unsigned smtp_in_count(void)
{
	return atomic_load(&session_count);
}
