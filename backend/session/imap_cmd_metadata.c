/*
 * GETMETADATA and SETMETADATA (RFC 5464). The empty mailbox name is the server: its shared entries are the
 * operator's (configuration), its private ones the user's.
 */
#include <stdio.h>

#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"
#include "backend/session/imap_use.h"

/* Is the mailbox argument the empty name? */
static bool is_server(const struct imap_arg *arg)
{
	struct slice text;

	return imap_parse_astring(arg, &text) == 0 && text.len == 0;
}

/* Its name; an answer was given if false. */
static bool read_mailbox(struct imap_session *s, const struct imap_arg *arg, struct slice *name_out)
{
	struct slice text;

	if (imap_parse_astring(arg, &text) < 0) {
		imap_bad(s, "Wants a mailbox name");
		return false;
	}
	if (imap_name_read(s, arg, &s->arena, name_out) < 0) {
		imap_fail(s, ERR_NOT_FOUND);
		return false;
	}
	imap_access_go(s, *name_out);
	return true;
}

/* ---- GETMETADATA ---- */

struct get_data {
	struct slice name;
	bool is_server;
	struct imap_metadata_query query;
};

static int get_run(struct imap_session *s, struct store_txn *txn)
{
	struct get_data *d = s->data;
	struct store_mailbox mailbox;
	int err;

	if (d->is_server)
		return imap_metadata_write(s, txn, NULL, SLICE_LIT(""), &d->query);
	err = imap_metadata_find(s, txn, d->name, &mailbox);
	return err < 0 ? err : imap_metadata_write(s, txn, &mailbox, d->name, &d->query);
}

static void get_done(struct imap_session *s, int err)
{
	const struct get_data *d = s->data;
	char code[60];

	if (err < 0) {
		imap_fail(s, err);
	} else if (d->query.longest) {
		snprintf(code, sizeof(code), "METADATA LONGENTRIES %llu",
			(unsigned long long)d->query.longest);
		imap_answer(s, "OK", code, "Some were longer");
	} else {
		imap_ok(s);
	}
}

void imap_cmd_getmetadata(struct imap_session *s, const struct imap_command *command)
{
	struct get_data *d = imap_data(s, sizeof(*d));
	const struct imap_arg *arg = command->args, *mailbox;
	int err = 0;

	if (!d)
		return;
	/* The grammar has the options before the name, the examples behind it. */
	if (imap_metadata_is_options(arg)) {
		err = imap_metadata_read_options(arg, &d->query);
		arg = arg->next;
	}
	mailbox = arg;
	arg = arg ? arg->next : NULL;
	if (err == 0 && imap_metadata_is_options(arg)) {
		err = imap_metadata_read_options(arg, &d->query);
		arg = arg->next;
	}
	if (err == 0)
		err = imap_metadata_read_entries(arg, &s->arena, &d->query);
	if (err == ERR_TOO_BIG) {
		imap_fail(s, err);
	} else if (err < 0 || arg->next) {
		imap_bad(s, "GETMETADATA wants options, a mailbox and entries");
	} else {
		d->is_server = is_server(mailbox);
		if (d->is_server || read_mailbox(s, mailbox, &d->name))
			imap_read(s, get_run, get_done);
	}
}

/* ---- SETMETADATA ---- */

struct entry {
	struct slice name;
	struct slice value;
};

struct set_data {
	struct slice name;
	bool is_server;
	const char *status_code, *text; /* why it was refused */
	unsigned count;
	struct entry entries[STORE_METADATA_ENTRIES_MAX];
};

static int refuse(struct set_data *d, const char *code, const char *text)
{
	d->status_code = code;
	d->text = text;
	return ERR_DENIED;
}

static int set_use(struct imap_session *s, struct store_txn *txn, struct set_data *d,
	const struct store_mailbox *mailbox, struct slice value, uint64_t *modseq_out)
{
	enum store_use use = STORE_USE_NONE;
	struct slice word = slice_trim(value);

	(void)modseq_out;
	if (mailbox->account != s->account || store_txn_slot(txn) != s->slot)
		return refuse(d, "NOPERM", "Its owner says what a mailbox is for");
	if (word.len && imap_use_find(word, &use) < 0)
		return refuse(d, "USEATTR", "No mailbox can have this use");
	return store_mailbox_set_use(txn, mailbox->account, mailbox->id, use);
}

static int set_entry(struct imap_session *s, struct store_txn *txn, struct set_data *d,
	const struct store_mailbox *mailbox, const struct entry *e)
{
	bool is_private = slice_has_prefix(e->name, "/private/");
	unsigned rights = 0;
	uint64_t modseq = 0;
	int err = d->is_server ? 0 : imap_access_rights(s, txn, mailbox, &rights);

	if (err < 0)
		return err;
	if (d->is_server && !is_private)
		return refuse(d, "NOPERM", "The operator says this of the server");
	/* What all see is changed by who may change what all see; section 3.3 asks for less, but leaves more to the server. */
	if (!d->is_server && !is_private && !(rights & IMAP_RIGHT_WRITE))
		return refuse(d, "NOPERM", "Shared annotations want the right \"w\"");
	if (!d->is_server && slice_is_str(e->name, STORE_METADATA_USE))
		return set_use(s, txn, d, mailbox, e->value, &modseq);
	err = store_metadata_set(txn, d->is_server ? s->account : mailbox->account,
		d->is_server ? 0 : mailbox->id, is_private ? imap_metadata_user(s) : STORE_METADATA_SHARED,
		e->name, e->value, &modseq);
	if (err == ERR_TOO_BIG)
		return refuse(d, "METADATA TOOMANY", "There is no room for more annotations");
	return err;
}

static int set_run(struct imap_session *s, struct store_txn *txn)
{
	struct set_data *d = s->data;
	struct store_mailbox mailbox;
	int err = 0;

	d->status_code = NULL;
	if (!d->is_server)
		err = imap_metadata_find(s, txn, d->name, &mailbox);
	for (unsigned i = 0; i < d->count && err == 0; i++)
		err = set_entry(s, txn, d, &mailbox, &d->entries[i]);
	return err;
}

static void set_done(struct imap_session *s, int err)
{
	const struct set_data *d = s->data;

	if (err == ERR_DENIED && d->status_code)
		imap_answer(s, "NO", d->status_code, d->text);
	else if (err < 0)
		imap_fail(s, err);
	else
		imap_ok(s);
}

/* nstring or literal8. */
static int read_value(const struct imap_arg *arg, struct slice *value_out)
{
	if (arg && arg->type == IMAP_ARG_BINARY) {
		*value_out = arg->text;
		return 0;
	}
	if (imap_parse_nstring(arg, value_out) < 0)
		return ERR_SYNTAX;
	/* An empty string is a value, too. */
	if (!value_out->p && !imap_parse_is_word(arg, "NIL"))
		*value_out = SLICE_LIT("");
	return 0;
}

static int read_values(struct imap_session *s, struct set_data *d, const struct imap_arg *list)
{
	if (!list || list->type != IMAP_ARG_LIST || list->next || !list->first)
		return ERR_SYNTAX;
	for (const struct imap_arg *arg = list->first; arg; arg = arg->next->next) {
		struct entry *e = &d->entries[d->count];
		int err;

		if (d->count == STORE_METADATA_ENTRIES_MAX)
			return ERR_TOO_BIG;
		err = imap_metadata_read_name(arg, true, &s->arena, &e->name);
		if (err == 0)
			err = read_value(arg->next, &e->value);
		if (err < 0)
			return err == ERR_TOO_BIG ? ERR_SYNTAX : err;
		d->count++;
	}
	return 0;
}

static const char maxsize[] = "METADATA MAXSIZE 65536";
_Static_assert(STORE_METADATA_VALUE_MAX == 65536, "the code says so");

static bool is_too_long(const struct set_data *d)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (d->entries[i].value.len > STORE_METADATA_VALUE_MAX)
			return true;
	}
	return false;
}

void imap_cmd_setmetadata(struct imap_session *s, const struct imap_command *command)
{
	struct set_data *d = imap_data(s, sizeof(*d));
	int err;

	if (!d)
		return;
	err = command->count == 2 ? read_values(s, d, command->args->next) : ERR_SYNTAX;
	if (err == ERR_TOO_BIG) {
		imap_answer(s, "NO", "METADATA TOOMANY", "Too many annotations at once");
	} else if (err < 0) {
		imap_bad(s, "SETMETADATA wants a mailbox and a list of entries with values");
	} else if (is_too_long(d)) {
		imap_answer(s, "NO", maxsize, "That is too long");
	} else {
		d->is_server = is_server(command->args);
		if (d->is_server || read_mailbox(s, command->args, &d->name))
			imap_write_job(s, set_run, set_done);
	}
}

bool imap_metadata_literal(struct imap_session *s)
{
	if (!slice_is_str(s->parse.command.name, "SETMETADATA"))
		return false;
	if (s->parse.literal.size > STORE_METADATA_VALUE_MAX) {
		imap_refuse_literal(s, "NO", maxsize, "That is too long");
		return true;
	}
	/* A literal8 is a value; elsewhere it is refused when the arguments are read. */
	if (imap_parse_hold_binary(&s->parse) == 0 && s->parse.literal.is_sync)
		conn_write_str(s->conn, "+ OK\r\n");
	return true;
}
