/*
 * POP3 after login (RFC 1939 without APOP, RFC 2449): one session per connection, on the connection's loop. A
 * session owns its connection and itself; it ends by QUIT, by the client, by a deadline, or by
 * pop3_service_bye(). What it shows is the INBOX as it was when the session began; messages that IMAP
 * expunges meanwhile stay readable. Deletions happen at QUIT alone, in one go, before it is answered.
 *
 * All store work goes through backend/store_work. Functions that take a loop are called on that loop's
 * thread.
 */
#pragma once

#include "backend/session/mailbox_session.h"
#include "backend/store/store.h"
#include "common/net/conn.h"

struct pop3_service;
struct pop3_lock;
struct store_work;

struct pop3_limits {
	uint64_t idle_ms;      /* silence between commands: RFC 1939 section 3 wants at least 10 minutes */
	uint64_t transfer_ms;  /* a client that does not take what it asked for */
	unsigned bad_commands; /* in a row, then the end */
	bool is_exclusive;     /* one session of an account at a time */
	bool is_strict_utf8;   /* messages with 8-bit headers only to those who have asked for UTF-8 */
};

/* limits are copied. loops: how many loops sessions may live on (numbers 0 to loops - 1). */
struct pop3_service *pop3_service_new(
	struct store_work *work, unsigned loops, const struct pop3_limits *limits);
/* After the last session has ended. Accepts NULL. */
void pop3_service_free(struct pop3_service **service);
/* For sessions that begin from now on. Any thread. */
void pop3_service_set_limits(struct pop3_service *service, const struct pop3_limits *limits);

/*
 * The lock of an account's maildrop, to be taken before the login is answered. ERR_DENIED: another session
 * has it. With snapshots all succeed. Any thread.
 */
MUST_CHECK int pop3_lock_take(
	struct pop3_service *service, const struct store_account *account, struct pop3_lock **lock_out);
/* Accepts NULL, sets NULL. */
void pop3_lock_release(struct pop3_lock **lock);

struct pop3_session_start {
	struct pop3_service *service;
	struct conn *conn;      /* taken; what the client sent after its login is its unread input */
	struct pop3_lock *lock; /* taken */
	const struct store_account *account;
	const char *session;       /* id for log lines; copied as the other values are */
	const struct addr *client; /* the client's own address; may be NULL */
	bool is_ended;             /* the client has half-closed already */
	bool is_utf8;              /* it has asked for UTF-8 (RFC 6856) */
};
/* Answers the login: +OK, or -ERR [SYS/TEMP] and the end when the maildrop cannot be read now. */
void pop3_session_start(const struct pop3_session_start *start);

/* ---- for the operator ---- */

/* Calls fn for each session of this loop; fn returning true ends that session with -ERR and this text. */
void pop3_service_each(struct pop3_service *service, struct loop *loop,
	bool (*fn)(void *arg, const struct mailbox_session_info *info), void *arg, const char *bye_text);
/* Ends all of this loop: at once where nothing runs, else after the command in progress. */
void pop3_service_bye(struct pop3_service *service, struct loop *loop, const char *text);
/* Sessions on all loops. Any thread. */
unsigned pop3_service_count(const struct pop3_service *service);
