/*
 * libunbound with one context a loop, made at the first question: its own thread resolves, its descriptor is
 * watched by the loop. A and AAAA are asked at once; IPv6 stands first (RFC 6724), since an address without a
 * route fails in no time.
 *
 * A name has addresses when either answer has some; it has none (ERR_NOT_FOUND) only when both answers say so
 * for certain.
 */
#include "common/net/resolve.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/loop_private.h"

#define RECORDS_MOST 100
#define NAME_MOST 253
#define LABEL_MOST 63
#define TYPE_A 1
#define TYPE_AAAA 28
#define CLASS_IN 1
#define RCODE_NXDOMAIN 3

struct resolve_loop {
	struct loop *loop;
	struct ub_ctx *ctx;
	struct loop_watch *watch;
	struct list requests;
};

/* One of the two questions. */
struct question {
	struct resolve_request *request;
	int id;
	bool is_asked; /* and not answered yet */
	int error;     /* 0: addresses; ERR_NOT_FOUND; ERR_NOT_NOW */
	unsigned count;
	struct addr addrs[RESOLVE_ADDRS_MOST];
};

struct resolve_request {
	struct list link;
	struct loop *loop;
	struct timer timer;
	resolve_fn *fn;
	void *arg;
	uint16_t port;
	bool is_over;
	struct question v6, v4;
};

/* Set once before the loops start. */
static struct {
	char *servers;
	char *trust_anchor;
} settings;

/* ---- settings ---- */

/* "192.0.2.1:53" as libunbound writes it: 192.0.2.1@53. */
static int server_text(struct slice word, char *text, size_t size)
{
	struct addr addr;
	char host[ADDR_TEXT_MAX];

	if (addr_parse_hostport(word, 53, &addr) != 0 || addr.ss.ss_family == AF_UNIX)
		return ERR_SYNTAX;
	snprintf(text, size, "%s@%u", addr_host(&addr, host), addr_port(&addr));
	return 0;
}

/* Takes the next word off the front. */
static struct slice next_word(struct slice *rest)
{
	struct slice s = slice_trim(*rest);
	size_t len = 0;

	while (len < s.len && s.p[len] != ' ' && s.p[len] != '\t')
		len++;
	*rest = slice_from(s, len);
	return slice_sub(s, 0, len);
}

int resolve_init(const struct resolve_options *options, struct buf *why)
{
	struct slice rest = slice_str(options->servers), word;
	char text[ADDR_TEXT_MAX + 8];

	while ((word = next_word(&rest)).len)
		if (server_text(word, text, sizeof(text)) != 0) {
			buf_printf(why, "%.*s: not the address of a name server", SLICE_ARG(word));
			return ERR_CONFIG;
		}
	if (options->trust_anchor && access(options->trust_anchor, R_OK) != 0) {
		buf_printf(why, "%s: cannot be read", options->trust_anchor);
		return ERR_CONFIG;
	}
	resolve_deinit();
	settings.servers = options->servers ? xstrdup(options->servers) : NULL;
	settings.trust_anchor = options->trust_anchor ? xstrdup(options->trust_anchor) : NULL;
	return 0;
}

void resolve_deinit(void)
{
	free(settings.servers);
	free(settings.trust_anchor);
	settings.servers = settings.trust_anchor = NULL;
}

/* ---- the context of a loop ---- */

static int set_servers(struct ub_ctx *ctx)
{
	struct slice rest = slice_str(settings.servers), word;
	char text[ADDR_TEXT_MAX + 8];
	int rc = 0;

	if (!rest.len)
		return ub_ctx_resolvconf(ctx, NULL);
	while (rc == 0 && (word = next_word(&rest)).len)
		rc = server_text(word, text, sizeof(text)) != 0 ? UB_SYNTAX : ub_ctx_set_fwd(ctx, text);
	return rc;
}

static int set_up(struct ub_ctx *ctx)
{
	int rc = ub_ctx_async(ctx, 1);

	if (rc == 0)
		rc = set_servers(ctx);
	/* A missing file is no error; its names are known before any server is asked. */
	if (rc == 0)
		ub_ctx_hosts(ctx, NULL);
	if (rc == 0)
		rc = ub_ctx_set_option(ctx, "do-not-query-localhost:", "no");
	/* Names of a site's own that unbound would answer by itself with "no such name". */
	if (rc == 0)
		rc = ub_ctx_set_option(ctx, "local-zone:", "test. transparent");
	if (rc == 0)
		rc = ub_ctx_set_option(ctx, "unblock-lan-zones:", "yes");
	if (rc == 0 && settings.trust_anchor)
		rc = ub_ctx_add_ta_file(ctx, settings.trust_anchor);
	return rc;
}

static void on_answers(void *arg, int ready)
{
	struct resolve_loop *rl = arg;

	(void)ready;
	ub_process(rl->ctx);
}

static struct resolve_loop *resolve_of(struct loop *loop)
{
	struct resolve_loop *rl = loop->resolve;
	int rc;

	if (rl)
		return rl;
	rl = xcalloc(1, sizeof(*rl));
	rl->loop = loop;
	list_init(&rl->requests);
	rl->ctx = ub_ctx_create();
	rc = rl->ctx ? set_up(rl->ctx) : UB_NOMEM;
	if (rc == 0 && loop_watch_start(loop, ub_fd(rl->ctx), LOOP_READABLE, on_answers, rl, &rl->watch) != 0)
		rc = UB_PIPE;
	if (rc) {
		log_error("net", "the resolver does not start: %s", ub_strerror(rc));
		if (rl->ctx)
			ub_ctx_delete(rl->ctx);
		free(rl);
		return NULL;
	}
	loop->resolve = rl;
	return rl;
}

static void request_free(struct resolve_request *r)
{
	r->is_over = true;
	timer_stop(&r->timer);
	list_remove(&r->link);
	loop_free_later(r->loop, r);
}

void resolve_loop_free(struct loop *loop)
{
	struct resolve_loop *rl = loop->resolve;

	if (!rl)
		return;
	loop->resolve = NULL;
	list_for_each_safe (at, &rl->requests)
		request_free(container_of(at, struct resolve_request, link));
	loop_watch_stop(&rl->watch);
	ub_ctx_delete(rl->ctx);
	free(rl);
}

/* ---- requests ---- */

static void cancel_question(struct question *q)
{
	if (q->is_asked)
		ub_cancel(q->request->loop->resolve->ctx, q->id);
	q->is_asked = false;
}

static void finish(struct resolve_request *r)
{
	struct addr addrs[RESOLVE_ADDRS_MOST];
	unsigned first = r->v6.count, second = r->v4.count, count = 0;
	int error = 0;

	cancel_question(&r->v6);
	cancel_question(&r->v4);
	if (first + second > RESOLVE_ADDRS_MOST) { /* a place for both families */
		unsigned half = RESOLVE_ADDRS_MOST / 2;

		first = second < half ? RESOLVE_ADDRS_MOST - second : first < half ? first : half;
		second = RESOLVE_ADDRS_MOST - first;
	}
	for (unsigned i = 0; i < first; i++)
		addrs[count++] = r->v6.addrs[i];
	for (unsigned i = 0; i < second; i++)
		addrs[count++] = r->v4.addrs[i];
	if (count == 0)
		error = r->v6.error == ERR_NOT_FOUND && r->v4.error == ERR_NOT_FOUND ? ERR_NOT_FOUND
										     : ERR_NOT_NOW;
	request_free(r);
	r->fn(r->arg, error, addrs, count);
}

static void add_record(struct question *q, const char *data, int len)
{
	struct addr *addr = &q->addrs[q->count];
	struct sockaddr_in *in = (struct sockaddr_in *)&addr->ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->ss;

	if (q->count == RESOLVE_ADDRS_MOST)
		return;
	if (q == &q->request->v4 && len == 4) {
		addr->len = sizeof(*in);
		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, data, 4);
	} else if (q == &q->request->v6 && len == 16) {
		addr->len = sizeof(*in6);
		in6->sin6_family = AF_INET6;
		memcpy(&in6->sin6_addr, data, 16);
	} else {
		return;
	}
	addr_set_port(addr, q->request->port);
	q->count++;
}

static void read_result(struct question *q, int failure, const struct ub_result *result)
{
	q->error = ERR_NOT_NOW;
	if (failure || !result || result->bogus)
		return;
	if (result->havedata)
		for (int i = 0; i < RECORDS_MOST && result->data[i]; i++)
			add_record(q, result->data[i], result->len[i]);
	if (q->count)
		q->error = 0;
	else if (result->rcode == 0 || result->rcode == RCODE_NXDOMAIN)
		q->error = ERR_NOT_FOUND;
}

static void on_result(void *arg, int failure, struct ub_result *result)
{
	struct question *q = arg;
	struct resolve_request *r = q->request;

	q->is_asked = false;
	read_result(q, failure, result);
	ub_resolve_free(result);
	if (!r->is_over && !r->v6.is_asked && !r->v4.is_asked)
		finish(r);
}

static void on_time(void *arg)
{
	finish(arg);
}

static int ask(struct resolve_loop *rl, struct question *q, const char *host, int type)
{
	q->error = ERR_NOT_NOW;
	if (ub_resolve_async(rl->ctx, host, type, CLASS_IN, q, on_result, &q->id) != 0)
		return ERR_NOT_NOW;
	q->is_asked = true;
	return 0;
}

static void answer_literal(void *arg)
{
	struct resolve_request *r = arg;

	if (!r->is_over)
		finish(r);
}

/* Letters, digits, hyphen and underscore in labels of 1 to 63: nothing else is sent to a server (RFC 1123
 * section 2.1). */
static bool is_name(struct slice name)
{
	size_t label = 0;

	if (name.len && name.p[name.len - 1] == '.')
		name.len--;
	if (name.len == 0 || name.len > NAME_MOST)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = ascii_lower(name.p[i]);

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') ||
			++label > LABEL_MOST)
			return false;
	}
	return label > 0;
}

static struct resolve_request *request_new(struct loop *loop, uint16_t port, resolve_fn *fn, void *arg)
{
	struct resolve_request *r = xcalloc(1, sizeof(*r));

	list_init(&r->link);
	r->loop = loop;
	r->fn = fn;
	r->arg = arg;
	r->port = port;
	r->v6.request = r->v4.request = r;
	timer_init(&r->timer, on_time, r);
	return r;
}

int resolve_addrs(struct loop *loop, const char *host, uint16_t port, uint64_t timeout_ms, resolve_fn *fn,
	void *arg, struct resolve_request **request_out)
{
	struct resolve_request *r;
	struct resolve_loop *rl;
	struct addr literal;

	if (addr_parse(slice_str(host), port, &literal) == 0) {
		r = request_new(loop, port, fn, arg);
		r->v4.addrs[0] = literal;
		r->v4.count = 1;
		loop_defer(loop, answer_literal, r);
		*request_out = r;
		return 0;
	}
	if (!is_name(slice_str(host)))
		return ERR_SYNTAX;
	rl = resolve_of(loop);
	if (!rl)
		return ERR_NOT_NOW;
	r = request_new(loop, port, fn, arg);
	list_add_last(&rl->requests, &r->link);
	if (ask(rl, &r->v6, host, TYPE_AAAA) != 0 || ask(rl, &r->v4, host, TYPE_A) != 0) {
		cancel_question(&r->v6);
		request_free(r);
		return ERR_NOT_NOW;
	}
	timer_set(&r->timer, loop, timeout_ms);
	*request_out = r;
	return 0;
}

void resolve_cancel(struct resolve_request **request)
{
	struct resolve_request *r = *request;

	if (!r)
		return;
	*request = NULL;
	cancel_question(&r->v6);
	cancel_question(&r->v4);
	request_free(r);
}
