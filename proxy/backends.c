/*
 * Sections become back-ends when a configuration is made. Hosts that maps name are made at first use and kept in a bounded table of the
 * set, behind a short lock.
 */
#include "proxy/backends.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/table.h"

#define LITERALS_MOST 4096 /* hosts that maps name, in one configuration */

struct backends {
	struct backend **named;
	const char **names; /* NULL-ended */
	size_t count;
	struct backend *terms; /* of backend-default, as a pattern for hosts of maps */
	const char *const *hosts;
	size_t host_count;
	pthread_mutex_t lock; /* of the table */
	struct table *literals;
};

static const uint16_t standard_ports[BACKEND_PROTOCOLS][2] = {
	/* plain or STARTTLS, implicit TLS */
	[BACKEND_IMAP] = {143, 993},
	[BACKEND_POP3] = {110, 995},
	[BACKEND_LMTP] = {24, 24},
	[BACKEND_SUBMISSION] = {587, 465},
};

/* ---- one back-end ---- */

static int make_tls(
	const struct conf *conf, const char *section, const char *title, struct buf *why, struct backend *b)
{
	struct tls_client_options options = {
		.verify = conf_get_bool(conf, section, title, "verify"),
	};

	if (b->tls_mode == BACKEND_TLS_NONE)
		return 0;
	if (conf_is_set(conf, section, title, "ca"))
		options.ca = conf_get_string(conf, section, title, "ca");
	if (conf_is_set(conf, section, title, "certificate"))
		options.certificate = conf_get_string(conf, section, title, "certificate");
	if (conf_is_set(conf, section, title, "key"))
		options.key = conf_get_string(conf, section, title, "key");
	b->is_verified = options.verify;
	return tls_client_new(&options, why, &b->tls);
}

/* What a new connection may come from; checked by config_check.c. */
static void read_sources(const struct conf *conf, const char *section, const char *title, struct backend *b)
{
	size_t count;
	const char *const *list = conf_get_list(conf, section, title, "source-addresses", &count);

	for (size_t i = 0; i < count && b->source_count < DIAL_SOURCES_MOST; i++) {
		if (addr_parse(slice_str(list[i]), 0, &b->sources[b->source_count]) == 0)
			b->source_count++;
	}
}

static void add_host(struct backend *b, const char *host, const char *server_name)
{
	struct backend_host *h = &b->hosts[b->host_count++];

	h->name = xstrdup(host);
	h->server_name = xstrdup(server_name[0] ? server_name : host);
	h->may_fly = backend_may_fly(b, host);
}

static void read_times(const struct conf *conf, const char *section, const char *title, struct backend *b)
{
	b->connect_ms = conf_get_duration(conf, section, title, "connect-timeout");
	b->login_ms = conf_get_duration(conf, section, title, "login-timeout");
	b->probe_ms = conf_get_duration(conf, section, title, "probe-interval");
	b->return_ms = conf_get_duration(conf, section, title, "return-time");
	b->wait_ms = conf_get_duration(conf, section, title, "wait-timeout");
	b->failures = (unsigned)conf_get_int(conf, section, title, "failures");
	b->connections_most = (unsigned)conf_get_int(conf, section, title, "connections");
	b->spare = (unsigned)conf_get_int(conf, section, title, "spare");
}

static void read_ports(const struct conf *conf, const char *section, const char *title, struct backend *b)
{
	static const char *const port_keys[BACKEND_PROTOCOLS] = {
		"imap-port", "pop3-port", "lmtp-port", "submission-port"};

	for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++) {
		b->ports[p] = (uint16_t)conf_get_int(conf, section, title, port_keys[p]);
		if (b->ports[p] == 0)
			b->ports[p] = standard_ports[p][b->tls_mode == BACKEND_TLS_IMPLICIT];
	}
}

/* title NULL: the terms of backend-default. */
static int backend_new(const struct conf *conf, const char *section, const char *title, struct buf *why,
	struct backend **backend_out)
{
	struct backend *b = xcalloc(1, sizeof(*b));
	size_t count = 0;
	const char *const *hosts = title ? conf_get_list(conf, section, title, "host", &count) : NULL;
	int err;

	atomic_store(&b->refs, 1);
	b->name = xstrdup(title ? title : "default");
	b->server_name = xstrdup(conf_get_string(conf, section, title, "server-name"));
	b->user = xstrdup(conf_get_string(conf, section, title, "user"));
	b->tls_mode = (enum backend_tls)conf_get_enum(conf, section, title, "tls");
	b->trust = (enum backend_trust)conf_get_enum(conf, section, title, "trust");
	b->identity = (enum identity)conf_get_enum(conf, section, title, "identity");
	secret_set(&b->credential, conf_get_secret(conf, section, title, "credential"));
	b->is_named = title != NULL;
	b->is_smtp = conf_get_enum(conf, section, title, "delivery") == 1;
	read_times(conf, section, title, b);
	read_ports(conf, section, title, b);
	read_sources(conf, section, title, b);
	err = make_tls(conf, section, title, why, b);
	for (size_t i = 0; i < count && i < BACKEND_HOSTS_MOST; i++)
		add_host(b, hosts[i], b->server_name);
	if (err < 0)
		backend_unref(&b);
	else
		*backend_out = b;
	return err;
}

/* ---- hosts of maps ---- */

static bool is_host_allowed(const struct backends *set, const char *host)
{
	struct addr addr;
	bool is_addr = addr_parse(slice_str(host), 0, &addr) == 0;

	for (size_t i = 0; i < set->host_count; i++) {
		const char *allowed = set->hosts[i];
		struct slice h = slice_str(host);
		size_t len = strlen(allowed);
		struct addr_net net;

		if (is_addr ? addr_net_parse(slice_str(allowed), &net) == 0 && addr_net_has(&net, &addr)
			    : slice_is_str_nocase(h, allowed))
			return true;
		if (!is_addr && allowed[0] == '.' && h.len > len &&
			slice_is_str_nocase(slice_from(h, h.len - len), allowed))
			return true;
	}
	return false;
}

/* The terms of backend-default for this host; old: what was made for it under an older configuration, or NULL. */
static struct backend *literal_new(const struct backends *set, const char *host, const struct backend *old)
{
	const struct backend *terms = set->terms;
	struct backend *b = xcalloc(1, sizeof(*b));

	*b = *terms;
	atomic_store(&b->refs, 1);
	b->name = xstrdup(host);
	b->server_name = xstrdup(terms->server_name);
	b->user = xstrdup(terms->user);
	b->credential = (struct secret){0};
	secret_set(&b->credential, secret_view(&terms->credential));
	b->tls = terms->tls ? tls_ref(terms->tls) : NULL;
	b->spare = 0;
	add_host(b, host, terms->server_name);
	backend_attach_states(b, old, "default");
	return b;
}

/* Those that have connections go on being counted; others are made anew when they are asked for. */
static void keep_literals(struct backends *set, struct backends *old)
{
	struct backend_figures figures;
	size_t at = 0;
	struct slice key;
	void *value;

	pthread_mutex_lock(&old->lock);
	while (table_next(old->literals, &at, &key, &value)) {
		const struct backend *before = value;
		struct backend *b;

		backend_figures(before, &figures);
		if (figures.connections <= 0 || !is_host_allowed(set, before->name))
			continue;
		b = literal_new(set, before->name, before);
		(void)table_put(set->literals, slice_str(b->name), b);
	}
	pthread_mutex_unlock(&old->lock);
}

/* ---- the set ---- */

void backends_free(struct backends **backends)
{
	struct backends *set = *backends;
	size_t at = 0;
	struct slice key;
	void *value;

	*backends = NULL;
	if (!set)
		return;
	for (size_t i = 0; i < set->count; i++)
		backend_unref(&set->named[i]);
	while (table_next(set->literals, &at, &key, &value)) {
		struct backend *b = value;

		backend_unref(&b);
	}
	table_free(&set->literals);
	backend_unref(&set->terms);
	for (size_t i = 0; i < set->host_count; i++)
		free((char *)(uintptr_t)set->hosts[i]);
	free((void *)(uintptr_t)set->hosts);
	free(set->named);
	free(set->names);
	pthread_mutex_destroy(&set->lock);
	free(set);
}

static const char *const *copy_words(const char *const *words, size_t count)
{
	const char **copy = xcalloc(count + 1, sizeof(*copy));

	for (size_t i = 0; i < count; i++)
		copy[i] = xstrdup(words[i]);
	return copy;
}

int backends_new(
	const struct conf *conf, struct backends *old, struct buf *why, struct backends **backends_out)
{
	struct backends *set = xcalloc(1, sizeof(*set));
	const char *const *hosts;
	const char *const *titles;
	size_t count;
	int err;

	titles = conf_titles(conf, "backend", &count);
	pthread_mutex_init(&set->lock, NULL);
	set->literals = table_new();
	set->named = xcalloc(count + 1, sizeof(*set->named));
	set->names = xcalloc(count + 1, sizeof(*set->names));
	hosts = conf_get_list(conf, "backend-default", NULL, "hosts", &set->host_count);
	set->hosts = copy_words(hosts, set->host_count);
	err = backend_new(conf, "backend-default", NULL, why, &set->terms);
	for (size_t i = 0; err == 0 && i < count; i++) {
		struct backend *b;

		err = backend_new(conf, "backend", titles[i], why, &b);
		if (err < 0)
			break;
		backend_attach_states(b, old ? backends_find(old, b->name) : NULL, b->name);
		set->named[i] = b;
		set->names[i] = b->name;
		set->count++;
	}
	if (err == 0 && old)
		keep_literals(set, old);
	if (err < 0)
		backends_free(&set);
	else
		*backends_out = set;
	return err;
}

size_t backends_count(const struct backends *set)
{
	return set->count;
}

struct backend *backends_at(const struct backends *set, size_t i)
{
	require(i < set->count);
	return set->named[i];
}

struct backend *backends_find(const struct backends *set, const char *name)
{
	for (size_t i = 0; i < set->count; i++) {
		if (strcmp(set->named[i]->name, name) == 0)
			return set->named[i];
	}
	return NULL;
}

const char *const *backends_names(const struct backends *set)
{
	return set->names;
}

/* ---- routes ---- */

static int route_literal(
	struct backends *set, const char *host, struct backend **backend_out, const char **why_out)
{
	struct backend *b;

	if (!is_host_allowed(set, host)) {
		*why_out = "the map names a host that backend-default does not allow";
		return ERR_NOT_NOW;
	}
	pthread_mutex_lock(&set->lock);
	b = table_get(set->literals, slice_str(host));
	if (!b && table_count(set->literals) < LITERALS_MOST) {
		b = literal_new(set, host, NULL);
		(void)table_put(set->literals, slice_str(b->name), b);
	}
	if (b)
		*backend_out = backend_ref(b);
	pthread_mutex_unlock(&set->lock);
	if (b)
		return 0;
	*why_out = "maps name too many hosts";
	return ERR_NOT_NOW;
}

static int route_target(struct backends *set, const struct usermap_target *target,
	struct backend **backend_out, uint16_t *port_out, const char **why_out)
{
	struct backend *b;
	int err;

	switch (target->kind) {
	case USERMAP_BACKEND:
		b = backends_find(set, target->name);
		if (!b) {
			*why_out = "the map names a back-end that the configuration does not have";
			return ERR_NOT_NOW;
		}
		*backend_out = backend_ref(b);
		*port_out = 0;
		return 0;
	case USERMAP_HOST:
		err = route_literal(set, target->name, backend_out, why_out);
		if (err == 0)
			*port_out = target->port;
		return err;
	}
	return ERR_NOT_NOW;
}

unsigned backends_route_all(struct backends *set, const struct usermap_answer *answer,
	struct backend **backends_out, uint16_t *ports_out, const char **why_out)
{
	unsigned count = 0;

	for (unsigned i = 0; i < answer->target_count; i++) {
		if (route_target(
			    set, &answer->targets[i], &backends_out[count], &ports_out[count], why_out) == 0)
			count++;
	}
	return count;
}

int backends_route(struct backends *set, const struct usermap_answer *answer, enum backend_protocol protocol,
	struct backend **backend_out, uint16_t *port_out, const char **why_out)
{
	struct backend *first = NULL;
	uint16_t first_port = 0;

	if (!answer->target_count) {
		*why_out = "the map gives no back-end";
		return ERR_NOT_FOUND;
	}
	for (unsigned i = 0; i < answer->target_count; i++) {
		struct backend *b;
		uint16_t port;

		if (route_target(set, &answer->targets[i], &b, &port, why_out) < 0)
			continue;
		if (!first || (!backend_is_usable(first, protocol) && backend_is_usable(b, protocol))) {
			backend_unref(&first);
			first = b;
			first_port = port;
		} else {
			backend_unref(&b);
		}
	}
	if (!first)
		return ERR_NOT_NOW;
	*backend_out = first;
	*port_out = first_port;
	return 0;
}
