/*
 * SMTP in on the back-end itself: what common/front/smtp_front.h leaves to the tier for its services `smtp` (mail for accounts here, from
 * anywhere) and `submission` (mail from users who have logged in, to anywhere). Recipients with an account here are delivered, others go to
 * the queue where that is allowed: users who have logged in, and networks that may relay. One answer for all recipients, after the commit.
 *
 * A delivery is marked whether or not a proxy asked for it: a client that got no answer, or 451, repeats the same octets without making a
 * second message. The marks go when the client goes on after a 250.
 *
 * A service is constant while sessions use it, and counted: a reload makes a new one over the same delivery_service. Logging in is
 * the program's: settings->login, which ends by smtp_in_logged_in() or smtp_front_answer_login().
 */
#pragma once

#include "backend/delivery/delivery.h"
#include "backend/delivery/greylist.h"
#include "backend/session/send_limits.h"
#include "backend/store/store.h"
#include "common/control/session_verbs.h"
#include "common/front/smtp_front.h"

enum smtp_in_sender {
	SMTP_IN_SENDER_OWN,    /* an address of the user's account */
	SMTP_IN_SENDER_DOMAIN, /* any of the domain of one of them */
	SMTP_IN_SENDER_ANY
};

struct smtp_in_settings {
	const char *name;          /* "smtp", "submission" */
	const char *host, *domain; /* as struct lmtp_settings has them; outlive the service */
	struct tls *tls;           /* referenced */
	bool allows_clear, is_submission;
	struct front_auth *auth; /* taken; NULL: nobody can log in */
	struct penalty *penalty;
	const struct smtp_complete_options
		*complete; /* outlives the service; NULL: headers stay as they are */
	enum smtp_in_sender sender_check;
	bool takes_null_sender; /* of users */
	bool takes_guests;      /* users without an account here, whom a proxy has logged in */
	bool is_over_quota_permanent;
	bool keeps_sent; /* a copy goes into the user's mailbox with the special use \Sent */
	struct store_greylist_terms greylist;
	struct send_limits *limits;
	/* What this user may send. account NULL: a guest. */
	void (*allowance)(void *arg, const struct store_account *account, const char *user,
		struct send_allowance *allowance_out);
	/* May this peer send to anywhere without logging in? */
	bool (*may_relay)(void *arg, const struct addr *peer);
	/* Is the domain (normalised) one whose unknown recipients live elsewhere in the cluster? */
	bool (*is_cluster_domain)(void *arg, struct slice domain);
	bool (*is_trusted)(void *arg, struct conn *conn);
	void (*login)(void *arg, struct smtp_front *front, const struct front_credentials *credentials);
	void (*login_cancel)(void *arg, struct smtp_front *front);
	void *arg;
	void (*free_arg)(void *arg); /* when the last session has gone; NULL: nothing */
};

struct smtp_in_service;
struct smtp_in_service *smtp_in_service_new(
	struct delivery_service *delivery, struct store_work *work, const struct smtp_in_settings *settings);
/* For its limits and manners, before the first session. */
struct smtp_service *smtp_in_service_front(struct smtp_in_service *service);
/* Its sessions keep it until they end. Accepts NULL. */
void smtp_in_service_unref(struct smtp_in_service **service);

/* Takes an accepted connection; flags of enum front_flag. On the connection's loop. */
void smtp_in_start(struct smtp_in_service *service, struct conn *conn_take, unsigned flags);

/* ---- for the program's logins, on the session's loop ---- */

/* One pointer for the login in progress; NULL at first. */
void smtp_in_set_login(struct smtp_front *front, void *login);
void *smtp_in_login(const struct smtp_front *front);
/* Answers the login: it is right. account: whose; NULL: a guest, user. is_vouched: a proxy
 * says so. ERR_DENIED: this service takes no guests, nothing was answered. */
MUST_CHECK int smtp_in_logged_in(
	struct smtp_front *front, const struct store_account *account, struct slice user, bool is_vouched);

/* ---- all sessions of a loop; on it ---- */

/* For the verbs about sessions. */
void smtp_in_each(struct loop *loop, struct session_walk *walk);
/* As lmtp_close_all(). */
void smtp_in_close_all(struct loop *loop, bool is_now);
/* Ends those of logged-in users for whom must_end says so. */
void smtp_in_recheck(
	struct loop *loop, bool (*must_end)(void *arg, const struct store_account *account), void *arg);
/* Sessions on all loops. Any thread. */
unsigned smtp_in_count(void);
