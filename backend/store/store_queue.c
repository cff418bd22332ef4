/*
 * The queue's tables: a row a message, a row a recipient, and for each recipient that waits a row by time and one by destination and
 * time. Rows of one recipient change in one transaction, so that they agree in every snapshot.
 */
#include "backend/store/store_queue.h"

#include "backend/store/blob.h"
#include "backend/store/queue_record.h"

static struct slice key_view(const struct queue_record_key *k)
{
	return slice_of(k->bytes, k->len);
}

static struct store_queue_place place_of(const struct store_queue_recipient *r)
{
	return (struct store_queue_place){r->next, r->message, r->number};
}

static struct slice cut(struct slice s, size_t most)
{
	return slice_sub(s, 0, most);
}

/* ---- counters ---- */

static int count(struct store_txn *txn, bool is_held, int by)
{
	const char *name = is_held ? "queue_held" : "queue_waiting";
	uint64_t n;
	int err = db_meta_get(txn, name, &n);

	if (err)
		return db_fail(txn, err);
	if (by < 0 && n < (uint64_t)-by) /* check tells it, repair counts anew */
		return 0;
	return db_meta_put(txn, name, n + (uint64_t)(int64_t)by);
}

/* ---- rows ---- */

static int put_waiting(struct store_txn *txn, const struct store_queue_recipient *r)
{
	struct store_queue_place place = place_of(r);
	struct queue_record_key due = queue_record_due(&place), of = queue_record_of(r->destination, &place);
	int err = db_put(txn, DB_QUEUE_DUE, key_view(&due), r->destination);

	return err ? err : db_put(txn, DB_QUEUE_OF, key_view(&of), slice_of(NULL, 0));
}

static int drop_waiting(struct store_txn *txn, const struct store_queue_recipient *r)
{
	struct store_queue_place place = place_of(r);
	struct queue_record_key due = queue_record_due(&place), of = queue_record_of(r->destination, &place);
	int err = db_drop(txn, DB_QUEUE_DUE, key_view(&due));

	return err ? err : db_drop(txn, DB_QUEUE_OF, key_view(&of));
}

static int put_recipient(struct store_txn *txn, const struct store_queue_recipient *r)
{
	struct db_key key = db_key_u64_u32(r->message, r->number);
	struct buf value = {0};
	int err;

	queue_record_pack_recipient(r, &value);
	err = db_put(txn, DB_QUEUE_TO, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	return err;
}

/* ---- adding ---- */

int store_queue_add(struct store_txn *txn, const struct store_queue_message *message, uint64_t *id_out)
{
	struct store_queue_message m = *message;
	struct buf value = {0};
	struct db_key key;
	uint64_t size;
	int err;

	if (m.sender.len > STORE_QUEUE_ADDRESS_MAX || m.envid.len > STORE_QUEUE_TEXT_MAX ||
		m.session.len > STORE_QUEUE_TEXT_MAX || m.user.len > STORE_QUEUE_TEXT_MAX)
		return ERR_TOO_BIG;
	err = db_meta_get(txn, "last_queued", &m.id);
	if (!err)
		err = db_meta_put(txn, "last_queued", ++m.id);
	if (!err)
		err = blob_add_ref(txn, m.blob, &size);
	if (err)
		return db_fail(txn, err);
	m.skip = m.skip < size ? m.skip : (uint32_t)size;
	m.size = size - m.skip;
	key = db_key_u64(m.id);
	queue_record_pack_message(&m, &value);
	err = db_put(txn, DB_QUEUE, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	if (!err)
		*id_out = m.id;
	return err;
}

int store_queue_add_recipient(struct store_txn *txn, const struct store_queue_recipient *r)
{
	int err;

	if (r->address.len > STORE_QUEUE_ADDRESS_MAX || r->destination.len > STORE_QUEUE_DESTINATION_MAX ||
		r->orcpt.len > STORE_QUEUE_TEXT_MAX || r->trace.len > STORE_QUEUE_TRACE_MAX ||
		r->reason.len > STORE_QUEUE_TEXT_MAX || r->status.len > STORE_QUEUE_TEXT_MAX ||
		r->remote.len > STORE_QUEUE_TEXT_MAX || r->text.len > STORE_QUEUE_TEXT_MAX)
		return ERR_TOO_BIG;
	err = put_recipient(txn, r);
	if (!err && !r->is_held)
		err = put_waiting(txn, r);
	return err ? err : count(txn, r->is_held, 1);
}

/* ---- changes ---- */

/* With its last recipient the message goes. What damage has taken of it is not in the way: its body's references are `store repair`'s then. */
static int end_message(struct store_txn *txn, uint64_t id)
{
	struct db_key key = db_key_u64(id);
	struct store_queue_message m;
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_QUEUE_TO, &c);
	bool has_more;

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	has_more = !err && db_cursor_has_prefix(&c, db_key_view(&key));
	db_cursor_close(&c);
	if (has_more || (err && err != ERR_NOT_FOUND))
		return err;
	err = store_queue_get(txn, id, &m);
	if (!err)
		err = blob_drop_ref(txn, m.blob);
	if (err && err != ERR_NOT_FOUND && err != ERR_CORRUPT)
		return db_fail(txn, err);
	return store_txn_error(txn) ? store_txn_error(txn) : db_drop(txn, DB_QUEUE, db_key_view(&key));
}

static int end_recipient(struct store_txn *txn, const struct store_queue_recipient *r)
{
	struct db_key key = db_key_u64_u32(r->message, r->number);
	int err = r->is_held ? 0 : drop_waiting(txn, r);

	if (!err)
		err = count(txn, r->is_held, -1);
	if (!err) /* r's texts are views of this row: last */
		err = db_drop(txn, DB_QUEUE_TO, db_key_view(&key));
	return err ? err : end_message(txn, r->message);
}

static void apply(struct store_queue_recipient *r, const struct store_queue_change *c)
{
	switch (c->how) {
	case STORE_QUEUE_END:
		break;
	case STORE_QUEUE_DEFER:
		r->next = c->next;
		r->tries = c->tries;
		r->is_warned |= c->is_warned;
		if (c->text.len) {
			r->status = cut(c->status, STORE_QUEUE_TEXT_MAX);
			r->remote = cut(c->remote, STORE_QUEUE_TEXT_MAX);
			r->text = cut(c->text, STORE_QUEUE_TEXT_MAX);
		}
		break;
	case STORE_QUEUE_HOLD:
		r->is_held = true;
		r->reason = cut(c->reason, STORE_QUEUE_TEXT_MAX);
		break;
	case STORE_QUEUE_RELEASE:
		if (r->is_held)
			r->next = c->next;
		r->is_held = false;
		r->reason = slice_of(NULL, 0);
		break;
	case STORE_QUEUE_RETRY:
		if (!r->is_held)
			r->next = c->next;
		break;
	}
}

int store_queue_change(struct store_txn *txn, const struct store_queue_change *c)
{
	struct store_queue_recipient old, r;
	struct db_key key = db_key_u64_u32(c->message, c->number);
	struct slice value;
	struct buf copy = {0};
	int err = db_get(txn, DB_QUEUE_TO, db_key_view(&key), &value);

	if (err)
		return err;
	buf_add_slice(&copy, value); /* writes move the map's rows */
	err = queue_record_unpack_recipient(buf_view(&copy), &old);
	old.message = c->message;
	old.number = c->number;
	if (!err && c->how == STORE_QUEUE_END) {
		err = end_recipient(txn, &old);
	} else if (!err) {
		r = old;
		apply(&r, c);
		if (!old.is_held)
			err = drop_waiting(txn, &old);
		if (!err)
			err = put_recipient(txn, &r);
		if (!err && !r.is_held)
			err = put_waiting(txn, &r);
		if (!err && r.is_held != old.is_held) {
			err = count(txn, old.is_held, -1);
			if (!err)
				err = count(txn, r.is_held, 1);
		}
	}
	buf_deinit(&copy);
	return err;
}

/* Out of both indexes. */
static int unlist(struct store_txn *txn, const struct store_queue_place *place, struct slice destination)
{
	struct store_queue_recipient r = {.message = place->message,
		.number = place->number,
		.next = place->time,
		.destination = destination};

	return drop_waiting(txn, &r);
}

/* Its row cannot be read, or is not there: it counts as held, since it waits for an operator. */
static int unlist_unreadable(
	struct store_txn *txn, const struct store_queue_place *place, struct slice destination)
{
	struct db_key key = db_key_u64_u32(place->message, place->number);
	struct slice value;
	int err = unlist(txn, place, destination);

	if (!err)
		err = count(txn, false, -1);
	if (!err && db_get(txn, DB_QUEUE_TO, db_key_view(&key), &value) == 0)
		err = count(txn, true, 1);
	return err;
}

int store_queue_set_aside(struct store_txn *txn, const struct store_queue_place *place,
	struct slice destination, struct slice reason)
{
	struct queue_record_key due = queue_record_due(place);
	struct store_queue_change hold = {.how = STORE_QUEUE_HOLD,
		.message = place->message,
		.number = place->number,
		.reason = reason};
	struct store_queue_recipient r;
	struct slice value;
	int err = db_get(txn, DB_QUEUE_DUE, key_view(&due), &value);

	if (err)
		return err;
	err = store_queue_get_recipient(txn, place->message, place->number, &r);
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
		return unlist_unreadable(txn, place, destination);
	if (err)
		return err;
	if (!r.is_held && r.next == place->time && slice_is_equal(r.destination, destination))
		return store_queue_change(txn, &hold);
	return unlist(txn, place, destination);
}

/* ---- reading ---- */

int store_queue_get(struct store_txn *txn, uint64_t message, struct store_queue_message *message_out)
{
	struct db_key key = db_key_u64(message);
	struct slice value;
	int err = db_get(txn, DB_QUEUE, db_key_view(&key), &value);

	if (!err)
		err = queue_record_unpack_message(value, message_out);
	if (!err)
		message_out->id = message;
	return err;
}

int store_queue_get_recipient(
	struct store_txn *txn, uint64_t message, uint32_t number, struct store_queue_recipient *out)
{
	struct db_key key = db_key_u64_u32(message, number);
	struct slice value;
	int err = db_get(txn, DB_QUEUE_TO, db_key_view(&key), &value);

	if (!err)
		err = queue_record_unpack_recipient(value, out);
	if (!err) {
		out->message = message;
		out->number = number;
	}
	return err;
}

int store_queue_read(struct store_txn *txn, const struct store_queue_message *m, uint64_t offset, void *data,
	size_t len, size_t *len_out)
{
	return blob_read(txn, m->blob, m->skip + offset, data, len, len_out);
}

int store_queue_due(struct store_txn *txn, const struct store_queue_place *from, uint64_t until,
	store_queue_due_fn *fn, void *arg)
{
	struct queue_record_key key = queue_record_due(from);
	struct store_queue_place place;
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_QUEUE_DUE, &c);

	if (err)
		return err;
	for (err = db_cursor_seek(&c, key_view(&key)); !err; err = db_cursor_next(&c)) {
		if (!queue_record_place(c.key, &place))
			continue;
		if (place.time > until || !fn(arg, &place, c.value))
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_queue_is_due(struct store_txn *txn, const struct store_queue_place *place, bool *is_due_out)
{
	struct queue_record_key key = queue_record_due(place);
	struct slice value;
	int err = db_get(txn, DB_QUEUE_DUE, key_view(&key), &value);

	if (err && err != ERR_NOT_FOUND)
		return err;
	*is_due_out = !err;
	return 0;
}

int store_queue_due_of(struct store_txn *txn, struct slice destination, const struct store_queue_place *from,
	uint64_t until, store_queue_due_fn *fn, void *arg)
{
	struct queue_record_key key;
	struct store_queue_place place;
	struct db_cursor c;
	int err;

	if (destination.len > STORE_QUEUE_DESTINATION_MAX)
		return 0;
	key = queue_record_of(destination, from);
	err = db_cursor_open(txn, DB_QUEUE_OF, &c);
	if (err)
		return err;
	for (err = db_cursor_seek(&c, key_view(&key)); !err; err = db_cursor_next(&c)) {
		if (c.key.len != key.len ||
			!db_cursor_has_prefix(&c, slice_of(key.bytes, destination.len + 1)) ||
			!queue_record_place(c.key, &place) || place.time > until ||
			!fn(arg, &place, destination))
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_queue_next(struct store_txn *txn, uint64_t *time_out)
{
	struct db_cursor c;
	struct store_queue_place place;
	int err = db_cursor_open(txn, DB_QUEUE_DUE, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, slice_of("", 1));
	if (!err && !queue_record_place(c.key, &place))
		err = ERR_CORRUPT;
	db_cursor_close(&c);
	if (!err)
		*time_out = place.time;
	return err;
}

int store_queue_each(
	struct store_txn *txn, uint64_t message, uint32_t number, store_queue_each_fn *fn, void *arg)
{
	struct db_key key = db_key_u64_u32(message, number);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_QUEUE_TO, &c);

	if (err)
		return err;
	for (err = db_cursor_seek(&c, db_key_view(&key)); !err; err = db_cursor_next(&c)) {
		struct store_queue_recipient r;

		if (c.key.len != 12 || queue_record_unpack_recipient(c.value, &r))
			continue;
		r.message = bytes_get_u64be(c.key.p);
		r.number = bytes_get_u32be(c.key.p + 8);
		if (!fn(arg, &r))
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_queue_stat(struct store_txn *txn, struct store_queue_stat *out)
{
	struct store_queue_message m = {0};
	struct db_cursor c;
	int err = db_meta_get(txn, "queue_waiting", &out->waiting);

	if (!err)
		err = db_meta_get(txn, "queue_held", &out->held);
	if (!err)
		err = db_count(txn, DB_QUEUE, &out->messages);
	if (!err)
		err = db_cursor_open(txn, DB_QUEUE, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, slice_of("", 1));
	if (!err && queue_record_unpack_message(c.value, &m))
		m.arrived = 0;
	db_cursor_close(&c);
	out->oldest = m.arrived;
	return err == ERR_NOT_FOUND ? 0 : err;
}
