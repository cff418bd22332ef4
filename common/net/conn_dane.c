/*
 * TLS as a client of a server whose certificate TLSA records vouch for. OpenSSL matches them: here stands which records may take part
 * (RFC 7672 section 3.1: usages 2 and 3 alone) and which names count (none under usage 3, RFC 7671 section 5.1).
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "common/net/conn_private.h"
#include "common/net/tls_private.h"

enum {
	USAGE_TRUST_ANCHOR = 2,
	USAGE_END_ENTITY = 3
};

/* How many records OpenSSL takes; others (unknown selector or digest, damaged data) are passed over. */
static size_t add_records(SSL *ssl, const struct tls_dane *dane)
{
	size_t taken = 0;

	for (size_t i = 0; i < dane->record_count && i < TLS_DANE_RECORDS_MOST; i++) {
		const struct tls_dane_record *r = &dane->records[i];

		if (r->usage != USAGE_TRUST_ANCHOR && r->usage != USAGE_END_ENTITY)
			continue;
		taken += SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching,
				 (const unsigned char *)r->data.p, r->data.len) > 0;
	}
	ERR_clear_error();
	return taken;
}

static int add_dane(SSL *ssl, const struct tls_dane *dane)
{
	if (SSL_dane_enable(ssl, dane->base) <= 0) {
		ERR_clear_error();
		return ERR_UNSUPPORTED;
	}
	SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	for (size_t i = 0; i < dane->name_count && i < TLS_DANE_NAMES_MOST; i++)
		if (SSL_add1_host(ssl, dane->names[i]) != 1)
			ERR_clear_error();
	return add_records(ssl, dane) ? 0 : ERR_UNSUPPORTED;
}

int conn_start_tls_dane(struct conn *c, struct tls *tls, const struct tls_dane *dane)
{
	int rc;

	require(tls->uses_dane);
	rc = conn_start_tls_client(c, tls, dane->base);
	if (rc)
		return rc;
	rc = add_dane(c->ssl, dane);
	if (rc == 0)
		return 0;
	/* Nothing was sent yet. */
	conn_tls_free(c);
	c->is_starttls = false;
	c->clear_left = 0;
	c->phase = CONN_OPEN;
	return rc;
}

bool conn_tls_is_verified(const struct conn *c)
{
	if (!c->ssl || !c->is_tls_client || !SSL_is_init_finished(c->ssl))
		return false;
	if (!(SSL_get_verify_mode(c->ssl) & SSL_VERIFY_PEER) && !c->tls->is_lenient)
		return false;
	return SSL_get0_peer_certificate(c->ssl) && SSL_get_verify_result(c->ssl) == X509_V_OK;
}

enum conn_tls_fault conn_tls_fault(const struct conn *c)
{
	long code = c->ssl ? SSL_get_verify_result(c->ssl) : X509_V_OK;

	switch (code) {
	case X509_V_OK:
	case X509_V_ERR_DANE_NO_MATCH:
		return CONN_TLS_FAILED;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return CONN_TLS_EXPIRED;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return CONN_TLS_WRONG_NAME;
	default:
		return CONN_TLS_UNTRUSTED;
	}
}
