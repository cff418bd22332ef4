/*
 * Contexts of OpenSSL. TLS 1.2 at least, forward secrecy only, AES-128-GCM first since it is the cheapest a
 * byte; buffers of idle connections are released (13.6 KiB a connection instead of 34), one session ticket
 * instead of two.
 */
#include "common/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"
#include "common/net/tls_cache.h"
#include "common/net/tls_private.h"

#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SERVER_CIPHERS_12                                                                                    \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"           \
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* Foreign back-ends may be older than clients are. */
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!MD5:!DSS"
#define GROUPS "X25519:P-256:P-384"

const char *tls_take_error(void)
{
	unsigned long first = ERR_peek_error(), code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	if (ERR_GET_LIB(first) == ERR_LIB_PEM && ERR_GET_REASON(first) == PEM_R_NO_START_LINE)
		text = "nothing in PEM format stands there";
	else if (ERR_GET_LIB(code) == ERR_LIB_X509 && ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH)
		text = "it is not the key of the certificate";
	ERR_clear_error();
	return text ? text : "TLS error";
}

static int no_passphrase(char *out, int size, int is_writing, void *arg)
{
	(void)out;
	(void)size;
	(void)is_writing;
	(void)arg;
	return 0;
}

static int refuse(struct buf *why, const char *path, const char *reason)
{
	buf_printf(why, "%s: %s", path, reason);
	return ERR_CONFIG;
}

bool tls_is_private_file(const struct stat *st)
{
	if ((st->st_mode & 077) == 0)
		return true;
	return st->st_uid == 0 && (st->st_mode & 037) == 0;
}

/* Opens, looks at the mode of what was opened, and reads: the file cannot change in between. */
static int load_key(SSL_CTX *ctx, const char *path, struct buf *why)
{
	FILE *f = fopen(path, "re");
	EVP_PKEY *key;
	struct stat st;
	int ok;

	if (!f)
		return refuse(why, path, strerror(errno));
	if (fstat(fileno(f), &st) != 0 || !tls_is_private_file(&st)) {
		fclose(f);
		return refuse(why, path, "others may read the private key: mode 0600 is asked for");
	}
	key = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
	fclose(f);
	if (!key)
		return refuse(why, path, tls_take_error());
	ok = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
	EVP_PKEY_free(key);
	return ok ? 0 : refuse(why, path, tls_take_error());
}

static int load_certificate(SSL_CTX *ctx, const char *certificate, const char *key, struct buf *why)
{
	if (!certificate || !key) {
		buf_add_str(why, "a certificate and its key are needed");
		return ERR_CONFIG;
	}
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
		return refuse(why, certificate, tls_take_error());
	return load_key(ctx, key, why);
}

static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	require(ctx);
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	require(SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) == 1);
	require(SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1);
	require(SSL_CTX_set1_groups_list(ctx, GROUPS) == 1);
	return ctx;
}

static struct tls *tls_new(const SSL_METHOD *method, bool is_client, size_t ctx_count)
{
	struct tls *tls = xcalloc(1, sizeof(*tls));

	tls->refs = 1;
	tls->is_client = is_client;
	tls->ctxs = xcalloc(ctx_count, sizeof(*tls->ctxs));
	tls->ctx_count = ctx_count;
	for (size_t i = 0; i < ctx_count; i++)
		tls->ctxs[i] = ctx_new(method);
	tls->ctx = tls->ctxs[0];
	return tls;
}

/* RFC 7301: a client that names protocols of which none is ours is refused, since it means another service
 * (ALPACA). */
static int choose_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len,
	const unsigned char *offered, unsigned offered_len, void *arg)
{
	const struct conn *c = BIO_get_data(SSL_get_rbio(ssl));
	const struct tls *tls = c->tls;
	unsigned char *at;

	(void)arg;
	if (SSL_select_next_proto(&at, chosen_len, tls->alpn, tls->alpn_len, offered, offered_len) !=
		OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*chosen = at;
	return SSL_TLSEXT_ERR_OK;
}

static void set_alpn(struct tls *tls, const char *const *names)
{
	struct buf wire = {0};

	for (; *names; names++) {
		size_t len = strlen(*names);

		require(len > 0 && len < 256);
		buf_add_char(&wire, (char)len);
		buf_add_str(&wire, *names);
	}
	tls->alpn_len = (unsigned)buf_len(&wire);
	tls->alpn = (unsigned char *)wire.data;
	for (size_t i = 0; i < tls->ctx_count; i++)
		SSL_CTX_set_alpn_select_cb(tls->ctxs[i], choose_alpn, NULL);
}

static int set_client_ca(SSL_CTX *ctx, const struct tls_server_options *options, struct buf *why)
{
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->client_ca);

	if (!names || SSL_CTX_load_verify_file(ctx, options->client_ca) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return refuse(why, options->client_ca, tls_take_error());
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx,
		SSL_VERIFY_PEER | (options->client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return 0;
}

static void digest_certificate(EVP_MD_CTX *digest, const X509 *certificate)
{
	unsigned char one[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	require(X509_digest(certificate, EVP_sha256(), one, &len) == 1);
	require(EVP_DigestUpdate(digest, one, len) == 1);
}

static void digest_authorities(EVP_MD_CTX *digest, SSL_CTX *ctx)
{
	const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));

	for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
		const X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));

		if (certificate)
			digest_certificate(digest, certificate);
	}
}

/*
 * What a ticket is good for: service, certificate, asking for certificates of clients, and whose. The same on every proxy that is
 * configured alike. 32 octets at most, so it is a digest.
 */
static void set_session_context(SSL_CTX *ctx, const struct tls_server_options *options)
{
	const char *service = options->session_context ? options->session_context : "mailtier";
	char policy = options->client_ca ? (options->client_required ? 'r' : 'a') : 'n';
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	require(digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1);
	require(EVP_DigestUpdate(digest, service, strlen(service) + 1) == 1);
	digest_certificate(digest, SSL_CTX_get0_certificate(ctx));
	require(EVP_DigestUpdate(digest, &policy, 1) == 1);
	if (options->client_ca)
		digest_authorities(digest, ctx);
	require(EVP_DigestFinal_ex(digest, id, &len) == 1);
	require(SSL_CTX_set_session_id_context(ctx, id, len) == 1);
	EVP_MD_CTX_free(digest);
}

static int set_up_server(struct tls *tls, size_t place, const struct tls_certificate *c,
	const struct tls_server_options *options, struct buf *why)
{
	SSL_CTX *ctx = tls->ctxs[place];
	int rc = load_certificate(ctx, c->certificate, c->key, why);

	require(SSL_CTX_set_cipher_list(ctx, SERVER_CIPHERS_12) == 1);
	if (options->is_13_only)
		SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_timeout(ctx, TLS_TICKET_LIFETIME_S);
	tls_tickets_attach(ctx);
	if (rc == 0 && options->client_ca)
		rc = set_client_ca(ctx, options, why);
	if (rc)
		return rc;
	set_session_context(ctx, options);
	rc = tls_names_add(tls, place, c->names);
	return rc ? refuse(why, c->certificate, "too many names of certificates") : 0;
}

int tls_server_new(const struct tls_server_options *options, struct buf *why, struct tls **tls_out)
{
	const struct tls_certificate first = {options->certificate, options->key, options->names};
	struct tls *tls;
	int rc = 0;

	if (options->client_required && !options->client_ca) {
		buf_add_str(why, "client certificates are required, but no authority for them is given");
		return ERR_CONFIG;
	}
	if (options->more_count >= TLS_CERTIFICATES_MOST) {
		buf_printf(why, "more than %d certificates", TLS_CERTIFICATES_MOST);
		return ERR_CONFIG;
	}
	tls = tls_new(TLS_server_method(), false, 1 + options->more_count);
	tls->is_strict = options->is_strict;
	for (size_t i = 0; rc == 0 && i < tls->ctx_count; i++)
		rc = set_up_server(tls, i, i ? &options->more[i - 1] : &first, options, why);
	if (rc) {
		tls_unref(&tls);
		return rc;
	}
	tls_names_done(tls);
	if (options->alpn && options->alpn[0])
		set_alpn(tls, options->alpn);
	*tls_out = tls;
	return 0;
}

int tls_client_new(const struct tls_client_options *options, struct buf *why, struct tls **tls_out)
{
	struct tls *tls = tls_new(TLS_client_method(), true, 1);
	int rc = 0;

	tls->verify = options->verify;
	tls->is_lenient = options->is_lenient;
	tls->uses_dane = options->uses_dane;
	if (options->uses_dane) {
		require(SSL_CTX_dane_enable(tls->ctx) == 1);
		SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	} else { /* what a session of DANE was verified with may be gone from the DNS: none is resumed */
		tls->cache = tls_cache_new(tls->ctx);
	}
	if (options->verify || options->is_lenient) {
		if (options->verify)
			SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
		if (options->ca && SSL_CTX_load_verify_file(tls->ctx, options->ca) != 1)
			rc = refuse(why, options->ca, tls_take_error());
		else if (!options->ca && SSL_CTX_set_default_verify_paths(tls->ctx) != 1)
			rc = refuse(why, "system certificates", tls_take_error());
	}
	if (rc == 0 && (options->certificate || options->key))
		rc = load_certificate(tls->ctx, options->certificate, options->key, why);
	if (rc) {
		tls_unref(&tls);
		return rc;
	}
	*tls_out = tls;
	return 0;
}

struct tls *tls_ref(struct tls *tls)
{
	if (tls)
		atomic_fetch_add(&tls->refs, 1);
	return tls;
}

void tls_unref(struct tls **tls_take)
{
	struct tls *tls = *tls_take;

	*tls_take = NULL;
	if (!tls || atomic_fetch_sub(&tls->refs, 1) != 1)
		return;
	for (size_t i = 0; i < tls->ctx_count; i++)
		SSL_CTX_free(tls->ctxs[i]);
	free(tls->ctxs);
	tls_names_free(tls);
	free(tls->alpn);
	free(tls);
}
