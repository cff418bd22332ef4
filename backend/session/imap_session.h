/*
 * IMAP after login (RFC 3501 and what its capabilities name): one session per connection, on the
 * connection's loop. The session owns its connection and itself; it ends by LOGOUT, by the client, by a
 * deadline or by imap_service_bye(). All store work goes through backend/store_work: the loop never touches
 * the store.
 *
 * A service holds what all sessions share, with a list of them for each loop. Functions that take a loop are
 * called on that loop's thread.
 */
#pragma once

#include "backend/session/mailbox_session.h"
#include "backend/store/store.h"
#include "common/net/conn.h"

struct imap_service;
struct store_work;

struct imap_limits {
	uint64_t append_size;  /* octets of one message; more is NO [TOOBIG] */
	uint64_t idle_ms;      /* silence between commands, RFC 3501 section 5.4: at least 30 minutes */
	uint64_t transfer_ms;  /* silence within a literal or while the client does not take its answer */
	unsigned bad_commands; /* in a row, then BYE */
	bool acl_anyone;       /* users may give rights to "anyone" */
	bool is_strict_utf8; /* APPEND takes 8-bit headers only from those who have asked for UTF-8 (RFC 6855 section 4) */
	uint64_t progress_ms; /* between two notices of how far a long command is (RFC 9585) */
};
extern const struct imap_limits imap_limits_default;

/* limits are copied. loops: how many loops sessions may live on (numbers 0 to loops - 1). */
struct imap_service *imap_service_new(
	struct store_work *work, unsigned loops, const struct imap_limits *limits);
/* After the last session has ended. Accepts NULL. */
void imap_service_free(struct imap_service **service);
/* New limits for sessions that begin from now on. Any thread. */
void imap_service_set_limits(struct imap_service *service, const struct imap_limits *limits);

/* What GETMETADATA "" tells sessions that begin from now on (RFC 5464 section 6.2): /shared/comment and /shared/admin;
 * NULL: no such entry. Copied. Any thread. */
void imap_service_set_notes(struct imap_service *service, const char *comment, const char *admin);

/*
 * Where a connection goes that its client gives back by UNAUTHENTICATE (RFC 8437): it is `take`'s then, in the state before login,
 * perhaps with unread input. `drop` comes once, at the session's end, after take or without it. Both on the session's loop. The session's
 * frames are on the stack still: neither may begin another one.
 */
struct imap_return {
	void (*take)(
		void *arg, struct conn *conn_take, bool is_ended); /* NULL: UNAUTHENTICATE is not offered */
	void (*drop)(void *arg);
	void *arg;
};

struct imap_session_start {
	struct imap_service *service;
	struct conn *conn; /* taken; what the client sent after its login is its unread input */
	struct slice tag;  /* of the login command, which is answered with OK and the capabilities */
	const struct store_account *account;
	const char *session;       /* id for log lines; copied as the other values are */
	const struct addr *client; /* the client's own address; may be NULL */
	bool is_ended;             /* the client has half-closed already */
	struct imap_return back;
};
void imap_session_start(const struct imap_session_start *start);

/* ---- for the operator ---- */

/* Calls fn for each session of this loop; fn returning true ends that session with BYE and this text. */
void imap_service_each(struct imap_service *service, struct loop *loop,
	bool (*fn)(void *arg, const struct mailbox_session_info *info), void *arg, const char *bye_text);
/* Ends all of this loop with BYE: at once where nothing runs, else after the command in progress. */
void imap_service_bye(struct imap_service *service, struct loop *loop, const char *text);
/* Sessions on all loops. Any thread. */
unsigned imap_service_count(const struct imap_service *service);
