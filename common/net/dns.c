/*
 * libunbound with one context a loop, made at the first question: its own thread resolves, its descriptor is watched by the loop.
 */
#include "common/net/dns.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/dns_cache.h"
#include "common/net/loop_private.h"

#define CLASS_IN 1
#define RCODE_NXDOMAIN 3
#define DETAIL_MOST 256

struct dns_loop {
	struct loop *loop;
	struct ub_ctx *ctx;
	struct loop_watch *watch;
	struct list requests;
	struct dns_cache *cache;
	unsigned asked;
	struct metric *records, *none, *unknown, *bogus, *refused;
};

struct dns_request {
	struct list link;
	struct dns_loop *dns;
	struct timer timer;
	dns_fn *fn;
	void *arg;
	enum dns_type type;
	int id;
	bool is_asked; /* and not answered yet */
	bool is_over;
	bool any_name;
	char name[DNS_NAME_MOST + 1]; /* without final dot */
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

bool dns_is_server(const char *text)
{
	char room[ADDR_TEXT_MAX + 8];

	return server_text(slice_str(text), room, sizeof(room)) == 0;
}

int dns_init(const struct dns_options *options, struct buf *why)
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
	dns_deinit();
	settings.servers = options->servers ? xstrdup(options->servers) : NULL;
	settings.trust_anchor = options->trust_anchor ? xstrdup(options->trust_anchor) : NULL;
	return 0;
}

void dns_deinit(void)
{
	free(settings.servers);
	free(settings.trust_anchor);
	settings.servers = settings.trust_anchor = NULL;
}

bool dns_is_validating(void)
{
	return settings.trust_anchor != NULL;
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
	static const struct {
		const char *option, *value;
	} rows[] = {
		{"do-not-query-localhost:", "no"},
		/* Names of a site's own that unbound would answer by itself with "no such name". */
		{"local-zone:", "test. transparent"},
		{"local-zone:", "127.in-addr.arpa. transparent"},
		{"unblock-lan-zones:", "yes"},
		/* As a library it would have 16 questions on the way at a time: as many that nobody answers would keep all others waiting, and their
		 * memory with them. */
		{"outgoing-range:", "1024"},
		{"outbound-msg-retry:", "3"},
		/* A server that was away is asked again soon. */
		{"infra-host-ttl:", "60"},
		{"infra-keep-probing:", "yes"},
	};
	int rc = ub_ctx_async(ctx, 1);

	if (rc == 0)
		rc = set_servers(ctx);
	/* A missing file is no error; its names are known before any server is asked. */
	if (rc == 0)
		ub_ctx_hosts(ctx, NULL);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(rows); i++)
		rc = ub_ctx_set_option(ctx, rows[i].option, rows[i].value);
	if (rc == 0 && settings.trust_anchor)
		rc = ub_ctx_add_ta_file(ctx, settings.trust_anchor);
	return rc;
}

static void on_answers(void *arg, int ready)
{
	struct dns_loop *dns = arg;

	(void)ready;
	ub_process(dns->ctx);
}

static struct metric *counter(const char *labels)
{
	return metrics_counter("mailtier_dns_answers", labels, "Answers of the DNS to this program");
}

static void set_counters(struct dns_loop *dns)
{
	dns->records = counter("result=\"records\"");
	dns->none = counter("result=\"none\"");
	dns->unknown = counter("result=\"not-now\"");
	dns->bogus = counter("result=\"bogus\"");
	dns->refused = metrics_counter("mailtier_dns_records_refused", NULL,
		"Records left out of answers because their data is wrong or names no host");
}

static struct dns_loop *dns_of(struct loop *loop)
{
	struct dns_loop *dns = loop->dns;
	int rc;

	if (dns)
		return dns;
	dns = xcalloc(1, sizeof(*dns));
	dns->loop = loop;
	list_init(&dns->requests);
	dns->cache = dns_cache_new();
	dns->ctx = ub_ctx_create();
	rc = dns->ctx ? set_up(dns->ctx) : UB_NOMEM;
	if (rc == 0 &&
		loop_watch_start(loop, ub_fd(dns->ctx), LOOP_READABLE, on_answers, dns, &dns->watch) != 0)
		rc = UB_PIPE;
	if (rc) {
		log_error("net", "the resolver does not start: %s", ub_strerror(rc));
		if (dns->ctx)
			ub_ctx_delete(dns->ctx);
		dns_cache_free(&dns->cache);
		free(dns);
		return NULL;
	}
	set_counters(dns);
	loop->dns = dns;
	return dns;
}

static void request_free(struct dns_request *r)
{
	if (r->is_asked) {
		ub_cancel(r->dns->ctx, r->id);
		r->is_asked = false;
	}
	r->is_over = true;
	r->dns->asked--;
	timer_stop(&r->timer);
	list_remove(&r->link);
	loop_free_later(r->dns->loop, r);
}

void dns_loop_free(struct loop *loop)
{
	struct dns_loop *dns = loop->dns;

	if (!dns)
		return;
	loop->dns = NULL;
	list_for_each_safe (at, &dns->requests)
		request_free(container_of(at, struct dns_request, link));
	loop_watch_stop(&dns->watch);
	ub_ctx_delete(dns->ctx);
	dns_cache_free(&dns->cache);
	free(dns);
}

/* ---- answers ---- */

static void finish(struct dns_request *r, struct dns_answer *answer)
{
	struct dns_loop *dns = r->dns;
	dns_fn *fn = r->fn;
	void *arg = r->arg;

	if (answer->error == ERR_NOT_NOW)
		answer->ttl = 0;
	metric_add(answer->is_bogus                 ? dns->bogus
		   : answer->error == 0             ? dns->records
		   : answer->error == ERR_NOT_FOUND ? dns->none
						    : dns->unknown,
		1);
	if (answer->refused)
		metric_add(dns->refused, answer->refused);
	request_free(r);
	fn(arg, answer);
}

/* The name that aliases led to; "" where it is no host's. Libunbound writes strange octets as '?'. */
static const char *canonical_of(
	struct arena *arena, const struct dns_request *r, const struct ub_result *result)
{
	struct slice name = dns_name_trim(slice_str(result->canonname));
	char *text;

	if (!name.len)
		return r->name;
	if (!dns_name_is_host(name))
		return "";
	text = arena_copy_str(arena, name);
	for (size_t i = 0; text && i < name.len; i++)
		text[i] = ascii_lower(text[i]);
	return text ? text : "";
}

static void read_records(struct arena *arena, const struct dns_request *r, const struct ub_result *result,
	struct dns_answer *answer)
{
	struct dns_record *records = arena_calloc(arena, DNS_RECORDS_MOST, sizeof(*records));

	answer->records = records;
	for (unsigned i = 0; records && result->data[i]; i++) {
		if (i == DNS_RECORDS_MOST) {
			answer->is_cut = true;
			break;
		}
		if (result->len[i] >= 0 &&
			dns_record_parse(arena, r->type, slice_of(result->data[i], (size_t)result->len[i]),
				r->any_name, &records[answer->count]) == 0)
			answer->count++;
		else
			answer->refused++;
	}
}

static void read_result(struct arena *arena, const struct dns_request *r, const struct ub_result *result,
	struct dns_answer *answer)
{
	answer->is_bogus = result->bogus;
	answer->is_secure = result->secure && !result->bogus;
	answer->canonical = canonical_of(arena, r, result);
	answer->ttl = result->ttl > 0 ? (uint32_t)result->ttl : 0;
	if (result->bogus) {
		const char *why = result->why_bogus ? result->why_bogus : "";
		char *detail = arena_alloc(arena, DETAIL_MOST);

		if (detail)
			snprintf(detail, DETAIL_MOST, "bogus: %s", why);
		answer->detail = detail ? detail : "bogus";
		return;
	}
	if (result->rcode != 0 && result->rcode != RCODE_NXDOMAIN) {
		answer->detail = "the name server failed";
		return;
	}
	if (result->havedata)
		read_records(arena, r, result, answer);
	if (answer->count) {
		answer->error = 0;
		answer->detail = "";
	} else if (result->havedata) {
		answer->detail = "no record of the answer is usable";
	} else {
		answer->error = ERR_NOT_FOUND;
		answer->is_nxdomain = result->nxdomain || result->rcode == RCODE_NXDOMAIN;
		answer->detail = "";
	}
}

static struct dns_answer answer_not_now(const struct dns_request *r, const char *detail)
{
	return (struct dns_answer){.error = ERR_NOT_NOW, .canonical = r->name, .detail = detail};
}

static void on_result(void *arg, int failure, struct ub_result *result)
{
	struct dns_request *r = arg;
	struct dns_answer answer = answer_not_now(r, "the resolver failed");
	struct arena arena;

	r->is_asked = false;
	arena_init(&arena, DNS_ANSWER_MOST);
	if (!failure && result)
		read_result(&arena, r, result, &answer);
	ub_resolve_free(result);
	if (!r->is_over) {
		dns_cache_put(
			r->dns->cache, r->name, r->type, r->any_name, &answer, loop_now_ms(r->dns->loop));
		finish(r, &answer);
	}
	arena_deinit(&arena);
}

/* As master files have it (RFC 1035 section 5.1): what is not of a host's name is written \DDD. */
static void escape_name(const char *name, char *text)
{
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;
		bool is_plain = c == '.' || c == '-' || c == '_' || (c >= '0' && c <= '9') ||
				(ascii_lower(*name) >= 'a' && ascii_lower(*name) <= 'z');

		if (is_plain)
			*text++ = *name;
		else
			text += snprintf(text, 5, "\\%03u", c);
	}
	*text = '\0';
}

static int send_question(struct dns_request *r)
{
	char text[4 * DNS_NAME_MOST + 1];

	escape_name(r->name, text);
	if (ub_resolve_async(r->dns->ctx, text, (int)r->type, CLASS_IN, r, on_result, &r->id) != 0)
		return ERR_NOT_NOW;
	r->is_asked = true;
	return 0;
}

/* Asked and answered from the cache; should it have gone in between, the resolver has it still. */
static void answer_kept(void *arg)
{
	struct dns_request *r = arg;
	const struct dns_answer *kept;

	if (r->is_over)
		return;
	kept = dns_cache_find(r->dns->cache, r->name, r->type, r->any_name, loop_now_ms(r->dns->loop));
	if (kept) {
		struct dns_answer answer = *kept;

		finish(r, &answer);
	} else if (send_question(r) != 0) {
		struct dns_answer answer = answer_not_now(r, "the resolver failed");

		finish(r, &answer);
	}
}

static void on_time(void *arg)
{
	struct dns_request *r = arg;
	struct dns_answer answer = answer_not_now(r, "no answer in time");

	finish(r, &answer);
}

/* ---- questions ---- */

static int ask(struct loop *loop, const char *name, enum dns_type type, bool any_name, uint64_t timeout_ms,
	dns_fn *fn, void *arg, struct dns_request **request_out)
{
	struct slice trimmed = dns_name_trim(slice_str(name));
	struct dns_request *r;
	struct dns_loop *dns;

	if (!dns_name_is_question(trimmed))
		return ERR_SYNTAX;
	dns = dns_of(loop);
	if (!dns || dns->asked >= DNS_ASKED_MOST)
		return ERR_NOT_NOW;
	r = xcalloc(1, sizeof(*r));
	r->dns = dns;
	r->fn = fn;
	r->arg = arg;
	r->type = type;
	r->any_name = any_name;
	memcpy(r->name, trimmed.p, trimmed.len);
	timer_init(&r->timer, on_time, r);
	list_init(&r->link);
	if (dns_cache_find(dns->cache, r->name, type, any_name, loop_now_ms(loop))) {
		loop_defer(loop, answer_kept, r);
	} else if (send_question(r) != 0) {
		free(r);
		return ERR_NOT_NOW;
	}
	dns->asked++;
	list_add_last(&dns->requests, &r->link);
	timer_set(&r->timer, loop, timeout_ms);
	*request_out = r;
	return 0;
}

int dns_ask(struct loop *loop, const char *name, enum dns_type type, uint64_t timeout_ms, dns_fn *fn,
	void *arg, struct dns_request **request_out)
{
	return ask(loop, name, type, false, timeout_ms, fn, arg, request_out);
}

int dns_ask_any(struct loop *loop, const char *name, enum dns_type type, uint64_t timeout_ms, dns_fn *fn,
	void *arg, struct dns_request **request_out)
{
	return ask(loop, name, type, true, timeout_ms, fn, arg, request_out);
}

void dns_cancel(struct dns_request **request)
{
	struct dns_request *r = *request;

	if (!r)
		return;
	*request = NULL;
	request_free(r);
}

/* ---- addresses ---- */

void dns_record_addr(const struct dns_record *record, uint16_t port, struct addr *addr_out)
{
	addr_set_ip(addr_out, record->ip.p, record->ip.len, port);
}

int dns_reverse(const struct addr *addr, const char *zone, struct buf *out)
{
	return dns_name_reverse(addr_ip(addr), zone, out);
}
