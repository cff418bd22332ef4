/*
 * QUOTA (RFC 9208). The root "" is the user's account, over all its mailboxes; a folder with limits for itself and all below
 * is a root of its name, one with limits for its own messages a root of "=" and its name. Of other accounts only roots that
 * are folders are told, to those who may read these. Limits are the operator's: QUOTASET is not offered.
 */
#include "backend/session/imap_core.h"

#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"
#include "backend/store/store_account.h"
#include "backend/store/store_quota.h"

#define FOLDER_ALONE '='

struct quota_data {
	struct slice name; /* of GETQUOTAROOT: the mailbox; of GETQUOTA: the root's folder, "" the account */
	bool is_alone;     /* GETQUOTA: of the folder's own messages */
	bool is_absent;    /* there is no such mailbox: what would hold for it? (RFC 9208 section 4.1.2) */
};

static uint64_t to_units(uint64_t octets)
{
	return octets / 1024 + (octets % 1024 != 0);
}

/* ---- a QUOTA response ---- */

struct line {
	struct buf *out;
	bool has_any;
};

static void add(struct line *l, const char *resource, uint64_t used, uint64_t limit)
{
	buf_printf(l->out, "%s%s %llu %llu", l->has_any ? " " : "", resource, (unsigned long long)used,
		(unsigned long long)limit);
	l->has_any = true;
}

static void write_root(struct imap_session *s, struct buf *out, bool is_alone, struct slice name)
{
	struct buf text = {0};

	if (is_alone)
		buf_add_char(&text, FOLDER_ALONE);
	buf_add_slice(&text, name);
	imap_name_write(s, out, buf_view(&text));
	buf_deinit(&text);
}

static struct line open_line(struct imap_session *s, struct buf *out, bool is_alone, struct slice name)
{
	buf_add_str(out, "* QUOTA ");
	write_root(s, out, is_alone, name);
	buf_add_str(out, " (");
	return (struct line){.out = out};
}

static int write_account(struct imap_session *s, struct store_txn *txn, struct buf *out)
{
	struct line l = open_line(s, out, false, SLICE_LIT(""));
	struct store_account_record record;
	struct store_quota q = {0};
	uint32_t mailboxes = 0;
	int err = store_account_get(txn, s->account, &record);

	if (err == 0)
		err = store_quota_count_mailboxes(txn, s->account, SLICE_LIT(""), &mailboxes);
	if (err == 0)
		err = store_quota_get(txn, s->account, 0, &q);
	if (err < 0 && err != ERR_NOT_FOUND)
		return err;
	if (record.bytes_limit)
		add(&l, "STORAGE", to_units(record.bytes_used), record.bytes_limit / 1024);
	if (record.count_limit)
		add(&l, "MESSAGE", record.count_used, record.count_limit);
	/* Never unlimited: section 3.2 wants inherent limits told. */
	add(&l, "MAILBOX", mailboxes, q.mailboxes_limit ? q.mailboxes_limit : STORE_MAILBOXES_MAX);
	buf_add_str(out, ")\r\n");
	return 0;
}

static int write_folder(struct imap_session *s, struct store_txn *txn, uint32_t account, struct slice folder,
	struct slice shown, const struct store_quota *q, struct buf *out)
{
	struct line l = open_line(s, out, false, shown);
	uint32_t mailboxes = 0;
	int err = q->mailboxes_limit ? store_quota_count_mailboxes(txn, account, folder, &mailboxes) : 0;

	if (q->bytes_limit)
		add(&l, "STORAGE", to_units(q->bytes_used), q->bytes_limit / 1024);
	if (q->count_limit)
		add(&l, "MESSAGE", q->count_used, q->count_limit);
	if (q->mailboxes_limit)
		add(&l, "MAILBOX", mailboxes, q->mailboxes_limit);
	buf_add_str(out, ")\r\n");
	return err;
}

static void write_alone(struct imap_session *s, const struct store_mailbox *m, struct slice shown,
	const struct store_quota *q, struct buf *out)
{
	struct line l = open_line(s, out, true, shown);

	if (q->folder_bytes_limit)
		add(&l, "STORAGE", to_units(m->size), q->folder_bytes_limit / 1024);
	if (q->folder_count_limit)
		add(&l, "MESSAGE", m->messages, q->folder_count_limit);
	buf_add_str(out, ")\r\n");
}

static bool is_alone_limited(const struct store_quota *q)
{
	return q->folder_bytes_limit || q->folder_count_limit;
}

/* ---- GETQUOTAROOT ---- */

struct roots {
	struct imap_session *s;
	struct store_txn *txn;
	uint32_t account;
	struct slice name;   /* in its account */
	struct slice prefix; /* of the account's names, as this session sees them */
	struct buf line, quotas;
};

static int add_root(void *arg, uint32_t mailbox, struct slice name, const struct store_quota *q)
{
	struct roots *r = arg;
	struct store_mailbox m;
	struct buf shown = {0};
	unsigned rights = 0;
	int err;

	if (!mailbox)
		return 0; /* in write_account() */
	err = store_mailbox_get(r->txn, r->account, mailbox, &m);
	if (err == 0)
		err = imap_access_rights(r->s, r->txn, &m, &rights);
	if (err < 0 || !(rights & IMAP_RIGHT_READ))
		return err;
	buf_add_slice(&shown, r->prefix);
	buf_add_slice(&shown, name);
	if (store_quota_is_root(q)) {
		buf_add_char(&r->line, ' ');
		write_root(r->s, &r->line, false, buf_view(&shown));
		err = write_folder(r->s, r->txn, r->account, name, buf_view(&shown), q, &r->quotas);
	}
	if (is_alone_limited(q) && slice_is_equal(name, r->name)) {
		buf_add_char(&r->line, ' ');
		write_root(r->s, &r->line, true, buf_view(&shown));
		write_alone(r->s, &m, buf_view(&shown), q, &r->quotas);
	}
	buf_deinit(&shown);
	return err;
}

static int roots_run(struct imap_session *s, struct store_txn *txn)
{
	struct quota_data *d = s->data;
	struct store_mailbox mailbox = {.account = s->account, .name = d->name};
	struct roots r = {.s = s, .txn = txn};
	struct imap_place place;
	int err = d->is_absent ? 0 : imap_access_find(s, txn, d->name, IMAP_RIGHT_READ, &mailbox);

	if (err < 0)
		return err;
	imap_access_resolve(s, d->name, &place);
	r.account = mailbox.account;
	r.name = place.is_foreign ? place.rest : mailbox.name;
	r.prefix = slice_sub(d->name, 0, place.is_foreign ? d->name.len - place.rest.len : 0);
	buf_add_str(&r.line, "* QUOTAROOT ");
	imap_name_write(s, &r.line, d->name);
	if (!place.is_foreign) {
		buf_add_str(&r.line, " \"\"");
		err = write_account(s, txn, &r.quotas);
	}
	/* Of a name of others that is none, nothing is known. */
	if (err == 0 && !(d->is_absent && place.is_foreign))
		err = store_quota_above(txn, r.account, r.name, add_root, &r);
	if (err == 0) {
		buf_add_slice(&s->out, buf_view(&r.line));
		buf_add_str(&s->out, "\r\n");
		buf_add_slice(&s->out, buf_view(&r.quotas));
	}
	buf_deinit(&r.line);
	buf_deinit(&r.quotas);
	return err;
}

static void roots_done(struct imap_session *s, int err)
{
	struct quota_data *d = s->data;

	if (err == ERR_NOT_FOUND && !d->is_absent && !imap_access_is_foreign(d->name)) {
		d->is_absent = true;
		s->at_slot = s->slot;
		imap_read(s, roots_run, roots_done);
	} else if (err < 0) {
		imap_fail(s, err);
	} else {
		imap_ok(s);
	}
}

void imap_cmd_getquotaroot(struct imap_session *s, const struct imap_command *command)
{
	struct quota_data *d = imap_data(s, sizeof(*d));

	if (!d)
		return;
	if (command->count != 1 || imap_parse_astring(command->args, &d->name) < 0) {
		imap_bad(s, "GETQUOTAROOT wants a mailbox name");
		return;
	}
	if (imap_name_read(s, command->args, &s->arena, &d->name) < 0) {
		imap_fail(s, ERR_NOT_FOUND);
		return;
	}
	imap_access_go(s, d->name);
	imap_read(s, roots_run, roots_done);
}

/* ---- GETQUOTA ---- */

static int quota_run(struct imap_session *s, struct store_txn *txn)
{
	const struct quota_data *d = s->data;
	struct store_mailbox mailbox;
	struct imap_place place;
	struct store_quota q;
	int err;

	if (d->name.len == 0)
		return write_account(s, txn, &s->out);
	err = imap_access_find(s, txn, d->name, IMAP_RIGHT_READ, &mailbox);
	if (err == 0)
		err = store_quota_get(txn, mailbox.account, mailbox.id, &q);
	if (err == 0 && !(d->is_alone ? is_alone_limited(&q) : store_quota_is_root(&q)))
		err = ERR_NOT_FOUND;
	if (err < 0)
		return err;
	if (!d->is_alone)
		imap_access_resolve(s, d->name, &place);
	if (!d->is_alone)
		return write_folder(s, txn, mailbox.account, place.rest, d->name, &q, &s->out);
	write_alone(s, &mailbox, d->name, &q, &s->out);
	return 0;
}

static void quota_done(struct imap_session *s, int err)
{
	/* A root that may not be read is told from none as little as a mailbox is. */
	if (err == ERR_NOT_FOUND || err == ERR_FORBIDDEN || err == ERR_DENIED)
		imap_answer(s, "NO", "NONEXISTENT", "No such quota root");
	else if (err < 0)
		imap_fail(s, err);
	else
		imap_ok(s);
}

void imap_cmd_getquota(struct imap_session *s, const struct imap_command *command)
{
	struct quota_data *d = imap_data(s, sizeof(*d));
	struct slice root;

	if (!d)
		return;
	if (command->count != 1 || imap_parse_astring(command->args, &root) < 0) {
		imap_bad(s, "GETQUOTA wants a quota root");
		return;
	}
	if (root.len && root.p[0] == FOLDER_ALONE) {
		d->is_alone = true;
		root = slice_from(root, 1);
	}
	if (imap_name_decode(s, root, &s->arena, &d->name) < 0 || (d->is_alone && d->name.len == 0)) {
		quota_done(s, ERR_NOT_FOUND);
		return;
	}
	if (d->name.len)
		imap_access_go(s, d->name);
	imap_read(s, quota_run, quota_done);
}

/* ---- SETQUOTA ---- */

void imap_cmd_setquota(struct imap_session *s, const struct imap_command *command)
{
	if (command->count != 2 || command->args->next->type != IMAP_ARG_LIST)
		imap_bad(s, "SETQUOTA wants a quota root and a list");
	else
		imap_answer(s, "NO", "NOPERM", "Quotas are set by the operator");
}
