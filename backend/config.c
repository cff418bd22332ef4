/* A snapshot is made whole or not at all: certificates are read before any loop sees it. */
#include "backend/config.h"

#include <stdlib.h>

#include "backend/users.h"
#include "backend/delivery/greylist.h"
#include "common/base/mem.h"
#include "common/control/program.h"
#include "common/net/conn.h"
#include "common/net/tls.h"
#include "common/front/smtp_policy.h"

static const char *const service_names[CONFIG_SERVICES] = {[CONFIG_IMAP] = "imap",
	[CONFIG_POP3] = "pop3",
	[CONFIG_LMTP] = "lmtp",
	[CONFIG_SMTP] = "smtp",
	[CONFIG_SUBMISSION] = "submission"};

/* RFC 7301; a client that names others is refused, one that names none is welcome. */
static const char *const alpn_imap[] = {"imap", NULL};
static const char *const alpn_pop3[] = {"pop3", NULL};
static const char *const alpn_smtp[] = {"smtp", NULL};
static const char *const alpn_lmtp[] = {"lmtp", "smtp", NULL};
const struct listen_service config_listen_services[] = {[CONFIG_IMAP] = {"imap", alpn_imap},
	[CONFIG_POP3] = {"pop3", alpn_pop3},
	[CONFIG_LMTP] = {"lmtp", alpn_lmtp},
	[CONFIG_SMTP] = {"smtp", alpn_smtp},
	[CONFIG_SUBMISSION] = {"submission", alpn_smtp},
	[CONFIG_SERVICES] = {NULL, NULL}};

const char *config_service_name(enum config_service service)
{
	return service_names[service];
}

static void config_free(struct config *c)
{
	for (size_t i = 0; i < c->proxy_count; i++) {
		char *stored = (char *)(void *)(uintptr_t)c->proxies[i].stored.p;

		secret_wipe(stored, c->proxies[i].stored.len);
		free(stored);
	}
	users_free_sections(c);
	submission_deinit(&c->submission);
	smtp_policy_unref(&c->policies[0]);
	smtp_policy_unref(&c->policies[1]);
	free(c->listeners);
	listen_free(&c->listen);
	free(c->proxies);
	free(c->trusted);
	conf_free(&c->conf);
	free(c);
}

struct config *config_ref(struct config *config)
{
	atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
	return config;
}

void config_unref(struct config **config)
{
	struct config *c = *config;

	*config = NULL;
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		config_free(c);
}

static int make_listeners(struct config *c, struct buf *why)
{
	int err = listen_new(c->conf, config_listen_services, why, &c->listen);

	if (err)
		return err;
	c->listener_count = c->listen->count;
	c->listeners = xcalloc(c->listener_count + 1, sizeof(*c->listeners));
	for (size_t i = 0; i < c->listener_count; i++) {
		const struct listen_one *own = &c->listen->listeners[i];
		const char *domain = conf_get_string(c->conf, "listener", own->title, "domain");

		c->listeners[i] = (struct config_listener){
			.own = own,
			.service = (enum config_service)own->service,
			.domain = *domain ? domain : conf_get_string(c->conf, "", NULL, "default-domain"),
		};
	}
	return 0;
}

/* A password in clear becomes a stored text of the scheme PLAIN. */
static struct slice stored_text(struct slice secret)
{
	bool is_hash = secret.len && (secret.p[0] == '{' || secret.p[0] == '$');
	const char *prefix = is_hash ? "" : "{PLAIN}";
	size_t len = strlen(prefix);
	char *text = xmalloc(len + secret.len + 1);

	memcpy(text, prefix, len);
	if (secret.len)
		memcpy(text + len, secret.p, secret.len);
	text[len + secret.len] = '\0';
	return slice_of(text, len + secret.len);
}

static void make_proxies(struct config *c)
{
	const char *const *titles = conf_titles(c->conf, "proxy", &c->proxy_count);

	c->proxies = xcalloc(c->proxy_count + 1, sizeof(*c->proxies));
	for (size_t i = 0; i < c->proxy_count; i++) {
		c->proxies[i].name = titles[i];
		c->proxies[i].stored =
			stored_text(conf_get_secret(c->conf, "proxy", titles[i], "credential"));
	}
}

static void make_trusted(struct config *c)
{
	size_t count, names;
	const char *const *list = conf_get_list(c->conf, "", NULL, "trusted-proxies", &count);

	c->trusted = xcalloc(count + 1, sizeof(*c->trusted));
	for (size_t i = 0; i < count; i++)
		if (addr_net_parse(slice_str(list[i]), &c->trusted[c->trusted_count]) == 0)
			c->trusted_count++;
	c->trusted_names = conf_get_list(c->conf, "", NULL, "trusted-names", &names);
}

static void read_values(struct config *c)
{
	const struct conf *conf = c->conf;

	program_host_name(conf, c->host, sizeof(c->host));
	front_limits_read(conf, &c->limits);
	c->wrong_commands = c->limits.wrong_commands;
	c->imap_idle_ms = conf_get_duration(conf, "limits", NULL, "imap-idle");
	c->pop3_idle_ms = conf_get_duration(conf, "limits", NULL, "pop3-idle");
	c->transfer_ms = conf_get_duration(conf, "limits", NULL, "transfer-timeout");
	c->message_size = conf_get_size(conf, "", NULL, "message-size");
	c->quota_size = conf_get_size(conf, "", NULL, "quota-size");
	c->quota_count = conf_get_int(conf, "", NULL, "quota-count");
	c->domains_must_exist = conf_get_enum(conf, "", NULL, "domains") == 1;
	c->is_over_quota_permanent = conf_get_enum(conf, "", NULL, "over-quota") == 1;
	c->is_acl_anyone = conf_get_bool(conf, "", NULL, "acl-anyone");
	c->offers_unauthenticate = conf_get_bool(conf, "", NULL, "imap-unauthenticate");
	c->is_strict_utf8 = conf_get_bool(conf, "", NULL, "utf8-strict");
	c->is_pop3_exclusive = conf_get_enum(conf, "", NULL, "pop3-lock") == 0;
}

int config_new(struct conf *conf_take, struct buf *why, struct config **config_out)
{
	struct config *c = xcalloc(1, sizeof(*c));
	int err;

	atomic_store(&c->refs, 1);
	c->conf = conf_take;
	read_values(c);
	submission_read(c->conf, &c->submission);
	make_proxies(c);
	make_trusted(c);
	greylist_terms(c->conf, &c->greylist);
	err = users_read(c, why);
	if (!err)
		err = smtp_policy_new(c->conf, "smtp", why, &c->policies[0]);
	if (!err)
		err = smtp_policy_new(c->conf, "submission", why, &c->policies[1]);
	if (!err)
		err = make_listeners(c, why);
	if (err)
		config_unref(&c);
	else
		*config_out = c;
	return err;
}

static bool has_trusted_name(const struct config *config, struct conn *conn)
{
	const char *name = conn_has_peer_certificate(conn) ? conn_peer_certificate_name(conn) : "";

	for (const char *const *at = config->trusted_names; name[0] && *at; at++)
		if (strcmp(*at, name) == 0)
			return true;
	return false;
}

bool config_is_trusted(const struct config *config, struct conn *conn)
{
	bool is_in = false;

	for (size_t i = 0; i < config->trusted_count && !is_in; i++)
		/* A proxy that tells of its client by a PROXY header is the raw peer; behind a balancer it is the told one. */
		is_in = addr_net_has(&config->trusted[i], conn_raw_peer(conn)) ||
			addr_net_has(&config->trusted[i], conn_peer(conn));
	return is_in && (!config->trusted_names[0] || has_trusted_name(config, conn));
}

const struct config_proxy *config_find_proxy(const struct config *config, struct slice name)
{
	for (size_t i = 0; i < config->proxy_count; i++)
		if (slice_is_str(name, config->proxies[i].name))
			return &config->proxies[i];
	return NULL;
}
