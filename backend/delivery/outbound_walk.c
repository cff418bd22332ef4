/*
 * The search for a host: names, addresses and TLSA records from the DNS, then one address after the other until one takes commands under
 * the TLS that is asked for. What was wrong last is what recipients hear when none does.
 *
 * TLS at each host, the first that applies: what the route says (none, encrypt, verify, dane); TLSA records, if the configuration obeys
 * them; an MTA-STS policy; otherwise it is taken where it is offered, and done without where it fails.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/delivery/outbound_inner.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

/* Addresses that one search tries. */
#define ADDRESSES_MOST 20
/* A host none of whose addresses could be connected to is tried after the others for so long. */
#define DOWN_MS 60000

static void try_next(struct outbound_session *s);

void outbound_note(
	struct outbound_session *s, bool is_for_good, unsigned code, const char *enhanced, const char *text)
{
	/* Another host that could not be asked may have said yes. */
	s->was_temporary |= !is_for_good;
	s->is_for_good = is_for_good && !s->was_temporary;
	s->code = code;
	snprintf(s->enhanced, sizeof(s->enhanced), "%s", enhanced);
	snprintf(s->text, sizeof(s->text), "%s", text);
}

/* No host is left. */
static void give_up(struct outbound_session *s)
{
	struct outbound_try *t = s->t;

	t->is_unreachable = !s->was_reached && !s->is_for_good;
	snprintf(t->reason, sizeof(t->reason), "%s", s->text);
	outbound_give_all(
		s, s->is_for_good ? OUTBOUND_FAILED : OUTBOUND_NOT_NOW, s->code, s->enhanced, s->text);
	outbound_done(s);
}

/* ---- what is counted of TLS (RFC 8460) ---- */

/* Of domains and their MX hosts alone: what a route says is the operator's own. */
static void report(const struct outbound_session *s, const struct mx_host *h, enum tls_report_result result)
{
	enum tls_report_policy policy = TLS_REPORT_NONE;

	if (s->route->source_count || s->hop->name[0] == '[')
		return;
	if (h && h->dane != DANE_NONE && s->settings->uses_dane)
		policy = TLS_REPORT_TLSA;
	else if (!h || (s->policy && s->policy->mode != STS_POLICY_NONE))
		policy = TLS_REPORT_STS;
	tls_report_count(s->hop->o->report, s->hop->name, policy, h ? h->name : "", result);
}

static void report_ready(const struct outbound_session *s)
{
	const struct mx_host *h = &s->hosts->hosts[s->host];
	struct conn *conn = smtp_client_conn(s->client);

	if (s->in_clear)
		return; /* counted when it failed */
	if (!conn_is_tls(conn))
		report(s, h, TLS_REPORT_NO_STARTTLS);
	else if (s->policy && s->policy->mode == STS_POLICY_TESTING && h->dane == DANE_NONE &&
		 !(conn_tls_is_verified(conn) && mta_sts_policy_has_host(s->policy, h->name)))
		report(s, h, TLS_REPORT_FAILURE);
	else
		report(s, h, TLS_REPORT_SUCCESS);
}

static void report_failure(
	const struct outbound_session *s, enum smtp_client_fault fault, enum conn_tls_fault tls)
{
	static const enum tls_report_result results[] = {[CONN_TLS_FAILED] = TLS_REPORT_FAILURE,
		[CONN_TLS_EXPIRED] = TLS_REPORT_EXPIRED,
		[CONN_TLS_WRONG_NAME] = TLS_REPORT_WRONG_NAME,
		[CONN_TLS_UNTRUSTED] = TLS_REPORT_UNTRUSTED};

	if (fault == SMTP_CLIENT_NO_TLS)
		report(s, &s->hosts->hosts[s->host], TLS_REPORT_NO_STARTTLS);
	else if (fault == SMTP_CLIENT_BAD_TLS)
		report(s, &s->hosts->hosts[s->host], results[tls]);
}

static void report_policy(const struct outbound_session *s, enum mta_sts_fault fault)
{
	static const enum tls_report_result results[] = {[MTA_STS_SOUND] = TLS_REPORT_SUCCESS,
		[MTA_STS_UNFETCHED] = TLS_REPORT_STS_FETCH,
		[MTA_STS_UNTRUSTED] = TLS_REPORT_STS_WEBPKI,
		[MTA_STS_INVALID] = TLS_REPORT_STS_INVALID};

	if (fault != MTA_STS_SOUND)
		report(s, NULL, results[fault]);
}

/* ---- TLS of one host ---- */

struct demand {
	enum smtp_client_tls mode;
	struct tls *tls;
	bool uses_dane;
	enum outbound_trust trust; /* that a connection has then */
};

static struct demand demand_of(const struct outbound_session *s, enum outbound_tls level)
{
	const struct outbound_settings *set = s->settings;

	switch (level) {
	case OUTBOUND_TLS_NONE:
		break;
	case OUTBOUND_TLS_MAY:
		return (struct demand){s->in_clear ? SMTP_CLIENT_TLS_NONE : SMTP_CLIENT_TLS_MAY, set->lenient,
			false, OUTBOUND_ENCRYPTED};
	case OUTBOUND_TLS_ENCRYPT:
		return (struct demand){SMTP_CLIENT_TLS_MUST, set->lenient, false, OUTBOUND_ENCRYPTED};
	case OUTBOUND_TLS_VERIFY:
		return (struct demand){SMTP_CLIENT_TLS_MUST, set->verified, false, OUTBOUND_VERIFIED};
	case OUTBOUND_TLS_DANE:
		return (struct demand){SMTP_CLIENT_TLS_MUST, set->dane, true, OUTBOUND_DANE};
	}
	return (struct demand){SMTP_CLIENT_TLS_NONE, NULL, false, OUTBOUND_CLEAR};
}

/* False: this host must not be used; noted why. */
static bool demand_tls(struct outbound_session *s, const struct mx_host *h, struct demand *demand_out)
{
	enum outbound_tls level = s->route->tls;
	bool obeys_dane = level == OUTBOUND_TLS_DANE ||
			  (level == OUTBOUND_TLS_MAY && s->settings->uses_dane) ||
			  (level == OUTBOUND_TLS_ENCRYPT && s->settings->uses_dane);

	if (obeys_dane && h->dane == DANE_NOT_NOW) {
		report(s, h, TLS_REPORT_DNSSEC_INVALID);
		outbound_note(
			s, false, 0, "4.7.5", "the TLSA records of the host cannot be had, or are forged");
		return false;
	}
	if (obeys_dane && h->dane == DANE_USABLE)
		level = OUTBOUND_TLS_DANE;
	else if (level == OUTBOUND_TLS_DANE) {
		outbound_note(s, false, 0, "4.7.5",
			"the host has no usable TLSA records, and TLS by DANE is required");
		return false;
	} else if (obeys_dane && h->dane == DANE_UNUSABLE) {
		level = OUTBOUND_TLS_ENCRYPT;
	}
	/* RFC 8461 section 2: never in the place of DANE. */
	if (level < OUTBOUND_TLS_VERIFY && s->policy && s->policy->mode == STS_POLICY_ENFORCE) {
		if (!mta_sts_policy_has_host(s->policy, h->name)) {
			report(s, h, TLS_REPORT_FAILURE);
			outbound_note(
				s, false, 0, "4.7.5", "the domain's MTA-STS policy does not name the host");
			return false;
		}
		level = OUTBOUND_TLS_VERIFY;
	}
	/* RFC 8689 section 4.2.1: where the host's name is validated, its certificate may be too. */
	if (s->t->r.requires_tls && level < OUTBOUND_TLS_VERIFY) {
		if (!h->is_mx_secure) {
			outbound_note(
				s, true, 0, "5.7.30", "REQUIRETLS: nothing vouches for the host's name");
			return false;
		}
		level = OUTBOUND_TLS_VERIFY;
	}
	*demand_out = demand_of(s, level);
	if (s->route->is_implicit && demand_out->mode == SMTP_CLIENT_TLS_MUST)
		demand_out->mode = SMTP_CLIENT_TLS_IMPLICIT;
	return true;
}

/* ---- one address ---- */

static void on_client(void *owner, struct smtp_client *c, enum smtp_client_event event, unsigned tag,
	const struct smtp_client_reply *reply);

static void describe(struct outbound_session *s, const struct mx_host *h)
{
	char text[ADDR_TEXT_MAX];
	const struct addr *addr = &h->addrs[s->addr];

	snprintf(s->relay, sizeof(s->relay), "%s[%s]:%u", h->name, addr_host(addr, text), addr_port(addr));
	s->host_name = h->name;
	s->tls[0] = '\0';
}

static bool dial_address(struct outbound_session *s, const struct mx_host *h)
{
	const struct outbound_settings *set = s->settings;
	struct outbound *o = s->hop->o;
	struct demand demand;
	int err;

	describe(s, h);
	if (!demand_tls(s, h, &demand)) {
		s->addr = h->addr_count; /* all of its addresses are alike */
		return false;
	}
	s->trust = demand.trust;
	s->dane = (struct tls_dane){
		.base = h->dane_base, .records = h->records, .record_count = h->record_count};
	struct smtp_client_options options = {.addr = &h->addrs[s->addr],
		.sources = set->sources,
		.source_count = set->source_count,
		.source_first = set->source_count ? o->source_next++ % set->source_count : 0,
		.host_name = set->host_name,
		.tls_mode = demand.mode,
		.tls = demand.tls,
		.server_name = h->name,
		.dane = demand.uses_dane ? &s->dane : NULL,
		.user = s->route->user,
		.password = secret_view(&s->route->password),
		.pool = o->logins,
		.times = set->times};

	err = smtp_client_open(o->loop, &options, on_client, s, &s->client);
	if (err) {
		outbound_note(s, false, 0, "4.3.0",
			err == ERR_TOO_BIG ? "too many source addresses" : "no connection can be begun");
		s->addr++;
		return false;
	}
	return true;
}

static void next_host(struct outbound_session *s)
{
	s->host++;
	s->addr = 0;
	s->in_clear = false;
}

/* A host comes once: in the first round if it is not known to be down, else in the second. */
static bool is_passed_over(const struct outbound_session *s, const struct mx_host *h)
{
	if (s->addr || s->in_clear) /* its turn goes on */
		return false;
	return s->seen & (1u << s->host) || (s->spares_down && h->down_until_ms > clock_mono_ms());
}

static void try_next(struct outbound_session *s)
{
	s->step = OUTBOUND_SEARCHES;
	for (;;) {
		const struct mx_host *h = &s->hosts->hosts[s->host];

		if (s->tried >= ADDRESSES_MOST || (s->host >= s->hosts->count && !s->spares_down))
			break;
		if (s->host >= s->hosts->count) {
			s->spares_down = false;
			s->host = s->addr = 0;
			continue;
		}
		if (h->addr_count == 0 && !s->text[0])
			outbound_note(s, false, 0, "4.4.3", "a host of it has no address");
		if (s->addr >= h->addr_count || is_passed_over(s, h)) {
			next_host(s);
			continue;
		}
		s->seen |= 1u << s->host;
		s->tried++;
		if (dial_address(s, h))
			return;
	}
	give_up(s);
}

void outbound_walk_on(struct outbound_session *s)
{
	s->addr++;
	s->in_clear = false;
	try_next(s);
}

/* ---- what the client says ---- */

static void note_tls(struct outbound_session *s)
{
	static const char *const words[] = {[OUTBOUND_CLEAR] = "none",
		[OUTBOUND_ENCRYPTED] = "unverified",
		[OUTBOUND_VERIFIED] = "verified",
		[OUTBOUND_DANE] = "dane"};
	struct conn *conn = smtp_client_conn(s->client);
	const char *text = conn_tls_text(conn);

	if (!text) {
		s->trust = OUTBOUND_CLEAR;
		return;
	}
	if (s->trust == OUTBOUND_ENCRYPTED)
		snprintf(s->tls, sizeof(s->tls), "%s/%s", text,
			conn_tls_is_verified(conn) ? "verified" : "unverified");
	else
		snprintf(s->tls, sizeof(s->tls), "%s/%s", text, words[s->trust]);
	for (char *p = s->tls; *p; p++)
		if (*p == ' ')
			*p = '/';
}

/* RFC 5321 section 6.3: a server that calls itself by our name is us. */
static bool is_ourselves(const struct outbound_session *s)
{
	const char *name = smtp_client_name(s->client);

	return !s->route->source_count && *name && strchr(s->settings->host_name, '.') &&
	       slice_is_str_nocase(slice_str(name), s->settings->host_name);
}

static void on_ready(struct outbound_session *s)
{
	note_tls(s);
	report_ready(s);
	if (is_ourselves(s)) {
		smtp_client_close(&s->client);
		outbound_note(s, true, 0, "5.4.6",
			"the host of the domain is ourselves: the message would go in circles");
		outbound_walk_on(s);
		return;
	}
	if (s->t->r.requires_tls && !smtp_client_words(s->client)->requiretls) {
		smtp_client_close(&s->client);
		outbound_note(s, true, 0, "5.7.30", "REQUIRETLS: the host does not offer it");
		outbound_walk_on(s);
		return;
	}
	s->was_reached = true;
	s->messages = 0;
	s->is_dirty = false;
	s->t->ready_ms = clock_mono_ms();
	outbound_send(s);
}

/* Before it took commands. */
static void on_failed(
	struct outbound_session *s, struct smtp_client *c, const struct smtp_client_reply *reply)
{
	struct mx_host *h = &s->hosts->hosts[s->host];
	enum smtp_client_fault fault = smtp_client_fault(c);
	bool may_do_without = s->route->tls == OUTBOUND_TLS_MAY && s->trust == OUTBOUND_ENCRYPTED &&
			      !s->in_clear && !(s->settings->uses_dane && h->dane != DANE_NONE);
	char text[SMTP_CLIENT_TEXT_MAX];

	report_failure(s, fault, smtp_client_tls_fault(c));
	if (fault == SMTP_CLIENT_UNREACHED && s->addr + 1 >= h->addr_count)
		h->down_until_ms = clock_mono_ms() + DOWN_MS;
	if (fault == SMTP_CLIENT_NO_AUTH)
		log_warn("sending", "%s: route %s: login refused: %s", s->relay, s->route->name, reply->text);
	if (fault == SMTP_CLIENT_BAD_TLS && may_do_without) {
		s->in_clear = true; /* as if it had not been offered */
		try_next(s);
		return;
	}
	snprintf(text, sizeof(text), fault == SMTP_CLIENT_BAD_TLS ? "TLS: %.400s" : "%.400s", reply->text);
	/* A host that refuses us for good may not be the only one, and may be wrong tomorrow. */
	outbound_note(s, false, reply->code,
		reply->code / 100 == 4 ? reply->enhanced
		: reply->code          ? "4.0.0"
				       : reply->enhanced,
		text);
	outbound_walk_on(s);
}

static void on_client(void *owner, struct smtp_client *c, enum smtp_client_event event, unsigned tag,
	const struct smtp_client_reply *reply)
{
	struct outbound_session *s = owner;

	switch (event) {
	case SMTP_CLIENT_READY:
		on_ready(s);
		break;
	case SMTP_CLIENT_REPLY:
		outbound_send_reply(s, tag, reply);
		break;
	case SMTP_CLIENT_DRAINED:
		outbound_send_drained(s);
		break;
	case SMTP_CLIENT_FAILED:
		s->client = NULL;
		if (!s->t)
			outbound_session_end(s);
		else if (s->step == OUTBOUND_SEARCHES)
			on_failed(s, c, reply);
		else
			outbound_send_lost(s, reply);
		break;
	}
}

/* ---- the hosts ---- */

struct verdict {
	bool is_for_good;
	const char *enhanced, *text;
};

static const struct verdict verdicts[] = {[MX_SOUND] = {false, "4.4.4", ""},
	[MX_NO_DOMAIN] = {true, "5.1.2", "the domain does not exist"},
	[MX_NULL] = {true, "5.1.10", "the domain takes no mail (null MX)"},
	[MX_LOOP] = {true, "5.4.6", "we are the best host of the domain: the message would go in circles"},
	[MX_NO_HOST] = {true, "5.4.4", "no host of the domain has an address"},
	[MX_NOT_NOW] = {false, "4.4.3", ""}};

static void found(struct outbound_session *s)
{
	const struct mx_hosts *hosts = s->hosts;
	const struct verdict *v = &verdicts[hosts->fault];

	if (hosts->fault != MX_SOUND) {
		outbound_note(s, v->is_for_good, 0, v->enhanced, *v->text ? v->text : hosts->detail);
		give_up(s);
		return;
	}
	s->host = s->addr = s->tried = 0;
	s->in_clear = false;
	s->seen = 0;
	s->spares_down = true;
	s->text[0] = '\0';
	s->was_temporary = s->is_for_good = false;
	try_next(s);
}

/* Both answers are there. */
static void known(struct outbound_session *s)
{
	struct outbound_hop *hop = s->hop;

	if (s->lookup || s->sts)
		return;
	if (s->hosts->fault == MX_SOUND && s->settings == hop->o->settings) {
		mx_hosts_unref(&hop->hosts);
		mta_sts_policy_unref(&hop->policy);
		hop->hosts = mx_hosts_ref(s->hosts);
		hop->policy = mta_sts_policy_ref(s->policy);
	}
	found(s);
}

static void on_policy(void *arg, struct mta_sts_policy *policy, enum mta_sts_fault fault)
{
	struct outbound_session *s = arg;

	s->sts = NULL;
	report_policy(s, fault);
	s->policy = mta_sts_policy_ref(policy);
	known(s);
}

static void on_found(void *arg, struct mx_hosts *hosts_take)
{
	struct outbound_session *s = arg;

	s->lookup = NULL;
	s->hosts = hosts_take;
	known(s);
}

/* The domain itself is the one source of its hosts; a literal is its own host. */
static void look_up(struct outbound_session *s)
{
	struct slice name = slice_str(s->hop->name);
	bool is_literal = name.len > 2 && name.p[0] == '[';
	char *domain = slice_copy_str(is_literal ? slice_sub(name, 1, name.len - 2) : name);
	struct mx_source own = {domain, s->settings->port, is_literal};
	struct mx_lookup_options options = {.sources = &own,
		.count = 1,
		.own = s->settings->host_name,
		.prefer = s->settings->prefer,
		.wants_dane = s->route->tls == OUTBOUND_TLS_DANE ||
			      (s->settings->uses_dane && s->route->tls != OUTBOUND_TLS_NONE),
		.timeout_ms = s->settings->dns_ms};

	if (is_literal && slice_has_prefix_nocase(slice_str(domain), "IPv6:"))
		own.name = domain + 5;
	mx_hosts_unref(&s->hosts);
	mta_sts_policy_unref(&s->policy);
	if (s->route->source_count) {
		options.sources = s->route->sources;
		options.count = s->route->source_count;
		options.own = "";
	} else if (!is_literal && s->settings->uses_sts && s->route->tls != OUTBOUND_TLS_NONE) {
		mta_sts_ask(s->hop->o->sts, domain, s->settings->verified, s->settings->dns_ms, on_policy, s,
			&s->sts);
	}
	mx_lookup_start(s->hop->o->loop, &options, on_found, s, &s->lookup);
	free(domain);
}

static void use_known(void *arg)
{
	struct outbound_session *s = arg;

	if (s->t && s->step == OUTBOUND_SEARCHES)
		found(s);
}

void outbound_walk(struct outbound_session *s)
{
	struct mx_hosts *hosts = s->hop->hosts;

	s->step = OUTBOUND_SEARCHES;
	/* What a connection before was to: its name goes with the hosts. */
	s->host_name = "";
	s->relay[0] = s->tls[0] = '\0';
	if (!hosts || hosts->until_ms <= clock_mono_ms()) {
		look_up(s);
		return;
	}
	mx_hosts_unref(&s->hosts);
	mta_sts_policy_unref(&s->policy);
	s->hosts = mx_hosts_ref(hosts);
	s->policy = mta_sts_policy_ref(s->hop->policy);
	loop_defer(s->hop->o->loop, use_known, s);
}
