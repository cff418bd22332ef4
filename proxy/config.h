/*
 * The proxy's configuration: its table of keys, what single keys cannot show (checked before anything starts), and the snapshot
 * that loops work with. A snapshot is constant and counted; a reload makes a new one, gives it to each loop, and sessions that began
 * under an older one keep that.
 */
#pragma once

#include <stdatomic.h>

#include "common/conf/conf.h"
#include "common/front/front.h"
#include "common/front/listen.h"
#include "mapping/usermap.h"
#include "proxy/backends.h"

extern const struct conf_table config_table;

enum config_service {
	CONFIG_IMAP,
	CONFIG_POP3,
	CONFIG_SMTP,
	CONFIG_SUBMISSION
};
#define CONFIG_SERVICES (CONFIG_SUBMISSION + 1)
/* "imap", "pop3", "smtp", "submission": titles of the sections `service`. */
extern const struct listen_service config_listen_services[];
const char *config_service_name(enum config_service service);

enum config_authenticate {
	CONFIG_BY_MAP,    /* a map of the chain checks the credential */
	CONFIG_BY_BACKEND /* it is passed on, and the back-end decides */
};

struct config_service_of {
	enum config_service id;
	bool is_used; /* some listener serves it */
	enum config_authenticate authenticate;
	struct usermap_chain *chain;
	const char *const *backends; /* NULL-ended: the only ones that its chain may lead to; empty: any */
	struct front_auth *auth;     /* how clients may log in; NULL: smtp */
	struct smtp_policy *policy;  /* counted; smtp and submission */
};

/* One section `listener`. Their number and order never change while the program runs. */
struct config_listener {
	const char *title;
	enum config_service service;
	const struct listen_one *own; /* TLS, PROXY protocol, access rules */
	struct front_service *front;  /* IMAP and POP3 */
	struct smtp_service *smtp;    /* SMTP and submission, counted (proxy/smtp_service.h) */
	char domain[256];             /* of users who log in without one; "" none */
};

struct config {
	struct conf *conf; /* owned */
	struct backends *backends;
	struct work_pool *hash_pool; /* the program's */
	struct listen *listen;
	struct config_listener *listeners; /* as many as listen has, in its order */
	size_t listener_count;
	struct config_service_of services[CONFIG_SERVICES];
	char host[256];             /* our name */
	const char *default_domain; /* "" none */
	uint64_t relay_idle_ms;
	struct front_limits limits;
	_Atomic unsigned refs;
};

/* The maps as the configuration names them. Views into conf; free() the result's maps. */
void config_maps(const struct conf *conf, struct backends *backends, struct usermap_config *maps_out);
/* Takes conf and backends, whatever comes of it. Main loop. */
MUST_CHECK int config_new(struct conf *conf_take, struct backends *backends_take, struct work_pool *hash_pool,
	struct buf *why, struct config **config_out);
/* The services' chains; maps: opened or reconfigured for this configuration. Once, before any loop sees it. */
MUST_CHECK int config_tie_maps(struct config *config, struct usermap_set *maps, struct buf *why);
/* For failed logins, of all its services. Once, before any loop sees it. */
void config_set_penalty(struct config *config, struct penalty *penalty);
/* How clients may log in at this listener, counted; NULL: they may not. */
struct front_auth *config_listener_auth(const struct config *config, const struct config_listener *listener);
struct config *config_ref(struct config *config);
void config_unref(struct config **config);
/* May this service's chain lead there? Checks trust against `authenticate` too. False: *why_out for an ERROR line. */
bool config_may_reach(
	const struct config_service_of *service, const struct backend *backend, const char **why_out);
