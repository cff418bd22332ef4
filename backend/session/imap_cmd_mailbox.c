/* CREATE (with USE, RFC 6154), DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE: one write job each. */
#include "backend/session/imap_access.h"

#include <stdio.h>

#include "backend/session/imap_name.h"
#include "backend/session/imap_object.h"
#include "backend/session/imap_use.h"

struct mailbox_data {
	struct slice name, given; /* as it is kept, as the client wrote it */
	struct slice new_name, new_given;
	enum store_use use;
	bool subscribe;
	uint32_t mailbox;  /* that was deleted */
	bool has_children; /* and therefore was not */
	char code[64];     /* of CREATE's OK */
};

static void mailbox_done(struct imap_session *s, int err)
{
	if (err < 0)
		imap_fail(s, err);
	else
		imap_ok(s);
}

/* The name of argument arg, checked and normalised; false: answered. */
static bool read_name(
	struct imap_session *s, const struct imap_arg *arg, struct slice *name_out, struct slice *given_out)
{
	struct slice name;
	int err;

	if (!arg || imap_parse_astring(arg, given_out) < 0) {
		imap_bad(s, "Wants a mailbox name");
		return false;
	}
	err = imap_name_read(s, arg, &s->arena, &name);
	if (err == 0)
		err = imap_access_name(s, name, &s->arena, name_out);
	if (err < 0) {
		imap_fail(s, err);
		return false;
	}
	return true;
}

/* ---- CREATE ---- */

static int create_run(struct imap_session *s, struct store_txn *txn)
{
	struct mailbox_data *d = s->data;
	struct store_mailbox mailbox;
	struct buf id = {0};
	struct slice rest;
	uint32_t account, number;
	int err = imap_access_new(s, txn, d->name, &account, &rest);

	if (err == 0)
		err = store_mailbox_create(txn, account, rest, d->use, &number);
	if (err == 0)
		err = store_mailbox_get(txn, account, number, &mailbox);
	if (err < 0)
		return err;
	imap_object_mailbox(imap_access_created(s, store_txn_slot(txn), account), mailbox.uidvalidity, &id);
	snprintf(d->code, sizeof(d->code), "MAILBOXID (%s)", buf_str_view(&id));
	buf_deinit(&id);
	imap_list_write_oldname(s, "", d->name, d->given, &s->out);
	return 0;
}

static void create_done(struct imap_session *s, int err)
{
	const struct mailbox_data *d = s->data;

	if (err == ERR_TOO_BIG) /* lengths of names were checked before */
		imap_answer(s, "NO", "OVERQUOTA", "There may be no more mailboxes");
	else if (err < 0)
		imap_fail(s, err);
	else
		imap_answer(s, "OK", d->code, "Created");
}

/* "(" "USE" "(" use ")" ")": ERR_UNSUPPORTED for a use that we do not keep, or more than one. */
static int read_use(const struct imap_arg *arg, enum store_use *use_out)
{
	const struct imap_arg *list;

	*use_out = STORE_USE_NONE;
	if (!arg)
		return 0;
	if (arg->type != IMAP_ARG_LIST || arg->next || !imap_parse_is_word(arg->first, "USE"))
		return ERR_SYNTAX;
	list = arg->first->next;
	if (!list || list->type != IMAP_ARG_LIST || list->next)
		return ERR_SYNTAX;
	if (!list->first)
		return 0;
	if (list->first->next)
		return ERR_UNSUPPORTED;
	if (list->first->type != IMAP_ARG_ATOM)
		return ERR_UNSUPPORTED;
	return imap_use_find(list->first->text, use_out);
}

void imap_cmd_create(struct imap_session *s, const struct imap_command *command)
{
	struct mailbox_data *d = imap_data(s, sizeof(*d));
	int err;

	if (!d || !read_name(s, command->args, &d->name, &d->given))
		return;
	err = read_use(command->args->next, &d->use);
	if (err == 0 && d->use != STORE_USE_NONE && imap_access_is_foreign(d->name))
		err = ERR_UNSUPPORTED; /* its owner says what a mailbox is for */
	if (err == ERR_UNSUPPORTED)
		imap_answer(s, "NO", "USEATTR", "No mailbox can have this use");
	else if (err < 0)
		imap_bad(s, "Wrong arguments for CREATE");
	else {
		imap_access_go(s, d->name);
		imap_write_job(s, create_run, create_done);
	}
}

/* ---- DELETE ---- */

static int delete_run(struct imap_session *s, struct store_txn *txn)
{
	struct mailbox_data *d = s->data;
	struct store_mailbox mailbox;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_DELETE, &mailbox);

	if (err < 0)
		return err;
	d->mailbox = mailbox.id;
	if (mailbox.noselect && !imap_access_is_foreign(d->name))
		err = store_mailbox_has_children(txn, mailbox.account, mailbox.name, &d->has_children);
	if (err == 0)
		err = d->has_children ? ERR_DENIED : store_mailbox_delete(txn, mailbox.account, mailbox.id);
	if (err == 0)
		imap_list_write_oldname(s, "\\NonExistent", d->name, d->given, &s->out);
	return err;
}

/* One's own selected mailbox: the session goes on without one. */
static void delete_done(struct imap_session *s, int err)
{
	struct mailbox_data *d = s->data;

	if (err == 0 && d->mailbox == s->view.mailbox && s->at_slot == s->view.slot) {
		s->view.is_readonly = true; /* nothing is left to be taken */
		imap_select_leave(s);
	}
	if (err == ERR_DENIED && d->has_children)
		imap_answer(s, "NO", "HASCHILDREN", "There are mailboxes below it");
	else
		mailbox_done(s, err);
}

void imap_cmd_delete(struct imap_session *s, const struct imap_command *command)
{
	struct mailbox_data *d = imap_data(s, sizeof(*d));

	if (!d || !read_name(s, command->args, &d->name, &d->given))
		return;
	if (command->count != 1)
		imap_bad(s, "DELETE has one argument");
	else {
		imap_access_go(s, d->name);
		imap_write_job(s, delete_run, delete_done);
	}
}

/* ---- RENAME ---- */

static bool is_inbox(struct slice name)
{
	ptrdiff_t at = slice_find_last(name, STORE_SEPARATOR);

	return slice_is_str(slice_from(name, (size_t)(at + 1)), "INBOX");
}

static int rename_run(struct imap_session *s, struct store_txn *txn)
{
	struct mailbox_data *d = s->data;
	struct store_mailbox mailbox;
	struct slice rest;
	uint32_t account;
	int err;

	/* By what the names say: nothing is told of whether they are there. */
	if (!imap_access_is_one_owner(s, d->name, d->new_name))
		return ERR_DENIED;
	err = imap_access_find(s, txn, d->name, IMAP_RIGHT_DELETE, &mailbox);
	if (err == 0)
		err = imap_access_new(s, txn, d->new_name, &account, &rest);
	if (err == 0 && imap_access_is_foreign(d->name) && is_inbox(mailbox.name))
		err = ERR_DENIED; /* only its owner moves what is in it */
	if (err == 0)
		err = store_mailbox_rename(txn, account, mailbox.id, rest);
	if (err == 0 && s->is_rev2 &&
		(!slice_is_equal(d->name, d->given) || !slice_is_equal(d->new_name, d->new_given)))
		imap_list_write_oldname(s, "", d->new_name, d->given, &s->out);
	return err;
}

void imap_cmd_rename(struct imap_session *s, const struct imap_command *command)
{
	struct mailbox_data *d = imap_data(s, sizeof(*d));

	if (!d)
		return;
	if (command->count != 2) {
		imap_bad(s, "RENAME has two arguments");
		return;
	}
	if (read_name(s, command->args, &d->name, &d->given) &&
		read_name(s, command->args->next, &d->new_name, &d->new_given)) {
		imap_access_go(s, d->name);
		imap_write_job(s, rename_run, mailbox_done);
	}
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

static int subscribe_run(struct imap_session *s, struct store_txn *txn)
{
	struct mailbox_data *d = s->data;
	struct store_mailbox mailbox;
	int err;

	if (d->subscribe && !imap_access_is_foreign(d->name)) {
		err = imap_access_find(s, txn, d->name, IMAP_RIGHT_LOOKUP, &mailbox);
		if (err < 0)
			return err;
	}
	err = store_mailbox_subscribe(txn, imap_access_account(s), d->name, d->subscribe);
	return err == ERR_NOT_FOUND && !d->subscribe ? 0 : err;
}

/* Of another's mailbox: is it there? The subscription itself is the subscriber's. */
static int find_foreign_run(struct imap_session *s, struct store_txn *txn)
{
	struct mailbox_data *d = s->data;
	struct store_mailbox mailbox;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_LOOKUP, &mailbox);

	if (err == 0)
		d->name = mailbox.name;
	return err;
}

static void find_foreign_done(struct imap_session *s, int err)
{
	if (err < 0) {
		imap_fail(s, err);
		return;
	}
	s->at_slot = s->slot;
	imap_write_job(s, subscribe_run, mailbox_done);
}

static void change_subscription(struct imap_session *s, const struct imap_command *command, bool subscribe)
{
	struct mailbox_data *d = imap_data(s, sizeof(*d));

	if (!d || !read_name(s, command->args, &d->name, &d->given))
		return;
	d->subscribe = subscribe;
	if (command->count != 1) {
		imap_bad(s, "Wants one mailbox name");
	} else if (subscribe && imap_access_is_foreign(d->name)) {
		imap_access_go(s, d->name);
		imap_read(s, find_foreign_run, find_foreign_done);
	} else {
		imap_write_job(s, subscribe_run, mailbox_done);
	}
}

void imap_cmd_subscribe(struct imap_session *s, const struct imap_command *command)
{
	change_subscription(s, command, true);
}

void imap_cmd_unsubscribe(struct imap_session *s, const struct imap_command *command)
{
	change_subscription(s, command, false);
}
