/*
 * One struct directory on its home loop. `server` is the index of the URI in use, or NONE when all failed.
 *
 *	question -> waiting -> (a connection with room) -> in flight -> answer, timeout, or once more after a break
 *	job: one connection being made on a worker; it tries servers first..last in order and brings the first that answers
 *
 * Connections of a server that is not in use any more take no new question and are closed when they are empty. A job
 * outlives nothing: a directory that is closed while one runs is freed when it lands.
 */
#include "common/directory/directory.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/net/timer.h"

#define AREA "directory"
#define NONE UINT32_MAX
#define DENIED_MOST_MS 60000 /* between two tries of a credential that was refused: accounts get locked */
#define JOBS_MOST 2          /* workers that one connector may hold at a time, late ones included */

enum kind {
	KIND_SEARCH,
	KIND_BIND,
	KINDS
};

enum counter {
	COUNT_FOUND,
	COUNT_NONE,
	COUNT_DENIED,
	COUNT_TIMEOUT,
	COUNT_BROKEN,
	COUNT_DOWN,
	COUNT_FULL,
	COUNT_REFUSED, /* the server answered with an error */
	COUNTERS
};

struct connection {
	struct list link;
	struct directory *d;
	struct ldap_client *client;
	struct loop_watch *watch;
	enum kind kind;
	uint32_t server;
	struct list flying; /* struct directory_request */
	unsigned flying_count;
	uint64_t born_ms, heard_ms; /* heard: when something came last */
};

struct directory_request {
	struct list link; /* waiting, flying on connection, or referred */
	struct directory *d;
	struct connection *connection; /* NULL: waits */
	enum kind kind;
	int id;
	bool is_probe; /* a sign of life: nobody asked */
	bool is_repeat;
	char *base, *filter; /* base: the DN of a bind */
	struct secret password;
	const char *const *attributes;
	struct timer timer;
	uint64_t began_us, sent_ms;
	struct directory_request *referred; /* what it has become at another server */
	bool is_referred;
	directory_fn *fn; /* NULL: cancelled */
	void *arg;
};

struct job {
	struct work work;
	struct list link;
	struct directory *d;
	enum kind kind;
	uint32_t first, last; /* servers to try */
	uint32_t tried;       /* the worker's: the last one it tried */
	bool is_health;       /* looks for a better server than the one in use */
	bool is_late;         /* given up; the worker will come back some day */
	struct timer timer;
	int error;
	struct ldap_client *client;
	struct ldap_client_stop stop;
	struct buf why;
};

struct directory {
	_Atomic unsigned holders;
	char *name;
	char *uris[DIRECTORY_URIS_MOST + 1];
	uint32_t uri_count;
	char *referrals[DIRECTORY_URIS_MOST + 1];
	struct directory *referred_to[DIRECTORY_URIS_MOST]; /* made when the first referral leads there */
	struct list referred;                               /* struct directory_request */
	struct ldap_client_options client;
	struct secret password;
	uint64_t timeout_ms, connect_timeout_ms, health_ms;
	unsigned most[KINDS]; /* connections */
	unsigned in_flight_most;
	struct loop *loop;
	struct work_pool *pool;
	bool is_closed;
	uint32_t server;
	bool is_up;   /* some connection was made since it was down */
	bool is_said; /* that it is down */
	char reason[300];
	struct list connections[KINDS], waiting[KINDS];
	unsigned waiting_count;
	struct list jobs;
	unsigned job_count;
	struct timer health;
	uint64_t denied_ms,
		denied_until_ms; /* after a refused credential: how long until the next try, and when */
	struct arena answers;
	struct metric *up, *in_use, *flying, *count[COUNTERS], *connects, *connect_failures,
		*connected[KINDS];
	struct histogram *latency[KINDS];
};

static void serve(struct directory *d);
static void server_failed(struct directory *d, uint32_t server, const char *reason);
static void job_begin(struct directory *d, enum kind kind, uint32_t first, uint32_t last, bool is_health);

/* ---- questions ---- */

static void request_free(struct directory_request *r)
{
	timer_stop(&r->timer);
	list_remove(&r->link);
	directory_cancel(&r->referred);
	if (r->is_referred) {
		metric_add(r->d->flying, -1);
	} else if (r->connection) {
		r->connection->flying_count--;
		metric_add(r->d->flying, -1);
	} else {
		r->d->waiting_count--;
	}
	secret_deinit(&r->password);
	free(r->base);
	free(r->filter);
	free(r);
}

/* The last word to who asked; the request is gone. */
static void request_answer(struct directory_request *r, enum counter counter, int error,
	const struct directory_found *found, const char *reason)
{
	struct directory *d = r->d;
	directory_fn *fn = r->fn;
	void *arg = r->arg;

	if (!r->is_probe) {
		metric_add(d->count[counter], 1);
		histogram_observe_us(d->latency[r->kind], clock_mono_us() - r->began_us);
	}
	request_free(r);
	if (fn)
		fn(arg, error, found, reason);
}

static void on_break(struct connection *c, const char *reason);

static void on_timeout(void *arg)
{
	struct directory_request *r = arg;
	struct directory *d = r->d;
	struct connection *c = r->connection;
	bool silent = c && c->heard_ms < r->sent_ms;

	if (c && r->kind == KIND_SEARCH)
		ldap_client_abandon(c->client, r->id);
	if (!c && d->server == NONE)
		request_answer(r, COUNT_DOWN, ERR_NOT_NOW, NULL, d->reason);
	else
		request_answer(r, COUNT_TIMEOUT, ERR_NOT_NOW, NULL, "the directory did not answer in time");
	/* A bind cannot be abandoned (RFC 4511 section 4.11): its connection is lost. */
	if (c && !list_is_empty(&c->link) && (silent || c->kind == KIND_BIND))
		on_break(c, "no answer in time");
	serve(d);
}

static struct directory_request *request_new(struct directory *d, enum kind kind, directory_fn *fn, void *arg)
{
	struct directory_request *r = xcalloc(1, sizeof(*r));

	r->d = d;
	r->kind = kind;
	r->fn = fn;
	r->arg = arg;
	r->began_us = clock_mono_us();
	timer_init(&r->timer, on_timeout, r);
	list_add_last(&d->waiting[kind], &r->link);
	d->waiting_count++;
	return r;
}

/* Answers at the next turn: never within the call that asked. */
static void on_refused(void *arg)
{
	struct directory_request *r = arg;

	request_answer(r, r->d->server == NONE ? COUNT_DOWN : COUNT_FULL, ERR_NOT_NOW, NULL,
		r->d->server == NONE ? r->d->reason : "too many questions wait");
}

static void request_begin(struct directory_request *r, struct directory_request **request_out)
{
	struct directory *d = r->d;

	*request_out = r;
	if (d->server == NONE || d->waiting_count > DIRECTORY_WAITING_MOST) {
		timer_init(&r->timer, on_refused, r);
		timer_set(&r->timer, d->loop, 0);
		return;
	}
	timer_set(&r->timer, d->loop, d->timeout_ms);
	serve(d);
}

/* ---- connections ---- */

static void connection_free(struct connection *c)
{
	list_remove(&c->link);
	loop_watch_stop(&c->watch);
	metric_add(c->d->connected[c->kind], -1);
	ldap_client_close(&c->client);
	loop_free_later(c->d->loop, c);
}

static unsigned connection_count(const struct directory *d, enum kind kind)
{
	unsigned n = 0;

	list_for_each (at, &d->connections[kind])
		n += container_of(at, struct connection, link)->server == d->server;
	return n;
}

static unsigned jobs_of(const struct directory *d, enum kind kind)
{
	unsigned n = 0;

	list_for_each (at, &d->jobs) {
		const struct job *j = container_of(at, struct job, link);

		n += !j->is_late && !j->is_health && j->kind == kind && j->first == d->server;
	}
	return n;
}

/* Takes back what flies: asked once more, or answered. Called when the connection is out of its list. */
static void give_back(struct connection *c, const char *reason)
{
	struct directory *d = c->d;

	while (!list_is_empty(&c->flying)) {
		struct directory_request *r = container_of(c->flying.next, struct directory_request, link);

		if (r->is_repeat || r->is_probe || !r->fn) {
			request_answer(r, COUNT_BROKEN, ERR_NOT_NOW, NULL, reason);
			continue;
		}
		r->is_repeat = true;
		list_remove(&r->link);
		list_add_last(&d->waiting[r->kind], &r->link);
		r->connection = NULL;
		c->flying_count--;
		metric_add(d->flying, -1);
		d->waiting_count++;
	}
}

static void on_break(struct connection *c, const char *reason)
{
	struct directory *d = c->d;

	if (c->server == d->server)
		log_warn(AREA, "connection lost connector=%s server=%s: %s", d->name, d->uris[c->server],
			reason);
	list_remove(&c->link);
	loop_watch_stop(&c->watch);
	give_back(c, reason);
	/* Taken, and dropped before it said a word: no reason to try again at once. */
	if (c->heard_ms == c->born_ms && clock_mono_ms() - c->born_ms < d->health_ms)
		server_failed(d, c->server, reason);
	connection_free(c);
	serve(d);
}

/* Moves to a server, or to none: then all that waits is answered. */
static void use_server(struct directory *d, uint32_t server)
{
	if (d->server == server)
		return;
	d->server = server;
	if (server == NONE)
		d->is_up = false;
	directory_show(d);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		list_for_each_safe (at, &d->connections[kind]) {
			struct connection *c = container_of(at, struct connection, link);

			if (c->server != server && list_is_empty(&c->flying))
				connection_free(c);
		}
		while (server == NONE && !list_is_empty(&d->waiting[kind]))
			request_answer(container_of(d->waiting[kind].next, struct directory_request, link),
				COUNT_DOWN, ERR_NOT_NOW, NULL, d->reason);
	}
}

static const char *const *attributes_of(void *arg, int id)
{
	struct connection *c = arg;

	list_for_each (at, &c->flying) {
		struct directory_request *r = container_of(at, struct directory_request, link);

		if (r->id == id)
			return r->attributes;
	}
	return NULL;
}

static struct directory_request *request_of(struct connection *c, int id)
{
	list_for_each (at, &c->flying) {
		struct directory_request *r = container_of(at, struct directory_request, link);

		if (r->id == id)
			return r;
	}
	return NULL;
}

/* ---- referrals ---- */

static void on_referred(void *arg, int error, const struct directory_found *found, const char *reason)
{
	struct directory_request *r = arg;

	r->referred = NULL;
	request_answer(r,
		!error                   ? COUNT_FOUND
		: error == ERR_DENIED    ? COUNT_DENIED
		: error == ERR_NOT_FOUND ? COUNT_NONE
					 : COUNT_REFUSED,
		error, found, reason);
}

/* The server of a referral is a connector of its own, with the same terms; it follows none. */
static struct directory *referred_to(struct directory *d, int i)
{
	const char *uris[] = {d->referrals[i], NULL};
	struct buf name = {0};
	struct directory_options o = {.uris = uris,
		.client = d->client,
		.timeout_ms = d->timeout_ms,
		.connect_timeout_ms = d->connect_timeout_ms,
		.health_ms = d->health_ms,
		.connections = 1,
		.bind_connections = d->most[KIND_BIND],
		.in_flight = d->in_flight_most};

	if (!d->referred_to[i]) {
		buf_printf(&name, "%s > %s", d->name, uris[0]);
		o.name = buf_str_view(&name);
		d->referred_to[i] = directory_new(&o, d->loop, d->pool);
		buf_deinit(&name);
	}
	return d->referred_to[i];
}

/* True if the question goes on elsewhere. */
static bool refer(struct directory_request *r, const char *url)
{
	struct directory *d = r->d, *to;
	struct directory_search search;
	char *base;
	int i = ldap_client_referral(url, (const char *const *)d->referrals, &base);

	if (i < 0)
		return false;
	to = referred_to(d, i);
	if (base) {
		free(r->base);
		r->base = base;
	}
	list_remove(&r->link);
	list_add_last(&d->referred, &r->link);
	r->connection->flying_count--;
	r->connection = NULL;
	r->is_referred = true;
	search = (struct directory_search){.base = r->base, .filter = r->filter, .attributes = r->attributes};
	if (r->kind == KIND_BIND)
		directory_bind(to, r->base, secret_view(&r->password), on_referred, r, &r->referred);
	else
		directory_search(to, &search, on_referred, r, &r->referred);
	return true;
}

static void on_answer(struct directory_request *r, const struct ldap_client_answer *a)
{
	struct directory_found found = {.dn = a->dn, .attributes = a->attributes, .several = a->entries > 1};

	if (a->referral && !r->is_probe && refer(r, a->referral))
		return;
	switch (a->error) {
	case 0:
		if (r->kind == KIND_SEARCH && !a->entries)
			request_answer(r, COUNT_NONE, ERR_NOT_FOUND, NULL, "");
		else
			request_answer(r, COUNT_FOUND, 0, &found, "");
		break;
	case ERR_DENIED:
		/* Of a search it means that we may not: that is no answer about the user. */
		if (r->kind == KIND_BIND)
			request_answer(r, COUNT_DENIED, ERR_DENIED, NULL, a->reason);
		else
			request_answer(r, COUNT_REFUSED, ERR_NOT_NOW, NULL, a->reason);
		break;
	default:
		/* A base that is not there is a fault of the configuration or of the server's rights. */
		if (r->kind == KIND_BIND && a->error == ERR_NOT_FOUND)
			request_answer(r, COUNT_DENIED, ERR_DENIED, NULL, "");
		else
			request_answer(r, COUNT_REFUSED, ERR_NOT_NOW, NULL, a->reason);
		break;
	}
}

static void on_ready(void *arg, int ready)
{
	struct connection *c = arg;
	struct directory *d = c->d;
	struct ldap_client_answer a;
	int rc = 0;

	(void)ready;
	while (!d->is_closed && !list_is_empty(&c->link) &&
		(rc = ldap_client_next(c->client, &d->answers, attributes_of, c, &a)) > 0) {
		struct directory_request *r = request_of(c, a.id);

		c->heard_ms = clock_mono_ms();
		if (r)
			on_answer(r, &a);
		arena_reset(&d->answers);
	}
	if (d->is_closed || list_is_empty(&c->link))
		return;
	if (rc < 0)
		on_break(c, ldap_client_reason(c->client));
	else if (c->server != d->server && list_is_empty(&c->flying))
		connection_free(c);
	else
		serve(d);
}

static void connection_new(struct directory *d, struct job *j)
{
	struct connection *c = xcalloc(1, sizeof(*c));

	c->d = d;
	c->client = j->client;
	j->client = NULL;
	c->kind = j->kind;
	c->server = j->tried;
	c->born_ms = c->heard_ms = clock_mono_ms();
	list_init(&c->flying);
	if (loop_watch_start(d->loop, ldap_client_fd(c->client), LOOP_READABLE, on_ready, c, &c->watch)) {
		ldap_client_close(&c->client);
		free(c);
		return;
	}
	list_add_last(&d->connections[c->kind], &c->link);
	metric_add(d->connected[c->kind], 1);
}

/* ---- sending ---- */

/* The connection with most room; NULL: none has any. */
static struct connection *roomy(struct directory *d, enum kind kind)
{
	unsigned most = kind == KIND_BIND ? 1 : d->in_flight_most;
	struct connection *best = NULL;

	list_for_each (at, &d->connections[kind]) {
		struct connection *c = container_of(at, struct connection, link);

		if (c->server == d->server && c->flying_count < most &&
			(!best || c->flying_count < best->flying_count))
			best = c;
	}
	return best;
}

static int request_put(struct connection *c, struct directory_request *r)
{
	struct directory *d = r->d;
	const struct ldap_client_search search = {.base = r->base,
		.is_base_only = r->is_probe,
		.filter = r->filter,
		.attributes = r->attributes,
		.entries_most = 2,
		.seconds = (unsigned)((d->timeout_ms + 999) / 1000)};

	if (r->kind == KIND_BIND)
		return ldap_client_bind(c->client, r->base, secret_view(&r->password), &r->id);
	return ldap_client_search(c->client, &search, &r->id);
}

static void request_send(struct connection *c, struct directory_request *r)
{
	struct directory *d = r->d;
	int error = request_put(c, r);

	if (error == ERR_CLOSED) {
		on_break(c, ldap_client_reason(c->client));
		return;
	}
	if (error) {
		request_answer(r, error == ERR_DENIED ? COUNT_DENIED : COUNT_REFUSED,
			error == ERR_DENIED ? ERR_DENIED : ERR_NOT_NOW, NULL, "the filter is refused");
		return;
	}
	list_remove(&r->link);
	list_add_last(&c->flying, &r->link);
	d->waiting_count--;
	r->connection = c;
	r->sent_ms = clock_mono_ms();
	c->flying_count++;
	metric_add(d->flying, 1);
	/* The answer may have come with another one, into memory already. */
}

/* Connections that search are kept ready; those that bind come with the need, one for each that waits. */
static bool wants_connection(const struct directory *d, enum kind kind)
{
	unsigned jobs = jobs_of(d, kind), waiting = 0;

	if (connection_count(d, kind) + jobs >= d->most[kind])
		return false;
	list_for_each (at, &d->waiting[kind]) {
		if (++waiting > jobs)
			break;
	}
	return kind == KIND_SEARCH || waiting > jobs;
}

/* Sends what waits, makes the connections that are wanted. */
static void serve(struct directory *d)
{
	for (unsigned kind = 0; kind < KINDS && !d->is_closed && d->server != NONE; kind++) {
		struct connection *c;

		while (!d->is_closed && !list_is_empty(&d->waiting[kind]) && (c = roomy(d, (enum kind)kind)))
			request_send(c, container_of(d->waiting[kind].next, struct directory_request, link));
		if (d->is_closed || d->server == NONE)
			return;
		if (wants_connection(d, (enum kind)kind))
			job_begin(d, (enum kind)kind, d->server, d->server, false);
	}
}

/* ---- connecting ---- */

static void directory_free(struct directory *d)
{
	for (uint32_t i = 0; i < d->uri_count; i++)
		free(d->uris[i]);
	for (size_t i = 0; d->referrals[i]; i++)
		free(d->referrals[i]);
	secret_deinit(&d->password);
	free((void *)(uintptr_t)d->client.ca);
	free((void *)(uintptr_t)d->client.certificate);
	free((void *)(uintptr_t)d->client.key);
	free((void *)(uintptr_t)d->client.bind_dn);
	free((void *)(uintptr_t)d->client.keytab);
	free((void *)(uintptr_t)d->client.principal);
	arena_deinit(&d->answers);
	free(d->name);
	free(d);
}

/* On a worker. */
static void job_run(void *arg)
{
	struct job *j = arg;
	const struct directory *d = j->d;
	uint32_t last = j->last;

	for (uint32_t i = j->first; i <= last; i++) {
		struct ldap_client_options o = d->client;

		o.uri = d->uris[i];
		j->tried = i;
		buf_clear(&j->why);
		j->error = ldap_client_connect(
			&o, j->kind == KIND_SEARCH, d->connect_timeout_ms, &j->stop, &j->why, &j->client);
		if (!j->error)
			return;
	}
}

static void server_failed(struct directory *d, uint32_t server, const char *reason)
{
	if (server != d->server)
		return;
	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	if (server + 1 < d->uri_count) {
		log_warn(AREA, "server failed, the next one is tried connector=%s: %s", d->name, reason);
		use_server(d, server + 1);
		return;
	}
	if (!d->is_said)
		log_error(AREA, "connector is down connector=%s: %s", d->name, reason);
	d->is_said = true;
	use_server(d, NONE);
}

static void server_well(struct directory *d, uint32_t server)
{
	bool better = d->server == NONE || server < d->server;

	if (better || !d->is_up)
		log_info(AREA, "connector is up connector=%s server=%s", d->name, d->uris[server]);
	d->is_said = false;
	d->is_up = true;
	directory_show(d);
	if (server == 0)
		d->reason[0] = 0;
	if (better)
		use_server(d, server);
}

static void job_settle(struct job *j, int error)
{
	struct directory *d = j->d;

	metric_add(error ? d->connect_failures : d->connects, 1);
	if (error == ERR_DENIED) {
		d->denied_ms = d->denied_ms ? d->denied_ms * 2 : d->health_ms;
		if (d->denied_ms > DENIED_MOST_MS && d->denied_ms > d->health_ms)
			d->denied_ms = d->health_ms > DENIED_MOST_MS ? d->health_ms : DENIED_MOST_MS;
		d->denied_until_ms = clock_mono_ms() + d->denied_ms;
	} else if (!error) {
		d->denied_ms = 0;
	}
	if (!error) {
		server_well(d, j->tried);
		if (j->tried == d->server)
			connection_new(d, j);
	} else if (!j->is_health) {
		server_failed(d, j->tried, buf_str_view(&j->why));
	}
}

static void job_free(struct job *j)
{
	timer_stop(&j->timer);
	list_remove(&j->link);
	ldap_client_close(&j->client);
	ldap_client_stop_deinit(&j->stop);
	buf_deinit(&j->why);
	free(j);
}

static void job_done(void *arg, int error)
{
	struct job *j = arg;
	struct directory *d = j->d;

	d->job_count--;
	if (!j->is_late && !d->is_closed) {
		timer_stop(&j->timer);
		list_remove(&j->link);
		job_settle(j, error ? error : j->error);
	}
	job_free(j);
	if (!d->is_closed)
		serve(d);
	else if (!d->job_count)
		directory_free(d);
}

/* The worker did not come back in time (a resolver that hangs): we go on without it. */
static void job_late(void *arg)
{
	struct job *j = arg;
	struct directory *d = j->d;

	j->is_late = true;
	ldap_client_stop(&j->stop);
	list_remove(&j->link);
	if (!j->is_health)
		server_failed(d, j->first, "connecting took too long");
	serve(d);
}

static void job_begin(struct directory *d, enum kind kind, uint32_t first, uint32_t last, bool is_health)
{
	struct job *j;

	if (d->job_count >= JOBS_MOST)
		return;
	j = xcalloc(1, sizeof(*j));
	j->work = (struct work){.run = job_run, .done = job_done, .job = j};
	j->d = d;
	j->kind = kind;
	j->first = first;
	j->last = last;
	j->is_health = is_health;
	list_init(&j->link);
	timer_init(&j->timer, job_late, j);
	ldap_client_stop_init(&j->stop);
	buf_init(&j->why, 300);
	if (work_submit(d->pool, d->loop, &j->work)) {
		job_free(j);
		return;
	}
	d->job_count++;
	list_add_last(&d->jobs, &j->link);
	/* Connect, TLS command, handshake, bind: each has its time; one more for the resolver. */
	timer_set(&j->timer, d->loop, d->connect_timeout_ms * 5 * (last - first + 1));
}

/* ---- health ---- */

/* Asks a connection that was silent for a sign of life: the root entry, RFC 4512 section 5.1. */
static void probe(struct connection *c)
{
	static const char *const nothing[] = {"1.1", NULL};
	struct directory *d = c->d;
	struct directory_request *r = request_new(d, KIND_SEARCH, NULL, NULL);

	r->is_probe = true;
	r->base = xstrdup("");
	r->filter = xstrdup("(objectClass=*)");
	r->attributes = nothing;
	timer_set(&r->timer, d->loop, d->timeout_ms);
	request_send(c, r);
}

static void on_health(void *arg)
{
	struct directory *d = arg;
	uint64_t now = clock_mono_ms();
	bool is_looking = false;

	timer_set(&d->health, d->loop, d->health_ms);
	list_for_each (at, &d->jobs)
		is_looking |= container_of(at, struct job, link)->is_health;
	if (d->server != 0 && !is_looking && (!d->denied_ms || now >= d->denied_until_ms))
		job_begin(d, KIND_SEARCH, 0, d->server == NONE ? d->uri_count - 1 : d->server - 1, true);
	list_for_each_safe (at, &d->connections[KIND_SEARCH]) {
		struct connection *c = container_of(at, struct connection, link);

		if (c->server == d->server && list_is_empty(&c->flying) &&
			now - c->heard_ms >= d->health_ms) {
			probe(c);
			break; /* sending may have changed the list; the next one has its turn later */
		}
	}
	serve(d);
}

/* ---- public ---- */

static void metrics_find(struct directory *d)
{
	static const char *const answers[COUNTERS] = {
		"found", "none", "denied", "timeout", "broken", "down", "full", "refused"};
	static const char *const kinds[KINDS] = {"search", "bind"};
	struct buf name = {0}, l = {0};

	buf_add_str(&name, "connector=\"");
	metrics_escape_label(&name, slice_str(d->name));
	buf_add_str(&name, "\"");
	d->up = metrics_gauge(
		"mailtier_directory_up", buf_str_view(&name), "1: some server of the connector serves");
	d->in_use = metrics_gauge(
		"mailtier_directory_server", buf_str_view(&name), "Which URI is in use, from 0; -1: none");
	d->flying = metrics_gauge("mailtier_directory_in_flight", buf_str_view(&name), "Questions in flight");
	d->connects = metrics_counter("mailtier_directory_connects", buf_str_view(&name), "Connections made");
	d->connect_failures = metrics_counter("mailtier_directory_connect_failures", buf_str_view(&name),
		"Connections that could not be made");
	for (size_t i = 0; i < COUNTERS; i++) {
		buf_clear(&l);
		buf_printf(&l, "%s,answer=\"%s\"", buf_str_view(&name), answers[i]);
		d->count[i] = metrics_counter("mailtier_directory_questions", buf_str_view(&l),
			"Searches and binds by what came of them");
	}
	for (size_t i = 0; i < KINDS; i++) {
		buf_clear(&l);
		buf_printf(&l, "%s,kind=\"%s\"", buf_str_view(&name), kinds[i]);
		d->connected[i] =
			metrics_gauge("mailtier_directory_connections", buf_str_view(&l), "Connections open");
		d->latency[i] = metrics_histogram(
			"mailtier_directory_latency_seconds", buf_str_view(&l), "From question to answer");
	}
	buf_deinit(&name);
	buf_deinit(&l);
}

static char *copy(const char *s)
{
	return xstrdup(s ? s : "");
}

struct directory *directory_new(const struct directory_options *o, struct loop *loop, struct work_pool *pool)
{
	struct directory *d = xcalloc(1, sizeof(*d));

	d->name = xstrdup(o->name);
	for (; o->uris[d->uri_count] && d->uri_count < DIRECTORY_URIS_MOST; d->uri_count++)
		d->uris[d->uri_count] = xstrdup(o->uris[d->uri_count]);
	require(d->uri_count);
	for (size_t i = 0; o->referrals && o->referrals[i] && i < DIRECTORY_URIS_MOST; i++)
		d->referrals[i] = xstrdup(o->referrals[i]);
	list_init(&d->referred);
	d->client = o->client;
	d->client.ca = copy(o->client.ca);
	d->client.certificate = copy(o->client.certificate);
	d->client.key = copy(o->client.key);
	d->client.bind_dn = copy(o->client.bind_dn);
	d->client.keytab = copy(o->client.keytab);
	d->client.principal = copy(o->client.principal);
	secret_set(&d->password, o->client.password);
	d->client.password = secret_view(&d->password);
	d->timeout_ms = o->timeout_ms;
	d->connect_timeout_ms = o->connect_timeout_ms;
	d->health_ms = o->health_ms;
	d->most[KIND_SEARCH] = o->connections;
	d->most[KIND_BIND] = o->bind_connections;
	d->in_flight_most = o->in_flight;
	d->loop = loop;
	d->pool = pool;
	for (unsigned i = 0; i < KINDS; i++) {
		list_init(&d->connections[i]);
		list_init(&d->waiting[i]);
	}
	list_init(&d->jobs);
	arena_init(&d->answers, 2 * LDAP_CLIENT_ANSWER_MOST);
	metrics_find(d);
	directory_show(d);
	timer_init(&d->health, on_health, d);
	timer_set(&d->health, loop, d->health_ms);
	serve(d);
	return d;
}

static bool is_text(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

bool directory_is_same(const struct directory *d, const struct directory_options *o)
{
	const struct ldap_client_options *a = &d->client, *b = &o->client;

	for (uint32_t i = 0; i <= d->uri_count; i++) {
		if (!d->uris[i] != !o->uris[i] || (o->uris[i] && strcmp(d->uris[i], o->uris[i])))
			return false;
	}
	for (uint32_t i = 0; i <= DIRECTORY_URIS_MOST; i++) {
		const char *other = o->referrals ? o->referrals[i] : NULL;

		if (!d->referrals[i] != !other || (other && strcmp(d->referrals[i], other)))
			return false;
		if (!other)
			break;
	}
	return is_text(d->name, o->name) && a->start_tls == b->start_tls && a->verify == b->verify &&
	       is_text(a->ca, b->ca) && is_text(a->certificate, b->certificate) && is_text(a->key, b->key) &&
	       a->bind == b->bind && is_text(a->bind_dn, b->bind_dn) && is_text(a->keytab, b->keytab) &&
	       is_text(a->principal, b->principal) && secret_is_equal(a->password, b->password) &&
	       d->timeout_ms == o->timeout_ms && d->connect_timeout_ms == o->connect_timeout_ms &&
	       d->health_ms == o->health_ms && d->most[KIND_SEARCH] == o->connections &&
	       d->most[KIND_BIND] == o->bind_connections && d->in_flight_most == o->in_flight;
}

void directory_close(struct directory **d_in_out)
{
	struct directory *d = *d_in_out;

	*d_in_out = NULL;
	if (!d)
		return;
	d->is_closed = true;
	timer_stop(&d->health);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		while (!list_is_empty(&d->waiting[kind]))
			request_free(container_of(d->waiting[kind].next, struct directory_request, link));
		while (!list_is_empty(&d->connections[kind])) {
			struct connection *c =
				container_of(d->connections[kind].next, struct connection, link);

			while (!list_is_empty(&c->flying))
				request_free(container_of(c->flying.next, struct directory_request, link));
			connection_free(c);
		}
	}
	while (!list_is_empty(&d->referred))
		request_free(container_of(d->referred.next, struct directory_request, link));
	for (size_t i = 0; i < DIRECTORY_URIS_MOST; i++)
		directory_close(&d->referred_to[i]);
	list_for_each_safe (at, &d->jobs) {
		struct job *j = container_of(at, struct job, link);

		ldap_client_stop(&j->stop);
		timer_stop(&j->timer);
		list_remove(&j->link);
	}
	d->is_up = false;
	directory_show(d);
	if (!d->job_count)
		directory_free(d);
}

void directory_search(struct directory *d, const struct directory_search *search, directory_fn *fn, void *arg,
	struct directory_request **request_out)
{
	struct directory_request *r = request_new(d, KIND_SEARCH, fn, arg);

	r->base = xstrdup(search->base);
	r->filter = xstrdup(search->filter);
	r->attributes = search->attributes;
	request_begin(r, request_out);
}

void directory_bind(struct directory *d, const char *dn, struct slice password, directory_fn *fn, void *arg,
	struct directory_request **request_out)
{
	struct directory_request *r = request_new(d, KIND_BIND, fn, arg);

	r->base = xstrdup(dn);
	secret_set(&r->password, password);
	request_begin(r, request_out);
}

void directory_cancel(struct directory_request **request)
{
	if (*request)
		(*request)->fn = NULL;
	*request = NULL;
}

void directory_status(const struct directory *d, struct directory_status *status_out)
{
	*status_out = (struct directory_status){.is_up = d->is_up,
		.server = d->server == NONE ? "" : d->uris[d->server],
		.error = d->reason,
		.in_flight = (size_t)metric_get(d->flying),
		.waiting = d->waiting_count};
}

void directory_hold(struct directory *d)
{
	atomic_fetch_add_explicit(&d->holders, 1, memory_order_relaxed);
}

void directory_release(struct directory *d)
{
	atomic_fetch_sub_explicit(&d->holders, 1, memory_order_release);
}

bool directory_is_held(const struct directory *d)
{
	return atomic_load_explicit(&d->holders, memory_order_acquire) > 0;
}

void directory_show(const struct directory *d)
{
	metric_set(d->up, d->is_up);
	metric_set(d->in_use, d->server == NONE ? -1 : (int64_t)d->server);
}

const char *directory_name(const struct directory *d)
{
	return d->name;
}
