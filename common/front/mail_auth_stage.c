/*
 * Checking. The message is only looked at as it came; what is written goes before its first field. The results live in the facts from
 * then on: rules read them there, and the seal is written from them.
 */
#include "common/front/mail_auth_stage.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_keys.h"
#include "common/front/mail_auth_text.h"
#include "common/proto/auth_results.h"

enum dmarc_obeyed {
	OBEY_TELL,
	OBEY_QUARANTINE,
	OBEY_REJECT
};

struct settings {
	struct mail_auth_wants wants;
	bool dmarc;
	enum dmarc_obeyed obeyed;
	uint64_t dns_timeout_ms;
	struct metric *dkim[SMTP_RESULTS], *dmarc_results[SMTP_RESULTS], *arc[SMTP_RESULTS];
};

struct own {
	struct smtp_content *content;
	const struct settings *settings;
	struct mail_auth *check;
};

/* ---- settings ---- */

static bool has_word(const char *const *words, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i], word) == 0)
			return true;
	return false;
}

static void make_counters(struct metric **counters, const char *method)
{
	for (int r = SMTP_RESULT_NONE; r < SMTP_RESULTS; r++) {
		struct buf labels = {0};

		buf_printf(
			&labels, "method=\"%s\",result=\"%s\"", method, smtp_facts_word((enum smtp_result)r));
		counters[r] = metrics_counter("mailtier_mail_auth_results", buf_str_view(&labels),
			"Results of DKIM, DMARC and ARC");
		buf_deinit(&labels);
	}
}

static int make(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	size_t count;
	const char *const *words = conf_get_list(conf, "mail-auth", NULL, "verify", &count);
	struct settings *s;

	(void)why;
	if (strcmp(service, "smtp") != 0 || count == 0)
		return 0;
	s = xcalloc(1, sizeof(*s));
	s->wants.dkim = has_word(words, count, "dkim");
	s->wants.arc = has_word(words, count, "arc");
	s->wants.rsa_least = (unsigned)conf_get_int(conf, "mail-auth", NULL, "rsa-least");
	s->dmarc = has_word(words, count, "dmarc");
	s->obeyed = (enum dmarc_obeyed)conf_get_enum(conf, "mail-auth", NULL, "dmarc-policy");
	s->dns_timeout_ms = conf_get_duration(conf, "mail-auth", NULL, "dns-timeout");
	make_counters(s->dkim, "dkim");
	make_counters(s->dmarc_results, "dmarc");
	make_counters(s->arc, "arc");
	*settings_out = s;
	return 0;
}

/* ---- what was found ---- */

static void note_facts(struct own *own, struct smtp_facts *facts)
{
	const struct mail_auth_plan *plan = mail_auth_results(own->check);
	const struct mail_auth_dmarc *dmarc = mail_auth_dmarc(own->check);
	const struct settings *s = own->settings;

	if (s->wants.dkim) {
		for (unsigned i = 0; i < plan->signature_count; i++)
			smtp_facts_add_dkim(facts, plan->signatures[i].result, plan->signatures[i].sig.domain,
				plan->signatures[i].sig.selector);
		facts->dkim = mail_auth_best(plan);
		metric_add(s->dkim[facts->dkim], 1);
	}
	if (s->dmarc) {
		facts->dmarc = dmarc->result;
		facts->dmarc_policy = !dmarc->has_policy                         ? SMTP_DMARC_UNKNOWN
				      : dmarc->policy == DMARC_POLICY_REJECT     ? SMTP_DMARC_REJECT
				      : dmarc->policy == DMARC_POLICY_QUARANTINE ? SMTP_DMARC_QUARANTINE
										 : SMTP_DMARC_NONE;
		smtp_facts_set(&facts->dmarc_domain, dmarc->domain);
		metric_add(s->dmarc_results[facts->dmarc], 1);
	}
	if (plan->arc) {
		facts->arc = plan->arc->result;
		smtp_facts_set(&facts->arc_domain, plan->arc->domain);
		metric_add(s->arc[facts->arc], 1);
	}
}

/* RFC 8601 section 5: fields from outside that bear our name. Those that stages before this one wrote are not from outside. */
static void remove_forged(struct smtp_content *c)
{
	const char *ids[] = {mail_auth_text_host(c), NULL};
	struct slice original = smtp_content_original(c);

	for (size_t i = smtp_content_field_count(c); i-- > 0;) {
		struct slice raw = smtp_content_field(c, i)->raw;

		if (raw.p >= original.p && raw.p < original.p + original.len &&
			auth_results_is_forged(raw, ids))
			smtp_content_delete(c, i);
	}
}

static const struct smtp_verdict passed = {SMTP_VERDICT_GO_ON, {0}};
static const struct smtp_verdict rejected = {SMTP_VERDICT_REJECT,
	{550, {"5.7.26", 6},
		{"The domain of From asks to refuse mail that fails DMARC, and this one does", 71}}};
static const struct smtp_verdict unclear = {
	SMTP_VERDICT_REJECT, {550, {"5.7.1", 5}, {"Mail must have one author, in one From field", 44}}};

/* dmarc-policy. */
static const struct smtp_verdict *obey(const struct own *own)
{
	const struct mail_auth_dmarc *d = mail_auth_dmarc(own->check);
	enum dmarc_policy asked = d->is_ambiguous                 ? DMARC_POLICY_REJECT
				  : d->result == SMTP_RESULT_FAIL ? d->policy
								  : DMARC_POLICY_NONE;

	if (!own->settings->dmarc || own->settings->obeyed == OBEY_TELL || asked == DMARC_POLICY_NONE)
		return &passed;
	if (own->settings->obeyed == OBEY_REJECT && asked == DMARC_POLICY_REJECT)
		return d->is_ambiguous ? &unclear : &rejected;
	smtp_content_hold(own->content, SLICE_LIT("DMARC"));
	return &passed;
}

static void on_checked(void *arg)
{
	struct own *own = arg;
	struct smtp_content *c = own->content;
	struct smtp_facts *facts = smtp_content_facts(c);
	const struct smtp_verdict *verdict;
	struct buf field = {0};
	struct header_field split;

	note_facts(own, facts);
	log_debug("smtp", "%s: dkim=%s dmarc=%s arc=%s", smtp_front_session(smtp_content_front(c)),
		smtp_facts_word(facts->dkim), smtp_facts_word(facts->dmarc), smtp_facts_word(facts->arc));
	remove_forged(c);
	mail_auth_text_results(own->check, mail_auth_text_host(c), own->settings->dmarc, &field);
	header_split(buf_view(&field), &split);
	verdict = smtp_content_insert(c, 0, split.name, split.value) == 0 ? obey(own) : NULL;
	buf_deinit(&field);
	mail_auth_free(&own->check);
	smtp_content_set_own(c, NULL);
	free(own);
	/* Without the field a forged one's place would be free: not now. */
	smtp_content_done(c, verdict ? verdict : &(struct smtp_verdict){SMTP_VERDICT_TEMPFAIL, {0}});
}

static void begin(struct smtp_content *c, void *settings)
{
	const struct settings *s = settings;
	struct smtp_facts *facts = smtp_content_facts(c);
	struct mail_auth_input input = {.header = smtp_content_original(c),
		.spool = smtp_content_spool(c),
		.body_at = smtp_content_body_at(c),
		.wants = s->wants,
		.dmarc = s->dmarc,
		.dns_timeout_ms = s->dns_timeout_ms,
		.spf = facts->spf};
	struct own *own;

	if (smtp_front_is_trusted(smtp_content_front(c))) {
		smtp_content_done(c, SMTP_GO_ON);
		return;
	}
	/* DMARC looks at MAIL FROM alone (RFC 9989 section 4.4.2); of the null path SPF has checked HELO. */
	if (facts->sender && *facts->sender && facts->spf_domain)
		input.spf_domain = slice_str(facts->spf_domain);
	input.wants.now = clock_wall_s();
	own = xcalloc(1, sizeof(*own));
	own->content = c;
	own->settings = s;
	smtp_content_set_own(c, own);
	own->check = mail_auth_start(smtp_content_loop(c), &mail_auth_dns_real, &input, on_checked, own);
}

static void cancel(struct smtp_content *c, void *settings)
{
	struct own *own = smtp_content_own(c);

	(void)settings;
	if (!own)
		return;
	smtp_content_set_own(c, NULL);
	mail_auth_free(&own->check);
	free(own);
}

const struct smtp_stage mail_auth_stage_verify = {
	.name = "mail-auth", .make = make, .free = free, .begin = begin, .cancel = cancel};
