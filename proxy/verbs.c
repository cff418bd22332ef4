/*
 * Each verb is a row and a function. Those about sessions are of both tiers (common/control/session_verbs.h).
 */
#include "proxy/verbs.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/base/mem.h"
#include "proxy/sessions.h"
#include "proxy/smtp_service.h"
#include "proxy/worker.h"

/* ---- maps ---- */

static void map_status(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;

	for (size_t i = 0; i < usermap_set_count(v->maps); i++) {
		struct usermap_status s;

		usermap_set_status(v->maps, i, &s);
		control_row(r);
		control_add_str(r, "map", s.name);
		control_add_str(r, "type", s.type);
		control_add_bool(r, "usable", s.usable);
		control_add_int(r, "entries", (int64_t)s.entries);
		control_add_text(r, "generation", "%016llx", (unsigned long long)s.generation);
		control_add_time(r, "loaded_at", s.loaded_at);
		control_add_int(r, "load_ms", (int64_t)s.load_ms);
		control_add_int(r, "bytes", (int64_t)s.bytes);
		control_add_int(r, "loads", (int64_t)s.loads);
		control_add_int(r, "failures", (int64_t)s.failures);
		control_add_str(r, "file", s.file);
		control_add_str(r, "connector", s.connector);
		control_add_str(r, "server", s.server);
		control_add_str(r, "error", s.error);
	}
	control_done(r);
}

static void add_step(void *arg, const struct usermap_step *step)
{
	struct control_request *r = arg;

	control_row(r);
	control_add_str(r, "map", step->map);
	control_add_str(r, "rule", step->rule);
	control_add_str(r, "key", step->key);
	control_add_bool(r, "hit", step->hit);
	control_add_int(r, "line", step->line);
	control_add_str(r, "words", step->words);
}

static const char *verdict_words(enum usermap_verdict verdict)
{
	switch (verdict) {
	case USERMAP_YES:
		return "yes";
	case USERMAP_NO_SUCH_USER:
		return "no such user";
	case USERMAP_WRONG_CREDENTIAL:
		return "wrong credential";
	case USERMAP_NOT_NOW:
		return "not now";
	}
	return "";
}

/* The service named by an option, else the first that is used. */
static const struct config_service_of *asked_service(const struct config *c, const char *name)
{
	for (size_t i = 0; i < CONFIG_SERVICES; i++) {
		if (name ? strcmp(name, config_service_name((enum config_service)i)) == 0
			 : c->services[i].is_used)
			return &c->services[i];
	}
	return name ? NULL : &c->services[CONFIG_IMAP];
}

/* "b1,10.0.0.12:1143", as a map has it. */
static void add_targets(struct control_request *r, const struct usermap_answer *answer)
{
	struct buf b = {0};

	for (unsigned i = 0; i < answer->target_count; i++) {
		const struct usermap_target *t = &answer->targets[i];
		bool is_v6 = t->port && strchr(t->name, ':');

		buf_printf(&b, "%s%s%s%s", i ? "," : "", is_v6 ? "[" : "", t->name, is_v6 ? "]" : "");
		if (t->port)
			buf_printf(&b, ":%u", t->port);
	}
	control_add_str(r, "backend", buf_len(&b) ? buf_str_view(&b) : "-");
	buf_deinit(&b);
}

static void explained(void *arg, const struct usermap_answer *answer)
{
	struct control_request *r = arg;

	control_result(r);
	control_add_str(r, "verdict", verdict_words(answer->verdict));
	if (answer->verdict == USERMAP_YES) {
		control_add_str(r, "account", answer->account);
		add_targets(r, answer);
		control_add_str(r, "map", answer->map);
		control_add_int(r, "line", answer->line);
		control_done(r);
	} else {
		control_fail(r, answer->verdict == USERMAP_NOT_NOW ? ERR_NOT_NOW : ERR_NOT_FOUND, "%s",
			verdict_words(answer->verdict));
	}
}

static void map_explain(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;
	const struct config_service_of *service = asked_service(v->config, control_option(r, "service", 0));
	struct usermap_answer answer;
	struct arena arena;
	struct slice name;

	if (!service) {
		control_fail(r, ERR_SYNTAX, "there is no such service");
		return;
	}
	arena_init(&arena, 8 * 1024);
	if (auth_name_normalise(
		    &arena, slice_str(control_arg(r, 0)), slice_str(v->config->default_domain), &name) < 0) {
		control_fail(r, ERR_SYNTAX, "no user can have this name");
	} else {
		const char *title = config_service_name(service->id);

		control_add_slice(r, "asked", name);
		control_add_str(r, "service", title);
		if (usermap_explain(service->chain, slice_str(title), name, control_request_loop(r), add_step,
			    explained, r, &answer) == 1)
			explained(r, &answer);
	}
	arena_deinit(&arena);
}

static void map_checked(void *arg, const char *name, int error, const char *words)
{
	struct control_request *r = arg;

	(void)name;
	if (error < 0) {
		control_fail(r, error == ERR_IO || error == ERR_NOT_NOW ? error : ERR_DENIED, "%s", words);
	} else {
		control_add_str(r, "words", words);
		control_done(r);
	}
}

static void map_check(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;
	int err = usermap_set_check(
		v->maps, control_option(r, "as", 0), control_arg_path(r, 0), map_checked, r);

	if (err == ERR_NOT_FOUND)
		control_fail(r, err, "there is no such map");
	else if (err < 0)
		control_fail(r, err, "too many checks wait already");
}

struct reload {
	struct control_request *request;
	size_t waiting;
	int error;
};

static void map_reloaded(void *arg, const char *name, int error, const char *words)
{
	struct reload *reload = arg;

	control_row(reload->request);
	control_add_str(reload->request, "map", name);
	control_add_bool(reload->request, "loaded", error == 0);
	control_add_str(reload->request, "words", words);
	if (error < 0)
		reload->error = error;
	if (--reload->waiting)
		return;
	if (reload->error)
		control_fail(reload->request, ERR_DENIED, "refused; what was in force stays");
	else
		control_done(reload->request);
	free(reload);
}

static void map_reload(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;
	const char *name = control_arg_count(r) ? control_arg(r, 0) : NULL;
	struct reload *reload = xcalloc(1, sizeof(*reload));
	int err;

	reload->request = r;
	reload->waiting = name ? 1 : usermap_set_count(v->maps);
	if (reload->waiting == 0) {
		free(reload);
		control_done(r);
		return;
	}
	err = usermap_set_reload(v->maps, name, control_has_option(r, "force"), map_reloaded, reload);
	if (err < 0) {
		free(reload);
		control_fail(r, err, "there is no such map");
	}
}

static void map_flush(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;

	struct arena arena;
	struct slice name = {0};
	int err = 0;

	arena_init(&arena, 8 * 1024);
	if (control_arg_count(r))
		err = auth_name_normalise(
			&arena, slice_str(control_arg(r, 0)), slice_str(v->config->default_domain), &name);
	if (err < 0) {
		control_fail(r, ERR_SYNTAX, "no user can have this name");
	} else {
		usermap_set_flush(v->maps, name);
		control_done(r);
	}
	arena_deinit(&arena);
}

/* ---- back-ends ---- */

static void add_hosts(const struct backend *b, struct control_request *r)
{
	struct buf line = {0};

	for (unsigned i = 0; i < b->host_count; i++)
		control_add_item(r, "hosts", slice_str(b->hosts[i].name));
	control_add_list(r, "down", NULL, 0);
	for (unsigned i = 0; i < b->host_count; i++) {
		for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++) {
			char error[200];

			if (backend_host_is_up(b, i, (enum backend_protocol)p))
				continue;
			backend_host_error(b, i, (enum backend_protocol)p, error, sizeof(error));
			buf_clear(&line);
			buf_printf(&line, "%s %s: %s", b->hosts[i].name,
				backend_protocol_name((enum backend_protocol)p), error);
			control_add_item(r, "down", buf_view(&line));
		}
	}
	buf_deinit(&line);
}

static void backend_list(void *arg, struct control_request *r)
{
	const struct verbs *v = arg;
	const struct backends *set = v->config->backends;

	for (size_t i = 0; i < backends_count(set); i++) {
		const struct backend *b = backends_at(set, i);
		struct backend_figures f;

		backend_figures(b, &f);
		control_row(r);
		control_add_str(r, "backend", b->name);
		control_add_str(r, "trust", b->trust == BACKEND_REPLAY ? "replay" : "proxy-auth");
		for (unsigned p = 0; p < BACKEND_PROTOCOLS; p++)
			control_add_str(r, backend_protocol_name((enum backend_protocol)p),
				backend_is_up(b, (enum backend_protocol)p) ? "up" : "down");
		control_add_bool(r, "drained", backend_is_drained(b));
		control_add_int(r, "sessions", f.sessions);
		control_add_int(r, "connections", f.connections);
		control_add_int(r, "connections_most", b->connections_most);
		control_add_int(r, "spare", f.spare);
		control_add_int(r, "logins", f.logins);
		control_add_int(r, "logins_most", f.window);
		control_add_int(r, "waiting", f.waiting);
		add_hosts(b, r);
	}
	control_done(r);
}

/* ---- sessions ---- */

static void each_joined(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	(void)loop;
	sessions_each(worker_here(), walk);
}

static void each_front(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	(void)loop;
	front_each(walk);
}

static void each_mail(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	(void)loop;
	smtp_service_each(walk);
}

static session_each_fn *const each[] = {each_joined, each_mail, each_front, NULL};

static struct backend *asked_backend(const struct verbs *v, struct control_request *r)
{
	struct backend *b = backends_find(v->config->backends, control_arg(r, 0));

	if (!b)
		control_fail(r, ERR_NOT_FOUND, "there is no back-end of this name");
	return b;
}

static void backend_drain(void *arg, struct control_request *r)
{
	struct backend *b = asked_backend(arg, r);
	struct backend_figures f;

	if (!b)
		return;
	backend_set_drained(b, true);
	if (control_has_option(r, "kick")) {
		session_verbs_kick_backend(&((struct verbs *)arg)->kinds, r, b->name);
		return;
	}
	backend_figures(b, &f);
	control_add_int(r, "sessions", f.sessions);
	control_done(r);
}

static void backend_resume(void *arg, struct control_request *r)
{
	struct backend *b = asked_backend(arg, r);

	if (!b)
		return;
	backend_set_drained(b, false);
	control_done(r);
}

static const struct control_verb rows[] = {
	{"map status", "", "Each user map: what is in force, and the last refusal", map_status, 0, 0, NULL,
		0},
	{"map explain", "USER [--service NAME]", "Step by step, which line of which map decides for a user",
		map_explain, 1, 1, "service=", 0},
	{"map check", "FILE [--as MAP]", "Checks a map's file without loading it", map_check, 1, 1, "as=", 0},
	{"map reload", "[MAP] [--force]", "Reads a map again, even if it shrank with --force", map_reload, 0,
		1, "force", 0},
	{"map flush", "[USER]",
		"Forgets which passwords were right, and what directories said of a user, or of all",
		map_flush, 0, 1, NULL, 0},
	{"backend list", "",
		"Each back-end: its hosts, what is down and why, drained, sessions, connections, who waits",
		backend_list, 0, 0, NULL, 0},
	{"backend drain", "NAME [--kick]", "Sends no new session there; with --kick ends the open ones",
		backend_drain, 1, 1, "kick", 0},
	{"backend resume", "NAME", "Takes a drain back", backend_resume, 1, 1, NULL, 0},
};

static struct smtp_policy *find_policy(void *arg, const char *service)
{
	const struct verbs *v = arg;

	for (size_t i = 0; i < CONFIG_SERVICES; i++) {
		if (strcmp(service, config_service_name((enum config_service)i)) == 0)
			return smtp_policy_ref(v->config->services[i].policy);
	}
	return NULL;
}

void verbs_register(struct control *control, struct loop_group *group, struct verbs *verbs)
{
	verbs->kinds = (struct session_kinds){.each = each, .group = group, .has_backends = true};
	control_register(control, rows, ARRAY_LEN(rows), verbs);
	session_verbs_register(control, &verbs->kinds);
	verbs->explain = (struct smtp_explain){find_policy, verbs};
	smtp_explain_register(control, &verbs->explain);
}
