/*
 * One connection to one LDAP server (RFC 4511): the only file that knows libldap. ldap_client_connect() blocks and
 * belongs on a worker thread; what it gives never blocks again and belongs to one loop. Every failure but a clear "no"
 * is ERR_NOT_NOW or ERR_CLOSED; after ERR_CLOSED the connection is good for ldap_client_close() alone. Referrals are
 * never followed here (RFC 4511 section 4.1.10): an answer that is one is ERR_NOT_NOW, and says where it leads.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define LDAP_CLIENT_ANSWER_MOST (1024u * 1024) /* octets of one message of the server */
#define LDAP_CLIENT_VALUES_MOST 64             /* values of an attribute that are looked at */

struct ldap_client;

enum ldap_client_bind {
	LDAP_CLIENT_ANONYMOUS,
	LDAP_CLIENT_SIMPLE,
	LDAP_CLIENT_EXTERNAL, /* SASL EXTERNAL: the certificate of the connection */
	LDAP_CLIENT_GSSAPI    /* SASL GSSAPI: a key of the keytab */
};

struct ldap_client_options {
	const char *uri;
	bool start_tls;                /* on ldap: URIs */
	bool verify;                   /* chain and name */
	const char *ca;                /* PEM file; "" or NULL: the system's */
	const char *certificate, *key; /* "" or NULL: none */
	enum ldap_client_bind bind;
	const char *bind_dn;
	struct slice password;
	const char *keytab, *principal; /* principal "" or NULL: the keytab's first */
};

/* 0, or ERR_SYNTAX with a reason: neither ldap: nor ldaps:, no host, something after the port. */
MUST_CHECK int ldap_client_check_uri(const char *uri, bool *tls_out, const char **reason_out);
/* Which of these servers (NULL-ended URIs) a referral's URL leads to, or -1; base_out: the base that it names instead, a
 * heap copy, or NULL. */
int ldap_client_referral(const char *url, const char *const *servers, char **base_out);
/* What Active Directory means by the "data XXX" of a refused bind: words, or NULL. is_password_out: no more than a wrong
 * name or password. Pure. */
const char *ldap_client_refusal(const char *diagnostic, bool *is_password_out);
/* A well-formed DN (RFC 4514). */
bool ldap_client_is_dn(const char *dn);

/* By which another thread ends a connect that is under way: whatever it waits for, but for a name, ends at once. */
struct ldap_client_stop {
	pthread_mutex_t lock;
	int fd; /* -1: none at present */
	bool is_stopped;
};
void ldap_client_stop_init(struct ldap_client_stop *stop);
void ldap_client_stop_deinit(struct ldap_client_stop *stop);
/* Any thread. */
void ldap_client_stop(struct ldap_client_stop *stop);

/* Resolves, connects, does TLS, and with as_service binds as the options say. timeout_ms for each of these. Blocks.
 * ERR_NOT_NOW: why has a line for the log; ERR_DENIED: the same, and it was the service's own credential. */
MUST_CHECK int ldap_client_connect(const struct ldap_client_options *options, bool as_service,
	uint64_t timeout_ms, struct ldap_client_stop *stop, struct buf *why, struct ldap_client **client_out);
/* Sets NULL, accepts NULL. */
void ldap_client_close(struct ldap_client **client);
int ldap_client_fd(const struct ldap_client *client);

struct ldap_client_search {
	const char *base;
	bool is_base_only; /* the entry itself; else the whole subtree */
	const char *filter;
	const char *const *attributes; /* NULL-ended */
	unsigned entries_most;
	unsigned seconds;
};
/* ERR_CLOSED; ERR_SYNTAX: libldap refuses the filter. */
MUST_CHECK int ldap_client_search(
	struct ldap_client *c, const struct ldap_client_search *search, int *id_out);
/* A simple bind as somebody else. ERR_DENIED: an empty password or one with a NUL (RFC 4513 section 5.1.2: it would
 * succeed). */
MUST_CHECK int ldap_client_bind(struct ldap_client *c, const char *dn, struct slice password, int *id_out);
void ldap_client_abandon(struct ldap_client *c, int id);

struct ldap_client_values {
	size_t count;
	const struct slice *at;
};

struct ldap_client_answer {
	int id;
	int error;      /* 0; ERR_DENIED: wrong credential; ERR_NOT_FOUND: no such base; ERR_NOT_NOW */
	size_t entries; /* 2: there are more than one */
	const char *dn; /* of the first entry */
	const struct ldap_client_values *attributes; /* of the first entry, in the order of `attributes` */
	const char *referral;                        /* URL to which the server refers; NULL: it does not */
	char reason[200];
};
/* Takes the next answer that is there. 1, 0 (none is), ERR_CLOSED. Everything in it is the arena's. attributes_of
 * gives for an id what was asked for. */
typedef const char *const *ldap_client_attributes_fn(void *arg, int id);
MUST_CHECK int ldap_client_next(struct ldap_client *c, struct arena *a,
	ldap_client_attributes_fn *attributes_of, void *arg, struct ldap_client_answer *answer_out);
/* Why the last call gave ERR_CLOSED. */
const char *ldap_client_reason(const struct ldap_client *c);
