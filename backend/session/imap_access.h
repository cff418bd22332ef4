/*
 * Names and rights beyond what every verb needs (imap_core.h): namespaces (RFC 2342), and who may make what where. Only
 * imap_access.c resolves a name, only it asks for rights.
 *
 *	"…"                      one's own
 *	"user/ADDRESS/…"         another account's, what its ACLs give
 *	"Public/…"               the public folders of one's domain, what their ACLs give; they belong to the account
 *	                         STORE_PUBLIC_LOCAL@domain
 */
#pragma once

#include "backend/session/imap_core.h"
#include "backend/store/store_account.h"

#define IMAP_ACCESS_OTHERS "user"
#define IMAP_ACCESS_PUBLIC "Public"

/* Whose a name is. Any thread. */
struct imap_place {
	unsigned slot;
	uint32_t account;   /* 0: nobody's, as far as this session is told */
	struct slice owner; /* "", "Public" or "user/ADDRESS", a view of the name */
	struct slice rest;  /* the owner's own name of the mailbox, a view of the name; may be empty */
	bool is_foreign;
	bool is_near; /* of the session's domain: "anyone" means it */
};
void imap_access_resolve(const struct imap_session *s, struct slice name, struct imap_place *place_out);
/* The name's first level is not the own account's. */
bool imap_access_is_foreign(struct slice name);
/* Both names are of one owner, by what they say. */
bool imap_access_is_one_owner(const struct imap_session *s, struct slice a, struct slice b);

/*
 * In a job of the owner's slot: a name that is to come, where it belongs and what the owner calls it (a view of the name).
 * ERR_NOT_FOUND, ERR_FORBIDDEN: not for this session.
 */
MUST_CHECK int imap_access_new(struct imap_session *s, struct store_txn *txn, struct slice name,
	uint32_t *account_out, struct slice *rest_out);

/* When the account was made (struct store_account); 0: it is gone. Any thread. */
int64_t imap_access_created(const struct imap_session *s, unsigned slot, uint32_t account);
/* Who the session is, in ACLs. */
struct store_who imap_access_who(const struct imap_session *s);
/* The name under which this session sees an account's mailbox, in the arena. Empty: memory. */
struct slice imap_access_full_name(const struct store_account *owner, struct slice rest, struct arena *arena);
/* A name of others' mailboxes as imap_access_full_name() has it, whether there is such a mailbox or not; others stay. In the arena,
 * or a view. ERR_SYNTAX: no mailbox has that name. ERR_TOO_BIG. */
MUST_CHECK int imap_access_canonical(struct slice name, struct arena *arena, struct slice *name_out);
/* The account that public folders of the session's domain belong to. ERR_NOT_FOUND. */
MUST_CHECK int imap_access_public(const struct imap_session *s, struct store_account *account_out);
/* In a job of that slot: accounts, but the own, whose mailboxes' ACLs name the session's user or, near, anyone, and that of the
 * public folders; the first `room`. */
MUST_CHECK int imap_access_owners(
	struct imap_session *s, struct store_txn *txn, uint32_t *owners, size_t room, size_t *count_out);
/* In a job of that slot, for LIST: others' mailboxes that this session may look up, with the names it sees, sorted so that
 * children follow their parent; in the arena. */
MUST_CHECK int imap_access_list(struct imap_session *s, struct store_txn *txn, struct arena *arena,
	struct store_mailbox **mailboxes_out, size_t *count_out);
/* The order of such a list, and which of its mailboxes have children in it; id 0 is none. */
void imap_access_sort(struct store_mailbox *mailboxes, size_t count);
/* The same of one account. */
MUST_CHECK int imap_access_list_of(struct imap_session *s, struct store_txn *txn,
	const struct store_account *owner, struct arena *arena, struct store_mailbox **mailboxes_out,
	size_t *count_out);
