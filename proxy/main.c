/*
 * mailtier-proxy: reads its configuration, starts what it names, and waits for signals. The main thread has a loop of its own for
 * signals, control, status, maps and health probes; clients are served by the loops of a group.
 *
 * SIGHUP reads configuration, maps and log file anew. SIGTERM and SIGINT drain: /ready says no, after ready-delay the listeners close,
 * open sessions may go on for drain-limit. SIGUSR2 hands the listeners over to a newly started program; this one then lives as long as
 * its sessions, at most handover-sessions.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auth/password_command.h"
#include "common/auth/sasl.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/control/control.h"
#include "common/control/handover.h"
#include "common/control/notify.h"
#include "common/control/program.h"
#include "common/control/status.h"
#include "common/front/dns_keys.h"
#include "common/front/front_penalty.h"
#include "common/front/smtp_spf.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_verbs.h"
#include "common/net/dns.h"
#include "common/net/spool.h"
#include "common/net/timer.h"
#include "common/net/work.h"
#include "proxy/listeners.h"
#include "proxy/login.h"
#include "proxy/probe.h"
#include "proxy/sessions.h"
#include "proxy/smtp_service.h"
#include "proxy/spare.h"
#include "proxy/verbs.h"
#include "proxy/worker.h"

#define HASH_QUEUE_MOST 10000
#define DRAIN_POLL_MS 50
/* From refusing to closing: clients whose handshake had begun come in. */
#define REFUSE_MS 200
#define RETIRED_POLL_MS 200

struct program {
	struct loop *loop;
	struct loop_group *group;
	struct mail_auth_verbs mail_auth;
	struct work_pool *hash_pool;
	struct penalty *penalty;
	struct verbs verbs; /* maps and the configuration in force */
	struct control *control;
	struct status *status;
	struct handover *handover;
	struct timer drain, retired;
	uint64_t drain_until_ms, retired_until_ms;
	bool is_draining;
	bool is_refusing; /* new clients */
	bool is_closed;   /* the listeners */
	bool is_ending;
};

/* Says each line of why as an error, and ends. */
static NORETURN void die(struct buf *why, const char *what)
{
	fprintf(stderr, "mailtier-proxy: %s\n%s\n", what, buf_str_view(why));
	_exit(1); /* threads may run: nothing is taken down under them */
}

static void must(int err, struct buf *why, const char *what)
{
	if (err < 0)
		die(why, what);
}

/* ---- reload ---- */

/* The maps change last: nothing but the tying of chains, whose names were checked, can fail after it. */
static int make_maps(struct program *p, struct config *config, struct buf *why)
{
	struct usermap_config maps;
	int err;

	config_maps(config->conf, config->backends, &maps);
	if (p->verbs.maps)
		err = usermap_set_reconfigure(p->verbs.maps, &maps, why);
	else
		err = usermap_set_open(&maps, p->loop, p->hash_pool, why, &p->verbs.maps);
	usermap_config_free(&maps);
	return err ? err : config_tie_maps(config, p->verbs.maps, why);
}

static int make_config(struct program *p, struct conf *conf, struct buf *why, struct config **config_out)
{
	struct config *old = p->verbs.config;
	struct config *config;
	struct backends *backends;
	int err = backends_new(conf, old ? old->backends : NULL, why, &backends);

	if (err < 0) {
		conf_free(&conf);
		return err;
	}
	err = config_new(conf, backends, p->hash_pool, why, &config);
	if (err < 0)
		return err;
	if (!p->penalty)
		p->penalty = front_penalty_new(config->conf);
	config_set_penalty(config, p->penalty);
	err = make_maps(p, config, why);
	if (err < 0)
		config_unref(&config);
	else
		*config_out = config;
	return err;
}

static void on_hup(void *arg)
{
	struct program *p = arg;
	struct buf why = {0}, notes = {0};
	struct config *config = NULL;
	struct conf *conf;
	int err;

	if (p->is_ending)
		return;
	err = conf_reload(p->verbs.config->conf, &why, &notes, &conf);
	if (err == 0)
		err = make_config(p, conf, &why, &config);
	if (err < 0) {
		program_log_lines(LOG_ERROR, "proxy", "configuration refused, the old one stays", &why);
	} else {
		program_log_lines(LOG_WARN, "proxy", "not by reload", &notes);
		program_set_log(config->conf, "proxy");
		front_penalty_reload(p->penalty, config->conf);
		workers_set_config(config);
		listeners_set_config(config);
		probe_set_config(p->loop, config);
		handover_set_limit(p->handover, conf_get_duration(config->conf, "", NULL, "handover-limit"));
		config_unref(&p->verbs.config);
		p->verbs.config = config;
		log_info("proxy", "configuration read again");
	}
	buf_deinit(&why);
	buf_deinit(&notes);
}

/* ---- drain ---- */

static void stop_loop(void *arg)
{
	struct program *p = arg;

	loop_stop(p->loop);
}

static void close_mail(void *arg)
{
	(void)arg;
	smtp_service_close_sessions(false);
}

static void end_mail(void *arg)
{
	(void)arg;
	smtp_service_close_sessions(true);
	front_end_all();
}

/* On each worker's loop, with the worker. */
static void tell_workers(loop_fn *fn)
{
	for (unsigned i = 0; i < workers_count(); i++)
		loop_post(workers_at(i)->loop, fn, workers_at(i));
}

/* Closes what lives on the main loop while that still turns, and lets it turn a little. */
static void end(struct program *p)
{
	if (p->is_ending)
		return;
	p->is_ending = true;
	listeners_stop();
	tell_workers(end_mail);
	probe_end();
	tell_workers(spare_end);
	if (p->status)
		status_close(&p->status);
	if (p->control)
		control_close(&p->control);
	timer_stop(&p->drain);
	timer_init(&p->drain, stop_loop, p);
	timer_set(&p->drain, p->loop, DRAIN_POLL_MS);
}

/* Every client of ours, whatever he does. */
static int64_t clients(void)
{
	return listeners_connections();
}

static void close_listeners(struct program *p)
{
	p->is_closed = true;
	p->drain_until_ms =
		loop_now_ms(p->loop) + conf_get_duration(p->verbs.config->conf, "", NULL, "drain-limit");
	listeners_stop();
	log_info("proxy", "listeners are closed sessions=%lld", (long long)clients());
}

static void drain_step(void *arg)
{
	struct program *p = arg;

	if (!p->is_refusing) {
		p->is_refusing = true;
		listeners_refuse();
		timer_set(&p->drain, p->loop, REFUSE_MS);
		return;
	}
	if (!p->is_closed)
		close_listeners(p);
	/* Again and again: a client that was accepted late is told too. */
	tell_workers(close_mail);
	if (clients() > 0 && loop_now_ms(p->loop) < p->drain_until_ms)
		timer_set(&p->drain, p->loop, DRAIN_POLL_MS);
	else
		end(p);
}

static void on_term(void *arg)
{
	struct program *p = arg;

	if (p->is_draining || handover_is_waiting(p->handover)) {
		end(p); /* asked twice, or nobody is served yet: at once */
		return;
	}
	p->is_draining = true;
	handover_cancel(p->handover);
	log_info("proxy", "draining");
	if (!handover_is_retired(p->handover))
		notify_send("STOPPING=1");
	if (p->status)
		status_set_draining(p->status);
	/* One that has retired takes no clients: nobody has to notice. */
	timer_set(&p->drain, p->loop,
		p->is_refusing ? 1 : conf_get_duration(p->verbs.config->conf, "", NULL, "ready-delay"));
}

/* ---- hand-over ---- */

/* Ends when the last client has gone, or at the limit. */
static void retired_step(void *arg)
{
	struct program *p = arg;
	int64_t left = clients();

	if (p->is_draining || p->is_ending)
		return;
	handover_tell_sessions(p->handover, left);
	if (left > 0 && loop_now_ms(p->loop) < p->retired_until_ms) {
		timer_set(&p->retired, p->loop, RETIRED_POLL_MS);
		return;
	}
	log_info("proxy", "has handed over, and ends sessions=%lld", (long long)left);
	end(p);
}

static void on_retire(void *arg)
{
	struct program *p = arg;
	struct buf why = {0};

	/* Those that were handed over are closed already; the rest is not in the new configuration. */
	p->is_refusing = true;
	listeners_stop();
	tell_workers(spare_end);
	if (p->status)
		status_close(&p->status);
	if (p->control && control_move(p->control, &why) != 0)
		program_log_lines(LOG_WARN, "proxy", "no control socket any more", &why);
	buf_deinit(&why);
	p->retired_until_ms = loop_now_ms(p->loop) +
			      conf_get_duration(p->verbs.config->conf, "", NULL, "handover-sessions");
	timer_set(&p->retired, p->loop, RETIRED_POLL_MS);
}

static int on_begin(void *arg)
{
	(void)arg; /* the listeners begin by themselves */
	return 0;
}

static const char *refusal(void *arg)
{
	const struct program *p = arg;

	return p->is_draining || p->is_ending ? "this program is to end" : NULL;
}

/* ---- start ---- */

static bool is_ready(void *arg, struct buf *reason)
{
	const struct program *p = arg;

	for (size_t i = 0; i < usermap_set_count(p->verbs.maps); i++) {
		struct usermap_status s;

		usermap_set_status(p->verbs.maps, i, &s);
		/* A directory that is down takes no proxy out: known users go on, and another proxy would not be better. */
		if (!s.usable && !*s.connector) {
			buf_printf(reason, "map %s is not usable", s.name);
			return false;
		}
	}
	if (!probe_is_settled())
		buf_add_str(reason, "back-ends are being probed");
	return probe_is_settled();
}

static void start_handover(struct program *p, struct buf *why)
{
	const struct handover_options options = {
		.loop = p->loop,
		.area = "proxy",
		.limit_ms = conf_get_duration(p->verbs.config->conf, "", NULL, "handover-limit"),
		.is_ready = is_ready,
		.begin = on_begin,
		.retire = on_retire,
		.refusal = refusal,
		.arg = p,
	};

	if (p->control)
		handover_register(p->handover, p->control);
	must(handover_start(p->handover, &options, why), why, "no signals");
}

static const struct conf *conf_now(void *arg)
{
	const struct program *p = arg;

	return p->verbs.config->conf;
}

static void start(struct program *p, struct conf *conf)
{
	struct buf why = {0};

	must(loop_new(&p->loop), &why, "no event loop");
	must(dns_keys_init(conf, &why), &why, "the resolver cannot start");
	must(sasl_init("mailtier-proxy", &why), &why, "SASL cannot start");
	must(work_pool_new("hash", (unsigned)conf_get_int(conf, "", NULL, "hash-workers"), HASH_QUEUE_MOST,
		     &p->hash_pool),
		&why, "no threads");
	must(mail_auth_workers_start((unsigned)conf_get_int(conf, "", NULL, "mail-auth-workers")), &why,
		"no threads");
	must(make_config(p, conf, &why, &p->verbs.config), &why, "the configuration cannot work");
	smtp_spf_start(p->verbs.config->conf, program_loops(p->verbs.config->conf));
	must(loop_group_start(program_loops(p->verbs.config->conf), &p->group), &why, "no threads");
	workers_start(p->group, p->verbs.config);
	backend_on_down(login_host_is_down);
	must(control_open_conf(p->loop, "mailtier-proxy", p->verbs.config->conf, &why, &p->control), &why,
		"the control socket cannot be opened");
	if (p->control) {
		verbs_register(p->control, p->group, &p->verbs);
		front_penalty_register(p->control, p->penalty);
		p->mail_auth = (struct mail_auth_verbs){.conf = conf_now, .arg = p};
		mail_auth_verbs_register(p->control, &p->mail_auth);
	}
	must(listeners_open(p->loop, p->group, p->verbs.config, &why), &why, "a listener cannot be opened");
	must(status_open(p->loop, p->verbs.config->conf, is_ready, p, &why, &p->status), &why,
		"the status listener cannot be opened");
	timer_init(&p->drain, drain_step, p);
	timer_init(&p->retired, retired_step, p);
	must(loop_on_signal(p->loop, SIGHUP, on_hup, p), &why, "no signals");
	must(loop_on_signal(p->loop, SIGTERM, on_term, p), &why, "no signals");
	must(loop_on_signal(p->loop, SIGINT, on_term, p), &why, "no signals");
	tell_workers(spare_begin);
	probe_set_config(p->loop, p->verbs.config);
	start_handover(p, &why);
	buf_deinit(&why);
}

static void stop(struct program *p)
{
	listeners_close();
	handover_stop(p->handover);
	work_pool_end(p->hash_pool); /* its answers go to the loops */
	mail_auth_workers_end();
	smtp_spf_leave(p->group);
	loop_group_stop(&p->group);
	smtp_spf_end();
	listeners_free();
	workers_end();
	config_unref(&p->verbs.config);
	penalty_free(&p->penalty);
	usermap_set_close(&p->verbs.maps);
	work_pool_free(&p->hash_pool);
	mail_auth_workers_free();
	timer_stop(&p->drain);
	timer_stop(&p->retired);
	/* What workers have finished comes home once more, to be freed. */
	loop_post(p->loop, stop_loop, p);
	loop_run(p->loop);
	loop_free(&p->loop);
	dns_deinit();
	sasl_deinit();
	handover_free(&p->handover);
}

int main(int argc, char **argv)
{
	struct program program = {0};
	struct conf *conf;
	int status;

	mem_init();
	if (password_command(argc, argv, &status))
		return status;
	program.handover = handover_new(argc, argv);
	conf = conf_command_line(&config_table, argc, argv, PASSWORD_COMMAND_HELP);
	program_set_log(conf, "proxy");
	signal(SIGPIPE, SIG_IGN);
	program_raise_descriptors();
	spool_set_directory(conf_get_string(conf, "", NULL, "spool"));
	start(&program, conf);
	log_info("proxy", "started loops=%u", loop_group_count(program.group));
	loop_run(program.loop);
	log_info("proxy", "ended");
	stop(&program);
	return 0;
}
