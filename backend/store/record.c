/*
 * Records as bytes, little-endian. That of a message: record_message.c.
 *
 *	account:  2 | flags u32 | created i64 | policy | address u16+ | password u16+ | class u16+ | name u16+ | forwards u16+
 *	          1 | flags u32 | bytes u64 | count u64 | created i64 | address u16+ | password u16+ (a limit of 0: the account says none)
 *	policy:   says u32 | bytes u64 | count u64 | protocols u8 | suspended mail u8 | suspended u8 | 0 u8
 *	domain:   1 | 0 u8 | 0 u16 | accounts u32 | bytes u64 | count u64 | policy | class u16+ | catch-all u16+ | postmaster u16+ | aliases u16+
 *	class:    1 | policy
 *	folder:   1 | use u8 | flags u8 (1 noselect) | name u16+ | keywords u8, each u8+
 *	blob:     2 | 0 u8 | inline u16 | refs u32 | size u32 | stored u32 |
 *	          per frame (one for 128 KiB of size): length u32, xxh3 u64 | the stream's first bytes
 *	          1 | flags u8 (1: the whole stream is inline) | 0 u16 | refs u32 | size u64 | stored u64 | frames u32 | 0 u32 | the same
 *
 * u16+ is a length and as many bytes.
 */
#include "backend/store/record.h"

#include "backend/store/quota.h"

#define RECORD_1 1
#define RECORD_2 2

/* A reader that never leaves its bytes; `bad` sticks. */
struct reader {
	struct slice left;
	bool bad;
};

static const char *take(struct reader *r, size_t n)
{
	const char *p = r->left.p;

	if (r->bad || r->left.len < n) {
		r->bad = true;
		return NULL;
	}
	r->left = slice_from(r->left, n);
	return p;
}

static uint8_t take_u8(struct reader *r)
{
	const char *p = take(r, 1);

	return p ? (uint8_t)*p : 0;
}

static uint16_t take_u16(struct reader *r)
{
	const char *p = take(r, 2);

	return p ? bytes_get_u16(p) : 0;
}

static uint32_t take_u32(struct reader *r)
{
	const char *p = take(r, 4);

	return p ? bytes_get_u32(p) : 0;
}

static uint64_t take_u64(struct reader *r)
{
	const char *p = take(r, 8);

	return p ? bytes_get_u64(p) : 0;
}

static struct slice take_bytes(struct reader *r, size_t n)
{
	const char *p = take(r, n);

	return slice_of(p, p ? n : 0);
}

static void add_u16(struct buf *out, uint16_t n)
{
	char b[2];

	bytes_put_u16(b, n);
	buf_add(out, b, 2);
}

static void add_u32(struct buf *out, uint32_t n)
{
	char b[4];

	bytes_put_u32(b, n);
	buf_add(out, b, 4);
}

static void add_u64(struct buf *out, uint64_t n)
{
	char b[8];

	bytes_put_u64(b, n);
	buf_add(out, b, 8);
}

/* ---- accounts ---- */

static void add_text(struct buf *out, struct slice text)
{
	add_u16(out, (uint16_t)text.len);
	buf_add_slice(out, text);
}

static struct slice take_text(struct reader *in)
{
	return take_bytes(in, take_u16(in));
}

static void add_policy(struct buf *out, const struct store_policy *p)
{
	add_u32(out, p->says);
	add_u64(out, p->bytes_limit);
	add_u64(out, p->count_limit);
	buf_add_char(out, (char)p->protocols);
	buf_add_char(out, (char)p->suspended_mail);
	buf_add_char(out, p->is_suspended);
	buf_add_char(out, 0);
}

static struct store_policy take_policy(struct reader *in)
{
	struct store_policy p = {.says = take_u32(in)};

	p.bytes_limit = take_u64(in);
	p.count_limit = take_u64(in);
	p.protocols = take_u8(in);
	p.suspended_mail = take_u8(in);
	p.is_suspended = take_u8(in) != 0;
	(void)take_u8(in);
	in->bad |= (p.says & ~STORE_SAYS_ALL) || (p.protocols & ~STORE_PROTOCOLS_ALL) ||
		   p.suspended_mail > STORE_MAIL_REFUSED;
	return p;
}

void record_pack_account(const struct account_record *r, struct buf *out)
{
	buf_add_char(out, RECORD_2);
	add_u32(out, r->flags);
	add_u64(out, (uint64_t)r->created);
	add_policy(out, &r->policy);
	add_text(out, r->address);
	add_text(out, r->password);
	add_text(out, r->class);
	add_text(out, r->name);
	add_text(out, r->forwards);
}

/* Before there were levels a limit of 0 was none, and nobody could say otherwise. */
static void take_account_1(struct reader *in, struct account_record *r)
{
	r->flags = take_u32(in);
	r->policy.bytes_limit = take_u64(in);
	r->policy.count_limit = take_u64(in);
	r->policy.says = (r->policy.bytes_limit ? STORE_SAYS_BYTES : 0) |
			 (r->policy.count_limit ? STORE_SAYS_COUNT : 0);
	r->created = (int64_t)take_u64(in);
	r->address = take_text(in);
	r->password = take_text(in);
}

static void take_account_2(struct reader *in, struct account_record *r)
{
	r->flags = take_u32(in);
	r->created = (int64_t)take_u64(in);
	r->policy = take_policy(in);
	r->address = take_text(in);
	r->password = take_text(in);
	r->class = take_text(in);
	r->name = take_text(in);
	r->forwards = take_text(in);
}

int record_unpack_account(struct slice value, struct account_record *r_out)
{
	struct reader in = {value, false};
	struct account_record r = {0};
	uint8_t version = take_u8(&in);

	if (version != RECORD_1 && version != RECORD_2)
		return ERR_CORRUPT;
	if (version == RECORD_1)
		take_account_1(&in, &r);
	else
		take_account_2(&in, &r);
	if (in.bad || in.left.len)
		return ERR_CORRUPT;
	*r_out = r;
	return 0;
}

int record_pack_domain(const struct store_domain *d, struct buf *out)
{
	size_t before = buf_len(out);

	if (d->class.len + d->catch_all.len + d->postmaster.len + d->aliases.len > RECORD_DOMAIN_MAX)
		return ERR_TOO_BIG;
	buf_add_char(out, RECORD_1);
	buf_add_char(out, 0);
	add_u16(out, 0);
	add_u32(out, d->accounts_most);
	add_u64(out, d->bytes_most);
	add_u64(out, d->count_most);
	add_policy(out, &d->policy);
	add_text(out, d->class);
	add_text(out, d->catch_all);
	add_text(out, d->postmaster);
	add_text(out, d->aliases);
	return buf_len(out) - before > RECORD_DOMAIN_MAX ? ERR_TOO_BIG : 0;
}

int record_unpack_domain(struct slice name, struct slice value, struct store_domain *d_out)
{
	struct reader in = {value, false};
	struct store_domain d = {.name = name};

	if (take_u8(&in) != RECORD_1)
		return ERR_CORRUPT;
	(void)take_u8(&in);
	(void)take_u16(&in);
	d.accounts_most = take_u32(&in);
	d.bytes_most = take_u64(&in);
	d.count_most = take_u64(&in);
	d.policy = take_policy(&in);
	d.class = take_text(&in);
	d.catch_all = take_text(&in);
	d.postmaster = take_text(&in);
	d.aliases = take_text(&in);
	if (in.bad || in.left.len || name.len == 0 || name.len > STORE_DOMAIN_MAX)
		return ERR_CORRUPT;
	*d_out = d;
	return 0;
}

void record_pack_class(const struct store_class *c, struct buf *out)
{
	buf_add_char(out, RECORD_1);
	add_policy(out, &c->policy);
}

int record_unpack_class(struct slice name, struct slice value, struct store_class *c_out)
{
	struct reader in = {value, false};
	struct store_class c = {.name = name};

	if (take_u8(&in) != RECORD_1)
		return ERR_CORRUPT;
	c.policy = take_policy(&in);
	if (in.bad || in.left.len || name.len == 0 || name.len > STORE_CLASS_MAX)
		return ERR_CORRUPT;
	*c_out = c;
	return 0;
}

#define ACCOUNT_STATE 48
#define MAILBOX_STATE 40

int state_get_account(struct store_txn *txn, uint32_t account, struct account_state *state_out)
{
	struct db_key key = db_key_u32_u32(account, 0);
	struct slice v;
	int err = txn->is_write && db_is_held(txn, account) ? ERR_NOT_NOW
							    : db_get(txn, DB_STATE, db_key_view(&key), &v);

	if (err)
		return err;
	if (v.len != ACCOUNT_STATE)
		return ERR_CORRUPT;
	*state_out = (struct account_state){
		.modseq = bytes_get_u64(v.p),
		.bytes = bytes_get_u64(v.p + 8),
		.count = bytes_get_u64(v.p + 16),
		.change_low = bytes_get_u64(v.p + 24),
		.change_rows = bytes_get_u32(v.p + 32),
		.uidvalidity = bytes_get_u32(v.p + 36),
		.mailboxes = bytes_get_u32(v.p + 40),
		.aliases = bytes_get_u32(v.p + 44),
	};
	return 0;
}

int state_put_account(struct store_txn *txn, uint32_t account, const struct account_state *s)
{
	struct db_key key = db_key_u32_u32(account, 0);
	struct effect used = {.kind = EFFECT_USED, .account = account, .bytes = s->bytes, .count = s->count};
	char v[ACCOUNT_STATE];

	bytes_put_u64(v, s->modseq);
	bytes_put_u64(v + 8, s->bytes);
	bytes_put_u64(v + 16, s->count);
	bytes_put_u64(v + 24, s->change_low);
	bytes_put_u32(v + 32, s->change_rows);
	bytes_put_u32(v + 36, s->uidvalidity);
	bytes_put_u32(v + 40, s->mailboxes);
	bytes_put_u32(v + 44, s->aliases);
	db_effect(txn, &used, slice_of(NULL, 0));
	return db_put(txn, DB_STATE, db_key_view(&key), slice_of(v, sizeof(v)));
}

int state_get_mailbox(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct mailbox_state *state_out)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice v;
	int err = mailbox == 0 ? ERR_NOT_FOUND : db_get(txn, DB_STATE, db_key_view(&key), &v);

	if (err)
		return err;
	if (v.len != MAILBOX_STATE)
		return ERR_CORRUPT;
	*state_out = (struct mailbox_state){
		.uidvalidity = bytes_get_u32(v.p),
		.uidnext = bytes_get_u32(v.p + 4),
		.messages = bytes_get_u32(v.p + 8),
		.unseen = bytes_get_u32(v.p + 12),
		.deleted = bytes_get_u32(v.p + 16),
		.recent_from = bytes_get_u32(v.p + 20),
		.size = bytes_get_u64(v.p + 24),
		.modseq = bytes_get_u64(v.p + 32),
	};
	return 0;
}

int state_put_mailbox(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct mailbox_state *s)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct mailbox_state before;
	char v[MAILBOX_STATE];
	int err = state_get_mailbox(txn, account, mailbox, &before);

	bool is_new = err == ERR_NOT_FOUND;

	if (err && !is_new)
		return err;
	bytes_put_u32(v, s->uidvalidity);
	bytes_put_u32(v + 4, s->uidnext);
	bytes_put_u32(v + 8, s->messages);
	bytes_put_u32(v + 12, s->unseen);
	bytes_put_u32(v + 16, s->deleted);
	bytes_put_u32(v + 20, s->recent_from);
	bytes_put_u64(v + 24, s->size);
	bytes_put_u64(v + 32, s->modseq);
	err = db_put(txn, DB_STATE, db_key_view(&key), slice_of(v, sizeof(v)));
	return err ? err : quota_changed(txn, account, mailbox, is_new ? NULL : &before, s);
}

/* ---- folders ---- */

void record_pack_folder(const struct folder_record *r, struct buf *out)
{
	buf_add_char(out, RECORD_1);
	buf_add_char(out, (char)r->use);
	buf_add_char(out, r->noselect ? 1 : 0);
	add_u16(out, (uint16_t)r->name.len);
	buf_add_slice(out, r->name);
	buf_add_char(out, (char)r->keywords.count);
	for (size_t i = 0; i < r->keywords.count; i++) {
		buf_add_char(out, (char)r->keywords.names[i].len);
		buf_add_slice(out, r->keywords.names[i]);
	}
}

int record_unpack_folder(struct slice value, struct folder_record *r)
{
	struct reader in = {value, false};
	uint8_t use, flags;

	if (take_u8(&in) != RECORD_1)
		return ERR_CORRUPT;
	use = take_u8(&in);
	flags = take_u8(&in);
	r->name = take_bytes(&in, take_u16(&in));
	r->keywords.count = take_u8(&in);
	if (use > STORE_USE_TRASH || flags > 1 || r->keywords.count > STORE_KEYWORDS_MAX)
		return ERR_CORRUPT;
	r->use = (enum store_use)use;
	r->noselect = flags & 1;
	for (size_t i = 0; i < r->keywords.count; i++)
		r->keywords.names[i] = take_bytes(&in, take_u8(&in));
	return in.bad || in.left.len ? ERR_CORRUPT : 0;
}

static char *put_text(char *at, struct slice s)
{
	if (s.len)
		memcpy(at, s.p, s.len);
	return at + s.len;
}

/* ---- blobs ---- */

size_t record_blob_size(const struct blob_record *r)
{
	return RECORD_BLOB_HEAD + (size_t)r->frame_count * RECORD_FRAME + r->inline_data.len;
}

void record_pack_blob(const struct blob_record *r, const struct blob_frame *frames, char *out)
{
	char *at = out + RECORD_BLOB_HEAD;

	out[0] = RECORD_2;
	out[1] = 0;
	bytes_put_u16(out + 2, (uint16_t)r->inline_data.len);
	bytes_put_u32(out + 4, r->refs);
	bytes_put_u32(out + 8, (uint32_t)r->size);
	bytes_put_u32(out + 12, (uint32_t)r->stored);
	for (uint32_t i = 0; i < r->frame_count; i++, at += RECORD_FRAME) {
		struct blob_frame f = frames ? frames[i] : record_blob_frame(r, i);

		bytes_put_u32(at, f.len);
		bytes_put_u64(at + 4, f.sum);
	}
	put_text(at, r->inline_data);
}

static uint32_t frames_of(uint64_t size)
{
	return (uint32_t)((size + STORE_FRAME_SIZE - 1) / STORE_FRAME_SIZE);
}

/* Gives the length of what is inline. */
static uint64_t take_blob_1(struct reader *in, struct blob_record *r)
{
	bool is_inline = take_u8(in) & 1;

	(void)take_u16(in);
	r->refs = take_u32(in);
	r->size = take_u64(in);
	r->stored = take_u64(in);
	r->frame_count = take_u32(in);
	(void)take_u32(in);
	in->bad |= r->frame_count != frames_of(r->size);
	return is_inline ? r->stored : 0;
}

static uint64_t take_blob_2(struct reader *in, struct blob_record *r)
{
	uint16_t len;

	(void)take_u8(in);
	len = take_u16(in);
	r->refs = take_u32(in);
	r->size = take_u32(in);
	r->stored = take_u32(in);
	r->frame_count = frames_of(r->size);
	in->bad |= len > r->stored;
	return len;
}

int record_unpack_blob(struct slice value, struct blob_record *r)
{
	struct reader in = {value, false};
	uint8_t version = take_u8(&in);
	uint64_t inline_len;

	if (version != RECORD_1 && version != RECORD_2)
		return ERR_CORRUPT;
	inline_len = version == RECORD_1 ? take_blob_1(&in, r) : take_blob_2(&in, r);
	if (in.bad || r->size > STORE_MESSAGE_MAX)
		return ERR_CORRUPT;
	r->frames = take(&in, (size_t)r->frame_count * RECORD_FRAME);
	r->inline_data = take_bytes(&in, inline_len);
	return in.bad || in.left.len ? ERR_CORRUPT : 0;
}

struct blob_frame record_blob_frame(const struct blob_record *r, uint32_t i)
{
	const char *at = r->frames + (size_t)i * RECORD_FRAME;

	return (struct blob_frame){bytes_get_u32(at), bytes_get_u64(at + 4)};
}
