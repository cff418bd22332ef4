/*
 * Records of the queue as bytes, little-endian.
 *
 *	message:    1 | ret u8 | flags u16 | skip u32 | blob u64 | size u64 | arrived u64 | sender u16+ | envid u16+ | session u16+ | user u16+
 *	recipient:  1 | state u8 (1 held, 2 warned) | notify u8 | 0 u8 | tries u32 | next u64 | address u16+ | destination u16+ |
 *	            orcpt u16+ | trace u16+ | reason u16+ | status u16+ | remote u16+ | text u16+
 *
 * u16+ is a length and as many bytes.
 */
#include "backend/store/queue_record.h"

#define RECORD_1 1
#define STATE_HELD 1
#define STATE_WARNED 2
#define MESSAGE_HEAD 32
#define RECIPIENT_HEAD 16

static void add_text(struct buf *out, struct slice text)
{
	char len[2];

	bytes_put_u16(len, (uint16_t)text.len);
	buf_add(out, len, sizeof(len));
	buf_add_slice(out, text);
}

/* False: it is not whole. */
static bool take_text(struct slice *in, struct slice *text_out)
{
	size_t len;

	if (in->len < 2)
		return false;
	len = bytes_get_u16(in->p);
	if (in->len - 2 < len)
		return false;
	*text_out = slice_sub(*in, 2, len);
	*in = slice_from(*in, 2 + len);
	return true;
}

static int take_texts(struct slice in, struct slice *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!take_text(&in, texts[i]))
			return ERR_CORRUPT;
	return in.len ? ERR_CORRUPT : 0;
}

void queue_record_pack_message(const struct store_queue_message *m, struct buf *out)
{
	char head[MESSAGE_HEAD] = {RECORD_1, (char)m->ret};

	bytes_put_u16(head + 2, (uint16_t)m->flags);
	bytes_put_u32(head + 4, m->skip);
	bytes_put_u64(head + 8, m->blob);
	bytes_put_u64(head + 16, m->size);
	bytes_put_u64(head + 24, m->arrived);
	buf_add(out, head, sizeof(head));
	add_text(out, m->sender);
	add_text(out, m->envid);
	add_text(out, m->session);
	add_text(out, m->user);
}

int queue_record_unpack_message(struct slice value, struct store_queue_message *out)
{
	struct store_queue_message m = {0};
	struct slice *const texts[] = {&m.sender, &m.envid, &m.session, &m.user};
	int err;

	if (value.len < MESSAGE_HEAD || value.p[0] != RECORD_1)
		return ERR_CORRUPT;
	m.ret = (uint8_t)value.p[1];
	m.flags = bytes_get_u16(value.p + 2);
	m.skip = bytes_get_u32(value.p + 4);
	m.blob = bytes_get_u64(value.p + 8);
	m.size = bytes_get_u64(value.p + 16);
	m.arrived = bytes_get_u64(value.p + 24);
	err = take_texts(slice_from(value, MESSAGE_HEAD), texts, ARRAY_LEN(texts));
	if (!err)
		*out = m;
	return err;
}

void queue_record_pack_recipient(const struct store_queue_recipient *r, struct buf *out)
{
	char head[RECIPIENT_HEAD] = {RECORD_1};

	head[1] = (char)((r->is_held ? STATE_HELD : 0) | (r->is_warned ? STATE_WARNED : 0));
	head[2] = (char)r->notify;
	bytes_put_u32(head + 4, r->tries);
	bytes_put_u64(head + 8, r->next);
	buf_add(out, head, sizeof(head));
	add_text(out, r->address);
	add_text(out, r->destination);
	add_text(out, r->orcpt);
	add_text(out, r->trace);
	add_text(out, r->reason);
	add_text(out, r->status);
	add_text(out, r->remote);
	add_text(out, r->text);
}

int queue_record_unpack_recipient(struct slice value, struct store_queue_recipient *out)
{
	struct store_queue_recipient r = {0};
	struct slice *const texts[] = {
		&r.address, &r.destination, &r.orcpt, &r.trace, &r.reason, &r.status, &r.remote, &r.text};
	int err;

	if (value.len < RECIPIENT_HEAD || value.p[0] != RECORD_1)
		return ERR_CORRUPT;
	r.is_held = value.p[1] & STATE_HELD;
	r.is_warned = value.p[1] & STATE_WARNED;
	r.notify = (uint8_t)value.p[2];
	r.tries = bytes_get_u32(value.p + 4);
	r.next = bytes_get_u64(value.p + 8);
	err = take_texts(slice_from(value, RECIPIENT_HEAD), texts, ARRAY_LEN(texts));
	if (!err && r.destination.len > STORE_QUEUE_DESTINATION_MAX)
		err = ERR_CORRUPT;
	if (!err)
		*out = r;
	return err;
}

static void put_place(char *to, const struct store_queue_place *place)
{
	bytes_put_u64be(to, place->time);
	bytes_put_u64be(to + 8, place->message);
	bytes_put_u32be(to + 16, place->number);
}

struct queue_record_key queue_record_due(const struct store_queue_place *place)
{
	struct queue_record_key k = {.len = QUEUE_RECORD_PLACE};

	put_place(k.bytes, place);
	return k;
}

struct queue_record_key queue_record_of(struct slice destination, const struct store_queue_place *place)
{
	struct queue_record_key k = {.len = destination.len + 1 + QUEUE_RECORD_PLACE};

	require(destination.len <= STORE_QUEUE_DESTINATION_MAX);
	if (destination.len)
		memcpy(k.bytes, destination.p, destination.len);
	k.bytes[destination.len] = '\0';
	put_place(k.bytes + destination.len + 1, place);
	return k;
}

bool queue_record_place(struct slice key, struct store_queue_place *place_out)
{
	const char *p;

	if (key.len < QUEUE_RECORD_PLACE)
		return false;
	p = key.p + key.len - QUEUE_RECORD_PLACE;
	*place_out = (struct store_queue_place){
		bytes_get_u64be(p), bytes_get_u64be(p + 8), bytes_get_u32be(p + 16)};
	return true;
}
