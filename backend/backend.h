/*
 * What the parts of the program share. One struct backend a process, made by main(), gone after all threads
 * have ended. Its services may be used from any thread; `config` is the main loop's, others have theirs by
 * the service that began them.
 */
#pragma once

#include "backend/config.h"
#include "backend/delivery/delivery.h"
#include "backend/session/imap_session.h"
#include "backend/search/search_worker.h"
#include "backend/session/pop3.h"
#include "backend/store_work/store_work.h"
#include "common/auth/credential_cache.h"
#include "common/control/control.h"
#include "common/control/handover.h"
#include "common/control/session_verbs.h"
#include "common/control/status.h"
#include "common/front/front_penalty.h"
#include "common/front/mail_auth_verbs.h"
#include "common/front/smtp_explain.h"
#include "common/net/timer.h"
#include "common/net/work.h"

struct scrub;
struct send_limits;
struct sending;
struct queue;

struct backend {
	struct loop *loop; /* main: signals, control, status */
	struct loop_group *group;
	struct work_pool *hash_pool;
	struct work_pool *operator_pool; /* long verbs: store check */
	struct backups *backups;
	struct work_pool *import_pool; /* account import: its file, and hashes of its passwords */
	struct credential_cache *credentials;
	struct penalty *penalty;
	struct mail_auth_verbs mail_auth; /* what `dkim list` asks */
	struct users *users;
	struct store *store;
	struct store_work *work;
	struct scrub *scrub;           /* NULL until the store is open */
	struct search_worker *indexer; /* NULL: text-index is off */
	struct imap_service *imap;
	struct pop3_service *pop3;
	struct delivery_service *delivery;
	struct send_limits *send_limits; /* what users have sent */
	struct timer send_limits_timer;  /* writes it to its file */
	struct sending *sending;         /* NULL until the store is open */
	struct queue *queue;             /* its */
	struct quota_warning *quota_warning;
	struct config *config;
	struct control *control;
	struct session_kinds sessions;
	struct smtp_explain explain;
	struct status *status;
	struct handover *handover; /* made by main(), before all else */
	struct timer drain;
	uint64_t drain_until_ms;
	bool is_reload_due; /* SIGHUP came before the hand-over to us was done */
	bool is_draining;
	bool is_refusing; /* new clients */
	bool is_closed;   /* listeners closed, sessions asked to end */
	bool is_cut;      /* sessions ended without asking */
	bool is_leaving;
};
