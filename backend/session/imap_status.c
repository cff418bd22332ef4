/* One row an item; each knows how to find its number. */
#include "backend/session/imap_status.h"

#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_object.h"
#include "common/proto/imap_write.h"

typedef int value_fn(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out);

static bool is_guest(const struct imap_session *s, const struct store_txn *txn, const struct store_mailbox *m)
{
	return m->account != s->account || store_txn_slot(txn) != s->slot;
}

static int messages(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)s;
	(void)txn;
	*n_out = m->messages;
	return 0;
}

uint32_t imap_status_recent_from(const struct imap_session *s, const struct store_mailbox *m)
{
	uint32_t claimed = store_work_claimed(s->service->work, s->at_slot, m->id);

	return m->recent_from > claimed ? m->recent_from : claimed + 1;
}

static int recent(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	uint32_t n = 0;
	int err = 0;

	if (!is_guest(s, txn, m)) /* others take none */
		err = store_mailbox_count_recent(txn, m->account, m->id, imap_status_recent_from(s, m), &n);

	if (err == 0)
		*n_out = n;
	return err;
}

static int uidnext(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)s;
	(void)txn;
	*n_out = m->uidnext;
	return 0;
}

static int uidvalidity(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)s;
	(void)txn;
	*n_out = m->uidvalidity;
	return 0;
}

static int unseen(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	uint32_t n = m->unseen;
	int err = 0;

	if (is_guest(s, txn, m))
		err = store_seen_count(txn, m->id, imap_access_who(s), &n);
	*n_out = n;
	return err;
}

static int modseq(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	uint64_t n = 0;
	int err = is_guest(s, txn, m) ? store_seen_modseq(txn, m->id, imap_access_who(s), &n) : 0;

	*n_out = n > m->modseq ? n : m->modseq;
	return err;
}

static int size(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)s;
	(void)txn;
	*n_out = m->size;
	return 0;
}

static int deleted(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)s;
	(void)txn;
	*n_out = m->deleted;
	return 0;
}

/* RFC 9208 section 4.1.4: octets that an EXPUNGE would give back. */
static int deleted_storage(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	struct store_scan scan;
	struct store_entry entry;
	uint64_t sum = 0;
	int err;

	(void)s;
	if (m->deleted) {
		err = store_scan_begin(&scan, txn, m->id, 1);
		if (err < 0)
			return err;
		while (store_scan_next(&scan, &entry))
			sum += entry.flags & STORE_DELETED ? entry.size : 0;
		err = scan.error;
		store_scan_end(&scan);
		if (err < 0)
			return err;
	}
	*n_out = sum;
	return 0;
}

/* RFC 7889: the same for all mailboxes. */
static int appendlimit(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *m, uint64_t *n_out)
{
	(void)txn;
	(void)m;
	*n_out = s->limits.append_size;
	return 0;
}

static const struct {
	const char *name;
	value_fn *value; /* NULL: MAILBOXID, which is no number */
} rows[] = {
	{"MESSAGES", messages},
	{"RECENT", recent},
	{"UIDNEXT", uidnext},
	{"UIDVALIDITY", uidvalidity},
	{"UNSEEN", unseen},
	{"HIGHESTMODSEQ", modseq},
	{"SIZE", size},
	{"MAILBOXID", NULL},
	{"DELETED", deleted},
	{"DELETED-STORAGE", deleted_storage},
	{"APPENDLIMIT", appendlimit},
};

int imap_status_parse(const struct imap_arg *list, unsigned *items_out)
{
	unsigned items = 0;

	if (!list || list->type != IMAP_ARG_LIST || !list->first)
		return ERR_SYNTAX;
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next) {
		size_t i = 0;

		while (i < ARRAY_LEN(rows) && !imap_parse_is_word(arg, rows[i].name))
			i++;
		if (i == ARRAY_LEN(rows))
			return ERR_SYNTAX;
		items |= 1u << i;
	}
	*items_out = items;
	return 0;
}

unsigned imap_status_item(const char *name)
{
	size_t i = 0;

	while (strcmp(rows[i].name, name) != 0)
		i++;
	return 1u << i;
}

bool imap_status_has_modseq(unsigned items)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (items & 1u << i && rows[i].value == modseq)
			return true;
	}
	return false;
}

int imap_status_write(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox,
	struct slice name, unsigned items)
{
	const char *blank = "";

	buf_add_str(&s->out, "* STATUS ");
	imap_name_write(s, &s->out, name);
	buf_add_str(&s->out, " (");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t n = 0;
		int err;

		if (!(items & 1u << i))
			continue;
		err = rows[i].value ? rows[i].value(s, txn, mailbox, &n) : 0;
		if (err < 0)
			return err;
		buf_printf(&s->out, "%s%s ", blank, rows[i].name);
		blank = " ";
		if (rows[i].value) {
			buf_add_u64(&s->out, n);
		} else {
			buf_add_char(&s->out, '(');
			imap_object_mailbox(imap_access_created(s, store_txn_slot(txn), mailbox->account),
				mailbox->uidvalidity, &s->out);
			buf_add_char(&s->out, ')');
		}
	}
	buf_add_str(&s->out, ")\r\n");
	return 0;
}
