/*
 * Annotations of mailboxes and accounts (RFC 5464): entry names with values of any octets. Each belongs to
 * everybody (/shared) or to one user (/private), who may be another than the account's. They follow a mailbox
 * through a rename, stay with INBOX too when that is renamed, and go with mailbox and account.
 *
 * They count against limits of their own, not against the quota of messages. Every change is in the account's
 * change log, by name.
 */
#pragma once

#include "backend/store/store_mailbox.h"

#define STORE_METADATA_NAME_MAX 255
#define STORE_METADATA_VALUE_MAX 65536
#define STORE_METADATA_ENTRIES_MAX 100 /* of one mailbox: shared ones, and each user's */
#define STORE_METADATA_ACCOUNT_MAX                                                                           \
	(1u << 20) /* octets of one account: names, values, and 64 for each entry */
/* Of these octets, what those who are not the owner may make of all, and each of them of one mailbox: to be allowed to read a mailbox
 * is not to fill its owner's account. */
#define STORE_METADATA_GUESTS_MAX (STORE_METADATA_ACCOUNT_MAX / 2)
#define STORE_METADATA_GUEST_MAX (16u << 10)
/* The entry that is a mailbox's special use (RFC 6154 section 4); kept with the mailbox. */
#define STORE_METADATA_USE "/private/specialuse"

/* Whose entries: everybody's, or a user's. */
#define STORE_METADATA_SHARED UINT64_C(0)
static inline uint64_t store_metadata_user(unsigned slot, uint32_t account)
{
	return (uint64_t)(slot + 1) << 32 | account;
}

/*
 * Sets an entry; a NULL value removes it (and is no error where there is none). mailbox 0: of the account
 * itself. name is in lower case, 1..STORE_METADATA_NAME_MAX octets. modseq_out (may be NULL): of the change in
 * the log, 0 when nothing changed. ERR_NOT_FOUND: no such mailbox. ERR_TOO_BIG: name or value too long, or
 * one of the limits above.
 */
MUST_CHECK int store_metadata_set(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice value, uint64_t *modseq_out);
/* A view. ERR_NOT_FOUND. */
MUST_CHECK int store_metadata_get(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice *value_out);
/* Calls fn for the entry of this name and all below it ("name/..."), in order; an empty name: for all. Views.
 * fn's first result that is not 0 ends it and is returned. */
typedef int store_metadata_fn(void *arg, struct slice name, struct slice value);
MUST_CHECK int store_metadata_each(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, store_metadata_fn *fn, void *arg);
/* All of an account, for export: as above, with where each belongs. */
typedef int store_metadata_all_fn(
	void *arg, uint32_t mailbox, uint64_t user, struct slice name, struct slice value);
MUST_CHECK int store_metadata_all(
	struct store_txn *txn, uint32_t account, store_metadata_all_fn *fn, void *arg);
