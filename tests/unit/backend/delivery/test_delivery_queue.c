/* What of a delivery goes to the queue: recipients elsewhere, all of a transaction that has one answer, what is held; and marks. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/delivery/delivery.h"
#include "backend/store/store_queue.h"
#include "common/net/loop.h"
#include "common/net/timer.h"

struct fixture {
	struct temp_store t;
	struct store_work *work;
	struct delivery_service *service;
	struct loop *loop;
	struct timer limit;
	int woken, answers, errors;
	unsigned wanted;
};

static void too_long(void *arg)
{
	(void)arg;
	fail_msg("no answer came");
}

static void woken(void *arg)
{
	((struct fixture *)arg)->woken++;
}

static void start(struct fixture *f)
{
	struct store_work_options o = {0};

	memset(f, 0, sizeof(*f));
	temp_start(&f->t);
	assert_int_equal(store_work_start(f->t.store, &o, &f->work), 0);
	assert_int_equal(loop_new(&f->loop), 0);
	f->service = delivery_service_new(f->work);
	delivery_service_on_queued(f->service, woken, f);
	timer_init(&f->limit, too_long, f);
}

static void end(struct fixture *f)
{
	store_work_stop(&f->work);
	delivery_service_free(&f->service);
	loop_free(&f->loop);
	temp_end(&f->t);
}

static void answered(void *arg, unsigned recipient, int error)
{
	struct fixture *f = arg;

	(void)recipient;
	f->errors += error != 0;
	if (++f->answers == (int)f->wanted)
		loop_stop(f->loop);
}

static struct smtp_rcpt rcpt(const char *local, const char *domain, const char *address)
{
	return (struct smtp_rcpt){.path = {.local = slice_str(local),
					  .domain = slice_str(domain),
					  .address = slice_str(address)}};
}

static struct delivery *begin(struct fixture *f, bool is_whole, const struct smtp_mark *mark)
{
	static const struct smtp_mark none;
	struct delivery *d =
		delivery_begin(f->service, f->loop, SLICE_LIT("alice@example.com"), 0, mark ? mark : &none);

	delivery_set_envelope(d, &(struct delivery_envelope){.session = SLICE_LIT("sess"),
					 .user = SLICE_LIT("alice@example.com"),
					 .ret = SMTP_RET_HDRS,
					 .envid = SLICE_LIT("E1"),
					 .is_8bit = true,
					 .requires_tls = true,
					 .is_whole = is_whole});
	return d;
}

static void finish(struct fixture *f, struct delivery *d, unsigned wanted, bool is_retired)
{
	delivery_add_trace(d, SLICE_LIT("Received: from x\r\n"));
	assert_int_equal(delivery_add_body(d, SLICE_LIT("Subject: s\r\n\r\nbody\r\n")), 0);
	f->wanted = wanted;
	f->answers = 0;
	timer_set(&f->limit, f->loop, 10000);
	delivery_finish(d, answered, f);
	loop_run(f->loop);
	timer_stop(&f->limit);
	delivery_end(&d, is_retired);
	assert_int_equal(f->answers, wanted);
}

struct listed {
	char text[1000];
	struct store_txn *txn;
};

static bool note(void *arg, const struct store_queue_recipient *r)
{
	struct listed *l = arg;
	struct store_queue_message m;
	char body[200];
	size_t len = strlen(l->text), got;

	assert_int_equal(store_queue_get(l->txn, r->message, &m), 0);
	assert_int_equal(store_queue_read(l->txn, &m, 0, body, sizeof(body), &got), 0);
	assert_true(slice_is_str(slice_of(body, got), "Received: from x\r\nSubject: s\r\n\r\nbody\r\n"));
	assert_true(slice_is_str(m.session, "sess") && slice_is_str(m.envid, "E1"));
	assert_int_equal(m.ret, SMTP_RET_HDRS);
	assert_int_equal(m.flags, STORE_QUEUE_8BIT | STORE_QUEUE_REQUIRETLS);
	snprintf(l->text + len, sizeof(l->text) - len, "%llu %.*s>%.*s@%.*s %u%s%.*s\n",
		(unsigned long long)r->message, SLICE_ARG(m.sender), SLICE_ARG(r->address),
		SLICE_ARG(r->destination), r->notify, r->is_held ? " held " : "", SLICE_ARG(r->reason));
	return true;
}

static void expect(struct fixture *f, const char *want)
{
	struct listed l = {0};

	assert_int_equal(store_begin_read(f->t.store, 0, &l.txn), 0);
	assert_int_equal(store_queue_each(l.txn, 0, 0, note, &l), 0);
	store_end_read(&l.txn);
	assert_string_equal(l.text, want);
}

static void test_recipients_elsewhere_are_queued_in_one_message(void **state)
{
	struct smtp_rcpt b = rcpt("bob", "B.Example", "bob@B.Example"),
			 c = rcpt("c", "c.example", "c@c.example"),
			 again = rcpt("bob", "b.example", "bob@b.example"), none = rcpt("x", "", "x");
	struct fixture f;
	struct delivery *d;
	unsigned n;

	(void)state;
	start(&f);
	d = begin(&f, true, NULL);
	b.notify = SMTP_NOTIFY_DELAY;
	assert_int_equal(delivery_add_remote(d, &b, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(delivery_add_remote(d, &c, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(delivery_add_remote(d, &again, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(delivery_add_remote(d, &none, &n), ERR_SYNTAX);
	finish(&f, d, 2, true);
	assert_int_equal(f.errors, 0);
	assert_true(f.woken > 0);
	expect(&f, "1 alice@example.com>bob@B.Example@b.example 8\n"
		   "1 alice@example.com>c@c.example@c.example 0\n");
	end(&f);
}

static void test_one_answer_takes_local_recipients_along(void **state)
{
	struct smtp_rcpt own = rcpt("Alice", "example.com", "Alice@example.com"),
			 c = rcpt("c", "c.example", "c@c.example");
	struct fixture f;

	(void)state;
	for (int is_whole = 0; is_whole < 2; is_whole++) {
		struct delivery *d;
		unsigned n;

		start(&f);
		d = begin(&f, is_whole, NULL);
		assert_int_equal(delivery_add_recipient(d, &own.path, &n), 0);
		delivery_set_wishes(d, n, SMTP_NOTIFY_FAILURE, slice_of(NULL, 0));
		assert_int_equal(delivery_add_remote(d, &c, &n), 0);
		finish(&f, d, 2, true);
		assert_int_equal(f.errors, 0);
		assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, !is_whole);
		expect(&f, is_whole ? "1 alice@example.com>c@c.example@c.example 0\n"
				      "1 alice@example.com>alice@example.com@example.com 4\n"
				    : "1 alice@example.com>c@c.example@c.example 0\n");
		end(&f);
	}
}

/* LMTP too: who wants to hear of a success is told by the queue; the others have their own answers. */
static void test_success_is_told_by_the_queue(void **state)
{
	struct smtp_rcpt own = rcpt("Alice", "example.com", "Alice@example.com");
	struct fixture f;
	struct delivery *d;
	unsigned n;

	(void)state;
	start(&f);
	d = begin(&f, false, NULL);
	assert_int_equal(delivery_add_recipient(d, &own.path, &n), 0);
	delivery_set_wishes(d, n, SMTP_NOTIFY_SUCCESS, slice_of(NULL, 0));
	finish(&f, d, 1, true);
	assert_int_equal(f.errors, 0);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 0);
	expect(&f, "1 alice@example.com>alice@example.com@example.com 2\n");
	end(&f);
}

static void test_a_single_slot_of_accounts_needs_no_queue(void **state)
{
	struct smtp_rcpt own = rcpt("alice", "example.com", "alice@example.com");
	struct fixture f;
	struct delivery *d;
	unsigned n;

	(void)state;
	start(&f);
	d = begin(&f, true, NULL);
	assert_int_equal(delivery_add_recipient(d, &own.path, &n), 0);
	finish(&f, d, 1, true);
	assert_int_equal(f.woken, 0);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 1);
	expect(&f, "");
	end(&f);
}

static void test_who_wants_to_hear_of_success_is_queued(void **state)
{
	struct smtp_rcpt own = rcpt("alice", "example.com", "alice@example.com");
	struct fixture f;
	struct delivery *d;
	unsigned n;

	(void)state;
	start(&f);
	d = begin(&f, true, NULL);
	assert_int_equal(delivery_add_recipient(d, &own.path, &n), 0);
	delivery_set_wishes(d, n, SMTP_NOTIFY_SUCCESS, slice_of(NULL, 0));
	finish(&f, d, 1, true);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 0);
	expect(&f, "1 alice@example.com>alice@example.com@example.com 2\n");
	end(&f);
}

static void test_quarantine_holds_all(void **state)
{
	struct smtp_rcpt own = rcpt("alice", "example.com", "alice@example.com"),
			 c = rcpt("c", "c.example", "c@c.example");
	struct fixture f;
	struct delivery *d;
	unsigned n;

	(void)state;
	start(&f);
	d = begin(&f, false, NULL);
	assert_int_equal(delivery_add_recipient(d, &own.path, &n), 0);
	assert_int_equal(delivery_add_remote(d, &c, &n), 0);
	delivery_hold(d, SLICE_LIT("virus"));
	finish(&f, d, 2, true);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 0);
	expect(&f, "1 alice@example.com>c@c.example@c.example 0 held virus\n"
		   "1 alice@example.com>alice@example.com@example.com 0 held virus\n");
	end(&f);
}

static void test_a_repeat_is_not_queued_twice(void **state)
{
	struct smtp_mark mark = {.is_set = true};
	struct smtp_rcpt c = rcpt("c", "c.example", "c@c.example");
	struct fixture f;

	(void)state;
	start(&f);
	for (int i = 0; i < 2; i++) {
		struct delivery *d = begin(&f, false, &mark);
		unsigned n;

		assert_int_equal(delivery_add_remote(d, &c, &n), 0);
		finish(&f, d, 1, false); /* the leg was cut: its mark stays */
		assert_int_equal(f.errors, 0);
	}
	expect(&f, "1 alice@example.com>c@c.example@c.example 0\n");
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recipients_elsewhere_are_queued_in_one_message),
		cmocka_unit_test(test_one_answer_takes_local_recipients_along),
		cmocka_unit_test(test_success_is_told_by_the_queue),
		cmocka_unit_test(test_a_single_slot_of_accounts_needs_no_queue),
		cmocka_unit_test(test_who_wants_to_hear_of_success_is_queued),
		cmocka_unit_test(test_quarantine_holds_all),
		cmocka_unit_test(test_a_repeat_is_not_queued_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
