/*
 * The inside of the IMAP session, shared by the files imap_*.c of this room and nobody else.
 *
 * Threads: a session lives on its loop. While a store job of it runs (at most one does), the loop touches
 * nothing of the session but `state`, `conn`, `timer`, `is_stale` and the flags of its end; everything else,
 * the view and the command's arena included, is then the job's. So a job formats straight from the store's
 * pages into `out`, which goes to the connection when it is done.
 *
 * A command: parsed (imap_session.c) -> its function -> zero or more jobs -> imap_answer(), which first
 * brings the view up to date where the command allows it and then sends the tagged answer.
 */
#pragma once

#include <pthread.h>

#include "backend/session/imap_session.h"
#include "backend/session/imap_view.h"
#include "backend/store_work/store_work.h"
#include "common/base/list.h"
#include "common/net/timer.h"
#include "common/proto/imap_parse.h"

#define IMAP_HIERARCHY "/"
#define IMAP_OWN_OTHERS 3
/* Text that one job makes before the socket takes it. */
#define IMAP_BATCH (128u * 1024)
/* And one of a long FETCH, while the client takes them as fast as they are made. */
#define IMAP_BATCH_LONG (256u * 1024)
/* A body that is no longer goes whole into a batch that has room for its beginning: half of one would have to be read twice. */
#define IMAP_BATCH_OVER (16u * 1024)

struct imap_session;
struct imap_catenate;
struct imap_notes;
struct imap_notify;
struct spool;

enum imap_state {
	IMAP_READY,   /* for a command */
	IMAP_LITERAL, /* amid a command */
	IMAP_STREAM,  /* amid the message of an APPEND */
	IMAP_BUSY,    /* a store job runs */
	IMAP_SENDING, /* until the client has taken what waits */
	IMAP_IDLING,  /* IDLE (RFC 2177) */
	IMAP_CLOSED
};
#define IMAP_STATES (IMAP_CLOSED + 1)

enum imap_cmd_flag {
	IMAP_CMD_SELECTED = 1,   /* needs a mailbox */
	IMAP_CMD_WRITABLE = 2,   /* and one that was not opened by EXAMINE */
	IMAP_CMD_UID = 4,        /* its set and answers are UIDs */
	IMAP_CMD_NO_EXPUNGE = 8, /* no EXPUNGE while it runs (RFC 3501 section 7.4.1) */
	IMAP_CMD_SYNC = 16,      /* ask the store for changes even if no notice came */
	IMAP_CMD_SEQ = 32,       /* takes or tells sequence numbers: not for a client that enabled UIDONLY */
	IMAP_CMD_FRESH =
		64 /* its answer is the mailbox's state; what has changed meanwhile comes with the next command */
};

typedef void imap_cmd_fn(struct imap_session *s, const struct imap_command *command);
struct imap_cmd {
	const char *name;
	unsigned flags; /* enum imap_cmd_flag */
	imap_cmd_fn *fn;
};

typedef void imap_added_fn(struct imap_session *s, int err, const struct store_work_added *added);
typedef int imap_run_fn(struct imap_session *s, struct store_txn *txn);
typedef void imap_done_fn(struct imap_session *s, int err);

struct imap_service {
	struct store_work *work;
	unsigned loops;
	struct list *sessions; /* one list for each loop */
	_Atomic unsigned count;
	_Atomic uint64_t append_size, idle_ms, transfer_ms;
	_Atomic unsigned bad_commands;
	_Atomic bool is_strict_utf8;
	_Atomic uint64_t progress_ms;
	pthread_mutex_t lock; /* over notes */
	struct imap_notes *notes;
	_Atomic bool acl_anyone;
};

struct imap_session {
	struct list link;
	struct imap_service *service;
	struct imap_limits limits;
	struct conn *conn;
	struct loop *loop;
	struct timer timer;
	enum imap_state state;

	unsigned slot; /* the own account's */
	uint32_t account;
	unsigned at_slot; /* where the next job goes: the selected mailbox's, or imap_access_go() */
	char *user;
	char *client;
	char *id;
	uint64_t since_ms;
	uint64_t told_ms; /* when the command began, or its client last heard of its progress; monotonic */
	uint64_t number;  /* for the operator's lists */

	struct arena arena; /* the command's */
	struct imap_parse parse;
	const struct imap_cmd *cmd;
	void *data;                             /* the command's own, in the arena */
	void (*cleanup)(struct imap_session *); /* frees what of `data` is not in the arena */
	struct buf reply;                       /* the tagged answer, waiting for the view */
	void (*after_sent)(struct imap_session *);
	const char *refuse_status, *refuse_code, *refuse_text; /* of a literal that was not wanted */
	struct buf out;                                        /* what a job writes */

	struct store_job *job;
	unsigned jobs; /* whose drop has not come */
	imap_run_fn *run;
	imap_done_fn *done;
	imap_added_fn *added;
	struct imap_catenate *catenate; /* what its job copies */

	struct imap_view view;
	struct store_watch *watch;
	struct store_watch *guest_watch; /* of the selected mailbox, if it is another's */
	struct imap_sync *sync;
	struct imap_notify *notify; /* NULL: hears of the selected mailbox alone */
	struct imap_notes *notes;   /* what the operator says of the server */
	uint64_t own_from, own_to;  /* MODSEQs of what the write job changed in the own account */
	struct imap_own { /* and in others, for `notify`: that of the selected mailbox, that of a name */
		uint32_t account;
		uint64_t from, to;
	} own_others[IMAP_OWN_OTHERS];
	bool is_writing;       /* a write job runs, and `notify` wants to know what it changes */
	uint32_t adds_account; /* for which the message under way is */
	bool adds_own;         /* it is the own */

	uint32_t append_mailbox; /* of append_name: the last APPEND's */
	char *append_name;

	const char *bye_text; /* end with it as soon as the command is over */
	/* A word that the loop writes while a job runs: compilers read neighbours of what they are asked for. */
	unsigned bad;          /* commands in a row */
	bool is_stale;         /* the store has told of changes in the selected mailbox */
	bool is_account_stale; /* the store has told of changes that `notify` may want */
	bool is_reading;       /* the input loop is on the stack */
	bool is_eof;

	bool must_sync;      /* this command changed it */
	bool is_ahead;       /* the job's text waits for its turn */
	bool is_beside;      /* the job is not about the selected mailbox */
	int ahead_err;       /* what its `done` will hear */
	bool has_waited;     /* it had to */
	bool is_condstore;   /* UID and MODSEQ in every FETCH (RFC 7162 sections 3.1 and 3.2.4) */
	bool is_qresync;     /* VANISHED instead of EXPUNGE */
	bool is_rev2;        /* ENABLE IMAP4rev2 (RFC 9051) */
	bool is_utf8;        /* ENABLE UTF8=ACCEPT (RFC 6855) */
	bool is_uidonly;     /* ENABLE UIDONLY (RFC 9586): no sequence number comes or goes */
	bool starts_deflate; /* behind the tagged answer */
	bool tells_modseq;   /* the tagged answer gets HIGHESTMODSEQ, once all is told */
	bool is_logout;
	bool gives_back; /* UNAUTHENTICATE: the connection, behind the tagged answer */
	struct imap_return back;
};

/* ---- imap_session.c ---- */

/* The one place where `state` is assigned. */
void imap_enter(struct imap_session *s, enum imap_state state);
/* For people. */
const char *imap_state_name(const struct imap_session *s);
/* A read or write job of the store; then `done` on the loop (what run wrote to s->out is sent before). */
void imap_read(struct imap_session *s, imap_run_fn *run, imap_done_fn *done);
/* The same without waiting for the client: what run writes is held until he has taken enough of what was written before, and then
 * comes `done`. So the next batch is made while the last one goes out. */
void imap_read_ahead(struct imap_session *s, imap_run_fn *run, imap_done_fn *done);
/* The same of a job that has nothing to do with the selected mailbox, whatever the command: the rights on that are not asked for. */
void imap_read_beside(struct imap_session *s, imap_run_fn *run, imap_done_fn *done);
void imap_write_job(struct imap_session *s, imap_run_fn *run, imap_done_fn *done);
/* As a job: adds a message; `added` is its result, NULL if err is not 0. */
void imap_add(struct imap_session *s, struct store_work_add *add, imap_added_fn *done);
/* Memory of the command, zeroed; NULL: the command was answered, return at once. */
void *imap_data(struct imap_session *s, size_t size);

/* The tagged answer: "OK", "NO", "BAD"; code without brackets or NULL. The last thing a command does. */
void imap_answer(struct imap_session *s, const char *status, const char *code, const char *text);
void imap_ok(struct imap_session *s);
void imap_bad(struct imap_session *s, const char *text);
/* The answer for an error of the store. */
void imap_fail(struct imap_session *s, int err);
/* Between two jobs of a command that may be long, while no line is open: from time to time tells the client that it
 * is under way (RFC 9585). */
void imap_progress(struct imap_session *s, uint64_t done, uint64_t goal);
/* Calls next when the client has taken enough of what waits: at once, or from IMAP_SENDING. */
void imap_when_sent(struct imap_session *s, void (*next)(struct imap_session *));
/* The literal in front of us is not wanted: once it is out of the way, this is the command's answer. */
void imap_refuse_literal(struct imap_session *s, const char *status, const char *code, const char *text);
/* Closes; bye: text of a BYE before it, or NULL. */
void imap_close(struct imap_session *s, const char *bye);
/* A notice of the store about what the session watches. */
void imap_session_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq);
/* Something that is to be told may have come: tells it, if this is the time. */
void imap_session_look(struct imap_session *s);
/* Goes on reading commands after an answer that came from a callback. */
void imap_input(struct imap_session *s);
/* The last argument of this command so far is a message to be stored (imap_cmd_append.c). */
bool imap_append_takes(const struct imap_command *command);
/* The literal that the parser announced is such a message, or part of one: takes it. False: it is a URL, to be held as others
 * are. */
bool imap_append_literal(struct imap_session *s);
/* The same of SETMETADATA, whose values may be binary (imap_cmd_metadata.c). False: of another command. */
bool imap_metadata_literal(struct imap_session *s);
/* Input of IMAP_STREAM; false: nothing was there. */
bool imap_append_stream(struct imap_session *s);
/* Log text with the session's prefix. */
void imap_log(struct imap_session *s, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- imap_access.c: every mailbox name goes through here (security class 15) ---- */

/* RFC 4314 section 2.1. */
enum imap_right {
	IMAP_RIGHT_LOOKUP = STORE_RIGHT_LOOKUP, /* l: LIST, SUBSCRIBE */
	IMAP_RIGHT_READ = STORE_RIGHT_READ,     /* r: SELECT, STATUS, and all that shows messages */
	IMAP_RIGHT_SEEN = STORE_RIGHT_SEEN,     /* s: \Seen */
	IMAP_RIGHT_WRITE = STORE_RIGHT_WRITE,   /* w: all other flags but \Deleted */
	IMAP_RIGHT_INSERT = STORE_RIGHT_INSERT, /* i: APPEND, COPY into */
	IMAP_RIGHT_POST = STORE_RIGHT_POST,     /* p: mail to it */
	IMAP_RIGHT_CREATE = STORE_RIGHT_CREATE, /* k: mailboxes below it */
	IMAP_RIGHT_DELETE = STORE_RIGHT_DELETE, /* x: DELETE, RENAME of itself */
	IMAP_RIGHT_DELETE_MESSAGE = STORE_RIGHT_DELETE_MESSAGE, /* t: \Deleted */
	IMAP_RIGHT_EXPUNGE = STORE_RIGHT_EXPUNGE,               /* e */
	IMAP_RIGHT_ADMIN = STORE_RIGHT_ADMIN,                   /* a: its ACL */
	IMAP_RIGHTS_ALL = STORE_RIGHTS_ALL
};
/* MYRIGHTS wants one of these (RFC 4314 section 4). */
#define IMAP_RIGHTS_ANY                                                                                      \
	(IMAP_RIGHT_LOOKUP | IMAP_RIGHT_READ | IMAP_RIGHT_INSERT | IMAP_RIGHT_CREATE | IMAP_RIGHT_DELETE |   \
		IMAP_RIGHT_ADMIN)
/*
 * On the loop, first of all in a command that is about a mailbox name: the jobs that follow go to the slot of the name's
 * owner. Nothing is told by it of whether there is such a mailbox.
 */
void imap_access_go(struct imap_session *s, struct slice name);
/*
 * In a job: the mailbox of this name, as the client wrote it, of which the session has all the rights (enum imap_right).
 * ERR_NOT_FOUND: not there, or there and not even to be looked up. ERR_FORBIDDEN: it may know the mailbox, but lacks a
 * right. ERR_DENIED: a name without a mailbox, and more is wanted than to look it up and to manage it. mailbox_out->account owns
 * it.
 */
MUST_CHECK int imap_access_find(struct imap_session *s, struct store_txn *txn, struct slice name,
	unsigned rights, struct store_mailbox *mailbox_out);
/* In a write job: it is about to change something of this account. */
void imap_session_changes(struct imap_session *s, struct store_txn *txn, uint32_t account);
/* In a job: what the session may do with a mailbox of this transaction. */
MUST_CHECK int imap_access_rights(struct imap_session *s, struct store_txn *txn,
	const struct store_mailbox *mailbox, unsigned *rights_out);
/* In a job about the selected mailbox: the rights on it are looked up anew (view.rights), as withdrawn ones count from the
 * next command on. ERR_NOT_FOUND: it may no longer be read. ERR_FORBIDDEN: one of these is missing. */
MUST_CHECK int imap_access_check(struct imap_session *s, struct store_txn *txn, unsigned rights);
/* A name that may come to be; normalised into the arena. ERR_SYNTAX, ERR_TOO_BIG, ERR_DENIED. */
MUST_CHECK int imap_access_name(
	struct imap_session *s, struct slice name, struct arena *arena, struct slice *name_out);
/* The session's own account: its subscriptions, its quota. Of mailboxes go by view.account and store_mailbox.account. */
uint32_t imap_access_account(const struct imap_session *s);
/* Flags and keywords without those that the rights do not reach (RFC 4314 section 4). */
uint8_t imap_access_flags(unsigned rights, uint8_t flags);

/* ---- commands, by file ---- */

imap_cmd_fn imap_cmd_select, imap_cmd_examine, imap_cmd_close, imap_cmd_unselect;
imap_cmd_fn imap_cmd_list, imap_cmd_lsub, imap_cmd_status;
imap_cmd_fn imap_cmd_create, imap_cmd_delete, imap_cmd_rename, imap_cmd_subscribe, imap_cmd_unsubscribe;
imap_cmd_fn imap_cmd_fetch, imap_cmd_search, imap_cmd_sort, imap_cmd_thread, imap_cmd_esearch, imap_cmd_store,
	imap_cmd_expunge, imap_cmd_uid_expunge, imap_cmd_copy;
imap_cmd_fn imap_cmd_append, imap_cmd_idle;
imap_cmd_fn imap_cmd_getmetadata, imap_cmd_setmetadata, imap_cmd_notify;
imap_cmd_fn imap_cmd_setacl, imap_cmd_deleteacl, imap_cmd_getacl, imap_cmd_listrights, imap_cmd_myrights,
	imap_cmd_namespace;
/* imap_cmd_acl.c: writes "* MYRIGHTS name rights" in a job. */
void imap_acl_write_myrights(struct imap_session *s, struct slice name, unsigned rights);
imap_cmd_fn imap_cmd_getquota, imap_cmd_getquotaroot, imap_cmd_setquota;

/* IDLE's input and the notices that reach it (imap_idle.c). */
bool imap_idle_input(struct imap_session *s);
void imap_idle_changed(struct imap_session *s);

/* imap_cmd_select.c: the view goes; later arrivals are no longer \Recent for others. */
void imap_select_leave(struct imap_session *s);

/* imap_cmd_list.c: "* LIST ..." of a mailbox that is selected, with OLDNAME if the client wrote its name otherwise (RFC 9051
 * sections 6.3.2 and 6.3.9.7). */
void imap_list_write(const struct imap_session *s, const struct store_mailbox *m, bool is_own,
	struct slice given, struct buf *out);
/* The same where IMAP4rev2 is enabled and the name is not what the client wrote; nothing else. */
void imap_list_write_oldname(const struct imap_session *s, const char *attribute, struct slice name,
	struct slice given, struct buf *out);

/* imap_cmd_store.c: a list of flags (its first element): system flags as bits, keywords as names. ERR_SYNTAX.
 */
MUST_CHECK int imap_store_read_flags(const struct imap_arg *first, struct arena *arena, uint8_t *flags_out,
	struct slice **keywords_out, size_t *count_out);
/* imap_cmd_store.c: "COPYUID uidvalidity old new" of pairs (uint32_t old UID, new UID). */
void imap_store_write_copyuid(const struct buf *pairs, uint32_t uidvalidity, struct buf *out);
/* imap_cmd.c: MODSEQ in every FETCH from here on. The first such command tells HIGHESTMODSEQ of what is selected (RFC
 * 7162 section 3.1). */
void imap_enable_condstore(struct imap_session *s);
/* imap_cmd.c: what this session is offered now, without the word CAPABILITY. */
void imap_write_capabilities(const struct imap_session *s, struct buf *out);
/* imap_cmd.c: the table; NULL: no such command. */
const struct imap_cmd *imap_cmd_find(struct slice name);
