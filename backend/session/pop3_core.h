/*
 * What the files of the POP3 session share, and nobody else sees: the session, its state, its maildrop, its store jobs.
 *
 *	pop3.c          service, begin and end, states, events        pop3_command.c   the table of commands
 *	pop3_store.c    jobs: open, pieces of a message, UIDLs, update pop3_lock.c      the lock of a maildrop
 *	pop3_ahead.c    small messages, read before they are asked for
 *
 * Memory: a session counts one reference for itself and one for each job, because a job's `run` may still be at work
 * on a reader thread when the session ends. What a job writes (struct pop3_session's job_*) nobody else touches before
 * its `done`.
 */
#pragma once

#include "backend/session/imap_uids.h"
#include "backend/session/pop3.h"
#include "backend/store_work/store_work.h"
#include "common/base/list.h"
#include "common/net/timer.h"
#include "common/proto/pop3_parse.h"

/* Bytes of a message that are read at a time: a frame of the store. */
#define POP3_PIECE_MAX STORE_FRAME_SIZE
/* What a job reads ahead, and the largest message that is read so; a session holds twice that (and room for dots) while it goes on
 * retrieving, and forgets it when it has been silent so long. */
#define POP3_AHEAD_BYTES (120u * 1024)
#define POP3_AHEAD_MESSAGES 64
#define POP3_AHEAD_MESSAGE (60u * 1024)
#define POP3_AHEAD_MS 2000
/* UIDLs that are read at a time. */
#define POP3_UIDLS_MAX 1000
/* Sizes of messages that a session holds at once, 4 bytes each: all of most maildrops. */
#define POP3_SIZES_MAX 2048

enum pop3_state {
	POP3_OPENING,  /* the maildrop is being read; the login waits for its answer */
	POP3_COMMAND,  /* a command is awaited */
	POP3_LISTING,  /* LIST or UIDL goes out */
	POP3_SENDING,  /* RETR or TOP goes out */
	POP3_UPDATING, /* QUIT: deletions are being stored */
	POP3_ENDED     /* only jobs still hold it */
};
#define POP3_STATES (POP3_ENDED + 1)

/* Sizes of `count` messages from index `first` on. */
struct pop3_sizes {
	uint32_t *list; /* NULL: none */
	uint32_t first, count;
};

struct pop3_maildrop {
	uint32_t mailbox;
	uint32_t count;
	struct imap_uids uids; /* as IMAP's views have them; it does not change */
	struct pop3_sizes sizes;
	uint8_t *deleted; /* NULL: none */
	uint32_t deleted_count;
	uint64_t deleted_bytes;
	uint64_t bytes; /* of all, deleted ones too */
	struct store_view *view;
};

struct pop3_session {
	struct pop3_service *service;
	struct conn *conn; /* NULL once ended */
	struct loop *loop;
	struct list link;
	struct timer timer;
	enum pop3_state state;
	unsigned refs;
	bool is_eof;
	bool is_pumping;
	bool is_utf8;
	unsigned bad_commands;
	struct pop3_limits limits;
	struct pop3_lock *lock;
	struct store_account account;
	struct pop3_maildrop drop;
	uint64_t since_ms; /* wall clock */
	uint64_t number;   /* for the operator's lists */
	uint64_t retrieved, retrieved_bytes;
	char session[72];
	char client[64];
	char *bye; /* end with these words after the command in progress */

	/* LIST and UIDL: messages at .. end - 1 are still to be shown */
	uint32_t at, end;
	bool is_uidl;
	bool is_single; /* one line, no dot */

	/* What goes on with message `wanted` once its size is there; NULL: LIST does */
	void (*go_on)(struct pop3_session *s, uint32_t i);
	uint32_t wanted;

	/* RETR and TOP */
	uint32_t sending; /* index */
	uint64_t offset;
	bool is_answered;
	bool is_top, is_in_header, is_after_cr;
	uint32_t lines_left;
	uint32_t line_len;
	struct pop3_parse_stuff stuff;

	struct pop3_ahead *ahead; /* NULL: nothing was retrieved lately */
	bool is_silent;           /* for POP3_AHEAD_MS */

	/* the job under way, and its results */
	struct store_job *job;
	struct pop3_maildrop job_drop;
	char *job_piece;
	size_t job_piece_len;
	uint64_t job_message_size;
	bool job_is_last;
	struct pop3_sizes job_sizes;
	struct buf job_text;
	uint32_t *job_uids; /* to expunge */
	uint32_t job_uid_count;
};

/* The size of message i; NULL: it is not held, see pop3_store_sizes(). */
static inline const uint32_t *pop3_size(const struct pop3_session *s, uint32_t i)
{
	const struct pop3_sizes *sizes = &s->drop.sizes;

	return i >= sizes->first && i - sizes->first < sizes->count ? &sizes->list[i - sizes->first] : NULL;
}

/* ---- pop3.c ---- */

struct store_work *pop3_store_work(const struct pop3_session *s);
/* The one place that changes the state; sets its deadline. */
void pop3_enter(struct pop3_session *s, enum pop3_state state);
void pop3_unref(struct pop3_session *s);
void pop3_say(struct pop3_session *s, const char *line);
/* Sends what was said, closes, and lets go. */
void pop3_end(struct pop3_session *s, const char *why);
/* Back to commands: takes those that wait. */
void pop3_resume(struct pop3_session *s);
void pop3_count_update(struct pop3_session *s, bool is_done);

/* ---- pop3_command.c ---- */

/* One command that was read; n: numbers of its arguments. */
void pop3_command_do(struct pop3_session *s, const struct pop3_command *command);
/* Goes on with LIST or UIDL while there is room. */
void pop3_command_list_on(struct pop3_session *s);
/* RETR of one that is not read ahead. */
void pop3_command_send_by_pieces(struct pop3_session *s, uint32_t i);
/* Shows the job's piece, then asks for the next while there is room. */
void pop3_command_send_on(struct pop3_session *s);

/* ---- pop3_store.c: each ends in the function named ---- */

void pop3_store_open(struct pop3_session *s); /* pop3_opened */
void pop3_store_piece(
	struct pop3_session *s); /* pop3_piece_came: job_piece from s->offset of message s->sending */
void pop3_store_uidls(
	struct pop3_session *s); /* pop3_uidls_came: job_text has the lines of s->at and following ones */
void pop3_store_sizes(struct pop3_session *s,
	uint32_t i); /* pop3_sizes_came: job_sizes has those of message i and of others around it */
void pop3_store_update(struct pop3_session *s); /* pop3_updated */

void pop3_opened(struct pop3_session *s, int err);
void pop3_piece_came(struct pop3_session *s, int err);
void pop3_uidls_came(struct pop3_session *s, int err);
void pop3_sizes_came(struct pop3_session *s, int err);
void pop3_updated(struct pop3_session *s, int err);

/* ---- pop3_ahead.c ---- */

/* RETR of message i: true if the answer is written, or comes (the state is POP3_SENDING then). False: it goes by pieces. */
bool pop3_ahead_retr(struct pop3_session *s, uint32_t i);
bool pop3_ahead_is_awaited(const struct pop3_session *s);
/* The session is silent. */
void pop3_ahead_forget(struct pop3_session *s);
/* The session ends; a job may still be at work on its memory. */
void pop3_ahead_cancel(struct pop3_session *s);
/* No job is. */
void pop3_ahead_free(struct pop3_session *s);

/* ---- pop3_lock.c ---- */

struct pop3_locks;
struct pop3_locks *pop3_locks_new(void);
void pop3_locks_free(struct pop3_locks **locks);
MUST_CHECK int pop3_locks_take(struct pop3_locks *locks, const struct store_account *account,
	bool is_exclusive, struct pop3_lock **lock_out);
