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

/* A mailbox of a new account; name is in its stored form. */
MUST_CHECK int mailbox_create_default(struct store_txn *txn, uint32_t account, struct account_state *s,
	struct slice name, enum store_use use, uint32_t *mailbox_out);
/* Takes the mailbox out of sight and leaves its rows to the reaper; its name's row stays to the caller. */
MUST_CHECK int mailbox_bury(
	struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox);
MUST_CHECK int mailbox_get_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct folder_record *r_out);
/* The key of DB_FOLDER_NAMES into room (STORE_MAILBOX_NAME_MAX + 4 bytes). */
struct slice mailbox_name_key(uint32_t account, struct slice name, char *room);
/* kept_time: when it was deleted, if its messages are to be kept; 0: they go. */
MUST_CHECK int mailbox_put_intent(
	struct store_txn *txn, char kind, uint32_t account, uint32_t mailbox, uint32_t kept_time);
