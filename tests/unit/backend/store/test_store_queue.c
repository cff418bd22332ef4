/* The queue's tables: a recipient's ways, order of time, references to bodies, check and repair of each kind of damage. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/queue_record.h"
#include "backend/store/store_queue.h"
#include "backend/store/store_repair.h"

static struct store_txn *begin(struct temp_store *t)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	return txn;
}

/* A message of so many recipients to user<i>@<domain>, due at time + i. */
static uint64_t add(struct temp_store *t, const char *domain, unsigned count, uint64_t time, bool is_held)
{
	struct store_queue_message m = {.skip = 9,
		.arrived = 1000,
		.flags = STORE_QUEUE_8BIT,
		.ret = 2,
		.sender = SLICE_LIT("a@example.org"),
		.envid = SLICE_LIT("x+2By"),
		.session = SLICE_LIT("abc"),
		.user = SLICE_LIT("alice@example.com")};
	bool done;
	struct store_draft *d = temp_draft(SLICE_LIT("Skipped\r\nSubject: x\r\n\r\nbody\r\n"), &done);
	struct store_txn *txn = begin(t);
	uint64_t id;

	assert_int_equal(store_draft_finish(txn, d, &m.blob), 0);
	assert_int_equal(store_queue_add(txn, &m, &id), 0);
	for (unsigned i = 0; i < count; i++) {
		char address[64];
		struct store_queue_recipient r = {.message = id,
			.number = i,
			.next = time + i,
			.is_held = is_held,
			.notify = 4,
			.destination = slice_str(domain),
			.orcpt = SLICE_LIT("rfc822;x"),
			.trace = SLICE_LIT("Delivered-To: y\r\n"),
			.reason = is_held ? SLICE_LIT("why") : slice_of(NULL, 0)};

		snprintf(address, sizeof(address), "user%u@%s", i, domain);
		r.address = slice_str(address);
		assert_int_equal(store_queue_add_recipient(txn, &r), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	store_draft_committed(d);
	store_draft_free(&d);
	return id;
}

static int change(struct temp_store *t, struct store_queue_change c)
{
	struct store_txn *txn = begin(t);
	int err = store_queue_change(txn, &c);

	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
	return err;
}

struct seen {
	uint64_t message[50];
	uint32_t number[50];
	size_t count;
};

static bool see(void *arg, const struct store_queue_place *place, struct slice destination)
{
	struct seen *s = arg;

	assert_true(destination.len > 0);
	s->message[s->count] = place->message;
	s->number[s->count++] = place->number;
	return s->count < 50;
}

static struct seen due(struct temp_store *t, const char *destination, uint64_t until)
{
	struct store_queue_place from = {0};
	struct seen s = {0};
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	if (destination)
		assert_int_equal(store_queue_due_of(txn, slice_str(destination), &from, until, see, &s), 0);
	else
		assert_int_equal(store_queue_due(txn, &from, until, see, &s), 0);
	store_end_read(&txn);
	return s;
}

static struct store_queue_stat stat_of(struct temp_store *t)
{
	struct store_queue_stat s;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_queue_stat(txn, &s), 0);
	store_end_read(&txn);
	return s;
}

static uint64_t blobs(struct temp_store *t)
{
	struct store_stat s;

	temp_reap(t, NULL);
	assert_int_equal(store_stat(t->store, &s), 0);
	return s.blobs;
}

static void test_what_was_put_in_is_there(void **state)
{
	struct temp_store t;
	struct store_queue_message m;
	struct store_queue_recipient r;
	struct store_txn *txn;
	uint64_t id;
	char text[64];
	size_t len;

	(void)state;
	temp_start(&t);
	id = add(&t, "b.example", 2, 500, false);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_queue_get(txn, id, &m), 0);
	assert_int_equal(m.arrived, 1000);
	assert_int_equal(m.flags, STORE_QUEUE_8BIT);
	assert_int_equal(m.ret, 2);
	assert_int_equal(m.size, 20);
	assert_true(slice_is_str(m.sender, "a@example.org") && slice_is_str(m.envid, "x+2By") &&
		    slice_is_str(m.session, "abc") && slice_is_str(m.user, "alice@example.com"));
	assert_int_equal(store_queue_read(txn, &m, 0, text, sizeof(text), &len), 0);
	assert_true(slice_is_str(slice_of(text, len), "Subject: x\r\n\r\nbody\r\n"));
	assert_int_equal(store_queue_read(txn, &m, 9, text, 3, &len), 0);
	assert_true(slice_is_str(slice_of(text, len), "x\r\n"));
	assert_int_equal(store_queue_get_recipient(txn, id, 1, &r), 0);
	assert_true(slice_is_str(r.address, "user1@b.example") && slice_is_str(r.destination, "b.example") &&
		    slice_is_str(r.orcpt, "rfc822;x") && slice_is_str(r.trace, "Delivered-To: y\r\n"));
	assert_int_equal(r.notify, 4);
	assert_int_equal(r.next, 501);
	assert_int_equal(store_queue_get_recipient(txn, id, 2, &r), ERR_NOT_FOUND);
	store_end_read(&txn);
	temp_end(&t);
}

static void test_the_last_recipient_takes_the_message_along(void **state)
{
	struct temp_store t;
	uint64_t a, b;

	(void)state;
	temp_start(&t);
	a = add(&t, "b.example", 2, 500, false);
	b = add(&t, "c.example", 1, 400, true);
	assert_int_equal(blobs(&t), 2);
	temp_check(&t);
	assert_int_equal(
		change(&t, (struct store_queue_change){.how = STORE_QUEUE_END, .message = a, .number = 0}),
		0);
	assert_int_equal(change(&t, (struct store_queue_change){.message = a, .number = 0}), ERR_NOT_FOUND);
	assert_int_equal(stat_of(&t).waiting, 1);
	assert_int_equal(stat_of(&t).held, 1);
	assert_int_equal(stat_of(&t).messages, 2);
	assert_int_equal(blobs(&t), 2);
	temp_check(&t);
	assert_int_equal(change(&t, (struct store_queue_change){.message = a, .number = 1}), 0);
	assert_int_equal(blobs(&t), 1);
	assert_int_equal(change(&t, (struct store_queue_change){.message = b, .number = 0}), 0);
	assert_int_equal(blobs(&t), 0);
	assert_int_equal(stat_of(&t).oldest, 0);
	temp_end(&t);
}

static void test_a_body_that_a_mailbox_has_too_stays(void **state)
{
	struct temp_store t;
	struct store_queue_message m = {.sender = SLICE_LIT("a@example.org"), .arrived = 1};
	struct store_message stored;
	struct store_txn *txn;
	uint64_t id;

	(void)state;
	temp_start(&t);
	temp_add(&t, t.inbox, "Subject: y\r\n\r\nx\r\n");
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, t.inbox, 1, &stored), 0);
	m.blob = stored.blob;
	store_end_read(&txn);
	txn = begin(&t);
	assert_int_equal(store_queue_add(txn, &m, &id), 0);
	assert_int_equal(store_queue_add_recipient(txn, &(struct store_queue_recipient){.message = id,
								.address = SLICE_LIT("b@c.example"),
								.destination = SLICE_LIT("c.example")}),
		0);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&t);
	assert_int_equal(change(&t, (struct store_queue_change){.message = id}), 0);
	assert_int_equal(blobs(&t), 1);
	temp_end(&t);
}

static void test_they_come_in_the_order_of_time(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint64_t a, b, next;
	struct seen s;

	(void)state;
	temp_start(&t);
	a = add(&t, "b.example", 3, 500, false);
	b = add(&t, "b.exampl", 1, 400, false);
	add(&t, "held.example", 1, 1, true);
	s = due(&t, NULL, 501);
	assert_int_equal(s.count, 3);
	assert_int_equal(s.message[0], b);
	assert_int_equal(s.message[2], a);
	assert_int_equal(s.number[2], 1);
	assert_int_equal(due(&t, "b.example", 9999).count, 3);
	assert_int_equal(due(&t, "b.exampl", 9999).count, 1);
	assert_int_equal(due(&t, "b", 9999).count, 0);
	assert_int_equal(due(&t, "held.example", 9999).count, 0);
	assert_int_equal(change(&t, (struct store_queue_change){.how = STORE_QUEUE_DEFER,
					    .message = b,
					    .next = 700,
					    .tries = 1,
					    .is_warned = true,
					    .status = SLICE_LIT("4.4.1"),
					    .remote = SLICE_LIT("mx.example"),
					    .text = SLICE_LIT("no")}),
		0);
	assert_int_equal(due(&t, NULL, 699).count, 3);
	assert_int_equal(due(&t, "b.exampl", 700).count, 1);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_queue_next(txn, &next), 0);
	assert_int_equal(next, 500);
	store_end_read(&txn);
	temp_end(&t);
}

static bool take_first(void *arg, const struct store_queue_recipient *r)
{
	struct store_queue_recipient *out = arg;

	*out = *r;
	return false;
}

static void test_hold_and_release(void **state)
{
	struct temp_store t;
	struct store_queue_recipient r;
	struct store_txn *txn;
	uint64_t a;

	(void)state;
	temp_start(&t);
	a = add(&t, "b.example", 1, 500, false);
	assert_int_equal(change(&t, (struct store_queue_change){.how = STORE_QUEUE_HOLD,
					    .message = a,
					    .reason = SLICE_LIT("operator")}),
		0);
	assert_int_equal(due(&t, NULL, 9999).count, 0);
	assert_int_equal(stat_of(&t).held, 1);
	/* A try that was under way ends: held it stays. */
	assert_int_equal(change(&t,
				 (struct store_queue_change){
					 .how = STORE_QUEUE_DEFER, .message = a, .next = 800, .tries = 3}),
		0);
	assert_int_equal(due(&t, NULL, 9999).count, 0);
	assert_int_equal(
		change(&t, (struct store_queue_change){.how = STORE_QUEUE_RETRY, .message = a, .next = 1}),
		0);
	assert_int_equal(due(&t, NULL, 9999).count, 0);
	temp_check(&t);
	assert_int_equal(
		change(&t,
			(struct store_queue_change){.how = STORE_QUEUE_RELEASE, .message = a, .next = 600}),
		0);
	assert_int_equal(due(&t, NULL, 600).count, 1);
	assert_int_equal(stat_of(&t).held, 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_queue_each(txn, 0, 0, take_first, &r), 0);
	assert_int_equal(r.tries, 3);
	assert_int_equal(r.reason.len, 0);
	store_end_read(&txn);
	temp_end(&t);
}

static void test_texts_have_limits(void **state)
{
	char *big = calloc(1, 5001);
	struct temp_store t;
	struct store_queue_recipient r;
	struct store_txn *txn;
	uint64_t a;

	(void)state;
	memset(big, 'x', 5000);
	temp_start(&t);
	a = add(&t, "b.example", 1, 500, false);
	/* What a remote host said is cut. */
	assert_int_equal(change(&t,
				 (struct store_queue_change){
					 .how = STORE_QUEUE_DEFER, .message = a, .text = slice_str(big)}),
		0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_queue_get_recipient(txn, a, 0, &r), 0);
	assert_int_equal(r.text.len, STORE_QUEUE_TEXT_MAX);
	store_end_read(&txn);
	txn = begin(&t);
	assert_int_equal(store_queue_add_recipient(txn,
				 &(struct store_queue_recipient){
					 .message = a, .number = 7, .address = slice_str(big)}),
		ERR_TOO_BIG);
	assert_int_equal(
		store_queue_add_recipient(txn,
			&(struct store_queue_recipient){
				.message = a, .number = 7, .destination = slice_sub(slice_str(big), 0, 256)}),
		ERR_TOO_BIG);
	store_abort(&txn);
	free(big);
	temp_end(&t);
}

/* ---- damage ---- */

static void put(struct store_txn *txn, enum db_name db, struct slice key, struct slice value)
{
	assert_int_equal(db_put(txn, db, key, value), 0);
}

static void damage(struct store_txn *txn, int kind, uint64_t id)
{
	struct store_queue_place place = {500, id, 0}, other = {77, id, 0};
	struct queue_record_key due_key = queue_record_due(&place),
				of = queue_record_of(SLICE_LIT("b.example"), &place);
	struct queue_record_key stray = queue_record_of(SLICE_LIT("z.example"), &other);
	struct db_key message = db_key_u64(id), recipient = db_key_u64_u32(id, 0), none = db_key_u64(id + 9),
		      none_to = db_key_u64_u32(id + 11, 0);
	struct slice value;
	struct buf copy = {0};

	switch (kind) {
	case 0: /* not in the index by time */
		assert_int_equal(db_delete(txn, DB_QUEUE_DUE, slice_of(due_key.bytes, due_key.len)), 0);
		break;
	case 1:
		assert_int_equal(db_delete(txn, DB_QUEUE_OF, slice_of(of.bytes, of.len)), 0);
		break;
	case 2: /* a stray */
		put(txn, DB_QUEUE_OF, slice_of(stray.bytes, stray.len), slice_of(NULL, 0));
		break;
	case 3:
		put(txn, DB_QUEUE_DUE, SLICE_LIT("short"), SLICE_LIT("b.example"));
		break;
	case 4: /* sums */
		assert_int_equal(db_meta_put(txn, "queue_waiting", 99), 0);
		break;
	case 5: /* a recipient without a message */
		assert_int_equal(db_get(txn, DB_QUEUE_TO, db_key_view(&recipient), &value), 0);
		buf_add_slice(&copy, value);
		put(txn, DB_QUEUE_TO, db_key_view(&none_to), buf_view(&copy));
		break;
	case 6: /* a message without recipients, and one reference too few to its body */
		assert_int_equal(db_get(txn, DB_QUEUE, db_key_view(&message), &value), 0);
		buf_add_slice(&copy, value);
		put(txn, DB_QUEUE, db_key_view(&none), buf_view(&copy));
		break;
	case 7: /* an unreadable message, whose recipients are lost with it */
		put(txn, DB_QUEUE, db_key_view(&message), SLICE_LIT("?"));
		break;
	case 8:
		put(txn, DB_QUEUE_TO, db_key_view(&recipient), SLICE_LIT("?"));
		break;
	case 9: /* the number of the next one would be one that is there */
		assert_int_equal(db_meta_put(txn, "last_queued", 0), 0);
		break;
	}
	buf_deinit(&copy);
}

static void test_damage_is_found_and_mended(void **state)
{
	(void)state;
	for (int kind = 0; kind < 10; kind++) {
		struct store_check_options quiet = {0};
		struct store_repair_options options = {0};
		struct store_repair repaired;
		struct store_check found;
		struct temp_store t;
		struct store_txn *txn;
		uint64_t id;

		temp_start(&t);
		id = add(&t, "b.example", 2, 500, false);
		add(&t, "c.example", 1, 500, true);
		txn = begin(&t);
		damage(txn, kind, id);
		assert_int_equal(store_commit(&txn), 0);
		assert_int_equal(store_check(t.store, &quiet, &found), 0);
		if (!found.errors)
			print_error("kind %d is not found\n", kind);
		assert_true(found.errors > 0);
		assert_int_equal(store_repair(t.store, &options, &repaired), 0);
		assert_true(repaired.mended > 0);
		temp_check(&t);
		/* What was right before is still there. */
		assert_int_equal(stat_of(&t).held, 1);
		assert_int_equal(stat_of(&t).waiting, kind == 7 ? 0 : kind == 8 ? 1 : 2);
		temp_end(&t);
	}
}

static void test_records_go_both_ways(void **state)
{
	struct store_queue_recipient r = {.is_held = true,
		.is_warned = true,
		.notify = 6,
		.tries = 7,
		.next = UINT64_C(1) << 60,
		.address = SLICE_LIT("a"),
		.destination = SLICE_LIT("bb"),
		.orcpt = SLICE_LIT("ccc"),
		.trace = SLICE_LIT("dddd"),
		.reason = SLICE_LIT("eeeee"),
		.status = SLICE_LIT("ffffff"),
		.remote = SLICE_LIT("ggggggg"),
		.text = SLICE_LIT("hhhhhhhh")};
	struct store_queue_recipient back;
	struct buf b = {0};

	(void)state;
	queue_record_pack_recipient(&r, &b);
	assert_int_equal(queue_record_unpack_recipient(buf_view(&b), &back), 0);
	assert_true(
		back.is_held && back.is_warned && back.notify == 6 && back.tries == 7 && back.next == r.next);
	assert_true(slice_is_equal(back.text, r.text) && slice_is_equal(back.remote, r.remote) &&
		    slice_is_equal(back.reason, r.reason) && slice_is_equal(back.trace, r.trace));
	for (size_t i = 0; i < buf_len(&b); i++)
		assert_int_equal(
			queue_record_unpack_recipient(slice_sub(buf_view(&b), 0, i), &back), ERR_CORRUPT);
	buf_add_char(&b, 'x');
	assert_int_equal(queue_record_unpack_recipient(buf_view(&b), &back), ERR_CORRUPT);
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_put_in_is_there),
		cmocka_unit_test(test_the_last_recipient_takes_the_message_along),
		cmocka_unit_test(test_a_body_that_a_mailbox_has_too_stays),
		cmocka_unit_test(test_they_come_in_the_order_of_time),
		cmocka_unit_test(test_hold_and_release),
		cmocka_unit_test(test_texts_have_limits),
		cmocka_unit_test(test_damage_is_found_and_mended),
		cmocka_unit_test(test_records_go_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
