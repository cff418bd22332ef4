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
#include "common/net/tls_cache.h"
#include "common/net/tls_private.h"

#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!MD5:!DSS"
#define GROUPS "X25519:P-256:P-384"

const char *tls_take_error(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

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

static bool is_private_file(const struct stat *st)
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
	if (fstat(fileno(f), &st) != 0 || !is_private_file(&st)) {
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

static struct tls *tls_new(const SSL_METHOD *method, bool is_client)
{
	struct tls *tls = xcalloc(1, sizeof(*tls));

	tls->refs = 1;
	tls->is_client = is_client;
	tls->ctx = SSL_CTX_new(method);
	require(tls->ctx);
	SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					      SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(tls->ctx, 1);
	SSL_CTX_set_default_passwd_cb(tls->ctx, no_passphrase);
	require(SSL_CTX_set_ciphersuites(tls->ctx, CIPHERS_13) == 1);
	require(SSL_CTX_set_cipher_list(tls->ctx, CIPHERS_12) == 1);
	require(SSL_CTX_set1_groups_list(tls->ctx, GROUPS) == 1);
	return tls;
}

/* RFC 7301: a client that names protocols of which none is ours is refused, since it means another service
 * (ALPACA). */
static int choose_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len,
	const unsigned char *offered, unsigned offered_len, void *arg)
{
	const struct tls *tls = arg;
	unsigned char *at;

	(void)ssl;
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
	SSL_CTX_set_alpn_select_cb(tls->ctx, choose_alpn, tls);
}

static int set_client_ca(struct tls *tls, const struct tls_server_options *options, struct buf *why)
{
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->client_ca);

	if (!names || SSL_CTX_load_verify_file(tls->ctx, options->client_ca) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return refuse(why, options->client_ca, tls_take_error());
	}
	SSL_CTX_set_client_CA_list(tls->ctx, names);
	SSL_CTX_set_verify(tls->ctx,
		SSL_VERIFY_PEER | (options->client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return 0;
}

/* The id is 32 bytes at most: a digest of the name. */
static void set_session_context(struct tls *tls, const char *name)
{
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	require(EVP_Digest(name, strlen(name), id, &len, EVP_sha256(), NULL) == 1);
	require(SSL_CTX_set_session_id_context(tls->ctx, id, len) == 1);
}

int tls_server_new(const struct tls_server_options *options, struct buf *why, struct tls **tls_out)
{
	struct tls *tls = tls_new(TLS_server_method(), false);
	int rc = load_certificate(tls->ctx, options->certificate, options->key, why);

	SSL_CTX_set_num_tickets(tls->ctx, 1);
	set_session_context(tls, options->session_context ? options->session_context : "mailtier");
	if (rc == 0 && options->client_required && !options->client_ca) {
		buf_add_str(why, "client certificates are required, but no authority for them is given");
		rc = ERR_CONFIG;
	}
	if (rc == 0 && options->client_ca)
		rc = set_client_ca(tls, options, why);
	if (rc) {
		tls_unref(&tls);
		return rc;
	}
	if (options->alpn && options->alpn[0])
		set_alpn(tls, options->alpn);
	*tls_out = tls;
	return 0;
}

int tls_client_new(const struct tls_client_options *options, struct buf *why, struct tls **tls_out)
{
	struct tls *tls = tls_new(TLS_client_method(), true);
	int rc = 0;

	tls->verify = options->verify;
	tls->cache = tls_cache_new(tls->ctx);
	if (options->verify) {
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
	SSL_CTX_free(tls->ctx);
	free(tls->alpn);
	free(tls);
}
