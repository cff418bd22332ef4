/*
 * TLS of a connection. OpenSSL works on the socket by a BIO of ours, which knows from the loop's edges when
 * the socket has nothing, and so saves the calls that would say EAGAIN. The error queue is emptied before
 * each call and read after it, in failed() alone.
 */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/net/conn_private.h"
#include "common/net/tls_cache.h"
#include "common/net/tls_private.h"

#define RECORD_MAX 16384

static BIO_METHOD *method;
static struct metric *handshakes_done, *handshakes_failed, *resumed_as_client, *resumed_as_server;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *p, size_t size, size_t *n_out)
{
	struct conn *c = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	*n_out = 0;
	n = c->sock_in ? conn_sock_recv(c, p, size) : ERR_MORE;
	if (n == ERR_MORE)
		BIO_set_retry_read(bio);
	if (n < 0) {
		c->error = n == ERR_MORE ? 0 : (int16_t)n;
		return -1;
	}
	*n_out = (size_t)n;
	c->sock_eof = n == 0;
	return n > 0;
}

static int bio_write(BIO *bio, const char *p, size_t len, size_t *n_out)
{
	struct conn *c = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	*n_out = 0;
	/* A ticket of TLS 1.3 waits for the greeting, which follows in the same turn; the kernel waits 200 ms at most. */
	if (!c->is_tls_client && SSL_get_state(c->ssl) == TLS_ST_SW_SESSION_TICKET)
		c->sends_more = true;
	n = c->sock_out ? conn_sock_send(c, p, len) : ERR_MORE;
	if (c->phase == CONN_HANDSHAKE)
		c->sends_more = false;
	if (n == ERR_MORE)
		BIO_set_retry_write(bio);
	if (n < 0) {
		c->error = n == ERR_MORE ? 0 : (int16_t)n;
		return -1;
	}
	*n_out = (size_t)n;
	return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *p)
{
	const struct conn *c = BIO_get_data(bio);

	(void)number;
	(void)p;
	if (command == BIO_CTRL_EOF)
		return c->sock_eof;
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static void init(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
	require(method);
	require(BIO_meth_set_read_ex(method, bio_read) && BIO_meth_set_write_ex(method, bio_write) &&
		BIO_meth_set_ctrl(method, bio_ctrl) && BIO_meth_set_create(method, bio_create));
	handshakes_done =
		metrics_counter("mailtier_net_tls_handshakes", "result=\"ok\"", "TLS handshakes by result.");
	handshakes_failed = metrics_counter(
		"mailtier_net_tls_handshakes", "result=\"failed\"", "TLS handshakes by result.");
	resumed_as_client = metrics_counter("mailtier_net_tls_resumed", "side=\"client\"",
		"TLS handshakes that resumed an earlier session.");
	resumed_as_server = metrics_counter("mailtier_net_tls_resumed", "side=\"server\"",
		"TLS handshakes that resumed an earlier session.");
}

/* ---- start ---- */

static int set_server_name(SSL *ssl, const struct tls *tls, const char *name)
{
	struct addr literal;
	bool is_literal = name && addr_parse(slice_str(name), 0, &literal) == 0;

	if (!name || !*name)
		return tls->verify ? ERR_CONFIG : 0; /* nothing to hold the certificate against */
	if (!is_literal && SSL_set_tlsext_host_name(ssl, name) != 1)
		return ERR_TLS;
	if (!tls->verify && !tls->is_lenient)
		return 0;
	if (is_literal)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1 ? 0 : ERR_TLS;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) == 1 ? 0 : ERR_TLS;
}

/* A session is resumed with the same host under the same name only. */
static void offer_session(struct conn *c, const struct tls *tls, const char *server_name)
{
	char key[TLS_CACHE_KEY_MOST + 1], peer[ADDR_TEXT_MAX];
	int n = snprintf(
		key, sizeof(key), "%s %s", server_name ? server_name : "", addr_text(conn_peer(c), peer));

	if (tls->cache && n > 0 && (size_t)n < sizeof(key))
		tls_cache_offer(tls->cache, c->ssl, slice_of(key, (size_t)n));
}

int conn_tls_start(struct conn *c, struct tls *tls, const char *server_name)
{
	BIO *bio;
	int rc = 0;

	pthread_once(&once, init);
	c->ssl = SSL_new(tls->ctx);
	bio = BIO_new(method);
	require(c->ssl && bio);
	BIO_set_data(bio, c);
	SSL_set_bio(c->ssl, bio, bio);
	c->tls = tls_ref(tls);
	c->is_tls_client = tls->is_client;
	if (tls->is_client) {
		rc = set_server_name(c->ssl, tls, server_name);
		SSL_set_connect_state(c->ssl);
		offer_session(c, tls, server_name);
	} else {
		SSL_set_accept_state(c->ssl);
	}
	if (rc) {
		ERR_clear_error();
		conn_tls_free(c);
	}
	return rc;
}

void conn_tls_free(struct conn *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	tls_unref(&c->tls);
}

/* ---- calls of OpenSSL ---- */

static int failed(struct conn *c, const char *detail)
{
	int error = c->error ? c->error : ERR_TLS;
	long verified = SSL_get_verify_result(c->ssl);
	const char *text = tls_take_error();

	if (c->error)
		text = detail;
	else if (verified != X509_V_OK && SSL_get_verify_mode(c->ssl) & SSL_VERIFY_PEER)
		text = X509_verify_cert_error_string(verified);
	conn_fail(c, error, text);
	return error;
}

/* The meaning of a result <= 0 of SSL_*: 0 at the end of the stream, ERR_MORE, or the failure. */
static int judge(struct conn *c, int result, const char *detail)
{
	switch (SSL_get_error(c->ssl, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return ERR_MORE;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		return failed(c, detail);
	}
}

int conn_tls_handshake(struct conn *c)
{
	int result, rc;

	ERR_clear_error();
	c->error = 0;
	result = SSL_do_handshake(c->ssl);
	if (result == 1) {
		metric_add(handshakes_done, 1);
		if (SSL_session_reused(c->ssl))
			metric_add(c->is_tls_client ? resumed_as_client : resumed_as_server, 1);
		return 0;
	}
	rc = judge(c, result, "the connection broke during the TLS handshake");
	if (rc == ERR_MORE)
		return rc;
	metric_add(handshakes_failed, 1);
	if (rc == 0) {
		rc = ERR_CLOSED;
		conn_fail(c, rc, "closed during the TLS handshake");
	}
	return rc;
}

ssize_t conn_tls_read(struct conn *c, char *p, size_t size)
{
	size_t got = 0, n;

	while (got < size) {
		int result, rc;

		ERR_clear_error();
		c->error = 0;
		result = SSL_read_ex(c->ssl, p + got, size - got, &n);
		if (result == 1) {
			got += n;
			continue;
		}
		if (got && SSL_get_error(c->ssl, result) == SSL_ERROR_ZERO_RETURN)
			break; /* stays readable: the end is told next time */
		rc = judge(c, result, "reading failed");
		if (rc == ERR_MORE)
			c->readable = false;
		if (got == 0)
			return rc;
		break;
	}
	return (ssize_t)got;
}

ssize_t conn_tls_write(struct conn *c, const char *p, size_t len)
{
	size_t done = 0, n;

	while (done < len) {
		size_t piece = len - done < RECORD_MAX ? len - done : RECORD_MAX;
		int result, rc;

		ERR_clear_error();
		c->error = 0;
		result = SSL_write_ex(c->ssl, p + done, piece, &n);
		if (result == 1) {
			done += n;
			continue;
		}
		rc = judge(c, result, "writing failed");
		if (rc == 0)
			conn_fail(c, rc = ERR_CLOSED, "TLS was closed");
		if (done == 0 || rc != ERR_MORE)
			return rc;
		break;
	}
	return (ssize_t)done;
}

void conn_tls_shutdown(struct conn *c)
{
	ERR_clear_error();
	if (SSL_is_init_finished(c->ssl))
		SSL_shutdown(c->ssl);
	ERR_clear_error();
}

/* ---- questions ---- */

const char *conn_tls_name(const struct conn *c, char *text, size_t size)
{
	const char *cipher = SSL_get_cipher_name(c->ssl);

	snprintf(text, size, "%s %s", SSL_get_version(c->ssl), cipher ? cipher : "none");
	return text;
}

const char *conn_channel_binding(struct conn *c, char *out, size_t most, size_t *len_out)
{
	static const char label[] = "EXPORTER-Channel-Binding";
	bool is_server_first;
	size_t len;

	if (!c->ssl || !SSL_is_init_finished(c->ssl))
		return NULL;
	if (SSL_version(c->ssl) >= TLS1_3_VERSION) {
		if (most < 32 || SSL_export_keying_material(c->ssl, (unsigned char *)out, 32, label,
					 sizeof(label) - 1, (const unsigned char *)"", 0, 1) != 1)
			return NULL;
		*len_out = 32;
		return "tls-exporter";
	}
	/* Without the extended master secret an attacker can make two connections alike (RFC 7627). */
	if (SSL_get_extms_support(c->ssl) != 1)
		return NULL;
	/* The first Finished of the handshake: the client's, but of a resumed session the server's. */
	is_server_first = SSL_session_reused(c->ssl);
	len = is_server_first != c->is_tls_client ? SSL_get_finished(c->ssl, out, most)
						  : SSL_get_peer_finished(c->ssl, out, most);
	if (!len || len > most)
		return NULL;
	*len_out = len;
	return "tls-unique";
}
