/*
 * PTR is forward-confirmed: of the names that the address has (at most SMTP_LOOKUP_PTR_MOST), the first that leads back to it counts; a
 * name that does not is no name at all. An answer of a DNS list counts only within 127.0.0.0/8, and not within 127.255.255.0/24, where
 * lists tell that they do not answer us: what else comes back is an error of the list or of a resolver that lies, never a listing.
 */
#include "common/front/smtp_lookup.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_country.h"
#include "common/net/dns.h"

struct smtp_lookup {
	struct loop *loop;
	struct smtp_facts *facts;
	struct smtp_need need;
	struct smtp_lookup_settings settings;
	smtp_lookup_fn *fn;
	void *arg;
	struct dns_request *request;
	/* PTR */
	char *names[SMTP_LOOKUP_PTR_MOST];
	unsigned name_count, name_at;
	bool is_unsure; /* a name could not be asked */
};

static void free_lookup(struct smtp_lookup *l)
{
	for (unsigned i = 0; i < l->name_count; i++)
		free(l->names[i]);
	free(l);
}

static void done(struct smtp_lookup *l)
{
	smtp_lookup_fn *fn = l->fn;
	void *arg = l->arg;

	free_lookup(l);
	fn(arg);
}

/* ---- PTR ---- */

static bool confirm_next(struct smtp_lookup *l);

static void on_address(void *arg, const struct dns_answer *answer)
{
	struct smtp_lookup *l = arg;

	l->request = NULL;
	if (answer->error == ERR_NOT_NOW)
		l->is_unsure = true;
	for (unsigned i = 0; answer->error == 0 && i < answer->count; i++) {
		struct addr addr;

		dns_record_addr(&answer->records[i], 0, &addr);
		if (!addr_is_equal_host(&addr, &l->facts->peer))
			continue;
		smtp_facts_set(&l->facts->ptr, slice_str(l->names[l->name_at]));
		l->facts->ptr_state = SMTP_FACT_KNOWN;
		done(l);
		return;
	}
	l->name_at++;
	if (!confirm_next(l))
		done(l);
}

/* False: no name is left, and the state is set. */
static bool confirm_next(struct smtp_lookup *l)
{
	enum dns_type type = addr_ip(&l->facts->peer).len == 4 ? DNS_A : DNS_AAAA;

	for (; l->name_at < l->name_count; l->name_at++) {
		if (dns_ask(l->loop, l->names[l->name_at], type, l->settings.timeout_ms, on_address, l,
			    &l->request) == 0)
			return true;
		l->is_unsure = true;
	}
	l->facts->ptr_state = l->is_unsure ? SMTP_FACT_NOT_NOW : SMTP_FACT_NONE;
	return false;
}

static void on_names(void *arg, const struct dns_answer *answer)
{
	struct smtp_lookup *l = arg;

	l->request = NULL;
	l->is_unsure = answer->error == ERR_NOT_NOW;
	for (unsigned i = 0; answer->error == 0 && i < answer->count && i < SMTP_LOOKUP_PTR_MOST; i++)
		l->names[l->name_count++] = xmemdup0(answer->records[i].name.p, answer->records[i].name.len);
	if (!confirm_next(l))
		done(l);
}

static bool begin_ptr(struct smtp_lookup *l)
{
	struct buf name = {0};
	int err;

	l->facts->ptr_state = SMTP_FACT_NONE; /* a unix socket has none */
	if (!addr_ip(&l->facts->peer).len)
		return false;
	l->facts->ptr_state = SMTP_FACT_NOT_NOW;
	if (l->settings.is_offline)
		return false;
	err = dns_reverse(&l->facts->peer, NULL, &name);
	if (!err)
		err = dns_ask(l->loop, buf_str_view(&name), DNS_PTR, l->settings.timeout_ms, on_names, l,
			&l->request);
	buf_deinit(&name);
	return err == 0;
}

/* ---- DNS lists ---- */

static void on_list(void *arg, const struct dns_answer *answer)
{
	struct smtp_lookup *l = arg;
	struct smtp_dnsbl_fact *list = smtp_facts_dnsbl(l->facts, slice_str(l->need.zone));

	l->request = NULL;
	list->state = answer->error == ERR_NOT_FOUND ? SMTP_FACT_NONE : SMTP_FACT_NOT_NOW;
	for (unsigned i = 0; answer->error == 0 && i < answer->count; i++) {
		const uint8_t *ip = (const uint8_t *)answer->records[i].ip.p;

		if (answer->records[i].ip.len != 4 || ip[0] != 127 || (ip[1] == 255 && ip[2] == 255)) {
			log_warn("smtp", "list %s: an answer that is no listing", l->need.zone);
			list->count = 0;
			break;
		}
		if (list->count < SMTP_FACTS_LISTED_MOST)
			list->listed[list->count++] =
				(uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
	}
	if (list->count)
		list->state = SMTP_FACT_KNOWN;
	done(l);
}

static bool begin_list(struct smtp_lookup *l)
{
	struct smtp_dnsbl_fact *list = smtp_facts_dnsbl(l->facts, slice_str(l->need.zone));
	struct buf name = {0};
	int err;

	if (!list)
		return false;
	list->state = SMTP_FACT_NONE; /* a unix socket is on no list */
	if (!addr_ip(&l->facts->peer).len)
		return false;
	list->state = SMTP_FACT_NOT_NOW;
	if (l->settings.is_offline)
		return false;
	err = dns_reverse(&l->facts->peer, l->need.zone, &name);
	if (!err)
		err = dns_ask(
			l->loop, buf_str_view(&name), DNS_A, l->settings.timeout_ms, on_list, l, &l->request);
	buf_deinit(&name);
	return err == 0;
}

/* ---- country ---- */

static bool begin_country(struct smtp_lookup *l)
{
	smtp_country_find(l->settings.country, loop_now_ms(l->loop), l->facts);
	return false;
}

/* One row a fact. True: it will come; false: it is there. None: it cannot be said. */
static bool (*const begins[SMTP_SUBJECTS])(struct smtp_lookup *l) = {
	[SMTP_SUBJECT_PTR] = begin_ptr,
	[SMTP_SUBJECT_COUNTRY] = begin_country,
	[SMTP_SUBJECT_DNSBL] = begin_list,
};

struct smtp_lookup *smtp_lookup_begin(struct loop *loop, struct smtp_facts *facts,
	const struct smtp_need *need, const struct smtp_lookup_settings *settings, smtp_lookup_fn *fn,
	void *arg)
{
	struct smtp_lookup *l;

	if (!begins[need->subject])
		return NULL;
	l = xcalloc(1, sizeof(*l));
	*l = (struct smtp_lookup){
		.loop = loop, .facts = facts, .need = *need, .settings = *settings, .fn = fn, .arg = arg};
	if (begins[need->subject](l))
		return l;
	free_lookup(l);
	return NULL;
}

void smtp_lookup_cancel(struct smtp_lookup **lookup)
{
	struct smtp_lookup *l = *lookup;

	*lookup = NULL;
	if (!l)
		return;
	dns_cancel(&l->request);
	free_lookup(l);
}
