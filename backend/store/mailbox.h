/*
 * Private: what accounts and the reaper need of mailboxes.
 */
#pragma once

#include "backend/store/change.h"
#include "backend/store/record.h"

#define INTENT_DROP_MAILBOX 1
#define INTENT_DROP_ACCOUNT 2
#define INTENT_FORGET_ACCOUNT                                                                                \
	3 /* not the reaper's: all slots have to be looked through (store_acl_forget()) */
/* An account that is being imported: its rows are there, its record and names are not. Start-up turns it to a deletion. */
#define INTENT_IMPORT 4
/* The account came from another slot: what is left of it there (the value: slot, account) is to be removed. */
#define INTENT_MOVED 5

/* A row of DB_FOLDER_NAMES. */
struct mailbox_name_row {
	uint32_t mailbox; /* 0: only subscribed */
	bool subscribed;
};
MUST_CHECK int mailbox_unpack_name(struct slice value, struct mailbox_name_row *row_out);
MUST_CHECK int mailbox_get_name(
	struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row *row_out);
/* The row's mailbox alone: ERR_NOT_FOUND also when the name is only subscribed. */
MUST_CHECK int mailbox_find_name(
	struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row *row_out);
/* Writes the row, or deletes it when it says nothing any more. */
MUST_CHECK int mailbox_put_name(
	struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row row);
MUST_CHECK int mailbox_put_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct folder_record *r);
bool mailbox_is_child(struct slice name, struct slice parent);

/* A mailbox of a new account; name is in its stored form. */
MUST_CHECK int mailbox_create_default(struct store_txn *txn, uint32_t account, struct account_state *s,
	struct slice name, enum store_use use, uint32_t *mailbox_out);
/* Takes the mailbox out of sight and leaves its rows to the reaper; its name's row stays to the caller. */
MUST_CHECK int mailbox_bury(
	struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox);
MUST_CHECK int mailbox_get_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct folder_record *r_out);
/* Rows of an imported mailbox: folder and state as they are (no state of a \Noselect name). Nothing is logged, no counter of the
 * account changes; the caller checked the name. */
MUST_CHECK int mailbox_put_imported(struct store_txn *txn, uint32_t account,
	const struct folder_record *folder, bool subscribed, const struct mailbox_state *state,
	uint32_t *mailbox_out);
/* A name that is subscribed and no mailbox. */
MUST_CHECK int mailbox_put_subscribed(struct store_txn *txn, uint32_t account, struct slice name);
/* The next UIDVALIDITY of an account, above all that it gave; the caller writes s back. */
uint32_t mailbox_next_uidvalidity(struct account_state *s);
/* The key of DB_FOLDER_NAMES into room (STORE_MAILBOX_NAME_MAX + 4 bytes). */
struct slice mailbox_name_key(uint32_t account, struct slice name, char *room);
/* kept_time: when it was deleted, if its messages are to be kept; 0: they go. */
MUST_CHECK int mailbox_put_intent(
	struct store_txn *txn, char kind, uint32_t account, uint32_t mailbox, uint32_t kept_time);
