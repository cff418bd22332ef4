/*
 * For the tests of this room: running a loop until a condition holds, a peer that records its events,
 * sockets, certificates.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "common/base/mem.h"
#include "common/net/conn.h"
#include "common/net/timer.h"

static inline void stop_loop(void *arg)
{
	loop_stop(arg);
}

/* One wait of about a tick of the timing wheel. */
static inline void run_short(struct loop *loop)
{
	struct timer timer;

	timer_init(&timer, stop_loop, loop);
	timer_set(&timer, loop, 2);
	loop_run(loop);
	timer_stop(&timer);
}

/* Fails the test when the condition does not hold within about 5 s. */
#define RUN_UNTIL(loop, condition)                                                                           \
	do {                                                                                                 \
		for (int round_ = 0; !(condition) && round_ < 320; round_++)                                 \
			run_short(loop);                                                                     \
		assert_true(condition);                                                                      \
	} while (0)

/* An owner that records what happens, and keeps or consumes the input. */
struct peer {
	struct conn *conn;
	struct buf got;
	unsigned events[CONN_FAILED + 1];
	bool keeps; /* leaves input unconsumed */
	int error;
};

static inline void peer_on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct peer *peer = owner;

	peer->events[event]++;
	if (event == CONN_DATA && !peer->keeps) {
		buf_add_slice(&peer->got, conn_input(conn));
		conn_consume(conn, conn_input(conn).len);
	}
	if (event == CONN_FAILED)
		peer->error = conn_error(conn);
}

static inline void peer_deinit(struct peer *peer)
{
	conn_close(&peer->conn);
	buf_deinit(&peer->got);
}

static inline void peer_open_pair(struct loop *loop, struct peer *a, struct peer *b)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], NULL, peer_on_event, a, &a->conn), 0);
	assert_int_equal(conn_open_fd(loop, fds[1], NULL, peer_on_event, b, &b->conn), 0);
}

/* ---- certificates, in a directory of their own ---- */

static char cert_directory[] = "/tmp/mailtier-net-XXXXXX";

static inline const char *cert_path(const char *name)
{
	static char path[8][128];
	static unsigned next;
	char *p = path[next++ % 8];

	snprintf(p, 128, "%s/%s", cert_directory, name);
	return p;
}

static inline void cert_write(const char *name, X509 *cert, EVP_PKEY *key)
{
	char file[64];
	FILE *f;

	snprintf(file, sizeof(file), "%s.pem", name);
	f = fopen(cert_path(file), "w");
	PEM_write_X509(f, cert);
	fclose(f);
	snprintf(file, sizeof(file), "%s.key", name);
	f = fopen(cert_path(file), "w");
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	chmod(cert_path(file), 0600);
}

static inline void cert_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
}

/* <name>.pem and <name>.key; signed by ca, or by itself where ca is NULL. */
static inline X509 *cert_make(
	const char *name, const char *alt_names, X509 *ca, EVP_PKEY *ca_key, EVP_PKEY **key_out)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	static long serial;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_NAME_add_entry_by_txt(
		X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(ca ? ca : cert));
	X509_set_pubkey(cert, key);
	cert_extend(
		cert, ca ? ca : cert, NID_basic_constraints, ca ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (alt_names)
		cert_extend(cert, ca ? ca : cert, NID_subject_alt_name, alt_names);
	X509_sign(cert, ca ? ca_key : key, EVP_sha256());
	cert_write(name, cert, key);
	*key_out = key;
	return cert;
}

/* ca, server (mail.example.test, 127.0.0.1), client, and stranger, which is signed by itself. */
static inline int certs_make(void **state)
{
	EVP_PKEY *ca_key, *key;
	X509 *ca, *cert;
	static const struct {
		const char *name, *alt;
	} leaves[] = {{"server", "DNS:mail.example.test,IP:127.0.0.1"},
		{"client", "email:client@example.test,email:other@example.test,otherName:1.3.6.1.4.1.311.20."
			   "2.3;UTF8:client@ad.example.test"}};

	(void)state;
	if (!mkdtemp(cert_directory))
		return -1;
	ca = cert_make("ca", NULL, NULL, NULL, &ca_key);
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
		cert = cert_make(leaves[i].name, leaves[i].alt, ca, ca_key, &key);
		X509_free(cert);
		EVP_PKEY_free(key);
	}
	cert = cert_make("stranger", "DNS:mail.example.test", NULL, NULL, &key);
	X509_free(cert);
	EVP_PKEY_free(key);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return 0;
}

static inline int certs_remove(void **state)
{
	static const char *const names[] = {"ca.pem", "ca.key", "server.pem", "server.key", "client.pem",
		"client.key", "stranger.pem", "stranger.key"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(cert_path(names[i]));
	return rmdir(cert_directory);
}

static inline struct tls *tls_test_server(const char *const *alpn)
{
	struct tls_server_options options = {.certificate = cert_path("server.pem"),
		.key = cert_path("server.key"),
		.alpn = alpn,
		.session_context = "test"};
	struct buf why = {0};
	struct tls *tls;

	assert_int_equal(tls_server_new(&options, &why, &tls), 0);
	return tls;
}

static inline struct tls *tls_test_client(bool verify)
{
	struct tls_client_options options = {.ca = cert_path("ca.pem"), .verify = verify};
	struct buf why = {0};
	struct tls *tls;

	assert_int_equal(tls_client_new(&options, &why, &tls), 0);
	return tls;
}
