/* Each rule is one function; each says its section and key, so that conf_error() can say file and line. */
#include "proxy/config_check.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/slice.h"
#include "common/control/control.h"
#include "common/control/program.h"
#include "common/front/dns_keys.h"
#include "common/front/domain_keys.h"
#include "common/front/front_auth.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_spf.h"
#include "common/net/addr.h"
#include "common/net/dial.h"
#include "common/net/tls.h"
#include "mapping/usermap.h"
#include "proxy/config.h"
#include "proxy/backend.h"

static const char *const service_titles[] = {"imap", "pop3", "smtp", "submission", NULL};

static bool has_word(const char *const *words, const char *word)
{
	for (; *words; words++) {
		if (strcmp(*words, word) == 0)
			return true;
	}
	return false;
}

bool config_check_is_used(const struct conf *conf, const char *service)
{
	bool allows_clear, asks;

	return listen_offers(conf, config_listen_services, service, &allows_clear, &asks);
}

bool config_check_is_loopback(const char *host)
{
	struct addr addr;

	if (strcmp(host, "localhost") == 0)
		return true;
	return addr_parse(slice_str(host), 0, &addr) == 0 && addr_is_loopback(&addr);
}

bool config_check_is_sole_user(const struct conf *conf, const char *map)
{
	unsigned users = 0;

	for (const char *const *service = service_titles; *service; service++) {
		size_t count;

		users += config_check_is_used(conf, *service) &&
			 has_word(conf_get_list(conf, "service", *service, "maps", &count), map);
	}
	return users <= 1;
}

/* A list of mechanisms against the service's maps. */
static void check_list(
	struct conf *conf, const char *service, const char *section, const char *title, const char *key)
{
	size_t count, map_count;
	const char *const *list = conf_get_list(conf, section, title, key, &count);
	const char *const *maps = conf_get_list(conf, "service", service, "maps", &map_count);
	bool by_map = conf_get_enum(conf, "service", service, "authenticate") == 0;

	for (size_t i = 0; i < count; i++) {
		unsigned traits = sasl_traits(list[i]);

		if (!by_map && !(traits & SASL_HANDS_PASSWORD))
			conf_error(conf, section, title, key,
				"authenticate = backend passes the password on, and %s has none", list[i]);
		for (size_t k = 0; traits & (SASL_WANTS_CLEAR | SASL_WANTS_KEYS) && k < map_count; k++) {
			if (conf_has_title(conf, "map", maps[k]) && !usermap_conf_can_fetch(conf, maps[k]))
				conf_error(conf, section, title, key,
					"%s needs what is stored, and map %s has type = ldap-bind", list[i],
					maps[k]);
		}
	}
}

static void check_lists(struct conf *conf, const char *service, const char *section, const char *title)
{
	check_list(conf, service, section, title, "mechanisms");
	check_list(conf, service, section, title, "mechanisms-clear");
}

/* Of listeners that have lists of their own. */
static void check_listeners(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "listener", &count);

	for (size_t i = 0; i < count; i++) {
		const char *service = config_service_name(
			(enum config_service)conf_get_enum(conf, "listener", titles[i], "service"));

		if (!front_auth_has_own(conf, titles[i]))
			continue;
		if (strcmp(service, "smtp") == 0)
			conf_error(conf, "listener", titles[i], "mechanisms",
				"nobody can log in to smtp on a proxy");
		else
			check_lists(conf, service, "listener", titles[i]);
		front_auth_check_listener(conf, service, titles[i]);
	}
}

static void check_mechanisms(struct conf *conf, const char *service)
{
	bool allows_clear, asks;

	(void)listen_offers(conf, config_listen_services, service, &allows_clear, &asks);
	front_auth_check(conf, service, allows_clear, asks);
	check_lists(conf, service, "service", service);
}

/* A mechanism without a password. */
static bool section_proves_names(const struct conf *conf, const char *section, const char *title)
{
	const unsigned traits = ~(unsigned)SASL_HANDS_PASSWORD;
	size_t count;

	return front_auth_has(conf_get_list(conf, section, title, "mechanisms", &count), traits) ||
	       front_auth_has(conf_get_list(conf, section, title, "mechanisms-clear", &count), traits);
}

static bool proves_names(const struct conf *conf, const char *service)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "listener", &count);
	bool proves = strcmp(service, "smtp") != 0 && section_proves_names(conf, "service", service);

	for (size_t i = 0; i < count; i++)
		proves |= strcmp(service, config_service_name((enum config_service)conf_get_enum(
						  conf, "listener", titles[i], "service"))) == 0 &&
			  section_proves_names(conf, "listener", titles[i]);
	return proves;
}

/* Does the section's trust and authenticate allow to lead there? */
static void check_reach(struct conf *conf, const char *service, const char *section, const char *title)
{
	bool is_replay = conf_get_enum(conf, section, title, "trust") == 1;

	if (!is_replay && strcmp(service, "smtp") != 0 &&
		conf_get_enum(conf, "service", service, "authenticate") == 1)
		conf_error(conf, "service", service, "authenticate",
			"authenticate = backend needs trust = replay on every back-end that its maps may "
			"lead to; %s %s has "
			"proxy-auth (name the others in `backends`)",
			section, title ? title : "");
	if (is_replay && proves_names(conf, service))
		conf_error(conf, "service", service, "mechanisms",
			"%s %s has trust = replay and needs the user's password: only PLAIN and LOGIN hand "
			"it "
			"over (name the other back-ends in `backends`)",
			section, title ? title : "");
}

/* Where users without a mailbox are led. */
static void check_route(struct conf *conf)
{
	size_t count;
	const char *const *route = conf_get_list(conf, "service", "submission", "submission-route", &count);

	for (size_t i = 0; i < count; i++) {
		if (!conf_has_title(conf, "backend", route[i]))
			conf_error(conf, "service", "submission", "submission-route",
				"there is no section backend %s", route[i]);
		else
			check_reach(conf, "submission", "backend", route[i]);
	}
}

/* The sections that a service names, whether a listener offers it or not. */
static void check_names(struct conf *conf, const char *service)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "service", service, "maps", &count);

	for (size_t i = 0; i < count; i++) {
		if (!conf_has_title(conf, "map", list[i]))
			conf_error(conf, "service", service, "maps", "there is no section map %s", list[i]);
	}
	list = conf_get_list(conf, "service", service, "backends", &count);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(list[i], "default") != 0 && !conf_has_title(conf, "backend", list[i]))
			conf_error(conf, "service", service, "backends", "there is no section backend %s",
				list[i]);
	}
}

static void check_service(struct conf *conf, const char *service)
{
	size_t count, backend_count, only_count;
	const char *const *only = conf_get_list(conf, "service", service, "backends", &only_count);
	const char *const *backends = conf_titles(conf, "backend", &backend_count);
	size_t hosts;

	(void)conf_get_list(conf, "service", service, "maps", &count);
	if (count == 0)
		conf_error(conf, "service", service, "maps",
			"a listener offers this service, and no map is named");
	for (size_t i = 0; i < backend_count; i++) {
		if (only_count == 0 || has_word(only, backends[i]))
			check_reach(conf, service, "backend", backends[i]);
	}
	(void)conf_get_list(conf, "backend-default", NULL, "hosts", &hosts);
	if (hosts && (only_count == 0 || has_word(only, "default")))
		check_reach(conf, service, "backend-default", NULL);
	if (strcmp(service, "submission") == 0)
		check_route(conf);
	if (strcmp(service, "smtp") != 0)
		check_mechanisms(conf, service);
}

static bool are_loopback(const struct conf *conf, const char *title)
{
	size_t count;
	const char *const *hosts = conf_get_list(conf, "backend", title, "host", &count);

	for (size_t i = 0; i < count; i++) {
		if (!config_check_is_loopback(hosts[i]))
			return false;
	}
	return count > 0;
}

static void check_sources(struct conf *conf, const char *section, const char *title)
{
	size_t count;
	const char *const *list = conf_get_list(conf, section, title, "source-addresses", &count);
	struct addr addr;

	if (count > DIAL_SOURCES_MOST)
		conf_error(conf, section, title, "source-addresses", "at most %d", DIAL_SOURCES_MOST);
	for (size_t i = 0; i < count; i++) {
		if (addr_parse(slice_str(list[i]), 0, &addr) != 0 || addr.ss.ss_family == AF_UNIX)
			conf_error(conf, section, title, "source-addresses", "%s is no address", list[i]);
	}
}

/* That the files are what they should be shows when they are used. */
static void check_files(struct conf *conf, const char *section, const char *title)
{
	static const char *const keys[] = {"ca", "certificate", "key"};
	const char *files[ARRAY_LEN(keys)] = {NULL};
	const char *blamed = "ca";
	struct tls *tls = NULL;
	struct buf why = {0};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (conf_is_set(conf, section, title, keys[i]))
			files[i] = conf_get_string(conf, section, title, keys[i]);
	if (!files[0])
		blamed = "certificate";
	const struct tls_client_options options = {
		.verify = true, .ca = files[0], .certificate = files[1], .key = files[2]};

	if (tls_client_new(&options, &why, &tls) < 0)
		conf_error(conf, section, title, blamed, "%s", buf_str_view(&why));
	tls_unref(&tls);
	buf_deinit(&why);
}

/* Our own credential goes only over verified TLS or loopback. */
static void check_backend(struct conf *conf, const char *section, const char *title)
{
	bool is_tls = conf_get_enum(conf, section, title, "tls") != 0;
	bool is_verified = is_tls && conf_get_bool(conf, section, title, "verify");

	if (conf_is_set(conf, section, title, "certificate") != conf_is_set(conf, section, title, "key"))
		conf_error(conf, section, title, "certificate", "certificate and key belong together");
	else if (is_tls)
		check_files(conf, section, title);
	if (conf_get_int(conf, section, title, "spare") && !is_tls)
		conf_error(conf, section, title, "spare", "spare connections are for back-ends with TLS");
	if (conf_get_int(conf, section, title, "spare") &&
		conf_get_enum(conf, section, title, "identity") == IDENTITY_PROXY_V2)
		conf_error(conf, section, title, "spare",
			"a connection with identity = proxy-v2 is made for one client, and can be no spare "
			"one");
	check_sources(conf, section, title);
	if (conf_get_enum(conf, section, title, "trust") == 1)
		return;
	if (conf_get_secret(conf, section, title, "credential").len == 0)
		conf_error(conf, section, title, "credential",
			"trust = proxy-auth needs the proxy's own password");
	if (conf_get_string(conf, section, title, "user")[0] == '\0')
		conf_error(conf, section, title, "user", "trust = proxy-auth needs the proxy's own name");
	if (!is_verified && !(title && are_loopback(conf, title)))
		conf_error(conf, section, title, is_tls ? "verify" : "tls",
			"the proxy's own credential goes only over TLS with verify = yes, or to a loopback "
			"address");
}

static void check_hosts(struct conf *conf, const char *title)
{
	size_t count;
	const char *const *hosts = conf_get_list(conf, "backend", title, "host", &count);

	if (count == 0 || count > BACKEND_HOSTS_MOST)
		conf_error(
			conf, "backend", title, "host", "one to %d hosts are asked for", BACKEND_HOSTS_MOST);
	for (size_t i = 0; i < count; i++) {
		if (hosts[i][0] == '\0' || slice_has_control(slice_str(hosts[i])) || strchr(hosts[i], ' '))
			conf_error(conf, "backend", title, "host", "this is no host");
		for (size_t k = 0; k < i; k++) {
			if (strcmp(hosts[i], hosts[k]) == 0)
				conf_error(conf, "backend", title, "host", "%s stands there twice", hosts[i]);
		}
	}
}

static void check_map_title(struct conf *conf, const char *section)
{
	size_t count;
	const char *const *titles = conf_titles(conf, section, &count);

	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(titles[i]);

		if (len == 0 || len > 63 ||
			strspn(titles[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789-_") != len)
			conf_error(conf, section, titles[i], strcmp(section, "map") == 0 ? "file" : "host",
				"a title has 1 to 63 letters, digits, - and _ (dots and colons would look "
				"like a host)");
	}
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

static void check_domains(struct conf *conf)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "smtp", NULL, "domains", &count);

	domain_keys_check(conf, "smtp", NULL, "domains", list, count);
	domain_keys_check_one(conf, "", NULL, "default-domain");
	domain_keys_check_host(conf, "", NULL, "host-name");
	domain_keys_check_host(conf, "", NULL, "gssapi-host");
	list = conf_titles(conf, "map", &count);
	for (size_t i = 0; i < count; i++)
		domain_keys_check_any(conf, "map", list[i], "domains");
	list = conf_titles(conf, "listener", &count);
	for (size_t i = 0; i < count; i++)
		domain_keys_check_one(conf, "listener", list[i], "domain");
}

void config_check(struct conf *conf)
{
	size_t count;
	const char *const *titles;

	listen_check(conf, config_listen_services);
	check_listeners(conf);
	program_check(conf);
	control_check(conf);
	dns_keys_check(conf);
	front_auth_check_realms(conf);
	check_domains(conf);
	for (const char *const *service = service_titles; *service; service++) {
		check_names(conf, *service);
		if (config_check_is_used(conf, *service))
			check_service(conf, *service);
	}
	check_spool(conf);
	smtp_policy_check(conf, "backend");
	smtp_spf_check_conf(conf);
	check_map_title(conf, "map");
	usermap_conf_check(conf);
	directory_conf_check(conf);
	check_map_title(conf, "backend");
	titles = conf_titles(conf, "backend", &count);
	for (size_t i = 0; i < count; i++) {
		check_hosts(conf, titles[i]);
		check_backend(conf, "backend", titles[i]);
	}
	(void)conf_get_list(conf, "backend-default", NULL, "hosts", &count);
	if (count)
		check_backend(conf, "backend-default", NULL);
}
