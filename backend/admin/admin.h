/*
 * What the operator's verbs work on. One struct admin a process, in struct backend (backend/backend.h), which fills it in and keeps it
 * true; gone after all threads have ended. Main loop, unless a field says otherwise.
 */
#pragma once

#include "backend/search/search_worker.h"
#include "backend/session/imap_session.h"
#include "backend/session/pop3.h"
#include "backend/store_work/store_work.h"
#include "common/conf/conf.h"
#include "common/control/control.h"
#include "common/control/session_verbs.h"
#include "common/net/work.h"

struct backups;
struct queue;
struct scrub;
struct tls_report;

struct admin {
	struct loop *loop; /* main */
	struct loop_group *group;
	struct control *control;
	struct work_pool *hash_pool;
	struct work_pool *operator_pool; /* long verbs: store check */
	struct work_pool *import_pool;   /* account import: its file, and hashes of its passwords */
	struct backups *backups;
	struct store *store;     /* any thread, once it is open */
	struct store_work *work; /* the same */
	struct imap_service *imap;
	struct pop3_service *pop3;
	struct scrub *scrub;           /* NULL until the store is open */
	struct search_worker *indexer; /* NULL: text-index is off */
	struct queue *queue;           /* NULL until the store is open */
	struct tls_report *tls_report; /* the same: what is counted of TLS with other servers */
	struct session_kinds sessions;
	const char *host;        /* our name; the configuration's */
	bool domains_must_exist; /* accounts are in domains with a record only */
	bool is_draining;
	bool is_leaving;
};

/* All verbs about accounts, domains, sessions, the store, the queue. Main loop, once; admin->control is there. */
void admin_register(struct admin *admin);
