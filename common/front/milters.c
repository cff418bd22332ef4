#include "common/front/milters.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/num.h"

#define TITLES "smtp submission"

const struct conf_key milters_keys[] = {
	{"milter", "address", CONF_STRING, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"Where it listens: HOST:PORT, or /PATH of a unix socket", NULL},
	{"milter", "failure", CONF_ENUM, CONF_RELOAD, "tempfail", 0, 0, "accept tempfail reject",
		"When it cannot be reached, is too slow or speaks nonsense: accept, the session goes on "
		"without it; tempfail, "
		"451; reject, 554",
		NULL},
	{"milter", "connect-timeout", CONF_DURATION, CONF_RELOAD, "10s", 100, 600000, NULL,
		"To reach it and agree with it", NULL},
	{"milter", "command-timeout", CONF_DURATION, CONF_RELOAD, "30s", 100, 600000, NULL,
		"For each of its answers", NULL},
	{"milter", "end-timeout", CONF_DURATION, CONF_RELOAD, "5m", 100, 3600000, NULL,
		"For its answer to the end of a message", NULL},
	{"service", "milters", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Titles of sections `milter`: filters that see every session and message of this service, in "
		"this order",
		TITLES},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

struct one {
	char *title, *host;
	struct milter_settings settings;
};

struct chosen {
	char *service;
	size_t count;
	const struct milter_settings *settings[MILTERS_MOST];
};

struct milters {
	_Atomic unsigned refs;
	struct one *ones;
	size_t count;
	struct chosen *chosen; /* one for each service of TITLES */
	size_t services;
};

/* Parts HOST:PORT, [V6]:PORT or /PATH. ERR_SYNTAX. */
static int parse_address(struct slice text, struct slice *host_out, uint16_t *port_out)
{
	ptrdiff_t colon = slice_find_last(text, ':');
	struct slice host;
	uint32_t port;

	*port_out = 0;
	*host_out = text;
	if (text.len && text.p[0] == '/')
		return 0;
	if (colon <= 0 || num_parse_u32(slice_from(text, (size_t)colon + 1), &port) != 0 || port == 0 ||
		port > 65535)
		return ERR_SYNTAX;
	host = slice_sub(text, 0, (size_t)colon);
	if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
		host = slice_sub(host, 1, host.len - 2);
	else if (slice_find(host, ':') >= 0)
		return ERR_SYNTAX;
	*host_out = host;
	*port_out = (uint16_t)port;
	return 0;
}

void milters_check(struct conf *conf)
{
	static const char *const services[] = {"smtp", "submission"};
	size_t count;
	const char *const *titles = conf_titles(conf, "milter", &count);

	for (size_t i = 0; i < count; i++) {
		struct slice host;
		uint16_t port;

		if (parse_address(slice_str(conf_get_string(conf, "milter", titles[i], "address")), &host,
			    &port) != 0)
			conf_error(conf, "milter", titles[i], "address", "neither HOST:PORT nor a path");
	}
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		const char *const *names;

		if (!conf_has_title(conf, "service", services[i]))
			continue;
		names = conf_get_list(conf, "service", services[i], "milters", &count);
		if (count > MILTERS_MOST)
			conf_error(conf, "service", services[i], "milters", "more than %d", MILTERS_MOST);
		for (size_t k = 0; k < count; k++)
			if (!conf_has_title(conf, "milter", names[k]))
				conf_error(conf, "service", services[i], "milters",
					"there is no section milter %s", names[k]);
	}
}

static void read_one(const struct conf *conf, const char *title, struct one *o)
{
	struct buf labels = {0};
	struct slice host;

	o->title = xstrdup(title);
	require(parse_address(slice_str(conf_get_string(conf, "milter", title, "address")), &host,
			&o->settings.port) == 0);
	o->host = slice_copy_str(host);
	o->settings.name = o->title;
	o->settings.host = o->host;
	o->settings.failure = (enum milter_failure)conf_get_enum(conf, "milter", title, "failure");
	o->settings.connect_ms = conf_get_duration(conf, "milter", title, "connect-timeout");
	o->settings.command_ms = conf_get_duration(conf, "milter", title, "command-timeout");
	o->settings.end_ms = conf_get_duration(conf, "milter", title, "end-timeout");
	for (size_t i = 0; i < ARRAY_LEN(o->settings.answers); i++) {
		buf_clear(&labels);
		buf_add_str(&labels, "milter=\"");
		metrics_escape_label(&labels, slice_str(title));
		buf_printf(&labels, "\",result=\"%s\"", i ? "failed" : "answered");
		o->settings.answers[i] = metrics_counter("mailtier_milter_answers", buf_str_view(&labels),
			"Decisions of filters, and filters that broke");
	}
	buf_deinit(&labels);
}

static void read_chosen(const struct conf *conf, struct milters *m, const char *service)
{
	struct chosen *c = &m->chosen[m->services++];
	size_t count;
	const char *const *names = conf_get_list(conf, "service", service, "milters", &count);

	c->service = xstrdup(service);
	for (size_t i = 0; i < count && c->count < MILTERS_MOST; i++) {
		c->settings[c->count] = milters_find(m, names[i]);
		if (c->settings[c->count])
			c->count++;
	}
}

struct milters *milters_new(const struct conf *conf)
{
	static const char *const services[] = {"smtp", "submission"};
	struct milters *m = xcalloc(1, sizeof(*m));
	const char *const *titles = conf_titles(conf, "milter", &m->count);

	atomic_store(&m->refs, 1);
	m->ones = xcalloc(m->count + 1, sizeof(*m->ones));
	for (size_t i = 0; i < m->count; i++)
		read_one(conf, titles[i], &m->ones[i]);
	m->chosen = xcalloc(ARRAY_LEN(services), sizeof(*m->chosen));
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (conf_has_title(conf, "service", services[i]))
			read_chosen(conf, m, services[i]);
	return m;
}

struct milters *milters_ref(struct milters *milters)
{
	atomic_fetch_add(&milters->refs, 1);
	return milters;
}

void milters_unref(struct milters **milters)
{
	struct milters *m = *milters;

	*milters = NULL;
	if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	for (size_t i = 0; i < m->count; i++) {
		free(m->ones[i].title);
		free(m->ones[i].host);
	}
	for (size_t i = 0; i < m->services; i++)
		free(m->chosen[i].service);
	free(m->ones);
	free(m->chosen);
	free(m);
}

const struct milter_settings *milters_find(const struct milters *milters, const char *title)
{
	for (size_t i = 0; i < milters->count; i++)
		if (strcmp(milters->ones[i].title, title) == 0)
			return &milters->ones[i].settings;
	return NULL;
}

size_t milters_of(const struct milters *milters, const char *service,
	const struct milter_settings *settings_out[MILTERS_MOST])
{
	for (size_t i = 0; i < milters->services; i++) {
		const struct chosen *c = &milters->chosen[i];

		if (strcmp(c->service, service) != 0)
			continue;
		memcpy(settings_out, c->settings, sizeof(c->settings));
		return c->count;
	}
	return 0;
}
