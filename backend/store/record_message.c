/*
 * The record of a message, little-endian.
 *
 *	3 | flags u8 (1: UIDL is made, 2: ENVELOPE squeezed, 4: BODYSTRUCTURE squeezed) | blob u64 | size u32 | date i64 |
 *	    numbers: trace, uidl, envelope, bodystructure, parts, keys (lengths); those two opened, if they are squeezed;
 *	    email, saved - date (signed) | made: UIDVALIDITY u32 | the six texts in this order
 *	2 | 0 u8 | trace u16 | uidl u16 | envelope u32 | bodystructure u32 | parts u32 |
 *	    blob u64 | size u64 | date i64 | saved i64 | keys u32 | email u64 | the six texts in this order
 *	1: the same without keys and email
 *
 * Numbers are seven bits an octet, the lowest first, the highest bit says that there are more; signed ones fold their sign into the
 * lowest bit. A UIDL is made when it is UIDVALIDITY and UID in hexadecimal digits. Blob, size and date have their places, where the
 * repair finds them when something else is damaged.
 */
#include "backend/store/record.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_1_HEAD 50
#define MESSAGE_2_HEAD 62
#define UIDL_IS_MADE 1
#define ENVELOPE_IS_SQUEEZED 2
#define STRUCTURE_IS_SQUEEZED 4
#define MESSAGE_3_HEAD 22
#define NUMBERS 10

/*
 * What ENVELOPE and BODYSTRUCTURE are squeezed with; what is most often in them stands at the end. Stored records need it as it is: it
 * never changes. Another one would need another flag.
 */
static const char dict[] = "(\"audio\" \"mpeg\" (\"name\" \"(\"image\" \"jpeg\" (\"name\" \"(\"image\" "
			   "\"gif\" (\"name\" \"(\"image\" \"png\" "
			   "(\"name\" \"(\"message\" \"rfc822\" NIL NIL NIL \"(\"application\" "
			   "\"octet-stream\" (\"name\" \"(\"application\" \"pdf\" "
			   "(\"name\" \"(\"application\" \"pgp-signature\" (\"attachment\" (\"filename\" "
			   "\"(\"inline\" (\"filename\" \"\"flowed\" "
			   "\"delsp\" \"yes\" \"related\" (\"type\" \"text/html\" \"boundary\" \" \"report\" "
			   "(\"report-type\" \"delivery-status\" \" "
			   "\"signed\" (\"micalg\" \"protocol\" \")(\"text\" \"html\" (\"charset\" "
			   "\"iso-8859-1\") NIL NIL \"8bit\" (\"text\" \"plain\" "
			   "(\"charset\" \"us-ascii\" \"format\" \"flowed\") NIL NIL \"quoted-printable\" "
			   "(\"text\" \"html\" (\"charset\" \"utf-8\") NIL "
			   "NIL \"base64\"  NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"----=_NextPart_000_ "
			   "NIL NIL NIL NIL) \"alternative\" (\"boundary\" "
			   "\"--\") NIL NIL NIL)(\"Mon, Jan 20(\"Tue, Feb 20(\"Wed, Mar 20(\"Thu, Apr "
			   "20(\"Fri, May 20(\"Sat, Jun 20(\"Sun, Jul 20 Aug 20 "
			   "Sep 20 Oct 20 Nov 20 Dec 20 -0500\" \" -0400\" \" -0700\" \" +0200\" \" +0100\" "
			   "\" +0000\" \"Re: Fwd: =?utf-8?Q?=?utf-8?B?"
			   "@gmail.com> \" \"gmail.com\")) ((\"yahoo.com\")) ((\"example.com\")) ((NIL NIL "
			   "\"\")) ((\"\" NIL \")) NIL NIL \"<.com>\" "
			   "\"<.net>\")\")) NIL NIL NIL \"< NIL NIL NIL NIL)(\"text\" \"plain\" (\"charset\" "
			   "\"us-ascii\") NIL NIL \"7bit\" (\"text\" "
			   "\"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" ";

void record_text_dict(struct squeeze_dict *dict_out)
{
	squeeze_dict_init(dict_out, slice_of(dict, sizeof(dict) - 1));
}

struct store_text record_text_squeeze(const struct squeeze_dict *d, struct slice text, struct buf *squeezed)
{
	buf_clear(squeezed);
	squeeze(d, text, squeezed);
	if (squeezed->failed || buf_len(squeezed) >= text.len)
		return (struct store_text){text, text.len, false};
	return (struct store_text){buf_view(squeezed), text.len, true};
}

int store_text_add(const struct store_text *t, struct buf *out)
{
	if (t->is_squeezed)
		return squeeze_open(slice_of(dict, sizeof(dict) - 1), t->bytes, t->len, out);
	buf_add_slice(out, t->bytes);
	return out->failed ? ERR_TOO_BIG : 0;
}

int store_text_view(const struct store_text *t, struct buf *room, struct slice *text_out)
{
	int err = 0;

	if (t->is_squeezed) {
		buf_clear(room);
		err = store_text_add(t, room);
	}
	*text_out = err ? slice_of(NULL, 0) : t->is_squeezed ? buf_view(room) : t->bytes;
	return err;
}

struct slice store_message_uidl(const struct store_message *m, char room[STORE_UIDL_MADE])
{
	if (m->uidl.len)
		return m->uidl;
	snprintf(room, STORE_UIDL_MADE, "%08x%08x", (unsigned)m->uidvalidity, (unsigned)m->uid);
	return slice_str(room);
}

void record_set_uidl(struct store_message *m, struct slice uidl)
{
	struct store_message made = {.uid = m->uid};
	char room[STORE_UIDL_MADE] = "";

	m->uidl = uidl;
	if (uidl.len != 16)
		return;
	memcpy(room, uidl.p, 8);
	made.uidvalidity = (uint32_t)strtoul(room, NULL, 16);
	if (slice_is_equal(store_message_uidl(&made, room), uidl)) {
		m->uidl = slice_of(NULL, 0);
		m->uidvalidity = made.uidvalidity;
	}
}

/* ---- numbers ---- */

static uint64_t fold_sign(int64_t n)
{
	return (uint64_t)n << 1 ^ (n < 0 ? UINT64_MAX : 0);
}

static int64_t unfold_sign(uint64_t n)
{
	return (int64_t)(n >> 1 ^ (n & 1 ? UINT64_MAX : 0));
}

static size_t number_size(uint64_t n)
{
	size_t size = 1;

	while (n >>= 7)
		size++;
	return size;
}

static char *put_number(char *at, uint64_t n)
{
	for (; n > 0x7f; n >>= 7)
		*at++ = (char)(n | 0x80);
	*at++ = (char)n;
	return at;
}

/* NULL: it does not end before `end`, or is too large. */
static const char *take_number(const char *at, const char *end, uint64_t *n_out)
{
	uint64_t n = 0;

	for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
		uint64_t bits = (unsigned char)*at & 0x7f;

		if (shift == 63 && bits > 1)
			return NULL;
		n |= bits << shift;
		if (!(*at++ & 0x80)) {
			*n_out = n;
			return at;
		}
	}
	return NULL;
}

/* ---- packing ---- */

/* Those at the record's head, in their order. */
static size_t numbers_of(const struct store_message *m, uint64_t numbers[NUMBERS])
{
	const struct store_texts *t = &m->texts;
	size_t n = 0;

	numbers[n++] = m->trace.len;
	numbers[n++] = m->uidl.len;
	numbers[n++] = t->envelope.bytes.len;
	numbers[n++] = t->bodystructure.bytes.len;
	numbers[n++] = t->parts.len;
	numbers[n++] = t->keys.len;
	if (t->envelope.is_squeezed)
		numbers[n++] = t->envelope.len;
	if (t->bodystructure.is_squeezed)
		numbers[n++] = t->bodystructure.len;
	numbers[n++] = m->email;
	numbers[n++] = fold_sign((int64_t)((uint64_t)m->save_date - (uint64_t)m->date));
	return n;
}

size_t record_message_size(const struct store_message *m)
{
	uint64_t numbers[NUMBERS];
	size_t count = numbers_of(m, numbers), size = MESSAGE_3_HEAD + (m->uidl.len ? 0 : 4);

	for (size_t i = 0; i < count; i++)
		size += number_size(numbers[i]);
	return size + m->trace.len + m->uidl.len + m->texts.envelope.bytes.len +
	       m->texts.bodystructure.bytes.len + m->texts.parts.len + m->texts.keys.len;
}

static char *put_text(char *at, struct slice s)
{
	if (s.len)
		memcpy(at, s.p, s.len);
	return at + s.len;
}

void record_pack_message(const struct store_message *m, char *out)
{
	uint64_t numbers[NUMBERS];
	size_t count = numbers_of(m, numbers);

	out[0] = 3;
	out[1] = (char)((m->uidl.len ? 0 : UIDL_IS_MADE) |
			(m->texts.envelope.is_squeezed ? ENVELOPE_IS_SQUEEZED : 0) |
			(m->texts.bodystructure.is_squeezed ? STRUCTURE_IS_SQUEEZED : 0));
	bytes_put_u64(out + 2, m->blob);
	bytes_put_u32(out + 10, (uint32_t)m->size);
	bytes_put_u64(out + 14, (uint64_t)m->date);
	out += MESSAGE_3_HEAD;
	for (size_t i = 0; i < count; i++)
		out = put_number(out, numbers[i]);
	if (!m->uidl.len) {
		bytes_put_u32(out, m->uidvalidity);
		out += 4;
	}
	out = put_text(out, m->trace);
	out = put_text(out, m->uidl);
	out = put_text(out, m->texts.envelope.bytes);
	out = put_text(out, m->texts.bodystructure.bytes);
	out = put_text(out, m->texts.parts);
	put_text(out, m->texts.keys);
}

/* ---- unpacking ---- */

/* The six texts after the head, and nothing else; `lengths` in their order. */
static int take_texts(const char *at, const char *end, const uint64_t lengths[6], struct store_message *m)
{
	struct slice *texts[] = {&m->trace, &m->uidl, &m->texts.envelope.bytes, &m->texts.bodystructure.bytes,
		&m->texts.parts, &m->texts.keys};

	for (size_t i = 0; i < 6; i++) {
		if (lengths[i] > (uint64_t)(end - at))
			return ERR_CORRUPT;
		*texts[i] = slice_of(at, (size_t)lengths[i]);
		at += lengths[i];
	}
	return at != end || m->size < m->trace.len || m->size > UINT32_MAX ? ERR_CORRUPT : 0;
}

static int unpack_old(struct slice value, struct store_message *m)
{
	bool has_keys = value.p[0] == 2;
	size_t size = has_keys ? MESSAGE_2_HEAD : MESSAGE_1_HEAD;
	const char *head = value.p;
	uint64_t lengths[6];
	int err;

	if (value.len < size)
		return ERR_CORRUPT;
	lengths[0] = bytes_get_u16(head + 2);
	lengths[1] = bytes_get_u16(head + 4);
	lengths[2] = bytes_get_u32(head + 6);
	lengths[3] = bytes_get_u32(head + 10);
	lengths[4] = bytes_get_u32(head + 14);
	lengths[5] = has_keys ? bytes_get_u32(head + 50) : 0;
	m->blob = bytes_get_u64(head + 18);
	m->size = bytes_get_u64(head + 26);
	m->date = (int64_t)bytes_get_u64(head + 34);
	m->save_date = (int64_t)bytes_get_u64(head + 42);
	m->email = has_keys ? bytes_get_u64(head + 54) : 0;
	m->uidvalidity = 0;
	err = take_texts(head + size, head + value.len, lengths, m);
	m->texts.envelope.len = m->texts.envelope.bytes.len;
	m->texts.bodystructure.len = m->texts.bodystructure.bytes.len;
	m->texts.envelope.is_squeezed = m->texts.bodystructure.is_squeezed = false;
	return err;
}

static int unpack_new(struct slice value, struct store_message *m)
{
	const char *at = value.p + MESSAGE_3_HEAD, *end = value.p + value.len;
	unsigned flags = value.len > MESSAGE_3_HEAD ? (unsigned char)value.p[1] : UINT8_MAX;
	bool envelope = flags & ENVELOPE_IS_SQUEEZED, structure = flags & STRUCTURE_IS_SQUEEZED;
	size_t count = NUMBERS - !envelope - !structure, n = 6;
	uint64_t numbers[NUMBERS];

	if (flags & ~(UIDL_IS_MADE | ENVELOPE_IS_SQUEEZED | STRUCTURE_IS_SQUEEZED))
		return ERR_CORRUPT;
	for (size_t i = 0; i < count; i++) {
		at = take_number(at, end, &numbers[i]);
		if (!at)
			return ERR_CORRUPT;
	}
	m->uidvalidity = 0;
	if (flags & UIDL_IS_MADE) {
		if (end - at < 4 || numbers[1])
			return ERR_CORRUPT;
		m->uidvalidity = bytes_get_u32(at);
		at += 4;
	}
	m->texts.envelope.is_squeezed = envelope;
	m->texts.bodystructure.is_squeezed = structure;
	m->texts.envelope.len = envelope ? numbers[n++] : numbers[2];
	m->texts.bodystructure.len = structure ? numbers[n++] : numbers[3];
	m->blob = bytes_get_u64(value.p + 2);
	m->size = bytes_get_u32(value.p + 10);
	m->date = (int64_t)bytes_get_u64(value.p + 14);
	m->email = numbers[n++];
	m->save_date = (int64_t)((uint64_t)m->date + (uint64_t)unfold_sign(numbers[n++]));
	if (m->texts.envelope.len > STORE_TEXT_MAX || m->texts.bodystructure.len > STORE_TEXT_MAX)
		return ERR_CORRUPT;
	return take_texts(at, end, numbers, m);
}

int record_unpack_message(struct slice value, struct store_message *m)
{
	if (value.len == 0 || value.p[0] < 1 || value.p[0] > 3)
		return ERR_CORRUPT;
	return value.p[0] == 3 ? unpack_new(value, m) : unpack_old(value, m);
}
