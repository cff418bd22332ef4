/* The proxy's table of keys: one row is one key. What rows cannot say is in config_check.c. */
#include "common/control/control.h"
#include "common/control/program.h"
#include "common/front/dns_keys.h"
#include "common/front/smtp_spf.h"
#include "common/front/front_auth.h"
#include "common/front/front_penalty.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_settings.h"
#include "proxy/config.h"
#include "proxy/config_check.h"
#include "proxy/smtp_service.h"

static const struct conf_section sections[] = {
	{"", 0, NULL, "Names, threads, times"},
	{"listener", CONF_TITLED, NULL, "Where a service is offered to clients; any number"},
	{"service", CONF_TITLED | CONF_RELOAD, CONFIG_SERVICE_TITLES, "Who may come in, and where he is led"},
	USERMAP_CONF_SECTION,
	DIRECTORY_CONF_SECTION,
	{"backend", CONF_TITLED | CONF_RELOAD, NULL, "A back-end that maps name"},
	{"backend-default", CONF_RELOAD, NULL, "The terms for hosts that a map names itself"},
	{"tls", CONF_TITLED | CONF_RELOAD, NULL, "A certificate for listeners, and who may come under it"},
	{"limits", CONF_RELOAD, NULL, "What a client may do before it has logged in"},
	SMTP_SETTINGS_SECTION,
	SMTP_POLICY_SECTIONS,
	CONTROL_CONF_SECTIONS,
	{NULL, 0, NULL, NULL},
};

#define BACKEND_KEYS(section)                                                                                \
	{section, "imap-port", CONF_INT, CONF_RELOAD, "0", 0, 65535, NULL,                                   \
		"Port of IMAP; 0: 143, or 993 with tls = implicit", NULL},                                   \
		{section, "pop3-port", CONF_INT, CONF_RELOAD, "0", 0, 65535, NULL,                           \
			"Port of POP3; 0: 110, or 995 with tls = implicit", NULL},                           \
		{section, "lmtp-port", CONF_INT, CONF_RELOAD, "0", 0, 65535, NULL, "Port of LMTP; 0: 24",    \
			NULL},                                                                               \
		{section, "submission-port", CONF_INT, CONF_RELOAD, "0", 0, 65535, NULL,                     \
			"Port of submission; 0: 587, or 465 with tls = implicit", NULL},                     \
		{section, "delivery", CONF_ENUM, CONF_RELOAD, "lmtp", 0, 0, "lmtp smtp",                     \
			"How mail is handed over at that port", NULL},                                       \
		{section, "tls", CONF_ENUM, CONF_RELOAD, "starttls", 0, 0, "none starttls implicit",         \
			"How connections to it are encrypted", NULL},                                        \
		{section, "verify", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,                               \
			"Its certificate must be right: chain and name", NULL},                              \
		{section, "ca", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,                      \
			"Certificates that its certificate must descend from; not set: the system's", NULL}, \
		{section, "server-name", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                           \
			"Name that the certificates of its hosts must have; empty: each host its own name",  \
			NULL},                                                                               \
		{section, "certificate", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,             \
			"Certificate that the proxy shows to it", NULL},                                     \
		{section, "key", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL,                    \
			"Private key of that certificate", NULL},                                            \
		{section, "trust", CONF_ENUM, CONF_RELOAD, "proxy-auth", 0, 0, "proxy-auth replay",          \
			"proxy-auth: it believes the proxy whom it vouches for; replay: it gets the user's " \
			"password",                                                                          \
			NULL},                                                                               \
		{section, "user", CONF_STRING, CONF_RELOAD, "proxy", 0, 0, NULL,                             \
			"The proxy's own name at it, with trust = proxy-auth", NULL},                        \
		{section, "credential", CONF_SECRET, CONF_RELOAD, NULL, 0, 0, NULL,                          \
			"File with the proxy's own password, with trust = proxy-auth", NULL},                \
		{section, "identity", CONF_ENUM, CONF_RELOAD, "id-xclient", 0, 0,                            \
			"id-xclient proxy-v2 none",                                                          \
			"How it is told who the client is: IMAP's ID and XCLIENT where it takes them; a "    \
			"header of the PROXY protocol, which it must expect; not at all",                    \
			NULL},                                                                               \
		{section, "spare", CONF_INT, CONF_RELOAD, "0", 0, 64, NULL,                                  \
			"Ready TLS connections that each loop keeps for IMAP logins", NULL},                 \
		{section, "connections", CONF_INT, CONF_RELOAD, "0", 0, 10000000, NULL,                      \
			"Most connections of this proxy to it, probes apart; beyond it logins wait for "     \
			"wait-timeout, mail is told to come later; 0: no limit",                             \
			NULL},                                                                               \
		{section, "source-addresses", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,                        \
			"Local addresses that connections to it come from, in turn; one without a free "     \
			"port "                                                                              \
			"is passed over; empty: the system chooses",                                         \
			NULL},                                                                               \
		{section, "connect-timeout", CONF_DURATION, CONF_RELOAD, "900ms", 50, 60000, NULL,           \
			"For connecting and the TLS handshake, all hosts and their addresses together",      \
			NULL},                                                                               \
		{section, "login-timeout", CONF_DURATION, CONF_RELOAD, "30s", 100, 300000, NULL,             \
			"For the login at it", NULL},                                                        \
		{section, "wait-timeout", CONF_DURATION, CONF_RELOAD, "1500ms", 0, 60000, NULL,              \
			"How long a login waits while it may have no more connections or is coming back; "   \
			"then a temporary error",                                                            \
			NULL},                                                                               \
		{section, "return-time", CONF_DURATION, CONF_RELOAD, "5s", 0, 3600000, NULL,                 \
			"When it is up again after it was down: time over which ever more logins are let "   \
			"to "                                                                                \
			"it at once; 0: all at once",                                                        \
			NULL},                                                                               \
		{section, "failures", CONF_INT, CONF_RELOAD, "3", 1, 1000, NULL,                             \
			"Connections in a row that fail before a login is sent, and take a host as down "    \
			"without waiting for a probe",                                                       \
			NULL},                                                                               \
	{                                                                                                    \
		section, "probe-interval", CONF_DURATION, CONF_RELOAD, "1s", 0, 3600000, NULL,               \
			"Between two health probes of each host and protocol; 0: none", NULL                 \
	}

static const struct conf_key keys[] = {
	{"", "host-name", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Name of this proxy in greetings and trace fields; empty: the system's", NULL},
	{"", "default-domain", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Domain of users who log in without one, where the listener names none; empty: such names "
		"are asked of the maps as they are",
		NULL},
	FRONT_AUTH_KEYS,
	{"", "loops", CONF_INT, 0, "0", 0, 256, NULL, "Threads that serve connections; 0: one per core",
		NULL},
	{"", "hash-workers", CONF_INT, 0, "2", 1, 256, NULL,
		"Threads that check password hashes; each may need the memory that a hash asks for", NULL},
	{"", "relay-idle", CONF_DURATION, CONF_RELOAD, "35m", 1000, 86400000, NULL,
		"Silence in both directions after which a session is closed", NULL},
	{"", "spool", CONF_PATH, 0, "/tmp", 0, 0, NULL, "Folder for large messages while they are looked at",
		NULL},
	{"", "ready-delay", CONF_DURATION, CONF_RELOAD, "0s", 0, 600000, NULL,
		"On SIGTERM: how long new clients are still taken while /ready says no", NULL},
	{"", "drain-limit", CONF_DURATION, CONF_RELOAD, "10s", 0, 86400000, NULL,
		"On SIGTERM: how long open sessions may go on after that", NULL},
	{"", "handover-limit", CONF_DURATION, CONF_RELOAD, "30s", 1000, 600000, NULL,
		"On SIGUSR2: how long the new program may take to be ready; after it the old one goes on",
		NULL},
	{"", "handover-sessions", CONF_DURATION, CONF_RELOAD, "1d", 0, 2592000000, NULL,
		"How long the old program may live on after a hand-over, for the sessions that it has", NULL},
	PROGRAM_LOG_KEYS,

	{"listener", "service", CONF_ENUM, CONF_REQUIRED, NULL, 0, 0, CONFIG_SERVICE_TITLES,
		"What is offered", NULL},
	{"listener", "domain", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Domain of users who log in without one here; empty: `default-domain`", NULL},

	{"service", "maps", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL, "User maps that are asked, in this order",
		NULL},
	{"service", "authenticate", CONF_ENUM, CONF_RELOAD, "map", 0, 0, "map backend",
		"Who decides whether a password is right", "imap pop3 submission"},
	FRONT_AUTH_SERVICE_KEYS("imap pop3 submission"),
	FRONT_AUTH_LISTENER_KEYS,
	{"service", "submission-route", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Back-ends that take what users without a mailbox send, the first that is up", "submission"},
	{"service", "backends", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"The only back-ends that its maps may lead to (`default` stands for hosts of maps); empty: "
		"any",
		NULL},

	{"backend", "host", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"Name or address; several: tried in this order, and all must hold the same mailboxes", NULL},
	BACKEND_KEYS("backend"),
	{"backend-default", "hosts", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Hosts that maps may name: networks, names, or .example.com for all names below", NULL},
	BACKEND_KEYS("backend-default"),

	{"limits", "tls-timeout", CONF_DURATION, CONF_RELOAD, "30s", 1000, 300000, NULL,
		"For a client's TLS handshake", NULL},
	{"limits", "command-timeout", CONF_DURATION, CONF_RELOAD, "60s", 1000, 1800000, NULL,
		"For a client's next command before login", NULL},
	{"limits", "dialogue-timeout", CONF_DURATION, CONF_RELOAD, "3m", 1000, 3600000, NULL,
		"For all before login", NULL},
	{"limits", "login-timeout", CONF_DURATION, CONF_RELOAD, "60s", 1000, 300000, NULL,
		"For deciding a login, maps and back-end together", NULL},
	{"limits", "failed-login-delay", CONF_DURATION, CONF_RELOAD, "2s", 0, 15000, NULL,
		"Before a wrong password is answered; doubles with each", NULL},
	{"limits", "failed-logins", CONF_INT, CONF_RELOAD, "3", 1, 100, NULL,
		"Wrong passwords of a connection", NULL},
	{"limits", "wrong-commands", CONF_INT, CONF_RELOAD, "10", 1, 1000, NULL,
		"Senseless commands of a connection", NULL},

	CONTROL_CONF_KEYS("/run/mailtier/proxy.sock"),
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static const struct conf_key *const tables[] = {keys, dns_keys, listen_keys, front_penalty_keys,
	usermap_conf_keys, directory_conf_keys, smtp_settings_keys, smtp_spf_keys, smtp_service_keys,
	smtp_policy_keys, milters_keys, NULL};

const struct conf_table config_table = {
	.program = "mailtier-proxy",
	.file = "/etc/mailtier/proxy.conf",
	.sections = sections,
	.keys = tables,
	.check = config_check,
};
