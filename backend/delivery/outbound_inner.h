/*
 * The inside of sending, between outbound.c (next hops, tries, how many connections), outbound_walk.c (a session finds a host that serves
 * it) and outbound_send.c (a message over a session's connection). One loop's thread.
 *
 *	outbound -> hop (a next hop) -> try (waits, or has a session)
 *	                             -> session (a connection, or the search for one; with a try, or idle)
 */
#pragma once

#include <pthread.h>

#include "backend/delivery/mta_sts.h"
#include "backend/delivery/outbound.h"
#include "backend/delivery/outbound_settings.h"
#include "backend/delivery/tls_report.h"
#include "common/base/list.h"
#include "common/net/timer.h"
#include "common/proto/smtp_data.h"

struct outbound {
	struct loop *loop;
	pthread_mutex_t lock;               /* over the pointer `settings` alone */
	struct outbound_settings *settings; /* the newest */
	struct table *hops;
	struct list crowded; /* hops with tries that wait */
	struct list idle;    /* sessions of all hops, the longest idle first */
	struct list every;   /* sessions of all hops */
	unsigned sessions;
	_Atomic unsigned tries; /* read by others too */
	unsigned source_next;
	bool wants_room, is_pumping, is_over;
	outbound_room_fn *room;
	void *room_arg;
	struct mta_sts *sts;
	struct work_pool *logins; /* of smarthosts */
	struct tls_report *report;
};

struct outbound_hop {
	struct outbound *o;
	struct list crowded;
	struct list waiting; /* tries */
	struct list idle;    /* sessions */
	double window;       /* connections that it may have now */
	unsigned sessions, busy, tries;
	bool wants_room;
	struct mx_hosts *hosts;        /* what was found last */
	struct mta_sts_policy *policy; /* with the hosts; NULL: none */
	struct timer unused;
	char name[];
};

enum outbound_recipient_state {
	OUTBOUND_WAITS,
	OUTBOUND_ASKED, /* RCPT was said */
	OUTBOUND_TAKEN, /* and answered 2yz */
	OUTBOUND_KNOWN  /* has its result */
};

struct outbound_try {
	struct list link; /* hop's waiting */
	struct outbound_hop *hop;
	struct outbound_session *session;
	struct outbound_request r;
	uint8_t *states; /* of recipients: enum outbound_recipient_state */
	size_t left;     /* recipients without a result */
	uint64_t begun_ms, ready_ms;
	bool is_reading; /* read() is not answered yet */
	bool is_stale;   /* and its answer will be for a connection that was lost */
	bool is_unreachable;
	char reason[SMTP_CLIENT_TEXT_MAX];
};

enum outbound_step {
	OUTBOUND_SEARCHES, /* for a host */
	OUTBOUND_IDLE,     /* connected, nothing to do */
	OUTBOUND_READS,    /* a small message is read before its envelope is said */
	OUTBOUND_SAYS,     /* MAIL, RCPT, DATA were said (and a small body by BDAT) */
	OUTBOUND_STREAMS,  /* the body goes out */
	OUTBOUND_ENDS,     /* its end was said */
	OUTBOUND_OVER
};

/* How sure the other side is. */
enum outbound_trust {
	OUTBOUND_CLEAR,
	OUTBOUND_ENCRYPTED,
	OUTBOUND_VERIFIED, /* by a certificate under an authority, for a name that a validated answer or the operator gave */
	OUTBOUND_DANE
};

struct outbound_session {
	struct list link, all; /* idle: of the hop, of all */
	struct list every;
	struct outbound_hop *hop;
	struct outbound_settings *settings;
	const struct outbound_route *route; /* the settings' */
	struct outbound_try *t;
	enum outbound_step step;
	/* the search */
	struct mx_lookup *lookup;
	struct mta_sts_request *sts;
	struct mx_hosts *hosts;
	struct mta_sts_policy *policy;
	unsigned host, addr, tried;
	uint32_t seen;     /* a bit for each host that had its turn */
	bool spares_down;  /* hosts that did not answer lately come in a second round */
	bool in_clear;     /* TLS failed at this address: once more without */
	bool was_reached;  /* some host has taken commands since the try began */
	bool is_reused;    /* the try began on a connection that was there */
	bool has_answered; /* since then */
	enum outbound_trust trust;
	struct smtp_client *client;
	struct tls_dane dane;
	/* what the last failure was */
	bool is_for_good, was_temporary;
	unsigned code;
	char enhanced[16], text[SMTP_CLIENT_TEXT_MAX];
	char relay[400], tls[100];
	const char *host_name; /* the hosts'; "" none */
	/* the transaction */
	size_t *asked; /* recipients, in the order of their RCPTs */
	size_t asked_count, asked_room, answered, taken;
	bool is_mail_taken, is_dirty, is_chunked, is_end_said, is_end_known, is_broken;
	bool uses_utf8;
	bool is_pulling, pulls_again;
	uint64_t at;     /* octets read of the message */
	struct buf body; /* a small message, raw */
	struct smtp_encoder encoder;
	unsigned messages; /* transactions over this connection */
	struct timer idle;
};

/* ---- outbound.c ---- */

/* The result of one recipient, told at once. */
void outbound_give(struct outbound_session *s, size_t recipient, enum outbound_verdict verdict, unsigned code,
	const char *enhanced, const char *text);
/* Of all that have none yet. */
void outbound_give_all(struct outbound_session *s, enum outbound_verdict verdict, unsigned code,
	const char *enhanced, const char *text);
/* The try of this session has all its results: tells, and finds the session something to do. */
void outbound_done(struct outbound_session *s);
/* The hop fares well or badly: its window changes. */
void outbound_fares(struct outbound_hop *hop, const struct outbound_route *route, bool well);
/* Ends a session without a try. */
void outbound_session_end(struct outbound_session *s);

/* ---- outbound_walk.c ---- */

/* Finds a host and goes on with outbound_send(). */
void outbound_walk(struct outbound_session *s);
/* The next address: the connection is gone, `text` and its kin say why. */
void outbound_walk_on(struct outbound_session *s);
/* What the search ends with if nothing better comes. */
void outbound_note(
	struct outbound_session *s, bool is_for_good, unsigned code, const char *enhanced, const char *text);

/* ---- outbound_send.c ---- */

/* Sends the session's try over its connection. */
void outbound_send(struct outbound_session *s);
void outbound_send_reply(struct outbound_session *s, unsigned tag, const struct smtp_client_reply *reply);
void outbound_send_drained(struct outbound_session *s);
/* The connection was lost. */
void outbound_send_lost(struct outbound_session *s, const struct smtp_client_reply *reply);
