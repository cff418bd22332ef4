/*
 * A snapshot is made whole or not at all: TLS contexts made, then maps opened, chains tied, before any loop sees it. In this
 * order, so that a certificate that is refused leaves the maps in force alone.
 */
#include "proxy/config.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/control/program.h"
#include "common/front/front_auth.h"
#include "common/front/smtp_policy.h"
#include "proxy/config_check.h"
#include "proxy/login.h"
#include "proxy/smtp_service.h"

static const char *const service_names[CONFIG_SERVICES] = {[CONFIG_IMAP] = "imap",
	[CONFIG_POP3] = "pop3",
	[CONFIG_SMTP] = "smtp",
	[CONFIG_SUBMISSION] = "submission"};

/* RFC 7301; mail's registered names. Others are refused, a client that names none is welcome. */
static const char *const alpn_imap[] = {"imap", NULL};
static const char *const alpn_pop3[] = {"pop3", NULL};
static const char *const alpn_smtp[] = {"smtp", "submission", NULL};
const struct listen_service config_listen_services[] = {[CONFIG_IMAP] = {"imap", alpn_imap},
	[CONFIG_POP3] = {"pop3", alpn_pop3},
	[CONFIG_SMTP] = {"smtp", alpn_smtp},
	[CONFIG_SUBMISSION] = {"submission", alpn_smtp},
	[CONFIG_SERVICES] = {NULL, NULL}};

const char *config_service_name(enum config_service service)
{
	return service_names[service];
}

void config_maps(const struct conf *conf, struct backends *backends, struct usermap_config *maps_out)
{
	size_t count, n = 0;
	const char *const *titles = conf_titles(conf, "map", &count);
	const char **single = xcalloc(count + 1, sizeof(*single));

	for (size_t i = 0; i < count; i++) {
		if (config_check_is_sole_user(conf, titles[i]))
			single[n++] = titles[i];
	}
	usermap_config_read(conf, backends_names(backends), single, maps_out);
	free(single);
}

static void config_free(struct config *c)
{
	for (size_t i = 0; i < c->listener_count; i++) {
		front_service_unref(&c->listeners[i].front);
		smtp_service_unref(&c->listeners[i].smtp);
	}
	free(c->listeners);
	listen_free(&c->listen);
	for (size_t i = 0; i < CONFIG_SERVICES; i++) {
		usermap_chain_unref(&c->services[i].chain);
		front_auth_unref(&c->services[i].auth);
		smtp_policy_unref(&c->services[i].policy);
	}
	backends_free(&c->backends);
	conf_free(&c->conf);
	free(c);
}

struct config *config_ref(struct config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void config_unref(struct config **config)
{
	struct config *c = *config;

	*config = NULL;
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		config_free(c);
}

static bool has_word(const char *const *words, const char *word)
{
	for (; *words; words++) {
		if (strcmp(*words, word) == 0)
			return true;
	}
	return false;
}

bool config_may_reach(
	const struct config_service_of *service, const struct backend *backend, const char **why_out)
{
	if (service->backends[0] &&
		!has_word(service->backends, backend->is_named ? backend->name : "default")) {
		*why_out = "the map leads to a back-end that this service may not reach";
		return false;
	}
	if (service->authenticate == CONFIG_BY_BACKEND && backend->trust != BACKEND_REPLAY) {
		*why_out = "authenticate = backend, and this back-end has no trust = replay";
		return false;
	}
	return true;
}

static void make_service(struct config *c, enum config_service id)
{
	struct config_service_of *service = &c->services[id];
	const char *name = service_names[id];
	size_t count;

	service->id = id;
	service->is_used = config_check_is_used(c->conf, name);
	service->backends = conf_get_list(c->conf, "service", name, "backends", &count);
	if (id != CONFIG_SMTP) {
		service->authenticate =
			(enum config_authenticate)conf_get_enum(c->conf, "service", name, "authenticate");
		service->auth = front_auth_new(c->conf, name, c->host, c->hash_pool);
	}
}

static int make_policies(struct config *c, struct buf *why)
{
	int err = smtp_policy_new(c->conf, "smtp", why, &c->services[CONFIG_SMTP].policy);

	if (err)
		return err;
	return smtp_policy_new(c->conf, "submission", why, &c->services[CONFIG_SUBMISSION].policy);
}

/* What a front may look at longer than the snapshot lives. */
struct own_front {
	struct front_service service;
	char host[256];
	char domain[256];
};

static void front_free(struct front_service *service)
{
	tls_unref(&service->tls);
	free(container_of(service, struct own_front, service));
}

struct front_auth *config_listener_auth(const struct config *c, const struct config_listener *l)
{
	if (!c->services[l->service].auth)
		return NULL;
	if (!front_auth_has_own(c->conf, l->title))
		return front_auth_ref(c->services[l->service].auth);
	return front_auth_new_listener(c->conf, service_names[l->service], l->title, c->host, c->hash_pool);
}

static struct front_service *make_front(const struct config *c, const struct config_listener *l)
{
	struct own_front *own = xcalloc(1, sizeof(*own));
	struct front_service *service = &own->service;

	front_service_init(service, service_names[l->service], &login_ops, login_tier(l->service));
	memcpy(own->host, c->host, sizeof(own->host));
	service->host = own->host;
	memcpy(own->domain, l->domain, sizeof(own->domain));
	service->domain = own->domain;
	service->counts_hops = true;
	service->capabilities = l->service == CONFIG_POP3 ? "TOP UIDL" : "";
	service->tls = l->own->tls_mode == LISTEN_TLS_START ? tls_ref(l->own->tls) : NULL;
	service->allows_clear = l->own->allows_clear;
	front_auth_unref(&service->auth);
	service->auth = config_listener_auth(c, l);
	service->limits = c->limits;
	service->free = front_free;
	return service;
}

static void read_domain(const struct config *c, struct config_listener *l)
{
	const char *domain = conf_get_string(c->conf, "listener", l->title, "domain");

	snprintf(l->domain, sizeof(l->domain), "%s", *domain ? domain : c->default_domain);
}

static void make_listener(struct config *c, const struct listen_one *own, struct config_listener *l)
{
	l->own = own;
	l->title = own->title;
	l->service = (enum config_service)own->service;
	read_domain(c, l);
	if (l->service == CONFIG_IMAP || l->service == CONFIG_POP3)
		l->front = make_front(c, l);
	else
		l->smtp = smtp_service_new(
			c, l, own->tls_mode == LISTEN_TLS_START ? own->tls : NULL, own->allows_clear);
}

static void read_values(struct config *c)
{
	const struct conf *conf = c->conf;

	program_host_name(conf, c->host, sizeof(c->host));
	c->default_domain = conf_get_string(conf, "", NULL, "default-domain");
	c->relay_idle_ms = conf_get_duration(conf, "", NULL, "relay-idle");
	front_limits_read(conf, &c->limits);
}

void config_set_penalty(struct config *c, struct penalty *penalty)
{
	for (size_t i = 0; i < c->listener_count; i++) {
		if (c->listeners[i].front)
			c->listeners[i].front->penalty = penalty;
		if (c->listeners[i].smtp)
			c->listeners[i].smtp->penalty = penalty;
	}
}

int config_tie_maps(struct config *c, struct usermap_set *maps, struct buf *why)
{
	size_t count;
	int err = 0;

	for (unsigned i = 0; err == 0 && i < CONFIG_SERVICES; i++) {
		const char *name = service_names[i];

		err = usermap_chain_new(
			maps, conf_get_list(c->conf, "service", name, "maps", &count), &c->services[i].chain);
		if (err < 0)
			buf_printf(why, "%s: service %s: maps: %s\n",
				conf_where(c->conf, "service", name, "maps"), name, error_text(err));
	}
	return err;
}

int config_new(struct conf *conf_take, struct backends *backends_take, struct work_pool *hash_pool,
	struct buf *why, struct config **config_out)
{
	struct config *c = xcalloc(1, sizeof(*c));
	int err;

	atomic_store(&c->refs, 1);
	c->conf = conf_take;
	c->backends = backends_take;
	c->hash_pool = hash_pool;
	read_values(c);
	for (unsigned i = 0; i < CONFIG_SERVICES; i++)
		make_service(c, (enum config_service)i);
	err = make_policies(c, why);
	if (err == 0)
		err = listen_new(conf_take, config_listen_services, why, &c->listen);
	if (err == 0) {
		c->listeners = xcalloc(c->listen->count + 1, sizeof(*c->listeners));
		for (; c->listener_count < c->listen->count; c->listener_count++)
			make_listener(c, &c->listen->listeners[c->listener_count],
				&c->listeners[c->listener_count]);
	}
	if (err < 0)
		config_unref(&c);
	else
		*config_out = c;
	return err;
}
