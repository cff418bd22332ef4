/* Services, names and what a tier may ask of a front; the dialogue itself is dialogue.c. */
#include "common/front/front.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/front/counters.h"
#include "common/front/dialogue.h"
#include "common/front/front_auth.h"

static const struct front_limits limits_default = {
	.tls_ms = 30 * 1000,
	.command_ms = 60 * 1000,
	.dialogue_ms = 180 * 1000,
	.login_ms = 60 * 1000,
	.failed_delay_ms = 2 * 1000,
	.failed_logins = 3,
	.wrong_commands = 10,
};

static const char *const result_names[FRONT_RESULTS] = {
	[FRONT_OK] = "ok",
	[FRONT_WRONG] = "wrong-credential",
	[FRONT_NOT_NOW] = "not-now",
	[FRONT_NO_ACCOUNT] = "no-account",
	[FRONT_NOT_PERMITTED] = "not-permitted",
	[FRONT_IN_USE] = "in-use",
	[FRONT_LIMIT] = "limit",
	[FRONT_UNSERVED] = "unserved-mechanism",
};

const char *front_result_name(enum front_result result)
{
	return result_names[result];
}

/* The metrics live as long as the program; asking again for the same name gives the same ones. */
static struct front_counters *counters_new(const char *name)
{
	struct front_counters *c = xcalloc(1, sizeof(*c));
	struct buf labels = {0};

	buf_add_str(&labels, "service=\"");
	metrics_escape_label(&labels, slice_str(name));
	buf_add_str(&labels, "\"");
	c->connections = metrics_counter("mailtier_front_connections", buf_str_view(&labels),
		"Connections of clients that were accepted");
	c->open = metrics_gauge("mailtier_front_before_login", buf_str_view(&labels),
		"Connections of clients that have not logged in");
	c->tls_failed = metrics_counter("mailtier_front_tls_failures", buf_str_view(&labels),
		"TLS handshakes with clients that failed");
	for (unsigned i = 0; i < FRONT_RESULTS; i++) {
		buf_clear(&labels);
		buf_add_str(&labels, "service=\"");
		metrics_escape_label(&labels, slice_str(name));
		buf_printf(&labels, "\",result=\"%s\"", result_names[i]);
		c->logins[i] = metrics_counter(
			"mailtier_front_logins", buf_str_view(&labels), "Logins by how they were answered");
	}
	buf_deinit(&labels);
	return c;
}

void front_limits_read(const struct conf *conf, struct front_limits *limits_out)
{
	*limits_out = (struct front_limits){
		.tls_ms = conf_get_duration(conf, "limits", NULL, "tls-timeout"),
		.command_ms = conf_get_duration(conf, "limits", NULL, "command-timeout"),
		.dialogue_ms = conf_get_duration(conf, "limits", NULL, "dialogue-timeout"),
		.login_ms = conf_get_duration(conf, "limits", NULL, "login-timeout"),
		.failed_delay_ms = conf_get_duration(conf, "limits", NULL, "failed-login-delay"),
		.failed_logins = (unsigned)conf_get_int(conf, "limits", NULL, "failed-logins"),
		.wrong_commands = (unsigned)conf_get_int(conf, "limits", NULL, "wrong-commands"),
	};
}

void front_service_init(
	struct front_service *service, const char *name, const struct front_ops *ops, void *tier)
{
	memset(service, 0, sizeof(*service));
	service->ops = ops;
	service->tier = tier;
	service->name = name;
	service->host = "";
	service->capabilities = "";
	service->domain = "";
	service->auth = front_auth_plain();
	service->limits = limits_default;
	service->counters = counters_new(name);
	atomic_store(&service->refs, 1);
}

struct front_service *front_service_ref(struct front_service *service)
{
	atomic_fetch_add_explicit(&service->refs, 1, memory_order_relaxed);
	return service;
}

void front_service_unref(struct front_service **service)
{
	struct front_service *s = *service;

	*service = NULL;
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(s->counters);
	s->counters = NULL;
	front_auth_unref(&s->auth);
	if (s->free)
		s->free(s);
}

struct front_service *front_service(const struct front *front)
{
	return front->service;
}

struct conn *front_conn(const struct front *front)
{
	return front->conn;
}

const char *front_session(const struct front *front)
{
	return front->session;
}

const struct addr *front_client(const struct front *front)
{
	return &front->client;
}

const struct addr *front_local(const struct front *front)
{
	return &front->local;
}

bool front_is_proxied(const struct front *front)
{
	return front->is_proxied;
}

bool front_is_secure(const struct front *front)
{
	return front->is_proxied ? front->is_secure : conn_is_secure(front->conn);
}

bool front_is_utf8(const struct front *front)
{
	return front->is_utf8;
}

void front_set_login(struct front *front, void *login)
{
	front->login = login;
}

void *front_login(const struct front *front)
{
	return front->login;
}
