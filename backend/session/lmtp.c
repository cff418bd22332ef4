/*
 * One struct session per connection, the front's `tier`. A transaction is a struct delivery; numbers of RCPT
 * commands are mapped to numbers of its recipients, since one recipient may be named twice.
 */
#include "backend/session/lmtp.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "backend/session/rcpt_answer.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"

struct lmtp_service {
	struct smtp_service smtp;
	struct lmtp_settings settings;
	struct delivery_service *delivery;
};

struct named {
	unsigned index;     /* of the RCPT command */
	unsigned recipient; /* of the delivery */
};

struct session {
	struct list link; /* in this thread's list */
	uint64_t number;  /* for struct session_walk */
	int64_t since;    /* seconds since 1970 */
	struct smtp_front *front;
	struct lmtp_service *service;
	struct delivery *delivery;
	struct list grey; /* recipients that greylisting is asked about */
	char *sender;
	struct named *names;
	unsigned count, room;
};

/* The sessions of this thread's loop, for lmtp_close_all(). */
static _Thread_local struct list sessions;
static _Thread_local uint64_t numbers;
static _Atomic unsigned session_count;

static struct list *own_sessions(void)
{
	if (!sessions.next)
		list_init(&sessions);
	return &sessions;
}

static void begin(struct smtp_front *front)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->front = front;
	s->number = ++numbers;
	s->since = clock_wall_s();
	s->service = smtp_front_service(front)->tier;
	list_init(&s->grey);
	list_add_last(own_sessions(), &s->link);
	atomic_fetch_add(&session_count, 1);
	smtp_front_set_tier(front, s);
}

static void end(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);

	list_remove(&s->link);
	atomic_fetch_sub(&session_count, 1);
	delivery_end(&s->delivery, false);
	greylist_cancel_all(&s->grey);
	free(s->sender);
	free(s->names);
	free(s);
	smtp_front_set_tier(front, NULL);
}

static bool is_trusted(struct smtp_front *front)
{
	const struct lmtp_settings *settings =
		&((struct lmtp_service *)smtp_front_service(front)->tier)->settings;

	return settings->is_trusted(settings->arg, smtp_front_conn(front));
}

static void mail(struct smtp_front *front, const struct smtp_mail *mail)
{
	struct session *s = smtp_front_tier(front);

	s->count = 0;
	free(s->sender);
	s->sender = slice_copy_str(mail->path.address);
	s->delivery = delivery_begin(
		s->service->delivery, smtp_front_loop(front), mail->path.address, mail->size, &mail->mark);
	/* What accounts forward to other servers keeps the edge's id. */
	delivery_set_envelope(
		s->delivery, &(struct delivery_envelope){.session = slice_str(smtp_front_session(front)),
				     .ret = mail->ret,
				     .envid = mail->envid,
				     .is_8bit = mail->body == SMTP_BODY_8BITMIME,
				     .is_utf8 = mail->is_utf8,
				     .requires_tls = mail->requires_tls});
	smtp_front_answer_mail(front, SMTP_ANSWER(250, "2.1.0", "Ok"));
}

static void add_name(struct session *s, unsigned index, unsigned recipient)
{
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 8;
		s->names = xreallocarray(s->names, s->room, sizeof(*s->names));
	}
	s->names[s->count++] = (struct named){index, recipient};
}

static void add_recipient(struct session *s, unsigned index, const struct smtp_rcpt *rcpt)
{
	unsigned recipient;
	int err = delivery_add_recipient(s->delivery, &rcpt->path, &recipient);

	if (err) {
		smtp_front_answer_rcpt(
			s->front, index, rcpt_answer(err, s->service->settings.is_over_quota_permanent));
		return;
	}
	delivery_set_wishes(s->delivery, recipient, rcpt->notify, rcpt->orcpt);
	add_name(s, index, recipient);
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
	smtp_front_answer_rcpt(s->front, index, &answer);
}

static void rcpt(struct smtp_front *front, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct session *s = smtp_front_tier(front);
	struct smtp_rcpt whole = *rcpt;
	const struct greylist_question question = {.work = s->service->settings.work,
		.loop = smtp_front_loop(front),
		.pending = &s->grey,
		.terms = s->service->settings.greylist,
		.network = rcpt->grey,
		.sender = slice_str(s->sender),
		.index = index,
		.rcpt = &whole};

	/* <postmaster> alone is the only path without a domain (RFC 5321 section 4.5.1). */
	if (!rcpt->path.domain.len && s->service->settings.domain)
		whole.path.domain = slice_str(s->service->settings.domain);
	if (rcpt->grey.len && greylist_ask(&question, greylisted, s))
		return;
	add_recipient(s, index, &whole);
}

static void take_mark(struct smtp_front *front, const struct smtp_mark *mark, struct slice hold)
{
	struct session *s = smtp_front_tier(front);

	delivery_set_mark(s->delivery, mark);
	if (hold.p)
		delivery_hold(s->delivery, hold);
}

static void data_begin(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);
	struct buf received = {0};

	smtp_front_received(front, clock_wall_s(), &received);
	delivery_add_trace(s->delivery, buf_view(&received));
	buf_deinit(&received);
	smtp_front_answer_data(front, SMTP_ANSWER(354, "", ""));
}

static void data_chunk(struct smtp_front *front, struct slice bytes)
{
	struct session *s = smtp_front_tier(front);

	if (delivery_add_body(s->delivery, bytes))
		log_debug("lmtp", "%s: the spool is broken; the answer comes at the end",
			smtp_front_session(front));
}

static const struct smtp_answer *end_answer(int error)
{
	static const struct smtp_answer stored = {250, {"2.0.0", 5}, {"Stored", 6}};
	static const struct smtp_answer full = {452, {"4.3.1", 5}, {"No room now", 11}};
	static const struct smtp_answer later = {451, {"4.3.0", 5}, {"Not now", 7}};

	return !error ? &stored : error == ERR_FULL ? &full : &later;
}

static void stored(void *arg, unsigned recipient, int error)
{
	struct session *s = arg;
	struct smtp_front *front = s->front;

	/* The last answer may bring the next transaction, or the end. */
	const struct delivery *d = s->delivery;

	for (unsigned i = 0, count = s->count; i < count && smtp_front_tier(front) == s && s->delivery == d;
		i++) {
		if (s->names[i].recipient == recipient)
			smtp_front_answer_end(front, s->names[i].index, end_answer(error));
	}
}

static void data_end(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);

	delivery_finish(s->delivery, stored, s);
}

static void data_cut(struct smtp_front *front)
{
	struct session *s = smtp_front_tier(front);

	delivery_end(&s->delivery, false);
}

static void reset(struct smtp_front *front, enum smtp_reset how)
{
	struct session *s = smtp_front_tier(front);

	greylist_cancel_all(&s->grey);
	delivery_end(&s->delivery, how == SMTP_RESET_ORDER);
	s->count = 0;
}

static const struct smtp_ops ops = {
	.begin = begin,
	.end = end,
	.is_trusted = is_trusted,
	.mail = mail,
	.rcpt = rcpt,
	.mark = take_mark,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.reset = reset,
};

static void free_service(struct smtp_service *smtp)
{
	struct lmtp_service *s = container_of(smtp, struct lmtp_service, smtp);

	tls_unref(&s->settings.tls);
	if (s->settings.free_arg)
		s->settings.free_arg(s->settings.arg);
	free(s);
}

struct lmtp_service *lmtp_service_new(struct delivery_service *delivery, const struct lmtp_settings *settings)
{
	struct lmtp_service *s = xcalloc(1, sizeof(*s));

	s->settings = *settings;
	s->delivery = delivery;
	if (settings->tls)
		s->settings.tls = tls_ref(settings->tls);
	smtp_service_init(&s->smtp, "lmtp", &ops, s);
	s->smtp.host = settings->host;
	s->smtp.is_lmtp = true;
	s->smtp.offers_dsn = s->smtp.offers_requiretls = true;
	s->smtp.tls = s->settings.tls;
	s->smtp.free = free_service;
	/* The proxy has checked the client's body already, and adds a hop of its own. */
	s->smtp.limits.hops += 10;
	s->smtp.limits.message_size = settings->message_size;
	if (settings->wrong_commands)
		s->smtp.limits.errors = settings->wrong_commands;
	if (settings->command_ms)
		s->smtp.limits.command_ms = settings->command_ms;
	if (settings->transfer_ms)
		s->smtp.limits.data_ms = settings->transfer_ms;
	return s;
}

void lmtp_service_unref(struct lmtp_service **service)
{
	struct smtp_service *smtp = *service ? &(*service)->smtp : NULL;

	*service = NULL;
	if (smtp)
		smtp_service_unref(&smtp);
}

void lmtp_start(struct lmtp_service *service, struct conn *conn_take, unsigned flags)
{
	smtp_front_start(&service->smtp, conn_take, flags);
}

void lmtp_each(struct loop *loop, struct session_walk *walk)
{
	require(loop == loop_current());
	list_for_each_safe (at, own_sessions()) {
		struct session *s = container_of(at, struct session, link);

		if (session_walk_wants(walk, s->number) &&
			session_walk_take(walk, &(struct session_info){
							.number = s->number,
							.id = smtp_front_session(s->front),
							.service = "lmtp",
							.user = "",
							.peer = smtp_front_client(s->front),
							.state = s->count ? "transaction" : "mail",
							.since = s->since,
						}))
			smtp_front_close(s->front, true);
	}
}

void lmtp_close_all(struct loop *loop, bool is_now)
{
	require(loop == loop_current());
	list_for_each_safe (at, own_sessions())
		smtp_front_close(container_of(at, struct session, link)->front, is_now);
}

unsigned lmtp_count(void)
{
	return atomic_load(&session_count);
}
