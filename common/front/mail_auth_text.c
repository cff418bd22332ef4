/*
 * Reasons are our own fixed texts; domains and selectors have passed the grammar of signatures.
 */
#include "common/front/mail_auth_text.h"

#include "common/proto/auth_results.h"
#include "common/proto/header.h"

#define RESULTS_MOST (SMTP_FACTS_DKIM_MOST + 4)

const char *mail_auth_text_host(const struct smtp_content *content)
{
	const char *host = smtp_front_service(smtp_content_front(content))->host;

	return host && *host ? host : "localhost";
}

static void dkim_one(const struct mail_auth_signature *s, struct auth_results_one *one)
{
	*one = (struct auth_results_one){.method = "dkim", .result = smtp_facts_word(s->result)};
	if (s->why)
		one->reason = slice_str(s->why);
	if (s->result == SMTP_RESULT_PASS && s->key->record.is_testing)
		one->comment = SLICE_LIT("test mode");
	auth_results_add(one, "header", "d", s->sig.domain);
	auth_results_add(one, "header", "s", s->sig.selector);
	if (s->sig.b.len)
		auth_results_add(
			one, "header", "a", slice_str(dkim_signature_algorithm_name(s->sig.algorithm)));
	auth_results_add(one, "header", "b", s->sig.b_start);
}

static void dmarc_one(const struct mail_auth_dmarc *d, struct auth_results_one *one, struct buf *text)
{
	*one = (struct auth_results_one){.method = "dmarc", .result = smtp_facts_word(d->result)};
	if (d->has_policy) {
		buf_printf(text, "p=%s at %.*s", dmarc_policy_name(d->policy), SLICE_ARG(d->policy_domain));
		one->comment = buf_view(text);
	}
	if (d->why)
		one->reason = slice_str(d->why);
	auth_results_add(one, "header", "from", d->domain);
}

void mail_auth_text_results(const struct mail_auth *check, const char *host, bool has_dmarc, struct buf *out)
{
	const struct mail_auth_plan *plan = mail_auth_results(check);
	struct auth_results_one results[RESULTS_MOST];
	struct buf policy = {0}, sets = {0};
	size_t count = 0;

	for (unsigned i = 0; i < plan->signature_count; i++)
		dkim_one(&plan->signatures[i], &results[count++]);
	if (plan->wants_dkim && plan->signature_count == 0) {
		results[count] = (struct auth_results_one){
			.method = "dkim", .result = smtp_facts_word(mail_auth_best(plan))};
		if (plan->why_not)
			results[count].reason = slice_str(plan->why_not);
		count++;
	}
	if (has_dmarc)
		dmarc_one(mail_auth_dmarc(check), &results[count++], &policy);
	if (plan->arc) {
		results[count] = (struct auth_results_one){
			.method = "arc", .result = smtp_facts_word(plan->arc->result)};
		if (plan->arc->why)
			results[count].reason = slice_str(plan->arc->why);
		if (plan->arc->chain.count) {
			buf_printf(&sets, "i=%u", plan->arc->chain.count);
			results[count].comment = buf_view(&sets);
		}
		auth_results_add(&results[count], "header", "d", plan->arc->domain);
		count++;
	}
	auth_results_write(out, 0, host, results, count);
	buf_deinit(&policy);
	buf_deinit(&sets);
}

static size_t add_fact(struct auth_results_one *one, const char *method, enum smtp_result result)
{
	if (result == SMTP_RESULT_UNKNOWN)
		return 0;
	*one = (struct auth_results_one){.method = method, .result = smtp_facts_word(result)};
	return 1;
}

void mail_auth_text_facts(const struct smtp_facts *facts, const char *host, struct buf *out)
{
	struct auth_results_one results[RESULTS_MOST];
	struct header_field field;
	struct buf text = {0};
	size_t count = 0;

	if (add_fact(&results[count], "spf", facts->spf)) {
		auth_results_add(&results[count], "smtp",
			facts->sender && *facts->sender ? "mailfrom" : "helo", slice_str(facts->spf_domain));
		count++;
	}
	for (unsigned i = 0; i < facts->dkim_count && i < SMTP_FACTS_DKIM_MOST; i++) {
		const struct smtp_dkim_fact *fact = &facts->dkim_signatures[i];

		if (!add_fact(&results[count], "dkim", fact->result))
			continue;
		auth_results_add(&results[count], "header", "d", slice_str(fact->domain));
		auth_results_add(&results[count++], "header", "s", slice_str(fact->selector));
	}
	if (!facts->dkim_count)
		count += add_fact(&results[count], "dkim", facts->dkim);
	if (add_fact(&results[count], "dmarc", facts->dmarc))
		auth_results_add(&results[count++], "header", "from", slice_str(facts->dmarc_domain));
	count += add_fact(&results[count], "arc", facts->arc);
	auth_results_write(&text, 0, host, results, count);
	header_split(buf_view(&text), &field);
	buf_add_slice(out, field.value);
	buf_deinit(&text);
}
