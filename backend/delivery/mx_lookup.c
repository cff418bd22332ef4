/*
 * Three rounds: MX of all sources; addresses of all hosts; TLSA of those hosts whose addresses are validated. A round ends with its last
 * answer. `waiting` counts the questions under way, and one for whoever is asking, so that no round ends while it is being asked.
 */
#include "backend/delivery/mx_lookup.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/net/dns.h"
#include "common/net/timer.h"

/* What is known is used this long at least and at most, whatever the records say. */
#define KEEP_LEAST_S 5
#define KEEP_MOST_S 300
#define BASES_MOST 2
/* A question that the resolver has no room for now is asked again after so long. */
#define AGAIN_MS 50
#define SMTP_PORT 25

struct mx_source_state {
	struct mx_lookup *lookup;
	char *name;
	uint16_t port;
	bool is_host, is_secure;
	struct dns_request *request;
	enum mx_fault fault;
	char *names[DNS_RECORDS_MOST]; /* of its hosts */
	struct mx_entry entries[DNS_RECORDS_MOST];
	size_t count;
};

/* A host while it is looked up. */
struct host_state {
	struct mx_lookup *lookup;
	struct mx_host *host;
	struct dns_request *v4, *v6, *tlsa;
	int error4, error6;
	bool is_secure4, is_secure6;
	struct addr addrs4[MX_ADDRS_MOST], addrs6[MX_ADDRS_MOST];
	unsigned count4, count6;
	char *bases[BASES_MOST]; /* names under which TLSA records may stand */
	unsigned base_count, base;
};

/* A question that waits for room. */
struct later {
	struct list link;
	enum dns_type type;
	dns_fn *fn;
	void *arg;
	struct dns_request **request;
	uint64_t until_ms;
	char name[];
};

struct mx_lookup {
	struct loop *loop;
	struct list later;
	struct timer again;
	mx_lookup_fn *fn;
	void *arg;
	char *own;
	enum mx_prefer prefer;
	bool wants_dane, is_over;
	uint64_t timeout_ms;
	unsigned waiting;
	uint32_t ttl;
	void (*next_round)(struct mx_lookup *l);
	struct mx_source_state *sources;
	size_t source_count;
	struct host_state states[MX_HOSTS_MOST];
	struct mx_hosts *hosts;
};

/* ---- the answer ---- */

struct mx_hosts *mx_hosts_ref(struct mx_hosts *hosts)
{
	hosts->refs++;
	return hosts;
}

void mx_hosts_unref(struct mx_hosts **hosts)
{
	struct mx_hosts *h = *hosts;

	*hosts = NULL;
	if (!h || --h->refs)
		return;
	for (unsigned i = 0; i < h->count; i++) {
		for (size_t n = 0; n < h->hosts[i].record_count; n++)
			free((void *)(uintptr_t)h->hosts[i].records[n].data.p);
		free(h->hosts[i].records);
		free(h->hosts[i].dane_base);
		free(h->hosts[i].name);
	}
	free(h->hosts);
	free(h);
}

static void free_lookup(struct mx_lookup *l)
{
	l->is_over = true;
	timer_stop(&l->again);
	list_for_each_safe (at, &l->later)
		free(container_of(at, struct later, link));
	for (size_t i = 0; i < l->source_count; i++) {
		struct mx_source_state *s = &l->sources[i];

		dns_cancel(&s->request);
		for (size_t n = 0; n < s->count; n++)
			free(s->names[n]);
		free(s->name);
	}
	for (size_t i = 0; i < MX_HOSTS_MOST; i++) {
		struct host_state *s = &l->states[i];

		dns_cancel(&s->v4);
		dns_cancel(&s->v6);
		dns_cancel(&s->tlsa);
		for (unsigned n = 0; n < s->base_count; n++)
			free(s->bases[n]);
	}
	mx_hosts_unref(&l->hosts);
	free(l->sources);
	free(l->own);
	loop_free_later(l->loop, l);
}

void mx_lookup_cancel(struct mx_lookup **lookup)
{
	struct mx_lookup *l = *lookup;

	*lookup = NULL;
	if (l)
		free_lookup(l);
}

static void finish(struct mx_lookup *l)
{
	struct mx_hosts *hosts = l->hosts;
	mx_lookup_fn *fn = l->fn;
	void *arg = l->arg;
	uint32_t keep = l->ttl < KEEP_LEAST_S ? KEEP_LEAST_S : l->ttl > KEEP_MOST_S ? KEEP_MOST_S : l->ttl;

	hosts->until_ms = clock_mono_ms() + keep * 1000ull;
	l->hosts = NULL;
	free_lookup(l);
	fn(arg, hosts);
}

static void answered(struct mx_lookup *l)
{
	if (--l->waiting == 0)
		l->next_round(l);
}

static void note_ttl(struct mx_lookup *l, const struct dns_answer *a)
{
	if (a->ttl < l->ttl)
		l->ttl = a->ttl;
}

/* ---- questions ---- */

static void on_again(void *arg)
{
	const struct dns_answer none = {
		.error = ERR_NOT_NOW, .detail = "too many questions to the DNS", .canonical = ""};
	struct mx_lookup *l = arg;

	/* An answer may end all of it. */
	while (!l->is_over && !list_is_empty(&l->later)) {
		struct later *q = container_of(l->later.next, struct later, link);
		int err = dns_ask(l->loop, q->name, q->type, l->timeout_ms, q->fn, q->arg, q->request);

		if (err && clock_mono_ms() < q->until_ms) {
			timer_set(&l->again, l->loop, AGAIN_MS);
			return;
		}
		list_remove(&q->link);
		if (err)
			q->fn(q->arg, &none);
		free(q);
	}
}

/* fn is called with the answer, at the latest when the time of two such questions is over. ERR_SYNTAX. */
static int ask(struct mx_lookup *l, const char *name, enum dns_type type, dns_fn *fn, void *arg,
	struct dns_request **request)
{
	int err = dns_ask(l->loop, name, type, l->timeout_ms, fn, arg, request);
	size_t len = strlen(name);
	struct later *q;

	if (err && err != ERR_NOT_NOW)
		return err;
	l->waiting++;
	if (!err)
		return 0;
	q = xcalloc(1, sizeof(*q) + len + 1);
	memcpy(q->name, name, len);
	q->type = type;
	q->fn = fn;
	q->arg = arg;
	q->request = request;
	q->until_ms = clock_mono_ms() + l->timeout_ms;
	list_add_last(&l->later, &q->link);
	if (!timer_is_set(&l->again))
		timer_set(&l->again, l->loop, AGAIN_MS);
	return 0;
}

static void set_fault(struct mx_lookup *l, enum mx_fault fault, const char *detail)
{
	l->hosts->fault = fault;
	snprintf(l->hosts->detail, sizeof(l->hosts->detail), "%s", detail);
}

/* ---- the third round: TLSA ---- */

static void ask_tlsa(struct host_state *s);

static void take_tlsa(struct host_state *s, const struct dns_answer *a)
{
	struct mx_host *h = s->host;

	h->records = xcalloc(a->count + 1, sizeof(*h->records));
	for (unsigned i = 0; i < a->count && h->record_count < TLS_DANE_RECORDS_MOST; i++) {
		const struct dns_record *r = &a->records[i];

		if (r->type != DNS_TLSA)
			continue;
		h->records[h->record_count++] = (struct tls_dane_record){r->usage, r->selector, r->matching,
			slice_of(xmemdup0(r->data.p, r->data.len), r->data.len)};
	}
	h->dane = dane_judge(h->records, h->record_count);
	h->dane_base = xstrdup(s->bases[s->base]);
}

static void on_tlsa(void *arg, const struct dns_answer *a)
{
	struct host_state *s = arg;

	s->tlsa = NULL;
	if (a->error == 0 && a->is_secure) {
		note_ttl(s->lookup, a);
		take_tlsa(s, a);
	} else if (a->error != 0 && a->error != ERR_NOT_FOUND) {
		s->host->dane = DANE_NOT_NOW;
	} else if (a->error == ERR_NOT_FOUND && ++s->base < s->base_count) {
		ask_tlsa(s);
	}
	answered(s->lookup);
}

/* "_25._tcp.mx.example.com" (RFC 7672 section 2.2.3). */
static void ask_tlsa(struct host_state *s)
{
	char name[ADDR_TEXT_MAX + 256];
	int n = snprintf(name, sizeof(name), "_%u._tcp.%s", s->host->port, s->bases[s->base]);

	if (n < 0 || (size_t)n >= sizeof(name))
		return;
	if (ask(s->lookup, name, DNS_TLSA, on_tlsa, s, &s->tlsa) != 0)
		s->host->dane = DANE_NOT_NOW;
}

static void ask_all_tlsa(struct mx_lookup *l)
{
	l->next_round = finish;
	l->waiting = 1;
	for (unsigned i = 0; i < l->hosts->count; i++)
		if (l->wants_dane && l->hosts->hosts[i].is_secure && l->states[i].base_count)
			ask_tlsa(&l->states[i]);
	answered(l);
}

/* ---- the second round: addresses ---- */

static void add_addrs(struct host_state *s, const struct addr *list, unsigned count, unsigned most)
{
	for (unsigned i = 0; i < count && i < most && s->host->addr_count < MX_ADDRS_MOST; i++)
		s->host->addrs[s->host->addr_count++] = list[i];
}

static void join_addrs(struct host_state *s)
{
	const unsigned half = MX_ADDRS_MOST / 2;
	unsigned room4 = s->count6 < half ? MX_ADDRS_MOST - s->count6 : half;
	unsigned room6 = s->count4 < half ? MX_ADDRS_MOST - s->count4 : half;
	unsigned n4 = s->count4 < room4 ? s->count4 : room4, n6 = s->count6 < room6 ? s->count6 : room6;

	switch (s->lookup->prefer) {
	case MX_PREFER_IPV4:
	case MX_ONLY_IPV4:
		add_addrs(s, s->addrs4, n4, MX_ADDRS_MOST);
		add_addrs(s, s->addrs6, n6, MX_ADDRS_MOST);
		return;
	case MX_PREFER_IPV6:
	case MX_ONLY_IPV6:
		add_addrs(s, s->addrs6, n6, MX_ADDRS_MOST);
		add_addrs(s, s->addrs4, n4, MX_ADDRS_MOST);
		return;
	case MX_PREFER_BOTH:
		break;
	}
	for (unsigned i = 0; i < MX_ADDRS_MOST; i++) {
		if (i < n6)
			add_addrs(s, &s->addrs6[i], 1, 1);
		if (i < n4)
			add_addrs(s, &s->addrs4[i], 1, 1);
	}
}

static void judge_addrs(struct host_state *s)
{
	struct mx_host *h = s->host;

	join_addrs(s);
	if (h->addr_count)
		h->error = 0;
	else
		h->error = s->error4 == ERR_NOT_FOUND && s->error6 == ERR_NOT_FOUND ? ERR_NOT_FOUND
										    : ERR_NOT_NOW;
	/* RFC 7672 section 2.2.2: each answer that has addresses must be validated. */
	h->is_secure = h->is_mx_secure && h->addr_count && (!s->count4 || s->is_secure4) &&
		       (!s->count6 || s->is_secure6);
}

static void on_addrs_known(struct mx_lookup *l)
{
	bool is_for_good = true, has_addrs = false;

	for (unsigned i = 0; i < l->hosts->count; i++) {
		if (!l->hosts->hosts[i].addr_count)
			judge_addrs(&l->states[i]);
		has_addrs |= l->hosts->hosts[i].addr_count > 0;
		is_for_good &= l->hosts->hosts[i].error == ERR_NOT_FOUND;
	}
	if (has_addrs)
		ask_all_tlsa(l);
	else if (is_for_good)
		set_fault(l, MX_NO_HOST, ""), finish(l);
	else
		set_fault(l, MX_NOT_NOW, "no address of its hosts can be found now"), finish(l);
}

/* The name that aliases led to stands before the one that was asked (RFC 7672 section 2.2.3). */
static void note_base(struct host_state *s, const struct dns_answer *a)
{
	if (s->base_count || !a->canonical || !*a->canonical)
		return;
	if (!slice_is_str_nocase(slice_str(a->canonical), s->host->name))
		s->bases[s->base_count++] = xstrdup(a->canonical);
	s->bases[s->base_count++] = xstrdup(s->host->name);
}

static unsigned take_addrs(struct host_state *s, const struct dns_answer *a, struct addr *out)
{
	unsigned count = 0;

	for (unsigned i = 0; a->error == 0 && i < a->count && count < MX_ADDRS_MOST; i++)
		if (a->records[i].type == DNS_A || a->records[i].type == DNS_AAAA)
			dns_record_addr(&a->records[i], s->host->port, &out[count++]);
	if (count) {
		note_ttl(s->lookup, a);
		note_base(s, a);
	}
	return count;
}

static void on_v4(void *arg, const struct dns_answer *a)
{
	struct host_state *s = arg;

	s->v4 = NULL;
	s->count4 = take_addrs(s, a, s->addrs4);
	s->error4 = a->error;
	s->is_secure4 = a->is_secure;
	answered(s->lookup);
}

static void on_v6(void *arg, const struct dns_answer *a)
{
	struct host_state *s = arg;

	s->v6 = NULL;
	s->count6 = take_addrs(s, a, s->addrs6);
	s->error6 = a->error;
	s->is_secure6 = a->is_secure;
	answered(s->lookup);
}

static void ask_one(struct host_state *s, enum dns_type type, dns_fn *fn, struct dns_request **request)
{
	/* What cannot be asked is the name of no host. */
	(void)!ask(s->lookup, s->host->name, type, fn, s, request);
}

static void ask_addrs(struct host_state *s)
{
	struct addr literal;

	s->error4 = s->error6 = ERR_NOT_FOUND;
	if (addr_parse(slice_str(s->host->name), s->host->port, &literal) == 0) {
		s->host->addrs[s->host->addr_count++] = literal;
		return;
	}
	if (s->lookup->prefer != MX_ONLY_IPV6)
		ask_one(s, DNS_A, on_v4, &s->v4);
	if (s->lookup->prefer != MX_ONLY_IPV4)
		ask_one(s, DNS_AAAA, on_v6, &s->v6);
}

static void ask_all_addrs(struct mx_lookup *l)
{
	l->next_round = on_addrs_known;
	l->waiting = 1;
	for (unsigned i = 0; i < l->hosts->count; i++) {
		l->states[i].lookup = l;
		l->states[i].host = &l->hosts->hosts[i];
		ask_addrs(&l->states[i]);
	}
	answered(l);
}

/* ---- the first round: MX ---- */

static void add_host(struct mx_lookup *l, const struct mx_source_state *s, const char *name)
{
	struct mx_hosts *hosts = l->hosts;

	if (hosts->count == MX_HOSTS_MOST)
		return;
	hosts->hosts[hosts->count++] =
		(struct mx_host){.name = xstrdup(name), .port = s->port, .is_mx_secure = s->is_secure};
}

/* The hosts of one source; its fault otherwise. */
static void add_hosts(struct mx_lookup *l, struct mx_source_state *s)
{
	bool is_own = false;
	uint64_t seed;

	if (s->fault != MX_SOUND)
		return;
	random_bytes(&seed, sizeof(seed));
	if (s->is_host) {
		add_host(l, s, s->name);
		return;
	}
	struct mx_entry order[DNS_RECORDS_MOST];
	size_t count = s->count;

	memcpy(order, s->entries, count * sizeof(*order));
	count = mx_order(order, count, l->own, seed, &is_own);
	if (count == 0)
		s->fault = is_own ? MX_LOOP : MX_NO_HOST;
	for (size_t i = 0; i < count; i++)
		add_host(l, s, order[i].name);
}

static void on_sources_known(struct mx_lookup *l)
{
	enum mx_fault fault = MX_SOUND;

	for (size_t i = 0; i < l->source_count; i++) {
		add_hosts(l, &l->sources[i]);
		/* One that may be there later makes all of it a matter of later. */
		if (l->sources[i].fault > fault)
			fault = l->sources[i].fault;
	}
	if (l->hosts->count) {
		ask_all_addrs(l);
		return;
	}
	set_fault(l, fault == MX_SOUND ? MX_NO_HOST : fault, "its MX records cannot be had now");
	finish(l);
}

static void add_record(struct mx_source_state *s, const struct dns_record *r)
{
	if (r->type != DNS_MX || s->count == DNS_RECORDS_MOST)
		return;
	s->names[s->count] = slice_copy_str(r->name);
	s->entries[s->count] = (struct mx_entry){s->names[s->count], r->preference};
	s->count++;
}

static void on_mx(void *arg, const struct dns_answer *a)
{
	struct mx_source_state *s = arg;

	s->request = NULL;
	s->is_secure = a->is_secure;
	if (a->error == 0) {
		note_ttl(s->lookup, a);
		/* RFC 7505: one record, of no name. Beside others such a one names nobody. */
		if (a->count == 1 && a->records[0].name.len == 0)
			s->fault = MX_NULL;
		for (unsigned i = 0; i < a->count; i++)
			if (a->records[i].name.len)
				add_record(s, &a->records[i]);
	} else if (a->error == ERR_NOT_FOUND && !a->is_nxdomain) {
		s->is_host = true; /* RFC 5321 section 5.1: the domain is its own host */
	} else {
		s->fault = a->error == ERR_NOT_FOUND ? MX_NO_DOMAIN : MX_NOT_NOW;
	}
	answered(s->lookup);
}

static void ask_source(struct mx_source_state *s)
{
	struct mx_lookup *l = s->lookup;
	struct addr literal;

	if (s->is_host || addr_parse(slice_str(s->name), s->port, &literal) == 0) {
		s->is_host = true;
		s->is_secure = true; /* the operator has said it */
		return;
	}
	if (ask(l, s->name, DNS_MX, on_mx, s, &s->request) != 0)
		s->fault = MX_NO_DOMAIN;
}

static void begin(void *arg)
{
	struct mx_lookup *l = arg;

	if (l->is_over)
		return;
	l->waiting = 1;
	for (size_t i = 0; i < l->source_count; i++)
		ask_source(&l->sources[i]);
	answered(l);
}

void mx_lookup_start(struct loop *loop, const struct mx_lookup_options *options, mx_lookup_fn *fn, void *arg,
	struct mx_lookup **lookup_out)
{
	struct mx_lookup *l = xcalloc(1, sizeof(*l));

	l->loop = loop;
	list_init(&l->later);
	timer_init(&l->again, on_again, l);
	l->fn = fn;
	l->arg = arg;
	l->own = xstrdup(options->own);
	l->prefer = options->prefer;
	l->wants_dane = options->wants_dane;
	l->timeout_ms = options->timeout_ms;
	l->ttl = KEEP_MOST_S;
	l->next_round = on_sources_known;
	l->source_count = options->count < MX_SOURCES_MOST ? options->count : MX_SOURCES_MOST;
	l->sources = xcalloc(l->source_count + 1, sizeof(*l->sources));
	l->hosts = xcalloc(1, sizeof(*l->hosts));
	l->hosts->refs = 1;
	l->hosts->hosts = xcalloc(MX_HOSTS_MOST, sizeof(*l->hosts->hosts));
	for (size_t i = 0; i < l->source_count; i++) {
		struct mx_source_state *s = &l->sources[i];

		s->lookup = l;
		s->name = xstrdup(options->sources[i].name);
		s->port = options->sources[i].port ? options->sources[i].port : SMTP_PORT;
		s->is_host = options->sources[i].is_host;
	}
	loop_defer(loop, begin, l);
	*lookup_out = l;
}
