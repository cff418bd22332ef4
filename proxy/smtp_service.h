/*
 * Mail in on the proxy: what common/front/smtp_front.h leaves to the tier. Each recipient is asked of the
 * service's maps and at once of his back-end over a leg (smtp_leg.h); the body goes to all legs as it comes;
 * their answers make one. Nothing is stored here.
 */
#pragma once

#include "common/control/session_verbs.h"
#include "common/front/smtp_front.h"
#include "proxy/config.h"

/* Rows for the proxy's table of keys: of section "smtp", beside smtp_settings_keys. */
extern const struct conf_key smtp_service_keys[];

/* For one listener, of service smtp or submission. tls: for STARTTLS, NULL none. Views of config's conf;
 * unref'ed with the listener, while sessions keep it. */
struct smtp_service *smtp_service_new(
	struct config *config, const struct config_listener *listener, struct tls *tls, bool allows_clear);

/* On each loop: logins of submission that are tried at this host's IMAP service, which was found down. */
void smtp_service_host_is_down(struct backend *backend, unsigned host);
/* On the worker's loop: 421 to those without a transaction, to the others when it is over (is_now: at once).
 */
void smtp_service_close_sessions(bool is_now);
/* On the worker's loop: for the verbs about sessions. */
void smtp_service_each(struct session_walk *walk);
