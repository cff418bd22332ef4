/*
 * The keys of maps.
 */
#include <string.h>

#include "common/base/mem.h"
#include "mapping/usermap.h"

const struct conf_key usermap_conf_keys[] = {
	{"map", "type", CONF_ENUM, CONF_RELOAD, "file", 0, 0, "file", "What kind of map it is", NULL},
	{"map", "file", CONF_PATH, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"The map's file; watched, and read anew when it changed and stands still", NULL},
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

void usermap_config_read(const struct conf *conf, const char *const *backends, const char *const *single,
	struct usermap_config *config_out)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "map", &count);
	struct usermap_options *maps = xcalloc(count + 1, sizeof(*maps));

	for (size_t i = 0; i < count; i++) {
		size_t n;

		maps[i] = (struct usermap_options){.name = titles[i],
			.type = USERMAP_FILE,
			.file = conf_get_string(conf, "map", titles[i], "file"),
			.domains = conf_get_list(conf, "map", titles[i], "domains", &n),
			.max_shrink = (unsigned)conf_get_int(conf, "map", titles[i], "max-shrink"),
			.ports = is_in(single, titles[i])};
	}
	*config_out = (struct usermap_config){.maps = maps,
		.count = count,
		.backends = backends,
		.credential_lifetime_ms = conf_get_duration(conf, "", NULL, "credential-cache"),
		.credential_entries = (size_t)conf_get_int(conf, "", NULL, "credential-cache-entries")};
}
