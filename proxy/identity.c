/* Two addresses of one header are of one family: an IPv4 address beside an IPv6 one is written as ::ffff:a.b.c.d. */
#include "proxy/identity.h"

#include <netinet/in.h>
#include <string.h>

#include "common/proto/proxy_protocol.h"

static bool is_ip(const struct addr *a)
{
	return a->len && (a->ss.ss_family == AF_INET || a->ss.ss_family == AF_INET6);
}

static void put_address(const struct addr *a, bool as_v6, uint8_t out[16])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->ss;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->ss;

	if (a->ss.ss_family == AF_INET6) {
		memcpy(out, &v6->sin6_addr, 16);
	} else if (as_v6) {
		out[10] = out[11] = 0xff;
		memcpy(out + 12, &v4->sin_addr, 4);
	} else {
		memcpy(out, &v4->sin_addr, 4);
	}
}

static void put_addresses(const struct identity_client *client, struct proxy_protocol *h)
{
	bool as_v6;

	if (!is_ip(client->client) || !is_ip(client->local))
		return;
	as_v6 = client->client->ss.ss_family == AF_INET6 || client->local->ss.ss_family == AF_INET6;
	h->family = as_v6 ? PROXY_PROTOCOL_TCP6 : PROXY_PROTOCOL_TCP4;
	put_address(client->client, as_v6, h->source);
	put_address(client->local, as_v6, h->destination);
	h->source_port = addr_port(client->client);
	h->destination_port = addr_port(client->local);
}

/* "TLSv1.3 TLS_AES_128_GCM_SHA256" */
static void put_tls(const struct identity_client *client, struct proxy_protocol *h)
{
	struct slice text = slice_str(client->tls ? client->tls : "");
	ptrdiff_t blank = slice_find(text, ' ');

	if (!client->is_secure)
		return;
	h->has_ssl = true;
	h->ssl_client = PROXY_PROTOCOL_CLIENT_SSL;
	if (blank > 0) {
		h->ssl_version = slice_sub(text, 0, (size_t)blank);
		h->ssl_cipher = slice_from(text, (size_t)blank + 1);
	}
}

void identity_write(struct buf *out, const struct identity_client *client)
{
	struct proxy_protocol h = {.version = 2, .is_local = client == NULL};

	if (client) {
		put_addresses(client, &h);
		put_tls(client, &h);
		h.unique_id = slice_str(client->session);
	}
	proxy_protocol_write(out, &h);
}
