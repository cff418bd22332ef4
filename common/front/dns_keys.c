#include "common/front/dns_keys.h"

#include "common/net/dns.h"

const struct conf_key dns_keys[] = {
	{"", "resolvers", CONF_LIST, 0, "", 0, 0, NULL,
		"DNS servers, each ADDRESS or ADDRESS:PORT; empty: those of /etc/resolv.conf", NULL},
	{"", "dnssec-anchor", CONF_PATH, CONF_EXISTS, NULL, 0, 0, NULL,
		"Trust anchor: answers are validated; not set: they are not", NULL},
	{NULL, NULL, 0, 0, NULL, 0, 0, NULL, NULL, NULL},
};

void dns_keys_check(struct conf *conf)
{
	size_t count;
	const char *const *servers = conf_get_list(conf, "", NULL, "resolvers", &count);

	for (size_t i = 0; i < count; i++) {
		if (!dns_is_server(servers[i]))
			conf_error(conf, "", NULL, "resolvers",
				"\"%s\" is not the address of a name server, such as 192.0.2.53 or "
				"[2001:db8::53]:5353",
				servers[i]);
	}
}

int dns_keys_init(const struct conf *conf, struct buf *why)
{
	struct dns_options options = {0};
	struct buf servers = {0};
	size_t count;
	const char *const *words = conf_get_list(conf, "", NULL, "resolvers", &count);
	int err;

	for (size_t i = 0; i < count; i++)
		buf_printf(&servers, "%s%s", i ? " " : "", words[i]);
	if (count)
		options.servers = buf_str_view(&servers);
	if (conf_is_set(conf, "", NULL, "dnssec-anchor"))
		options.trust_anchor = conf_get_string(conf, "", NULL, "dnssec-anchor");
	err = dns_init(&options, why);
	buf_deinit(&servers);
	return err;
}
