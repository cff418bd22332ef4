/*
 * The one place where a mailbox name becomes a mailbox, and where it is decided what the session may do with
 * it. Today everybody sees the own account alone; sharing will be decided here, and nowhere else. The answer
 * to "not there" and to "not allowed to look it up" is the same.
 */
#include "backend/session/imap_core.h"

uint32_t imap_access_account(const struct imap_session *s)
{
	return s->account;
}

int imap_access_name(struct imap_session *s, struct slice name, struct arena *arena, struct slice *name_out)
{
	struct slice bare = name;

	(void)s;
	/* CREATE "x/": a hint that children will come (RFC 3501 section 6.3.3). */
	if (bare.len > 1 && bare.p[bare.len - 1] == STORE_SEPARATOR)
		bare.len--;
	/* Wildcards would make a name that no LIST can ask for. */
	if (slice_find(bare, '%') >= 0 || slice_find(bare, '*') >= 0)
		return ERR_SYNTAX;
	return store_mailbox_normalise(bare, arena, name_out);
}

void imap_access_go(struct imap_session *s, struct slice name)
{
	(void)name;
	s->at_slot = s->slot;
}

int imap_access_rights(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox,
	unsigned *rights_out)
{
	(void)txn;
	*rights_out = mailbox->account == s->account ? IMAP_RIGHTS_ALL : 0;
	return 0;
}

/* What a session without these rights is told. */
static int check(unsigned rights, unsigned wanted)
{
	if ((rights & wanted) == wanted)
		return 0;
	return rights & IMAP_RIGHT_LOOKUP ? ERR_FORBIDDEN : ERR_NOT_FOUND;
}

int imap_access_find(struct imap_session *s, struct store_txn *txn, struct slice name, unsigned rights,
	struct store_mailbox *mailbox_out)
{
	struct store_mailbox mailbox;
	struct arena arena;
	struct slice normal;
	unsigned has = 0;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &normal);
	if (err == 0)
		err = store_mailbox_find(txn, s->account, normal, &mailbox);
	else
		err = ERR_NOT_FOUND; /* what is no name names nothing */
	arena_deinit(&arena);
	if (err == 0)
		err = imap_access_rights(s, txn, &mailbox, &has);
	if (err == 0)
		err = check(has, rights);
	if (err < 0)
		return err;
	/* A name without a mailbox can be looked up and managed, no more. */
	if (mailbox.noselect && rights & ~(unsigned)(IMAP_RIGHT_LOOKUP | IMAP_RIGHT_DELETE |
						     IMAP_RIGHT_CREATE | IMAP_RIGHT_ADMIN))
		return ERR_DENIED;
	*mailbox_out = mailbox;
	return 0;
}

int imap_access_check(struct imap_session *s, struct store_txn *txn, unsigned rights)
{
	(void)txn;
	return check(s->view.rights, rights);
}

uint8_t imap_access_flags(unsigned rights, uint8_t flags)
{
	uint8_t reach = 0;

	if (rights & IMAP_RIGHT_SEEN)
		reach |= STORE_SEEN;
	if (rights & IMAP_RIGHT_DELETE_MESSAGE)
		reach |= STORE_DELETED;
	if (rights & IMAP_RIGHT_WRITE)
		reach |= STORE_FLAGS_ALL & ~(STORE_SEEN | STORE_DELETED);
	return flags & reach;
}
