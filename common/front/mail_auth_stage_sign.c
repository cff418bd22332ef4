/*
 * Signing and sealing: the header as all stages before have left it, and their body. Bare CRs in fields are taken out first, since
 * nothing bare leaves, and what leaves is what is signed.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_sign.h"
#include "common/front/mail_auth_stage.h"
#include "common/front/mail_auth_text.h"

struct settings {
	struct mail_auth_keys *keys;
	bool seals;
	struct metric *done, *unsigned_, *failed;
};

struct own {
	struct smtp_content *content; /* NULL: the message is gone */
	struct loop *loop;
	const struct settings *settings; /* good while there is a content */
	struct mail_auth_sign job;
	struct work work;
	int error;
};

static struct metric *counter(bool seals, const char *result)
{
	struct buf labels = {0};
	struct metric *metric;

	buf_printf(&labels, "kind=\"%s\",result=\"%s\"", seals ? "arc" : "dkim", result);
	metric = metrics_counter(
		"mailtier_mail_auth_signed", buf_str_view(&labels), "Messages signed or sealed by us");
	buf_deinit(&labels);
	return metric;
}

static int make(const struct conf *conf, struct buf *why, bool seals, void **settings_out)
{
	struct settings *s = xcalloc(1, sizeof(*s));
	int err = mail_auth_keys_new(conf, why, &s->keys);

	if (err) {
		free(s);
		return err;
	}
	s->seals = seals;
	s->done = counter(seals, "yes");
	s->unsigned_ = counter(seals, "no");
	s->failed = counter(seals, "failed");
	*settings_out = s;
	return 0;
}

static int make_sign(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	size_t count;

	(void)conf_titles(conf, "dkim", &count);
	return strcmp(service, "submission") == 0 && count ? make(conf, why, false, settings_out) : 0;
}

static int make_seal(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	bool is_wanted =
		strcmp(service, "smtp") == 0 && *conf_get_string(conf, "mail-auth", NULL, "arc-seal");

	return is_wanted ? make(conf, why, true, settings_out) : 0;
}

static void free_settings(void *settings)
{
	struct settings *s = settings;

	mail_auth_keys_unref(&s->keys);
	free(s);
}

/* ---- one message ---- */

static void destroy(struct own *own)
{
	mail_auth_sign_deinit(&own->job);
	free(own);
}

static void finish(struct own *own)
{
	struct smtp_content *c = own->content;
	const struct settings *s = own->settings;
	const struct mail_auth_sign *job = &own->job;
	int err = own->error;

	for (unsigned i = 0; !err && i < job->count; i++)
		err = smtp_content_insert(c, 0, job->made[i].name, job->made[i].value);
	metric_add(err ? s->failed : job->count ? s->done : s->unsigned_, 1);
	if (err)
		log_warn("smtp", "%s: %s not made: %s", smtp_front_session(smtp_content_front(c)),
			s->seals ? "the ARC set was" : "the signature was", error_text(err));
	else if (job->why_not)
		log_debug("smtp", "%s: not %s: %s", smtp_front_session(smtp_content_front(c)),
			s->seals ? "sealed" : "signed", job->why_not);
	smtp_content_set_own(c, NULL);
	destroy(own);
	/* A message that should be signed does not leave without; one without a seal is only less well known. */
	if (err && !s->seals)
		smtp_content_done(c, &(struct smtp_verdict){SMTP_VERDICT_TEMPFAIL, {0}});
	else
		smtp_content_done(c, SMTP_GO_ON);
}

static void run(void *arg)
{
	struct own *own = arg;

	own->error = mail_auth_sign_run(&own->job);
}

static void on_run(void *arg, int error)
{
	struct own *own = arg;

	if (error)
		own->error = ERR_NOT_NOW;
	if (own->content)
		finish(own);
	else
		destroy(own);
}

static void cancel(struct smtp_content *c, void *settings)
{
	struct own *own = smtp_content_own(c);

	(void)settings;
	if (!own)
		return;
	smtp_content_set_own(c, NULL);
	own->content = NULL; /* it is at work: on_run() frees it */
	mail_auth_body_cut(&own->job.body);
}

/* Takes bare CRs out of fields, which would otherwise leave as line ends amid a header. */
static int mend_fields(struct smtp_content *c)
{
	int err = 0;

	for (size_t i = 0; !err && i < smtp_content_field_count(c); i++) {
		struct slice value = smtp_content_field(c, i)->value;
		struct buf mended = {0};
		bool is_bare = false;

		for (size_t k = 0; value.len && k < value.len; k++) {
			bool is_cr = value.p[k] == '\r' && (k + 1 == value.len || value.p[k + 1] != '\n');

			is_bare |= is_cr;
			buf_add_char(&mended, is_cr ? ' ' : value.p[k]);
		}
		if (is_bare)
			err = smtp_content_change(c, i, buf_view(&mended));
		buf_deinit(&mended);
	}
	return err;
}

static void start(struct smtp_content *c, const struct settings *s)
{
	struct own *own = xcalloc(1, sizeof(*own));
	struct buf header = {0}, results = {0};
	const struct smtp_facts *facts = smtp_content_facts(c);
	uint64_t body_at;
	const struct spool *body = smtp_content_body(c, &body_at);
	int err;

	for (size_t i = 0; i < smtp_content_field_count(c); i++)
		buf_add_slice(&header, smtp_content_field(c, i)->raw);
	own->content = c;
	own->loop = smtp_content_loop(c);
	own->settings = s;
	if (s->seals) {
		mail_auth_text_facts(facts, mail_auth_text_host(c), &results);
		mail_auth_sign_seal(&own->job, s->keys, buf_view(&header), body, body_at, buf_view(&results),
			facts->arc == SMTP_RESULT_PASS   ? DKIM_CHAIN_PASS
			: facts->arc == SMTP_RESULT_NONE ? DKIM_CHAIN_NONE
							 : DKIM_CHAIN_FAIL,
			clock_wall_s());
	} else {
		mail_auth_sign_init(&own->job, s->keys, buf_view(&header), body, body_at, clock_wall_s());
		if (smtp_front_is_trusted(smtp_content_front(c)))
			mail_auth_sign_only_new(&own->job);
	}
	buf_deinit(&header);
	buf_deinit(&results);
	smtp_content_set_own(c, own);
	if (!own->job.choice_count) {
		finish(own);
		return;
	}
	own->work = (struct work){.run = run, .done = on_run, .job = own};
	err = mail_auth_workers_submit(own->loop, &own->work);
	if (err == ERR_UNSUPPORTED)
		run(own);
	if (err)
		on_run(own, err == ERR_UNSUPPORTED ? 0 : err);
}

static void begin(struct smtp_content *c, void *settings)
{
	const struct settings *s = settings;

	if (s->seals && smtp_front_is_trusted(smtp_content_front(c)))
		smtp_content_done(c, SMTP_GO_ON);
	else if (!s->seals && mend_fields(c) != 0)
		smtp_content_done(c, &(struct smtp_verdict){SMTP_VERDICT_TEMPFAIL, {0}});
	else
		start(c, s);
}

const struct smtp_stage mail_auth_stage_sign = {
	.name = "dkim-sign", .make = make_sign, .free = free_settings, .begin = begin, .cancel = cancel};
const struct smtp_stage mail_auth_stage_seal = {
	.name = "arc-seal", .make = make_seal, .free = free_settings, .begin = begin, .cancel = cancel};
