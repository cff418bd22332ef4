/*
 * QUOTA (RFC 9208): one root "" an account, over all its mailboxes, with STORAGE (in units of 1,024 octets)
 * and MESSAGE. Limits are the operator's: SETQUOTA is refused.
 */
#include "backend/session/imap_name.h"

#include "backend/store/store_account.h"
#include "common/proto/imap_write.h"

struct quota_data {
	struct slice name; /* of GETQUOTAROOT */
	bool has_name;
};

static uint64_t to_units(uint64_t octets)
{
	return octets / 1024 + (octets % 1024 != 0);
}

static void write_quota(struct buf *out, const struct store_account_record *record)
{
	const char *blank = "";

	buf_add_str(out, "* QUOTA \"\" (");
	if (record->bytes_limit) {
		buf_printf(out, "STORAGE %llu %llu", (unsigned long long)to_units(record->bytes_used),
			(unsigned long long)(record->bytes_limit / 1024));
		blank = " ";
	}
	if (record->count_limit) {
		buf_printf(out, "%sMESSAGE %llu %llu", blank, (unsigned long long)record->count_used,
			(unsigned long long)record->count_limit);
	}
	buf_add_str(out, ")\r\n");
}

/* Without a limit there is no root. */
static bool has_limit(const struct store_account_record *record)
{
	return record->bytes_limit || record->count_limit;
}

static int quota_run(struct imap_session *s, struct store_txn *txn)
{
	struct quota_data *d = s->data;
	struct store_account_record record;
	struct store_mailbox mailbox = {.account = imap_access_account(s)};
	int err = 0;

	if (d->has_name)
		err = imap_access_find(s, txn, d->name, IMAP_RIGHT_READ, &mailbox);
	if (err == 0)
		err = store_account_get(txn, mailbox.account, &record);
	if (err < 0)
		return err;
	if (d->has_name) {
		buf_add_str(&s->out, "* QUOTAROOT ");
		imap_name_write(s, &s->out, mailbox.name);
		buf_add_str(&s->out, has_limit(&record) ? " \"\"\r\n" : "\r\n");
	}
	if (!has_limit(&record))
		return d->has_name ? 0 : ERR_NOT_FOUND;
	write_quota(&s->out, &record);
	return 0;
}

static void quota_done(struct imap_session *s, int err)
{
	const struct quota_data *d = s->data;

	if (err == ERR_NOT_FOUND && !d->has_name)
		imap_answer(s, "NO", "NONEXISTENT", "There is no quota");
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
	if (command->count != 1 || imap_parse_astring(command->args, &root) < 0)
		imap_bad(s, "GETQUOTA wants a quota root");
	else if (root.len)
		imap_answer(s, "NO", "NONEXISTENT", "No such quota root");
	else
		imap_read(s, quota_run, quota_done);
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
	d->has_name = true;
	if (imap_name_read(s, command->args, &s->arena, &d->name) < 0)
		imap_fail(s, ERR_NOT_FOUND);
	else {
		imap_access_go(s, d->name);
		imap_read(s, quota_run, quota_done);
	}
}

void imap_cmd_setquota(struct imap_session *s, const struct imap_command *command)
{
	if (command->count != 2 || command->args->next->type != IMAP_ARG_LIST)
		imap_bad(s, "SETQUOTA wants a quota root and a list");
	else
		imap_answer(s, "NO", "NOPERM", "Quotas are set by the operator");
}
