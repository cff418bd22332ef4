/*
 * A mail leg: one connection to a back-end's LMTP (or SMTP) service, from dialling to many transactions one
 * after the other. Commands are pipelined where the server allows it; each reply goes to the owner by an
 * event with the number that the owner gave.
 *
 * A leg belongs to its loop. It has an owner (a transaction), or rests in the loop's pool: at most
 * SMTP_LEG_POOL_MOST per back-end, SMTP_LEG_IDLE_MS long. A transaction ends in order (smtp_leg_release: the
 * next MAIL, RSET or QUIT tells the back-end that its marks may go), or is cut (smtp_leg_cut: the marks
 * stay).
 */
#pragma once

#include "common/front/smtp_front.h"
#include "common/net/timer.h"
#include "common/proto/smtp_reply.h"
#include "proxy/backends.h"

#define SMTP_LEG_POOL_MOST 64
#define SMTP_LEG_IDLE_MS 20000 /* then QUIT */
#define SMTP_LEG_RSET_MS                                                                                     \
	50 /* after this long in the pool a transaction that has ended is told to be over                    \
	    */
#define SMTP_LEG_END_MS 240000 /* for the answers to the end of data */

enum smtp_leg_event {
	SMTP_LEG_READY, /* commands may be given */
	SMTP_LEG_MAIL,  /* replies */
	SMTP_LEG_RCPT,
	SMTP_LEG_DATA,
	SMTP_LEG_END,     /* LMTP: one for each accepted recipient, by its number. SMTP: one, number 0 */
	SMTP_LEG_DRAINED, /* its output is no longer congested */
	SMTP_LEG_LOST     /* the leg is gone: why in reply->text; the owner forgets it */
};
struct smtp_leg;
/* reply: for the events that are replies, and SMTP_LEG_LOST (code 451). View of the call. */
typedef void smtp_leg_fn(void *owner, struct smtp_leg *leg, enum smtp_leg_event event, unsigned number,
	const struct smtp_reply *reply);

/* What MAIL says; views of the call. */
struct smtp_leg_mail {
	const struct smtp_mail *mail; /* as the client said it */
	uint64_t prefix;              /* octets of ours before the client's */
	const char *session, *helo, *user, *protocol;
	const struct addr *client;
	unsigned ttl; /* proxies that may come after us */
};

/*
 * A leg to this back-end for the owner: from the pool (rather the one that served a session of this name last; where the connection itself
 * says who the client is, only one that says this), else by dialling. Not ready: SMTP_LEG_READY will come, or SMTP_LEG_LOST; neither from within.
 * fresh: not from the pool. NULL: no connection can be made.
 */
struct smtp_leg *smtp_leg_take(struct loop *loop, struct backend *backend, uint16_t port, const char *host,
	const struct identity_client *client, bool fresh, smtp_leg_fn *fn, void *owner);
/*
 * The same to the back-end's submission service, logged in there: ready means that. It is told of the client before that. Such a leg is
 * of one session, client, greeting and account: from the pool comes none of another's. SMTP_LEG_LOST with code 535: it refuses the login, and no other host was tried.
 */
struct smtp_leg_login {
	struct slice account, password; /* password: replay. Copied until the login is done */
	const char *helo, *protocol;
	unsigned ttl;
};
struct smtp_leg *smtp_leg_take_login(struct loop *loop, struct backend *backend, uint16_t port,
	const char *host, const struct identity_client *client, const struct smtp_leg_login *login,
	bool fresh, smtp_leg_fn *fn, void *owner);
/* Is there one of this client and login that rests? */
bool smtp_leg_is_kept(const struct backend *backend, uint16_t port, const struct identity_client *client,
	const struct smtp_leg_login *login);
/* The session has ended: its legs that rest are ended in order. */
void smtp_leg_end_session(const char *session);
bool smtp_leg_is_ready(const struct smtp_leg *leg);
/* From the pool, and it has not answered this owner yet: if it is lost now, another may be tried. */
bool smtp_leg_is_stale(const struct smtp_leg *leg);
const struct smtp_words *smtp_leg_words(const struct smtp_leg *leg);
bool smtp_leg_is_smtp(const struct smtp_leg *leg);
/* It is ready, encrypted to whom we know, or loopback, and the server announces REQUIRETLS. */
bool smtp_leg_keeps_tls(const struct smtp_leg *leg);

void smtp_leg_mail(struct smtp_leg *leg, const struct smtp_leg_mail *mail);
/* Of rcpt the address as on the wire, and what the server knows of the rest: notify and orcpt with DSN, grey with XMARK. */
void smtp_leg_rcpt(struct smtp_leg *leg, unsigned number, const struct smtp_rcpt *rcpt);
/* What MAIL said of the client's octets is no longer so, or the message is to be held (hold: why; NULL: it is not). Before smtp_leg_data(). False: the
 * server knows nothing of marks; nothing is said. */
bool smtp_leg_mark(struct smtp_leg *leg, const struct smtp_mark *mark, const char *hold);
/* The body begins. False: octets may be given at once (chunks). True: SMTP_LEG_DATA will tell. */
bool smtp_leg_data(struct smtp_leg *leg);
void smtp_leg_body(struct smtp_leg *leg, struct slice bytes);
/* numbers: accepted recipients in the order of their RCPT (LMTP answers each). */
void smtp_leg_end(struct smtp_leg *leg, const unsigned *numbers, size_t count);
bool smtp_leg_is_congested(struct smtp_leg *leg);

/* The owner has done with it, in order; into the pool. */
void smtp_leg_release(struct smtp_leg **leg);
/* Without a word. */
void smtp_leg_cut(struct smtp_leg **leg);
/* Ends all resting legs of this loop in order (drain). */
void smtp_leg_end_pool(void);
/* Ends a resting leg of this loop with this back-end, if there is one: its connection is wanted elsewhere. */
bool smtp_leg_make_room(const struct backend *backend);
/* Legs of this loop with a host that was found down are lost, or go on with the next host if they have not begun. But one that
 * waits for the answer to a whole message waits on, unless the back-end would know the message again (XMARK). */
void smtp_leg_host_is_down(struct backend *backend, unsigned host, enum backend_protocol protocol);
