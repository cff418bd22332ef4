/*
 * Sessions that servers gave to us as clients, so that the next handshake with the same one is a resumed one: half the messages, no
 * certificate, no signature. One cache belongs to one client context, whose verification each session has passed; a
 * session is found again under the same server name and peer address alone, and for TLS_CACHE_AGE_S at most, so that a certificate that
 * has run out is noticed. Bounded; any thread.
 */
#pragma once

#include <openssl/ssl.h>

#include "common/base/slice.h"

#define TLS_CACHE_MOST 1024
#define TLS_CACHE_AGE_S 600
#define TLS_CACHE_KEY_MOST 384

struct tls_cache;
/* Sessions that the context's connections are given go there. It lives as long as the context, and goes with it. */
struct tls_cache *tls_cache_new(SSL_CTX *ctx);
/* Offers a session of this server if there is one. Before the handshake. key: server name and address. */
void tls_cache_offer(struct tls_cache *cache, SSL *ssl, struct slice key);
