/*
 * The section `connector`: its keys, what the types of server preset, and what single keys cannot show.
 */
#include "common/directory/directory_conf.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/directory/directory_text.h"
#include "common/net/tls.h"

const struct conf_key directory_conf_keys[] = {
	{"connector", "type", CONF_ENUM, CONF_RELOAD, "openldap", 0, 0, "openldap activedirectory",
		"Kind of server: what it presets stands in docs/mapping.md", NULL},
	{"connector", "uris", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"One to five servers in order, ldap://HOST:PORT or ldaps://HOST:PORT; the first that is well "
		"is asked",
		NULL},
	{"connector", "tls", CONF_ENUM, CONF_RELOAD, "starttls", 0, 0, "none starttls",
		"What is done on ldap:// URIs; with none, passwords travel in clear", NULL},
	{"connector", "verify", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Check the server's certificate: its chain, and that it is for the host of the URI", NULL},
	{"connector", "ca", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,
		"Certificates that are trusted, PEM; not set: the system's", NULL},
	{"connector", "certificate", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,
		"Own certificate that is shown to the server, PEM", NULL},
	{"connector", "key", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL, "Its private key, PEM",
		NULL},
	{"connector", "bind", CONF_ENUM, CONF_RELOAD, "simple", 0, 0, "simple anonymous external gssapi",
		"Who searches: bind-dn with its password, nobody, (SASL EXTERNAL) who the own certificate "
		"says, "
		"or (SASL GSSAPI) a Kerberos principal",
		NULL},
	{"connector", "bind-dn", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"DN that searches, with bind = simple", NULL},
	{"connector", "password", CONF_SECRET, CONF_RELOAD, NULL, 0, 0, NULL, "File with its password", NULL},
	{"connector", "keytab", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL,
		"File with the principal's key, with bind = gssapi", NULL},
	{"connector", "principal", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Principal that searches, with bind = gssapi; empty: the first of the keytab", NULL},
	{"connector", "base", CONF_STRING, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"DN below which users are found, at any depth; may hold %u %d %e %s", NULL},
	{"connector", "filter", CONF_STRING, CONF_RELOAD, NULL, 0, 0, NULL,
		"Finds a user who logs in: %u name without domain, %d domain, %e both, %s service, each "
		"escaped; not set: "
		"that of the type",
		NULL},
	{"connector", "address-filter", CONF_STRING, CONF_RELOAD, NULL, 0, 0, NULL,
		"Finds the user whom an address of mail belongs to; not set: who has it in account-attribute "
		"or "
		"alias-attributes",
		NULL},
	{"connector", "host-attribute", CONF_STRING, CONF_RELOAD, NULL, 0, 0, NULL,
		"Attribute with the user's back-end: its name, a host, or host:port; or several in order, "
		"between commas; empty: this connector does not route; not set: that of the type",
		NULL},
	{"connector", "password-attribute", CONF_STRING, CONF_RELOAD, "userPassword", 0, 0, NULL,
		"Attribute with the stored password, for maps of type ldap-password", NULL},
	{"connector", "account-attribute", CONF_STRING, CONF_RELOAD, "mail", 0, 0, NULL,
		"Attribute with the account's canonical address; empty, or not in the entry: the name that "
		"was asked",
		NULL},
	{"connector", "alias-attributes", CONF_LIST, CONF_RELOAD, NULL, 0, 0, NULL,
		"Attributes with further addresses of a user, where address-filter is not set; not set: "
		"those of "
		"the type",
		NULL},
	{"connector", "flags-attribute", CONF_STRING, CONF_RELOAD, NULL, 0, 0, NULL,
		"Attribute with words about the account, `disabled` and `send-only`, or with Active "
		"Directory's "
		"number; empty: none; not set: that of the type",
		NULL},
	{"connector", "several", CONF_ENUM, CONF_RELOAD, NULL, 0, 0, "error first",
		"When more than one entry fits: not now, or the first is taken; both are logged; not set: "
		"that of the type",
		NULL},
	{"connector", "referrals", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Servers to which a referral is followed, ldap://HOST:PORT or ldaps://HOST:PORT as it stands "
		"there; "
		"they get the same credentials; empty: none is followed",
		NULL},
	{"connector", "timeout", CONF_DURATION, CONF_RELOAD, "4s", 1000, 600000, NULL,
		"For one search or bind, waiting for a connection included; then the answer is not now",
		NULL},
	{"connector", "connect-timeout", CONF_DURATION, CONF_RELOAD, "4s", 500, 60000, NULL,
		"For each step of connecting: the connection, StartTLS, the handshake, the bind", NULL},
	{"connector", "health-interval", CONF_DURATION, CONF_RELOAD, "5s", 500, 600000, NULL,
		"How often servers that failed are tried again, and silent ones are asked for a sign of life",
		NULL},
	{"connector", "connections", CONF_INT, CONF_RELOAD, "2", 1, 64, NULL,
		"Connections kept open for searches", NULL},
	{"connector", "bind-connections", CONF_INT, CONF_RELOAD, "4", 1, 64, NULL,
		"Most connections for binds of users, one bind at a time on each (ldap-bind)", NULL},
	{"connector", "in-flight", CONF_INT, CONF_RELOAD, "100", 1, 10000, NULL,
		"Most searches under way on one connection", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

/* In the order of the key's words. */
static const enum ldap_client_bind binds[] = {
	LDAP_CLIENT_SIMPLE, LDAP_CLIENT_ANONYMOUS, LDAP_CLIENT_EXTERNAL, LDAP_CLIENT_GSSAPI};

static enum ldap_client_bind bind_of(const struct conf *conf, const char *title)
{
	return binds[conf_get_enum(conf, "connector", title, "bind")];
}

/* ---- what a type presets ---- */

static const char *const openldap_aliases[] = {"mailLocalAddress", NULL};
static const char *const ad_aliases[] = {"proxyAddresses", "userPrincipalName", NULL};

static const struct preset {
	const char *filter, *person, *host_attribute, *flags_attribute;
	const char *const *alias_attributes;
	enum directory_several several;
} presets[] = {
	{"(mail=%e)", "", "mailHost", "", openldap_aliases, DIRECTORY_SEVERAL_ERROR},
	{"(&(objectCategory=person)(objectClass=user)(|(userPrincipalName=%e)(sAMAccountName=%u)))",
		"(objectCategory=person)(objectClass=user)", "", "userAccountControl", ad_aliases,
		DIRECTORY_SEVERAL_FIRST},
};

static const struct preset *preset_of(const struct conf *conf, const char *title)
{
	return &presets[conf_get_enum(conf, "connector", title, "type")];
}

static const char *text_or(const struct conf *conf, const char *title, const char *key, const char *preset)
{
	return conf_is_set(conf, "connector", title, key) ? conf_get_string(conf, "connector", title, key)
							  : preset;
}

/* ---- checking ---- */

static void check_servers(struct conf *conf, const char *title, const char *key)
{
	bool starttls = conf_get_enum(conf, "connector", title, "tls") == 1;
	bool needs_tls = bind_of(conf, title) >= LDAP_CLIENT_EXTERNAL;
	size_t count;
	const char *const *uris = conf_get_list(conf, "connector", title, key, &count);

	if (count > DIRECTORY_URIS_MOST)
		conf_error(conf, "connector", title, key, "at most %d servers", DIRECTORY_URIS_MOST);
	for (size_t i = 0; i < count; i++) {
		const char *reason;
		bool tls;

		if (ldap_client_check_uri(uris[i], &tls, &reason))
			conf_error(conf, "connector", title, key, "%s: %s", uris[i], reason);
		else if (needs_tls && !tls && !starttls)
			conf_error(conf, "connector", title, "bind", "external and gssapi need TLS on %s",
				uris[i]);
	}
}

static void check_uris(struct conf *conf, const char *title)
{
	size_t count;

	(void)conf_get_list(conf, "connector", title, "uris", &count);
	if (count < 1)
		conf_error(conf, "connector", title, "uris", "one to %d servers", DIRECTORY_URIS_MOST);
	check_servers(conf, title, "uris");
	check_servers(conf, title, "referrals");
}

static bool is_attribute(const char *name)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.;") ==
	       strlen(name);
}

static void check_templates(struct conf *conf, const char *title)
{
	static const char *const attributes[] = {
		"host-attribute", "password-attribute", "account-attribute", "flags-attribute", NULL};
	static const char *const filters[] = {"filter", "address-filter", NULL};
	const char *base = conf_get_string(conf, "connector", title, "base");
	const char *const *aliases;
	const char *reason;
	struct buf dn = {0};
	size_t count;

	for (const char *const *key = filters; *key; key++) {
		if (conf_is_set(conf, "connector", title, *key) &&
			directory_text_check_filter(
				slice_str(conf_get_string(conf, "connector", title, *key)), &reason))
			conf_error(conf, "connector", title, *key, "%s", reason);
	}
	for (const char *const *key = attributes; *key; key++) {
		if (!is_attribute(conf_get_string(conf, "connector", title, *key)))
			conf_error(conf, "connector", title, *key, "this is no name of an attribute");
	}
	aliases = conf_get_list(conf, "connector", title, "alias-attributes", &count);
	for (size_t i = 0; i < count; i++) {
		if (!*aliases[i] || !is_attribute(aliases[i]))
			conf_error(conf, "connector", title, "alias-attributes",
				"%s is no name of an attribute", aliases[i]);
	}
	if (count && conf_is_set(conf, "connector", title, "address-filter"))
		conf_error(conf, "connector", title, "alias-attributes", "address-filter says it already");
	if (!conf_is_set(conf, "connector", title, "address-filter") && !count &&
		conf_is_set(conf, "connector", title, "alias-attributes") &&
		!*conf_get_string(conf, "connector", title, "account-attribute"))
		conf_error(conf, "connector", title, "alias-attributes",
			"no attribute is left by which an address could be found");
	if (directory_text_check_base(slice_str(base), &reason)) {
		conf_error(conf, "connector", title, "base", "%s", reason);
		return;
	}
	directory_text_base(&dn, slice_str(base),
		&(struct directory_text_names){.name = SLICE_LIT("u@d"), .service = SLICE_LIT("s")});
	if (!ldap_client_is_dn(buf_str_view(&dn)))
		conf_error(conf, "connector", title, "base", "this is no DN (RFC 4514)");
	buf_deinit(&dn);
}

static const char *file_of(const struct conf *conf, const char *title, const char *key)
{
	return conf_is_set(conf, "connector", title, key) ? conf_get_string(conf, "connector", title, key)
							  : NULL;
}

/* libldap would say it at each connection; our own TLS reads the same files now. */
static void check_files(struct conf *conf, const char *title)
{
	const struct tls_client_options options = {.verify = true,
		.ca = file_of(conf, title, "ca"),
		.certificate = file_of(conf, title, "certificate"),
		.key = file_of(conf, title, "key")};
	struct tls *tls = NULL;
	struct buf why = {0};

	if (!options.ca && !options.certificate)
		return;
	if (tls_client_new(&options, &why, &tls) < 0)
		conf_error(conf, "connector", title, options.ca ? "ca" : "certificate", "%s",
			buf_str_view(&why));
	tls_unref(&tls);
	buf_deinit(&why);
}

static void check_connector(struct conf *conf, const char *title)
{
	enum ldap_client_bind bind = bind_of(conf, title);
	bool has_keytab = conf_is_set(conf, "connector", title, "keytab");
	const char *dn = conf_get_string(conf, "connector", title, "bind-dn");
	bool has_password = conf_is_set(conf, "connector", title, "password");
	bool has_certificate = conf_is_set(conf, "connector", title, "certificate");

	check_uris(conf, title);
	check_templates(conf, title);
	if (bind == LDAP_CLIENT_SIMPLE &&
		(!*dn || !conf_get_secret(conf, "connector", title, "password").len))
		conf_error(conf, "connector", title, "bind",
			"simple needs bind-dn and password (or say anonymous)");
	if (bind != LDAP_CLIENT_SIMPLE && (*dn || has_password))
		conf_error(conf, "connector", title, "bind", "bind-dn and password belong to bind = simple");
	if (*dn && !ldap_client_is_dn(dn))
		conf_error(conf, "connector", title, "bind-dn", "this is no DN (RFC 4514)");
	if (has_certificate != conf_is_set(conf, "connector", title, "key"))
		conf_error(conf, "connector", title, "certificate", "certificate and key belong together");
	else
		check_files(conf, title);
	if (bind == LDAP_CLIENT_EXTERNAL && !has_certificate)
		conf_error(conf, "connector", title, "bind", "external needs certificate and key");
	if (bind == LDAP_CLIENT_GSSAPI && !has_keytab)
		conf_error(conf, "connector", title, "bind", "gssapi needs a keytab");
	if (bind != LDAP_CLIENT_GSSAPI &&
		(has_keytab || *conf_get_string(conf, "connector", title, "principal")))
		conf_error(conf, "connector", title, "bind", "keytab and principal belong to bind = gssapi");
	if (strlen(title) > DIRECTORY_NAME_MOST)
		conf_error(conf, "connector", title, "uris", "a title has at most %d octets",
			DIRECTORY_NAME_MOST);
}

void directory_conf_check(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "connector", &count);

	for (size_t i = 0; i < count; i++)
		check_connector(conf, titles[i]);
}

/* ---- reading ---- */

void directory_conf_read(const struct conf *conf, const char *title, struct directory_connector *c)
{
	const struct preset *preset = preset_of(conf, title);
	size_t n;

	*c = (struct directory_connector){.base = conf_get_string(conf, "connector", title, "base"),
		.filter = text_or(conf, title, "filter", preset->filter),
		.address_filter = text_or(conf, title, "address-filter", ""),
		.person = preset->person,
		.host_attribute = text_or(conf, title, "host-attribute", preset->host_attribute),
		.password_attribute = conf_get_string(conf, "connector", title, "password-attribute"),
		.account_attribute = conf_get_string(conf, "connector", title, "account-attribute"),
		.flags_attribute = text_or(conf, title, "flags-attribute", preset->flags_attribute),
		.alias_attributes = conf_is_set(conf, "connector", title, "alias-attributes")
					    ? conf_get_list(conf, "connector", title, "alias-attributes", &n)
					    : preset->alias_attributes,
		.several =
			conf_is_set(conf, "connector", title, "several")
				? (enum directory_several)conf_get_enum(conf, "connector", title, "several")
				: preset->several,
		.directory = {.name = title,
			.uris = conf_get_list(conf, "connector", title, "uris", &n),
			.client = {.start_tls = conf_get_enum(conf, "connector", title, "tls") == 1,
				.verify = conf_get_bool(conf, "connector", title, "verify"),
				.ca = conf_get_string(conf, "connector", title, "ca"),
				.certificate = conf_get_string(conf, "connector", title, "certificate"),
				.key = conf_get_string(conf, "connector", title, "key"),
				.bind_dn = conf_get_string(conf, "connector", title, "bind-dn"),
				.password = conf_get_secret(conf, "connector", title, "password"),
				.keytab = conf_get_string(conf, "connector", title, "keytab"),
				.principal = conf_get_string(conf, "connector", title, "principal")},
			.referrals = conf_get_list(conf, "connector", title, "referrals", &n),
			.timeout_ms = conf_get_duration(conf, "connector", title, "timeout"),
			.connect_timeout_ms = conf_get_duration(conf, "connector", title, "connect-timeout"),
			.health_ms = conf_get_duration(conf, "connector", title, "health-interval"),
			.connections = (unsigned)conf_get_int(conf, "connector", title, "connections"),
			.bind_connections =
				(unsigned)conf_get_int(conf, "connector", title, "bind-connections"),
			.in_flight = (unsigned)conf_get_int(conf, "connector", title, "in-flight")}};
	c->directory.client.bind = bind_of(conf, title);
}
