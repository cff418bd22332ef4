/* A spare is made by a leg without a login; then it waits with a callback that notices its end. A tick makes up for what is missing. */
#include "proxy/spare.h"

#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "proxy/leg.h"

#define TICK_MS 1000

struct spare {
	struct list link; /* of the worker */
	struct worker *worker;
	struct backend *backend; /* counted */
	unsigned host;
	struct leg leg;
	bool has_leg;
	struct conn *conn; /* once it is ready */
	bool is_ready;
	uint64_t since_ms;
};

static void count(struct backend *backend, int change)
{
	static struct metric *_Atomic cached;
	struct metric *m = atomic_load_explicit(&cached, memory_order_acquire);

	if (!m) {
		m = metrics_gauge("mailtier_proxy_spare_connections", NULL,
			"Ready connections to back-ends that wait for a login");
		atomic_store_explicit(&cached, m, memory_order_release);
	}
	metric_add(m, change);
	backend_count_spare(backend, change);
}

static void drop(struct spare *s)
{
	count(s->backend, s->is_ready ? -1 : 0);
	list_remove(&s->link);
	if (s->has_leg)
		leg_deinit(&s->leg);
	if (s->conn) {
		conn_close(&s->conn);
		backend_disconnected(s->backend);
	}
	backend_unref(&s->backend);
	loop_free_later(s->worker->loop, s);
}

/* Whatever a back-end says to a connection that waits is its end: BYE, or the end itself. */
static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	(void)conn;
	if (event == CONN_DATA || event == CONN_EOF || event == CONN_FAILED)
		drop(owner);
}

static void leg_ended(void *arg, enum leg_result result, const char *detail)
{
	struct spare *s = arg;

	(void)detail;
	if (result != LEG_OK) {
		drop(s); /* the next tick tries again; probes say what is wrong */
		return;
	}
	s->host = s->leg.attempt.host;
	s->conn = leg_take_conn(&s->leg);
	leg_deinit(&s->leg);
	s->has_leg = false;
	s->is_ready = true;
	count(s->backend, 1);
	s->since_ms = loop_now_ms(s->worker->loop);
	conn_set_owner(s->conn, on_event, s);
}

/* A limited back-end keeps half of its connections for those who ask. */
static bool has_room(const struct backend *b)
{
	struct backend_figures f;

	backend_figures(b, &f);
	return b->connections_most == 0 || f.connections < b->connections_most / 2;
}

static void make(struct worker *worker, struct backend *backend)
{
	struct spare *s;

	if (!has_room(backend) || !backend_connects(backend))
		return;
	s = xcalloc(1, sizeof(*s));
	s->worker = worker;
	s->backend = backend_ref(backend);
	s->has_leg = true;
	list_add_last(&worker->spares, &s->link);
	leg_start(&s->leg, &imap_handover, backend, 0, worker->loop, NULL, leg_ended, s);
}

static bool is_stale(const struct spare *s)
{
	return backends_find(s->worker->config->backends, s->backend->name) != s->backend ||
	       (s->conn && loop_now_ms(s->worker->loop) - s->since_ms > SPARE_AGE_MS);
}

static void keep(struct worker *worker)
{
	const struct config *c = worker->config;

	for (size_t i = 0; c->services[CONFIG_IMAP].is_used && i < backends_count(c->backends); i++) {
		struct backend *b = backends_at(c->backends, i);
		unsigned have = 0;

		if (b->spare == 0 || !backend_is_usable(b, BACKEND_IMAP))
			continue;
		list_for_each (at, &worker->spares)
			have += container_of(at, struct spare, link)->backend == b;
		for (; have < b->spare; have++)
			make(worker, b);
	}
}

static void tick(void *arg)
{
	struct worker *worker = arg;

	list_for_each_safe (at, &worker->spares) {
		struct spare *s = container_of(at, struct spare, link);

		if (is_stale(s))
			drop(s);
	}
	keep(worker);
	timer_set(&worker->spare_tick, worker->loop, TICK_MS);
}

void spare_begin(void *arg)
{
	struct worker *worker = arg;

	timer_init(&worker->spare_tick, tick, worker);
	tick(worker);
}

void spare_end(void *arg)
{
	struct worker *worker = arg;

	timer_stop(&worker->spare_tick);
	list_for_each_safe (at, &worker->spares)
		drop(container_of(at, struct spare, link));
}

static void refill(void *arg)
{
	struct worker *worker = arg;

	if (timer_is_set(&worker->spare_tick))
		keep(worker);
}

void spare_host_is_down(struct worker *worker, const struct backend *backend, unsigned host)
{
	list_for_each_safe (at, &worker->spares) {
		struct spare *s = container_of(at, struct spare, link);

		if (s->is_ready && backend_is_same_host(s->backend, s->host, backend, host))
			drop(s);
	}
}

bool spare_make_room(struct worker *worker, const struct backend *backend)
{
	list_for_each_safe (at, &worker->spares) {
		struct spare *s = container_of(at, struct spare, link);

		if (s->is_ready && s->backend->state == backend->state) {
			drop(s);
			return true;
		}
	}
	return false;
}

struct conn *spare_take(struct worker *worker, const struct backend *backend, unsigned *host_out)
{
	if (backend->spare == 0)
		return NULL;
	list_for_each (at, &worker->spares) {
		struct spare *s = container_of(at, struct spare, link);
		struct conn *conn = s->conn;

		if (s->backend != backend || !conn)
			continue;
		s->conn = NULL;
		*host_out = s->host;
		drop(s);
		loop_defer(worker->loop, refill, worker);
		return conn;
	}
	return NULL;
}
