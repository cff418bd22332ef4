/*
 * One counter says how many answers are still awaited; whoever takes it to zero goes on. What a check can make us ask is bounded:
 * MAIL_AUTH_KEYS_MOST keys, one walk for the author, one for each domain that might be aligned with him, one after the other.
 */
#include "common/front/mail_auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define IDENTITIES_MOST (MAIL_AUTH_SIGNATURES_MOST + 1)

/* The program's, set before its loops and freed behind them. */
static struct work_pool *pool;

struct key_question {
	struct mail_auth *check;
	struct dns_request *request;
	unsigned index;
};

struct mail_auth {
	struct loop *loop;
	const struct mail_auth_dns *dns;
	mail_auth_fn *fn;
	void *arg;
	uint64_t timeout_ms;
	bool wants_dmarc, is_orphaned, is_at_work;
	unsigned pending;
	enum smtp_result spf;
	struct slice spf_domain; /* in the plan's arena */
	struct mail_auth_plan plan;
	struct key_question *questions;
	struct mail_auth_walk author, other;
	struct dns_request *existence;
	struct mail_auth_dmarc dmarc;
	struct work work;

	/* alignment */
	struct slice organisation;
	struct slice identities[IDENTITIES_MOST]; /* still to be looked at */
	unsigned identity_count, identity_at;
	bool is_unsure; /* one of them could not be asked about */
};

/* ---- workers ---- */

int mail_auth_workers_start(unsigned threads)
{
	return work_pool_new("mail_auth", threads, MAIL_AUTH_QUEUE_MOST, &pool);
}

void mail_auth_workers_end(void)
{
	work_pool_end(pool);
}

void mail_auth_workers_free(void)
{
	work_pool_free(&pool);
}

int mail_auth_workers_submit(struct loop *loop, struct work *work)
{
	return pool ? work_submit(pool, loop, work) : ERR_UNSUPPORTED;
}

/* ---- the end ---- */

static void destroy(struct mail_auth *c)
{
	mail_auth_plan_deinit(&c->plan);
	free(c->questions);
	loop_free_later(c->loop, c);
}

void mail_auth_free(struct mail_auth **check)
{
	struct mail_auth *c = *check;

	*check = NULL;
	if (!c)
		return;
	for (unsigned i = 0; c->questions && i < c->plan.key_count; i++)
		if (c->questions[i].request)
			c->dns->cancel(&c->questions[i].request);
	if (c->author.pending)
		mail_auth_walk_cancel(&c->author);
	if (c->other.pending)
		mail_auth_walk_cancel(&c->other);
	if (c->existence)
		c->dns->cancel(&c->existence);
	c->is_orphaned = true;
	if (c->is_at_work)
		mail_auth_body_cut(&c->plan.body); /* freed when the work comes back */
	else
		destroy(c);
}

static void finish(struct mail_auth *c)
{
	c->fn(c->arg);
}

/* ---- DMARC: alignment (RFC 9989 section 4.10.2) ---- */

static void conclude(struct mail_auth *c, enum smtp_result result, const char *why)
{
	c->dmarc.result = result;
	c->dmarc.why = why;
	finish(c);
}

static void align_next(struct mail_auth *c);

static void on_other_walk(void *arg)
{
	struct mail_auth *c = arg;

	if (mail_auth_walk_is_unsure(&c->other))
		c->is_unsure = true;
	else if (slice_is_equal(dmarc_walk_organisation(&c->other.walk), c->organisation)) {
		conclude(c, SMTP_RESULT_PASS, NULL);
		return;
	}
	align_next(c);
}

static void align_next(struct mail_auth *c)
{
	while (c->identity_at < c->identity_count) {
		if (mail_auth_walk_start(&c->other, c->dns, c->loop, c->identities[c->identity_at++],
			    c->timeout_ms, on_other_walk, c))
			return;
		c->is_unsure = true;
	}
	if (c->is_unsure)
		conclude(c, SMTP_RESULT_TEMPERROR, "policies cannot be asked for now");
	else
		conclude(c, SMTP_RESULT_FAIL, "nothing that passes is aligned");
}

/* An identifier that passed. True: it is aligned for certain. What might be is noted. */
static bool is_aligned(struct mail_auth *c, struct slice domain, bool is_strict)
{
	if (slice_is_equal(domain, c->dmarc.domain))
		return true;
	if (is_strict || !dkim_signature_is_under(domain, c->organisation))
		return false;
	for (unsigned i = 0; i < c->identity_count; i++)
		if (slice_is_equal(c->identities[i], domain))
			return false;
	if (c->identity_count < IDENTITIES_MOST)
		c->identities[c->identity_count++] = domain;
	return false;
}

static void align(struct mail_auth *c, const struct dmarc_record *record)
{
	bool is_good = false;

	c->organisation = dmarc_walk_organisation(&c->author.walk);
	for (unsigned i = 0; i < c->plan.signature_count; i++)
		if (c->plan.signatures[i].result == SMTP_RESULT_PASS)
			is_good |= is_aligned(c, c->plan.signatures[i].sig.domain, record->is_dkim_strict);
	if (c->spf == SMTP_RESULT_PASS && c->spf_domain.len)
		is_good |= is_aligned(c, c->spf_domain, record->is_spf_strict);
	for (unsigned i = 0; i < c->plan.signature_count; i++)
		c->is_unsure |= c->plan.signatures[i].result == SMTP_RESULT_TEMPERROR &&
				dkim_signature_is_under(c->plan.signatures[i].sig.domain, c->organisation);
	c->is_unsure |= c->spf == SMTP_RESULT_TEMPERROR && c->spf_domain.len &&
			dkim_signature_is_under(c->spf_domain, c->organisation);
	if (is_good)
		conclude(c, SMTP_RESULT_PASS, NULL);
	else
		align_next(c);
}

static void set_policy(struct mail_auth *c, bool exists)
{
	const struct dmarc_step *found = dmarc_walk_policy(&c->author.walk);
	bool is_inherited;

	c->dmarc.has_policy = true;
	c->dmarc.policy_domain = found->domain;
	c->dmarc.policy = dmarc_walk_wants(&c->author.walk, found, exists, &is_inherited);
	align(c, &found->record);
}

static void on_existence(void *arg, const struct dns_answer *answer)
{
	struct mail_auth *c = arg;

	c->existence = NULL;
	set_policy(c, !answer->is_nxdomain);
}

static void judge_author(struct mail_auth *c)
{
	const struct dmarc_step *found;

	if (mail_auth_walk_is_unsure(&c->author)) {
		conclude(c, SMTP_RESULT_TEMPERROR, "policy cannot be asked for now");
		return;
	}
	found = dmarc_walk_policy(&c->author.walk);
	if (!found || !found->record.is_applied) {
		conclude(c, SMTP_RESULT_NONE, NULL);
		return;
	}
	/* np= is for names that are not in the DNS. */
	if (found != &c->author.walk.steps[0] && found->record.has_absent) {
		char name[256];
		int n = snprintf(name, sizeof(name), "%.*s", SLICE_ARG(c->dmarc.domain));

		if (n > 0 && n < (int)sizeof(name) &&
			c->dns->ask(c->loop, name, DNS_A, c->timeout_ms, on_existence, c, &c->existence) == 0)
			return;
	}
	set_policy(c, true);
}

static const char *const author_faults[] = {
	[DMARC_AUTHOR_ONE] = "",
	[DMARC_AUTHOR_NONE] = "no author's domain",
	[DMARC_AUTHOR_SEVERAL] = "several authors",
	[DMARC_AUTHOR_MALFORMED] = "the author cannot be read",
};

static void judge_dmarc(struct mail_auth *c)
{
	if (!c->wants_dmarc) {
		finish(c);
		return;
	}
	if (c->plan.author != DMARC_AUTHOR_ONE) {
		c->dmarc.is_ambiguous = true;
		conclude(c, SMTP_RESULT_PERMERROR,
			c->plan.why_not ? c->plan.why_not : author_faults[c->plan.author]);
		return;
	}
	judge_author(c);
}

/* ---- arithmetic ---- */

static void run(void *arg)
{
	struct mail_auth *c = arg;

	(void)mail_auth_plan_run(&c->plan); /* each result tells */
}

static void on_work_done(void *job, int error)
{
	struct mail_auth *c = job;

	c->is_at_work = false;
	if (c->is_orphaned) {
		destroy(c);
		return;
	}
	if (error) {
		mail_auth_body_cut(&c->plan.body);
		run(c);
	}
	judge_dmarc(c);
}

static void compute(struct mail_auth *c)
{
	bool is_small = mail_auth_plan_cost(&c->plan) <= MAIL_AUTH_INLINE_MOST &&
			c->plan.key_count <= MAIL_AUTH_INLINE_SIGNATURES;

	if (is_small || !pool) {
		run(c);
		judge_dmarc(c);
		return;
	}
	c->work = (struct work){.run = run, .done = on_work_done, .job = c};
	c->is_at_work = true;
	if (mail_auth_workers_submit(c->loop, &c->work) != 0)
		on_work_done(c, ERR_NOT_NOW);
}

/* ---- questions ---- */

static void one_less(void *arg)
{
	struct mail_auth *c = arg;

	if (!c->is_orphaned && --c->pending == 0)
		compute(c);
}

static void on_key(void *arg, const struct dns_answer *answer)
{
	struct key_question *q = arg;
	struct mail_auth *c = q->check;
	struct slice texts[DNS_RECORDS_MOST];
	unsigned count = 0;

	q->request = NULL;
	for (unsigned i = 0; !answer->error && i < answer->count; i++)
		if (answer->records[i].type == DNS_TXT)
			texts[count++] = answer->records[i].text;
	mail_auth_plan_key(&c->plan, q->index, answer->error, texts, count);
	one_less(c);
}

static void ask_keys(struct mail_auth *c)
{
	c->questions = xcalloc(c->plan.key_count + 1, sizeof(*c->questions));
	for (unsigned i = 0; i < c->plan.key_count; i++) {
		struct key_question *q = &c->questions[i];

		q->check = c;
		q->index = i;
		if (c->dns->ask(c->loop, c->plan.keys[i].name, DNS_TXT, c->timeout_ms, on_key, q,
			    &q->request) == 0)
			c->pending++;
		else
			mail_auth_plan_key(&c->plan, i, ERR_NOT_NOW, NULL, 0);
	}
}

struct mail_auth *mail_auth_start(struct loop *loop, const struct mail_auth_dns *dns,
	const struct mail_auth_input *input, mail_auth_fn *fn, void *arg)
{
	struct mail_auth *c = xcalloc(1, sizeof(*c));

	c->loop = loop;
	c->dns = dns;
	c->fn = fn;
	c->arg = arg;
	c->timeout_ms = input->dns_timeout_ms;
	c->wants_dmarc = input->dmarc;
	mail_auth_plan_init(&c->plan, &input->wants, input->header, input->spool, input->body_at);
	c->spf = input->spf;
	c->spf_domain = arena_copy(&c->plan.arena, input->spf_domain);
	c->dmarc.domain = c->plan.author_domain;
	c->pending = 1;
	ask_keys(c);
	if (input->dmarc && c->plan.author == DMARC_AUTHOR_ONE &&
		mail_auth_walk_start(
			&c->author, dns, loop, c->plan.author_domain, c->timeout_ms, one_less, c))
		c->pending++;
	loop_defer(loop, one_less, c);
	return c;
}

const struct mail_auth_plan *mail_auth_results(const struct mail_auth *check)
{
	return &check->plan;
}

const struct mail_auth_dmarc *mail_auth_dmarc(const struct mail_auth *check)
{
	return &check->dmarc;
}

enum smtp_result mail_auth_best(const struct mail_auth_plan *plan)
{
	static const enum smtp_result order[] = {SMTP_RESULT_PASS, SMTP_RESULT_TEMPERROR, SMTP_RESULT_FAIL,
		SMTP_RESULT_POLICY, SMTP_RESULT_NEUTRAL, SMTP_RESULT_PERMERROR};

	if (plan->why_not)
		return SMTP_RESULT_PERMERROR;
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		for (unsigned k = 0; k < plan->signature_count; k++)
			if (plan->signatures[k].result == order[i])
				return order[i];
	return SMTP_RESULT_NONE;
}
