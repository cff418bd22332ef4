/*
 * Listening sockets. A `part` lives on one loop and owns one socket; the listener is counted by its parts and
 * by the connections that it has open. TCP_NODELAY is set on the listening socket, whence Linux hands it down
 * to each accepted one.
 *
 * How many are accepted in one go doubles while the queue does not run empty: a single connection costs one
 * accept4(2), a storm is taken in bursts.
 */
#include "common/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/net/conn_private.h"
#include "common/net/inherit.h"
#include "common/net/listen_socket.h"

#define BURST_MOST 64
#define PAUSE_MS 100
#define LOG_MS 10000 /* between two lines on refused connections */

/* Why connections are closed at once. */
enum refusal {
	REFUSED_DESCRIPTORS,
	REFUSED_RULE,
	REFUSED_CONNECTIONS,
	REFUSED_NEW,
	REFUSED_PEER_CONNECTIONS,
	REFUSED_PEER_NEW,
	REFUSED_HEADER,
	REFUSALS
};
static const char *const refusal_names[REFUSALS] = {[REFUSED_DESCRIPTORS] = "descriptors",
	[REFUSED_RULE] = "rule",
	[REFUSED_CONNECTIONS] = "connections",
	[REFUSED_NEW] = "new-connections",
	[REFUSED_PEER_CONNECTIONS] = "peer-connections",
	[REFUSED_PEER_NEW] = "peer-new-connections",
	[REFUSED_HEADER] = "proxy-header"};
static const enum refusal refusal_of_flow[] = {[FLOW_CONNECTIONS] = REFUSED_CONNECTIONS,
	[FLOW_NEW_CONNECTIONS] = REFUSED_NEW,
	[FLOW_PEER_CONNECTIONS] = REFUSED_PEER_CONNECTIONS,
	[FLOW_PEER_NEW_CONNECTIONS] = REFUSED_PEER_NEW};

struct part {
	struct loop_io io;
	struct loop *loop;
	struct listener *listener;
	struct tls *tls;
	struct listener_policy *policy;
	struct timer pause;
	int fd;
	int reserve; /* given up for a moment when descriptors are exhausted, so that a client can be told */
	unsigned burst;
	bool is_starved;
};

struct listener {
	struct list link;   /* of all that are open */
	bool is_held;       /* opened, and waits for listener_begin_all() */
	bool is_stopped;    /* its sockets have gone, or will at once */
	bool has_inherited; /* some of its sockets were another program's */
	atomic_uint refs;   /* the caller, parts, connections */
	atomic_uint open;
	struct flow *flows[LISTENER_LEVELS];
	listener_fn *fn;
	void *arg;
	char *name;
	struct addr addr;
	struct metric *accepted, *refused[REFUSALS], *open_gauge;
	_Atomic uint64_t quiet_until_ms; /* no further line on refused connections until then */
	_Atomic uint64_t unsaid;         /* refused since the last line */
	unsigned parts_count;
	struct part parts[];
};

/* All open listeners, for a hand-over. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list all = {&all, &all};
static bool is_holding;

/* ---- policies ---- */

struct listener_policy *listener_policy_new(void)
{
	struct listener_policy *policy = xcalloc(1, sizeof(*policy));

	atomic_store(&policy->refs, 1);
	return policy;
}

struct listener_policy *listener_policy_ref(struct listener_policy *policy)
{
	atomic_fetch_add(&policy->refs, 1);
	return policy;
}

void listener_policy_unref(struct listener_policy **policy)
{
	struct listener_policy *p = *policy;

	*policy = NULL;
	if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	for (size_t i = 0; i < LISTENER_LEVELS; i++)
		access_rules_free(&p->access[i]);
	free(p->proxy_networks);
	free(p);
}

static bool is_balancer(const struct listener_policy *policy, const struct addr *peer)
{
	for (size_t i = 0; i < policy->proxy_network_count; i++)
		if (addr_net_has(&policy->proxy_networks[i], peer))
			return true;
	return false;
}

static bool is_allowed(const struct listener_policy *policy, const struct addr *peer)
{
	return access_is_allowed((const struct access_rules *const *)policy->access, LISTENER_LEVELS, peer);
}

/* ---- life ---- */

static void listener_unref(struct listener *l)
{
	if (atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	for (size_t i = 0; i < LISTENER_LEVELS; i++)
		flow_unref(&l->flows[i]);
	for (unsigned i = 0; i < l->parts_count; i++)
		listener_policy_unref(&l->parts[i].policy);
	free(l->name);
	free(l);
}

void listener_gone(struct listener *l, const struct conn *c)
{
	/* Flows count who has been let in: not those whose PROXY header is still awaited. */
	if (c->is_in_flows) {
		const struct addr *peer = conn_peer(c);

		for (unsigned i = 0; i < LISTENER_LEVELS; i++)
			if (l->flows[i])
				flow_leave(l->flows[i], peer, c->flows >> i & 1);
	}
	atomic_fetch_sub(&l->open, 1);
	metric_add(l->open_gauge, -1);
	listener_unref(l);
}

/* ---- who is let in ---- */

/* Counted each, logged once in a while: an attacker must not write our log. */
static void note_refusal(struct listener *l, enum refusal refusal, const struct addr *peer, uint64_t now_ms)
{
	uint64_t quiet_until = atomic_load_explicit(&l->quiet_until_ms, memory_order_relaxed);
	char text[ADDR_TEXT_MAX];

	metric_add(l->refused[refusal], 1);
	atomic_fetch_add_explicit(&l->unsaid, 1, memory_order_relaxed);
	if (now_ms < quiet_until ||
		!atomic_compare_exchange_strong(&l->quiet_until_ms, &quiet_until, now_ms + LOG_MS))
		return;
	log_warn("net", "connections are refused listener=%s reason=%s peer=%s count=%llu", l->name,
		refusal_names[refusal], addr_host(peer, text),
		(unsigned long long)atomic_exchange_explicit(&l->unsaid, 0, memory_order_relaxed));
}

/* All scopes or none. */
static enum flow_answer enter_flows(
	struct listener *l, const struct addr *peer, uint64_t now_ms, uint8_t *flows_out)
{
	uint8_t counted = 0;

	for (unsigned i = 0; i < LISTENER_LEVELS; i++) {
		bool is_counted = false;
		enum flow_answer answer =
			l->flows[i] ? flow_enter(l->flows[i], peer, now_ms, &is_counted) : FLOW_TAKEN;

		if (answer != FLOW_TAKEN) {
			while (i-- > 0)
				if (l->flows[i])
					flow_cancel(l->flows[i], peer, counted >> i & 1);
			return answer;
		}
		counted |= (uint8_t)(is_counted << i);
	}
	*flows_out = counted;
	return FLOW_TAKEN;
}

/* Rules and flow control for that peer; false: refused, noted. */
static bool let_in(struct part *part, const struct addr *peer, uint8_t *flows_out)
{
	uint64_t now_ms = loop_now_ms(part->loop);
	enum flow_answer answer;

	if (!is_allowed(part->policy, peer)) {
		note_refusal(part->listener, REFUSED_RULE, peer, now_ms);
		return false;
	}
	answer = enter_flows(part->listener, peer, now_ms, flows_out);
	if (answer != FLOW_TAKEN)
		note_refusal(part->listener, refusal_of_flow[answer], peer, now_ms);
	return answer == FLOW_TAKEN;
}

static void cancel_flows(struct listener *l, const struct addr *peer, uint8_t flows)
{
	for (unsigned i = 0; i < LISTENER_LEVELS; i++)
		if (l->flows[i])
			flow_cancel(l->flows[i], peer, flows >> i & 1);
}

static void on_header(struct conn *c, int error)
{
	struct listener *l = c->listener;
	struct part *part = &l->parts[c->part];
	const struct addr *peer = conn_peer(c);
	uint8_t flows = 0;

	if (error)
		note_refusal(l, REFUSED_HEADER, peer, loop_now_ms(c->loop));
	if (error || !let_in(part, peer, &flows)) {
		conn_destroy(c);
		return;
	}
	c->flows = flows & 7;
	c->is_in_flows = true;
	conn_schedule(c); /* what came behind the header */
	l->fn(l->arg, c);
}

/* ---- accepting ---- */

static bool open_conn(struct part *part, int fd, const struct sockaddr_storage *ss, bool awaits_header,
	struct conn **conn_out)
{
	struct listener *l = part->listener;
	struct conn *c;

	if (conn_open_accepted(part->loop, fd, awaits_header ? NULL : part->tls, ss, NULL, NULL, &c) != 0)
		return false;
	atomic_fetch_add(&l->refs, 1);
	atomic_fetch_add(&l->open, 1);
	c->listener = l;
	c->part = (uint16_t)(part - l->parts);
	metric_add(l->accepted, 1);
	metric_add(l->open_gauge, 1);
	*conn_out = c;
	return true;
}

static void take(struct part *part, int fd, const struct sockaddr_storage *ss, socklen_t len)
{
	struct listener *l = part->listener;
	const struct listener_policy *policy = part->policy;
	struct addr peer = {.len = len, .ss = *ss};
	bool awaits_header = policy->proxy != LISTENER_PROXY_OFF && is_balancer(policy, &peer);
	uint8_t flows = 0;
	struct conn *c;

	if (policy->proxy == LISTENER_PROXY_REQUIRED && !awaits_header) {
		note_refusal(l, REFUSED_HEADER, &peer, loop_now_ms(part->loop));
		close(fd);
		return;
	}
	if (!awaits_header && !let_in(part, &peer, &flows)) {
		close(fd);
		return;
	}
	if (!open_conn(part, fd, ss, awaits_header, &c)) {
		if (!awaits_header)
			cancel_flows(l, &peer, flows);
		note_refusal(l, REFUSED_DESCRIPTORS, &peer, loop_now_ms(part->loop));
		close(fd);
		return;
	}
	if (awaits_header) {
		conn_told_begin(c, policy->proxy_timeout_ms, part->tls, on_header);
		return;
	}
	c->flows = flows & 7;
	c->is_in_flows = true;
	l->fn(l->arg, c);
}

static void on_pause_over(void *arg)
{
	struct part *part = arg;

	loop_io_change(part->loop, part->fd, EPOLLIN, &part->io);
}

/* No descriptors: one client is let in by the reserve and closed at once, then we wait a little. */
static void starve(struct part *part)
{
	if (!part->is_starved)
		log_error("net", "no descriptors left, accepting pauses listener=%s", part->listener->name);
	part->is_starved = true;
	if (part->reserve >= 0) {
		int fd;

		close(part->reserve);
		fd = accept4(part->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			close(fd);
			metric_add(part->listener->refused[REFUSED_DESCRIPTORS], 1);
		}
		part->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	loop_io_change(part->loop, part->fd, 0, &part->io);
	timer_set(&part->pause, part->loop, PAUSE_MS);
}

/* One connection; false when there is none now. */
static bool accept_one(struct part *part)
{
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof(peer);
	int fd = accept4(part->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		part->is_starved = false;
		take(part, fd, &peer, len);
		return true;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		starve(part);
	/* A connection that died in the queue is no reason to stop. */
	return errno == ECONNABORTED || errno == EINTR;
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct part *part = container_of(io, struct part, io);

	(void)events;
	for (unsigned i = 0; i < part->burst; i++) {
		if (part->fd < 0)
			return; /* a callback closed it */
		if (!accept_one(part)) {
			part->burst = 1;
			return;
		}
	}
	if (part->burst < BURST_MOST)
		part->burst *= 2;
}

/* ---- opening ---- */

static struct metric *refusal_metric(struct buf *labels, const char *reason)
{
	size_t len = buf_len(labels);
	struct metric *metric;

	buf_printf(labels, ",reason=\"%s\"", reason);
	metric = metrics_counter("mailtier_net_connections_refused", buf_str_view(labels),
		"Connections closed at once, by reason.");
	buf_cut(labels, len);
	return metric;
}

static struct listener *listener_new(
	const struct listener_options *options, unsigned parts, listener_fn *fn, void *arg)
{
	struct listener *l = xcalloc(1, sizeof(*l) + parts * sizeof(l->parts[0]));
	struct buf labels = {0};

	list_init(&l->link);
	l->refs = 1;
	for (size_t i = 0; i < LISTENER_LEVELS; i++)
		l->flows[i] = flow_ref(options->flows[i]);
	if (options->connections_most) {
		l->flows[LISTENER_OWN] = flow_new();
		flow_set_limits(l->flows[LISTENER_OWN],
			&(struct flow_limits){.connections = options->connections_most});
	}
	l->fn = fn;
	l->arg = arg;
	l->name = xstrdup(options->name ? options->name : "listener");
	l->addr = options->addr;
	buf_add_str(&labels, "listener=\"");
	metrics_escape_label(&labels, slice_str(l->name));
	buf_add_str(&labels, "\"");
	l->accepted = metrics_counter(
		"mailtier_net_connections_accepted", buf_str_view(&labels), "Connections accepted.");
	for (size_t i = 0; i < REFUSALS; i++)
		l->refused[i] = refusal_metric(&labels, refusal_names[i]);
	l->open_gauge = metrics_gauge(
		"mailtier_net_connections_open", buf_str_view(&labels), "Connections open now.");
	buf_deinit(&labels);
	return l;
}

static int share_socket(struct listener *l, struct buf *why, int *fd_out)
{
	*fd_out = fcntl(l->parts[0].fd, F_DUPFD_CLOEXEC, 0);
	return *fd_out < 0 ? listen_socket_fail(why, &l->addr, "cannot duplicate") : 0;
}

/*
 * An inherited socket; else one of our own. A unix path can be bound once: the loops share its queue. So do loops that an
 * inherited address has no socket for, when we may not bind it (a port below 1024, the user has changed).
 */
static int get_socket(
	struct listener *l, const struct listener_options *options, struct buf *why, int *fd_out)
{
	bool is_first = l->parts_count == 0;
	struct buf ignored = {0};
	int rc;

	*fd_out = inherit_take_give(&l->addr);
	if (*fd_out >= 0) {
		l->has_inherited = true;
		return 0;
	}
	if (!is_first && listen_socket_is_unix(&l->addr))
		return share_socket(l, why, fd_out);
	if (!l->has_inherited)
		return listen_socket_open(
			&l->addr, options->unix_mode, options->backlog, is_first, why, fd_out);
	rc = listen_socket_open(&l->addr, options->unix_mode, options->backlog, false, &ignored, fd_out);
	buf_deinit(&ignored);
	return rc ? share_socket(l, why, fd_out) : 0;
}

/* Sockets first, all of them; the loops get them when nothing can fail any more. */
static int add_part(
	struct listener *l, const struct listener_options *options, struct loop *loop, struct buf *why)
{
	struct part *part = &l->parts[l->parts_count];
	int rc = get_socket(l, options, why, &part->fd);

	if (rc)
		return rc;
	if (!listen_socket_is_unix(&l->addr) && addr_port(&l->addr) == 0) {
		l->addr.len = sizeof(l->addr.ss);
		getsockname(part->fd, (struct sockaddr *)&l->addr.ss, &l->addr.len);
	}
	part->io.fn = on_io;
	part->loop = loop;
	part->listener = l;
	part->tls = tls_ref(options->tls);
	part->policy = options->policy ? listener_policy_ref(options->policy) : listener_policy_new();
	part->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	part->burst = 1;
	timer_init(&part->pause, on_pause_over, part);
	l->parts_count++;
	return 0;
}

static void close_part(struct part *part)
{
	if (part->fd >= 0)
		close(part->fd);
	if (part->reserve >= 0)
		close(part->reserve);
	part->fd = part->reserve = -1;
	tls_unref(&part->tls);
	/* The policy stays until the listener's end: connections whose PROXY header is awaited are judged by it. */
}

static void start_part(void *arg)
{
	struct part *part = arg;

	if (loop_io_start(part->loop, part->fd, EPOLLIN, &part->io) != 0)
		log_error("net", "a listening socket could not be watched listener=%s", part->listener->name);
}

static void start_parts(struct listener *l)
{
	l->is_held = false;
	for (unsigned i = 0; i < l->parts_count; i++)
		loop_post(l->parts[i].loop, start_part, &l->parts[i]);
}

/* Each loop has a socket, and each inherited socket a loop: there may be more of either. */
static int open_on_loops(struct loop **loops, unsigned count, const struct listener_options *options,
	listener_fn *fn, void *arg, struct buf *why, struct listener **listener_out)
{
	unsigned inherited = inherit_count(&options->addr);
	unsigned parts = inherited > count ? inherited : count;
	struct listener *l = listener_new(options, parts, fn, arg);
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < parts; i++)
		rc = add_part(l, options, loops[i % count], why);
	if (rc) {
		for (unsigned i = 0; i < l->parts_count; i++)
			close_part(&l->parts[i]);
		listener_unref(l);
		return rc;
	}
	*listener_out = l;
	atomic_fetch_add(&l->refs, parts);
	pthread_mutex_lock(&all_lock);
	list_add_last(&all, &l->link);
	l->is_held = is_holding;
	pthread_mutex_unlock(&all_lock);
	if (!l->is_held)
		start_parts(l);
	return 0;
}

int listener_open(struct loop_group *group, const struct listener_options *options, listener_fn *fn,
	void *arg, struct buf *why, struct listener **listener_out)
{
	unsigned count = loop_group_count(group);
	struct loop **loops = xcalloc(count, sizeof(struct loop *));
	int rc;

	for (unsigned i = 0; i < count; i++)
		loops[i] = loop_group_at(group, i);
	rc = open_on_loops(loops, count, options, fn, arg, why, listener_out);
	free(loops);
	return rc;
}

int listener_open_on(struct loop *loop, const struct listener_options *options, listener_fn *fn, void *arg,
	struct buf *why, struct listener **listener_out)
{
	return open_on_loops(&loop, 1, options, fn, arg, why, listener_out);
}

const struct addr *listener_addr(const struct listener *l)
{
	return &l->addr;
}

unsigned listener_connections(const struct listener *l)
{
	return atomic_load(&l->open);
}

/* ---- changes, on the loops of the parts ---- */

struct change {
	struct part *part;
	struct tls *tls;
	struct listener_policy *policy; /* NULL: it is tls that changes */
};

static void make_change(void *arg)
{
	struct change *change = arg;
	struct part *part = change->part;

	if (change->policy) {
		struct listener_policy *old = part->policy;

		part->policy = change->policy;
		change->policy = old;
	} else if (part->fd >= 0) {
		struct tls *old = part->tls;

		part->tls = change->tls;
		change->tls = old;
	}
	tls_unref(&change->tls);
	listener_policy_unref(&change->policy);
	listener_unref(part->listener);
	free(change);
}

static void post_change(struct listener *l, struct tls *tls, struct listener_policy *policy)
{
	for (unsigned i = 0; i < l->parts_count; i++) {
		struct change *change = xmalloc(sizeof(*change));

		change->part = &l->parts[i];
		change->tls = tls_ref(tls);
		change->policy = policy ? listener_policy_ref(policy) : NULL;
		atomic_fetch_add(&l->refs, 1);
		loop_post(l->parts[i].loop, make_change, change);
	}
}

void listener_set_tls(struct listener *l, struct tls *tls)
{
	post_change(l, tls, NULL);
}

void listener_set_policy(struct listener *l, struct listener_policy *policy)
{
	post_change(l, NULL, policy);
}

static void close_stopped(struct part *part)
{
	timer_stop(&part->pause);
	loop_io_stop(part->loop, part->fd, &part->io);
	close_part(part);
	listener_unref(part->listener);
}

static void stop_part(void *arg)
{
	struct part *part = arg;

	timer_stop(&part->pause);
	while (part->fd >= 0 && accept_one(part))
		;
	close_stopped(part);
}

static void release_part(void *arg)
{
	close_stopped(arg);
}

static void stop_parts(struct listener *l, loop_fn *fn)
{
	if (l->is_stopped)
		return;
	l->is_stopped = true;
	pthread_mutex_lock(&all_lock);
	list_remove(&l->link);
	pthread_mutex_unlock(&all_lock);
	for (unsigned i = 0; i < l->parts_count; i++)
		loop_post(l->parts[i].loop, fn, &l->parts[i]);
}

void listener_stop(struct listener *l)
{
	if (l->is_held) { /* the queue is still the other program's */
		stop_parts(l, release_part);
		return;
	}
	if (!l->is_stopped && listen_socket_is_unix(&l->addr))
		unlink(((const struct sockaddr_un *)&l->addr.ss)->sun_path);
	stop_parts(l, stop_part);
}

void listener_release(struct listener *l)
{
	stop_parts(l, release_part);
}

void listener_close(struct listener **listener)
{
	struct listener *l = *listener;

	if (!l)
		return;
	*listener = NULL;
	listener_stop(l);
	listener_unref(l);
}

/*
 * A filter of the socket that drops segments with SYN and without ACK: nobody new comes into the queue, while those whose
 * handshake has begun come through. A client's system tries again in a second and meets a closed port, or another program.
 * skb->data is the TCP header there; byte 13 holds the flags (RFC 9293 section 3.1).
 */
void listener_refuse(struct listener *l)
{
	static const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog filter = {
		ARRAY_LEN(code), (struct sock_filter *)(uintptr_t)(const void *)code};

	if (listen_socket_is_unix(&l->addr) || l->is_stopped)
		return;
	for (unsigned i = 0; i < l->parts_count; i++) {
		if (setsockopt(l->parts[i].fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) != 0)
			log_debug("net", "no filter on a listening socket listener=%s errno=%d", l->name,
				errno);
	}
}

/* ---- hand-over ---- */

void listener_hold_all(void)
{
	is_holding = true;
}

void listener_begin_all(void)
{
	pthread_mutex_lock(&all_lock);
	is_holding = false;
	list_for_each (at, &all) {
		struct listener *l = container_of(at, struct listener, link);

		if (l->is_held)
			start_parts(l);
	}
	pthread_mutex_unlock(&all_lock);
}

void listener_release_all(listener_keep_fn *keeps, void *arg)
{
	struct list gone;

	list_init(&gone);
	pthread_mutex_lock(&all_lock);
	list_for_each_safe (at, &all) {
		struct listener *l = container_of(at, struct listener, link);

		if (keeps(arg, &l->addr))
			continue;
		list_remove(at);
		list_add_last(&gone, at);
	}
	pthread_mutex_unlock(&all_lock);
	list_for_each_safe (at, &gone)
		listener_release(container_of(at, struct listener, link));
}

void listener_each_socket(listener_socket_fn *fn, void *arg)
{
	pthread_mutex_lock(&all_lock);
	list_for_each (at, &all) {
		struct listener *l = container_of(at, struct listener, link);
		unsigned count = listen_socket_is_unix(&l->addr) ? 1 : l->parts_count;

		for (unsigned i = 0; i < count; i++)
			fn(arg, &l->addr, l->parts[i].fd);
	}
	pthread_mutex_unlock(&all_lock);
}
