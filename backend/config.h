/*
 * The back-end's configuration: its table of keys, what single keys cannot show, and the snapshot that loops
 * work with. A snapshot is constant and counted: a reload makes a new one, and sessions that began under an
 * older one keep that.
 */
#pragma once

#include <stdatomic.h>

#include "backend/store/store_greylist.h"
#include "backend/submission.h"
#include "common/conf/conf.h"
#include "common/front/front.h"
#include "common/front/listen.h"
#include "common/net/addr.h"

extern const struct conf_table config_table;

enum config_service {
	CONFIG_IMAP,
	CONFIG_POP3,
	CONFIG_LMTP,
	CONFIG_SMTP,
	CONFIG_SUBMISSION
};
#define CONFIG_SERVICES (CONFIG_SUBMISSION + 1)
/* "imap", "pop3", "lmtp", "smtp", "submission". */
extern const struct listen_service config_listen_services[];
const char *config_service_name(enum config_service service);

/* One section `listener`. */
struct config_listener {
	const struct listen_one *own; /* TLS, PROXY protocol, access rules */
	enum config_service service;
	const char *domain; /* of users who log in without one; "" none */
};

/* One section `proxy`: a name under which proxies log in on their users' behalf. */
struct config_proxy {
	const char *name;
	struct slice stored; /* its password as common/auth/password.h takes it; owned */
};

struct config {
	struct conf *conf; /* owned; all texts are views of it */
	struct listen *listen;
	struct config_listener *listeners; /* as many as listen has, in its order */
	size_t listener_count;
	struct config_proxy *proxies;
	size_t proxy_count;
	struct addr_net *trusted; /* networks of trusted-proxies */
	size_t trusted_count;
	struct config_users *users; /* sections `users` (backend/users.h) */
	size_t user_count;
	const char *const *trusted_names; /* of client certificates; NULL-ended; empty: none is asked for */
	char host[256];                   /* our name */
	struct front_limits limits;
	uint64_t message_size;
	uint64_t imap_idle_ms, pop3_idle_ms, transfer_ms;
	unsigned wrong_commands;
	struct smtp_policy
		*policies[2]; /* counted; of smtp and submission: acceptance rules, stages of content */
	struct store_greylist_terms greylist;
	struct submission submission;     /* what users may send, and how (backend/submission.h) */
	uint64_t quota_size, quota_count; /* where account, class and domain say nothing; 0: none */
	bool domains_must_exist;          /* accounts are in domains with a record only */
	bool is_over_quota_permanent;
	bool is_acl_anyone;
	bool is_pop3_exclusive;
	bool offers_unauthenticate;
	bool is_strict_utf8;
	_Atomic unsigned refs;
};

/* Takes conf. ERR_CONFIG with reasons in why: a certificate cannot be used. Main thread. */
MUST_CHECK int config_new(struct conf *conf_take, struct buf *why, struct config **config_out);
struct config *config_ref(struct config *config);
void config_unref(struct config **config);

/* Is the peer one of our proxies: its network, and its certificate where trusted-names are set? */
bool config_is_trusted(const struct config *config, struct conn *conn);
/* NULL: no proxy of that name. */
const struct config_proxy *config_find_proxy(const struct config *config, struct slice name);
