/*
 * Object identifiers (RFC 8474): made of numbers that the store keeps, so that they need no place of their own.
 * A letter in front says of what kind they are. Pure; any thread.
 */
#pragma once

#include "backend/store/store_message.h"
#include "common/proto/mail_keys.h"

/*
 * created: the owner's (struct store_account). A session sees mailboxes of several accounts, whose own numbers say nothing to each other:
 * they are hashed with it. It goes along wherever an account goes, and a new address does not change it.
 */

/* F: no two mailboxes of an account ever have one UIDVALIDITY, and a rename keeps it. */
void imap_object_mailbox(int64_t created, uint32_t uidvalidity, struct buf *out);
/* M */
void imap_object_email(int64_t created, const struct store_message *message, struct buf *out);
/* What a copy in another account has to keep (struct store_append). */
uint64_t imap_object_email_number(int64_t created, const struct store_message *message);
/* T: messages with the same first reference, and the message that they refer to; keys: the message's. */
void imap_object_thread(
	int64_t created, const struct store_message *message, const struct mail_keys *keys, struct buf *out);
