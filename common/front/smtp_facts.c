/* Texts and tables only; who finds facts out is elsewhere (smtp_judge.c, the stages of smtp_content.h). */
#include "common/front/smtp_facts.h"

#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"

static const char *const words[SMTP_RESULTS] = {
	[SMTP_RESULT_UNKNOWN] = "",
	[SMTP_RESULT_NONE] = "none",
	[SMTP_RESULT_PASS] = "pass",
	[SMTP_RESULT_FAIL] = "fail",
	[SMTP_RESULT_SOFTFAIL] = "softfail",
	[SMTP_RESULT_NEUTRAL] = "neutral",
	[SMTP_RESULT_POLICY] = "policy",
	[SMTP_RESULT_TEMPERROR] = "temperror",
	[SMTP_RESULT_PERMERROR] = "permerror",
};

/* One signature that holds is enough; what cannot be said yet comes before what failed. */
static const unsigned dkim_rank[SMTP_RESULTS] = {
	[SMTP_RESULT_UNKNOWN] = 0,
	[SMTP_RESULT_NONE] = 1,
	[SMTP_RESULT_PERMERROR] = 2,
	[SMTP_RESULT_NEUTRAL] = 3,
	[SMTP_RESULT_SOFTFAIL] = 3,
	[SMTP_RESULT_POLICY] = 4,
	[SMTP_RESULT_FAIL] = 5,
	[SMTP_RESULT_TEMPERROR] = 6,
	[SMTP_RESULT_PASS] = 7,
};

const char *smtp_facts_word(enum smtp_result result)
{
	return words[result];
}

enum smtp_result smtp_facts_result(struct slice word)
{
	for (unsigned i = SMTP_RESULT_NONE; i < SMTP_RESULTS; i++) {
		if (slice_is_str_nocase(word, words[i]))
			return (enum smtp_result)i;
	}
	return SMTP_RESULT_UNKNOWN;
}

void smtp_facts_init(struct smtp_facts *f)
{
	*f = (struct smtp_facts){.service = "", .helo = "", .user = "", .tls_text = ""};
}

void smtp_facts_end_transaction(struct smtp_facts *f)
{
	free(f->sender);
	free(f->recipient);
	free(f->spf_domain);
	free(f->dmarc_domain);
	free(f->arc_domain);
	f->sender = f->recipient = f->spf_domain = f->dmarc_domain = f->arc_domain = NULL;
	for (unsigned i = 0; i < f->dkim_count; i++) {
		free(f->dkim_signatures[i].domain);
		free(f->dkim_signatures[i].selector);
	}
	free(f->dkim_signatures);
	f->dkim_signatures = NULL;
	f->dkim_count = f->recipients = 0;
	f->size = 0;
	f->is_sender_own = f->is_sender_own_known = false;
	f->spf = f->spf_helo = f->dkim = f->dmarc = f->arc = SMTP_RESULT_UNKNOWN;
	f->dmarc_policy = SMTP_DMARC_UNKNOWN;
}

void smtp_facts_forget_peer(struct smtp_facts *f)
{
	free(f->ptr);
	f->ptr = NULL;
	f->ptr_state = f->country_state = SMTP_FACT_UNKNOWN;
	f->country[0] = 0;
	for (unsigned i = 0; i < f->dnsbl_count; i++)
		free(f->dnsbl[i].zone);
	free(f->dnsbl);
	f->dnsbl = NULL;
	f->dnsbl_count = 0;
}

void smtp_facts_deinit(struct smtp_facts *f)
{
	smtp_facts_end_transaction(f);
	smtp_facts_forget_peer(f);
}

void smtp_facts_set(char **text, struct slice value)
{
	free(*text);
	*text = NULL;
	if (!value.p)
		return;
	*text = xmemdup0(value.p, value.len);
	for (char *p = *text; p < *text + value.len; p++) {
		if ((unsigned char)*p < 32 || *p == 127)
			*p = '?';
	}
}

void smtp_facts_add_dkim(
	struct smtp_facts *f, enum smtp_result result, struct slice domain, struct slice selector)
{
	if (dkim_rank[result] > dkim_rank[f->dkim])
		f->dkim = result;
	if (f->dkim_count == SMTP_FACTS_DKIM_MOST)
		return;
	f->dkim_signatures =
		xreallocarray(f->dkim_signatures, f->dkim_count + 1, sizeof(*f->dkim_signatures));
	f->dkim_signatures[f->dkim_count] = (struct smtp_dkim_fact){.result = result};
	smtp_facts_set(&f->dkim_signatures[f->dkim_count].domain, domain);
	smtp_facts_set(&f->dkim_signatures[f->dkim_count].selector, selector);
	f->dkim_count++;
}

struct smtp_dnsbl_fact *smtp_facts_dnsbl(struct smtp_facts *f, struct slice zone)
{
	for (unsigned i = 0; i < f->dnsbl_count; i++) {
		if (slice_is_str_nocase(zone, f->dnsbl[i].zone))
			return &f->dnsbl[i];
	}
	if (f->dnsbl_count == SMTP_FACTS_DNSBL_MOST)
		return NULL;
	f->dnsbl = xreallocarray(f->dnsbl, f->dnsbl_count + 1, sizeof(*f->dnsbl));
	f->dnsbl[f->dnsbl_count] = (struct smtp_dnsbl_fact){.state = SMTP_FACT_UNKNOWN};
	smtp_facts_set(&f->dnsbl[f->dnsbl_count].zone, zone);
	return &f->dnsbl[f->dnsbl_count++];
}

void smtp_facts_network(const struct addr *client, struct buf *out)
{
	struct slice ip = addr_ip(client);
	const unsigned char *p = (const unsigned char *)ip.p;

	if (ip.len == 4)
		buf_printf(out, "%u.%u.%u.0/24", p[0], p[1], p[2]);
	else if (ip.len == 16)
		buf_printf(out, "%x:%x:%x:%x::/64", (unsigned)(p[0] << 8 | p[1]),
			(unsigned)(p[2] << 8 | p[3]), (unsigned)(p[4] << 8 | p[5]),
			(unsigned)(p[6] << 8 | p[7]));
	else
		buf_add_str(out, "unix");
}
