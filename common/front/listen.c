/*
 * Three levels have the same keys: the listener, its service, the whole program. Rules are asked from the inner to the outer one;
 * limits hold each for itself, and are counted in scopes (struct flow) that outlive reloads.
 */
#include "common/front/listen.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/domain_keys.h"
#include "common/net/tls_tickets.h"

#define LIMIT_KEYS(section)                                                                                  \
	{section, "access", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,                                          \
		"Who may connect: `[PRIORITY] allow|deny WHAT` each; WHAT: an address, FROM-TO, a network, " \
		"`any` or `unix`",                                                                           \
		NULL},                                                                                       \
		{section, "connections", CONF_INT, CONF_RELOAD, "0", 0, 10000000, NULL,                      \
			"Most connections at a time; beyond it new ones are closed; 0: no limit", NULL},     \
		{section, "new-connections", CONF_INT, CONF_RELOAD, "0", 0, 10000000, NULL,                  \
			"Most new connections within new-interval; 0: no limit", NULL},                      \
		{section, "new-interval", CONF_DURATION, CONF_RELOAD, "1m", 1000, 86400000, NULL,            \
			"Interval of new-connections", NULL},                                                \
		{section, "peer-connections", CONF_INT, CONF_RELOAD, "0", 0, 10000000, NULL,                 \
			"Most connections of one peer (IPv6: of one /64) at a time; 0: no limit", NULL},     \
		{section, "peer-new-connections", CONF_INT, CONF_RELOAD, "0", 0, 10000000, NULL,             \
			"Most new connections of one peer within peer-new-interval; 0: no limit", NULL},     \
	{                                                                                                    \
		section, "peer-new-interval", CONF_DURATION, CONF_RELOAD, "1m", 1000, 86400000, NULL,        \
			"Interval of peer-new-connections", NULL                                             \
	}

const struct conf_key listen_keys[] = {
	LIMIT_KEYS(""),
	{"", "ticket-keys", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL,
		"Keys of TLS session tickets, 80 octets each, the first for new ones; the same file on all "
		"proxies. Not "
		"set: random keys",
		NULL},

	{"listener", "listen", CONF_ADDRESSES, CONF_REQUIRED, NULL, 1, 0, NULL, "Addresses with ports", NULL},
	{"listener", "tls", CONF_ENUM, CONF_RELOAD, "starttls", 0, 0, "none starttls implicit",
		"How clients encrypt", NULL},
	{"listener", "certificate", CONF_STRING, CONF_RELOAD, "default", 0, 0, NULL,
		"Title of a section `tls`: for clients that name no host, or one that no certificate has",
		NULL},
	{"listener", "certificates", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Titles of further sections `tls`, chosen by the host that the client names (SNI)", NULL},
	{"listener", "sni", CONF_ENUM, CONF_RELOAD, "default", 0, 0, "default strict",
		"A client that names a host that no certificate has: default, it gets the first certificate; "
		"strict, it is refused",
		NULL},
	{"listener", "allow-clear", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL, "Take passwords without TLS",
		NULL},
	{"listener", "proxy-protocol", CONF_ENUM, CONF_RELOAD, "off", 0, 0, "off required optional",
		"PROXY headers (v1, v2): required, each peer is a balancer of proxy-networks and sends one; "
		"optional, "
		"balancers of proxy-networks must send one, and others' are not taken",
		NULL},
	{"listener", "proxy-networks", CONF_NETWORKS, CONF_RELOAD, "", 0, 0, NULL,
		"Networks of the balancers whose PROXY headers are believed", NULL},
	{"listener", "proxy-timeout", CONF_DURATION, CONF_RELOAD, "5s", 100, 60000, NULL,
		"For the PROXY header", NULL},
	LIMIT_KEYS("listener"),

	LIMIT_KEYS("service"),

	{"tls", "certificate", CONF_PATH, CONF_RELOAD | CONF_REQUIRED | CONF_EXISTS, NULL, 0, 0, NULL,
		"Certificate with its chain, PEM", NULL},
	{"tls", "key", CONF_PATH, CONF_RELOAD | CONF_REQUIRED | CONF_PRIVATE, NULL, 0, 0, NULL,
		"Its private key, PEM", NULL},
	{"tls", "names", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Hosts for which it is chosen (`*.example.com` for one label); empty: those that it names "
		"itself",
		NULL},
	{"tls", "min-version", CONF_ENUM, CONF_RELOAD, "1.2", 0, 0, "1.2 1.3", "Least version of TLS", NULL},
	{"tls", "client-ca", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,
		"Certificates that clients' certificates must descend from; not set: none is asked for",
		NULL},
	{"tls", "client-certificates", CONF_ENUM, CONF_RELOAD, "request", 0, 0, "none request require",
		"With client-ca: none, clients are not asked for a certificate; request, one that is shown "
		"must be good; "
		"require, clients without one are refused",
		NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

/* ---- TLS ---- */

static struct tls_certificate certificate_of(const struct conf *conf, const char *section)
{
	size_t count;

	return (struct tls_certificate){
		.certificate = conf_get_string(conf, "tls", section, "certificate"),
		.key = conf_get_string(conf, "tls", section, "key"),
		.names = conf_get_list(conf, "tls", section, "names", &count),
	};
}

static int make_tls(const struct listen *listen, struct listen_one *l, struct buf *why)
{
	const struct conf *conf = listen->conf;
	const char *first = conf_get_string(conf, "listener", l->title, "certificate");
	const struct tls_certificate certificate = certificate_of(conf, first);
	int asks = conf_get_enum(conf, "tls", first, "client-certificates");
	struct tls_server_options options = {
		.certificate = certificate.certificate,
		.key = certificate.key,
		.names = certificate.names,
		.is_strict = conf_get_enum(conf, "listener", l->title, "sni") == 1,
		.is_13_only = conf_get_enum(conf, "tls", first, "min-version") == 1,
		.client_required = asks == 2,
		.alpn = listen->services[l->service].alpn,
		.session_context = listen->services[l->service].name,
	};
	const char *const *titles =
		conf_get_list(conf, "listener", l->title, "certificates", &options.more_count);
	struct tls_certificate *more = xcalloc(options.more_count + 1, sizeof(*more));
	int rc;

	for (size_t i = 0; i < options.more_count; i++)
		more[i] = certificate_of(conf, titles[i]);
	options.more = more;
	if (asks != 0 && conf_is_set(conf, "tls", first, "client-ca"))
		options.client_ca = conf_get_string(conf, "tls", first, "client-ca");
	rc = tls_server_new(&options, why, &l->tls);
	free(more);
	return rc;
}

/* ---- checking ---- */

static void check_rules(struct conf *conf, const char *section, const char *title)
{
	struct access_rules *rules;
	struct buf why = {0};
	size_t count;
	const char *const *texts = conf_get_list(conf, section, title, "access", &count);

	if (access_rules_new(texts, count, &why, &rules) != 0)
		conf_error(conf, section, title, "access", "%s", buf_str_view(&why));
	else
		access_rules_free(&rules);
	buf_deinit(&why);
}

static const char *text_or_empty(const struct conf *conf, const char *section, const char *key)
{
	return conf_is_set(conf, "tls", section, key) ? conf_get_string(conf, "tls", section, key) : "";
}

/* A client is asked for its certificate before it is known which name it wants. */
static void check_alike(struct conf *conf, const char *title, const char *first, const char *other)
{
	if (strcmp(text_or_empty(conf, first, "client-ca"), text_or_empty(conf, other, "client-ca")) != 0 ||
		conf_get_enum(conf, "tls", first, "client-certificates") !=
			conf_get_enum(conf, "tls", other, "client-certificates") ||
		conf_get_enum(conf, "tls", first, "min-version") !=
			conf_get_enum(conf, "tls", other, "min-version"))
		conf_error(conf, "listener", title, "certificates",
			"tls %s and %s differ in client-ca, client-certificates or min-version: these are "
			"one for a listener",
			first, other);
}

static bool check_certificates(struct conf *conf, const char *title)
{
	const char *first = conf_get_string(conf, "listener", title, "certificate");
	size_t count;
	const char *const *more = conf_get_list(conf, "listener", title, "certificates", &count);
	bool are_there = true;

	if (!conf_has_title(conf, "tls", first)) {
		conf_error(conf, "listener", title, "certificate", "there is no section tls %s", first);
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (conf_has_title(conf, "tls", more[i])) {
			check_alike(conf, title, first, more[i]);
			continue;
		}
		conf_error(conf, "listener", title, "certificates", "there is no section tls %s", more[i]);
		are_there = false;
	}
	return are_there;
}

/* That the files are what they should be shows when they are used: as the listener will. */
static void check_files(struct conf *conf, const struct listen_service *services, const char *title)
{
	const struct listen listen = {.conf = conf, .services = services};
	struct listen_one l = {
		.title = title, .service = (unsigned)conf_get_enum(conf, "listener", title, "service")};
	const char *first = conf_get_string(conf, "listener", title, "certificate");
	struct buf why = {0};

	if (conf_get_enum(conf, "tls", first, "client-certificates") == 2 &&
		!conf_is_set(conf, "tls", first, "client-ca"))
		return; /* said below */
	if (make_tls(&listen, &l, &why) < 0)
		conf_error(conf, "tls", first, "certificate", "%s", buf_str_view(&why));
	tls_unref(&l.tls);
	buf_deinit(&why);
}

static void check_ticket_keys(struct conf *conf)
{
	struct tls_tickets *tickets;
	struct buf why = {0};

	if (!conf_is_set(conf, "", NULL, "ticket-keys"))
		return;
	if (tls_tickets_read(conf_get_string(conf, "", NULL, "ticket-keys"), &why, &tickets) < 0)
		conf_error(conf, "", NULL, "ticket-keys", "%.*s", SLICE_ARG(slice_trim(buf_view(&why))));
	else
		tls_tickets_unref(&tickets);
	buf_deinit(&why);
}

static void check_listener(struct conf *conf, const struct listen_service *services, const char *title)
{
	size_t networks;

	check_rules(conf, "listener", title);
	if (conf_get_enum(conf, "listener", title, "tls") != LISTEN_TLS_NONE &&
		check_certificates(conf, title))
		check_files(conf, services, title);
	(void)conf_get_list(conf, "listener", title, "proxy-networks", &networks);
	if (networks && !conf_is_set(conf, "listener", title, "proxy-protocol"))
		conf_error(conf, "listener", title, "proxy-networks",
			"proxy-protocol is not set: no PROXY header would be taken");
	if (networks == 0 && conf_get_enum(conf, "listener", title, "proxy-protocol") != LISTENER_PROXY_OFF)
		conf_error(conf, "listener", title, "proxy-networks",
			"must be set: with proxy-protocol, it says whose headers are believed");
}

static void check_tls(struct conf *conf, const char *title)
{
	size_t count;
	const char *const *names = conf_get_list(conf, "tls", title, "names", &count);

	domain_keys_check_hosts(conf, "tls", title, "names", names, count, true);
	if (conf_get_enum(conf, "tls", title, "client-certificates") == 2 &&
		!conf_is_set(conf, "tls", title, "client-ca"))
		conf_error(conf, "tls", title, "client-ca", "must be set: client-certificates = require");
}

void listen_check(struct conf *conf, const struct listen_service *services)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "listener", &count);

	check_rules(conf, "", NULL);
	check_ticket_keys(conf);
	for (const struct listen_service *s = services; s->name; s++)
		check_rules(conf, "service", s->name);
	for (size_t i = 0; i < count; i++)
		check_listener(conf, services, titles[i]);
	titles = conf_titles(conf, "tls", &count);
	for (size_t i = 0; i < count; i++)
		check_tls(conf, titles[i]);
}

/* By TLS here, or told by a balancer. */
static bool can_see_certificates(const struct conf *conf, const char *title)
{
	const char *section = conf_get_string(conf, "listener", title, "certificate");

	if (conf_get_enum(conf, "listener", title, "proxy-protocol") != LISTENER_PROXY_OFF)
		return true;
	return conf_get_enum(conf, "listener", title, "tls") != LISTEN_TLS_NONE &&
	       conf_has_title(conf, "tls", section) && conf_is_set(conf, "tls", section, "client-ca") &&
	       conf_get_enum(conf, "tls", section, "client-certificates") != 0;
}

bool listen_offers(const struct conf *conf, const struct listen_service *services, const char *service,
	bool *allows_clear_out, bool *asks_certificates_out)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "listener", &count);
	bool is_offered = false;

	*allows_clear_out = *asks_certificates_out = false;
	for (size_t i = 0; i < count; i++) {
		int at = conf_get_enum(conf, "listener", titles[i], "service");

		if (at < 0 || strcmp(services[at].name, service) != 0)
			continue;
		is_offered = true;
		*allows_clear_out |= conf_get_bool(conf, "listener", titles[i], "allow-clear");
		*asks_certificates_out |= can_see_certificates(conf, titles[i]);
	}
	return is_offered;
}

/* ---- making ---- */

static struct access_rules *make_rules(const struct conf *conf, const char *section, const char *title)
{
	struct access_rules *rules = NULL;
	struct buf why = {0};
	size_t count;
	const char *const *texts = conf_get_list(conf, section, title, "access", &count);

	require(access_rules_new(texts, count, &why, &rules) == 0); /* checked */
	return rules;
}

static struct listener_policy *make_policy(const struct listen *listen, const struct listen_one *l)
{
	const struct conf *conf = listen->conf;
	struct listener_policy *policy = listener_policy_new();
	size_t count;
	const char *const *networks = conf_get_list(conf, "listener", l->title, "proxy-networks", &count);

	policy->proxy = (enum listener_proxy)conf_get_enum(conf, "listener", l->title, "proxy-protocol");
	policy->proxy_timeout_ms = conf_get_duration(conf, "listener", l->title, "proxy-timeout");
	policy->proxy_networks = xcalloc(count + 1, sizeof(*policy->proxy_networks));
	for (size_t i = 0; i < count; i++)
		if (addr_net_parse(slice_str(networks[i]),
			    &policy->proxy_networks[policy->proxy_network_count]) == 0)
			policy->proxy_network_count++;
	policy->access[LISTENER_OWN] = make_rules(conf, "listener", l->title);
	policy->access[LISTENER_SERVICE] = make_rules(conf, "service", listen->services[l->service].name);
	policy->access[LISTENER_GLOBAL] = make_rules(conf, "", NULL);
	return policy;
}

int listen_new(const struct conf *conf, const struct listen_service *services, struct buf *why,
	struct listen **listen_out)
{
	struct listen *listen = xcalloc(1, sizeof(*listen));
	const char *const *titles = conf_titles(conf, "listener", &listen->count);
	int rc = 0;

	listen->conf = conf;
	listen->services = services;
	listen->listeners = xcalloc(listen->count + 1, sizeof(*listen->listeners));
	for (size_t i = 0; rc == 0 && i < listen->count; i++) {
		struct listen_one *l = &listen->listeners[i];

		l->title = titles[i];
		l->service = (unsigned)conf_get_enum(conf, "listener", l->title, "service");
		l->tls_mode = (enum listen_tls)conf_get_enum(conf, "listener", l->title, "tls");
		l->allows_clear = conf_get_bool(conf, "listener", l->title, "allow-clear");
		l->policy = make_policy(listen, l);
		if (l->tls_mode != LISTEN_TLS_NONE)
			rc = make_tls(listen, l, why);
	}
	if (rc)
		listen_free(&listen);
	else
		*listen_out = listen;
	return rc;
}

void listen_free(struct listen **listen)
{
	struct listen *l = *listen;

	*listen = NULL;
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		tls_unref(&l->listeners[i].tls);
		listener_policy_unref(&l->listeners[i].policy);
	}
	free(l->listeners);
	free(l);
}

/* ---- sockets ---- */

struct place {
	struct listener *listener;
	struct listen_set *set;
	size_t index; /* of its section */
};

struct listen_set {
	listen_fn *fn;
	struct place *places;
	size_t count;
	struct flow *global, **services, **listeners;
	size_t service_count, listener_count;
	struct tls_ticket_file *tickets;
};

static void on_accept(void *arg, struct conn *conn_take)
{
	const struct place *place = arg;

	place->set->fn(place->index, conn_take);
}

static void set_limits(struct flow *flow, const struct conf *conf, const char *section, const char *title)
{
	const struct flow_limits limits = {
		.connections = (unsigned)conf_get_int(conf, section, title, "connections"),
		.new_connections = (unsigned)conf_get_int(conf, section, title, "new-connections"),
		.new_interval_ms = conf_get_duration(conf, section, title, "new-interval"),
		.peer_connections = (unsigned)conf_get_int(conf, section, title, "peer-connections"),
		.peer_new_connections = (unsigned)conf_get_int(conf, section, title, "peer-new-connections"),
		.peer_new_interval_ms = conf_get_duration(conf, section, title, "peer-new-interval"),
	};

	flow_set_limits(flow, &limits);
}

static void set_all_limits(struct listen_set *set, const struct listen *listen)
{
	set_limits(set->global, listen->conf, "", NULL);
	for (size_t i = 0; i < set->service_count; i++)
		set_limits(set->services[i], listen->conf, "service", listen->services[i].name);
	for (size_t i = 0; i < set->listener_count; i++)
		set_limits(set->listeners[i], listen->conf, "listener", listen->listeners[i].title);
}

static struct flow **make_flows(size_t count)
{
	struct flow **flows = xcalloc(count + 1, sizeof(struct flow *));

	for (size_t i = 0; i < count; i++)
		flows[i] = flow_new();
	return flows;
}

static struct listen_set *set_new(const struct listen *listen, listen_fn *fn)
{
	struct listen_set *set = xcalloc(1, sizeof(*set));
	size_t total = 0, count;

	for (size_t i = 0; i < listen->count; i++) {
		(void)conf_get_addresses(
			listen->conf, "listener", listen->listeners[i].title, "listen", &count);
		total += count;
	}
	while (listen->services[set->service_count].name)
		set->service_count++;
	set->fn = fn;
	set->listener_count = listen->count;
	set->places = xcalloc(total + 1, sizeof(*set->places));
	set->global = flow_new();
	set->services = make_flows(set->service_count);
	set->listeners = make_flows(set->listener_count);
	set_all_limits(set, listen);
	return set;
}

static int open_place(struct listen_set *set, struct loop_group *group, const struct listen *listen,
	size_t index, const struct conf_address *a, struct buf *why)
{
	const struct listen_one *l = &listen->listeners[index];
	struct place *place = &set->places[set->count];
	struct listener_options options = {
		.tls = l->tls_mode == LISTEN_TLS_IMPLICIT ? l->tls : NULL,
		.policy = l->policy,
		.flows = {[LISTENER_OWN] = set->listeners[index],
			[LISTENER_SERVICE] = set->services[l->service],
			[LISTENER_GLOBAL] = set->global},
		.name = l->title,
		.unix_mode = 0666,
	};
	int err = addr_parse(slice_str(a->host), a->port, &options.addr);
	struct buf lack = {0};

	place->set = set;
	place->index = index;
	if (err)
		buf_printf(why, "%s: this is no address: %s\n",
			conf_where(listen->conf, "listener", l->title, "listen"), a->host);
	else
		err = listener_open(
			group, &options, on_accept, place, a->may_lack ? &lack : why, &place->listener);
	if (!err)
		set->count++;
	else if (a->may_lack && err == ERR_UNSUPPORTED)
		err = 0;
	else
		buf_add_slice(why, buf_view(&lack));
	buf_deinit(&lack);
	return err;
}

static int open_places(
	struct listen_set *set, struct loop_group *group, const struct listen *listen, struct buf *why)
{
	size_t count;
	int err = 0;

	for (size_t i = 0; !err && i < listen->count; i++) {
		const struct conf_address *a = conf_get_addresses(
			listen->conf, "listener", listen->listeners[i].title, "listen", &count);

		for (size_t k = 0; !err && k < count; k++)
			err = open_place(set, group, listen, i, &a[k], why);
	}
	return err;
}

static const char *ticket_path(const struct conf *conf)
{
	return conf_is_set(conf, "", NULL, "ticket-keys") ? conf_get_string(conf, "", NULL, "ticket-keys")
							  : "";
}

int listen_open(struct loop *loop, struct loop_group *group, const struct listen *listen, listen_fn *fn,
	struct buf *why, struct listen_set **set_out)
{
	struct listen_set *set = set_new(listen, fn);
	int err = tls_ticket_file_open(loop, group, ticket_path(listen->conf), why, &set->tickets);

	if (!err)
		err = open_places(set, group, listen, why);
	if (err)
		listen_close(set); /* its memory stays: a connection may be on its way to on_accept() */
	else
		*set_out = set;
	return err;
}

void listen_set_config(struct listen_set *set, const struct listen *listen)
{
	struct buf why = {0};

	set_all_limits(set, listen);
	for (size_t i = 0; i < set->count; i++) {
		const struct listen_one *l = &listen->listeners[set->places[i].index];

		listener_set_policy(set->places[i].listener, l->policy);
		listener_set_tls(set->places[i].listener, l->tls_mode == LISTEN_TLS_IMPLICIT ? l->tls : NULL);
	}
	if (tls_ticket_file_reload(set->tickets, ticket_path(listen->conf), &why) != 0)
		log_error("net", "ticket keys refused, the old ones stay: %.*s",
			SLICE_ARG(slice_trim(buf_view(&why))));
	buf_deinit(&why);
}

void listen_refuse(struct listen_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		listener_refuse(set->places[i].listener);
}

void listen_stop(struct listen_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		listener_stop(set->places[i].listener);
}

int64_t listen_connections(const struct listen_set *set)
{
	int64_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		count += listener_connections(set->places[i].listener);
	return count;
}

void listen_close(struct listen_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		listener_close(&set->places[i].listener);
	set->count = 0;
	tls_ticket_file_close(&set->tickets);
}

void listen_set_free(struct listen_set **set)
{
	struct listen_set *s = *set;

	*set = NULL;
	if (!s)
		return;
	for (size_t i = 0; i < s->service_count; i++)
		flow_unref(&s->services[i]);
	for (size_t i = 0; i < s->listener_count; i++)
		flow_unref(&s->listeners[i]);
	flow_unref(&s->global);
	free(s->services);
	free(s->listeners);
	free(s->places);
	free(s);
}
