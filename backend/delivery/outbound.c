/*
 * Next hops and how many connections each may have. The window of a hop begins small, grows by one for each round of successes (as
 * many as it is wide), halves with each failure to get a connection; tries beyond it wait here, as many again as the window is wide, so
 * that a connection finds its next message at once, and the caller is refused beyond that. So a hop that is dead or slow holds its
 * window's worth of connections and no more, and takes nothing from others.
 */
#include "backend/delivery/outbound_inner.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/proto/address.h"

#define ROUTE_PREFIX "route/"
/* A hop that nobody uses is forgotten, and its window with it. */
#define UNUSED_MS (10 * 60 * 1000)
#define HOPS_MOST 100000
#define LOGINS_MOST 1000 /* by SCRAM, that wait for the worker */

static void pump(struct outbound *o);

/* ---- results ---- */

static struct metric *result_metric(enum outbound_verdict verdict)
{
	static const char *const labels[] = {[OUTBOUND_SENT] = "result=\"sent\"",
		[OUTBOUND_NOT_NOW] = "result=\"deferred\"",
		[OUTBOUND_FAILED] = "result=\"failed\""};

	return metrics_counter("mailtier_sending_recipients", labels[verdict],
		"Recipients at other servers, by result of a try");
}

void outbound_give(struct outbound_session *s, size_t recipient, enum outbound_verdict verdict, unsigned code,
	const char *enhanced, const char *text)
{
	static const char *const defaults[] = {
		[OUTBOUND_SENT] = "2.0.0", [OUTBOUND_NOT_NOW] = "4.0.0", [OUTBOUND_FAILED] = "5.0.0"};
	struct outbound_try *t = s->t;
	uint64_t now = clock_mono_ms();
	struct outbound_result result = {.verdict = verdict,
		.code = code,
		.enhanced = *enhanced && *enhanced == *defaults[verdict] ? enhanced : defaults[verdict],
		.text = text,
		.host = s->host_name ? s->host_name : "",
		.relay = *s->relay ? s->relay : "none",
		.tls = *s->tls ? s->tls : "none",
		.has_dsn = s->client && smtp_client_words(s->client)->dsn};

	if (t->states[recipient] == OUTBOUND_KNOWN)
		return;
	if (t->ready_ms) {
		result.connect_ms = (uint32_t)(t->ready_ms - t->begun_ms);
		result.transfer_ms = (uint32_t)(now - t->ready_ms);
	} else {
		result.connect_ms = (uint32_t)(now - t->begun_ms);
	}
	t->states[recipient] = OUTBOUND_KNOWN;
	t->left--;
	metric_add(result_metric(verdict), 1);
	t->r.result(t->r.arg, recipient, &result);
}

void outbound_give_all(struct outbound_session *s, enum outbound_verdict verdict, unsigned code,
	const char *enhanced, const char *text)
{
	for (size_t i = 0; i < s->t->r.recipient_count; i++)
		outbound_give(s, i, verdict, code, enhanced, text);
}

/* ---- hops ---- */

static unsigned window_of(const struct outbound_hop *hop)
{
	return hop->window < 1 ? 1 : (unsigned)hop->window;
}

static void free_hop(struct outbound_hop *hop)
{
	(void)table_remove(hop->o->hops, slice_str(hop->name));
	timer_stop(&hop->unused);
	list_remove(&hop->crowded);
	mx_hosts_unref(&hop->hosts);
	mta_sts_policy_unref(&hop->policy);
	free(hop);
}

static void on_unused(void *arg)
{
	struct outbound_hop *hop = arg;

	if (!hop->tries && !hop->sessions)
		free_hop(hop);
}

static void perhaps_unused(struct outbound_hop *hop)
{
	if (!hop->o->is_over && !hop->tries && !hop->sessions)
		timer_set(&hop->unused, hop->o->loop, UNUSED_MS);
}

static struct outbound_hop *find_hop(struct outbound *o, const char *name, const struct outbound_route *route)
{
	struct outbound_hop *hop = table_get(o->hops, slice_str(name));
	size_t len = strlen(name);

	if (hop || table_count(o->hops) >= HOPS_MOST)
		return hop;
	hop = xcalloc(1, sizeof(*hop) + len + 1);
	hop->o = o;
	memcpy(hop->name, name, len + 1);
	list_init(&hop->crowded);
	list_init(&hop->waiting);
	list_init(&hop->idle);
	hop->window = route->window_first < route->window_most ? route->window_first : route->window_most;
	timer_init(&hop->unused, on_unused, hop);
	(void)table_put(o->hops, slice_str(hop->name), hop);
	return hop;
}

void outbound_fares(struct outbound_hop *hop, const struct outbound_route *route, bool well)
{
	hop->window = well ? hop->window + 1 / hop->window : hop->window / 2;
	if (hop->window > route->window_most)
		hop->window = route->window_most;
	if (hop->window < 1)
		hop->window = 1;
}

/* "example.com", or "route/NAME"; NULL: that route is no more. */
static const struct outbound_route *route_of(const struct outbound_settings *s, const char *next_hop)
{
	struct slice name = slice_str(next_hop);

	if (!slice_has_prefix(name, ROUTE_PREFIX))
		return &s->routes[0];
	name = slice_from(name, sizeof(ROUTE_PREFIX) - 1);
	return name.len ? outbound_settings_find(s, name) : NULL;
}

/* ---- sessions ---- */

static void free_session(void *arg)
{
	struct outbound_session *s = arg;

	outbound_settings_unref(&s->settings);
	mx_hosts_unref(&s->hosts);
	mta_sts_policy_unref(&s->policy);
	buf_deinit(&s->body);
	free(s->asked);
	free(s);
}

void outbound_session_end(struct outbound_session *s)
{
	struct outbound_hop *hop = s->hop;

	if (s->step == OUTBOUND_OVER)
		return;
	s->step = OUTBOUND_OVER;
	timer_stop(&s->idle);
	list_remove(&s->link);
	list_remove(&s->all);
	list_remove(&s->every);
	mx_lookup_cancel(&s->lookup);
	mta_sts_cancel(&s->sts);
	smtp_client_close(&s->client);
	hop->sessions--;
	hop->o->sessions--;
	perhaps_unused(hop);
	loop_defer(hop->o->loop, free_session, s);
}

static void on_idle(void *arg)
{
	outbound_session_end(arg);
}

static struct outbound_session *new_session(struct outbound_hop *hop)
{
	struct outbound *o = hop->o;
	struct outbound_session *s;
	const struct outbound_route *route;

	route = route_of(o->settings, hop->name);
	if (!route)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	list_init(&s->link);
	list_init(&s->all);
	list_add_last(&o->every, &s->every);
	s->hop = hop;
	s->settings = outbound_settings_ref(o->settings);
	s->route = route;
	timer_init(&s->idle, on_idle, s);
	hop->sessions++;
	o->sessions++;
	return s;
}

static void give_work(struct outbound_session *s, struct outbound_try *t)
{
	list_remove(&t->link);
	list_remove(&s->link);
	list_remove(&s->all);
	timer_stop(&s->idle);
	s->t = t;
	t->session = s;
	s->hop->busy++;
	s->was_reached = s->is_reused = s->client != NULL;
	s->has_answered = false;
	s->code = 0;
	s->is_for_good = s->was_temporary = false;
	s->tried = 0;
	if (s->client) {
		t->ready_ms = clock_mono_ms();
		t->begun_ms = t->ready_ms;
		outbound_send(s);
	} else {
		outbound_walk(s);
	}
}

/* An idle connection that will do for this try. */
static struct outbound_session *find_idle(struct outbound_hop *hop, const struct outbound_try *t)
{
	list_for_each (at, &hop->idle) {
		struct outbound_session *s = container_of(at, struct outbound_session, link);

		if (!t->r.requires_tls ||
			(s->trust >= OUTBOUND_VERIFIED && smtp_client_words(s->client)->requiretls))
			return s;
	}
	return NULL;
}

/* Room for one connection more: one that is idle elsewhere makes it. */
static bool has_room(struct outbound *o)
{
	if (o->sessions < o->settings->connections_most)
		return true;
	if (list_is_empty(&o->idle))
		return false;
	outbound_session_end(container_of(o->idle.next, struct outbound_session, all));
	return true;
}

/* The route has gone with a reload: the caller finds the next hop anew. */
static void fail_routeless(struct outbound_try *t)
{
	struct outbound_session none = {.t = t, .hop = t->hop};

	t->session = NULL;
	outbound_give_all(&none, OUTBOUND_NOT_NOW, 0, "4.3.5", "its route is no longer configured");
}

static void end_try(struct outbound_try *t);

/* Gives waiting tries what they need, as far as it goes. */
static void pump_hop(struct outbound_hop *hop)
{
	struct outbound *o = hop->o;

	while (!list_is_empty(&hop->waiting)) {
		struct outbound_try *t = container_of(hop->waiting.next, struct outbound_try, link);
		struct outbound_session *s = find_idle(hop, t);

		if (!s && (hop->busy >= window_of(hop) || !has_room(o)))
			return;
		if (!s)
			s = new_session(hop);
		if (s) {
			give_work(s, t);
		} else {
			fail_routeless(t);
			end_try(t);
		}
	}
	list_remove(&hop->crowded);
}

static void on_pump(void *arg)
{
	struct outbound *o = arg;
	struct list hops;

	o->is_pumping = false;
	list_init(&hops);
	list_move_all(&hops, &o->crowded);
	while (!list_is_empty(&hops)) {
		struct outbound_hop *hop = container_of(hops.next, struct outbound_hop, crowded);

		list_remove(&hop->crowded);
		list_add_last(&o->crowded, &hop->crowded);
		pump_hop(hop);
	}
}

static void pump(struct outbound *o)
{
	if (o->is_pumping || list_is_empty(&o->crowded))
		return;
	o->is_pumping = true;
	loop_defer(o->loop, on_pump, o);
}

/* ---- tries ---- */

static bool hop_has_room(const struct outbound_hop *hop)
{
	return hop->tries < 2 * window_of(hop);
}

static bool all_have_room(const struct outbound *o)
{
	return outbound_count(o) < 2 * o->settings->connections_most;
}

static void tell_room(struct outbound *o, struct outbound_hop *hop)
{
	if (o->is_over || !all_have_room(o))
		return;
	if (o->wants_room) {
		o->wants_room = false;
		o->room(o->room_arg, NULL);
	}
	if (hop->wants_room && hop_has_room(hop)) {
		hop->wants_room = false;
		o->room(o->room_arg, hop->name);
	}
}

static void drop_try(struct outbound_try *t)
{
	list_remove(&t->link);
	t->hop->tries--;
	atomic_fetch_sub_explicit(&t->hop->o->tries, 1, memory_order_relaxed);
	perhaps_unused(t->hop);
	free(t->states);
	loop_free_later(t->hop->o->loop, t);
}

static void end_try(struct outbound_try *t)
{
	struct outbound_hop *hop = t->hop;
	struct outbound *o = hop->o;
	struct outbound_facts facts = {t->is_unreachable, hop->name, t->reason};
	void (*done)(void *, const struct outbound_facts *) = t->r.done;
	void *arg = t->r.arg;

	hop->tries++; /* stays till the end of this function */
	drop_try(t);
	done(arg, &facts);
	hop->tries--;
	perhaps_unused(hop);
	tell_room(o, hop);
	pump(o);
}

static void rest(struct outbound_session *s)
{
	struct outbound_hop *hop = s->hop;
	const struct smtp_words *words = s->client ? smtp_client_words(s->client) : NULL;
	unsigned most = s->settings->messages_most;

	if (words && words->mail_most && words->mail_most < most)
		most = words->mail_most;
	if (!s->client || hop->o->is_over || s->messages >= most || !smtp_client_is_idle(s->client) ||
		s->settings != hop->o->settings ||
		(s->settings->idle_ms == 0 && list_is_empty(&hop->waiting))) {
		outbound_session_end(s);
		return;
	}
	s->step = OUTBOUND_IDLE;
	list_add_first(&hop->idle, &s->link);
	list_add_last(&hop->o->idle, &s->all);
	timer_set(&s->idle, hop->o->loop, s->settings->idle_ms);
}

void outbound_done(struct outbound_session *s)
{
	struct outbound_try *t = s->t;

	s->t = NULL;
	s->hop->busy--;
	buf_deinit(&s->body);
	outbound_fares(s->hop, s->route, s->was_reached);
	rest(s);
	end_try(t);
}

int outbound_start(struct outbound *o, const struct outbound_request *request, struct outbound_try **try_out)
{
	const struct outbound_route *route = route_of(o->settings, request->next_hop);
	struct outbound_hop *hop;
	struct outbound_try *t;

	if (o->is_over)
		return ERR_CANCELLED;
	if (request->recipient_count == 0 || request->recipient_count > OUTBOUND_RECIPIENTS_MOST)
		return ERR_TOO_BIG;
	if (!route)
		return ERR_NOT_FOUND;
	hop = find_hop(o, request->next_hop, route);
	if (!hop || !all_have_room(o)) {
		o->wants_room = true;
		return ERR_NOT_NOW;
	}
	if (!hop_has_room(hop)) {
		hop->wants_room = true;
		return ERR_NOT_NOW;
	}
	t = xcalloc(1, sizeof(*t));
	t->hop = hop;
	t->r = *request;
	t->states = xcalloc(request->recipient_count, 1);
	t->left = request->recipient_count;
	t->begun_ms = clock_mono_ms();
	timer_stop(&hop->unused);
	hop->tries++;
	atomic_fetch_add_explicit(&o->tries, 1, memory_order_relaxed);
	list_add_last(&hop->waiting, &t->link);
	if (list_is_empty(&hop->crowded))
		list_add_last(&o->crowded, &hop->crowded);
	pump(o);
	*try_out = t;
	return 0;
}

void outbound_cancel(struct outbound_try **try)
{
	struct outbound_try *t = *try;
	struct outbound_hop *hop;

	*try = NULL;
	if (!t)
		return;
	hop = t->hop;
	if (t->session) {
		t->session->t = NULL;
		hop->busy--;
		outbound_session_end(t->session);
	}
	drop_try(t);
	pump(hop->o);
}

/* ---- next hops ---- */

static struct outbound_settings *settings_ref(struct outbound *o)
{
	struct outbound_settings *s;

	pthread_mutex_lock(&o->lock);
	s = outbound_settings_ref(o->settings);
	pthread_mutex_unlock(&o->lock);
	return s;
}

int outbound_next_hop(struct outbound *o, struct slice domain, char next_hop[OUTBOUND_NEXT_HOP_MAX])
{
	struct outbound_settings *s;
	const struct outbound_route *route;
	bool is_literal = domain.len > 2 && domain.p[0] == '[' && domain.p[domain.len - 1] == ']';
	struct slice normal = domain;
	struct arena arena;
	int n, err = 0;

	arena_init(&arena, 4096);
	if (!is_literal)
		err = address_normalise_domain(&arena, domain, &normal);
	if (!err) {
		s = settings_ref(o);
		route = outbound_settings_route(s, normal);
		n = *route->name ? snprintf(next_hop, OUTBOUND_NEXT_HOP_MAX, ROUTE_PREFIX "%s", route->name)
				 : snprintf(next_hop, OUTBOUND_NEXT_HOP_MAX, "%.*s", SLICE_ARG(normal));
		err = n < 0 || n >= OUTBOUND_NEXT_HOP_MAX ? ERR_TOO_BIG : 0;
		outbound_settings_unref(&s);
	}
	arena_deinit(&arena);
	return err;
}

/* ---- life ---- */

int outbound_new(struct loop *loop, const struct conf *conf, const char *host_name, const char *folder,
	outbound_room_fn *room, void *room_arg, struct buf *why, struct outbound **outbound_out)
{
	struct outbound *o;
	struct outbound_settings *s;
	struct buf path = {0};
	int err = outbound_settings_new(conf, host_name, why, &s);

	if (err)
		return err;
	o = xcalloc(1, sizeof(*o));
	o->loop = loop;
	pthread_mutex_init(&o->lock, NULL);
	o->settings = s;
	o->hops = table_new();
	list_init(&o->crowded);
	list_init(&o->idle);
	list_init(&o->every);
	o->room = room;
	o->room_arg = room_arg;
	if (folder)
		buf_printf(&path, "%s/mta-sts", folder);
	o->sts = mta_sts_new(loop, folder ? buf_str_view(&path) : NULL);
	buf_clear(&path);
	if (folder)
		buf_printf(&path, "%s/tls-report", folder);
	o->report = tls_report_new(loop, folder ? buf_str_view(&path) : NULL);
	buf_deinit(&path);
	err = work_pool_new("smarthost_login", 1, LOGINS_MOST, &o->logins);
	if (err) {
		buf_printf(why, "no thread for logins: %s", error_text(err));
		outbound_free(&o);
		return err;
	}
	*outbound_out = o;
	return 0;
}

struct change {
	struct outbound *o;
	struct outbound_settings *settings;
};

/* Other hosts, or other addresses of them, may be asked for now. */
static void forget_hosts(struct outbound *o)
{
	struct slice key;
	size_t at = 0;
	void *value;

	while (table_next(o->hops, &at, &key, &value)) {
		struct outbound_hop *hop = value;

		mx_hosts_unref(&hop->hosts);
		mta_sts_policy_unref(&hop->policy);
	}
}

static void put_in_force(void *arg)
{
	struct change *change = arg;
	struct outbound *o = change->o;
	struct outbound_settings *old = o->settings;

	pthread_mutex_lock(&o->lock);
	o->settings = change->settings;
	pthread_mutex_unlock(&o->lock);
	outbound_settings_unref(&old);
	free(change);
	forget_hosts(o);
	while (!list_is_empty(&o->idle))
		outbound_session_end(container_of(o->idle.next, struct outbound_session, all));
}

int outbound_set_config(struct outbound *o, const struct conf *conf, const char *host_name, struct buf *why)
{
	struct change *change;
	struct outbound_settings *s;
	int err = outbound_settings_new(conf, host_name, why, &s);

	if (err)
		return err;
	change = xmalloc(sizeof(*change));
	*change = (struct change){o, s};
	loop_post(o->loop, put_in_force, change);
	return 0;
}

static void end_now(void *arg)
{
	struct outbound *o = arg;
	struct slice key;
	size_t at = 0;
	void *value;

	o->is_over = true;
	while (!list_is_empty(&o->idle))
		outbound_session_end(container_of(o->idle.next, struct outbound_session, all));
	/* What is under way has a deadline each; what waits ends here. */
	while (table_next(o->hops, &at, &key, &value)) {
		struct outbound_hop *hop = value;

		while (!list_is_empty(&hop->waiting)) {
			struct outbound_try *t = container_of(hop->waiting.next, struct outbound_try, link);
			struct outbound_session none = {.t = t, .hop = hop};

			outbound_give_all(&none, OUTBOUND_NOT_NOW, 0, "4.3.2", "the server is being stopped");
			end_try(t);
		}
	}
}

/* The hops stay for outbound_free(), which may come after the loop: no timer of theirs may stand in it then. */
static void stop_timers(struct outbound *o)
{
	struct slice key;
	size_t at = 0;
	void *value;

	while (table_next(o->hops, &at, &key, &value))
		timer_stop(&((struct outbound_hop *)value)->unused);
}

static void cut_now(void *arg)
{
	struct outbound *o = arg;

	end_now(o);
	while (!list_is_empty(&o->every)) {
		struct outbound_session *s = container_of(o->every.next, struct outbound_session, every);
		struct outbound_try *t = s->t;

		if (t) {
			outbound_give_all(s, OUTBOUND_NOT_NOW, 0, "4.3.2", "the server is being stopped");
			s->t = NULL;
			s->hop->busy--;
		}
		outbound_session_end(s);
		if (t)
			end_try(t);
	}
	stop_timers(o);
	mta_sts_end(o->sts);
	tls_report_end(o->report);
	work_pool_end(o->logins);
}

struct tls_report *outbound_tls_report(struct outbound *o)
{
	return o->report;
}

void outbound_end(struct outbound *o)
{
	loop_post(o->loop, end_now, o);
}

void outbound_cut(struct outbound *o)
{
	loop_post(o->loop, cut_now, o);
}

unsigned outbound_count(const struct outbound *o)
{
	return atomic_load_explicit(&o->tries, memory_order_relaxed);
}

void outbound_free(struct outbound **outbound)
{
	struct outbound *o = *outbound;
	struct slice key;
	size_t at = 0;
	void *value;

	*outbound = NULL;
	if (!o)
		return;
	while (table_next(o->hops, &at, &key, &value))
		free_hop(value);
	table_free(&o->hops);
	mta_sts_free(&o->sts);
	tls_report_free(&o->report);
	work_pool_free(&o->logins);
	outbound_settings_unref(&o->settings);
	pthread_mutex_destroy(&o->lock);
	free(o);
}
