/*
 * How clients of a service may log in: which SASL mechanisms, over TLS and without, and what those need to know. Read from the
 * configuration by both tiers with the same rows; constant, counted. Which of them a connection is offered depends on the
 * connection: a certificate was shown, TLS ends here, `allow-clear` of its listener.
 */
#pragma once

#include "common/auth/sasl.h"
#include "common/conf/conf.h"
#include "common/net/conn.h"

struct front_auth;

/* Rows of the top of the file, and of a section `service`. */
#define FRONT_AUTH_KEYS                                                                                      \
	{"", "certificate-user", CONF_ENUM, CONF_RELOAD, "san-email", 0, 0, "san-email san-upn cn",          \
		"EXTERNAL: the field of a client's certificate that names the user; with more than one "     \
		"value "                                                                                     \
		"nobody is named",                                                                           \
		NULL},                                                                                       \
		{"", "gssapi-host", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                                \
			"GSSAPI: host of the service principals, the name by which clients reach the "       \
			"service "                                                                           \
			"(the load balancer's); empty: host-name",                                           \
			NULL},                                                                               \
		{"", "gssapi-keytab", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL,               \
			"GSSAPI: file with the keys of the service principals, mode 0600 or tighter; it is " \
			"read at each login",                                                                \
			NULL},                                                                               \
	{                                                                                                    \
		"", "gssapi-realms", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,                                 \
			"GSSAPI: realms whose users come in, each as REALM=domain: alice@REALM becomes "     \
			"alice@domain",                                                                      \
			NULL                                                                                 \
	}
#define FRONT_AUTH_SERVICE_KEYS(titles)                                                                      \
	{"service", "mechanisms", CONF_LIST, CONF_RELOAD, "PLAIN LOGIN", 0, 0, SASL_MECHANISMS,              \
		"SASL mechanisms over TLS. IMAP's LOGIN and POP3's USER and PASS go with PLAIN or LOGIN",    \
		titles},                                                                                     \
		{"service", "mechanisms-clear", CONF_LIST, CONF_RELOAD, "PLAIN LOGIN", 0, 0,                 \
			SASL_MECHANISMS,                                                                     \
			"SASL mechanisms without TLS; PLAIN and LOGIN at listeners with allow-clear alone",  \
			titles},                                                                             \
	{                                                                                                    \
		"service", "gssapi-service", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                       \
			"GSSAPI: first part of the service principal; empty: imap, pop or smtp", titles      \
	}

/* The same of a section `listener`, where it differs from its service. */
#define FRONT_AUTH_LISTENER_KEYS                                                                             \
	{"listener", "mechanisms", CONF_LIST, CONF_RELOAD, "", 0, 0, SASL_MECHANISMS,                        \
		"SASL mechanisms over TLS at this listener; not set: those of its service", NULL},           \
	{                                                                                                    \
		"listener", "mechanisms-clear", CONF_LIST, CONF_RELOAD, "", 0, 0, SASL_MECHANISMS,           \
			"SASL mechanisms without TLS at this listener; not set: those of its service", NULL  \
	}

/* For the program's check(): what can never work. allows_clear: some listener of the service does; asks: some listener of it asks
 * for certificates. */
void front_auth_check(struct conf *conf, const char *service, bool allows_clear, bool asks);
/* gssapi-realms, whether GSSAPI is offered or not. */
void front_auth_check_realms(struct conf *conf);
/* The same of a listener of that service that has keys of its own. */
void front_auth_check_listener(struct conf *conf, const char *service, const char *listener);
bool front_auth_has_own(const struct conf *conf, const char *listener);
/* Does the list name a mechanism with one of these traits? */
bool front_auth_has(const char *const *mechanisms, unsigned traits);

/* Of a section `service`; texts are copied. host: our name. pool: hash workers, which
 * outlive it. */
struct front_auth *front_auth_new(
	const struct conf *conf, const char *service, const char *host, struct work_pool *pool);
/* Of a listener: its own lists where it has them, else those of its service. */
struct front_auth *front_auth_new_listener(const struct conf *conf, const char *service, const char *listener,
	const char *host, struct work_pool *pool);
/* PLAIN and LOGIN, and nothing else: where nothing was configured. */
struct front_auth *front_auth_plain(void);
struct front_auth *front_auth_ref(struct front_auth *auth);
void front_auth_unref(struct front_auth **auth);

/* What this connection is offered now: NULL-ended; returns how many. */
size_t front_auth_offered(const struct front_auth *auth, struct conn *conn, bool allows_clear,
	const char *offered_out[SASL_MECHANISM_COUNT + 1]);
/* May some connection show a ticket? */
bool front_auth_takes_tickets(const struct front_auth *auth);
/* May a password be sent in a command? */
bool front_auth_takes_passwords(const struct front_auth *auth, struct conn *conn, bool allows_clear);
/* A session; options has service, mechanism, realm, fn and arg, the rest is filled in. As sasl_session_new(). */
MUST_CHECK int front_auth_begin(const struct front_auth *auth, struct conn *conn, bool allows_clear,
	const struct sasl_options *options, struct sasl_session **session_out);
