/*
 * LMTP in (RFC 2033): what common/front/smtp_front.h leaves to the back-end. Answers trusted proxies only;
 * recipients are accounts of this back-end, the body goes through backend/delivery, each recipient gets his
 * own answer after his commit.
 *
 * A service is constant while sessions use it, and counted: a reload makes a new one over the same
 * delivery_service.
 */
#pragma once

#include "backend/delivery/delivery.h"
#include "backend/delivery/greylist.h"
#include "common/control/session_verbs.h"
#include "common/front/smtp_front.h"

struct lmtp_settings {
	const char *host;                 /* ours, in greetings and Received; must outlive the service */
	const char *domain;               /* of a bare <postmaster>; "" none. As host */
	struct tls *tls;                  /* STARTTLS; NULL: not offered. Referenced */
	uint64_t message_size;            /* octets; 0: none */
	bool is_over_quota_permanent;     /* 552 instead of 452 */
	uint64_t command_ms, transfer_ms; /* 0: the defaults */
	unsigned wrong_commands;          /* senseless ones before the end; 0: the default */
	struct store_work *work;          /* of greylisting */
	struct store_greylist_terms greylist;
	bool (*is_trusted)(void *arg, struct conn *conn);
	void *arg;
	void (*free_arg)(void *arg); /* when the last session has gone; NULL: nothing */
};

struct lmtp_service;
struct lmtp_service *lmtp_service_new(
	struct delivery_service *delivery, const struct lmtp_settings *settings);
/* Its sessions keep it until they end. Accepts NULL. */
void lmtp_service_unref(struct lmtp_service **service);

/* Takes an accepted connection; flags of enum front_flag. On the connection's loop. */
void lmtp_start(struct lmtp_service *service, struct conn *conn_take, unsigned flags);
/* On the loop: for the verbs about sessions. */
void lmtp_each(struct loop *loop, struct session_walk *walk);
/* Ends the sessions of this loop: with 421 where no transaction is open, the others when it is over (is_now:
 * at once). */
void lmtp_close_all(struct loop *loop, bool is_now);
/* Sessions on all loops. Any thread. */
unsigned lmtp_count(void);
