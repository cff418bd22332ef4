/*
 * Local delivery of one message: recipients are found and their quota reserved as they come, the body goes
 * into a spool, then each slot gets one job for all its recipients; every recipient has a result of its own,
 * given after its commit.
 *
 * Repeat marks: a delivery that a proxy marked is looked up by SHA-256(sender, recipient, client's bytes) in
 * the same transaction that stores it; a repeat that meets its mark counts as delivered and is not stored.
 * The marks go when the leg ends in order (delivery_end with is_retired) and stay otherwise, until the store
 * expires them.
 *
 * A delivery belongs to a session and its loop. Ended while jobs run, they finish by themselves.
 */
#pragma once

#include "backend/store_work/store_work.h"
#include "common/base/buf.h"
#include "common/net/loop.h"
#include "common/proto/smtp_parse.h"

/* One per program; any thread uses it. Keeps what must outlast a reload: which marks are held. */
struct delivery_service;
struct delivery_service *delivery_service_new(struct store_work *work);
/* After the last delivery has ended and the store's jobs are done. */
void delivery_service_free(struct delivery_service **service);

struct delivery;

/* sender: as on the wire, "" for the null path; mark as MAIL gave it, believed by the caller; size:
 * announced, 0 unknown. */
struct delivery *delivery_begin(struct delivery_service *service, struct loop *loop, struct slice sender,
	uint64_t size, const struct smtp_mark *mark);

/*
 * Finds an account by address, alias, without detail, or by what its domain says of others, follows its forwarding, and reserves
 * the quota of all. 0 and its number; ERR_NOT_FOUND; ERR_DENIED: takes no mail; ERR_NOT_NOW: takes none now; ERR_TOO_BIG: over quota;
 * ERR_SYNTAX; of forwarding ERR_FULL: a target is over quota, ERR_CLOSED: it is broken, ERR_UNSUPPORTED: in circles. A
 * recipient named twice gets the number it has.
 */
MUST_CHECK int delivery_add_recipient(
	struct delivery *d, const struct smtp_path *path, unsigned *recipient_out);
/* The same question without a transaction, of forwarding and quota nothing: 0, ERR_NOT_FOUND, ERR_DENIED, ERR_NOT_NOW, ERR_SYNTAX. */
MUST_CHECK int delivery_find(struct delivery_service *service, const struct smtp_path *path);
/*
 * The queue. A recipient elsewhere (or anywhere: the queue brings mail for accounts of this back-end to them at once) becomes one record of the
 * queue of the slot in which the sender's account lives, in the commit that stores the message.
 *
 * Where all recipients have one answer (SMTP, is_whole) nothing may be stored for one and fail for another: if one of them goes to the queue,
 * or they live in several slots, all go to the queue of one slot, in one commit.
 */
struct delivery_envelope {
	struct slice session; /* the edge's id */
	struct slice user;    /* who was authenticated; "" nobody */
	enum smtp_ret ret;
	struct slice envid; /* xtext as written */
	bool is_8bit;       /* BODY=8BITMIME */
	bool is_utf8;       /* SMTPUTF8 */
	bool requires_tls;
	bool is_whole;
};
/* Another mark than delivery_begin() was given. Before the first piece of the body. */
void delivery_set_mark(struct delivery *d, const struct smtp_mark *mark);
/* What the transaction asks for. Before the first recipient; copied. Not called: nothing is asked for, LMTP. */
void delivery_set_envelope(struct delivery *d, const struct delivery_envelope *envelope);
/* One that goes to the queue. 0 and its number, as delivery_add_recipient(); ERR_SYNTAX: no domain, or one that cannot be. */
MUST_CHECK int delivery_add_remote(struct delivery *d, const struct smtp_rcpt *rcpt, unsigned *recipient_out);
/* What a recipient that was added by delivery_add_recipient() asks for, if it comes to that. */
void delivery_set_wishes(struct delivery *d, unsigned recipient, unsigned notify, struct slice orcpt);
/* Quarantine: all of it goes to the queue and is held there until an operator releases it, recipients of this back-end too. Before
 * delivery_finish(). */
void delivery_hold(struct delivery *d, struct slice reason);
/* How senders of what is forwarded to other servers are rewritten (srs.h), from now on; NULL: not at all. Any thread. */
struct srs;
void delivery_service_set_srs(struct delivery_service *service, struct srs *srs_take);
/* The address is such a sender, to which something comes back. Any thread. */
bool delivery_service_is_returned(struct delivery_service *service, const struct smtp_path *path);
/* fn is called on a delivery's loop after each commit that put something into a queue; once, at the start. */
typedef void delivery_queued_fn(void *arg);
void delivery_service_on_queued(struct delivery_service *service, delivery_queued_fn *fn, void *arg);

/* The message's first lines, ours: Return-Path and the given Received field. Before the first piece of the
 * body. */
void delivery_add_trace(struct delivery *d, struct slice received);
/* Pieces of the body. ERR_FULL, ERR_IO: sticky, told by delivery_finish() again. */
MUST_CHECK int delivery_add_body(struct delivery *d, struct slice bytes);

/* How the octets that come differ from the client's, where MAIL could not say it yet: `prefix` of ours come first. Before the first piece. */
void delivery_set_prefix(struct delivery *d, uint64_t prefix);
/* The digest of the client's octets, where others are delivered. Before delivery_finish(). */
void delivery_set_digest(struct delivery *d, const uint8_t digest[SMTP_DIGEST_LEN]);

/* error 0: it is stored, and on disk (or was a repeat). ERR_FULL, ERR_NOT_NOW …: not now. ERR_NOT_FOUND: the
 * account went. */
typedef void delivery_fn(void *arg, unsigned recipient, int error);
/* Stores for all recipients; fn comes once for each on the loop, never from within. */
void delivery_finish(struct delivery *d, delivery_fn *fn, void *arg);

/* After delivery_finish(): does this recipient wait in the queue, whether or not he lives here? */
bool delivery_is_queued(const struct delivery *d, unsigned recipient);

/* The transaction is over: reservations go. is_retired: marks go too. fn will not be called any more. Accepts
 * NULL. */
void delivery_end(struct delivery **d, bool is_retired);
