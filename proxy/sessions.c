/* The texts of a session stand behind it in one piece of memory: nothing else of a login survives. */
#include "proxy/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/net/relay.h"

struct session {
	struct list link;
	struct relay *relay;
	struct backend *backend; /* counted */
	uint64_t number;         /* for struct session_walk */
	int64_t since;           /* seconds since 1970 */
	uint8_t service;         /* enum config_service */
	char text[];             /* id NUL account NUL client NUL */
};

static struct metric *open_sessions(void)
{
	static struct metric *_Atomic cached;
	struct metric *m = atomic_load_explicit(&cached, memory_order_acquire);

	if (!m) {
		m = metrics_gauge("mailtier_proxy_sessions", NULL, "Clients that are joined to back-ends");
		atomic_store_explicit(&cached, m, memory_order_release);
	}
	return m;
}

static void count_bytes(const struct relay_end *end)
{
	static struct metric *_Atomic cached[2];

	if (!atomic_load_explicit(&cached[1], memory_order_acquire)) {
		atomic_store(&cached[0], metrics_counter("mailtier_proxy_relayed_to_clients_bytes", NULL,
						 "Octets that relays carried to clients"));
		atomic_store_explicit(&cached[1],
			metrics_counter("mailtier_proxy_relayed_to_backends_bytes", NULL,
				"Octets that relays carried to back-ends"),
			memory_order_release);
	}
	metric_add(atomic_load_explicit(&cached[0], memory_order_relaxed), (int64_t)end->to_client);
	metric_add(atomic_load_explicit(&cached[1], memory_order_relaxed), (int64_t)end->to_server);
}

static const char *session_id(const struct session *s)
{
	return s->text;
}

static const char *session_account(const struct session *s)
{
	return s->text + strlen(s->text) + 1;
}

static const char *session_client(const struct session *s)
{
	const char *account = session_account(s);

	return account + strlen(account) + 1;
}

static void on_end(void *arg, const struct relay_end *end)
{
	struct session *s = arg;

	log_debug(config_service_name((enum config_service)s->service),
		"%s: session ended: %s user=%s seconds=%lld to-client=%llu to-backend=%llu", session_id(s),
		end->error       ? error_text(end->error)
		: end->by_client ? "by client"
				 : "by back-end",
		session_account(s), (long long)(clock_wall_s() - s->since),
		(unsigned long long)end->to_client, (unsigned long long)end->to_server);
	count_bytes(end);
	metric_add(open_sessions(), -1);
	backend_count_session(s->backend, -1);
	backend_disconnected(s->backend);
	backend_unref(&s->backend);
	list_remove(&s->link);
	free(s);
}

static _Thread_local uint64_t numbers;

static struct session *session_new(const struct session_options *o)
{
	size_t id = strlen(o->id) + 1, account = strlen(o->account) + 1, client = strlen(o->client) + 1;
	struct session *s = xmalloc(sizeof(*s) + id + account + client);

	list_init(&s->link);
	s->relay = NULL;
	s->backend = backend_ref(o->backend);
	s->number = ++numbers;
	s->since = clock_wall_s();
	s->service = (uint8_t)o->service;
	memcpy(s->text, o->id, id);
	memcpy(s->text + id, o->account, account);
	memcpy(s->text + id + account, o->client, client);
	return s;
}

int sessions_start(struct worker *worker, const struct session_options *options, struct conn **client_take,
	struct conn **server_take)
{
	struct session *s = session_new(options);
	int err = relay_start(client_take, server_take, worker->config->relay_idle_ms, on_end, s, &s->relay);

	if (err < 0) {
		conn_close(client_take);
		conn_close(server_take);
		backend_disconnected(s->backend);
		backend_unref(&s->backend);
		free(s);
		return err;
	}
	list_add_last(&worker->sessions, &s->link);
	metric_add(open_sessions(), 1);
	backend_count_session(s->backend, 1);
	return 0;
}

void sessions_each(struct worker *worker, struct session_walk *walk)
{
	/* relay_stop() calls on_end at the turn's end: the list stays whole meanwhile. */
	list_for_each (at, &worker->sessions) {
		struct session *s = container_of(at, struct session, link);

		if (session_walk_wants(walk, s->number) &&
			session_walk_take(
				walk, &(struct session_info){
					      .number = s->number,
					      .id = session_id(s),
					      .service = config_service_name((enum config_service)s->service),
					      .user = session_account(s),
					      .client = session_client(s),
					      .backend = s->backend->name,
					      .state = "joined",
					      .since = s->since,
				      }))
			relay_stop(s->relay);
	}
}
