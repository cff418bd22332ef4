/* Texts are copied: the configuration they come from may be gone before the last connection that began under it. */
#include "backend/delivery/outbound_settings.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/proto/address.h"

#define TLS_WORDS "none may encrypt verify dane"
#define SUBMISSIONS_PORT 465
#define ROUTE_DOMAINS_MOST 10000

const struct conf_key outbound_keys[] = {
	{"sending", "tls", CONF_ENUM, CONF_RELOAD, "may", 0, 0, TLS_WORDS,
		"TLS towards MX hosts: none; may: where it is offered, in clear where it fails; encrypt: or "
		"not at "
		"all; verify: "
		"and the certificate must be right for the host; dane: only where TLSA records vouch for it",
		NULL},
	{"sending", "dane", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Obey TLSA records (RFC 7672), where the resolver validates (dnssec-anchor)", NULL},
	{"sending", "mta-sts", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Obey MTA-STS policies of domains (RFC 8461), fetched by HTTPS", NULL},
	{"sending", "ca", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,
		"Authorities for certificates of servers, and of MTA-STS policies (PEM); not set: the "
		"system's",
		NULL},
	{"sending", "port", CONF_INT, CONF_RELOAD, "25", 1, 65535, NULL, "Port of MX hosts", NULL},
	{"sending", "prefer", CONF_ENUM, CONF_RELOAD, "both", 0, 0, "both ipv4 ipv6 ipv4-only ipv6-only",
		"Which addresses of a host come first; both: by turns, beginning with IPv6", NULL},
	{"sending", "source-addresses", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Local addresses that connections come from, by turns among those of the family; empty: the "
		"system's "
		"choice",
		NULL},
	{"sending", "connections", CONF_INT, CONF_RELOAD, "500", 1, 20000, NULL, "Connections at a time",
		NULL},
	{"sending", "connections-first", CONF_INT, CONF_RELOAD, "5", 1, 1000, NULL,
		"Connections to one next hop at a time, to begin with; grows with success, falls with "
		"failure",
		NULL},
	{"sending", "connections-most", CONF_INT, CONF_RELOAD, "20", 1, 1000, NULL,
		"Connections to one next hop at a time, at most", NULL},
	{"sending", "messages", CONF_INT, CONF_RELOAD, "100", 1, 100000, NULL,
		"Messages over one connection, at most", NULL},
	{"sending", "recipients", CONF_INT, CONF_RELOAD, "100", 1, 1000, NULL,
		"Recipients of one transaction, at most; a server may say less (LIMITS)", NULL},
	{"sending", "idle", CONF_DURATION, CONF_RELOAD, "5s", 0, 300000, NULL,
		"How long a connection waits for the next message", NULL},
	{"sending", "chunking", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Send by BDAT (RFC 3030) where it is offered: saves a round trip", NULL},
	{"sending", "eight-bit", CONF_ENUM, CONF_RELOAD, "refuse", 0, 0, "refuse send",
		"A message with 8-bit octets for a server without 8BITMIME: comes back to its sender "
		"(5.6.3), or is "
		"sent all the same",
		NULL},
	{"sending", "dns-timeout", CONF_DURATION, CONF_RELOAD, "15s", 1000, 120000, NULL,
		"For each round of questions to the DNS: MX, addresses, TLSA", NULL},
	{"sending", "connect-timeout", CONF_DURATION, CONF_RELOAD, "30s", 1000, 600000, NULL,
		"For connecting to one address; again for the TLS handshake", NULL},
	{"sending", "greeting-timeout", CONF_DURATION, CONF_RELOAD, "5m", 1000, 3600000, NULL,
		"For a server's greeting", NULL},
	{"sending", "command-timeout", CONF_DURATION, CONF_RELOAD, "5m", 1000, 3600000, NULL,
		"For the reply to each command", NULL},
	{"sending", "data-timeout", CONF_DURATION, CONF_RELOAD, "3m", 1000, 3600000, NULL,
		"For the server to take a piece of the message", NULL},
	{"sending", "end-timeout", CONF_DURATION, CONF_RELOAD, "10m", 1000, 7200000, NULL,
		"For the reply to a whole message", NULL},

	{"route", "domains", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"Of recipients: example.com; .example.com for all below it; * for all others", NULL},
	{"route", "hosts", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"Where to, in order: example.com (its MX hosts), [smtp.example.com]:587 (that host), "
		"[192.0.2.1]:25",
		NULL},
	{"route", "tls", CONF_ENUM, CONF_RELOAD, "may", 0, 0, TLS_WORDS, "As `tls` of section `sending`",
		NULL},
	{"route", "implicit-tls", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"TLS from the first octet (port 465, RFC 8314) in the place of STARTTLS", NULL},
	{"route", "user", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Name to log in with (AUTH SCRAM-SHA-256, PLAIN or LOGIN); needs `tls` verify or dane", NULL},
	{"route", "password", CONF_SECRET, CONF_RELOAD, NULL, 0, 0, NULL, "File with the password", NULL},
	{"route", "connections-first", CONF_INT, CONF_RELOAD, "5", 1, 1000, NULL, "As in section `sending`",
		NULL},
	{"route", "connections-most", CONF_INT, CONF_RELOAD, "20", 1, 1000, NULL, "As in section `sending`",
		NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

/* ---- parts of a route ---- */

/* "[host]:port", "host:port", "host". Names are made lower-case ASCII. */
static int read_host(struct slice text, struct mx_source *source_out)
{
	struct mx_source s = {0};
	struct slice name = text, port = {NULL, 0}, normal;
	struct arena arena;
	struct addr literal;
	uint32_t number = 0;
	ptrdiff_t at;
	int err = 0;

	if (text.len && text.p[0] == '[') {
		at = slice_find(text, ']');
		if (at < 0)
			return ERR_SYNTAX;
		name = slice_sub(text, 1, (size_t)at - 1);
		port = slice_from(text, (size_t)at + 1);
		if (port.len && port.p[0] != ':')
			return ERR_SYNTAX;
		s.is_host = true;
	} else if ((at = slice_find(text, ':')) >= 0) {
		name = slice_sub(text, 0, (size_t)at);
		port = slice_from(text, (size_t)at);
	}
	if (port.len && (num_parse_u32(slice_from(port, 1), &number) || !number || number > 65535))
		return ERR_SYNTAX;
	s.port = (uint16_t)number;
	if (addr_parse(name, 0, &literal) == 0 && literal.ss.ss_family != AF_UNIX) {
		s.name = slice_copy_str(name);
		*source_out = s;
		return 0;
	}
	arena_init(&arena, 4096);
	err = address_normalise_domain(&arena, name, &normal);
	if (!err) {
		s.name = slice_copy_str(normal);
		*source_out = s;
	}
	arena_deinit(&arena);
	return err;
}

/* "example.com", ".example.com", "*", brought to normal form; the caller's. NULL: none of these. */
static char *read_domain(const char *text)
{
	bool is_below = text[0] == '.';
	struct arena arena;
	struct slice normal;
	struct buf out = {0};
	char *copy = NULL;

	if (strcmp(text, "*") == 0)
		return xstrdup(text);
	arena_init(&arena, 4096);
	if (address_normalise_domain(&arena, slice_from(slice_str(text), is_below), &normal) == 0) {
		buf_printf(&out, "%s%.*s", is_below ? "." : "", SLICE_ARG(normal));
		copy = xstrdup(buf_str_view(&out));
	}
	buf_deinit(&out);
	arena_deinit(&arena);
	return copy;
}

/* ---- the check ---- */

static void check_route(struct conf *conf, const char *title)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "route", title, "hosts", &count);
	enum outbound_tls tls = (enum outbound_tls)conf_get_enum(conf, "route", title, "tls");
	bool has_user = *conf_get_string(conf, "route", title, "user");
	bool has_password = conf_get_secret(conf, "route", title, "password").len > 0;
	bool is_loopback = count > 0;

	if (count == 0 || count > MX_SOURCES_MOST)
		conf_error(conf, "route", title, "hosts", "1 to %d hosts", MX_SOURCES_MOST);
	for (size_t i = 0; i < count; i++) {
		struct mx_source source;
		struct addr literal;

		if (read_host(slice_str(list[i]), &source)) {
			conf_error(conf, "route", title, "hosts", "%s is neither a domain nor [host]:port",
				list[i]);
			continue;
		}
		is_loopback &=
			addr_parse(slice_str(source.name), 25, &literal) == 0 && addr_is_loopback(&literal);
		free((char *)(uintptr_t)source.name);
	}
	list = conf_get_list(conf, "route", title, "domains", &count);
	for (size_t i = 0; i < count; i++) {
		char *domain = read_domain(list[i]);

		if (!domain)
			conf_error(conf, "route", title, "domains", "%s is no domain", list[i]);
		free(domain);
	}
	if (has_user != has_password)
		conf_error(conf, "route", title, has_user ? "password" : "user",
			"user and password go together");
	if (has_user && tls < OUTBOUND_TLS_VERIFY && !is_loopback)
		conf_error(conf, "route", title, "tls",
			"must be verify or dane: the password would go to a server that nobody has verified");
	if (conf_get_bool(conf, "route", title, "implicit-tls") &&
		(tls == OUTBOUND_TLS_NONE || tls == OUTBOUND_TLS_MAY || tls == OUTBOUND_TLS_DANE))
		conf_error(conf, "route", title, "implicit-tls", "needs tls encrypt or verify");
}

void outbound_check(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "route", &count);
	const char *const *list;

	for (size_t i = 0; i < count; i++)
		check_route(conf, titles[i]);
	list = conf_get_list(conf, "sending", NULL, "source-addresses", &count);
	if (count > DIAL_SOURCES_MOST)
		conf_error(conf, "sending", NULL, "source-addresses", "at most %d", DIAL_SOURCES_MOST);
	for (size_t i = 0; i < count; i++) {
		struct addr addr;

		if (addr_parse(slice_str(list[i]), 0, &addr) || addr.ss.ss_family == AF_UNIX)
			conf_error(conf, "sending", NULL, "source-addresses", "%s is no address", list[i]);
	}
}

/* ---- the snapshot ---- */

static void read_route(const struct conf *conf, const char *title, struct outbound_route *r)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "route", title, "hosts", &count);

	r->name = xstrdup(title);
	r->tls = (enum outbound_tls)conf_get_enum(conf, "route", title, "tls");
	r->is_implicit = conf_get_bool(conf, "route", title, "implicit-tls");
	r->sources = xcalloc(count + 1, sizeof(*r->sources));
	for (size_t i = 0; i < count; i++)
		r->source_count += read_host(slice_str(list[i]), &r->sources[r->source_count]) == 0;
	for (size_t i = 0; i < r->source_count; i++)
		if (!r->sources[i].port && r->is_implicit)
			r->sources[i].port = SUBMISSIONS_PORT;
	r->user = slice_str(xstrdup(conf_get_string(conf, "route", title, "user")));
	secret_set(&r->password, conf_get_secret(conf, "route", title, "password"));
	r->window_first = (unsigned)conf_get_int(conf, "route", title, "connections-first");
	r->window_most = (unsigned)conf_get_int(conf, "route", title, "connections-most");
}

static void add_domains(const struct conf *conf, struct outbound_settings *s, struct outbound_route *r)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "route", r->name, "domains", &count);

	if (count > ROUTE_DOMAINS_MOST)
		count = ROUTE_DOMAINS_MOST;
	s->domain_names =
		xreallocarray(s->domain_names, s->domain_count + count + 1, sizeof(*s->domain_names));
	for (size_t i = 0; i < count; i++) {
		char *domain = read_domain(list[i]);

		if (!domain)
			continue;
		s->domain_names[s->domain_count++] = domain;
		if (!table_get(s->domains, slice_str(domain))) /* the first that names it */
			(void)table_put(s->domains, slice_str(domain), r);
	}
}

static void read_routes(const struct conf *conf, struct outbound_settings *s)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "route", &count);
	struct outbound_route *first;

	s->domains = table_new();
	s->routes = xcalloc(count + 1, sizeof(*s->routes));
	s->route_count = count + 1;
	first = &s->routes[0];
	first->name = xstrdup("");
	first->user = slice_str(xstrdup(""));
	first->tls = (enum outbound_tls)conf_get_enum(conf, "sending", NULL, "tls");
	first->window_first = (unsigned)conf_get_int(conf, "sending", NULL, "connections-first");
	first->window_most = (unsigned)conf_get_int(conf, "sending", NULL, "connections-most");
	for (size_t i = 0; i < count; i++) {
		read_route(conf, titles[i], &s->routes[i + 1]);
		add_domains(conf, s, &s->routes[i + 1]);
	}
}

static void read_values(const struct conf *conf, struct outbound_settings *s)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "sending", NULL, "source-addresses", &count);

	s->times = (struct smtp_client_times){conf_get_duration(conf, "sending", NULL, "connect-timeout"),
		conf_get_duration(conf, "sending", NULL, "greeting-timeout"),
		conf_get_duration(conf, "sending", NULL, "command-timeout"),
		conf_get_duration(conf, "sending", NULL, "data-timeout"),
		conf_get_duration(conf, "sending", NULL, "end-timeout")};
	s->dns_ms = conf_get_duration(conf, "sending", NULL, "dns-timeout");
	s->idle_ms = conf_get_duration(conf, "sending", NULL, "idle");
	s->connections_most = (unsigned)conf_get_int(conf, "sending", NULL, "connections");
	s->messages_most = (unsigned)conf_get_int(conf, "sending", NULL, "messages");
	s->recipients_most = (unsigned)conf_get_int(conf, "sending", NULL, "recipients");
	s->port = (uint16_t)conf_get_int(conf, "sending", NULL, "port");
	s->prefer = (enum mx_prefer)conf_get_enum(conf, "sending", NULL, "prefer");
	s->uses_dane = conf_get_bool(conf, "sending", NULL, "dane");
	s->uses_sts = conf_get_bool(conf, "sending", NULL, "mta-sts");
	s->uses_chunking = conf_get_bool(conf, "sending", NULL, "chunking");
	s->sends_8bit = conf_get_enum(conf, "sending", NULL, "eight-bit") == 1;
	for (size_t i = 0; i < count && s->source_count < DIAL_SOURCES_MOST; i++)
		s->source_count += addr_parse(slice_str(list[i]), 0, &s->sources[s->source_count]) == 0;
}

static int make_contexts(const struct conf *conf, struct outbound_settings *s, struct buf *why)
{
	const char *ca = conf_get_string(conf, "sending", NULL, "ca");
	struct tls_client_options verified = {.ca = *ca ? ca : NULL, .verify = true};
	struct tls_client_options lenient = {.ca = verified.ca, .is_lenient = true};
	struct tls_client_options dane = {.uses_dane = true};
	int err = tls_client_new(&verified, why, &s->verified);

	if (!err)
		err = tls_client_new(&lenient, why, &s->lenient);
	return err ? err : tls_client_new(&dane, why, &s->dane);
}

int outbound_settings_new(const struct conf *conf, const char *host_name, struct buf *why,
	struct outbound_settings **settings_out)
{
	struct outbound_settings *s = xcalloc(1, sizeof(*s));
	int err;

	atomic_store(&s->refs, 1);
	s->host_name = xstrdup(*host_name ? host_name : "localhost");
	read_values(conf, s);
	read_routes(conf, s);
	err = make_contexts(conf, s, why);
	if (err)
		outbound_settings_unref(&s);
	else
		*settings_out = s;
	return err;
}

struct outbound_settings *outbound_settings_ref(struct outbound_settings *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

static void free_route(struct outbound_route *r)
{
	for (size_t i = 0; i < r->source_count; i++)
		free((char *)(uintptr_t)r->sources[i].name);
	free(r->sources);
	free((char *)(uintptr_t)r->user.p);
	free((char *)(uintptr_t)r->name);
	secret_deinit(&r->password);
}

void outbound_settings_unref(struct outbound_settings **settings)
{
	struct outbound_settings *s = *settings;

	*settings = NULL;
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->route_count; i++)
		free_route(&s->routes[i]);
	for (size_t i = 0; i < s->domain_count; i++)
		free(s->domain_names[i]);
	table_free(&s->domains);
	free(s->domain_names);
	free(s->routes);
	tls_unref(&s->lenient);
	tls_unref(&s->verified);
	tls_unref(&s->dane);
	free(s->host_name);
	free(s);
}

const struct outbound_route *outbound_settings_route(const struct outbound_settings *s, struct slice domain)
{
	const struct outbound_route *r = table_get(s->domains, domain);

	for (size_t i = 0; !r && i < domain.len; i++)
		if (domain.p[i] == '.')
			r = table_get(s->domains, slice_from(domain, i));
	if (!r)
		r = table_get(s->domains, SLICE_LIT("*"));
	return r ? r : &s->routes[0];
}

const struct outbound_route *outbound_settings_find(const struct outbound_settings *s, struct slice name)
{
	for (size_t i = 0; i < s->route_count; i++)
		if (slice_is_str(name, s->routes[i].name))
			return &s->routes[i];
	return NULL;
}
