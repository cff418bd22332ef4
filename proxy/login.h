/*
 * A login of IMAP or POP3 on the proxy, from the credentials that a front has read to the relay: the user map is asked, its route is
 * checked against the configuration, a leg to the back-end is logged in, and both connections are joined as a session.
 * On the loop of the client's connection.
 */
#pragma once

#include "common/front/front.h"
#include "proxy/config.h"
#include "proxy/leg.h"

/* For struct front_service. */
extern const struct front_ops login_ops;
/* What login_ops wants as `tier`. */
void *login_tier(enum config_service service);
/* How a map is asked for such a login. */
enum usermap_shown login_shown(
	const struct config_service_of *service, const struct front_credentials *credentials);
/* Nobody may become another one here: false for a foreign authorisation identity, which ends the login. name: of the authcid,
 * normalised. */
bool login_is_own_identity(const struct front_credentials *credentials, struct arena *arena,
	struct slice domain, struct slice name);
/* backend_down_fn: logins, spare connections and mail legs that deal with this host go on with the next one or end as not now. Any
 * thread. */
void login_host_is_down(struct backend *backend, unsigned host, enum backend_protocol protocol);
