/* One struct a service and configuration; a connection's offer is computed when it is asked for. */
#include "common/front/front_auth.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/proto/address.h"

struct front_auth {
	_Atomic unsigned refs;
	/* the table's own names; NULL-ended */
	const char *secured[SASL_MECHANISM_COUNT + 1], *unsecured[SASL_MECHANISM_COUNT + 1];
	enum conn_certificate_field certificate_user;
	char *host, *gssapi_host, *gssapi_service, *keytab;
	char **realms; /* NULL-ended */
	struct work_pool *pool;
};

static const enum conn_certificate_field fields[] = {
	CONN_CERTIFICATE_EMAIL, CONN_CERTIFICATE_UPN, CONN_CERTIFICATE_CN};

/* ---- the configuration ---- */

bool front_auth_has(const char *const *mechanisms, unsigned traits)
{
	for (; *mechanisms; mechanisms++) {
		if (sasl_traits(*mechanisms) & traits)
			return true;
	}
	return false;
}

/* "REALM=domain" */
static bool is_realm_row(const char *row)
{
	const char *equals = strchr(row, '=');
	struct slice domain;
	struct arena a;
	bool is_good;

	if (!equals || equals == row)
		return false;
	arena_init(&a, 4096);
	is_good = address_normalise_domain(&a, slice_str(equals + 1), &domain) == 0 &&
		  slice_is_str(domain, equals + 1);
	arena_deinit(&a);
	return is_good;
}

void front_auth_check_realms(struct conf *conf)
{
	size_t count;
	const char *const *rows = conf_get_list(conf, "", NULL, "gssapi-realms", &count);

	for (size_t i = 0; i < count; i++) {
		if (!is_realm_row(rows[i]))
			conf_error(conf, "", NULL, "gssapi-realms",
				"\"%s\" is not REALM=domain (the domain in lower case)", rows[i]);
	}
}

void front_auth_check(struct conf *conf, const char *service, bool allows_clear, bool asks)
{
	size_t count, clear_count;
	const char *const *over_tls = conf_get_list(conf, "service", service, "mechanisms", &count);
	const char *const *clear = conf_get_list(conf, "service", service, "mechanisms-clear", &clear_count);

	if (!count && !clear_count)
		conf_error(conf, "service", service, "mechanisms", "no mechanism is left");
	if (front_auth_has(clear, SASL_BINDS_CHANNEL | SASL_SHOWS_CERTIFICATE))
		conf_error(conf, "service", service, "mechanisms-clear",
			"EXTERNAL and -PLUS are for connections with TLS");
	if (!allows_clear && conf_is_set(conf, "service", service, "mechanisms-clear") &&
		front_auth_has(clear, SASL_HANDS_PASSWORD))
		conf_error(conf, "service", service, "mechanisms-clear",
			"PLAIN and LOGIN without TLS are for listeners with allow-clear = yes, and none has "
			"it");
	if (!asks && front_auth_has(over_tls, SASL_SHOWS_CERTIFICATE))
		conf_error(conf, "service", service, "mechanisms",
			"EXTERNAL needs a listener whose section tls has client-ca");
	if (!front_auth_has(over_tls, SASL_SHOWS_TICKET) && !front_auth_has(clear, SASL_SHOWS_TICKET))
		return;
	if (!conf_is_set(conf, "", NULL, "gssapi-keytab"))
		conf_error(conf, "", NULL, "gssapi-keytab", "GSSAPI is offered, and there is no keytab");
	if (!conf_is_set(conf, "", NULL, "gssapi-realms"))
		conf_error(conf, "", NULL, "gssapi-realms", "GSSAPI is offered, and no realm is listed");
}

void front_auth_check_listener(struct conf *conf, const char *service, const char *listener)
{
	size_t count;
	const char *const *over_tls = conf_get_list(conf, "listener", listener, "mechanisms", &count);
	const char *const *clear = conf_get_list(conf, "listener", listener, "mechanisms-clear", &count);
	const char *tls = conf_get_string(conf, "listener", listener, "certificate");
	bool has_tls = conf_get_enum(conf, "listener", listener, "tls") != 0;

	if (front_auth_has(clear, SASL_BINDS_CHANNEL | SASL_SHOWS_CERTIFICATE))
		conf_error(conf, "listener", listener, "mechanisms-clear",
			"EXTERNAL and -PLUS are for connections with TLS");
	if (!conf_get_bool(conf, "listener", listener, "allow-clear") &&
		front_auth_has(clear, SASL_HANDS_PASSWORD))
		conf_error(conf, "listener", listener, "mechanisms-clear",
			"PLAIN and LOGIN without TLS need allow-clear = yes");
	if (front_auth_has(over_tls, SASL_SHOWS_CERTIFICATE) &&
		!(has_tls && conf_has_title(conf, "tls", tls) && conf_is_set(conf, "tls", tls, "client-ca")))
		conf_error(conf, "listener", listener, "mechanisms",
			"EXTERNAL needs a section tls with client-ca");
	if ((front_auth_has(over_tls, SASL_SHOWS_TICKET) || front_auth_has(clear, SASL_SHOWS_TICKET)) &&
		!conf_is_set(conf, "", NULL, "gssapi-keytab"))
		conf_error(conf, "", NULL, "gssapi-keytab",
			"GSSAPI is offered by service %s, and there is no keytab", service);
}

static void names_read(const struct conf *conf, const char *service, const char *listener, const char *key,
	const char **names_out)
{
	size_t count, n = 0;
	bool is_own = listener && conf_is_set(conf, "listener", listener, key);
	const char *const *list = conf_get_list(
		conf, is_own ? "listener" : "service", is_own ? listener : service, key, &count);

	for (size_t i = 0; i < count && n < SASL_MECHANISM_COUNT; i++) {
		const char *name = sasl_mechanism(slice_str(list[i]));
		bool is_there = false;

		for (size_t k = 0; k < n; k++)
			is_there |= names_out[k] == name;
		if (name && !is_there)
			names_out[n++] = name;
	}
}

bool front_auth_has_own(const struct conf *conf, const char *listener)
{
	return conf_is_set(conf, "listener", listener, "mechanisms") ||
	       conf_is_set(conf, "listener", listener, "mechanisms-clear");
}

struct front_auth *front_auth_new(
	const struct conf *conf, const char *service, const char *host, struct work_pool *pool)
{
	return front_auth_new_listener(conf, service, NULL, host, pool);
}

struct front_auth *front_auth_new_listener(const struct conf *conf, const char *service, const char *listener,
	const char *host, struct work_pool *pool)
{
	struct front_auth *a = xcalloc(1, sizeof(*a));
	const char *gssapi_host = conf_get_string(conf, "", NULL, "gssapi-host");
	const char *gssapi_service = conf_get_string(conf, "service", service, "gssapi-service");
	size_t count;
	const char *const *realms = conf_get_list(conf, "", NULL, "gssapi-realms", &count);

	atomic_init(&a->refs, 1);
	names_read(conf, service, listener, "mechanisms", a->secured);
	names_read(conf, service, listener, "mechanisms-clear", a->unsecured);
	a->certificate_user = fields[conf_get_enum(conf, "", NULL, "certificate-user")];
	a->host = xstrdup(host);
	a->gssapi_host = xstrdup(*gssapi_host ? gssapi_host : host);
	a->gssapi_service = *gssapi_service ? xstrdup(gssapi_service) : NULL;
	a->keytab = xstrdup(conf_get_string(conf, "", NULL, "gssapi-keytab"));
	a->realms = xcalloc(count + 1, sizeof(*a->realms));
	for (size_t i = 0; i < count; i++)
		a->realms[i] = xstrdup(realms[i]);
	a->pool = pool;
	return a;
}

struct front_auth *front_auth_plain(void)
{
	struct front_auth *a = xcalloc(1, sizeof(*a));

	atomic_init(&a->refs, 1);
	a->secured[0] = a->unsecured[0] = "PLAIN";
	a->secured[1] = a->unsecured[1] = "LOGIN";
	a->host = xstrdup("");
	a->gssapi_host = xstrdup("");
	a->keytab = xstrdup("");
	a->realms = xcalloc(1, sizeof(*a->realms));
	return a;
}

struct front_auth *front_auth_ref(struct front_auth *auth)
{
	atomic_fetch_add_explicit(&auth->refs, 1, memory_order_relaxed);
	return auth;
}

void front_auth_unref(struct front_auth **auth)
{
	struct front_auth *a = *auth;

	*auth = NULL;
	if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (char **realm = a->realms; *realm; realm++)
		free(*realm);
	free(a->realms);
	free(a->host);
	free(a->gssapi_host);
	free(a->gssapi_service);
	free(a->keytab);
	free(a);
}

/* ---- a connection ---- */

/* The one user that the client's certificate names; a view of the connection. */
static const char *certificate_user(const struct front_auth *a, struct conn *conn)
{
	const char *name = conn_peer_certificate_field(conn, a->certificate_user, 0);

	return name && *name && !conn_peer_certificate_field(conn, a->certificate_user, 1) ? name : NULL;
}

static bool is_offered(
	const struct front_auth *a, struct conn *conn, bool is_secure, bool allows_clear, unsigned traits)
{
	if (traits & SASL_HANDS_PASSWORD && !is_secure && !allows_clear)
		return false;
	if (traits & SASL_BINDS_CHANNEL && !conn_is_tls(conn))
		return false;
	return !(traits & SASL_SHOWS_CERTIFICATE) || certificate_user(a, conn);
}

size_t front_auth_offered(const struct front_auth *a, struct conn *conn, bool allows_clear,
	const char *offered_out[SASL_MECHANISM_COUNT + 1])
{
	bool is_secure = conn_is_secure(conn);
	size_t n = 0;

	for (const char *const *m = is_secure ? a->secured : a->unsecured; *m; m++) {
		if (is_offered(a, conn, is_secure, allows_clear, sasl_traits(*m)))
			offered_out[n++] = *m;
	}
	offered_out[n] = NULL;
	return n;
}

bool front_auth_takes_tickets(const struct front_auth *a)
{
	return front_auth_has(a->secured, SASL_SHOWS_TICKET) ||
	       front_auth_has(a->unsecured, SASL_SHOWS_TICKET);
}

bool front_auth_takes_passwords(const struct front_auth *a, struct conn *conn, bool allows_clear)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];

	(void)front_auth_offered(a, conn, allows_clear, offered);
	return front_auth_has(offered, SASL_HANDS_PASSWORD);
}

int front_auth_begin(const struct front_auth *a, struct conn *conn, bool allows_clear,
	const struct sasl_options *options, struct sasl_session **session_out)
{
	const char *offered[SASL_MECHANISM_COUNT + 1];
	struct sasl_options o = *options;
	char binding[SASL_BINDING_MOST];
	size_t len;

	(void)front_auth_offered(a, conn, allows_clear, offered);
	o.allowed = offered;
	o.host = a->host;
	if (front_auth_has(offered, SASL_BINDS_CHANNEL))
		o.binding = conn_channel_binding(conn, binding, sizeof(binding), &len);
	if (o.binding)
		o.binding_data = slice_of(binding, len);
	o.external = certificate_user(a, conn);
	o.gssapi_service = a->gssapi_service;
	o.gssapi_host = a->gssapi_host;
	o.keytab = a->keytab;
	o.realms = (const char *const *)a->realms;
	o.pool = a->pool;
	o.loop = conn_loop(conn);
	return sasl_session_new(&o, session_out);
}
