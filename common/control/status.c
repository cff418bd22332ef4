/*
 * The status listener. Pages are made when they are asked for; a connection is answered in order and closed
 * after a fault, a last request, or STATUS_IDLE_MS.
 */
#include "common/control/status.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/net/conn.h"
#include "common/net/listener.h"
#include "common/net/timer.h"
#include "common/proto/http1.h"

#define STATUS_IDLE_MS 15000
#define STATUS_CONNECTIONS_MOST 64
#define STATUS_PAGE_MOST (16u * 1024 * 1024)

struct status {
	struct loop *loop;
	status_ready_fn *ready;
	void *arg;
	struct listener **listeners;
	size_t listener_count;
	struct addr_net *allowed;
	size_t allowed_count;
	struct list peers;
	atomic_bool is_draining;
	bool is_closing;
};

struct status_peer {
	struct list link;
	struct status *status;
	struct conn *conn;
	struct timer timer;
	bool has_ended;
};

static void peer_close(struct status_peer *peer)
{
	timer_stop(&peer->timer);
	list_remove(&peer->link);
	conn_close(&peer->conn);
	loop_free_later(peer->status->loop, peer);
}

static void on_idle(void *arg)
{
	peer_close(arg);
}

/* One page: its status code, body and type. */
struct page {
	unsigned code;
	const char *type;
	struct buf body;
};

static void make_page(struct status *status, const struct http1_request *request, struct page *page)
{
	bool is_get = slice_is_str(request->method, "GET") || slice_is_str(request->method, "HEAD");

	page->type = "text/plain; charset=utf-8";
	page->code = 200;
	if (!is_get) {
		page->code = 405;
	} else if (slice_is_str(request->path, "/metrics")) {
		page->type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
		metrics_render(&page->body);
	} else if (slice_is_str(request->path, "/health")) {
		buf_add_str(&page->body, "ok\n");
	} else if (slice_is_str(request->path, "/ready")) {
		bool draining = atomic_load(&status->is_draining);

		if (draining)
			buf_add_str(&page->body, "draining");
		if (draining || (status->ready && !status->ready(status->arg, &page->body)))
			page->code = 503;
		else
			buf_add_str(&page->body, "ready");
		buf_add_char(&page->body, '\n');
	} else {
		page->code = 404;
	}
	if (page->code >= 400 && page->code != 503)
		buf_printf(&page->body, "%s\n", http1_reason(page->code));
}

static void answer(struct status_peer *peer, const struct http1_request *request, unsigned fault)
{
	bool keep = fault == 0 && request->keep_alive && !request->has_body;
	struct page page = {.code = fault, .type = "text/plain; charset=utf-8"};
	struct buf head = {0};

	buf_init(&page.body, STATUS_PAGE_MOST);
	if (fault)
		buf_printf(&page.body, "%s\n", http1_reason(fault));
	else
		make_page(peer->status, request, &page);
	http1_write_head(&head, page.code, page.type, buf_len(&page.body), keep);
	conn_write(peer->conn, buf_view(&head));
	if (fault || !slice_is_str(request->method, "HEAD"))
		conn_write_take(peer->conn, &page.body);
	buf_deinit(&head);
	buf_deinit(&page.body);
	if (!keep)
		peer_close(peer);
}

static void peer_advance(struct status_peer *peer)
{
	for (;;) {
		struct http1_request request = {0};
		ssize_t n = http1_parse_request(conn_input(peer->conn), &request);
		bool ends = n < 0 || !request.keep_alive || request.has_body;

		if (n == 0)
			break;
		if (conn_is_congested(peer->conn)) {
			conn_want_drained(peer->conn);
			return;
		}
		if (n < 0)
			answer(peer, &request, n == ERR_TOO_BIG ? 431 : 400);
		else
			answer(peer, &request, 0);
		if (ends)
			return;
		conn_consume(peer->conn, (size_t)n);
		timer_set(&peer->timer, peer->status->loop, STATUS_IDLE_MS);
	}
	if (peer->has_ended)
		peer_close(peer);
}

static void on_conn(void *owner, struct conn *conn, enum conn_event event)
{
	struct status_peer *peer = owner;

	(void)conn;
	switch (event) {
	case CONN_OPENED:
	case CONN_SECURED:
		break;
	case CONN_DATA:
	case CONN_DRAINED:
		peer_advance(peer);
		break;
	case CONN_EOF:
		peer->has_ended = true;
		peer_advance(peer);
		break;
	case CONN_FAILED:
		peer_close(peer);
		break;
	}
}

static void on_accept(void *arg, struct conn *conn_take)
{
	struct status *status = arg;
	struct status_peer *peer;
	bool ok = false;

	for (size_t i = 0; i < status->allowed_count && !ok; i++)
		ok = addr_net_has(&status->allowed[i], conn_peer(conn_take));
	if (status->is_closing) {
		conn_abort(&conn_take);
		return;
	}
	if (!ok) {
		char text[ADDR_TEXT_MAX];

		log_warn("status", "refuses a client outside of status.allow peer=%s",
			addr_host(conn_peer(conn_take), text));
		conn_abort(&conn_take);
		return;
	}
	peer = xcalloc(1, sizeof(*peer));
	peer->status = status;
	peer->conn = conn_take;
	timer_init(&peer->timer, on_idle, peer);
	timer_set(&peer->timer, status->loop, STATUS_IDLE_MS);
	list_add_last(&status->peers, &peer->link);
	conn_set_owner(conn_take, on_conn, peer);
}

static int read_networks(struct status *status, const struct conf *conf)
{
	const char *const *words = conf_get_list(conf, "status", NULL, "allow", &status->allowed_count);

	status->allowed = xcalloc(status->allowed_count + 1, sizeof(*status->allowed));
	for (size_t i = 0; i < status->allowed_count; i++) {
		int error = addr_net_parse(slice_str(words[i]), &status->allowed[i]);

		if (error)
			return error;
	}
	return 0;
}

static int open_listener(struct status *status, const struct conf_address *address, struct buf *why)
{
	struct listener_options options = {
		.connections_most = STATUS_CONNECTIONS_MOST, .name = "status", .unix_mode = 0660};
	int error = addr_parse(slice_str(address->host), address->port, &options.addr);
	struct buf lack = {0};

	if (error) {
		buf_printf(why, "status: %s is no address", address->host);
		return error;
	}
	error = listener_open_on(status->loop, &options, on_accept, status, address->may_lack ? &lack : why,
		&status->listeners[status->listener_count]);
	if (!error)
		status->listener_count++;
	else if (address->may_lack && error == ERR_UNSUPPORTED)
		error = 0;
	else
		buf_add_slice(why, buf_view(&lack));
	buf_deinit(&lack);
	return error;
}

int status_open(struct loop *loop, const struct conf *conf, status_ready_fn *ready, void *arg,
	struct buf *why, struct status **status_out)
{
	size_t count;
	const struct conf_address *addresses = conf_get_addresses(conf, "status", NULL, "listen", &count);
	struct status *status;
	int error;

	if (count == 0) {
		*status_out = NULL;
		return 0;
	}
	status = xcalloc(1, sizeof(*status));
	status->loop = loop;
	status->ready = ready;
	status->arg = arg;
	list_init(&status->peers);
	status->listeners = xcalloc(count, sizeof(struct listener *));
	error = read_networks(status, conf);
	for (size_t i = 0; i < count && !error; i++)
		error = open_listener(status, &addresses[i], why);
	if (error) {
		status_close(&status);
		return error;
	}
	*status_out = status;
	return 0;
}

void status_set_draining(struct status *status)
{
	if (status)
		atomic_store(&status->is_draining, true);
}

static void free_status(void *arg)
{
	struct status *status = arg;

	free(status->listeners);
	free(status->allowed);
	free(status);
}

/* The listeners still accept what waits while they close, by posts: the memory goes by a later post. */
void status_close(struct status **status)
{
	struct status *s = *status;

	if (!s)
		return;
	*status = NULL;
	s->is_closing = true;
	list_for_each_safe (at, &s->peers)
		peer_close(container_of(at, struct status_peer, link));
	for (size_t i = 0; i < s->listener_count; i++)
		listener_close(&s->listeners[i]);
	loop_post(s->loop, free_status, s);
}
