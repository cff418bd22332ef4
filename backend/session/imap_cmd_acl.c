/*
 * SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314 section 3), NAMESPACE (RFC 2342).
 *
 * An identifier is the address of an account of this back-end, or "anyone" (every account of the owner's domain), with a "-"
 * before it for rights that are denied. Whoever may not administer the mailbox is refused before his identifier is looked at.
 */
#include "backend/session/imap_access.h"
#include "backend/session/imap_name.h"
#include "common/proto/imap_write.h"

enum modify {
	MODIFY_REPLACE,
	MODIFY_ADD,
	MODIFY_REMOVE
};

struct acl_data {
	struct slice name;
	struct slice identifier;
	enum modify how;
	unsigned rights;
	const char *refusal; /* why the identifier is refused */
};

/* ---- identifiers ---- */

static bool is_owner_of(const struct store_account *a, const struct imap_place *place)
{
	return a->slot == place->slot && a->id == place->account;
}

static bool is_public(const struct imap_place *place)
{
	return slice_is_str(place->owner, IMAP_ACCESS_PUBLIC);
}

static int find_account(struct imap_session *s, struct slice address, struct store_account *out)
{
	struct store *store = store_work_store(s->service->work);
	struct buf whole = {0};
	const char *domain = strrchr(s->user, '@');
	int err;

	buf_add_slice(&whole, address);
	if (slice_find(address, '@') < 0 && domain) /* of one's own domain */
		buf_add_str(&whole, domain);
	err = store_find_account(store, buf_view(&whole), out);
	/* Whose an alias is, is not told. */
	if (err == 0 && !slice_is_equal_nocase(buf_view(&whole), slice_str(out->address)))
		err = ERR_NOT_FOUND;
	if (err == 0 && store_account_is_public(slice_str(out->address)))
		err = ERR_NOT_FOUND;
	buf_deinit(&whole);
	return err == ERR_SYNTAX || err == ERR_TOO_BIG ? ERR_NOT_FOUND : err;
}

/* ERR_UNSUPPORTED: d->refusal says why not. *owner_out: he has all rights for ever. */
static int find_who(struct imap_session *s, struct acl_data *d, struct store_who *who_out, bool *denies_out,
	bool *owner_out)
{
	struct slice text = d->identifier;
	struct store_account account;
	struct imap_place place;
	int err;

	imap_access_resolve(s, d->name, &place);
	*denies_out = text.len && text.p[0] == '-';
	*owner_out = false;
	if (*denies_out)
		text = slice_from(text, 1);
	if (slice_is_str(text, "anyone")) {
		*who_out = (struct store_who){0, 0};
		d->refusal = "Rights for anyone are the operator's to give";
		return s->limits.acl_anyone || is_public(&place) ? 0 : ERR_UNSUPPORTED;
	}
	err = find_account(s, text, &account);
	if (err == ERR_NOT_FOUND) {
		d->refusal = "There is no such account on this server";
		return ERR_UNSUPPORTED;
	}
	if (err < 0)
		return err;
	*who_out = (struct store_who){account.slot, account.id};
	*owner_out = is_owner_of(&account, &place);
	return 0;
}

static void write_identifier(struct imap_session *s, const struct store_acl_entry *e, bool denied)
{
	struct store_account account;
	struct buf text = {0};

	if (e->who.account && store_get_account(store_work_store(s->service->work), e->who.slot,
				      e->who.account, &account) < 0)
		return; /* it has gone */
	buf_printf(&text, "%s%s", denied ? "-" : "", e->who.account ? account.address : "anyone");
	buf_add_char(&s->out, ' ');
	imap_write_astring(&s->out, buf_view(&text));
	buf_add_char(&s->out, ' ');
	store_acl_print(denied ? e->denied : e->rights, &s->out);
	buf_deinit(&text);
}

static void acl_done(struct imap_session *s, int err)
{
	const struct acl_data *d = s->data;

	if (err == ERR_UNSUPPORTED)
		imap_answer(s, "NO", NULL, d->refusal);
	else if (err < 0)
		imap_fail(s, err);
	else
		imap_ok(s);
}

/* ---- SETACL, DELETEACL ---- */

static int find_entry(struct store_txn *txn, const struct store_mailbox *m, struct store_acl_entry *entry)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count;
	int err = store_acl_get(txn, m->account, m->id, entries, &count);

	for (size_t i = 0; i < count && err == 0; i++) {
		if (entries[i].who.slot == entry->who.slot && entries[i].who.account == entry->who.account)
			*entry = entries[i];
	}
	return err;
}

static int set_run(struct imap_session *s, struct store_txn *txn)
{
	struct acl_data *d = s->data;
	struct store_acl_entry entry = {.rights = 0};
	struct store_mailbox m;
	bool denies, is_owner;
	uint16_t *rights;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_ADMIN, &m);

	if (err == 0)
		err = find_who(s, d, &entry.who, &denies, &is_owner);
	if (err == 0 && is_owner) {
		d->refusal = "The owner has all rights";
		err = ERR_UNSUPPORTED;
	}
	if (err == 0)
		err = find_entry(txn, &m, &entry);
	if (err < 0)
		return err;
	rights = denies ? &entry.denied : &entry.rights;
	if (d->how == MODIFY_ADD)
		*rights |= (uint16_t)d->rights;
	else if (d->how == MODIFY_REMOVE)
		*rights &= (uint16_t)~d->rights;
	else
		*rights = (uint16_t)d->rights;
	return store_acl_set(txn, m.account, m.id, &entry);
}

/* The name and what else all of these have; false: answered. */
static struct acl_data *begin(struct imap_session *s, const struct imap_command *command, unsigned count)
{
	struct acl_data *d = imap_data(s, sizeof(*d));
	struct slice word;

	if (!d)
		return NULL;
	if (command->count != count || imap_parse_astring(command->args, &word) < 0 ||
		(count > 1 && imap_parse_astring(command->args->next, &d->identifier) < 0)) {
		imap_bad(s, "Wrong arguments for an ACL command");
		return NULL;
	}
	if (imap_name_read(s, command->args, &s->arena, &d->name) < 0)
		d->name = SLICE_LIT(""); /* names nothing */
	imap_access_go(s, d->name);
	return d;
}

void imap_cmd_setacl(struct imap_session *s, const struct imap_command *command)
{
	struct acl_data *d = begin(s, command, 3);
	struct slice rights;

	if (!d)
		return;
	if (imap_parse_astring(command->args->next->next, &rights) < 0) {
		imap_bad(s, "SETACL wants rights");
		return;
	}
	if (rights.len && (rights.p[0] == '+' || rights.p[0] == '-')) {
		d->how = rights.p[0] == '+' ? MODIFY_ADD : MODIFY_REMOVE;
		rights = slice_from(rights, 1);
	}
	if (store_acl_parse(rights, &d->rights) < 0)
		imap_bad(s, "There is no such right");
	else
		imap_write_job(s, set_run, acl_done);
}

void imap_cmd_deleteacl(struct imap_session *s, const struct imap_command *command)
{
	if (begin(s, command, 2))
		imap_write_job(s, set_run, acl_done); /* replaced by none */
}

/* ---- GETACL ---- */

static int get_run(struct imap_session *s, struct store_txn *txn)
{
	struct acl_data *d = s->data;
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	struct store_account owner;
	struct store_mailbox m;
	size_t count;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_ADMIN, &m);

	if (err == 0)
		err = store_get_account(
			store_work_store(s->service->work), store_txn_slot(txn), m.account, &owner);
	if (err == 0)
		err = store_acl_get(txn, m.account, m.id, entries, &count);
	if (err < 0)
		return err;
	buf_add_str(&s->out, "* ACL ");
	imap_name_write(s, &s->out, m.name);
	if (!store_account_is_public(slice_str(owner.address))) {
		struct store_acl_entry all = {.who = {owner.slot, owner.id}, .rights = STORE_RIGHTS_ALL};

		write_identifier(s, &all, false);
	}
	for (size_t i = 0; i < count; i++) {
		if (entries[i].rights)
			write_identifier(s, &entries[i], false);
		if (entries[i].denied)
			write_identifier(s, &entries[i], true);
	}
	buf_add_str(&s->out, "\r\n");
	return 0;
}

void imap_cmd_getacl(struct imap_session *s, const struct imap_command *command)
{
	if (begin(s, command, 1))
		imap_read(s, get_run, acl_done);
}

/* ---- LISTRIGHTS ---- */

static int list_run(struct imap_session *s, struct store_txn *txn)
{
	struct acl_data *d = s->data;
	struct store_who who;
	struct store_mailbox m;
	bool denies, is_owner;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_ADMIN, &m);

	if (err == 0)
		err = find_who(s, d, &who, &denies, &is_owner);
	if (err < 0)
		return err;
	buf_add_str(&s->out, "* LISTRIGHTS ");
	imap_name_write(s, &s->out, m.name);
	buf_add_char(&s->out, ' ');
	imap_write_astring(&s->out, d->identifier);
	if (is_owner) {
		buf_add_char(&s->out, ' ');
		store_acl_print(STORE_RIGHTS_ALL, &s->out);
	} else { /* none is tied to another */
		buf_add_str(&s->out, " \"\" l r s w i p k x t e a c d");
	}
	buf_add_str(&s->out, "\r\n");
	return 0;
}

void imap_cmd_listrights(struct imap_session *s, const struct imap_command *command)
{
	if (begin(s, command, 2))
		imap_read(s, list_run, acl_done);
}

/* ---- MYRIGHTS ---- */

void imap_acl_write_myrights(struct imap_session *s, struct slice name, unsigned rights)
{
	buf_add_str(&s->out, "* MYRIGHTS ");
	imap_name_write(s, &s->out, name);
	buf_add_char(&s->out, ' ');
	store_acl_print(rights, &s->out);
	buf_add_str(&s->out, "\r\n");
}

static int my_run(struct imap_session *s, struct store_txn *txn)
{
	struct acl_data *d = s->data;
	struct store_mailbox m;
	unsigned rights;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHTS_ANY, &m);

	if (err == 0)
		err = imap_access_rights(s, txn, &m, &rights);
	if (err == 0)
		imap_acl_write_myrights(s, m.name, rights);
	return err;
}

void imap_cmd_myrights(struct imap_session *s, const struct imap_command *command)
{
	if (begin(s, command, 1))
		imap_read(s, my_run, acl_done);
}

/* ---- NAMESPACE ---- */

void imap_cmd_namespace(struct imap_session *s, const struct imap_command *command)
{
	struct store_account public;

	if (command->count) {
		imap_bad(s, "NAMESPACE has no arguments");
		return;
	}
	conn_write_str(s->conn, "* NAMESPACE ((\"\" \"" IMAP_HIERARCHY
				"\")) ((\"" IMAP_ACCESS_OTHERS IMAP_HIERARCHY "\" \"" IMAP_HIERARCHY "\")) ");
	if (imap_access_public(s, &public) == 0)
		conn_write_str(
			s->conn, "((\"" IMAP_ACCESS_PUBLIC IMAP_HIERARCHY "\" \"" IMAP_HIERARCHY "\"))\r\n");
	else
		conn_write_str(s->conn, "NIL\r\n");
	imap_ok(s);
}
