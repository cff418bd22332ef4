/* The inside of a TLS context, for conn_tls.c. */
#pragma once

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/net/tls.h"

struct tls_cache;

/* A host name in lower case, perhaps with `*` as its first label, and the place of its certificate. */
struct tls_name {
	char *name;
	size_t place;
};

struct tls {
	atomic_uint refs;
	SSL_CTX *ctx;   /* the first of ctxs */
	SSL_CTX **ctxs; /* one for each certificate */
	size_t ctx_count;
	struct tls_name *names; /* sorted; servers */
	size_t name_count;
	bool is_strict; /* names that no certificate has are refused */
	bool is_client;
	bool verify;
	bool is_lenient, uses_dane;
	unsigned char *alpn; /* wire format: length, name, … */
	unsigned alpn_len;
	struct tls_cache *cache; /* clients: sessions to resume; the context's */
};

struct stat;
/* Only its owner may read it, or root's group if it is root's. */
bool tls_is_private_file(const struct stat *st);

/* tls_names.c: enters the names of the certificate of ctxs[place] (names NULL or empty: those that it has itself). ERR_TOO_BIG beyond
 * TLS_NAMES_MOST. */
MUST_CHECK int tls_names_add(struct tls *tls, size_t place, const char *const *names);
/* After the last certificate. */
void tls_names_done(struct tls *tls);
void tls_names_free(struct tls *tls);
/* tls_tickets.c: tickets of this context use the loop's keys. */
void tls_tickets_attach(SSL_CTX *ctx);

/* Empties OpenSSL's error queue of this thread and gives a fixed text for its last entry. */
const char *tls_take_error(void);
