/*
 * A policy is read from the configuration in one go: the stages say by themselves whether a service wants them. Their order in the
 * table is the order in which they see a message.
 */
#include "common/front/smtp_policy.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/front/mail_auth_keys.h"
#include "common/front/mail_auth_stage.h"

const struct conf_key smtp_policy_keys[] = {
	{"policy", "spool-memory", CONF_SIZE, CONF_RELOAD, "1M", 4096, UINT64_C(1) << 30, NULL,
		"Octets of one message that are kept in memory while it is looked at; more go to an unlinked "
		"file",
		NULL},
	{"policy", "header-size", CONF_SIZE, CONF_RELOAD, "1M", 16384, UINT64_C(50) << 20, NULL,
		"Largest header of a message that is looked at; it is kept in memory", NULL},
	MAIL_AUTH_KEYS,
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static const struct smtp_stage *const stages[] = {
	&mail_auth_stage_verify,
	/* Behind all that edits. */
	&mail_auth_stage_seal,
	&mail_auth_stage_sign,
	NULL,
};

static struct smtp_policy *policy_new(size_t spool_memory, size_t header_most)
{
	struct smtp_policy *p = xcalloc(1, sizeof(*p));

	atomic_store(&p->refs, 1);
	p->spool_memory = spool_memory;
	p->header_most = header_most;
	return p;
}

static void add_stage(struct smtp_policy *p, const struct smtp_stage *stage, void *settings)
{
	require(p->stage_count < SMTP_STAGES_MOST);
	p->stages[p->stage_count].stage = stage;
	p->stages[p->stage_count++].settings = settings;
}

void smtp_policy_check(struct conf *conf)
{
	mail_auth_keys_check(conf);
}

int smtp_policy_new(
	const struct conf *conf, const char *service, struct buf *why, struct smtp_policy **policy_out)
{
	struct smtp_policy *p = policy_new((size_t)conf_get_size(conf, "policy", NULL, "spool-memory"),
		(size_t)conf_get_size(conf, "policy", NULL, "header-size"));

	for (const struct smtp_stage *const *s = stages; *s; s++) {
		void *settings = NULL;
		int err = (*s)->make(conf, service, why, &settings);

		if (err) {
			smtp_policy_unref(&p);
			return err;
		}
		if (settings)
			add_stage(p, *s, settings);
	}
	*policy_out = p;
	return 0;
}

struct smtp_policy *smtp_policy_of_stages(const struct smtp_stage *const *list, unsigned count)
{
	struct smtp_policy *p = policy_new(64 * 1024, (size_t)1 << 20);

	for (unsigned i = 0; i < count; i++)
		add_stage(p, list[i], NULL);
	return p;
}

struct smtp_policy *smtp_policy_ref(struct smtp_policy *p)
{
	if (p)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void smtp_policy_unref(struct smtp_policy **policy)
{
	struct smtp_policy *p = *policy;

	*policy = NULL;
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < p->stage_count; i++) {
		if (p->stages[i].stage->free)
			p->stages[i].stage->free(p->stages[i].settings);
	}
	free(p);
}

bool smtp_policy_needs_content(const struct smtp_policy *p)
{
	return p && p->stage_count > 0;
}
