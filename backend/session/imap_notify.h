/*
 * What a session hears beyond what commands bring: NOTIFY (RFC 5465), and ENABLE METADATA (RFC 5464). Sessions that want
 * nothing of the kind have no struct imap_notify and pay nothing. Changes come from the account's change log: a notice says
 * that there are some, then a job reads them and writes the responses.
 *
 *	imap_notify.c          the state, and rounds: sync of the selected mailbox, the account's changes, FETCH of new messages
 *	imap_notify_set.c      the command NOTIFY
 *	imap_notify_match.c    which events of which mailbox
 *	imap_notify_tell.c     the job that reads the own account's log
 *	imap_notify_others.c   accounts that share mailboxes with the user: which ones, and when their logs are read
 *	imap_notify_foreign.c  the job that reads the log of one of those
 *
 * A round runs while no command does (READY) or in IDLE; in between, answers bring the same, but for the FETCH.
 */
#pragma once

#include "backend/session/imap_core.h"
#include "backend/session/imap_fetch.h"
#include "backend/store/store_change.h"

#define IMAP_NOTIFY_GROUPS_MAX 20
#define IMAP_NOTIFY_NAMES_MAX 200       /* of mailboxes, in all groups */
#define IMAP_NOTIFY_MEMORY (32u * 1024) /* of names and fetch attributes */
#define IMAP_NOTIFY_OWN_MAX 8
#define IMAP_NOTIFY_CHANGES_MAX 2000 /* of names and annotations that one job tells */
/* Accounts that share mailboxes with the user and whose changes are told. NOTIFY that would need more is refused; after ENABLE
 * METADATA what those beyond change is seen when it is asked for, and that of the selected mailbox is always among them. */
#define IMAP_NOTIFY_OTHERS_MAX 256
#define IMAP_NOTIFY_KNOWN_MEMORY (256u * 1024)     /* of others' mailboxes that the session may look up */
#define IMAP_NOTIFY_SUBSCRIBED_MEMORY (32u * 1024) /* of subscriptions to others' mailboxes, by name */
/* Between two looks at one of those accounts while the client sends no command: the first, doubled each time as long as there is always
 * something new, up to the second. */
#define IMAP_NOTIFY_PACE_MS 50
#define IMAP_NOTIFY_PACE_MAX_MS 1000
/* Messages of another's mailbox beyond which its STATUS goes without UNSEEN: a guest's is counted one by one. */
#define IMAP_NOTIFY_UNSEEN_MAX 20000

enum imap_event {
	IMAP_EVENT_NEW = 1,
	IMAP_EVENT_EXPUNGE = 2,
	IMAP_EVENT_FLAGS = 4,
	IMAP_EVENT_NAME = 8,
	IMAP_EVENT_SUBSCRIPTION = 16,
	IMAP_EVENT_METADATA = 32,
	IMAP_EVENT_SERVER_METADATA = 64
};
#define IMAP_EVENTS_OF_MESSAGES (IMAP_EVENT_NEW | IMAP_EVENT_EXPUNGE | IMAP_EVENT_FLAGS)

enum imap_filter {
	IMAP_FILTER_INBOXES,
	IMAP_FILTER_PERSONAL,
	IMAP_FILTER_SUBSCRIBED,
	IMAP_FILTER_SUBTREE,
	IMAP_FILTER_MAILBOXES
};

/* What the client asked for. */
struct imap_notify_set {
	struct arena arena;
	unsigned selected; /* events of the selected mailbox; 0: none */
	bool is_delayed;   /* SELECTED-DELAYED */
	bool has_fetch;
	struct imap_fetch_items fetch;
	struct buf
		subscribed; /* others' mailboxes to which the user subscribes: each name ends with a line feed */
	unsigned count;
	struct imap_notify_group {
		enum imap_filter filter;
		unsigned events;
		unsigned count;
		struct slice *names;
	} groups[IMAP_NOTIFY_GROUPS_MAX];
};

/* MODSEQs of this session's own changes in an account, since they were last told. */
struct imap_notify_own {
	unsigned count;
	struct {
		uint64_t from, to;
	} ranges[IMAP_NOTIFY_OWN_MAX];
};

/* The mailbox that was selected until now: what the client had not heard of it then is told by STATUS, if it is watched. */
struct imap_left {
	unsigned slot;
	uint32_t account, mailbox; /* 0: none, or told */
	uint64_t modseq, told;     /* of the view (imap_view.h) */
};

struct imap_others;
struct imap_notify {
	uint64_t told;                   /* all changes up to here; 0: begins now */
	bool is_metadata_wanted;         /* ENABLE METADATA */
	bool is_overflown;               /* the client was told that it hears no more */
	struct imap_notify_set *set;     /* NULL: no NOTIFY is in force */
	struct imap_notify_set *next;    /* of the command under way */
	struct imap_others *others;      /* NULL: of the own account alone */
	struct imap_others *next_others; /* of the command under way */
	struct imap_left left;
	struct imap_notify_own own, own_uids; /* the latter: messages of the selected mailbox */
	uint32_t fetch_mailbox, fetch_from;   /* the first UID that has not been told by a FETCH */
	struct imap_fetch fetch;              /* the FETCH under way */
	struct arena fetch_arena;
	bool is_fetching;
	void (*done)(struct imap_session *s, int err);
	void (*resume)(struct imap_session *s); /* behind the round */
};

/* ---- imap_notify.c ---- */

struct imap_notify *imap_notify_get(struct imap_session *s);
void imap_notify_set_free(struct imap_notify_set **set);
/* NOTIFY NONE: no event is wanted, of the selected mailbox neither. */
void imap_notify_set_none(struct imap_session *s);
/* ENABLE METADATA (RFC 5464 section 4.1). */
void imap_notify_enable_metadata(struct imap_session *s);
void imap_notify_add_own(struct imap_notify_own *own, uint64_t from, uint64_t to);
bool imap_notify_is_own(const struct imap_notify_own *own, uint64_t modseq);
/* Changes that this session made itself: it is not told of them. 0: none. */
void imap_notify_own(struct imap_session *s, uint64_t from, uint64_t to);
/* Messages that it put into the selected mailbox itself. */
void imap_notify_own_uids(struct imap_session *s, uint32_t mailbox, uint32_t from, uint32_t to);
/* The selected mailbox is about to be left. */
void imap_notify_leave(struct imap_session *s);
/* From where the log of this account is to be read, up to `told` for the sake of the mailbox that was left. */
uint64_t imap_notify_since(const struct imap_notify *n, unsigned slot, uint32_t account, uint64_t told);
/* A change up to `told` that is news because of that. */
bool imap_notify_is_left_over(
	const struct imap_notify *n, unsigned slot, uint32_t account, const struct store_change *c);
/* Is there something to be told of the account, or of others? */
bool imap_notify_is_due(const struct imap_session *s);
/* Tells it, then calls done. */
void imap_notify_start(struct imap_session *s, void (*done)(struct imap_session *s, int err));
/* Events of the selected mailbox that are wanted now; all without NOTIFY. */
unsigned imap_notify_selected(const struct imap_session *s);
/* NOTIFY is in force, and something is to be told while no command runs. */
bool imap_notify_has_work(const struct imap_session *s);
/* Tells all there is, then calls resume in the state READY; not while a job runs. */
void imap_notify_round(struct imap_session *s, void (*resume)(struct imap_session *s));
/* A command has ended: from which message on does the selected mailbox's FETCH go? */
void imap_notify_command_ended(struct imap_session *s);
void imap_notify_free(struct imap_session *s);

/* In a job, or on the loop: tells that nothing is watched any more (RFC 5465 section 5.8); notify_done() sees to it. */
void imap_notify_overflow(struct imap_session *s);
/* On the loop, after a job that may have called that. */
void imap_notify_end_overflow(struct imap_session *s);

/* ---- imap_notify_match.c ---- */

bool imap_notify_is_below(struct slice name, struct slice parent);
/* Events that are wanted of a mailbox, own or another's, by the name that the session sees; set may be NULL. */
unsigned imap_notify_wanted(const struct imap_notify_set *set, struct slice name, bool is_subscribed);
/* Something of others' mailboxes is wanted, now or once the user subscribes to one. */
bool imap_notify_wants_others(const struct imap_notify_set *set);
/* Of mailboxes below this: "user/ADDRESS", "Public". */
bool imap_notify_wants_owner(const struct imap_notify_set *set, struct slice owner);
/* In a job of the own slot: fills set->subscribed. ERR_TOO_BIG. */
MUST_CHECK int imap_notify_read_subscribed(
	struct imap_session *s, struct store_txn *txn, struct imap_notify_set *set);
bool imap_notify_is_subscribed(const struct imap_notify_set *set, struct slice name);
/* Items of the STATUS that events bring (is_new: its UIDVALIDITY is another), and of the first one. */
unsigned imap_notify_items(const struct imap_session *s, unsigned events, bool is_new);
unsigned imap_notify_first_items(unsigned events);

/* ---- imap_notify_tell.c ---- */

/* In a job: changes after told up to now; writes and moves told. */
MUST_CHECK int imap_notify_tell(struct imap_session *s, struct store_txn *txn);
/* "* METADATA name entry" (RFC 5464 section 4.4.2). */
void imap_notify_write_metadata(struct imap_session *s, struct slice name, struct slice entry);
/* In a job: what has gathered for the set that goes; RFC 5465 section 3.1, STATUS of what is watched; and told becomes now. */
MUST_CHECK int imap_notify_begin(struct imap_session *s, struct store_txn *txn, bool wants_status);

/* ---- imap_notify_others.c ---- */

/* Watches them from here on, for ENABLE METADATA; the list is made by the first step. */
void imap_others_start(struct imap_session *s);
/*
 * For the set of the command under way (notify->next): n->next_others, with what there is now as its beginning, STATUS and
 * \NoAccess told. done's err ERR_TOO_BIG: there is too much.
 */
void imap_others_begin(struct imap_session *s, bool wants_status, imap_done_fn *done);
/* n->next_others is in force instead of n->others. */
void imap_others_put_in_force(struct imap_session *s);
/* It is not to be. */
void imap_others_give_up(struct imap_session *s);
/* NOTIFY wants nothing of them any more. */
void imap_others_clear(struct imap_session *s);
/* All watches end, on the loop; memory stays for the job that may still run. */
void imap_others_end(struct imap_session *s);
void imap_others_free(struct imap_others **others);
/* Are there accounts to be listed, or changes to be told now? */
bool imap_others_are_due(const struct imap_session *s);
/* Where they are due: makes the list, or tells the changes of one account; then calls done. */
void imap_others_step(struct imap_session *s, void (*done)(struct imap_session *s));
/* What is not due comes later by itself. */
void imap_others_rest(struct imap_session *s);
/* A mailbox of this account was selected until now. */
void imap_others_left(struct imap_session *s);
/* A mailbox was selected. */
void imap_others_selected(struct imap_session *s);
/* Changes that this session made itself in such an account. 0: none. */
void imap_others_own(struct imap_session *s, unsigned slot, uint32_t account, uint64_t from, uint64_t to);
/* In a job: the user has subscribed to this mailbox of another, or no longer does; name empty: it was this session. ERR_TOO_BIG. */
MUST_CHECK int imap_others_subscribed(struct imap_session *s, struct slice name);
/* On the loop, after a job that may have called that. */
void imap_others_see_subscribed(struct imap_session *s);
