/*
 *	1 u8 | flags u8 (1 date, 2 reply) | sent i64 | id u64 | n u16 | length u16 [6] | preview u16 |
 *	reference u64 [n] | the six texts | preview
 *
 * Little-endian. A message id is the hash of its normal form (RFC 5256: quotes undone). Two ids with one hash
 * would put two strange messages into one thread, which whoever writes References can have anyway.
 */
#include "common/proto/mail_keys.h"

#include "common/base/bytes.h"
#include "common/base/table.h"
#include "common/proto/address.h"
#include "common/proto/date.h"
#include "common/proto/encoded_word.h"
#include "common/proto/fold.h"
#include "common/proto/subject.h"

#define VERSION 1
#define HEAD (20 + 2 * MAIL_KEYS + 2)
#define HAS_DATE 1
#define IS_REPLY 2
#define ID_MAX 2000
/* Of an address field, enough for its first address. */
#define FIRST_MAX 8192

/* ---- message ids ---- */

/* The next "<local@domain>"; false at the end. Takes it off the text. */
static bool next_id(struct slice *text, uint64_t *id_out)
{
	char id[ID_MAX];

	for (;;) {
		const char *open = text->len ? memchr(text->p, '<', text->len) : NULL;
		bool is_quoted = false, has_at = false;
		size_t n = 0, i = 1;

		if (!open)
			return false;
		*text = slice_from(*text, (size_t)(open - text->p));
		for (; i < text->len && n < sizeof(id); i++) {
			char c = text->p[i];

			if (c == '"') {
				is_quoted = !is_quoted;
			} else if (c == '\\' && is_quoted && i + 1 < text->len) {
				id[n++] = text->p[++i];
			} else if (!is_quoted && (c == '>' || c == '<')) {
				break;
			} else if (is_quoted || !(c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
				has_at |= c == '@' && n > 0;
				id[n++] = c;
			}
		}
		*text = slice_from(*text, i);
		if (i == 0 || !has_at || text->len == 0 || text->p[0] != '>' || id[n - 1] == '@')
			continue;
		*id_out = hash_bytes(slice_of(id, n), 0);
		if (*id_out == 0)
			*id_out = 1;
		return true;
	}
}

struct references {
	uint64_t ids[MAIL_KEYS_REFERENCES_MAX];
	size_t count;
};

static void read_references(const struct envelope *e, struct references *r)
{
	struct slice text = e->references;
	uint64_t id;

	while (next_id(&text, &id)) {
		if (r->count == MAIL_KEYS_REFERENCES_MAX)
			memmove(&r->ids[1], &r->ids[2], (--r->count - 1) * sizeof(id));
		r->ids[r->count++] = id;
	}
	text = e->in_reply_to;
	if (r->count == 0 && next_id(&text, &id))
		r->ids[r->count++] = id;
}

/* ---- texts ---- */

/* Folded, cut between characters. */
static void add_folded(struct slice utf8, struct buf *out)
{
	size_t start = buf_len(out), len = MAIL_KEYS_TEXT_MAX;
	struct slice folded;

	fold_text(utf8, out);
	folded = slice_from(buf_view(out), start);
	if (folded.len <= len)
		return;
	while (len && ((unsigned char)folded.p[len] & 0xc0) == 0x80)
		len--;
	buf_cut(out, start + len);
}

static int first_address(struct arena *arena, struct slice value, struct address *address_out)
{
	struct address *list;
	size_t count = 0;
	int err = value.len ? address_parse_list(arena, slice_sub(value, 0, FIRST_MAX), &list, &count) : 0;

	if (err < 0)
		return err;
	*address_out = count ? list[0] : (struct address){.kind = ADDRESS_GROUP_END};
	return 0;
}

/* addr-mailbox of ENVELOPE: of a group its name. */
static struct slice mailbox_of(const struct address *a)
{
	return a->kind == ADDRESS_GROUP_BEGIN ? a->name : a->local;
}

static void add_display(const struct address *a, struct buf *out)
{
	struct buf text = {0};

	if (a->kind == ADDRESS_MAILBOX && a->name.len)
		encoded_word_decode(a->name, &text);
	if (buf_len(&text) == 0) {
		buf_add_slice(&text, mailbox_of(a));
		if (a->kind == ADDRESS_MAILBOX) {
			buf_add_char(&text, '@');
			buf_add_slice(&text, a->domain);
		}
	}
	add_folded(buf_view(&text), out);
	buf_deinit(&text);
}

static int add_texts(const struct envelope *e, struct arena *arena, bool *is_reply_out, struct buf *out,
	uint16_t lengths[MAIL_KEYS])
{
	struct address from = {0}, to = {0}, cc = {0};
	struct buf subject = {0};
	int err = first_address(arena, e->from, &from);

	if (err == 0)
		err = first_address(arena, e->to, &to);
	if (err == 0)
		err = first_address(arena, e->cc, &cc);
	if (err < 0)
		return err;
	subject_base(e->subject, &subject, is_reply_out);
	for (unsigned i = 0; i < MAIL_KEYS; i++) {
		size_t start = buf_len(out);

		switch ((enum mail_key)i) {
		case MAIL_KEY_SUBJECT:
			add_folded(buf_view(&subject), out);
			break;
		case MAIL_KEY_FROM:
			add_folded(mailbox_of(&from), out);
			break;
		case MAIL_KEY_TO:
			add_folded(mailbox_of(&to), out);
			break;
		case MAIL_KEY_CC:
			add_folded(mailbox_of(&cc), out);
			break;
		case MAIL_KEY_DISPLAY_FROM:
			if (from.kind != ADDRESS_GROUP_END)
				add_display(&from, out);
			break;
		case MAIL_KEY_DISPLAY_TO:
			if (to.kind != ADDRESS_GROUP_END)
				add_display(&to, out);
			break;
		}
		lengths[i] = (uint16_t)(buf_len(out) - start);
	}
	buf_deinit(&subject);
	return 0;
}

/* ---- packing ---- */

int mail_keys_pack(const struct envelope *e, struct slice preview, struct arena *arena, struct buf *out)
{
	static const struct envelope none;
	const struct envelope *at = e ? e : &none;
	struct references references = {.count = 0};
	uint16_t lengths[MAIL_KEYS];
	struct buf texts = {0};
	bool is_reply = false, has_date;
	struct slice id_text = at->message_id;
	struct date date = {0};
	uint64_t id = 0;
	char *room;
	int err = add_texts(at, arena, &is_reply, &texts, lengths);

	preview = slice_sub(preview, 0, UINT16_MAX);
	read_references(at, &references);
	(void)next_id(&id_text, &id);
	has_date = at->date.len && date_parse_rfc5322(at->date, &date) == 0;
	room = err == 0 ? buf_reserve(out, HEAD + references.count * 8) : NULL;
	if (room) {
		room[0] = VERSION;
		room[1] = (char)((has_date ? HAS_DATE : 0) | (is_reply ? IS_REPLY : 0));
		bytes_put_u64(room + 2, (uint64_t)date.unix_s);
		bytes_put_u64(room + 10, id);
		bytes_put_u16(room + 18, (uint16_t)references.count);
		for (unsigned i = 0; i < MAIL_KEYS; i++)
			bytes_put_u16(room + 20 + 2 * i, lengths[i]);
		bytes_put_u16(room + 20 + 2 * MAIL_KEYS, (uint16_t)preview.len);
		for (size_t i = 0; i < references.count; i++)
			bytes_put_u64(room + HEAD + 8 * i, references.ids[i]);
		buf_added(out, HEAD + references.count * 8);
		buf_add_slice(out, buf_view(&texts));
		buf_add_slice(out, preview);
	}
	buf_deinit(&texts);
	return err < 0 ? err : (out->failed ? ERR_TOO_BIG : 0);
}

static bool take(struct slice *left, size_t n, struct slice *out)
{
	if (left->len < n)
		return false;
	*out = slice_sub(*left, 0, n);
	*left = slice_from(*left, n);
	return true;
}

int mail_keys_unpack(struct slice packed, struct mail_keys *keys_out)
{
	struct slice left = packed, head, references;
	struct mail_keys k;

	if (!take(&left, HEAD, &head) || head.p[0] != VERSION)
		return ERR_CORRUPT;
	k.has_date = head.p[1] & HAS_DATE;
	k.is_reply = head.p[1] & IS_REPLY;
	k.sent = (int64_t)bytes_get_u64(head.p + 2);
	k.id = bytes_get_u64(head.p + 10);
	k.reference_count = bytes_get_u16(head.p + 18);
	if (!take(&left, k.reference_count * 8, &references))
		return ERR_CORRUPT;
	k.references = references.p;
	for (unsigned i = 0; i < MAIL_KEYS; i++) {
		if (!take(&left, bytes_get_u16(head.p + 20 + 2 * i), &k.texts[i]))
			return ERR_CORRUPT;
	}
	if (!take(&left, bytes_get_u16(head.p + 20 + 2 * MAIL_KEYS), &k.preview) || left.len)
		return ERR_CORRUPT;
	*keys_out = k;
	return 0;
}

uint64_t mail_keys_reference(const struct mail_keys *keys, size_t i)
{
	return bytes_get_u64(keys->references + 8 * i);
}
