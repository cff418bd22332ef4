/*
 * One question a step; the last answer calls the owner.
 */
#include "common/front/mail_auth_walk.h"

#include <stdio.h>

const struct mail_auth_dns mail_auth_dns_real = {.ask = dns_ask, .cancel = dns_cancel};

static void on_answer(void *arg, const struct dns_answer *answer)
{
	struct mail_auth_walk_step *step = arg;
	struct mail_auth_walk *w = step->owner;
	size_t at = (size_t)(step - w->steps);
	unsigned count = 0;

	step->request = NULL;
	step->is_failed = answer->error && answer->error != ERR_NOT_FOUND;
	for (unsigned i = 0; !answer->error && i < answer->count; i++)
		if (answer->records[i].type == DNS_TXT)
			dmarc_walk_take(&w->walk, at, answer->records[i].text, &count);
	if (--w->pending == 0)
		w->fn(w->arg);
}

bool mail_auth_walk_start(struct mail_auth_walk *walk, const struct mail_auth_dns *dns, struct loop *loop,
	struct slice domain, uint64_t timeout_ms, loop_fn *fn, void *arg)
{
	char name[300];

	memset(walk, 0, sizeof(*walk));
	walk->dns = dns;
	walk->fn = fn;
	walk->arg = arg;
	dmarc_walk_init(domain, &walk->walk);
	for (size_t i = 0; i < walk->walk.count; i++) {
		struct mail_auth_walk_step *step = &walk->steps[i];
		int n = snprintf(name, sizeof(name), "_dmarc.%.*s", SLICE_ARG(walk->walk.steps[i].domain));

		step->owner = walk;
		if (n > 0 && n < (int)sizeof(name) &&
			dns->ask(loop, name, DNS_TXT, timeout_ms, on_answer, step, &step->request) == 0)
			walk->pending++;
		else
			step->is_failed = true;
	}
	return walk->pending > 0;
}

void mail_auth_walk_cancel(struct mail_auth_walk *walk)
{
	for (size_t i = 0; i < walk->walk.count; i++)
		if (walk->steps[i].request)
			walk->dns->cancel(&walk->steps[i].request);
	walk->pending = 0;
}

bool mail_auth_walk_is_unsure(const struct mail_auth_walk *walk)
{
	for (size_t i = 0; i < walk->walk.count; i++) {
		const struct dmarc_step *s = &walk->walk.steps[i];

		if (walk->steps[i].is_failed)
			return true;
		if (s->has_record && s->record.psd != DMARC_PSD_UNKNOWN)
			return false;
	}
	return false;
}
