/* The queue's runner with a sender that does as it is told, and a clock that is moved: schedule, deferral of a next hop, notices, mail for accounts
 * here, a window that is smaller than the queue. */
#include "tests/unit/backend/store/temp_store.h"

#include <time.h>

#include "backend/delivery/queue.h"
#include "backend/store/db.h"
#include "backend/store/store_queue.h"
#include "backend/store/store_repair.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/net/timer.h"

#define START UINT64_C(1800000000000)
#define MINUTE UINT64_C(60000)
#define TRIES_SEEN 4000

struct seen {
	uint64_t at; /* minutes since the start */
	char sender[64], first[64];
	size_t recipients;
	char *body;
};

struct outbound_try {
	struct fixture *f;
	struct outbound_request request;
	struct outbound_recipient recipients[100];
	char next_hop[64];
	struct buf body;
	bool is_dead;
	size_t index;
};

struct fixture {
	struct temp_store t;
	struct store_work *work;
	struct delivery_service *service;
	struct loop *loop;
	struct queue *queue;
	struct seen seen[TRIES_SEEN];
	size_t count;
	unsigned active, most_active, room; /* room 0: no limit */
	bool (*until)(struct fixture *f);
	struct timespec limit;
	struct outbound_try *stuck[500];
	size_t stuck_count;
	/* What the sender says: by the recipient's domain. */
	bool has_dsn;
};

/* ---- the sender ---- */

static int next_hop(void *arg, struct slice domain, char out[OUTBOUND_NEXT_HOP_MAX])
{
	(void)arg;
	snprintf(out, OUTBOUND_NEXT_HOP_MAX, "%.*s", SLICE_ARG(domain));
	return 0;
}

static void answer(struct outbound_try *t, size_t i)
{
	struct slice a = t->recipients[i].address;
	struct outbound_result r = {.verdict = OUTBOUND_SENT,
		.code = 250,
		.enhanced = "2.0.0",
		.text = "Ok",
		.host = "mx.test",
		.relay = "mx.test[127.0.0.1]:25",
		.tls = "none",
		.has_dsn = t->f->has_dsn};

	if (slice_has_prefix(a, "bad")) {
		r.verdict = OUTBOUND_FAILED;
		r.code = 550;
		r.enhanced = "5.1.1";
		r.text = "No such user";
	} else if (slice_has_prefix(a, "later")) {
		r.verdict = OUTBOUND_NOT_NOW;
		r.code = 451;
		r.enhanced = "4.7.1";
		r.text = "Come back later";
	} else if (t->is_dead) {
		r = (struct outbound_result){.verdict = OUTBOUND_NOT_NOW,
			.enhanced = "4.4.1",
			.text = "Connection refused",
			.host = "",
			.relay = "none",
			.tls = "none"};
	}
	t->request.result(t->request.arg, i, &r);
}

static void finish(void *arg)
{
	struct outbound_try *t = arg;
	struct fixture *f = t->f;
	struct outbound_facts facts = {
		.is_unreachable = t->is_dead, .next_hop = t->next_hop, .reason = "Connection refused"};
	struct outbound_request request = t->request;
	size_t count = t->request.recipient_count;

	f->seen[t->index].body = slice_copy_str(buf_view(&t->body));
	for (size_t i = 0; i < count; i++)
		answer(t, i);
	f->active--;
	buf_deinit(&t->body);
	free(t);
	request.done(request.arg, &facts);
	if (f->room)
		queue_room(f->queue, NULL);
}

static void go_on(void *arg)
{
	struct outbound_try *t = arg;
	uint64_t at = buf_len(&t->body);

	if (t->is_dead || at == t->request.size)
		finish(t);
	else
		t->request.read(t->request.arg, t, at, (size_t)(t->request.size - at));
}

static void octets(struct outbound_try *t, int error, struct slice bytes)
{
	assert_int_equal(error, 0);
	assert_true(bytes.len > 0);
	buf_add_slice(&t->body, bytes);
	loop_post(t->f->loop, go_on, t);
}

static int start_try(void *arg, const struct outbound_request *request, struct outbound_try **out)
{
	struct fixture *f = arg;
	struct outbound_try *t;
	struct seen *s = &f->seen[f->count];

	if (f->room && f->active >= f->room)
		return ERR_NOT_NOW;
	t = calloc(1, sizeof(*t));
	t->f = f;
	t->request = *request;
	assert_true(request->recipient_count <= ARRAY_LEN(t->recipients));
	for (size_t i = 0; i < request->recipient_count; i++)
		t->recipients[i] = request->recipients[i];
	snprintf(t->next_hop, sizeof(t->next_hop), "%s", request->next_hop);
	t->is_dead = strstr(t->next_hop, "dead") != NULL;
	t->index = f->count++;
	assert_true(t->index < TRIES_SEEN);
	s->at = (clock_wall_ms() - START) / MINUTE;
	s->recipients = request->recipient_count;
	snprintf(s->sender, sizeof(s->sender), "%.*s", SLICE_ARG(request->sender));
	snprintf(s->first, sizeof(s->first), "%.*s", SLICE_ARG(request->recipients[0].address));
	if (strstr(t->next_hop, "slow")) { /* answers when the test says so */
		assert_true(f->stuck_count < ARRAY_LEN(f->stuck));
		f->stuck[f->stuck_count++] = t;
		f->active++;
		*out = t;
		return 0;
	}
	if (++f->active > f->most_active)
		f->most_active = f->active;
	loop_post(f->loop, go_on, t);
	*out = t;
	return 0;
}

/* ---- the signer: answers later ---- */

struct signing {
	void (*done)(void *arg, struct slice fields);
	void *arg;
};

static void tell_signature(void *arg)
{
	struct signing *s = arg;

	s->done(s->arg, SLICE_LIT("X-Signed: by the test\r\n"));
	free(s);
}

static void sign(
	void *arg, struct slice message, void (*done)(void *arg, struct slice fields), void *done_arg)
{
	struct fixture *f = arg;
	struct signing *s = calloc(1, sizeof(*s));

	assert_true(slice_has_prefix(message, "Return-Path") || message.len > 500);
	*s = (struct signing){done, done_arg};
	loop_post(f->loop, tell_signature, s);
}

/* ---- the fixture ---- */

static const struct queue_settings defaults = {.plan = {.retry_first = 5 * MINUTE,
						       .retry_most = 480 * MINUTE,
						       .tries = 20,
						       .lifetime = 7200 * MINUTE,
						       .warning = 240 * MINUTE},
	.window = 400,
	.hops = 30,
	.notice_size = 4096,
	.host = "b1.test",
	.notice_from = "",
	.postmaster = ""};

static void woken(void *arg)
{
	struct fixture *f = arg;

	queue_wake(f->queue);
}

static struct fixture *start(const struct queue_settings *settings)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_work_options o = {0};
	struct queue_sender sender = {.next_hop = next_hop,
		.start = start_try,
		.octets = octets,
		.arg = f,
		.sign = sign,
		.sign_arg = f};

	log_set_level(LOG_ERROR);
	temp_start(&f->t);
	assert_int_equal(store_work_start(f->t.store, &o, &f->work), 0);
	assert_int_equal(loop_new(&f->loop), 0);
	f->service = delivery_service_new(f->work);
	clock_fake_start(START);
	f->queue = queue_new(f->work, f->service, f->loop, &sender, settings);
	delivery_service_on_queued(f->service, woken, f);
	return f;
}

static void stop(void *arg)
{
	loop_stop(((struct fixture *)arg)->loop);
}

static void end(struct fixture *f)
{
	queue_end(f->queue);
	clock_fake_stop();
	store_work_halt(f->work); /* its last answers are taken */
	loop_post(f->loop, stop, f);
	loop_run(f->loop);
	queue_free(&f->queue);
	store_work_stop(&f->work);
	delivery_service_free(&f->service);
	loop_free(&f->loop);
	for (size_t i = 0; i < f->count; i++)
		free(f->seen[i].body);
	temp_end(&f->t);
	free(f);
}

static struct store_queue_stat stat_of(struct fixture *f)
{
	struct store_queue_stat s;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_queue_stat(txn, &s), 0);
	store_end_read(&txn);
	return s;
}

static void poll(void *arg)
{
	struct fixture *f = arg;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (f->until(f)) {
		loop_stop(f->loop);
		return;
	}
	if (now.tv_sec > f->limit.tv_sec)
		fail_msg("it did not come: %zu tries, %llu wait", f->count,
			(unsigned long long)stat_of(f).waiting);
	nanosleep(&(struct timespec){0, 200000}, NULL);
	loop_post(f->loop, poll, f);
}

static void wait_until(struct fixture *f, bool (*until)(struct fixture *f))
{
	f->until = until;
	clock_gettime(CLOCK_MONOTONIC, &f->limit);
	f->limit.tv_sec += 20;
	loop_post(f->loop, poll, f);
	loop_run(f->loop);
}

static bool is_empty(struct fixture *f)
{
	return stat_of(f).messages == 0;
}

/* Nobody is due any more. */
static bool is_calm(struct fixture *f)
{
	struct store_txn *txn;
	uint64_t next;
	int err;

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	err = store_queue_next(txn, &next);
	store_end_read(&txn);
	return f->active == 0 && (err == ERR_NOT_FOUND || next > clock_wall_ms());
}

static void advance(struct fixture *f, uint64_t minutes)
{
	clock_fake_advance(minutes * MINUTE);
	queue_wake(f->queue);
	wait_until(f, is_calm);
}

struct add {
	const char *sender, *to[4], *body;
	unsigned notify;
	unsigned ret;
	const char *envid, *orcpt, *trace;
};

static void add(struct fixture *f, struct add a)
{
	struct store_queue_message m = {.sender = slice_str(a.sender),
		.arrived = clock_wall_ms(),
		.ret = (uint8_t)a.ret,
		.envid = slice_str(a.envid),
		.session = SLICE_LIT("sess1")};
	bool done;
	struct store_draft *d =
		temp_draft(slice_str(a.body ? a.body : "Subject: hello\r\n\r\nthe body\r\n"), &done);
	struct store_txn *txn;
	uint64_t id;

	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	assert_int_equal(store_draft_finish(txn, d, &m.blob), 0);
	assert_int_equal(store_queue_add(txn, &m, &id), 0);
	for (unsigned i = 0; i < ARRAY_LEN(a.to) && a.to[i]; i++) {
		struct store_queue_recipient r = {.message = id,
			.number = i,
			.next = m.arrived,
			.notify = (uint8_t)a.notify,
			.address = slice_str(a.to[i]),
			.orcpt = slice_str(a.orcpt),
			.trace = slice_str(a.trace),
			.destination = slice_str(strchr(a.to[i], '@') + 1)};

		assert_int_equal(store_queue_add_recipient(txn, &r), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	store_draft_committed(d);
	store_draft_free(&d);
}

/* ---- tests ---- */

static void test_a_message_is_sent_once_and_gone(void **state)
{
	struct fixture *f = start(&defaults);

	(void)state;
	add(f, (struct add){.sender = "a@b.test", .to = {"x@c.test", "y@c.test", "z@d.test"}});
	queue_start(f->queue);
	wait_until(f, is_empty);
	assert_int_equal(f->count, 2);
	assert_int_equal(f->seen[0].recipients + f->seen[1].recipients, 3);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(f->seen[i].body, "Subject: hello\r\n\r\nthe body\r\n");
		assert_string_equal(f->seen[i].sender, "a@b.test");
	}
	end(f);
}

static void test_the_schedule(void **state)
{
	/* Minutes since the start: five minutes, doubling to eight hours. */
	static const uint64_t times[] = {0, 5, 15, 35, 75, 155, 315, 635, 1115, 1595, 2075, 2555, 3035, 3515,
		3995, 4475, 4955, 5435, 5915, 6395};
	struct fixture *f = start(&defaults);
	size_t n = 0;

	(void)state;
	add(f, (struct add){.sender = "a@b.test", .to = {"later@c.test"}, .notify = SMTP_NOTIFY_FAILURE});
	queue_start(f->queue);
	wait_until(f, is_calm);
	for (uint64_t minute = 1; minute < 6395; minute++) {
		bool is_due = false;

		for (size_t i = 0; i < ARRAY_LEN(times); i++)
			is_due |= minute == times[i] || minute + 1 == times[i];
		if (is_due)
			advance(f, minute - (clock_wall_ms() - START) / MINUTE);
	}
	advance(f, 6395 - (clock_wall_ms() - START) / MINUTE);
	wait_until(f, is_empty);
	for (size_t i = 0; i < f->count; i++) {
		if (strcmp(f->seen[i].first, "later@c.test") == 0) {
			assert_true(n < ARRAY_LEN(times));
			assert_int_equal(f->seen[i].at, times[n]);
			n++;
		}
	}
	assert_int_equal(n, 20);
	/* Then its sender hears of it. */
	assert_int_equal(f->count, 21);
	assert_string_equal(f->seen[20].first, "a@b.test");
	assert_string_equal(f->seen[20].sender, "");
	assert_non_null(strstr(f->seen[20].body, "Status: 5.4.7\r\n"));
	assert_non_null(strstr(f->seen[20].body, "Gave up after 20 tries: Come back later"));
	assert_non_null(strstr(f->seen[20].body, "Action: failed\r\n"));
	end(f);
}

static void test_age_ends_it_too(void **state)
{
	struct queue_settings s = defaults;
	struct fixture *f;

	(void)state;
	s.plan.lifetime = 60 * MINUTE;
	f = start(&s);
	add(f, (struct add){.sender = "", .to = {"later@c.test"}});
	queue_start(f->queue);
	wait_until(f, is_calm);
	for (int i = 0; i < 59; i++)
		advance(f, 1);
	assert_int_equal(stat_of(f).waiting, 1);
	assert_int_equal(f->count, 4); /* 0, 5, 15, 35 */
	advance(f, 1);
	wait_until(f, is_empty);
	assert_int_equal(f->count, 5);
	end(f);
}

static unsigned count_to(struct fixture *f, const char *domain)
{
	unsigned n = 0;

	for (size_t i = 0; i < f->count; i++)
		n += strstr(f->seen[i].first, domain) != NULL;
	return n;
}

static void test_a_dead_destination_costs_one_try(void **state)
{
	struct fixture *f = start(&defaults);

	(void)state;
	for (int i = 0; i < 200; i++) {
		char to[32];

		snprintf(to, sizeof(to), "u%d@%s.test", i, i % 4 ? "good" : "dead");
		add(f, (struct add){.sender = "a@b.test", .to = {to}});
	}
	queue_start(f->queue);
	wait_until(f, is_calm);
	assert_int_equal(stat_of(f).waiting, 50);
	assert_int_equal(count_to(f, "good"), 150);
	/* What began side by side before anything was known may be several; afterwards it is one. */
	assert_true(count_to(f, "dead") >= 1 && count_to(f, "dead") <= 50);
	for (int i = 0; i < 3; i++) {
		unsigned before = count_to(f, "dead");

		advance(f, 500);
		assert_int_equal(count_to(f, "dead"), before + 1);
		assert_int_equal(count_to(f, "good"), 150);
	}
	end(f);
}

static void test_a_small_window_takes_all(void **state)
{
	struct queue_settings s = defaults;
	struct fixture *f;

	(void)state;
	s.window = 20;
	f = start(&s);
	f->room = 3;
	for (int i = 0; i < 600; i++) {
		char to[32];

		snprintf(to, sizeof(to), "u%d@h%d.test", i, i < 500 ? 1 : i % 7);
		add(f, (struct add){.sender = "a@b.test", .to = {to}});
	}
	queue_start(f->queue);
	wait_until(f, is_empty);
	assert_int_equal(f->count, 600);
	assert_int_equal(f->most_active, 3);
	end(f);
}

static bool has_more_or_none(struct fixture *f)
{
	return f->stuck_count > 0 || is_empty(f);
}

static bool has_fast(struct fixture *f)
{
	return count_to(f, "fast") == 60 && f->active == f->stuck_count;
}

static void test_slow_hops_leave_room_for_others(void **state)
{
	struct queue_settings s = defaults;
	struct fixture *f;

	(void)state;
	s.window = 40;
	f = start(&s);
	for (int i = 0; i < 360; i++) {
		char to[32];

		snprintf(to, sizeof(to), "u%d@%s%d.test", i, i < 300 ? "slow" : "fast", i % 10);
		add(f, (struct add){.sender = "a@b.test", .to = {to}});
	}
	queue_start(f->queue);
	wait_until(f, has_fast);
	assert_true(f->stuck_count >= 10 && f->stuck_count < 40);
	/* When they answer, all comes through. */
	while (!is_empty(f)) {
		size_t count = f->stuck_count;

		for (size_t i = 0; i < count; i++)
			loop_post(f->loop, finish, f->stuck[i]);
		memmove(f->stuck, f->stuck + count, (f->stuck_count - count) * sizeof(f->stuck[0]));
		f->stuck_count -= count;
		wait_until(f, has_more_or_none);
	}
	assert_int_equal(count_to(f, "slow"), 300);
	end(f);
}

static void test_mail_for_accounts_here_is_stored(void **state)
{
	struct fixture *f = start(&defaults);
	struct store_message m;
	struct store_txn *txn;
	char text[200];
	size_t len;

	(void)state;
	add(f, (struct add){.sender = "a@b.test",
		       .to = {"Alice@Example.com", "nobody@example.com"},
		       .notify = SMTP_NOTIFY_SUCCESS});
	queue_start(f->queue);
	wait_until(f, is_empty);
	assert_int_equal(temp_mailbox(&f->t, f->t.inbox).messages, 1);
	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, f->t.inbox, 1, &m), 0);
	assert_int_equal(store_message_read(txn, &m, 0, text, sizeof(text), &len), 0);
	assert_true(slice_is_str(
		slice_of(text, len), "Return-Path: <a@b.test>\r\nSubject: hello\r\n\r\nthe body\r\n"));
	store_end_read(&txn);
	/* The other one has no account here: his domain's host gets it. Both are told. */
	assert_int_equal(count_to(f, "nobody@example.com"), 1);
	assert_int_equal(count_to(f, "a@b.test"), 2);
	end(f);
}

static void suspend(struct fixture *f, bool is_suspended, enum store_suspended_mail mail)
{
	struct store_policy policy = {.says = STORE_SAYS_SUSPENDED_MAIL,
		.suspended_mail = (uint8_t)mail,
		.is_suspended = is_suspended};
	struct store_account a;
	struct store_txn *txn;

	assert_int_equal(store_find_account(f->t.store, SLICE_LIT("alice@example.com"), &a), 0);
	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	assert_int_equal(
		store_account_change(txn, a.id, &(struct store_account_change){.policy = &policy}), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* Mail that waits for an account which is suspended meanwhile: as what comes then. */
static void test_mail_for_who_is_suspended(void **state)
{
	static const struct {
		enum store_suspended_mail mail;
		bool waits;
		unsigned stored, notices;
	} rows[] = {{STORE_MAIL_KEPT, false, 1, 0}, {STORE_MAIL_DEFERRED, true, 1, 0},
		{STORE_MAIL_REFUSED, false, 0, 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fixture *f = start(&defaults);

		add(f, (struct add){.sender = "a@b.test", .to = {"alice@example.com"}});
		suspend(f, true, rows[i].mail);
		queue_start(f->queue);
		wait_until(f, is_calm);
		assert_int_equal(stat_of(f).waiting, rows[i].waits);
		suspend(f, false, rows[i].mail);
		advance(f, 6);
		wait_until(f, is_empty);
		assert_int_equal(temp_mailbox(&f->t, f->t.inbox).messages, rows[i].stored);
		assert_int_equal(count_to(f, "a@b.test"), rows[i].notices);
		end(f);
	}
}

/* What he had sent before goes out: it was accepted. An operator who wants otherwise holds or removes it. */
static void test_mail_of_who_is_suspended(void **state)
{
	struct fixture *f = start(&defaults);

	(void)state;
	add(f, (struct add){.sender = "alice@example.com", .to = {"x@c.test", "later@c.test"}});
	suspend(f, true, STORE_MAIL_REFUSED);
	queue_start(f->queue);
	wait_until(f, is_calm);
	assert_int_equal(count_to(f, "x@c.test"), 1);
	assert_int_equal(stat_of(f).waiting, 1);
	end(f);
}

static const char *notice(struct fixture *f)
{
	for (size_t i = 0; i < f->count; i++)
		if (!f->seen[i].sender[0])
			return f->seen[i].body;
	return NULL;
}

static void test_who_is_told(void **state)
{
	static const struct {
		const char *sender, *to;
		unsigned notify;
		bool has_dsn;
		const char *action; /* NULL: nobody is told */
	} rows[] = {
		{"a@b.test", "bad@c.test", 0, false, "Action: failed"},
		{"a@b.test", "bad@c.test", SMTP_NOTIFY_FAILURE, false, "Action: failed"},
		{"a@b.test", "bad@c.test", SMTP_NOTIFY_NEVER, false, NULL},
		{"a@b.test", "bad@c.test", SMTP_NOTIFY_DELAY, false, NULL},
		{"a@b.test", "bad@c.test", SMTP_NOTIFY_SUCCESS, false, NULL},
		{"", "bad@c.test", 0, false, NULL},
		{"", "bad@c.test", SMTP_NOTIFY_FAILURE, false, NULL},
		{"a@b.test", "x@c.test", 0, false, NULL},
		{"a@b.test", "x@c.test", SMTP_NOTIFY_SUCCESS, false, "Action: relayed"},
		{"a@b.test", "x@c.test", SMTP_NOTIFY_SUCCESS, true, NULL},
		{"a@b.test", "alice@example.com", SMTP_NOTIFY_SUCCESS, true, "Action: delivered"},
		{"", "x@c.test", SMTP_NOTIFY_SUCCESS, false, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fixture *f = start(&defaults);
		const char *text;

		f->has_dsn = rows[i].has_dsn;
		add(f, (struct add){.sender = rows[i].sender, .to = {rows[i].to}, .notify = rows[i].notify});
		queue_start(f->queue);
		wait_until(f, is_empty);
		text = rows[i].sender[0] ? notice(f) : f->count > 1 ? "" : NULL;
		if (!text != !rows[i].action)
			print_error("row %zu\n", i);
		assert_int_equal(!text, !rows[i].action);
		if (text)
			assert_non_null(strstr(text, rows[i].action));
		if (text && *text)
			assert_int_equal(strncmp(text, "X-Signed: by the test\r\n", 23), 0);
		end(f);
	}
}

/* Notices that reached an address, by its beginning. */
static unsigned notices_to(const struct fixture *f, const char *address)
{
	unsigned n = 0;

	for (size_t i = 0; i < f->count; i++)
		n += !f->seen[i].sender[0] && strncmp(f->seen[i].first, address, strlen(address)) == 0;
	return n;
}

static void test_security_23_nobody_is_flooded_with_notices(void **state)
{
	static const char *const senders[] = {"a@b.test", "A@b.test", "a+1@B.test", "a+2+3@b.test",
		"other@b.test", "+@b.test", "+x@b.test"};
	struct queue_settings s = defaults;
	struct fixture *f;

	(void)state;
	s.notice_limit = 2;
	s.notice_interval = 60 * MINUTE;
	f = start(&s);
	for (size_t i = 0; i < ARRAY_LEN(senders); i++)
		add(f, (struct add){.sender = senders[i], .to = {"bad@c.test", "bad@d.test"}});
	queue_start(f->queue);
	wait_until(f, is_empty); /* nothing stays behind for want of a notice */
	assert_int_equal(notices_to(f, "a"), 2);
	assert_int_equal(notices_to(f, "other"), 2);
	assert_int_equal(notices_to(f, "+"), 4);
	end(f);
}

static void test_a_delay_is_told_once(void **state)
{
	struct fixture *f = start(&defaults);
	unsigned told = 0;

	(void)state;
	add(f, (struct add){.sender = "a@b.test",
		       .to = {"x@dead.test"},
		       .envid = "QQ+3D1",
		       .orcpt = "rfc822;o+2Bx@dead.test"});
	queue_start(f->queue);
	wait_until(f, is_calm);
	for (int i = 0; i < 12; i++)
		advance(f, 20);
	assert_null(notice(f));
	for (int i = 0; i < 60; i++)
		advance(f, 30);
	for (size_t i = 0; i < f->count; i++) {
		if (f->seen[i].sender[0])
			continue;
		told++;
		assert_non_null(strstr(f->seen[i].body, "Action: delayed\r\n"));
		assert_non_null(strstr(f->seen[i].body, "Original-Envelope-Id: QQ=1\r\n"));
		assert_non_null(strstr(f->seen[i].body, "Original-Recipient: rfc822;o+x@dead.test\r\n"));
		assert_non_null(strstr(f->seen[i].body, "Will-Retry-Until: "));
		assert_null(strstr(f->seen[i].body, "the body"));
	}
	assert_int_equal(told, 1);
	end(f);
}

static void test_security_23_a_bounce_of_a_bounce_ends_at_the_postmaster(void **state)
{
	struct queue_settings s = defaults;
	struct fixture *f;

	(void)state;
	s.postmaster = "bad-too@post.test";
	f = start(&s);
	add(f, (struct add){.sender = "bad@b.test", .to = {"bad@c.test"}});
	queue_start(f->queue);
	wait_until(f, is_empty);
	/* The message, its notice, the notice about that one: and nothing about the last, which fails too. */
	assert_int_equal(f->count, 3);
	assert_string_equal(f->seen[1].first, "bad@b.test");
	assert_string_equal(f->seen[2].first, "bad-too@post.test");
	assert_string_equal(f->seen[2].sender, "");
	end(f);
}

static void test_what_is_returned(void **state)
{
	static char big[20000];
	static const char head[] = "Subject: long one\r\n\r\n";
	static const struct {
		unsigned ret;
		bool is_big;
		bool has_body;
	} rows[] = {{SMTP_RET_NONE, false, true}, {SMTP_RET_FULL, false, true}, {SMTP_RET_HDRS, false, false},
		{SMTP_RET_FULL, true, false}};

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	memcpy(big, head, strlen(head));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fixture *f = start(&defaults);

		add(f, (struct add){.sender = "a@b.test",
			       .to = {"bad@c.test"},
			       .ret = rows[i].ret,
			       .body = rows[i].is_big ? big : NULL});
		queue_start(f->queue);
		wait_until(f, is_empty);
		assert_non_null(notice(f));
		assert_non_null(strstr(notice(f), rows[i].is_big ? "Subject: long one" : "Subject: hello"));
		assert_int_equal(
			strstr(notice(f), rows[i].is_big ? "xxxxx" : "the body") != NULL, rows[i].has_body);
		if (rows[i].is_big)
			assert_int_equal(strlen(f->seen[0].body), sizeof(big) - 1);
		end(f);
	}
}

/* Circles through other servers, and those among accounts that forward here, which add no Received. */
static void test_circles_end(void **state)
{
	static const char *const fields[] = {
		"Received: from x\r\n by y\r\n", "Delivered-To: a@b.test\r\nX-Received: no\r\n"};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(fields); n++) {
		struct fixture *f = start(&defaults);
		struct buf body = {0};

		for (int i = 0; i < 31; i++)
			buf_add_str(&body, fields[n]);
		buf_add_str(&body, "\r\nReceived: no field\r\n");
		add(f, (struct add){.sender = "a@b.test", .to = {"x@c.test"}, .body = buf_str_view(&body)});
		queue_start(f->queue);
		wait_until(f, is_empty);
		assert_int_equal(count_to(f, "x@c.test"), 0);
		assert_non_null(strstr(notice(f), "Status: 5.4.6\r\n"));
		buf_deinit(&body);
		end(f);
	}
}

/* Two who forward to each other: the first who is to forward the same message again ends it. */
static void test_nobody_forwards_the_same_twice(void **state)
{
	static const struct {
		const char *body;
		bool is_circle;
	} rows[] = {{"Delivered-To: z@d.test\r\ndelivered-to: A@c.test\r\nSubject: x\r\n\r\nx\r\n", true},
		{"Delivered-To: aa@c.test\r\nX-Delivered-To: a@c.test\r\n\r\nDelivered-To: a@c.test\r\n",
			false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fixture *f = start(&defaults);

		add(f, (struct add){.sender = "a@b.test",
			       .to = {"x@e.test"},
			       .body = rows[i].body,
			       .trace = "Delivered-To: a@c.test\r\n"});
		queue_start(f->queue);
		wait_until(f, is_empty);
		assert_int_equal(count_to(f, "x@e.test"), !rows[i].is_circle);
		assert_int_equal(notice(f) != NULL, rows[i].is_circle);
		end(f);
	}
}

static bool note_far(void *arg, const struct store_queue_recipient *r)
{
	*(bool *)arg |= r->next > START + 1440 * MINUTE;
	return true;
}

/* Tried again, and written: nobody waits for another year. */
static bool has_tried_both_again(struct fixture *f)
{
	struct store_txn *txn;
	bool is_far = false;

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_queue_each(txn, 0, 0, note_far, &is_far), 0);
	store_end_read(&txn);
	return f->active == 0 && !is_far && count_to(f, "later@c.test") == 2 &&
	       count_to(f, "x@dead.test") == 2;
}

/* The clock was a year ahead, and is right now: neither who was tried then nor his next hop waits for that year. */
static void test_a_clock_that_goes_back(void **state)
{
	struct fixture *f = start(&defaults);
	size_t before;

	(void)state;
	clock_fake_start(START + UINT64_C(365) * 1440 * MINUTE);
	add(f, (struct add){.sender = "a@b.test", .to = {"later@c.test", "x@dead.test"}});
	queue_start(f->queue);
	wait_until(f, is_calm);
	assert_int_equal(f->count, 2);
	clock_fake_start(START);
	queue_wake(f->queue);
	wait_until(f, has_tried_both_again);
	assert_int_equal(count_to(f, "later@c.test"), 2);
	assert_int_equal(count_to(f, "x@dead.test"), 2);
	/* And in the order of the schedule again. */
	before = f->count;
	advance(f, 1);
	assert_int_equal(f->count, before);
	advance(f, 30);
	assert_int_equal(f->count, before + 2);
	end(f);
}

static bool is_stuck(struct fixture *f)
{
	return f->stuck_count == 1;
}

static bool has_notice(struct fixture *f)
{
	return f->active == 0 && is_empty(f);
}

static void finish_stuck(void *arg)
{
	struct fixture *f = arg;

	f->stuck_count = 0;
	finish(f->stuck[0]);
}

/* What an operator removes while it is being tried, nobody is told of; the others of the message are told as ever. */
static void test_removed_amid_a_try(void **state)
{
	(void)state;
	for (uint32_t removed = 1; removed <= 2; removed++) {
		struct fixture *f = start(&defaults);
		struct store_txn *txn;

		add(f, (struct add){.sender = "a@b.test", .to = {"bad1@slow.test", "bad2@slow.test"}});
		queue_start(f->queue);
		wait_until(f, is_stuck);
		assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
		for (uint32_t i = 0; i < removed; i++) {
			struct store_queue_change c = {.how = STORE_QUEUE_END, .message = 1, .number = i};

			assert_int_equal(store_queue_change(txn, &c), 0);
		}
		assert_int_equal(store_commit(&txn), 0);
		loop_post(f->loop, finish_stuck, f);
		wait_until(f, has_notice);
		if (removed == 1) {
			assert_null(strstr(notice(f), "bad1@slow.test"));
			assert_non_null(strstr(notice(f), "bad2@slow.test"));
		}
		assert_int_equal(f->count, 3 - removed);
		end(f);
	}
}

static void put_row(struct store_txn *txn, enum db_name db, struct db_key key, struct slice value)
{
	assert_int_equal(db_put(txn, db, db_key_view(&key), value), 0);
}

static void damage(struct fixture *f, unsigned kind)
{
	struct store_queue_place place = {START, 9, 0};
	char due[20];
	struct store_txn *txn;
	struct store_queue_message m;

	assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
	switch (kind) {
	case 0:
		put_row(txn, DB_QUEUE, db_key_u64(1), SLICE_LIT("?"));
		break;
	case 1:
		put_row(txn, DB_QUEUE_TO, db_key_u64_u32(1, 0), SLICE_LIT("?"));
		break;
	case 2: /* the body */
		assert_int_equal(store_queue_get(txn, 1, &m), 0);
		put_row(txn, DB_BLOBS, db_key_u64(m.blob), SLICE_LIT("?"));
		break;
	case 3: /* an index that names what is not there */
		bytes_put_u64be(due, place.time);
		bytes_put_u64be(due + 8, place.message);
		bytes_put_u32be(due + 16, place.number);
		assert_int_equal(
			db_put(txn, DB_QUEUE_DUE, slice_of(due, sizeof(due)), SLICE_LIT("c.test")), 0);
		break;
	case 4:
		assert_int_equal(db_delete(txn, DB_QUEUE, SLICE_LIT("\0\0\0\0\0\0\0\1")), 0);
		break;
	}
	assert_int_equal(store_commit(&txn), 0);
}

static unsigned damage_kind;

static bool is_set_aside(struct fixture *f)
{
	struct store_queue_stat s = stat_of(f);

	return s.waiting == 0 && s.held == (damage_kind != 3);
}

/* Each kind: what is damaged is set aside once, the others go, and an operator can remove it. */
static void test_what_is_damaged_is_set_aside(void **state)
{
	(void)state;
	for (damage_kind = 0; damage_kind < 5; damage_kind++) {
		struct fixture *f = start(&defaults);
		struct metric *told = metrics_counter("mailtier_queue_damaged", NULL, "");
		int64_t before = metric_get(told);
		struct store_queue_change c = {.how = STORE_QUEUE_END, .message = 1};
		struct store_repair_options quiet = {0};
		struct store_repair repaired;
		struct store_txn *txn;

		add(f, (struct add){.sender = "a@b.test", .to = {"x@c.test"}});
		add(f, (struct add){.sender = "a@b.test",
			       .to = {"y@c.test"},
			       .body = "Subject: other\r\n\r\nx\r\n"});
		damage(f, damage_kind);
		queue_start(f->queue);
		wait_until(f, is_set_aside);
		for (int i = 0; i < 5; i++)
			advance(f, 10);
		assert_int_equal(metric_get(told) - before, 1);
		assert_int_equal(f->count, damage_kind == 3 ? 2 : 1);
		assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
		assert_int_equal(store_queue_change(txn, &c), damage_kind == 1   ? ERR_CORRUPT
							      : damage_kind == 3 ? ERR_NOT_FOUND
										 : 0);
		assert_int_equal(store_commit(&txn), 0);
		assert_int_equal(stat_of(f).held, damage_kind == 1);
		if (damage_kind == 2) { /* the repair leaves a body that it cannot read */
			struct db_key body = db_key_u64(1);

			assert_int_equal(store_begin_write(f->t.store, 0, &txn), 0);
			assert_int_equal(db_delete(txn, DB_BLOBS, db_key_view(&body)), 0);
			assert_int_equal(store_commit(&txn), 0);
		}
		assert_int_equal(store_repair(f->t.store, &quiet, &repaired), 0);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message_is_sent_once_and_gone),
		cmocka_unit_test(test_the_schedule),
		cmocka_unit_test(test_age_ends_it_too),
		cmocka_unit_test(test_a_dead_destination_costs_one_try),
		cmocka_unit_test(test_a_small_window_takes_all),
		cmocka_unit_test(test_slow_hops_leave_room_for_others),
		cmocka_unit_test(test_mail_for_accounts_here_is_stored),
		cmocka_unit_test(test_mail_for_who_is_suspended),
		cmocka_unit_test(test_mail_of_who_is_suspended),
		cmocka_unit_test(test_who_is_told),
		cmocka_unit_test(test_security_23_nobody_is_flooded_with_notices),
		cmocka_unit_test(test_a_delay_is_told_once),
		cmocka_unit_test(test_security_23_a_bounce_of_a_bounce_ends_at_the_postmaster),
		cmocka_unit_test(test_what_is_returned),
		cmocka_unit_test(test_circles_end),
		cmocka_unit_test(test_nobody_forwards_the_same_twice),
		cmocka_unit_test(test_a_clock_that_goes_back),
		cmocka_unit_test(test_removed_amid_a_try),
		cmocka_unit_test(test_what_is_damaged_is_set_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
