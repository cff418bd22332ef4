/*
 * What the parts of the program share. One struct backend a process, made by main(), gone after all threads
 * have ended. Its services may be used from any thread; `config` is the main loop's, others have theirs by
 * the service that began them.
 */
#pragma once

#include "backend/admin/admin.h"
#include "backend/config.h"
#include "backend/delivery/delivery.h"
#include "common/auth/credential_cache.h"
#include "common/control/control.h"
#include "common/control/handover.h"
#include "common/control/status.h"
#include "common/front/front_penalty.h"
#include "common/front/mail_auth_verbs.h"
#include "common/front/smtp_explain.h"
#include "common/net/timer.h"

struct send_limits;
struct sending;

struct backend {
	struct admin admin; /* loops, store, services: what the operator's verbs see as well */
	struct credential_cache *credentials;
	struct penalty *penalty;
	struct mail_auth_verbs mail_auth; /* what `dkim list` asks */
	struct users *users;
	struct delivery_service *delivery;
	struct send_limits *send_limits; /* what users have sent */
	struct timer send_limits_timer;  /* writes it to its file */
	struct sending *sending;         /* NULL until the store is open */
	struct quota_warning *quota_warning;
	struct config *config;
	struct smtp_explain explain;
	struct status *status;
	struct handover *handover; /* made by main(), before all else */
	struct timer drain;
	uint64_t drain_until_ms;
	bool is_reload_due; /* SIGHUP came before the hand-over to us was done */
	bool is_refusing;   /* new clients */
	bool is_closed;     /* listeners closed, sessions asked to end */
	bool is_cut;        /* sessions ended without asking */
};
