/*
 * Object identifiers (RFC 8474): made of numbers that the store keeps, so that they need no place of their own.
 * A letter in front says of what kind they are. Pure; any thread.
 */
#pragma once

#include "backend/store/store_message.h"
#include "common/proto/mail_keys.h"

/* F: no two mailboxes of an account ever have one UIDVALIDITY, and a rename keeps it. The number of a mailbox
 * would tell how many others have made since (security class 15). */
void imap_object_mailbox(uint32_t uidvalidity, struct buf *out);
/* M */
void imap_object_email(const struct store_message *message, struct buf *out);
/* T: messages with the same first reference, and the message that they refer to; keys: the message's. */
void imap_object_thread(const struct store_message *message, const struct mail_keys *keys, struct buf *out);
