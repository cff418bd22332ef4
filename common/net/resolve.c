/*
 * A and AAAA are asked at once; IPv6 stands first (RFC 6724), since an address without a route fails in no time.
 *
 * A name has addresses when either answer has some; it has none (ERR_NOT_FOUND) only when both answers say so
 * for certain.
 */
#include "common/net/resolve.h"

#include "common/base/mem.h"
#include "common/net/dns.h"
#include "common/net/loop_private.h"

/* One of the two questions. */
struct question {
	struct dns_request *asked; /* NULL: not asked, or answered */
	int error;                 /* 0: addresses; ERR_NOT_FOUND; ERR_NOT_NOW */
	unsigned count;
	struct addr addrs[RESOLVE_ADDRS_MOST];
};

struct resolve_request {
	struct list link;
	struct loop *loop;
	resolve_fn *fn;
	void *arg;
	uint16_t port;
	bool is_over;
	struct question v6, v4;
};

static void request_free(struct resolve_request *r)
{
	r->is_over = true;
	dns_cancel(&r->v6.asked);
	dns_cancel(&r->v4.asked);
	list_remove(&r->link);
	loop_free_later(r->loop, r);
}

void resolve_loop_free(struct loop *loop)
{
	list_for_each_safe (at, &loop->resolving)
		request_free(container_of(at, struct resolve_request, link));
}

static void finish(struct resolve_request *r)
{
	struct addr addrs[RESOLVE_ADDRS_MOST];
	unsigned first = r->v6.count, second = r->v4.count, count = 0;
	int error = 0;

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

static void on_answer(struct resolve_request *r, struct question *q, const struct dns_answer *answer)
{
	q->asked = NULL;
	q->error = answer->error;
	for (unsigned i = 0; i < answer->count && q->count < RESOLVE_ADDRS_MOST; i++)
		dns_record_addr(&answer->records[i], r->port, &q->addrs[q->count++]);
	if (!r->v6.asked && !r->v4.asked)
		finish(r);
}

static void on_v6(void *arg, const struct dns_answer *answer)
{
	struct resolve_request *r = arg;

	on_answer(r, &r->v6, answer);
}

static void on_v4(void *arg, const struct dns_answer *answer)
{
	struct resolve_request *r = arg;

	on_answer(r, &r->v4, answer);
}

static void answer_literal(void *arg)
{
	struct resolve_request *r = arg;

	if (!r->is_over)
		finish(r);
}

static struct resolve_request *request_new(struct loop *loop, uint16_t port, resolve_fn *fn, void *arg)
{
	struct resolve_request *r = xcalloc(1, sizeof(*r));

	r->loop = loop;
	r->fn = fn;
	r->arg = arg;
	r->port = port;
	list_init(&r->link);
	list_add_last(&loop->resolving, &r->link);
	return r;
}

int resolve_addrs(struct loop *loop, const char *host, uint16_t port, uint64_t timeout_ms, resolve_fn *fn,
	void *arg, struct resolve_request **request_out)
{
	struct resolve_request *r;
	struct addr literal;

	if (addr_parse(slice_str(host), port, &literal) == 0) {
		r = request_new(loop, port, fn, arg);
		r->v4.addrs[0] = literal;
		r->v4.count = 1;
		loop_defer(loop, answer_literal, r);
		*request_out = r;
		return 0;
	}
	if (!dns_name_is_host(slice_str(host)))
		return ERR_SYNTAX;
	r = request_new(loop, port, fn, arg);
	if (dns_ask(loop, host, DNS_AAAA, timeout_ms, on_v6, r, &r->v6.asked) != 0 ||
		dns_ask(loop, host, DNS_A, timeout_ms, on_v4, r, &r->v4.asked) != 0) {
		request_free(r);
		return ERR_NOT_NOW;
	}
	*request_out = r;
	return 0;
}

void resolve_cancel(struct resolve_request **request)
{
	struct resolve_request *r = *request;

	if (!r)
		return;
	*request = NULL;
	request_free(r);
}
