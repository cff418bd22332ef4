/* The back-end's table of keys: one row is one key. */
#include "backend/config.h"

#include <errno.h>
#include <sys/stat.h>

#include "backend/delivery/greylist.h"
#include "backend/delivery/outbound.h"
#include "backend/queue_settings.h"
#include "backend/quota_settings.h"
#include "backend/submission.h"
#include "backend/users.h"
#include "common/auth/password.h"
#include "common/control/control.h"
#include "common/control/program.h"
#include "common/front/dns_keys.h"
#include "common/front/domain_keys.h"
#include "common/front/smtp_spf.h"
#include "common/front/front_auth.h"
#include "common/front/front_penalty.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_settings.h"

#define SERVICES "imap pop3 lmtp smtp submission"
#define NOTE_MOST 1024

static const struct conf_section sections[] = {
	{"", 0, NULL, "Names, threads, the store, quotas, times"},
	{"listener", CONF_TITLED, NULL, "Where a service is offered; any number"},
	{"service", CONF_TITLED | CONF_RELOAD, SERVICES,
		"Who may connect to a service, and how clients may log in"},
	{"proxy", CONF_TITLED | CONF_RELOAD, NULL,
		"A name under which proxies log in on behalf of users whom they have checked (trust = "
		"proxy-auth there)"},
	USERS_SECTION,
	DIRECTORY_CONF_SECTION,
	{"tls", CONF_TITLED | CONF_RELOAD, NULL, "A certificate for listeners, and who may come under it"},
	{"limits", CONF_RELOAD, NULL, "What a client may do"},
	SMTP_SETTINGS_SECTION,
	SUBMISSION_SECTIONS,
	SMTP_POLICY_SECTIONS,
	GREYLIST_SECTION,
	QUOTA_SETTINGS_SECTION,
	QUEUE_SETTINGS_SECTION,
	OUTBOUND_CONF_SECTIONS,
	CONTROL_CONF_SECTIONS,
	{NULL, 0, NULL, NULL},
};

static const struct conf_key keys[] = {
	{"", "host-name", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Name of this back-end in greetings and trace fields; empty: the system's", NULL},
	{"", "default-domain", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Domain of users who log in without one, where the listener names none; empty: none is added",
		NULL},
	FRONT_AUTH_KEYS,
	{"", "loops", CONF_INT, 0, "0", 0, 256, NULL, "Threads that serve connections; 0: one per core",
		NULL},
	{"", "hash-workers", CONF_INT, 0, "2", 1, 256, NULL,
		"Threads that check and make password hashes; each may need the memory that a hash asks for",
		NULL},
	{"", "credential-cache", CONF_DURATION, CONF_RELOAD, "10m", 0, 86400000, NULL,
		"How long a checked password is remembered (as a keyed hash); 0: not at all", NULL},
	{"", "credential-entries", CONF_INT, 0, "100000", 1000, 100000000, NULL,
		"How many checked passwords are remembered at most", NULL},

	{"", "store", CONF_PATH, 0, "/var/lib/mailtier", 0, 0, NULL,
		"Folder of the store; made at the first start", NULL},
	{"", "slots", CONF_INT, 0, "0", 0, 64, NULL,
		"Slots of a new store, each with its own writer; 0: one per core. A store keeps the number "
		"that it was made with",
		NULL},
	{"", "map-size", CONF_SIZE, 0, "64G", 16777216, 70368744177664, NULL,
		"Address space that is reserved for each slot; it grows when needed", NULL},
	{"", "text-index", CONF_BOOL, 0, "true", 0, 0, NULL,
		"A text index beside each slot, kept up by a thread of its own, so that searching texts "
		"stays "
		"quick in large mailboxes. Off: its files are removed, searches read the messages",
		NULL},
	{"", "text-index-size", CONF_SIZE, 0, "16G", 16777216, 70368744177664, NULL,
		"Most bytes of the text index of one slot; what does not fit is searched without it", NULL},
	{"", "text-index-share", CONF_INT, 0, "50", 1, 100, NULL,
		"Percent of one core that the indexing of new messages may use; below 100 a fifth of it "
		"while mail is being stored",
		NULL},
	{"", "reader-threads", CONF_INT, 0, "2", 1, 256, NULL, "Threads that read the store", NULL},
	{"", "prepare-threads", CONF_INT, 0, "2", 1, 256, NULL,
		"Threads that parse and compress new messages", NULL},
	{"", "spool", CONF_PATH, 0, "/tmp", 0, 0, NULL,
		"Folder for large messages on their way into the store", NULL},
	{"", "mark-lifetime", CONF_DURATION, 0, "5d", 3600000, 2592000000, NULL,
		"How long deliveries are remembered so that a proxy's repeat is not stored twice", NULL},

	{"", "scrub-interval", CONF_DURATION, CONF_RELOAD, "7d", 0, 31536000000, NULL,
		"How often all bodies are read and their checksums verified, in the background; 0: never",
		NULL},
	{"", "scrub-rate", CONF_SIZE, CONF_RELOAD, "4M", 65536, 1073741824, NULL,
		"Most bytes a second that this reads", NULL},
	{"", "retention", CONF_DURATION, CONF_RELOAD, "7d", 0, 31536000000, NULL,
		"How long deleted messages can be brought back (mailtierctl account undelete); 0: not at all",
		NULL},
	{"", "retention-size", CONF_SIZE, CONF_RELOAD, "2G", 0, 0, NULL,
		"Most bytes of deleted messages kept of one account, beyond its quota; the oldest go first. "
		"0: no limit",
		NULL},

	{"", "trusted-proxies", CONF_NETWORKS, CONF_RELOAD, "", 0, 0, NULL,
		"Networks whose word on clients is believed, and which may use LMTP and the names of "
		"sections `proxy`",
		NULL},
	{"", "trusted-names", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"If not empty, a trusted proxy must also show a certificate (`client-ca`) with one of these "
		"names",
		NULL},

	{"", "message-size", CONF_SIZE, CONF_RELOAD, "100M", 65536, 2147418112, NULL,
		"Most bytes of one message", NULL},
	{"", "quota-size", CONF_SIZE, CONF_RELOAD, "0", 0, 0, NULL,
		"Limit of bytes of accounts where neither they nor their class nor their domain say one; 0: "
		"none",
		NULL},
	{"", "quota-count", CONF_INT, CONF_RELOAD, "0", 0, 0, NULL,
		"Limit of messages of accounts where neither they nor their class nor their domain say one; "
		"0: none",
		NULL},
	{"", "domains", CONF_ENUM, CONF_RELOAD, "implicit", 0, 0, "implicit explicit",
		"implicit: an account makes its domain; explicit: accounts are made only in domains that "
		"`domain "
		"add` has made",
		NULL},
	{"", "over-quota", CONF_ENUM, CONF_RELOAD, "temporary", 0, 0, "temporary permanent",
		"How a delivery over quota is refused: 452, so that the sender tries again, or 552", NULL},
	{"", "imap-admin", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"URI by which users reach the operator, such as mailto:help@example.com: the entry "
		"/shared/admin of "
		"METADATA, for sessions that begin from then on",
		NULL},
	{"", "imap-comment", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"What METADATA tells of the server: its entry /shared/comment", NULL},
	{"", "imap-unauthenticate", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Offer UNAUTHENTICATE to IMAP clients that did not come through a trusted proxy", NULL},
	{"", "utf8-strict", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Messages with 8-bit headers only from and to clients that have asked for UTF-8: APPEND is "
		"refused (RFC 6855), RETR and TOP are (RFC 6856)",
		NULL},
	{"", "acl-anyone", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Users may share their mailboxes with everyone of their domain (SETACL for anyone), in "
		"sessions "
		"that begin from then on; for public folders an administrator of the folder always may",
		NULL},
	{"", "pop3-lock", CONF_ENUM, CONF_RELOAD, "exclusive", 0, 0, "exclusive snapshot",
		"exclusive: one POP3 session of an account at a time; snapshot: each sees what there was "
		"when it began",
		NULL},

	{"", "ready-delay", CONF_DURATION, CONF_RELOAD, "0s", 0, 600000, NULL,
		"On SIGTERM: how long new clients are still taken while /ready says no", NULL},
	{"", "drain-limit", CONF_DURATION, CONF_RELOAD, "10s", 0, 86400000, NULL,
		"On SIGTERM: how long sessions may take to end what they are doing", NULL},
	{"", "handover-limit", CONF_DURATION, CONF_RELOAD, "10s", 2000, 600000, NULL,
		"On SIGUSR2: how long the new program may take to be ready, and after that the old one to "
		"end",
		NULL},
	PROGRAM_LOG_KEYS,

	{"listener", "service", CONF_ENUM, CONF_REQUIRED, NULL, 0, 0, SERVICES, "What is offered", NULL},
	{"listener", "domain", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Domain of users who log in without one here; empty: `default-domain`", NULL},

	FRONT_AUTH_LISTENER_KEYS,
	FRONT_AUTH_SERVICE_KEYS("imap pop3 smtp submission"),

	{"proxy", "credential", CONF_SECRET, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"File with its password, in clear or as a hash with its {SCHEME}", NULL},

	{"limits", "tls-timeout", CONF_DURATION, CONF_RELOAD, "30s", 1000, 300000, NULL,
		"For a client's TLS handshake", NULL},
	{"limits", "command-timeout", CONF_DURATION, CONF_RELOAD, "10m", 1000, 1800000, NULL,
		"For a client's next command before login, and in LMTP", NULL},
	{"limits", "dialogue-timeout", CONF_DURATION, CONF_RELOAD, "30m", 1000, 7200000, NULL,
		"For all before login; proxies keep ready connections that long", NULL},
	{"limits", "login-timeout", CONF_DURATION, CONF_RELOAD, "30s", 1000, 300000, NULL,
		"For deciding a login", NULL},
	{"limits", "failed-login-delay", CONF_DURATION, CONF_RELOAD, "2s", 0, 15000, NULL,
		"Before a wrong password is answered; doubles with each", NULL},
	{"limits", "failed-logins", CONF_INT, CONF_RELOAD, "3", 1, 100, NULL,
		"Wrong passwords of a connection", NULL},
	{"limits", "wrong-commands", CONF_INT, CONF_RELOAD, "10", 1, 1000, NULL,
		"Senseless commands of a connection", NULL},
	{"limits", "imap-idle", CONF_DURATION, CONF_RELOAD, "30m", 1800000, 86400000, NULL,
		"Silence after which an IMAP session ends (RFC 3501: at least 30 minutes)", NULL},
	{"limits", "pop3-idle", CONF_DURATION, CONF_RELOAD, "10m", 600000, 86400000, NULL,
		"Silence after which a POP3 session ends (RFC 1939: at least 10 minutes)", NULL},
	{"limits", "transfer-timeout", CONF_DURATION, CONF_RELOAD, "5m", 1000, 3600000, NULL,
		"For a client that neither takes what it asked for nor sends what it announced", NULL},

	CONTROL_CONF_KEYS("/run/mailtier/backend.sock"),
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static const struct conf_key *const tables[] = {keys, dns_keys, listen_keys, front_penalty_keys,
	quota_settings_keys, queue_settings_keys, outbound_keys, users_keys, directory_conf_keys,
	smtp_settings_keys, smtp_spf_keys, submission_keys, smtp_policy_keys, milters_keys, greylist_keys,
	NULL};

/* trusted-names are held against certificates that a listener asks for. */
static void check_names(struct conf *conf, const char *title)
{
	const char *section = conf_get_string(conf, "listener", title, "certificate");

	if (conf_get_enum(conf, "listener", title, "tls") == LISTEN_TLS_NONE)
		conf_error(conf, "listener", title, "tls",
			"trusted-names are set, and without TLS no proxy can show its certificate");
	else if (conf_has_title(conf, "tls", section) &&
		 (!conf_is_set(conf, "tls", section, "client-ca") ||
			 conf_get_enum(conf, "tls", section, "client-certificates") == 0))
		conf_error(conf, "tls", section, "client-ca",
			"must be set, and client-certificates not be none: trusted-names are set");
}

/* The mechanisms of a service against its listeners, if it has any. */
static void check_service(struct conf *conf, const char *service)
{
	bool allows_clear, asks, has_plain = false;
	size_t n, proxies;
	const char *const *list = conf_get_list(conf, "service", service, "mechanisms", &n);

	if (!listen_offers(conf, config_listen_services, service, &allows_clear, &asks))
		return;
	front_auth_check(conf, service, allows_clear, asks);
	(void)conf_titles(conf, "proxy", &proxies);
	for (size_t i = 0; i < n; i++)
		has_plain |= strcmp(list[i], "PLAIN") == 0;
	if (proxies && !has_plain)
		conf_error(conf, "service", service, "mechanisms",
			"sections `proxy` log in by PLAIN, which is not listed");
}

/* A text that begins like a hash is one. */
static void check_credential(struct conf *conf, const char *title)
{
	struct slice secret = conf_get_secret(conf, "proxy", title, "credential");
	const char *reason;

	if (secret.len && (secret.p[0] == '{' || secret.p[0] == '$') &&
		password_stored_check(secret, &reason) != 0)
		conf_error(conf, "proxy", title, "credential", "%s", reason);
}

static void check_spool(struct conf *conf)
{
	const char *path = conf_get_string(conf, "", NULL, "spool");
	struct stat st;

	if (stat(path, &st) != 0)
		conf_error(conf, "", NULL, "spool", "%s: %s", path, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		conf_error(conf, "", NULL, "spool", "%s is no folder", path);
}

/* RFC 5464 section 6.2.2: a URI; and no key may end a line of IMAP. */
static void check_notes(struct conf *conf)
{
	struct slice admin = slice_str(conf_get_string(conf, "", NULL, "imap-admin"));
	struct slice comment = slice_str(conf_get_string(conf, "", NULL, "imap-comment"));
	ptrdiff_t colon = slice_find(admin, ':');

	if (admin.len && (colon <= 0 || slice_find(admin, ' ') >= 0 || slice_has_control(admin)))
		conf_error(conf, "", NULL, "imap-admin", "is no URI, such as mailto:help@example.com");
	if (comment.len > NOTE_MOST || !slice_is_utf8(comment))
		conf_error(conf, "", NULL, "imap-comment", "must be UTF-8, of at most %d bytes", NOTE_MOST);
	if (admin.len > NOTE_MOST)
		conf_error(conf, "", NULL, "imap-admin", "must have at most %d bytes", NOTE_MOST);
}

static void check_user_domains(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "users", &count);

	for (size_t i = 0; i < count; i++)
		domain_keys_check_any(conf, "users", titles[i], "domains");
}

static void check(struct conf *conf)
{
	size_t count, names, networks, proxies;
	const char *const *titles = conf_titles(conf, "listener", &count);
	const char *const *proxy_titles;

	listen_check(conf, config_listen_services);
	program_check(conf);
	control_check(conf);
	dns_keys_check(conf);
	front_auth_check_realms(conf);
	domain_keys_check_one(conf, "", NULL, "default-domain");
	domain_keys_check_host(conf, "", NULL, "host-name");
	domain_keys_check_host(conf, "", NULL, "gssapi-host");
	check_user_domains(conf);
	users_check(conf);
	(void)conf_get_list(conf, "", NULL, "trusted-names", &names);
	(void)conf_get_list(conf, "", NULL, "trusted-proxies", &networks);
	check_spool(conf);
	smtp_policy_check(conf, NULL);
	check_notes(conf);
	quota_settings_check(conf);
	queue_settings_check(conf);
	outbound_check(conf);
	smtp_spf_check_conf(conf);
	proxy_titles = conf_titles(conf, "proxy", &proxies);
	for (size_t i = 0; i < proxies; i++)
		check_credential(conf, proxy_titles[i]);
	if (proxies && !networks)
		conf_error(conf, "", NULL, "trusted-proxies",
			"is empty, so no section `proxy` can ever be used");
	check_service(conf, "imap");
	check_service(conf, "pop3");
	check_service(conf, "submission");
	if (conf_get_bool(conf, "smtp", NULL, "login"))
		check_service(conf, "smtp");
	submission_check(conf);
	for (size_t i = 0; i < count; i++) {
		domain_keys_check_one(conf, "listener", titles[i], "domain");
		if (front_auth_has_own(conf, titles[i]))
			front_auth_check_listener(conf,
				config_service_name((enum config_service)conf_get_enum(
					conf, "listener", titles[i], "service")),
				titles[i]);
		if (names)
			check_names(conf, titles[i]);
		if (!networks && conf_get_enum(conf, "listener", titles[i], "service") == CONFIG_LMTP)
			conf_error(conf, "listener", titles[i], "service",
				"LMTP answers trusted proxies only, and trusted-proxies is empty");
	}
}

const struct conf_table config_table = {
	.program = "mailtier-backend",
	.file = "/etc/mailtier/backend.conf",
	.sections = sections,
	.keys = tables,
	.check = check,
};
