/*
 * The mail_keys of a stored message: from its record, or, of one stored before records had them, made from the
 * first IMAP_KEYS_READ octets of the message. In a read job.
 */
#pragma once

#include "backend/store/store_message.h"
#include "common/proto/mail_keys.h"

#define IMAP_KEYS_READ (64u * 1024)

/* Views of the transaction or of `made`. The arena serves for the time of the call. ERR_CORRUPT, ERR_TOO_BIG. */
MUST_CHECK int imap_keys_load(struct store_txn *txn, const struct store_message *message, struct arena *arena,
	struct buf *made, struct mail_keys *keys_out);
