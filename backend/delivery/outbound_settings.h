/*
 * What the configuration says of sending, as a constant and counted snapshot: the sections "sending" and "route". A reload makes a new
 * one; what began under the old one ends under it. Any thread.
 */
#pragma once

#include <stdatomic.h>

#include "backend/delivery/mx_lookup.h"
#include "backend/delivery/outbound.h"
#include "backend/delivery/smtp_client.h"
#include "common/base/secret.h"
#include "common/base/table.h"
#include "common/net/dial.h"

/* In the order of the key's words. */
enum outbound_tls {
	OUTBOUND_TLS_NONE,
	OUTBOUND_TLS_MAY,
	OUTBOUND_TLS_ENCRYPT,
	OUTBOUND_TLS_VERIFY,
	OUTBOUND_TLS_DANE
};

struct outbound_route {
	const char *name; /* "" the one for all other domains: their MX hosts */
	enum outbound_tls tls;
	bool is_implicit;          /* TLS from the first octet */
	struct mx_source *sources; /* names are owned; count 0: the domain itself */
	size_t source_count;
	struct slice user; /* view of an owned text; empty: no AUTH */
	struct secret password;
	unsigned window_first, window_most; /* connections to one next hop */
};

struct outbound_settings {
	_Atomic unsigned refs;
	char *host_name;
	struct outbound_route *routes; /* [0]: the one for all others */
	size_t route_count;
	struct table *domains; /* "example.com", ".example.com", "*" to struct outbound_route */
	char **domain_names;   /* the table's keys */
	size_t domain_count;
	struct smtp_client_times times;
	uint64_t idle_ms, dns_ms;
	unsigned connections_most, messages_most, recipients_most;
	uint16_t port;
	enum mx_prefer prefer;
	struct addr sources[DIAL_SOURCES_MOST];
	unsigned source_count;
	bool uses_dane, uses_sts, uses_chunking, sends_8bit;
	struct tls *lenient, *verified, *dane; /* contexts */
};

/* ERR_CONFIG with reasons in why. */
MUST_CHECK int outbound_settings_new(const struct conf *conf, const char *host_name, struct buf *why,
	struct outbound_settings **settings_out);
struct outbound_settings *outbound_settings_ref(struct outbound_settings *s);
void outbound_settings_unref(struct outbound_settings **s);
/* The route of a domain in normal form; never NULL. */
const struct outbound_route *outbound_settings_route(const struct outbound_settings *s, struct slice domain);
/* NULL: there is none of that name (any more). "" is the one for all others. */
const struct outbound_route *outbound_settings_find(const struct outbound_settings *s, struct slice name);
