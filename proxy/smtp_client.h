/*
 * The inside of smtp_service, for its files alone: one struct smtp_client per session, its transaction with
 * recipients and shares. A share is one back-end's part of the transaction, with its leg. Everything runs on
 * the loop of the client's connection.
 */
#pragma once

#include "common/auth/auth_name.h"
#include "common/base/list.h"
#include "common/front/smtp_log.h"
#include "proxy/smtp_leg.h"
#include "proxy/smtp_service.h"
#include "proxy/worker.h"

enum smtp_recipient_state {
	SMTP_RECIPIENT_MAPPING, /* the map is asked */
	SMTP_RECIPIENT_WAITING, /* the leg is not ready */
	SMTP_RECIPIENT_ASKED,   /* its back-end is asked */
	SMTP_RECIPIENT_ACCEPTED,
	SMTP_RECIPIENT_REFUSED
};

struct smtp_recipient {
	struct list link; /* of the client */
	struct smtp_client *client;
	struct smtp_share *share;
	unsigned index; /* of the RCPT command */
	enum smtp_recipient_state state;
	struct usermap_request *request;
	char *wire;         /* the address as it came, for the leg */
	char *name;         /* normalised, with its detail */
	unsigned notify;    /* of enum smtp_notify */
	char *orcpt;        /* as on the wire */
	bool is_greylisted; /* the back-end is to put strangers off */
};

struct smtp_share {
	struct list link; /* of the client */
	struct smtp_client *client;
	struct backend *backend; /* counted */
	uint16_t port;
	struct smtp_leg *leg; /* NULL: lost or given back */
	unsigned accepted;
	unsigned answers_due; /* to the end of data */
	bool is_mail_refused, was_retried, is_data_asked, has_failed;
	bool is_mail_owed; /* submission: the client has his answer to MAIL, this back-end has not given its own */
	struct smtp_answer mail_refusal;
	char refusal_text[512];
};

/* Where a user's mail is handed over, in the order of trying. */
#define SMTP_WAYS_MOST 8
struct smtp_way {
	struct backend *backend; /* counted */
	uint16_t port;
};

struct smtp_client {
	struct list link; /* of this thread's sessions */
	struct smtp_front *front;
	uint64_t number;       /* for struct session_walk */
	int64_t since;         /* seconds since 1970 */
	struct config *config; /* counted; of the session */
	enum config_service service;
	struct usermap_request *login_request;
	char *login_name;
	struct usermap_request *verify_request;
	char *verify_name;                           /* whom VRFY asks about, normalised */
	struct secret stored;                        /* fetched */
	const struct front_credentials *credentials; /* the front's, while a login is decided */
	struct smtp_trial *trial;
	/* submission, from the login on */
	struct smtp_way ways[SMTP_WAYS_MOST];
	unsigned way_count, way_at;
	char *account;          /* as he is called there */
	struct secret password; /* replay */
	bool awaits_mail;       /* MAIL was passed on */
	bool owes_mail;         /* MAIL was answered, and goes with the first RCPT */
	char *known_sender;     /* whom a back-end took last at MAIL; NULL: nobody yet */

	/* the transaction */
	struct list recipients, shares;
	struct arena arena; /* texts of MAIL */
	struct smtp_mail mail;
	struct buf received;
	unsigned data_due; /* legs whose answer to DATA is awaited */
	bool is_data, is_ended, is_answered;
	/* what the legs have said to the end so far */
	bool has_yes, has_no, has_later;
	unsigned ends_due;
	struct buf first_no; /* "550 5.1.1 text" as it will be told */
	unsigned no_code;
	size_t no_enhanced;
};

extern const struct smtp_ops smtp_client_ops;

/* smtp_recipient.c */
void smtp_recipient_new(struct smtp_client *c, unsigned index, const struct smtp_rcpt *rcpt);
void smtp_recipient_free(struct smtp_recipient *r);
void smtp_recipient_answer(struct smtp_recipient *r, const struct smtp_answer *answer);
/* VRFY; and the session goes with it unanswered. */
void smtp_verify(struct smtp_front *front, const struct smtp_path *path);
void smtp_verify_cancel(struct smtp_client *c);
/* Events of legs. */
void smtp_share_event(void *owner, struct smtp_leg *leg, enum smtp_leg_event event, unsigned number,
	const struct smtp_reply *reply);
void smtp_share_free(struct smtp_share *s);
/* Whom a leg is for. Its local address is asked of the system for those alone that are told it by a header; else NULL. */
struct identity_client smtp_share_identity(const struct smtp_share *s);

/* Says MAIL to the share's leg, which is ready. */
void smtp_share_mail(struct smtp_share *s);
/* Its recipients that wait for an answer are now the other one's, which has a leg. */
void smtp_share_move(struct smtp_share *from, struct smtp_share *to);

/* smtp_submission.c */
/* The login is right: keeps where he is led. ERR_DENIED: nowhere; ERR_NOT_NOW: nowhere that may be. */
MUST_CHECK int smtp_submission_found(
	struct smtp_client *c, const struct usermap_answer *found, const char **why_out);
void smtp_submission_forget(struct smtp_client *c);
void smtp_submission_mail(struct smtp_client *c);
void smtp_submission_mail_answered(struct smtp_share *s, const struct smtp_reply *reply);
/* Leg or MAIL were lost, or MAIL refused, when a recipient waited: the next MAIL is answered by the back-end again. */
void smtp_submission_doubt(struct smtp_client *c);
/* A leg for the share, logged in. */
bool smtp_submission_take_leg(struct smtp_share *s, bool fresh);
/* False: it is no affair of MAIL any more. */
bool smtp_submission_leg_lost(struct smtp_share *s, const struct smtp_reply *reply, bool was_stale);
/* The leg is lost, and MAIL was owed to it: goes on with the next way. False: there is none. */
bool smtp_submission_next_way(struct smtp_share *s, const struct smtp_reply *reply);
/* Of the transaction, taken now if MAIL is owed; NULL: lost, or there is no way. */
struct smtp_share *smtp_submission_share(struct smtp_client *c);

/* smtp_body.c */
void smtp_body_begin(struct smtp_client *c);
void smtp_body_data_answer(struct smtp_share *s, const struct smtp_reply *reply);
void smtp_body_chunk(struct smtp_client *c, struct slice bytes);
void smtp_body_end(struct smtp_client *c);
void smtp_body_end_answer(struct smtp_share *s, const struct smtp_reply *reply);
/* The leg was lost while the body was on its way or awaited its answers. */
void smtp_body_leg_lost(struct smtp_share *s);
void smtp_body_drained(struct smtp_client *c);
void smtp_body_sent(struct smtp_client *c);
/* The body comes to no end: legs that have begun it are cut. */
void smtp_body_cut(struct smtp_client *c);

/* smtp_login.c */
void smtp_login(struct smtp_front *front, const struct front_credentials *credentials);
void smtp_login_cancel(struct smtp_front *front);
/* A login that is tried at this host goes on with the next one, or ends as not now. */
void smtp_login_host_is_down(struct smtp_client *c, struct backend *backend, unsigned host);
