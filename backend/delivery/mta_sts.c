/*
 * Entries are found by domain, and stand in a list in the order of their last use; the oldest goes when there are too many. A fetch is
 * shared by all who wait for that domain.
 *
 * The file: one line an entry, fields separated by tabs.
 *
 *	domain TAB id TAB mode TAB max_age TAB fetched TAB expires TAB mx mx ...
 */
#include "backend/delivery/mta_sts.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/delivery/kept_file.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/net/dial.h"
#include "common/net/dns.h"
#include "common/net/timer.h"
#include "common/proto/http1_response.h"

#define HTTPS_PORT 443
/* After a failure nobody asks the web server again for so long. */
#define FAILED_S 300
/* A policy is fetched anew after half its age, at most after a day. */
#define REFRESH_S 86400
#define LINE_FIELDS 7

struct entry {
	struct list link; /* the one used longest ago first */
	struct mta_sts_policy *policy;
	int64_t failed_until_s;
	enum mta_sts_fault fault; /* of the failure */
	struct fetch *fetch;
	char domain[];
};

struct fetch {
	struct list link;
	struct mta_sts *m;
	char *domain, *host;
	char id[STS_POLICY_ID_MOST + 1];
	struct list waiting; /* requests */
	struct conn *conn;
	struct timer timer;
	bool has_head;
	struct http1_response response;
	struct http1_chunks chunks;
	struct buf body;
};

struct mta_sts_request {
	struct list link; /* fetch's waiting */
	struct mta_sts *m;
	char *domain;
	struct tls *tls;
	struct dns_request *dns;
	mta_sts_fn *fn;
	void *arg;
	bool is_over;
	struct mta_sts_policy *policy; /* for telling later */
	enum mta_sts_fault fault;
};

struct mta_sts {
	struct loop *loop;
	struct kept_file *file;
	struct table *table;
	struct list entries, fetches;
	unsigned fetch_count;
	uint64_t fetch_ms;
};

/* ---- policies ---- */

struct mta_sts_policy *mta_sts_policy_ref(struct mta_sts_policy *policy)
{
	if (policy)
		policy->refs++;
	return policy;
}

void mta_sts_policy_unref(struct mta_sts_policy **policy)
{
	struct mta_sts_policy *p = *policy;

	*policy = NULL;
	if (!p || --p->refs)
		return;
	free(p->mx);
	free(p);
}

static struct slice next_word(struct slice *rest, char separator)
{
	ptrdiff_t end = slice_find(*rest, separator);
	struct slice word = slice_sub(*rest, 0, end < 0 ? rest->len : (size_t)end);

	*rest = slice_from(*rest, end < 0 ? rest->len : (size_t)end + 1);
	return word;
}

bool mta_sts_policy_has_host(const struct mta_sts_policy *policy, const char *host)
{
	struct slice rest = slice_str(policy->mx);

	while (rest.len)
		if (sts_policy_fits(next_word(&rest, ' '), slice_str(host)))
			return true;
	return false;
}

static struct mta_sts_policy *new_policy(const struct sts_policy *from, struct slice id, int64_t fetched_s)
{
	struct mta_sts_policy *p = xcalloc(1, sizeof(*p));
	struct buf mx = {0};

	p->refs = 1;
	p->mode = from->mode;
	p->max_age = from->max_age;
	p->fetched_s = fetched_s;
	p->expires_s = fetched_s + from->max_age;
	memcpy(p->id, id.p, id.len < STS_POLICY_ID_MOST ? id.len : STS_POLICY_ID_MOST);
	for (size_t i = 0; i < from->mx_count; i++)
		buf_printf(&mx, "%s%.*s", i ? " " : "", SLICE_ARG(from->mx[i]));
	p->mx = xstrdup(buf_str_view(&mx));
	buf_deinit(&mx);
	return p;
}

/* ---- the file ---- */

void mta_sts_write_line(struct buf *out, const char *domain, const struct mta_sts_policy *p)
{
	buf_printf(out, "%s\t%s\t%s\t%u\t%lld\t%lld\t%s", domain, p->id, sts_policy_mode_word(p->mode),
		p->max_age, (long long)p->fetched_s, (long long)p->expires_s, p->mx);
}

static bool are_patterns(struct slice text)
{
	size_t count = 0;

	while (text.len)
		if (!sts_policy_is_pattern(next_word(&text, ' ')) || ++count > STS_POLICY_MX_MOST)
			return false;
	return true;
}

int mta_sts_read_line(struct slice line, char **domain_out, struct mta_sts_policy **policy_out)
{
	struct slice f[LINE_FIELDS], rest = line, id;
	struct mta_sts_policy p = {.refs = 1};
	uint64_t fetched, expires;
	struct buf record = {0};
	int err;

	for (size_t i = 0; i < LINE_FIELDS; i++)
		f[i] = next_word(&rest, '\t');
	buf_printf(&record, "v=STSv1; id=%.*s", SLICE_ARG(f[1]));
	err = sts_policy_parse_record(buf_view(&record), &id);
	buf_deinit(&record);
	if (err || rest.len || !dns_name_is_host(f[0]) || sts_policy_parse_mode(f[2], &p.mode) ||
		num_parse_u32(f[3], &p.max_age) || p.max_age > STS_POLICY_AGE_MOST ||
		num_parse_u64(f[4], &fetched) || num_parse_u64(f[5], &expires) || expires > INT64_MAX ||
		fetched > expires || !are_patterns(f[6]) || (!f[6].len && p.mode != STS_POLICY_NONE))
		return ERR_SYNTAX;
	memcpy(p.id, f[1].p, f[1].len);
	p.fetched_s = (int64_t)fetched;
	p.expires_s = (int64_t)expires;
	p.mx = slice_copy_str(f[6]);
	*policy_out = xmalloc(sizeof(p));
	**policy_out = p;
	*domain_out = slice_copy_str(f[0]);
	return 0;
}

static void write_text(void *arg, struct buf *out)
{
	struct mta_sts *m = arg;

	list_for_each (at, &m->entries) {
		struct entry *e = container_of(at, struct entry, link);

		if (!e->policy)
			continue;
		mta_sts_write_line(out, e->domain, e->policy);
		buf_add_char(out, '\n');
	}
}

static void changed(struct mta_sts *m)
{
	if (m->file)
		kept_file_changed(m->file);
}

/* ---- entries ---- */

static void drop_entry(struct mta_sts *m, struct entry *e)
{
	(void)table_remove(m->table, slice_str(e->domain));
	list_remove(&e->link);
	mta_sts_policy_unref(&e->policy);
	free(e);
}

static struct entry *use_entry(struct mta_sts *m, const char *domain, bool makes)
{
	struct entry *e = table_get(m->table, slice_str(domain));
	size_t len = strlen(domain);

	if (e) {
		list_remove(&e->link);
		list_add_last(&m->entries, &e->link);
		return e;
	}
	if (!makes)
		return NULL;
	list_for_each_safe (at, &m->entries) {
		struct entry *old = container_of(at, struct entry, link);

		if (table_count(m->table) < MTA_STS_ENTRIES_MOST)
			break;
		if (!old->fetch)
			drop_entry(m, old);
	}
	e = xcalloc(1, sizeof(*e) + len + 1);
	memcpy(e->domain, domain, len + 1);
	list_add_last(&m->entries, &e->link);
	(void)table_put(m->table, slice_str(e->domain), e);
	return e;
}

static struct mta_sts_policy *live_policy(const struct entry *e)
{
	return e && e->policy && e->policy->expires_s > clock_wall_s() ? e->policy : NULL;
}

static void read_text(struct mta_sts *m, struct slice text)
{
	while (text.len && table_count(m->table) < MTA_STS_ENTRIES_MOST) {
		struct mta_sts_policy *policy;
		struct entry *e;
		char *domain;

		if (mta_sts_read_line(next_word(&text, '\n'), &domain, &policy) != 0)
			continue;
		e = use_entry(m, domain, true);
		mta_sts_policy_unref(&e->policy);
		e->policy = policy;
		free(domain);
	}
}

/* ---- requests ---- */

static void free_request(struct mta_sts_request *r)
{
	r->is_over = true;
	list_remove(&r->link);
	dns_cancel(&r->dns);
	tls_unref(&r->tls);
	mta_sts_policy_unref(&r->policy);
	free(r->domain);
	loop_free_later(r->m->loop, r);
}

void mta_sts_cancel(struct mta_sts_request **request)
{
	struct mta_sts_request *r = *request;

	*request = NULL;
	if (r)
		free_request(r);
}

static void tell(struct mta_sts_request *r, struct mta_sts_policy *policy, enum mta_sts_fault fault)
{
	struct mta_sts_policy *kept = mta_sts_policy_ref(policy);
	mta_sts_fn *fn = r->fn;
	void *arg = r->arg;

	free_request(r);
	fn(arg, kept, fault);
	mta_sts_policy_unref(&kept);
}

/* ---- fetching ---- */

static void free_fetch(void *arg)
{
	struct fetch *f = arg;

	buf_deinit(&f->body);
	free(f->domain);
	free(f->host);
	free(f);
}

static void end_fetch(struct fetch *f)
{
	struct entry *e = table_get(f->m->table, slice_str(f->domain));

	if (e)
		e->fetch = NULL;
	timer_stop(&f->timer);
	conn_abort(&f->conn);
	list_remove(&f->link);
	f->m->fetch_count--;
	loop_defer(f->m->loop, free_fetch, f);
}

static void finish(struct fetch *f, struct mta_sts_policy *policy_take, enum mta_sts_fault fault)
{
	struct mta_sts *m = f->m;
	struct entry *e = use_entry(m, f->domain, true);
	struct list waiting;

	if (policy_take) {
		mta_sts_policy_unref(&e->policy);
		e->policy = policy_take;
		e->failed_until_s = 0;
		changed(m);
	} else {
		e->failed_until_s = clock_wall_s() + FAILED_S;
		e->fault = fault;
		log_info("sending", "no MTA-STS policy from %s: %s", f->host,
			fault == MTA_STS_INVALID     ? "what it gives is none"
			: fault == MTA_STS_UNTRUSTED ? "its certificate is wrong"
						     : "it cannot be fetched");
	}
	list_init(&waiting);
	list_move_all(&waiting, &f->waiting);
	end_fetch(f);
	/* One may end others, or the whole: the list is this function's. */
	while (!list_is_empty(&waiting)) {
		struct mta_sts_request *r = container_of(waiting.next, struct mta_sts_request, link);

		e = table_get(m->table, slice_str(r->domain));
		tell(r, live_policy(e), fault);
	}
}

static void take_policy(struct fetch *f)
{
	struct sts_policy policy;

	if (sts_policy_parse(buf_view(&f->body), &policy) != 0)
		finish(f, NULL, MTA_STS_INVALID);
	else
		finish(f, new_policy(&policy, slice_str(f->id), clock_wall_s()), MTA_STS_SOUND);
}

/* False: more is needed, or it has ended. */
static bool read_head(struct fetch *f)
{
	ssize_t n = http1_response_parse(conn_input(f->conn), &f->response);

	if (n > 0 && f->response.status / 100 == 1) {
		conn_consume(f->conn, (size_t)n);
		return true;
	}
	/* Section 3.3: nothing but 200, no other place; and what a user might have laid there is no plain text. */
	if (n < 0 ||
		(n > 0 && (f->response.status != 200 || !http1_response_is_type(&f->response, "text/plain") ||
				  f->response.length > STS_POLICY_SIZE_MOST))) {
		finish(f, NULL, MTA_STS_UNFETCHED);
		return false;
	}
	if (n == 0)
		return false;
	f->response.content_type = SLICE_LIT(""); /* the input goes */
	f->has_head = true;
	conn_consume(f->conn, (size_t)n);
	return true;
}

static bool read_body(struct fetch *f)
{
	struct slice in = conn_input(f->conn);
	ssize_t n = (ssize_t)in.len;

	if (f->response.is_chunked)
		n = http1_response_chunk(&f->chunks, in, &f->body);
	else
		buf_add_slice(&f->body, in);
	if (n < 0 || f->body.failed) {
		finish(f, NULL, MTA_STS_INVALID);
		return false;
	}
	conn_consume(f->conn, (size_t)n);
	if (f->chunks.is_over || (f->response.has_length && buf_len(&f->body) >= f->response.length)) {
		if (f->response.has_length)
			buf_cut(&f->body, (size_t)f->response.length);
		take_policy(f);
		return false;
	}
	return n > 0;
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct fetch *f = owner;

	switch (event) {
	case CONN_OPENED:
		conn_printf(conn,
			"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: %s\r\nUser-Agent: mailtier\r\n"
			"Accept: text/plain\r\nConnection: close\r\n\r\n",
			f->host);
		break;
	case CONN_DATA:
		while (conn_input(conn).len && (f->has_head ? read_body(f) : read_head(f)))
			;
		break;
	case CONN_EOF:
		if (f->has_head && !f->response.is_chunked && !f->response.has_length)
			take_policy(f);
		else
			finish(f, NULL, MTA_STS_UNFETCHED);
		break;
	case CONN_FAILED:
		finish(f, NULL, conn_error(conn) == ERR_TLS ? MTA_STS_UNTRUSTED : MTA_STS_UNFETCHED);
		break;
	case CONN_SECURED:
	case CONN_DRAINED:
		break;
	}
}

static void on_time(void *arg)
{
	finish(arg, NULL, MTA_STS_UNFETCHED);
}

/* NULL: too many, or it cannot begin. */
static struct fetch *begin_fetch(struct mta_sts *m, const char *domain, struct slice id, struct tls *tls)
{
	struct fetch *f;
	struct buf host = {0};

	if (m->fetch_count >= MTA_STS_FETCHES_MOST)
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->m = m;
	f->domain = xstrdup(domain);
	buf_printf(&host, "mta-sts.%s", domain);
	f->host = xstrdup(buf_str_view(&host));
	buf_deinit(&host);
	memcpy(f->id, id.p, id.len);
	list_init(&f->waiting);
	buf_init(&f->body, STS_POLICY_SIZE_MOST);
	timer_init(&f->timer, on_time, f);
	struct dial_options options = {
		.host = f->host, .port = HTTPS_PORT, .timeout_ms = m->fetch_ms, .tls = tls};

	if (dial(m->loop, &options, on_event, f, &f->conn) != 0) {
		free_fetch(f);
		return NULL;
	}
	conn_set_input_limit(f->conn, 2 * HTTP1_RESPONSE_HEAD_MOST);
	m->fetch_count++;
	list_add_last(&m->fetches, &f->link);
	timer_set(&f->timer, m->loop, m->fetch_ms);
	return f;
}

/* ---- the record ---- */

/* Exactly one record of ours must be there (section 3.1). */
static bool find_id(const struct dns_answer *a, char id[STS_POLICY_ID_MOST + 1])
{
	struct slice found = {NULL, 0};
	unsigned count = 0;

	for (unsigned i = 0; a->error == 0 && i < a->count; i++) {
		struct slice one = {NULL, 0};
		int err = a->records[i].type == DNS_TXT ? sts_policy_parse_record(a->records[i].text, &one)
							: ERR_NOT_FOUND;

		if (err == ERR_NOT_FOUND)
			continue;
		count++;
		found = err ? slice_of(NULL, 0) : one;
	}
	if (count != 1 || !found.len)
		return false;
	memcpy(id, found.p, found.len);
	id[found.len] = '\0';
	return true;
}

static bool is_due(const struct mta_sts_policy *p)
{
	int64_t after = p->max_age / 2 < REFRESH_S ? p->max_age / 2 : REFRESH_S;

	return clock_wall_s() - p->fetched_s >= after;
}

static void on_txt(void *arg, const struct dns_answer *a)
{
	struct mta_sts_request *r = arg;
	struct mta_sts *m = r->m;
	char id[STS_POLICY_ID_MOST + 1];
	bool has_id = find_id(a, id);
	struct entry *e = use_entry(m, r->domain, has_id);
	struct mta_sts_policy *live = live_policy(e);
	bool is_same = live && has_id && strcmp(id, live->id) == 0;

	r->dns = NULL;
	if (!has_id || (is_same && !is_due(live)) || (e->failed_until_s > clock_wall_s() && !e->fetch)) {
		tell(r, live, has_id && !live ? e->fault : MTA_STS_SOUND);
		return;
	}
	if (!e->fetch)
		e->fetch = begin_fetch(m, r->domain, slice_str(id), r->tls);
	if (is_same || !e->fetch)
		tell(r, live, live ? MTA_STS_SOUND : MTA_STS_UNFETCHED);
	else
		list_add_last(&e->fetch->waiting, &r->link);
}

static void tell_later(void *arg)
{
	struct mta_sts_request *r = arg;

	if (!r->is_over)
		tell(r, live_policy(use_entry(r->m, r->domain, false)), MTA_STS_SOUND);
}

void mta_sts_ask(struct mta_sts *m, const char *domain, struct tls *tls, uint64_t dns_ms, mta_sts_fn *fn,
	void *arg, struct mta_sts_request **request_out)
{
	struct mta_sts_request *r = xcalloc(1, sizeof(*r));
	struct buf name = {0};

	list_init(&r->link);
	r->m = m;
	r->domain = xstrdup(domain);
	r->tls = tls_ref(tls);
	r->fn = fn;
	r->arg = arg;
	buf_printf(&name, "_mta-sts.%s", domain);
	if (dns_ask(m->loop, buf_str_view(&name), DNS_TXT, dns_ms, on_txt, r, &r->dns) != 0)
		loop_defer(m->loop, tell_later, r);
	buf_deinit(&name);
	*request_out = r;
}

/* ---- life ---- */

struct mta_sts *mta_sts_new(struct loop *loop, const char *path)
{
	struct mta_sts *m = xcalloc(1, sizeof(*m));
	struct buf text = {0};

	m->loop = loop;
	m->fetch_ms = MTA_STS_FETCH_MS;
	m->table = table_new();
	list_init(&m->entries);
	list_init(&m->fetches);
	if (path) {
		m->file = kept_file_new(loop, "mta-sts", path, write_text, m);
		kept_file_read(m->file, &text);
		read_text(m, buf_view(&text));
		buf_deinit(&text);
	}
	return m;
}

void mta_sts_set_fetch_ms(struct mta_sts *m, uint64_t ms)
{
	m->fetch_ms = ms;
}

void mta_sts_end(struct mta_sts *m)
{
	list_for_each_safe (at, &m->fetches) {
		struct fetch *f = container_of(at, struct fetch, link);

		list_for_each_safe (waits, &f->waiting)
			list_remove(waits);
		end_fetch(f);
	}
	if (m->file)
		kept_file_end(m->file);
}

void mta_sts_free(struct mta_sts **mta_sts)
{
	struct mta_sts *m = *mta_sts;

	*mta_sts = NULL;
	if (!m)
		return;
	kept_file_free(&m->file);
	list_for_each_safe (at, &m->entries)
		drop_entry(m, container_of(at, struct entry, link));
	table_free(&m->table);
	free(m);
}
