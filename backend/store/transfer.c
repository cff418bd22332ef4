/*
 * Payloads, little-endian:
 *
 *	account  modseq u64 | change_low u64 | uidvalidity u32 | mailboxes u32 | messages u64 | bytes u64 | the record of the account
 *	mailbox  number u32 | uidvalidity u32 | uidnext u32 | recent u32 | modseq u64 | messages u32 | flags u32 (1 subscribed) |
 *	         size u64 | the record of the folder
 *	message  mailbox u32 | uid u32 | modseq u64 | date i64 | saved i64 | keywords u64 | email u64 | size u32 | flags u8 |
 *	         body u8 (kind; 128: shared) | uidl u8 | 0 u8 | trace u16 | 0 u16 | body number u64 | body size u64 | body sum u64 |
 *	         uidl | trace
 *	metadata mailbox u32 | owner u8 | person u16 | name u8 | person | name | value
 *	acl      mailbox u32 | rights u16 | denied u16 | person
 *	person   address | 0 u8 | created i64 (an address alone: of an older program)
 *	quota    mailbox u32 | mailboxes u32 | bytes u64 | messages u64 | the folder's own bytes u64 | and messages u64
 *	change   modseq u64 | mailbox u32 | kind u8 | owner u8 | ranges, a name, or an entry
 *	kept sum messages u64 | bytes u64
 *	gone     number u32 | time u32 | the record of the folder, or nothing
 *	kept     time u32 | 0 u32 | message
 */
#include "backend/store/transfer.h"

#include "common/base/log.h"

#define ACCOUNT_HEAD 40
#define MAILBOX_HEAD 40
#define MESSAGE_HEAD 88
#define CHANGE_HEAD 14
#define METADATA_HEAD 8
#define ACL_HEAD 8
#define QUOTA_PAYLOAD 40
#define SEEN_HEAD 10
#define KEPT_SUM_PAYLOAD 16
#define GONE_HEAD 8
#define KEPT_HEAD 8
/* Kinds of changes that later programs may log carry texts. */
#define CHANGE_KIND_MAX 63
#define RANGE 8
#define SHARED 128

void transfer_pack_account(const struct transfer_account *a, struct buf *out)
{
	char head[ACCOUNT_HEAD];

	bytes_put_u64(head, a->modseq);
	bytes_put_u64(head + 8, a->change_low);
	bytes_put_u32(head + 16, a->uidvalidity);
	bytes_put_u32(head + 20, a->mailboxes);
	bytes_put_u64(head + 24, a->messages);
	bytes_put_u64(head + 32, a->bytes);
	buf_add(out, head, sizeof(head));
	record_pack_account(&a->record, out);
}

int transfer_unpack_account(struct slice p, struct transfer_account *a)
{
	if (p.len < ACCOUNT_HEAD)
		return ERR_CORRUPT;
	*a = (struct transfer_account){
		.modseq = bytes_get_u64(p.p),
		.change_low = bytes_get_u64(p.p + 8),
		.uidvalidity = bytes_get_u32(p.p + 16),
		.mailboxes = bytes_get_u32(p.p + 20),
		.messages = bytes_get_u64(p.p + 24),
		.bytes = bytes_get_u64(p.p + 32),
	};
	if (a->modseq > TRANSFER_MODSEQ_MAX || a->change_low > a->modseq ||
		a->mailboxes > STORE_MAILBOXES_MAX || a->modseq - a->change_low > CHANGE_ROWS_MAX)
		return ERR_CORRUPT;
	return record_unpack_account(slice_from(p, ACCOUNT_HEAD), &a->record);
}

void transfer_pack_mailbox(const struct transfer_mailbox *m, struct buf *out)
{
	char head[MAILBOX_HEAD];

	bytes_put_u32(head, m->number);
	bytes_put_u32(head + 4, m->state.uidvalidity);
	bytes_put_u32(head + 8, m->state.uidnext);
	bytes_put_u32(head + 12, m->state.recent_from);
	bytes_put_u64(head + 16, m->state.modseq);
	bytes_put_u32(head + 24, m->state.messages);
	bytes_put_u32(head + 28, m->subscribed ? 1 : 0);
	bytes_put_u64(head + 32, m->state.size);
	buf_add(out, head, sizeof(head));
	record_pack_folder(&m->folder, out);
}

static bool are_keywords_good(const struct store_keywords *k)
{
	for (size_t i = 0; i < k->count; i++) {
		struct slice name = k->names[i];

		if (name.len == 0 || name.len > STORE_KEYWORD_LEN_MAX)
			return false;
		/* What IMAP takes as an atom. */
		for (size_t j = 0; j < name.len; j++)
			if ((unsigned char)name.p[j] <= ' ' || (unsigned char)name.p[j] >= 127 ||
				strchr("(){\"\\", name.p[j]))
				return false;
		for (size_t j = 0; j < i; j++)
			if (slice_is_equal_nocase(name, k->names[j]))
				return false;
	}
	return true;
}

int transfer_unpack_mailbox(struct slice p, struct transfer_mailbox *m)
{
	uint32_t flags;
	int err;

	if (p.len < MAILBOX_HEAD)
		return ERR_CORRUPT;
	*m = (struct transfer_mailbox){
		.number = bytes_get_u32(p.p),
		.state =
			{
				.uidvalidity = bytes_get_u32(p.p + 4),
				.uidnext = bytes_get_u32(p.p + 8),
				.recent_from = bytes_get_u32(p.p + 12),
				.modseq = bytes_get_u64(p.p + 16),
				.messages = bytes_get_u32(p.p + 24),
				.size = bytes_get_u64(p.p + 32),
			},
	};
	flags = bytes_get_u32(p.p + 28);
	m->subscribed = flags & 1;
	err = record_unpack_folder(slice_from(p, MAILBOX_HEAD), &m->folder);
	if (err)
		return err;
	if (flags > 1 || !are_keywords_good(&m->folder.keywords))
		return ERR_CORRUPT;
	if (m->folder.noselect)
		return m->state.messages || m->state.size ? ERR_CORRUPT : 0;
	return m->state.uidvalidity == 0 || m->state.uidnext == 0 ||
			       m->state.recent_from > m->state.uidnext ||
			       m->state.messages >= m->state.uidnext
		       ? ERR_CORRUPT
		       : 0;
}

void transfer_pack_message(const struct transfer_message *m, struct buf *out)
{
	char head[MESSAGE_HEAD] = {0};

	bytes_put_u32(head, m->mailbox);
	bytes_put_u32(head + 4, m->entry.uid);
	bytes_put_u64(head + 8, m->entry.modseq);
	bytes_put_u64(head + 16, (uint64_t)m->entry.date);
	bytes_put_u64(head + 24, (uint64_t)m->save_date);
	bytes_put_u64(head + 32, m->entry.keywords);
	bytes_put_u64(head + 40, m->email);
	bytes_put_u32(head + 48, m->entry.size);
	head[52] = (char)m->entry.flags;
	head[53] = (char)((int)m->body_kind | (m->is_shared ? SHARED : 0));
	head[54] = (char)m->uidl.len;
	bytes_put_u16(head + 56, (uint16_t)m->trace.len);
	bytes_put_u64(head + 64, m->body);
	bytes_put_u64(head + 72, m->body_size);
	bytes_put_u64(head + 80, m->body_sum);
	buf_add(out, head, sizeof(head));
	buf_add_slice(out, m->uidl);
	buf_add_slice(out, m->trace);
}

/* Printable characters of a POP3 unique-id (RFC 1939). */
static bool is_uidl_good(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] < 0x21 || (unsigned char)s.p[i] > 0x7e)
			return false;
	return s.len > 0 && s.len <= STORE_UIDL_MAX;
}

/* Whole lines, without NUL. */
static bool is_trace_good(struct slice s)
{
	return s.len <= STORE_TRACE_MAX && slice_find(s, '\0') < 0 &&
	       (s.len == 0 || (s.len >= 2 && memcmp(s.p + s.len - 2, "\r\n", 2) == 0));
}

static bool is_date_good(int64_t date)
{
	return date >= -TRANSFER_DATE_MAX && date <= TRANSFER_DATE_MAX;
}

int transfer_unpack_message(struct slice p, struct transfer_message *m)
{
	int kind;
	size_t uidl, trace;

	if (p.len < MESSAGE_HEAD)
		return ERR_CORRUPT;
	kind = (uint8_t)p.p[53] & ~SHARED;
	uidl = (uint8_t)p.p[54];
	trace = bytes_get_u16(p.p + 56);
	if (p.len != MESSAGE_HEAD + uidl + trace || kind < TRANSFER_FOLLOWS || kind > TRANSFER_KEPT)
		return ERR_CORRUPT;
	*m = (struct transfer_message){
		.mailbox = bytes_get_u32(p.p),
		.entry =
			{
				.uid = bytes_get_u32(p.p + 4),
				.modseq = bytes_get_u64(p.p + 8),
				.date = (int64_t)bytes_get_u64(p.p + 16),
				.keywords = bytes_get_u64(p.p + 32),
				.size = bytes_get_u32(p.p + 48),
				.flags = (uint8_t)p.p[52],
			},
		.save_date = (int64_t)bytes_get_u64(p.p + 24),
		.email = bytes_get_u64(p.p + 40),
		.body_kind = (enum transfer_body)kind,
		.is_shared = (uint8_t)p.p[53] & SHARED,
		.body = bytes_get_u64(p.p + 64),
		.body_size = bytes_get_u64(p.p + 72),
		.body_sum = bytes_get_u64(p.p + 80),
		.uidl = slice_sub(p, MESSAGE_HEAD, uidl),
		.trace = slice_sub(p, MESSAGE_HEAD + uidl, trace),
	};
	if (m->entry.flags > STORE_FLAGS_ALL || m->entry.uid == 0 || m->entry.modseq == 0 ||
		m->body_size > STORE_MESSAGE_MAX || m->entry.size != m->body_size + trace ||
		!is_date_good(m->entry.date) || !is_date_good(m->save_date) || !is_uidl_good(m->uidl) ||
		!is_trace_good(m->trace))
		return ERR_CORRUPT;
	return 0;
}

/* ---- deleted messages ---- */

void transfer_pack_kept_sum(const struct transfer_kept_sum *s, struct buf *out)
{
	char payload[KEPT_SUM_PAYLOAD];

	bytes_put_u64(payload, s->messages);
	bytes_put_u64(payload + 8, s->bytes);
	buf_add(out, payload, sizeof(payload));
}

int transfer_unpack_kept_sum(struct slice p, struct transfer_kept_sum *s)
{
	if (p.len != KEPT_SUM_PAYLOAD)
		return ERR_CORRUPT;
	*s = (struct transfer_kept_sum){bytes_get_u64(p.p), bytes_get_u64(p.p + 8)};
	return s->messages ? 0 : ERR_CORRUPT;
}

void transfer_pack_gone(const struct transfer_gone *g, struct buf *out)
{
	char head[GONE_HEAD];

	bytes_put_u32(head, g->number);
	bytes_put_u32(head + 4, g->time);
	buf_add(out, head, sizeof(head));
	if (g->time)
		record_pack_folder(&g->folder, out);
}

int transfer_unpack_gone(struct slice p, struct transfer_gone *g)
{
	if (p.len < GONE_HEAD)
		return ERR_CORRUPT;
	*g = (struct transfer_gone){.number = bytes_get_u32(p.p), .time = bytes_get_u32(p.p + 4)};
	if (!g->time)
		return p.len == GONE_HEAD ? 0 : ERR_CORRUPT;
	if (record_unpack_folder(slice_from(p, GONE_HEAD), &g->folder) || g->folder.noselect ||
		!are_keywords_good(&g->folder.keywords))
		return ERR_CORRUPT;
	return 0;
}

void transfer_pack_kept(const struct transfer_kept *k, struct buf *out)
{
	char head[KEPT_HEAD] = {0};

	bytes_put_u32(head, k->time);
	buf_add(out, head, sizeof(head));
	transfer_pack_message(&k->message, out);
}

int transfer_unpack_kept(struct slice p, struct transfer_kept *k)
{
	if (p.len < KEPT_HEAD || bytes_get_u32(p.p + 4) != 0)
		return ERR_CORRUPT;
	k->time = bytes_get_u32(p.p);
	return k->time ? transfer_unpack_message(slice_from(p, KEPT_HEAD), &k->message) : ERR_CORRUPT;
}

static bool is_text_good(struct slice s)
{
	return !slice_has_control(s) && slice_is_utf8(s);
}

/* ---- persons ---- */

#define CREATED_LEN 9
#define PERSON_MAX (STORE_ADDRESS_MAX + CREATED_LEN)

static size_t person_len(const struct transfer_person *p)
{
	return p->address.len ? p->address.len + CREATED_LEN : 0;
}

static void add_person(const struct transfer_person *p, struct buf *out)
{
	char created[CREATED_LEN] = {0};

	if (!p->address.len)
		return;
	buf_add_slice(out, p->address);
	bytes_put_u64(created + 1, (uint64_t)p->created);
	buf_add(out, created, sizeof(created));
}

static int take_person(struct slice s, struct transfer_person *p)
{
	ptrdiff_t end = slice_find(s, 0);

	*p = (struct transfer_person){.address = s};
	if (end >= 0) {
		if (end == 0 || s.len - (size_t)end != CREATED_LEN)
			return ERR_CORRUPT;
		p->address = slice_sub(s, 0, (size_t)end);
		p->created = (int64_t)bytes_get_u64(s.p + end + 1);
	}
	return p->address.len <= STORE_ADDRESS_MAX && is_text_good(p->address) ? 0 : ERR_CORRUPT;
}

int transfer_find_person(
	struct store *store, const struct transfer_person *person, struct store_account *account_out)
{
	int err = store_find_account(store, person->address, account_out);

	if (err || !person->created || person->created == account_out->created)
		return err;
	log_warn("store", "%s is another account now: what was shared with the former one is left out",
		account_out->address);
	return ERR_NOT_FOUND;
}

/* ---- what names them ---- */

void transfer_pack_metadata(const struct transfer_metadata *m, struct buf *out)
{
	char head[METADATA_HEAD];

	bytes_put_u32(head, m->mailbox);
	head[4] = (char)m->owner;
	bytes_put_u16(head + 5, (uint16_t)person_len(&m->other));
	head[7] = (char)m->name.len;
	buf_add(out, head, sizeof(head));
	add_person(&m->other, out);
	buf_add_slice(out, m->name);
	buf_add_slice(out, m->value);
}

int transfer_unpack_metadata(struct slice p, struct transfer_metadata *m)
{
	size_t address, name;

	if (p.len < METADATA_HEAD)
		return ERR_CORRUPT;
	address = bytes_get_u16(p.p + 5);
	name = (uint8_t)p.p[7];
	if (p.len < METADATA_HEAD + address + name ||
		p.len - METADATA_HEAD - address - name > STORE_METADATA_VALUE_MAX ||
		p.p[4] < TRANSFER_EVERYBODY || p.p[4] > TRANSFER_OTHER || address > PERSON_MAX ||
		(p.p[4] == TRANSFER_OTHER) != (address > 0))
		return ERR_CORRUPT;
	*m = (struct transfer_metadata){.mailbox = bytes_get_u32(p.p),
		.owner = (enum transfer_owner)p.p[4],
		.name = slice_sub(p, METADATA_HEAD + address, name),
		.value = slice_from(p, METADATA_HEAD + address + name)};
	if (m->value.len == 0)
		m->value = SLICE_LIT("");
	if (take_person(slice_sub(p, METADATA_HEAD, address), &m->other))
		return ERR_CORRUPT;
	if (name < 2 || m->name.p[0] != '/' || !is_text_good(m->name))
		return ERR_CORRUPT;
	for (size_t i = 0; i < name; i++)
		if (m->name.p[i] >= 'A' && m->name.p[i] <= 'Z')
			return ERR_CORRUPT;
	return 0;
}

void transfer_pack_acl(const struct transfer_acl *a, struct buf *out)
{
	char head[ACL_HEAD];

	bytes_put_u32(head, a->mailbox);
	bytes_put_u16(head + 4, a->rights);
	bytes_put_u16(head + 6, a->denied);
	buf_add(out, head, sizeof(head));
	add_person(&a->who, out);
}

int transfer_unpack_acl(struct slice p, struct transfer_acl *a)
{
	if (p.len < ACL_HEAD || p.len > ACL_HEAD + PERSON_MAX)
		return ERR_CORRUPT;
	*a = (struct transfer_acl){.mailbox = bytes_get_u32(p.p),
		.rights = bytes_get_u16(p.p + 4),
		.denied = bytes_get_u16(p.p + 6)};
	return (a->rights | a->denied) & ~STORE_RIGHTS_ALL || !(a->rights | a->denied) ||
			       take_person(slice_from(p, ACL_HEAD), &a->who)
		       ? ERR_CORRUPT
		       : 0;
}

void transfer_pack_seen(const struct transfer_seen *s, struct buf *out)
{
	char head[SEEN_HEAD];

	bytes_put_u32(head, s->mailbox);
	bytes_put_u32(head + 4, s->block);
	bytes_put_u16(head + 8, (uint16_t)person_len(&s->who));
	buf_add(out, head, sizeof(head));
	add_person(&s->who, out);
	buf_add_slice(out, s->row);
}

int transfer_unpack_seen(struct slice p, struct transfer_seen *s)
{
	size_t address = p.len < SEEN_HEAD ? 0 : bytes_get_u16(p.p + 8);

	if (address == 0 || address > PERSON_MAX || p.len < SEEN_HEAD + address)
		return ERR_CORRUPT;
	*s = (struct transfer_seen){.mailbox = bytes_get_u32(p.p),
		.block = bytes_get_u32(p.p + 4),
		.row = slice_from(p, SEEN_HEAD + address)};
	return take_person(slice_sub(p, SEEN_HEAD, address), &s->who);
}

void transfer_pack_quota(const struct transfer_quota *q, struct buf *out)
{
	char head[QUOTA_PAYLOAD];

	bytes_put_u32(head, q->mailbox);
	bytes_put_u32(head + 4, q->limits.mailboxes_limit);
	bytes_put_u64(head + 8, q->limits.bytes_limit);
	bytes_put_u64(head + 16, q->limits.count_limit);
	bytes_put_u64(head + 24, q->limits.folder_bytes_limit);
	bytes_put_u64(head + 32, q->limits.folder_count_limit);
	buf_add(out, head, sizeof(head));
}

int transfer_unpack_quota(struct slice p, struct transfer_quota *q)
{
	if (p.len != QUOTA_PAYLOAD)
		return ERR_CORRUPT;
	*q = (struct transfer_quota){.mailbox = bytes_get_u32(p.p),
		.limits = {.mailboxes_limit = bytes_get_u32(p.p + 4),
			.bytes_limit = bytes_get_u64(p.p + 8),
			.count_limit = bytes_get_u64(p.p + 16),
			.folder_bytes_limit = bytes_get_u64(p.p + 24),
			.folder_count_limit = bytes_get_u64(p.p + 32)}};
	/* Of the account the number of mailboxes alone; the others are its record's. */
	return q->mailbox == 0 && (q->limits.bytes_limit | q->limits.count_limit |
					  q->limits.folder_bytes_limit | q->limits.folder_count_limit)
		       ? ERR_CORRUPT
		       : 0;
}

void transfer_pack_change(const struct transfer_change *c, struct buf *out)
{
	char head[CHANGE_HEAD];

	bytes_put_u64(head, c->modseq);
	bytes_put_u32(head + 8, c->mailbox);
	head[12] = (char)c->kind;
	head[13] = (char)c->owner;
	buf_add(out, head, sizeof(head));
	buf_add_slice(out, c->rest);
}

static bool are_ranges_good(struct slice ranges)
{
	uint64_t last = 0;

	if (ranges.len % RANGE || ranges.len > CHANGE_RANGES_MAX * RANGE)
		return false;
	for (size_t at = 0; at < ranges.len; at += RANGE) {
		uint32_t first = bytes_get_u32(ranges.p + at), to = bytes_get_u32(ranges.p + at + 4);

		if (first == 0 || first <= last || to < first)
			return false;
		last = to;
	}
	return true;
}

int transfer_unpack_change(struct slice p, struct transfer_change *c)
{
	if (p.len < CHANGE_HEAD || p.p[12] < CHANGE_ADDED || p.p[12] > CHANGE_KIND_MAX ||
		p.p[13] < TRANSFER_EVERYBODY || p.p[13] > TRANSFER_OTHER)
		return ERR_CORRUPT;
	*c = (struct transfer_change){
		.modseq = bytes_get_u64(p.p),
		.mailbox = bytes_get_u32(p.p + 8),
		.kind = (enum change_kind)p.p[12],
		.owner = (enum transfer_owner)p.p[13],
		.rest = slice_from(p, CHANGE_HEAD),
	};
	if (c->kind <= CHANGE_EXPUNGED)
		return are_ranges_good(c->rest) ? 0 : ERR_CORRUPT;
	return c->rest.len <= STORE_MAILBOX_NAME_MAX && is_text_good(c->rest) ? 0 : ERR_CORRUPT;
}
