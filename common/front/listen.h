/*
 * Listeners as both programs have them: their keys, what is made of them (TLS contexts, access rules, PROXY protocol, flow
 * control), and their sockets. What is offered on a listener is the program's own.
 *
 * A struct listen is made from one configuration and constant; a reload makes a new one for the same sockets, whose number
 * and order never change while the program runs. A struct listen_set has the sockets and what is counted over them, from the start
 * to the end of the program. Main thread, but for what is said otherwise.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/net/listener.h"
#include "common/net/tls.h"

/* Rows of the sections "", service, listener and tls; the program brings service's titles, listener's key `service` and other keys. */
extern const struct conf_key listen_keys[];

enum listen_tls {
	LISTEN_TLS_NONE,
	LISTEN_TLS_START,
	LISTEN_TLS_IMPLICIT
};

/* What a program tells of its services. */
struct listen_service {
	const char *name; /* as in the listener's key `service`, in that order, and title of its section */
	const char *const *alpn; /* NULL-ended: the names that clients may ask for */
};

/* One section `listener`. Views into the configuration. */
struct listen_one {
	const char *title;
	unsigned service; /* index */
	enum listen_tls tls_mode;
	struct tls *tls; /* NULL with LISTEN_TLS_NONE */
	bool allows_clear;
	struct listener_policy *policy;
};

struct listen {
	const struct conf *conf;
	const struct listen_service *services; /* name NULL ends */
	size_t count;
	struct listen_one *listeners;
};

/* In the program's check(): what single rows cannot show. */
void listen_check(struct conf *conf, const struct listen_service *services);
/* Is that service offered by any listener, and if so, does one take passwords without TLS, and may clients show certificates? */
bool listen_offers(const struct conf *conf, const struct listen_service *services, const char *service,
	bool *allows_clear_out, bool *asks_certificates_out);
/* conf outlives it. ERR_CONFIG with the reason in why: a certificate cannot be used. */
MUST_CHECK int listen_new(const struct conf *conf, const struct listen_service *services, struct buf *why,
	struct listen **listen_out);
void listen_free(struct listen **listen);

struct listen_set;
/* A connection of that listener, on its loop; CONN_OPENED comes first where TLS has begun (conn_is_tls()): after a reload,
 * connections of before may still come. */
typedef void listen_fn(size_t index, struct conn *conn_take);
/* Opens all addresses of all listeners on all loops, and gives the loops their ticket keys; on failure none stays open. loop: the
 * main thread's. */
MUST_CHECK int listen_open(struct loop *loop, struct loop_group *group, const struct listen *listen,
	listen_fn *fn, struct buf *why, struct listen_set **set_out);
/* New connections go by this one. Ticket keys that cannot be used are an ERROR line, and the old ones stay. */
void listen_set_config(struct listen_set *set, const struct listen *listen);
/* As listener_refuse(), listener_stop() and listener_connections() of all. */
void listen_refuse(struct listen_set *set);
void listen_stop(struct listen_set *set);
int64_t listen_connections(const struct listen_set *set);
/* Takes what the kernel has queued, then closes. Again: nothing. */
void listen_close(struct listen_set *set);
/* After the loops have ended. */
void listen_set_free(struct listen_set **set);
