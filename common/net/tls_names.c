/*
 * Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 §3), else by the name that a balancer told. The names
 * of all certificates stand in one sorted table, made when the context is made. The choice is made before anything else of the
 * ClientHello counts, so that a ticket of another certificate is met by this one's session context, and refused.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/net/conn_private.h"
#include "common/net/tls_private.h"

#define NAME_MOST 253

static int compare(const void *left, const void *right)
{
	const struct tls_name *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	/* Of two certificates with one name, the one that stands first in the configuration. */
	return order ? order : a->place < b->place ? -1 : a->place > b->place;
}

/* Lower case; false: no name of a host. */
static bool normalise(struct slice text, char name[NAME_MOST + 1])
{
	if (text.len == 0 || text.len > NAME_MOST)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] <= ' ' || text.p[i] > '~')
			return false;
		name[i] = ascii_lower(text.p[i]);
	}
	name[text.len] = '\0';
	return true;
}

static int add(struct tls *tls, struct slice text, size_t place)
{
	char name[NAME_MOST + 1];

	if (!normalise(text, name))
		return 0;
	if (tls->name_count == TLS_NAMES_MOST)
		return ERR_TOO_BIG;
	if (tls->name_count % 64 == 0)
		tls->names = xreallocarray(tls->names, tls->name_count + 64, sizeof(*tls->names));
	tls->names[tls->name_count++] = (struct tls_name){.name = xstrdup(name), .place = place};
	return 0;
}

static int add_common_name(struct tls *tls, const X509 *certificate, size_t place)
{
	char text[NAME_MOST + 1];
	int len = X509_NAME_get_text_by_NID(
		X509_get_subject_name(certificate), NID_commonName, text, sizeof(text));

	return len > 0 ? add(tls, slice_of(text, (size_t)len), place) : 0;
}

/* RFC 6125: the alternative names; the common name only where there are none. */
static int add_of_certificate(struct tls *tls, const X509 *certificate, size_t place)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool has_dns = false;
	int rc = 0;

	for (int i = 0; rc == 0 && i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);

		if (name->type != GEN_DNS)
			continue;
		has_dns = true;
		rc = add(tls,
			slice_of(ASN1_STRING_get0_data(name->d.dNSName),
				(size_t)ASN1_STRING_length(name->d.dNSName)),
			place);
	}
	GENERAL_NAMES_free(all);
	ERR_clear_error();
	return rc || has_dns ? rc : add_common_name(tls, certificate, place);
}

int tls_names_add(struct tls *tls, size_t place, const char *const *names)
{
	int rc = 0;

	if (!names || !names[0])
		return add_of_certificate(tls, SSL_CTX_get0_certificate(tls->ctxs[place]), place);
	for (; rc == 0 && *names; names++)
		rc = add(tls, slice_str(*names), place);
	return rc;
}

static const struct tls_name *find_exact(const struct tls *tls, const char *name)
{
	size_t low = 0, high = tls->name_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(tls->names[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < tls->name_count && strcmp(tls->names[low].name, name) == 0 ? &tls->names[low] : NULL;
}

/* NULL: no certificate has it. `*.example.test` stands for one label. */
static SSL_CTX *find(const struct tls *tls, struct slice text)
{
	char name[NAME_MOST + 1];
	const struct tls_name *found;
	char *dot;

	if (!normalise(text, name))
		return NULL;
	found = find_exact(tls, name);
	dot = strchr(name, '.');
	if (!found && dot && dot > name) {
		dot[-1] = '*';
		found = find_exact(tls, dot - 1);
	}
	return found ? tls->ctxs[found->place] : NULL;
}

/* The first name of type host_name; len 0: none, or a list that OpenSSL will refuse. */
static struct slice asked_name(SSL *ssl)
{
	const unsigned char *p;
	size_t len, name_len;

	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len) || len < 5 || p[2] != 0)
		return slice_of(NULL, 0);
	name_len = (size_t)p[3] << 8 | p[4];
	return name_len <= len - 5 ? slice_of(p + 5, name_len) : slice_of(NULL, 0);
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
	const struct conn *c = BIO_get_data(SSL_get_rbio(ssl));
	const struct tls *tls = c->tls;
	struct slice name = asked_name(ssl);
	SSL_CTX *ctx;

	(void)arg;
	if (name.len == 0 && c->told && c->told->authority)
		name = slice_str(c->told->authority);
	ctx = name.len ? find(tls, name) : tls->ctx;
	if (!ctx && tls->is_strict) {
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (ctx && ctx != tls->ctx)
		SSL_set_SSL_CTX(ssl, ctx); /* with its session context */
	return SSL_CLIENT_HELLO_SUCCESS;
}

void tls_names_done(struct tls *tls)
{
	if (tls->name_count)
		qsort(tls->names, tls->name_count, sizeof(*tls->names), compare);
	/* One certificate for whatever name: nothing is to be chosen. */
	if (tls->ctx_count > 1 || tls->is_strict)
		SSL_CTX_set_client_hello_cb(tls->ctx, on_hello, NULL);
}

void tls_names_free(struct tls *tls)
{
	for (size_t i = 0; i < tls->name_count; i++)
		free(tls->names[i].name);
	free(tls->names);
}
