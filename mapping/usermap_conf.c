/*
 * The keys of maps.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "mapping/usermap.h"

const struct conf_key usermap_conf_keys[] = {
	{"map", "type", CONF_ENUM, CONF_RELOAD, "file", 0, 0, "file ldap-password ldap-bind",
		"What kind of map it is", NULL},
	{"map", "file", CONF_PATH, CONF_RELOAD, NULL, 0, 0, NULL,
		"The map's file (type = file); watched, and read anew when it changed and stands still",
		NULL},
	{"map", "connector", CONF_STRING, CONF_RELOAD, NULL, 0, 0, NULL,
		"Title of the section `connector` that is asked (LDAP types)", NULL},
	{"map", "positive-ttl", CONF_DURATION, CONF_RELOAD, "60s", 0, 86400000, NULL,
		"LDAP types: how long what was found, and a password that was right, is remembered", NULL},
	{"map", "negative-ttl", CONF_DURATION, CONF_RELOAD, "10s", 0, 3600000, NULL,
		"LDAP types: how long it is remembered that there is no such user, or that a password was "
		"wrong",
		NULL},
	{"map", "stale-limit", CONF_DURATION, CONF_RELOAD, "1h", 0, 604800000, NULL,
		"LDAP types: how old a positive answer may be that is given while the directory cannot say",
		NULL},
	{"map", "cache-entries", CONF_INT, CONF_RELOAD, "100000", 1000, 10000000, NULL,
		"LDAP types: how many answers are remembered, 40 bytes each, and about 100 more for each "
		"user found",
		NULL},
	{"map", "send-only", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"LDAP types: users whom no map of the chain gives a host may log in to send mail", NULL},
	{"map", "domains", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"The map is asked about names of these domains only; empty: about all", NULL},
	{"map", "max-shrink", CONF_INT, CONF_RELOAD, "20", 0, 100, NULL,
		"A new generation with more than this per cent fewer entries is refused", NULL},
	{"", "credential-cache", CONF_DURATION, CONF_RELOAD, "10m", 0, 86400000, NULL,
		"How long a checked credential is remembered (as a keyed hash); 0: not at all", NULL},
	{"", "credential-cache-entries", CONF_INT, 0, "100000", 1000, 10000000, NULL,
		"How many checked credentials are remembered, about 24 bytes each", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static bool is_in(const char *const *names, const char *name)
{
	for (; names && *names; names++) {
		if (!strcmp(*names, name))
			return true;
	}
	return false;
}

/* ---- checking ---- */

static void check_map(struct conf *conf, const char *title)
{
	bool is_file = conf_get_enum(conf, "map", title, "type") == 0;
	const char *connector = conf_get_string(conf, "map", title, "connector");

	if (is_file && !conf_is_set(conf, "map", title, "file"))
		conf_error(conf, "map", title, "file", "a map of type file needs its file");
	if (!is_file && conf_is_set(conf, "map", title, "file"))
		conf_error(conf, "map", title, "file", "a map of this type has no file");
	if (is_file && *connector)
		conf_error(conf, "map", title, "connector", "a map of type file has no connector");
	if (!is_file && !*connector)
		conf_error(conf, "map", title, "connector", "a map of this type needs its connector");
	else if (!is_file && !conf_has_title(conf, "connector", connector))
		conf_error(conf, "map", title, "connector", "there is no section connector %s", connector);
	if (conf_get_enum(conf, "map", title, "type") == 1 && *connector &&
		conf_has_title(conf, "connector", connector) &&
		!*conf_get_string(conf, "connector", connector, "password-attribute"))
		conf_error(conf, "map", title, "connector",
			"ldap-password needs the connector's password-attribute");
}

void usermap_conf_check(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "map", &count);

	for (size_t i = 0; i < count; i++)
		check_map(conf, titles[i]);
}

/* ---- reading ---- */

void usermap_config_free(struct usermap_config *config)
{
	free((void *)(uintptr_t)config->maps);
	free((void *)(uintptr_t)config->connectors);
	*config = (struct usermap_config){0};
}

void usermap_config_read(const struct conf *conf, const char *const *backends, const char *const *single,
	struct usermap_config *config_out)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "map", &count);
	struct usermap_options *maps = xcalloc(count + 1, sizeof(*maps));
	size_t connector_count;
	const char *const *connector_titles = conf_titles(conf, "connector", &connector_count);
	struct directory_connector *connectors = xcalloc(connector_count + 1, sizeof(*connectors));

	for (size_t i = 0; i < count; i++) {
		size_t n;

		maps[i] = (struct usermap_options){.name = titles[i],
			.type = (enum usermap_type)conf_get_enum(conf, "map", titles[i], "type"),
			.file = conf_get_string(conf, "map", titles[i], "file"),
			.connector = conf_get_string(conf, "map", titles[i], "connector"),
			.positive_ms = conf_get_duration(conf, "map", titles[i], "positive-ttl"),
			.negative_ms = conf_get_duration(conf, "map", titles[i], "negative-ttl"),
			.stale_ms = conf_get_duration(conf, "map", titles[i], "stale-limit"),
			.cache_entries = (size_t)conf_get_int(conf, "map", titles[i], "cache-entries"),
			.send_only = conf_get_bool(conf, "map", titles[i], "send-only"),
			.domains = conf_get_list(conf, "map", titles[i], "domains", &n),
			.max_shrink = (unsigned)conf_get_int(conf, "map", titles[i], "max-shrink"),
			.ports = is_in(single, titles[i])};
	}
	for (size_t i = 0; i < connector_count; i++)
		directory_conf_read(conf, connector_titles[i], &connectors[i]);
	*config_out = (struct usermap_config){.maps = maps,
		.count = count,
		.connectors = connectors,
		.connector_count = connector_count,
		.backends = backends,
		.credential_lifetime_ms = conf_get_duration(conf, "", NULL, "credential-cache"),
		.credential_entries = (size_t)conf_get_int(conf, "", NULL, "credential-cache-entries")};
}

bool usermap_conf_can_fetch(const struct conf *conf, const char *map)
{
	return conf_get_enum(conf, "map", map, "type") != USERMAP_LDAP_BIND;
}
