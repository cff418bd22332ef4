/*
 * Three lifetimes: struct backend is what a configuration says and goes with it; backend_state is what we know of the back-end as a
 * whole (drained, gate, capabilities), backend_host_state what we know of one of its hosts. Both are shared by all struct backends of
 * the name, and survive reloads.
 *
 *	up --- a probe fails, or `failures` logins in a row ---> down --- a probe or a login succeeds ---> up
 *
 * When the first host of a back-end comes up again the gate's return begins.
 */
#include "proxy/backend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "proxy/backend_gate.h"
#include "proxy/config_check.h"

#define ERROR_MOST 160
#define RETRY_MS 1000 /* a host that is down and that no probe watches is tried by one login in this time */

struct health {
	_Atomic bool is_down;
	_Atomic unsigned failures; /* of logins, in a row */
	_Atomic uint64_t retry_ms; /* while down and without probes: when it may be tried */
};

struct backend_host_state {
	_Atomic unsigned refs;
	struct health health[BACKEND_PROTOCOLS];
	struct metric *up[BACKEND_PROTOCOLS];
	pthread_mutex_t lock; /* of the texts */
	char error[BACKEND_PROTOCOLS][ERROR_MOST];
};

struct backend_state {
	_Atomic unsigned refs;
	_Atomic bool is_drained;
	_Atomic unsigned capabilities[BACKEND_PROTOCOLS];
	_Atomic unsigned source; /* where the next connection begins to look */
	struct backend_gate gate;
	_Atomic int64_t spare;
	struct metric *sessions, *connections, *waiting, *turned_away;
	struct metric *up[BACKEND_PROTOCOLS];
};

static backend_down_fn *_Atomic on_down;

static const char *const protocol_names[BACKEND_PROTOCOLS] = {"imap", "pop3", "lmtp", "submission"};

const char *backend_protocol_name(enum backend_protocol protocol)
{
	return protocol_names[protocol];
}

/* ---- states ---- */

static void add_label(struct buf *labels, const char *name, const char *value)
{
	if (buf_len(labels))
		buf_add_char(labels, ',');
	buf_printf(labels, "%s=\"", name);
	metrics_escape_label(labels, slice_str(value));
	buf_add_char(labels, '"');
}

static struct metric *gauge(const char *name, const char *label, const char *protocol, const char *help)
{
	struct buf labels = {0};
	struct metric *m;

	add_label(&labels, "backend", label);
	if (protocol)
		add_label(&labels, "protocol", protocol);
	m = metrics_gauge(name, buf_str_view(&labels), help);
	buf_deinit(&labels);
	return m;
}

static struct backend_state *state_new(const char *label)
{
	struct backend_state *s = xcalloc(1, sizeof(*s));
	struct buf labels = {0};

	atomic_store(&s->refs, 1);
	s->sessions = gauge("mailtier_proxy_backend_sessions", label, NULL,
		"Sessions open to the back-end through this proxy");
	s->connections = gauge("mailtier_proxy_backend_connections", label, NULL,
		"Connections to the back-end, probes apart: sessions, logins, spare ones, mail");
	s->waiting = gauge("mailtier_proxy_backend_waiting", label, NULL,
		"Logins that wait until the back-end may be asked");
	add_label(&labels, "backend", label);
	s->turned_away = metrics_counter("mailtier_proxy_backend_turned_away", buf_str_view(&labels),
		"Logins and messages that were told to come later because the back-end has all the "
		"connections "
		"that it may");
	for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++) {
		s->up[p] = gauge("mailtier_proxy_backend_up", label, protocol_names[p],
			"1 while a host of the back-end is up");
		metric_set(s->up[p], 1);
	}
	buf_deinit(&labels);
	return s;
}

static void state_unref(struct backend_state **state)
{
	struct backend_state *s = *state;

	*state = NULL;
	if (s && atomic_fetch_sub(&s->refs, 1) == 1)
		free(s);
}

static struct backend_host_state *host_state_new(const char *label, const char *host)
{
	struct backend_host_state *s = xcalloc(1, sizeof(*s));
	struct buf labels = {0};

	atomic_store(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	for (unsigned p = 0; host && p < BACKEND_PROTOCOLS; p++) {
		buf_clear(&labels);
		add_label(&labels, "backend", label);
		add_label(&labels, "host", host);
		add_label(&labels, "protocol", protocol_names[p]);
		s->up[p] = metrics_gauge("mailtier_proxy_backend_host_up", buf_str_view(&labels),
			"1 while this host of the back-end is up");
		metric_set(s->up[p], 1);
	}
	buf_deinit(&labels);
	return s;
}

static void host_state_unref(struct backend_host_state **state)
{
	struct backend_host_state *s = *state;

	*state = NULL;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct backend_host_state *find_host_state(const struct backend *old, const char *host)
{
	for (unsigned i = 0; old && i < old->host_count; i++) {
		if (strcmp(old->hosts[i].name, host) == 0)
			return old->hosts[i].state;
	}
	return NULL;
}

void backend_attach_states(struct backend *b, const struct backend *old, const char *label)
{
	if (old) {
		atomic_fetch_add(&old->state->refs, 1);
		b->state = old->state;
	} else {
		b->state = state_new(label);
	}
	for (unsigned i = 0; i < b->host_count; i++) {
		struct backend_host_state *s = find_host_state(old, b->hosts[i].name);

		if (s)
			atomic_fetch_add(&s->refs, 1);
		/* Hosts of maps come and go in thousands: they have no metrics of their own. */
		b->hosts[i].state = s ? s : host_state_new(label, b->is_named ? b->hosts[i].name : NULL);
	}
}

struct backend *backend_ref(struct backend *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void backend_unref(struct backend **backend)
{
	struct backend *b = *backend;

	*backend = NULL;
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < b->host_count; i++) {
		host_state_unref(&b->hosts[i].state);
		free((char *)(uintptr_t)b->hosts[i].name);
		free((char *)(uintptr_t)b->hosts[i].server_name);
	}
	tls_unref(&b->tls);
	secret_deinit(&b->credential);
	state_unref(&b->state);
	free((char *)(uintptr_t)b->name);
	free((char *)(uintptr_t)b->server_name);
	free((char *)(uintptr_t)b->user);
	free(b);
}

/* ---- health ---- */

static struct health *health_of(const struct backend *b, unsigned host, enum backend_protocol protocol)
{
	require(host < b->host_count);
	return &b->hosts[host].state->health[protocol];
}

static bool is_probed(const struct backend *b)
{
	return b->is_named && b->probe_ms > 0;
}

bool backend_host_is_up(const struct backend *b, unsigned host, enum backend_protocol protocol)
{
	return !atomic_load_explicit(&health_of(b, host, protocol)->is_down, memory_order_relaxed);
}

static bool has_host_up(const struct backend *b, enum backend_protocol protocol)
{
	for (unsigned i = 0; i < b->host_count; i++) {
		if (backend_host_is_up(b, i, protocol))
			return true;
	}
	return false;
}

bool backend_is_up(const struct backend *b, enum backend_protocol protocol)
{
	if (has_host_up(b, protocol))
		return true;
	for (unsigned i = 0; !is_probed(b) && i < b->host_count; i++) {
		if (clock_mono_ms() >= atomic_load(&health_of(b, i, protocol)->retry_ms))
			return true;
	}
	return false;
}

bool backend_is_drained(const struct backend *b)
{
	return atomic_load_explicit(&b->state->is_drained, memory_order_relaxed);
}

bool backend_is_usable(const struct backend *b, enum backend_protocol protocol)
{
	return backend_is_up(b, protocol) && !backend_is_drained(b);
}

void backend_set_drained(struct backend *b, bool is_drained)
{
	atomic_store(&b->state->is_drained, is_drained);
}

bool backend_is_same_host(const struct backend *a, unsigned host_a, const struct backend *b, unsigned host_b)
{
	return host_a < a->host_count && host_b < b->host_count &&
	       a->hosts[host_a].state == b->hosts[host_b].state;
}

static void note_error(struct backend *b, unsigned host, enum backend_protocol protocol, const char *text)
{
	struct backend_host_state *s = b->hosts[host].state;

	pthread_mutex_lock(&s->lock);
	snprintf(s->error[protocol], ERROR_MOST, "%s", text);
	pthread_mutex_unlock(&s->lock);
}

void backend_host_error(
	const struct backend *b, unsigned host, enum backend_protocol protocol, char *text, size_t size)
{
	struct backend_host_state *s = b->hosts[host].state;

	pthread_mutex_lock(&s->lock);
	snprintf(text, size, "%s", s->error[protocol]);
	pthread_mutex_unlock(&s->lock);
}

static void show(const struct backend *b, unsigned host, enum backend_protocol protocol)
{
	struct metric *up = b->hosts[host].state->up[protocol];

	if (up)
		metric_set(up, backend_host_is_up(b, host, protocol));
	if (b->is_named)
		metric_set(b->state->up[protocol], has_host_up(b, protocol));
}

static void mark_down(struct backend *b, unsigned host, enum backend_protocol protocol, const char *detail)
{
	struct health *h = health_of(b, host, protocol);
	backend_down_fn *fn = atomic_load(&on_down);

	note_error(b, host, protocol, detail);
	atomic_store(&h->retry_ms, clock_mono_ms() + RETRY_MS);
	if (atomic_exchange(&h->is_down, true))
		return;
	show(b, host, protocol);
	log_warn("proxy", "back-end is down: %s backend=%s host=%s protocol=%s", detail, b->name,
		b->hosts[host].name, protocol_names[protocol]);
	if (fn)
		fn(b, host, protocol);
}

static void mark_up(struct backend *b, unsigned host, enum backend_protocol protocol)
{
	struct health *h = health_of(b, host, protocol);
	bool was_away;

	if (atomic_load_explicit(&h->failures, memory_order_relaxed))
		atomic_store_explicit(&h->failures, 0, memory_order_relaxed);
	if (!atomic_load_explicit(&h->is_down, memory_order_relaxed))
		return;
	was_away = !has_host_up(b, protocol);
	/* The gate first: whoever sees it up finds the gate narrow. */
	if (was_away)
		backend_gate_return(&b->state->gate, clock_mono_ms());
	if (!atomic_exchange(&h->is_down, false))
		return;
	note_error(b, host, protocol, "");
	show(b, host, protocol);
	log_info("proxy", "back-end is up again backend=%s host=%s protocol=%s", b->name, b->hosts[host].name,
		protocol_names[protocol]);
}

void backend_probed(
	struct backend *b, unsigned host, enum backend_protocol protocol, int error, const char *detail)
{
	if (error < 0)
		mark_down(b, host, protocol, detail ? detail : error_text(error));
	else
		mark_up(b, host, protocol);
}

void backend_tried(
	struct backend *b, unsigned host, enum backend_protocol protocol, int error, const char *detail)
{
	struct health *h = health_of(b, host, protocol);

	if (error == 0)
		mark_up(b, host, protocol);
	else if (atomic_fetch_add(&h->failures, 1) + 1 >= b->failures)
		mark_down(b, host, protocol, detail && *detail ? detail : error_text(error));
}

void backend_on_down(backend_down_fn *fn)
{
	atomic_store(&on_down, fn);
}

unsigned backend_capabilities(const struct backend *b, enum backend_protocol protocol)
{
	return atomic_load_explicit(&b->state->capabilities[protocol], memory_order_relaxed);
}

void backend_learn(struct backend *b, enum backend_protocol protocol, unsigned capabilities)
{
	/* Mostly nothing changes: then the cache line stays shared. */
	if (backend_capabilities(b, protocol) != capabilities)
		atomic_store_explicit(&b->state->capabilities[protocol], capabilities, memory_order_relaxed);
}

/* ---- the gate ---- */

bool backend_login_begins(struct backend *b)
{
	return backend_gate_log_in(&b->state->gate, b->return_ms, clock_mono_ms());
}

void backend_login_ended(struct backend *b)
{
	backend_gate_logged_in(&b->state->gate);
}

bool backend_connects(struct backend *b)
{
	if (!backend_gate_connect(&b->state->gate, b->connections_most))
		return false;
	metric_add(b->state->connections, 1);
	return true;
}

void backend_disconnected(struct backend *b)
{
	backend_gate_disconnect(&b->state->gate);
	metric_add(b->state->connections, -1);
}

void backend_count_spare(struct backend *b, int change)
{
	atomic_fetch_add_explicit(&b->state->spare, change, memory_order_relaxed);
}

void backend_count_waiting(struct backend *b, int change)
{
	metric_add(b->state->waiting, change);
}

void backend_count_turned_away(struct backend *b)
{
	metric_add(b->state->turned_away, 1);
}

void backend_count_session(struct backend *b, int change)
{
	metric_add(b->state->sessions, change);
}

void backend_figures(const struct backend *b, struct backend_figures *figures_out)
{
	struct backend_gate *gate = &b->state->gate;

	*figures_out = (struct backend_figures){
		.sessions = metric_get(b->state->sessions),
		.connections = atomic_load_explicit(&gate->connections, memory_order_relaxed),
		.logins = atomic_load_explicit(&gate->logins, memory_order_relaxed),
		.waiting = metric_get(b->state->waiting),
		.spare = atomic_load_explicit(&b->state->spare, memory_order_relaxed),
		.window = backend_gate_window(gate, b->return_ms, clock_mono_ms()),
	};
}

/* ---- dialling ---- */

/* Down and without probes: this login is the trial, if none has been lately. */
static bool is_trial_due(struct health *h, uint64_t now)
{
	uint64_t due = atomic_load(&h->retry_ms);

	return now >= due && atomic_compare_exchange_strong(&h->retry_ms, &due, now + RETRY_MS);
}

bool backend_next_host(struct backend *b, enum backend_protocol protocol, struct backend_try *attempt)
{
	uint64_t now = clock_mono_ms();

	if (attempt->until_ms == 0)
		attempt->until_ms = now + b->connect_ms;
	if (now >= attempt->until_ms)
		return false;
	for (unsigned i = 0; i < b->host_count; i++) {
		struct health *h = health_of(b, i, protocol);

		if (attempt->tried & 1u << i)
			continue;
		if (atomic_load_explicit(&h->is_down, memory_order_relaxed) &&
			(is_probed(b) || !is_trial_due(h, now)))
			continue;
		attempt->host = i;
		attempt->tried |= 1u << i;
		return true;
	}
	return false;
}

static unsigned other_hosts(
	const struct backend *b, enum backend_protocol protocol, const struct backend_try *attempt)
{
	unsigned count = 0;

	for (unsigned i = 0; i < b->host_count; i++)
		count += !(attempt->tried & 1u << i) && backend_host_is_up(b, i, protocol);
	return count;
}

uint64_t backend_greeting_ms(
	const struct backend *b, enum backend_protocol protocol, struct backend_try *attempt)
{
	attempt->until_ms = clock_mono_ms() + 2 * b->connect_ms;
	return other_hosts(b, protocol, attempt) && b->connect_ms < b->login_ms ? b->connect_ms : b->login_ms;
}

/* The time that is left, shared with the hosts that could still be tried. */
static uint64_t time_share(
	const struct backend *b, enum backend_protocol protocol, const struct backend_try *attempt)
{
	uint64_t now = clock_mono_ms();

	return attempt->until_ms > now ? (attempt->until_ms - now) / (1 + other_hosts(b, protocol, attempt))
				       : 1;
}

int backend_dial(struct backend *b, enum backend_protocol protocol, uint16_t port,
	const struct backend_try *attempt, struct slice header, struct loop *loop, conn_fn *fn, void *owner,
	struct conn **conn_out)
{
	const struct backend_host *host = &b->hosts[attempt->host];
	struct dial_options options = {
		.host = host->name,
		.port = port ? port : b->ports[protocol],
		.timeout_ms = time_share(b, protocol, attempt),
		.tls = b->tls_mode == BACKEND_TLS_IMPLICIT ? b->tls : NULL,
		.server_name = host->server_name,
		.sources = b->sources,
		.source_count = b->source_count,
		.prefix = header,
	};

	if (b->source_count)
		options.source_first = atomic_fetch_add_explicit(&b->state->source, 1, memory_order_relaxed) %
				       b->source_count;
	return dial(loop, &options, fn, owner, conn_out);
}

bool backend_may_vouch(const struct backend *b, const struct conn *conn)
{
	return (conn_is_tls(conn) && b->is_verified) || addr_is_loopback(conn_peer(conn));
}

/* Ours goes only to a loopback address, or behind a handshake that verifies; never along a name in clear. */
bool backend_may_fly(const struct backend *b, const char *host)
{
	if (b->tls_mode == BACKEND_TLS_STARTTLS)
		return false;
	if (b->trust == BACKEND_REPLAY)
		return true;
	if (b->tls_mode == BACKEND_TLS_IMPLICIT)
		return b->is_verified;
	return config_check_is_loopback(host) && strcmp(host, "localhost") != 0;
}
