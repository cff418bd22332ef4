/*
 * A check goes in rounds: the checker runs over the answers that there are, says which one it misses, that is asked for (with the
 * addresses of an MX's hosts and of names of the client at once), and it runs again; until it knows, or a count or limit is over. What
 * a record begins with, if that is another record, is asked for before the checker runs at all.
 *
 * The checker is a function of what it gets: a run that is the same octet for octet as an earlier one is not made again (spf_memory.h).
 * Where no record has a macro, neither HELO nor what stands before the @ can matter, and so they are not in it.
 *
 * Counting (section 4.6.4) follows what the checker looked at, in order. A TXT is a term (include, redirect), so are an MX and a
 * PTR, and every address that is not that of the next host of the MX or name of the PTR before it.
 */
#include "common/front/spf.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/front/spf_memory.h"
#include "common/front/spf_pool.h"
#include "common/net/dns.h"
#include "common/net/timer.h"
#include "common/proto/address.h"
#include "common/proto/spf_record.h"

#define SAME_FOR_ALL "postmaster@" /* a sender, where none of the records has a macro */
#define ROUNDS_MOST 30
#define TERMS_MOST 10
#define VOIDS_MOST 2
#define HOSTS_MOST 10            /* of an MX, and of the names of an address */
#define MEMORY_MOST (512 * 1024) /* of one check */
#define ANSWERS_MOST 160         /* 10 terms with 10 hosts each, and some */

static const char *const words[SPF_RESULTS] = {
	[SPF_NONE] = "none",
	[SPF_NEUTRAL] = "neutral",
	[SPF_PASS] = "pass",
	[SPF_FAIL] = "fail",
	[SPF_SOFTFAIL] = "softfail",
	[SPF_TEMPERROR] = "temperror",
	[SPF_PERMERROR] = "permerror",
};

struct home {
	struct spf_service *service;
	struct spf_pool *pool;     /* NULL: not made yet */
	struct spf_memory *memory; /* with the pool */
	struct list checks;        /* that run */
	bool has_left;
};

struct spf_service {
	char *program;
	unsigned loops, least, most;
	struct home *homes; /* one a loop, touched by its thread alone */
	struct metric *results[SPF_RESULTS], *remembered;
};

/* An answer of the DNS, or one that is awaited. */
struct entry {
	struct spf_check *check;
	struct dns_request *request; /* NULL: it has come */
	enum dns_type type;
	struct slice name; /* as the checker says it */
	enum spf_wire_state state;
	bool is_of_client; /* a PTR or the address of such a name: what fails is not there (section 5.5) */
	bool is_many;      /* more hosts than HOSTS_MOST */
	bool is_read;      /* what it brings was looked at */
	bool is_any;       /* asked for with SPF_RECORD_ANY: any address is the client's own */
	unsigned count;
	struct slice *data;
};

struct spf_check {
	struct home *home;
	struct list link;
	struct loop *loop;
	struct timer timer;
	uint64_t until_ms;
	spf_fn *fn;
	void *arg;
	struct arena arena;
	struct slice ip, sender, helo;
	const char *domain;
	bool is_helo, is_over, is_run;
	bool has_macro;      /* a record that was read has one */
	struct slice record; /* as the checker gets it */
	struct slice *terms; /* its terms as they were written by the domain */
	size_t term_count;
	struct spf_pool_job job;
	unsigned rounds, pending, count;
	struct entry entries[ANSWERS_MOST];
};

const char *spf_result_word(enum spf_result result)
{
	return words[result];
}

/* ---- the service ---- */

/* PREFIX/bin/x, PREFIX/sbin/x: PREFIX/libexec/mailtier-spf. */
static char *default_program(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	char *slash;

	for (int up = 0; up < 2; up++) {
		path[n > 0 ? n : 0] = '\0';
		slash = strrchr(path, '/');
		n = slash ? slash - path : 0;
	}
	path[n] = '\0';
	snprintf(path + n, 64, "/libexec/mailtier-spf");
	return xstrdup(path);
}

int spf_program_check(const char *program, struct buf *why)
{
	char *path = program ? xstrdup(program) : default_program();
	int err = access(path, X_OK) ? ERR_CONFIG : 0;

	if (err)
		buf_printf(why, "%s: the checker of SPF records is not there", path);
	free(path);
	return err;
}

struct spf_service *spf_service_new(const struct spf_options *options)
{
	struct spf_service *s = xcalloc(1, sizeof(*s));

	s->program = options->program ? xstrdup(options->program) : default_program();
	s->loops = options->loops;
	s->least = options->least;
	s->most = options->most;
	s->homes = xcalloc(s->loops, sizeof(*s->homes));
	for (unsigned i = 0; i < s->loops; i++) {
		s->homes[i].service = s;
		list_init(&s->homes[i].checks);
	}
	for (unsigned i = 0; i < SPF_RESULTS; i++) {
		char labels[40];

		snprintf(labels, sizeof(labels), "result=\"%s\"", words[i]);
		s->results[i] = metrics_counter("mailtier_spf_checks", labels, "SPF checks by result");
	}
	s->remembered = metrics_counter("mailtier_spf_runs_remembered", NULL,
		"Runs of SPF checkers that an earlier one had answered");
	return s;
}

static void leave(void *arg)
{
	struct home *home = arg;

	home->has_left = true;
	spf_pool_free(&home->pool);
	spf_memory_free(&home->memory);
}

void spf_service_leave(struct spf_service *service, struct loop *loop)
{
	loop_post(loop, leave, &service->homes[loop_index(loop)]);
}

void spf_service_free(struct spf_service **service)
{
	struct spf_service *s = *service;

	if (!s)
		return;
	*service = NULL;
	for (unsigned i = 0; i < s->loops; i++) {
		spf_pool_free(&s->homes[i].pool);
		spf_memory_free(&s->homes[i].memory);
	}
	free(s->program);
	free(s->homes);
	free(s);
}

/* ---- the end of a check ---- */

static void check_free(struct spf_check *c)
{
	c->is_over = true;
	list_remove(&c->link);
	timer_stop(&c->timer);
	for (unsigned i = 0; i < c->count; i++)
		dns_cancel(&c->entries[i].request);
	if (c->is_run && c->home->pool)
		spf_pool_cancel(c->home->pool, &c->job);
	buf_deinit(&c->job.run);
	arena_deinit(&c->arena);
	loop_free_later(c->loop, c);
}

static void finish(struct spf_check *c, enum spf_result result, const char *term)
{
	char domain[DNS_NAME_MOST + 2], text[SPF_WIRE_TEXT_MOST + 1];
	struct spf_answer answer = {.result = result, .is_helo = c->is_helo, .domain = domain, .term = text};
	spf_fn *fn = c->fn;
	void *arg = c->arg;

	snprintf(domain, sizeof(domain), "%s", c->domain);
	snprintf(text, sizeof(text), "%s", term);
	metric_add(c->home->service->results[result], 1);
	check_free(c);
	fn(arg, &answer);
}

static void on_time(void *arg)
{
	finish(arg, SPF_TEMPERROR, "no answer in time");
}

void spf_service_cut(struct spf_service *service, struct loop *loop)
{
	struct home *home = &service->homes[loop_index(loop)];

	home->has_left = true;
	while (!list_is_empty(&home->checks))
		finish(container_of(home->checks.next, struct spf_check, link), SPF_TEMPERROR,
			"the program ends");
}

/* ---- the DNS ---- */

static void advance(struct spf_check *c);

static struct entry *find(struct spf_check *c, unsigned type, struct slice name)
{
	for (unsigned i = 0; i < c->count; i++)
		if ((unsigned)c->entries[i].type == type && slice_is_equal_nocase(c->entries[i].name, name))
			return &c->entries[i];
	return NULL;
}

static struct slice data_of(const struct dns_record *r)
{
	return r->type == DNS_TXT ? r->text : r->type == DNS_A || r->type == DNS_AAAA ? r->ip : r->name;
}

/* The hosts of an MX, the names of the client: those that are looked at. */
static bool has_hosts(const struct entry *e)
{
	return e->type == DNS_MX || e->type == DNS_PTR;
}

/* What the checker gets for a record. */
static struct slice copy_data(struct entry *e, struct slice data)
{
	struct spf_check *c = e->check;
	struct buf host = {0};
	struct slice copy;

	if (!e->is_any)
		return arena_copy(&c->arena, data);
	if (!has_hosts(e))
		return c->ip;
	buf_printf(&host, "%.*s" SPF_RECORD_ANY, SLICE_ARG(data));
	copy = arena_copy(&c->arena, buf_view(&host));
	buf_deinit(&host);
	return copy;
}

static void take_records(struct entry *e, const struct dns_answer *answer)
{
	struct spf_check *c = e->check;

	e->data = arena_calloc(&c->arena, answer->count, sizeof(*e->data));
	for (unsigned i = 0; e->data && i < answer->count; i++) {
		struct slice data = data_of(&answer->records[i]);

		if (e->type == DNS_TXT && !spf_record_is_one(data))
			continue;
		if (has_hosts(e) && !data.len)
			continue;
		if (has_hosts(e) && e->count == HOSTS_MOST) {
			e->is_many = true;
			break;
		}
		e->data[e->count] = copy_data(e, data);
		if (!e->data[e->count].p) {
			e->data = NULL;
			break;
		}
		e->count++;
	}
	e->state = !e->data ? SPF_WIRE_FAILED : e->count ? SPF_WIRE_RECORDS : SPF_WIRE_NONE;
	if (!e->data)
		e->count = 0;
}

static void on_dns(void *arg, const struct dns_answer *answer)
{
	struct entry *e = arg;
	struct spf_check *c = e->check;

	e->request = NULL;
	if (answer->error == 0)
		take_records(e, answer);
	else
		e->state =
			answer->error == ERR_NOT_FOUND || e->is_of_client ? SPF_WIRE_NONE : SPF_WIRE_FAILED;
	if (--c->pending == 0)
		advance(c);
}

/* A name that is too long loses labels at its left (section 7.3). */
static struct slice question_of(struct slice name)
{
	name = dns_name_trim(name);
	while (name.len > DNS_NAME_MOST) {
		ptrdiff_t dot = slice_find(name, '.');

		if (dot < 0)
			break;
		name = slice_from(name, (size_t)dot + 1);
	}
	return name;
}

/* false: no memory, or too many. A name that cannot be is not there. */
static bool ask(struct spf_check *c, enum dns_type type, struct slice name, bool is_of_client)
{
	static const struct slice any = {SPF_RECORD_ANY, sizeof(SPF_RECORD_ANY) - 1};
	bool is_any = type != DNS_TXT && name.len > any.len &&
		      slice_is_equal_nocase(slice_from(name, name.len - any.len), any);
	struct slice question = question_of(is_any ? slice_sub(name, 0, name.len - any.len) : name);
	char text[DNS_NAME_MOST + 1];
	struct entry *e;

	if (c->count == ANSWERS_MOST)
		return false;
	e = &c->entries[c->count];
	*e = (struct entry){.check = c,
		.type = type,
		.state = SPF_WIRE_NONE,
		.is_of_client = is_of_client,
		.is_any = is_any,
		.name = arena_copy(&c->arena, name)};
	if (!e->name.p)
		return false;
	c->count++;
	if (!dns_name_is_question(question))
		return true;
	snprintf(text, sizeof(text), "%.*s", SLICE_ARG(question));
	if (dns_ask_any(c->loop, text, type, c->until_ms - loop_now_ms(c->loop), on_dns, e, &e->request) == 0)
		c->pending++;
	else
		e->state = is_of_client ? SPF_WIRE_NONE : SPF_WIRE_FAILED;
	return true;
}

static enum dns_type address_type(const struct spf_check *c)
{
	return c->ip.len == 4 ? DNS_A : DNS_AAAA;
}

/* Addresses of the hosts that an answer names, which the checker would ask for one after the other. */
static bool ask_hosts(struct spf_check *c, const struct entry *e)
{
	if (e->type == DNS_MX && e->is_many) /* the end of the check */
		return true;
	for (unsigned i = 0; i < e->count; i++)
		if (!find(c, address_type(c), e->data[i]) &&
			!ask(c, address_type(c), e->data[i], e->type == DNS_PTR))
			return false;
	return true;
}

/* ---- records ---- */

/* The record that the checker will ask for before anything else, as its term is the first: asked for now, it saves a round. */
static bool foresee(struct spf_check *c, const struct spf_record *record)
{
	const struct spf_record_term *t = &record->terms[0];

	if (record->count == 0 || c->count > TERMS_MOST ||
		(t->kind != SPF_RECORD_INCLUDE && t->kind != SPF_RECORD_REDIRECT) ||
		slice_find(t->spec, '%') >= 0 || find(c, DNS_TXT, t->spec))
		return true;
	return ask(c, DNS_TXT, t->spec, false);
}

/* What the checker gets instead of the record; false: no memory. */
static bool keep_record(struct spf_check *c, struct entry *e, struct spf_record *record, bool is_first)
{
	const struct spf_record_values values = {
		.is_ip6 = c->ip.len == 16, .sender = c->sender, .helo = c->helo, .domain = e->name};
	struct buf text = {0};

	for (size_t i = 0; i < record->count; i++)
		c->has_macro |= slice_find(record->terms[i].text, '%') >= 0;
	spf_record_write(record, &values, &text);
	e->data[0] = arena_copy(&c->arena, buf_view(&text));
	buf_deinit(&text);
	if (!e->data[0].p || !foresee(c, record))
		return false;
	if (!is_first)
		return true;
	c->record = e->data[0];
	c->terms = arena_calloc(&c->arena, record->count, sizeof(*c->terms));
	c->term_count = c->terms ? record->count : 0;
	for (size_t i = 0; i < c->term_count; i++)
		c->terms[i] = record->terms[i].text;
	return true;
}

/* The domain's own words for a term of c->record. */
static struct slice original_term(const struct spf_check *c, struct slice term)
{
	struct slice rest = c->record;

	for (size_t i = 0; rest.len; i++) {
		ptrdiff_t blank = slice_find(rest, ' ');
		size_t len = blank < 0 ? rest.len : (size_t)blank;

		if (i > 0 && i <= c->term_count && slice_is_equal(slice_sub(rest, 0, len), term))
			return c->terms[i - 1];
		rest = slice_from(rest, len + 1);
	}
	return term;
}

/* Of the domain itself, an include or a redirection: makes the one record of the answer what the checker gets. False: the check is over. */
static bool read_record(struct spf_check *c, struct entry *e, bool is_first)
{
	struct spf_record record;
	struct buf why = {0};
	struct slice term = {0};
	const char *what = "";
	int err;

	if (e->state == SPF_WIRE_FAILED) {
		finish(c, SPF_TEMPERROR, "the record cannot be read now");
		return false;
	}
	if (e->count == 0) {
		finish(c, is_first ? SPF_NONE : SPF_PERMERROR,
			is_first ? "" : "an included domain has no record");
		return false;
	}
	if (e->count > 1) {
		finish(c, SPF_PERMERROR, "more than one record");
		return false;
	}
	err = spf_record_parse(e->data[0], &record, &what, &term);
	if (err) {
		buf_printf(&why, "%s: %.*s", what, SLICE_ARG(term));
		finish(c, SPF_PERMERROR, buf_str_view(&why));
	} else if (!keep_record(c, e, &record, is_first)) {
		finish(c, SPF_PERMERROR, "too many look-ups");
		err = ERR_TOO_BIG;
	}
	buf_deinit(&why);
	return err == 0;
}

/* ---- counting ---- */

struct counts {
	unsigned terms, voids;
	const struct entry *hosts; /* the MX or PTR whose addresses are looked at */
	unsigned next;
};

/* Counts one look-up; NULL, or what it breaks. entry NULL: there is no answer yet. */
static const char *count_lookup(
	struct counts *n, enum dns_type type, struct slice name, const struct entry *entry)
{
	if (type == DNS_A || type == DNS_AAAA) {
		if (n->hosts && n->next < n->hosts->count &&
			slice_is_equal_nocase(n->hosts->data[n->next], name)) {
			n->next++;
			return NULL;
		}
	}
	n->hosts = NULL;
	n->terms++;
	if (n->terms > TERMS_MOST)
		return "more than ten terms look into the DNS";
	if (!entry)
		return NULL;
	if (entry->state == SPF_WIRE_NONE && type != DNS_PTR && ++n->voids > VOIDS_MOST)
		return "more than two look-ups find nothing";
	if (type == DNS_MX && entry->is_many)
		return "more than ten mail exchangers";
	if (has_hosts(entry)) {
		n->hosts = entry;
		n->next = 0;
	}
	return NULL;
}

/* False: the check is over. */
static bool is_within_limits(struct spf_check *c, const struct spf_wire_reply *reply)
{
	struct counts n = {0};
	const char *why = NULL;

	for (unsigned i = 0; i < reply->count && !why; i++) {
		const struct entry *e = &c->entries[reply->trace[i]];

		why = count_lookup(&n, e->type, e->name, e);
		if (!why && e->state == SPF_WIRE_FAILED) {
			finish(c, SPF_TEMPERROR, "the DNS does not answer");
			return false;
		}
	}
	if (!why && reply->kind == SPF_WIRE_MISSING)
		why = count_lookup(&n, (enum dns_type)reply->type, reply->text, NULL);
	if (why)
		finish(c, SPF_PERMERROR, why);
	return why == NULL;
}

/* ---- rounds ---- */

static bool is_known_type(unsigned type)
{
	return type == DNS_A || type == DNS_AAAA || type == DNS_MX || type == DNS_TXT || type == DNS_PTR;
}

/* Of the checker, or remembered. */
static void take_reply(struct spf_check *c, struct slice text, bool is_remembered)
{
	struct spf_wire_reply reply;
	char term[SPF_WIRE_TEXT_MOST + 1];

	if (spf_wire_read_reply(text, c->count, &reply) != 0 ||
		(reply.kind == SPF_WIRE_MISSING &&
			(!is_known_type(reply.type) || find(c, reply.type, reply.text)))) {
		log_error("front", "an SPF checker gave a senseless reply domain=%s", c->domain);
		finish(c, SPF_TEMPERROR, "the checker failed");
		return;
	}
	if (!is_remembered)
		spf_memory_add(c->home->memory, buf_view(&c->job.run), text, loop_now_ms(c->loop));
	if (!is_within_limits(c, &reply))
		return;
	if (reply.kind == SPF_WIRE_MISSING) {
		if (!ask(c, (enum dns_type)reply.type, reply.text, reply.type == DNS_PTR))
			finish(c, SPF_PERMERROR, "too many look-ups");
		else if (c->pending == 0)
			advance(c);
		return;
	}
	snprintf(term, sizeof(term), "%.*s", SLICE_ARG(original_term(c, reply.text)));
	finish(c, reply.result, term);
}

static void on_reply(void *arg, int error, struct slice text)
{
	struct spf_check *c = arg;

	c->is_run = false;
	if (error) {
		finish(c, SPF_TEMPERROR, "the checker failed");
		return;
	}
	take_reply(c, text, false);
}

static void run(struct spf_check *c)
{
	struct spf_wire_answer answers[ANSWERS_MOST];
	struct spf_wire_run wire = {.ip = c->ip,
		.sender = c->sender,
		.helo = c->helo,
		.domain = slice_str(c->domain),
		.record = c->record,
		.count = c->count,
		.answers = answers};
	char sender[sizeof(SAME_FOR_ALL) + DNS_NAME_MOST + 2];
	struct slice reply;

	if (!c->has_macro) {
		snprintf(sender, sizeof(sender), SAME_FOR_ALL "%s", c->domain);
		wire.sender = slice_str(sender);
		wire.helo = slice_str(c->domain);
	}
	for (unsigned i = 0; i < c->count; i++)
		answers[i] = (struct spf_wire_answer){.type = c->entries[i].type,
			.name = c->entries[i].name,
			.state = c->entries[i].state,
			.count = c->entries[i].count,
			.data = c->entries[i].data};
	buf_clear(&c->job.run);
	if (++c->rounds > ROUNDS_MOST || spf_wire_write_run(&wire, &c->job.run) != 0) {
		finish(c, SPF_PERMERROR, "the record needs more of the DNS than there is room for");
		return;
	}
	if (!c->home->pool) { /* the program ends */
		finish(c, SPF_TEMPERROR, "no checker is free");
		return;
	}
	reply = spf_memory_find(c->home->memory, buf_view(&c->job.run), loop_now_ms(c->loop));
	if (reply.len) {
		metric_add(c->home->service->remembered, 1);
		take_reply(c, reply, true);
		return;
	}
	c->is_run = true;
	if (spf_pool_run(c->home->pool, &c->job) != 0) {
		c->is_run = false;
		finish(c, SPF_TEMPERROR, "no checker is free");
	}
}

/* What has come is read, and what it brings is asked for in turn; with nothing awaited the checker runs. */
static void advance(struct spf_check *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct entry *e = &c->entries[i];

		if (e->is_read || e->request)
			continue;
		e->is_read = true;
		if (e->type == DNS_TXT && !read_record(c, e, i == 0))
			return;
		if (has_hosts(e) && !ask_hosts(c, e)) {
			finish(c, SPF_PERMERROR, "too many look-ups");
			return;
		}
	}
	if (c->pending == 0)
		run(c);
}

/* ---- the beginning ---- */

/* A name with two labels at least, as SPF wants it (section 4.3); a final dot goes. */
static bool is_domain(struct slice s)
{
	s = dns_name_trim(s);
	return dns_name_is_question(s) && slice_find(s, '.') > 0 && s.p[0] != '[';
}

static bool read_identity(struct spf_check *c, const struct spf_question *q)
{
	ptrdiff_t at = slice_find_last(q->sender, '@');
	struct slice domain = at < 0 ? q->helo : slice_from(q->sender, (size_t)at + 1);
	struct slice local = at > 0 ? slice_sub(q->sender, 0, (size_t)at) : SLICE_LIT("postmaster");
	struct buf sender = {0};
	struct slice ascii;
	char *text;

	c->is_helo = at < 0;
	domain = dns_name_trim(domain);
	if (!slice_is_ascii(domain) && address_normalise_domain(&c->arena, domain, &ascii) == 0)
		domain = ascii;
	text = arena_copy_str(&c->arena, domain);
	for (size_t i = 0; text && text[i]; i++)
		text[i] = slice_has_control(slice_of(text + i, 1)) ? '?' : ascii_lower(text[i]);
	c->domain = text ? text : "";
	c->helo = arena_copy(&c->arena, q->helo);
	c->ip = arena_copy(&c->arena, addr_ip(&q->client));
	buf_printf(&sender, "%.*s@%.*s", SLICE_ARG(local), SLICE_ARG(domain));
	c->sender = arena_copy(&c->arena, buf_view(&sender));
	buf_deinit(&sender);
	return (c->ip.len == 4 || c->ip.len == 16) && c->sender.p && c->helo.p && is_domain(domain) &&
	       !memchr(c->sender.p, '\0', c->sender.len) &&
	       !(c->helo.len && memchr(c->helo.p, '\0', c->helo.len));
}

static void say_none(void *arg)
{
	struct spf_check *c = arg;

	if (!c->is_over)
		finish(c, SPF_NONE, "no domain");
}

static void say_not_now(void *arg)
{
	struct spf_check *c = arg;

	if (!c->is_over)
		finish(c, SPF_TEMPERROR, "the DNS cannot be asked");
}

void spf_check(struct spf_service *service, struct loop *loop, const struct spf_question *question,
	uint64_t timeout_ms, spf_fn *fn, void *arg, struct spf_check **check_out)
{
	struct spf_check *c = xcalloc(1, sizeof(*c));

	c->home = &service->homes[loop_index(loop)];
	c->loop = loop;
	c->fn = fn;
	c->arg = arg;
	c->until_ms = loop_now_ms(loop) + timeout_ms;
	c->job.fn = on_reply;
	c->job.arg = c;
	arena_init(&c->arena, MEMORY_MOST);
	timer_init(&c->timer, on_time, c);
	timer_set(&c->timer, loop, timeout_ms);
	*check_out = c;
	list_add_last(&c->home->checks, &c->link);
	if (!c->home->pool && !c->home->has_left) {
		c->home->pool = spf_pool_new(loop, service->program, service->least, service->most);
		spf_pool_fill(c->home->pool);
		c->home->memory = spf_memory_new();
	}
	if (!read_identity(c, question))
		loop_defer(loop, say_none, c);
	else if (!c->home->pool || !ask(c, DNS_TXT, slice_str(c->domain), false) || c->pending == 0)
		loop_defer(loop, say_not_now, c);
}

void spf_cancel(struct spf_check **check)
{
	struct spf_check *c = *check;

	if (!c)
		return;
	*check = NULL;
	check_free(c);
}
