/*
 * Private to smtp_leg.c (a leg's conversation) and smtp_leg_pool.c (dialling, keeping and finding legs). All of a leg is its loop's.
 */
#pragma once

#include "proxy/smtp_leg.h"

enum leg_phase {
	LEG_DIALS,
	LEG_GREETS,
	LEG_HELLO,
	LEG_STARTS_TLS,
	LEG_SECURES,
	LEG_TELLS, /* XCLIENT, before the login */
	LEG_LOGS_IN,
	LEG_WORKS,
	LEG_GONE
};

enum expect {
	EXPECT_XCLIENT,
	EXPECT_MAIL,
	EXPECT_RCPT,
	EXPECT_MARK,
	EXPECT_DATA,
	EXPECT_CHUNK,
	EXPECT_END,
	EXPECT_RSET,
	EXPECT_HELLO
};

struct expected {
	enum expect kind;
	unsigned number, serial;
	size_t len; /* octets in todo; 0: part of the entry before, or sent */
	bool is_sent;
};

/* Of a submission leg. */
struct leg_user {
	char *account, *helo, *protocol;
	struct secret password;
	struct addr client;
	unsigned ttl;
	bool is_told;
};

struct smtp_leg {
	struct list link; /* pool */
	struct list all;  /* of this thread */
	struct loop *loop;
	struct backend *backend;
	enum backend_protocol protocol;
	struct backend_try attempt; /* which of its hosts */
	uint16_t port;
	char *host;
	struct conn *conn;
	struct timer timer;
	enum leg_phase phase;
	struct smtp_words words;
	bool is_secure, is_pooled, is_from_pool, has_answered, is_chunked;
	bool is_dirty;   /* a transaction has ended, and the server was not told anything after it */
	bool is_open;    /* MAIL was said, and no body has ended since */
	struct buf told; /* the last XCLIENT; empty: the back-end was told of nobody */
	char session[FRONT_SESSION_MOST + 1];     /* whom it served last */
	char own_session[FRONT_SESSION_MOST + 1]; /* for whom it was dialled */
	struct buf header;                        /* of the PROXY protocol */
	struct leg_user *user;                    /* submission: who is logged in; NULL: nobody is */
	bool is_smtp;
	unsigned serial;
	struct buf todo;
	struct expected *expected;
	size_t head, count, room;
	struct smtp_encoder encoder;
	struct buf chunk;
	smtp_leg_fn *fn;
	void *owner;
};

/* Tells the owner SMTP_LEG_LOST and ends the leg, or, while it is being connected, goes on with the next host. */
void smtp_leg_lose(struct smtp_leg *l, const char *why);
/* Says QUIT if the other side listens, and ends the leg; nobody is told. */
void smtp_leg_quit(struct smtp_leg *l);
/* The end of a leg whose connection is closed: it is freed after this turn of the loop. */
void smtp_leg_gone(struct smtp_leg *l);
/* Dials the next host of its back-end, in a moment. False: there is none. */
bool smtp_leg_redial(struct smtp_leg *l);
/* The connection's events, and the timer's; arg and owner are the leg. */
void smtp_leg_on_event(void *owner, struct conn *conn, enum conn_event event);
void smtp_leg_on_timer(void *arg);
