/*
 * Accounts that share mailboxes with the session's user: between imap_notify_others.c, which keeps them on the loop, and
 * imap_notify_foreign.c, whose job reads one's log. While that job runs, all but the marks that notices make (is_stale,
 * is_list_stale, is_granted) is the job's.
 */
#pragma once

#include "backend/session/imap_notify.h"

/* A mailbox that the session may look up, as it was told last. */
struct imap_known {
	uint32_t mailbox;
	uint32_t uidvalidity;
	bool may_read;
	bool is_noselect;
	struct slice name; /* as the session sees it; in the account's `names` */
};

struct imap_other {
	struct imap_others *all;
	unsigned slot;
	uint32_t account;
	struct store_watch *watch;
	bool is_stale;    /* the store has told of a change */
	bool is_watched;  /* NOTIFY wants some of its mailboxes */
	bool is_quiet;    /* what is there at the first look is no news */
	bool is_leaving;  /* it shares nothing any more: that is told, then it goes */
	uint64_t told;    /* 0: begins now */
	uint64_t look_ms; /* not before, unless a command runs */
	uint64_t pace_ms;
	struct imap_notify_own own;
	struct buf
		subscribed; /* names that were subscribed or unsubscribed, and are to be told; each ends with a line feed */
	/* What NOTIFY may have to tell to be gone; NULL: not yet listed. */
	struct imap_known *known;
	size_t known_count, known_memory;
	char *names;
	char *address; /* the owner's, when it was listed */
};

struct imap_others {
	struct imap_session *s;
	const struct imap_notify_set *set; /* NULL: annotations alone */
	struct timer timer;                /* set while something is stale that has to wait */
	struct imap_other *list[IMAP_NOTIFY_OTHERS_MAX];
	unsigned count;
	struct store_watch *shared[2 * STORE_SLOTS_MAX]; /* with the user, with anyone */
	unsigned shared_count;
	size_t known_memory;
	struct buf subscribed;    /* as above, before it is known whose */
	bool is_subscribed_stale; /* by the job */
	bool is_list_stale;
	bool is_granted;  /* because ACLs have changed: what a new account shares is news */
	uint64_t list_ms; /* not listed before, unless a command runs */
	uint64_t pace_ms;
	/* While the list is made anew. */
	bool tells_new;
	bool is_full;
	unsigned slots_left;
	unsigned found_count;
	struct imap_found {
		unsigned slot;
		uint32_t account;
		bool is_watched;
	} * found;                            /* room for IMAP_NOTIFY_OTHERS_MAX; NULL otherwise */
	struct imap_other *at;                /* the one of the job under way */
	void (*done)(struct imap_session *s); /* of a step */
	bool wants_status;                    /* imap_others_begin() */
	imap_done_fn *begun;
	unsigned begun_count;
};

/* In a job of its slot. ERR_NOT_FOUND: the account has gone; that is told. */
MUST_CHECK int imap_foreign_tell(struct imap_session *s, struct store_txn *txn, struct imap_other *o);
/* The same, once, when NOTIFY begins: what is there. ERR_TOO_BIG. */
MUST_CHECK int imap_foreign_begin(
	struct imap_session *s, struct store_txn *txn, struct imap_other *o, bool wants_status);
/* What was known of it goes. */
void imap_foreign_forget(struct imap_other *o);
/* "* LIST" of a mailbox of others that is not there for this session. */
void imap_foreign_write_missing(struct imap_session *s, struct slice name, bool has_children, bool is_lost,
	bool is_subscribed, struct buf *out);
