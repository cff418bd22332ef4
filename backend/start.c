/*
 * SIGHUP reads configuration and log file anew. SIGTERM and SIGINT drain: /ready says no; after ready-delay
 * the listeners close and sessions are asked to end; after drain-limit they are cut; then all that was
 * accepted is committed and the store is closed.
 *
 * Order of the end: listeners, sessions, the writers (they finish their queues while the loops still run),
 * the loops, the store.
 */
#include "backend/start.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/admin/account_import.h"
#include "backend/admin/backup_store.h"
#include "backend/admin/claims.h"
#include "backend/admin/queue_verbs.h"
#include "backend/admin/quota_verbs.h"
#include "backend/admin/scrub.h"
#include "backend/admin/sessions.h"
#include "backend/listeners.h"
#include "backend/quota_settings.h"
#include "backend/sending.h"
#include "backend/store/store_domain.h"
#include "backend/store/store_kept.h"
#include "backend/store/store_text.h"
#include "backend/submission.h"
#include "backend/users.h"
#include "common/auth/sasl.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/control/notify.h"
#include "common/control/program.h"
#include "common/front/dns_keys.h"
#include "common/front/mail_auth.h"
#include "common/front/smtp_spf.h"
#include "common/net/dns.h"
#include "common/net/spool.h"

#define HASH_QUEUE_MOST 10000
#define OPERATOR_QUEUE_MOST 4
/* Beside hash-workers, so that logins do not wait behind an import. */
#define IMPORT_THREADS 2
#define IMPORT_QUEUE_MOST 1000
#define DRAIN_POLL_MS 50
/* From refusing to closing: clients whose handshake had begun come in. */
#define REFUSE_MS 200
/* What a cut session may take to notice. */
#define CUT_MS 2000

static NORETURN void die(struct buf *why, const char *what, int err)
{
	fprintf(stderr, "mailtier-backend: %s: %s\n%s\n", what, error_text(err), buf_str_view(why));
	_exit(1); /* threads may run: nothing is taken down under them */
}

static void must(int err, struct buf *why, const char *what)
{
	if (err < 0)
		die(why, what, err);
}

/* ---- reload ---- */

static struct imap_limits imap_limits_of(const struct config *c)
{
	struct imap_limits limits = imap_limits_default;

	limits.append_size = c->message_size;
	limits.is_strict_utf8 = c->is_strict_utf8;
	limits.idle_ms = c->imap_idle_ms;
	limits.transfer_ms = c->transfer_ms;
	limits.bad_commands = c->wrong_commands;
	limits.acl_anyone = c->is_acl_anyone;
	return limits;
}

/* What METADATA tells of the server; empty texts are no entries. */
static void set_notes(struct backend *b)
{
	const char *comment = conf_get_string(b->config->conf, "", NULL, "imap-comment");
	const char *admin = conf_get_string(b->config->conf, "", NULL, "imap-admin");

	imap_service_set_notes(b->admin.imap, comment[0] ? comment : NULL, admin[0] ? admin : NULL);
}

static void set_warnings(struct backend *b)
{
	struct quota_warning_settings settings;
	struct buf text = {0};

	quota_settings_read(b->config, &text, &settings);
	quota_warning_set(b->quota_warning, &settings);
	buf_deinit(&text);
}

static struct pop3_limits pop3_limits_of(const struct config *c)
{
	return (struct pop3_limits){.idle_ms = c->pop3_idle_ms,
		.transfer_ms = c->transfer_ms,
		.bad_commands = c->wrong_commands,
		.is_exclusive = c->is_pop3_exclusive,
		.is_strict_utf8 = c->is_strict_utf8};
}

static void set_retention(struct backend *b)
{
	store_set_retention(b->admin.store, conf_get_duration(b->config->conf, "", NULL, "retention") / 1000,
		conf_get_size(b->config->conf, "", NULL, "retention-size"));
}

/* What the operator's verbs see of the configuration. */
static void tell_admin(struct backend *b)
{
	b->admin.host = b->config->host;
	b->admin.domains_must_exist = b->config->domains_must_exist;
}

static void put_in_force(struct backend *b)
{
	struct imap_limits imap = imap_limits_of(b->config);
	struct pop3_limits pop3 = pop3_limits_of(b->config);

	program_set_log(b->config->conf, "backend");
	tell_admin(b);
	set_retention(b);
	if (b->admin.scrub)
		scrub_set_config(b->admin.scrub, b->config->conf);
	imap_service_set_limits(b->admin.imap, &imap);
	set_notes(b);
	set_warnings(b);
	pop3_service_set_limits(b->admin.pop3, &pop3);
	credential_cache_set_lifetime(
		b->credentials, conf_get_duration(b->config->conf, "", NULL, "credential-cache"));
	front_penalty_reload(b->penalty, b->config->conf);
	store_domain_set_built_in(b->admin.store, b->config->quota_size, b->config->quota_count);
	listeners_set_config(b);
	sending_reload(b);
	handover_set_limit(b->handover, conf_get_duration(b->config->conf, "", NULL, "handover-limit"));
}

static void on_hup(void *arg)
{
	struct backend *b = arg;
	struct buf why = {0}, notes = {0};
	struct config *config = NULL;
	struct conf *conf;
	int err;

	if (b->admin.is_leaving)
		return;
	b->is_reload_due = handover_is_waiting(b->handover); /* what it changes is not there yet */
	if (b->is_reload_due)
		return;
	err = conf_reload(b->config->conf, &why, &notes, &conf);
	if (!err)
		err = config_new(conf, &why, &config);
	if (!err)
		err = users_tie(b->users, b->config, config, &why);
	if (err) {
		config_unref(&config);
		program_log_lines(LOG_ERROR, "backend", "configuration refused, the old one stays", &why);
	} else {
		program_log_lines(LOG_WARN, "backend", "not by reload", &notes);
		config_unref(&b->config);
		b->config = config;
		put_in_force(b);
		log_info("backend", "configuration read again");
	}
	buf_deinit(&why);
	buf_deinit(&notes);
}

/* ---- drain ---- */

static void stop_loop(void *arg)
{
	struct backend *b = arg;

	loop_stop(b->admin.loop);
}

/* Closes what lives on loops while they still turn, and lets them turn a little. */
static void leave(struct backend *b)
{
	if (b->admin.is_leaving)
		return;
	b->admin.is_leaving = true;
	sending_end(b);
	listeners_close();
	sessions_end_fronts(&b->admin);
	if (b->status)
		status_close(&b->status);
	if (b->admin.control)
		control_close(&b->admin.control);
	timer_stop(&b->drain);
	timer_init(&b->drain, stop_loop, b);
	timer_set(&b->drain, b->admin.loop, DRAIN_POLL_MS);
}

static void drain_step(void *arg)
{
	struct backend *b = arg;
	uint64_t now = loop_now_ms(b->admin.loop);

	if (!b->is_refusing) {
		b->is_refusing = true;
		listeners_refuse();
		timer_set(&b->drain, b->admin.loop, REFUSE_MS);
		return;
	}
	if (!b->is_closed) {
		b->is_closed = true;
		b->drain_until_ms = now + conf_get_duration(b->config->conf, "", NULL, "drain-limit");
		listeners_stop();
		log_info("backend", "listeners are closed sessions=%u", sessions_count(&b->admin));
	} else if (!b->is_cut && now >= b->drain_until_ms) {
		b->is_cut = true;
		b->drain_until_ms = now + CUT_MS;
	}
	/* Again and again: who logs in late is told too. */
	sessions_bye(&b->admin, b->is_cut);
	if ((sessions_count(&b->admin) > 0 || sending_is_busy(b)) && !(b->is_cut && now >= b->drain_until_ms))
		timer_set(&b->drain, b->admin.loop, DRAIN_POLL_MS);
	else
		leave(b);
}

static void on_term(void *arg)
{
	struct backend *b = arg;

	if (b->admin.is_draining ||
		handover_is_waiting(b->handover)) { /* asked twice, or nobody is served yet: at once */
		leave(b);
		return;
	}
	b->admin.is_draining = true;
	sending_drain(b);
	handover_cancel(b->handover);
	notify_send("STOPPING=1");
	log_info("backend", "draining");
	if (b->status)
		status_set_draining(b->status);
	timer_set(&b->drain, b->admin.loop, conf_get_duration(b->config->conf, "", NULL, "ready-delay"));
}

/* ---- hand-over, as the old one ---- */

/* The new one waits for our end, and clients for it: half of what they may wait at most is for our sessions. */
static void on_retire(void *arg)
{
	struct backend *b = arg;
	uint64_t drain = conf_get_duration(b->config->conf, "", NULL, "drain-limit");
	uint64_t most = conf_get_duration(b->config->conf, "", NULL, "handover-limit") / 2;

	b->admin.is_draining = b->is_refusing = b->is_closed = true;
	sending_drain(b);
	listeners_stop(); /* but for those that the new one does not name they have been let go */
	if (b->status)
		status_close(&b->status);
	b->drain_until_ms = loop_now_ms(b->admin.loop) + (drain < most ? drain : most);
	drain_step(b);
}

static const char *refusal(void *arg)
{
	const struct backend *b = arg;

	return b->admin.is_draining ? "this program is to end" : NULL;
}

/* ---- metrics ---- */

static void collect(void *arg)
{
	struct backend *b = arg;

	metric_set(metrics_gauge("mailtier_store_accounts", NULL, "Accounts"),
		(int64_t)store_count_accounts(b->admin.store));
	metric_set(metrics_gauge("mailtier_backend_sessions", NULL,
			   "Sessions of IMAP and POP3 after login, and of LMTP"),
		sessions_count(&b->admin));
}

/* ---- start ---- */

static bool is_ready(void *arg, struct buf *reason)
{
	(void)arg;
	(void)reason;
	return true; /* the listener opens last: what is asked is running */
}

/* ERR_NOT_NOW: another program has it. */
static int open_store(struct backend *b, struct buf *why)
{
	const struct conf *conf = b->config->conf;
	const struct store_options options = {
		.dir = conf_get_string(conf, "", NULL, "store"),
		.slots = (unsigned)conf_get_int(conf, "", NULL, "slots"),
		.map_size = conf_get_size(conf, "", NULL, "map-size"),
		.has_text_index = conf_get_bool(conf, "", NULL, "text-index"),
		.text_size = conf_get_size(conf, "", NULL, "text-index-size"),
	};
	const struct store_work_options work = {
		.reader_threads = (unsigned)conf_get_int(conf, "", NULL, "reader-threads"),
		.prepare_threads = (unsigned)conf_get_int(conf, "", NULL, "prepare-threads"),
		.mark_lifetime_s = conf_get_duration(conf, "", NULL, "mark-lifetime") / 1000,
	};

	int err = store_open(&options, &b->admin.store, why);

	if (err == ERR_NOT_NOW)
		return err;
	must(err, why, "the store cannot be opened");
	set_retention(b);
	must(store_work_start(b->admin.store, &work, &b->admin.work), why,
		"the store's threads cannot start");
	must(scrub_start(&b->admin, conf, &b->admin.scrub), why, "the scrub cannot start");
	if (store_text_is_on(b->admin.store)) {
		const struct search_worker_options indexer = {
			.share = (unsigned)conf_get_int(conf, "", NULL, "text-index-share")};

		must(search_worker_start(b->admin.work, &indexer, &b->admin.indexer), why,
			"the indexer cannot start");
	}
	return 0;
}

static void make_services(struct backend *b, struct buf *why)
{
	const struct conf *conf = b->config->conf;

	must(work_pool_new("hash", (unsigned)conf_get_int(conf, "", NULL, "hash-workers"), HASH_QUEUE_MOST,
		     &b->admin.hash_pool),
		why, "no threads");
	must(mail_auth_workers_start((unsigned)conf_get_int(conf, "", NULL, "mail-auth-workers")), why,
		"no threads");
	must(work_pool_new("operator", 1, OPERATOR_QUEUE_MOST, &b->admin.operator_pool), why, "no threads");
	b->admin.backups = backups_new(&b->admin, why);
	must(b->admin.backups ? 0 : ERR_NOT_NOW, why, "no threads");
	must(work_pool_new("import", IMPORT_THREADS, IMPORT_QUEUE_MOST, &b->admin.import_pool), why,
		"no threads");
	b->credentials = credential_cache_new(conf_get_duration(conf, "", NULL, "credential-cache"),
		conf_get_int(conf, "", NULL, "credential-entries"));
	b->penalty = front_penalty_new(conf);
	b->users = users_new(b);
	must(users_tie(b->users, NULL, b->config, why), why, "the directories cannot be asked");
}

/* All that needs the store: after a hand-over it comes last. */
static int open_store_services(struct backend *b, struct buf *why)
{
	struct imap_limits imap = imap_limits_of(b->config);
	struct pop3_limits pop3 = pop3_limits_of(b->config);
	unsigned loops = loop_group_count(b->admin.group);

	if (open_store(b, why) != 0)
		return ERR_NOT_NOW;
	store_domain_set_built_in(b->admin.store, b->config->quota_size, b->config->quota_count);
	b->admin.imap = imap_service_new(b->admin.work, loops, &imap);
	set_notes(b);
	b->admin.pop3 = pop3_service_new(b->admin.work, loops, &pop3);
	b->delivery = delivery_service_new(b->admin.work);
	must(sending_start(b, why), why, "sending cannot start");
	b->quota_warning = quota_warning_new(b->admin.work, b->admin.loop);
	b->send_limits = send_limits_new();
	submission_start(b);
	set_warnings(b);
	listeners_offer(b);
	metrics_on_collect(collect, b);
	queue_verbs_measure(&b->admin, true);
	log_info("backend", "started loops=%u slots=%u accounts=%zu", loops, store_slots(b->admin.store),
		store_count_accounts(b->admin.store));
	return 0;
}

static int on_begin(void *arg)
{
	struct backend *b = arg;
	struct buf why = {0};
	int err = open_store_services(b, &why);

	if (!err && b->is_reload_due)
		loop_post(b->admin.loop, on_hup, b);
	buf_deinit(&why);
	return err;
}

static void start_handover(struct backend *b, struct buf *why)
{
	const struct handover_options options = {
		.loop = b->admin.loop,
		.area = "backend",
		.limit_ms = conf_get_duration(b->config->conf, "", NULL, "handover-limit"),
		.waits_for_end = true,
		.is_ready = is_ready,
		.begin = on_begin,
		.retire = on_retire,
		.refusal = refusal,
		.arg = b,
	};

	if (b->admin.control)
		handover_register(b->handover, b->admin.control);
	must(handover_start(b->handover, &options, why), why, "no signals");
}

static struct smtp_policy *find_policy(void *arg, const char *service)
{
	const struct backend *b = arg;
	bool is_submission = strcmp(service, "submission") == 0;

	if (!is_submission && strcmp(service, "smtp") != 0)
		return NULL;
	return smtp_policy_ref(b->config->policies[is_submission]);
}

static const struct conf *conf_now(void *arg)
{
	const struct backend *b = arg;

	return b->config->conf;
}

static void open_places(struct backend *b, struct buf *why)
{
	must(control_open_conf(b->admin.loop, "mailtier-backend", b->config->conf, why, &b->admin.control),
		why, "the control socket cannot be opened");
	if (b->admin.control) {
		admin_register(&b->admin);
		b->explain = (struct smtp_explain){find_policy, b};
		smtp_explain_register(b->admin.control, &b->explain);
		front_penalty_register(b->admin.control, b->penalty);
		b->mail_auth = (struct mail_auth_verbs){.conf = conf_now, .arg = b};
		mail_auth_verbs_register(b->admin.control, &b->mail_auth);
		users_register(b);
		submission_register(b);
	}
	must(listeners_open(b, why), why, "a listener cannot be opened");
	must(status_open(b->admin.loop, b->config->conf, is_ready, b, why, &b->status), why,
		"the status listener cannot be opened");
}

void start_all(struct backend *b, struct conf *conf_take)
{
	struct buf why = {0};

	program_set_log(conf_take, "backend");
	signal(SIGPIPE, SIG_IGN);
	program_raise_descriptors();
	spool_set_directory(conf_get_string(conf_take, "", NULL, "spool"));
	must(config_new(conf_take, &why, &b->config), &why, "the configuration cannot work");
	tell_admin(b);
	must(loop_new(&b->admin.loop), &why, "no event loop");
	must(sasl_init("mailtier-backend", &why), &why, "SASL cannot start");
	must(dns_keys_init(b->config->conf, &why), &why, "the resolver cannot start");
	smtp_spf_start(b->config->conf, program_loops(b->config->conf));
	must(loop_group_start(program_loops(b->config->conf), &b->admin.group), &why, "no threads");
	make_services(b, &why);
	if (!handover_is_waiting(b->handover))
		must(open_store_services(b, &why), &why, "the store cannot be opened");
	timer_init(&b->drain, drain_step, b);
	must(loop_on_signal(b->admin.loop, SIGHUP, on_hup, b), &why, "no signals");
	must(loop_on_signal(b->admin.loop, SIGTERM, on_term, b), &why, "no signals");
	must(loop_on_signal(b->admin.loop, SIGINT, on_term, b), &why, "no signals");
	open_places(b, &why);
	start_handover(b, &why);
	buf_deinit(&why);
}

static void end_all(struct backend *b)
{
	metrics_off_collect(collect, b);
	queue_verbs_measure(&b->admin, false);
	work_pool_free(&b->admin.operator_pool);
	backups_end(b->admin.backups);
	account_import_end();
	work_pool_free(&b->admin.import_pool);
	work_pool_end(b->admin.hash_pool);
	mail_auth_workers_end();
	quota_warning_end(b->quota_warning);
	search_worker_stop(&b->admin.indexer);
	if (b->admin.work)
		store_work_halt(b->admin.work);
	smtp_spf_leave(b->admin.group);
	loop_group_stop(&b->admin.group);
	smtp_spf_end();
	sending_free(b);
	store_work_stop(&b->admin.work);
	listeners_free();
	users_end(b->config);
	if (b->send_limits)
		submission_stop(b);
	config_unref(&b->config);
	users_free(&b->users);
	/* What workers have finished comes home once more, to be freed. */
	loop_post(b->admin.loop, stop_loop, b);
	loop_run(b->admin.loop);
	work_pool_free(&b->admin.hash_pool);
	mail_auth_workers_free();
	backups_free(&b->admin.backups);
	scrub_stop(&b->admin.scrub);
	store_close(&b->admin.store);
	timer_stop(&b->drain);
	handover_stop(b->handover); /* a new one opens the store from here on */
	loop_free(&b->admin.loop);
	dns_deinit();
	claims_deinit();
	delivery_service_free(&b->delivery);
	send_limits_free(&b->send_limits);
	quota_warning_free(&b->quota_warning);
	imap_service_free(&b->admin.imap);
	pop3_service_free(&b->admin.pop3);
	credential_cache_free(&b->credentials);
	penalty_free(&b->penalty);
	sasl_deinit();
	handover_free(&b->handover);
}

void start_run(struct backend *b)
{
	loop_run(b->admin.loop);
	end_all(b);
	log_info("backend", "ended");
}
