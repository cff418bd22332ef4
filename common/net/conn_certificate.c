/*
 * What the peer's certificate says of its owner. Read once, at the first question: the names are few, bounded, and text without
 * NUL or controls, since they are compared with users' names and logged; others are passed over.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"

#define NAME_MOST 320

struct conn_names {
	char *values[CONN_CERTIFICATE_FIELDS][CONN_CERTIFICATE_VALUES_MOST];
	size_t counts[CONN_CERTIFICATE_FIELDS];
};

static void add(struct conn_names *names, enum conn_certificate_field field, const void *p, int len)
{
	struct slice text = slice_of(p, len > 0 ? (size_t)len : 0);

	/* A NUL inside would cut the name to another one. */
	if (text.len == 0 || text.len > NAME_MOST || slice_has_control(text) || !slice_is_utf8(text) ||
		names->counts[field] == CONN_CERTIFICATE_VALUES_MOST)
		return;
	names->values[field][names->counts[field]++] = slice_copy_str(text);
}

/* The last one is the most specific (RFC 4514 writes it first). */
static void add_common_name(struct conn_names *names, const X509 *certificate)
{
	const X509_NAME *subject = X509_get_subject_name(certificate);
	int at = -1, next;
	unsigned char *utf8;
	int len;

	while ((next = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0)
		at = next;
	if (at < 0)
		return;
	len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len < 0)
		return;
	add(names, CONN_CERTIFICATE_CN, utf8, len);
	OPENSSL_free(utf8);
}

/* RFC 5280 §4.2.1.6: rfc822Name is IA5; a principal's name is an otherName, UTF-8. */
static void add_alternative(struct conn_names *names, const GENERAL_NAME *name)
{
	if (name->type == GEN_EMAIL) {
		add(names, CONN_CERTIFICATE_EMAIL, ASN1_STRING_get0_data(name->d.rfc822Name),
			ASN1_STRING_length(name->d.rfc822Name));
	} else if (name->type == GEN_OTHERNAME && OBJ_obj2nid(name->d.otherName->type_id) == NID_ms_upn &&
		   name->d.otherName->value->type == V_ASN1_UTF8STRING) {
		const ASN1_STRING *value = name->d.otherName->value->value.utf8string;

		add(names, CONN_CERTIFICATE_UPN, ASN1_STRING_get0_data(value), ASN1_STRING_length(value));
	}
}

static struct conn_names *read_names(const X509 *certificate)
{
	struct conn_names *names = xcalloc(1, sizeof(*names));
	GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);

	add_common_name(names, certificate);
	for (int i = 0; i < sk_GENERAL_NAME_num(all); i++)
		add_alternative(names, sk_GENERAL_NAME_value(all, i));
	GENERAL_NAMES_free(all);
	ERR_clear_error();
	return names;
}

void conn_names_free(struct conn_names **names)
{
	struct conn_names *n = *names;

	*names = NULL;
	for (size_t field = 0; n && field < CONN_CERTIFICATE_FIELDS; field++)
		for (size_t i = 0; i < n->counts[field]; i++)
			free(n->values[field][i]);
	free(n);
}

/* A session that is resumed has been verified when it began: its certificate may have expired since. */
static bool is_verified_now(const struct conn *c)
{
	const X509 *certificate = SSL_get0_peer_certificate(c->ssl);

	return certificate && SSL_get_verify_mode(c->ssl) & SSL_VERIFY_PEER &&
	       SSL_get_verify_result(c->ssl) == X509_V_OK &&
	       X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

bool conn_has_peer_certificate(const struct conn *c)
{
	if (c->ssl)
		return is_verified_now(c);
	return c->told && c->told->name;
}

const char *conn_peer_certificate_field(struct conn *c, enum conn_certificate_field field, size_t index)
{
	if (!conn_has_peer_certificate(c))
		return NULL;
	if (!c->ssl)
		return field == CONN_CERTIFICATE_CN && index == 0 ? c->told->name : NULL;
	if (!c->names)
		c->names = read_names(SSL_get0_peer_certificate(c->ssl));
	return index < c->names->counts[field] ? c->names->values[field][index] : NULL;
}

const char *conn_peer_certificate_name(struct conn *c)
{
	const char *name = conn_peer_certificate_field(c, CONN_CERTIFICATE_CN, 0);

	return name ? name : "";
}
