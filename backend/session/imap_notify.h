/*
 * What a session hears beyond what commands bring: NOTIFY (RFC 5465), and ENABLE METADATA (RFC 5464). Sessions that want
 * nothing of the kind have no struct imap_notify and pay nothing. Changes come from the account's change log: a notice says
 * that there are some, then a job reads them and writes the responses.
 *
 *	imap_notify.c       the state, and rounds: sync of the selected mailbox, the account's changes, FETCH of new messages
 *	imap_notify_set.c   the command NOTIFY
 *	imap_notify_tell.c  the job that reads the log
 *	imap_notify_others.c  accounts that share mailboxes with the user, after ENABLE METADATA
 *
 * A round runs while no command does (READY) or in IDLE; in between, answers bring the same, but for the FETCH.
 */
#pragma once

#include "backend/session/imap_core.h"
#include "backend/session/imap_fetch.h"

#define IMAP_NOTIFY_GROUPS_MAX 20
#define IMAP_NOTIFY_NAMES_MAX 200       /* of mailboxes, in all groups */
#define IMAP_NOTIFY_MEMORY (32u * 1024) /* of names and fetch attributes */
#define IMAP_NOTIFY_OWN_MAX 8
#define IMAP_NOTIFY_CHANGES_MAX 2000 /* of names and annotations that one job tells */
/* Accounts that share mailboxes with the user and whose changes of annotations are told; what those beyond change is seen when it
 * is asked for. That of the selected mailbox is always among them. */
#define IMAP_NOTIFY_OTHERS_MAX 64

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

struct imap_others;
struct imap_notify {
	uint64_t told;                        /* all changes up to here; 0: begins now */
	bool is_metadata_wanted;              /* ENABLE METADATA */
	bool is_overflown;                    /* in this job: the client is to hear that it hears no more */
	struct imap_notify_set *set;          /* NULL: no NOTIFY is in force */
	struct imap_notify_set *next;         /* of the command under way */
	struct imap_others *others;           /* NULL: of the own account alone */
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
/* ENABLE METADATA (RFC 5464 section 4.1). */
void imap_notify_enable_metadata(struct imap_session *s);
void imap_notify_add_own(struct imap_notify_own *own, uint64_t from, uint64_t to);
bool imap_notify_is_own(const struct imap_notify_own *own, uint64_t modseq);
/* Changes that this session made itself: it is not told of them. 0: none. */
void imap_notify_own(struct imap_session *s, uint64_t from, uint64_t to);
/* Messages that it put into the selected mailbox itself. */
void imap_notify_own_uids(struct imap_session *s, uint32_t mailbox, uint32_t from, uint32_t to);
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

/* ---- imap_notify_tell.c ---- */

/* In a job: changes after told up to now; writes and moves told. */
MUST_CHECK int imap_notify_tell(struct imap_session *s, struct store_txn *txn);
/* "* METADATA name entry" (RFC 5464 section 4.4.2). */
void imap_notify_write_metadata(struct imap_session *s, struct slice name, struct slice entry);
/* In a job: RFC 5465 section 3.1, STATUS of what is watched; and told becomes now. */
MUST_CHECK int imap_notify_begin(struct imap_session *s, struct store_txn *txn, bool wants_status);

/* ---- imap_notify_others.c ---- */

/* Watches them from here on; the list is made by the first step. */
void imap_others_start(struct imap_session *s);
/* All watches end, on the loop; memory stays for the job that may still run. */
void imap_others_end(struct imap_session *s);
void imap_others_free(struct imap_others **others);
/* Are there accounts to be listed, or changes to be told? NULL: no. */
bool imap_others_are_due(const struct imap_others *others);
/* Where they are due: makes the list, or tells the changes of one account; then calls done. */
void imap_others_step(struct imap_session *s, void (*done)(struct imap_session *s));
/* A mailbox was selected. */
void imap_others_selected(struct imap_session *s);
/* Changes that this session made itself in such an account. 0: none. */
void imap_others_own(struct imap_session *s, unsigned slot, uint32_t account, uint64_t from, uint64_t to);
