/*
 * Two lifetimes: struct backend is what a configuration says and goes with it; struct backend_state is what we know of the host, is
 * shared by all struct backends of that name, and survives reloads. Hosts that maps name are made at first use and kept in a bounded
 * table of the set, behind a short lock.
 */
#include "proxy/backends.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/table.h"
#include "proxy/config_check.h"

#define LITERALS_MOST 4096 /* hosts that maps name, in one configuration */
#define ERROR_MOST 160

struct backend_state {
	_Atomic unsigned refs;
	_Atomic bool is_drained;
	_Atomic bool is_down[BACKEND_PROTOCOLS];
	_Atomic unsigned capabilities[BACKEND_PROTOCOLS];
	struct metric *sessions;
	struct metric *up[BACKEND_PROTOCOLS];
	pthread_mutex_t lock; /* of the text */
	char error[ERROR_MOST];
};

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

static const char *const protocol_names[BACKEND_PROTOCOLS] = {"imap", "pop3", "lmtp"};

static const uint16_t standard_ports[BACKEND_PROTOCOLS][2] = {
	/* plain or STARTTLS, implicit TLS */
	[BACKEND_IMAP] = {143, 993},
	[BACKEND_POP3] = {110, 995},
	[BACKEND_LMTP] = {24, 24},
};

const char *backend_protocol_name(enum backend_protocol protocol)
{
	return protocol_names[protocol];
}

/* ---- state ---- */

static struct backend_state *state_new(const char *name)
{
	struct backend_state *s = xcalloc(1, sizeof(*s));
	struct buf labels = {0};

	atomic_store(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	buf_add_str(&labels, "backend=\"");
	metrics_escape_label(&labels, slice_str(name));
	buf_add_str(&labels, "\"");
	s->sessions = metrics_gauge("mailtier_proxy_backend_sessions", buf_str_view(&labels),
		"Sessions open to the back-end through this proxy");
	for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++) {
		buf_clear(&labels);
		buf_add_str(&labels, "backend=\"");
		metrics_escape_label(&labels, slice_str(name));
		buf_printf(&labels, "\",protocol=\"%s\"", protocol_names[p]);
		s->up[p] = metrics_gauge("mailtier_proxy_backend_up", buf_str_view(&labels),
			"1 while health probes of the back-end succeed");
		metric_set(s->up[p], 1);
	}
	buf_deinit(&labels);
	return s;
}

static void state_unref(struct backend_state **state)
{
	struct backend_state *s = *state;

	*state = NULL;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

bool backend_is_up(const struct backend *b, enum backend_protocol protocol)
{
	return !atomic_load_explicit(&b->state->is_down[protocol], memory_order_relaxed);
}

bool backend_is_drained(const struct backend *b)
{
	return atomic_load_explicit(&b->state->is_drained, memory_order_relaxed);
}

bool backend_is_usable(const struct backend *b, enum backend_protocol protocol)
{
	return backend_is_up(b, protocol) && !backend_is_drained(b);
}

void backend_set_drained(struct backend *b, bool is_drained)
{
	atomic_store(&b->state->is_drained, is_drained);
}

unsigned backend_capabilities(const struct backend *b, enum backend_protocol protocol)
{
	return atomic_load_explicit(&b->state->capabilities[protocol], memory_order_relaxed);
}

void backend_learn(struct backend *b, enum backend_protocol protocol, unsigned capabilities)
{
	/* Mostly nothing changes: then the cache line stays shared. */
	if (backend_capabilities(b, protocol) != capabilities)
		atomic_store_explicit(&b->state->capabilities[protocol], capabilities, memory_order_relaxed);
}

void backend_count_session(struct backend *b, int change)
{
	metric_add(b->state->sessions, change);
}

int64_t backend_sessions(const struct backend *b)
{
	return metric_get(b->state->sessions);
}

void backend_last_error(const struct backend *b, char *text, size_t size)
{
	pthread_mutex_lock(&b->state->lock);
	snprintf(text, size, "%s", b->state->error);
	pthread_mutex_unlock(&b->state->lock);
}

bool backend_set_probed(struct backend *b, enum backend_protocol protocol, int error, const char *detail)
{
	bool is_down = error < 0;
	bool was_down = atomic_exchange(&b->state->is_down[protocol], is_down);

	metric_set(b->state->up[protocol], !is_down);
	if (is_down) {
		pthread_mutex_lock(&b->state->lock);
		snprintf(b->state->error, sizeof(b->state->error), "%s: %s", protocol_names[protocol],
			detail ? detail : error_text(error));
		pthread_mutex_unlock(&b->state->lock);
	}
	if (is_down == was_down)
		return false;
	if (is_down)
		log_warn("proxy", "back-end is down: %s backend=%s protocol=%s",
			detail ? detail : error_text(error), b->name, protocol_names[protocol]);
	else
		log_info("proxy", "back-end is up again backend=%s protocol=%s", b->name,
			protocol_names[protocol]);
	return true;
}

/* ---- one back-end ---- */

struct backend *backend_ref(struct backend *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void backend_unref(struct backend **backend)
{
	struct backend *b = *backend;

	*backend = NULL;
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	tls_unref(&b->tls);
	secret_deinit(&b->credential);
	state_unref(&b->state);
	free((char *)(uintptr_t)b->name);
	free((char *)(uintptr_t)b->host);
	free((char *)(uintptr_t)b->server_name);
	free((char *)(uintptr_t)b->user);
	free(b);
}

/* Ours goes only to a loopback address, or behind a handshake that verifies; never along a name in clear. */
static bool may_fly(const struct backend *b, const char *host)
{
	if (b->tls_mode == BACKEND_TLS_STARTTLS)
		return false;
	if (b->trust == BACKEND_REPLAY)
		return true;
	if (b->tls_mode == BACKEND_TLS_IMPLICIT)
		return b->is_verified;
	return config_check_is_loopback(host) && strcmp(host, "localhost") != 0;
}

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

/* title NULL: the terms of backend-default. */
static int backend_new(const struct conf *conf, const char *section, const char *title, struct buf *why,
	struct backend **backend_out)
{
	static const char *const port_keys[BACKEND_PROTOCOLS] = {"imap-port", "pop3-port", "lmtp-port"};
	const char *host = title ? conf_get_string(conf, section, title, "host") : "";
	const char *server_name = conf_get_string(conf, section, title, "server-name");
	struct backend *b = xcalloc(1, sizeof(*b));
	int err;

	atomic_store(&b->refs, 1);
	b->name = xstrdup(title ? title : "default");
	b->host = xstrdup(host);
	b->server_name = xstrdup(server_name[0] ? server_name : host);
	b->user = xstrdup(conf_get_string(conf, section, title, "user"));
	b->tls_mode = (enum backend_tls)conf_get_enum(conf, section, title, "tls");
	b->trust = (enum backend_trust)conf_get_enum(conf, section, title, "trust");
	secret_set(&b->credential, conf_get_secret(conf, section, title, "credential"));
	b->spare = (unsigned)conf_get_int(conf, section, title, "spare");
	b->connect_ms = conf_get_duration(conf, section, title, "connect-timeout");
	b->login_ms = conf_get_duration(conf, section, title, "login-timeout");
	b->probe_ms = conf_get_duration(conf, section, title, "probe-interval");
	for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++) {
		b->ports[p] = (uint16_t)conf_get_int(conf, section, title, port_keys[p]);
		if (b->ports[p] == 0)
			b->ports[p] = standard_ports[p][b->tls_mode == BACKEND_TLS_IMPLICIT];
	}
	b->is_named = title != NULL;
	b->is_smtp = conf_get_enum(conf, section, title, "delivery") == 1;
	err = make_tls(conf, section, title, why, b);
	b->may_fly = may_fly(b, host);
	if (err < 0)
		backend_unref(&b);
	else
		*backend_out = b;
	return err;
}

int backend_dial(struct backend *b, enum backend_protocol protocol, uint16_t port, struct loop *loop,
	conn_fn *fn, void *owner, struct conn **conn_out)
{
	struct dial_options options = {
		.host = b->host,
		.port = port ? port : b->ports[protocol],
		.timeout_ms = b->connect_ms,
		.tls = b->tls_mode == BACKEND_TLS_IMPLICIT ? b->tls : NULL,
		.server_name = b->server_name,
	};

	return dial(loop, &options, fn, owner, conn_out);
}

bool backend_may_vouch(const struct backend *b, const struct conn *conn)
{
	return (conn_is_tls(conn) && b->is_verified) || addr_is_loopback(conn_peer(conn));
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

/* The state of the old back-end of this name, if it is the same host, else a new one. */
static struct backend_state *state_for(struct backends *old, const struct backend *b)
{
	struct backend *before = old ? backends_find(old, b->name) : NULL;

	if (!before || strcmp(before->host, b->host) != 0)
		return state_new(b->name);
	atomic_fetch_add(&before->state->refs, 1);
	return before->state;
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
		b->state = state_for(old, b);
		set->named[i] = b;
		set->names[i] = b->name;
		set->count++;
	}
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

/* The terms of backend-default for this host. */
static struct backend *literal_new(const struct backends *set, const char *host)
{
	const struct backend *terms = set->terms;
	struct backend *b = xcalloc(1, sizeof(*b));

	*b = *terms;
	atomic_store(&b->refs, 1);
	b->name = xstrdup(host);
	b->host = xstrdup(host);
	b->server_name = xstrdup(terms->server_name[0] ? terms->server_name : host);
	b->user = xstrdup(terms->user);
	b->credential = (struct secret){0};
	secret_set(&b->credential, secret_view(&terms->credential));
	b->tls = terms->tls ? tls_ref(terms->tls) : NULL;
	b->spare = 0;
	b->may_fly = may_fly(b, host);
	b->state = state_new("default");
	return b;
}

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
		b = literal_new(set, host);
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

int backends_route(struct backends *set, const struct usermap_answer *answer, struct backend **backend_out,
	uint16_t *port_out, const char **why_out)
{
	const struct usermap_target *target = &answer->targets[0];
	struct backend *b;
	int err;

	if (!answer->target_count) {
		*why_out = "the map gives no back-end";
		return ERR_NOT_FOUND;
	}
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
