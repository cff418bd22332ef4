/*
 * A connector: a named group of LDAP servers with connections that are kept open. It lives on one loop (its home); all
 * functions are called there, all answers come there, later and never within the call. Connecting (names, sockets, TLS,
 * service bind) runs on worker threads; searches and binds go out on the loop, many searches at a time on a connection,
 * binds of users one at a time on connections of their own, which never search.
 *
 * Servers are used in order: the first that is well serves, a failed one is tried again every health_ms, and the first
 * in order is returned to when it is well. A server that is silent for a question's whole time loses the connection.
 * While none is well everything is ERR_NOT_NOW at once. What is in flight on a connection that breaks is asked once more.
 */
#pragma once

#include "common/base/secret.h"
#include "common/directory/ldap_client.h"
#include "common/net/work.h"

#define DIRECTORY_URIS_MOST 5
#define DIRECTORY_CONNECTIONS_MOST 64
#define DIRECTORY_WAITING_MOST 10000 /* questions that wait for a connection */

struct directory;

struct directory_options {
	const char *name;
	const char *const *uris;           /* NULL-ended, 1 to DIRECTORY_URIS_MOST */
	struct ldap_client_options client; /* its uri is not looked at */
	uint64_t timeout_ms;               /* of one look-up, all in all */
	uint64_t connect_timeout_ms;       /* of each step of connecting */
	uint64_t health_ms;
	unsigned connections, bind_connections;
	unsigned in_flight; /* searches on one connection */
	const char *const *
		referrals; /* NULL-ended, at most DIRECTORY_URIS_MOST: servers to which a referral is followed,
					 once; NULL: none */
};

/* Begins to connect. pool: workers; loop: the home. Everything is copied. */
struct directory *directory_new(
	const struct directory_options *options, struct loop *loop, struct work_pool *pool);
/* True if it was made of these options. */
bool directory_is_same(const struct directory *d, const struct directory_options *options);
/* On the home, or after it ended. Answers nothing any more. */
void directory_close(struct directory **d);

struct directory_search {
	const char *base, *filter;
	const char *const *attributes; /* NULL-ended, constant as long as the connector's user lives */
};

struct directory_found {
	const char *dn;
	const struct ldap_client_values *attributes; /* in the order that was asked for */
	bool several;                                /* other entries match too */
};

/* error: 0 and found (a view of the call); ERR_NOT_FOUND; ERR_NOT_NOW; with ERR_NOT_NOW reason says why. */
typedef void directory_fn(void *arg, int error, const struct directory_found *found, const char *reason);
struct directory_request;
void directory_search(struct directory *d, const struct directory_search *search, directory_fn *fn, void *arg,
	struct directory_request **request_out);
/* error: 0: it is the password of dn; ERR_DENIED, reason: what the server said; ERR_NOT_NOW. */
void directory_bind(struct directory *d, const char *dn, struct slice password, directory_fn *fn, void *arg,
	struct directory_request **request_out);
/* fn will not be called. Sets NULL, accepts NULL. In fn the request is gone already. */
void directory_cancel(struct directory_request **request);

struct directory_status {
	bool is_up;
	const char *server; /* URI in use, "" when down */
	const char *error;  /* the last reason, "" while the first server serves */
	size_t in_flight, waiting;
};
void directory_status(const struct directory *d, struct directory_status *status_out);
/* Any thread: somebody may still ask it. Who closes looks at directory_is_held(). */
void directory_hold(struct directory *d);
void directory_release(struct directory *d);
bool directory_is_held(const struct directory *d);
/* Writes its gauges anew: after another one of the same name was closed. */
void directory_show(const struct directory *d);
const char *directory_name(const struct directory *d);
