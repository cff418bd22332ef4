/* The inside of a TLS context, for conn_tls.c. */
#pragma once

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "common/net/tls.h"

struct tls_cache;

struct tls {
	atomic_uint refs;
	SSL_CTX *ctx;
	bool is_client;
	bool verify;
	unsigned char *alpn; /* wire format: length, name, … */
	unsigned alpn_len;
	struct tls_cache *cache; /* clients: sessions to resume; the context's */
};

/* Empties OpenSSL's error queue of this thread and gives a fixed text for its last entry. */
const char *tls_take_error(void);
